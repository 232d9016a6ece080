import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalize } from './canonical.ts'
import { Failure } from './failure.ts'

const code = (run: () => unknown): string | undefined => {
  try {
    run()
  } catch (thrown) {
    return thrown instanceof Failure ? thrown.code : 'another error'
  }
  return undefined
}

describe('RFC 8785', () => {
  test('the sample of section 3.2.2', () => {
    const sample = {
      // oxlint-disable-next-line no-loss-of-precision -- as it stands in the RFC
      numbers: [333333333.33333329, 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
      string: '\u20ac$\u000F\u000aA\'\u0042\u0022\u005c\\"/',
      literals: [null, true, false],
    }
    expect(canonicalize(sample)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    )
  })

  test('keys are sorted by UTF-16 units, section 3.2.3', () => {
    const sorted = canonicalize({
      '\u20ac': 'Euro Sign',
      '\r': 'Carriage Return',
      '\ufb33': 'Hebrew Letter Dalet With Dagesh',
      '1': 'One',
      '\ud83d\ude00': 'Emoji: Grinning Face',
      '\u0080': 'Control',
      '\u00f6': 'Latin Small Letter O With Diaeresis',
    })
    expect([...sorted.matchAll(/:"([^"]*)"/g)].map((match) => match[1])).toEqual([
      'Carriage Return',
      'One',
      'Control',
      'Latin Small Letter O With Diaeresis',
      'Euro Sign',
      'Emoji: Grinning Face',
      'Hebrew Letter Dalet With Dagesh',
    ])
  })

  /** Appendix B: bits of an IEEE 754 double, and its text. */
  const numbers: [bits: string, text: string][] = [
    ['0000000000000000', '0'],
    ['8000000000000000', '0'],
    ['0000000000000001', '5e-324'],
    ['8000000000000001', '-5e-324'],
    ['7fefffffffffffff', '1.7976931348623157e+308'],
    ['ffefffffffffffff', '-1.7976931348623157e+308'],
    ['4340000000000000', '9007199254740992'],
    ['c340000000000000', '-9007199254740992'],
    ['4430000000000000', '295147905179352830000'],
    ['44b52d02c7e14af5', '9.999999999999997e+22'],
    ['44b52d02c7e14af6', '1e+23'],
    ['44b52d02c7e14af7', '1.0000000000000001e+23'],
    ['444b1ae4d6e2ef4e', '999999999999999700000'],
    ['444b1ae4d6e2ef4f', '999999999999999900000'],
    ['444b1ae4d6e2ef50', '1e+21'],
    ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
    ['3eb0c6f7a0b5ed8d', '0.000001'],
    ['41b3de4355555553', '333333333.3333332'],
    ['41b3de4355555554', '333333333.33333325'],
    ['41b3de4355555555', '333333333.3333333'],
    ['41b3de4355555556', '333333333.3333334'],
    ['41b3de4355555557', '333333333.33333343'],
    ['becbf647612f3696', '-0.0000033333333333333333'],
    ['43143ff3c1cb0959', '1424953923781206.2'],
  ]
  test.each(numbers)('the number %s is %s', (bits, text) => {
    const view = new DataView(new ArrayBuffer(8))
    view.setBigUint64(0, BigInt(`0x${bits}`))
    expect(canonicalize(view.getFloat64(0))).toBe(text)
  })
})

describe('what is not JSON is refused', () => {
  const looped: Record<string, unknown> = {}
  looped.self = looped
  const cases: [name: string, value: unknown, code: string][] = [
    ['undefined', undefined, 'invalid'],
    ['undefined in an object', { a: undefined }, 'invalid'],
    ['a hole in an array', Array(3), 'invalid'],
    ['NaN', NaN, 'invalid'],
    ['an infinity', -Infinity, 'invalid'],
    ['a big integer', 1n, 'invalid'],
    ['a function', () => 1, 'invalid'],
    ['a symbol', Symbol('x'), 'invalid'],
    ['a date', new Date(0), 'invalid'],
    ['a map', new Map(), 'invalid'],
    ['a lone surrogate', 'a\ud800b', 'invalid'],
    ['a key with a lone surrogate', { '\udfff': 1 }, 'invalid'],
    ['a cycle', looped, 'too_large'],
    ['too deep', JSON.parse('['.repeat(200) + ']'.repeat(200)), 'too_large'],
  ]
  test.each(cases)('%s', (_name, value, expected) => {
    expect(code(() => canonicalize(value))).toBe(expected)
  })

  test('a small value that unfolds to a huge text', () => {
    let shared: unknown = ['x']
    for (let level = 0; level < 60; level += 1) shared = [shared, shared]
    expect(code(() => canonicalize(shared, { maxLength: 100_000 }))).toBe('too_large')
  })
})

describe('laws', () => {
  const json = fc.jsonValue({ maxDepth: 5 })

  test('it is JSON of the same value, and its own canonical form', () => {
    fc.assert(
      fc.property(json, (value) => {
        const text = canonicalize(value)
        const parsed: unknown = JSON.parse(text)
        expect(parsed).toEqual(JSON.parse(JSON.stringify(value)))
        expect(canonicalize(parsed)).toBe(text)
      }),
    )
  })

  test('the order of keys does not matter', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue({ maxDepth: 2 })), (object) => {
        expect(canonicalize(Object.fromEntries(Object.entries(object).reverse()))).toBe(canonicalize(object))
      }),
    )
  })

  test('own keys that look special are kept', () => {
    const value: unknown = JSON.parse('{"__proto__":{"x":1},"constructor":2,"toJSON":3}')
    expect(canonicalize(value)).toBe('{"__proto__":{"x":1},"constructor":2,"toJSON":3}')
  })
})
