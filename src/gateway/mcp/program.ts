import type { JSONRPCMessage } from '@modelcontextprotocol/client'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import { identity, UpstreamError } from './connection.ts'
import type { Connection, ConnectionEvents, UpstreamAnswer, UpstreamCall } from './connection.ts'
import { createDeadline, instructionsOf, legacyParams, modernParams, offersOf, progressOf } from './http.ts'
import type { Deadline } from './http.ts'
import { ProcessTransport } from './process.ts'
import { legacyVersions, messageOf, modernVersion, rpc } from './wire.ts'
import type { Capabilities, Era, Message } from './wire.ts'

/** A server that is a program, started here. */
export interface ProgramTarget {
  readonly command: readonly string[]
  readonly cwd: string
  readonly env: () => Readonly<Record<string, string>>
}

export interface ProgramOptions {
  readonly target: ProgramTarget
  readonly era: Era | 'auto'
  /** What the client behind this connection can be asked for; told once to a legacy server. */
  readonly capabilities: Capabilities
  readonly events: ConnectionEvents
  /** Milliseconds until the server has to have said who it is. */
  readonly connectWithin: number
  /** Our own environment, of which a program gets the few variables that it needs to run at all. */
  readonly environment: Readonly<Record<string, string | undefined>>
}

interface Running {
  readonly call: UpstreamCall
  readonly deadline: Deadline
  readonly resolve: (answer: UpstreamAnswer) => void
  readonly reject: (failure: Error) => void
}

const mostOfHello = 1_000_000
/** Many programs are started by a package runner, which takes its time; a legacy one may not answer what it doesn't know. */
const probeWithin = 5_000

