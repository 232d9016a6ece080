import { describe, expect, test } from 'vitest'
import type { ApprovalView } from '../control/wire.ts'
import type { JsonObject } from '../core/json.ts'
import { card } from './card.ts'
import { drawn } from './line.ts'

const shown = (evidence: JsonObject | undefined, args: JsonObject = {}, parts = true): string => {
  const view = {
    now: 1_000,
    impact: [],
    approval: {
      id: 'appr_1',
      binding: '',
      state: 'pending',
      chain: [{ session: 'ses_1', agent: 'worker', behalf: 'person:dora' }],
      permission: 'desk.tickets:delete',
      effect: 'destroy',
      args,
      argsDigest: 'abc',
      policy: 'def',
      rules: ['default:destroy'],
      because: 'it cannot be taken back',
      ask: { needs: [{ count: 1 }], within: 60_000, self: false },
      ...(parts ? { parts: [{ permission: 'desk.tickets:delete', effect: 'destroy' }] } : {}),
      ...(evidence === undefined ? {} : { evidence }),
      openedAt: 0,
      expiresAt: 60_000,
      answers: [],
    },
  } as unknown as ApprovalView
  return card(view, 1_000, 100)
    .map((line) => drawn(line, 100, { color: false }))
    .join('\n')
}

describe('the card of a statement', () => {
  test('shows it as it was written, what it would touch and what else would change', () => {
    const text = shown(
      {
        rows: 1234,
        sample: {
          columns: ['id', 'subject'],
          rows: [
            [1, 'ada one'],
            [22, null],
          ],
        },
        cascades: [{ table: 'public.responses', column: 'ticket_id', on: 'delete', does: 'cascade' }],
        triggers: [{ name: 'log_it', timing: 'after delete', function: 'public.log_it' }],
        reversible: false,
        because: 'rows that are deleted are gone',
      },
      { statement: 'delete from tickets\nwhere id = $1 and body = $2', parameters: [7, 'x'] },
    )
    expect(text).toContain(`The statement
  ┃ delete from tickets
  ┃ where id = $1 and body = $2
  ┃ $1 = 7
  ┃ $2 = "x"

What it would do, as the database says
  rows        1,234
  some        2 of them, as the session may see them
  ┃ id  subject
  ┃ 1   ada one
  ┃ 22  null
  cascades    public.responses (ticket_id): on delete cascade
  triggers    log_it, after delete: public.log_it
  undo        not possible: rows that are deleted are gone
`)
  })

  test.each<[JsonObject, string]>([
    [{ rows: 12, estimate: true, uncounted: 'too slow' }, 'rows        about 12, as the planner believes: too slow'],
    [{ rows: 3, atMost: true }, 'rows        3 at most'],
    [{ rows: 9, tried: true }, 'rows        9: it was tried, and undone because that is more than was expected'],
    [{ uncounted: 'rows are changed in WITH' }, 'rows        not known: rows are changed in WITH'],
    [{ failed: 'the database can’t be reached' }, 'rows        not known: the database can’t be reached'],
  ])('says how sure the number is: %j', (evidence, line) => expect(shown(evidence)).toContain(line))

  test('of an operator’s own tool, the statement comes with the evidence', () => {
    const text = shown({ rows: 1, statement: 'delete from t where id = $1', parameters: [1] }, { id: 1 }, false)
    expect(text).toContain('┃ delete from t where id = $1')
    expect(shown(undefined, { statement: 'of something else' }, false)).not.toContain('The statement')
  })
})
