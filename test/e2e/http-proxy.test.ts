// Real programs through the proxy: each is told of it, and of the authority, in its own way; each sees the API's own
// answers, and none sees its key.
import { execFile, execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import { createServer } from 'node:https'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fetch, ProxyAgent } from 'undici'
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

const run = promisify(execFile)
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
      echo: { request: GET /echo, effect: read }
      big: { request: GET /big, effect: read, response: { types: [application/octet-stream], size: 20 MB } }
      slow: { request: GET /slow, effect: read, response: { types: [application/octet-stream] } }
      secret: { request: GET /secret, effect: read }
  code:
    http: https://git.desk.example
    credential: { basic: { user: git, password: "${key}" } }
    addresses: [127.0.0.1]
    operations:
      refs:
        request: GET /repo.git/info/refs
        effect: read
        query: { service: { const: git-upload-pack } }
        required: [service]
        headers: [git-protocol]
        response: { types: [application/x-git-upload-pack-advertisement] }
      fetch:
        request: POST /repo.git/git-upload-pack
        effect: read
        upload: { types: [application/x-git-upload-pack-request], size: 1 MB }
        headers: [git-protocol]
        response: { types: [application/x-git-upload-pack-result] }
  packages:
    http: https://registry.desk.example
    credential: { bearer: "${key}" }
    addresses: [127.0.0.1]
    operations:
      about: { request: "GET /{name}", effect: read }
      load: { request: "GET /{name}/-/{file}", effect: read, response: { types: [application/octet-stream] } }
agents:
  agent:
    may: ["desk:get", "desk:add", "desk:echo", "desk:big", "desk:slow", "code:refs", "code:fetch", "packages:about", "packages:load"]
    limits: { repeats: unlimited }
