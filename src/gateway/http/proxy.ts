import { createServer, ServerResponse } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import type { AuditLog } from '../../core/audit.ts'
import type { EventType } from '../../core/event.ts'
import { Failure } from '../../core/failure.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import type { SessionId } from '../../core/session.ts'
import type { Clock } from '../../guard/clock.ts'
import type { Guard, Performed } from '../../guard/guard.ts'
import type { Sessions } from '../../guard/sessions.ts'
import type { Authority } from './certificates.ts'
import type { EgressPorts } from './egress.ts'
import { checkHeaders } from './headers.ts'
import { placeOf } from './host.ts'
import type { Place } from './host.ts'
import { createRoutes } from './operation.ts'
import type { Routes } from './operation.ts'
import { notThere, say, sayRefused } from './refusal.ts'
import type { HttpResource } from './resource.ts'
import type { HttpGateway, HttpOperation } from './server.ts'
import { readTarget } from './target.ts'
import { connectTo, createTunnel, firstWords, passBetween } from './tunnel.ts'
import type { Tunnel, TunnelResource } from './tunnel.ts'
import { asksForWebSocket } from './websocket.ts'

export interface ProxyOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** The session of a credential. Fails with `unauthenticated`. */
  readonly authenticate: (credential: string) => Promise<SessionId>
  /** Performs what is asked for inside. */
  readonly gateway: Pick<HttpGateway, 'serve'>
  readonly guard: Pick<Guard, 'run' | 'visible'>
  readonly sessions: Pick<Sessions, 'get' | 'onEnd'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly authority: Authority
  readonly resources: ProxyResources
  /** How long a tunnel waits for people, in milliseconds. */
  readonly hold: number
  readonly egress?: EgressPorts
  /** Connections at one moment, of all sessions and of one. */
  readonly connections?: { readonly all: number; readonly session: number }
  /** Milliseconds that a client may take for what comes first: the head of a request, or a TLS handshake. */
  readonly patience?: number
  readonly report?: (thrown: unknown) => void
}

/** What can be reached through the proxy. */
export interface ProxyResources {
  /** Opened: the rules of their operations hold. */
  readonly http: readonly Pick<HttpResource, 'alias' | 'base' | 'operations'>[]
  /** Passed on unopened. */
  readonly tunnels: readonly TunnelResource[]
}

export interface Proxy {
  /** What agents set `HTTPS_PROXY` to, without their token: `http://127.0.0.1:7402`. */
  readonly url: string
  readonly port: number
  /** What `connect` of a host that passes unopened is, to those who look at it from the people's side. */
  find(permission: Permission): HttpOperation | undefined
  /** Gets other resources ready; what it returns takes them over. Fails with `invalid`. */
  prepare(resources: ProxyResources): () => void
  close(): Promise<void>
}

/** An API as it is found from outside. */
interface Api {
  readonly alias: string
  readonly base: Place
  /** The path of the base, without a final `/`. */
  readonly under: string
  readonly operations: readonly { readonly permission: Permission; readonly effect: Effect }[]
  readonly routes: Routes
}

/** Whose connection it is, and where it leads, once it has been opened. */
interface Opened {
  readonly session: SessionId
  readonly place: Place
}

interface Held {
  readonly socket: Duplex
  /** Whether the resources of now still let it stand. */
  readonly stands: () => boolean
}

const defaultConnections = { all: 4_000, session: 256 }
/** Requests that may wait on one connection for the one before them (HTTP pipelining). */
const mostInLine = 16
const usualPatience = 10_000

/**
 * An explicit HTTP proxy for programs that can't be given another address. What it opens goes the same way as requests
 * to `/api/…`; what it does not know, or this agent may not know, does not exist, and nothing is looked up for it.
 *
 * Fails with `unavailable` when the address can't be used, `invalid` for resources that can't be.
 */
