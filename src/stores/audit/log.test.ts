import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { AuditEvent, AuditLog, NewEvent } from '../../core/audit.ts'
import { decode, parseCheckpoint, parseNote } from '../../core/checkpoint.ts'
import { Failure } from '../../core/failure.ts'
import { verifyConsistency, verifyInclusion } from '../../core/merkle.ts'
import { systemFiles, type Files } from './files.ts'
import { publicKeyFile, readPublicKey, sha256 } from './key.ts'
import { openAuditLog, type AuditOptions } from './log.ts'
import { verifyLog, type Report } from './verify.ts'

const noon = Date.UTC(2026, 10, 21, 12)
let root = ''
let open: AuditLog[] = []

beforeEach(() => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-audit-'))
  open = []
})
afterEach(async () => {
  for (const log of open) await log.close()
  fs.rmSync(root, { recursive: true, force: true })
})

const dir = (): string => path.join(root, 'audit')
const keyFile = (): string => path.join(root, 'audit.key')
async function openLog(options: Partial<AuditOptions> = {}): Promise<AuditLog> {
  const log = await openAuditLog({ dir: dir(), keyFile: keyFile(), clock: () => noon, retryMs: 5, ...options })
  open.push(log)
  return log
}
const event = (more: Partial<NewEvent> = {}): NewEvent => ({ type: 'action.failed', at: noon, ...more })
const verify = (folder = dir()): Promise<Report> =>
  verifyLog({ dir: folder, key: readPublicKey(publicKeyFile(keyFile())) })
const codeOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'done',
    (thrown: unknown) => Failure.from(thrown).code,
  )
const segmentFiles = (): string[] => fs.readdirSync(path.join(dir(), 'segments')).sort()
const linesOnDisk = (): AuditEvent[] =>
  segmentFiles().flatMap((name) => fs.readFileSync(path.join(dir(), 'segments', name), 'utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line) as AuditEvent)) // prettier-ignore

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2))
}

