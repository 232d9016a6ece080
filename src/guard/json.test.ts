import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../core/failure.ts'
import { parseJson } from './json.ts'

const limits = { maxBytes: 1_000_000, maxDepth: 20 }
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

function failureOf(source: Uint8Array | string, more: object = {}): Failure {
  try {
    parseJson(source, { ...limits, ...more })
  } catch (thrown) {
    if (thrown instanceof Failure) return thrown
    throw thrown
  }
  throw new Error('was accepted')
}

describe('what is accepted', () => {
  test('every JSON value comes back as JSON.parse has it', () => {
    const value = fc
      .jsonValue({ maxDepth: 8, noUnicodeString: false })
      .filter((v) => !JSON.stringify(v).includes('__proto__'))
    fc.assert(
      fc.property(value, fc.boolean(), fc.constantFrom(undefined, 1, '\t'), (json, asBytes, indent) => {
        const text = JSON.stringify(json, undefined, indent)
        expect(parseJson(asBytes ? bytes(text) : text, { ...limits, bigIntegers: 'round' })).toEqual(JSON.parse(text))
      }),
      { numRuns: 500 },
    )
  })

  test.each([
    '{"a":{"a":1},"b":[{"a":1},{"a":2}]}',
    '{"a":"a","b":"a"}',
    '{"constructor":1,"prototype":2,"toString":3}',
    '"\\ud83d\\ude00 😀"',
    '"\\\\u{d800} \\\\ud800"',
    '{"\\"":1,"\\\\":2}',
    '[9007199254740991,-9007199254740991,0.12345678901234567890,1e22,-0,1E-400]',
    '"{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{["',
  ])('%s', (text) => {
    expect(parseJson(text, limits)).toEqual(JSON.parse(text))
  })

  test('an object of more members than are compared one by one', () => {
    const many = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`k${index}`, index]))
    expect(parseJson(JSON.stringify(many), limits)).toEqual(many)
    expect(failureOf(`${JSON.stringify(many).slice(0, -1)},"k7":0}`).message).toContain('two members named "k7"')
  })
})

