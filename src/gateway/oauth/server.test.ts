import { createRemoteJWKSet, decodeJwt, jwtVerify } from 'jose'
import { afterEach, describe, expect, test } from 'vitest'
import { startGateway } from '../../../test/support/gateway.ts'
import { ask } from '../../../test/support/mcp.ts'
import type { Loose } from '../../../test/support/mcp.ts'

const policy = `
facts: { customer_id: int }
resources:
  desk: { mcp: { command: [desk] }, tools: { read: read, write: write } }
agents:
  reader:
    may: ["desk:read", "desk:write"]
    lends: { responder: ["desk:read", "desk:write"] }
  responder: { may: ["desk:read"] }
`
const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
const accessToken = 'urn:ietf:params:oauth:token-type:access_token'
const jwt = 'urn:ietf:params:oauth:token-type:jwt'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function open() {
  const gateway = await startGateway(policy, [])
  closing.push(gateway.close)
  const { id, token } = await gateway.session('reader', { facts: { customer_id: 42 } })
  const post = async (path: string, form: Record<string, string> | string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${gateway.listener.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
      body: typeof form === 'string' ? form : new URLSearchParams(form).toString(),
    })
    return { status: response.status, headers: response.headers, body: (await response.json()) as Loose }
  }
  const lend = (more: Record<string, string> = {}) =>
    post('/oauth/token', {
      grant_type: exchange,
      subject_token: token,
      subject_token_type: accessToken,
      agent: 'responder',
      ...more,
    })
  const sessionOf = (given: string) => gateway.sessions.live().find(({ parent }) => parent === id && given !== '')
  return { gateway, id, token, post, lend, sessionOf }
}

describe('token exchange', () => {
  test('lends to another agent, with the facts of the lender, and says so in the token', async () => {
    const { gateway, id, lend } = await open()
    const { status, headers, body } = await lend({ requested_token_type: jwt })
    expect(status).toBe(200)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(body).toMatchObject({ token_type: 'Bearer', issued_token_type: jwt })
    const child = gateway.sessions.live().find(({ parent }) => parent === id)!
    expect(child).toMatchObject({ agent: 'responder', facts: { customer_id: 42 } })
    expect(body['expires_in']).toBe(Math.floor((child.deadline - gateway.clock()) / 1000))
    expect(decodeJwt(body['access_token'])).toMatchObject({
      sid: child.id,
      act: { sub: 'agent:responder', act: { sub: 'agent:reader' } },
    })
    const keys = createRemoteJWKSet(new URL(`${gateway.listener.url}/oauth/jwks`))
    await expect(
      jwtVerify(body['access_token'], keys, { currentDate: new Date(gateway.clock()) }),
    ).resolves.toBeDefined()
    expect((await ask({ url: gateway.url, token: body['access_token'] }, 'tools/list')).status).toBe(200)
  })

  test('gives an opaque token where one is asked for', async () => {
    const { gateway, lend } = await open()
    const { body } = await lend({ requested_token_type: accessToken, expires_in: '60', scope: 'desk:read' })
    expect(body).toMatchObject({ expires_in: 60, scope: 'desk:read' })
    expect(body['access_token']).toMatch(/^sp_session_/)
    expect((await ask({ url: gateway.url, token: body['access_token'] }, 'tools/list')).status).toBe(200)
  })

  test('knows the agent by its own token, too', async () => {
    const { gateway, lend } = await open()
    const responder = await gateway.session('responder')
    const actor = { actor_token: responder.token, actor_token_type: accessToken }
    expect((await lend({ ...actor, agent: 'responder' })).status).toBe(200)
    expect((await lend({ ...actor, agent: 'reader' })).body).toMatchObject({ error: 'invalid_request' })
  })

  test('promise 2: lends no more than is held', async () => {
    const { gateway, lend, token } = await open()
    for (const scope of ['desk:delete', '*:*', 'desk:*', 'desk:read desk:delete'])
      expect([scope, (await lend({ scope })).body['error']]).toEqual([scope, 'invalid_scope'])
    expect((await lend({ agent: 'nobody' })).body).toMatchObject({ error: 'invalid_scope' })
    const details = (value: object) =>
      lend({ authorization_details: JSON.stringify([{ type: 'sallyport', ...value }]) })
    expect((await details({ facts: { customer_id: 43 } })).body).toMatchObject({ error: 'invalid_scope' })
    expect(
      (await details({ only: [{ do: 'desk:read', when: 'args.id == 1' }], limits: { calls: '1/min' } })).status,
    ).toBe(200)
    const long = await lend({ expires_in: '999999999' })
    expect(long.body['expires_in']).toBeLessThanOrEqual(30 * 60)
    expect(token).toBeDefined()
    expect(
      gateway.sessions
        .live()
        .every(({ agent, only }) => agent !== 'responder' || only === undefined || only.length === 1),
    ).toBe(true)
  })

  test('promise 4: refuses what it can’t read, and never sends a token back', async () => {
    const { lend, post, token } = await open()
    const wrong: [form: Record<string, string> | string, error: string, headers?: Record<string, string>][] = [
      [{}, 'unsupported_grant_type'],
      [{ grant_type: 'client_credentials' }, 'unsupported_grant_type'],
      [{ grant_type: exchange }, 'invalid_request'],
      [{ grant_type: exchange, subject_token: token }, 'invalid_request'],
      [{ grant_type: exchange, subject_token: token, subject_token_type: 'urn:x' }, 'invalid_request'],
      [{ grant_type: exchange, subject_token: token, subject_token_type: accessToken }, 'invalid_request'],
      [
        { grant_type: exchange, subject_token: `${token}x`, subject_token_type: accessToken, agent: 'responder' },
        'invalid_grant',
      ],
      [`grant_type=${exchange}&subject_token=${token}&subject_token=${token}`, 'invalid_request'],
      [JSON.stringify({ grant_type: exchange }), 'invalid_request', { 'content-type': 'application/json' }],
      [`a=${'x'.repeat(70_000)}`, 'invalid_request'],
    ]
    for (const [form, error, headers] of wrong) {
      const answer = await post('/oauth/token', form, headers)
      expect([answer.status >= 400, answer.body['error']]).toEqual([true, error])
      expect(JSON.stringify(answer.body)).not.toContain(token)
    }
    const bad = [
      'nonsense',
      '{}',
      '[]',
      '[1]',
      '[{"type":"other"}]',
      '[{"type":"sallyport","surprise":1}]',
      '[{"type":"sallyport","only":"*"}]',
      '[{"type":"sallyport","only":[{"do":1}]}]',
      '[{"type":"sallyport","limits":{"calls":5}}]',
      '['.repeat(50),
    ]
    for (const authorization_details of bad)
      expect([authorization_details, (await lend({ authorization_details })).body['error']]).toEqual([
        authorization_details,
        'invalid_request',
      ])
    expect((await lend({ expires_in: '-1' })).body).toMatchObject({ error: 'invalid_request' })
    expect((await lend({ scope: 'desk:read', authorization_details: '[]' })).body).toMatchObject({
      error: 'invalid_request',
    })
  })
})

