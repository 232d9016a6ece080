// The client of the benchmarks: plain JSON-RPC as of MCP 2026-07-28, over HTTP with kept connections or over the pipes of
// a program, so many calls in flight at once, until there were so many or the time is over.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { Pool } from 'undici'
import { answerQuestions } from './parts.ts'

export interface Load {
  /** Address of a server, or the command of one. */
  readonly target: { readonly url: string; readonly token?: string } | { readonly command: readonly string[] }
  /** Names of the tools to call, in turn. */
  readonly tools: readonly string[]
  readonly inFlight: number
  /** It ends with the first of the two. */
  readonly calls: number
  readonly milliseconds: number
  /** What an answer has to be; anything else ends the run. */
  readonly expect: 'ticket' | 'any'
}

export interface Measured {
  readonly calls: number
  readonly seconds: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  readonly mean: number
}

interface Connection {
  call(message: { readonly id: number; readonly params: { readonly name: string } }): Promise<string>
  close(): Promise<void>
}

const _meta = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}
let serial = 0

function overHttp(address: string, token: string | undefined, connections: number): Connection {
  const url = new URL(address)
  const pool = new Pool(url.origin, { connections, pipelining: 1 })
  const common = {
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'tools/call',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  }
  return {
    async call(message) {
      const headers = { ...common, 'mcp-name': message.params.name }
      const { statusCode, body } = await pool.request({
        method: 'POST',
        path: url.pathname,
        headers,
        body: JSON.stringify(message),
      })
      const text = await body.text()
      if (statusCode !== 200) throw new Error(`HTTP ${statusCode}: ${text.slice(0, 300)}`)
      return text
    },
    close: () => pool.destroy(),
  }
}

function overPipes([program = '', ...args]: readonly string[]): Connection {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const waiting = new Map<number, (text: string) => void>()
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id } = JSON.parse(line) as { id: number }
    waiting.get(id)?.(line)
    waiting.delete(id)
  })
  return {
    call: (message) =>
      new Promise((resolve) => {
        waiting.set(message.id, resolve)
        child.stdin.write(`${JSON.stringify(message)}\n`)
      }),
    close: () =>
      new Promise((resolve) => {
        child.once('exit', () => resolve())
        child.stdin.end()
      }),
  }
}

async function run({ target, tools, inFlight, calls, milliseconds, expect }: Load): Promise<Measured> {
  const connection = 'url' in target ? overHttp(target.url, target.token, inFlight) : overPipes(target.command)
  const times = new Float64Array(calls)
  let [sent, done] = [0, 0]

  async function one(at: number): Promise<number> {
    const id = ++serial
    const params = { name: tools[at % tools.length]!, arguments: { ticket: id, note: 'looked up for the desk' }, _meta }
    const before = performance.now()
    const text = await connection.call({ jsonrpc: '2.0', id, method: 'tools/call', params } as never)
    const took = performance.now() - before
    if (expect === 'ticket' && !text.includes(`Ticket ${id}:`)) throw new Error(`not the answer: ${text.slice(0, 500)}`)
    return took
  }

  // Every connection is there, and every path of it compiled, before time is taken.
  await Promise.all(Array.from({ length: inFlight }, (_, at) => one(at)))
  const started = performance.now()
  async function worker(): Promise<void> {
    while (sent < calls && performance.now() - started < milliseconds) {
      const at = sent++
      const took = await one(at)
      times[done++] = took
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  const seconds = (performance.now() - started) / 1000
  await connection.close()
  const sorted = times.subarray(0, done).sort()
  const at = (part: number): number => sorted[Math.floor((done - 1) * part)] ?? Number.NaN
  return { calls: done, seconds, p50: at(0.5), p99: at(0.99), mean: sorted.reduce((sum, each) => sum + each, 0) / done }
}

answerQuestions((load: Load) => run(load))
