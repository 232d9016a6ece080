// What rows of others are does not show in answers: two databases that differ only in the rows of another customer, the
// same statements on both, and the same bytes back: as the agent's role itself, with no check before it.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres, versions } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { startDesk } from '../support/postgres-desk.ts'
import type { Desk } from '../support/postgres-desk.ts'
import { overhear, sent, soberDesk } from './sql-lane.ts'

/** Another customer's rows, each time of another kind: numbers that divide by zero, texts that are numbers, or none at all. */
const worlds: Readonly<Record<string, string>> = {
  'as they are': '',
  'other values': `
    update tickets set amount = 31, body = '12', subject = '7', status = 'closed', secret_note = '1' where customer_id = 8;
    update responses set body = '99', internal_comment = '5' where ticket_id in (3, 4);
    update customers set name = '5', email = '7@x.example', phone = '1', ssn = '42' where id = 8;
    update preferences set value = '3' where customer_id = 8;
    update salaries set amount = 1, name = '3'`,
  'fewer rows': `
    delete from responses where ticket_id in (3, 4); delete from tickets where id = 4; delete from salaries;
    delete from preferences where customer_id = 8`,
  'many rows': `
    insert into tickets (id, customer_id, subject, body, amount)
      select n, 8, 'many ' || n, n::text, n % 3 from generate_series(1000, 4000) n;
    insert into responses (id, ticket_id, body) overriding system value
      select n, n, 'x' from generate_series(1000, 1500) n;
    analyze`,
}

/** Each in a transaction of its own, which is undone. */
const statements: readonly string[] = [
  'select * from tickets order by id',
  'select count(*), sum(amount), avg(amount), min(body), max(body) from tickets',
  'select count(*) from responses',
  'select * from customers',
  'select * from preferences order by key',
  'select 1 / (amount - 28) from tickets order by id',
  'select 1 / (amount - 31) from tickets order by id',
  'select id from tickets where 1 / (amount - 28) is not null order by id',
  'select id from tickets where 1 / (amount % 3) > 0 order by id',
  'select id from tickets where body::int > 0 and id > 2',
  'select id from tickets where id > 2 and (subject || body)::int > 0',
  'select id from tickets where body::date is null and customer_id = 8',
  'select id from tickets where subject::int = 7 and customer_id = 8',
  "select id from tickets where customer_id = 8 and body ~ ('(' || body)",
  'select count(*) from tickets where substring(body from 1 for amount - 29) is not null and id > 2',
  'select sqrt(28 - amount) from tickets order by id',
  'select ln(amount - 28) from tickets where id > 2',
  'select 1 from responses r join tickets t on t.id = r.ticket_id where t.id > 2 and t.body::int > 0',
  'select 1 from responses r, tickets t where r.body::int = t.amount and r.ticket_id > 2',
  'select 1 from customers c where c.id > 7 and c.name::int > 0',
  'select 1 from customers c where c.id > 7 and 1 / length(c.ssn) = 0',
  'select 1 from preferences where customer_id = 8 and value::int > 0',
  'select id from tickets order by body::int',
  'select id, rank() over (order by amount), ntile(2) over (order by id), count(*) over () from tickets order by id',
  'select amount, count(*) from tickets group by cube (amount, status) order by 1, 2',
  'select string_agg(body, $$,$$ order by id), json_agg(status order by id) from tickets',
  'select percentile_cont(0.5) within group (order by amount) from tickets',
  'select (select max(id) from tickets), (select count(*) from responses), exists (select from tickets where id = 3)',
  'select id from tickets where id = any (select ticket_id from responses) order by id',
  'select id from tickets where customer_id in (select id from customers) order by id',
  'with recursive r as (select 1 as n union all select n + 1 from r where n < (select count(*) from tickets)) select * from r',
  'select t.id from tickets t full join responses r on r.ticket_id = t.id order by 1',
  'select id from tickets order by id limit 1 offset 2',
  'select id from tickets order by id fetch first 1 row with ties',
  'select distinct customer_id, status from tickets order by 1, 2',
  "update tickets set status = 'x' where body::int > 0 and id > 2",
  "update tickets set status = 'x' where 1 / (amount - 28) is not null returning id",
  "update tickets set status = 'x' where customer_id = 8 or id = 1",
  "update tickets set body = 'x' where id = 3",
  "update preferences set value = 'x' where key = 'theme'",
  'update tickets set customer_id = 8 where id = 1',
  'delete from tickets where body::int > 0 and id > 2',
  'delete from tickets where id in (1, 3)',
  'delete from responses where ticket_id = 3',
  "insert into responses (ticket_id, body) values (3, 'x')",
  "insert into responses (ticket_id, body) values (4, 'x')",
  "insert into responses (ticket_id, body) values (999999, 'x')",
  "insert into responses (ticket_id, body) select id, 'x' from tickets",
  "insert into tickets (customer_id, subject) values (8, 'x')",
  "insert into tickets (customer_id, subject) values (999, 'x')",
  'insert into tickets (customer_id, subject, body) select customer_id, subject, body from tickets',
  "insert into preferences (customer_id, key, value) values (7, 'theme', 'x')",
  "insert into preferences (customer_id, key, value) values (7, 'language', 'x')",
  "insert into preferences (customer_id, key, value) values (9, 'theme', 'x')",
  "insert into preferences (customer_id, key, value) values (8, 'font', 'x')",
  "insert into preferences (customer_id, key, value) values (7, 'theme', 'x') on conflict do nothing",
  'select secret_note from tickets',
  'select * from tickets where secret_note::int > 0',
  'select * from salaries',
  'select * from public.salaries where amount > 1',
  'select has_table_privilege($$public.salaries$$, $$select$$)',
  'select tableoid from tickets',
  "select most_common_vals from pg_stats where tablename = 'tickets'",
]

