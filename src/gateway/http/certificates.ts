import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import fs from 'node:fs'
import { isIP, isIPv4 } from 'node:net'
import { domainToASCII } from 'node:url'
import { Failure } from '../../core/failure.ts'
import type { Clock } from '../../guard/clock.ts'

// The certificates that the proxy shows to agents: one authority of this installation, and one short-lived certificate
// for each host that is opened. X.509 (RFC 5280) in DER (X.690), only as far as these two kinds of certificate need it.

/** The authority that agents are told to trust, and what it signs. */
export interface Authority {
  /** Its certificate, PEM. It is no secret. */
  readonly pem: string
  /**
   * What TLS is spoken with for exactly this host: a name in A-labels, or an address. Made when it is first needed,
   * kept, and made anew a day before it ends. Fails with `invalid` for anything but one host.
   */
  credentialFor(host: string): HostCredential
}

/** Both PEM, as `tls.createServer` takes them. */
export interface HostCredential {
  readonly key: string
  readonly cert: string
}

export interface AuthorityOptions {
  readonly keyFile: string
  readonly certificateFile: string
  readonly clock: Clock
  /** Certificates of hosts that are kept. */
  readonly kept?: number
}

const day = 86_400_000
const authorityLasts = 3_653 * day
const leafLasts = 7 * day
/** Clocks of others may be behind. */
const leeway = 3_600_000
const renewBefore = day
const mostKept = 1_000

/**
 * Opens the authority of an installation; the first time, it is made. The key has mode 0600 and leaves neither the file
 * nor the memory. Fails with `unavailable` where files can't be used or don't belong together, saying what to do.
 */
export function openAuthority({ keyFile, certificateFile, clock, kept = mostKept }: AuthorityOptions): Authority {
  const { key, pem } = readOrMake(keyFile, certificateFile, clock)
  const certificate = new X509Certificate(pem)
  const signer: Signer = { key, name: nameOf(certificate), keyId: keyIdOf(certificate.publicKey) }
  // One key for all hosts: whoever could read one of this memory's could read them all.
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const leafKey = pemOf(privateKey)
  const credentials = new Map<string, HostCredential & { readonly until: number }>()

  return {
    pem,
    credentialFor(host) {
      const now = clock()
      const known = credentials.get(host)
      const next =
        known !== undefined && now < known.until
          ? known
          : { key: leafKey, cert: leafFor(host, publicKey, signer, now), until: now + leafLasts - renewBefore }
      // The last one is the one that was used last.
      credentials.delete(host)
      credentials.set(host, next)
      const [oldest] = credentials.keys()
      if (credentials.size > kept && oldest !== undefined) credentials.delete(oldest)
      return next
    },
  }
}

const pemOf = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString()

function readOrMake(keyFile: string, certificateFile: string, clock: Clock): { key: KeyObject; pem: string } {
  const remedy = `remove ${keyFile} and ${certificateFile} to have new ones made; agents then have to trust the new one`
  const [hasKey, hasCertificate] = [keyFile, certificateFile].map((file) => fs.existsSync(file))
  if (!hasKey && !hasCertificate) {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const pem = authorityFor(publicKey, privateKey, clock())
    write(keyFile, pemOf(privateKey), 0o600)
    write(certificateFile, pem, 0o644)
    return { key: privateKey, pem }
  }
  let key: KeyObject
  let certificate: X509Certificate
  try {
    key = createPrivateKey(fs.readFileSync(keyFile))
    certificate = new X509Certificate(fs.readFileSync(certificateFile))
  } catch (cause) {
    throw new Failure(
      'unavailable',
      `the proxy's authority can't be read from ${keyFile} and ${certificateFile}: ${remedy}`,
      { cause },
    )
  }
  if (!certificate.checkPrivateKey(key) || !certificate.ca)
    throw new Failure('unavailable', `${certificateFile} is no authority of the key in ${keyFile}: ${remedy}`)
  if (clock() >= Date.parse(certificate.validTo) - leafLasts)
    throw new Failure('unavailable', `the authority in ${certificateFile} ends at ${certificate.validTo}: ${remedy}`)
  fs.chmodSync(keyFile, 0o600)
  return { key, pem: certificate.toString() }
}

function write(file: string, text: string, mode: number): void {
  try {
    fs.writeFileSync(file, text, { mode, flag: 'wx' })
  } catch (cause) {
    throw new Failure('unavailable', `${file} can't be written, which the proxy's authority is kept in`, { cause })
  }
}

// Certificates --------------------------------------------------------------------------------------------------------

interface Signer {
  readonly key: KeyObject
  /** Its subject, in DER. */
  readonly name: Buffer
  readonly keyId: Buffer
}

function authorityFor(publicKey: KeyObject, key: KeyObject, now: number): string {
  const keyId = keyIdOf(publicKey)
  // Several installations can be told apart in a list of trusted authorities.
  const name = distinguishedName([
    [oid.organization, 'Sallyport'],
    [oid.commonName, `Sallyport proxy ${keyId.toString('hex').slice(0, 8)}`],
  ])
  return certificate(
    { publicKey, subject: name, signer: { key, name, keyId }, from: now - leeway, to: now + authorityLasts },
    [
      // It signs certificates of servers and nothing else: no further authorities, no programs, no mail.
      extension(oid.basicConstraints, sequence(boolean(true), integer(Buffer.from([0]))), 'critical'),
      extension(oid.keyUsage, bits(0b0000_0110, 1), 'critical'),
      extension(oid.extendedKeyUsage, sequence(objectId(oid.serverAuth))),
      extension(oid.subjectKeyId, octets(keyId)),
    ],
  )
}

