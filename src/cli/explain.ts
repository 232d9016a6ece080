import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Explain, Explained } from '../control/wire.ts'
import { needInWords } from '../core/approval.ts'
import type { Decision, TraceStep } from '../core/decide.ts'
import type { JsonObject } from '../core/json.ts'
import { openClient } from './client.ts'
import { command, jsonOption, pairs, UsageError } from './command.ts'
import { paint } from './io.ts'
import type { Io, Style } from './io.ts'
import { clientOptions, errorCode, placeOf } from './place.ts'
import { factOf } from './sessions.ts'
import { columnsOf, jsonText, moment, safe, span } from './text.ts'

export const explainCommand = command({
  name: 'explain',
  summary: 'Shows what would be decided about an action, and why',
  options: {
    event: {
      type: 'string',
      value: '<event>',
      says: 'A decision of the audit log, decided again under the policy of now.',
    },
    agent: { type: 'string', value: '<agent>', says: 'The agent that would act.' },
    session: { type: 'string', value: '<session>', says: 'A live session that would act, with its facts and limits.' },
    permission: { type: 'string', value: '<permission>', says: 'Such as `crm:delete_customer`.' },
    args: { type: 'string', value: '<json>', says: 'Arguments as a JSON object; `@file` reads one. Default: none.' },
    fact: {
      type: 'string',
      multiple: true,
      value: '<name=value>',
      says: 'A fact of the session, with --agent; may be repeated.',
    },
    ...jsonOption,
    ...clientOptions,
  },
  notes: ['Nothing is counted, asked or done.'],
  examples: [
    'sallyport explain --agent responder --permission crm:delete_customer --args \'{"id":42}\'',
    'sallyport explain --event evt_main_42',
  ],
  async run({ values }, io) {
    const { event, agent, session, permission } = values
    if ([event, agent, session].filter((each) => each !== undefined).length !== 1)
      throw new UsageError('expected one of --event, --agent and --session')
    if (event === undefined && permission === undefined) throw new UsageError('expected --permission')
    if (event !== undefined && (permission ?? values.args ?? values.fact) !== undefined)
      throw new UsageError('--event says everything: expected nothing beside it')
    if (values.fact !== undefined && agent === undefined)
      throw new UsageError('--fact goes with --agent: a session has its own facts')
    const client = openClient(values, io)
    const facts = [...pairs('fact', values.fact ?? [])].map(([name, text]) => [
      name,
      factOf(name, text, values.fact === undefined ? undefined : placeOf(values, io)?.facts[name]),
    ])
    const wanted: Explain = {
      ...(event === undefined ? {} : { event }),
      ...(agent === undefined ? {} : { agent }),
      ...(session === undefined ? {} : { session }),
      ...(permission === undefined ? {} : { permission }),
      ...(values.args === undefined ? {} : { args: await readArgs(values.args, io.cwd) }),
      ...(facts.length === 0 ? {} : { facts: Object.fromEntries(facts) as Explain['facts'] & object }),
    }
    const explained = await client.post<Explained>('/v1/explain', wanted)
    io.out(values.json === true ? jsonText(explained) : inWords(explained, Date.now(), io))
    return 0
  },
})

/** A JSON object given in the line, or as `@file`. */
export async function readArgs(text: string, cwd: string): Promise<JsonObject> {
  let json = text
  if (text.startsWith('@'))
    try {
      json = await readFile(path.resolve(cwd, text.slice(1)), 'utf8')
    } catch (thrown) {
      throw new UsageError(`${safe(text.slice(1))} can’t be read (${errorCode(thrown)})`)
    }
  return parseArgsObject(json)
}

