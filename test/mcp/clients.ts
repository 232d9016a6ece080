/**
 * The official MCP clients, connected to an address (or a process) under test and reduced to what tests use.
 *
 * `v1` is @modelcontextprotocol/sdk (2025-11-25 and older); `v2-legacy` and `v2-modern` are
 * @modelcontextprotocol/client made to speak 2025-11-25 or 2026-07-28.
 */
import { Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from '@modelcontextprotocol/client'
import { StdioClientTransport as StdioV2 } from '@modelcontextprotocol/client/stdio'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport as StdioV1 } from '@modelcontextprotocol/sdk/client/stdio.js'
import { StreamableHTTPClientTransport as HttpV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'

export const clientKinds = ['v1', 'v2-legacy', 'v2-modern'] as const
export type ClientKind = (typeof clientKinds)[number]

/** A process to start, as `StdioClientTransport` takes it. */
export interface Command {
  command: string
  args: string[]
  env?: Record<string, string>
}

export type Endpoint = { url: string; token?: string } | Command

export interface ListedTool {
  name: string
  description?: string
  inputSchema: Record<string, unknown>
  outputSchema?: Record<string, unknown>
  annotations?: { readOnlyHint?: boolean; destructiveHint?: boolean }
}

export interface CallResult {
  isError?: boolean
  content: { type: string; text?: string; uri?: string; data?: string; mimeType?: string }[]
  structuredContent?: Record<string, unknown>
  _meta?: Record<string, unknown>
}

export interface CallOptions {
  /** Gives up in milliseconds; 10,000 unless said. */
  timeout?: number
  signal?: AbortSignal
  /** Sends a progress token, and is called with what comes. */
  onprogress?: (progress: { progress: number; total?: number; message?: string }) => void
}

/** What tests need of any MCP client. Lists are whole: every page is fetched. Protocol errors reject. */
export interface ThinClient {
  listTools(): Promise<ListedTool[]>
  callTool(name: string, args?: Record<string, unknown>, options?: CallOptions): Promise<CallResult>
  listResources(): Promise<{ uri: string; name: string; mimeType?: string }[]>
  readResource(uri: string): Promise<{ uri: string; mimeType?: string; text?: string; blob?: string }[]>
  listPrompts(): Promise<{ name: string; description?: string }[]>
  getPrompt(
    name: string,
    args?: Record<string, string>,
  ): Promise<{ role: string; content: { type: string; text?: string; resource?: { uri: string; text?: string } } }[]>
}

export interface ConnectedClient extends ThinClient {
  kind: ClientKind
  /** The revision both sides agreed on. */
  protocolVersion: string | undefined
  close(): Promise<void>
}

/** What the person and the model behind the client answer. Only what is given is declared to the server. */
export interface Answers {
  /** Form mode, and URL mode when `url` is given. */
  elicit?: (
    message: string,
    url?: string,
  ) => { action: 'accept' | 'decline' | 'cancel'; content?: Record<string, string | boolean> }
  sample?: (prompt: string) => string
  /** URIs of folders. */
  roots?: string[]
}

const identity = { name: 'sallyport-tests', version: '1.0.0' }
const pageLimit = 100
const callTimeout = 10_000

/** Connects one of the official clients. Rejects if the server does not speak what the kind speaks. */
export async function connect(kind: ClientKind, endpoint: Endpoint, answers: Answers = {}): Promise<ConnectedClient> {
  return kind === 'v1' ? connectV1(endpoint, answers) : connectV2(kind, endpoint, answers)
}

async function connectV1(endpoint: Endpoint, answers: Answers): Promise<ConnectedClient> {
  const client = new ClientV1(identity, { capabilities: capabilities(answers) })
  const { elicit, sample, roots } = answers
  if (roots) client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: roots.map((uri) => ({ uri })) }))
  if (elicit)
    client.setRequestHandler(ElicitRequestSchema, ({ params }) =>
      elicit(params.message, 'url' in params ? params.url : undefined),
    )
  if (sample) client.setRequestHandler(CreateMessageRequestSchema, ({ params }) => sampled(sample, params))
  const transport =
    'url' in endpoint
      ? new HttpV1(new URL(endpoint.url), { requestInit: { headers: bearer(endpoint) } })
      : new StdioV1({ ...endpoint, stderr: 'ignore' })
  await client.connect(transport, { timeout: callTimeout })
  const agreed = 'url' in endpoint ? (transport as HttpV1).protocolVersion : undefined
  return { ...thin(client), kind: 'v1', protocolVersion: agreed, close: () => client.close() }
}

