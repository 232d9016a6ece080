import { spawn } from 'node:child_process'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startFixture } from '../conformance/fixture-server.ts'
import type { RunningFixture } from '../conformance/fixture-server.ts'
import { clientKinds, connect } from '../mcp/clients.ts'
import type { ClientKind, ConnectedClient } from '../mcp/clients.ts'

const program = path.join(import.meta.dirname, '../../src/cli/sallyport.ts')
const token = 'sp_session_for-the-bridge'

let fixture: RunningFixture
beforeAll(async () => {
  fixture = await startFixture()
})
afterAll(() => fixture.close())

const bridged = (url: string) => ({
  command: process.execPath,
  args: [program, 'mcp', '--url', url],
  env: { PATH: process.env['PATH'] ?? '', SALLYPORT_TOKEN: token },
})

describe.each(clientKinds)('%s over stdio', (kind: ClientKind) => {
  let client: ConnectedClient
  beforeAll(async () => {
    client = await connect(kind, bridged(fixture.url), {
      elicit: () => ({ action: 'accept', content: { name: 'anna', username: 'anna', email: 'anna@example.com' } }),
    })
  })
  afterAll(() => client.close())

  test('lists and calls tools, with the token of the bridge', async () => {
    expect((await client.listTools()).map(({ name }) => name)).toContain('test_simple_text')
    const { content } = await client.callTool('test_simple_text')
    expect(content[0]?.text).toMatch(/./)
    expect([...fixture.authorizations]).toEqual([`Bearer ${token}`])
  })

  test('hears of progress while a call runs', async () => {
    const seen: number[] = []
    await client.callTool('test_tool_with_progress', {}, { onprogress: ({ progress }) => seen.push(progress) })
    expect(seen.length).toBeGreaterThan(0)
  })

  test('is asked what the server asks', async () => {
    const { content } = await client.callTool(
      kind === 'v2-modern' ? 'test_input_required_result_elicitation' : 'test_elicitation',
      kind === 'v2-modern' ? {} : { message: 'Who are you?' },
    )
    expect(JSON.stringify(content)).toMatch(/accept|anna|hello/i)
  })

  test('runs several calls at once', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => client.callTool('test_simple_text')))
    expect(all.every(({ isError }) => isError !== true)).toBe(true)
  })

  test('reads resources and prompts', async () => {
    const [resource] = await client.listResources()
    expect(await client.readResource(resource!.uri)).not.toEqual([])
    expect((await client.listPrompts()).length).toBeGreaterThan(0)
  })
})

// By hand ------------------------------------------------------------------------------------------------------------

