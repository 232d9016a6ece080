// What the gateway keeps after many calls: heap and resident memory, after a collection, every 10,000 calls. Most calls
// are done, some are refused (a tool that the agent may not use), some asked about (nobody answers), over sessions that
// come and go beside one that stays, over HTTP and stdio, with clients of the old protocol that leave without a word.
// `node bench/memory.ts [--calls 100000]`. Ends with exit code 1 if the heap grew by more than 8 MB after the first fifth.
import type { Load, Measured } from './client.ts'
import { flag, inFolder, machine, startPart } from './parts.ts'
import { startGateway } from './start.ts'
import path from 'node:path'

const calls = flag('calls', 100_000)
const ofSession = 1_000
const sessionsBetween = 10
const allowed = 8

/** Nine of twelve are done; one name is unknown, one tool is none of the agent's, one is asked about. */
const tools = [
  ...Array.from({ length: 5 }, () => 'web__read_ticket'),
  ...Array.from({ length: 4 }, () => 'pipe__read_ticket'),
  'web__nothing',
  'web__hidden',
  'web__delete_ticket',
]

interface Row {
  readonly calls: number
  readonly 'heap MB': string
  readonly 'external MB': string
  readonly 'resident MB': string
  readonly 'calls/s': number
}

await inFolder(async (folder) => {
  const server = startPart('upstream.ts')
  const gateway = await startGateway({
    folder,
    execArgv: ['--expose-gc'],
    resources: {
      web: { url: await server.ask<string>({}) },
      pipe: { command: [process.execPath, path.join(import.meta.dirname, 'upstream.ts')] },
    },
    reader: ['web:read_ticket', 'pipe:read_ticket'],
    asked: ['web:delete_ticket'],
  })
  const client = startPart('client.ts')
  const staying = await gateway.session('reader')
  const rows: Row[] = []
  const heaps: number[] = []

  /** A client of 2025-11-25 that begins, and is never heard of again. */
  async function beginLegacy(token: string): Promise<void> {
    const params = { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '1' } }
    const response = await fetch(gateway.url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        authorization: `Bearer ${token}`,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }),
    })
    if (!response.ok) throw new Error(`initialize: HTTP ${response.status}`)
    await response.text()
  }

  async function callAs(token: string): Promise<Measured> {
    await Promise.all(Array.from({ length: 8 }, () => beginLegacy(token)))
    const load: Load = {
      target: { url: gateway.url, token },
      tools,
      inFlight: 32,
      calls: ofSession,
      milliseconds: 600_000,
      expect: 'any',
    }
    return client.ask<Measured>(load)
  }

  async function look(done: number, rate: number): Promise<void> {
    // What is written behind (the index of the log, counters) gets the moment that it needs.
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    const { heap, external, rss } = await gateway.usage(true)
    heaps.push(heap)
    rows.push({
      calls: done,
      'heap MB': heap.toFixed(1),
      'external MB': external.toFixed(1),
      'resident MB': rss.toFixed(0),
      'calls/s': Math.round(rate),
    })
    console.log(`${done} calls: heap ${heap.toFixed(1)} MB, resident ${rss.toFixed(0)} MB`)
  }

  await look(0, 0)
  let done = 0
  let [since, seconds] = [0, 0]
  for (let round = 0; done < calls; round++) {
    const own = round % sessionsBetween === 0 ? staying : await gateway.session('reader')
    const measured = await callAs(own.token)
    if (own !== staying) await gateway.endSession(own.id)
    done += measured.calls
    since += measured.calls
    seconds += measured.seconds
    if (since < calls / 10) continue
    await look(done, since / seconds)
    since = seconds = 0
  }
  await client.end()
  await gateway.end()
  await server.end()

  console.log(machine())
  console.table(rows)
  const grew = heaps.at(-1)! - heaps[2]!
  console.log(
    `the heap ${grew >= 0 ? 'grew' : 'shrank'} by ${Math.abs(grew).toFixed(1)} MB from ${rows[2]!.calls} to ${done} calls`,
  )
  if (grew > allowed) process.exitCode = 1
})
