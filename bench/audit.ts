// How fast events are appended to the audit log, durable and signed, with 1, 8 and 64 callers waiting; beside them, in
// the same run, what the disk itself can do: one write and one fdatasync at a time, of lines as long.
// Each row is the median of the rounds. `node bench/audit.ts [seconds] [rounds] [folder]`

import { fdatasync, openSync, closeSync, mkdtempSync, rmSync, write } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import type { AuditLog, NewEvent, Wait } from '../src/core/audit.ts'
import { openAuditLog } from '../src/stores/audit/log.ts'

const seconds = Number(process.argv[2] ?? 2)
const rounds = Number(process.argv[3] ?? 5)
const root = mkdtempSync(path.join(process.argv[4] ?? os.tmpdir(), 'sallyport-bench-'))

interface Row {
  readonly what: string
  readonly 'each/s': number
  readonly 'p50 ms': number
  readonly 'p99 ms': number
  readonly 'CPU µs': number
}

const event = (): NewEvent => ({
  type: 'decision',
  at: Date.now(),
  session: 'ses_3kq9x2m7v5t1',
  agent: 'reader',
  permission: 'helpdesk.tickets:select',
  effect: 'read',
  decision: 'allow',
  rules: ['agents.reader.may[0]'],
  because: 'allowed by agents.reader.may[0]',
  policy: 'sha256:4f9c1d0a7be2',
  args: { customer_id: 42, fields: ['id', 'subject', 'body'], limit: 20 },
  argsDigest: 'sha256:0f343b0931126a20f133d67c2b018a3b1d6f4a2c5e8b9d7f6a1c3e5b7d9f0a2c',
  flow: { untrusted: false, private: false },
})

/** Calls something over and over, so many at a time, and says how often and how fast it came back. */
async function measure(what: string, callers: number, call: () => Promise<unknown>): Promise<Row> {
  const times: number[] = []
  const cpu = process.cpuUsage()
  const begin = performance.now()
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() - begin < seconds * 1000) {
        const started = performance.now()
        await call()
        times.push(performance.now() - started)
      }
    }),
  )
  const took = performance.now() - begin
  const { user, system } = process.cpuUsage(cpu)
  times.sort((a, b) => a - b)
  const at = (share: number): number => times[Math.floor(times.length * share)] ?? 0
  return {
    what,
    'each/s': Math.round((times.length / took) * 1000),
    'p50 ms': at(0.5),
    'p99 ms': at(0.99),
    'CPU µs': (user + system) / times.length,
  }
}

const append = (log: AuditLog, wait: Wait) => (): Promise<void> => log.append(event(), wait).done

async function round(log: AuditLog): Promise<Row[]> {
  const fd = openSync(path.join(root, 'raw'), 'a')
  const line = Buffer.alloc(JSON.stringify(event()).length)
  const [writeTo, sync] = [promisify(write), promisify(fdatasync)]
  const rows = [
    await measure('raw write + fdatasync', 1, async () => {
      await writeTo(fd, line)
      await sync(fd)
    }),
    await measure('durable, 1 waiting', 1, append(log, 'durable')),
    await measure('durable, 8 waiting', 8, append(log, 'durable')),
    await measure('durable, 64 waiting', 64, append(log, 'durable')),
    await measure('written, 64 waiting', 64, append(log, 'written')),
  ]
  closeSync(fd)
  return rows
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

const log = await openAuditLog({ dir: path.join(root, 'audit'), keyFile: path.join(root, 'audit.key') })
const all: Row[][] = []
for (let number = 0; number < rounds; number += 1) all.push(await round(log))
const rows = (all[0] ?? []).map(({ what }, position): Row => {
  const of = (column: Exclude<keyof Row, 'what'>, digits: number): number =>
    Number(median(all.map((one) => one[position]?.[column] ?? 0)).toFixed(digits))
  return {
    what,
    'each/s': of('each/s', 0),
    'p50 ms': of('p50 ms', 2),
    'p99 ms': of('p99 ms', 2),
    'CPU µs': of('CPU µs', 1),
  }
})
process.stdout.write(
  `Node ${process.version}, ${os.cpus().length} CPUs, ${rounds} rounds of ${seconds} s each, medians\n`,
)
console.table(rows)

const before = process.memoryUsage().rss
for (let number = 0; number < 100_000; number += 64)
  await Promise.all(Array.from({ length: 64 }, append(log, 'durable')))
const after = process.memoryUsage().rss
process.stdout.write(
  `memory: ${Math.round(before / 1e6)} MB before, ${Math.round(after / 1e6)} MB after 100,000 more appends; the log has ${log.health().size}\n`,
)
await log.close()
rmSync(root, { recursive: true })
