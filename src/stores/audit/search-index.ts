import fs from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { AuditEvent, EventFilter, EventPage } from '../../core/audit.ts'
import { eventId, listSegments, parseLine, readLines, segmentFile, type Line } from './folder.ts'
import { formatCursor, matches } from './reader.ts'

/** Raised when the tables change: an index of another version is made anew. */
const version = 1
/** Rows in one transaction: about half a millisecond of the event loop. */
const slice = 25
/** Rows that are taken in at a time, where nobody waits for them, and how often, in milliseconds. */
const pass = 2_000
const passEvery = 50
/** While the event loop is busy for more than this part of its time, it has better to do; also where much is behind. */
const busy = { usual: 0.25, behind: 0.7 } as const
const muchBehind = 10_000

/** Indexes that one step of a search looks at, by whether a field narrows it to few rows. */
const stepRows = 20_000
const stepNarrow = 500_000
/** Lines that one page reads, and milliseconds that it may take; a page that ends early says where to go on. */
const pageLines = 2_000
const pageTime = 25

interface Row {
  readonly line: Line
  readonly segment: number
  readonly event: AuditEvent
}

/**
 * A SQLite file that finds events by their fields. It holds nothing that the segments do not: it may be deleted at any
 * time and is made again from them. It is written after the fact, so that no append waits for it.
 */
export interface SearchIndex {
  /** How many events it knows, from the first. */
  readonly size: number
  /** Told how many events there are. They are taken in from the segments, when there is time for it. */
  grown(size: number): void
  /** Takes in what was written, as far as to a size. Resolves when it has, or the index was closed. */
  catchUp(size: number): Promise<void>
  /** Events are removed from the front of the log by retention. */
  forget(below: number): void
  /** A page of events below an index, newest first. */
  search(filter: EventFilter, limit: number, below: number): EventPage
  /** The line of an event, if the index knows where it stands. */
  line(index: number): Buffer | undefined
  close(): void
}

const fields = ['session', 'agent', 'permission', 'decision', 'approval', 'of'] as const
/** With one of these given there are few rows, however large the log is. */
const narrow = ['session', 'approval', 'of'] as const

