import type { Action, Problem } from '../../core/action.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import type { CountPassed, Performed } from '../../guard/guard.ts'
import { cleanText } from '../../guard/hidden-text.ts'
import { federatedName } from './names.ts'
import type { ToolOffer } from './offer.ts'

/** A tool that this process has itself, without a server behind it. */
export interface LocalTool {
  /** The resource that it is of. */
  readonly alias: string
  /** The host that its calls go to. */
  readonly host: string
  readonly name: string
  readonly permission: Permission
  readonly effect: Effect
  readonly label: Label
  readonly description: string
  /** JSON Schema of its arguments: an object. */
  readonly schema: JsonObject
  readonly barred: Action['barred'] | undefined
  readonly check: (args: JsonObject) => readonly Problem[]
  /** Runs only once it is allowed. */
  readonly perform: (
    args: JsonObject,
    session: string,
    signal: AbortSignal,
    passed: CountPassed,
  ) => Promise<Performed<LocalAnswer>>
  /** Bytes that such a call sends out, where they are known before. */
  readonly sends: (args: JsonObject) => number | undefined
}

export interface LocalAnswer {
  readonly text: string
  readonly structured?: JsonObject
  readonly isError: boolean
}

export interface LocalTools {
  tools(): readonly LocalTool[]
  /** Counts up when they change. */
  revision(): number
}

/** A tool of this process as it is offered. */
export interface LocalOffer extends Omit<ToolOffer, 'resource'> {
  readonly host: string
  readonly sends: LocalTool['sends']
  readonly perform: LocalTool['perform']
}

export function offerLocal({ check, sends, perform, ...tool }: LocalTool): LocalOffer {
  const { alias, host, name, permission, effect, label, description, schema, barred } = tool
  const shown = federatedName(alias, name)
  return {
    name,
    shown,
    permission,
    effect,
    label,
    // What was changed is not shown before a person has accepted it.
    listed:
      barred === undefined ? { name: shown, description: cleanText(description), inputSchema: schema } : undefined,
    schema,
    input: { check: (value) => check(value as JsonObject) },
    output: undefined,
    headers: [],
    barred,
    host,
    sends,
    perform,
  }
}

/** The answer of such a tool in the words of the protocol. */
export const localResult = ({ text, structured, isError }: LocalAnswer): JsonObject => ({
  content: [{ type: 'text', text }],
  ...(structured === undefined ? {} : { structuredContent: structured }),
  ...(isError ? { isError } : {}),
})
