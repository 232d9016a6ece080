import { Failure } from './failure.ts'

/**
 * A checkpoint (C2SP tlog-checkpoint): what a signed note says of a Merkle tree. `root` is base64.
 * Extension lines are refused: nothing but size and root is ever signed here.
 */
export interface Checkpoint {
  readonly origin: string
  readonly size: number
  readonly root: string
}

/** One signature line of a note (C2SP signed-note). `keyId` is 8 hex digits, `signature` base64 without the key id. */
export interface NoteSignature {
  readonly name: string
  readonly keyId: string
  readonly signature: string
}

/** `text` is what was signed, its last newline included. */
export interface Note {
  readonly text: string
  readonly signatures: readonly NoteSignature[]
}

/** An Ed25519 key as text: `name+keyId+key`, with the key in base64 after one byte for its type. */
export interface NoteKey {
  readonly name: string
  readonly keyId: string
  /** The 32 bytes, base64. */
  readonly key: string
}

/** The byte that says Ed25519 in keys and key ids. */
export const ed25519 = 0x01

const size = /^(?:0|[1-9][0-9]{0,15})$/
const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/
const signatureLine = /^\u2014 (\S+) (\S+)$/u
const privatePrefix = 'PRIVATE+KEY+'
const maxSignatures = 16
const maxNote = 64 * 1024

export const formatCheckpoint = (checkpoint: Checkpoint): string =>
  `${requireName(checkpoint.origin)}\n${checkpoint.size}\n${checkpoint.root}\n`

/** Reads what a note says. Fails with `invalid`. Nothing in it holds before its signature has been verified. */
export function parseCheckpoint(text: string): Checkpoint {
  const [origin = '', count = '', root = '', ...rest] = text.split('\n')
  if (rest.length !== 1 || rest[0] !== '') throw invalid('expected three lines: origin, size, root')
  if (!size.test(count) || !Number.isSafeInteger(Number(count))) throw invalid('the size is no decimal number')
  if (!isBase64Of(root, 32)) throw invalid('the root is not 32 bytes of base64')
  return { origin: requireName(origin), size: Number(count), root }
}

export function formatNote(note: Note): string {
  const lines = note.signatures.map(({ name, keyId, signature }) => {
    const bytes = new Uint8Array([...hexBytes(keyId), ...decode(signature)])
    return `\u2014 ${requireName(name)} ${encode(bytes)}\n`
  })
  return `${note.text}\n${lines.join('')}`
}

/** Reads a signed note of at most 64 KiB. Fails with `invalid`. It verifies nothing. */
export function parseNote(source: string): Note {
  if (source.length > maxNote) throw invalid(`a note of more than ${maxNote} characters`)
  // oxlint-disable-next-line no-control-regex -- the format forbids them
  if (/[\0-\x09\x0b-\x1f]|\p{Surrogate}/u.test(source)) throw invalid('control characters in a note')
  const split = source.lastIndexOf('\n\n')
  if (split < 0 || !source.endsWith('\n')) throw invalid('a note needs a text, an empty line, and signature lines')
  const lines = source.slice(split + 2, -1).split('\n')
  if (lines.length > maxSignatures) throw invalid(`a note with more than ${maxSignatures} signatures`)
  return { text: source.slice(0, split + 1), signatures: lines.map(parseSignature) }
}

function parseSignature(line: string): NoteSignature {
  const [, name = '', encoded = ''] = signatureLine.exec(line) ?? []
  if (name === '' || name.includes('+') || !base64.test(encoded)) throw invalid('a signature line that is none')
  const bytes = decode(encoded)
  if (bytes.length < 5 || encode(bytes) !== encoded) throw invalid('a signature line without a proper signature')
  return { name, keyId: hex(bytes.slice(0, 4)), signature: encode(bytes.slice(4)) }
}

/**
 * The checkpoint of a note, if the key signed it.
 *
 * `verify` answers for base64 bytes: whether the signature over the text (UTF-8) is the key's. Fails with `invalid`,
 * saying what is wrong: no note, no checkpoint, another log, no signature by this key, or a wrong one.
 */
