import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isDeepStrictEqual } from 'node:util'
import type { Action, Problem } from '../../core/action.ts'
import type { AuditLog } from '../../core/audit.ts'
import type { Decision } from '../../core/decide.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import { parseNetwork } from '../../guard/addresses.ts'
import type { Clock } from '../../guard/clock.ts'
import { LimitReached } from '../../guard/guard.ts'
import type { Guard, Perform, Performed } from '../../guard/guard.ts'
import type { Masker } from '../../guard/mask.ts'
import { schemaCompiler } from '../../guard/schema.ts'
import type { Sessions } from '../../guard/sessions.ts'
import type { Tool, ToolAnswer } from '../../guard/tool.ts'
import { createRoom } from './body.ts'
import { createCredentials } from './credential.ts'
import { createEgress } from './egress.ts'
import type { EgressPorts } from './egress.ts'
import { answerHeaders, checkHeaders, headerOf } from './headers.ts'
import type { RawHeaders } from './headers.ts'
import { placeOf } from './host.ts'
import type { Bounds, Place } from './host.ts'
import { lengthOf as sizeOf, metered } from './metered.ts'
import { compileOperation, createRoutes } from './operation.ts'
import type { Operation, Routes } from './operation.ts'
import { notThere, say, sayLimited, sayRefused } from './refusal.ts'
import { outgoingOf, takeRequest } from './request.ts'
import type { Taken } from './request.ts'
import type { HttpResource } from './resource.ts'
import { send } from './send.ts'
import type { Incoming, Outgoing, SendPorts } from './send.ts'
import { readTarget } from './target.ts'
import type { Target } from './target.ts'
import {
  acceptAgent,
  createSeats,
  isUpgrade,
  onceClosed,
  openUpstream,
  readHandshake,
  relay,
  watchSilence,
} from './websocket.ts'
import type { Handshake, Side } from './websocket.ts'

/** What the HTTP gateway is made from. */
export interface HttpGatewayPorts {
  readonly guard: Pick<Guard, 'run' | 'visible' | 'explain' | 'stands'>
  readonly sessions: Pick<Sessions, 'get' | 'onEnd' | 'label'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly resources: readonly HttpResource[]
  /** Hides secrets in whatever comes from an upstream. */
  readonly mask: Pick<Masker, 'text' | 'json' | 'stream'>
  /** How long a request waits for people, in milliseconds, unless it says less (`Prefer: wait=10`, RFC 7240). */
  readonly hold: number
  readonly egress?: EgressPorts
  /** How often WebSockets are asked whether they are still there, in milliseconds. */
  readonly beat?: number
  /** Told of tokens that an upstream gave out for a credential. */
  readonly onSecret?: (resource: string, value: string) => () => void
  /** Told of failures that are nobody's but ours. */
  readonly report?: (thrown: unknown) => void
}

/** A request to one resource, however it came: by base URL, or through a proxy. */
export interface HttpRequest {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly session: string
  readonly alias: string
  /** Path and query below the address of the resource, as they came. */
  readonly target: string
  /** What stands for the address of the resource where the agent is: `/api/billing`. */
  readonly own: string
}

/** One operation, as those know it who look at it from the people's side. */
export interface HttpOperation {
  readonly effect: Effect
  readonly label: Label
  readonly description?: string
  readonly check: (args: JsonObject) => readonly Problem[]
}

export interface HttpStatus {
  readonly name: string
  readonly kind: 'http'
  readonly state: 'ready'
  readonly tools: number
  readonly quarantined: number
}

export interface HttpGateway {
  /**
   * Answers `/api/<resource>/…`. The session has been authenticated; nothing else has been looked at. A request to open
   * a WebSocket has to come with its connection taken out of the server's hands, and an answer that is written to it.
   */
  handle(req: IncomingMessage, res: ServerResponse, session: string): Promise<void>
  /** Answers a request to a resource that is known by other means. */
  serve(request: HttpRequest): Promise<void>
  /** Makes ready for other resources. Fails with `invalid`; what it returns takes them over. */
  prepare(resources: readonly HttpResource[]): () => void
  argumentsOf(permission: Permission): JsonObject | undefined
  find(permission: Permission): HttpOperation | undefined
  status(): readonly HttpStatus[]
  /** Operations that can be called as tools: those that take no file and open no WebSocket. */
  tools(): readonly Tool[]
  /** Counts up when they change. */
  revision(): number
  close(): Promise<void>
}

