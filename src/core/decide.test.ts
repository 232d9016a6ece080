import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Action, Part } from './action.ts'
import type { Approval, Ask } from './approval.ts'
import type { Condition, Scope } from './condition.ts'
import { decide, limitsOf, visible } from './decide.ts'
import type { Decision, Facts, Link } from './decide.ts'
import { Failure } from './failure.ts'
import { clean } from './label.ts'
import type { Label } from './label.ts'
import { parseLimit } from './limit.ts'
import type { Limit } from './limit.ts'
import { covers, effects, indexByPermission, parsePattern, rulesOver } from './permission.ts'
import type { Effect } from './permission.ts'
import type { AgentPolicy, Entry, Mode, Policy, Rule } from './policy.ts'

const now = 1_700_000_000_000

// What conditions are is not what is tested here: these few stand for all of them.
const condition = (source: string, evaluate: (scope: Scope) => boolean): Condition => ({
  source,
  reads: ['n'],
  evaluate,
})
const always = condition('true', () => true)
const never = condition('false', () => false)
const broken = condition('args.n', () => {
  throw new Failure('invalid', '`args.n` is missing')
})
const small = condition('args.n <= 10', ({ args }) => Number(args.n) <= 10)
const own = condition('session.key == args.n', ({ args, session }) => session.key === args.n)
const marked = condition('flow.untrusted', ({ flow }) => flow.untrusted)
const first = condition('session.depth == 0', ({ session }) => session.depth === 0)

const someone: Ask = { needs: [{ count: 1 }], within: 60_000, self: false }
const security: Ask = { needs: [{ people: 'security', count: 2 }], within: 30_000, self: false }

type EntryText = { do: string; when?: Condition; ask?: Ask | 'never'; because?: string; limits?: readonly Limit[] }
type RuleText = { deny?: string; ask?: string; when?: Condition; of?: Ask; because?: string; for?: readonly string[] }

const toEntry = ({ do: source, limits = [], ...rest }: EntryText, position: number): Entry => ({
  id: `may[${position}]`,
  pattern: parsePattern(source),
  limits,
  ...rest,
})
const entryIndex = (entries: readonly EntryText[]) => indexByPermission(entries.map(toEntry), covers)
const toRule = ({ deny, ask, of, for: agents, ...rest }: RuleText, position: number): Rule => ({
  id: `rules[${position}]`,
  kind: deny === undefined ? 'ask' : 'deny',
  pattern: parsePattern((deny ?? ask)!),
  ...(of === undefined ? {} : { ask: of }),
  ...(agents === undefined ? {} : { agents: new Set(agents) }),
  ...rest,
})

interface World {
  may?: readonly EntryText[]
  only?: readonly EntryText[]
  rules?: readonly RuleText[]
  mode?: Mode
  limits?: readonly Limit[]
  label?: Label
  approval?: Approval
  facts?: Link['session']['facts']
  counters?: Readonly<Record<string, number>>
  deadline?: number
  endedAt?: number
}

const agentOf = ({ may = [], mode = 'standard', limits = [] }: World, name = 'reader'): AgentPolicy => ({
  name,
  mode,
  may: entryIndex(may),
  lends: new Map(),
  limits,
})

function linkOf(world: World, depth = 0, agent = agentOf(world)): Link {
  const { only, facts = {}, deadline = now + 1, endedAt } = world
  return {
    depth,
    agent,
    holds: [agent.may, ...(only === undefined ? [] : [entryIndex(only)])],
    limits: [],
    session: {
      id: `ses_${depth}`,
      agent: agent.name,
      behalf: 'person:anna',
      facts,
      limits: {},
      startedBy: 'service:desk',
      startedAt: now - 1000,
      deadline,
      label: clean,
      ...(endedAt === undefined ? {} : { endedAt }),
    },
  }
}

const policyOf = (rules: readonly RuleText[], limits: readonly Limit[] = []): Policy => ({
  digest: 'd'.repeat(64),
  agents: new Map(),
  rules: indexByPermission(rules.map(toRule), rulesOver),
  facts: { key: 'int' },
  limits,
  resourceLimits: new Map(),
  defaultAsk: someone,
  delegation: { depth: 4 },
  sessions: { deadline: 1000, maxDeadline: 1000 },
})

