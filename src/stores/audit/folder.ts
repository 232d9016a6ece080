import fs from 'node:fs'
import path from 'node:path'
import { Failure } from '../../core/failure.ts'
import type { AuditEvent } from '../../core/audit.ts'

/** Where the parts of a log stand in its folder. docs/audit-format.md says what is in them. */
export const checkpointFile = (dir: string): string => path.join(dir, 'checkpoint')
export const historyFile = (dir: string): string => path.join(dir, 'checkpoints')
export const segmentsFolder = (dir: string): string => path.join(dir, 'segments')
export const treeFolder = (dir: string): string => path.join(dir, 'tree')
export const segmentFile = (dir: string, first: number): string =>
  path.join(segmentsFolder(dir), `${String(first).padStart(16, '0')}.jsonl`)

/** No line is longer, whoever wrote it. */
export const maxLine = 1024 * 1024

export interface Segment {
  /** Index of its first event. */
  readonly first: number
  readonly file: string
}

/**
 * The segments that hold something, oldest first. A folder that is not there has none. An empty one is left over from a
 * beginning that failed, or is about to be written: it says nothing.
 */
export async function listSegments(dir: string): Promise<readonly Segment[]> {
  const names = await fs.promises.readdir(segmentsFolder(dir)).catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw thrown
  })
  const segments: Segment[] = []
  for (const name of names.filter((one) => /^\d{16}\.jsonl$/.test(one)).sort()) {
    const file = path.join(segmentsFolder(dir), name)
    const found = await fs.promises.stat(file).catch(() => undefined) // Retention may remove it meanwhile.
    if (found !== undefined && found.size > 0) segments.push({ first: Number.parseInt(name, 10), file })
  }
  return segments
}

/** A line of a segment, without its newline. `isWhole` is false for bytes at the end that have none. */
export interface Line {
  readonly index: number
  /** From 1. */
  readonly line: number
  /** Where it begins in the file. */
  readonly byte: number
  readonly bytes: Buffer
  readonly isWhole: boolean
}

const chunk = 256 * 1024

/**
 * The lines of a segment in order, as many at a time as a read gave. Memory is bounded whatever the file holds: a line
 * longer than 1 MiB is given in part and not whole, and ends the reading.
 */
export async function* readLines(segment: Segment, start = { byte: 0, line: 1 }): AsyncGenerator<readonly Line[]> {
  const handle = await fs.promises.open(segment.file)
  try {
    let rest: Buffer = Buffer.alloc(0)
    let { byte, line } = start
    for (let position = byte; ;) {
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(chunk), 0, chunk, position)
      position += bytesRead
      const bytes =
        rest.length === 0 ? buffer.subarray(0, bytesRead) : Buffer.concat([rest, buffer.subarray(0, bytesRead)])
      const lines: Line[] = []
      let from = 0
      for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, from)) {
        lines.push({ index: segment.first + line - 1, line, byte, bytes: bytes.subarray(from, end), isWhole: true })
        byte += end + 1 - from
        line += 1
        from = end + 1
      }
      rest = bytes.subarray(from)
      const ends = bytesRead === 0 || rest.length > maxLine
      if (ends && rest.length > 0)
        lines.push({ index: segment.first + line - 1, line, byte, bytes: rest, isWhole: false })
      if (lines.length > 0) yield lines
      if (ends) return
    }
  } finally {
    await handle.close()
  }
}

export const eventId = (name: string, index: number): string => `evt_${name}_${index}`

/** The log and the index that an id names. Fails with `invalid`. */
export function parseEventId(id: string): { readonly name: string; readonly index: number } {
  const [, name = '', index = ''] = /^evt_([A-Za-z0-9.-]{1,64})_(0|[1-9]\d{0,15})$/.exec(id) ?? []
  if (name === '' || !Number.isSafeInteger(Number(index)))
    throw new Failure('invalid', 'that is no event id: expected `evt_<log>_<index>`')
  return { name, index: Number(index) }
}

/** A line as an event. Undefined if it is none; whether it is the right one is for the caller to see. */
export function parseLine(bytes: Buffer): AuditEvent | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    const event = value as AuditEvent
    const isEvent = typeof value === 'object' && value !== null && typeof event.id === 'string'
    return isEvent && typeof event.type === 'string' && Number.isSafeInteger(event.at) ? event : undefined
  } catch {
    return undefined
  }
}

/** A small file's text, or undefined if there is none. Nothing of what is in it holds before it is verified. */
export async function readText(file: string, maxBytes = 64 * 1024): Promise<string | undefined> {
  const handle = await fs.promises.open(file).catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw thrown
  })
  if (handle === undefined) return undefined
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(maxBytes), 0, maxBytes, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await handle.close()
  }
}

/** The notes in the history of checkpoints: five lines each. The last is short if it was cut off. */
export async function readHistory(dir: string): Promise<readonly string[]> {
  const text = await fs.promises.readFile(historyFile(dir), 'utf8').catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw thrown
  })
  return text.match(/(?:[^\n]*\n){1,5}|[^\n]+$/g) ?? []
}
