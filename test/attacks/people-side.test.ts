// An agent, or whoever has an agent's credential, at the doors of the people's side; and the other way round.
import fs from 'node:fs'
import http from 'node:http'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { removeFolders, startSallyport } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'
import { scriptedUpstream } from '../support/upstream.ts'
import type { ScriptedUpstream } from '../support/upstream.ts'

/** Every route that there is, as the source has them: a new one is tried without anybody thinking of it. */
function routesOfPeople(): [method: string, path: string][] {
  const folder = fileURLToPath(new URL('../../src/control/', import.meta.url))
  return fs
    .readdirSync(folder)
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .flatMap((name) => [...fs.readFileSync(folder + name, 'utf8').matchAll(/\broute\(\s*'([A-Z]+)',\s*'([^']+)'/g)])
    .map(([, method = '', path = '']) => [method, path])
}

let gateway: Sallyport
let upstream: ScriptedUpstream
const credentials = new Map<string, string>()
let question = ''
let session = ''

beforeAll(async () => {
  upstream = await scriptedUpstream()
  gateway = await startSallyport({
    settings: {
      approvals: { hold: '1 ms' },
      resources: { desk: { mcp: { url: upstream.url }, tools: { echo: 'read', act: 'destroy' } } },
      agents: {
        worker: { may: ['desk:echo', 'desk:act'], lends: { helper: ['desk:echo'] } },
        helper: { may: ['desk:echo'] },
      },
    },
  })
  const opaque = await gateway.session('worker')
  session = opaque.id
  credentials.set('a session token', opaque.token)
  credentials.set('a signed session token', (await gateway.session('worker', { token: 'jwt' })).token)
  const key = await gateway.admin<{ text: string }>('POST', '/v1/keys', { holder: 'agent:worker' })
  credentials.set('the key of an agent', key.text)
  credentials.set('a lent token', await lent(opaque.token))
  await gateway.call(opaque.token, 'desk__act', { text: 'refund me' })
  question = (await gateway.approvals())[0]!.id
})
afterAll(async () => {
  await gateway.stop()
  await upstream.close()
  removeFolders()
})

async function lent(token: string): Promise<string> {
  const body = new URLSearchParams({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token: token,
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    agent: 'helper',
  })
  const answer = await fetch(`${gateway.agentsUrl}/oauth/token`, { method: 'POST', body })
  return ((await answer.json()) as { access_token: string }).access_token
}

/** What would do harm, if it were let through. */
const bodies: Readonly<Record<string, () => object>> = {
  '/v1/approvals/:id/answer': () => ({ verdict: 'approve' }),
  '/v1/approvals/:id/edit': () => ({ args: { text: 'refund me more' } }),
  '/v1/sessions': () => ({ agent: 'worker' }),
  '/v1/keys': () => ({ holder: 'person:anna' }),
  '/v1/kill': () => ({ target: 'all' }),
  '/v1/revive': () => ({ target: 'all' }),
}
const filled = (path: string): string =>
  path
    .replace('/approvals/:id', `/approvals/${question}`)
    .replace('/sessions/:id', `/sessions/${session}`)
    .replace(/:\w+/, 'none')

test('promise 6: no credential of an agent opens any route of the people’s side', async () => {
  const routes = routesOfPeople()
  expect(routes.length).toBeGreaterThan(20)
  const before = JSON.stringify([
    await gateway.status(),
    (await gateway.admin<{ keys: object[] }>('GET', '/v1/keys')).keys,
  ])

  for (const [who, credential] of [
    ...credentials,
    ['nothing', ''],
    ['a made up key', `sp_person_${'A'.repeat(43)}`],
  ] as const)
    for (const [method, path] of routes)
      for (const headers of [
        { authorization: `Bearer ${credential}` },
        { cookie: `token=${credential}`, 'x-api-key': credential },
      ] as Record<string, string>[]) {
        const response = await fetch(gateway.peopleUrl + filled(path), {
          method,
          headers: { 'content-type': 'application/json', ...headers },
          ...(method === 'POST' ? { body: JSON.stringify(bodies[path]?.() ?? {}) } : {}),
        })
        const said = await response.text()
        expect([who, method, path, response.status]).toEqual([who, method, path, 401])
        if (credential !== '') expect(said).not.toContain(credential)
        expect(said.length).toBeLessThan(300)
      }

  const withoutAudit = (text: string): string => text.replace(/"audit":\{[^}]*\}/, '')
  const after = JSON.stringify([
    await gateway.status(),
    (await gateway.admin<{ keys: object[] }>('GET', '/v1/keys')).keys,
  ])
  expect(withoutAudit(after)).toBe(withoutAudit(before))
  expect((await gateway.approvals()).map(({ id, state }) => [id, state])).toEqual([[question, 'pending']])
})

test('promise 6: nothing of the people’s side can be reached through the agents’ listener, with a person’s key or without', async () => {
  const keys = ['', gateway.adminKey, ...credentials.values()]
  const detours = (path: string): string[] => [
    path,
    `/mcp/..${path}`,
    `/${path}`,
    `/%2e%2e${path}`,
    path.replace('/v1', '/V1'),
    `${gateway.peopleUrl}${path}`,
  ]
  for (const key of keys)
    for (const [method, path] of routesOfPeople())
      for (const target of detours(filled(path))) {
        const status = await statusOf(gateway.agentsUrl, method, target, key, bodies[path]?.() ?? {})
        expect([method, target, status]).toEqual([method, target, 404])
      }
})

test('promise 6: the key of a person is no credential at the agents’ listener', async () => {
  expect((await gateway.ask(gateway.adminKey, 'tools/list')).status).toBe(401)
  expect((await gateway.call(gateway.adminKey, 'desk__echo', { text: 'x' })).status).toBe(401)
  for (const [field, more] of [
    ['subject_token', {}],
    [
      'actor_token',
      {
        subject_token: credentials.get('a session token')!,
        subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      },
    ],
  ] as const) {
    const body = new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      ...more,
      [field]: gateway.adminKey,
      [`${field}_type`]: 'urn:ietf:params:oauth:token-type:access_token',
    })
    const answer = await fetch(`${gateway.agentsUrl}/oauth/token`, { method: 'POST', body })
    expect(answer.status).toBe(400)
    expect(await answer.text()).not.toContain(gateway.adminKey)
  }
})

