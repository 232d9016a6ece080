import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readPublicKey } from '../../src/stores/audit/key.ts'
import { verifyLog } from '../../src/stores/audit/verify.ts'

/** One thing done to a copy of a log; `cases.json` is for verifiers in any language. */
interface Edit {
  readonly file?: string
  readonly replace?: string
  readonly with?: string
  readonly append?: string
  readonly byte?: number
  readonly xor?: number
  readonly removeLine?: number
  readonly doubleLine?: number
  readonly swapLines?: readonly [number, number]
  readonly truncateBy?: number
  readonly truncateTo?: number
  readonly remove?: string
  readonly copy?: string
  readonly to?: string
}

interface Case {
  readonly name: string
  readonly log: string
  readonly edits: readonly Edit[]
  readonly ok: boolean
  readonly key?: string
  readonly since?: string
  readonly index?: number
  readonly unsigned?: number
}

const vectors = path.join(import.meta.dirname, 'audit')
const { cases, logs, key } = JSON.parse(fs.readFileSync(path.join(vectors, 'cases.json'), 'utf8')) as {
  readonly key: string
  readonly logs: Readonly<Record<string, { signed: number; events: number; removed?: number }>>
  readonly cases: readonly Case[]
}
const root = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-vectors-'))
afterAll(() => fs.rmSync(root, { recursive: true, force: true }))
const hasPython = spawnSync('python3', ['--version']).status === 0

function apply(dir: string, edit: Edit): void {
  if (edit.remove !== undefined) return fs.rmSync(path.join(dir, edit.remove), { recursive: true })
  if (edit.copy !== undefined) return fs.copyFileSync(path.join(vectors, edit.copy), path.join(dir, edit.to ?? ''))
  const file = path.join(dir, edit.file ?? '')
  const before = fs.readFileSync(file)
  fs.writeFileSync(file, edited(before, edit))
  expect(fs.readFileSync(file).equals(before), 'the edit changes something').toBe(false)
}

function edited(bytes: Buffer, edit: Edit): Buffer {
  const text = bytes.toString('latin1')
  const lines = text.split('\n').slice(0, -1)
  const joined = (changed: string[]): Buffer => Buffer.from(changed.map((line) => `${line}\n`).join(''), 'latin1')
  if (edit.replace !== undefined) return Buffer.from(text.replace(edit.replace, edit.with ?? ''), 'latin1')
  if (edit.append !== undefined) return Buffer.concat([bytes, Buffer.from(edit.append)])
  if (edit.byte !== undefined) return bytes.map((byte, at) => (at === edit.byte ? byte ^ (edit.xor ?? 0) : byte)) as Buffer
  if (edit.removeLine !== undefined) return joined(lines.toSpliced(edit.removeLine - 1, 1))
  if (edit.doubleLine !== undefined) return joined(lines.toSpliced(edit.doubleLine, 0, lines[edit.doubleLine - 1] as string))
  if (edit.swapLines !== undefined) {
    const [a, b] = edit.swapLines
    return joined(lines.with(a - 1, lines[b - 1] as string).with(b - 1, lines[a - 1] as string))
  }
  if (edit.truncateBy !== undefined) return bytes.subarray(0, bytes.length - edit.truncateBy)
  return bytes.subarray(0, edit.truncateTo)
}

describe('promise 8: the vectors of the audit format', () => {
  test.each(cases.map((one): [string, Case] => [one.name, one]))('%s', async (_name, one) => {
    const dir = fs.mkdtempSync(path.join(root, 'log-'))
    fs.cpSync(path.join(vectors, one.log), dir, { recursive: true })
    for (const edit of one.edits) apply(dir, edit)
    const keyFile = path.join(vectors, one.key ?? key)
    const kept = one.since === undefined ? [] : [path.join(vectors, one.since)]

    const since = kept.map((file) => ({ name: 'the kept checkpoint', note: fs.readFileSync(file, 'utf8') }))
    const report = await verifyLog({ dir, key: readPublicKey(keyFile), since })
    expect(report.ok, JSON.stringify(report.problems)).toBe(one.ok)
    if (one.edits.length === 0 && one.ok) expect(report).toMatchObject(logs[one.log] ?? {})
    if (one.unsigned !== undefined) expect(report.unsigned).toBe(one.unsigned)
    if (one.index !== undefined) expect(report.problems[0]?.index).toBe(one.index)

    // The verifier that was written from the format's description alone says the same.
    if (!hasPython) return
    const python = spawnSync('python3', [path.join(vectors, 'verify.py'), dir, keyFile, ...kept], { encoding: 'utf8' })
    expect(python.stderr).toBe('')
    expect([python.status, (JSON.parse(python.stdout) as { ok: boolean }).ok]).toEqual([one.ok ? 0 : 1, one.ok])
  })

  test.skipIf(!hasPython)('an independent verifier was asked, too (needs python3)', () => {
    const out = execFileSync('python3', [path.join(vectors, 'verify.py'), path.join(vectors, 'log'), path.join(vectors, key)], { encoding: 'utf8' })
    expect(JSON.parse(out)).toMatchObject({ ok: true, ...logs.log })
  })

  test('they are what the product writes, byte for byte', () => {
    const made = fs.mkdtempSync(path.join(root, 'made-'))
    execFileSync(process.execPath, [path.join(vectors, 'make.ts'), made])
    const files = fs
      .readdirSync(made, { recursive: true, encoding: 'utf8' })
      .filter((name) => fs.statSync(path.join(made, name)).isFile())
    const isSame = (name: string): boolean =>
      fs.readFileSync(path.join(made, name)).equals(fs.readFileSync(path.join(vectors, name)))
    expect(files.length).toBeGreaterThan(10)
    expect(files.filter((name) => !isSame(name))).toEqual([])
  })
})
