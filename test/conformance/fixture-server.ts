/**
 * The MCP server that the scenarios of @modelcontextprotocol/conformance 0.2.0-alpha.12 expect to find: fixed tools,
 * resources and prompts with fixed answers. It is an upstream for tests, and speaks both protocol eras:
 * 2025-11-25 and older (sessions, server-to-client requests) and 2026-07-28 (stateless, `input_required`).
 *
 * `startFixture()` serves Streamable HTTP on loopback; `node fixture-server.ts --stdio` serves one client over stdio,
 * and `node fixture-server.ts --port 3000` serves HTTP until it is stopped.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { localhostHostValidation, localhostOriginValidation, toNodeHandler } from '@modelcontextprotocol/node'
import {
  CLIENT_CAPABILITIES_META_KEY,
  createMcpHandler,
  createRequestStateCodec,
  inputRequired,
  inputResponse,
  isLegacyRequest,
  ProtocolError,
  ProtocolErrorCode,
  ResourceNotFoundError,
  Server,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server'
import type {
  CallToolResult,
  ClientCapabilities,
  EventStore,
  GetPromptResult,
  InputRequiredResult,
  InputRequest,
  JSONRPCMessage,
  Prompt,
  ReadResourceResult,
  Resource,
  ServerContext,
  Tool,
} from '@modelcontextprotocol/server'
import { serveStdio } from '@modelcontextprotocol/server/stdio'

type Args = Record<string, unknown>
type ToolAnswer = CallToolResult | InputRequiredResult
type ToolEntry = Tool & { run: (args: Args, ctx: ServerContext, fixture: Fixture) => ToolAnswer | Promise<ToolAnswer> }
type PromptAnswer = GetPromptResult | InputRequiredResult
type PromptEntry = Prompt & { get: (args: Record<string, string>, ctx: ServerContext) => PromptAnswer }
type ResourceEntry = Resource & { read: () => ReadResourceResult['contents'][number] }

/** What all connections to one fixture share. */
interface Fixture {
  extraTool: boolean
  extraPrompt: boolean
  announce: Announce
}

/** Tells every connected client that something changed; each transport fills this in. */
interface Announce {
  tools: () => void
  prompts: () => void
  resource: (uri: string) => void
}

export interface RunningFixture {
  /** The MCP endpoint, e.g. `http://127.0.0.1:40123/mcp`. */
  url: string
  /** Every value of `Authorization` that arrived, once each: shows which credentials a gateway lets through. */
  authorizations: Set<string>
  /** Ends open streams and sessions, and stops listening. */
  close: () => Promise<void>
}

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGOQm/AfAAJ9Aa5x8yHNAAAAAElFTkSuQmCC'
const SOUND = 'UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA=='
const WATCHED = 'test://watched-resource'
const STEP_MS = 50

const text = (value: string): CallToolResult => ({ content: [{ type: 'text', text: value }] })
const noArguments = { type: 'object', properties: {} } as const
const form = (properties: Record<string, unknown>, required = Object.keys(properties)) =>
  ({ type: 'object', properties, required }) as Parameters<typeof inputRequired.elicit>[0]['requestedSchema']
const ask = (message: string, properties: Record<string, unknown>, required?: string[]): InputRequest =>
  inputRequired.elicit({ message, requestedSchema: form(properties, required) })
const sample = (prompt: string, maxTokens: number): InputRequest =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens })

/** Seals what a tool wants back on the next round. A random key: state of another process is refused. */
const rounds = createRequestStateCodec<{ tool: string; round: number; name?: string }>({ key: randomBytes(32) })

