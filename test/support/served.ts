// What agents are let near, at one address: an API, a git server, and a registry of packages. It is careless with the
// credential that it is sent: whatever it answers has it, somewhere.
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import fs from 'node:fs'
import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import path from 'node:path'
import { json } from './http.ts'
import type { ApiSeen } from './http.ts'

export interface Served {
  readonly key: string
  /** Holds what it serves: `repo.git`. */
  readonly folder: string
  /** Where the API is, as it believes. */
  readonly origin: string
  /** Where packages are, as it believes. */
  readonly registry: string
  /** In what a client has got before it is held. */
  readonly canary: string
  /** Waited for before a client gets the last that it asks for. */
  readonly held: () => Promise<void>
}

export const big = Buffer.alloc(10_000_000, 'abcdefghij')

export async function serve(served: Served, seen: ApiSeen, res: ServerResponse): Promise<void> {
  const { key } = served
  res.setHeader('x-request-id', key)
  res.setHeader('set-cookie', `session=${key}`)
  res.setHeader('x-debug', `key ${key}`)
  if (seen.url.startsWith('/repo.git/')) return serveGit(served, seen, res)
  if (!seen.url.startsWith('/v1/')) return servePackages(served, seen, res)
  return serveApi(served, seen, res)
}

async function serveApi(
  { key, origin, canary, held }: Served,
  { method, url, body, headers }: ApiSeen,
  res: ServerResponse,
): Promise<void> {
  const redirect = (location: string): void => void res.writeHead(302, { location }).end()
  switch (url) {
    case '/v1/big':
      return void res.writeHead(200, { 'content-type': 'application/octet-stream' }).end(big)
    case '/v1/echo':
      return json(res, { headers, error: `bad key ${String(headers['x-api-key'])}` }, 401)
    case '/v1/broken':
      res.writeHead(500, 'Broken', { 'content-type': 'text/html' })
      return void res.end(
        `<h1>Broken</h1><pre>${key} ${Buffer.from(`user:${key}`).toString('base64')} ${Buffer.from(key).toString('hex')}</pre>`,
      )
    case '/v1/moved':
      return redirect(`${origin}/v1/tickets/8?full=true`)
    case '/v1/away':
      return redirect(`https://elsewhere.example/?key=${key}`)
    case '/v1/leaking':
      return redirect(`${origin}/v1/tickets/9?note=${key}`)
    case '/v1/events':
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      for (let count = 0; count < 20; count++) res.write(`data: ${count}\n\n`)
      return void res.end()
    case '/v1/held':
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      res.write(`data: ${canary} ${key}\n\n`.repeat(1_000))
      await held()
      return void res.end('data: over\n\n')
    default:
      res.setHeader('etag', '"v7"')
      return json(res, { method, url, body: body.toString() }, method === 'POST' ? 201 : 200)
  }
}

/** git's own server, as a web server runs it (CGI). */
async function serveGit(
  { folder, held }: Served,
  { method, url, body, headers }: ApiSeen,
  res: ServerResponse,
): Promise<void> {
  // What is fetched is held back: by then, the client knows all that there is.
  if (body.includes('command=fetch')) await held()
  const { pathname, search } = new URL(url, 'http://none')
  const child = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env['PATH'] ?? '',
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: '1',
      REQUEST_METHOD: method,
      PATH_INFO: pathname,
      QUERY_STRING: search.slice(1),
      CONTENT_TYPE: headers['content-type'] ?? '',
      CONTENT_LENGTH: String(body.length),
      HTTP_CONTENT_ENCODING: headers['content-encoding'] ?? '',
      GIT_PROTOCOL: String(headers['git-protocol'] ?? ''),
    },
  })
  child.stdin.on('error', () => {}).end(body)
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

async function servePackages(
  { folder, registry, key, canary, held }: Served,
  { url }: ApiSeen,
  res: ServerResponse,
): Promise<void> {
  const file = path.join(folder, 'left-hand-1.2.3.tgz')
  const tarball = fs.readFileSync(file)
  if (url === '/left-hand/-/left-hand-1.2.3.tgz') {
    await held()
    return void res.writeHead(200, { 'content-type': 'application/octet-stream' }).end(tarball)
  }
  if (url !== '/left-hand') return json(res, { error: `not for ${key}` }, 404)
  const manifest = {
    name: 'left-hand',
    version: '1.2.3',
    description: `${canary} ${key}`,
    dist: {
      tarball: `${registry}/left-hand/-/left-hand-1.2.3.tgz`,
      integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
    },
  }
  json(res, { name: 'left-hand', 'dist-tags': { latest: '1.2.3' }, versions: { '1.2.3': manifest } })
}

/** Whether what an upstream was sent is the credential, and nothing that the agent has. */
export const credentialIn = (key: string, url: string, headers: IncomingHttpHeaders): boolean =>
  url.startsWith('/repo.git/')
    ? headers.authorization === `Basic ${Buffer.from(`git:${key}`).toString('base64')}`
    : url.startsWith('/v1/')
      ? headers['x-api-key'] === key && headers.authorization === undefined
      : headers.authorization === `Bearer ${key}`

/** Runs git as nobody in particular. */
export const git = (folder: string, args: readonly string[], input = ''): string =>
  execFileSync('git', ['-C', folder, '-c', 'user.name=a', '-c', 'user.email=a@desk.example', ...args], {
    env: { PATH: process.env['PATH'], HOME: folder, GIT_CONFIG_NOSYSTEM: '1' },
    input,
    stdio: ['pipe', 'pipe', 'pipe'],
    encoding: 'utf8',
  })

/** A repository with so many branches, each with a commit of its own, that takes what is pushed. */
export function makeRepository(folder: string, branches: number, canary: string): void {
  const repository = path.join(folder, 'repo.git')
  git(folder, ['init', '-q', '--bare', '-b', 'main', repository])
  git(repository, ['config', 'http.receivepack', 'true'])
  commitTo(repository, ['main', canary, ...Array.from({ length: branches }, (_, index) => `branch-${index}`)], 'first')
}

/** Adds a commit to each of these branches, with a file that says what. */
export function commitTo(repository: string, branches: readonly string[], what: string): void {
  const existing = git(repository, ['for-each-ref', '--format=%(refname)'])
  const stream = branches.map((branch) => {
    const text = `${what} of ${branch}\n`
    const from = existing.includes(`refs/heads/${branch}\n`) ? `from refs/heads/${branch}^0\n` : ''
    return `commit refs/heads/${branch}\ncommitter a <a@desk.example> 1700000000 +0000\ndata ${text.length}\n${text}${from}M 100644 inline file.txt\ndata ${text.length}\n${text}\n`
  })
  git(repository, ['fast-import', '--quiet'], stream.join(''))
}

/** A package that prints nothing and does nothing, as a registry keeps it. */
export function makePackage(folder: string): void {
  const source = path.join(folder, 'package')
  fs.mkdirSync(source)
  fs.writeFileSync(path.join(source, 'package.json'), '{"name":"left-hand","version":"1.2.3","main":"index.js"}')
  fs.writeFileSync(path.join(source, 'index.js'), 'module.exports = "left"\n')
  execFileSync('tar', ['-czf', path.join(folder, 'left-hand-1.2.3.tgz'), '-C', folder, 'package'])
}
