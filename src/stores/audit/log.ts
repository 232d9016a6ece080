import fs from 'node:fs'
import type {
  Appended,
  AuditEvent,
  AuditHealth,
  AuditLog,
  EventFilter,
  EventPage,
  NewEvent,
  Signal,
  Wait,
} from '../../core/audit.ts'
import { canonicalize, sorted } from '../../core/canonical.ts'
import { formatKey, parseCheckpoint, parseNote } from '../../core/checkpoint.ts'
import { Failure } from '../../core/failure.ts'
import { setField, type Json, type JsonObject } from '../../core/json.ts'
import { redact } from '../../core/redact.ts'
import { systemFiles, type Files } from './files.ts'
import {
  checkpointFile,
  eventId,
  listSegments,
  parseEventId,
  parseLine,
  readLines,
  readText,
  segmentsFolder,
  treeFolder,
  type Segment,
} from './folder.ts'
import { hashReader } from './hashes.ts'
import { loadKey, type SigningKey } from './key.ts'
import { lockFolder } from './lock.ts'
import { findLine, follow, parseCursor, proveConsistency, proveInclusion, requireLimit, scan } from './reader.ts'
import { recover, type Found } from './recover.ts'
import { openSealer, sealerOf } from './sealer.ts'
import { openSearchIndex, type SearchIndex } from './search-index.ts'
import { openWriter, type Gap, type Line, type Writer } from './writer.ts'

export interface AuditOptions {
  /** The log's folder; made if it is not there. On a local disk: nothing is promised for network folders. */
  readonly dir: string
  /** The private key; made if it is not there, with the public key beside it. Keep it out of the log's folder. */
  readonly keyFile: string
  /** Epoch milliseconds. */
  readonly clock?: () => number
  readonly files?: Files
  /** A segment ends when it is past this size, and with the day (UTC). Default 64 MiB. */
  readonly segmentBytes?: number
  /** Segments whose last event is older are removed. Default 180; 0 keeps everything. */
  readonly retentionDays?: number
  /** Larger events are capped. From 32 KiB to 512 KiB, default 64 KiB. */
  readonly maxEventBytes?: number
  /** How long to wait before writing is tried again after it failed; doubled up to 5 s. Default 250 ms. */
  readonly retryMs?: number
}

const day = 86_400_000
const retentionEvery = 3_600_000
/** Events that a search waits for the index to take in; with more of them it reads the segments instead. */
const maxLag = 10_000
const typeForm = /^[a-z][a-z0-9_]{0,63}(?:\.[a-z0-9_]{1,64}){0,7}$/

/**
 * Opens the log of a folder, or begins one. What a process that was killed left behind is put in order first.
 *
 * A log that is not what was signed is opened as `damaged`: it can be read, and every append is refused. Fails with
 * `conflict` if another process has it, `invalid` for a key that can't be used, `unavailable` if it can't be made.
 */
export async function openAuditLog(options: AuditOptions): Promise<AuditLog> {
  const { dir, keyFile, maxEventBytes = 64 * 1024 } = options
  if (maxEventBytes < 32 * 1024 || maxEventBytes > 512 * 1024)
    throw new Failure('invalid', `the largest event may have 32 KiB to 512 KiB, not ${maxEventBytes} bytes`)
  let unlock: (() => void) | undefined
  try {
    const key = loadKey(keyFile)
    for (const folder of [dir, segmentsFolder(dir), treeFolder(dir)])
      fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
    unlock = lockFolder(dir)
    const found = await recover(dir, key.public, key.name).catch((thrown: unknown) => {
      if (thrown instanceof Failure && thrown.code === 'conflict') return thrown
      throw thrown
    })
    if (found instanceof Failure) return damagedLog(dir, key.name, found.message, unlock)
    return await createLog({ ...options, maxEventBytes }, key, found, unlock)
  } catch (thrown) {
    unlock?.()
    if (thrown instanceof Failure) throw thrown
    const { code = 'unknown error' } = thrown as NodeJS.ErrnoException
    throw new Failure(
      'unavailable',
      `the audit log in ${dir} can't be opened (${code}): nothing can be performed without it`,
      { cause: thrown },
    )
  }
}

