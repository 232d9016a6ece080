import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Problem } from '../../core/action.ts'
import type { AuditLog } from '../../core/audit.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import type { Pin, PinKind } from '../../core/pin.ts'
import type { Approvals } from '../../guard/approvals.ts'
import type { Clock } from '../../guard/clock.ts'
import { digestOf } from '../../guard/digest.ts'
import type { Guard } from '../../guard/guard.ts'
import { parseJson } from '../../guard/json.ts'
import { schemaCompiler } from '../../guard/schema.ts'
import type { Sessions } from '../../guard/sessions.ts'
import type { Answer } from './action.ts'
import { mediaTypeOf, readBody } from './body.ts'
import { createCatalogs } from './catalog.ts'
import { createLegacyClients } from './clients.ts'
import type { LegacyClient } from './clients.ts'
import { identity } from './connection.ts'
import type { Changed } from './connection.ts'
import { createExchanges, responsesOf } from './exchange.ts'
import { defaultHoldTimes } from './hold.ts'
import type { HoldTimes } from './hold.ts'
import { createListeners } from './listeners.ts'
import { createMethods } from './methods.ts'
import type { Asked, Client } from './methods.ts'
import type { Mask } from './masked.ts'
import type { OfferPorts, ToolOffer } from './offer.ts'
import { differenceOf } from '../../guard/pins.ts'
import type { Pinned } from '../../guard/pins.ts'
import type { Tools } from '../../guard/tool.ts'
import { createReply } from './reply.ts'
import { createRoom } from './room.ts'
import type { Reply } from './reply.ts'
import type { McpResource } from './resource.ts'
import { createUpstream } from './upstream.ts'
import type { Upstream, UpstreamState } from './upstream.ts'
import { createWatching } from './watching.ts'
import {
  capabilitiesOf,
  decodeHeader,
  errorText,
  idOf,
  isObject,
  legacyVersions,
  messageOf,
  meta,
  metaOf,
  modernVersion,
  nameSource,
  rpc,
  RpcError,
} from './wire.ts'
import type { Era, RequestId, RpcRequest } from './wire.ts'

/** What the MCP gateway is made from. */
export interface McpGatewayPorts {
  readonly guard: Pick<Guard, 'run' | 'visible'>
  readonly sessions: Pick<Sessions, 'get' | 'onEnd'>
  readonly approvals: Pick<Approvals, 'get' | 'settled'>
  /** What definitions are held to. */
  readonly pinned: Pinned
  /** Tools of this process beside those of servers. */
  readonly local?: Tools
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly resources: readonly McpResource[]
  /** The environment of this process, of which programs get the few variables that they need to run at all. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly settings?: Partial<McpSettings>
  /** Replaces secrets in everything that servers say, before anybody sees it. */
  readonly mask?: Mask
  /** Told of failures that are nobody's but ours, for the log of the program. */
  readonly report?: (thrown: unknown) => void
  /** Told when operations came or went: conditions may be checked against their schemas anew. */
  readonly onOperations?: () => void
}

export interface McpSettings {
  readonly hold: HoldTimes
  /** Bytes of a request. */
  readonly body: number
  /** Milliseconds in which an upstream has to greet. */
  readonly connectWithin: number
}

const defaultSettings: McpSettings = { hold: defaultHoldTimes, body: 4 * 1024 * 1024, connectWithin: 30_000 }

/** One operation, as those know it who look at it from the people's side. */
export interface McpOperation {
  readonly effect: Effect
  readonly label: Label
  readonly description?: string
  readonly check: (args: JsonObject) => readonly Problem[]
  readonly barred?: NonNullable<ToolOffer['barred']>
}

export interface McpStatus {
  readonly name: string
  readonly kind: 'mcp'
  readonly state: UpstreamState
  readonly reason?: string
  readonly tools: number
  readonly quarantined: number
}

