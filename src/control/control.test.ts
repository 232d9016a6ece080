import http from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startPeopleSide } from '../../test/support/people.ts'
import type { PeopleSide } from '../../test/support/people.ts'
import { action, atOnce, counted, nobodyLeaves } from '../../test/support/world.ts'
import type { ApprovalView, Explained, IssuedKey, Killed, StartedSession } from './wire.ts'
import type { Approval } from '../core/approval.ts'

let side: PeopleSide
beforeAll(async () => {
  side = await startPeopleSide()
})
afterAll(() => side.close())

interface Answered<T> {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly text: string
  readonly body: T & { readonly error?: { readonly code: string; readonly message: string } }
}

/** By hand rather than with fetch, so that any header can be sent. */
function call<T = object>(
  method: string,
  path: string,
  {
    key,
    body,
    headers = {},
    to = side,
  }: { key?: string | undefined; body?: unknown; headers?: http.OutgoingHttpHeaders; to?: PeopleSide } = {},
): Promise<Answered<T>> {
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const request = http.request(`${to.url}${path}`, {
      method,
      agent: false,
      headers: {
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        ...(text === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
    })
    request.once('error', reject)
    request.once('response', (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.once('error', reject)
      response.once('end', () => {
        const all = Buffer.concat(chunks).toString()
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: all,
          body: JSON.parse(all || '{}') as Answered<T>['body'],
        })
      })
    })
    request.end(text)
  })
}

type Holder = keyof PeopleSide['keys']

/** Every route, with who may use it; a body that is well-formed, and names what does not exist. */
const routes: readonly [method: string, path: string, may: readonly Holder[], body?: object][] = [
  ['POST', '/v1/sessions', ['admin', 'desk'], { agent: 'reader', lasts: 60 }],
  ['GET', '/v1/sessions', ['admin', 'approver', 'auditor']],
  ['GET', '/v1/sessions/ses_none', ['admin', 'approver', 'auditor']],
  ['DELETE', '/v1/sessions/ses_none', ['admin', 'desk']],
  ['GET', '/v1/approvals', ['admin', 'approver', 'auditor']],
  ['GET', '/v1/approvals/appr_none', ['admin', 'approver', 'auditor']],
  ['POST', '/v1/approvals/appr_none/answer', ['admin', 'approver'], { verdict: 'approve' }],
  ['POST', '/v1/approvals/appr_none/edit', ['admin', 'approver'], { args: {} }],
  ['GET', '/v1/keys', ['admin']],
  ['POST', '/v1/keys', ['admin'], { holder: 'agent:nobody' }],
  ['DELETE', '/v1/keys/key_none', ['admin']],
  ['POST', '/v1/explain', ['admin', 'approver', 'auditor'], { agent: 'reader', permission: 'helpdesk:search' }],
  ['POST', '/v1/reload', ['admin'], {}],
  ['GET', '/v1/policies', ['admin', 'auditor']],
  ['GET', '/v1/policies/none', ['admin', 'auditor']],
  ['POST', '/v1/kill', ['admin', 'approver'], { target: 'nobody' }],
  ['POST', '/v1/revive', ['admin'], { target: 'nobody' }],
  ['GET', '/v1/stops', ['admin', 'approver', 'auditor']],
  ['GET', '/v1/pins', ['admin', 'auditor']],
  ['POST', '/v1/pins/accept', ['admin'], { resource: 'crm', kind: 'tool', name: 'x', digest: 'x' }],
  ['GET', '/v1/databases', ['admin', 'auditor']],
  ['GET', '/v1/databases/none/plan', ['admin']],
  ['POST', '/v1/databases/none/verifiers', ['admin']],
  ['POST', '/v1/databases/none/apply', ['admin'], { admin: 'postgres://a@b/c' }],
  ['POST', '/v1/databases/none/verify', ['admin', 'auditor']],
  ['POST', '/v1/databases/none/remove', ['admin'], { admin: 'postgres://a@b/c' }],
  ['POST', '/v1/databases/none/suggest', ['admin'], { tables: [] }],
  ['GET', '/v1/databases/none/changes', ['admin', 'auditor']],
  ['POST', '/v1/databases/none/undo', ['admin'], { change: '1', admin: 'postgres://a@b/c' }],
  ['GET', '/v1/audit', ['admin', 'auditor']],
  ['GET', '/v1/audit/checkpoint', ['admin', 'auditor']],
  ['GET', '/v1/audit/events/evt_none', ['admin', 'auditor']],
  ['GET', '/v1/status', ['admin', 'approver', 'auditor', 'desk']],
]
const holders: readonly Holder[] = ['admin', 'approver', 'auditor', 'desk', 'agent']

