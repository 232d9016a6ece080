import { Failure } from '../core/failure.ts'
import type { Queries } from './introspect.ts'

const most = 100

/**
 * Tables and views of a database as `schema.name`, without those of the system, of extensions, and of ours. Fails with
 * `too_large` where there are more than a hundred, `not_found` where there are none.
 */
export async function listTables(client: Queries): Promise<readonly string[]> {
  const { rows } = await client.query<{ name: string }>(
    `select n.nspname || '.' || c.relname as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
      and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
      and coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), '') not like 'sallyport: %'
      and n.nspname not like '%.%' and c.relname not like '%.%'
      and not exists (select from pg_catalog.pg_depend e
        where e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and e.objid = c.oid and e.deptype = 'e')
    order by n.nspname <> 'public', n.nspname, c.relname
    limit ${most + 1}`,
  )
  if (rows.length > most)
    throw new Failure('too_large', `there are more than ${most} tables: name those that agents are to be let near`)
  if (rows.length === 0) throw new Failure('not_found', 'there are no tables')
  return rows.map(({ name }) => name)
}
