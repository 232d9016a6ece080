import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ApprovalView } from '../control/wire.ts'
import type { Approval } from '../core/approval.ts'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'
import { card } from './card.ts'
import { createInbox } from './inbox.ts'
import type { Inbox, InboxPorts } from './inbox.ts'
import { drawn } from './line.ts'
import { width } from './text.ts'

const at = 1_800_000_000_000

const approval = (id: string, more: Partial<Approval> = {}): Approval => ({
  id,
  binding: 'b'.repeat(64),
  state: 'pending',
  chain: [{ session: 'ses_1', agent: 'responder', behalf: 'person:anna' }],
  permission: 'crm:update',
  effect: 'write',
  args: { id: 7 },
  argsDigest: 'd'.repeat(64),
  policy: 'p'.repeat(64),
  rules: ['agents.responder.may[0]'],
  because: 'people look at this',
  ask: { needs: [{ count: 1 }], within: 900_000, self: false },
  openedAt: at,
  expiresAt: at + 900_000,
  answers: [],
  ...more,
})

const viewOf = (of: Approval, more: Partial<ApprovalView> = {}): ApprovalView => ({
  approval: of,
  now: at,
  impact: ['changes data'],
  ...more,
})

/** An inbox over approvals that answers at once, and what it asked of the world. */
function opened(all: readonly Approval[], more: Partial<InboxPorts> = {}) {
  const calls: unknown[][] = []
  const settled = (of: Approval, state: Approval['state']): Approval => ({ ...of, state })
  const byId = (id: string): Approval => all.find((each) => each.id === id) ?? approval(id)
  const ports: InboxPorts = {
    view: async (id) => viewOf(byId(id)),
    answer: async (id, verdict, reason) => {
      calls.push([verdict, id, reason])
      return settled(byId(id), verdict === 'approve' ? 'approved' : 'denied')
    },
    edit: async (id, args, reason) => {
      calls.push(['edit', id, args, reason])
      return settled(approval('appr_new', { args }), 'approved')
    },
    change: async () => undefined,
    reconnect: () => calls.push(['reconnect']),
    bell: () => calls.push(['bell']),
    repaint: () => {},
    quit: () => calls.push(['quit']),
    suspend: () => calls.push(['suspend']),
    ...more,
  }
  const inbox = createInbox(ports, { color: false }, () => at)
  for (const each of all) inbox.changed(each)
  inbox.ready(at)
  inbox.link('live')
  return { inbox, calls }
}

const screen = (inbox: Inbox, rows = 30, columns = 80): string => inbox.frame({ rows, columns }).lines.join('\n')

/** Presses keys one after another; `<Enter>` and the like by name. What they set off is over when it resolves. */
async function press(inbox: Inbox, keys: string): Promise<void> {
  for (const [key] of keys.matchAll(/<\w+>|./gu)) {
    const named = /^<(\w+)>$/.exec(key)?.[1]
    inbox.key(
      named === undefined
        ? { name: key === ' ' ? 'space' : key.toLowerCase(), text: key }
        : { name: named === 'Esc' ? 'escape' : named === 'Enter' ? 'return' : named.toLowerCase(), text: '' },
    )
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve))
    inbox.frame({ rows: 30, columns: 80 })
  }
}

