import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { mcpResource, startGateway, toolSettings } from '../../test/support/gateway.ts'
import { ask, initialize, send } from '../../test/support/mcp.ts'
import { scriptedUpstream } from '../../test/support/upstream.ts'
import { listenForAgents } from './listener.ts'
import type { AgentHandler, ListenerOptions } from './listener.ts'

const policy = `
resources: { desk: { mcp: { command: [desk] }, tools: { echo: read } } }
agents: { clerk: { may: ["desk:echo"], limits: { repeats: unlimited } } }
`
const echo = { name: 'desk__echo', arguments: { text: 'hello' } }

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function open(listener: Partial<ListenerOptions> = {}) {
  const upstream = await scriptedUpstream()
  closing.push(upstream.close)
  const gateway = await startGateway(
    policy,
    [mcpResource('desk', upstream.url, { tools: toolSettings({ echo: 'read' }) })],
    { listener },
  )
  closing.push(gateway.close)
  const { id, token } = await gateway.session('clerk')
  const works = async (): Promise<boolean> =>
    (await ask({ url: gateway.url, token }, 'tools/call', echo)).answer.result?.['isError'] === undefined
  return { upstream, gateway, id, at: { url: gateway.url, token }, works }
}

/** Sends bytes on a connection of its own, and resolves with all that came back when it closed. */
async function raw(port: number, bytes: string | Buffer, { keepOpen = false } = {}): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  closing.push(() => socket.destroy())
  let seen = ''
  socket.on('data', (chunk) => (seen += String(chunk)))
  socket.on('error', () => {})
  socket.write(bytes)
  if (!keepOpen) socket.end()
  await once(socket, 'close')
  return seen
}

describe('who asks', () => {
  test('without a token, or with a wrong one, is told where to get one, and nothing else', async () => {
    const { gateway, at } = await open()
    const none = await send({ ...at, token: '' }, '{}', { authorization: undefined })
    expect(none.status).toBe(401)
    expect(none.headers.get('www-authenticate')).toBe(
      `Bearer resource_metadata="${gateway.listener.url}/.well-known/oauth-protected-resource/mcp"`,
    )
    for (const authorization of [
      'Bearer nonsense',
      `Bearer ${at.token}x`,
      `Basic ${at.token}`,
      at.token,
      `Bearer ${at.token} ${at.token}`,
      'Bearer',
    ]) {
      const wrong = await send(at, '{}', { authorization })
      expect([authorization, wrong.status]).toEqual([authorization, 401])
      expect(wrong.text).not.toContain(at.token)
    }
    const metadata = await (await fetch(`${gateway.listener.url}/.well-known/oauth-protected-resource/mcp`)).json()
    expect(metadata).toMatchObject({
      resource: gateway.url,
      authorization_servers: [gateway.listener.url],
      bearer_methods_supported: ['header'],
    })
  })

  test('promise 4: a token in the address is not taken, nor sent back', async () => {
    const { at } = await open()
    const answer = await send({ url: `${at.url}?access_token=${at.token}`, token: '' }, '{}', {
      authorization: undefined,
    })
    expect(answer.status).toBe(401)
    expect(answer.text + JSON.stringify([...answer.headers])).not.toContain(at.token)
  })

  test('is nobody any more when the session ended', async () => {
    const { gateway, at, id } = await open()
    await gateway.sessions.end([id], 'enough', 'test')
    expect((await ask(at, 'tools/list')).status).toBe(401)
  })

  test('promise 6: nothing of the people’s side is here', async () => {
    const { gateway, at } = await open()
    for (const path of [
      '/',
      '/v1/approvals',
      '/v1/pins/accept',
      '/v1/audit',
      '/v1/policies',
      '/v1/sessions',
      '/v1/stops',
      '/mcp/',
      '/MCP',
      '/mcp/../v1/approvals',
      '//mcp',
      '/constructor',
      '/__proto__',
    ])
      for (const method of ['GET', 'POST']) {
        const answer = await fetch(`${gateway.listener.url}${path}`, {
          method,
          headers: { authorization: `Bearer ${at.token}` },
        })
        expect([path, method, answer.status]).toEqual([path, method, 404])
      }
  })
})