describe('appending', () => {
  test('an event is on the disk as canonical JSON under the id that was given at once', async () => {
    const log = await openLog()
    const { id, done } = log.append(event({ session: 'ses_1', args: { b: 1, a: [true] }, nothing: undefined }))
    expect(id).toBe(`evt_${log.name}_1`)
    await done
    expect(fs.readFileSync(path.join(dir(), 'segments', segmentFiles()[0] as string), 'utf8').split('\n')[1]).toBe(
      `{"args":{"a":[true],"b":1},"at":${noon},"id":"${id}","session":"ses_1","type":"action.failed"}`,
    )
    expect(await log.get(id)).toEqual({
      type: 'action.failed',
      at: noon,
      id,
      session: 'ses_1',
      args: { a: [true], b: 1 },
    })
  })

  test('the log takes its copy before append returns, and gives ids itself', async () => {
    const log = await openLog()
    const given = { ...event(), id: 'mine', args: { a: 1 } }
    const { id, done } = log.append(given)
    given.args.a = 2
    await done
    expect(await log.get(id)).toMatchObject({ id, args: { a: 1 } })
  })

  test.each([{ type: 'No Type' }, { type: '' }, { type: 'a..b' }, { at: 1.5 }, { at: NaN }])(
    '%j is a mistake of the program',
    async (wrong) => {
      const log = await openLog()
      expect(() => log.append(event(wrong as Partial<NewEvent>))).toThrow('event')
      await log.append(event()).done
      expect((await verify()).ok).toBe(true)
    },
  )

  test('promise 8: appends of one moment go in one write, one sync, and are signed when acknowledged', async () => {
    let writes = 0
    let syncs = 0
    const files: Files = {
      ...systemFiles,
      write: (...all) => ((writes += 1), systemFiles.write(...all)),
      datasync: (fd) => ((syncs += 1), systemFiles.datasync(fd)),
    }
    const log = await openLog({ files })
    ;[writes, syncs] = [0, 0]
    await Promise.all(Array.from({ length: 64 }, () => log.append(event()).done))
    expect([writes, syncs]).toEqual([2, 1]) // The events, and the checkpoint.
    expect(await verify()).toMatchObject({ ok: true, signed: 65, unsigned: 0 })
  })

  test('an event acknowledged as written is on the disk then, and signed soon after', async () => {
    const log = await openLog()
    const { id, done } = log.append(event(), 'written')
    await done
    expect(linesOnDisk().at(-1)?.id).toBe(id)
    await until(() => log.health().signed === 2)
    expect((await verify()).unsigned).toBe(0)
  })

  test('an event that waits for no sync does not wait for the one under way', async () => {
    let release = (): void => undefined
    let isHeld = false
    const files: Files = {
      ...systemFiles,
      datasync: async (fd) => {
        if (isHeld) await new Promise<void>((resolve) => (release = resolve))
        return systemFiles.datasync(fd)
      },
    }
    const log = await openLog({ files })
    isHeld = true
    const durable = log.append(event()).done
    await until(() => linesOnDisk().length === 2)
    await log.append(event(), 'written').done
    expect(log.health().signed).toBe(1)
    isHeld = false
    release()
    await durable
  })

  test('one thing at a time is synced, also where a segment ends while others wait', async () => {
    let [running, most] = [0, 0]
    const files: Files = {
      ...systemFiles,
      datasync: async (fd) => {
        running += 1
        most = Math.max(most, running)
        await new Promise((resolve) => setTimeout(resolve, 2))
        await systemFiles.datasync(fd)
        running -= 1
      },
    }
    const log = await openLog({ files, segmentBytes: 600 })
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
    for (let round = 0; round < 20; round += 1) {
      const first = log.append(event({ round })).done
      await turn()
      const [second, third] = [log.append(event({ round }), 'written').done, log.append(event({ round })).done]
      await turn()
      await Promise.all([first, second, third, log.append(event({ round })).done])
    }
    await log.close()
    expect(most).toBe(1)
    expect(await verify()).toMatchObject({ ok: true, unsigned: 0 })
  })

  test('promise 1: nothing is acknowledged as durable before the disk has it', async () => {
    let order: string[] = []
    const files: Files = {
      ...systemFiles,
      datasync: async (fd) => {
        await systemFiles.datasync(fd)
        order.push('synced')
      },
    }
    const log = await openLog({ files })
    order = []
    await log.append(event()).done.then(() => order.push('acknowledged'))
    expect(order).toEqual(['synced', 'acknowledged'])
  })

  test('order is kept under load, and what is read back is what was given', async () => {
    const log = await openLog({ segmentBytes: 20_000 })
    const ids: string[] = []
    await Promise.all(
      Array.from({ length: 16 }, async (_, loop) => {
        for (let number = 0; number < 50; number += 1) {
          const { id, done } = log.append(event({ loop, number }), number % 3 === 0 ? 'written' : 'durable')
          ids.push(id)
          await done
        }
      }),
    )
    expect(linesOnDisk().slice(1).map(({ id }) => id)).toEqual(ids) // prettier-ignore
    expect(segmentFiles().length).toBeGreaterThan(3)
    await log.close()
    expect(await verify()).toMatchObject({ ok: true, unsigned: 0, events: 802 })
  })
})

describe('promise 7: large and hostile events are capped, and say so', () => {
  test('too large', async () => {
    const log = await openLog()
    const { id, done } = log.append(event({ session: 'ses_1', result: 'x'.repeat(200_000), password: 'hunter2' }))
    await done
    const kept = await log.get(id)
    expect(kept).toMatchObject({
      session: 'ses_1',
      type: 'action.failed',
      capped: {
        changed: 2,
        changes: [
          { path: '/password', why: 'sensitive' },
          { path: '/result', why: 'string', was: 200_000 },
        ],
      },
    })
    expect(JSON.stringify(kept).length).toBeLessThan(64 * 1024)
  })

  test('whatever the fields hold, the event is recorded within the bound', async () => {
    const log = await openLog({ maxEventBytes: 32 * 1024 })
    const field = fc.oneof(
      fc.anything({ withBigInt: true, withDate: true }),
      fc.string({ unit: 'binary', maxLength: 50_000, size: 'max' }),
      fc.constant('\ud800\u0000'.repeat(30_000)),
    )
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.string({ unit: 'binary' }), field), field, async (fields, session) => {
        const { id, done } = log.append({
          ...fields,
          session,
          type: 'a.b',
          at: 5,
          id: undefined,
        } as unknown as NewEvent)
        await done
        const kept = await log.get(id)
        expect(kept).toMatchObject({ id, type: 'a.b', at: 5 })
        expect(Buffer.byteLength(JSON.stringify(kept))).toBeLessThanOrEqual(32 * 1024)
      }),
      { numRuns: 60 },
    )
    await log.close()
    expect((await verify()).ok).toBe(true)
  })

  test('a depth bomb', async () => {
    const log = await openLog()
    const { id, done } = log.append(event({ args: JSON.parse('['.repeat(5000) + ']'.repeat(5000)) as never }))
    await done
    expect(await log.get(id)).toMatchObject({ capped: { changes: [{ why: 'depth' }] } })
  })
})