describe('a person', () => {
  test('sees what is pending, oldest first, and how long it has', () => {
    const { inbox } = opened([
      approval('appr_b', { openedAt: at - 60_000, expiresAt: at + 30_000, permission: 'crm:b' }),
      approval('appr_a', { openedAt: at - 120_000, permission: 'crm:a' }),
    ])
    const [, , first, second] = screen(inbox).split('\n')
    expect(first).toMatch(/^▶ a\s+responder\s+crm:a\s+write\s+2m\s+15m/)
    expect(second).toMatch(/^ {2}b\s+responder\s+crm:b\s+write\s+60s\s+30s/)
  })

  test('approves with a reason, having seen the whole question', async () => {
    const { inbox, calls } = opened([approval('appr_a')])
    await press(inbox, 'a')
    expect(screen(inbox)).toContain('"id": 7')
    expect(calls).toEqual([])
    await press(inbox, 'fine<Enter>')
    expect(calls).toEqual([['approve', 'appr_a', 'fine']])
    expect(screen(inbox)).toContain('crm:update is approved')
  })

  test('denies with a reason', async () => {
    const { inbox, calls } = opened([approval('appr_a')])
    await press(inbox, 'dwrong customer<Enter>')
    expect(calls).toEqual([['deny', 'appr_a', 'wrong customer']])
  })

  test('goes back with Esc, and nothing is sent', async () => {
    const { inbox, calls } = opened([approval('appr_a')])
    await press(inbox, 'ayes<Esc>d<Esc><Enter>q')
    expect(calls).toEqual([])
  })

  test.each(['refund', 'yes'])('types `%s` before what can’t be taken back is approved', async (word) => {
    const refund = approval('appr_a', { effect: 'destroy', permission: 'billing:refund' })
    const { inbox, calls } = opened([refund])
    await press(inbox, 'a<Enter>')
    await press(inbox, 'y<Enter>')
    expect(calls).toEqual([])
    expect(screen(inbox)).toContain('can’t be taken back')
    await press(inbox, `<Backspace>${word}<Enter>`)
    expect(calls).toEqual([])
    await press(inbox, '<Enter>')
    expect(calls).toEqual([['approve', 'appr_a', undefined]])
  })

  test('is asked for a word where not all of the arguments was on screen, and is not where it was', async () => {
    const long = approval('appr_a', { args: { list: Array.from({ length: 100 }, (_, index) => index) } })
    const hasty = opened([long])
    await press(hasty.inbox, 'a<Enter>')
    expect(hasty.calls).toEqual([])
    expect(screen(hasty.inbox)).toContain('not all of it was on screen')

    const thorough = opened([long])
    await press(thorough.inbox, '<Enter>      a<Enter>')
    expect(thorough.calls).toEqual([['approve', 'appr_a', undefined]])

    // To jump to the end is not to have seen what is between.
    const jumping = opened([long])
    await press(jumping.inbox, '<Enter>Ga<Enter>')
    expect(jumping.calls).toEqual([])
  })

  test('who is typing an answer loses it when the question is over, and it goes to no other', async () => {
    const { inbox, calls } = opened([approval('appr_a'), approval('appr_b', { openedAt: at + 1 })])
    await press(inbox, 'afi')
    inbox.changed(approval('appr_a', { state: 'void', note: 'its session ended' }))
    expect(screen(inbox)).toContain('appr_a is void: its session ended')
    await press(inbox, 'ne')
    inbox.key({ name: 'return', text: '' })
    expect(calls).toEqual([])
  })

  test('keeps what is selected when others come and go', async () => {
    const { inbox, calls } = opened([approval('appr_a'), approval('appr_b', { openedAt: at + 1 })])
    await press(inbox, 'j')
    inbox.changed(approval('appr_c', { openedAt: at + 2 }))
    inbox.changed(approval('appr_a', { state: 'denied' }))
    await press(inbox, 'd<Enter>')
    expect(calls).toEqual([['bell'], ['deny', 'appr_b', undefined]])
  })

  test('pastes text without answering anything', async () => {
    const { inbox, calls } = opened([approval('appr_a')])
    inbox.key({ name: 'pasted', text: 'a\rq' })
    expect(calls).toEqual([])
    await press(inbox, 'd')
    inbox.key({ name: 'pasted', text: 'two\r\nlines' })
    await press(inbox, '<Enter>')
    expect(calls).toEqual([['deny', 'appr_a', 'two lines']])
  })

  test('changes the arguments, sees what is different, and approves that', async () => {
    const { inbox, calls } = opened([approval('appr_a')], { change: async () => ({ id: 8 }) })
    await press(inbox, 'e')
    expect(screen(inbox)).toContain('~ /id: 7 → 8')
    expect(screen(inbox)).toContain('"id": 8')
    await press(inbox, '<PageDown><Enter>')
    expect(calls).toEqual([['edit', 'appr_a', { id: 8 }, undefined]])
  })

  test('is told what went wrong, and can go on', async () => {
    const { inbox } = opened([approval('appr_a')], {
      answer: () => Promise.reject(new Failure('forbidden', 'you asked for this yourself')),
      change: () => Promise.reject(new Failure('invalid', 'no JSON')),
    })
    await press(inbox, 'a<Enter>')
    expect(screen(inbox)).toContain('you asked for this yourself')
    await press(inbox, 'e')
    expect(screen(inbox)).toContain('no JSON')
  })

  test('hears of new questions, not of those that were there; after a lost connection what is over is gone', () => {
    const { inbox, calls } = opened([approval('appr_a')])
    expect(calls).toEqual([])
    inbox.changed(approval('appr_b'))
    expect(calls).toEqual([['bell']])
    inbox.link('lost', 'no gateway: trying again')
    expect(screen(inbox)).toContain('✗ no gateway')
    inbox.ready(at)
    inbox.changed(approval('appr_b'))
    inbox.ready(at)
    expect(screen(inbox)).toContain('1 pending')
    expect(screen(inbox)).not.toContain('▶ a')
  })
})

