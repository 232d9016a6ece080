import type { IncomingMessage } from 'node:http'
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { pipeline } from 'node:stream'
import type { Transform } from 'node:stream'
import { Failure } from '../../core/failure.ts'
import type { JsonObject } from '../../core/json.ts'
import { randomToken, sha256 } from '../../guard/digest.ts'
import { mediaTypeOf } from './resource.ts'

// Bodies of requests, on their way in and on their way out.

/** Memory that bodies of all requests together may take while they are looked at. */
export interface Room {
  /** Fails with `limited` where there is none left. Returns what gives it back. */
  take(bytes: number): () => void
}

export function createRoom(most: number): Room {
  let left = most
  return {
    take(bytes) {
      if (bytes > left) throw new Failure('limited', 'too many bodies are being read at this moment: try again later')
      left -= bytes
      return () => void (left += bytes)
    },
  }
}

/** Bytes that came, and whether there are more. */
export interface Read {
  readonly bytes: Buffer
  readonly isWhole: boolean
}

/**
 * Reads a body until it ends, or until there are more than `most` bytes of it. Fails with `cancelled` when the client
 * leaves before.
 */
export async function readUpTo(
  body: AsyncIterator<Buffer>,
  most: number,
  room: Room,
  freed: (() => void)[],
  before: Buffer = empty,
): Promise<Read> {
  const chunks: Buffer[] = [before]
  let bytes = before.length
  while (bytes <= most) {
    let next: IteratorResult<Buffer>
    try {
      next = await body.next()
    } catch (cause) {
      throw cause instanceof Failure ? cause : new Failure('cancelled', 'the request was cut off', { cause })
    }
    if (next.done === true) return { bytes: Buffer.concat(chunks, bytes), isWhole: true }
    freed.push(room.take(next.value.length))
    bytes += next.value.length
    chunks.push(next.value)
  }
  return { bytes: Buffer.concat(chunks, bytes), isWhole: false }
}

const empty = Buffer.alloc(0)

/** The chunks of a request. Nothing is read before they are asked for. */
export const chunksOf = (req: IncomingMessage): AsyncIterator<Buffer> =>
  req.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>

/** What takes an encoding off; undefined for none. Fails with `invalid` for one that is not known, or for several. */
export function decoderFor(encoding: string | undefined): Transform | undefined {
  switch ((encoding ?? '').trim().toLowerCase()) {
    case '':
    case 'identity':
      return undefined
    case 'gzip':
    case 'x-gzip':
      return createGunzip()
    case 'deflate':
      return createInflate()
    case 'br':
      return createBrotliDecompress()
    case 'zstd':
      return createZstdDecompress()
    default:
      throw new Failure('invalid', 'the body has an encoding that is not known: expected gzip, deflate, br or zstd')
  }
}

/** The body with its encoding taken off. Fails with `too_large` as soon as it is more than `most` bytes. */
export async function decoded(bytes: Buffer, encoding: string | undefined, most: number): Promise<Buffer> {
  const decoder = decoderFor(encoding)
  if (decoder === undefined) return bytes
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    decoder.on('data', (chunk: Buffer) => {
      size += chunk.length
      chunks.push(chunk)
      if (size <= most) return
      decoder.destroy()
      reject(new Failure('too_large', `the body is larger than ${most} bytes once it is decoded`))
    })
    decoder.once('end', () => resolve(Buffer.concat(chunks, size)))
    decoder.once('error', (cause) => reject(new Failure('invalid', 'the body can’t be decoded', { cause })))
    decoder.end(bytes)
  })
}

/** Bytes of a body while they come, and how many they will be, where that is known. */
export interface Chunks {
  readonly chunks: AsyncIterator<Buffer>
  readonly length: number | undefined
}

/**
 * The body of a request with its encoding taken off, while it comes and no faster than it is read. Fails with `too_large`
 * where more than `most` bytes come; whoever reads counts what they are once decoded. Its chunks fail with `invalid` where
 * they can't be decoded, `cancelled` when the client leaves. What it puts into `freed` ends it.
 */
export function decodedChunksOf(req: IncomingMessage, most: number, freed: (() => void)[]): Chunks {
  const given = req.headers['content-length']
  const length = given === undefined ? undefined : Number(given)
  const tooLarge = (): Failure => new Failure('too_large', `the body is larger than ${most} bytes`)
  if ((length ?? 0) > most) throw tooLarge()
  const decoder = decoderFor(req.headers['content-encoding'])
  if (decoder === undefined) return { chunks: chunksOf(req), length }
  freed.push(() => void decoder.destroy())

  async function* encoded(): AsyncGenerator<Buffer> {
    let bytes = 0
    try {
      for await (const chunk of { [Symbol.asyncIterator]: () => chunksOf(req) }) {
        bytes += chunk.length
        // Something can be decoded to nothing without end.
        if (bytes > most) throw tooLarge()
        yield chunk
      }
    } catch (cause) {
      throw cause instanceof Failure ? cause : new Failure('cancelled', 'the request was cut off', { cause })
    }
  }
  const stream: AsyncIterable<Buffer> = pipeline(encoded, decoder, () => {})
  async function* unpacked(): AsyncGenerator<Buffer> {
    try {
      yield* stream
    } catch (cause) {
      throw cause instanceof Failure ? cause : new Failure('invalid', 'the body can’t be decoded', { cause })
    }
  }
  return { chunks: unpacked(), length: undefined }
}

