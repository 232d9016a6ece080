import type { JsonObject } from './json.ts'
import type { Label } from './label.ts'
import type { Effect, Permission } from './permission.ts'

/** One thing that is wrong with arguments, in words that a model can act on. */
export interface Problem {
  /** JSON Pointer into the arguments (RFC 6901); empty for the whole. */
  readonly path: string
  readonly message: string
}

/** What is tried. Every gateway turns its protocol into one of these, and knows nothing of policy. */
export interface Action {
  readonly session: string
  readonly permission: Permission
  readonly effect: Effect
  readonly args: JsonObject
  /** What the schema of the operation says against the arguments. */
  readonly problems: readonly Problem[]
  /** The label of what comes back. */
  readonly label: Label
  /** Which gateway made it, and how the agent named it there: for the record alone. */
  readonly via: 'mcp' | 'llm' | 'http' | 'sql' | 'api'
  readonly name?: string
  /** The host that it is for, where one is known before: for the record of what went where. */
  readonly host?: string
  /** The operation exists but may not be performed now, whatever policy says: for example a quarantined tool. */
  readonly barred?: { readonly code: 'quarantined' | 'unavailable'; readonly because: string }
}
