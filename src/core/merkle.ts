import { Failure } from './failure.ts'

/** SHA-256 of some bytes. Given by the caller: the core has no cryptography of its own. */
export type Sha256 = (bytes: Uint8Array) => Uint8Array

export const hashLength = 32

/** The hash of a leaf (RFC 9162 §2.1.1): SHA-256 of a zero byte and the entry. */
export function leafHash(sha256: Sha256, entry: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(entry.length + 1)
  bytes.set(entry, 1)
  return sha256(bytes)
}

function nodeHash(sha256: Sha256, left: Uint8Array, right: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(1 + 2 * hashLength)
  bytes[0] = 1
  bytes.set(left, 1)
  bytes.set(right, 1 + hashLength)
  return sha256(bytes)
}

/**
 * A tree that only grows, as the roots of its largest full subtrees: all that appending and the root need, 32 bytes for
 * each bit of the size that is set. A value: growing it makes another.
 */
export interface Tree {
  readonly size: number
  /** Largest subtree first. */
  readonly peaks: readonly Uint8Array[]
}

export const emptyTree: Tree = { size: 0, peaks: [] }

/** The tree with further leaves. `onNode` is told of each full subtree of 2^level leaves, by its position in its level. */
export function grow(
  sha256: Sha256,
  tree: Tree,
  leaves: Iterable<Uint8Array>,
  onNode?: (level: number, position: number, hash: Uint8Array) => void,
): Tree {
  const peaks = [...tree.peaks]
  let size = tree.size
  for (const leaf of leaves) {
    let hash = leaf
    let rest = size
    size += 1
    for (let level = 1; rest % 2 === 1; level += 1) {
      hash = nodeHash(sha256, peaks.pop() as Uint8Array, hash)
      rest = (rest - 1) / 2
      onNode?.(level, rest, hash)
    }
    peaks.push(hash)
  }
  return { size, peaks }
}

/** The Merkle tree hash; that of the empty tree is SHA-256 of nothing. */
export function rootHash(sha256: Sha256, { peaks }: Tree): Uint8Array {
  let root = peaks.at(-1)
  if (root === undefined) return sha256(new Uint8Array(0))
  for (let position = peaks.length - 2; position >= 0; position -= 1)
    root = nodeHash(sha256, peaks[position] as Uint8Array, root)
  return root
}

/** A full subtree: the leaves from `position * 2^level` up to, not including, `(position + 1) * 2^level`. */
export interface Node {
  readonly level: number
  readonly position: number
}

/** One hash of a proof or root: the full subtrees whose hashes make it, from left to right. One is that hash itself. */
export type Part = readonly Node[]

/** The full subtrees that make up the leaves `[start, end)`, from left to right; `start` begins a subtree of that size. */
export function subtrees(start: number, end: number): Part {
  const nodes: Node[] = []
  for (let from = start; from < end;) {
    let level = 0
    while (from % 2 ** (level + 1) === 0 && from + 2 ** (level + 1) <= end) level += 1
    nodes.push({ level, position: from / 2 ** level })
    from += 2 ** level
  }
  return nodes
}

/** Joins the hashes of a part's subtrees to the one hash that it stands for. */
export const joinPart = (sha256: Sha256, hashes: readonly Uint8Array[]): Uint8Array =>
  rootHash(sha256, { size: 0, peaks: hashes })

/** Which hashes prove that a leaf is in the tree of a size (RFC 9162 §2.1.3.1), from the leaf upwards. */
export function inclusionParts(index: number, size: number): readonly Part[] {
  requireWithin(0, index, size - 1)
  const parts: Part[] = []
  for (let start = 0, end = size; end - start > 1;) {
    const middle = start + largestPower(end - start)
    if (index < middle) {
      parts.push(subtrees(middle, end))
      end = middle
    } else {
      parts.push(subtrees(start, middle))
      start = middle
    }
  }
  return parts.reverse()
}

