import { actorOf, answered, isOpen, needInWords } from '../core/approval.ts'
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
import type { EventType } from '../core/event.ts'
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
  /** Every permission that it needs, where there are several. */
  readonly parts?: NonNullable<Approval['parts']>
  readonly evidence?: JsonObject
}

/** Questions to people, from being opened to being used. Every change is an event. */
export interface Approvals {
  /** Asks, or joins the open question about the very same action. Fails with `limited` when a session asks too much. */
  open(question: Question): Promise<Approval>
  /** The open one about this very action. */
  find(question: Question): Promise<Approval | undefined>
  /** Resolves when it is no longer pending, or when the signal says to wait no longer. */
  settled(id: ApprovalId, signal: AbortSignal): Promise<Approval>
  /** A person's answer. Fails with `not_found`, `conflict`, `forbidden`; with `unavailable` it counts for nothing. */
  answer(id: ApprovalId, person: Person, verdict: Answer['verdict'], reason?: string): Promise<Approval>
  use(id: ApprovalId): Promise<Approval>
  /**
   * A person's other arguments: the question ends, and another takes its place, with this person's agreement. All or
   * nothing: fails as `answer` does, for the old one and for the new.
   */
  replace(id: ApprovalId, question: Question, person: Person, reason?: string): Promise<Approval>
  void(which: VoidFilter, note: string, replacedBy?: ApprovalId): Promise<void>
  get(id: ApprovalId): Promise<Approval | undefined>
  list(filter: { readonly states?: readonly ApprovalState[]; readonly limit?: number }): Promise<readonly Approval[]>
  /** Expires what nobody answered. Called on a timer. */
  sweep(): Promise<void>
  /** Told of every change. Returns how to stop being told. */
  watch(listener: (approval: Approval) => void): () => void
}

/** So many questions of one session, and of all made from one, may stand unanswered at once: people are not to be flooded. */
const mostOpen = 20
const mostOpenInTree = 60

export function bindingOf({ chain, permission, effect, argsDigest, policy, ask, rules }: Question): string {
  return digestOf({
    chain: chain.map(({ session, agent, behalf }) => ({ session, agent, behalf })),
    permission,
    effect,
    args: argsDigest,
    policy,
    needs: ask.needs.map(({ people, count }) => ({ people: people ?? '', count })),
    rules,
  })
}

export const chainOf = (chain: Facts['chain']): readonly ChainLink[] =>
  chain.map(({ session: { id, agent, behalf, startedBy } }) => ({
    session: id,
    agent,
    behalf,
    ...(startedBy.startsWith('person:') ? { startedBy } : {}),
  }))

const asApproval = (question: Question, id: ApprovalId, now: number): Approval => ({
  ...question,
  id,
  binding: bindingOf(question),
  state: 'pending',
  openedAt: now,
  expiresAt: now + question.ask.within,
  answers: [],
})

