import type { Action, Problem } from '../../core/action.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import type { Performed, Permit } from '../../guard/guard.ts'
import type { ArgumentSchema } from '../../guard/schema.ts'
import type { Tool, ToolAnswer, ToolCall } from '../../guard/tool.ts'
import { noTable } from '../../postgres/check.ts'
import type { Database } from '../../postgres/description.ts'
import type { Refused, Statement, Use, Verdict } from '../../postgres/verdict.ts'
import {
  asksAlways,
  asksOf,
  effectOf,
  keepsChanges,
  mostReturned,
  mostTouched,
  refusedAction,
  statementAction,
  tablePermission,
} from './action.ts'
import { execute, StatementError, TouchedTooMany } from './execute.ts'
import type { Result } from './execute.ts'
import type { Impact } from './impact.ts'
import type { Pool } from './pool.ts'
import type { PostgresResource, SqlTool } from './resource.ts'
import { verbsFor } from './seen.ts'
import type { May } from './seen.ts'
import { createTypes } from './types.ts'
import type { Types } from './types.ts'

// A database as tools: `query` takes any statement, `describe` tells what there is, and those that the operator wrote.

export interface ToolPorts {
  readonly resource: PostgresResource
  readonly pool: Pool
  /** What a text does, against the description as a session may know it. */
  readonly check: (text: string, seen: Database, session: string) => Promise<Verdict>
  /** The description as a session may know it. */
  readonly seen: (may: May) => Database
  readonly impact: Impact
  readonly may: (session: string, permission: Permission, effect: Effect) => boolean
  readonly mask: (value: Json) => Json
  readonly compile: (schema: JsonObject) => ArgumentSchema
}

const querySchema: JsonObject = {
  type: 'object',
  properties: {
    sql: { type: 'string', description: 'One statement: SELECT, INSERT, UPDATE or DELETE.' },
    parameters: {
      type: 'array',
      description: 'Values of $1, $2, … in the statement. Always give values here rather than in the text.',
      maxItems: 1000,
    },
  },
  required: ['sql'],
  additionalProperties: false,
}

/** The tools of a database. What of them a session sees follows from what it may do to which tables. */
export function toolsFor(ports: ToolPorts): readonly Tool[] {
  const { resource, compile } = ports
  const query = compile(querySchema)
  const nothing = compile(describeSchema)
  const types = createTypes(resource, ports.pool)
  const common = { alias: resource.alias, effect: 'read' as Effect, label: describedAs, visible: seesAny(resource) }
  return [
    {
      ...common,
      name: 'query',
      permission: `${resource.alias}:query`,
      description:
        `Runs one SQL statement (PostgreSQL) in \`${resource.alias}\`. Only the tables, columns and rows that this session may ` +
        'see are there; `describe` lists them. Give values in `parameters`, never in the text.',
      schema: querySchema,
      check: (args) => query.check(args),
      prepare: (args, session) => prepareQuery(ports, args, session),
    },
    {
      ...common,
      name: 'describe',
      permission: `${resource.alias}:describe`,
      description: `Lists the tables and columns of \`${resource.alias}\` that this session may use, their types, and what can be done to each.`,
      schema: describeSchema,
      check: (args) => nothing.check(args),
      prepare: async (_args, session) => ({
        answer: described(
          resource,
          (permission, effect) => ports.may(session, permission, effect),
          await types(session),
        ),
      }),
    },
    ...[...resource.tools].map(([name, tool]) => written(ports, name, tool)),
  ]
}

const describeSchema: JsonObject = { type: 'object', properties: {}, additionalProperties: false }
const describedAs = { trust: 'trusted', readers: 'internal' } as const

/** Whoever holds something of some table. */
const seesAny =
  (resource: PostgresResource) =>
  (may: May): boolean =>
    [...resource.database.tables.values()].some((table) => verbsFor(resource, table, may).length > 0)

// Statements of agents -------------------------------------------------------------------------------------------------

