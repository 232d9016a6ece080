import { openCheckpoint, encode, type Checkpoint, type NoteKey } from '../../core/checkpoint.ts'
import { Failure } from '../../core/failure.ts'
import { emptyTree, equalBytes, grow, leafHash, rootHash, type Tree } from '../../core/merkle.ts'
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
import { countHashes, hashReader, treeOf } from './hashes.ts'
import { sha256, verifySignature } from './key.ts'

/** How a log stands on the disk, and from where it goes on. */
export interface Found {
  readonly tree: Tree
  /** Size of the newest checkpoint. */
  readonly signed: number
  /** The segment to go on with, its whole lines' bytes, and when the last of them was. None for a log that has none yet. */
  readonly segment: (Segment & { readonly bytes: number; readonly lastAt: number | undefined }) | undefined
  /** How many leaf hashes on the disk are right, and those after them. */
  readonly keptLeaves: number
  readonly newLeaves: readonly Uint8Array[]
  /** Bytes after the last whole event, which was never acknowledged. */
  readonly droppedBytes: number
}

/**
 * Reads a log's folder as a process left it, maybe in the middle of a write, and changes nothing.
 *
 * Whatever a checkpoint covers must be there, unchanged: otherwise it fails with `conflict`, saying what is wrong and
 * where. After that, whole events are taken over (they may have been acknowledged as written), and what follows them is
 * left over from a write that was cut off.
 */
export async function recover(dir: string, key: NoteKey, name: string): Promise<Found> {
  const segments = await listSegments(dir)
  const storedLeaves = await countHashes(dir, 0)
  const newest = segments.at(-1)
  const head = await newestCheckpoint(dir, key, newest === undefined && storedLeaves === 0)
  if (newest === undefined) {
    if (head.size > 0) throw damaged(`a checkpoint covers ${head.size} events, but there are no segments`)
    return { tree: emptyTree, signed: 0, segment: undefined, keptLeaves: 0, newLeaves: [], droppedBytes: 0 }
  }

  // Everything before this segment is in the tree's files, and proven by the root in the end.
  const known = Math.min(head.size, storedLeaves)
  const from = segments.findLastIndex((segment) => segment.first <= known)
  const start = segments[from]
  if (start === undefined)
    throw damaged(`the hashes of events ${known} to ${(segments[0]?.first ?? 0) - 1} are missing in tree/0`)
  const stored = hashReader(dir, { first: storedLeaves, leaves: [] })
  let tree = await treeOf(stored, start.first)
  check(tree, head)

  const leaves: Uint8Array[] = []
  let last = { ...start, bytes: 0 }
  let lastLine: Line | undefined
  let cut: Line | undefined
  let droppedBytes = 0
  for (const segment of segments.slice(from)) {
    if (cut !== undefined || segment.first !== tree.size)
      throw damaged(`the segment ${segment.file} does not go on where the one before it ends (event ${tree.size})`)
    last = { ...segment, bytes: 0 }
    for await (const lines of readLines(segment)) {
      for (const line of lines) {
        if (cut === undefined && !isEvent(line, name, head.size)) cut = line
        if (cut !== undefined) {
          if (cut.index < head.size)
            throw damaged(`event ${cut.index} (${segment.file} line ${cut.line}) is cut off or no event`)
          droppedBytes += line.bytes.length + (line.isWhole ? 1 : 0)
          continue
        }
        const leaf = leafHash(sha256, line.bytes)
        leaves.push(leaf)
        tree = grow(sha256, tree, [leaf])
        last = { ...segment, bytes: line.byte + line.bytes.length + 1 }
        lastLine = line
        check(tree, head)
      }
    }
  }
  if (tree.size < head.size)
    throw damaged(`it ends after ${tree.size} events, but ${head.size} were signed: some were cut off`)

  const inFile = await stored(0, start.first, Math.min(storedLeaves, tree.size))
  const wrong = inFile.findIndex((hash, position) => !equalBytes(hash, leaves[position] as Uint8Array))
  const kept = wrong < 0 ? inFile.length : wrong
  return {
    tree,
    signed: head.size,
    segment: { ...last, lastAt: lastLine === undefined ? undefined : parseLine(lastLine.bytes)?.at },
    keptLeaves: start.first + kept,
    newLeaves: leaves.slice(kept),
    droppedBytes,
  }
}

/** What a checkpoint covers is shown to be right by its root, so only what follows it is looked at. */
const isEvent = (line: Line, name: string, signed: number): boolean =>
  line.isWhole && (line.index < signed || parseLine(line.bytes)?.id === eventId(name, line.index))

function check(tree: Tree, head: Checkpoint): void {
  if (tree.size === head.size && encode(rootHash(sha256, tree)) !== head.root)
    throw damaged(`the first ${head.size} events are not those that were signed`)
}

/** After a power cut the history may be ahead of the checkpoint's own file. */
async function newestCheckpoint(dir: string, key: NoteKey, isNew: boolean): Promise<Checkpoint> {
  const open = (note: string): Checkpoint => openCheckpoint(note, key, verifySignature)
  let head: Checkpoint
  try {
    head = open((await readText(checkpointFile(dir))) ?? '')
  } catch (thrown) {
    if (isNew) return { origin: key.name, size: 0, root: encode(rootHash(sha256, emptyTree)) }
    throw damaged(`its checkpoint is not usable: ${Failure.from(thrown).message}`)
  }
  for (const note of await readHistory(dir)) {
    try {
      const older = open(note)
      if (older.size > head.size) head = older
    } catch {
      // Only a hint here: `verify` says what is wrong in it.
    }
  }
  return head
}

const damaged = (what: string): Failure => new Failure('conflict', what)