export async function startProxy(options: ProxyOptions): Promise<Proxy> {
  const {
    host,
    port,
    authenticate,
    gateway,
    guard,
    sessions,
    audit,
    clock,
    authority,
    patience = usualPatience,
    report = () => {},
  } = options
  const most = options.connections ?? defaultConnections
  let { apis, tunnels } = indexOf(options.resources, options.egress)
  const opened = new WeakMap<object, Opened>()
  const held = new Map<SessionId, Set<Held>>()
  const lines = new WeakMap<object, { tail: Promise<void>; length: number }>()
  const upgraded = new Set<Socket>()

  // One server for the connections that come, and for what is inside of those that were opened: one set of bounds.
  const server = createServer(
    {
      maxHeaderSize: 16_384,
      headersTimeout: patience,
      // An upload may wait for a person, and for the upstream. Its connection counts against its session meanwhile.
      requestTimeout: 300_000,
      keepAliveTimeout: 65_000,
      connectionsCheckingInterval: Math.min(5_000, patience / 2),
      insecureHTTPParser: false,
      requireHostHeader: true,
      noDelay: true,
    },
    (req, res) => inLine(req, res),
  )
  server.maxConnections = most.all
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => inLine(req, res))
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
    else socket.destroy()
  })
  server.on('upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) => {
    // What was asked before on this connection has not been answered yet.
    if ((lines.get(socket)?.length ?? 0) > 0) return void socket.destroy()
    const res = responseOn(req, socket)
    if (!asksForWebSocket(req))
      return say(res, 426, { code: 'not_supported', message: 'other protocols than HTTP/1.1 are not spoken here' })
    upgraded.add(socket)
    socket.once('close', () => upgraded.delete(socket))
    if (head.length > 0) socket.unshift(head)
    inLine(req, res)
  })
  server.on('connect', (req: IncomingMessage, socket: Socket, head: Buffer) => {
    // What was asked before on this connection has not been answered yet.
    if ((lines.get(socket)?.length ?? 0) > 0) return void socket.destroy()
    const res = responseOn(req, socket)
    if (head.length > 0) socket.unshift(head)
    connect(req, res, socket).catch((thrown: unknown) => {
      if (Failure.from(thrown).code === 'internal') report(thrown)
      // After `200` there are no more words for it.
      if (res.socket === null) socket.destroy()
      else fail(res, thrown)
    })
  })
  sessions.onEnd((ids) => {
    for (const id of ids) for (const { socket } of held.get(id) ?? []) socket.destroy()
  })

  // Requests ------------------------------------------------------------------------------------------------------------

  /** One after the other on each connection: answers come in order, and nobody has more at once than connections. */
  function inLine(req: IncomingMessage, res: ServerResponse): void {
    const { socket } = req
    const line = lines.get(socket) ?? { tail: Promise.resolve(), length: 0 }
    lines.set(socket, line)
    if (line.length >= mostInLine) return void socket.destroy()
    line.length += 1
    res.on('error', () => {}) // The client left: whoever answers sees it in `close`.
    line.tail = line.tail
      .then(() => (socket.destroyed ? undefined : answer(req, res)))
      .catch((thrown: unknown) => {
        if (Failure.from(thrown).code === 'internal') report(thrown)
        fail(res, thrown)
      })
      .finally(() => void (line.length -= 1))
  }

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    checkHeaders(req, [])
    const inside = opened.get(req.socket)
    if (inside !== undefined) return inner(req, res, inside)
    const url = req.url ?? ''
    if (!/^http:\/\//i.test(url))
      return say(res, 400, {
        code: 'invalid_request',
        message: 'this is a proxy: ask for `http://…`, or send `CONNECT` for `https://…`',
      })
    const session = await sessionOf(req, res)
    if (session === undefined) return
    const place = placeOf(url)
    if (!agrees(req, place)) return misdirected(res)
    // As it came: what is read here is the host alone.
    const target = url.slice('http://'.length).replace(/^[^/?]*/, '')
    return serve(req, res, { session, place }, target)
  }

  function inner(req: IncomingMessage, res: ServerResponse, inside: Opened): Promise<void> | void {
    if (!agrees(req, inside.place)) return misdirected(res)
    if (!(req.url ?? '').startsWith('/'))
      return say(res, 400, { code: 'invalid_request', message: 'the address of a request begins with `/` here' })
    return serve(req, res, inside, req.url ?? '')
  }

  const misdirected = (res: ServerResponse): void => {
    res.shouldKeepAlive = false
    say(res, 421, { code: 'misdirected', message: 'the `Host` of the request is not the host of the connection' })
  }

  /** Whether `Host` says the same as what was asked for. A request of HTTP/1.0 may be without. */
  function agrees({ headers }: IncomingMessage, { protocol, origin }: Place): boolean {
    if (headers.host === undefined) return true
    try {
      return placeOf(`${protocol}//${headers.host}`).origin === origin
    } catch {
      return false
    }
  }

  async function serve(
    req: IncomingMessage,
    res: ServerResponse,
    { session, place }: Opened,
    given: string,
  ): Promise<void> {
    const target = given.startsWith('/') ? given : `/${given}`
    const api = apiFor(place.origin, req.method ?? '', target, session)
    // What is nobody's is written down and answered like what is not there of somebody.
    if (api === undefined) return gateway.serve({ req, res, session, alias: place.origin, target, own: place.origin })
    const own = `${place.origin}${api.under}`
    const below = target.slice(api.under.length)
    return gateway.serve({
      req,
      res,
      session,
      alias: api.alias,
      target: below.startsWith('/') ? below : `/${below}`,
      own,
    })
  }

  /** Of several resources at one address: the one with an operation for this, that this session may use. */
  function apiFor(origin: string, method: string, target: string, session: SessionId): Api | undefined {
    const all = apis.filter(
      ({ base, under }) =>
        base.origin === origin &&
        (target.startsWith(`${under}/`) || target === under || target.startsWith(`${under}?`)),
    )
    if (all.length < 2) return all[0]
    const found = all.flatMap((api) => {
      const operation = routed(api, method, target)
      return operation === undefined
        ? []
        : [{ api, isVisible: guard.visible(session, operation.permission, operation.effect) }]
    })
    return (found.find(({ isVisible }) => isVisible) ?? found[0])?.api ?? all[0]
  }

  // Connections ---------------------------------------------------------------------------------------------------------

  async function connect(req: IncomingMessage, res: ServerResponse, socket: Socket): Promise<void> {
    if (opened.has(socket))
      return say(res, 405, { code: 'invalid_request', message: 'this connection has been opened already' })
    checkHeaders(req, [])
    const session = await sessionOf(req, res)
    if (session === undefined) return
    const wanted = authorityOf(req)
    if (wanted === undefined)
      return say(res, 400, { code: 'invalid_request', message: 'expected `CONNECT host:port`, and the same as `Host`' })
    const isOpened = opens(wanted, session)
    const tunnel = isOpened ? undefined : tunnels.find((each) => passes(each, wanted, session))
    if (!isOpened && tunnel === undefined) return neverWas(res, session, wanted)
    const stands = (): boolean =>
      tunnel === undefined ? opens(wanted, session) : tunnels.some((each) => passes(each, wanted, session))
    const release = hold(session, { socket, stands })
    if (release === undefined)
      return say(
        res,
        503,
        { code: 'limited', message: `a session may have ${most.session} connections` },
        { 'retry-after': '1' },
      )
    socket.once('close', release)
    if (socket.destroyed) return release()
    return tunnel === undefined ? open(res, socket, session, wanted) : pass(res, socket, session, wanted, tunnel)
  }

  type Wanted = Pick<Place, 'host' | 'port'>

  const opens = ({ host: name, port: at }: Wanted, session: SessionId): boolean =>
    apis.some(
      ({ base, operations }) =>
        base.host === name &&
        base.port === at &&
        operations.some(({ permission, effect }) => guard.visible(session, permission, effect)),
    )

  const passes = ({ hosts, permission, effect }: Tunnel, wanted: Wanted, session: SessionId): boolean =>
    hosts.some((each) => each.host === wanted.host && each.port === wanted.port) &&
    guard.visible(session, permission, effect)

  /** Written down like a refusal. What is listed for others and what is listed for nobody are told the same. */
  async function neverWas(res: ServerResponse, session: SessionId, { host: name, port: at }: Wanted): Promise<void> {
    await note('name.unknown', session, { method: 'CONNECT', name: `${name}:${at}` })
    say(res, 403, notThere)
  }

  const note = (type: EventType, session: SessionId, more: JsonObject): Promise<void> =>
    audit.append({ type, at: clock(), session, agent: sessions.get(session)?.agent, ...more }).done

  /** Opens a connection: from here on it is spoken to as its host would. */
  async function open(res: ServerResponse, socket: Socket, session: SessionId, wanted: Wanted): Promise<void> {
    established(res, socket)
    const spoken = await helloOf(socket, session, wanted)
    if (spoken === undefined) return
    const shown = isIP(wanted.host) === 6 ? `[${wanted.host}]` : wanted.host
    const place = placeOf(`${spoken.isTls ? 'https' : 'http'}://${shown}:${wanted.port}`)
    if (!apis.some(({ base }) => base.origin === place.origin))
      return turnedDown(socket, session, wanted, 'what is spoken is not what is listed')
    const stream = spoken.isTls ? await secured(socket, authority, wanted.host, patience) : socket
    if (stream === undefined || sessions.get(session)?.endedAt !== undefined) return void socket.destroy()
    opened.set(stream, { session, place })
    server.emit('connection', stream)
  }

  /** Passes a connection on as it is, to a host that was checked, and for no other name. */
  async function pass(
    res: ServerResponse,
    socket: Socket,
    session: SessionId,
    wanted: Wanted,
    tunnel: Tunnel,
  ): Promise<void> {
    const left = new AbortController()
    socket.once('close', () => left.abort(new Failure('cancelled', 'the client left')))
    const args = { host: wanted.host, port: wanted.port }
    const action = {
      session,
      permission: tunnel.permission,
      effect: tunnel.effect,
      args,
      problems: [],
      label: tunnel.label,
      via: 'http',
      name: 'CONNECT',
      host: wanted.host,
    } as const
    const outcome = await guard.run(
      action,
      async (signal, passed): Promise<Performed<void>> => {
        const upstream = await connectTo(tunnel, wanted.host, wanted.port, signal)
        const address = upstream.remoteAddress ?? ''
        try {
          upstream.on('error', () => {})
          established(res, socket)
          const spoken = await helloOf(socket, session, wanted)
          if (spoken?.isTls !== true)
            throw new Failure(
              'forbidden',
              spoken === undefined ? 'what the client said first is not for this host' : 'only TLS may pass',
            )
          const record = await passBetween(socket, upstream, tunnel, signal, passed)
          return {
            value: undefined,
            record: { ...args, address, ...record },
            bytes: record.received,
            checks: {
              ran: ['name', 'address', 'size', 'time'],
              skipped: [{ what: 'content', because: 'this host is passed unopened' }],
            },
          }
        } finally {
          upstream.destroy()
        }
      },
      { most: options.hold },
      left.signal,
    )
    // After `200` there are no more words for it.
    if (outcome.kind === 'refused' && res.socket !== null) sayRefused(res, outcome.refusal, [], 400, clock())
    else socket.destroy()
  }

  /** What a client says first, if it is for this host and for no other. Else it is turned down. */
  async function helloOf(
    socket: Socket,
    session: SessionId,
    wanted: Wanted,
  ): Promise<{ readonly isTls: boolean } | undefined> {
    try {
      const hello = await firstWords(socket, patience)
      if (hello === undefined) return { isTls: false }
      const isThis = isIP(wanted.host) === 0 ? hello.name === wanted.host : hello.name === undefined
      if (isThis && !hello.isEncrypted) return { isTls: true }
      await turnedDown(
        socket,
        session,
        wanted,
        isThis ? 'it hides a name (Encrypted Client Hello)' : 'TLS asks for another name than `CONNECT` did',
        unrecognizedName,
      )
    } catch (thrown) {
      if (Failure.from(thrown).code === 'invalid')
        await turnedDown(socket, session, wanted, Failure.from(thrown).message, unrecognizedName)
      else socket.destroy()
    }
    return undefined
  }

  async function turnedDown(
    socket: Socket,
    session: SessionId,
    { host: name, port: at }: Wanted,
    because: string,
    last?: Buffer,
  ): Promise<void> {
    await note('connection.refused', session, { name: `${name}:${at}`, because })
    if (last === undefined || !socket.writable) socket.destroy()
    else socket.end(last, () => socket.destroy())
  }

  function hold(session: SessionId, one: Held): (() => void) | undefined {
    const all = held.get(session) ?? new Set()
    if (all.size >= most.session) return undefined
    held.set(session, all.add(one))
    return () => {
      all.delete(one)
      if (all.size === 0 && held.get(session) === all) held.delete(session)
    }
  }

  // Who asks ------------------------------------------------------------------------------------------------------------

  /** A credential is taken from `Proxy-Authorization` alone, which goes no further than here. */
  async function sessionOf(req: IncomingMessage, res: ServerResponse): Promise<SessionId | undefined> {
    const credential = credentialIn(req.headers['proxy-authorization'] ?? '')
    try {
      if (credential !== undefined) return await authenticate(credential)
    } catch (thrown) {
      if (Failure.from(thrown).code !== 'unauthenticated') throw thrown
    }
    res.shouldKeepAlive = false
    const message =
      credential === undefined
        ? 'this proxy wants to know who asks: set it as `http://agent:<token>@host:port`'
        : 'this token is unknown, or its session is over'
    say(
      res,
      407,
      { code: 'unauthenticated', message },
      { 'proxy-authenticate': 'Basic realm="Sallyport", charset="UTF-8"' },
    )
    return undefined
  }

  function fail(res: ServerResponse, thrown: unknown): void {
    const failure = Failure.from(thrown)
    res.shouldKeepAlive = false
    const [status, code] = (
      {
        invalid: [400, 'invalid_request'],
        limited: [503, 'limited'],
        unavailable: [502, 'upstream'],
        forbidden: [502, 'forbidden'],
        cancelled: [499, 'cancelled'],
      } as Readonly<Record<string, readonly [number, string]>>
    )[failure.code] ?? [500, 'internal']
    if (failure.code === 'cancelled') res.destroy()
    else say(res, status, { code, message: code === 'internal' ? 'internal error' : failure.message })
  }

  // Life ----------------------------------------------------------------------------------------------------------------

  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new Failure(
          'unavailable',
          `can’t listen on ${host}:${port} (${cause.code ?? 'unknown error'}): \`listen.proxy\` names it`,
          { cause },
        ),
      ),
    )
    server.listen(port, host, () => resolve())
  })
  const bound = (server.address() as AddressInfo).port

  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}`,
    port: bound,
    find(permission) {
      const tunnel = tunnels.find((each) => each.permission === permission)
      if (tunnel === undefined) return undefined
      const { effect, label, hosts } = tunnel
      const isListed = (args: JsonObject): boolean =>
        hosts.some((each) => each.host === args['host'] && each.port === args['port'])
      return {
        effect,
        label,
        description: 'a connection that passes unopened',
        check: (args) => (isListed(args) ? [] : [{ path: '', message: '`host` and `port` are not listed' }]),
      }
    },
    prepare(resources) {
      const next = indexOf(resources, options.egress)
      return () => {
        ;({ apis, tunnels } = next)
        for (const all of held.values()) for (const { socket, stands } of all) if (!stands()) socket.destroy()
      }
    },
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      const late = setTimeout(() => {
        server.closeAllConnections()
        for (const all of held.values()) for (const { socket } of all) socket.destroy()
        for (const socket of upgraded) socket.destroy()
      }, 1_000)
      // What is open and idle inside a connection is closed with it.
      await closed
      clearTimeout(late)
    },
  }
}

/** Fatal alert `unrecognized_name` (RFC 8446 §6, RFC 6066 §3). */
const unrecognizedName = Buffer.from([21, 3, 3, 0, 2, 2, 112])

/** An answer on a connection that has been taken out of the server's hands. It is the last thing on it. */
function responseOn(req: IncomingMessage, socket: Socket): ServerResponse {
  socket.on('error', () => {})
  const res = new ServerResponse(req)
  res.shouldKeepAlive = false
  res.assignSocket(socket)
  res.on('error', () => {})
  res.once('finish', () => {
    res.detachSocket(socket)
    socket.end(() => socket.destroy())
  })
  return res
}

/** From here on the bytes are the client's and its host's. */
function established(res: ServerResponse, socket: Socket): void {
  res.detachSocket(socket)
  socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
}

/** Speaks TLS as the host. HTTP/1.1 alone: a client that wants nothing else is told so in the handshake. */
function secured(socket: Socket, authority: Authority, host: string, within: number): Promise<TLSSocket | undefined> {
  return new Promise((resolve) => {
    const tls = createTlsServer({
      ...authority.credentialFor(host),
      ALPNProtocols: ['http/1.1'],
      minVersion: 'TLSv1.2',
      handshakeTimeout: within,
    })
    tls.once('secureConnection', (stream) => {
      stream.on('error', () => {})
      resolve(stream)
    })
    tls.once('tlsClientError', () => resolve(undefined))
    socket.once('close', () => resolve(undefined))
    tls.emit('connection', socket)
  })
}

/** The token of `Basic <user:token>` (RFC 7617), whatever the user is called; or of `Bearer <token>`. */
function credentialIn(header: string): string | undefined {
  const bearer = /^bearer +([\x21-\x7e]+) *$/i.exec(header)?.[1]
  if (bearer !== undefined) return bearer
  const basic = /^basic +([A-Za-z0-9+/]{1,24000}={0,2}) *$/i.exec(header)?.[1]
  if (basic === undefined) return undefined
  const text = Buffer.from(basic, 'base64').toString('latin1')
  const password = text.slice(text.indexOf(':') + 1)
  return text.includes(':') && /^[\x21-\x7e]+$/.test(password) ? password : undefined
}

/** `host:port` of a `CONNECT` (RFC 9110 §9.3.6), in the one spelling that there is of it. */
function authorityOf({ url = '', headers }: IncomingMessage): Pick<Place, 'host' | 'port'> | undefined {
  const read = (text: string): Pick<Place, 'host' | 'port'> | undefined => {
    const [, port] = /^(?:\[[0-9A-Fa-f:.]{2,45}\]|[^\s:/?#@[\]\\]{1,255}):([1-9]\d{0,4})$/.exec(text) ?? []
    if (port === undefined) return undefined
    try {
      const place = placeOf(`https://${text}`)
      return place.port === Number(port) ? place : undefined
    } catch {
      return undefined
    }
  }
  const wanted = read(url)
  if (wanted === undefined || headers.host === undefined) return wanted
  const named = read(/:\d+$/.test(headers.host) ? headers.host : `${headers.host}:${wanted.port}`)
  return named?.host === wanted.host && named.port === wanted.port ? wanted : undefined
}

function routed(
  { under, routes }: Api,
  method: string,
  target: string,
): { readonly permission: Permission; readonly effect: Effect } | undefined {
  try {
    const below = target.slice(under.length)
    return routes.find(method, readTarget(below.startsWith('/') ? below : `/${below}`).segments)?.operation
  } catch {
    return undefined // It is refused where it is read for good.
  }
}

function indexOf(
  { http, tunnels }: ProxyResources,
  egress: EgressPorts | undefined,
): { apis: readonly Api[]; tunnels: readonly Tunnel[] } {
  const apis = http.map(({ alias, base: text, operations }): Api => {
    const base = placeOf(text)
    const all = [...operations].map(([name, operation]) => ({
      ...operation,
      name,
      permission: `${alias}:${name}`,
      check: () => [],
    }))
    return { alias, base, under: base.path === '/' ? '' : base.path, operations: all, routes: createRoutes(all) }
  })
  // The longest base goes first: `/v1/billing` before `/v1`.
  return {
    apis: apis.sort((a, b) => b.under.length - a.under.length),
    tunnels: tunnels.map((each) => createTunnel(each, egress)),
  }
}
