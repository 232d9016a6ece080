import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../core/failure.ts'
import { compileSchema, type Problem, schemaCompiler } from './schema.ts'

const draft07 = 'http://json-schema.org/draft-07/schema#'

function problemsOf(schema: unknown, value: unknown): readonly Problem[] {
  return compileSchema(schema).check(value)
}
const accepts = (schema: unknown, value: unknown): boolean => problemsOf(schema, value).length === 0

function refusalOf(schema: unknown, limits = {}): Failure {
  try {
    compileSchema(schema, limits)
  } catch (thrown) {
    if (thrown instanceof Failure) return thrown
    throw thrown
  }
  throw new Error('was accepted')
}

/** An object nested so deep that recursion over it would overflow. */
function nested(depth: number, wrap: (inner: unknown) => unknown, innermost: unknown = 1): unknown {
  let value = innermost
  for (let index = 0; index < depth; index++) value = wrap(value)
  return value
}

const refund = {
  type: 'object',
  properties: {
    id: { type: 'string', pattern: '^[a-z]{2}_[0-9]+$' },
    amount: { type: 'integer', minimum: 1, maximum: 5000 },
    currency: { enum: ['EUR', 'USD'] },
    when: { type: 'string', format: 'date-time' },
  },
  required: ['id', 'amount'],
  additionalProperties: false,
}

describe('problems', () => {
  test('none for what matches', () => {
    expect(problemsOf(refund, { id: 'ab_1', amount: 5, currency: 'EUR', when: '2026-11-21T10:00:00Z' })).toEqual([])
  })

  test('all of them, in words', () => {
    const problems = problemsOf(refund, { amount: '5', currency: 'GBP', when: 'soon', reason: 'x' })
    expect(problems.map(({ message }) => message).sort()).toEqual([
      '`/amount` must be integer, but is string',
      '`/currency` must be one of "EUR", "USD"',
      '`/id` is required, but missing',
      '`/reason` is not known; known are "id", "amount", "currency", "when"',
      '`/when` must be a valid date-time',
    ])
    expect(problems.find(({ path }) => path === '/amount')?.expected).toBe('integer')
  })

  test.each([
    [{ type: 'string' }, 1, 'the value must be string, but is number'],
    [{ type: ['string', 'null'] }, [], 'the value must be string or null, but is array'],
    [{ minLength: 3 }, 'a', 'text of at least 3 characters'],
    [{ maxItems: 1 }, [1, 2], 'a list of at most 1 items'],
    [{ minProperties: 1 }, {}, 'an object of at least 1 members'],
    [{ exclusiveMaximum: 3 }, 3, 'must be < 3'],
    [{ multipleOf: 5 }, 3, 'a multiple of 5'],
    [{ const: 'a' }, 'b', 'must be "a"'],
    [{ pattern: '^a$' }, 'b', 'text that matches ^a$'],
    [{ uniqueItems: true }, [1, 1], 'without repeated items'],
    [{ anyOf: [{ type: 'string' }, { type: 'null' }] }, 1, 'must be string'],
    [{ oneOf: [{ type: 'number' }, { minimum: 0 }] }, 1, 'exactly one of the alternatives'],
    [{ not: { type: 'number' } }, 1, 'none of what its schema rules out'],
    [{ contains: { type: 'string' } }, [1], 'must be'],
    [{ properties: { a: false } }, { a: 1 }, '`/a` must not be there'],
    [{ propertyNames: { maxLength: 1 } }, { ab: 1 }, 'name'],
    [{ dependentRequired: { a: ['b'] } }, { a: 1 }, '`/b` is required together with "a"'],
    [{ unevaluatedProperties: false }, { a: 1 }, '`/a` is not known; leave it out'],
    [false, 1, 'must not be there'],
  ])('%j of %j: %s', (schema, value, message) => {
    expect(
      problemsOf(schema, value)
        .map((problem) => problem.message)
        .join('\n'),
    ).toContain(message)
  })

  test('a value that was sent is never repeated, long names are cut, nothing draws on a terminal', () => {
    const name = `\u001b[2J\u202e${'x'.repeat(100_000)}`
    const problems = problemsOf(refund, { id: 'hunter2', amount: 'hunter2', currency: 'hunter2', [name]: 'hunter2' })
    const shown = JSON.stringify(problems)
    expect(shown).not.toContain('hunter2')
    expect(shown.length).toBeLessThan(3_000)
    expect(problems.map(({ message, path }) => message + path).join('')).not.toMatch(/\p{C}/u)
  })

  test('are at most eight', () => {
    expect(
      problemsOf(
        { items: { type: 'string' } },
        Array.from({ length: 100 }, (_, index) => index),
      ),
    ).toHaveLength(8)
  })

  test('of a value that is wrong in a million places cost little', () => {
    const { check } = compileSchema({ items: { type: 'string' } })
    expect(check(Array.from({ length: 1_000_000 }, () => 1)).length).toBe(1)
  })
})

