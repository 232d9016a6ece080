import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type pg from 'pg'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres, versions } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import { startWire } from '../../../../test/support/postgres-wire.ts'
import type { Wire } from '../../../../test/support/postgres-wire.ts'

const execute = promisify(execFile)
const psql = await execute('psql', ['--version']).then(
  () => true,
  () => false,
)

for (const version of versions)
  describe.skipIf(await noPostgres(version))(`real clients through the wire, PostgreSQL ${version}`, () => {
    let server: PostgresServer
    let wire: Wire
    beforeAll(async () => {
      server = await startPostgres({ version })
      wire = await startWire(server, { secrets: [{ name: 'KEY', value: 'body of ada two' }] })
    }, 120_000)
    afterEach(() => wire.letGo())
    afterAll(async () => {
      if (wire?.reported.length > 0) throw new Error('something went wrong inside', { cause: wire.reported })
      await wire?.close()
      await server?.close()
    })

    test('node-postgres: simple and prepared statements over the rows of the session', async () => {
      const client = await wire.connect()
      expect((await client.query('select id, subject from tickets order by id')).rows).toEqual([
        { id: 1, subject: 'ada one' },
        { id: 2, subject: 'ada two' },
      ])
      for (let i = 0; i < 3; i++) {
        const named = { name: 'one', text: 'select subject from tickets where id = $1', values: [2] }
        expect((await client.query(named)).rows).toEqual([{ subject: 'ada two' }])
      }
      expect((await client.query('select 1 as one')).rows).toEqual([{ one: 1 }])
      const decision = wire.world.audit.of('decision').at(-1)
      expect(decision).toMatchObject({
        decision: 'allow',
        via: 'sql',
        args: { statement: 'select subject from tickets where id = $1', parameters: ['2'] },
      })
    })

    test('another session sees its own rows, and another agent its own tables', async () => {
      const other = await wire.connect('desk-worker', {}, { customer_id: 8 })
      expect((await other.query('select id from tickets order by id')).rows).toEqual([{ id: 3 }, { id: 4 }])
      const reader = await wire.connect('reader')
      expect((await reader.query('select count(*)::int as n from tickets')).rows).toEqual([{ n: 2 }])
      const hidden = await reader.query('select * from responses').catch((error: unknown) => error)
      const absent = await reader.query('select * from nowhere_at').catch((error: unknown) => error)
      expect(hidden).toMatchObject({ code: '42P01' })
      expect((hidden as Error).message.replace('responses', '')).toBe(
        (absent as Error).message.replace('nowhere_at', ''),
      )
      await expect(reader.query({ text: 'select body from responses', name: 'x' })).rejects.toMatchObject({
        code: '42P01',
      })
    })

    test('a refused statement is an error, and the connection goes on', async () => {
      const client = await wire.connect()
      await expect(client.query('select * from salaries')).rejects.toMatchObject({ code: '42P01' })
      await expect(client.query('select pg_sleep(1)')).rejects.toMatchObject({ code: '42501' })
      await expect(client.query('select $1::int from salaries', [1])).rejects.toMatchObject({ code: '42P01' })
      await expect(client.query('copy tickets to stdout')).rejects.toMatchObject({ code: '42501' })
      await expect(client.query('select 1; drop table tickets')).rejects.toMatchObject({ code: '42501' })
      await expect(client.query('select nothing')).rejects.toMatchObject({ code: '42703' })
      expect((await client.query('select count(*)::int as n from tickets')).rows).toEqual([{ n: 2 }])
    })

    test('a refusal within a transaction fails it, as any error does', async () => {
      const client = await wire.connect()
      await client.query('begin')
      await client.query("insert into tickets (customer_id, subject, body) values (7, 'gone', 'b')")
      await expect(client.query('select * from salaries')).rejects.toMatchObject({ code: '42P01' })
      await expect(client.query('select 1')).rejects.toMatchObject({ code: '25P02' })
      await client.query('rollback')
      expect((await client.query("select 1 from tickets where subject = 'gone'")).rows).toEqual([])
      await client.query("begin; insert into tickets (customer_id, subject, body) values (7, 'here', 'b'); commit")
      expect((await client.query("select 1 from tickets where subject = 'here'")).rowCount).toBe(1)
      await client.query('begin')
      const notHeld = client.query("delete from responses where id = 999 and body = 'x'")
      await expect(notHeld).rejects.toMatchObject({ code: '42501' })
      await client.query('rollback')
    })

    test('errors of the server: its words and state, without rows of others', async () => {
      const client = await wire.connect()
      const failed = client.query("insert into tickets (customer_id, subject, body) values (8, 'x', 'y')")
      await expect(failed).rejects.toMatchObject({ code: '44000', detail: undefined })
      await expect(client.query('select id::text::int / 0 from tickets')).rejects.toMatchObject({ code: '22012' })
    })

    test('cursors and prepared statements of SQL are decided as what they do', async () => {
      const client = await wire.connect()
      await client.query('begin')
      await client.query('declare c cursor for select id from tickets where id < 3 order by id')
      expect((await client.query('fetch 1 from c')).rows).toEqual([{ id: 1 }])
      expect((await client.query('fetch 5 from c')).rows).toEqual([{ id: 2 }])
      await client.query('close c')
      await expect(client.query('fetch 1 from c')).rejects.toMatchObject({ code: '34000' })
      await client.query('rollback')

      await client.query('prepare p (int) as select subject from tickets where id = $1')
      expect((await client.query('execute p (1)')).rows).toEqual([{ subject: 'ada one' }])
      expect(wire.world.audit.of('decision').at(-1)?.['args']).toMatchObject({
        statement: 'prepare p (int) as select subject from tickets where id = $1; execute p (1)',
      })
      await client.query('deallocate p')
      await expect(client.query('execute p (1)')).rejects.toMatchObject({ code: '26000' })
      await expect(client.query('prepare q as select * from salaries')).rejects.toMatchObject({ code: '42P01' })
      await client.query('prepare p as select 1')
      await expect(client.query('prepare p as select 2')).rejects.toMatchObject({ code: '42P05' })
      await client.query('discard all').catch(() => {})
    })

    test('secrets that Sallyport holds leave in no row and no error', async () => {
      const client = await wire.connect()
      const { rows } = await client.query('select id, body from tickets where id in (1, 2) order by id')
      expect(rows).toEqual([
        { id: 1, body: 'body of ada one' },
        { id: 2, body: '[secret KEY]' },
      ])
      const failed = client.query('select body::int from tickets where id = 2')
      await expect(failed).rejects.toThrow(/\[secret KEY\]/)
    })

    test('postgres.js: pipelined queries, transactions, and a cursor', async () => {
      const { token } = await wire.session()
      const sql = postgres({
        host: '127.0.0.1',
        port: wire.listener.port,
        database: wire.alias,
        user: 'desk-worker',
        password: token,
        max: 2,
        fetch_types: false,
        onnotice: () => {},
      })
      try {
        const many = await Promise.all([1, 2, 1, 2].map((id) => sql`select subject from tickets where id = ${id}`))
        expect(many.flat().map(({ subject }) => subject)).toEqual(['ada one', 'ada two', 'ada one', 'ada two'])
        await sql.begin(async (tx) => {
          await tx`insert into responses (ticket_id, body) values (1, 'from postgres.js')`
        })
        expect(await sql`select body from responses where body = 'from postgres.js'`).toHaveLength(1)
        await expect(sql`select * from salaries`).rejects.toMatchObject({ code: '42P01' })
        const seen: number[] = []
        await sql`select id from tickets where id < 3 order by id`.cursor(1, ([row]) => void seen.push(row?.['id']))
        expect(seen).toEqual([1, 2])
      } finally {
        await sql.end()
      }
    })

    test.skipIf(!psql)('psql', async () => {
      const { token } = await wire.session()
      const run = (...commands: string[]) =>
        execute('psql', ['-X', '-A', '-t', ...commands.flatMap((each) => ['-c', each])], {
          env: {
            ...process.env,
            PGHOST: '127.0.0.1',
            PGPORT: String(wire.listener.port),
            PGDATABASE: wire.alias,
            PGUSER: 'desk-worker',
            PGPASSWORD: token,
            PGCLIENTENCODING: 'UTF8',
          },
        })
      const { stdout } = await run('begin', 'select subject from tickets where id = 1', 'rollback', 'show timezone')
      expect(stdout.split('\n')).toEqual(['BEGIN', 'ada one', 'ROLLBACK', 'UTC', ''])
      await expect(run('select * from salaries')).rejects.toMatchObject({
        stderr: expect.stringContaining('there is no table'),
      })
    })

    test('what a connection did is recorded when it opens and when it ends', async () => {
      const client = await wire.connect('desk-worker', { application_name: 'reports' })
      await client.query('select 1')
      await client.query('select id from tickets where id = 1')
      await client.query('select * from salaries').catch(() => {})
      const opened = wire.world.audit.of('sql.open').at(-1)
      expect(opened).toMatchObject({ agent: 'desk-worker', resource: wire.alias, secure: false, program: 'reports' })
      await client.end()
      await expect
        .poll(() => wire.world.audit.of('sql.close').find(({ of }) => of === opened?.id))
        .toMatchObject({ statements: 3, free: 1, refused: 1, rows: 2, because: 'the client left' })
    })

    test('settings of the list are taken when connecting, and others refused', async () => {
      const { token } = await wire.session()
      const client = await wire.connectAs('desk-worker', token, {
        application_name: 'x',
        options: undefined,
        statement_timeout: 1000,
      })
      expect((await client.query('show application_name')).rows).toEqual([{ application_name: 'x' }])
      const refused = (more: pg.ClientConfig) => wire.connectAs('desk-worker', token, more)
      await expect(refused({ options: '-c role=postgres' })).rejects.toMatchObject({ code: '42501' })
      await expect(refused({ replication: 'database' } as pg.ClientConfig)).rejects.toMatchObject({ code: '0A000' })
    })

    test('whoever is not who they say is told one thing', async () => {
      const { token } = await wire.session()
      const codes = await Promise.all(
        [
          wire.connectAs('desk-worker', 'wrong'),
          wire.connectAs('reader', token),
          wire.connectAs('nobody', token),
          wire.connectAs('desk-worker', token, { database: 'postgres' }),
          wire.session('stranger').then((session) => wire.connectAs('stranger', session.token)),
        ].map((each) =>
          each.then(() => undefined).catch((error: unknown) => error as { code: string; message: string }),
        ),
      )
      expect(codes.map((error) => [error?.code, error?.message.replace(/"[^"]*"/, '')])).toEqual(
        codes.map(() => ['28P01', 'password authentication failed for user ']),
      )
    })
  })
