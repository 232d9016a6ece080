import type { ServerResponse } from 'node:http'
import type { Problem } from '../../core/action.ts'
import type { JsonObject } from '../../core/json.ts'
import type { LimitReached, Refusal } from '../../guard/guard.ts'

// What the gateway itself answers: always JSON of one form, so that a program can tell it from the upstream's words.

/** The one answer to whatever is not there, or not for this agent. */
export const notThere = { code: 'not_found', message: 'there is nothing at this address' } as const

/** Answers in place of the upstream. Cuts the connection where an answer has begun already. */
export function say(
  res: ServerResponse,
  status: number,
  error: JsonObject & { readonly code: string },
  headers: Readonly<Record<string, string>> = {},
): void {
  if (res.headersSent || res.destroyed) return void res.destroy()
  const body = Buffer.from(JSON.stringify({ error }))
  // What was not read of a request would be taken for the next one.
  const rest = res.req.complete ? {} : { connection: 'close' }
  res.writeHead(status, {
    'content-type': 'application/json',
    'content-length': body.length,
    'cache-control': 'no-store',
    'sallyport-refused': error.code,
    ...rest,
    ...headers,
  })
  res.end(res.req.method === 'HEAD' ? undefined : body)
}

/** A refusal in the words of HTTP. `status` is for wrong arguments: what exactly is wrong with them. */
export function sayRefused(
  res: ServerResponse,
  { code, because, event, retryAt, approval }: Refusal,
  problems: readonly Problem[],
  status: number,
  now: number,
): void {
  if (code === 'unknown') return say(res, 404, notThere)
  const seconds = retryAt === undefined ? undefined : secondsTo(retryAt, now)
  const error: JsonObject & { readonly code: string } = {
    code,
    message: because,
    event,
    ...(retryAt === undefined ? {} : { retryAt: new Date(retryAt).toISOString() }),
    ...(code === 'invalid_arguments' && problems.length > 0
      ? { problems: problems.map(({ path, message }) => ({ path, message })) }
      : {}),
    ...(approval === undefined
      ? {}
      : {
          approval: {
            id: approval.id,
            expiresAt: new Date(approval.expiresAt).toISOString(),
            ...(approval.edited === undefined ? {} : { arguments: approval.edited }),
          },
        }),
    ...(code === 'approval_pending'
      ? { hint: 'nothing has happened yet: repeat this exact request once a person has agreed' }
      : {}),
  }
  say(res, statusOf(code, status), error, seconds === undefined ? {} : { 'retry-after': String(seconds) })
}

/** A limit was reached while it ran. */
export const sayLimited = (res: ServerResponse, { message, retryAt }: LimitReached, now: number): void =>
  say(
    res,
    429,
    { code: 'limited', message },
    retryAt === undefined ? {} : { 'retry-after': String(secondsTo(retryAt, now)) },
  )

const secondsTo = (at: number, now: number): number => Math.max(1, Math.ceil((at - now) / 1_000))

function statusOf(code: Refusal['code'], status: number): number {
  switch (code) {
    case 'invalid_arguments':
      return status
    case 'limited':
      return 429
    case 'unavailable':
      return 503
    case 'session_over':
      return 401
    default:
      return 403
  }
}
