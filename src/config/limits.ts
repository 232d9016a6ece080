import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import { parseLimit } from '../core/limit.ts'
import type { Limit, Measure } from '../core/limit.ts'

// Limits: of everything, of agents, of entries, of resources.

const limitForms: Readonly<Record<Measure, readonly [example: string, what: string]>> = {
  calls: ['100/min', 'Calls.'],
  tokens: ['200000/session', 'Tokens of models, as far as a model says how many it used.'],
  spend: ['5 USD/day', 'Money spent on models.'],
  bytes: ['10 MB/session', 'Bytes of results.'],
  sent: ['1 MB/session', 'Bytes that go out: bodies of HTTP requests, and what goes through tunnels.'],
  concurrent: ['4', 'Calls at one moment.'],
  repeats: ['20/min', 'The same call with the same arguments, by one session: ends loops.'],
}

/** One limit or several of a measure, for example one for a minute and one for the session. */
function limitOf(measure: Measure, refuse: (limit: Limit) => string | undefined = () => undefined) {
  const text = z.union([z.string(), z.number()], { error: `expected text such as \`${limitForms[measure][0]}\`` })
  return z
    .union([text, z.array(text).min(1).max(8)], { error: `expected text such as \`${limitForms[measure][0]}\`` })
    .transform((given, context): readonly Limit[] => {
      try {
        const limits = (Array.isArray(given) ? given : [given]).map((each) => parseLimit(measure, each))
        for (const limit of limits) {
          const wrong = refuse(limit)
          if (wrong !== undefined) throw new Failure('invalid', wrong)
        }
        return limits
      } catch (thrown) {
        context.issues.push({ code: 'custom', message: Failure.from(thrown).message, input: undefined })
        return z.NEVER
      }
    })
    .describe(`${limitForms[measure][1]} For example \`${limitForms[measure][0]}\`; a list holds them to each.`)
}

const limitShape = (refuse?: (limit: Limit) => string | undefined) => ({
  calls: limitOf('calls', refuse).optional(),
  tokens: limitOf('tokens', refuse).optional(),
  spend: limitOf('spend', refuse).optional(),
  bytes: limitOf('bytes', refuse).optional(),
  sent: limitOf('sent', refuse).optional(),
  concurrent: limitOf('concurrent', refuse).optional(),
})

export const entryLimits = z.strictObject({ ...limitShape(), repeats: limitOf('repeats').optional() })

export const agentLimits = z.strictObject({
  ...limitShape(),
  repeats: z
    .union([z.literal('unlimited').transform((): readonly Limit[] => []), limitOf('repeats')])
    .prefault('20/min')
    .describe(`${limitForms.repeats[1]} \`unlimited\` switches it off.`),
})

export const limitsOfEverything = z.strictObject(
  limitShape(({ per, source }) =>
    per === 'session' ? `\`${source}\` is for one session: expected a window, such as \`/day\`` : undefined,
  ),
)

const { calls, bytes, sent, concurrent } = limitShape()

/** Limits of a resource that hosts are known of. */
export const limitsOfHosts = z
  .strictObject({ calls, bytes, sent, concurrent })
  .describe(
    'Limits of everybody together; those per `session`, of each session with all that were made from it. `sent` and `bytes` hold for each of its hosts.',
  )
  .prefault({})

/** Limits of any other resource. */
export const limitsOfCalls = z
  .strictObject({ calls, bytes, concurrent })
  .describe('Limits of everybody together; those per `session`, of each session with all that were made from it.')
  .prefault({})
