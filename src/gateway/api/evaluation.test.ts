import { afterEach, describe, expect, test } from 'vitest'
import { startDecisionApi } from '../../../test/support/decision-api.ts'
import type { DecisionApiSide } from '../../../test/support/decision-api.ts'

const opened: DecisionApiSide[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((side) => side.close()))
})
async function open(yaml: string, others = {}): Promise<DecisionApiSide> {
  const side = await startDecisionApi(yaml, others)
  opened.push(side)
  return side
}

const one = '/access/v1/evaluation'
const several = '/access/v1/evaluations'

describe('the examples of the specification', () => {
  const policy = `
resources:
  account: { functions: { can_read: read } }
  todo: { functions: { can_read: read } }
  document: { functions: { can_read: read, can_edit: write, read: read } }
agents:
  app:
    may:
      - account:can_read
      - todo:can_read
      - document:can_read
      - { do: document:read, when: "args.id != '2'" }
      - { do: document:can_edit, ask: true, because: a viewer of the resource }
`
  const alice = { type: 'user', id: 'alice@example.com' }
  const context = { time: '1985-10-26T01:22-07:00' }
  const doc = (id: string) => ({ resource: { type: 'document', id } })

  test('§6.1, an access evaluation: `{ "decision": true }`, and the id of the request', async () => {
    const side = await open(policy)
    const session = await side.session('app', 'user:alice@example.com')
    const request = {
      subject: alice,
      resource: { type: 'account', id: '123' },
      action: { name: 'can_read', properties: { method: 'GET' } },
      context,
    }
    const id = 'bfe9eb29-ab87-4ca3-be83-a1d5d8305716'
    const answer = await side.post(one, session, request, { 'x-request-id': id })
    expect([answer.status, answer.text]).toEqual([200, '{"decision":true}'])
    expect(answer.headers.get('content-type')).toBe('application/json')
    expect(answer.headers.get('x-request-id')).toBe(id)
    expect(side.world.audit.of('evaluation')).toMatchObject([
      {
        permission: 'account:can_read',
        decision: 'allow',
        subject: 'user:alice@example.com',
        request: id,
        args: { id: '123', method: 'GET' },
      },
    ])

    const https = { subject: alice, resource: { type: 'todo', id: '1' }, action: { name: 'can_read' }, context }
    expect((await side.post(one, session, https)).text).toBe('{"decision":true}')
  })

  test('§7.1, three evaluations: without defaults, with them, and with one overridden', async () => {
    const side = await open(policy)
    const session = await side.session('app', 'user:alice@example.com')
    const [read, edit] = [{ action: { name: 'can_read' } }, { action: { name: 'can_edit' } }]
    const subject = { subject: alice, context }
    const [a, b, c] = [doc('boxcarring.md'), doc('subject-search.md'), doc('resource-search.md')]
    const whole = { ...subject, ...read }
    const yes = { decision: true }
    for (const body of [
      {
        evaluations: [
          { ...whole, ...a },
          { ...whole, ...b },
          { ...whole, ...c },
        ],
      },
      {
        ...subject,
        evaluations: [
          { ...read, ...a },
          { ...read, ...b },
          { ...read, ...c },
        ],
      },
    ])
      expect((await side.post(several, session, body)).body).toEqual({ evaluations: [yes, yes, yes] })

    const { body } = await side.post(several, session, { ...whole, evaluations: [a, b, { ...edit, ...c }] })
    expect(body).toEqual({
      evaluations: [
        yes,
        yes,
        {
          decision: false,
          context: {
            reason: 'a viewer of the resource',
            code: 'approval_needed',
            event: expect.any(String),
            approval: { needs: [{ count: 1 }], within: 900 },
          },
        },
      ],
    })
  })

  test.each([
    ['execute_all', [true, false, true]],
    [undefined, [true, false, true]],
    ['deny_on_first_deny', [true, false]],
    ['permit_on_first_permit', [true]],
  ])('§7.1.2.1, evaluations_semantic %s', async (semantic, decisions) => {
    const side = await open(policy)
    const session = await side.session('app', 'user:alice@example.com')
    const { body } = await side.post(several, session, {
      subject: alice,
      action: { name: 'read' },
      ...(semantic === undefined ? {} : { options: { evaluations_semantic: semantic, another_option: 'value' } }),
      evaluations: [doc('1'), doc('2'), doc('3')],
    })
    expect((body.evaluations as { decision: boolean }[]).map(({ decision }) => decision)).toEqual(decisions)
    expect(side.world.audit.of('evaluation')).toHaveLength(decisions.length)
  })
})

