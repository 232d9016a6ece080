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
  /** What is certain so far. No more is held back than could begin a secret. */
  push(chunk: Uint8Array): Uint8Array
  end(): Uint8Array
}

/** @param values - The same array for as long as nothing changed: then nothing is prepared anew. */
export function createMasker(values: () => readonly Masked[]): Masker {
  let prepared: { readonly from: readonly Masked[]; readonly units: Automaton; bytes?: Automaton } | undefined

  function ready(): NonNullable<typeof prepared> {
    const from = values()
    if (prepared?.from !== from) prepared = { from, units: build(patternsOf(from, (text) => text)) }
    return prepared
  }
  const forUnits = (): Automaton => ready().units
  const forBytes = (): Automaton => {
    const own = ready()
    return (own.bytes ??= build(patternsOf(own.from, (text) => Buffer.from(text, 'utf8').toString('latin1'))))
  }

  function text(given: string): string {
    const automaton = forUnits()
    if (automaton.isEmpty) return given
    const scan = createScan(automaton)
    const masked = scan.push(given) + scan.end()
    return scan.hasFound() ? masked : given
  }

  function json<T extends Json>(value: T): T {
    return (forUnits().isEmpty ? value : jsonMasked(value, text)) as T
  }

  return {
    text,
    json,
    bytes(bytes) {
      const automaton = forBytes()
      if (automaton.isEmpty) return bytes
      const scan = createScan(automaton)
      const head = scan.push(latin1(bytes))
      return Buffer.from(head + scan.end(), 'latin1')
    },
    stream() {
      const scan = createScan(forBytes())
      return {
        push: (chunk) => Buffer.from(scan.push(latin1(chunk)), 'latin1'),
        end: () => Buffer.from(scan.end(), 'latin1'),
      }
    },
  }
}

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

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
  readonly text: string
  readonly name: string
}

const shortestEncoded = 8

function patternsOf(values: readonly Masked[], encode: (text: string) => string): readonly Pattern[] {
  const patterns = new Map<string, string>()
  for (const { name, value } of values)
    for (const form of value.length < shortestEncoded ? [value] : formsOf(value)) {
      const text = encode(form)
      if (text !== '' && !patterns.has(text)) patterns.set(text, name)
    }
  return [...patterns].map(([text, name]) => ({ text, name }))
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

// oxlint-disable typescript/no-non-null-assertion -- every index below is a state or a class, for which the arrays were made

// The automaton (Aho and Corasick, 1975) ------------------------------------------------------------------------------

interface Automaton {
  readonly isEmpty: boolean
  /** The class of each UTF-16 unit: units that stand in no pattern share class 0. */
  readonly classes: Uint16Array
  readonly width: number
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
  const classes = new Uint16Array(65_536)
  let width = 1
  const names: string[] = []
  const nameAt = new Map<string, number>()
  let most = 1
  for (const { text, name } of patterns) {
    most += text.length
    for (let at = 0; at < text.length; at++)
      if (classes[text.charCodeAt(at)] === 0) classes[text.charCodeAt(at)] = width++
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
  for (const { text, name } of patterns) {
    let state = 0
    for (let at = 0; at < text.length; at++) {
      const unit = classes[text.charCodeAt(at)]!
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
    length[state] = text.length
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
    isEmpty: patterns.length === 0,
    classes,
    width,
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

interface Scan {
  /** The text up to where a secret could still begin or grow, with secrets replaced. */
  push(text: string): string
  end(): string
  hasFound(): boolean
}

/** A part of the whole text that is replaced, and whose it is. */
interface Region {
  from: number
  until: number
  readonly names: number[]
}

/** Goes through a text once. Secrets that overlap are replaced together. */
function createScan({ classes, row, rows, way, to, fail, depth, length, of, names }: Automaton): Scan {
  let state = 0
  /** What was read and not given out, and where in the whole text it begins. */
  let held = ''
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
  function give(limit: number): string {
    let out = ''
    let at = base
    let done = 0
    for (const { from, until, names: own } of regions) {
      if (until > limit) break
      out += `${held.slice(at - base, from - base)}[secret ${own.map((name) => names[name]).join(', ')}]`
      at = until
      done += 1
    }
    const open = regions[done]
    const free = Math.max(at, open === undefined ? limit : Math.min(limit, open.from))
    out += held.slice(at - base, free - base)
    held = held.slice(free - base)
    base = free
    regions = regions.slice(done)
    return out
  }

  return {
    push(text) {
      const begin = base + held.length
      held += text
      let current = state
      for (let at = 0; at < text.length; at++) {
        const unit = classes[text.charCodeAt(at)]!
        let start = row[current]!
        while (start < 0 && way[current] !== unit) {
          current = fail[current]!
          start = row[current]!
        }
        current = start < 0 ? to[current]! : rows[start + unit]!
        const matched = length[current]!
        if (matched > 0) cover(begin + at + 1 - matched, begin + at + 1, of[current]!)
      }
      state = current
      return give(begin + text.length - depth[current]!)
    },
    end: () => give(base + held.length),
    hasFound: () => isFound,
  }
}