describe.each(routes)('%s %s', (method, path, may, body) => {
  test.each(holders.filter((holder) => may.includes(holder)))('is open to %s', async (holder) => {
    const { status } = await call(method, path, { key: side.keys[holder], body })
    expect([200, 400, 404]).toContain(status)
  })

  test.each(holders.filter((holder) => !may.includes(holder) && holder !== 'agent'))(
    'is closed to %s',
    async (holder) => {
      const before = side.world.audit.events.length
      const { status, body: answer } = await call(method, path, { key: side.keys[holder], body })
      expect([status, answer.error?.code]).toEqual([403, 'forbidden'])
      expect(side.world.audit.events).toHaveLength(before)
    },
  )

  test('promise 6: no credential of an agent opens it, and none tells what is there', async () => {
    const session = await call<StartedSession>('POST', '/v1/sessions', {
      key: side.keys.admin,
      body: { agent: 'reader' },
    })
    const jwt = await call<StartedSession>('POST', '/v1/sessions', {
      key: side.keys.admin,
      body: { agent: 'reader', token: 'jwt' },
    })
    const nowhere = await call('GET', '/v1/there-is-no-such-route')
    for (const key of [side.keys.agent, session.body.token, jwt.body.token, 'sp_person_', undefined]) {
      const answered = await call(method, path, { key, body })
      expect(answered.status).toBe(401)
      expect(answered.text).toBe(nowhere.text)
    }
  })
})

test('the streams are open to those who may read what they carry', async () => {
  for (const [path, may] of [
    ['/v1/approvals/watch', ['admin', 'approver', 'auditor']],
    ['/v1/audit/tail', ['admin', 'auditor']],
  ] as const)
    for (const holder of holders) {
      const leave = new AbortController()
      const { status, body } = await fetch(`${side.url}${path}`, {
        headers: { authorization: `Bearer ${side.keys[holder]}` },
        signal: leave.signal,
      })
      expect([holder, path, status]).toEqual([
        holder,
        path,
        (may as readonly Holder[]).includes(holder) ? 200 : holder === 'agent' ? 401 : 403,
      ])
      await body?.cancel()
      leave.abort()
    }
})

describe('who is at the door', () => {
  test('a host name that is not ours gets nothing, whatever the key: a page can’t rebind to us', async () => {
    for (const host of ['evil.example', '127.0.0.1.evil.example', 'sallyport.local:7401'])
      expect((await call('GET', '/v1/status', { key: side.keys.admin, headers: { host } })).status).toBe(403)
    expect((await call('GET', '/v1/status', { key: side.keys.admin, headers: { host: 'LOCALHOST:1' } })).status).toBe(
      200,
    )
  })

  test('no web page gets in, not even one of ours', async () => {
    for (const origin of ['https://evil.example', side.url, 'null'])
      expect((await call('GET', '/v1/status', { key: side.keys.admin, headers: { origin } })).status).toBe(403)
  })

  test('a key opens nothing once it was revoked, and a person nothing once configuration forgot them', async () => {
    const issued = await call<IssuedKey>('POST', '/v1/keys', {
      key: side.keys.admin,
      body: { holder: 'person:auditor' },
    })
    const { text, key } = issued.body
    expect((await call('GET', '/v1/sessions', { key: text })).status).toBe(200)
    await call('DELETE', `/v1/keys/${key.id}`, { key: side.keys.admin })
    expect((await call('GET', '/v1/sessions', { key: text })).status).toBe(401)
    const forgotten = await side.world.keys.issue('person:gone', 'test')
    expect((await call('GET', '/v1/sessions', { key: forgotten.text })).status).toBe(401)
  })
})

