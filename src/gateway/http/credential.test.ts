import type { ServerResponse } from 'node:http'
import { Agent } from 'undici'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { json, resourcesIn, startApi, startHttpGateway } from '../../../test/support/http.ts'
import type { TestApi } from '../../../test/support/http.ts'
import { until } from '../../../test/support/sallyport.ts'
import { createCredentials } from './credential.ts'
import type { LeaseEnd } from './credential.ts'

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
/** Of those, the ones that were said to be over. */
const over: string[] = []
beforeEach(async () => {
  api = await startApi()
  learned.splice(0)
  over.splice(0)
})
afterEach(async () => {
  await gateway.close()
  await api.close()
})

async function start(credential: string, more = ''): Promise<void> {
  gateway = await startHttpGateway(policy(api.url, credential, more), {
    gateway: { onSecret: (_resource, value) => (learned.push(value), () => void over.push(value)) },
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

describe('tokens that are lent', () => {
  interface Authority {
    readonly given: string[]
    readonly revoked: string[]
    /** What it answers to each revocation, in turn; 200 when nothing is left. */
    readonly answers: (number | 'break off')[]
    /** Holds back tokens while it is set. */
    gate: Promise<void>
  }

  function authority(type = 'bearer'): Authority {
    const here: Authority = { given: [], revoked: [], answers: [], gate: Promise.resolve() }
    api.on = async ({ url, method, headers, body }, res) => {
      if (url === '/token') {
        const token = `token-${here.given.length + 1}-abcdefgh`
        here.given.push(token)
        await here.gate
        return json(res, { access_token: token, token_type: type, expires_in: 120 })
      }
      if (url !== '/revoke') return json(res, { auth: headers['authorization'] })
      expect([method, headers['content-type']]).toEqual(['POST', 'application/x-www-form-urlencoded'])
      expect(headers['authorization']).toBe(`Basic ${Buffer.from('me:s%3As').toString('base64')}`)
      const form = new URLSearchParams(body.toString())
      expect(form.get('token_type_hint')).toBe('access_token')
      const answer = here.answers.shift() ?? 200
      if (answer === 'break off') return void res.destroy()
      if (answer === 200) here.revoked.push(form.get('token') ?? '')
      res.writeHead(answer).end()
    }
    return here
  }

  const lent = (more = 'per: session'): string =>
    `{ oauth: { token_url: "${api.url}/token", revoke_url: "${api.url}/revoke", client_id: me, client_secret: "s:s", ${more} } }`
  const as = async (one: { readonly token: string }): Promise<unknown> =>
    (
      (await (
        await fetch(`${gateway.url}/api/desk/v1/ping`, { headers: { authorization: `Bearer ${one.token}` } })
      ).json()) as { auth: unknown }
    ).auth
  const ends = (): unknown[] =>
    gateway.audit
      .of('lease.end')
      .map(({ resource, session, revoked, because }) => [resource, session, revoked, because])

  test('each session has its own, which is revoked when it ends; the others go on', async () => {
    const { given, revoked } = authority()
    await start(lent())
    const [one, two] = [await gateway.session('reader'), await gateway.session('reader')]
    // What comes back is what the API saw: nothing here hides it.
    expect([await as(one), await as(one), await as(two)]).toEqual(
      ['token-1-abcdefgh', 'token-1-abcdefgh', 'token-2-abcdefgh'].map((each) => `Bearer ${each}`),
    )
    await gateway.sessions.end([one.id], 'it is done', 'person:dora')
    await until('it is revoked', () => ends().length === 1)
    expect([revoked, ends()]).toEqual([['token-1-abcdefgh'], [['desk', one.id, true, undefined]]])
    expect(await as(two)).toBe('Bearer token-2-abcdefgh')
    expect(given.length).toBe(2)
    await gateway.gateway.close()
    expect(revoked).toEqual(['token-1-abcdefgh', 'token-2-abcdefgh'])
    expect(ends()[1]).toEqual(['desk', two.id, true, undefined])
  })

  test('one that is on its way when the session ends is revoked as it comes', async () => {
    const here = authority()
    let letGo = (): void => {}
    here.gate = new Promise((resolve) => (letGo = resolve))
    await start(lent())
    const one = await gateway.session('reader')
    const asked = as(one).catch(() => 'cut')
    await until('the token is asked for', () => here.given.length === 1)
    await gateway.sessions.end([one.id], 'it is done', 'person:dora')
    expect(await asked).toBe('cut')
    expect(ends()).toEqual([])
    letGo()
    await until('it is revoked', () => ends().length === 1)
    expect(here.revoked).toEqual(here.given)
    expect(api.seen.map(({ url }) => url)).toEqual(['/token', '/revoke'])
  })

  test('a connection that breaks is tried once more; what is refused is said', async () => {
    const here = authority()
    await start(lent())
    const all = [await gateway.session('reader'), await gateway.session('reader'), await gateway.session('reader')]
    for (const one of all) await as(one)
    const endings: [(number | 'break off')[], boolean, unknown][] = [
      [['break off'], true, undefined],
      [['break off', 503], false, 'the revocation endpoint answered with 503'],
      [[400], false, 'the revocation endpoint answered with 400'],
    ]
    for (const [index, [answers, revoked, because]] of endings.entries()) {
      here.answers.push(...answers)
      await gateway.sessions.end([all[index]?.id ?? ''], 'it is done', 'person:dora')
      await until('the end is recorded', () => ends().length === index + 1)
      expect(ends()[index]).toEqual(['desk', all[index]?.id, revoked, because])
      expect(here.answers).toEqual([])
    }
    expect(JSON.stringify(gateway.audit.of('lease.end'))).not.toMatch(/token-|s:s/)
  })

  test('tokens that were replaced are revoked too, unless their time is over; what was never lent has no end', async () => {
    const here = authority()
    await start(lent())
    const [one, two] = [await gateway.session('reader'), await gateway.session('reader')]
    await as(one)
    gateway.time.now += 91_000
    expect(await as(one)).toBe('Bearer token-2-abcdefgh')
    await gateway.sessions.end([one.id, two.id], 'it is done', 'person:dora')
    await until('they are revoked', () => ends().length === 1)
    expect(here.revoked.toSorted()).toEqual(here.given)
    expect(over.toSorted()).toEqual(here.given)

    const three = await gateway.session('reader')
    await as(three)
    gateway.time.now += 121_000
    await gateway.sessions.end([three.id], 'it is done', 'person:dora')
    await until('the end is recorded', () => ends().length === 2)
    expect(ends()[1]).toEqual(['desk', three.id, false, 'its time was over'])
    expect(here.revoked.length).toBe(2)
    expect(over).toContain(here.given[2])
  })

  test('of tokens that the API refuses, no more than a few are left standing', async () => {
    const here = authority()
    const answer = api.on
    api.on = (seen, res, req) => (seen.url === '/v1/ping' ? json(res, {}, 401) : answer(seen, res, req))
    await start(lent())
    const one = await gateway.session('reader')
    for (let count = 0; count < 10; count++) await as(one)
    await until('the oldest are revoked', () => here.revoked.length >= 6)
    expect(over.toSorted()).toEqual(here.revoked.toSorted())
    await gateway.gateway.close()
    expect(here.revoked.toSorted()).toEqual(here.given.toSorted())
    expect(ends().length).toBe(1)
  })

  test('one of a wrong kind was given out all the same, and is taken back', async () => {
    const here = authority('mac')
    await start(lent())
    const one = await gateway.session('reader')
    await as(one).catch(() => {})
    await gateway.sessions.end([one.id], 'it is done', 'person:dora')
    await until('it is revoked', () => ends().length === 1)
    expect(here.revoked).toEqual(here.given)
  })

  test('one for all stays when a session ends, and is revoked when the gateway stops', async () => {
    const here = authority()
    await start(lent('scope: desk'))
    const [one, two] = [await gateway.session('reader'), await gateway.session('reader')]
    expect([await as(one), await as(two)]).toEqual(['Bearer token-1-abcdefgh', 'Bearer token-1-abcdefgh'])
    await gateway.sessions.end([one.id], 'it is done', 'person:dora')
    expect(await as(two)).toBe('Bearer token-1-abcdefgh')
    await gateway.gateway.close()
    expect([here.revoked, ends()]).toEqual([['token-1-abcdefgh'], [['desk', undefined, true, undefined]]])
  })

  test('one from before a reload ends with its session too', async () => {
    const here = authority()
    await start(lent())
    const one = await gateway.session('reader')
    await as(one)
    gateway.gateway.prepare(resourcesIn(policy(api.url, lent())))()
    await as(one)
    await gateway.sessions.end([one.id], 'it is done', 'person:dora')
    await until('both are revoked', () => ends().length === 2)
    expect(here.revoked.toSorted()).toEqual(['token-1-abcdefgh', 'token-2-abcdefgh'])
  })

  test('one from before a reload is taken back a minute later', async () => {
    const here = authority()
    await start(lent())
    const one = await gateway.session('reader')
    await as(one)
    vi.useFakeTimers({ toFake: ['setTimeout'] })
    try {
      gateway.gateway.prepare(resourcesIn(policy(api.url, lent())))()
      vi.advanceTimersByTime(60_000)
    } finally {
      vi.useRealTimers()
    }
    await until('it is revoked', () => ends().length === 1)
    expect(here.revoked).toEqual(['token-1-abcdefgh'])
    expect(await as(one)).toBe('Bearer token-2-abcdefgh')
  })

  test('nothing is lent to a request that was cut, nor after the end; what was never given out has no end', async () => {
    const here = authority()
    await start('{ bearer: key }')
    const ended: LeaseEnd[] = []
    const dispatcher = new Agent()
    const credentials = createCredentials(
      {
        kind: 'oauth',
        tokenUrl: `${api.url}/token`,
        revokeUrl: `${api.url}/revoke`,
        clientId: () => 'me',
        clientSecret: () => 's:s',
        isPerSession: true,
      },
      { dispatcher, clock: Date.now, onLeaseEnd: (end) => void ended.push(end) },
    )
    const { signal } = new AbortController()
    try {
      await expect(credentials.proof('cut', AbortSignal.abort())).rejects.toMatchObject({ code: 'cancelled' })
      expect(here.given).toEqual([])
      await credentials.proof('lent', signal)
      const answer = api.on
      api.on = (seen, res, req) => (seen.url === '/token' ? json(res, {}, 500) : answer(seen, res, req))
      await expect(credentials.proof('failed', signal)).rejects.toMatchObject({ code: 'unavailable' })
      credentials.ended(['cut', 'failed', 'never seen'])
      await credentials.close()
      expect(ended).toEqual([{ session: 'lent', revoked: true }])
      api.on = answer
      await expect(credentials.proof('later', signal)).rejects.toMatchObject({ code: 'unavailable' })
      expect(here.given.length).toBe(1)
    } finally {
      await dispatcher.destroy()
    }
  })

  test('where nothing can be revoked, the end of the session says so', async () => {
    const here = authority()
    await start(`{ oauth: { token_url: "${api.url}/token", client_id: me, client_secret: "s:s", per: session } }`)
    const one = await gateway.session('reader')
    await as(one)
    await gateway.sessions.end([one.id], 'it is done', 'person:dora')
    await until('the end is recorded', () => ends().length === 1)
    expect([here.revoked, ends()]).toEqual([[], [['desk', one.id, false, 'there is no `revoke_url`']]])
    expect(over).toEqual(here.given)
  })
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
