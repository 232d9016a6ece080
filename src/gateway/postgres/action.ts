import type { Action, Part } from '../../core/action.ts'
import type { Json } from '../../core/json.ts'
import { join } from '../../core/label.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import type { Database } from '../../postgres/description.ts'
import type { Refused, Statement, Use } from '../../postgres/verdict.ts'
import type { PostgresResource } from './resource.ts'

// From statements to actions. Nothing here decides.

/** Deleting, and changing rows that nothing names, can't be taken back. */
export const effectOf = ({ verb, isBounded }: Use): Effect =>
  verb === 'select' ? 'read' : verb === 'delete' || (verb === 'update' && !isBounded) ? 'destroy' : 'write'

export const tablePermission = (alias: string, { table, verb }: Pick<Use, 'table' | 'verb'>): Permission =>
  `${alias}.${table}:${verb}`

const severity: readonly Effect[] = ['read', 'send', 'execute', 'write', 'destroy']

/**
 * A statement that touches tables. All that it does to each has to be allowed. Types that a client declared are a part of
 * what it says: the same text and parameters can mean something else with other ones.
 */
export function statementAction(
  session: string,
  resource: PostgresResource,
  statement: Statement,
  text: string,
  parameters: readonly Json[],
): Action {
  const { types } = statement
  const { permission, effect, label, asks, parts } = meaningOf(resource, statement)
  return {
    session,
    permission,
    effect,
    args: { parameters, statement: text, ...(types === undefined ? {} : { types }) },
    parts: parts.map(({ columns, bounded, ...part }) => ({
      ...part,
      args: { bounded, columns, parameters, statement: text },
    })),
    problems: [],
    label,
    via: 'sql',
    ...asks,
  }
}

/** What is the same each time that a statement is run: it is run more often than it is checked. */
interface Meaning {
  readonly resource: PostgresResource
  readonly permission: Permission
  readonly effect: Effect
  readonly label: Label
  readonly asks: Pick<Action, 'asks'>
  readonly parts: readonly (Pick<Part, 'permission' | 'effect'> & {
    readonly columns: readonly string[]
    readonly bounded: boolean
  })[]
}

const meanings = new WeakMap<Statement, Meaning>()

function meaningOf(resource: PostgresResource, statement: Statement): Meaning {
  const known = meanings.get(statement)
  if (known?.resource === resource) return known
  const { uses } = statement
  const parts = uses.map((use) => ({
    permission: tablePermission(resource.alias, use),
    effect: effectOf(use),
    columns: use.columns,
    bounded: use.isBounded,
  }))
  const [main, ...others] = parts
  if (main === undefined) throw new TypeError('a statement that touches no table is no action')
  const { permission, effect } = others.reduce(
    (worst, part) => (severity.indexOf(part.effect) > severity.indexOf(worst.effect) ? part : worst),
    main,
  )
  const label = labelOf(resource, uses)
  const meaning = { resource, permission, effect, label, asks: asksAlways(resource, { uses }), parts }
  meanings.set(statement, meaning)
  return meaning
}

/**
 * A statement that is never passed on, whatever policy says: written down like any other refusal. `seen` is what the
 * session may know of the database: the record tells what is described beyond that from what is not there, the agent
 * is told neither.
 */
export function refusedAction(
  session: string,
  { alias, database }: PostgresResource,
  text: string,
  { sqlstate, because }: Refused,
  { seen = database, parameters }: { readonly seen?: Database; readonly parameters?: readonly Json[] } = {},
): Action {
  const hidden = sqlstate === '42P01' ? [...database.tables.keys()].filter((name) => !seen.tables.has(name)) : []
  const named = hidden.filter((name) => text.includes(name))
  return {
    session,
    permission: `${alias}:query`,
    effect: 'read',
    args: { statement: text, ...(parameters === undefined ? {} : { parameters }) },
    problems: [],
    label: { trust: 'trusted', readers: 'public' },
    via: 'sql',
    refused: {
      rule: `sql:${sqlstate}`,
      because,
      ...(named.length === 0 ? {} : { detail: `there, and not held: ${named.join(', ')}` }),
    },
  }
}

/** Where the operator wants people asked about every such change. */
export function asksAlways(resource: PostgresResource, { uses }: Pick<Statement, 'uses'>): Pick<Action, 'asks'> {
  const use = uses.find(({ table, verb }) => verb !== 'select' && tableOf(resource, table).ask[verb] === true)
  return use === undefined ? {} : { asks: asksOf(resource, use, 'the operator wants people asked about it') }
}

/** How many rows a statement may touch before people are asked, and why. */
export function mostTouched(
  resource: PostgresResource,
  { uses }: Statement,
): { readonly rows: number; readonly use: Use } | undefined {
  const bounds = uses.flatMap((use) => {
    const rows = use.verb === 'select' ? undefined : tableOf(resource, use.table).ask[use.verb]
    return typeof rows === 'number' ? [{ rows, use }] : []
  })
  return bounds.reduce<(typeof bounds)[number] | undefined>(
    (least, each) => (least === undefined || each.rows < least.rows ? each : least),
    undefined,
  )
}

export const asksOf = (
  { alias }: PostgresResource,
  { table, verb }: Use,
  because: string,
): NonNullable<Action['asks']> => ({
  rule: `resources.${alias}.tables.${table}.ask.${verb}`,
  because,
})

/** How many rows it may return: the least that any table that it reads, or the whole, says. */
export const mostReturned = (resource: PostgresResource, { uses }: Statement): number =>
  Math.min(resource.database.most.rows, ...uses.map(({ table }) => tableOf(resource, table).rows ?? Infinity))

/** Where a result comes from: from every table that the statement touches, also by what it says of how many rows. */
const labelOf = (resource: PostgresResource, uses: readonly Use[]): Label =>
  uses.map(({ table }) => tableOf(resource, table).label).reduce(join)

/** Whether changes of any of its tables are kept: triggers and foreign keys may reach one from another. */
export const keepsChanges = ({ database }: PostgresResource): boolean =>
  [...database.tables.values()].some(({ undo }) => undo === true)

function tableOf({ database }: PostgresResource, name: string) {
  const table = database.tables.get(name)
  if (table === undefined) throw new TypeError('a statement uses tables of the description only')
  return table
}
