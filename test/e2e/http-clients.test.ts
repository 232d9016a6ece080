// Real programs through the real gateway, by base URL and through the proxy: each sees the API's own answers, and none
// sees its key: not in what it is told, in its environment, in its files, or in its memory.
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sha256 } from '../../src/guard/digest.ts'
import { filesIn, formsOf, foundIn, memoryIsReadable, startProgram } from '../support/client.ts'
import type { Answer, Ask } from '../support/client.ts'
import { startApi } from '../support/http.ts'
import type { ApiSeen } from '../support/http.ts'
import { proxyFolders, startNamedServer, startTestProxy } from '../support/proxy.ts'
import { mostToMake, pythonWith } from '../support/python.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'
import { big, commitTo, credentialIn, git, makePackage, makeRepository, serve } from '../support/served.ts'

const key = 'sk-live-00112233445566778899'
const canary = `canary-${randomBytes(12).toString('hex')}`
const secrets = [...formsOf(key), ...formsOf(`user:${key}`), ...formsOf(`git:${key}`)]
const branches = 60

// What an agent is let near ---------------------------------------------------------------------------------------------

const gitType = (service: string, what: string): string => `application/x-git-${service}-pack-${what}`
const settings = (at: { readonly desk: string; readonly code: string; readonly packages: string }, value: string) => ({
  resources: {
    desk: {
      http: at.desk,
      credential: { header: { name: 'X-Api-Key', value } },
      addresses: ['127.0.0.1'],
      operations: {
        get: {
          request: 'GET /tickets/{id}',
          effect: 'read',
          path: { id: { type: 'integer' } },
          query: { full: { type: 'boolean' } },
        },
        add: {
          request: 'POST /tickets',
          effect: 'write',
          body: { type: 'object', properties: { title: { type: 'string' } }, required: ['title'] },
        },
        attach: {
          request: 'POST /files',
          effect: 'write',
          multipart: { fields: { title: { type: 'string' } }, files: { file: { size: '1 MB' } } },
        },
        big: { request: 'GET /big', effect: 'read', response: { types: ['application/octet-stream'], size: '20 MB' } },
        echo: { request: 'GET /echo', effect: 'read' },
        broken: { request: 'GET /broken', effect: 'read' },
        moved: { request: 'GET /moved', effect: 'read' },
        away: { request: 'GET /away', effect: 'read' },
        leaking: { request: 'GET /leaking', effect: 'read' },
        events: { request: 'GET /events', effect: 'read', response: { types: ['text/event-stream'] } },
        held: { request: 'GET /held', effect: 'read', response: { types: ['text/event-stream'] } },
      },
    },
    code: {
      http: at.code,
      credential: { basic: { user: 'git', password: value } },
      addresses: ['127.0.0.1'],
      operations: {
        refs: {
          request: 'GET /repo.git/info/refs',
          effect: 'read',
          query: { service: { enum: ['git-upload-pack', 'git-receive-pack'] } },
          required: ['service'],
          headers: ['git-protocol'],
          response: {
            types: [gitType('upload', 'advertisement'), gitType('receive', 'advertisement')],
          },
        },
        fetch: {
          request: 'POST /repo.git/git-upload-pack',
          effect: 'read',
          upload: { types: [gitType('upload', 'request')], size: '1 MB' },
          headers: ['git-protocol'],
          response: { types: [gitType('upload', 'result')] },
        },
        push: {
          request: 'POST /repo.git/git-receive-pack',
          effect: 'write',
          upload: { types: [gitType('receive', 'request')], size: '20 MB' },
          response: { types: [gitType('receive', 'result')] },
        },
      },
    },
    packages: {
      http: at.packages,
      credential: { bearer: value },
      addresses: ['127.0.0.1'],
      operations: {
        about: { request: 'GET /{name}', effect: 'read' },
        load: {
          request: 'GET /{name}/-/{file}',
          effect: 'read',
          response: { types: ['application/octet-stream'] },
        },
      },
    },
  },
  agents: { agent: { may: ['desk:*', 'code:*', 'packages:*'], limits: { repeats: 'unlimited' } } },
})

