import { Readable } from 'node:stream'
import { Failure } from '../../core/failure.ts'
import type { CountPassed } from '../../guard/guard.ts'
import type { Outgoing } from './send.ts'

/** Bytes of a body, where they are known before it is sent. */
export function lengthOf({ body, headers }: Pick<Outgoing, 'body' | 'headers'>): number | undefined {
  if (body === undefined || Buffer.isBuffer(body)) return body?.length ?? 0
  const given = headers['content-length']
  return given === undefined ? undefined : Number(given)
}

/** A request whose body is counted before it goes out, whole or piece by piece. It ends where no more may go. */
export function metered(
  outgoing: Outgoing,
  passed: CountPassed,
): { readonly outgoing: Outgoing; readonly takeBack: () => void } {
  const { body } = outgoing
  if (body === undefined) return { outgoing, takeBack() {} }
  if (Buffer.isBuffer(body)) {
    if (!passed(0, body.length)) throw noRoom()
    return { outgoing, takeBack: () => void passed(0, -body.length) }
  }
  let counted = 0
  async function* pieces(of: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of of) {
      if (!passed(0, piece.length)) throw noRoom()
      counted += piece.length
      yield piece
    }
  }
  return {
    outgoing: { ...outgoing, body: Readable.from(pieces(body), { objectMode: false }) },
    takeBack: () => void passed(0, -counted),
  }
}

/** Whoever counts says it better, and cuts. */
const noRoom = (): Failure => new Failure('limited', 'no more may be sent')
