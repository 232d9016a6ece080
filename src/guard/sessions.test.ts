import { expect, test } from 'vitest'
import { createWorld, readPolicy } from '../../test/support/world.ts'
import { createSessions } from './sessions.ts'

const policy = `
facts: { customer_id: int, region: string }
resources: { desk: { mcp: { command: [desk] }, tools: { read_ticket: read, refund: write } } }
sessions: { deadline: 30 min, max: 2 h, depth: 3 }
agents:
  planner:
    may: ["desk:read_ticket", "desk:refund"]
    lends: { reader: ["desk:read_ticket"], planner: ["desk:read_ticket"] }
  reader:
    may: ["desk:read_ticket"]
    lends: { planner: ["desk:read_ticket"] }
`

const starting = { agent: 'planner', behalf: 'person:dora', startedBy: 'service:desk' }

test('a session lasts half an hour unless said otherwise, and never longer than configured', async () => {
  const { sessions, time } = await createWorld(policy)
  expect((await sessions.start(starting)).deadline).toBe(time.now + 30 * 60_000)
  expect((await sessions.start({ ...starting, lasts: 86_400_000 })).deadline).toBe(time.now + 2 * 3_600_000)
})

test.each([
  ['an agent that policy does not know', { agent: 'nobody' }, 'not_found', /knows no agent/],
  [
    'a fact that is not declared',
    { facts: { customer: 1 } },
    'invalid',
    /no declared fact: expected one of customer_id, region/,
  ],
  ['a fact of another type', { facts: { customer_id: '42' } }, 'invalid', /has to be a int/],
  ['a fact under the name of an inherited property', { facts: { constructor: 'x' } }, 'invalid', /no declared fact/],
  [
    'a permission that the agent does not hold',
    { only: [{ do: 'desk:drop' }] },
    'forbidden',
    /more than planner holds/,
  ],
  ['a wildcard wider than the agent holds', { only: [{ do: 'desk:*' }] }, 'forbidden', /more than planner holds/],
  ['a limit that is none', { limits: { calls: 'many' } }, 'invalid', /expected `100\/min`/],
  ['a limit of something else', { limits: { cups: '1/min' } }, 'invalid', /no limit/],
  ['an end before its beginning', { lasts: 0 }, 'invalid', /longer than nothing/],
] as const)('%s is refused', async (_, change, code, message) => {
  const { sessions, stores } = await createWorld(policy)
  await expect(sessions.start({ ...starting, ...(change as object) })).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message),
  })
  expect(await stores.sessions.list(10)).toEqual([])
})

test('promise 2: a lent session ends no later than the one that lends, and has its facts', async () => {
  const { sessions } = await createWorld(policy)
  const parent = await sessions.start({ ...starting, facts: { customer_id: 42 }, lasts: 60_000 })
  const child = await sessions.lend(parent.id, { agent: 'reader', lasts: 3_600_000, facts: { region: 'eu' } })
  expect(child).toMatchObject({
    deadline: parent.deadline,
    facts: { customer_id: 42, region: 'eu' },
    behalf: 'person:dora',
    parent: parent.id,
  })
})

