import fc from 'fast-check'
import { connect } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'
import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { Failure } from '../../core/failure.ts'
import { longestHello, readClientHello } from './hello.ts'

/** What a real client says first. */
async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const out = new PassThrough()
  const socket = connect({ socket: duplexTo(out), rejectUnauthorized: false, ...options })
  socket.on('error', () => {})
  const bytes = await new Promise<Buffer>((resolve) => out.once('data', resolve))
  socket.destroy()
  return bytes
}

function duplexTo(out: PassThrough) {
  const silent = new PassThrough()
  return Object.assign(silent, {
    write: (chunk: Buffer, ...more: unknown[]) => {
      out.write(chunk)
      const done = more.at(-1)
      if (typeof done === 'function') (done as () => void)()
      return true
    },
  })
}

const number = (value: number, size: number): Buffer => {
  const bytes = Buffer.alloc(size)
  bytes.writeUIntBE(value, 0, size)
  return bytes
}
const list = (size: number, ...parts: Buffer[]): Buffer => {
  const content = Buffer.concat(parts)
  return Buffer.concat([number(content.length, size), content])
}
const named = (name: string, kind = 0): Buffer =>
  Buffer.concat([number(0, 2), list(2, list(2, number(kind, 1), list(2, Buffer.from(name))))])
const made = (...extensions: Buffer[]): Buffer => {
  const body = Buffer.concat([
    Buffer.alloc(34),
    list(1),
    list(2, number(0x1301, 2)),
    list(1, number(0, 1)),
    list(2, ...extensions),
  ])
  return Buffer.concat([Buffer.from([22, 3, 1]), list(2, number(1, 1), list(3, body))])
}

describe('what a TLS client says first', () => {
  test('the name of a real client, however its bytes come', async () => {
    const bytes = await helloOf({ servername: 'Api.Example.com' })
    expect(readClientHello(bytes)).toEqual({ name: 'api.example.com', isEncrypted: false })
    for (let end = 0; end < bytes.length; end++) expect(readClientHello(bytes.subarray(0, end))).toBeUndefined()
    expect(readClientHello(await helloOf({ servername: '' }))?.name).toBeUndefined()
  })

  test('a message that is cut into records is one', () => {
    const whole = made(named('a.example')).subarray(5)
    const records = [...whole].map((byte) => Buffer.from([22, 3, 1, 0, 1, byte]))
    expect(readClientHello(Buffer.concat(records))).toEqual({ name: 'a.example', isEncrypted: false })
  })

  test('a hidden name is seen to be there', () => {
    expect(readClientHello(made(named('a.example'), number(0xfe0d, 2), list(2, number(0, 1))))?.isEncrypted).toBe(true)
  })

  test.each([
    [
      'two names',
      made(
        Buffer.concat([
          number(0, 2),
          list(
            2,
            list(2, number(0, 1), list(2, Buffer.from('a.example')), number(0, 1), list(2, Buffer.from('b.example'))),
          ),
        ]),
      ),
    ],
    ['two lists of names', made(named('a.example'), named('b.example'))],
    ['a name of another kind', made(named('a.example', 1))],
    ['a name that is none', made(named('a.example\0.evil.example'))],
    ['an empty name', made(named(''))],
    ['an alert', Buffer.from([21, 3, 1, 0, 2, 2, 40])],
    ['a server’s hello', Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0])],
    ['an empty record', Buffer.from([22, 3, 1, 0, 0])],
    ['TLS of another generation', Buffer.from([22, 4, 1, 0, 4])],
    ['more than is read', Buffer.concat([Buffer.from([22, 3, 1, 0x40, 0]), Buffer.alloc(longestHello)])],
    [
      'something after its end',
      made(
        Buffer.concat([number(0, 2), list(2, list(2, number(0, 1), list(2, Buffer.from('a.example'))), number(7, 1))]),
      ),
    ],
  ])('promise 3: %s is refused', (_what, bytes) => {
    expect(() => readClientHello(bytes)).toThrow(/client hello/)
  })

  test('promise 9: whatever the bytes, it is read, refused, or waited for', () => {
    const start = made(named('a.example'))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(start.length), (noise, at) => {
        const bytes = Buffer.concat([start.subarray(0, at), noise, start.subarray(at)])
        try {
          readClientHello(bytes)
        } catch (thrown) {
          expect(Failure.from(thrown).code).toBe('invalid')
        }
      }),
      { numRuns: 500 },
    )
  })
})