describe('when the disk fails', () => {
  /** A file layer in which the calls fail that `fails` names. */
  function failing(): { files: Files; fails: Map<keyof Files, string>; partly: { bytes: number } } {
    const fails = new Map<keyof Files, string>()
    const partly = { bytes: 0 }
    const failure = (call: keyof Files): Error => Object.assign(new Error('injected'), { code: fails.get(call) })
    const refuse = (call: keyof Files): Promise<never> => Promise.reject(failure(call))
    const files: Files = {
      ...systemFiles,
      write: (fd, bytes, position) => {
        if (!fails.has('write')) return systemFiles.write(fd, bytes, position)
        // As a full disk does: some of it is written, then no more.
        if (partly.bytes === 0) throw failure('write')
        const count = systemFiles.write(fd, bytes.subarray(0, partly.bytes), position)
        partly.bytes = 0
        return count
      },
      datasync: (fd) => (fails.has('datasync') ? refuse('datasync') : systemFiles.datasync(fd)),
      truncate: (fd, size) => (fails.has('truncate') ? refuse('truncate') : systemFiles.truncate(fd, size)),
      open: (file, create) => (fails.has('open') ? refuse('open') : systemFiles.open(file, create)),
    }
    return { files, fails, partly }
  }

  const kinds: [call: keyof Files, code: string, words: string][] = [
    ['write', 'ENOSPC', 'the disk is full'],
    ['write', 'EDQUOT', 'quota'],
    ['write', 'EIO', 'error'],
    ['datasync', 'EIO', 'error'],
    ['datasync', 'ENOSPC', 'the disk is full'],
  ]
  test.each(kinds)(
    'promise 1: %s %s: appends are refused, reads work, and it resumes by itself',
    async (call, code, words) => {
      const { files, fails, partly } = failing()
      const log = await openLog({ files })
      const before = log.append(event({ number: 1 }))
      await before.done
      fails.set(call, code)
      partly.bytes = 40
      const refused = Array.from({ length: 5 }, () => log.append(event({ session: 'during' })))
      for (const { done } of refused)
        await expect(done).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining(words) })
      expect(log.health()).toMatchObject({ state: 'failing', reason: expect.stringContaining(code) })
      expect(await codeOf(log.append(event()).done)).toBe('unavailable')
      expect(await codeOf(log.append(event(), 'written').done)).toBe('unavailable')
      expect(await log.get(before.id)).toMatchObject({ number: 1 })
      expect((await log.search({ type: 'action.*' })).events.map(({ id }) => id)).toEqual([before.id])
      fails.clear()
      await until(() => log.health().state === 'ok')
      const after = log.append(event({ number: 2 }))
      await after.done
      expect(await log.get(after.id)).toMatchObject({ number: 2 })
      const resumed = linesOnDisk().find(({ type }) => type === 'audit.resumed')
      expect(resumed).toMatchObject({ because: expect.stringContaining(code), since: noon })
      // What could not be written at all is not there; what could only not be synced is, and the log says which.
      const during = linesOnDisk().filter(({ session }) => session === 'during')
      if (call === 'write') expect(during).toEqual([])
      else expect(resumed?.unacknowledged).toEqual({ first: 2, last: 6 })
      await log.close()
      expect(await verify()).toMatchObject({ ok: true, unsigned: 0 })
    },
  )

  test('promise 8: what was acknowledged as written stays when the sync fails', async () => {
    const { files, fails } = failing()
    const log = await openLog({ files })
    fails.set('datasync', 'EIO')
    const written = log.append(event({ number: 1 }), 'written')
    await written.done
    expect(await codeOf(log.append(event()).done)).toBe('unavailable')
    fails.clear()
    await until(() => log.health().state === 'ok')
    expect(await log.get(written.id)).toMatchObject({ number: 1 })
    await log.close()
    expect((await verify()).ok).toBe(true)
  })

  test('a new segment that can not be made', async () => {
    const { files, fails } = failing()
    const log = await openLog({ files, segmentBytes: 1000 })
    fails.set('open', 'ENOSPC')
    let refused = 0
    for (let number = 0; number < 20; number += 1)
      if ((await codeOf(log.append(event({ number })).done)) !== 'done') refused += 1
    expect(refused).toBeGreaterThan(0)
    fails.clear()
    await until(() => log.health().state === 'ok')
    await log.append(event()).done
    await log.close()
    expect((await verify()).ok).toBe(true)
  })

  test('it may fail at any call, in any order, any number of times', async () => {
    const calls = fc.constantFrom<keyof Files>('write', 'datasync', 'truncate', 'open')
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.array(calls, { maxLength: 2 }), fc.integer({ min: 1, max: 8 }), fc.boolean()), {
          minLength: 1,
          maxLength: 8,
        }),
        async (steps) => {
          const home = fs.mkdtempSync(path.join(root, 'any-'))
          const { files, fails, partly } = failing()
          const log = await openAuditLog({
            dir: path.join(home, 'audit'),
            keyFile: keyFile(),
            clock: () => noon,
            files,
            segmentBytes: 1500,
            retryMs: 1,
          })
          const acknowledged: string[] = []
          const append = async (wait: 'durable' | 'written'): Promise<void> => {
            const { id, done } = log.append(event({ wait }), wait)
            await done.then(() => acknowledged.push(id), () => undefined) // prettier-ignore
          }
          for (const [failed, count, isLong] of steps) {
            for (const call of failed) fails.set(call, 'EIO')
            partly.bytes = 10
            await Promise.all(
              Array.from({ length: count }, (_, number) => append(number % 2 === 0 ? 'durable' : 'written')),
            )
            if (isLong) await new Promise((resolve) => setTimeout(resolve, 3))
            fails.clear()
          }
          await until(() => log.health().state === 'ok')
          await append('durable')
          await log.close()
          const report = await verify(path.join(home, 'audit'))
          expect(report).toMatchObject({ ok: true, unsigned: 0 })
          const there = fs
            .readdirSync(path.join(home, 'audit', 'segments'))
            .map((name) => fs.readFileSync(path.join(home, 'audit', 'segments', name), 'utf8'))
            .join('')
          for (const id of acknowledged) expect(there).toContain(`"${id}"`)
        },
      ),
      { numRuns: 60 },
    )
  })

  test('promise 1: a folder deleted under it', async () => {
    const log = await openLog()
    await log.append(event()).done
    fs.rmSync(dir(), { recursive: true })
    await expect(log.append(event()).done).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('removed'),
    })
    expect(await codeOf(log.append(event()).done)).toBe('unavailable')
    expect(log.health().state).toBe('failing')
  })
})

