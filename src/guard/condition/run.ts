import type { Scope } from '../../core/condition.ts'

/** A value while a condition runs: JSON, or milliseconds for points and lengths of time. */
export type Value = null | boolean | number | string | readonly Value[] | { readonly [key: string]: Value }
export type Keyed = { readonly [key: string]: Value }

/** One evaluation: what it reads, what its macros hold, and how much work it may still do. */
export interface Frame {
  readonly scope: Scope
  readonly locals: Value[]
  work: number
}

export type Run = (frame: Frame) => Value

/** Units of work that one evaluation may cost. A unit is about 10 ns, so the worst condition ends after some 10 ms. */
export const workLimit = 1_000_000
/** What one round of a macro costs: 10,000 rounds and no more, however they are nested. */
export const roundCost = 100
/** What it costs to catch a failure: an error carries a stack trace. */
const failureCost = 500
export const maxText = 65_536
export const maxList = 10_000

/** Why a condition has no answer. */
export class Unanswerable extends Error {}

export function unanswerable(reason: string): never {
  throw new Unanswerable(reason)
}

export function spend(frame: Frame, units: number): void {
  frame.work -= units
  if (frame.work < 0) unanswerable('it takes more work than a condition may (large arguments, nested macros)')
}

/** Runs what may fail where another operand may make up for it; the failure is the result then. */
export function attempt(run: Run, frame: Frame): Value | Unanswerable {
  try {
    return run(frame)
  } catch (thrown) {
    if (!(thrown instanceof Unanswerable)) throw thrown
    // INVARIANT: nothing makes up for work beyond the bound, since paying for that failure fails again.
    spend(frame, failureCost)
    return thrown
  }
}

/** Points in time, from year 1 to 9999, and lengths of time, up to 292 years, that CEL knows; in milliseconds. */
const times = {
  timestamp: [-62_135_596_800_000, 253_402_300_799_999],
  duration: [-9_223_372_036_854, 9_223_372_036_854],
} as const

/** A point or length of time that CEL knows, or no answer. */
export function timely(kind: 'timestamp' | 'duration', value: number): number {
  const [first, last] = times[kind]
  if (Number.isSafeInteger(value) && value >= first && value <= last) return value + 0
  return unanswerable(
    kind === 'timestamp' ? 'a time outside of the years 1 to 9999' : 'a length of time of more than 292 years',
  )
}

export const isList = (value: Value): value is readonly Value[] => Array.isArray(value)
export const isKeyedValue = (value: Value): value is Keyed =>
  typeof value === 'object' && value !== null && !isList(value)

/** The type of a value as people write it, for messages. Never the value: it may be a secret. */
export function kindOf(value: Value | undefined): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'null'
  if (isList(value)) return 'a list'
  return (
    { number: 'a number', string: 'a string', boolean: 'a bool', object: 'an object' }[typeof value as 'string'] ??
    'no JSON value'
  )
}

/** Deep equality of JSON values. Nothing is converted: `5 == "5"` is false. */
export function equal(frame: Frame, left: Value, right: Value): boolean {
  if (left === right) return true
  if (typeof left === 'string' && typeof right === 'string') {
    if (left.length === right.length) spend(frame, left.length >> 6)
    return false
  }
  if (typeof left !== 'object' || typeof right !== 'object' || left === null || right === null) return false
  spend(frame, 5)
  if (isList(left) || isList(right)) {
    if (!isList(left) || !isList(right) || left.length !== right.length) return false
    for (let at = 0; at < left.length; at++) {
      spend(frame, 5)
      if (!equal(frame, left[at] as Value, right[at] as Value)) return false
    }
    return true
  }
  const keys = Object.keys(left)
  spend(frame, 10 * keys.length)
  if (Object.keys(right).length !== keys.length) return false
  return keys.every((key) => Object.hasOwn(right, key) && equal(frame, left[key] as Value, right[key] as Value))
}

/** Below, at or above zero, as `left` is before, at or after `right`. Only values of one kind have an order. */
export function order(frame: Frame, left: Value, right: Value): number {
  if (typeof left === 'number' && typeof right === 'number') return left < right ? -1 : left > right ? 1 : 0
  if (typeof left === 'boolean' && typeof right === 'boolean') return Number(left) - Number(right)
  if (typeof left === 'string' && typeof right === 'string') return orderText(frame, left, right)
  return unanswerable(`${kindOf(left)} and ${kindOf(right)} have no order`)
}

/** Orders by code point, as CEL does; JavaScript orders by UTF-16 unit, which puts U+1F600 before U+FFFD. */
function orderText(frame: Frame, left: string, right: string): number {
  const length = Math.min(left.length, right.length)
  let at = 0
  while (at < length && left.charCodeAt(at) === right.charCodeAt(at)) at++
  spend(frame, at >> 3)
  if (at === length) return left.length - right.length
  return rank(left.charCodeAt(at)) - rank(right.charCodeAt(at))
}

const rank = (unit: number): number => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit)
