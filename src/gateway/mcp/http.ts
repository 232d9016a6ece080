import type { IncomingHttpHeaders } from 'node:http'
import { Pool } from 'undici'
import type { Dispatcher } from 'undici'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import { parseJson } from '../../guard/json.ts'
import { identity, UpstreamError } from './connection.ts'
import type { Connection, ConnectionEvents, UpstreamAnswer, UpstreamCall } from './connection.ts'
import { createEventReader } from './events.ts'
import { encodeHeader, isObject, legacyVersions, messageOf, meta, modernVersion, nameSource, rpc } from './wire.ts'
import type { Capabilities, Era, Message, RpcResponse } from './wire.ts'

/** A server that is reached over Streamable HTTP. */
export interface HttpTarget {
  readonly url: string
  /** Headers of each request, with the credential. Read anew for each, so that it can change. */
  readonly headers: () => Readonly<Record<string, string>>
}

export interface HttpOptions {
  readonly target: HttpTarget
  readonly era: Era | 'auto'
  /** What the client behind this connection can be asked for; told once to a legacy server. */
  readonly capabilities: Capabilities
  readonly events: ConnectionEvents
  /** Milliseconds until the server has to have said who it is. */
  readonly connectWithin: number
}

/** Bytes of notifications that may come along with one answer. */
const mostBeside = 1_000_000
/** Bytes that may follow an answer; with more, its connection is not worth keeping. */
const mostSurplus = 64_000
const mostOfHello = 1_000_000
const mostOfNotice = 100_000
interface Answered extends UpstreamAnswer {
  readonly headers: IncomingHttpHeaders
}

/** How the bytes of an answer are taken. Both may throw. */
interface Reading {
  take(chunk: Buffer): void
  end(): void
}

const jsonLimits = { maxDepth: 128, maxKeys: 200_000, bigIntegers: 'round' } as const

/**
 * Connects to a server over Streamable HTTP in the newest way that both speak. Redirects are not followed.
 *
 * Fails with `unavailable`.
 */
