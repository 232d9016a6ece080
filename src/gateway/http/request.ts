import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import type { Problem } from '../../core/action.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import { parseJson } from '../../guard/json.ts'
import { chunksOf, decoded, decodedChunksOf, describeFile, readParts, readUpTo, writeParts } from './body.ts'
import type { Part, Room } from './body.ts'
import { listedHeaders, requestHeaders } from './headers.ts'
import { compose, valuesAs } from './operation.ts'
import type { Operation } from './operation.ts'
import { isListedType, isObject, mediaTypeOf } from './resource.ts'
import type { Content } from './resource.ts'
import type { Outgoing } from './send.ts'
import { readValues } from './target.ts'

/** A request as its operation sees it. */
export interface Taken {
  readonly args: JsonObject
  /** What is wrong before any schema is asked. */
  readonly problems: readonly Problem[]
  /** The status that says best what is wrong. */
  readonly status: number
  /** Bytes of a body that is not in the arguments. */
  readonly carried: Carried
}

export type Carried =
  | { readonly kind: 'none' }
  | { readonly kind: 'parts'; readonly parts: readonly Part[] }
  | { readonly kind: 'bytes'; readonly type: string; readonly bytes: Buffer }
  /** A body that is passed on while it comes. */
  | {
      readonly kind: 'stream'
      readonly type: string
      readonly begun: Buffer
      readonly rest: AsyncIterator<Buffer>
      readonly length: number | undefined
    }

export interface TakePorts {
  readonly room: Room
  readonly freed: (() => void)[]
  /** Whether this request would be asked about: then its whole body has to be known. */
  readonly needsWhole: (args: JsonObject) => boolean
}

/** Bytes of a JSON body or of a form. */
const mostBody = 4 * 1024 * 1024
/** An upload of up to so many bytes is read before it is decided about. */
const mostLooked = 1024 * 1024
/** An upload of up to so many bytes can be put before people. */
const mostAsked = 16 * 1024 * 1024
const jsonLimits = { maxDepth: 64, maxKeys: 50_000 }

type ContentOf<K extends Content['kind']> = Extract<Content, { kind: K }>
interface Body {
  readonly args: JsonObject
  readonly problems: readonly Problem[]
  readonly carried: Carried
}

/** Reads what a request brings, as far as its operation needs it to be decided about. Fails with `cancelled` or `limited`. */
export async function takeRequest(
  req: IncomingMessage,
  operation: Operation,
  inPath: JsonObject,
  query: readonly (readonly [string, string])[],
  ports: TakePorts,
): Promise<Taken> {
  const parameters = valuesAs(operation.parameters, query)
  const headers = listedHeaders(req, operation.headers)
  const outside: Record<string, Json> = {
    ...parameters.values,
    ...inPath,
    ...(Object.keys(headers).length === 0 ? {} : { headers }),
  }
  const clashing = (names: readonly string[]): Problem[] =>
    names
      .filter((name) => Object.hasOwn(outside, name))
      .map((name) => ({
        path: `/${name.slice(0, 100)}`,
        message: `\`/${name.slice(0, 100)}\` stands in the body and elsewhere`,
      }))
  const inBoth = operation.pathNames.filter((name) => Object.hasOwn(parameters.values, name))
  const problems: Problem[] = [
    ...parameters.problems,
    ...inBoth.map((name) => ({ path: `/${name}`, message: `\`/${name}\` stands in the path and in the query` })),
  ]
  try {
    const body = await takeBody(req, operation.content, outside, ports)
    return {
      args: { ...outside, ...body.args },
      problems: [...problems, ...body.problems, ...clashing(Object.keys(body.args))],
      status: 400,
      carried: body.carried,
    }
  } catch (thrown) {
    const failure = Failure.from(thrown)
    if (!(failure instanceof Unacceptable) && failure.code !== 'invalid' && failure.code !== 'too_large') throw thrown
    const status = failure instanceof Unacceptable ? failure.status : failure.code === 'too_large' ? 413 : 400
    return {
      args: outside,
      problems: [...problems, { path: '', message: failure.message }],
      status,
      carried: { kind: 'none' },
    }
  }
}

/** A body of another kind than the operation takes. */
class Unacceptable extends Failure {
  readonly status: number

  constructor(status: number, message: string) {
    super('invalid', message)
    this.status = status
  }
}

