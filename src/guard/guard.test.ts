import { describe, expect, test } from 'vitest'
import { action, atOnce, counted, createWorld, nobodyLeaves, readPolicy } from '../../test/support/world.ts'
import { Failure } from '../core/failure.ts'
import type { Person } from '../core/identity.ts'
import type { Perform, Performed } from './guard.ts'

const policy = `
facts: { customer_id: int }
resources:
  desk:
    mcp: { command: [desk] }
    tools: { read_ticket: read, refund: write, delete_user: destroy }
people:
  anna: { roles: [approver], teams: [billing] }
  ben: { roles: [approver], teams: [billing] }
  carl: { roles: [approver] }
agents:
  reader:
    may: ["desk:read_ticket"]
    lends: { responder: ["desk:read_ticket"] }
  responder:
    may:
      - { do: "desk:read_ticket", when: args.customer_id == session.customer_id }
      - { do: "desk:refund", when: args.amount <= 5000, ask: { people: billing, within: 15 min } }
      - "desk:delete_user"
    limits: { calls: 5/min }
`

const anna: Person = { kind: 'person', name: 'anna', roles: ['approver'], teams: ['billing'] }
const ben: Person = { ...anna, name: 'ben' }
const carl: Person = { ...anna, name: 'carl', teams: [] }

async function responding(yaml = policy) {
  const world = await createWorld(yaml)
  const { id } = await world.sessions.start({
    agent: 'responder',
    behalf: 'person:dora',
    startedBy: 'service:desk',
    facts: { customer_id: 42 },
  })
  return { ...world, session: id }
}

const run = <T>(
  world: Awaited<ReturnType<typeof responding>>,
  permission: string,
  args: object,
  perform: Perform<T>,
  effect: 'read' | 'write' | 'destroy' = 'read',
  hold = atOnce,
) => world.guard.run(action(world.session, permission, args as never, { effect }), perform, hold, nobodyLeaves)

test('an allowed action is performed, and both the decision and the outcome are written', async () => {
  const world = await responding()
  const { counter, perform } = counted('ticket 7')
  const outcome = await run(world, 'desk:read_ticket', { customer_id: 42 }, perform)
  expect(outcome).toMatchObject({ kind: 'done', value: 'ticket 7' })
  expect(counter.runs).toBe(1)
  expect(world.audit.of('decision')).toMatchObject([
    { decision: 'allow', permission: 'desk:read_ticket', args: { customer_id: 42 } },
  ])
  expect(world.audit.of('action.done')).toMatchObject([
    { of: world.audit.of('decision')[0]!.id, result: { value: 'ticket 7' } },
  ])
})

test('promise 1: the decision is written before the action begins', async () => {
  const world = await responding()
  let seen: unknown
  await run(world, 'desk:read_ticket', { customer_id: 42 }, async () => {
    seen = world.audit.of('decision').length
    return { value: 1, record: 1, bytes: 1, checks: { ran: [] } }
  })
  expect(seen).toBe(1)
})

test('promise 1: what cannot be written down is not done', async () => {
  const world = await responding()
  world.audit.full = true
  const { counter, perform } = counted()
  await expect(run(world, 'desk:read_ticket', { customer_id: 42 }, perform)).rejects.toMatchObject({
    code: 'unavailable',
  })
  expect(counter.runs).toBe(0)
})

test('promise 7: what is written beside an evaluation stands in for nothing of it', async () => {
  const world = await responding()
  const more = {
    decision: 'allow',
    agent: 'nobody',
    session: 'ses_other',
    permission: 'x:y',
    at: 0,
    subject: 'agent:responder',
  }
  await world.guard.evaluate(action(world.session, 'desk:drop_everything', {}), more)
  expect(world.audit.of('evaluation')).toMatchObject([
    {
      decision: 'deny',
      agent: 'responder',
      session: world.session,
      permission: 'desk:drop_everything',
      at: world.time.now,
      subject: 'agent:responder',
    },
  ])
})

test('promise 3: a condition that cannot be evaluated denies', async () => {
  const world = await responding()
  const { counter, perform } = counted()
  const outcome = await run(world, 'desk:read_ticket', {}, perform)
  expect(outcome).toMatchObject({ kind: 'refused', refusal: { code: 'denied' } })
  expect(counter.runs).toBe(0)
})

test('another customer’s ticket is refused, naming what the condition is about but not the condition', async () => {
  const world = await responding()
  const outcome = await run(world, 'desk:read_ticket', { customer_id: 43 }, counted().perform)
  expect(outcome).toMatchObject({
    kind: 'refused',
    refusal: { code: 'denied', because: 'not with these arguments; it reads `customer_id`' },
  })
})

