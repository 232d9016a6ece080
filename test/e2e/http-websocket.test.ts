// WebSockets with real programs’ clients: through the proxy, inside TLS that it opens and on plain connections, and with
// the whole program at the agents’ own address.
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import path from 'node:path'
import { createSecureContext } from 'node:tls'
import { promisify } from 'node:util'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { buildConnector, ProxyAgent, WebSocket as UndiciWebSocket } from 'undici'
import WebSocket, { WebSocketServer } from 'ws'
import { openAuthority } from '../../src/gateway/http/certificates.ts'
import type { EgressPorts } from '../../src/gateway/http/egress.ts'
import { basic, connectVia, proxyFolder, proxyFolders, secure, startTestProxy, Wire } from '../support/proxy.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})
afterAll(() => {
  for (const folder of proxyFolders.splice(0)) fs.rmSync(folder, { recursive: true, force: true })
  removeFolders()
})

const key = 'sk-live-99887766554433221100'
const yaml = `
listen: { proxy: "127.0.0.1:7402" }
resources:
  desk:
    http: https://api.desk.example/v1
    credential: { header: { name: X-Api-Key, value: "${key}" } }
    addresses: [127.0.0.1]
    operations:
      live: { request: "GET /live/{room}", effect: read, path: { room: { type: integer } }, websocket: true }
      get: { request: GET /plain, effect: read }
      hidden: { request: GET /hidden, effect: read, websocket: true }
  plain:
    http: http://plain.desk.example
    credential: { query: { name: token, value: "${key}" } }
    addresses: [127.0.0.1]
    operations:
      live: { request: GET /live, effect: read, query: { room: { type: integer } }, websocket: true }
agents:
  agent: { may: ["desk:live", "desk:get", "plain:live"], limits: { repeats: unlimited } }
`

/** An API under any name, with TLS and without: it says how it was asked, and sends back what it is sent. */
async function startUpstream() {
  const folder = proxyFolder()
  const authority = openAuthority({
    keyFile: path.join(folder, 'ca.key'),
    certificateFile: path.join(folder, 'ca.pem'),
    clock: Date.now,
  })
  const sockets = new WebSocketServer({ noServer: true })
  const open: WebSocket[] = []
  const asked: string[] = []
  const dialled: string[] = []
  const servers = [
    createHttpsServer({
      ...authority.credentialFor('unnamed.example'),
      SNICallback: (name, done) => done(null, createSecureContext(authority.credentialFor(name))),
    }),
    createHttpServer(),
  ]
  for (const server of servers)
    server.on('upgrade', (req: IncomingMessage, socket: Socket, head: Buffer) => {
      asked.push(`${req.headers.host}${req.url}`)
      sockets.handleUpgrade(req, socket, head, (ws) => {
        open.push(ws)
        ws.on('error', () => {})
        ws.on('message', (data: Buffer, isBinary) => ws.send(data, { binary: isBinary }))
        ws.send(JSON.stringify({ url: req.url, headers: req.headers }))
      })
    })
  const [tls, bare] = await Promise.all(
    servers.map(async (server) => {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return (server.address() as AddressInfo).port
    }),
  )
  closing.push(async () => {
    for (const ws of open) ws.terminate()
    for (const server of servers) server.closeAllConnections()
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  })
  const dial = buildConnector({ allowH2: false, ca: authority.pem })
  const egress: EgressPorts = {
    resolve: async () => ['127.0.0.1'],
    dial: (options, callback) => {
      dialled.push(`${options.hostname}:${options.port}`)
      dial({ ...options, hostname: '127.0.0.1', port: String(options.port === '80' ? bare : tls) }, callback)
    },
  }
  return { asked, dialled, open, egress, port: bare ?? 0 }
}

async function start() {
  const upstream = await startUpstream()
  const world = await startTestProxy(yaml, upstream.egress, {}, { DESK_KEY: key })
  closing.push(world.close)
  const { token, id } = await world.session('agent')
  const auth = { 'Proxy-Authorization': basic(token) }
  const { port } = world.proxy
  return {
    ...world,
    upstream,
    token,
    id,
    auth,
    port,
    async inside(host = 'api.desk.example'): Promise<Wire> {
      const connected = await connectVia(port, `${host}:443`, auth)
      return new Wire(await secure(connected, { servername: host, ca: world.ca, ALPNProtocols: ['http/1.1'] }))
    },
  }
}