describe('the certification scenario of AuthZEN 1.0', () => {
  const policy = `
facts: { role: string }
resources:
  record:
    functions:
      read: read
      write: { effect: write, arguments: { type: object, properties: { id: { type: string }, status: { type: string } } } }
      delete: { effect: destroy, arguments: { type: object, properties: { soft: { type: boolean } }, required: [soft] } }
agents:
  alice:
    may:
      - record:read
      - { do: record:write, when: "!has(args.status) || args.status != 'archived'" }
      - { do: record:delete, when: args.soft, ask: never }
  bob:
    may: [record:read, { do: record:write, when: "session.role == 'admin' && has(args.status)" }]
`
  const user = (id: string, properties?: object) => ({ type: 'user', id, ...(properties && { properties }) })
  const record = (id: string, properties?: object) => ({ type: 'record', id, ...(properties && { properties }) })
  const ask = (subject: object, name: string, resource: object, properties?: object) => ({
    subject,
    action: { name, ...(properties && { properties }) },
    resource,
  })
  const alice = user('alice')
  const bob = user('bob')
  const first = record('record-1')
  const archived = record('record-2', { status: 'archived' })

  async function scenario() {
    const side = await open(policy)
    const sessions = {
      alice: await side.session('alice', 'user:alice'),
      bob: await side.session('bob', 'user:bob', { role: 'member' }),
      admin: await side.session('bob', 'user:bob', { role: 'admin' }),
    }
    return { side, sessions }
  }

  test.each([
    ['rule 1', 'alice', ask(alice, 'read', first), true],
    ['rule 2', 'alice', ask(alice, 'write', first), true],
    ['rule 3', 'bob', ask(bob, 'read', first), true],
    ['rule 4', 'bob', ask(bob, 'write', first), false],
    ['rule 5', 'alice', ask(alice, 'write', archived), false],
    // An agent can't make itself an administrator: what a session is was said by who started it.
    ['rule 6, as a fact of the session', 'admin', ask(user('bob', { role: 'admin' }), 'write', archived), true],
    ['rule 6, as the subject says of itself', 'bob', ask(user('bob', { role: 'admin' }), 'write', archived), false],
    ['rule 7', 'alice', ask(alice, 'delete', first, { soft: true }), true],
    ['rule 8', 'alice', ask(alice, 'delete', first, { soft: false }), false],
    ['optional context', 'alice', { ...ask(alice, 'read', first), context: { time: 'now', ip: '192.168.1.1' } }, true],
    [
      'additional properties',
      'alice',
      ask(user('alice', { role: 'manager' }), 'read', record('record-1', { owner: 'bob' }), { method: 'GET' }),
      true,
    ],
    ['unknown fields', 'alice', { ...ask(alice, 'read', first), foo: 'bar', futureField: { nested: true } }, true],
  ] as const)('basic, %s', async (_what, who, request, decision) => {
    const { side, sessions } = await scenario()
    for (const path of [one, several, one]) {
      const { status, body } = await side.post(path, sessions[who], request)
      expect([status, body.decision]).toEqual([200, decision])
      if (decision) expect(body).toEqual({ decision: true })
    }
    expect((await side.post(several, sessions[who], { ...request, evaluations: [] })).body.decision).toBe(decision)
  })

  const good = ask(alice, 'read', first)
  test.each([
    ['no subject', { ...good, subject: undefined }],
    ['no action', { ...good, action: undefined }],
    ['no resource', { ...good, resource: undefined }],
    ['a subject without a type', { ...good, subject: { id: 'alice' } }],
    ['a subject without an id', { ...good, subject: { type: 'user' } }],
    ['an action without a name', { ...good, action: {} }],
    ['a resource without a type', { ...good, resource: { id: 'record-1' } }],
    ['a resource without an id', { ...good, resource: { type: 'record' } }],
    ['a subject that is text', { ...good, subject: 'alice' }],
    ['an action named by a number', { ...good, action: { name: 123 } }],
    ['properties that are a list', { ...good, resource: { ...first, properties: [] } }],
    ['a context that is text', { ...good, context: 'now' }],
    ['an argument with two values', { ...good, context: { arguments: { id: 'record-2' } } }],
    ['a name without end', { ...good, action: { name: 'x'.repeat(201) } }],
    ['evaluations that are no list', { ...good, evaluations: {} }],
    ['evaluations without end', { ...good, evaluations: Array.from({ length: 101 }, () => ({})) }],
    ['another semantic', { ...good, evaluations: [{}], options: { evaluations_semantic: 'some' } }],
    ['a list', []],
    ['malformed JSON', '{'],
    ['a name twice', `{"subject":{},${JSON.stringify(good).slice(1)}`],
    ['nothing', ''],
  ])('%s: 400, with a message, and nothing is decided', async (_what, body) => {
    const { side, sessions } = await scenario()
    const answer = await side.post(several, sessions.alice, body, { 'x-request-id': 'r' })
    expect([answer.status, answer.headers.get('x-request-id')]).toEqual([400, 'r'])
    expect(answer.text).toMatch(/^\S.{3,}/)
    expect(side.world.audit.of('evaluation')).toEqual([])
  })

  test('another content type: 400', async () => {
    const { side, sessions } = await scenario()
    expect((await side.post(one, sessions.alice, good, { 'content-type': 'text/plain' })).status).toBe(400)
  })

  test.each([
    [
      'fixture decisions, in their order',
      'bob',
      { subject: bob, resource: first, evaluations: [{ action: { name: 'read' } }, { action: { name: 'write' } }] },
      [true, false],
    ],
    [
      'properties, for each',
      'alice',
      {
        subject: alice,
        action: { name: 'write' },
        evaluations: [{ resource: record('record-1', { status: 'active' }) }, { resource: archived }],
      },
      [true, false],
    ],
    [
      'no defaults: whoever else is asked about is refused',
      'alice',
      { evaluations: [ask(alice, 'read', first), ask(bob, 'write', first)] },
      [true, false],
    ],
    [
      'a context overridden',
      'alice',
      {
        subject: alice,
        action: { name: 'read' },
        context: { time: '2025-06-27T18:03-07:00' },
        evaluations: [{ resource: first }, { resource: record('record-2'), context: { source: 'batch-override' } }],
      },
      [true, true],
    ],
    [
      'an entity replaces the default, save for what it leaves out and has to have',
      'alice',
      {
        subject: alice,
        action: { name: 'write' },
        resource: { type: 'record', properties: { status: 'archived' } },
        evaluations: [{ resource: { id: 'record-1', properties: { status: 'active' } } }, { resource: archived }],
      },
      [true, false],
    ],
    [
      'an error of one is its own',
      'alice',
      { subject: alice, action: { name: 'read' }, evaluations: [{ resource: first }, {}, 7] },
      [true, false, false],
    ],
  ] as const)('batch, %s', async (_what, who, request, decisions) => {
    const { side, sessions } = await scenario()
    const { status, body } = await side.post(several, sessions[who], request)
    expect(status).toBe(200)
    expect(Object.keys(body as object)).toEqual(['evaluations'])
    expect((body.evaluations as { decision: boolean }[]).map(({ decision }) => decision)).toEqual(decisions)
  })
})

