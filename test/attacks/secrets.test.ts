// What Sallyport keeps from agents, and from its own records, while everybody behind it tells it on.
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { hostileCommand } from '../mcp/hostile-server.ts'
import { initialize, send } from '../support/mcp.ts'
import { newFolder, removeFolders, startSallyport } from '../support/sallyport.ts'
import { scriptedUpstream } from '../support/upstream.ts'

afterAll(removeFolders)

const secrets = {
  bearer: 'canary-bearer-6f1d0c4e9a',
  file: 'canary-file-b7a2"\\+/=é',
  program: 'canary-program-03c9d1',
}

/** A value in the forms in which it could slip through. */
const formsOf = (value: string): string[] => [value, JSON.stringify(value).slice(1, -1), encodeURIComponent(value)]

function filesIn(folder: string): string[] {
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .flatMap((each) => (each.isFile() ? [path.join(each.parentPath, each.name)] : []))
}

test('promise 4: credentials are shown to nobody and written nowhere, though every server repeats them wherever it can', async () => {
  const folder = newFolder()
  fs.writeFileSync(path.join(folder, 'key.txt'), `${secrets.file}\n`)
  const upstream = await scriptedUpstream()
  const told = (headers: object): string =>
    `I was called with ${JSON.stringify(headers)}: ${secrets.bearer}, ${secrets.file}`
  upstream.tools = [
    {
      name: 'echo',
      title: secrets.bearer,
      description: told({}),
      inputSchema: { type: 'object', properties: { text: { type: 'string', description: secrets.file } } },
    },
    { name: 'fails', description: 'fails', inputSchema: { type: 'object' } },
    { name: 'structured', description: 's', inputSchema: { type: 'object' }, outputSchema: { type: 'object' } },
    { name: secrets.bearer, description: 'named after it', inputSchema: { type: 'object' } },
  ]
  upstream.onCall = ({ params, headers, res, id }) => {
    if (params['name'] === 'fails') return { code: -32_000, message: told(headers), data: headers }
    if (params['name'] === 'structured')
      return { content: [], structuredContent: { headers, [secrets.bearer]: told(headers) } }
    const token = (params['_meta'] as Record<string, unknown>)['progressToken']
    res.writeHead(200, { 'content-type': 'text/event-stream', 'x-echo': secrets.bearer })
    const event = (message: object): void =>
      void res.write(`data: ${JSON.stringify({ jsonrpc: '2.0', ...message })}\n\n`)
    if (token !== undefined)
      event({ method: 'notifications/progress', params: { progressToken: token, progress: 1, message: told(headers) } })
    event({ method: 'notifications/message', params: { level: 'error', data: told(headers), logger: secrets.bearer } })
    event({
      id,
      result: {
        resultType: 'complete',
        content: [{ type: 'text', text: told(headers) }],
        _meta: { 'example.com/echo': told(headers) },
      },
    })
    res.end()
    return undefined
  }
  upstream.on['resources/list'] = () => ({
    resources: [{ uri: `test://${secrets.bearer}`, name: secrets.bearer, description: told({}) }],
  })
  upstream.on['resources/read'] = ({ headers, params }) => ({ contents: [{ uri: params['uri'], text: told(headers) }] })
  upstream.on['prompts/list'] = () => ({ prompts: [{ name: 'greet', description: told({}) }] })
  upstream.on['prompts/get'] = ({ headers }) => ({
    description: told(headers),
    messages: [{ role: 'user', content: { type: 'text', text: told(headers) } }],
  })
  upstream.on['completion/complete'] = () => ({ completion: { values: [secrets.bearer, secrets.file] } })

  const program = hostileCommand('tells-environment')
  const rude = hostileCommand('answers-rude-error')
  const gateway = await startSallyport({
    folder,
    env: { UPSTREAM_KEY: secrets.bearer, PROGRAM_KEY: secrets.program },
    settings: {
      approvals: { hold: '1 ms' },
      resources: {
        desk: {
          mcp: {
            url: upstream.url,
            headers: { authorization: 'Bearer ${env:UPSTREAM_KEY}', 'x-key': '${file:key.txt}' },
          },
          tools: { echo: 'read', fails: 'read', structured: 'read' },
        },
        tool: {
          mcp: { command: [program.command, ...program.args], env: { KEY: '${env:PROGRAM_KEY}' } },
          tools: { act: 'read' },
        },
        rude: {
          mcp: { command: [rude.command, ...rude.args], env: { KEY: '${env:PROGRAM_KEY}' } },
          tools: { act: 'read' },
        },
      },
      agents: {
        worker: {
          may: [
            { do: 'desk:*', ask: 'never' },
            { do: 'desk.resources:*' },
            { do: 'desk.prompts:*' },
            'tool:act',
            'rude:act',
          ],
        },
      },
    },
  })
  try {
    const { token } = await gateway.session('worker')
    const signed = (await gateway.session('worker', { token: 'jwt' })).token
    const { text: agentKey } = await gateway.admin<{ text: string }>('POST', '/v1/keys', { holder: 'agent:worker' })

    // Everything that an agent can see.
    const seen: string[] = []
    const ask = async (method: string, params: Record<string, unknown> = {}): Promise<void> => {
      const { text, headers } = await gateway.ask(token, method, params, {
        meta: { progressToken: 'p', 'io.modelcontextprotocol/logLevel': 'debug' },
      })
      seen.push(text, JSON.stringify([...headers]))
    }
    for (const method of [
      'server/discover',
      'tools/list',
      'resources/list',
      'resources/templates/list',
      'prompts/list',
    ])
      await ask(method)
    const listed = JSON.parse(seen[2]!) as { result: { tools: { name: string }[] } }
    for (const { name } of listed.result.tools) await ask('tools/call', { name, arguments: {} })
    await ask('resources/read', { uri: 'desk+test://one' })
    for (const uri of [...seen.join('').matchAll(/"uri":"([^"]+)"/g)].map(([, uri = '']) => uri))
      await ask('resources/read', { uri })
    await ask('prompts/get', { name: 'desk__greet', arguments: {} })
    await ask('completion/complete', {
      ref: { type: 'ref/prompt', name: 'desk__greet' },
      argument: { name: 'who', value: '' },
    })
    for (const broken of ['{', '[]', '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"desk__echo"}}'])
      seen.push((await send({ url: gateway.url, token }, broken)).text)
    const legacy = await initialize({ url: gateway.url, token })
    for (const method of ['tools/list', 'resources/list', 'prompts/list'])
      seen.push((await legacy.request(method)).text)
    for (const name of ['tool__act', 'rude__act', 'desk__echo', 'desk__fails'])
      seen.push((await legacy.request('tools/call', { name, arguments: {} })).text)
    // The agent's own credentials, said where they don't belong.
    for (const credential of [token, signed, agentKey]) {
      seen.push((await gateway.call(credential, 'desk__echo', { text: 'x' })).text)
      seen.push(await (await fetch(`${gateway.agentsUrl}/mcp?access_token=${credential}`)).text())
      seen.push((await gateway.ask(`${credential}x`, 'tools/list')).text)
      seen.push(
        await (
          await fetch(`${gateway.agentsUrl}/oauth/token`, {
            method: 'POST',
            body: new URLSearchParams({ subject_token: credential, grant_type: credential }),
          })
        ).text(),
      )
    }
    expect(seen.join('\n'), 'the servers were reached').toMatch(/I was called with/)
    expect(seen.join('\n')).toMatch(/argv/)
    expect(seen.join('\n'), 'with what they repeated made unreadable').toMatch(/\[secret /)
    expect(upstream.seen.at(-1)?.headers['authorization']).toBe(`Bearer ${secrets.bearer}`)

    // Everything that people can see.
    const people: string[] = []
    for (const at of [
      '/v1/status',
      '/v1/sessions',
      '/v1/approvals?state=all',
      '/v1/keys',
      '/v1/pins',
      '/v1/policies',
      '/v1/audit?limit=500',
      '/v1/stops',
    ])
      people.push((await gateway.people('GET', at)).text)
    for (const command of [
      ['status'],
      ['sessions', 'list'],
      ['tools', 'list'],
      ['audit', 'search'],
      ['keys', 'list'],
    ]) {
      const { out, err } = await gateway.cli(...command)
      people.push(out, err)
    }
    people.push((await gateway.people('GET', '/v1/sessions', undefined, `${gateway.adminKey}x`)).text)
    await gateway.stop()

    const onDisk = filesIn(gateway.state)
      .filter((file) => !/(admin\.key|audit\.key|\.pem)$/.test(file))
      .map((file): [string, string] => [path.relative(gateway.state, file), fs.readFileSync(file).toString('latin1')])
    const places: [string, string][] = [
      ['what the agent saw', seen.join('\n')],
      ['what people saw', people.join('\n')],
      ['the log', gateway.lines.join('\n')],
      ...onDisk,
    ]
    const never: [string, string][] = [
      ...Object.entries(secrets),
      ['the key of the admin', gateway.adminKey],
      ['a session token', token],
      ['a signed token', signed],
      ['the key of an agent', agentKey],
    ]
    const leaks = places.flatMap(([place, text]) =>
      never
        .filter(([, value]) =>
          formsOf(value).some((form) => text.includes(form) || text.includes(Buffer.from(form).toString('latin1'))),
        )
        .map(([name]) => `${name} in ${place}`),
    )
    expect(leaks).toEqual([])
    // Nor does a server get what belongs to the agent, or to another server.
    const upstreamSaw = JSON.stringify(upstream.seen.map(({ headers, params }) => [headers, params]))
    for (const value of [token, signed, agentKey, gateway.adminKey, secrets.program])
      expect(upstreamSaw).not.toContain(value)
  } finally {
    await gateway.stop()
    await upstream.close()
  }
})
