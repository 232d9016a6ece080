import type { AcceptPin, PinView } from '../control/wire.ts'
import { Failure } from '../core/failure.ts'
import { openClient } from './client.ts'
import type { Client } from './client.ts'
import { command, jsonOption, UsageError } from './command.ts'
import { ask, paint } from './io.ts'
import type { Io } from './io.ts'
import { clientOptions } from './place.ts'
import { columnsOf, jsonText, moment, safe } from './text.ts'

const kinds = ['tool', 'prompt', 'resource', 'template', 'instructions'] as const

const pinsOf = async (client: Client, resource?: string): Promise<readonly PinView[]> =>
  (
    await client.get<{ pins: readonly PinView[] }>(
      `/v1/pins${resource === undefined ? '' : `?resource=${encodeURIComponent(resource)}`}`,
    )
  ).pins

export const toolsList = command({
  name: 'tools list',
  summary: 'Lists what the servers offer, and what of it changed and is held back',
  takes: ['[resource]'],
  options: { changed: { type: 'boolean', says: 'Only what is held back.' }, ...jsonOption, ...clientOptions },
  examples: ['sallyport tools list', 'sallyport tools list crm --changed'],
  async run({ words: [resource], values }, io) {
    const all = await pinsOf(openClient(values, io), resource)
    const pins = values.changed === true ? all.filter(({ proposed }) => proposed !== undefined) : all
    if (values.json === true) io.out(jsonText({ pins }))
    else if (pins.length === 0) io.out(values.changed === true ? 'nothing is held back' : 'nothing was seen yet')
    else {
      const rows = pins.map(({ resource: of, kind, name, digest, acceptedBy, proposed }) => [
        safe(of),
        kind,
        safe(name, { maxLength: 80 }),
        safe(digest.slice(0, 12)),
        proposed === undefined
          ? safe(acceptedBy)
          : paint(io, 'yellow', `changed ${moment(proposed.seenAt)}: held back`),
      ])
      const [head = '', ...lines] = columnsOf([['RESOURCE', 'KIND', 'NAME', 'DIGEST', 'ACCEPTED'], ...rows])
      io.out([paint(io, 'dim', head), ...lines].join('\n'))
    }
    return 0
  },
})

export const toolsShow = command({
  name: 'tools show',
  summary: 'Shows what changed in a definition that is held back',
  takes: ['<resource>', '<kind>', '<name>'],
  options: { ...jsonOption, ...clientOptions },
  notes: [`The kind is one of ${kinds.join(', ')}.`],
  examples: ['sallyport tools show crm tool lookup_customer'],
  async run({ words, values }, io) {
    const pin = await findPin(openClient(values, io), words)
    io.out(values.json === true ? jsonText(pin) : inWords(pin, io))
    return 0
  },
})

export const toolsAccept = command({
  name: 'tools accept',
  summary: 'Accepts a changed definition, after it was shown',
  takes: ['<resource>', '<kind>', '<name>'],
  options: {
    yes: { type: 'boolean', says: 'Asks nothing; needs --digest.' },
    digest: { type: 'string', value: '<digest>', says: 'The digest of what was looked at; another one is refused.' },
    ...jsonOption,
    ...clientOptions,
  },
  notes: ['Where nobody can be asked, give --yes and the --digest that `sallyport tools show` printed.'],
  examples: ['sallyport tools accept crm tool lookup_customer'],
  async run({ words, values }, io) {
    if ((values.yes === true) !== (values.digest !== undefined)) throw new UsageError('--yes and --digest go together')
    if (values.yes !== true && !io.isTty) throw new UsageError('nobody can be asked here: give --yes and --digest')
    const client = openClient(values, io)
    const pin = await findPin(client, words)
    const { resource, kind, name, proposed } = pin
    if (proposed === undefined)
      throw new Failure('conflict', `${safe(name)} of ${safe(resource)} has not changed: there is nothing to accept`)
    if (values.digest !== undefined && values.digest !== proposed.digest)
      throw new Failure(
        'conflict',
        `what is held back now is ${proposed.digest}: look at it with \`sallyport tools show\` first`,
      )
    if (values.yes !== true) {
      io.out(inWords(pin, io))
      if (!/^y(es)?$/i.test(await ask(io, 'Accept it? Agents will see the new definition. [y/N]'))) {
        io.err('nothing was accepted')
        return 1
      }
    }
    const wanted: AcceptPin = { resource, kind, name, digest: proposed.digest }
    const done = await client.post<{ accepted: string }>('/v1/pins/accept', wanted)
    io.out(values.json === true ? jsonText(done) : `${safe(done.accepted)} is accepted`)
    return 0
  },
})

async function findPin(client: Client, [resource = '', kind = '', name = '']: readonly string[]): Promise<PinView> {
  if (!(kinds as readonly string[]).includes(kind)) throw new UsageError(`the kind is one of ${kinds.join(', ')}`)
  const found = (await pinsOf(client, resource)).find((pin) => pin.kind === kind && pin.name === name)
  if (found === undefined)
    throw new Failure(
      'not_found',
      `${safe(resource)} has no ${kind} \`${safe(name)}\`: \`sallyport tools list\` shows what there is`,
    )
  return found
}

function inWords({ resource, kind, name, digest, acceptedAt, acceptedBy, proposed }: PinView, io: Io): string {
  const head = [
    `${safe(resource)} ${kind} ${safe(name)}`,
    `  in force   ${safe(digest)}  accepted ${moment(acceptedAt)} (${safe(acceptedBy)})`,
  ]
  if (proposed === undefined) return [...head, '  unchanged since'].join('\n')
  return [
    ...head,
    `  held back  ${safe(proposed.digest)}  seen ${moment(proposed.seenAt)}`,
    'What changes, in words of the server:',
    ...proposed.difference.split('\n').map((line) => {
      const style = line.startsWith('+') ? 'green' : line.startsWith('-') ? 'red' : 'reset'
      return `  ┃ ${paint(io, style, safe(line))}`
    }),
  ].join('\n')
}