async function prepareQuery(ports: ToolPorts, args: JsonObject, session: string): Promise<ToolCall> {
  const { resource } = ports
  const text = args['sql'] as string
  const parameters = (args['parameters'] ?? []) as readonly Json[]
  const may: May = (permission, effect) => ports.may(session, permission, effect)
  const description = ports.seen(may)
  const refuse = (refused: Refused): ToolCall => {
    const { because, hint } = refused
    const said = hint === undefined ? because : `${because} (${hint})`
    const action = refusedAction(
      session,
      resource,
      text,
      { ...refused, because: said },
      { seen: description, parameters },
    )
    return { action: { ...action, via: 'mcp' }, perform: () => Promise.reject(new Failure('forbidden', said)) }
  }
  const no = (sqlstate: string, because: string): ToolCall => refuse({ kind: 'refused', sqlstate, because })

  const verdict = await ports.check(text, description, session)
  if (verdict.kind === 'refused') return refuse(verdict)
  const [statement, ...more] = verdict.statements
  if (statement === undefined || more.length > 0) return no('42601', 'expected exactly one statement')
  if (!['select', 'insert', 'update', 'delete'].includes(statement.command))
    return no('0A000', `expected SELECT, INSERT, UPDATE or DELETE: ${statement.command} has no use here`)
  if (statement.isCatalog) return no('42501', 'expected a statement over your tables: `describe` tells what there is')
  if (statement.uses.length === 0) return no('42501', 'expected a statement over at least one of your tables')
  const action: Action = { ...statementAction(session, resource, statement, text, parameters), via: 'mcp' }
  for (const use of statement.uses) {
    const missing = unheld(resource, use, may)
    if (missing === undefined) continue
    const { sqlstate, because } = missing
    const refused = { ...action, refused: { rule: `sql:${sqlstate}`, because } }
    return { action: refused, perform: () => Promise.reject(new Failure('forbidden', because)) }
  }
  return callOf(ports, session, action, { statement, text, parameters, rows: mostReturned(resource, statement) })
}

/** What is wrong where a session does not hold a permission that a statement needs. */
export function unheld(resource: PostgresResource, use: Use, may: May): Refused | undefined {
  if (may(tablePermission(resource.alias, use), effectOf(use))) return undefined
  const table = resource.database.tables.get(use.table)
  if (table === undefined || verbsFor(resource, table, may).length === 0) return noTable(use.table)
  const what = use.verb === 'update' && !use.isBounded ? 'update without the whole key in its condition' : use.verb
  return {
    kind: 'refused',
    sqlstate: '42501',
    because: `permission denied for table ${use.table}: ${what} is not among what this session may do to it`,
  }
}

interface Run {
  readonly statement: Statement
  readonly text: string
  readonly parameters: readonly Json[]
  /** Rows that it may return. */
  readonly rows: number
  /** Whether the operator wrote it: then it does not stand in the arguments. */
  readonly isOwn?: true
  /** How many rows it touched when it was tried and undone. */
  readonly touched?: number
}

/** A call that runs a statement once it is allowed, and asks where it turns out to touch more than was thought. */
function callOf(ports: ToolPorts, session: string, action: Partial<Action>, run: Run): ToolCall {
  const { resource } = ports
  const { statement, text, parameters, isOwn } = run
  const isWrite = statement.uses.some(({ verb }) => verb !== 'select')
  const bound = mostTouched(resource, statement)
  // Where the server's count would not be of all that is changed, a bound in rows can't be held: people are asked at once.
  const asks =
    action.asks ?? (bound !== undefined && statement.changesWithin ? asksOf(resource, bound.use, within) : undefined)
  const evidence = async (cut: AbortSignal): Promise<JsonObject> => ({
    ...(await ports.impact(session, run, cut)),
    ...(isOwn === true ? { statement: text, parameters } : {}),
  })

  return {
    action: { ...action, ...(asks === undefined ? {} : { asks }) },
    perform,
    ...(isWrite ? { evidence } : {}),
    again(thrown) {
      if (!(thrown instanceof TouchedTooMany)) return undefined
      const { touched } = thrown
      const asksAgain = bound && asksOf(resource, bound.use, `it touches ${touched} rows`)
      return callOf(
        ports,
        session,
        { ...action, ...(asksAgain === undefined ? {} : { asks: asksAgain }) },
        { ...run, touched },
      )
    },
  }

  /** Rows that it may touch. Who agreed, agreed to so many; where policy only observes, there is no bound. */
  function mostRows({ evidence: agreed }: Permit): number | undefined {
    if (statement.changesWithin) return undefined
    if (agreed === undefined) return asks === undefined ? bound?.rows : undefined
    const { rows } = agreed
    return typeof rows === 'number' ? rows : undefined
  }

  async function perform(
    signal: AbortSignal,
    passed: (bytes: number, sent?: number) => void,
    permit: Permit,
  ): Promise<Performed<ToolAnswer>> {
    const touched = isWrite ? mostRows(permit) : undefined
    const { bytes, time } = resource.database.most
    return ports.pool.use(session, async (backend) => {
      try {
        const most = { rows: run.rows, bytes, time, ...(touched === undefined ? {} : { touched }) }
        const isKept = isWrite && keepsChanges(resource)
        const result = await execute(backend, { text, parameters, isWrite, isKept, most }, signal)
        passed(result.bytes)
        return answered(ports, result, isWrite)
      } catch (thrown) {
        if (!(thrown instanceof StatementError)) throw thrown
        return failed(ports, thrown)
      }
    })
  }
}

