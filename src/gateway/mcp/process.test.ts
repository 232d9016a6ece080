import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Client, type JSONRPCMessage } from '@modelcontextprotocol/client'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import { Failure } from '../../core/failure.ts'
import { environmentFor, type ProcessOptions, ProcessTransport } from './process.ts'
import { killOrphans } from './processes.ts'

const folder = mkdtempSync(join(tmpdir(), 'sallyport-process-'))
const open: ProcessTransport[] = []
afterEach(async () => {
  await Promise.all(open.splice(0).map((transport) => transport.close()))
})
afterAll(() => rmSync(folder, { recursive: true }))

interface Started {
  transport: ProcessTransport
  messages: JSONRPCMessage[]
  errors: Error[]
  closes: () => number
}

/** A process that runs a script in Node. In it: `say(value)` writes a line of JSON, `file` is a file of its own. */
async function run(script: string, options: Partial<ProcessOptions> = {}): Promise<Started> {
  const preamble = `const fs = require('node:fs'); const cp = require('node:child_process')
    const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n')
    const note = (n) => say({ jsonrpc: '2.0', method: 'notifications/x', params: { n } });`
  const started = make({ command: [process.execPath, '-e', preamble + script], ...options })
  await started.transport.start()
  return started
}

function make(options: Partial<ProcessOptions> & Pick<ProcessOptions, 'command'>): Started {
  const transport = new ProcessTransport({ ours: process.env, grace: 300, ...options })
  open.push(transport)
  const messages: JSONRPCMessage[] = []
  const errors: Error[] = []
  let closes = 0
  transport.onmessage = (message) => messages.push(message)
  transport.onerror = (error) => errors.push(error)
  transport.onclose = () => closes++
  return { transport, messages, errors, closes: () => closes }
}

const paramsOf = (messages: JSONRPCMessage[]): unknown[] =>
  messages.map((message) => ('params' in message ? (message.params as { n: unknown }).n : message))
const atLeast = (messages: JSONRPCMessage[], count: number): Promise<void> =>
  vi.waitFor(() => expect(messages.length).toBeGreaterThanOrEqual(count), { timeout: 10_000, interval: 5 })