test('an operation that is not held is refused as unknown, and the record tells why', async () => {
  const world = await responding()
  const outcome = await run(world, 'desk:drop_everything', {}, counted().perform)
  expect(outcome).toMatchObject({
    kind: 'refused',
    refusal: { code: 'unknown', because: 'there is no such operation' },
  })
  expect(world.audit.of('decision')[0]).toMatchObject({
    decision: 'deny',
    code: 'unknown',
    detail: 'responder does not hold desk:drop_everything',
  })
})

test('arguments that do not fit their schema are refused before anything is asked', async () => {
  const world = await responding()
  const bad = action(
    world.session,
    'desk:refund',
    { amount: 1 },
    { effect: 'write', problems: [{ path: '/amount', message: 'expected a string' }] },
  )
  const outcome = await world.guard.run(bad, counted().perform, atOnce, nobodyLeaves)
  expect(outcome).toMatchObject({ refusal: { code: 'invalid_arguments', because: '/amount: expected a string' } })
  expect(await world.approvals.list({})).toEqual([])
})

test('promise 5: an approval lets one exact action happen once', async () => {
  const world = await responding()
  const { counter, perform } = counted()
  const ask = async (amount: number) => run(world, 'desk:refund', { amount }, perform, 'write')
  const first = await ask(100)
  expect(first).toMatchObject({ kind: 'refused', refusal: { code: 'approval_pending' } })
  const id = first.kind === 'refused' ? first.refusal.approval!.id : ''
  expect(await ask(100)).toMatchObject({ refusal: { approval: { id } } })

  await world.approvals.answer(id, anna, 'approve', 'known customer')
  expect(await ask(101)).toMatchObject({ refusal: { code: 'approval_pending' } })
  expect(counter.runs).toBe(0)
  expect(await ask(100)).toMatchObject({ kind: 'done' })
  expect(counter.runs).toBe(1)
  const again = await ask(100)
  expect(again).toMatchObject({ refusal: { code: 'approval_pending' } })
  expect(again.kind === 'refused' && again.refusal.approval!.id).not.toBe(id)
  expect(counter.runs).toBe(1)
})

test('promise 5: of many identical calls at once, an approval lets one happen', async () => {
  const world = await responding(policy.replace('calls: 5/min', 'calls: 500/min, repeats: unlimited'))
  const { counter, perform } = counted()
  const first = await run(world, 'desk:refund', { amount: 5 }, perform, 'write')
  await world.approvals.answer(first.kind === 'refused' ? first.refusal.approval!.id : '', anna, 'approve')
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, () => run(world, 'desk:refund', { amount: 5 }, perform, 'write')),
  )
  expect(outcomes.filter(({ kind }) => kind === 'done')).toHaveLength(1)
  expect(counter.runs).toBe(1)
})

test('promise 5: another session asks anew', async () => {
  const world = await responding()
  const { counter, perform } = counted()
  const first = await run(world, 'desk:refund', { amount: 5 }, perform, 'write')
  await world.approvals.answer(first.kind === 'refused' ? first.refusal.approval!.id : '', anna, 'approve')
  const other = await world.sessions.start({
    agent: 'responder',
    behalf: 'person:dora',
    startedBy: 'service:desk',
    facts: { customer_id: 42 },
  })
  const outcome = await run({ ...world, session: other.id }, 'desk:refund', { amount: 5 }, perform, 'write')
  expect(outcome).toMatchObject({ refusal: { code: 'approval_pending' } })
  expect(counter.runs).toBe(0)
})

test('promise 5: a new policy version asks anew', async () => {
  const world = await responding()
  const { counter, perform } = counted()
  const first = await run(world, 'desk:refund', { amount: 5 }, perform, 'write')
  await world.approvals.answer(first.kind === 'refused' ? first.refusal.approval!.id : '', anna, 'approve')
  world.policies.swap(readPolicy(policy.replace('5000', '6000')))
  expect(await run(world, 'desk:refund', { amount: 5 }, perform, 'write')).toMatchObject({
    refusal: { code: 'approval_pending' },
  })
  expect(counter.runs).toBe(0)
})

test('promise 5: who asked through an agent cannot answer, and neither can another team', async () => {
  const world = await createWorld(policy)
  const { id: session } = await world.sessions.start({
    agent: 'responder',
    behalf: 'person:anna',
    startedBy: 'service:desk',
    facts: { customer_id: 42 },
  })
  const outcome = await run({ ...world, session }, 'desk:refund', { amount: 5 }, counted().perform, 'write')
  const id = outcome.kind === 'refused' ? outcome.refusal.approval!.id : ''
  await expect(world.approvals.answer(id, anna, 'approve')).rejects.toMatchObject({ code: 'forbidden' })
  await expect(world.approvals.answer(id, carl, 'approve')).rejects.toMatchObject({ code: 'forbidden' })
  await expect(world.approvals.answer(id, ben, 'approve')).resolves.toMatchObject({ state: 'approved' })
})