interface Live {
  readonly resource: HttpResource
  readonly operations: ReadonlyMap<string, Operation>
  readonly routes: Routes
  readonly close: () => Promise<void>
  /** Closes once nothing is on its way. */
  readonly retire: () => Promise<void>
  readonly ports: SendPorts
  readonly base: Place
}

/** A WebSocket that is to be opened. */
interface Opening {
  readonly at: Live
  readonly operation: Operation
  readonly action: Action
  readonly handshake: Handshake
  /** Ends the watch over a client that has not been answered. */
  readonly unwatch: () => void
  /** What was decided before it was opened, and people were asked. */
  readonly before: Decision
}

/** Memory for bodies that are read before they are passed on, of all requests together. */
const mostRoom = 256 * 1024 * 1024
/** How long what was there before stays open, for requests that wait for people, in milliseconds. */
const retireAfter = 60_000
/** Bytes of a text that the record shows. */
const mostKept = 16 * 1024
/** Bytes of an answer that is sent in one piece. */
const mostHeld = 64 * 1024
/** Bytes of an answer that a tool returns. */
const mostOfTool = 1_000_000
/** WebSockets of one session at once, and the memory that those of all sessions may take. */
const mostSockets = { ofSession: 64, bytes: 1024 * 1024 * 1024 }

