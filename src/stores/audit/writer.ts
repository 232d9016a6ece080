import fs from 'node:fs'
import type { AuditState, Wait } from '../../core/audit.ts'
import { Failure } from '../../core/failure.ts'
import { grow, type Tree } from '../../core/merkle.ts'
import { writeAll, type Files } from './files.ts'
import { checkpointFile, historyFile, readHistory, segmentFile, segmentsFolder, treeFolder } from './folder.ts'
import { levelStep, openHashes, type HashFiles } from './hashes.ts'
import { sha256, type SigningKey } from './key.ts'
import type { Found } from './recover.ts'
import { checkpointOf, type Sealer } from './sealer.ts'

export interface WriterOptions {
  readonly dir: string
  readonly key: SigningKey
  readonly files: Files
  readonly sealer: Sealer
  readonly clock: () => number
  readonly segmentBytes: number
  readonly retryMs: number
  /** Told how many events are signed, when there are more. */
  readonly onSigned: (size: number) => void
  /** Makes the event that says how long and why nothing could be written. */
  readonly resumed: (gap: Gap, index: number) => Line
}

/** A zero byte, an event as a line, a newline. A leaf is hashed from the first, a line written from the second. */
export type Line = Buffer

/** A time in which nothing could be written. */
export interface Gap {
  readonly because: string
  readonly since: number
  readonly refused: number
  /** Indexes of events that are in the log although their writers were told that they are not. */
  readonly unacknowledged?: { readonly first: number; readonly last: number }
}

/** Puts lines on the disk, in order, as many at a time as wait, and signs what is there. */
export interface Writer {
  /** Index of the next line. */
  readonly next: number
  readonly state: AuditState
  readonly reason: string | undefined
  readonly signed: { readonly size: number; readonly note: string }
  readonly waiting: number
  readonly hashes: HashFiles
  /** First index of the segment that is written to. */
  readonly segment: number
  /** Fails with `unavailable` if the line was not written, or not made durable where that was waited for. */
  append(line: Line, wait: Wait): Promise<void>
  /** Refused since it was opened. */
  readonly refused: number
  /** Writes what waits and, if it can, one last line. */
  close(last: () => Line): Promise<void>
}

interface Waiting {
  readonly line: Line
  readonly wait: Wait
  readonly resolve: () => void
  readonly reject: (failure: Failure) => void
}

/** How far something has come. A value: the next write makes the next one. */
interface Position {
  readonly tree: Tree
  readonly bytes: number
}

const day = 86_400_000
/** One write takes no more than this; more than `maxWaiting` bytes never wait. */
const batchBytes = 1024 * 1024
const maxWaiting = 64 * 1024 * 1024
/** How long events that nobody waits for on the disk may stay unsynced. */
const lazySync = 50
/** Leaf hashes are written when so many have come. */
const flushLeaves = 256
/** How often a checkpoint is kept in the history. */
const historyEvery = 600_000
const maxRetry = 5000

