import fc from 'fast-check'
import { expect, test } from 'vitest'
import { charge, check, limitsOfResource, parseLimit } from './limit.ts'
import type { Counter } from './limit.ts'

test.each([
  ['calls', '100/min', 100, 60_000],
  ['calls', '10/5min', 10, 300_000],
  ['calls', '1000/session', 1000, 'session'],
  ['tokens', '200000/session', 200_000, 'session'],
  ['tokens', '500 k/day', 500_000, 86_400_000],
  ['spend', '5 USD/day', 5_000_000, 86_400_000],
  ['spend', '0.25 USD/session', 250_000, 'session'],
  ['bytes', '10 MB/session', 10_000_000, 'session'],
  ['sent', '64 kB/min', 64_000, 60_000],
  ['concurrent', '4', 4, 'once'],
  ['repeats', '20/min', 20, 60_000],
] as const)('%s: %s is read', (measure, text, amount, per) => {
  expect(parseLimit(measure, text)).toEqual({ measure, amount, per, source: text })
})

test.each([
  ['calls', '100'],
  ['calls', '100/fortnight'],
  ['calls', '-1/min'],
  ['spend', '5/day'],
  ['spend', '5 EUR/day'],
  ['concurrent', '4/min'],
  ['bytes', '10 MB/'],
  ['repeats', '3/session'],
  ['calls', '100/constructor'],
  ['calls', '100 toString/min'],
  ['calls', '100/0min'],
  ['calls', '0.5/min'],
  ['spend', '0.0000001 USD/day'],
  ['bytes', '999999999999999 GB/session'],
] as const)('%s: %s is refused with the form that was expected', (measure, text) => {
  expect(() => parseLimit(measure, text)).toThrow(/expected `/)
})

const now = 1_000_000

test('a window lets its amount through at once, then evenly, and says when', () => {
  const limit = parseLimit('calls', '10/s')
  let counter: Counter | undefined
  for (let call = 0; call < 10; call++) {
    expect(check(limit, counter, 1, now)).toEqual({ ok: true })
    counter = charge(limit, counter, 1, now)
  }
  expect(check(limit, counter, 1, now)).toEqual({ ok: false, retryAt: now + 100 })
  expect(check(limit, counter, 1, now + 100)).toEqual({ ok: true })
})

test('what is known afterwards only may pass the mark once, and then waits it off', () => {
  const limit = parseLimit('bytes', '1000 B/s')
  expect(check(limit, undefined, 0, now).ok).toBe(true)
  const counter = charge(limit, undefined, 3000, now)
  expect(check(limit, counter, 0, now + 2000).ok).toBe(false)
  expect(check(limit, counter, 0, now + 2001).ok).toBe(true)
})

test('a limit of nothing lets nothing through', () => {
  expect(check(parseLimit('calls', '0/min'), undefined, 1, now)).toEqual({ ok: false })
  expect(check(parseLimit('spend', '0 USD/session'), undefined, 0, now)).toEqual({ ok: false })
})

test('no window of its length ever lets through more than twice the amount, however calls are spaced', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 200 }),
      (amount, gaps) => {
        const limit = parseLimit('calls', `${amount}/s`)
        const passed: number[] = []
        let counter: Counter | undefined
        let time = now
        for (const gap of gaps) {
          time += gap
          if (!check(limit, counter, 1, time).ok) continue
          counter = charge(limit, counter, 1, time)
          passed.push(time)
        }
        for (const start of passed)
          expect(passed.filter((at) => at >= start && at < start + 1000).length).toBeLessThanOrEqual(2 * amount)
      },
    ),
  )
})

test('limits of a resource: those of bytes are for each host, those of a session for every session of the chain', () => {
  const limits = [parseLimit('sent', '1 MB/session'), parseLimit('sent', '1 GB/day'), parseLimit('calls', '10/session')]
  const keys = (host: string | undefined) =>
    limitsOfResource(limits, 'crm', host, ['ses_1', 'ses_2']).map(({ key }) => key)
  expect(keys('a.example')).toEqual([
    'session:ses_1:resource:crm:a.example:sent',
    'session:ses_2:resource:crm:a.example:sent',
    'resource:crm:a.example:sent/86400000/1000000000',
    'session:ses_1:resource:crm:calls',
    'session:ses_2:resource:crm:calls',
  ])
  expect(keys('2001:db8::1')[0]).toBe('session:ses_1:resource:crm:2001:db8::1:sent')
  expect(keys(undefined)[0]).toBe('session:ses_1:resource:crm:sent')
})

test('a limit of a resource says which host, and whose session it is of', () => {
  const [above, own] = limitsOfResource([parseLimit('sent', '1 MB/session')], 'crm', 'a.example', ['ses_1', 'ses_2'])
  expect(own?.whose).toBe('host a.example of resource crm')
  expect(above?.whose).toBe('host a.example of resource crm (in a session that this one was made from)')
})
