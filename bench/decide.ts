// How long one decision takes over 10, 100 and 1,000 rules with conditions, in three shapes of policy:
//   spread    every rule is over another permission, as policies mostly are: the index finds the few that matter
//   one       every rule is over the permission that is tried: all conditions are evaluated
//   wildcard  every rule is over an effect (`*:send`): all are found, all conditions are evaluated
// `node bench/decide.ts [decisions]`

import { readSettings } from '../src/config/load.ts'
import { compilePolicy } from '../src/config/compile.ts'
import type { Action } from '../src/core/action.ts'
import { decide } from '../src/core/decide.ts'
import type { Facts, Link } from '../src/core/decide.ts'
import { clean } from '../src/core/label.ts'
import { compileCondition } from '../src/guard/condition.ts'

const rounds = Number(process.argv[2] ?? 20_000)
const now = Date.now()
const shapes = ['spread', 'one', 'wildcard'] as const
const depths = [1, 4]

interface Row {
  readonly shape: string
  readonly rules: number
  readonly chain: number
  readonly 'p50 µs': string
  readonly 'p99 µs': string
  readonly 'decisions/s': number
  readonly 'load ms': string
}

const settingsOf = (shape: (typeof shapes)[number], count: number): object => {
  const tools = Object.fromEntries(Array.from({ length: count }, (_, at) => [`tool_${at}`, 'send']))
  const over = (at: number): string => ({ spread: `crm:tool_${at}`, one: 'crm:tool_0', wildcard: '*:send' })[shape]
  return {
    facts: { customer_id: 'int' },
    resources: { crm: { mcp: { command: ['crm-mcp'] }, tools } },
    agents: {
      reader: {
        may: Object.keys(tools).map((tool) => ({ do: `crm:${tool}`, when: 'args.customer == session.customer_id' })),
        limits: { calls: '1000000/s' },
      },
    },
    rules: Array.from({ length: count }, (_, at) => ({
      deny: over(at),
      when: `args.amount > ${1000 + at} && (flow.untrusted || args.currency != 'EUR')`,
    })),
  }
}

function measure(shape: (typeof shapes)[number], count: number, depth: number): Row {
  const begun = performance.now()
  const { loaded, problems } = readSettings(JSON.stringify(settingsOf(shape, count)), { file: 'bench.yaml' })
  if (loaded === undefined) throw new Error(JSON.stringify(problems))
  const policy = compilePolicy(loaded, { compileCondition })
  const took = performance.now() - begun

  const agent = policy.agents.get('reader')
  if (agent === undefined) throw new Error('there is no agent')
  const chain = Array.from({ length: depth }, (_, at): Link => ({
    depth: at,
    agent,
    holds: [agent.may],
    limits: [],
    session: {
      id: `ses_${at}`,
      agent: 'reader',
      behalf: 'person:anna',
      facts: { customer_id: 42 },
      limits: {},
      startedBy: 'service:desk',
      startedAt: now,
      deadline: now + 60_000,
      label: clean,
    },
  }))
  const facts: Facts = { policy, chain, label: clean, counter: () => undefined, argsDigest: 'a'.repeat(64) }
  const action: Action = {
    session: 'ses_0',
    permission: 'crm:tool_0',
    effect: 'send',
    args: { customer: 42, amount: 500, currency: 'EUR' },
    problems: [],
    label: clean,
    via: 'mcp',
  }
  const times = new Float64Array(rounds)
  const many = Math.max(200, Math.round(rounds / (shape === 'spread' ? 1 : count / 10)))
  for (let round = -Math.min(many, 2000); round < many; round++) {
    const start = performance.now()
    const { kind } = decide(action, facts, now)
    if (kind !== 'allow') throw new Error(`expected allow, not ${kind}`)
    if (round >= 0) times[round] = (performance.now() - start) * 1000
  }
  const sorted = times.subarray(0, many).sort()
  const total = sorted.reduce((sum, each) => sum + each, 0)
  return {
    shape,
    rules: count,
    chain: depth,
    'p50 µs': at(sorted, 0.5).toFixed(1),
    'p99 µs': at(sorted, 0.99).toFixed(1),
    'decisions/s': Math.round(many / (total / 1e6)),
    'load ms': took.toFixed(0),
  }
}

const at = (sorted: Float64Array, part: number): number => sorted[Math.floor((sorted.length - 1) * part)] ?? NaN

const rows = shapes.flatMap((shape) =>
  [10, 100, 1000].flatMap((count) => depths.map((depth) => measure(shape, count, depth))),
)
console.table(rows)
