import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres } from '../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../test/support/postgres.ts'
import { startDesk } from '../../../test/support/postgres-desk.ts'
import type { Desk } from '../../../test/support/postgres-desk.ts'
import { startSwallower } from '../../../test/support/swallower.ts'
import type { Swallower } from '../../../test/support/swallower.ts'
import type { Failure } from '../../core/failure.ts'
import { createConnections } from './connect.ts'
import type { Connections } from './connect.ts'
import { createPool } from './pool.ts'

/** Milliseconds: far more than anything takes that is answered. */
const within = 1_000
/** What a stalled way costs at most: its own time, and that of a machine that is busy. */
const soon = 5 * within

const owner = { session: 'one', agent: 'desk-worker', facts: { customer_id: 7 } }

describe.skipIf(await noPostgres(18))('a network that has stalled', () => {
  let server: PostgresServer
  let desk: Desk
  let way: Swallower
  let connections: Connections
  const reported: Failure[] = []

  const registered = async (): Promise<readonly { pid: number; opened: string }[]> => {
    const { rows } = await desk.admin.query(`select pid, opened::text from ${desk.plan.names.internal}.session`)
    return rows
  }
  const opening = (): Promise<unknown> =>
    connections.open(owner).then(
      () => 'open',
      (thrown: unknown) => thrown,
    )
  const stalled = { code: 'unavailable', message: expect.stringMatching(/did not answer within 1000 ms/) }

  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    desk = await startDesk(server)
  }, 120_000)
  afterAll(async () => {
    await desk?.close()
    await server?.close()
  })
  beforeEach(async () => {
    way = await startSwallower(server.port)
    const { gateway, databaseName } = desk.settings
    connections = createConnections(
      {
        alias: desk.database.alias,
        database: desk.database,
        names: desk.plan.names,
        address: () => ({
          host: '127.0.0.1',
          port: way.port,
          database: databaseName,
          user: gateway.user,
          password: gateway.password!,
          tls: 'off',
        }),
        secrets: [],
        connections: 10,
        tools: new Map(),
        held: new Map(),
      },
      (failure) => reported.push(failure),
      undefined,
      within,
    )
  })
  afterEach(async () => {
    way.swallow()
    await connections.close()
    await way.close()
    reported.length = 0
  })

  test.each([
    ['as it tells whose a connection is', /insert into .*\.session/],
    ['right after it was made', /delete from .*\.session/],
  ])(
    'the gateway’s own connection goes silent %s: who waits is told, and the next try gets in',
    async (_when, what) => {
      way.swallow(what)
      const startedAt = performance.now()
      for (const each of await Promise.all([opening(), opening(), opening()]))
        expect(each).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/can't be reached/) })
      expect(performance.now() - startedAt).toBeLessThan(soon)
      expect(way.silent).toBeGreaterThan(0)
      way.swallow()
      expect(await opening()).toBe('open')
    },
  )

  test('one that was of use goes silent: another is made', async () => {
    const first = await connections.open(owner)
    const before = way.made
    way.swallow(/insert into .*\.session/)
    const both = [opening(), opening()]
    expect(await both[0]).toMatchObject(stalled)
    expect(await both[1]).toMatchObject({ code: 'unavailable' })
    way.swallow()
    const second = await connections.open(owner)
    // Two that failed, one that did not, and connections of the gateway beside them.
    expect(way.made).toBeGreaterThan(before + 3)
    expect((await second.ask<{ one: number }>('select 1 as one'))[0]).toEqual({ one: 1 })
    expect(first.ended.aborted).toBe(false)
  })

  test('a connection that makes itself ready for an agent goes silent', async () => {
    const pool = createPool(connections, { get: () => owner as never })
    way.swallow(/default_transaction_read_only/)
    await expect(pool.use('one', async () => 'used')).rejects.toMatchObject(stalled)
    way.swallow()
    expect(await pool.use('one', async () => 'used')).toBe('used')
    pool.close()
  })

  test('what is given up while it waits is not done later, and holds up nobody', async () => {
    const all = [await connections.open(owner), await connections.open(owner), await connections.open(owner)]
    way.swallow(/delete from .*\.session where pid = /)
    await Promise.all(all.map((backend) => backend.close()))
    expect(reported).toHaveLength(3)
    expect(await opening()).toBe('open')
    expect(way.silent).toBe(1)
  })

  test('closing does not wait for what says nothing', async () => {
    const backend = await connections.open(owner)
    await backend.close()
    way.swallow(/[^]/)
    const startedAt = performance.now()
    await connections.close()
    expect(performance.now() - startedAt).toBeLessThan(soon)
    expect(way.silent).toBe(1)
  })

  test('a process that is gone is forgotten; another with its number is not', async () => {
    const [gone, reused] = [await connections.open(owner), await connections.open(owner)]
    // As if another had been told of under the number of the second meanwhile.
    await desk.admin.query(
      `update ${desk.plan.names.internal}.session set opened = opened + interval '1 microsecond' where pid = $1`,
      [reused.pid],
    )
    await gone.close()
    await reused.close()
    const pids = (await registered()).map(({ pid }) => pid)
    expect(pids).toContain(reused.pid)
    expect(pids).not.toContain(gone.pid)
    await desk.admin.query(`delete from ${desk.plan.names.internal}.session where pid = $1`, [reused.pid])
  })
})
