import { Failure } from '../core/failure.ts'
import type { Json } from '../core/json.ts'

export interface JsonLimits {
  /** Most bytes of UTF-8. */
  readonly maxBytes: number
  /** How deep arrays and objects may nest: `[]` is 1 deep. */
  readonly maxDepth: number
  /** Most object members in the whole text. 100,000 unless said. */
  readonly maxKeys?: number
  /** Most values in the whole text: what is short to write, such as `[{},{},…]`, is large to hold. 250,000 unless said. */
  readonly maxValues?: number
  /**
   * What becomes of an integer beyond ±(2^53 - 1), which JavaScript can't hold exactly. `refuse` (the default) is for
   * what an agent sends: a record's id must not change between the agent and the upstream. `round` is for what an
   * upstream answers (nanosecond clocks, foreign ids): the nearest double, as every JavaScript client would read it.
   */
  readonly bigIntegers?: 'refuse' | 'round'
}

/**
 * A JSON text (RFC 8259) as a value, read in the one way in which every parser reads it (I-JSON, RFC 7493).
 *
 * Refused besides bad grammar: two members of one name, invalid UTF-8, a byte order mark, lone surrogates, `__proto__`
 * as a name, numbers that overflow, and integers that would be rounded. Whatever is forwarded must be written anew
 * from this value, so that what was decided on is what the upstream reads.
 *
 * Takes time linear in the text; depth costs no stack. Fails with `too_large` over `maxBytes`, else with `invalid`;
 * messages give the place and never the text, save for the name of a repeated member.
 */
export function parseJson(source: Uint8Array | string, limits: JsonLimits): Json {
  const text = typeof source === 'string' ? fromString(source, limits.maxBytes) : fromBytes(source, limits.maxBytes)
  scan(text, limits)
  try {
    return JSON.parse(text) as Json
  } catch (thrown) {
    // The engine's own message quotes the text: only its position is ours to show.
    const at = /at position (\d+)/.exec(thrown instanceof Error ? thrown.message : '')?.[1]
    throw invalid('is not JSON', at === undefined ? undefined : Number(at))
  }
}

function fromBytes(source: Uint8Array, maxBytes: number): string {
  if (source.byteLength > maxBytes) throw tooLarge(maxBytes)
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(source)
  } catch {
    throw invalid('is not UTF-8')
  }
}

function fromString(source: string, maxBytes: number): string {
  if (source.length > maxBytes || Buffer.byteLength(source) > maxBytes) throw tooLarge(maxBytes)
  if (!source.isWellFormed()) throw invalid('has a lone surrogate')
  return source
}

const quote = 0x22
const comma = 0x2c
const minus = 0x2d
const backslash = 0x5c
const openArray = 0x5b
const closeArray = 0x5d
const openObject = 0x7b
const closeObject = 0x7d

/** Names seen in an open object: a list while they are few, since most objects are small, then a set. */
type Names = string[] | Set<string>
const fewNames = 8

/**
 * Everything that JSON.parse would let pass. Of the grammar it knows only where strings, numbers and brackets are;
 * a text that isn't JSON may pass here, within the limits, and fails in JSON.parse.
 */