const tools: ToolEntry[] = [
  {
    name: 'test_simple_text',
    description: 'Answers a fixed text',
    inputSchema: noArguments,
    annotations: { readOnlyHint: true },
    run: () => text('This is a simple text response for testing.'),
  },
  {
    name: 'test_image_content',
    description: 'Answers an image of one pixel',
    inputSchema: noArguments,
    run: () => ({ content: [{ type: 'image', data: PIXEL, mimeType: 'image/png' }] }),
  },
  {
    name: 'test_audio_content',
    description: 'Answers one millisecond of silence',
    inputSchema: noArguments,
    run: () => ({ content: [{ type: 'audio', data: SOUND, mimeType: 'audio/wav' }] }),
  },
  {
    name: 'test_embedded_resource',
    description: 'Answers an embedded resource',
    inputSchema: noArguments,
    run: () => ({ content: [embedded('test://embedded-resource', 'This is an embedded resource content.')] }),
  },
  {
    name: 'test_multiple_content_types',
    description: 'Answers a text, an image and an embedded resource',
    inputSchema: noArguments,
    run: () => ({
      content: [
        { type: 'text', text: 'Multiple content types test:' },
        { type: 'image', data: PIXEL, mimeType: 'image/png' },
        embedded('test://mixed-content-resource', '{"test":"data","value":123}', 'application/json'),
      ],
    }),
  },
  {
    name: 'test_tool_with_logging',
    description: 'Logs three messages at level info while it runs',
    inputSchema: noArguments,
    run: async (_args, ctx) => {
      await ctx.mcpReq.log('info', 'Tool execution started')
      await pause(STEP_MS)
      await ctx.mcpReq.log('info', 'Tool processing data')
      await pause(STEP_MS)
      await ctx.mcpReq.log('info', 'Tool execution completed')
      return text('Logged three messages.')
    },
  },
  {
    name: 'test_logging_tool',
    description: 'Logs one message, to clients that asked for logs',
    inputSchema: noArguments,
    run: async (_args, ctx) => {
      await ctx.mcpReq.log('info', 'A message for whoever asked for logs')
      return text('Logged, if logs were asked for.')
    },
  },
  {
    name: 'test_tool_with_progress',
    description: 'Reports progress 0, 50 and 100 of 100, to clients that sent a progress token',
    inputSchema: noArguments,
    run: async (_args, ctx) => {
      const progressToken = ctx.mcpReq._meta?.progressToken
      for (const progress of [0, 50, 100]) {
        if (progress > 0) await pause(STEP_MS)
        if (progressToken === undefined) continue
        await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: 100 } })
      }
      return text('Reached 100 of 100.')
    },
  },
  {
    name: 'test_error_handling',
    description: 'Always fails',
    inputSchema: noArguments,
    run: () => ({ ...text('This tool intentionally returns an error for testing'), isError: true }),
  },
  {
    name: 'test_reconnection',
    description: 'Closes its own event stream before it answers; the client must resume to get the answer',
    inputSchema: noArguments,
    run: async (_args, ctx) => {
      ctx.http?.closeSSE?.()
      await pause(2 * STEP_MS)
      return text('Delivered after the stream was closed.')
    },
  },
  {
    name: 'test_sampling',
    description: "Asks the client's model",
    inputSchema: { type: 'object', properties: { prompt: { type: 'string' } }, required: ['prompt'] },
    run: (args, ctx) => {
      const answer = inputResponse(ctx.mcpReq.inputResponses, 'answer')
      if (answer.kind === 'sampling') return text(`LLM response: ${textOf(answer.result.content)}`)
      return inputRequired({ inputRequests: { answer: sample(stringArgument(args, 'prompt'), 100) } })
    },
  },
  {
    name: 'test_elicitation',
    description: 'Asks the user for a name and an address',
    inputSchema: { type: 'object', properties: { message: { type: 'string' } }, required: ['message'] },
    run: (args, ctx) =>
      elicited(ctx, 'User response', stringArgument(args, 'message'), {
        username: { type: 'string', description: "User's response" },
        email: { type: 'string', description: "User's email address" },
      }),
  },
  {
    name: 'test_elicitation_sep1034_defaults',
    description: 'Asks the user with a default for every primitive type',
    inputSchema: noArguments,
    run: (_args, ctx) =>
      elicited(
        ctx,
        'Elicitation completed',
        'Please review the values below',
        {
          name: { type: 'string', description: 'User name', default: 'John Doe' },
          age: { type: 'integer', description: 'User age', default: 30 },
          score: { type: 'number', description: 'User score', default: 95.5 },
          status: {
            type: 'string',
            description: 'User status',
            enum: ['active', 'inactive', 'pending'],
            default: 'active',
          },
          verified: { type: 'boolean', description: 'Whether the user is verified', default: true },
        },
        [],
      ),
  },
  {
    name: 'test_elicitation_sep1330_enums',
    description: 'Asks the user with each of the five forms of an enum',
    inputSchema: noArguments,
    run: (_args, ctx) =>
      elicited(
        ctx,
        'Elicitation completed',
        'Please choose',
        {
          untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
          titledSingle: { type: 'string', oneOf: titled('Option') },
          legacyEnum: {
            type: 'string',
            enum: ['opt1', 'opt2', 'opt3'],
            enumNames: ['Option One', 'Option Two', 'Option Three'],
          },
          untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
          titledMulti: { type: 'array', items: { anyOf: titled('Choice') } },
        },
        [],
      ),
  },
  {
    name: 'json_schema_2020_12_tool',
    description: 'Tool with JSON Schema 2020-12 features',
    inputSchema: {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      type: 'object',
      $defs: {
        address: {
          $anchor: 'addressDef',
          type: 'object',
          properties: { street: { type: 'string' }, city: { type: 'string' } },
        },
      },
      properties: {
        name: { type: 'string' },
        address: { $ref: '#/$defs/address' },
        contactMethod: { type: 'string', enum: ['phone', 'email'] },
        phone: { type: 'string' },
        email: { type: 'string' },
      },
      allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
      if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
      // oxlint-disable-next-line unicorn/no-thenable -- `then` is a keyword of JSON Schema
      then: { required: ['phone'] },
      else: { required: ['email'] },
      additionalProperties: false,
    },
    run: (args) => text(`Called with ${JSON.stringify(args)}`),
  },
  {
    name: 'test_custom_header',
    description: 'Takes an argument that is mirrored in an HTTP header',
    inputSchema: {
      type: 'object',
      properties: { region: { type: 'string', 'x-mcp-header': 'Region' } },
      required: ['region'],
    },
    run: (args) => text(`Region: ${stringArgument(args, 'region')}`),
  },
  {
    name: 'test_missing_capability',
    description: "Needs the client's model, and answers nothing without it",
    inputSchema: noArguments,
    run: (_args, ctx) => {
      const answer = inputResponse(ctx.mcpReq.inputResponses, 'probe')
      if (answer.kind === 'sampling') return text('The client has the capability.')
      return inputRequired({ inputRequests: { probe: sample('Are you there?', 10) } })
    },
  },
  {
    name: 'test_streaming_elicitation',
    description: 'Asks the user to confirm, within the answer to the call',
    inputSchema: noArguments,
    run: (_args, ctx) =>
      elicited(ctx, 'Confirmation', 'Please confirm', { ok: { type: 'boolean', description: 'Go ahead' } }),
  },
  {
    name: 'test_trigger_tool_change',
    description: 'Adds the tool test_added_tool, or takes it away again',
    inputSchema: noArguments,
    run: (_args, _ctx, fixture) => {
      fixture.extraTool = !fixture.extraTool
      fixture.announce.tools()
      return text(`test_added_tool is ${fixture.extraTool ? 'there' : 'gone'}.`)
    },
  },
  {
    name: 'test_trigger_prompt_change',
    description: 'Adds the prompt test_added_prompt, or takes it away again',
    inputSchema: noArguments,
    run: (_args, _ctx, fixture) => {
      fixture.extraPrompt = !fixture.extraPrompt
      fixture.announce.prompts()
      return text(`test_added_prompt is ${fixture.extraPrompt ? 'there' : 'gone'}.`)
    },
  },
  {
    name: 'test_trigger_resource_update',
    description: 'Tells subscribers that the watched resource changed',
    inputSchema: noArguments,
    run: (_args, _ctx, fixture) => {
      fixture.announce.resource(WATCHED)
      return text('Announced.')
    },
  },
  {
    name: 'test_input_required_result_elicitation',
    description: 'Asks for a name, then greets',
    inputSchema: noArguments,
    run: (_args, ctx) => {
      const name = accepted(ctx, 'user_name')?.['name']
      if (typeof name === 'string') return text(`Hello, ${name}!`)
      return inputRequired({ inputRequests: { user_name: askName('What is your name?') } })
    },
  },
  {
    name: 'test_input_required_result_sampling',
    description: "Asks the client's model for a capital",
    inputSchema: noArguments,
    run: (_args, ctx) => {
      const answer = inputResponse(ctx.mcpReq.inputResponses, 'capital_question')
      if (answer.kind === 'sampling') return text(textOf(answer.result.content))
      return inputRequired({ inputRequests: { capital_question: sample('What is the capital of France?', 100) } })
    },
  },
  {
    name: 'test_input_required_result_list_roots',
    description: 'Asks for the roots of the client, and names them',
    inputSchema: noArguments,
    run: (_args, ctx) => {
      const answer = inputResponse(ctx.mcpReq.inputResponses, 'client_roots')
      if (answer.kind === 'roots') return text(`Roots: ${answer.roots.map((root) => root.uri).join(', ')}`)
      return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } })
    },
  },
  {
    name: 'test_input_required_result_request_state',
    description: 'Asks to confirm, and wants its state back',
    inputSchema: noArguments,
    run: (_args, ctx) => confirmedWithState('test_input_required_result_request_state', ctx),
  },
  {
    name: 'test_input_required_result_tampered_state',
    description: 'Asks to confirm, and refuses a state that it did not write',
    inputSchema: noArguments,
    run: (_args, ctx) => confirmedWithState('test_input_required_result_tampered_state', ctx),
  },
  {
    name: 'test_input_required_result_multiple_inputs',
    description: 'Asks the user, the model and for the roots, all at once',
    inputSchema: noArguments,
    run: async (_args, ctx) => {
      const tool = 'test_input_required_result_multiple_inputs'
      const name = accepted(ctx, 'user_name')?.['name']
      const greeting = inputResponse(ctx.mcpReq.inputResponses, 'greeting')
      const roots = inputResponse(ctx.mcpReq.inputResponses, 'client_roots')
      if (stateOf(tool, ctx) && typeof name === 'string' && greeting.kind === 'sampling' && roots.kind === 'roots')
        return text(`${textOf(greeting.result.content)} ${name}, of ${roots.roots.length} root(s)`)
      return inputRequired({
        inputRequests: {
          user_name: askName('What is your name?'),
          greeting: sample('Generate a greeting', 50),
          client_roots: inputRequired.listRoots(),
        },
        requestState: await rounds.mint({ tool, round: 1 }),
      })
    },
  },
  {
    name: 'test_input_required_result_multi_round',
    description: 'Asks for a name, then for a color, then answers',
    inputSchema: noArguments,
    run: async (_args, ctx) => {
      const tool = 'test_input_required_result_multi_round'
      const state = stateOf(tool, ctx)
      const name = accepted(ctx, 'step1')?.['name']
      const color = accepted(ctx, 'step2')?.['color']
      if (state?.round === 2 && typeof color === 'string') return text(`${state.name} likes ${color}.`)
      if (state?.round === 1 && typeof name === 'string')
        return inputRequired({
          inputRequests: { step2: ask('Step 2: What is your favorite color?', { color: { type: 'string' } }) },
          requestState: await rounds.mint({ tool, round: 2, name }),
        })
      return inputRequired({
        inputRequests: { step1: askName('Step 1: What is your name?') },
        requestState: await rounds.mint({ tool, round: 1 }),
      })
    },
  },
  {
    name: 'test_input_required_result_capabilities',
    description: 'Asks only for what the client declared that it can give',
    inputSchema: noArguments,
    run: (_args, ctx) => {
      const can = capabilitiesOf(ctx)
      const answered = Object.keys(ctx.mcpReq.inputResponses ?? {})
      if (answered.length > 0) return text(`Answered: ${answered.sort().join(', ')}`)
      const inputRequests: Record<string, InputRequest> = {}
      if (can.sampling) inputRequests['question'] = sample('Say something', 50)
      if (can.elicitation) inputRequests['confirmation'] = ask('Go on?', { ok: { type: 'boolean' } })
      if (can.roots) inputRequests['roots'] = inputRequired.listRoots()
      return Object.keys(inputRequests).length > 0
        ? inputRequired({ inputRequests })
        : text('The client can be asked for nothing.')
    },
  },
]

