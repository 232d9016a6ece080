import { actorOf, isOpen, needInWords } from '../core/approval.ts'
import type {
  Answer,
  Approval,
  ApprovalId,
  ApprovalState,
  ApprovalStore,
  Ask,
  ChainLink,
  VoidFilter,
} from '../core/approval.ts'
import type { AuditLog } from '../core/audit.ts'
import type { Facts } from '../core/decide.ts'
import { Failure } from '../core/failure.ts'
import { callerName } from '../core/identity.ts'
import type { Person } from '../core/identity.ts'
import type { JsonObject } from '../core/json.ts'
import type { Effect, Permission } from '../core/permission.ts'
import type { Clock } from './clock.ts'
import { digestOf, randomId } from './digest.ts'

/** One exact action that people are asked about. */
export interface Question {
  readonly chain: readonly ChainLink[]
  readonly permission: Permission
  readonly effect: Effect
  readonly args: JsonObject
  readonly argsDigest: string
  readonly policy: string
  readonly rules: readonly string[]
  readonly because: string
  readonly ask: Ask
}

/** Questions to people, from being opened to being used. Every change is an event. */
export interface Approvals {
  /** Asks, or joins the open question about the very same action. Fails with `limited` when a session asks too much. */
  open(question: Question): Promise<Approval>
  /** The open one about this very action. */
  find(question: Question): Promise<Approval | undefined>
  /** Resolves when it is no longer pending, or when the signal says to wait no longer. */
  settled(id: ApprovalId, signal: AbortSignal): Promise<Approval>
  /** A person's answer. Fails with `not_found`, `conflict`, `forbidden`. */
  answer(id: ApprovalId, person: Person, verdict: Answer['verdict'], reason?: string): Promise<Approval>
  use(id: ApprovalId): Promise<Approval>
  void(which: VoidFilter, note: string, replacedBy?: ApprovalId): Promise<void>
  get(id: ApprovalId): Promise<Approval | undefined>
  list(filter: { readonly states?: readonly ApprovalState[]; readonly limit?: number }): Promise<readonly Approval[]>
  /** Expires what nobody answered. Called on a timer. */
  sweep(): Promise<void>
  /** Told of every change. Returns how to stop being told. */
  watch(listener: (approval: Approval) => void): () => void
}

/** So many questions of one session may stand unanswered at once: people are not to be flooded. */
const mostOpen = 20

export function bindingOf({ chain, permission, argsDigest, policy, ask, rules }: Question): string {
  return digestOf({
    chain: chain.map(({ session, agent, behalf }) => ({ session, agent, behalf })),
    permission,
    args: argsDigest,
    policy,
    needs: ask.needs.map(({ people, count }) => ({ people: people ?? '', count })),
    rules,
  })
}

export const chainOf = (chain: Facts['chain']): readonly ChainLink[] =>
  chain.map(({ session: { id, agent, behalf } }) => ({ session: id, agent, behalf }))

export function createApprovals(store: ApprovalStore, audit: Pick<AuditLog, 'append'>, clock: Clock): Approvals {
  const listeners = new Set<(approval: Approval) => void>()

  function tell(approval: Approval): void {
    for (const listener of listeners) listener(approval)
  }

  /** The record first, then everybody who waits. */
  async function changed(approval: Approval, type: string, more: JsonObject = {}): Promise<Approval> {
    await audit.append({
      type,
      at: clock(),
      approval: approval.id,
      session: actorOf(approval.chain).session,
      agent: actorOf(approval.chain).agent,
      permission: approval.permission,
      state: approval.state,
      ...more,
    }).done
    tell(approval)
    return approval
  }

  async function open(question: Question): Promise<Approval> {
    const now = clock()
    const session = actorOf(question.chain).session
    const standing = await store.list({ states: ['pending'], limit: 500 })
    if (standing.filter(({ chain }) => actorOf(chain).session === session).length >= mostOpen)
      throw new Failure(
        'limited',
        `${mostOpen} questions of this session wait for people already: wait for an answer first`,
      )
    const id = randomId('appr')
    const approval = await store.open(
      {
        ...question,
        id,
        binding: bindingOf(question),
        state: 'pending',
        openedAt: now,
        expiresAt: now + question.ask.within,
        answers: [],
      },
      now,
    )
    if (approval.id !== id) return approval
    return changed(approval, 'approval.open', {
      because: approval.because,
      rules: approval.rules,
      args: approval.argsDigest,
      policy: approval.policy,
      expiresAt: approval.expiresAt,
      for: approval.ask.needs.map(needInWords),
      chain: approval.chain.map(({ session: of, agent, behalf }) => ({ session: of, agent, behalf })),
    })
  }

  function settled(id: ApprovalId, signal: AbortSignal): Promise<Approval> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        store
          .get(id)
          .then(
            (approval) =>
              approval === undefined ? reject(new Failure('not_found', `there is no ${id}`)) : finish(approval),
            reject,
          )
      }
      const finish = (approval: Approval): void => {
        if (approval.state === 'pending' && !signal.aborted) return
        stop()
        signal.removeEventListener('abort', look)
        resolve(approval)
      }
      const listener = (approval: Approval): void => {
        if (approval.id === id) finish(approval)
      }
      listeners.add(listener)
      const stop = (): void => void listeners.delete(listener)
      signal.addEventListener('abort', look, { once: true })
      look()
    })
  }

  async function answer(
    id: ApprovalId,
    person: Person,
    verdict: Answer['verdict'],
    reason?: string,
  ): Promise<Approval> {
    const by = callerName(person)
    if (!person.roles.includes('approver') && !person.roles.includes('admin'))
      throw new Failure('forbidden', `${person.name} is no approver`)
    if (reason !== undefined && reason.length > 2_000)
      throw new Failure('too_large', 'a reason has at most 2,000 characters')
    const given: Answer = { by, verdict, at: clock(), teams: person.teams, ...(reason === undefined ? {} : { reason }) }
    const approval = await store.answer(id, given)
    return changed(approval, 'approval.answer', { by, verdict, ...(reason === undefined ? {} : { reason }) })
  }

  async function voidThem(which: VoidFilter, note: string, replacedBy?: ApprovalId): Promise<void> {
    const voided = await store.void(which, note, clock(), replacedBy)
    await Promise.all(voided.map((approval) => changed(approval, 'approval.void', { because: note })))
  }

  async function sweep(): Promise<void> {
    const over = await store.expire(clock())
    await Promise.all(over.map((approval) => changed(approval, 'approval.expire')))
  }

  return {
    open,
    async find(question) {
      const found = await store.find(bindingOf(question), clock())
      return found !== undefined && isOpen(found) ? found : undefined
    },
    settled,
    answer,
    async use(id) {
      return changed(await store.use(id, clock()), 'approval.use')
    },
    void: voidThem,
    get: (id) => store.get(id),
    list: (filter) => store.list(filter),
    sweep,
    watch(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}
