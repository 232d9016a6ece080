import {
  catalogFunctions,
  catalogRelations,
  catalogText,
  catalogTypes,
  informationFunctions,
  isBuiltIn,
  isOnlyTurned,
  lookupTypes,
  sessionFunctions,
} from './catalog.ts'
import type { CatalogReference } from './catalog.ts'
import type { Database, Table, Verb } from './description.ts'
import {
  boundedFunctions,
  collations,
  configurations,
  exactTypes,
  functionColumns,
  functions,
  mostMade,
  operators,
  plainKinds,
  refusedStatements,
  scalarSets,
  searches,
  settings,
  shown,
  systemColumns,
  transactionModes,
  types,
} from './lists.ts'
import { namesOf } from './names.ts'
import { columnsOf, joined, outwards, renamed, sharedOf, someColumns, viewColumns } from './scope.ts'
import type { Columns, Place, Range } from './scope.ts'
import {
  checked,
  constantIn,
  deeper,
  isEmpty,
  isFields,
  isStar,
  isStarNode,
  listIn,
  opened,
  Refusal,
  said,
  textIn,
  unlisted,
  wordIn,
  wordsIn,
} from './tree.ts'
import type { Fields } from './tree.ts'
import type { Command, Refused, Statement, Use, Verdict } from './verdict.ts'

/** How many statements one text may hold. */
const mostStatements = 100

export interface CheckStatementsOptions {
  /** Whether the text has to be exactly one statement. */
  readonly one?: boolean
  /** The parser, for the text that goes on where catalogs are read. Without it, none can be. */
  readonly parse?: (text: string) => unknown
}

/**
 * What a text of SQL does, from the tree that PostgreSQL's own parser makes of it. Everything is refused that is not
 * listed: kinds of nodes and their fields, tables, columns, functions, operators, types, settings.
 *
 * It vouches for side effects, for tables and what is done to them, and for the columns that are written. Columns that
 * are read are attributed to every table that they could be of. Which rows and columns come back is the database's part.
 *
 * Pure. Throws only for a tree that no parser makes.
 */
export function checkStatements(
  tree: unknown,
  text: string,
  database: Database,
  options: CheckStatementsOptions = {},
): Verdict {
  try {
    return statementsIn(tree, text, database, options)
  } catch (thrown) {
    if (thrown instanceof Refusal) return thrown.verdict(text)
    throw thrown
  }
}

/** How a table is answered for that isn't there, or isn't for whoever asks: one answer for all of these. */
export const noTable = (name: string, position?: number): Refused => ({
  kind: 'refused',
  sqlstate: '42P01',
  because: noTableOf(name),
  ...(position === undefined ? {} : { position }),
})

const noTableOf = (name: string): string => `there is no table ${said(name)} that can be used here`

function statementsIn(
  tree: unknown,
  text: string,
  database: Database,
  { one = false, parse }: CheckStatementsOptions,
): Verdict {
  if (!isFields(tree) || !Array.isArray(tree['stmts'] ?? [])) throw new TypeError('not a tree of statements')
  const raw = (tree['stmts'] ?? []) as readonly unknown[]
  if (one && raw.length !== 1)
    throw new Refusal('42601', `exactly one statement is expected here, and there are ${raw.length}`, {
      hint: 'Send one statement at a time.',
    })
  if (raw.length > mostStatements)
    throw new Refusal('54000', `there are more than ${mostStatements} statements in one text`)

  const end = Buffer.byteLength(text)
  const references: CatalogReference[] = []
  const statements = raw.map((item) => {
    const fields = checked('RawStmt', item)
    const from = Number(fields['stmt_location'] ?? 0)
    const length = Number(fields['stmt_len'] ?? 0)
    const reading = new Reading(database, references)
    return { ...reading.statement(fields['stmt']), from, to: length === 0 ? end : from + length }
  })
  if (references.length === 0) return { kind: 'understood', statements }
  const { catalog } = namesOf(database.alias)
  const turned = catalogText(text, references, catalog)
  // What goes on is not the text that was checked: it has to be that one but for the names of catalogs.
  if (turned === undefined || !isOnlyTurned(tree, parse?.(turned), references, catalog))
    throw new Refusal('42501', 'this way of writing the name of a catalog is not understood here', {
      hint: 'Write it without quotes and comments, such as `pg_catalog.pg_class`.',
    })
  return { kind: 'understood', statements, text: turned }
}

type Found = Omit<Statement, 'from' | 'to'>

/** What is known so far of what a statement does to one table. */
interface Noted {
  readonly table: string
  readonly verb: Verb
  readonly columns: Set<string>
  isBounded: boolean
  /** Parameters that hold its key, and take their type from it. */
  readonly keys: Set<number>
}

const written = (uses: readonly Noted[]): readonly Use[] =>
  uses
    .map(({ table, verb, columns, isBounded }) => ({ table, verb, columns: [...columns].sort(), isBounded }))
    .sort((a, b) => (`${a.table} ${a.verb}` < `${b.table} ${b.verb}` ? -1 : 1))

/** What has no table around it: the beginning of every statement. */
const nowhere: Place = { levels: undefined, shared: undefined, depth: 0 }

/** Reads one statement, and remembers what it does. */
class Reading {
  private readonly database: Database
  private readonly policy: string
  private readonly references: CatalogReference[]
  private readonly uses = new Map<string, Noted>()
  private readonly called = new Set<string>()
  private isCatalog = false
  /** How many parts of the statement change rows. */
  private changes = 0
  /** Types that `$1`, `$2`, … are declared with, and undefined for those that they take from where they stand. */
  private parameters: readonly unknown[] = []
  /** How often each stands where it could take its type from what is beside it. */
  private readonly stands = new Map<number, number>()

  constructor(database: Database, references: CatalogReference[]) {
    this.database = database
    this.policy = namesOf(database.alias).policy
    this.references = references
  }

  statement(node: unknown): Found {
    const [kind] = isFields(node) ? Object.keys(node) : []
    if (kind === undefined || !Object.hasOwn(statementKinds, kind)) throw refusedStatement(kind)
    const [, fields] = opened(node)
    const name = this.statementOf(kind, fields)
    const uses = [...this.uses.values()].map((use) => ({ ...use, isBounded: use.isBounded && this.areKeys(use.keys) }))
    const keys = new Set(uses.flatMap((use) => (use.isBounded ? [...use.keys] : [])))
    return {
      command:
        typeof statementKinds[kind] === 'function' ? statementKinds[kind](fields) : (statementKinds[kind] ?? 'select'),
      uses: written(uses),
      functions: [...this.called].sort(),
      isCatalog: this.isCatalog,
      ...(this.changes > (kind === 'SelectStmt' ? 0 : 1) ? { changesWithin: true as const } : {}),
      ...(keys.size > 0 ? { keyParameters: [...keys].sort((a, b) => a - b) } : {}),
      ...name,
    }
  }

