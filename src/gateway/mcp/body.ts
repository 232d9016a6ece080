import type { IncomingMessage } from 'node:http'
import { Failure } from '../../core/failure.ts'

/** The type of a request's body, without its parameters. */
export const mediaTypeOf = ({ headers }: IncomingMessage): string =>
  (headers['content-type'] ?? '').replace(/;.*$/s, '').trim().toLowerCase()

/**
 * The body of a request. Fails with `too_large` as soon as it is known to be longer than `most` bytes, `invalid` when
 * it is encoded, `limited` when `hasRoom` says so of a piece of it, `cancelled` when the client leaves before its end.
 */
export async function readBody(
  req: IncomingMessage,
  most: number,
  hasRoom: (bytes: number) => boolean,
): Promise<Buffer> {
  const encoding = req.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity')
    throw new Failure('invalid', 'the body has to be sent as it is, without `Content-Encoding`')
  if (Number(req.headers['content-length'] ?? 0) > most) throw tooLarge(most)
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    const fail = (failure: Failure): void => {
      req.off('data', take)
      reject(failure)
    }
    const take = (chunk: Buffer): void => {
      bytes += chunk.length
      if (bytes > most) return fail(tooLarge(most))
      if (!hasRoom(chunk.length)) return fail(noRoom)
      chunks.push(chunk)
    }
    const cutOff = (): void => fail(new Failure('cancelled', 'the request was cut off'))
    req.on('data', take)
    req.once('error', cutOff)
    req.once('close', cutOff)
    req.once('end', () => {
      req.off('close', cutOff) // It closes after its end, too.
      resolve(Buffer.concat(chunks))
    })
  })
}

const tooLarge = (most: number): Failure => new Failure('too_large', `the body is larger than ${most} bytes`)

const noRoom = new Failure('limited', 'too much of this session is on its way already: wait for an answer first')