function factsOf(world: World, chain: readonly Link[] = [linkOf(world)]): Facts {
  const { rules = [], label = clean, approval, counters = {} } = world
  return {
    policy: policyOf(rules),
    chain,
    label,
    counter: (key) => (Object.hasOwn(counters, key) ? { value: counters[key]! } : undefined),
    argsDigest: 'a'.repeat(64),
    ...(approval === undefined ? {} : { approval }),
  }
}

const actionOf = (permission: string, effect: Effect = 'read', change: Partial<Action> = {}): Action => ({
  session: 'ses_0',
  permission,
  effect,
  args: { n: 5 },
  problems: [],
  label: { trust: 'untrusted', readers: 'internal' },
  via: 'mcp',
  ...change,
})

const decided = (world: World, action: Action = actionOf('crm:lookup')): Decision => decide(action, factsOf(world), now)

/** A decision in a word, so that tables read as sentences: `allow`, `ask`, `denied`, `unknown`, … */
const word = (decision: Decision): string => (decision.kind === 'deny' ? decision.code : decision.kind)

const approvalOf = (ask: Ask, change: Partial<Approval> = {}): Approval => ({
  id: 'appr_1',
  binding: 'b',
  state: 'approved',
  chain: [],
  permission: 'crm:lookup',
  effect: 'read',
  args: {},
  argsDigest: 'a',
  policy: 'd',
  rules: [],
  because: '',
  ask,
  openedAt: now - 1000,
  expiresAt: now + 1000,
  answers: [],
  ...change,
})

const lookup = { do: 'crm:lookup' }
const untrusted: Label = { trust: 'untrusted', readers: 'internal' }

describe('an allow-list', () => {
  test.each<[string, World, Effect, string]>([
    ['lets nothing through when it is empty', {}, 'read', 'unknown'],
    ['lets through what it names', { may: [lookup] }, 'read', 'allow'],
    ['lets nothing else through', { may: [{ do: 'crm:other' }] }, 'read', 'unknown'],
    ['does not know an effect as a name', { may: [{ do: 'crm:read' }] }, 'read', 'unknown'],
    ['lets through by a wildcard where one is written', { may: [{ do: 'crm:*' }] }, 'read', 'allow'],
    ['lets through where the condition holds', { may: [{ ...lookup, when: small }] }, 'read', 'allow'],
    ['refuses where no condition holds', { may: [{ ...lookup, when: never }] }, 'read', 'denied'],
    ['is content with one of two entries', { may: [{ ...lookup, when: never }, lookup] }, 'read', 'allow'],
    ['denies when a condition cannot be evaluated', { may: [{ ...lookup, when: broken }] }, 'read', 'denied'],
    ['denies so even beside an entry that allows', { may: [lookup, { ...lookup, when: broken }] }, 'read', 'denied'],
    ['asks where it says so', { may: [{ ...lookup, ask: someone }] }, 'read', 'ask'],
    ['asks where one of two matching entries says so', { may: [lookup, { do: 'crm:*', ask: someone }] }, 'read', 'ask'],
    ['asks for what destroys, without being told', { may: [lookup] }, 'destroy', 'ask'],
    ['does not ask for what destroys where it says never', { may: [{ ...lookup, ask: 'never' }] }, 'destroy', 'allow'],
    ['asks when only one of two says never', { may: [lookup, { ...lookup, ask: 'never' }] }, 'destroy', 'ask'],
    [
      'is narrowed by what the session was given',
      { may: [{ do: 'crm:*' }], only: [{ do: 'crm:other' }] },
      'read',
      'unknown',
    ],
    ['is never widened by it', { may: [{ do: 'crm:other' }], only: [{ do: '*:*' }] }, 'read', 'unknown'],
    ['holds with the conditions of both', { may: [lookup], only: [{ ...lookup, when: never }] }, 'read', 'denied'],
  ])('%s', (_title, world, effect, expected) => {
    expect(word(decided(world, actionOf('crm:lookup', effect)))).toBe(expected)
  })
})

