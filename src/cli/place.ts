import { readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { isLoopback, settingsSchema } from '../config/schema.ts'
import { readSource } from '../config/source.ts'
import { Failure } from '../core/failure.ts'
import type { Options } from './command.ts'
import type { Io } from './io.ts'
import { safe } from './text.ts'

/** What `sallyport.yaml` says of where things are. */
export interface Place {
  readonly file: string
  readonly state: string
  readonly people: string
  readonly agents: string
  /** Declared types of facts, by name. */
  readonly facts: Readonly<Record<string, string>>
}

export const fileName = 'sallyport.yaml'

/** Options of every command that talks to the gateway. */
export const clientOptions = {
  config: { type: 'string', value: '<file>', says: `${fileName}; default: beside the current folder or above it.` },
  home: { type: 'string', value: '<folder>', says: 'The state folder, which holds `admin.key`.' },
  'key-file': {
    type: 'string',
    value: '<file>',
    says: 'A file with your key; default: `admin.key` of the state folder.',
  },
  url: { type: 'string', value: '<address>', says: 'Where the gateway listens for people; also `SALLYPORT_URL`.' },
} as const satisfies Options

export interface PlaceValues {
  readonly config?: string
  readonly home?: string
  readonly 'key-file'?: string
  readonly url?: string
}

/** The file of settings: the one named, or the nearest from the current folder upward. */
export function findFile(given: string | undefined, cwd: string): string | undefined {
  if (given !== undefined) return path.resolve(cwd, given)
  for (let folder = path.resolve(cwd); ; folder = path.dirname(folder)) {
    const file = path.join(folder, fileName)
    if (statSync(file, { throwIfNoEntry: false })?.isFile() === true) return file
    if (folder === path.dirname(folder)) return undefined
  }
}

/**
 * Where the file says things are. Reads those keys alone, so that a running gateway can be reached, and stopped, while
 * something else in the file is broken. Fails with `invalid` where these keys can't be read, `not_found` without a file.
 */
export function readPlace(file: string): Place {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (thrown) {
    throw new Failure('not_found', `${safe(file)} can’t be read (${errorCode(thrown)})`, { cause: thrown })
  }
  const { data } = readSource(text)
  if (typeof data !== 'object' || data === null || Array.isArray(data))
    throw new Failure(
      'invalid',
      `${safe(file)} is not readable as YAML: \`sallyport check\` says where; meanwhile give --url and --home`,
    )
  const { listen, state, facts } = data as Readonly<Record<string, unknown>>
  const read = settingsSchema.safeParse({
    ...(listen === undefined ? {} : { listen }),
    ...(state === undefined ? {} : { state }),
  })
  if (!read.success)
    throw new Failure(
      'invalid',
      `${safe(file)}: \`listen\` or \`state\` is wrong: \`sallyport check\` says how; meanwhile give --url and --home`,
    )
  const { agents, people, url } = read.data.listen
  const own = `http://${local(agents.host)}:${agents.port}`
  return {
    file,
    state: path.resolve(path.dirname(file), read.data.state),
    people: `http://${local(people.host)}:${people.port}`,
    agents: url === undefined ? own : url.replace(/\/$/, ''),
    facts: settingsSchema.shape.facts.safeParse(facts).data ?? {},
  }
}

/** How this machine reaches a listener: an address that means `all of them` is none to connect to. */
function local(host: string): string {
  const reached = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return reached.includes(':') ? `[${reached}]` : reached
}

/** The place, or undefined where there is no file; a file that was named has to be there. */
export function placeOf(values: PlaceValues, io: Pick<Io, 'cwd'>): Place | undefined {
  const file = findFile(values.config, io.cwd)
  return file === undefined ? undefined : readPlace(file)
}

export interface Target {
  readonly url: string
  /** Where the address was found, for messages. */
  readonly from: string
  readonly key: string
  /** Where the key was found, for messages. Never the key. */
  readonly keyFrom: string
}

/** Which gateway, as whom. Fails with `not_found` or `invalid`, saying where was looked and what to do. */
export function targetOf(values: PlaceValues, io: Pick<Io, 'cwd' | 'env'>): Target {
  const given = values.url ?? (io.env['SALLYPORT_URL'] || undefined)
  const hasKey = Boolean(io.env['SALLYPORT_KEY']) || values['key-file'] !== undefined || values.home !== undefined
  // A file that is not needed can't be in the way.
  const place = given !== undefined && hasKey ? undefined : placeOf(values, io)
  const url =
    given === undefined ? place?.people : addressOf(given, values.url === undefined ? 'SALLYPORT_URL' : '--url')
  if (url === undefined)
    throw new Failure(
      'not_found',
      `no ${fileName} in ${safe(io.cwd)} or above: change there, or give --config, or --url and --home`,
    )
  const from = given === undefined ? safe(place?.file ?? '') : values.url === undefined ? 'SALLYPORT_URL' : '--url'
  return { url, from, ...keyOf(values, io, place) }
}

/** An address that a key may be sent to. */
function addressOf(text: string, from: string): string {
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol) || url.username !== '' || url.password !== '')
    throw new Failure('invalid', `${from}: expected an address such as \`http://127.0.0.1:7401\`, without a user name`)
  if (url.protocol === 'http:' && !isLoopback(url.hostname))
    throw new Failure(
      'invalid',
      `${from}: your key would go to ${url.host} unencrypted: use an \`https://\` address, or a tunnel to this machine`,
    )
  return url.origin
}

function keyOf(
  values: PlaceValues,
  io: Pick<Io, 'cwd' | 'env'>,
  place: Place | undefined,
): Pick<Target, 'key' | 'keyFrom'> {
  const fromEnvironment = io.env['SALLYPORT_KEY']
  if (fromEnvironment) return { key: checkedKey(fromEnvironment, 'SALLYPORT_KEY'), keyFrom: 'SALLYPORT_KEY' }
  const file =
    values['key-file'] !== undefined
      ? path.resolve(io.cwd, values['key-file'])
      : path.join(values.home === undefined ? (place?.state ?? '') : path.resolve(io.cwd, values.home), 'admin.key')
  if (values['key-file'] === undefined && values.home === undefined && place === undefined)
    throw new Failure('not_found', 'no key: set SALLYPORT_KEY, or give --key-file, --home or --config')
  const shown = safe(file)
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (thrown) {
    const code = errorCode(thrown)
    throw new Failure(
      'not_found',
      code === 'ENOENT'
        ? `no key at ${shown}: it is made when the gateway first starts (\`sallyport start\`); or set SALLYPORT_KEY, or give --key-file`
        : `the key at ${shown} can’t be read (${code}): it belongs to whoever started the gateway; use a key of your own (SALLYPORT_KEY or --key-file)`,
      { cause: thrown },
    )
  }
  return { key: checkedKey(text, shown), keyFrom: shown }
}

function checkedKey(text: string, where: string): string {
  const key = text.trim()
  if (!/^sp_(person|service)_[A-Za-z0-9_-]{43}$/.test(key))
    throw new Failure(
      'invalid',
      /^sp_(agent|session)_/.test(key)
        ? `${where} holds a credential of an agent: agents can’t use this side; expected the key of a person or service`
        : `${where} holds no key: expected text that begins with \`sp_person_\` or \`sp_service_\``,
    )
  return key
}

export const errorCode = (thrown: unknown): string =>
  thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unknown'