test('an edit makes a new question, which lets only the edited call happen', async () => {
  const world = await responding()
  const { counter, perform } = counted()
  const ask = async (amount: number) => run(world, 'desk:refund', { amount }, perform, 'write')
  const first = await ask(500)
  const id = first.kind === 'refused' ? first.refusal.approval!.id : ''
  await world.guard.edit(id, { amount: 50 }, anna, 'half of it was used')
  expect(await world.approvals.get(id)).toMatchObject({ state: 'void' })
  expect(await ask(500)).toMatchObject({ refusal: { code: 'approval_pending' } })
  expect(await ask(50)).toMatchObject({ kind: 'done' })
  expect(counter.runs).toBe(1)
})

test('an edit that policy refuses is refused to the person', async () => {
  const world = await responding()
  const first = await run(world, 'desk:refund', { amount: 500 }, counted().perform, 'write')
  const id = first.kind === 'refused' ? first.refusal.approval!.id : ''
  await expect(world.guard.edit(id, { amount: 5001 }, anna)).rejects.toThrow(/policy refuses it/)
})

test('a call that is held goes on as soon as a person agrees', async () => {
  const world = await responding()
  const { counter, perform } = counted()
  const asked = new Promise<string>((resolve) => world.approvals.watch((approval) => resolve(approval.id)))
  const held = run(world, 'desk:refund', { amount: 5 }, perform, 'write', { most: 60_000 })
  await world.approvals.answer(await asked, anna, 'approve')
  expect(await held).toMatchObject({ kind: 'done' })
  expect(counter.runs).toBe(1)
})

test('a call that is held and denied is told by whom and why', async () => {
  const world = await responding()
  const asked = new Promise<string>((resolve) => world.approvals.watch((approval) => resolve(approval.id)))
  const held = run(world, 'desk:refund', { amount: 5 }, counted().perform, 'write', { most: 60_000 })
  const id = await asked
  await world.approvals.answer(id, anna, 'deny', 'not this week')
  expect(await held).toMatchObject({
    refusal: { code: 'approval_denied', because: `${id} is denied: person:anna: not this week` },
  })
})

test('what cannot be taken back asks by default', async () => {
  const world = await responding()
  const outcome = await run(world, 'desk:delete_user', { id: 1 }, counted().perform, 'destroy')
  expect(outcome).toMatchObject({
    refusal: { code: 'approval_pending', because: 'desk:delete_user cannot be taken back' },
  })
})

test('a limit refuses and says when to try again', async () => {
  const world = await responding()
  for (let call = 0; call < 5; call++)
    expect(await run(world, 'desk:read_ticket', { customer_id: 42, call }, counted().perform)).toMatchObject({
      kind: 'done',
    })
  expect(await run(world, 'desk:read_ticket', { customer_id: 42 }, counted().perform)).toMatchObject({
    refusal: { code: 'limited', retryAt: world.time.now + 12_000 },
  })
  world.time.now += 12_000
  expect(await run(world, 'desk:read_ticket', { customer_id: 42 }, counted().perform)).toMatchObject({ kind: 'done' })
})

test('many calls at once take no more than a limit leaves', async () => {
  const world = await responding()
  const outcomes = await Promise.all(
    Array.from({ length: 50 }, (_, call) =>
      run(world, 'desk:read_ticket', { customer_id: 42, call }, counted().perform),
    ),
  )
  expect(outcomes.filter(({ kind }) => kind === 'done')).toHaveLength(5)
})

test('a limit of what runs at once is given back, whatever became of it', async () => {
  const world = await responding(policy.replace('calls: 5/min', 'concurrent: 1'))
  const broken = run(world, 'desk:read_ticket', { customer_id: 42 }, async () =>
    Promise.reject(new Failure('unavailable', 'gone')),
  )
  await expect(broken).rejects.toThrow('gone')
  expect(await run(world, 'desk:read_ticket', { customer_id: 42 }, counted().perform)).toMatchObject({ kind: 'done' })
})

test('the same call over and over is refused', async () => {
  const world = await responding(policy.replace('calls: 5/min', 'repeats: 3/min'))
  const outcomes = []
  for (let call = 0; call < 4; call++)
    outcomes.push(await run(world, 'desk:read_ticket', { customer_id: 42 }, counted().perform))
  expect(outcomes.map(({ kind }) => kind)).toEqual(['done', 'done', 'done', 'refused'])
  expect(await run(world, 'desk:read_ticket', { customer_id: 42, other: 1 }, counted().perform)).toMatchObject({
    kind: 'done',
  })
})

