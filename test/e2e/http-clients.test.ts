// Real HTTP clients through the real gateway, by base URL: each sees the API's own answers, and none sees its key.
import { execFile, execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { Agent, request } from 'undici'
import { sha256 } from '../../src/guard/digest.ts'
import { json, startApi } from '../support/http.ts'
import type { TestApi } from '../support/http.ts'
import { newFolder, removeFolders, startSallyport } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'

const run = promisify(execFile)
const key = 'sk-live-00112233445566778899'

const has = (program: string, ...args: string[]): boolean => {
  try {
    execFileSync(program, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
const python = has('python3', '--version')
const requests = python && has('python3', '-c', 'import requests')
const httpx = python && has('python3', '-c', 'import httpx')
const curl = has('curl', '--version')

let api: TestApi
let gateway: Sallyport
let base: string
let token: string
let folder: string
beforeAll(async () => {
  api = await startApi()
  folder = newFolder()
  gateway = await startSallyport({
    folder,
    env: { DESK_KEY: key },
    settings: {
      resources: {
        desk: {
          http: api.url,
          credential: { header: { name: 'X-Api-Key', value: '${env:DESK_KEY}' } },
          operations: {
            get: {
              request: 'GET /v1/tickets/{id}',
              effect: 'read',
              path: { id: { type: 'integer' } },
              query: { full: { type: 'boolean' } },
            },
            add: {
              request: 'POST /v1/tickets',
              effect: 'write',
              body: { type: 'object', properties: { title: { type: 'string' } }, required: ['title'] },
            },
            events: { request: 'GET /v1/events', effect: 'read', response: { types: ['text/event-stream'] } },
            big: {
              request: 'GET /v1/big',
              effect: 'read',
              response: { types: ['application/octet-stream'], size: '20 MB' },
            },
            echo: { request: 'GET /v1/echo', effect: 'read' },
            attach: {
              request: 'POST /v1/files',
              effect: 'write',
              multipart: { fields: { title: { type: 'string' } }, files: { file: { size: '1 MB' } } },
            },
          },
        },
      },
      agents: {
        agent: {
          may: ['desk:get', 'desk:add', 'desk:events', 'desk:big', 'desk:echo', 'desk:attach'],
          limits: { repeats: 'unlimited' },
        },
      },
    },
  })
  ;({ token } = await gateway.session('agent'))
  base = `${gateway.agentsUrl}/api/desk`
})
afterAll(async () => {
  await gateway.stop()
  await api.close()
  removeFolders()
})

const big = Buffer.alloc(10_000_000, 'abcdefghij')
beforeEach(() => {
  api.seen.splice(0)
  api.on = ({ method, url, body, headers }, res) => {
    if (url === '/v1/big') return void res.writeHead(200, { 'content-type': 'application/octet-stream' }).end(big)
    if (url === '/v1/echo') return json(res, { headers, error: `bad key ${String(headers['x-api-key'])}` }, 401)
    if (url === '/v1/events') {
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      for (let count = 0; count < 20; count++) res.write(`data: ${count}\n\n`)
      return void res.end()
    }
    json(res, { method, url, body: body.toString() }, method === 'POST' ? 201 : 200)
  }
})

/** What each client saw, as one text: status and body of each request. */
interface Client {
  readonly name: string
  readonly isThere: boolean
  readonly go: () => Promise<string>
}

const py = (code: string): Promise<string> =>
  run('python3', ['-c', code], {
    env: { BASE: base, TOKEN: token, PATH: process.env['PATH'] ?? '' },
    maxBuffer: 64e6,
  }).then(({ stdout }) => stdout)

const pyLines = (open: string): string => `
import os, hashlib
base, token = os.environ['BASE'], os.environ['TOKEN']
${open}
show(*call('GET', '/v1/tickets/7?full=true'))
show(*call('POST', '/v1/tickets', '{"title":"a \\u00fc"}'))
show(*call('GET', '/v1/events'))
s, b = call('GET', '/v1/big'); print(s, hashlib.sha256(b).hexdigest())
show(*call('GET', '/v1/echo'))
show(*call('GET', '/v1/secret'))
print(dict(os.environ))
`

const clients: readonly Client[] = [
  {
    name: 'fetch',
    isThere: true,
    go: () =>
      viaFetch((at, init) =>
        fetch(base + at, init as RequestInit).then(async (answer) => ({
          status: answer.status,
          headers: [...answer.headers],
          body: Buffer.from(await answer.arrayBuffer()),
        })),
      ),
  },
  {
    name: 'undici',
    isThere: true,
    async go() {
      const dispatcher = new Agent()
      try {
        return await viaFetch((at, init) =>
          request(base + at, { ...init, dispatcher }).then(async (answer) => ({
            status: answer.statusCode,
            headers: answer.headers,
            body: Buffer.from(await answer.body.arrayBuffer()),
          })),
        )
      } finally {
        await dispatcher.close()
      }
    },
  },
  {
    name: 'curl',
    isThere: curl,
    async go() {
      const one = async (...args: string[]): Promise<string> =>
        (await run('curl', ['-sS', '-i', '-H', `authorization: Bearer ${token}`, ...args], { maxBuffer: 64e6 })).stdout
      await run('curl', [
        '-sS',
        '-H',
        `authorization: Bearer ${token}`,
        '-o',
        path.join(folder, 'big'),
        `${base}/v1/big`,
      ])
      return [
        await one(`${base}/v1/tickets/7?full=true`),
        await one('--json', '{"title":"a ü"}', `${base}/v1/tickets`),
        await one('-N', `${base}/v1/events`),
        digest(fs.readFileSync(path.join(folder, 'big'))),
        await one('--compressed', `${base}/v1/echo`),
        await one('-L', `${base}/v1/secret`),
        await one('-F', 'title=t', '-F', `file=@${gateway.file};type=text/plain`, `${base}/v1/files`),
      ].join('\n')
    },
  },
  {
    name: 'Python urllib',
    isThere: python,
    go: () =>
      py(
        pyLines(`
import urllib.request, urllib.error
def call(method, at, body=None):
    req = urllib.request.Request(base + at, method=method, data=None if body is None else body.encode(), headers={'authorization': 'Bearer ' + token, 'content-type': 'application/json'})
    try:
        with urllib.request.urlopen(req) as r: return r.status, r.read()
    except urllib.error.HTTPError as e: return e.code, str(e.headers).encode() + e.read()
def show(s, b): print(s, b.decode())`),
      ),
  },
  {
    name: 'Python requests',
    isThere: requests,
    go: () =>
      py(
        pyLines(`
import requests
session = requests.Session()
session.headers['authorization'] = 'Bearer ' + token
def call(method, at, body=None):
    r = session.request(method, base + at, data=None if body is None else body.encode(), headers={'content-type': 'application/json'})
    return r.status_code, r.content if r.ok else (str(r.headers) + str(r.history)).encode() + r.content
def show(s, b): print(s, b.decode())`),
      ),
  },
  {
    name: 'Python httpx',
    isThere: httpx,
    go: () =>
      py(
        pyLines(`
import httpx
client = httpx.Client(headers={'authorization': 'Bearer ' + token})
def call(method, at, body=None):
    r = client.request(method, base + at, content=None if body is None else body.encode(), headers={'content-type': 'application/json'})
    return r.status_code, r.content
def show(s, b): print(s, b.decode())`),
      ),
  },
]

const digest = (bytes: Uint8Array): string => sha256(bytes)

interface Got {
  readonly status: number
  readonly headers: unknown
  readonly body: Buffer
}

async function viaFetch(send: (at: string, init: object) => Promise<Got>): Promise<string> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const seen: string[] = []
  for (const [at, init] of [
    ['/v1/tickets/7?full=true', { headers }],
    ['/v1/tickets', { method: 'POST', headers, body: '{"title":"a ü"}' }],
    ['/v1/events', { headers }],
    ['/v1/big', { headers }],
    ['/v1/echo', { headers }],
    ['/v1/secret', { headers }],
  ] as const) {
    const { status, headers: got, body } = await send(at, init)
    seen.push(`${status} ${JSON.stringify(got)} ${at === '/v1/big' ? digest(body) : body.toString()}`)
  }
  return seen.join('\n')
}

describe.each(clients)('promise 4: $name', ({ isThere, go }) => {
  test.skipIf(!isThere)('sees the API’s own answers, and never its key', async () => {
    const text = await go()
    expect(text).toContain('"url":"/v1/tickets/7?full=true"')
    expect(text).toContain(String.raw`{\"title\":\"a ü\"}`)
    expect(text).toContain('data: 0\n\ndata: 1\n\n')
    expect(text).toContain('data: 19\n\n')
    expect(text).toContain(digest(big))
    expect(text).toContain('bad key [secret env:DESK_KEY]')
    expect(text).toContain('{"error":{"code":"not_found","message":"there is nothing at this address"}}')
    for (const form of [
      key,
      Buffer.from(key).toString('base64'),
      Buffer.from(key).toString('hex'),
      encodeURIComponent(key),
    ])
      expect(text).not.toContain(form)
    expect(api.seen.length).toBeGreaterThanOrEqual(5)
    for (const { headers } of api.seen) {
      expect(headers['x-api-key']).toBe(key)
      expect(headers['authorization']).toBeUndefined()
      expect(JSON.stringify(headers)).not.toContain(token)
    }
    expect(JSON.stringify(await gateway.events())).not.toContain(key)
  })
})