  /**
   * Whether parameters surely are of the types of the keys beside them: the first place that the server comes to gives a
   * parameter its type, so each must have no other. `where $1::float8 > 0 and id = $1` compares as `float8`.
   */
  private areKeys(numbers: ReadonlySet<number>): boolean {
    return [...numbers].every((number) => this.stands.get(number) === 1)
  }

  private statementOf(kind: string, fields: Fields): Pick<Statement, 'name' | 'target'> {
    switch (kind) {
      case 'SelectStmt':
        this.select(fields, nowhere)
        return {}
      case 'InsertStmt':
        this.insert(fields, nowhere)
        return {}
      case 'UpdateStmt':
      case 'DeleteStmt':
        return { target: this.change(kind, fields, nowhere).table }
      case 'TransactionStmt':
        this.modes(fields, 'options')
        return {}
      case 'VariableSetStmt':
        this.set(fields)
        return {}
      case 'VariableShowStmt':
        this.setting(textIn(fields, 'name'), shown)
        return {}
      case 'PrepareStmt':
        return this.prepare(fields)
      case 'ExecuteStmt':
        this.each(listIn(fields, 'params'), nowhere)
        return named(fields, 'name')
      case 'DeclareCursorStmt':
        return this.cursor(fields)
      default:
        return named(fields, kind === 'DeallocateStmt' ? 'name' : 'portalname')
    }
  }

  // Statements that touch no table.

  private modes(fields: Fields, list: string): void {
    for (const item of listIn(fields, list)) {
      const [kind, mode] = opened(item)
      if (kind !== 'DefElem' || !transactionModes.has(textIn(mode, 'defname') ?? ''))
        throw unlisted('this mode of a transaction', mode['location'])
      if (constantIn(mode['arg']) === undefined) throw unlisted('this mode of a transaction', mode['location'])
    }
  }

  private set(fields: Fields): void {
    const [kind, name] = [fields['kind'], textIn(fields, 'name')]
    if (kind === 'VAR_RESET_ALL') return
    if (kind === 'VAR_SET_MULTI') {
      if (name !== 'TRANSACTION' && name !== 'SESSION CHARACTERISTICS') throw unlisted(`SET ${name ?? ''}`)
      this.modes(fields, 'args')
      return
    }
    const key = this.setting(name)
    if (kind !== 'VAR_SET_VALUE') return
    const values = listIn(fields, 'args').map(constantIn)
    const value = values.every((each) => typeof each === 'string' || typeof each === 'number')
      ? values.join(', ')
      : undefined
    if (value === undefined || !settings[key]?.(value, this.database.most))
      throw new Refusal('42501', `${said(key)} can't be set to this value here`, { at: fields['location'] })
  }

