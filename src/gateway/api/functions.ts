import type { Problem } from '../../core/action.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import { schemaCompiler } from '../../guard/schema.ts'
import type { ArgumentSchema } from '../../guard/schema.ts'

/** What the operator says of one function of an agent's program. */
export interface FunctionSetting {
  readonly effect: Effect
  readonly label: Label
  readonly description?: string
  /** JSON Schema. Absent: any object. */
  readonly arguments?: JsonObject
  /** JSON Schema. Absent: anything. */
  readonly returns?: JsonObject
}

/** Functions that run in the agent's own process, as the operator describes them. */
export interface FunctionResource {
  /** Its name in permissions. */
  readonly alias: string
  readonly functions: ReadonlyMap<string, FunctionSetting>
  /** Milliseconds that a call may take, unless the program asks for another time. */
  readonly timeout: number
  /** Bytes that a result may have. */
  readonly result: number
}

/** One function, ready to be asked about. */
export interface FunctionOffer {
  readonly permission: Permission
  readonly effect: Effect
  readonly label: Label
  readonly description?: string
  /** JSON Schema of its arguments. */
  readonly schema?: JsonObject
  readonly check: (args: JsonObject) => readonly Problem[]
  readonly output?: ArgumentSchema
  readonly timeout: number
  readonly result: number
}

/** By permission. Fails with `invalid` for a schema that can't be compiled. */
export function offersOf(resources: readonly FunctionResource[]): ReadonlyMap<Permission, FunctionOffer> {
  const compile = schemaCompiler()
  return new Map(
    resources.flatMap(({ alias, functions, timeout, result }) =>
      [...functions].map(([name, { effect, label, description, arguments: schema, returns }]) => {
        const permission = `${alias}:${name}`
        const input = schema === undefined ? undefined : compile(schema)
        const offer: FunctionOffer = {
          permission,
          effect,
          label,
          ...(description === undefined ? {} : { description }),
          ...(schema === undefined ? {} : { schema }),
          check: (args) => input?.check(args) ?? [],
          ...(returns === undefined ? {} : { output: compile(returns) }),
          timeout,
          result,
        }
        return [permission, offer] as const
      }),
    ),
  )
}
