import type { JsonObject } from './json.ts'

/** The types that a declared session fact may have. */
export type FactType = 'string' | 'int' | 'double' | 'bool' | 'timestamp' | 'list<string>' | 'list<int>'

/** A fact as it is kept: a `timestamp` is epoch milliseconds, an `int` a whole number within ±(2^53 - 1). */
export type FactValue = string | number | boolean | readonly string[] | readonly number[]

/** What a condition may name, known when the policy is loaded. */
export interface ScopeTypes {
  /** JSON Schema (2020-12) of the arguments. Undefined: nothing is known of them, and every name is let through. */
  readonly args?: JsonObject
  /** Declared facts by name; `session.<name>` reads one. */
  readonly facts: Readonly<Record<string, FactType>>
}

/** The session as a condition sees it: these four, and the declared facts beside them. */
export interface SessionScope {
  readonly id: string
  readonly agent: string
  /** On whose behalf the session acts. */
  readonly behalf: string
  /** How many times the session was delegated; 0 for one that a person or a program started. */
  readonly depth: number
  readonly [fact: string]: FactValue
}

/** What a condition is evaluated over. All of it is data: nothing in it is called. */
export interface Scope {
  readonly args: JsonObject
  readonly session: SessionScope
  readonly flow: { readonly untrusted: boolean; readonly private: boolean }
  /** Epoch milliseconds. */
  readonly now: number
}

/** A compiled condition of the policy: pure, bounded in time, without state. */
export interface Condition {
  readonly source: string
  /** Names of the arguments that it reads, sorted, for messages; `*` when it looks at them as a whole. */
  readonly reads: readonly string[]
  /**
   * Whether it holds.
   *
   * Throws a Failure `invalid` when it cannot be evaluated (an argument is missing, a value has another type, the
   * work grows past its bound). Who calls it denies then.
   */
  evaluate(scope: Scope): boolean
}

/**
 * Reads and type-checks a condition.
 *
 * Throws a Failure `invalid` that says what is wrong, at which column, what was expected, and the nearest known name.
 */
export type CompileCondition = (source: string, types: ScopeTypes) => Condition