  /** The setting in small letters, as PostgreSQL doesn't tell them apart. */
  private setting(name = '', others: ReadonlySet<string> = new Set()): string {
    const key = name.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())
    if (!Object.hasOwn(settings, key) && !others.has(key))
      throw new Refusal('42501', `the setting ${said(name)} can't be used here`)
    return key
  }

  private prepare(fields: Fields): Pick<Statement, 'name'> {
    this.parameters = listIn(fields, 'argtypes')
    for (const type of this.parameters) this.type(opened(type)[1])
    const [kind, query] = this.query(fields['query'])
    this.run(kind, query, nowhere)
    return named(fields, 'name')
  }

  /** Cursors that outlive their transaction would outlive what was decided of them. */
  private cursor(fields: Fields): Pick<Statement, 'name'> {
    const hold = 32
    const known = 1 | 2 | 4 | 8 | 16 | 256
    const options = Number(fields['options'] ?? 0)
    if ((options & hold) !== 0) throw unlisted('WITH HOLD')
    if ((options & ~known) !== 0) throw unlisted('an option of this cursor')
    const [kind, query] = this.query(fields['query'])
    if (kind !== 'SelectStmt') throw unlisted('a cursor over anything but SELECT')
    this.run(kind, query, nowhere)
    return named(fields, 'portalname')
  }

  private query(node: unknown): readonly [kind: string, fields: Fields] {
    const [kind] = isFields(node) ? Object.keys(node) : []
    if (kind === undefined || !queryKinds.has(kind)) throw refusedStatement(kind)
    return opened(node)
  }

  /** A statement that gives rows, wherever it stands. */
  private run(kind: string, fields: Fields, place: Place): Columns {
    if (kind === 'SelectStmt') return this.select(fields, place)
    if (kind === 'InsertStmt') return this.insert(fields, place)
    return this.change(kind as 'UpdateStmt' | 'DeleteStmt', fields, place).columns
  }

  // SELECT

  private select(fields: Fields, around: Place): Columns {
    const place = this.with(fields, { ...around, depth: deeper(around.depth) })
    return (fields['op'] ?? 'SETOP_NONE') === 'SETOP_NONE' ? this.one(fields, place) : this.several(fields, place)
  }

  private several(fields: Fields, place: Place): Columns {
    const columns = this.select(checked('SelectStmt', fields['larg']), place)
    this.select(checked('SelectStmt', fields['rarg']), place)
    this.after(fields, { ...place, levels: { ranges: [], outer: place.levels, outputs: columns } })
    return columns
  }

  private one(fields: Fields, place: Place): Columns {
    const rows = listIn(fields, 'valuesLists')
    if (rows.length > 0) {
      this.each(rows, place)
      this.after(fields, place)
      return columnsOf(listIn(opened(rows[0])[1], 'items').map((_, at) => `column${at + 1}`))
    }
    const ranges = this.from(listIn(fields, 'fromClause'), place)
    const inside = { ...place, levels: { ranges, outer: place.levels } }
    const columns = this.targets(listIn(fields, 'targetList'), inside)
    const named = { ...place, levels: { ...inside.levels, outputs: columns } }
    this.maybe(fields['whereClause'], inside)
    this.each(listIn(fields, 'groupClause'), named)
    this.maybe(fields['havingClause'], inside)
    this.each(listIn(fields, 'windowClause'), inside)
    // DISTINCT without ON is a list of one empty node.
    const distinct = listIn(fields, 'distinctClause')
    this.each(distinct.length === 1 && isEmpty(distinct[0]) ? [] : distinct, named)
    this.after(fields, named)
    return columns
  }

  private after(fields: Fields, place: Place): void {
    this.each(listIn(fields, 'sortClause'), place)
    this.maybe(fields['limitOffset'], place)
    this.maybe(fields['limitCount'], place)
  }

  /** WITH: what each may name depends on where it stands; the names end with the statement that they belong to. */
  private with(fields: Fields, place: Place): Place {
    if (fields['withClause'] === undefined) return place
    const clause = checked('WithClause', fields['withClause'])
    const queries = listIn(clause, 'ctes').map((node) => {
      const [kind, query] = opened(node)
      if (kind !== 'CommonTableExpr') throw unlisted('this WITH', clause['location'])
      return query
    })
    let shared = place.shared
    const share = (query: Fields, columns: Columns): void => {
      const names = wordsIn(query, 'aliascolnames')
      shared = { name: textIn(query, 'ctename') ?? '', columns: renamed(columns, names), outer: shared }
    }
    if (clause['recursive'] === true) for (const query of queries) share(query, this.foreseen(query['ctequery']))
    for (const query of queries) {
      const [kind, inner] = this.query(query['ctequery'])
      share(query, this.run(kind, inner, { ...place, shared }))
    }
    return { ...place, shared }
  }

  /** Columns of a query that names itself, from what is written in it before it does. */
  private foreseen(node: unknown): Columns {
    const [kind, fields] = this.query(node)
    if (kind !== 'SelectStmt') return someColumns([])
    let first = fields
    for (let depth = 0; first['larg'] !== undefined; depth = deeper(depth)) first = checked('SelectStmt', first['larg'])
    const [row] = listIn(first, 'valuesLists')
    if (row !== undefined) return columnsOf(listIn(opened(row)[1], 'items').map((_, at) => `column${at + 1}`))
    const targets = listIn(first, 'targetList').map((target) => opened(target)[1])
    const names = targets.map((target) => textIn(target, 'name') ?? nameOf(target['val']))
    return targets.some(({ val }) => isStar(val))
      ? someColumns(names.filter((name) => name !== undefined))
      : columnsOf(names)
  }

  private targets(nodes: readonly unknown[], place: Place): Columns {
    const names: (string | undefined)[] = []
    const starred: Columns[] = []
    for (const node of nodes) {
      const [kind, target] = opened(node)
      if (kind !== 'ResTarget' || target['indirection'] !== undefined)
        throw unlisted('something in this list of columns', target['location'])
      this.node(target['val'], place)
      if (isStar(target['val'])) starred.push(this.star(target['val'], place))
      else names.push(textIn(target, 'name') ?? nameOf(target['val']))
    }
    const columns = columnsOf(names)
    return starred.length === 0 ? columns : joined([columns, ...starred])
  }

  /** Columns of `*` and `t.*`, which were read before. */
  private star(node: unknown, { levels }: Place): Columns {
    const [, { fields }] = opened(node)
    const parts = fields as readonly unknown[]
    const name = wordIn(parts.at(-2))
    if (name === undefined) return joined((levels?.ranges ?? []).filter(isPlain).map(({ columns }) => columns))
    for (const { ranges } of outwards(levels)) {
      const range = ranges.find((each) => each.name === name)
      if (range) return range.columns
    }
    return someColumns([])
  }

  // FROM

  private from(nodes: readonly unknown[], place: Place): readonly Range[] {
    const ranges: Range[] = []
    for (const node of nodes) ranges.push(...this.source(node, place, ranges))
    return ranges
  }

  /** `before`: what LATERAL sees beside what is around the whole. */
  private source(node: unknown, around: Place, before: readonly Range[]): readonly Range[] {
    const [kind, fields] = opened(node)
    const place = { ...around, depth: deeper(around.depth, fields['location']) }
    const beside = { ...place, levels: { ranges: before, outer: place.levels } }
    switch (kind) {
      case 'RangeVar':
        return [this.relation(fields, place)]
      case 'RangeSubselect': {
        const [inner, query] = this.query(fields['subquery'])
        if (inner !== 'SelectStmt') throw refusedStatement(inner)
        const columns = this.select(query, fields['lateral'] === true ? beside : place)
        return [aliased(fields, columns)]
      }
      case 'RangeFunction':
        return [this.rows(fields, beside)]
      case 'JoinExpr':
        return this.join(fields, place, before)
      default:
        throw unlisted(`${said(kind)}, as PostgreSQL's parser calls it, in FROM`, fields['location'])
    }
  }

  private relation(fields: Fields, place: Place): Range {
    const name = textIn(fields, 'relname') ?? ''
    const schema = textIn(fields, 'schemaname')
    const shared = schema === undefined ? sharedOf(name, place.shared) : undefined
    if (shared) return aliased(fields, shared.columns, name)
    if (isCatalogName(name, schema)) return this.catalog(fields, name, schema)

    const table = this.table(fields)
    const use = this.use(table, 'select')
    if (table.select.size === 0)
      throw new Refusal('42501', `${said(table.name)} can't be read`, { at: fields['location'], tables: [table.name] })
    const { aliases, ...range } = this.target(fields, table)
    // Which column a new name stands for depends on the order that the view has.
    if (aliases.length > 0) for (const column of table.select.keys()) use.columns.add(column)
    return aliases.length === 0 ? range : { ...range, columns: someColumns(aliases) }
  }

  /** A table as a range, with the names that its alias gives to columns. */
  private target(fields: Fields, table: Table): Range & { readonly aliases: readonly string[] } {
    const alias = fields['alias'] === undefined ? undefined : checked('Alias', fields['alias'])
    return {
      name: alias === undefined ? table.name : (textIn(alias, 'aliasname') ?? ''),
      columns: { names: viewColumns(table), isWhole: true },
      table,
      isBare: alias === undefined,
      aliases: alias === undefined ? [] : wordsIn(alias, 'colnames'),
    }
  }

  private table(fields: Fields): Table {
    const name = textIn(fields, 'relname') ?? ''
    const schema = textIn(fields, 'schemaname')
    const table = this.database.tables.get(name)
    if (table !== undefined && (schema === undefined || schema === this.policy) && !isCatalogName(name, undefined))
      return table
    const named = [...this.database.tables.values()].find(({ base }) => base.schema === schema && base.table === name)
    throw new Refusal('42P01', noTableOf(schema === undefined ? name : `${schema}.${name}`), {
      at: fields['location'],
      ...(named ? { hint: `It is called ${said(named.name)} here.`, tables: [named.name] } : {}),
    })
  }

  private catalog(fields: Fields, name: string, schema: string | undefined): Range {
    const known = schema === 'information_schema' ? `information_schema.${name}` : name
    const columns = catalogRelations.get(known)
    if (this.database.catalog === 'none' || columns === undefined)
      throw new Refusal('42501', `the catalog ${said(known)} can't be read here`, {
        at: fields['location'],
        hint: 'Only the tables of this database that may be used can be read.',
      })
    this.refer(known, 'relation', schema !== undefined, fields)
    const range = aliased(fields, { names: columns, isWhole: true }, name)
    return { ...range, isBare: fields['alias'] === undefined, catalog: schema ?? 'pg_catalog' }
  }

  private refer(name: string, kind: CatalogReference['kind'], isQualified: boolean, fields: Fields): void {
    this.isCatalog = true
    this.references.push({ name, kind, isQualified, at: Number(fields['location'] ?? 0) })
  }

  private rows(fields: Fields, place: Place): Range {
    const calls = listIn(fields, 'functions').map((item) => {
      const [kind, list] = opened(item)
      const [call, definition] = listIn(list, 'items')
      if (kind !== 'List' || !isEmpty(definition)) throw unlisted('ROWS FROM with columns of its own')
      this.node(call, place)
      return call
    })
    const defined = listIn(fields, 'coldeflist').map((item) => {
      const [kind, column] = opened(item)
      if (kind !== 'ColumnDef') throw unlisted('this list of columns')
      this.type(checked('TypeName', column['typeName']))
      return textIn(column, 'colname') ?? ''
    })
    const alias = fields['alias'] === undefined ? undefined : checked('Alias', fields['alias'])
    const name = (alias && textIn(alias, 'aliasname')) ?? nameOf(calls[0])
    const own = defined.length > 0 ? defined : calls.length === 1 ? columnsOfCall(calls[0], name) : undefined
    const ordinality = fields['ordinality'] === true ? ['ordinality'] : []
    return {
      ...(name === undefined ? {} : { name }),
      columns: renamed(
        own ? columnsOf([...own, ...ordinality]) : someColumns([]),
        alias ? wordsIn(alias, 'colnames') : [],
      ),
    }
  }

  private join(fields: Fields, place: Place, before: readonly Range[]): readonly Range[] {
    const left = this.source(fields['larg'], place, before)
    const right = this.source(fields['rarg'], place, [...before, ...left])
    const both = [...left, ...right]
    const using = wordsIn(fields, 'usingClause')
    for (const name of using)
      for (const range of both) if (range.columns.names.has(name)) this.read(range, name, fields)
    if (fields['isNatural'] === true) for (const range of both) this.readAll(range, fields)
    this.maybe(fields['quals'], { ...place, levels: { ranges: both, outer: place.levels } })
    const shared =
      fields['join_using_alias'] === undefined
        ? []
        : [{ ...aliased({ alias: fields['join_using_alias'] }, columnsOf(using)), parts: both, isApart: true }]
    if (fields['alias'] === undefined) return [...both, ...shared]
    const range = aliased(fields, joined(both.map(({ columns }) => columns)))
    // Under other names, nobody can say whose column is meant.
    const isRenamed = listIn(checked('Alias', fields['alias']), 'colnames').length > 0
    if (isRenamed) for (const part of both) this.readAll(part, fields)
    return [isRenamed ? range : { ...range, parts: both }, ...shared]
  }

  // INSERT, UPDATE, DELETE

  private insert(fields: Fields, around: Place): Columns {
    this.changes += 1
    const place = this.with(fields, { ...around, levels: undefined, depth: deeper(around.depth) })
    const relation = checked('RangeVar', fields['relation'])
    const table = this.table(relation)
    const use = this.use(table, 'insert')
    const columns = this.written(listIn(fields, 'cols'), table, 'insert', place, relation)
    for (const column of columns) use.columns.add(column)
    if (fields['selectStmt'] !== undefined) {
      if (columns.length === 0)
        throw new Refusal('42501', 'an INSERT has to name its columns here', {
          at: relation['location'],
          hint: `Write \`INSERT INTO ${table.name} (…) VALUES (…)\`.`,
        })
      const [kind, query] = this.query(fields['selectStmt'])
      if (kind !== 'SelectStmt') throw refusedStatement(kind)
      this.select(query, place)
    }
    const target = this.target(relation, table)
    if (fields['onConflictClause'] !== undefined) this.conflict(fields, target, place)
    return this.returning(fields, [target], place)
  }

  private conflict(fields: Fields, target: Range & { readonly table?: Table }, place: Place): void {
    const { table } = target
    if (table === undefined) throw new TypeError('the target of an INSERT is a table')
    const clause = checked('OnConflictClause', fields['onConflictClause'])
    const alone = { ...place, levels: { ranges: [target], outer: undefined } }
    if (clause['infer'] !== undefined) {
      const infer = checked('InferClause', clause['infer'])
      for (const node of listIn(infer, 'indexElems')) {
        const [kind, element] = opened(node)
        if (kind !== 'IndexElem') throw unlisted('this ON CONFLICT', infer['location'])
        const column = textIn(element, 'name')
        if (column !== undefined) this.read(target, column, infer)
        this.maybe(element['expr'], alone)
      }
      this.maybe(infer['whereClause'], alone)
    }
    if (clause['action'] === 'ONCONFLICT_NOTHING') return
    // The row in the way is changed, and read, whether or not the view shows it: the filter is asked only afterwards.
    if (table.where !== undefined)
      throw new Refusal('42501', `${said(table.name)} can't be written with ON CONFLICT DO UPDATE`, {
        at: clause['location'],
        hint: 'Send an UPDATE, and an INSERT where it changed nothing.',
        tables: [table.name],
      })
    const excluded: Range = { ...target, name: 'excluded', isBare: false, isApart: true, given: new Set(table.insert) }
    const inside = { ...place, levels: { ranges: [target, excluded], outer: undefined } }
    const columns = this.written(listIn(clause, 'targetList'), table, 'update', inside, clause)
    this.maybe(clause['whereClause'], inside)
    // One row at most for each that is given. A SELECT can give any number.
    const source = opened(fields['selectStmt'] ?? { SelectStmt: {} })[1]
    const use = this.use(table, 'update', listIn(source, 'valuesLists').length > 0)
    for (const column of columns) use.columns.add(column)
  }

  /** The name of the table that is changed, and what comes back. */
  private change(
    kind: 'UpdateStmt' | 'DeleteStmt',
    fields: Fields,
    around: Place,
  ): { readonly table: string; readonly columns: Columns } {
    this.changes += 1
    const place = this.with(fields, { ...around, levels: undefined, depth: deeper(around.depth) })
    const relation = checked('RangeVar', fields['relation'])
    const table = this.table(relation)
    const verb = kind === 'UpdateStmt' ? 'update' : 'delete'
    const target = this.target(relation, table)
    if (target.aliases.length > 0) throw unlisted('new names for columns of what is changed', relation['location'])
    const others = this.from(listIn(fields, kind === 'UpdateStmt' ? 'fromClause' : 'usingClause'), place)
    const inside = { ...place, levels: { ranges: [target, ...others], outer: undefined } }
    const columns = verb === 'update' ? this.written(listIn(fields, 'targetList'), table, verb, inside, relation) : []
    if (verb === 'delete' && !table.delete)
      throw new Refusal('42501', `rows of ${said(table.name)} can't be deleted`, {
        at: relation['location'],
        tables: [table.name],
      })
    this.maybe(fields['whereClause'], inside)
    const keys = this.keysIn(fields['whereClause'], target, table, others)
    const use = this.use(table, verb, keys !== undefined)
    for (const column of columns) use.columns.add(column)
    for (const number of keys ?? []) use.keys.add(number)
    return { table: table.name, columns: this.returning(fields, [target, ...others], place) }
  }

  private returning(fields: Fields, ranges: readonly Range[], place: Place): Columns {
    if (fields['returningClause'] === undefined) return columnsOf([])
    const clause = checked('ReturningClause', fields['returningClause'])
    const [target] = ranges
    const rows = ['old', 'new'].filter((name) => !ranges.some((range) => range.name === name))
    const apart = target ? rows.map((name) => ({ ...target, name, isBare: false, isApart: true })) : []
    return this.targets(listIn(clause, 'exprs'), {
      ...place,
      levels: { ranges: [...ranges, ...apart], outer: undefined },
    })
  }

  /** Columns that are given or changed, each of which has to be one that may be. */
  private written(
    nodes: readonly unknown[],
    table: Table,
    verb: 'insert' | 'update',
    place: Place,
    near: Fields,
  ): readonly string[] {
    if (table[verb].length === 0)
      throw new Refusal(
        '42501',
        verb === 'insert' ? `nothing can be inserted into ${said(table.name)}` : `${said(table.name)} can't be changed`,
        { at: near['location'], tables: [table.name] },
      )
    return nodes.map((node) => {
      const [kind, target] = opened(node)
      if (kind !== 'ResTarget') throw unlisted('something in this list of columns')
      const name = textIn(target, 'name') ?? ''
      if (!table[verb].includes(name))
        throw viewColumns(table).has(name)
          ? new Refusal(
              '42501',
              `${said(name)} of ${said(table.name)} can't be ${verb === 'insert' ? 'given' : 'changed'}`,
              {
                at: target['location'],
                tables: [table.name],
              },
            )
          : noColumn(name, target, table)
      for (const item of listIn(target, 'indirection')) {
        const [inner, index] = opened(item)
        if (inner !== 'A_Indices') throw unlisted('a part of a column', target['location'])
        this.plain(inner, index, place)
      }
      this.maybe(target['val'], place)
      return name
    })
  }

  /**
   * Where a condition holds the whole key of what is changed to single values, the parameters that do so, of whatever type
   * the key is: a conjunction with `column = constant` for each. What stands in any other shape isn't looked into.
   */
  private keysIn(node: unknown, target: Range, table: Table, others: readonly Range[]): readonly number[] | undefined {
    if (node === undefined || table.key.length === 0) return undefined
    const held = new Map<string, readonly number[]>()
    const look = (part: unknown): void => {
      if (!isFields(part)) return
      if (isFields(part['BoolExpr']) && part['BoolExpr']['boolop'] === 'AND_EXPR') {
        for (const item of listIn(part['BoolExpr'], 'args')) look(item)
        return
      }
      const found = isFields(part['A_Expr']) ? this.heldBy(part['A_Expr']) : undefined
      if (found === undefined) return
      const { by, column } = found
      const [qualifier, name] = column
      if (qualifier === undefined ? others.length > 0 : qualifier !== target.name) return
      if (!held.has(name) || by.length === 0) held.set(name, by)
    }
    look(node)
    // Behind a mask, many keys can look like one.
    const isHeld = table.key.every((name) => held.has(name) && table.select.get(name) === 'none')
    return isHeld ? table.key.flatMap((name) => held.get(name) ?? []) : undefined
  }

  /** The column that an expression holds to a single value, and what parameters do so. */
  private heldBy(fields: Fields): { readonly column: Column; readonly by: readonly number[] } | undefined {
    const [operator, ...more] = wordsIn(fields, 'name')
    if (operator !== '=' || more.length > 0) return undefined
    const { kind, lexpr, rexpr } = fields
    const items =
      kind === 'AEXPR_IN' && isFields(rexpr) && isFields(rexpr['List']) ? listIn(rexpr['List'], 'items') : []
    const right = kind === 'AEXPR_OP' ? rexpr : items.length === 1 ? items[0] : undefined
    const pairs = [[lexpr, right] as const, ...(kind === 'AEXPR_OP' ? [[rexpr, lexpr] as const] : [])]
    for (const [beside, value] of pairs) {
      const column = columnIn(beside)
      const by = column && this.single(value)
      if (column !== undefined && by !== undefined) return { column, by }
    }
    return undefined
  }

  /**
   * Of a constant or a parameter, of a type in which no two keys are the same: the parameter, if it takes its type from what
   * is beside it. Nothing of anything else.
   */
  private single(node: unknown): readonly number[] | undefined {
    if (!isFields(node)) return undefined
    const { ParamRef: parameter, TypeCast: cast } = node
    if (isFields(parameter)) {
      const number = numberOf(parameter)
      const declared = this.parameters[number - 1]
      if (declared === undefined) return [number]
      return isExact(opened(declared)[1]) ? [] : undefined
    }
    // Of whatever type a parameter is, it is turned to one value of this type.
    if (isFields(cast))
      return isExact(checked('TypeName', cast['typeName'])) && this.single(cast['arg']) ? [] : undefined
    return isFields(node['A_Const']) ? [] : undefined
  }

  // Expressions

  private each(nodes: readonly unknown[], place: Place): void {
    for (const node of nodes) this.node(node, place)
  }

  private maybe(node: unknown, place: Place): void {
    if (node !== undefined) this.node(node, place)
  }

  private node(node: unknown, around: Place): void {
    const [kind, fields] = opened(node)
    const place = { ...around, depth: deeper(around.depth, fields['location']) }
    if (kind === 'ParamRef') this.stands.set(numberOf(fields), (this.stands.get(numberOf(fields)) ?? 0) + 1)
    if (Object.hasOwn(plainKinds, kind)) return this.plain(kind, fields, place)
    switch (kind) {
      case 'A_Const':
        if (constantIn(node) === undefined) throw unlisted('this constant', fields['location'])
        return
      case 'ColumnRef':
        return this.column(fields, place)
      case 'FuncCall':
        return this.call(fields, place)
      case 'A_Expr':
        // The parser calls the operator of BETWEEN just so; what it stands for is `>=` and `<=`.
        if (!/BETWEEN/.test(textIn(fields, 'kind') ?? '')) this.operator(wordsIn(fields, 'name'), fields)
        this.maybe(fields['lexpr'], place)
        return this.maybe(fields['rexpr'], place)
      case 'SubLink':
        return this.subselect(fields, place)
      case 'A_Indirection':
        return this.indirection(fields, place)
      case 'TypeCast': {
        const type = checked('TypeName', fields['typeName'])
        if (!this.lookup(type, constantIn(fields['arg']))) this.type(type)
        // A parameter that takes such a type here can stand beside a key all the same.
        if (isFields(fields['arg']) && isFields(fields['arg']['ParamRef']) && isExact(type)) {
          opened(fields['arg'])
          return
        }
        return this.maybe(fields['arg'], place)
      }
      case 'CollateClause':
        this.collation(wordsIn(fields, 'collname'), fields)
        return this.maybe(fields['arg'], place)
      case 'SQLValueFunction':
        return this.value(fields)
      case 'SortBy':
        return this.maybe(fields['node'], place)
      default:
        throw unlisted(`${said(kind)}, as PostgreSQL's parser calls it,`, fields['location'])
    }
  }

  /** Looks at whatever is in a node that means nothing beside it. */
  private plain(kind: string, fields: Fields, place: Place): void {
    for (const [name, form] of Object.entries(plainKinds[kind] ?? {})) {
      if (form === 'node') this.maybe(fields[name], place)
      if (form === 'nodes') this.each(listIn(fields, name), place)
    }
  }

  private subselect(fields: Fields, place: Place): void {
    this.maybe(fields['testexpr'], place)
    if (fields['operName'] !== undefined) this.operator(wordsIn(fields, 'operName'), fields)
    const [kind, query] = this.query(fields['subselect'])
    if (kind !== 'SelectStmt') throw refusedStatement(kind)
    this.select(query, place)
  }

  /** `(x).name` calls a function of that name where `x` has no such field, so only `[…]` and `.*` are let through. */
  private indirection(fields: Fields, place: Place): void {
    this.maybe(fields['arg'], place)
    for (const item of listIn(fields, 'indirection')) {
      const [kind, part] = opened(item)
      if (kind === 'A_Indices') this.plain(kind, part, place)
      else if (kind !== 'A_Star' && !this.isPartOfKey(item))
        throw new Refusal(
          '42501',
          `${said(`(…).${wordIn(item) ?? ''}`)} can't be written here: it could call a function`,
          {
            hint: 'Write `t.column` without parentheses, or call a function as `name(…)`.',
          },
        )
    }
  }

  /** What JDBC reads of keys: no function is called so. */
  private isPartOfKey(item: unknown): boolean {
    return this.database.catalog === 'names' && ['x', 'n'].includes(wordIn(item) ?? '')
  }

  private call(fields: Fields, place: Place): void {
    const parts = wordsIn(fields, 'funcname')
    const args = listIn(fields, 'args')
    this.callable(parts, args, fields)
    this.each(args, place)
    this.each(listIn(fields, 'agg_order'), place)
    this.maybe(fields['agg_filter'], place)
    if (fields['over'] !== undefined) this.plain('WindowDef', checked('WindowDef', fields['over']), place)
  }

  private callable(parts: readonly string[], args: readonly unknown[], fields: Fields): void {
    const written = parts.join('.')
    const isOwn = parts.length === 1 || (parts.length === 2 && parts[0] === 'pg_catalog')
    const name = parts.at(-1) ?? ''
    const bounded = isOwn && Object.hasOwn(boundedFunctions, name) ? boundedFunctions[name] : undefined
    if (isOwn && functions.has(name)) {
      if (!isSearchKnown(name, args))
        throw new Refusal(
          '42501',
          `${said(name)} can only be called here with a configuration that every database has`,
          {
            at: fields['location'],
            hint: "Name one as a constant, such as 'english', or none.",
          },
        )
      this.called.add(name)
    } else if (bounded) {
      const values = args
        .map((arg) => (name === 'generate_series' && isSchemaCount(arg) ? mostMade / 2 : constantIn(arg)))
        .map((value) => (typeof value === 'boolean' ? undefined : (value ?? undefined)))
      if (fields['func_variadic'] === true || !bounded.holds(values))
        throw new Refusal('42501', `${said(name)} can only be called here ${bounded.rule}`, { at: fields['location'] })
      this.called.add(name)
    } else if (this.database.functions.includes(written)) {
      this.called.add(written)
    } else if (this.database.catalog === 'names' && isCatalogFunction(parts)) {
      this.called.add(name)
      this.refer(name, 'function', parts.length === 2, fields)
    } else if (this.database.catalog === 'names' && isOwn && sessionFunctions.has(name)) {
      this.called.add(name)
      this.isCatalog = true
    } else {
      throw new Refusal('42501', `the function ${said(written)} can't be called here`, {
        at: fields['location'],
        hint: 'Functions that only compute can be called: aggregates, text, numbers, dates, JSON. The operator can allow others by name.',
      })
    }
  }

  private operator(parts: readonly string[], fields: Fields): void {
    const [name, schema] = [parts.at(-1) ?? '', parts.at(-2)]
    if (parts.length > 2 || (schema !== undefined && schema !== 'pg_catalog') || !operators.has(name))
      throw new Refusal('42501', `the operator ${said(parts.join('.'))} can't be used here`, { at: fields['location'] })
  }

  /**
   * Whether a cast looks up a name, in a way that tells of nothing else: a name that every database has; that of a table
   * which the session may read; and anything else by a type of its own, which knows the first ones only.
   */
  private lookup(fields: Fields, value: unknown): boolean {
    const parts = wordsIn(fields, 'names')
    const name = parts.at(-1) ?? ''
    const isList = listIn(fields, 'arrayBounds').length > 0
    if (this.database.catalog === 'none' || parts.length > 2 || (parts.length === 2 && parts[0] !== 'pg_catalog'))
      return false
    if (!lookupTypes.has(name) && name !== 'regproc') return false
    this.isCatalog = true
    if (typeof value === 'string' && isBuiltIn(value, name, isList)) return true
    if (isList || name === 'regproc' || listIn(fields, 'typmods').length > 0) return false
    if (typeof value === 'string') {
      const [table = '', schema, ...more] = value.split('.').toReversed().map(unquoted)
      // Digits would be the number of anything.
      const relname = more.length === 0 && !/^\d/.test(value) ? table : ''
      this.use(this.table({ relname, ...(schema === undefined ? {} : { schemaname: schema }) }), 'select')
      return true
    }
    this.refer(name, 'type', parts.length === 2, fields)
    return true
  }

  private type(fields: Fields): void {
    const parts = wordsIn(fields, 'names')
    const [name, schema] = [parts.at(-1) ?? '', parts.at(-2)]
    const isKnown = types.has(name) || (this.database.catalog === 'names' && catalogTypes.has(name))
    if (parts.length > 2 || (schema !== undefined && schema !== 'pg_catalog') || !isKnown)
      throw new Refusal('42501', `the type ${said(parts.join('.'))} can't be used here`, {
        at: fields['location'],
        hint: 'Plain types can be: integer, numeric, text, boolean, date, timestamptz, interval, uuid, jsonb and the like.',
      })
    for (const node of listIn(fields, 'typmods')) {
      const value = constantIn(node)
      if (typeof value !== 'number' || value > mostModifier) throw unlisted('a type of this length', fields['location'])
    }
    for (const node of listIn(fields, 'arrayBounds')) {
      const [kind] = opened(node)
      if (kind !== 'Integer') throw unlisted('an array of this size', fields['location'])
    }
  }

  private collation(parts: readonly string[], fields: Fields): void {
    const [name, schema] = [parts.at(-1) ?? '', parts.at(-2)]
    if (parts.length > 2 || (schema !== undefined && schema !== 'pg_catalog') || !collations.has(name))
      throw new Refusal('42501', `the collation ${said(parts.join('.'))} can't be used here`, {
        at: fields['location'],
      })
  }

  /** `current_date` and the like compute; `current_user` and the like tell of how the database is set up. */
  private value(fields: Fields): void {
    const isTime = /^SVFOP_(CURRENT_(DATE|TIME)|LOCALTIME)/.test(textIn(fields, 'op') ?? '')
    if (isTime) return
    if (this.database.catalog === 'none')
      throw new Refusal('42501', "names of roles and schemas can't be asked for here", { at: fields['location'] })
    this.isCatalog = true
  }

  // Columns

  private column(fields: Fields, place: Place): void {
    const nodes = listIn(fields, 'fields')
    const isStar = isStarNode(nodes.at(-1))
    const words = (isStar ? nodes.slice(0, -1) : nodes).map(wordIn)
    if (!words.every((word) => word !== undefined)) throw unlisted('this name', fields['location'])
    const name = isStar ? undefined : words.at(-1)
    if (name !== undefined && systemColumns.has(name) && !this.isNamed(name, place))
      throw new Refusal('42703', `there is no column ${said(name)} that can be used here`, { at: fields['location'] })

    const qualifiers = isStar ? words : words.slice(0, -1)
    if (qualifiers.length === 0) {
      if (name === undefined)
        for (const range of (place.levels?.ranges ?? []).filter(isPlain)) this.readAll(range, fields)
      else this.unqualified(name, fields, place)
      return
    }
    const range = this.ranged(qualifiers, fields, place)
    if (range.catalog !== undefined && qualifiers.length === 2) this.refer(range.name ?? '', 'column', true, fields)
    if (name === undefined) this.readAll(range, fields)
    else this.read(range, name, fields)
  }

  /** Whether something here surely gives a column of this name that isn't a table's own. */
  private isNamed(name: string, { levels }: Place): boolean {
    for (const { ranges, outputs } of outwards(levels))
      if (outputs?.names.has(name) || ranges.some(({ columns }) => columns.names.has(name))) return true
    return false
  }

  /** What a qualified name is qualified with. A name that isn't found could be anything, so it is refused. */
  private ranged(qualifiers: readonly string[], fields: Fields, { levels }: Place): Range {
    const [name = '', schema, ...more] = qualifiers.toReversed()
    if (more.length === 0)
      for (const { ranges } of outwards(levels)) {
        const found = ranges.filter(
          (range) =>
            range.name === name &&
            (schema === undefined || (range.isBare === true && schema === (range.catalog ?? this.policy))),
        )
        if (found.length > 1)
          throw new Refusal('42712', `the name ${said(name)} stands for more than one table here`, {
            at: fields['location'],
          })
        if (found[0]) return found[0]
      }
    throw new Refusal('42P01', `nothing in FROM is called ${said(qualifiers.join('.'))} here`, {
      at: fields['location'],
      hint: 'Where a table has an alias, its columns go by the alias.',
    })
  }

  /**
   * A name alone is never a function: it is a column of the innermost level that has one of this name, or everything of
   * what is called so. Where more than one could be meant, all of them are read.
   */
  private unqualified(name: string, fields: Fields, { levels }: Place): void {
    let isOpen = false
    for (const { ranges, outputs } of outwards(levels)) {
      const plain = ranges.filter(isPlain)
      const found = plain.filter(({ columns }) => columns.names.has(name))
      for (const range of found) this.read(range, name, fields)
      if (found.length > 0) return
      isOpen ||=
        plain.some(({ columns }) => !columns.isWhole) || outputs?.isWhole === false || outputs?.names.has(name) === true
    }
    for (const { ranges } of outwards(levels))
      for (const range of ranges)
        if (range.name === name) {
          this.readAll(range, fields)
          isOpen = true
        }
    if (isOpen) return
    const tables = [...outwards(levels)].flatMap(({ ranges }) => ranges.flatMap(({ table }) => table?.name ?? []))
    throw new Refusal('42703', `there is no column ${said(name)} here`, {
      at: fields['location'],
      ...(tables.length > 0 ? { tables } : {}),
    })
  }

  private read(range: Range, name: string, fields: Fields): void {
    if (!range.columns.names.has(name)) {
      // A name behind a dot that is no column is tried as a function of what is before it.
      if (range.table) throw noColumn(name, fields, range.table)
      throw new Refusal('42703', `${said(range.name ?? '')} has no column ${said(name)} that is known here`, {
        at: fields['location'],
        hint: 'Give it a name with AS, or with an alias such as `t (a, b)`.',
      })
    }
    for (const part of range.parts ?? []) if (part.columns.names.has(name)) this.read(part, name, fields)
    const { table } = range
    // Under a table's new names for columns, all of it was read when it was named.
    if (table === undefined || range.given?.has(name) || !viewColumns(table).has(name)) return
    if (!table.select.has(name))
      throw new Refusal('42501', `${said(name)} of ${said(table.name)} can be written, but not read`, {
        at: fields['location'],
        tables: [table.name],
      })
    this.use(table, 'select').columns.add(name)
  }

  private readAll(range: Range, fields: Fields): void {
    for (const part of range.parts ?? []) this.readAll(part, fields)
    const { table } = range
    if (table === undefined) return
    const unread = [...viewColumns(table)].filter((name) => !table.select.has(name))
    if (unread.length > 0)
      throw new Refusal('42501', `not every column of ${said(table.name)} can be read`, {
        at: fields['location'],
        hint: `Name the columns instead: ${[...table.select.keys()].slice(0, 50).map(said).join(', ')}.`,
        tables: [table.name],
      })
    const use = this.use(table, 'select')
    for (const column of table.select.keys()) use.columns.add(column)
  }

  /** Notes that a table is used so. Whoever isn't bounded once isn't at all. */
  private use(table: Table, verb: Verb, isBounded = false): Pick<Noted, 'columns' | 'keys'> {
    const key = `${verb} ${table.name}`
    const known = this.uses.get(key)
    if (known) {
      if (verb === 'update' || verb === 'delete') known.isBounded &&= isBounded
      return known
    }
    const use = { table: table.name, verb, columns: new Set<string>(), isBounded, keys: new Set<number>() }
    this.uses.set(key, use)
    return use
  }
}

