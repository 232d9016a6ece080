import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { Failure } from '../core/failure.ts'
import type { Database } from './description.ts'
import { isFields, isStar } from './tree.ts'
import type { Fields } from './tree.ts'
import type { Refused, Understood, Verdict } from './verdict.ts'
import type { Answer, Order } from './worker.ts'

/** How long parsing and checking one text may take, in milliseconds. An ordinary one takes a tenth of one. */
const mostTime = 1_000
/** How many texts of one caller may wait. */
const mostWaiting = 32
/** How many texts may wait at all. */
const mostInAll = 2000
/** How many verdicts are kept for a database, and how many bytes of text and verdicts. */
const mostKept = { entries: 2000, bytes: 8_000_000 }
/** How many descriptions the thread remembers. */
const mostDatabases = 64
/** How many callers are remembered for having brought the thread down. */
const mostOffenders = 1000
/** Comments in comments cost the square of their number, in the parser and in the server alike. */
const mostComments = 50
/** So do runs of characters that operators are made of. Lines of dashes and the like are shorter. */
const mostOperatorRun = 400

export interface CheckerOptions {
  /** Milliseconds that one text may take, where it is not 1,000. Ordinary ones take one; a machine that is busy may need more. */
  readonly deadline?: number
  /** How many texts of one caller may wait, where it is not 32. */
  readonly waiting?: number
}

export interface CheckOptions {
  /** Whether the text has to be exactly one statement. */
  readonly one?: boolean
  /** Who sends it, such as a session: nobody's flood delays others, and whoever sends what breaks the parser has to wait. */
  readonly caller?: string
}

/**
 * Checks texts of SQL in a thread of its own. Verdicts don't depend on who asks, so they are kept by text.
 *
 * Whatever can't be parsed and checked in time and in order is refused: a text that takes too long or breaks the parser,
 * one too many in the queue, one that isn't UTF-8. After a breakdown the thread is started afresh.
 */
export interface Checker {
  /** Bytes are read as UTF-8. Never rejects for what is in the text; rejects with `unavailable` once it is closed. */
  check(text: string | Uint8Array, database: Database, options?: CheckOptions): Promise<Verdict>
  /** The verdict where it is kept. Only texts that were understood are. */
  known(text: string, database: Database, options?: Pick<CheckOptions, 'one'>): Understood | undefined
  close(): Promise<void>
}

interface Job {
  readonly text: string
  readonly database: Database
  readonly one: boolean
  readonly caller: string
  readonly settle: (verdict: Verdict) => void
  readonly fail: (thrown: Error) => void
}

interface Thread {
  readonly worker: Worker
  /** Descriptions that it knows, the oldest first. */
  readonly databases: Map<Database, number>
  isReady: boolean
}

