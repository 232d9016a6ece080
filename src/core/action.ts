import type { JsonObject } from './json.ts'
import type { Label } from './label.ts'
import type { Effect, Permission } from './permission.ts'

/** One thing that is wrong with arguments, in words that a model can act on. */
export interface Problem {
  /** JSON Pointer into the arguments (RFC 6901); empty for the whole. */
  readonly path: string
  readonly message: string
}

/** A permission that an action needs beside its first, with what conditions over it see as `args`. */
export interface Part {
  readonly permission: Permission
  readonly effect: Effect
  readonly args: JsonObject
}

/** What is tried. Every gateway turns its protocol into one of these, and knows nothing of policy. */
export interface Action {
  readonly session: string
  readonly permission: Permission
  readonly effect: Effect
  readonly args: JsonObject
  /** Where one act needs several permissions, such as a query over two tables: all have to allow it. */
  readonly parts?: readonly Part[]
  /** What the schema of the operation says against the arguments. */
  readonly problems: readonly Problem[]
  /** The label of what comes back. */
  readonly label: Label
  /** Which gateway made it, and how the agent named it there: for the record alone. */
  readonly via: 'mcp' | 'llm' | 'http' | 'sql' | 'api'
  readonly name?: string
  /** The host that it is for, where one is known before: for the record of what went where. */
  readonly host?: string
  /** Bytes of a body that goes out, where that is known before: what leaves no room for them refuses it. */
  readonly sends?: number
  /** The operator wants people asked, whatever policy says: how the resource is configured. */
  readonly asks?: { readonly rule: string; readonly because: string }
  /** It is nothing that is ever passed on, whatever policy says: what can't be read, or does more than can be decided. */
  readonly refused?: {
    readonly rule: string
    readonly because: string
    readonly detail?: string
    /** `denied` where it is not said. */
    readonly code?: 'invalid_arguments'
  }
  /** The operation exists but may not be performed now, whatever policy says: for example a quarantined tool. */
  readonly barred?: { readonly code: 'quarantined' | 'unavailable'; readonly because: string }
}
