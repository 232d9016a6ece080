import type { Action, Problem } from '../../core/action.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import type { Performed, Permit } from '../../guard/guard.ts'
import type { ArgumentSchema } from '../../guard/schema.ts'
import type { Tool, ToolAnswer, ToolCall } from '../../guard/tool.ts'
import { verbs } from '../../postgres/description.ts'
import type { Table, Verb } from '../../postgres/description.ts'
import type { Statement, Use, Verdict } from '../../postgres/verdict.ts'
import {
  asksAlways,
  asksOf,
  effectOf,
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

// A database as tools: `query` takes any statement, `describe` tells what there is, and those that the operator wrote.

export interface ToolPorts {
  readonly resource: PostgresResource
  readonly pool: Pool
  readonly check: (text: string, session: string) => Promise<Verdict>
  readonly impact: Impact
  readonly may: (session: string, permission: Permission, effect: Effect) => boolean
  readonly mask: (value: Json) => Json
  readonly compile: (schema: JsonObject) => ArgumentSchema
}

type May = (permission: Permission, effect: Effect) => boolean

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
      description: `Lists the tables and columns of \`${resource.alias}\` that this session may use, and what can be done to each.`,
      schema: describeSchema,
      check: (args) => nothing.check(args),
      prepare: async (_args, session) => ({
        answer: described(resource, (permission, effect) => ports.may(session, permission, effect)),
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

/** What a session may do to a table, whatever the conditions. */
const verbsFor = ({ alias }: PostgresResource, table: Table, may: May): readonly Verb[] =>
  verbs.filter((verb) => {
    const effects: readonly Effect[] =
      verb === 'update' ? ['write', 'destroy'] : [effectOf({ table: table.name, verb, columns: [], isBounded: true })]
    return effects.some((effect) => may(tablePermission(alias, { table: table.name, verb }), effect))
  })

// Statements of agents -------------------------------------------------------------------------------------------------

async function prepareQuery(ports: ToolPorts, args: JsonObject, session: string): Promise<ToolCall> {
  const { resource } = ports
  const text = String(args['sql'])
  const parameters = (args['parameters'] ?? []) as readonly Json[]
  const verdict = await ports.check(text, session)
  const refuse = (sqlstate: string, because: string): ToolCall => ({
    action: refusedAction(session, resource, text, { kind: 'refused', sqlstate, because }),
    perform: () => Promise.reject(new Failure('forbidden', because)),
  })
  if (verdict.kind === 'refused')
    return refuse(
      verdict.sqlstate,
      verdict.hint === undefined ? verdict.because : `${verdict.because} (${verdict.hint})`,
    )
  const [statement, ...more] = verdict.statements
  if (statement === undefined || more.length > 0) return refuse('42601', 'expected exactly one statement')
  if (!['select', 'insert', 'update', 'delete'].includes(statement.command))
    return refuse('0A000', `expected SELECT, INSERT, UPDATE or DELETE: ${statement.command} has no use here`)
  if (statement.isCatalog)
    return refuse('42501', 'expected a statement over your tables: `describe` tells what there is')
  if (statement.uses.length === 0) return refuse('42501', 'expected a statement over at least one of your tables')

  // What a session does not hold is answered like what is not there.
  const may: May = (permission, effect) => ports.may(session, permission, effect)
  for (const use of statement.uses) {
    const missing = unheld(resource, use, may)
    if (missing !== undefined) {
      const action = statementAction(session, resource, statement, text, parameters)
      return {
        action: { ...action, refused: { rule: `sql:${missing.sqlstate}`, because: missing.because } },
        perform: () => Promise.reject(new Failure('forbidden', missing.because)),
      }
    }
  }
  const action = statementAction(session, resource, statement, text, parameters)
  return callOf(ports, session, action, { statement, text, parameters, rows: mostReturned(resource, statement) })
}

/** What is wrong where a session does not hold a permission that a statement needs. */
export function unheld(
  resource: PostgresResource,
  use: Use,
  may: May,
): { readonly sqlstate: string; readonly because: string } | undefined {
  if (may(tablePermission(resource.alias, use), effectOf(use))) return undefined
  const table = resource.database.tables.get(use.table)
  return table === undefined || verbsFor(resource, table, may).length === 0
    ? { sqlstate: '42P01', because: `relation "${use.table}" does not exist` }
    : {
        sqlstate: '42501',
        because: `permission denied for table ${use.table}: ${use.verb} is not among what this session may do to it`,
      }
}

interface Run {
  readonly statement: Statement
  readonly text: string
  readonly parameters: readonly Json[]
  /** Rows that it may return. */
  readonly rows: number
}

/** A call that runs a statement once it is allowed, and asks where it turns out to touch more than was thought. */
function callOf(ports: ToolPorts, session: string, action: Partial<Action>, run: Run): ToolCall {
  const { resource } = ports
  const { statement } = run
  const isWrite = statement.uses.some(({ verb }) => verb !== 'select')
  const bound = mostTouched(resource, statement)
  const evidence = isWrite ? (cut: AbortSignal) => ports.impact(session, run, cut) : undefined

  return {
    action,
    perform: (signal, passed, permit) => perform(signal, passed, permit),
    ...(evidence === undefined ? {} : { evidence }),
    again(thrown) {
      if (!(thrown instanceof TouchedTooMany)) return undefined
      const asks = bound && asksOf(resource, bound.use, `it touches ${thrown.touched} rows`)
      return callOf(ports, session, { ...action, ...(asks === undefined ? {} : { asks }) }, run)
    },
  }

  async function perform(
    signal: AbortSignal,
    passed: (bytes: number, sent?: number) => void,
    permit: Permit,
  ): Promise<Performed<ToolAnswer>> {
    const approved = permit.evidence?.['rows']
    // Who agreed, agreed to so many rows. Where people would have been asked but policy only observes, there is no bound.
    const own = action.asks === undefined ? bound?.rows : undefined
    const touched = permit.evidence === undefined ? own : typeof approved === 'number' ? approved : undefined
    const { bytes, time } = resource.database.most
    return ports.pool.use(session, async (backend) => {
      try {
        const result = await execute(
          backend,
          {
            text: run.text,
            parameters: run.parameters,
            isWrite,
            most: { rows: run.rows, bytes, time, ...(touched === undefined ? {} : { touched }) },
          },
          signal,
        )
        passed(result.bytes)
        return answered(ports, result, isWrite)
      } catch (thrown) {
        if (!(thrown instanceof StatementError)) throw thrown
        return failed(ports, thrown)
      }
    })
  }
}

function answered({ resource, mask }: ToolPorts, result: Result, isWrite: boolean): Performed<ToolAnswer> {
  const { columns, rows, count, bytes, cut } = result
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
    checks: { ran: ['rows', 'size', 'secrets'] },
  }
}

/** The server's own words: for the agent, which wrote the statement. */
function failed({ mask }: ToolPorts, { code, message }: StatementError): Performed<ToolAnswer> {
  const structured = mask({ error: { sqlstate: code, message } }) as JsonObject
  const { error } = structured as { readonly error: { readonly message: string } }
  return {
    value: { text: `ERROR ${code}: ${error.message}`, structured, isError: true },
    record: structured,
    bytes: message.length,
    failed: true,
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
      }),
  }
}

// Describing -----------------------------------------------------------------------------------------------------------

/** What a session may know of a database: names and what can be done, never a row. */
function described(resource: PostgresResource, may: May): ToolAnswer {
  const tables = [...resource.database.tables.values()].flatMap((table): JsonObject[] => {
    const held = verbsFor(resource, table, may)
    if (held.length === 0) return []
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
        ...(table.key.length === 0 ? {} : { key: table.key }),
        ...(table.where === undefined ? {} : { rows: 'only those of this session' }),
      },
    ]
  })
  const structured: JsonObject = { dialect: 'PostgreSQL', tables }
  return { text: JSON.stringify(structured), structured, isError: false }
}
