import type { AmountsView, ListedSession, ShownSession, StartedSession, StartSession } from '../control/wire.ts'
import type { FactValue } from '../core/condition.ts'
import { openClient } from './client.ts'
import { command, jsonOption, optionValue, pairs, UsageError } from './command.ts'
import { paint } from './io.ts'
import type { Io } from './io.ts'
import { clientOptions, placeOf } from './place.ts'
import { bytes, columnsOf, jsonText, moment, readDuration, safe, span } from './text.ts'

export const sessionsStart = command({
  name: 'sessions start',
  summary: 'Starts a session of an agent and prints its token, once',
  takes: ['<agent>'],
  options: {
    behalf: { type: 'string', value: '<who>', says: 'On whose behalf, such as `person:anna`; default: you.' },
    fact: { type: 'string', multiple: true, value: '<name=value>', says: 'What conditions may know; may be repeated.' },
    only: { type: 'string', multiple: true, value: '<permission>', says: 'Nothing but this; may be repeated.' },
    limit: {
      type: 'string',
      multiple: true,
      value: '<measure=limit>',
      says: 'Such as `calls=10/min`; may be repeated.',
    },
    lasts: { type: 'string', value: '<time>', says: 'Such as `30m` or `8 h`; default: as configured.' },
    jwt: { type: 'boolean', says: 'A signed token (JWT) in place of a random one.' },
    ...jsonOption,
    ...clientOptions,
  },
  notes: [
    'Standard output holds the token and nothing else, so that it can be put where the agent finds it. A fact is read by',
    'the type that the file declares for it; without the file, numbers, `true`, `false` and JSON lists are what they look',
    'like, and quotes make text of them (--fact \'id="42"\').',
  ],
  examples: [
    'sallyport sessions start reader',
    'sallyport sessions start reader --fact customer_id=42 --only helpdesk:search --limit calls=10/min --lasts 30m',
    'SALLYPORT_TOKEN=$(sallyport sessions start reader) my-agent',
  ],
  async run({ words: [agent = ''], values }, io) {
    const client = openClient(values, io)
    const declared = values.fact === undefined ? {} : declaredFacts(values, io)
    const facts = [...pairs('fact', values.fact ?? [])].map(([name, text]) => [
      name,
      factOf(name, text, declared[name]),
    ])
    const lasts = values.lasts
    const wanted: StartSession = {
      agent,
      ...(values.behalf === undefined ? {} : { behalf: values.behalf }),
      ...(values.fact === undefined ? {} : { facts: Object.fromEntries(facts) as StartSession['facts'] & object }),
      ...(values.only === undefined ? {} : { only: values.only }),
      ...(values.limit === undefined ? {} : { limits: Object.fromEntries(pairs('limit', values.limit)) }),
      ...(lasts === undefined ? {} : { lasts: optionValue('lasts', () => readDuration(lasts)) / 1000 }),
      ...(values.jwt === true ? { token: 'jwt' as const } : {}),
    }
    const started = await client.post<StartedSession>('/v1/sessions', wanted)
    if (values.json === true) io.out(jsonText(started))
    else {
      const { session, token } = started
      io.err(
        `${safe(session.id)} of ${safe(session.agent)} for ${safe(session.behalf)}, until ${moment(session.deadline)}; its token, shown once:`,
      )
      io.out(token)
    }
    return 0
  },
})

function declaredFacts(
  values: Parameters<typeof placeOf>[0],
  io: Parameters<typeof placeOf>[1],
): Readonly<Record<string, string>> {
  try {
    return placeOf(values, io)?.facts ?? {}
  } catch {
    return {}
  }
}

/** A fact as it is meant: text where text is declared, else as JSON has it, else text. */
export function factOf(name: string, text: string, declared?: string): FactValue {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return text
  }
  if (declared === 'string' || declared === 'timestamp') return typeof value === 'string' ? value : text
  const isFact =
    ['string', 'number', 'boolean'].includes(typeof value) ||
    (Array.isArray(value) && value.every((each) => typeof each === 'string' || typeof each === 'number'))
  if (!isFact)
    throw new UsageError(`\`--fact ${name}=…\`: expected text, a number, true, false, or a list of texts or numbers`)
  return value as FactValue
}

