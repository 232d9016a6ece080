import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, afterEach, expect, test } from 'vitest'
import { checkSettings } from '../../src/config/check.ts'
import { problemInWords } from '../../src/config/load.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})
afterAll(removeFolders)

const settings = {
  resources: {
    mail: {
      functions: {
        list_mails: 'read',
        send_mail: {
          effect: 'send',
          arguments: {
            type: 'object',
            properties: { to: { type: 'string' }, text: { type: 'string' } },
            required: ['to', 'text'],
            additionalProperties: false,
          },
          returns: { type: 'object', properties: { sent: { type: 'boolean' } }, required: ['sent'] },
        },
        delete_mail: { effect: 'destroy', arguments: { type: 'object', properties: { id: { type: 'integer' } } } },
        purge: 'destroy',
      },
      result: '2 kB',
    },
  },
  approvals: { hold: '5 s' },
  agents: {
    helper: {
      may: [
        'mail:list_mails',
        { do: 'mail:send_mail', when: "args.to.endsWith('@acme.test')", because: 'mail stays in the house' },
        { do: 'mail:delete_mail', ask: { within: '5 min' } },
      ],
      limits: { calls: '8/min' },
    },
  },
}

async function open(env = {}) {
  const gateway = await startSallyport({ settings, env })
  closing.push(gateway.stop)
  return gateway
}

// A framework whose tools are functions of its own process, and the few lines that put it behind the gateway. ----------

type Tool = (args: Record<string, unknown>) => unknown

interface Said {
  readonly status: number
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: Record<string, any>
}

async function post(gateway: Sallyport, token: string, path: string, body: unknown): Promise<Said> {
  const response = await fetch(gateway.agentsUrl + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  return { status: response.status, body: (await response.json()) as Said['body'] }
}

type Tools = Readonly<Record<string, { readonly execute: (args: Record<string, unknown>) => unknown }>>
interface Adapter {
  behindGate(at: { url: string; token: string; resource: string; wait?: number }, tools: Tools): Tools
}

const page = fs.readFileSync(new URL('../../docs/decision-api.md', import.meta.url), 'utf8')
const block = (language: string): string => new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``).exec(page)?.[1] ?? ''

/** The adapter of the documentation, as it stands there. What a model reads is what a tool answers, or why it failed. */
async function framework(gateway: Sallyport, token: string, tools: Readonly<Record<string, Tool>>) {
  const file = path.join(newFolder(), 'adapter.mjs')
  fs.writeFileSync(file, block('js'))
  const { behindGate } = (await import(/* @vite-ignore */ pathToFileURL(file).href)) as Adapter
  const wrapped = behindGate(
    { url: gateway.agentsUrl, token, resource: 'mail', wait: 0 },
    Object.fromEntries(Object.entries(tools).map(([name, execute]) => [name, { execute }])),
  )
  return async (name: string, args: Record<string, unknown> = {}): Promise<unknown> => {
    try {
      return await wrapped[name]?.execute(args)
    } catch (thrown) {
      return (thrown as Error).message
    }
  }
}

test('the settings of the documentation are right', async () => {
  expect((await checkSettings(block('yaml'), 'docs/decision-api.md')).problems.map(problemInWords)).toEqual([])
})

test('a framework: allowed, denied, failed, pending then approved and repeated; all of it is in the audit log', async () => {
  const gateway = await open()
  const { token } = await gateway.session('helper')
  const ran: string[] = []
  const call = await framework(gateway, token, {
    list_mails: () => (ran.push('list'), [{ id: 7 }]),
    send_mail: ({ to }) => {
      ran.push(`send ${to as string}`)
      if (to === 'broken@acme.test') throw new Error('no route')
      return { sent: true }
    },
    delete_mail: ({ id }) => (ran.push(`delete ${id as number}`), undefined),
    purge: () => ran.push('purge'),
  })

  expect(await call('list_mails')).toEqual([{ id: 7 }])
  expect(await call('send_mail', { to: 'a@acme.test', text: 'hello' })).toEqual({ sent: true })
  expect(await call('send_mail', { to: 'a@evil.test', text: 'hello' })).toMatch(/^`send_mail` was refused: ./)
  expect(await call('send_mail', { to: 'a@acme.test' })).toMatch(/^`send_mail` was refused: .*text/)
  expect(await call('send_mail', { to: 'broken@acme.test', text: '' })).toBe('Error: no route')
  expect(await call('purge')).toBe('`purge` was refused: there is no such operation')
  expect(ran).toEqual(['list', 'send a@acme.test', 'send broken@acme.test'])

  const pending = /^`delete_mail` needs approval \((appr_\w+)\): repeat this exact call$/
  await gateway.approve(pending.exec(String(await call('delete_mail', { id: 7 })))?.[1] ?? '')
  expect(await call('delete_mail', { id: 8 })).toMatch(pending)
  expect(await call('delete_mail', { id: 7 })).toBeNull()
  expect(await call('delete_mail', { id: 7 })).toMatch(pending)
  expect(ran.slice(3)).toEqual(['delete 7'])
  expect(await call('list_mails')).toEqual([{ id: 7 }])
  const started = ran.length

  const events = await until('the limit is reached', async () => {
    for (let each = 0; each < 8; each++) await call('list_mails')
    return gateway.events()
  })
  expect(ran.length - started).toBe(8 - 5)
  const decisions = events.filter(({ type }) => type === 'decision')
  expect(decisions.every(({ via }) => via === 'api')).toBe(true)
  const done = events.filter(({ type }) => type.startsWith('action.'))
  expect(done.map(({ type, permission }) => [type, permission]).slice(0, 4)).toEqual([
    ['action.done', 'mail:list_mails'],
    ['action.done', 'mail:send_mail'],
    ['action.error', 'mail:send_mail'],
    ['action.done', 'mail:delete_mail'],
  ])
  for (const { of } of done) expect(decisions.find(({ id }) => id === of)).toMatchObject({ decision: 'allow' })
  expect(decisions.filter(({ code }) => code === 'limited')).not.toEqual([])
  expect((await gateway.verify()).ok).toBe(true)
})

