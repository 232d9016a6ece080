import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import WebSocket, { WebSocketServer } from 'ws'
import { Failure } from '../../core/failure.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Egress } from './egress.ts'
import type { Place } from './host.ts'
import type { WebSocketBounds } from './resource.ts'
import type { Outgoing, SendPorts } from './send.ts'

// WebSockets (RFC 6455): two of them for each that an agent opens, one towards it and one towards the upstream. What
// passes between them are whole messages, so that neither side’s frames, extensions or handshake ever reach the other.

/** One end: what is spoken, and the connection under it. */
export interface Side {
  readonly ws: WebSocket
  readonly socket: Socket
}

/** What an agent asked for. */
export interface Handshake {
  /** Subprotocols, those that it likes best first. */
  readonly protocols: readonly string[]
}

/** How long a connection may be silent: then it is asked whether it is there, and ended at the next look if it is not. */
export const usualBeat = 30_000
/** Bytes that wait for one side before the other is read no further. */
const mostWaiting = 128 * 1024
/** For the last words of a WebSocket that was cut, in milliseconds. */
const farewell = 1_000
const mostProtocols = 10

/** Whether a request has left HTTP: its connection is no longer read as such. */
export const isUpgrade = (req: IncomingMessage & { readonly upgrade?: boolean }): boolean => req.upgrade === true

/** Whether a request asks for a WebSocket, and for nothing else. */
export const asksForWebSocket = ({ headers }: IncomingMessage): boolean =>
  headers.upgrade?.trim().toLowerCase() === 'websocket'

/**
 * Reads an opening handshake (RFC 6455 §4.2.1). `other_version` where it is of another version of the protocol. Fails
 * with `invalid` where it can’t be read in one way only, or asks for subprotocols of which none is listed.
 */
export function readHandshake(
  req: IncomingMessage,
  { protocols: listed }: Pick<WebSocketBounds, 'protocols'>,
): Handshake | 'other_version' {
  const { headers, method, httpVersion } = req
  const refuse = (because: string): never => {
    throw new Failure('invalid', `this is no opening handshake of a WebSocket: ${because}`)
  }
  if (method !== 'GET' || httpVersion !== '1.1') refuse('expected a `GET` of HTTP/1.1')
  if (!asksForWebSocket(req)) refuse('expected `Upgrade: websocket`')
  if (
    headers['content-length'] !== undefined ||
    headers['transfer-encoding'] !== undefined ||
    headers.expect !== undefined
  )
    refuse('it can’t have a body')
  if (headers['sec-websocket-version'] !== '13') return 'other_version'
  if (!/^[A-Za-z0-9+/]{22}==$/.test(headers['sec-websocket-key'] ?? ''))
    refuse('`Sec-WebSocket-Key` has to be 16 bytes')
  const text = headers['sec-websocket-protocol']
  if (text === undefined) return { protocols: [] }
  const asked = text.split(',').map((name) => name.trim())
  if (asked.length > mostProtocols) refuse(`it asks for more than ${mostProtocols} subprotocols`)
  if (!asked.every((name) => /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}$/.test(name)) || new Set(asked).size < asked.length)
    refuse('`Sec-WebSocket-Protocol` can’t be read')
  const protocols = listed === undefined ? asked : asked.filter((name) => listed.includes(name))
  if (protocols.length === 0) refuse('none of its subprotocols is listed for this operation')
  return { protocols }
}

/**
 * Watches a client that has to wait for its answer. Tells `broken` once, with `invalid` when it goes on speaking
 * (RFC 6455 §4.1 forbids it; it would be another request), `cancelled` when it left. Returns what ends the watch.
 */
export function watchSilence(socket: Socket, broken: (failure: Failure) => void): () => void {
  const end = (): void => void socket.off('readable', look).off('end', left).off('close', left)
  const tell = (failure: Failure): void => {
    end()
    broken(failure)
  }
  const left = (): void => tell(new Failure('cancelled', 'the client left'))
  function look(): void {
    if (socket.read() !== null) tell(new Failure('invalid', 'a client of WebSocket has to wait for its answer'))
  }
  socket.on('readable', look).once('end', left).once('close', left)
  look()
  return end
}

