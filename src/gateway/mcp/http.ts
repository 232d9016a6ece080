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
const mostOfHello = 1_000_000
const mostOfNotice = 100_000
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

  async function post(message: JsonObject, signal: AbortSignal, more?: Readonly<Record<string, string>>): Promise<Dispatcher.ResponseData> {
    try {
      return await pool.request({ method: 'POST', path, headers: headersFor(message, more), body: JSON.stringify(message), signal })
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
    const deadline = createDeadline(each.timeout)
    const cut = AbortSignal.any([each.signal, deadline.signal, closing.signal])
    try {
      const response = await post({ jsonrpc: '2.0', id, method: each.method, params }, cut, each.headers)
      return await answerIn(response, id, each, cut, deadline)
    } catch (thrown) {
      if (version !== modernVersion && cut.aborted) send({ method: 'notifications/cancelled', params: { requestId: id } })
      if (deadline.signal.aborted && !each.signal.aborted)
        throw new Failure('unavailable', `no answer within ${each.timeout / 1000} s`)
      throw thrown
    } finally {
      deadline.stop()
    }
  }

  async function answerIn(
    { statusCode, headers, body }: Dispatcher.ResponseData,
    id: string,
    each: UpstreamCall,
    cut: AbortSignal,
    deadline: Deadline,
  ): Promise<UpstreamAnswer> {
    const type = String(headers['content-type'] ?? '').toLowerCase()
    if (statusCode === 404 && session !== undefined) {
      await body.dump().catch(() => {})
      lost('the server forgot the session')
      throw new Failure('unavailable', 'the server forgot the session')
    }
    if (type.startsWith('text/event-stream') && statusCode === 200) return answerInStream(body, id, each, cut, deadline)
    if (!type.startsWith('application/json')) {
      await body.dump().catch(() => {})
      throw new Failure('unavailable', `the server answered with HTTP status ${statusCode}`)
    }
    const bytes = await readAll(body, each.most, cut)
    const message = read(bytes, each.most)
    const isAnswer = message?.kind === 'response' && (message.error !== undefined || (message.id === id && statusCode === 200))
    if (isAnswer) return settled(message, bytes.length)
    throw new Failure('unavailable', `the server answered with HTTP status ${statusCode} and no answer`)
  }

  function answerInStream(
    body: Dispatcher.ResponseData['body'],
    id: string,
    each: UpstreamCall,
    cut: AbortSignal,
    deadline: Deadline,
  ): Promise<UpstreamAnswer> {
    return new Promise((resolve, reject) => {
      let beside = 0
      const done = (finish: () => void): void => {
        body.on('error', () => {}) // What comes after the answer matters to nobody.
        body.destroy()
        finish()
      }
      const take = createEventReader(each.most, (data, size) => {
        const message = read(data, each.most)
        if (message?.kind === 'response' && message.id === id)
          return done(() => {
            try {
              resolve(settled(message, size))
            } catch (thrown) {
              reject(thrown)
            }
          })
        beside += size + 64
        if (beside > mostBeside) return done(() => reject(new Failure('too_large', 'the server sent too much beside its answer')))
        if (message !== undefined) aside(message, each, deadline)
      })
      body.on('data', (chunk: Buffer) => {
        try {
          take(chunk)
        } catch (thrown) {
          done(() => reject(thrown))
        }
      })
      body.once('error', (thrown) => reject(failureOf(thrown, cut)))
      body.once('end', () => reject(new Failure('unavailable', 'the server ended its answer before it was there')))
      body.once('close', () => reject(failureOf(undefined, cut)))
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

  function answerQuestion(id: string | number, method: string, params: JsonObject, each: UpstreamCall | undefined, deadline?: Deadline): void {
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
    else if (method === 'notifications/resources/updated' && typeof params['uri'] === 'string') events.updated(params['uri'])
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
        .request({ method: 'DELETE', path, headers: { ...target.headers(), 'mcp-session-id': session, 'mcp-protocol-version': version }, signal: AbortSignal.timeout(1_000) })
        .then(({ body }) => body.dump())
        .catch(() => {})
    isClosed = true
    closing.abort()
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
    return post({ jsonrpc: '2.0', id, method: 'subscriptions/listen', params: { notifications, _meta: envelope({}) } }, signal)
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
        if (era === 'modern' || (thrown instanceof Failure && thrown.code === 'unavailable' && !/HTTP status/.test(thrown.message)))
          throw unavailable(thrown)
      }
      if (era === 'modern') throw new Failure('unavailable', `the server does not speak ${modernVersion}`)
    }
    version = legacyVersions[0]!
    const id = fresh()
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(connectWithin)])
    const params = { protocolVersion: version, capabilities: capabilities as JsonObject, clientInfo: identity }
    const response = await post({ jsonrpc: '2.0', id, method: 'initialize', params }, signal)
    const given = response.headers['mcp-session-id']
    const each = { method: 'initialize', params, signal, timeout: connectWithin, most: mostOfHello, capabilities: {} }
    const { result } = await answerIn(response, id, each, signal, createDeadline(connectWithin)).catch((thrown: unknown) => {
      throw unavailable(thrown)
    })
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

export const offersOf = (result: JsonObject): JsonObject => (isObject(result['capabilities']) ? result['capabilities'] : {})

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

export interface Deadline {
  readonly signal: AbortSignal
  pause(): void
  resume(): void
  stop(): void
}

/** A signal that aborts when the time is used up; the time between `pause` and `resume` is not. */
export function createDeadline(milliseconds: number): Deadline {
  const controller = new AbortController()
  const over = (): void => controller.abort(new Failure('unavailable', `no answer within ${milliseconds / 1000} s`))
  let left = milliseconds
  let since = performance.now()
  let paused = 0
  let timer = setTimeout(over, left)
  return {
    signal: controller.signal,
    pause() {
      if (paused++ > 0) return
      clearTimeout(timer)
      left -= performance.now() - since
    },
    resume() {
      if (--paused > 0) return
      since = performance.now()
      timer = setTimeout(over, Math.max(1, left))
    },
    stop: () => clearTimeout(timer),
  }
}

export function progressOf({ progress, total, message }: JsonObject): { progress: number; total?: number; message?: string } | undefined {
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
  return { result: result!, bytes }
}

const unavailable = (cause: unknown): Failure => new Failure('unavailable', 'the server can’t be reached or does not speak MCP', { cause })

async function readAll(body: Dispatcher.ResponseData['body'], most: number, cut: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of body) {
      bytes += (chunk as Buffer).length
      if (bytes > most) throw new Failure('too_large', `the answer is larger than ${most} bytes`)
      chunks.push(chunk as Buffer)
    }
  } catch (thrown) {
    throw failureOf(thrown, cut)
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)
}

function failureOf(thrown: unknown, cut: AbortSignal): Failure {
  if (thrown instanceof Failure) return thrown
  if (cut.aborted) return cut.reason instanceof Failure ? cut.reason : new Failure('cancelled', 'the call was cancelled')
  return new Failure('unavailable', 'the server can’t be reached', { cause: thrown })
}
