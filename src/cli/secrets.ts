import type { Rekeyed, RotateSecret, SecretView, SetSecret } from '../control/wire.ts'
import { openClient } from './client.ts'
import { command, jsonOption, optionValue, UsageError } from './command.ts'
import { paint } from './io.ts'
import { clientOptions } from './place.ts'
import { columnsOf, jsonText, moment, readDuration, safe } from './text.ts'
import { readValue } from './value.ts'

const shortOption = { type: 'boolean', says: 'Takes a value of 4 to 7 characters, which is easily guessed.' } as const
/** What is read from standard input. */
const value = {
  prompt: 'value (not shown), then Enter:',
  missing: 'standard input holds no value',
  left: 'nothing was stored',
  what: 'a secret',
  mostBytes: 65_536,
}
const fromStdin = [
  'The value is read from standard input, and never from an argument: those are seen by others and kept in histories.',
  'One line end at its end is left out. At a terminal it is asked for, and not shown.',
]

export const secretsSet = command({
  name: 'secrets set',
  summary: 'Stores a secret, for one resource, for hosts, or for both',
  takes: ['<name>'],
  options: {
    resource: { type: 'string', value: '<name>', says: 'The one resource that may use it.' },
    host: { type: 'string', multiple: true, value: '<host>', says: 'A host that it may be sent to; may be repeated.' },
    short: shortOption,
    ...jsonOption,
    ...clientOptions,
  },
  notes: [...fromStdin, 'Configuration refers to it as `${secret:NAME}`.'],
  examples: ['sallyport secrets set CRM_KEY --resource crm --host api.example.com'],
  async run({ words: [name = ''], values }, io) {
    const { resource, host = [], short } = values
    if (resource === undefined && host.length === 0)
      throw new UsageError('expected `--resource`, `--host` or both: a secret is bound to where it may go')
    const client = openClient(values, io)
    const wanted: SetSecret = {
      name,
      value: await readValue(io, value),
      hosts: host,
      ...(resource === undefined ? {} : { resource }),
      ...(short === true ? { short } : {}),
    }
    const secret = await client.post<SecretView>('/v1/secrets', wanted)
    io.out(values.json === true ? jsonText(secret) : `${safe(secret.name)} is set, for ${boundTo(secret)}`)
    return 0
  },
})

export const secretsList = command({
  name: 'secrets list',
  summary: 'Lists secrets, without their values',
  options: { ...jsonOption, ...clientOptions },
  examples: ['sallyport secrets list'],
  async run({ values }, io) {
    const { secrets } = await openClient(values, io).get<{ secrets: readonly SecretView[] }>('/v1/secrets')
    if (values.json === true) io.out(jsonText({ secrets }))
    else if (secrets.length === 0) io.out('there are no secrets')
    else {
      const rows = secrets.map((secret) => [
        safe(secret.name),
        boundTo(secret),
        versionsOf(secret),
        secret.lastUsedAt === undefined ? 'never' : moment(secret.lastUsedAt),
        secret.locked === undefined ? '' : `locked: ${safe(secret.locked)}`,
      ])
      const [head = '', ...lines] = columnsOf([['SECRET', 'BOUND TO', 'VERSION', 'LAST USED', ''], ...rows])
      io.out([paint(io, 'dim', head), ...lines].join('\n'))
    }
    return 0
  },
})

export const secretsRotate = command({
  name: 'secrets rotate',
  summary: 'Gives a secret a new value',
  takes: ['<name>'],
  options: {
    overlap: {
      type: 'string',
      value: '<time>',
      says: 'How long the value before is still known, so that it is masked; default: `1 h`. `0` forgets it now.',
    },
    short: shortOption,
    ...jsonOption,
    ...clientOptions,
  },
  notes: [...fromStdin, 'The new value is used at once; programs that have the old one are started anew.'],
  examples: ['sallyport secrets rotate CRM_KEY --overlap 10m'],
  async run({ words: [name = ''], values }, io) {
    const { overlap = '1 h', short } = values
    const seconds = overlap === '0' ? 0 : optionValue('overlap', () => readDuration(overlap)) / 1000
    const client = openClient(values, io)
    const wanted: RotateSecret = {
      value: await readValue(io, value),
      overlap: seconds,
      ...(short === true ? { short } : {}),
    }
    const secret = await client.post<SecretView>(`/v1/secrets/${encodeURIComponent(name)}/rotate`, wanted)
    io.out(
      values.json === true ? jsonText(secret) : `${safe(secret.name)} has a new value: version ${versionsOf(secret)}`,
    )
    return 0
  },
})

export const secretsRemove = command({
  name: 'secrets remove',
  summary: 'Removes a secret and all its values',
  takes: ['<name>'],
  options: { ...jsonOption, ...clientOptions },
  notes: ['What needs it fails from then on. Its value is no longer masked: take it back where it came from first.'],
  examples: ['sallyport secrets remove CRM_KEY'],
  async run({ words: [name = ''], values }, io) {
    const done = await openClient(values, io).delete<{ removed: string }>(`/v1/secrets/${encodeURIComponent(name)}`)
    io.out(values.json === true ? jsonText(done) : `${safe(done.removed)} is removed`)
    return 0
  },
})

export const secretsRekey = command({
  name: 'secrets rekey',
  summary: 'Changes the master key that secrets are sealed with',
  options: { ...jsonOption, ...clientOptions },
  notes: [
    'Everything goes on meanwhile. What is interrupted is finished at the next start. A key from the environment is changed',
    'by starting with the new one in SALLYPORT_MASTER_KEY and the old one in SALLYPORT_MASTER_KEY_OLD; then this.',
  ],
  examples: ['sallyport secrets rekey'],
  async run({ values }, io) {
    const { done, locked } = await openClient(values, io).post<Rekeyed>('/v1/secrets/rekey')
    if (values.json === true) io.out(jsonText({ done, locked }))
    else if (done === 0) io.out('every secret was under that key already')
    else io.out(`${done === 1 ? '1 secret is' : `${done} secrets are`} under the new master key`)
    if (locked.length > 0)
      io.err(`could not be opened, and are as they were: ${locked.map((name) => safe(name)).join(', ')}`)
    return locked.length === 0 ? 0 : 1
  },
})

const boundTo = ({ resource, hosts }: SecretView): string =>
  [...(resource === undefined ? [] : [resource]), ...hosts].map((each) => safe(each)).join(', ')

function versionsOf({ versions }: SecretView): string {
  const [newest, ...before] = versions
  const until = before.map(({ number, endsAt }) => `${number} until ${endsAt === undefined ? '?' : moment(endsAt)}`)
  return `${newest?.number ?? '?'}${until.length === 0 ? '' : ` (${until.join(', ')})`}`
}