describe('a check', () => {
  test('changes nothing', () => {
    const schema = {
      properties: { a: { type: 'number', default: 1 }, b: { type: 'number' } },
      additionalProperties: false,
    }
    const value = Object.freeze({ b: 1 })
    expect(problemsOf(schema, value)).toEqual([])
    expect(value).toEqual({ b: 1 })
    expect(accepts(schema, { b: '1' })).toBe(false)
  })

  test('inherited members are not members', () => {
    expect(accepts({ required: ['constructor'] }, {})).toBe(false)
    expect(accepts({ required: ['toString'] }, { toString: 1 })).toBe(true)
    expect(accepts({ properties: { constructor: { type: 'number' } } }, {})).toBe(true)
    expect(accepts({ properties: { hasOwnProperty: {} }, additionalProperties: false }, { hasOwnProperty: 1 })).toBe(
      true,
    )
    expect(accepts({ additionalProperties: false }, { constructor: 1 })).toBe(false)
  })

  test.each([
    ['nested 50,000 deep, as objects', nested(50_000, (a) => ({ a }))],
    ['nested 50,000 deep, as arrays', nested(50_000, (a) => [a])],
    ['with an own __proto__', JSON.parse('{"a":[{"__proto__":{"id":1}}]}')],
    ['not JSON: undefined', undefined],
    ['not JSON: a member undefined', { a: undefined }],
    ['not JSON: a bigint', { a: 1n }],
    ['not JSON: a function', () => 1],
    ['not JSON: NaN', Number.NaN],
    [
      'that throws when read',
      {
        get a(): never {
          throw new Error('boo')
        },
      },
    ],
  ])('refuses a value %s', (_, value) => {
    for (const schema of [{}, true, { properties: { a: { $ref: '#' } } }]) expect(accepts(schema, value)).toBe(false)
  })

  test('refuses a value that holds itself', () => {
    const value: Record<string, unknown> = {}
    value['a'] = value
    expect(accepts({}, value)).toBe(false)
  })

  test('100 deep is enough, 101 is too deep', () => {
    expect(
      accepts(
        {},
        nested(100, (a) => [a]),
      ),
    ).toBe(true)
    expect(
      accepts(
        {},
        nested(101, (a) => [a]),
      ),
    ).toBe(false)
  })

  test('of any JSON value against any of these schemas neither throws nor disagrees with itself', () => {
    const compiled = [
      refund,
      {},
      { uniqueItems: true },
      { type: 'object', propertyNames: { pattern: '^[a-z]*$' } },
    ].map((s) => compileSchema(s))
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const before = JSON.stringify(value)
        for (const { check } of compiled) expect(check(value)).toEqual(check(value))
        expect(JSON.stringify(value)).toBe(before)
      }),
    )
  })
})