const addedTool: ToolEntry = {
  name: 'test_added_tool',
  description: 'Comes and goes with test_trigger_tool_change',
  inputSchema: noArguments,
  run: () => text('I was added.'),
}

const resources: ResourceEntry[] = [
  {
    uri: 'test://static-text',
    name: 'static-text',
    description: 'A fixed text',
    mimeType: 'text/plain',
    read: () => ({
      uri: 'test://static-text',
      mimeType: 'text/plain',
      text: 'This is the content of the static text resource.',
    }),
  },
  {
    uri: 'test://static-binary',
    name: 'static-binary',
    description: 'An image of one pixel',
    mimeType: 'image/png',
    read: () => ({ uri: 'test://static-binary', mimeType: 'image/png', blob: PIXEL }),
  },
  {
    uri: WATCHED,
    name: 'watched-resource',
    description: 'A text that can be subscribed to',
    mimeType: 'text/plain',
    read: () => ({ uri: WATCHED, mimeType: 'text/plain', text: 'Watched resource content' }),
  },
]

const templates = [
  {
    uriTemplate: 'test://template/{id}/data',
    name: 'template',
    description: 'Data for an id',
    mimeType: 'application/json',
  },
]

const prompts: PromptEntry[] = [
  {
    name: 'test_simple_prompt',
    description: 'A prompt without arguments',
    get: () => ({ messages: [said('This is a simple prompt for testing.')] }),
  },
  {
    name: 'test_prompt_with_arguments',
    description: 'A prompt with two arguments',
    arguments: [
      { name: 'arg1', description: 'First test argument', required: true },
      { name: 'arg2', description: 'Second test argument', required: true },
    ],
    get: (args) => ({
      messages: [said(`Prompt with arguments: arg1='${args['arg1']}', arg2='${args['arg2']}'`)],
    }),
  },
  {
    name: 'test_prompt_with_embedded_resource',
    description: 'A prompt that embeds the resource it is given',
    arguments: [{ name: 'resourceUri', description: 'URI of the resource to embed', required: true }],
    get: (args) => ({
      messages: [
        { role: 'user', content: embedded(args['resourceUri'] ?? '', 'Embedded resource content for testing.') },
        said('Please process the embedded resource above.'),
      ],
    }),
  },
  {
    name: 'test_prompt_with_image',
    description: 'A prompt with an image',
    get: () => ({
      messages: [
        { role: 'user', content: { type: 'image', data: PIXEL, mimeType: 'image/png' } },
        said('Please analyze the image above.'),
      ],
    }),
  },
  {
    name: 'test_input_required_result_prompt',
    description: 'A prompt that asks for its context first',
    get: (_args, ctx) => {
      const context = accepted(ctx, 'user_context')?.['context']
      if (typeof context === 'string') return { messages: [said(`Use this context: ${context}`)] }
      const user_context = ask('What context should the prompt use?', { context: { type: 'string' } })
      return inputRequired({ inputRequests: { user_context } })
    },
  },
]

