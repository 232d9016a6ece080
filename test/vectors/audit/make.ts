/**
 * Makes the logs in this folder anew: `node test/vectors/audit/make.ts <folder>`. They come out the same every time: the
 * clock stands still and the key is the first of RFC 8032 §7.1, which everybody knows. It signs nothing else.
 */
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { formatPrivateKey, keyId } from '../../../src/core/checkpoint.ts'
import { openAuditLog } from '../../../src/stores/audit/log.ts'

const folder = path.resolve(process.argv[2] ?? import.meta.dirname)
const keyFile = path.join(folder, 'audit.key')
const name = 'sallyport.audit/vectors'
const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest()
const seed = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex')
const publicKey = Buffer.from('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a', 'hex')
fs.writeFileSync(keyFile, formatPrivateKey({ name, keyId: keyId(sha256, name, publicKey), key: seed.toString('base64') }), { mode: 0o600 })

const day = 86_400_000
const begin = Date.UTC(2026, 10, 21, 12)
let now = begin

async function record(dir: string, from: number, to: number): Promise<void> {
  const log = await openAuditLog({ dir, keyFile, clock: () => now, segmentBytes: 12_000 })
  for (let number = from; number < to; number += 1) {
    now += 1000
    await log.append({
      type: number % 2 === 0 ? 'decision' : 'action.done',
      at: now,
      session: `ses_${number % 4}`,
      agent: 'reader',
      permission: 'helpdesk.tickets:select',
      ...(number % 2 === 0 ? { decision: number % 8 === 0 ? 'deny' : 'allow' } : { of: `evt_vectors_${number}` }),
      ...(number === 3 ? { note: 'Ünïcödé \u20ac 👍 "quoted" \\ \u0007 \u2028', numbers: [0, -1.5, 1e21, 1e-7, 333333333.3333333] } : {}),
    }).done
  }
  await log.close()
  for (const file of ['index.db', 'index.db-wal', 'index.db-shm', 'lock', 'owner']) fs.rmSync(path.join(dir, file), { force: true })
}

for (const dir of ['log', 'retained']) fs.rmSync(path.join(folder, dir), { recursive: true, force: true })
await record(path.join(folder, 'log'), 0, 300)
now = begin
await record(path.join(folder, 'retained'), 0, 150)
now += 200 * day
await record(path.join(folder, 'retained'), 150, 160)
const [origin, size, root, empty, signature] = fs.readFileSync(path.join(folder, 'log', 'checkpoints'), 'utf8').split('\n', 10).slice(5)
fs.writeFileSync(path.join(folder, 'older-checkpoint'), `${[origin, size, root, empty, signature].join('\n')}\n`)
fs.rmSync(keyFile)