/** Statements that can be run, and what they are called. */
const statementKinds: Readonly<Record<string, Command | ((fields: Fields) => Command)>> = {
  SelectStmt: 'select',
  InsertStmt: 'insert',
  UpdateStmt: 'update',
  DeleteStmt: 'delete',
  TransactionStmt: ({ kind }) =>
    kind === 'TRANS_STMT_COMMIT'
      ? 'commit'
      : kind === 'TRANS_STMT_ROLLBACK'
        ? 'rollback'
        : kind === 'TRANS_STMT_BEGIN' || kind === 'TRANS_STMT_START'
          ? 'begin'
          : 'savepoint',
  VariableSetStmt: 'set',
  VariableShowStmt: 'show',
  PrepareStmt: 'prepare',
  ExecuteStmt: 'execute',
  DeallocateStmt: 'deallocate',
  DeclareCursorStmt: 'declare',
  FetchStmt: 'fetch',
  ClosePortalStmt: 'close',
  DiscardStmt: 'discard',
}

const queryKinds: ReadonlySet<string> = new Set(['SelectStmt', 'InsertStmt', 'UpdateStmt', 'DeleteStmt'])

/** The largest modifier of a type: lengths, and the bits of an interval's fields. */
const mostModifier = Math.max(mostMade, 0x7fff)