`

const big = Buffer.alloc(10_000_000, 'abcdefghij')
const digest = createHash('sha256').update(big).digest('hex')
const folder = proxyFolder()
const repository = path.join(folder, 'served', 'repo.git')

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
  if (req.headers.host === 'git.desk.example') return viaGit(req, res)
  if (req.headers.host === 'registry.desk.example') return asRegistry(url, res)
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk as Buffer)
  if (url === '/v1/big') return void res.writeHead(200, { 'content-type': 'application/octet-stream' }).end(big)
  if (url === '/v1/slow') {
    res.writeHead(200, { 'content-type': 'application/octet-stream' })
    return void res.write(big.subarray(0, 100_000)) // The rest never comes.
  }
  const given = JSON.stringify(
    url === '/v1/echo'
      ? { headers: req.headers, raw: req.rawHeaders }
      : { method: req.method, url, body: Buffer.concat(chunks).toString() },
  )
  res.writeHead(url === '/v1/echo' ? 401 : 200, { 'content-type': 'application/json', 'x-request-id': key }).end(given)
}

/** git's own server, as a web server runs it (CGI). */
async function viaGit(req: IncomingMessage, res: ServerResponse): Promise<void> {
  const { pathname, search } = new URL(req.url ?? '', 'https://git.desk.example')
  const child = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env['PATH'] ?? '',
      GIT_PROJECT_ROOT: path.dirname(repository),
      GIT_HTTP_EXPORT_ALL: '1',
      REQUEST_METHOD: req.method ?? '',
      PATH_INFO: pathname,
      QUERY_STRING: search.slice(1),
      CONTENT_TYPE: req.headers['content-type'] ?? '',
      CONTENT_LENGTH: req.headers['content-length'] ?? '',
      GIT_PROTOCOL: String(req.headers['git-protocol'] ?? ''),
    },
  })
  req.pipe(child.stdin)
  const chunks: Buffer[] = []
  for await (const chunk of child.stdout) chunks.push(chunk as Buffer)
  const whole = Buffer.concat(chunks)
  const end = whole.indexOf('\r\n\r\n')
  for (const line of whole.toString('latin1', 0, end).split('\r\n')) {
    const [name = '', value = ''] = line.split(/: (.*)/s)
    if (name === 'Status') res.statusCode = Number(value.slice(0, 3))
    else res.setHeader(name, value)
  }
  res.end(whole.subarray(end + 4))
}

let tarball: Buffer
async function asRegistry(url: string, res: ServerResponse): Promise<void> {
  if (url === '/left-hand/-/left-hand-1.2.3.tgz')
    return void res.writeHead(200, { 'content-type': 'application/octet-stream' }).end(tarball)
  if (url !== '/left-hand') return void res.writeHead(404, { 'content-type': 'application/json' }).end('{}')
  const dist = {
    tarball: 'https://registry.desk.example/left-hand/-/left-hand-1.2.3.tgz',
    integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
  }
  const manifest = { name: 'left-hand', version: '1.2.3', dist }
  res.writeHead(200, { 'content-type': 'application/json' })
  res.end(JSON.stringify({ name: 'left-hand', 'dist-tags': { latest: '1.2.3' }, versions: { '1.2.3': manifest } }))
}

const has = (program: string, ...args: string[]): boolean => {
  try {
    execFileSync(program, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** The environment of a program that knows nothing but its proxy. */
const environment = (more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv => {
  const proxy = world.urlFor(token)
  return {
    PATH: process.env['PATH'] ?? '',
    HOME: folder,
    HTTPS_PROXY: proxy,
    https_proxy: proxy,
    HTTP_PROXY: proxy,
    http_proxy: proxy,
    NO_PROXY: '',
    ...more,
  }
}

const base = 'https://api.desk.example/v1'
const script = (more: string): string => `
import os, hashlib
base = '${base}'
${more}
show('GET', '/tickets/7')
show('POST', '/tickets', '{"title":"\\u00fc"}')
s, b = call('GET', '/big'); print(s, hashlib.sha256(b).hexdigest())
show('GET', '/echo')
show('GET', '/secret')
show('DELETE', '/tickets/7')
print(dict(os.environ))
`
const shown = 'def show(*a):\n  s, b = call(*a); print(s, b.decode())\n'
const inNode = `
const { createHash } = require('node:crypto')
const call = async (method, at, body) => {
  const answer = await fetch('${base}' + at, { method, body, headers: body ? { 'content-type': 'application/json' } : {} })
  return [answer.status, Buffer.from(await answer.arrayBuffer()), JSON.stringify([...answer.headers])]
}
;(async () => {
  for (const each of [['GET', '/tickets/7'], ['POST', '/tickets', '{"title":"ü"}'], ['GET', '/echo'], ['GET', '/secret'], ['DELETE', '/tickets/7']])
    console.log(...(await call(...each)).map(String))
  const [status, bytes] = await call('GET', '/big')
  console.log(status, createHash('sha256').update(bytes).digest('hex'))
  console.log(JSON.stringify(process.env))
})()
`

const clients: readonly { readonly name: string; readonly isThere: boolean; readonly go: () => Promise<string> }[] = [
  {
    name: 'curl, by -x and --cacert',
    isThere: has('curl', '--version'),
    go: async () => {
      const one = async (...args: string[]): Promise<string> => {
        const { stdout } = await run(
          'curl',
          ['-sS', '-i', '-x', world.urlFor(token), '--cacert', world.caFile, ...args],
          { env: { PATH: process.env['PATH'] ?? '' } },
        )
        return stdout.replace(/^HTTP\/1\.1 200 Connection established\r\n\r\n/, '').replace(/^HTTP\/1\.1 (\d+)/gm, '$1')
      }
      const flat = (text: string): string => `${text.slice(0, 3)} ${text}`
      const texts = [
        flat(await one(`${base}/tickets/7`)),
        flat(await one(`${base}/tickets`, '--json', '{"title":"ü"}')),
        flat(await one(`${base}/echo`)),
        flat(await one(`${base}/secret`)),
        flat(await one('-X', 'DELETE', `${base}/tickets/7`)),
      ]
      const { stdout } = await run(
        'curl',
        ['-sS', '-x', world.urlFor(token), '--cacert', world.caFile, `${base}/big`],
        {
          env: { PATH: process.env['PATH'] ?? '' },
          encoding: 'buffer',
          maxBuffer: 64e6,
        },
      )
      return [...texts, createHash('sha256').update(stdout).digest('hex')].join('\n')
    },
  },
  {
    name: 'Python urllib, by HTTPS_PROXY and SSL_CERT_FILE',
    isThere: has('python3', '--version'),
    go: () =>
      python(
        `import urllib.request, urllib.error
def call(m, at, body=None):
  r = urllib.request.Request(base + at, method=m, data=body and body.encode(), headers={'Content-Type': 'application/json'} if body else {})
  try:
    with urllib.request.urlopen(r) as a: return a.status, a.read()
  except urllib.error.HTTPError as e: return e.code, e.read()
