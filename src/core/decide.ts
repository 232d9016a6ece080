import { bothAsks } from './approval.ts'
import type { Approval, Ask } from './approval.ts'
import type { Action, Part, Problem } from './action.ts'
import type { Condition, Scope } from './condition.ts'
import type { Label } from './label.ts'
import { check, counterKey, limitsOfResource } from './limit.ts'
import type { AppliedLimit, Counter, Limit } from './limit.ts'
import type { Effect, Permission } from './permission.ts'
import type { AgentPolicy, Entry, EntryIndex, Policy } from './policy.ts'
import type { Session } from './session.ts'

/** A session of the chain together with what it holds under the policy of the moment. */
export interface Link {
  readonly session: Session
  readonly depth: number
  /** Absent where the policy knows the agent no more. */
  readonly agent: AgentPolicy | undefined
  /** Allow-lists that all have to allow: the agent's own or what it was lent, then what the session was narrowed to. */
  readonly holds: readonly EntryIndex[]
  /** Limits of this session alone. */
  readonly limits: readonly Limit[]
}

/** Everything that deciding needs. Loaded before; `decide` looks nowhere else. */
export interface Facts {
  readonly policy: Policy
  /** From the first session to the one that acts. */
  readonly chain: readonly Link[]
  /** What the sessions of this chain have read. */
  readonly label: Label
  readonly counter: (key: string) => Counter | undefined
  /** SHA-256 (hex) over the canonical arguments (RFC 8785): tells a repeated call from another. */
  readonly argsDigest: string
  /** An approval whose binding is this very action, if there is one. */
  readonly approval?: Approval
  /** What `limitsOf` says of the action, where it is known already. */
  readonly limits?: readonly AppliedLimit[]
  /** Whether it is running already, so that limits have counted it. */
  readonly isRunning?: boolean
}

export type RefusalCode =
  | 'unknown'
  | 'invalid_arguments'
  | 'denied'
  | 'limited'
  | 'session_over'
  | 'quarantined'
  | 'unavailable'

interface Verdict {
  /** Which entries and rules decided, by where they stand. */
  readonly rules: readonly string[]
  /** In words that the agent may see. */
  readonly because: string
}

export type Decision =
  | (Verdict & { readonly kind: 'allow'; readonly approval?: string; readonly would?: Refused })
  | (Verdict & { readonly kind: 'ask'; readonly ask: Ask })
  | (Verdict & {
      readonly kind: 'deny'
      readonly code: RefusalCode
      /** For people and the record alone. */
      readonly detail?: string
      readonly retryAt?: number
    })

export type Denied = Extract<Decision, { kind: 'deny' }>
export type Refused = Exclude<Decision, { kind: 'allow' }>

/** Told each thing that was looked at, in order: what `sallyport explain` shows. */
export type Trace = (step: TraceStep) => void

export interface TraceStep {
  readonly agent?: string
  /** Entry, rule, limit or stage. */
  readonly what: string
  readonly result: 'matched' | 'not matched' | 'failed' | 'passed' | 'refused' | 'asks'
  readonly note?: string
}

/**
 * Whether an action may happen: `deny` beats `ask` beats `allow`, whatever the order of rules, and what cannot be
 * decided is denied. Every session of the chain has to allow it with its own facts, so a session never gets more
 * than the one that it was made from.
 *
 * Pure: the same action, facts and time give the same decision.
 */
export function decide(action: Action, facts: Facts, now: number, trace: Trace = ignore): Decision {
  const over = endOf(facts.chain, now)
  if (over !== undefined) return deny('session_over', over)

  if (action.refused !== undefined) {
    const { rule, because, detail, code = 'denied' } = action.refused
    trace({ what: rule, result: 'refused', note: because })
    return deny(code, because, [rule], detail)
  }

  const byLink = facts.chain.flatMap((link) =>
    partsOf(action).map((part) => decideLink(link, part, action, facts, now, trace)),
  )
  // The nearest to who acts: that is what a person wants to read.
  const unknown = byLink.findLast((decision) => decision.kind === 'deny' && decision.code === 'unknown')
  if (unknown !== undefined) return unknown

  if (action.barred !== undefined) return deny(action.barred.code, action.barred.because)
  if (action.problems.length > 0) {
    trace({ what: 'schema', result: 'refused', note: action.problems[0]?.message })
    return deny('invalid_arguments', wordsOf(action.problems))
  }

  const all = [...byLink, decideLimits(action, facts, now, trace)]
  const worst = all.reduce(stricter)
  if (worst.kind !== 'ask' || facts.approval === undefined || !answers(facts.approval, worst.ask, now)) return worst
  trace({ what: `approval ${facts.approval.id}`, result: 'matched' })
  const allowed: Decision = { kind: 'allow', rules: worst.rules, because: worst.because, approval: facts.approval.id }
  // What observed agents of the chain would have been refused is told beside.
  return all.filter(({ kind }) => kind === 'allow').reduce(stricter, allowed)
}

