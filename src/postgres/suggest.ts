import { Failure } from '../core/failure.ts'
import type { Queries } from './introspect.ts'

// A beginning for the description of a database, from its catalogs alone: no row is read. What it suggests can only be
// read; what looks like a credential is left out, what looks like a person's data is masked.

export interface Suggested {
  /** A piece of `sallyport.yaml`. */
  readonly yaml: string
  /** Schema and name of each table in it. */
  readonly tables: readonly string[]
}

/** Tables that are suggested at once. */
const most = 100

interface Found {
  readonly schema: string
  readonly table: string
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly key: readonly string[]
  /** Columns that refer to another table, with its name. */
  readonly refers: readonly { readonly column: string; readonly table: string }[]
}

/**
 * @param names - `tickets`, `sales.orders`; none: every table that is not the system's.
 * Fails with `not_found` for a table that is not there, `too_large` where there are more than a hundred.
 */
export async function suggest(client: Queries, alias: string, names: readonly string[]): Promise<Suggested> {
  const { rows } = await client.query<Found>(tablesOf, [
    names.length > 0,
    names.map((name) => (name.includes('.') ? name.slice(0, name.indexOf('.')) : 'public')),
    names.map((name) => name.slice(name.indexOf('.') + 1)),
    most + 1,
  ])
  if (rows.length > most)
    throw new Failure('too_large', `there are more than ${most} tables: name those that agents are to be let near`)
  const missing = names.find((name) => !rows.some((found) => nameOf(found) === name || wholeName(found) === name))
  if (missing !== undefined)
    throw new Failure(
      'not_found',
      `there is no table \`${missing}\`; a table outside of the schema \`public\` is named with its schema`,
    )
  if (rows.length === 0) throw new Failure('not_found', 'there are no tables')
  const used = new Set<string>()
  const blocks = rows.map((found) => blockOf(found, used))
  const yaml = [
    '# A beginning: everything here can be read, and nothing can be written. Look at each line, take out what agents do not',
    '# need, and say with `where` which rows there are for a session. Columns were chosen by their names alone.',
    'resources:',
    `  ${scalar(alias)}:`,
    '    tables:',
    ...blocks.flat(),
  ]
  return { yaml: `${yaml.join('\n')}\n`, tables: rows.map(wholeName) }
}

const wholeName = ({ schema, table }: Found): string => `${schema}.${table}`
const nameOf = (found: Found): string => (found.schema === 'public' ? found.table : wholeName(found))

function blockOf(found: Found, used: Set<string>): readonly string[] {
  const { columns, key, refers } = found
  const name = plainName(found.table, used)
  const isOut = (column: string): boolean => credential.test(spelled(column)) || !isNameable(column)
  const kept = columns.filter((column) => !isOut(column.name) && column.type !== 'bytea')
  if (kept.length === 0) return [`      # ${comment(wholeName(found))}: no column is suggested`]
  const left = columns.filter((column) => !kept.includes(column)).map((column) => column.name)
  const masks = kept.flatMap((column) => {
    const mask = maskFor(column.name)
    return mask === undefined || key.includes(column.name) ? [] : [`${scalar(column.name)}: ${mask}`]
  })
  const keyIsKept = key.length > 0 && key.every((column) => kept.some((each) => each.name === column))
  const owner = ownerOf(kept, refers)
  return [
    `      ${name}:`,
    ...(found.schema === 'public' && found.table === name ? [] : [`        table: ${scalar(wholeName(found))}`]),
    ...flow(
      'select',
      kept.map((column) => scalar(column.name)),
      '[]',
    ),
    ...(keyIsKept ? flow('key', key.map(scalar), '[]') : []),
    ...(masks.length > 0 ? flow('masks', masks, '{}') : []),
    ...(owner === undefined
      ? []
      : [
          `        # where: ${comment(sqlName(owner.name))} = session.${factOf(owner.name)}   # with \`facts: { ${factOf(owner.name)}: ${factType(owner.type)} }\``,
        ]),
    ...(left.length > 0 ? [`        # left out: ${left.map(comment).join(', ')}`] : []),
  ]
}

/** A list or mapping on one line, or on several where it is long. */
function flow(key: string, items: readonly string[], [open = '', close = '']: string): readonly string[] {
  const [before, after] = open === '{' ? ['{ ', ' }'] : [open, close]
  const line = `        ${key}: ${before}${items.join(', ')}${after}`
  if (line.length <= 110) return [line]
  return [`        ${key}:`, ...items.map((item) => `          ${open === '{' ? '' : '- '}${item}`)]
}

