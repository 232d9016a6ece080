import type { Table } from './description.ts'

// What names mean at one place of a statement, as PostgreSQL finds it.

/**
 * Columns of something that rows come from. `names` are columns that it surely has. A name that isn't among them may
 * still be one where `isWhole` is false.
 */
export interface Columns {
  readonly names: ReadonlySet<string>
  readonly isWhole: boolean
  /** In their order, where all of them are known: undefined for one whose name isn't. */
  readonly order?: readonly (string | undefined)[]
}

/** Something in FROM, or the target of a change. */
export interface Range {
  /** What it is called here. Undefined: it can't be called at all. */
  readonly name?: string
  readonly columns: Columns
  readonly table?: Table
  /** Whether the name may have the schema before it: a table without an alias. */
  readonly isBare?: boolean
  /** What a join with an alias joins. */
  readonly parts?: readonly Range[]
  /** Whether its columns have to be written with its name: `old`, `new`, `excluded`. */
  readonly isApart?: boolean
  /** The schema of a catalog. */
  readonly catalog?: string
  /** Columns that are what a statement gives, not what it reads. */
  readonly given?: ReadonlySet<string>
}

/** What can be named at one level of nesting, and around it. */
export interface Level {
  readonly ranges: readonly Range[]
  readonly outer: Level | undefined
  /** Names that ORDER BY and GROUP BY may use as well. */
  readonly outputs?: Columns
}

/** WITH queries that can be named. */
export interface Shared {
  readonly name: string
  readonly columns: Columns
  readonly outer: Shared | undefined
}

/** What is around a place of a statement. */
export interface Place {
  readonly levels: Level | undefined
  readonly shared: Shared | undefined
  readonly depth: number
}

export function columnsOf(order: readonly (string | undefined)[]): Columns {
  const names = order.filter((name) => name !== undefined)
  return { names: new Set(names), isWhole: names.length === order.length, order }
}

/** Some columns, and maybe others. */
export const someColumns = (names: Iterable<string>): Columns => ({ names: new Set(names), isWhole: false })

/** With the first ones renamed, as `t (a, b)` does. */
export function renamed(columns: Columns, names: readonly string[]): Columns {
  if (names.length === 0) return columns
  return columns.order === undefined ? someColumns(names) : columnsOf([...names, ...columns.order.slice(names.length)])
}

export function joined(parts: readonly Columns[]): Columns {
  return {
    names: new Set(parts.flatMap(({ names }) => [...names])),
    isWhole: parts.every(({ isWhole }) => isWhole),
  }
}

/** Every level from here outwards. */
export function* outwards(levels: Level | undefined): Generator<Level> {
  for (let level = levels; level; level = level.outer) yield level
}

export function sharedOf(name: string, shared: Shared | undefined): Shared | undefined {
  let found = shared
  while (found && found.name !== name) found = found.outer
  return found
}

/** What a view of this table shows: what may be read, given or changed. */
export const viewColumns = (table: Table): ReadonlySet<string> =>
  new Set([...table.select.keys(), ...table.insert, ...table.update])
