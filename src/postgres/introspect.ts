import type pg from 'pg'
import type { FactType } from '../core/condition.ts'
import { Failure } from '../core/failure.ts'

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
  /** What people have made to run on changes: triggers that are enabled, but those that keep changes, and rewrite rules. */
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
    and coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), '') not like 'sallyport: %'
  union all
  select w.rulename::text, 'on ' || case w.ev_type when '2' then 'update' when '3' then 'insert' else 'delete' end, 'rule'
  from pg_catalog.pg_rewrite w where w.ev_class = $1::oid and w.ev_type in ('2', '3', '4') and w.ev_enabled <> 'D'
  order by 1
  limit 200`

/**
 * A policy to start from, as text of `sallyport.yaml`, for tables that a person has chosen: `tickets`, `public.tickets`.
 * What it lets be done is little: reading, of columns whose names don't look private, of rows of the session's facts
 * where a column, or a column of a table that it refers to, has the name of one. A person has to read it. Fails with
 * `not_found` where there is no such table.
 */
export async function suggest(
  client: Queries,
  tables: readonly string[],
  facts: Readonly<Record<string, FactType>> = {},
): Promise<string> {
  const seen = new Set<string>()
  const parts: string[] = []
  for (const name of tables) {
    const found = await describe(client, name)
    const plain = plainName(found.table)
    const key = seen.has(plain) ? plainName(`${found.schema}_${found.table}`) : plain
    seen.add(key)
    parts.push(await suggestTable(client, key, found, facts))
  }
  return `tables:\n${parts.join('')}`
}

interface Described {
  readonly schema: string
  readonly table: string
  readonly rows: number
  readonly columns: readonly string[]
  readonly key: readonly string[]
  /** Foreign keys of one column. */
  readonly refers: readonly {
    readonly column: string
    readonly schema: string
    readonly table: string
    readonly to: string
    readonly columns: readonly string[]
  }[]
}

async function describe(client: Queries, name: string): Promise<Described> {
  const parts = name.split('.')
  const [schema, table] = parts.length === 2 ? parts : ['public', name]
  const { rows } = await client.query<Described>(describing, [schema, table])
  if (rows[0] === undefined)
    throw new Failure('not_found', `there is no table \`${name}\`; expected a name such as \`public.tickets\``)
  return rows[0]
}

const columnsOfTable = (table: string): string => `array(select attname::text from pg_catalog.pg_attribute
    where attrelid = ${table} and attnum > 0 and not attisdropped order by attnum)`

const describing = `
  select n.nspname::text as schema, c.relname::text as "table", c.reltuples::float8 as rows, ${columnsOfTable('c.oid')} as columns,
    array(select a.attname::text from pg_catalog.pg_constraint k, unnest(k.conkey) with ordinality u (number, place)
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = u.number
      where k.conrelid = c.oid and k.contype = 'p' order by u.place) as key,
    (select coalesce(json_agg(json_build_object('column', a.attname, 'schema', fn.nspname, 'table', f.relname,
        'to', fa.attname, 'columns', ${columnsOfTable('f.oid')}) order by k.conname), '[]')
      from pg_catalog.pg_constraint k join pg_catalog.pg_class f on f.oid = k.confrelid
      join pg_catalog.pg_namespace fn on fn.oid = f.relnamespace
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.conkey[1]
      join pg_catalog.pg_attribute fa on fa.attrelid = f.oid and fa.attnum = k.confkey[1]
      where k.conrelid = c.oid and k.contype = 'f' and cardinality(k.conkey) = 1 and f.oid <> c.oid) as refers
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f')`

/** Names of columns that are left out, and of those that are shown in part. */
const isPrivate =
  /passw|passphrase|pwd|secret|token|api_?key|private|salt|hash|digest|credential|cookie|otp|mfa|cvv|cvc|\bpin\b|_pin$|ssn|social_sec|passport|tax_?id|national_id|birth|\bdob\b|salary|wage|medical|diagnos|religio|ethnic|encrypted|internal/i
const masks = [
  { name: 'email', of: /e_?mail/i },
  { name: 'last4', of: /phone|mobile|fax|iban|card|account_?n/i },
] as const