/** A way to the same API, git server and registry, and what a program has to be told. */
interface Way {
  readonly desk: string
  readonly code: string
  readonly packages: string
  readonly token: string
  readonly proxy?: { readonly url: string; readonly caFile: string }
  /** Requests that came to what is behind the gateway. */
  readonly seen: readonly ApiSeen[]
  readonly served: string
  /** The whole record, as text. */
  readonly record: () => Promise<string>
  readonly close: () => Promise<void>
}

let held: () => Promise<void> = async () => {}
function servedFolder(): string {
  const folder = newFolder()
  if (has('git')) makeRepository(folder, branches, canary)
  makePackage(folder)
  return folder
}

async function byBaseUrl(): Promise<Way> {
  const folder = servedFolder()
  const api = await startApi()
  const at = { desk: `${api.url}/v1`, code: api.url, packages: api.url }
  const served = { key, folder, origin: api.url, registry: api.url, canary, held: () => held() }
  api.on = (seen, res) => serve(served, seen, res)
  const gateway = await startSallyport({ settings: settings(at, '${env:DESK_KEY}'), env: { DESK_KEY: key } })
  const { token } = await gateway.session('agent')
  return {
    desk: `${gateway.agentsUrl}/api/desk`,
    code: `${gateway.agentsUrl}/api/code`,
    packages: `${gateway.agentsUrl}/api/packages`,
    token,
    seen: api.seen,
    served: folder,
    record: async () => JSON.stringify(await gateway.events()) + gateway.lines.join('\n'),
    async close() {
      await gateway.stop()
      await api.close()
    },
  }
}

async function throughTheProxy(): Promise<Way> {
  const folder = servedFolder()
  const origin = 'https://api.desk.example'
  const at = { desk: `${origin}/v1`, code: 'https://git.desk.example', packages: 'https://registry.desk.example' }
  const served = { key, folder, origin, registry: at.packages, canary, held: () => held() }
  const seen: ApiSeen[] = []
  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk as Buffer)
    const { method = '', url = '', headers, rawHeaders } = req
    const one = { method, url, headers, rawHeaders, body: Buffer.concat(chunks) }
    seen.push(one)
    await serve(served, one, res)
  }
  const server = await startNamedServer((req, res) => void answer(req, res).catch(() => res.destroy()))
  const yaml = JSON.stringify({ listen: { proxy: '127.0.0.1:7402' }, ...settings(at, key) })
  const world = await startTestProxy(yaml, server.egress(), {}, { 'env:DESK_KEY': key })
  const { token } = await world.session('agent')
  return {
    ...at,
    token,
    proxy: { url: world.urlFor(token), caFile: world.caFile },
    seen,
    served: folder,
    record: async () => JSON.stringify(world.audit.events),
    async close() {
      await world.close()
      await server.close()
    },
  }
}

// Programs --------------------------------------------------------------------------------------------------------------

interface Run {
  readonly code: number | null
  readonly out: string
  readonly err: string
  /** Its own folder: home, and where it works. */
  readonly home: string
  readonly asked: readonly ApiSeen[]
}

/**
 * Runs a program that may know its session's token, and holds it before the last that it asks for, when it has all the
 * rest. Nothing that it can see has the key, and nothing that the API gets has the token.
 */
