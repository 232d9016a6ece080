import { setTimeout as setTimeoutPromise } from 'node:timers/promises'
import { Failure } from '../../core/failure.ts'
import type { Sessions } from '../../guard/sessions.ts'
import type { Backend, Connections, Owner } from './connect.ts'
import { isGone } from './execute.ts'

/** Connections for single statements, of sessions that come back: kept a while, and never handed to another session. */
export interface Pool {
  use<T>(session: string, work: (backend: Backend) => Promise<T>): Promise<T>
  ended(sessions: readonly string[]): void
  /** Keeps nothing any more. What is under way goes on, as long as connections can be had. */
  close(): void
}

/** Milliseconds that a connection waits for the next statement of its session. */
const keptFor = 30_000
/** How often a connection is tried once another was given up for it, and milliseconds between. */
const mostAttempts = 10
const pause = 20
/** Connections of one session at one moment, and statements of it that may wait for one. */
const mostOfSession = 4
const mostWaiting = 32

/**
 * What is not known to change something can't: a change says so itself when it begins. And values are written in the one
 * way that everybody reads alike, whatever the database is set to.
 */
const settings =
  "set default_transaction_read_only = on; set datestyle = 'ISO, YMD'; set intervalstyle = 'iso_8601'; " +
  "set bytea_output = 'hex'; set extra_float_digits = 1"

interface Kept {
  readonly backend: Backend
  readonly timer: NodeJS.Timeout
}

interface Busy {
  running: number
  readonly waiting: { readonly go: () => void; readonly fail: (why: Failure) => void }[]
}

export function createPool(connections: Connections, sessions: Pick<Sessions, 'get'>): Pool {
  const idle = new Map<string, Kept[]>()
  /** By session, how many connections are in use, and who waits for one. */
  const busy = new Map<string, Busy>()
  let isClosed = false

  /** Waits until the session may have one more connection. */
  async function turn(session: string): Promise<void> {
    const of = busy.get(session) ?? { running: 0, waiting: [] }
    busy.set(session, of)
    if (of.running < mostOfSession) return void (of.running += 1)
    if (of.waiting.length >= mostWaiting)
      throw new Failure('limited', `${mostWaiting} statements of this session wait already: send fewer at a time`)
    await new Promise<void>((go, fail) => of.waiting.push({ go, fail }))
  }

  function done(session: string): void {
    const of = busy.get(session)
    if (of === undefined) return
    // Whose turn it is takes the place of the one that is done.
    const next = of.waiting.shift()
    if (next !== undefined) return next.go()
    of.running -= 1
    if (of.running === 0) busy.delete(session)
  }

  async function taken(session: string): Promise<Backend> {
    const kept = idle.get(session)?.pop()
    if (kept !== undefined) {
      clearTimeout(kept.timer)
      if (idle.get(session)?.length === 0) idle.delete(session)
      if (!isGone(kept.backend)) return kept.backend
      return taken(session)
    }
    const found = sessions.get(session)
    if (found === undefined) throw new Failure('unavailable', 'this session is over')
    const backend = await opened({ session, agent: found.agent, facts: found.facts })
    backend.ended.addEventListener('abort', () => drop(session, backend), { once: true })
    try {
      await backend.ask(settings)
      return backend
    } catch (cause) {
      await backend.close()
      throw cause instanceof Failure
        ? cause
        : new Failure('unavailable', 'the connection to the database was lost', { cause })
    }
  }

  /** Where an agent has all the connections that it may have, those that wait in vain make room. */
  async function opened(owner: Owner): Promise<Backend> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await connections.open(owner)
      } catch (thrown) {
        const isFull = thrown instanceof Failure && thrown.code === 'limited'
        if (!isFull || attempt > mostAttempts || (attempt === 1 && !freed(owner.agent))) throw thrown
        // The server takes a moment to see that one is gone.
        if (attempt > 1) await setTimeoutPromise(pause)
      }
    }
  }

  function freed(agent: string): boolean {
    for (const [session, [oldest]] of idle) {
      if (oldest === undefined || sessions.get(session)?.agent !== agent) continue
      void oldest.backend.close()
      return true
    }
    return false
  }

  function giveBack(session: string, backend: Backend): void {
    if (isGone(backend)) return
    if (isClosed || sessions.get(session) === undefined) return void backend.close()
    const timer = setTimeout(() => void backend.close(), keptFor)
    timer.unref()
    idle.set(session, [...(idle.get(session) ?? []), { backend, timer }])
  }

  function drop(session: string, backend: Backend): void {
    for (const each of idle.get(session) ?? []) if (each.backend === backend) clearTimeout(each.timer)
    const left = (idle.get(session) ?? []).filter((each) => each.backend !== backend)
    if (left.length === 0) idle.delete(session)
    else idle.set(session, left)
  }

  function closeIdle(session: string): void {
    for (const { backend, timer } of idle.get(session) ?? []) {
      clearTimeout(timer)
      void backend.close()
    }
    idle.delete(session)
  }

  return {
    async use(session, work) {
      await turn(session)
      try {
        const backend = await taken(session)
        try {
          return await work(backend)
        } finally {
          giveBack(session, backend)
        }
      } finally {
        done(session)
      }
    },
    ended(gone) {
      for (const session of gone) {
        closeIdle(session)
        for (const { fail } of busy.get(session)?.waiting.splice(0) ?? [])
          fail(new Failure('unavailable', 'this session is over'))
      }
    },
    close() {
      isClosed = true
      for (const session of idle.keys()) closeIdle(session)
    },
  }
}
