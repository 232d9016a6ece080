import { randomBytes } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { deflateSync, gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { sha256 } from '../../guard/digest.ts'
import { json, startApi, startHttpGateway } from '../../../test/support/http.ts'
import type { TestApi } from '../../../test/support/http.ts'

const key = 'sk-live-0123456789abcdef'

const operations = `
      get_ticket: { request: "GET /v1/tickets/{id}", effect: read, path: { id: { type: integer } } }
      list: { request: "GET /v1/tickets", effect: read, query: { state: { type: string, enum: [open, closed] }, tag: { type: array, items: { type: string } }, limit: { type: integer, maximum: 100 } } }
      refund: { request: "POST /v1/refunds/{id}", effect: write, body: { type: object, properties: { amount: { type: integer }, note: { type: string } }, required: [amount] } }
      remove: { request: "DELETE /v1/tickets/{id}", effect: destroy }
      hidden: { request: "GET /v1/hidden", effect: read }
      blob: { request: "GET /v1/blob", effect: read, response: { types: ["application/octet-stream"], size: 1 MB, time: 5 s } }
      events: { request: "GET /v1/events", effect: read, response: { types: [text/event-stream] } }
      file: { request: "GET /v1/files/{+path}", effect: read }
      login: { request: "POST /v1/form", effect: write, form: { user: { type: string }, age: { type: integer } }, required: [user] }
      attach: { request: "POST /v1/attach", effect: write, multipart: { fields: { title: { type: string } }, files: { file: { types: ["text/*"], size: 1 kB } } } }
      upload: { request: "PUT /v1/upload", effect: write, upload: { size: 5 MB } }
      note: { request: "PUT /v1/note", effect: write, upload: { size: 300 kB } }
      tenant: { request: "GET /v1/tenant", effect: read, headers: [X-Tenant] }
      head: { request: "HEAD /v1/tickets/{id}", effect: read, path: { id: { type: integer } } }
`
const policy = (url: string, more = '', may = '') => `
resources:
  desk:
    http: ${url}
    credential: { bearer: "${key}" }
    operations:${operations}${more}
agents:
  reader:
    may:
      - desk:get_ticket
      - desk:head
      - desk:list
      - desk:blob
      - desk:events
      - desk:file
      - desk:login
      - desk:attach
      - desk:upload
      - desk:note
      - desk:tenant
      - desk:remove
      - { do: desk:refund, when: args.amount <= 5000 }
${may}
    limits: { repeats: unlimited, bytes: 3 MB/session }
`

let api: TestApi
let gateway: Awaited<ReturnType<typeof startHttpGateway>>
let token: string
let session: string

beforeEach(async () => {
  api = await startApi()
  gateway = await startHttpGateway(policy(api.url), { secrets: { KEY: key } })
  ;({ token, id: session } = await gateway.session('reader'))
})
afterEach(async () => {
  await gateway.close()
  await api.close()
  // oxlint-disable-next-line vitest/no-standalone-expect -- holds for every test
  expect(gateway.reported).toEqual([])
})

const call = (path: string, init: RequestInit & { duplex?: 'half' } = {}) =>
  fetch(`${gateway.url}/api/desk${path}`, {
    redirect: 'manual',
    ...init,
    headers: { authorization: `Bearer ${token}`, ...(init.headers as object) },
  })
const post = (path: string, body: unknown, headers: object = {}) =>
  call(path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })

