import http from 'node:http'
import { afterEach, expect, test, vi } from 'vitest'
import { startDecisionApi } from '../../../test/support/decision-api.ts'
import type { DecisionApiSide } from '../../../test/support/decision-api.ts'

const policy = `
resources:
  mail:
    functions:
      list: read
      send:
        effect: send
        arguments: { type: object, properties: { to: { type: string } }, required: [to], additionalProperties: false }
        returns: { type: object, properties: { sent: { type: boolean } }, required: [sent] }
      drop: { effect: destroy, trust: trusted, readers: private }
      purge: destroy
    result: 1 kB
    timeout: 20 s
agents:
  helper: { may: [mail:list, mail:send, mail:drop], limits: { repeats: unlimited } }
  busy: { may: [{ do: mail:list, limits: { concurrent: 1 } }] }
  reckless: { may: ['mail:*'] }
`

const opened: DecisionApiSide[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((side) => side.close()))
})
async function open() {
  const side = await startDecisionApi(policy)
  opened.push(side)
  const check = (session: string, operation: string, more: object = {}) =>
    side.post('/v1/check', session, { operation, ...more })
  const result = (session: string, body: object) => side.post('/v1/result', session, body)
  return { ...side, check, result, audit: side.world.audit }
}

test('what was allowed is reported once: the result is labelled, recorded and handed back without secrets', async () => {
  const { session, check, result, audit, world, secret } = await open()
  const id = await session('helper')
  const { body } = await check(id, 'mail:list')
  expect(body).toEqual({
    decision: 'allow',
    token: expect.stringMatching(/^chk_[\w-]{43}$/),
    expiresAt: new Date(world.time.now + 20_000).toISOString(),
    because: expect.any(String),
    event: expect.any(String),
  })
  expect(audit.of('decision')).toMatchObject([
    { id: body.event, decision: 'allow', via: 'api', permission: 'mail:list' },
  ])
  // Marked before the function runs: what it reads, it could tell the model by itself.
  expect(world.sessions.label(id)).toEqual({ trust: 'untrusted', readers: 'internal' })

  const closed = await result(id, { token: body.token, result: [{ text: `the key is ${secret}`, big: 1e20 }] })
  expect(closed.body).toEqual({
    outcome: 'done',
    result: [{ text: 'the key is [secret]', big: 1e20 }],
    event: body.event,
  })
  expect(audit.of('action.done')).toMatchObject([
    { of: body.event, checks: { ran: ['size'] }, bytes: expect.any(Number) },
  ])

  const again = await result(id, { token: body.token, result: [] })
  expect([again.status, again.body.error]).toEqual([409, 'conflict'])
  expect(audit.of('action.done')).toHaveLength(1)
})

test('two reports at one moment: one of them counts', async () => {
  const { session, check, result, audit } = await open()
  const id = await session('helper')
  const { token } = (await check(id, 'mail:list')).body as { token: string }
  const answers = await Promise.all([1, 2, 3, 4].map((each) => result(id, { token, result: each })))
  expect(answers.map(({ status }) => status).sort((a, b) => a - b)).toEqual([200, 409, 409, 409])
  expect(audit.of('action.done')).toHaveLength(1)
})

test('a token is of its session alone', async () => {
  const { session, check, result } = await open()
  const [id, other] = [await session('helper'), await session('helper')]
  const { token } = (await check(id, 'mail:list')).body as { token: string }
  expect((await result(other, { token, result: 1 })).status).toBe(409)
  expect((await result(id, { token, result: 1 })).status).toBe(200)
})

test('an error is reported too', async () => {
  const { session, check, result, audit, secret } = await open()
  const id = await session('helper')
  const { body } = await check(id, 'mail:list')
  const closed = await result(id, { token: body.token, error: `no route with ${secret}` })
  expect(closed.body).toEqual({ outcome: 'failed', error: 'no route with [secret]', event: body.event })
  expect(audit.of('action.error')).toMatchObject([{ of: body.event }])
})

test.each([
  ['too large', 'mail:list', {}, 'x'.repeat(1_000), /has 1002 bytes, and may have 1000/],
  ['not what was promised', 'mail:send', { to: 'a' }, { sent: 'yes' }, /\/sent: /],
])('promise 3: a result that is %s is refused, and recorded as such', async (_what, operation, args, given, words) => {
  const { session, check, result, audit } = await open()
  const id = await session('helper')
  const { body } = await check(id, operation, { arguments: args })
  const closed = await result(id, { token: body.token, result: given })
  expect(closed.body).toEqual({ outcome: 'refused', because: expect.stringMatching(words), event: body.event })
  expect(audit.of('action.error')).toMatchObject([
    { of: body.event, result: { refused: expect.stringMatching(words) } },
  ])
})

test('without a result in time, the action failed, and a later one is refused', async () => {
  const { session, check, result, audit } = await open()
  const id = await session('helper')
  const { body } = await check(id, 'mail:list', { within: 0.02 })
  await vi.waitFor(() => expect(audit.of('action.failed')).toHaveLength(1))
  expect(audit.of('action.failed')).toMatchObject([
    { of: body.event, because: 'no result was reported', mayHaveHappened: true },
  ])
  expect((await result(id, { token: body.token, result: 1 })).status).toBe(409)
})

