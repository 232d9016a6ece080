// The proxy in the whole gateway, and what becomes of connections through it. Real programs are in http-clients.test.ts.
import { once } from 'node:events'
import fs from 'node:fs'
import { createServer } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openAuthority } from '../../src/gateway/http/certificates.ts'
import { startApi } from '../support/http.ts'
import {
  basic,
  connectVia,
  proxyFolder,
  proxyFolders,
  secure,
  startNamedServer,
  startTestProxy,
  Wire,
} from '../support/proxy.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'

const key = 'sk-live-99887766554433221100'

const yaml = `
listen: { proxy: "127.0.0.1:7402" }
resources:
  desk:
    http: https://api.desk.example/v1
    credential: { header: { name: X-Api-Key, value: "${key}" } }
    addresses: [127.0.0.1]
    operations:
      get: { request: "GET /tickets/{id}", effect: read, path: { id: { type: integer } } }
      add: { request: POST /tickets, effect: write, body: { properties: { title: { type: string } }, required: [title] } }
      slow: { request: GET /slow, effect: read, response: { types: [application/octet-stream] } }
agents:
  agent:
    may: ["desk:get", "desk:add", "desk:slow"]
    limits: { repeats: unlimited }
`

const folder = proxyFolder()
let server: Awaited<ReturnType<typeof startNamedServer>>
let world: Awaited<ReturnType<typeof startTestProxy>>
let token: string
let session: string
beforeAll(async () => {
  server = await startNamedServer((req, res) => void answer(req, res).catch(() => res.destroy()))
  world = await startTestProxy(yaml, server.egress(), {}, { DESK_KEY: key })
  ;({ token, id: session } = await world.session('agent'))
})
afterAll(async () => {
  await world.close()
  await server.close()
  for (const each of proxyFolders.splice(0)) fs.rmSync(each, { recursive: true, force: true })
  removeFolders()
})

async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const { url = '' } = req
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk as Buffer)
  if (url === '/v1/slow') {
    res.writeHead(200, { 'content-type': 'application/octet-stream' })
    return void res.write('abcdefghij'.repeat(10_000)) // The rest never comes.
  }
  const given = JSON.stringify({ method: req.method, url, body: Buffer.concat(chunks).toString() })
  res.writeHead(200, { 'content-type': 'application/json', 'x-request-id': key }).end(given)
}

const openedFor = async (holder: string): Promise<Wire> =>
  new Wire(
    await secure(await connectVia(world.proxy.port, 'api.desk.example:443', { 'Proxy-Authorization': basic(holder) }), {
      servername: 'api.desk.example',
      ca: world.ca,
    }),
  )

test('promise 2: the end of a session cuts a download in the middle', async () => {
  const other = await world.session('agent')
  const wire = await openedFor(other.token)
  wire.send('GET /v1/slow HTTP/1.1\r\nHost: api.desk.example\r\n\r\n')
  await wire.until(/abcdefghij/)
  const failed = world.audit.of('action.failed').length
  await world.sessions.end([other.id], 'enough', 'person:anna')
  await wire.end()
  await until('it is recorded', () => world.audit.of('action.failed').length > failed)
  expect(world.audit.of('action.failed').at(-1)).toMatchObject({
    session: other.id,
    permission: 'desk:slow',
    code: 'cancelled',
  })
  // And there is no way back in.
  const { head } = await connectVia(world.proxy.port, 'api.desk.example:443', {
    'Proxy-Authorization': basic(other.token),
  })
  expect(head).toMatch(/^HTTP\/1\.1 407 /)
})

