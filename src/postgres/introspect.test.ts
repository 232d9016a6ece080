import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { noPostgres, startPostgres, versions } from '../../test/support/postgres.ts'
import type { PostgresServer } from '../../test/support/postgres.ts'
import { connectTo, deskTables } from '../../test/support/postgres-desk.ts'
import { postgresResource } from '../config/postgres.ts'
import { catalogOf, suggest } from './introspect.ts'

const more = `
  create schema app;
  create function app.note() returns trigger language plpgsql as 'begin return null; end';
  create table app.parents (id int primary key);
  create table app.children (id int primary key, parent int references app.parents on delete cascade on update set null);
  create table app.grandchildren (a int, b int, child int references app.children on delete cascade, unique (a, b));
  create table app.leaves (a int, b int, foreign key (a, b) references app.grandchildren (a, b) on delete set default);
  create table app.others (parent int references app.parents);
  create table app.loops (id int primary key, loop int references app.loops on delete cascade);
  create trigger after_all after insert or delete on app.parents for each statement execute function app.note();
  create trigger before_row before update on app.parents for each row execute function app.note();
  create trigger asleep before update on app.parents for each row execute function app.note();
  alter table app.parents disable trigger asleep;
  create rule quiet as on insert to app.parents where false do also nothing;
  create table app.parts (id int primary key, parent int references app.parents on delete cascade) partition by range (id);
  create table app.part_one partition of app.parts for values from (0) to (100);
  create table app."Odd Table" ("order" int, "no" text, password_hash text, email text, card_number text, customer_id int);
  create table app.accounts (id int primary key, customer int references public.customers, owner_name text, api_key text);
`

describe.each(versions)('what the catalogs of PostgreSQL %i tell', async (version) => {
  const missing = await noPostgres(version)
  let server: PostgresServer
  let client: pg.Client

  beforeAll(async () => {
    if (missing) return
    server = await startPostgres({ version })
    client = await connectTo(await server.createDatabase(deskTables + more))
    await client.query('analyze public.tickets')
  })
  afterAll(async () => {
    await client?.end()
    await server?.close()
  })

  test.skipIf(missing)('what goes along with rows, however far, and what runs', async () => {
    expect(await catalogOf(client, { schema: 'app', table: 'parents' })).toEqual({
      cascades: [
        { table: 'app.children', column: 'parent', on: 'delete', does: 'cascade' },
        { table: 'app.grandchildren', column: 'child', on: 'delete', does: 'cascade' },
        { table: 'app.leaves', column: 'a, b', on: 'delete', does: 'set default' },
        { table: 'app.parts', column: 'parent', on: 'delete', does: 'cascade' },
        { table: 'app.children', column: 'parent', on: 'update', does: 'set null' },
      ],
      triggers: [
        { name: 'after_all', timing: 'after insert or delete', function: 'app.note' },
        { name: 'before_row', timing: 'before update', function: 'app.note' },
        { name: 'quiet', timing: 'on insert', function: 'rule' },
      ],
    })
  })

  test.skipIf(missing)('how many rows there are, where somebody has counted', async () => {
    expect(await catalogOf(client, { schema: 'public', table: 'tickets' })).toMatchObject({ rows: 4, triggers: [] })
    expect(await catalogOf(client, { schema: 'app', table: 'others' })).toEqual({ cascades: [], triggers: [] })
    expect(await catalogOf(client, { schema: 'app', table: 'loops' })).toMatchObject({
      cascades: [{ table: 'app.loops' }],
    })
    expect(await catalogOf(client, { schema: 'app', table: 'nowhere' })).toBeUndefined()
  })

  test.skipIf(missing)('a policy to start from shows little, and says what it left out', async () => {
    const text = await suggest(
      client,
      ['tickets', 'public.responses', 'customers', 'app.accounts', 'app.Odd Table', 'salaries'],
      { customer_id: 'int' },
    )
    expect(text).toContain('# Left out, because their names look private: secret_note\n')
    expect(text).toContain('# Left out, because their names look private: ssn\n')
    expect(text).toContain('# About 4 rows.')
    expect(text).toContain('# Deleting from it deletes or changes public.responses as well.')
    const { tables } = parse(text) as { tables: Record<string, unknown> }
    expect(tables).toEqual({
      tickets: {
        select: ['id', 'customer_id', 'subject', 'body', 'status', 'amount', 'created'],
        key: ['id'],
        where: 'customer_id = session.customer_id',
      },
      responses: {
        select: ['id', 'ticket_id', 'body', 'author'],
        key: ['id'],
        where: 'ticket_id in (select id from public.tickets where customer_id = session.customer_id)',
      },
      customers: {
        select: ['id', 'name', 'email', 'phone'],
        masks: { email: 'email', phone: 'last4' },
        key: ['id'],
        where: 'id = session.customer_id',
      },
      accounts: {
        table: 'app.accounts',
        select: ['id', 'customer', 'owner_name'],
        key: ['id'],
        where: 'customer = session.customer_id',
      },
      odd_table: {
        table: 'app.Odd Table',
        select: ['order', 'no', 'email', 'card_number', 'customer_id'],
        masks: { email: 'email', card_number: 'last4' },
        where: 'customer_id = session.customer_id',
      },
      salaries: { select: ['name', 'amount'], key: ['name'] },
    })
    expect(postgresResource.safeParse({ postgres: 'postgres://sallyport@db/desk', tables }).error).toBeUndefined()
  })

  test.skipIf(missing)('a table that is not there', async () => {
    await expect(suggest(client, ['tikets'])).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('`tikets`'),
    })
  })
})
