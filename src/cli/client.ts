import type { WireError } from '../control/wire.ts'
import { Failure } from '../core/failure.ts'
import type { FailureCode } from '../core/failure.ts'
import type { Io } from './io.ts'
import { errorCode, targetOf } from './place.ts'
import type { PlaceValues, Target } from './place.ts'

/** The people's side, called. Everything fails with the gateway's own code and words, or `unavailable`. */
export interface Client {
  readonly url: string
  get<T>(path: string): Promise<T>
  post<T>(path: string, body?: object): Promise<T>
  delete<T>(path: string): Promise<T>
  /** Server-sent events from now on, until the signal or the end of the connection. */
  events(path: string, signal: AbortSignal): AsyncGenerator<ServerEvent, void, undefined>
}

export interface ServerEvent {
  readonly event: string
  readonly data: unknown
}

/** How long an answer may take, in milliseconds. */
const patience = 30_000
/** One event of a stream. More is none of ours. In UTF-16 units. */
const longestEvent = 8_000_000

/** A client of the gateway that the options, the environment and the file lead to. */
export const openClient = (values: PlaceValues, io: Pick<Io, 'cwd' | 'env'>): Client =>
  createClient(targetOf(values, io))

export function createClient(target: Target): Client {
  const { url, from, key, keyFrom } = target

  async function request(
    method: string,
    path: string,
    body: object | undefined,
    signal: AbortSignal,
  ): Promise<Response> {
    let response: Response
    try {
      response = await fetch(`${url}${path}`, {
        method,
        redirect: 'error',
        signal,
        headers: {
          authorization: `Bearer ${key}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
    } catch (thrown) {
      throw unreachable(thrown, signal)
    }
    if (response.ok) return response
    throw await refusal(response)
  }

  function unreachable(thrown: unknown, signal: AbortSignal): Failure {
    const cause = { cause: thrown }
    if (signal.aborted && (signal.reason as Error)?.name === 'TimeoutError')
      return new Failure('unavailable', `the gateway at ${url} did not answer within ${patience / 1000} s`, cause)
    const code = errorCode(thrown instanceof Error ? thrown.cause : undefined)
    return new Failure(
      'unavailable',
      code === 'ECONNREFUSED'
        ? `no gateway answers at ${url} (from ${from}): start one with \`sallyport start\`, or give --url`
        : `the gateway at ${url} (from ${from}) can’t be reached (${code})`,
      cause,
    )
  }

  async function refusal(response: Response): Promise<Failure> {
    const answer = (await response.json().catch(() => undefined)) as Partial<WireError> | undefined
    const { code, message } = answer?.error ?? {}
    if (typeof code !== 'string' || typeof message !== 'string')
      return new Failure('unavailable', `what answers at ${url} (from ${from}) is no Sallyport gateway for people`)
    if (code === 'unauthenticated')
      return new Failure(
        'unauthenticated',
        `the gateway at ${url} does not accept the key from ${keyFrom}: it was revoked, expired, or is another gateway’s`,
      )
    return new Failure(code as FailureCode, message)
  }

  async function call<T>(method: string, path: string, body?: object): Promise<T> {
    const signal = AbortSignal.timeout(patience)
    const response = await request(method, path, body, signal)
    try {
      return (await response.json()) as T
    } catch (thrown) {
      throw new Failure('unavailable', `the answer of ${url} broke off or is no JSON`, { cause: thrown })
    }
  }

  return {
    url,
    get: (path) => call('GET', path),
    post: (path, body = {}) => call('POST', path, body),
    delete: (path) => call('DELETE', path),
    async *events(path, signal) {
      const response = await request('GET', path, undefined, signal)
      if (response.body === null) return
      try {
        for await (const { event, data } of readEvents(response.body))
          yield { event, data: JSON.parse(data) as unknown }
      } catch (thrown) {
        if (signal.aborted) return
        throw thrown instanceof Failure
          ? thrown
          : new Failure('unavailable', `the connection to ${url} broke off`, { cause: thrown })
      }
    },
  }
}

export interface TextEvent {
  readonly event: string
  readonly data: string
  readonly id?: string
}

/** Server-sent events of a stream (WHATWG HTML §9.2). Fails with `too_large` for one that does not end. */
export async function* readEvents(
  body: AsyncIterable<Uint8Array>,
  longest: number = longestEvent,
): AsyncGenerator<TextEvent, void, undefined> {
  const decoder = new TextDecoder()
  let rest = ''
  let [event, data, id, size]: [string, string[], string | undefined, number] = ['message', [], undefined, 0]
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    if (rest.length + size > longest) throw new Failure('too_large', `an event is longer than ${longest} characters`)
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event, data: data.join('\n'), ...(id === undefined ? {} : { id }) }
        ;[event, data, size] = ['message', [], 0]
        continue
      }
      const [, field = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
      if (field === 'event') event = value
      else if (field === 'id') id = value
      else if (field === 'data') {
        data.push(value)
        size += value.length
        if (size > longest) throw new Failure('too_large', `an event is longer than ${longest} characters`)
      }
    }
  }
}