function refusedStatement(kind = ''): Refusal {
  const name = refusedStatements[kind] ?? said(kind.replace(/Stmt$/, ''))
  return new Refusal('42501', `${name} can't be run here`, {
    hint:
      kind === 'ExplainStmt'
        ? 'Plans tell of rows that a session may not see.'
        : 'SELECT, INSERT, UPDATE and DELETE over the tables that are there can be run.',
  })
}

const noColumn = (name: string, fields: Fields, table: Table): Refusal =>
  new Refusal('42703', `${said(table.name)} has no column ${said(name)} that can be used here`, {
    at: fields['location'],
    tables: [table.name],
  })

/** `pg_catalog` is looked into before any other schema, and all its tables begin so. */
const isCatalogName = (name: string, schema: string | undefined): boolean =>
  schema === undefined ? name.startsWith('pg_') : schema === 'pg_catalog' || schema === 'information_schema'

/** Whether what names a configuration of text search, if anything does, is a name that every database has. */
function isSearchKnown(name: string, [first, ...others]: readonly unknown[]): boolean {
  const least = Object.hasOwn(searches, name) ? searches[name] : undefined
  if (least === undefined || others.length + 1 < least) return true
  const value = constantIn(first)
  if (typeof value === 'string') return configurations.has(value.replace(/^pg_catalog\./, ''))
  // With as many arguments, text can come first as well; where it is not a parameter, its type is plain.
  return name === 'ts_headline' && value === undefined && isFields(first) && first['ParamRef'] === undefined
}