/** What is wrong with arguments, in one line. */
export const wordsOf = (problems: readonly Problem[]): string =>
  problems.map(({ path, message }) => `${path || '/'}: ${message}`).join('; ')

/** Every permission that an action needs, with what conditions see of it. */
export const partsOf = (action: Action): readonly Part[] =>
  action.parts === undefined || action.parts.length === 0 ? [action] : action.parts

/** Whether an approval was given, still stands, and was asked of everybody whom the question is for now. */
const answers = (approval: Approval, ask: Ask, now: number): boolean =>
  approval.state === 'approved' &&
  now < approval.expiresAt &&
  (ask.self || !approval.ask.self) &&
  ask.needs.every((need) => approval.ask.needs.some((met) => met.people === need.people && met.count >= need.count))

/**
 * Whether a session may know that an operation exists: every link has an entry for it, whatever its condition.
 * Listing uses this; calling anything else is answered as an unknown name.
 */
export function visible(permission: Permission, effect: Effect, chain: readonly Link[], policy: Policy): boolean {
  return chain.every(
    ({ agent, holds }) =>
      agent !== undefined &&
      (agent.mode === 'observe' ||
        (holds.every((held) => held.find(permission, effect).length > 0) &&
          !policy.rules
            .find(permission, effect)
            .some((rule) => rule.kind === 'deny' && rule.when === undefined && isOver(rule.agents, agent.name)))),
  )
}

/**
 * Every limit that an action counts against, at every session of the chain. Each counter is there once, with the least
 * of its limits: an agent that stands twice in a chain, or in two entries, is charged once for a call.
 */
export function limitsOf(action: Action, { policy, chain, argsDigest }: Facts): readonly AppliedLimit[] {
  const applied: AppliedLimit[] = policy.limits.map((limit) => ({
    limit,
    key: counterKey('all', limit),
    whose: 'everything',
  }))
  const sessions = chain.map(({ session }) => session.id)
  for (const resource of new Set(partsOf(action).map(({ permission }) => permission.split(/[.:]/, 1)[0] ?? '')))
    applied.push(...limitsOfResource(policy.resourceLimits.get(resource) ?? [], resource, action.host, sessions))
  for (const { session, agent, holds, limits } of chain) {
    const own = (limit: Limit, owner: string, whose: string): void => {
      // Programs repeat their statements by nature. What `repeats` ends is a model that goes in circles.
      if (limit.measure === 'repeats' && action.via === 'sql') return
      const ofSession = limit.per === 'session' || limit.measure === 'repeats'
      const key = counterKey(ofSession ? `session:${session.id}:${owner}` : owner, limit)
      applied.push({
        limit,
        key: limit.measure === 'repeats' ? `${key}:${action.permission}:${argsDigest}` : key,
        whose,
      })
    }
    for (const limit of agent?.limits ?? []) own(limit, `agent:${session.agent}`, `agent ${session.agent}`)
    for (const limit of limits) own(limit, `session:${session.id}`, 'this session')
    for (const held of holds)
      for (const { permission, effect } of partsOf(action))
        for (const entry of held.find(permission, effect))
          for (const limit of entry.limits)
            own(limit, `entry:${session.agent}:${entry.pattern.source}`, `${permission} for agent ${session.agent}`)
  }
  const byCounter = new Map<string, AppliedLimit>()
  for (const each of applied) {
    const other = byCounter.get(each.key)
    if (other === undefined || each.limit.amount < other.limit.amount) byCounter.set(each.key, each)
  }
  return [...byCounter.values()]
}

/** What one call costs a limit when it starts. What is counted while it passes, or known afterwards, costs nothing yet. */
export const costAtStart = ({ measure }: Limit): number =>
  measure === 'calls' || measure === 'repeats' || measure === 'concurrent' ? 1 : 0

/** What conditions see of a session. */
export function scopeOf(link: Link, action: Pick<Action, 'args'>, label: Label, now: number): Scope {
  const { session, depth } = link
  return {
    args: action.args,
    session: {
      ...session.facts,
      id: session.id,
      agent: session.agent,
      behalf: session.behalf,
      depth,
    },
    flow: { untrusted: label.trust === 'untrusted', private: label.readers === 'private' },
    now,
  }
}

const ignore: Trace = () => {}