/** A file of a body: what its arguments say of it, and its bytes. */
export interface Part {
  readonly name: string
  readonly file: string | undefined
  readonly type: string
  readonly bytes: Buffer
}

export const describeFile = ({ file, type, bytes }: Omit<Part, 'name'>): JsonObject => ({
  ...(file === undefined ? {} : { name: file }),
  type,
  bytes: bytes.length,
  sha256: sha256(bytes),
})

const mostParts = 100
const longestHead = 4_096

/**
 * Reads `multipart/form-data` (RFC 7578) strictly: what parsers disagree about is refused. Fails with `invalid`.
 */
export function readParts(body: Buffer, contentType: string): readonly Part[] {
  const boundary = /;\s*boundary=(?:"([0-9A-Za-z'()+_,./:=? -]{1,70})"|([0-9A-Za-z'()+_./:=?-]{1,70}))\s*$/i.exec(
    contentType,
  )
  const mark = (boundary?.[1] ?? boundary?.[2])?.trimEnd()
  if (mark === undefined || mark === '') throw invalid('the `Content-Type` has no boundary that could be read')
  const delimiter = Buffer.from(`\r\n--${mark}`)
  const opening = delimiter.subarray(2)
  if (!body.subarray(0, opening.length).equals(opening)) throw invalid('the body does not begin with its boundary')
  const parts: Part[] = []
  let at = opening.length
  while (true) {
    const next = body.toString('latin1', at, at + 2)
    if (next === '--') {
      const rest = body.toString('latin1', at + 2)
      if (rest !== '' && rest !== '\r\n') throw invalid('there is something after the last part')
      return parts
    }
    if (next !== '\r\n') throw invalid('a boundary is not followed by a line end')
    if (parts.length === mostParts) throw invalid(`there are more than ${mostParts} parts`)
    const end = body.indexOf(delimiter, at)
    if (end < 0) throw invalid('the last boundary is missing')
    const headEnd = body.indexOf('\r\n\r\n', at)
    if (headEnd < 0 || headEnd > end || headEnd - at > longestHead)
      throw invalid('a part has no head that could be read')
    parts.push(partOf(body.toString('utf8', at + 2, headEnd), body.subarray(headEnd + 4, Math.max(end, headEnd + 4))))
    at = end + delimiter.length
  }
}

function partOf(head: string, bytes: Buffer): Part {
  let name: string | undefined
  let file: string | undefined
  let type: string | undefined
  for (const line of head.split('\r\n')) {
    const [, key = '', value = ''] = /^([A-Za-z-]{1,40}):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
    // oxlint-disable-next-line no-control-regex
    if (/[\0-\x08\x0a-\x1f\x7f\ufffd]/.test(line))
      throw invalid('a head of a part has characters that may not be there')
    switch (key.toLowerCase()) {
      case 'content-disposition': {
        const [, own, ownFile] =
          /^form-data; ?name="([^"\\]{1,200})"(?:; ?filename="([^"\\]{0,255})")?$/i.exec(value) ?? []
        if (own === undefined || name !== undefined)
          throw invalid('a part has no `Content-Disposition` that could be read')
        name = unescaped(own)
        file = ownFile === undefined ? undefined : unescaped(ownFile)
        break
      }
      case 'content-type':
        if (type !== undefined) throw invalid('a part has two types')
        type = mediaTypeOf(value)
        if (type === '') throw invalid('a part has a type that is none')
        break
      default:
        throw invalid('a part has a header that is not known: expected `Content-Disposition` and `Content-Type`')
    }
  }
  if (name === undefined || name === '__proto__') throw invalid('a part has no name')
  if (file !== undefined && /[/\\\0]/.test(file)) throw invalid('a file has a name with a slash, a backslash or a NUL')
  return { name, file, type: type ?? (file === undefined ? 'text/plain' : 'application/octet-stream'), bytes }
}

/** How browsers write what can't stand between quotes (WHATWG HTML, multipart/form-data). */
const unescaped = (text: string): string => text.replaceAll(/%22|%0D|%0A/gi, (code) => decodeURIComponent(code))
const escaped = (text: string): string =>
  text.replaceAll(/["\r\n]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)

/** Writes parts anew: an upstream reads exactly what was read here. */
export function writeParts(parts: readonly Part[]): { readonly type: string; readonly bytes: Buffer } {
  const mark = randomToken('part-').slice(0, 48)
  const chunks = parts.flatMap(({ name, file, type, bytes }) => {
    const named = file === undefined ? '' : `; filename="${escaped(file)}"`
    const typed = file === undefined && type === 'text/plain' ? '' : `Content-Type: ${type}\r\n`
    return [
      Buffer.from(`--${mark}\r\nContent-Disposition: form-data; name="${escaped(name)}"${named}\r\n${typed}\r\n`),
      bytes,
      Buffer.from('\r\n'),
    ]
  })
  return {
    type: `multipart/form-data; boundary=${mark}`,
    bytes: Buffer.concat([...chunks, Buffer.from(`--${mark}--\r\n`)]),
  }
}

const invalid = (message: string): Failure => new Failure('invalid', message)