/** The check, with a thread that starts at once. */
export function openChecker({ deadline = mostTime, waiting = mostWaiting }: CheckerOptions = {}): Checker {
  const kept = new WeakMap<Database, Kept>()
  const queue = new Map<string, Job[]>()
  const offenders = new Map<string, Offender>()
  const starts: number[] = []
  let inAll = 0
  let keys = 0
  let thread: Thread | undefined
  let running: { readonly job: Job; readonly timer: NodeJS.Timeout } | undefined
  let pause: NodeJS.Timeout | undefined
  let isClosed = false

  const start = (): void => {
    if (isClosed || thread !== undefined || pause !== undefined) return
    const now = performance.now()
    const recent = starts.filter((time) => now - time < 10_000)
    starts.splice(0, starts.length, ...recent)
    // Whatever brings it down again and again doesn't get the whole machine.
    if (recent.length >= 10) {
      pause = setTimeout(() => {
        pause = undefined
        start()
      }, 1000)
      if (inAll === 0) pause.unref()
      return
    }
    starts.push(now)
    const worker = startThread()
    const started: Thread = { worker, databases: new Map(), isReady: false }
    thread = started
    worker.on('message', (answer: Answer) => {
      if (thread !== started) return
      if (answer.kind === 'ready') started.isReady = true
      else settle(answer.verdict)
      next()
    })
    worker.on('error', () => fall(started))
    worker.on('exit', () => fall(started))
    if (inAll === 0) worker.unref()
  }

  /** The thread is no more, or is to be no more: what it was at is refused. */
  const fall = (fallen: Thread, why = broken): void => {
    if (thread !== fallen) return
    thread = undefined
    void fallen.worker.terminate()
    if (running) {
      blame(offenders, running.job.caller)
      settle(why)
    }
    // Nobody waits for a thread that doesn't come up.
    if (!fallen.isReady) {
      const waiting = [...queue.values()].flat()
      queue.clear()
      inAll -= waiting.length
      for (const job of waiting) job.settle(down)
    }
    start()
  }

  const settle = (verdict: Verdict): void => {
    if (!running) return
    const { job, timer } = running
    clearTimeout(timer)
    running = undefined
    inAll--
    if (inAll === 0) thread?.worker.unref()
    if (verdict.kind === 'understood') keptOf(job.database).keep(keyOf(job.text, job.one), verdict)
    job.settle(verdict)
  }

  const next = (): void => {
    if (running || thread?.isReady !== true) return
    const job = taken(queue)
    if (!job) return
    const current = thread
    const timer = setTimeout(() => fall(current, slow), deadline)
    running = { job, timer }
    try {
      const { text, one } = job
      tell(current.worker, { kind: 'check', key: describe(current, job.database), text, one })
    } catch (thrown) {
      clearTimeout(timer)
      running = undefined
      inAll--
      job.fail(new Failure('internal', 'a statement could not be checked', { cause: thrown }))
      next()
    }
  }

  const describe = ({ worker, databases }: Thread, database: Database): number => {
    const known = databases.get(database)
    if (known !== undefined) return known
    const [oldest] = databases
    if (oldest !== undefined && databases.size >= mostDatabases) {
      databases.delete(oldest[0])
      tell(worker, { kind: 'forget', key: oldest[1] })
    }
    const key = ++keys
    tell(worker, { kind: 'learn', key, database })
    databases.set(database, key)
    return key
  }

  const keptOf = (database: Database): Kept => {
    const found = kept.get(database) ?? keepLatest()
    kept.set(database, found)
    return found
  }

  const known = (text: string, database: Database, one: boolean): Understood | undefined =>
    kept.get(database)?.find(keyOf(text, one))

  start()
  return {
    known: (text, database, { one = false } = {}) => known(text, database, one),

    check: async (given, database, { one = false, caller = '' } = {}) => {
      if (isClosed) throw new Failure('unavailable', 'statements are no longer checked')
      const text = typeof given === 'string' ? given : decoded(given)
      if (typeof text !== 'string') return text
      const found = known(text, database, one) ?? scanned(text, database.most.statement)
      if (found) return found
      if (isResting(offenders, caller)) return resting
      const own = queue.get(caller) ?? []
      if (own.length >= waiting || inAll >= mostInAll) return crowded
      const { promise, resolve: settle, reject: fail } = Promise.withResolvers<Verdict>()
      own.push({ text, database, one, caller, settle, fail })
      queue.set(caller, own)
      inAll++
      thread?.worker.ref()
      pause?.ref()
      next()
      return promise
    },

    close: async () => {
      isClosed = true
      clearTimeout(pause)
      clearTimeout(running?.timer)
      const jobs = [...(running ? [running.job] : []), ...[...queue.values()].flat()]
      running = undefined
      queue.clear()
      inAll = 0
      for (const { fail } of jobs) fail(new Failure('unavailable', 'statements are no longer checked'))
      const { worker } = thread ?? {}
      thread = undefined
      await worker?.terminate()
    },
  }
}

/** It gets no environment, and what the parser prints when it breaks down is nobody's business. */
function startThread(): Worker {
  const worker = new Worker(new URL(`worker${extname(import.meta.url)}`, import.meta.url), {
    name: 'sallyport-sql',
    env: {},
    execArgv: ['--report-exclude-env'],
    stdout: true,
    stderr: true,
    // A small stack: JavaScript's own limit ends a deep recursion of the parser, which has none that it could trust.
    resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 32, stackSizeMb: 1 },
  })
  worker.stdout.resume()
  worker.stderr.resume()
  return worker
}

// oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is a window's
const tell = (worker: Worker, order: Order): void => worker.postMessage(order)

/** The next job: callers take turns, and each one's come in their order. */
function taken(queue: Map<string, Job[]>): Job | undefined {
  const [first] = queue
  if (first === undefined) return undefined
  const [caller, jobs] = first
  const job = jobs.shift()
  queue.delete(caller)
  if (jobs.length > 0) queue.set(caller, jobs)
  return job
}

/** Who sent what broke the parser: how often, and until when nothing more of theirs is parsed. */
interface Offender {
  readonly times: number
  readonly until: number
}

/** Once can be bad luck. From then on the wait doubles, up to a minute. */
function blame(offenders: Map<string, Offender>, caller: string): void {
  const now = performance.now()
  const before = offenders.get(caller)
  const times = before !== undefined && now < before.until + 60_000 ? before.times + 1 : 1
  offenders.delete(caller)
  const [oldest] = offenders.keys()
  if (offenders.size >= mostOffenders && oldest !== undefined) offenders.delete(oldest)
  offenders.set(caller, { times, until: times === 1 ? now : now + Math.min(1000 * 2 ** (times - 2), 60_000) })
}

const isResting = (offenders: ReadonlyMap<string, Offender>, caller: string): boolean =>
  performance.now() < (offenders.get(caller)?.until ?? 0)

const keyOf = (text: string, one: boolean): string => (one ? `1${text}` : `*${text}`)

type Kept = ReturnType<typeof keepLatest>