async function takeBody(req: IncomingMessage, content: Content, outside: JsonObject, ports: TakePorts): Promise<Body> {
  const hasBody = req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0
  if (content.kind === 'none') {
    if (hasBody) throw new Unacceptable(400, 'this operation takes no body')
    return { args: {}, problems: [], carried: { kind: 'none' } }
  }
  const type = mediaTypeOf(req.headers['content-type'])
  if (content.kind === 'upload') return takeUpload(req, content, type, outside, ports)
  if (!hasBody) return { args: {}, problems: [], carried: { kind: 'none' } }

  const expected = {
    json: 'application/json',
    form: 'application/x-www-form-urlencoded',
    multipart: 'multipart/form-data',
  }[content.kind]
  const isFine =
    content.kind === 'json' ? type === expected || /^application\/[a-z0-9.-]+\+json$/.test(type) : type === expected
  if (!isFine) throw new Unacceptable(415, `\`Content-Type\` has to be ${expected}`)
  const most =
    content.kind === 'multipart'
      ? Object.values(content.files).reduce((sum, { size }) => sum + size, mostBody)
      : mostBody
  if (Number(req.headers['content-length'] ?? 0) > most) throw tooLarge(most)
  const read = await readUpTo(chunksOf(req), most, ports.room, ports.freed)
  if (!read.isWhole) throw tooLarge(most)
  const bytes = await decoded(read.bytes, req.headers['content-encoding'], most)
  if (content.kind === 'json') return takeJson(bytes, content)
  return content.kind === 'form'
    ? takeForm(bytes, content)
    : takeParts(bytes, req.headers['content-type'] ?? '', content)
}

const tooLarge = (most: number): Failure => new Failure('too_large', `the body is larger than ${most} bytes`)

function takeJson(bytes: Buffer, { isFlat }: ContentOf<'json'>): Body {
  const value = parseJson(bytes, { ...jsonLimits, maxBytes: mostBody })
  if (!isFlat) return { args: { body: value }, problems: [], carried: { kind: 'none' } }
  if (!isObject(value)) throw new Failure('invalid', 'the body has to be a JSON object')
  return { args: value, problems: [], carried: { kind: 'none' } }
}

function takeForm(bytes: Buffer, { schema }: ContentOf<'form'>): Body {
  const text = bytes.toString('latin1')
  if (!/^[\x21-\x7e]*$/.test(text)) throw new Failure('invalid', 'the form is badly encoded')
  const { values, problems } = valuesAs(schema, readValues(text))
  return { args: values, problems, carried: { kind: 'none' } }
}

function takeParts(bytes: Buffer, contentType: string, { schema, files }: ContentOf<'multipart'>): Body {
  const parts = readParts(bytes, contentType)
  const problems: Problem[] = []
  const described: Record<string, Json> = {}
  const carried: Part[] = []
  const texts: (readonly [string, string])[] = []
  for (const part of parts) {
    const bounds = Object.hasOwn(files, part.name) ? files[part.name] : undefined
    const at = `/${part.name.slice(0, 100)}`
    if (bounds === undefined) {
      if (part.file !== undefined) problems.push({ path: at, message: `\`${at}\` is no file here` })
      else texts.push([part.name, utf8(part.bytes)])
      continue
    }
    if (Object.hasOwn(described, part.name)) problems.push({ path: at, message: `\`${at}\` stands twice` })
    if (part.bytes.length > bounds.size)
      problems.push({ path: at, message: `\`${at}\` is larger than ${bounds.size} bytes` })
    if (!isListedType(part.type, bounds.types))
      problems.push({ path: at, message: `\`${at}\` must have one of the types ${bounds.types.join(', ')}` })
    const file = { ...part, file: part.file ?? part.name }
    described[part.name] = describeFile(file)
    carried.push(file)
  }
  const { values, problems: wrong } = valuesAs(schema, texts)
  return {
    args: { ...values, ...described },
    problems: [...problems, ...wrong],
    carried: { kind: 'parts', parts: carried },
  }
}

function utf8(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw new Failure('invalid', 'a text of the body is not UTF-8')
  }
}

/**
 * An upload is passed on as it is, without the encoding that it came in: what is decided about and recorded is what the
 * API reads. What people are asked about has to be known to the last byte, so that is read first.
 */
