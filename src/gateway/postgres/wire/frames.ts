// Messages of PostgreSQL's protocol 3 (PostgreSQL documentation, chapter 54): where they begin and end, and the few that
// are read or made here.

/** Types of messages, as bytes. */
export const from = {
  bind: 0x42,
  close: 0x43,
  copyData: 0x64,
  copyDone: 0x63,
  copyFail: 0x66,
  describe: 0x44,
  execute: 0x45,
  flush: 0x48,
  functionCall: 0x46,
  parse: 0x50,
  password: 0x70,
  query: 0x51,
  sync: 0x53,
  terminate: 0x58,
} as const

/** Types of a server's messages. */
export const back = {
  bindComplete: 0x32,
  closeComplete: 0x33,
  commandComplete: 0x43,
  dataRow: 0x44,
  emptyQuery: 0x49,
  error: 0x45,
  noData: 0x6e,
  notice: 0x4e,
  notification: 0x41,
  parameterDescription: 0x74,
  parameterStatus: 0x53,
  parseComplete: 0x31,
  portalSuspended: 0x73,
  readyForQuery: 0x5a,
  rowDescription: 0x54,
} as const

/** Something that follows no protocol. Whoever sent it is not listened to any longer. */
export class ProtocolViolation extends Error {
  readonly sqlstate: string
  constructor(message: string, sqlstate = '08P01') {
    super(message)
    this.name = 'ProtocolViolation'
    this.sqlstate = sqlstate
  }
}

/** Cuts a stream into messages without copying them, save one that came in pieces. */
export class Frames {
  /** What holds the messages that are being gone through. */
  buffer: Buffer = Buffer.alloc(0)
  /** The message that `next` found: its type, and where it stands with its head. */
  type = 0
  start = 0
  end = 0

  private at = 0
  private pieces: Buffer[] = []
  private size = 0
  /** Bytes that have to be there before it is worth looking again. */
  private needed = 5
  private readonly mostOf: (type: number) => number

  /** @param mostOf - Bytes that the body of a message of a type may have. */
  constructor(mostOf: (type: number) => number) {
    this.mostOf = mostOf
  }

  /** Takes more in. All that came before has to be gone through first. */
  push(chunk: Buffer): void {
    if (this.size === 0 && chunk.length >= this.needed) {
      this.buffer = chunk
      this.at = 0
      return
    }
    this.pieces.push(chunk)
    this.size += chunk.length
    if (this.size < this.needed) return
    this.buffer = this.pieces.length === 1 ? chunk : Buffer.concat(this.pieces, this.size)
    this.pieces = []
    this.size = 0
    this.at = 0
  }

  /** Moves on to the next whole message. Fails with a ProtocolViolation for one that can't be. */
  next(): boolean {
    const { buffer, at } = this
    const left = buffer.length - at
    if (left < 5) return this.keep(left, 5)
    const type = buffer[at] as number
    const length = buffer.readUInt32BE(at + 1)
    if (length < 4) throw new ProtocolViolation('invalid message length')
    if (length - 4 > this.mostOf(type))
      throw new ProtocolViolation(`a message of ${length} bytes is too large`, '54000')
    if (left < length + 1) return this.keep(left, length + 1)
    this.type = type
    this.start = at
    this.end = this.at = at + 1 + length
    return true
  }

  private keep(left: number, needed: number): false {
    this.needed = needed
    if (left > 0) {
      this.pieces = [this.buffer.subarray(this.at)]
      this.size = left
    }
    this.buffer = nothing
    this.at = 0
    return false
  }
}

const nothing = Buffer.alloc(0)

// Reading --------------------------------------------------------------------------------------------------------------

