import { describe, expect, test } from 'vitest'
import { useWithin } from '../core/approval.ts'
import type { Answer, Approval, ApprovalStore } from '../core/approval.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { Key, KeyStore } from '../core/key.ts'
import { clean } from '../core/label.ts'
import type { CounterStore } from '../core/limit.ts'
import type { Pin, PinStore } from '../core/pin.ts'
import type { KeptSecret, SecretStore } from '../core/secret.ts'
import type { Session, SessionStore } from '../core/session.ts'
import type { Stop, StopStore } from '../core/stop.ts'
import type { PolicyVersion, PolicyVersionStore } from '../core/version.ts'

// What every store must do. Each implementation's test calls these with a way to make an empty one.

const noon = 1_790_000_000_000
const minute = 60_000

/** Text that breaks careless quoting, C strings, UTF-8 and HTML. */
export const hostileText = `'; drop table approvals; -- " \\ \0 \u2028 \ud800 😀 e\u0301 \x1b[2J %00 \${x} <b> \uffff`

/** Arguments that break careless JSON: about 1 MB of it. */
const hostileArgs: JsonObject = {
  ...(JSON.parse('{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}}') as JsonObject),
  [hostileText]: hostileText,
  '': null,
  numbers: [0, -1.5e-300, 9_007_199_254_740_991, 1.7976931348623157e308],
  deep: Array.from({ length: 500 }).reduce<Json>((inner) => [inner], 'deep'),
  big: hostileText.repeat(15_000),
}

/** Equal to the last byte: own `__proto__` keys and the order of keys too. */
const expectSame = (actual: unknown, expected: unknown): void =>
  expect(JSON.stringify(actual) === JSON.stringify(expected)).toBe(true)

export const approval = (changes: Partial<Approval> = {}): Approval => ({
  id: 'apr_1',
  binding: 'b1',
  state: 'pending',
  chain: [{ session: 'ses_1', agent: 'reader', behalf: 'person:anna' }],
  permission: 'billing:refund',
  effect: 'destroy',
  args: { amount: 5 },
  argsDigest: 'd1',
  policy: 'p1',
  rules: ['rules[0]'],
  because: 'refunds ask',
  ask: { needs: [{ count: 1 }], within: 15 * minute, self: false },
  openedAt: noon,
  expiresAt: noon + 15 * minute,
  answers: [],
  ...changes,
})

export const answer = (changes: Partial<Answer> = {}): Answer => ({
  by: 'person:ben',
  verdict: 'approve',
  at: noon + minute,
  teams: [],
  ...changes,
})