describe('requests', () => {
  test('an operation is performed with the credential, and answered in the API’s own words', async () => {
    const answer = await call('/v1/tickets/7')
    expect(answer.status).toBe(200)
    expect(await answer.json()).toEqual({ method: 'GET', url: '/v1/tickets/7', body: '' })
    expect(api.seen[0]?.headers['authorization']).toBe(`Bearer ${key}`)
    expect(gateway.audit.of('decision')[0]).toMatchObject({
      permission: 'desk:get_ticket',
      via: 'http',
      args: { id: 7 },
      decision: 'allow',
    })
    expect(gateway.audit.of('action.done')[0]).toMatchObject({
      result: { status: 200, type: 'application/json', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string },
      // Which secrets went along: their names.
      secrets: [expect.stringMatching(/^test:/)],
    })
  })

  test('promise 4: neither the agent’s token goes to the API, nor its key to the agent', async () => {
    api.on = ({ headers, rawHeaders }, res) => {
      res.setHeader('set-cookie', 'session=1')
      res.setHeader('x-request-id', key)
      res.setHeader('x-debug', key)
      res.setHeader('www-authenticate', `Bearer ${key}`)
      json(res, { headers, rawHeaders, b64: Buffer.from(`user:${key}`).toString('base64') }, 400)
    }
    const answer = await call('/v1/tickets/7', {
      headers: {
        cookie: 'a=b',
        'x-api-key': 'mine',
        'proxy-authorization': 'Basic x',
        forwarded: 'for=1.1.1.1',
        'x-forwarded-for': '1.1.1.1',
        accept: 'application/json',
      },
    })
    const text = `${JSON.stringify([...answer.headers])}${await answer.text()}`
    expect(text).not.toContain(key)
    expect(text).not.toContain(Buffer.from(key).toString('base64').slice(2, 20))
    expect(text).toContain('[secret KEY]')
    expect(answer.headers.get('set-cookie')).toBeNull()
    expect(answer.headers.get('x-debug')).toBeNull()
    expect(answer.headers.get('www-authenticate')).toBeNull()
    const sent = api.seen[0]!.rawHeaders.filter((_, at) => at % 2 === 0)
      .map((name) => name.toLowerCase())
      .sort()
    expect(sent).toEqual([
      'accept',
      'accept-encoding',
      'accept-language',
      'authorization',
      'connection',
      'host',
      'user-agent',
    ])
    expect(JSON.stringify(api.seen[0])).not.toContain(token)
    expect(JSON.stringify(gateway.audit.events)).not.toContain(key)
  })

  test('arguments are path, query and members of the body', async () => {
    await call('/v1/tickets?state=open&tag=a&tag=b%20c&limit=5')
    expect(gateway.audit.of('decision')[0]).toMatchObject({ args: { state: 'open', tag: ['a', 'b c'], limit: 5 } })
    expect(api.seen[0]?.url).toBe('/v1/tickets?state=open&tag=a&tag=b%20c&limit=5')
    await post('/v1/refunds/r%201', { amount: 100, note: 'ü' })
    expect(gateway.audit.of('decision')[1]).toMatchObject({ args: { id: 'r 1', amount: 100, note: 'ü' } })
    expect(api.seen[1]).toMatchObject({ url: '/v1/refunds/r%201', method: 'POST' })
    expect(JSON.parse(api.seen[1]!.body.toString())).toEqual({ amount: 100, note: 'ü' })
  })

  test('conditions hold over them', async () => {
    const answer = await post('/v1/refunds/r1', { amount: 5001 })
    expect(answer.status).toBe(403)
    expect(await answer.json()).toMatchObject({
      error: { code: 'denied', event: expect.stringMatching(/^evt_/) as string },
    })
    expect(api.seen).toEqual([])
  })

  test.each<[string, string, RequestInit, number, RegExp]>([
    ['an undeclared value of the query', '/v1/tickets?debug=1', {}, 400, /debug.*not known/],
    ['a value that is not in the list', '/v1/tickets?state=any', {}, 400, /one of "open", "closed"/],
    ['a value that stands twice', '/v1/tickets?state=open&state=closed', {}, 400, /stands twice/],
    ['text where a number is expected', '/v1/tickets/abc', {}, 400, /must be integer/],
    ['a number in another spelling', '/v1/tickets/007', {}, 400, /must be integer/],
    [
      'an undeclared member',
      '/v1/refunds/1',
      { method: 'POST', body: '{"amount":1,"admin":true}' },
      400,
      /admin.*not known/,
    ],
    [
      'a member that is a value of the path',
      '/v1/refunds/1',
      { method: 'POST', body: '{"amount":1,"id":"2"}' },
      400,
      /elsewhere/,
    ],
    ['a missing member', '/v1/refunds/1', { method: 'POST', body: '{}' }, 400, /amount.*required/],
    ['no body', '/v1/refunds/1', { method: 'POST' }, 400, /amount.*required/],
    [
      'a member that stands twice',
      '/v1/refunds/1',
      { method: 'POST', body: '{"amount":1,"amount":9}' },
      400,
      /two members/,
    ],
    ['what is no JSON', '/v1/refunds/1', { method: 'POST', body: '{amount:1}' }, 400, /not JSON/],
    [
      'another type',
      '/v1/refunds/1',
      { method: 'POST', body: 'amount=1', headers: { 'content-type': 'application/x-www-form-urlencoded' } },
      415,
      /has to be application\/json/,
    ],
    ['a body where there is none', '/v1/tickets/1', { method: 'DELETE', body: '{"a":1}' }, 400, /takes no body/],
  ])('%s is refused, and the API sees nothing', async (_title, path, init, status, message) => {
    const answer = await call(path, {
      ...init,
      headers: { 'content-type': 'application/json', ...(init.headers as object) },
    })
    expect(answer.status).toBe(status)
    const { error } = (await answer.json()) as {
      error: { code: string; message: string; problems?: { message: string }[] }
    }
    expect(error.code).toBe('invalid_arguments')
    expect(`${error.message} ${JSON.stringify(error.problems)}`).toMatch(message)
    expect(api.seen).toEqual([])
  })

  test.each([
    '/v1/tickets/7/',
    '/v1/tickets//7',
    '/v1/x',
    '/v1/hidden',
    '/',
    '',
    '/V1/tickets/7',
    '/v1/tickets/7/more',
  ])('%s does not exist', async (path) => {
    const answer = await call(path)
    expect([answer.status, await answer.text()]).toEqual(
      path.includes('//')
        ? [400, expect.stringContaining('invalid_request') as string]
        : [404, '{"error":{"code":"not_found","message":"there is nothing at this address"}}'],
    )
    expect(api.seen).toEqual([])
  })

  test('what is forbidden looks exactly like what never was', async () => {
    const shape = async (answer: Response) => [
      answer.status,
      await answer.text(),
      [...answer.headers].filter(([name]) => !['date', 'connection', 'keep-alive'].includes(name)),
    ]
    const never = await shape(await call('/v1/nothing'))
    expect(await shape(await call('/v1/hidden'))).toEqual(never)
    expect(await shape(await post('/v1/nothing', {}))).toEqual(never)
    expect(await shape(await call('/v1/tickets/7', { method: 'PATCH' }))).toEqual(never)
    expect(
      await shape(
        await fetch(`${gateway.url}/api/other/v1/nothing`, { headers: { authorization: `Bearer ${token}` } }),
      ),
    ).toEqual(never)
    expect(api.seen).toEqual([])
  })

  test('a path of several segments keeps each of them', async () => {
    await call('/v1/files/a%20b/c.txt')
    expect(api.seen[0]?.url).toBe('/v1/files/a%20b/c.txt')
    expect(gateway.audit.of('decision')[0]).toMatchObject({ args: { path: 'a b/c.txt' } })
  })

  test('a listed header is an argument, and passed on', async () => {
    await call('/v1/tenant', { headers: { 'x-tenant': 'acme', 'x-other': 'no' } })
    expect(api.seen[0]?.headers).toMatchObject({ 'x-tenant': 'acme' })
    expect(api.seen[0]?.headers['x-other']).toBeUndefined()
    expect(gateway.audit.of('decision')[0]).toMatchObject({ args: { headers: { 'x-tenant': 'acme' } } })
  })

  test('forms and parts are checked like JSON, and written anew', async () => {
    await call('/v1/form', { method: 'POST', body: new URLSearchParams({ user: 'a&b', age: '7' }) })
    expect(api.seen[0]?.body.toString()).toBe('user=a%26b&age=7')
    const form = new FormData()
    form.set('title', 'T')
    form.set('file', new File(['hello'], 'a.txt', { type: 'text/plain' }))
    expect((await call('/v1/attach', { method: 'POST', body: form })).status).toBe(200)
    expect(gateway.audit.of('decision')[1]).toMatchObject({
      args: { title: 'T', file: { name: 'a.txt', type: 'text/plain', bytes: 5 } },
    })
    expect(api.seen[1]?.body.toString()).toContain('filename="a.txt"\r\nContent-Type: text/plain\r\n\r\nhello\r\n')
    form.set('file', new File(['x'.repeat(1_001)], 'a.txt', { type: 'text/plain' }))
    expect((await call('/v1/attach', { method: 'POST', body: form })).status).toBe(400)
    form.set('file', new File(['x'], 'a.bin', { type: 'application/x-binary' }))
    expect((await call('/v1/attach', { method: 'POST', body: form })).status).toBe(400)
    expect(api.seen.length).toBe(2)
  })

  test('a body that was sent compressed is decoded, and one that grows too large is refused', async () => {
    const small = gzipSync(JSON.stringify({ amount: 1 }))
    expect(
      (
        await call('/v1/refunds/1', {
          method: 'POST',
          body: small,
          headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
        })
      ).status,
    ).toBe(200)
    expect(api.seen[0]?.body.toString()).toBe('{"amount":1}')
    const bomb = gzipSync(Buffer.alloc(50_000_000, ' '))
    const answer = await call('/v1/refunds/1', {
      method: 'POST',
      body: bomb,
      headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    })
    expect(answer.status).toBe(413)
    expect(api.seen.length).toBe(1)
  })
})

