/** What evaluating a condition of the policy costs: `node bench/condition.ts`. */
import type { Scope } from '../src/core/condition.ts'
import type { JsonObject } from '../src/core/json.ts'
import { compileCondition } from '../src/guard/condition.ts'

const schema: JsonObject = {
  type: 'object',
  properties: {
    amount: { type: 'number' },
    currency: { type: 'string' },
    customer_id: { type: 'integer' },
    url: { type: 'string' },
    recipients: { type: 'array', items: { type: 'string' } },
    numbers: { type: 'array', items: { type: 'integer' } },
  },
}
const ordinary: JsonObject = {
  amount: 4_200,
  currency: 'EUR',
  customer_id: 42,
  url: 'https://api.example.com/v1/refunds',
  recipients: ['ann@example.com', 'bob@example.com', 'cleo@example.com'],
  numbers: [1, 2, 3],
}
// What an agent could send to make a condition slow.
const hostile: JsonObject = {
  ...ordinary,
  currency: 'a'.repeat(1_000_000),
  url: 'a'.repeat(1_000_000),
  numbers: Array.from({ length: 100_000 }, (_, at) => at),
}
const over = (args: JsonObject): Scope => ({
  args,
  session: { id: 'ses_1', agent: 'responder', behalf: 'person:ann', depth: 0, customer_id: 42 },
  flow: { untrusted: true, private: false },
  now: Date.UTC(2026, 0, 5, 10),
})

const conditions: readonly (readonly [source: string, args: JsonObject])[] = [
  ['args.amount <= 5000', ordinary],
  ['flow.private && flow.untrusted', ordinary],
  ['args.customer_id == session.customer_id', ordinary],
  ['args.amount <= 5000 && args.currency in ["EUR", "USD"] && args.customer_id == session.customer_id', ordinary],
  ['args.recipients.all(to, to.endsWith("@example.com"))', ordinary],
  ['host(args.url) in ["api.example.com", "www.example.com"]', ordinary],
  ['args.url.matches("^https://([a-z]+\\\\.)*example\\\\.com/")', ordinary],
  ['now.getHours("Europe/Berlin") >= 9 && now.getDayOfWeek() in [1, 2, 3, 4, 5]', ordinary],
  ['args.numbers.exists(a, args.numbers.exists(b, a + b == -1))', hostile],
  ['args.numbers.all(a, a in args.numbers)', hostile],
  ['args.url.contains(args.currency)', hostile],
  ['args.url.matches("(a|b|ab)*c")', hostile],
]

console.log('p50 us    p99 us      max us  evaluations/s  condition')
for (const [source, args] of conditions) {
  const condition = compileCondition(source, { args: schema, facts: { customer_id: 'int' } })
  const scope = over(args)
  const run = (): void => {
    try {
      condition.evaluate(scope)
    } catch {
      // Refusing costs time too.
    }
  }
  const rounds = args === hostile ? 200 : 100_000
  for (let warm = 0; warm < rounds; warm++) run()
  const times = new Float64Array(rounds)
  const started = performance.now()
  for (let round = 0; round < rounds; round++) run()
  const elapsed = performance.now() - started
  for (let round = 0; round < rounds; round++) {
    const before = performance.now()
    run()
    times[round] = (performance.now() - before) * 1_000
  }
  times.sort()
  const at = (share: number): string => (times[Math.floor((rounds - 1) * share)] as number).toFixed(1)
  const rate = Math.round((rounds / elapsed) * 1_000)
  const label = `${source}${args === hostile ? '  (hostile arguments)' : ''}`
  console.log(
    `${at(0.5).padStart(6)} ${at(0.99).padStart(9)} ${at(1).padStart(11)} ${String(rate).padStart(14)}  ${label}`,
  )
}
