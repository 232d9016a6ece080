// Requests that two parsers read in two ways. The API must never see a request that was not decided about: whatever is
// sent on one connection, it sees at most the one that every reader would see first.
import net from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startApi, startHttpGateway } from '../support/http.ts'
import type { TestApi } from '../support/http.ts'

const policy = (url: string) => `
resources:
  desk:
    http: ${url}
    credential: { bearer: the-key-of-the-desk }
    operations:
      ping: { request: "GET /v1/ping", effect: read }
      note: { request: "POST /v1/notes", effect: write, body: { type: object, properties: { text: { type: string } } } }
      item: { request: "GET /v1/items/{id}", effect: read }
      secret: { request: "GET /v1/secret", effect: read }
agents:
  reader: { may: [desk:ping, desk:note, desk:item], limits: { repeats: unlimited } }
`

let api: TestApi
let gateway: Awaited<ReturnType<typeof startHttpGateway>>
let token: string
beforeAll(async () => {
  api = await startApi()
  gateway = await startHttpGateway(policy(api.url))
  ;({ token } = await gateway.session('reader'))
})
afterAll(async () => {
  await gateway.close()
  await api.close()
  // oxlint-disable-next-line vitest/no-standalone-expect -- holds for every test
  expect(gateway.reported).toEqual([])
})
beforeEach(() => api.seen.splice(0))

/** Sends bytes as they are, and returns all that comes until the connection closes or answers stop. */
function raw(bytes: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = net.connect(gateway.listener.port, '127.0.0.1', () => socket.write(bytes))
    const quiet = setTimeout(() => socket.destroy(), 700)
    socket.on('data', (data) => {
      text += data.toString('latin1')
      quiet.refresh()
    })
    socket.on('error', (error) => ((error as NodeJS.ErrnoException).code === 'ECONNRESET' ? undefined : reject(error)))
    socket.on('close', () => {
      clearTimeout(quiet)
      resolve(text)
    })
  })
}

const statuses = (text: string): number[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => Number(status))
const head = (line: string, ...headers: string[]): string =>
  `${[line, 'Host: 127.0.0.1', `Authorization: Bearer ${token}`, ...headers].join('\r\n')}\r\n\r\n`
const inner = (): string => head('GET /api/desk/v1/ping HTTP/1.1')

test('the way in works', async () => {
  expect(statuses(await raw(head('GET /api/desk/v1/ping HTTP/1.1', 'Connection: close')))).toEqual([200])
  expect(api.seen.length).toBe(1)
})

