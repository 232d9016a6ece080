import { createServer } from 'node:http'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A request as an upstream saw it. */
export interface Seen {
  readonly method: string
  readonly params: Record<string, unknown>
  readonly headers: IncomingHttpHeaders
  readonly id: unknown
  /** Aborts when the connection closed before it was answered. */
  readonly left: AbortSignal
  readonly res: ServerResponse
}

export interface ScriptedUpstream {
  readonly url: string
  readonly seen: Seen[]
  /** Those that are calls of tools. */
  readonly calls: () => Seen[]
  tools: Record<string, unknown>[]
  /** Answers a call of a tool. Undefined: it was answered on `res`. */
  onCall: (seen: Seen) => unknown
  /** Answers anything else. */
  on: Record<string, (seen: Seen) => unknown>
  /** Sends a notification on every stream that listens. */
  notify(method: string, params?: object): void
  close(): Promise<void>
}

export const text = (value: string): object => ({ content: [{ type: 'text', text: value }] })

/** A server of 2026-07-28 whose answers a test writes. It offers the tools `echo` and `act`, a resource and a prompt. */
export async function scriptedUpstream(): Promise<ScriptedUpstream> {
  const listeners = new Map<ServerResponse, unknown>()
  const tool = (name: string) => ({
    name,
    description: `The tool ${name}`,
    inputSchema: {
      type: 'object',
      properties: { text: { type: 'string' } },
      required: ['text'],
      additionalProperties: false,
    },
  })

  const upstream: Omit<ScriptedUpstream, 'url' | 'close'> = {
    seen: [],
    calls: () => upstream.seen.filter(({ method }) => method === 'tools/call'),
    tools: [tool('echo'), tool('act')],
    onCall: ({ params }) => text(`echo: ${(params['arguments'] as { text: string }).text}`),
    on: {
      'resources/list': () => ({ resources: [{ uri: 'test://one', name: 'one' }] }),
      'resources/templates/list': () => ({ resourceTemplates: [{ uriTemplate: 'test://{id}', name: 'any' }] }),
      'resources/read': ({ params }) => ({
        contents: [{ uri: params['uri'], text: `content of ${String(params['uri'])}` }],
      }),
      'prompts/list': () => ({ prompts: [{ name: 'greet', arguments: [{ name: 'who' }] }] }),
      'prompts/get': ({ params }) => ({
        messages: [{ role: 'user', content: { type: 'text', text: JSON.stringify(params['arguments']) } }],
      }),
      'completion/complete': () => ({ completion: { values: ['ann', 'anna'] } }),
    },
    notify(method, params = {}) {
      for (const [res, id] of listeners) {
        const stamped = { ...params, _meta: { 'io.modelcontextprotocol/subscriptionId': id } }
        res.write(`event: message\ndata: ${JSON.stringify({ jsonrpc: '2.0', method, params: stamped })}\n\n`)
      }
    },
  }

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk as Buffer)
    const message = JSON.parse(Buffer.concat(chunks).toString()) as {
      id: unknown
      method: string
      params: Record<string, unknown>
    }
    const { id, method, params } = message
    const left = new AbortController()
    res.once('close', () => res.writableEnded || left.abort())
    const seen: Seen = { method, params, headers: req.headers, id, left: left.signal, res }
    upstream.seen.push(seen)
    if (method === 'subscriptions/listen') {
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      res.write(
        `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged', params: {} })}\n\n`,
      )
      listeners.set(res, id)
      res.once('close', () => listeners.delete(res))
      return
    }
    const capabilities = { tools: {}, resources: {}, prompts: {}, completions: {} }
    const result =
      method === 'server/discover'
        ? { supportedVersions: ['2026-07-28'], capabilities }
        : method === 'tools/list'
          ? { tools: upstream.tools }
          : method === 'tools/call'
            ? await upstream.onCall(seen)
            : await upstream.on[method]?.(seen)
    if (result === undefined) return
    const isError = typeof result === 'object' && result !== null && 'code' in result
    const body = isError ? { error: result } : { result: { resultType: 'complete', ...(result as object) } }
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id, ...body }))
  }

  const server = createServer((req, res) => void answer(req, res).catch(() => res.destroy()))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  return Object.assign(upstream, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`, close })
}