test('a request through the proxy is in the log like any other, with what it sent and what came back', async () => {
  const wire = await openedFor(token)
  const body = '{"title":"a ticket"}'
  const head = `POST /v1/tickets HTTP/1.1\r\nHost: api.desk.example\r\nContent-Type: application/json\r\nConnection: close\r\n`
  expect(await wire.send(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`).end()).toMatch(
    /^HTTP\/1\.1 200 /,
  )
  const added = () =>
    world.audit.of('action.done').filter((event) => event['session'] === session && event['permission'] === 'desk:add')
  await until('it is recorded', () => added().length > 0)
  const events = added()
  expect(events).toHaveLength(1)
  expect(events[0]).toMatchObject({ sent: Buffer.byteLength('{"title":"a ticket"}') })
  expect(JSON.stringify(world.audit.events)).not.toContain(key)
})

describe('the whole gateway', () => {
  test('promise 6: the proxy is there where configuration says so, with an authority of its own, and counts who it turns away', async () => {
    const api = await startApi()
    const names = openAuthority({
      keyFile: path.join(folder, 'x.key'),
      certificateFile: path.join(folder, 'x.pem'),
      clock: Date.now,
    })
    const tls = createServer(names.credentialFor('127.0.0.1'), (_req, res) => void res.end('unopened')).listen(
      0,
      '127.0.0.1',
    )
    await once(tls, 'listening')
    const tlsPort = (tls.address() as AddressInfo).port
    const settings = (tunnel: object) => ({
      listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0', proxy: '127.0.0.1:0' },
      resources: {
        desk: {
          http: api.url,
          credential: { header: { name: 'X-Api-Key', value: '${env:DESK_KEY}' } },
          operations: { get: { request: 'GET /tickets/{id}', effect: 'read' } },
        },
        ...tunnel,
      },
      agents: {
        agent: {
          may: ['desk:get', ...(Object.keys(tunnel).length === 0 ? [] : [{ do: 'out:connect', ask: 'never' }])],
        },
      },
    })
    const withTunnel = settings({ out: { tunnel: [`127.0.0.1:${tlsPort}`] } })
    const gateway = await startSallyport({ settings: withTunnel, env: { DESK_KEY: key }, folder: newFolder() })
    try {
      const holder = await gateway.session('agent')
      const { proxy } = (await gateway.status()) as { proxy?: { url: string } }
      const port = Number(new URL(proxy?.url ?? '').port)
      const ask = async (as: string): Promise<string> => {
        const wire = await Wire.to(port)
        const host = new URL(api.url).host
        return wire
          .send(
            `GET ${api.url}/tickets/7 HTTP/1.1\r\nHost: ${host}\r\nProxy-Authorization: ${basic(as)}\r\nConnection: close\r\n\r\n`,
          )
          .end()
      }
      expect(await ask(holder.token)).toMatch(/^HTTP\/1\.1 200 OK[^]*"url":"\/tickets\/7"/)
      expect(api.seen[0]?.headers['x-api-key']).toBe(key)
      expect(await ask('sp_session_wrong')).toMatch(/^HTTP\/1\.1 407 /)
      expect(await ask(gateway.adminKey)).toMatch(/^HTTP\/1\.1 407 /)
      await until('it is counted', async () =>
        (await gateway.events()).some(({ type }) => type === 'credential.refused'),
      )

      // An address has no name in TLS.
      const stream = await secure(
        await connectVia(port, `127.0.0.1:${tlsPort}`, { 'Proxy-Authorization': basic(holder.token) }),
        { ca: names.pem, host: '127.0.0.1', servername: '' },
      )
      const wire = new Wire(stream)
      expect(await wire.send('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n').end()).toContain('unopened')
      await until('what passed is recorded', async () =>
        (await gateway.events()).some((event) => event.type === 'action.done' && event['permission'] === 'out:connect'),
      )

      // Those who look from the people's side know what it is, and conditions know its arguments.
      const explained = await gateway.cli(
        'explain',
        '--agent',
        'agent',
        '--permission',
        'out:connect',
        '--args',
        JSON.stringify({ host: '127.0.0.1', port: tlsPort }),
      )
      expect(explained.out).toMatch(/allow/)
      const broken = { ...withTunnel, agents: { agent: { may: [{ do: 'out:connect', when: 'args.hots == "a"' }] } } }
      gateway.write({ ...broken, state: gateway.state })
      await expect(gateway.admin('POST', '/v1/reload')).rejects.toThrow(/hots/)

      expect((await gateway.cli('ca', '--pem')).out).toContain('BEGIN CERTIFICATE')
      expect(fs.statSync(path.join(gateway.state, 'ca.key')).mode & 0o777).toBe(0o600)

      const longer = new Wire(
        await secure(await connectVia(port, `127.0.0.1:${tlsPort}`, { 'Proxy-Authorization': basic(holder.token) }), {
          ca: names.pem,
          host: '127.0.0.1',
          servername: '',
        }),
      )
      gateway.write({ ...settings({}), state: gateway.state })
      await gateway.admin('POST', '/v1/reload')
      await longer.end()
    } finally {
      await gateway.stop()
      tls.close()
      tls.closeAllConnections()
      await api.close()
    }
  })

  test('without `listen.proxy` there is neither a proxy nor an authority', async () => {
    const gateway = await startSallyport({ settings: {} })
    try {
      expect(await gateway.status()).not.toHaveProperty('proxy')
      expect(fs.existsSync(path.join(gateway.state, 'ca.key'))).toBe(false)
      expect((await gateway.cli('ca')).err).toContain('listen.proxy')
    } finally {
      await gateway.stop()
    }
  })
})