describe('rules', () => {
  const may = [{ do: '*:*' }]
  test.each<[string, RuleText[], string]>([
    ['deny what they name', [{ deny: 'crm:lookup' }], 'denied'],
    ['deny by effect', [{ deny: '*:send' }], 'denied'],
    ['leave alone what they are not over', [{ deny: 'crm:other' }, { deny: '*:destroy' }], 'allow'],
    ['leave other agents alone', [{ deny: 'crm:lookup', for: ['responder'] }], 'allow'],
    ['deny the agents they name', [{ deny: 'crm:lookup', for: ['responder', 'reader'] }], 'denied'],
    ['deny only where the condition holds', [{ deny: 'crm:lookup', when: never }], 'allow'],
    ['deny when a condition cannot be evaluated', [{ deny: 'crm:lookup', when: broken }], 'denied'],
    ['deny when the condition of a question cannot be evaluated', [{ ask: 'crm:lookup', when: broken }], 'denied'],
    ['ask', [{ ask: '*:send' }], 'ask'],
    ['deny rather than ask', [{ ask: '*:send' }, { deny: '*:send' }], 'denied'],
    ['deny rather than ask, in the other order', [{ deny: '*:send' }, { ask: '*:send' }], 'denied'],
  ])('%s', (_title, rules, expected) => {
    expect(word(decided({ may, rules }, actionOf('crm:lookup', 'send')))).toBe(expected)
  })

  test('that ask ask everybody at once, for the shorter time', () => {
    const decision = decided({ may: [{ ...lookup, ask: someone }], rules: [{ ask: '*:read', of: security }] })
    expect(decision).toMatchObject({
      kind: 'ask',
      rules: ['may[0]', 'rules[0]'],
      ask: { needs: [{ count: 1 }, { people: 'security', count: 2 }], within: 30_000, self: false },
    })
  })

  test('never allow: one with no entry beside it changes nothing', () => {
    expect(word(decided({ rules: [{ ask: 'crm:lookup' }] }))).toBe('unknown')
  })
})

describe('modes', () => {
  test('observe refuses nothing, and says what it would have been', () => {
    expect(decided({ mode: 'observe' })).toMatchObject({ kind: 'allow', would: { kind: 'deny', code: 'unknown' } })
    expect(decided({ mode: 'observe', may: [lookup], rules: [{ deny: '*:*' }] })).toMatchObject({
      kind: 'allow',
      would: { kind: 'deny', code: 'denied', rules: ['rules[0]'] },
    })
  })

  test('observe does not let a bad argument, an ended session or a quarantined tool through', () => {
    const problems = [{ path: '/n', message: 'expected a number' }]
    expect(word(decided({ mode: 'observe' }, actionOf('crm:lookup', 'read', { problems })))).toBe('invalid_arguments')
    expect(word(decided({ mode: 'observe', endedAt: now }))).toBe('session_over')
    const barred = { code: 'quarantined', because: 'changed' } as const
    expect(word(decided({ mode: 'observe' }, actionOf('crm:lookup', 'read', { barred })))).toBe('quarantined')
  })

  test.each<[Effect, Label, string]>([
    ['read', untrusted, 'allow'],
    ['write', clean, 'allow'],
    ['write', untrusted, 'ask'],
    ['send', untrusted, 'ask'],
    ['execute', untrusted, 'ask'],
  ])('lockdown: %s in a session that has read %o: %s', (effect, label, expected) => {
    const may = [{ ...lookup, ask: 'never' as const }]
    expect(word(decided({ mode: 'lockdown', may, label }, actionOf('crm:lookup', effect)))).toBe(expected)
  })
})

describe('what an agent learns', () => {
  test('what it may not use is answered as what does not exist, whatever is wrong with the call', () => {
    const problems = [{ path: '/n', message: 'expected a number' }]
    const barred = { code: 'quarantined', because: 'changed' } as const
    expect(word(decided({}, actionOf('crm:lookup', 'read', { problems, barred })))).toBe('unknown')
  })

  test('arguments that a condition could not read are said to be wrong by the schema first', () => {
    const problems = [{ path: '/n', message: 'expected a number' }]
    const world = { may: [{ ...lookup, when: broken }] }
    expect(decided(world, actionOf('crm:lookup', 'read', { problems }))).toMatchObject({
      code: 'invalid_arguments',
      because: '/n: expected a number',
    })
  })

  test('a refusal names arguments, never the condition', () => {
    const secret = condition('args.n == 4711', () => false)
    const decision = decided({ may: [{ ...lookup, when: secret }] })
    expect(decision.because).toContain('`n`')
    expect(decision.because).not.toContain('4711')
  })

  test('a name that an allow-list holds but an unconditional rule forbids is not listed', () => {
    const world: World = { may: [lookup], rules: [{ deny: 'crm:lookup' }] }
    const { chain, policy } = factsOf(world)
    expect(visible('crm:lookup', 'read', chain, policy)).toBe(false)
    expect(visible('crm:lookup', 'read', chain, policyOf([{ deny: 'crm:lookup', when: always }]))).toBe(true)
  })
})