export function approvalStoreContract(name: string, empty: () => Promise<ApprovalStore>): void {
  describe(`${name}: approvals`, () => {
    test('one that was opened is there, and found by its binding while it is open', async () => {
      const store = await empty()
      expect(await store.open(approval(), noon)).toEqual(approval())
      expect(await store.get('apr_1')).toEqual(approval())
      expect(await store.find('b1', noon)).toEqual(approval())
      expect(await store.find('b2', noon)).toBeUndefined()
      expect(await store.get('apr_2')).toBeUndefined()
    })

    test('a second with the binding of an open one is that one, and nothing is saved', async () => {
      const store = await empty()
      await store.open(approval(), noon)
      expect(await store.open(approval({ id: 'apr_2', openedAt: noon + 1 }), noon + 1)).toEqual(approval())
      const approved = await store.answer('apr_1', answer())
      expect(await store.open(approval({ id: 'apr_2' }), noon + 2 * minute)).toEqual(approved)
      expect(await store.get('apr_2')).toBeUndefined()
      expect(await store.list({})).toHaveLength(1)
    })

    test.each(['used', 'denied', 'void', 'expired'])(
      'one that is %s attaches nobody: a new question',
      async (state) => {
        const store = await empty()
        await store.open(approval(), noon)
        if (state === 'used') {
          await store.answer('apr_1', answer())
          await store.use('apr_1', noon + 2 * minute)
        }
        if (state === 'denied') await store.answer('apr_1', answer({ verdict: 'deny' }))
        if (state === 'void') await store.void({ id: 'apr_1' }, 'its session ended', noon)
        if (state === 'expired') await store.expire(noon + 15 * minute)
        expect((await store.get('apr_1'))?.state).toBe(state)
        expect(await store.find('b1', noon + 2 * minute)).toBeUndefined()
        const again = approval({ id: 'apr_2', openedAt: noon + 16 * minute, expiresAt: noon + 30 * minute })
        expect(await store.open(again, noon + 16 * minute)).toEqual(again)
        expect(await store.find('b1', noon + 16 * minute)).toEqual(again)
      },
    )

    test('one whose time is over makes room for a new question, and expires all the same', async () => {
      const store = await empty()
      const late = noon + 15 * minute
      await store.open(approval(), noon)
      expect(await store.find('b1', late)).toBeUndefined()
      const again = approval({ id: 'apr_2', openedAt: late, expiresAt: late + minute })
      expect(await store.open(again, late)).toEqual(again)
      expect(await store.find('b1', late)).toEqual(again)
      // For good: a gateway whose clock is behind does not bring it back.
      await expect(store.answer('apr_1', answer({ at: noon }))).rejects.toMatchObject({ code: 'conflict' })
      expect((await store.get('apr_1'))?.state).toBe('expired')
      expect(await store.expire(late)).toEqual([approval({ state: 'expired' })])
      expect(await store.expire(late)).toEqual([])
      expect(await store.find('b1', late)).toEqual(again)
    })

    test('an id is taken once', async () => {
      const store = await empty()
      await store.open(approval(), noon)
      await expect(store.open(approval({ binding: 'b2' }), noon)).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.find('b2', noon)).toBeUndefined()
    })

    test('promise 5: an approved one is used once', async () => {
      const store = await empty()
      await store.open(approval(), noon)
      await expect(store.use('apr_1', noon)).rejects.toMatchObject({ code: 'conflict' })
      const approved = await store.answer('apr_1', answer())
      expect(approved).toMatchObject({ state: 'approved', expiresAt: noon + minute + useWithin, answers: [answer()] })
      const tries = await Promise.allSettled([1, 2, 3, 4].map(() => store.use('apr_1', noon + 2 * minute)))
      expect(tries.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      expect(await store.get('apr_1')).toEqual({ ...approved, state: 'used' })
      await expect(store.use('apr_1', noon + 2 * minute)).rejects.toMatchObject({ code: 'conflict' })
      await expect(store.use('apr_2', noon)).rejects.toMatchObject({ code: 'not_found' })
    })

    test('promise 5: an approved one whose time is over is not used', async () => {
      const store = await empty()
      await store.open(approval(), noon)
      const { expiresAt } = await store.answer('apr_1', answer())
      await expect(store.use('apr_1', expiresAt)).rejects.toMatchObject({ code: 'conflict' })
      expect((await store.use('apr_1', expiresAt - 1)).state).toBe('used')
    })

    test('answers follow the rules of the core, and one that is refused changes nothing', async () => {
      const store = await empty()
      await store.open(approval({ ask: { needs: [{ count: 2 }], within: minute, self: false } }), noon)
      const own = store.answer('apr_1', answer({ by: 'person:anna' }))
      await expect(own).rejects.toMatchObject({ code: 'forbidden' })
      expect((await store.answer('apr_1', answer())).state).toBe('pending')
      await expect(store.answer('apr_1', answer())).rejects.toMatchObject({ code: 'conflict' })
      const late = store.answer('apr_1', answer({ by: 'person:cem', at: noon + 15 * minute }))
      await expect(late).rejects.toMatchObject({ code: 'conflict' })
      expect((await store.get('apr_1'))?.answers).toEqual([answer()])
      expect((await store.answer('apr_1', answer({ by: 'person:cem' }))).state).toBe('approved')
      await expect(store.answer('apr_9', answer())).rejects.toMatchObject({ code: 'not_found' })
    })

    test('of two first answers at once one wins', async () => {
      const store = await empty()
      await store.open(approval(), noon)
      const both = await Promise.allSettled([
        store.answer('apr_1', answer({ verdict: 'deny', reason: 'too much' })),
        store.answer('apr_1', answer({ by: 'person:cem' })),
      ])
      expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
      expect((await store.get('apr_1'))?.answers).toHaveLength(1)
    })

    describe('voiding', () => {
      const link = (session: string) => ({ session, agent: 'reader', behalf: 'person:anna' })
      const filled = async () => {
        const store = await empty()
        const put = (id: string, changes: Partial<Approval>) =>
          store.open(approval({ id, binding: id, openedAt: noon + Number(id.slice(4)), ...changes }), noon)
        await put('apr_1', { chain: [link('ses_1')] })
        await put('apr_2', { chain: [link('ses_1'), link('ses_2')] })
        await put('apr_3', { chain: [link('ses_3')], policy: 'p2' })
        await put('apr_4', { chain: [link('ses_1')], expiresAt: noon + 1 })
        await put('apr_5', { chain: [link('ses_1')] })
        await store.answer('apr_2', answer())
        await store.answer('apr_5', answer({ verdict: 'deny' }))
        return store
      }
      const ids = (approvals: readonly Approval[]) => approvals.map(({ id }) => id)
      const now = noon + 2

      test('of a session: every open one in whose chain it stands', async () => {
        const store = await filled()
        const gone = await store.void({ sessions: new Set(['ses_1']) }, 'its session ended', now)
        expect(ids(gone)).toEqual(['apr_1', 'apr_2'])
        expect(gone[1]).toMatchObject({ state: 'void', note: 'its session ended', answers: [answer()] })
        expect(await store.get('apr_2')).toEqual(gone[1])
        await expect(store.use('apr_2', now)).rejects.toMatchObject({ code: 'conflict' })
        expect(await store.void({ sessions: new Set(['ses_1']) }, 'again', now)).toEqual([])
      })

      test('of a session at the end of a chain, not of the one before it', async () => {
        expect(ids(await (await filled()).void({ sessions: new Set(['ses_2']) }, 'ended', now))).toEqual(['apr_2'])
      })

      test('of other policies, of one, of all; those that are closed or over stay as they are', async () => {
        const store = await filled()
        expect(ids(await store.void({ policyOtherThan: 'p1' }, 'the policy changed', now))).toEqual(['apr_3'])
        const [replaced, ...rest] = await store.void({ id: 'apr_1' }, 'edited', now, 'apr_9')
        expect(replaced).toMatchObject({ id: 'apr_1', state: 'void', note: 'edited', replacedBy: 'apr_9' })
        expect(rest).toEqual([])
        expect(ids(await store.void({ all: true }, 'stopped', now))).toEqual(['apr_2'])
        expect(ids(await store.list({ states: ['void'] }))).toEqual(['apr_3', 'apr_2', 'apr_1'])
        expect(ids(await store.expire(now))).toEqual(['apr_4'])
        expect(await store.void({ id: 'apr_77' }, 'none', now)).toEqual([])
      })
    })

    test('those whose time is over expire once, oldest first', async () => {
      const store = await empty()
      await store.open(approval({ id: 'apr_2', binding: 'b2', openedAt: noon + 1 }), noon)
      await store.open(approval(), noon)
      await store.open(approval({ id: 'apr_3', binding: 'b3' }), noon)
      await store.answer('apr_3', answer())
      expect(await store.expire(noon + 15 * minute - 1)).toEqual([])
      const over = await store.expire(noon + 15 * minute)
      expect(over.map(({ id, state }) => [id, state])).toEqual([
        ['apr_1', 'expired'],
        ['apr_2', 'expired'],
      ])
      expect(await store.expire(noon + 15 * minute)).toEqual([])
      expect((await store.expire(noon + minute + useWithin)).map(({ id }) => id)).toEqual(['apr_3'])
    })

    test('a listing is newest first, by state, and bounded', async () => {
      const store = await empty()
      for (let index = 0; index < 505; index++)
        await store.open(approval({ id: `apr_${index}`, binding: `b${index}`, openedAt: noon + index }), noon)
      await store.answer('apr_3', answer())
      const ids = async (filter: Parameters<ApprovalStore['list']>[0]) => (await store.list(filter)).map(({ id }) => id)
      expect(await ids({ limit: 2 })).toEqual(['apr_504', 'apr_503'])
      expect(await ids({ states: ['approved'] })).toEqual(['apr_3'])
      expect(await ids({ states: ['approved', 'pending'], limit: 1 })).toEqual(['apr_504'])
      expect(await ids({ states: [] })).toEqual([])
      expect(await ids({ limit: 0 })).toEqual([])
      expect(await ids({ limit: -1 })).toEqual([])
      expect(await ids({})).toHaveLength(500)
      expect(await ids({ limit: 10_000 })).toHaveLength(500)
    })

    test('pruning forgets what is closed and old, and nothing that is open or whose expiry is yet to be told', async () => {
      const store = await empty()
      await store.open(approval(), noon)
      await store.open(approval({ id: 'apr_2', binding: 'b2' }), noon)
      await store.void({ id: 'apr_2' }, 'over', noon)
      await store.open(approval({ id: 'apr_3', binding: 'b3' }), noon)
      await store.open(
        approval({ id: 'apr_4', binding: 'b3', openedAt: noon + 60 * minute, expiresAt: noon + 75 * minute }),
        noon + 60 * minute,
      )
      expect(await store.prune(noon)).toBe(0)
      expect(await store.prune(noon + 1)).toBe(1)
      expect(await store.get('apr_2')).toBeUndefined()
      expect((await store.list({})).map(({ id }) => id)).toEqual(['apr_4', 'apr_3', 'apr_1'])
    })

    test('hostile text and 1 MB of arguments come back as they were', async () => {
      const store = await empty()
      const hostile = approval({ args: hostileArgs, because: hostileText, rules: [hostileText] })
      await store.open(hostile, noon)
      expectSame(await store.get('apr_1'), hostile)
      const denied = await store.answer('apr_1', answer({ verdict: 'deny', reason: hostileText }))
      expect(denied.answers[0]?.reason).toBe(hostileText)
      expectSame(await store.get('apr_1'), denied)
      expect(Object.hasOwn((await store.get('apr_1'))!.args, '__proto__')).toBe(true)
    })

    test('arguments that JSON cannot hold are refused, never changed', async () => {
      const store = await empty()
      const infinite = approval({ args: JSON.parse('{"amount":1e999}') as JsonObject })
      await expect(store.open(infinite, noon)).rejects.toMatchObject({ code: 'invalid' })
      const bottomless = Array.from({ length: 200_000 }).reduce<Json>((inner) => [inner], 1)
      await expect(store.open(approval({ args: { bottomless } }), noon)).rejects.toMatchObject({ code: 'too_large' })
      expect(await store.list({})).toEqual([])
    })

    test('what a caller does to its own value afterwards changes nothing here', async () => {
      const store = await empty()
      const args = { amount: 5 }
      await store.open(approval({ args }), noon)
      args.amount = 5_000
      const read = (await store.get('apr_1'))!.args as { amount: number }
      expect(read).toEqual({ amount: 5 })
      read.amount = 6_000
      expect((await store.get('apr_1'))?.args).toEqual({ amount: 5 })
    })
  })
}

