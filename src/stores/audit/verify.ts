import fs from 'node:fs'
import path from 'node:path'
import { encode, openCheckpoint, type Checkpoint, type NoteKey } from '../../core/checkpoint.ts'
import { Failure } from '../../core/failure.ts'
import { emptyTree, grow, hashLength, leafHash, rootHash, type Tree } from '../../core/merkle.ts'
import {
  checkpointFile,
  eventId,
  listSegments,
  parseLine,
  readHistory,
  readLines,
  readText,
  type Line,
  type Segment,
} from './folder.ts'
import { levelFile, levels } from './hashes.ts'
import { sha256, verifySignature } from './key.ts'

/** Something that is not as it was signed, and where. `byte` is where the line begins in its file. */
export interface Problem {
  readonly what: string
  /** Below the log's folder. */
  readonly file?: string
  readonly line?: number
  readonly index?: number
  readonly byte?: number
}

export interface Report {
  /** Whether everything that was signed is there, unchanged, or removed by retention as a signed event says. */
  readonly ok: boolean
  readonly log: string
  readonly keyId: string
  /** Events that were read and checked. */
  readonly events: number
  /** Events under the newest checkpoint. */
  readonly signed: number
  /** Its root, base64. */
  readonly root?: string
  /** Events after the newest checkpoint: nothing proves them yet, and nothing says that they are all. */
  readonly unsigned: number
  /** Events that retention removed, from the first; their hashes are still proven. */
  readonly removed: number
  /** The first 100, and how many there are. */
  readonly problems: readonly Problem[]
  readonly problemCount: number
  readonly notes: readonly string[]
}

export interface VerifyOptions {
  readonly dir: string
  readonly key: NoteKey
  /** Checkpoints kept elsewhere, with the name to call them by: the log must go on from each of them. */
  readonly since?: readonly { readonly name: string; readonly note: string }[]
  /** Told from time to time. */
  readonly onProgress?: (doneBytes: number, allBytes: number) => void
}

/** A signed size and root, and where it was found. */
interface Anchor extends Checkpoint {
  readonly from: string
}

const maxProblems = 100

/**
 * Checks a log, or a copy of one, with nothing but its files and the public key. Reads only, in bounded memory.
 *
 * Found are: any changed, removed, added or moved byte in what a checkpoint covers, with the place if the tree's leaf
 * hashes are there; a log that is shorter than any checkpoint says, here, in the history or in `since`; wrong signatures.
 */
