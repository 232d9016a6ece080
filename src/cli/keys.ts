import type { IssuedKey, IssueKey, KeyView } from '../control/wire.ts'
import { openClient } from './client.ts'
import { command, jsonOption, optionValue, UsageError } from './command.ts'
import type { ExitCode } from './command.ts'
import { paint } from './io.ts'
import type { Io } from './io.ts'
import { clientOptions } from './place.ts'
import type { PlaceValues } from './place.ts'
import { columnsOf, jsonText, moment, readDuration, safe } from './text.ts'

const lastsOption = {
  type: 'string',
  value: '<time>',
  says: 'Ends after this, such as `90d`; default: never.',
} as const
const shownOnce = 'Standard output holds the key and nothing else. It is shown once; only a digest of it is kept.'

export const keysIssue = command({
  name: 'keys issue',
  summary: 'Makes a key for an agent, a person or a service and prints it, once',
  takes: ['<holder>'],
  options: { lasts: lastsOption, ...jsonOption, ...clientOptions },
  notes: [shownOnce],
  examples: ['sallyport keys issue agent:reader', 'sallyport keys issue person:anna --lasts 90d'],
  run: ({ words: [holder = ''], values }, io) => issue({ holder, ...lasting(values.lasts) }, values, io),
})

export const keysRotate = command({
  name: 'keys rotate',
  summary: 'Makes a new key and lets the ones before go on for a while',
  takes: ['<holder>'],
  options: {
    overlap: {
      type: 'string',
      value: '<time>',
      says: 'How long the ones before go on; default: `1 h`. `0` ends them now.',
    },
    lasts: lastsOption,
    ...jsonOption,
    ...clientOptions,
  },
  notes: [shownOnce],
  examples: ['sallyport keys rotate agent:reader --overlap 10m'],
  run({ words: [holder = ''], values }, io) {
    const { overlap = '1 h' } = values
    const rotate = overlap === '0' ? 0 : optionValue('overlap', () => readDuration(overlap)) / 1000
    return issue({ holder, rotate, ...lasting(values.lasts) }, values, io)
  },
})

const lasting = (text: string | undefined): Pick<IssueKey, 'lasts'> =>
  text === undefined ? {} : { lasts: optionValue('lasts', () => readDuration(text)) / 1000 }

async function issue(wanted: IssueKey, values: PlaceValues & { readonly json?: boolean }, io: Io): Promise<ExitCode> {
  const issued = await openClient(values, io).post<IssuedKey>('/v1/keys', wanted)
  if (values.json === true) io.out(jsonText(issued))
  else {
    const { id, holder, endsAt } = issued.key
    io.err(
      `${safe(id)} of ${safe(holder)}${endsAt === undefined ? '' : `, until ${moment(endsAt)}`}; the key, shown once:`,
    )
    io.out(issued.text)
  }
  return 0
}

export const keysList = command({
  name: 'keys list',
  summary: 'Lists keys, without their text',
  options: { ...jsonOption, ...clientOptions },
  examples: ['sallyport keys list'],
  async run({ values }, io) {
    const { keys } = await openClient(values, io).get<{ keys: readonly KeyView[] }>('/v1/keys')
    if (values.json === true) io.out(jsonText({ keys }))
    else if (keys.length === 0) io.out('there are no keys')
    else {
      const now = Date.now()
      const rows = keys.map(({ id, holder, createdAt, endsAt, endedBecause }) => [
        safe(id),
        safe(holder),
        moment(createdAt),
        endsAt === undefined
          ? 'holds'
          : now < endsAt
            ? `holds until ${moment(endsAt)}`
            : `ended: ${safe(endedBecause ?? '')}`,
      ])
      const [head = '', ...lines] = columnsOf([['KEY', 'HOLDER', 'MADE', 'STATE'], ...rows])
      io.out([paint(io, 'dim', head), ...lines].join('\n'))
    }
    return 0
  },
})

export const keysRevoke = command({
  name: 'keys revoke',
  summary: 'Ends a key at once',
  takes: ['<key>'],
  options: { ...jsonOption, ...clientOptions },
  notes: [
    'Takes the id of a key (`key_…`), never its text. Sessions that it started go on: `sallyport kill` ends them.',
  ],
  examples: ['sallyport keys revoke key_8f2c'],
  async run({ words: [id = ''], values }, io) {
    if (id.startsWith('sp_')) throw new UsageError('expected the id of a key (`key_…`), not its text: end that key now')
    const done = await openClient(values, io).delete<{ revoked: string }>(`/v1/keys/${encodeURIComponent(id)}`)
    io.out(values.json === true ? jsonText(done) : `${safe(done.revoked)} is revoked`)
    return 0
  },
})
