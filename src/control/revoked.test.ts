import http from 'node:http'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPeopleSide } from '../../test/support/people.ts'
import type { PeopleSide } from '../../test/support/people.ts'
import { createAuthenticate } from '../guard/authenticate.ts'
import { createTokens } from '../guard/tokens.ts'
import { generateKeyPairSync } from 'node:crypto'

let side: PeopleSide
beforeAll(async () => {
  side = await startPeopleSide()
})
afterAll(() => side.close())

const request = (path: string, key: string, init: RequestInit = {}) =>
  fetch(`${side.url}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
  })

/** Resolves when the stream has begun; `over` when it is cut off. */
function streaming(path: string, key: string): Promise<{ readonly over: Promise<void> }> {
  return new Promise((resolve) => {
    const asked = http.get(`${side.url}${path}`, { agent: false, headers: { authorization: `Bearer ${key}` } })
    asked.once('response', (response) => {
      response.on('error', () => {})
      response.resume()
      resolve({ over: new Promise((done) => response.once('close', done)) })
    })
  })
}

test.each(['/v1/approvals/watch', '/v1/audit/tail'])(
  'promise 6: a stream at %s ends soon after the key that opened it was revoked',
  async (path) => {
    const { key, text } = await side.world.keys.issue('person:admin', 'test')
    const { over } = await streaming(path, text)
    await side.world.keys.revoke(key.id, 'person:admin', 'leaked')
    await expect(over).resolves.toBeUndefined()
  },
  8_000,
)

test('promise 2: revoking the key of an agent ends what was started with it, and what that lent', async () => {
  const { sessions, keys, audit, clock } = side.world
  const tokens = await createTokens('http://agents.test', [generateKeyPairSync('ed25519').privateKey], clock)
  const authenticate = createAuthenticate({ sessions, tokens, keys, audit, clock, issuers: () => [] })
  const { key, text } = await keys.issue('agent:reader', 'test')
  const id = await authenticate(text)
  const flight = sessions.flight(id, new AbortController().signal)
  const answer = await request(`/v1/keys/${key.id}`, side.keys.admin, { method: 'DELETE' })
  expect(answer.status).toBe(200)
  expect(sessions.get(id)).toBeUndefined()
  expect(flight.signal.aborted).toBe(true)
})

test('promise 9: a body that is too large is answered, not only cut off', async () => {
  const answer = await request('/v1/explain', side.keys.admin, {
    method: 'POST',
    body: JSON.stringify({ agent: 'reader', permission: 'helpdesk:search', args: { x: 'x'.repeat(1_100_000) } }),
  })
  expect(answer.status).toBe(413)
})
