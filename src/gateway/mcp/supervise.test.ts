import { describe, expect, test } from 'vitest'
import { afterFailure, type Condition, type Life, noHistory, supervise, surroundings } from './supervise.ts'

describe('waits', () => {
  const waits = (count: number, random: number, every = 0, ranFor = 0): (number | 'give up')[] => {
    let history = noHistory
    return Array.from({ length: count }, (_, index) => {
      const next = afterFailure(history, ranFor, index * every, random, { failures: 100, longest: 10_000 })
      history = next.history
      return next.wait
    })
  }
  test('double, up to the longest', () => {
    expect(waits(7, 0.999999999)).toEqual([500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000])
  })
  test('are a quarter chance', () => {
    expect(waits(3, 0)).toEqual([375, 750, 1_500])
  })
  test('begin anew after a healthy time', () => {
    expect(waits(3, 0.999999999, 0, 60_000)).toEqual([500, 500, 500])
  })
  test('never overflow', () => {
    expect(waits(99, 0.999999999).at(-1)).toBe(10_000)
  })

  test('end when it fails too often within the window, and not when it fails as often over a longer time', () => {
    const fail = (every: number): (number | 'give up')[] => {
      let history = noHistory
      return Array.from({ length: 20 }, (_, index) => {
        const next = afterFailure(history, 0, index * every, 0, { failures: 3, within: 1_000 })
        history = next.history
        expect(history.failedAt.length).toBeLessThan(21)
        return next.wait
      })
    }
    expect(fail(100)[2]).toBe('give up')
    expect(fail(600)).not.toContain('give up')
  })

  test('a clock that jumped back is no reason to give up', () => {
    let history = noHistory
    for (const now of [9_000_000, 9_000_001, 5]) history = afterFailure(history, 0, now, 0).history
    expect(history.failedAt).toEqual([5])
  })
})

/** Something that is started by hand, with a clock that is moved by hand. */
function stage() {
  const lives: { end: (reason: string) => void; isStopped: boolean }[] = []
  const conditions: Condition[] = []
  let failWith: string | undefined
  let time = 0
  let wake: (() => void) | undefined
  const supervised = supervise(
    async (): Promise<Life> => {
      if (failWith !== undefined) throw new Error(failWith)
      const { promise, resolve } = Promise.withResolvers<string>()
      const life = { end: resolve, isStopped: false }
      lives.push(life)
      return {
        ended: promise,
        stop: async () => {
          life.isStopped = true
          resolve('stopped')
        },
      }
    },
    { failures: 3, within: 100_000 },
    {
      now: () => time,
      random: () => 0,
      sleep: (ms, signal) =>
        new Promise((resolve) => {
          wake = () => {
            time += ms
            resolve()
          }
          signal.addEventListener('abort', () => resolve())
        }),
      onChange: (condition) => conditions.push(condition),
    },
  )
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  return {
    supervised,
    conditions,
    lives,
    settle,
    fail: (reason: string | undefined) => (failWith = reason),
    async end(reason: string) {
      lives.at(-1)?.end(reason)
      await settle()
    },
    async wake() {
      wake?.()
      await settle()
    },
  }
}

describe('something supervised', () => {
  test('is started again after it ended', async () => {
    const { supervised, settle, end, wake, lives } = stage()
    await settle()
    expect(supervised.condition.state).toBe('running')
    await end('it ended with exit code 1')
    expect(supervised.condition).toEqual({ state: 'waiting', reason: 'it ended with exit code 1', until: 375 })
    await wake()
    expect(supervised.condition.state).toBe('running')
    expect(lives).toHaveLength(2)
  })

  test('that fails too often is given up, with the reason, until somebody asks for it', async () => {
    const { supervised, settle, end, wake, fail, conditions } = stage()
    await settle()
    fail('there is no such program')
    await end('it ended')
    await wake()
    await wake()
    expect(supervised.condition).toEqual({
      state: 'failed',
      reason: 'it failed 3 times, the last time because there is no such program',
    })
    fail(undefined)
    supervised.restart()
    await settle()
    expect(supervised.condition.state).toBe('running')
    expect(conditions.map(({ state }) => state)).toEqual([
      'starting',
      'running',
      'waiting',
      'starting',
      'waiting',
      'starting',
      'failed',
      'starting',
      'running',
    ])
  })

  test('does not wait when it is asked not to', async () => {
    const { supervised, settle, end } = stage()
    await settle()
    await end('x')
    supervised.restart()
    await settle()
    expect(supervised.condition.state).toBe('running')
  })

  test.each(['running', 'waiting', 'failed'])('is stopped for good while %s', async (state) => {
    const { supervised, settle, end, wake, fail, lives } = stage()
    await settle()
    if (state === 'failed') fail('x')
    if (state !== 'running') await end('x')
    if (state === 'failed') {
      await wake()
      await wake()
    }
    expect(supervised.condition.state).toBe(state)
    await supervised.stop()
    expect(supervised.condition.state).toBe('stopped')
    supervised.restart()
    await settle()
    expect(supervised.condition.state).toBe('stopped')
    if (state === 'running') expect(lives.at(-1)?.isStopped).toBe(true)
  })

  test('is told to give up when it is stopped while it starts', async () => {
    const supervised = supervise(
      (signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('gave up')))),
      {},
      surroundings,
    )
    expect(supervised.condition.state).toBe('starting')
    await supervised.stop()
    expect(supervised.condition.state).toBe('stopped')
  })
})

test('the real clock sleeps, and wakes when told', async () => {
  const controller = new AbortController()
  await surroundings.sleep(1, controller.signal)
  const long = surroundings.sleep(1_000_000, controller.signal)
  controller.abort()
  await long
  await surroundings.sleep(1_000_000, controller.signal)
  expect(surroundings.random()).toBeLessThan(1)
})
