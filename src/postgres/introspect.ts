import type pg from 'pg'

/** Where statements are sent: a connection, or one that is borrowed. */
export type Queries = Pick<pg.ClientBase, 'query'>

/** What else happens when rows of a table change, and about how many there are. */
export interface Around {
  /**
   * Rows elsewhere that go or change along, by foreign keys: those of this table and, for deletions, those of every
   * table that is reached from it.
   */
  readonly cascades: readonly {
    /** Schema and name. */
    readonly table: string
    /** Columns, separated by `, `. */
    readonly column: string
    readonly on: 'delete' | 'update'
    readonly does: 'cascade' | 'set null' | 'set default'
  }[]
  /** What people have made to run on changes: triggers that are enabled, and rewrite rules. */
  readonly triggers: readonly { readonly name: string; readonly timing: string; readonly function: string }[]
  /** As the planner believes; absent where nobody has ever counted. */
  readonly rows?: number
}

/** Reads from the catalogs, which every role can. Undefined where there is no such table. */
export async function catalogOf(
  client: Queries,
  { schema, table }: { readonly schema: string; readonly table: string },
): Promise<Around | undefined> {
  const found = await client.query<{ oid: string; rows: number }>(
    `select c.oid::text as oid, c.reltuples::float8 as rows from pg_catalog.pg_class c
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'v', 'f')`,
    [schema, table],
  )
  const [first] = found.rows
  if (first === undefined) return undefined
  const cascades = await client.query<Around['cascades'][number]>(cascadesOf, [first.oid])
  const triggers = await client.query<Around['triggers'][number]>(triggersOf, [first.oid])
  return {
    cascades: cascades.rows,
    triggers: triggers.rows,
    ...(first.rows > 0 ? { rows: Math.round(first.rows) } : {}),
  }
}

// Foreign keys of a partitioned table stand in the catalog once more for each partition: those have a parent.
const cascadesOf = `
  with recursive reached (oid, steps) as (
    select $1::oid, 0
    union
    select k.conrelid, r.steps + 1 from reached r join pg_catalog.pg_constraint k on k.confrelid = r.oid
    where k.contype = 'f' and k.confdeltype = 'c' and r.steps < 16
  ), keys as (
    select k.conrelid, k.conkey, k.oid, 'delete' as "on", k.confdeltype as how from pg_catalog.pg_constraint k
    where k.contype = 'f' and k.conparentid = 0 and k.confdeltype in ('c', 'n', 'd')
      and k.confrelid in (select oid from reached)
    union all
    select k.conrelid, k.conkey, k.oid, 'update', k.confupdtype from pg_catalog.pg_constraint k
    where k.contype = 'f' and k.conparentid = 0 and k.confupdtype in ('c', 'n', 'd') and k.confrelid = $1::oid
  )
  select n.nspname || '.' || c.relname as "table",
    (select string_agg(a.attname, ', ' order by u.place) from unnest(keys.conkey) with ordinality u (number, place)
     join pg_catalog.pg_attribute a on a.attrelid = keys.conrelid and a.attnum = u.number) as "column",
    keys."on",
    case keys.how when 'c' then 'cascade' when 'n' then 'set null' else 'set default' end as does
  from keys join pg_catalog.pg_class c on c.oid = keys.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  order by keys."on", n.nspname, c.relname, keys.oid
  limit 200`

// Bits of tgtype: 2 before, 64 instead; 4 insert, 8 delete, 16 update, 32 truncate; 1 for each row.
const triggersOf = `
  select t.tgname::text as name,
    case when t.tgtype & 2 > 0 then 'before ' when t.tgtype & 64 > 0 then 'instead of ' else 'after ' end ||
    concat_ws(' or ', case when t.tgtype & 4 > 0 then 'insert' end, case when t.tgtype & 16 > 0 then 'update' end,
      case when t.tgtype & 8 > 0 then 'delete' end, case when t.tgtype & 32 > 0 then 'truncate' end) as timing,
    n.nspname || '.' || p.proname as function
  from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where t.tgrelid = $1::oid and not t.tgisinternal and t.tgenabled <> 'D'
  union all
  select w.rulename::text, 'on ' || case w.ev_type when '2' then 'update' when '3' then 'insert' else 'delete' end, 'rule'
  from pg_catalog.pg_rewrite w where w.ev_class = $1::oid and w.ev_type in ('2', '3', '4') and w.ev_enabled <> 'D'
  order by 1
  limit 200`
