// Clients and servers that would take the gateway away from others, against the whole of it in a process of its own.
import fs from 'node:fs'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { afterAll, afterEach, expect, test } from 'vitest'
import { hostileCommand } from '../mcp/hostile-server.ts'
import type { HostileMode } from '../mcp/hostile-server.ts'
import { initialize } from '../support/mcp.ts'
import { removeFolders, startSallyport, until } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'
import { scriptedUpstream } from '../support/upstream.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})
afterAll(removeFolders)

const modern = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
}

async function open(hostile: readonly HostileMode[] = []) {
  const upstream = await scriptedUpstream()
  closing.push(upstream.close)
  upstream.tools = ['echo', 'hang'].map((name) => ({ name, inputSchema: { type: 'object' } }))
  upstream.onCall = ({ params }) =>
    params['name'] === 'hang' ? undefined : { content: [{ type: 'text', text: 'well and alive' }] }
  const programs = hostile.map((mode, index): [name: string, resource: object] => {
    const { command, args } = hostileCommand(mode)
    return [`bad${index}`, { mcp: { command: [command, ...args] }, timeout: '2 s' }]
  })
  const gateway = await startSallyport({
    as: 'process',
    // A gateway that takes more than it should ends here, and not only on machines that have less.
    nodeArgs: ['--max-old-space-size=1024'],
    settings: {
      approvals: { hold: '1 ms' },
      resources: {
        desk: { mcp: { url: upstream.url }, tools: { echo: 'read', hang: 'read' } },
        ...Object.fromEntries(programs),
      },
      agents: {
        bad: {
          may: ['desk:echo', 'desk:hang', ...programs.map(([name]) => ({ do: `${name}:*`, ask: 'never' }))],
          limits: { repeats: 'unlimited' },
        },
        good: { may: ['desk:echo'], limits: { repeats: 'unlimited' } },
      },
    },
  })
  closing.push(gateway.kill)
  const bad = await gateway.session('bad')
  const good = await gateway.session('good')

  /** Another session's calls go on, each within this many milliseconds, as long as it lasts. */
  async function othersGoOn(during: Promise<unknown>, within = 8_000): Promise<void> {
    const over = new AbortController()
    const ended = during.finally(() => over.abort())
    do {
      const started = performance.now()
      const { text } = await gateway.call(good.token, 'desk__echo', {}, { signal: AbortSignal.timeout(20_000) })
      expect(text).toContain('well and alive')
      expect(performance.now() - started).toBeLessThan(within)
    } while (!over.signal.aborted)
    await ended
  }
  return { gateway, upstream, bad, othersGoOn }
}