export const session = (changes: Partial<Session> = {}): Session => ({
  id: 'ses_1',
  agent: 'reader',
  behalf: 'person:anna',
  facts: { customer_id: 42 },
  limits: {},
  startedBy: 'person:anna',
  startedAt: noon,
  deadline: noon + 30 * minute,
  label: clean,
  ...changes,
})

export function sessionStoreContract(name: string, empty: () => Promise<SessionStore>): void {
  describe(`${name}: sessions`, () => {
    const ids = (sessions: readonly Session[]) => sessions.map(({ id }) => id)

    test('one that was added is there, by id and by token', async () => {
      const store = await empty()
      const full = session({
        tokenDigest: 't1',
        only: [{ do: 'notes:read', when: 'args.path != ""' }],
        facts: { name: hostileText, ids: [1, 2], since: noon, ratio: 0.1, vip: true },
        limits: { calls: '10/min' },
      })
      await store.add(full)
      expectSame(await store.get('ses_1'), full)
      expectSame(await store.byToken('t1'), full)
      expect(await store.byToken('t2')).toBeUndefined()
      expect(await store.get('ses_2')).toBeUndefined()
    })

    test('an id and a token are taken once; sessions without a token do not meet', async () => {
      const store = await empty()
      await store.add(session({ tokenDigest: 't1' }))
      await expect(store.add(session({ tokenDigest: 't2' }))).rejects.toMatchObject({ code: 'conflict' })
      await expect(store.add(session({ id: 'ses_2', tokenDigest: 't1' }))).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.byToken('t2')).toBeUndefined()
      await store.add(session({ id: 'ses_3' }))
      await store.add(session({ id: 'ses_4' }))
      expect(await store.list(9)).toHaveLength(3)
    })

    test('no message tells a token or a fact', async () => {
      const store = await empty()
      await store.add(session({ tokenDigest: 'digest-of-a-token' }))
      const again = session({ id: 'ses_2', tokenDigest: 'digest-of-a-token', facts: { name: 'a fact' } })
      const failure: Error = await store.add(again).then(
        () => new Error('added'),
        (thrown: unknown) => thrown as Error,
      )
      expect(failure.message).toContain('ses_2')
      expect(String(failure.stack) + String(failure.cause)).not.toMatch(/digest-of-a-token|a fact/)
    })

    test('a child of an unknown parent is refused', async () => {
      const store = await empty()
      await expect(store.add(session({ parent: 'ses_0' }))).rejects.toMatchObject({ code: 'not_found' })
      await expect(store.add(session({ parent: 'ses_1' }))).rejects.toMatchObject({ code: 'not_found' })
      expect(await store.list(9)).toEqual([])
    })

    test('children are those of this parent alone, newest first', async () => {
      const store = await empty()
      await store.add(session())
      await store.add(session({ id: 'ses_2', parent: 'ses_1', startedAt: noon + 1 }))
      await store.add(session({ id: 'ses_3', parent: 'ses_1', startedAt: noon + 2 }))
      await store.add(session({ id: 'ses_4', parent: 'ses_2', startedAt: noon + 3 }))
      expect(ids(await store.children('ses_1'))).toEqual(['ses_3', 'ses_2'])
      expect(ids(await store.children('ses_4'))).toEqual([])
    })

    test('the first end stays; unknown ones are passed over', async () => {
      const store = await empty()
      await store.add(session())
      await store.add(session({ id: 'ses_2' }))
      await store.end(['ses_1', 'ses_9'], 'done', noon + 1)
      await store.end(['ses_1', 'ses_2'], hostileText, noon + 2)
      expect(await store.get('ses_1')).toEqual(session({ endedAt: noon + 1, endedBecause: 'done' }))
      expect(await store.get('ses_2')).toEqual(session({ id: 'ses_2', endedAt: noon + 2, endedBecause: hostileText }))
    })

    test('live are those that are neither ended nor over, newest first', async () => {
      const store = await empty()
      await store.add(session())
      await store.add(session({ id: 'ses_2', startedAt: noon + 1 }))
      await store.add(session({ id: 'ses_3', startedAt: noon + 2, deadline: noon + minute }))
      await store.add(session({ id: 'ses_4', startedAt: noon + 3 }))
      // An end that lies ahead, from a gateway whose clock is ahead of this one, is an end.
      await store.end(['ses_4'], 'done', noon + 10 * minute)
      expect(ids(await store.live(noon + minute - 1))).toEqual(['ses_3', 'ses_2', 'ses_1'])
      expect(ids(await store.live(noon + minute))).toEqual(['ses_2', 'ses_1'])
      expect(ids(await store.list(2))).toEqual(['ses_4', 'ses_3'])
    })

    test('labels only ever join, so two gateways that set one at once lose none', async () => {
      const store = await empty()
      await store.add(session())
      await store.setLabel(['ses_1'], { trust: 'untrusted', readers: 'public' })
      await store.setLabel(['ses_1'], { trust: 'trusted', readers: 'private' })
      expect((await store.get('ses_1'))?.label).toEqual({ trust: 'untrusted', readers: 'private' })
      await expect(store.setLabel(['ses_1', 'ses_9'], clean)).rejects.toMatchObject({ code: 'not_found' })
    })

    test('pruning forgets what was over before, and keeps the ancestors of what stays', async () => {
      const store = await empty()
      const old = noon + minute
      await store.add(session({ deadline: old }))
      await store.add(session({ id: 'ses_2', parent: 'ses_1', deadline: old }))
      await store.add(session({ id: 'ses_3', parent: 'ses_2', tokenDigest: 't3' }))
      await store.add(session({ id: 'ses_4', parent: 'ses_1', deadline: old, tokenDigest: 't4' }))
      await store.add(session({ id: 'ses_5' }))
      await store.end(['ses_5'], 'done', old)
      expect(await store.prune(old)).toBe(0)
      expect(await store.prune(old + 1)).toBe(2)
      expect(ids(await store.list(9))).toEqual(['ses_3', 'ses_2', 'ses_1'])
      expect(await store.byToken('t4')).toBeUndefined()
      await store.end(['ses_3'], 'done', old)
      expect(await store.prune(old + 1)).toBe(3)
      expect(await store.list(9)).toEqual([])
      await store.add(session({ tokenDigest: 't3' }))
    })
  })
}