export interface McpGateway {
  /** Answers one request to the MCP endpoint. The session has been authenticated; nothing else has been looked at. */
  handle(req: IncomingMessage, res: ServerResponse, session: string): Promise<void>
  /** Takes over other resources: those that are as they were keep their connections. */
  reload(resources: readonly McpResource[]): Promise<void>
  /** Resolves when each server was tried once, or the time (milliseconds) is over. */
  ready(within: number): Promise<void>
  /** Tools of this process came or went: clients are told. */
  localChanged(): void
  /** JSON Schema of a tool's arguments, where it is known now. */
  argumentsOf(permission: Permission): JsonObject | undefined
  find(permission: Permission): McpOperation | undefined
  status(): readonly McpStatus[]
  /** In words, what a proposed definition changes. */
  difference(pin: Pin): string
  /** A person accepts a changed definition. Fails with `not_found` or `conflict`. */
  accept(resource: string, kind: PinKind, name: string, digest: string, by: string): Promise<void>
  close(): Promise<void>
}

const jsonLimits = { maxDepth: 64, maxKeys: 50_000 }
const instructions =
  'Some calls need the approval of a person. A result that says so is no failure: wait with sallyport__await_approval, ' +
  'then repeat the exact call. Arguments that differ make a new question.'
const offers = {
  tools: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  prompts: { listChanged: true },
  completions: {},
}
/** Their results say how long they hold: no time at all, since what a session may see can change at any moment. */
const cacheable: ReadonlySet<string> = new Set([
  'server/discover',
  'tools/list',
  'prompts/list',
  'resources/list',
  'resources/templates/list',
  'resources/read',
])
/** Methods that can ask back before they answer. */
const interactive: ReadonlySet<string> = new Set(['tools/call', 'prompts/get', 'resources/read'])