describe('what is refused', () => {
  const cases: [name: string, source: string | Uint8Array, message: string][] = [
    ['an empty text', '', 'is not JSON'],
    ['a trailing comma', '{"a":1,}', 'is not JSON'],
    ['two values', '1 2', 'is not JSON'],
    ['a comment', '{} // x', 'is not JSON'],
    ['a single quote', "{'a':1}", 'is not JSON'],
    ['NaN', 'NaN', 'is not JSON'],
    ['a leading zero', '[01]', 'is not JSON'],
    ['a raw control character in a string', '"a\nb"', 'is not JSON'],
    ['a string that does not end', '{"a":"b', 'ends inside a string'],
    ['a byte order mark', bytes('\ufeff{}'), 'is not JSON'],
    ['a byte order mark in a string', '\ufeff{}', 'is not JSON'],
    ['one name twice', '{"a":1,"b":2,"a":3}', 'two members named "a"'],
    ['one name twice, once escaped', '{"a":1,"\\u0061":3}', 'two members named "a"'],
    ['one name twice, deep inside', '[[{"x":{"a":{},"a":[]}}]]', 'two members named "a"'],
    ['one name twice after a nested object', '{"a":{"b":1},"a":2}', 'two members named "a"'],
    ['__proto__', '{"__proto__":{"admin":true}}', '__proto__'],
    ['__proto__, escaped', '{"\\u005f_proto__":1}', '__proto__'],
    ['a lone high surrogate', '"\\ud800"', 'lone surrogate'],
    ['a lone low surrogate', '"\\udc00x"', 'lone surrogate'],
    ['two high surrogates', '"\\ud83d\\ud83d"', 'lone surrogate'],
    ['a lone surrogate in a name', '{"\\uDBFF":1}', 'lone surrogate'],
    ['a lone surrogate, not escaped', '"\ud800"', 'lone surrogate'],
    ['bytes that are not UTF-8', Uint8Array.of(0x22, 0xff, 0x22), 'is not UTF-8'],
    ['an overlong encoding', Uint8Array.of(0x22, 0xc0, 0xaf, 0x22), 'is not UTF-8'],
    ['an encoded surrogate', Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22), 'is not UTF-8'],
    ['an integer that would be rounded', '{"id":9007199254740993}', 'beyond'],
    ['a negative one', '[-9007199254740992]', 'beyond'],
    ['a number that overflows', '[1e309]', 'too large'],
    ['a long number that overflows', `[${'9'.repeat(400)}]`, 'too large'],
    ['more minus signs than a number has', '[1-1-1-1-1-1-1-1-1-1]', 'bad number'],
  ]
  test.each(cases)('%s', (_, source, message) => {
    const failure = failureOf(source)
    expect(failure.code).toBe('invalid')
    expect(failure.message).toContain(message)
  })

  test('an integer that would be rounded is rounded where that was asked for, one that overflows is not', () => {
    expect(parseJson('[1790000000123456789]', { ...limits, bigIntegers: 'round' })).toEqual([1790000000123456800])
    expect(failureOf('[1e999]', { bigIntegers: 'round' }).message).toContain('too large')
  })

  test('size is counted in bytes', () => {
    expect(failureOf('"ééé"', { maxBytes: 7 }).code).toBe('too_large')
    expect(failureOf(bytes('"ééé"'), { maxBytes: 7 }).code).toBe('too_large')
    expect(parseJson('"ééé"', { ...limits, maxBytes: 8 })).toBe('ééé')
  })

  test('depth is counted exactly', () => {
    const nested = (depth: number): string => '[{"a":'.repeat(depth / 2) + '1' + '}]'.repeat(depth / 2)
    expect(parseJson(nested(20), limits)).toBeDefined()
    expect(failureOf(nested(22)).message).toContain('nests deeper than 20')
  })

  test('members are counted over the whole text', () => {
    expect(parseJson('[{"a":1},{"a":1}]', { ...limits, maxKeys: 2 })).toBeDefined()
    expect(failureOf('[{"a":1},{"a":1},{"a":1}]', { maxKeys: 2 }).message).toContain('more than 2 members')
  })

  test('values are counted over the whole text, and what stands in strings is none', () => {
    expect(parseJson('[[],{},",,,,[[[["]', { ...limits, maxValues: 6 })).toBeDefined()
    for (const many of ['[0,0,0,0,0,0]', '[[],[],[]]', '[{},{},{}]', '[[[[[[]]]]]]'])
      expect(failureOf(many, { maxValues: 5 }).message).toContain('more than 5 values')
    expect(failureOf(`[${'{},'.repeat(250_000)}0]`).message).toContain('more than 250000 values')
  })

  test('ten megabytes of brackets cost neither stack nor memory', () => {
    const bomb = '['.repeat(10_000_000)
    expect(failureOf(bomb, { maxBytes: 20_000_000 }).message).toContain('nests deeper')
    expect(failureOf('{"a":'.repeat(2_000_000), { maxBytes: 20_000_000 }).message).toContain('nests deeper')
  })

  test('the message never quotes the body', () => {
    expect(failureOf('{"password": "hunter2", oops}').message).not.toContain('hunter2')
    expect(failureOf('hunter2').message).not.toContain('hunter2')
  })

  test('any text is parsed as JSON.parse parses it, or refused', () => {
    const piece = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      '"a"',
      '"b"',
      '1',
      '-',
      '.5',
      'e9',
      'true',
      ' ',
      '\\u00',
      '\ud800',
      'null',
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join('')
        let parsed: unknown
        try {
          parsed = parseJson(text, limits)
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(Failure)
          return
        }
        expect(parsed).toEqual(JSON.parse(text))
      }),
      { numRuns: 3_000 },
    )
  })
})
