import { generateKeyPairSync } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { SignJWT } from 'jose'
import { expect, test } from 'vitest'
import { createWorld } from '../../test/support/world.ts'
import { createAuthenticate } from './authenticate.ts'
import type { TrustedIssuer } from './authenticate.ts'
import { sha256 } from './digest.ts'
import { createTokens } from './tokens.ts'

const policy = `
resources: { desk: { mcp: { command: [desk] }, tools: { read_ticket: read } } }
agents:
  reader: { may: ["desk:read_ticket"], lends: { reader: ["desk:read_ticket"] } }
  deployer: { may: ["desk:read_ticket"] }
`

const ours = generateKeyPairSync('ed25519').privateKey
const theirs = generateKeyPairSync('ed25519')

async function authenticating() {
  const world = await createWorld(policy)
  const tokens = await createTokens('https://gate.example', [ours], world.clock)
  const ci: TrustedIssuer = {
    name: 'ci',
    issuer: 'https://ci.example',
    audience: 'sallyport',
    algorithms: ['EdDSA'],
    keys: () => theirs.publicKey,
    agents: [
      { agent: 'deployer', claims: { repository: 'acme/app' } },
      { agent: 'reader', claims: { role: 'read' } },
    ],
  }
  const configured = { issuers: [ci] as readonly TrustedIssuer[] }
  const { sessions, keys, audit, clock } = world
  const authenticate = createAuthenticate({ sessions, tokens, keys, audit, clock, issuers: () => configured.issuers })
  return { ...world, tokens, authenticate, configured, ci }
}

const refused = { code: 'unauthenticated' }

const jwt = (claims: Record<string, unknown>, now: number, key: KeyObject = theirs.privateKey, header: object = {}) =>
  new SignJWT({
    sub: 'job-1',
    iss: 'https://ci.example',
    aud: 'sallyport',
    exp: Math.floor(now / 1000) + 600,
    ...claims,
  })
    .setProtectedHeader({ alg: 'EdDSA', ...header })
    .sign(key)

test('a session’s own token is that session, until it ends', async () => {
  const { authenticate, sessions, tokens } = await authenticating()
  const token = tokens.opaque()
  const { id } = await sessions.start({
    agent: 'reader',
    behalf: 'person:dora',
    startedBy: 'service:desk',
    tokenDigest: sha256(token),
  })
  expect(await authenticate(token)).toBe(id)
  await sessions.end([id], 'enough', 'person:anna')
  await expect(authenticate(token)).rejects.toMatchObject(refused)
})

test('a signed token names the chain, and is worth nothing once its session is over', async () => {
  const { authenticate, sessions, tokens } = await authenticating()
  const parent = await sessions.start({ agent: 'reader', behalf: 'person:dora', startedBy: 'service:desk' })
  const child = await sessions.lend(parent.id, { agent: 'reader' })
  const token = await tokens.signed(sessions.chain(child.id), [])
  const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
  expect(claims).toMatchObject({
    sub: 'person:dora',
    act: { sub: 'agent:reader', sid: child.id, act: { sid: parent.id } },
  })
  expect(await authenticate(token)).toBe(child.id)
  expect(await authenticate(token)).toBe(child.id)
  await sessions.end([parent.id], 'enough', 'person:anna')
  await expect(authenticate(token)).rejects.toMatchObject(refused)
})

test('a signed token of another key, or for another purpose, is refused', async () => {
  const { authenticate, sessions, clock } = await authenticating()
  const other = await createTokens('https://gate.example', [generateKeyPairSync('ed25519').privateKey], clock)
  const elsewhere = await createTokens('https://other.example', [ours], clock)
  const { id } = await sessions.start({ agent: 'reader', behalf: 'person:dora', startedBy: 'service:desk' })
  for (const tokens of [other, elsewhere])
    await expect(authenticate(await tokens.signed(sessions.chain(id), []))).rejects.toMatchObject(refused)
})

test('a key starts one session, and goes on with it until its deadline', async () => {
  const { authenticate, keys, sessions, time } = await authenticating()
  const { text } = await keys.issue('agent:reader', 'person:anna')
  const ids = await Promise.all(Array.from({ length: 10 }, () => authenticate(text)))
  expect(new Set(ids).size).toBe(1)
  expect(sessions.get(ids[0] ?? '')).toMatchObject({ agent: 'reader', behalf: 'agent:reader' })
  time.now += 30 * 60_000
  await sessions.sweep()
  expect(await authenticate(text)).not.toBe(ids[0])
})

