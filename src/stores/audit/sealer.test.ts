import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { encode, openCheckpoint } from '../../core/checkpoint.ts'
import { emptyTree, grow, rootHash } from '../../core/merkle.ts'
import { systemFiles } from './files.ts'
import { loadKey, sha256, verifySignature, type SigningKey } from './key.ts'
import { openSealer, sealerOf, type Sealer } from './sealer.ts'

let root = ''
let key: SigningKey
let sealer: Sealer
let opened: number[] = []
beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-sealer-'))
  key = loadKey(path.join(root, 'audit.key'))
})
afterEach(async () => {
  await sealer.close()
  for (const fd of opened) fs.closeSync(fd)
  opened = []
  fs.rmSync(root, { recursive: true, force: true })
})

const file = (name: string): string => path.join(root, name)
function open(name: string): number {
  const fd = fs.openSync(file(name), 'w+')
  opened.push(fd)
  return fd
}
const treeOf = (size: number) =>
  grow(
    sha256,
    emptyTree,
    Array.from({ length: size }, (_, at) => sha256(Buffer.from(`leaf ${at}`))),
  )

const kinds: [name: string, make: () => Sealer][] = [
  ['a thread', () => openSealer(key)],
  ['no thread', () => sealerOf(systemFiles, key)],
]
describe.each(kinds)('%s', (_, make) => {
  test.each([1, 2, 3, 255, 256, 70_000])('signs the tree of %i leaves, and writes what it signed', async (size) => {
    sealer = make()
    const tree = treeOf(size)
    const [segment, checkpoint] = [open('segment'), open('checkpoint')]
    const note = await sealer.seal({ segment, checkpoint, tree })
    expect(fs.readFileSync(file('checkpoint'), 'utf8')).toBe(note)
    expect(openCheckpoint(note, key.public, verifySignature)).toEqual({
      origin: key.public.name,
      size,
      root: encode(rootHash(sha256, tree)),
    })
  })

  test('promise 1: what could not be made durable is not signed, and the next is', async () => {
    sealer = make()
    const [segment, checkpoint] = [open('segment'), open('checkpoint')]
    await expect(sealer.seal({ segment: -1, checkpoint, tree: treeOf(1) })).rejects.toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
    })
    expect(fs.readFileSync(file('checkpoint'), 'utf8')).toBe('')
    expect(await sealer.seal({ segment, checkpoint, tree: treeOf(2) })).toContain('\n2\n')
  })

  test('promise 1: what was removed is not signed', async () => {
    sealer = make()
    const [segment, checkpoint] = [open('segment'), open('checkpoint')]
    fs.rmSync(file('segment'))
    await expect(sealer.seal({ segment, checkpoint, tree: treeOf(1) })).rejects.toMatchObject({ code: 'REMOVED' })
    expect(fs.readFileSync(file('checkpoint'), 'utf8')).toBe('')
  })
})
