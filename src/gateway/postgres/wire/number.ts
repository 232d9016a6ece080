import { back, Body, Frames, from, int16, int32, message, parseMessage } from './frames.ts'
import { noText } from './pipeline.ts'
import type { Pipeline } from './pipeline.ts'
import { Running } from './running.ts'

/** The number of the transaction that is open, where anything was changed in it: asked between messages of the client. */
export async function numberOfTransaction(pipeline: Pipeline): Promise<string | undefined> {
  // Names that no client has: what it calls its own stays what it is.
  const word = noText()
  const own = { isOwn: true }
  const runs = [new Running({ rows: 1, bytes: 1_000 }, false)]
  const { held } = await pipeline.answered((over) => {
    pipeline.push('parse', parseMessage(word, asking), own)
    pipeline.push('bind', message(from.bind, word, word, int16(0), int16(0), int16(0)), own)
    pipeline.push('execute', message(from.execute, word, int32(0)), { ...own, runs, held: [], over })
    for (const kind of ['P', 'S']) pipeline.push('close', message(from.close, Buffer.from(kind), word), own)
  }, true)
  return valueIn(Buffer.concat(held))
}

const asking = 'select pg_catalog.pg_current_xact_id_if_assigned()::text'

function valueIn(bytes: Buffer): string | undefined {
  const frames = new Frames(() => 1_000)
  frames.push(bytes)
  if (!frames.next() || frames.type !== back.dataRow) return undefined
  const row = new Body(frames.buffer, frames.start, frames.end)
  if (row.int16() !== 1) return undefined
  const length = row.int32()
  return length > 0 && length <= 20 ? row.take(length).toString('latin1') : undefined
}