async function runAsAgent(
  way: Way,
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  home = newFolder(),
): Promise<Run> {
  const before = way.seen.length
  const program = startProgram(command, args, {
    cwd: home,
    env: { PATH: process.env['PATH'] ?? '', HOME: home, ...env },
  })
  let inMemory: ReadonlySet<string> | undefined
  let failed: unknown
  held = async () => {
    if (!memoryIsReadable) return
    // Only where what the API said is found, not to find the key says something.
    await until('it has the canary', () => foundIn(program.pid, [canary]).has(canary))
    inMemory = foundIn(program.pid, [...secrets, way.token, canary])
  }
  const wait = held
  held = () => wait().catch((thrown: unknown) => void (failed = thrown))
  const { code, out, err } = await program.ended
  if (failed !== undefined) throw new Error(`while it was held: ${err}`, { cause: failed })
  expect(code, `${err}\n${out}`).toBe(0)
  if (memoryIsReadable)
    expect([...(inMemory ?? ['it was not held'])].toSorted()).toEqual([canary, way.token].toSorted())

  const files = filesIn(home)
  for (const secret of secrets) {
    expect(out).not.toContain(secret)
    expect(err).not.toContain(secret)
    for (const { name, bytes } of files) expect(bytes.includes(secret), `${name} has ${secret}`).toBe(false)
  }
  const asked = way.seen.slice(before)
  for (const { url, headers, rawHeaders, body } of asked) {
    expect(credentialIn(key, url, headers), url).toBe(true)
    expect(headers['proxy-authorization']).toBeUndefined()
    expect(url + rawHeaders.join() + body.toString('latin1')).not.toContain(way.token)
  }
  return { code, out, err, home, asked }
}

const note = 'what the file says'
const asks: readonly Ask[] = [
  { method: 'GET', at: '/tickets/7?full=true' },
  { method: 'POST', at: '/tickets', json: '{"title":"a ü"}' },
  { method: 'POST', at: '/files', file: note },
  { method: 'GET', at: '/events' },
  { method: 'GET', at: '/big' },
  { method: 'GET', at: '/echo' },
  { method: 'GET', at: '/broken' },
  { method: 'GET', at: '/moved' },
  { method: 'GET', at: '/away' },
  { method: 'GET', at: '/leaking' },
  { method: 'GET', at: '/secret' },
  { method: 'DELETE', at: '/tickets/7' },
  { method: 'GET', at: '/held' },
]
const masked = '[secret env:DESK_KEY]'

/** What the API is asked then: what is refused does not reach it. */
const requests = [
  'GET /v1/tickets/7?full=true',
  'POST /v1/tickets',
  'POST /v1/files',
  'GET /v1/events',
  'GET /v1/big',
  'GET /v1/echo',
  'GET /v1/broken',
  'GET /v1/moved',
  'GET /v1/tickets/8?full=true',
  'GET /v1/away',
  'GET /v1/leaking',
  'GET /v1/held',
]
const linesOf = (asked: readonly ApiSeen[]): string[] => asked.map(({ method, url }) => `${method} ${url}`)

/** That these are the API's own answers. */
function checkAnswers(answers: readonly Answer[]): void {
  expect(answers.map(({ status }) => status)).toEqual([200, 201, 201, 200, 200, 401, 500, 200, 302, 400, 404, 404, 200])
  const [ticket, added, attached, events, all, echo, broken, moved, away, , secret, , last] = answers
  expect(JSON.parse(ticket!.body)).toEqual({ method: 'GET', url: '/v1/tickets/7?full=true', body: '' })
  expect(ticket!.headers).toMatchObject({ 'content-type': 'application/json', etag: '"v7"', 'x-request-id': masked })
  expect(JSON.parse(added!.body)).toEqual({ method: 'POST', url: '/v1/tickets', body: '{"title":"a ü"}' })
  expect(attached!.body).toContain(note)
  expect(attached!.body).toContain('of a file')
  expect(events!.headers['content-type']).toBe('text/event-stream')
  expect(events!.body).toBe(Array.from({ length: 20 }, (_, count) => `data: ${count}\n\n`).join(''))
  expect(all!.body).toBe(sha256(big))
  expect(JSON.parse(echo!.body)).toMatchObject({ error: `bad key ${masked}`, headers: { 'x-api-key': masked } })
  expect(broken!.body).toContain('<h1>Broken</h1>')
  expect(broken!.body).toContain(masked)
  expect(JSON.parse(moved!.body)).toMatchObject({ url: '/v1/tickets/8?full=true' })
  // Where it leads past the gateway, nobody is told.
  expect(away!.headers['location']).toBeUndefined()
  expect(JSON.parse(secret!.body)).toEqual({
    error: { code: 'not_found', message: 'there is nothing at this address' },
  })
  expect(last!.body).toContain(canary)
  expect(last!.body.endsWith('data: over\n\n')).toBe(true)
  for (const { headers } of answers)
    for (const name of ['set-cookie', 'x-debug', 'www-authenticate', 'server']) expect(headers[name]).toBeUndefined()
}