interface Seen {
  readonly method: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

/** An endpoint that answers as told. */
async function endpoint(answer: (seen: Seen, response: http.ServerResponse) => void) {
  const requests: Seen[] = []
  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const seen = { method: request.method ?? '', headers: request.headers, body: Buffer.concat(chunks).toString() }
      requests.push(seen)
      answer(seen, response)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Runs the bridge with these lines, and all it says. */
function bridge(
  lines: readonly string[],
  args: readonly string[],
  env: Record<string, string> = { SALLYPORT_TOKEN: token },
): Promise<{ out: Record<string, unknown>[]; err: string; code: number | null }> {
  const child = spawn(process.execPath, [program, 'mcp', ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
    cwd: os.tmpdir(),
    env: { PATH: process.env['PATH'] ?? '', ...env },
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
  child.stdin.end(lines.map((line) => `${line}\n`).join(''))
  return new Promise((resolve) =>
    child.once('close', (code) =>
      resolve({
        // Each line of standard output has to be a message: this throws where one is not.
        out: out
          .split('\n')
          .filter(Boolean)
          .map((line) => JSON.parse(line) as Record<string, unknown>),
        err,
        code,
      }),
    ),
  )
}

const call = (id: number | string, method: string, params: object = {}): string =>
  JSON.stringify({ jsonrpc: '2.0', id, method, params })

const modern = (params: object = {}) => ({
  ...params,
  _meta: { 'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {} },
})

const json = (response: http.ServerResponse, value: unknown, headers: http.OutgoingHttpHeaders = {}): void => {
  response.writeHead(200, { 'content-type': 'application/json', ...headers })
  response.end(JSON.stringify(value, null, 2))
}

describe('the transport', () => {
  test('revision 2026-07-28: method, name and declared arguments stand in headers, written so that headers can carry them', async () => {
    const to = await endpoint(({ body }, response) => {
      const { id, method } = JSON.parse(body) as { id: number; method: string }
      const schema = { type: 'object', properties: { region: { type: 'string', 'x-mcp-header': 'Region' } } }
      json(response, {
        jsonrpc: '2.0',
        id,
        result: method === 'tools/list' ? { tools: [{ name: 'größe', inputSchema: schema }] } : {},
      })
    })
    const first = call(1, 'tools/list', modern())
    const second = call(2, 'tools/call', modern({ name: 'größe', arguments: { region: 'Zürich' } }))
    const child = spawn(process.execPath, [program, 'mcp', '--url', to.url], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'] ?? '', SALLYPORT_TOKEN: token },
    })
    let out = ''
    await new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        if (out === '') child.stdin.end(`${second}\n`)
        out += chunk.toString()
      })
      child.once('close', () => resolve())
      child.stdin.write(`${first}\n`)
    })
    const base64 = (text: string): string => `=?base64?${Buffer.from(text).toString('base64')}?=`
    expect(to.requests.map(({ headers }) => headers)).toMatchObject([
      { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/list', authorization: `Bearer ${token}` },
      { 'mcp-method': 'tools/call', 'mcp-name': base64('größe'), 'mcp-param-region': base64('Zürich') },
    ])
    expect(to.requests.map(({ body }) => body)).toEqual([first, second])
    await to.close()
  })

  test('revisions before: the session and the agreed version go with everything after initialize, and it is ended', async () => {
    const to = await endpoint(({ method, body }, response) => {
      if (method === 'GET') return void response.writeHead(405).end()
      if (method === 'DELETE') return void response.writeHead(200).end()
      const { id, method: called } = JSON.parse(body) as { id?: number; method: string }
      if (id === undefined) return void response.writeHead(202).end()
      const result = called === 'initialize' ? { protocolVersion: '2025-06-18', capabilities: {} } : {}
      json(response, { jsonrpc: '2.0', id, result }, { 'mcp-session-id': 'abc' })
    })
    const { out, code } = await bridge(
      [
        call(1, 'initialize', { protocolVersion: '2025-11-25' }),
        JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' }),
        call(2, 'tools/list'),
      ],
      ['--url', to.url],
    )
    expect([code, out.map(({ id }) => id)]).toEqual([0, [1, 2]])
    const [first, second, ...rest] = to.requests.filter(({ method }) => method !== 'GET')
    expect(first?.headers).not.toHaveProperty('mcp-session-id')
    expect(second?.body).toContain('notifications/initialized')
    for (const { headers } of [second, ...rest].filter((each) => each !== undefined))
      expect(headers).toMatchObject({ 'mcp-session-id': 'abc', 'mcp-protocol-version': '2025-06-18' })
    expect(to.requests.at(-1)?.method).toBe('DELETE')
    await to.close()
  })

  test('revision 2026-07-28: a cancelled call ends its stream, and nothing else', async () => {
    const [arrived, left] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const to = await endpoint((_seen, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write(': \n\n')
      response.once('close', () => left.resolve())
      arrived.resolve()
    })
    const child = spawn(process.execPath, [program, 'mcp', '--url', to.url], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { PATH: process.env['PATH'] ?? '', SALLYPORT_TOKEN: token },
    })
    let out = ''
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    child.stdin.write(`${call(7, 'tools/call', modern({ name: 'x' }))}\n`)
    await arrived.promise
    const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: modern({ requestId: 7 }) }
    child.stdin.write(`${JSON.stringify(cancel)}\n`)
    await left.promise
    child.stdin.end()
    expect([await ended, out, to.requests.length]).toEqual([0, '', 1])
    await to.close()
  })
})

