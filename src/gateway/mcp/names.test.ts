import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../../core/failure.ts'
import type { JsonObject } from '../../core/json.ts'
import {
  checkAlias,
  federate,
  federatedName,
  federatedResult,
  federatedUri,
  isAlias,
  originOfReference,
  originOfUri,
} from './names.ts'

const alias = fc.stringMatching(/^[a-z][a-z0-9-]{0,15}$/)
const toolName = fc.oneof(
  fc.stringMatching(/^[A-Za-z0-9_.-]{1,128}$/),
  fc.string({ unit: 'binary', maxLength: 80 }),
  fc.constantFrom('a__b', '_', '__', 'a.b', 'a/b', 'a b', '', 'x'.repeat(36), 'x'.repeat(37), 'get--0123456789'),
)

describe('names', () => {
  test.each([
    ['crm', 'lookup_customer', 'crm__lookup_customer'],
    ['crm', '_x', 'crm___x'],
    ['a', 'x'.repeat(51), `a__${'x'.repeat(51)}`],
  ])('%s, %s', (a, name, expected) => expect(federatedName(a, name)).toBe(expected))

  test.each(['user.get', 'user/get', 'user get', 'über', '', 'x'.repeat(52), 'x\n', 'get--0123456789'])(
    '%j needs a hash',
    (name) => {
      expect(federatedName('a', name)).toMatch(/^a__[A-Za-z0-9_-]*--[0-9a-f]{10}$/)
    },
  )

  test('a name stays what it was in earlier versions: agents and policies know it', () => {
    expect(federatedName('crm', 'user.get')).toBe('crm__user_get--c82f7deea1')
  })

  test('are always legal, short, and keep the alias in front', () => {
    fc.assert(
      fc.property(alias, toolName, (a, name) => {
        const federated = federatedName(a, name)
        expect(federated).toMatch(/^[A-Za-z0-9_-]{1,54}$/)
        expect(federated.split('__')[0]).toBe(a)
      }),
    )
  })

  test('different things have different names, each leads back, whatever else is there', () => {
    const server = fc.record({ alias, names: fc.uniqueArray(toolName, { maxLength: 12 }) })
    fc.assert(
      fc.property(fc.uniqueArray(server, { selector: (s) => s.alias, maxLength: 5 }), (servers) => {
        const names = federate(servers)
        expect(names.collisions).toEqual([])
        const origins = servers.flatMap((s) => s.names.map((name) => ({ alias: s.alias, name })))
        expect(new Set(names.all()).size).toBe(origins.length)
        for (const origin of origins) expect(names.originOf(federatedName(origin.alias, origin.name))).toEqual(origin)
      }),
    )
  })

  test('an unknown name leads nowhere, also one that could be taken apart', () => {
    const names = federate([{ alias: 'crm', names: ['a'] }])
    for (const name of ['crm__b', 'a', 'crm__', '__a', 'constructor', '__proto__', 'CRM__a', 'crm__a '])
      expect(names.originOf(name)).toBeUndefined()
  })

  test('a name that a server lists twice leads nowhere, and harms no other', () => {
    const names = federate([
      { alias: 'bad', names: ['a', 'b', 'a', 'a'] },
      { alias: 'good', names: ['a'] },
    ])
    expect(names.collisions).toEqual(['bad__a'])
    expect(names.originOf('bad__a')).toBeUndefined()
    expect(names.all()).toEqual(['bad__b', 'good__a'])
  })

  test('two servers of one alias are an error', () => {
    expect(() =>
      federate([
        { alias: 'a', names: [] },
        { alias: 'a', names: [] },
      ]),
    ).toThrow(Failure)
  })

  test.each(['', 'A', 'a_b', 'a__b', 'a+b', '1a', '-a', 'a'.repeat(17), 'ä', 'a b', 'a\n'])(
    '%j is no alias',
    (text) => {
      expect(isAlias(text)).toBe(false)
      expect(() => checkAlias(text)).toThrow('can not be the alias')
    },
  )
})

