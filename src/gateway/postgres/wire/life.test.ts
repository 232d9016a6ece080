import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import { query, startWire } from '../../../../test/support/postgres-wire.ts'
import type { Wire } from '../../../../test/support/postgres-wire.ts'
import { startSwallower } from '../../../../test/support/swallower.ts'

describe.skipIf(await noPostgres(18))('how connections end', () => {
  let server: PostgresServer
  const wires: Wire[] = []
  const start = async (...given: Parameters<typeof startWire> extends [unknown, ...infer Rest] ? Rest : never) => {
    const wire = await startWire(server, ...given)
    wires.push(wire)
    return wire
  }
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
  }, 120_000)
  afterAll(async () => {
    await Promise.all(wires.map((wire) => wire.close()))
    await server?.close()
  })

  test('what does nothing is ended, sooner within a transaction', async () => {
    const wire = await start({ listener: { limits: { idle: 1_000, idleInTransaction: 200 } } })
    const idle = await wire.rawLoggedIn()
    const within = await wire.rawLoggedIn()
    within.send(query('begin'))
    await within.closed()
    expect(within.errors()).toMatchObject([{ code: '25P03' }])
    expect(idle.isClosed).toBe(false)
    await idle.closed()
    expect(idle.errors()).toMatchObject([{ code: '57P05' }])
  })

  test('when the gateway is closed, idle ones end, and what runs comes to its end', async () => {
    const wire = await start()
    const idle = await wire.rawLoggedIn()
    const busy = await wire.rawLoggedIn()
    busy.send(query('select count(*) from generate_series(1, 10000) a, generate_series(1, 500) b'))
    await expect
      .poll(async () => {
        const { rows } = await wire.desk.admin.query(
          "select 1 from pg_stat_activity where state = 'active' and query like 'select count(*) from generate%'",
        )
        return rows.length
      })
      .toBe(1)
    const closed = wire.listener.close()
    await idle.closed()
    expect(idle.errors()).toMatchObject([{ code: '57P01' }])
    await busy.closed()
    expect(busy.rows()).toEqual([['5000000']])
    expect(busy.errors()).toMatchObject([{ code: '57P01' }])
    await closed
  })

  test('a database that goes away ends what leads to it, and says so', async () => {
    const wire = await start()
    const client = await wire.rawLoggedIn()
    await wire.desk.admin.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1 and state = 'idle'",
      [wire.desk.plan.names.agent('desk-worker')],
    )
    await client.closed()
    expect(client.errors()).toMatchObject([{ code: '57P01' }])
  })

  test('promise 2: connections of a session end with it, whoever has them, and no others', async () => {
    const wire = await start()
    const { connections } = wire.gateway.live().get(wire.alias)!
    const [one, two] = [await wire.session(), await wire.session()]
    const facts = { customer_id: 7 }
    const [gone, other] = [
      await connections.open({ session: one.id, agent: one.agent, facts }),
      await connections.open({ session: two.id, agent: two.agent, facts }),
    ]
    const running = gone.client.query('select pg_sleep(60)').catch(() => 'stopped')
    await wire.world.sessions.end([one.id], 'enough', 'person:ada')
    expect(await running).toBe('stopped')
    await expect.poll(() => gone.ended.aborted).toBe(true)
    expect(other.ended.aborted).toBe(false)
    const { internal } = wire.desk.plan.names
    const registered = async (pid: number): Promise<boolean> =>
      (await wire.desk.admin.query(`select 1 from ${internal}.session where pid = $1`, [pid])).rowCount === 1
    await expect.poll(() => registered(gone.pid)).toBe(false)
    expect(await registered(other.pid)).toBe(true)
    await other.close()
  })

  test.each([
    ['is told whose it is', /insert into .*\.session/],
    ['is given the settings of the client', /set_config/],
  ])('a database that goes silent as a connection %s: the client is told in time', async (_when, what) => {
    const way = await startSwallower(server.port)
    const wire = await start({ way: { port: way.port, patience: 1_000 } })
    way.swallow(what)
    const told = { code: '57P03', message: expect.stringMatching(/did not answer within 1000 ms/) }
    await expect(wire.connect('desk-worker', { application_name: 'test' })).rejects.toMatchObject(told)
    way.swallow()
    const client = await wire.connect('desk-worker', { application_name: 'test' })
    expect((await client.query('show application_name')).rows).toEqual([{ application_name: 'test' }])
    await wire.letGo()
    await way.close()
  })

  test('without a record nothing is passed on', async () => {
    const wire = await start()
    const client = await wire.rawLoggedIn()
    wire.world.audit.full = true
    client.send(
      query("insert into tickets (customer_id, subject, body) values (7, 'unrecorded', 'b')"),
      query('select 1'),
    )
    await client.until('Z', 2)
    wire.world.audit.full = false
    expect(client.errors()).toMatchObject([{ code: '57P03' }])
    const { rowCount } = await wire.desk.admin.query("select 1 from tickets where subject = 'unrecorded'")
    expect(rowCount).toBe(0)
  })
})
