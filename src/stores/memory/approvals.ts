import { answered, expired, isOpen } from '../../core/approval.ts'
import type { Approval, ApprovalId, ApprovalStore } from '../../core/approval.ts'
import { Failure } from '../../core/failure.ts'
import { copy, newestFirst, rows } from '../record.ts'
import { matches, target, used, voided } from '../transition.ts'

const byAge = newestFirst<Approval>(
  ({ openedAt }) => openedAt,
  ({ id }) => id,
)

export function memoryApprovals(): ApprovalStore {
  const approvals = new Map<ApprovalId, Approval>()
  /** By binding: the question that others with the same binding attach to. */
  const holders = new Map<string, ApprovalId>()
  /** When the expiry of an approval has to be told, by its id. */
  const due = new Map<ApprovalId, number>()

  function existing(id: ApprovalId): Approval {
    const approval = approvals.get(id)
    if (approval === undefined) throw new Failure('not_found', `there is no approval ${id}`)
    return approval
  }

  function save(approval: Approval): Approval {
    const { id, binding, expiresAt } = approval
    approvals.set(id, copy(approval))
    if (isOpen(approval)) {
      holders.set(binding, id)
      due.set(id, expiresAt)
    } else {
      if (holders.get(binding) === id) holders.delete(binding)
      due.delete(id)
    }
    return copy(approval)
  }

  const oldestFirst = (): Approval[] => [...approvals.values()].sort(byAge).reverse()

  return {
    async open(approval, now) {
      const holder = approvals.get(holders.get(approval.binding) ?? '')
      const standing = holder && expired(holder, now)
      if (holder !== undefined && standing !== undefined && isOpen(standing)) return copy(holder)
      if (approvals.has(approval.id)) throw new Failure('conflict', `approval ${approval.id} is taken`)
      const kept = copy(approval)
      if (standing !== undefined) {
        // It makes room for good, also for a clock that goes back. `expire` tells of it later.
        approvals.set(standing.id, standing)
        holders.delete(standing.binding)
      }
      return save(kept)
    },
    async answer(id, answer) {
      return save(answered(existing(id), answer))
    },
    async use(id, now) {
      return save(used(existing(id), now))
    },
    async void(which, note, now, replacedBy) {
      return oldestFirst()
        .filter((approval) => matches(which, target(approval)))
        .map((approval) => voided(approval, note, now, replacedBy))
        .filter((approval) => approval !== undefined)
        .map(save)
    },
    async expire(now) {
      return oldestFirst()
        .filter(({ id }) => (due.get(id) ?? Infinity) <= now)
        .map((approval) => save(expired(approval, now)))
    },
    async get(id) {
      const approval = approvals.get(id)
      return approval && copy(approval)
    },
    async find(binding, now) {
      const approval = approvals.get(holders.get(binding) ?? '')
      return approval && isOpen(expired(approval, now)) ? copy(approval) : undefined
    },
    async list({ states, limit }) {
      return [...approvals.values()]
        .filter(({ state }) => states === undefined || states.includes(state))
        .sort(byAge)
        .slice(0, rows(limit ?? 500, 500))
        .map(copy)
    },
    async prune(before) {
      const closed = [...approvals.values()].filter(
        (approval) => !isOpen(approval) && !due.has(approval.id) && approval.openedAt < before,
      )
      for (const { id } of closed) approvals.delete(id)
      return closed.length
    },
  }
}
