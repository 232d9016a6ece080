// What the catalogs tell an agent: the names that it may use, and of everything else not even that it is there.
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import { promisify } from 'node:util'
import type pg from 'pg'
import postgres from 'postgres'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { applySetup } from '../../src/postgres/apply.ts'
import { catalogFunctions, catalogRelations, sessionFunctions } from '../../src/postgres/catalog.ts'
import { noTable } from '../../src/postgres/check.ts'
import { types } from '../../src/postgres/lists.ts'
import { plainTypes } from '../../src/postgres/parameter-types.ts'
import { openChecker } from '../../src/postgres/parse.ts'
import type { Checker } from '../../src/postgres/parse.ts'
import { verify } from '../../src/postgres/verify.ts'
import { noPostgres, startPostgres, versions } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { deskAgents, deskTables, describeTable, startDesk } from '../support/postgres-desk.ts'
import type { Desk } from '../support/postgres-desk.ts'
import { startWire } from '../support/postgres-wire.ts'
import type { Wire } from '../support/postgres-wire.ts'

const execute = promisify(execFile)
const psql = await execute('psql', ['--version']).catch(() => undefined)

interface Query {
  readonly sql: string
  readonly parameters?: readonly (string | null)[]
}

/** What drivers and tools sent to a PostgreSQL server that wrote down every statement, with numbers of objects as `{name}`. */
const recorded = JSON.parse(fs.readFileSync(new URL('catalog-queries.json', import.meta.url), 'utf8')) as Readonly<
  Record<string, readonly Query[]>
>

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
const secrets =
  /zz_|HIDDEN|salaries|secret_note|internal_comment|responses|desk_worker|gateway_|BOBS-|424242|\bpublic\b|\bpostgres\b/i

/**
 * What an agent might try, where `{tickets}` and the like are numbers and `{schema}` is that of the views. Sent by its
 * role without a check, most of these tell something; through the check, they are refused, or tell nothing.
 */