const deny = (code: RefusalCode, because: string, rules: readonly string[] = [], detail?: string): Denied => ({
  kind: 'deny',
  code,
  rules,
  because,
  ...(detail === undefined ? {} : { detail }),
})

/** Why the chain is over, if it is. A session lives no longer than any that it was made from. */
function endOf(chain: readonly Link[], now: number): string | undefined {
  if (chain.length === 0) return 'there is no such session'
  for (const { session } of chain) {
    const whose =
      session === chain.at(-1)?.session ? 'this session' : `the session of ${session.agent} that it was made from`
    if (session.endedAt !== undefined) return `${whose} was ended: ${session.endedBecause ?? 'no reason given'}`
    if (now >= session.deadline) return `${whose} reached its deadline`
  }
  return undefined
}

/** One session's own answer, softened to `allow` where its agent is only observed. */
function decideLink(link: Link, part: Part, action: Action, facts: Facts, now: number, trace: Trace): Decision {
  const decision = judgeLink(link, part, action, facts, now, (step) => trace({ agent: link.session.agent, ...step }))
  if (decision.kind === 'allow' || link.agent?.mode !== 'observe') return decision
  return { kind: 'allow', rules: decision.rules, because: 'observed only', would: decision }
}

function judgeLink(link: Link, part: Part, action: Action, facts: Facts, now: number, trace: Trace): Decision {
  const { agent } = link
  if (agent === undefined) return deny('unknown', notThere, [], `policy knows no agent ${link.session.agent}`)
  const { permission, effect } = part
  const scope = scopeOf(link, part, facts.label, now)

  const found = link.holds.map((held) => held.find(permission, effect))
  if (found.length === 0 || found.some((entries) => entries.length === 0)) {
    trace({ what: permission, result: 'not matched', note: `${link.session.agent} does not hold it` })
    return deny('unknown', notThere, [], `${link.session.agent} does not hold ${permission}`)
  }

  let verdict: Decision = { kind: 'allow', rules: [], because: 'allowed' }
  let asksNever = false
  for (const [position, entries] of found.entries()) {
    const held = matching(entries, scope, trace)
    if ('kind' in held) return held
    if (held.matched.length === 0)
      return deny(
        'denied',
        unmet(held.failed),
        held.failed.map(({ id }) => id),
        'no condition of an entry holds',
      )
    for (const entry of held.matched) {
      const { ask, id } = entry
      verdict = stricter(
        verdict,
        typeof ask === 'object'
          ? { kind: 'ask', rules: [id], because: entry.because ?? `${permission} needs a person's approval`, ask }
          : { kind: 'allow', rules: [id], because: 'allowed' },
      )
    }
    if (position === 0) asksNever = held.matched.every(({ ask }) => ask === 'never')
  }

  const rules = facts.policy.rules.find(permission, effect).filter(({ agents }) => isOver(agents, agent.name))
  const applying = matching(rules, scope, trace)
  if ('kind' in applying) return stricter(verdict, applying)
  for (const { kind, id, because, ask } of applying.matched)
    verdict = stricter(
      verdict,
      kind === 'deny'
        ? deny('denied', because ?? `a rule forbids ${permission}`, [id])
        : {
            kind,
            rules: [id],
            because: because ?? `a rule asks a person about ${permission}`,
            ask: ask ?? facts.policy.defaultAsk,
          },
    )

  const byDefault = action.asks ?? defaultQuestion(agent, part, facts.label, asksNever)
  if (byDefault === undefined) return verdict
  if (verdict.kind === 'ask' && action.asks === undefined) return verdict
  return stricter(verdict, {
    kind: 'ask',
    rules: [byDefault.rule],
    because: byDefault.because,
    ask: facts.policy.defaultAsk,
  })
}

/** All that an agent is told of what it may not know of. */
export const notThere = 'there is no such operation'

const isOver = (agents: ReadonlySet<string> | undefined, agent: string): boolean =>
  agents === undefined || agents.has(agent)

/** Questions that stand without being written. */
function defaultQuestion(agent: AgentPolicy, { permission, effect }: Part, label: Label, asksNever: boolean) {
  if (agent.mode === 'lockdown' && effect !== 'read' && label.trust === 'untrusted')
    return { rule: 'default:lockdown', because: 'this session has read untrusted text, and its agent is in lockdown' }
  if (effect === 'destroy' && !asksNever)
    return { rule: 'default:destroy', because: `${permission} cannot be taken back` }
  return undefined
}

