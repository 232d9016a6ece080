import { randomInt } from 'node:crypto'

/** How often, and when, something that ended is started again. Times in milliseconds. */
export interface Restarts {
  /** The wait after the first failure; doubled after each further one. 500 unless said. */
  readonly first?: number
  /** The longest wait. One minute unless said. */
  readonly longest?: number
  /** How many failures within `within` make it a lost cause. 8 within 10 minutes unless said. */
  readonly failures?: number
  readonly within?: number
  /** What ran so long is counted as healthy: the waits begin anew. One minute unless said. */
  readonly healthyAfter?: number
}

/** When it failed, as far as that still counts, and how many times in a row. */
export interface History {
  readonly failedAt: readonly number[]
  readonly inARow: number
}

export const noHistory: History = { failedAt: [], inARow: 0 }

/**
 * What to do after another failure: wait so long, or give up. `random` is from [0, 1): a quarter of the wait is left
 * to chance, so that many don't start at once.
 */
export function afterFailure(
  history: History,
  ranFor: number,
  now: number,
  random: number,
  { first = 500, longest = 60_000, failures = 8, within = 600_000, healthyAfter = 60_000 }: Restarts = {},
): { readonly history: History; readonly wait: number | 'give up' } {
  const failedAt = [...history.failedAt.filter((at) => now - at < within && at <= now), now]
  const inARow = ranFor >= healthyAfter ? 1 : history.inARow + 1
  const wait = Math.min(longest, first * 2 ** Math.min(inARow - 1, 30))
  return {
    history: { failedAt, inARow },
    wait: failedAt.length >= failures ? 'give up' : Math.round(wait * (0.75 + 0.25 * random)),
  }
}

/** One life of something. */
export interface Life {
  /** Resolves, with the reason in words, when it ended by itself. */
  readonly ended: Promise<string>
  stop(): Promise<void>
}

export type Condition =
  | { readonly state: 'starting' | 'running' | 'stopped' }
  | { readonly state: 'waiting'; readonly reason: string; readonly until: number }
  /** It is not started again until `restart` is called. */
  | { readonly state: 'failed'; readonly reason: string }

export interface Supervised {
  readonly condition: Condition
  /** Starts it now: after it failed, or instead of waiting. Does nothing while it runs, or after `stop`. */
  restart(): void
  /** Stops it for good. Resolves when it is stopped. */
  stop(): Promise<void>
}

export interface Surroundings {
  readonly now: () => number
  readonly random: () => number
  /** Waits; ends early, without failing, when the signal says so. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>
  readonly onChange?: (condition: Condition) => void
}

/** The real clock and chance. */
export const surroundings: Surroundings = {
  now: Date.now,
  random: () => randomInt(2 ** 32) / 2 ** 32,
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal.addEventListener('abort', done)
      if (signal.aborted) done()
    }),
}

/**
 * Keeps something running: starts it, and again after it ended or could not be started, with growing waits; gives up
 * when it fails too often. `start` fails with a reason that may be shown, and leaves nothing behind when it does; it
 * gives up when the signal says so.
 */
export function supervise(
  start: (signal: AbortSignal) => Promise<Life>,
  restarts: Restarts,
  around: Surroundings,
): Supervised {
  let condition: Condition = { state: 'starting' }
  let history = noHistory
  let awake = new AbortController()
  const stopping = new AbortController()
  let life: Life | undefined

  const become = (next: Condition): void => {
    condition = next
    around.onChange?.(next)
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      become({ state: 'starting' })
      const since = around.now()
      const reason = await live()
      life = undefined
      if (stopping.signal.aborted) break
      const next = afterFailure(history, around.now() - since, around.now(), around.random(), restarts)
      history = next.history
      awake = new AbortController()
      if (next.wait === 'give up') {
        become({
          state: 'failed',
          reason: `it failed ${history.failedAt.length} times, the last time because ${reason}`,
        })
        await aborted(awake.signal)
        history = noHistory
      } else {
        become({ state: 'waiting', reason, until: around.now() + next.wait })
        await around.sleep(next.wait, awake.signal)
      }
    }
    become({ state: 'stopped' })
  }

  /** From start to end. Returns why it ended. */
  async function live(): Promise<string> {
    try {
      life = await start(stopping.signal)
    } catch (thrown) {
      return thrown instanceof Error ? thrown.message : 'it could not be started'
    }
    if (stopping.signal.aborted) await life.stop().catch(() => {})
    else become({ state: 'running' })
    return life.ended
  }

  const over = run()
  return {
    get condition() {
      return condition
    },
    restart: () => awake.abort(),
    async stop() {
      stopping.abort()
      awake.abort()
      await life?.stop().catch(() => {})
      await over
    },
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