describe('bodies', () => {
  const cases: [name: string, path: string, body: unknown, status: number, says: RegExp][] = [
    ['broken JSON', '/v1/kill', '{"target":', 400, /./],
    ['two keys of one name', '/v1/kill', '{"target":"all","target":"reader"}', 400, /target/],
    ['a list', '/v1/kill', '[]', 400, /object/],
    ['an unknown key', '/v1/kill', { target: 'reader', force: true }, 400, /force/],
    ['a missing key', '/v1/kill', {}, 400, /target/],
    ['a wrong type', '/v1/sessions', { agent: 7 }, 400, /agent/],
    ['a fact that is an object', '/v1/sessions', { agent: 'reader', facts: { a: {} } }, 400, /facts/],
    ['a deadline of no time', '/v1/sessions', { agent: 'reader', lasts: 0 }, 400, /lasts/],
    ['somebody with a line end in their name', '/v1/sessions', { agent: 'reader', behalf: 'a\nb' }, 400, /behalf/],
    ['a verdict that is none', '/v1/approvals/appr_x/answer', { verdict: 'maybe' }, 400, /verdict/],
    ['what is too deep', '/v1/explain', `{"args":${'{"a":'.repeat(200)}1${'}'.repeat(200)}}`, 400, /deep|nest|level/],
    ['what is too large', '/v1/explain', `{"permission":"${'x'.repeat(1_100_000)}"}`, 413, /bytes/],
  ]
  test.each(cases)('%s', async (_name, path, body, status, says) => {
    const answered = await call('POST', path, { key: side.keys.admin, body })
    expect([answered.status, answered.body.error?.message]).toEqual([status, expect.stringMatching(says)])
  })

  test('a body that says it is something else is refused', async () => {
    const headers = { 'content-type': 'text/plain' }
    const answered = await call('POST', '/v1/kill', { key: side.keys.admin, body: { target: 'all' }, headers })
    expect(answered.status).toBe(400)
    expect(side.world.sessions.stops()).not.toContain('all')
  })
})

describe('sessions', () => {
  test('one is started narrowed, with facts, for somebody, and its token is in one answer only', async () => {
    const body = {
      agent: 'responder',
      behalf: 'person:anna',
      facts: { customer_id: 42 },
      only: ['helpdesk:search', { do: 'billing:refund', when: 'args.amount < 10' }],
      limits: { calls: '3/min' },
      lasts: 60,
    }
    const { body: started } = await call<StartedSession>('POST', '/v1/sessions', { key: side.keys.admin, body })
    expect(started.session).toMatchObject({
      agent: 'responder',
      behalf: 'person:anna',
      facts: { customer_id: 42 },
      startedBy: 'person:admin',
      deadline: side.world.time.now + 60_000,
    })
    const { text } = await call('GET', '/v1/sessions', { key: side.keys.admin })
    expect(text).toContain(started.session.id)
    expect(text).not.toContain(started.token)
    expect(text + JSON.stringify(started.session)).not.toMatch(/tokenDigest|digest/)

    const { guard } = side.world
    const may = (permission: string, args: object = {}): string =>
      guard.explain(action(started.session.id, permission, args as never, { effect: 'write' })).kind
    expect(may('helpdesk:search')).toBe('allow')
    expect(may('billing:refund', { amount: 9 })).toBe('ask')
    expect(may('billing:refund', { amount: 10 })).toBe('deny')
    expect(may('crm:lookup')).toBe('deny')
  })

  test('it can’t be wider than its agent', async () => {
    for (const only of [['crm:lookup'], ['*:*']]) {
      const answered = await call('POST', '/v1/sessions', { key: side.keys.admin, body: { agent: 'reader', only } })
      expect([400, 403]).toContain(answered.status)
    }
  })

  test('a service starts sessions of its agents, ends its own, and no others', async () => {
    const { body: own } = await call<StartedSession>('POST', '/v1/sessions', {
      key: side.keys.desk,
      body: { agent: 'reader' },
    })
    expect(own.session).toMatchObject({ startedBy: 'service:desk', behalf: 'service:desk' })
    const other = await call('POST', '/v1/sessions', { key: side.keys.desk, body: { agent: 'responder' } })
    expect(other.status).toBe(403)
    const mine = await side.startSession('reader')
    expect((await call('DELETE', `/v1/sessions/${mine}`, { key: side.keys.desk })).status).toBe(404)
    expect((await call('DELETE', `/v1/sessions/${own.session.id}`, { key: side.keys.desk })).body).toEqual({
      sessions: 1,
    })
    expect(side.world.sessions.get(own.session.id)).toBeUndefined()
    expect(side.world.sessions.get(mine)).toBeDefined()
  })
})

