import type { Json, JsonObject } from '../../core/json.ts'
import type { Statement } from '../../postgres/verdict.ts'
import type { Pool } from './pool.ts'
import type { PostgresResource } from './resource.ts'

/** A statement that people are asked about. */
export interface Asked {
  readonly statement: Statement
  readonly text: string
  readonly parameters: readonly Json[]
}

/**
 * What a statement would do, for the people who are asked: `rows` that it would touch, a `sample` of them, what else
 * would change along (`cascades`, `triggers`), and whether it can be taken back.
 */
export type Impact = (session: string, asked: Asked, cut: AbortSignal) => Promise<JsonObject>

export function createImpact(_resource: PostgresResource, _pool: Pool): Impact {
  return async () => ({})
}
