import { createServer, ServerResponse } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { Failure } from '../core/failure.ts'
import type { SessionId } from '../core/session.ts'

/** A request to what agents reach, once it is known whose it is. */
export type AgentHandler = (req: IncomingMessage, res: ServerResponse, session: SessionId) => Promise<void>
/** A request that brings its credential along in another way, or needs none. */
export type OpenHandler = (req: IncomingMessage, res: ServerResponse) => Promise<void>

export interface ListenerOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Host names that requests may carry beside those of the address. */
  readonly hosts: readonly string[]
  /** Origins of web pages that may send requests, beside the listener's own. */
  readonly origins: readonly string[]
  /** The address by which agents reach this, where it stands behind another name. */
  readonly url?: string
  /** The session of a bearer credential. Fails with `unauthenticated`. */
  readonly authenticate: (credential: string) => Promise<SessionId>
  /** By path. */
  readonly guarded: Readonly<Record<string, AgentHandler>>
  /**
   * By how paths begin: `/api/`. They read the body themselves once it is wanted (`Expect: 100-continue`), and are
   * asked for WebSockets too: then the connection is no longer read as HTTP, and an answer is the last thing on it.
   */
  readonly below?: Readonly<Record<string, AgentHandler>>
  readonly open: Readonly<Record<string, OpenHandler>>
  /** Connections at one moment; more are closed at once. */
  readonly connections?: number
  /** Milliseconds. */
  readonly timeouts?: Partial<Timeouts>
  readonly report?: (thrown: unknown) => void
}

interface Timeouts {
  /** Until the head of a request is there: also for connections that never send one. */
  readonly headers: number
  /** Until the whole of a request is there; below `below`, until more of it has to have come. */
  readonly request: number
  /** Between requests. */
  readonly idle: number
}

const defaultTimeouts: Timeouts = { headers: 10_000, request: 30_000, idle: 65_000 }
/** Bytes a second that an upload has to bring on average over the time of a request: a slow line, not a held one. */
const slowest = 4_096
const mostConnections = 12_000

export interface Listener {
  /** How agents reach it: `http://127.0.0.1:7400`. */
  readonly url: string
  readonly port: number
  close(): Promise<void>
}

/**
 * Listens for agents, over HTTP. It knows who asks before anything else looks at a request; what is not a path of it,
 * has a wrong `Host` or `Origin`, or no valid token, gets no further. Nothing that a request holds is ever sent back, save its `X-Request-ID`.
 *
 * Fails with `unavailable` when the address can't be used.
 */
