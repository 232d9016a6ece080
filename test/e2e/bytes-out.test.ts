// What goes out, per session and host: counted, held to limits while it goes, and shown, by the real gateway.
import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { createServer as createTlsServer } from 'node:tls'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import type { ShownSession } from '../../src/control/wire.ts'
import { openAuthority } from '../../src/gateway/http/certificates.ts'
import { basic, connectVia, secure, Wire } from '../support/proxy.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'

const accessToken = 'urn:ietf:params:oauth:token-type:access_token'

/** An API that counts what reaches it, and answers at the end. */
async function startSink() {
  const seen = { bytes: 0, whole: 0, aborted: 0 }
  const server = createServer((req, res) => {
    req.on('data', (chunk: Buffer) => (seen.bytes += chunk.length))
    req.once('error', () => {})
    req.once('close', () => (seen.aborted += req.complete ? 0 : 1))
    req.once('end', () => {
      seen.whole += 1
      res.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { seen, server, port: (server.address() as AddressInfo).port }
}

async function startTls() {
  const folder = newFolder()
  const authority = openAuthority({
    keyFile: path.join(folder, 'x.key'),
    certificateFile: path.join(folder, 'x.pem'),
    clock: Date.now,
  })
  let bytes = 0
  const server = createTlsServer(authority.credentialFor('localhost'), (socket) => {
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      socket.write('.')
    })
    socket.on('error', () => {})
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port, bytes: () => bytes }
}

let desk: Awaited<ReturnType<typeof startSink>>
let other: typeof desk
let tls: Awaited<ReturnType<typeof startTls>>
let gateway: Sallyport | undefined
beforeEach(async () => {
  ;[desk, other, tls] = await Promise.all([startSink(), startSink(), startTls()])
})
afterEach(async () => {
  await gateway?.stop()
  gateway = undefined
  for (const { server } of [desk, other, tls]) server.close()
  for (const { server } of [desk, other]) server.closeAllConnections()
})
afterAll(removeFolders)

const operations = {
  upload: { request: 'PUT /v1/file', effect: 'write', upload: { size: '20 MB' } },
  note: {
    request: 'POST /v1/note',
    effect: 'write',
    body: { type: 'object', properties: { text: { type: 'string' } } },
  },
}
const everything = ['desk:upload', 'desk:note', 'other:upload', 'other:note', { do: 'out:connect', ask: 'never' }]
const own = { addresses: ['127.0.0.0/8', '::1/128'] }

const settings = () => ({
  listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0', proxy: '127.0.0.1:0' },
  resources: {
    desk: { http: `http://127.0.0.1:${desk.port}`, operations, limits: { sent: '3 MB/session' } },
    other: { http: `http://localhost:${other.port}`, ...own, operations, limits: { sent: '1 MB/session' } },
    out: { tunnel: [`127.0.0.1:${tls.port}`, `localhost:${tls.port}`], ...own, limits: { sent: '20 kB/session' } },
    mail: { functions: { send: 'send', read: 'read' } },
  },
  agents: { worker: { may: everything, lends: { worker: everything }, limits: { repeats: 'unlimited' } } },
})

const start = async (folder = newFolder()): Promise<Sallyport> =>
  (gateway = await startSallyport({ settings: settings(), folder }))

const put = async (to: Sallyport, token: string, alias: string, bytes: number) => {
  const answer = await fetch(`${to.agentsUrl}/api/${alias}/v1/file`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' },
    body: Buffer.alloc(bytes, 7),
  })
  return { status: answer.status, body: (await answer.json()) as { error?: { code: string; message: string } } }
}

/** Uploads piece by piece without saying how much it will be, each piece once the one before has arrived, until told off. */
async function uploadPieces(to: Sallyport, token: string, pieces: readonly number[]): Promise<number | undefined> {
  const req = request(`${to.agentsUrl}/api/desk/v1/file`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' },
  })
  let status: number | undefined
  req.once('response', (res) => {
    status = res.statusCode
    res.resume()
  })
  req.on('error', () => {})
  const before = desk.seen.bytes
  let written = 0
  for (const piece of pieces) {
    req.write(Buffer.alloc(piece, 7))
    written += piece
    await until('it arrived, or was cut', () => status !== undefined || desk.seen.bytes - before >= written)
    if (status !== undefined) break
  }
  req.destroy()
  return status
}

const shown = async (to: Sallyport, id: string): Promise<ShownSession> => {
  const { out, err } = await to.cli('sessions', 'show', id, '--json')
  expect(err).toBe('')
  return JSON.parse(out) as ShownSession
}

test('an upload is cut before what would pass the limit of its host; another host has its own', async () => {
  const to = await start()
  const { id, token } = await to.session('worker')
  // The first piece is more than is read before it is decided.
  const pieces = [1_100_000, ...Array.from({ length: 20 }, () => 300_000)]
  expect(await uploadPieces(to, token, pieces)).toBe(429)
  await until('the API saw it cut', () => desk.seen.aborted === 1)
  expect(desk.seen).toMatchObject({ whole: 0 })
  expect(desk.seen.bytes).toBeGreaterThan(2_500_000)
  expect(desk.seen.bytes).toBeLessThanOrEqual(3_000_000)
  const cut = (await to.events()).find(({ type }) => type === 'action.failed')
  expect(cut).toMatchObject({ code: 'limited', host: '127.0.0.1', sent: desk.seen.bytes, mayHaveHappened: true })

  // A size that is known before is refused before: not a byte reaches the API.
  const refused = await put(to, token, 'other', 1_000_001)
  const message =
    'with 1000001 bytes more, the limit of 1 MB/session sent of host localhost of resource other would be passed'
  expect(refused).toMatchObject({ status: 429, body: { error: { code: 'limited', message } } })
  expect(other.seen).toEqual({ bytes: 0, whole: 0, aborted: 0 })
  expect((await put(to, token, 'other', 900_000)).status).toBe(200)

  // As a tool, too.
  const called = await to.call(token, 'other__note', { text: 'x'.repeat(100_000) })
  expect(called.answer.result).toMatchObject({ isError: true })
  expect(called.text).toContain('the limit of 1 MB/session sent of host localhost of resource other would be passed')
  expect((await to.call(token, 'other__note', { text: 'x' })).answer.result?.['isError']).toBeUndefined()

  const note = Buffer.byteLength('{"text":"x"}')
  const { traffic } = await shown(to, id)
  expect(traffic.hosts).toEqual([
    { host: '127.0.0.1', requests: 1, sent: desk.seen.bytes, received: 0 },
    { host: 'localhost', requests: 2, sent: 900_000 + note, received: 4 },
  ])
  expect(traffic.total.sent).toBe(desk.seen.bytes + other.seen.bytes)
  const table = (await to.cli('sessions', 'show', id)).out
  expect(table).toMatch(/^HOST +REQUESTS +SENT +RECEIVED$/m)
  expect(table).toMatch(/^localhost +2 +900 kB +4 B$/m)
  expect((await to.cli('sessions', 'list')).out).toMatch(new RegExp(`^${id} .* 3\\.\\d MB`, 'm'))
})

test('promise 2: what a lent session sends counts for those that it was made from, at each host', async () => {
  const to = await start()
  const parent = await to.session('worker')
  const lend = async (): Promise<string> => {
    const answer = await fetch(`${to.agentsUrl}/oauth/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token: parent.token,
        subject_token_type: accessToken,
        agent: 'worker',
      }),
    })
    expect(answer.status).toBe(200)
    return ((await answer.json()) as { access_token: string }).access_token
  }
  const [one, two] = [await lend(), await lend()]
  expect((await put(to, one, 'other', 600_000)).status).toBe(200)
  const refused = await put(to, two, 'other', 600_000)
  expect(refused.status).toBe(429)
  expect(refused.body.error?.message).toContain('(in a session that this one was made from)')
  expect((await put(to, two, 'desk', 600_000)).status).toBe(200)
  expect((await put(to, parent.token, 'other', 400_001)).status).toBe(429)
  expect((await put(to, parent.token, 'other', 400_000)).status).toBe(200)
  expect((await shown(to, parent.id)).traffic).toMatchObject({
    total: { requests: 3, sent: 1_600_000 },
    hosts: [
      { host: 'localhost', sent: 1_000_000 },
      { host: '127.0.0.1', sent: 600_000 },
    ],
  })
})

test('limits go on after a restart; what is shown is counted anew, and says since when', async () => {
  const folder = newFolder()
  const { id, token } = await (await start(folder)).session('worker')
  expect((await put(gateway!, token, 'other', 900_000)).status).toBe(200)
  await gateway!.stop()
  const to = await start(folder)
  expect((await put(to, token, 'other', 200_000)).status).toBe(429)
  expect((await put(to, token, 'other', 100_000)).status).toBe(200)
  const { session, traffic } = await shown(to, id)
  expect(traffic.total.sent).toBe(100_000)
  expect(traffic.since).toBeGreaterThan(session.startedAt)
  expect((await to.cli('sessions', 'show', id)).out).toMatch(/^counted +since .*, when the gateway started$/m)
})

test('each host of a tunnel has the limit to itself, and a tunnel is cut where it is reached', async () => {
  const to = await start()
  const { id, token } = await to.session('worker')
  const { proxy } = (await to.status()) as { proxy?: { url: string } }
  const port = Number(new URL(proxy?.url ?? '').port)
  const via = async (host: string): Promise<Wire> => {
    const way = await connectVia(port, `${host}:${tls.port}`, { 'Proxy-Authorization': basic(token) })
    expect(way.head).toMatch(/^HTTP\/1\.1 200 /)
    return new Wire(await secure(way, { servername: host === 'localhost' ? host : '', rejectUnauthorized: false }))
  }
  const first = await via('127.0.0.1')
  for (let piece = 1; piece <= 30; piece++) {
    first.socket.write(Buffer.alloc(1_000))
    await first.until(new RegExp(`^\\.{${piece}}`))
  }
  await first.end()
  expect(tls.bytes()).toBeGreaterThan(15_000)
  expect(tls.bytes()).toBeLessThan(20_000)
  await until('it is recorded', async () =>
    (await to.events()).some(
      ({ type, code, host }) => type === 'action.failed' && code === 'limited' && host === '127.0.0.1',
    ),
  )
  const second = await via('localhost')
  second.socket.write(Buffer.alloc(1_000))
  await second.until(/\./)
  second.socket.destroy()
  await until('both are counted', async () => (await shown(to, id)).traffic.hosts.length === 2)
  for (const { sent } of (await shown(to, id)).traffic.hosts) expect(sent).toBeLessThanOrEqual(20_000)

  const { resources } = await to.status()
  expect(resources.map(({ name, kind, state, tools, hosts }) => [name, kind, state, tools, hosts])).toEqual([
    ['desk', 'http', 'ready', 2, undefined],
    ['other', 'http', 'ready', 2, undefined],
    ['out', 'tunnel', 'ready', 0, 2],
    ['mail', 'functions', 'ready', 2, undefined],
  ])
  const { out } = await to.cli('status')
  expect(out).toMatch(/out \(tunnel\) ready, 2 hosts$/m)
  expect(out).toMatch(/mail \(functions\) ready, 2 functions$/m)
})