async function connectV2(kind: ClientKind, endpoint: Endpoint, answers: Answers): Promise<ConnectedClient> {
  const client = new ClientV2(identity, {
    capabilities: capabilities(answers),
    versionNegotiation: { mode: kind === 'v2-modern' ? { pin: '2026-07-28' } : 'legacy' },
  })
  const { elicit, sample, roots } = answers
  if (roots) client.setRequestHandler('roots/list', () => ({ roots: roots.map((uri) => ({ uri })) }))
  if (elicit)
    client.setRequestHandler('elicitation/create', ({ params }) =>
      elicit(params.message, 'url' in params ? params.url : undefined),
    )
  if (sample) client.setRequestHandler('sampling/createMessage', ({ params }) => sampled(sample, params))
  const transport =
    'url' in endpoint
      ? new HttpV2(new URL(endpoint.url), { requestInit: { headers: bearer(endpoint) } })
      : new StdioV2({ ...endpoint, stderr: 'ignore' })
  await client.connect(transport, { timeout: callTimeout })
  return {
    ...thin(client),
    kind,
    protocolVersion: client.getNegotiatedProtocolVersion(),
    close: () => client.close(),
  }
}

/** Both clients have these methods; their result types differ in ways that no test here depends on. */
function thin(client: ClientV1 | ClientV2): ThinClient {
  const each = client as ClientV2
  return {
    listTools: () => allPages((cursor) => each.listTools(cursor), 'tools'),
    callTool: async (name, args = {}, options) =>
      (client instanceof ClientV1
        ? await client.callTool({ name, arguments: args }, undefined, { timeout: callTimeout, ...options })
        : await client.callTool({ name, arguments: args }, { timeout: callTimeout, ...options })) as CallResult,
    listResources: () => allPages((cursor) => each.listResources(cursor), 'resources'),
    readResource: async (uri) => (await each.readResource({ uri })).contents,
    listPrompts: () => allPages((cursor) => each.listPrompts(cursor), 'prompts'),
    getPrompt: async (name, args) => (await each.getPrompt({ name, arguments: args })).messages,
  }
}

async function allPages<K extends string, T>(
  page: (cursor: { cursor: string } | undefined) => Promise<{ [key in K]: T[] } & { nextCursor?: string }>,
  key: K,
): Promise<T[]> {
  const all: T[] = []
  let cursor: string | undefined
  for (let count = 0; count < pageLimit; count++) {
    const result = await page(cursor === undefined ? undefined : { cursor })
    all.push(...result[key])
    cursor = result.nextCursor
    if (cursor === undefined) return all
  }
  throw new Error(`The list of ${key} did not end within ${pageLimit} pages`)
}

function capabilities({ elicit, sample, roots }: Answers) {
  return {
    ...(elicit && { elicitation: { form: {}, url: {} } }),
    ...(sample && { sampling: {} }),
    ...(roots && { roots: {} }),
  }
}

function sampled(sample: (prompt: string) => string, params: { messages: { content: unknown }[] }) {
  const prompt = [params.messages.at(-1)?.content].flat().map((block) => (block as { text?: string })?.text ?? '')
  return {
    role: 'assistant' as const,
    model: 'a-test-model',
    content: { type: 'text' as const, text: sample(prompt.join('')) },
  }
}

function bearer({ token }: { token?: string }): Record<string, string> {
  return token === undefined ? {} : { authorization: `Bearer ${token}` }
}
