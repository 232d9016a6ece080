import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalize } from '../core/canonical.ts'
import type { Json, JsonObject } from '../core/json.ts'
import { differences, differencesInLines } from './difference.ts'
import { columnsOf, cut, fit, jsonLines, jsonText, readDuration, safe, span, width, wrap } from './text.ts'

const obeyed = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?! )\p{Zs}/u
const any = fc.string({ unit: 'binary', maxLength: 80 })

describe('width', () => {
  const cases: [text: string, columns: number][] = [
    ['', 0],
    ['abc', 3],
    ['日本', 4],
    ['ｆｕｌｌ', 8],
    ['한글', 4],
    ['👍', 2],
    ['é', 1],
    ['e\u0301', 1],
    ['┃ ▶', 3],
    ['Grüße', 5],
  ]
  test.each(cases)('%s takes %i columns', (text, columns) => {
    expect(width(text)).toBe(columns)
  })
})

test('what is cut, filled or wrapped fits, and wrapping loses nothing', () => {
  fc.assert(
    fc.property(any, fc.integer({ min: 4, max: 40 }), (text, columns) => {
      const shown = safe(text)
      expect(width(cut(shown, columns))).toBeLessThanOrEqual(columns)
      expect(width(fit(shown, columns))).toBe(columns)
      for (const words of [true, false]) {
        const lines = wrap(shown, columns, { words })
        for (const line of lines) expect(width(line)).toBeLessThanOrEqual(columns)
        expect(lines.join('')).toBe(shown)
      }
    }),
  )
})

test('columns stand below one another', () => {
  expect(
    columnsOf([
      ['ID', 'NAME'],
      ['日本', 'x'],
      ['a', 'y'],
    ]),
  ).toEqual(['ID    NAME', '日本  x', 'a     y'])
})

describe('JSON on a terminal', () => {
  const json = fc.jsonValue({ stringUnit: 'binary' }) as fc.Arbitrary<Json>
  test('is the same JSON, with nothing that a terminal obeys or that can’t be seen', () => {
    fc.assert(
      fc.property(json, (value) => {
        for (const text of [jsonLines(value).join('\n'), jsonText(value)]) {
          expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
          expect(text.replace(/\n/g, '')).not.toMatch(obeyed)
        }
      }),
    )
  })

  test('has its keys in the order of canonical JSON', () => {
    const value = { b: 1, a: { d: [1, { z: 1, y: 2 }], c: 'x' }, __proto__x: null }
    expect(
      jsonLines(value)
        .map((line) => line.trim())
        .join('')
        .replace(/": /g, '":')
        .replace(/,"/g, ',"'),
    ).toBe(canonicalize(value))
  })
})

describe('differences', () => {
  const args = fc.dictionary(fc.string(), fc.jsonValue()) as fc.Arbitrary<JsonObject>
  test('there is one exactly where two values are not the same', () => {
    fc.assert(
      fc.property(args, args, (before, after) => {
        const text = (value: JsonObject): string => canonicalize(JSON.parse(JSON.stringify(value)))
        expect(differences(before, after).length === 0).toBe(text(before) === text(after))
        expect(differences(before, before)).toEqual([])
      }),
    )
  })

  test('are shown value by value', () => {
    const found = differences(
      { amount: 10, to: { 'a/b': 'x' }, list: [1, 2], gone: true },
      { amount: 500, to: { 'a/b': 'y' }, list: [1, 2, { n: 3 }], note: '\u202e' },
    )
    expect(differencesInLines(found)).toEqual([
      '~ /amount: 10 → 500',
      '- /gone: true',
      '+ /list/2: { "n": 3 }',
      '+ /note: "\\u202e"',
      '~ /to/a~1b: "x" → "y"',
    ])
  })

  test('a list and an object are not the same, nor are empty ones', () => {
    expect(differences({ a: [] }, { a: {} })).toHaveLength(1)
    expect(differences({ a: {} }, { a: null })).toHaveLength(1)
  })
})

test.each([
  ['30m', 1_800_000],
  ['30 min', 1_800_000],
  ['90d', 90 * 86_400_000],
  ['8 h', 28_800_000],
  ['1.5h', 5_400_000],
])('%s is a duration', (text, milliseconds) => {
  expect(readDuration(text)).toBe(milliseconds)
})

test.each([
  [-5, '0 s'],
  [59_000, '59 s'],
  [60_000, '1 min'],
  [258_000, '4 min 18 s'],
  [7_500_000, '2 h 5 min'],
  [300_000_000, '3 days'],
])('%i ms are %s', (milliseconds, words) => {
  expect(span(milliseconds)).toBe(words)
})
