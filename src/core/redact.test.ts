import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalize } from './canonical.ts'
import { isSensitive, redact, redactedText } from './redact.ts'

const bounds = { maxBytes: 10_000, maxString: 200 }
const bytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value))

describe('names that hide their values', () => {
  const hidden = [
    'password', 'db_password', 'userPassword', 'PASSWD', 'passphrase', 'secret', 'clientSecret', 'client-secret', 'token',
    'access_token', 'refreshToken', 'authToken', 'id_tokens', 'authorization', 'Proxy-Authorization', 'api_key', 'apiKey', 'X-API-Key', 'apikey',
    'cookie', 'Set-Cookie', 'private_key', 'aws_secret_access_key', 'credentials', 'auth', 'pwd', 'pin', 'otp', 'cvv', 'jwt', 'ｐａｓｓｗｏｒｄ',
  ] // prettier-ignore
  test.each(hidden)('%s', (name) => {
    expect(redact({ [name]: 'hunter2' }, bounds)).toMatchObject({
      value: { [name]: redactedText },
      changed: 1,
      hidden: 1,
    })
  })

  test.each(['name', 'author', 'keyboard', 'pinned', 'tokenizer', 'passenger', 'description', 'compass', 'spin'])(
    'not %s',
    (name) => {
      expect(isSensitive(name, 'text')).toBe(false)
    },
  )

  test('a count of tokens stays, a number as a password does not', () => {
    expect(redact({ max_tokens: 100, tokens: 12, password: 1234 }, bounds).value).toEqual({
      max_tokens: 100,
      tokens: 12,
      password: redactedText,
    })
  })

  test('whatever hangs below the name, however deep it stands', () => {
    expect(redact({ a: [{ secret: { b: ['x'] } }] }, bounds).value).toEqual({ a: [{ secret: redactedText }] })
  })

  test('in lists of pairs, in name and value, and in JSON inside a string', () => {
    const { value } = redact(
      {
        headers: [
          ['Cookie', 'a=b'],
          ['Accept', '*/*'],
        ],
        field: { name: 'X-Api-Key', value: 'k' },
        body: ' {"user":"u","password":"p"}',
      },
      bounds,
    )
    expect(value).toEqual({
      headers: [
        ['Cookie', redactedText],
        ['Accept', '*/*'],
      ],
      field: { name: 'X-Api-Key', value: redactedText },
      body: `{"user":"u","password":"${redactedText}"}`,
    })
  })
})

describe('known secrets', () => {
  const secrets = (text: string): string => text.replaceAll('sk-live-12345', '[secret]')

  test('in values and in keys', () => {
    const { value, hidden } = redact({ note: 'use sk-live-12345 now', 'sk-live-12345': 1 }, { ...bounds, secrets })
    expect(value).toEqual({ note: 'use [secret] now', '[secret]': 1 })
    expect(hidden).toBe(2)
  })

  test('none shows in part where a string is cut, wherever it stands', () => {
    fc.assert(
      fc.property(fc.nat(9000), fc.nat(300), fc.constantFrom(1, 50), (before, maxString, times) => {
        const text = `${'x'.repeat(before)}${'sk-live-12345'.repeat(times)}${'y'.repeat(9000)}`
        expect(JSON.stringify(redact(text, { maxBytes: 50_000, maxString, secrets }).value)).not.toContain('sk-')
      }),
    )
  })

  test('a replacer that fails hides the text', () => {
    const fail = (): string => {
      throw new Error('no')
    }
    expect(redact(['a'], { ...bounds, secrets: fail }).value).toEqual([redactedText])
  })
})

