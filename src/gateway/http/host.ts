import { isIP } from 'node:net'
import { Failure } from '../../core/failure.ts'
import { isOwnName, parseNetwork, refusedAddress } from '../../guard/addresses.ts'
import type { Network } from '../../guard/addresses.ts'

/** Where a request goes: an origin in the one spelling that there is of it. */
export interface Place {
  readonly protocol: 'http:' | 'https:'
  /** A name in A-labels, in lower case, without a final dot; or an address, IPv6 without brackets. */
  readonly host: string
  readonly port: number
  /** As it stands in an address: `https://api.example.com:8443`. */
  readonly origin: string
  /** Begins with `/`. */
  readonly path: string
  /** Empty, or begins with `?`. */
  readonly query: string
}

/**
 * Reads an absolute address as browsers do (WHATWG URL), which folds every spelling of a host into one, and refuses
 * what would be read in two ways. Fails with `invalid`; messages do not repeat the address.
 */
export function placeOf(text: string, base?: Place): Place {
  const refuse = (because: string): never => {
    throw new Failure('invalid', `the address ${because}`)
  }
  if (text.length > 8_000) refuse('is longer than 8,000 characters')
  // URL parsers drop some of these and turn others into something else.
  if (/[\0-\x20\x7f-\xa0\\\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/.test(text))
    refuse('has spaces, backslashes or characters that can’t be seen')
  if (!text.isWellFormed()) refuse('has a lone surrogate')
  const url = base === undefined ? URL.parse(text) : URL.parse(text, base.origin + base.path + base.query)
  if (url === null) return refuse('can’t be read')
  const { protocol } = url
  if (protocol !== 'http:' && protocol !== 'https:') return refuse('begins with neither `https://` nor `http://`')
  if (base === undefined && !/^https?:\/\/[^/?#]/i.test(text)) refuse('begins with neither `https://` nor `http://`')
  const authority = /^(?:https?:)?\/\/([^/?#]*)/i.exec(text)?.[1] ?? ''
  if (url.username !== '' || url.password !== '' || authority.includes('@')) refuse('has a user name or a password')
  // A host that is written encoded hides what it is.
  if (authority.includes('%')) refuse('has a host with encoded characters')
  const literal = /^\[(.*)\]$/.exec(url.hostname)?.[1]
  const host = literal ?? url.hostname.replace(/\.$/, '')
  if (host === '' || host.endsWith('.')) refuse('has no host')
  if (literal === undefined && isIP(host) === 0) {
    if (!host.split('.').every((part) => /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/.test(part)) || host.length > 253)
      refuse('has a host that is no name')
    // A name that ends in a number is an address in some programs.
    if (/(?:^|\.)(?:\d+|0x[0-9a-f]*)$/.test(host)) refuse('has a host that is no name')
  }
  const port = url.port === '' ? (protocol === 'https:' ? 443 : 80) : Number(url.port)
  if (port === 0) refuse('has the port 0')
  const shown = literal === undefined ? host : `[${literal}]`
  const isUsual = port === (protocol === 'https:' ? 443 : 80)
  return {
    protocol,
    host,
    port,
    origin: `${protocol}//${shown}${isUsual ? '' : `:${port}`}`,
    path: url.pathname,
    query: url.search,
  }
}

/** What a resource says of where its requests may go. */
export interface Bounds {
  /** Addresses of its own network that its host may have. */
  readonly addresses: readonly Network[]
  /** Hosts that redirects may lead to, beside its own. */
  readonly hosts: readonly string[]
  /** Ports beside 80, 443 and its own. */
  readonly ports: readonly number[]
  readonly home: Pick<Place, 'host' | 'port'>
}

/** Why nothing may be sent there, in words; undefined where it may, as far as the text tells. No name is looked up. */
export function refusedPlace({ host, port }: Pick<Place, 'host' | 'port'>, bounds: Bounds): string | undefined {
  const { home } = bounds
  const isHome = host === home.host
  if (!isHome && !bounds.hosts.includes(host)) return 'the host is not listed'
  if (port !== 80 && port !== 443 && !bounds.ports.includes(port) && !(isHome && port === home.port))
    return 'the port is not listed'
  if (isIP(host) !== 0) {
    const because = refusedAddress(host, addressesFor(host, bounds))
    return because === undefined ? undefined : `the address ${because}`
  }
  if (isOwnName(host) && bounds.addresses.length === 0)
    return 'the name is one of an own network, and no addresses are listed for it'
  return undefined
}

/** The networks that a host may be in. An address that the resource is reached at is named by that. */
export const addressesFor = (host: string, { addresses, home }: Bounds): readonly Network[] =>
  isIP(host) !== 0 && host === home.host ? [...addresses, parseNetwork(host)] : addresses
