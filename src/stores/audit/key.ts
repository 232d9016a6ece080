import { createPrivateKey, createPublicKey, generateKeyPairSync, hash, sign, verify, type KeyObject } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { formatKey, formatPrivateKey, keyId, parseKey, parsePrivateKey, type NoteKey } from '../../core/checkpoint.ts'
import { Failure } from '../../core/failure.ts'

export const sha256 = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer')

/** A log's key: it signs checkpoints, and its name is the log's origin. */
export interface SigningKey {
  readonly public: NoteKey
  /** The last part of the origin, which stands in every event's id. */
  readonly name: string
  readonly private: KeyObject
}

const spki = Buffer.from('302a300506032b6570032100', 'hex')
const pkcs8 = Buffer.from('302e020100300506032b657004220420', 'hex')

/** Where the public key stands that belongs to a private key's file. */
export const publicKeyFile = (keyFile: string): string => `${keyFile}.pub`

/**
 * Reads the key of a log, or makes one (mode 0600) with its public key beside it, if there is no such file.
 *
 * The log takes its name from its key, so that no two logs share one. Fails with `invalid` for a file that is no key,
 * that others may read, or that does not fit the public key beside it.
 */
export function loadKey(keyFile: string): SigningKey {
  if (!fs.existsSync(keyFile)) createKey(keyFile)
  if (process.platform !== 'win32' && (fs.statSync(keyFile).mode & 0o077) !== 0)
    throw new Failure(
      'invalid',
      `the audit key ${keyFile} can be read by others: expected mode 0600. Run: chmod 600 ${keyFile}`,
    )
  const secret = parsePrivateKey(fs.readFileSync(keyFile, 'utf8'))
  const privateKey = createPrivateKey({
    key: Buffer.concat([pkcs8, Buffer.from(secret.key, 'base64')]),
    format: 'der',
    type: 'pkcs8',
  })
  const own = publicOf(createPublicKey(privateKey), secret.name)
  if (own.keyId !== secret.keyId)
    throw new Failure('invalid', `the audit key ${keyFile} is damaged: its key id is not that of its key`)
  writePublicKey(keyFile, own)
  return {
    public: own,
    name: own.name.slice(own.name.lastIndexOf('/') + 1),
    private: privateKey,
  }
}

function createKey(keyFile: string): void {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const bytes = rawPublic(publicKey)
  const own = publicOf(publicKey, `sallyport.audit/${Buffer.from(sha256(bytes)).toString('hex').slice(0, 8)}`)
  const seed = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(pkcs8.length).toString('base64')
  fs.mkdirSync(path.dirname(keyFile), { recursive: true, mode: 0o700 })
  writeDurably(keyFile, `${formatPrivateKey({ ...own, key: seed })}\n`, 0o600)
}

function writePublicKey(keyFile: string, own: NoteKey): void {
  const file = publicKeyFile(keyFile)
  const text = `${formatKey(own)}\n`
  if (!fs.existsSync(file)) return writeDurably(file, text, 0o644)
  if (fs.readFileSync(file, 'utf8').trim() !== text.trim())
    throw new Failure('invalid', `the public key ${file} is not that of ${keyFile}: move the wrong one of the two away`)
}

/** A first start that is cut off leaves a whole file or none. */
function writeDurably(file: string, text: string, mode: number): void {
  const temporary = `${file}.${process.pid}.new`
  fs.writeFileSync(temporary, text, { mode, flag: 'w', flush: true })
  fs.renameSync(temporary, file)
}

const rawPublic = (key: KeyObject): Buffer => key.export({ format: 'der', type: 'spki' }).subarray(spki.length)

function publicOf(key: KeyObject, name: string): NoteKey {
  const bytes = rawPublic(key)
  return { name, keyId: keyId(sha256, name, bytes), key: bytes.toString('base64') }
}

/** Reads a public key: its text itself, or the file that holds it. Fails with `invalid`. */
export function readPublicKey(textOrFile: string): NoteKey {
  const isText = /^[^+]+\+[0-9a-f]{8}\+/.test(textOrFile) && !fs.existsSync(textOrFile)
  if (!isText && !fs.existsSync(textOrFile)) throw new Failure('invalid', `there is no public key at ${textOrFile}`)
  return parseKey(isText ? textOrFile : fs.readFileSync(textOrFile, 'utf8').slice(0, 1000), sha256)
}

/** Ed25519 over UTF-8 text, base64. */
export const signText = (text: string | Uint8Array, key: KeyObject): string =>
  sign(null, Buffer.from(text), key).toString('base64')

/** A verifier for `openCheckpoint`. */
export function verifySignature(text: string, signature: string, { key }: NoteKey): boolean {
  try {
    const publicKey = createPublicKey({
      key: Buffer.concat([spki, Buffer.from(key, 'base64')]),
      format: 'der',
      type: 'spki',
    })
    return verify(null, Buffer.from(text), publicKey, Buffer.from(signature, 'base64'))
  } catch {
    return false
  }
}
