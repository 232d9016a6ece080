import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'
import type { Label } from '../core/label.ts'
import { effects } from '../core/permission.ts'
import type { Effect } from '../core/permission.ts'
import { compileSchema } from '../guard/schema.ts'
import { duration, effect, readers, size, toolName, trust } from './forms.ts'
import { limitsOfCalls } from './limits.ts'

// Resources of kind `functions`: what runs in the agent's own process, and is asked about at the decision API.

/** One function of the agent's program. */
export interface FunctionSettings {
  readonly effect: Effect
  readonly description?: string
  /** JSON Schema of its arguments. Without one, they may be any object. */
  readonly arguments?: JsonObject
  /** JSON Schema of its result. */
  readonly returns?: JsonObject
  readonly label: Partial<Label>
}

const jsonSchema = (z.record(z.string(), z.unknown()) as unknown as z.ZodType<JsonObject, JsonObject>).superRefine(
  (schema, context) => {
    try {
      compileSchema(schema)
    } catch (thrown) {
      context.addIssue({ code: 'custom', message: Failure.from(thrown).message })
    }
  },
)

const described = z
  .strictObject({
    effect: effect.describe('What it does to the world.'),
    description: z.string().max(4000).describe('What approvers are told of it.').optional(),
    arguments: jsonSchema
      .describe('JSON Schema of its arguments. Left out: any object. Names that are not in it pass unless it says no.')
      .optional(),
    returns: jsonSchema.describe('JSON Schema of its result. One that does not fit is refused.').optional(),
    trust: trust.optional(),
    readers: readers.optional(),
  })
  .transform(({ effect: does, description, arguments: args, returns, trust: by, readers: to }): FunctionSettings => ({
    effect: does,
    ...(description === undefined ? {} : { description }),
    ...(args === undefined ? {} : { arguments: args }),
    ...(returns === undefined ? {} : { returns }),
    label: { ...(by === undefined ? {} : { trust: by }), ...(to === undefined ? {} : { readers: to }) },
  }))

const one = z
  .union([effect.transform((only): FunctionSettings => ({ effect: only, label: {} })), described], {
    error: `expected an effect (${effects.join(', ')}) or \`{ effect, arguments, … }\``,
  })
  .describe('The effect, or more.')

export const functionsResource = z.strictObject({
  functions: z
    .record(toolName, one)
    .describe(
      'Functions that run in the agent’s own process, by the name that permissions use: its program asks before and tells the result after. All else does not exist.',
    ),
  trust: trust.default('untrusted'),
  readers: readers.default('internal'),
  timeout: duration.prefault('60 s').describe('How long a call may take, unless the program asks for another time.'),
  result: size.prefault('1 MB').describe('How large a result may be. A larger one is refused.'),
  limits: limitsOfCalls,
})

export type FunctionsResourceSettings = z.output<typeof functionsResource>

/** JSON Schema of a function's arguments; undefined for what is no function, or says nothing of them. */
export function functionArguments(
  resources: Readonly<Record<string, object>>,
  permission: string,
): JsonObject | undefined {
  const colon = permission.indexOf(':')
  const name = permission.slice(0, colon)
  const resource = Object.hasOwn(resources, name) ? resources[name] : undefined
  if (resource === undefined || !('functions' in resource)) return undefined
  const { functions } = resource as FunctionsResourceSettings
  const operation = permission.slice(colon + 1)
  return Object.hasOwn(functions, operation) ? functions[operation]?.arguments : undefined
}
