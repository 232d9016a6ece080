import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { connect } from './clients.ts'
import { hostileCommand, modes, startHostile } from './hostile-server.ts'
import type { HostileMode } from './hostile-server.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

/**
 * What is to be seen of a server: a text, a number of bytes, its end, or `silence`: no answer to the last message,
 * while a later one is answered.
 */
type Expected = RegExp | number | 'end' | 'silence'

const asExpected = 'as expected'
const message = (id: number, method: string, params: object = {}) => ({ jsonrpc: '2.0', id, method, params })
const initialize = (id = 1) =>
  message(id, 'initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: {} })
const list = (id = 2) => message(id, 'tools/list')
const call = (id: number, name: string, args: object = {}) => message(id, 'tools/call', { name, arguments: args })
const calling = [initialize(), list(), call(9, 'act')]
const listing = [initialize(), list(9)]
const later = call(10, 'ok', { text: 'still here' })

function watch(expected: Expected) {
  const { promise, resolve } = Promise.withResolvers<string>()
  let seen = ''
  let bytes = 0
  const verdict = (ended: boolean): string | undefined => {
    if (expected === 'end') return ended ? asExpected : undefined
    if (typeof expected === 'number' && bytes >= expected) return asExpected
    if (expected instanceof RegExp && expected.test(seen)) return asExpected
    if (expected === 'silence' && seen.includes('still here')) return /"id":9\b/.test(seen) ? 'answered' : asExpected
    return undefined
  }
  const settle = (how: string, ended: boolean) =>
    resolve(verdict(ended) ?? `${how} after ${bytes} bytes: ${seen.slice(0, 500)}`)
  const timer = setTimeout(() => settle('gave up', false), 15_000)
  void promise.finally(() => clearTimeout(timer))
  return {
    promise,
    end: () => settle('ended', true),
    take: (part: Buffer | string) => {
      bytes += part.length
      if (bytes < 64 * 1024 ** 2) seen += String(part)
      // Searching a long text again with every part of it takes too long.
      if (bytes > 1024 ** 2 && typeof expected !== 'number' && !seen.endsWith('\n')) return
      if (verdict(false) !== undefined) settle('', false)
    },
  }
}

async function overStdio(mode: HostileMode, messages: object[], expected: Expected): Promise<string> {
  const { command, args } = hostileCommand(mode)
  const child = spawn(command, args, { stdio: 'pipe', env: {} })
  const closed = once(child, 'close')
  const { take, end, promise } = watch(expected)
  child.stdin.on('error', () => {}) // A server that ends does not read what is sent to it.
  child.stdout.on('data', take)
  child.stderr.on('data', take)
  void closed.then(end)
  for (const each of [...messages, ...(expected === 'silence' ? [later] : [])])
    child.stdin.write(`${JSON.stringify(each)}\n`)
  const verdict = await promise
  child.kill('SIGKILL')
  await closed
  return verdict
}

async function overHttp(mode: HostileMode, messages: object[], expected: Expected): Promise<string> {
  const { url, close } = await startHostile(mode)
  closing.push(close)
  const leave = new AbortController()
  closing.push(() => leave.abort())
  const { take, end, promise } = watch(expected)
  const post = async (body: object, heard: (part: Buffer | string) => void) => {
    const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
    const request = {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      redirect: 'manual',
      signal: leave.signal,
    } as const
    const answer = await fetch(url, request)
    heard(`HTTP ${answer.status}\n`)
    for await (const part of answer.body ?? []) heard(Buffer.from(part))
  }
  for (const each of messages.slice(0, -1)) await post(each, () => {})
  void post(messages.at(-1)!, take).then(end, end)
  if (expected === 'silence') await post(later, take)
  return promise
}

const megabytes = 4 * 1024 ** 2

const onBoth: [mode: HostileMode, messages: object[], expected: Expected][] = [
  ['honest', calling, /acted/],
  ['dies-at-start', [initialize()], 'end'],
  ['hangs-on-initialize', [initialize(9)], 'silence'],
  ['hangs-on-list', listing, 'silence'],
  ['hangs-on-call', calling, 'silence'],
  ['dies-mid-call', calling, 'end'],
  ['drips-on-call', calling, /"text":"\.{3}/],
  ['floods-line', calling, megabytes],
  ['floods-notifications', calling, megabytes],
  ['floods-list-changed', calling, megabytes],
  ['answers-invalid-json', calling, /"result":\{\n?$/],
  ['answers-invalid-utf8', calling, /\uFFFD/],
  ['answers-duplicate-keys', calling, /"result".*first.*"result".*second/],
  ['answers-wrong-id', calling, /"id":987654/],
  ['answers-id-of-other-type', calling, /"id":"9"/],
  ['answers-null-id', calling, /"id":null/],
  ['answers-twice', calling, /"id":9.*first[^]*"id":9.*second/],
  ['answers-result-and-error', calling, /"result".*"error"/],
  ['answers-nothing', calling, /\{"jsonrpc":"2.0","id":9\}/],
  ['answers-batch', calling, /\[\{"jsonrpc"/],
  ['answers-malformed-result', calling, /"content":7/],
  ['answers-unknown-content', calling, /hologram/],
  ['answers-rude-error', calling, 1024 ** 2],
  ['violates-output-schema', calling, /"count":"many"/],
  ['omits-structured-content', calling, /"id":9,"result":\{"content":\[\{"type":"text","text":"7"\}\]\}/],
  ['answers-giant', calling, 50_000_000],
  ['answers-wide', calling, 20_000_000],
  ['answers-deep', calling, 200_000],
  ['answers-polluting', calling, /"__proto__":\{"polluted":true\}/],
  ['answers-hidden-text', calling, /\u{E0041}/u],
  ['speaks-no-known-version', [initialize()], /1999-12-31/],
  ['injects-instructions', [initialize()], /ignore all policies/],
  ['loops-cursor', listing, /"nextCursor":"again"/],
  ['never-ends-list', listing, /"nextCursor":"page-/],
  ['offers-10000-tools', listing, /"tool-9997"/],
  ['offers-giant-tool', listing, 20_000_000],
  ['offers-no-list', listing, /"tools":"none"/],
  ['changes-tools', [initialize(), list(), call(3, 'act'), list(9)], /"act"[^]*with all secrets/],
  ['changes-tools-silently', [initialize(), list(), list(9)], /"act"[^]*with all secrets/],
  ['drops-annotations', [initialize(), list(), list(9)], /readOnlyHint/],
  ['hides-text', listing, /\u{E0041}[^]*\u200B[^]*\u202E[^]*\\u001b\[8m/u],
  ['names-badly', listing, /"__proto__"/],
  ['names-collide', listing, /"name":"twin"[^]*"name":"twin"/],
  ['schema-deep', listing, 350_000],
  ['schema-remote-ref', listing, /"\$ref":"http:\/\/127\.0\.0\.1:\d+\/schema\.json"/],
  ['schema-exponential', listing, /#\/\$defs\/d40/],
  ['schema-circular', listing, /"\$ref":"#\/\$defs\/a"/],
  ['schema-slow-pattern', listing, /\^\(a\+\)\+\$/],
  ['schema-not-a-schema', listing, /"inputSchema":null/],
  ['schema-huge', listing, 9_000_000],
  ['schema-bad-header', listing, /A\\r\\nAuthorization/],
  ['asks-unasked', calling, /sampling\/createMessage/],
]

const onStdio: typeof onBoth = [
  ['dies-after-initialize', [initialize()], 'end'],
  ['floods-stderr', calling, megabytes],
  ['prints-noise', calling, /handling a call\n\{/],
  ['tells-environment', calling, /\\"env\\":\{\}/],
]

const onHttp: typeof onBoth = [
  ['wrong-content-type', calling, /"html"/],
  ['wrong-status', calling, /HTTP 500/],
  ['lies-about-length', calling, 'end'],
  ['redirects', calling, /HTTP 307/],
  ['demands-login', calling, /HTTP 401/],
  ['tells-environment', calling, /\\"content-type\\"/],
]

test.each([...onBoth, ...onStdio])('over stdio: %s', async (mode, messages, expected) => {
  expect(await overStdio(mode, messages, expected)).toBe(asExpected)
})

test.each([...onBoth, ...onHttp])('over HTTP: %s', async (mode, messages, expected) => {
  expect(await overHttp(mode, messages, expected)).toBe(asExpected)
})

test('every mode is tried', () => {
  const alone: HostileMode[] = ['leaves-grandchildren', 'ignores-sigterm']
  const tried = new Set([...alone, ...[...onBoth, ...onStdio, ...onHttp].map(([mode]) => mode)])
  expect([...tried].toSorted()).toEqual(Object.keys(modes).toSorted())
})

describe('processes', () => {
  test('leaves-grandchildren: two processes are there that a SIGTERM does not end', async () => {
    const client = await connect('v1', hostileCommand('leaves-grandchildren'))
    closing.push(client.close)
    const { content } = await client.callTool('act')
    const pids = JSON.parse(content[0]?.text ?? '') as number[]
    closing.push(() => pids.map((pid) => process.kill(pid, 'SIGKILL')))
    expect(pids).toHaveLength(2)
    for (const pid of pids) process.kill(pid, 'SIGTERM')
    await pause(200)
    expect(pids.map(isAlive)).toEqual([true, true])
  })

  test('ignores-sigterm: lives on after SIGTERM and the end of its input', async () => {
    const { command, args } = hostileCommand('ignores-sigterm')
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'], env: {} })
    closing.push(() => child.kill('SIGKILL'))
    child.stdin.write(`${JSON.stringify(initialize())}\n`)
    await once(child.stdout, 'data')
    child.stdin.end()
    child.kill('SIGTERM')
    await pause(200)
    expect([child.exitCode, child.signalCode]).toEqual([null, null])
  })

  test('a server ends when the process that started it does', async () => {
    const { command, args } = hostileCommand('ignores-sigterm')
    const script = `
      const { spawn } = require('node:child_process')
      const child = spawn(${JSON.stringify(command)}, ${JSON.stringify(args)}, { stdio: ['pipe', 'pipe', 'ignore'] })
      child.stdin.write(${JSON.stringify(`${JSON.stringify(initialize())}\n`)})
      child.stdout.once('data', () => { console.log(child.pid); process.exit() })`
    const parent = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] })
    const [data] = (await once(parent.stdout, 'data')) as [Buffer]
    await expect.poll(() => isAlive(Number(data.toString())), { timeout: 10_000 }).toBe(false)
  })
})

test.each(['v1', 'v2-legacy'] as const)('%s can use the honest server and the tool ok', async (kind) => {
  const { url, close } = await startHostile('answers-giant')
  closing.push(close)
  for (const endpoint of [hostileCommand('honest'), { url }]) {
    const client = await connect(kind, endpoint)
    closing.push(client.close)
    expect((await client.listTools()).map(({ name }) => name)).toEqual(['act', 'ok'])
    expect((await client.callTool('ok', { text: 'hello' })).content).toEqual([{ type: 'text', text: 'hello' }])
  }
})

test('the witness remembers what arrives', async () => {
  const { witness, close } = await startHostile('redirects')
  closing.push(close)
  await fetch(`${witness.url}/schema.json`, { headers: { authorization: 'Bearer lost' } })
  expect(witness.requests).toEqual([{ method: 'GET', path: '/schema.json', authorization: 'Bearer lost' }])
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
