import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { NoteKey } from '../../core/checkpoint.ts'
import { publicKeyFile, readPublicKey } from './key.ts'
import { openAuditLog } from './log.ts'
import { verifyLog, type Report } from './verify.ts'

let root = ''
let original = ''
let key: NoteKey
let older = ''
let otherKey: NoteKey
const at = 1_763_700_000_000

async function record(dir: string, keyFile: string, from: number, to: number): Promise<string> {
  const log = await openAuditLog({ dir, keyFile, clock: () => at, segmentBytes: 2000 })
  for (let number = from; number < to; number += 1)
    await log.append({ type: 'action.failed', at: at + number, agent: 'reader', decision: 'allow', number }).done
  await log.close()
  return log.checkpoint()
}

beforeAll(async () => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-verify-'))
  original = path.join(root, 'audit')
  const keyFile = path.join(root, 'audit.key')
  older = await record(original, keyFile, 0, 10)
  fs.cpSync(original, path.join(root, 'old'), { recursive: true })
  await record(original, keyFile, 10, 40)
  key = readPublicKey(publicKeyFile(keyFile))
  await record(path.join(root, 'other'), path.join(root, 'other.key'), 0, 3)
  otherKey = readPublicKey(publicKeyFile(path.join(root, 'other.key')))
})
afterAll(() => fs.rmSync(root, { recursive: true, force: true }))

/** A copy of the log with something done to it, and what is found in it then. */
async function tampered(
  change: (dir: string) => void,
  options: { key?: NoteKey; since?: string } = {},
): Promise<Report> {
  const dir = fs.mkdtempSync(path.join(root, 'copy-'))
  fs.cpSync(original, dir, { recursive: true })
  change(dir)
  const since = options.since === undefined ? [] : [{ name: 'the kept checkpoint', note: options.since }]
  const report = await verifyLog({ dir, key: options.key ?? key, since })
  fs.rmSync(dir, { recursive: true })
  return report
}

const segments = (dir: string): string[] =>
  fs
    .readdirSync(path.join(dir, 'segments'))
    .sort()
    .map((name) => path.join(dir, 'segments', name))
const edit = (file: string, change: (text: string) => string): void =>
  fs.writeFileSync(file, change(fs.readFileSync(file, 'latin1')), 'latin1')
const editLines = (file: string, change: (lines: string[]) => string[]): void =>
  edit(file, (text) =>
    change(text.split('\n').slice(0, -1))
      .map((line) => `${line}\n`)
      .join(''),
  )
const whats = (report: Report): string => report.problems.map(({ what }) => what).join('; ')

test('promise 8: an untouched log and its copy verify, with all that was signed', async () => {
  const report = await tampered(() => undefined, { since: older })
  expect(report).toMatchObject({ ok: true, problems: [], notes: [], unsigned: 0, removed: 0, signed: report.events })
  expect(report.events).toBe(40 + 4)
  expect(segments(original).length).toBeGreaterThan(2)
})