const isCatalogFunction = (parts: readonly string[]): boolean => {
  const [name = '', schema = 'pg_catalog', ...more] = parts.toReversed()
  const list =
    schema === 'pg_catalog' ? catalogFunctions : schema === 'information_schema' ? informationFunctions : undefined
  return more.length === 0 && list?.has(name) === true
}

/** `array_upper(current_schemas(…), 1)`: nobody's search path is long. */
function isSchemaCount(node: unknown): boolean {
  const [array] = argumentsOf(node, 'array_upper')
  return argumentsOf(array, 'current_schemas').length === 1
}

const argumentsOf = (node: unknown, name: string): readonly unknown[] => {
  const call = isFields(node) && isFields(node['FuncCall']) ? node['FuncCall'] : {}
  return wordIn(listIn(call, 'funcname').at(-1)) === name ? listIn(call, 'args') : []
}

/** A name as it is written in a constant. What isn't one names nothing. */
const unquoted = (name: string): string =>
  /^"[^"]+"$/.test(name) ? name.slice(1, -1) : name.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase())

const named = (fields: Fields, field: string): Pick<Statement, 'name'> => {
  const name = textIn(fields, field)
  return name === undefined ? {} : { name }
}

function aliased(fields: Fields, columns: Columns, name?: string): Range {
  if (fields['alias'] === undefined) return { ...(name === undefined ? {} : { name }), columns }
  const alias = checked('Alias', fields['alias'])
  return { name: textIn(alias, 'aliasname') ?? '', columns: renamed(columns, wordsIn(alias, 'colnames')) }
}