describe('where it comes from', () => {
  test('pages and host names that are not known are refused before anything is looked at', async () => {
    const { gateway, at } = await open({ hosts: ['gateway.example.com'], origins: ['https://desk.example.com'] })
    const { port } = gateway.listener
    const request = (host: string, origin?: string): Promise<string> =>
      raw(
        port,
        `GET /oauth/jwks HTTP/1.1\r\nhost: ${host}\r\n${origin === undefined ? '' : `origin: ${origin}\r\n`}connection: close\r\n\r\n`,
      )
    const status = async (host: string, origin?: string): Promise<string | undefined> =>
      (await request(host, origin)).split(' ')[1]
    for (const host of [
      `127.0.0.1:${port}`,
      `localhost:${port}`,
      `[::1]:${port}`,
      'gateway.example.com',
      'GATEWAY.example.com:443',
    ])
      expect([host, await status(host)]).toEqual([host, '200'])
    for (const host of [
      'evil.example.com',
      `127.0.0.1.evil.example.com:${port}`,
      `localhost@evil.example.com`,
      'evil.example.com:80:80',
      '',
    ])
      expect([host, await status(host)]).toEqual([host, '403'])
    const own = `127.0.0.1:${port}`
    expect(await status(own, 'https://desk.example.com')).toBe('200')
    expect(await status(own, `http://${own}`)).toBe('200')
    for (const origin of [
      'https://evil.example.com',
      'null',
      'http://127.0.0.1:1',
      'https://desk.example.com.evil.com',
      'file://',
    ])
      expect([origin, await status(own, origin)]).toEqual([origin, '403'])
    expect(at.token).toBeDefined()
  })
})