const nodeProgram = fileURLToPath(new URL('clients/node.ts', import.meta.url))
const pythonProgram = fileURLToPath(new URL('clients/client.py', import.meta.url))
const pythonPackages = [
  'anyio==4.16.0',
  'certifi==2026.10.18',
  'charset-normalizer==3.5.2',
  'h11==0.16.0',
  'httpcore==1.0.9',
  'httpx==0.28.1',
  'idna==3.20',
  'requests==2.34.2',
  'typing_extensions==4.16.0',
  'urllib3==2.8.0',
]

type Told = (way: Way) => Readonly<Record<string, string>>
const byEnvironment =
  (...names: readonly string[]): Told =>
  ({ proxy }) =>
    proxy === undefined
      ? {}
      : {
          HTTPS_PROXY: proxy.url,
          https_proxy: proxy.url,
          HTTP_PROXY: proxy.url,
          NO_PROXY: '',
          ...Object.fromEntries(names.map((name) => [name, name.startsWith('NODE_USE') ? '1' : proxy.caFile])),
        }
const byOption: Told = ({ proxy }): Record<string, string> =>
  proxy === undefined ? {} : { PROXY: proxy.url, CA: proxy.caFile }
const askEnvironment = (way: Way): Record<string, string> => ({
  BASE: way.desk,
  ASKS: JSON.stringify(asks),
  ...(way.proxy === undefined ? { TOKEN: way.token } : {}),
})
const answersIn = (out: string): Answer[] =>
  out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Answer)