// What strangers write ------------------------------------------------------------------------------------------------

const hostile = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc.constantFrom(
    '\x1b[2J\x1b[1;1HAnswers',
    'x\nAnswers\n  approved    by person:admin',
    '\r  ┃ fake',
    '\u202e\u2066\u200b\u{e0041}',
    '日本語'.repeat(30),
    '👩‍👩‍👧‍👦🏳️‍🌈🇩🇪'.repeat(10),
    `e${'\u0301'.repeat(40)}`,
    '\x9b31m\x07\x08\x7f\ud800',
    '─━│┃┆▶',
    ' '.repeat(300),
    '\u3000\u00a0\u2003'.repeat(40),
    'ﷺ'.repeat(50),
  ),
)
const hostileArgs = fc.dictionary(
  hostile,
  fc.oneof(hostile, fc.jsonValue(), fc.array(hostile, { maxLength: 3 })),
) as fc.Arbitrary<JsonObject>

const hostileEvidence = fc.oneof(
  hostileArgs,
  fc.record({
    statement: hostile,
    parameters: fc.array(hostile, { maxLength: 3 }),
    rows: fc.oneof(fc.nat(), hostile),
    estimate: fc.boolean(),
    uncounted: hostile,
    sample: fc.record({
      columns: fc.array(hostile, { maxLength: 3 }),
      rows: fc.array(fc.array(fc.oneof(hostile, fc.jsonValue()), { maxLength: 4 }), { maxLength: 3 }),
    }),
    cascades: fc.array(fc.record({ table: hostile, column: hostile, does: hostile }), { maxLength: 2 }),
    triggers: fc.array(fc.record({ name: hostile, timing: hostile, function: hostile }), { maxLength: 2 }),
    reversible: fc.boolean(),
    because: hostile,
  }),
) as fc.Arbitrary<JsonObject>

const hostileView: fc.Arbitrary<ApprovalView> = fc
  .record({
    args: hostileArgs,
    before: hostileArgs,
    agent: hostile,
    behalf: hostile,
    because: hostile,
    description: hostile,
    reason: hostile,
    permission: hostile,
    rule: hostile,
    found: hostileEvidence,
  })
  .map(({ args, before, agent, behalf, because, description, reason, permission, rule, found }) =>
    viewOf(
      approval('appr_a', {
        args,
        evidence: found,
        because,
        permission,
        rules: [rule],
        chain: [{ session: 'ses_1', agent, behalf }],
        answers: [{ by: behalf, verdict: 'approve', reason, at, teams: [] }],
      }),
      { description, previous: { args: before, at, approval: 'appr_0' } },
    ),
  )

