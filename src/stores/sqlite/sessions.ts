import { Failure } from '../../core/failure.ts'
import { join } from '../../core/label.ts'
import type { Session, SessionId, SessionStore } from '../../core/session.ts'
import { encode, rows } from '../record.ts'
import type { Database } from './connect.ts'

export function sqliteSessions(database: Database): SessionStore {
  const insert = database.prepare(
    'insert into sessions (id, agent, parent, token_digest, started_at, over_at, body) values (?, ?, ?, ?, ?, ?, ?)',
  )
  const update = database.prepare('update sessions set over_at = ?, body = ? where id = ?')
  const byId = database.select<Session>('select body from sessions where id = ?')
  const byDigest = database.select<Session>('select body from sessions where token_digest = ?')
  const byParent = database.select<Session>(
    'select body from sessions where parent = ? order by started_at desc, id desc',
  )
  const over = database.select<Session>('select body from sessions where over_at > ? order by started_at desc, id desc')
  const newest = database.select<Session>('select body from sessions order by started_at desc, id desc limit ?')
  // What is left keeps its ancestors: a chain never loses a link.
  const forget = database.prepare(`
    with recursive kept (id) as (
      select id from sessions where over_at >= ?
      union
      select sessions.parent from sessions join kept on sessions.id = kept.id where sessions.parent is not null
    )
    delete from sessions where id not in (select id from kept)
  `)

  function existing(id: SessionId): Session {
    const session = byId.one(id)
    if (session === undefined) throw new Failure('not_found', `there is no session ${id}`)
    return session
  }

  const save = (session: Session): void => {
    update.run(Math.min(session.deadline, session.endedAt ?? session.deadline), encode(session), session.id)
  }

  return {
    async add(session) {
      database.write(`session ${session.id} or its token`, () => {
        const { id, agent, parent, tokenDigest, startedAt, deadline, endedAt } = session
        if (parent !== undefined) existing(parent)
        const overAt = Math.min(deadline, endedAt ?? deadline)
        insert.run(id, agent, parent ?? null, tokenDigest ?? null, startedAt, overAt, encode(session))
      })
    },
    async get(id) {
      return database.read(() => byId.one(id))
    },
    async byToken(tokenDigest) {
      return database.read(() => byDigest.one(tokenDigest))
    },
    async end(ids, because, at) {
      database.write('sessions', () => {
        for (const id of ids) {
          const session = byId.one(id)
          if (session !== undefined && session.endedAt === undefined)
            save({ ...session, endedAt: at, endedBecause: because })
        }
      })
    },
    async children(id) {
      return database.read(() => byParent.all(id))
    },
    async setLabel(ids, label) {
      database.write('sessions', () => {
        // Joined with what stands there, so that of two gateways that set it at once neither takes the other's away.
        for (const session of ids.map(existing)) save({ ...session, label: join(session.label, label) })
      })
    },
    async live(now) {
      return database.read(() => over.all(now).filter(({ endedAt }) => endedAt === undefined))
    },
    async list(limit) {
      return database.read(() => newest.all(rows(limit, 10_000)))
    },
    async prune(before) {
      return database.write('sessions', () => Number(forget.run(before).changes))
    },
  }
}
