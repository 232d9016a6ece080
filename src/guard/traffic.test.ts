import { expect, test } from 'vitest'
import { createTally } from './traffic.ts'

test('what passed is told by host, the one that was sent most first, and together', () => {
  const tally = createTally()
  tally.add('a.example', { requests: 1 })
  tally.add('a.example', { sent: 5, received: 70 })
  tally.add('b.example', { requests: 1, sent: 10 })
  expect(tally.read()).toEqual({
    total: { requests: 2, sent: 15, received: 70 },
    hosts: [
      { host: 'b.example', requests: 1, sent: 10, received: 0 },
      { host: 'a.example', requests: 1, sent: 5, received: 70 },
    ],
  })
})

test('promise 9: a hundred hosts are told apart; the others are counted together, and none is lost', () => {
  const tally = createTally()
  for (let host = 0; host < 150; host++) tally.add(`h${host}.example`, { requests: 1, sent: 2 })
  tally.add('h0.example', { sent: 1 })
  tally.add('h149.example', { sent: 1 })
  const { total, hosts, others } = tally.read()
  expect(hosts.length).toBe(100)
  expect(hosts[0]).toEqual({ host: 'h0.example', requests: 1, sent: 3, received: 0 })
  expect(others).toEqual({ requests: 50, sent: 101, received: 0 })
  expect(total).toEqual({ requests: 150, sent: 302, received: 0 })
})
