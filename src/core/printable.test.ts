import fc from 'fast-check'
import { expect, test } from 'vitest'
import { printable, printableJson } from './printable.ts'

const cases: [name: string, text: string, shown: string][] = [
  ['plain text, also not English', 'refund 40 € à 日本 👍', 'refund 40 € à 日本 👍'],
  ['an escape sequence that clears the screen', '\x1b[2J\x1b[H', '\\x1b[2J\\x1b[H'],
  ['a one-byte control sequence introducer', '\x9b31m', '\\x9b31m'],
  ['a title change ended by a bell', '\x1b]0;ok\x07', '\\x1b]0;ok\\x07'],
  ['a return that writes over the line', 'deny\rallow', 'deny\\rallow'],
  ['lines and tabs', 'a\nb\tc', 'a\\nb\\tc'],
  ['backspaces and delete', 'a\b\x7f', 'a\\x08\\x7f'],
  ['a bidirectional override', 'a\u202etxt.exe', 'a\\u{202e}txt.exe'],
  ['isolates', '\u2066x\u2069', '\\u{2066}x\\u{2069}'],
  ['zero width', 'ad\u200bmin\ufeff', 'ad\\u{200b}min\\u{feff}'],
  ['tag characters', 'x\u{e0041}\u{e0042}', 'x\\u{e0041}\\u{e0042}'],
  ['line separators', 'a\u2028b\u2029c', 'a\\u{2028}b\\u{2029}c'],
  ['variation selectors that carry bytes', 'x\ufe01\u{e0101}', 'x\\u{fe01}\\u{e0101}'],
  ['a lone surrogate', 'a\ud800', 'a\\u{d800}'],
  ['a blank that is no space', '\u3164', '\\u{3164}'],
  ['a pile of marks', `e${'\u0301'.repeat(6)}`, `e${'\u0301'.repeat(4)}\\u{301}\\u{301}`],
]
test.each(cases)('%s', (_name, text, shown) => {
  expect(printable(text)).toBe(shown)
})

test('nothing that a terminal obeys is left, and what was left is left alone', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const shown = printable(text)
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
      expect(printable(shown)).toBe(shown)
    }),
  )
})

test('a bound holds, and says how long the text was', () => {
  expect(printable('abcdef', { maxLength: 3 })).toBe('abc… (cut, 6 characters in all)')
  expect(printable('\x1b\x1b', { maxLength: 4 })).toBe('\\x1b… (cut, 2 characters in all)')
  expect(printable('ab👍', { maxLength: 3 })).not.toMatch(/\p{Surrogate}/u)
  expect(printable('abc', { maxLength: 3 })).toBe('abc')
})

test('JSON stays the same value', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const shown = printableJson(JSON.stringify(text))
      expect(JSON.parse(shown)).toBe(text)
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u)
    }),
  )
})
