import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createMasker, formsOf } from './mask.ts'
import type { Masked } from './mask.ts'

const key = 'sk-live/9f+Q"x<é>&~ =!'
const one: readonly Masked[] = [{ name: 'CRM_KEY', value: key }]
const of = (values: readonly Masked[]) => createMasker(() => values)
const hidden = '[secret CRM_KEY]'

describe('promise 4: a secret is found in every form', () => {
  const bytes = Buffer.from(key)
  test.each([
    ['as it is', key],
    ['in JSON', JSON.stringify(key).slice(1, -1)],
    ['in JSON in JSON', JSON.stringify(JSON.stringify(key).slice(1, -1)).slice(1, -1)],
    ['in JSON that is ASCII', 'sk-live/9f+Q\\"x<\\u00e9>&~ =!'],
    ['in JSON as PHP writes it', 'sk-live\\/9f+Q\\"x<é>&~ =!'],
    ['in JSON as Go writes it', 'sk-live/9f+Q\\"x\\u003cé\\u003e\\u0026~ =!'],
    ['as encodeURIComponent writes it', encodeURIComponent(key)],
    ['percent-encoded, lower case', encodeURIComponent(key).replace(/%../g, (code) => code.toLowerCase())],
    ['in a form', new URLSearchParams({ a: key }).toString().slice(2)],
    ['percent-encoded throughout', bytes.toString('hex').replace(/../g, '%$&')],
    ['in hexadecimal', bytes.toString('hex')],
    ['in hexadecimal, upper case', bytes.toString('hex').toUpperCase()],
    ['in base64', bytes.toString('base64')],
    ['in base64 without padding', bytes.toString('base64').replace(/=+$/, '')],
    ['in base64url', bytes.toString('base64url')],
    ['in base64 in an address', encodeURIComponent(bytes.toString('base64'))],
    ['in HTML', key.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')],
  ])('%s', (_, form) => {
    const masker = of(one)
    expect(masker.text(`before ${form} after`)).toBe(`before ${hidden} after`)
    expect(Buffer.from(masker.bytes(Buffer.from(`é ${form} é`))).toString()).toBe(`é ${hidden} é`)
  })

  test.each([0, 1, 2, 3, 4, 5])('in the base64 of a longer text, %i bytes from its beginning', (before) => {
    for (const encoding of ['base64', 'base64url'] as const)
      for (const after of ['', 'x', 'xy', ': more of it']) {
        const text = Buffer.from(`${'p'.repeat(before)}${key}${after}`).toString(encoding)
        const masked = of(one).text(text)
        expect(masked).toContain(hidden)
        // At most a character on each side is left, which it shares with its neighbour.
        const left = masked.split(hidden).map((part) => Buffer.from(part, encoding).toString('latin1'))
        for (const part of left)
          for (let at = 0; at + 3 <= key.length; at++) expect(part).not.toContain(key.slice(at, at + 3))
      }
  })

  test('in names and values of JSON, at any depth; nothing is copied where there is nothing', () => {
    const clean = { a: [1, null, { b: 'c' }], __proto__x: true }
    const masker = of(one)
    expect(masker.json(clean)).toBe(clean)
    expect(masker.json({ a: [{ [`x${key}`]: [`${key}y`, 1] }], b: JSON.stringify({ key }) })).toEqual({
      a: [{ [`x${hidden}`]: [`${hidden}y`, 1] }],
      b: `{"key":"${hidden}"}`,
    })
    const odd = JSON.parse(`{"__proto__":{"k":${JSON.stringify(key)}}}`) as { [key: string]: { k: string } }
    expect(JSON.stringify(masker.json(odd))).toBe(`{"__proto__":{"k":"${hidden}"}}`)
  })
})

test('secrets that overlap, touch, or hold one another are all covered', () => {
  const masker = of([
    { name: 'A', value: 'abcdefghij' },
    { name: 'B', value: 'ghijklmnop' },
    { name: 'C', value: 'cdefghij' },
    { name: 'D', value: 'hijklmnopqrstuvw' },
  ])
  expect(masker.text('-abcdefghijklmnop-')).toBe('-[secret A, B]-')
  expect(masker.text('abcdefghijabcdefghij')).toBe('[secret A][secret A]')
  expect(masker.text('cdefghij!')).toBe('[secret C]!')
  expect(masker.text('abcdefghijklmnopqrstuvw')).toBe('[secret A, B, D]')
})

test('a match inside a longer one that comes to nothing is still found', () => {
  const masker = of([
    { name: 'LONG', value: 'xxabcdefghyy-and-much-more' },
    { name: 'SHORT', value: 'abcdefgh' },
  ])
  expect(masker.text('xxabcdefghyy-and-much-less')).toBe('xx[secret SHORT]yy-and-much-less')
  expect(masker.text('xxabcdefghyy-and-much-more')).toBe('[secret SHORT, LONG]')
})

test('a short value is found only as it is; there is nothing without values', () => {
  const masker = of([{ name: 'PIN', value: '4711' }])
  expect(masker.text('4711 34373131 NDcxMQ==')).toBe('[secret PIN] 34373131 NDcxMQ==')
  const none = of([])
  expect(none.text(key)).toBe(key)
  expect(none.bytes(Buffer.from(key))).toEqual(Buffer.from(key))
  expect(Buffer.from(none.stream().push(Buffer.from('abc'))).toString()).toBe('abc')
})

test('values that come later are found from then on', () => {
  let values: readonly Masked[] = []
  const masker = createMasker(() => values)
  expect(masker.text(key)).toBe(key)
  values = one
  expect(masker.text(key)).toBe(hidden)
})

const word = fc.string({ unit: fc.constantFrom('a', 'b', 'é', '/', '"'), minLength: 1, maxLength: 12 })
const secrets = fc
  .uniqueArray(word, { minLength: 1, maxLength: 5 })
  .map((values) => values.map((value, at): Masked => ({ name: `S${at}`, value })))
const pieces = (values: readonly Masked[]) =>
  fc.array(fc.oneof(word, fc.constantFrom(...values.flatMap(({ value }) => formsOf(value)))), { maxLength: 12 })

/** What is to be covered, found in the plainest way. */
function plainly(text: string, values: readonly Masked[]): string {
  const covered = new Set<number>()
  for (const { value } of values)
    for (const form of value.length < 8 ? [value] : formsOf(value))
      for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1))
        for (let each = at; each < at + form.length; each++) covered.add(each)
  return Array.from({ length: text.length }, (_, at) => (covered.has(at) ? '' : text[at])).join('')
}

