import type { Action } from '../core/action.ts'
import { actorOf } from '../core/approval.ts'
import type { Approval, Ask } from '../core/approval.ts'
import type { AuditLog } from '../core/audit.ts'
import { costAtStart, decide, isObserved, limitReached, limitsOf, notThere, partsOf, visible } from '../core/decide.ts'
import type { Decision, Denied, Facts, Link, RefusalCode, Trace } from '../core/decide.ts'
import type { EventType } from '../core/event.ts'
import { Failure } from '../core/failure.ts'
import type { Json, JsonObject } from '../core/json.ts'
import { check } from '../core/limit.ts'
import type { AppliedLimit, Measure } from '../core/limit.ts'
import type { Effect, Permission } from '../core/permission.ts'
import { redact } from '../core/redact.ts'
import type { Redacted } from '../core/redact.ts'
import { bindingOf, chainOf } from './approvals.ts'
import type { Approvals, Question } from './approvals.ts'
import type { Clock } from './clock.ts'
import type { Charge, Counters } from './counters.ts'
import { digestOf } from './digest.ts'
import type { Policies } from './policies.ts'
import type { AsStarted, Flight, Sessions } from './sessions.ts'

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
  /** Names of the secrets that were added to it. */
  readonly secrets?: readonly string[]
  /** The number by which people can undo it. */
  readonly change?: string
  readonly checks: Checks
}

/** Does it. */
export type Perform<T> = (signal: AbortSignal, passed: CountPassed, permit: Permit) => Promise<Performed<T>>

/**
 * Told how many bytes came back, of a result that is handed on while it comes: they count also where the rest never
 * does. And, before they go out, how many are to be sent. False where a limit leaves no room for them: they must not go,
 * and what runs is cut. What did not go out after all is taken back by a negative number.
 */
export type CountPassed = (bytes: number, sent?: number) => boolean

/** A limit left no room for what would have gone out. */
export class LimitReached extends Failure {
  /** Epoch milliseconds. */
  readonly retryAt: number | undefined

  constructor({ because, retryAt }: Denied) {
    super('limited', because)
    this.retryAt = retryAt
  }
}

/** It was begun, and is surely undone: nothing has happened. */
export class Undone extends Failure {}

