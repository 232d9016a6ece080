import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'

/** What became of a call, as its agent sees it. */
export type Outcome =
  | { readonly kind: 'done'; readonly text: string }
  /** By Sallyport. `event` is the one of the audit log, where the agent was told. */
  | { readonly kind: 'refused'; readonly text: string; readonly event?: string }
  | { readonly kind: 'pending'; readonly text: string; readonly approval: string }
  /** By the helpdesk: it got that far. */
  | { readonly kind: 'failed'; readonly text: string }

export interface CallOptions {
  readonly signal?: AbortSignal
  /** Told when the gateway says why it takes so long. */
  readonly onProgress?: (message: string) => void
}

/** A program with a token and an address: all that an agent has. A script stands where its model would choose. */
export interface Agent {
  readonly name: string
  readonly token: string
  /** The tools that there are for it. */
  readonly tools: readonly string[]
  call(tool: string, args: object, options?: CallOptions): Promise<Outcome>
  /** Sends a statement of its own to the helpdesk's database. */
  sql(text: string, parameters?: readonly unknown[], options?: CallOptions): Promise<Outcome>
  read(uri: string): Promise<Outcome>
  close(): Promise<void>
}

/** How long a call may take, in milliseconds: an approval is waited for. */
const patience = 300_000

/** Connects with the official MCP client. Rejects where the gateway does not let it in. */
export async function connectAgent(name: string, url: string, token: string): Promise<Agent> {
  const client = new Client({ name, version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } })
  const transport = new StreamableHTTPClientTransport(new URL(`${url}/mcp`), {
    requestInit: { headers: { authorization: `Bearer ${token}` } },
  })
  await client.connect(transport, { timeout: 10_000 })
  const tools = (await client.listTools()).tools
    .map((tool) => tool.name)
    .filter((tool) => !tool.startsWith('sallyport__'))
  const prefix = tools.some((tool) => tool.startsWith('helpdesk__')) ? 'helpdesk__' : ''

  const agent: Agent = {
    name,
    token,
    tools,
    sql: (text, parameters = [], options = {}) => agent.call('desk__query', { sql: text, parameters }, options),
    async call(tool, args, { signal, onProgress } = {}) {
      try {
        const result = await client.callTool(
          { name: tool.includes('__') ? tool : `${prefix}${tool}`, arguments: { ...args } },
          {
            timeout: patience,
            ...(signal === undefined ? {} : { signal }),
            ...(onProgress === undefined
              ? {}
              : { onprogress: ({ message }) => onProgress(message ?? ''), resetTimeoutOnProgress: true }),
          },
        )
        const [block] = result.content as { readonly text?: string }[]
        const text = block?.text ?? ''
        if (result.isError !== true) return { kind: 'done', text }
        const refusal = result._meta?.['dev.sallyport/refusal'] as { code: string; event: string } | undefined
        const approval = result._meta?.['dev.sallyport/approval'] as { id: string } | undefined
        if (refusal?.code === 'approval_pending' && approval !== undefined)
          return { kind: 'pending', text, approval: approval.id }
        return refusal === undefined ? { kind: 'failed', text } : { kind: 'refused', text, event: refusal.event }
      } catch (thrown) {
        return { kind: 'refused', text: messageOf(thrown) }
      }
    },
    async read(uri) {
      try {
        const shown = prefix === '' ? uri : `helpdesk+${uri}`
        const { contents } = await client.readResource({ uri: shown }, { timeout: 10_000 })
        const [content] = contents as { readonly text?: string }[]
        return { kind: 'done', text: content?.text ?? '' }
      } catch (thrown) {
        return { kind: 'refused', text: messageOf(thrown) }
      }
    },
    close: () => client.close(),
  }
  return agent
}

export type Exchanged = { readonly ok: true; readonly token: string } | { readonly ok: false; readonly text: string }

/** Asks for a session of another agent made from one's own (RFC 8693), with these permissions or all that are lent. */
export async function exchange(
  url: string,
  token: string,
  to: string,
  permissions: readonly string[] = [],
): Promise<Exchanged> {
  const response = await fetch(`${url}/oauth/token`, {
    method: 'POST',
    redirect: 'error',
    signal: AbortSignal.timeout(10_000),
    body: new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: token,
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      agent: to,
      ...(permissions.length === 0 ? {} : { scope: permissions.join(' ') }),
    }),
  })
  const body = (await response.json()) as Record<string, unknown>
  if (response.ok && typeof body['access_token'] === 'string') return { ok: true, token: body['access_token'] }
  const words = [body['error'], body['error_description']].filter((each) => typeof each === 'string').join(': ')
  return { ok: false, text: `${response.status} ${words}` }
}

export const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))
