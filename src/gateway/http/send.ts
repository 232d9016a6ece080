import type { Readable, Transform } from 'node:stream'
import { Failure } from '../../core/failure.ts'
import { decoderFor } from './body.ts'
import type { Credentials } from './credential.ts'
import type { Egress } from './egress.ts'
import { headerOf } from './headers.ts'
import type { RawHeaders } from './headers.ts'
import { placeOf } from './host.ts'
import type { Place } from './host.ts'
import { isListedType, mediaTypeOf } from './resource.ts'
import type { HttpResource, OperationDescription } from './resource.ts'

/** A request as it goes out, before the credential is added. */
export interface Outgoing {
  readonly method: string
  readonly path: string
  readonly query: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | Readable | undefined
}

/** An answer whose head is there. */
export interface Incoming {
  readonly status: number
  readonly headers: RawHeaders
  /** Media type of the body; empty where there is none. */
  readonly type: string
  /**
   * The body, with its encoding taken off. Fails with `too_large` when it is larger than it may be, `unavailable` when
   * it can't be decoded or breaks off.
   */
  readonly body: AsyncIterable<Buffer>
}

export interface SendPorts {
  readonly egress: Egress
  readonly credentials: Credentials
  readonly base: Place
  readonly redirects: HttpResource['redirects']
}

const mostHops = 5
/** What is decided on by these would be one thing for us and another for who reads them after us. */
const readOnce = ['content-type', 'content-encoding', 'content-length', 'location'] as const
const headersSentElsewhere: ReadonlySet<string> = new Set([
  'accept',
  'accept-language',
  'accept-encoding',
  'user-agent',
])

/**
 * Sends a request once. Nothing is ever sent again by itself: only a GET or HEAD that the upstream redirects goes to
 * where that leads, if the resource allows it; every hop is checked like the first, and the credential stays at home.
 *
 * Fails with `forbidden` for a place that may not be reached, `unavailable` for an upstream that can't be, or that
 * answers in a way that the operation does not allow.
 */
export async function send(
  outgoing: Outgoing,
  response: OperationDescription['response'],
  ports: SendPorts,
  session: string,
  signal: AbortSignal,
): Promise<Incoming> {
  const { egress, credentials, base, redirects } = ports
  const proof = await credentials.proof(session, signal)
  const own = { 'user-agent': 'sallyport', ...outgoing.headers, 'accept-encoding': 'identity' }
  const under = base.path === '/' ? '' : base.path
  let place: Place = { ...base, path: under + outgoing.path, query: outgoing.query === '' ? '' : `?${outgoing.query}` }

  for (let hop = 0; ; hop++) {
    egress.check(place)
    const isHome = place.origin === base.origin
    const headers = isHome
      ? { ...own, ...proof.headers }
      : Object.fromEntries(Object.entries(own).filter(([name]) => headersSentElsewhere.has(name)))
    const query = isHome && proof.query !== undefined ? withValue(place.query, proof.query) : place.query
    const answer = await egress.dispatcherOf(session).request({
      origin: place.origin,
      path: place.path + query,
      method: outgoing.method,
      headers,
      body: outgoing.body ?? null,
      signal,
    })
    const twice = readOnce.find((name) => Array.isArray(answer.headers[name]))
    if (twice !== undefined) {
      answer.body.on('error', () => {}).destroy()
      throw new Failure('unavailable', `the upstream says \`${twice}\` twice`)
    }
    const location = headerOf(answer.headers, 'location')
    const next =
      location === undefined || !isRedirect(answer.statusCode)
        ? undefined
        : followed(location, place, outgoing, ports, redirects)
    if (next === undefined) {
      if (isHome && answer.statusCode === 401) credentials.refused(session)
      return incoming(answer.statusCode, withoutHops(answer.headers), answer.body, response, outgoing.method)
    }
    answer.body.on('error', () => {}).destroy()
    if (hop === mostHops) throw new Failure('unavailable', `the upstream redirects more than ${mostHops} times`)
    place = next
  }
}

const isRedirect = (status: number): boolean =>
  status === 301 || status === 302 || status === 303 || status === 307 || status === 308

