import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Failure } from '../core/failure.ts'
import { compilePattern } from './pattern.ts'

const texts = [
  '',
  'a',
  'A',
  'ab',
  'a\n',
  '\n',
  ' ',
  '\u00a0',
  '\u2028',
  '\ufeff',
  '😀',
  'é',
  '-',
  ']',
  '[',
  '0',
  '٣',
  '\0',
  '\b',
  '_',
  '&',
  'a&&b',
  '/',
  '\u000b',
  '.',
  '[:a]',
]

const same = [
  '^a$',
  '^.$',
  '^\\s$',
  '^\\S$',
  '^[\\s]$',
  '^[^\\s]$',
  '^[\\S]$',
  '^[^\\S]$',
  '\\bab\\b',
  '[\\b]',
  '[]',
  '[^]',
  '^[^]$',
  '^[^a]$',
  '^[[:a]+$',
  '^[a&&b]+$',
  '^\\u0041$',
  '^\\u{1F600}$',
  '^\\ud83d\\ude00$',
  '^[\\ud83d\\ude00]$',
  '^\\x41$',
  '^\\cJ$',
  '^\\0$',
  '^(?<word>a)b?$',
  '^\\/$',
  '^[\\w.-]+$',
  '^[\\]\\-]$',
  '^\\p{L}$',
  '^\\P{L}$',
  '^\\d$',
  '^\\v$',
  'a|^$',
  '^a{1,2}$',
  '^[\\-]$',
  '^\\.$',
  '^[.]$',
]
test.each(same)('%s means what ECMAScript means by it', (source) => {
  const ours = compilePattern(source)
  const theirs = new RegExp(source, 'u')
  for (const text of texts) expect([text, ours.test(text)]).toEqual([text, theirs.test(text)])
})

test('a pattern that is legal only without the `u` flag', () => {
  expect(compilePattern('^\\w+\\-\\w+$').test('a-b')).toBe(true)
})

test('random patterns mean what ECMAScript means by them', () => {
  const atom = fc.constantFrom(
    'a',
    'b',
    '.',
    '\\s',
    '\\S',
    '\\d',
    '\\w',
    '\\W',
    '[ab]',
    '[^a]',
    '[a-c&]',
    '[\\s\\d]',
    '\\u0061',
    '\\n',
    '😀',
    '\\b',
    '^',
    '$',
  )
  const piece = fc
    .tuple(atom, fc.constantFrom('', '*', '+', '?', '{0,2}'))
    .map(([a, q]) => ('\\b^$'.includes(a) ? a : `(?:${a})${q}`))
  const source = fc
    .array(fc.array(piece, { maxLength: 4 }), { minLength: 1, maxLength: 3 })
    .map((ways) => ways.map((way) => way.join('')).join('|'))
  const text = fc
    .array(fc.constantFrom('a', 'b', 'c', ' ', '\n', '\u00a0', '1', '😀', '&'), { maxLength: 6 })
    .map((chars) => chars.join(''))
  fc.assert(
    fc.property(source, text, (pattern, subject) => {
      expect(compilePattern(pattern).test(subject)).toBe(new RegExp(pattern, 'u').test(subject))
    }),
    { numRuns: 2_000 },
  )
})

test.each([
  ['(?=a)', 'lookaround'],
  ['(?!a)', 'lookaround'],
  ['(?<=a)b', 'lookaround'],
  ['(?i:a)', 'inline flags'],
  ['(a)\\1', 'backreference'],
  ['(?<n>a)\\k<n>', 'backreference'],
  ['(', 'not a regular expression'],
  ['\\Qa\\E', 'unknown escape'],
  ['(x{1000}){1000}', 'linear'],
  ['x{100000}', 'linear'],
  ['[a-z]{1,1000}[a-z]{1,1000}[a-z]{1,1000}', 'too large'],
  ['a'.repeat(5_000), 'longer than'],
])('%s is refused', (source, message) => {
  expect(() => compilePattern(source)).toThrow(Failure)
  expect(() => compilePattern(source)).toThrow(message)
})

test('patterns that kill a backtracking engine return', () => {
  const evil = 'a'.repeat(100_000)
  for (const source of ['^(a+)+$', '^(a|a)*$', '^(a|aa)+$', '(a*)*b', '^(.*a){20}$'])
    expect(compilePattern(source).test(`${evil}!`)).toBe(false)
})