/** Serves listed operations of APIs, with a credential that the agent never sees. Fails with `invalid`. */
export function createHttpGateway(ports: HttpGatewayPorts): HttpGateway {
  const { guard, sessions, audit, clock, mask, report = () => {} } = ports
  const room = createRoom(mostRoom)
  const seats = createSeats(mostSockets.ofSession, mostSockets.bytes)
  const compile = schemaCompiler()
  let live = new Map<string, Live>()
  /** Those in force, and those from before that have not been retired yet. */
  const open = new Set<Live>()
  let revision = 0

  function make(resource: HttpResource): Live {
    const base = placeOf(resource.base)
    const bounds: Bounds = {
      addresses: resource.addresses.map(parseNetwork),
      hosts: typeof resource.redirects === 'string' ? [] : resource.redirects,
      ports: resource.ports,
      home: base,
    }
    const operations = new Map(
      [...resource.operations].map(([name, given]) => [
        name,
        compileOperation(resource.alias, name, given, resource.credential, compile),
      ]),
    )
    const way = { ...ports.egress, ...(resource.ca === undefined ? {} : { ca: resource.ca }) }
    const egress = createEgress(bounds, way)
    const { credential } = resource
    const tokenPlace = credential.kind === 'oauth' ? placeOf(credential.tokenUrl) : undefined
    const tokens =
      tokenPlace === undefined
        ? egress
        : createEgress({ ...bounds, hosts: [], home: tokenPlace }, tokenPlace.host === base.host ? way : ports.egress)
    const credentials = createCredentials(resource.credential, {
      dispatcher: tokens.dispatcherOf(''),
      clock,
      onSecret: (value) => ports.onSecret?.(resource.alias, value) ?? (() => {}),
      onLeaseEnd: (ended) =>
        audit
          .append({ type: 'lease.end', at: clock(), resource: resource.alias, ...ended })
          .done.catch((thrown: unknown) => report(thrown)),
    })
    return {
      resource,
      operations,
      routes: createRoutes(operations.values()),
      async close() {
        await credentials.close()
        await Promise.all([...new Set([egress, tokens])].map((each) => each.destroy()))
      },
      async retire() {
        await credentials.close()
        await Promise.all([...new Set([egress, tokens])].map((each) => each.close()))
      },
      ports: { egress, credentials, base, redirects: resource.redirects },
      base,
    }
  }

  function prepare(resources: readonly HttpResource[]): () => void {
    const next = new Map(resources.map((resource) => [resource.alias, make(resource)]))
    return () => {
      const gone = live
      live = next
      revision += 1
      for (const at of next.values()) open.add(at)
      // What waits for people or is on its way may end.
      for (const at of gone.values()) {
        const retire = (): void =>
          void at
            .retire()
            .catch(() => {})
            .finally(() => open.delete(at))
        setTimeout(retire, retireAfter).unref()
      }
    }
  }

  for (const resource of ports.resources) live.set(resource.alias, make(resource))
  for (const at of live.values()) open.add(at)
  sessions.onEnd((ids) => {
    for (const at of open) {
      at.ports.credentials.ended(ids)
      at.ports.egress.ended(ids)
    }
  })

  // Serving ------------------------------------------------------------------------------------------------------------

  async function handle(req: IncomingMessage, res: ServerResponse, session: string): Promise<void> {
    const [, alias = '', target = ''] = /^\/api\/([a-z][a-z0-9-]{0,15})((?:[/?].*)?)$/.exec(req.url ?? '') ?? []
    return serve({
      req,
      res,
      session,
      alias,
      target: target.startsWith('/') ? target : `/${target}`,
      own: `/api/${alias}`,
    })
  }

  async function serve(request: HttpRequest): Promise<void> {
    const { req, res, alias } = request
    const left = new AbortController()
    const leave = (): void => void (res.writableFinished || left.abort(new Failure('cancelled', 'the client left')))
    res.once('close', leave)
    const freed: (() => void)[] = []
    try {
      const target = targetOf(request)
      if (target === undefined)
        return say(res, 400, { code: 'invalid_request', message: 'the address can’t be read in one way only' })
      const at = live.get(alias)
      const found = at?.routes.find(req.method ?? '', target.segments)
      if (at === undefined || found === undefined) return await neverWas(request)
      checkHeaders(req, found.operation.headers)
      await perform(request, at, found.operation, found.values, target, freed, left)
    } catch (thrown) {
      if (!isWebSocketNow(request)) fail(res, thrown)
      else if (Failure.from(thrown).code === 'internal') report(thrown)
    } finally {
      for (const free of freed) free()
      res.off('close', leave)
    }
  }

  function targetOf({ target }: HttpRequest): Target | undefined {
    try {
      return readTarget(target)
    } catch (thrown) {
      if (Failure.from(thrown).code !== 'invalid') throw thrown
      return undefined
    }
  }

  /** Written down like a refusal, so that neither the answer nor the time that it takes tells the two apart. */
  async function neverWas({ req, res, session, alias, target }: HttpRequest): Promise<void> {
    const agent = sessions.get(session)?.agent
    const path = target.replace(/\?.*$/s, '')
    const name = mask.text(`${alias}${path}`).slice(0, 200)
    await audit.append({
      type: 'name.unknown',
      at: clock(),
      session,
      agent,
      method: (req.method ?? '').slice(0, 20),
      name,
    }).done
    say(res, 404, notThere)
  }

  async function perform(
    request: HttpRequest,
    at: Live,
    operation: Operation,
    inPath: JsonObject,
    target: Target,
    freed: (() => void)[],
    left: AbortController,
  ): Promise<void> {
    const { req, res } = request
    const isVisible = guard.visible(request.session, operation.permission, operation.effect)
    // What a session may not know of is not read: that takes time, and would tell.
    const handshake = isVisible && isUpgrade(req) ? handshakeOf(request, operation) : undefined
    if (handshake === 'answered') return
    const unwatch = handshake === undefined ? () => {} : watchSilence(req.socket, (failure) => left.abort(failure))
    freed.push(unwatch)
    if (isVisible && req.headers.expect?.toLowerCase() === '100-continue') res.writeContinue()
    const taken: Taken = isVisible
      ? await takeRequest(req, operation, inPath, target.query, {
          room,
          freed,
          needsWhole: (args) =>
            guard.explain(actionOf(request, at, operation, args, operation.check(args))).kind === 'ask',
        })
      : { args: inPath, problems: [], status: 400, carried: { kind: 'none' } }
    const problems = isVisible
      ? [...taken.problems, ...(taken.problems.length === 0 ? operation.check(taken.args) : [])]
      : []
    const made = isVisible && problems.length === 0 ? outgoingOf(operation, taken, req) : undefined
    const sends = made === undefined ? undefined : sizeOf(made.outgoing)
    const action: Action = {
      ...actionOf(request, at, operation, taken.args, problems),
      ...(sends === undefined ? {} : { sends }),
    }

    const run: Perform<() => void> = async (signal, passed) => {
      if (made === undefined) throw new Failure('conflict', 'what this session may do changed: repeat the request')
      const { outgoing, takeBack } = metered(made.outgoing, passed)
      if (handshake !== undefined && before !== undefined)
        return withSecrets(
          at,
          await join(request, { at, operation, action, handshake, unwatch, before }, outgoing, signal, passed),
        )
      return inTime(operation.response.time, signal, async (within) => {
        const incoming = await send(outgoing, operation.response, at.ports, request.session, within)
        return withSecrets(at, await pass(incoming, request, at, passed, made.sent, within))
      }).catch((thrown: unknown) => {
        // What went out, went out. Of what may not be sent, nothing did.
        if (Failure.from(thrown).code === 'forbidden') takeBack()
        throw thrown
      })
    }
    const before = handshake === undefined ? undefined : guard.stands(action)
    const outcome = await guard.run(action, run, { most: holdOf(req) }, left.signal)
    if (isWebSocketNow(request)) return
    if (outcome.kind === 'refused') sayRefused(res, outcome.refusal, problems, taken.status, clock())
    else outcome.value()
  }

  // WebSockets ---------------------------------------------------------------------------------------------------------

  /** What a request to open a WebSocket says, where its operation has one; `answered` where nothing will be opened. */
  function handshakeOf({ req, res }: HttpRequest, { websocket }: Operation): Handshake | 'answered' {
    const refuse = (message: string, headers?: Readonly<Record<string, string>>): 'answered' => {
      say(res, 426, { code: 'not_supported', message }, headers)
      return 'answered'
    }
    if (websocket === undefined) return refuse('this operation opens no WebSocket')
    const handshake = readHandshake(req, websocket)
    return handshake === 'other_version'
      ? refuse('only version 13 of WebSocket is spoken', { 'sec-websocket-version': '13' })
      : handshake
  }

  /** Opens the upstream's, then the agent's, and hands on what passes between them until one of them ends. */
  async function join(
    { req, res, session }: HttpRequest,
    opening: Opening,
    outgoing: Outgoing,
    signal: AbortSignal,
    passed: (bytes: number, sent?: number) => void,
  ): Promise<Performed<() => void>> {
    const { at, operation, handshake } = opening
    const { websocket: bounds, response } = operation
    if (bounds === undefined) throw new Failure('internal', 'a WebSocket that is not listed was not refused')
    const leave = seats.take(session, bounds)
    let upstream: Side | undefined
    let agent: Side | undefined
    try {
      upstream = await inTime(response.time, signal, (within) =>
        openUpstream(outgoing, handshake, bounds, at.ports, session, within),
      )
      const { protocol } = upstream.ws
      opening.unwatch()
      agent = acceptAgent(req, res, protocol, bounds)
      const relayed = await relay(agent, upstream, {
        bounds,
        mask: whole,
        passed,
        stopped: standing(opening),
        signal,
        ...(ports.beat === undefined ? {} : { beat: ports.beat }),
      })
      return {
        value: () => {},
        record: { status: 101, ...(protocol === '' ? {} : { protocol }), ...relayed },
        bytes: relayed.received.bytes,
        checks: { ran: ['size', 'time', 'secrets'] },
      }
    } catch (thrown) {
      // Before there is an agent's end nobody else closes the upstream's.
      if (agent === undefined) upstream?.ws.terminate()
      throw thrown
    } finally {
      // What waits for a side to take it is kept until its connection is closed.
      onceClosed([upstream, agent], leave)
    }
  }

  /** Asks of each message why it may not pass, if it may not: what is in force by then decides. */
  function standing({ at, operation, action, before }: Opening): () => Failure | undefined {
    const refuse = (because: string): Failure => new Failure('forbidden', `${because}: open it anew`)
    return () => {
      const { resource, operations } = live.get(at.resource.alias) ?? {}
      if (resource?.base !== at.resource.base || operations?.get(operation.name)?.websocket === undefined)
        return refuse('the configuration of this resource changed')
      const now = guard.stands(action)
      if (now.kind === 'allow') return undefined
      if (now.kind === 'deny')
        return now.code === 'limited' ? new Failure('limited', now.because) : refuse('this is not allowed any more')
      // What people agreed to when it was opened, they agreed to; another question nobody has answered.
      const isTheSame = before.kind === 'ask' && isDeepStrictEqual([now.rules, now.ask], [before.rules, before.ask])
      return isTheSame ? undefined : refuse('by now a person has to agree to this')
    }
  }

  const whole = (bytes: Uint8Array): Uint8Array => {
    const masked = mask.stream()
    return Buffer.concat([masked.push(bytes), masked.end()])
  }

  /** Whether the connection became a WebSocket, which has been closed by now: there is nobody left to be told. */
  const isWebSocketNow = ({ req, res }: HttpRequest): boolean => isUpgrade(req) && res.socket === null

  /** The record says which secrets went along. */
  const withSecrets = <T>({ resource: { secrets = [] } }: Live, performed: Performed<T>): Performed<T> =>
    secrets.length === 0 ? performed : { ...performed, secrets }

  function actionOf(
    { req, session }: HttpRequest,
    { base }: Live,
    operation: Operation,
    args: JsonObject,
    problems: readonly Problem[],
  ): Action {
    return {
      session,
      permission: operation.permission,
      effect: operation.effect,
      args,
      problems,
      label: operation.label,
      via: 'http',
      name: `${req.method} ${operation.template}`,
      host: base.host,
      ...(operation.barred === undefined ? {} : { barred: operation.barred }),
    }
  }

  const holdOf = ({ headers }: IncomingMessage): number => {
    const wait = /(?:^|[,;\s])wait=(\d{1,5})(?:$|[,;\s])/i.exec(String(headers['prefer'] ?? ''))?.[1]
    return wait === undefined ? ports.hold : Math.min(ports.hold, Number(wait) * 1_000)
  }

  /** Hands an answer on while it comes, as fast as the agent takes it. Its end comes once the outcome is recorded. */
  async function pass(
    incoming: Incoming,
    { req, res, own }: HttpRequest,
    { base }: Live,
    passed: (bytes: number) => void,
    sent: () => JsonObject & { readonly bytes: number },
    signal: AbortSignal,
  ): Promise<Performed<() => void>> {
    const { status, headers, type } = incoming
    if (status === 407) throw new Failure('unavailable', 'the upstream asks for a proxy’s credential')
    const shownHeaders = answerHeaders(headers, base, own, mask.text)
    const begin = (length?: number): void => {
      const size = length === undefined ? {} : { 'content-length': String(length) }
      const stream = type === 'text/event-stream' ? { 'x-accel-buffering': 'no' } : {}
      res.writeHead(status, { ...shownHeaders, ...stream, ...size })
    }
    const masked = mask.stream()
    const hash = createHash('sha256')
    const kept = keeper(type)
    let bytes = 0
    // An answer that says how long it is comes at once: what is short goes out in one piece.
    let held: Uint8Array | undefined
    const isShort = headerOf(headers, 'content-encoding') === undefined && lengthOf(headers) <= mostHeld
    if (!isShort) {
      begin()
      res.flushHeaders()
    }
    for await (const chunk of incoming.body) {
      bytes += chunk.length
      passed(chunk.length)
      hash.update(chunk)
      const shown = masked.push(chunk)
      kept.take(shown)
      if (shown.length === 0) continue
      if (isShort) held = held === undefined ? shown : Buffer.concat([held, shown])
      else if (!res.write(shown)) await drained(res, signal)
    }
    const last = masked.end()
    kept.take(last)
    const rest = held === undefined ? last : Buffer.concat([held, last])
    if (signal.aborted || res.destroyed) throw new Failure('cancelled', 'the client left')
    const out = sent()
    return {
      value() {
        if (isShort) begin(hasBody(req.method, status) ? rest.length : undefined)
        res.end(req.method === 'HEAD' ? undefined : rest)
      },
      record: {
        status,
        ...(type === '' ? {} : { type }),
        bytes,
        sha256: hash.digest('hex'),
        ...kept.shown(),
        ...(out.bytes > 0 ? { sent: out } : {}),
      },
      bytes,
      failed: status >= 400,
      checks: { ran: ['type', 'size', 'time', 'secrets'] },
    }
  }

  function fail(res: ServerResponse, thrown: unknown): void {
    const failure = Failure.from(thrown)
    if (failure.code === 'internal') report(thrown)
    if (failure instanceof LimitReached) return sayLimited(res, failure, clock())
    switch (failure.code) {
      case 'invalid':
        return say(res, 400, { code: 'invalid_request', message: failure.message })
      case 'cancelled':
        return void res.destroy()
      case 'limited':
        return say(res, 503, { code: 'limited', message: failure.message }, { 'retry-after': '1' })
      case 'conflict':
        return say(res, 409, { code: 'conflict', message: failure.message })
      case 'internal':
        return say(res, 500, { code: 'internal', message: failure.message })
      default:
        return say(res, failure instanceof TooLate ? 504 : 502, {
          code: failure.code === 'unavailable' ? 'upstream' : failure.code,
          message: mask.text(failure.message),
        })
    }
  }

  // As tools -----------------------------------------------------------------------------------------------------------

  function toolOf(at: Live, operation: Operation): Tool[] {
    const { content, websocket } = operation
    if (
      websocket !== undefined ||
      content.kind === 'upload' ||
      (content.kind === 'multipart' && Object.keys(content.files).length > 0)
    )
      return []
    const madeOf = (args: JsonObject): Outgoing =>
      outgoingOf(operation, { args, carried: { kind: 'none' } }, undefined).outgoing
    return [
      {
        alias: at.resource.alias,
        host: at.base.host,
        name: operation.name,
        permission: operation.permission,
        effect: operation.effect,
        label: operation.label,
        description: operation.description ?? `${operation.method} ${operation.template}`,
        schema: operation.schema,
        barred: operation.barred,
        check: (args) => operation.check(args),
        prepare: async (args, session) => {
          const made = madeOf(args)
          const sends = sizeOf(made)
          return {
            ...(sends === undefined ? {} : { action: { sends } }),
            perform: (signal, passed) => {
              const { outgoing, takeBack } = metered(made, passed)
              return inTime(operation.response.time, signal, async (within) =>
                withSecrets(at, await gathered(await send(outgoing, operation.response, at.ports, session, within))),
              ).catch((thrown: unknown) => {
                if (Failure.from(thrown).code === 'forbidden') takeBack()
                throw thrown
              })
            },
          }
        },
      },
    ]
  }

  /** The whole of an answer, for a tool's result. */
  async function gathered({ status, type, body }: Incoming): Promise<Performed<ToolAnswer>> {
    const hash = createHash('sha256')
    const masked = mask.stream()
    const chunks: Uint8Array[] = []
    let bytes = 0
    for await (const chunk of body) {
      bytes += chunk.length
      if (bytes > mostOfTool)
        throw new Failure(
          'too_large',
          `the answer is larger than ${mostOfTool} bytes, which is the most that a tool returns`,
        )
      hash.update(chunk)
      chunks.push(masked.push(chunk))
    }
    chunks.push(masked.end())
    const whole = Buffer.concat(chunks)
    if (whole.length > 0 && !isText(type))
      throw new Failure('unavailable', `the answer is of the type \`${type}\`, which a tool can’t return`)
    const text = whole.toString('utf8')
    const json = jsonIn(type, text)
    return {
      value: {
        text: status >= 400 ? `the API answered ${status}${text === '' ? '' : `\n${text}`}` : text,
        structured: { status, ...(json === undefined ? {} : { body: json }) },
        isError: status >= 400,
      },
      record: {
        status,
        ...(type === '' ? {} : { type }),
        bytes,
        sha256: hash.digest('hex'),
        ...(json === undefined ? { body: text.slice(0, mostKept) } : { body: json }),
      },
      bytes,
      failed: status >= 400,
      checks: { ran: ['type', 'size', 'time', 'secrets'] },
    }
  }

  const operationOf = (permission: Permission): Operation | undefined => {
    const colon = permission.indexOf(':')
    return live.get(permission.slice(0, colon))?.operations.get(permission.slice(colon + 1))
  }

  return {
    handle,
    serve,
    prepare,
    argumentsOf: (permission) => operationOf(permission)?.schema,
    find: (permission) => operationOf(permission),
    status: () =>
      [...live.values()].map(({ resource: { alias }, operations }) => ({
        name: alias,
        kind: 'http',
        state: 'ready',
        tools: operations.size,
        quarantined: [...operations.values()].filter(({ barred }) => barred?.code === 'quarantined').length,
      })),
    revision: () => revision,
    tools: () =>
      [...live.values()].flatMap((at) => [...at.operations.values()].flatMap((operation) => toolOf(at, operation))),
    async close() {
      await Promise.all([...open].map(({ close }) => close()))
    },
  }
}