export function openCheckpoint(
  source: string,
  key: NoteKey,
  verify: (text: string, signature: string, key: NoteKey) => boolean,
): Checkpoint {
  const note = parseNote(source)
  const own = note.signatures.filter(({ name, keyId }) => name === key.name && keyId === key.keyId)
  if (own.length === 0) throw invalid(`it is not signed by ${key.name}+${key.keyId}`)
  if (!own.every(({ signature }) => isBase64Of(signature, 64) && verify(note.text, signature, key)))
    throw invalid(`the signature by ${key.name}+${key.keyId} is wrong`)
  const checkpoint = parseCheckpoint(note.text)
  if (checkpoint.origin !== key.name) throw invalid(`it is of the log ${checkpoint.origin}, not of ${key.name}`)
  return checkpoint
}

/** The key id of an Ed25519 key: the first four bytes of SHA-256 over `name \n 0x01 key`, as 8 hex digits. */
export function keyId(sha256: (bytes: Uint8Array) => Uint8Array, name: string, key: Uint8Array): string {
  const prefix = Array.from(requireName(name), (character) => character.charCodeAt(0))
  return hex(sha256(new Uint8Array([...prefix, 0x0a, ed25519, ...key])).slice(0, 4))
}

/** `name+keyId+base64(0x01 key)`: how a public key is handed on. */
export const formatKey = ({ name, keyId, key }: NoteKey): string =>
  `${requireName(name)}+${keyId}+${encode(new Uint8Array([ed25519, ...decode(key)]))}`

/** Reads a public key and checks its key id. Fails with `invalid`. */
export function parseKey(source: string, sha256: (bytes: Uint8Array) => Uint8Array): NoteKey {
  const { key, ...rest } = parseParts(source.trim())
  if (keyId(sha256, rest.name, decode(key)) !== rest.keyId) throw invalid('the key id is not that of the key')
  return { ...rest, key }
}

/** As `formatKey`, for the private key's seed. Whoever has this text can sign. */
export const formatPrivateKey = (key: NoteKey): string => privatePrefix + formatKey(key)

/** Reads a private key; `key` is its seed, and its key id is that of the public key, which is not checked here. */
export function parsePrivateKey(source: string): NoteKey {
  const text = source.trim()
  if (!text.startsWith(privatePrefix)) throw invalid(`expected a line that begins with ${privatePrefix}`)
  return parseParts(text.slice(privatePrefix.length))
}

function parseParts(text: string): NoteKey {
  // The base64 of the key may hold a `+`, the name and the key id never do.
  const [, name = '', id = '', encoded = ''] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(text) ?? []
  if (!isBase64Of(encoded, 33)) throw invalid('expected `name+key id+key`, the key being 33 bytes of base64')
  const bytes = decode(encoded)
  if (bytes[0] !== ed25519) throw invalid('it is not an Ed25519 key')
  return { name: requireName(name), keyId: id, key: encode(bytes.slice(1)) }
}

/** Narrower than the specification, which allows Unicode: two names that look alike are never two names here. */
function requireName(name: string): string {
  if (!/^[!-*,-~]{1,200}$/.test(name)) throw invalid('a name must be of visible ASCII characters other than `+`')
  return name
}

const invalid = (what: string): Failure => new Failure('invalid', `not a valid checkpoint or key: ${what}`)

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

/** Base64 (RFC 4648 §4), which the core has no other means for. */
export function encode(bytes: Uint8Array): string {
  let text = ''
  for (let position = 0; position < bytes.length; position += 3) {
    const [a = 0, b = 0, c = 0] = bytes.subarray(position, position + 3)
    const group = (a << 16) | (b << 8) | c
    for (let shift = 18; shift >= 0; shift -= 6) text += alphabet[(group >> shift) & 63]
  }
  const missing = (3 - (bytes.length % 3)) % 3
  return text.slice(0, text.length - missing) + '='.repeat(missing)
}

/** The bytes of valid base64. */
export function decode(text: string): Uint8Array {
  const digits = text.replace(/=+$/, '')
  const bytes = new Uint8Array(Math.floor((digits.length * 3) / 4))
  let [group, bits, at] = [0, 0, 0]
  for (const digit of digits) {
    group = ((group << 6) | alphabet.indexOf(digit)) & 0xffffff
    bits += 6
    if (bits >= 8) {
      bits -= 8
      bytes[at++] = (group >> bits) & 0xff
    }
  }
  return bytes
}

/** One text for each value: bits that do not count must be zero. */
const isBase64Of = (text: string, length: number): boolean =>
  base64.test(text) && decode(text).length === length && encode(decode(text)) === text

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
const hexBytes = (text: string): number[] => (text.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16))
