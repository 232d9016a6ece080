// Tokens that are lent to sessions, with the real gateway: its way of ending sessions, its stop, its audit log.
import { afterAll, afterEach, expect, test } from 'vitest'
import { json, startApi } from '../support/http.ts'
import { removeFolders, startSallyport, until } from '../support/sallyport.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})
afterAll(removeFolders)

test('a token is one session’s, whichever way it asks; it is revoked when the session ends, and the rest when the gateway stops', async () => {
  const api = await startApi()
  closing.push(api.close)
  let given = 0
  const revoked: (string | null)[] = []
  api.on = ({ url, headers, body }, res) => {
    if (url === '/token')
      return json(res, { access_token: `lent-token-${++given}`, token_type: 'bearer', expires_in: 600 })
    if (url !== '/revoke') return json(res, { echoed: headers['authorization'] })
    revoked.push(new URLSearchParams(body.toString()).get('token'))
    res.writeHead(200).end()
  }
  const oauth = {
    token_url: `${api.url}/token`,
    revoke_url: `${api.url}/revoke`,
    client_id: 'sallyport',
    client_secret: '${env:CLIENT}',
    per: 'session',
  }
  const gateway = await startSallyport({
    settings: {
      resources: {
        desk: {
          http: api.url,
          credential: { oauth },
          operations: { ping: { request: 'GET /v1/ping', effect: 'read' } },
        },
      },
      agents: { reader: { may: ['desk:ping'] } },
    },
    env: { CLIENT: 'client-secret-0123456789' },
  })
  closing.push(gateway.stop)
  const [one, two] = [await gateway.session('reader'), await gateway.session('reader')]
  const ping = async (token: string): Promise<string> =>
    (await fetch(`${gateway.agentsUrl}/api/desk/v1/ping`, { headers: { authorization: `Bearer ${token}` } })).text()

  const shown = [await ping(one.token), (await gateway.call(one.token, 'desk__ping')).text, await ping(two.token)]
  const used = api.seen.filter(({ url }) => url === '/v1/ping').map(({ headers }) => headers['authorization'])
  expect(used).toEqual(['Bearer lent-token-1', 'Bearer lent-token-1', 'Bearer lent-token-2'])
  for (const text of shown) expect(text).toMatch(/echoed.*\[secret token of desk\]/)

  await gateway.admin('DELETE', `/v1/sessions/${one.id}`)
  await until('its token is revoked', () => revoked.length === 1)
  expect(revoked).toEqual(['lent-token-1'])
  expect(await ping(one.token)).toMatch(/session_over|unauthenticated/)
  await gateway.stop()
  expect(revoked).toEqual(['lent-token-1', 'lent-token-2'])

  const events = await gateway.events()
  expect(events.filter(({ type }) => type === 'lease.end')).toMatchObject([
    { resource: 'desk', session: one.id, revoked: true },
    { resource: 'desk', session: two.id, revoked: true },
  ])
  const outcomes = events.filter(({ type }) => type === 'action.done')
  expect(outcomes.map(({ session, host }) => [session, host])).toEqual(
    [one, one, two].map(({ id }) => [id, '127.0.0.1']),
  )
  expect(JSON.stringify(events)).not.toMatch(/lent-token|client-secret/)
})
