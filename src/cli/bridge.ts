import { setTimeout as pause } from 'node:timers/promises'
import { Agent, fetch } from 'undici'
import type { Response } from 'undici'
import { Failure } from '../core/failure.ts'
import type { Json, JsonObject } from '../core/json.ts'
import { readEvents } from './client.ts'
import { errorCode } from './place.ts'

// Between an MCP client that speaks stdio and the gateway's Streamable HTTP: one JSON-RPC message to a line there, one
// POST to a message here. It looks into messages only as far as the transport asks for it, and passes on their text.

export interface BridgePorts {
  /** Address of the endpoint, with its path. */
  readonly url: string
  /** The bearer credential, asked for anew for each request, so that a file of it can be renewed. */
  readonly credential: () => string
  /** Writes one message to the client. Resolves when there is room for the next. */
  readonly write: (line: string) => Promise<void>
  /** Tells the person at standard error; never a message of the client. */
  readonly log: (line: string) => void
}

export interface Bridge {
  /** Takes a line of the client. Resolves when the next one may be taken: what has to keep its order is sent by then. */
  take(line: string): Promise<void>
  /** A line that was longer than is taken. */
  tooLong(): Promise<void>
  /** Lets what is under way end for a moment, and lets go of the gateway. */
  close(): Promise<void>
}

/** Bytes of one line in either direction. */
export const longestLine = 16_777_216
/** How long answers may still come when the client has closed its side, in milliseconds. */
const lastWait = 2_000

const versionKey = 'io.modelcontextprotocol/protocolVersion'

const nameSource: ReadonlyMap<string, string> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
])

interface Sent {
  readonly abort: AbortController
  readonly done: Promise<void>
  readonly isStream: boolean
}

type RequestId = string | number