/** How long an answer says that it is; without end where it does not. */
function lengthOf(headers: RawHeaders): number {
  const given = headerOf(headers, 'content-length')
  return given !== undefined && /^\d{1,12}$/.test(given) ? Number(given) : Number.POSITIVE_INFINITY
}

const hasBody = (method: string | undefined, status: number): boolean =>
  method !== 'HEAD' && status !== 204 && status !== 304

/** The time of an operation is over. */
class TooLate extends Failure {}

/** Runs with a signal that also ends when the time is over. Fails with `unavailable` then. */
async function inTime<T>(
  milliseconds: number,
  signal: AbortSignal,
  work: (within: AbortSignal) => Promise<T>,
): Promise<T> {
  const within = new AbortController()
  const late = (): TooLate => new TooLate('unavailable', `the upstream took longer than ${milliseconds / 1_000} s`)
  const timer = setTimeout(() => within.abort(late()), milliseconds)
  const cut = (): void => within.abort(signal.reason)
  if (signal.aborted) cut()
  else signal.addEventListener('abort', cut, { once: true })
  try {
    return await work(within.signal)
  } catch (thrown) {
    if (within.signal.reason instanceof TooLate) throw within.signal.reason
    if (thrown instanceof Failure) throw thrown
    throw fromUpstream(thrown)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', cut)
  }
}

