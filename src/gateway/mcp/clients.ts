import { randomBytes } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { Failure } from '../../core/failure.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Clock } from '../../guard/clock.ts'
import { randomId } from '../../guard/digest.ts'
import { eventText, streamHeaders } from './reply.ts'
import type { Reply } from './reply.ts'
import { rpc, RpcError } from './wire.ts'
import type { Capabilities, Question, RequestId, RpcResponse } from './wire.ts'

/**
 * A client of the legacy protocol between its `initialize` and its end. It belongs to the session of Sallyport that
 * began it: to any other, it does not exist.
 */
export interface LegacyClient {
  readonly id: string
  readonly owner: string
  readonly version: string
  readonly capabilities: Capabilities
  /** From this level on the client wants logs; absent: none. */
  logLevel: string | undefined
  /** Requests on their way, by the client's id, to be cancelled. */
  readonly inFlight: Map<RequestId, AbortController>
  /** Opens the stream of what is said unasked. Fails with `conflict` where one is open. */
  listen(res: ServerResponse): void
  /** Says something unasked; dropped where nobody listens. */
  say(message: JsonObject): void
  /** Asks the client something, on the way of the request that it belongs to. */
  ask(reply: Reply, question: Question, signal: AbortSignal): Promise<JsonObject>
  /** The client's answer to a question. One that nobody asked is dropped. */
  answered(response: RpcResponse): void
}

export interface LegacyClients {
  /** Fails with `limited` when there are too many. */
  begin(owner: string, version: string, capabilities: Capabilities): LegacyClient
  /** The client of an id, if it belongs to this session. */
  find(id: string, owner: string): LegacyClient | undefined
  end(client: LegacyClient): void
  /** Ends all of a session. */
  forget(owner: string): void
  all(): Iterable<LegacyClient>
}

const most = { owner: 64, all: 10_000 } as const
const idle = 60 * 60_000
const answerWithin = 10 * 60_000
const mostQuestions = 16
const mostUnread = 1_000_000
const betweenComments = 25_000

export function createLegacyClients(clock: Clock, onEnd: (client: LegacyClient) => void): LegacyClients {
  const clients = new Map<string, { readonly client: LegacyClient; readonly close: () => void; usedAt: number }>()

  function begin(owner: string, version: string, capabilities: Capabilities): LegacyClient {
    makeRoom(owner)
    const id = randomBytes(24).toString('base64url')
    const asked = new Map<string, (response: RpcResponse) => void>()
    let stream: ServerResponse | undefined
    let beat: NodeJS.Timeout | undefined
    let serial = 0

    function write(text: string): void {
      if (stream === undefined) return
      if (stream.writableLength > mostUnread) return void stream.destroy() // It does not read: it is not there.
      stream.write(text)
    }

    const client: LegacyClient = {
      id,
      owner,
      version,
      capabilities,
      logLevel: undefined,
      inFlight: new Map(),
      listen(res) {
        if (stream !== undefined) throw new Failure('conflict', 'this session has a stream already')
        stream = res
        res.writeHead(200, { ...streamHeaders, 'mcp-session-id': id })
        res.flushHeaders()
        beat = setInterval(() => {
          touch(id)
          write(': here\n\n')
        }, betweenComments)
        res.once('close', () => {
          clearInterval(beat)
          stream = undefined
        })
      },
      say: (message) => write(eventText(JSON.stringify({ jsonrpc: '2.0', ...message }))),
      ask(reply, { method, params }, signal) {
        if (asked.size >= mostQuestions)
          return Promise.reject(new Failure('limited', 'too many questions wait for an answer'))
        if (!reply.canStream)
          return Promise.reject(new Failure('unavailable', 'the client takes no stream, so it can’t be asked'))
        const question = `sp-${++serial}`
        return new Promise<JsonObject>((resolve, reject) => {
          const cut = (): void =>
            done(() => reject(new Failure('cancelled', 'the call ended before the client answered')))
          const timer = setTimeout(
            () => done(() => reject(new Failure('cancelled', 'the client did not answer in time'))),
            answerWithin,
          )
          const done = (finish: () => void): void => {
            asked.delete(question)
            clearTimeout(timer)
            signal.removeEventListener('abort', cut)
            finish()
          }
          if (signal.aborted) return cut()
          signal.addEventListener('abort', cut, { once: true })
          asked.set(question, ({ result }) =>
            done(() =>
              result === undefined ? reject(new Failure('cancelled', 'the client refused to answer')) : resolve(result),
            ),
          )
          reply.say({ id: question, method, params: forLegacy(method, params) })
        })
      },
      answered: (response) => asked.get(String(response.id))?.(response),
    }
    const close = (): void => {
      clearInterval(beat)
      stream?.end()
      for (const controller of client.inFlight.values())
        controller.abort(new Failure('cancelled', 'the session was ended'))
    }
    clients.set(id, { client, close, usedAt: clock() })
    return client
  }

  function makeRoom(owner: string): void {
    const now = clock()
    for (const { client, usedAt } of clients.values()) if (now - usedAt > idle) end(client)
    const own = [...clients.values()].filter(({ client }) => client.owner === owner).sort((a, b) => a.usedAt - b.usedAt)
    // Who opens many closes the oldest of its own, never another's.
    for (const { client } of own.slice(0, Math.max(0, own.length - most.owner + 1))) end(client)
    if (clients.size >= most.all) throw new Failure('limited', 'too many clients are connected: try again later')
  }

  function touch(id: string): void {
    const known = clients.get(id)
    if (known !== undefined) known.usedAt = clock()
  }

  function end(client: LegacyClient): void {
    const known = clients.get(client.id)
    if (known === undefined) return
    clients.delete(client.id)
    known.close()
    onEnd(client)
  }

  return {
    begin,
    find(id, owner) {
      const known = clients.get(id)
      if (known === undefined || known.client.owner !== owner) return undefined
      known.usedAt = clock()
      return known.client
    },
    end,
    forget(owner) {
      for (const { client } of clients.values()) if (client.owner === owner) end(client)
    },
    *all() {
      for (const { client } of clients.values()) yield client
    },
  }
}

/** The legacy protocol wants an id on questions that are answered on a web page. */
const forLegacy = (method: string, params: JsonObject): JsonObject =>
  method === 'elicitation/create' && params['mode'] === 'url' && params['elicitationId'] === undefined
    ? { ...params, elicitationId: randomId('eli') }
    : params

const levels = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency']

/** Fails with an `RpcError` for what is no level. */
export function levelOf(value: unknown): string {
  if (typeof value !== 'string' || !levels.includes(value))
    throw new RpcError(rpc.params, `expected a level: ${levels.join(', ')}`)
  return value
}

/** A log message of an upstream as a client that asked for a level gets it; undefined where it is below that. */
export function logFor(level: string | undefined, params: JsonObject): JsonObject | undefined {
  const given = params['level']
  if (level === undefined || typeof given !== 'string' || levels.indexOf(given) < levels.indexOf(level))
    return undefined
  const { data, logger } = params
  return {
    level: given,
    ...(typeof logger === 'string' ? { logger: logger.slice(0, 200) } : {}),
    data: data ?? null,
  }
}