const styles = /\x1b\[[\d;]*m/g // eslint-disable-line no-control-regex -- Our own styles are taken out here.
const obeyed = /[\p{C}\p{Zl}\p{Zp}]/u

/** Lines of a card that begin at the left edge: ours, and no others. */
const headings = [
  'The call',
  'The statement',
  'What it would do, as the database says',
  'Arguments: all of them, exactly',
  'Against the last approved call',
  'No call of this kind was approved before',
  'Why people are asked',
  'What the server says of it, checked by nobody',
  'Answers',
  'Your changes',
]
const labels = [
  'permission',
  'effect',
  'impact',
  'rows',
  'some',
  'cascades',
  'triggers',
  'undo',
  'agent',
  'lent to',
  'asked',
  'state',
  'id',
  'sha-256',
  'mind',
  'call',
  'reason',
  'rules',
  'policy',
  'needs',
  'approved',
  'denied',
  'so far',
  '',
]

describe('promise 6: what an agent wrote draws nothing', () => {
  test('on the card: no control characters, no line too wide, no line that could be ours', () => {
    fc.assert(
      fc.property(hostileView, fc.integer({ min: 60, max: 140 }), (view, columns) => {
        for (const line of card(view, at, columns)) {
          const text = drawn(line, columns, { color: true }).replace(styles, '')
          expect(text).not.toMatch(obeyed)
          expect(width(text)).toBeLessThanOrEqual(columns)
          if (text === '' || headings.includes(text)) continue
          const isTheirs = /^ {2}[┃┆] /u.test(text)
          expect(isTheirs || labels.includes(/^ {2}(.{12})/u.exec(text)?.[1]?.trimEnd() ?? '?')).toBe(true)
          // Right of a bar or a label: the left edge is ours.
          expect(text.slice(0, 2)).toBe('  ')
        }
      }),
      { numRuns: 300 },
    )
  })

  test('on the screen: every frame has its lines, at most as wide as the terminal, from 60 columns up', async () => {
    await fc.assert(
      fc.asyncProperty(
        hostileView,
        fc.integer({ min: 60, max: 140 }),
        fc.integer({ min: 4, max: 40 }),
        fc.constantFrom('', '<Enter>', '<Enter>  ', 'a', 'dx', '?', 'e'),
        async (view, columns, rows, keys) => {
          const { inbox } = opened([view.approval], { view: async () => view, change: async () => view.previous?.args })
          await press(inbox, keys)
          const { lines, cursor } = inbox.frame({ rows, columns })
          expect(lines).toHaveLength(rows)
          for (const line of lines) {
            expect(line).not.toMatch(obeyed)
            expect(width(line)).toBeLessThanOrEqual(columns)
          }
          expect(lines[0]).toMatch(/^ Sallyport approvals · /)
          if (cursor !== undefined) expect(cursor.column).toBeLessThan(columns)
        },
      ),
      { numRuns: 200 },
    )
  })

  test('what is long or right-to-left is not hidden: everything is on the card', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 400 }), (value) => {
        const lines = card(viewOf(approval('appr_a', { args: { value } })), at, 60)
          .map((line) => line.map(([text]) => text).join(''))
          .filter((line) => /^ {2}[┃┆] /u.test(line))
          .map((line) => line.slice(4))
        expect(lines.join('')).toContain(JSON.stringify(value))
      }),
    )
    const hebrew = card(viewOf(approval('appr_a', { args: { to: 'שלום 5000' } })), at, 80)
    expect(
      hebrew
        .flat()
        .map(([text]) => text)
        .join(''),
    ).toContain('right-to-left')
  })
})