export function keyStoreContract(name: string, empty: () => Promise<KeyStore>): void {
  const key = (changes: Partial<Key> = {}): Key => ({
    id: 'key_1',
    holder: 'agent:reader',
    digest: 'd1',
    createdAt: noon,
    ...changes,
  })

  describe(`${name}: keys`, () => {
    test('a key is found by its digest; its id and digest are taken once', async () => {
      const store = await empty()
      await store.add(key())
      expect(await store.byDigest('d1')).toEqual(key())
      expect(await store.byDigest('d2')).toBeUndefined()
      await expect(store.add(key({ digest: 'd2' }))).rejects.toMatchObject({ code: 'conflict' })
      await expect(store.add(key({ id: 'key_2' }))).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.list()).toEqual([key()])
    })

    test('a listing is of a holder or of all, newest first', async () => {
      const store = await empty()
      const second = key({ id: 'key_2', digest: 'd2', createdAt: noon + 1 })
      const third = key({ id: 'key_3', digest: 'd3', holder: 'person:anna', createdAt: noon + 2 })
      for (const each of [key(), second, third]) await store.add(each)
      expect(await store.list()).toEqual([third, second, key()])
      expect(await store.list('agent:reader')).toEqual([second, key()])
      expect(await store.list('agent')).toEqual([])
    })

    test('an end only ever comes closer', async () => {
      const store = await empty()
      await store.add(key())
      await store.end('key_1', noon + 10, 'rotated')
      await store.end('key_1', noon + 20, 'later')
      expect(await store.byDigest('d1')).toEqual(key({ endsAt: noon + 10, endedBecause: 'rotated' }))
      await store.end('key_1', noon + 5, hostileText)
      expect(await store.byDigest('d1')).toEqual(key({ endsAt: noon + 5, endedBecause: hostileText }))
      await expect(store.end('key_9', noon, 'none')).rejects.toMatchObject({ code: 'not_found' })
    })
  })
}