test('a program may have ten minutes at most', async () => {
  const { session, check, world } = await open()
  const { body } = await check(await session('helper'), 'mail:list', { within: 1e9 })
  expect(body.expiresAt).toBe(new Date(world.time.now + 600_000).toISOString())
})

test('promise 2: the end of a session cuts what is open in it', async () => {
  const { session, check, result, audit, world } = await open()
  const id = await session('helper')
  const { body } = await check(id, 'mail:list')
  await world.sessions.end([id], 'over', 'person:admin')
  await vi.waitFor(() => expect(audit.of('action.failed')).toMatchObject([{ of: body.event, mayHaveHappened: true }]))
  expect((await result(id, { token: body.token, result: 1 })).status).toBe(409)
  expect((await check(id, 'mail:list')).body).toMatchObject({ decision: 'deny', code: 'session_over' })
})

test('promise 1: what can’t be recorded is not allowed', async () => {
  const { session, check, audit } = await open()
  const id = await session('helper')
  audit.full = true
  for (const operation of ['mail:list', 'mail:purge']) {
    const { status, body } = await check(id, operation)
    expect([status, body.error]).toEqual([503, 'unavailable'])
    expect(body.token).toBeUndefined()
  }
})

test('promise 5: an approval lets one exact call happen once', async () => {
  const { session, check, result, world } = await open()
  const id = await session('helper')
  const pending = await check(id, 'mail:drop', { arguments: { id: 1 } })
  expect(pending.body).toEqual({
    decision: 'pending',
    approval: { id: expect.stringMatching(/^appr_/), expiresAt: expect.any(String) },
    because: expect.any(String),
    event: expect.any(String),
  })
  const anna = { kind: 'person', name: 'anna', roles: ['approver'], teams: [] } as const
  await world.approvals.answer(pending.body.approval.id as string, anna, 'approve')

  expect((await check(id, 'mail:drop', { arguments: { id: 2 } })).body.decision).toBe('pending')
  const { body } = await check(id, 'mail:drop', { arguments: { id: 1 } })
  expect(body.decision).toBe('allow')
  expect((await result(id, { token: body.token, result: null })).status).toBe(200)
  expect((await check(id, 'mail:drop', { arguments: { id: 1 } })).body.decision).toBe('pending')
  expect(world.sessions.label(id)).toEqual({ trust: 'trusted', readers: 'private' })
})

test('a check that people deny says so', async () => {
  const { session, check, world } = await open()
  const id = await session('helper')
  const asked = check(id, 'mail:drop', { wait: 60 })
  await vi.waitFor(() =>
    expect(world.audit.of('approval.open').length + world.audit.of('approval.request').length).toBeGreaterThanOrEqual(
      0,
    ),
  )
  const [question] = await vi.waitFor(async () => {
    const found = await world.stores.approvals.list({ states: ['pending'] })
    expect(found).toHaveLength(1)
    return found
  })
  const anna = { kind: 'person', name: 'anna', roles: ['approver'], teams: [] } as const
  await world.approvals.answer(question?.id ?? '', anna, 'deny', 'not today')
  expect((await asked).body).toMatchObject({
    decision: 'deny',
    code: 'approval_denied',
    because: expect.stringContaining('not today'),
  })
})

test('unknown and denied look the same, for those with a wildcard too, and both are recorded', async () => {
  const { session, check, audit } = await open()
  const id = await session('helper')
  const plain = async (session: string, operation: string) => {
    const { status, body } = await check(session, operation)
    return { status, ...(body as object), event: '' }
  }
  const denied = await plain(id, 'mail:purge')
  expect(denied).toEqual({
    status: 200,
    decision: 'deny',
    code: 'unknown',
    because: 'there is no such operation',
    event: '',
  })
  expect(await plain(id, 'mail:nothing')).toEqual(denied)
  expect(await plain(id, 'nowhere:list')).toEqual(denied)
  expect(await plain(await session('reckless'), 'mail:nothing')).toEqual(denied)
  expect(audit.of('decision').map(({ decision }) => decision)).toEqual(['deny', 'deny', 'deny', 'deny'])
})

test('limits hold: what is open counts as running, until its result is there', async () => {
  const { session, check, result } = await open()
  const id = await session('busy')
  const { body } = await check(id, 'mail:list')
  expect((await check(id, 'mail:list')).body).toMatchObject({ decision: 'deny', code: 'limited' })
  await result(id, { token: body.token, result: [] })
  expect((await check(id, 'mail:list')).body.decision).toBe('allow')
})

test('promise 9: a session has 64 checks open at most, and others have theirs', async () => {
  const { session, check, result } = await open()
  const [id, other] = [await session('helper'), await session('helper')]
  const all = await Promise.all(Array.from({ length: 64 }, () => check(id, 'mail:list')))
  expect(all.every(({ body }) => body.decision === 'allow')).toBe(true)
  const more = await check(id, 'mail:list')
  expect([more.status, more.body.error]).toEqual([429, 'limited'])
  expect((await check(other, 'mail:list')).body.decision).toBe('allow')
  await result(id, { token: all[0]?.body.token, result: 1 })
  expect((await check(id, 'mail:list')).body.decision).toBe('allow')
})

