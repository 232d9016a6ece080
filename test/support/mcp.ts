/** The modern protocol by hand: what is sent is what the test says, and what came back is seen whole. */
export interface Received {
  readonly status: number
  readonly headers: Headers
  /** The body as it came. */
  readonly text: string
  /** The messages of it, in order: one where it was JSON. */
  readonly messages: Message[]
  /** The last message, which is the answer. */
  readonly answer: Message
}

/** Whatever form a test expects: what is not there is undefined. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Loose = Record<string, any>

export interface Message {
  readonly id?: unknown
  readonly method?: string
  readonly params?: Record<string, unknown>
  readonly result?: Loose
  readonly error?: { readonly code: number; readonly message: string; readonly data?: unknown }
}

export interface Asking {
  readonly capabilities?: object
  readonly meta?: object
  readonly headers?: Readonly<Record<string, string | undefined>>
  readonly id?: unknown
  readonly signal?: AbortSignal
  /** Told each message as it comes. */
  readonly onMessage?: (message: Message) => void
}

const prefix = 'io.modelcontextprotocol'

export async function ask(
  at: { readonly url: string; readonly token: string },
  method: string,
  params: Record<string, unknown> = {},
  asking: Asking = {},
): Promise<Received> {
  const { capabilities = {}, meta = {}, headers = {}, id = 1, signal, onMessage } = asking
  const name = params['name'] ?? params['uri']
  const body = {
    jsonrpc: '2.0',
    id,
    method,
    params: {
      ...params,
      _meta: { [`${prefix}/protocolVersion`]: '2026-07-28', [`${prefix}/clientCapabilities`]: capabilities, ...meta },
    },
  }
  const standard: Record<string, string | undefined> = {
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': method,
    ...(typeof name === 'string' && method !== 'completion/complete' ? { 'mcp-name': name } : {}),
    ...headers,
  }
  return send(at, JSON.stringify(body), standard, { signal, onMessage })
}

export async function send(
  { url, token }: { readonly url: string; readonly token: string },
  body: string | Uint8Array | undefined,
  headers: Readonly<Record<string, string | undefined>> = {},
  {
    signal,
    onMessage,
    method = 'POST',
  }: { signal?: AbortSignal | undefined; onMessage?: ((message: Message) => void) | undefined; method?: string } = {},
): Promise<Received> {
  const all = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    ...headers,
  }
  const given = Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined)
  const response = await fetch(url, {
    method,
    headers: given,
    ...(body === undefined ? {} : { body: body as string }),
    ...(signal === undefined ? {} : { signal }),
  })
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') ?? false
  let text = ''
  const messages: Message[] = []
  let at = 0
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk
    if (!isStream) continue
    for (let end = text.indexOf('\n\n', at); end >= 0; end = text.indexOf('\n\n', at)) {
      const data = /^data: (.*)$/m.exec(text.slice(at, end))?.[1]
      at = end + 2
      if (data === undefined) continue
      const message = JSON.parse(data) as Message
      messages.push(message)
      onMessage?.(message)
    }
  }
  if (!isStream && text.startsWith('{')) messages.push(JSON.parse(text) as Message)
  return { status: response.status, headers: response.headers, text, messages, answer: messages.at(-1) ?? {} }
}

/** The legacy protocol by hand: a session that was begun. */
export async function initialize(
  at: { readonly url: string; readonly token: string },
  capabilities: object = {},
  version = '2025-11-25',
) {
  const params = { protocolVersion: version, capabilities, clientInfo: { name: 'test', version: '1' } }
  const hello = await send(at, JSON.stringify({ jsonrpc: '2.0', id: 0, method: 'initialize', params }))
  const session = hello.headers.get('mcp-session-id') ?? ''
  let serial = 0
  return {
    session,
    hello,
    request: (
      method: string,
      params: object = {},
      more: { id?: unknown; token?: string; signal?: AbortSignal; onMessage?: (message: Message) => void } = {},
    ) =>
      send(
        { ...at, ...(more.token === undefined ? {} : { token: more.token }) },
        JSON.stringify({ jsonrpc: '2.0', id: more.id ?? ++serial, method, params }),
        { 'mcp-session-id': session },
        more,
      ),
    tell: (message: object) => send(at, JSON.stringify({ jsonrpc: '2.0', ...message }), { 'mcp-session-id': session }),
  }
}
