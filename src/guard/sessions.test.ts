import { expect, test } from 'vitest'
import { createWorld, readPolicy } from '../../test/support/world.ts'
import { Failure } from '../core/failure.ts'
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

// Timing, restarts and stores that fail ---------------------------------------------------------------------------------

const restarted = ({ stores, policies, audit, clock }: Awaited<ReturnType<typeof createWorld>>) =>
  createSessions({ store: stores.sessions, stopStore: stores.stops, policies, audit, clock })

const disk = new Failure('unavailable', 'the disk is full')

test('promise 9: as many children made at once are no more than made one by one', async () => {
  const { sessions } = await createWorld(policy)
  const parent = await sessions.start(starting)
  const made = await Promise.allSettled(
    Array.from({ length: 150 }, () => sessions.lend(parent.id, { agent: 'reader' })),
  )
  expect(made.filter(({ status }) => status === 'fulfilled')).toHaveLength(100)
  await sessions.end([made.find((each) => each.status === 'fulfilled')!.value.id], 'enough', 'person:anna')
  await expect(sessions.lend(parent.id, { agent: 'reader' })).resolves.toMatchObject({ agent: 'reader' })
})

test('promise 9: a tree of sessions has an end in width, too', async () => {
  const { sessions } = await createWorld(policy)
  const root = await sessions.start(starting)
  const children = await Promise.all(Array.from({ length: 20 }, () => sessions.lend(root.id, { agent: 'reader' })))
  const made = await Promise.allSettled(
    children.flatMap(({ id }) => Array.from({ length: 60 }, () => sessions.lend(id, { agent: 'planner' }))),
  )
  expect(made.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'limited' } })
  expect(sessions.live().length).toBe(1_000)
  await sessions.end([children[0]!.id], 'enough', 'person:anna')
  await expect(sessions.lend(root.id, { agent: 'reader' })).resolves.toMatchObject({ agent: 'reader' })
})

test('promise 2: what a parent reads while a child is being made marks the child', async () => {
  const world = await createWorld(policy)
  const { sessions } = world
  const parent = await sessions.start(starting)
  const making = sessions.lend(parent.id, { agent: 'reader' })
  await sessions.mark(parent.id, { trust: 'untrusted', readers: 'private' })
  const child = await making
  expect(sessions.label(child.id)).toEqual({ trust: 'untrusted', readers: 'private' })
  expect((await restarted(world)).label(child.id)).toEqual({ trust: 'untrusted', readers: 'private' })
})

test('a mark that could not be written is written with the next', async () => {
  const world = await createWorld(policy)
  const { id } = await world.sessions.start(starting)
  const { setLabel } = world.stores.sessions
  world.stores.sessions.setLabel = () => Promise.reject(disk)
  await expect(world.sessions.mark(id, { trust: 'untrusted', readers: 'public' })).rejects.toThrow(/disk/)
  world.stores.sessions.setLabel = setLabel
  await world.sessions.mark(id, { trust: 'untrusted', readers: 'public' })
  expect((await restarted(world)).label(id)).toMatchObject({ trust: 'untrusted' })
})

test('a key that is stopped while its session is being made gets none', async () => {
  const { sessions } = await createWorld(policy)
  const making = sessions.start({ ...starting, startedBy: 'key:key_1' })
  await sessions.stop('key:key_1', 'leaked', 'person:anna')
  await expect(making).rejects.toMatchObject({ code: 'forbidden' })
  expect(sessions.live()).toEqual([])
})

test('promise 2: an end that could not be written is in the log, is final here, and is written later', async () => {
  const world = await createWorld(policy)
  const { sessions, stores, audit } = world
  const { id } = await sessions.start(starting)
  const { end } = stores.sessions
  stores.sessions.end = () => Promise.reject(disk)
  await expect(sessions.end([id], 'enough', 'person:anna')).rejects.toThrow(/disk/)
  expect(sessions.chain(id)).toEqual([])
  expect(audit.of('session.end')).toMatchObject([{ session: id, because: 'enough' }])
  stores.sessions.end = end
  await sessions.sweep()
  expect((await restarted(world)).get(id)).toBeUndefined()
  expect(await stores.sessions.get(id)).toMatchObject({ endedBecause: 'enough' })
})

