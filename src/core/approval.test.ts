import fc from 'fast-check'
import { expect, test } from 'vitest'
import { answered, bothAsks, expired, useWithin } from './approval.ts'
import type { Answer, Approval, Ask } from './approval.ts'
import { Failure } from './failure.ts'

const opened = 1_000_000

const question = (change: Partial<Approval> = {}): Approval => ({
  id: 'appr_1',
  binding: 'b'.repeat(64),
  state: 'pending',
  chain: [{ session: 'ses_1', agent: 'responder', behalf: 'person:anna' }],
  permission: 'billing:refund',
  effect: 'destroy',
  args: { amount: 900 },
  argsDigest: 'a'.repeat(64),
  policy: 'p'.repeat(64),
  rules: ['rules[0]'],
  because: 'money leaves',
  ask: { needs: [{ people: 'billing', count: 1 }], within: 60_000, self: false },
  openedAt: opened,
  expiresAt: opened + 60_000,
  answers: [],
  ...change,
})

const answer = (
  by: string,
  verdict: Answer['verdict'] = 'approve',
  teams: readonly string[] = ['billing'],
): Answer => ({
  by: `person:${by}`,
  verdict,
  at: opened + 1000,
  teams,
})

const codeOf = (act: () => unknown): string => {
  try {
    act()
  } catch (thrown) {
    return Failure.from(thrown).code
  }
  return 'none'
}

test('one of the team approves, and it can be used for a while', () => {
  expect(answered(question(), answer('bert'))).toMatchObject({
    state: 'approved',
    expiresAt: opened + 1000 + useWithin,
  })
})

test('the first denial ends it, whoever approved before', () => {
  const ask = { needs: [{ people: 'billing', count: 2 }], within: 60_000, self: false }
  const half = answered(question({ ask }), answer('bert'))
  expect(half.state).toBe('pending')
  expect(answered(half, { ...answer('carl', 'deny'), reason: 'too much' })).toMatchObject({
    state: 'denied',
    note: 'person:carl: too much',
  })
})

test('so many different people have to agree', () => {
  const ask = { needs: [{ people: 'billing', count: 2 }], within: 60_000, self: false }
  const half = answered(question({ ask }), answer('bert'))
  expect(codeOf(() => answered(half, answer('bert')))).toBe('conflict')
  expect(answered(half, answer('carl')).state).toBe('approved')
})

test('of two teams, each has to agree; who is in both speaks for both', () => {
  const needs = [
    { people: 'billing', count: 1 },
    { people: 'security', count: 1 },
  ]
  const ask = { needs, within: 60_000, self: false }
  const half = answered(question({ ask }), answer('bert'))
  expect(half.state).toBe('pending')
  expect(answered(half, answer('carl', 'approve', ['security'])).state).toBe('approved')
  expect(answered(question({ ask }), answer('dora', 'approve', ['billing', 'security'])).state).toBe('approved')
})

test.each([
  ['somebody of another team', answer('bert', 'approve', ['support']), 'forbidden'],
  ['a denial by somebody of another team', answer('bert', 'deny', ['support']), 'forbidden'],
  ['who asked for it through the agent', answer('anna'), 'forbidden'],
  ['an answer that comes when time is over', { ...answer('bert'), at: opened + 60_000 }, 'conflict'],
] as const)('%s is refused', (_who, given, code) => {
  expect(codeOf(() => answered(question(), given))).toBe(code)
})

test('a question may be put to one person by name', () => {
  const ask = { needs: [{ people: 'bert', count: 1 }], within: 60_000, self: false }
  expect(answered(question({ ask }), answer('bert', 'approve', [])).state).toBe('approved')
  expect(codeOf(() => answered(question({ ask }), answer('carl', 'approve', [])))).toBe('forbidden')
})

test.each(['approved', 'denied', 'expired', 'used', 'void'] as const)('one that is %s takes no answer', (state) => {
  expect(codeOf(() => answered(question({ state }), answer('bert')))).toBe('conflict')
})

