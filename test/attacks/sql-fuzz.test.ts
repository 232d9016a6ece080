// Statements that nobody thought of: mutations of those that somebody did, and queries that are all about names. What
// is let through is looked at by other means than the check's own: a walk that knows nothing of scopes, and a real
// server, which says what it took the text to mean.
import { loadModule, parseSync } from 'libpg-query'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { boundedFunctions, functions } from '../../src/postgres/lists.ts'
import { openChecker } from '../../src/postgres/parse.ts'
import type { Verdict } from '../../src/postgres/verdict.ts'
import { noPostgres, startPostgres } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { chances, mutated } from './sql-mutations.ts'
import type { Chances } from './sql-mutations.ts'
import { attacks, helpdesk, ordinary } from './sql-statements.ts'

// How long to fuzz, for each of both ways, is said where tests are run; what was found can be run again.
const { SQL_FUZZ_SECONDS, SQL_FUZZ_SEED } = process.env
const time = Number(SQL_FUZZ_SECONDS ?? 10) * 1000
const seed = SQL_FUZZ_SEED ?? String(Date.now())

const hostile = Object.values(attacks)
  .flat()
  .filter((text) => text.length < 2000)
const harmless = ordinary.map(([text]) => text)

interface Names {
  readonly tables: Set<string>
  readonly shared: Set<string>
  readonly calls: Set<string>
  readonly types: Set<string>
  readonly kinds: Set<string>
}

/** Every table, WITH query, function and kind of node anywhere in a tree, whatever they mean. */
function namesIn(
  value: unknown,
  names: Names = { tables: new Set(), shared: new Set(), calls: new Set(), types: new Set(), kinds: new Set() },
): Names {
  if (Array.isArray(value)) for (const item of value) namesIn(item, names)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return names
  const fields = value as Record<string, unknown>
  const words = (list: unknown): string =>
    Array.isArray(list) ? list.map((item) => (item as { String?: { sval?: string } }).String?.sval).join('.') : '?'
  const { relname, schemaname, ctename, funcname, typeName } = fields
  if (typeof relname === 'string')
    names.tables.add(typeof schemaname === 'string' ? `${schemaname}.${relname}` : relname)
  if (typeof ctename === 'string') names.shared.add(ctename)
  if (funcname !== undefined) names.calls.add(words(funcname).replace(/^pg_catalog\./, ''))
  if (typeof typeName === 'object') names.types.add(words((typeName as { names?: unknown }).names))
  for (const [name, item] of Object.entries(fields)) {
    if (/^[A-Z]/.test(name)) names.kinds.add(name)
    namesIn(item, names)
  }
  return names
}

const callable = new Set([...functions, ...Object.keys(boundedFunctions), ...helpdesk.functions])
const forbiddenKinds =
  /^(Copy|Do|Call|Merge|Lock|Listen|Notify|Explain|Vacuum|Truncate|Drop|Grant|Create|Alter|IndexStmt|View|Rule|Load|Into|Locking|Cluster|Reindex|Import|Comment|SecLabel|Constraint)/

/** What should not have been let through, in words. */
function wrongIn(text: string, verdict: Verdict): readonly string[] {
  if (verdict.kind === 'refused') return []
  if (verdict.text !== undefined) return ['the text was changed']
  if (text === '') return []
  const { tables, shared, calls, types, kinds } = namesIn(parseSync(text))
  return [
    ...[...tables].filter(
      (name) => !helpdesk.tables.has(name.replace(/^sallyport_helpdesk\./, '')) && !shared.has(name),
    ),
    ...[...calls].filter((name) => !callable.has(name)),
    ...[...types].filter((name) => /^(?!pg_catalog\.).*\.|reg|oid|xml/.test(name)),
    ...[...kinds].filter((kind) => forbiddenKinds.test(kind)),
  ]
}

const checker = openChecker({ deadline: 5000 })
beforeAll(() => loadModule())
afterAll(() => checker.close())

describe(`statements that nobody wrote, from SQL_FUZZ_SEED=${seed}`, () => {
  it(
    'mutations: nothing hangs or breaks, and nothing forbidden is let through',
    { timeout: time + 60_000 },
    async () => {
      const chance = chances(seed)
      const until = performance.now() + time
      const seen = { all: 0, understood: 0, syntax: 0, broken: 0, slowest: 0 }
      for (; performance.now() < until; seen.all++) {
        const text = mutated(chance.one(chance.often(60) ? harmless : hostile), chance, { hostile, harmless })
        const start = performance.now()
        const verdict = await checker.check(text, helpdesk, { caller: `${seen.all}` })
        seen.slowest = Math.max(seen.slowest, performance.now() - start)
        if (verdict.kind === 'understood') seen.understood++
        else if (verdict.sqlstate === '42601') seen.syntax++
        else if (/could not be parsed|too long/.test(verdict.because)) seen.broken++
        expect(wrongIn(text, verdict), text).toEqual([])
      }
      console.info(`mutations: ${JSON.stringify(seen)}`)
      expect(seen.understood).toBeGreaterThan(seen.all / 100)
      expect(seen.broken).toBe(0)
    },
  )
})

