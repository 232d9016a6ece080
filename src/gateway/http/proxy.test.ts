import fs from 'node:fs'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import {
  basic,
  connectVia,
  proxyFolders,
  secure,
  startNamedServer,
  startTestProxy,
  Wire,
} from '../../../test/support/proxy.ts'
import { until } from '../../../test/support/sallyport.ts'
import type { ProxyOptions } from './proxy.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})
afterAll(() => {
  for (const folder of proxyFolders.splice(0)) fs.rmSync(folder, { recursive: true, force: true })
})

const key = 'the-real-key-of-the-desk'
const yaml = `
listen: { proxy: "127.0.0.1:7402" }
resources:
  desk:
    http: https://api.desk.example/v1
    credential: { bearer: "${key}" }
    addresses: [127.0.0.1]
    operations:
      read: { request: "GET /tickets/{id}", effect: read, path: { id: { type: integer } } }
      answer: { request: POST /answers, effect: write, body: { properties: { text: { type: string } }, required: [text] } }
      refund: { request: POST /refunds, effect: destroy, body: { properties: { amount: { type: integer } } } }
      remove: { request: "DELETE /tickets/{id}", effect: destroy }
  other:
    http: https://api.desk.example/v1/other
    addresses: [127.0.0.1]
    operations: { see: { request: GET /things, effect: read } }
  plain:
    http: http://plain.desk.example
    addresses: [127.0.0.1]
    operations: { see: { request: GET /things, effect: read } }
  book:
    http: https://bücher.desk.example
    addresses: [127.0.0.1]
    operations: { see: { request: GET /things, effect: read } }
  secret:
    http: https://secret.desk.example
    addresses: [127.0.0.1]
    operations: { see: { request: GET /things, effect: read } }
  out:
    tunnel: [files.desk.example, "files.desk.example:8443"]
    addresses: [127.0.0.1]
    size: 1 MB
  vault:
    tunnel: [vault.desk.example]
    addresses: [127.0.0.1]
agents:
  worker:
    may: ["desk:read", "desk:answer", "desk:refund", "other:see", "plain:see", "book:see", { do: "out:connect", ask: never }]
    limits: { repeats: unlimited }
  boss: { may: ["desk:remove", "vault:connect", "secret:see"] }
`

async function open(options: Partial<ProxyOptions> = {}, policy = yaml) {
  const looked: string[] = []
  const dialled: string[] = []
  const api = await startNamedServer((req, res) => {
    req.resume()
    res
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ url: req.url, host: req.headers.host, credential: req.headers.authorization }))
  })
  closing.push(api.close)
  const world = await startTestProxy(policy, api.egress(looked, dialled), options, { DESK: key })
  closing.push(world.close)
  const worker = await world.session('worker')
  const auth = { 'Proxy-Authorization': basic(worker.token) }
  const { port } = world.proxy
  return {
    ...world,
    api,
    looked,
    dialled,
    worker,
    auth,
    port,
    connect: (target: string, headers: Readonly<Record<string, string>> = auth) => connectVia(port, target, headers),
    /** A connection to a host, opened. */
    async inside(host = 'api.desk.example') {
      const connected = await connectVia(port, `${host}:443`, auth)
      const stream = await secure(connected, { servername: host, ca: world.ca, ALPNProtocols: ['http/1.1'] })
      return new Wire(stream)
    },
  }
}

