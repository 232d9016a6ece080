import type { Action } from '../../../core/action.ts'
import type { Json } from '../../../core/json.ts'
import type { Database } from '../../../postgres/description.ts'
import type { Refused, Statement, Use } from '../../../postgres/verdict.ts'
import { asksOf, mostReturned, mostTouched, refusedAction, statementAction } from '../action.ts'
import type { PostgresResource } from '../resource.ts'
import type { May } from '../seen.ts'
import { unheld } from '../tools.ts'
import type { Complaint } from './frames.ts'
import type { Most } from './running.ts'

// From statements of the wire to what is decided of them.

/** What is to be done about one statement. */
export type Step =
  | { readonly kind: 'refused'; readonly action: Action; readonly complaint: Complaint }
  /** It touches no table. */
  | { readonly kind: 'free'; readonly statement: Statement; readonly text: string; readonly most: Most }
  | Act

export interface Act {
  readonly kind: 'act'
  readonly statement: Statement
  readonly text: string
  readonly parameters: readonly Json[]
  readonly action: Action
  readonly most: Most
  readonly isWrite: boolean
  /** How many rows it touched when it was tried and undone. */
  readonly touched?: number
  /** People are asked where it touches more rows than this. */
  readonly bound: { readonly rows: number; readonly use: Use } | undefined
}

/** Rows that a statement over catalogs alone may return, where the resource says fewer: drivers read all types at once. */
const mostNames = 5_000

export const mostOf = (
  resource: PostgresResource,
  statement: Pick<Statement, 'uses'> & Partial<Pick<Statement, 'isCatalog'>>,
): Most => ({
  rows: Math.max(
    mostReturned(resource, statement as Statement),
    statement.isCatalog === true && statement.uses.length === 0 ? mostNames : 0,
  ),
  bytes: resource.database.most.bytes,
})

/** A statement, with the parameters that it is to be run with. */
export function stepOf(
  session: string,
  resource: PostgresResource,
  may: May,
  statement: Statement,
  text: string,
  parameters: readonly Json[],
): Step {
  const most = mostOf(resource, statement)
  if (statement.uses.length === 0) return { kind: 'free', statement, text, most }
  const stated = statementAction(session, resource, statement, text, parameters)
  const bound = mostTouched(resource, statement)
  // Where the server's count would not be of all that is changed, a bound in rows can't be held: people are asked at once.
  const action =
    stated.asks === undefined && bound !== undefined && statement.changesWithin
      ? { ...stated, asks: asksOf(resource, bound.use, within) }
      : stated
  const complaint = missing(resource, may, statement.uses)
  if (complaint !== undefined)
    return {
      kind: 'refused',
      action: { ...action, refused: { rule: `sql:${complaint.sqlstate}`, because: complaint.message } },
      complaint,
    }
  return {
    kind: 'act',
    statement,
    text,
    parameters,
    action,
    most,
    isWrite: statement.uses.some(({ verb }) => verb !== 'select'),
    bound,
  }
}

/** What a session does not hold of what a statement needs. A table of which it holds nothing is not there. */
export function missing(resource: PostgresResource, may: May, uses: readonly Use[]): Complaint | undefined {
  let first: Complaint | undefined
  for (const use of uses) {
    const found = unheld(resource, use, may)
    if (found === undefined) continue
    const complaint = { sqlstate: found.sqlstate, message: found.because }
    if (found.sqlstate === '42P01') return complaint
    first ??= complaint
  }
  return first
}

/** A text that is not passed on. `seen` is what this session may know of the database. */
export function refusedStep(
  session: string,
  resource: PostgresResource,
  text: string,
  refused: Refused,
  more: { readonly seen?: Database; readonly parameters?: readonly Json[] } = {},
): Extract<Step, { kind: 'refused' }> {
  const { sqlstate, because, hint, position } = refused
  return {
    kind: 'refused',
    action: refusedAction(session, resource, text, refused, more),
    complaint: {
      sqlstate,
      message: because,
      ...(hint === undefined ? {} : { hint }),
      ...(position === undefined ? {} : { position }),
    },
  }
}

const within = 'it changes rows in WITH, which nobody can count beforehand'
