import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { Failure } from '../../core/failure.ts'
import { publicKeyFile, readPublicKey } from './key.ts'
import { openAuditLog } from './log.ts'
import { verifyLog } from './verify.ts'

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-disk-'))
const disk = path.join(root, 'disk')
fs.mkdirSync(disk)
const isMounted =
  process.platform === 'linux' && spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk]).status === 0
afterAll(() => {
  if (isMounted) spawnSync('umount', [disk])
  fs.rmSync(root, { recursive: true, force: true })
})

// Mounting needs a right that few have; the same is tested with a file layer that fails in log.test.ts.
test.skipIf(!isMounted)(
  'promise 1: a real full disk: refused, readable, and it resumes when there is room (needs the right to mount)',
  async () => {
    const [dir, keyFile] = [path.join(disk, 'audit'), path.join(root, 'audit.key')]
    const log = await openAuditLog({ dir, keyFile, retryMs: 5, segmentBytes: 100_000 })
    const append = (number: number): Promise<string | undefined> => {
      const { id, done } = log.append({ type: 'action.failed', at: Date.now(), number, fill: 'x'.repeat(2000) })
      return done.then(
        () => id,
        (thrown: unknown) =>
          thrown instanceof Failure && thrown.code === 'unavailable' ? undefined : 'another failure',
      )
    }
    const acknowledged: string[] = []
    for (let round = 0; round < 3; round += 1) {
      const ballast = path.join(disk, 'ballast')
      fs.writeFileSync(ballast, '')
      try {
        for (;;) fs.appendFileSync(ballast, Buffer.alloc(4096))
      } catch (thrown) {
        expect((thrown as NodeJS.ErrnoException).code).toBe('ENOSPC')
      }
      let refused = 0
      for (let number = 0; refused < 3; number += 1) {
        const ids = await Promise.all([append(number), append(number), append(number)])
        for (const id of ids) if (id === undefined) refused += 1; else acknowledged.push(id) // prettier-ignore
      }
      expect(log.health()).toMatchObject({ state: 'failing', reason: expect.stringContaining('the disk is full') })
      for (const id of acknowledged) expect(await log.get(id)).toMatchObject({ id })
      expect((await log.search({ type: 'action.failed' })).events[0]?.id).toBe(acknowledged.at(-1))
      fs.rmSync(ballast)
      while (log.health().state !== 'ok') await new Promise((resolve) => setTimeout(resolve, 2))
      acknowledged.push((await append(round)) as string)
    }
    for (const id of acknowledged) expect(await log.get(id)).toMatchObject({ id })
    await log.close()
    expect(await verifyLog({ dir, key: readPublicKey(publicKeyFile(keyFile)) })).toMatchObject({
      ok: true,
      unsigned: 0,
    })
  },
)
