import type { Duplex } from 'node:stream'
import type { Masker } from '../../../guard/mask.ts'
import { back, int32, message, said } from './frames.ts'
import type { Complaint } from './frames.ts'
import type { Pipeline } from './pipeline.ts'
import type { RelayPorts } from './ports.ts'

/** What goes to the client: without secrets, and not before it may. */
export class Answers {
  /** Since when the client has left unread what it was sent. */
  stalledSince: number | undefined
  private readonly ports: Pick<RelayPorts, 'client' | 'mask'>
  private readonly server: Duplex
  private readonly pipeline: Pick<Pipeline, 'head'>

  constructor(ports: Pick<RelayPorts, 'client' | 'mask'>, server: Duplex, pipeline: Pick<Pipeline, 'head'>) {
    this.ports = ports
    this.server = server
    this.pipeline = pipeline
  }

  /** The client reads on. */
  resume(): void {
    this.stalledSince = undefined
    this.server.resume()
  }

  /** Whole messages that may go on. */
  pass(bytes: Buffer, hasRows: boolean): void {
    const entry = this.pipeline.head
    const checked = hasRows ? this.masked(bytes) : bytes
    if (entry?.held !== undefined) entry.held.push(Buffer.from(checked))
    else this.tell([checked])
  }

  tell(messages: readonly Buffer[]): void {
    const entry = this.pipeline.head
    if (entry?.held !== undefined) return void entry.held.push(...messages)
    const { client } = this.ports
    if (!client.writable) return
    for (const each of messages)
      if (!client.write(each)) {
        this.stalledSince ??= performance.now()
        this.server.pause()
      }
  }

  complaintOf(fields: ReadonlyMap<string, string>, isTurned: boolean): Complaint {
    const { mask } = this.ports
    const [hint, position] = [fields.get('H'), Number(fields.get('P'))]
    return {
      sqlstate: /^[0-9A-Z]{5}$/.test(fields.get('C') ?? '') ? (fields.get('C') as string) : 'XX000',
      message: mask.text(fields.get('M') ?? ''),
      ...(hint === undefined ? {} : { hint: mask.text(hint) }),
      // What stands elsewhere in the text that the server has is of no use.
      ...(Number.isInteger(position) && position > 0 && !isTurned ? { position } : {}),
    }
  }

  /** What the server says, without what it adds: details show values that nobody asked for. */
  ownWords(type: number, fields: ReadonlyMap<string, string>, isTurned: boolean): Buffer {
    return said(type, fields.get('V') ?? 'NOTICE', this.complaintOf(fields, isTurned))
  }

  /** Rows without the secrets that Sallyport holds. */
  private masked(bytes: Buffer): Buffer {
    const { mask } = this.ports
    const masked = mask.bytes(bytes)
    if (masked === bytes || bytes.equals(masked)) return bytes
    // Lengths have changed: row by row.
    const parts: Buffer[] = []
    for (let at = 0; at < bytes.length;) {
      const end = at + 1 + bytes.readUInt32BE(at + 1)
      parts.push(bytes[at] === back.dataRow ? maskedRow(bytes.subarray(at, end), mask) : bytes.subarray(at, end))
      at = end
    }
    return Buffer.concat(parts)
  }
}

function maskedRow(row: Buffer, mask: Pick<Masker, 'bytes'>): Buffer {
  const count = row.readUInt16BE(5)
  const parts: Buffer[] = [row.subarray(5, 7)]
  let at = 7
  for (let field = 0; field < count; field++) {
    const length = row.readInt32BE(at)
    at += 4
    if (length < 0) {
      parts.push(int32(-1))
      continue
    }
    const value = mask.bytes(row.subarray(at, at + length))
    parts.push(int32(value.length), Buffer.from(value))
    at += length
  }

  return message(back.dataRow, ...parts)
}
