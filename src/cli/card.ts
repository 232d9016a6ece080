import type { ApprovalView } from '../control/wire.ts'
import { needInWords } from '../core/approval.ts'
import type { Approval } from '../core/approval.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { Effect } from '../core/permission.ts'
import { differences, differencesInLines } from './difference.ts'
import type { Style } from './io.ts'
import { field, heading, theirs } from './line.ts'
import type { Line } from './line.ts'
import { columnsOf, cut, jsonLines, moment, safe, span } from './text.ts'

export const effectStyle: Readonly<Record<Effect, Style>> = {
  read: 'green',
  write: 'cyan',
  execute: 'magenta',
  send: 'yellow',
  destroy: 'red',
}

/** Scripts that are written from right to left: a terminal may show the parts of such a line in another order. */
const rightToLeft =
  /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}\p{Script=Adlam}\p{Script=Mandaic}\p{Script=Samaritan}]/u

/** A question, whole: everything that one should know before answering, in lines of at most so many columns. */
export function card(view: ApprovalView, now: number, columns: number, edited?: JsonObject): readonly Line[] {
  const { approval, impact, description, previous } = view
  const { id, chain, permission, effect, args, argsDigest, rules, because, policy, ask, openedAt } = approval
  const own = (label: string, value: string, style?: Style): readonly Line[] => field(label, value, columns, style)
  const blank: Line = []
  const argLines = jsonLines(edited ?? args)
  return [
    ...(edited === undefined ? [] : [heading('Your changes'), ...changes(args, edited, columns), blank]),
    heading('The call'),
    ...own('permission', permission, 'bold'),
    ...own('effect', effect, effectStyle[effect]),
    ...impact.flatMap((line, position) => own(position === 0 ? 'impact' : '', line)),
    ...chain.flatMap(({ agent, behalf, session }, position) =>
      own(position === 0 ? 'agent' : 'lent to', `${agent}, on behalf of ${behalf} (${session})`),
    ),
    ...own('asked', `${span(now - openedAt)} ago`),
    ...own('state', stateInWords(approval, now), approval.state === 'pending' ? 'yellow' : undefined),
    ...own('id', id),
    blank,
    ...statement(approval, columns),
    ...evidence(approval, columns),
    heading(
      edited === undefined ? 'Arguments: all of them, exactly' : 'Arguments with your changes: all of them, exactly',
    ),
    ...theirs(argLines, columns),
    ...(edited === undefined ? own('sha-256', argsDigest) : []),
    ...(argLines.some((line) => rightToLeft.test(line))
      ? own(
          'mind',
          'holds right-to-left letters: the terminal may show parts of those lines in another order',
          'yellow',
        )
      : []),
    blank,
    ...(previous === undefined
      ? [heading('No call of this kind was approved before'), blank]
      : [
          heading('Against the last approved call'),
          ...own('call', `${previous.approval}, asked ${span(now - previous.at)} ago`),
          ...changes(previous.args, args, columns),
          blank,
        ]),
    heading('Why people are asked'),
    ...own('reason', because),
    ...own('rules', rules.join(', ')),
    ...own('policy', policy.slice(0, 12)),
    blank,
    ...(description === undefined
      ? []
      : [heading('What the server says of it, checked by nobody'), ...theirs(description.split('\n'), columns), blank]),
    heading('Answers'),
    ...own('needs', ask.needs.map(needInWords).join(' and ')),
    ...(ask.self ? [] : own('', 'not of the person on whose behalf it is')),
    ...approval.answers.flatMap(({ by, verdict, at, reason }) => [
      ...own(verdict === 'approve' ? 'approved' : 'denied', `by ${by}, ${span(now - at)} ago`),
      ...(reason === undefined ? [] : theirs(reason.split('\n'), columns)),
    ]),
    ...(approval.answers.length === 0 ? own('so far', 'none') : []),
  ]
}

// What was found out about a call -------------------------------------------------------------------------------------