/** Serves the Model Context Protocol, both generations at one address, in front of all configured servers. */
export async function createMcpGateway(ports: McpGatewayPorts): Promise<McpGateway> {
  const { guard, sessions, audit, clock, report = () => {} } = ports
  const settings = { ...defaultSettings, ...ports.settings }
  const { pinned } = ports
  const offerPorts: OfferPorts = { pinned, compile: schemaCompiler() }
  const upstreams = new Map<string, Upstream>()
  const catalogs = createCatalogs(() => upstreams, ports.local)
  const watching = createWatching()
  const exchanges = createExchanges()
  const listeners = createListeners()
  const room = createRoom()
  const clients = createLegacyClients(clock, ({ id }) => {
    watching.forget(id)
    for (const upstream of upstreams.values()) upstream.forget(id)
  })
  const methods = createMethods({
    guard,
    sessions,
    approvals: ports.approvals,
    audit,
    clock,
    catalogs,
    watching,
    hold: settings.hold,
    isMasked: ports.mask !== undefined,
    report,
  })
  let isClosed = false

  sessions.onEnd((ids) => {
    for (const id of ids) {
      clients.forget(id)
      exchanges.forget(id)
      for (const watcher of listeners.forget(id)) watching.forget(watcher)
      for (const upstream of upstreams.values()) upstream.forget(modernKey(id))
    }
  })

  // Upstreams ----------------------------------------------------------------------------------------------------------------

  function add(resource: McpResource): void {
    const { alias } = resource
    const upstream = createUpstream(resource, {
      offers: offerPorts,
      audit,
      clock,
      connectWithin: settings.connectWithin,
      environment: ports.environment,
      mask: ports.mask,
      changed: announce,
      updated: (uri) => announceUpdate(alias, uri),
    })
    upstreams.set(alias, upstream)
    void upstream.tried.then(() => {
      if (upstreams.get(alias) !== upstream) return
      for (const what of ['tools', 'prompts', 'resources'] as const) announce(what)
    })
  }

  function announce(what: Changed): void {
    if (isClosed) return
    if (what === 'tools') ports.onOperations?.()
    const method = `notifications/${what}/list_changed`
    for (const client of clients.all()) client.say({ method })
    listeners.announce(what, method)
  }

  function announceUpdate(alias: string, uri: string): void {
    for (const { watcher, session, shown } of watching.of(alias, uri)) {
      if (!guard.visible(session, `${alias}.resources:subscribe`, 'read')) continue
      const client = clients.find(watcher, session)
      if (client === undefined) listeners.update(watcher, shown)
      else client.say({ method: 'notifications/resources/updated', params: { uri: shown } })
    }
  }

  for (const resource of ports.resources) add(resource)

  async function reload(resources: readonly McpResource[]): Promise<void> {
    const wanted = new Map(resources.map((resource) => [resource.alias, resource]))
    const gone = [...upstreams].filter(([alias, { resource }]) => !isSame(resource, wanted.get(alias)))
    for (const [alias] of gone) upstreams.delete(alias)
    for (const resource of resources) if (!upstreams.has(resource.alias)) add(resource)
    for (const what of ['tools', 'prompts', 'resources'] as const) announce(what)
    await Promise.all(gone.map(([, upstream]) => upstream.close()))
  }

  // The wire -----------------------------------------------------------------------------------------------------------------

  async function handle(req: IncomingMessage, res: ServerResponse, session: string): Promise<void> {
    try {
      if (isClosed) return refuse(res, 503, null, new RpcError(rpc.internal, 'the gateway is stopping'))
      if (req.method === 'POST') return await post(req, res, session)
      if (req.method === 'GET') return stream(req, res, session)
      if (req.method === 'DELETE') return end(req, res, session)
      res.setHeader('allow', 'POST, GET, DELETE')
      refuse(res, 405, null, new RpcError(rpc.request, 'this address takes POST, GET and DELETE'))
    } catch (thrown) {
      if (thrown instanceof HttpRefusal) return refuse(res, thrown.status, thrown.id, thrown.error)
      const failure = Failure.from(thrown)
      if (failure.code === 'internal') report(thrown)
      refuse(res, failure.code === 'limited' ? 503 : 500, null, new RpcError(rpc.internal, failure.message))
    }
  }

  async function post(req: IncomingMessage, res: ServerResponse, session: string): Promise<void> {
    if (mediaTypeOf(req) !== 'application/json')
      throw new HttpRefusal(415, rpc.request, '`Content-Type` has to be application/json')
    const { canStream, canBeJson } = accepted(req)
    if (!canStream && !canBeJson)
      throw new HttpRefusal(406, rpc.request, '`Accept` has to allow application/json and text/event-stream')
    const body = await bodyOf(req, roomFor(session, res))
    const message = messageOf(body)
    if (message === undefined)
      throw new HttpRefusal(
        400,
        rpc.request,
        Array.isArray(body) ? 'batches are not supported' : 'the body is no JSON-RPC message',
        idOf(body),
      )
    if (message.kind === 'response') {
      const client = legacyClient(req, session, message.id)
      client.answered(message)
      return accept(res)
    }
    const id = message.kind === 'request' ? message.id : null
    if (eraOf(req, message.method, message.params, id) === 'legacy') {
      if (message.kind === 'notification') return legacyNotification(req, res, session, message.method, message.params)
      return legacyRequest(req, res, session, message)
    }
    if (message.kind === 'notification') return accept(res) // Closing the answer is how a modern client cancels.
    checkHeaders(req, message)
    return modernRequest(req, res, session, message)
  }

  /** What a request takes belongs to the session that all of its kind were lent from, until it was answered. */
  function roomFor(session: string, res: ServerResponse): (bytes: number) => boolean {
    let root = session
    for (let of = sessions.get(root)?.parent; of !== undefined; of = sessions.get(of)?.parent) root = of
    let held = 0
    res.once('close', () => room.give(root, held))
    return (bytes) => {
      if (res.closed || !room.take(root, bytes)) return false
      held += bytes
      return true
    }
  }

  async function bodyOf(req: IncomingMessage, hasRoom: (bytes: number) => boolean): Promise<Json> {
    try {
      return parseJson(await readBody(req, settings.body, hasRoom), { ...jsonLimits, maxBytes: settings.body })
    } catch (thrown) {
      const { code, message } = Failure.from(thrown)
      if (code === 'too_large') throw new HttpRefusal(413, rpc.request, message)
      if (code === 'invalid') throw new HttpRefusal(400, rpc.parse, `the body can’t be read: ${message}`)
      throw thrown
    }
  }

  // The modern protocol --------------------------------------------------------------------------------------------------------

  async function modernRequest(
    req: IncomingMessage,
    res: ServerResponse,
    session: string,
    message: RpcRequest,
  ): Promise<void> {
    const { id, method, params } = message
    const reply = replyTo(req, res, id, params)
    const own = metaOf(params)
    if (method === 'subscriptions/listen') return listen(req, res, session, message)
    const run = methods.modern.get(method)
    if (method !== 'server/discover' && run === undefined)
      return reply.fail(new RpcError(rpc.method, 'there is no such method'), 404)
    if (run === undefined) return answer(reply, 'modern', method, { kind: 'result', result: discovered() })

    const level = own[meta.logLevel]
    const client: Client = {
      session,
      era: 'modern',
      key: modernKey(session),
      capabilities: capabilitiesOf(own[meta.capabilities]),
      logLevel: typeof level === 'string' ? level : undefined,
      legacy: undefined,
    }
    let lazy: string | undefined
    const belonging = (): { session: string; method: string; digest: string } => ({
      session,
      method,
      digest: (lazy ??= digestOfRequest(params)),
    })
    try {
      const { requestState, inputResponses } = params
      const responses = interactive.has(method) ? responsesOf(inputResponses) : undefined
      if (requestState !== undefined && interactive.has(method)) {
        if (typeof requestState !== 'string' || requestState.length > 1_000)
          throw new RpcError(rpc.params, '`requestState` is not one of ours')
        return exchanges.resume(belonging(), requestState, responses ?? {}, reply)
      }
      const exchange = exchanges.begin(belonging, reply)
      await perform(run, method, { client, params, headers: req.headers, exchange, signal: exchange.signal, responses })
    } catch (thrown) {
      fail(reply, thrown)
    }
  }

  async function perform(run: (asked: Asked) => Promise<Answer>, method: string, asked: Asked): Promise<void> {
    try {
      const given = await run(asked)
      answer(asked.exchange.reply(), asked.client.era, method, given)
    } catch (thrown) {
      fail(asked.exchange.reply(), thrown)
    }
  }

  async function listen(
    req: IncomingMessage,
    res: ServerResponse,
    session: string,
    { id, params }: RpcRequest,
  ): Promise<void> {
    const reply = replyTo(req, res, id, params)
    const wanted = params['notifications']
    if (!isObject(wanted)) return reply.fail(new RpcError(rpc.params, '`notifications` has to be an object'))
    if (!reply.canStream) return reply.fail(new RpcError(rpc.request, '`Accept` has to allow text/event-stream'), 406)
    const uris = wanted['resourceSubscriptions']
    if (
      uris !== undefined &&
      (!Array.isArray(uris) || uris.length > 100 || !uris.every((uri) => typeof uri === 'string'))
    )
      return reply.fail(new RpcError(rpc.params, '`resourceSubscriptions` has to be a list of at most 100 addresses'))
    const watcher = listeners.open(session, id, wanted, res, () => watching.forget(watcher))
    const client: Client = {
      session,
      era: 'modern',
      key: modernKey(session),
      capabilities: {},
      logLevel: undefined,
      legacy: undefined,
    }
    const honored: string[] = []
    for (const uri of (uris ?? []) as readonly string[]) {
      const exchange = {
        reply: () => reply,
        signal: reply.left,
        ask: () => Promise.reject(new Failure('cancelled', 'nothing can be asked here')),
      }
      if (
        await methods.watch(
          { client, params: {}, headers: req.headers, exchange, signal: reply.left, responses: undefined },
          uri,
          watcher,
        )
      )
        honored.push(uri)
    }
    listeners.acknowledge(watcher, honored)
  }

  // The legacy protocol --------------------------------------------------------------------------------------------------------

  async function legacyRequest(
    req: IncomingMessage,
    res: ServerResponse,
    session: string,
    message: RpcRequest,
  ): Promise<void> {
    const { id, method, params } = message
    if (method === 'initialize') return initialize(req, res, session, message)
    const client = legacyClient(req, session, id)
    checkLegacyVersion(req, id)
    const reply = replyTo(req, res, id, params)
    const run = methods.legacy.get(method)
    if (run === undefined) return reply.fail(new RpcError(rpc.method, 'there is no such method'))
    if (client.inFlight.has(id))
      return reply.fail(new RpcError(rpc.request, 'a request with this id is on its way already'))
    const controller = new AbortController()
    const leave = (): void => controller.abort(new Failure('cancelled', 'the client left'))
    reply.left.addEventListener('abort', leave, { once: true })
    client.inFlight.set(id, controller)
    const { capabilities, logLevel } = client
    const exchange = {
      reply: () => reply,
      signal: controller.signal,
      ask: () => Promise.reject(new Failure('internal', 'asked in the wrong way')),
    }
    try {
      await perform(run, method, {
        client: { session, era: 'legacy', key: client.id, capabilities, logLevel, legacy: client },
        params,
        headers: req.headers,
        exchange,
        signal: controller.signal,
        responses: undefined,
      })
    } finally {
      client.inFlight.delete(id)
    }
  }

  function initialize(req: IncomingMessage, res: ServerResponse, session: string, { id, params }: RpcRequest): void {
    const wanted = params['protocolVersion']
    if (typeof wanted !== 'string') throw new HttpRefusal(400, rpc.params, '`protocolVersion` has to be a text', id)
    const version = legacyVersions.includes(wanted) ? wanted : legacyVersions[0]
    const client = clients.begin(session, version, capabilitiesOf(params['capabilities']))
    res.setHeader('mcp-session-id', client.id)
    replyTo(req, res, id, params).answer({
      protocolVersion: version,
      capabilities: { ...offers, logging: {} },
      serverInfo: identity,
      instructions,
    })
  }

  function legacyNotification(
    req: IncomingMessage,
    res: ServerResponse,
    session: string,
    method: string,
    params: JsonObject,
  ): void {
    const client = legacyClient(req, session, null)
    checkLegacyVersion(req, null)
    if (method === 'notifications/cancelled') {
      const { requestId } = params
      if (typeof requestId === 'string' || typeof requestId === 'number')
        client.inFlight.get(requestId)?.abort(new Failure('cancelled', 'the client cancelled the call'))
    }
    accept(res)
  }

  function stream(req: IncomingMessage, res: ServerResponse, session: string): void {
    if (!accepted(req).canStream) throw new HttpRefusal(406, rpc.request, '`Accept` has to allow text/event-stream')
    if (req.headers['mcp-session-id'] === undefined) {
      res.setHeader('allow', 'POST')
      throw new HttpRefusal(405, rpc.request, 'there is no stream without a session')
    }
    const client = legacyClient(req, session, null)
    try {
      client.listen(res)
    } catch (thrown) {
      throw new HttpRefusal(409, rpc.request, Failure.from(thrown).message)
    }
  }

  function end(req: IncomingMessage, res: ServerResponse, session: string): void {
    clients.end(legacyClient(req, session, null))
    res.writeHead(204).end()
  }

  /** The client of a request's session. One of somebody else's session does not exist. */
  function legacyClient(req: IncomingMessage, session: string, id: RequestId | null): LegacyClient {
    const given = req.headers['mcp-session-id']
    if (typeof given !== 'string')
      throw new HttpRefusal(400, rpc.request, '`Mcp-Session-Id` is missing: send `initialize` first', id)
    const client = clients.find(given, session)
    if (client === undefined)
      throw new HttpRefusal(404, rpc.request, 'there is no such session: send `initialize` again', id)
    return client
  }

  // Answers ----------------------------------------------------------------------------------------------------------------------

  function answer(reply: Reply, era: Era, method: string, given: Answer): void {
    if (given.kind === 'error') return reply.fail(given.error, statusOf(given.error))
    if (era === 'legacy') return reply.answer(given.result)
    const { _meta, ...result } = given.result
    reply.answer({
      resultType: 'complete',
      ...result,
      ...(cacheable.has(method) ? { ttlMs: 0, cacheScope: 'private' } : {}),
      _meta: { ...(isObject(_meta) ? _meta : {}), [meta.server]: identity },
    })
  }

  function fail(reply: Reply, thrown: unknown): void {
    if (thrown instanceof RpcError) return reply.fail(thrown, statusOf(thrown))
    const failure = Failure.from(thrown)
    if (failure.code === 'internal') report(thrown)
    reply.fail(new RpcError(rpc.internal, failure.message))
  }

  // What people look at ------------------------------------------------------------------------------------------------------------

  function toolOf(permission: Permission): ToolOffer | undefined {
    const alias = permission.slice(0, permission.indexOf(':'))
    return upstreams.get(alias)?.state.offered.tools.find((tool) => tool.permission === permission)
  }

  function find(permission: Permission): McpOperation | undefined {
    const tool = toolOf(permission)
    if (tool !== undefined) {
      const description = tool.listed?.['description']
      return {
        effect: tool.effect,
        label: tool.label,
        ...(typeof description === 'string' ? { description } : {}),
        check: (args) => tool.input?.check(args) ?? [],
        ...(tool.barred === undefined ? {} : { barred: tool.barred }),
      }
    }
    const [, alias, part] = /^([^.:]+)\.(resources|prompts):/.exec(permission) ?? []
    const resource = alias === undefined ? undefined : upstreams.get(alias)?.resource
    if (resource === undefined) return undefined
    return {
      effect: 'read',
      label: (part === 'prompts' ? resource.prompts : resource.resources).label,
      check: () => [],
    }
  }

  return {
    handle,
    reload,
    localChanged: () => announce('tools'),
    ready: (within) => {
      const tried = Promise.all([...upstreams.values()].map((upstream) => upstream.tried))
      return Promise.race([tried.then(() => {}), new Promise<void>((resolve) => setTimeout(resolve, within).unref())])
    },
    argumentsOf: (permission) => toolOf(permission)?.schema,
    find,
    status: () =>
      [...upstreams.values()].map(({ resource: { alias }, state: { state, reason, offered } }) => {
        const why = reason ?? offered.problems[0]
        return {
          name: alias,
          kind: 'mcp',
          state,
          ...(why === undefined ? {} : { reason: why }),
          tools: offered.tools.length,
          quarantined: [...offered.tools, ...offered.prompts].filter(({ barred }) => barred?.code === 'quarantined')
            .length,
        }
      }),
    difference: differenceOf,
    async accept(resource, kind, name, digest, by) {
      await pinned.accept(resource, kind, name, digest, by)
      await upstreams.get(resource)?.refresh().catch(report)
      announce(kind === 'prompt' ? 'prompts' : kind === 'tool' ? 'tools' : 'resources')
    },
    async close() {
      isClosed = true
      listeners.close()
      for (const client of clients.all()) clients.end(client)
      await Promise.all([...upstreams.values()].map((upstream) => upstream.close()))
    },
  }

  function replyTo(req: IncomingMessage, res: ServerResponse, id: RequestId, params: JsonObject): Reply {
    const { progressToken } = metaOf(params)
    const isToken = typeof progressToken === 'string' ? progressToken.length <= 256 : typeof progressToken === 'number'
    return createReply(res, { id, ...accepted(req), progressToken: isToken ? (progressToken as RequestId) : undefined })
  }

  function discovered(): JsonObject {
    return { supportedVersions: [modernVersion], capabilities: offers, instructions }
  }
}

