import { afterAll, afterEach, expect, test } from 'vitest'
import type { TimeSource } from '../../src/guard/clock.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'
import { scriptedUpstream } from '../support/upstream.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})
afterAll(removeFolders)

const minute = 60_000
const day = 24 * 60 * minute

/** The clocks of a machine: one that shows the time of day and can be set, and one that only runs. */
function machine() {
  const at = { wall: Date.now(), steady: 1_000 }
  const time: TimeSource = { wall: () => at.wall, steady: () => at.steady }
  return {
    time,
    /** Somebody sets the clock; no time passes. */
    set: (by: number) => void (at.wall += by),
    pass(by: number) {
      at.wall += by
      at.steady += by
    },
  }
}

async function open(folder = newFolder()) {
  const upstream = await scriptedUpstream()
  closing.push(upstream.close)
  const clocks = machine()
  const settings = {
    approvals: { hold: '1 ms' },
    resources: { desk: { mcp: { url: upstream.url }, tools: { echo: 'read', act: 'destroy' } } },
    agents: {
      worker: { may: ['desk:echo', { do: 'desk:act', ask: { within: '10 min' } }] },
      counted: { may: ['desk:echo'], limits: { calls: '2/min' } },
      daily: { may: ['desk:echo'], limits: { calls: '2/day' } },
    },
  }
  const start = async () => {
    const gateway = await startSallyport({ settings, folder, time: clocks.time })
    closing.push(gateway.stop)
    const call = async (token: string, tool = 'desk__echo', said = 'x'): Promise<string> => {
      const { status, text } = await gateway.call(token, tool, { text: said })
      if (status === 401) return 'over'
      return /echo: x/.test(text) ? 'done' : (/"code":"([a-z_]+)"/.exec(text)?.[1] ?? text)
    }
    return { gateway, call }
  }
  return { clocks, start }
}

test('a clock that is set back lengthens no session and no question', async () => {
  const { clocks, start } = await open()
  const { gateway, call } = await start()
  const { token } = await gateway.session('worker', { lasts: 60 })
  const long = await gateway.session('worker', { lasts: 3_600 })
  expect(await call(long.token, 'desk__act')).toBe('approval_pending')
  const [question] = await gateway.approvals()

  clocks.set(-day)
  expect(await call(token)).toBe('done')
  clocks.pass(61_000)
  expect(await call(token)).toBe('over')
  expect(await call(long.token)).toBe('done')
  clocks.pass(10 * minute)
  await expect(gateway.approve(question!.id)).rejects.toThrow('409')
  clocks.pass(50 * minute)
  expect(await call(long.token)).toBe('over')
})

test('a clock that is set forward ends what is over by it, and what begins then works', async () => {
  const { clocks, start } = await open()
  const { gateway, call } = await start()
  const { token } = await gateway.session('worker')
  await call(token, 'desk__act')
  clocks.set(day)
  expect(await call(token)).toBe('over')
  await until('the question is no longer there', async () => (await gateway.approvals()).length === 0)
  const later = await gateway.session('worker')
  expect(await call(later.token)).toBe('done')
  // Back again: the later time stays in force, and no session comes back to life.
  clocks.set(-day)
  expect(await call(token)).toBe('over')
  expect(await call(later.token)).toBe('done')
  clocks.pass(31 * minute)
  expect(await call(later.token)).toBe('over')
})

test('a limit is neither widened nor locked by a clock that jumps', async () => {
  const { clocks, start } = await open()
  const { gateway, call } = await start()
  const { token } = await gateway.session('counted')
  const three = async () => [await call(token), await call(token), await call(token)]
  expect(await three()).toEqual(['done', 'done', 'limited'])
  clocks.set(-day)
  expect(await call(token)).toBe('limited')
  clocks.pass(minute)
  expect(await three()).toEqual(['done', 'done', 'limited'])
})

test('a clock that was years ahead is set right while the gateway is down: nothing lives for years, nobody is locked out for years', async () => {
  const { clocks, start } = await open()
  clocks.set(3_650 * day)
  const ahead = await start()
  const worker = await ahead.gateway.session('worker')
  const daily = await ahead.gateway.session('daily')
  expect(await ahead.call(daily.token)).toBe('done')
  expect(await ahead.call(daily.token)).toBe('done')
  expect(await ahead.call(daily.token)).toBe('limited')
  expect(await ahead.call(worker.token, 'desk__act')).toBe('approval_pending')
  await ahead.gateway.stop()

  clocks.set(-3_650 * day)
  const { gateway, call } = await start()
  expect(await call(worker.token)).toBe('over')
  expect(await gateway.approvals()).toEqual([])
  const fresh = await gateway.session('daily')
  clocks.pass(day)
  const next = await gateway.session('daily')
  expect(await call(fresh.token)).toBe('over')
  expect(await call(next.token)).toBe('done')
  expect(await gateway.verify()).toMatchObject({ ok: true })
})
