import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import { baseName } from '../../postgres/changes.ts'
import type { Database, Table, Verb } from '../../postgres/description.ts'
import { countText, createReachFinder, estimateText, isExact, sampleText } from '../../postgres/impact.ts'
import type { ReachFinder } from '../../postgres/impact.ts'
import { catalogOf } from '../../postgres/introspect.ts'
import type { Around } from '../../postgres/introspect.ts'
import { numberOfType } from '../../postgres/parameter-types.ts'
import type { Reach } from '../../postgres/reach.ts'
import type { Statement } from '../../postgres/verdict.ts'
import { execute, StatementError } from './execute.ts'
import type { Result } from './execute.ts'
import type { Pool } from './pool.ts'
import type { PostgresResource } from './resource.ts'

/** A statement that people are asked about. */
export interface Asked {
  readonly statement: Statement
  readonly text: string
  readonly parameters: readonly Json[]
  /** How many rows it touched when it was tried and undone. */
  readonly touched?: number
}

/**
 * What a statement would do, for the people who are asked:
 *
 * - `rows` that it would touch; `estimate` where that is what the planner believes, `atMost` where it may be fewer;
 *   absent where it can't be told, and then `uncounted` says why;
 * - `sample`: some of them, as the session may see them;
 * - `cascades` and `triggers`: what else happens then;
 * - `reversible`, and `because` for why.
 *
 * Asked of the database as the agent's role, reading only.
 */
export type Impact = (session: string, asked: Asked, cut: AbortSignal) => Promise<JsonObject>

/** Milliseconds for each question to the database. */
const mostTime = 2_000
const mostSampled = { rows: 20, columns: 12, bytes: 64_000, text: 120 }
/** Cascades and triggers that are shown. */
const mostAround = 50

type Query = Extract<Reach, { readonly kind: 'query' }>

export function createImpact(
  resource: PostgresResource,
  pool: Pool,
  finder: ReachFinder = createReachFinder(),
): Impact {
  const { database } = resource

  return async (session, { statement, text, parameters, touched }, cut) => {
    const written = statement.uses.filter(({ verb }) => verb !== 'select')
    const reach = await finder.find(text, session)
    cut.throwIfAborted()
    const target = database.tables.get(statement.target ?? '')
    const query = reach.kind === 'query' ? reach : undefined
    const numbers = query?.parameters ?? []
    const values = numbers.map((number) => parameters[number - 1] ?? null)
    // With other types, other rows could be meant.
    const types =
      statement.types === undefined ? [] : numbers.map((number) => numberOfType(statement.types?.[number - 1]))
    const ask = (sql: string, rows = 1): Promise<Result> =>
      pool.use(session, (backend) =>
        execute(
          backend,
          {
            text: sql,
            parameters: values,
            types,
            isWrite: false,
            most: { rows, bytes: mostSampled.bytes, time: mostTime },
          },
          cut,
        ),
      )
    const counted = await countOf(reach, target, touched, ask)
    cut.throwIfAborted()
    const sample = await sampleOf(query, target, (sql) => ask(sql, mostSampled.rows))
    cut.throwIfAborted()
    const around = await pool.use(session, async ({ client }) =>
      Promise.all(
        written.map(async ({ table, verb }) => {
          const base = database.tables.get(table)?.base
          return { verb, around: base === undefined ? undefined : await catalogOf(client, base) }
        }),
      ),
    )
    return {
      ...counted,
      ...(sample === undefined ? {} : { sample }),
      ...besides(around),
      ...reversal(
        written.map(({ verb }) => verb),
        around.some(({ verb, around: found }) => triggersOf(found, verb).length > 0),
        written.length > 0 && written.every(({ table }) => database.tables.get(table)?.undo === true)
          ? missedBy(around, keptIn(database))
          : undefined,
      ),
    }
  }
}

type Ask = (sql: string) => Promise<Result>

async function countOf(
  reach: Reach,
  target: Table | undefined,
  touched: number | undefined,
  ask: Ask,
): Promise<JsonObject> {
  if (reach.kind === 'rows') return { rows: reach.rows, ...(reach.atMost ? { atMost: true } : {}) }
  // What it did when it was tried is better than anything that could be found out without trying.
  const tried = touched === undefined ? undefined : { rows: touched, tried: true }
  if (reach.kind === 'unknown') return tried ?? { uncounted: reach.because }
  const key = keyOf(target)
  try {
    const { rows } = await ask(countText(reach, key))
    return { rows: Number(rows[0]?.[0]), ...(isExact(reach, key) ? {} : { atMost: true }) }
  } catch (thrown) {
    const because = inWords(thrown)
    if (tried !== undefined) return tried
    const estimate = await estimated(reach, ask)
    return estimate === undefined ? { uncounted: because } : { rows: estimate, estimate: true, uncounted: because }
  }
}