/**
 * `x.pg_typeof` somewhere below an `x` of which it would be a call, and beside another `x` that has such a column: what it
 * is depends on where exactly the two stand.
 */
function puzzle(chance: Chances): string {
  const probe = 'x.pg_typeof'
  const own = '(select 1 as pg_typeof) as x'
  const inner = (deep: number): string => {
    const on = () => `on ${chance.often(40) ? `${probe} is null` : 'true'}`
    const below = (): string => (deep > 0 && chance.often(40) ? `(${inner(deep - 1)})` : `(select ${probe} as v)`)
    const item = (): string => {
      const kind = chance.below(8)
      if (kind < 3) return own
      if (kind < 5) return `${chance.often(30) ? 'lateral ' : ''}${below()} as ${chance.one(['q', 'r', 'q', 'x'])}`
      if (kind === 5) return chance.one(['tickets', '(values (1)) as r', 'unnest(array[5.0]) as r (x)'])
      const sides = `${chance.one([own, '(select 3 as u) as t'])} ${chance.one(['join', 'left join', 'full join'])} ${chance.one(['(select 2 as w) as s', `lateral ${below()} as s`, `${below()} as s`])} ${on()}`
      return kind === 6 ? sides : `(${sides}) as ${chance.one(['j', 'x'])}`
    }
    const from = Array.from({ length: chance.below(4) }, item).join(chance.often(70) ? ', ' : ' cross join ')
    const shared = chance.often(20)
      ? `with ${chance.often(30) ? 'recursive ' : ''}x as (select ${chance.one([probe, '1'])} as pg_typeof) `
      : ''
    const target = chance.one(['1', probe, `(select ${probe})`, below()])
    return `${shared}select ${target} as ${chance.one(['v', 'pg_typeof'])}${from && ` from ${from}`}${chance.often(20) ? ` where ${probe} is null` : ''}${chance.often(10) ? ` order by ${probe}` : ''}`
  }
  return `select (${inner(2)} limit 1) from ${chance.one(['unnest(array[5.0]) as x', 'now() as x', "jsonb_array_elements('[1]') as x", own])}`
}

/** Its text, and columns of the table that are read anywhere in it. */
const whatIsMeant = `
  select pg_get_viewdef('public.probe'::regclass) as text, array(
    select attname::text from pg_depend
    join pg_rewrite on classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid
    join pg_attribute on attrelid = refobjid and attnum = refobjsubid and attnum > 0
    where ev_class = 'public.probe'::regclass and refobjid = 'sallyport_helpdesk.tickets'::regclass) as columns`

/**
 * A query over so few names that each could mean many things, at many levels. `pg_typeof` is a column of some of what is
 * in FROM, and of the rest, as a function of anything, a call that isn't listed.
 */