describe('keys', () => {
  test('a key is shown once and works; lists show neither it nor its digest', async () => {
    const { body } = await call<IssuedKey>('POST', '/v1/keys', {
      key: side.keys.admin,
      body: { holder: 'service:desk', lasts: 60 },
    })
    expect(body.text).toMatch(/^sp_service_/)
    expect((await call('GET', '/v1/status', { key: body.text })).status).toBe(200)
    const { text } = await call('GET', '/v1/keys', { key: side.keys.admin })
    expect(text).toContain(body.key.id)
    for (const secret of [body.text, ...Object.values(side.keys), 'digest']) expect(text).not.toContain(secret)
  })

  test('after a rotation the old one goes on for as long as was said', async () => {
    const other = await startPeopleSide()
    try {
      const rotate = { holder: 'service:desk', rotate: 60 }
      const { body } = await call<IssuedKey>('POST', '/v1/keys', { key: other.keys.admin, body: rotate, to: other })
      const works = async (key: string) => (await call('GET', '/v1/status', { key, to: other })).status
      expect([await works(other.keys.desk), await works(body.text)]).toEqual([200, 200])
      other.world.time.now += 60_000
      expect([await works(other.keys.desk), await works(body.text)]).toEqual([401, 200])
    } finally {
      await other.close()
    }
  })

  test('nobody whom configuration does not know gets one', async () => {
    for (const holder of [
      'person:mallory',
      'agent:nobody',
      'service:x',
      'admin',
      'agent:__proto__',
      'person:__proto__',
    ])
      expect((await call('POST', '/v1/keys', { key: side.keys.admin, body: { holder } })).status).toBe(404)
  })

  test('no secret of a request comes back in a complaint about it', async () => {
    const secret = side.keys.agent
    const tries = [
      await call('DELETE', `/v1/keys/${secret}`, { key: side.keys.admin }),
      await call('POST', '/v1/keys', { key: side.keys.admin, body: { holder: 'agent:reader', key: secret } }),
      await call('GET', '/v1/sessions', { key: `${secret}x` }),
    ]
    for (const { text, status } of tries) {
      expect(status).toBeGreaterThanOrEqual(400)
      expect(text).not.toContain(secret)
    }
  })
})