test('promise 2: a session that is killed while a function runs gets nothing of its result any more', async () => {
  const gateway = await open()
  const { id, token } = await gateway.session('helper')
  const { body } = await post(gateway, token, '/v1/check', { operation: 'mail:list_mails' })
  expect(body).toMatchObject({ decision: 'allow', token: expect.any(String), event: expect.any(String) })

  await gateway.admin('POST', '/v1/kill', { target: id, because: 'it went astray' })
  expect((await post(gateway, token, '/v1/result', { token: body['token'], result: [] })).status).toBe(401)
  expect((await post(gateway, token, '/v1/check', { operation: 'mail:list_mails' })).status).toBe(401)
  const outcome = await until('its end is recorded', async () =>
    (await gateway.events()).find(({ of }) => of === body['event']),
  )
  expect(outcome).toMatchObject({ type: 'action.failed', mayHaveHappened: true })
})

test('promise 1: a check is answered after its decision is on the disk', async () => {
  const gateway = await open()
  const { token } = await gateway.session('helper')
  for (const operation of ['mail:list_mails', 'mail:purge', 'no:where']) {
    const { body } = await post(gateway, token, '/v1/check', { operation })
    const event = (await gateway.events()).find(({ id }) => id === body['event'])
    expect(event).toMatchObject({ type: 'decision', permission: operation, decision: body['decision'] })
  }
})

test('what the gateway stops in the middle of is recorded as cut', async () => {
  const gateway = await open()
  const { token } = await gateway.session('helper')
  const { body } = await post(gateway, token, '/v1/check', { operation: 'mail:list_mails' })
  await gateway.stop()
  expect((await gateway.events()).find(({ of }) => of === body['event'])).toMatchObject({
    type: 'action.failed',
    because: 'the gateway stopped',
    mayHaveHappened: true,
  })
})

test('a check waits for people, and goes on when they agree', async () => {
  const gateway = await open()
  const { token } = await gateway.session('helper')
  const asked = post(gateway, token, '/v1/check', { operation: 'mail:delete_mail', arguments: { id: 3 }, wait: 30 })
  const question = await until('people are asked', async () => (await gateway.approvals())[0])
  await gateway.approve(question.id)
  const { body } = await asked
  expect(body).toMatchObject({ decision: 'allow' })
  expect((await post(gateway, token, '/v1/result', { token: body['token'], result: null })).body).toMatchObject({
    outcome: 'done',
    result: null,
  })
})

test('functions come and go with the configuration', async () => {
  const gateway = await open()
  const { token } = await gateway.session('helper')
  gateway.write({
    ...settings,
    resources: { mail: { functions: { count_mails: 'read' } } },
    agents: { helper: { may: ['mail:count_mails'] } },
  })
  await gateway.admin('POST', '/v1/reload')
  const decisions = ['mail:list_mails', 'mail:count_mails'].map(
    async (operation) => (await post(gateway, token, '/v1/check', { operation })).body['decision'] as string,
  )
  expect(await Promise.all(decisions)).toEqual(['deny', 'allow'])
})