describe('an end', () => {
  test.each<[string, World]>([
    ['an ended session', { may: [lookup], endedAt: now - 1 }],
    ['a session at its deadline', { may: [lookup], deadline: now }],
  ])('%s does nothing', (_title, world) => {
    expect(word(decided(world))).toBe('session_over')
  })

  test('the end of a parent is the end of its children', () => {
    const world = { may: [lookup] }
    const chain = [linkOf({ ...world, endedAt: now - 1 }), linkOf(world, 1)]
    expect(word(decide(actionOf('crm:lookup'), factsOf(world, chain), now))).toBe('session_over')
  })

  test('no session at all does nothing', () => {
    expect(word(decide(actionOf('crm:lookup'), factsOf({}, []), now))).toBe('session_over')
  })
})

describe('an approval', () => {
  const world = { may: [{ ...lookup, ask: security }] }
  test.each<[string, Approval, string]>([
    ['that answers the question lets it happen', approvalOf(security), 'allow'],
    ['that is pending does not', approvalOf(security, { state: 'pending' }), 'ask'],
    ['that was used does not', approvalOf(security, { state: 'used' }), 'ask'],
    ['whose time is over does not', approvalOf(security, { expiresAt: now }), 'ask'],
    ['of other people does not', approvalOf(someone), 'ask'],
    ['of fewer people does not', approvalOf({ ...security, needs: [{ people: 'security', count: 1 }] }), 'ask'],
    ['that the requester could have given does not', approvalOf({ ...security, self: true }), 'ask'],
  ])('%s', (_title, approval, expected) => {
    expect(word(decided({ ...world, approval }))).toBe(expected)
  })

  test('never beats a denial', () => {
    expect(word(decided({ ...world, approval: approvalOf(security), rules: [{ deny: '*:*' }] }))).toBe('denied')
  })
})

describe('limits', () => {
  const perMinute = parseLimit('calls', '1/min')
  test('of an agent refuse with the moment when there is room again', () => {
    const world = { may: [lookup], limits: [perMinute], counters: { 'agent:reader:calls/60000/1': now + 60_000 } }
    expect(decided(world)).toMatchObject({ kind: 'deny', code: 'limited', retryAt: now + 60_000 })
  })

  test('of a session and of repeats are counted by session', () => {
    const limits = [parseLimit('calls', '9/session'), parseLimit('repeats', '2/min'), perMinute]
    const keys = limitsOf(actionOf('crm:lookup'), factsOf({ may: [lookup], limits })).map(({ key }) => key)
    expect(keys[0]).toMatch(/^session:ses_0:/)
    expect(keys[1]).toMatch(/^session:ses_0:.*crm:lookup:aaaa/)
    expect(keys[2]).toBe('agent:reader:calls/60000/1')
  })

  test('of an entry count the calls of that entry alone', () => {
    const may = [{ ...lookup, limits: [perMinute] }, { do: 'crm:other' }]
    expect(limitsOf(actionOf('crm:lookup'), factsOf({ may }))).toHaveLength(1)
    expect(limitsOf(actionOf('crm:other'), factsOf({ may }))).toHaveLength(0)
  })
})

test('a call is charged once to a counter, and held to the least of its limits', () => {
  const limits = [parseLimit('calls', '9/session'), parseLimit('calls', '5/session')]
  const twice = { do: 'crm:lookup', limits: [parseLimit('calls', '3/min')] }
  const world: World = {
    may: [
      { ...twice, when: small },
      { ...twice, when: marked },
    ],
    limits,
  }
  const chain = [linkOf(world), linkOf(world, 1)]
  const applied = limitsOf(actionOf('crm:lookup'), factsOf(world, chain)).map(({ key, limit: { source } }) => [
    key,
    source,
  ])
  expect(applied).toEqual([
    ['session:ses_0:agent:reader:calls', '5/session'],
    ['entry:reader:crm:lookup:calls/60000/3', '3/min'],
    ['session:ses_1:agent:reader:calls', '5/session'],
  ])
})

// Laws ----------------------------------------------------------------------------------------------------------------