test('a stop that cannot be written fails once, loudly, and holds as long as this runs', async () => {
  const { sessions, stores } = await createWorld(policy)
  await sessions.start(starting)
  stores.sessions.end = () => Promise.reject(disk)
  stores.stops.add = () => Promise.reject(disk)
  await expect(sessions.stop('all', 'alarm', 'person:anna')).rejects.toThrow(/disk/)
  await new Promise((resolve) => setImmediate(resolve))
  expect(sessions.live()).toEqual([])
  await expect(sessions.start(starting)).rejects.toMatchObject({ code: 'forbidden' })
})

test('promise 2: after a restart, a stop holds for sessions whose end was lost', async () => {
  const world = await createWorld(policy)
  const { id } = await world.sessions.start(starting)
  await world.stores.stops.add({ target: 'agent:planner', by: 'person:anna', because: 'alarm', at: world.time.now })
  expect((await restarted(world)).live()).toEqual([])
  expect(await world.stores.sessions.get(id)).toMatchObject({ endedBecause: expect.stringContaining('is stopped') })
})

test('promise 2: after a restart, ending a parent ends all its children, also those of the same moment', async () => {
  const world = await createWorld(policy)
  const parent = await world.sessions.start(starting)
  const children = await Promise.all(
    Array.from({ length: 20 }, () => world.sessions.lend(parent.id, { agent: 'reader' })),
  )
  const again = await restarted(world)
  const flights = children.map(({ id }) => again.flight(id, new AbortController().signal))
  expect(await again.end([parent.id], 'enough', 'person:anna')).toBe(21)
  expect(flights.every(({ signal }) => signal.aborted)).toBe(true)
})

test('a session that could not be written down as begun does not come alive with a restart', async () => {
  const world = await createWorld(policy)
  world.audit.full = true
  await expect(world.sessions.start({ ...starting, startedBy: 'key:key_1' })).rejects.toMatchObject({
    code: 'unavailable',
  })
  world.audit.full = false
  expect((await restarted(world)).live()).toEqual([])
})

test('a clock that was ahead before a restart lengthens no session', async () => {
  const world = await createWorld(policy)
  const { id } = await world.sessions.start(starting)
  world.time.now -= 86_400_000
  expect((await restarted(world)).live()).toEqual([])
  expect(await world.stores.sessions.get(id)).toMatchObject({ endedBecause: expect.stringContaining('clock') })
})

test('who is told of an end and fails at it keeps no session alive', async () => {
  const world = await createWorld(policy)
  const { id } = await world.sessions.start(starting)
  world.sessions.onEnd(() => {
    throw new TypeError('a listener that fails')
  })
  await world.sessions.end([id], 'enough', 'person:anna').catch(() => {})
  expect(world.sessions.get(id)).toBeUndefined()
  expect(await world.stores.sessions.get(id)).toMatchObject({ endedBecause: 'enough' })
})

test('the record of a session’s start has the conditions that it was narrowed with', async () => {
  const { sessions, audit } = await createWorld(policy)
  await sessions.start({ ...starting, only: [{ do: 'desk:read_ticket', when: 'args.id == 7' }, { do: 'desk:refund' }] })
  expect(audit.of('session.start')[0]).toMatchObject({
    only: [{ do: 'desk:read_ticket', when: 'args.id == 7' }, { do: 'desk:refund' }],
  })
})

test('what is only explained does not end while it is', async () => {
  const { sessions, time } = await createWorld(policy)
  const [link] = sessions.chainAs([{ agent: 'planner', behalf: 'agent:planner', facts: {} }])
  time.now += 5_000
  expect(time.now).toBeLessThan(link!.session.deadline)
})
