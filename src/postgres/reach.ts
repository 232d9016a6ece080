import type { ScanToken } from 'libpg-query'
import { isFields } from './tree.ts'
import type { Fields } from './tree.ts'

// Which rows a change would touch, asked of the database without changing anything: FROM and WHERE are taken from the text
// of the statement as they stand, and that they were taken rightly is proved by parsing what comes out.

/** What a change reaches. */
export type Reach =
  /** So many rows, by what the text says; at most, where conflicts can leave some out. */
  | { readonly kind: 'rows'; readonly rows: number; readonly atMost: boolean }
  /** As many as `${before}select count(*)${from}` says. */
  | {
      readonly kind: 'query'
      /** WITH, where there is one. */
      readonly before: string
      /** FROM and WHERE. */
      readonly from: string
      /** Numbers, from 1, of the statement's parameters that are `$1`, `$2`, … here. */
      readonly parameters: readonly number[]
      /** What the changed table is called in it; absent where rows are added. */
      readonly target?: string
      /** Whether one row of the target can stand there several times. */
      readonly isJoined: boolean
    }
  | { readonly kind: 'unknown'; readonly because: string }

/** The parser's two functions; it has to be loaded. */
export interface Parser {
  parseSync(text: string): unknown
  scanSync(text: string): { readonly tokens: readonly ScanToken[] }
}

/** How many places in a text are tried as the beginning of a SELECT. */
const mostTried = 16

/** What one INSERT, UPDATE or DELETE reaches. The text has to be one that the check has understood. */
export function reachOf(text: string, parser: Parser): Reach {
  const [node] = statementsIn(parser.parseSync(text))
  const [kind, fields] = Object.entries(node ?? {})[0] ?? []
  if (kind === undefined || !isFields(fields)) return unknown('it is no statement')
  if (changesIn(node) > 1 || kind === 'SelectStmt') return unknown('rows are changed in WITH')
  const pieces = new Pieces(text, parser.scanSync(text).tokens)
  if (kind === 'InsertStmt') return reachOfInsert(fields, pieces, parser)
  if (kind === 'UpdateStmt' || kind === 'DeleteStmt') return reachOfChange(kind, fields, pieces, parser)
  return unknown('it changes no rows')
}

const unknown = (because: string): Reach => ({ kind: 'unknown', because })
const unlike: Reach = unknown('no SELECT could be made of it that surely means the same rows')

function statementsIn(tree: unknown): readonly Fields[] {
  const list = isFields(tree) ? tree['stmts'] : undefined
  return (Array.isArray(list) ? list : []).map((raw: unknown) =>
    isFields(raw) && isFields(raw['stmt']) ? raw['stmt'] : {},
  )
}

const changing: ReadonlySet<string> = new Set(['InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt'])

/** How many nodes of a tree change rows. */
function changesIn(node: unknown): number {
  if (typeof node !== 'object' || node === null) return 0
  return Object.entries(node).reduce((sum, [key, value]) => sum + (changing.has(key) ? 1 : 0) + changesIn(value), 0)
}

// UPDATE and DELETE ----------------------------------------------------------------------------------------------------