/** Opens the files of a log, each cut to what counts. A new log has its signed empty checkpoint before any segment. */
export async function openWriter(options: WriterOptions, found: Found): Promise<Writer> {
  const { dir, key, files, sealer, clock, segmentBytes, retryMs } = options
  const open = async (file: string): Promise<number> => files.open(file, !fs.existsSync(file))

  const hashes = await openHashes(files, dir, found.keptLeaves, found.newLeaves)
  const checkpoint = await open(checkpointFile(dir))
  if (found.segment === undefined) {
    await files.truncate(checkpoint, 0)
    writeAll(files, checkpoint, Buffer.from(checkpointOf(key, found.tree)), 0)
    await files.datasync(checkpoint)
  }
  const history = await open(historyFile(dir))
  let historyBytes = Buffer.byteLength(
    (await readHistory(dir)).filter((note) => /^(?:[^\n]*\n){5}$/.test(note)).join(''),
  )
  await files.truncate(history, historyBytes)
  let historyAt = -Infinity
  let historySize = -1

  let segment = found.segment?.first ?? 0
  let fd = await open(segmentFile(dir, segment))
  let segmentDay = Math.floor((found.segment?.lastAt ?? clock()) / day)
  await files.truncate(fd, found.segment?.bytes ?? 0)
  for (const folder of [dir, segmentsFolder(dir), treeFolder(dir)]) await files.syncFolder(folder)

  let state: AuditState = 'ok'
  let gap: Gap | undefined
  let signed = { size: found.signed, note: '' }
  /** What has been written, and how much of it is known to be on the disk and signed. */
  let written: Position = { tree: found.tree, bytes: found.segment?.bytes ?? 0 }
  let durable = written
  /** Index of the next line, whose writer may have been told it before the line is written. */
  let next = found.tree.size
  let refused = 0
  let isClosing = false
  let queue: Waiting[] = []
  let queuedBytes = 0
  /** How many in the queue wait for no sync, so that they need not wait for the one under way. */
  let eager = 0
  /** Written, not yet durable: what was written, and who waits. */
  let chunks: Buffer[] = []
  let unsynced: { index: number; waiting: Waiting }[] = []
  let isScheduled = false
  let rotating: Promise<void> | undefined
  let syncing: Promise<void> | undefined
  /** Whether the gap under way has its event already. */
  let isRecorded = false
  let lazyTimer: NodeJS.Timeout | undefined
  let retryTimer: NodeJS.Timeout | undefined

  function append(line: Line, wait: Wait): Promise<void> {
    if (isClosing) return refuse('the log is closed')
    if (gap !== undefined) return refuse(gap.because)
    if (queuedBytes + line.length > maxWaiting) return refuse('more events wait than memory is kept for')
    return enqueue(line, wait)
  }

  function enqueue(line: Line, wait: Wait): Promise<void> {
    next += 1
    queuedBytes += line.length
    if (wait === 'written') eager += 1
    return new Promise((resolve, reject) => {
      queue.push({ line, wait, resolve, reject })
      schedule()
    })
  }

  function refuse(because: string): Promise<void> {
    refused += 1
    if (gap !== undefined) gap = { ...gap, refused: gap.refused + 1 }
    return Promise.reject(unavailable(because))
  }

  const unavailable = (because: string): Failure =>
    new Failure('unavailable', `the event can't be recorded: ${because}. Nothing is performed until it can`)

  /** Everything that is asked for in this turn of the event loop goes in one write. */
  function schedule(): void {
    if (isScheduled || rotating !== undefined) return
    isScheduled = true
    setImmediate(() => {
      isScheduled = false
      pump()
    })
  }

  function pump(): void {
    if (rotating !== undefined) return
    try {
      writeQueue()
      sync()
    } catch (thrown) {
      fail(thrown)
    }
  }

  const mayWrite = (): boolean => state === 'ok' && queue.length > 0 && (syncing === undefined || eager > 0)

  function writeQueue(): void {
    while (mayWrite()) {
      if (written.bytes > 0 && (written.bytes >= segmentBytes || Math.floor(clock() / day) > segmentDay)) {
        rotating = rotate()
          .catch(fail)
          .finally(() => {
            rotating = undefined
            if (mayWrite()) schedule()
          })
        return
      }
      const batch = takeBatch()
      try {
        writeBatch(batch)
      } catch (thrown) {
        queue = [...batch, ...queue]
        throw thrown
      }
      if (hashes.tail.leaves.length >= flushLeaves) hashes.flush()
    }
  }

  function takeBatch(): Waiting[] {
    let count = 0
    let bytes = 0
    for (const { line } of queue) {
      if (count > 0 && bytes + line.length > batchBytes) break
      count += 1
      bytes += line.length
    }
    const batch = queue.slice(0, count)
    queue = queue.slice(count)
    queuedBytes -= bytes
    for (const { wait } of batch) if (wait === 'written') eager -= 1
    return batch
  }

  function writeBatch(batch: readonly Waiting[]): void {
    const nodes: [level: number, hash: Uint8Array][] = []
    const leaves = batch.map(({ line }) => sha256(line.subarray(0, -1)))
    const tree = grow(sha256, written.tree, leaves, (level, _position, hash) => {
      if (level % levelStep === 0) nodes.push([level, hash])
    })
    const chunk = Buffer.concat(batch.map(({ line }) => line.subarray(1)))
    writeAll(files, fd, chunk, written.bytes)
    for (const [position, waiting] of batch.entries()) {
      unsynced.push({ index: written.tree.size + position, waiting })
      if (waiting.wait === 'written') waiting.resolve()
    }
    chunks.push(chunk)
    written = { tree, bytes: written.bytes + chunk.length }
    for (const leaf of leaves) hashes.add(0, leaf)
    for (const [level, hash] of nodes) hashes.add(level, hash)
  }

  /** Starts making durable what was written, at once if somebody waits for it. */
  function sync(): void {
    if (syncing !== undefined || rotating !== undefined || state !== 'ok' || unsynced.length === 0) return
    if (!unsynced.some(({ waiting }) => waiting.wait === 'durable')) {
      lazyTimer ??= setTimeout(syncNow, lazySync).unref()
      return
    }
    syncNow()
  }

  function syncNow(): void {
    clearTimeout(lazyTimer)
    lazyTimer = undefined
    if (syncing !== undefined || rotating !== undefined || state !== 'ok' || unsynced.length === 0) return
    syncing = commit()
      .catch(fail)
      .finally(() => {
        syncing = undefined
        if (state !== 'ok') return refuseUnsynced()
        // Not at once: what comes of those that were just told, and of others meanwhile, goes with the next.
        if (queue.length > 0 || unsynced.length > 0) schedule()
      })
  }

  /**
   * Makes durable and signs what has been written by now. The checkpoint is on its way to the disk before anybody is
   * told: an event that was acknowledged is under a signature after a kill, and can't be cut off unseen.
   */
  async function commit(): Promise<void> {
    const target = written
    const [count, chunkCount] = [unsynced.length, chunks.length]
    const note = await sealer.seal({ segment: fd, checkpoint, tree: target.tree })
    durable = target
    signed = { size: target.tree.size, note }
    const done = unsynced.slice(0, count)
    unsynced = unsynced.slice(count)
    chunks = chunks.slice(chunkCount)
    for (const { waiting } of done) waiting.resolve()
    options.onSigned(target.tree.size)
    if (clock() - historyAt >= historyEvery)
      try {
        keepCheckpoint()
      } catch {
        // Tried again with the next.
      }
  }

  function keepCheckpoint(): void {
    if (signed.note === '' || signed.size === historySize) return
    const bytes = Buffer.from(signed.note)
    const { size } = signed
    writeAll(files, history, bytes, historyBytes)
    historyBytes += bytes.length
    historySize = size
    historyAt = clock()
  }

  /** Ends the segment, with all that later segments rely on durable, and begins the next. */
  async function rotate(): Promise<void> {
    await syncing
    if (state !== 'ok') return
    if (unsynced.length > 0) {
      syncing = commit().finally(() => {
        syncing = undefined
      })
      await syncing
    }
    await hashes.sync()
    keepCheckpoint()
    await files.datasync(checkpoint)
    await files.datasync(history)
    const first = written.tree.size
    const opened = await open(segmentFile(dir, first))
    try {
      await files.truncate(opened, 0)
      await files.syncFolder(segmentsFolder(dir))
    } catch (thrown) {
      await files.close(opened)
      throw thrown
    }
    await files.close(fd)
    fd = opened
    segment = first
    segmentDay = Math.floor(clock() / day)
    written = { tree: written.tree, bytes: 0 }
    durable = written
  }

  /** Nothing can be written: all that waits is refused, and everything from now on, until it has been put in order. */
  function fail(thrown: unknown): void {
    if (state === 'ok') {
      state = 'failing'
      gap = { because: describe(thrown, dir), since: clock(), refused: 0 }
      retry(retryMs)
    }
    for (const waiting of queue) refuse(gap?.because ?? '').catch(waiting.reject)
    queue = []
    queuedBytes = 0
    eager = 0
    if (syncing === undefined) refuseUnsynced()
  }

  /** These are in the segment and stay: some were acknowledged as written, and ids after them may be known. */
  function refuseUnsynced(): void {
    const refused = unsynced.filter(({ waiting }) => waiting.wait === 'durable')
    const [first, last] = [refused[0], refused.at(-1)]
    if (gap === undefined || first === undefined || last === undefined) return
    gap = { ...gap, unacknowledged: { first: gap.unacknowledged?.first ?? first.index, last: last.index } }
    for (const { waiting } of refused) refuse(gap.because).catch(waiting.reject)
    unsynced = unsynced.map((entry) => ({ ...entry, waiting: { ...entry.waiting, wait: 'written' } }))
  }

  function retry(delay: number): void {
    retryTimer = setTimeout(() => {
      repair().catch((thrown: unknown) => {
        if (gap !== undefined) gap = { ...gap, because: describe(thrown, dir) }
        if (state === 'failing') retry(Math.min(delay * 2, maxRetry))
      })
    }, delay).unref()
  }

  /** Puts the segment back to what counts, and records the gap: when that event is durable, writing works again. */
  async function repair(): Promise<void> {
    await rotating
    await syncing
    if (gap === undefined || state !== 'failing') return
    if (!files.isLinked(fd)) throw Object.assign(new Error('the segment was removed'), { code: 'REMOVED' })
    await files.truncate(fd, written.bytes)
    // A failed sync may have thrown away what was written: write it again.
    if (chunks.length > 0) writeAll(files, fd, Buffer.concat(chunks), durable.bytes)
    if (!isRecorded) {
      const line = options.resumed(gap, written.tree.size)
      writeBatch([{ line, wait: 'written', resolve: () => undefined, reject: () => undefined }])
      isRecorded = true
    }
    await commit()
    isRecorded = false
    gap = undefined
    next = written.tree.size
    state = 'ok'
  }

  async function close(last: () => Line): Promise<void> {
    isClosing = true
    // It comes after everything that waits, so that all is durable when it is.
    if (state === 'ok') await enqueue(last(), 'durable').catch(() => undefined)
    const wasOk = state === 'ok'
    state = 'closed'
    clearTimeout(lazyTimer)
    clearTimeout(retryTimer)
    await rotating
    await syncing
    if (wasOk)
      // What could not be written is made again when the log is opened.
      await hashes
        .sync()
        .then(() => keepCheckpoint())
        .then(() => files.datasync(checkpoint))
        .catch(() => undefined)
    await sealer.close()
    await hashes.close()
    for (const opened of [fd, checkpoint, history]) await files.close(opened)
  }

  return {
    get next() {
      return next
    },
    get state() {
      return state
    },
    get reason() {
      return gap?.because
    },
    get signed() {
      return signed
    },
    get waiting() {
      return queue.length + unsynced.length
    },
    get segment() {
      return segment
    },
    get refused() {
      return refused
    },
    hashes,
    append,
    close,
  }
}

const causes: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: make room',
  EDQUOT: 'the disk quota is used up: make room',
  EIO: 'the disk reports an error: look at its state',
  EROFS: 'the disk is read-only',
  ENOENT: 'its folder was removed: bring it back or start anew',
  REMOVED: 'its files were removed: restart to begin a new log, and find out who did it',
}

function describe(thrown: unknown, dir: string): string {
  const { code = 'unknown error' } = thrown as { code?: string }
  return `the audit log in ${dir} can't be written (${code}), ${causes[code] ?? 'see the log of the service'}`
}