const addedPrompt: PromptEntry = {
  name: 'test_added_prompt',
  description: 'Comes and goes with test_trigger_prompt_change',
  get: () => ({ messages: [said('I was added.')] }),
}

const words = ['paris', 'park', 'party', 'test one', 'test two']

/** One connection's server over the tables above. `watching` collects the URIs that a 2025 session subscribed to. */
function createFixtureServer(fixture: Fixture, watching: Set<string>): Server {
  const server = new Server(
    { name: 'sallyport-conformance-fixture', version: '1.0.0' },
    {
      capabilities: {
        tools: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        prompts: { listChanged: true },
        logging: {},
        completions: {},
      },
      requestState: { verify: rounds.verify },
    },
  )
  const offeredTools = () => (fixture.extraTool ? [...tools, addedTool] : tools)
  const offeredPrompts = () => (fixture.extraPrompt ? [...prompts, addedPrompt] : prompts)

  server.setRequestHandler('tools/list', () => ({ tools: offeredTools().map(listedTool) }))
  server.setRequestHandler('tools/call', async ({ params }, ctx) => {
    const tool = offeredTools().find(({ name }) => name === params.name)
    if (!tool) throw invalid(`Unknown tool: ${params.name}`)
    return tool.run(params.arguments ?? {}, ctx, fixture)
  })
  server.setRequestHandler('resources/list', () => ({ resources: resources.map(listedResource) }))
  server.setRequestHandler('resources/templates/list', () => ({ resourceTemplates: templates }))
  server.setRequestHandler('resources/read', ({ params }) => ({ contents: [read(params.uri)] }))
  server.setRequestHandler('resources/subscribe', ({ params }) => {
    read(params.uri)
    watching.add(params.uri)
    return {}
  })
  server.setRequestHandler('resources/unsubscribe', ({ params }) => {
    watching.delete(params.uri)
    return {}
  })
  server.setRequestHandler('prompts/list', () => ({ prompts: offeredPrompts().map(listedPrompt) }))
  server.setRequestHandler('prompts/get', async ({ params }, ctx) => {
    const prompt = offeredPrompts().find(({ name }) => name === params.name)
    if (!prompt) throw invalid(`Unknown prompt: ${params.name}`)
    const missing = prompt.arguments?.find(({ name, required }) => required && params.arguments?.[name] === undefined)
    if (missing) throw invalid(`Prompt ${prompt.name} needs the argument ${missing.name}`)
    return prompt.get(params.arguments ?? {}, ctx)
  })
  server.setRequestHandler('completion/complete', ({ params }) => {
    const values = words.filter((word) => word.startsWith(params.argument.value))
    return { completion: { values, total: values.length, hasMore: false } }
  })
  return server
}