describe('where a request ends', () => {
  const json = 'Content-Type: application/json'
  test.each<[string, () => string]>([
    [
      'both lengths',
      () =>
        head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 6', 'Transfer-Encoding: chunked') +
        '0\r\n\r\n' +
        inner(),
    ],
    [
      'both lengths, the other way round',
      () =>
        head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: chunked', 'Content-Length: 6') +
        '0\r\n\r\n' +
        inner(),
    ],
    [
      'two lengths',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 2', 'Content-Length: 60') + '{}' + inner(),
    ],
    [
      'two equal lengths',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 2', 'Content-Length: 2') + '{}',
    ],
    ['a list of lengths', () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 2, 2') + '{}'],
    ['a length with a sign', () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: +2') + '{}'],
    ['a negative length', () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: -2') + '{}'],
    ['a length in hexadecimal', () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 0x2') + '{}'],
    [
      'a length that overflows',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 18446744073709551618') + '{}',
    ],
    [
      'an encoding that is not chunked',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: identity') + '{}',
    ],
    [
      'an encoding in another spelling',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: xchunked') + '2\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'an encoding after chunked',
      () =>
        head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: chunked, identity') + '2\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'chunked twice',
      () =>
        head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked') +
        '2\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'a space before the colon',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding : chunked') + '2\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'a vertical tab before the value',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: \x0bchunked') + '2\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'a folded header',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding:', ' chunked') + '2\r\n{}\r\n0\r\n\r\n',
    ],
    ['a header that begins with a space', () => head('GET /api/desk/v1/ping HTTP/1.1', ' X-Folded: a')],
    [
      'a line end of LF alone',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 2').replaceAll('\r\n', '\n') + '{}',
    ],
    ['a LF among line ends', () => head('GET /api/desk/v1/ping HTTP/1.1', 'X-A: a\nX-B: b')],
    ['a CR alone', () => head('GET /api/desk/v1/ping HTTP/1.1', 'X-A: a\rX-B: b')],
    ['a NUL in a header', () => head('GET /api/desk/v1/ping HTTP/1.1', 'X-A: a\0b')],
    [
      'a chunk whose size is no number',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: chunked') + '2x\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'a chunk that is longer than it says',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: chunked') + '1\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'a chunk whose size overflows',
      () =>
        head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: chunked') +
        '10000000000000002\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'a chunk with a LF in its extension',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: chunked') + '2;a\nb\r\n{}\r\n0\r\n\r\n',
    ],
    [
      'chunks that end in LF alone',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Transfer-Encoding: chunked') + '2\n{}\n0\n\n',
    ],
    ['no version', () => `GET /api/desk/v1/ping\r\n\r\n`],
    ['another version', () => head('GET /api/desk/v1/ping HTTP/2.0')],
    ['HTTP/0.9 after it', () => head('GET /api/desk/v1/ping HTTP/1.2')],
    ['HTTP/2 by prior knowledge', () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['two hosts', () => head('GET /api/desk/v1/ping HTTP/1.1', 'Host: evil.example')],
    ['no host', () => `GET /api/desk/v1/ping HTTP/1.1\r\nAuthorization: Bearer ${token}\r\n\r\n`],
    ['two tokens', () => head('GET /api/desk/v1/ping HTTP/1.1', 'Authorization: Bearer other')],
    [
      'two types',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Type: text/plain', 'Content-Length: 2') + '{}',
    ],
    ['a head without end', () => head('GET /api/desk/v1/ping HTTP/1.1', `X-A: ${'a'.repeat(20_000)}`)],
    [
      'headers without number',
      () => head('GET /api/desk/v1/ping HTTP/1.1', ...Array.from({ length: 3_000 }, (_, at) => `X-${at}: a`)),
    ],
    ['a method that is none', () => head('G\x01T /api/desk/v1/ping HTTP/1.1')],
    ['a method in small letters', () => head('get /api/desk/v1/ping HTTP/1.1')],
    ['an absolute address', () => head('GET http://127.0.0.1/api/desk/v1/ping HTTP/1.1')],
    ['an asterisk', () => head('OPTIONS * HTTP/1.1')],
    ['a tunnel', () => head('CONNECT 127.0.0.1:80 HTTP/1.1')],
    ['another protocol', () => head('GET /api/desk/v1/ping HTTP/1.1', 'Connection: Upgrade', 'Upgrade: websocket')],
    [
      'HTTP/2 by upgrade',
      () =>
        head(
          'GET /api/desk/v1/ping HTTP/1.1',
          'Connection: Upgrade, HTTP2-Settings',
          'Upgrade: h2c',
          'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
        ),
    ],
    [
      'an expectation that is none',
      () => head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 2', 'Expect: 200-ok'),
    ],
  ])('%s: nothing reaches the API', async (_title, make) => {
    const text = await raw(make())
    expect(statuses(text).filter((status) => status < 400)).toEqual([])
    expect(api.seen).toEqual([])
  })

  test('what follows a refused request on its connection is not read as another', async () => {
    const body = inner()
    const text = await raw(
      head('POST /api/desk/v1/notes HTTP/1.1', 'Content-Type: text/plain', `Content-Length: ${body.length}`) + body,
    )
    expect(statuses(text)).toEqual([415])
    expect(api.seen).toEqual([])
    const hidden = await raw(
      head('POST /api/desk/v1/secret HTTP/1.1', 'Content-Type: text/plain', `Content-Length: ${body.length}`) + body,
    )
    expect(statuses(hidden)).toEqual([404])
    expect(api.seen).toEqual([])
  })

  test('requests that follow each other are each decided about', async () => {
    const text = await raw(
      inner() + head('GET /api/desk/v1/secret HTTP/1.1') + head('GET /api/desk/v1/ping HTTP/1.1', 'Connection: close'),
    )
    expect(statuses(text)).toEqual([200, 404, 200])
    expect(api.seen.map(({ url }) => url)).toEqual(['/v1/ping', '/v1/ping'])
  })

  test('a body whose length the client asks about is asked for once it is wanted', async () => {
    const wanted = await raw(
      head('POST /api/desk/v1/notes HTTP/1.1', json, 'Content-Length: 2', 'Expect: 100-continue', 'Connection: close') +
        '{}',
    )
    expect(statuses(wanted)).toEqual([100, 200])
    expect(api.seen[0]?.headers['expect']).toBeUndefined()
    const unwanted = await raw(
      head('POST /api/desk/v1/nothing HTTP/1.1', json, 'Content-Length: 2', 'Expect: 100-continue'),
    )
    expect(statuses(unwanted)).toEqual([404])
  })

  test('trailers and extensions of chunks go no further', async () => {
    const text = await raw(
      head(
        'POST /api/desk/v1/notes HTTP/1.1',
        json,
        'Transfer-Encoding: chunked',
        'Trailer: X-Admin',
        'TE: trailers',
        'Connection: close',
      ) + '2;x=y\r\n{}\r\n0\r\nX-Admin: 1\r\n\r\n',
    )
    expect(statuses(text)).toEqual([200])
    expect(api.seen[0]?.rawHeaders.join(' ').toLowerCase()).not.toMatch(/x-admin|trailer|chunked/)
  })
})

describe('where a path leads', () => {
  test.each([
    '/v1/items/..%2fsecret',
    '/v1/items/%2e%2e/secret',
    '/v1/items/../secret',
    '/v1/items/%2e%2e%2fsecret',
    '/v1/items/..',
    '/v1/items/.',
    '/v1/items/%2e',
    '/v1/items/%252e%252e%252fsecret',
    '/v1/items/a%2fb',
    '/v1/items/a%5cb',
    '/v1/items/..%5csecret',
    '/v1/items/..\\secret',
    '/v1//secret',
    '//v1/items/1',
    '/v1/items//',
    '/v1/items/a;b=c',
    '/v1/items/a%3bb',
    '/v1/items/..;/secret',
    '/v1/items/%00',
    '/v1/items/a%0d%0aX-A:b',
    '/v1/items/%c0%ae%c0%ae',
    '/v1/items/%c0%afsecret',
    '/v1/items/%e0%80%ae',
    '/v1/items/%ff',
    '/v1/items/%',
    '/v1/items/%2',
    '/v1/items/%zz',
    '/v1/items/%u002e',
    '/v1/items/%ef%bc%8e%ef%bc%8e',
    '/v1/items/a%ef%bc%8fb',
    '/v1/items/a%e2%88%95b',
    '/v1/items/%ED%A0%80',
    '/v1/items/a b',
    '/v1/items/a"b',
    '/v1/items/a<b',
    '/v1/items/é',
    '/v1/items/a#b',
    '/v1/items/%25%32%66',
    '/v1/items/ %2e%2e',
    '/v1/items/%20%2e%2e%20',
    '/./v1/ping',
    '/v1/./ping',
    '/x/../v1/ping',
    '/v1/ping/..',
    '/v1/ping;x',
    '/v1/ping%2f',
    '/v1%2fping',
    '/v1/ping%00',
    '/V1/PING',
    '/v1/ping/',
    '/v1/pin%67x',
  ])('%j reaches nothing', async (path) => {
    const status = statuses(
      await raw(Buffer.from(head(`GET /api/desk${path} HTTP/1.1`, 'Connection: close'), 'latin1')),
    )
    expect([[400], [404]]).toContainEqual(status)
    expect(api.seen).toEqual([])
  })

  test('one encoding is taken off, and put back in one way', async () => {
    for (const [sent, seen] of [
      ['/v1/pin%67', '/v1/ping'],
      ['/v1/items/a%20b', '/v1/items/a%20b'],
      ['/v1/items/%61', '/v1/items/a'],
      ['/v1/items/a%25b', '/v1/items/a%25b'],
      ['/v1/items/%C3%BC', '/v1/items/%C3%BC'],
    ]) {
      api.seen.splice(0)
      expect(statuses(await raw(head(`GET /api/desk${sent} HTTP/1.1`, 'Connection: close')))).toEqual([200])
      expect(api.seen.map(({ url }) => url)).toEqual([seen])
    }
  })
})