/** A statement of SQL as it was written, with its parameters; it stands in the arguments too, or follows from them. */
function statement({ parts, args, evidence: found = {} }: Approval, columns: number): readonly Line[] {
  const given = typeof found['statement'] === 'string' ? found : parts === undefined ? {} : args
  const { statement: text, parameters } = given
  if (typeof text !== 'string') return []
  const values = Array.isArray(parameters) ? (parameters as readonly Json[]) : []
  return [
    heading('The statement'),
    ...theirs(text.split('\n'), columns),
    ...theirs(
      values.flatMap((value, position) => {
        const [first = '', ...rest] = jsonLines(value)
        return [`$${position + 1} = ${first}`, ...rest]
      }),
      columns,
    ),
    [],
  ]
}

/** What it would do: how many rows, some of them, what else would change. */
function evidence({ evidence: found }: Approval, columns: number): readonly Line[] {
  if (found === undefined) return []
  const own = (label: string, value: string, style?: Style): readonly Line[] => field(label, value, columns, style)
  const { failed, sample, cascades, triggers, reversible, because } = found
  const each = (label: string, all: Json | undefined, words: (one: JsonObject) => string): readonly Line[] =>
    objectsIn(all).flatMap((one, position) => own(position === 0 ? label : '', words(one), 'yellow'))
  return [
    heading('What it would do, as the database says'),
    ...(typeof failed === 'string' ? own('rows', `not known: ${failed}`, 'yellow') : own('rows', rowsInWords(found))),
    ...table(sample, columns),
    ...each(
      'cascades',
      cascades,
      (one) => `${said(one['table'])} (${said(one['column'])}): on ${said(one['on'])} ${said(one['does'])}`,
    ),
    ...each('triggers', triggers, (one) => `${said(one['name'])}, ${said(one['timing'])}: ${said(one['function'])}`),
    ...(typeof reversible === 'boolean'
      ? own('undo', `${reversible ? 'possible' : 'not possible'}: ${said(because)}`, reversible ? undefined : 'yellow')
      : []),
    [],
  ]
}

function rowsInWords({ rows, estimate, atMost, tried, uncounted }: JsonObject): string {
  const why = typeof uncounted === 'string' ? `: ${uncounted}` : ''
  if (typeof rows !== 'number') return `not known${why}`
  const shown = rows.toLocaleString('en')
  if (estimate === true) return `about ${shown}, as the planner believes${why}`
  if (tried === true) return `${shown}: it was tried, and undone because that is more than was expected`
  return atMost === true ? `${shown} at most` : shown
}

/** Columns of a cell of the sample. */
const widest = 24

function table(sample: Json | undefined, columns: number): readonly Line[] {
  const { columns: names, rows } = isObject(sample) ? sample : {}
  if (!Array.isArray(names) || !Array.isArray(rows) || rows.length === 0) return []
  const all: readonly Json[] = [names, ...(rows as readonly Json[])]
  const cells = all.map((row) =>
    (Array.isArray(row) ? (row as readonly Json[]) : []).map((value) => cut(safe(said(value)), widest)),
  )
  return [
    ...field('some', `${rows.length} of them, as the session may see them`, columns),
    ...theirs(columnsOf(cells), columns),
  ]
}

const said = (value: Json | undefined): string =>
  typeof value === 'string' ? value : value === undefined ? '?' : JSON.stringify(value)

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const objectsIn = (value: Json | undefined): readonly JsonObject[] =>
  Array.isArray(value) ? (value as readonly Json[]).filter(isObject) : []

/** More than this is no difference but another call. */
const mostChanges = 200

function changes(before: JsonObject, after: JsonObject, columns: number): readonly Line[] {
  const lines = differencesInLines(differences(before, after))
  if (lines.length === 0) return field('', 'the same arguments', columns)
  const styles: Readonly<Record<string, Style>> = { '+': 'green', '-': 'red', '~': 'yellow' }
  return [
    ...lines.slice(0, mostChanges).flatMap((line) => theirs([line], columns, styles[line.slice(0, 1)])),
    ...(lines.length > mostChanges ? field('', `and ${lines.length - mostChanges} more`, columns) : []),
  ]
}

export function stateInWords({ state, expiresAt, note, replacedBy }: Approval, now: number): string {
  if (state === 'pending') return `pending; expires in ${span(expiresAt - now)} (${moment(expiresAt)})`
  if (state === 'approved') return `approved; has to be used within ${span(expiresAt - now)}`
  return [
    state,
    ...(note === undefined ? [] : [note]),
    ...(replacedBy === undefined ? [] : [`see ${replacedBy}`]),
  ].join('; ')
}