test('what is left is what no form covers, and nothing else', () => {
  const law = fc.property(
    secrets.chain((values) => fc.tuple(fc.constant(values), pieces(values))),
    ([values, parts]) => {
      const text = parts.join('')
      expect(
        of(values)
          .text(text)
          .replace(/\[secret [S\d, ]+\]/g, ''),
      ).toBe(plainly(text, values))
    },
  )
  fc.assert(law, { numRuns: 1_000 })
})

test('what comes out of a stream does not depend on how it was cut', () => {
  const law = fc.property(
    secrets.chain((values) => fc.tuple(fc.constant(values), pieces(values))),
    fc.array(fc.nat({ max: 7 }), { minLength: 1, maxLength: 20 }),
    ([values, parts], cuts) => {
      const bytes = Buffer.from(parts.join(''))
      const masker = of(values)
      const stream = masker.stream()
      const out: Uint8Array[] = []
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const size = (cuts[turn % cuts.length] ?? 0) + (turn % cuts.length === 0 ? 1 : 0)
        out.push(stream.push(bytes.subarray(at, at + size)))
        at += size
      }
      out.push(stream.end())
      expect(Buffer.concat(out).toString()).toBe(Buffer.from(masker.bytes(bytes)).toString())
    },
  )
  fc.assert(law, { numRuns: 1_000 })
})

