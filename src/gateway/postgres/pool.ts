import { Failure } from '../../core/failure.ts'
import type { Sessions } from '../../guard/sessions.ts'
import type { Backend, Connections } from './connect.ts'

/** Connections for single statements, of sessions that come back: kept a while, and never handed to another session. */
export interface Pool {
  use<T>(session: string, work: (backend: Backend) => Promise<T>): Promise<T>
  ended(sessions: readonly string[]): void
  close(): void
}

/** Milliseconds that a connection waits for the next statement of its session. */
const keptFor = 30_000
/** Connections of one session at one moment. */
const mostOfSession = 4

interface Kept {
  readonly backend: Backend
  readonly timer: NodeJS.Timeout
}

export function createPool(connections: Connections, sessions: Pick<Sessions, 'get'>): Pool {
  const idle = new Map<string, Kept[]>()
  const busy = new Map<string, number>()

  async function taken(session: string): Promise<Backend> {
    const kept = idle.get(session)?.pop()
    if (kept !== undefined) {
      clearTimeout(kept.timer)
      if (!kept.backend.ended.aborted) return kept.backend
      return taken(session)
    }
    const found = sessions.get(session)
    if (found === undefined) throw new Failure('unavailable', 'this session is over')
    const backend = await connections.open({ session, agent: found.agent, facts: found.facts })
    try {
      // What is not known to change something can't. A change says so itself when it begins.
      await backend.client.query('set default_transaction_read_only = on')
      return backend
    } catch (cause) {
      await backend.close()
      throw new Failure('unavailable', 'the connection to the database was lost', { cause })
    }
  }

  function giveBack(session: string, backend: Backend): void {
    if (backend.ended.aborted) return
    const timer = setTimeout(() => {
      drop(session, backend)
      void backend.close()
    }, keptFor)
    timer.unref()
    idle.set(session, [...(idle.get(session) ?? []), { backend, timer }])
  }

  function drop(session: string, backend: Backend): void {
    const left = (idle.get(session) ?? []).filter((each) => each.backend !== backend)
    if (left.length === 0) idle.delete(session)
    else idle.set(session, left)
  }

  function letGo(session: string): void {
    for (const { backend, timer } of idle.get(session) ?? []) {
      clearTimeout(timer)
      void backend.close()
    }
    idle.delete(session)
  }

  return {
    async use(session, work) {
      const running = busy.get(session) ?? 0
      if (running >= mostOfSession)
        throw new Failure('limited', `this session runs ${running} statements already: wait for one of them`)
      busy.set(session, running + 1)
      try {
        const backend = await taken(session)
        try {
          return await work(backend)
        } finally {
          giveBack(session, backend)
        }
      } finally {
        const left = (busy.get(session) ?? 1) - 1
        if (left === 0) busy.delete(session)
        else busy.set(session, left)
      }
    },
    ended: (gone) => gone.forEach(letGo),
    close: () => [...idle.keys()].forEach(letGo),
  }
}
