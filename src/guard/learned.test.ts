import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { joinMaskers } from './join-maskers.ts'
import { createLearned } from './learned.ts'

const valuesOf = ({ groups }: ReturnType<typeof createLearned>): string[] =>
  groups()
    .flat()
    .map(({ value }) => value)

const numbered = (count: number): string[] => Array.from({ length: count }, (_, at) => `lent-token-${10_000 + at}`)

describe('promise 4: values that upstreams give out', () => {
  test('all that hold are known, however many; of those that are over, the last thousand', () => {
    const learned = createLearned()
    const tokens = numbered(5_000)
    const ends = tokens.map((token) => learned.add('token', token))
    expect(valuesOf(learned).toSorted()).toEqual(tokens.toSorted())
    expect(learned.groups().length, 'in few groups').toBeLessThan(100)

    for (const end of ends.slice(0, 3_000)) end()
    const known = new Set(valuesOf(learned))
    for (const token of tokens.slice(2_000)) expect(known.has(token), token).toBe(true)
    expect(known.size, 'what is forgotten does not stay for long').toBeLessThan(2 * 3_000)
    for (const end of ends) end()
    expect(valuesOf(learned).length).toBeLessThan(2 * 1_000)
    expect(learned.groups().length).toBeLessThan(40)
  })

  test('what was given out twice is known until both are over, and what is over may come again', () => {
    const learned = createLearned()
    const [first, second] = [learned.add('token', 'shared-token'), learned.add('token', 'shared-token')]
    const others = (): void => {
      for (const token of numbered(1_001)) learned.add('token', token)()
    }
    first()
    first()
    others()
    expect(valuesOf(learned)).toContain('shared-token')
    second()
    const third = learned.add('token', 'shared-token')
    others()
    expect(valuesOf(learned)).toContain('shared-token')
    third()
    for (let round = 0; round < 5; round++) others()
    expect(valuesOf(learned).length, 'what is forgotten does not stay for long').toBeLessThan(2_100)
  })

  test('as many come and go, a new one costs the preparing of few', () => {
    const learned = createLearned()
    const seen = new WeakSet<object>()
    let prepared = 0
    const look = (): void => {
      for (const group of learned.groups()) {
        if (!seen.has(group)) prepared += group.length
        seen.add(group)
      }
    }
    const ends: (() => void)[] = []
    for (const token of numbered(20_000)) {
      ends.push(learned.add('token', token))
      look()
      if (ends.length > 2_000) ends.shift()?.()
      look()
    }
    expect(prepared / 20_000).toBeLessThan(20)
  })

  test('any order of coming and going', () => {
    const step = fc.record({ token: fc.nat(400), isEnd: fc.boolean() })
    const law = fc.property(fc.array(step, { maxLength: 2_000 }), (steps) => {
      const learned = createLearned()
      const held = new Map<number, () => void>()
      for (const { token, isEnd } of steps) {
        if (isEnd) held.get(token)?.()
        if (isEnd) held.delete(token)
        else if (!held.has(token)) held.set(token, learned.add('token', `lent-token-${token}`))
      }
      const known = valuesOf(learned)
      expect(new Set(known).size, 'each once').toBe(known.length)
      for (const token of held.keys()) expect(known).toContain(`lent-token-${token}`)
    })
    fc.assert(law, { numRuns: 50 })
  })

  test('of a long one the end is known', () => {
    const learned = createLearned()
    const jwt = `${'eyJhbGciOiJSUzI1NiJ9'.repeat(50)}.${createHash('sha512').update('x').digest('hex')}`
    learned.add('token', jwt)
    const masker = joinMaskers(learned.groups)
    expect(masker.text(`<${jwt}>`)).toBe(`<${jwt.slice(0, -128)}[secret token]>`)
  })
})

describe('maskers that are joined', () => {
  const all = (
    masked: { push(chunk: Uint8Array): Uint8Array; end(): Uint8Array },
    text: string,
    size: number,
  ): string => {
    const parts: Uint8Array[] = []
    for (let at = 0; at < text.length; at += size) parts.push(masked.push(Buffer.from(text.slice(at, at + size))))
    return Buffer.concat([...parts, masked.end()]).toString()
  }

  test('find what any of them would, in text, values, bytes and streams', () => {
    const groups = [[{ name: 'A', value: 'first-secret-1' }], [], [{ name: 'B', value: 'second-secret-2' }]]
    const masker = joinMaskers(() => groups)
    const text = `a first-secret-1 b second-secret-2 c ${Buffer.from('second-secret-2').toString('hex')}`
    const hidden = 'a [secret A] b [secret B] c [secret B]'
    expect(masker.text(text)).toBe(hidden)
    expect(masker.json({ [text]: [text, 1] })).toEqual({ [hidden]: [hidden, 1] })
    expect(Buffer.from(masker.bytes(Buffer.from(text))).toString()).toBe(hidden)
    for (const size of [1, 2, 7, 1_000]) expect(all(masker.stream(), text, size)).toBe(hidden)
    const same = { a: ['nothing'] }
    expect(masker.json(same)).toBe(same)
  })

  test('a stream that is open finds what becomes known meanwhile, also after many changes', () => {
    const learned = createLearned()
    const masker = joinMaskers(learned.groups)
    const open = masker.stream()
    const parts = [open.push(Buffer.from('begin '))]
    for (const token of numbered(300)) {
      const end = learned.add('token', token)
      parts.push(open.push(Buffer.from(token.slice(0, 6))), open.push(Buffer.from(`${token.slice(6)}, `)))
      end()
    }
    const said = Buffer.concat([...parts, open.end()]).toString()
    expect(said).toBe(`begin ${'[secret token], '.repeat(300)}`)
  })
})