const permission = fc.constantFrom('crm:lookup', 'crm:delete', 'mail:post', 'crm.part:lookup')
const source = fc.oneof(
  permission,
  fc.constantFrom('*:*', 'crm:*', '*:lookup', 'crm.*:lookup', 'crm:destroy', '*:send', '*:write', 'mail:*'),
)
const when = fc.option(fc.constantFrom(always, never, small, own, marked, first, broken), { nil: undefined })
const sound = fc.option(fc.constantFrom(always, never, small, marked, first), { nil: undefined })
const anAsk = fc.constantFrom(someone, security, {
  needs: [{ people: 'security', count: 1 }],
  within: 9_000,
  self: true,
})
const limit = fc.constantFrom(
  parseLimit('calls', '2/min'),
  parseLimit('calls', '3/session'),
  parseLimit('concurrent', '1'),
  parseLimit('bytes', '1 kB/session'),
  parseLimit('repeats', '2/min'),
)
const limits: fc.Arbitrary<readonly Limit[]> = fc.array(limit, { maxLength: 2, size: 'xsmall' })
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })

/** Drops what is undefined: an absent key is not one with nothing in it. */
const tidy = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T

const entry: fc.Arbitrary<EntryText> = fc
  .record({ do: source, when, ask: optional(fc.oneof(anAsk, fc.constant('never' as const))), limits })
  .map((each) => tidy(each) as EntryText)
const plainEntry: fc.Arbitrary<EntryText> = fc
  .record({ do: source, when: sound })
  .map((each) => tidy(each) as EntryText)
const agentNames = ['reader', 'responder', 'fixer', 'sender']
const rule: fc.Arbitrary<RuleText> = fc
  .record({
    kind: fc.constantFrom('deny', 'ask'),
    over: source,
    when,
    of: optional(anAsk),
    for: optional(fc.uniqueArray(fc.constantFrom(...agentNames), { minLength: 1 })),
  })
  .map(({ kind, over, ...rest }) => tidy({ [kind]: over, ...rest }) as RuleText)
const mode = fc.oneof(
  { weight: 3, arbitrary: fc.constant<Mode>('standard') },
  { weight: 1, arbitrary: fc.constantFrom<Mode>('observe', 'lockdown') },
)
const label = fc.constantFrom<Label>(clean, untrusted, { trust: 'untrusted', readers: 'private' })
const action: fc.Arbitrary<Action> = fc
  .record({
    permission,
    effect: fc.constantFrom(...effects),
    n: fc.integer({ min: 0, max: 20 }),
    problem: fc.integer({ min: 0, max: 9 }).map((each) => each === 0),
    barred: fc.integer({ min: 0, max: 9 }).map((each) => each === 0),
  })
  .map(({ permission: name, effect, n, problem, barred }) =>
    actionOf(name, effect, {
      args: { n },
      problems: problem ? [{ path: '/n', message: 'wrong' }] : [],
      ...(barred ? { barred: { code: 'quarantined', because: 'changed' } } : {}),
    }),
  )
const approval = optional(
  fc
    .record({ ask: anAsk, state: fc.constantFrom<Approval['state']>('approved', 'pending', 'used') })
    .map(({ ask, state }) =>
      approvalOf(
        { needs: [{ count: 2 }, { people: 'security', count: 2 }, ...ask.needs], within: ask.within, self: ask.self },
        { state },
      ),
    ),
)
/** By the hash of the key: the same counter has the same value wherever it is read. */
const counters = fc.array(
  fc.option(fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: now, max: now + 90_000 })), { nil: undefined }),
  {
    minLength: 5,
    maxLength: 5,
  },
)
const hashOf = (key: string): number =>
  Array.from(key, (letter) => letter.charCodeAt(0)).reduce((sum, code) => (sum * 31 + code) % 65_521, 7)

const linkText = fc.record({
  may: fc.array(entry, { minLength: 1, maxLength: 4 }),
  only: optional(fc.array(entry, { maxLength: 3 })),
  mode,
  limits,
  key: fc.integer({ min: 0, max: 20 }),
  over: fc.integer({ min: 0, max: 30 }).map((each) => each === 0),
  gone: fc.integer({ min: 0, max: 30 }).map((each) => each === 0),
})
const setting = fc.record({
  links: fc.array(linkText, { minLength: 1, maxLength: 4 }),
  rules: fc.array(rule, { maxLength: 4 }),
  action,
  label,
  approval,
  counters,
  everything: limits,
})
type Setting = typeof setting extends fc.Arbitrary<infer T> ? T : never

