import type { Action } from '../core/action.ts'
import { actorOf } from '../core/approval.ts'
import type { Approval } from '../core/approval.ts'
import type { AuditLog } from '../core/audit.ts'
import { costAtStart, decide, limitReached, limitsOf, visible } from '../core/decide.ts'
import type { Decision, Denied, Facts, RefusalCode, Trace } from '../core/decide.ts'
import { Failure } from '../core/failure.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { AppliedLimit } from '../core/limit.ts'
import type { Effect, Permission } from '../core/permission.ts'
import { redact } from '../core/redact.ts'
import type { Redacted } from '../core/redact.ts'
import { chainOf } from './approvals.ts'
import type { Approvals, Question } from './approvals.ts'
import type { Clock } from './clock.ts'
import type { Counters } from './counters.ts'
import { digestOf } from './digest.ts'
import type { Policies } from './policies.ts'
import type { AsStarted, Sessions } from './sessions.ts'

/** What came of performing an action. */
export interface Performed<T> {
  readonly value: T
  /** The result as the record keeps it, redacted and cut. */
  readonly record: Json
  /** Its whole size. */
  readonly bytes: number
  /** It was performed and said that it failed, such as a tool result with `isError`. */
  readonly failed?: boolean
  readonly tokens?: number
  /** Millionths of a US dollar. */
  readonly spend?: number
  readonly checks: Checks
}

/** Which inspections ran over something, and which did not, and why (promise 7). */
export interface Checks {
  readonly ran: readonly string[]
  readonly skipped?: readonly { readonly what: string; readonly because: string }[]
}

export interface Refusal {
  readonly code: RefusalCode | 'approval_pending' | 'approval_denied'
  /** In words that the agent may see, and can act on. */
  readonly because: string
  /** The event that records it. */
  readonly event: string
  readonly approval?: { readonly id: string; readonly expiresAt: number; readonly edited?: JsonObject }
  /** Epoch milliseconds. */
  readonly retryAt?: number
}

export type Outcome<T> =
  | { readonly kind: 'done'; readonly value: T; readonly event: string }
  | { readonly kind: 'refused'; readonly refusal: Refusal }

/** How a caller waits for people: how long, and what it does meanwhile. */
export interface Hold {
  /** Milliseconds. 0: not at all. */
  readonly most: number
  /** Told once, when the wait begins. Returns what ends it. */
  readonly waiting?: (approval: Approval) => () => void
}

/** What the agent is told after each part of the path. */
export interface Guard {
  /**
   * Performs an action if policy allows it, and writes down what became of it: the only way anything acts on anything.
   *
   * `perform` gets a signal that cuts it when the session ends or the caller leaves. A refusal is a value; fails with
   * `unavailable` when the record can't be written, `cancelled` when it was cut, or as `perform` failed.
   */
  run<T>(
    action: Action,
    perform: (signal: AbortSignal) => Promise<Performed<T>>,
    hold: Hold,
    caller: AbortSignal,
  ): Promise<Outcome<T>>
  /** What would be decided now, with every step told to `trace`. Nothing is counted, asked or performed. */
  explain(action: Action, trace?: Trace): Decision
  /** The same for sessions that are not there: as if each had been started from the one before. */
  explainFor(started: readonly AsStarted[], action: Action, trace?: Trace): Decision
  /** Whether a session may know that an operation exists. */
  visible(session: string, permission: Permission, effect: Effect): boolean
  /** A person puts other arguments into a question: the old one ends, and a new one is decided. */
  edit(id: string, args: JsonObject, person: Parameters<Approvals['answer']>[1], reason?: string): Promise<Approval>
}

export interface GuardPorts {
  readonly sessions: Sessions
  readonly policies: Policies
  readonly approvals: Approvals
  readonly counters: Counters
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** Bytes of arguments and of a result that an event keeps. */
  readonly keep: number
  /** Replaces the secret values that Sallyport holds, wherever they turn up in a text. */
  readonly hideSecrets: (text: string) => string
}

interface Allowed {
  readonly decision: Extract<Decision, { kind: 'allow' }>
  readonly limits: readonly AppliedLimit[]
}