export async function connectHttp(options: HttpOptions): Promise<Connection> {
  const { target, era, capabilities, events, connectWithin } = options
  const url = new URL(target.url)
  const path = `${url.pathname}${url.search}`
  const pool = new Pool(url.origin, {
    connections: 128,
    connect: { timeout: connectWithin },
    headersTimeout: 0, // Each request has a deadline of its own.
    bodyTimeout: 0,
    keepAliveTimeout: 4_000,
    maxHeaderSize: 16_384,
  })
  const closing = new AbortController()
  const streams = new Set<AbortController>()
  /** What cuts each request that is on its way. */
  const running = new Set<() => void>()
  let serial = 0
  let isClosed = false
  let session: string | undefined
  let version = modernVersion
  let watched: readonly string[] = []
  let relisten = (): void => {}

  const fresh = (): string => `sp-${++serial}`

  function headersFor(message: JsonObject, more: Readonly<Record<string, string>> = {}): Record<string, string> {
    const headers: Record<string, string> = {
      ...target.headers(),
      ...more,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'accept-encoding': 'identity',
    }
    if (version === modernVersion) {
      headers['mcp-protocol-version'] = modernVersion
      headers['mcp-method'] = message['method'] as string
      const source = nameSource.get(message['method'] as string)
      const name = source === undefined ? undefined : (message['params'] as JsonObject)[source]
      if (typeof name === 'string') headers['mcp-name'] = encodeHeader(name)
    } else if (message['method'] !== 'initialize') headers['mcp-protocol-version'] = version
    if (session !== undefined) headers['mcp-session-id'] = session
    return headers
  }

  async function post(
    message: JsonObject,
    signal: AbortSignal,
    more?: Readonly<Record<string, string>>,
  ): Promise<Dispatcher.ResponseData> {
    try {
      return await pool.request({
        method: 'POST',
        path,
        headers: headersFor(message, more),
        body: JSON.stringify(message),
        signal,
      })
    } catch (thrown) {
      throw failureOf(thrown, signal)
    }
  }

  /** Sends what no answer is expected to. Nothing waits for it and nothing depends on it. */
  function send(message: JsonObject): void {
    post({ jsonrpc: '2.0', ...message }, AbortSignal.any([closing.signal, AbortSignal.timeout(10_000)]))
      .then(({ body }) => body.dump())
      .catch(() => {})
  }

  async function call(each: UpstreamCall): Promise<UpstreamAnswer> {
    if (isClosed) throw new Failure('unavailable', 'the connection is closed')
    const id = fresh()
    const params = version === modernVersion ? modernParams(each, id) : legacyParams(each, id)
    return exchange({ jsonrpc: '2.0', id, method: each.method, params }, id, each, () => {
      if (version !== modernVersion) send({ method: 'notifications/cancelled', params: { requestId: id } })
    })
  }

  /**
   * Sends a request and reads its answer as it comes. (`pool.request` makes a stream of each answer and listens to a
   * signal of its own, which is twice the work.) `onCut` is told when the caller left or the time was over.
   */
  function exchange(message: JsonObject, id: string, each: UpstreamCall, onCut: () => void): Promise<Answered> {
    const request = {
      method: 'POST',
      path,
      headers: headersFor(message, each.headers),
      body: JSON.stringify(message),
    } as const
    return new Promise((resolve, reject) => {
      let controller: Dispatcher.DispatchController | undefined
      let answer: Reading | undefined
      let isOver = false
      let surplus = 0
      let lingering: NodeJS.Timeout | undefined

      const deadline = createDeadline(each.timeout, (late) => {
        fail(late)
        onCut()
      })
      const cut = (): void => {
        fail(
          each.signal.reason instanceof Failure
            ? each.signal.reason
            : new Failure('cancelled', 'the call was cancelled'),
        )
        if (!isClosed) onCut()
      }

      function finish(settle: () => void): void {
        if (isOver) return
        isOver = true
        deadline.stop()
        each.signal.removeEventListener('abort', cut)
        running.delete(cut)
        settle()
      }
      function fail(thrown: unknown): void {
        const failure = asError(thrown)
        finish(() => reject(failure))
        controller?.abort(failure)
      }
      /** What is still to come matters to nobody; if it is little, the connection can be used again. */
      function leave(settle: () => void): void {
        finish(settle)
        lingering = setTimeout(() => controller?.abort(new Failure('cancelled', 'it was answered')), 1_000).unref()
      }
      function settle(response: RpcResponse, bytes: number, headers: IncomingHttpHeaders): () => void {
        return () => {
          try {
            resolve({ ...settled(response, bytes), headers })
          } catch (thrown) {
            reject(asError(thrown))
          }
        }
      }

      function readingOf(status: number, headers: IncomingHttpHeaders): Reading | undefined {
        const type = (headers['content-type'] ?? '').toLowerCase()
        if (status === 404 && session !== undefined) {
          fail(new Failure('unavailable', 'the server forgot the session'))
          lost('the server forgot the session')
          return undefined
        }
        if (type.startsWith('text/event-stream') && status === 200) return readingStream(headers)
        if (type.startsWith('application/json')) return readingBody(status, headers)
        leave(() => reject(new Failure('unavailable', `the server answered with HTTP status ${status}`)))
        return undefined
      }

      function readingBody(status: number, headers: IncomingHttpHeaders): Reading {
        const chunks: Buffer[] = []
        let bytes = 0
        return {
          take(chunk) {
            bytes += chunk.length
            if (bytes > each.most) throw new Failure('too_large', `the answer is larger than ${each.most} bytes`)
            chunks.push(chunk)
          },
          end() {
            const response = read(Buffer.concat(chunks), each.most)
            const isAnswer =
              response?.kind === 'response' && (response.error !== undefined || (response.id === id && status === 200))
            if (!isAnswer)
              throw new Failure('unavailable', `the server answered with HTTP status ${status} and no answer`)
            finish(settle(response, bytes, headers))
          },
        }
      }

      function readingStream(headers: IncomingHttpHeaders): Reading {
        let beside = 0
        const take = createEventReader(each.most, (data, size) => {
          if (isOver) return
          const event = read(data, each.most)
          if (event?.kind === 'response' && event.id === id) return leave(settle(event, size, headers))
          beside += size + 64
          if (beside > mostBeside) throw new Failure('too_large', 'the server sent too much beside its answer')
          if (event !== undefined) aside(event, each, deadline)
        })
        return {
          take,
          end() {
            throw new Failure('unavailable', 'the server ended its answer before it was there')
          },
        }
      }

      if (each.signal.aborted) return cut()
      each.signal.addEventListener('abort', cut, { once: true })
      running.add(cut)
      pool.dispatch(request, {
        onRequestStart(given) {
          controller = given
          if (isOver) given.abort(new Failure('cancelled', 'the call was cancelled'))
        },
        onResponseStart(_controller, status, headers) {
          if (status >= 200) answer = readingOf(status, headers)
        },
        onResponseData(given, chunk) {
          if (isOver) {
            surplus += chunk.length
            if (surplus > mostSurplus) given.abort(new Failure('too_large', 'the server sent more than its answer'))
            return
          }
          try {
            answer?.take(chunk)
          } catch (thrown) {
            fail(thrown)
          }
        },
        onResponseEnd() {
          controller = undefined
          clearTimeout(lingering)
          if (isOver) return
          try {
            answer?.end()
          } catch (thrown) {
            fail(thrown)
          }
        },
        onResponseError(_controller, thrown) {
          controller = undefined
          clearTimeout(lingering)
          fail(
            thrown instanceof Failure
              ? thrown
              : new Failure('unavailable', 'the server can’t be reached', { cause: thrown }),
          )
        },
      })
    })
  }

  /** What a server sends while it works on a request. */
  function aside(message: Message, each: UpstreamCall, deadline: Deadline): void {
    if (message.kind === 'response') return
    if (message.kind === 'request') return answerQuestion(message.id, message.method, message.params, each, deadline)
    const { method, params } = message
    if (method === 'notifications/progress') {
      const progress = progressOf(params)
      if (progress !== undefined) each.onProgress?.(progress)
    } else if (method === 'notifications/message') each.onLog?.(params)
    else notice(method, params)
  }

  function answerQuestion(
    id: string | number,
    method: string,
    params: JsonObject,
    each: UpstreamCall | undefined,
    deadline?: Deadline,
  ): void {
    if (version === modernVersion) return // Its servers may not ask in this way: the answer would have nowhere to go.
    if (method === 'ping') return send({ id, result: {} })
    const ask = each?.ask
    if (ask === undefined) return send({ id, error: { code: rpc.method, message: 'not supported' } })
    deadline?.pause()
    ask({ method, params })
      .then(
        (result) => send({ id, result }),
        () => send({ id, error: { code: rpc.request, message: 'the client did not answer' } }),
      )
      .finally(() => deadline?.resume())
  }

  function notice(method: string, params: JsonObject): void {
    if (method === 'notifications/tools/list_changed') events.changed('tools')
    else if (method === 'notifications/prompts/list_changed') events.changed('prompts')
    else if (method === 'notifications/resources/list_changed') events.changed('resources')
    else if (method === 'notifications/resources/updated' && typeof params['uri'] === 'string')
      events.updated(params['uri'])
  }

  function lost(because: string): void {
    if (isClosed) return
    isClosed = true
    events.closed(because)
    void close()
  }

  async function close(): Promise<void> {
    const wasOpen = !closing.signal.aborted
    if (wasOpen && session !== undefined && !isClosed)
      await pool
        .request({
          method: 'DELETE',
          path,
          headers: { ...target.headers(), 'mcp-session-id': session, 'mcp-protocol-version': version },
          signal: AbortSignal.timeout(1_000),
        })
        .then(({ body }) => body.dump())
        .catch(() => {})
    isClosed = true
    closing.abort()
    for (const cut of running) cut()
    for (const stream of streams) stream.abort()
    await pool.destroy().catch(() => {})
  }

  // Notices that come unasked ------------------------------------------------------------------------------------------

  /** Keeps a stream open for what the server says unasked; begun again when it ends, ever more slowly. */
  function keepListening(open: (signal: AbortSignal) => Promise<Dispatcher.ResponseData>): void {
    let failures = 0
    let current: AbortController | undefined

    const listen = async (): Promise<void> => {
      const own = new AbortController()
      current = own
      streams.add(own)
      const startedAt = performance.now()
      let goOn = true
      try {
        const { statusCode, headers, body } = await open(AbortSignal.any([own.signal, closing.signal]))
        if (statusCode !== 200 || !String(headers['content-type'] ?? '').startsWith('text/event-stream')) {
          await body.dump().catch(() => {})
          // The server has no such stream: that is its right. What it doesn't announce is found when it is listed again.
          goOn = statusCode >= 500 || statusCode === 429
        } else {
          const take = createEventReader(mostOfNotice, (data) => {
            const message = read(data, mostOfNotice)
            if (message?.kind === 'notification') notice(message.method, message.params)
            else if (message?.kind === 'request') answerQuestion(message.id, message.method, message.params, undefined)
          })
          for await (const chunk of body) take(chunk as Buffer)
        }
      } catch {
        // Begun again below.
      } finally {
        streams.delete(own)
        own.abort()
      }
      if (isClosed || closing.signal.aborted || current !== own || !goOn) return
      failures = performance.now() - startedAt > 30_000 ? 0 : failures + 1
      const pause = Math.min(30_000, 100 * 2 ** failures)
      setTimeout(() => current === own && void listen(), pause).unref()
    }

    relisten = () => {
      const before = current
      void listen()
      before?.abort()
    }
    void listen()
  }

  const listenModern = (signal: AbortSignal): Promise<Dispatcher.ResponseData> => {
    const id = fresh()
    const notifications = {
      toolsListChanged: true,
      promptsListChanged: true,
      resourcesListChanged: true,
      ...(watched.length === 0 ? {} : { resourceSubscriptions: [...watched] }),
    }
    return post(
      { jsonrpc: '2.0', id, method: 'subscriptions/listen', params: { notifications, _meta: envelope({}) } },
      signal,
    )
  }

  const listenLegacy = (signal: AbortSignal): Promise<Dispatcher.ResponseData> =>
    pool.request({
      method: 'GET',
      path,
      headers: {
        ...target.headers(),
        accept: 'text/event-stream',
        'accept-encoding': 'identity',
        'mcp-protocol-version': version,
        ...(session === undefined ? {} : { 'mcp-session-id': session }),
      },
      signal,
    })

  // The greeting -------------------------------------------------------------------------------------------------------

  const hello = (method: string, params: JsonObject, signal: AbortSignal): Promise<UpstreamAnswer> =>
    call({ method, params, signal, timeout: connectWithin, most: mostOfHello, capabilities: {} })

  async function greet(): Promise<{ era: Era; offers: JsonObject; instructions: string | undefined }> {
    const never = new AbortController().signal
    if (era !== 'legacy') {
      try {
        const { result } = await hello('server/discover', {}, never)
        const supported = result['supportedVersions']
        if (!Array.isArray(supported) || supported.includes(modernVersion))
          return { era: 'modern', offers: offersOf(result), instructions: instructionsOf(result) }
      } catch (thrown) {
        // Anything that answers at all may be a legacy server; one that can't be reached is not tried twice.
        if (
          era === 'modern' ||
          (thrown instanceof Failure && thrown.code === 'unavailable' && !/HTTP status/.test(thrown.message))
        )
          throw unavailable(thrown)
      }
      if (era === 'modern') throw new Failure('unavailable', `the server does not speak ${modernVersion}`)
    }
    version = legacyVersions[0]
    const id = fresh()
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(connectWithin)])
    const params = { protocolVersion: version, capabilities: capabilities as JsonObject, clientInfo: identity }
    const each = {
      method: 'initialize',
      params,
      signal: never,
      timeout: connectWithin,
      most: mostOfHello,
      capabilities: {},
    }
    const { result, headers } = await exchange(
      { jsonrpc: '2.0', id, method: 'initialize', params },
      id,
      each,
      () => {},
    ).catch((thrown: unknown) => {
      throw unavailable(thrown)
    })
    const given = headers['mcp-session-id']
    const agreed = result['protocolVersion']
    if (typeof agreed !== 'string' || !legacyVersions.includes(agreed))
      throw new Failure('unavailable', 'the server speaks no revision of the protocol that we do')
    version = agreed
    if (typeof given === 'string' && /^[\x21-\x7e]{1,512}$/.test(given)) session = given
    const initialized = await post({ jsonrpc: '2.0', method: 'notifications/initialized', params: {} }, signal)
    await initialized.body.dump().catch(() => {})
    return { era: 'legacy', offers: offersOf(result), instructions: instructionsOf(result) }
  }

  const greeted = await greet().catch(async (thrown: unknown) => {
    await close()
    throw thrown
  })
  keepListening(greeted.era === 'modern' ? listenModern : listenLegacy)

  async function watch(uris: readonly string[]): Promise<void> {
    const before = watched
    watched = uris
    if (greeted.era === 'modern') return relisten()
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(10_000)])
    const tell = (method: string, uri: string): Promise<unknown> =>
      call({ method, params: { uri }, signal, timeout: 10_000, most: mostOfNotice, capabilities: {} })
    for (const uri of before) if (!uris.includes(uri)) await tell('resources/unsubscribe', uri).catch(() => {})
    for (const uri of uris) if (!before.includes(uri)) await tell('resources/subscribe', uri)
  }

  return { ...greeted, version, call, watch, close }
}