async function leave(request: http.ClientRequest): Promise<void> {
  const gone = new Promise((resolve) => request.once('close', resolve))
  request.destroy()
  await gone
}

test('a caller that leaves before it has an answer leaves nothing open', async () => {
  const { session, check, world, url, audit } = await open()
  const waiting = await session('helper')
  // It waits for people, and gives up.
  const request = http.request(`${url}/v1/check`, {
    method: 'POST',
    headers: { authorization: `Bearer ${waiting}`, 'content-type': 'application/json' },
  })
  request.on('error', () => {})
  request.end(JSON.stringify({ operation: 'mail:drop', wait: 60 }))
  await vi.waitFor(async () => expect(await world.stores.approvals.list({ states: ['pending'] })).toHaveLength(1))
  await leave(request)
  const decisions = () => audit.of('decision').filter(({ permission }) => permission === 'mail:drop')
  await vi.waitFor(() => expect(decisions()).toMatchObject([{ decision: 'ask' }]))
  // People agree after it left: whoever asks again may, and nothing was opened for nobody.
  const [question] = await world.stores.approvals.list({ states: ['pending'] })
  const anna = { kind: 'person', name: 'anna', roles: ['approver'], teams: [] } as const
  await world.approvals.answer(question?.id ?? '', anna, 'approve')
  expect(decisions()).toHaveLength(1)
  expect((await check(waiting, 'mail:drop')).body.decision).toBe('allow')
})

test('an answer that could not be written closes what it opened', async () => {
  const { session, check, url, audit } = await open()
  const id = await session('busy')
  // Its decision is recorded only once the caller is gone.
  const gate = Promise.withResolvers<void>()
  const append = audit.append.bind(audit)
  let asked = false
  audit.append = (event, wait) => {
    const appended = append(event, wait)
    if (event.type !== 'decision' || asked) return appended
    asked = true
    return { ...appended, done: gate.promise }
  }
  const request = http.request(`${url}/v1/check`, {
    method: 'POST',
    headers: { authorization: `Bearer ${id}`, 'content-type': 'application/json' },
  })
  request.on('error', () => {})
  request.end(JSON.stringify({ operation: 'mail:list' }))
  await vi.waitFor(() => expect(asked).toBe(true))
  await leave(request)
  gate.resolve()
  await vi.waitFor(() => expect(audit.of('action.failed')).toHaveLength(1))
  expect((await check(id, 'mail:list')).body.decision).toBe('allow')
})

test.each([
  ['no operation', {}],
  ['an operation without a resource', { operation: 'list' }],
  ['an operation without end', { operation: `mail:${'x'.repeat(201)}` }],
  ['arguments that are a list', { operation: 'mail:list', arguments: [] }],
  ['no time', { operation: 'mail:list', within: 0 }],
  ['a time that is text', { operation: 'mail:list', wait: '5' }],
  ['an unknown key', { operation: 'mail:list', args: {} }],
  ['a name twice', '{"operation":"mail:list","operation":"mail:send"}'],
  ['a number that would be rounded', '{"operation":"mail:list","arguments":{"id":9007199254740993}}'],
  ['too deep', `{"operation":"mail:list","arguments":{"a":${'['.repeat(70)}${']'.repeat(70)}}}`],
  ['a list', '[]'],
  ['nothing', ''],
])('a check with %s: 400, and nothing is decided', async (_what, body) => {
  const { session, post, audit } = await open()
  const answer = await post('/v1/check', await session('helper'), body)
  expect([answer.status, answer.body.error]).toEqual([400, 'invalid'])
  expect(answer.body.error_description).toMatch(/\S/)
  expect(audit.of('decision')).toEqual([])
})

test('a report that is wrong leaves the check open', async () => {
  const { session, check, result, post } = await open()
  const id = await session('helper')
  const { token } = (await check(id, 'mail:list')).body as { token: string }
  for (const body of [
    { token },
    { token, error: 5 },
    { token, result: 1, error: 'x' },
    { result: 1 },
    { token, result: 1, more: 1 },
  ])
    expect((await result(id, body)).status).toBe(400)
  expect((await post('/v1/result', id, { token, result: 1 }, { 'content-type': 'text/plain' })).status).toBe(415)
  expect((await post('/v1/result', id, { token, result: 'x'.repeat(17_000_000) })).status).toBe(413)
  expect((await result(id, { token, result: 1 })).status).toBe(200)
})

test('functions that are taken away end no call that runs', async () => {
  const { session, check, result, api } = await open()
  const id = await session('helper')
  const { token } = (await check(id, 'mail:list')).body as { token: string }
  api.reload([])
  expect((await check(id, 'mail:list')).body.code).toBe('unknown')
  expect((await result(id, { token, result: [1] })).body.outcome).toBe('done')
})
