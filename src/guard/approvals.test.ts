import { expect, test } from 'vitest'
import { action, atOnce, counted, createWorld, nobodyLeaves } from '../../test/support/world.ts'
import type { World } from '../../test/support/world.ts'
import { Failure } from '../core/failure.ts'
import type { Person } from '../core/identity.ts'

const policy = `
resources: { desk: { mcp: { command: [desk] }, tools: { refund: write } } }
people:
  anna: { roles: [approver] }
  ben: { roles: [approver] }
agents:
  responder:
    may: [{ do: "desk:refund", ask: true }]
    lends: { responder: ["desk:refund"] }
    limits: { repeats: unlimited }
`

const anna: Person = { kind: 'person', name: 'anna', roles: ['approver'], teams: [] }
const ben: Person = { ...anna, name: 'ben' }

async function asking(who: { behalf?: string; startedBy?: string } = {}) {
  const world = await createWorld(policy)
  const { id } = await world.sessions.start({
    agent: 'responder',
    behalf: 'person:dora',
    startedBy: 'service:desk',
    ...who,
  })
  return { ...world, session: id }
}

const refund = (world: World, session: string, amount: number, perform = counted().perform) =>
  world.guard.run(action(session, 'desk:refund', { amount }, { effect: 'write' }), perform, atOnce, nobodyLeaves)

async function question(world: World, session: string, amount = 1): Promise<string> {
  const outcome = await refund(world, session, amount)
  return outcome.kind === 'refused' ? (outcome.refusal.approval?.id ?? '') : ''
}

test('promise 9: questions asked at once are no more than those asked one by one', async () => {
  const world = await asking()
  const outcomes = await Promise.all(Array.from({ length: 50 }, (_, amount) => refund(world, world.session, amount)))
  expect(await world.approvals.list({ states: ['pending'] })).toHaveLength(20)
  expect(outcomes.filter((outcome) => outcome.kind === 'refused' && outcome.refusal.code === 'limited')).toHaveLength(
    30,
  )
})

test('promise 9: a session that lends does not get more questions by it, whoever else asks goes on', async () => {
  const world = await asking()
  const children = await Promise.all(
    Array.from({ length: 10 }, () => world.sessions.lend(world.session, { agent: 'responder' })),
  )
  for (const { id } of children) for (let amount = 0; amount < 20; amount++) await refund(world, id, amount)
  expect(await world.approvals.list({ states: ['pending'] })).toHaveLength(60)
  const other = await world.sessions.start({ agent: 'responder', behalf: 'person:eve', startedBy: 'service:desk' })
  expect(await question(world, other.id)).toMatch(/^appr_/)
})

test('a question that was answered or voided makes room for another, also after a restart', async () => {
  const world = await asking()
  for (let amount = 1; amount <= 20; amount++) await refund(world, world.session, amount)
  expect(await refund(world, world.session, 21)).toMatchObject({ refusal: { code: 'limited' } })
  const again = await createWorld(policy, world.stores)
  expect(await refund(again, world.session, 21)).toMatchObject({ refusal: { code: 'limited' } })
  const [first, second] = await world.approvals.list({ states: ['pending'] })
  await world.approvals.answer(first!.id, anna, 'deny')
  expect(await refund(world, world.session, 21)).toMatchObject({ refusal: { code: 'approval_pending' } })
  await world.approvals.void({ id: second!.id }, 'enough')
  expect(await refund(world, world.session, 22)).toMatchObject({ refusal: { code: 'approval_pending' } })
})

test('promise 5: an answer that could not be recorded lets nothing happen', async () => {
  const world = await asking()
  const id = await question(world, world.session)
  world.audit.full = true
  await expect(world.approvals.answer(id, anna, 'approve')).rejects.toMatchObject({ code: 'unavailable' })
  world.audit.full = false
  const { counter, perform } = counted()
  expect(await refund(world, world.session, 1, perform)).toMatchObject({ refusal: { code: 'approval_pending' } })
  expect(counter.runs).toBe(0)
  expect(await world.approvals.get(id)).toMatchObject({ state: 'void' })
})