export function secretStoreContract(name: string, empty: () => Promise<SecretStore>): void {
  const secret = (changes: Partial<KeptSecret> = {}): KeptSecret => ({
    name: 'CRM_KEY',
    binding: { resource: 'crm', hosts: ['api.example.com'] },
    versions: [
      { number: 1, setAt: noon, setBy: 'person:anna', master: 'm1', wrapped: 'd3JhcHBlZA==', sealed: 'c2VhbGVk' },
    ],
    revision: 1,
    createdAt: noon,
    ...changes,
  })

  describe(`${name}: secrets`, () => {
    test('a secret is found by its name, which is taken once; a listing is by name', async () => {
      const store = await empty()
      await store.add(secret())
      await store.add(secret({ name: 'A', binding: { hosts: [] } }))
      expect(await store.get('CRM_KEY')).toEqual(secret())
      expect(await store.get('B')).toBeUndefined()
      await expect(store.add(secret({ revision: 7 }))).rejects.toMatchObject({ code: 'conflict' })
      expect((await store.list()).map((each) => each.name)).toEqual(['A', 'CRM_KEY'])
      expect(await store.get('CRM_KEY')).toEqual(secret())
    })

    test('of two changes to one revision, one wins; one of what is gone is refused', async () => {
      const store = await empty()
      await store.add(secret())
      const tries = await Promise.allSettled(
        ['anna', 'ben'].map((by) =>
          store.replace(secret({ revision: 2, versions: [{ ...secret().versions[0]!, setBy: by }] })),
        ),
      )
      expect(tries.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
      expect(await store.get('CRM_KEY')).toMatchObject({ revision: 2, versions: [{ setBy: 'anna' }] })
      await expect(store.replace(secret({ revision: 2 }))).rejects.toMatchObject({ code: 'conflict' })
      await expect(store.replace(secret({ revision: 4 }))).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.remove('CRM_KEY')).toBe(true)
      expect(await store.remove('CRM_KEY')).toBe(false)
      await expect(store.replace(secret({ revision: 3 }))).rejects.toMatchObject({ code: 'conflict' })
      expect(await store.list()).toEqual([])
    })

    test('the last use only ever comes later, and changes no revision', async () => {
      const store = await empty()
      await store.add(secret())
      expect((await store.lastUsed()).size).toBe(0)
      await store.used('CRM_KEY', noon + 5)
      await store.used('CRM_KEY', noon + 3)
      await store.used('GONE', noon)
      expect([...(await store.lastUsed())]).toEqual([['CRM_KEY', noon + 5]])
      await store.replace(secret({ revision: 2 }))
      expect((await store.lastUsed()).get('CRM_KEY')).toBe(noon + 5)
      await store.remove('CRM_KEY')
      await store.add(secret())
      expect((await store.lastUsed()).size).toBe(0)
    })
  })
}

