import { Failure } from '../../core/failure.ts'
import { join } from '../../core/label.ts'
import type { Session, SessionId, SessionStore } from '../../core/session.ts'
import { copy, newestFirst, rows } from '../record.ts'

const byAge = newestFirst<Session>(
  ({ startedAt }) => startedAt,
  ({ id }) => id,
)

export function memorySessions(): SessionStore {
  const sessions = new Map<SessionId, Session>()
  const byToken = new Map<string, SessionId>()

  function existing(id: SessionId): Session {
    const session = sessions.get(id)
    if (session === undefined) throw new Failure('not_found', `there is no session ${id}`)
    return session
  }

  const select = (wanted: (session: Session) => boolean): readonly Session[] =>
    [...sessions.values()].filter(wanted).sort(byAge).map(copy)

  const overAt = ({ deadline, endedAt }: Session): number => Math.min(deadline, endedAt ?? deadline)

  return {
    async add(session) {
      const { id, parent, tokenDigest } = session
      if (parent !== undefined) existing(parent)
      if (sessions.has(id) || (tokenDigest !== undefined && byToken.has(tokenDigest)))
        throw new Failure('conflict', `session ${id} or its token is taken`)
      sessions.set(id, copy(session))
      if (tokenDigest !== undefined) byToken.set(tokenDigest, id)
    },
    async get(id) {
      const session = sessions.get(id)
      return session && copy(session)
    },
    async byToken(tokenDigest) {
      const session = sessions.get(byToken.get(tokenDigest) ?? '')
      return session && copy(session)
    },
    async end(ids, because, at) {
      for (const id of ids) {
        const session = sessions.get(id)
        if (session !== undefined && session.endedAt === undefined)
          sessions.set(id, copy({ ...session, endedAt: at, endedBecause: because }))
      }
    },
    async children(id) {
      return select(({ parent }) => parent === id)
    },
    async setLabel(ids, label) {
      for (const session of ids.map(existing))
        sessions.set(session.id, copy({ ...session, label: join(session.label, label) }))
    },
    async live(now) {
      return select(({ endedAt, deadline }) => endedAt === undefined && deadline > now)
    },
    async list(limit) {
      return select(() => true).slice(0, rows(limit, 10_000))
    },
    async prune(before) {
      const kept = new Set<SessionId>()
      for (const session of sessions.values()) {
        if (overAt(session) < before) continue
        // It keeps its ancestors: a chain never loses a link.
        for (
          let each: Session | undefined = session;
          each && !kept.has(each.id);
          each = sessions.get(each.parent ?? '')
        )
          kept.add(each.id)
      }
      const forgotten = [...sessions.values()].filter(({ id }) => !kept.has(id))
      for (const { id, tokenDigest } of forgotten) {
        sessions.delete(id)
        if (tokenDigest !== undefined) byToken.delete(tokenDigest)
      }
      return forgotten.length
    },
  }
}