test('promise 2: ending a session cuts its work and that of all that were made from it', async () => {
  const world = await createWorld(policy)
  const parent = await world.sessions.start({ agent: 'reader', behalf: 'person:dora', startedBy: 'service:desk' })
  const child = await world.sessions.lend(parent.id, { agent: 'responder' })
  const cut: string[] = []
  const slow = async (name: string, signal: AbortSignal): Promise<Performed<string>> =>
    new Promise((_, reject) => signal.addEventListener('abort', () => (cut.push(name), reject(new Error('cut')))))
  const begun = (session: string, name: string) => {
    let started: () => void = () => {}
    const running = new Promise<void>((resolve) => (started = resolve))
    const outcome = world.guard.run(
      action(session, 'desk:read_ticket'),
      (signal) => (started(), slow(name, signal)),
      atOnce,
      nobodyLeaves,
    )
    return { running, outcome }
  }
  const both = [begun(parent.id, 'parent'), begun(child.id, 'child')]
  await Promise.all(both.map(({ running }) => running))
  const ended = world.sessions.end([parent.id], 'enough', 'person:anna')
  await expect(both[0]!.outcome).rejects.toMatchObject({ code: 'cancelled', message: 'enough' })
  await expect(both[1]!.outcome).rejects.toMatchObject({ code: 'cancelled', message: 'enough' })
  expect(await ended).toBe(2)
  expect(cut.sort()).toEqual(['child', 'parent'])
  const after = await world.guard.run(action(child.id, 'desk:read_ticket'), counted().perform, atOnce, nobodyLeaves)
  expect(after).toMatchObject({ kind: 'refused', refusal: { code: 'session_over' } })
  expect(world.audit.of('action.failed')).toHaveLength(2)
})

test('promise 2: work that ignores its signal holds nobody up', async () => {
  const world = await responding()
  let started: () => void = () => {}
  const running = new Promise<void>((resolve) => (started = resolve))
  const outcome = run<string>(world, 'desk:read_ticket', { customer_id: 42 }, () => (started(), new Promise(() => {})))
  await running
  await world.sessions.stop('agent:responder', 'enough', 'person:anna')
  await expect(outcome).rejects.toMatchObject({ code: 'cancelled' })
})

test('promise 2: a child counts against its parent’s limits', async () => {
  const world = await createWorld(
    policy.replace(
      'lends: { responder: ["desk:read_ticket"] }',
      'lends: { responder: ["desk:read_ticket"] }\n    limits: { calls: 2/min }',
    ),
  )
  const parent = await world.sessions.start({ agent: 'reader', behalf: 'person:dora', startedBy: 'service:desk' })
  const child = await world.sessions.lend(parent.id, { agent: 'responder' })
  const call = (session: string, n: number) =>
    world.guard.run(action(session, 'desk:read_ticket', { n }), counted().perform, atOnce, nobodyLeaves)
  expect(await call(child.id, 1)).toMatchObject({ kind: 'done' })
  expect(await call(child.id, 2)).toMatchObject({ kind: 'done' })
  expect(await call(child.id, 3)).toMatchObject({ refusal: { code: 'limited' } })
  expect(await call(parent.id, 4)).toMatchObject({ refusal: { code: 'limited' } })
})

test('promise 9: people are not flooded: a session has at most 20 questions open', async () => {
  const world = await responding(policy.replace('calls: 5/min', 'calls: 500/min'))
  const outcomes = []
  for (let amount = 1; amount <= 22; amount++)
    outcomes.push(await run(world, 'desk:refund', { amount }, counted().perform, 'write'))
  expect(await world.approvals.list({ states: ['pending'] })).toHaveLength(20)
  expect(outcomes.at(-1)).toMatchObject({ kind: 'refused', refusal: { code: 'limited' } })
})

test('a question ends with its session', async () => {
  const world = await responding()
  const first = await run(world, 'desk:refund', { amount: 5 }, counted().perform, 'write')
  await world.sessions.end([world.session], 'done', 'person:anna')
  const id = first.kind === 'refused' ? first.refusal.approval!.id : ''
  await expect(world.approvals.answer(id, anna, 'approve')).rejects.toMatchObject({ code: 'conflict' })
})

test('what was read marks the whole tree of sessions', async () => {
  const world = await createWorld(policy)
  const parent = await world.sessions.start({ agent: 'reader', behalf: 'person:dora', startedBy: 'service:desk' })
  const child = await world.sessions.lend(parent.id, { agent: 'responder' })
  expect(world.sessions.label(parent.id)).toEqual({ trust: 'trusted', readers: 'public' })
  await world.guard.run(action(child.id, 'desk:read_ticket'), counted().perform, atOnce, nobodyLeaves)
  expect(world.sessions.label(parent.id)).toEqual({ trust: 'untrusted', readers: 'internal' })
})