describe('dialects', () => {
  test('2020-12 when it says so, and when it says nothing', () => {
    for (const $schema of [undefined, 'https://json-schema.org/draft/2020-12/schema']) {
      const schema = { ...($schema && { $schema }), prefixItems: [{ type: 'string' }], items: { type: 'number' } }
      expect(accepts(schema, ['a', 1])).toBe(true)
      expect(accepts(schema, ['a', 'b'])).toBe(false)
    }
  })

  test('draft-07 tuples, when it says so, and when only draft-07 can be meant', () => {
    for (const $schema of [undefined, draft07, 'http://json-schema.org/draft-07/schema']) {
      const schema = { ...($schema && { $schema }), items: [{ type: 'string' }], additionalItems: { type: 'number' } }
      expect(accepts(schema, ['a', 1])).toBe(true)
      expect(accepts(schema, ['a', 'b'])).toBe(false)
      expect(accepts(schema, [1])).toBe(false)
    }
  })

  test('draft-07 dependencies and definitions', () => {
    const schema = {
      $schema: draft07,
      definitions: { id: { type: 'integer' } },
      properties: { id: { $ref: '#/definitions/id' } },
      dependencies: { a: ['b'], c: { required: ['d'] } },
    }
    expect(accepts(schema, { id: 1, a: 1, b: 1 })).toBe(true)
    for (const wrong of [{ id: 'x' }, { a: 1 }, { c: 1 }]) expect(accepts(schema, wrong)).toBe(false)
  })

  test('2019-09', () => {
    const schema = {
      $schema: 'https://json-schema.org/draft/2019-09/schema',
      items: [{ type: 'string' }],
      unevaluatedItems: false,
    }
    expect(accepts(schema, ['a'])).toBe(true)
    expect(accepts(schema, ['a', 1])).toBe(false)
  })

  test.each(['http://json-schema.org/draft-04/schema#', 'https://evil.example/schema', 7])(
    '%s is refused',
    ($schema) => {
      expect(refusalOf({ $schema }).message).toContain('`$schema`')
    },
  )

  const cases: [name: string, schema: unknown, yes: unknown[], no: unknown[]][] = [
    ['$ref and $defs', { $defs: { a: { type: 'string' } }, $ref: '#/$defs/a' }, ['x'], [1]],
    ['a reference with escapes', { $defs: { 'a/b~c d': { type: 'string' } }, $ref: '#/$defs/a~1b~0c%20d' }, ['x'], [1]],
    ['$anchor', { $defs: { a: { $anchor: 'name', type: 'string' } }, $ref: '#name' }, ['x'], [1]],
    [
      '$dynamicRef',
      { $dynamicAnchor: 'node', type: 'object', properties: { next: { $dynamicRef: '#node' } } },
      [{ next: {} }],
      [{ next: 1 }],
    ],
    [
      'recursion',
      { type: 'object', properties: { child: { $ref: '#' } }, additionalProperties: false },
      [{ child: { child: {} } }],
      [{ child: { x: 1 } }],
    ],
    [
      'if/then/else',
      // oxlint-disable-next-line unicorn/no-thenable
      { if: { type: 'string' }, then: { minLength: 2 }, else: { type: 'number' } },
      ['ab', 1],
      ['a', null],
    ],
    ['dependentSchemas', { dependentSchemas: { a: { required: ['b'] } } }, [{ a: 1, b: 1 }], [{ a: 1 }]],
    ['minContains', { contains: { type: 'string' }, minContains: 2 }, [['a', 'b']], [['a', 1]]],
    [
      'unevaluatedProperties',
      { allOf: [{ properties: { a: {} } }], unevaluatedProperties: false },
      [{ a: 1 }],
      [{ b: 1 }],
    ],
    [
      'patternProperties',
      { patternProperties: { '^x-': { type: 'string' } }, additionalProperties: false },
      [{ 'x-a': 'b' }],
      [{ 'x-a': 1 }, { a: 1 }],
    ],
    [
      'a property named like a keyword',
      { properties: { $ref: { type: 'string' }, properties: { type: 'number' } } },
      [{ $ref: 'a', properties: 1 }],
      [{ $ref: 1 }],
    ],
    [
      'a remote reference inside data is data',
      { enum: [{ $ref: 'http://evil.example' }], default: { $ref: 'http://evil.example' } },
      [{ $ref: 'http://evil.example' }],
      [{}],
    ],
    [
      'equal items, however written',
      { uniqueItems: true },
      [[1, '1', [1], { a: 1, b: 2 }, true, null]],
      [
        [
          { a: 1, b: 2 },
          { b: 2, a: 1 },
        ],
        [[], []],
      ],
    ],
    ['uniqueItems: false', { uniqueItems: false }, [[1, 1]], []],
    [
      'unknown keywords and formats are ignored',
      { 'x-mcp-header': 'Region', format: 'fruit', discriminator: {}, id: 'x', $id: 'https://a.example/b' },
      ['x', 1],
      [],
    ],
    ['true', true, [1, {}], []],
  ]
  test.each(cases)('%s', (_, schema, yes, no) => {
    for (const value of yes) expect([value, problemsOf(schema, value)]).toEqual([value, []])
    for (const value of no) expect([value, accepts(schema, value)]).toEqual([value, false])
  })
})

