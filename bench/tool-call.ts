// What a tool call costs through the gateway, with every decision durable before the act, beside the same call made
// directly: same client, same server, same run, taking turns. Over Streamable HTTP and over stdio.
// `node bench/tool-call.ts [--rounds 7] [--calls 3000] [--ms 1500] [--in-flight 64]`;
// `--prof <folder>` writes a CPU profile of the gateway there.
import fs from 'node:fs'
import path from 'node:path'
import type { Load, Measured } from './client.ts'
import type { Usage } from './gateway.ts'
import { flag, inFolder, machine, median, startPart, syncsPerSecond } from './parts.ts'
import { startGateway } from './start.ts'

const rounds = flag('rounds', 7)
const most = { calls: flag('calls', 3_000), milliseconds: flag('ms', 1_500) }
const profiles = process.argv.includes('--prof') ? process.argv[process.argv.indexOf('--prof') + 1] : undefined
const widths = process.argv.includes('--in-flight') ? [flag('in-flight', 1)] : [1, 8, 64]
const command = [process.execPath, path.join(import.meta.dirname, 'upstream.ts')]

interface Way {
  readonly name: string
  readonly target: Load['target']
  readonly tool: string
  readonly isGuarded: boolean
}

interface Round extends Measured {
  /** Processor time of the gateway for one call, in microseconds. */
  readonly cpu: number
}

await inFolder(async (folder) => {
  const server = startPart('upstream.ts')
  const url = await server.ask<string>({})
  const gateway = await startGateway({
    folder,
    execArgv: profiles === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', profiles, '--cpu-prof-interval', '200'],
    resources: { web: { url }, pipe: { command } },
    reader: ['web:read_ticket', 'pipe:read_ticket'],
  })
  const client = startPart('client.ts')
  const { token } = await gateway.session('reader')
  const guarded = { url: gateway.url, token }
  const ways: readonly Way[] = [
    { name: 'HTTP, direct', target: { url }, tool: 'read_ticket', isGuarded: false },
    { name: 'HTTP, gateway', target: guarded, tool: 'web__read_ticket', isGuarded: true },
    { name: 'stdio, direct', target: { command }, tool: 'read_ticket', isGuarded: false },
    { name: 'stdio, gateway', target: guarded, tool: 'pipe__read_ticket', isGuarded: true },
  ]

  async function measure({ target, tool, isGuarded }: Way, inFlight: number, bounds = most): Promise<Round> {
    const before = isGuarded ? await gateway.usage() : undefined
    const load: Load = { target, tools: [tool], inFlight, expect: 'ticket', ...bounds }
    const measured = await client.ask<Measured>(load)
    const after: Usage | undefined = isGuarded ? await gateway.usage() : undefined
    const used = before === undefined || after === undefined ? Number.NaN : after.cpu - before.cpu
    return { ...measured, cpu: (used / (measured.calls + inFlight)) * 1e6 }
  }

  const measured = new Map<string, Round[]>()
  const syncs: number[] = []
  for (const way of ways) await measure(way, 8, { calls: 500, milliseconds: 5_000 })
  for (let round = 0; round < rounds; round++) {
    syncs.push(syncsPerSecond(folder))
    for (const inFlight of widths)
      for (const way of ways) {
        const key = `${way.name}, ${inFlight}`
        measured.set(key, [...(measured.get(key) ?? []), await measure(way, inFlight)])
      }
  }
  await client.end()
  await gateway.end()
  await server.end()

  const rows = widths.flatMap((inFlight) =>
    ways.map(({ name, isGuarded }) => {
      const own = measured.get(`${name}, ${inFlight}`)!
      const direct = measured.get(`${name.replace('gateway', 'direct')}, ${inFlight}`)!
      const of = (pick: (each: Round, at: number) => number): number => median(own.map(pick))
      return {
        way: name,
        'in flight': inFlight,
        'calls/s': Math.round(of(({ calls, seconds }) => calls / seconds)),
        'p50 ms': of(({ p50 }) => p50).toFixed(2),
        'p99 ms': of(({ p99 }) => p99).toFixed(2),
        ...(isGuarded
          ? {
              'added p50 ms': of(({ p50 }, at) => p50 - direct[at]!.p50).toFixed(2),
              'of direct calls/s': `${Math.round(of(({ calls, seconds }, at) => calls / seconds / (direct[at]!.calls / direct[at]!.seconds)) * 100)} %`,
              'gateway CPU µs/call': Math.round(of(({ cpu }) => cpu)),
            }
          : {}),
      }
    }),
  )
  console.log(machine())
  console.log(
    `medians of ${rounds} rounds that took turns; the disk made 600 bytes durable ${Math.round(median(syncs))} times a second ` +
      `(${Math.round(Math.min(...syncs))} to ${Math.round(Math.max(...syncs))}) in the same minutes`,
  )
  console.table(rows)
  if (profiles !== undefined) console.log(fs.readdirSync(profiles).join('\n'))
})
