import type { Json } from '../core/json.ts'

/** Values that must not leave, by the names that are shown in their place. */
export interface Masked {
  readonly name: string
  readonly value: string
}

/**
 * Replaces secrets that are known wherever they stand: as they are; in base64 at any place in a longer text, with both
 * alphabets; in hexadecimal; percent-encoded; escaped as in JSON and HTML. Takes time linear in the text.
 *
 * Not found: a value that was changed in another way (reversed, split, encrypted, encoded twice), or in part. Values of
 * fewer than 8 characters are found only as they are.
 */
export interface Masker {
  text(text: string): string
  /** Strings and names of members alike. The same value where there is nothing to replace. */
  json<T extends Json>(value: T): T
  /** For text in UTF-8, or in any encoding that agrees with it where secrets stand. */
  bytes(bytes: Uint8Array): Uint8Array
  /** Bytes as they come: what comes out in all does not depend on how they were cut. */
  stream(): MaskStream
}

export interface MaskStream {
  /** What is certain so far. No more is held back than could begin a secret. It may share memory with the chunk. */
  push(chunk: Uint8Array): Uint8Array
  end(): Uint8Array
}

/** @param values - The same array for as long as nothing changed: then nothing is prepared anew. */
export function createMasker(values: () => readonly Masked[]): Masker {
  let prepared: { readonly from: readonly Masked[]; readonly search: Search } | undefined

  function ready(): Search {
    const from = values()
    if (prepared?.from !== from) prepared = { from, search: prepare(patternsOf(from)) }
    return prepared.search
  }

  function text(given: string): string {
    const search = ready()
    // A unit of UTF-16 is at most three bytes of UTF-8.
    if (given.length * 3 < search.shortest) return given
    const scan = createScan(search)
    const head = scan.push(Buffer.from(given, 'utf8'))
    const tail = scan.end()
    return scan.hasFound() ? Buffer.concat([head, tail]).toString('utf8') : given
  }

  function json<T extends Json>(value: T): T {
    return (ready().isEmpty ? value : jsonMasked(value, text)) as T
  }

  return {
    text,
    json,
    bytes(bytes) {
      const scan = createScan(ready())
      const head = scan.push(bytes)
      const tail = scan.end()
      return scan.hasFound() ? Buffer.concat([head, tail]) : bytes
    },
    stream: () => createScan(ready()),
  }
}

function jsonMasked(value: Json, mask: (text: string) => string): Json {
  if (typeof value === 'string') return mask(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    const given = value as readonly Json[]
    const items = given.map((item) => jsonMasked(item, mask))
    return items.every((item, at) => item === given[at]) ? given : items
  }
  const entries = Object.entries(value).map(([key, item]): [string, Json] => [mask(key), jsonMasked(item, mask)])
  const isSame = entries.every(
    ([key, item]) => Object.hasOwn(value, key) && (value as { readonly [key: string]: Json })[key] === item,
  )
  return isSame ? value : Object.fromEntries(entries)
}

// Forms ---------------------------------------------------------------------------------------------------------------

interface Pattern {
  readonly bytes: Buffer
  readonly name: string
}

const shortestEncoded = 8

function patternsOf(values: readonly Masked[]): readonly Pattern[] {
  const patterns = new Map<string, string>()
  for (const { name, value } of values)
    for (const form of value.length < shortestEncoded ? [value] : formsOf(value))
      if (form !== '' && !patterns.has(form)) patterns.set(form, name)
  return [...patterns].map(([form, name]) => ({ bytes: Buffer.from(form, 'utf8'), name }))
}