${shown}`,
        { SSL_CERT_FILE: world.caFile },
      ),
  },
  {
    name: 'Python requests, by HTTPS_PROXY and REQUESTS_CA_BUNDLE',
    isThere: has('python3', '-c', 'import requests'),
    go: () =>
      python(
        `import requests
session = requests.Session()
def call(m, at, body=None):
  a = session.request(m, base + at, data=body and body.encode(), headers={'Content-Type': 'application/json'} if body else {}); return a.status_code, a.content
${shown}`,
        { REQUESTS_CA_BUNDLE: world.caFile },
      ),
  },
  {
    name: 'Python httpx, by HTTPS_PROXY and SSL_CERT_FILE',
    isThere: has('python3', '-c', 'import httpx'),
    go: () =>
      python(
        `import httpx
c = httpx.Client()
def call(m, at, body=None):
  a = c.request(m, base + at, content=body and body.encode(), headers={'Content-Type': 'application/json'} if body else {}); return a.status_code, a.content
${shown}`,
        { SSL_CERT_FILE: world.caFile },
      ),
  },
  {
    name: 'fetch of Node, by NODE_USE_ENV_PROXY and NODE_EXTRA_CA_CERTS',
    isThere: true,
    go: async () =>
      (
        await run(process.execPath, ['-e', inNode], {
          env: environment({ NODE_USE_ENV_PROXY: '1', NODE_EXTRA_CA_CERTS: world.caFile }),
          maxBuffer: 64e6,
        })
      ).stdout,
  },
  {
    name: 'undici, by ProxyAgent',
    isThere: true,
    go: async () => {
      const dispatcher = new ProxyAgent({ uri: world.proxy.url, token: basic(token), requestTls: { ca: world.ca } })
      const lines: string[] = []
      const call = async (method: string, at: string, body?: string): Promise<[number, Buffer]> => {
        const headers: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' }
        const answered = await fetch(base + at, {
          method,
          dispatcher,
          headers,
          ...(body === undefined ? {} : { body }),
        })
        const bytes = Buffer.from(await answered.arrayBuffer())
        lines.push(JSON.stringify([...answered.headers]))
        return [answered.status, bytes]
      }
      const asked: [string, string, string?][] = [
        ['GET', '/tickets/7'],
        ['POST', '/tickets', '{"title":"ü"}'],
        ['GET', '/echo'],
        ['GET', '/secret'],
        ['DELETE', '/tickets/7'],
      ]
      for (const each of asked) lines.push((await call(...each)).join(' '))
      lines.push(
        createHash('sha256')
          .update((await call('GET', '/big'))[1])
          .digest('hex'),
      )
      await dispatcher.close()
      return lines.join('\n')
    },
  },
]

const python = async (open: string, more: Readonly<Record<string, string>>): Promise<string> =>
  (await run('python3', ['-c', script(open)], { env: environment(more), maxBuffer: 64e6 })).stdout

describe('promise 4: programs that are told of a proxy see the API’s own answers, and never its key', () => {
  for (const { name, isThere, go } of clients)
    test.skipIf(!isThere)(`with ${name}`, async () => {
      const seen = server.asked.length
      const text = await go()
      expect(text).toMatch(/200 [^]*"method":"GET","url":"\/v1\/tickets\/7","body":""/)
      expect(text).toMatch(/200 [^]*"method":"POST","url":"\/v1\/tickets","body":"{\\"title\\":\\"ü\\"}"/)
      expect(text).toContain(digest)
      // What the API says of the credential, the agent does not read.
      expect(text).toMatch(/401 [^]*"x-api-key":"[^"]*DESK_KEY/)
      expect(text).toMatch(/404 [^]*there is nothing at this address/)
      for (const form of [key, Buffer.from(key).toString('base64'), Buffer.from(key).toString('hex')])
        expect(text).not.toContain(form)
      const asked = server.asked.slice(seen)
      expect(asked).toHaveLength(4)
      for (const { headers } of asked) {
        expect(headers['x-api-key']).toBe(key)
        expect(JSON.stringify(headers)).not.toContain(token)
        expect(headers['proxy-authorization']).toBeUndefined()
      }
    })

  test.skipIf(!has('git', '--version'))('git clone, by https_proxy and GIT_SSL_CAINFO', async () => {
    const work = path.join(folder, 'work')
    const git = (...args: string[]) =>
      execFileSync('git', args, {
        env: { PATH: process.env['PATH'], HOME: folder, GIT_CONFIG_NOSYSTEM: '1' },
        stdio: 'ignore',
      })
    git('init', '-q', '-b', 'main', work)
    fs.writeFileSync(path.join(work, 'file.txt'), 'what the repository holds\n')
    git('-C', work, 'add', '.')
    git('-C', work, '-c', 'user.name=a', '-c', 'user.email=a@desk.example', 'commit', '-q', '-m', 'first')
    fs.mkdirSync(path.dirname(repository), { recursive: true })
    git('clone', '-q', '--bare', work, repository)
    const seen = server.asked.length
    const env = environment({ GIT_SSL_CAINFO: world.caFile, GIT_TERMINAL_PROMPT: '0', GIT_CONFIG_NOSYSTEM: '1' })
    const to = path.join(folder, 'clone')
    const { stdout, stderr } = await run('git', ['clone', 'https://git.desk.example/repo.git', to], { env })
    expect(fs.readFileSync(path.join(to, 'file.txt'), 'utf8')).toBe('what the repository holds\n')
    expect(server.asked.length - seen).toBeGreaterThanOrEqual(2)
    for (const { headers } of server.asked.slice(seen))
      expect(headers.authorization).toBe(`Basic ${Buffer.from(`git:${key}`).toString('base64')}`)
    expect(stdout + stderr + fs.readFileSync(path.join(to, '.git', 'config'), 'utf8')).not.toContain(key)
    // To push is another operation, which is not listed.
    await expect(run('git', ['-C', to, 'push', 'origin', 'main:other'], { env })).rejects.toThrow(/not found|404|400/)
  })

  test.skipIf(!has('npm', '--version'))('npm install, by https-proxy and cafile', async () => {
    const source = path.join(folder, 'package')
    fs.mkdirSync(source)
    fs.writeFileSync(
      path.join(source, 'package.json'),
      JSON.stringify({ name: 'left-hand', version: '1.2.3', main: 'index.js' }),
    )
    fs.writeFileSync(path.join(source, 'index.js'), 'module.exports = "left"\n')
    execFileSync('tar', ['-czf', path.join(folder, 'left-hand.tgz'), '-C', folder, 'package'])
    tarball = fs.readFileSync(path.join(folder, 'left-hand.tgz'))
    const project = path.join(folder, 'project')
    fs.mkdirSync(project)
    fs.writeFileSync(path.join(project, 'package.json'), '{"name":"project","version":"1.0.0"}')
    const settings = {
      registry: 'https://registry.desk.example/',
      'https-proxy': world.urlFor(token),
      cafile: world.caFile,
      cache: path.join(folder, 'npm-cache'),
      'update-notifier': 'false',
    }
    const env = Object.fromEntries(
      Object.entries(settings).map(([name, value]) => [`npm_config_${name.replaceAll('-', '_')}`, value]),
    )
    const seen = server.asked.length
    const { stdout, stderr } = await run(
      'npm',
      ['install', '--no-audit', '--no-fund', '--ignore-scripts', 'left-hand'],
      {
        cwd: project,
        env: { PATH: process.env['PATH'] ?? '', HOME: folder, ...env },
      },
    )
    expect(fs.readFileSync(path.join(project, 'node_modules', 'left-hand', 'index.js'), 'utf8')).toContain('left')
    expect(server.asked.slice(seen).map(({ url }) => url)).toEqual(['/left-hand', '/left-hand/-/left-hand-1.2.3.tgz'])
    for (const { headers } of server.asked.slice(seen)) expect(headers.authorization).toBe(`Bearer ${key}`)
    expect(stdout + stderr + fs.readFileSync(path.join(project, 'package-lock.json'), 'utf8')).not.toContain(key)
  })
})

test('promise 2: the end of a session cuts a download in the middle', async () => {
  const other = await world.session('agent')
  const stream = await secure(
    await connectVia(world.proxy.port, 'api.desk.example:443', { 'Proxy-Authorization': basic(other.token) }),
    { servername: 'api.desk.example', ca: world.ca },
  )
  const wire = new Wire(stream)
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

test('every request of programs is in the log like any other, with what it sent and what came back', () => {
  const events = world.audit
    .of('action.done')
    .filter((event) => event['session'] === session && event['permission'] === 'desk:add')
  expect(events.length).toBeGreaterThan(0)
  expect(events[0]).toMatchObject({ sent: Buffer.byteLength('{"title":"ü"}') })
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
