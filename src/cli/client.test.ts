import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createClient, readEvents } from './client.ts'
import { findFile, readPlace, targetOf } from './place.ts'
import { factOf } from './sessions.ts'

const key = `sp_person_${'A'.repeat(43)}`
let folder: string
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'sallyport-test-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const write = (text: string): string => {
  const file = path.join(folder, 'sallyport.yaml')
  writeFileSync(file, text)
  return file
}

describe('where the gateway is', () => {
  test('the nearest file above the current folder says it', () => {
    const file = write('state: here\nlisten: { people: "127.0.0.1:99" }\n')
    const below = path.join(folder, 'a', 'b')
    mkdirSync(below, { recursive: true })
    mkdirSync(path.join(folder, 'here'))
    writeFileSync(path.join(folder, 'here', 'admin.key'), `${key}\n`)
    expect(findFile(undefined, below)).toBe(file)
    expect(targetOf({}, { cwd: below, env: {} })).toMatchObject({ url: 'http://127.0.0.1:99', key, from: file })
  })

  test('it is found while everything else in the file is broken', () => {
    const file = write('agnts: {}\nlisten: { people: "[::]:7401", agents: "0.0.0.0:7400" }\nrules: 7\n')
    expect(readPlace(file)).toMatchObject({ people: 'http://[::1]:7401', agents: 'http://127.0.0.1:7400' })
  })

  test('what is asked for on the line or by the environment goes before the file, which is not even read', () => {
    write('{{{')
    const env = { SALLYPORT_KEY: key, SALLYPORT_URL: 'https://gateway.example/' }
    expect(targetOf({}, { cwd: folder, env })).toMatchObject({ url: 'https://gateway.example', from: 'SALLYPORT_URL' })
    expect(targetOf({ url: 'http://localhost:5' }, { cwd: folder, env }).url).toBe('http://localhost:5')
    expect(() => targetOf({}, { cwd: folder, env: { SALLYPORT_KEY: key } })).toThrow('not readable as YAML')
  })

  test('no message has a key in it', () => {
    write('listen: { people: "127.0.0.1:99" }\n')
    for (const SALLYPORT_KEY of [`${key}x`, `sp_agent_${'B'.repeat(43)}`, 'hunter2'])
      for (const url of [undefined, 'http://evil.example', 'nonsense']) {
        const values = url === undefined ? {} : { url }
        expect(() => targetOf(values, { cwd: folder, env: { SALLYPORT_KEY } })).toThrow(
          expect.objectContaining({ message: expect.not.stringContaining(SALLYPORT_KEY) as string }) as Error,
        )
      }
  })
})

describe('the client', () => {
  async function against(answer: http.RequestListener, use: (url: string) => Promise<void>): Promise<void> {
    const server = http.createServer(answer)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  }
  const client = (url: string) => createClient({ url, from: 'a test', key, keyFrom: 'a test' })

  const answers: [name: string, answer: http.RequestListener, code: string, says: RegExp][] = [
    ['a page of something else', (_, r) => void r.writeHead(200).end('<html>'), 'unavailable', /no JSON/],
    ['a refusal of something else', (_, r) => void r.writeHead(404).end('nope'), 'unavailable', /no Sallyport gateway/],
    [
      'a redirect',
      (_, r) => void r.writeHead(302, { location: 'http://evil.example' }).end(),
      'unavailable',
      /reached/,
    ],
    ['a connection that breaks off', (q) => void q.socket.destroy(), 'unavailable', /can’t be reached/],
    [
      'a refusal of ours',
      (_, r) => void r.writeHead(409).end('{"error":{"code":"conflict","message":"twice"}}'),
      'conflict',
      /^twice$/,
    ],
  ]
  test.each(answers)('%s is a failure with words', async (_name, answer, code, says) => {
    await against(answer, async (url) => {
      const failed = client(url).get('/v1/status')
      await expect(failed).rejects.toMatchObject({ code, message: expect.stringMatching(says) as string })
      await expect(failed).rejects.toMatchObject({ message: expect.not.stringContaining(key) as string })
    })
  })
})

describe('events of a stream', () => {
  const stream = async function* (...chunks: string[]) {
    for (const chunk of chunks) yield Buffer.from(chunk)
  }
  const read = async (...chunks: string[]) => {
    const all = []
    for await (const each of readEvents(stream(...chunks), 100)) all.push(each)
    return all
  }

  test('come whole, however they are cut', async () => {
    const text = ': hello\n\nevent: a\ndata: 1\ndata: 2\nid: x\n\ndata:é\r\n\r\nevent: empty\n\n'
    const expected = [
      { event: 'a', data: '1\n2', id: 'x' },
      { event: 'message', data: 'é', id: 'x' },
    ]
    expect(await read(text)).toEqual(expected)
    const bytes = Buffer.from(text)
    const single = async function* () {
      for (const byte of bytes) yield Buffer.from([byte])
    }
    const all = []
    for await (const each of readEvents(single(), 100)) all.push(each)
    expect(all).toEqual(expected)
  })

  test('one without an end is refused', async () => {
    await expect(read('data: ', 'x'.repeat(200))).rejects.toMatchObject({ code: 'too_large' })
    await expect(read('data: xxxxxxxxxxxxxxxx\n'.repeat(20))).rejects.toMatchObject({ code: 'too_large' })
  })
})

test.each([
  ['42', undefined, 42],
  ['42', 'int', 42],
  ['42', 'string', '42'],
  ['"42"', 'string', '42'],
  ['"42"', undefined, '42'],
  ['0042', undefined, '0042'],
  ['true', 'bool', true],
  ['["a","b"]', undefined, ['a', 'b']],
  ['2027-01-15T08:00:00Z', 'timestamp', '2027-01-15T08:00:00Z'],
  ['a=b', undefined, 'a=b'],
] as const)('the fact %s declared as %s is %j', (text, declared, value) => {
  expect(factOf('x', text, declared)).toEqual(value)
})
