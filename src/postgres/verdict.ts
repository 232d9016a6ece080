import type { Verb } from './description.ts'

/** What a statement does to one table. */
export interface Use {
  /** Name of a table of the description. */
  readonly table: string
  readonly verb: Verb
  /** Columns that it reads (`select`) or writes, sorted. */
  readonly columns: readonly string[]
  /**
   * For `update` and `delete`: whether its condition holds the whole key to single values, so that it touches one row at
   * most for each row that is given.
   */
  readonly isBounded: boolean
}

export type Command =
  | 'select'
  | 'insert'
  | 'update'
  | 'delete'
  | 'explain'
  | 'begin'
  | 'commit'
  | 'rollback'
  | 'savepoint'
  | 'set'
  | 'show'
  | 'prepare'
  | 'execute'
  | 'deallocate'
  | 'declare'
  | 'fetch'
  | 'close'
  | 'discard'

/** One statement that may be passed on, if policy allows what it does. */
export interface Statement {
  readonly command: Command
  /** Every table that is touched anywhere in it, once for each verb. */
  readonly uses: readonly Use[]
  /** Functions that it calls, sorted. */
  readonly functions: readonly string[]
  /** Whether it reads catalogs. */
  readonly isCatalog: boolean
  /** Where it stands in the text, in bytes of UTF-8: from, and behind its end. */
  readonly from: number
  readonly to: number
  /** The prepared statement or cursor that it names. */
  readonly name?: string
  /** The target of an UPDATE or DELETE at its top, for counting what it would touch. */
  readonly target?: string
  /** Whether rows are changed below its top, in WITH: the count that the server gives is not of these. */
  readonly changesWithin?: true
  /**
   * Numbers of parameters, sorted, that hold a key in what is bounded here, and take their type from the column of the key.
   * Where a client declares another one (`declaring`), it may not be bounded.
   */
  readonly keyParameters?: readonly number[]
  /** Names of the types that a client declared for its parameters, in order, where it declared any: `unknown` is none. */
  readonly types?: readonly string[]
}

/** Why a text is not passed on. */
export interface Refused {
  readonly kind: 'refused'
  /** SQLSTATE: `42601` can't be read, `42P01` no such table, `42703` no such column, `42501` not allowed, `54000` too large. */
  readonly sqlstate: string
  /** In words that an agent may see, and can act on. It never tells a table that is not described from one that is not there. */
  readonly because: string
  readonly hint?: string
  /** Where in the text, in characters from 1, as PostgreSQL counts. */
  readonly position?: number
  /**
   * Tables of the description whose being there the words give away. To whoever holds none of them, the answer has to be
   * that of a table that isn't there.
   */
  readonly tables?: readonly string[]
}

export interface Understood {
  readonly kind: 'understood'
  readonly statements: readonly Statement[]
  /**
   * The text to pass on, where it is not the very text: `pg_catalog` replaced by the schema of the catalogs as an agent
   * may see them. Nothing else is ever changed.
   */
  readonly text?: string
}

export type Verdict = Understood | Refused
