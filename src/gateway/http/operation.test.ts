import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { resourcesIn } from '../../../test/support/http.ts'
import { schemaCompiler } from '../../guard/schema.ts'
import { compileOperation, compose, createRoutes, valuesAs } from './operation.ts'
import type { Operation } from './operation.ts'
import { readTarget, segmentProblem } from './target.ts'

/** Operations of a configuration in which each has only a request. */
function operationsOf(requests: readonly string[]): readonly Operation[] {
  const lines = requests.map((request, at) => `      o${at}: { request: "${request}", effect: read }`)
  const [api] = resourcesIn(`
resources:
  desk:
    http: https://desk.example.com
    operations:
${lines.join('\n')}
`)
  const compile = schemaCompiler()
  return [...api!.operations].map(([name, given]) => compileOperation('desk', name, given, { kind: 'none' }, compile))
}

const templates = [
  'GET /',
  'GET /v1/items',
  'GET /v1/items/latest',
  'GET /v1/items/{id}',
  'GET /v1/items/{id}/parts/{part}',
  'GET /v1/{kind}/{id}/history',
  'GET /v1/files/{+path}',
  'GET /v2/{a}/{b}/{c}/{d}',
]
const operations = operationsOf(templates)
const routes = createRoutes(operations)
const segment = fc
  .oneof(
    fc.constantFrom(
      'v1',
      'v2',
      'items',
      'latest',
      'parts',
      'history',
      'files',
      'a',
      '7',
      '0x7',
      '1e3',
      'true',
      'null',
      'ä',
      'a b',
      '%',
      'a%',
      '+',
      '&',
      '=',
      '?',
      '#',
      ':',
      '@',
      "'",
      '(',
      '👍',
    ),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 10 }),
  )
  .filter((each) => segmentProblem(each) === undefined)
const paths = fc.oneof(
  fc.array(segment, { maxLength: 7 }),
  fc
    .tuple(fc.constantFrom('v1', 'v2'), fc.constantFrom('items', 'files', 'kinds'), fc.array(segment, { maxLength: 4 }))
    .map(([a, b, rest]) => [a, b, ...rest]),
)

describe('a path that matches a template', () => {
  test('has its segments, each where it was, and composed anew is the same path', () => {
    let matched = 0
    fc.assert(
      fc.property(paths, (segments) => {
        const found = routes.find('GET', segments)
        if (found === undefined) return
        matched += 1
        const { operation, values } = found
        const rest = operation.path.some((each) => typeof each !== 'string' && each.isRest)
        if (rest) expect(segments.length).toBeGreaterThanOrEqual(operation.path.length)
        else expect(segments).toHaveLength(operation.path.length)
        expect(operation.check(values)).toEqual([])
        const { path, query } = compose(operation, values)
        expect(query).toBe('')
        expect(readTarget(path).segments).toEqual(segments)
        // What is sent leads to the operation that was decided about, with the values that were decided about.
        expect(routes.find('GET', readTarget(path).segments)).toEqual(found)
      }),
      { numRuns: 3_000 },
    )
    expect(matched).toBeGreaterThan(300)
  })

  test('never matches by another method, nor when one segment is missing or one too many', () => {
    const fixed = createRoutes(
      operations.filter(({ path }) => path.every((each) => typeof each === 'string' || !each.isRest)),
    )
    fc.assert(
      fc.property(paths, segment, (segments, more) => {
        const found = fixed.find('GET', segments)
        if (found === undefined) return
        expect(fixed.find('POST', segments)).toBeUndefined()
        for (const other of [[...segments, more], segments.slice(0, -1), [...segments, '']])
          expect(fixed.find('GET', other)?.operation.template).not.toBe(found.operation.template)
      }),
      { numRuns: 2_000 },
    )
  })
})

test('a value that would lead elsewhere is refused, and never composed', () => {
  const operation = operations.find(({ template }) => template.includes('{id}/parts'))!
  const hostile = fc.oneof(
    fc.constantFrom(
      '..',
      '.',
      '../x',
      'a/b',
      'a\\b',
      '%2e%2e',
      '%2f',
      'a;b',
      '',
      '\0',
      '\r\nX-A: b',
      '．．',
      'a／b',
      '\u2215',
      '\ud800',
    ),
    fc.string({ unit: 'binary', maxLength: 12 }),
  )
  fc.assert(
    fc.property(hostile, (id) => {
      const args = { id, part: 'p' }
      const isRefused = operation.check(args).length > 0
      expect(isRefused).toBe(segmentProblem(id) !== undefined)
      if (isRefused) return
      expect(readTarget(compose(operation, args).path).segments).toEqual(['v1', 'items', id, 'parts', 'p'])
    }),
    { numRuns: 3_000 },
  )
})

test('values of a query come back as they were composed', () => {
  const [api] = resourcesIn(`
resources:
  desk:
    http: https://desk.example.com
    operations:
      list:
        request: "GET /items"
        effect: read
        query: { q: { type: string }, page: { type: integer }, ratio: { type: number }, all: { type: boolean }, tag: { type: array, items: { type: string } } }
`)
  const [name, given] = [...api!.operations][0]!
  const operation = compileOperation('desk', name, given, { kind: 'none' }, schemaCompiler())
  const text = fc
    .string({ unit: 'binary', maxLength: 12 })
    .filter((each) => each.isWellFormed() && !each.includes('\0'))
  const args = fc.record(
    {
      q: text,
      page: fc.maxSafeInteger().map((each) => each || 0),
      ratio: fc.integer({ min: -1_000_000, max: 1_000_000 }).map((each) => each / 64 || 0),
      all: fc.boolean(),
      tag: fc.array(text, { minLength: 1, maxLength: 4 }),
    },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(args, (given) => {
      const { path, query } = compose(operation, given)
      const target = readTarget(query === '' ? path : `${path}?${query}`)
      expect(valuesAs(operation.parameters, target.query)).toEqual({ values: given, problems: [] })
    }),
  )
})