const probes: readonly string[] = [
  `select prosrc from pg_proc where prosrc like '%zz_%'`,
  `select proname from pg_proc where proname like 'zz%'`,
  `select pg_get_functiondef(oid) from pg_proc where proname = 'zz_function'`,
  `select prosrc from pg_catalog.pg_proc where oid = {function}`,
  `select query from pg_stat_activity`,
  `select usename, datname from pg_catalog.pg_stat_activity`,
  `select * from pg_stat_get_activity(null)`,
  `select rolname, rolpassword from pg_authid`,
  `select rolname from pg_roles`,
  `select usename from pg_user`,
  `select usename from pg_shadow`,
  `select groname from pg_group`,
  `select * from pg_auth_members`,
  `select pg_get_userbyid(n) from generate_series(1, 30) n`,
  `select pg_get_userbyid({agent})`,
  `select pg_get_userbyid(10)`,
  `select 10::regrole`,
  `select {agent}::oid::regrole`,
  `select name, setting from pg_settings where name in ('data_directory', 'hba_file', 'shared_preload_libraries')`,
  `select current_setting('data_directory')`,
  `select current_setting('data_directory', true)`,
  `show data_directory`,
  `select * from pg_file_settings`,
  `select * from pg_hba_file_rules`,
  `select datname from pg_database`,
  `select table_schema, table_name from information_schema.tables`,
  `select table_name, column_name from information_schema.columns where table_schema = 'public'`,
  `select column_name, column_default from information_schema.columns`,
  `select udt_schema, udt_name from information_schema.columns`,
  `select view_definition from information_schema.views`,
  `select * from information_schema.routines where routine_name like 'zz%'`,
  `select * from information_schema.triggers`,
  `select * from information_schema.table_constraints`,
  `select * from information_schema.check_constraints`,
  `select * from information_schema.schemata`,
  `select * from information_schema.table_privileges`,
  `select * from information_schema.column_privileges`,
  `select * from information_schema.role_table_grants`,
  `select * from information_schema.sequences`,
  `select * from information_schema.view_table_usage`,
  `select * from information_schema.domain_constraints`,
  `select * from information_schema.user_mappings`,
  `select * from information_schema.element_types`,
  `select pg_get_viewdef({tickets})`,
  `select pg_get_viewdef({tickets}, true)`,
  `select pg_get_viewdef('tickets')`,
  `select pg_get_viewdef('{schema}.tickets'::regclass)`,
  `select definition from pg_views`,
  `select ev_action from pg_rewrite`,
  `select {base}::regclass`,
  `select {base}::oid::regclass`,
  `select {base}::oid::regclass::text`,
  `select '{base}'::regclass`,
  `select n::oid::regclass::text from generate_series({base} - 20, {base} + 20) n`,
  `select n::oid::regclass::text from (values ({base}), ({hidden})) v (n)`,
  `select cast(n as regclass) from (values ('{base}')) v (n)`,
  `select c.oid::regclass::text from pg_class c`,
  `select c.relname::regclass from pg_class c`,
  `select {mood_row}::oid::regtype::text`,
  `select {function}::oid::regproc::text`,
  `select {function}::oid::regprocedure`,
  `select {namespace}::oid::regnamespace`,
  `select regclass '{base}'`,
  `select regclass 'zz_schema.zz_table'`,
  `select 'zz_schema.zz_table'::regclass`,
  `select 'public.tickets'::regclass`,
  `select 'zz_schema.zz_nothing'::regclass`,
  `select 'zz_schema.mood'::regtype`,
  `select 'zz_schema.zz_function'::regproc`,
  `select '{zz_table}'::regclass[]`,
  `select to_regclass('zz_schema.zz_table')`,
  `select to_regtype('zz_schema.zz_enum')`,
  `select to_regproc('zz_schema.zz_function')`,
  `select to_regnamespace('zz_schema')`,
  `select to_regrole('postgres')`,
  `select format_type({zz_enum}, null)`,
  `select format_type({mood_row}, null)`,
  `select format_type(n, null) from generate_series({mood_row} - 50, {mood_row}) n`,
  `select pg_relation_size({base})`,
  `select pg_relation_size('public.salaries')`,
  `select pg_total_relation_size({hidden})`,
  `select pg_relation_filepath('public.salaries')`,
  `select pg_table_size('zz_schema.zz_table')`,
  `select relname, reltuples, relpages from pg_class where relkind = 'r'`,
  `select relname from pg_class`,
  `select relname from pg_class where oid = {base}`,
  `select relacl from pg_class where relname = 'tickets'`,
  `select relacl from pg_class where relacl = '{postgres=r/postgres}'`,
  `select nspname from pg_namespace`,
  `select nspacl from pg_namespace`,
  `select attname from pg_attribute where attrelid = {base}`,
  `select attname from pg_attribute where attname like '%!_note' escape '!' or attname like 'zz%'`,
  `select attname, attacl from pg_attribute where attacl is not null`,
  `select typname from pg_type where typname like 'zz%' or typname like '!_zz%' escape '!'`,
  `select typname, typdefault from pg_type`,
  `select typname, typinput::text from pg_type where typinput = 'zz_schema.zz_function'`,
  `select 1 from pg_type where typinput = 'zz_function'`,
  `select enumlabel from pg_enum`,
  `select * from pg_stats`,
  `select most_common_vals from pg_stats where schemaname = 'public'`,
  `select * from pg_statistic`,
  `select * from pg_stats_ext`,
  `select stxname from pg_statistic_ext`,
  `select relname, n_live_tup from pg_stat_user_tables`,
  `select relname from pg_statio_user_tables`,
  `select * from pg_stat_all_tables`,
  `select indexdef from pg_indexes`,
  `select tablename from pg_tables`,
  `select schemaname, matviewname from pg_matviews`,
  `select sequencename from pg_sequences`,
  `select tgname from pg_trigger`,
  `select pg_get_triggerdef(oid) from pg_trigger`,
  `select conname, pg_get_constraintdef(oid) from pg_constraint`,
  `select pg_get_constraintdef({constraint})`,
  `select pg_get_indexdef({index})`,
  `select pg_get_expr(adbin, adrelid) from pg_attrdef`,
  `select pg_get_serial_sequence('public.tickets', 'id')`,
  `select description from pg_description where description like 'zz%'`,
  `select obj_description({base}, 'pg_class')`,
  `select obj_description({base})`,
  `select col_description({base}, 4)`,
  `select shobj_description(10, 'pg_authid')`,
  `select extname from pg_extension`,
  `select pubname from pg_publication`,
  `select * from pg_publication_tables`,
  `select cfgname from pg_ts_config`,
  `select collname from pg_collation where collname like 'zz%'`,
  `select inhparent from pg_inherits`,
  `select * from pg_depend`,
  `select pg_describe_object('pg_class'::regclass, {base}, 0)`,
  `select pg_identify_object('pg_class'::regclass, {base}, 0)`,
  `select * from pg_identify_object_as_address('pg_class'::regclass, {base}, 0)`,
  `select has_table_privilege('public.salaries', 'select')`,
  `select has_schema_privilege('zz_schema', 'usage')`,
  `select has_any_column_privilege({base}, 'select')`,
  `select row_security_active({base})`,
  `select pg_column_size(c), c.relname from pg_class c`,
  `select c.pg_get_userbyid from (select {agent}::oid) c`,
  `select ({agent}::oid).pg_get_userbyid`,
  `select ({base}::oid).pg_get_viewdef`,
  `select (c).oid.obj_description from pg_class c`,
  `select c.obj_description from pg_class c`,
  `select to_jsonb(c) from pg_class c`,
  `select c from pg_class c`,
  `select c::text from pg_type c where c.oid = {zz_enum}`,
  `select * from pg_catalog.pg_class tablesample system (100)`,
  `select relname from only pg_class`,
  `select relname from "pg_catalog".pg_class`,
  `select relname from pg_catalog . pg_class`,
  `select relname from pg_catalog./**/pg_class`,
  `select relname from PG_CATALOG.PG_CLASS`,
  `select relname from U&"pg\\005fclass"`,
  `select relname from sallyport.pg_catalog.pg_class`,
  `with pg_class as (select * from pg_catalog.pg_class) select relname from pg_class`,
  `with x as (select 1) select (select string_agg(relname, ',') from pg_class)`,
  `select tableoid::regclass from pg_class`,
  `select xmin, ctid from pg_class`,
  `select relname from pg_class for update`,
  `insert into pg_class (relname) values ('x')`,
  `update pg_catalog.pg_class set relname = relname`,
  `delete from information_schema.tables`,
  `select * from {schema}_catalog.shown_type`,
  `select * from {schema}_catalog.pg_class`,
  `select * from {schema}_internal.session`,
  `select pg_catalog.set_config('search_path', 'public', false)`,
  `select set_config('role', 'postgres', false)`,
  `select pg_catalog.pg_get_keywords() is null from salaries`,
  `table pg_class`,
  `explain select * from pg_class`,
]

