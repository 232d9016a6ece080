import { spawn, spawnSync } from 'node:child_process'
import path from 'node:path'
import { width } from '../../src/cli/text.ts'

/** Whether this machine can make a pseudo terminal for a test. */
export const hasPseudoTerminal =
  process.platform !== 'win32' && spawnSync('python3', ['-c', 'import pty, os; os.waitstatus_to_exitcode']).status === 0

/** A program in a pseudo terminal, and what a person would see there. */
export interface Terminal {
  readonly pid: number
  /** The screen as lines, without what stands at their ends. */
  lines(): readonly string[]
  /** Everything that was written. */
  raw(): string
  /** Whether the alternate screen is shown. */
  isTakenOver(): boolean
  keys(text: string): void
  resize(rows: number, columns: number): void
  signal(name: string): void
  /** Resolves when the screen fits; fails with the screen as it is after 15 s. */
  until(fits: (screen: string) => boolean): Promise<string>
  readonly exit: Promise<number | null>
  kill(): void
}

const relay = path.join(import.meta.dirname, 'pseudo-terminal.py')

export function openTerminal(
  argv: readonly string[],
  {
    rows = 24,
    columns = 80,
    env = {},
    cwd,
  }: { rows?: number; columns?: number; env?: Record<string, string>; cwd?: string } = {},
): Terminal {
  const child = spawn('python3', [relay, String(rows), String(columns), ...argv], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, TERM: 'xterm-256color', ...env },
    ...(cwd === undefined ? {} : { cwd }),
  })
  const screen = emulator(rows, columns)
  let raw = ''
  const waiting = new Set<() => void>()
  child.stdout.setEncoding('utf8')
  child.stdout.on('data', (text: string) => {
    raw += text
    screen.write(text)
    for (const look of waiting) look()
  })
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve))
  const tell = (command: object): void => void child.stdin.write(`${JSON.stringify(command)}\n`)
  const text = (): string => screen.lines().join('\n')
  return {
    pid: child.pid ?? 0,
    lines: screen.lines,
    raw: () => raw,
    isTakenOver: screen.isAlternate,
    keys: (keys) => tell({ keys }),
    resize(toRows, toColumns) {
      screen.resize(toRows, toColumns)
      tell({ size: [toRows, toColumns] })
    },
    signal: (name) => tell({ signal: name }),
    until: (fits) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (!fits(text())) return
          waiting.delete(look)
          clearTimeout(late)
          resolve(text())
        }
        const late = setTimeout(() => {
          waiting.delete(look)
          reject(new Error(`the screen never showed it:\n${text()}`))
        }, 15_000)
        waiting.add(look)
        look()
      }),
    exit,
    kill: () => void child.kill(),
  }
}

/** As much of a terminal as is needed: placing, clearing, styles (left out), the two screens, wrapping on or off. */
export function emulator(startRows: number, startColumns: number) {
  let [rows, columns] = [startRows, startColumns]
  const blank = (): string[][] => Array.from({ length: rows }, () => Array.from({ length: columns }, () => ' '))
  const screens = { main: blank(), alternate: blank() }
  let [current, row, column, wraps, rest] = ['main' as keyof typeof screens, 0, 0, true, '']

  function put(character: string): void {
    const wide = width(character)
    if (wide === 0) return
    if (column + wide > columns) {
      if (!wraps) return
      ;[row, column] = [row + 1, 0]
    }
    if (row >= rows) {
      screens[current].shift()
      screens[current].push(Array.from({ length: columns }, () => ' '))
      row = rows - 1
    }
    const line = screens[current][row]
    if (line === undefined) return
    line[column] = character
    if (wide === 2) line[column + 1] = ''
    column += wide
  }

  function control(sequence: string): void {
    // eslint-disable-next-line no-control-regex -- As above.
    const [, given = '', final = ''] = /^\x1b\[([?\d;]*)([A-Za-z])$/.exec(sequence) ?? []
    const numbers = given.replace('?', '').split(';').map(Number)
    if (final === 'H') [row, column] = [(numbers[0] || 1) - 1, (numbers[1] || 1) - 1]
    else if (final === 'K') screens[current][row] = Array.from({ length: columns }, () => ' ')
    else if (final === 'J') screens[current] = blank()
    else if ((final === 'h' || final === 'l') && given === '?1049') {
      current = final === 'h' ? 'alternate' : 'main'
      if (current === 'alternate') screens.alternate = blank()
    } else if ((final === 'h' || final === 'l') && given === '?7') wraps = final === 'h'
    else if (final !== 'm' && final !== 'h' && final !== 'l')
      throw new Error(`unknown sequence ${JSON.stringify(sequence)}`)
  }

  return {
    write(text: string): void {
      rest += text
      for (;;) {
        // eslint-disable-next-line no-control-regex -- Control sequences are what is read here.
        const [whole, sequence, character = ''] = /^(?:(\x1b\[[?\d;]*[A-Za-z])|([^\x1b]))/su.exec(rest) ?? []
        if (whole === undefined) return
        rest = rest.slice(whole.length)
        if (sequence !== undefined) control(sequence)
        else if (character === '\r') column = 0
        else if (character === '\n') row += 1
        else if (character !== '\x07') put(character)
      }
    },
    resize(toRows: number, toColumns: number): void {
      ;[rows, columns] = [toRows, toColumns]
      screens.main = blank()
      screens.alternate = blank()
    },
    lines: (): readonly string[] => screens[current].map((line) => line.join('').trimEnd()),
    isAlternate: () => current === 'alternate',
  }
}