describe('promise 8: an altered log is detected', () => {
  test('any single byte of any file that is evidence', async () => {
    const files = [
      'checkpoint',
      'checkpoints',
      'tree/0',
      ...segments(original).map((file) => path.relative(original, file)),
    ]
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        async (file, position, mask) => {
          const report = await tampered((dir) => {
            const bytes = fs.readFileSync(path.join(dir, file))
            const place = position % bytes.length
            bytes[place] = (bytes[place] as number) ^ mask
            fs.writeFileSync(path.join(dir, file), bytes)
          })
          expect(report.ok, `${file} ${position}`).toBe(false)
        },
      ),
      { numRuns: 300 },
    )
  })

  test('every byte of one segment, with or without the leaf hashes to compare with', async () => {
    const dir = fs.mkdtempSync(path.join(root, 'bytes-'))
    fs.cpSync(original, dir, { recursive: true })
    const file = segments(dir)[1] as string
    const bytes = fs.readFileSync(file)
    for (const withHashes of [true, false]) {
      if (!withHashes) fs.rmSync(path.join(dir, 'tree'), { recursive: true })
      for (let place = 0; place < bytes.length; place += withHashes ? 7 : 31) {
        const bent = Buffer.from(bytes)
        bent[place] = (bent[place] as number) ^ 1
        fs.writeFileSync(file, bent)
        expect((await verifyLog({ dir, key })).ok, `byte ${place}`).toBe(false)
      }
      fs.writeFileSync(file, bytes)
      expect((await verifyLog({ dir, key })).ok).toBe(true)
    }
  })

  test('a changed value is found at its place', async () => {
    const report = await tampered((dir) =>
      edit(segments(dir)[2] as string, (text) => text.replace('"decision":"allow"', '"decision":"denyy"')),
    )
    const file = path.relative(original, segments(original)[2] as string)
    const first = Number.parseInt(path.basename(file), 10)
    expect(report.problems).toEqual([
      { what: 'the event was altered: its hash is not the signed one', file, line: 1, index: first, byte: 0 },
    ])
  })

  test('a changed value with its hash changed to match', async () => {
    const report = await tampered((dir) => {
      edit(segments(dir)[0] as string, (text) => text.replace('"decision":"allow"', '"decision":"denyy"'))
      fs.rmSync(path.join(dir, 'tree'), { recursive: true })
    })
    expect(whats(report)).toMatch(
      /^the events 1 to \d+ are not those that the checkpoint in line \d+ of the history was signed for$/,
    )
  })

  test('a changed hash beside a right event', async () => {
    const report = await tampered((dir) =>
      edit(path.join(dir, 'tree/0'), (text) => `${text.slice(0, 32 * 5)}x${text.slice(32 * 5 + 1)}`),
    )
    expect(report.problems).toMatchObject([{ what: expect.stringContaining('tree/0 was altered'), index: 5 }])
  })

  const edits: [name: string, change: (dir: string) => void, what: string | RegExp][] = [
    ['a line removed', (dir) => editLines(segments(dir)[1] as string, (lines) => lines.toSpliced(2, 1)), /expected the event evt_\w+_\d+, but it is evt_/],
    ['a line doubled', (dir) => editLines(segments(dir)[1] as string, ([one = '', ...lines]) => [one, one, ...lines]), /expected the event/],
    ['two lines swapped', (dir) => editLines(segments(dir)[1] as string, ([a = '', b = '', ...lines]) => [b, a, ...lines]), /expected the event/],
    ['a line added at the front', (dir) => editLines(segments(dir)[0] as string, (lines) => ['{}', ...lines]), 'but it is no event'],
    ['the last line removed', (dir) => editLines(segments(dir).at(-1) as string, (lines) => lines.slice(0, -1)), 'the log ends after'],
    ['the last line cut short', (dir) => edit(segments(dir).at(-1) as string, (text) => text.slice(0, -5)), 'the line is cut off'],
    ['the last segment removed', (dir) => fs.rmSync(segments(dir).at(-1) as string), 'were cut off'],
    ['a segment in the middle removed', (dir) => fs.rmSync(segments(dir)[1] as string), 'are missing before this segment'],
    ['the first segment removed', (dir) => fs.rmSync(segments(dir)[0] as string), 'no signed event says that retention removed them'],
    ['all segments removed', (dir) => fs.rmSync(path.join(dir, 'segments'), { recursive: true }), 'the log ends after 0 events'],
    ['a segment emptied', (dir) => fs.writeFileSync(segments(dir)[1] as string, ''), 'are missing before this segment'],
    ['a segment renamed', (dir) => fs.renameSync(segments(dir)[1] as string, path.join(dir, 'segments', '0000000000000003.jsonl')), 'comes next'],
    ['an endless line', (dir) => fs.appendFileSync(segments(dir)[1] as string, 'x'.repeat(3_000_000)), 'longer than any may be'],
    ['an upper hash changed', (dir) => fs.writeFileSync(path.join(dir, 'tree/8'), Buffer.alloc(32)), /^$/],
    ['no checkpoint', (dir) => fs.rmSync(path.join(dir, 'checkpoint')), 'there is no checkpoint'],
    ['an empty checkpoint', (dir) => fs.writeFileSync(path.join(dir, 'checkpoint'), ''), "the checkpoint can't be used"],
  ] // prettier-ignore
  test.each(edits)('%s', async (_name, change, what) => {
    const report = await tampered(change)
    expect(whats(report)).toMatch(what)
    expect(report.ok).toBe(whats(report) === '') // The upper hash belongs to no full subtree of so small a log.
  })
})

describe('promise 8: a shortened log is detected', () => {
  test('cut after any event, whatever else is cut with it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 43 }), fc.boolean(), async (keep, cutHashes) => {
        const report = await tampered((dir) => {
          for (const file of segments(dir)) {
            const first = Number.parseInt(path.basename(file), 10)
            if (first >= keep && first > 0) fs.rmSync(file)
            else editLines(file, (lines) => lines.slice(0, keep - first))
          }
          if (cutHashes) fs.truncateSync(path.join(dir, 'tree/0'), keep * 32)
        })
        expect(report.ok).toBe(false)
        expect(whats(report)).toContain('were cut off')
      }),
      { numRuns: 40 },
    )
  })

  test('put back to an older copy: every file is right, but a newer checkpoint is known', async () => {
    const old = path.join(root, 'old')
    const newer = fs.readFileSync(path.join(original, 'checkpoint'), 'utf8')
    expect((await verifyLog({ dir: old, key })).ok).toBe(true)
    const report = await verifyLog({ dir: old, key, since: [{ name: 'the kept checkpoint', note: newer }] })
    expect(report.ok).toBe(false)
    expect(whats(report)).toContain('put back to an older copy')
  })

  test('begun anew with the same key: an older checkpoint no longer fits', async () => {
    const dir = path.join(root, 'anew')
    await record(dir, path.join(root, 'audit.key'), 100, 140)
    expect((await verifyLog({ dir, key })).ok).toBe(true)
    const report = await verifyLog({ dir, key, since: [{ name: 'the kept checkpoint', note: older }] })
    expect(whats(report)).toContain('are not those that the kept checkpoint was signed for')
  })
})

describe('keys', () => {
  test('another key', async () => {
    const report = await tampered(() => undefined, { key: otherKey })
    expect(report.ok).toBe(false)
    expect(whats(report)).toContain('not signed by')
  })

  test('a log that another key signed, whole and right in itself', async () => {
    const report = await verifyLog({ dir: path.join(root, 'other'), key })
    expect(report.ok).toBe(false)
  })

  test('a checkpoint of another log by its side', async () => {
    const report = await tampered((dir) =>
      fs.copyFileSync(path.join(root, 'other', 'checkpoint'), path.join(dir, 'checkpoint')),
    )
    expect(whats(report)).toContain('not signed by')
  })
})

test('promise 7: what no checkpoint covers is said to be unproven', async () => {
  const name = key.name.slice(key.name.lastIndexOf('/') + 1)
  const report = await tampered((dir) =>
    fs.appendFileSync(segments(dir).at(-1) as string, `{"at":1,"id":"evt_${name}_44","type":"a"}\n{"half`),
  )
  expect(report).toMatchObject({ ok: true, signed: 44, unsigned: 1 })
  expect(report.notes.join()).toMatch(
    /6 bytes of a line that was not finished.*1 events after the newest checkpoint are not signed/,
  )
})