test('promise 7: a record says which inspections ran, which did not, and what was cut', async () => {
  const world = await responding()
  await run(
    world,
    'desk:read_ticket',
    { customer_id: 42, password: 'hunter2', body: 'x'.repeat(50_000) },
    async () => ({
      value: 1,
      record: 'y'.repeat(50_000),
      bytes: 50_000,
      checks: { ran: ['output schema'], skipped: [{ what: 'secrets', because: 'none are configured' }] },
    }),
  )
  const [decision] = world.audit.of('decision')
  expect(JSON.stringify(decision)).not.toContain('hunter2')
  expect(decision).toMatchObject({
    checks: { ran: ['arguments', 'grants', 'limits', 'policy'] },
    cut: expect.arrayContaining([
      expect.objectContaining({ path: '/password', why: 'sensitive' }),
      expect.objectContaining({ path: '/body', why: 'string', was: 50_000 }),
    ]),
  })
  expect(world.audit.of('action.done')[0]).toMatchObject({
    checks: { ran: ['output schema'], skipped: [{ what: 'secrets', because: 'none are configured' }] },
    cut: expect.arrayContaining([expect.objectContaining({ path: '', why: 'string', was: 50_000 })]),
    bytes: 50_000,
  })
})

test('an observed agent is refused nothing by policy, and the record says what would have been', async () => {
  const world = await responding(policy.replace('responder:\n    may:', 'responder:\n    mode: observe\n    may:'))
  const { counter, perform } = counted()
  expect(await run(world, 'desk:drop_everything', {}, perform, 'destroy')).toMatchObject({ kind: 'done' })
  expect(counter.runs).toBe(1)
  expect(world.audit.of('decision')[0]).toMatchObject({ decision: 'allow', would: { decision: 'deny' } })
})

// Timing, and parts that fail --------------------------------------------------------------------------------------------

/** A call that is held until a person answers, and the id of its question. */
async function holding(world: Awaited<ReturnType<typeof responding>>, perform = counted().perform) {
  const asked = new Promise<string>((resolve) => {
    const stop = world.approvals.watch(({ id }) => {
      stop()
      resolve(id)
    })
  })
  const outcome = run(world, 'desk:refund', { amount: 5 }, perform, 'write', { most: 60_000 })
  return { outcome, id: await asked }
}

test('promise 5: an approval under an earlier policy does not let a held call happen', async () => {
  const world = await responding()
  const { counter, perform } = counted()
  const { outcome, id } = await holding(world, perform)
  world.policies.swap(readPolicy(policy.replace('amount <= 5000', 'amount <= 9000')))
  await world.approvals.answer(id, anna, 'approve')
  expect(await outcome).toMatchObject({ kind: 'refused', refusal: { code: 'denied' } })
  expect(counter.runs).toBe(0)
  expect(await world.approvals.get(id)).toMatchObject({ state: 'approved' })
})

test('a record names the policy that decided, also where another came while it was written', async () => {
  const world = await responding()
  const decided = world.policies.current().policy.digest
  const { outcome, id } = await holding(world)
  const { use } = world.stores.approvals
  world.stores.approvals.use = async (...given) => {
    world.policies.swap(readPolicy(policy.replace('amount <= 5000', 'amount <= 9000')))
    return use.apply(world.stores.approvals, given)
  }
  await world.approvals.answer(id, anna, 'approve')
  expect(await outcome).toMatchObject({ kind: 'done' })
  expect(world.audit.of('decision').at(-1)).toMatchObject({ decision: 'allow', policy: decided })
})

test('a record says who tried and what became of it, also where the session ended meanwhile', async () => {
  const world = await responding()
  let started: () => void = () => {}
  const running = new Promise<void>((resolve) => (started = resolve))
  const cut = run(world, 'desk:read_ticket', { customer_id: 42 }, () => (started(), new Promise<never>(() => {})))
  const { outcome: held } = await holding(world)
  await running
  await world.sessions.end([world.session], 'enough', 'person:anna')
  await expect(cut).rejects.toMatchObject({ code: 'cancelled' })
  await held.catch(() => {})
  expect(world.audit.of('action.failed')).toMatchObject([{ agent: 'responder' }])
  expect(world.audit.of('decision').at(-1)).toMatchObject({
    agent: 'responder',
    chain: [{ session: world.session, agent: 'responder', behalf: 'person:dora' }],
  })
})

test('an observed agent is refused nothing by a limit either, whatever else would have been', async () => {
  const world = await responding(
    policy.replace('responder:\n    may:', 'responder:\n    mode: observe\n    may:').replace('5/min', '1/min'),
  )
  for (let call = 0; call < 3; call++)
    expect(await run(world, 'desk:drop', { call }, counted().perform)).toMatchObject({ kind: 'done' })
})

const sending = `
resources:
  out: { tunnel: [a.example, b.example], limits: { sent: 1 kB/session } }
listen: { proxy: "127.0.0.1:7402" }
agents:
  sender: { may: [{ do: "out:connect", ask: never }], lends: { sender: ["out:connect"] } }
`

