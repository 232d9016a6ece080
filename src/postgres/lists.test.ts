// What the lists say of functions and the like, held against the catalogs of a real server.
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { noPostgres, startPostgres } from '../../test/support/postgres.ts'
import type { PostgresServer } from '../../test/support/postgres.ts'
import {
  boundedFunctions,
  exactTypes,
  functionColumns,
  functions,
  operators,
  scalarSets,
  settings,
  shown,
  types,
} from './lists.ts'

const all = [...functions, ...Object.keys(boundedFunctions)]

describe.skipIf(await noPostgres(18))('the lists, and a real server', () => {
  let server: PostgresServer
  let client: pg.Client

  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    client = new pg.Client({ connectionString: server.adminUrl })
    await client.connect()
  })
  afterAll(async () => {
    await client?.end()
    await server?.close()
  })

  const names = async (sql: string, ...values: unknown[]): Promise<unknown[]> =>
    (await client.query<unknown[]>({ text: sql, values, rowMode: 'array' })).rows.flat()

  it('list functions that there are', async () => {
    const missing = await names(
      `select n from unnest($1::text[]) n where not exists (
         select from pg_proc where proname = n and pronamespace = 'pg_catalog'::regnamespace)`,
      all,
    )
    expect(missing).toEqual([])
  })

  it('list functions without side effects: the few that are volatile are clocks and chance', async () => {
    const volatile = await names(
      `select distinct proname::text from pg_proc where proname = any($1) and provolatile = 'v' order by 1`,
      all,
    )
    expect(volatile).toEqual(['clock_timestamp', 'gen_random_uuid', 'random'])
  })

  it('list functions that give nothing of the catalogs, and take no text to look up there but that of a language', async () => {
    const looks = await names(
      `select distinct t.typname::text from pg_proc p, unnest(proargtypes::oid[] || prorettype) u join pg_type t on t.oid = u
       where proname = any($1) and (t.typname ~ '^_?reg' or t.typname in ('oid', 'refcursor', 'internal', 'void', 'trigger', 'xml'))
       order by 1`,
      all,
    )
    // `min` and `max` of oids; `regconfig` of the text search.
    expect(looks).toEqual(['oid', 'regconfig'])
  })

  it('list operators that only compute', async () => {
    const missing = await names(
      `select n from unnest($1::text[]) n where not exists (select from pg_operator where oprname = n)`,
      [...operators],
    )
    // The parser turns it to `<>`.
    expect(missing).toEqual(['!='])
    const volatile = await names(
      `select oprname::text from pg_operator o join pg_proc p on p.oid = oprcode where oprname = any($1) and provolatile = 'v'`,
      [...operators],
    )
    expect(volatile).toEqual([])
  })

  it('list types that there are, and none that looks its input up', async () => {
    expect(await names('select n from unnest($1::text[]) n where to_regtype(n) is null', [...types])).toEqual([])
    const looks = await names(
      `select t.typname::text from unnest($1::text[]) n join pg_type t on t.oid = to_regtype(n) join pg_proc p on p.oid = typinput
       where t.typname ~ '^reg|oid|^xml$' or provolatile = 'v'`,
      [...types],
    )
    expect(looks).toEqual([])
    for (const type of exactTypes) expect(types).toContain(type)
  })

  it('list settings that there are', async () => {
    const missing = await names(
      `select n from unnest($1::text[]) n where not exists (select from pg_settings where lower(name) = n)`,
      [...Object.keys(settings), ...shown],
    )
    expect(missing).toEqual([])
  })

  const calls: Readonly<Record<string, string>> = {
    unnest: 'unnest(array[1])',
    generate_series: 'generate_series(1, 2)',
    generate_subscripts: 'generate_subscripts(array[1], 1)',
    jsonb_path_query: `jsonb_path_query('{"a": 1}', '$.a')`,
    regexp_matches: "regexp_matches('a', 'a')",
    regexp_split_to_table: "regexp_split_to_table('a', 'b')",
    string_to_table: "string_to_table('a', 'b')",
    json_object_keys: `json_object_keys('{"a": 1}')`,
    jsonb_object_keys: `jsonb_object_keys('{"a": 1}')`,
  }

  // A name behind a dot that isn't a column would be tried as a function, so this has to be right.
  it('know what columns are called that functions give in FROM', async () => {
    for (const name of scalarSets) {
      const { fields } = await client.query(`select * from ${calls[name] ?? `${name}()`} as given`)
      expect([name, ...fields.map((field) => field.name)]).toEqual([name, 'given'])
    }
    for (const [name, columns] of Object.entries(functionColumns)) {
      const { fields } = await client.query(`select * from ${name}('${name.includes('each') ? '{}' : '[]'}') as given`)
      expect([name, ...fields.map((field) => field.name)]).toEqual([name, ...columns])
    }
  })
})

describe('functions that make much of little', () => {
  it.each([
    ['repeat', ['x', 10_000], true],
    ['repeat', ['xx', 10_000], false],
    ['repeat', [undefined, 2], false],
    ['repeat', ['x', undefined], false],
    ['lpad', [undefined, 10_000], true],
    ['lpad', ['x', 10_001], false],
    ['rpad', ['x', undefined], false],
    ['format', ['%s %1$I %% %L', undefined], true],
    ['format', ['%10s', 'x'], false],
    ['format', ['%*s', 10, 'x'], false],
    ['format', ['%-9s', 'x'], false],
    ['format', [undefined, 'x'], false],
    ['generate_series', [1, 10_000], true],
    ['generate_series', [1, 10_001], false],
    ['generate_series', [1, 100_000, 100], true],
    ['generate_series', [1, 100, 0], false],
    ['generate_series', [1, undefined], false],
    ['generate_series', [1, 2, 1, 'UTC'], false],
    ['generate_series', ['2025-01-01', '9999-01-01', '1 s'], false],
  ] as const)('%s(%j): %s', (name, args, holds) => {
    expect(boundedFunctions[name]?.holds(args)).toBe(holds)
  })
})

describe('limits of time that may be set', () => {
  it.each([
    ['1', true],
    ['10000', true],
    ['10s', true],
    [' 9 s ', true],
    ['0', false],
    ['0s', false],
    ['10001', false],
    ['1min', false],
    ['1h', false],
    ['-1', false],
    ['1e3', false],
    ['', false],
    ['default', false],
  ])('%j: %s', (value, holds) => {
    expect(settings['statement_timeout']?.(value, { time: 10_000 })).toBe(holds)
  })
})
