import { Failure } from './failure.ts'
import type { JsonObject } from './json.ts'
import type { Effect, Permission } from './permission.ts'

export type ApprovalId = string

/**
 * `pending` → `approved` → `used`, or `pending` → `denied` | `expired`. `void` ends any that is pending or approved:
 * its session ended, the policy changed, an edit took its place.
 */
export type ApprovalState = 'pending' | 'approved' | 'denied' | 'expired' | 'used' | 'void'

/** So many different people of a team (or anyone who may approve) have to agree. */
export interface Need {
  readonly people?: string
  readonly count: number
}

/** What a question demands: everyone in `needs`, within the time, and never the one who asked unless `self`. */
export interface Ask {
  readonly needs: readonly Need[]
  /** How long the question stands, in milliseconds. */
  readonly within: number
  /** Whether the person on whose behalf the session runs, or who started it, may answer. */
  readonly self: boolean
}

/** One principal of the chain that an action is made through, from the first to the one that acts. */
export interface ChainLink {
  readonly session: string
  readonly agent: string
  readonly behalf: string
  /** The person who started the session, where it was one. */
  readonly startedBy?: string
}

/** The one of a chain that acts: its last. Fails with `invalid` for a chain of nobody. */
export function actorOf(chain: readonly ChainLink[]): ChainLink {
  const actor = chain.at(-1)
  if (actor === undefined) throw new Failure('invalid', 'an action needs somebody who acts')
  return actor
}

export interface Answer {
  readonly by: string
  readonly verdict: 'approve' | 'deny'
  readonly reason?: string
  readonly at: number
  /** Teams of the person at that time: whom the answer counts for. */
  readonly teams: readonly string[]
}

/** A question to people about one exact action. */
export interface Approval {
  readonly id: ApprovalId
  /** SHA-256 over chain, permission, arguments and policy: the one action that it lets happen. */
  readonly binding: string
  readonly state: ApprovalState
  readonly chain: readonly ChainLink[]
  readonly permission: Permission
  readonly effect: Effect
  readonly args: JsonObject
  readonly argsDigest: string
  readonly policy: string
  readonly rules: readonly string[]
  readonly because: string
  readonly ask: Ask
  /** Every permission that it needs, where there are several. */
  readonly parts?: readonly { readonly permission: Permission; readonly effect: Effect }[]
  /** What was found out for those who answer: what would be touched. */
  readonly evidence?: JsonObject
  readonly openedAt: number
  /** A pending one expires then. Once approved, it has to be used by then. Epoch milliseconds. */
  readonly expiresAt: number
  readonly answers: readonly Answer[]
  /** Why it stands as it does: who denied it and why, what voided it. */
  readonly note?: string
  /** The question that took the place of this one, after a person edited the arguments. */
  readonly replacedBy?: ApprovalId
}

/** How long an approval that came when nobody was waiting can still be used, in milliseconds. */
export const useWithin = 15 * 60_000

/**
 * The approval after an answer. The first `deny` ends it; it is approved once every need is met, each by as many
 * different people as it says. Who is in two teams counts for both.
 * Fails with `conflict` when it is no longer pending or the person answered already, `forbidden` when the person may not.
 */
export function answered(approval: Approval, answer: Answer): Approval {
  const standing = expired(approval, answer.at)
  if (standing.state !== 'pending')
    throw new Failure('conflict', `${approval.id} is ${standing.state}${standing.note ? ` (${standing.note})` : ''}`)
  if (standing.answers.some(({ by }) => by === answer.by))
    throw new Failure('conflict', `${answer.by} has answered ${approval.id} already`)
  if (!standing.ask.self && isRequester(standing, answer.by))
    throw new Failure(
      'forbidden',
      `${answer.by} asked for this through an agent: somebody else has to answer ${approval.id}`,
    )
  if (!standing.ask.needs.some((need) => counts(need, answer)))
    throw new Failure('forbidden', `${approval.id} is for ${standing.ask.needs.map(needInWords).join(' and ')}`)

  const answers = [...standing.answers, answer]
  if (answer.verdict === 'deny')
    return { ...standing, answers, state: 'denied', note: `${answer.by}${answer.reason ? `: ${answer.reason}` : ''}` }
  if (!standing.ask.needs.every((need) => answers.filter((each) => counts(need, each)).length >= need.count))
    return { ...standing, answers }
  return { ...standing, answers, state: 'approved', expiresAt: answer.at + useWithin }
}

/** The approval as it stands at a moment: one that nobody answered or used in time is `expired`. */
export const expired = (approval: Approval, now: number): Approval =>
  (approval.state === 'pending' || approval.state === 'approved') && now >= approval.expiresAt
    ? { ...approval, state: 'expired' }
    : approval

export const isOpen = (approval: Approval): boolean => approval.state === 'pending' || approval.state === 'approved'

/** Programs write people as they know them: with or without `person:`, in any letters. When in doubt, it is the same person. */
const isRequester = ({ chain }: Approval, by: string): boolean =>
  chain.some(({ behalf, startedBy }) => bareName(behalf) === bareName(by) || startedBy === by)

const bareName = (name: string): string => name.toLowerCase().replace(/^person:/, '')

const counts = (need: Need, answer: Answer): boolean =>
  need.people === undefined || answer.teams.includes(need.people) || answer.by === `person:${need.people}`

export const needInWords = ({ people, count }: Need): string =>
  `${count > 1 ? `${count} of ` : ''}${people ?? 'anyone who may approve'}`

/** Both asks at once: the needs of each, the shorter time, self-approval only where both allow it. */
export function bothAsks(a: Ask, b: Ask): Ask {
  const needs = [...a.needs]
  for (const need of b.needs) {
    const same = needs.find(({ people }) => people === need.people)
    if (same === undefined) needs.push(need)
    else if (same.count < need.count) needs[needs.indexOf(same)] = need
  }
  return { needs, within: Math.min(a.within, b.within), self: a.self && b.self }
}

/**
 * Keeps approvals. Each method is atomic and durable when it resolves: two that race leave what one after the other
 * would have left.
 */
export interface ApprovalStore {
  /** Saves a question; or, when an open one has the same binding, returns that one and saves nothing. */
  open(approval: Approval, now: number): Promise<Approval>
  /** Records an answer by `answered`. Fails with `not_found`, `conflict`, `forbidden`. */
  answer(id: ApprovalId, answer: Answer): Promise<Approval>
  /** Turns `approved` into `used`, once. Fails with `conflict` when it is anything else, or its time is over. */
  use(id: ApprovalId, now: number): Promise<Approval>
  /** Voids the open ones in whose chain one of these sessions stands, of other policies than the one named, one by id, or all. Returns those it voided. */
  void(which: VoidFilter, note: string, now: number, replacedBy?: ApprovalId): Promise<readonly Approval[]>
  /** Marks those whose time is over. Returns them. */
  expire(now: number): Promise<readonly Approval[]>
  get(id: ApprovalId): Promise<Approval | undefined>
  /** The open one with this binding. */
  find(binding: string, now: number): Promise<Approval | undefined>
  /** Newest first, at most `limit` (500 at most). */
  list(filter: { readonly states?: readonly ApprovalState[]; readonly limit?: number }): Promise<readonly Approval[]>
  /** Forgets those that are closed and were opened before a moment. Returns how many. */
  prune(before: number): Promise<number>
}

export type VoidFilter =
  | { readonly id: ApprovalId }
  | { readonly sessions: ReadonlySet<string> }
  | { readonly policyOtherThan: string }
  | { readonly all: true }
