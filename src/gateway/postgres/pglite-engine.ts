import fs from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Worker } from 'node:worker_threads'
import { Failure } from '../../core/failure.ts'
import type { Answer, Order } from './pglite-worker.ts'
import { back, Body, Frames, queryMessage, readFields } from './wire/frames.ts'

// The thread of an embedded database: started when it is needed, ended when a statement can't be stopped otherwise, and
// started again from its folder.

/** The thread was ended, and with it everything that was under way in it. */
export class Crashed extends Error {
  readonly sqlstate: string
  constructor(sqlstate: string, message: string) {
    super(message)
    this.name = 'Crashed'
    this.sqlstate = sqlstate
  }
}

/** How long what is run may take, and how much it may answer. */
export interface Bounds {
  /** Milliseconds. */
  readonly time: number
  readonly bytes: number
}

export interface Engine {
  /**
   * Carries out messages, one call at a time, and hands on what is answered. Fails with `Crashed` where the thread ended
   * meanwhile, and `unavailable` where it can't be started.
   */
  run(messages: Buffer, bounds: Bounds, hear: (bytes: Buffer) => void): Promise<void>
  /** Carries out statements of ours, and gives back the rows of all of them. Fails with an Error in the server's words. */
  query(text: string): Promise<readonly (readonly (string | null)[])[]>
  /** Ends the thread at once. Whoever runs something is told why. */
  crash(because: Crashed): void
  close(): Promise<void>
}

/** Milliseconds for the thread to be ready: an empty folder takes seconds of work. */
const startWithin = 120_000
const ours: Bounds = { time: 60_000, bytes: 64_000_000 }
/** Milliseconds that it has to put its files in order at the end. */
const farewell = 5_000