const get = (path: string, more = '', host = 'api.desk.example'): string =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`
const bodyOf = (text: string) =>
  JSON.parse(
    text
      .slice(text.indexOf('\r\n\r\n') + 4)
      .replace(/^[0-9a-f]+\r\n/, '')
      .replace(/\r\n[^]*$/, ''),
  )

describe('who asks', () => {
  test.each([
    ['nothing', {}],
    ['no token', { 'Proxy-Authorization': 'Basic ' }],
    ['a user alone', { 'Proxy-Authorization': `Basic ${Buffer.from('agent').toString('base64')}` }],
    ['a wrong token', { 'Proxy-Authorization': basic('sp_session_wrong') }],
    ['a token in the wrong header', { Authorization: 'Bearer x' }],
    ['what is no base64', { 'Proxy-Authorization': 'Basic !!!!' }],
  ])('promise 3: 407 with words for %s, before anything is looked up', async (_what, headers) => {
    const { connect, looked, port } = await open()
    for (const target of ['api.desk.example:443', 'nowhere.example:443']) {
      const { head } = await connect(target, headers)
      expect(head).toMatch(/^HTTP\/1\.1 407 /)
      expect(head).toMatch(/proxy-authenticate: Basic /i)
      expect(head).toMatch(/connection: close/i)
      expect(bodyOf(head).error.code).toBe('unauthenticated')
    }
    const wire = await Wire.to(port)
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
    wire.send(`GET http://plain.desk.example/things HTTP/1.1\r\nHost: plain.desk.example\r\n${lines.join('')}\r\n`)
    expect(await wire.end()).toMatch(/^HTTP\/1\.1 407 /)
    expect(looked).toEqual([])
  })

  test('a token comes as Basic with any user, or as Bearer, and goes no further', async () => {
    const { connect, worker, inside, api, ca } = await open()
    for (const value of [
      `Bearer ${worker.token}`,
      `Basic ${Buffer.from(`whoever:${worker.token}`).toString('base64')}`,
    ]) {
      const stream = await secure(await connect('api.desk.example:443', { 'Proxy-Authorization': value }), {
        servername: 'api.desk.example',
        ca,
      })
      stream.destroy()
    }
    const wire = await inside()
    wire.send(get('/v1/tickets/7', `Proxy-Authorization: ${basic(worker.token)}\r\nAuthorization: Bearer mine\r\n`))
    await wire.until(/"credential"/)
    const sent = JSON.stringify(api.asked)
    expect(sent).not.toContain(worker.token)
    expect(sent).not.toContain(Buffer.from(`agent:${worker.token}`).toString('base64'))
    expect(api.asked[0]?.headers.authorization).toBe(`Bearer ${key}`)
    wire.socket.destroy()
  })
})