test('a question that could not be recorded is not put to anybody', async () => {
  const world = await asking()
  world.audit.full = true
  await expect(refund(world, world.session, 1)).rejects.toMatchObject({ code: 'unavailable' })
  expect(await world.approvals.list({ states: ['pending'] })).toEqual([])
})

test.each([
  ['started the session for somebody else', { behalf: 'customer-42', startedBy: 'person:anna' }],
  ['is named in other letters', { behalf: 'Person:ANNA' }],
  ['is named without saying that it is a person', { behalf: 'anna' }],
])('promise 5: who %s is who asks, and cannot answer, not through a chain either', async (_, who) => {
  const world = await asking(who)
  const child = await world.sessions.lend(world.session, { agent: 'responder' })
  for (const session of [world.session, child.id]) {
    const id = await question(world, session)
    await expect(world.approvals.answer(id, anna, 'approve')).rejects.toMatchObject({ code: 'forbidden' })
    await expect(world.approvals.answer(id, ben, 'approve')).resolves.toMatchObject({ state: 'approved' })
  }
})

test('who waits and whose store fails is told so', async () => {
  const world = await asking()
  const id = await question(world, world.session)
  const { get } = world.stores.approvals
  world.stores.approvals.get = () => Promise.reject(new Failure('unavailable', 'the disk is gone'))
  await expect(world.approvals.settled(id, nobodyLeaves)).rejects.toMatchObject({ code: 'unavailable' })
  world.stores.approvals.get = get
})

test('one who listens and fails keeps nobody else from hearing', async () => {
  const world = await asking()
  const heard: string[] = []
  world.approvals.watch(() => {
    throw new TypeError('a listener that fails')
  })
  world.approvals.watch(({ state }) => heard.push(state))
  const id = await question(world, world.session)
  await world.approvals.answer(id, anna, 'approve').catch(() => {})
  expect(heard).toEqual(['pending', 'approved'])
})

test('an edit that changes nothing is refused, and the question stands', async () => {
  const world = await asking()
  const id = await question(world, world.session, 500)
  await expect(world.guard.edit(id, { amount: 500 }, anna)).rejects.toMatchObject({ code: 'invalid' })
  expect(await world.approvals.get(id)).toMatchObject({ state: 'pending' })
})

test('promise 5: who may not answer cannot edit either, and leaves nothing behind', async () => {
  const world = await asking({ behalf: 'person:anna' })
  const id = await question(world, world.session, 500)
  await expect(world.guard.edit(id, { amount: 50 }, anna)).rejects.toMatchObject({ code: 'forbidden' })
  await expect(world.guard.edit(id, { amount: 50 }, { ...ben, roles: ['auditor'] })).rejects.toMatchObject({
    code: 'forbidden',
  })
  expect(await world.approvals.list({})).toMatchObject([{ id, state: 'pending' }])
})

test('promise 5: of an edit and the use of what was asked first, one happens', async () => {
  const world = await asking()
  const id = await question(world, world.session, 500)
  const { void: really } = world.stores.approvals
  world.stores.approvals.void = async (...given) => {
    world.stores.approvals.void = really
    await world.approvals.answer(id, ben, 'approve')
    await world.approvals.use(id)
    return really.apply(world.stores.approvals, given)
  }
  await expect(world.guard.edit(id, { amount: 50 }, anna)).rejects.toMatchObject({ code: 'conflict' })
  expect(await world.approvals.list({})).toMatchObject([{ id, state: 'used' }])
})

test('a session whose questions are all taken can still have one edited', async () => {
  const world = await asking()
  const id = await question(world, world.session, 1)
  for (let amount = 2; amount <= 20; amount++) await refund(world, world.session, amount)
  await expect(world.guard.edit(id, { amount: 100 }, anna)).resolves.toMatchObject({ state: 'approved' })
})

test('promise 5: an approval of what had another effect lets nothing happen', async () => {
  const world = await asking()
  const id = await question(world, world.session)
  await world.approvals.answer(id, anna, 'approve')
  const { counter, perform } = counted()
  const stricter = action(world.session, 'desk:refund', { amount: 1 }, { effect: 'destroy' })
  expect(await world.guard.run(stricter, perform, atOnce, nobodyLeaves)).toMatchObject({
    refusal: { code: 'approval_pending' },
  })
  expect(counter.runs).toBe(0)
})
