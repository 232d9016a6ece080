import { expect, test } from 'vitest'
import { createClock } from './clock.ts'

function at(wall: number) {
  const time = { wall, steady: 0 }
  const clock = createClock({ wall: () => time.wall, steady: () => time.steady })
  return { time, clock }
}

test('it follows the wall clock', () => {
  const { time, clock } = at(1000)
  time.wall += 500
  time.steady += 500
  expect(clock()).toBe(1500)
})

test('a wall clock that is set back does not hold the time up', () => {
  const { time, clock } = at(1_000_000)
  time.wall -= 900_000
  time.steady += 10
  expect(clock()).toBe(1_000_010)
  time.wall += 5
  time.steady += 5
  expect(clock()).toBe(1_000_015)
})

test('a wall clock that is set forward is believed', () => {
  const { time, clock } = at(1000)
  time.wall += 86_400_000
  expect(clock()).toBe(86_401_000)
})