/** Those whose condition holds, those whose condition does not; or a denial, when one could not be evaluated. */
function matching<T extends { readonly id: string; readonly when?: Condition }>(
  candidates: readonly T[],
  scope: Scope,
  trace: Trace,
): { readonly matched: readonly T[]; readonly failed: readonly T[] } | Refused {
  const matched: T[] = []
  const failed: T[] = []
  let broken: Refused | undefined
  for (const candidate of candidates) {
    if (candidate.when === undefined) {
      matched.push(candidate)
      trace({ what: candidate.id, result: 'matched' })
      continue
    }
    try {
      const holds = candidate.when.evaluate(scope)
      ;(holds ? matched : failed).push(candidate)
      trace({ what: candidate.id, result: holds ? 'matched' : 'not matched', note: candidate.when.source })
    } catch (thrown) {
      const detail = `${candidate.when.source}: ${thrown instanceof Error ? thrown.message : 'failed'}`
      trace({ what: candidate.id, result: 'failed', note: detail })
      broken ??= deny(
        'denied',
        `a condition could not be evaluated${named(candidate.when.reads)}`,
        [candidate.id],
        detail,
      )
    }
  }
  return broken ?? { matched, failed }
}

const named = (reads: readonly string[]): string =>
  reads.length === 0 ? '' : `; it reads ${reads.map((name) => `\`${name}\``).join(', ')}`

/** Says which arguments the conditions are about and what the operator wrote, not the conditions themselves. */
function unmet(entries: readonly Entry[]): string {
  const reasons = [...new Set(entries.flatMap(({ because }) => because ?? []))]
  const reads = [...new Set(entries.flatMap(({ when }) => when?.reads ?? []))]
  return reasons.length > 0 ? reasons.join('; ') : `not with these arguments${named(reads)}`
}

/** The refusal of the limit that takes longest to make room; where all agents are only observed, what it would have been. */
function decideLimits(action: Action, facts: Facts, now: number, trace: Trace): Decision {
  let worst: Denied | undefined
  for (const { limit, key, whose } of facts.limits ?? limitsOf(action, facts)) {
    if (facts.isRunning === true && costAtStart(limit) > 0) continue
    const sends = limit.measure === 'sent' ? (action.sends ?? 0) : 0
    const { ok, retryAt } = check(limit, facts.counter(key), sends + costAtStart(limit), now)
    trace({ what: `limit of ${limit.source} ${limit.measure} of ${whose}`, result: ok ? 'passed' : 'refused' })
    if (ok) continue
    const refused = limitReached(limit, whose, retryAt, sends)
    if (worst === undefined || lasts(refused) > lasts(worst)) worst = refused
  }
  if (worst === undefined) return { kind: 'allow', rules: [], because: 'allowed' }
  return isObserved(facts.chain) ? { kind: 'allow', rules: worst.rules, because: 'observed only', would: worst } : worst
}

/** Whether all agents of a chain are only observed: then limits refuse nothing. */
export const isObserved = (chain: readonly Link[]): boolean => chain.every(({ agent }) => agent?.mode === 'observe')

/** The refusal of a limit that is reached, or would be with so many bytes more. */
export function limitReached(limit: Limit, whose: string, retryAt: number | undefined, sends = 0): Denied {
  const because =
    limit.measure === 'repeats'
      ? `the same call with the same arguments was made too often (${limit.source}): do something else`
      : sends > 0
        ? `with ${sends} bytes more, the limit of ${limit.source} ${limit.measure} of ${whose} would be passed`
        : `the limit of ${limit.source} ${limit.measure} of ${whose} is reached`
  return {
    kind: 'deny',
    code: 'limited',
    rules: [`limit:${limit.measure}`],
    because,
    ...(retryAt === undefined ? {} : { retryAt }),
  }
}

const lasts = ({ retryAt }: Denied): number => retryAt ?? Infinity

const severity: Readonly<Record<Decision['kind'], number>> = { allow: 0, ask: 1, deny: 2 }

/** The stricter of two decisions; of two that ask, both. The first stays where they are alike. */
function stricter(a: Decision, b: Decision): Decision {
  if (a.kind === 'ask' && b.kind === 'ask')
    return {
      kind: 'ask',
      rules: [...new Set([...a.rules, ...b.rules])],
      because: a.because === b.because ? a.because : `${a.because}; ${b.because}`,
      ask: bothAsks(a.ask, b.ask),
    }
  if (a.kind === 'allow' && b.kind === 'allow') {
    const would =
      a.would === undefined ? b.would : b.would === undefined ? a.would : (stricter(a.would, b.would) as Refused)
    return {
      kind: 'allow',
      rules: [...new Set([...a.rules, ...b.rules])],
      because: a.because,
      ...(a.approval === undefined ? {} : { approval: a.approval }),
      ...(would ? { would } : {}),
    }
  }
  return severity[b.kind] > severity[a.kind] ? b : a
}
