import { expect, test } from 'vitest'
import { counterKey, parseLimit } from '../core/limit.ts'
import type { Counter } from '../core/limit.ts'
import { memoryStores } from '../stores/memory/stores.ts'
import { createCounters } from './counters.ts'

const time = { now: 1_800_000_000_000 }
const clock = (): number => time.now

const repeats = parseLimit('repeats', '3/day')
const repeating = (session: string, call: number) => ({
  applied: {
    limit: repeats,
    key: `${counterKey(`session:${session}:agent:a`, repeats)}:desk:read:${call}`,
    whose: 'agent a',
  },
  cost: 1,
})

async function counting() {
  const stores = memoryStores()
  const counters = await createCounters(stores.counters, clock)
  const saved = async (): Promise<ReadonlyMap<string, Counter>> => {
    await counters.flush(() => false)
    return stores.counters.load()
  }
  return { counters, stores, saved }
}

test('promise 9: a session that never repeats itself is not remembered without bound', async () => {
  const { counters, saved } = await counting()
  for (let call = 0; call < 20_000; call++) expect(counters.take([repeating('ses_1', call)])).toBeUndefined()
  expect((await saved()).size).toBeLessThanOrEqual(1_000)
})

test('promise 9: what is forgotten of one session is not of another', async () => {
  const { counters } = await counting()
  for (let call = 0; call < 3; call++) counters.take([repeating('ses_2', 7)])
  for (let call = 0; call < 20_000; call++) counters.take([repeating('ses_1', call)])
  expect(counters.take([repeating('ses_2', 7)])).toMatchObject({ whose: 'agent a' })
})

test('a loop is seen however many other calls are between, up to the bound', async () => {
  const { counters } = await counting()
  const refused: number[] = []
  for (let round = 0; round < 5; round++)
    for (let call = 0; call < 500; call++)
      if (counters.take([repeating('ses_1', call)]) !== undefined) refused.push(round)
  expect(new Set(refused)).toEqual(new Set([3, 4]))
})

test('what a session that is over has used is forgotten, also in the store', async () => {
  const { counters, stores, saved } = await counting()
  for (let call = 0; call < 50; call++) counters.take([repeating('ses_1', call)])
  expect((await saved()).size).toBe(50)
  await counters.flush(() => true)
  await counters.flush(() => true)
  expect((await stores.counters.load()).size).toBe(0)
})

test('a write that failed is tried again with the next', async () => {
  const { counters, stores } = await counting()
  const { save } = stores.counters
  counters.take([repeating('ses_1', 1)])
  stores.counters.save = () => Promise.reject(new Error('the disk is full'))
  await expect(counters.flush(() => false)).rejects.toThrow(/disk/)
  stores.counters.save = save
  await counters.flush(() => false)
  expect((await stores.counters.load()).size).toBe(1)
})

test('of what runs at once, nothing is left of a restart and nothing goes below none', async () => {
  const { counters, saved } = await counting()
  const limit = parseLimit('concurrent', '1')
  const applied = { limit, key: counterKey('agent:a', limit), whose: 'agent a' }
  counters.add([{ applied, cost: -1 }])
  expect(counters.take([{ applied, cost: 1 }])).toBeUndefined()
  expect(counters.take([{ applied, cost: 1 }])).toBe(applied)
  expect((await saved()).size).toBe(0)
})

test('a counter of a clock that was years ahead is full for one window, not for years', async () => {
  const { counters, stores, saved } = await counting()
  const limit = parseLimit('calls', '1/day')
  const charge = { applied: { limit, key: counterKey('agent:a', limit), whose: 'agent a' }, cost: 1 }
  const years = 3_650 * 86_400_000
  time.now += years
  expect(counters.take([charge])).toBeUndefined()
  await saved()
  time.now -= years
  const after = await createCounters(stores.counters, clock)
  expect(after.take([charge])).toBe(charge.applied)
  time.now += 86_400_000
  expect(after.take([charge])).toBeUndefined()
})
