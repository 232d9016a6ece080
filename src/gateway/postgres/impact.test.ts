import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres } from '../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../test/support/postgres.ts'
import { describeTable, startDesk } from '../../../test/support/postgres-desk.ts'
import type { Desk } from '../../../test/support/postgres-desk.ts'
import type { Json } from '../../core/json.ts'
import type { Database, Mask, Verb } from '../../postgres/description.ts'
import { verbs } from '../../postgres/description.ts'
import { openChecker } from '../../postgres/parse.ts'
import type { Checker } from '../../postgres/parse.ts'
import { createConnections } from './connect.ts'
import type { Connections } from './connect.ts'
import { createImpact } from './impact.ts'
import type { Impact } from './impact.ts'
import { createPool } from './pool.ts'
import type { PostgresResource } from './resource.ts'

const masked: Database['tables'] = new Map([
  describeTable('people', {
    select: new Map<string, Mask>([
      ['id', 'none'],
      ['email', 'email'],
      ['note', 'none'],
    ]),
    update: ['note'],
    delete: true,
    key: ['id'],
  }),
  describeTable('blind', { delete: true }),
  describeTable('children', {
    select: new Map<string, Mask>([
      ['parent', 'none'],
      ['n', 'none'],
    ]),
    insert: ['parent', 'n'],
    delete: true,
  }),
])