/** The decision that let something happen. */
export interface Permit {
  /** The event that records it. */
  readonly event: string
  /** In words that the agent may see. */
  readonly because: string
  /** What people were shown beside the arguments when they agreed. */
  readonly evidence?: JsonObject
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

/** What would be decided, as the agent may know it. */
export type Evaluation = { readonly event: string; readonly because: string } & (
  | { readonly kind: 'allow' }
  | { readonly kind: 'ask'; readonly ask: Ask }
  | { readonly kind: 'deny'; readonly code: RefusalCode; readonly retryAt?: number }
)

export type Outcome<T> =
  | { readonly kind: 'done'; readonly value: T; readonly event: string }
  | { readonly kind: 'refused'; readonly refusal: Refusal }

/** How a caller waits for people: how long, and what it does meanwhile. */
export interface Hold {
  /** Milliseconds. 0: not at all. */
  readonly most: number
  /** Told once, when the wait begins. Returns what ends it. */
  readonly waiting?: (approval: Approval) => () => void
  /**
   * What people should see beside the arguments: what would be touched. Found out once, when the question is opened;
   * where it fails, the question says so.
   */
  readonly evidence?: (cut: AbortSignal) => Promise<JsonObject>
}

/** What the agent is told after each part of the path. */
export interface Guard {
  /**
   * Decides and writes it down, and nothing else: nothing is performed, counted, asked or spent. The answer holds for
   * this moment alone. Fails with `unavailable` when it can't be written.
   */
  evaluate(action: Action, more?: JsonObject): Promise<Evaluation>
  /**
   * Performs an action if policy allows it, and writes down what became of it: the only way anything acts on anything.
   *
   * `perform` gets a signal that cuts it when the session ends or the caller leaves. A refusal is a value; fails with
   * `unavailable` when the record can't be written, `cancelled` when it was cut, or as `perform` failed.
   */
  run<T>(action: Action, perform: Perform<T>, hold: Hold, caller: AbortSignal): Promise<Outcome<T>>
  /** What would be decided now, with every step told to `trace`. Nothing is counted, asked or performed. */
  explain(action: Action, trace?: Trace): Decision
  /** The same for sessions that are not there: as if each had been started from the one before. */
  explainFor(started: readonly AsStarted[], action: Action, trace?: Trace): Decision
  /** What would be decided now about an action that runs already: whether it may go on. Tells and counts nothing. */
  stands(action: Action): Decision
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

/** How many calls of one session may wait for people at once. The others are told that it is pending. */
const mostHeld = 64

/** An action, and who tried it: for the record, whatever becomes of the session meanwhile. */
interface Tried {
  readonly action: Action
  /** Absent for arguments that have none. */
  readonly argsDigest?: string
  readonly chain: readonly Link[]
}

interface Allowed {
  readonly decision: Extract<Decision, { kind: 'allow' }>
  /** What it was decided by. */
  readonly facts: Facts
  readonly limits: readonly AppliedLimit[]
}

export function createGuard(ports: GuardPorts): Guard {
  const { sessions, policies, approvals, counters, audit, clock } = ports
  const bounds = { maxBytes: ports.keep, maxString: ports.keep, secrets: ports.hideSecrets }

  const held = new Map<string, number>()

  async function run<T>(given: Action, perform: Perform<T>, hold: Hold, caller: AbortSignal): Promise<Outcome<T>> {
    const tried = triedNow(given)
    const flight = sessions.flight(given.session, caller)
    let running: readonly AppliedLimit[] = []
    try {
      const settled = await settle(tried, hold, flight.signal)
      if ('refusal' in settled) return { kind: 'refused', refusal: settled.refusal }
      running = settled.limits.filter(({ limit }) => limit.measure === 'concurrent')

      const event = recordDecision(tried, settled.facts, settled.decision)
      await event.done // Before the act: what cannot be written down is not done.
      return await act(tried, event.id, settled, perform, flight)
    } finally {
      counters.add(running.map((applied) => ({ applied, cost: -1 })))
      flight.land()
    }
  }

  /** Arguments that have no canonical form are wrong arguments: nobody could approve, count or record them exactly. */
  function triedNow(action: Action): Tried {
    const chain = sessions.chain(action.session)
    try {
      return { action, argsDigest: digestOf(action.args), chain }
    } catch (thrown) {
      const problem = { path: '', message: Failure.from(thrown).message }
      return { action: { ...action, problems: [...action.problems, problem] }, chain }
    }
  }

  /** Decides, asks people where that is the answer, and takes what limits leave. The only place a failure becomes a refusal. */
  async function settle(tried: Tried, hold: Hold, cut: AbortSignal): Promise<Allowed | { readonly refusal: Refusal }> {
    const { action, argsDigest = '' } = tried
    let facts = withLimits(action, factsOf(action, argsDigest))
    let decision = decideOrDeny(action, facts)
    if (decision.kind === 'ask') {
      const question = questionOf(action, facts, decision)
      const approval = await answerTo(question, hold, cut)
      if ('code' in approval) return { refusal: await refuse(tried, facts, approval) }
      if (approval.state !== 'approved') return { refusal: await refuseUnanswered(tried, facts, decision, approval) }
      // Afresh, with the answer as one more fact: a grant may have ended while a person thought.
      facts = withLimits(action, factsOf(action, argsDigest))
      decision = decideOrDeny(action, facts)
      // INVARIANT: an answer counts for the very question that it was given to, also where another stands by now.
      if (decision.kind === 'ask' && bindingOf(questionOf(action, facts, decision)) === approval.binding) {
        facts = { ...facts, approval }
        decision = decideOrDeny(action, facts)
      }
      if (decision.kind === 'ask')
        decision = {
          kind: 'deny',
          code: 'denied',
          rules: decision.rules,
          because: 'what people were asked is not what would happen now: repeat the call',
        }
    }
    if (decision.kind === 'deny') return { refusal: await refuse(tried, facts, decision) }
    if (decision.approval !== undefined) {
      const spent = await spend(decision.approval)
      if (spent !== undefined) return { refusal: await refuse(tried, facts, spent) }
    }

    // From here to the charge nothing is awaited: what was checked is what is charged.
    const { limits } = facts
    const charges = limits.map((applied) => ({ applied, cost: costAtStart(applied.limit) }))
    const observed = isObserved(facts.chain)
    if (observed) counters.add(charges)
    const full = observed ? undefined : counters.take(charges)
    if (full !== undefined) {
      const { retryAt } = check(full.limit, counters.read(full.key), costAtStart(full.limit), clock())
      return { refusal: await refuse(tried, facts, limitReached(full.limit, full.whose, retryAt)) }
    }
    return { decision, facts, limits }
  }

  /** The open question about this very action, waited for as long as the caller can. */
  async function answerTo(question: Question, hold: Hold, cut: AbortSignal): Promise<Approval | Denied> {
    const known = (await approvals.find(question)) ?? (await opened(await withEvidence(question, hold, cut)))
    if ('code' in known) return known
    const { session } = actorOf(question.chain)
    const waiting = held.get(session) ?? 0
    if (known.state !== 'pending' || hold.most <= 0 || waiting >= mostHeld) return known
    held.set(session, waiting + 1)
    const enough = new AbortController()
    const timer = setTimeout(() => enough.abort(), hold.most)
    let stop: (() => void) | undefined
    try {
      stop = hold.waiting?.(known)
      return await approvals.settled(known.id, AbortSignal.any([cut, enough.signal]))
    } finally {
      clearTimeout(timer)
      const left = (held.get(session) ?? 1) - 1
      if (left === 0) held.delete(session)
      else held.set(session, left)
      stop?.()
    }
  }

  async function withEvidence(question: Question, { evidence }: Hold, cut: AbortSignal): Promise<Question> {
    if (evidence === undefined) return question
    const found = await uncut(evidence, cut).catch((thrown: unknown): JsonObject => {
      if (cut.aborted) throw thrown
      return { failed: Failure.from(thrown).message }
    })
    return { ...question, evidence: redact(found, bounds).value as JsonObject }
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
    { action, chain }: Tried,
    event: string,
    { decision, facts, limits }: Allowed,
    perform: Perform<T>,
    flight: Flight,
  ): Promise<Outcome<T>> {
    const cut = flight.signal
    const startedAt = clock()
    const outcome = (type: EventType, more: JsonObject): Promise<void> =>
      audit.append(
        {
          type,
          at: clock(),
          of: event,
          session: action.session,
          agent: agentOf(chain),
          permission: action.permission,
          ...(action.host === undefined ? {} : { host: action.host }),
          took: clock() - startedAt,
          ...more,
        },
        'written',
      ).done

    let performed: Performed<T>
    let begun = false
    const meter = meterOf(action, facts, limits, flight)
    try {
      // What is read marks the session before any of it can reach the agent: progress and errors come before the end.
      await sessions.mark(action.session, action.label)
      performed = await uncut((signal) => {
        begun = true
        meter.begin()
        const evidence = facts.approval?.evidence
        return perform(signal, meter.count, {
          event,
          because: decision.because,
          ...(evidence === undefined ? {} : { evidence }),
        })
      }, cut)
      const full = meter.full()
      if (full !== undefined) throw full
    } catch (thrown) {
      const full = meter.full()
      const failure = full ?? (cut.aborted ? cancelled(cut) : Failure.from(thrown))
      const size: JsonObject = Object.fromEntries(Object.entries(meter.passed).filter(([, bytes]) => bytes > 0))
      const isRefusal = full !== undefined && Object.keys(size).length === 0
      const { code, message: because } = failure
      const mayHaveHappened = begun && !isRefusal && !(failure instanceof Undone)
      await outcome('action.failed', { code, because, mayHaveHappened, ...size })
      if (!isRefusal) throw failure
      const { retryAt } = full
      return {
        kind: 'refused',
        refusal: { code: 'limited', because, event, ...(retryAt === undefined ? {} : { retryAt }) },
      }
    }

    meter.count(Math.max(0, performed.bytes - meter.passed.bytes))
    meter.charge('tokens', performed.tokens ?? 0)
    meter.charge('spend', performed.spend ?? 0)
    const { sent } = meter.passed
    const kept = redact(performed.record, bounds)
    await outcome(performed.failed === true ? 'action.error' : 'action.done', {
      result: kept.value,
      ...digestIfAny(performed.record),
      bytes: performed.bytes,
      label: { readers: action.label.readers, trust: action.label.trust },
      checks: performed.checks as unknown as JsonObject,
      ...changesIn(kept),
      ...(action.host === undefined && sent === 0 ? {} : { sent }),
      ...(performed.tokens === undefined ? {} : { tokens: performed.tokens }),
      ...(performed.spend === undefined ? {} : { spend: performed.spend }),
      ...(performed.secrets === undefined || performed.secrets.length === 0 ? {} : { secrets: performed.secrets }),
      ...(performed.change === undefined || performed.failed === true ? {} : { change: performed.change }),
    })
    return { kind: 'done', value: performed.value, event }
  }

  /** Counts what one action passes on, for its limits and for who looks. What goes out takes the room that limits leave. */
  function meterOf({ session, host }: Action, facts: Facts, limits: readonly AppliedLimit[], flight: Flight) {
    const passed = { bytes: 0, sent: 0 }
    const isObservedOnly = isObserved(facts.chain)
    let full: LimitReached | undefined
    const chargesOf = (measure: Measure, cost: number): readonly Charge[] =>
      limits.flatMap((applied) => (applied.limit.measure === measure ? [{ applied, cost }] : []))

    function take(bytes: number): boolean {
      const charges = chargesOf('sent', bytes)
      if (isObservedOnly || bytes <= 0) {
        counters.add(charges)
        return true
      }
      if (full !== undefined) return false
      const reached = counters.take(charges)
      if (reached === undefined) return true
      const { limit, key, whose } = reached
      const { retryAt } = check(limit, counters.read(key), bytes, clock())
      full = new LimitReached(limitReached(limit, whose, retryAt, bytes))
      flight.cut(full)
      return false
    }

    return {
      passed,
      full: () => full,
      charge: (measure: Measure, cost: number): void => counters.add(chargesOf(measure, cost)),
      begin: (): void => void (host === undefined || sessions.count(session, host, { requests: 1 })),
      count: (bytes: number, sent = 0): boolean => {
        const mayGo = take(sent)
        const gone = mayGo ? sent : 0
        counters.add(chargesOf('bytes', bytes))
        passed.bytes += bytes
        passed.sent += gone
        if (host !== undefined) sessions.count(session, host, { sent: gone, received: bytes })
        return mayGo
      },
    }
  }

  async function refuse(tried: Tried, facts: Facts, decision: Denied): Promise<Refusal> {
    const event = recordDecision(tried, facts, decision)
    await event.done
    return { ...told(tried.action, facts, decision), event: event.id }
  }

  /** What the agent is told of a refusal. */
  function told(action: Action, facts: Facts, { code, because, retryAt }: Denied) {
    // What is not listed is not there, for whatever reason it is refused.
    const isListed = partsOf(action).every((part) => visible(part.permission, part.effect, facts.chain, facts.policy))
    if (action.refused === undefined && code !== 'session_over' && !isListed)
      return { code: 'unknown' as const, because: notThere }
    return { code, because, ...(retryAt === undefined ? {} : { retryAt }) }
  }

  async function evaluate(given: Action, more: JsonObject = {}): Promise<Evaluation> {
    const tried = triedNow(given)
    const { action, argsDigest = '' } = tried
    const facts = factsOf(action, argsDigest)
    const decision = decideOrDeny(action, facts)
    const event = recordDecision(tried, facts, decision, undefined, { ...more, type: 'evaluation' })
    await event.done
    const { kind, because } = decision
    if (kind === 'deny') return { kind, ...told(action, facts, decision), event: event.id }
    return kind === 'ask' ? { kind, because, ask: decision.ask, event: event.id } : { kind, because, event: event.id }
  }

  async function refuseUnanswered(
    tried: Tried,
    facts: Facts,
    decision: Extract<Decision, { kind: 'ask' }>,
    approval: Approval,
  ): Promise<Refusal> {
    const event = recordDecision(tried, facts, decision, approval)
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

  function recordDecision(
    { action, argsDigest, chain }: Tried,
    facts: Facts,
    decision: Decision,
    approval?: Approval,
    more: JsonObject & { readonly type: EventType } = { type: 'decision' },
  ) {
    const kept = redact(action.args, bounds)
    const approvalId = approval?.id ?? (decision.kind === 'allow' ? decision.approval : undefined)
    // What is given beside comes first: nothing in it stands in for what was decided. The rest is in the order of the
    // canonical form, in which it need not be sorted.
    return audit.append({
      ...more,
      agent: agentOf(chain),
      ...(approvalId === undefined ? {} : { approval: approvalId }),
      args: kept.value,
      ...(argsDigest === undefined ? {} : { argsDigest }),
      at: clock(),
      because: decision.because,
      chain: chainOf(chain).map(({ session, agent, behalf }) => ({ agent, behalf, session })),
      checks: decisionChecks,
      ...(decision.kind === 'deny' ? { code: decision.code } : {}),
      ...changesIn(kept),
      decision: decision.kind,
      ...(decision.kind === 'deny' && decision.detail !== undefined ? { detail: decision.detail } : {}),
      effect: action.effect,
      flow: { readers: facts.label.readers, trust: facts.label.trust },
      ...(action.name === undefined ? {} : { name: action.name.slice(0, 200) }),
      ...(action.parts === undefined ? {} : { parts: action.parts.map(({ permission }) => permission) }),
      permission: action.permission,
      policy: facts.policy.digest,
      rules: decision.rules,
      session: action.session,
      via: action.via,
      ...(decision.kind === 'allow' && decision.would !== undefined
        ? { would: { because: decision.would.because, decision: decision.would.kind, rules: decision.would.rules } }
        : {}),
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

  const withLimits = (action: Action, facts: Facts) => ({ ...facts, limits: limitsOf(action, facts) })

  const agentOf = (chain: readonly Link[]): string => chain.at(-1)?.session.agent ?? ''

  async function edit(
    id: string,
    args: JsonObject,
    person: Parameters<Approvals['answer']>[1],
    reason?: string,
  ): Promise<Approval> {
    const old = await approvals.get(id)
    if (old === undefined) throw new Failure('not_found', `there is no ${id}`)
    if (old.state !== 'pending') throw new Failure('conflict', `${id} is ${old.state}`)
    if (old.parts !== undefined)
      throw new Failure('conflict', `what ${id} needs follows from what it says: deny it, and say what to do instead`)
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
    evaluate,
    explain: (action, trace) => decide(action, factsOf(action, digestOf(action.args)), clock(), trace),
    stands: (action) => decideOrDeny(action, { ...factsOf(action, digestOf(action.args)), isRunning: true }),
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
    ...(action.parts === undefined
      ? {}
      : { parts: action.parts.map(({ permission, effect }) => ({ permission, effect })) }),
    argsDigest: facts.argsDigest,
    policy: facts.policy.digest,
    rules: decision.rules,
    because: decision.because,
    ask: decision.ask,
  }
}

const decisionChecks = { ran: ['arguments', 'grants', 'limits', 'policy'] }

/** What the record does not show as it was (promise 7). */
const changesIn = ({ changed, changes }: Redacted): JsonObject =>
  changed === 0 ? {} : { cut: changes.map((change) => ({ ...change })), cuts: changed }

/** Upstreams send what has no canonical form; it happened all the same. */
function digestIfAny(record: Json): JsonObject {
  try {
    return { resultDigest: digestOf(record) }
  } catch {
    return {}
  }
}

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
