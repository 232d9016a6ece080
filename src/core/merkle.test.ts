import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  consistencyParts,
  emptyTree,
  grow,
  inclusionParts,
  joinPart,
  leafHash,
  rootHash,
  verifyConsistency,
  verifyInclusion,
  type Part,
} from './merkle.ts'

const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest())
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))

/** The definition of RFC 9162 §2.1.1, as it stands there. */
function definition(leaves: readonly Uint8Array[]): Uint8Array {
  if (leaves.length === 0) return sha256(new Uint8Array(0))
  if (leaves.length === 1) return leaves[0] as Uint8Array
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return sha256(new Uint8Array([1, ...definition(leaves.slice(0, k)), ...definition(leaves.slice(k))]))
}

/** A proof from nothing but the leaves. */
const prove = (parts: readonly Part[], leaves: readonly Uint8Array[]): Uint8Array[] =>
  parts.map((part) =>
    joinPart(
      sha256,
      part.map(({ level, position }) => definition(leaves.slice(position * 2 ** level, (position + 1) * 2 ** level))),
    ),
  )

const leavesOf = (count: number): Uint8Array[] =>
  Array.from({ length: count }, (_, index) => leafHash(sha256, new Uint8Array([index & 255, index >> 8])))

describe('the vectors of Certificate Transparency', () => {
  const entries = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
  const roots = [
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
    'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
    '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  ]
  const inclusion: [index: number, size: number, path: string[]][] = [
    [0, 1, []],
    [0, 8, ['96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7', '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e', '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4']],
    [5, 8, ['bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b', 'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0', 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7']],
    [2, 3, ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125']],
    [1, 5, ['6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d', '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e', 'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b']],
  ] // prettier-ignore
  const consistency: [from: number, to: number, path: string[]][] = [
    [1, 1, []],
    [1, 8, ['96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7', '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e', '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4']],
    [6, 8, ['0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a', 'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0', 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7']],
    [2, 5, ['5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e', 'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b']],
    [6, 7, ['0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a', 'b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f', 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7']],
  ] // prettier-ignore
  const leaves = entries.map((entry) => leafHash(sha256, bytes(entry)))
  const root = (size: number): Uint8Array => bytes(roots[size] as string)

  test.each(roots.map((expected, size): [number, string] => [size, expected]))(
    'the root of %i leaves',
    (size, expected) => {
      expect(hex(rootHash(sha256, grow(sha256, emptyTree, leaves.slice(0, size))))).toBe(expected)
    },
  )

  test.each(inclusion)('leaf %i in a tree of %i', (index, size, path) => {
    expect(prove(inclusionParts(index, size), leaves).map(hex)).toEqual(path)
    const claim = { index, size, leaf: leaves[index] as Uint8Array, root: root(size) }
    expect(verifyInclusion(sha256, claim, path.map(bytes))).toBe(true)
  })

  test.each(consistency)('a tree of %i is the beginning of one of %i', (from, to, path) => {
    expect(prove(consistencyParts(from, to), leaves).map(hex)).toEqual(path)
    expect(
      verifyConsistency(sha256, { size: from, root: root(from) }, { size: to, root: root(to) }, path.map(bytes)),
    ).toBe(true)
  })
})

describe('laws', () => {
  const sizes = fc.integer({ min: 1, max: 200 })

  test('growing in any steps gives the root of the definition, and tells of every full subtree', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(40), { maxLength: 6 }), (steps) => {
        const leaves = leavesOf(steps.reduce((sum, step) => sum + step, 0))
        const nodes: [number, number, string][] = []
        let tree = emptyTree
        for (const step of steps)
          tree = grow(sha256, tree, leaves.slice(tree.size, tree.size + step), (...node) =>
            nodes.push([node[0], node[1], hex(node[2])]),
          )
        expect(tree.size).toBe(leaves.length)
        expect(hex(rootHash(sha256, tree))).toBe(hex(definition(leaves)))
        for (const [level, position, hash] of nodes)
          expect(hash).toBe(hex(definition(leaves.slice(position * 2 ** level, (position + 1) * 2 ** level))))
        for (let level = 1; 2 ** level <= leaves.length; level += 1)
          expect(nodes.filter((node) => node[0] === level).map((node) => node[1])).toEqual([
            ...Array(Math.floor(leaves.length / 2 ** level)).keys(),
          ])
      }),
      { numRuns: 50 },
    )
  })

  test('a leaf in the tree can be shown to be, and nothing else can', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), fc.nat(), (size, some, other, bit) => {
        const leaves = leavesOf(size)
        const index = some % size
        const path = prove(inclusionParts(index, size), leaves)
        const claim = { index, size, leaf: leaves[index] as Uint8Array, root: definition(leaves) }
        expect(verifyInclusion(sha256, claim, path)).toBe(true)

        expect(verifyInclusion(sha256, { ...claim, leaf: leafHash(sha256, new Uint8Array([7, 7, 7])) }, path)).toBe(
          false,
        )
        if (other % size !== index) {
          expect(verifyInclusion(sha256, { ...claim, index: other % size }, path)).toBe(false)
          expect(verifyInclusion(sha256, { ...claim, leaf: leaves[other % size] as Uint8Array }, path)).toBe(false)
        }
        expect(verifyInclusion(sha256, { ...claim, index: index + size }, path)).toBe(false)
        expect(verifyInclusion(sha256, claim, [...path, path[0] ?? claim.root])).toBe(false)
        if (path.length > 0) {
          expect(verifyInclusion(sha256, claim, path.slice(1))).toBe(false)
          const bent = path.map((hash) => new Uint8Array(hash))
          const hash = bent[bit % bent.length] as Uint8Array
          hash[bit % 32] = (hash[bit % 32] as number) ^ (1 << (bit % 8))
          expect(verifyInclusion(sha256, claim, bent)).toBe(false)
        }
      }),
    )
  })

  test('an older tree can be shown to be the beginning, and a changed one cannot', () => {
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), (to, some, at) => {
        const leaves = leavesOf(to)
        const from = some % (to + 1)
        const path = prove(consistencyParts(from, to), leaves)
        const older = { size: from, root: definition(leaves.slice(0, from)) }
        const newer = { size: to, root: definition(leaves) }
        expect(verifyConsistency(sha256, older, newer, path)).toBe(true)

        if (from > 0) {
          const changed = leaves.with(at % from, leafHash(sha256, new Uint8Array([7, 7, 7])))
          expect(
            verifyConsistency(
              sha256,
              older,
              { size: to, root: definition(changed) },
              prove(consistencyParts(from, to), changed),
            ),
          ).toBe(false)
          expect(verifyConsistency(sha256, { ...older, root: definition(changed.slice(0, from)) }, newer, path)).toBe(
            false,
          )
        }
        if (from < to) expect(verifyConsistency(sha256, newer, older, path)).toBe(false)
        expect(verifyConsistency(sha256, older, newer, [...path, newer.root])).toBe(false)
        if (path.length > 0) expect(verifyConsistency(sha256, older, newer, path.slice(1))).toBe(false)
      }),
    )
  })

  test.each([
    [0, 0],
    [5, 5],
    [-1, 5],
    [1.5, 5],
    [0, NaN],
  ])('there is no inclusion proof for leaf %d of %d', (index, size) => {
    expect(() => inclusionParts(index, size)).toThrow('no proof')
  })

  test.each([
    [6, 5],
    [-1, 5],
    [0, Infinity],
  ])('there is no consistency proof from %d to %d', (from, to) => {
    expect(() => consistencyParts(from, to)).toThrow('no proof')
  })
})
