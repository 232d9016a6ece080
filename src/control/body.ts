import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'

/** A body by its schema. Fails with `invalid`, naming each key and what was expected there. */
export function readBody<T>(schema: z.ZodType<T>, body: JsonObject): T {
  const read = schema.safeParse(body)
  if (read.success) return read.data
  throw new Failure(
    'invalid',
    read.error.issues.map(({ path, message }) => `${path.join('.') || 'body'}: ${message}`).join('; '),
  )
}

export const name = z.string().min(1).max(200)
export const reason = z.string().max(2_000).optional()
export const seconds = z
  .number()
  .positive()
  .max(366 * 86_400)
export const facts = z.record(
  z.string(),
  z.union([z.string(), z.number(), z.boolean(), z.array(z.string()), z.array(z.number())]),
)
export const jsonObject = z.record(z.string(), z.json()) as unknown as z.ZodType<JsonObject>

/** A whole number of a query, between 1 and `most`. */
export function count(query: URLSearchParams, key: string, otherwise: number, most: number): number {
  const given = query.get(key)
  if (given === null) return otherwise
  const value = Number(given)
  if (!Number.isInteger(value) || value < 1 || value > most)
    throw new Failure('invalid', `\`${key}\` is a whole number from 1 to ${most}`)
  return value
}