const isPlain = (range: Range): boolean => range.isApart !== true

/** The name that PostgreSQL gives to a column, where that is plain to see. */
const nameOf = (node: unknown): string | undefined => figured(node)?.[0]

/** And how much it likes it: a type's name (1) gives way to that of CASE, and no name (0) to both. */
function figured(node: unknown): readonly [name: string, strength: 0 | 1 | 2] | undefined {
  const [kind, fields] = isFields(node) ? (Object.entries(node)[0] ?? []) : []
  if (kind === undefined || !isFields(fields)) return undefined
  const strong = (name: string | undefined) => (name === undefined ? undefined : ([name, 2] as const))
  switch (kind) {
    case 'ColumnRef':
      return strong(wordIn(listIn(fields, 'fields').at(-1)))
    case 'FuncCall':
      return strong(wordIn(listIn(fields, 'funcname').at(-1)))
    case 'A_Indirection':
      return figured(fields['arg'])
    case 'CollateClause':
      return figured(fields['arg'])
    case 'TypeCast': {
      const inner = figured(fields['arg'])
      const type = isFields(fields['typeName']) ? wordsIn(fields['typeName'], 'names').at(-1) : undefined
      return inner === undefined || inner[1] === 2 || type === undefined ? inner : [type, 1]
    }
    case 'CaseExpr': {
      const inner = fields['defresult'] === undefined ? (['case', 1] as const) : figured(fields['defresult'])
      return inner === undefined || inner[1] === 2 ? inner : ['case', 1]
    }
    case 'A_Expr':
      return fields['kind'] === 'AEXPR_NULLIF' ? ['nullif', 2] : ['?column?', 0]
    case 'CoalesceExpr':
      return ['coalesce', 2]
    case 'MinMaxExpr':
      return [fields['op'] === 'IS_LEAST' ? 'least' : 'greatest', 2]
    case 'A_ArrayExpr':
      return ['array', 2]
    case 'RowExpr':
      return ['row', 2]
    case 'A_Const':
    case 'ParamRef':
    case 'BoolExpr':
    case 'NullTest':
    case 'BooleanTest':
      return ['?column?', 0]
    default:
      return undefined
  }
}