describe('schemas that are refused', () => {
  const cases: [name: string, schema: unknown, message: string][] = [
    ['no schema at all', null, 'where a schema'],
    ['a list', [], 'where a schema'],
    ['a text', 'string', 'where a schema'],
    ['a type that is none', { type: 'strng' }, 'not a JSON Schema'],
    ['a number where a list belongs', { required: 1 }, 'not a JSON Schema'],
    ['a list where an object belongs', { properties: [] }, '`properties` needs an object'],
    ['a remote reference', { $ref: 'https://evil.example/schema.json' }, 'nothing is loaded'],
    ['a reference to a file', { properties: { a: { $ref: 'file:///etc/passwd' } } }, 'nothing is loaded'],
    ['a relative reference', { $ref: 'other.json#/a' }, 'nothing is loaded'],
    ['a reference to a known meta-schema', { $ref: draft07 }, 'nothing is loaded'],
    ['a reference that is no text', { $ref: { a: 1 } }, 'nothing is loaded'],
    ['a reference to nothing', { $ref: '#/$defs/none' }, 'no part of it'],
    [
      'a reference into data',
      { $defs: { a: { const: { pattern: '(a+)+$' } } }, $ref: '#/$defs/a/const' },
      'no part of it',
    ],
    ['a reference into an unknown keyword', { secret: { type: 'string' }, $ref: '#/secret' }, 'no part of it'],
    ['a reference to a prototype', { $ref: '#/__proto__' }, 'no part of it'],
    ['a nested $id', { $defs: { a: { $id: 'https://a.example/' } } }, '`$id` below'],
    ['__proto__', JSON.parse('{"properties":{"__proto__":{"type":"string"}}}'), '__proto__'],
    ['itself without end', { $ref: '#' }, 'without end'],
    [
      'itself without end, in a circle',
      { $defs: { a: { allOf: [{ $ref: '#/$defs/b' }] }, b: { anyOf: [{ $ref: '#/$defs/a' }] } }, $ref: '#/$defs/a' },
      'without end',
    ],
    ['lookahead', { pattern: '^(?=a)' }, 'lookaround'],
    ['a backreference in a member name', { patternProperties: { '(a)\\1': {} } }, 'backreference'],
    ['a pattern that is none', { pattern: '(' }, 'not a regular expression'],
  ]
  test.each(cases)('%s', (_, schema, message) => {
    const refusal = refusalOf(schema)
    expect(refusal.code).toBe('invalid')
    expect(refusal.message).toContain(message)
  })

  const big: [name: string, schema: unknown, message: string][] = [
    ['over 64 KiB', { description: 'x'.repeat(65_536) }, '65536 bytes'],
    ['of many small parts', { enum: Array.from({ length: 40_000 }, () => 1) }, '65536 bytes'],
    ['nested 70 deep', nested(70, (not) => ({ not })), 'deeper than 64'],
    ['nested 100,000 deep', nested(100_000, (not) => ({ not })), 'deeper than 64'],
    [
      'with 3,000 properties',
      { properties: Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`p${i}`, {}])) },
      'more than 300',
    ],
    [
      'with 301 in several places',
      { properties: { a: { properties: Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`p${i}`, {}])) } } },
      'more than 300',
    ],
    [
      'with large patterns',
      { allOf: Array.from({ length: 20 }, (_, i) => ({ pattern: `[a-z]{1,1000}${i}` })) },
      'patterns of the schema',
    ],
  ]
  test.each(big)('%s', (_, schema, message) => {
    const refusal = refusalOf(schema)
    expect(refusal.code).toBe('too_large')
    expect(refusal.message).toContain(message)
  })

  test('the limits are configurable', () => {
    expect(refusalOf({ properties: { a: {}, b: {} } }, { properties: 1 }).code).toBe('too_large')
    expect(
      compileSchema(
        { properties: Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`p${i}`, {}])) },
        { properties: 500 },
      ),
    ).toBeDefined()
  })

  test('what the compiler could be told by a schema is not reached', () => {
    const schema = { $async: true, type: 'string', $comment: 'x', pattern: { $data: '1/a' } }
    expect(() => compileSchema(schema)).toThrow(Failure)
    expect(accepts({ $async: true, type: 'string' }, 1)).toBe(false)
    expect(accepts({ 'sallyport:work': { once: -1e9, each: 0 }, type: 'string' }, 1)).toBe(false)
    for (const text of [
      '"];process.exit(1);//',
      "'+process.exit(1)+'",
      '${process.exit(1)}',
      '\u2028process.exit(1)',
    ]) {
      const quoting = {
        properties: { [text]: { const: text, type: 'string' } },
        required: [text],
        additionalProperties: false,
      }
      expect(accepts(quoting, { [text]: text })).toBe(true)
      expect(accepts(quoting, { [text]: 1 })).toBe(false)
    }
  })
})