test('one that nobody answered or used in time is expired, and stays so', () => {
  expect(expired(question(), opened + 59_999).state).toBe('pending')
  expect(expired(question(), opened + 60_000).state).toBe('expired')
  expect(expired(question({ state: 'approved' }), opened + 60_000).state).toBe('expired')
  expect(expired(question({ state: 'used' }), opened + 60_000).state).toBe('used')
})

const name = fc.constantFrom('anna', 'bert', 'carl', 'dora')
const team = fc.constantFrom('billing', 'security')
const need = fc.oneof(
  fc.record({ people: fc.oneof(team, name), count: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ count: fc.integer({ min: 1, max: 3 }) }),
)
const ask: fc.Arbitrary<Ask> = fc.record({
  needs: fc.array(need, { minLength: 1, maxLength: 3 }),
  within: fc.integer({ min: 1, max: 100_000 }),
  self: fc.boolean(),
})
const anyAnswer = fc.record({
  by: name.map((by) => `person:${by}`),
  verdict: fc.constantFrom('approve' as const, 'deny' as const),
  at: fc.integer({ min: opened, max: opened + 120_000 }),
  teams: fc.uniqueArray(team),
})
const chain = fc.array(
  fc.record({
    session: fc.constant('ses'),
    agent: fc.constant('reader'),
    behalf: fc.oneof(
      name.map((each) => `person:${each}`),
      fc.constant('service:desk'),
    ),
  }),
  { minLength: 1, maxLength: 4 },
)

/** What becomes of a question when these answers come, each that is refused being as if it never came. */
const after = (from: Approval, answers: readonly Answer[]): Approval =>
  answers.reduce((standing, each) => {
    try {
      return answered(standing, each)
    } catch {
      return standing
    }
  }, from)

test('promise 5: nobody approves their own request, through however many agents, unless policy says so', () => {
  fc.assert(
    fc.property(chain, ask, fc.array(anyAnswer, { maxLength: 8 }), (links, given, answers) => {
      const end = after(question({ chain: links, ask: given }), answers)
      if (given.self) return
      for (const { by } of end.answers) expect(links.map(({ behalf }) => behalf)).not.toContain(by)
    }),
  )
})

test('promise 5: it is approved only by as many different people as every need says, and by no denial', () => {
  fc.assert(
    fc.property(ask, fc.array(anyAnswer, { maxLength: 12 }), (given, answers) => {
      const end = after(question({ ask: given }), answers)
      expect(new Set(end.answers.map(({ by }) => by)).size).toBe(end.answers.length)
      if (end.state !== 'approved') return
      expect(end.answers.every(({ verdict }) => verdict === 'approve')).toBe(true)
      for (const { people, count } of given.needs) {
        const heard = end.answers.filter(
          ({ by, teams }) => people === undefined || teams.includes(people) || by === `person:${people}`,
        )
        expect(heard.length).toBeGreaterThanOrEqual(count)
      }
    }),
  )
})

test('promise 5: once it is answered for good, no later answer changes it', () => {
  fc.assert(
    fc.property(ask, fc.array(anyAnswer, { maxLength: 8 }), anyAnswer, (given, answers, late) => {
      const end = after(question({ ask: given }), answers)
      if (end.state === 'pending') return
      expect(after(end, [late])).toEqual(end)
    }),
  )
})

test('two asks at once demand all that each demands, in either order', () => {
  fc.assert(
    fc.property(ask, ask, (a, b) => {
      const both = bothAsks(a, b)
      for (const each of [...a.needs, ...b.needs])
        expect(both.needs.some(({ people, count }) => people === each.people && count >= each.count)).toBe(true)
      expect(both.within).toBe(Math.min(a.within, b.within))
      expect(both.self).toBe(a.self && b.self)
    }),
  )
})