describe.skipIf(await noPostgres(18))('what a change would touch', () => {
  let server: PostgresServer
  let desk: Desk
  let connections: Connections
  let checker: Checker
  let impact: Impact

  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    desk = await startDesk(server, {
      tables: `
        create table people (id int primary key, email text, note text);
        create table blind (id int primary key);
        create table children (parent int references people on delete cascade on update cascade, n int);
        create table grandchildren (n int);
        insert into people select n, 'p' || n || '@example.com', repeat('ü', 500) from generate_series(1, 50) n;
        insert into children select 1 + n % 50, n from generate_series(1, 200) n;
        create function told() returns trigger language plpgsql as 'begin return old; end';
        create trigger told before delete or update on people for each row execute function told();
      `,
      change: (database) => ({ ...database, tables: masked }),
      agents: new Map([['desk-worker', new Map([...masked.keys()].map((table) => [table, new Set<Verb>(verbs)]))]]),
    })
    const { gateway, databaseName } = desk.settings
    const resource: PostgresResource = {
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
    }
    connections = createConnections(resource, () => {})
    checker = openChecker({ deadline: 5_000 })
    impact = createImpact(
      resource,
      createPool(connections, { get: () => ({ agent: 'desk-worker', facts: {} }) as never }),
    )
  }, 120_000)
  afterAll(async () => {
    await connections?.close()
    await checker?.close()
    await desk?.close()
    await server?.close()
  })

  async function of(text: string, parameters: readonly Json[] = [], touched?: number) {
    const verdict = await checker.check(text, desk.database, { one: true })
    if (verdict.kind === 'refused') throw new Error(verdict.because)
    const asked = { statement: verdict.statements[0]!, text, parameters, ...(touched === undefined ? {} : { touched }) }
    return impact('one', asked, new AbortController().signal)
  }

  test('rows, a masked sample that is cut short, cascades and triggers', async () => {
    const found = await of('delete from people where id <= $1 and note <> $2', [30, 'x'])
    expect(found).toMatchObject({
      rows: 30,
      cascades: [{ table: 'public.children', column: 'parent', on: 'delete', does: 'cascade' }],
      triggers: [{ name: 'told', function: 'public.told' }],
      reversible: false,
    })
    const { columns, rows } = found['sample'] as { columns: string[]; rows: string[][] }
    expect(columns).toEqual(['id', 'email', 'note'])
    expect(rows).toHaveLength(20)
    expect(
      rows.every(
        ([id, email, note]) => email === 'p***@example.com' && note === `${'ü'.repeat(120)}…` && Number(id) > 0,
      ),
    ).toBe(true)
    expect(Object.keys(found)[0]).toBe('rows')
  })

  test('what is joined is counted once, and at most where no key tells rows apart', async () => {
    expect(await of('delete from people p using children c where c.parent = p.id and p.id <= 2')).toMatchObject({
      rows: 2,
    })
    expect(
      await of('update people p set note = c.n::text from children c where c.parent = p.id and c.n > $1', [0]),
    ).toMatchObject({
      rows: 50,
      cascades: [{ on: 'update', does: 'cascade' }],
      because: 'the values before are kept nowhere',
    })
    const none = await of('delete from children c using people p where c.parent = p.id and p.id = 1')
    expect(none).toMatchObject({ rows: 4, atMost: true, triggers: [], cascades: [] })
  })

  test('a parameter that stands in SET alone, twice, or in WITH', async () => {
    expect(
      await of('update people set note = $1 where id = any ($3) and email <> $2', ['x', 'y', [1, 2, 3]]),
    ).toMatchObject({
      rows: 3,
    })
    expect(
      await of(
        'with few as (select id from people where id < $2) delete from people where id in (select id from few) and id > $1',
        [1, 4],
      ),
    ).toMatchObject({ rows: 2 })
  })

  test('rows that are added', async () => {
    expect(await of('insert into children (parent, n) values (1, 1), (2, $1)', [2])).toMatchObject({
      rows: 2,
      reversible: true,
      triggers: [],
    })
    expect(await of('insert into children (parent, n) select id, $1 from people where id > $2', [1, 40])).toMatchObject(
      {
        rows: 10,
        sample: { rows: expect.objectContaining({ length: 10 }) },
      },
    )
  })

  test('what takes too long is estimated, and said to be; what was tried is known', { timeout: 30_000 }, async () => {
    const slow =
      'delete from people where (select count(*) from people a, people b, people c, people d, people e where a.id + b.id + c.id + d.id + e.id > 5) > id'
    expect(await of(slow)).toMatchObject({
      rows: expect.any(Number),
      estimate: true,
      uncounted: 'counting them takes longer than 2 s',
    })
    expect(await of(slow, [], 50)).toMatchObject({ rows: 50, tried: true })
    const { rows } = await desk.admin.query(
      "select 1 from pg_stat_activity where state = 'active' and query like '%people e%' and pid <> pg_backend_pid()",
    )
    expect(rows).toEqual([])
  })

  test('promise 7: what could not be counted says why', async () => {
    const within = await of('with gone as (delete from children returning n) select count(*) from gone')
    expect(within).toMatchObject({ uncounted: 'rows are changed in WITH', reversible: false })
    expect(within).not.toHaveProperty('rows')
    // Nothing of it can be read: the database counts nothing, and believes nothing aloud.
    expect(await of('delete from blind')).toMatchObject({ uncounted: expect.stringMatching(/42501/) })
    expect(await of('delete from people where id = $1', ['no number'])).toMatchObject({
      uncounted: expect.stringMatching(/22P02/),
    })
    expect((await desk.admin.query('select count(*)::int as n from people')).rows).toEqual([{ n: 50 }])
  })

  test('law: what was counted is what is changed', { timeout: 120_000 }, async () => {
    const condition = fc.constantFrom(
      'TARGET.id < 20',
      'TARGET.id = any ($1)',
      "TARGET.email like '%' /* where */",
      'TARGET.id in (select parent from children where n % 3 = 0)',
      'exists (select from children c where c.parent = TARGET.id and c.n > 150) -- from\n',
      "not (TARGET.id between 10 and 20) and TARGET.note <> 'returning'",
      '(TARGET.id > 40 or TARGET.id is not distinct from 3)',
      'TARGET.id in (select parent from few)',
    )
    const shape = fc.record({
      verb: fc.constantFrom('delete', 'update'),
      alias: fc.constantFrom('', 'x', 'as "X y"'),
      joins: fc.constantFrom(
        '',
        'children k',
        '(select parent from children where n < 90) k',
        'children k join people p2 on p2.id = k.parent',
      ),
      conditions: fc.array(condition, { maxLength: 3 }),
      set: fc.constantFrom(
        "note = 'n'",
        "note = (select 'from' || max(n) from children)",
        'note = ($2)::text',
        "note = case when email is distinct from note then 'a' end",
      ),
      returning: fc.constantFrom('', ' returning 1'),
    })
    await fc.assert(
      fc.asyncProperty(shape, async ({ verb, alias, joins, conditions, set, returning }) => {
        const target = alias === '' ? 'people' : alias.replace('as ', '')
        const all = [...(joins === '' ? [] : ['k.parent = TARGET.id']), ...conditions].map((each) =>
          each.replaceAll('TARGET', target),
        )
        const where = all.length === 0 ? '' : `where ${all.join('\n and ')}`
        const few = where.includes('few') ? 'with few as (select parent from children where n < 30) ' : ''
        const rest = `${where}${returning}`
        const qualified = set.replace('email is', `${target}.email is`).replace('from note', `from ${target}.note`)
        const text =
          verb === 'delete'
            ? `${few}delete from people ${alias} ${joins === '' ? '' : `using ${joins}`} ${rest}`
            : `${few}update people ${alias} set ${qualified} ${joins === '' ? '' : `from ${joins}`} ${rest}`
        // What is not in the text may not be given: numbers are those of the whole statement.
        const highest = Math.max(0, ...Array.from(text.matchAll(/\$(\d)/g), ([, number]) => Number(number)))
        const own = text.includes('$2') && !text.includes('$1') ? text.replaceAll('$2', '$1') : text
        const parameters: Json[] = own !== text ? ['v'] : [[1, 2, 99], 'v'].slice(0, highest)
        const found = await of(own, parameters)
        expect(found).not.toHaveProperty('atMost')
        const asAgent = await desk.as('desk-worker', {})
        try {
          await asAgent.query('begin')
          const { rowCount } = await asAgent.query(own, parameters as unknown[])
          expect([own, found['rows']]).toEqual([own, rowCount])
        } finally {
          await asAgent.query('rollback')
          await asAgent.end()
        }
      }),
      { numRuns: 60 },
    )
  })
})
