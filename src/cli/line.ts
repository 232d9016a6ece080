import { paint } from './io.ts'
import type { Io, Style } from './io.ts'
import { cut, safe, width, wrap } from './text.ts'

// Lines of a page on which words of strangers stand beside ours. Ours begin at the left edge or with a label from a
// fixed list; theirs only ever stand right of a bar, and nothing in them can end a line.

/** A stretch of safe text in one style. */
export type Span = readonly [text: string, style?: Style]
export type Line = readonly Span[]

/** A line as the terminal gets it: never wider than the columns, every style closed. */
export function drawn(line: Line, columns: number, io: Pick<Io, 'color'>): string {
  let [shown, left] = ['', columns]
  for (const [text, style] of line) {
    const part = cut(text, left)
    left -= width(part)
    shown += style === undefined ? part : paint(io, style, part)
    if (part !== text) break
  }
  return shown
}

/** What begins a line of a stranger's, and what begins each further line of the same, where one is too long. */
const bar = '  ┃ '
const bent = '  ┆ '

/** Words of strangers, a line each, right of the bar. */
export const theirs = (lines: readonly string[], columns: number, style?: Style): readonly Line[] =>
  lines.flatMap((line) =>
    wrap(safe(line), columns - bar.length).map((part, position): Line => [
      [position === 0 ? bar : bent, 'dim'],
      style === undefined ? [part] : [part, style],
    ]),
  )

const labelWidth = 12

/** A label of ours and a value; what does not fit goes on below, right of the label. */
export function field(label: string, value: string, columns: number, style?: Style): readonly Line[] {
  const parts = wrap(safe(value), columns - labelWidth - 2, { words: true })
  return parts.map((part, position): Line => [
    [`  ${(position === 0 ? label : '').padEnd(labelWidth)}`, 'dim'],
    style === undefined ? [part] : [part, style],
  ])
}

export const heading = (text: string): Line => [[text, 'bold']]
