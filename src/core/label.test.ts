import fc from 'fast-check'
import { expect, test } from 'vitest'
import { clean, join, sameLabel } from './label.ts'
import type { Label } from './label.ts'

const label: fc.Arbitrary<Label> = fc.record({
  trust: fc.constantFrom('trusted', 'untrusted'),
  readers: fc.constantFrom('public', 'internal', 'private'),
})

test.each([
  ['trusted public', 'untrusted public', 'untrusted public'],
  ['trusted private', 'untrusted public', 'untrusted private'],
  ['trusted internal', 'trusted public', 'trusted internal'],
  ['untrusted internal', 'trusted private', 'untrusted private'],
])('%s and %s make %s', (a, b, both) => {
  expect(join(read(a), read(b))).toEqual(read(both))
})

const read = (text: string): Label => {
  const [trust, readers] = text.split(' ')
  return { trust, readers } as Label
}

test('the order in which things are read never matters', () => {
  fc.assert(
    fc.property(label, label, label, (a, b, c) => {
      expect(join(a, b)).toEqual(join(b, a))
      expect(join(join(a, b), c)).toEqual(join(a, join(b, c)))
    }),
  )
})

test('reading the same again changes nothing, and reading nothing changes nothing', () => {
  fc.assert(
    fc.property(label, (a) => {
      expect(sameLabel(join(a, a), a)).toBe(true)
      expect(sameLabel(join(a, clean), a)).toBe(true)
    }),
  )
})