export function stopStoreContract(name: string, empty: () => Promise<StopStore>): void {
  const stop = (changes: Partial<Stop> = {}): Stop => ({
    target: 'all',
    by: 'person:anna',
    because: hostileText,
    at: noon,
    ...changes,
  })

  describe(`${name}: stops`, () => {
    test('a stop stands until it is lifted, and a newer one of the target takes its place', async () => {
      const store = await empty()
      await store.add(stop())
      await store.add(stop({ target: 'agent:reader', at: noon + 1 }))
      await store.add(stop({ by: 'person:ben', at: noon + 2 }))
      expect(await store.list()).toEqual([
        stop({ by: 'person:ben', at: noon + 2 }),
        stop({ target: 'agent:reader', at: noon + 1 }),
      ])
      expect(await store.lift('all')).toBe(true)
      expect(await store.lift('all')).toBe(false)
      expect((await store.list()).map(({ target }) => target)).toEqual(['agent:reader'])
    })
  })
}

export function pinStoreContract(name: string, empty: () => Promise<PinStore>): void {
  const pin = (changes: Partial<Pin> = {}): Pin => ({
    resource: 'crm',
    kind: 'tool',
    name: 'lookup',
    digest: 'd1',
    definition: { description: 'Looks up a customer' },
    acceptedAt: noon,
    acceptedBy: 'first sight',
    ...changes,
  })

  describe(`${name}: pins`, () => {
    test('one for each resource, kind and name; put replaces it', async () => {
      const store = await empty()
      const others = [pin({ kind: 'prompt' }), pin({ name: 'find' }), pin({ resource: 'files' })]
      for (const each of [pin(), ...others]) await store.put(each)
      const changed = pin({ proposed: { digest: 'd2', definition: hostileArgs, seenAt: noon + 1 } })
      await store.put(changed)
      expectSame(await store.list(), [
        pin({ kind: 'prompt' }),
        pin({ name: 'find' }),
        changed,
        pin({ resource: 'files' }),
      ])
      expect(await store.list('files')).toEqual([pin({ resource: 'files' })])
      await store.remove('crm', 'tool', 'lookup')
      await store.remove('crm', 'tool', 'lookup')
      expect(await store.list('crm')).toEqual([pin({ kind: 'prompt' }), pin({ name: 'find' })])
    })

    test('names that an upstream made up are kept apart', async () => {
      const store = await empty()
      const names = [hostileText, 'a\0b', 'a\0c', 'a', '\ud800', '\udfff', '\ufffd', '', '__proto__', 'A']
      for (const each of names) await store.put(pin({ name: each }))
      expect((await store.list('crm')).map((each) => each.name).toSorted()).toEqual(names.toSorted())
      await store.remove('crm', 'tool', '\ud800')
      expect(await store.list('crm')).toHaveLength(names.length - 1)
    })
  })
}