// Shared with servers that are programs ---------------------------------------------------------------------------------

export const offersOf = (result: JsonObject): JsonObject =>
  isObject(result['capabilities']) ? result['capabilities'] : {}

export const instructionsOf = ({ instructions }: JsonObject): string | undefined =>
  typeof instructions === 'string' && instructions.length <= 20_000 ? instructions : undefined

const envelope = (capabilities: Capabilities): Record<string, Json> => ({
  [meta.version]: modernVersion,
  [meta.client]: identity,
  [meta.capabilities]: capabilities as JsonObject,
})

/** The parameters as sent to a modern server: with who asks, what it can be asked for, and how it is told of progress. */
export function modernParams({ params, capabilities, logLevel, onProgress }: UpstreamCall, token: string): JsonObject {
  return {
    ...params,
    _meta: {
      ...(params['_meta'] as JsonObject | undefined),
      ...envelope(capabilities),
      ...(logLevel === undefined ? {} : { [meta.logLevel]: logLevel }),
      ...(onProgress === undefined ? {} : { progressToken: token }),
    },
  }
}

export function legacyParams({ params, onProgress }: UpstreamCall, token: string): JsonObject {
  if (onProgress === undefined) return params
  return { ...params, _meta: { ...(params['_meta'] as JsonObject | undefined), progressToken: token } }
}