/** The request was refused before a method could answer it. */
class HttpRefusal extends Error {
  readonly status: number
  readonly id: RequestId | null
  readonly error: RpcError

  constructor(status: number, code: number, message: string, id: RequestId | null = null, data?: JsonObject) {
    super(message)
    this.status = status
    this.id = id
    this.error = new RpcError(code, message, data)
  }
}

function refuse(res: ServerResponse, status: number, id: RequestId | null, error: RpcError): void {
  if (res.headersSent) return void res.destroy()
  // What was not read of the request would be taken for the next one.
  if (!res.req.complete) res.setHeader('connection', 'close')
  res.writeHead(status, { 'content-type': 'application/json' }).end(errorText(id, error))
}

const accept = (res: ServerResponse): void => void res.writeHead(202).end()

const modernKey = (session: string): string => `modern ${session}`

/** The spec gives these codes a status of their own; every other error is an answer like any other. */
const statusOf = ({ code }: RpcError): number =>
  code === rpc.missingCapability || code === rpc.headerMismatch || code === rpc.unsupportedVersion ? 400 : 200

function accepted({ headers: { accept: given = '*/*' } }: IncomingMessage): { canStream: boolean; canBeJson: boolean } {
  const all = given.includes('*/*')
  return { canStream: all || given.includes('text/event-stream'), canBeJson: all || given.includes('application/') }
}

