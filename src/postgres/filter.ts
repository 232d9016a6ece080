import { hasSqlDetails, loadModule, parse } from 'libpg-query'
import type { FactType } from '../core/condition.ts'
import { Failure } from '../core/failure.ts'
import type { Names } from './description.ts'
import { literal, quoted } from './names.ts'

/** An expression of the operator, ready to stand in a view. */
export interface Compiled {
  readonly sql: string
  /** Facts that it reads, sorted. Where a session lacks one of them, statements fail: no row is ever let through for it. */
  readonly facts: readonly string[]
  /** Tables that it reads beside the one it is written for. */
  readonly relations: readonly { readonly schema: string; readonly table: string }[]
  /** Schemas that it names anything of: tables, functions, types, operators. */
  readonly schemas: readonly string[]
}

/**
 * One expression of SQL in which `session.<fact>` stands for a fact of the session. Fails with `invalid` where it is
 * anything else, names a fact that is not declared, or a table without its schema. What columns and functions it may
 * name is not checked here: the database does that when the view is made.
 */
export async function compileFilter(
  source: string,
  facts: Readonly<Record<string, FactType>>,
  { internal }: Pick<Names, 'internal'>,
): Promise<Compiled> {
  const bytes = Buffer.from(source)
  const fail = (at: number, message: string): never => {
    const column = bytes.subarray(0, Math.max(0, at)).toString().length + 1
    throw new Failure('invalid', `${message} (at character ${column} of \`${shorten(source)}\`)`)
  }
  const found: Found = { columns: [], relations: [], parameters: [], withs: new Set(), schemas: new Set() }
  look(await expressionOf(source, fail), found)
  for (const at of found.parameters) fail(at, 'a parameter stands for nothing here; facts are written `session.<name>`')

  const relations = found.relations.filter(({ schema, table }) => schema !== undefined || !found.withs.has(table))
  const named = relations.map(({ schema, table, at }) => ({
    schema: schema ?? fail(at, `\`${table}\` needs its schema: \`public.${table}\``),
    table,
  }))

  let sql = ''
  let done = 0
  const used = new Set<string>()
  const references = found.columns.filter(({ fields }) => fields[0] === 'session' && fields.length > 1)
  for (const { fields, at } of references.toSorted((a, b) => a.at - b.at)) {
    const [, fact] = fields
    if (fields.length > 2 || fact === undefined) return fail(at, 'expected `session.<name>`, the name of one fact')
    const type = Object.hasOwn(facts, fact) ? facts[fact] : undefined
    if (type === undefined) return fail(at, `no fact \`${fact}\` is declared; ${declared(facts)}`)
    const [written] = /^(?:session|"session")\s*\.\s*(?:\w+|"[^"]+")/i.exec(bytes.subarray(at).toString()) ?? []
    if (written === undefined) return fail(at, `expected \`session.${fact}\` in one piece`)
    sql += bytes.subarray(done, at).toString() + call(internal, fact, type)
    done = at + Buffer.byteLength(written)
    used.add(fact)
  }
  sql += bytes.subarray(done).toString()
  const schemas = new Set([...found.schemas, ...named.map(({ schema }) => schema)])
  return { sql, facts: [...used].sort(), relations: named, schemas: [...schemas].sort() }
}

// In a sub-select, so that it is found out once for a statement and not once for each row; the cast stands outside,
// because `any ((select …))` would be another thing than `any ((select …)::bigint[])`.
function call(internal: string, fact: string, type: FactType): string {
  const value = `(select ${quoted(internal)}.scope(${literal(fact)}))`
  return type === 'timestamp' ? `(pg_catalog.to_timestamp(${value}::float8 / 1000))` : `(${value}::${types[type]})`
}

/** A timestamp is kept as milliseconds since 1970. */
const types: Readonly<Record<FactType, string>> = {
  string: 'text',
  int: 'bigint',
  double: 'float8',
  bool: 'boolean',
  timestamp: 'timestamptz',
  'list<string>': 'text[]',
  'list<int>': 'bigint[]',
}

