import { hash, randomBytes } from 'node:crypto'
import { canonicalize } from '../core/canonical.ts'
import type { Json } from '../core/json.ts'

/** SHA-256, in hex, of a text or bytes. */
export const sha256 = (content: string | Uint8Array): string => hash('sha256', content, 'hex')

/** SHA-256 (hex) over the canonical form of a value (RFC 8785): the same value, the same digest. */
export const digestOf = (value: Json): string => sha256(canonicalize(value))

/** 256 random bits as text, for tokens and keys. */
export const randomToken = (prefix: string): string => `${prefix}${randomBytes(32).toString('base64url')}`

/** A short random id, such as `appr_8f3k2…`: 100 bits, lower case, good to read aloud. */
export function randomId(prefix: string): string {
  const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'
  return `${prefix}_${Array.from(randomBytes(20), (byte) => alphabet[byte & 31]).join('')}`
}
