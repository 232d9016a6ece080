import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { noPostgres, startPostgres } from '../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../test/support/postgres.ts'
import { startDesk } from '../../../test/support/postgres-desk.ts'
import type { Desk } from '../../../test/support/postgres-desk.ts'
import { createConnections } from './connect.ts'
import type { PostgresResource } from './resource.ts'

describe.skipIf(await noPostgres(15))('changes that are kept no longer', () => {
  let server: PostgresServer
  let desk: Desk
  const reported: unknown[] = []

  beforeAll(async () => {
    server = await startPostgres({ version: 15 })
    desk = await startDesk(server, {
      change: (database) => ({
        ...database,
        tables: new Map([...database.tables].map(([name, table]) => [name, { ...table, undo: true as const }])),
      }),
    })
  }, 120_000)
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }))
  afterEach(() => void vi.useRealTimers())
  afterAll(async () => {
    await desk?.close()
    await server?.close()
  })

  const resource = (): PostgresResource => ({
    alias: desk.database.alias,
    database: desk.database,
    names: desk.plan.names,
    address: () => ({
      host: '127.0.0.1',
      port: server.port,
      database: desk.settings.databaseName,
      user: desk.settings.gateway.user,
      password: desk.settings.gateway.password ?? '',
      tls: 'off',
    }),
    secrets: [],
    connections: 5,
    tools: new Map(),
    held: new Map(),
  })
  const keep = (rows: number, days: number) =>
    desk.admin.query(
      `insert into ${desk.plan.names.internal}.change (xid, at, place, relation, operation, columns)
       select 1, now() - $2 * interval '1 day', n, 'public.tickets', 'delete', '{}' from generate_series(1, $1) n`,
      [rows, days],
    )
  const kept = async (): Promise<number> =>
    (await desk.admin.query(`select count(*)::int as n from ${desk.plan.names.internal}.change`)).rows[0].n

  test('are deleted when the gateway comes, and every hour; the others stay', async () => {
    await keep(12_000, 31)
    await keep(3, 29)
    const connections = createConnections(resource(), (failure) => reported.push(failure))
    const owner = { session: 'ses_1', agent: 'desk-worker', facts: { customer_id: 7 } }
    const backend = await connections.open(owner)
    await expect.poll(kept).toBe(3)

    // Whose a connection is follows from it alone.
    await backend.client.query('begin read write')
    await backend.client.query('update tickets set status = status where id = 1')
    await backend.client.query('commit')
    const { rows } = await desk.admin.query(
      `select distinct session from ${desk.plan.names.internal}.change where session is not null`,
    )
    expect(rows).toEqual([{ session: 'ses_1' }])

    await keep(5, 40)
    vi.advanceTimersByTime(3_600_000)
    await expect.poll(kept).toBe(4)
    await connections.close()
    await keep(5, 50)
    vi.advanceTimersByTime(7_200_000)
    expect(await kept()).toBe(9)
    expect(reported).toEqual([])
  })
})