function reachOfChange(kind: 'UpdateStmt' | 'DeleteStmt', fields: Fields, pieces: Pieces, parser: Parser): Reach {
  const isUpdate = kind === 'UpdateStmt'
  const begins = pieces.find(isUpdate ? 'update' : 'delete', 0)
  const target = pieces.after(isUpdate ? begins : pieces.find('from', begins))
  const set = isUpdate ? pieces.find('set', target) : pieces.end
  const where = pieces.find('where', target)
  const returning = pieces.find('returning', target)
  const last = Math.min(where, returning)
  const others = listIn(fields, isUpdate ? 'fromClause' : 'usingClause')
  // `is distinct from` in SET holds a FROM of its own: whichever makes the same tree is the right one.
  const sources =
    others.length === 0 ? [last] : isUpdate ? pieces.all('from', set, last) : [pieces.find('using', target)]
  for (const source of sources) {
    const table = pieces.text(target, isUpdate ? set : Math.min(source, last))
    const more = others.length === 0 ? '' : `,\n${pieces.text(pieces.after(source), last)}`
    const condition = where === pieces.end ? '' : `\n${pieces.text(where, returning)}`
    const made = proved(pieces.text(0, begins), `\nfrom ${table}${more}${condition}`, parser, {
      fromClause: [{ RangeVar: fields['relation'] }, ...others],
      ...pick(fields, 'whereClause'),
      ...pick(fields, 'withClause'),
    })
    if (made === undefined) continue
    const relation = fields['relation'] as Fields
    const alias = isFields(relation['alias']) ? relation['alias']['aliasname'] : relation['relname']
    return { ...made, target: String(alias), isJoined: others.length > 0 }
  }
  return unlike
}

// INSERT ---------------------------------------------------------------------------------------------------------------

function reachOfInsert(fields: Fields, pieces: Pieces, parser: Parser): Reach {
  const atMost = fields['onConflictClause'] !== undefined
  const source = fields['selectStmt']
  if (source === undefined) return { kind: 'rows', rows: 1, atMost }
  const rows = isFields(source) && isFields(source['SelectStmt']) ? listIn(source['SelectStmt'], 'valuesLists') : []
  if (rows.length > 0) return { kind: 'rows', rows: rows.length, atMost }

  const begins = pieces.find('insert', 0)
  const conflict = pieces.all('on', begins, pieces.end).find((at) => pieces.isWord(pieces.after(at), 'conflict'))
  const end = Math.min(conflict ?? pieces.end, pieces.find('returning', begins))
  for (const start of pieces.openings(pieces.find('into', begins), end).slice(0, mostTried)) {
    const made = proved(pieces.text(0, begins), `\nfrom (\n${pieces.text(start, end)}\n) as counted`, parser, {
      fromClause: [{ RangeSubselect: { subquery: source, alias: { aliasname: 'counted' } } }],
      ...pick(fields, 'withClause'),
    })
    if (made !== undefined) return { ...made, isJoined: false }
  }
  return unlike
}

// Proof ----------------------------------------------------------------------------------------------------------------

/** The query, if it is what it has to be: a SELECT of these clauses and nothing else. */
function proved(before: string, from: string, parser: Parser, expected: Fields) {
  const [head, afterHead] = renumbered(before, [], parser)
  const [body, parameters] = renumbered(from, afterHead, parser)
  let tree: readonly Fields[]
  try {
    tree = statementsIn(parser.parseSync(`${head}select 1${body}`))
  } catch (thrown) {
    // Anything but an error of the SQL may have broken the parser: nothing that it says then can be believed.
    if (thrown instanceof Error && 'sqlDetails' in thrown) return undefined
    throw thrown
  }
  const [node, ...others] = tree
  const select = node?.['SelectStmt']
  if (others.length > 0 || !isFields(select)) return undefined
  const numberOf = (number: number): number => parameters.indexOf(number) + 1
  const { targetList, limitOption: _, op: __, ...clauses } = select
  const isOne = JSON.stringify(bare(targetList)) === '[{"ResTarget":{"val":{"A_Const":{"ival":{"ival":1}}}}}]'
  const isSame = canonical(bare(clauses)) === canonical(bare(expected, numberOf))
  return isOne && isSame ? { kind: 'query' as const, before: head, from: body, parameters } : undefined
}