async function sender(yaml = sending) {
  const world = await createWorld(yaml)
  const { id } = await world.sessions.start({ agent: 'sender', behalf: 'person:dora', startedBy: 'service:desk' })
  const seen = { runs: 0, signal: undefined as AbortSignal | undefined }
  let call = 0
  /** Sends pieces until it is told to stop, and says how many went. */
  const send = (pieces: readonly number[], more: { readonly host?: string; session?: string; sends?: number } = {}) => {
    const { host = 'a.example', session = id, sends } = more
    const given = { effect: 'send', host, ...(sends === undefined ? {} : { sends }) } as const
    return world.guard.run(
      action(session, 'out:connect', { call: call++ }, given),
      async (signal, passed) => {
        seen.runs += 1
        seen.signal = signal
        const gone = pieces.filter((piece) => passed(0, piece))
        return { value: gone.length, record: {}, bytes: 7, checks: { ran: [] } }
      },
      atOnce,
      nobodyLeaves,
    )
  }
  return { ...world, session: id, send, seen }
}

describe('what goes out', () => {
  test('is counted against `sent`, also where it failed, and said', async () => {
    const world = await responding(policy.replace('limits: { calls: 5/min }', 'limits: { sent: 1 kB/session }'))
    const send = (call: number, sent: number, fails: boolean) =>
      run(world, 'desk:read_ticket', { customer_id: 42, call }, async (_signal, passed) => {
        passed(0, sent)
        if (fails) throw new Failure('unavailable', 'it broke off')
        return { value: call, record: {}, bytes: 5_000, checks: { ran: [] } }
      })
    await expect(send(1, 600, true)).rejects.toMatchObject({ code: 'unavailable' })
    expect(world.audit.of('action.failed')).toMatchObject([{ sent: 600 }])
    expect(world.audit.of('action.failed')[0]).not.toHaveProperty('bytes')
    expect(await send(2, 399, false)).toMatchObject({ kind: 'done' })
    expect(await send(3, 1, false)).toMatchObject({ kind: 'done' })
    expect(await send(4, 1, false)).toMatchObject({ kind: 'refused', refusal: { code: 'limited' } })
  })

  test('has room for each host by itself, to the last byte, and never more', async () => {
    const { send, seen, audit } = await sender()
    expect(await send([400, 600])).toMatchObject({ kind: 'done', value: 2 })
    const because = 'the limit of 1 kB/session sent of host a.example of resource out is reached'
    expect(await send([1])).toMatchObject({ kind: 'refused', refusal: { code: 'limited', because } })
    expect(seen.runs).toBe(1)
    expect(await send([1_000], { host: 'b.example' })).toMatchObject({ kind: 'done', value: 1 })
    expect(audit.of('action.done')).toMatchObject([
      { host: 'a.example', sent: 1_000 },
      { host: 'b.example', sent: 1_000 },
    ])
  })

  test('is cut where a limit leaves no more room, and what went is recorded', async () => {
    const { send, seen, audit } = await sender()
    const because =
      'with 300 bytes more, the limit of 1 kB/session sent of host a.example of resource out would be passed'
    await expect(send([400, 400, 300, 100])).rejects.toMatchObject({ code: 'limited', message: because })
    expect(seen.signal?.aborted).toBe(true)
    expect(audit.of('action.failed')).toMatchObject([{ code: 'limited', sent: 800, mayHaveHappened: true, because }])
    expect(await send([200])).toMatchObject({ kind: 'done' })
  })

  test('is refused where not even its beginning may go: nothing happened', async () => {
    const { send, audit } = await sender()
    const refused = await send([1_001])
    expect(refused).toMatchObject({ kind: 'refused', refusal: { code: 'limited' } })
    expect(audit.of('action.failed')).toMatchObject([{ code: 'limited', mayHaveHappened: false }])
    expect(await send([1_000])).toMatchObject({ kind: 'done' })
  })

  test('is refused before anything is begun or asked, where its size is known', async () => {
    const { send, seen, audit } = await sender(sending.replace('ask: never', 'ask: true'))
    expect(await send([], { sends: 1_001 })).toMatchObject({
      kind: 'refused',
      refusal: {
        code: 'limited',
        because:
          'with 1001 bytes more, the limit of 1 kB/session sent of host a.example of resource out would be passed',
      },
    })
    expect(seen.runs).toBe(0)
    expect(audit.of('decision')).toMatchObject([{ decision: 'deny', rules: ['limit:sent'] }])
    expect(await send([], { sends: 1_000 })).toMatchObject({ refusal: { code: 'approval_pending' } })
  })

  test('of several at once is together no more than the limit', async () => {
    const { send, sessions, session } = await sender()
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => send([70, 70])))
    expect(outcomes.filter(({ status }) => status === 'rejected').length).toBeLessThan(20)
    expect(sessions.traffic(session)?.total.sent).toBe(980)
  })

  test('and did not after all is taken back', async () => {
    const { send, sessions, session } = await sender()
    await send([900, -900])
    expect(await send([1_000])).toMatchObject({ kind: 'done' })
    expect(sessions.traffic(session)?.total).toEqual({ requests: 2, sent: 1_000, received: 14 })
  })

  test('of an observed agent is counted and never cut', async () => {
    const { send, sessions, session } = await sender(sending.replace('sender: {', 'sender: { mode: observe,'))
    expect(await send([900, 900])).toMatchObject({ kind: 'done', value: 2 })
    expect(await send([900])).toMatchObject({ kind: 'done', value: 1 })
    expect(sessions.traffic(session)?.total.sent).toBe(2_700)
  })

  test('over a window is held to it for everybody together, and says when there is room again', async () => {
    const { send, sessions, time } = await sender(sending.replace('1 kB/session', '1 kB/min'))
    const other = await sessions.start({ agent: 'sender', behalf: 'person:dora', startedBy: 'service:desk' })
    expect(await send([1_000])).toMatchObject({ kind: 'done' })
    const refused = await send([500], { session: other.id, sends: 500 })
    expect(refused).toMatchObject({ refusal: { code: 'limited', retryAt: time.now + 30_000 } })
    time.now += 30_000
    expect(await send([500], { session: other.id, sends: 500 })).toMatchObject({ kind: 'done' })
  })

  test('promise 2: by a session counts for every session that it was made from, by host too', async () => {
    const { send, sessions, session } = await sender()
    const lent = async () => (await sessions.lend(session, { agent: 'sender' })).id
    const [one, two] = [await lent(), await lent()]
    expect(await send([600], { session: one })).toMatchObject({ kind: 'done' })
    expect(await send([500], { session: two })).toMatchObject({
      kind: 'refused',
      refusal: { because: expect.stringContaining('(in a session that this one was made from)') as string },
    })
    expect(await send([500], { session: two, host: 'b.example' })).toMatchObject({ kind: 'done' })
    expect(await send([400])).toMatchObject({ kind: 'done' })
    expect(await send([1], { session: one })).toMatchObject({ refusal: { code: 'limited' } })
    expect(sessions.traffic(session)).toMatchObject({
      total: { requests: 4, sent: 1_500 },
      hosts: [
        { host: 'a.example', sent: 1_000 },
        { host: 'b.example', sent: 500 },
      ],
    })
    expect(sessions.traffic(one)?.total.sent).toBe(600)
    expect(sessions.traffic(two)?.hosts).toMatchObject([{ host: 'b.example' }, { host: 'a.example', sent: 0 }])
  })
})

