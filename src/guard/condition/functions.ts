import { RE2JS } from 're2js'

import type { Failure } from '../../core/failure.ts'
import { isKeyedValue, kindOf, type Run, spend, timely, unanswerable, type Value } from './run.ts'
import { bool, double, duration, int, string, timestamp, type Type } from './type.ts'

type Kind = Type['kind']

/** One form of a function. Types are checked at load; where `dyn` was let in, `make`'s result checks the value. */
export interface Overload {
  /** Kinds that each operand may have; a method's first operand is what it is called on. */
  readonly takes: readonly (readonly Kind[])[]
  readonly gives: Type
  /** Whether it is computed at load when its operands are known. */
  readonly constant?: boolean
  readonly make: (
    operands: readonly Run[],
    /** Those that are known at load. */
    constants: readonly (Value | undefined)[],
    fail: (operand: number, message: string) => Failure,
  ) => Run
}

export const macros: readonly string[] = ['all', 'exists', 'exists_one', 'filter', 'map']

const text: readonly Kind[] = ['string', 'dyn']
const sized: readonly Kind[] = ['string', 'list', 'map', 'object', 'dyn']

/** A function over texts. `cost` is in units of work, from the lengths of the operands. */
function overTexts(
  count: 1 | 2,
  gives: Type,
  cost: (a: number, b: number) => number,
  compute: (a: string, b: string) => Value,
): Overload {
  return {
    takes: count === 1 ? [text] : [text, text],
    gives,
    make([first, second]) {
      return (frame) => {
        const a = first?.(frame)
        const b = second === undefined ? '' : second(frame)
        if (typeof a !== 'string' || typeof b !== 'string')
          return unanswerable(`expected a string, found ${kindOf(typeof a === 'string' ? b : a)}`)
        spend(frame, cost(a.length, b.length))
        return compute(a, b)
      }
    },
  }
}

const scan = (a: number): number => a >> 3

const size: Overload = {
  takes: [sized],
  gives: int,
  make:
    ([of]) =>
    (frame) => {
      const value = of?.(frame)
      if (typeof value === 'string') {
        spend(frame, value.length >> 3)
        return codePoints(value)
      }
      if (Array.isArray(value)) return value.length
      if (value === undefined || !isKeyedValue(value)) return unanswerable(`${kindOf(value)} has no size`)
      const keys = Object.keys(value).length
      spend(frame, 10 * keys)
      return keys
    },
}

function codePoints(value: string): number {
  let count = value.length
  for (let at = 1; at < value.length; at++)
    if ((value.charCodeAt(at) & 0xfc00) === 0xdc00 && (value.charCodeAt(at - 1) & 0xfc00) === 0xd800) count--
  return count
}

/** The longest pattern, and the largest program that it may become: both bound the time per character. */
const maxPattern = 512
const maxProgram = 500

/**
 * `matches`: whether the pattern is found anywhere in the text, as in CEL. RE2 syntax, in time linear in the text. The
 * pattern stands in the condition, so that an agent never chooses one and that each is compiled once.
 */
const matches: Overload = {
  takes: [text, ['string']],
  gives: bool,
  make([of], [, pattern], fail) {
    const source = pattern
    if (typeof source !== 'string')
      throw fail(1, 'expected the pattern in quotes: one that is made when the condition runs is not allowed')
    if (source.length > maxPattern)
      throw fail(1, `the pattern has more than ${maxPattern} characters: shorten or split it`)
    let compiled: RE2JS
    try {
      compiled = RE2JS.compile(source)
    } catch (thrown) {
      throw fail(1, `the pattern is not RE2 (${thrown instanceof Error ? thrown.message : 'unreadable'})`)
    }
    const program = compiled.programSize()
    if (program > maxProgram) throw fail(1, 'the pattern is too large: use smaller repeat counts')
    // Small programs run as a table; large ones may not, and then each of their states costs time.
    const perCharacter = 1 + program ** 2 / 256
    return (frame) => {
      const value = of?.(frame)
      if (typeof value !== 'string') return unanswerable(`expected a string, found ${kindOf(value)}`)
      spend(frame, value.length * perCharacter)
      return compiled.test(value)
    }
  },
}

const decimal = /^[+-]?\d{1,16}$/
const decimalDouble = /^[+-]?(\d{1,32}(\.\d{0,32})?|\.\d{1,32})([eE][+-]?\d{1,4})?$/