async function createLog(
  options: AuditOptions & { readonly maxEventBytes: number },
  key: SigningKey,
  found: Found,
  unlock: () => void,
): Promise<AuditLog> {
  const { dir, maxEventBytes, clock = Date.now, retentionDays = 180 } = options
  const { name } = key
  const growth = new Set<() => void>()
  let index: SearchIndex | undefined
  let isClosed = false

  const line = (event: NewEvent, position: number): Line => toLine(event, eventId(name, position), maxEventBytes)
  const writer: Writer = await openWriter(
    {
      dir,
      key,
      clock,
      files: options.files ?? systemFiles,
      sealer: options.files === undefined ? openSealer(key) : sealerOf(options.files, key),
      segmentBytes: options.segmentBytes ?? 64 * 1024 * 1024,
      retryMs: options.retryMs ?? 250,
      resumed: (gap, position) => line({ type: 'audit.resumed', at: clock(), ...gapFields(gap) }, position),
      onSigned: (size) => {
        index?.grown(size)
        for (const wake of growth) wake()
      },
    },
    found,
  )
  const catchingUp = openIndex()
  const recovered = found.tree.size - found.signed
  const started = append({
    type: 'audit.started',
    at: clock(),
    format: 1,
    log: key.public.name,
    key: formatKey(key.public),
    ...(recovered > 0 ? { adopted: { first: found.signed, last: found.tree.size - 1 } } : {}),
    ...(found.droppedBytes > 0 ? { dropped_bytes: found.droppedBytes } : {}),
  })
  await started.done.catch(() => undefined) // Then it is `failing`, and tries again by itself.
  let retaining = retain().catch(() => undefined) // Tried again in an hour.
  await retaining
  const timer = setInterval(() => {
    retaining = retain().catch(() => undefined)
  }, retentionEvery).unref()

  function append(event: NewEvent, wait: Wait = 'durable'): Appended {
    if (!typeForm.test(event.type)) throw new Failure('invalid', 'an event needs a type of dotted lower-case words')
    if (!Number.isSafeInteger(event.at))
      throw new Failure('invalid', `the event ${event.type} needs a time in whole milliseconds`)
    const id = eventId(name, writer.next)
    const done = writer.append(toLine(event, id, maxEventBytes), wait)
    done.catch(() => undefined) // Who does not look at it is not to end the process.
    return { id, done }
  }

  /** The index is only a help: without it the segments themselves are searched. */
  async function openIndex(): Promise<void> {
    try {
      index = openSearchIndex(dir, name, found.tree.size)
      await index.catchUp(found.tree.size)
    } catch {
      closeIndex()
    }
  }

  function closeIndex(): void {
    try {
      index?.close()
    } catch {
      // It is made again from the segments.
    }
    index = undefined
  }

  async function get(id: string): Promise<AuditEvent | undefined> {
    const named = parseEventId(id)
    if (named.name !== name || named.index >= writer.signed.size) return undefined
    const known = index?.line(named.index)
    const event = known === undefined ? undefined : parseLine(known)
    if (event?.id === id) return event
    const found = await findLine(dir, named.index)
    return found === undefined ? undefined : parseLine(found.bytes)
  }

  async function search(
    filter: EventFilter,
    page: { readonly limit?: number; readonly cursor?: string } = {},
  ): Promise<EventPage> {
    const limit = requireLimit(page.limit)
    const below = Math.min(page.cursor === undefined ? Infinity : parseCursor(page.cursor), writer.signed.size)
    const wanted = Math.min(below, writer.signed.size)
    const lag = wanted - (index?.size ?? Infinity)
    if (lag > 0 && lag <= maxLag) await index?.catchUp(writer.signed.size).catch(() => undefined) // A full disk, say.
    return index === undefined || index.size < wanted
      ? scan(dir, filter, limit, below)
      : index.search(filter, limit, below)
  }

  async function* tail({
    from = writer.signed.size,
    signal,
  }: { readonly from?: number; readonly signal?: Signal } = {}): AsyncGenerator<AuditEvent> {
    const changed = (seen: number, stop: Signal | undefined): Promise<void> =>
      new Promise((resolve) => {
        const wake = (): void => {
          growth.delete(wake)
          stop?.removeEventListener('abort', wake)
          resolve()
        }
        if (isClosed || stop?.aborted === true || writer.signed.size > seen) return resolve()
        growth.add(wake)
        stop?.addEventListener('abort', wake)
      })
    const lines = follow(dir, from, { end: () => writer.signed.size, isOver: () => isClosed, changed }, signal)
    for await (const { bytes } of lines) {
      const event = parseLine(bytes)
      if (event !== undefined) yield event
    }
  }

  async function checkpoint(): Promise<string> {
    return writer.signed.note === '' ? ((await readText(checkpointFile(dir))) ?? '') : writer.signed.note
  }

  /** Removes segments that are past their time. The event that says so is durable first, and is kept longer than they are. */
  async function retain(): Promise<void> {
    if (retentionDays === 0 || writer.state !== 'ok') return
    const segments = (await listSegments(dir)).filter(({ first }) => first < writer.segment)
    const old: typeof segments = []
    for (const segment of segments) {
      if ((await newestTime(segment)) >= clock() - retentionDays * day) break
      old.push(segment)
    }
    const newest = old.at(-1)
    if (newest === undefined) return
    const next = segments[old.length]?.first ?? writer.segment
    const event: NewEvent = {
      type: 'audit.retention',
      at: clock(),
      days: retentionDays,
      first: old[0]?.first ?? 0,
      last: next - 1,
      removed_before: next,
    }
    await append(event).done
    for (const { file } of old) await (options.files ?? systemFiles).unlink(file)
    index?.forget(next)
  }

  async function close(): Promise<void> {
    if (isClosed) return
    clearInterval(timer)
    await retaining
    await writer.close(() => line({ type: 'audit.stopped', at: clock() }, writer.next))
    isClosed = true
    for (const wake of growth) wake()
    await catchingUp
    closeIndex()
    unlock()
  }

  return {
    name,
    append,
    get,
    search,
    tail,
    inclusion: async (id) => {
      const note = await checkpoint()
      const named = parseEventId(id)
      if (named.name !== name) throw new Failure('not_found', `the log ${name} has no event ${id}`)
      return proveInclusion(
        hashReader(dir, writer.hashes.tail),
        named.index,
        parseCheckpoint(parseNote(note).text),
        note,
      )
    },
    consistency: async (from, to) => {
      if (to > writer.signed.size)
        throw new Failure('invalid', `no checkpoint has ${to} events yet: the newest has ${writer.signed.size}`)
      return { from, to, path: await proveConsistency(hashReader(dir, writer.hashes.tail), from, to) }
    },
    checkpoint,
    health: (): AuditHealth => ({
      state: writer.state,
      ...(writer.reason === undefined ? {} : { reason: writer.reason }),
      size: writer.next,
      signed: writer.signed.size,
      waiting: writer.waiting,
      refused: writer.refused,
    }),
    close,
  }
}