// Also a byte order mark is part of the text: the server reads it too.
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Text as the server would read it. Fails with a ProtocolViolation where it holds a NUL or is no UTF-8. */
export function textOf(bytes: Uint8Array): string {
  let text: string
  try {
    text = decoder.decode(bytes)
  } catch {
    throw new ProtocolViolation('invalid byte sequence for encoding "UTF8"', '22021')
  }
  if (text.includes('\0')) throw new ProtocolViolation('invalid byte sequence for encoding "UTF8": 0x00', '22021')
  return text
}

/** Goes through the body of one message. Fails with a ProtocolViolation where it is not as it has to be. */
export class Body {
  private readonly bytes: Buffer
  private at: number
  private readonly end: number

  constructor(bytes: Buffer, start: number, end: number) {
    this.bytes = bytes
    this.at = start + 5
    this.end = end
  }

  text(): string {
    const end = this.bytes.indexOf(0, this.at)
    if (end < 0 || end >= this.end) throw malformed()
    const text = textOf(this.bytes.subarray(this.at, end))
    this.at = end + 1
    return text
  }

  int16(): number {
    const at = this.step(2)
    return this.bytes.readUInt16BE(at)
  }

  int32(): number {
    const at = this.step(4)
    return this.bytes.readInt32BE(at)
  }

  byte(): number {
    return this.bytes[this.step(1)] as number
  }

  take(length: number): Buffer {
    const at = this.step(length)
    return this.bytes.subarray(at, at + length)
  }

  /** Where it is. */
  get position(): number {
    return this.at
  }

  /** Nothing may follow. */
  done(): void {
    if (this.at !== this.end) throw malformed()
  }

  private step(length: number): number {
    const { at } = this
    if (length < 0 || at + length > this.end) throw malformed()
    this.at = at + length
    return at
  }
}

const malformed = (): ProtocolViolation => new ProtocolViolation('invalid message format')

/** The text of a Query. */
export function readQuery(bytes: Buffer, start: number, end: number): string {
  if (bytes[end - 1] !== 0 || end - start < 6) throw malformed()
  return textOf(bytes.subarray(start + 5, end - 1))
}

export interface ParseMessage {
  readonly name: string
  readonly text: string
  readonly types: readonly number[]
  /** Where the text stands, without the NUL behind it. */
  readonly textFrom: number
  readonly textTo: number
}

export function readParse(bytes: Buffer, start: number, end: number): ParseMessage {
  const body = new Body(bytes, start, end)
  const name = body.text()
  const textFrom = body.position
  const text = body.text()
  const textTo = body.position - 1
  const count = body.int16()
  const types: number[] = []
  for (let at = 0; at < count; at++) types.push(body.int32() >>> 0)
  body.done()
  return { name, text, types, textFrom, textTo }
}

export interface BindMessage {
  readonly portal: string
  readonly statement: string
  /** 0 text, 1 binary: none for all text, one for all, or one for each. */
  readonly formats: readonly number[]
  readonly values: readonly (Buffer | null)[]
}

export function readBind(bytes: Buffer, start: number, end: number): BindMessage {
  const body = new Body(bytes, start, end)
  const portal = body.text()
  const statement = body.text()
  const formats: number[] = []
  for (let count = body.int16(); count > 0; count--) formats.push(body.int16())
  if (formats.some((format) => format > 1)) throw malformed()
  const values: (Buffer | null)[] = []
  const count = body.int16()
  if (formats.length > 1 && formats.length !== count) throw malformed()
  for (let at = 0; at < count; at++) {
    const length = body.int32()
    values.push(length === -1 ? null : body.take(length))
  }
  for (let left = body.int16(); left > 0; left--) body.int16()
  body.done()
  return { portal, statement, formats, values }
}

export function readExecute(bytes: Buffer, start: number, end: number): { portal: string; most: number } {
  const body = new Body(bytes, start, end)
  const portal = body.text()
  const most = body.int32()
  body.done()
  return { portal, most }
}