/** @param onCrash - Told when the thread ended unasked, before anything else is run. */
export function createEngine(folder: string, onCrash: (because: Crashed) => void): Engine {
  let unlock: (() => void) | undefined
  let starting: Promise<Worker> | undefined
  /** The thread that may be told something now. */
  let alive: Worker | undefined
  /** Threads that are ending: two at once may not have the folder. */
  let ending: Promise<unknown> = Promise.resolve()
  let running: { readonly hear: (answer: Answer) => void; readonly fail: (because: Crashed) => void } | undefined
  let isClosed = false

  async function started(): Promise<Worker> {
    if (isClosed) throw new Failure('unavailable', 'the embedded database is closed')
    starting ??= start().catch((thrown: unknown) => {
      starting = undefined
      throw thrown
    })
    return starting
  }

  async function start(): Promise<Worker> {
    await ending
    unlock ??= lock(folder)
    // As this file itself: from source, or compiled.
    const file = new URL(`./pglite-worker${path.extname(import.meta.url)}`, import.meta.url)
    const worker = new Worker(file, { workerData: { folder }, env: {}, execArgv: ['--report-exclude-env'] })
    try {
      await ready(worker)
    } catch (thrown) {
      await worker.terminate()
      throw thrown
    }
    worker.on('message', (answer: Answer) => {
      if (alive === worker) running?.hear(answer)
    })
    worker.on('error', () => {}) // It ends then.
    worker.once('exit', () => {
      if (alive === worker && !isClosed) crash(gone)
    })
    alive = worker
    return worker
  }

  async function ready(worker: Worker): Promise<void> {
    let settle: ((failure?: Failure) => void) | undefined
    const onError = ({ message }: Error): void => settle?.(broken(message))
    const onExit = (): void => settle?.(broken('it ended by itself'))
    const onMessage = (answer: Answer): void =>
      settle?.(answer.kind !== 'failed' ? undefined : answer.isMissing ? missing() : broken(answer.message))
    worker.once('error', onError).once('exit', onExit).once('message', onMessage)
    const late = setTimeout(() => settle?.(broken('it takes too long')), startWithin)
    try {
      await new Promise<void>((resolve, reject) => {
        settle = (failure) => (failure === undefined ? resolve() : reject(failure))
      })
    } finally {
      clearTimeout(late)
      worker.off('error', onError).off('exit', onExit).off('message', onMessage)
    }
  }

  function crash(because: Crashed): void {
    if (alive === undefined) return
    ending = alive.terminate()
    alive = undefined
    starting = undefined
    running?.fail(because)
    onCrash(because)
  }

  async function run(messages: Buffer, { time, bytes }: Bounds, hear: (bytes: Buffer) => void): Promise<void> {
    const worker = await started()
    if (running !== undefined) throw new TypeError('one thing at a time is run in an embedded database')
    let heard = 0
    let late: NodeJS.Timeout | undefined
    try {
      await new Promise<void>((resolve, reject) => {
        running = {
          fail: reject,
          hear(answer) {
            if (answer.kind === 'done') return resolve()
            if (answer.kind !== 'data') return
            heard += answer.bytes.length
            if (heard > bytes) return crash(new Crashed('54000', 'the answer is much larger than it may be'))
            hear(Buffer.from(answer.bytes.buffer, answer.bytes.byteOffset, answer.bytes.byteLength))
          },
        }
        late = setTimeout(
          () => crash(new Crashed('57014', 'canceling statement due to statement timeout')),
          Math.min(time, 2 ** 31 - 1),
        )
        tell(worker, { kind: 'run', messages })
      })
    } finally {
      clearTimeout(late)
      running = undefined
    }
  }

  return {
    run,
    crash,
    async query(text) {
      const frames = new Frames(() => Infinity)
      const rows: (readonly (string | null)[])[] = []
      let wrong: string | undefined
      await run(queryMessage(text), ours, (bytes) => {
        frames.push(bytes)
        while (frames.next())
          if (frames.type === back.dataRow) rows.push(valuesIn(new Body(frames.buffer, frames.start, frames.end)))
          else if (frames.type === back.error)
            wrong ??= readFields(frames.buffer, frames.start, frames.end).get('M') ?? 'an error without words'
      })
      if (wrong !== undefined) throw new Error(wrong)
      return rows
    },
    async close() {
      isClosed = true
      await starting?.catch(() => {})
      if (alive !== undefined) {
        const worker = alive
        const over = new Promise((resolve) => worker.once('exit', resolve))
        tell(worker, { kind: 'end' })
        const late = setTimeout(() => void worker.terminate(), farewell)
        await over
        clearTimeout(late)
      }
      alive = undefined
      running?.fail(gone)
      await ending
      unlock?.()
      unlock = undefined
    },
  }

  function broken(because: string): Failure {
    return new Failure(
      'unavailable',
      `the embedded database in ${folder} can't be opened${because === '' ? '' : `: ${because.slice(0, 200)}`}. If it is not needed any more, remove the folder`,
    )
  }
}

// oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is a window's
const tell = (worker: Worker, order: Order): void => worker.postMessage(order)

const gone = new Crashed('57P02', 'the embedded database ended by itself, and is started again')

const missing = (): Failure =>
  new Failure(
    'unavailable',
    'an embedded database needs a package that is not installed: `npm install @electric-sql/pglite@0.5.16`; or give `postgres:` the address of a server',
  )

const valuesIn = (body: Body): readonly (string | null)[] =>
  Array.from({ length: body.int16() }, () => {
    const length = body.int32()
    return length === -1 ? null : body.take(length).toString('utf8')
  })

/** Keeps every other process out of the folder: two at once would destroy it. The lock ends with the process. */
function lock(folder: string): () => void {
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  const held = new DatabaseSync(`${folder}.lock`, { timeout: 0 })
  try {
    held.exec('begin exclusive')
  } catch (cause) {
    held.close()
    throw new Failure('conflict', `another process has the embedded database in ${folder} open: only one may`, {
      cause,
    })
  }
  return () => held.close()
}