test('AuthZEN: what it offers is told at the well-known address, and operations of every gateway can be asked about', async () => {
  const gateway = await open()
  const { token } = await gateway.session('helper')
  const metadata = await fetch(`${gateway.agentsUrl}/.well-known/authzen-configuration`)
  expect(await metadata.json()).toEqual({
    policy_decision_point: gateway.agentsUrl,
    access_evaluation_endpoint: `${gateway.agentsUrl}/access/v1/evaluation`,
    access_evaluations_endpoint: `${gateway.agentsUrl}/access/v1/evaluations`,
  })
  const { body } = await post(gateway, token, '/access/v1/evaluation', {
    subject: { type: 'agent', id: 'helper' },
    action: { name: 'send_mail' },
    resource: { type: 'mail', id: '*' },
    context: { arguments: { to: 'a@acme.test', text: '' } },
  })
  expect(body).toEqual({ decision: true })
  const unknown = await fetch(`${gateway.agentsUrl}/access/v1/evaluation`, {
    method: 'POST',
    headers: { authorization: 'Bearer nobody', 'x-request-id': 'req-1' },
  })
  expect([unknown.status, unknown.headers.get('x-request-id')]).toEqual([401, 'req-1'])
})

test('AuthZEN: the published examples are answered in their exact shape (§9.2.2, §10.1.4, §7.1.2.1)', async () => {
  const gateway = await startSallyport({
    settings: {
      resources: {
        todo: { functions: { can_read: 'read' } },
        document: { functions: { can_read: 'read', read: 'read' } },
      },
      agents: {
        app: { may: ['todo:can_read', 'document:can_read', { do: 'document:read', when: "args.id != '2'" }] },
      },
    },
  })
  closing.push(gateway.stop)
  const { token } = await gateway.session('app', { behalf: 'user:alice@example.com' })
  const requestId = 'bfe9eb29-ab87-4ca3-be83-a1d5d8305716'
  const asked = async (path: string, body: unknown) => {
    const answer = await fetch(gateway.agentsUrl + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, 'x-request-id': requestId },
      body: JSON.stringify(body),
    })
    expect([answer.headers.get('content-type'), answer.headers.get('x-request-id')]).toEqual([
      answer.ok ? 'application/json' : 'text/plain; charset=utf-8',
      requestId,
    ])
    return { status: answer.status, text: await answer.text() }
  }
  const subject = { type: 'user', id: 'alice@example.com' }

  const metadata = await fetch(`${gateway.agentsUrl}/.well-known/authzen-configuration`)
  expect([metadata.status, metadata.headers.get('content-type')]).toEqual([200, 'application/json'])
  await metadata.body?.cancel()

  const one = { subject, resource: { type: 'todo', id: '1' }, action: { name: 'can_read' } }
  expect(await asked('/access/v1/evaluation', { ...one, context: { time: '1985-10-26T01:22-07:00' } })).toEqual({
    status: 200,
    text: '{"decision":true}',
  })
  // Without the list, or with none in it, a request for several is one for one.
  for (const body of [one, { ...one, evaluations: [] }])
    expect((await asked('/access/v1/evaluations', body)).text).toBe('{"decision":true}')

  const [boxcarring, search, other] = ['boxcarring.md', 'subject-search.md', 'resource-search.md'].map((id) => ({
    resource: { type: 'document', id },
  }))
  const several = await asked('/access/v1/evaluations', {
    subject,
    context: { time: '2024-05-31T15:22-07:00' },
    action: { name: 'can_read' },
    evaluations: [boxcarring, search, { action: { name: 'can_edit' }, ...other }],
  })
  expect(JSON.parse(several.text)).toEqual({
    evaluations: [
      { decision: true },
      { decision: true },
      { decision: false, context: { reason: expect.any(String), code: 'unknown', event: expect.any(String) } },
    ],
  })

  const semantics = {
    execute_all: [true, false, true],
    deny_on_first_deny: [true, false],
    permit_on_first_permit: [true],
  }
  for (const [semantic, decisions] of Object.entries(semantics)) {
    const { text } = await asked('/access/v1/evaluations', {
      subject,
      action: { name: 'read' },
      options: { evaluations_semantic: semantic, another_option: 'value' },
      evaluations: ['1', '2', '3'].map((id) => ({ resource: { type: 'document', id } })),
    })
    const { evaluations, ...rest } = JSON.parse(text) as { evaluations: { decision: boolean }[] }
    expect([evaluations.map(({ decision }) => decision), rest]).toEqual([decisions, {}])
  }

  // An error message as text, and nothing decided (§10.1.2).
  const wrong = await asked('/access/v1/evaluation', { subject, action: { name: 'can_read' } })
  expect(wrong).toEqual({ status: 400, text: expect.stringMatching(/`resource` is missing/) })
  const nobody = await fetch(`${gateway.agentsUrl}/access/v1/evaluation`, { method: 'POST' })
  expect([nobody.status, nobody.headers.get('www-authenticate')]).toEqual([401, expect.stringMatching(/^Bearer/)])
})