export async function verifyLog({ dir, key, since = [], onProgress }: VerifyOptions): Promise<Report> {
  const problems: Problem[] = []
  const notes: string[] = []
  let problemCount = 0
  const name = key.name.slice(key.name.lastIndexOf('/') + 1)

  function problem(found: Problem): void {
    problemCount += 1
    if (problems.length < maxProblems) problems.push(found)
  }

  // The checkpoint is read before the events, so that a log that grows meanwhile is never seen as cut off.
  const anchors = await readAnchors()
  let signed = Math.max(0, ...anchors.map(({ size }) => size))
  const segments = await listSegments(dir)
  const leafFile = await openHashes(dir, 0)
  const upper = await Promise.all(levels.slice(1).map((level) => openHashes(dir, level)))

  /** The tree as the events give it, and as the hashes on the disk give it: the same, until they differ. */
  let tree: Tree = emptyTree
  let storedTree: Tree | undefined
  let pending: Uint8Array[] = []
  let pendingStored: Uint8Array[] = []
  /** Events whose hash is not the one in tree/0, not yet decided which of the two is wrong. */
  let differing: Problem[] = []
  /** The first anchor that is not checked yet, and where the last one that held ends. */
  let nextAnchor = 0
  let provenUpTo = 0
  let problemsBefore = problemCount
  let hasFailed = false
  /** By how much the ids of the last lines were off, so that a shift is said once. */
  let shift = 0
  let removedBefore = 0
  let events = 0
  let doneBytes = 0
  let brokenChain = false
  const allBytes = (await Promise.all(segments.map(({ file }) => fs.promises.stat(file)))).reduce(
    (sum, { size }) => sum + size,
    0,
  )

  try {
    checkAnchors()
    for (const [position, segment] of segments.entries()) {
      if (segment.first !== next()) await bridge(segment, position === 0)
      if (brokenChain) break
      await checkSegment(segment, position === segments.length - 1)
    }
    grown()
    const total = next()
    if (!brokenChain && total > signed) await readAgain(total)
    for (const anchor of anchors)
      if (anchor.size > total && !brokenChain)
        problem({
          what: `the log ends after ${total} events, but ${anchor.from} is signed for ${anchor.size}: ${anchor.size - total} were cut off, or the log was put back to an older copy`,
        })
    for (const found of differing)
      problem({ ...found, what: `${found.what}; no checkpoint after it tells which of them is right` })
    const first = segments[0]?.first ?? 0
    if (first > removedBefore)
      problem({
        what: `the events 0 to ${first - 1} are missing, and no signed event says that retention removed them`,
      })
    if (total > signed && !brokenChain)
      notes.push(
        `${total - signed} events after the newest checkpoint are not signed: nothing proves them (usual for a copy of a log in use)`,
      )
    const head = anchors.findLast(({ size }) => size === signed)
    return {
      ok: problemCount === 0,
      log: key.name,
      keyId: key.keyId,
      events,
      signed,
      ...(head === undefined ? {} : { root: head.root }),
      unsigned: Math.max(0, total - signed),
      removed: first,
      problems,
      problemCount,
      notes,
    }
  } finally {
    await Promise.all([leafFile, ...upper].map((hashes) => hashes.close()))
  }

  function next(): number {
    return tree.size + pending.length
  }

  /** All signed sizes and roots that must hold, by size. */
  async function readAnchors(): Promise<Anchor[]> {
    const found: Anchor[] = []
    const open = (note: string, from: string, where: Partial<Problem>): void => {
      try {
        found.push({ ...openCheckpoint(note, key, verifySignature), from })
      } catch (thrown) {
        problem({ what: `${from} can't be used: ${Failure.from(thrown).message}`, ...where })
      }
    }
    const note = await readText(checkpointFile(dir))
    if (note === undefined) problem({ what: 'there is no checkpoint: nothing here is signed', file: 'checkpoint' })
    else open(note, 'the checkpoint', { file: 'checkpoint' })
    let size = 0
    for (const [position, older] of (await readHistory(dir)).entries()) {
      const line = position * 5 + 1
      open(older, `the checkpoint in line ${line} of the history`, { file: 'checkpoints', line })
      const last = found.at(-1)
      if (last?.from.includes('history') !== true) continue
      if (last.size < size) problem({ what: 'the history of checkpoints goes back', file: 'checkpoints', line })
      size = Math.max(size, last.size)
    }
    for (const { name: from, note: older } of since) open(older, from, {})
    return found.sort((a, b) => a.size - b.size)
  }

  /** Lines were signed while this was reading: look whether they are now. */
  async function readAgain(total: number): Promise<void> {
    const note = await readText(checkpointFile(dir))
    try {
      const newer = { ...openCheckpoint(note ?? '', key, verifySignature), from: 'the checkpoint' }
      // Only a checkpoint for exactly what was read can be checked without reading more.
      if (newer.size <= signed || newer.size !== total) return
      anchors.push(newer)
      signed = newer.size
      checkAnchors()
    } catch {
      // It was usable before: what is not covered is said.
    }
  }

  async function checkSegment(segment: Segment, isLast: boolean): Promise<void> {
    for await (const lines of readLines(segment)) {
      const stored = await leafFile.range(lines[0]?.index ?? 0, lines.length)
      for (const [position, line] of lines.entries()) {
        if (!line.isWhole) {
          if (line.index < signed || !isLast)
            problem({ what: 'the line is cut off, or longer than any may be', ...placeOf(segment, line) })
          else notes.push(`${line.bytes.length} bytes of a line that was not finished follow the last event`)
          break
        }
        checkLine(segment, line, stored[position])
      }
      grown()
      doneBytes += lines.reduce((sum, line) => sum + line.bytes.length + 1, 0)
      onProgress?.(doneBytes, allBytes)
    }
  }

  function checkLine(segment: Segment, line: Line, stored: Uint8Array | undefined): void {
    const event = parseLine(line.bytes)
    const isExpected = event?.id === eventId(name, line.index)
    if (isExpected) {
      events += 1
      if (event.type === 'audit.retention' && line.index < signed && Number.isSafeInteger(event.removed_before))
        removedBefore = Math.max(removedBefore, event.removed_before as number)
    }
    const off = isExpected ? 0 : Number(/^evt_.*_(\d{1,15})$/.exec(event?.id ?? '')?.[1] ?? NaN) - line.index
    if (!isExpected && (off !== shift || off === 0))
      problem({
        what: `expected the event ${eventId(name, line.index)}, but it is ${event === undefined ? 'no event' : event.id.slice(0, 80)}`,
        ...placeOf(segment, line),
      })
    shift = off
    const leaf = leafHash(sha256, line.bytes)
    if (stored !== undefined && Buffer.compare(leaf, stored) !== 0) {
      if (storedTree === undefined) {
        grown()
        storedTree = tree
      }
      if (isExpected)
        differing.push({ what: 'the event is not the one whose hash is in tree/0', ...placeOf(segment, line) })
    }
    push(leaf, stored ?? leaf)
  }

  function push(leaf: Uint8Array, stored: Uint8Array): void {
    pending.push(leaf)
    pendingStored.push(stored)
    if (anchors[nextAnchor]?.size === next()) grown()
  }

  function grown(): void {
    if (pending.length > 0) {
      const stored = storedTree
      tree = grow(sha256, tree, pending, checkNode)
      if (stored !== undefined) storedTree = grow(sha256, stored, pendingStored)
      pending = []
      pendingStored = []
    }
    checkAnchors()
  }

  function checkAnchors(): void {
    for (let anchor = anchors[nextAnchor]; anchor?.size === tree.size; anchor = anchors[++nextAnchor]) {
      const isRight = encode(rootHash(sha256, tree)) === anchor.root
      const isStoredRight = storedTree !== undefined && encode(rootHash(sha256, storedTree)) === anchor.root
      for (const found of differing) problem({ ...found, what: whatDiffers(isRight, isStoredRight) })
      // Whatever else was seen or not: a root that does not come out never goes unsaid.
      if (!isRight && !hasFailed && problemCount === problemsBefore)
        problem({
          what: `the events ${provenUpTo} to ${anchor.size - 1} are not those that ${anchor.from} was signed for`,
        })
      differing = []
      hasFailed = !isRight && !isStoredRight
      if (hasFailed) continue
      provenUpTo = anchor.size
      problemsBefore = problemCount
      if (!isRight && storedTree !== undefined) tree = storedTree
      storedTree = undefined
    }
  }

  function whatDiffers(isRight: boolean, isStoredRight: boolean): string {
    if (isStoredRight) return 'the event was altered: its hash is not the signed one'
    return isRight
      ? 'the hash of this event in tree/0 was altered: the event itself is as it was signed'
      : 'the event is not the one whose hash is in tree/0, and with neither of them the signed root comes out'
  }

  function checkNode(level: number, position: number, hash: Uint8Array): void {
    const row = upper[level / 8 - 1]
    const stored = level % 8 === 0 ? row?.at(position) : undefined
    if (stored !== undefined && Buffer.compare(stored, hash) !== 0 && storedTree === undefined && !hasFailed)
      problem({
        what: `the hash ${position} in tree/${level} is not that of the leaves below it`,
        file: `tree/${level}`,
        byte: position * hashLength,
      })
  }

  /** Events before a segment that are not there: their hashes stand for them. */
  async function bridge(segment: Segment, isFirst: boolean): Promise<void> {
    const from = next()
    const file = path.relative(dir, segment.file)
    if (segment.first < from) {
      problem({ what: `the segment begins with event ${segment.first}, but ${from} comes next`, file })
      brokenChain = true
      return
    }
    if (!isFirst) problem({ what: `the events ${from} to ${segment.first - 1} are missing before this segment`, file })
    for (let at = from; at < segment.first;) {
      const stored = await leafFile.range(at, Math.min(8192, segment.first - at))
      if (stored.length === 0) {
        problem({
          what: `the hashes of the events ${at} to ${segment.first - 1} are missing: nothing after them can be checked`,
          file: 'tree/0',
        })
        brokenChain = true
        return
      }
      for (const hash of stored) push(hash, hash)
      at += stored.length
    }
    grown()
  }

  function placeOf(segment: Segment, { line, index, byte }: Line): Partial<Problem> {
    return { file: path.relative(dir, segment.file), line, index, byte }
  }
}

interface Hashes {
  range(from: number, count: number): Promise<Uint8Array[]>
  /** From memory: only for levels above the leaves, which are small. */
  at(position: number): Uint8Array | undefined
  close(): Promise<void>
}

async function openHashes(dir: string, level: number): Promise<Hashes> {
  const handle = await fs.promises.open(levelFile(dir, level)).catch(() => undefined)
  const all = level === 0 ? undefined : await handle?.readFile()
  const slice = (bytes: Uint8Array, position: number): Uint8Array =>
    bytes.subarray(position * hashLength, (position + 1) * hashLength)
  return {
    range: async (from, count) => {
      const length = count * hashLength
      const { bytesRead = 0, buffer } = (await handle?.read(Buffer.alloc(length), 0, length, from * hashLength)) ?? {}
      return Array.from({ length: Math.floor(bytesRead / hashLength) }, (_, position) =>
        slice(buffer as Buffer, position),
      )
    },
    at: (position) =>
      all !== undefined && (position + 1) * hashLength <= all.length ? slice(all, position) : undefined,
    close: async () => handle?.close(),
  }
}
