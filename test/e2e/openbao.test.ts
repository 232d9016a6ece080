// Values that are read from a real OpenBao or HashiCorp Vault, in dev mode on loopback: the one of SALLYPORT_TEST_BAO, else
// `bao` or `vault` of the PATH.
import { spawn, spawnSync } from 'node:child_process'
import { generateKeyPairSync, sign } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import { createServer } from 'node:http'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createKv2 } from '../../src/guard/secret-sources/kv2.ts'
import type { Kv2, Kv2Auth, Kv2Options } from '../../src/guard/secret-sources/kv2.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'
import { scriptedUpstream, text } from '../support/upstream.ts'

const program = [process.env['SALLYPORT_TEST_BAO'], 'bao', 'vault'].find(
  (name) => name !== undefined && spawnSync(name, ['version']).status === 0,
)
const why =
  program === undefined ? 'skipped: there is neither `bao` nor `vault` on the PATH, nor SALLYPORT_TEST_BAO' : undefined
if (why !== undefined) console.info(`a real server of secrets: ${why}`)

type Body = Readonly<Record<string, unknown>>

interface Server {
  readonly url: string
  readonly root: string
  readonly unsealKey: string
  /** As root. Fails unless the answer is one of success. */
  ask(method: string, at: string, body?: Body): Promise<Body>
  /** Whether it takes a token for one of its own. */
  knows(token: string): Promise<boolean>
  put(at: string, fields: Body): Promise<Body>
  stop(): Promise<void>
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

async function startServer(): Promise<Server> {
  const folder = newFolder()
  const url = `http://127.0.0.1:${await freePort()}`
  const root = 'root-of-this-test'
  const child = spawn(
    program ?? '',
    ['server', '-dev', '-dev-no-store-token', `-dev-root-token-id=${root}`, `-dev-listen-address=${url.slice(7)}`],
    { cwd: folder, env: { PATH: process.env['PATH'] ?? '', HOME: folder }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (data: string) => (said += data))
  child.stderr.setEncoding('utf8').on('data', (data: string) => (said += data))
  const over = once(child, 'exit')
  await until(
    'the server is there',
    async () => {
      if (child.exitCode !== null) throw new Error(`it ended:\n${said}`)
      return /Unseal Key: \S+/.test(said) && (await fetch(`${url}/v1/sys/health`).catch(() => undefined))?.ok
    },
    30_000,
  )
  const send = (method: string, at: string, token: string, body?: Body): Promise<Response> =>
    fetch(`${url}/v1/${at}`, {
      method,
      headers: { 'x-vault-token': token },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  async function ask(method: string, at: string, body?: Body): Promise<Body> {
    const response = await send(method, at, root, body)
    const answer = await response.text()
    if (!response.ok) throw new Error(`${method} ${at}: ${response.status} ${answer}`)
    return (answer === '' ? {} : JSON.parse(answer)) as Body
  }
  return {
    url,
    root,
    unsealKey: /Unseal Key: (\S+)/.exec(said)?.[1] ?? '',
    ask,
    knows: async (token) => (await send('GET', 'auth/token/lookup-self', token)).ok,
    put: (at, fields) => ask('POST', `secret/data/${at}`, { data: fields }),
    async stop() {
      child.kill('SIGKILL')
      await over
    },
  }
}

const value = 'hvs-9f8e7d6c5b4a'
const place = { path: 'apps/crm', field: 'key' }

describe.skipIf(program === undefined)('a real server of secrets', { timeout: 60_000 }, () => {
  let server: Server
  beforeAll(async () => {
    server = await startServer()
    await server.put('apps/crm', { key: value, other: 'x', number: 5 })
    await server.ask('PUT', 'sys/policies/acl/reader', {
      policy: 'path "secret/data/apps/*" { capabilities = ["read"] }',
    })
    await server.ask('POST', 'sys/auth/approle', { type: 'approle' })
  }, 60_000)
  const closing: (() => unknown)[] = []
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close()
  })
  afterAll(async () => {
    await server.stop()
    removeFolders()
  })

  function connect(auth: Kv2Auth, more: Partial<Kv2Options> = {}): { kv: Kv2; time: { now: number } } {
    const time = { now: 1_800_000_000_000 }
    const options = { url: server.url, mount: 'secret', auth, cache: 300_000, timeout: 5_000, ...more }
    const kv = createKv2(options, () => time.now)
    closing.push(() => kv.close())
    return { kv, time }
  }
  const byToken = (token = server.root): Kv2Auth => ({ kind: 'token', token: async () => `${token}\n` })

  async function tokenOf(more: Body): Promise<string> {
    const { auth } = await server.ask('POST', 'auth/token/create', more)
    return (auth as { client_token: string }).client_token
  }

  let roles = 0
  async function byRole(more: Body): Promise<{ auth: Kv2Auth; secretId: string }> {
    const role = `gateway-${++roles}`
    await server.ask('POST', `auth/approle/role/${role}`, { token_policies: 'reader', ...more })
    const { data: id } = await server.ask('GET', `auth/approle/role/${role}/role-id`)
    const { data } = await server.ask('POST', `auth/approle/role/${role}/secret-id`, {})
    const { role_id: roleId } = id as { role_id: string }
    const { secret_id: secretId } = data as { secret_id: string }
    return { auth: { kind: 'approle', mount: 'approle', roleId, secretId: async () => secretId }, secretId }
  }
  /** The token that Sallyport signs in with at present. */
  const current = ({ values }: Kv2): string => values().find(({ name }) => name === 'vault token')?.value ?? ''

  test('a value is read, kept for its time, and read anew when it changed', async () => {
    await server.put('apps/rotated', { key: value })
    const own = { path: 'apps/rotated', field: 'key' }
    const { kv, time } = connect(byToken())
    expect(await kv.prepare(own)).toBeUndefined()
    expect(kv.use(own)).toBe(value)
    const before = kv.mark(own)
    await server.put('apps/rotated', { key: 'another-value' })
    time.now += 299_999
    expect(kv.use(own)).toBe(value)
    time.now += 1
    expect(() => kv.use(own)).toThrow(/it was read too long ago/)
    expect(await kv.prepare(own)).toBeUndefined()
    expect(kv.use(own)).toBe('another-value')
    expect(kv.mark(own)).not.toBe(before)
  })

  test.each(['apps/with space', 'apps/ü/ß', 'apps/a%2fb', 'apps/a+b&c=d'])('a path like %s', async (at) => {
    await server.put(at.split('/').map(encodeURIComponent).join('/'), { key: `value of ${at}` })
    const { kv } = connect(byToken())
    expect(await kv.prepare({ path: at, field: 'key' })).toBeUndefined()
    expect(kv.use({ path: at, field: 'key' })).toBe(`value of ${at}`)
  })

  test('another mount, below a folder', async () => {
    await server.ask('POST', 'sys/mounts/teams/a', { type: 'kv', options: { version: '2' } })
    await until('it is ready', () =>
      server.ask('POST', 'teams/a/data/crm', { data: { key: value } }).catch(() => false),
    )
    const { kv } = connect(byToken(), { mount: 'teams/a' })
    expect(await kv.prepare({ path: 'crm', field: 'key' })).toBeUndefined()
    expect(kv.use({ path: 'crm', field: 'key' })).toBe(value)
  })

  test('a token may be forbidden to look at itself, and serves all the same', async () => {
    const token = await tokenOf({ policies: ['reader'], no_default_policy: true, ttl: '1h' })
    expect(await server.knows(token), 'it may not').toBe(false)
    const { kv } = connect(byToken(token))
    expect(await kv.prepare(place)).toBeUndefined()
    expect(kv.use(place)).toBe(value)
  })

  test('by AppRole; the token is renewed in time, and replaced when it was revoked', async () => {
    const { auth } = await byRole({ token_ttl: '100s', token_max_ttl: '1h' })
    const { kv, time } = connect(auth, { cache: 1_000 })
    expect(await kv.prepare(place)).toBeUndefined()
    const first = current(kv)
    time.now += 61_000
    expect(await kv.prepare(place)).toBeUndefined()
    expect(current(kv), 'renewed').toBe(first)

    await server.ask('POST', 'auth/token/revoke', { token: first })
    time.now += 2_000
    expect(await kv.prepare(place)).toBeUndefined()
    expect(current(kv)).not.toBe(first)
    expect(kv.values().filter(({ name }) => name === 'vault token').length).toBe(1)
  })

  test.each([
    ['whose time is over', { token_ttl: '1s', token_max_ttl: '1s' }],
    ['that can’t be renewed', { token_ttl: '1s', token_type: 'batch' }],
  ])('by AppRole: a token %s is replaced, whatever our clock says', async (_, role) => {
    const { auth } = await byRole(role)
    const { kv } = connect(auth, { cache: 100 })
    expect(await kv.prepare(place)).toBeUndefined()
    const first = current(kv)
    await until('another is used', () => current(kv) !== first)
    expect(await server.knows(first)).toBe(false)
    expect(await kv.prepare(place)).toBeUndefined()
    expect(kv.use(place)).toBe(value)
  })

  test('by AppRole: a secret id that was used up is said, without it', async () => {
    const { auth, secretId } = await byRole({ secret_id_num_uses: 1, token_ttl: '100s', token_max_ttl: '100s' })
    const { kv, time } = connect(auth)
    expect(await kv.prepare(place)).toBeUndefined()
    time.now += 301_000
    const because = await kv.prepare(place)
    expect(because).toMatch(/refuses the sign-in by approle at `auth\/approle` \(status 40[03]\)/)
    expect(because).not.toContain(secretId)
  })

  test('with the service account of a pod, whose token the cluster confirms', async () => {
    const account = { namespace: 'agents', name: 'sallyport', uid: '1f3c' }
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const part = (json: object): string => Buffer.from(JSON.stringify(json)).toString('base64url')
    const now = Math.floor(Date.now() / 1_000)
    const head = `${part({ alg: 'RS256', kid: 'k' })}.${part({
      iss: 'https://kubernetes.default.svc',
      sub: `system:serviceaccount:${account.namespace}:${account.name}`,
      aud: ['vault'],
      iat: now,
      exp: now + 3_600,
      'kubernetes.io': { namespace: account.namespace, serviceaccount: { name: account.name, uid: account.uid } },
    })}`
    const jwt = `${head}.${sign('sha256', Buffer.from(head), privateKey).toString('base64url')}`
    const reviewed: string[] = []
    let isConfirmed = true
    const cluster = createServer((req, res) => {
      const chunks: Buffer[] = []
      req.on('data', (chunk: Buffer) => chunks.push(chunk))
      req.on('end', () => {
        const { spec } = JSON.parse(Buffer.concat(chunks).toString()) as { spec: { token: string } }
        reviewed.push(`${req.method} ${req.url}`)
        const isOurs = isConfirmed && spec.token === jwt
        const user = { username: `system:serviceaccount:${account.namespace}:${account.name}`, uid: account.uid }
        res.writeHead(201, { 'content-type': 'application/json' }).end(
          JSON.stringify({
            apiVersion: 'authentication.k8s.io/v1',
            kind: 'TokenReview',
            status: { authenticated: isOurs, audiences: ['vault'], ...(isOurs ? { user } : {}) },
          }),
        )
      })
    }).listen(0, '127.0.0.1')
    await once(cluster, 'listening')
    closing.push(() => new Promise((resolve) => (cluster.close(resolve), cluster.closeAllConnections())))
    await server.ask('POST', 'sys/auth/k8s/prod', { type: 'kubernetes' })
    await server.ask('POST', 'auth/k8s/prod/config', {
      kubernetes_host: `http://127.0.0.1:${(cluster.address() as AddressInfo).port}`,
      disable_local_ca_jwt: true,
    })
    await server.ask('POST', 'auth/k8s/prod/role/gateway', {
      bound_service_account_names: [account.name],
      bound_service_account_namespaces: [account.namespace],
      audience: 'vault',
      token_policies: ['reader'],
      token_ttl: '1h',
    })
    const tokenFile = path.join(newFolder(), 'token')
    fs.writeFileSync(tokenFile, `${jwt}\n`)
    const auth: Kv2Auth = { kind: 'kubernetes', mount: 'k8s/prod', role: 'gateway', tokenFile }
    const { kv } = connect(auth)
    expect(await kv.prepare(place)).toBeUndefined()
    expect(kv.use(place)).toBe(value)
    expect(reviewed).toEqual(['POST /apis/authentication.k8s.io/v1/tokenreviews'])

    isConfirmed = false
    const because = await connect(auth).kv.prepare(place)
    expect(because).toMatch(/refuses the sign-in by kubernetes at `auth\/k8s\/prod` \(status 40[03]\)/)
    expect(because).not.toContain(jwt)
  })

  describe('promise 4: said clearly, without a value or a token', () => {
    test('a wrong token', async () => {
      const because = await connect(byToken('stolen-token-0123')).kv.prepare(place)
      expect(because).toMatch(/does not accept the token for .*: it is wrong, has expired or was revoked/)
      expect(because).not.toContain('stolen')
    })

    test('what the policy of a token does not allow', async () => {
      const token = await tokenOf({ policies: ['reader'], ttl: '1h' })
      await server.put('board/minutes', { key: value })
      const because = await connect(byToken(token)).kv.prepare({ path: 'board/minutes', field: 'key' })
      expect(because).toMatch(/`board\/minutes` in `secret` of .* may not be read: the policy of the token/)
      expect(because).not.toContain(token)
    })

    test.each([
      ['deleted', 'DELETE', 'secret/data/', undefined],
      ['destroyed', 'PUT', 'secret/destroy/', { versions: [1] }],
      ['removed with all its versions', 'DELETE', 'secret/metadata/', undefined],
    ])('a secret that was %s', async (how, method, at, body) => {
      const name = `apps/${how.split(' ')[0]}`
      await server.put(name, { key: value })
      const { kv, time } = connect(byToken())
      expect(await kv.prepare({ path: name, field: 'key' })).toBeUndefined()
      await server.ask(method, at + name, body)
      time.now += 300_000
      expect(await kv.prepare({ path: name, field: 'key' })).toMatch(
        /there is no `apps\/\w+` in `secret` .*: it was never set, its newest version was deleted/,
      )
      expect(() => kv.use({ path: name, field: 'key' })).toThrow(/can't be used/)
    })

    test.each([
      ['no such secret', 'apps/none', 'key', /there is no `apps\/none`/],
      ['no such field', 'apps/crm', 'constructor', /has no field `constructor`/],
      ['no text', 'apps/crm', 'number', /is no text/],
    ])('%s', async (_, at, field, words) => {
      expect(await connect(byToken()).kv.prepare({ path: at, field })).toMatch(words)
    })

    test('an engine of version 1, and none', async () => {
      await server.ask('POST', 'sys/mounts/old', { type: 'kv', options: { version: '1' } })
      await server.ask('POST', 'old/apps/crm', { key: value })
      expect(await connect(byToken(), { mount: 'old' }).kv.prepare(place)).toMatch(/there is no `apps\/crm` in `old`/)
      expect(await connect(byToken(), { mount: 'none' }).kv.prepare(place)).toMatch(/there is no `apps\/crm` in `none`/)
    })

    test('a namespace has values of its own, but for servers that know none and pass it over', async () => {
      const made = await server.ask('POST', 'sys/namespaces/team-a', {}).catch(() => undefined)
      const because = await connect(byToken(), { namespace: 'team-a' }).kv.prepare(place)
      if (made === undefined) expect(because).toBeUndefined()
      else expect(because).toMatch(/there is no `apps\/crm`/)
    })

    test('what is forbidden again and again makes no new tokens', async () => {
      await server.put('board/plans', { key: value })
      const { auth } = await byRole({ token_ttl: '1h' })
      const { kv } = connect(auth)
      for (let round = 0; round < 3; round++)
        expect(await kv.prepare({ path: 'board/plans', field: 'key' })).toMatch(/may not be read/)
      const first = current(kv)
      expect(await server.knows(first)).toBe(true)
      expect(await kv.prepare(place)).toBeUndefined()
      expect(current(kv)).toBe(first)

      await kv.close()
      expect(await server.knows(first), 'given back at the end').toBe(false)
    })
  })

  test('in the gateway: the credential is added and masked, a new value goes with the next requests, a sealed server stops neither', async () => {
    const upstream = await scriptedUpstream()
    closing.push(upstream.close)
    upstream.onCall = ({ headers }) => text(`I was called with ${headers.authorization}`)
    const { auth, secretId } = await byRole({ token_ttl: '1h' })
    const roleId = auth.kind === 'approle' ? auth.roleId : ''
    await server.put('apps/gateway', { key: 'canary-vault-value-1' })
    const gateway = await startSallyport({
      env: { VAULT_SECRET_ID: secretId },
      settings: {
        secrets: {
          sources: {
            vault: {
              url: server.url,
              cache: '1 s',
              auth: { approle: { role_id: roleId, secret_id: '${env:VAULT_SECRET_ID}' } },
            },
          },
        },
        resources: {
          crm: {
            mcp: { url: upstream.url, headers: { authorization: 'Bearer ${vault:apps/gateway#key}' } },
            tools: { echo: 'read' },
          },
        },
        agents: { reader: { may: ['crm:echo'], limits: { repeats: 'unlimited' } } },
      },
    })
    closing.push(gateway.stop)
    const { token } = await gateway.session('reader')
    const sent = (): unknown => upstream.seen.at(-1)?.headers.authorization
    const call = async (): Promise<string> => (await gateway.call(token, 'crm__echo', { text: 'x' })).text
    expect(await call()).toContain('I was called with Bearer [secret vault:apps/gateway#key]')
    expect(sent()).toBe('Bearer canary-vault-value-1')

    await server.put('apps/gateway', { key: 'canary-vault-value-2' })
    await until('the new value is sent', async () => {
      expect(await call()).not.toMatch(/canary/)
      return sent() === 'Bearer canary-vault-value-2'
    })

    await server.ask('PUT', 'sys/seal')
    const seen = await until('it fails', async () => /unavailable|can't|sealed/.exec(await call())?.input)
    expect(seen).not.toMatch(/canary|hvs\./)
    expect((await gateway.status()).resources[0]?.name).toBe('crm')
    const unsealed = await fetch(`${server.url}/v1/sys/unseal`, {
      method: 'PUT',
      body: JSON.stringify({ key: server.unsealKey }),
    })
    expect(unsealed.ok).toBe(true)
    await until('it is back', async () => (await call()).includes('I was called with'))
    expect(gateway.lines.join('\n') + JSON.stringify(await gateway.events())).not.toContain(secretId)
  })
})
