import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../../core/failure.ts'
import { createRoom, decoded, decoderFor, readParts, readUpTo, writeParts } from './body.ts'
import type { Part } from './body.ts'

/** A body that comes in pieces, cut where the numbers say. */
async function* inPieces(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Buffer> {
  const at = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  let from = 0
  for (const to of [...at, bytes.length]) {
    yield bytes.subarray(from, to)
    from = to
  }
}
const cuts = fc.array(fc.nat(), { maxLength: 12 })
const bytes = fc.uint8Array({ maxLength: 400 }).map((list) => Buffer.from(list))

const encoders: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  gzip: (each) => gzipSync(each),
  'x-gzip': (each) => gzipSync(each),
  deflate: (each) => deflateSync(each),
  br: (each) => brotliCompressSync(each, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  zstd: (each) => zstdCompressSync(each),
}
const encodings = fc.constantFrom(...Object.keys(encoders))

const outcome = async (work: Promise<Buffer>): Promise<string> =>
  work.then(
    (each) => each.toString('hex'),
    (thrown: unknown) => {
      if (!(thrown instanceof Failure)) throw thrown
      return thrown.code
    },
  )

describe('a body that comes in pieces', () => {
  test('is read the same however it is cut, and gives back the room that it took', async () => {
    await fc.assert(
      fc.asyncProperty(bytes, cuts, fc.nat({ max: 500 }), async (body, at, most) => {
        const room = createRoom(1_000)
        const freed: (() => void)[] = []
        const read = await readUpTo(inPieces(body, at), most, room, freed)
        expect(read.isWhole).toBe(body.length <= most)
        expect(body.subarray(0, read.bytes.length).equals(read.bytes)).toBe(true)
        if (read.isWhole) expect(read.bytes.equals(body)).toBe(true)
        else expect(read.bytes.length).toBeGreaterThan(most)
        for (const free of freed) free()
        expect(() => room.take(1_000)).not.toThrow()
      }),
    )
  })

  test('never takes more room than there is', async () => {
    await fc.assert(
      fc.asyncProperty(bytes, cuts, fc.nat({ max: 400 }), async (body, at, most) => {
        const reading = readUpTo(inPieces(body, at), 1_000, createRoom(most), []).then((read) => read.bytes)
        expect(await outcome(reading)).toBe(body.length > most ? 'limited' : body.toString('hex'))
      }),
    )
  })
})

describe('an encoded body', () => {
  test('is what it was before it was encoded, up to the cap and not a byte further', async () => {
    await fc.assert(
      fc.asyncProperty(bytes, encodings, fc.nat({ max: 500 }), async (body, encoding, most) => {
        const got = await outcome(decoded(encoders[encoding]!(body), encoding, most))
        expect(got).toBe(body.length <= most ? body.toString('hex') : 'too_large')
      }),
    )
  })

  test('gives the same verdict and bytes however it is cut', async () => {
    await fc.assert(
      fc.asyncProperty(bytes, encodings, cuts, fc.boolean(), async (body, encoding, at, isBroken) => {
        const encoded = encoders[encoding]!(body)
        const sent = isBroken ? encoded.subarray(0, Math.floor(encoded.length / 2)) : encoded
        const read = await readUpTo(inPieces(sent, at), 10_000, createRoom(10_000), [])
        expect(await outcome(decoded(read.bytes, encoding, 1_000))).toBe(await outcome(decoded(sent, encoding, 1_000)))
      }),
    )
  })

  test('that is a bomb goes off inside the cap, whatever its shape', async () => {
    const bombs = fc.record({
      encoding: encodings,
      unit: fc.uint8Array({ minLength: 1, maxLength: 64 }),
      times: fc.integer({ min: 50_000, max: 200_000 }),
      most: fc.nat({ max: 100_000 }),
    })
    await fc.assert(
      fc.asyncProperty(bombs, async ({ encoding, unit, times, most }) => {
        const bomb = Buffer.alloc(unit.length * times, Buffer.from(unit))
        const sent = encoders[encoding]!(bomb)
        expect(await outcome(decoded(sent, encoding, most))).toBe(
          bomb.length > most ? 'too_large' : bomb.toString('hex'),
        )
      }),
      { numRuns: 40 },
    )
  })

  test('of several members, or with something after it, is read whole or refused, never further than the cap', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(bytes, { minLength: 1, maxLength: 20 }),
        bytes,
        fc.nat({ max: 2_000 }),
        async (members, after, most) => {
          const got = await outcome(
            decoded(Buffer.concat([...members.map((each) => gzipSync(each)), after]), 'gzip', most),
          )
          expect(/^(?:too_large|invalid)$/.test(got) || got.length / 2 <= most).toBe(true)
        },
      ),
    )
  })

  test('that is no such thing is refused, not passed on', async () => {
    await fc.assert(
      // Brotli has no mark and no checksum: noise can be a text in it.
      fc.asyncProperty(fc.uint8Array({ minLength: 12, maxLength: 100 }), encodings, async (noise, encoding) => {
        fc.pre(encoding !== 'br')
        // Noise that has an end and a checksum is not found by chance.
        expect(await outcome(decoded(Buffer.from(noise), encoding, 1_000))).toMatch(/^(?:invalid|too_large)$/)
      }),
    )
  })

  test('of an encoding that is not listed, or of several, is refused', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 12 }), (name) => {
        const known = ['', 'identity', ...Object.keys(encoders)].includes(name.trim().toLowerCase())
        if (known) expect(() => decoderFor(name)?.destroy()).not.toThrow()
        else expect(() => decoderFor(name)).toThrow(expect.objectContaining({ code: 'invalid' }))
      }),
    )
  })
})

describe('parts', () => {
  const name = fc.string({
    unit: fc.constantFrom('a', 'b', '0', ' ', '_', '-', 'é', 'ß', '"', '\r', '\n'),
    minLength: 1,
    maxLength: 20,
  })
  const parts = fc.array(
    fc.record<Part>({
      name,
      file: fc.option(name, { nil: undefined }),
      type: fc.constantFrom('text/plain', 'application/octet-stream', 'image/png'),
      bytes,
    }),
    { minLength: 1, maxLength: 8 },
  )

  test('that are written anew are read as they were', () => {
    fc.assert(
      fc.property(parts, (list) => {
        const { type, bytes: body } = writeParts(list)
        expect(readParts(body, type)).toEqual(list)
      }),
    )
  })

  test('cut off or changed by a byte are never read as more than what stands there, and never throw anything else', () => {
    fc.assert(
      fc.property(parts, fc.nat(), fc.nat({ max: 255 }), (list, at, byte) => {
        const { type, bytes: body } = writeParts(list)
        const changed = Buffer.from(body)
        changed[at % body.length] = byte
        for (const each of [body.subarray(0, at % body.length), changed])
          try {
            const size = readParts(each, type).reduce((sum, part) => sum + part.bytes.length, 0)
            expect(size).toBeLessThan(each.length)
          } catch (thrown) {
            expect(thrown).toMatchObject({ code: 'invalid' })
          }
      }),
    )
  })
})
