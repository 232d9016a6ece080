import { z } from 'zod'
import type { FactType } from '../core/condition.ts'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'
import type { Label } from '../core/label.ts'
import { covers } from '../core/permission.ts'
import type { Pattern, Permission } from '../core/permission.ts'
import type { Mode } from '../core/policy.ts'
import { compileSchema } from '../guard/schema.ts'
import { verbs } from '../postgres/description.ts'
import type { Database, Mask, Table, Verb } from '../postgres/description.ts'
import { duration, named, readers, size, textRead, toolName, trust } from './forms.ts'
import { limitsOfCalls } from './limits.ts'
import { parseTemplate } from './reference.ts'

// Resources of kind `postgres`: a database, and what of it agents may know.

const plainName = /^[a-z_][a-z0-9_]{0,62}$/
const tableName = named(plainName, 'at most 63 small letters, digits and `_`, not beginning with a digit')
/** Any name that a column can have, save those that could be read as something else. */
const columnName = z.string().regex(/^[^\p{Cc}"]{1,63}$/u, 'expected the name of a column, without quotes')
const columns = z.array(columnName).max(1600)
const factOrSql = z.string().min(1).max(10_000)

function parseBase(text: string): { readonly schema?: string; readonly table: string } {
  const parts = text.split('.')
  const [first = '', second] = parts
  if (parts.length > 2 || parts.some((part) => !/^[^\p{Cc}"]{1,63}$/u.test(part)))
    throw new Failure('invalid', 'expected the name of a table, such as `public.tickets`, without quotes')
  return second === undefined ? { table: first } : { schema: first, table: second }
}

const mask = z
  .union(
    [
      z.enum(['hash', 'last4', 'email', 'null']),
      z.strictObject({ sql: factOrSql.describe('An expression over the columns of the row.') }),
    ],
    { error: 'expected `hash`, `last4`, `email`, `null`, or `{ sql }`' },
  )
  .describe(
    'How a column is shown: `hash` the same digest for the same value, `last4` its last four characters, `email` its first letter and the domain, `null` not at all, or an expression.',
  )

const asksOver = z
  .union([z.literal(true), z.int().min(0).max(1_000_000_000)], { error: 'expected `true`, or a number of rows' })
  .describe('`true`: people are asked each time. A number: they are asked where more rows than that are touched.')

const table = z.strictObject({
  table: textRead(parseBase)
    .describe('The table itself, such as `public.tickets`, where it is not the name here in `schema`.')
    .optional(),
  select: columns.describe('Columns that can be read.').prefault([]),
  masks: z.record(columnName, mask).describe('How columns are shown that are not shown as they are.').prefault({}),
  insert: columns.describe('Columns that can be given in an `INSERT`.').prefault([]),
  update: columns.describe('Columns that can be changed.').prefault([]),
  delete: z.boolean().default(false).describe('Whether rows can be deleted.'),
  key: columns
    .max(32)
    .describe(
      'Columns that name one row. A change whose condition holds all of them to values is `write`; any other `UPDATE` is `destroy`.',
    )
    .prefault([]),
  where: factOrSql
    .describe('Which rows there are for a session: a condition of SQL in which `session.<name>` is a fact of it.')
    .optional(),
  rows: z.int().min(1).max(1_000_000).describe('How many rows a statement that reads it returns at most.').optional(),
  ask: z
    .strictObject({ insert: asksOver.optional(), update: asksOver.optional(), delete: asksOver.optional() })
    .describe('When people are asked, beside what rules say.')
    .prefault({}),
  undo: z
    .boolean()
    .default(false)
    .describe(
      'Whether rows that agents change in it are kept as they were, for `sallyport db undo`. It needs a primary key.',
    ),
  trust: trust.optional(),
  readers: readers.optional(),
})

const longestKept = 3_650 * 86_400_000

const undo = z
  .strictObject({
    keep: duration
      .refine((kept) => kept >= 3_600_000 && kept <= longestKept, 'expected an hour to ten years')
      .prefault('30 days')
      .describe('How long rows are kept as they were.'),
    rows: z
      .int()
      .min(1)
      .max(100_000)
      .default(1000)
      .describe(
        'How many changed rows of one transaction are kept. A transaction of an agent that changes more fails.',
      ),
  })
  .describe('What is kept of tables with `undo`.')
  .prefault({})

const jsonSchema = (z.record(z.string(), z.unknown()) as unknown as z.ZodType<JsonObject, JsonObject>).superRefine(
  (schema, context) => {
    try {
      compileSchema(schema)
    } catch (thrown) {
      context.addIssue({ code: 'custom', message: Failure.from(thrown).message })
    }
  },
)

const tool = z.strictObject({
  sql: z
    .string()
    .min(1)
    .max(64_000)
    .describe('One statement over the tables above. `$1`, `$2`, … are its arguments, in their order here.'),
  description: z.string().max(4000).describe('What agents are told of it.').optional(),
  arguments: z
    .record(named(plainName, 'at most 63 small letters, digits and `_`'), jsonSchema)
    .describe('JSON Schema of each argument, in the order of `$1`, `$2`, …')
    .prefault({}),
  optional: z.array(z.string()).max(100).describe('Arguments that may be left out: they are `null` then.').prefault([]),
  rows: z.int().min(1).max(1_000_000).describe('How many rows it returns at most.').optional(),
  trust: trust.optional(),
  readers: readers.optional(),
})

export const postgresResource = z
  .strictObject({
    postgres: textRead(parseTemplate).describe(
      'Its address: `postgres://sallyport@db.example.com/desk`. The user is the gateway’s own role, which `sallyport db apply` makes. May hold `${secret:NAME}` and the like. Or `pglite:<folder>`, relative to this file: an embedded database for a first look, which sets itself up and is no boundary against a faulty check of statements.',
    ),
    password: textRead(parseTemplate)
      .describe('The password of that role, where the address does not hold it: `${secret:NAME}`.')
      .optional(),
    tls: z
      .enum(['verify', 'off'])
      .describe('`verify`: encrypted, with a certificate that is checked. `off` only by default on this machine.')
      .optional(),
    ca: z
      .string()
      .min(1)
      .describe('A file of certificates (PEM) that sign that of the server, relative to this file.')
      .optional(),
    init: z
      .string()
      .min(1)
      .describe('Of an embedded database: a file of SQL, relative to this file, that is run once in an empty one.')
      .optional(),
    schema: z
      .string()
      .regex(/^[^\p{Cc}".]{1,63}$/u, 'expected the name of a schema, without quotes')
      .default('public')
      .describe('The schema of tables that are named without one.'),
    tables: z
      .record(tableName, table)
      .describe('Tables by the name that permissions and statements use. What is not here does not exist.'),
    tools: z
      .record(toolName, tool)
      .describe('Statements that agents can call as tools, by name, without writing SQL.')
      .prefault({}),
    callable: z
      .array(z.string().regex(/^(?:[a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,62}$/, 'expected the name of a function'))
      .max(1000)
      .describe('Functions that statements may call beside those that are known to be harmless. You answer for them.')
      .prefault([]),
    catalog: z
      .enum(['names', 'none'])
      .default('names')
      .describe(
        '`names`: programs can read names and types of what their session may see from the catalogs. `none`: nothing.',
      ),
    rows: z.int().min(1).max(1_000_000).default(1000).describe('How many rows a statement returns at most.'),
    result: size.prefault('1 MB').describe('How large a result may be.'),
    time: duration.prefault('10 s').describe('How long a statement may take.'),
    statement: size.prefault('64 kB').describe('How long the text of a statement may be.'),
    connections: z
      .int()
      .min(1)
      .max(1000)
      .default(20)
      .describe('Connections of one agent to the database at one moment.'),
    undo,
    trust: trust.default('untrusted'),
    readers: readers.default('internal'),
    limits: limitsOfCalls,
  })
  .superRefine((given, context) => {
    for (const [name, each] of Object.entries(given.tables)) {
      const complain = (key: string, message: string): void =>
        context.addIssue({ code: 'custom', path: ['tables', name, key], message })
      for (const key of ['select', 'insert', 'update', 'key'] as const)
        if (new Set(each[key]).size < each[key].length) complain(key, 'a column stands here twice')
      for (const column of Object.keys(each.masks)) {
        if (!each.select.includes(column))
          complain('masks', `\`${column}\` is not in \`select\`: only what can be read is masked`)
        if (each.insert.includes(column) || each.update.includes(column))
          complain('masks', `\`${column}\` is masked, so it can't be written as well`)
      }
      if (each.select.length + each.insert.length + each.update.length === 0 && !each.delete)
        context.addIssue({
          code: 'custom',
          path: ['tables', name],
          message: 'nothing can be done to it: expected `select`, `insert`, `update` or `delete`',
        })
      if ((each.update.length > 0 || each.delete) && each.key.some((column) => !each.select.includes(column)))
        complain('key', 'expected columns of `select`: else no condition can name a row')
    }
    for (const [name, { arguments: args, optional }] of Object.entries(given.tools))
      for (const [position, each] of optional.entries())
        if (!Object.hasOwn(args, each))
          context.addIssue({
            code: 'custom',
            path: ['tools', name, 'optional', position],
            message: `\`${each}\` is not in \`arguments\``,
          })
  })

export type PostgresResourceSettings = z.output<typeof postgresResource>

/** The folder of an embedded database, where the address is one. */
export const embeddedFolder = ({ postgres }: Pick<PostgresResourceSettings, 'postgres'>): string | undefined =>
  /^pglite:(.+)$/.exec(postgres.every((part) => typeof part === 'string') ? postgres.join('') : '')?.[1]

/** What is wrong with an address, in words that do not show it; it may hold a password. */
export function addressProblem(text: string): string | undefined {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'postgres:' && url.protocol !== 'postgresql:'))
    return 'expected an address such as `postgres://sallyport@db.example.com:5432/desk`'
  if (url.hostname === '') return 'expected a host in it'
  if (url.username === '') return 'expected the role of the gateway in it: `postgres://sallyport@…`'
  if (!/^\/[^/]{1,200}$/.test(url.pathname)) return 'expected the name of one database at its end'
  if (url.search !== '' || url.hash !== '')
    return 'expected nothing behind the name of the database: `tls` and `ca` are keys'
  return undefined
}

/** The database as its gateway takes it. */
export function databaseOf(
  alias: string,
  settings: PostgresResourceSettings,
  facts: Readonly<Record<string, FactType>>,
): Database {
  const { schema, callable, catalog, rows, result, time, statement } = settings
  const tables = Object.entries(settings.tables).map(([name, given]): [string, Table] => {
    const { table: base, select, masks, insert, update, delete: canDelete, key, where, rows: most, ask } = given
    const maskOf = (column: string): Mask => (Object.hasOwn(masks, column) ? masks[column] : undefined) ?? 'none'
    return [
      name,
      {
        name,
        base: { schema: base?.schema ?? schema, table: base?.table ?? name },
        select: new Map(select.map((column) => [column, maskOf(column)])),
        insert,
        update,
        delete: canDelete,
        key,
        ...(where === undefined ? {} : { where: { source: where } }),
        ...(most === undefined ? {} : { rows: most }),
        ask: {
          ...(ask.insert === undefined ? {} : { insert: ask.insert }),
          ...(ask.update === undefined ? {} : { update: ask.update }),
          ...(ask.delete === undefined ? {} : { delete: ask.delete }),
        },
        ...(given.undo ? { undo: true } : {}),
        label: labelOf(given, settings),
      },
    ]
  })
  return {
    alias,
    tables: new Map(tables),
    facts,
    functions: callable,
    catalog,
    most: { rows, bytes: result, time, statement },
    undo: settings.undo,
  }
}

const labelOf = (
  {
    trust: by,
    readers: to,
  }: { readonly trust?: Label['trust'] | undefined; readonly readers?: Label['readers'] | undefined },
  settings: PostgresResourceSettings,
): Label => ({ trust: by ?? settings.trust, readers: to ?? settings.readers })

/** What the configuration lets be done to a table. */
export const verbsOf = ({
  select,
  insert,
  update,
  delete: canDelete,
}: PostgresResourceSettings['tables'][string]): readonly Verb[] =>
  verbs.filter((verb) => (verb === 'delete' ? canDelete : { select, insert, update }[verb].length > 0))

/** JSON Schema of what conditions see of a statement, for the permissions of its tables. */
const statementArguments: JsonObject = {
  type: 'object',
  properties: {
    columns: { type: 'array', items: { type: 'string' } },
    bounded: { type: 'boolean' },
    statement: { type: 'string' },
    parameters: { type: 'array' },
  },
  required: ['columns', 'bounded', 'statement', 'parameters'],
  additionalProperties: false,
}

/** JSON Schema of the arguments of a tool. */
export const toolArguments = ({
  arguments: args,
  optional,
}: PostgresResourceSettings['tools'][string]): JsonObject => ({
  type: 'object',
  properties: args,
  required: Object.keys(args).filter((name) => !optional.includes(name)),
  additionalProperties: false,
})

/** What conditions over each permission of a database may name. */
export function postgresSchemas(
  alias: string,
  settings: PostgresResourceSettings,
): readonly [Permission, JsonObject][] {
  return [
    ...Object.entries(settings.tables).flatMap(([name, each]) =>
      verbsOf(each).map((verb): [Permission, JsonObject] => [`${alias}.${name}:${verb}`, statementArguments]),
    ),
    ...Object.entries(settings.tools).map(([name, each]): [Permission, JsonObject] => [
      `${alias}:${name}`,
      toolArguments(each),
    ]),
  ]
}

interface Holder {
  readonly mode: Mode
  readonly may: readonly { readonly do: Pattern }[]
  readonly lends: Readonly<Record<string, readonly { readonly do: Pattern }[]>>
}

/** What of a database each agent may ever be let near, by its own list or by what others may lend it. */
export function heldOf(
  alias: string,
  settings: PostgresResourceSettings,
  agents: Readonly<Record<string, Holder>>,
): ReadonlyMap<
  string,
  { readonly tables: ReadonlyMap<string, ReadonlySet<Verb>>; readonly tools: ReadonlySet<string> }
> {
  const held = new Map<string, { tables: Map<string, Set<Verb>>; tools: Set<string> }>()
  for (const name of Object.keys(agents)) {
    const patterns = [
      ...(agents[name]?.may ?? []),
      ...Object.values(agents).flatMap(({ lends }) => (Object.hasOwn(lends, name) ? (lends[name] ?? []) : [])),
    ].map(({ do: pattern }) => pattern)
    // Policy refuses an observed agent nothing, so the database may not either.
    const holds = (permission: Permission): boolean =>
      agents[name]?.mode === 'observe' || patterns.some((pattern) => covers(pattern, permission))
    const tables = new Map(
      Object.entries(settings.tables)
        .map(
          ([table_, each]) =>
            [table_, new Set(verbsOf(each).filter((verb) => holds(`${alias}.${table_}:${verb}`)))] as const,
        )
        .filter(([, some]) => some.size > 0),
    )
    const tools = new Set(Object.keys(settings.tools).filter((each) => holds(`${alias}:${each}`)))
    if (tables.size + tools.size > 0) held.set(name, { tables, tools })
  }
  return held
}