export function createBridge({ url, credential, write, log }: BridgePorts): Bridge {
  // No time limit of its own: a call may wait for people, and the gateway and the client both know when to give up.
  const agent = new Agent({ headersTimeout: 0, bodyTimeout: 0 })
  const flights = new Map<RequestId, Sent>()
  const headersOfTool = new Map<string, ReadonlyMap<string, readonly string[]>>()
  const closing = new AbortController()
  let session: string | undefined
  let version: string | undefined
  let listening: AbortController | undefined
  let isReachable = true

  async function take(line: string): Promise<void> {
    if (line.trim() === '') return
    let message: Json
    try {
      message = JSON.parse(line) as Json
    } catch {
      return error(null, -32700, 'this line is no JSON')
    }
    if (!isObject(message)) return error(null, -32600, 'expected one JSON-RPC message to a line')
    const { id, method } = message
    const params = isObject(message['params']) ? message['params'] : {}
    if (typeof method === 'string' && isId(id)) {
      const sending = request(line, id, method, params)
      // Everything after it needs the session that its answer names.
      if (method === 'initialize') await sending
      return
    }
    const about = params['requestId']
    if (method === 'notifications/cancelled' && session === undefined && isId(about)) {
      // Without a session, the end of the stream is what cancels.
      flights.get(about)?.abort.abort()
      return
    }
    await notify(line, typeof method === 'string' ? method : undefined, params)
    if (method === 'notifications/initialized') listen()
  }

  /** Sends a request; all that comes for it is written as it comes. Never rejects. */
  function request(line: string, id: RequestId, method: string, params: JsonObject): Promise<void> {
    if (flights.has(id)) return error(id, -32600, 'a request with this id is under way')
    const abort = new AbortController()
    const done = perform(line, id, method, params, AbortSignal.any([abort.signal, closing.signal])).finally(() =>
      flights.delete(id),
    )
    flights.set(id, { abort, done, isStream: method === 'subscriptions/listen' })
    return done
  }

  async function perform(
    line: string,
    id: RequestId,
    method: string,
    params: JsonObject,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      if (method === 'initialize') {
        listening?.abort()
        ;[listening, session, version] = [undefined, undefined, undefined]
      }
      const response = await post(line, method, params, signal)
      if (method === 'initialize' && response.ok) session = response.headers.get('mcp-session-id') ?? undefined
      const isAnswered = response.ok ? await relay(response, id, method) : await refused(response, id)
      if (!isAnswered) await error(id, -32603, 'the gateway ended the answer before its end')
    } catch (thrown) {
      // A client that cancelled waits for nothing.
      if (!signal.aborted) await error(id, -32603, unreachable(thrown))
    }
  }

  async function notify(line: string, method: string | undefined, params: JsonObject): Promise<void> {
    try {
      const response = await post(line, method, params, closing.signal)
      await response.body?.cancel()
      if (!response.ok) log(`the gateway refused ${method ?? 'an answer'} (${response.status})`)
    } catch (thrown) {
      if (!closing.signal.aborted) log(unreachable(thrown))
    }
  }

  const post = (line: string, method: string | undefined, params: JsonObject, signal: AbortSignal): Promise<Response> =>
    fetch(url, {
      method: 'POST',
      body: line,
      headers: { ...common(), ...headersFor(method, params), 'content-type': 'application/json' },
      redirect: 'error',
      dispatcher: agent,
      signal,
    })

  const common = (): Record<string, string> => ({
    authorization: `Bearer ${credential()}`,
    accept: 'application/json, text/event-stream',
  })

  /** What the transport repeats of a message: by revision 2026-07-28 where the message names it, else by those before. */
  function headersFor(method: string | undefined, params: JsonObject): Record<string, string> {
    const meta = params['_meta']
    const named = isObject(meta) ? meta[versionKey] : undefined
    if (typeof named === 'string' && method !== undefined) {
      const source = nameSource.get(method)
      const name = source === undefined ? undefined : params[source]
      return {
        'mcp-protocol-version': encoded(named),
        'mcp-method': encoded(method),
        ...(typeof name === 'string' ? { 'mcp-name': encoded(name), ...paramHeaders(name, params['arguments']) } : {}),
      }
    }
    return {
      ...(session === undefined ? {} : { 'mcp-session-id': session }),
      ...(version === undefined || method === 'initialize' ? {} : { 'mcp-protocol-version': version }),
    }
  }

  function paramHeaders(tool: string, args: Json | undefined): Record<string, string> {
    const headers: Record<string, string> = {}
    for (const [header, path] of headersOfTool.get(tool) ?? []) {
      const value = path.reduce<Json | undefined>(
        (at, key) => (isObject(at) && Object.hasOwn(at, key) ? at[key] : undefined),
        args,
      )
      if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
        headers[header] = encoded(String(value))
    }
    return headers
  }

  /** Writes every message of an answer. Whether the one for this request was among them. */
  async function relay(response: Response, id: RequestId, method: string): Promise<boolean> {
    isReachable = true
    let isAnswered = false
    const pass = async (text: string): Promise<void> => {
      const message = await passOn(text)
      if (message?.['id'] !== id || message['method'] !== undefined) return
      isAnswered = true
      learn(method, message['result'])
    }
    const type = response.headers.get('content-type') ?? ''
    if (type.startsWith('text/event-stream')) {
      for await (const { data } of readEvents((response.body ?? []) as AsyncIterable<Uint8Array>, longestLine))
        await pass(data)
    } else if (type.startsWith('application/json')) await pass(await bounded(response))
    else await response.body?.cancel()
    return isAnswered
  }

  /** Writes a message of the gateway. Undefined where it is none: nothing else may reach the client. */
  async function passOn(text: string): Promise<JsonObject | undefined> {
    let message: Json
    try {
      message = JSON.parse(text) as Json
    } catch {
      log('the gateway sent something that is no JSON')
      return undefined
    }
    if (!isObject(message)) return undefined
    // JSON has line ends between values only, where a space does as well.
    await write(text.replace(/[\r\n]+/g, ' '))
    return message
  }

  /** What later messages need of an answer: the agreed version, and which arguments become headers. */
  function learn(method: string, result: Json | undefined): void {
    if (!isObject(result)) return
    if (
      method === 'initialize' &&
      typeof result['protocolVersion'] === 'string' &&
      /^[\w.-]{1,40}$/.test(result['protocolVersion'])
    )
      version = result['protocolVersion']
    if (method === 'tools/list' && Array.isArray(result['tools']))
      for (const tool of result['tools'] as readonly Json[]) {
        if (!isObject(tool) || typeof tool['name'] !== 'string') continue
        const headers = declaredHeaders(tool['inputSchema'])
        if (headers.size === 0) headersOfTool.delete(tool['name'])
        else if (headersOfTool.size < 10_000) headersOfTool.set(tool['name'], headers)
      }
  }

  /** Writes the error that an answer without success stands for. */
  async function refused(response: Response, id: RequestId): Promise<true> {
    const text = await bounded(response).catch(() => '')
    const { status } = response
    let given: Json = null
    try {
      given = JSON.parse(text) as Json
    } catch {
      // Some refusals have no body, or one for people.
    }
    if (isObject(given) && isObject(given['error']) && typeof given['error']['code'] === 'number') {
      await write(JSON.stringify({ jsonrpc: '2.0', id, error: given['error'] }))
      return true
    }
    const words: Readonly<Record<number, string>> = {
      401: 'the gateway does not accept this token: it is unknown, or its session is over; whoever started the agent has to give it a new one',
      403: 'the gateway refuses this request',
      404:
        session === undefined
          ? `there is no MCP endpoint at ${url}`
          : 'the session with the gateway is over: connect again',
      413: 'the message is larger than the gateway takes',
      429: 'too many requests: try again later',
    }
    const said = words[status] ?? `the gateway answered with HTTP status ${status}`
    log(said)
    await error(id, -32603, said)
    return true
  }

  async function bounded(response: Response): Promise<string> {
    const decoder = new TextDecoder()
    let [text, bytes] = ['', 0]
    for await (const chunk of response.body ?? []) {
      bytes += (chunk as Uint8Array).length
      if (bytes > longestLine) throw new RangeError('the answer is too long')
      text += decoder.decode(chunk as Uint8Array, { stream: true })
    }
    return text + decoder.decode()
  }

  /** Before 2026-07-28: what the server says by itself comes over a stream of its own, where it has one. */
  function listen(): void {
    if (session === undefined || listening !== undefined) return
    listening = new AbortController()
    const signal = AbortSignal.any([listening.signal, closing.signal])
    void (async () => {
      let [last, wait]: [string | undefined, number] = [undefined, 500]
      while (!signal.aborted) {
        try {
          const response = await fetch(url, {
            headers: {
              ...common(),
              ...headersFor(undefined, {}),
              ...(last === undefined ? {} : { 'last-event-id': last }),
            },
            redirect: 'error',
            dispatcher: agent,
            signal,
          })
          if (!response.ok || response.body === null) {
            await response.body?.cancel()
            // 405: it has none. Anything else will show with the next request.
            if (response.status < 500) return
          } else {
            wait = 500
            for await (const { data, id } of readEvents(response.body, longestLine)) {
              last = id ?? last
              await passOn(data)
            }
          }
        } catch {
          // Tried again; requests tell the client what is wrong.
        }
        await pause(wait, undefined, { signal }).catch(() => {})
        wait = Math.min(30_000, wait * 2)
      }
    })()
  }

  function unreachable(thrown: unknown): string {
    if (thrown instanceof Failure) return thrown.message
    const code = errorCode(thrown instanceof Error ? thrown.cause : undefined)
    const text = `the gateway at ${url} can’t be reached (${code}): is it running?`
    if (isReachable) log(text)
    isReachable = false
    return text
  }

  const error = (id: RequestId | null, code: number, message: string): Promise<void> =>
    write(JSON.stringify({ jsonrpc: '2.0', id, error: { code, message } }))

  async function close(): Promise<void> {
    listening?.abort()
    const open = [...flights.values()].filter(({ isStream }) => !isStream).map(({ done }) => done)
    if (open.length > 0)
      await Promise.race([Promise.all(open), new Promise((resolve) => setTimeout(resolve, lastWait).unref())])
    closing.abort()
    if (session !== undefined)
      await fetch(url, {
        method: 'DELETE',
        headers: { ...common(), ...headersFor(undefined, {}) },
        redirect: 'error',
        dispatcher: agent,
        signal: AbortSignal.timeout(lastWait),
      }).then(
        (response) => response.body?.cancel(),
        () => {},
      )
    await agent.destroy()
  }

  return { take, tooLong: () => error(null, -32600, `a message has at most ${longestLine} bytes`), close }
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isId = (id: Json | undefined): id is RequestId => typeof id === 'string' || typeof id === 'number'

/** A header's value (MCP 2026-07-28, "Header encoding"): as it is, or as Base64 where a header can't carry it. */
const encoded = (text: string): string =>
  /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !text.startsWith('=?base64?')
    ? text
    : `=?base64?${Buffer.from(text).toString('base64')}?=`

/** Deeper than this no argument is declared as a header. */
const deepest = 16

/** The `Mcp-Param-*` headers that a schema declares by `x-mcp-header`, with the path of each argument. */
function declaredHeaders(schema: Json | undefined): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, readonly string[]>()
  function look(at: Json | undefined, path: readonly string[]): void {
    if (!isObject(at) || path.length > deepest) return
    const name = at['x-mcp-header']
    if (typeof name === 'string' && /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/.test(name))
      found.set(`mcp-param-${name.toLowerCase()}`, path)
    const properties = at['properties']
    if (isObject(properties)) for (const [key, value] of Object.entries(properties)) look(value, [...path, key])
  }
  look(schema, [])
  return found
}
