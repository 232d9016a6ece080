import type { ServerResponse } from 'node:http'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { json, startApi, startHttpGateway } from '../../../test/support/http.ts'
import type { TestApi } from '../../../test/support/http.ts'

const policy = (url: string, credential: string, more = '') => `
resources:
  desk:
    http: ${url}
    credential: ${credential}
    ${more}
    operations:
      ping: { request: "GET /v1/ping", effect: read, query: { a: { type: string } } }
      open: { request: "GET /v1/open", effect: read, query: { "*": { type: string } } }
      act: { request: "POST /v1/act", effect: write }
agents:
  reader: { may: [desk:ping, desk:open, desk:act], limits: { repeats: unlimited } }
`

let api: TestApi
let gateway: Awaited<ReturnType<typeof startHttpGateway>>
let token: string
const learned: string[] = []
beforeEach(async () => {
  api = await startApi()
  learned.splice(0)
})
afterEach(async () => {
  await gateway.close()
  await api.close()
})

async function start(credential: string, more = ''): Promise<void> {
  gateway = await startHttpGateway(policy(api.url, credential, more), {
    gateway: { onSecret: (_resource, value) => learned.push(value) },
  })
  ;({ token } = await gateway.session('reader'))
}
const call = (at: string, init: RequestInit = {}) =>
  fetch(`${gateway.url}/api/desk${at}`, { redirect: 'manual', ...init, headers: { authorization: `Bearer ${token}` } })

test.each([
  ['{ bearer: key }', { authorization: 'Bearer key' }],
  ['{ header: { name: X-Key, value: key } }', { 'x-key': 'key', authorization: undefined }],
  ['{ basic: { user: me, password: "a:b" } }', { authorization: `Basic ${Buffer.from('me:a:b').toString('base64')}` }],
])('%s is what the API sees', async (credential, headers) => {
  await start(credential)
  expect((await call('/v1/ping')).status).toBe(200)
  for (const [name, value] of Object.entries(headers)) expect(api.seen[0]?.headers[name]).toBe(value)
})

test('one in the query is added there, and no argument can stand in its place', async () => {
  await start('{ query: { name: key, value: "s&s" } }')
  await call('/v1/ping?a=b')
  expect(api.seen[0]?.url).toBe('/v1/ping?a=b&key=s%26s')
  expect((await call('/v1/open?key=mine')).status).toBe(400)
  expect(api.seen.length).toBe(1)
})

test('client credentials: a token is asked for once, kept for its time, and asked for anew when it is refused', async () => {
  let count = 0
  let isRefused = false
  api.on = ({ url, headers, body }, res) => {
    if (url !== '/token') return json(res, { auth: headers['authorization'] }, isRefused ? 401 : 200)
    count += 1
    expect(headers['authorization']).toBe(`Basic ${Buffer.from('me%2Bme:s%3As').toString('base64')}`)
    expect(body.toString()).toBe('grant_type=client_credentials&scope=desk')
    json(res, { access_token: `token-${count}-abcdefgh`, token_type: 'Bearer', expires_in: 120 })
  }
  await start(`{ oauth: { token_url: "${api.url}/token", client_id: me+me, client_secret: "s:s", scope: desk } }`)
  const all = await Promise.all([call('/v1/ping'), call('/v1/ping'), call('/v1/ping')])
  for (const answer of all) expect(await answer.json()).toEqual({ auth: 'Bearer token-1-abcdefgh' })
  expect([count, learned]).toEqual([1, ['token-1-abcdefgh']])
  gateway.time.now += 91_000
  expect(await (await call('/v1/ping')).json()).toEqual({ auth: 'Bearer token-2-abcdefgh' })
  isRefused = true
  expect((await call('/v1/ping')).status).toBe(401)
  isRefused = false
  expect(await (await call('/v1/ping')).json()).toEqual({ auth: 'Bearer token-3-abcdefgh' })
  expect(count).toBe(3)
})