export function createGuard(ports: GuardPorts): Guard {
  const { sessions, policies, approvals, counters, audit, clock } = ports
  const bounds = { maxBytes: ports.keep, maxString: ports.keep, secrets: ports.hideSecrets }

  async function run<T>(
    action: Action,
    perform: (signal: AbortSignal) => Promise<Performed<T>>,
    hold: Hold,
    caller: AbortSignal,
  ): Promise<Outcome<T>> {
    const flight = sessions.flight(action.session)
    const cut = AbortSignal.any([flight.signal, caller])
    const argsDigest = digestOf(action.args)
    let running: readonly AppliedLimit[] = []
    try {
      const settled = await settle(action, argsDigest, hold, cut)
      if ('refusal' in settled) return { kind: 'refused', refusal: settled.refusal }
      running = settled.limits.filter(({ limit }) => limit.measure === 'concurrent')

      const { decision } = settled
      const event = recordDecision(action, argsDigest, decision)
      await event.done // Before the act: what cannot be written down is not done.
      return await act(action, event.id, settled, perform, cut)
    } finally {
      counters.add(running.map((applied) => ({ applied, cost: -1 })))
      flight.land()
    }
  }

  /** Decides, asks people where that is the answer, and takes what limits leave. The only place a failure becomes a refusal. */
  async function settle(
    action: Action,
    argsDigest: string,
    hold: Hold,
    cut: AbortSignal,
  ): Promise<Allowed | { readonly refusal: Refusal }> {
    let facts = factsOf(action, argsDigest)
    let decision = decideOrDeny(action, facts)
    if (decision.kind === 'ask') {
      const question = questionOf(action, facts, decision)
      const approval = await answerTo(question, hold, cut)
      if ('code' in approval) return { refusal: await refuse(action, argsDigest, approval) }
      if (approval.state !== 'approved')
        return { refusal: await refuseUnanswered(action, argsDigest, decision, approval) }
      // Afresh, with the answer as one more fact: a grant may have ended while a person thought.
      facts = { ...factsOf(action, argsDigest), approval }
      decision = decideOrDeny(action, facts)
      if (decision.kind === 'ask')
        decision = {
          kind: 'deny',
          code: 'denied',
          rules: decision.rules,
          because: 'the policy changed meanwhile: repeat the call',
        }
    }
    if (decision.kind === 'deny') return { refusal: await refuse(action, argsDigest, decision) }
    if (decision.approval !== undefined) {
      const spent = await spend(decision.approval)
      if (spent !== undefined) return { refusal: await refuse(action, argsDigest, spent) }
    }

    // From here to the charge nothing is awaited: what was checked is what is charged.
    const limits = limitsOf(action, facts)
    const charges = limits.map((applied) => ({ applied, cost: costAtStart(applied.limit) }))
    const observed = decision.would?.kind === 'deny' && decision.would.code === 'limited'
    if (observed) counters.add(charges)
    const full = observed ? undefined : counters.take(charges)
    if (full !== undefined)
      return { refusal: await refuse(action, argsDigest, limitReached(full.limit, full.whose, undefined)) }
    return { decision, limits }
  }

  /** The open question about this very action, waited for as long as the caller can. */
  async function answerTo(question: Question, hold: Hold, cut: AbortSignal): Promise<Approval | Denied> {
    const known = (await approvals.find(question)) ?? (await opened(question))
    if ('code' in known) return known
    if (known.state !== 'pending' || hold.most <= 0) return known
    const stop = hold.waiting?.(known)
    const enough = new AbortController()
    const timer = setTimeout(() => enough.abort(), hold.most)
    try {
      return await approvals.settled(known.id, AbortSignal.any([cut, enough.signal]))
    } finally {
      clearTimeout(timer)
      stop?.()
    }
  }

  async function opened(question: Question): Promise<Approval | Denied> {
    try {
      return await approvals.open(question)
    } catch (thrown) {
      const { code, message } = Failure.from(thrown)
      if (code !== 'limited') throw thrown
      return { kind: 'deny', code, rules: ['limit:questions'], because: message }
    }
  }

  async function spend(id: string): Promise<Denied | undefined> {
    try {
      await approvals.use(id)
      return undefined
    } catch (thrown) {
      if (Failure.from(thrown).code !== 'conflict') throw thrown
      return {
        kind: 'deny',
        code: 'denied',
        rules: [`approval:${id}`],
        because: `${id} was used already: it lets one call happen once`,
      }
    }
  }

  async function act<T>(
    action: Action,
    event: string,
    { limits }: Allowed,
    perform: (signal: AbortSignal) => Promise<Performed<T>>,
    cut: AbortSignal,
  ): Promise<Outcome<T>> {
    const startedAt = clock()
    const outcome = (type: string, more: JsonObject): Promise<void> =>
      audit.append(
        {
          type,
          at: clock(),
          of: event,
          session: action.session,
          agent: agentOf(action.session),
          permission: action.permission,
          took: clock() - startedAt,
          ...more,
        },
        'written',
      ).done

    let performed: Performed<T>
    try {
      performed = await uncut(perform, cut)
    } catch (thrown) {
      const failure = cut.aborted ? cancelled(cut) : Failure.from(thrown)
      await outcome('action.failed', { code: failure.code, because: failure.message, mayHaveHappened: true })
      throw failure
    }

    // Whatever it read marks the session before anybody can act on it: in memory at once, durable before the answer.
    const marked = sessions.mark(action.session, action.label)
    marked.catch(() => {}) // Awaited below, after the record.
    counters.add(
      limits.flatMap((applied) => {
        const { measure } = applied.limit
        const cost =
          measure === 'bytes'
            ? performed.bytes
            : measure === 'tokens'
              ? performed.tokens
              : measure === 'spend'
                ? performed.spend
                : 0
        return cost === undefined || cost === 0 ? [] : [{ applied, cost }]
      }),
    )
    const kept = redact(performed.record, bounds)
    await outcome(performed.failed === true ? 'action.error' : 'action.done', {
      result: kept.value,
      resultDigest: digestOf(performed.record),
      bytes: performed.bytes,
      label: { ...action.label },
      checks: performed.checks as unknown as JsonObject,
      ...changesIn(kept),
      ...(performed.tokens === undefined ? {} : { tokens: performed.tokens }),
      ...(performed.spend === undefined ? {} : { spend: performed.spend }),
    })
    await marked
    return { kind: 'done', value: performed.value, event }
  }

  async function refuse(action: Action, argsDigest: string, decision: Denied): Promise<Refusal> {
    const event = recordDecision(action, argsDigest, decision)
    await event.done
    const { code, because, retryAt } = decision
    return { code, because, event: event.id, ...(retryAt === undefined ? {} : { retryAt }) }
  }

  async function refuseUnanswered(
    action: Action,
    argsDigest: string,
    decision: Extract<Decision, { kind: 'ask' }>,
    approval: Approval,
  ): Promise<Refusal> {
    const event = recordDecision(action, argsDigest, decision, approval)
    await event.done
    const { id, expiresAt, state, note } = approval
    if (state === 'pending')
      return { code: 'approval_pending', because: decision.because, event: event.id, approval: { id, expiresAt } }
    const edited = approval.replacedBy === undefined ? undefined : (await approvals.get(approval.replacedBy))?.args
    return {
      code: 'approval_denied',
      because: note === undefined ? `nobody agreed: ${id} is ${state}` : `${id} is ${state}: ${note}`,
      event: event.id,
      approval: { id: approval.replacedBy ?? id, expiresAt, ...(edited === undefined ? {} : { edited }) },
    }
  }

  function recordDecision(action: Action, argsDigest: string, decision: Decision, approval?: Approval) {
    const kept = redact(action.args, bounds)
    const chain = sessions.chain(action.session)
    const policy = policies.current().policy.digest
    const approvalId = approval?.id ?? (decision.kind === 'allow' ? decision.approval : undefined)
    return audit.append({
      type: 'decision',
      at: clock(),
      session: action.session,
      agent: agentOf(action.session),
      chain: chainOf(chain).map(({ session, agent, behalf }) => ({ session, agent, behalf })),
      permission: action.permission,
      effect: action.effect,
      via: action.via,
      ...(action.name === undefined ? {} : { name: action.name.slice(0, 200) }),
      decision: decision.kind,
      rules: decision.rules,
      because: decision.because,
      policy,
      args: kept.value,
      argsDigest,
      flow: { ...sessions.label(action.session) },
      checks: { ran: ['arguments', 'grants', 'limits', 'policy'] },
      ...changesIn(kept),
      ...(decision.kind === 'deny' ? { code: decision.code } : {}),
      ...(decision.kind === 'deny' && decision.detail !== undefined ? { detail: decision.detail } : {}),
      ...(decision.kind === 'allow' && decision.would !== undefined
        ? { would: { decision: decision.would.kind, rules: decision.would.rules, because: decision.would.because } }
        : {}),
      ...(approvalId === undefined ? {} : { approval: approvalId }),
    })
  }

  function decideOrDeny(action: Action, facts: Facts): Decision {
    try {
      return decide(action, facts, clock())
    } catch (thrown) {
      const detail = thrown instanceof Error ? thrown.message : 'failed'
      return {
        kind: 'deny',
        code: 'denied',
        rules: ['default:undecidable'],
        because: 'this could not be decided',
        detail,
      }
    }
  }

  function factsOf(action: Pick<Action, 'session'>, argsDigest: string): Facts {
    return {
      policy: policies.current().policy,
      chain: sessions.chain(action.session),
      label: sessions.label(action.session),
      counter: (key) => counters.read(key),
      argsDigest,
    }
  }

  const agentOf = (session: string): string => sessions.get(session)?.agent ?? ''

  async function edit(
    id: string,
    args: JsonObject,
    person: Parameters<Approvals['answer']>[1],
    reason?: string,
  ): Promise<Approval> {
    const old = await approvals.get(id)
    if (old === undefined) throw new Failure('not_found', `there is no ${id}`)
    if (old.state !== 'pending') throw new Failure('conflict', `${id} is ${old.state}`)
    const session = actorOf(old.chain).session
    const action: Action = {
      session,
      permission: old.permission,
      effect: old.effect,
      args,
      problems: [],
      label: sessions.label(session),
      via: 'api',
    }
    const argsDigest = digestOf(args)
    const facts = factsOf(action, argsDigest)
    const decision = decideOrDeny(action, facts)
    if (decision.kind !== 'ask')
      throw new Failure(
        'conflict',
        decision.kind === 'deny'
          ? `with these arguments policy refuses it: ${decision.because}`
          : 'with these arguments no approval is needed: deny this one and let the agent make that call',
      )
    return approvals.replace(id, questionOf(action, facts, decision), person, reason)
  }

  return {
    run,
    explain: (action, trace) => decide(action, factsOf(action, digestOf(action.args)), clock(), trace),
    explainFor(started, action, trace) {
      const facts = { ...factsOf(action, digestOf(action.args)), chain: sessions.chainAs(started) }
      return decide(action, facts, clock(), trace)
    },
    visible: (session, permission, effect) => {
      const chain = sessions.chain(session)
      return chain.length > 0 && visible(permission, effect, chain, policies.current().policy)
    },
    edit,
  }
}

function questionOf(action: Action, facts: Facts, decision: Extract<Decision, { kind: 'ask' }>): Question {
  return {
    chain: chainOf(facts.chain),
    permission: action.permission,
    effect: action.effect,
    args: action.args,
    argsDigest: facts.argsDigest,
    policy: facts.policy.digest,
    rules: decision.rules,
    because: decision.because,
    ask: decision.ask,
  }
}

/** What the record does not show as it was (promise 7). */
const changesIn = ({ changed, changes }: Redacted): JsonObject =>
  changed === 0 ? {} : { cut: changes.map((change) => ({ ...change })), cuts: changed }

const cancelled = (cut: AbortSignal): Failure =>
  cut.reason instanceof Failure ? cut.reason : new Failure('cancelled', 'the caller left')

/** Performs until it is done or cut, whichever is first: work that ignores its signal holds nobody up. */
async function uncut<T>(perform: (signal: AbortSignal) => Promise<T>, cut: AbortSignal): Promise<T> {
  if (cut.aborted) throw cancelled(cut)
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(cancelled(cut))
    cut.addEventListener('abort', leave, { once: true })
    perform(cut)
      .then(resolve, reject)
      .finally(() => cut.removeEventListener('abort', leave))
  })
}
