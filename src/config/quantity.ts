import { Failure } from '../core/failure.ts'

const durations: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1_000],
  ['min', 60_000],
  ['h', 3_600_000],
  ['day', 86_400_000],
  ['days', 86_400_000],
])

const sizes: ReadonlyMap<string, number> = new Map([
  ['B', 1],
  ['kB', 1_000],
  ['MB', 1_000_000],
  ['GB', 1_000_000_000],
])

/** Reads `30 min` as milliseconds. Fails with `invalid`, saying which form was expected. */
export const parseDuration = (text: string): number => parseQuantity(text, durations, 'a duration such as `30 min`')

/** Reads `100 kB` as bytes; a kB has 1,000. Fails with `invalid`, saying which form was expected. */
export const parseSize = (text: string): number => parseQuantity(text, sizes, 'a size such as `100 kB`')

function parseQuantity(text: string, units: ReadonlyMap<string, number>, what: string): number {
  const parts = /^(\d{1,9}(?:\.\d{1,3})?) ?([A-Za-z]{1,5})$/.exec(text.trim())
  const unit = units.get(parts?.[2] ?? '')
  const amount = unit === undefined ? NaN : Math.round(Number(parts?.[1]) * unit)
  if (!(amount > 0) || !Number.isSafeInteger(amount))
    throw new Failure('invalid', `expected ${what} (units: ${[...units.keys()].join(', ')})`)
  return amount
}
