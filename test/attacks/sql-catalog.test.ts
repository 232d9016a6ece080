// What the catalogs tell an agent: the names that it may use, and of everything else not even that it is there.
import fs from 'node:fs'
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openChecker } from '../../src/postgres/parse.ts'
import type { Checker } from '../../src/postgres/parse.ts'
import { noPostgres, startPostgres, versions } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { deskTables, describeTable, startDesk } from '../support/postgres-desk.ts'
import type { Desk } from '../support/postgres-desk.ts'

interface Query {
  readonly sql: string
  readonly parameters?: readonly (string | null)[]
}

/** What drivers and tools sent to a PostgreSQL server that wrote down every statement, with numbers of objects as `{name}`. */
const recorded = JSON.parse(
  fs.readFileSync(new URL('catalog-queries.json', import.meta.url), 'utf8'),
) as Readonly<Record<string, readonly Query[]>>

/** Beside the tables of the desk: what nobody may learn of, each with a name that gives itself away. */
const hidden = `
  create schema zz_schema;
  create type zz_schema.mood as enum ('happy', 'sad');
  create domain zz_schema.positive as int constraint zz_check check (value > 0);
  create type zz_schema.place as (street text, mood zz_schema.mood);
  create table zz_schema.zz_table (zz_column int constraint zz_constraint check (zz_column <> 424242) default 424242);
  create index zz_index on zz_schema.zz_table (zz_column);
  create sequence zz_schema.zz_sequence;
  create view zz_schema.zz_view as select 424242 as zz_column;
  create type zz_schema.zz_enum as enum ('zz_label');
  create domain zz_schema.zz_domain as text check (value <> 'zz_value');
  create function zz_schema.zz_function() returns text language sql as 'select ''zz_source''';
  create function zz_schema.zz_trigger_function() returns trigger language plpgsql as 'begin return new; end';
  create trigger zz_trigger before update on tickets for each row execute function zz_schema.zz_trigger_function();
  comment on table tickets is 'zz_comment'; comment on column tickets.body is 'zz_comment';
  comment on table zz_schema.zz_table is 'zz_comment';
  create materialized view zz_schema.zz_totals as select 1 as zz_column;
  create statistics zz_schema.zz_statistics on customer_id, status from tickets;
  create publication zz_publication;
  create text search configuration zz_schema.zz_search (copy = simple);
  alter table tickets add column mood zz_schema.mood default 'sad', add column size zz_schema.positive,
    add column moods zz_schema.mood[], add column place zz_schema.place, add column zz_row zz_schema.zz_table,
    add column zz_unseen int;
  alter table customers add column zz_unseen int;
`

/** Names of what is hidden, the tables behind the views among them, and of whatever else an agent does not hold. */
const secrets = /zz_|HIDDEN|salaries|secret_note|internal_comment|BOBS-|ssn|424242|postgres\b(?!ql)/i

describe.each(versions)('PostgreSQL %i', async (version) => {
  const missing = await noPostgres(version)

  describe.skipIf(missing)('catalogs', () => {
    let server: PostgresServer
    let desk: Desk
    let checker: Checker
    let client: pg.Client
    const numbers: Record<string, string> = {}

    beforeAll(async () => {
      server = await startPostgres({ version })
      checker = openChecker()
      desk = await startDesk(server, {
        tables: deskTables + hidden,
        change: (database) => {
          const tickets = database.tables.get('tickets')
          if (!tickets) throw new Error('there are tickets')
          const columns = ['mood', 'size', 'moods', 'place'].map((name) => [name, 'none'] as const)
          const [name, table] = describeTable('tickets', {
            ...tickets,
            select: new Map([...tickets.select, ...columns]),
          })
          return { ...database, catalog: 'names', tables: new Map([...database.tables, [name, table]]) }
        },
      })
      client = await desk.as('reader', { customer_id: 7 })
      const { policy } = desk.plan.names
      const found = await desk.admin.query<Record<string, string>>(
        `select '${policy}.tickets'::regclass::oid as tickets, '${policy}.customers'::regclass::oid as customers,
          'zz_schema.mood'::regtype::oid as mood,
          array['zz_schema.mood', 'zz_schema.positive', 'zz_schema.mood[]', 'zz_schema.place']::regtype[]::oid[]::text as types`,
      )
      Object.assign(numbers, found.rows[0], { schema: policy })
    }, 120_000)

    afterAll(async () => {
      await checker.close()
      await desk.close()
      await server.close()
    })

    const filled = (text: string): string => text.replaceAll(/\{(\w+)\}/g, (whole, name) => numbers[name] ?? whole)

    /** What an agent gets for a statement, through the check. */
    async function ask({ sql, parameters }: Query): Promise<{ readonly refused?: string; readonly rows: readonly unknown[] }> {
      const verdict = await checker.check(filled(sql), desk.database)
      if (verdict.kind === 'refused') return { refused: `${verdict.sqlstate} ${verdict.because}`, rows: [] }
      try {
        const values = parameters?.map((value) => (value === null ? null : filled(value)))
        const result = await client.query({ text: verdict.text ?? filled(sql), ...(values ? { values } : {}), rowMode: 'array' })
        return { rows: result.rows }
      } catch (thrown) {
        const { code, message } = thrown as { code?: string; message: string }
        return { refused: `server ${code} ${message}`, rows: [] }
      }
    }

    describe.each(Object.entries(recorded))('%s', (_, queries) => {
      test.each(queries.map((query, at) => [at, query] as const))('query %i', async (_at, query) => {
        const { refused, rows } = await ask(query)
        expect(refused).toBeUndefined()
        expect(JSON.stringify(rows)).not.toMatch(secrets)
      })
    })
  })
})
