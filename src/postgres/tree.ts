import { ownKinds, plainKinds } from './lists.ts'
import type { Form } from './lists.ts'
import type { Refused } from './verdict.ts'

/** The fields of a node of the parser's tree. */
export type Fields = Readonly<Record<string, unknown>>

/** How deep expressions and statements may be nested. The parser itself breaks somewhere above it. */
const mostDeep = 400

/** What ends a check early. Never leaves this part. */
export class Refusal extends Error {
  readonly sqlstate: string
  readonly because: string
  readonly hint: string | undefined
  /** Where, in bytes from 0. */
  readonly at: number | undefined
  /** Tables whose being there the words give away. */
  readonly tables: readonly string[]

  constructor(
    sqlstate: string,
    because: string,
    { at, hint, tables = [] }: { at?: unknown; hint?: string; tables?: readonly string[] } = {},
  ) {
    super(because)
    this.sqlstate = sqlstate
    this.because = because
    this.hint = hint
    this.at = typeof at === 'number' && at >= 0 ? at : undefined
    this.tables = tables
  }

  verdict(text: string): Refused {
    return {
      kind: 'refused',
      sqlstate: this.sqlstate,
      because: this.because,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.at === undefined ? {} : { position: charactersBefore(text, this.at) + 1 }),
      ...(this.tables.length === 0 ? {} : { tables: this.tables }),
    }
  }
}

const charactersBefore = (text: string, bytes: number): number =>
  Array.from(Buffer.from(text).subarray(0, bytes).toString()).length

/** A name as it is said to an agent: what was written, or the beginning of it. */
export const said = (name: string): string => `\`${name.length > 100 ? `${name.slice(0, 100)}…` : name}\``

/** What is understood by nobody here, said of whatever it is. */
export const unlisted = (what: string, at?: unknown): Refusal =>
  new Refusal('42501', `${what} can't be used here`, {
    at,
    hint: 'Only plain SELECT, INSERT, UPDATE and DELETE over the tables that are there can be run.',
  })

/** The kind of a node, its fields, and that every one of them is listed and is of the form that is listed. */
export function opened(node: unknown): readonly [kind: string, fields: Fields] {
  if (!isFields(node)) throw unlisted('something in this statement')
  const [entry, ...others] = Object.entries(node)
  if (entry === undefined || others.length > 0) throw unlisted('something in this statement')
  const [kind, fields] = entry
  return [kind, checked(kind, fields)]
}

/** The same of fields that stand without the name of their kind. */
export function checked(kind: string, fields: unknown): Fields {
  const forms = plainKinds[kind] ?? ownKinds[kind]
  if (forms === undefined || !isFields(fields))
    throw unlisted(`${said(kind)}, as PostgreSQL's parser calls it,`, isFields(fields) ? fields['location'] : undefined)
  for (const [name, value] of Object.entries(fields)) {
    const form = Object.hasOwn(forms, name) ? forms[name] : undefined
    if (form === undefined || !isOf(form, value)) throw unlisted(nameOf(kind, name), fields['location'])
  }
  return fields
}

function isOf(form: Form, value: unknown): boolean {
  switch (form) {
    case 'node':
    case 'fields':
      return isFields(value)
    case 'nodes':
      return Array.isArray(value) && value.every(isFields)
    case 'words':
      return Array.isArray(value) && value.every((item) => isFields(item) && wordIn(item) !== undefined)
    case 'word':
      return typeof value === 'string'
    case 'number':
    case 'place':
      return typeof value === 'number' && Number.isSafeInteger(value)
    case 'flag':
      return typeof value === 'boolean'
    default:
      return typeof value === 'string' && form.includes(value)
  }
}

/** Words for the fields that a careful client could still meet. */
const fieldNames: Readonly<Record<string, string>> = {
  'SelectStmt.intoClause': 'SELECT INTO',
  'SelectStmt.lockingClause': 'FOR UPDATE, FOR SHARE and the like',
  'InsertStmt.override': 'OVERRIDING',
  'RangeVar.catalogname': 'the name of a database before a table',
  'RangeVar.relpersistence': 'a temporary or unlogged table',
  'SortBy.useOp': 'ORDER BY … USING',
  'InferClause.conname': 'ON CONFLICT ON CONSTRAINT',
  'TransactionStmt.kind': 'PREPARE TRANSACTION and what follows it',
  'TransactionStmt.chain': 'AND CHAIN',
  'CommonTableExpr.search_clause': 'SEARCH',
  'CommonTableExpr.cycle_clause': 'CYCLE',
  'ReturningClause.options': 'RETURNING WITH',
  'TypeName.setof': 'SETOF',
  'TypeName.pct_type': '%TYPE',
  'VariableSetStmt.kind': 'SET … FROM CURRENT',
}

const nameOf = (kind: string, field: string): string =>
  fieldNames[`${kind}.${field}`] ?? `${said(`${kind}.${field}`)}, as PostgreSQL's parser calls it,`

export const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A field that is a list, absent being empty. Its form was checked. */
export const listIn = (fields: Fields, name: string): readonly unknown[] => (fields[name] ?? []) as readonly unknown[]

export const textIn = (fields: Fields, name: string): string | undefined => fields[name] as string | undefined

/** A field that is a list of names. */
export const wordsIn = (fields: Fields, name: string): readonly string[] =>
  listIn(fields, name).map((item) => wordIn(item) ?? '')

/** The text of a `String` node, and of nothing else. */
export function wordIn(node: unknown): string | undefined {
  if (!isFields(node) || !isFields(node['String']) || Object.keys(node).length !== 1) return undefined
  const { sval = '', ...others } = node['String']
  return typeof sval === 'string' && Object.keys(others).length === 0 ? sval : undefined
}

/** What the parser puts where nothing is. */
export const isEmpty = (node: unknown): boolean => isFields(node) && Object.keys(node).length === 0

export const isStarNode = (node: unknown): boolean => isFields(node) && isEmpty(node['A_Star'])

/** Whether this is `*` or `t.*`. */
export const isStar = (node: unknown): boolean =>
  isFields(node) && isFields(node['ColumnRef']) && isStarNode(listIn(node['ColumnRef'], 'fields').at(-1))

export function deeper(depth: number, at?: unknown): number {
  if (depth >= mostDeep)
    throw new Refusal('54001', `this is nested more than ${mostDeep} levels deep`, { at, hint: 'Write it flatter.' })
  return depth + 1
}

/** A constant as a text, a number, true, false or null; undefined for anything that isn't one. Casts are not looked through. */
export function constantIn(node: unknown): string | number | boolean | null | undefined {
  if (!isFields(node) || !isFields(node['A_Const'])) return undefined
  const fields = checked('A_Const', node['A_Const'])
  if (fields['isnull'] === true) return null
  if (fields['ival'] !== undefined) return Number(checked('Integer', fields['ival'])['ival'] ?? 0)
  if (fields['fval'] !== undefined) return Number(checked('Float', fields['fval'])['fval'] ?? 0)
  if (fields['boolval'] !== undefined) return Boolean(checked('Boolean', fields['boolval'])['boolval'])
  if (fields['sval'] !== undefined) return textIn(checked('String', fields['sval']), 'sval') ?? ''
  if (fields['bsval'] !== undefined) return textIn(checked('BitString', fields['bsval']), 'bsval') ?? ''
  return undefined
}