/** Opens or makes the index of a log; one that is damaged, of another version or of another log is made anew. */
export function openSearchIndex(dir: string, name: string, size: number): SearchIndex {
  const file = path.join(dir, 'index.db')
  let opened: { db: DatabaseSync; known: number }
  try {
    opened = openDatabase(file, name, size)
  } catch {
    for (const suffix of ['', '-wal', '-shm']) fs.rmSync(file + suffix, { force: true })
    opened = openDatabase(file, name, size)
  }
  const { db } = opened
  let known = opened.known
  let timer: NodeJS.Timeout | undefined
  let newest = known
  let used = performance.eventLoopUtilization()
  let catching: Promise<void> | undefined
  let isClosed = false
  const insert = db.prepare('insert or replace into event values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
  const place = db.prepare('select segment, byte, length from event where id = ?')
  /** Where the next line stands, where that is known. */
  let next = placeAfter()
  const handles = new Map<number, number>()

  function placeAfter(): { readonly segment: number; readonly byte: number; readonly line: number } | undefined {
    const last = place.get(known - 1) as { segment: number; byte: number; length: number } | undefined
    return last && { segment: last.segment, byte: last.byte + last.length + 1, line: known - last.segment + 1 }
  }

  function grown(size: number): void {
    newest = size
    timer ??= setTimeout(passOn, passEvery).unref()
  }

  function passOn(): void {
    timer = undefined
    if (isClosed) return
    const before = used
    used = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(used, before)
    const isBusy = utilization > (newest - known > muchBehind ? busy.behind : busy.usual)
    // A full disk: it is tried again.
    const taken = isBusy ? Promise.resolve() : catchUp(Math.min(newest, known + pass)).catch(() => undefined)
    void taken.then(() => {
      if (known < newest && !isClosed) grown(newest)
    })
  }

  function write(rows: readonly Row[]): void {
    db.exec('begin immediate')
    try {
      for (const { line, segment, event } of rows)
        insert.run(
          line.index,
          event.at,
          event.type,
          ...fields.map((field) => textOf(event[field])),
          segment,
          line.byte,
          line.bytes.length,
        )
      db.exec('commit')
    } catch (thrown) {
      db.exec('rollback')
      throw thrown
    }
    const { line, segment } = rows.at(-1) as Row
    known = line.index + 1
    next = { segment, byte: line.byte + line.bytes.length + 1, line: line.line + 1 }
  }

  async function catchUp(to: number): Promise<void> {
    for (let before = -1; known < to && known > before;) {
      before = known
      catching ??= readUpTo(to).finally(() => {
        catching = undefined
      })
      await catching
    }
  }

  async function readUpTo(to: number): Promise<void> {
    const segments = await listSegments(dir)
    if (segments[0] !== undefined && known < segments[0].first) known = segments[0].first
    for (const [position, segment] of segments.entries()) {
      if ((segments[position + 1]?.first ?? Infinity) <= known) continue
      const start = next?.segment === segment.first ? next : { byte: 0, line: 1 }
      for await (const lines of readLines(segment, start)) {
        const rows = lines
          .filter((line) => line.isWhole && line.index >= known && line.index < to)
          .flatMap((line) => {
            const event = parseLine(line.bytes)
            return event === undefined ? [] : [{ line, segment: segment.first, event }]
          })
        for (let from = 0; from < rows.length; from += slice) {
          if (isClosed) return
          write(rows.slice(from, from + slice))
          await new Promise((resolve) => setImmediate(resolve))
        }
        if (known >= to) return
      }
    }
  }

  function search(filter: EventFilter, limit: number, below: number): EventPage {
    const started = performance.now()
    const found: AuditEvent[] = []
    const { where, values } = conditions(filter)
    const step = narrow.some((field) => filter[field] !== undefined) ? stepNarrow : stepRows
    const rows = db.prepare(
      `select id, segment, byte, length from event where id < ? and id >= ? ${where} order by id desc limit ${pageLines}`,
    )
    let bound = Math.min(below, known)
    for (let read = 0; bound > 0;) {
      const bottom = Math.max(0, bound - step)
      const candidates = rows.all(bound, bottom, ...values) as {
        id: number
        segment: number
        byte: number
        length: number
      }[]
      for (const candidate of candidates) {
        const line = readAt(candidate)
        const event = line === undefined ? undefined : parseLine(line)
        read += 1
        bound = candidate.id
        if (
          event !== undefined &&
          event.id === eventId(name, candidate.id) &&
          matches(filter, event, () => line?.toString('utf8') ?? '')
        ) {
          found.push(event)
          if (found.length === limit) return { events: found, next: formatCursor(bound) }
        }
        if (read >= pageLines || performance.now() - started > pageTime)
          return { events: found, next: formatCursor(bound) }
      }
      if (candidates.length < pageLines) bound = bottom
      if (bound > 0 && performance.now() - started > pageTime) return { events: found, next: formatCursor(bound) }
    }
    return { events: found }
  }

  function line(index: number): Buffer | undefined {
    const found = place.get(index) as { segment: number; byte: number; length: number } | undefined
    return found === undefined ? undefined : readAt(found)
  }

  function readAt({ segment, byte, length }: { segment: number; byte: number; length: number }): Buffer | undefined {
    try {
      let fd = handles.get(segment)
      if (fd === undefined) {
        if (handles.size >= 8) closeHandles()
        fd = fs.openSync(segmentFile(dir, segment), 'r')
        handles.set(segment, fd)
      }
      const bytes = Buffer.alloc(length)
      return fs.readSync(fd, bytes, 0, length, byte) === length ? bytes : undefined
    } catch {
      return undefined
    }
  }

  function closeHandles(): void {
    for (const fd of handles.values()) fs.closeSync(fd)
    handles.clear()
  }

  return {
    get size() {
      return known
    },
    grown,
    catchUp,
    forget: (below) => {
      closeHandles()
      db.prepare('delete from event where id < ?').run(below)
    },
    search,
    line,
    close: () => {
      if (isClosed) return
      isClosed = true
      clearTimeout(timer)
      closeHandles()
      db.close()
    },
  }
}

function openDatabase(file: string, name: string, size: number): { db: DatabaseSync; known: number } {
  const db = new DatabaseSync(file, { timeout: 5000 })
  try {
    db.exec('pragma journal_mode = wal; pragma synchronous = normal')
    const { user_version: found } = db.prepare('pragma user_version').get() as { user_version: number }
    if (found !== version && found !== 0) throw new Error('another version')
    db.exec(`
      create table if not exists log (name text primary key) without rowid;
      create table if not exists event (
        id integer primary key, at integer not null, type text not null, session text, agent text, permission text,
        decision text, approval text, "of" text, segment integer not null, byte integer not null, length integer not null
      );
      create index if not exists event_at on event (at);
      create index if not exists event_type on event (type);
      create index if not exists event_agent on event (agent) where agent is not null;
      create index if not exists event_session on event (session) where session is not null;
      create index if not exists event_approval on event (approval) where approval is not null;
      create index if not exists event_of on event ("of") where "of" is not null;
      pragma user_version = ${version};
    `)
    db.prepare('insert or ignore into log values (?)').run(name)
    const names = db.prepare('select name from log').all() as { name: string }[]
    if (names.length !== 1) throw new Error('another log')
    db.prepare('delete from event where id >= ?').run(size)
    const { last } = db.prepare('select max(id) as last from event').get() as { last: number | null }
    return { db, known: last === null ? 0 : last + 1 }
  } catch (thrown) {
    db.close()
    throw thrown
  }
}

const textOf = (value: unknown): string | null => (typeof value === 'string' ? value.slice(0, 512) : null)

/** The part of a filter that SQL narrows by. Every candidate is matched again against its event. */
function conditions(filter: EventFilter): { where: string; values: (string | number)[] } {
  const parts: [sql: string, value: string | number | undefined][] = [
    ['at >= ?', filter.from],
    ['at < ?', filter.to],
    ...fields.map((field): [string, string | undefined] => [`"${field}" = ?`, filter[field]?.slice(0, 512)]),
  ]
  if (filter.type !== undefined)
    parts.push(
      filter.type.endsWith('.*')
        ? ['substr(type, 1, ' + (filter.type.length - 1) + ') = ?', filter.type.slice(0, -1)]
        : ['type = ?', filter.type],
    )
  const given = parts.filter((part): part is [string, string | number] => part[1] !== undefined)
  return { where: given.map(([sql]) => `and ${sql}`).join(' '), values: given.map(([, value]) => value) }
}