// Five people, forty decisions. `ownerID` is a property of the resource, as in 1.0.
describe('the todo scenario of the interoperability events', () => {
  const side = () =>
    open(`
facts: { mail: string, role: string }
resources:
  user: { functions: { can_read_user: read } }
  todo:
    functions:
      can_read_todos: read
      can_create_todo: write
      can_update_todo: { effect: write, arguments: &owned { type: object, properties: { ownerID: { type: string } } } }
      can_delete_todo: { effect: destroy, arguments: *owned }
agents:
  todo-app:
    may:
      - user:can_read_user
      - todo:can_read_todos
      - { do: todo:can_create_todo, when: "session.role in ['admin', 'editor']" }
      - { do: todo:can_update_todo, when: &own "session.role == 'admin' || session.role == 'editor' && args.ownerID == session.mail" }
      - { do: todo:can_delete_todo, when: *own, ask: never }
`)
  const rick = 'rick@the-citadel.com'
  test.each([
    [rick, 'admin', [true, true, true, true, true, true, true, true]],
    ['morty@the-citadel.com', 'editor', [true, true, true, true, false, true, false, true]],
    ['summer@the-smiths.com', 'editor', [true, true, true, true, false, true, false, true]],
    ['beth@the-smiths.com', 'viewer', [true, true, true, false, false, false, false, false]],
    ['jerry@the-smiths.com', 'viewer', [true, true, true, false, false, false, false, false]],
  ])('%s (%s)', async (mail, role, decisions) => {
    const { post, session } = await side()
    const id = await session('todo-app', `user:${mail}`, { mail, role })
    const own = mail === rick ? 'morty@the-citadel.com' : mail
    const todo = (name: string, ownerID?: string) => ({
      action: { name },
      resource: { type: 'todo', id: 'todo-1', ...(ownerID === undefined ? {} : { properties: { ownerID } }) },
    })
    const read = (who: string) => ({ action: { name: 'can_read_user' }, resource: { type: 'user', id: who } })
    const { body } = await post(several, id, {
      subject: { type: 'user', id: mail },
      evaluations: [
        read('beth@the-smiths.com'),
        read(mail),
        todo('can_read_todos'),
        todo('can_create_todo'),
        todo('can_update_todo', rick),
        todo('can_update_todo', own),
        todo('can_delete_todo', rick),
        todo('can_delete_todo', own),
      ],
    })
    expect((body.evaluations as { decision: boolean }[]).map(({ decision }) => decision)).toEqual(decisions)
  })
})

