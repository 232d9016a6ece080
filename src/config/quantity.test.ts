import { expect, test } from 'vitest'
import { parseDuration, parseSize } from './quantity.ts'

test.each([
  ['30 min', 1_800_000],
  ['45s', 45_000],
  ['1.5 h', 5_400_000],
  ['180 days', 15_552_000_000],
  ['1 day', 86_400_000],
  ['250 ms', 250],
])('%s is %i ms', (text, expected) => {
  expect(parseDuration(text)).toBe(expected)
})

test.each([
  ['100 kB', 100_000],
  ['64 MB', 64_000_000],
  ['1 B', 1],
])('%s is %i bytes', (text, expected) => {
  expect(parseSize(text)).toBe(expected)
})

test.each([
  '',
  '30',
  'min',
  '-5 min',
  '0 s',
  '30 fortnights',
  '5 constructor',
  '1e9 s',
  '30 min\n5',
  '999999999 days x',
])('`%s` is no duration', (text) => {
  expect(() => parseDuration(text)).toThrow(/expected a duration such as `30 min`/)
})

test.each(['100 kb', '100 KiB', '0 kB', '0.0001 B'])('`%s` is no size', (text) => {
  expect(() => parseSize(text)).toThrow(/expected a size such as `100 kB`/)
})