test('a result that has no digest is recorded all the same, and the record says so', async () => {
  const world = await responding()
  const outcome = await run(world, 'desk:read_ticket', { customer_id: 42 }, async () => ({
    value: 'x',
    record: { text: 'half a character: \ud800' },
    bytes: 10,
    checks: { ran: [] },
  }))
  expect(outcome).toMatchObject({ kind: 'done', value: 'x' })
  expect(world.audit.of('action.done')).toMatchObject([{ result: { text: 'half a character: \ufffd' } }])
  expect(world.audit.of('action.done')[0]).not.toHaveProperty('resultDigest')
})

test('promise 3: arguments that have no digest are refused, and the refusal is recorded', async () => {
  const world = await responding()
  const { counter, perform } = counted()
  const outcome = await run(world, 'desk:read_ticket', { customer_id: 42, note: '\ud800' }, perform)
  expect(outcome).toMatchObject({ kind: 'refused', refusal: { code: 'invalid_arguments' } })
  expect(world.audit.of('decision')).toMatchObject([{ decision: 'deny', code: 'invalid_arguments' }])
  expect(counter.runs).toBe(0)
})

test('what comes back marks the session while it comes: progress is read before the end', async () => {
  const world = await responding()
  let during: unknown
  await run(world, 'desk:read_ticket', { customer_id: 42 }, async () => {
    during = world.sessions.label(world.session)
    return Promise.reject(new Failure('unavailable', 'it broke off'))
  }).catch(() => {})
  expect(during).toEqual({ trust: 'untrusted', readers: 'internal' })
  expect(world.sessions.label(world.session)).toEqual({ trust: 'untrusted', readers: 'internal' })
})

test('a result is not given away while what it marks is not written', async () => {
  const world = await responding()
  const { setLabel } = world.stores.sessions
  world.stores.sessions.setLabel = () => Promise.reject(new Failure('unavailable', 'the disk is full'))
  for (let call = 0; call < 2; call++)
    await expect(run(world, 'desk:read_ticket', { customer_id: 42, call }, counted().perform)).rejects.toMatchObject({
      code: 'unavailable',
    })
  world.stores.sessions.setLabel = setLabel
  expect(await run(world, 'desk:read_ticket', { customer_id: 42 }, counted().perform)).toMatchObject({ kind: 'done' })
  expect(await world.stores.sessions.get(world.session)).toMatchObject({ label: { trust: 'untrusted' } })
})