/** Which hashes prove that the tree of size `from` is the beginning of that of size `to` (RFC 9162 §2.1.4.1). */
export function consistencyParts(from: number, to: number): readonly Part[] {
  requireWithin(0, from, to)
  if (from === 0 || from === to) return []
  const parts: Part[] = []
  let [start, end, whole] = [0, to, true]
  while (from !== end) {
    const middle = start + largestPower(end - start)
    if (from <= middle) {
      parts.push(subtrees(middle, end))
      end = middle
    } else {
      parts.push(subtrees(start, middle))
      start = middle
      whole = false
    }
  }
  if (!whole) parts.push(subtrees(start, end))
  return parts.reverse()
}

/** Whether a proof shows a leaf at an index of the tree with that size and root (RFC 9162 §2.1.3.2). */
export function verifyInclusion(
  sha256: Sha256,
  claim: { readonly index: number; readonly size: number; readonly leaf: Uint8Array; readonly root: Uint8Array },
  path: readonly Uint8Array[],
): boolean {
  if (!isIndex(claim.index) || !isIndex(claim.size) || claim.index >= claim.size) return false
  let [index, last, hash] = [claim.index, claim.size - 1, claim.leaf]
  for (const sibling of path) {
    if (last === 0 || sibling.length !== hashLength) return false
    if (index % 2 === 1 || index === last) {
      hash = nodeHash(sha256, sibling, hash)
      while (index % 2 === 0 && index !== 0) [index, last] = [half(index), half(last)]
    } else {
      hash = nodeHash(sha256, hash, sibling)
    }
    ;[index, last] = [half(index), half(last)]
  }
  return last === 0 && equalBytes(hash, claim.root)
}

/** Whether a proof shows that the older tree is the beginning of the newer (RFC 9162 §2.1.4.2). */
export function verifyConsistency(
  sha256: Sha256,
  older: { readonly size: number; readonly root: Uint8Array },
  newer: { readonly size: number; readonly root: Uint8Array },
  path: readonly Uint8Array[],
): boolean {
  if (!isIndex(older.size) || !isIndex(newer.size) || older.size > newer.size) return false
  if (older.size === newer.size) return path.length === 0 && equalBytes(older.root, newer.root)
  if (older.size === 0) return path.length === 0 && equalBytes(older.root, rootHash(sha256, emptyTree))
  const [first, ...others] = Number.isInteger(Math.log2(older.size)) ? [older.root, ...path] : path
  if (first === undefined || path.some((hash) => hash.length !== hashLength)) return false
  let [index, last] = [older.size - 1, newer.size - 1]
  while (index % 2 === 1) [index, last] = [half(index), half(last)]
  let [was, is] = [first, first]
  for (const sibling of others) {
    if (last === 0) return false
    if (index % 2 === 1 || index === last) {
      was = nodeHash(sha256, sibling, was)
      is = nodeHash(sha256, sibling, is)
      while (index % 2 === 0 && index !== 0) [index, last] = [half(index), half(last)]
    } else {
      is = nodeHash(sha256, is, sibling)
    }
    ;[index, last] = [half(index), half(last)]
  }
  return last === 0 && equalBytes(was, older.root) && equalBytes(is, newer.root)
}

/** Nothing compared here is secret, so the time that it takes may tell. */
export const equalBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, position) => byte === b[position])

/** The largest power of two below a number above 1. */
function largestPower(count: number): number {
  let power = 1
  while (power * 2 < count) power *= 2
  return power
}

/** Sizes pass 2^32, where bit operators end. */
const half = (index: number): number => Math.floor(index / 2)

const isIndex = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

function requireWithin(low: number, value: number, high: number): void {
  if (!isIndex(value) || !isIndex(high) || value < low || value > high)
    throw new Failure('invalid', `there is no proof for ${value}: expected a whole number from ${low} to ${high}`)
}