/**
 * Which generation of the protocol a message is of: what its body says. A header that says something else is an error,
 * never a reason: something on the way may have decided by it.
 */
function eraOf(req: IncomingMessage, method: string, params: JsonObject, id: RequestId | null): Era {
  const header = headerText(req, 'mcp-protocol-version')
  const namesModern = header !== undefined && !legacyVersions.includes(header) && header >= modernVersion
  const own = metaOf(params)
  const claimed = own[meta.version]
  if (claimed === undefined) {
    if (!namesModern) return 'legacy'
    if (id === null) return 'modern'
    if (method === 'initialize')
      throw new HttpRefusal(400, rpc.headerMismatch, `\`initialize\` is not of ${header}`, id)
    throw new HttpRefusal(400, rpc.params, `\`_meta\` needs ${meta.version} and ${meta.capabilities}`, id)
  }
  if (typeof claimed !== 'string')
    throw new HttpRefusal(400, rpc.params, `${meta.version} in \`_meta\` has to be a text`, id)
  if (header !== undefined && header !== claimed)
    throw new HttpRefusal(400, rpc.headerMismatch, 'the header MCP-Protocol-Version and the body disagree', id)
  if (id !== null && !isObject(own[meta.capabilities]))
    throw new HttpRefusal(400, rpc.params, `\`_meta\` needs ${meta.capabilities}`, id)
  if (claimed !== modernVersion)
    throw new HttpRefusal(400, rpc.unsupportedVersion, 'this revision is not supported', id, {
      supported: [modernVersion],
      requested: claimed.slice(0, 100),
    })
  return 'modern'
}

