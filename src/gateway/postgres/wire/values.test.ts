import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Frames, ProtocolViolation } from './frames.ts'
import { parametersOf } from './values.ts'

const one = (type: number, hex: string) =>
  parametersOf({ portal: '', statement: '', formats: [1], values: [Buffer.from(hex, 'hex')] }, [type])[0]

describe('parameters as policy sees them', () => {
  // As PostgreSQL 18 sends them.
  test.each([
    ['bool', 16, '01', true],
    ['smallint', 21, 'fffe', -2],
    ['integer', 23, '80000000', -2_147_483_648],
    ['bigint', 20, '000000000000002a', 42],
    ['bigint beyond JSON', 20, '7fffffffffffffff', '9223372036854775807'],
    ['real', 700, '3fc00000', 1.5],
    ['double precision', 701, '7ff8000000000000', 'NaN'],
    ['text', 25, 'c3a9', 'é'],
    ['date', 1082, '00002686', '2027-01-01'],
    ['timestamp', 1114, '0000000000000000', '2000-01-01T00:00:00.000'],
    ['timestamptz', 1184, '0000000000000000', '2000-01-01T00:00:00.000Z'],
    ['numeric', 1700, '0002000000000002000c0bb8', '12.30'],
    ['numeric below 1', 1700, '0001ffff400000040005', '-0.0005'],
    ['numeric, large', 1700, '0001000100000000007b', '1230000'],
    ['uuid', 2950, '0123456789abcdef0123456789abcdef', '01234567-89ab-cdef-0123-456789abcdef'],
    ['jsonb', 3802, '017b7d', '{}'],
    ['bytea', 17, 'dead', '\\xdead'],
    ['timestamp, with microseconds', 1114, '0000000000000001', '2000-01-01T00:00:00.000001'],
    ['timestamptz, before 2000', 1184, 'ffffffffffffffff', '1999-12-31T23:59:59.999999Z'],
    ['a timestamp of no year', 1114, '7fffffffffffffff', { binary: '7fffffffffffffff' }],
    ['a type that is not known', 99_999, '00ff', { binary: '00ff' }],
    ['no type', 0, '6162', { binary: '6162' }],
    ['a wrong length', 23, '00', { binary: '00' }],
  ])('%s', (_, type, hex, value) => {
    expect(one(type, hex)).toEqual(value)
  })

  test('promise 5: moments that differ by a microsecond look different', () => {
    fc.assert(
      fc.property(fc.bigInt(-(10n ** 15n), 10n ** 15n), fc.constantFrom(1114, 1184), (micros, type) => {
        const hex = (value: bigint): string => BigInt.asUintN(64, value).toString(16).padStart(16, '0')
        expect(one(type, hex(micros))).not.toEqual(one(type, hex(micros + 1n)))
      }),
    )
  })

  test('text is text, NULL is null, and what is no UTF-8 is refused', () => {
    const given = (value: Buffer | null) =>
      parametersOf({ portal: '', statement: '', formats: [], values: [value] }, [23])
    expect(given(Buffer.from('5'))).toEqual(['5'])
    expect(given(null)).toEqual([null])
    expect(() => given(Buffer.from([0xff]))).toThrow(ProtocolViolation)
  })

  test('no bytes of any type fail in another way', () => {
    const types = [16, 17, 18, 20, 21, 23, 25, 26, 114, 700, 701, 1082, 1114, 1184, 1700, 2950, 3802, 1009]
    fc.assert(
      fc.property(fc.constantFrom(...types), fc.uint8Array({ maxLength: 40 }), (type, bytes) => {
        try {
          expect(one(type, Buffer.from(bytes).toString('hex'))).not.toBeUndefined()
        } catch (thrown) {
          if (!(thrown instanceof ProtocolViolation)) throw thrown
        }
      }),
    )
  })
})

test('messages are the same, however they are cut', () => {
  const message = fc.tuple(fc.integer({ min: 1, max: 255 }), fc.uint8Array({ maxLength: 30 }))
  fc.assert(
    fc.property(fc.array(message, { maxLength: 20 }), fc.array(fc.integer({ min: 1, max: 40 })), (messages, cuts) => {
      const whole = Buffer.concat(
        messages.map(([type, body]) => {
          const head = Buffer.alloc(5)
          head[0] = type
          head.writeUInt32BE(body.length + 4, 1)
          return Buffer.concat([head, body])
        }),
      )
      const frames = new Frames(() => 30)
      const seen: [number, string][] = []
      let at = 0
      for (let turn = 0; at < whole.length; turn++) {
        const size = cuts[turn % (cuts.length || 1)] ?? whole.length
        frames.push(whole.subarray(at, at + size))
        at += size
        while (frames.next())
          seen.push([frames.type, frames.buffer.subarray(frames.start + 5, frames.end).toString('hex')])
      }
      expect(seen).toEqual(messages.map(([type, body]) => [type, Buffer.from(body).toString('hex')]))
    }),
  )
})
