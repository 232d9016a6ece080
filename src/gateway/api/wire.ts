import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import { parseJson } from '../../guard/json.ts'
import type { JsonLimits } from '../../guard/json.ts'

// How bodies are read and answers are written: JSON, strictly.

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export const jsonObject = z.custom<JsonObject>(isObject, 'expected an object')

/** A request that can't be answered, with its status. */
export class HttpRefusal extends Error {
  readonly status: number
  readonly code: string

  constructor(status: number, code: string, message: string) {
    super(message)
    this.status = status
    this.code = code
  }

  static from(thrown: unknown): HttpRefusal {
    if (thrown instanceof HttpRefusal) return thrown
    const { code, message } = Failure.from(thrown)
    return new HttpRefusal(statuses[code] ?? 500, code, message)
  }
}

const statuses: Readonly<Partial<Record<Failure['code'], number>>> = {
  invalid: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  limited: 429,
  unavailable: 503,
  cancelled: 409,
}

/** Fails with an `HttpRefusal`: of `wrongType` where it is no JSON, 413 where it is too large, else 400. */
export async function readJson(req: IncomingMessage, limits: JsonLimits, wrongType = 415): Promise<JsonObject> {
  const type = (req.headers['content-type'] ?? '').replace(/;.*$/s, '').trim().toLowerCase()
  if (type !== 'application/json')
    throw new HttpRefusal(wrongType, 'invalid', '`Content-Type` has to be application/json')
  const encoding = req.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity')
    throw new HttpRefusal(wrongType, 'invalid', 'the body has to be sent as it is, without `Content-Encoding`')
  const body = parseJson(await readBody(req, limits.maxBytes), limits)
  if (!isObject(body)) throw new HttpRefusal(400, 'invalid', 'the body has to be an object')
  return body
}

async function readBody(req: IncomingMessage, most: number): Promise<Buffer> {
  const tooLarge = (): Failure => new Failure('too_large', `the body is larger than ${most} bytes`)
  if (Number(req.headers['content-length'] ?? 0) > most) throw tooLarge()
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of req.iterator({ destroyOnReturn: false })) {
      bytes += (chunk as Buffer).length
      if (bytes > most) throw tooLarge()
      chunks.push(chunk as Buffer)
    }
  } catch (thrown) {
    throw thrown instanceof Failure ? thrown : new Failure('cancelled', 'the request was cut off')
  }
  return Buffer.concat(chunks)
}

/** A body by its schema. Fails with `invalid`, naming each key and what was expected there. */
export function shaped<T>(schema: z.ZodType<T>, body: JsonObject): T {
  const read = schema.safeParse(body)
  if (read.success) return read.data
  throw new Failure(
    'invalid',
    read.error.issues
      .map(({ path, message }) => `${path.join('.') || 'body'}: ${message}`)
      .join('; ')
      .slice(0, 1_000),
  )
}

export function answer(res: ServerResponse, status: number, body: Json): void {
  if (res.headersSent || res.destroyed) return
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(body))
}

export const refuse = (req: IncomingMessage, res: ServerResponse, { status, code, message }: HttpRefusal): void => {
  // What was not read of a body would be taken for the next request.
  if (!req.complete && !res.headersSent) res.setHeader('connection', 'close')
  answer(res, status, { error: code, error_description: message })
}
