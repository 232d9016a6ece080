import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres, versions } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import { bind, execute, parse, query, startWire, sync } from '../../../../test/support/postgres-wire.ts'
import type { Wire } from '../../../../test/support/postgres-wire.ts'

// Statements that touch no table need no permission, and limits of calls do not count them. This is what bounds them.

const time = 400
const most = 3

/** Far more work than there is time for, each in another way. */
const endless: readonly [string, string][] = [
  ['functions of sets', `select count(*) from ${times('generate_series(1, 10000)')}`],
  ['a recursive query', 'with recursive r (n) as (select 1 union all select n + 1 from r) select count(*) from r'],
  ['catalogs', `select count(*) from ${times('pg_catalog.pg_type')}`],
  ['a regular expression', String.raw`select repeat('a', 1001) ~ '^(a*)(a*)(a*)(a*)\1\2\3\4$'`],
]

function times(what: string): string {
  return Array.from({ length: 5 }, (_, at) => `${what} a${at}`).join(', ')
}

for (const version of versions)
  describe.skipIf(await noPostgres(version))(`statements that touch no table, PostgreSQL ${version}`, () => {
    let server: PostgresServer
    let wire: Wire
    beforeAll(async () => {
      server = await startPostgres({ version })
      wire = await startWire(server, {
        listener: { connections: { session: most } },
        change: (database) => ({ ...database, most: { ...database.most, time } }),
      })
    }, 120_000)
    afterEach(() => wire.letGo())
    afterAll(async () => {
      if (wire?.reported.length > 0) throw new Error('something went wrong inside', { cause: wire.reported })
      await wire?.close()
      await server?.close()
    })

    const isStopped = [{ code: '57014' }]

    test.each(endless)('are stopped when their time is over: %s', async (_what, text) => {
      const client = await wire.rawLoggedIn()
      const startedAt = performance.now()
      client.send(query(text))
      await client.until('Z')
      expect(client.errors()).toMatchObject(isStopped)
      expect(performance.now() - startedAt).toBeLessThan(10 * time)
      // What the server works out as it plans is held to the same.
      client.clear()
      client.send(parse('', text), bind('', ''), sync, parse('', text), bind('', ''), execute(), sync)
      await client.until('Z', 2)
      expect(client.errors().at(-1)).toMatchObject({ code: '57014' })
      client.clear()
      client.send(query('select 1'))
      await client.until('Z')
      expect(client.rows()).toEqual([['1']])
    })

    test('are stopped also where the server would not stop them', async () => {
      const role = wire.desk.plan.names.agent('desk-worker')
      await wire.desk.admin.query(`alter role ${role} set statement_timeout = 0`)
      try {
        const client = await wire.rawLoggedIn()
        client.send(query(endless[0]?.[1] ?? ''))
        await client.until('Z')
        expect(client.errors()).toMatchObject([{ code: '57014', message: expect.stringMatching(/longer than 400 ms/) }])
      } finally {
        await wire.desk.admin.query(`alter role ${role} set statement_timeout = ${time}`)
      }
    })

    test('keep no more processes of the server busy than a session has connections, and are counted', async () => {
      const { id, token } = await wire.session()
      const [[, text] = []] = endless
      const all = await Promise.all(Array.from({ length: most }, () => wire.connectAs('desk-worker', token)))
      await expect(wire.connectAs('desk-worker', token)).rejects.toMatchObject({ code: '53300' })
      const stopped = await Promise.allSettled(all.map((client) => client.query(text ?? '')))
      for (const each of stopped) expect(each).toMatchObject({ status: 'rejected', reason: { code: '57014' } })
      await wire.letGo()
      const ends = wire.world.audit.of('sql.close').filter(({ session }) => session === id)
      expect(ends.map(({ statements, free }) => [statements, free])).toEqual(all.map(() => [1, 1]))
    })
  })
