import { spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { listSegments, parseLine, readLines } from './folder.ts'
import { publicKeyFile, readPublicKey } from './key.ts'
import { openAuditLog } from './log.ts'
import { verifyLog } from './verify.ts'

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-crash-'))
afterEach(() => fs.rmSync(root, { recursive: true, force: true }))

/** Lets a process append for a moment after its first acknowledgement, kills it, and returns what it had told. */
async function killed(dir: string, keyFile: string, afterMs: number): Promise<string[]> {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'crash.fixture.ts'), dir, keyFile], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  let errors = ''
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()))
  child.stdout.on('data', (data: Buffer) => {
    if (out === '') setTimeout(() => child.kill('SIGKILL'), afterMs)
    out += data.toString()
  })
  await new Promise((resolve) => child.on('close', resolve))
  expect(child.signalCode, errors).toBe('SIGKILL')
  return out.split('\n').slice(0, -1)
}

test('promise 8: whenever the process is killed, every acknowledged event is there, signed, and the log goes on', async () => {
  const [dir, keyFile] = [path.join(root, 'audit'), path.join(root, 'audit.key')]
  const acknowledged: string[] = []
  for (let round = 0; round < 20; round += 1) {
    const told = await killed(dir, keyFile, (round * 7) % 50)
    expect(told.length).toBeGreaterThan(0)
    acknowledged.push(...told.map((line) => line.split(' ')[1] as string))

    // As it was left, before anything has put it in order.
    const report = await verifyLog({ dir, key: readPublicKey(publicKeyFile(keyFile)) })
    expect(report.problems).toEqual([])
    const indexes = told.filter((line) => line.startsWith('durable')).map((line) => Number(line.split('_').at(-1)))
    expect(report.signed).toBeGreaterThan(Math.max(...indexes))
  }
  const there = new Set<string>()
  for (const segment of await listSegments(dir))
    for await (const lines of readLines(segment)) for (const { bytes } of lines) there.add(parseLine(bytes)?.id ?? '')
  expect(acknowledged.filter((id) => !there.has(id))).toEqual([])

  const log = await openAuditLog({ dir, keyFile })
  expect(log.health().state).toBe('ok')
  await log.close()
  expect(await verifyLog({ dir, key: readPublicKey(publicKeyFile(keyFile)) })).toMatchObject({
    ok: true,
    unsigned: 0,
    notes: [],
  })
}, 120_000)