describe('addresses of resources', () => {
  test.each([
    ['file:///a?b=c#d', 'crm+file:///a?b=c#d'],
    ['test://{id}/{+path}', 'crm+test://{id}/{+path}'],
    ['ui://chart/1', 'ui://crm+chart/1'],
    ['git+ssh://x', 'crm+git+ssh://x'],
  ])('%s', (uri, federated) => {
    expect(federatedUri('crm', uri)).toBe(federated)
    expect(originOfUri(federated)).toEqual({ alias: 'crm', uri })
  })

  test('every address leads back', () => {
    const uri = fc.oneof(
      fc.string(),
      fc.webUrl(),
      fc.string().map((text) => `ui://${text}`),
      alias.map((a) => `${a}+x:y`),
    )
    fc.assert(
      fc.property(alias, uri, (a, original) => {
        expect(originOfUri(federatedUri(a, original))).toEqual({ alias: a, uri: original })
      }),
    )
  })

  test('a template that was filled in leads back to the template that was filled in', () => {
    const filled = federatedUri('crm', '{scheme}://x').replace('{scheme}', 'ui')
    expect(originOfUri(filled)).toEqual({ alias: 'crm', uri: 'ui://x' })
  })

  test.each(['file:///a', '', '+a', 'CRM+file:///a', 'ui://a', 'a b+c'])('%j is none', (uri) =>
    expect(originOfUri(uri)).toBeUndefined(),
  )
})

describe('results', () => {
  const link = (uri: string) => ({ type: 'resource_link', uri, name: 'x' })
  const embedded = (uri: string) => ({ type: 'resource', resource: { uri, text: 'file:///a' } })
  const text = { type: 'text', text: 'file:///a' }

  const cases: [method: string, make: (uri: string) => object][] = [
    [
      'tools/call',
      (uri) => ({ content: [text, link(uri), embedded(uri)], structuredContent: { uri: 'file:///b' }, isError: false }),
    ],
    [
      'prompts/get',
      (uri) => ({
        messages: [
          { role: 'user', content: embedded(uri) },
          { role: 'user', content: [link(uri), text] },
        ],
      }),
    ],
    ['resources/list', (uri) => ({ resources: [{ uri, name: 'a' }], nextCursor: 'x' })],
    ['resources/templates/list', (uri) => ({ resourceTemplates: [{ uriTemplate: uri, name: 'a' }] })],
    [
      'resources/read',
      (uri) => ({
        contents: [
          { uri, text: 'file:///a' },
          { uri, blob: '' },
        ],
      }),
    ],
    ['tools/list', (uri) => ({ tools: [{ name: 'a', _meta: { ui: { resourceUri: uri } } }, { name: 'b' }] })],
  ]
  test.each(cases)('%s', (method, make) => {
    const result = make('file:///a')
    const before = JSON.stringify(result)
    expect(federatedResult('crm', method, result as never)).toEqual(make('crm+file:///a'))
    expect(JSON.stringify(result)).toBe(before)
  })

  test('what is malformed, or of another method, stays as it is', () => {
    const malformed: JsonObject[] = [
      { content: 'x' },
      { content: [1, null, { type: 'resource', resource: 3 }, { type: 'resource_link', uri: 7 }] },
      {},
    ]
    for (const result of malformed) expect(federatedResult('crm', 'tools/call', result)).toEqual(result)
    expect(federatedResult('crm', 'ping', { content: [link('a:b')] })).toEqual({ content: [link('a:b')] })
  })
})

test('what a completion asks about', () => {
  const prompts = federate([{ alias: 'crm', names: ['greet.me'] }])
  const name = federatedName('crm', 'greet.me')
  expect(originOfReference(prompts, { type: 'ref/prompt', name })).toEqual({
    alias: 'crm',
    reference: { type: 'ref/prompt', name: 'greet.me' },
  })
  expect(originOfReference(prompts, { type: 'ref/resource', uri: 'crm+file:///{a}' })).toEqual({
    alias: 'crm',
    reference: { type: 'ref/resource', uri: 'file:///{a}' },
  })
  const wrong: JsonObject[] = [
    { type: 'ref/prompt', name: 'greet.me' },
    { type: 'ref/resource', uri: 'file:///{a}' },
    { type: 'x' },
    { type: 'ref/prompt', name: 1 },
  ]
  for (const reference of wrong) expect(originOfReference(prompts, reference)).toBeUndefined()
})
