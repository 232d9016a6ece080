import { styleText } from 'node:util'
import type { ReadStream } from 'node:tty'

/** What a command reads and writes, so that tests can stand in for a terminal. */
export interface Io {
  /** Writes to standard output, and ends the line where the text does not. */
  readonly out: (text: string) => void
  /** The same for standard error: errors, warnings, questions. */
  readonly err: (text: string) => void
  /** Whether a person is at both ends: standard input and output are a terminal. */
  readonly isTty: boolean
  readonly color: boolean
  readonly columns: number
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  readonly stdin: NodeJS.ReadableStream & Partial<Pick<ReadStream, 'isTTY' | 'setRawMode'>>
}

export type Style = Parameters<typeof styleText>[0]

/** Text in a style, where the terminal shows any. The text has to be safe to show already. */
export const paint = ({ color }: Pick<Io, 'color'>, style: Style, text: string): string =>
  color ? styleText(style, text, { validateStream: false }) : text

/** The terminal, or what stands in its place. https://no-color.org is honoured. */
export function processIo(): Io {
  const { stdin, stdout, stderr, env } = process
  return {
    out: (text) => void stdout.write(ended(text)),
    err: (text) => void stderr.write(ended(text)),
    isTty: stdin.isTTY && stdout.isTTY,
    color: stdout.isTTY && !env['NO_COLOR'] && env['TERM'] !== 'dumb',
    columns: Math.max(20, stdout.columns || 80),
    env,
    cwd: process.cwd(),
    stdin,
  }
}

/** As much of it as commands need that only look and tell. */
export type CommandIo = Pick<Io, 'out' | 'err' | 'cwd'>

const ended = (text: string): string => (text.endsWith('\n') ? text : `${text}\n`)

/** The next line of standard input, after a question; empty where the input ends. */
export async function ask(io: Pick<Io, 'err' | 'stdin'>, question: string): Promise<string> {
  io.err(question)
  const { createInterface } = await import('node:readline')
  const lines = createInterface({ input: io.stdin, terminal: false })
  try {
    for await (const line of lines) return line.trim()
    return ''
  } finally {
    lines.close()
  }
}