export function createApprovals(store: ApprovalStore, audit: Pick<AuditLog, 'append'>, clock: Clock): Approvals {
  const listeners = new Set<(approval: Approval) => void>()
  /** Unanswered questions by id, and those that are being asked by their binding: several calls may ask the same. */
  const pending = new Map<ApprovalId, readonly ChainLink[]>()
  const asking = new Map<string, { readonly chain: readonly ChainLink[]; by: number }>()
  let restored: Promise<void> | undefined

  /** Tells everybody; whoever fails at hearing it keeps nobody else from it. */
  function tell(approval: Approval): void {
    if (approval.state === 'pending') pending.set(approval.id, approval.chain)
    else pending.delete(approval.id)
    for (const listener of listeners)
      try {
        listener(approval)
      } catch {
        listeners.delete(listener)
      }
  }

  /** The record first, then everybody who waits. */
  async function changed(approval: Approval, type: EventType, more: JsonObject = {}): Promise<Approval> {
    await audit
      .append({
        type,
        at: clock(),
        approval: approval.id,
        session: actorOf(approval.chain).session,
        agent: actorOf(approval.chain).agent,
        permission: approval.permission,
        state: approval.state,
        ...more,
      })
      .done.catch((thrown: unknown) => {
        // What is over is over, recorded or not: nobody waits for it.
        if (!isOpen(approval)) tell(approval)
        throw thrown
      })
    tell(approval)
    return approval
  }

  /** As `changed`; what could not be recorded lets nothing happen. */
  async function recorded(approval: Approval, type: EventType, more: JsonObject): Promise<Approval> {
    try {
      return await changed(approval, type, more)
    } catch (thrown) {
      for (const each of await store.void({ id: approval.id }, 'it could not be recorded', clock())) tell(each)
      throw thrown
    }
  }

  /** Those that stood before a restart, as far as the store lists them. */
  async function restore(): Promise<void> {
    for (const { id, chain } of await store.list({ states: ['pending'], limit: 500 })) pending.set(id, chain)
  }

  async function open(question: Question): Promise<Approval> {
    restored ??= restore().catch((thrown: unknown) => {
      restored = undefined
      throw thrown
    })
    await restored
    // Its place is taken before anything else is awaited: as many at once are no more than one by one.
    const binding = bindingOf(question)
    const place = asking.get(binding) ?? { chain: question.chain, by: 0 }
    if (place.by === 0) checkRoom(question.chain)
    place.by += 1
    asking.set(binding, place)
    try {
      return await ask(question, randomId('appr'))
    } finally {
      place.by -= 1
      if (place.by === 0) asking.delete(binding)
    }
  }

  function checkRoom(chain: readonly ChainLink[]): void {
    const standing = [...pending.values(), ...Array.from(asking.values(), (place) => place.chain)]
    const ofSession = standing.filter((each) => actorOf(each).session === actorOf(chain).session)
    if (ofSession.length >= mostOpen)
      throw new Failure(
        'limited',
        `${mostOpen} questions of this session wait for people already: wait for an answer first`,
      )
    const ofTree = standing.filter((each) => each[0]?.session === chain[0]?.session)
    if (ofTree.length >= mostOpenInTree)
      throw new Failure(
        'limited',
        `${mostOpenInTree} questions of the sessions that belong together wait for people already: wait for an answer first`,
      )
  }

  async function ask(question: Question, id: ApprovalId): Promise<Approval> {
    const now = clock()
    const approval = await store.open(asApproval(question, id, now), now)
    if (approval.id !== id) return approval
    return recorded(approval, 'approval.open', {
      because: approval.because,
      rules: approval.rules,
      args: approval.argsDigest,
      policy: approval.policy,
      expiresAt: approval.expiresAt,
      for: approval.ask.needs.map(needInWords),
      chain: approval.chain.map((link) => ({ ...link })),
    })
  }

  async function replace(id: ApprovalId, question: Question, person: Person, reason?: string): Promise<Approval> {
    const old = await store.get(id)
    if (old === undefined) throw new Failure('not_found', `there is no approval ${id}`)
    if (old.binding === bindingOf(question))
      throw new Failure('invalid', `these are the arguments that ${id} asks about: approve or deny it`)
    const standing = await store.find(bindingOf(question), clock())
    const fresh = standing ?? asApproval(question, randomId('appr'), clock())
    // Who may not answer either of them changes nothing.
    const given = answerOf(person, 'approve', reason)
    answered(old, given)
    answered(fresh, given)
    const note = `${person.name} changed the arguments: see ${fresh.id}`
    const voided = await store.void({ id }, note, clock(), fresh.id)
    // The agent was quicker: what it asked for is on its way, and there is nothing left to change.
    if (voided.length === 0) throw new Failure('conflict', `${id} does not stand any more`)
    for (const each of voided) await changed(each, 'approval.void', { because: note })
    const next = standing ?? (await ask(question, fresh.id))
    return answer(next.id, person, 'approve', reason)
  }

  function settled(id: ApprovalId, signal: AbortSignal): Promise<Approval> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        store.get(id).then((approval) => {
          if (approval === undefined) fail(new Failure('not_found', `there is no ${id}`))
          else finish(approval)
        }, fail)
      }
      const finish = (approval: Approval): void => {
        if (approval.state === 'pending' && !signal.aborted) return
        stop()
        resolve(approval)
      }
      const fail = (thrown: unknown): void => {
        stop()
        reject(Failure.from(thrown))
      }
      const listener = (approval: Approval): void => {
        if (approval.id === id) finish(approval)
      }
      const stop = (): void => {
        listeners.delete(listener)
        signal.removeEventListener('abort', look)
      }
      listeners.add(listener)
      signal.addEventListener('abort', look, { once: true })
      look()
    })
  }

  function answerOf(person: Person, verdict: Answer['verdict'], reason: string | undefined): Answer {
    if (!person.roles.includes('approver') && !person.roles.includes('admin'))
      throw new Failure('forbidden', `${person.name} is no approver`)
    if (reason !== undefined && reason.length > 2_000)
      throw new Failure('too_large', 'a reason has at most 2,000 characters')
    const by = callerName(person)
    return { by, verdict, at: clock(), teams: person.teams, ...(reason === undefined ? {} : { reason }) }
  }

  async function answer(
    id: ApprovalId,
    person: Person,
    verdict: Answer['verdict'],
    reason?: string,
  ): Promise<Approval> {
    const given = answerOf(person, verdict, reason)
    const approval = await store.answer(id, given)
    return recorded(approval, 'approval.answer', {
      by: given.by,
      verdict,
      ...(reason === undefined ? {} : { reason }),
    })
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
    replace,
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