async function estimated(query: Query, ask: Ask): Promise<number | undefined> {
  try {
    const { rows } = await ask(estimateText(query))
    const plan = rows[0]?.[0] as readonly { readonly Plan?: { readonly 'Plan Rows'?: unknown } }[]
    const believed = plan[0]?.Plan?.['Plan Rows']
    return typeof believed === 'number' ? Math.round(believed) : undefined
  } catch {
    return undefined
  }
}

const inWords = (thrown: unknown): string =>
  thrown instanceof StatementError
    ? `the database did not count them (SQLSTATE ${thrown.code})`
    : Failure.from(thrown).code === 'limited'
      ? `counting them takes longer than ${mostTime / 1000} s`
      : `they could not be counted: ${Failure.from(thrown).message}`

/** The key, where the values that a session sees tell rows apart. */
const keyOf = (table: Table | undefined): readonly string[] =>
  table !== undefined && table.key.every((column) => table.select.get(column) === 'none') ? table.key : []

async function sampleOf(query: Query | undefined, table: Table | undefined, ask: Ask): Promise<JsonObject | undefined> {
  if (query === undefined || (query.target !== undefined && table === undefined)) return undefined
  const readable = table === undefined ? [] : [...new Set([...keyOf(table), ...table.select.keys()])]
  if (query.target !== undefined && readable.length === 0) return undefined
  try {
    const { columns, rows } = await ask(sampleText(query, readable.slice(0, mostSampled.columns), mostSampled.rows))
    const shown = columns.slice(0, mostSampled.columns).map(({ name }) => name)
    return { columns: shown, rows: rows.map((row) => row.slice(0, shown.length).map(cutShort)) }
  } catch {
    return undefined
  }
}

function cutShort(value: Json): Json {
  const text = typeof value === 'object' && value !== null ? JSON.stringify(value) : value
  return typeof text === 'string' && text.length > mostSampled.text
    ? `${text.slice(0, mostSampled.text).toWellFormed()}…`
    : text
}

interface Surroundings {
  readonly verb: Verb
  readonly around: Around | undefined
}

const triggersOf = (around: Around | undefined, verb: Verb): Around['triggers'] =>
  (around?.triggers ?? []).filter(({ timing }) => timing.split(' ').includes(verb))

function besides(all: readonly Surroundings[]): JsonObject {
  const cascades = all.flatMap(({ verb, around }) => (around?.cascades ?? []).filter(({ on }) => on === verb))
  const triggers = all.flatMap(({ verb, around }) => triggersOf(around, verb))
  return {
    cascades: cascades.slice(0, mostAround).map((each) => ({ ...each })),
    triggers: triggers.slice(0, mostAround).map((each) => ({ ...each })),
  }
}

const keptIn = ({ tables }: Database): ReadonlySet<string> =>
  new Set([...tables.values()].filter(({ undo }) => undo === true).map(({ base }) => baseName(base)))

/** Tables that follow, and whose changes are not kept. */
const missedBy = (all: readonly Surroundings[], kept: ReadonlySet<string>): readonly string[] =>
  all.flatMap(({ verb, around }) =>
    (around?.cascades ?? []).filter(({ on, table }) => on === verb && !kept.has(table)).map(({ table }) => table),
  )

/**
 * Whether it could be made undone afterwards, by what is known here.
 *
 * @param missed - Where its own changes are kept: what follows, and is not.
 */
function reversal(written: readonly Verb[], hasTriggers: boolean, missed: readonly string[] | undefined): JsonObject {
  if (missed?.length === 0) return { reversible: true, because: 'its rows are kept as they were: `sallyport db undo`' }
  if (missed !== undefined)
    return {
      reversible: false,
      because: `its own rows are kept as they were, those that follow in ${[...new Set(missed)].slice(0, 5).join(', ')} are not`,
    }
  const no = (because: string): JsonObject => ({ reversible: false, because })
  if (written.includes('delete')) return no('rows that are deleted are gone')
  if (written.includes('update')) return no('the values before are kept nowhere')
  if (hasTriggers) return no('what triggers do is not known here')
  return { reversible: true, because: 'new rows can be deleted again' }
}
