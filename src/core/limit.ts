import { Failure } from './failure.ts'

/** What a limit counts. `spend` is in millionths of a US dollar, `bytes` in bytes of results, `sent` in bytes that go out. */
export type Measure = 'calls' | 'repeats' | 'concurrent' | 'tokens' | 'spend' | 'bytes' | 'sent'

/** So much of a measure, in a window, for a whole session, or at once. */
export interface Limit {
  readonly measure: Measure
  readonly amount: number
  /** The window in milliseconds; or the whole of a session; or at any one moment (`concurrent` alone). */
  readonly per: number | 'session' | 'once'
  /** As it was written, for messages. */
  readonly source: string
}

/** A limit and the counter that it is held against. */
export interface AppliedLimit {
  readonly limit: Limit
  /** Which counter: `agent:reader:calls/60000`, `session:ses_…:bytes`. */
  readonly key: string
  /** Whose limit it is, in words: `agent reader`, `this session`, `everything`. */
  readonly whose: string
}

/**
 * What a counter holds. For a window, `value` is the theoretical arrival time of GCRA in epoch milliseconds
 * (ITU-T I.371, virtual scheduling); otherwise the amount used so far, or what is running now.
 */
export interface Counter {
  readonly value: number
}

export interface LimitVerdict {
  readonly ok: boolean
  /** When there will be room again, in epoch milliseconds; absent where time alone makes none. */
  readonly retryAt?: number
}

/** Whether a limit leaves room for `cost` more. For measures that are known afterwards only, `cost` is 0: any room will do. */
export function check(limit: Limit, counter: Counter | undefined, cost: number, now: number): LimitVerdict {
  if (typeof limit.per !== 'number') {
    const used = counter?.value ?? 0
    return { ok: cost > 0 ? used + cost <= limit.amount : used < limit.amount }
  }
  if (cost > limit.amount || limit.amount === 0) return { ok: false }
  const arrival = arrivalTime(counter, now) + (limit.per / limit.amount) * cost
  const allowedAt = arrival - limit.per
  if (cost > 0 ? now >= allowedAt : now > allowedAt) return { ok: true }
  return { ok: false, retryAt: Math.ceil(allowedAt) + (cost > 0 ? 0 : 1) }
}

/** The counter after `cost` more, whether or not there was room: what was used, was used. */
export function charge(limit: Limit, counter: Counter | undefined, cost: number, now: number): Counter {
  if (typeof limit.per !== 'number') return { value: Math.max(0, (counter?.value ?? 0) + cost) }
  const interval = limit.amount === 0 ? limit.per : limit.per / limit.amount
  return { value: arrivalTime(counter, now) + interval * cost }
}

/** Whether a counter says nothing any more and can be forgotten. */
export const isSpent = (limit: { readonly per: Limit['per'] }, counter: Counter, now: number): boolean =>
  typeof limit.per === 'number' ? counter.value <= now : counter.value === 0

const arrivalTime = (counter: Counter | undefined, now: number): number => Math.max(counter?.value ?? now, now)

const windows: ReadonlyMap<string, number> = new Map([
  ['s', 1_000],
  ['second', 1_000],
  ['min', 60_000],
  ['minute', 60_000],
  ['h', 3_600_000],
  ['hour', 3_600_000],
  ['day', 86_400_000],
])

const sizes = { B: 1, kB: 1_000, MB: 1_000_000, GB: 1_000_000_000 }
const units: Readonly<Record<Measure, Readonly<Record<string, number>>>> = {
  calls: { '': 1 },
  repeats: { '': 1 },
  concurrent: { '': 1 },
  tokens: { '': 1, k: 1_000 },
  spend: { USD: 1_000_000 },
  bytes: sizes,
  sent: sizes,
}

const form: Readonly<Record<Measure, string>> = {
  calls: '`100/min` or `1000/session`',
  repeats: '`20/min`',
  concurrent: '`4`',
  tokens: '`200000/session` or `500 k/day`',
  spend: '`5 USD/day`',
  bytes: '`10 MB/session`',
  sent: '`1 MB/session`',
}

/** Reads a limit such as `100/min`, `5 USD/day`, `10 MB/session`. Fails with `invalid`, saying what form was expected. */
export function parseLimit(measure: Measure, text: string | number): Limit {
  const source = String(text).trim()
  const parts = /^(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]*)(?:\/(?:(\d{1,4}) ?)?([a-z]+))?$/.exec(source)
  const wrong = (): Failure =>
    new Failure('invalid', `\`${source}\` is no limit of ${measure}: expected ${form[measure]}`)
  if (parts === null) throw wrong()
  const name = parts[2] ?? ''
  if (!Object.hasOwn(units[measure], name)) throw wrong()
  const exact = Number(parts[1]) * (units[measure][name] ?? NaN)
  const amount = Math.round(exact)
  // Half a call is none, or one: neither is what was meant. What is left over from binary fractions is far smaller.
  if (!Number.isSafeInteger(amount) || Math.abs(exact - amount) > 1e-3) throw wrong()
  const [count, window] = [parts[3], parts[4]]
  if (measure === 'concurrent') {
    if (window !== undefined) throw wrong()
    return { measure, amount, per: 'once', source }
  }
  if (window === 'session' && count === undefined && measure !== 'repeats')
    return { measure, amount, per: 'session', source }
  const length = (windows.get(window ?? '') ?? 0) * Number(count ?? 1)
  // A window of no length would never fill.
  if (length === 0) throw wrong()
  return { measure, amount, per: length, source }
}

/** The key of a limit's counter. Two limits with the same measure and window of the same owner share one. */
export const counterKey = (owner: string, limit: Limit): string =>
  `${owner}:${limit.measure}${typeof limit.per === 'number' ? `/${limit.per}/${limit.amount}` : ''}`

/**
 * The limits of a resource as they hold for one action: those of bytes for each of its hosts by itself, and those per
 * session for every session of the chain, so that what is handed on is never more than there was.
 */
export function limitsOfResource(
  limits: readonly Limit[],
  resource: string,
  host: string | undefined,
  chain: readonly string[],
): readonly AppliedLimit[] {
  return limits.flatMap((limit): readonly AppliedLimit[] => {
    const isOfHost = host !== undefined && (limit.measure === 'sent' || limit.measure === 'bytes')
    const owner = isOfHost ? `resource:${resource}:${host}` : `resource:${resource}`
    const whose = isOfHost ? `host ${host} of resource ${resource}` : `resource ${resource}`
    if (limit.per !== 'session') return [{ limit, key: counterKey(owner, limit), whose }]
    return chain.map((session, depth) => ({
      limit,
      key: counterKey(`session:${session}:${owner}`, limit),
      whose: depth === chain.length - 1 ? whose : `${whose} (in a session that this one was made from)`,
    }))
  })
}

/** Keeps counters over a restart. What was counted in the last moments before a crash may be missing. */
export interface CounterStore {
  load(): Promise<ReadonlyMap<string, Counter>>
  /** Writes these and removes those without a value, all or nothing. */
  save(changed: ReadonlyMap<string, Counter | undefined>): Promise<void>
}
