import { once } from 'node:events'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { quoted } from './names.ts'
import type { Reach } from './reach.ts'

// What a change would touch, found out in a thread: it is the text of an agent that is parsed.

/** Milliseconds for one text, the start of the thread among them. */
const mostTime = 3_000
/** How many texts may wait at all, and of one caller. */
const mostWaiting = 64
const mostOfCaller = 4

export interface ReachFinder {
  /** Never rejects: what can't be found out is `unknown`, with the reason. */
  find(text: string, caller: string): Promise<Reach>
}

const unknown = (because: string): Reach => ({ kind: 'unknown', because })

/** Finds out one after the other, each in a thread of its own: people are asked seldom, and nothing stays behind. */
export function createReachFinder(): ReachFinder {
  const waiting = new Map<string, number>()
  let inAll = 0
  let last: Promise<unknown> = Promise.resolve()

  function count(caller: string, by: number): void {
    inAll += by
    const own = (waiting.get(caller) ?? 0) + by
    if (own === 0) waiting.delete(caller)
    else waiting.set(caller, own)
  }

  return {
    async find(text, caller) {
      if (inAll >= mostWaiting || (waiting.get(caller) ?? 0) >= mostOfCaller)
        return unknown('too many questions are being made ready')
      count(caller, 1)
      const found = last.then(() => findOnce(text)).finally(() => count(caller, -1))
      last = found
      return found
    },
  }
}

async function findOnce(text: string): Promise<Reach> {
  const worker = new Worker(new URL(`reach-worker${extname(import.meta.url)}`, import.meta.url), {
    name: 'sallyport-sql-reach',
    workerData: text,
    env: {},
    execArgv: ['--report-exclude-env'],
    stdout: true,
    stderr: true,
    resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 32 },
  })
  worker.stdout.resume()
  worker.stderr.resume()
  try {
    const [reach] = (await once(worker, 'message', { signal: AbortSignal.timeout(mostTime) })) as [Reach]
    return reach
  } catch {
    return unknown('it could not be taken apart')
  } finally {
    await worker.terminate()
  }
}

type Query = Extract<Reach, { readonly kind: 'query' }>

/** Counts the rows: each row of the target once, where a key tells rows apart. */
export const countText = ({ before, from, target, isJoined }: Query, key: readonly string[]): string =>
  isJoined && target !== undefined && key.length > 0
    ? `${before}select count(distinct (${columnsOf(target, key)}))${from}`
    : `${before}select count(*)${from}`

/** Whether `countText` says how many rows, and not only how many at most. */
export const isExact = ({ isJoined }: Query, key: readonly string[]): boolean => !isJoined || key.length > 0

/** Some of the rows. */
export const sampleText = ({ before, from, target }: Query, columns: readonly string[], most: number): string =>
  `${before}select ${target === undefined ? '*' : columnsOf(target, columns)}${from}\nlimit ${most}`

/** What the planner believes. */
export const estimateText = ({ before, from }: Query): string => `explain (format json) ${before}select 1${from}`

const columnsOf = (target: string, columns: readonly string[]): string =>
  columns.map((column) => `${quoted(target)}.${quoted(column)}`).join(', ')
