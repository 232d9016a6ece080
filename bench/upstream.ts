// The server behind the gateway in the benchmarks: MCP 2026-07-28 with nothing to spare, so that what is measured is not
// it. `node bench/upstream.ts` serves one client over stdio; as a part of a benchmark it serves HTTP.
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { answerQuestions } from './parts.ts'

interface Asked {
  readonly id?: string | number
  readonly method: string
  readonly params?: { readonly arguments?: { readonly ticket?: number } }
}

const tool = (name: string) => ({
  name,
  description: 'Reads a ticket.',
  inputSchema: {
    type: 'object',
    properties: { ticket: { type: 'integer', minimum: 0 }, note: { type: 'string', maxLength: 2000 } },
    required: ['ticket'],
    additionalProperties: false,
  },
})
const body = 'The parcel did not come, and the page says that it was delivered on Tuesday. '.repeat(7)

function resultOf({ method, params }: Asked): object | undefined {
  switch (method) {
    case 'server/discover':
      return { resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities: { tools: {} } }
    case 'tools/list':
      return {
        resultType: 'complete',
        ttlMs: 0,
        cacheScope: 'private',
        tools: ['read_ticket', 'delete_ticket', 'hidden'].map(tool),
      }
    case 'tools/call':
      return {
        resultType: 'complete',
        content: [{ type: 'text', text: `Ticket ${params?.arguments?.ticket}: ${body}` }],
      }
    default:
      return undefined
  }
}

function answer(text: string): string | undefined {
  const asked = JSON.parse(text) as Asked
  if (asked.id === undefined) return undefined
  const result = resultOf(asked)
  const rest = result === undefined ? { error: { code: -32601, message: 'there is no such method' } } : { result }
  return JSON.stringify({ jsonrpc: '2.0', id: asked.id, ...rest })
}

if (process.send === undefined) {
  createInterface({ input: process.stdin }).on('line', (line) => {
    const text = answer(line)
    if (text !== undefined) process.stdout.write(`${text}\n`)
  })
} else {
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const text = request.method === 'POST' ? answer(Buffer.concat(chunks).toString()) : undefined
      if (text === undefined) return void response.writeHead(405).end()
      response
        .writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
        .end(text)
    })
  })
  server.keepAliveTimeout = 60_000
  const listening = new Promise<string>((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`))
  })
  answerQuestions(() => listening)
}