function chainOf({ links }: Setting): readonly Link[] {
  return links.map((text, depth) => {
    const { key, over, gone, only, ...rest } = text
    const world: World = {
      ...rest,
      facts: { key },
      ...(only === undefined ? {} : { only }),
      ...(over ? { endedAt: now } : {}),
    }
    const link = linkOf(world, depth, agentOf(world, agentNames[depth]))
    return gone ? { ...link, agent: undefined } : link
  })
}

function decideIn(
  given: Setting,
  change: Partial<{ rules: readonly RuleText[]; chain: readonly Link[] }> = {},
): Decision {
  const facts: Facts = {
    policy: policyOf(
      change.rules ?? given.rules,
      given.everything.filter(({ per, measure }) => per !== 'session' && measure !== 'repeats'),
    ),
    chain: change.chain ?? chainOf(given),
    label: given.label,
    counter: (key) => {
      const value = given.counters[hashOf(key) % given.counters.length]
      return value === undefined ? undefined : { value }
    },
    argsDigest: 'a'.repeat(64),
    ...(given.approval === undefined ? {} : { approval: given.approval }),
  }
  return decide(given.action, facts, now)
}

const rank = ({ kind }: Decision): number => ['allow', 'ask', 'deny'].indexOf(kind)

/** What a decision says, without which of several equal rules is named first. */
const gist = (decision: Decision): unknown => {
  const asked = decision.kind === 'ask' ? decision.ask : undefined
  return {
    word: word(decision),
    ask: asked && { ...asked, needs: asked.needs.map(({ people = '', count }) => `${people} ${count}`).sort() },
    would: decision.kind === 'allow' && decision.would ? word(decision.would) : undefined,
  }
}

const runs = { numRuns: 3000 }

test('the order of rules and of entries never matters', () => {
  fc.assert(
    fc.property(setting, fc.array(fc.nat(), { minLength: 4, maxLength: 4 }), (given, keys) => {
      const shuffled = <T>(all: readonly T[]): T[] =>
        all
          .map((each, at) => [each, keys[at % 4]!] as const)
          .sort((a, b) => a[1] - b[1])
          .map(([each]) => each)
      const links = given.links.map((link) => ({ ...link, may: shuffled(link.may) }))
      expect(gist(decideIn({ ...given, rules: shuffled(given.rules), links }))).toEqual(gist(decideIn(given)))
    }),
    runs,
  )
})

test('one more rule never allows more', () => {
  fc.assert(
    fc.property(setting, rule, (given, more) => {
      expect(rank(decideIn(given, { rules: [...given.rules, more] }))).toBeGreaterThanOrEqual(rank(decideIn(given)))
    }),
    runs,
  )
})

// An entry can hold back as well as allow: by `ask`, by limits, by a condition that cannot be evaluated. So taking one
// away is promised to make nothing freer only where it does none of these.
test('one entry less never turns a denial into anything else', () => {
  const entryWithoutLimits = fc.record({
    do: source,
    when: sound,
    ask: optional(fc.oneof(anAsk, fc.constant('never' as const))),
  })
  const links = fc.record({
    may: fc.array(
      entryWithoutLimits.map((each) => tidy(each) as EntryText),
      { minLength: 1, maxLength: 5 },
    ),
    mode,
  })
  fc.assert(
    fc.property(setting, links, fc.nat(), (given, { may, mode: how }, which) => {
      const one = { ...given.links[0]!, only: undefined, limits: [], mode: how }
      const whole: Setting = { ...given, everything: [], links: [{ ...one, may }] }
      const less: Setting = {
        ...whole,
        links: [{ ...one, may: may.filter((_, position) => position !== which % may.length) }],
      }
      if (decideIn(whole).kind !== 'deny') return
      expect(decideIn(less).kind).toBe('deny')
    }),
    runs,
  )
})

test('one entry less never allows more, where entries only allow', () => {
  fc.assert(
    fc.property(setting, fc.array(plainEntry, { minLength: 1, maxLength: 5 }), fc.nat(), (given, may, which) => {
      const one = { ...given.links[0]!, only: undefined }
      const whole: Setting = { ...given, links: [{ ...one, may }] }
      const less: Setting = {
        ...given,
        links: [{ ...one, may: may.filter((_, position) => position !== which % may.length) }],
      }
      expect(rank(decideIn(less))).toBeGreaterThanOrEqual(rank(decideIn(whole)))
    }),
    runs,
  )
})

