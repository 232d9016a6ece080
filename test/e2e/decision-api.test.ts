import { afterAll, afterEach, expect, test } from 'vitest'
import { removeFolders, startSallyport, until } from '../support/sallyport.ts'
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

type Tool = (args: Record<string, unknown>, signal: AbortSignal) => unknown

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

/** Wraps `execute` of each tool: asks before, tells after. What a model reads is what comes back. */
function behindGate(gateway: Sallyport, token: string, resource: string, tools: Readonly<Record<string, Tool>>) {
  const wrap =
    (name: string, execute: Tool) =>
    async (args: Record<string, unknown>): Promise<unknown> => {
      const { status, body: answer } = await post(gateway, token, '/v1/check', {
        operation: `${resource}:${name}`,
        arguments: args,
        wait: 0,
      })
      if (status !== 200) return { refused: answer['error_description'] }
      if (answer['decision'] === 'pending') return { pending: answer['approval'].id }
      if (answer['decision'] !== 'allow') return { refused: answer['because'] }
      let told: object
      try {
        told = { result: (await execute(args, new AbortController().signal)) ?? null }
      } catch (thrown) {
        told = { error: String(thrown) }
      }
      const { status: seen, body: closed } = await post(gateway, token, '/v1/result', {
        token: answer['token'],
        ...told,
      })
      if (seen !== 200) return { refused: closed['error_description'] }
      return closed['outcome'] === 'done' ? closed['result'] : { refused: closed['because'] ?? closed['error'] }
    }
  return Object.fromEntries(Object.entries(tools).map(([name, execute]) => [name, wrap(name, execute)]))
}

test('a framework: allowed, denied, failed, pending then approved and repeated; all of it is in the audit log', async () => {
  const gateway = await open()
  const { token } = await gateway.session('helper')
  const ran: string[] = []
  const tools = behindGate(gateway, token, 'mail', {
    list_mails: () => (ran.push('list'), [{ id: 7 }]),
    send_mail: ({ to }) => {
      ran.push(`send ${to as string}`)
      if (to === 'broken@acme.test') throw new Error('no route')
      return { sent: true }
    },
    delete_mail: ({ id }) => (ran.push(`delete ${id as number}`), undefined),
    purge: () => ran.push('purge'),
  })

  expect(await tools['list_mails']?.({})).toEqual([{ id: 7 }])
  expect(await tools['send_mail']?.({ to: 'a@acme.test', text: 'hello' })).toEqual({ sent: true })
  expect(await tools['send_mail']?.({ to: 'a@evil.test', text: 'hello' })).toEqual({
    refused: expect.stringMatching(/./),
  })
  expect(await tools['send_mail']?.({ to: 'a@acme.test' })).toEqual({ refused: expect.stringContaining('text') })
  expect(await tools['send_mail']?.({ to: 'broken@acme.test', text: '' })).toEqual({ refused: 'Error: no route' })
  expect(await tools['purge']?.({})).toEqual({ refused: 'there is no such operation' })
  expect(ran).toEqual(['list', 'send a@acme.test', 'send broken@acme.test'])

  const pending = (await tools['delete_mail']?.({ id: 7 })) as { pending: string }
  expect(pending).toEqual({ pending: expect.stringMatching(/^appr_/) })
  await gateway.approve(pending.pending)
  expect(await tools['delete_mail']?.({ id: 8 })).toEqual({ pending: expect.stringMatching(/^appr_/) })
  expect(await tools['delete_mail']?.({ id: 7 })).toBeNull()
  expect(await tools['delete_mail']?.({ id: 7 })).not.toBeNull()
  expect(ran.slice(3)).toEqual(['delete 7'])
  expect(await tools['list_mails']?.({})).toEqual([{ id: 7 }])
  const started = ran.length

  const events = await until('the limit is reached', async () => {
    for (let each = 0; each < 8; each++) await tools['list_mails']?.({})
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