const credential =
  /(?:^|_)(?:pass(?:word|wd|phrase)?|pwd|secrets?|tokens?|(?:api_?|private_|secret_|access_|ssh_)keys?|apikeys?|salt|hash(?:ed)?|digest|credentials?|otp|totp|mfa|pin|cvv|cvc|cookies?|signature)(?:_|$)/
const masked: readonly (readonly [RegExp, string])[] = [
  [/(?:^|_)e_?mails?(?:_|$)/, 'email'],
  [/(?:^|_)(?:phone|telephone|tel|mobile|fax|iban|card|account_?(?:no|number))(?:_|$)/, 'last4'],
  [/(?:^|_)(?:ssn|social_security|tax_id|vat_id|passport|national_id|license_no|ip|ip_address)(?:_|$)/, 'hash'],
  [/(?:^|_)(?:dob|birth(?:day|date)?|date_of_birth|gender|religion|salary|wage)(?:_|$)/, "'null'"],
]

/** As words are told apart in it: `apiKey` is `api_key`. */
const spelled = (name: string): string =>
  name
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replaceAll(/[^A-Za-z0-9]+/g, '_')
    .toLowerCase()

const maskFor = (name: string): string | undefined => masked.find(([pattern]) => pattern.test(spelled(name)))?.[1]

/** The column that tells whose a row is. */
function ownerOf(columns: Found['columns'], refers: Found['refers']): Found['columns'][number] | undefined {
  const people =
    /^(?:customers?|users?|accounts?|tenants?|org(?:anization|anisation)?s?|clients?|members?|compan(?:y|ies))$/
  return columns.find(({ name }) => {
    const referred = refers.find(({ column }) => column === name)
    return referred === undefined
      ? people.test(spelled(name).replace(/_id$/, '')) && spelled(name).endsWith('_id')
      : people.test(spelled(referred.table))
  })
}

const factOf = (column: string): string => spelled(column).replace(/^(\d)/, '_$1')
const factType = (type: string): string => (/^(?:smallint|integer|bigint)$/.test(type) ? 'int' : 'string')

/** What configuration can name: no quotes, nothing that can't be seen. */
// eslint-disable-next-line no-control-regex -- Control characters are what is looked for.
const isNameable = (name: string): boolean => /^[^\0-\x1f\x7f"]{1,63}$/.test(name)

/** A name that permissions can use, and that no other table has. */
function plainName(table: string, used: Set<string>): string {
  const plain = spelled(table)
    .replace(/^(\d|$)/, '_$1')
    .slice(0, 60)
  let name = plain
  for (let number = 2; used.has(name); number++) name = `${plain}_${number}`
  used.add(name)
  return name
}

/** As YAML and JSON both read it. */
const scalar = (text: string): string =>
  /^[A-Za-z_][A-Za-z0-9_.]*$/.test(text) && !/^(?:true|false|null|yes|no|on|off|y|n)$/i.test(text)
    ? text
    : JSON.stringify(text)

const sqlName = (name: string): string => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name}"`)

/** Text that can't end a comment. */
const comment = (text: string): string => (isNameable(text.replaceAll('"', '')) ? text : JSON.stringify(text))

const tablesOf = `
  select n.nspname::text as schema, c.relname::text as "table",
    coalesce((select json_agg(json_build_object('name', a.attname, 'type', pg_catalog.format_type(a.atttypid, null))
        order by a.attnum)
      from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]') as columns,
    coalesce((select json_agg(a.attname order by k.place) from pg_catalog.pg_index i,
        unnest(i.indkey::int2[]) with ordinality k (number, place), pg_catalog.pg_attribute a
      where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid and a.attnum = k.number), '[]') as key,
    coalesce((select json_agg(json_build_object('column', a.attname, 'table', o.relname))
      from pg_catalog.pg_constraint f join pg_catalog.pg_class o on o.oid = f.confrelid
      join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = f.conkey[1]
      where f.conrelid = c.oid and f.contype = 'f' and cardinality(f.conkey) = 1), '[]') as refers
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_%'
    and coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), '') not like 'sallyport: %'
    and not exists (select from pg_catalog.pg_depend e
      where e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and e.objid = c.oid and e.deptype = 'e')
    and (not $1::boolean or (n.nspname, c.relname) in (select * from unnest($2::text[], $3::text[])))
  order by n.nspname <> 'public', n.nspname, c.relname
  limit $4::int`