/** Starts a program and greets it in the newest way that both speak. Fails with `unavailable`. */
export async function connectProgram(options: ProgramOptions): Promise<Connection> {
  const { target, era, capabilities, events, connectWithin } = options
  const running = new Map<string, Running>()
  let serial = 0
  let version = modernVersion
  let isClosed = false
  let isGreeted = false
  let watched: readonly string[] = []
  let listening: string | undefined

  const transport = new ProcessTransport({
    command: target.command as [string, ...string[]],
    cwd: target.cwd,
    env: target.env(),
    ours: options.environment,
  })
  transport.onmessage = (raw: JSONRPCMessage) => {
    const message = messageOf(raw as unknown as Json)
    if (message !== undefined) receive(message, raw)
  }
  transport.onerror = () => {}
  transport.onclose = () => {
    isClosed = true
    for (const { reject } of running.values()) reject(new Failure('unavailable', 'the server ended before it answered'))
    running.clear()
    void transport.ended.then(({ reason }) => isGreeted && events.closed(reason))
  }

  const send = (message: JsonObject): Promise<void> =>
    transport.send({ jsonrpc: '2.0', ...message } as unknown as JSONRPCMessage)
  /** Sends what no answer is expected to. */
  const tell = (message: JsonObject): void => void send(message).catch(() => {})

  function receive(message: Message, raw: JSONRPCMessage): void {
    if (message.kind === 'response') {
      const each = running.get(String(message.id))
      if (each === undefined) return
      if (message.error !== undefined)
        return each.reject(new UpstreamError(message.error.code, message.error.message, message.error.data))
      const bytes = Buffer.byteLength(JSON.stringify(raw))
      if (bytes > each.call.most)
        return each.reject(new Failure('too_large', `the answer is larger than ${each.call.most} bytes`))
      return each.resolve({ result: message.result, bytes })
    }
    if (message.kind === 'request') return question(message.id, message.method, message.params)
    notice(message.method, message.params)
  }

  function notice(method: string, params: JsonObject): void {
    const of = (id: Json | undefined): UpstreamCall | undefined =>
      typeof id === 'string' ? running.get(id)?.call : undefined
    if (method === 'notifications/progress') {
      const progress = progressOf(params)
      if (progress !== undefined) of(params['progressToken'])?.onProgress?.(progress)
    } else if (method === 'notifications/message') {
      // Nothing says which call it belongs to: it goes to nobody unless there is but one.
      const [only, ...others] = running.values()
      if (others.length === 0) only?.call.onLog?.(params)
    } else if (method === 'notifications/tools/list_changed') events.changed('tools')
    else if (method === 'notifications/prompts/list_changed') events.changed('prompts')
    else if (method === 'notifications/resources/list_changed') events.changed('resources')
    else if (method === 'notifications/resources/updated' && typeof params['uri'] === 'string')
      events.updated(params['uri'])
  }

  /**
   * A program's question says not which call it belongs to. All calls of a connection that can be asked are of one
   * client, so it goes to that client with the newest of them; a connection that is shared can be asked nothing.
   */
  function question(id: string | number, method: string, params: JsonObject): void {
    if (version === modernVersion) return
    if (method === 'ping') return tell({ id, result: {} })
    const each = [...running.values()].findLast(({ call: { ask } }) => ask !== undefined)
    if (each?.call.ask === undefined) return tell({ id, error: { code: rpc.method, message: 'not supported' } })
    each.deadline.pause()
    each.call
      .ask({ method, params })
      .then(
        (result) => tell({ id, result }),
        () => tell({ id, error: { code: rpc.request, message: 'the client did not answer' } }),
      )
      .finally(() => each.deadline.resume())
  }

  async function call(each: UpstreamCall): Promise<UpstreamAnswer> {
    if (isClosed) throw new Failure('unavailable', 'the server is not running')
    const id = `sp-${++serial}`
    const deadline = createDeadline(each.timeout, (late) => give(id, late))
    const cut = (): void =>
      give(
        id,
        each.signal.reason instanceof Failure ? each.signal.reason : new Failure('cancelled', 'the call was cancelled'),
      )
    try {
      return await new Promise<UpstreamAnswer>((resolve, reject) => {
        if (each.signal.aborted) throw new Failure('cancelled', 'the call was cancelled')
        running.set(id, { call: each, deadline, resolve, reject })
        each.signal.addEventListener('abort', cut, { once: true })
        const params = version === modernVersion ? modernParams(each, id) : legacyParams(each, id)
        send({ id, method: each.method, params }).catch(reject)
      })
    } finally {
      running.delete(id)
      each.signal.removeEventListener('abort', cut)
      deadline.stop()
    }
  }

  /** Gives a request up, and lets the server know. */
  function give(id: string, failure: Failure): void {
    running.get(id)?.reject(failure)
    tell({ method: 'notifications/cancelled', params: { requestId: id } })
  }

  const hello = (method: string, params: JsonObject, timeout: number): Promise<UpstreamAnswer> =>
    call({ method, params, signal: new AbortController().signal, timeout, most: mostOfHello, capabilities: {} })

  async function greet(): Promise<{ era: Era; offers: JsonObject; instructions: string | undefined }> {
    if (era !== 'legacy') {
      try {
        const { result } = await hello(
          'server/discover',
          {},
          era === 'modern' ? connectWithin : Math.min(probeWithin, connectWithin),
        )
        const supported = result['supportedVersions']
        if (!Array.isArray(supported) || supported.includes(modernVersion))
          return { era: 'modern', offers: offersOf(result), instructions: instructionsOf(result) }
      } catch (thrown) {
        if (isClosed || era === 'modern') throw thrown
      }
      if (era === 'modern') throw new Failure('unavailable', `the server does not speak ${modernVersion}`)
    }
    version = legacyVersions[0]
    const { result } = await hello(
      'initialize',
      { protocolVersion: version, capabilities: capabilities as JsonObject, clientInfo: identity },
      connectWithin,
    )
    const agreed = result['protocolVersion']
    if (typeof agreed !== 'string' || !legacyVersions.includes(agreed))
      throw new Failure('unavailable', 'the server speaks no revision of the protocol that we do')
    version = agreed
    await send({ method: 'notifications/initialized', params: {} })
    return { era: 'legacy', offers: offersOf(result), instructions: instructionsOf(result) }
  }

  function listen(): void {
    const before = listening
    listening = `sp-${++serial}`
    const notifications = {
      toolsListChanged: true,
      promptsListChanged: true,
      resourcesListChanged: true,
      ...(watched.length === 0 ? {} : { resourceSubscriptions: [...watched] }),
    }
    const none = {
      method: '',
      params: { notifications },
      signal: new AbortController().signal,
      timeout: 0,
      most: 0,
      capabilities: {},
    }
    tell({ id: listening, method: 'subscriptions/listen', params: modernParams(none, listening) })
    if (before !== undefined) tell({ method: 'notifications/cancelled', params: { requestId: before } })
  }

  await transport.start()
  const greeted = await greet().catch(async (cause: unknown) => {
    if (isClosed) throw new Failure('unavailable', (await transport.ended).reason, { cause })
    await transport.close()
    throw cause instanceof Failure ? cause : new Failure('unavailable', 'the server does not speak MCP', { cause })
  })
  isGreeted = true
  if (greeted.era === 'modern') listen()

  async function watch(uris: readonly string[]): Promise<void> {
    const before = watched
    watched = uris
    if (greeted.era === 'modern') return listen()
    for (const uri of before)
      if (!uris.includes(uri)) await hello('resources/unsubscribe', { uri }, 10_000).catch(() => {})
    for (const uri of uris) if (!before.includes(uri)) await hello('resources/subscribe', { uri }, 10_000)
  }

  return { ...greeted, version, call, watch, close: () => transport.close() }
}
