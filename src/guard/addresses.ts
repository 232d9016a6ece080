import { isIP, isIPv4 } from 'node:net'
import { Failure } from '../core/failure.ts'

// Which addresses a request may go to. Deny by default: only what is known to be of the public internet passes, and
// what a resource names itself. Sources: the IANA special-purpose registries for IPv4 (RFC 6890) and IPv6.

/** A network, as `10.0.0.0/8` or `fd00::/8`; a plain address stands for itself. */
export interface Network {
  readonly source: string
  readonly bytes: readonly number[]
  readonly bits: number
}

/** Reads a network. Fails with `invalid`, saying what form was expected. */
export function parseNetwork(source: string): Network {
  const parts = /^([0-9A-Fa-f.:]{2,45})(?:\/(\d{1,3}))?$/.exec(source)
  const address = parts?.[1] ?? ''
  const most = isIPv4(address) ? 32 : 128
  const bits = parts?.[2] === undefined ? most : Number(parts[2])
  if (parts === null || isIP(address) === 0 || bits > most)
    throw new Failure('invalid', 'expected an address or a network, such as `10.1.2.3` or `10.0.0.0/8`')
  const bytes = bytesOf(address)
  if (bytes.some((byte, position) => (byte & ~maskAt(position, bits) & 0xff) !== 0))
    throw new Failure('invalid', `\`${source}\` is no network: it has bits beyond its first ${bits}`)
  return { source, bytes, bits }
}

/** Why a request may not go to this address, in words; undefined where it may. `named` are what its resource names. */
export function refusedAddress(address: string, named: readonly Network[]): string | undefined {
  if (isIP(address) === 0) return 'is no address'
  const forms = formsOf(bytesOf(address.replace(/%.*$/, '')))
  // INVARIANT: where machines get their credentials from is never reached, whoever names it.
  if (forms.some((form) => within(form, metadata))) return 'is where cloud machines keep their credentials'
  const [own] = forms
  if (own !== undefined && within(own, named)) return undefined
  // IPv4 inside IPv6, which leads to another address than the one that is read.
  if (forms.length > 1) return 'is an address that hides another one'
  return own === undefined ? 'is no address' : rangeOf(own)
}

/** Suffixes of names that belong to a network of one's own (RFC 6761, RFC 6762, RFC 8375, and habit). */
const ownSuffixes = [
  'localhost',
  'local',
  'internal',
  'intranet',
  'corp',
  'home',
  'lan',
  'private',
  'svc',
  'cluster.local',
  'home.arpa',
  'localdomain',
  'onion',
  'test',
  'invalid',
]

/** Whether a name is one of an own network: such names lead to public addresses by accident or by malice alone. */
export const isOwnName = (host: string): boolean =>
  isIP(host) === 0 &&
  (!host.includes('.') || ownSuffixes.some((suffix) => host === suffix || host.endsWith(`.${suffix}`)))

function networks(...sources: string[]): readonly Network[] {
  return sources.map(parseNetwork)
}

const metadata = networks(
  '169.254.169.254', // AWS, Azure, Google, DigitalOcean, Oracle, …
  '169.254.169.253',
  '169.254.169.123',
  '169.254.170.2', // AWS ECS
  '169.254.170.23', // AWS EKS
  '168.63.129.16', // Azure; ordinary unicast
  '100.100.100.200', // Alibaba
  '192.0.0.192', // Oracle
  'fd00:ec2::254', // AWS
  'fd00:ec2::23',
  'fd20:ce::254', // Google
)

const loopback = networks('::', '::1')

const special: readonly (readonly [string, readonly Network[]])[] = [
  ['is of this machine', [...networks('127.0.0.0/8', '0.0.0.0/8'), ...loopback]],
  ['is private', networks('10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7', 'fec0::/10')],
  ['is of this link alone', networks('169.254.0.0/16', 'fe80::/10')],
  ['is shared by a provider', networks('100.64.0.0/10')],
  ['is for many at once', networks('224.0.0.0/4', 'ff00::/8', '255.255.255.255')],
  [
    'is reserved',
    networks(
      '192.0.0.0/24',
      '192.0.2.0/24',
      '192.31.196.0/24',
      '192.52.193.0/24',
      '192.88.99.0/24',
      '192.175.48.0/24',
      '198.18.0.0/15',
      '198.51.100.0/24',
      '203.0.113.0/24',
      '240.0.0.0/4',
      '2001::/23',
      '2001:db8::/32',
      '2620:4f:8000::/48',
      '3fff::/20',
      '5f00::/16',
    ),
  ],
]
const global6 = networks('2000::/3')

function rangeOf(bytes: readonly number[]): string | undefined {
  const found = special.find(([, list]) => within(bytes, list))
  if (found !== undefined) return found[0]
  return bytes.length === 16 && !within(bytes, global6) ? 'is reserved' : undefined
}

const mapped = networks('::ffff:0:0/96')
/** IPv4 in the last four bytes: compatible, translated (RFC 2765, RFC 6052, RFC 8215). */
const atTheEnd = networks('::/96', '::ffff:0:0:0/96', '64:ff9b::/96', '64:ff9b:1::/48')
const sixToFour = networks('2002::/16')
const teredo = networks('2001::/32')

/** The address, and those inside it. */
function formsOf(bytes: readonly number[]): readonly (readonly number[])[] {
  if (bytes.length === 4) return [bytes]
  const last = bytes.slice(12)
  if (within(bytes, mapped)) return [last] // The very same address, in another spelling.
  if (within(bytes, loopback)) return [bytes]
  if (within(bytes, sixToFour)) return [bytes, bytes.slice(2, 6)]
  if (within(bytes, teredo)) return [bytes, bytes.slice(4, 8), last.map((byte) => byte ^ 0xff)]
  const isIsatap = ((bytes[8] ?? 0) & 0xfd) === 0 && bytes[9] === 0 && bytes[10] === 0x5e && bytes[11] === 0xfe
  return isIsatap || within(bytes, atTheEnd) ? [bytes, last] : [bytes]
}

function within(bytes: readonly number[], list: readonly Network[]): boolean {
  return list.some(
    (network) =>
      network.bytes.length === bytes.length &&
      bytes.every((byte, position) => ((byte ^ (network.bytes[position] ?? 0)) & maskAt(position, network.bits)) === 0),
  )
}

function maskAt(position: number, bits: number): number {
  return (0xff00 >> Math.max(0, Math.min(8, bits - position * 8))) & 0xff
}

/** The bytes of an address that `isIP` takes. */
function bytesOf(address: string): readonly number[] {
  if (isIPv4(address)) return address.split('.').map(Number)
  const [head = '', tail] = address.split('::', 2)
  const groups = (text: string): number[] =>
    text === ''
      ? []
      : text.split(':').flatMap((group) => {
          if (group.includes('.')) return group.split('.').map(Number)
          const value = Number.parseInt(group, 16)
          return [value >> 8, value & 0xff]
        })
  const [before, after] = [groups(head), groups(tail ?? '')]
  return [...before, ...Array.from({ length: 16 - before.length - after.length }, () => 0), ...after]
}
