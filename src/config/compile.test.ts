import { expect, test } from 'vitest'
import type { Scope } from '../core/condition.ts'
import type { JsonObject } from '../core/json.ts'
import { compileCondition } from '../guard/condition.ts'
import { compileEntries, compilePolicy, conditionProblems } from './compile.ts'
import { loadSettings } from './load.ts'

const text = `people:
  anna: { roles: [approver], teams: [support] }
  bert: { roles: [approver], teams: [support] }
facts: { customer_id: int }
approvals: { people: support, within: 5 min }
resources:
  crm:
    mcp: { command: [crm-mcp] }
    tools: { lookup: read, send: send, remove: destroy }
agents:
  reader:
    may:
      - { do: crm:lookup, when: args.id == session.customer_id, limits: { calls: 5/min } }
      - { do: crm:remove, ask: { people: support, count: 2 } }
      - { do: crm:send, ask: true }
    lends: { other: [crm:lookup] }
    limits: { bytes: [1 MB/min, 5 MB/session] }
  other: {}
rules:
  - { deny: ["crm:remove", "*:execute"], when: flow.untrusted, for: [reader] }
  - { ask: "crm:send", when: "args.to == 'x'", count: 2 }
limits: { calls: 100/s }
`
const loaded = loadSettings(text, { file: 'sallyport.yaml' })
const schema = (properties: JsonObject): JsonObject => ({ type: 'object', properties, additionalProperties: false })

test('settings become the policy that they describe', () => {
  const policy = compilePolicy(loaded, { compileCondition })
  const reader = policy.agents.get('reader')
  expect(policy.digest).toBe(loaded.digest)
  expect(policy.defaultAsk).toEqual({ needs: [{ people: 'support', count: 1 }], within: 300_000, self: false })
  expect(policy.limits).toMatchObject([{ measure: 'calls', amount: 100, per: 1000 }])
  expect(reader?.limits.map(({ source }) => source)).toEqual(['1 MB/min', '5 MB/session', '20/min'])
  expect(reader?.may.all.map(({ id, ask }) => [id, ask])).toEqual([
    ['agents.reader.may[0]', undefined],
    ['agents.reader.may[1]', { needs: [{ people: 'support', count: 2 }], within: 300_000, self: false }],
    ['agents.reader.may[2]', policy.defaultAsk],
  ])
  expect(reader?.lends.get('other')?.all.map(({ id }) => id)).toEqual(['agents.reader.lends.other[0]'])
  expect(policy.rules.all.map(({ id, kind, pattern }) => [id, kind, pattern.source])).toEqual([
    ['rules[0]', 'deny', 'crm:remove'],
    ['rules[0]', 'deny', '*:execute'],
    ['rules[1]', 'ask', 'crm:send'],
  ])
  expect(policy.rules.all[2]?.ask?.needs).toEqual([{ people: 'support', count: 2 }])
})

test('a condition that does not compile stops the start, with the place of each', () => {
  const broken = loadSettings(
    text
      .replace('args.id == session.customer_id', 'args.id == session.custmer_id')
      .replace('flow.untrusted', 'flow.untrusted +'),
    { file: 'sallyport.yaml' },
  )
  expect(() => compilePolicy(broken, { compileCondition })).toThrow(
    /^sallyport\.yaml has 2 problems:\n {2}sallyport\.yaml:13:33: agents\.reader\.may\[0\]\.when: .*`customer_id`[^]*rules\[0\]\.when: /,
  )
})

test('conditions are checked against the arguments where they are known', () => {
  const argumentsOf = (permission: string) =>
    permission === 'crm:lookup' ? schema({ idd: { type: 'integer' } }) : undefined
  expect(() => compilePolicy(loaded, { compileCondition, argumentsOf })).toThrow(/may\[0\]\.when: .*`idd`/)
})

test('promise 3: a condition that fits no more denies, and says so', () => {
  const told: string[] = []
  const policy = compilePolicy(loaded, {
    compileCondition,
    argumentsOf: (permission) => (permission === 'crm:lookup' ? schema({ key: { type: 'string' } }) : undefined),
    onBroken: (id, message) => told.push(`${id}: ${message}`),
  })
  const entry = policy.agents.get('reader')?.may.all[0]
  expect(told).toEqual([expect.stringMatching(/^agents\.reader\.may\[0\]: /)])
  expect(() => entry?.when?.evaluate({} as Scope)).toThrow()
})

test('a rule over an effect is not held to the one tool that has its name', () => {
  const argumentsOf = (permission: string) =>
    permission === 'crm:send' ? schema({ body: { type: 'string' } }) : undefined
  expect(conditionProblems(loaded, { compileCondition, argumentsOf })).toEqual([])
})

test('what a session is narrowed to is compiled like any list', () => {
  const facts = loaded.settings.facts
  const entries = compileEntries(
    [{ do: 'crm:lookup', when: 'args.id == 1' }, { do: 'crm:remove' }],
    'ses_1.only',
    facts,
    { compileCondition },
  )
  expect(entries.find('crm:lookup', 'read').map(({ id }) => id)).toEqual(['ses_1.only[0]'])
  expect(() => compileEntries([{ do: 'nothing' }], 'only', facts, { compileCondition })).toThrow(/is not a permission/)
  expect(() => compileEntries([{ do: 'a:b', when: 'session.nothing' }], 'only', facts, { compileCondition })).toThrow(
    /^only\[0\]\.when: /,
  )
})