describe('work is bounded', () => {
  const twice = (name: string) => [{ $ref: `#/$defs/${name}` }, { $ref: `#/$defs/${name}` }]
  const doubling = {
    $defs: Object.fromEntries(
      Array.from({ length: 61 }, (_, i) => [`d${i}`, i === 60 ? { type: 'string' } : { allOf: twice(`d${i + 1}`) }]),
    ),
    properties: { a: { $ref: '#/$defs/d0' } },
  }
  test('references that double 60 times', () => {
    const { check } = compileSchema(doubling)
    expect(check({ a: 'x' })[0]?.message).toContain('too large or too deep to be checked')
    expect(check({ b: 1 })).toEqual([])
  })

  test('recursion that doubles at every level of the value', () => {
    const schema = { allOf: [{ properties: { a: { $ref: '#' } } }, { properties: { a: { $ref: '#' } } }] }
    expect(
      accepts(
        schema,
        nested(5, (a) => ({ a })),
      ),
    ).toBe(true)
    expect(
      accepts(
        schema,
        nested(90, (a) => ({ a })),
      ),
    ).toBe(false)
  })

  test('a catastrophic pattern', () => {
    expect(accepts({ pattern: '^(a+)+$' }, `${'a'.repeat(100_000)}!`)).toBe(false)
    expect(accepts({ propertyNames: { pattern: '^(a+)+$' } }, { [`${'a'.repeat(100_000)}!`]: 1 })).toBe(false)
  })

  test('uniqueItems of a hundred thousand objects', () => {
    const items = Array.from({ length: 100_000 }, (_, index) => ({ index }))
    expect(accepts({ uniqueItems: true }, items)).toBe(true)
    expect(accepts({ uniqueItems: true }, [...items, { index: 7 }])).toBe(false)
  })

  test('many schemas looking at many items', () => {
    const schema = { items: { allOf: Array.from({ length: 200 }, () => ({ type: 'number' })) } }
    expect(accepts(schema, [1, 2, 3])).toBe(true)
    expect(
      accepts(
        schema,
        Array.from({ length: 1_000_000 }, () => 1),
      ),
    ).toBe(false)
    const either = { items: { anyOf: Array.from({ length: 200 }, () => ({ type: 'string' })) } }
    expect(
      accepts(
        either,
        Array.from({ length: 1_000_000 }, () => 1),
      ),
    ).toBe(false)
  })

  test('the next check starts afresh', () => {
    const { check } = compileSchema(doubling)
    check({ a: 'x' })
    expect(check({})).toEqual([])
  })
})

describe('the compiler that remembers', () => {
  test('compiles a schema once', () => {
    const compile = schemaCompiler()
    expect(compile({ type: 'string' })).toBe(compile({ type: 'string' }))
    expect(compile({ type: 'string' })).not.toBe(compile({ type: 'number' }))
    expect(compile({ type: 'string' }).digest).toMatch(/^[0-9a-f]{64}$/)
  })

  test('remembers a refusal', () => {
    const compile = schemaCompiler()
    const refusals = [1, 2].map(() => {
      try {
        return compile({ type: 'strng' })
      } catch (thrown) {
        return thrown
      }
    })
    expect(refusals[0]).toBeInstanceOf(Failure)
    expect(refusals[0]).toBe(refusals[1])
  })

  test('forgets what was used longest ago', () => {
    const compile = schemaCompiler({}, 3 * 2_048)
    const first = compile({ const: 1 })
    const second = compile({ const: 2 })
    compile({ const: 3 })
    expect(compile({ const: 1 })).toBe(first)
    compile({ const: 4 })
    expect(compile({ const: 1 })).toBe(first)
    expect(compile({ const: 2 })).not.toBe(second)
  })
})