/** Every text that stands for a value. */
export function formsOf(value: string): readonly string[] {
  const bytes = Buffer.from(value, 'utf8')
  const hex = bytes.toString('hex')
  const percent = hex.replace(/../g, '%$&')
  const component = encodeURIComponent(value.toWellFormed())
  const inJson = JSON.stringify(value).slice(1, -1)
  const ascii = inJson.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
  const forms = [
    value,
    inJson,
    ascii,
    inJson.replaceAll('/', '\\/'),
    // As Go writes it.
    inJson.replace(/[<>&]/g, (character) => `\\u00${character.charCodeAt(0).toString(16)}`),
    // JSON in JSON.
    JSON.stringify(inJson).slice(1, -1),
    hex,
    hex.toUpperCase(),
    percent,
    percent.toUpperCase(),
    component,
    component.replace(/%../g, (code) => code.toLowerCase()),
    // RFC 3986 leaves fewer characters as they are, and forms write a space as `+`.
    component.replace(/[!'()*]/g, percentOf),
    component.replace(/[!'()*~]/g, percentOf).replaceAll('%20', '+'),
    ...htmlForms(value),
    ...base64Forms(bytes),
  ]
  return [...new Set(forms)]
}

const percentOf = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`

function htmlForms(value: string): readonly string[] {
  const basic = value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  const quoted = basic.replaceAll('"', '&quot;')
  return [
    basic,
    quoted,
    quoted.replaceAll("'", '&#39;'),
    quoted.replaceAll("'", '&#x27;'),
    quoted.replaceAll("'", '&apos;'),
  ]
}

/**
 * A value in the middle of something that was encoded begins at one of three places of a group of four characters. The
 * characters that it shares with what stands before and after are not its own; what they tell is less than one byte.
 */
function base64Forms(bytes: Buffer): readonly string[] {
  const forms: string[] = []
  for (const before of [0, 1, 2]) {
    const whole = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64')
    const from = before === 0 ? 0 : before + 1
    const bits = (before + bytes.length) * 8
    // Where it ends the text, its last character is its own; the padding may stand there or not.
    for (const form of [
      whole.slice(from, Math.floor(bits / 6)),
      whole.slice(from, Math.ceil(bits / 6)),
      whole.slice(from),
    ])
      forms.push(
        form,
        form.replaceAll('+', '-').replaceAll('/', '_'),
        form.replaceAll('+', '%2B').replaceAll('/', '%2F').replaceAll('=', '%3D'),
      )
  }
  return forms
}

// oxlint-disable typescript/no-non-null-assertion -- every index below is a byte, a state or a class, for which the arrays were made

// The sieve -----------------------------------------------------------------------------------------------------------

/** What is searched for: nearly all places are ruled out by the sieve, and the automaton looks at what is left. */
interface Search {
  readonly isEmpty: boolean
  /** Bytes of the shortest pattern; without end where there is none. */
  readonly shortest: number
  readonly sieve: Sieve | undefined
  readonly automaton: Automaton
}

function prepare(patterns: readonly Pattern[]): Search {
  const shortest = patterns.reduce((least, { bytes }) => Math.min(least, bytes.length), Number.POSITIVE_INFINITY)
  const isEmpty = patterns.length === 0
  return { isEmpty, shortest, sieve: isEmpty ? undefined : sieveOf(patterns, shortest), automaton: build(patterns) }
}

/**
 * Whether four bytes could stand at one of the first `stride` places of a pattern. Wherever a pattern stands, one of any
 * `stride` places in a row is such a place, so only every one of `stride` places has to be looked at (as in the search of
 * Wu and Manber, 1994). It says yes to some that stand in none, never no to one that does.
 */
interface Sieve {
  readonly stride: number
  /** A bit for each hash. */
  readonly bits: Uint32Array
  /** How far a product is shifted to be a hash. */
  readonly shift: number
}

const gram = 4
const longestStride = 64
const multiplier = 0x9e3779b1 // Knuth, vol. 3, 6.4: the golden ratio.

function sieveOf(patterns: readonly Pattern[], shortest: number): Sieve | undefined {
  if (shortest < gram) return undefined
  const stride = Math.min(longestStride, shortest - gram + 1)
  const grams = new Set(
    patterns.flatMap(({ bytes }) => Array.from({ length: stride }, (_, at) => bytes.readInt32LE(at))),
  )
  // One bit of 32 or fewer is set; 2 MB at most.
  const log = Math.min(24, Math.max(12, Math.ceil(Math.log2(grams.size * 32))))
  const bits = new Uint32Array(2 ** (log - 5))
  const shift = 32 - log
  for (const each of grams) {
    const hash = Math.imul(each, multiplier) >>> shift
    bits[hash >>> 5]! |= 1 << (hash & 31)
  }
  return { stride, bits, shift }
}

/** The first of every `stride` places from `at` on where a pattern could stand, or the first beyond the last four bytes. */
function candidate({ stride, bits, shift }: Sieve, bytes: Uint8Array, from: number): number {
  const last = bytes.length - gram
  let at = from
  for (; at <= last; at += stride) {
    const four = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    const hash = Math.imul(four, multiplier) >>> shift
    if ((bits[hash >>> 5]! & (1 << (hash & 31))) !== 0) break
  }
  return at
}

// The automaton (Aho and Corasick, 1975) ------------------------------------------------------------------------------

interface Automaton {
  /** The class of each byte: those that stand in no pattern share class 0. */
  readonly classes: Uint16Array
  /** Where the row of a state begins in `rows`; -1 for a state that has but one way on, in `way` and `to`. */
  readonly row: Int32Array
  readonly rows: Int32Array
  readonly way: Uint16Array
  readonly to: Int32Array
  readonly fail: Int32Array
  readonly depth: Int32Array
  /** Length of the longest pattern that ends in a state, or 0. */
  readonly length: Int32Array
  /** Index into `names` of that pattern. */
  readonly of: Int32Array
  readonly names: readonly string[]
}

function build(patterns: readonly Pattern[]): Automaton {
  const classes = new Uint16Array(256)
  let width = 1
  const names: string[] = []
  const nameAt = new Map<string, number>()
  let most = 1
  for (const { bytes, name } of patterns) {
    most += bytes.length
    for (const byte of bytes) if (classes[byte] === 0) classes[byte] = width++
    if (!nameAt.has(name)) nameAt.set(name, names.push(name) - 1)
  }

  // The tree of all patterns: nearly every node has one child, so those stand in two arrays, and only the others in maps.
  const way = new Uint16Array(most)
  const to = new Int32Array(most)
  const more = new Map<number, Map<number, number>>()
  const depth = new Int32Array(most)
  const length = new Int32Array(most)
  const of = new Int32Array(most)
  const childOf = (state: number, unit: number): number =>
    way[state] === unit ? to[state]! : (more.get(state)?.get(unit) ?? 0)
  let count = 1
  for (const { bytes, name } of patterns) {
    let state = 0
    for (const [at, byte] of bytes.entries()) {
      const unit = classes[byte]!
      let next = childOf(state, unit)
      if (next === 0) {
        next = count++
        depth[next] = at + 1
        if (way[state] === 0) {
          way[state] = unit
          to[state] = next
        } else {
          const others = more.get(state) ?? new Map<number, number>()
          more.set(state, others.set(unit, next))
        }
      }
      state = next
    }
    length[state] = bytes.length
    of[state] = nameAt.get(name)!
  }

  // Breadth first. States near the root are where nearly all text leads: they have a row, in which every way is known.
  const fail = new Int32Array(count)
  const row = new Int32Array(count).fill(-1)
  const rows: number[] = []
  const step = (from: number, unit: number): number => {
    for (let state = from; ; state = fail[state]!) {
      if (row[state]! >= 0) return rows[row[state]! + unit]!
      if (way[state] === unit) return to[state]!
    }
  }
  const queue = new Int32Array(count)
  let tail = 1
  for (let head = 0; head < tail; head++) {
    const state = queue[head]!
    const others = more.get(state)
    const children: [number, number][] = way[state] === 0 ? [] : [[way[state]!, to[state]!], ...(others ?? [])]
    for (const [unit, child] of children) {
      fail[child] = state === 0 ? 0 : step(fail[state]!, unit)
      const shorter = fail[child]
      if (length[child] === 0 && length[shorter]! > 0) {
        length[child] = length[shorter]!
        of[child] = of[shorter]!
      }
      queue[tail++] = child
    }
    if (depth[state]! > 2 && others === undefined) continue
    const own = Array.from({ length: width }, (_, unit) => (state === 0 || unit === 0 ? 0 : step(fail[state]!, unit)))
    for (const [unit, child] of children) own[unit] = child
    row[state] = rows.length
    for (const next of own) rows.push(next)
  }
  return {
    classes,
    row,
    rows: Int32Array.from(rows),
    way,
    to,
    fail,
    depth,
    length,
    of,
    names,
  }
}

interface Scan extends MaskStream {
  hasFound(): boolean
}

/** A part of the whole that is replaced, and whose it is. */
interface Region {
  from: number
  until: number
  readonly names: number[]
}

const nothing: Uint8Array = Buffer.alloc(0)

/** Goes through bytes once. Secrets that overlap are replaced together. */
function createScan({ isEmpty, sieve, automaton }: Search): Scan {
  const { classes, row, rows, way, to, fail, depth, length, of, names } = automaton
  const stride = sieve?.stride ?? 0
  /** The sieve takes over where so little could have begun that it gains more than it looks at again. */
  const shallow = sieve === undefined ? -1 : (stride - 1) >> 1
  let state = 0
  /** What was read and not given out, and where in the whole it begins. */
  let held = nothing
  let base = 0
  /** What is to be replaced in it, in order. The last ones may still grow. */
  let regions: Region[] = []
  let isFound = false

  function cover(from: number, until: number, name: number): void {
    isFound = true
    const found: Region = { from, until, names: [name] }
    for (let last = regions.at(-1); last !== undefined && from < last.until; last = regions.at(-1)) {
      found.from = Math.min(found.from, last.from)
      found.names.unshift(...last.names.filter((each) => !found.names.includes(each)))
      regions.pop()
    }
    regions.push(found)
  }

  /** Gives out what lies before `limit`: nothing that comes can reach behind it. */
  function give(limit: number): Uint8Array {
    const parts: Uint8Array[] = []
    let at = base
    let done = 0
    for (const { from, until, names: own } of regions) {
      if (until > limit) break
      const shown = `[secret ${own.map((name) => names[name]).join(', ')}]`
      parts.push(held.subarray(at - base, from - base), Buffer.from(shown, 'utf8'))
      at = until
      done += 1
    }
    const open = regions[done]
    const free = Math.max(at, open === undefined ? limit : Math.min(limit, open.from))
    parts.push(held.subarray(at - base, free - base))
    // A copy, so that a few bytes don't keep the whole of a chunk.
    held = free - base === held.length ? nothing : Uint8Array.prototype.slice.call(held, free - base)
    base = free
    if (done > 0) regions = regions.slice(done)
    const [only = nothing] = parts
    return parts.length === 1 ? only : Buffer.concat(parts)
  }

  /** The state after a chunk. `begin`: where in the whole that begins. */
  function walk(chunk: Uint8Array, begin: number): number {
    let current = state
    let at = 0
    /** Where the sieve found something, which the automaton has to pass. */
    let looked = -1
    while (at < chunk.length) {
      if (at > looked && depth[current]! <= shallow && sieve !== undefined) {
        // INVARIANT: no pattern begins before `at`, save within the last `depth` bytes; those places are sieved too.
        looked = candidate(sieve, chunk, at - depth[current]! + stride - 1)
        // One that begins earlier would have been seen at a place before this one.
        const from = looked - stride + 1
        if (from > at) {
          current = 0
          at = from
        }
      }
      const unit = classes[chunk[at]!]!
      let start = row[current]!
      while (start < 0 && way[current] !== unit) {
        current = fail[current]!
        start = row[current]!
      }
      current = start < 0 ? to[current]! : rows[start + unit]!
      at += 1
      const matched = length[current]!
      if (matched > 0) cover(begin + at - matched, begin + at, of[current]!)
    }
    return current
  }

  return {
    push(chunk) {
      if (isEmpty) return chunk
      const begin = base + held.length
      state = walk(chunk, begin)
      held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      return give(begin + chunk.length - depth[state]!)
    },
    end: () => give(base + held.length),
    hasFound: () => isFound,
  }
}