export const sessionsList = command({
  name: 'sessions list',
  summary: 'Lists live sessions, newest first',
  options: { ...jsonOption, ...clientOptions },
  examples: ['sallyport sessions list', 'sallyport sessions list --json'],
  async run({ values }, io) {
    const { sessions } = await openClient(values, io).get<{ sessions: readonly ListedSession[] }>('/v1/sessions')
    if (values.json === true) io.out(jsonText({ sessions }))
    else if (sessions.length === 0) io.out('no session is live')
    else {
      const now = Date.now()
      const rows = sessions.map(({ id, agent, behalf, startedBy, deadline, parent, label, traffic }) => [
        safe(id),
        safe(agent),
        safe(behalf),
        parent === undefined ? safe(startedBy) : `from ${safe(parent)}`,
        span(deadline - now),
        bytes(traffic.sent),
        label.trust === 'untrusted' ? 'has read untrusted text' : '',
      ])
      const [head = '', ...lines] = columnsOf([
        ['SESSION', 'AGENT', 'FOR', 'STARTED BY', 'ENDS IN', 'SENT', ''],
        ...rows,
      ])
      io.out([paint(io, 'dim', head), ...lines].join('\n'))
    }
    return 0
  },
})

export const sessionsShow = command({
  name: 'sessions show',
  summary: 'Shows a live session, and what went to which host and came back',
  takes: ['<session>'],
  options: { ...jsonOption, ...clientOptions },
  notes: [
    'Bytes count for the session and for every one that it was made from. Counting begins anew when the gateway starts;',
    'the audit log has what was before (`sallyport audit search --session`).',
  ],
  examples: ['sallyport sessions show ses_8f2c', 'sallyport sessions show ses_8f2c --json'],
  async run({ words: [id = ''], values }, io) {
    const shown = await openClient(values, io).get<ShownSession>(`/v1/sessions/${encodeURIComponent(id)}`)
    io.out(values.json === true ? jsonText(shown) : shownInWords(shown, io))
    return 0
  },
})

function shownInWords({ session, traffic }: ShownSession, io: Io): string {
  const { id, agent, behalf, startedBy, startedAt, deadline, parent, facts, only, limits, label } = session
  const pairsOf = (record: object): string =>
    Object.entries(record)
      .map(([name, value]) => `${safe(name)}=${safe(typeof value === 'string' ? value : JSON.stringify(value))}`)
      .join(', ')
  const about = [
    ['session', safe(id)],
    ['agent', `${safe(agent)} for ${safe(behalf)}`],
    ['started', `${moment(startedAt)} ${parent === undefined ? `by ${safe(startedBy)}` : `from ${safe(parent)}`}`],
    ['ends in', span(deadline - Date.now())],
    ...(Object.keys(facts).length === 0 ? [] : [['facts', pairsOf(facts)]]),
    ...(only === undefined ? [] : [['only', only.map(({ do: permission }) => safe(permission)).join(', ')]]),
    ...(Object.keys(limits).length === 0 ? [] : [['limits', pairsOf(limits)]]),
    ['has read', label.trust === 'untrusted' ? `untrusted text (${label.readers})` : 'nothing untrusted'],
    ...(traffic.since === startedAt ? [] : [['counted', `since ${moment(traffic.since)}, when the gateway started`]]),
  ]
  const row = (name: string, { requests, sent, received }: AmountsView): string[] => [
    name,
    String(requests),
    bytes(sent),
    bytes(received),
  ]
  const { hosts, others, total } = traffic
  if (hosts.length === 0) return [...columnsOf(about), '', 'nothing has gone to any host'].join('\n')
  const [head = '', ...lines] = columnsOf([
    ['HOST', 'REQUESTS', 'SENT', 'RECEIVED'],
    ...hosts.map((each) => row(safe(each.host), each)),
    ...(others === undefined ? [] : [row('(others)', others)]),
    row('(all)', total),
  ])
  return [...columnsOf(about), '', paint(io, 'dim', head), ...lines].join('\n')
}

export const sessionsEnd = command({
  name: 'sessions end',
  summary: 'Ends a session, and all that were made from it',
  takes: ['<session>'],
  options: { ...jsonOption, ...clientOptions },
  notes: ['The agent may be given another one. `sallyport kill` also keeps its key from starting one.'],
  examples: ['sallyport sessions end ses_8f2c'],
  async run({ words: [id = ''], values }, io) {
    const ended = await openClient(values, io).delete<{ sessions: number }>(`/v1/sessions/${encodeURIComponent(id)}`)
    io.out(values.json === true ? jsonText(ended) : sessionsEnded(ended.sessions))
    return 0
  },
})

export const sessionsEnded = (count: number): string => (count === 1 ? '1 session ended' : `${count} sessions ended`)
