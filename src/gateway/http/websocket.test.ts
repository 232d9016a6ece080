import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { connect, createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import WebSocket, { WebSocketServer } from 'ws'
import { WebSocket as UndiciWebSocket } from 'undici'
import { resourcesIn, startApi, startHttpGateway } from '../../../test/support/http.ts'
import type { HttpGatewayPorts } from './server.ts'
import { until as untilSeen } from '../../../test/support/sallyport.ts'
import { onceClosed, readHandshake } from './websocket.ts'
import type { Side } from './websocket.ts'

const until = (look: () => unknown): Promise<unknown> => untilSeen('what this test waits for', look)

const key = 'sk-live-0123456789abcdef'
const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

const policy = (url: string, limits = '', rules = '') => `
resources:
  desk:
    http: ${url}/v1
    credential: { bearer: "${key}" }
    operations:
      live: { request: "GET /live/{room}", effect: read, path: { room: { type: integer } }, query: { since: { type: string } }, headers: [X-Tenant], readers: private, websocket: true, response: { time: 1 s } }
      small: { request: "GET /small", effect: send, websocket: { message: 1 kB, time: 1 h, protocols: [chat, mqtt] } }
      short: { request: "GET /short", effect: read, websocket: { time: 300 ms } }
      plain: { request: "GET /plain", effect: read }
      add: { request: "POST /add", effect: write, body: { properties: { text: { type: string } } } }
      hidden: { request: "GET /hidden", effect: read, websocket: true }
      kept: { request: "GET /kept", effect: read }
      asked: { request: "GET /asked", effect: destroy, websocket: true }
agents:
  reader:
    may: ["desk:live", "desk:small", "desk:short", "desk:plain", "desk:add", "desk:asked"]
    limits: { repeats: unlimited${limits} }
${rules}`

interface Asked {
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly raw: readonly string[]
}

/** An API that opens WebSockets; by default it sends back what it is sent. */
async function startUpstream() {
  const asked: Asked[] = []
  const open: WebSocket[] = []
  const server = createServer((_req, res) => res.writeHead(200, { 'content-type': 'text/plain' }).end('no upgrade'))
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: true })
  let connections = 0
  server.on('connection', () => (connections += 1))
  const upstream = {
    asked,
    open,
    sockets,
    connections: () => connections,
    url: '',
    on: (ws: WebSocket, _req: IncomingMessage): void =>
      void ws.on('message', (data: Buffer, isBinary) => ws.send(data, { binary: isBinary })),
  }
  server.on('upgrade', (req, socket, head) => {
    asked.push({ url: req.url ?? '', headers: req.headers, raw: req.rawHeaders })
    sockets.handleUpgrade(req, socket, head, (ws) => {
      ws.on('error', () => {})
      open.push(ws)
      upstream.on(ws, req)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  upstream.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  closing.push(async () => {
    for (const ws of open) ws.terminate()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return upstream
}

/** A server that answers a connection with these bytes, or with nothing. */
async function startBytes(answer: (head: string) => string | undefined): Promise<string> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (head) => {
      const text = answer(head.toString('latin1'))
      if (text !== undefined) socket.write(text)
    })
    closing.push(() => socket.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => new Promise((resolve) => server.close(resolve)))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function start(
  url: string,
  { limits = '', rules = '', ports = {} }: { limits?: string; rules?: string; ports?: Partial<HttpGatewayPorts> } = {},
) {
  const gateway = await startHttpGateway(policy(url, limits, rules), { gateway: ports, secrets: { DESK: key } })
  closing.push(gateway.close)
  closing.push(() => expect(gateway.reported).toEqual([]))
  const { token, id } = await gateway.session('reader')
  const at = gateway.url.replace('http', 'ws')
  return {
    ...gateway,
    token,
    id,
    port: Number(new URL(gateway.url).port),
    /** A WebSocket of an agent. */
    socket(path: string, { headers = {}, protocols = [] as string[], ...options }: ClientOptions = {}): Client {
      const ws = new WebSocket(`${at}/api/desk/v1${path}`.replace('/desk/v1', '/desk'), protocols, {
        headers: { authorization: `Bearer ${token}`, ...headers },
        ...options,
      })
      closing.push(() => ws.terminate())
      return clientOf(ws)
    },
    async outcome() {
      const ofOutcome = () => gateway.audit.events.filter(({ type }) => type.startsWith('action.'))
      await until(() => ofOutcome().length > 0)
      return ofOutcome()[0]!
    },
  }
}

type ClientOptions = { headers?: Record<string, string>; protocols?: string[] } & WebSocket.ClientOptions
interface Client {
  readonly ws: WebSocket
  readonly heard: string[]
  readonly opened: Promise<void>
  readonly refused: Promise<{ status: number; body: string; headers: IncomingMessage['headers'] }>
  readonly closed: Promise<{ code: number; reason: string }>
  next(): Promise<string>
}

function clientOf(ws: WebSocket): Client {
  const heard: string[] = []
  let read = 0
  ws.on('message', (data: Buffer) => heard.push(data.toString()))
  ws.on('error', () => {})
  const refused = new Promise<Awaited<Client['refused']>>((resolve) =>
    ws.once('unexpected-response', (_req, res) => {
      const chunks: Buffer[] = []
      res.on('data', (chunk: Buffer) => chunks.push(chunk))
      res.on('end', () =>
        resolve({ status: res.statusCode ?? 0, body: Buffer.concat(chunks).toString(), headers: res.headers }),
      )
    }),
  )
  return {
    ws,
    heard,
    refused,
    opened: new Promise((resolve) => ws.once('open', resolve)),
    closed: new Promise((resolve) => ws.once('close', (code, reason) => resolve({ code, reason: reason.toString() }))),
    async next() {
      await until(() => heard.length > read)
      return heard[read++] ?? ''
    },
  }
}

const handshake = (path: string, token: string, ...more: string[]): string =>
  [
    `GET /api/desk${path} HTTP/1.1`,
    'Host: 127.0.0.1',
    `Authorization: Bearer ${token}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ...more,
    '\r\n',
  ].join('\r\n')

/** What is answered to bytes, until the connection ends. */
async function raw(port: number, text: string, ...later: Buffer[]): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  closing.push(() => socket.destroy())
  socket.on('error', () => {})
  socket.write(text, 'latin1')
  let heard = ''
  socket.on('data', (chunk) => (heard += chunk.toString('latin1')))
  if (later.length > 0) {
    await until(() => heard.includes('\r\n\r\n'))
    for (const each of later) socket.write(each)
  }
  await new Promise((resolve) => socket.once('close', resolve))
  return heard
}

describe('what is opened', () => {
  test('a listed operation: decided with its arguments, with the credential, and nothing of the agent’s own', async () => {
    const upstream = await startUpstream()
    const { socket, audit, outcome, token, sessions, id } = await start(upstream.url)
    expect(sessions.label(id).readers).toBe('public')
    const { next, ws, opened, closed } = socket('/live/7?since=a%20b', {
      headers: {
        cookie: 'a=b',
        'x-api-key': 'mine',
        'x-tenant': 't1',
        'x-other': 'no',
        'x-forwarded-for': '1.1.1.1',
      },
    })
    await opened
    ws.send('hello')
    expect(await next()).toBe('hello')
    // What is read marks the session before any of it arrives.
    expect(sessions.label(id)).toMatchObject({ trust: 'untrusted', readers: 'private' })
    ws.close(3001, 'enough')
    expect(await closed).toMatchObject({ code: 3001 })

    expect(upstream.asked).toHaveLength(1)
    const [asked] = upstream.asked
    expect(asked?.url).toBe('/v1/live/7?since=a%20b')
    expect(asked?.headers).toMatchObject({ authorization: `Bearer ${key}`, 'x-tenant': 't1' })
    const names = asked!.raw.filter((_, at) => at % 2 === 0).map((name) => name.toLowerCase())
    expect(names.toSorted()).toEqual([
      'authorization',
      'connection',
      'host',
      'sec-websocket-key',
      'sec-websocket-version',
      'upgrade',
      'user-agent',
      'x-tenant',
    ])
    expect(JSON.stringify(asked)).not.toContain(token)
    expect(audit.of('decision')[0]).toMatchObject({
      permission: 'desk:live',
      via: 'http',
      name: 'GET /live/{room}',
      args: { room: 7, since: 'a b', headers: { 'x-tenant': 't1' } },
      decision: 'allow',
    })
    expect(await outcome()).toMatchObject({
      type: 'action.done',
      host: '127.0.0.1',
      bytes: 5,
      label: { readers: 'private' },
      secrets: [expect.stringMatching(/^test:/)],
      result: {
        status: 101,
        sent: { messages: 1, bytes: 5 },
        received: { messages: 1, bytes: 5 },
        closed: { by: 'agent', code: 3001 },
      },
    })
    expect(JSON.stringify(audit.events)).not.toContain(key)
  })

  test.each([
    ['Node’s own', (globalThis as unknown as { WebSocket: typeof UndiciWebSocket }).WebSocket],
    ['undici', UndiciWebSocket],
  ])('%s as a client: text and bytes, both ways, and codes of a close', async (_who, Own) => {
    const upstream = await startUpstream()
    const { url, token } = await start(upstream.url)
    const ws = new Own(`${url.replace('http', 'ws')}/api/desk/live/1`, {
      headers: { authorization: `Bearer ${token}` },
    })
    ws.binaryType = 'arraybuffer'
    const heard: unknown[] = []
    ws.addEventListener('message', ({ data }) =>
      heard.push(typeof data === 'string' ? data : Buffer.from(data as ArrayBuffer).toString('hex')),
    )
    await new Promise((resolve, reject) => {
      ws.addEventListener('open', resolve)
      ws.addEventListener('error', reject)
    })
    ws.send('ü'.repeat(40_000))
    ws.send(new Uint8Array([0, 255, 128]))
    await until(() => heard.length === 2)
    expect(heard).toEqual(['ü'.repeat(40_000), '00ff80'])
    const closed = new Promise<{ code: number; reason: string }>((resolve) =>
      ws.addEventListener('close', ({ code, reason }) => resolve({ code, reason })),
    )
    upstream.open[0]?.close(4321, `moved: ${key}`)
    expect(await closed).toEqual({ code: 4321, reason: 'moved: [secret DESK]' })
  })

  test('an operation that opens WebSockets is an ordinary one too, and no tool', async () => {
    const upstream = await startUpstream()
    const { url, token, gateway } = await start(upstream.url)
    const answer = await fetch(`${url}/api/desk/live/1`, { headers: { authorization: `Bearer ${token}` } })
    expect(await answer.text()).toBe('no upgrade')
    expect(
      gateway
        .tools()
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(['add', 'kept', 'plain'])
  })

  test('subprotocols: those that are asked for, listed, and chosen by the upstream', async () => {
    const upstream = await startUpstream()
    const { socket, outcome } = await start(upstream.url)
    const listed = socket('/small', { protocols: ['secret-token', 'mqtt', 'chat'] })
    await listed.opened
    expect(listed.ws.protocol).toBe('mqtt')
    expect(upstream.asked[0]?.headers['sec-websocket-protocol']).toBe('mqtt,chat')
    listed.ws.close()
    expect(await outcome()).toMatchObject({ result: { protocol: 'mqtt', closed: { code: 1005 } } })
    expect((await socket('/small', { protocols: ['other'] }).refused).status).toBe(400)
    const open = socket('/live/1', { protocols: ['anything'] })
    await open.opened
    expect(open.ws.protocol).toBe('anything')
    expect(upstream.asked).toHaveLength(2)
  })

  test('an upstream that chooses no subprotocol, or another one, opens nothing', async () => {
    const upstream = await startUpstream()
    for (const chosen of [false, 'other'] as const) {
      upstream.sockets.options.handleProtocols = () => chosen
      const { socket } = await start(upstream.url)
      expect((await socket('/live/1', { protocols: ['chat'] }).refused).status).toBe(502)
    }
  })
})

describe('what is refused', () => {
  test('promise 3: what is not listed, or not for this session, does not exist: nothing is dialled', async () => {
    const upstream = await startUpstream()
    const dialled: unknown[] = []
    const { socket, audit } = await start(upstream.url, {
      ports: { egress: { dial: (options, callback) => (dialled.push(options), callback(new Error('dialled'), null)) } },
    })
    const bodies = new Set<string>()
    for (const path of ['/nothing', '/live', '/live/1/2', '/hidden', '/kept']) {
      const { status, body } = await socket(path).refused
      expect([path, status]).toEqual([path, 404])
      bodies.add(body)
    }
    expect(bodies.size).toBe(1)
    // What the session may know of, but not as a WebSocket.
    expect((await socket('/plain').refused).status).toBe(426)
    expect(dialled).toEqual([])
    expect(upstream.connections()).toBe(0)
    expect(audit.of('name.unknown')).toHaveLength(3)
    expect(audit.of('decision').map(({ permission, decision }) => [permission, decision])).toEqual([
      ['desk:hidden', 'deny'],
      ['desk:kept', 'deny'],
    ])
  })

  test('wrong arguments, what needs a person, and whoever brings no token: with the same words as other requests', async () => {
    const upstream = await startUpstream()
    const { socket, audit } = await start(upstream.url)
    const wrong = await socket('/live/x?more=1').refused
    expect(wrong.status).toBe(400)
    expect(JSON.parse(wrong.body)).toMatchObject({ error: { code: 'invalid_arguments' } })
    expect(JSON.parse((await socket('/asked').refused).body)).toMatchObject({ error: { code: 'approval_pending' } })
    expect((await socket('/live/1', { headers: { authorization: 'Bearer wrong' } }).refused).status).toBe(401)
    expect((await socket('/live/1', { headers: { origin: 'https://evil.example' } }).refused).status).toBe(403)
    expect(upstream.connections()).toBe(0)
    expect(audit.of('decision')).toHaveLength(2)
  })

  test('a question that was agreed to opens it once', async () => {
    const upstream = await startUpstream()
    const { socket, approvals } = await start(upstream.url)
    await socket('/asked').refused
    const [question] = await approvals.list({ state: 'pending' } as never)
    await approvals.answer(
      question!.id,
      { id: 'person:ada', groups: [], roles: ['approver', 'admin'] } as never,
      'approve',
    )
    const { ws, next, opened } = socket('/asked')
    await opened
    ws.send('a')
    expect(await next()).toBe('a')
    expect((await socket('/asked').refused).status).toBe(403)
  })

  test.each([
    ['HTTP/2', 426, (token: string) => handshake('/live/1', token).replace('websocket', 'h2c')],
    ['two protocols', 426, (token: string) => handshake('/live/1', token).replace('websocket', 'websocket, h2c')],
    ['another version', 426, (token: string) => handshake('/live/1', token).replace('Version: 13', 'Version: 8')],
    ['no key', 400, (token: string) => handshake('/live/1', token).replace(/Sec-WebSocket-Key.*\r\n/, '')],
    ['a short key', 400, (token: string) => handshake('/live/1', token).replace('dGhl', '')],
    ['two keys', 400, (token: string) => handshake('/live/1', token, 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')],
    ['HTTP/1.0', 400, (token: string) => handshake('/live/1', token).replace('HTTP/1.1', 'HTTP/1.0')],
    ['another method', 404, (token: string) => handshake('/live/1', token).replace('GET', 'POST')],
    ['a body', 400, (token: string) => `${handshake('/live/1', token, 'Content-Length: 5')}hello`],
    ['an empty body', 400, (token: string) => handshake('/live/1', token, 'Content-Length: 0')],
    [
      'a body in chunks',
      400,
      (token: string) => `${handshake('/live/1', token, 'Transfer-Encoding: chunked')}0\r\n\r\n`,
    ],
    ['an expectation', 400, (token: string) => handshake('/live/1', token, 'Expect: 100-continue')],
    ['more bytes than it', 400, (token: string) => `${handshake('/live/1', token)}\x81\x80\0\0\0\0`],
    ['another request behind it', 400, (token: string) => handshake('/live/1', token) + handshake('/live/2', token)],
    [
      'subprotocols that can’t be read',
      400,
      (token: string) => handshake('/live/1', token, 'Sec-WebSocket-Protocol: a b'),
    ],
    ['one subprotocol twice', 400, (token: string) => handshake('/live/1', token, 'Sec-WebSocket-Protocol: a, a')],
  ])('promise 3: an upgrade with %s opens nothing, and ends the connection', async (_what, status, make) => {
    const upstream = await startUpstream()
    const { port, token } = await start(upstream.url)
    const heard = await raw(port, make(token))
    expect(heard).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
    expect(heard.match(/HTTP\/1\.1 \d/g)).toHaveLength(1)
    expect(heard).toMatch(/connection: close/i)
    expect(upstream.connections()).toBe(0)
  })

  test('promise 3: a request behind an upgrade that is refused is never read', async () => {
    const upstream = await startUpstream()
    const { port, token } = await start(upstream.url)
    for (const path of ['/nothing', '/plain', '/hidden']) {
      const heard = await raw(
        port,
        handshake(path, token) + handshake('/live/1', token).replace(/Connection[^]*?\r\n/, ''),
      )
      expect(heard.match(/HTTP\/1\.1 \d/g)).toHaveLength(1)
    }
    expect(upstream.connections()).toBe(0)
  })

  test('promise 3: an upgrade behind a request that has not been answered opens nothing', async () => {
    const api = await startApi()
    closing.push(api.close)
    api.on = () => {}
    const { port, token } = await start(api.url)
    const plain = `GET /api/desk/plain HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${token}\r\n\r\n`
    expect(await raw(port, plain + handshake('/live/1', token))).not.toMatch(/ 101 /)
    expect(api.seen.every(({ headers }) => headers.upgrade === undefined)).toBe(true)
  })

  test('a client that leaves before it is answered leaves nothing behind', async () => {
    let asked = 0
    const url = await startBytes(() => void (asked += 1))
    const { port, token, outcome } = await start(url)
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    socket.write(handshake('/live/1', token))
    await until(() => asked === 1)
    socket.end()
    expect(await outcome()).toMatchObject({ type: 'action.failed', code: 'cancelled' })
  })

  test.each([
    ['answers 200', () => 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi', 502],
    ['redirects', () => 'HTTP/1.1 302 Found\r\nlocation: ws://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n', 502],
    ['says 401', () => 'HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n', 502],
    [
      'proves nothing',
      () => 'HTTP/1.1 101 Yes\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: AAAA\r\n\r\n',
      502,
    ],
    ['upgrades to something else', () => 'HTTP/1.1 101 Yes\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n', 502],
    ['speaks no HTTP', () => 'SSH-2.0-OpenSSH_9.9\r\n', 502],
    ['says nothing', () => undefined, 504],
  ])('an upstream that %s: the agent is told, and nothing is opened', async (_what, answer, status) => {
    const { socket, outcome } = await start(await startBytes(answer))
    const refused = await socket('/live/1').refused
    expect(refused.status).toBe(status)
    expect(JSON.parse(refused.body)).toMatchObject({ error: { code: 'upstream' } })
    expect(await outcome()).toMatchObject({ type: 'action.failed', code: 'unavailable' })
  })

  test('promise 3: where an upstream’s address may not be reached, nothing is dialled', async () => {
    const dialled: unknown[] = []
    const { socket } = await start('http://inside.example', {
      ports: {
        egress: {
          resolve: async () => ['10.0.0.1'],
          dial: (options, callback) => (dialled.push(options), callback(new Error('dialled'), null)),
        },
      },
    })
    const refused = await socket('/live/1').refused
    expect([refused.status, JSON.parse(refused.body).error.code]).toEqual([502, 'forbidden'])
    expect(dialled).toEqual([])
  })
})

const own = WebSocket.prototype.send

describe('what passes', () => {
  test('promise 4: the key is masked in every message, in every form, also split over fragments', async () => {
    const upstream = await startUpstream()
    upstream.on = (ws, req) => {
      ws.send(JSON.stringify(req.headers))
      ws.send(Buffer.from(`user:${key}`).toString('base64'))
      ws.send(Buffer.from(key).toString('hex'))
      ws.send(Buffer.from(`\0\x01${key}\xff`, 'latin1'), { binary: true })
      for (const character of key) ws.send(character, { fin: false })
      ws.send('.', { fin: true })
      ws.close(1000, key)
    }
    const { socket } = await start(upstream.url)
    const { heard, closed } = socket('/live/1')
    const { reason } = await closed
    expect(heard).toHaveLength(5)
    const all = `${heard.join('')}${reason}`
    for (const form of [key, Buffer.from(key).toString('base64').slice(2, 28), Buffer.from(key).toString('hex')])
      expect(all).not.toContain(form)
    expect(heard[4]).toBe('[secret DESK].')
    expect(all.match(/\[secret DESK\]/g)).toHaveLength(6)
  })

  test.each([
    ['the agent', (client: Client) => client.ws.send('x'.repeat(1_001))],
    ['the upstream', (_client: Client, ws: WebSocket | undefined) => ws?.send('x'.repeat(1_001))],
  ])('a message of %s beyond its bound: 1009, and both are closed', async (_who, send) => {
    const upstream = await startUpstream()
    const { socket, outcome } = await start(upstream.url)
    const client = socket('/small')
    await client.opened
    client.ws.send('y'.repeat(1_000))
    expect(await client.next()).toHaveLength(1_000)
    const other = once(upstream.open[0]!, 'close')
    send(client, upstream.open[0])
    expect((await client.closed).code).toBe(1009)
    await other
    expect(client.heard).toHaveLength(1)
    expect(await outcome()).toMatchObject({ type: 'action.failed', code: 'too_large', bytes: 1_000, sent: 1_000 })
  })

  test.each([
    ['no mask', Buffer.from([0x81, 2, 0x68, 0x69])],
    ['bits that mean nothing', Buffer.from([0xf1, 0x80, 0, 0, 0, 0])],
    ['an unknown kind', Buffer.from([0x83, 0x80, 0, 0, 0, 0])],
    ['what is no UTF-8', Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0xff])],
    ['a continuation of nothing', Buffer.from([0x80, 0x80, 0, 0, 0, 0])],
    ['a long ping', Buffer.concat([Buffer.from([0x89, 0xfe, 0, 200, 0, 0, 0, 0]), Buffer.alloc(200)])],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n')],
  ])('frames with %s end both, and nothing of them goes on', async (_what, bytes) => {
    const upstream = await startUpstream()
    const heard: string[] = []
    upstream.on = (ws) => void ws.on('message', (data: Buffer) => heard.push(data.toString()))
    const { port, token, outcome } = await start(upstream.url)
    const text = await raw(port, handshake('/live/1', token), bytes)
    expect(text).toMatch(/^HTTP\/1\.1 101 /)
    // A close frame with its code: 1002, or 1007 for a text that is none.
    const frame = Buffer.from(text.slice(text.indexOf('\r\n\r\n') + 4), 'latin1')
    expect(frame[0]).toBe(0x88)
    expect([1002, 1007]).toContain(frame.readUInt16BE(2))
    await until(() => upstream.open[0]?.readyState === WebSocket.CLOSED)
    expect(heard).toEqual([])
    expect(await outcome()).toMatchObject({ type: 'action.failed', code: 'invalid' })
  })

  test('an upstream that speaks badly ends both: the agent is told 1014', async () => {
    const upstream = await startUpstream()
    upstream.on = (ws) => void (ws as unknown as { _socket: Socket })._socket.write(Buffer.from([0x83, 0]))
    const { socket } = await start(upstream.url)
    expect((await socket('/live/1').closed).code).toBe(1014)
  })

  test('promise 2: the end of a session closes both at once', async () => {
    const upstream = await startUpstream()
    const { socket, sessions, id, outcome } = await start(upstream.url)
    const { opened, closed } = socket('/live/1')
    await opened
    const other = once(upstream.open[0]!, 'close')
    await sessions.end([id], 'killed by ada', 'person:ada')
    expect((await closed).code).toBe(1008)
    await other
    expect(await outcome()).toMatchObject({ type: 'action.failed', code: 'cancelled' })
  })

  test('a limit of what goes out: the message for which there is no room does not go, 1008 and the reason', async () => {
    const upstream = await startUpstream()
    const { socket, outcome } = await start(upstream.url, { limits: ', sent: 100 B/session' })
    const client = socket('/live/1')
    await client.opened
    client.ws.send('x'.repeat(60))
    await client.next()
    client.ws.send('y'.repeat(60))
    const { code, reason } = await client.closed
    expect(code).toBe(1008)
    expect(reason).toMatch(/100 B\/session sent/)
    await until(() => upstream.open[0]?.readyState === WebSocket.CLOSED)
    expect(client.heard).toEqual(['x'.repeat(60)])
    expect(await outcome()).toMatchObject({ type: 'action.failed', code: 'limited', sent: 60 })
    expect(
      await socket('/live/1').opened.then(
        () => 'opened',
        () => 'not',
      ),
    ).toBe('opened')
  })

  test('what others of the session do counts: each message is held against what is in force by now', async () => {
    const upstream = await startUpstream()
    const { socket, audit } = await start(upstream.url, { limits: ', bytes: 100 B/session, concurrent: 1' })
    const client = socket('/live/1')
    await client.opened
    client.ws.send('x'.repeat(120))
    await client.next()
    client.ws.send('one more')
    expect((await client.closed).code).toBe(1008)
    expect(audit.of('action.failed')[0]).toMatchObject({ code: 'limited', bytes: 120 })
  })

  test('a rule that asks because of what was read holds for what is already open, also behind a full limit', async () => {
    const upstream = await startUpstream()
    const rules = 'rules:\n  - { ask: "desk:small", when: flow.untrusted }\n'
    for (const limits of ['', ', concurrent: 1']) {
      const heard: string[] = []
      upstream.on = (ws) => void ws.on('message', (data: Buffer) => heard.push(data.toString()))
      const { socket } = await start(upstream.url, { limits, rules })
      const client = socket('/small', { protocols: ['chat'] })
      await client.opened
      // It was opened before anything was read; what it reads itself marks the session.
      client.ws.send('what was read')
      const { code, reason } = await client.closed
      expect(code).toBe(1008)
      expect(reason).toMatch(/a person has to agree/)
      expect(heard).toEqual([])
    }
  })

  test('calls that are used up do not end what is open', async () => {
    const upstream = await startUpstream()
    const { socket } = await start(upstream.url, { limits: ', calls: 1/h, concurrent: 1' })
    const client = socket('/live/1')
    await client.opened
    client.ws.send('a')
    expect(await client.next()).toBe('a')
    expect((await socket('/live/1').refused).status).toBe(429)
    client.ws.send('b')
    expect(await client.next()).toBe('b')
  })

  test('a reload that takes the operation away closes what is open', async () => {
    const upstream = await startUpstream()
    const world = await start(upstream.url, { ports: { beat: 20 } })
    const { opened, closed } = world.socket('/live/1')
    await opened
    world.gateway.prepare([])()
    expect(await closed).toMatchObject({ code: 1008, reason: expect.stringContaining('changed') as string })
  })

  test('its time bounds it', async () => {
    const upstream = await startUpstream()
    const { socket, outcome } = await start(upstream.url)
    const { closed } = socket('/short')
    expect(await closed).toMatchObject({ code: 1001, reason: 'the WebSocket was open for 0.3 s' })
    expect(await outcome()).toMatchObject({ type: 'action.failed', code: 'unavailable' })
  })

  test('who is there is asked: one that does not answer is given up, one that does may be silent', async () => {
    const upstream = await startUpstream()
    const { socket, outcome } = await start(upstream.url, { ports: { beat: 50 } })
    const silent = socket('/live/1')
    let pings = 0
    silent.ws.on('ping', () => (pings += 1))
    await until(() => pings > 5)
    expect(silent.ws.readyState).toBe(WebSocket.OPEN)
    silent.ws.terminate()
    await outcome()

    const dead = socket('/live/2', { autoPong: false })
    expect((await dead.closed).code).toBe(1001)

    upstream.on = (ws) => void (ws as unknown as { _socket: Socket })._socket.pause()
    expect((await socket('/live/3').closed).code).toBe(1014)
  })

  test('a side that breaks off ends the other: 1014 for the agent, 1001 for the upstream', async () => {
    const upstream = await startUpstream()
    const { socket } = await start(upstream.url)
    const first = socket('/live/1')
    await first.opened
    upstream.open[0]?.terminate()
    expect((await first.closed).code).toBe(1014)
    const second = socket('/live/1')
    await second.opened
    const other = once(upstream.open[1]!, 'close')
    second.ws.terminate()
    expect((await other)[0]).toBe(1001)
  })

  test('a session has so many at once, and gets a seat back', async () => {
    const upstream = await startUpstream()
    const { socket } = await start(upstream.url)
    const all = Array.from({ length: 64 }, () => socket('/live/1'))
    await Promise.all(all.map(({ opened }) => opened))
    const { status, headers } = await socket('/live/1').refused
    expect([status, headers['retry-after']]).toEqual([503, '1'])
    all[0]?.ws.close()
    await until(() => {
      const { opened, refused } = socket('/live/1')
      return Promise.race([opened.then(() => true), refused.then(() => false)])
    })
  }, 20_000)

  test('what waits for an agent that does not read keeps its seat until it is closed', () => {
    const sides = [new PassThrough(), new PassThrough()].map((socket) => ({ socket }) as unknown as Side)
    let isFree = false
    onceClosed([...sides, undefined], () => (isFree = true))
    sides[0]?.socket.emit('close')
    expect(isFree).toBe(false)
    sides[1]?.socket.emit('close')
    expect(isFree).toBe(true)
  })

  test.each(['the agent', 'the upstream'] as const)(
    'promise 9: where %s does not read, the other is not read either, and memory stays bounded',
    async (whose) => {
      const upstream = await startUpstream()
      upstream.on = () => {}
      const { socket } = await start(upstream.url)
      const client = socket('/live/1')
      await client.opened
      const [reader, writer] = whose === 'the agent' ? [client.ws, upstream.open[0]!] : [upstream.open[0]!, client.ws]
      reader.pause()
      const chunk = Buffer.alloc(64 * 1024, 'a')
      // What waits at the gateway: it has the other two of the four ends.
      let most = 0
      const send = vi.spyOn(WebSocket.prototype, 'send').mockImplementation(function (
        this: WebSocket,
        ...given: unknown[]
      ) {
        if (this !== reader && this !== writer) most = Math.max(most, this.bufferedAmount)
        return own.apply(this, given as never)
      } as never)
      closing.push(() => send.mockRestore())
      // Until nothing more is taken: what is left over stays with who writes.
      let taken = 0
      let still = 0
      while (still < 20) {
        const waiting = writer.bufferedAmount
        if (waiting < 4 * chunk.length)
          for (let i = 0; i < 8; i++) writer.send(chunk, () => void (taken += chunk.length))
        await pause(10)
        still = writer.bufferedAmount >= waiting && waiting > 0 ? still + 1 : 0
      }
      expect(taken).toBeLessThan(40 * 1024 * 1024) // What fits into buffers of the system, for all four ends.
      expect(most).toBeGreaterThan(chunk.length)
      expect(most).toBeLessThan(512 * 1024)
      let read = 0
      const all = taken
      reader.on('message', (data: Buffer) => (read += data.length))
      reader.resume()
      await until(() => read >= all)
    },
    20_000,
  )

  test('a flood of pings that are never read ends the connection', async () => {
    const upstream = await startUpstream()
    const { port, token, outcome } = await start(upstream.url)
    const socket = connect(port, '127.0.0.1')
    closing.push(() => socket.destroy())
    socket.on('error', () => {})
    socket.write(handshake('/live/1', token))
    await once(socket, 'readable')
    const ping = Buffer.concat([Buffer.from([0x89, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)])
    const many = Buffer.concat(Array.from({ length: 2_000 }, () => ping))
    const closed = new Promise((resolve) => socket.once('close', resolve))
    const flood = (): void => {
      while (!socket.destroyed && socket.write(many));
    }
    socket.on('drain', flood)
    flood()
    await closed
    await until(() => upstream.open[0]?.readyState === WebSocket.CLOSED)
    expect((await outcome()).type).toMatch(/^action\./)
  })
})

test.each([
  ['{ request: "POST /a", effect: write, websocket: true }', /a WebSocket is opened by a `GET`/],
  ['{ request: "GET /a", effect: read, websocket: yes please }', /expected `true`, or `{ message, time, protocols }`/],
  ['{ request: "GET /a", effect: read, websocket: false }', /expected `true`/],
  ['{ request: "GET /a", effect: read, websocket: { message: 17 MB } }', /at most 16 MB/],
  ['{ request: "GET /a", effect: read, websocket: { time: 25 h } }', /at most 24 h/],
  ['{ request: "GET /a", effect: read, websocket: { protocols: [] } }', /protocols/],
  ['{ request: "GET /a", effect: read, websocket: { protocols: ["a b"] } }', /name of a subprotocol/],
  ['{ effect: read, websocket: true }', /`websocket` goes with `request`/],
])('settings that can’t be: %s', (operation, expected) => {
  const settings = `resources:\n  desk:\n    http: https://a.example\n    operations: { a: ${operation} }\nagents: { b: {} }`
  expect(() => resourcesIn(settings)).toThrow(expected)
})

test('settings that are left out: 1 MB, one hour, any subprotocol', () => {
  const [desk] = resourcesIn(policy('https://a.example'))
  expect(desk?.operations.get('live')?.websocket).toEqual({ message: 1_000_000, time: 3_600_000 })
  expect(desk?.operations.get('small')?.websocket).toEqual({
    message: 1_000,
    time: 3_600_000,
    protocols: ['chat', 'mqtt'],
  })
  expect(desk?.operations.get('plain')?.websocket).toBeUndefined()
})

test('a handshake is read in one way', () => {
  const headers = {
    upgrade: 'WebSocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  }
  const read = (more: object, protocols?: string[]) =>
    readHandshake({ method: 'GET', httpVersion: '1.1', headers: { ...headers, ...more } } as never, { protocols })
  expect(read({})).toEqual({ protocols: [] })
  expect(read({ 'sec-websocket-protocol': 'a,  b' })).toEqual({ protocols: ['a', 'b'] })
  expect(read({ 'sec-websocket-protocol': 'a, b' }, ['b'])).toEqual({ protocols: ['b'] })
  expect(read({ 'sec-websocket-version': '12' })).toBe('other_version')
  expect(() => read({ 'sec-websocket-protocol': 'a' }, ['b'])).toThrow('none of its subprotocols is listed')
  expect(() => read({ 'sec-websocket-protocol': Array.from({ length: 11 }, (_, at) => `p${at}`).join() })).toThrow(
    'more than 10',
  )
  expect(() => read({ upgrade: 'h2c' })).toThrow('Upgrade: websocket')
})
