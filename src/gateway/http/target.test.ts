import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../../core/failure.ts'
import { readTarget, readValues, segmentProblem } from './target.ts'
import type { Target } from './target.ts'

/** Undefined for what is refused. Anything but a refusal is a fault. */
function tried<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (thrown) {
    if (thrown instanceof Failure && thrown.code === 'invalid') return undefined
    throw thrown
  }
}

const pieces = [
  'a',
  'v1',
  'items',
  '.',
  '..',
  '...',
  '%2e',
  '%2E',
  '%2f',
  '%2F',
  '%5c',
  '%00',
  '%0a',
  '%0d',
  '%7f',
  '%25',
  '%252e',
  '%252f',
  '%c0%ae',
  '%c0%af',
  '%ef%bc%8e',
  '%ef%bc%8f',
  '%e2%88%95',
  '%e3%80%82',
  '%c2%85',
  '%20',
  '%3b',
  ';',
  '/',
  '//',
  '?',
  '&',
  '=',
  '+',
  '%',
  '%zz',
  '@',
  ':',
  ',',
  '~',
  '\\',
  ' ',
  'é',
  '\0',
  '\t',
  '%ed%a0%80',
  '%f0%9f%98%80',
]
/** What an attacker would write, and anything at all. */
const targets = fc.oneof(
  fc.array(fc.constantFrom(...pieces), { maxLength: 12 }).map((list) => `/${list.join('')}`),
  fc.array(fc.constantFrom(...pieces), { maxLength: 8 }).map((list) => `/${list.join('/')}`),
  fc.string({ unit: 'binary', maxLength: 30 }).map((text) => `/${text}`),
  fc.webUrl({ withQueryParameters: true }).map((url) => url.replace(/^https?:\/\/[^/?]*/, '') || '/'),
)

const written = ({ segments, query }: Target): string => {
  const path = `/${segments.map(encodeURIComponent).join('/')}`
  const pairs = query.map((pair) => pair.map(encodeURIComponent).join('='))
  return pairs.length === 0 ? path : `${path}?${pairs.join('&')}`
}

describe('a target that is accepted', () => {
  test('has no segment that leads elsewhere, in any spelling', () => {
    fc.assert(
      fc.property(targets, (text) => {
        for (const segment of tried(() => readTarget(text))?.segments ?? []) {
          const folded = segment.normalize('NFKC')
          expect(folded.trim()).not.toMatch(/^\.{1,2}$/)
          expect(folded).not.toMatch(/[/\\;]/)
          // oxlint-disable-next-line no-control-regex
          expect(segment).not.toMatch(/[\0-\x1f\x7f-\x9f]/)
          expect(segment).not.toMatch(/%[0-9a-f]{2}/i)
          expect(segment.isWellFormed()).toBe(true)
        }
      }),
      { numRuns: 3_000 },
    )
  })

  test('is the same when it is written anew and read again', () => {
    fc.assert(
      fc.property(targets, (text) => {
        const once = tried(() => readTarget(text))
        expect(once && readTarget(written(once))).toEqual(once)
      }),
      { numRuns: 3_000 },
    )
  })

  test('is read as a browser reads it: same path, same values', () => {
    fc.assert(
      fc.property(targets, (text) => {
        const target = tried(() => readTarget(text))
        if (target === undefined) return
        // As the path of an absolute address: by itself, `//a` would be a host.
        const url = new URL(`https://api.example${text}`)
        expect(url.pathname.slice(1).split('/').map(decodeURIComponent)).toEqual(target.segments)
        expect([...url.searchParams]).toEqual(target.query.map((pair) => [...pair]))
      }),
      { numRuns: 3_000 },
    )
  })

  test('has as many segments as slashes, empty ones at the end alone', () => {
    fc.assert(
      fc.property(targets, (text) => {
        const target = tried(() => readTarget(text))
        if (target === undefined) return
        expect(target.segments).toHaveLength(text.replace(/\?.*$/s, '').split('/').length - 1)
        expect(target.segments.slice(0, -1)).not.toContain('')
      }),
      { numRuns: 3_000 },
    )
  })
})

test('whatever a segment is, encoded once it is accepted as it is or not at all', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }), (segment) => {
      if (!segment.isWellFormed()) {
        expect(segmentProblem(segment)).toBeDefined()
        return
      }
      const target = tried(() => readTarget(`/${encodeURIComponent(segment)}`))
      expect(target?.segments).toEqual(segmentProblem(segment) === undefined ? [segment] : undefined)
    }),
    { numRuns: 3_000 },
  )
})

test('values: what URLSearchParams writes is read as it was', () => {
  const text = fc
    .string({ unit: 'binary', maxLength: 20 })
    .filter((each) => each.isWellFormed() && !each.includes('\0'))
  const pair = fc.tuple(
    text.filter((name) => name !== '__proto__'),
    text,
  )
  fc.assert(
    fc.property(fc.array(pair, { maxLength: 10 }), (pairs) => {
      expect(readValues(new URLSearchParams(pairs).toString())).toEqual(pairs)
    }),
  )
})