const isAlive = (pid: number): boolean => {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
const call = (id: number): JSONRPCMessage => ({ jsonrpc: '2.0', id, method: 'ping' })

test('an official server, spoken to by the official client', async () => {
  const server = resolve('node_modules/@modelcontextprotocol/server-memory/dist/index.js')
  const { transport, closes } = make({
    command: [process.execPath, server],
    env: { MEMORY_FILE_PATH: join(folder, 'memory.jsonl') },
  })
  const client = new Client({ name: 'test', version: '1' })
  await client.connect(transport)
  expect((await client.listTools()).tools.map((tool) => tool.name)).toContain('read_graph')
  const result = await client.callTool({ name: 'read_graph', arguments: {} })
  expect(result.isError ?? false).toBe(false)
  expect(transport.log).toContain('Knowledge Graph')
  await client.close()
  expect(isAlive(transport.pid ?? 0)).toBe(false)
  expect(closes()).toBe(1)
})

describe('what a process gets', () => {
  test('few variables, those configured, and no others', async () => {
    const ours = {
      ...process.env,
      MASTER_KEY: 'hunter2',
      AWS_SECRET_ACCESS_KEY: 'hunter2',
      NODE_OPTIONS: '',
      LANG: 'C.UTF-8',
    }
    const { messages } = await run('note(process.env); process.stdin.resume()', {
      ours,
      env: { CRM_KEY: 'k1', LANG: 'de' },
    })
    await atLeast(messages, 1)
    const env = paramsOf(messages)[0] as Record<string, string>
    expect(JSON.stringify(env)).not.toContain('hunter2')
    expect(env).toMatchObject({ CRM_KEY: 'k1', LANG: 'de', PATH: process.env['PATH'] })
    const allowed = [
      'CRM_KEY',
      'SALLYPORT_UPSTREAM',
      'PATH',
      'HOME',
      'LANG',
      'LC_ALL',
      'LC_CTYPE',
      'LOGNAME',
      'SHELL',
      'TMPDIR',
      'TZ',
      'USER',
    ]
    expect(Object.keys(env).filter((name) => !allowed.includes(name))).toEqual([])
  })

  test('no function that a shell would run', () => {
    expect(environmentFor({ PATH: '/bin', LANG: '() { :; }; boo', HOME: undefined }, 'linux')).toEqual({ PATH: '/bin' })
    expect(environmentFor({ SYSTEMROOT: 'C:', PATH: 'x' }, 'win32')).toEqual({ SYSTEMROOT: 'C:', PATH: 'x' })
  })

  test('its working directory, arguments as they are, three pipes', async () => {
    const odd = '$(touch x); `a` "b" *'
    const { messages } = await run(
      'note([process.cwd(), process.argv.at(-1), fs.readdirSync("/proc/self/fd").filter((f) => f > 2).map((f) => { try { return fs.readlinkSync("/proc/self/fd/" + f) } catch { return "" } }).filter((f) => /^(socket|\\/(?!dev|proc))/.test(f))])',
      {
        cwd: folder,
      },
    ).then(async (first) => {
      await atLeast(first.messages, 1)
      return first
    })
    expect((paramsOf(messages)[0] as unknown[])[0]).toBe(folder)
    expect((paramsOf(messages)[0] as unknown[])[2]).toEqual([])
    const second = make({
      command: ['printf', '{"jsonrpc":"2.0","method":"x","params":{"n":%s}}\n', JSON.stringify(odd)],
    })
    await second.transport.start()
    await atLeast(second.messages, 1)
    expect(paramsOf(second.messages)).toEqual([odd])
  })
})

describe('messages', () => {
  test('both ways, cut anywhere', async () => {
    const { transport, messages } = await run(`
      const text = JSON.stringify({ jsonrpc: '2.0', method: 'x', params: { n: 'é😀' } }) + '\\r\\n'
      const bytes = Buffer.from(text)
      let at = 0
      const next = () => { if (at < bytes.length) { process.stdout.write(bytes.subarray(at, ++at), () => setImmediate(next)) } }
      process.stdin.once('data', next)`)
    await transport.send(call(1))
    await atLeast(messages, 1)
    expect(paramsOf(messages)).toEqual(['é😀'])
  })

  test('a line that is no message is passed over', async () => {
    const { messages, errors } = await run(
      `console.log('Listening on stdio\\n\\n{"jsonrpc":"1.0"}'); note(1); process.stdin.resume()`,
    )
    await atLeast(messages, 1)
    expect(paramsOf(messages)).toEqual([1])
    expect(errors.map((error) => error.message)).toEqual([
      expect.stringContaining('can not be used: the body is not JSON'),
      expect.stringContaining('not JSON-RPC 2.0'),
    ])
    expect(JSON.stringify(errors.map((error) => error.message))).not.toContain('Listening')
  })

  test('an answer that can not be read fails its call, and only it', async () => {
    const { messages } = await run(
      `
      console.log('{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2}}')
      console.log('{"result":{"a":' + '['.repeat(5000) + ']'.repeat(5000) + '},"jsonrpc":"2.0","id":"abc"}')
      console.log('{"jsonrpc":"2.0","id":9,"result":{"a":"' + 'x'.repeat(3000000) + '"}}')
      console.log('{"result":{"a":"' + 'x'.repeat(3000000) + '"},"jsonrpc":"2.0","id":10}')
      note('still here'); process.stdin.resume()`,
      { maxLine: 1_000_000 },
    )
    await atLeast(messages, 5)
    expect(messages.slice(0, 4)).toMatchObject([
      { id: 7, error: { code: -32603, message: expect.stringContaining('two members named "a"') } },
      { id: 'abc', error: { message: expect.stringContaining('nests deeper') } },
      { id: 9, error: { message: expect.stringContaining('more than 1000000 bytes') } },
      { id: 10, error: { message: expect.stringContaining('more than 1000000 bytes') } },
    ])
    expect(paramsOf(messages.slice(4))).toEqual(['still here'])
  })

  test('a handler that throws ends nothing', async () => {
    const started = await run('note(1); note(2); process.stdin.resume()')
    const seen: unknown[] = []
    started.transport.onmessage = (message) => {
      seen.push(message)
      throw new Error('boo')
    }
    await vi.waitFor(() => expect(seen).toHaveLength(2), { timeout: 5_000 })
    expect(started.errors.map((error) => error.message)).toEqual(['boo', 'boo'])
  })

  test('sending to one that does not read fails before memory does', async () => {
    const { transport } = await run('setInterval(() => {}, 1000)', { maxUnsent: 1_000_000 })
    const big: JSONRPCMessage = { jsonrpc: '2.0', method: 'x', params: { text: 'x'.repeat(400_000) } }
    const sent = Promise.allSettled(Array.from({ length: 10 }, () => transport.send(big)))
    await transport.close()
    const refused = (await sent).filter((one) => one.status === 'rejected')
    expect(refused.length).toBeGreaterThanOrEqual(7)
    expect(String(refused[0]?.reason)).toContain('does not read')
  })

  test('sending before the start, or after the end, fails', async () => {
    const { transport } = make({ command: [process.execPath, '-e', ''] })
    await expect(transport.send(call(1))).rejects.toThrow('not running')
    await transport.start()
    await transport.ended
    await expect(transport.send(call(1))).rejects.toThrow(Failure)
  })
})

describe('floods', () => {
  test('are read no faster than allowed', async () => {
    const begun = performance.now()
    const { messages } = await run(
      'const text = JSON.stringify({ jsonrpc: "2.0", method: "x" }) + "\\n"; const go = () => { while (process.stdout.write(text.repeat(1000))); process.stdout.once("drain", go) }; go()',
      {
        messagesPerSecond: 3_000,
      },
    )
    await atLeast(messages, 9_000)
    const seconds = (performance.now() - begun) / 1_000
    const oneRead = 65_536 / 31
    expect(messages.length).toBeLessThanOrEqual(3_000 * (1 + seconds) + oneRead)
    expect(seconds).toBeGreaterThan(1)
  })

  test('of bytes without a line end are not kept', async () => {
    const { transport, errors } = await run(
      'const go = () => { while (process.stdout.write(Buffer.alloc(65536, 97))); process.stdout.once("drain", go) }; go(); setTimeout(() => process.exit(3), 700)',
      {
        maxLine: 100_000,
      },
    )
    const before = process.memoryUsage().arrayBuffers
    const { reason } = await transport.ended
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50_000_000)
    expect(reason).toBe('it ended with exit code 3')
    expect(errors).toEqual([])
  })

  test('of stderr leave its last 64 KiB', async () => {
    const { transport } = await run(
      'for (let i = 0; i < 20000; i++) fs.writeSync(2, "line " + i + " token=hunter2 \\u001b[2J\\u202e\\n")',
      { redact: (text) => text.replaceAll('hunter2', '***') },
    )
    await transport.ended
    const { log } = transport
    expect(log.split('\n').filter(Boolean).at(-1)).toBe('line 19999 token=*** \\x1b[2J\\u{202e}')
    expect(log).toMatch(/^… \(cut\)\nline \d+ token/)
    expect(log.length).toBeLessThan(100_000)
    expect(log).not.toContain('hunter2')
  })
})