describe('uploads', () => {
  test('a small one is known by its digest', async () => {
    expect((await call('/v1/upload', { method: 'PUT', body: 'hello' })).status).toBe(200)
    expect(gateway.audit.of('decision')[0]).toMatchObject({
      args: { body: { bytes: 5, sha256: '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824' } },
    })
  })

  test('a large one is passed on while it comes, and its digest recorded afterwards', async () => {
    api.on = (_seen, res) => json(res, {})
    const body = Buffer.alloc(3_000_000, 7)
    const answer = await call('/v1/upload', { method: 'PUT', body })
    expect(answer.status).toBe(200)
    await answer.text()
    expect(api.seen[0]?.body.equals(body)).toBe(true)
    expect(gateway.audit.of('action.done')[0]).toMatchObject({
      sent: 3_000_000,
      result: { sent: { bytes: 3_000_000, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string } },
    })
  })

  test('what was sent counts against `sent`, with the host that it went to: what would pass it is not sent', async () => {
    const own = await startHttpGateway(policy(api.url).replace('bytes: 3 MB/session', 'sent: 9 kB/session'))
    try {
      const [one, two] = [await own.session('reader'), await own.session('reader')]
      const upload = (as: { readonly token: string }) =>
        fetch(`${own.url}/api/desk/v1/upload`, {
          method: 'PUT',
          headers: { authorization: `Bearer ${as.token}`, 'content-type': 'application/octet-stream' },
          body: Buffer.alloc(5_000, 7),
        })
      expect((await upload(one)).status).toBe(200)
      const refused = await upload(one)
      const message = 'with 5000 bytes more, the limit of 9 kB/session sent of agent reader would be passed'
      expect([refused.status, await refused.json()]).toMatchObject([429, { error: { code: 'limited', message } }])
      expect(api.seen.length).toBe(1)
      expect((await upload(two)).status).toBe(200)
      api.on = (_seen, res) => void res.destroy()
      const three = await own.session('reader')
      expect((await upload(three)).status).toBe(502)
      expect((await upload(three)).status).toBe(429)
      const outcomes = [...own.audit.of('action.done'), ...own.audit.of('action.failed')]
      expect(outcomes.map(({ session, host, sent }) => [session, host, sent])).toEqual(
        [one, two, three].map(({ id }) => [id, '127.0.0.1', 5_000]),
      )
    } finally {
      await own.close()
    }
  })

  test('one that comes compressed is decided about, recorded and passed on decoded, at once and while it comes', async () => {
    const put = (body: Buffer, encoding = 'gzip') =>
      call('/v1/upload', { method: 'PUT', body, headers: { 'content-encoding': encoding } })
    expect((await put(gzipSync('hello'))).status).toBe(200)
    expect(gateway.audit.of('decision')[0]).toMatchObject({ args: { body: { bytes: 5, sha256: sha256('hello') } } })
    expect(api.seen[0]?.body.toString()).toBe('hello')
    expect(api.seen[0]?.headers['content-encoding']).toBeUndefined()

    api.on = (_seen, res) => json(res, {})
    const large = randomBytes(2_000_000).toString('hex')
    for (const [index, [encoding, compress]] of Object.entries({ gzip: gzipSync, deflate: deflateSync }).entries()) {
      expect((await put(compress(large), encoding)).status).toBe(200)
      expect(sha256(api.seen[index + 1]!.body)).toBe(sha256(large))
      expect(gateway.audit.of('action.done')[index + 1]).toMatchObject({
        sent: large.length,
        result: { sent: { bytes: large.length, sha256: sha256(large) } },
      })
    }
  })

  test.each([
    // Found out while it is passed on: what the API got of it has no end.
    ['a bomb', 502, gzipSync(Buffer.alloc(200_000_000)), 'gzip'],
    ['a small bomb', 413, gzipSync(Buffer.alloc(200_000_000)), 'gzip', '/v1/note'],
    ['what is decoded to nothing, without end', 413, Buffer.alloc(5_000_020, gzipSync('')), 'gzip'],
    ['what is not what it says', 400, Buffer.from('hello'), 'gzip'],
    ['one that is cut off', 400, gzipSync(randomBytes(10_000)).subarray(0, 5_000), 'gzip'],
    ['one that is cut off late', 400, gzipSync(randomBytes(3_000_000)).subarray(0, 2_000_000), 'gzip'],
    ['an encoding that is not known', 400, Buffer.from('hello'), 'lzma'],
    ['two encodings', 400, gzipSync(gzipSync('hello')), 'gzip, gzip'],
  ])(
    'compressed: %s is refused, and nothing reaches the API',
    async (_title, status, body, encoding, at = '/v1/upload') => {
      for (const sent of [body, new Blob([body]).stream()]) {
        const answer = await call(at, {
          method: 'PUT',
          body: sent,
          duplex: 'half',
          headers: { 'content-encoding': encoding, 'content-type': 'application/octet-stream' },
        }).catch(() => undefined)
        // A client that is still sending when it is refused may not see the answer.
        if (answer !== undefined) expect(answer.status).toBe(status)
        else expect(body.length).toBeGreaterThan(1_000_000)
      }
      // The head of what is passed on while it comes may have gone out; an end of it never does.
      expect(api.seen).toEqual([])
      expect((await call('/v1/upload', { method: 'PUT', body: 'still here' })).status).toBe(200)
    },
  )

  test('one that is too large is refused, whether or not it says so', async () => {
    expect((await call('/v1/upload', { method: 'PUT', body: Buffer.alloc(5_000_001) })).status).toBe(413)
    expect(api.seen).toEqual([])
    // Far more than may pass, but not without end: a client goes on for a while after it was refused.
    let left = 100
    const endless = new ReadableStream({
      pull: (stream) => (left-- > 0 ? stream.enqueue(Buffer.alloc(200_000)) : stream.close()),
    })
    const answer = await call('/v1/upload', { method: 'PUT', body: endless, duplex: 'half' }).catch(() => undefined)
    expect(answer?.status ?? 502).not.toBe(200)
    expect(api.seen).toEqual([])
  })
})