const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : Failure.from(thrown))

export interface Deadline {
  pause(): void
  resume(): void
  stop(): void
}

/** Tells when the time (milliseconds) is used up; the time between `pause` and `resume` is not. */
export function createDeadline(milliseconds: number, onLate: (late: Failure) => void): Deadline {
  const over = (): void => onLate(new Failure('unavailable', `no answer within ${milliseconds / 1000} s`))
  let left = milliseconds
  let since = performance.now()
  let paused = 0
  let isStopped = false
  let timer = setTimeout(over, left)
  return {
    pause() {
      if (paused++ > 0) return
      clearTimeout(timer)
      left -= performance.now() - since
    },
    resume() {
      if (--paused > 0 || isStopped) return
      since = performance.now()
      timer = setTimeout(over, Math.max(1, left))
    },
    stop() {
      isStopped = true
      clearTimeout(timer)
    },
  }
}

export function progressOf({
  progress,
  total,
  message,
}: JsonObject): { progress: number; total?: number; message?: string } | undefined {
  if (typeof progress !== 'number') return undefined
  return {
    progress,
    ...(typeof total === 'number' ? { total } : {}),
    ...(typeof message === 'string' ? { message: message.slice(0, 500) } : {}),
  }
}

/** A message of an upstream; undefined for what is none. Fails with `invalid` or `too_large` for what can't be read. */
export function read(source: Uint8Array | string, most: number): Message | undefined {
  try {
    return messageOf(parseJson(source, { ...jsonLimits, maxBytes: most }))
  } catch (thrown) {
    const { code, message } = Failure.from(thrown)
    throw new Failure(code, `the answer can’t be read: ${message.replace(/^the body /, 'it ')}`, { cause: thrown })
  }
}

export function settled({ result, error }: RpcResponse, bytes: number): UpstreamAnswer {
  if (error !== undefined) throw new UpstreamError(error.code, error.message, error.data)
  return { result, bytes }
}

const unavailable = (cause: unknown): Failure =>
  new Failure('unavailable', 'the server can’t be reached or does not speak MCP', { cause })

function failureOf(thrown: unknown, cut: AbortSignal): Failure {
  if (thrown instanceof Failure) return thrown
  if (cut.aborted)
    return cut.reason instanceof Failure ? cut.reason : new Failure('cancelled', 'the call was cancelled')
  return new Failure('unavailable', 'the server can’t be reached', { cause: thrown })
}