export function versionStoreContract(name: string, empty: () => Promise<PolicyVersionStore>): void {
  const version = (changes: Partial<PolicyVersion> = {}): PolicyVersion => ({
    digest: 'd1',
    text: hostileText,
    loadedAt: noon,
    loadedBy: 'start',
    ...changes,
  })

  describe(`${name}: policy versions`, () => {
    test('the first of a digest stays; a listing is newest first', async () => {
      const store = await empty()
      await store.add(version())
      await store.add(version({ loadedAt: noon + 9, loadedBy: 'signal' }))
      await store.add(version({ digest: 'd2', loadedAt: noon + 1 }))
      await store.add(version({ digest: 'd3', loadedAt: noon + 2 }))
      expect(await store.get('d1')).toEqual(version())
      expect(await store.get('d9')).toBeUndefined()
      expect((await store.list(2)).map(({ digest }) => digest)).toEqual(['d3', 'd2'])
    })
  })
}

export function counterStoreContract(name: string, empty: () => Promise<CounterStore>): void {
  describe(`${name}: counters`, () => {
    test('what was saved is loaded to the last bit, and what has no value is gone', async () => {
      const store = await empty()
      expect((await store.load()).size).toBe(0)
      const first = new Map([
        ['agent:reader:calls/60000/100', { value: noon + 0.1 + 1 / 3 }],
        ['session:ses_1:bytes', { value: 0 }],
        [hostileText, { value: 7 }],
        ['\ud800', { value: 8 }],
        ['\udfff', { value: Number.MAX_SAFE_INTEGER }],
      ])
      await store.save(first)
      expect(await store.load()).toEqual(first)
      await store.save(
        new Map([
          ['session:ses_1:bytes', { value: 5 }],
          [hostileText, undefined],
          ['unknown', undefined],
        ]),
      )
      const loaded = await store.load()
      expect(loaded.get('session:ses_1:bytes')).toEqual({ value: 5 })
      expect(loaded.has(hostileText)).toBe(false)
      expect(loaded.size).toBe(4)
    })

    test('all is saved or nothing', async () => {
      const store = await empty()
      await store.save(new Map([['a', { value: 1 }]]))
      const broken = new Map([
        ['a', { value: 2 }],
        ['b', { value: Number.NaN }],
      ])
      await expect(store.save(broken)).rejects.toMatchObject({ code: 'invalid' })
      expect(await store.load()).toEqual(new Map([['a', { value: 1 }]]))
    })
  })
}