test('promise 9: only so many calls of a session wait for people at once; the others are told at once', async () => {
  const world = await responding(policy.replace('calls: 5/min', 'calls: 5000/min'))
  const outcomes = Array.from({ length: 150 }, () =>
    run(world, 'desk:refund', { amount: 5 }, counted().perform, 'write', { most: 60_000 }),
  )
  let told = 0
  for (const outcome of outcomes)
    outcome.then(
      () => (told += 1),
      () => {},
    )
  await expect.poll(() => told).toBe(86)
  await world.sessions.end([world.session], 'enough', 'person:anna')
  await Promise.all(outcomes)
})

test('a refusal by a limit that others filled meanwhile says when to try again', async () => {
  const world = await responding()
  const outcomes = await Promise.all(
    Array.from({ length: 7 }, (_, call) =>
      run(world, 'desk:read_ticket', { customer_id: 42, call }, counted().perform),
    ),
  )
  const again = outcomes.flatMap((outcome) => (outcome.kind === 'refused' ? outcome.refusal.retryAt : []))
  expect(again).toEqual([world.time.now + 12_000, world.time.now + 12_000])
})

test('an operation that is not listed is answered as one that does not exist, and the record tells why', async () => {
  const forbidding = `${policy}\nrules: [{ deny: "desk:delete_user", because: people are never deleted }]`
  const world = await responding(forbidding)
  const refused = await run(world, 'desk:delete_user', { id: 1 }, counted().perform, 'destroy')
  const unheld = await run(world, 'desk:no_such_thing', { id: 1 }, counted().perform, 'destroy')
  const seen = (outcome: typeof refused) => outcome.kind === 'refused' && { ...outcome.refusal, event: '' }
  expect(seen(refused)).toEqual(seen(unheld))
  expect(world.audit.of('decision')[0]).toMatchObject({ code: 'denied', because: 'people are never deleted' })
})

test('people see what was found out for them, and who performs sees what they saw', async () => {
  const world = await responding()
  const { session, guard } = world
  let gathered = 0
  const hold = { most: 0, evidence: async () => ({ rows: 3, gathered: (gathered += 1) }) }
  const delivered: unknown[] = []
  const perform: Perform<string> = async (_cut, _passed, { evidence }) => {
    delivered.push(evidence)
    return { value: 'done', record: 'done', bytes: 4, checks: { ran: [] } }
  }
  const tried = () =>
    guard.run(action(session, 'desk:refund', { amount: 5 }, { effect: 'write' }), perform, hold, nobodyLeaves)
  const first = await tried()
  const id = first.kind === 'refused' ? first.refusal.approval!.id : ''
  expect(await world.approvals.get(id)).toMatchObject({ evidence: { rows: 3, gathered: 1 } })
  await tried()
  await world.approvals.answer(id, anna, 'approve')
  expect(await tried()).toMatchObject({ kind: 'done' })
  expect(delivered).toEqual([{ rows: 3, gathered: 1 }])
})

test('a question is asked also where nothing could be found out, and says so', async () => {
  const world = await responding()
  const evidence = () => Promise.reject(new Failure('unavailable', 'the database takes too long'))
  const outcome = await world.guard.run(
    action(world.session, 'desk:refund', { amount: 5 }, { effect: 'write' }),
    counted().perform,
    { most: 0, evidence },
    nobodyLeaves,
  )
  const id = outcome.kind === 'refused' ? outcome.refusal.approval!.id : ''
  expect(await world.approvals.get(id)).toMatchObject({ evidence: { failed: 'the database takes too long' } })
})

test('the record and the question name every permission that an action needs, and such a question can not be edited', async () => {
  const world = await responding()
  const parts: NonNullable<Parameters<typeof world.guard.run>[0]['parts']> = [
    { permission: 'desk:read_ticket', effect: 'read' as const, args: { customer_id: 42 } },
    { permission: 'desk:refund', effect: 'write' as const, args: { amount: 5 } },
  ]
  const given = action(world.session, 'desk:refund', { statement: 'both' }, { effect: 'write', parts })
  const outcome = await world.guard.run(given, counted().perform, atOnce, nobodyLeaves)
  const id = outcome.kind === 'refused' ? outcome.refusal.approval!.id : ''
  expect(world.audit.of('decision')[0]).toMatchObject({ parts: ['desk:read_ticket', 'desk:refund'] })
  expect(await world.approvals.get(id)).toMatchObject({
    parts: [{ permission: 'desk:read_ticket' }, { effect: 'write' }],
  })
  await expect(world.guard.edit(id, { statement: 'other' }, anna)).rejects.toMatchObject({ code: 'conflict' })
})