test('a rotated key goes on for the overlap, a revoked one not at all', async () => {
  const { authenticate, keys, time } = await authenticating()
  const old = await keys.issue('agent:reader', 'person:anna')
  const fresh = await keys.rotate('agent:reader', 'person:anna', 60_000)
  await expect(authenticate(old.text)).resolves.toMatch(/^ses_/)
  time.now += 60_000
  await expect(authenticate(old.text)).rejects.toMatchObject(refused)
  await expect(authenticate(fresh.text)).resolves.toMatch(/^ses_/)
  await keys.revoke(fresh.key.id, 'person:anna', 'leaked')
  await expect(authenticate(fresh.text)).rejects.toMatchObject(refused)
})

test('a key that expires starts no session that outlives it', async () => {
  const { authenticate, keys, sessions, time } = await authenticating()
  const { text } = await keys.issue('agent:reader', 'person:anna', { lasts: 5_000 })
  const id = await authenticate(text)
  expect(sessions.get(id)?.deadline).toBe(time.now + 5_000)
  time.now += 5_000
  await expect(authenticate(text)).rejects.toMatchObject(refused)
})

test('promise 4: the text of a key is kept nowhere', async () => {
  const { keys, stores, audit } = await authenticating()
  const { text } = await keys.issue('agent:reader', 'person:anna')
  expect(JSON.stringify([await stores.keys.list(), audit.events])).not.toContain(text)
  expect(text).toMatch(/^sp_agent_[A-Za-z0-9_-]{43}$/)
})

test('promise 6: a person’s key opens nothing at the agents’ side', async () => {
  const { authenticate, keys } = await authenticating()
  const { text } = await keys.issue('person:anna', 'person:admin')
  await expect(authenticate(text)).rejects.toMatchObject(refused)
})

test('a trusted issuer’s token is the agent that its claims fit', async () => {
  const { authenticate, sessions, clock } = await authenticating()
  const id = await authenticate(await jwt({ repository: 'acme/app' }, clock()))
  expect(sessions.get(id)).toMatchObject({ agent: 'deployer', behalf: 'ci:job-1' })
})

test.each([
  ['another issuer', { iss: 'https://evil.example' }],
  ['another audience', { aud: 'elsewhere' }],
  ['other claims', { repository: 'evil/app' }],
  ['claims that fit two agents', { role: 'read' }],
  ['no end', { exp: undefined }],
  ['an end that is past', { exp: 1_000 }],
  ['a beginning that is to come', { nbf: 4_000_000_000 }],
])('a token of %s is refused', async (_, change) => {
  const { authenticate, clock } = await authenticating()
  await expect(authenticate(await jwt({ repository: 'acme/app', ...change }, clock()))).rejects.toMatchObject(refused)
})

test('a token signed by somebody else, or not at all, is refused', async () => {
  const { authenticate, clock } = await authenticating()
  await expect(authenticate(await jwt({ repository: 'acme/app' }, clock(), ours))).rejects.toMatchObject(refused)
  const [, body] = (await jwt({ repository: 'acme/app' }, clock())).split('.')
  const none = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url')
  await expect(authenticate(`${none}.${body}.`)).rejects.toMatchObject(refused)
  await expect(authenticate(`${none}.${body}.AAAA`)).rejects.toMatchObject(refused)
})

test('an agent that is stopped gets no session by its key', async () => {
  const { authenticate, keys, sessions } = await authenticating()
  const { text } = await keys.issue('agent:reader', 'person:anna')
  const id = await authenticate(text)
  await sessions.stop(sessions.get(id)?.startedBy ?? '', 'odd', 'person:anna')
  await expect(authenticate(text)).rejects.toMatchObject(refused)
})

test.each(['', 'x'.repeat(20_000), 'sp_session_short', 'Bearer x', 'a.b.c', 'sp_agent_' + 'A'.repeat(43)])(
  'promise 9: %j is refused without harm',
  async (credential) => {
    const { authenticate } = await authenticating()
    await expect(authenticate(credential)).rejects.toMatchObject(refused)
  },
)