/** Of Describe and Close: `S` a statement, `P` a portal. */
export function readNamed(bytes: Buffer, start: number, end: number): { isStatement: boolean; name: string } {
  const body = new Body(bytes, start, end)
  const kind = body.byte()
  if (kind !== 0x53 && kind !== 0x50) throw malformed()
  const name = body.text()
  body.done()
  return { isStatement: kind === 0x53, name }
}

/** Types of the parameters of a prepared statement. */
export function readParameterDescription(bytes: Buffer, start: number, end: number): readonly number[] {
  const body = new Body(bytes, start, end)
  const types: number[] = []
  for (let count = body.int16(); count > 0; count--) types.push(body.int32() >>> 0)
  return types
}

/** Fields of an ErrorResponse or NoticeResponse, by their letter. */
export function readFields(bytes: Buffer, start: number, end: number): ReadonlyMap<string, string> {
  const fields = new Map<string, string>()
  let at = start + 5
  while (at < end && bytes[at] !== 0) {
    const letter = String.fromCharCode(bytes[at] as number)
    const stop = bytes.indexOf(0, at + 1)
    if (stop < 0 || stop >= end) break
    fields.set(letter, bytes.toString('utf8', at + 1, stop))
    at = stop + 1
  }
  return fields
}

export function readParameterStatus(bytes: Buffer, start: number, end: number): readonly [name: string, value: string] {
  const body = new Body(bytes, start, end)
  return [body.text(), body.text()]
}

// Making ---------------------------------------------------------------------------------------------------------------

export function message(type: number, ...parts: readonly (string | Buffer)[]): Buffer {
  const bodies = parts.map((part) => (typeof part === 'string' ? Buffer.from(`${part}\0`) : part))
  const length = bodies.reduce((sum, { length: each }) => sum + each, 0)
  const made = Buffer.allocUnsafe(length + 5)
  made[0] = type
  made.writeUInt32BE(length + 4, 1)
  let at = 5
  for (const body of bodies) at += body.copy(made, at)
  return made
}

export function int16(value: number): Buffer {
  const made = Buffer.allocUnsafe(2)
  made.writeUInt16BE(value)
  return made
}

export function int32(value: number): Buffer {
  const made = Buffer.allocUnsafe(4)
  made.writeInt32BE(value | 0)
  return made
}

export const flushMessage = message(from.flush)
export const syncMessage = message(from.sync)
export const queryMessage = (text: string): Buffer => message(from.query, text)
export const parseMessage = (name: string, text: string): Buffer => message(from.parse, name, text, int16(0))
export const readyMessage = (status: number): Buffer => message(back.readyForQuery, Buffer.from([status]))
export const parameterMessage = (name: string, value: string): Buffer => message(back.parameterStatus, name, value)

/** A request to stop what a connection does, with the keys that it was given. */
export const requestCodes = { cancel: 80_877_102, tls: 80_877_103, gss: 80_877_104 } as const

/** What is said against something, as PostgreSQL says it. */
export interface Complaint {
  readonly sqlstate: string
  readonly message: string
  readonly hint?: string
  /** Where in the text, in characters from 1. */
  readonly position?: number
}

export const errorMessage = (complaint: Complaint, severity: 'ERROR' | 'FATAL' = 'ERROR'): Buffer =>
  said(back.error, severity, complaint)

export const noticeMessage = (text: string, hint?: string): Buffer =>
  said(back.notice, 'NOTICE', { sqlstate: '00000', message: text, ...(hint === undefined ? {} : { hint }) })

export function said(type: number, severity: string, { sqlstate, message: text, hint, position }: Complaint): Buffer {
  const fields = [`S${severity}`, `V${severity}`, `C${sqlstate}`, `M${plain(text)}`]
  if (hint !== undefined) fields.push(`H${plain(hint)}`)
  if (position !== undefined) fields.push(`P${position}`)
  return message(type, ...fields, Buffer.from([0]))
}

/** Bytes that one sentence may have. */
const mostSaid = 8_000

const plain = (text: string): string => text.replaceAll('\0', '').slice(0, mostSaid)