/**
 * Opens the WebSocket of an upstream: what is dialled was checked, and the credential goes along. It is paused. Fails
 * with `forbidden` for a place that may not be reached, `unavailable` for an upstream that opens none. Redirects are
 * not followed.
 */
export async function openUpstream(
  { path, query, headers }: Outgoing,
  { protocols }: Handshake,
  { message }: WebSocketBounds,
  { egress, credentials, base }: SendPorts,
  session: string,
  signal: AbortSignal,
): Promise<Side> {
  const proof = await credentials.proof(session, signal)
  const own = proof.query?.map(encodeURIComponent).join('=')
  const queries = [query, own ?? ''].filter((part) => part !== '').join('&')
  const place: Place = {
    ...base,
    path: `${base.path === '/' ? '' : base.path}${path}`,
    query: queries === '' ? '' : `?${queries}`,
  }
  egress.check(place)
  const socket = await dialled(egress, place, signal)
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`${place.origin.replace(/^http/, 'ws')}${place.path}${place.query}`, [...protocols], {
      createConnection: () => socket,
      perMessageDeflate: false,
      followRedirects: false,
      maxPayload: message,
      headers: { 'user-agent': 'sallyport', ...headers, ...proof.headers },
    })
    const give = (failure: Error): void => {
      signal.removeEventListener('abort', cut)
      ws.terminate()
      socket.destroy()
      reject(failure)
    }
    const cut = (): void => give(signal.reason as Error)
    signal.addEventListener('abort', cut, { once: true })
    const failed = (cause: Error): void =>
      give(new Failure('unavailable', 'the upstream does not open a WebSocket as it should', { cause }))
    ws.on('error', failed)
    ws.once('unexpected-response', (_request, { statusCode = 0 }) => {
      if (statusCode === 401) credentials.refused(session)
      give(new Failure('unavailable', `the upstream answered ${statusCode} instead of opening a WebSocket`))
    })
    ws.once('open', () => {
      signal.removeEventListener('abort', cut)
      ws.off('error', failed).on('error', () => {})
      ws.pause() // Nothing is lost that comes before somebody listens.
      resolve({ ws, socket })
    })
    if (signal.aborted) cut()
  })
}

function dialled({ connect }: Egress, { host, protocol, port }: Place, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const cut = (): void => reject(signal.reason as Error)
    if (signal.aborted) return cut()
    signal.addEventListener('abort', cut, { once: true })
    connect({ hostname: host, host, protocol, port: String(port) }, (error, socket) => {
      signal.removeEventListener('abort', cut)
      if (error !== null) return reject(error)
      socket.on('error', () => {})
      // It was opened for somebody who is gone.
      if (signal.aborted) socket.destroy()
      else resolve(socket)
    })
  })
}

/** Answers an agent’s handshake with the subprotocol that the upstream chose. It is paused. Fails with `cancelled`. */
export function acceptAgent(
  req: IncomingMessage,
  res: ServerResponse,
  protocol: string,
  { message }: WebSocketBounds,
): Side {
  const { socket } = req
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: message,
    handleProtocols: () => (protocol === '' ? false : protocol),
  })
  let ws: WebSocket | undefined
  res.detachSocket(socket)
  server.handleUpgrade(req, socket, Buffer.alloc(0), (opened) => (ws = opened))
  if (ws === undefined) {
    socket.destroy()
    throw new Failure('cancelled', 'the client left')
  }
  ws.on('error', () => {})
  ws.pause()
  return { ws, socket }
}

/** What passed between two sides, and how that ended. */
export interface Relayed extends JsonObject {
  readonly sent: { readonly messages: number; readonly bytes: number }
  readonly received: { readonly messages: number; readonly bytes: number }
  /** Who closed it, and with which code (RFC 6455 §7.4). 1006: it broke off. */
  readonly closed: { readonly by: 'agent' | 'upstream'; readonly code: number }
}

export interface RelayPorts {
  readonly bounds: WebSocketBounds
  /** Hides secrets in a whole message, and in the reason of a close, as UTF-8. */
  readonly mask: (bytes: Uint8Array) => Uint8Array
  /** Told of the bytes of each message before it is handed on: those that came, those that go out. Fails where they may not. */
  readonly passed: (bytes: number, sent?: number) => void
  /** Why nothing more may pass; asked before each message, and at every beat. */
  readonly stopped: () => Failure | undefined
  readonly signal: AbortSignal
  readonly beat?: number
}