test('long secrets in long texts, nearly secrets beside them, cut anywhere: what is left is what no form covers', () => {
  const long = fc.string({ unit: fc.constantFrom('a', 'b', '+', 'é'), minLength: 8, maxLength: 80 })
  const law = fc.property(
    fc.uniqueArray(long, { minLength: 1, maxLength: 4 }).chain((given) => {
      const forms = given.flatMap(formsOf)
      const cut = fc
        .tuple(fc.constantFrom(...forms), fc.nat({ max: 80 }), fc.nat({ max: 80 }))
        .map(([form, from, until]) => form.slice(Math.min(from, until), Math.max(from, until)))
      const filling = fc.string({ unit: fc.constantFrom('a', 'b', 'x', ' '), maxLength: 200 })
      const parts = fc.array(fc.oneof(fc.constantFrom(...forms), cut, filling), { maxLength: 20 })
      return fc.tuple(fc.constant(given.map((value, at): Masked => ({ name: `S${at}`, value }))), parts)
    }),
    fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 20 }),
    ([values, parts], cuts) => {
      const text = parts.join('')
      const expected = plainly(text, values)
      const masker = of(values)
      const shown = masker.text(text)
      expect(shown.replace(/\[secret [S\d, ]+\]/g, '')).toBe(expected)
      const bytes = Buffer.from(text)
      const stream = masker.stream()
      const out: Uint8Array[] = []
      for (let at = 0, turn = 0; at < bytes.length; at += cuts[turn++ % cuts.length] ?? 1)
        out.push(stream.push(bytes.subarray(at, at + (cuts[turn % cuts.length] ?? 1))))
      out.push(stream.end())
      expect(Buffer.concat(out).toString()).toBe(shown)
    },
  )
  fc.assert(law, { numRuns: 1_000 })
})

test('a secret is found at every place of a chunk and over every cut, whatever stands before it', () => {
  const value = randomBytes(30).toString('base64url')
  const masker = of([{ name: 'S', value }])
  const wrong: string[] = []
  for (let before = 0; before < 100; before++) {
    const bytes = Buffer.from(`${'x'.repeat(before)}${value}${'y'.repeat(100 - before)}`)
    for (let cut = 0; cut <= bytes.length; cut++) {
      const stream = masker.stream()
      const out = [stream.push(bytes.subarray(0, cut)), stream.push(bytes.subarray(cut)), stream.end()]
      const text = Buffer.concat(out).toString()
      if (text !== `${'x'.repeat(before)}[secret S]${'y'.repeat(100 - before)}`) wrong.push(`${before}, cut at ${cut}`)
    }
  }
  expect(wrong).toEqual([])
})

test('what is given out of a stream keeps its bytes, though the chunk is used again', () => {
  const stream = of([{ name: 'S', value: 'abcdefgh' }]).stream()
  const chunk = Buffer.from('hello abcd')
  const first = Buffer.from(stream.push(chunk)).toString()
  chunk.fill('z')
  expect(`${first}${Buffer.concat([stream.push(Buffer.from('x')), stream.end()]).toString()}`).toBe('hello abcdx')
})

test('a stream holds back what could begin a secret, and no more', () => {
  const stream = of([{ name: 'S', value: 'abcdefgh' }]).stream()
  const push = (text: string) => Buffer.from(stream.push(Buffer.from(text))).toString()
  expect(push('hello abc')).toBe('hello ')
  expect(push('x')).toBe('abcx')
  expect(push('abcdefg')).toBe('')
  expect(push('h!')).toBe('[secret S]!')
  expect(Buffer.from(stream.end()).toString()).toBe('')
})

test('promise 9: time is linear in the text, whatever the text is', () => {
  const values = Array.from({ length: 20 }, (_, at) => ({ name: `S${at}`, value: `${'a'.repeat(200)}${at}b` }))
  const masker = of([...values, { name: 'RANDOM', value: randomBytes(30_000).toString('base64') }])
  masker.text('a')
  const cost = (length: number): number => {
    const text = 'a'.repeat(length)
    const before = process.cpuUsage()
    for (let run = 0; run < 5; run++) masker.text(text)
    return process.cpuUsage(before).user
  }
  cost(200_000)
  // Ten times the text: far less than the hundred times that a square would take.
  expect(cost(2_000_000)).toBeLessThan(40 * Math.max(cost(200_000), 1_000))
})