/** Verdicts by text: those that were used last, bounded in number and in bytes. */
function keepLatest() {
  const entries = new Map<string, { readonly verdict: Understood; readonly bytes: number }>()
  let bytes = 0
  return {
    find: (key: string): Understood | undefined => {
      const found = entries.get(key)
      if (!found) return undefined
      entries.delete(key)
      entries.set(key, found)
      return found.verdict
    },
    keep: (key: string, verdict: Understood): void => {
      if (entries.has(key)) return
      const size = 2 * (key.length + JSON.stringify(verdict).length)
      entries.set(key, { verdict, bytes: size })
      bytes += size
      for (const [oldest, entry] of entries) {
        if (entries.size <= mostKept.entries && bytes <= mostKept.bytes) break
        entries.delete(oldest)
        bytes -= entry.bytes
      }
    },
  }
}

const refused = (sqlstate: string, because: string, hint?: string): Refused => ({
  kind: 'refused',
  sqlstate,
  because,
  ...(hint === undefined ? {} : { hint }),
})

const broken = refused('54001', 'this statement could not be parsed', 'Write it shorter and flatter.')
const slow = refused('54001', 'parsing this statement took too long', 'Write it shorter and flatter.')
const down = refused('58000', 'statements can’t be checked at the moment', 'Try again later.')
const resting = refused('53400', 'earlier statements could not be parsed, so this one has to wait', 'Try again later.')
const crowded = refused('53400', 'too many statements are waiting to be checked', 'Send fewer at a time.')
const notText = refused('22021', 'the statement is not valid UTF-8')

function decoded(bytes: Uint8Array): string | Refused {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return notText
  }
}

const operatorCharacters: ReadonlySet<number> = new Set(Array.from('+-*/<>=~!@#%^&|`?', (each) => each.charCodeAt(0)))
const [slash, star] = ['/', '*'].map((each) => each.charCodeAt(0))

/** What the parser is spared, in one pass over the text. */
function scanned(text: string, mostBytes: number): Refused | undefined {
  if (text.length > mostBytes || Buffer.byteLength(text) > mostBytes)
    return refused('54000', `the statement is longer than ${mostBytes} bytes`, 'Send values as parameters.')
  if (!text.isWellFormed()) return notText
  let comments = 0
  let run = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === 0) return refused('22021', 'the statement holds a NUL character')
    run = operatorCharacters.has(code) ? run + 1 : 0
    if (run > mostOperatorRun)
      return refused('54001', `the statement holds more than ${mostOperatorRun} characters of operators in a row`)
    if (code === slash && text.charCodeAt(at + 1) === star && ++comments > mostComments)
      return refused('54001', `the statement holds more than ${mostComments} comments of the form \`/* */\``)
  }
  return undefined
}

/** An expression of SQL, as the parser sees it. */
export interface Expression {
  readonly tree: Fields
  /** The text that was parsed, in which `location` of nodes counts bytes: the expression begins at `offset`. */
  readonly text: string
  readonly offset: number
}

/**
 * One expression that an operator wrote, for a filter or a mask; never the text of an agent, because it is parsed in the
 * calling thread. In parentheses and with a line break behind it, it stays one expression wherever it is put.
 *
 * Throws `invalid`.
 */
export async function parseExpression(sql: string): Promise<Expression> {
  const { loadModule, parseSync, hasSqlDetails } = await import('libpg-query')
  await loadModule()
  const before = 'select '
  const text = `${before}${sql}`
  const bad = scanned(text, 100_000)
  if (bad) throw new Failure('invalid', bad.because)
  let parsed: unknown
  try {
    parsed = parseSync(text)
    // `all 1` stands behind SELECT, and nowhere else.
    parseSync(`select (${sql}\n)`)
  } catch (thrown) {
    if (!hasSqlDetails(thrown)) throw new Failure('invalid', 'this is nested too deep to be parsed', { cause: thrown })
    throw new Failure('invalid', thrown.message.slice(0, 200))
  }
  const tree = expressionIn(parsed)
  if (tree === undefined) throw new Failure('invalid', 'expected one expression of SQL, and nothing else')
  return { tree, text, offset: before.length }
}

/** What is selected, where that is one expression without a name, and nothing else is in the statement. */
function expressionIn(parsed: unknown): Fields | undefined {
  const [raw, ...others] = listOf(parsed, 'stmts')
  if (others.length > 0 || !isFields(raw) || !isFields(raw['stmt']) || raw['stmt_len'] !== undefined) return undefined
  const {
    targetList,
    limitOption: _,
    op,
    ...rest
  } = isFields(raw['stmt']['SelectStmt']) ? raw['stmt']['SelectStmt'] : {}
  if (op !== 'SETOP_NONE' || Object.keys(rest).length > 0) return undefined
  const [target, ...more] = Array.isArray(targetList) ? (targetList as readonly unknown[]) : []
  if (more.length > 0 || !isFields(target) || !isFields(target['ResTarget'])) return undefined
  const { name, val } = target['ResTarget']
  return name === undefined && isFields(val) && !isStar(val) ? val : undefined
}

const listOf = (value: unknown, field: string): readonly unknown[] => {
  const list = isFields(value) ? value[field] : undefined
  return Array.isArray(list) ? (list as readonly unknown[]) : []
}