describe('what an evaluation is here', () => {
  const policy = `
resources:
  mail:
    functions:
      count: read
      send: { effect: send, arguments: { type: object, properties: { to: { type: string } }, required: [to], additionalProperties: false } }
      purge: destroy
agents:
  helper: { may: [mail:send, { do: mail:count, limits: { calls: 1/min } }] }
  reckless: { may: ['mail:*'] }
`
  const about = (name: string, more: object = {}, type = 'mail') => ({
    subject: { type: 'agent', id: 'helper' },
    action: { name },
    resource: { type, id: '*' },
    ...more,
  })

  test('a subject is the session, its agent, or whom it runs for; nobody else', async () => {
    const side = await open(policy)
    const session = await side.session('helper', 'person:anna')
    const other = await side.session('helper', 'person:berta')
    const decided = async (type: string, id: string) =>
      (await side.post(one, session, about('count', { subject: { type, id } }))).body.decision as boolean
    expect(await decided('agent', 'helper')).toBe(true)
    expect(await decided('session', session)).toBe(true)
    expect(await decided('person', 'anna')).toBe(true)
    for (const [type, id] of [
      ['agent', 'reckless'],
      ['session', other],
      ['person', 'berta'],
      ['user', 'anna'],
      ['person:', 'anna'],
      ['', ''],
    ] as const)
      expect(await decided(type, id)).toBe(false)
  })

  test('it charges nothing, asks nobody and marks nothing', async () => {
    const side = await open(policy)
    const session = await side.session('helper')
    for (let each = 0; each < 3; each++)
      expect((await side.post(one, session, about('count'))).body).toEqual({ decision: true })
    expect((await side.post('/v1/check', session, { operation: 'mail:count' })).body.decision).toBe('allow')
    expect((await side.post(one, session, about('count'))).body).toEqual({
      decision: false,
      context: { code: 'limited', reason: expect.any(String), event: expect.any(String), retry_at: expect.any(String) },
    })
    expect(side.world.audit.events.filter(({ type }) => type.startsWith('approval'))).toEqual([])
    expect(side.world.audit.of('evaluation')).toHaveLength(4)
  })

  test('unknown and denied look the same, for those with a wildcard too', async () => {
    const side = await open(policy)
    const session = await side.session('helper')
    const plain = (body: { context: object }) => ({ ...body, context: { ...body.context, event: '' } })
    const denied = plain((await side.post(one, session, about('purge'))).body as { context: object })
    expect(denied).toMatchObject({ decision: false, context: { code: 'unknown' } })
    for (const unknown of [about('nothing'), about('purge', {}, 'nowhere'), about('constructor', {}, '__proto__x')])
      expect(plain((await side.post(one, session, unknown)).body as { context: object })).toEqual(denied)
    const wide = await side.session('reckless')
    const subject = { type: 'agent', id: 'reckless' }
    expect(plain((await side.post(one, wide, about('nothing', { subject }))).body as { context: object })).toEqual(
      denied,
    )
  })

  test('arguments are checked by the schema, and an id that the operation does not take is no argument to leave out', async () => {
    const side = await open(policy)
    const session = await side.session('helper')
    const decided = async (more: object) => (await side.post(one, session, about('send', more))).body
    expect(await decided({ context: { arguments: { to: 'a' } } })).toEqual({ decision: true })
    expect(await decided({ resource: { type: 'mail', id: '*', properties: { to: 'a' } } })).toEqual({ decision: true })
    for (const more of [
      {},
      { context: { arguments: { to: 5 } } },
      { resource: { type: 'mail', id: '5', properties: { to: 'a' } } },
    ])
      expect(await decided(more)).toMatchObject({ decision: false, context: { code: 'invalid_arguments' } })
  })

  test('operations of other gateways can be asked about, and those that are barred are refused', async () => {
    const [read, calm] = ['read', { trust: 'trusted', readers: 'public' }] as const
    const lookup = { effect: read, label: calm, check: () => [] }
    const barred = { code: 'quarantined', because: 'its definition changed' } as const
    const side = await open(
      policy
        .replace('mail:send,', 'mail:send, crm:lookup, crm:other,')
        .replace('resources:', 'resources:\n  crm: { mcp: { command: [x] } }'),
      {
        'crm:lookup': lookup,
        'crm:other': { ...lookup, barred },
      },
    )
    const session = await side.session('helper')
    expect((await side.post(one, session, about('lookup', {}, 'crm'))).body).toEqual({ decision: true })
    expect((await side.post(one, session, about('other', {}, 'crm'))).body).toMatchObject({
      decision: false,
      context: { code: 'quarantined', reason: 'its definition changed' },
    })
    // They are performed where they are: not by whoever asks here.
    expect((await side.post('/v1/check', session, { operation: 'crm:lookup' })).body.code).toBe('unknown')
  })

  test('promise 3: what can’t be recorded is not answered with a decision', async () => {
    const side = await open(policy)
    const session = await side.session('helper')
    side.world.audit.full = true
    for (const path of [one, several]) {
      const { status, text } = await side.post(path, session, {
        ...about('count'),
        evaluations: path === one ? [] : [{}],
      })
      expect(status).toBe(503)
      expect(text).not.toContain('decision')
    }
  })

  test('other methods and addresses', async () => {
    const side = await open(policy)
    const session = await side.session('helper')
    const headers = { authorization: `Bearer ${session}` }
    for (const path of [one, several, '/v1/check', '/v1/result']) {
      const answer = await side.send(path, { method: 'GET', headers })
      expect([answer.status, answer.headers.get('allow')]).toEqual([405, 'POST'])
    }
    expect((await side.post('/access/v1/search/subject', session, {})).status).toBe(404)
    expect((await side.send('/.well-known/authzen-configuration', { method: 'POST' })).status).toBe(405)
    expect((await side.post(one, session, `"${'x'.repeat(1_100_000)}"`)).status).toBe(413)
  })
})
