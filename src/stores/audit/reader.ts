import type { AuditEvent, EventFilter, EventPage, InclusionProof, Signal } from '../../core/audit.ts'
import { encode, type Checkpoint } from '../../core/checkpoint.ts'
import { Failure } from '../../core/failure.ts'
import { consistencyParts, inclusionParts, leafHash } from '../../core/merkle.ts'
import { listSegments, parseLine, readLines, type Line, type Segment } from './folder.ts'
import { countHashes, hashReader, proofHashes, type ReadHashes } from './hashes.ts'
import { sha256 } from './key.ts'

/** How much one page of a search may read. */
const pageBytes = 64 * 1024 * 1024
export const defaultLimit = 50
export const maxLimit = 500

/** The line of an index, or undefined if its segment has been removed or it is not there yet. */
export async function findLine(dir: string, index: number): Promise<Line | undefined> {
  const segment = (await listSegments(dir)).findLast(({ first }) => first <= index)
  if (segment === undefined) return undefined
  for await (const lines of readLines(segment)) {
    const found = lines.find((line) => line.index === index && line.isWhole)
    if (found !== undefined) return found
  }
  return undefined
}

/** Whether an event is one of those asked for. `text` is looked for in its line. */
export function matches(filter: EventFilter, event: AuditEvent, line: () => string): boolean {
  const { type, from, to, text, ...fields } = filter
  if (type !== undefined && !(type.endsWith('.*') ? event.type.startsWith(type.slice(0, -1)) : event.type === type))
    return false
  if ((from !== undefined && event.at < from) || (to !== undefined && event.at >= to)) return false
  for (const [field, value] of Object.entries(fields)) if (value !== undefined && event[field] !== value) return false
  return text === undefined || line().toLowerCase().includes(text.toLowerCase())
}

/** Where a page went on; nothing that a caller should look into. */
export const formatCursor = (below: number): string => Buffer.from(`b${below}`).toString('base64url')

export function parseCursor(cursor: string): number {
  const [, below] = /^b(\d{1,15})$/.exec(Buffer.from(cursor.slice(0, 64), 'base64url').toString('latin1')) ?? []
  if (below === undefined) throw new Failure('invalid', 'that is no cursor of a search: give back what `next` held')
  return Number(below)
}

export function requireLimit(limit = defaultLimit): number {
  if (!Number.isInteger(limit) || limit < 1 || limit > maxLimit)
    throw new Failure('invalid', `a page has 1 to ${maxLimit} events, not ${limit}`)
  return limit
}

/** Searches the segments themselves, newest first, those below an index. Needs no index and writes nothing. */
export async function scan(dir: string, filter: EventFilter, limit: number, below: number): Promise<EventPage> {
  const found: Found[] = []
  let left = pageBytes
  let end = below
  for (const segment of (await listSegments(dir)).filter(({ first }) => first < below).toReversed()) {
    if (left <= 0) return pageOf(found, end)
    const { newest, more, bytes } = await scanSegment(segment, filter, limit - found.length, below)
    left -= bytes
    found.push(...newest.toReversed())
    if (more || (found.length === limit && segment.first > 0)) return pageOf(found, found.at(-1)?.index)
    end = segment.first
  }
  return pageOf(found)
}

interface Found {
  readonly index: number
  readonly event: AuditEvent
}

const pageOf = (found: readonly Found[], next?: number): EventPage => ({
  events: found.map(({ event }) => event),
  ...(next === undefined ? {} : { next: formatCursor(next) }),
})

async function scanSegment(
  segment: Segment,
  filter: EventFilter,
  limit: number,
  below: number,
): Promise<{ newest: Found[]; more: boolean; bytes: number }> {
  let newest: Found[] = []
  let more = false
  let bytes = 0
  for await (const lines of readLines(segment)) {
    for (const line of lines) {
      bytes += line.bytes.length
      if (!line.isWhole || line.index >= below) continue
      const event = parseLine(line.bytes)
      if (event !== undefined && matches(filter, event, () => line.bytes.toString('utf8')))
        newest.push({ index: line.index, event })
    }
    more ||= newest.length > limit
    newest = newest.slice(-limit)
  }
  return { newest, more, bytes }
}

/** What a follower waits on: how far events may be shown, and a promise that is kept when that has changed. */
export interface Growth {
  readonly end: () => number
  /** Whether nothing more will come. */
  readonly isOver: () => boolean
  readonly changed: (seen: number, signal: Signal | undefined) => Promise<void>
}

/** Lines from an index on, in order, then new ones as they come, until the signal. Removed ones are passed over. */
export async function* follow(dir: string, from: number, growth: Growth, signal?: Signal): AsyncGenerator<Line> {
  let at: { segment: Segment; byte: number; line: number } | undefined
  for (let next = from; !isAborted(signal);) {
    const before = next
    const segments = next < growth.end() ? await listSegments(dir) : []
    const current = at
    const place: { segment: Segment; byte: number; line: number } | undefined =
      current !== undefined && !segments.some(({ first }) => first === next && first > current.segment.first)
        ? current
        : startAt(segments, next)
    if (place !== undefined && next < growth.end()) {
      next = Math.max(next, place.segment.first)
      for await (const lines of readLines(place.segment, place)) {
        for (const line of lines) {
          if (!line.isWhole || line.index >= growth.end()) break
          at = { segment: place.segment, byte: line.byte + line.bytes.length + 1, line: line.line + 1 }
          if (line.index < next) continue
          next = line.index + 1
          yield line
          if (isAborted(signal)) return
        }
      }
    }
    if (next !== before) continue
    if (growth.isOver()) return
    await growth.changed(next, signal)
  }
}

function startAt(
  segments: readonly Segment[],
  index: number,
): { segment: Segment; byte: number; line: number } | undefined {
  const segment = segments.findLast(({ first }) => first <= index) ?? segments[0]
  return segment === undefined ? undefined : { segment, byte: 0, line: 1 }
}

/** The tree's hashes up to a size, as a folder holds them: those that its files lack come from the events themselves. */
export async function folderHashes(dir: string, size: number): Promise<ReadHashes> {
  const first = Math.min(size, await countHashes(dir, 0))
  const leaves: Uint8Array[] = []
  const segments = await listSegments(dir)
  for (const [position, segment] of segments.entries()) {
    if ((segments[position + 1]?.first ?? Infinity) <= first || segment.first >= size) continue
    for await (const lines of readLines(segment))
      for (const line of lines)
        if (line.isWhole && line.index >= first && line.index < size) leaves.push(leafHash(sha256, line.bytes))
  }
  return hashReader(dir, { first, leaves })
}

export async function proveInclusion(
  read: ReadHashes,
  index: number,
  head: Checkpoint,
  note: string,
): Promise<InclusionProof> {
  if (index >= head.size)
    throw new Failure('not_found', `no checkpoint covers event ${index} yet: the newest has ${head.size} events`)
  const path = await proofHashes(read, inclusionParts(index, head.size))
  const [leaf] = await read(0, index, index + 1)
  return { index, leaf: encode(leaf as Uint8Array), path: path.map(encode), checkpoint: note }
}

export const proveConsistency = async (read: ReadHashes, from: number, to: number): Promise<readonly string[]> =>
  (await proofHashes(read, consistencyParts(from, to))).map(encode)

const isAborted = (signal: Signal | undefined): boolean => signal?.aborted === true