describe('stops', () => {
  test('killing an agent ends its sessions, voids its questions, and lets none start until it is revived', async () => {
    const other = await startPeopleSide()
    try {
      const session = await other.startSession('responder')
      const reader = await other.startSession('reader')
      const id = await other.question(session, 'billing:refund', { amount: 10 })
      const body = { target: 'responder', because: 'it went wild' }
      const { body: killed } = await call<Killed>('POST', '/v1/kill', { key: other.keys.approver, body, to: other })
      expect(killed).toEqual({ sessions: 1, took: expect.any(Number) as number })
      expect(killed.took).toBeLessThan(1000)
      expect(other.world.sessions.get(session)).toBeUndefined()
      expect(other.world.sessions.get(reader)).toBeDefined()
      expect((await other.world.approvals.get(id))?.state).toBe('void')
      const start = () =>
        call('POST', '/v1/sessions', { key: other.keys.admin, body: { agent: 'responder' }, to: other })
      expect((await start()).status).toBe(403)
      const { body: stops } = await call<{ stops: object[] }>('GET', '/v1/stops', {
        key: other.keys.auditor,
        to: other,
      })
      expect(stops.stops).toMatchObject([{ target: 'agent:responder', because: 'it went wild', by: 'person:approver' }])
      expect(
        (await call('POST', '/v1/revive', { key: other.keys.approver, body: { target: 'responder' }, to: other }))
          .status,
      ).toBe(403)
      expect(
        (await call('POST', '/v1/revive', { key: other.keys.admin, body: { target: 'responder' }, to: other })).status,
      ).toBe(200)
      expect((await start()).status).toBe(200)
    } finally {
      await other.close()
    }
  })

  test.each(['key', 'jwt'])('killing a session that a %s began stops what would begin it again', async (kind) => {
    const other = await startPeopleSide()
    try {
      const startedBy = `${kind}:abc`
      const { id } = await other.world.sessions.start({ agent: 'reader', behalf: 'agent:reader', startedBy })
      const kill = await call<Killed>('POST', '/v1/kill', { key: other.keys.admin, body: { target: id }, to: other })
      expect([kill.status, kill.body.sessions]).toEqual([200, 1])
      expect(other.world.sessions.stops()).toEqual([startedBy])
      expect(
        (await call('POST', '/v1/revive', { key: other.keys.admin, body: { target: startedBy }, to: other })).status,
      ).toBe(200)
    } finally {
      await other.close()
    }
  })

  test('a target that is nobody is an error, not silence', async () => {
    for (const target of ['readr', 'ses_none', 'agent:readr', 'key:none'])
      expect((await call('POST', '/v1/kill', { key: side.keys.admin, body: { target } })).status).toBe(404)
  })
})

describe('approvals', () => {
  test('a question is seen whole, answered by who may, and lets the call happen once', async () => {
    const other = await startPeopleSide()
    try {
      other.operations.set('billing:refund', {
        effect: 'destroy',
        label: { trust: 'untrusted', readers: 'internal' },
        description: 'Pays money back',
        check: (args) =>
          typeof args['amount'] === 'number' ? [] : [{ path: '/amount', message: 'expected a number' }],
      })
      const session = await other.startSession('responder')
      const args = { amount: 10, note: 'from \u202eanna\x1b[2J' }
      const id = await other.question(session, 'billing:refund', args)
      const seen = await call<ApprovalView>('GET', `/v1/approvals/${id}`, { key: other.keys.auditor, to: other })
      expect(seen.body).toMatchObject({ approval: { id, args, state: 'pending' }, description: 'Pays money back' })

      const answer = (key: string, verdict = 'approve') =>
        call<Approval>('POST', `/v1/approvals/${id}/answer`, { key, body: { verdict, reason: 'fine' }, to: other })
      expect((await answer(other.keys.auditor)).status).toBe(403)
      // The session runs on behalf of the admin: nobody approves their own request.
      expect((await answer(other.keys.admin)).status).toBe(403)
      expect((await answer(other.keys.approver)).body.state).toBe('approved')
      expect((await answer(other.keys.approver, 'deny')).status).toBe(409)

      const { perform, counter } = counted()
      const refund = action(session, 'billing:refund', args, { effect: 'destroy' })
      expect((await other.world.guard.run(refund, perform, atOnce, nobodyLeaves)).kind).toBe('done')
      expect((await other.world.guard.run(refund, perform, atOnce, nobodyLeaves)).kind).toBe('refused')
      expect(counter.runs).toBe(1)

      const next = await other.question(session, 'billing:refund', { amount: 20 })
      const again = await call<ApprovalView>('GET', `/v1/approvals/${next}`, { key: other.keys.approver, to: other })
      expect(again.body.previous).toMatchObject({ args, approval: id })
    } finally {
      await other.close()
    }
  })

  test('arguments that a person changes are checked and decided again', async () => {
    const other = await startPeopleSide()
    try {
      other.operations.set('billing:refund', {
        effect: 'destroy',
        label: { trust: 'untrusted', readers: 'internal' },
        check: (args) =>
          typeof args['amount'] === 'number' ? [] : [{ path: '/amount', message: 'expected a number' }],
      })
      const session = await other.startSession('responder')
      const id = await other.question(session, 'billing:refund', { amount: 10 })
      const edit = (args: object) =>
        call<Approval>('POST', `/v1/approvals/${id}/edit`, { key: other.keys.approver, body: { args }, to: other })
      expect((await edit({ amount: 'ten' })).body.error?.message).toContain('args/amount')
      expect((await edit({ amount: 9_000 })).status).toBe(409)
      const edited = await edit({ amount: 5 })
      expect(edited.body).toMatchObject({ state: 'approved', args: { amount: 5 } })
      expect(await other.world.approvals.get(id)).toMatchObject({ state: 'void', replacedBy: edited.body.id })
    } finally {
      await other.close()
    }
  })

  test('who watches is told what is pending, that this was all, and then every change', async () => {
    const other = await startPeopleSide()
    const leave = new AbortController()
    try {
      const session = await other.startSession('responder')
      const first = await other.question(session, 'billing:refund', { amount: 1 })
      const response = await fetch(`${other.url}/v1/approvals/watch`, {
        headers: { authorization: `Bearer ${other.keys.approver}` },
        signal: leave.signal,
      })
      expect(response.headers.get('content-type')).toBe('text/event-stream')
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
      let text = ''
      const until = async (part: string): Promise<void> => {
        while (!text.includes(part)) {
          const { value, done } = await reader.read()
          if (done) throw new Error(`the stream ended before ${part}`)
          text += value
        }
      }
      await until('event: ready')
      expect(text).toContain(first)
      const second = await other.question(session, 'billing:refund', { amount: 2 })
      await until(second)
      await call('POST', `/v1/approvals/${second}/answer`, {
        key: other.keys.approver,
        body: { verdict: 'deny' },
        to: other,
      })
      await until('"denied"')
    } finally {
      leave.abort()
      await other.close()
    }
  })

  test('states are listed as asked, and a state that is none is an error', async () => {
    expect((await call('GET', '/v1/approvals?state=all', { key: side.keys.auditor })).status).toBe(200)
    expect((await call('GET', '/v1/approvals?state=approvd', { key: side.keys.auditor })).status).toBe(400)
    expect((await call('GET', '/v1/approvals?state=pending,approvd', { key: side.keys.auditor })).status).toBe(400)
  })
})

