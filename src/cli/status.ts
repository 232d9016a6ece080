import type { ResourceStatus, Status } from '../control/wire.ts'
import { openClient } from './client.ts'
import { command, jsonOption } from './command.ts'
import { paint } from './io.ts'
import type { Io, Style } from './io.ts'
import { clientOptions } from './place.ts'
import { columnsOf, jsonText, safe, span } from './text.ts'

export const statusCommand = command({
  name: 'status',
  summary: 'Shows how the gateway is: addresses, policy, audit log, sessions, resources',
  options: { ...jsonOption, ...clientOptions },
  notes: ['Exit code 1 when the audit log can’t be written: then every action is refused.'],
  examples: ['sallyport status', 'sallyport status --json'],
  async run({ values }, io) {
    const status = await openClient(values, io).get<Status>('/v1/status')
    io.out(values.json === true ? jsonText(status) : inWords(status, io))
    return status.audit.state === 'ok' ? 0 : 1
  },
})

function inWords(status: Status, io: Io): string {
  const { version, startedAt, agents, people, proxy, sql, policy, audit, sessions, pending, stops, resources, caller } =
    status
  const mark = (style: Style, text: string): string => paint(io, style, text)
  const rows = [
    ['gateway', `${safe(version)}, up for ${span(Date.now() - startedAt)}`],
    ['agents', safe(agents.url)],
    ...(proxy === undefined ? [] : [['proxy', safe(proxy.url)]]),
    ...(sql === undefined ? [] : [['sql', safe(sql.url)]]),
    ['people', `${safe(people.url)} (you are ${safe(caller)})`],
    [
      'policy',
      `${safe(policy.digest.slice(0, 12))} from ${safe(policy.file)}, loaded ${span(Date.now() - policy.loadedAt)} ago`,
    ],
    [
      'audit',
      audit.state === 'ok'
        ? `${mark('green', 'ok')}, ${audit.size} events, ${audit.signed} signed`
        : `${mark('red', audit.state)}: ${safe(audit.reason ?? 'no reason given')}; ${audit.refused} refused`,
    ],
    ['sessions', `${sessions} live`],
    ['pending', pending === 0 ? 'no question' : mark('yellow', `${pending} for people: \`sallyport approvals\``)],
    ['stopped', stops.length === 0 ? 'nothing' : mark('red', stops.map((stop) => safe(stop)).join(', '))],
    ...resources.map((resource, position) => [position === 0 ? 'resources' : '', resourceInWords(resource, io)]),
    ...policy.warnings.map((warning) => ['warning', mark('yellow', safe(warning))]),
  ]
  return columnsOf(rows).join('\n')
}

function resourceInWords({ name, kind, state, reason, tools, hosts, quarantined }: ResourceStatus, io: Io): string {
  const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`
  const style: Style = state === 'ready' ? 'green' : state === 'connecting' ? 'yellow' : 'red'
  return [
    `${safe(name)} (${kind}) ${paint(io, style, state)}`,
    ...(reason === undefined ? [] : [safe(reason, { maxLength: 300 })]),
    hosts === undefined ? count(tools, kind === 'functions' ? 'function' : 'tool') : count(hosts, 'host'),
    ...(quarantined === 0
      ? []
      : [paint(io, 'yellow', `${quarantined} quarantined: \`sallyport tools list ${safe(name)}\``)]),
  ].join(', ')
}
