import fs from 'node:fs'
import path from 'node:path'
import { Failure } from '../../core/failure.ts'
import { emptyTree, grow, hashLength, joinPart, subtrees, type Node, type Part, type Tree } from '../../core/merkle.ts'
import { writeAll, type Files } from './files.ts'
import { treeFolder } from './folder.ts'
import { sha256 } from './key.ts'

/** Every eighth level of the tree is kept: leaves, the subtrees of 2^8 leaves, of 2^16, … Any hash is then near. */
export const levelStep = 8
export const levels: readonly number[] = [0, 8, 16, 24]
export const levelFile = (dir: string, level: number): string => path.join(treeFolder(dir), String(level))

/** Hashes at positions `[from, to)` of a kept level. Fails with `not_found` if they are not all there. */
export type ReadHashes = (level: number, from: number, to: number) => Promise<Uint8Array[]>

/** How many whole hashes a level's file holds. */
export async function countHashes(dir: string, level: number): Promise<number> {
  const found = await fs.promises.stat(levelFile(dir, level)).catch(() => undefined)
  return Math.floor((found?.size ?? 0) / hashLength)
}

/** Reads from the files of a folder; `tail` holds the leaf hashes from an index on that are not in the file yet. */
export function hashReader(
  dir: string,
  tail: { readonly first: number; readonly leaves: readonly Uint8Array[] },
): ReadHashes {
  return async (level, from, to) => {
    const kept = level === 0 ? Math.min(to, tail.first) : to
    const stored = from < kept ? await readStored(dir, level, from, kept) : []
    const rest = level === 0 ? tail.leaves.slice(Math.max(0, from - tail.first), Math.max(0, to - tail.first)) : []
    if (stored.length + rest.length !== to - from)
      throw new Failure('not_found', `the log's tree has no hash ${from + stored.length} at level ${level}`)
    return [...stored, ...rest]
  }
}

async function readStored(dir: string, level: number, from: number, to: number): Promise<Uint8Array[]> {
  const handle = await fs.promises.open(levelFile(dir, level)).catch(() => undefined)
  if (handle === undefined) return []
  try {
    const length = (to - from) * hashLength
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, from * hashLength)
    return Array.from({ length: Math.floor(bytesRead / hashLength) }, (_, position) =>
      buffer.subarray(position * hashLength, (position + 1) * hashLength),
    )
  } finally {
    await handle.close()
  }
}

/** The hash of a full subtree, from the nearest kept level below it. At most 128 hashes are read. */
export async function nodeHash(read: ReadHashes, { level, position }: Node): Promise<Uint8Array> {
  const kept = Math.min(Math.floor(level / levelStep) * levelStep, levels.at(-1) as number)
  const width = 2 ** (level - kept)
  const hashes = await read(kept, position * width, (position + 1) * width).catch((thrown: unknown) => {
    if (kept === 0) throw thrown
    return undefined
  })
  if (hashes !== undefined) return grow(sha256, emptyTree, hashes).peaks[0] as Uint8Array
  // An upper level may lag behind, or have been lost: what is below it says the same.
  const left = await nodeHash(read, { level: level - 1, position: position * 2 })
  return joinPart(sha256, [left, await nodeHash(read, { level: level - 1, position: position * 2 + 1 })])
}

/** The tree of the first leaves, as far as it must be known to go on appending. */
export async function treeOf(read: ReadHashes, size: number): Promise<Tree> {
  const peaks = []
  for (const node of subtrees(0, size)) peaks.push(await nodeHash(read, node))
  return { size, peaks }
}

/** The hashes of a proof. */
export async function proofHashes(read: ReadHashes, parts: readonly Part[]): Promise<Uint8Array[]> {
  const path = []
  for (const part of parts) {
    const hashes = []
    for (const node of part) hashes.push(await nodeHash(read, node))
    path.push(joinPart(sha256, hashes))
  }
  return path
}

/** The tree's files, open for appending. What was added is in memory until it is flushed. */
export interface HashFiles {
  add(level: number, hash: Uint8Array): void
  /** Leaf hashes that are not in the file yet. */
  readonly tail: { readonly first: number; readonly leaves: readonly Uint8Array[] }
  flush(): void
  sync(): Promise<void>
  close(): Promise<void>
}

/** Opens the tree's files with the leaves that are right, and those after them; what upper levels lack is made. */
export async function openHashes(
  files: Files,
  dir: string,
  kept: number,
  further: readonly Uint8Array[],
): Promise<HashFiles> {
  const rows: { fd: number; count: number; added: Uint8Array[] }[] = []
  const read = hashReader(dir, { first: kept + further.length, leaves: [] })
  for (const level of levels) {
    const file = levelFile(dir, level)
    const fd = await files.open(file, !fs.existsSync(file))
    const count = Math.min(Math.floor(kept / 2 ** level), await countHashes(dir, level))
    await files.truncate(fd, count * hashLength)
    const row = { fd, count, added: level === 0 ? [...further] : ([] as Uint8Array[]) }
    rows.push(row)
    const whole = Math.floor((kept + further.length) / 2 ** level)
    const made = level === 0 ? count : whole
    for (let position = count; position < made; position += 1) row.added.push(await nodeHash(read, { level, position }))
    flush()
  }

  function flush(): void {
    for (const row of rows) {
      if (row.added.length === 0) continue
      const { length } = row.added
      writeAll(files, row.fd, Buffer.concat(row.added), row.count * hashLength)
      row.count += length
      row.added = row.added.slice(length)
    }
  }

  return {
    add: (level, hash) => rows[level / levelStep]?.added.push(hash),
    get tail() {
      return { first: rows[0]?.count ?? 0, leaves: rows[0]?.added ?? [] }
    },
    flush,
    sync: async () => {
      flush()
      for (const row of rows) await files.datasync(row.fd)
    },
    close: async () => {
      for (const row of rows) await files.close(row.fd)
    },
  }
}