describe('opening again', () => {
  test('a closed log goes on where it ended, and says that it was stopped and started', async () => {
    const log = await openLog()
    await log.append(event()).done
    await log.close()
    expect(await codeOf(log.append(event()).done)).toBe('unavailable')
    const again = await openLog()
    expect(linesOnDisk().map(({ type }) => type)).toEqual([
      'audit.started',
      'action.failed',
      'audit.stopped',
      'audit.started',
    ])
    expect(again.health()).toMatchObject({ state: 'ok', size: 4, signed: 4 })
  })

  test('two can not have it', async () => {
    const log = await openLog()
    await expect(openLog()).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining(`process ${process.pid}`),
    })
    await log.append(event()).done
    await log.close()
    await openLog()
  })

  test('what was written but not signed is taken over, and said', async () => {
    const log = await openLog()
    await log.append(event()).done
    await log.close()
    const file = path.join(dir(), 'segments', segmentFiles()[0] as string)
    fs.appendFileSync(file, `{"at":1,"id":"evt_${log.name}_3","type":"a.b"}\n{"half a li`)
    const again = await openLog()
    expect(await again.get(`evt_${log.name}_3`)).toMatchObject({ type: 'a.b' })
    expect(await again.get(`evt_${log.name}_4`)).toMatchObject({
      type: 'audit.started',
      adopted: { first: 3, last: 3 },
      dropped_bytes: 11,
    })
    expect(await verify()).toMatchObject({ ok: true, unsigned: 0 })
  })

  test.each(['tree', 'index.db', 'checkpoints'])('%s is made again, or can be done without', async (lost) => {
    const log = await openLog({ segmentBytes: 3000 })
    await Promise.all(Array.from({ length: 600 }, (_, number) => log.append(event({ number })).done))
    await log.close()
    fs.rmSync(path.join(dir(), lost), { recursive: true })
    const again = await openLog()
    await again.append(event({ session: 'later' })).done
    expect((await again.search({ text: '"number":77' })).events).toHaveLength(1)
    await again.inclusion(`evt_${log.name}_5`)
    await again.close()
    expect(await verify()).toMatchObject({ ok: true, notes: [] })
    expect(fs.statSync(path.join(dir(), 'tree', '0')).size).toBe(32 * 605)
  })

  const damage: [name: string, change: (file: string) => void, words: string][] = [
    ['an event altered', (file) => fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"number":3', '"number":4')), 'not those that were signed'],
    ['the last event cut off', (file) => fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace(/[^\n]*\n$/, '')), 'some were cut off'],
    ['half of the last event cut off', (file) => fs.truncateSync(file, fs.statSync(file).size - 7), 'cut off'],
    ['no segment', (file) => fs.rmSync(file), 'no segments'],
    ['no checkpoint', () => fs.rmSync(path.join(dir(), 'checkpoint')), 'checkpoint is not usable'],
    ['an older checkpoint signed by nobody', () => fs.writeFileSync(path.join(dir(), 'checkpoint'), 'x\n'), 'checkpoint is not usable'],
    ['a key of another log', () => (fs.rmSync(keyFile()), fs.rmSync(publicKeyFile(keyFile()))), 'not signed by'],
  ] // prettier-ignore
  test.each(damage)('promise 8: %s: it can be read, and every append is refused', async (_name, change, words) => {
    const log = await openLog()
    for (let number = 0; number < 5; number += 1) await log.append(event({ number })).done
    await log.close()
    const before = linesOnDisk()
    change(path.join(dir(), 'segments', segmentFiles()[0] as string))
    const again = await openLog()
    expect(again.health()).toMatchObject({ state: 'damaged', reason: expect.stringContaining(words) })
    await expect(again.append(event()).done).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('audit verify'),
    })
    if (words !== 'no segments')
      expect((await again.search({ type: 'action.failed' })).events.length).toBeGreaterThan(3)
    expect(linesOnDisk().length).toBeLessThanOrEqual(before.length)
    await again.close()
  })

  test('wherever the writing was cut off, what was signed is there and it goes on', async () => {
    const log = await openLog()
    await Promise.all(Array.from({ length: 20 }, (_, number) => log.append(event({ number })).done))
    fs.cpSync(dir(), path.join(root, 'signed'), { recursive: true })
    await Promise.all(Array.from({ length: 20 }, (_, number) => log.append(event({ number })).done))
    await log.close()
    const whole = fs.readFileSync(path.join(dir(), 'segments', segmentFiles()[0] as string))
    const signedBytes = fs.statSync(path.join(root, 'signed', 'segments', segmentFiles()[0] as string)).size
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: signedBytes, max: whole.length }),
        fc.uint8Array({ maxLength: 64 }),
        fc.nat(40 * 32),
        async (end, garbage, hashes) => {
          const home = fs.mkdtempSync(path.join(root, 'cut-'))
          fs.cpSync(path.join(root, 'signed'), home, { recursive: true })
          fs.writeFileSync(
            path.join(home, 'segments', segmentFiles()[0] as string),
            Buffer.concat([whole.subarray(0, end), garbage]),
          )
          fs.copyFileSync(path.join(dir(), 'tree', '0'), path.join(home, 'tree', '0'))
          fs.truncateSync(path.join(home, 'tree', '0'), hashes)
          const again = await openAuditLog({ dir: home, keyFile: keyFile(), clock: () => noon })
          await again.append(event()).done
          await again.close()
          expect(await verify(home)).toMatchObject({ ok: true, unsigned: 0, notes: [] })
        },
      ),
      { numRuns: 40 },
    )
  })
})

