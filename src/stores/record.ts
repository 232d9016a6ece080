import { Failure } from '../core/failure.ts'

/**
 * A value as the JSON text that is kept of it.
 *
 * Fails with `invalid` for a number that JSON cannot hold: a person must never be shown something else than what was
 * asked. Fails with `too_large` when it is too large or nested too deeply to be written.
 */
export function encode(value: unknown): string {
  try {
    return JSON.stringify(value, (_, part: unknown) => (typeof part === 'number' ? finite(part) : part))
  } catch (thrown) {
    if (thrown instanceof RangeError)
      throw new Failure('too_large', 'a value is too large or nested too deeply to be kept')
    throw thrown
  }
}

/** The number itself. Fails with `invalid` when it is none that JSON can hold. */
export function finite(value: number): number {
  if (!Number.isFinite(value)) throw new Failure('invalid', `${value} cannot be kept: expected a finite number`)
  return value
}

/** The value of a text that `encode` made. Throws a SyntaxError for any other; it quotes the text, so never log it. */
export const decode = (text: string): unknown => JSON.parse(text)

/** How many rows a listing gives: `limit` if it says so, `most` at most. */
export const rows = (limit: number, most: number): number => Math.min(Math.max(0, Math.floor(limit) || 0), most)

/** A copy that shares nothing with the value, equal to what a store on disk would give back. */
export const copy = <T>(value: T): T => decode(encode(value)) as T

/** Newest first; those of the same moment by id, so that every store lists in the same order. */
export const newestFirst =
  <T>(at: (value: T) => number, id: (value: T) => string) =>
  (a: T, b: T): number =>
    at(b) - at(a) || (id(a) < id(b) ? 1 : -1)