function leafFor(host: string, publicKey: KeyObject, signer: Signer, now: number): string {
  const address = isIP(host) === 0 ? undefined : addressBytes(host)
  if (address === undefined && !isOneName(host))
    throw new Failure('invalid', 'a certificate is for one host: a name without wildcards, or an address')
  const names = address === undefined ? tagged(0x82, Buffer.from(host, 'latin1')) : tagged(0x87, address)
  // The name is in the alternative names, where it is looked for. As a subject it is for people, and can't be long.
  const subject = distinguishedName(host.length <= 64 ? [[oid.commonName, host]] : [])
  return certificate({ publicKey, subject, signer, from: now - leeway, to: now + leafLasts }, [
    extension(oid.basicConstraints, sequence(), 'critical'),
    extension(oid.keyUsage, bits(0b1000_0000, 7), 'critical'),
    extension(oid.extendedKeyUsage, sequence(objectId(oid.serverAuth))),
    extension(oid.subjectKeyId, octets(keyIdOf(publicKey))),
    extension(oid.authorityKeyId, sequence(tagged(0x80, signer.keyId))),
    extension(oid.alternativeName, sequence(names), host.length <= 64 ? undefined : 'critical'),
  ])
}

/** A name as it stands in a certificate: A-labels in small letters. No wildcard, no final dot. */
const isOneName = (host: string): boolean =>
  host.length <= 253 &&
  host.split('.').every((label) => /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/.test(label)) &&
  domainToASCII(host) === host

interface Described {
  readonly publicKey: KeyObject
  readonly subject: Buffer
  readonly signer: Signer
  readonly from: number
  readonly to: number
}

/** RFC 5280 §4.1, signed with ECDSA and SHA-256 (RFC 5758 §3.2). */
function certificate({ publicKey, subject, signer, from, to }: Described, extensions: readonly Buffer[]): string {
  const algorithm = sequence(objectId(oid.ecdsaWithSha256))
  const signed = sequence(
    tagged(0xa0, integer(Buffer.from([2]))),
    integer(serial()),
    algorithm,
    signer.name,
    sequence(time(from), time(to)),
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    tagged(0xa3, sequence(...extensions)),
  )
  const signature = sign('sha256', signed, signer.key)
  const der = sequence(signed, algorithm, tagged(0x03, Buffer.concat([Buffer.from([0]), signature])))
  return `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replaceAll(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`
}

/** 127 random bits after one that is set: positive, and always as long. */
function serial(): Buffer {
  const bytes = randomBytes(16)
  bytes.writeUInt8((bytes.readUInt8(0) & 0x3f) | 0x40)
  return bytes
}

/** RFC 7093 §2 (1): the leftmost 160 bits of the SHA-256 of the key. */
function keyIdOf(publicKey: KeyObject): Buffer {
  const { x, y } = publicKey.export({ format: 'jwk' })
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x ?? '', 'base64url'), Buffer.from(y ?? '', 'base64url')])
  return createHash('sha256').update(point).digest().subarray(0, 20)
}

/** The subject of a certificate that this file wrote. */
const nameOf = ({ subject }: X509Certificate): Buffer =>
  distinguishedName(
    subject.split('\n').map((line): [string, string] => {
      const [key = '', value = ''] = line.split(/=(.*)/s)
      return [key === 'O' ? oid.organization : oid.commonName, value]
    }),
  )

function addressBytes(host: string): Buffer {
  if (isIPv4(host)) return Buffer.from(host.split('.').map(Number))
  // As a URL writes it: hexadecimal groups, at most one `::`.
  const [head = '', tail] = new URL(`http://[${host}]`).hostname.slice(1, -1).split('::', 2)
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':').map((group) => group.padStart(4, '0')))
  const [before, after] = [groups(head), groups(tail ?? '')]
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => '0000')
  return Buffer.from([...before, ...zeros, ...after].join(''), 'hex')
}

// DER -----------------------------------------------------------------------------------------------------------------

/** RFC 5280, appendix A; RFC 5758. */
const oid = {
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  alternativeName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
} as const

function tagged(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  if (length > 0xffff) throw new RangeError('longer than any certificate')
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}

const sequence = (...parts: readonly Buffer[]): Buffer => tagged(0x30, ...parts)
const octets = (bytes: Buffer): Buffer => tagged(0x04, bytes)
const boolean = (value: boolean): Buffer => tagged(0x01, Buffer.from([value ? 0xff : 0]))
/** A number that is not negative and has no leading zeros. */
const integer = (bytes: Buffer): Buffer => tagged(0x02, bytes)
/** One byte of flags, of which the last `unused` do not count. */
const bits = (flags: number, unused: number): Buffer => tagged(0x03, Buffer.from([unused, flags]))

function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const bytes = [first * 40 + second, ...rest].flatMap((arc) => {
    const groups = [arc & 0x7f]
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) groups.unshift((left & 0x7f) | 0x80)
    return groups
  })
  return tagged(0x06, Buffer.from(bytes))
}

/** RFC 5280 §4.1.2.5: UTCTime until 2049, GeneralizedTime after that. */
function time(at: number): Buffer {
  const digits = new Date(at).toISOString().replaceAll(/\..*$|[-:T]/g, '')
  return new Date(at).getUTCFullYear() < 2050
    ? tagged(0x17, Buffer.from(`${digits.slice(2)}Z`))
    : tagged(0x18, Buffer.from(`${digits}Z`))
}

const distinguishedName = (parts: readonly (readonly [string, string])[]): Buffer =>
  sequence(...parts.map(([type, value]) => tagged(0x31, sequence(objectId(type), tagged(0x0c, Buffer.from(value))))))

const extension = (id: string, value: Buffer, critical?: 'critical'): Buffer =>
  sequence(objectId(id), ...(critical === undefined ? [] : [boolean(true)]), octets(value))
