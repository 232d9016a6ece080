/**
 * A small MCP server over stdio. It offers the tools of the file that is its first argument, as they stand there at that
 * moment, writes each call of one as a line of JSON to its second, and answers with what the file has for
 * `arguments.answer`.
 */
import fs from 'node:fs'
import { Server } from '@modelcontextprotocol/sdk/server/index.js'
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js'
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import type { CallToolResult, Tool } from '@modelcontextprotocol/sdk/types.js'

/** What the file holds. */
export interface Offered {
  readonly tools: readonly Tool[]
  readonly answers: Readonly<Record<string, CallToolResult['content']>>
}

const [offered = '', called = ''] = process.argv.slice(2)
const read = (): Offered => JSON.parse(fs.readFileSync(offered, 'utf8')) as Offered

const server = new Server({ name: 'egress-bench', version: '1.0.0' }, { capabilities: { tools: {} } })
server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [...read().tools] }))
server.setRequestHandler(CallToolRequestSchema, ({ params: { name, arguments: args } }) => {
  fs.appendFileSync(called, `${JSON.stringify({ name, arguments: args })}\n`)
  return { content: read().answers[String(args?.['answer'])] ?? [{ type: 'text', text: 'done' }] }
})
await server.connect(new StdioServerTransport())