describe('revocation', () => {
  test('promise 2: ends the session of a token, and all that was lent from it', async () => {
    const { gateway, token, lend, post } = await open()
    const child = (await lend()).body['access_token'] as string
    const at = (given: string) => ask({ url: gateway.url, token: given }, 'tools/list').then(({ status }) => status)
    expect([await at(token), await at(child)]).toEqual([200, 200])
    expect((await post('/oauth/revoke', { token })).status).toBe(200)
    expect([await at(token), await at(child)]).toEqual([401, 401])
  })

  test('of a token that nobody knows is fine, and ends nothing', async () => {
    const { gateway, token, post } = await open()
    expect((await post('/oauth/revoke', { token: 'unknown' })).status).toBe(200)
    expect((await post('/oauth/revoke', {})).body).toMatchObject({ error: 'invalid_request' })
    expect((await ask({ url: gateway.url, token }, 'tools/list')).status).toBe(200)
  })
})

test('metadata tells where everything is', async () => {
  const { gateway } = await open()
  const base = gateway.listener.url
  const read = async (path: string) => (await fetch(`${base}${path}`)).json() as Promise<Loose>
  expect(await read('/.well-known/oauth-authorization-server')).toMatchObject({
    issuer: base,
    token_endpoint: `${base}/oauth/token`,
    jwks_uri: `${base}/oauth/jwks`,
    grant_types_supported: [exchange],
  })
  const { keys } = await read('/oauth/jwks')
  expect(keys).toMatchObject([{ kty: 'OKP', crv: 'Ed25519', use: 'sig' }])
  expect(keys[0]).not.toHaveProperty('d')
  expect((await fetch(`${base}/oauth/jwks`, { method: 'POST' })).status).toBe(405)
  expect((await fetch(`${base}/oauth/token`)).status).toBe(405)
})