describe('promise 7: what was cut is said', () => {
  const cases: [name: string, value: unknown, kept: unknown, changes: unknown[]][] = [
    ['nothing', { a: [1, 'b', null] }, { a: [1, 'b', null] }, []],
    ['a long string', 'x'.repeat(300), `${'x'.repeat(200)}…[cut: 300 characters in all]`, [{ path: '', why: 'string', was: 300 }]],
    ['a long array', { a: Array.from({ length: 5 }, (_, i) => i) }, { a: [0, 1, 2] }, [{ path: '/a', why: 'items', was: 5 }]],
    ['an object with many keys', { a: 1, b: 2, c: 3, d: 4 }, { a: 1, b: 2, c: 3 }, [{ path: '', why: 'items', was: 4 }]],
    ['depth', [[[[1]]]], [[['[cut: nested too deep]']]], [{ path: '/0/0/0', why: 'depth' }]],
    ['what is not JSON', [NaN, undefined, 1n], ['[not JSON: number]', '[not JSON: undefined]', '[not JSON: bigint]'], [
      { path: '/0', why: 'not_json' }, { path: '/1', why: 'not_json' }, { path: '/2', why: 'not_json' },
    ]],
    ['broken Unicode', 'a\ud800', 'a\ufffd', [{ path: '', why: 'not_json' }]],
    ['names with a slash', { 'a/b~c': NaN }, { 'a/b~c': '[not JSON: number]' }, [{ path: '/a~1b~0c', why: 'not_json' }]],
  ] // prettier-ignore
  test.each(cases)('%s', (_name, value, kept, changes) => {
    expect(redact(value, { ...bounds, maxItems: 3, maxDepth: 3 })).toMatchObject({
      value: kept,
      changed: changes.length,
      changes,
    })
  })

  test('the total size', () => {
    const { value, changes } = redact({ a: 'x'.repeat(40), b: 'y'.repeat(40), c: 1 }, { maxBytes: 70, maxString: 200 })
    expect(value).toEqual({ a: 'x'.repeat(40) })
    expect(changes).toEqual([
      { path: '/b', why: 'size' },
      { path: '', why: 'size', was: 3 },
    ])
  })
})

describe('hostile values', () => {
  test('any value gives canonical JSON within the bounds', () => {
    fc.assert(
      fc.property(
        fc.anything({
          withBigInt: true,
          withDate: true,
          withMap: true,
          withSparseArray: true,
          withNullPrototype: true,
        }),
        fc.nat(500),
        fc.nat(50),
        (value, maxBytes, maxString) => {
          const { value: kept } = redact(value, { maxBytes, maxString })
          expect(() => canonicalize(kept)).not.toThrow()
          expect(bytes(kept)).toBeLessThanOrEqual(Math.max(maxBytes, 4))
        },
      ),
    )
  })

  test('any string, by bytes', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), fc.nat(800), (text, maxBytes) => {
        expect(bytes(redact([text, text], { maxBytes, maxString: 100 }).value)).toBeLessThanOrEqual(
          Math.max(maxBytes, 4),
        )
      }),
    )
  })

  test('JSON without a secret is kept as it was', () => {
    const letters = Array.from('abeimoxyz 0123é日👍"')
    const plain = fc.jsonValue({ maxDepth: 4, stringUnit: fc.constantFrom(...letters) })
    fc.assert(
      fc.property(plain, (value) => {
        const kept = redact(value, { maxBytes: 1e6, maxString: 1e6 })
        expect(kept.changed).toBe(0)
        expect(canonicalize(kept.value)).toBe(canonicalize(value))
      }),
    )
  })

  test('depth bombs, also inside strings, cycles and getters that throw', () => {
    const deep = '['.repeat(100_000) + ']'.repeat(100_000)
    const looped: unknown[] = []
    looped.push(looped)
    const trap = Object.defineProperty({}, 'x', { enumerable: true, get: () => { throw new Error('no') } }) // prettier-ignore
    expect(() => redact(JSON.parse(deep), { maxBytes: 1e6, maxString: 1e6 })).not.toThrow()
    expect(() => redact(deep, { maxBytes: 1e6, maxString: 1e6 })).not.toThrow()
    expect(redact(looped, bounds).changes[0]?.why).toBe('depth')
    expect(redact(trap, bounds).value).toEqual({ x: '[not JSON: symbol]' })
    expect(redact(JSON.parse('{"__proto__":{"a":1}}'), bounds).value).toEqual(JSON.parse('{"__proto__":{"a":1}}'))
  })

  test('changes are bounded, their number is not', () => {
    const { changes, changed } = redact(
      Array.from({ length: 100 }, () => NaN),
      bounds,
    )
    expect([changes.length, changed]).toEqual([20, 100])
  })
})