describe('explain', () => {
  test('an event is explained under the policy of now, also when its session is over', async () => {
    const other = await startPeopleSide()
    try {
      const session = await other.startSession('responder')
      const { perform } = counted()
      const tried = action(session, 'billing:refund', { amount: 9_000 }, { effect: 'destroy' })
      const outcome = await other.world.guard.run(tried, perform, atOnce, nobodyLeaves)
      const event = outcome.kind === 'refused' ? outcome.refusal.event : ''
      const explain = () =>
        call<Explained>('POST', '/v1/explain', { key: other.keys.auditor, body: { event }, to: other })
      const { body: live } = await explain()
      expect(live.decision).toMatchObject({ kind: 'deny', code: 'denied' })
      expect(live.steps).toContainEqual(expect.objectContaining({ result: 'not matched', note: 'args.amount <= 5000' }))
      expect(live.decided).toMatchObject({ decision: 'deny' })
      await other.world.sessions.end([session], 'over', 'test')
      expect((await explain()).body.decision).toEqual(live.decision)
    } finally {
      await other.close()
    }
  })

  test('an action is explained without being done, counted or asked', async () => {
    const body = { agent: 'responder', permission: 'billing:refund', args: { amount: 5 } }
    const before = side.world.audit.events.length
    const { body: explained } = await call<Explained>('POST', '/v1/explain', { key: side.keys.admin, body })
    expect(explained.decision).toMatchObject({ kind: 'ask', ask: { needs: [{ people: 'billing', count: 1 }] } })
    expect(side.world.audit.events).toHaveLength(before)
    expect(await side.world.approvals.list({ states: ['pending'] })).toEqual([])
  })

  test('a session or an agent that is not there is an error', async () => {
    for (const who of [{ session: 'ses_none' }, {}])
      expect(
        (await call('POST', '/v1/explain', { key: side.keys.admin, body: { ...who, permission: 'a:b' } })).status,
        JSON.stringify(who),
      ).toBeGreaterThanOrEqual(400)
  })
})