/**
 * Questions whose answer has to be the same for what is there and hidden as for what is not there at all: names in `{name}`,
 * numbers in `{number}`, also as a parameter.
 */
const twins: readonly Query[] = [
  { sql: `select '{name}'::regclass` },
  { sql: `select '{name}'::regclass::oid` },
  { sql: `select regclass '{name}'` },
  { sql: `select '{name}'::regtype` },
  { sql: `select '{name}'::regproc` },
  { sql: `select '{name}'::regnamespace` },
  { sql: `select '{name}'::regrole` },
  { sql: `select '{{name}}'::regclass[]` },
  { sql: `select cast($1 as regclass)`, parameters: ['{name}'] },
  { sql: `select $1::regtype`, parameters: ['{name}'] },
  { sql: `select v.n::regclass from (values ('{name}')) v (n)` },
  { sql: `select v.n::regtype from (values ('{name}'), ('pg_class')) v (n)` },
  { sql: `select to_regclass('{name}')` },
  { sql: `select to_regclass($1)`, parameters: ['{name}'] },
  { sql: `select to_regtype('{name}')` },
  { sql: `select pg_get_viewdef('{name}')` },
  { sql: `select pg_get_serial_sequence('{name}', 'id')` },
  { sql: `select pg_relation_size('{name}')` },
  { sql: `select has_table_privilege('{name}', 'select')` },
  { sql: `select 1 from pg_type where typinput = '{name}'` },
  { sql: `select 1 from pg_type where typinput = $1`, parameters: ['{name}'] },
  { sql: `select 1 from pg_range where rngsubdiff = '{name}'` },
  { sql: `select 1 from pg_class where relacl = '{{name}=r/{name}}'` },
  { sql: `select 1 from pg_class where '{name}=r/{name}' = any (relacl)` },
  { sql: `select 1 from pg_sequences where data_type = '{name}'` },
  { sql: `select 1 from pg_class where relname = '{name}'` },
  { sql: `select 1 from {name}` },
  { sql: `select to_tsvector('{name}', 'a')` },
  { sql: `select plainto_tsquery($1, 'a')`, parameters: ['{name}'] },
  { sql: `select ts_headline('{name}', 'a', 'b')` },
  { sql: `select ts_headline($1, 'a', to_tsquery('b'))`, parameters: ['{name}'] },
  { sql: `select current_setting('{name}')` },
  { sql: `select set_config('{name}', '1', false)` },
  { sql: `select pg_table_is_visible({number})` },
  { sql: `select pg_type_is_visible({number})` },
  { sql: `select pg_function_is_visible({number})` },
  { sql: `select format_type({number}, null)` },
  { sql: `select pg_get_userbyid({number})` },
  { sql: `select pg_get_viewdef({number}::oid)` },
  { sql: `select pg_get_constraintdef({number})` },
  { sql: `select obj_description({number})` },
  { sql: `select pg_table_size({number})` },
  { sql: `select {number}::oid::regclass` },
  { sql: `select {number}::oid::regtype` },
  { sql: `select '{number}'::regclass` },
  { sql: `select '{number}'::oid::regclass::text` },
  { sql: `select $1::regclass`, parameters: ['{number}'] },
  { sql: `select 1 from pg_class where oid = {number}` },
  { sql: `select 1 from pg_type where typinput = {number}` },
]