const has = (program: string): boolean => {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

interface Client {
  readonly client: string
  readonly told: Told
  readonly how: string
}
/** Each in every way of telling it of a proxy, and of whom to trust. By base URL they are asked once. */
const nodeClients: readonly Client[] = [
  { client: 'undici', how: 'by its ProxyAgent', told: byOption },
  { client: 'fetch', how: 'by NODE_USE_ENV_PROXY', told: byEnvironment('NODE_USE_ENV_PROXY', 'NODE_EXTRA_CA_CERTS') },
  { client: 'axios', how: 'by HTTPS_PROXY', told: byEnvironment('NODE_EXTRA_CA_CERTS') },
  { client: 'axios', how: 'by its own options', told: byOption },
  { client: 'got', how: 'by an agent', told: byOption },
  { client: 'got', how: 'by NODE_USE_ENV_PROXY', told: byEnvironment('NODE_USE_ENV_PROXY', 'NODE_EXTRA_CA_CERTS') },
]
const byBase: readonly Client[] = [...new Set(nodeClients.map(({ client }) => client))].map((client) => ({
  client,
  how: 'by base URL',
  told: () => ({}),
}))
const inPython: readonly (Pick<Client, 'client' | 'told'> & { readonly packages: readonly string[] })[] = [
  { client: 'urllib', told: byEnvironment('SSL_CERT_FILE'), packages: [] },
  { client: 'requests', told: byEnvironment('REQUESTS_CA_BUNDLE'), packages: pythonPackages },
  { client: 'httpx', told: byEnvironment('SSL_CERT_FILE'), packages: pythonPackages },
]

/** One process of curl for all that is asked; what it got, from its files. */
async function askWithCurl(way: Way): Promise<{ answers: readonly Answer[]; asked: readonly ApiSeen[] }> {
  const own = [
    '-sS',
    '-L',
    '--compressed',
    ...(way.proxy === undefined
      ? ['-H', `authorization: Bearer ${way.token}`]
      : ['-x', way.proxy.url, '--cacert', way.proxy.caFile, '--suppress-connect-headers']),
  ]
  const args = asks.flatMap(({ method, at, json, file }, index) => [
    ...(index === 0 ? [] : ['--next']),
    ...own,
    '-D',
    `${index}.head`,
    '-o',
    `${index}.body`,
    ...(json === undefined ? [] : ['--json', json]),
    ...(file === undefined ? [] : ['-F', 'title=of a file', '-F', 'file=@a.txt;type=text/plain']),
    ...(method === 'DELETE' ? ['-X', method] : []),
    way.desk + at,
  ])
  const home = newFolder()
  fs.writeFileSync(path.join(home, 'a.txt'), note)
  const { asked } = await runAsAgent(way, 'curl', args, {}, home)
  const answers = asks.map((_, index): Answer => {
    const [head = ''] = fs
      .readFileSync(path.join(home, `${index}.head`), 'latin1')
      .trim()
      .split('\r\n\r\n')
      .slice(-1)
    const [first = '', ...lines] = head.split('\r\n')
    const body = fs.readFileSync(path.join(home, `${index}.body`))
    return {
      status: Number(first.split(' ')[1]),
      headers: Object.fromEntries(
        lines.map((line) => {
          const [name = '', value = ''] = line.split(': ', 2)
          return [name.toLowerCase(), value]
        }),
      ),
      body: body.length > 1_000_000 ? sha256(body) : body.toString(),
    }
  })
  return { answers, asked }
}

describe.each([
  { name: 'by base URL', start: byBaseUrl, inNode: byBase },
  { name: 'through the proxy', start: throughTheProxy, inNode: nodeClients },
])('promise 4: programs see the API’s own answers, and never its key, $name', ({ start, inNode }) => {
  let way: Way
  beforeAll(async () => {
    way = await start()
  })
  afterAll(async () => {
    await way.close()
    const record = await way.record()
    // oxlint-disable-next-line vitest/no-standalone-expect -- holds for every test
    for (const secret of secrets) expect(record).not.toContain(secret)
    for (const each of proxyFolders.splice(0)) fs.rmSync(each, { recursive: true, force: true })
    removeFolders()
  })

  test.for(inNode)('$client of Node, $how', async ({ client, told }) => {
    const env = { ...askEnvironment(way), ...told(way) }
    const { out, asked } = await runAsAgent(way, process.execPath, [nodeProgram, client], env)
    checkAnswers(answersIn(out))
    expect(linesOf(asked)).toEqual(requests)
  })

  test.for(inPython)(
    '$client of Python',
    { timeout: mostToMake + 60_000 },
    async ({ client, told, packages }, { skip }) => {
      const made = await pythonWith(packages)
      if ('missing' in made) {
        console.warn(made.missing)
        return skip(made.missing)
      }
      const env = { ...askEnvironment(way), ...told(way) }
      const { out, asked } = await runAsAgent(way, made.python, [pythonProgram, client], env)
      checkAnswers(answersIn(out))
      expect(linesOf(asked)).toEqual(requests)
    },
  )

  test.skipIf(!has('curl'))('curl', async () => {
    const { answers, asked } = await askWithCurl(way)
    checkAnswers(answers)
    expect(linesOf(asked)).toEqual(requests)
  })

  test.skipIf(!has('git'))('git clones, fetches and pushes', async () => {
    const bare = path.join(way.served, 'repo.git')
    const home = newFolder()
    const trace = path.join(home, 'trace')
    const settled: [string, string][] =
      way.proxy === undefined
        ? [
            [`url.${way.code}/.insteadOf`, 'https://git.desk.example/'],
            [`http.${way.code}/.extraHeader`, `Authorization: Bearer ${way.token}`],
          ]
        : [
            ['http.proxy', way.proxy.url],
            ['http.sslCAInfo', way.proxy.caFile],
          ]
    const env = {
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_TERMINAL_PROMPT: '0',
      // All that goes over the wire: it is looked through like everything else in this folder.
      GIT_TRACE_CURL: trace,
      GIT_CONFIG_COUNT: String(settled.length),
      ...Object.fromEntries(
        settled.flatMap(([name, value], index) => [
          [`GIT_CONFIG_KEY_${index}`, name],
          [`GIT_CONFIG_VALUE_${index}`, value],
        ]),
      ),
    }
    const cloned = await runAsAgent(way, 'git', ['clone', 'https://git.desk.example/repo.git', 'work'], env, home)
    const work = path.join(home, 'work')
    expect(fs.readFileSync(path.join(work, 'file.txt'), 'utf8')).toBe('first of main\n')
    expect(git(work, ['branch', '-r', '--format=%(refname)']).trim().split('\n')).toHaveLength(branches + 3)
    // git compresses what it asks for when that is long; what the server gets is decoded.
    expect(fs.readFileSync(trace, 'latin1')).toMatch(/Send header: content-encoding: gzip/i)
    const wanted = cloned.asked.find(({ body }) => body.includes('command=fetch'))
    expect(new Set(wanted?.body.toString().match(/want [0-9a-f]{40}/g)).size).toBe(branches + 2)
    expect(wanted?.headers['content-encoding']).toBeUndefined()

    commitTo(bare, ['main', 'branch-7'], 'second')
    await runAsAgent(way, 'git', ['-C', 'work', 'pull', '--ff-only', 'origin', 'main'], env, home)
    expect(fs.readFileSync(path.join(work, 'file.txt'), 'utf8')).toBe('second of main\n')

    // More than git sends in one piece.
    fs.writeFileSync(path.join(work, 'large'), randomBytes(2_500_000))
    git(work, ['add', '.'])
    git(work, ['commit', '-q', '-m', 'mine'])
    held = async () => {}
    const pushed = startProgram('git', ['-C', 'work', 'push', 'origin', 'HEAD:refs/heads/mine'], {
      cwd: home,
      env: { PATH: process.env['PATH'] ?? '', HOME: home, ...env },
    })
    const { code, out, err } = await pushed.ended
    expect(code, err).toBe(0)
    expect(out + err).not.toContain(key)
    expect(git(bare, ['rev-parse', 'mine'])).toBe(git(work, ['rev-parse', 'HEAD']))
    for (const { name, bytes } of filesIn(home))
      for (const secret of secrets) expect(bytes.includes(secret), name).toBe(false)
    for (const { url, headers } of way.seen) expect(credentialIn(key, url, headers), url).toBe(true)
  })

  test.skipIf(!has('npm'))('npm installs from a registry', async () => {
    const home = newFolder()
    const registry = way.packages
    fs.writeFileSync(path.join(home, 'package.json'), '{"name":"project","version":"1.0.0"}')
    const rc: Record<string, string> = {
      registry: `${registry}/`,
      cache: path.join(home, 'cache'),
      'update-notifier': 'false',
      ...(way.proxy === undefined
        ? {
            [`${registry.replace(/^http:/, '')}/:_authToken`]: way.token,
            // What is loaded stands in what the registry says, at its own address.
            'replace-registry-host': 'always',
          }
        : { 'https-proxy': way.proxy.url, cafile: way.proxy.caFile }),
    }
    fs.writeFileSync(
      path.join(home, '.npmrc'),
      Object.entries(rc)
        .map(([name, value]) => `${name}=${value}\n`)
        .join(''),
    )
    const flags = ['--no-audit', '--no-fund', '--ignore-scripts', '--loglevel', 'silly']
    const { asked } = await runAsAgent(way, 'npm', ['install', ...flags, 'left-hand'], {}, home)
    expect(asked.map(({ url }) => url)).toEqual(['/left-hand', '/left-hand/-/left-hand-1.2.3.tgz'])
    expect(fs.readFileSync(path.join(home, 'node_modules', 'left-hand', 'index.js'), 'utf8')).toContain('left')
    expect(fs.readFileSync(path.join(home, 'package-lock.json'), 'utf8')).toContain('sha512-')
  })
})