function gapFields({ because, since, refused, unacknowledged }: Gap): Record<string, Json> {
  return { because, since, refused, ...(unacknowledged === undefined ? {} : { unacknowledged: { ...unacknowledged } }) }
}

/** The newest time among a segment's last events; one without any is never old. */
async function newestTime(segment: Segment): Promise<number> {
  const { size } = await fs.promises.stat(segment.file)
  let newest = -Infinity
  // The first of these lines may be the end of one.
  for await (const lines of readLines(segment, { byte: Math.max(0, size - 1024 * 1024), line: 1 }))
    for (const { bytes } of lines) newest = Math.max(newest, parseLine(bytes)?.at ?? newest)
  return newest === -Infinity ? Infinity : newest
}

const named = ['type', 'session', 'agent', 'permission', 'decision', 'approval', 'of'] as const

/** An event as a line, within a bound, whatever is in it. */
export function toLine(event: NewEvent, id: string, maxBytes: number): Line {
  const whole = {} as AuditEvent & Record<string, Json>
  const names = Object.keys(event)
  if (event['id'] === undefined) names.push('id')
  for (const field of sorted(names)) {
    const value = field === 'id' ? id : event[field]
    if (value !== undefined && field !== 'capped') setField(whole, field, value)
  }
  try {
    const bytes = toBytes(whole, maxBytes)
    if (bytes.length <= maxBytes + 2) return bytes
  } catch {
    // Too long, too deep, or no JSON: so it is capped too.
  }
  const { type, at, ...rest } = whole
  const fields = Object.fromEntries(
    named.flatMap((field) => {
      const value = field === 'type' ? type : rest[field]
      return typeof value === 'string' ? [[field, redact(value, { maxBytes: 1024, maxString: 128 }).value]] : []
    }),
  )
  const others = Object.fromEntries(Object.entries(rest).filter(([field]) => field !== 'id' && !(field in fields)))
  const { value, changed, changes } = redact(others, {
    maxBytes: Math.floor(maxBytes / 2),
    maxString: Math.floor(maxBytes / 8),
  })
  const capped = { changed, changes: changes.slice(0, 8).map((change) => ({ ...change })) }
  return toBytes({ ...(value as Record<string, Json>), ...fields, type, at, id, capped }, maxBytes)
}

const toBytes = (event: JsonObject, maxLength: number): Buffer =>
  Buffer.from(`\0${canonicalize(event, { maxLength })}\n`)

/** A log that is only read: what was not signed may be in it, and nothing is added. */
function damagedLog(dir: string, name: string, what: string, unlock: () => void): AuditLog {
  const reason = `the audit log in ${dir} is damaged: ${what}. Nothing is recorded, so nothing is performed. Run \`sallyport audit verify --dir ${dir}\`; to begin a new log, move the folder away and keep it`
  let refused = 0
  let isClosed = false
  const noProof = (): Promise<never> => Promise.reject(new Failure('unavailable', reason))
  return {
    name,
    append: () => {
      refused += 1
      const done = Promise.reject(new Failure('unavailable', reason))
      done.catch(() => undefined)
      return { id: '', done }
    },
    get: async (id) => {
      const found = await findLine(dir, parseEventId(id).index)
      const event = found === undefined ? undefined : parseLine(found.bytes)
      return event?.id === id ? event : undefined
    },
    search: async (filter, page = {}) =>
      scan(dir, filter, requireLimit(page.limit), page.cursor === undefined ? Infinity : parseCursor(page.cursor)),
    async *tail({ from = Infinity, signal } = {}) {
      const over = { end: () => Infinity, isOver: () => true, changed: () => Promise.resolve() }
      for await (const { bytes } of follow(dir, from, over, signal)) {
        const event = parseLine(bytes)
        if (event !== undefined) yield event
      }
    },
    inclusion: noProof,
    consistency: noProof,
    checkpoint: async () => (await readText(checkpointFile(dir))) ?? '',
    health: () => ({ state: isClosed ? 'closed' : 'damaged', reason, size: 0, signed: 0, waiting: 0, refused }),
    close: async () => {
      if (!isClosed) unlock()
      isClosed = true
    },
  }
}