function listen(ws: WebSocket) {
  const heard: string[] = []
  closing.push(() => ws.terminate())
  ws.on('error', () => {})
  ws.on('message', (data: Buffer) => heard.push(data.toString()))
  return {
    heard,
    closed: new Promise<number>((resolve) => ws.once('close', resolve)),
    refused: new Promise<number>((resolve) =>
      ws.once('unexpected-response', (_req, { statusCode = 0 }) => resolve(statusCode)),
    ),
  }
}

describe('through the proxy', () => {
  test('inside TLS that it opens: `ws` on its own connection', async () => {
    const { upstream, port, auth, ca, audit, sessions, id } = await start()
    const stream = await secure(await connectVia(port, 'api.desk.example:443', auth), {
      servername: 'api.desk.example',
      ca,
    })
    const ws = new WebSocket('wss://api.desk.example/v1/live/7', { createConnection: () => stream })
    const { heard, closed } = listen(ws)
    await until('the API says how it was asked', () => heard.length === 1)
    expect(upstream.asked).toEqual(['api.desk.example/v1/live/7'])
    expect(heard[0]).toContain('"x-api-key":"[secret DESK_KEY]"')
    ws.send('hello')
    await until('it comes back', () => heard[1] === 'hello')
    expect(audit.of('decision')[0]).toMatchObject({ permission: 'desk:live', args: { room: 7 }, decision: 'allow' })
    await sessions.end([id], 'killed', 'person:ada')
    await closed
    await until('the upstream’s is closed', () => upstream.open[0]?.readyState === WebSocket.CLOSED)
    await until('it is written down', () => audit.of('action.failed').length === 1)
    expect(audit.of('action.failed')[0]).toMatchObject({ code: 'cancelled', sent: 5, host: 'api.desk.example' })
  })

  test('undici told of the proxy, with TLS and without', async () => {
    const { upstream, proxy, token, ca } = await start()
    const dispatcher = new ProxyAgent({
      uri: proxy.url,
      token: basic(token),
      requestTls: { ca },
      proxyTunnel: true,
    })
    closing.push(() => dispatcher.destroy())
    for (const url of ['wss://api.desk.example/v1/live/1', 'ws://plain.desk.example/live?room=2']) {
      const ws = new UndiciWebSocket(url, { dispatcher })
      const heard: string[] = []
      ws.addEventListener('message', ({ data }) => heard.push(String(data)))
      await new Promise((resolve, reject) => {
        ws.addEventListener('open', resolve)
        ws.addEventListener('error', reject)
      })
      ws.send('hello')
      await until('it comes back', () => heard.length === 2)
      expect(heard[1]).toBe('hello')
      expect(heard[0]).toContain('[secret DESK_KEY]')
      expect(heard[0]).not.toContain(key)
      ws.close()
    }
    expect(upstream.asked).toEqual(['api.desk.example/v1/live/1', `plain.desk.example/live?room=2&token=${key}`])
  })

  test('Node’s own, with the environment of an agent', async () => {
    const { upstream, urlFor, token, caFile } = await start()
    const program = `
      const heard = []
      const ws = new WebSocket('wss://api.desk.example/v1/live/5')
      ws.onmessage = ({ data }) => heard.push(data) === 2 ? ws.close(1000) : ws.send('hello')
      ws.onclose = ({ code }) => console.log(JSON.stringify({ heard, code }))`
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
      env: {
        PATH: process.env['PATH'] ?? '',
        NODE_USE_ENV_PROXY: '1',
        HTTPS_PROXY: urlFor(token),
        NODE_EXTRA_CA_CERTS: caFile,
      },
    })
    const { heard, code } = JSON.parse(stdout) as { heard: string[]; code: number }
    expect([heard[1], code]).toEqual(['hello', 1000])
    expect(heard[0]).toContain('[secret DESK_KEY]')
    expect(upstream.asked).toEqual(['api.desk.example/v1/live/5'])
  })

  test('an absolute address on a plain connection', async () => {
    const { upstream, port, auth } = await start()
    const ws = new WebSocket(`ws://127.0.0.1:${port}/`, {
      headers: { ...auth, host: 'plain.desk.example' },
      finishRequest: (req) => {
        req.path = 'http://plain.desk.example/live?room=3'
        req.end()
      },
    })
    const { heard, closed } = listen(ws)
    await until('the API says how it was asked', () => heard.length === 1)
    expect(upstream.asked).toEqual([`plain.desk.example/live?room=3&token=${key}`])
    upstream.open[0]?.close(1012)
    expect(await closed).toBe(1012)
  })

  const upgrade = (to: string, more = '', host = 'api.desk.example') =>
    `GET ${to} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
    `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${more}\r\n`
  const plain = 'GET /v1/plain HTTP/1.1\r\nHost: api.desk.example\r\n\r\n'

  test.each([
    ['what is not listed', 404, upgrade('/v1/nothing')],
    ['what is not for this session', 404, upgrade('/v1/hidden')],
    ['an operation that opens none', 426, upgrade('/v1/plain')],
    ['HTTP/2', 426, upgrade('/v1/live/1').replace('websocket', 'h2c')],
    ['another host', 421, upgrade('/v1/live/1', '', 'other.example')],
    ['a body', 400, upgrade('/v1/live/1', 'Content-Length: 4\r\n')],
    ['no version', 426, upgrade('/v1/live/1').replace(/Sec-WebSocket-Version.*\r\n/, '')],
    ['a request behind it', 400, upgrade('/v1/live/1')],
  ])(
    'promise 3: %s: refused before anything is dialled, and nothing behind it is read',
    async (_what, status, text) => {
      const { inside, upstream } = await start()
      const wire = await inside()
      const heard = await wire.send(`${text}${plain}`).end()
      expect(heard).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
      expect(heard.match(/HTTP\/1\.1 \d/g)).toHaveLength(1)
      expect(upstream.dialled).toEqual([])
    },
  )

  test('promise 3: no WebSocket behind a request that has not been answered', async () => {
    const { inside, upstream } = await start()
    const wire = await inside()
    expect(await wire.send(plain + upgrade('/v1/live/1')).end()).not.toMatch(/ 101 /)
    expect(upstream.asked).toEqual([])
  })

  test('without a token: 407', async () => {
    const { port } = await start()
    const wire = await Wire.to(port)
    wire.send(upgrade('http://plain.desk.example/live', '', 'plain.desk.example'))
    expect(await wire.end()).toMatch(/^HTTP\/1\.1 407 /)
  })

  test('it closes with WebSockets open', async () => {
    const { port, auth, proxy } = await start()
    const ws = new WebSocket(`ws://127.0.0.1:${port}/`, {
      headers: { ...auth, host: 'plain.desk.example' },
      finishRequest: (req) => {
        req.path = 'http://plain.desk.example/live'
        req.end()
      },
    })
    const { heard, closed } = listen(ws)
    await until('it is open', () => heard.length === 1)
    await proxy.close()
    expect(await closed).toBe(1006)
  })
})