describe('answers', () => {
  test('events come through as they are sent', async () => {
    let next: () => void = () => {}
    api.on = async (_seen, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      for (let count = 0; count < 3; count++) {
        res.write(`data: ${count} ü\n\n`)
        await new Promise<void>((resolve) => (next = resolve))
      }
      res.end()
    }
    const answer = await call('/v1/events')
    const events: string[] = []
    for await (const chunk of answer.body!) {
      events.push(Buffer.from(chunk as Uint8Array).toString())
      next()
    }
    expect(events.join('')).toBe('data: 0 ü\n\ndata: 1 ü\n\ndata: 2 ü\n\n')
    expect(events.length).toBe(3)
  })

  test('a key in pieces is hidden', async () => {
    api.on = async (_seen, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      for (const letter of `a ${key} b`) {
        res.write(letter)
        await new Promise((resolve) => setImmediate(resolve))
      }
      res.end()
    }
    expect(await (await call('/v1/events')).text()).toBe('a [secret KEY] b')
  })

  test.each<[string, (url: string) => (res: ServerResponse) => void, number]>([
    ['of another type', () => (res) => void res.writeHead(200, { 'content-type': 'text/html' }).end('<p>'), 502],
    ['of no type that could be read', () => (res) => void res.writeHead(200, { 'content-type': 'x' }).end('x'), 502],
    [
      'that says it is too large',
      () => (res) =>
        void res
          .writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': '1000001' })
          .end(Buffer.alloc(1_000_001)),
      502,
    ],
    [
      'in an unknown encoding',
      () => (res) =>
        void res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-encoding': 'lzma' }).end('x'),
      502,
    ],
    [
      'that asks for a proxy’s password',
      () => (res) => void res.writeHead(407, { 'content-type': 'application/octet-stream' }).end('x'),
      502,
    ],
  ])('an answer %s is refused', async (_title, make, status) => {
    api.on = (_seen, res) => make(api.url)(res)
    const answer = await call('/v1/blob')
    expect(answer.status).toBe(status)
    expect(await answer.json()).toMatchObject({ error: { code: 'upstream' } })
    expect(gateway.audit.of('action.failed')[0]).toMatchObject({ mayHaveHappened: true })
  })

  test('an answer that grows too large is cut off, and its bytes count', async () => {
    api.on = (_seen, res) => {
      res.writeHead(200, { 'content-type': 'application/octet-stream' })
      res.write(Buffer.alloc(600_000))
      res.end(Buffer.alloc(600_000))
    }
    for (let count = 0; count < 4; count++) await expect((await call('/v1/blob')).arrayBuffer()).rejects.toThrow()
    expect(gateway.audit.of('action.failed')[0]).toMatchObject({ code: 'too_large' })
    expect((await call('/v1/blob')).status).toBe(429)
  })

  test('a bomb goes off in the gateway', async () => {
    const bomb = gzipSync(Buffer.alloc(200_000_000))
    api.on = (_seen, res) =>
      void res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-encoding': 'gzip' }).end(bomb)
    await expect((await call('/v1/blob')).arrayBuffer()).rejects.toThrow()
    expect(gateway.audit.of('action.failed')[0]).toMatchObject({ code: 'too_large' })
  })

  test('compressed answers are decoded', async () => {
    api.on = (seen, res) => {
      expect(seen.headers['accept-encoding']).toBe('identity')
      res
        .writeHead(200, { 'content-type': 'application/octet-stream', 'content-encoding': 'gzip' })
        .end(gzipSync(`x ${key}`))
    }
    const answer = await call('/v1/blob', { headers: { 'accept-encoding': 'br' } })
    expect(answer.headers.get('content-encoding')).toBeNull()
    expect(await answer.text()).toBe('x [secret KEY]')
  })

  test('one that takes too long ends', async () => {
    await gateway.close()
    gateway = await startHttpGateway(
      policy(
        api.url,
        `      slow: { request: "GET /v1/slow", effect: read, response: { time: 100 ms } }\n`,
        '      - desk:slow',
      ),
    )
    ;({ token } = await gateway.session('reader'))
    api.on = () => {}
    const answer = await call('/v1/slow')
    expect(answer.status).toBe(504)
    api.on = (_seen, res) => void res.writeHead(200, { 'content-type': 'text/plain' }).write('begun')
    await expect((await call('/v1/slow')).text()).rejects.toThrow()
  })

  test('a session that ends in the middle of an answer gets no more of it', async () => {
    let closed!: () => void
    const gone = new Promise<void>((resolve) => (closed = resolve))
    api.on = (_seen, res) => {
      res.once('close', closed)
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n')
    }
    const answer = await call('/v1/events')
    const reader = answer.body!.getReader()
    expect(Buffer.from((await reader.read()).value as Uint8Array).toString()).toBe('data: 1\n\n')
    await gateway.sessions.end([session], 'killed', 'person:dora')
    await expect(reader.read()).rejects.toThrow()
    await gone
  })

  test('a client that leaves takes its request with it', async () => {
    let closed!: () => void
    const gone = new Promise<void>((resolve) => (closed = resolve))
    const leave = new AbortController()
    api.on = (_seen, res) => {
      res.once('close', closed)
      leave.abort()
    }
    await expect(call('/v1/events', { signal: leave.signal })).rejects.toThrow()
    await gone
  })

  test('addresses of the API become addresses here; others are left out', async () => {
    api.on = (_seen, res) => {
      res.setHeader('link', `<${api.url}/v1/tickets?page=2>; rel="next", <https://elsewhere.example/x>; rel="last"`)
      res.setHeader('location', `${api.url}/v1/tickets/8`)
      json(res, {}, 201)
    }
    const answer = await call('/v1/tickets/7')
    expect(answer.headers.get('link')).toBe('</api/desk/v1/tickets?page=2>; rel="next"')
    expect(answer.headers.get('location')).toBe('/api/desk/v1/tickets/8')
    api.on = (_seen, res) => void res.writeHead(302, { location: 'http://169.254.169.254/' }).end()
    const moved = await call('/v1/tickets/7')
    expect([moved.status, moved.headers.get('location')]).toEqual([302, null])
  })

  test('HEAD has a head alone', async () => {
    const answer = await call('/v1/tickets/7', { method: 'HEAD' })
    expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([
      200,
      'application/json',
      '',
    ])
    expect((await call('/v1/nothing', { method: 'HEAD' })).status).toBe(404)
  })
})

describe('approvals', () => {
  test('promise 5: the repeated request uses the answer once, a changed one asks anew', async () => {
    const first = await call('/v1/tickets/x', { method: 'DELETE' })
    expect(first.status).toBe(403)
    const { error } = (await first.json()) as { error: { code: string; approval: { id: string } } }
    expect(error.code).toBe('approval_pending')
    await gateway.approvals.answer(
      error.approval.id,
      { kind: 'person', name: 'anna', roles: ['approver'], teams: [] } as never,
      { verdict: 'approve' } as never,
    )
    expect((await call('/v1/tickets/y', { method: 'DELETE' })).status).toBe(403)
    expect((await call('/v1/tickets/x', { method: 'DELETE' })).status).toBe(200)
    expect((await call('/v1/tickets/x', { method: 'DELETE' })).status).toBe(403)
    expect(api.seen.map(({ url }) => url)).toEqual(['/v1/tickets/x'])
  })
})