async function takeUpload(
  req: IncomingMessage,
  { types, size }: ContentOf<'upload'>,
  type: string,
  outside: JsonObject,
  ports: TakePorts,
): Promise<Body> {
  if (!isListedType(type === '' ? 'application/octet-stream' : type, types))
    throw new Unacceptable(415, `\`Content-Type\` has to be one of ${types.join(', ')}`)
  const { chunks, length } = decodedChunksOf(req, size, ports.freed)
  const shown = type === '' ? 'application/octet-stream' : type
  const known = (bytes: Buffer): Body => ({
    args: { body: describeFile({ file: undefined, type: shown, bytes }) },
    problems: [],
    carried: { kind: 'bytes', type: shown, bytes },
  })
  const begun = await readUpTo(chunks, Math.min(size, mostLooked), ports.room, ports.freed)
  if (begun.isWhole) return known(begun.bytes)
  if (begun.bytes.length > size) throw tooLarge(size)
  const args: JsonObject = { body: { type: shown, ...(length === undefined ? {} : { bytes: length }) } }
  if (!ports.needsWhole({ ...outside, ...args }))
    return { args, problems: [], carried: { kind: 'stream', type: shown, begun: begun.bytes, rest: chunks, length } }
  const most = Math.min(size, mostAsked)
  const whole = await readUpTo(chunks, most, ports.room, ports.freed, begun.bytes)
  if (!whole.isWhole)
    throw new Unacceptable(413, `this needs the approval of a person, who can be shown at most ${most} bytes`)
  return known(whole.bytes)
}

/** The request that is sent. `sent` tells how many bytes of a body there were, and what they were, once it is over. */
export function outgoingOf(
  operation: Operation,
  { args, carried }: Pick<Taken, 'args' | 'carried'>,
  req: IncomingMessage | undefined,
): { readonly outgoing: Outgoing; readonly sent: () => JsonObject & { readonly bytes: number } } {
  const { path, query, headers, body } = compose(operation, args)
  const along = req === undefined ? { accept: operation.response.types.join(', ') } : requestHeaders(req)
  const made = bodyOf(operation.content, body, carried)
  return {
    outgoing: {
      method: operation.method,
      path,
      query,
      headers: {
        ...along,
        ...headers,
        ...(made.type === undefined ? {} : { 'content-type': made.type }),
        ...(made.length === undefined ? {} : { 'content-length': String(made.length) }),
      },
      body: made.body,
    },
    sent: made.sent,
  }
}

interface MadeBody {
  readonly type?: string
  readonly length?: number
  readonly body: Outgoing['body']
  readonly sent: () => JsonObject & { readonly bytes: number }
}

function bodyOf(content: Content, value: Json | undefined, carried: Carried): MadeBody {
  const whole = (type: string, bytes: Buffer): MadeBody => ({
    type,
    body: bytes,
    sent: () => ({ bytes: bytes.length }),
  })
  const nothing: MadeBody = { body: undefined, sent: () => ({ bytes: 0 }) }
  switch (content.kind) {
    case 'none':
      return nothing
    case 'json':
      return value === undefined ? nothing : whole('application/json', Buffer.from(JSON.stringify(value)))
    case 'form':
      return whole('application/x-www-form-urlencoded', Buffer.from(new URLSearchParams(textsOf(value)).toString()))
    case 'multipart': {
      const texts = textsOf(value).map(([name, text]): Part => ({
        name,
        file: undefined,
        type: 'text/plain',
        bytes: Buffer.from(text),
      }))
      const { type, bytes } = writeParts([...texts, ...(carried.kind === 'parts' ? carried.parts : [])])
      return whole(type, bytes)
    }
    case 'upload':
      if (carried.kind === 'bytes') return whole(carried.type, carried.bytes)
      return carried.kind === 'stream' ? streamed(carried, content.size) : nothing
  }
}

const textsOf = (value: Json | undefined): [string, string][] =>
  isObject(value)
    ? Object.entries(value).flatMap(([name, each]) =>
        (Array.isArray(each) ? each : [each]).map((one: Json): [string, string] => [
          name,
          typeof one === 'string' ? one : JSON.stringify(one),
        ]),
      )
    : []

/** An upload, as fast as the upstream takes it, and no more than it may be. */
function streamed({ type, begun, rest, length }: Extract<Carried, { kind: 'stream' }>, most: number): MadeBody {
  const hash = createHash('sha256')
  let bytes = 0
  let isWhole = false
  async function* chunks(): AsyncGenerator<Buffer> {
    const pass = (chunk: Buffer): Buffer => {
      bytes += chunk.length
      if (bytes > most) throw tooLarge(most)
      hash.update(chunk)
      return chunk
    }
    yield pass(begun)
    for await (const chunk of { [Symbol.asyncIterator]: () => rest }) yield pass(chunk)
    isWhole = true
  }
  return {
    type,
    ...(length === undefined ? {} : { length }),
    body: Readable.from(chunks(), { objectMode: false }),
    sent: () => ({ bytes, ...(isWhole ? { sha256: hash.copy().digest('hex') } : {}) }),
  }
}