/** With parameters numbered in the order in which they come, because one that stands nowhere would have no type. */
function renumbered(text: string, known: readonly number[], parser: Parser): readonly [string, readonly number[]] {
  const numbers = [...known]
  const bytes = Buffer.from(text)
  const parts: Buffer[] = []
  let end = 0
  for (const token of text === '' ? [] : parser.scanSync(text).tokens) {
    if (token.tokenName !== 'PARAM') continue
    const number = Number(bytes.subarray(token.start + 1, token.end).toString())
    if (!numbers.includes(number)) numbers.push(number)
    parts.push(bytes.subarray(end, token.start), Buffer.from(`$${numbers.indexOf(number) + 1}`))
    end = token.end
  }
  return [Buffer.concat([...parts, bytes.subarray(end)]).toString(), numbers]
}

const places: ReadonlySet<string> = new Set([
  'location',
  'list_start',
  'list_end',
  'rexpr_list_start',
  'rexpr_list_end',
])

/** A tree without the places of its nodes in the text. */
function bare(node: unknown, numberOf = (number: number): number => number): unknown {
  if (Array.isArray(node)) return node.map((each) => bare(each, numberOf))
  if (!isFields(node)) return node
  return Object.fromEntries(
    Object.entries(node)
      .filter(([key]) => !places.has(key))
      .map(([key, value]) => [
        key,
        key === 'ParamRef' && isFields(value) ? { number: numberOf(Number(value['number'])) } : bare(value, numberOf),
      ]),
  )
}

const canonical = (clauses: unknown): string =>
  JSON.stringify(Object.entries(clauses as Fields).toSorted(([one], [other]) => (one < other ? -1 : 1)))

const listIn = (fields: Fields, name: string): readonly unknown[] => (fields[name] ?? []) as readonly unknown[]

const pick = (fields: Fields, name: string): Fields => (fields[name] === undefined ? {} : { [name]: fields[name] })

// Text -----------------------------------------------------------------------------------------------------------------

const comments: ReadonlySet<string> = new Set(['C_COMMENT', 'SQL_COMMENT'])

/** A text by its tokens. Places are numbers of tokens; `end` is behind the last. */
class Pieces {
  readonly end: number
  private readonly bytes: Buffer
  private readonly tokens: readonly ScanToken[]
  /** How many brackets are open before each. */
  private readonly depths: readonly number[]

  constructor(text: string, tokens: readonly ScanToken[]) {
    this.bytes = Buffer.from(text)
    const all = tokens.filter(({ tokenName }) => !comments.has(tokenName))
    const stop = all.findIndex((token) => this.wordOf(token) === ';')
    this.tokens = stop === -1 ? all : all.slice(0, stop)
    this.end = this.tokens.length
    let depth = 0
    this.depths = this.tokens.map((token) => {
      const word = this.wordOf(token)
      if (word === '(' || word === '[') return depth++
      if (word === ')' || word === ']') depth--
      return depth
    })
  }

  private wordOf({ start, end }: ScanToken): string {
    return end - start > 20 ? '' : this.bytes.subarray(start, end).toString().toLowerCase()
  }

  isWord(at: number, word: string): boolean {
    const token = this.tokens[at]
    return token !== undefined && this.wordOf(token) === word
  }

  /** Every place of a word between two, outside of all brackets. */
  all(word: string, from: number, to: number): readonly number[] {
    return this.depths.flatMap((depth, at) =>
      depth === 0 && at >= from && at < to && this.isWord(at, word) ? [at] : [],
    )
  }

  find(word: string, from: number): number {
    return this.all(word, from, this.end)[0] ?? this.end
  }

  after(at: number): number {
    return Math.min(at + 1, this.end)
  }

  /** Where a query could begin. */
  openings(from: number, to: number): readonly number[] {
    return ['select', 'with', 'values', 'table', '(']
      .flatMap((word) => this.all(word, from, to))
      .toSorted((one, other) => one - other)
  }

  /** The text from one token to before another. A comment behind its last token is left out. */
  text(from: number, to: number): string {
    const [first, last] = [this.tokens[from], this.tokens[to - 1]]
    if (first === undefined || last === undefined || to <= from) return ''
    return `${this.bytes.subarray(first.start, last.end).toString()}\n`
  }
}