function scan(text: string, limits: JsonLimits): void {
  const { maxDepth, maxKeys = 100_000, maxValues = 250_000, bigIntegers = 'refuse' } = limits
  const open: (Names | undefined)[] = [] // One per open bracket; undefined for an array.
  let names: Names | undefined
  let nameNext = false
  let keys = 0
  let values = 1 // Each comma, and each bracket that opens, brings at most one more.

  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === quote) {
      const start = at
      at = endOfString(text, start)
      if (!nameNext) continue
      nameNext = false
      if (++keys > maxKeys) throw invalid(`has more than ${maxKeys} members`, start)
      names = remember(names as Names, nameOf(text, start, at), start)
      open[open.length - 1] = names
    } else if (code === comma) {
      nameNext = names !== undefined
      if (++values > maxValues) throw invalid(`has more than ${maxValues} values`, at)
    } else if (code === openObject || code === openArray) {
      names = code === openObject ? [] : undefined
      nameNext = code === openObject
      if (++values > maxValues) throw invalid(`has more than ${maxValues} values`, at)
      if (open.push(names) > maxDepth) throw invalid(`nests deeper than ${maxDepth}`, at)
    } else if (code === closeObject || code === closeArray) {
      open.pop()
      names = open[open.length - 1]
      nameNext = false
    } else if (code === minus || isDigit(code)) {
      const start = at
      at = endOfNumber(text, start) - 1
      // 15 digits are always exact, and never overflow without an exponent.
      if (at - start >= 15 || hasExponent(text, start, at)) checkNumber(text.slice(start, at + 1), start, bigIntegers)
    }
  }
}

/** Where the string that opens at `start` closes. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === quote) return at
    if (code !== backslash) continue
    at++
    if (text.charCodeAt(at) !== 0x75 /* u */) continue
    const unit = hexUnit(text, at + 1)
    at += 4
    if (!(unit >= 0xd800 && unit <= 0xdfff)) continue
    const isPair = unit < 0xdc00 && text.startsWith('\\u', at + 1) && isLowSurrogate(hexUnit(text, at + 3))
    if (!isPair) throw invalid('has a lone surrogate', at - 5)
    at += 6
  }
  throw invalid('ends inside a string', start)
}

/** The UTF-16 unit of four hexadecimal digits; NaN if they aren't, which JSON.parse will refuse. */
const hexUnit = (text: string, at: number): number => {
  const digits = text.slice(at, at + 4)
  return /^[0-9a-fA-F]{4}$/.test(digits) ? Number.parseInt(digits, 16) : Number.NaN
}

const isLowSurrogate = (unit: number): boolean => unit >= 0xdc00 && unit <= 0xdfff

function nameOf(text: string, start: number, end: number): string {
  const raw = text.slice(start + 1, end)
  if (!raw.includes('\\')) return raw
  try {
    return JSON.parse(text.slice(start, end + 1)) as string
  } catch {
    throw invalid('has a bad escape in a name', start)
  }
}

function remember(names: Names, name: string, at: number): Names {
  if (name === '__proto__') throw invalid('has a member named `__proto__`', at)
  const isKnown = Array.isArray(names) ? names.includes(name) : names.has(name)
  if (isKnown) throw invalid(`has two members named ${JSON.stringify(name.slice(0, 40))} in one object`, at)
  if (!Array.isArray(names)) return names.add(name)
  names.push(name)
  return names.length > fewNames ? new Set(names) : names
}

const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39

function endOfNumber(text: string, start: number): number {
  let at = start + 1
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at)
    const inNumber = isDigit(code) || code === 0x2e || code === 0x65 || code === 0x45 || code === 0x2b || code === minus
    if (!inNumber) break
  }
  return at
}

function hasExponent(text: string, start: number, end: number): boolean {
  for (let at = start; at <= end; at++) {
    const code = text.charCodeAt(at) | 0x20
    if (code === 0x65) return true
  }
  return false
}

function checkNumber(digits: string, at: number, bigIntegers: 'refuse' | 'round'): void {
  const value = Number(digits)
  if (Number.isNaN(value)) throw invalid('has a bad number', at)
  if (!Number.isFinite(value)) throw invalid('has a number that is too large', at)
  if (bigIntegers === 'refuse' && !Number.isSafeInteger(value) && /^-?\d+$/.test(digits))
    throw invalid('has an integer beyond ±9007199254740991, which would be rounded; send it as a string', at)
}

const invalid = (what: string, at?: number): Failure =>
  new Failure('invalid', at === undefined ? `the body ${what}` : `the body ${what} (at character ${at})`)

const tooLarge = (maxBytes: number): Failure => new Failure('too_large', `the body is larger than ${maxBytes} bytes`)
