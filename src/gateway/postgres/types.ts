import type { Pool } from './pool.ts'
import type { PostgresResource } from './resource.ts'

/** Types of the columns that views have, by view and column. */
export type Types = ReadonlyMap<string, ReadonlyMap<string, string>>

/** Milliseconds after which they are looked up again: a database may be set up anew meanwhile. */
const staleAfter = 30_000

const typesOf = `
  select c.relname::text as view, a.attname::text as column, pg_catalog.format_type(a.atttypid, a.atttypmod) as type
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  where n.nspname = $1 and c.relkind = 'v'
  order by c.relname, a.attnum`

/**
 * Looks up the types of columns, over a connection of the session: which columns it may know of is for the caller to
 * say. Nothing where the database can't be asked.
 */
export function createTypes({ names }: PostgresResource, pool: Pool): (session: string) => Promise<Types> {
  let known: { readonly types: Types; readonly at: number } | undefined

  return async (session) => {
    if (known !== undefined && performance.now() - known.at < staleAfter) return known.types
    try {
      const rows = await pool.use(session, (backend) =>
        backend.ask<{ view: string; column: string; type: string }>(typesOf, [names.policy]),
      )
      const types = new Map<string, Map<string, string>>()
      for (const { view, column, type } of rows)
        types.set(view, (types.get(view) ?? new Map<string, string>()).set(column, type))
      known = { types, at: performance.now() }
      return types
    } catch {
      return new Map()
    }
  }
}