test('promise 2: no session is ever allowed what the one it was made from is not, along any chain', () => {
  fc.assert(
    fc.property(setting, (given) => {
      const chain = chainOf(given)
      const decision = decideIn(given, { chain })
      for (let length = 1; length < chain.length; length++)
        expect(rank(decision)).toBeGreaterThanOrEqual(rank(decideIn(given, { chain: chain.slice(0, length) })))
    }),
    { numRuns: 10_000 },
  )
})

test('promise 2: what a child is charged for, every session above it is charged for, too', () => {
  fc.assert(
    fc.property(setting, (given) => {
      const chain = chainOf(given)
      const facts = (links: readonly Link[]): Facts => ({
        ...factsOf({}, links),
        policy: policyOf([], given.everything),
      })
      const charged = limitsOf(given.action, facts(chain)).map(({ key }) => key)
      for (let length = 1; length < chain.length; length++)
        for (const { key } of limitsOf(given.action, facts(chain.slice(0, length)))) expect(charged).toContain(key)
    }),
    runs,
  )
})

test('promise 3: a condition that cannot be evaluated denies, wherever it stands and whatever stands beside it', () => {
  fc.assert(
    fc.property(setting, fc.constantFrom('may', 'only', 'deny', 'ask'), fc.nat(), (given, where, which) => {
      const position = which % given.links.length
      const spoilt = { do: given.action.permission, when: broken }
      const links = given.links.map((link, each) => {
        if (each !== position) return link
        // Only over what the link holds: what it does not hold is unknown, and denied by that.
        if (where === 'may') return { ...link, may: [...link.may, spoilt] }
        return where === 'only' ? { ...link, only: [...(link.only ?? []), spoilt] } : link
      })
      const rules =
        where === 'deny' || where === 'ask'
          ? [...given.rules, { [where]: given.action.permission, when: broken }]
          : given.rules
      const decision = decideIn({ ...given, links, rules })
      const observed = (where === 'may' || where === 'only' ? [links[position]!] : links).every(
        (link) => link.mode === 'observe' && !link.gone,
      )
      // Where only an observed agent's condition fails, another link may still ask.
      if (observed && decision.kind === 'ask') return
      const wouldBe = observed && decision.kind === 'allow' ? decision.would : decision
      expect(wouldBe?.kind).toBe('deny')
    }),
    runs,
  )
})

test('promise 3: what is not listed is never allowed', () => {
  fc.assert(
    fc.property(setting, (given) => {
      const { permission: name, effect } = given.action
      if (visible(name, effect, chainOf(given), policyOf(given.rules))) return
      expect(decideIn(given).kind).toBe('deny')
    }),
    runs,
  )
})

test('the same action, facts and time give the same decision', () => {
  fc.assert(
    fc.property(setting, (given) => {
      expect(decideIn(given)).toEqual(decideIn(given))
    }),
  )
})

describe('an action that needs several permissions', () => {
  const both = (effect: Effect = 'read') =>
    actionOf('db.tickets:select', 'read', {
      parts: [
        { permission: 'db.tickets:select', effect: 'read', args: { n: 5 } },
        { permission: 'db.responses:insert', effect, args: { n: 50 } },
      ],
    })
  const tickets = { do: 'db.tickets:select' }
  const responses = { do: 'db.responses:insert' }

  test.each<[string, World, Effect, string]>([
    ['is allowed where each is', { may: [tickets, responses] }, 'write', 'allow'],
    ['is not there where one is not', { may: [tickets] }, 'write', 'unknown'],
    [
      'is denied where a rule forbids one',
      { may: [tickets, responses], rules: [{ deny: 'db.responses:insert' }] },
      'write',
      'denied',
    ],
    ['asks where one asks', { may: [tickets, { ...responses, ask: someone }] }, 'write', 'ask'],
    ['asks where one destroys', { may: [tickets, responses] }, 'destroy', 'ask'],
    [
      'holds each to the condition of its own entry',
      {
        may: [
          { ...tickets, when: small },
          { ...responses, when: small },
        ],
      },
      'write',
      'denied',
    ],
    ['shows each condition its own arguments', { may: [{ ...tickets, when: small }, responses] }, 'write', 'allow'],
    ['asks by an effect that one has', { may: [tickets, responses], rules: [{ ask: '*:write' }] }, 'write', 'ask'],
  ])('%s', (_, world, effect, expected) => {
    expect(word(decided(world, both(effect)))).toBe(expected)
  })

  test('counts against the limits of each, and once against those of all', () => {
    const limit = parseLimit('calls', '5/min')
    const world: World = {
      may: [
        { ...tickets, limits: [limit] },
        { ...responses, limits: [limit] },
      ],
      limits: [limit],
    }
    expect(limitsOf(both('write'), factsOf(world)).map(({ key }) => key)).toEqual([
      expect.stringContaining('agent:reader'),
      expect.stringContaining('db.tickets:select'),
      expect.stringContaining('db.responses:insert'),
    ])
  })

  test('property: it is never allowed where one of its permissions alone is not', () => {
    const entries = fc.subarray([
      tickets,
      { ...tickets, when: never },
      { ...tickets, ask: someone },
      responses,
      { ...responses, when: small },
    ] as EntryText[])
    const rules = fc.subarray([
      { deny: 'db.tickets:select', when: first },
      { ask: 'db.*:insert' },
      { deny: '*:write' },
    ] as RuleText[])
    fc.assert(
      fc.property(entries, rules, (may, given) => {
        const world = { may, rules: given }
        const alone = both('write').parts!.map((part) =>
          decided(world, actionOf(part.permission, part.effect, { args: part.args })),
        )
        const severity = { allow: 0, ask: 1, deny: 2 }
        expect(severity[decided(world, both('write')).kind]).toBe(Math.max(...alone.map(({ kind }) => severity[kind])))
      }),
    )
  })
})