/** Hidden things of each kind, with a name of the same form that is nobody's. */
const hiddenNames = [
  ['public.tickets', 'public.nothing'],
  ['salaries', 'nothing'],
  ['responses', 'nothing'],
  ['zz_schema.zz_table', 'nothing.zz_table'],
  ['zz_schema.zz_enum', 'nothing.zz_enum'],
  ['zz_schema.zz_function', 'nothing.zz_function'],
  ['zz_schema', 'nothing'],
  ['zz_schema.zz_search', 'nothing.zz_search'],
  ['postgres', 'nothing'],
] as const

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
      checker = openChecker({ deadline: 5_000 })
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
      const others = await desk.admin.query<Record<string, string>>(
        `select 'public.tickets'::regclass::oid as base, 'zz_schema.zz_table'::regclass::oid as hidden,
          (select reltype from pg_class where oid = 'zz_schema.zz_table'::regclass) as mood_row,
          'zz_schema.zz_enum'::regtype::oid as zz_enum, 'zz_schema.zz_function'::regproc::oid as function,
          'zz_schema'::regnamespace::oid as namespace, 'zz_schema.zz_index'::regclass::oid as index,
          (select oid from pg_constraint where conname = 'zz_constraint') as constraint,
          (select oid from pg_roles where rolname = '${desk.plan.names.agent('desk-worker')}') as agent`,
      )
      Object.assign(numbers, found.rows[0], others.rows[0], { schema: policy })
    }, 120_000)

    afterAll(async () => {
      await checker.close()
      await desk.close()
      await server.close()
    })

    const filled = (text: string): string => text.replaceAll(/\{(\w+)\}/g, (whole, name) => numbers[name] ?? whole)

    /** What an agent gets for a statement, through the check. */
    async function ask({
      sql,
      parameters,
    }: Query): Promise<{ readonly refused?: string; readonly rows: readonly unknown[] }> {
      const verdict = await checker.check(filled(sql), desk.database)
      if (verdict.kind === 'refused') return { refused: `${verdict.sqlstate} ${verdict.because}`, rows: [] }
      // As the gateway does.
      const held = deskAgents.get('reader')
      const unheld = verdict.statements.flatMap(({ uses }) => uses).find((use) => !held?.get(use.table)?.has(use.verb))
      if (unheld) return { refused: `42P01 ${noTable(unheld.table).because}`, rows: [] }
      try {
        const values = parameters?.map((value) => (value === null ? null : filled(value)))
        const result = await client.query({
          text: verdict.text ?? filled(sql),
          ...(values ? { values } : {}),
          rowMode: 'array',
        })
        return { rows: result.rows }
      } catch (thrown) {
        const { code, message } = thrown as { code?: string; message: string }
        return { refused: `server ${code} ${message}`, rows: [] }
      }
    }

    describe.each(Object.entries(recorded))('%s', (_, queries) => {
      test.each(queries.map((query, at) => [at, query] as const))('query %i', async (_at, query) => {
        const { refused, rows } = await ask(query)
        // A client of one version may ask a server of another for columns that it hasn't.
        if (refused?.startsWith('server 42703')) {
          const values = query.parameters?.map((value) => value && filled(value)) ?? []
          await expect(desk.admin.query(filled(query.sql), values)).rejects.toMatchObject({ code: '42703' })
          return
        }
        expect(refused).toBeUndefined()
        expect(JSON.stringify(rows)).not.toMatch(secrets)
      })
    })

    test.each(probes)('%s', async (sql) => {
      const { refused = '', rows } = await ask({ sql })
      expect(JSON.stringify(rows)).not.toMatch(secrets)
      // What is refused says no more than what was asked.
      for (const [secret] of refused.matchAll(new RegExp(secrets, 'gi'))) expect(sql).toContain(secret)
    })

    test.each(twins)('what is hidden is as if it were not there: $sql', async ({ sql, parameters }) => {
      const answer = async (name: string, value: string | undefined): Promise<string> => {
        const put = (text: string): string => text.replaceAll('{name}', name).replaceAll('{number}', value ?? '')
        const values = parameters?.map((each) => put(each ?? ''))
        const { refused, rows } = await ask({ sql: put(sql), ...(values && { parameters: values }) })
        const said = JSON.stringify({ refused, rows })
        return said.replaceAll(name, '…').replaceAll(value ?? '…', '…')
      }
      if (sql.includes('{number}') || parameters?.includes('{number}'))
        for (const number of ['base', 'hidden', 'mood_row', 'zz_enum', 'function', 'namespace', 'constraint', 'agent'])
          expect(await answer('-', numbers[number])).toBe(await answer('-', '999999'))
      else
        for (const [there, gone] of hiddenNames)
          expect(await answer(there, undefined)).toBe(await answer(gone, undefined))
    })

    test('no constant beside any column of a catalog tells whether there is something of that name', async () => {
      const answer = async (relation: string, column: string, constant: string): Promise<string> => {
        const { refused, rows } = await ask({ sql: `select 1 from ${relation} where "${column}" = '${constant}'` })
        return JSON.stringify({ refused, rows }).replaceAll(constant.replaceAll(/[{}]/g, ''), '…')
      }
      const pairs = [
        ['zz_schema.zz_table', 'zz_nobody.zz_table'],
        ['zz_function', 'zz_nobodys'],
        ['{postgres=r/postgres}', '{possible=r/possible}'],
        ['postgres=r/postgres', 'possible=r/possible'],
      ] as const
      let asked = 0
      for (const [relation, columns] of catalogRelations)
        for (const column of columns)
          for (const [there, gone] of pairs) {
            const answered = await answer(relation, column, there)
            expect(answered, `${relation}.${column}`).toBe(await answer(relation, column, gone))
            asked++
            // A column that this server hasn't is the same for all.
            if (answered.includes('42703') || answered.includes('42P01')) break
          }
      expect(asked).toBeGreaterThan(2000)
    }, 120_000)

    test('no function tells of a hidden number or name', async () => {
      const values = ['base', 'hidden', 'mood_row', 'zz_enum', 'function', 'namespace', 'index', 'constraint', 'agent']
      const names = ['public.tickets', 'salaries', 'zz_schema.zz_table', 'zz_schema.zz_enum', 'zz_schema', 'postgres']
      const args = [...values.map((name) => `{${name}}`), ...names.map((name) => `'${name}'`)]
      for (const name of [...catalogFunctions, ...sessionFunctions])
        for (const one of args)
          for (const list of [
            one,
            `${one}, 1`,
            `${one}, true`,
            `${one}, 'pg_class'`,
            `'pg_class', ${one}`,
            `${one}, 1, true`,
          ]) {
            const { rows } = await ask({ sql: `select pg_catalog.${name}(${list})::text` })
            // What is asked for may come back: a number, or no name that is known.
            const said = JSON.stringify(rows).replaceAll(/unknown \(OID=\d+\)/g, '')
            expect(said, `${name}(${list})`).not.toMatch(secrets)
          }
    }, 120_000)

    test('the views themselves show no more, whoever reads them', async () => {
      const { catalog } = desk.plan.names
      const views = await desk.admin.query<{ name: string }>(
        `select relname as name from pg_class where relnamespace = $1::text::regnamespace and relkind = 'v'`,
        [catalog],
      )
      expect(views.rows.length).toBeGreaterThan(60)
      for (const { name } of views.rows.filter((row) => row.name !== 'shown_type')) {
        const found = await client.query({ text: `select * from ${catalog}.${name}`, rowMode: 'array' })
        // `postgres` is also a style of intervals.
        const rows = found.rows.filter(([first]) => name !== 'pg_settings' || first !== 'IntervalStyle')
        expect(JSON.stringify(rows), name).not.toMatch(secrets)
      }
      await expect(client.query(`select * from ${catalog}.shown_type`)).rejects.toMatchObject({ code: '42501' })
    })

    test('names that may be used are there, and their types', async () => {
      const values = async (sql: string) => (await ask({ sql })).rows
      const { policy } = desk.plan.names
      expect(await values("select relname, relkind from pg_class where relkind <> 'c' order by 1")).toEqual([
        ['customers', 'v'],
        ['tickets', 'v'],
      ])
      expect(await values('select nspname from pg_namespace order by 1')).toEqual([
        ['information_schema'],
        ['pg_catalog'],
        [policy],
      ])
      expect(
        await values(
          `select attname, format_type(atttypid, atttypmod) from pg_attribute
            where attrelid = '${policy}.tickets'::regclass order by attnum`,
        ),
      ).toEqual([
        ['id', 'integer'],
        ['customer_id', 'integer'],
        ['subject', 'text'],
        ['body', 'text'],
        ['status', 'text'],
        ['amount', 'integer'],
        ['created', 'timestamp with time zone'],
        ['mood', 'mood'],
        ['size', 'positive'],
        ['moods', 'mood[]'],
        ['place', 'place'],
      ])
      expect(await values('select enumlabel from pg_enum order by enumsortorder')).toEqual([['happy'], ['sad']])
      expect(await values(`select to_regtype('mood')::oid = {mood}, to_regclass('tickets') = {tickets}`)).toEqual([
        [true, true],
      ])
      expect(
        await values(`select distinct table_schema, table_name from information_schema.columns order by 2`),
      ).toEqual([
        [policy, 'customers'],
        [policy, 'tickets'],
      ])
    })

    test('another agent sees what it holds, a column that it can only write among them', async () => {
      const worker = await desk.as('desk-worker', { customer_id: 7 })
      const { catalog } = desk.plan.names
      const { rows } = await worker.query(`select relname from ${catalog}.pg_class where relkind = 'v' order by 1`)
      expect(rows.map(({ relname }: { relname: string }) => relname)).toEqual(['customers', 'responses', 'tickets'])
    })

    describe('whatever is changed in the schema of catalogs is found, and put right', () => {
      test.each([
        ['a view', `create or replace view $.pg_enum as select * from pg_catalog.pg_enum`],
        ['an option', `alter view $.pg_class reset (security_barrier)`],
        ['a right', `grant select on $.shown_type to public`],
        ['the right to a function', `grant execute on function $.format_type(oid, integer) to public`],
        [
          'a function',
          `create or replace function $.format_type(oid, integer) returns text language sql as 'select pg_catalog.format_type($1, $2)'`,
        ],
        ['another function', `create function $.peek() returns text language sql as 'select 1::text'`],
        ['another view', `create view $.peek as select 1`],
        ['a table', `create table $.peek (a int)`],
        ['a label', `alter type $.regclass add value 'zz'`],
        ['a view that is gone', `drop view $.pg_proc`],
      ])('%s', async (_, sql) => {
        const { catalog } = desk.plan.names
        await desk.admin.query(sql.replaceAll('$.', `${catalog}.`))
        const found = await verify(desk.admin, desk.plan)
        expect(found.filter(({ where }) => where === `schema ${catalog}`)).toHaveLength(1)
        if (sql.startsWith('create table')) await desk.admin.query(`drop table ${catalog}.peek`)
        await applySetup(desk.admin, desk.plan)
        expect((await verify(desk.admin, desk.plan)).filter(({ where }) => where === `schema ${catalog}`)).toEqual([])
      })
    })

    test('most of them tell something where nothing checks them', async () => {
      const told = []
      for (const sql of probes) {
        const rows = await client.query({ text: filled(sql), rowMode: 'array' }).then(
          (result) => result.rows,
          () => [],
        )
        if (secrets.test(JSON.stringify(rows))) told.push(sql)
      }
      expect(told.length).toBeGreaterThan(45)
    })
  })

  describe.skipIf(missing)('catalogs, through the wire', () => {
    let server: PostgresServer
    let wire: Wire

    beforeAll(async () => {
      server = await startPostgres({ version })
      wire = await startWire(server)
    }, 120_000)

    afterAll(async () => {
      await wire.close()
      await server.close()
    })

    test('types that are passed on are those that statements may name, and lists of them', async () => {
      const { rows } = await wire.desk.admin.query<{ number: number; name: string; list: string }>(
        `select t.oid::int as number, coalesce(e.typname, t.typname)::text as name,
            case when e.typname is null then '' else '[]' end as list from pg_type t
          left join pg_type e on e.oid = t.typelem and t.typcategory = 'A' where t.oid::int = any ($1::int[])`,
        [[...plainTypes.keys()]],
      )
      expect(new Map(rows.map(({ number, name, list }) => [number, name + list]))).toEqual(plainTypes)
      const others = rows.map(({ name }) => name).filter((name) => !types.has(name) && name !== 'oid')
      expect(others).toEqual([])
    })

    test.skipIf(psql === undefined)('psql shows tables and their columns', async () => {
      const { token, agent } = await wire.session('reader')
      const run = async (command: string): Promise<string> => {
        const env = { ...process.env, PGPASSWORD: token, PSQLRC: os.devNull }
        const place = ['-h', '127.0.0.1', '-p', String(wire.listener.port), '-U', agent, '-d', wire.alias]
        const { stdout, stderr } = await execute('psql', [...place, '-c', command], { env })
        expect(stderr).toBe('')
        expect(stdout).not.toMatch(secrets)
        return stdout
      }
      const { policy } = wire.desk.plan.names
      expect(await run('\\d')).toContain(` ${policy} | tickets   | view | ${policy}_owner`)
      expect(await run('\\d tickets')).toMatch(/View "\w+\.tickets"[^]* subject +\| text +\|[^]* amount +\| integer/)
      expect(await run('\\dn')).toContain(policy)
    })

    test('a parameter that is declared as a type which looks names up, or which is hidden, is of no declared type', async () => {
      const { rows } = await wire.desk.admin.query<{ base: string; row: number }>(
        `select oid::int::text as base, reltype::int as row from pg_class where oid = 'public.salaries'::regclass`,
      )
      const { base = '', row = 0 } = rows[0] ?? {}
      const { token, agent } = await wire.session('reader')
      const sql = postgres({
        host: '127.0.0.1',
        port: wire.listener.port,
        database: wire.alias,
        user: agent,
        password: token,
        max: 1,
        fetch_types: false,
      })
      const regclass = 2205
      try {
        const named = await sql`select ${sql.typed(base, regclass)}::text as name`
        expect(named).toEqual([{ name: base }])
        const typed = await sql`select ${sql.typed('(x,1)', row)}::text as name`
        expect(typed).toEqual([{ name: '(x,1)' }])
        await expect(sql`select ${sql.typed('1', row)}::int as name`).resolves.toEqual([{ name: 1 }])
      } finally {
        await sql.end()
      }
    })
  })
})