/** What does show. */
const showing: readonly string[] = [
  // Statistics are of all rows, and choose the plan: whether a row of the session's own meets the cast at all.
  'delete from tickets t using responses r where r.ticket_id = t.id and r.body::int > 0 and t.id > 2',
  // As `verify` says: a unique key that can be written is compared with those of all rows.
  "insert into preferences (customer_id, key, value) values (8, 'theme', 'x')",
  "insert into preferences (customer_id, key, value) values (8, 'theme', 'x') on conflict do nothing",
]

describe.each(versions)('the same bytes, on PostgreSQL %i', async (version) => {
  const missing = await noPostgres(version)
  let server: PostgresServer
  let desk: Desk
  beforeAll(async () => {
    if (missing) return
    server = await startPostgres({ version })
    desk = await startDesk(server, soberDesk)
  }, 120_000)
  afterAll(async () => {
    await desk?.close()
    await server?.close()
  })

  const tables = ['customers', 'tickets', 'responses', 'preferences', 'salaries']
  const restored = [
    ...tables.map((table) => `delete from public.${table}`),
    ...tables.map((table) => `insert into public.${table} overriding system value select * from vault.${table}`),
  ].join('; ')

  /** What statements answer in each of the worlds, which are made of one database: names and numbers are the same. */
  async function answers(all: readonly string[]): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
    const heard = new Map(all.map((sql) => [sql, new Set<string>()]))
    for (const world of Object.values(worlds)) {
      await desk.admin.query(`set session_replication_role = replica; ${restored}; ${world}`)
      const client = await desk.as('desk-worker', { customer_id: 7 })
      const ear = overhear(client)
      for (const sql of all) {
        await desk.admin.query(
          `select setval('public.tickets_id_seq', 5000, false), setval('public.responses_id_seq', 5000, false)`,
        )
        await client.query('begin')
        ear.take()
        await sent(client, sql)
        await client.query('rollback')
        heard.get(sql)?.add(ear.take())
      }
      await client.end()
    }
    return heard
  }

  test.skipIf(missing)('as the role itself: errors, counts and rows', { timeout: 120_000 }, async () => {
    const differing = [...(await answers([...statements, ...showing]))]
      .filter(([, all]) => all.size > 1)
      .map(([sql]) => sql)
    expect(differing).toEqual(showing)
  })
})
