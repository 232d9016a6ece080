import fs from 'node:fs'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { createKv2 } from './kv2.ts'
import type { Kv2, Kv2Auth, Kv2Options } from './kv2.ts'

const value = 'hvs-9f8e7d6c5b4a'
const place = { path: 'apps/crm', field: 'key' }

interface Server {
  readonly url: string
  /** `GET secret/data/apps/crm as <token>`, in order. */
  readonly seen: string[]
  secrets: Record<string, Record<string, unknown> | null | undefined>
  /** Tokens that hold, with the seconds that they are given for. */
  tokens: Map<string, { ttl: number; renewable: boolean; isBlind?: boolean }>
  /** Answers in place of the server. */
  instead: ((req: IncomingMessage, res: ServerResponse) => boolean) | undefined
  headers: IncomingMessage['headers'][]
}

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** The documented interface of Vault and OpenBao: KV version 2, tokens, AppRole, Kubernetes. */
async function startServer(): Promise<Server> {
  let serial = 0
  const seen: string[] = []
  const own: Server = {
    url: '',
    seen,
    secrets: { 'apps/crm': { key: value, other: 'x', number: 5 } },
    tokens: new Map([['root-token', { ttl: 0, renewable: false }]]),
    instead: undefined,
    headers: [],
  }
  const server = createServer((req, res) => {
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('end', () => {
      const token = req.headers['x-vault-token'] as string | undefined
      const at = decodeURIComponent(req.url ?? '').replace('/v1/', '')
      seen.push(`${req.method} ${at} as ${token ?? 'nobody'}`)
      own.headers.push(req.headers)
      if (own.instead?.(req, res) === true) return
      const body = (chunks.length === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString())) as Record<string, string>
      const [status, answer] = reply(req.method ?? '', at, token, body)
      res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
    })
  })

  function reply(
    method: string,
    at: string,
    token: string | undefined,
    body: Record<string, string>,
  ): [number, object] {
    const denied: [number, object] = [403, { errors: [`permission denied for ${token} ${value}`] }]
    const login = (): [number, object] => {
      const text = `token-${++serial}`
      own.tokens.set(text, { ttl: 100, renewable: true })
      return [200, { auth: { client_token: text, lease_duration: 100, renewable: true } }]
    }
    if (at === 'auth/approle/login')
      return body['role_id'] === 'role' && body['secret_id'] === 'sealed-id' ? login() : [400, { errors: ['invalid'] }]
    if (at === 'auth/k8s/prod/login')
      return body['role'] === 'gateway' && body['jwt'] === 'jwt-of-pod' ? login() : denied
    const known = token === undefined ? undefined : own.tokens.get(token)
    if (known === undefined) return denied
    if (at === 'auth/token/revoke-self') return (own.tokens.delete(token ?? ''), [204, {}])
    if (at === 'auth/token/lookup-self' && known.isBlind === true) return denied
    if (at === 'auth/token/lookup-self') return [200, { data: { ttl: known.ttl, renewable: known.renewable } }]
    if (at === 'auth/token/renew-self' && method === 'POST')
      return [200, { auth: { client_token: token, lease_duration: 100, renewable: true } }]
    if (at.startsWith('secret/data/board/')) return denied
    const secret = at.startsWith('secret/data/') ? own.secrets[at.slice('secret/data/'.length)] : undefined
    // A version that was deleted is told of, without its values.
    if (secret === null) return [404, { data: { data: null, metadata: { version: 1, deletion_time: 'x' } } }]
    return secret === undefined ? [404, { errors: [] }] : [200, { data: { data: secret, metadata: { version: 1 } } }]
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())))
  return Object.assign(own, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` })
}

const byToken: Kv2Auth = { kind: 'token', token: async () => 'root-token\n' }

function connect(server: Pick<Server, 'url'>, more: Partial<Kv2Options> = {}): { kv: Kv2; time: { now: number } } {
  const time = { now: 1_800_000_000_000 }
  const kv = createKv2(
    { url: `${server.url}/`, mount: 'secret', auth: byToken, cache: 300_000, timeout: 2_000, ...more },
    () => time.now,
  )
  closing.push(() => kv.close())
  return { kv, time }
}

test('a value is read once and used for its time; then it is read again, or not used', async () => {
  const server = await startServer()
  const { kv, time } = connect(server, { namespace: 'team-a' })
  expect(await kv.prepare(place)).toBeUndefined()
  expect(kv.use(place)).toBe(value)
  expect(await kv.prepare(place)).toBeUndefined()
  expect(server.seen).toEqual(['GET auth/token/lookup-self as root-token', 'GET secret/data/apps/crm as root-token'])
  expect(server.headers[1]).toMatchObject({ 'x-vault-namespace': 'team-a', 'x-vault-request': 'true' })
  expect(kv.values()).toContainEqual({ name: 'vault:apps/crm#key', value })
  const before = kv.mark(place)
  server.secrets['apps/crm'] = { key: 'another-value' }
  time.now += 299_999
  expect(kv.use(place)).toBe(value)
  time.now += 1
  expect(() => kv.use(place)).toThrow(/vault:apps\/crm#key can't be used: it was read too long ago/)
  let changes = 0
  kv.onChange(() => changes++)
  expect(await kv.prepare(place)).toBeUndefined()
  expect(kv.use(place)).toBe('another-value')
  expect(kv.mark(place)).not.toBe(before)
  expect(changes).toBe(1)
})

test('values are kept fresh without being asked for', async () => {
  const server = await startServer()
  const { kv } = connect(server, { cache: 50 })
  await kv.prepare(place)
  const changed = new Promise<void>((resolve) => kv.onChange(resolve))
  server.secrets['apps/crm'] = { key: 'another-value' }
  await changed
  expect(kv.use(place)).toBe('another-value')
  kv.keepOnly([])
  expect(() => kv.use(place)).toThrow(/can't be used/)
})

describe('signing in', () => {
  test('by AppRole; the token is renewed in time, and replaced when it was revoked', async () => {
    const server = await startServer()
    const { kv, time } = connect(server, {
      auth: { kind: 'approle', mount: 'approle', roleId: 'role', secretId: async () => 'sealed-id\n' },
      cache: 1_000,
    })
    expect(await kv.prepare(place)).toBeUndefined()
    time.now += 61_000
    expect(await kv.prepare(place)).toBeUndefined()
    expect(server.seen).toEqual([
      'POST auth/approle/login as nobody',
      'GET secret/data/apps/crm as token-1',
      'POST auth/token/renew-self as token-1',
      'GET secret/data/apps/crm as token-1',
    ])
    server.tokens.delete('token-1')
    time.now += 2_000
    expect(await kv.prepare(place)).toBeUndefined()
    expect(server.seen.slice(4)).toEqual([
      'GET secret/data/apps/crm as token-1',
      'GET auth/token/lookup-self as token-1',
      'POST auth/approle/login as nobody',
      'GET secret/data/apps/crm as token-2',
    ])
    time.now += 101_000
    expect(await kv.prepare(place)).toBeUndefined()
    expect(server.seen.at(-1)).toBe('GET secret/data/apps/crm as token-3')
  })

  test('with the service account of a pod, whose token is read anew', async () => {
    const server = await startServer()
    const folder = fs.mkdtempSync(path.join(tmpdir(), 'sallyport-kv2-'))
    closing.push(() => fs.rmSync(folder, { recursive: true }))
    const tokenFile = path.join(folder, 'token')
    const { kv } = connect(server, { auth: { kind: 'kubernetes', mount: 'k8s/prod', role: 'gateway', tokenFile } })
    expect(await kv.prepare(place)).toMatch(/token of the service account .*token can't be read \(ENOENT\)/)
    fs.writeFileSync(tokenFile, 'jwt-of-pod\n')
    expect(await kv.prepare(place)).toBeUndefined()
    expect(kv.use(place)).toBe(value)
  })

  test('a token may be forbidden to look at itself, and serves all the same', async () => {
    const server = await startServer()
    server.tokens.set('root-token', { ttl: 0, renewable: false, isBlind: true })
    const { kv } = connect(server)
    expect(await kv.prepare(place)).toBeUndefined()
    expect(kv.use(place)).toBe(value)
  })

  test('what is forbidden again and again makes no new tokens, and the one there is is given back at the end', async () => {
    const server = await startServer()
    const auth: Kv2Auth = { kind: 'approle', mount: 'approle', roleId: 'role', secretId: async () => 'sealed-id' }
    const { kv } = connect(server, { auth })
    for (let round = 0; round < 3; round++)
      expect(await kv.prepare({ path: 'board/minutes', field: 'key' })).toMatch(/may not be read/)
    expect(server.seen.filter((line) => line.includes('login'))).toHaveLength(1)
    await kv.close()
    expect(server.seen.at(-1)).toBe('POST auth/token/revoke-self as token-1')
  })

  test('many who ask at once sign in once', async () => {
    const server = await startServer()
    const { kv } = connect(server, {
      auth: { kind: 'approle', mount: 'approle', roleId: 'role', secretId: async () => 'sealed-id' },
    })
    const places = ['key', 'other', 'gone'].map((field) => ({ path: 'apps/crm', field }))
    await Promise.all(places.map((each) => kv.prepare(each)))
    expect(server.seen.filter((line) => line.startsWith('POST'))).toHaveLength(1)
  })
})

const wrongs: [
  string,
  Partial<Kv2Options>,
  ((server: Server) => void) | undefined,
  { path: string; field: string },
  RegExp,
][] = [
  [
    'a wrong token',
    { auth: { kind: 'token', token: async () => 'stolen' } },
    undefined,
    place,
    /does not accept the token for `apps\/crm` .*: it is wrong, has expired or was revoked/,
  ],
  [
    'a wrong secret id',
    { auth: { kind: 'approle', mount: 'approle', roleId: 'role', secretId: async () => 'hunter2hunter2' } },
    undefined,
    place,
    /refuses the sign-in by approle at `auth\/approle` \(status 400\)/,
  ],
  [
    'no such secret',
    {},
    undefined,
    { path: 'apps/none', field: 'key' },
    /there is no `apps\/none` in `secret` of http/,
  ],
  [
    'a version that was deleted',
    {},
    (server) => (server.secrets['apps/crm'] = null),
    place,
    /there is no `apps\/crm` .*: it was never set, its newest version was deleted, or `mount` is no KV version 2 engine/,
  ],
  [
    'what is forbidden',
    {},
    undefined,
    { path: 'board/minutes', field: 'key' },
    /may not be read: the policy of the token/,
  ],
  ['no such field', {}, undefined, { path: 'apps/crm', field: 'constructor' }, /has no field `constructor`/],
  ['a field that is no text', {}, undefined, { path: 'apps/crm', field: 'number' }, /the field `number` .* is no text/],
  ['another mount', { mount: 'kv' }, undefined, place, /there is no `apps\/crm` in `kv`/],
  [
    'a sealed server',
    {},
    (server) => (server.instead = answer(503, { errors: ['Vault is sealed'] })),
    place,
    /sealed or in maintenance/,
  ],
  [
    'a redirect',
    {},
    (server) =>
      (server.instead = (_, res) => (res.writeHead(307, { location: 'http://127.0.0.1:1/v1/x' }).end(), true)),
    place,
    /redirect \(307\), which is not followed/,
  ],
  [
    'no JSON',
    {},
    (server) => (server.instead = (_, res) => (res.writeHead(200).end(`<html>${value}`), true)),
    place,
    /no JSON: is it a Vault or OpenBao server/,
  ],
  [
    'an answer without end',
    {},
    (server) => (server.instead = (_, res) => (res.writeHead(200).end('x'.repeat(2_000_000)), true)),
    place,
    /larger than 1000000 bytes/,
  ],
  ['no answer', { timeout: 100 }, (server) => (server.instead = () => true), place, /can't be reached/],
  [
    'data of a KV engine of version 1',
    {},
    (server) =>
      (server.instead = (req, res) =>
        req.url?.includes('/data/') === true && answer(200, { data: { key: value } })(req, res)),
    place,
    /no secret of a KV version 2 engine/,
  ],
]
const answer = (status: number, body: object) => (_: IncomingMessage, res: ServerResponse) => {
  res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  return true
}

test.each(wrongs)(
  'promise 4: %s is said clearly, without a value or a token',
  async (_, options, make, where, words) => {
    const server = await startServer()
    make?.(server)
    const { kv } = connect(server, options)
    const because = await kv.prepare(where)
    expect(because).toMatch(words)
    for (const hidden of [value, 'root-token', 'hunter2', 'stolen']) expect(because).not.toContain(hidden)
    expect(() => kv.use(where)).toThrow(/can't be used/)
  },
)

test('a server that can not be reached for a while is used from what is known, for its time and no longer', async () => {
  const server = await startServer()
  const { kv, time } = connect(server)
  await kv.prepare(place)
  server.instead = answer(503, {})
  time.now += 200_000
  expect(kv.use(place)).toBe(value)
  time.now += 100_000
  expect(await kv.prepare(place)).toMatch(/sealed/)
  expect(() => kv.use(place)).toThrow(/sealed/)
  expect(kv.values().filter(({ name }) => name === 'vault:apps/crm#key')).toEqual([])
  server.instead = undefined
  expect(await kv.prepare(place)).toBeUndefined()
  expect(kv.use(place)).toBe(value)
})

test('TLS is verified', async () => {
  const { kv } = connect({ url: (await startServer()).url.replace('http:', 'https:') })
  expect(await kv.prepare(place)).toMatch(/can't be reached/)
})
