import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres, versions } from '../../test/support/postgres.ts'
import type { PostgresServer } from '../../test/support/postgres.ts'
import {
  connectTo,
  databaseOfUrl,
  deskAgents,
  deskDatabase,
  deskTables,
  describeTable,
  startDesk,
} from '../../test/support/postgres-desk.ts'
import type { Desk } from '../../test/support/postgres-desk.ts'
import { applySetup, planText } from './apply.ts'
import { verbs } from './description.ts'
import type { Database, Mask, Table, Verb } from './description.ts'
import { agentPassword } from './password.ts'
import { planRemove, planSetup } from './setup.ts'
import type { Settings } from './setup.ts'
import { verify } from './verify.ts'

const ofSetup = async (client: pg.Client, plan: Desk['plan']) =>
  (await verify(client, plan)).filter(({ about }) => about === 'setup')

/** A description with one table changed. */
const withTable = (database: Database, name: string, change: Partial<Table>): Database => ({
  ...database,
  tables: new Map([...database.tables, describeTable(name, { ...database.tables.get(name), ...change })]),
})

/** All that a database and its server know of roles, rights and things, as text: to see whether anything is left. */
async function snapshot(admin: pg.Client): Promise<unknown> {
  const acl = (there: string, kind: string, owner: string) =>
    `(select string_agg(x::text, ' ' order by x::text) from unnest(coalesce(${there}, acldefault(${kind}, ${owner}))) x)`
  const { rows } = await admin.query(`
    select concat_ws(' ', 'role', rolname, to_jsonb(r)) as line from pg_roles r
    union all select concat_ws(' ', 'member', roleid::regrole, member::regrole) from pg_auth_members
    union all select concat_ws(' ', 'setting', setdatabase, setrole, setconfig) from pg_db_role_setting
    union all select concat_ws(' ', 'comment', shobj_description(oid, 'pg_authid')) from pg_roles
    union all select concat_ws(' ', 'database', datname, ${acl('datacl', `'d'`, 'datdba')})
      from pg_database where datname = current_database()
    union all select concat_ws(' ', 'schema', nspname, ${acl('nspacl', `'n'`, 'nspowner')}) from pg_namespace
      where nspname not like 'pg\\_%'
    union all select concat_ws(' ', 'relation', oid::regclass, relkind,
        ${acl('relacl', `case relkind when 'S' then 's' else 'r' end::"char"`, 'relowner')})
      from pg_class where oid >= 16384 and relnamespace <> 'pg_toast'::regnamespace
    union all select concat_ws(' ', 'column', attrelid::regclass, attname, attacl) from pg_attribute
      where attacl is not null and attacl <> '{}' and attrelid >= 16384
    union all select concat_ws(' ', 'routine', oid::regprocedure, proacl) from pg_proc where oid >= 16384
    union all select concat_ws(' ', 'type', oid::regtype) from pg_type where oid >= 16384 and typelem = 0
    union all select concat_ws(' ', 'shared', dbid, classid::regclass, deptype, refobjid::regrole) from pg_shdepend
      where refclassid = 'pg_authid'::regclass and dbid in (0, (select oid from pg_database where datname = current_database()))
    order by 1`)
  return rows
}

test('two agents of one role, a masked column that is written, a filter that is none: refused before anything is asked', async () => {
  const database = deskDatabase('desk')
  const settings: Settings = { databaseName: 'd', gateway: { user: 'g' }, agents: new Map(), connections: 1 }
  const masked = withTable(database, 'tickets', { select: new Map([['body', 'hash']]) })
  await expect(planSetup(masked, settings)).rejects.toThrow("`tickets.body` is masked, so it can't be written as well")
  const filtered = withTable(database, 'tickets', { where: { source: 'id = session.custmer_id' } })
  await expect(planSetup(filtered, settings)).rejects.toThrow('`tickets`, `where`: no fact `custmer_id` is declared')
  const same = { ...settings, gateway: { user: 'sallyport_desk_reader' }, agents: deskAgents }
  await expect(planSetup(database, same)).rejects.toThrow('the gateway needs one of its own')
})

