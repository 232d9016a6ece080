import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createEventReader } from './events.ts'

function read(bytes: Uint8Array, cuts: readonly number[] = [], most = 1_000): string[] {
  const found: string[] = []
  const take = createEventReader(most, (data) => found.push(data))
  const places = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])].sort((a, b) => a - b)
  for (const [index, start] of places.entries()) take(bytes.subarray(start, places[index + 1] ?? start))
  return found
}

const bytes = (text: string): Uint8Array => Buffer.from(text)

test('events are their data, whatever stands beside it', () => {
  expect(
    read(
      bytes(
        'event: message\nid: 7\ndata: one\n\n: comment\nretry: 5\n\ndata:two\r\ndata: three\r\n\r\ndata\n\ndatab: no\n\n',
      ),
    ),
  ).toEqual(['one', 'two\nthree', ''])
})

test('an event that was not ended is none', () => {
  expect(read(bytes('data: one'))).toEqual([])
})

test('where the bytes are cut does not matter', () => {
  const line = fc.string({ unit: 'grapheme' }).map((text) => text.replaceAll(/[\r\n]/g, ' ').replace(/^ /, '.'))
  fc.assert(
    fc.property(
      fc.array(line, { minLength: 1, maxLength: 5 }),
      fc.constantFrom('\n', '\r\n', '\r'),
      fc.array(fc.nat(), { maxLength: 20 }),
      (lines, end, cuts) => {
        const whole = bytes(lines.map((text) => `data: ${text}${end}${end}`).join('') + end)
        expect(read(whole, cuts, 100_000)).toEqual(lines.map((text) => text.toWellFormed()))
      },
    ),
  )
})

test('promise 9: one that is too long is refused, with or without an end', () => {
  expect(() => read(bytes(`data: ${'x'.repeat(1_001)}\n\n`))).toThrow(/larger than 1000 bytes/)
  expect(() => read(bytes('x'.repeat(5_000)))).toThrow(/larger than 1000 bytes/)
  expect(() => read(bytes(`data: ${'x'.repeat(600)}\ndata: ${'y'.repeat(600)}\n\n`))).toThrow(/larger than 1000 bytes/)
})