test.each([
  ['an error', (res: ServerResponse) => json(res, { error: 'invalid_client' }, 401)],
  ['no token', (res: ServerResponse) => json(res, {})],
  ['a token of another kind', (res: ServerResponse) => json(res, { access_token: 'x', token_type: 'mac' })],
  ['a token with a line end', (res: ServerResponse) => json(res, { access_token: 'x\r\ny: z', token_type: 'bearer' })],
  [
    'more than a token',
    (res: ServerResponse) => json(res, { access_token: 'x'.repeat(100_000), token_type: 'bearer' }),
  ],
  ['a redirect', (res: ServerResponse) => void res.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()],
])('client credentials: %s means that nothing is sent', async (_title, answer) => {
  api.on = ({ url }, res) => (url === '/token' ? answer(res) : json(res, {}))
  await start(`{ oauth: { token_url: "${api.url}/token", client_id: me, client_secret: secret } }`)
  const refused = await call('/v1/act', { method: 'POST' })
  expect(refused.status).toBe(502)
  expect(await refused.text()).toMatch(/the token endpoint/)
  expect(api.seen.map(({ url }) => url)).toEqual(['/token'])
})

test('redirects are not followed unless it is said', async () => {
  await start('{ bearer: key }')
  api.on = (_seen, res) => void res.writeHead(307, { location: '/v1/other' }).end()
  expect((await call('/v1/ping')).status).toBe(307)
  expect(api.seen.length).toBe(1)
})

test('redirects of a GET to the same origin are followed with the credential; a POST is never sent again', async () => {
  await start('{ bearer: key }', 'redirects: same-origin')
  api.on = ({ url }, res) =>
    url === '/v1/other' ? json(res, { ok: true }) : void res.writeHead(307, { location: '/v1/other' }).end()
  expect(await (await call('/v1/ping')).json()).toEqual({ ok: true })
  expect(api.seen.map(({ url, headers }) => [url, headers['authorization']])).toEqual([
    ['/v1/ping', 'Bearer key'],
    ['/v1/other', 'Bearer key'],
  ])
  expect((await call('/v1/act', { method: 'POST' })).status).toBe(307)
  expect(api.seen.length).toBe(3)
  api.on = (_seen, res) => void res.writeHead(302, { location: '/v1/ping' }).end()
  expect((await call('/v1/ping')).status).toBe(502)
  expect(api.seen.length).toBe(9)
})

test('a redirect to another host that is listed goes without the credential, and only to an address that may be reached', async () => {
  const other = await startApi()
  try {
    const port = new URL(other.url).port
    gateway = await startHttpGateway(
      policy(
        api.url,
        '{ bearer: key }',
        `redirects: [files.example.com, inside.example.com]\n    addresses: [127.0.0.1]\n    ports: [${port}]`,
      ),
      {
        gateway: { egress: { resolve: async (name) => [name === 'inside.example.com' ? '10.0.0.1' : '127.0.0.1'] } },
      },
    )
    ;({ token } = await gateway.session('reader'))
    api.on = (_seen, res) => void res.writeHead(302, { location: `http://files.example.com:${port}/x` }).end()
    expect((await call('/v1/ping')).status).toBe(200)
    expect(other.seen[0]?.headers).toMatchObject({ host: `files.example.com:${port}` })
    expect(other.seen[0]?.headers['authorization']).toBeUndefined()
    for (const location of [
      `http://inside.example.com:${port}/x`,
      `http://elsewhere.example.com:${port}/x`,
      'http://169.254.169.254/',
      `http://files.example.com:1/x`,
      'file:///etc/passwd',
    ]) {
      api.on = (_seen, res) => void res.writeHead(302, { location }).end()
      expect([location, (await call('/v1/ping')).status]).toEqual([location, 502])
    }
    expect(other.seen.length).toBe(1)
  } finally {
    await other.close()
  }
})
