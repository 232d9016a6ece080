import type { Label } from '../core/label.ts'
import type { FactType } from '../core/condition.ts'

/** What can be done to a table: the operations of its permissions (`helpdesk.tickets:select`). */
export type Verb = 'select' | 'insert' | 'update' | 'delete'

export const verbs: readonly Verb[] = ['select', 'insert', 'update', 'delete']

/**
 * How a column is shown. `hash`: a keyed digest, the same for the same value; `last4`: all but the last four characters
 * as `*`; `email`: the first letter and the domain; `null`: nothing; or an expression of SQL over the columns of the row.
 */
export type Mask = 'none' | 'hash' | 'last4' | 'email' | 'null' | { readonly sql: string }

/** An expression of SQL that the operator wrote, in which `session.<fact>` stands for a fact of the session. */
export interface Filter {
  readonly source: string
}

/** What of one table agents may be let near. */
export interface Table {
  /** Its name in permissions, and that of its view. Small letters, digits and `_`. */
  readonly name: string
  readonly base: { readonly schema: string; readonly table: string }
  /** Columns that can be read, in order, and how each is shown. */
  readonly select: ReadonlyMap<string, Mask>
  /** Columns that can be given in an INSERT. */
  readonly insert: readonly string[]
  /** Columns that can be changed. */
  readonly update: readonly string[]
  readonly delete: boolean
  /** Columns that name one row. Without them, every UPDATE counts as one of any number of rows. */
  readonly key: readonly string[]
  /** Which rows there are for a session. Absent: all. */
  readonly where?: Filter
  /** How many rows of it one statement may return at most; absent: what the resource says. */
  readonly rows?: number
  /** What asks people, beside what policy says: `true` is every one, a number is more than so many rows. */
  readonly ask: Readonly<Partial<Record<'insert' | 'update' | 'delete', true | number>>>
  /** Whether rows that agents change in it are kept as they were, so that it can be undone. */
  readonly undo?: true
  readonly label: Label
}

/** A database behind the gateway, as the operator describes it. */
export interface Database {
  /** Its name in permissions. */
  readonly alias: string
  readonly tables: ReadonlyMap<string, Table>
  /** Types of the facts that filters may name. */
  readonly facts: Readonly<Record<string, FactType>>
  /** Functions beside the built-in list, by name: `similarity`, `public.ticket_age`. The operator answers for them. */
  readonly functions: readonly string[]
  /** Whether names and types of what a session may see can be read from the catalogs. */
  readonly catalog: 'names' | 'none'
  /** Rows and bytes that one statement may return, milliseconds that it may take, bytes of its text. */
  readonly most: { readonly rows: number; readonly bytes: number; readonly time: number; readonly statement: number }
  /** Milliseconds that rows are kept as they were, and how many of one transaction; `undoByDefault` unless said. */
  readonly undo?: Undo
}

export interface Undo {
  readonly keep: number
  readonly rows: number
}

export const undoByDefault: Undo = { keep: 30 * 86_400_000, rows: 1000 }

/** Names in the database that are made for a resource. */
export interface Names {
  /** The schema of the views: all that an agent's role can use. */
  readonly policy: string
  /** The schema of what views need and nobody may use: scope of sessions, key of hashes. */
  readonly internal: string
  /** The schema of the catalogs as an agent may see them. */
  readonly catalog: string
  /** The role that owns the views. It can't log in. */
  readonly owner: string
  /** The role that an agent's connections log in as. */
  readonly agent: (agent: string) => string
}
