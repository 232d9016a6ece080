import fc from 'fast-check'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres, versions } from '../../test/support/postgres.ts'
import type { PostgresServer } from '../../test/support/postgres.ts'
import { connectTo, databaseOfUrl, describeTable, startDesk } from '../../test/support/postgres-desk.ts'
import type { Desk } from '../../test/support/postgres-desk.ts'
import { applySetup } from './apply.ts'
import type { Database, Mask, Table, Verb } from './description.ts'
import { verbs } from './description.ts'
import { literal } from './names.ts'
import { planRemove, planSetup } from './setup.ts'
import { undoChange } from './undo.ts'
import { verify } from './verify.ts'

/** A table of which everything can be written, and whose changes are kept. */
const open = (name: string, columns: readonly string[], more: Partial<Table> = {}) =>
  describeTable(name, {
    select: new Map<string, Mask>(columns.map((column) => [column, 'none'])),
    insert: columns,
    update: columns,
    delete: true,
    key: ['id'],
    undo: true,
    ...more,
  })

const withoutUndo = (table: Table): Table =>
  Object.fromEntries(Object.entries(table).filter(([key]) => key !== 'undo')) as unknown as Table

const shop = `
  create table customers (id int primary key, name text not null unique, orders int not null default 0);
  create table orders (id int primary key, customer_id int references customers on delete cascade on update cascade, note text);
  create table lines (id int primary key, order_id int not null references orders on delete cascade, amount numeric(10,2));
  create table wishes (id int primary key, customer_id int references customers on delete set null on update set null);
  create table notes (id int primary key, order_id int references orders on delete cascade, body text);
  create table tree (id int primary key, parent int references tree on delete cascade, name text);
  create table "odd name" (id int primary key, "odd ""column" text);
  create table parted (id int, kind text, body text, primary key (id, kind)) partition by list (kind);
  create table part_a partition of parted for values in ('a');
  create table part_b (body text, kind text not null, id int not null);
  alter table parted attach partition part_b for values in ('b');
  insert into customers values (1, 'ada'), (2, 'bob'), (3, 'eve');
  insert into orders values (10, 1, 'first'), (11, 1, 'second'), (20, 2, null);
  insert into lines values (100, 10, 1.50), (101, 10, 2.00), (200, 20, 3);
  insert into wishes values (1000, 1), (1001, 2);
  insert into tree values (1, null, 'root'), (2, 1, 'child'), (3, 2, 'grandchild');
  insert into "odd name" values (1, 'x');
  insert into parted values (1, 'a', 'one'), (2, 'b', 'two');
`

const described = (database: Database): Database => ({
  ...database,
  undo: { keep: 86_400_000, rows: 50 },
  tables: new Map([
    open('customers', ['id', 'name', 'orders']),
    open('orders', ['id', 'customer_id', 'note']),
    open('lines', ['id', 'order_id', 'amount']),
    open('wishes', ['id', 'customer_id']),
    open('tree', ['id', 'parent', 'name']),
    open('odd', ['id'], { base: { schema: 'public', table: 'odd name' } }),
    open('parted', ['id', 'kind', 'body'], { key: ['id', 'kind'] }),
  ]),
})

const everything: ReadonlyMap<string, ReadonlySet<Verb>> = new Map(
  ['customers', 'orders', 'lines', 'wishes', 'tree', 'odd', 'parted'].map((table) => [table, new Set(verbs)]),
)

const tables = ['customers', 'orders', 'lines', 'wishes', 'notes', 'tree', '"odd name"', 'parted', 'part_a', 'part_b']

async function snapshot(admin: pg.Client): Promise<unknown> {
  const all: Record<string, unknown> = {}
  for (const table of tables)
    all[table] = (await admin.query(`select t::text as row from public.${table} t order by 1`)).rows.map(
      ({ row }) => row as unknown,
    )
  return all
}