/** Where a redirect leads, if it is one that is followed. */
function followed(
  location: string,
  from: Place,
  { method }: Outgoing,
  { base }: SendPorts,
  redirects: HttpResource['redirects'],
): Place | undefined {
  if (redirects === 'none' || (method !== 'GET' && method !== 'HEAD')) return undefined
  const to = destination(location, from)
  if (to.origin === base.origin) return to
  if (redirects === 'same-origin') return undefined
  if (to.protocol === 'http:' && from.protocol === 'https:')
    throw new Failure('forbidden', 'the upstream redirects to where nothing is encrypted')
  return to // Whether it is listed is for the check of the next hop.
}

function destination(location: string, from: Place): Place {
  try {
    return placeOf(location, from)
  } catch (cause) {
    throw new Failure('unavailable', 'the upstream redirects to an address that can’t be used', { cause })
  }
}

const withValue = (query: string, [name, value]: readonly [string, string]): string =>
  `${query === '' ? '?' : `${query}&`}${encodeURIComponent(name)}=${encodeURIComponent(value)}`

/** Without what is for this connection alone (RFC 9110 §7.6.1). How long a body is, and what it is, can't be among that. */
function withoutHops(headers: RawHeaders): RawHeaders {
  const named = [headers['connection'] ?? []].flat().flatMap((each) => each.toLowerCase().split(','))
  const hops = new Set(named.map((each) => each.trim()))
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => readOnce.some((each) => each === name) || !hops.has(name)),
  )
}

async function incoming(
  status: number,
  headers: RawHeaders,
  body: Readable,
  { types, size }: OperationDescription['response'],
  method: string,
): Promise<Incoming> {
  const refuse = (message: string): never => {
    body.on('error', () => {}).destroy()
    throw new Failure('unavailable', message)
  }
  const hasNone = method === 'HEAD' || status === 204 || status === 304 || headerOf(headers, 'content-length') === '0'
  const given = headerOf(headers, 'content-type')
  const type = mediaTypeOf(given)
  if (
    !hasNone &&
    !(given === undefined && isRedirect(status)) &&
    !isListedType(given === undefined ? 'application/octet-stream' : type, types)
  )
    refuse(
      `the upstream answered with ${type === '' ? 'a body of no type' : `the type \`${type}\``}, which is not listed for this operation`,
    )
  const encoding = headerOf(headers, 'content-encoding') ?? ''
  const length = Number(headerOf(headers, 'content-length') ?? 0)
  if (method !== 'HEAD' && length > size) refuse(`the answer is larger than ${size} bytes`)
  const unpacked = hasNone ? body : unpack(body, encoding, refuse)
  const chunks = bounded(body, unpacked, size)
  return { status, headers, type: hasNone ? '' : type, body: unpacked === body ? chunks : await begun(chunks) }
}

/** Once the first of it is there: what can't be decoded at all is told while it can still be refused. */
async function begun(chunks: AsyncGenerator<Buffer>): Promise<AsyncIterable<Buffer>> {
  const first = await chunks.next()
  return (async function* () {
    if (first.done === true) return
    yield first.value
    yield* chunks
  })()
}

async function* bounded(body: Readable, unpacked: AsyncIterable<Buffer>, most: number): AsyncGenerator<Buffer> {
  let bytes = 0
  try {
    for await (const chunk of unpacked) {
      bytes += chunk.length
      if (bytes > most) throw new Failure('too_large', `the answer is larger than ${most} bytes`)
      yield chunk
    }
  } catch (thrown) {
    throw thrown instanceof Failure ? thrown : new Failure('unavailable', 'the answer broke off', { cause: thrown })
  } finally {
    body.on('error', () => {}).destroy()
  }
}

/** What was sent encoded although we asked for it as it is, piece by piece: a bomb goes off in the bound round this. */
function unpack(body: Readable, encoding: string, refuse: (message: string) => never): AsyncIterable<Buffer> {
  let decoder: Transform | undefined
  try {
    decoder = decoderFor(encoding)
  } catch {
    return refuse('the answer has an encoding that is not known')
  }
  if (decoder === undefined) return body
  const unpacked = decoder
  body.once('error', (cause) => unpacked.destroy(cause))
  return body.pipe(unpacked)
}
