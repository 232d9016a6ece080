import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import { startWire } from '../../../../test/support/postgres-wire.ts'
import type { Wire } from '../../../../test/support/postgres-wire.ts'

describe.skipIf(await noPostgres(18))('node-postgres', () => {
  let server: PostgresServer
  let wire: Wire
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    wire = await startWire(server)
  }, 120_000)
  afterAll(async () => {
    await wire?.close()
    await server?.close()
  })

  test('simple and prepared statements over the rows of the session', async () => {
    const client = await wire.connect()
    expect((await client.query('select id, subject from tickets order by id')).rows).toEqual([
      { id: 1, subject: 'ada one' },
      { id: 2, subject: 'ada two' },
    ])
    for (let i = 0; i < 3; i++)
      expect((await client.query({ name: 'one', text: 'select subject from tickets where id = $1', values: [2] })).rows).toEqual([
        { subject: 'ada two' },
      ])
    expect((await client.query('select 1 as one')).rows).toEqual([{ one: 1 }])
    expect(wire.world.audit.of('action.done').length).toBeGreaterThan(3)
    expect(wire.reported).toEqual([])
  })

  test('a refused statement is an error, and the connection goes on', async () => {
    const client = await wire.connect()
    await expect(client.query('select * from salaries')).rejects.toMatchObject({ code: '42P01' })
    await expect(client.query('select pg_sleep(1)')).rejects.toMatchObject({ code: '42501' })
    await expect(client.query('select $1::int from salaries', [1])).rejects.toMatchObject({ code: '42P01' })
    expect((await client.query('select count(*)::int as n from tickets')).rows).toEqual([{ n: 2 }])
  })
})