/** An error of the connection, without its words. */
function fromUpstream(thrown: unknown): Failure {
  const code = thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : ''
  return new Failure(
    'unavailable',
    `the upstream can’t be reached, or does not speak HTTP as it should${/^[A-Z_]{1,60}$/.test(code) ? ` (${code})` : ''}`,
    { cause: thrown },
  )
}

function drained(res: ServerResponse, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (failure?: Failure): void => {
      res.off('drain', ok)
      res.off('close', gone)
      signal.removeEventListener('abort', gone)
      if (failure === undefined) resolve()
      else reject(failure)
    }
    const ok = (): void => end()
    const gone = (): void =>
      end(signal.reason instanceof Failure ? signal.reason : new Failure('cancelled', 'the client left'))
    res.once('drain', ok)
    res.once('close', gone)
    signal.addEventListener('abort', gone, { once: true })
    if (res.destroyed || signal.aborted) gone()
  })
}

/** Keeps the beginning of a text for the record. */
function keeper(type: string): { take(chunk: Uint8Array): void; shown(): JsonObject } {
  const chunks: Uint8Array[] = []
  let bytes = 0
  let isCut = false
  const isKept = isText(type)
  return {
    take(chunk) {
      if (!isKept || chunk.length === 0) return
      if (bytes + chunk.length > mostKept) isCut = true
      if (bytes < mostKept) chunks.push(chunk.subarray(0, mostKept - bytes))
      bytes += chunk.length
    },
    shown() {
      if (bytes === 0) return {}
      const text = Buffer.concat(chunks).toString('utf8')
      const json = isCut ? undefined : jsonIn(type, text)
      return { body: json ?? text, ...(isCut ? { bodyCut: true } : {}) }
    },
  }
}

const isText = (type: string): boolean =>
  type.startsWith('text/') || /^application\/(?:[a-z0-9.-]+\+)?(?:json|xml|x-ndjson|javascript|yaml)$/.test(type)

function jsonIn(type: string, text: string): Json | undefined {
  if (!/^application\/(?:[a-z0-9.-]+\+)?json$/.test(type)) return undefined
  try {
    return JSON.parse(text) as Json
  } catch {
    return undefined
  }
}