describe('CONNECT', () => {
  test('opens a listed host, and answers what its API answers, without the key', async () => {
    const { inside, api, audit } = await open()
    const wire = await inside()
    wire.send(get('/v1/tickets/7'))
    const answer = await wire.until(/"credential":"[^"]*"/)
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK/)
    expect(answer).toContain('"url":"/v1/tickets/7","host":"api.desk.example"')
    expect(answer).not.toContain(key)
    expect(api.names).toEqual(['api.desk.example'])
    await until('the outcome is recorded', () => audit.of('action.done').length === 1)
    expect(audit.of('action.done')[0]).toMatchObject({ permission: 'desk:read' })
    wire.socket.destroy()
  })

  test('promise 3: unknown and forbidden hosts are refused alike, before anything is looked up or dialled', async () => {
    const { connect, looked, dialled, api } = await open()
    const heads: string[] = []
    for (const target of [
      'nowhere.example:443',
      'secret.desk.example:443',
      'vault.desk.example:443',
      'api.desk.example:8443',
      'api.desk.example:80',
      'files.desk.example:444',
      '127.0.0.1:443',
      '[::1]:443',
      '169.254.169.254:80',
      'desk.example:443',
      'x.api.desk.example:443',
      'api.desk.example.evil.example:443',
    ])
      heads.push((await connect(target)).head.replace(/date: .*\r\n/i, ''))
    expect(new Set(heads).size).toBe(1)
    expect(heads[0]).toMatch(/^HTTP\/1\.1 403 /)
    expect(bodyOf(heads[0]!)).toEqual({ error: { code: 'not_found', message: 'there is nothing at this address' } })
    expect([...looked, ...dialled]).toEqual([])
    expect(api.connections()).toBe(0)
  })

  test('every spelling of a listed host is that host', async () => {
    const { connect } = await open()
    for (const target of ['API.Desk.Example:443', 'api.desk.example.:443', 'xn--bcher-kva.desk.example:443'])
      expect((await connect(target)).head).toMatch(/^HTTP\/1\.1 200 /)
  })

  test.each([
    'api.desk.example',
    ':443',
    'api.desk.example:',
    'api.desk.example:0',
    'api.desk.example:99999',
    'a@api.desk.example:443',
    'api.desk.example/x:443',
    'https://api.desk.example:443',
    'api.desk.example%2f:443',
    '[::1:443',
    'api.desk.example:0443',
  ])('promise 3: CONNECT %s is none', async (target) => {
    const { connect, auth, looked } = await open()
    expect((await connect(target, { ...auth, Host: 'api.desk.example' })).head).toMatch(/^HTTP\/1\.1 400 /)
    expect(looked).toEqual([])
  })

  test('promise 3: a Host that is another than that of CONNECT is refused', async () => {
    const { connect, auth } = await open()
    expect((await connect('api.desk.example:443', { ...auth, Host: 'nowhere.example:443' })).head).toMatch(
      /^HTTP\/1\.1 400 /,
    )
    expect((await connect('api.desk.example:443', { ...auth, Host: 'api.desk.example' })).head).toMatch(
      /^HTTP\/1\.1 200 /,
    )
  })

  test.each([
    ['another listed name', { servername: 'xn--bcher-kva.desk.example' }],
    ['an unknown name', { servername: 'evil.example' }],
    ['no name', { servername: '' }],
  ])('promise 3: TLS that asks for %s is closed, with an alert, and recorded', async (_what, options) => {
    const { connect, ca, audit } = await open()
    await expect(secure(await connect('api.desk.example:443'), { ...options, ca, host: '127.0.0.1' })).rejects.toThrow(
      /unrecognized name|closed/i,
    )
    expect(audit.of('connection.refused')[0]).toMatchObject({
      name: 'api.desk.example:443',
      because: expect.stringContaining('another name'),
    })
  })

  test('the certificate is for the one host, HTTP/1.1 alone is spoken, and a client without it is told', async () => {
    const { connect, ca } = await open()
    const stream = await secure(await connect('xn--bcher-kva.desk.example:443'), {
      servername: 'xn--bcher-kva.desk.example',
      ca,
      ALPNProtocols: ['h2', 'http/1.1'],
    })
    expect(stream.alpnProtocol).toBe('http/1.1')
    expect(stream.getPeerX509Certificate()?.subjectAltName).toBe('DNS:xn--bcher-kva.desk.example')
    stream.destroy()
    const only2 = secure(await connect('api.desk.example:443'), {
      servername: 'api.desk.example',
      ca,
      ALPNProtocols: ['h2'],
    })
    await expect(only2).rejects.toThrow(/no application protocol/i)
    const distrusting = secure(await connect('api.desk.example:443'), { servername: 'api.desk.example' })
    await expect(distrusting).rejects.toThrow(/certificate/)
  })

  test('promise 3: what is no TLS is not answered where TLS is listed', async () => {
    const { connect, audit, api } = await open()
    const { wire } = await connect('api.desk.example:443')
    wire.send(get('/v1/tickets/7'))
    await wire.end()
    expect(wire.heard).not.toContain('HTTP/1.1 200 OK')
    expect(audit.of('connection.refused')).toHaveLength(1)
    expect(api.asked).toEqual([])
  })

  test('a connection to a host of plain HTTP is opened too', async () => {
    const { connect } = await open()
    const { wire } = await connect('plain.desk.example:80')
    expect(await wire.send(get('/things', '', 'plain.desk.example')).until(/credential|}/)).toContain(
      '"url":"/things","host":"plain.desk.example"',
    )
    wire.socket.destroy()
  })
})