/** The most that a process ever held, in megabytes; 0 where the system does not tell. */
function mostMemory({ child }: Sallyport): number {
  if (process.platform !== 'linux') return 0
  return Number(/VmHWM:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${child?.pid}/status`, 'utf8'))?.[1]) / 1024
}

async function socketTo(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  closing.push(() => socket.destroy())
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

function headOf(gateway: Sallyport, token: string, more: Readonly<Record<string, string | number>>): string {
  const headers = {
    host: new URL(gateway.url).host,
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    accept: 'application/json, text/event-stream',
    'mcp-protocol-version': '2026-07-28',
    'mcp-method': 'tools/call',
    'mcp-name': 'desk__hang',
    ...more,
  }
  return `POST /mcp HTTP/1.1\r\n${Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`
}

const callWith = (name: string, args: string): string =>
  JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: { name, arguments: 'HERE', _meta: modern },
  }).replace('"HERE"', args)

test.each([
  ['long texts', `{"a":"${'x'.repeat(4_000_000)}"}`],
  ['lists of nothing', `{"a":[${'{},'.repeat(1_300_000)}0]}`],
  ['many numbers', `{"a":[${'1.5,'.repeat(900_000)}0]}`],
  ['brackets within brackets', `{"a":[${`${'['.repeat(50)}${']'.repeat(50)},`.repeat(38_000)}0]}`],
])('promise 9: sixty of the largest requests at once, of %s, hold nobody else up', async (_what, args) => {
  const { gateway, bad, othersGoOn } = await open()
  const body = callWith('desk__hang', args)
  expect(body.length).toBeLessThan(4 * 1024 * 1024)
  const head = headOf(gateway, bad.token, { 'content-length': body.length })
  const sending = Array.from({ length: 60 }, async () => {
    const socket = await socketTo(gateway.url)
    socket.write(head)
    socket.write(body)
    // Answered, cut off while it was still sent, or on its way at the upstream.
    const ended = [once(socket, 'data'), once(socket, 'close')].map((event) => event.catch(() => {}))
    await Promise.race([...ended, new Promise((resolve) => setTimeout(resolve, 3_000))])
  })
  await othersGoOn(Promise.all(sending))
  expect(mostMemory(gateway)).toBeLessThan(1_000)
})

test('promise 9: what a session is refused for having too much on its way, it gets when that was answered', async () => {
  const { gateway, upstream, bad, othersGoOn } = await open()
  const args = { a: 'x'.repeat(4_000_000) }
  const leaving = new AbortController()
  const held = [1, 2, 3, 4].map((n) =>
    gateway.call(bad.token, 'desk__hang', { ...args, n }, { signal: leaving.signal }).catch(() => {}),
  )
  await until('four are at the upstream', () => upstream.calls().length === 4)
  expect((await gateway.call(bad.token, 'desk__echo', args)).status).toBe(503)
  expect((await gateway.call(bad.token, 'desk__echo', {})).text).toContain('well and alive')
  await othersGoOn(
    gateway
      .call((await gateway.session('good')).token, 'desk__echo', args)
      .then(({ text }) => expect(text).toContain('well and alive')),
  )
  leaving.abort()
  await Promise.all(held)
  await until('there is room again', async () =>
    (await gateway.call(bad.token, 'desk__echo', args)).text.includes('well and alive'),
  )
})

test('promise 9: requests behind one another on a connection are answered in turn, and no rest of a refused one is taken for the next', async () => {
  const { gateway, bad, upstream, othersGoOn } = await open()
  const small = callWith('desk__echo', '{}')
  const head = headOf(gateway, bad.token, { 'mcp-name': 'desk__echo', 'content-length': small.length })
  const read = async (socket: Socket): Promise<string> => {
    let text = ''
    socket.setEncoding('utf8').on('data', (data: string) => (text += data))
    await Promise.race([once(socket, 'close'), new Promise((resolve) => setTimeout(resolve, 1_500))])
    return text
  }
  const pipelined = await socketTo(gateway.url)
  pipelined.write((head + small).repeat(50))
  expect((await read(pipelined)).match(/well and alive/g)).toHaveLength(50)

  // Each hides a good request in what was refused.
  const hidden = head + small
  const before = upstream.calls().length
  for (const carrier of [
    headOf(gateway, bad.token, { 'content-type': 'text/plain', 'content-length': hidden.length }) + hidden,
    headOf(gateway, 'nobody', { 'content-length': hidden.length }) + hidden,
    headOf(gateway, bad.token, { 'content-length': 5_000_000 }) + hidden,
    headOf(gateway, bad.token, { 'content-length': 4, 'transfer-encoding': 'chunked' }) + `0\r\n\r\n${hidden}`,
    headOf(gateway, bad.token, { 'content-length': '0, 10' }) + hidden,
    headOf(gateway, bad.token, { 'transfer-encoding': 'chunked, identity' }) + `0\r\n\r\n${hidden}`,
    headOf(gateway, bad.token, { 'transfer-encoding': 'xchunked' }) + hidden,
    headOf(gateway, bad.token, { expect: '100-continue', host: 'evil.example', 'content-length': hidden.length }) +
      hidden,
  ]) {
    const socket = await socketTo(gateway.url)
    socket.write(carrier)
    expect(await read(socket)).not.toContain('well and alive')
  }
  expect(upstream.calls()).toHaveLength(before)
  await othersGoOn(Promise.resolve())
}, 60_000)

test('promise 9: clients that never read what they asked for are let go of', async () => {
  const { gateway, upstream, bad, othersGoOn } = await open()
  // Each call brings a megabyte, and hundreds of lines of progress before it.
  upstream.onCall = ({ params, res, id }) => {
    if (params['name'] === 'echo' && (params['arguments'] as { big?: true }).big !== true)
      return { content: [{ type: 'text', text: 'well and alive' }] }
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    const token = (params['_meta'] as Record<string, unknown>)['progressToken']
    for (let progress = 1; progress <= 300; progress++)
      res.write(
        `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: token, progress, message: 'p'.repeat(1_000) } })}\n\n`,
      )
    res.end(
      `data: ${JSON.stringify({ jsonrpc: '2.0', id, result: { resultType: 'complete', content: [{ type: 'text', text: 'r'.repeat(900_000) }] } })}\n\n`,
    )
    return undefined
  }
  const body = callWith('desk__echo', '{"big":true}').replace('"_meta":{', '"_meta":{"progressToken":1,')
  const head = headOf(gateway, bad.token, { 'mcp-name': 'desk__echo', 'content-length': body.length })
  const sockets = await Promise.all(Array.from({ length: 50 }, () => socketTo(gateway.url)))
  for (const socket of sockets) {
    socket.pause()
    socket.write((head + body).repeat(3))
  }
  await othersGoOn(
    until(
      'they were all called',
      () => upstream.calls().filter(({ params }) => (params['arguments'] as { big?: true }).big).length >= 50,
      30_000,
    ),
  )
  // Streams of the legacy protocol that nobody reads, while lists change and change.
  for (let count = 0; count < 20; count++) {
    const client = await initialize({ url: gateway.url, token: bad.token })
    const stream = await socketTo(gateway.url)
    stream.pause()
    stream.write(
      `GET /mcp HTTP/1.1\r\nhost: ${new URL(gateway.url).host}\r\nauthorization: Bearer ${bad.token}\r\naccept: text/event-stream\r\nmcp-session-id: ${client.session}\r\n\r\n`,
    )
  }
  const changing = setInterval(() => upstream.notify('notifications/tools/list_changed'), 1)
  await othersGoOn(new Promise((resolve) => setTimeout(resolve, 1_000)))
  clearInterval(changing)
  expect(mostMemory(gateway)).toBeLessThan(1_000)
})

test('promise 9: thousands of legacy sessions, of names that never were, and of methods that are none, of one agent', async () => {
  const { gateway, bad, othersGoOn } = await open()
  const many = async (count: number, one: (n: number) => Promise<unknown>): Promise<void> => {
    let next = 0
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        while (next < count) await one(next++)
      }),
    )
  }
  await othersGoOn(many(2_000, () => initialize({ url: gateway.url, token: bad.token })))
  await othersGoOn(many(1_000, (n) => gateway.call(bad.token, `desk__${n}${'n'.repeat(5_000)}`)))
  await othersGoOn(many(500, (n) => gateway.ask(bad.token, 'sallyport/none', { n })))
  expect(mostMemory(gateway)).toBeLessThan(1_000)
})

test('promise 9: servers that flood, hang, lie and die, all at once', async () => {
  const modes: HostileMode[] = [
    'floods-line',
    'floods-notifications',
    'floods-list-changed',
    'floods-stderr',
    'hangs-on-call',
    'drips-on-call',
    'dies-mid-call',
    'dies-at-start',
    'answers-giant',
    'answers-wide',
    'answers-deep',
    'offers-10000-tools',
    'schema-exponential',
  ]
  const { gateway, bad, othersGoOn } = await open(modes)
  await othersGoOn(Promise.all(modes.map((_mode, index) => gateway.call(bad.token, `bad${index}__act`))), 10_000)
  await othersGoOn(Promise.all(modes.map((_mode, index) => gateway.call(bad.token, `bad${index}__act`))), 10_000)
  expect(mostMemory(gateway)).toBeLessThan(1_000)
  expect(gateway.child?.exitCode).toBeNull()
}, 60_000)

test('promise 9: people reach their side, and can end it, whatever agents and strangers send', async () => {
  const { gateway, upstream, bad } = await open()
  const strangers = await Promise.all(Array.from({ length: 200 }, () => socketTo(gateway.peopleUrl)))
  const { host } = new URL(gateway.peopleUrl)
  for (const [index, socket] of strangers.entries())
    socket.write(
      [
        `POST /v1/kill HTTP/1.1\r\nhost: ${host}\r\n`,
        `POST /v1/kill HTTP/1.1\r\nhost: ${host}\r\ncontent-length: 100000000\r\n\r\n${'{'.repeat(100_000)}`,
        '\u0016\u0003\u0001garbage\r\n\r\n',
        '',
      ][index % 4]!,
    )
  const calls = Array.from({ length: 64 }, (_, n) => gateway.call(bad.token, 'desk__hang', { n }).catch(() => {}))
  await until('they are on their way', () => upstream.calls().length === 64)
  expect((await gateway.status()).sessions).toBe(2)
  const { took } = await gateway.admin<{ took: number }>('POST', '/v1/kill', { target: 'all' })
  expect(took).toBeLessThan(1_000)
  await Promise.all(calls)
})
