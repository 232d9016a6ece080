import { setTimeout as pause } from 'node:timers/promises'
import type { Io, Style } from '../../src/cli/io.ts'
import { paint } from '../../src/cli/io.ts'
import { columnsOf, fit, safe, width, wrap } from '../../src/cli/text.ts'

/** Columns that the story fills at most. */
const columns = 80
const margin = '  '
const label = 12

/** Tells the story on a terminal. Everything that agents or the helpdesk said is made safe to show here. */
export interface Narrator {
  title(text: string): void
  act(number: number, title: string): Promise<void>
  /** What happens, in the words of who tells it. */
  say(text: string): Promise<void>
  /** What somebody does. */
  does(who: string, text: string): Promise<void>
  /** Words of a stranger. */
  quote(text: string): Promise<void>
  /** Something that was tried and refused: what the agent was told and, beside it, what people are. */
  refused(what: string, agentSees: string, peopleSee: { readonly label: string; readonly text: string }): Promise<void>
  /** Something that was checked just now. */
  claim(text: string, holds: boolean): Promise<void>
  /** What a person is shown, as it is. */
  card(text: string): Promise<void>
  table(rows: readonly (readonly string[])[]): void
  /** A line as it is. */
  line(text?: string): void
  /** An empty line, unless there is one already. */
  gap(): void
  paint(style: Style, text: string): string
}

export interface Pace {
  /** How long pauses are: 1 for reading at ease; 0 for none. */
  readonly speed: number
  readonly signal: AbortSignal
}

export function createNarrator(io: Io, { speed, signal }: Pace): Narrator {
  const style = (how: Style, text: string): string => paint(io, how, text)
  let isBlank = false
  const line = (text = ''): void => {
    isBlank = text === ''
    io.out(`${text}\n`)
  }
  /** An empty line, unless there is one. */
  const gap = (): void => {
    if (!isBlank) line()
  }
  const wait = async (milliseconds: number): Promise<void> => {
    signal.throwIfAborted()
    if (speed > 0) await pause(milliseconds * speed, undefined, { signal })
  }
  /** Text after a label, its further lines under its first. */
  const labelled = (name: string, how: Style, text: string, textStyle?: Style): void => {
    const lines = text.split('\n').flatMap((each) => wrap(safe(each), columns - label - 4, { words: true }))
    for (const [position, each] of lines.entries()) {
      const head = fit(position === 0 ? name : '', label)
      const shown = each.trim()
      line(`${margin}  ${style(how, head)}${textStyle === undefined ? shown : style(textStyle, shown)}`)
    }
  }

  return {
    line,
    gap,
    paint: style,
    title(text) {
      gap()
      for (const each of wrap(text, columns - 2, { words: true })) line(`${margin}${style('bold', each.trim())}`)
    },
    async act(number, title) {
      const head = `${number}  ${title} `
      gap()
      line(`${margin}${style(['bold', 'cyan'], head)}${style('dim', '─'.repeat(columns - width(head) - 2))}`)
      gap()
      await wait(400)
    },
    async say(text) {
      for (const each of wrap(text, columns - 2, { words: true })) line(`${margin}${each.trim()}`)
      line()
      await wait(500 + text.length * 8)
    },
    async does(who, text) {
      labelled(who, 'blue', text)
      await wait(550)
    },
    async quote(text) {
      gap()
      for (const each of text.split('\n').flatMap((one) => wrap(safe(one), columns - label - 8, { words: true })))
        line(`${margin}  ${' '.repeat(label)}${style('yellow', `│ ${each.trim()}`.trimEnd())}`)
      line()
      await wait(1_800)
    },
    async refused(what, agentSees, peopleSee) {
      line(`${margin}${style('red', '✗')} ${style('bold', safe(what))}`)
      labelled('agent sees', 'dim', agentSees, 'dim')
      labelled(peopleSee.label, 'dim', peopleSee.text)
      await wait(1_100)
    },
    async claim(text, holds) {
      const [mark, how]: [string, Style] = holds ? ['✓', 'green'] : ['✗ NOT TRUE:', ['bold', 'red']]
      const lines = wrap(safe(text), columns - 6, { words: true })
      for (const [position, each] of lines.entries())
        line(`${margin}${position === 0 ? style(how, mark) : ' '} ${each.trim()}`)
      await wait(550)
    },
    async card(text) {
      for (const each of text.split('\n').filter((one) => one.trim() !== ''))
        line(`${margin}${style('magenta', '│')} ${each.trimEnd()}`)
      line()
      await wait(1_200)
    },
    table(rows) {
      for (const [position, each] of columnsOf(rows, 3).entries())
        line(`${margin}  ${position === 0 ? style('dim', each) : each}`)
    },
  }
}