export async function listenForAgents(options: ListenerOptions): Promise<Listener> {
  const { host, port, authenticate, guarded, open, report = () => {} } = options
  const timeouts = { ...defaultTimeouts, ...options.timeouts }
  const origins = new Set(options.origins.map((origin) => origin.toLowerCase()))
  const hosts = new Set(
    [...options.hosts, ...(options.url === undefined ? [] : [new URL(options.url).hostname])].map(hostName),
  )
  for (const name of isLoopback(host)
    ? ['localhost', '127.0.0.1', '[::1]', hostName(host)]
    : [host.includes(':') ? `[${host}]` : hostName(host)])
    hosts.add(name)

  const server = createServer(
    {
      maxHeaderSize: 16_384,
      headersTimeout: timeouts.headers,
      // It would bound all requests alike, uploads among them: `limitBody` is what bounds them.
      requestTimeout: 0,
      keepAliveTimeout: timeouts.idle,
      connectionsCheckingInterval: Math.max(250, Math.min(5_000, timeouts.headers / 2)),
      noDelay: true,
    },
    (req, res) => void answer(req, res),
  )
  server.maxConnections = options.connections ?? mostConnections
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
    else socket.destroy()
  })
  // A client that asks whether to send its body is told once it is known that the body is wanted.
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => void answer(req, res))
  // Other protocols are not spoken here: clients that can do without them try again without.
  const upgraded = new Set<Socket>()
  server.on('upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', () => {})
    const isWebSocket = req.headers.upgrade?.trim().toLowerCase() === 'websocket' && beneath(req) !== undefined
    const res = isWebSocket ? responseOn(req, socket) : undefined
    if (res === undefined)
      return void socket.end('HTTP/1.1 426 Upgrade Required\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
    upgraded.add(socket)
    socket.once('close', () => upgraded.delete(socket))
    if (head.length > 0) socket.unshift(head)
    void answer(req, res)
  })
  server.on('connect', (_req: IncomingMessage, socket: Socket) =>
    socket.end('HTTP/1.1 405 Method Not Allowed\r\nconnection: close\r\ncontent-length: 0\r\n\r\n'),
  )

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    res.on('error', () => {}) // The client left: whoever answers sees it in `close`.
    limitBody(req, res, timeouts.request, beneath(req) === undefined ? 'time' : 'progress')
    // A request's own id comes back with its answer, whatever that is (AuthZEN 1.0 §10.1).
    const id = req.headers['x-request-id']
    if (typeof id === 'string') res.setHeader('x-request-id', id)
    try {
      if (req.httpVersionMajor !== 1)
        return refuse(req, res, 505, 'wrong_version', 'this version of HTTP is not spoken here')
      if (!hosts.has(hostName(req.headers.host ?? '')))
        return refuse(req, res, 403, 'wrong_host', 'this host name is not served here: add it to `listen.hosts`')
      const { origin } = req.headers
      const isListed = origin !== undefined && origins.has(origin.toLowerCase())
      if (origin !== undefined && !isListed && !isOwn(origin, req))
        return refuse(
          req,
          res,
          403,
          'wrong_origin',
          'pages of this origin may not send requests: add it to `listen.origins`',
        )
      if (isListed) allowPages(res, origin)
      if (isListed && req.method === 'OPTIONS') return void res.writeHead(204).end()

      const path = pathOf(req)
      const free = path !== undefined && Object.hasOwn(open, path) ? open[path] : undefined
      if (free !== undefined && waits(req)) res.writeContinue()
      if (free !== undefined) return await free(req, res)
      const exact = path !== undefined && Object.hasOwn(guarded, path) ? guarded[path] : undefined
      const handler = exact ?? beneath(req)
      if (handler === undefined) return refuse(req, res, 404, 'not_found', 'there is nothing at this address')
      const session = await sessionOf(req, res)
      if (session === undefined) return
      if (exact !== undefined && waits(req)) res.writeContinue()
      await handler(req, res, session)
    } catch (thrown) {
      const failure = Failure.from(thrown)
      if (failure.code === 'internal') report(thrown)
      const status = failure.code === 'unavailable' || failure.code === 'limited' ? 503 : 500
      refuse(req, res, status, failure.code, failure.message)
    }
  }

  /** What answers everything that begins as this path does. What it is exactly is read there, once. */
  function beneath({ url = '' }: IncomingMessage): AgentHandler | undefined {
    return Object.entries(options.below ?? {}).find(([start]) => url.startsWith(start))?.[1]
  }

  /** Whose request it is. A credential is taken from `Authorization` alone: addresses end up in logs. */
  async function sessionOf(req: IncomingMessage, res: ServerResponse): Promise<SessionId | undefined> {
    const credential = /^bearer +([\x21-\x7e]+) *$/i.exec(req.headers.authorization ?? '')?.[1]
    try {
      if (credential !== undefined) return await authenticate(credential)
    } catch (thrown) {
      if (Failure.from(thrown).code !== 'unauthenticated') throw thrown
    }
    // RFC 6750 §3.1: a request without a credential is told no more than where to get one.
    const error =
      credential === undefined ? '' : ', error="invalid_token", error_description="unknown, or its session is over"'
    res.setHeader(
      'www-authenticate',
      `Bearer resource_metadata="${ownUrl()}/.well-known/oauth-protected-resource${pathOf(req)}"${error}`,
    )
    const because =
      credential === undefined
        ? 'send `Authorization: Bearer <token>`'
        : 'this token is unknown, or its session is over'
    refuse(req, res, 401, 'unauthenticated', because)
    return undefined
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new Failure('unavailable', `can’t listen on ${host}:${port} (${cause.code ?? 'unknown error'})`, { cause }),
      ),
    )
    server.listen(port, host, () => resolve())
  })
  const bound = (server.address() as AddressInfo).port
  const ownUrl = (): string =>
    (options.url ?? `http://${host.includes(':') ? `[${host}]` : host}:${bound}`).replace(/\/$/, '')

  return {
    url: ownUrl(),
    port: bound,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeIdleConnections()
      const late = setTimeout(() => {
        server.closeAllConnections()
        for (const socket of upgraded) socket.destroy()
      }, 1_000)
      await closed
      clearTimeout(late)
    },
  }
}