async function suggestTable(
  client: Queries,
  name: string,
  described: Described,
  facts: Readonly<Record<string, FactType>>,
): Promise<string> {
  const { schema, table, rows, columns, key } = described
  const left = columns.filter((column) => isPrivate.test(column))
  const shown = columns.filter((column) => !left.includes(column))
  const masked = shown.flatMap((column) => {
    const mask = key.includes(column) ? undefined : masks.find(({ of }) => of.test(column))
    return mask === undefined ? [] : [`${scalar(column)}: ${mask.name}`]
  })
  const where = await guess(client, described, facts)
  const around = await catalogOf(client, { schema, table })
  const follows = around?.cascades.filter(({ on }) => on === 'delete').map((each) => each.table) ?? []
  const lines = [
    ...(rows > 0 ? [`# About ${Math.round(rows)} rows.`] : []),
    ...(schema === 'public' && table === name ? [] : [`table: ${scalar(`${schema}.${table}`)}`]),
    `select: [${shown.map(scalar).join(', ')}]`,
    ...(left.length > 0 ? [`# Left out, because their names look private: ${left.map(scalar).join(', ')}`] : []),
    ...(masked.length > 0 ? [`masks: { ${masked.join(', ')} }`] : []),
    ...(key.length > 0
      ? [`key: [${key.map(scalar).join(', ')}]`]
      : ['# It has no primary key: every UPDATE counts as one of any number of rows.']),
    where === undefined
      ? '# where: every row can be read. Expected a condition over `session.<fact>`, or none on purpose.'
      : `where: ${JSON.stringify(where)}`,
    ...(follows.length > 0
      ? [`# Deleting from it deletes or changes ${[...new Set(follows)].join(', ')} as well.`]
      : []),
    '# insert: []   update: []   delete: false',
  ]
  return `  ${name}:\n${lines.map((line) => `    ${line}\n`).join('')}`
}

/** A condition on a fact of the session, if a column has its name; or a column of a table that this one refers to. */
async function guess(
  client: Queries,
  { table, key, columns, refers }: Described,
  facts: Readonly<Record<string, FactType>>,
): Promise<string | undefined> {
  const factOf = (names: readonly string[]): string | undefined =>
    Object.keys(facts).find((fact) => names.includes(fact))
  // A fact `customer_id` is the `id` of customers, whatever a column is called that refers to it.
  const factOfKey = (of: string, columns_: readonly string[]): string | undefined =>
    Object.keys(facts).find((fact) => columns_.length === 1 && fact === `${of.replace(/s$/, '')}_${columns_[0]}`)
  const holds = (fact: string): string => (facts[fact]?.startsWith('list') ? `any(session.${fact})` : `session.${fact}`)
  // The server knows which names need quotes.
  const written = async (format: string, ...names: readonly string[]): Promise<string> => {
    const { rows } = await client.query<{ text: string }>('select pg_catalog.format($1, variadic $2::text[]) as text', [
      format,
      names,
    ])
    return rows[0]?.text ?? ''
  }
  const own = factOf(columns)
  if (own !== undefined) return (await written('%I = ', own)) + holds(own)
  const itself = factOfKey(table, key)
  if (itself !== undefined) return (await written('%I = ', key[0] ?? '')) + holds(itself)
  for (const { column, schema, table: other, to, columns: there } of refers) {
    const same = factOfKey(other, [to])
    if (same !== undefined) return (await written('%I = ', column)) + holds(same)
    const fact = factOf(there)
    if (fact === undefined) continue
    const inside = await written('%I in (select %I from %I.%I where %I = ', column, to, schema, other, fact)
    return `${inside}${holds(fact)})`
  }
  return undefined
}

const plainName = (name: string): string =>
  name
    .toLowerCase()
    .replaceAll(/[^a-z0-9_]/g, '_')
    .replace(/^(?=\d)/, '_')
    .slice(0, 63)

/** As it stands in YAML: quoted where it could be anything but a plain word. */
const scalar = (text: string): string =>
  /^[A-Za-z_][A-Za-z0-9_.]*$/.test(text) && !/^(?:true|false|null|yes|no|on|off|y|n)$/i.test(text)
    ? text
    : JSON.stringify(text)
