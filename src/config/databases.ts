import { hasSqlDetails, loadModule, parse } from 'libpg-query'
import { Failure } from '../core/failure.ts'
import { checkStatements } from '../postgres/check.ts'
import type { Database } from '../postgres/description.ts'
import { compileFilter } from '../postgres/filter.ts'
import { maskedColumn } from '../postgres/mask.ts'
import { namesOf } from '../postgres/names.ts'
import type { Statement } from '../postgres/verdict.ts'
import { problemsInWords } from './load.ts'
import type { LoadedSettings, SettingsProblem } from './load.ts'
import { databaseOf } from './postgres.ts'

/** A database as it is configured, with every expression and statement in it read. */
export interface ReadDatabase {
  readonly database: Database
  /** What the statement of each tool does. */
  readonly tools: ReadonlyMap<string, Statement>
}

export type Databases = ReadonlyMap<string, ReadDatabase>

/** Reads the SQL of all databases. Fails with `invalid`, listing what is wrong with its place. */
export async function readDatabases(loaded: LoadedSettings): Promise<Databases> {
  const { databases, problems } = await lookAtDatabases(loaded)
  if (problems.length > 0) throw new Failure('invalid', problemsInWords(loaded.file, problems))
  return databases
}

export async function lookAtDatabases(
  loaded: LoadedSettings,
): Promise<{ readonly databases: Databases; readonly problems: readonly SettingsProblem[] }> {
  const databases = new Map<string, ReadDatabase>()
  const problems: SettingsProblem[] = []
  for (const [alias, resource] of Object.entries(loaded.settings.resources)) {
    if (!('postgres' in resource)) continue
    const database = databaseOf(alias, resource, loaded.settings.facts)
    const names = namesOf(alias)
    const { facts } = database
    const complain = (key: readonly string[], message: string): void =>
      void problems.push({ ...loaded.at(['resources', alias, ...key]), message })
    const reading = async (key: readonly string[], read: () => Promise<unknown>): Promise<void> => {
      await read().catch((thrown: unknown) => complain(key, Failure.from(thrown).message))
    }
    for (const { name, where, select } of database.tables.values()) {
      if (where !== undefined) await reading(['tables', name, 'where'], () => compileFilter(where.source, facts, names))
      for (const [column, mask] of select)
        if (typeof mask === 'object')
          await reading(['tables', name, 'masks', column, 'sql'], () => maskedColumn(column, mask, facts, names))
    }
    const tools = new Map<string, Statement>()
    for (const [name, { sql, arguments: args }] of Object.entries(resource.tools)) {
      const read = await statementIn(sql, database, Object.keys(args).length)
      if (typeof read === 'string') complain(['tools', name, 'sql'], read)
      else tools.set(name, read)
    }
    databases.set(alias, { database, tools })
  }
  return { databases, problems }
}

/** The statement of a tool; or what is wrong with it. */
async function statementIn(sql: string, database: Database, parameters: number): Promise<Statement | string> {
  try {
    await loadModule()
    const tree = await parse(sql)
    const verdict = checkStatements(tree, sql, database, { one: true })
    if (verdict.kind === 'refused') return verdict.because
    const [statement] = verdict.statements
    if (statement === undefined || !['select', 'insert', 'update', 'delete'].includes(statement.command))
      return 'expected SELECT, INSERT, UPDATE or DELETE'
    if (statement.uses.length === 0) return 'expected a statement over at least one of the tables'
    const highest = highestParameter(tree)
    return highest > parameters
      ? `\`$${highest}\` is the ${highest}th argument, and \`arguments\` has ${parameters}`
      : statement
  } catch (thrown) {
    if (hasSqlDetails(thrown)) return thrown.message
    throw thrown
  }
}

function highestParameter(node: unknown): number {
  if (typeof node !== 'object' || node === null) return 0
  const own = (node as { readonly ParamRef?: { readonly number?: number } }).ParamRef?.number ?? 0
  return Math.max(own, ...Object.values(node).map(highestParameter))
}