describe.each(versions)('a database set up on PostgreSQL %i', async (version) => {
  const missing = await noPostgres(version)
  let server: PostgresServer
  let desk: Desk

  beforeAll(async () => {
    if (missing) return
    server = await startPostgres({ version })
    desk = await startDesk(server)
  })
  afterAll(async () => {
    await desk?.close()
    await server?.close()
  })

  test.skipIf(missing)('is as planned', async () => {
    expect(await ofSetup(desk.admin, desk.plan)).toEqual([])
    expect(await ofSetup(await desk.asGateway(), desk.plan)).toEqual([])
  })

  test.skipIf(missing)('shows an agent the rows of its session, masked as described', async () => {
    const agent = await desk.as('reader', { customer_id: 7 })
    const { rows } = await agent.query('select id, subject from tickets order by id')
    expect(rows).toEqual([
      { id: 1, subject: 'ada one' },
      { id: 2, subject: 'ada two' },
    ])
    const [customer] = (await agent.query('select * from customers')).rows
    expect(customer).toEqual({
      id: 7,
      name: 'ADA',
      email: 'a***@example.com',
      phone: '************0007',
      ssn: expect.stringMatching(/^[0-9a-f]{32}$/),
    })
    const other = await desk.as('desk-worker', { customer_id: 8 })
    const [rival] = (await other.query('select * from customers')).rows
    expect(rival.ssn).not.toBe(customer.ssn)
    expect(
      (await desk.as('desk-worker', { customer_id: 7 }).then((c) => c.query('select ssn from customers'))).rows,
    ).toEqual([{ ssn: customer.ssn }])
  })

  test.skipIf(missing)('lets an agent write what it may', async () => {
    const agent = await desk.as('desk-worker', { customer_id: 7 })
    await agent.query('begin')
    const { rows } = await agent.query(
      `insert into tickets (customer_id, subject) values (7, 'new') returning id, status`,
    )
    expect(rows).toEqual([{ id: expect.any(Number), status: 'open' }])
    const id = rows[0].id as number
    expect(
      (await agent.query('insert into responses (ticket_id, body) values ($1, $2) returning body', [id, 'x'])).rows,
    ).toEqual([{ body: 'x' }])
    expect((await agent.query(`update tickets set status = 'closed' where id = $1`, [id])).rowCount).toBe(1)
    expect((await agent.query('delete from tickets where id = $1', [id])).rowCount).toBe(1)
    await agent.query('rollback')
  })

  test.skipIf(missing)('masks of every kind, of values of every kind', async () => {
    const kinds = `
      create table people (id int primary key, a text, b int, c timestamptz, d text, e text, f jsonb);
      insert into people values (1, 'Müller', 12345678, '2026-01-02T03:04:05Z', '"a@b"@c.example', 'secret', '{"k":1}'),
        (2, 'abc', 12, null, 'no address', null, null), (3, null, null, null, null, '', '[]'), (4, e'a\\nb', 0, null, '@x', 'y', '1')`
    const other = await startDesk(server, {
      tables: kinds,
      change: (database) => ({
        ...database,
        tables: new Map([
          describeTable('people', {
            select: new Map<string, Mask>([
              ['id', 'none'],
              ['a', 'last4'],
              ['b', 'last4'],
              ['c', 'null'],
              ['d', 'email'],
              ['e', 'hash'],
              ['f', { sql: `f - session.region -- without that key` }],
            ]),
          }),
        ]),
      }),
      agents: new Map([['reader', new Map([['people', new Set<Verb>(['select'])]])]]),
    })
    const agent = await other.as('reader', { region: 'k' })
    const { rows } = await agent.query('select * from people where id < 4 order by id')
    const hash = expect.stringMatching(/^[0-9a-f]{32}$/)
    expect(rows).toEqual([
      { id: 1, a: '**ller', b: '****5678', c: null, d: '"***@c.example', e: hash, f: {} },
      { id: 2, a: '***', b: '**', c: null, d: '***', e: null, f: null },
      { id: 3, a: null, b: null, c: null, d: null, e: hash, f: [] },
    ])
    expect((await agent.query('select a, b, c, d from people where id = 4')).rows).toEqual([
      { a: '***', b: '*', c: null, d: '***' },
    ])
    await other.close()
  })

  test.skipIf(missing)('facts of every type reach filters', async () => {
    const other = await startDesk(server, {
      tables: `create table events (id int, region text, at timestamptz, vip bool);
        insert into events values (1, 'north', '2026-01-01', true), (2, 'it''s', '2026-02-01', false), (3, '{"x"}', '2026-03-01', true)`,
      change: (database) => ({
        ...database,
        tables: new Map([
          describeTable('by_region', {
            base: { schema: 'public', table: 'events' },
            select: new Map([['id', 'none']]),
            where: { source: 'region = session.region' },
          }),
          describeTable('by_time', {
            base: { schema: 'public', table: 'events' },
            select: new Map([['id', 'none']]),
            where: { source: 'at >= session.since' },
          }),
          describeTable('by_ids', {
            base: { schema: 'public', table: 'events' },
            select: new Map([['id', 'none']]),
            where: { source: 'id = any(session.ids)' },
          }),
          describeTable('by_tags', {
            base: { schema: 'public', table: 'events' },
            select: new Map([['id', 'none']]),
            where: { source: 'region = any (session.tags)' },
          }),
          describeTable('by_vip', {
            base: { schema: 'public', table: 'events' },
            select: new Map([['id', 'none']]),
            where: { source: 'vip = session.vip' },
          }),
        ]),
      }),
      agents: new Map([
        [
          'reader',
          new Map(
            ['by_region', 'by_time', 'by_ids', 'by_tags', 'by_vip'].map((table) => [table, new Set<Verb>(['select'])]),
          ),
        ],
      ]),
    })
    const facts = {
      region: "it's",
      since: Date.parse('2026-02-01T00:00:00Z'),
      ids: [3, 1],
      tags: ['{"x"}', "it's", 'a,b'],
      vip: false,
    }
    const agent = await other.as('reader', facts)
    const ids = async (client: pg.Client, table: string) =>
      (await client.query(`select id from ${table} order by id`)).rows.map(({ id }) => id as number)
    expect(await ids(agent, 'by_region')).toEqual([2])
    expect(await ids(agent, 'by_time')).toEqual([2, 3])
    expect(await ids(agent, 'by_ids')).toEqual([1, 3])
    expect(await ids(agent, 'by_tags')).toEqual([2, 3])
    expect(await ids(agent, 'by_vip')).toEqual([2])
    const none = await other.as('reader', { ids: [], tags: [] })
    expect([...(await ids(none, 'by_ids')), ...(await ids(none, 'by_tags'))]).toEqual([])
    await other.close()
  })

  test.skipIf(missing)('a scope is found out once for a statement, and an index serves the filter', async () => {
    const agent = await desk.as('reader', { customer_id: 7 })
    await desk.admin.query('create index if not exists by_customer on public.tickets (customer_id)')
    await agent.query('set enable_seqscan = off')
    const { rows } = await agent.query('explain select * from tickets')
    const text = rows.map((row) => row['QUERY PLAN'] as string).join('\n')
    expect(text).toContain('InitPlan')
    expect(text).toContain('by_customer')
  })

  test.skipIf(missing)('set up twice, nothing changes; and other agents and tables change what has to', async () => {
    const other = await startDesk(server)
    const before = await snapshot(other.admin)
    expect(await applySetup(other.admin, other.plan)).toMatchObject({ isChanged: false, notices: [] })
    expect(await snapshot(other.admin)).toEqual(before)

    const held = await other.as('reader', { customer_id: 7 })
    const [hashed] = (await held.query('select ssn from customers')).rows
    // `responses` is gone, `tickets` shows less and can't be written, `desk-worker` holds nothing, somebody new reads.
    const base = deskDatabase(other.database.alias)
    const tickets = withTable(base, 'tickets', {
      select: new Map([
        ['id', 'none'],
        ['subject', 'none'],
      ]),
      insert: [],
      update: [],
      delete: false,
    })
    const changed = { ...tickets, tables: new Map([...tickets.tables].filter(([name]) => name !== 'responses')) }
    const reads = new Map([...changed.tables.keys()].map((name) => [name, new Set<Verb>(['select'])]))
    const settings = {
      ...other.settings,
      agents: new Map([
        ['reader', reads],
        ['newcomer', reads],
      ]),
    }
    const plan = await planSetup(changed, settings)
    expect((await ofSetup(other.admin, plan)).length).toBeGreaterThan(0)
    expect(await applySetup(other.admin, plan)).toMatchObject({ isChanged: true })
    expect(await ofSetup(other.admin, plan)).toEqual([])
    expect((await held.query('select * from tickets order by id')).rows[0]).toEqual({ id: 1, subject: 'ada one' })
    // The key of hashes stays, and so does the session.
    expect((await held.query('select ssn from customers')).rows).toEqual([hashed])
    await expect(held.query('select * from responses')).rejects.toMatchObject({ code: '42P01' })
    const { rows } = await other.admin.query(
      `select rolname as role, has_any_column_privilege($1, 'public.tickets', 'insert') as writes,
        has_column_privilege($1, 'public.tickets', 'body', 'select') as reads,
        has_any_column_privilege($1, 'public.responses', 'select') as others
      from pg_roles where rolname like $2 order by 1`,
      [plan.names.owner, `${plan.names.policy}%`],
    )
    expect(rows).toEqual(
      ['newcomer', 'owner', 'reader'].map((agent) => ({
        role: `${plan.names.policy}_${agent}`,
        writes: false,
        reads: false,
        others: false,
      })),
    )
    await other.close()
  })

  test.skipIf(missing)('what is removed leaves nothing behind', async () => {
    const url = await server.createDatabase(deskTables)
    const admin = await connectTo(url)
    const before = await snapshot(admin)
    const settings = {
      databaseName: databaseOfUrl(url),
      gateway: { user: `gateway_${server.newName()}`, password: randomUUID() },
      agents: deskAgents,
      connections: 3,
    }
    const database = deskDatabase(server.newName())
    await applySetup(admin, await planSetup(database, settings))
    expect(await snapshot(admin)).not.toEqual(before)
    const removal = planRemove(database.alias, settings)
    await applySetup(admin, removal)
    expect(await snapshot(admin)).toEqual(before)
    await applySetup(admin, removal)
    expect(await snapshot(admin)).toEqual(before)
    await admin.end()
  })

  test.skipIf(missing)(
    'two resources of one database share the gateway’s role, which stays until the last is removed',
    async () => {
      const url = await server.createDatabase(deskTables)
      const admin = await connectTo(url)
      const gateway = { user: `gateway_${server.newName()}`, password: randomUUID() }
      const settings = { databaseName: databaseOfUrl(url), gateway, agents: deskAgents, connections: 3 }
      const [one, two] = [deskDatabase(server.newName()), deskDatabase(server.newName())]
      for (const database of [one, two]) await applySetup(admin, await planSetup(database, settings))
      const { notices } = await applySetup(admin, planRemove(one.alias, settings))
      expect(notices.join()).toContain(`"${gateway.user}" is needed elsewhere`)
      expect(await ofSetup(admin, await planSetup(two, settings))).toEqual([])
      await applySetup(admin, planRemove(two.alias, settings))
      expect((await admin.query('select from pg_roles where rolname = $1', [gateway.user])).rowCount).toBe(0)
      await admin.end()
    },
  )

  test.skipIf(missing)('a table that can only be added to, changed, or emptied', async () => {
    const base = { schema: 'public', table: 'tickets' }
    const shapes: readonly [string, Partial<Table>][] = [
      ['added', { insert: ['customer_id', 'subject'] }],
      ['changed', { update: ['status'], where: { source: 'customer_id = session.customer_id' } }],
      ['emptied', { delete: true, where: { source: 'customer_id = session.customer_id' } }],
    ]
    const other = await startDesk(server, {
      change: (database) => ({
        ...database,
        tables: new Map(shapes.map(([name, shape]) => describeTable(name, { base, ...shape }))),
      }),
      agents: new Map([['worker', new Map(shapes.map(([name]) => [name, new Set<Verb>(verbs)]))]]),
    })
    const agent = await other.as('worker', { customer_id: 7 })
    const counts = async (sql: string): Promise<number | null> => (await agent.query(sql)).rowCount
    expect(await counts(`insert into added (customer_id, subject) values (8, 'x')`)).toBe(1)
    expect(await counts(`update changed set status = 'x'`)).toBe(2)
    expect(await counts('delete from emptied')).toBe(2)
    for (const sql of [
      'select * from added',
      'delete from changed',
      'select from emptied',
      'update changed set id = 1',
    ])
      await expect(agent.query(sql), sql).rejects.toMatchObject({ code: expect.stringMatching(/42501|42703/) })
    expect(await ofSetup(other.admin, other.plan)).toEqual([])
    await other.close()
  })

  test.skipIf(missing)('masks and filters may call functions of the application that every role may call', async () => {
    const other = await startDesk(server, {
      tables: `${deskTables}
        create schema app; create domain app.name as text; grant usage on schema app to public;
        create function app.initial(text) returns text language sql immutable as 'select left($1, 1)';
        create function app.same(text, text) returns bool language sql immutable as 'select $1 = $2';
        create operator app.=== (leftarg = text, rightarg = text, function = app.same);
        revoke usage on schema app from public`,
      change: (database) => ({
        ...database,
        tables: new Map([
          describeTable('customers', {
            select: new Map<string, Mask>([['name', { sql: 'app.initial(name::app.name)' }]]),
            where: { source: `name operator(app.===) session.region` },
          }),
        ]),
      }),
      agents: new Map([['reader', new Map([['customers', new Set<Verb>(['select'])]])]]),
    })
    const agent = await other.as('reader', { region: 'Ada' })
    expect((await agent.query('select * from customers')).rows).toEqual([{ name: 'A' }])
    await expect(agent.query(`select app.initial('x')`)).rejects.toMatchObject({ code: '42501' })
    await other.close()
  })

  test.skipIf(missing)('two administrators at once do it once', async () => {
    const url = await server.createDatabase(deskTables)
    const database = deskDatabase(server.newName())
    const gateway = { user: `gateway_${database.alias}`, password: randomUUID() }
    const plan = await planSetup(database, {
      databaseName: databaseOfUrl(url),
      gateway,
      agents: deskAgents,
      connections: 3,
    })
    const admins = await Promise.all([1, 2, 3].map(() => connectTo(url)))
    const applied = await Promise.all(admins.map((admin) => applySetup(admin, plan)))
    expect(applied.filter(({ isChanged }) => isChanged)).toHaveLength(1)
    for (const admin of admins) await admin.end()
  })

  test.skipIf(missing)('what others have made of a view is not taken away with it', async () => {
    const other = await startDesk(server)
    const { policy } = other.plan.names
    await other.admin.query(`create view public.report as select id from ${policy}.tickets`)
    const plan = await planSetup(withTable(other.database, 'tickets', { delete: false }), other.settings)
    await expect(applySetup(other.admin, plan)).rejects.toThrow(
      /nothing was changed.*depend.*Something that others have made depends on it: remove that first/,
    )
    expect(await ofSetup(other.admin, other.plan)).toEqual([])
    await other.close()
  })

  test.skipIf(missing)('what is not its own is never touched', async () => {
    const url = await server.createDatabase(deskTables)
    const admin = await connectTo(url)
    const database = deskDatabase(server.newName())
    const settings = {
      databaseName: databaseOfUrl(url),
      gateway: { user: `gateway_${database.alias}`, password: 'x' },
      agents: deskAgents,
      connections: 3,
    }
    const plan = await planSetup(database, settings)
    await admin.query(`create role ${plan.names.agent('reader')} superuser`)
    const before = await snapshot(admin)
    await expect(applySetup(admin, plan)).rejects.toThrow(
      /nothing was changed.*the role ".*_reader" is there already, and was not made for this database and resource/,
    )
    await expect(applySetup(admin, planRemove(database.alias, settings))).resolves.toBeDefined()
    expect(await snapshot(admin)).toEqual(before)
    await admin.query(`drop role ${plan.names.agent('reader')}; create schema ${plan.names.internal}`)
    await expect(applySetup(admin, plan)).rejects.toThrow(/the schema ".*_internal" is there already/)
    await admin.query(`drop schema ${plan.names.internal}`)
    await expect(
      applySetup(admin, await planSetup(database, { ...settings, databaseName: 'elsewhere' })),
    ).rejects.toThrow(/not "elsewhere"/)
    const wrong = withTable(database, 'tickets', { base: { schema: 'public', table: 'tickets' }, insert: ['subjekt'] })
    await expect(applySetup(admin, await planSetup(wrong, settings))).rejects.toThrow(
      'table "tickets": public.tickets has no column subjekt',
    )
    const gone = withTable(database, 'tickets', { base: { schema: 'public', table: 'tikets' } })
    await expect(applySetup(admin, await planSetup(gone, settings))).rejects.toThrow('there is no public.tikets')
    expect((await snapshot(admin)) as unknown[]).toHaveLength((before as unknown[]).length - 2)
    await admin.end()
  })

  test.skipIf(missing)('an administrator who is no superuser can do it, and undo it', async () => {
    const name = server.newName()
    const adminPassword = randomUUID()
    const root = await connectTo(server.adminUrl)
    await root.query(`create role admin_${name} login createrole createdb password '${adminPassword}'`)
    await root.query(`create database db_${name} owner admin_${name}`)
    const url = server.adminUrl.replace(/\/postgres$/, `/db_${name}`)
    const admin = await connectTo(url, `admin_${name}`, adminPassword)
    await root.query(`grant create on schema public to public`)
    const within = await connectTo(url)
    await within.query('grant create, usage on schema public to public')
    await admin.query(deskTables)
    const before = await snapshot(admin)
    const settings = {
      databaseName: `db_${name}`,
      gateway: { user: `gateway_${name}`, password: randomUUID() },
      agents: deskAgents,
      connections: 3,
    }
    const database = deskDatabase(name)
    const plan = await planSetup(database, settings)
    const { notices } = await applySetup(admin, plan)
    expect(notices).toContain(`only a superuser can limit the temporary files of "${plan.names.agent('reader')}"`)
    expect(await applySetup(admin, plan)).toMatchObject({ isChanged: false })
    const tighter = await planSetup(withTable(database, 'tickets', { delete: false }), settings)
    expect(await applySetup(admin, tighter)).toMatchObject({ isChanged: true })
    const role = plan.names.agent('reader')
    const agent = await connectTo(url, role, agentPassword(settings.gateway.password, role))
    await expect(agent.query('select * from tickets')).rejects.toMatchObject({ code: '42501' })
    await agent.end()
    await applySetup(admin, planRemove(name, settings))
    expect(await snapshot(admin)).toEqual(before)
    for (const client of [admin, within, root]) await client.end()
  })

  test.skipIf(missing)('an administrator who may not is told what is missing, and nothing is changed', async () => {
    const name = server.newName()
    const root = await connectTo(server.adminUrl)
    const url = await server.createDatabase(deskTables)
    await root.query(
      `create role weak_${name} login password 'w'; create role maker_${name} login createrole password 'm'`,
    )
    const settings = {
      databaseName: databaseOfUrl(url),
      gateway: { user: `gateway_${name}`, password: 'x' },
      agents: deskAgents,
      connections: 3,
    }
    const plan = await planSetup(deskDatabase(name), settings)
    const weak = await connectTo(url, `weak_${name}`, 'w')
    await expect(applySetup(weak, plan)).rejects.toThrow(
      /"weak_\w+" may not make roles. Use a superuser, or a role with CREATEROLE/,
    )
    const maker = await connectTo(url, `maker_${name}`, 'm')
    await expect(applySetup(maker, plan)).rejects.toThrow(/may not make schemas in/)
    await root.query(`grant create on database ${databaseOfUrl(url)} to maker_${name}`)
    const before = await snapshot(root)
    await expect(applySetup(maker, plan)).rejects.toThrow(
      /The owner of the views may do what they need.*permission denied for table.*has to own the tables/,
    )
    expect(await snapshot(root)).toEqual(before)
    for (const client of [weak, maker, root]) await client.end()
  })

  test.skipIf(missing)('passwords follow that of the gateway, and a new one changes all', async () => {
    const other = await startDesk(server)
    const { admin, database, settings } = other
    const gateway = { ...settings.gateway, password: 'pässwörd \u00a0 \u{1f511}' }
    const plan = await planSetup(database, { ...settings, gateway })
    expect(await applySetup(admin, plan)).toMatchObject({ isChanged: false })
    const { host, port, database: name } = admin
    const url = `postgres://x:x@${host}:${port}/${name}`
    await (await connectTo(url, gateway.user, gateway.password)).end()
    const role = plan.names.agent('reader')
    await (await connectTo(url, role, agentPassword(gateway.password, role))).end()
    await expect(connectTo(url, role, agentPassword(settings.gateway.password ?? '', role))).rejects.toMatchObject({
      code: '28P01',
    })
    expect(server.log()).not.toContain(gateway.password)
    expect(server.log()).not.toContain(agentPassword(gateway.password, role))
    await other.close()
  })

  test.skipIf(missing)('a plan can be read, and run as a script, without a secret in it', async () => {
    const { plan } = desk
    const text = planText(plan)
    expect(text).not.toContain('SCRAM-SHA-256')
    expect(text).not.toContain('password of ')
    expect(text).toContain(
      `alter role "${plan.names.agent('reader')}" password :'password_of_${plan.names.agent('reader')}';`,
    )
    expect(planText(plan, { withSecrets: true })).toContain('SCRAM-SHA-256$4096:')
    expect(planText(plan, { withSecrets: true })).not.toContain(":'password_of")

    const url = await server.createDatabase(deskTables)
    const database = deskDatabase(server.newName())
    const settings = {
      databaseName: databaseOfUrl(url),
      gateway: { user: `gateway_${database.alias}`, password: 'x' },
      agents: deskAgents,
      connections: 3,
    }
    const fresh = await planSetup(database, settings)
    const admin = await connectTo(url)
    await admin.query(planText(fresh, { withSecrets: true }))
    expect(await ofSetup(admin, fresh)).toEqual([])
    await admin.end()
  })

  test.skipIf(missing)('names and texts of any kind stay names and texts', async () => {
    const odd = `we"ird $sallyport$ ' \\ %s %I`
    const quoted = `"${odd.replaceAll('"', '""')}"`
    const other = await startDesk(server, {
      tables: `create schema ${quoted}; create table ${quoted}.${quoted} (id int, ${quoted} text);
        insert into ${quoted}.${quoted} values (1, 'a''b\\'), (2, 'x')`,
      change: (database) => ({
        ...database,
        tables: new Map([
          describeTable('odd', {
            base: { schema: odd, table: odd },
            select: new Map([
              ['id', 'none'],
              [odd, 'none'],
            ]),
            insert: [odd],
            where: { source: `${quoted} = session.region -- '` },
          }),
        ]),
      }),
      agents: new Map([['reader', new Map([['odd', new Set<Verb>(['select', 'insert'])]])]]),
    })
    const agent = await other.as('reader', { region: "a'b\\" })
    expect((await agent.query('select * from odd')).rows).toEqual([{ id: 1, [odd]: "a'b\\" }])
    await expect(agent.query(`insert into odd (${quoted}) values ('y')`)).rejects.toMatchObject({ code: '44000' })
    expect(await ofSetup(other.admin, other.plan)).toEqual([])
    await other.close()
  })
})
