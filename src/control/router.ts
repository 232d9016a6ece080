import type { IncomingMessage, ServerResponse } from 'node:http'
import { Failure } from '../core/failure.ts'
import type { FailureCode } from '../core/failure.ts'
import { hasRole } from '../core/identity.ts'
import type { Caller, Role } from '../core/identity.ts'
import type { Json, JsonObject } from '../core/json.ts'
import { parseJson } from '../guard/json.ts'

/** One request of an authenticated caller who has the role that the route asks for. */
export interface Request {
  readonly caller: Caller
  /** What `:name` in the path stood for. */
  readonly param: (name: string) => string
  readonly query: URLSearchParams
  readonly body: JsonObject
  /** Aborted when the caller leaves. */
  readonly signal: AbortSignal
  readonly response: ServerResponse
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  /** Who may: people with one of these roles, and services where it says so. */
  readonly roles: readonly Role[]
  readonly services?: true
  /** The answer, as JSON; undefined where the handler wrote to the response itself. */
  readonly handle: (request: Request) => Promise<unknown>
}

export const route = (
  method: Route['method'],
  path: string,
  roles: readonly Role[],
  handle: Route['handle'],
  services?: true,
): Route => ({ method, path, roles, handle, ...(services === undefined ? {} : { services }) })

export const statusOf: Readonly<Record<FailureCode, number>> = {
  invalid: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  limited: 429,
  cancelled: 499,
  unavailable: 503,
  internal: 500,
}

/** How often it is looked whether who reads a stream still may, in milliseconds. */
const recheck = 2_000

const limits = { maxBytes: 1_048_576, maxDepth: 64 }

/** Answers a request by the first route that fits. Fails with the code of what is wrong. */
export async function dispatch(
  routes: readonly Route[],
  authenticate: (request: IncomingMessage) => Promise<Caller>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = URL.parse(request.url ?? '/', 'http://people')
  if (url === null) throw new Failure('invalid', 'the address can’t be read')
  // Who is asking comes first: nobody learns from outside what exists here.
  const caller = await authenticate(request)
  const fitting = routes.flatMap((candidate) => {
    const params = match(candidate.path, url.pathname)
    return params === undefined ? [] : [{ candidate, params }]
  })
  const found = fitting.find(({ candidate }) => candidate.method === request.method)
  if (found === undefined)
    throw new Failure(
      'not_found',
      fitting.length === 0 ? `there is nothing at ${url.pathname}` : `${url.pathname} takes no ${request.method}`,
    )
  const { candidate, params } = found
  if (!mayUse(caller, candidate)) throw new Failure('forbidden', `this needs the role ${candidate.roles.join(' or ')}`)

  // Who left while it was looked up who they are is not told of leaving again: nothing would ever stop for them.
  if (response.closed) throw new Failure('cancelled', 'the caller left')
  const leave = new AbortController()
  // A stream may go on for days: it ends when its key is revoked, or the person loses the role.
  const looking = setInterval(() => {
    authenticate(request).then(
      (now) => mayUse(now, candidate) || response.destroy(),
      () => response.destroy(),
    )
  }, recheck).unref()
  response.once('close', () => {
    clearInterval(looking)
    leave.abort()
  })
  const body = request.method === 'POST' ? await readBody(request) : {}
  const answer = await candidate.handle({
    caller,
    param: (name) => params[name] ?? '',
    query: url.searchParams,
    body,
    signal: leave.signal,
    response,
  })
  if (answer !== undefined) send(response, 200, answer)
}

const mayUse = (caller: Caller, { roles, services }: Route): boolean =>
  hasRole(caller, ...roles) || (services === true && caller.kind === 'service')

export function send(response: ServerResponse, status: number, value: unknown): void {
  if (response.headersSent) return void response.destroy()
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': body.length,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  response.end(body)
}

/** Sends values as they come, as server-sent events, until the caller leaves. A slow reader holds nobody else up. */
export function sendEvents(response: ServerResponse): (event: string, value: unknown) => void {
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  response.flushHeaders()
  const beat = setInterval(() => response.write(': still here\n\n'), 15_000)
  response.once('close', () => clearInterval(beat))
  return (event, value) => {
    // Who does not read is cut off rather than kept in memory: it can connect again and look.
    if (response.writableLength > limits.maxBytes) return void response.destroy()
    response.write(`event: ${event}\ndata: ${JSON.stringify(value)}\n\n`)
  }
}

function match(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split('/')
  const given = path.split('/')
  if (wanted.length !== given.length) return undefined
  const params: Record<string, string> = {}
  for (const [position, part] of wanted.entries()) {
    const value = given[position] ?? ''
    if (part.startsWith(':') && value !== '') {
      try {
        params[part.slice(1)] = decodeURIComponent(value)
      } catch {
        return undefined
      }
    } else if (part !== value) return undefined
  }
  return params
}

async function readBody(request: IncomingMessage): Promise<JsonObject> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > limits.maxBytes) throw new Failure('too_large', `a body has at most ${limits.maxBytes} bytes here`)
    chunks.push(chunk)
  }
  if (length === 0) return {}
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? ''))
    throw new Failure('invalid', 'expected a body with `content-type: application/json`')
  const body: Json = parseJson(Buffer.concat(chunks), limits)
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    throw new Failure('invalid', 'expected a JSON object')
  return body as JsonObject
}