const toInt: Overload = {
  takes: [['int', 'double', 'string', 'dyn']],
  gives: int,
  constant: true,
  make:
    ([of]) =>
    (frame) => {
      const value = of?.(frame)
      const number =
        typeof value === 'number'
          ? Math.trunc(value)
          : typeof value === 'string' && decimal.test(value)
            ? Number(value)
            : NaN
      return Number.isSafeInteger(number) ? number + 0 : unanswerable(`${kindOf(value)} that is not an exact int`)
    },
}

const toDouble: Overload = {
  takes: [['int', 'double', 'string', 'dyn']],
  gives: double,
  constant: true,
  make:
    ([of]) =>
    (frame) => {
      const value = of?.(frame)
      const number =
        typeof value === 'number' ? value : typeof value === 'string' && decimalDouble.test(value) ? Number(value) : NaN
      return Number.isFinite(number) ? number : unanswerable(`${kindOf(value)} that is not a finite number`)
    },
}

const toText: Overload = {
  takes: [['int', 'double', 'bool', 'string', 'dyn']],
  gives: string,
  constant: true,
  make:
    ([of]) =>
    (frame) => {
      const value = of?.(frame)
      if (typeof value === 'string') return value
      return typeof value === 'number' || typeof value === 'boolean'
        ? String(value)
        : unanswerable(`${kindOf(value)} that has no text`)
    },
}

const dateTime = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/

/** RFC 3339, to the millisecond; the rest is cut off. */
function readTimestamp(value: string): number {
  const found = value.length <= 40 ? dateTime.exec(value) : null
  if (found === null) return unanswerable('a time that is not RFC 3339, as in "2026-01-31T09:00:00Z"')
  const [year, month, day, hour, minute, second] = found.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  const zone = found[8] as string
  const [zoneHour, zoneMinute] = zone === 'Z' ? [0, 0] : [Number(zone.slice(1, 3)), Number(zone.slice(4, 6))]
  const exists =
    date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60
  if (!exists || zoneHour > 23 || zoneMinute > 59) return unanswerable('a time that does not exist')
  const offset = (zoneHour * 60 + zoneMinute) * 60_000 * (zone.startsWith('-') ? -1 : 1)
  return timely(
    'timestamp',
    date.setUTCHours(hour, minute, second, Number(`${(found[7] ?? '.').slice(1, 4)}000`.slice(0, 3))) - offset,
  )
}

const units: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }
const durationText = /^([+-]?)((?:\d{1,12}(?:\.\d{1,6})?(?:ms|s|m|h))+)$/

function readDuration(value: string): number {
  const found = value.length <= 64 ? durationText.exec(value) : null
  if (found === null) return unanswerable('a length of time that is not written as in "90s", "15m" or "1h30m"')
  let total = 0
  for (const [, count, unit] of (found[2] as string).matchAll(/([\d.]+)(ms|s|m|h)/g))
    total += Number(count) * (units[unit as string] as number)
  return timely('duration', Math.round(found[1] === '-' ? -total : total))
}

const fromText = (gives: Type, read: (value: string) => number): Overload => ({
  takes: [text],
  gives,
  constant: true,
  make:
    ([of]) =>
    (frame) => {
      const value = of?.(frame)
      return typeof value === 'string' ? read(value) : unanswerable(`expected a string, found ${kindOf(value)}`)
    },
})

const maxUrl = 8_192
const schemes = new Set(['http:', 'https:', 'ws:', 'wss:'])
// What URL readers disagree about, so that this one may name another host than the program that dials.
const ambiguous = /[\\\s\p{Cc}]/u

/**
 * `host`: the host of an http(s) or ws(s) URL as a browser reads it (WHATWG URL): lower case, Punycode, no port, no
 * dot at the end, an IPv6 address in brackets. A URL with a name or password in it, or one that readers disagree
 * about, is an error.
 */
function hostOf(value: string): string {
  const url = value.length <= maxUrl && !ambiguous.test(value) && URL.canParse(value) ? new URL(value) : undefined
  if (
    url === undefined ||
    !schemes.has(url.protocol) ||
    url.username !== '' ||
    url.password !== '' ||
    url.hostname === ''
  )
    return unanswerable('a URL of which the host is not plain')
  return url.hostname.replace(/\.$/, '')
}

type Clock = (date: Date) => number

const clocks: Readonly<
  Record<string, { readonly utc: Clock; readonly part: string; readonly read: (part: string) => number }>
