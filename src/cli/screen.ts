import { writeSync } from 'node:fs'
import { emitKeypressEvents } from 'node:readline'
import type { ReadStream } from 'node:tty'
import type { Key, Size } from './inbox.ts'

/** A whole terminal, taken over and given back. */
export interface Screen {
  size(): Size
  /** Shows these lines, one to a row. Only what changed is written. */
  draw(lines: readonly string[], cursor?: { readonly row: number; readonly column: number }): void
  bell(): void
  /** Gives the terminal back while something else runs in it. */
  lend<T>(run: () => Promise<T>): Promise<T>
  /** What Ctrl-Z does: stops this program until the shell lets it go on. */
  suspend(): void
  close(): void
}

export interface ScreenEvents {
  readonly onKey: (key: Key) => void
  /** The size may have changed: everything is to be drawn. */
  readonly onResize: () => void
  readonly onEnd: (signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP') => void
}

// Alternate screen; no wrapping at the edge, so that a line can't become two; pasted text is marked as such.
const enter = '\x1b[?1049h\x1b[?7l\x1b[?2004h\x1b[?25l\x1b[2J'
const leave = '\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[0m\x1b[?1049l'
/** Synchronized output: terminals that know it show a frame at once, others ignore it. */
const [begin, end] = ['\x1b[?2026h', '\x1b[?2026l']

/** Takes the terminal over. It is given back by `close`, and whatever way the process ends short of SIGKILL. */
export function openScreen(stdin: ReadStream, events: ScreenEvents): Screen {
  const { stdout } = process
  let shown: readonly string[] = []
  let isOurs = false
  let isPasting = false

  function take(): void {
    if (isOurs) return
    isOurs = true
    shown = []
    stdin.setRawMode(true)
    stdin.resume()
    stdout.write(enter)
  }

  /** Written at once: the process may be about to end. */
  function give(): void {
    if (!isOurs) return
    isOurs = false
    try {
      writeSync(1, leave)
      stdin.setRawMode(false)
    } catch {
      // The terminal is gone: there is nothing to give back.
    }
    stdin.pause()
  }

  const onKeypress = (
    text: string | undefined,
    key: { name?: string; sequence?: string; ctrl?: boolean } = {},
  ): void => {
    if (!isOurs) return
    if (key.name === 'paste-start' || key.name === 'paste-end') {
      isPasting = key.name === 'paste-start'
      return
    }
    const written = key.ctrl === true || text === undefined || text.startsWith('\x1b') ? '' : text
    // What is pasted is text, whatever keys it looks like: it can't answer a question.
    if (isPasting) return void (written !== '' && events.onKey({ name: 'pasted', text: written }))
    events.onKey({ name: key.name ?? '', text: written, ctrl: key.ctrl === true })
  }

  const onResize = (): void => {
    shown = []
    if (isOurs) events.onResize()
  }
  const onStop = (): void => {
    give()
    process.kill(process.pid, 'SIGSTOP')
  }
  const onContinue = (): void => {
    take()
    events.onResize()
  }
  const onInt = (): void => events.onEnd('SIGINT')
  const onTerm = (): void => events.onEnd('SIGTERM')
  const onHangUp = (): void => events.onEnd('SIGHUP')

  emitKeypressEvents(stdin)
  stdin.on('keypress', onKeypress)
  stdout.on('resize', onResize)
  process.on('exit', give)
  process.on('SIGTSTP', onStop)
  process.on('SIGCONT', onContinue)
  process.on('SIGINT', onInt)
  process.on('SIGTERM', onTerm)
  process.on('SIGHUP', onHangUp)
  take()

  return {
    size: () => ({ rows: stdout.rows || 24, columns: stdout.columns || 80 }),
    draw(lines, cursor) {
      if (!isOurs) return
      let text = ''
      for (const [row, line] of lines.entries()) {
        if (line === shown[row]) continue
        text += `\x1b[${row + 1};1H\x1b[0m\x1b[2K${line}`
      }
      shown = lines
      const place = cursor === undefined ? '\x1b[?25l' : `\x1b[${cursor.row + 1};${cursor.column + 1}H\x1b[?25h`
      stdout.write(`${begin}${text}${place}${end}`)
    },
    bell() {
      if (isOurs) stdout.write('\x07')
    },
    async lend(run) {
      give()
      try {
        return await run()
      } finally {
        take()
        events.onResize()
      }
    },
    // As the terminal does it where it is not in raw mode: the whole foreground group stops.
    suspend: () => void process.kill(0, 'SIGTSTP'),
    close() {
      give()
      stdin.off('keypress', onKeypress)
      stdout.off('resize', onResize)
      process.off('exit', give)
      process.off('SIGTSTP', onStop)
      process.off('SIGCONT', onContinue)
      process.off('SIGINT', onInt)
      process.off('SIGTERM', onTerm)
      process.off('SIGHUP', onHangUp)
    },
  }
}