describe('promise 9: bad input', () => {
  const message = (method: string, params: object = {}): string =>
    JSON.stringify({ jsonrpc: '2.0', id: 7, method, params })
  const modern = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {},
  }
  const deep = (depth: number): string =>
    `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"desk__echo","arguments":{"a":${'['.repeat(depth)}${']'.repeat(depth)}}}}`

  const cases: [
    what: string,
    body: string | Uint8Array,
    expected: number,
    headers?: Record<string, string | undefined>,
  ][] = [
    ['nothing', '', 400],
    ['no JSON', 'hello', 400],
    ['JSON cut short', '{"jsonrpc":"2.0"', 400],
    ['a number', '1', 400],
    ['null', 'null', 400],
    ['another version of JSON-RPC', '{"jsonrpc":"1.0","id":1,"method":"ping"}', 400],
    ['no method', '{"jsonrpc":"2.0","id":1}', 400],
    ['a method that is no text', '{"jsonrpc":"2.0","id":1,"method":7}', 400],
    ['an id that is an object', '{"jsonrpc":"2.0","id":{},"method":"ping"}', 400],
    ['an id that is null', '{"jsonrpc":"2.0","id":null,"method":"ping"}', 400],
    ['parameters in a list', '{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', 400],
    ['a batch', `[${message('tools/list')}]`, 400],
    ['an empty batch', '[]', 400],
    ['a name twice', '{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list"}', 400],
    ['`__proto__`', '{"jsonrpc":"2.0","id":1,"method":"ping","__proto__":{"a":1}}', 400],
    ['100,000 brackets', deep(100_000), 400],
    ['70 brackets', deep(70), 400],
    ['no UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d]), 400],
    ['a number beyond what can be held', '{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}', 400],
    [
      '100,000 members',
      `{"jsonrpc":"2.0","id":1,"method":"ping","params":{${Array.from({ length: 100_000 }, (_, at) => `"${at}":0`).join()}}}`,
      400,
    ],
    ['more than 4 MiB', `{"a":"${'x'.repeat(4 * 1024 * 1024)}"}`, 413],
    ['another type', message('tools/list'), 415, { 'content-type': 'text/plain' }],
    ['no type', message('tools/list'), 415, { 'content-type': '' }],
    ['an encoding', message('tools/list'), 400, { 'content-encoding': 'gzip' }],
    ['an answer that can’t be read', message('tools/list'), 406, { accept: 'text/html' }],
    ['a request without a session', message('tools/list'), 400],
    [
      'a revision that is none',
      message('tools/list', { _meta: { ...modern, 'io.modelcontextprotocol/protocolVersion': 'v999' } }),
      400,
    ],
    [
      'a revision that is a number',
      message('tools/list', { _meta: { ...modern, 'io.modelcontextprotocol/protocolVersion': 7 } }),
      400,
    ],
    [
      'capabilities that are none',
      message('tools/list', { _meta: { ...modern, 'io.modelcontextprotocol/clientCapabilities': 'all' } }),
      400,
    ],
  ]

  test('is answered with an error, and harms nobody', async () => {
    const { gateway, at, works } = await open()
    for (const [what, body, expected, headers] of cases) {
      const answer = await send(at, body, headers).catch(() => ({ status: 413, text: '' }))
      expect([what, answer.status]).toEqual([what, expected])
      expect(answer.text).not.toMatch(/at .*\.ts|node:/)
    }
    expect(await works()).toBe(true)
    expect(gateway.reported).toEqual([])
  })

  test('unknown methods do not exist, in either generation', async () => {
    const { at } = await open()
    const client = await initialize(at)
    for (const method of [
      'tools/delete',
      'server/exec',
      'constructor',
      '__proto__',
      'toString',
      'tasks/get',
      'x'.repeat(200),
    ]) {
      const asked = await ask(at, method)
      expect([method.slice(0, 20), asked.status, asked.answer.error?.code]).toEqual([method.slice(0, 20), 404, -32601])
      expect((await client.request(method)).answer.error).toMatchObject({ code: -32601 })
    }
    for (const method of ['initialize', 'ping', 'logging/setLevel', 'resources/subscribe'])
      expect((await ask(at, method)).status).toBe(404)
    expect((await client.request('server/discover')).answer.error).toMatchObject({ code: -32601 })
  })

  test('what is no HTTP, or another protocol, is turned away', async () => {
    const { gateway, works } = await open()
    const { port } = gateway.listener
    const host = `host: 127.0.0.1:${port}`
    const sent: [bytes: string, expected: RegExp][] = [
      ['\x16\x03\x01\x02\x00\x01\x00\x01\xfc', /^HTTP\/1.1 400/],
      ['EHLO example.com\r\n\r\n', /^HTTP\/1.1 400/],
      [`GET /mcp HTTP/1.1\r\n${host}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n`, /^HTTP\/1.1 426/],
      [`CONNECT evil.example.com:443 HTTP/1.1\r\n${host}\r\n\r\n`, /^HTTP\/1.1 405/],
      [`GET http://evil.example.com/ HTTP/1.1\r\n${host}\r\nconnection: close\r\n\r\n`, /^HTTP\/1.1 404/],
      [
        `POST /mcp HTTP/1.1\r\n${host}\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
        /^HTTP\/1.1 400/,
      ],
      [`GET /${'x'.repeat(20_000)} HTTP/1.1\r\n${host}\r\n\r\n`, /^HTTP\/1.1 4\d\d/],
      [`GET / HTTP/1.1\r\n${host}\r\n${'x: y\r\n'.repeat(5_000)}\r\n`, /^HTTP\/1.1 4\d\d/],
    ]
    for (const [bytes, expected] of sent) expect(await raw(port, bytes)).toMatch(expected)
    expect(await works()).toBe(true)
  })

  test('slow clients are cut off, whether they are slow with the head or with the body', async () => {
    const { gateway, at, works } = await open({ timeouts: { headers: 400, request: 800, idle: 500 } })
    const { port } = gateway.listener
    const head = `POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\nauthorization: Bearer ${at.token}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n`
    const started = performance.now()
    const answers = await Promise.all([
      raw(port, head, { keepOpen: true }),
      raw(port, `${head}\r\n{"jsonrpc"`, { keepOpen: true }),
      raw(port, '', { keepOpen: true }),
    ])
    expect(performance.now() - started).toBeLessThan(6_000)
    for (const answer of answers) expect(answer).toMatch(/^$|^HTTP\/1.1 (400|408)/)
    expect(await works()).toBe(true)
  })
})

describe('promise 9: an upload may take as long as it goes on', () => {
  const within = 1_000
  async function upload(answer: AgentHandler) {
    const listener = await listenForAgents({
      host: '127.0.0.1',
      port: 0,
      hosts: [],
      origins: [],
      authenticate: async () => 'session',
      guarded: {},
      below: { '/api/': answer },
      open: {},
      timeouts: { request: within },
    })
    closing.push(() => listener.close())
    const socket = connect(listener.port, '127.0.0.1')
    closing.push(() => socket.destroy())
    socket.on('error', () => {})
    let seen = ''
    socket.on('data', (chunk) => (seen += String(chunk)))
    const closed = new Promise<string>((resolve) => socket.once('close', () => resolve(seen)))
    const begin = (length: number): void =>
      void socket.write(
        `PUT /api/x HTTP/1.1\r\nhost: 127.0.0.1:${listener.port}\r\nauthorization: Bearer x\r\ncontent-length: ${length}\r\n\r\n`,
      )
    return { socket, begin, closed }
  }
  const countAll: AgentHandler = async (req, res) => {
    let bytes = 0
    for await (const chunk of req) bytes += (chunk as Buffer).length
    res.writeHead(200, { connection: 'close' }).end(`took ${bytes}`)
  }

  test('longer than a request may, where its bytes keep coming', async () => {
    const { socket, begin, closed } = await upload(countAll)
    const times = 25
    begin(2_000 * times)
    for (let sent = 0; sent < times; sent++) {
      socket.write(Buffer.alloc(2_000))
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    expect(await closed).toMatch(/^HTTP\/1.1 200[\s\S]*took 50000/)
  })

  test('longer, where it is the gateway that has not taken what came', async () => {
    let take: () => void = () => {}
    const taken = new Promise<void>((resolve) => (take = resolve))
    const { socket, begin, closed } = await upload(async (req, res, session) => {
      setTimeout(take, within * 2)
      await taken
      return countAll(req, res, session)
    })
    begin(1_000_000)
    socket.write(Buffer.alloc(900_000))
    await taken
    socket.write(Buffer.alloc(100_000))
    expect(await closed).toMatch(/^HTTP\/1.1 200[\s\S]*took 1000000/)
  })

  test.each([
    ['stops', 0],
    ['trickles', 50],
  ])('one that %s is cut off', async (_, pause) => {
    const { socket, begin, closed } = await upload(async (req, res, session) =>
      countAll(req, res, session).catch(() => {}),
    )
    begin(1_000_000)
    socket.write(Buffer.alloc(1_000))
    const trickle = pause === 0 ? undefined : setInterval(() => socket.write('x'), pause)
    closing.push(() => clearInterval(trickle))
    expect(await closed).toMatch(/^HTTP\/1.1 408/)
  })

  test('one that goes on after its answer is cut off, however fast it is', async () => {
    const { socket, begin, closed } = await upload(async (_req, res) => void res.writeHead(200).end('enough'))
    begin(1e12)
    const more = (): void => {
      while (!socket.destroyed && socket.write(Buffer.alloc(10_000)));
    }
    const slowly = setInterval(more, 20)
    closing.push(() => clearInterval(slowly))
    expect(await closed).toMatch(/^HTTP\/1.1 200/)
  })
})

test(
  'promise 9: ten thousand idle connections hinder nobody, and are closed in time',
  { timeout: 60_000 },
  async () => {
    const { gateway, works } = await open({ timeouts: { headers: 4_000 } })
    // In another process: each end of a connection takes a descriptor.
    const opener = spawn(
      process.execPath,
      [
        '-e',
        `const { connect } = require('node:net'); let open = 0, closed = 0, failed = 0
     const next = (left) => { for (let i = 0; i < 200 && left > 0; i++, left--) connect(${gateway.listener.port}, '127.0.0.1')
       .once('connect', () => open++).once('error', () => failed++).once('close', () => closed++).resume()
       if (left > 0) setTimeout(next, 20, left) }
     next(10_000); setInterval(() => console.log(JSON.stringify({ open, closed, failed })), 100)`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    closing.push(() => opener.kill('SIGKILL'))
    let state = { open: 0, closed: 0, failed: 0 }
    opener.stdout.on('data', (chunk: Buffer) => {
      const line = chunk.toString().trim().split('\n').at(-1)
      if (line?.startsWith('{')) state = JSON.parse(line) as typeof state
    })
    await expect.poll(() => state.open + state.failed, { timeout: 20_000 }).toBe(10_000)
    expect(state.open).toBeGreaterThan(5_000)
    const started = performance.now()
    expect(await works()).toBe(true)
    expect(performance.now() - started).toBeLessThan(2_000)
    await expect.poll(() => state.closed, { timeout: 30_000 }).toBe(10_000)
    expect(await works()).toBe(true)
  },
)

test('beyond the number of connections, new ones are closed at once', async () => {
  const { gateway } = await open({ connections: 3 })
  const sockets: Socket[] = []
  for (let count = 0; count < 3; count++) {
    const socket = connect(gateway.listener.port, '127.0.0.1')
    closing.push(() => socket.destroy())
    await once(socket, 'connect')
    sockets.push(socket)
  }
  expect(await raw(gateway.listener.port, '', { keepOpen: true })).toBe('')
  sockets[0]!.destroy()
  await expect
    .poll(() =>
      fetch(`${gateway.listener.url}/oauth/jwks`).then(
        ({ ok }) => ok,
        () => false,
      ),
    )
    .toBe(true)
})