describe.each(versions)('undoing on PostgreSQL %i', async (version) => {
  const missing = await noPostgres(version)
  let server: PostgresServer
  let desk: Desk
  let agent: pg.Client

  beforeAll(async () => {
    if (missing) return
    server = await startPostgres({ version })
    desk = await startDesk(server, { tables: shop, change: described, agents: new Map([['worker', everything]]) })
    agent = await desk.as('worker', {})
  }, 120_000)
  afterAll(async () => {
    await desk?.close()
    await server?.close()
  })

  const changes = async (): Promise<readonly { change: string; undone: boolean; tables: unknown }[]> => {
    const gateway = await desk.asGateway()
    const { rows } = await gateway.query(`select ${desk.plan.names.internal}.changes(null, 999) as found`)
    await gateway.end()
    return rows[0].found
  }
  /** What the agent does in one transaction. Returns the number of the change. */
  async function act(...statements: readonly string[]): Promise<string> {
    await agent.query('begin')
    try {
      for (const each of statements) await agent.query(each)
      const { rows } = await agent.query('select pg_current_xact_id_if_assigned()::text as xid')
      await agent.query('commit')
      return rows[0].xid as string
    } catch (thrown) {
      await agent.query('rollback')
      throw thrown
    }
  }
  const undo = (change: string, isTrial = false) => undoChange(desk.admin, desk.plan.names, change, { isTrial })
  /** Why it can't be undone. Nothing is, then. */
  const conflict = async (change: string): Promise<string> => {
    const before = await snapshot(desk.admin)
    const thrown: unknown = await undo(change).catch((failure: unknown) => failure)
    expect(await snapshot(desk.admin)).toEqual(before)
    return String(thrown)
  }

  test.skipIf(missing).each<[string, readonly string[]]>([
    ['a row deleted', ['delete from lines where id = 100']],
    ['values changed', [`update customers set name = name || '!', orders = 7`]],
    ['rows inserted', [`insert into customers (id, name) values (50, 'x'), (51, 'y')`]],
    ['a cascade over two tables', ['delete from customers where id = 2', 'delete from orders where id = 10']],
    ['a cascade that sets null', [`delete from customers where name = 'ada'`]],
    ['a key that others follow', ['update customers set id = 77 where id = 1']],
    ['a tree', ['delete from tree where id = 1']],
    [
      'a tree that grows',
      [
        `insert into tree (id, parent, name) values (4, 3, 'a'), (5, 4, 'b')`,
        'update tree set parent = 5 where id = 2',
      ],
    ],
    [
      'a mixture, with rows that are changed twice and more',
      [
        `insert into customers (id, name) values (60, 'new')`,
        `update customers set name = 'newer' where id = 60`,
        `update customers set orders = 1 where id = 3`,
        `update customers set orders = 2 where id = 3`,
        `update customers set id = 30 where id = 3`,
        `insert into orders (id, customer_id) values (61, 60)`,
        `update orders set customer_id = 60 where id = 20`,
        `delete from customers where id = 2`,
        `insert into customers (id, name) values (2, 'bob')`,
        `delete from lines`,
        `insert into lines (id, order_id, amount) values (100, 61, 9)`,
      ],
    ],
    [
      'values of a unique column that go round',
      [
        `update customers set name = 'x' where id = 1`,
        `update customers set name = 'ada' where id = 2`,
        `update customers set name = 'bob' where id = 1`,
      ],
    ],
    ['partitions, and a row that moves', [`update parted set kind = 'b', body = 'moved' where id = 1`]],
    ['odd names', ['delete from odd']],
    [
      'what comes to nothing',
      [`insert into customers (id, name) values (9, 'n')`, 'delete from customers where id = 9'],
    ],
  ])('%s', async (_, statements) => {
    const before = await snapshot(desk.admin)
    const change = await act(...statements)
    const after = await snapshot(desk.admin)
    const tried = await undo(change, true)
    expect(await snapshot(desk.admin)).toEqual(after)
    expect(await undo(change)).toEqual(tried)
    expect(await snapshot(desk.admin)).toEqual(before)
    expect((await changes())[0]).toMatchObject({ change, undone: true })
    await expect(undo(change)).rejects.toThrow(`change ${change} was undone already`)
  })

  const id = fc.integer({ min: 1, max: 12 })
  const statement = fc.oneof(
    fc.tuple(id, id).map(([one, other]) => `insert into customers (id, name) values (${one}, 'c${other}')`),
    fc
      .tuple(id, id)
      .map(([one, other]) => `update customers set name = 'c${other}', orders = orders + 1 where id = ${one}`),
    fc.tuple(id, id).map(([one, other]) => `update customers set id = ${other} where id = ${one}`),
    id.map((one) => `delete from customers where id = ${one}`),
    fc.tuple(id, id).map(([one, other]) => `insert into orders (id, customer_id) values (${one}, ${other})`),
    fc.tuple(id, id).map(([one, other]) => `update orders set customer_id = ${other} where id >= ${one}`),
    id.map((one) => `delete from orders where customer_id = ${one}`),
    fc.tuple(id, id).map(([one, other]) => `insert into wishes (id, customer_id) values (${one}, ${other})`),
    fc.tuple(id, id).map(([one, other]) => `update tree set parent = ${other} where id > ${one}`),
    fc.tuple(id, id).map(([one, other]) => `insert into tree (id, parent, name) values (${one}, ${other}, 'n')`),
    id.map((one) => `delete from tree where id = ${one}`),
    id.map((one) => `update parted set kind = case kind when 'a' then 'b' else 'a' end where id <> ${one}`),
  )
  test.skipIf(missing)(
    'whatever a transaction does, it can be undone where nobody else has changed anything',
    { timeout: 60_000 },
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(statement, { minLength: 1, maxLength: 14 }), async (statements) => {
          const before = await snapshot(desk.admin)
          await agent.query('begin')
          for (const each of statements) {
            await agent.query('savepoint each')
            await agent.query(each).catch(() => agent.query('rollback to each'))
          }
          const { rows } = await agent.query('select pg_current_xact_id_if_assigned()::text as xid')
          await agent.query('commit')
          const change = rows[0].xid as string | null
          const isKept = (await changes()).some((each) => each.change === change && !each.undone)
          if (change !== null && isKept) await undo(change)
          expect(await snapshot(desk.admin)).toEqual(before)
        }),
        { numRuns: 150, seed: 1 },
      )
    },
  )

  test.skipIf(missing)('savepoints that were rolled back leave nothing', async () => {
    const before = await snapshot(desk.admin)
    const change = await act(
      'savepoint s',
      'delete from lines',
      'rollback to s',
      'delete from lines where id = 200',
      'savepoint t',
      'delete from lines',
      'rollback to t',
    )
    expect(await undo(change)).toMatchObject({ rows: 1, tables: [{ table: 'public.lines', restored: 1 }] })
    expect(await snapshot(desk.admin)).toEqual(before)
  })

  describe.skipIf(missing)('where something has changed since, nothing is done', () => {
    test('a row that was changed, or is gone, or is there again', async () => {
      const change = await act(`update customers set orders = orders + 1`, 'delete from lines where id = 200')
      await desk.admin.query('update public.customers set orders = 99 where id = 2')
      expect(await conflict(change)).toMatch(/nothing was undone: public\.customers, id = \(2\): it has changed since/)
      await desk.admin.query('update public.customers set orders = 1 where id = 2')
      await desk.admin.query('insert into public.lines values (200, 20, 4)')
      expect(await conflict(change)).toMatch(
        /nothing was undone: public\.lines, id = \(200\): there is another row with the same key/,
      )
      await desk.admin.query('delete from public.lines where id = 200')
      await undo(change)
      const added = await act(`insert into customers (id, name) values (70, 'z')`)
      await desk.admin.query('delete from public.customers where id = 70')
      expect(await conflict(added)).toMatch(/public\.customers, id = \(70\): it has changed since/)
    })

    test('rows that others have hung on to what would go', async () => {
      const change = await act(`insert into orders (id, customer_id) values (80, 1)`)
      await desk.admin.query(`insert into public.notes values (1, 80, 'by somebody else')`)
      expect(await conflict(change)).toMatch(/public\.orders, id = \(80\): rows of (public\.)?notes refer to it/)
      await desk.admin.query('delete from public.notes')
      await undo(change)
    })

    test('a parent that is gone for good, a value that is taken', async () => {
      const change = await act('delete from lines where order_id = 20')
      await desk.admin.query('delete from public.orders where id = 20')
      expect(await conflict(change)).toMatch(/public\.lines, id = \(200\): a foreign key would not hold/)
      await desk.admin.query('insert into public.orders values (20, 2, null)')
      await undo(change)
      const renamed = await act(`update customers set name = 'other' where id = 2`)
      await desk.admin.query(`insert into public.customers values (90, 'bob')`)
      expect(await conflict(renamed)).toMatch(/public\.customers, id = \(2\): there is another row/)
      await desk.admin.query('delete from public.customers where id = 90')
      await undo(renamed)
    })

    test('columns that are others', async () => {
      const change = await act('delete from wishes where id = 1001')
      await desk.admin.query('alter table public.wishes add column more int')
      expect(await conflict(change)).toMatch(/the columns of public\.wishes are others/)
      await desk.admin.query('alter table public.wishes drop column more')
      await undo(change)
    })

    test('two at the same time: one does it', async () => {
      const change = await act('delete from wishes')
      const other = await connectTo(server.adminUrl.replace(/\/postgres$/, `/${desk.settings.databaseName}`))
      const both = await Promise.allSettled([undo(change), undoChange(other, desk.plan.names, change)])
      await other.end()
      expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
      expect((await desk.admin.query('select count(*)::int as n from public.wishes')).rows).toEqual([{ n: 2 }])
    })
  })

  test.skipIf(missing)(
    'triggers of the tables run as ever; where they change other rows of it, nothing is done',
    async () => {
      await desk.admin.query(`
      create schema app;
      create function app.stamp() returns trigger language plpgsql as 'begin new.note := ''stamped''; return new; end';
      create trigger stamp before update on public.orders for each row execute function app.stamp()`)
      const stamped = await act('update orders set customer_id = 2 where id = 10')
      expect(await undo(stamped)).toMatchObject({ rows: 1 })
      expect((await desk.admin.query('select customer_id, note from public.orders where id = 10')).rows).toEqual([
        { customer_id: 1, note: 'stamped' },
      ])
      await desk.admin
        .query(`drop trigger stamp on public.orders; update public.orders set note = 'first' where id = 10;
      create function app.tally() returns trigger language plpgsql security definer as
        'begin update public.customers set orders = orders + case tg_op when ''INSERT'' then 1 else -1 end
          where id = coalesce(new.customer_id, old.customer_id); return null; end';
      create trigger tally after insert or delete on public.orders for each row execute function app.tally()`)
      const counted = await act('insert into orders (id, customer_id) values (95, 3)')
      expect(await conflict(counted)).toMatch(/public\.customers, id = \(3\): a trigger, or a foreign key, changes it/)
      await desk.admin.query(
        'drop schema app cascade; delete from public.orders where id = 95; update public.customers set orders = 0',
      )
    },
  )

  test.skipIf(missing)('values of every type are as they were, to the last bit', async () => {
    const types: [type: string, ...values: string[]][] = [
      ['smallint', '-32768'],
      ['bigint', '9223372036854775807'],
      ['numeric', '1.50', '12345678901234567890.1234567890', 'NaN', 'Infinity', '1e-20'],
      ['numeric(10,3)', '1.5'],
      ['real', '0.1', '-0', 'NaN', '-Infinity', '1e-45'],
      ['double precision', '0.1', '0.30000000000000004', '5e-324', '1.7976931348623157e308', '-0', 'Infinity'],
      ['money', '-1234.56'],
      ['text', '', 'null', '{"a"}', 'tab\tquote\'"back\\slash\nline', '(1,2)', ' x ', 'größer 😀'],
      ['character(5)', 'ab'],
      ['varchar(9)', ' a '],
      ['"char"', 'c'],
      ['name', 'n'],
      ['bytea', '\\x00ff5c22', '\\x'],
      ['boolean', 'f'],
      ['date', '0044-03-15 BC', 'infinity', '2026-02-03', '10000-01-01'],
      ['time', '23:59:59.999999', '24:00'],
      ['timetz', '01:02:03.000001+05:30'],
      ['timestamp', '2026-02-03 04:05:06.123456', '-infinity', '0001-01-01 00:00:00 BC'],
      ['timestamptz', '2026-02-03 04:05:06.123456+09', 'infinity', '0044-03-15 01:02:03+00 BC'],
      ['interval', '1 year -2 months 3 days -04:05:06.789', '-1 day 1 second'],
      ['uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
      ['json', '{"b":1,  "a":2, "b":3}', 'null', '"\\u0000"', ' 1.0 '],
      ['jsonb', 'null', '{"a": 1.00, "b": [null, "x"]}', '"text"', '[]'],
      ['xml', '<a b="c">d</a>', 'text and <b/>'],
      ['int[]', '{}', '{1,NULL,3}', '{{1,2},{3,4}}', '[0:2]={1,2,3}'],
      ['text[]', '{"a b",NULL,"NULL","",",\\"{}"}'],
      ['timestamptz[]', '{"2026-02-03 04:05:06+09",infinity}'],
      ['jsonb[]', '{"null","{\\"a\\": 1}",NULL}'],
      ['bit(3)', '101'],
      ['bit varying', ''],
      ['inet', '10.0.0.1/8', '::1'],
      ['cidr', '10.0.0.0/8'],
      ['macaddr', '08:00:2b:01:02:03'],
      ['point', '(0.1,-0)'],
      ['polygon', '((0,0),(1,1),(1,0))'],
      ['int4range', '[1,5)', 'empty', '(,)'],
      ['tstzrange', '["2026-02-03 04:05:06+09",)'],
      ['int4multirange', '{[1,3),[5,7)}'],
      ['tsvector', 'a:1A b:2'],
      ['tsquery', 'a & !b'],
      ['regclass', 'pg_class', 'public.pair'],
      ['oid', '4294967295'],
      ['pg_lsn', '16/B374D848'],
      ['xid8', '18446744073709551615'],
      ['public.mood', 'so so', 'great'],
      ['public.short', 'abc'],
      ['public.pair', '(1,"a, b")', '(,)', '(,"")'],
      ['public.pair[]', '{"(1,x)",NULL}'],
      ['public.nested', '("(1,""x y"")","{1,2}")'],
      ['hstore', '"a"=>"1", "b"=>NULL'],
      ['citext', 'MiXed'],
    ]
    const columns = types.map(([type], place) => `c${place} ${type}`).join(', ')
    const most = Math.max(...types.map((each) => each.length)) - 1
    const rowsOf = Array.from({ length: most + 1 }, (_, place) =>
      types.map((each) => (each[place + 1] === undefined ? 'null' : literal(each[place + 1] ?? ''))).join(', '),
    )
    const generated =
      `total numeric generated always as (c2 * 2) stored` +
      (version >= 18 ? ', lazy int generated always as (id + 1) virtual' : '')
    const other = await startDesk(server, {
      tables: `create type mood as enum ('so so', 'great'); create domain short as text check (length(value) < 9);
        create type pair as (a int, b text); create type nested as (p pair, l int[]);
        create extension hstore; create extension citext; set extra_float_digits = 1;
        create table kinds (id int generated always as identity primary key, gone int, ${columns}, ${generated}, note text);
        alter table kinds drop column gone;
        ${rowsOf.map((row) => `insert into kinds (${types.map((_each, place) => `c${place}`).join(', ')}) values (${row});`).join('\n')}`,
      change: (database) => ({
        ...database,
        tables: new Map([open('kinds', ['id', 'c7', 'note'], { insert: ['c7', 'note'], update: ['c7', 'note'] })]),
      }),
      agents: new Map([['worker', new Map([['kinds', new Set(verbs)]])]]),
    })
    // As it is on the disk, and not how it is shown.
    const all = async () =>
      (
        await other.admin.query(
          `select ${types.map((_each, place) => `c${place}::text`).join(', ')}, record_send(k) as bits, id, total, note from kinds k order by id`,
        )
      ).rows
    const before = await all()
    const worker = await other.as('worker', {})
    await worker.query(`set timezone = 'Asia/Kolkata'; set datestyle = 'SQL, DMY'; set intervalstyle = 'iso_8601';
      set bytea_output = 'escape'; set extra_float_digits = -3; set lc_monetary = 'POSIX'`)
    for (const statements of [
      ['delete from kinds'],
      [`update kinds set note = 'changed', c7 = 'changed'`],
      [`update kinds set note = 'x'`, `delete from kinds where id < 4`, `insert into kinds (note) values ('new')`],
    ]) {
      await worker.query('begin')
      for (const each of statements) await worker.query(each)
      const { rows } = await worker.query('select pg_current_xact_id()::text as xid')
      await worker.query('commit')
      expect(await all()).not.toEqual(before)
      await undoChange(other.admin, other.plan.names, rows[0].xid as string)
      expect(await all()).toEqual(before)
    }
    await other.close()
  })

  test.skipIf(missing)('other programs are not recorded, nor is undoing itself', async () => {
    const before = await changes()
    await desk.admin.query('delete from public.lines where id = 101')
    await desk.admin.query('insert into public.lines values (101, 10, 2.00)')
    await desk.admin.query('update public.customers set orders = orders')
    expect(await changes()).toEqual(before)
  })

  test.skipIf(missing)('more rows than are kept: the transaction fails', async () => {
    const many = (count: number) => `insert into wishes (id) select 5000 + n from generate_series(1, ${count}) n`
    await expect(act(many(51))).rejects.toMatchObject({ code: '54000', message: /may change 50 rows/ })
    await expect(act(many(30), `delete from wishes where id > 5000`)).rejects.toMatchObject({ code: '54000' })
    const change = await act(many(50))
    expect(await undo(change)).toMatchObject({ rows: 50 })
  })

  test.skipIf(missing)('what has to do with it is out of an agent’s reach, whatever it sends', async () => {
    const { names } = desk.plan
    const change = await act('delete from lines where id = 200')
    const attacks = [
      `select * from ${names.internal}.change`,
      `insert into ${names.internal}.change (xid, at, place, relation, operation, columns) values (1, now(), 1, 'a', 'b', '{}')`,
      `update ${names.internal}.change set session = 'ses_other'`,
      `delete from ${names.internal}.change`,
      `truncate ${names.internal}.change`,
      `drop table ${names.internal}.change`,
      `update ${names.internal}.session set session = 'ses_other'`,
      `select ${names.internal}.record()`,
      `select ${names.internal}.forget_changes()`,
      `select ${names.internal}.changes(null, 10)`,
      `alter table public.lines disable trigger all`,
      `alter table public.lines disable trigger ${names.policy}`,
      `drop trigger ${names.policy} on public.lines`,
      `create or replace function ${names.internal}.record() returns trigger language plpgsql as 'begin return null; end'`,
      `set session_replication_role = replica`,
      `set session authorization ${names.owner}`,
      `set role ${names.owner}`,
      `truncate lines`,
      `delete from public.lines`,
    ]
    for (const attack of attacks)
      await expect(agent.query(attack), attack).rejects.toMatchObject({
        code: expect.stringMatching(/^(42501|42809|22023|0A000)$/) as unknown,
      })
    // Nothing that a session can set changes what is kept.
    const odd = await act(
      `set local timezone = 'Asia/Tokyo'`,
      `set local datestyle = 'SQL, DMY'`,
      `set local intervalstyle = 'sql_standard'`,
      `set local extra_float_digits = -15`,
      `set local bytea_output = 'escape'`,
      `update lines set amount = amount + 1 where id = 100`,
    )
    await undo(odd)
    await undo(change)
  })

  test.skipIf(missing)('a connection of no session can change nothing', async () => {
    const stranger = await desk.as('worker')
    await expect(stranger.query('delete from lines')).rejects.toThrow('this connection belongs to no session')
  })

  test.skipIf(missing)('after the time that is said, it is forgotten', async () => {
    const change = await act('delete from tree where id = 3')
    const older = await act(`insert into tree (id, name) values (3, 'again')`)
    const { internal } = desk.plan.names
    await desk.admin
      .query(`update ${internal}.change set at = at - interval '23 hours 59 minutes' where xid = ${change};
      update ${internal}.change set at = at - interval '24 hours 1 minute' where xid = ${older}`)
    const gateway = await desk.asGateway()
    const { rows } = await gateway.query(`select ${internal}.forget_changes() as gone`)
    await expect(gateway.query(`select * from ${internal}.change`)).rejects.toMatchObject({ code: '42501' })
    await gateway.end()
    expect(rows).toEqual([{ gone: 1 }])
    await expect(undo(older)).rejects.toThrow(/nothing is kept of a change/)
    expect((await changes()).map((each) => each.change)).toContain(change)
    await desk.admin.query(`update public.tree set parent = 2, name = 'grandchild' where id = 3`)
  })

  test.skipIf(missing)('verify finds what was done to it', async () => {
    const { policy, internal } = desk.plan.names
    const said = async () =>
      (await verify(desk.admin, desk.plan)).flatMap(({ about, severity, where, what }) =>
        about === 'setup' && severity === 'error' ? [`${where}: ${what}`] : [],
      )
    expect(await said()).toEqual([])
    const cases: [string, RegExp][] = [
      [`alter table public.lines disable trigger ${policy}`, /lines: keeps no changes at all times/],
      [`alter table public.lines enable trigger ${policy}`, /lines: keeps no changes at all times/],
      [`drop trigger ${policy} on public.lines`, /lines: keeps no changes: its trigger is not there/],
      [
        `drop trigger ${policy} on public.lines; create trigger ${policy} after insert on public.lines for each row
          execute function ${internal}.record(); alter table public.lines enable always trigger ${policy}`,
        /lines: keeps changes by the trigger of another plan/,
      ],
      [
        `alter trigger ${policy} on public.lines rename to other`,
        /lines: keeps no changes: its trigger is not there[^]*trigger other on public.lines: is not of the plan/,
      ],
      [
        `create or replace function ${internal}.record() returns trigger language plpgsql as 'begin return null; end'`,
        /record: has another body/,
      ],
      [`alter function ${internal}.record() security invoker`, /record: is of another kind/],
      [`alter function ${internal}.record() reset timezone`, /record: has other settings/],
      [`grant select on ${internal}.change to ${desk.plan.expected.gateway}`, /change: gives .* SELECT/],
      [`alter table public.lines drop constraint lines_pkey`, /lines: has no primary key/],
      [`create table public.heir () inherits (public.lines)`, /lines: has tables that inherit from it/],
      [`alter table public.part_a disable trigger ${policy}`, /parted: keeps no changes of its partition/],
    ]
    for (const [sql, what] of cases) {
      await desk.admin.query(sql)
      expect((await said()).join('\n'), sql).toMatch(what)
      await desk.admin.query(`drop table if exists public.heir;
        alter table public.lines drop constraint if exists lines_pkey, add constraint lines_pkey primary key (id)`)
      await applySetup(desk.admin, desk.plan)
      expect(await said(), sql).toEqual([])
    }
    expect((await verify(desk.admin, desk.plan)).filter(({ severity }) => severity === 'warning')).toContainEqual(
      expect.objectContaining({
        where: 'table public.orders',
        what: "on delete, public.notes (order_id) follows by its foreign key (cascade), and its changes are not kept: they can't be undone",
      }),
    )
  })

  test.skipIf(missing)('without `undo` the triggers are gone, and what was kept can still be undone', async () => {
    const before = await snapshot(desk.admin)
    const change = await act('delete from tree where id = 3')
    const without = await planSetup(
      {
        ...desk.database,
        tables: new Map([...desk.database.tables].map(([name, table]) => [name, withoutUndo(table)])),
      },
      desk.settings,
    )
    expect(
      (await verify(desk.admin, without)).filter(({ severity, about }) => severity === 'error' && about === 'setup'),
    ).toHaveLength(7)
    expect(await applySetup(desk.admin, without)).toMatchObject({ isChanged: true })
    await agent.query(`update tree set name = 'not kept' where id = 1`)
    await desk.admin.query(`update public.tree set name = 'root' where id = 1`)
    expect((await changes())[0]).toMatchObject({ change })
    await undo(change)
    expect(await snapshot(desk.admin)).toEqual(before)
    expect(await applySetup(desk.admin, desk.plan)).toMatchObject({ isChanged: true })
    expect(await applySetup(desk.admin, desk.plan)).toMatchObject({ isChanged: false, notices: [] })
  })

  test.skipIf(missing)('what can’t be undone is refused when it is set up', async () => {
    const url = await server.createDatabase(`
      create table plain (id int); create view seen as select 1 as id; create table mother (id int primary key);
      create table heir () inherits (mother); create table owned (id int primary key)`)
    const admin = await connectTo(url)
    const lesser = server.newName()
    await admin.query(`create role ${lesser} login createrole password 'x';
      grant create on database ${databaseOfUrl(url)} to ${lesser} with grant option`)
    const planOf = (name: string) =>
      planSetup(
        { ...desk.database, alias: server.newName(), tables: new Map([open(name, ['id'])]) },
        { ...desk.settings, databaseName: databaseOfUrl(url), agents: new Map() },
      )
    await expect(applySetup(admin, await planOf('plain'))).rejects.toThrow('needs a table with a primary key')
    await expect(applySetup(admin, await planOf('seen'))).rejects.toThrow('needs a table with a primary key')
    await expect(applySetup(admin, await planOf('mother'))).rejects.toThrow('the tables that inherit from')
    const weak = await connectTo(url, lesser, 'x')
    await expect(applySetup(weak, await planOf('owned'))).rejects.toThrow(
      'only "postgres", who owns public.owned, or a superuser can have its changes kept',
    )
    await weak.end()
    await admin.end()
  })

  test.skipIf(missing)('an administrator who is no superuser, but owns the tables', async () => {
    const url = await server.createDatabase()
    const admin = await connectTo(url)
    const owner = server.newName()
    await admin.query(`create role ${owner} login createrole password 'x'; alter database ${databaseOfUrl(url)} owner to ${owner};
      grant all on schema public to ${owner}`)
    const client = await connectTo(url, owner, 'x')
    await client.query('create table things (id int primary key, body text); insert into things values (1, null)')
    const alias = server.newName()
    const database = { ...desk.database, alias, tables: new Map([open('things', ['id', 'body'])]) }
    const gateway = { user: `g_${alias}`, password: 'p' }
    const settings = {
      databaseName: databaseOfUrl(url),
      gateway,
      agents: new Map([['worker', new Map([['things', new Set(verbs)]])]]),
      connections: 5,
    }
    const plan = await planSetup(database, settings)
    await applySetup(client, plan)
    expect(await applySetup(client, plan)).toMatchObject({ isChanged: false })
    const role = plan.names.agent('worker')
    await admin.query(`alter role ${role} password 'x'`)
    const worker = await connectTo(url, role, 'x')
    const { rows } = await worker.query('select pg_backend_pid() as pid')
    await admin.query(
      `insert into ${plan.names.internal}.session (pid, role, scope, session) values (${rows[0].pid}, '${role}', '{}', 'ses_1')`,
    )
    await worker.query('delete from things')
    await worker.end()
    const { rows: found } = await admin.query(`select ${plan.names.internal}.changes('ses_1', 10) as found`)
    const [{ change }] = found[0].found as [{ change: string }]
    expect(await undoChange(client, plan.names, change)).toMatchObject({ session: 'ses_1', rows: 1 })
    expect((await admin.query('select * from public.things')).rows).toEqual([{ id: 1, body: null }])
    await applySetup(client, planRemove(alias, settings))
    expect((await admin.query(`select tgname from pg_trigger where not tgisinternal`)).rows).toEqual([])
    await client.end()
    await admin.end()
  })
})
