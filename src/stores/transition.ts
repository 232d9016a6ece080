import { expired, isOpen } from '../core/approval.ts'
import type { Approval, ApprovalId, VoidFilter } from '../core/approval.ts'
import { Failure } from '../core/failure.ts'

/** The approval after its one use. Fails with `conflict` unless it is approved and its time is not over. */
export function used(approval: Approval, now: number): Approval {
  const standing = expired(approval, now)
  if (standing.state !== 'approved')
    throw new Failure('conflict', `${approval.id} is ${standing.state}${standing.note ? ` (${standing.note})` : ''}`)
  return { ...standing, state: 'used' }
}

/** The approval after it was voided; undefined when it was not open, and stays as it is. */
export function voided(approval: Approval, note: string, now: number, replacedBy?: ApprovalId): Approval | undefined {
  if (!isOpen(expired(approval, now))) return undefined
  return { ...approval, state: 'void', note, ...(replacedBy === undefined ? {} : { replacedBy }) }
}

/** What a void filter looks at. `sessions` is the whole chain: when any link ends, nothing may be done through it. */
export interface Target {
  readonly id: ApprovalId
  readonly policy: string
  readonly sessions: readonly string[]
}

export const target = ({ id, policy, chain }: Approval): Target => ({
  id,
  policy,
  sessions: chain.map(({ session }) => session),
})

export function matches(which: VoidFilter, { id, policy, sessions }: Target): boolean {
  if ('id' in which) return id === which.id
  if ('sessions' in which) return sessions.some((session) => which.sessions.has(session))
  if ('policyOtherThan' in which) return policy !== which.policyOtherThan
  return which.all
}
