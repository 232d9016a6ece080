import { charge, check, isSpent } from '../core/limit.ts'
import type { AppliedLimit, Counter, CounterStore } from '../core/limit.ts'
import type { Clock } from './clock.ts'

/** Counters of limits, in memory, and written behind. One process: what is checked and charged in one turn is exact. */
export interface Counters {
  read(key: string): Counter | undefined
  /** Charges all of them, or none and returns the one without room. */
  take(charges: readonly Charge[]): AppliedLimit | undefined
  /** Charges whether or not there is room: it was used. */
  add(charges: readonly Charge[]): void
  /** Writes what changed, and forgets what sessions that are over have used. Called on a timer and at the end. */
  flush(isOver: (session: string) => boolean): Promise<void>
}

export interface Charge {
  readonly applied: AppliedLimit
  readonly cost: number
}

/** Counters are forgotten when they say nothing any more; this many are looked at for it each time. */
const swept = 2_000
/** How many different calls of a session are watched for being repeated: the last ones. An agent can make any number. */
const watched = 1_000

export async function createCounters(store: CounterStore, clock: Clock): Promise<Counters> {
  const loaded = [...(await store.load())].map(([key, counter]) => [key, withinWindow(key, counter, clock())] as const)
  const counters = new Map<string, Counter>(loaded)
  const windows = new Map<string, { readonly per: AppliedLimit['limit']['per'] }>()
  const dirty = new Set<string>()
  /** Counters of repeated calls by session, the last used at the end. */
  const repeats = new Map<string, Set<string>>()
  let sweep = counters.keys()

  function take(charges: readonly Charge[]): AppliedLimit | undefined {
    const now = clock()
    const full = charges.find(({ applied, cost }) => !check(applied.limit, counters.get(applied.key), cost, now).ok)
    if (full !== undefined) return full.applied
    add(charges)
    return undefined
  }

  function add(charges: readonly Charge[]): void {
    const now = clock()
    for (const { applied, cost } of charges) {
      if (cost === 0) continue
      counters.set(applied.key, charge(applied.limit, counters.get(applied.key), cost, now))
      windows.set(applied.key, applied.limit)
      // What runs now is over after a restart: it is never written.
      if (applied.limit.measure !== 'concurrent') dirty.add(applied.key)
      if (applied.limit.measure === 'repeats') watch(applied.key)
    }
  }

  function watch(key: string): void {
    const session = sessionOf(key) ?? ''
    const keys = repeats.get(session) ?? new Set()
    repeats.set(session, keys)
    keys.delete(key)
    keys.add(key)
    if (keys.size <= watched) return
    for (const oldest of keys) return forget(oldest)
  }

  function forget(key: string): void {
    counters.delete(key)
    windows.delete(key)
    dirty.add(key)
    const session = sessionOf(key) ?? ''
    const keys = repeats.get(session)
    keys?.delete(key)
    if (keys?.size === 0) repeats.delete(session)
  }

  function forgetSpent(isOver: (session: string) => boolean): void {
    const now = clock()
    for (let looked = 0; looked < swept; looked++) {
      const { value: key, done } = sweep.next()
      if (done === true) {
        sweep = counters.keys()
        return
      }
      const counter = counters.get(key)
      if (counter === undefined) continue
      const session = sessionOf(key)
      const limit = windows.get(key) ?? perOf(key)
      if (!isSpent(limit, counter, now) && (session === undefined || !isOver(session))) continue
      forget(key)
    }
  }

  async function flush(isOver: (session: string) => boolean): Promise<void> {
    forgetSpent(isOver)
    if (dirty.size === 0) return
    const changed = new Map([...dirty].map((key) => [key, counters.get(key)] as const))
    dirty.clear()
    try {
      await store.save(changed)
    } catch (thrown) {
      for (const key of changed.keys()) dirty.add(key)
      throw thrown
    }
  }

  return { read: (key) => counters.get(key), take, add, flush }
}

const sessionOf = (key: string): string | undefined => (key.startsWith('session:') ? key.split(':', 2)[1] : undefined)

/**
 * A counter that was kept as it can be now: full, at most. One of a clock that was ahead would else hold for as long as
 * that clock was wrong.
 */
function withinWindow(key: string, counter: Counter, now: number): Counter {
  const { per } = perOf(key)
  return typeof per === 'number' && counter.value > now + per ? { value: now + per } : counter
}

/** Counters of a window have its length in their key; those without one hold a plain amount. */
const perOf = (key: string): { readonly per: AppliedLimit['limit']['per'] } => {
  const window = /:[a-z]+\/(\d+)\/\d+(?::|$)/.exec(key)
  return { per: window === null ? 'session' : Number(window[1]) }
}
