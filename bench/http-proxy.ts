// What an HTTP request costs through the gateway, with every decision durable before the act, beside the same request
// made directly: same client, same API, same run, taking turns. By base URL; through the proxy as plain HTTP; with TLS that
// the proxy opens (beside TLS straight to the API), and with TLS that it passes on. A JSON POST of 2 KB, a stream of 200
// events, a download of 10 MB. Connections are kept. `node bench/http-proxy.ts [--rounds 5] [--ms 1500] [--only download]`
import fs from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { RequestListener } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import path from 'node:path'
import { Pool, ProxyAgent } from 'undici'
import type { StartedSession, Status } from '../src/control/wire.ts'
import { openAuthority } from '../src/gateway/http/certificates.ts'
import type { Usage } from './gateway.ts'
import { answerQuestions, flag, inFolder, machine, median, startPart, syncsPerSecond } from './parts.ts'

interface Load {
  readonly base: string
  readonly token?: string
  readonly proxy?: { readonly uri: string; readonly token: string }
  /** A certificate to trust, PEM. */
  readonly ca?: string
  readonly kind: keyof typeof kinds
  readonly inFlight: number
  readonly milliseconds: number
}

interface Measured {
  readonly requests: number
  readonly seconds: number
  /** Milliseconds: to the end of the answer, and to its first byte. */
  readonly p50: number
  readonly p99: number
  readonly first: number
}

const text = 'x'.repeat(1_960)
const kinds = {
  'JSON POST, 2 KB': { method: 'POST', path: '/v1/json', body: JSON.stringify({ amount: 1, text }), bytes: 2_000 },
  'SSE, 200 events': { method: 'GET', path: '/v1/events', body: undefined, bytes: 10_000 },
  'download, 10 MB': { method: 'GET', path: '/v1/big', body: undefined, bytes: 10_000_000 },
} as const

const [role] = process.argv.slice(2)
if (role === 'api') await serve()
else if (role === 'client') answerQuestions(measureLoad)
else await measureAll()

/** The API: it does as little as it can. */
async function serve(): Promise<void> {
  const big = Buffer.alloc(kinds['download, 10 MB'].bytes, 'a')
  const answer = Buffer.from(JSON.stringify({ ok: true, text }))
  const answerAll: RequestListener = (req, res) => {
    req.resume()
    req.once('end', () => {
      if (req.url === '/v1/json')
        return void res
          .writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length })
          .end(answer)
      if (req.url === '/v1/big')
        return void res
          .writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': big.length })
          .end(big)
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      let count = 0
      const next = (): void => {
        res.write(`data: {"index":${count},"delta":"some words of it"}\n\n`)
        if (++count === 200) res.end()
        else setImmediate(next)
      }
      next()
    })
  }
  const [folder = ''] = process.argv.slice(3)
  const certificateFile = path.join(folder, 'api.pem')
  const { credentialFor } = openAuthority({ keyFile: path.join(folder, 'api.key'), certificateFile, clock: Date.now })
  const plain = createServer(answerAll)
  const [opened, passed] = [0, 1].map(() => createTlsServer(credentialFor('127.0.0.1'), answerAll))
  const at = (server: Server): string => `127.0.0.1:${(server.address() as AddressInfo).port}`
  const all = [plain, opened!, passed!]
  await Promise.all(all.map((server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))))
  answerQuestions(
    (): Served => ({ plain: at(plain), opened: at(opened!), passed: at(passed!), certificateFile }),
    async () => {
      for (const server of all) server.closeAllConnections()
    },
  )
}

/** Where the API is: the same three times, for what the gateway is to do with it. */
interface Served {
  readonly plain: string
  readonly opened: string
  readonly passed: string
  readonly certificateFile: string
}