/** Arguments as a person wrote them. */
export function parseArgsObject(json: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (thrown) {
    throw new UsageError(`the arguments are no JSON: ${thrown instanceof Error ? thrown.message : 'unreadable'}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new UsageError('the arguments have to be a JSON object, such as `{"id":42}`')
  return value as JsonObject
}

const verdictStyle: Readonly<Record<Decision['kind'], Style>> = { allow: 'green', ask: 'yellow', deny: 'red' }

const marks: Readonly<Record<TraceStep['result'], readonly [mark: string, style: Style]>> = {
  matched: ['✓', 'green'],
  passed: ['✓', 'green'],
  'not matched': ['–', 'dim'],
  asks: ['?', 'yellow'],
  failed: ['✗', 'red'],
  refused: ['✗', 'red'],
}

/** The decision, each thing that was looked at, and what would be needed. */
export function inWords({ decision, steps, policy, decided }: Explained, now: number, io: Pick<Io, 'color'>): string {
  const rows = steps.map(({ agent, what, result, note }) => [
    marks[result][0],
    safe(agent ?? ''),
    safe(what),
    result,
    safe(note ?? '', { maxLength: 400 }),
  ])
  const table = columnsOf(rows).map((line, position) => {
    const [, style] = marks[steps[position]?.result ?? 'matched']
    return `  ${paint(io, style, line.slice(0, 1))}${line.slice(1)}`
  })
  const needed = needs(decision, steps, now)
  return [
    `${paint(io, 'bold', paint(io, verdictStyle[decision.kind], decision.kind))}: ${safe(decision.because)}`,
    ...(decided === undefined ? [] : [decidedThen(decided, policy)]),
    `policy ${safe(policy.slice(0, 12))}${decision.rules.length === 0 ? '' : `, decided by ${decision.rules.map((rule) => safe(rule)).join(', ')}`}`,
    ...(table.length === 0 ? [] : ['', ...table]),
    ...(needed.length === 0 ? [] : ['', 'What it would need:', ...needed.map((need) => `  - ${need}`)]),
  ].join('\n')
}

const decidedThen = ({ policy, decision, because }: NonNullable<Explained['decided']>, now: string): string =>
  policy === now
    ? `decided then, under the same policy: ${safe(decision)} (${safe(because)})`
    : `decided then, under policy ${safe(policy.slice(0, 12))}: ${safe(decision)} (${safe(because)})`

function needs(decision: Decision, steps: readonly TraceStep[], now: number): readonly string[] {
  if (decision.kind === 'allow')
    return decision.would === undefined ? [] : needs(decision.would, steps, now).map((need) => `unobserved: ${need}`)
  if (decision.kind === 'ask')
    return [
      `approval of ${decision.ask.needs.map((need) => safe(needInWords(need))).join(' and ')}, within ${span(decision.ask.within)}` +
        (decision.ask.self ? '' : ', not of the person on whose behalf it is'),
    ]
  const of = ({ agent }: TraceStep): string => (agent === undefined ? '' : ` (${safe(agent)})`)
  switch (decision.code) {
    case 'unknown':
      return [
        safe(
          decision.detail === undefined
            ? 'an entry in `may` of the agent, and of each that lends to it'
            : `${decision.detail}: an entry in \`may\`, or in \`lends\` of whoever lent it`,
        ),
      ]
    case 'limited':
      return [
        decision.retryAt === undefined
          ? 'a call of it to end'
          : `time: until ${moment(decision.retryAt)} (${span(decision.retryAt - now)})`,
      ]
    case 'invalid_arguments':
      return ['arguments that its schema allows']
    case 'denied': {
      const failed = steps.filter(({ result }) => result === 'failed')
      if (failed.length > 0)
        return failed.map((step) => `${safe(step.what)}${of(step)} can’t be evaluated: ${safe(step.note ?? '')}`)
      const matched = steps.filter(({ what, result }) => result === 'matched' && decision.rules.includes(what))
      if (matched.length > 0)
        return matched.map(
          (step) =>
            `${safe(step.what)}${of(step)} not to match${step.note === undefined ? '' : `: ${safe(step.note)} is true`}`,
        )
      return steps
        .filter(({ what, result }) => result === 'not matched' && decision.rules.includes(what))
        .map((step) => `${safe(step.what)}${of(step)}: ${safe(step.note ?? 'its condition')} is false`)
    }
    default:
      return decision.detail === undefined ? [] : [safe(decision.detail)]
  }
}