describe('the key', () => {
  test('is made at first start, readable by its owner alone, with the public key beside it', async () => {
    const log = await openLog()
    expect(fs.statSync(keyFile()).mode & 0o777).toBe(0o600)
    expect(readPublicKey(publicKeyFile(keyFile())).name).toBe(`sallyport.audit/${log.name}`)
    expect(fs.readFileSync(publicKeyFile(keyFile()), 'utf8')).not.toContain('PRIVATE')
  })

  test('that others may read is refused', async () => {
    await (await openLog()).close()
    fs.chmodSync(keyFile(), 0o644)
    await expect(openLog()).rejects.toMatchObject({ code: 'invalid', message: expect.stringContaining('chmod 600') })
  })

  test('promise 4: never stands in the log', async () => {
    await (await openLog()).close()
    const secret = fs.readFileSync(keyFile(), 'utf8').trim().split('+').slice(4).join('+')
    const files = fs
      .readdirSync(dir(), { recursive: true, encoding: 'utf8' })
      .map((name) => path.join(dir(), name))
      .filter((file) => fs.statSync(file).isFile())
    expect(files.length).toBeGreaterThan(4)
    expect(files.filter((file) => fs.readFileSync(file, 'latin1').includes(secret))).toEqual([])
  })
})

describe('rotation and retention', () => {
  const day = 86_400_000

  test('a segment ends with the day', async () => {
    let now = noon
    const log = await openLog({ clock: () => now })
    await log.append(event()).done
    now += day
    await log.append(event({ at: now })).done
    await log.append(event({ at: now })).done
    expect(segmentFiles()).toEqual(['0000000000000000.jsonl', '0000000000000002.jsonl'])
  })

  test('promise 7: old segments are removed, the log says which, and verifies; their events can still be proven', async () => {
    let now = noon
    const log = await openLog({ clock: () => now, segmentBytes: 1000 })
    for (let number = 0; number < 30; number += 1) await log.append(event({ number, at: now })).done
    const proof = await log.inclusion(`evt_${log.name}_3`)
    await log.close()
    now += 181 * day
    const again = await openLog({ clock: () => now, segmentBytes: 1000 })
    await again.append(event({ at: now })).done
    await until(() => segmentFiles().length < 4)
    const { events } = await again.search({ type: 'audit.retention' })
    const before = events[0]?.removed_before as number
    expect(events[0]).toMatchObject({ first: 0, last: before - 1, days: 180 })
    expect(await again.get(`evt_${log.name}_3`)).toBeUndefined()
    expect((await again.inclusion(`evt_${log.name}_3`)).leaf).toBe(proof.leaf)
    const first = Number.parseInt(segmentFiles()[0] as string, 10)
    expect(first).toBe(before)
    await again.close()
    expect(await verify()).toMatchObject({ ok: true, removed: before })
    // A segment that no event speaks of is another matter.
    fs.rmSync(path.join(dir(), 'segments', segmentFiles()[0] as string))
    expect((await verify()).ok).toBe(false)
  })

  test('0 days keeps everything', async () => {
    let now = noon
    const log = await openLog({ clock: () => now, segmentBytes: 1000, retentionDays: 0 })
    for (let number = 0; number < 30; number += 1) await log.append(event({ number })).done
    await log.close()
    now += 10_000 * day
    await (await openLog({ clock: () => now, retentionDays: 0 })).close()
    expect(segmentFiles()[0]).toBe('0000000000000000.jsonl')
  })
})