test('what the gateway can make nothing of is refused with its reason, whatever policy says', () => {
  const refused = { rule: 'sql:function', because: '`pg_sleep` is not a function that can be called here' }
  for (const mode of ['standard', 'observe'] as const)
    expect(decided({ may: [lookup], mode }, actionOf('crm:lookup', 'read', { refused }))).toMatchObject({
      kind: 'deny',
      code: 'denied',
      rules: ['sql:function'],
      because: refused.because,
    })
})

test('wrong arguments are told as such, also where nobody holds the permission of the operation itself', () => {
  const because = '/sql: expected a string'
  const refused = { rule: 'schema', because, code: 'invalid_arguments' } as const
  const world: World = { may: [] }
  expect(decided(world, actionOf('desk:query', 'read', { refused }))).toMatchObject({
    kind: 'deny',
    code: 'invalid_arguments',
    rules: ['schema'],
    because,
  })
  const problems = [{ path: '/sql', message: 'expected a string' }]
  expect(decided({ may: [lookup] }, actionOf('crm:lookup', 'read', { problems }))).toMatchObject({
    kind: 'deny',
    code: 'invalid_arguments',
    because,
  })
  expect(word(decided(world, actionOf('desk:query', 'read', { problems })))).toBe('unknown')
})

test('a resource that wants people asked has them asked, also where an entry never asks', () => {
  const asks = { rule: 'resources.db.tables.tickets.ask', because: 'more than 10 rows' }
  expect(decided({ may: [{ ...lookup, ask: 'never' }] }, actionOf('crm:lookup', 'read', { asks }))).toMatchObject({
    kind: 'ask',
    because: 'more than 10 rows',
    ask: someone,
  })
  expect(word(decided({ may: [] }, actionOf('crm:lookup', 'read', { asks })))).toBe('unknown')
})

test('limits of a database count what is done to any of its tables, once for each statement', () => {
  const facts = factsOf({ may: [lookup] })
  const limits = [parseLimit('calls', '5/min')]
  const policy = { ...facts.policy, resourceLimits: new Map([['desk', limits]]) }
  const parts = ['desk.tickets:select', 'desk.responses:insert'].map((permission): Part => ({
    permission,
    effect: 'write',
    args: {},
  }))
  const action = actionOf('desk.tickets:select', 'read', { via: 'sql', parts })
  expect(limitsOf(action, { ...facts, policy })).toMatchObject([{ limit: { source: '5/min' } }])
  expect(limitsOf(actionOf('crm.tickets:select'), { ...facts, policy })).toEqual([])
})

test('statements of programs may repeat; calls of tools may not', () => {
  const world: World = { may: [lookup], limits: [parseLimit('repeats', '20/min'), parseLimit('calls', '5/min')] }
  const measures = (via: Action['via']) =>
    limitsOf(actionOf('crm:lookup', 'read', { via }), factsOf(world)).map(({ limit }) => limit.measure)
  expect(measures('mcp')).toEqual(['repeats', 'calls'])
  expect(measures('sql')).toEqual(['calls'])
})