describe('inside an opened connection', () => {
  test('promise 3: what no operation lists does not exist, whoever it is listed for', async () => {
    const { inside, api } = await open()
    const wire = await inside()
    const answers: string[] = []
    for (const line of [
      'GET /v1/nothing',
      'GET /',
      'GET /v1',
      'DELETE /v1/tickets/7',
      'GET /v2/tickets/7',
      'TRACE /v1/tickets/7',
      'OPTIONS /v1/tickets/7',
      'PUT /v1/tickets/7',
    ]) {
      const before = wire.heard.length
      wire.send(`${line} HTTP/1.1\r\nHost: api.desk.example\r\n\r\n`)
      await wire.until(new RegExp(`^[^]{${before}}[^]*"}}$`))
      answers.push(wire.heard.slice(before).replace(/date: .*\r\n/i, ''))
    }
    expect(new Set(answers).size).toBe(1)
    expect(answers[0]).toMatch(/^HTTP\/1\.1 404 /)
    expect(api.asked).toEqual([])
    wire.socket.destroy()
  })

  test('promise 3: a Host that is another than that of the connection is refused', async () => {
    const { inside, api } = await open()
    for (const host of [
      'xn--bcher-kva.desk.example',
      'api.desk.example:80',
      'api.desk.example@evil.example',
      'evil.example',
      '',
    ]) {
      const wire = await inside()
      expect(await wire.send(get('/v1/tickets/7', '', host)).end()).toMatch(/^HTTP\/1\.1 4(?:21|00) /)
    }
    const named = await inside()
    expect(await named.send(get('http://evil.example/v1/tickets/7')).until(/"}}/)).toMatch(/^HTTP\/1\.1 400 /)
    named.socket.destroy()
    expect(api.asked).toEqual([])
  })

  test('of several resources at one host, the one whose operation it is answers', async () => {
    const { inside, audit } = await open()
    const wire = await inside()
    wire.send(get('/v1/other/things'))
    await wire.until(/}/)
    await until('it is recorded', () => audit.of('action.done').length === 1)
    expect(audit.of('action.done')[0]).toMatchObject({ permission: 'other:see' })
    wire.socket.destroy()
  })

  test('promise 5: what asks people waits for them as elsewhere', async () => {
    const { inside, api } = await open()
    const wire = await inside()
    const body = '{"amount":7}'
    wire.send(
      `POST /v1/refunds HTTP/1.1\r\nHost: api.desk.example\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    expect(await wire.until(/}}/)).toMatch(/^HTTP\/1\.1 403 [^]*approval_pending/)
    expect(api.asked).toEqual([])
    wire.socket.destroy()
  })

  test.each([
    [
      'two lengths',
      'POST /v1/answers HTTP/1.1\r\nHost: api.desk.example\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}',
    ],
    [
      'a length and chunks',
      'POST /v1/answers HTTP/1.1\r\nHost: api.desk.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'chunks in disguise',
      'POST /v1/answers HTTP/1.1\r\nHost: api.desk.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n',
    ],
    [
      'chunks and more',
      'POST /v1/answers HTTP/1.1\r\nHost: api.desk.example\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
    ],
    ['a space before the colon', 'POST /v1/answers HTTP/1.1\r\nHost: api.desk.example\r\nContent-Length : 2\r\n\r\n{}'],
    ['a folded line', 'GET /v1/tickets/7 HTTP/1.1\r\nHost: api.desk.example\r\nX-A: b\r\n c\r\n\r\n'],
    ['a bare line feed', 'GET /v1/tickets/7 HTTP/1.1\nHost: api.desk.example\n\n'],
    ['a bare line feed in the head', 'GET /v1/tickets/7 HTTP/1.1\r\nHost: api.desk.example\nX-A: b\r\n\r\n'],
    ['a bare carriage return', 'GET /v1/tickets/7 HTTP/1.1\r\nHost: api.desk.example\r\nX-A: b\rX-C: d\r\n\r\n'],
    ['two hosts', 'GET /v1/tickets/7 HTTP/1.1\r\nHost: api.desk.example\r\nHost: evil.example\r\n\r\n'],
    ['no host', 'GET /v1/tickets/7 HTTP/1.1\r\n\r\n'],
    [
      'a wrong size of a chunk',
      'POST /v1/answers HTTP/1.1\r\nHost: api.desk.example\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n',
    ],
    ['another version', 'GET /v1/tickets/7 HTTP/3.1\r\nHost: api.desk.example\r\n\r\n'],
    ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    [
      'a head that is too large',
      `GET /v1/tickets/7 HTTP/1.1\r\nHost: api.desk.example\r\nX-A: ${'a'.repeat(20_000)}\r\n\r\n`,
    ],
    ['a NUL', 'GET /v1/tickets/7 HTTP/1.1\r\nHost: api.desk.example\r\nX-A: a\0b\r\n\r\n'],
    [
      'an upgrade',
      'GET /v1/tickets/7 HTTP/1.1\r\nHost: api.desk.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    ],
    [
      'an upgrade to HTTP/2',
      'GET /v1/tickets/7 HTTP/1.1\r\nHost: api.desk.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n',
    ],
    ['another CONNECT', 'CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n'],
  ])(
    'promise 3: a request with %s is refused and ends the connection; what follows it is not read',
    async (_what, text) => {
      const { inside, api } = await open()
      const wire = await inside()
      wire.send(`${text}${get('/v1/tickets/8')}`)
      const heard = await wire.end()
      expect(heard).toMatch(/^HTTP\/1\.1 4\d\d /)
      expect(heard.match(/HTTP\/1\.1 \d/g)).toHaveLength(1)
      expect(api.asked).toEqual([])
    },
  )

  test('requests that are sent at once are answered one after the other; too many end the connection', async () => {
    const { inside, api } = await open()
    const wire = await inside()
    wire.send([1, 2, 3, 4].map((id) => get(`/v1/tickets/${id}`)).join(''))
    const heard = await wire.until(/(?:"url"[^]*){4}}/)
    expect([...heard.matchAll(/"url":"([^"]*)"/g)].map(([, url]) => url)).toEqual(
      [1, 2, 3, 4].map((id) => `/v1/tickets/${id}`),
    )
    const flood = await inside()
    flood.send(Array.from({ length: 200 }, (_, id) => get(`/v1/tickets/${id}`)).join(''))
    await flood.end()
    expect(api.asked.length).toBeLessThan(40)
    wire.socket.destroy()
  })
})

describe('requests in absolute form', () => {
  test('reach what is listed with http://, and nothing else', async () => {
    const { port, worker, looked, api } = await open()
    const ask = async (target: string, host: string): Promise<string> => {
      const wire = await Wire.to(port)
      wire.send(
        `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nProxy-Authorization: ${basic(worker.token)}\r\nProxy-Connection: keep-alive\r\nConnection: close\r\n\r\n`,
      )
      return wire.end()
    }
    expect(await ask('http://plain.desk.example/things', 'plain.desk.example')).toMatch(
      /^HTTP\/1\.1 200 OK[^]*"url":"\/things"/,
    )
    expect(api.asked[0]?.headers['proxy-authorization']).toBeUndefined()
    expect(api.asked[0]?.headers['proxy-connection']).toBeUndefined()
    looked.length = 0
    const [unknown, forbidden] = await Promise.all([
      ask('http://nowhere.example/things', 'nowhere.example'),
      ask('http://api.desk.example/v1/tickets/7', 'api.desk.example'),
    ])
    expect(unknown).toMatch(/^HTTP\/1\.1 404 /)
    expect(unknown.replace(/date: .*\r\n/i, '')).toBe(forbidden.replace(/date: .*\r\n/i, ''))
    expect(await ask('http://plain.desk.example/things', 'evil.example')).toMatch(/^HTTP\/1\.1 421 /)
    expect(await ask('https://api.desk.example/v1/tickets/7', 'api.desk.example')).toMatch(/^HTTP\/1\.1 400 /)
    expect(await ask('/things', 'plain.desk.example')).toMatch(/^HTTP\/1\.1 400 [^]*this is a proxy/)
    expect(await ask('http://a:b@plain.desk.example/things', 'plain.desk.example')).toMatch(/^HTTP\/1\.1 400 /)
    expect(await ask('http://plain.desk.example/%2e%2e/things', 'plain.desk.example')).toMatch(/^HTTP\/1\.1 400 /)
    expect(looked).toEqual([])
  })
})

describe('hosts that pass unopened', () => {
  test('the bytes of a tunnel are those of its host, counted both ways and recorded', async () => {
    const { connect, audit, api, dialled } = await open()
    const stream = await secure(await connect('files.desk.example:443'), {
      servername: 'files.desk.example',
      rejectUnauthorized: false,
    })
    expect(stream.getPeerX509Certificate()?.issuer).not.toBe('')
    const wire = new Wire(stream)
    wire.send('GET /anything HTTP/1.1\r\nHost: files.desk.example\r\nConnection: close\r\n\r\n')
    expect(await wire.end()).toContain('"url":"/anything"')
    expect(dialled).toEqual(['127.0.0.1:443'])
    await until('the outcome is recorded', () => audit.of('action.done').length === 1)
    const [event] = audit.of('action.done')
    expect(event).toMatchObject({
      permission: 'out:connect',
      host: 'files.desk.example',
      result: { host: 'files.desk.example', port: 443, address: '127.0.0.1' },
    })
    expect(Number(event?.['sent'])).toBeGreaterThan(300)
    expect(Number(event?.['bytes'])).toBeGreaterThan(600)
    expect(api.names).toEqual(['files.desk.example'])
  })

  test.each([
    ['another name', { servername: 'secret.desk.example' }],
    ['no name', { servername: '' }],
  ])('promise 3: TLS that asks for %s does not pass', async (_what, options) => {
    const { connect, api, audit } = await open()
    await expect(
      secure(await connect('files.desk.example:443'), { ...options, host: '127.0.0.1', rejectUnauthorized: false }),
    ).rejects.toThrow(/unrecognized name|closed/i)
    expect(api.names).toEqual([])
    await until('it is recorded', () => audit.of('action.failed').length === 1)
    expect(audit.of('connection.refused')).toHaveLength(1)
  })

  test('promise 3: what is no TLS does not pass', async () => {
    const { connect, api, audit } = await open()
    const { wire } = await connect('files.desk.example:443')
    await wire.send('GET / HTTP/1.1\r\n\r\n').end()
    await until('it is recorded', () => audit.of('action.failed').length === 1)
    expect(api.asked).toEqual([])
  })

  test('promise 9: more bytes than the resource allows end the tunnel', async () => {
    const { connect, audit } = await open()
    const stream = await secure(await connect('files.desk.example:443'), {
      servername: 'files.desk.example',
      rejectUnauthorized: false,
    })
    const wire = new Wire(stream)
    wire.send('POST / HTTP/1.1\r\nHost: files.desk.example\r\nContent-Length: 9000000\r\n\r\n')
    stream.write(Buffer.alloc(2_000_000))
    await wire.end()
    await until('it is recorded', () => audit.of('action.failed').length === 1)
    expect(audit.of('action.failed')[0]).toMatchObject({ code: 'too_large' })
  })

  test('what goes out through a tunnel counts against `sent`, and ends it before more does', async () => {
    const { connect, inside, audit, sessions, worker } = await open(
      {},
      yaml.replace('limits: { repeats: unlimited }', 'limits: { sent: 4 kB/session }'),
    )
    const stream = await secure(await connect('files.desk.example:443'), {
      servername: 'files.desk.example',
      rejectUnauthorized: false,
    })
    const wire = new Wire(stream)
    wire.send('POST / HTTP/1.1\r\nHost: files.desk.example\r\nContent-Length: 9000000\r\n\r\n')
    for (let piece = 0; piece < 10; piece++) stream.write(Buffer.alloc(1_000))
    await wire.end()
    await until('the outcome is recorded', () => audit.of('action.failed').length === 1)
    const [failed] = audit.of('action.failed')
    expect(failed).toMatchObject({ code: 'limited', host: 'files.desk.example', mayHaveHappened: true })
    expect(failed?.['because']).toMatch(/^with \d+ bytes more, the limit of 4 kB\/session sent of agent worker would /)
    expect(Number(failed?.['sent'])).toBeLessThanOrEqual(4_000)
    expect(sessions.traffic(worker.id)?.hosts).toMatchObject([{ host: 'files.desk.example', sent: failed?.['sent'] }])
    // What is left can still be used, by whatever fits.
    const within = await inside()
    expect(await within.send(get('/v1/tickets/7')).until(/\r\n\r\n/)).toMatch(/^HTTP\/1\.1 200 /)
    within.socket.destroy()
  })

  test('promise 2: the end of a session cuts tunnels and opened connections at once', async () => {
    const { connect, inside, sessions, worker, audit } = await open()
    const tunnel = await secure(await connect('files.desk.example:443'), {
      servername: 'files.desk.example',
      rejectUnauthorized: false,
    })
    const opened = await inside()
    const both = [new Wire(tunnel).end(), opened.end()]
    await sessions.end([worker.id], 'enough', 'test')
    await Promise.all(both)
    // Cut, and not told after a while that nothing came.
    expect(opened.heard).toBe('')
    await until('it is recorded', () => audit.of('action.failed').length === 1)
    expect(audit.of('action.failed')[0]).toMatchObject({ permission: 'out:connect', code: 'cancelled' })
  })

  test('promise 2: a host that a reload takes away is cut, the others go on', async () => {
    const { connect, inside, proxy } = await open()
    const tunnel = await secure(await connect('files.desk.example:443'), {
      servername: 'files.desk.example',
      rejectUnauthorized: false,
    })
    const { resourcesIn } = await import('../../../test/support/http.ts')
    const opened = await inside()
    const cut = new Wire(tunnel).end()
    proxy.prepare({ http: resourcesIn(yaml), tunnels: [] })()
    await cut
    expect(await opened.send(get('/v1/tickets/7')).until(/}/)).toMatch(/^HTTP\/1\.1 200 /)
    opened.socket.destroy()
  })
})

test('promise 9: clients that are slow hold nothing: not before CONNECT, not after it, not inside', async () => {
  const { connect, inside, port } = await open({ patience: 200 })
  const before = await Wire.to(port)
  before.send('CONNECT api.desk.example:443 HTTP/1.1\r\nHost: api')
  const after = await connect('api.desk.example:443')
  after.wire.send('\x16\x03\x01\x02\x00\x01')
  const tunnel = await connect('files.desk.example:443')
  const within = await inside()
  within.send('GET /v1/tickets/7 HTTP/1.1\r\nHost: api')
  const said = await Promise.all([before.end(), after.wire.end(), tunnel.wire.end(), within.end()])
  for (const text of said) expect(text).not.toContain('200 OK')
})

test('promise 9: a session has so many connections and no more; others are not concerned', async () => {
  const { connect, session } = await open({ connections: { all: 100, session: 3 } })
  const boss = await session('boss')
  const three = await Promise.all([1, 2, 3].map(() => connect('api.desk.example:443')))
  expect((await connect('api.desk.example:443')).head).toMatch(/^HTTP\/1\.1 503 [^]*3 connections/)
  expect((await connect('api.desk.example:443', { 'Proxy-Authorization': basic(boss.token) })).head).toMatch(
    /^HTTP\/1\.1 200 /,
  )
  three[0]!.wire.socket.destroy()
  await until('there is room again', async () =>
    (await connect('api.desk.example:443')).head.startsWith('HTTP/1.1 200'),
  )
  for (const { wire } of three) wire.socket.destroy()
})
