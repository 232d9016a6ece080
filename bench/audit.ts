// Appends to the audit log per second, acknowledged only when they are on the disk and under a signed checkpoint, with 1,
// 8 and 64 callers that wait; beside what the disk itself makes durable. `node bench/audit.ts [--rounds 5] [--ms 1500]`
import path from 'node:path'
import type { NewEvent } from '../src/core/audit.ts'
import { openAuditLog } from '../src/stores/audit/log.ts'
import { flag, inFolder, machine, median, syncsPerSecond } from './parts.ts'

const rounds = flag('rounds', 5)
const time = flag('ms', 1_500)
const widths = [1, 8, 64]

const event = (at: number): NewEvent => ({
  type: 'decision',
  at,
  session: 'ses_0123456789abcdefghjk',
  agent: 'reader',
  chain: [{ session: 'ses_0123456789abcdefghjk', agent: 'reader', behalf: 'person:anna' }],
  permission: 'helpdesk:read_ticket',
  effect: 'read',
  via: 'mcp',
  decision: 'allow',
  rules: ['agents.reader.may[0]'],
  because: 'allowed',
  policy: 'a'.repeat(64),
  args: { ticket: 4711, note: 'looked up for the desk' },
  argsDigest: 'b'.repeat(64),
  flow: { trust: 'untrusted', readers: 'internal' },
  checks: { ran: ['arguments', 'grants', 'limits', 'policy'] },
})

await inFolder(async (folder) => {
  const log = await openAuditLog({ dir: path.join(folder, 'audit'), keyFile: path.join(folder, 'audit.key') })
  const found = new Map<number, { rate: number; p50: number; p99: number; cpu: number }[]>()
  const syncs: number[] = []

  async function measure(callers: number): Promise<void> {
    const times: number[] = []
    const cpu = process.cpuUsage()
    const started = performance.now()
    const caller = async (): Promise<void> => {
      while (performance.now() - started < time) {
        const before = performance.now()
        await log.append(event(Date.now())).done
        times.push(performance.now() - before)
      }
    }
    await Promise.all(Array.from({ length: callers }, caller))
    const seconds = (performance.now() - started) / 1000
    const { user, system } = process.cpuUsage(cpu)
    times.sort((a, b) => a - b)
    const at = (part: number): number => times[Math.floor((times.length - 1) * part)]!
    found.set(callers, [
      ...(found.get(callers) ?? []),
      { rate: times.length / seconds, p50: at(0.5), p99: at(0.99), cpu: (user + system) / times.length },
    ])
  }

  for (let round = 0; round < rounds; round++) {
    syncs.push(syncsPerSecond(folder))
    for (const callers of widths) await measure(callers)
  }
  await log.close()

  console.log(machine())
  console.log(
    `medians of ${rounds} rounds; the disk itself made 600 bytes durable ${Math.round(median(syncs))} times a second`,
  )
  console.table(
    [...found].map(([waiting, measured]) => ({
      waiting,
      'appends/s': Math.round(median(measured.map(({ rate }) => rate))),
      'p50 ms': median(measured.map(({ p50 }) => p50)).toFixed(2),
      'p99 ms': median(measured.map(({ p99 }) => p99)).toFixed(2),
      'CPU µs/append': Math.round(median(measured.map(({ cpu }) => cpu))),
    })),
  )
})
