// A benchmark is several processes, so that what is measured and what measures it don't share an event loop. The one
// that was started asks the others over IPC, one question at a time.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

/** Another process of a benchmark. */
export interface Part {
  ask<T>(question: object): Promise<T>
  /** Lets it end by itself, and kills it after 10 s. */
  end(): Promise<void>
}

export function startPart(file: string, args: readonly string[] = [], execArgv: readonly string[] = []): Part {
  const child = fork(path.join(import.meta.dirname, file), args, { execArgv: [...execArgv] })
  const ended = once(child, 'exit').then(([code, signal]) => ({ error: `${file} ended (${code ?? signal})` }))
  ended.catch(() => {})
  return {
    async ask<T>(question: object): Promise<T> {
      const heard = once(child, 'message').then(([message]) => message as { answer?: T; error?: string })
      child.send(question)
      const { answer, error } = (await Promise.race([heard, ended])) as { answer?: T; error?: string }
      if (error !== undefined) throw new Error(error)
      return answer as T
    },
    async end() {
      if (child.connected) child.disconnect()
      const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
      await ended
      clearTimeout(late)
    },
  }
}

/** In such a process: answers questions until nobody asks any more. */
export function answerQuestions(answer: (question: never) => unknown, end: () => Promise<void> = async () => {}): void {
  process.on('message', (question) => {
    Promise.resolve()
      .then(() => answer(question as never))
      .then(
        (given) => process.send?.({ answer: given ?? null }),
        (thrown: unknown) =>
          process.send?.({ error: thrown instanceof Error ? (thrown.stack ?? thrown.message) : 'failed' }),
      )
  })
  process.once('disconnect', () => void end().finally(() => process.exit()))
}

/** A folder of its own on a disk, gone afterwards. */
export async function inFolder<T>(run: (folder: string) => Promise<T>): Promise<T> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-bench-'))
  try {
    return await run(folder)
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** How often a second the disk of a folder takes 600 bytes and makes them durable, now: measured for some time (ms). */
export function syncsPerSecond(folder: string, time = 300): number {
  const file = path.join(folder, 'syncs')
  const fd = fs.openSync(file, 'w')
  const bytes = Buffer.alloc(600, 'x')
  const started = performance.now()
  let count = 0
  while (performance.now() - started < time) {
    fs.writeSync(fd, bytes, 0, bytes.length, count * bytes.length)
    fs.fdatasyncSync(fd)
    count += 1
  }
  const elapsed = performance.now() - started
  fs.closeSync(fd)
  fs.rmSync(file)
  return count / (elapsed / 1000)
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** `--calls 500` of the command line. */
export function flag(name: string, byDefault: number): number {
  const at = process.argv.indexOf(`--${name}`)
  const given = at < 0 ? byDefault : Number(process.argv[at + 1])
  if (!Number.isFinite(given) || given <= 0) throw new TypeError(`--${name} needs a number above 0`)
  return given
}

/** Where it was measured, in a line. */
export const machine = (): string =>
  `${os.cpus().length} × ${os.cpus()[0]?.model.trim() ?? 'unknown processor'}, Node ${process.version}, ${os.platform()} ${os.release()}, ${new Date().toISOString().slice(0, 10)}`
