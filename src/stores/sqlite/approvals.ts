import { answered, expired, isOpen } from '../../core/approval.ts'
import type { Approval, ApprovalId, ApprovalStore } from '../../core/approval.ts'
import { Failure } from '../../core/failure.ts'
import { decode, encode, rows } from '../record.ts'
import { matches, target, used, voided } from '../transition.ts'
import type { Database } from './connect.ts'

/** Every change is `read, transition of core, write` inside one transaction, so processes that race take turns. */
export function sqliteApprovals(database: Database): ApprovalStore {
  const insert = database.prepare(
    'insert into approvals (id, holds, state, policy, sessions, opened_at, due_at, body) values (?, ?, ?, ?, ?, ?, ?, ?)',
  )
  const keepOpen = database.prepare('update approvals set state = ?, due_at = ?, body = ? where id = ?')
  const close = database.prepare('update approvals set holds = null, state = ?, due_at = null, body = ? where id = ?')
  const displace = database.prepare("update approvals set holds = null, state = 'expired', body = ? where id = ?")
  const byId = database.select<Approval>('select body from approvals where id = ?')
  const holding = database.select<Approval>('select body from approvals where holds = ?')
  const openTargets = database.prepare(
    "select id, policy, sessions from approvals where state in ('pending', 'approved') order by opened_at, id",
  )
  const due = database.select<Approval>('select body from approvals where due_at <= ? order by opened_at, id')
  const newest = database.select<Approval>('select body from approvals order by opened_at desc, id desc limit ?')
  const newestOf = database.select<Approval>(
    'select body from approvals where state in (?, ?, ?, ?, ?, ?) order by opened_at desc, id desc limit ?',
  )

  const forget = database.prepare('delete from approvals where holds is null and due_at is null and opened_at < ?')

  function existing(id: ApprovalId): Approval {
    const approval = byId.one(id)
    if (approval === undefined) throw new Failure('not_found', `there is no approval ${id}`)
    return approval
  }

  function save(approval: Approval): Approval {
    const { id, state, expiresAt } = approval
    if (isOpen(approval)) keepOpen.run(state, expiresAt, encode(approval), id)
    else close.run(state, encode(approval), id)
    return approval
  }

  return {
    async open(approval, now) {
      return database.write(`approval ${approval.id}`, () => {
        const holder = holding.one(approval.binding)
        if (holder !== undefined) {
          const standing = expired(holder, now)
          if (isOpen(standing)) return holder
          // It makes room for good, also towards a process whose clock is behind. `expire` tells of it later.
          displace.run(encode(standing), standing.id)
        }
        const { id, policy, sessions } = target(approval)
        const { binding, state, openedAt, expiresAt } = approval
        const [holds, dueAt] = isOpen(approval) ? [binding, expiresAt] : [null, null]
        insert.run(id, holds, state, policy, encode(sessions), openedAt, dueAt, encode(approval))
        return approval
      })
    },
    async answer(id, answer) {
      return database.write(`approval ${id}`, () => save(answered(existing(id), answer)))
    },
    async use(id, now) {
      return database.write(`approval ${id}`, () => save(used(existing(id), now)))
    },
    async void(which, note, now, replacedBy) {
      return database.write('approvals', () => {
        const found = openTargets.all().filter((row) => {
          const sessions = decode(row['sessions'] as string) as string[]
          return matches(which, { id: row['id'] as string, policy: row['policy'] as string, sessions })
        })
        return found
          .map(({ id }) => voided(existing(id as string), note, now, replacedBy))
          .filter((approval) => approval !== undefined)
          .map(save)
      })
    },
    async expire(now) {
      return database.write('approvals', () => due.all(now).map((approval) => save(expired(approval, now))))
    },
    async get(id) {
      return database.read(() => byId.one(id))
    },
    async find(binding, now) {
      return database.read(() => {
        const approval = holding.one(binding)
        return approval !== undefined && isOpen(expired(approval, now)) ? approval : undefined
      })
    },
    async list({ states, limit }) {
      return database.read(() => {
        const most = rows(limit ?? 500, 500)
        if (states === undefined) return newest.all(most)
        const [a = '', b = '', c = '', d = '', e = '', f = ''] = new Set<string>(states)
        return newestOf.all(a, b, c, d, e, f, most)
      })
    },
    async prune(before) {
      return database.write('approvals', () => Number(forget.run(before).changes))
    },
  }
}