describe('reading', () => {
  async function filled(): Promise<AuditLog> {
    const log = await openLog({ segmentBytes: 4000 })
    await Promise.all(
      Array.from(
        { length: 120 },
        (_, number) =>
        log.append({ type: number % 2 === 0 ? 'action.failed' : 'action.done', at: noon + number, session: `ses_${number % 3}`, agent: `agent_${number % 5}`, permission: 'a.b:c', decision: number % 4 === 0 ? 'deny' : 'allow', approval: number === 7 ? 'appr_1' : undefined, of: number === 9 ? 'evt_x_1' : undefined, note: `Number ${number}.` }).done, // prettier-ignore
      ),
    )
    return log
  }
  const numbers = (events: readonly AuditEvent[]): number[] =>
    events.map(({ note }) => Number(/\d+/.exec(note as string)?.[0]))

  const filters: [filter: Parameters<AuditLog['search']>[0], expected: (number: number) => boolean][] = [
    [{ type: 'action.done' }, (n) => n % 2 === 1],
    [{ type: 'action.*' }, () => true],
    [{ session: 'ses_1', agent: 'agent_2' }, (n) => n % 3 === 1 && n % 5 === 2],
    [{ decision: 'deny', permission: 'a.b:c', session: 'ses_0' }, (n) => n % 4 === 0 && n % 3 === 0],
    [{ approval: 'appr_1' }, (n) => n === 7],
    [{ of: 'evt_x_1' }, (n) => n === 9],
    [{ from: noon + 10, to: noon + 20, type: 'action.*' }, (n) => n >= 10 && n < 20],
    [{ text: 'NUMBER 11' }, (n) => n === 11 || (n >= 110 && n < 120)],
    [{ text: '%' }, () => false],
    [{ session: "' or 1=1 --" }, () => false],
  ]
  for (const withIndex of [true, false])
    test(`all that matches, newest first, page by page, ${withIndex ? 'with the index' : 'from the segments alone'}`, async () => {
      let log = await filled()
      if (!withIndex) {
        // A folder where the file should be: it can't be opened, so the segments are read.
        await log.close()
        for (const suffix of ['', '-wal', '-shm']) fs.rmSync(path.join(dir(), `index.db${suffix}`), { force: true })
        fs.mkdirSync(path.join(dir(), 'index.db', 'in-the-way'), { recursive: true })
        log = await openLog()
      }
      for (const [filter, expected] of filters)
        for (const limit of [7, 500]) {
          const found: number[] = []
          let cursor: string | undefined
          do {
            const page = await log.search(filter, { limit, ...(cursor === undefined ? {} : { cursor }) })
            expect(page.events.length).toBeLessThanOrEqual(limit)
            found.push(...numbers(page.events))
            cursor = page.next
          } while (cursor !== undefined)
          expect(found, JSON.stringify(filter)).toEqual([...Array(120).keys()].filter(expected).reverse())
        }
    })

  test('what was just acknowledged is found', async () => {
    const log = await filled()
    for (let number = 0; number < 20; number += 1) {
      const { id, done } = log.append(event({ session: 'now' }))
      await done
      expect((await log.search({ session: 'now' }, { limit: 1 })).events[0]?.id).toBe(id)
    }
  })

  test('bad cursors, limits and ids are refused', async () => {
    const log = await openLog()
    for (const page of [{ limit: 0 }, { limit: 501 }, { limit: 1.5 }, { cursor: 'x' }, { cursor: '' }])
      expect(await codeOf(log.search({}, page))).toBe('invalid')
    for (const id of ['', 'evt_', 'evt_x_-1', 'evt_x_01', `evt_${log.name}_1e3`, '../../etc/passwd'])
      expect(await codeOf(log.get(id))).toBe('invalid')
    expect(await log.get('evt_other_0')).toBeUndefined()
    expect(await log.get(`evt_${log.name}_99`)).toBeUndefined()
  })

  test('following gives every event once, in order, over segments, as they come, until told to stop', async () => {
    const log = await filled()
    const stop = new AbortController()
    const seen: string[] = []
    const following = (async () => {
      for await (const { id } of log.tail({ from: 0, signal: stop.signal })) seen.push(id)
    })()
    for (let number = 0; number < 60; number += 1) await log.append(event({ number })).done
    await until(() => seen.length === 181)
    expect(seen).toEqual([...Array(181).keys()].map((index) => `evt_${log.name}_${index}`))
    stop.abort()
    await following
  })

  test('proofs hold against the checkpoint', async () => {
    const log = await filled()
    const note = await log.checkpoint()
    const head = parseCheckpoint(parseNote(note).text)
    for (let index = 0; index < head.size; index += 1) {
      const proof = await log.inclusion(`evt_${log.name}_${index}`)
      const claim = { index, size: head.size, leaf: decode(proof.leaf), root: decode(head.root) }
      expect(verifyInclusion(sha256, claim, proof.path.map(decode))).toBe(true)
    }
    await Promise.all(Array.from({ length: 700 }, () => log.append(event()).done))
    const later = parseCheckpoint(parseNote(await log.checkpoint()).text)
    const { path: hashes } = await log.consistency(head.size, later.size)
    const trees = [
      { size: head.size, root: decode(head.root) },
      { size: later.size, root: decode(later.root) },
    ] as const
    expect(verifyConsistency(sha256, ...trees, hashes.map(decode))).toBe(true)
    expect(await codeOf(log.inclusion(`evt_${log.name}_5000`))).toBe('not_found')
    expect(await codeOf(log.consistency(5, 5000))).toBe('invalid')
  })
})