describe('what goes wrong', () => {
  test('is an error for the id of the request: no gateway, no JSON, a batch, nothing at that address', async () => {
    const gone = await endpoint(() => {})
    await gone.close()
    const lines = ['{"jsonrpc":', '[]', call('a', 'tools/list'), call(2, 'ping')]
    const { out, err, code } = await bridge(lines, ['--url', gone.url])
    expect(out.map(({ id, error }) => [id, (error as { code: number }).code])).toEqual(
      expect.arrayContaining([
        [null, -32700],
        [null, -32600],
        ['a', -32603],
        [2, -32603],
      ]),
    )
    expect([err, code]).toEqual([expect.stringContaining('ECONNREFUSED'), 0])
  })

  test.each([
    [401, 'does not accept this token'],
    [404, 'no MCP endpoint'],
    [418, 'status 418'],
  ])('HTTP status %i is said in words, without the token', async (status, words) => {
    const to = await endpoint((_seen, response) => void response.writeHead(status).end('<html>'))
    const { out, err } = await bridge([call(1, 'tools/list')], ['--url', to.url])
    expect(out).toMatchObject([{ id: 1, error: { message: expect.stringContaining(words) as string } }])
    expect(err).toContain(words)
    expect(err + JSON.stringify(out)).not.toContain(token)
    await to.close()
  })

  test('an answer that breaks off, is no JSON, or hides line ends reaches the client as whole messages only', async () => {
    const to = await endpoint(({ body }, response) => {
      const { id } = JSON.parse(body) as { id: number }
      if (id === 1) {
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        response.end('data: {"jsonrpc":"2.0","method":"notifications/x"}\n\ndata: not json\n\n')
      } else if (id === 2) {
        response.writeHead(200, { 'content-type': 'application/json' })
        response.end('{"jsonrpc":"2.0",\n"id":2,\r\n"result":{"big":12345678901234567890}}')
      } else {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1000 })
        response.write('{"jsonrpc"')
        setImmediate(() => response.destroy())
      }
    })
    const { out } = await bridge([call(1, 'a'), call(2, 'b'), call(3, 'c')], ['--url', to.url])
    expect(
      out
        .filter(({ error }) => error !== undefined)
        .map(({ id }) => id)
        .sort((a, b) => Number(a) - Number(b)),
    ).toEqual([1, 3])
    expect(out).toContainEqual({ jsonrpc: '2.0', method: 'notifications/x' })
    expect(out.find(({ id }) => id === 2)).toHaveProperty('result')
    await to.close()
  })

  test('a line without an end is refused, and the next one is taken', async () => {
    const to = await endpoint(({ body }, response) => {
      json(response, { jsonrpc: '2.0', id: (JSON.parse(body) as { id: number }).id, result: {} })
    })
    const { out } = await bridge(['x'.repeat(17_000_000), call(1, 'ping')], ['--url', to.url])
    expect(out).toMatchObject([
      { id: null, error: { code: -32600 } },
      { id: 1, result: {} },
    ])
    expect(to.requests).toHaveLength(1)
    await to.close()
  })

  test('without a token, or with an address that would show it, nothing is sent and standard output stays empty', async () => {
    const cases: [args: string[], env: Record<string, string>, says: string][] = [
      [['--url', 'http://127.0.0.1:1'], {}, 'SALLYPORT_TOKEN'],
      [['--url', 'http://127.0.0.1:1'], { SALLYPORT_TOKEN: 'a\nb' }, 'no token'],
      [['--url', 'http://127.0.0.1:1'], { SALLYPORT_TOKEN_FILE: '/nowhere/token' }, '/nowhere/token'],
      [['--url', 'http://gateway.example'], { SALLYPORT_TOKEN: token }, 'unencrypted'],
      [['--url', 'http://me:secret@127.0.0.1:1'], { SALLYPORT_TOKEN: token }, 'user name'],
      [[], { SALLYPORT_TOKEN: token }, '--url'],
    ]
    for (const [args, env, says] of cases) {
      const { out, err, code } = await bridge([call(1, 'ping')], args, env)
      expect([out, code, err]).toEqual([[], 1, expect.stringContaining(says)])
      expect(err).not.toMatch(/sp_session|secret@|a\nb/)
    }
  })
})
