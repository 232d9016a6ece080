import { Failure } from '../../core/failure.ts'

/** What a TLS client says in the clear before anything else (RFC 8446 §4.1.2). */
export interface ClientHello {
  /** The host that it wants (RFC 6066 §3), in small letters; undefined where it names none. */
  readonly name: string | undefined
  /** There is another name in it that only the server can read (Encrypted Client Hello), or something that looks so. */
  readonly isEncrypted: boolean
}

/** Bytes of a first message. Those of clients of today have less than 2,000, with post-quantum keys. */
export const longestHello = 16_384

/**
 * Reads the first message of a TLS client from the bytes that came so far; undefined where more have to come. Fails
 * with `invalid` for what is none, and for whatever servers could read in two ways.
 */
export function readClientHello(bytes: Buffer): ClientHello | undefined {
  const message = handshakeIn(bytes)
  if (message === undefined) return undefined
  const hello = cursor(message)
  hello.take(2 + 32) // The version of old, and what is random.
  hello.list(1) // A session to resume.
  hello.list(2) // Ciphers.
  hello.list(1) // Compressions.
  let name: string | undefined
  const seen = new Set<number>()
  if (hello.isAtEnd()) return { name, isEncrypted: false }
  const extensions = cursor(hello.list(2))
  hello.end()
  while (!extensions.isAtEnd()) {
    const type = extensions.number(2)
    const content = extensions.list(2)
    if (seen.has(type)) throw invalid('an extension stands twice')
    seen.add(type)
    if (type === 0) name = nameIn(content)
  }
  return { name, isEncrypted: seen.has(encryptedHello) }
}

/** draft-ietf-tls-esni, and RFC 9849. */
const encryptedHello = 0xfe0d

function nameIn(content: Buffer): string {
  const extension = cursor(content)
  const names = cursor(extension.list(2))
  extension.end()
  if (names.number(1) !== 0) throw invalid('the name is of a kind that is not known')
  const name = names.list(2).toString('latin1')
  names.end()
  if (!/^[A-Za-z0-9._-]{1,255}$/.test(name)) throw invalid('the name is none')
  return name.toLowerCase()
}

/** The first message of the handshake, out of the records that it was cut into. */
function handshakeIn(bytes: Buffer): Buffer | undefined {
  if (bytes.length > longestHello) throw invalid('it is too long')
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length;) {
    const [kind, major] = [bytes[at], bytes[at + 1]]
    if (kind !== 22 || (major !== undefined && major !== 3)) throw invalid('it is no handshake')
    if (at + 5 > bytes.length) break
    const length = bytes.readUInt16BE(at + 3)
    if (length === 0 || length > longestHello) throw invalid('a record is empty or too long')
    parts.push(bytes.subarray(at + 5, at + 5 + length))
    at += 5 + length
  }
  const message = Buffer.concat(parts)
  if (message.length >= 1 && message[0] !== 1) throw invalid('it is no client hello')
  if (message.length < 4) return undefined
  const length = message.readUIntBE(1, 3)
  if (length > longestHello) throw invalid('it is too long')
  return message.length < 4 + length ? undefined : message.subarray(4, 4 + length)
}

function cursor(bytes: Buffer) {
  let at = 0
  const take = (length: number): Buffer => {
    if (at + length > bytes.length) throw invalid('it is cut short')
    at += length
    return bytes.subarray(at - length, at)
  }
  const number = (size: number): number => take(size).readUIntBE(0, size)
  const isAtEnd = (): boolean => at === bytes.length
  return {
    take,
    number,
    /** What follows its own length, written in so many bytes. */
    list: (size: number): Buffer => take(number(size)),
    isAtEnd,
    end: (): void => {
      if (!isAtEnd()) throw invalid('there is something after its end')
    },
  }
}

const invalid = (because: string): Failure => new Failure('invalid', `the TLS client hello can’t be read: ${because}`)