test('promise 3: a token that was accepted is refused once its issuer or its agent is taken out of the configuration', async () => {
  const { authenticate, clock, configured, ci, sessions } = await authenticating()
  const token = await jwt({ repository: 'acme/app' }, clock())
  const id = await authenticate(token)
  configured.issuers = [{ ...ci, agents: [{ agent: 'reader', claims: { repository: 'acme/app' } }] }]
  expect(sessions.get(await authenticate(token))?.agent).toBe('reader')
  configured.issuers = [ci]
  expect(await authenticate(token)).toBe(id)
  configured.issuers = []
  await expect(authenticate(token)).rejects.toMatchObject(refused)
})

test('promise 3: a token is checked again after a while, so that a key the issuer took back counts no more', async () => {
  const { authenticate, clock, configured, ci, time } = await authenticating()
  const holder = { key: theirs.publicKey }
  configured.issuers = [{ ...ci, keys: () => holder.key }]
  const token = await jwt({ repository: 'acme/app', exp: Math.floor(clock() / 1000) + 3_000 }, clock())
  await authenticate(token)
  holder.key = generateKeyPairSync('ed25519').publicKey
  time.now += 5 * 60_000
  await expect(authenticate(token)).rejects.toMatchObject(refused)
})

test('promise 2: one token written in several ways is one session, and killed once it is killed', async () => {
  const { authenticate, clock, sessions } = await authenticating()
  const token = await jwt({ repository: 'acme/app' }, clock())
  // The last letter of 64 bytes in base64url has four bits that nobody reads.
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  const last = alphabet.indexOf(token.at(-1) ?? '')
  const ways = Array.from({ length: 16 }, (_, spare) => token.slice(0, -1) + alphabet[(last & 48) | spare])
  const seen = await Promise.all(ways.map((way) => authenticate(way).catch(() => 'refused')))
  expect(new Set(seen.filter((id) => id !== 'refused')).size).toBe(1)
  const [id] = seen.filter((each) => each !== 'refused')
  await sessions.stop(sessions.get(id ?? '')?.startedBy ?? '', 'odd', 'person:anna')
  for (const way of ways) await expect(authenticate(way)).rejects.toMatchObject(refused)
})

test.each(['person', 'service', 'agent'])('nobody speaks for a %s by the name of an issuer', async (name) => {
  const { authenticate, clock, configured, ci } = await authenticating()
  configured.issuers = [{ ...ci, name }]
  await expect(authenticate(await jwt({ repository: 'acme/app', sub: 'anna' }, clock()))).rejects.toMatchObject(refused)
})

test('promise 9: bad tokens do not fill the log', async () => {
  const { authenticate, clock, audit, time } = await authenticating()
  const bad = () => authenticate(jwtText).catch(() => {})
  const jwtText = await jwt({ repository: 'acme/app' }, clock(), ours)
  for (let attempt = 0; attempt < 50; attempt++) await bad()
  expect(audit.of('token.refused')).toHaveLength(1)
  time.now += 1_000
  await bad()
  expect(audit.of('token.refused').at(-1)).toMatchObject({ issuer: 'ci', more: 49 })
})

test('a token of a session that is just being ended is refused', async () => {
  const { authenticate, sessions, stores, tokens } = await authenticating()
  const token = tokens.opaque()
  const { id } = await sessions.start({
    agent: 'reader',
    behalf: 'person:dora',
    startedBy: 'service:desk',
    tokenDigest: sha256(token),
  })
  let written: () => void = () => {}
  stores.sessions.end = () => new Promise((resolve) => (written = resolve))
  const ending = sessions.end([id], 'enough', 'person:anna')
  await expect(authenticate(token)).rejects.toMatchObject(refused)
  written()
  await ending
})

test('a key whose time is over in the very moment that its session starts is refused, not failed', async () => {
  const { authenticate, keys, time, stores } = await authenticating()
  const { text } = await keys.issue('agent:reader', 'person:anna', { lasts: 1_000 })
  const { byDigest } = stores.keys
  stores.keys.byDigest = async (digest) => {
    const key = await byDigest.call(stores.keys, digest)
    queueMicrotask(() => queueMicrotask(() => (time.now += 1_000)))
    return key
  }
  await expect(authenticate(text)).rejects.toMatchObject(refused)
})
