import type { Ask } from './approval.ts'
import type { Condition, FactType } from './condition.ts'
import type { Limit } from './limit.ts'
import type { Pattern, PatternIndex } from './permission.ts'

/** `observe` records what it would have done and lets policy refuse nothing; `lockdown` asks for every change after an untrusted read. */
export type Mode = 'observe' | 'standard' | 'lockdown'

/** One line of an allow-list. */
export interface Entry {
  /** Where it stands: `agents.responder.may[1]`. */
  readonly id: string
  readonly pattern: Pattern
  readonly when?: Condition
  /** People who have to agree; `never`: not even for `destroy`. */
  readonly ask?: Ask | 'never'
  readonly because?: string
  readonly limits: readonly Limit[]
}

/** A rule over everybody, or over the agents in `agents`. It takes away or asks; it never allows. */
export interface Rule {
  readonly id: string
  readonly kind: 'deny' | 'ask'
  readonly pattern: Pattern
  readonly when?: Condition
  readonly ask?: Ask
  readonly because?: string
  readonly agents?: ReadonlySet<string>
}

export type EntryIndex = PatternIndex<Entry>
export type RuleIndex = PatternIndex<Rule>

export interface AgentPolicy {
  readonly name: string
  readonly mode: Mode
  readonly may: EntryIndex
  /** What it may lend, by the agent that it may lend it to. */
  readonly lends: ReadonlyMap<string, EntryIndex>
  readonly limits: readonly Limit[]
}

/** The rules that decide, compiled from one version of `sallyport.yaml`. Immutable. */
export interface Policy {
  /** SHA-256 (hex) of the text that it was read from: the version that events and approvals name. */
  readonly digest: string
  readonly agents: ReadonlyMap<string, AgentPolicy>
  readonly rules: RuleIndex
  readonly facts: Readonly<Record<string, FactType>>
  /** Limits for everything together. */
  readonly limits: readonly Limit[]
  /** Limits of resources, by their names. */
  readonly resourceLimits: ReadonlyMap<string, readonly Limit[]>
  /** Whom `destroy` and lockdown ask where no rule says it. */
  readonly defaultAsk: Ask
  readonly delegation: { readonly depth: number }
  readonly sessions: { readonly deadline: number; readonly maxDeadline: number }
}