async function measureLoad({ base, token, proxy, ca, kind, inFlight, milliseconds }: Load): Promise<Measured> {
  const url = new URL(base)
  const bounds = { connections: inFlight, pipelining: 1 }
  const tls = ca === undefined ? {} : { ca }
  const pool =
    proxy === undefined
      ? new Pool(url.origin, { ...bounds, connect: tls })
      : new ProxyAgent({ uri: proxy.uri, token: proxy.token, requestTls: tls, ...bounds })
  const { method, path: at, body, bytes: least } = kinds[kind]
  const headers = {
    'content-type': 'application/json',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  }
  const times: number[] = []
  const firsts: number[] = []
  const began = performance.now()
  const worker = async (): Promise<void> => {
    while (performance.now() - began < milliseconds || times.length < inFlight) {
      const start = performance.now()
      const answer = await pool.request({
        origin: url.origin,
        method,
        path: url.pathname.replace(/\/$/, '') + at,
        headers,
        body: body ?? null,
      })
      let bytes = 0
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        if (bytes === 0) firsts.push(performance.now() - start)
        bytes += chunk.length
      }
      if (answer.statusCode !== 200 || bytes < least * 0.9) throw new Error(`${answer.statusCode}, ${bytes} bytes`)
      times.push(performance.now() - start)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  const seconds = (performance.now() - began) / 1_000
  await pool.close()
  const at99 = [...times].sort((a, b) => a - b)[Math.floor(times.length * 0.99)]!
  return { requests: times.length, seconds, p50: median(times), p99: at99, first: median(firsts) }
}

async function measureAll(): Promise<void> {
  const rounds = flag('rounds', 5)
  const milliseconds = flag('ms', 1_500)
  await inFolder(async (folder) => {
    const api = startPart('http-proxy.ts', ['api', folder])
    const served = await api.ask<Served>({})
    // The gateway checks certificates of APIs as everywhere: this one is of a machine's own authority.
    process.env['NODE_EXTRA_CA_CERTS'] = served.certificateFile
    const direct = `http://${served.plain}`
    const file = path.join(folder, 'sallyport.yaml')
    const state = path.join(folder, 'state')
    const object = {
      type: 'object',
      properties: { amount: { type: 'integer' }, text: { type: 'string', maxLength: 4_000 } },
      required: ['amount'],
    }
    const credential = { bearer: '${env:DESK_KEY}' }
    const operations = {
      json: { request: 'POST /v1/json', effect: 'write', body: object },
      events: { request: 'GET /v1/events', effect: 'read', response: { types: ['text/event-stream'] } },
      big: { request: 'GET /v1/big', effect: 'read', response: { types: ['application/octet-stream'], size: '20 MB' } },
    }
    const settings = {
      listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0', proxy: '127.0.0.1:0' },
      state,
      resources: {
        desk: { http: direct, credential, operations },
        tls: { http: `https://${served.opened}`, credential, operations },
        out: { tunnel: [served.passed], size: '100 GB' },
      },
      agents: {
        agent: {
          may: [
            ...['desk', 'tls'].flatMap((api) => [
              `${api}:events`,
              `${api}:big`,
              { do: `${api}:json`, when: 'args.amount <= 5000' },
            ]),
            { do: 'out:connect', ask: 'never' },
          ],
          limits: { calls: ['100000000/min', '100000000/session'], repeats: 'unlimited' },
        },
      },
    }
    fs.writeFileSync(file, JSON.stringify(settings))
    process.env['DESK_KEY'] = 'sk-bench-0123456789abcdef'
    const gateway = startPart('gateway.ts', [file], ['--expose-gc'])
    const { agents, people, proxy: listening } = await gateway.ask<Status>({ what: 'status' })
    const key = fs.readFileSync(path.join(state, 'admin.key'), 'utf8').trim()
    const started = await fetch(`${people.url}/v1/sessions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ agent: 'agent', lasts: 7_200 }),
    })
    const { token } = (await started.json()) as StartedSession
    const client = startPart('http-proxy.ts', ['client'])
    const usage = (what: 'usage' | 'collected'): Promise<Usage> => gateway.ask<Usage>({ what })

    const proxy = { uri: listening!.url, token: `Basic ${Buffer.from(`agent:${token}`).toString('base64')}` }
    const [ca, apiCa] = [path.join(state, 'ca.pem'), served.certificateFile].map((each) =>
      fs.readFileSync(each, 'utf8'),
    )
    const plainly = { base: direct }
    const encrypted = { base: `https://${served.opened}`, ca: apiCa }
    const styles = [
      { style: 'base URL', direct: plainly, through: { base: `${agents.url}/api/desk`, token } },
      { style: 'proxy, plain', direct: plainly, through: { base: direct, proxy } },
      { style: 'proxy, opened', direct: encrypted, through: { base: encrypted.base, proxy, ca } },
      { style: 'proxy, tunnel', direct: encrypted, through: { base: `https://${served.passed}`, proxy, ca: apiCa } },
    ] as const

    const rows: object[] = []
    const syncs: number[] = []
    const before = await usage('collected')
    let peak = 0
    const only = process.argv[process.argv.indexOf('--only') + 1] ?? ''
    const wanted = (Object.keys(kinds) as (keyof typeof kinds)[]).filter(
      (kind) => !process.argv.includes('--only') || kind.includes(only),
    )
    for (const kind of wanted)
      for (const [inFlight, { style, ...ways }] of [1, 32].flatMap((each) =>
        styles.map((one) => [each, one] as const),
      )) {
        const load = { kind, inFlight }
        const all: Record<keyof typeof ways, Measured[]> = { direct: [], through: [] }
        const cpu: number[] = []
        for (const way of ['direct', 'through'] as const) await client.ask({ ...load, ...ways[way], milliseconds: 500 })
        for (let round = 0; round < rounds; round++) {
          syncs.push(syncsPerSecond(folder, 100))
          all.direct.push(await client.ask<Measured>({ ...load, ...ways.direct, milliseconds }))
          const at = await usage('usage')
          const measured = await client.ask<Measured>({ ...load, ...ways.through, milliseconds })
          const after = await usage('usage')
          all.through.push(measured)
          cpu.push(((after.cpu - at.cpu) / measured.requests) * 1e6)
          peak = Math.max(peak, after.rss)
        }
        const of = (way: keyof typeof ways, pick: (each: Measured) => number): number => median(all[way].map(pick))
        const added = (pick: (each: Measured) => number): string =>
          median(all.through.map((each, at) => pick(each) - pick(all.direct[at]!))).toFixed(2)
        rows.push({
          what: kind,
          style,
          'in flight': inFlight,
          'direct/s': Math.round(of('direct', ({ requests, seconds }) => requests / seconds)),
          'through/s': Math.round(of('through', ({ requests, seconds }) => requests / seconds)),
          'direct p50 ms': of('direct', ({ p50 }) => p50).toFixed(2),
          'added p50': added(({ p50 }) => p50),
          'added p99': added(({ p99 }) => p99),
          'added to first byte': added(({ first }) => first),
          'CPU µs': Math.round(median(cpu)),
        })
      }
    const after = await usage('collected')
    console.log(machine())
    console.log(
      `medians of ${rounds} rounds that took turns; the disk made 600 bytes durable ${Math.round(median(syncs))} times a second in the same minutes`,
    )
    console.table(rows)
    console.log(
      `gateway: heap ${before.heap.toFixed(0)} to ${after.heap.toFixed(0)} MB after a collection; resident ${before.rss.toFixed(0)} MB at first, ${peak.toFixed(0)} MB at most`,
    )
    await client.end()
    await gateway.end()
    await api.end()
  })
}
