import { parseDuration } from '../config/quantity.ts'
import { printable } from '../core/printable.ts'
import type { Json } from '../core/json.ts'

// What strangers wrote, made fit for a terminal: nothing that it obeys, nothing that can't be seen, nothing too wide.

/** Blanks that look like a space and are none. */
const otherSpaces = /(?! )\p{Zs}/gu

/** Text by strangers on one line, with everything that a terminal obeys or that can't be seen written out. */
export const safe = (text: string, options: { readonly maxLength?: number } = {}): string =>
  printable(text, options).replace(otherSpaces, (space) => `\\u{${space.charCodeAt(0).toString(16)}}`)

const invisible = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?! )\p{Zs}/gu

const unitEscapes = (character: string): string =>
  Array.from({ length: character.length }, (_, at) => character.charCodeAt(at))
    .map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`)
    .join('')

/** JSON in lines, keys sorted as in canonical JSON, with everything that can't be seen as `\uXXXX`: still JSON, and the same value. */
export function jsonLines(value: Json, indent = ''): readonly string[] {
  if (typeof value !== 'object' || value === null) return [`${indent}${jsonScalar(value)}`]
  const isArray = Array.isArray(value)
  const inner = isArray
    ? value.map((item: Json) => jsonLines(item, `${indent}  `))
    : Object.keys(value as object)
        .sort()
        .map((key) => {
          const [first = '', ...rest] = jsonLines((value as Readonly<Record<string, Json>>)[key] ?? null, `${indent}  `)
          return [`${indent}  ${jsonScalar(key)}: ${first.trimStart()}`, ...rest]
        })
  const [open, close] = isArray ? '[]' : '{}'
  if (inner.length === 0) return [`${indent}${open}${close}`]
  const lines = inner.flatMap((each, position) =>
    position === inner.length - 1 ? each : [...each.slice(0, -1), `${each.at(-1)},`],
  )
  return [`${indent}${open}`, ...lines, `${indent}${close}`]
}

export const jsonScalar = (value: null | boolean | number | string): string =>
  JSON.stringify(value).replace(invisible, unitEscapes)

/** Any value as JSON that is safe on a terminal. */
export const jsonText = (value: unknown): string =>
  JSON.stringify(value, undefined, 2).replace(invisible, (character) =>
    character === '\n' ? character : unitEscapes(character),
  )

/**
 * Characters of two columns (East Asian Wide and Fullwidth, emoji), rather too many than too few: a line may turn out
 * shorter than it could be, and never longer.
 */
const wide =
  /[\u1100-\u115f\u231a\u231b\u2329\u232a\u2600-\u27bf\u2b00-\u2bff\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{16fe0}-\u{18fff}\u{1aff0}-\u{1b2ff}\u{1d300}-\u{1d37f}\u{1f000}-\u{1faff}\u{20000}-\u{3ffff}]|\p{Emoji_Presentation}/u
const zero = /[\p{Mn}\p{Me}]/u

const widthOf = (character: string): number =>
  character < '\u0300' ? 1 : zero.test(character) ? 0 : wide.test(character) ? 2 : 1

/** How many columns safe text takes, at most. */
export function width(text: string): number {
  let columns = 0
  for (const character of text) columns += widthOf(character)
  return columns
}

/** Safe text cut to so many columns, with `…` where something was left off. */
export function cut(text: string, columns: number): string {
  if (width(text) <= columns) return text
  let [shown, taken] = ['', 0]
  for (const character of text) {
    taken += widthOf(character)
    if (taken > columns - 1) break
    shown += character
  }
  return columns < 1 ? '' : `${shown}…`
}

/** Safe text cut or filled to exactly so many columns. */
export function fit(text: string, columns: number): string {
  const shown = cut(text, columns)
  return shown + ' '.repeat(Math.max(0, columns - width(shown)))
}

/** Safe text in lines of at most so many columns. Breaks at spaces where `words` says so, else anywhere. */
export function wrap(text: string, columns: number, { words = false } = {}): readonly string[] {
  const most = Math.max(2, columns)
  const lines: string[] = []
  let [line, taken] = ['', 0]
  for (const part of words ? text.split(/(?<= )/) : [text]) {
    if (words && taken > 0 && taken + width(part.trimEnd()) > most) {
      lines.push(line)
      ;[line, taken] = ['', 0]
    }
    for (const character of part) {
      const step = widthOf(character)
      if (taken + step > most) {
        lines.push(line)
        ;[line, taken] = ['', 0]
      }
      line += character
      taken += step
    }
  }
  return [...lines, line]
}

/** Rows in columns as wide as they need be, the last one as it is. The cells have to be safe already. */
export function columnsOf(rows: readonly (readonly string[])[], gap = 2): readonly string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => width(row[column] ?? ''))))
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : fit(cell, (widths[column] ?? 0) + gap)))
      .join('')
      .trimEnd(),
  )
}

/** A span of time in the two largest units: `4 min 12 s`. */
export function span(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min${seconds % 60 === 0 ? '' : ` ${seconds % 60} s`}`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h${minutes % 60 === 0 ? '' : ` ${minutes % 60} min`}`
  return `${Math.floor(hours / 24)} days`
}

/** A number of bytes, in about three digits: `512 B`, `1.5 MB`. A kB has 1,000, as in configuration. */
export function bytes(count: number): string {
  let [amount, unit] = [count, 0]
  for (; Math.round(amount * 10) >= 10_000 && unit < 4; unit++) amount /= 1_000
  return unit === 0 ? `${count} B` : `${amount.toFixed(amount < 99.95 ? 1 : 0)} ${['B', 'kB', 'MB', 'GB', 'TB'][unit]}`
}

/** A moment as people write it, in UTC: `2027-01-15 08:00:00Z`. */
export function moment(at: number): string {
  const date = new Date(at)
  return Number.isNaN(date.getTime())
    ? '?'
    : date
        .toISOString()
        .replace('T', ' ')
        .replace(/\.\d+Z$/, 'Z')
}

/** A duration in milliseconds: as in configuration (`30 min`), and with `m` and `d` for short. */
export const readDuration = (text: string): number =>
  parseDuration(
    text
      .trim()
      .replace(/^([\d.]+) ?m$/, '$1 min')
      .replace(/^([\d.]+) ?d$/, '$1 days'),
  )