test('promise 6: no tool, resource or prompt of the gateway itself answers, edits or lists what people are asked', async () => {
  const token = credentials.get('a session token')!
  const { answer } = await gateway.ask(token, 'tools/list')
  const names = (answer.result!['tools'] as { name: string }[]).map(({ name }) => name)
  expect(names.toSorted()).toEqual(['desk__act', 'desk__echo', 'sallyport__await_approval'])
  for (const name of [
    'sallyport__approve',
    'sallyport__deny',
    'sallyport__reload',
    'sallyport__audit',
    'sallyport__kill',
  ])
    expect((await gateway.call(token, name, { id: question })).text).toContain('Unknown tool')
  // Waiting for it is all that an agent can do, whatever else it sends along.
  for (const more of [{ verdict: 'approve' }, { approve: true, by: 'person:admin' }])
    await gateway.call(token, 'sallyport__await_approval', { id: question, ...more })
  expect((await gateway.approvals()).map(({ id, state }) => [id, state])).toEqual([[question, 'pending']])
  expect(upstream.calls()).toEqual([])
})

test('promise 5: who started a session, or on whose behalf it runs, does not answer its questions', async () => {
  const anna = await gateway.admin<{ text: string }>('POST', '/v1/keys', { holder: 'person:anna' })
  for (const behalf of ['person:anna', 'anna']) {
    const { token } = await gateway.session('worker', { behalf })
    await gateway.call(token, 'desk__act', { text: `for ${behalf}` })
    const { id } = (await gateway.approvals()).find(({ args }) => args['text'] === `for ${behalf}`)!
    for (const key of [anna.text, gateway.adminKey]) {
      expect((await gateway.people('POST', `/v1/approvals/${id}/answer`, { verdict: 'approve' }, key)).status).toBe(403)
      expect((await gateway.people('POST', `/v1/approvals/${id}/edit`, { args: { text: 'other' } }, key)).status).toBe(
        403,
      )
    }
  }
  expect(upstream.calls()).toEqual([])
})

/** The target as it is given: `fetch` would tidy it up. */
async function statusOf(
  base: string,
  method: string,
  target: string,
  key: string,
  body: object,
): Promise<number | undefined> {
  const { hostname, port } = new URL(base)
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', ...(key === '' ? {} : { authorization: `Bearer ${key}` }) }
    const request = http.request({ hostname, port, method, path: target, headers }, (response) => {
      response.resume().once('end', () => resolve(response.statusCode))
    })
    request.once('error', reject)
    request.end(method === 'POST' ? JSON.stringify(body) : undefined)
  })
}
