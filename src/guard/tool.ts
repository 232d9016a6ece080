import type { Action, Problem } from '../core/action.ts'
import type { JsonObject } from '../core/json.ts'
import type { Label } from '../core/label.ts'
import type { Effect, Permission } from '../core/permission.ts'
import type { Hold, Perform } from './guard.ts'

/** A tool that this process has itself, such as an operation of an API or a query: what gateways offer one another. */
export interface Tool {
  /** The resource that it is of. */
  readonly alias: string
  /** The host that its calls go to. */
  readonly host?: string
  readonly name: string
  readonly permission: Permission
  readonly effect: Effect
  readonly label: Label
  readonly description: string
  /** JSON Schema of its arguments: an object. */
  readonly schema: JsonObject
  readonly barred?: Action['barred'] | undefined
  readonly check: (args: JsonObject) => readonly Problem[]
  /** Whether a session may know of it, where that does not follow from the tool's own permission. */
  readonly visible?: (may: (permission: Permission, effect: Effect) => boolean) => boolean
  /** Makes one call ready, with arguments that passed `check`, for a session that may know of the tool. Does nothing yet. */
  readonly prepare: (args: JsonObject, session: string) => Promise<ToolCall | Told>
}

/** What needs no decision: it tells a session no more than a list of what the session may do. */
export interface Told {
  readonly answer: ToolAnswer
}

export interface ToolCall {
  /** In what the action differs from the tool's permission and effect with these arguments. */
  readonly action?: Partial<Action>
  readonly perform: Perform<ToolAnswer>
  readonly evidence?: NonNullable<Hold['evidence']>
  /** Where what was thrown means that it has to be decided anew: the call to do that with. */
  readonly again?: (thrown: unknown) => ToolCall | undefined
}

export interface ToolAnswer {
  readonly text: string
  readonly structured?: JsonObject
  readonly isError: boolean
}

export interface Tools {
  tools(): readonly Tool[]
  /** Counts up when they change. */
  revision(): number
}

/** The tools of several as one. */
export const toolsOf = (...all: readonly Tools[]): Tools => ({
  tools: () => all.flatMap((each) => each.tools()),
  revision: () => all.reduce((sum, each) => sum + each.revision(), 0),
})
