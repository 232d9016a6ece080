import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createRoom } from './room.ts'

test('promise 9: nobody takes more than its part, all together no more than there is, and what was given back is there again', () => {
  const step = fc.record({
    sharer: fc.constantFrom('a', 'b', 'c'),
    bytes: fc.integer({ min: 0, max: 8 }),
    gives: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const room = createRoom({ each: 10, all: 16 })
      const held: { sharer: string; bytes: number }[] = []
      for (const { sharer, bytes, gives } of steps) {
        const sum = (of?: string) =>
          held.reduce((all, each) => all + (of === undefined || each.sharer === of ? each.bytes : 0), 0)
        if (gives) {
          const back = held.pop()
          if (back !== undefined) room.give(back.sharer, back.bytes)
        } else {
          const fits = sum(sharer) + bytes <= 10 && sum() + bytes <= 16
          expect(room.take(sharer, bytes)).toBe(fits)
          if (fits) held.push({ sharer, bytes })
        }
      }
    }),
  )
})