/**
 * Serves the fixture over Streamable HTTP on 127.0.0.1. Port 0 takes any free port. With a `token`, a request without
 * `Authorization: Bearer <token>` is answered 401.
 */
export async function startFixture(options: { port?: number; token?: string } = {}): Promise<RunningFixture> {
  const { port = 0, token } = options
  const authorizations = new Set<string>()
  const sessions = new Map<string, Session>()
  const fixture: Fixture = {
    extraTool: false,
    extraPrompt: false,
    announce: {
      tools: () => {
        modern.notify.toolsChanged()
        for (const { server } of sessions.values()) void server.sendToolListChanged().catch(ignore)
      },
      prompts: () => {
        modern.notify.promptsChanged()
        for (const { server } of sessions.values()) void server.sendPromptListChanged().catch(ignore)
      },
      resource: (uri) => {
        modern.notify.resourceUpdated(uri)
        for (const { server, watching } of sessions.values())
          if (watching.has(uri)) void server.sendResourceUpdated({ uri }).catch(ignore)
      },
    },
  }
  const modern = createMcpHandler(() => createFixtureServer(fixture, new Set()), { legacy: 'reject' })

  const handle = toNodeHandler({
    fetch: async (request) => ((await isLegacyRequest(request)) ? legacy(request) : modern.fetch(request)),
  })

  /** 2025-11-25 and older: a session per `initialize`, found again by its id. */
  async function legacy(request: Request): Promise<Response> {
    const id = request.headers.get('mcp-session-id')
    if (id !== null) {
      const session = sessions.get(id)
      return session ? session.transport.handleRequest(request) : refuse(404, -32001, 'Session not found')
    }
    const watching = new Set<string>()
    const server = createFixtureServer(fixture, watching)
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: recentEvents(),
      retryInterval: 200,
      onsessioninitialized: (opened) => void sessions.set(opened, { server, transport, watching }),
      onsessionclosed: (closed) => void sessions.delete(closed),
    })
    await server.connect(transport)
    const response = await transport.handleRequest(request)
    if (transport.sessionId === undefined) await server.close()
    return response
  }

  const goodHost = localhostHostValidation()
  const goodOrigin = localhostOriginValidation()
  const http = createServer((req, res) => {
    if (!goodHost(req, res) || !goodOrigin(req, res)) return
    const { authorization } = req.headers
    if (authorization !== undefined && authorizations.size < 100) authorizations.add(authorization)
    if (token !== undefined && authorization !== `Bearer ${token}`)
      return void res.writeHead(401, { 'www-authenticate': 'Bearer' }).end()
    if (new URL(req.url ?? '/', 'http://fixture').pathname !== '/mcp') return void res.writeHead(404).end()
    void handle(req, res)
  })
  await new Promise<void>((resolve, reject) => http.once('error', reject).listen(port, '127.0.0.1', resolve))

  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/mcp`,
    authorizations,
    close: async () => {
      const closed = new Promise((resolve) => http.close(resolve))
      await modern.close()
      await Promise.all([...sessions.values()].map(({ server }) => server.close()))
      http.closeAllConnections()
      await closed
    },
  }
}

interface Session {
  server: Server
  transport: WebStandardStreamableHTTPServerTransport
  watching: Set<string>
}

/** Serves one client over this process's stdin and stdout, and ends with it. */
function serveOverStdio(): void {
  const watching = new Set<string>()
  const servers = new Set<Server>()
  const each = (tell: (server: Server) => Promise<void>) => {
    for (const server of servers) void tell(server).catch(ignore)
  }
  const fixture: Fixture = {
    extraTool: false,
    extraPrompt: false,
    announce: {
      tools: () => each((server) => server.sendToolListChanged()),
      prompts: () => each((server) => server.sendPromptListChanged()),
      resource: (uri) => each((server) => server.sendResourceUpdated({ uri })),
    },
  }
  serveStdio(() => {
    const server = createFixtureServer(fixture, watching)
    servers.add(server)
    server.onclose = () => void servers.delete(server)
    return server
  })
  process.stdin.once('end', () => process.exit(0))
}

/** Keeps the last events of one session, so that a client which lost its stream can resume it. */
function recentEvents(): EventStore {
  const kept: { id: string; stream: string; message: JSONRPCMessage }[] = []
  let count = 0
  return {
    storeEvent: async (stream, message) => {
      const id = `${stream}:${++count}`
      kept.push({ id, stream, message })
      if (kept.length > 1000) kept.shift()
      return id
    },
    getStreamIdForEventId: async (id) => kept.find((event) => event.id === id)?.stream,
    replayEventsAfter: async (id, { send }) => {
      const from = kept.findIndex((event) => event.id === id)
      const stream = kept[from]?.stream
      if (stream === undefined) throw invalid('Unknown event id')
      for (const event of kept.slice(from + 1))
        if (event.stream === stream && Object.keys(event.message).length > 0) await send(event.id, event.message)
      return stream
    },
  }
}

function listedTool({ name, description, inputSchema, annotations }: ToolEntry): Tool {
  return { name, description, inputSchema, annotations }
}

function listedResource({ uri, name, description, mimeType }: ResourceEntry): Resource {
  return { uri, name, description, mimeType }
}

function listedPrompt({ name, description, arguments: taken }: PromptEntry): Prompt {
  return { name, description, arguments: taken }
}

function read(uri: string): ReadResourceResult['contents'][number] {
  const resource = resources.find((entry) => entry.uri === uri)
  if (resource) return resource.read()
  const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1]
  if (id === undefined) throw new ResourceNotFoundError(uri)
  return {
    uri,
    mimeType: 'application/json',
    text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }),
  }
}

/** Asks the user once, and reports what came back, whatever it was. */
function elicited(
  ctx: ServerContext,
  label: string,
  message: string,
  properties: Record<string, unknown>,
  required?: string[],
): ToolAnswer {
  const answer = inputResponse(ctx.mcpReq.inputResponses, 'answer')
  if (answer.kind !== 'elicit') return inputRequired({ inputRequests: { answer: ask(message, properties, required) } })
  return text(`${label}: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`)
}

async function confirmedWithState(tool: string, ctx: ServerContext): Promise<ToolAnswer> {
  if (stateOf(tool, ctx) && accepted(ctx, 'confirm')?.['ok'] === true) return text('state-ok')
  return inputRequired({
    inputRequests: { confirm: ask('Please confirm', { ok: { type: 'boolean' } }) },
    requestState: await rounds.mint({ tool, round: 1 }),
  })
}

/** The state of the round before, if it is this tool's own. The server has checked its seal already. */
function stateOf(tool: string, ctx: ServerContext) {
  const state = ctx.mcpReq.requestState<{ tool: string; round: number; name?: string }>()
  if (state !== undefined && state.tool !== tool) throw invalid('This requestState belongs to another tool')
  return state
}

function accepted(ctx: ServerContext, key: string): Record<string, unknown> | undefined {
  const answer = inputResponse(ctx.mcpReq.inputResponses, key)
  return answer.kind === 'elicit' && answer.action === 'accept' ? answer.content : undefined
}

function capabilitiesOf(ctx: ServerContext): ClientCapabilities {
  const envelope = ctx.mcpReq.envelope as Record<string, ClientCapabilities | undefined> | undefined
  return envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? {}
}

function stringArgument(args: Args, name: string): string {
  const value = args[name]
  if (typeof value !== 'string') throw invalid(`Argument ${name} must be a string`)
  return value
}

function askName(message: string): InputRequest {
  return ask(message, { name: { type: 'string' } })
}

function titled(noun: string) {
  return ['First', 'Second', 'Third'].map((rank, index) => ({ const: `value${index + 1}`, title: `${rank} ${noun}` }))
}

function embedded(uri: string, content: string, mimeType = 'text/plain') {
  return { type: 'resource' as const, resource: { uri, mimeType, text: content } }
}

function said(value: string) {
  return { role: 'user' as const, content: { type: 'text' as const, text: value } }
}

function textOf(content: unknown): string {
  const blocks = Array.isArray(content) ? content : [content]
  return blocks.map((block: { text?: string }) => block.text ?? '').join('')
}

function invalid(message: string): ProtocolError {
  return new ProtocolError(ProtocolErrorCode.InvalidParams, message)
}

function refuse(status: number, code: number, message: string): Response {
  return Response.json({ jsonrpc: '2.0', id: null, error: { code, message } }, { status })
}

function ignore(): void {}

if (import.meta.main) {
  const at = process.argv.indexOf('--port')
  if (process.argv.includes('--stdio')) serveOverStdio()
  else console.log((await startFixture({ port: at < 0 ? 0 : Number(process.argv[at + 1]) })).url)
}
