import type { IncomingMessage } from 'node:http'
import { Failure } from '../../core/failure.ts'
import { placeOf } from './host.ts'
import type { Place } from './host.ts'

// What passes of headers: what is listed, and nothing else, in both directions.

/** Of a request: how an answer should look, and what it should be held against. No credential, no way to say who one is. */
const passedOn: ReadonlySet<string> = new Set([
  'accept',
  'accept-language',
  'if-match',
  'if-none-match',
  'if-modified-since',
  'if-unmodified-since',
  'idempotency-key',
  'range',
])

/** Of an answer. What sets state in a client, speaks of the upstream's software, or opens something, is left out. */
const passedBack: ReadonlySet<string> = new Set([
  'accept-ranges',
  'age',
  'allow',
  'cache-control',
  'content-disposition',
  'content-language',
  'content-range',
  'content-type',
  'date',
  'deprecation',
  'digest',
  'etag',
  'expires',
  'last-modified',
  'link',
  'location',
  'content-location',
  'preference-applied',
  'ratelimit',
  'ratelimit-limit',
  'ratelimit-policy',
  'ratelimit-remaining',
  'ratelimit-reset',
  'repr-digest',
  'request-id',
  'retry-after',
  'sunset',
  'vary',
  'x-next-page',
  'x-page',
  'x-per-page',
  'x-prev-page',
  'x-request-id',
  'x-total',
  'x-total-count',
  'x-total-pages',
])
const passedBackPrefixes = ['x-ratelimit-', 'x-rate-limit-']

/** Headers of which a second one would be read by one program and not by another. */
const single: ReadonlySet<string> = new Set([
  'authorization',
  'content-encoding',
  'content-length',
  'content-type',
  'expect',
  'host',
  'prefer',
  'transfer-encoding',
])

/** Fails with `invalid` where a header stands twice that may not, or is one of those that `more` names. */
export function checkHeaders({ rawHeaders }: IncomingMessage, more: readonly string[]): void {
  const seen = new Set<string>()
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] ?? '').toLowerCase()
    if (seen.has(name) && (single.has(name) || more.includes(name)))
      throw new Failure('invalid', 'a header that may stand once stands twice')
    seen.add(name)
  }
}

/** The headers that are arguments: those that the operation lists. */
export function listedHeaders(
  { headers }: IncomingMessage,
  listed: readonly string[],
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    listed.flatMap((name) => (typeof headers[name] === 'string' ? [[name, headers[name]]] : [])),
  )
}

/** The headers that go along without being arguments. */
export function requestHeaders({ headers }: IncomingMessage): Record<string, string> {
  const kept: Record<string, string> = {}
  for (const name of passedOn) {
    const value = headers[name]
    if (typeof value === 'string' && /^[\x20-\x7e]{1,2000}$/.test(value)) kept[name] = value
  }
  return kept
}

export type RawHeaders = Readonly<Record<string, string | string[] | undefined>>

/** The one value of a header of an upstream; the first of several. */
export const headerOf = (headers: RawHeaders, name: string): string | undefined => {
  const value = headers[name]
  return Array.isArray(value) ? value[0] : value
}

/**
 * What an agent gets of an upstream's headers. Addresses below `base` become addresses at the gateway; others are left
 * out, because whoever followed one would go past it.
 */
export function answerHeaders(
  headers: RawHeaders,
  base: Place,
  own: string,
  mask: (text: string) => string,
): Record<string, string> {
  const kept: Record<string, string> = {}
  for (const [name, given] of Object.entries(headers)) {
    if (!passedBack.has(name) && !passedBackPrefixes.some((prefix) => name.startsWith(prefix))) continue
    const value = Array.isArray(given) ? given.join(', ') : (given ?? '')
    const passed =
      name === 'location' || name === 'content-location'
        ? moved(value, base, own)
        : name === 'link'
          ? movedLinks(value, base, own)
          : value
    if (passed === undefined || passed === '') continue
    const shown = mask(passed)
    // What could not be written into a head is left out.
    if (/^[\t\x20-\x7e\x80-\xff]*$/.test(shown)) kept[name] = shown
  }
  return kept
}

/** An address of the upstream as one of the gateway's; undefined for all others. */
function moved(address: string, base: Place, own: string): string | undefined {
  try {
    const { origin, path, query } = placeOf(address, base)
    const under = base.path === '/' ? '' : base.path
    if (origin !== base.origin || !(path === under || path.startsWith(`${under}/`))) return undefined
    return `${own}${path.slice(under.length)}${query}`
  } catch {
    return undefined
  }
}

/** `Link` (RFC 8288), as it is used for pages: those that lead to the upstream. */
function movedLinks(value: string, base: Place, own: string): string | undefined {
  if (value.length > 8_000) return undefined
  const links = [
    ...value.matchAll(/<([^<>]{1,2000})>((?:\s*;\s*[a-z*]{1,20}=(?:"[^"<>]{0,200}"|[\w.-]{1,200}))*)/gi),
  ].flatMap(([, address = '', parameters = '']) => {
    const to = moved(address, base, own)
    return to === undefined ? [] : [`<${to}>${parameters}`]
  })
  return links.length === 0 ? undefined : links.join(', ')
}