/**
 * Ends a request whose body does not come in time. By `progress`, an upload may take longer as long as it goes on: only
 * time in which the client was waited for counts, and not while what came before has not been taken yet. Once there is an
 * answer, the rest of a body has that time, and no more.
 */
function limitBody(req: IncomingMessage, res: ServerResponse, within: number, by: 'time' | 'progress'): void {
  if (req.complete) return
  const { socket } = req
  let before = socket.bytesRead
  let looks = 0
  const timer = setInterval(() => {
    if (req.complete || socket.destroyed) return clearInterval(timer)
    looks += 1
    if (by === 'progress' && !res.writableFinished) {
      const isTaken = !socket.isPaused() && req.readableLength === 0
      if (!isTaken || socket.bytesRead - before >= (slowest * within) / 1_000) again()
    }
    if (looks < 4) return
    clearInterval(timer)
    if (!res.headersSent && socket.writable)
      socket.end('HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n')
    socket.destroySoon()
  }, within / 4)
  const again = (): void => {
    before = socket.bytesRead
    looks = 0
  }
  res.once('finish', again)
  req.once('close', () => clearInterval(timer))
}

/** An answer on a connection that is no longer read as HTTP; undefined where an earlier one has not been given yet. */
function responseOn(req: IncomingMessage, socket: Socket): ServerResponse | undefined {
  const res = new ServerResponse(req)
  res.shouldKeepAlive = false
  try {
    res.assignSocket(socket)
  } catch {
    return undefined
  }
  res.once('finish', () => {
    res.detachSocket(socket)
    socket.end(() => socket.destroy())
  })
  return res
}

function refuse(req: IncomingMessage, res: ServerResponse, status: number, error: string, because: string): void {
  if (res.headersSent || res.destroyed) return void res.destroy()
  // What was not read of a body would be taken for the next request.
  if (!req.complete) res.setHeader('connection', 'close')
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
  res.end(JSON.stringify({ error, error_description: because }))
}

function allowPages(res: ServerResponse, origin: string): void {
  res.setHeader('access-control-allow-origin', origin)
  res.setHeader('vary', 'origin')
  res.setHeader('access-control-allow-methods', 'GET, POST, PUT, PATCH, DELETE')
  res.setHeader(
    'access-control-allow-headers',
    'authorization, content-type, accept, mcp-session-id, mcp-protocol-version, mcp-method, mcp-name, last-event-id, x-request-id',
  )
  res.setHeader('access-control-expose-headers', 'mcp-session-id, www-authenticate, x-request-id')
  res.setHeader('access-control-max-age', '600')
}

/** Whether a client waits to be told to send its body. */
const waits = ({ headers }: IncomingMessage): boolean => headers.expect?.toLowerCase() === '100-continue'

/** The path of a request; undefined for a target that is no plain path. */
function pathOf({ url = '' }: IncomingMessage): string | undefined {
  if (!url.startsWith('/') || url.length > 4_000) return undefined
  const end = url.search(/[?#]/)
  return end < 0 ? url : url.slice(0, end)
}

/** A host without its port, in small letters. */
const hostName = (host: string): string =>
  /^(\[[0-9a-f:.]*\]|[^:]*)(?::\d+)?$/.exec(host.toLowerCase())?.[1] ?? host.toLowerCase()

/** A page that this very listener would have served. The host was looked at before. */
const isOwn = (origin: string, req: IncomingMessage): boolean =>
  origin.toLowerCase() === `http://${(req.headers.host ?? '').toLowerCase()}` ||
  origin.toLowerCase() === `https://${(req.headers.host ?? '').toLowerCase()}`

const isLoopback = (host: string): boolean =>
  /^127(?:\.\d{1,3}){3}$/.test(host) || host === 'localhost' || host === '::1'