test('the whole program: opened at the agents’ address, cut by `kill`, in the record', async () => {
  const upstream = await startUpstream()
  const gateway = await startSallyport({
    folder: newFolder(),
    env: { DESK_KEY: key },
    settings: {
      resources: {
        desk: {
          http: `http://127.0.0.1:${upstream.port}`,
          credential: { bearer: '${env:DESK_KEY}' },
          operations: {
            live: { request: 'GET /live', effect: 'read', websocket: { message: '64 kB', time: '10 min' } },
          },
        },
      },
      agents: { worker: { may: ['desk:live'] } },
    },
  })
  closing.push(gateway.stop)
  const worker = await gateway.session('worker')
  const to = (where: string) =>
    new WebSocket(`${gateway.agentsUrl.replace('http', 'ws')}${where}`, {
      headers: { authorization: `Bearer ${worker.token}` },
    })
  expect(await listen(to('/mcp')).refused).toBe(426)
  expect(await listen(to('/api/desk/other')).refused).toBe(404)
  const ws = to('/api/desk/live')
  const { heard, closed } = listen(ws)
  await until('the API says how it was asked', () => heard.length === 1)
  expect(heard[0]).toContain('"authorization":"Bearer [secret')
  expect(heard[0]).not.toContain(worker.token)
  const started = performance.now()
  await gateway.admin('POST', '/v1/kill', { target: worker.id, because: 'it went astray' })
  expect(await closed).toBe(1008)
  await until('the upstream’s is closed', () => upstream.open[0]?.readyState === WebSocket.CLOSED)
  expect(performance.now() - started).toBeLessThan(1_000)
  const cut = await until('it is written down', async () =>
    (await gateway.events()).find(({ type }) => type === 'action.failed'),
  )
  expect(cut).toMatchObject({ permission: 'desk:live', code: 'cancelled', host: '127.0.0.1' })
  expect(cut['bytes']).toBeGreaterThan(100)
})