const within = 'it changes rows in WITH, which nobody can count beforehand'

function answered({ resource, mask }: ToolPorts, result: Result, isWrite: boolean): Performed<ToolAnswer> {
  const { columns, rows, count, bytes, cut, change } = result
  const hasRows = columns.length > 0
  const structured = mask({
    ...(hasRows ? { columns: columns.map((column) => ({ ...column })), rows } : {}),
    [isWrite ? 'changed' : 'count']: count,
    ...(cut === undefined ? {} : { truncated: cut === 'rows' ? 'there are more rows' : 'the rest was too large' }),
  }) as JsonObject
  return {
    value: { text: JSON.stringify(structured), structured, isError: false },
    record: structured,
    bytes,
    ...(resource.secrets.length === 0 ? {} : { secrets: resource.secrets }),
    ...(change === undefined ? {} : { change }),
    checks: { ran: ['rows', 'size', 'secrets'] },
  }
}

/** The server's own words: for the agent, which wrote the statement. */
function failed(
  { mask, resource: { alias, secrets } }: ToolPorts,
  { code, message }: StatementError,
): Performed<ToolAnswer> {
  // Policy lets it through and the database does not know of that yet.
  const isBehind =
    code === '42P01' || code === '42703' || (code === '42501' && message.startsWith('permission denied for'))
  const hint = isBehind
    ? `the database is not set up for what policy allows: an operator has to run \`sallyport db apply ${alias}\``
    : undefined
  const structured = mask({
    error: { sqlstate: code, message, ...(hint === undefined ? {} : { hint }) },
  }) as JsonObject
  const { error } = structured as { readonly error: { readonly message: string } }
  return {
    value: {
      text: `ERROR ${code}: ${error.message}${hint === undefined ? '' : ` (${hint})`}`,
      structured,
      isError: true,
    },
    record: structured,
    bytes: message.length,
    failed: true,
    ...(secrets.length === 0 ? {} : { secrets }),
    checks: { ran: ['secrets'] },
  }
}

// Statements of the operator -------------------------------------------------------------------------------------------

function written(ports: ToolPorts, name: string, tool: SqlTool): Tool {
  const { resource, compile } = ports
  const schema = compile(tool.schema)
  const { statement, sql, parameters, label } = tool
  const worst = statement.uses.map(effectOf)
  const effect = (['destroy', 'write'] as const).find((each) => worst.includes(each)) ?? 'read'
  return {
    alias: resource.alias,
    name,
    permission: `${resource.alias}:${name}`,
    effect,
    label,
    description: tool.description ?? `Runs a fixed statement in \`${resource.alias}\`.`,
    schema: tool.schema,
    check: (args): readonly Problem[] => schema.check(args),
    prepare: async (args, session) =>
      callOf(ports, session, asksAlways(resource, statement), {
        statement,
        text: sql,
        parameters: parameters.map((each) => args[each] ?? null),
        rows: Math.min(tool.rows ?? Infinity, mostReturned(resource, statement)),
        isOwn: true,
      }),
  }
}

// Describing -----------------------------------------------------------------------------------------------------------

/** What a session may know of a database: names and what can be done, never a row. */
function described(resource: PostgresResource, may: May, types: Types): ToolAnswer {
  const tables = [...resource.database.tables.values()].flatMap((table): JsonObject[] => {
    const held = verbsFor(resource, table, may)
    if (held.length === 0) return []
    const columns = [
      ...(held.includes('select') ? table.select.keys() : []),
      ...(held.includes('insert') ? table.insert : []),
      ...(held.includes('update') ? table.update : []),
    ]
    const known = types.get(table.name)
    return [
      {
        table: table.name,
        ...(held.includes('select')
          ? {
              select: [...table.select].map(([column, mask]) => (mask === 'none' ? column : { column, masked: true })),
            }
          : {}),
        ...(held.includes('insert') ? { insert: table.insert } : {}),
        ...(held.includes('update') ? { update: table.update } : {}),
        ...(held.includes('delete') ? { delete: true } : {}),
        ...(known === undefined
          ? {}
          : { types: Object.fromEntries(columns.map((column) => [column, known.get(column) ?? 'unknown'])) }),
        ...(table.key.length === 0 ? {} : { key: table.key }),
        ...(table.where === undefined ? {} : { rows: 'only those of this session' }),
      },
    ]
  })
  const structured: JsonObject = { dialect: 'PostgreSQL', tables }
  return { text: JSON.stringify(structured), structured, isError: false }
}