/** Columns of a function in FROM that is called `name` there. */
function columnsOfCall(node: unknown, name: string | undefined): readonly string[] | undefined {
  const call = isFields(node) && isFields(node['FuncCall']) ? node['FuncCall'] : {}
  const own = wordIn(listIn(call, 'funcname').at(-1)) ?? ''
  if (Object.hasOwn(functionColumns, own)) return functionColumns[own]
  const isScalar = scalarSets.has(own) && (own !== 'unnest' || listIn(call, 'args').length === 1)
  return isScalar && name !== undefined ? [name] : undefined
}

/** `$0` and what has no number is no parameter; the server refuses it. */
const numberOf = (parameter: Fields): number => Number(parameter['number'] ?? 0)

type Column = readonly [qualifier: string | undefined, name: string]

/** A column that is written alone or with one qualifier. */
function columnIn(node: unknown): Column | undefined {
  if (!isFields(node) || !isFields(node['ColumnRef'])) return undefined
  const [name, qualifier, ...more] = listIn(node['ColumnRef'], 'fields').map(wordIn).toReversed()
  return name === undefined || more.length > 0 ? undefined : [qualifier, name]
}

const isExact = (type: Fields): boolean =>
  exactTypes.has(wordsIn(type, 'names').at(-1) ?? '') && listIn(type, 'arrayBounds').length === 0