function query(chance: Chances, depth: number): string {
  const alias = () => chance.one(['x', 'x', 'y'])
  const column = () => chance.one(['v', 'pg_typeof', 'status'])
  const named = () => chance.one([`${alias()}.${column()}`, `${alias()}.${column()}`, alias(), column(), 'tickets.id'])
  const expression = (deep: number): string => {
    const kind = chance.below(deep > 0 ? 10 : 8)
    if (kind < 6) return `${alias()}.${column()}`
    if (kind === 6) return chance.one(['5.0', `coalesce(${named()}, null)`, `(${named()})::text`, `array[${named()}]`])
    return kind === 7 ? named() : `(${query(chance, deep - 1)} limit 1)`
  }
  const list = (make: () => string) => (chance.often(50) ? make() : `${make()}, ${make()}`)
  const columns = () => (chance.often(60) ? ` (${chance.often(30) ? `${column()}, ${column()}` : column()})` : '')
  const scalar = () =>
    chance.one(['unnest(array[5.0])', 'now()', "jsonb_array_elements('[1]')", 'generate_series(1, 2)'])
  const source = (deep: number): string => {
    const kind = chance.below(deep > 0 ? 12 : 5)
    if (kind < 2) return `${scalar()}${chance.often(10) ? ' with ordinality' : ''} as ${alias()}${columns()}`
    if (kind === 2)
      return chance.one(['tickets', `tickets as ${alias()}`, `tickets as ${alias()}${columns()}`, alias()])
    if (kind < 5) return `(select 5.0 as ${column()}) as ${alias()}`
    if (kind < 8) return `(${query(chance, deep - 1)}) as ${alias()}${chance.often(20) ? columns() : ''}`
    if (kind < 10) return `lateral (${query(chance, deep - 1)}) as ${alias()}`
    const using = `using (${column()})${chance.often(50) ? ` as ${alias()}` : ''}`
    const on = `on ${chance.often(50) ? 'true' : `${expression(deep - 1)} is null`}`
    const join = `${source(deep - 1)} ${chance.one(['join', 'left join'])} ${source(deep - 1)} ${chance.often(20) ? using : on}`
    return chance.often(70) ? join : `(${join}) as ${alias()}`
  }
  const shared = () => `${alias()}${columns()} as (${query(chance, depth - 1)})`
  const target = () => (chance.often(10) ? '*' : `${expression(depth)} as ${column()}`)
  return [
    depth > 0 && chance.often(15) ? `with ${chance.often(20) ? 'recursive ' : ''}${list(shared)} ` : '',
    `select ${chance.often(80) ? target() : list(target)}`,
    chance.often(80) ? ` from ${list(() => source(depth))}` : '',
    chance.often(10) ? ` where ${expression(depth)} is not null` : '',
    chance.often(5) ? ` order by ${named()}` : '',
    depth > 0 && chance.often(5) ? ` union all ${query(chance, depth - 1)}` : '',
  ].join('')
}

describe.skipIf(await noPostgres(18))(`queries about names, from SQL_FUZZ_SEED=${seed}`, () => {
  let server: PostgresServer
  let client: pg.Client

  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    const columns = [...(helpdesk.tables.get('tickets')?.select.keys() ?? [])].map((name) => `${name} text`).join()
    const database = await server.createDatabase(`
      create table public.tickets (${columns});
      create schema sallyport_helpdesk;
      create view sallyport_helpdesk.tickets as select * from public.tickets`)
    client = new pg.Client({ connectionString: database })
    await client.connect()
    await client.query('set search_path = sallyport_helpdesk')
  })
  afterAll(async () => {
    await client?.end()
    await server?.close()
  })

  /** The query as the server understands it, or nothing where it doesn't. */
  async function meant(text: string): Promise<{ text: string; columns: string[] } | undefined> {
    await client.query('begin')
    try {
      await client.query(`create view public.probe as select exists (${text}) as found`)
      const { rows } = await client.query<{ text: string; columns: string[] }>(whatIsMeant)
      return rows[0]
    } catch {
      return undefined
    } finally {
      await client.query('rollback')
    }
  }

  it('mean to the server what the check took them for', { timeout: time + 60_000 }, async () => {
    const chance = chances(`names ${seed}`)
    const until = performance.now() + time
    const seen = { all: 0, understood: 0, meant: 0, refusedButMeant: 0 }
    for (; performance.now() < until; seen.all++) {
      const text = chance.often(50) ? puzzle(chance) : query(chance, 3)
      const verdict = await checker.check(text, helpdesk, { caller: `${seen.all}` })
      const isUnderstood = verdict.kind === 'understood'
      if (!isUnderstood && !chance.often(5)) continue
      const definition = await meant(text)
      if (isUnderstood) seen.understood++
      if (definition === undefined) continue
      const { calls, tables, shared } = namesIn(parseSync(definition.text))
      if (!isUnderstood) {
        // Refused without a need: there is no function that isn't listed. Only so many of these are acceptable.
        if (!calls.has('pg_typeof')) seen.refusedButMeant++
        continue
      }
      seen.meant++
      expect(
        [...calls].filter((name) => !callable.has(name)),
        `${text}\n${definition.text}`,
      ).toEqual([])
      const uses = verdict.statements.flatMap((statement) => statement.uses.map((use) => use.table))
      const columns = verdict.statements.flatMap((statement) => statement.uses.flatMap((use) => use.columns))
      expect(columns, `${text}\n${definition.text}`).toEqual(expect.arrayContaining(definition.columns))
      const real = [...tables]
        .filter((name) => !shared.has(name))
        .map((name) => name.replace(/^sallyport_helpdesk\./, ''))
      expect(uses, `${text}\n${definition.text}`).toEqual(expect.arrayContaining(real))
    }
    console.info(`names: ${JSON.stringify(seen)}`)
    expect(seen.meant).toBeGreaterThan(10)
  })
})