/** Headers repeat what the body says, for those on the way who decide by them. They have to agree. */
function checkHeaders(req: IncomingMessage, { id, method, params }: RpcRequest): void {
  const mismatch = (message: string): never => {
    throw new HttpRefusal(400, rpc.headerMismatch, message, id)
  }
  if (headerText(req, 'mcp-protocol-version') === undefined) mismatch('the header MCP-Protocol-Version is missing')
  const named = headerText(req, 'mcp-method')
  if (named !== method)
    mismatch(named === undefined ? 'the header Mcp-Method is missing' : 'the header Mcp-Method and the body disagree')
  const source = nameSource.get(method)
  if (source === undefined) return
  const inBody = params[source]
  const given = headerText(req, 'mcp-name')
  if (given === undefined) return typeof inBody === 'string' ? mismatch('the header Mcp-Name is missing') : undefined
  if (decodeHeader(given) !== inBody) mismatch('the header Mcp-Name and the body disagree')
}

/** Some legacy clients leave it out. One that names a revision which we don't speak is told. */
function checkLegacyVersion(req: IncomingMessage, id: RequestId | null): void {
  const header = headerText(req, 'mcp-protocol-version')
  if (header !== undefined && !legacyVersions.includes(header))
    throw new HttpRefusal(
      400,
      rpc.request,
      `MCP-Protocol-Version is not supported: expected one of ${[modernVersion, ...legacyVersions].join(', ')}`,
      id,
    )
}

function headerText({ headers }: IncomingMessage, name: string): string | undefined {
  const value = headers[name]
  return typeof value === 'string' ? value.trim() : undefined
}

/** What a request asks for, apart from what changes between the rounds of one exchange. */
function digestOfRequest(params: JsonObject): string {
  const { _meta, inputResponses: _, requestState: __, ...rest } = params
  return digestOf(rest)
}

/** Whether a server is still described as it was. Readers of secrets read anew anyway; a mark speaks for what they read. */
function isSame(a: McpResource, b: McpResource | undefined): boolean {
  const plain = (resource: McpResource): string =>
    JSON.stringify(resource, (_key, value: unknown) =>
      value instanceof Map
        ? [...value]
        : typeof value === 'function'
          ? resource.target.mark === undefined && JSON.stringify((value as () => unknown)())
          : value,
    )
  return b !== undefined && plain(a) === plain(b)
}