test.each([
  [
    'a permission that is not lent',
    { agent: 'reader', only: [{ do: 'desk:refund' }] },
    /more than what planner lends to reader holds/,
  ],
  ['a wildcard over what is lent', { agent: 'reader', only: [{ do: 'desk:*' }] }, /more than what planner lends/],
  ['an agent that nothing is lent to', { agent: 'stranger' }, /planner lends nothing to stranger/],
  ['another value for a fact of the lender', { agent: 'reader', facts: { customer_id: 43 } }, /can't be changed/],
])('promise 2: %s can’t be lent', async (_, request, message) => {
  const { sessions } = await createWorld(policy)
  const parent = await sessions.start({ ...starting, facts: { customer_id: 42 } })
  await expect(sessions.lend(parent.id, request)).rejects.toMatchObject({
    code: 'forbidden',
    message: expect.stringMatching(message),
  })
})

test('promise 2: what a session was narrowed to is all that it can lend', async () => {
  const { sessions, guard } = await createWorld(policy)
  const parent = await sessions.start({ ...starting, only: [{ do: 'desk:refund' }] })
  await expect(sessions.lend(parent.id, { agent: 'reader', only: [{ do: 'desk:read_ticket' }] })).rejects.toMatchObject(
    { code: 'forbidden' },
  )
  const child = await sessions.lend(parent.id, { agent: 'reader' })
  expect(guard.visible(child.id, 'desk:read_ticket', 'read')).toBe(false)
})

test('promise 2: a chain has an end', async () => {
  const { sessions } = await createWorld(policy)
  const first = await sessions.start(starting)
  const second = await sessions.lend(first.id, { agent: 'reader' })
  const third = await sessions.lend(second.id, { agent: 'planner' })
  await expect(sessions.lend(third.id, { agent: 'reader' })).rejects.toMatchObject({
    code: 'forbidden',
    message: expect.stringMatching(/at most 3/),
  })
})

test('one session can’t make us keep any number of others', async () => {
  const { sessions } = await createWorld(policy)
  const parent = await sessions.start(starting)
  for (let child = 0; child < 100; child++) await sessions.lend(parent.id, { agent: 'reader' })
  await expect(sessions.lend(parent.id, { agent: 'reader' })).rejects.toMatchObject({ code: 'limited' })
})

test('a permission that policy takes away is gone from sessions that run', async () => {
  const { sessions, guard, policies } = await createWorld(policy)
  const parent = await sessions.start(starting)
  const child = await sessions.lend(parent.id, { agent: 'reader' })
  expect(guard.visible(child.id, 'desk:read_ticket', 'read')).toBe(true)
  policies.swap(readPolicy(policy.replace('lends: { reader: ["desk:read_ticket"], ', 'lends: { ')))
  expect(guard.visible(child.id, 'desk:read_ticket', 'read')).toBe(false)
  expect(guard.visible(parent.id, 'desk:read_ticket', 'read')).toBe(true)
})

test('promise 2: a session that reached its deadline takes those made from it along', async () => {
  const { sessions, time, audit } = await createWorld(policy)
  const parent = await sessions.start({ ...starting, lasts: 1_000 })
  await sessions.lend(parent.id, { agent: 'reader' })
  time.now += 1_000
  await sessions.sweep()
  expect(sessions.live()).toEqual([])
  expect(audit.of('session.end')).toHaveLength(2)
})

test('promise 2: a parent that ends while a child is being made leaves no child', async () => {
  const { sessions } = await createWorld(policy)
  const parent = await sessions.start(starting)
  const making = sessions.lend(parent.id, { agent: 'reader' })
  const ending = sessions.end([parent.id], 'enough', 'person:anna')
  await expect(making).rejects.toMatchObject({ code: 'forbidden' })
  await ending
  expect(sessions.live()).toEqual([])
})

test('sessions and stops are there after a restart', async () => {
  const world = await createWorld(policy)
  const parent = await world.sessions.start({ ...starting, tokenDigest: 'a'.repeat(64) })
  const child = await world.sessions.lend(parent.id, { agent: 'reader' })
  await world.sessions.stop('agent:reader', 'odd', 'person:anna')
  const { stores, policies, audit, clock } = world
  const again = await createSessions({ store: stores.sessions, stopStore: stores.stops, policies, audit, clock })
  expect(again.byToken('a'.repeat(64))).toMatchObject({ id: parent.id })
  expect(again.get(child.id)).toBeUndefined()
  await expect(again.lend(parent.id, { agent: 'reader' })).rejects.toMatchObject({
    code: 'forbidden',
    message: expect.stringMatching(/is stopped/),
  })
  expect(await again.lift('agent:reader', 'person:anna')).toBe(true)
  await expect(again.lend(parent.id, { agent: 'reader' })).resolves.toMatchObject({ agent: 'reader' })
})

test('stopping all ends everything and lets nothing start', async () => {
  const { sessions } = await createWorld(policy)
  await Promise.all([
    sessions.start(starting),
    sessions.start(starting),
    sessions.start({ ...starting, agent: 'reader' }),
  ])
  expect(await sessions.stop('all', 'alarm', 'person:anna')).toBe(3)
  await expect(sessions.start(starting)).rejects.toMatchObject({ code: 'forbidden' })
  expect(await sessions.lift('all', 'person:anna')).toBe(true)
  await expect(sessions.start(starting)).resolves.toMatchObject({ agent: 'planner' })
})