const before = 'select (\n'

async function expressionOf(source: string, fail: (at: number, message: string) => never): Promise<unknown> {
  if (source.includes('\0')) fail(source.indexOf('\0'), 'expected an expression of SQL, found a NUL')
  await loadModule()
  const { stmts = [] } = await parse(`${before}${source}\n)`).catch((thrown: unknown) => {
    if (!hasSqlDetails(thrown)) throw new Failure('invalid', 'an expression can not be read', { cause: thrown })
    const at = Buffer.byteLength(
      Array.from(before + source)
        .slice(0, thrown.sqlDetails?.cursorPosition ?? 0)
        .join(''),
    )
    return fail(at - before.length, `expected an expression of SQL: ${thrown.message}`)
  })
  const select = (stmts[0]?.stmt as { SelectStmt?: Readonly<Record<string, unknown>> } | undefined)?.SelectStmt
  const { targetList, limitOption, op, ...others } = select ?? {}
  const [target, ...more] = (targetList ?? []) as { ResTarget: { val: object; name?: string; indirection?: unknown } }[]
  const isOne = target !== undefined && more.length === 0 && stmts.length === 1 && Object.keys(others).length === 0
  if (!isOne || limitOption !== 'LIMIT_OPTION_DEFAULT' || op !== 'SETOP_NONE') return fail(0, 'expected one expression')
  const { val, name, indirection } = target.ResTarget
  const isRow = 'RowExpr' in val && (val.RowExpr as { row_format?: string }).row_format === 'COERCE_IMPLICIT_CAST'
  if (name !== undefined || indirection !== undefined || isRow) return fail(0, 'expected one expression')
  return val
}

interface Found {
  readonly columns: { readonly fields: readonly (string | undefined)[]; readonly at: number }[]
  readonly relations: { readonly schema: string | undefined; readonly table: string; readonly at: number }[]
  readonly parameters: number[]
  readonly withs: Set<string>
  readonly schemas: Set<string>
}

/** Everything in a tree that needs a look, wherever it stands. Places are in bytes of the expression. */
function look(node: unknown, found: Found): void {
  if (typeof node !== 'object' || node === null) return
  for (const [kind, value] of Object.entries(node as Record<string, unknown>)) {
    const inside = value as Readonly<Record<string, unknown>>
    const at = Number(inside?.['location'] ?? 0) - before.length
    if (kind === 'ColumnRef') {
      const fields = (inside['fields'] as { String?: { sval?: string } }[]).map((field) => field.String?.sval)
      found.columns.push({ fields, at })
    } else if (kind === 'RangeVar') {
      const { schemaname, relname } = inside as { schemaname?: string; relname: string }
      found.relations.push({ schema: schemaname, table: relname, at })
    } else if (kind === 'ParamRef') found.parameters.push(at)
    else if (kind === 'CommonTableExpr') found.withs.add(String(inside['ctename']))
    else if (kind === 'funcname' || kind === 'names' || kind === 'name') {
      // Names with a schema before them, of functions, types and operators.
      const parts = Array.isArray(value) ? (value as { String?: { sval?: string } }[]) : []
      const schema = parts.length > 1 ? parts[0]?.String?.sval : undefined
      if (schema !== undefined && schema !== 'pg_catalog') found.schemas.add(schema)
    }
    look(value, found)
  }
}

function declared(facts: Readonly<Record<string, FactType>>): string {
  const names = Object.keys(facts)
  if (names.length === 0) return 'none is: `facts` declares them'
  return `declared are ${names
    .slice(0, 20)
    .map((name) => `\`${name}\``)
    .join(', ')}${names.length > 20 ? ', …' : ''}`
}

const shorten = (text: string): string => (text.length <= 80 ? text : `${text.slice(0, 79)}…`)