describe('the end', () => {
  test('a program that does not exist', async () => {
    const { transport, closes } = make({ command: ['no-such-program', '--key=hunter2'] })
    await expect(transport.start()).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/^`no-such-program` could not be started: there is no such program/),
    })
    expect((await transport.ended).wasAsked).toBe(false)
    expect(closes()).toBe(1)
    await transport.close()
    expect(closes()).toBe(1)
  })

  test('by itself says how', async () => {
    const { transport, closes } = await run('process.exit(7)')
    expect(await transport.ended).toEqual({ wasAsked: false, reason: 'it ended with exit code 7' })
    expect(closes()).toBe(1)
    const killed = await run('process.kill(process.pid, "SIGKILL")')
    expect(await killed.transport.ended).toEqual({ wasAsked: false, reason: 'it ended by signal SIGKILL' })
  })

  test('its last words are heard', async () => {
    const { transport, messages } = await run('note(1); note(2)')
    await transport.ended
    expect(paramsOf(messages)).toEqual([1, 2])
  })

  test('by close is polite first', async () => {
    const file = join(folder, 'polite')
    const { transport, closes } = await run(
      `process.stdin.resume().on('end', () => { fs.writeFileSync(${JSON.stringify(file)}, 'bye'); process.exit() }); note(1)`,
      { grace: 10_000 },
    )
    await Promise.all([transport.close(), transport.close()])
    expect(readFileSync(file, 'utf8')).toBe('bye')
    expect(await transport.ended).toEqual({ wasAsked: true, reason: 'it was stopped' })
    expect(closes()).toBe(1)
  })

  test('before the start', async () => {
    const { transport } = make({ command: ['true'] })
    await transport.close()
    await expect(transport.start()).rejects.toThrow('started already')
  })

  test('of one that ignores everything', async () => {
    const { transport, messages } = await run(
      'process.on("SIGTERM", () => {}); process.stdin.on("end", () => {}).resume(); setInterval(() => {}, 1000); note(1)',
    )
    await atLeast(messages, 1)
    await transport.close()
    expect(isAlive(transport.pid ?? 0)).toBe(false)
  })

  // What an upstream can do to leave something behind. Each says the id of what it left.
  const sleeper = JSON.stringify('setInterval(() => {}, 1000); process.on("SIGTERM", () => {})')
  const left: [name: string, script: string][] = [
    ['a child', `note(cp.spawn(process.execPath, ['-e', ${sleeper}], { stdio: 'inherit' }).pid)`],
    [
      'a child in a session of its own',
      `note(cp.spawn(process.execPath, ['-e', ${sleeper}], { detached: true, stdio: 'ignore' }).pid)`,
    ],
    [
      'a grandchild in a session of its own, without its parent',
      `const inner = 'const c = require("node:child_process").spawn(process.execPath, ["-e", ' + JSON.stringify(${sleeper}) + '], { detached: true, stdio: "ignore" }); c.unref(); console.log(c.pid)'
       note(Number(cp.execFileSync(process.execPath, ['-e', inner]).toString()))`,
    ],
  ]
  test.runIf(existsSync('/proc')).each(left)('takes with it %s', async (_, script) => {
    for (const ending of ['; process.stdin.resume()', '; process.stdin.once("data", () => process.exit(1))']) {
      const { transport, messages } = await run(script + ending)
      await atLeast(messages, 1)
      const pid = Number(paramsOf(messages)[0])
      expect(isAlive(pid)).toBe(true)
      if (ending.includes('exit')) await transport.send(call(1))
      else await transport.close()
      await transport.ended
      expect(isAlive(pid)).toBe(false)
    }
  })

  test.runIf(existsSync('/proc'))('of the gateway by SIGKILL leaves nothing for long', async () => {
    const stubborn =
      'process.stdin.on("end", () => {}).resume(); setInterval(() => {}, 1000); process.stdout.write(JSON.stringify({ jsonrpc: "2.0", method: "x", params: { n: process.pid } }) + "\\n")'
    const gateway = join(folder, 'gateway.ts')
    writeFileSync(
      gateway,
      `import { ProcessTransport } from ${JSON.stringify(resolve('src/gateway/mcp/process.ts'))}
       const transport = new ProcessTransport({ command: [process.execPath, '-e', ${JSON.stringify(stubborn)}], ours: process.env })
       transport.onmessage = (message) => console.log(message.params.n)
       await transport.start()`,
    )
    const child = spawn(process.execPath, [gateway], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [said] = (await once(child.stdout, 'data')) as [Buffer]
    const pid = Number(said.toString())
    expect(await killOrphans()).not.toContain(pid) // Its gateway lives.
    expect(isAlive(pid)).toBe(true)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(isAlive(pid)).toBe(true)
    expect(await killOrphans()).toContain(pid)
    await vi.waitFor(() => expect(isAlive(pid)).toBe(false), { timeout: 5_000 })
  })
})
