import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres } from '../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../test/support/postgres.ts'
import { startDesk } from '../../../test/support/postgres-desk.ts'
import type { Desk } from '../../../test/support/postgres-desk.ts'
import { Failure } from '../../core/failure.ts'
import type { Json } from '../../core/json.ts'
import { createConnections } from './connect.ts'
import type { Backend, Connections } from './connect.ts'
import { execute, StatementError, TouchedTooMany } from './execute.ts'
import type { Wanted } from './execute.ts'
import { createPool } from './pool.ts'
import type { PostgresResource } from './resource.ts'

const never = new AbortController().signal

async function until<T>(what: string, look: () => Promise<T>): Promise<T> {
  for (const end = performance.now() + 10_000; ; await pause(10)) {
    const seen = await look()
    if (seen) return seen
    if (performance.now() > end) throw new Error(`it did not come about: ${what}`)
  }
}

describe.skipIf(await noPostgres(18))('one statement', () => {
  let server: PostgresServer
  let desk: Desk
  let connections: Connections
  const reported: unknown[] = []

  const resourceOf = (more: Partial<PostgresResource> = {}): PostgresResource => {
    const { gateway, databaseName } = desk.settings
    return {
      alias: desk.database.alias,
      database: desk.database,
      names: desk.plan.names,
      address: () => ({
        host: '127.0.0.1',
        port: server.port,
        database: databaseName,
        user: gateway.user,
        password: gateway.password!,
        tls: 'off',
      }),
      secrets: [],
      connections: 10,
      tools: new Map(),
      held: new Map(),
      ...more,
    }
  }
  const sessions = new Map(
    ['one', 'two', 'three'].map((id) => [id, { agent: 'desk-worker', facts: { customer_id: 7 } }]),
  )
  const poolOf = (over = connections) => createPool(over, { get: (id) => sessions.get(id) as never })
  const open = (): Promise<Backend> =>
    poolOf().use('one', async (backend) => {
      opened.push(backend)
      return backend
    })
  const opened: Backend[] = []
  const most = { rows: 100, bytes: 100_000, time: 5_000 }
  const run = (backend: Backend, text: string, parameters: readonly Json[] = [], more: Partial<Wanted> = {}) =>
    execute(backend, { text, parameters, isWrite: false, most, ...more }, never)
  const one = async (backend: Backend, expression: string, parameters: readonly Json[] = []) =>
    (await run(backend, `select ${expression} as value`, parameters)).rows[0]?.[0]
  const active = async (marker: string): Promise<number> => {
    const { rows } = await desk.admin.query(
      `select count(*)::int as n from pg_stat_activity where state = 'active' and query like $1 and pid <> pg_backend_pid()`,
      [`%${marker}%`],
    )
    return rows[0].n
  }

  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    desk = await startDesk(server)
    connections = createConnections(resourceOf(), (failure) => reported.push(failure))
  }, 120_000)
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((backend) => backend.close()))
  })
  afterAll(async () => {
    await connections?.close()
    if (reported.length > 0) throw new AggregateError(reported, 'something was reported')
    await desk?.close()
    await server?.close()
  })

  test('rows, their types and how many', async () => {
    const result = await run(await open(), 'select id, subject, amount from tickets order by id')
    expect(result).toMatchObject({
      columns: [
        { name: 'id', type: 'integer' },
        { name: 'subject', type: 'text' },
        { name: 'amount', type: 'integer' },
      ],
      rows: [
        [1, 'ada one', 10],
        [2, 'ada two', 20],
      ],
      count: 2,
    })
    expect(result.cut).toBeUndefined()
  })

  test('values as JSON has them, or as text where something would be lost', async () => {
    const backend = await open()
    const table: [string, Json][] = [
      ['true', true],
      ['null::int', null],
      ['9007199254740991::int8', 9007199254740991],
      ['9007199254740993::int8', '9007199254740993'],
      ['0.1::float8', 0.1],
      ["'NaN'::float8", 'NaN'],
      ["'-Infinity'::float4", '-Infinity'],
      ['12345678901234567890.10::numeric', '12345678901234567890.10'],
      ["'NaN'::numeric", 'NaN'],
      [`'{"a":[1,{"b":null}]}'::jsonb`, { a: [1, { b: null }] }],
      [`'{"a":12345678901234567890}'::jsonb`, '{"a": 12345678901234567890}'],
      [`'{"a":1,"a":2}'::json`, '{"a":1,"a":2}'],
      [`(repeat('[', 200) || repeat(']', 200))::json`, '['.repeat(200) + ']'.repeat(200)],
      [`'{"__proto__":1}'::json`, '{"__proto__":1}'],
      [`'\\x00ff'::bytea`, '\\x00ff'],
      ['array[1,null,3]', '{1,NULL,3}'],
      ["array['a b','c\"d']", '{"a b","c\\"d"}'],
      ["'0044-03-15 BC'::date", '0044-03-15 BC'],
      ["'infinity'::timestamptz", 'infinity'],
      ["'2026-02-03 04:05:06+00'::timestamptz", '2026-02-03 04:05:06+00'],
      ["'1 day 2 hours'::interval", 'P1DT2H'],
      ["'a'::char(3)", 'a  '],
      ["'größer 😀'", 'größer 😀'],
    ]
    for (const [expression, expected] of table)
      expect([expression, await one(backend, expression)]).toEqual([expression, expected])
  })

  test('parameters: written as the type that the server finds for them', async () => {
    const backend = await open()
    const table: [string, Json[], Json][] = [
      ['$1::jsonb', [{ a: [1, 'x"y'] }], { a: [1, 'x"y'] }],
      ['$1::jsonb', [[1, 2]], [1, 2]],
      ['$1::jsonb', ['{"a":1}'], { a: 1 }],
      ['$1::jsonb || $2::jsonb', [{ a: 1 }, '{"b":2}'], { a: 1, b: 2 }],
      ['$1::jsonb', [true], true],
      ['$1::int[]', [[1, null, 3]], '{1,NULL,3}'],
      ['($1::text[])[2]', [['a', '"x\\y",{}']], '"x\\y",{}'],
      [
        '($1::int[][])[2][1]',
        [
          [
            [1, 2],
            [3, 4],
          ],
        ],
        3,
      ],
      ['2 = any ($1::int[])', [[1, 2]], true],
      ['$1::int', [null], null],
      ['$1::bool', [false], false],
      ['$1::int8', ['9007199254740993'], '9007199254740993'],
      ['$1::float8', [1e21], 1e21],
      ['$1::numeric', [-0.5], '-0.5'],
      ['$1::text', ["o'; drop table tickets; --"], "o'; drop table tickets; --"],
      ['$1::text', [''], ''],
      ['$2::int + $1::int', [1, 2], 3],
    ]
    for (const [expression, parameters, expected] of table)
      expect([expression, await one(backend, expression, parameters)]).toEqual([expression, expected])
  })

  test.each<[string, string, readonly Json[], string]>([
    ['too few parameters', 'select $1::int', [], '08P01'],
    ['too many', 'select 1', [1], '08P01'],
    ['too many, one a list', 'select $1::int[]', [[1], [2]], '08P01'],
    ['one of the wrong type', 'select $1::int', ['x'], '22P02'],
    ['a list for a number', 'select $1::int', [[1]], '22P02'],
    ['NUL in a text', 'select $1::text', ['a\0b'], '22021'],
    ['no SQL', 'select from from', [], '42601'],
    ['no SQL, with a list', 'select from from', [[1]], '42601'],
    ['two statements', 'select 1; select 2', [], '42601'],
    ['an error behind rows', 'select 1 / (300 - n) from generate_series(1, 400) n', [], '22012'],
    ['COPY in', 'copy tickets from stdin', [], '0A000'],
  ])('what the server refuses, and the connection is as before: %s', async (_, text, parameters, code) => {
    const backend = await open()
    const thrown = await run(backend, text, parameters, { most: { ...most, rows: 1_000 } }).catch(
      (each: unknown) => each,
    )
    expect(thrown).toBeInstanceOf(StatementError)
    // What COPY may be refused for depends on rights first.
    expect([code, '42501', '25006']).toContain((thrown as StatementError).code)
    expect(await one(backend, '1')).toBe(1)
    expect(backend.ended.aborted).toBe(false)
  })

  test('nothing at all, and what returns nothing', async () => {
    const backend = await open()
    expect(await run(backend, '')).toMatchObject({ columns: [], rows: [], count: 0 })
    expect(await run(backend, 'select from tickets')).toMatchObject({ columns: [], count: 2 })
    expect(await run(backend, 'delete from tickets where false', [], { isWrite: true })).toMatchObject({
      columns: [],
      rows: [],
      count: 0,
    })
  })

  test('promise 3: what is not known to change something can not', async () => {
    const backend = await open()
    for (const text of [
      "update tickets set status = 'x' where id = 1",
      'delete from tickets',
      "insert into tickets (customer_id, subject, body) values (7, 'x', 'y')",
      "with u as (update tickets set status = 'x' returning id) select * from u",
    ])
      await expect(run(backend, text)).rejects.toMatchObject({ code: '25006' })
    expect((await desk.admin.query("select count(*)::int as n from tickets where status = 'x'")).rows[0].n).toBe(0)
    // And a change leaves nothing behind that would let the next one through.
    await run(backend, "update tickets set status = 'open' where id = 1", [], { isWrite: true })
    await expect(run(backend, 'delete from tickets')).rejects.toMatchObject({ code: '25006' })
  })

  test('a change: what it returns, how many rows, and none where there are more than it may touch', async () => {
    const backend = await open()
    const write = (text: string, more: Partial<Wanted['most']> = {}) =>
      run(backend, text, [], { isWrite: true, most: { ...most, ...more } })
    const body = async () =>
      (await desk.admin.query('select count(distinct body)::int as n from tickets where customer_id = 7')).rows[0].n
    const add =
      "insert into tickets (customer_id, subject, body) select 7, 'many', n::text from generate_series(1, 500) n"
    expect(await write(add)).toMatchObject({ count: 500, columns: [] })
    expect(
      await write("update tickets set status = 's' where subject = 'many' returning id", { rows: 3 }),
    ).toMatchObject({
      count: 500,
      cut: 'rows',
      rows: [[expect.anything()], [expect.anything()], [expect.anything()]],
    })
    const before = await body()
    const thrown = await write("update tickets set body = 'same' where subject = 'many' returning id", {
      rows: 3,
      touched: 499,
    }).catch((each: unknown) => each)
    expect(thrown).toBeInstanceOf(TouchedTooMany)
    expect(thrown).toMatchObject({ touched: 500, most: 499 })
    expect(await body()).toBe(before)
    expect(await write("delete from tickets where subject = 'many'", { touched: 500 })).toMatchObject({ count: 500 })
    await expect(write('update tickets set body = body', { touched: 1 })).rejects.toMatchObject({ touched: 2 })
    expect(
      (await desk.admin.query("select count(*)::int as n from pg_stat_activity where state like 'idle in%'")).rows[0].n,
    ).toBe(0)
  })

  test('rows and bytes are bounded, over several batches', async () => {
    const backend = await open()
    const series = (n: number) => `select generate_series(1, ${n}), repeat('x', 100)`
    for (const [n, rows] of [
      [199, 200],
      [200, 200],
      [201, 200],
      [400, 400],
      [401, 400],
      [1_000, 1_000],
      [1_001, 1_000],
    ] as const) {
      const result = await run(backend, series(n), [], { most: { ...most, rows, bytes: 1_000_000 } })
      expect([n, result.rows.length, result.cut]).toEqual([n, Math.min(n, rows), n > rows ? 'rows' : undefined])
    }
    const result = await run(backend, series(100_000_000), [], { most: { ...most, rows: 1_000_000, bytes: 50_000 } })
    expect(result.cut).toBe('bytes')
    expect(result.bytes).toBeLessThanOrEqual(50_000)
    expect(result.rows.length).toBeGreaterThan(400)
    expect(await one(backend, '1')).toBe(1)
  })

  test(
    'promise 9: a value of 200 MB cuts the connection, and little of it is ever held',
    { timeout: 60_000 },
    async () => {
      const backend = await open()
      let peak = 0
      const base = process.memoryUsage.rss()
      const watching = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss() - base)), 2)
      const huge = await run(backend, "select repeat('x', 200000000)", [], { most: { ...most, time: 20_000 } }).catch(
        (each: unknown) => each,
      )
      clearInterval(watching)
      expect(huge).toMatchObject({ code: 'too_large' })
      expect(backend.ended.aborted).toBe(true)
      expect(peak).toBeLessThan(120_000_000)
      // Rows before it are what there is.
      const part = await run(await open(), "select 1, 'a' union all select 2, repeat('x', 200000000)", [], {
        most: { ...most, time: 20_000 },
      })
      expect(part).toMatchObject({ rows: [[1, 'a']], cut: 'bytes' })
      // A change that says too much is undone.
      const changed = run(
        await open(),
        "update tickets set body = repeat('y', 30000000) where id = 1 returning body",
        [],
        {
          isWrite: true,
          most: { ...most, time: 20_000 },
        },
      )
      await expect(changed).rejects.toMatchObject({ code: 'too_large' })
      expect((await desk.admin.query('select body from tickets where id = 1')).rows[0].body).toBe('body of ada one')
    },
  )

  test('what takes too long is stopped, and nothing goes on in the database', async () => {
    const backend = await open()
    const text = "select pg_sleep(60), 'takes too long'"
    await expect(run(backend, text, [], { most: { ...most, time: 100 } })).rejects.toMatchObject({ code: 'limited' })
    await until('nothing runs', async () => (await active('takes too long')) === 0)
    // A cancellation may be heard late: such a connection serves nobody any more.
    expect(backend.ended.aborted).toBe(true)
  })

  test('promise 2: what is cut is stopped and undone, also where the server was done before it heard of it', async () => {
    const backend = await open()
    const leaving = new AbortController()
    const slow = "update tickets set status = 'cut' where id = 1 and pg_sleep(60) is not null"
    const running = execute(backend, { text: slow, parameters: [], isWrite: true, most }, leaving.signal)
    await until('it runs', async () => (await active('pg_sleep(60) is not null')) === 1)
    leaving.abort(new Failure('cancelled', 'the session is over'))
    await expect(running).rejects.toMatchObject({
      code: 'cancelled',
      message: 'the session is over: nothing was changed',
    })
    await until('nothing runs', async () => (await active('pg_sleep(60) is not null')) === 0)

    // The server never hears of it, and is done.
    const deaf: Backend = { ...(await open()), cancel: async () => {} }
    const cut = new AbortController()
    setTimeout(() => cut.abort(new Failure('cancelled', 'too late')), 50)
    const unheard = "update tickets set status = 'unheard' where id = 1 and pg_sleep(0.5) is not null"
    await expect(
      execute(deaf, { text: unheard, parameters: [], isWrite: true, most }, cut.signal),
    ).rejects.toMatchObject({ message: 'too late: nothing was changed' })
    expect((await desk.admin.query("select 1 from tickets where status = 'unheard'")).rowCount).toBe(0)

    for (const wait of [0, 1, 2, 4, 8]) {
      const late = new AbortController()
      const each = await open()
      setTimeout(() => late.abort(new Failure('cancelled', 'over')), wait)
      const text = `update tickets set status = 'late ${wait}' where id = 1`
      const done = await execute(each, { text, parameters: [], isWrite: true, most }, late.signal).then(
        () => true,
        (thrown: unknown) => (String(thrown).includes('may have happened') ? undefined : false),
      )
      const { rows } = await desk.admin.query('select status from tickets where id = 1')
      if (done !== undefined) expect([wait, rows[0].status === `late ${wait}`]).toEqual([wait, done])
    }
    await desk.admin.query("update tickets set status = 'open'")
  })

  test('a connection that is lost: before the end nothing was changed, and at the end it may have been', async () => {
    const backend = await open()
    const slow = "update tickets set status = 'lost' where id = 1 and pg_sleep(60) is not null"
    const running = run(backend, slow, [], { isWrite: true }).catch((each: unknown) => each)
    await until('it runs', async () => (await active("'lost' where")) === 1)
    await desk.admin.query('select pg_terminate_backend($1)', [backend.pid])
    expect(await running).toMatchObject({
      code: 'unavailable',
      message: 'the connection to the database was lost: nothing was changed',
    })
    expect(backend.ended.aborted).toBe(true)
    expect((await desk.admin.query('select status from tickets where id = 1')).rows[0].status).toBe('open')

    await desk.admin.query(`
      create function slow_end() returns trigger language plpgsql as 'begin perform pg_sleep(60); return null; end';
      create constraint trigger slow_end after insert on responses deferrable initially deferred
        for each row execute function slow_end()`)
    try {
      const last = await open()
      const ending = run(last, "insert into responses (ticket_id, body) values (1, 'x')", [], { isWrite: true }).catch(
        (each: unknown) => each,
      )
      await until('it ends', async () => (await active('commit')) === 1)
      await desk.admin.query('select pg_terminate_backend($1)', [last.pid])
      expect(await ending).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/may have happened/) })
    } finally {
      await desk.admin.query('drop trigger slow_end on responses; drop function slow_end()')
    }
  })

  describe('connections for single statements', () => {
    const pidOf = (pool: ReturnType<typeof poolOf>, session: string) =>
      pool.use(session, async (backend) => (await run(backend, 'select pg_backend_pid()')).rows[0]?.[0])

    test('are kept for their session, and never handed to another', async () => {
      const pool = poolOf()
      const [first, again] = [await pidOf(pool, 'one'), await pidOf(pool, 'one')]
      expect(again).toBe(first)
      const two = await pidOf(pool, 'two')
      expect(two).not.toBe(first)
      expect(await pidOf(pool, 'one')).toBe(first)
      pool.close()
    })

    test('end with their session, and none is opened for one that is over', async () => {
      const pool = poolOf()
      const pid = await pidOf(pool, 'one')
      pool.ended(['one'])
      await until(
        'it is gone',
        async () => (await desk.admin.query('select from pg_stat_activity where pid = $1', [pid])).rowCount === 0,
      )
      const over = sessions.get('three')!
      const during = pool.use('three', async (backend) => {
        sessions.delete('three')
        return backend
      })
      expect((await during).ended.aborted).toBe(true)
      await expect(pidOf(pool, 'three')).rejects.toMatchObject({ code: 'unavailable' })
      sessions.set('three', over)
      pool.close()
    })

    test('promise 9: four at once for a session, others wait; those that wait in vain make room for others of the agent', async () => {
      const few = createConnections(resourceOf({ connections: 4 }), () => {})
      const pool = createPool(few, { get: (id) => sessions.get(id) as never })
      let most = 0
      let now = 0
      const work = async (backend: Backend) => {
        most = Math.max(most, ++now)
        await run(backend, 'select pg_sleep(0.02)')
        now -= 1
      }
      const all = await Promise.allSettled(Array.from({ length: 40 }, () => pool.use('one', work)))
      expect(most).toBe(4)
      expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(36)
      for (const each of all) if (each.status === 'rejected') expect(each.reason).toMatchObject({ code: 'limited' })
      expect(await pidOf(pool, 'two')).toEqual(expect.any(Number))
      pool.close()
      await few.close()
    })

    test('promise 2: who waits for a connection when the session ends gets none', async () => {
      const pool = poolOf()
      const release: (() => void)[] = []
      const hold = () => pool.use('one', () => new Promise<void>((resolve) => void release.push(resolve)))
      const running = Array.from({ length: 4 }, hold)
      await until('they run', async () => release.length === 4)
      const waiting = hold().catch((thrown: unknown) => thrown)
      pool.ended(['one'])
      expect(await waiting).toMatchObject({ code: 'unavailable' })
      for (const each of release) each()
      await Promise.all(running)
      // And what is cut before it begins does not begin.
      const backend = await open()
      const gone = execute(backend, { text: 'select 1', parameters: [], isWrite: false, most }, AbortSignal.abort())
      await expect(gone).rejects.toMatchObject({ code: 'cancelled' })
      expect(backend.ended.aborted).toBe(false)
      pool.close()
    })

    test('a database that is not set up, or has another password, is said to be, without the password', async () => {
      const wrong = createConnections(
        resourceOf({ address: () => ({ ...resourceOf().address(), password: 'wrong-password' }) }),
        () => {},
      )
      const thrown = await wrong
        .open({ session: 'one', agent: 'desk-worker', facts: {} })
        .catch((each: unknown) => each as Failure)
      expect(thrown).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/sallyport db apply/) })
      expect(JSON.stringify([thrown, String((thrown as Failure).cause)])).not.toContain('wrong-password')
      await wrong.close()
    })
  })
})