> = {
  getFullYear: { utc: (date) => date.getUTCFullYear(), part: 'year', read: Number },
  getMonth: { utc: (date) => date.getUTCMonth(), part: 'month', read: (part) => Number(part) - 1 },
  getDate: { utc: (date) => date.getUTCDate(), part: 'day', read: Number },
  getDayOfMonth: { utc: (date) => date.getUTCDate() - 1, part: 'day', read: (part) => Number(part) - 1 },
  getDayOfWeek: {
    utc: (date) => date.getUTCDay(),
    part: 'weekday',
    read: (part) => ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'].indexOf(part),
  },
  getHours: { utc: (date) => date.getUTCHours(), part: 'hour', read: Number },
  getMinutes: { utc: (date) => date.getUTCMinutes(), part: 'minute', read: Number },
  getSeconds: { utc: (date) => date.getUTCSeconds(), part: 'second', read: Number },
}

/** A part of a point in time, in UTC or in the time zone that the condition names. */
function clock(name: string): Overload[] {
  const { utc, part, read } = clocks[name] as (typeof clocks)[string]
  return [
    {
      takes: [['timestamp']],
      gives: int,
      make:
        ([of]) =>
        (frame) =>
          utc(moment(of?.(frame))),
    },
    {
      takes: [['timestamp'], ['string']],
      gives: int,
      make([of], [, zone], fail) {
        if (typeof zone !== 'string') throw fail(1, 'expected a time zone in quotes, as in "Europe/Berlin"')
        let format: Intl.DateTimeFormat
        try {
          format = new Intl.DateTimeFormat('en-US', {
            timeZone: zone,
            calendar: 'gregory',
            numberingSystem: 'latn',
            hourCycle: 'h23',
            [part]: part === 'weekday' ? 'short' : 'numeric',
          })
        } catch {
          throw fail(1, `there is no time zone \`${zone}\`: expected one as in "Europe/Berlin"`)
        }
        return (frame) => {
          spend(frame, 1_000)
          const date = moment(of?.(frame))
          return read(format.formatToParts(date).find(({ type }) => type === part)?.value ?? '')
        }
      },
    },
  ]
}

const moment = (value: Value | undefined): Date => new Date(timely('timestamp', value as number))

const length = (unit: number): Overload => ({
  takes: [['duration']],
  gives: int,
  make:
    ([of]) =>
    (frame) =>
      Math.trunc((of?.(frame) as number) / unit),
})

/** Functions that stand alone, by name: `size(x)`. */
export const functions: ReadonlyMap<string, readonly Overload[]> = new Map([
  ['size', [size]],
  ['int', [toInt]],
  ['double', [toDouble]],
  ['string', [toText]],
  ['timestamp', [fromText(timestamp, readTimestamp)]],
  ['duration', [fromText(duration, readDuration)]],
  ['matches', [matches]],
  ['host', [overTexts(1, string, (a) => 500 + 10 * Math.min(a, maxUrl), hostOf)]],
])

/** Functions that are called on a value, by name: `x.startsWith("a")`. */
export const methods: ReadonlyMap<string, readonly Overload[]> = new Map([
  ['size', [size]],
  ['matches', [matches]],
  [
    'startsWith',
    [
      overTexts(
        2,
        bool,
        (_, b) => b >> 6,
        (a, b) => a.startsWith(b),
      ),
    ],
  ],
  [
    'endsWith',
    [
      overTexts(
        2,
        bool,
        (_, b) => b >> 6,
        (a, b) => a.endsWith(b),
      ),
    ],
  ],
  // The platform's search is quadratic on texts that are made for it.
  [
    'contains',
    [
      overTexts(
        2,
        bool,
        (a, b) => (b > a ? 0 : scan(a) + (a * b) / 32),
        (a, b) => a.includes(b),
      ),
    ],
  ],
  [
    'lowerAscii',
    [
      overTexts(
        1,
        string,
        (a) => 2 * a,
        (a) => a.replace(/[A-Z]+/g, (found) => found.toLowerCase()),
      ),
    ],
  ],
  [
    'upperAscii',
    [
      overTexts(
        1,
        string,
        (a) => 2 * a,
        (a) => a.replace(/[a-z]+/g, (found) => found.toUpperCase()),
      ),
    ],
  ],
  ['trim', [overTexts(1, string, scan, (a) => a.trim())]],
  ...Object.keys(clocks)
    .filter((name) => !['getHours', 'getMinutes', 'getSeconds'].includes(name))
    .map((name): [string, Overload[]] => [name, clock(name)]),
  ['getHours', [...clock('getHours'), length(3_600_000)]],
  ['getMinutes', [...clock('getMinutes'), length(60_000)]],
  ['getSeconds', [...clock('getSeconds'), length(1_000)]],
])