/**
 * Hands messages on in both directions, as fast as each side takes them, until one of them closes. Close codes are
 * passed on; each side’s pings are answered here. Fails with `too_large` for a message beyond its bound, `unavailable`
 * when the time is over or a side is gone, as `stopped` says, or as it was cut; and both ends are closed.
 */
export function relay(agent: Side, upstream: Side, ports: RelayPorts): Promise<Relayed> {
  const { bounds, mask, passed, stopped, signal, beat = usualBeat } = ports
  const sent = { messages: 0, bytes: 0 }
  const received = { messages: 0, bytes: 0 }
  return new Promise((resolve, reject) => {
    let isOver = false
    const pulses = [agent, upstream].map(({ socket }) => pulseOf(socket))

    const settle = (then: () => void): void => {
      if (isOver) return
      isOver = true
      clearTimeout(tooLong)
      clearInterval(beats)
      signal.removeEventListener('abort', cut)
      for (const { socket } of [agent, upstream]) socket.off('drain', balance)
      // What still comes is not for anybody, but a close frame among it is.
      for (const { ws } of [agent, upstream]) ws.resume()
      then()
    }
    /** Ends it from here. The agent is told why, the upstream that it is over. */
    const stop = (code: number, failure: Failure): void =>
      settle(() => {
        close(agent.ws, code, failure.message)
        close(upstream.ws, 1001, '')
        setTimeout(() => {
          agent.ws.terminate()
          upstream.ws.terminate()
        }, farewell).unref()
        reject(failure)
      })
    const cut = (): void => {
      const { reason } = signal as { readonly reason: unknown }
      // Nothing that waits to go out does so any more.
      upstream.ws.terminate()
      stop(1008, reason instanceof Failure ? reason : new Failure('cancelled', 'this was cut'))
    }
    const isStopped = (): boolean => {
      const failure = stopped()
      if (failure !== undefined) stop(1008, failure)
      return isOver
    }

    /** What there is no room for is not handed on. */
    const isCounted = (bytes: number, out: number): boolean => {
      try {
        passed(bytes, out)
      } catch (thrown) {
        stop(1008, Failure.from(thrown))
      }
      return !isOver
    }

    /** A side is read no further while the other has not taken what came of it. */
    const balance = (): void => {
      for (const [from, to] of [
        [agent, upstream],
        [upstream, agent],
      ] as const)
        if (to.ws.bufferedAmount > mostWaiting) from.ws.pause()
        else if (from.ws.isPaused) from.ws.resume()
    }

    agent.ws.on('message', (message, isBinary) => {
      const data = message as Buffer
      if (isOver || isStopped() || !isCounted(0, data.length)) return
      sent.messages += 1
      sent.bytes += data.length
      upstream.ws.send(data, { binary: isBinary })
      balance()
    })
    upstream.ws.on('message', (message, isBinary) => {
      const data = message as Buffer
      if (isOver || isStopped() || !isCounted(data.length, 0)) return
      received.messages += 1
      received.bytes += data.length
      agent.ws.send(mask(data), { binary: isBinary })
      balance()
    })

    const broken =
      (whose: 'agent' | 'upstream') =>
      ({ code = '' }: Error & { readonly code?: string }): void => {
        const who = whose === 'agent' ? 'the agent' : 'the upstream'
        if (code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH')
          stop(1009, new Failure('too_large', `a message of ${who} is larger than ${bounds.message} bytes`))
        else if (code.startsWith('WS_ERR_'))
          stop(
            whose === 'agent' ? 1002 : badGateway,
            new Failure(whose === 'agent' ? 'invalid' : 'unavailable', `${who} does not speak WebSocket as it should`),
          )
        // Everything else shows in `close`.
      }
    agent.ws.on('error', broken('agent'))
    upstream.ws.on('error', broken('upstream'))
    agent.ws.once('close', (code, reason) =>
      settle(() => {
        close(upstream.ws, code === brokenOff ? 1001 : code, code === brokenOff ? '' : reason.toString())
        resolve({ sent, received, closed: { by: 'agent', code } })
      }),
    )
    upstream.ws.once('close', (code, reason) =>
      settle(() => {
        if (code === brokenOff) close(agent.ws, badGateway, 'the upstream broke off')
        else close(agent.ws, code, Buffer.from(mask(reason)).toString())
        resolve({ sent, received, closed: { by: 'upstream', code } })
      }),
    )

    const tooLong = setTimeout(
      () => stop(1001, new Failure('unavailable', `the WebSocket was open for ${bounds.time / 1_000} s`)),
      bounds.time,
    )
    const beats = setInterval(() => {
      if (isStopped()) return
      for (const [position, { ws }] of [agent, upstream].entries()) {
        const isThere = pulses[position]?.()
        // A side that is not read can’t be heard: whether the other takes anything is what counts then.
        if (isThere === true || ws.isPaused) ws.ping()
        else
          return stop(
            position === 0 ? 1001 : badGateway,
            new Failure('unavailable', `${position === 0 ? 'the agent' : 'the upstream'} is gone without a word`),
          )
      }
    }, beat)

    for (const { socket } of [agent, upstream]) socket.on('drain', balance)
    if (signal.aborted) return cut()
    signal.addEventListener('abort', cut, { once: true })
    // One of them may have gone while the other was opened.
    for (const { ws, socket } of [agent, upstream])
      if (socket.destroyed || ws.readyState !== WebSocket.OPEN) ws.terminate()
    for (const { ws } of [agent, upstream]) ws.resume()
  })
}

/** Codes that are never sent: there was no close frame (RFC 6455 §7.4.1). */
const brokenOff = 1006
const noCode = 1005
/** Registered with IANA: a gateway got no valid answer. */
const badGateway = 1014

function close(ws: WebSocket, code: number, reason: string): void {
  if (ws.readyState !== WebSocket.OPEN) return
  if (code === noCode) ws.close()
  else ws.close(code, shortened(reason))
}

/** A reason has room for 123 bytes. */
function shortened(text: string): string {
  const bytes = Buffer.from(text)
  return bytes.length <= 123 ? text : bytes.toString('utf8', 0, 123).replace(/\ufffd+$/, '')
}

/** Tells whether anything came since it was last asked, or anything that waited has gone out. */
function pulseOf(socket: Socket): () => boolean {
  let read = -1
  let gone = 0
  let waited = false
  return () => {
    const now = { read: socket.bytesRead, gone: socket.bytesWritten - socket.writableLength }
    const isThere = now.read !== read || (waited && now.gone !== gone)
    ;({ read, gone } = now)
    waited = socket.writableLength > 0
    return isThere
  }
}

/** Calls back once the connections of all sides that there are have been closed. */
export function onceClosed(sides: readonly (Side | undefined)[], done: () => void): void {
  let open = 1
  const one = (): void => {
    open -= 1
    if (open === 0) done()
  }
  for (const side of sides) {
    if (side === undefined || side.socket.closed) continue
    open += 1
    side.socket.once('close', one)
  }
  one()
}

/** WebSockets that are open at once: those of one session, and the memory that all of them may take. */
export interface Seats {
  /** Fails with `limited` where there is none left. Returns what gives it back. */
  take(session: string, bounds: WebSocketBounds): () => void
}

export function createSeats(mostOfSession: number, mostBytes: number): Seats {
  const taken = new Map<string, number>()
  let left = mostBytes
  return {
    take(session, { message }) {
      const own = taken.get(session) ?? 0
      // In each direction one message that comes in and one that goes out, and what waits besides.
      const bytes = 2 * (2 * message + mostWaiting)
      if (own >= mostOfSession)
        throw new Failure('limited', `a session may have ${mostOfSession} WebSockets: close one of them first`)
      if (bytes > left) throw new Failure('limited', 'too many WebSockets are open at this moment: try again later')
      taken.set(session, own + 1)
      left -= bytes
      return () => {
        left += bytes
        const others = (taken.get(session) ?? 1) - 1
        if (others === 0) taken.delete(session)
        else taken.set(session, others)
      }
    },
  }
}
