import fc from 'fast-check'
import { loadModule, parseSync } from 'libpg-query'
import { beforeAll, describe, expect, it } from 'vitest'
import { attacks, helpdesk, ordinary, written } from '../../test/attacks/sql-statements.ts'
import { checkStatements, noTable } from './check.ts'
import type { Database } from './description.ts'
import { functions } from './lists.ts'
import { isFields } from './tree.ts'
import type { Verdict } from './verdict.ts'

beforeAll(() => loadModule())

const check = (text: string, database: Database = helpdesk, options = {}): Verdict =>
  checkStatements(parseSync(text), text, database, options)

const short = (text: string) => (text.length > 150 ? `${text.slice(0, 150)}…` : text)

describe('statements that are refused', () => {
  for (const [name, statements] of Object.entries(attacks))
    it.each(statements.map((statement) => [short(statement), statement] as const))(`${name}: %s`, (_, statement) => {
      expect(check(statement)).toMatchObject({ kind: 'refused' })
    })
})

describe('a row in the way of another', () => {
  const upsert = `insert into settings (customer_id, key, value) values (1, 'a', 'b')
    on conflict (customer_id, key) do update set value = settings.value || excluded.value`

  it('is not changed, nor read, where the table is filtered: views ask for the filter afterwards', () => {
    const { tables } = helpdesk
    const settings = { ...tables.get('settings')!, where: { source: 'customer_id = session.customer_id' } }
    const filtered = { ...helpdesk, tables: new Map([...tables, ['settings', settings] as const]) }
    expect(check(upsert)).toMatchObject({ kind: 'understood' })
    expect(check(upsert, filtered)).toMatchObject({ kind: 'refused', sqlstate: '42501', tables: ['settings'] })
    expect(check(`with x as (${upsert} returning *) select * from x`, filtered)).toMatchObject({ kind: 'refused' })
    const nothing = upsert.replace(/ do update.*/, ' do nothing')
    expect(check(nothing, filtered)).toMatchObject({ kind: 'understood' })
  })
})

describe('ordinary statements', () => {
  it.each(ordinary.map(([statement, ...rest]) => [short(statement), statement, ...rest] as const))(
    '%s',
    (_, statement, uses, command = 'select') => {
      const verdict = check(statement)
      expect(verdict).toMatchObject({ kind: 'understood', statements: [{ command, from: 0, isCatalog: false }] })
      expect(verdict.kind === 'understood' && written(verdict.statements[0]?.uses ?? [])).toBe(uses)
    },
  )
})

describe('what is said of a statement', () => {
  it('says where each stands, in bytes', () => {
    const text = "select 'é'; select id from tickets ; commit"
    const verdict = check(text)
    const bytes = Buffer.from(text)
    const parts =
      verdict.kind === 'understood' ? verdict.statements.map(({ from, to }) => bytes.subarray(from, to)) : []
    expect(parts.map(String)).toEqual(["select 'é'", 'select id from tickets ', 'commit'])
  })

  it('names functions, cursors, prepared statements and the target', () => {
    expect(check('select pg_catalog.upper(lower($1)), public.ticket_age(now())')).toMatchObject({
      statements: [{ functions: ['lower', 'now', 'public.ticket_age', 'upper'] }],
    })
    expect(
      check('declare c cursor for select 1; fetch c; close c; prepare p as select 1; execute p; deallocate p'),
    ).toMatchObject({
      statements: ['c', 'c', 'c', 'p', 'p', 'p'].map((name) => ({ name })),
    })
    expect(check('delete from tickets t')).toMatchObject({ statements: [{ target: 'tickets' }] })
    expect(check('select 1')).not.toHaveProperty('statements.0.target')
  })

  it('is exactly one statement where one is expected', () => {
    expect(check('select 1', helpdesk, { one: true })).toMatchObject({ kind: 'understood' })
    for (const text of ['select 1; select 2', '-- nothing', ';'])
      expect(check(text, helpdesk, { one: true })).toMatchObject({ kind: 'refused', sqlstate: '42601' })
    expect(check(';')).toEqual({ kind: 'understood', statements: [] })
  })
})

describe('what is said of a refusal', () => {
  it('says where, in characters', () => {
    expect(check("select 'éé😀', pg_sleep(1)")).toMatchObject({ position: 15 })
  })

  it.each([
    ['select * from salaries', '42P01', 'there is no table `salaries` that can be used here'],
    ['select note from tickets', '42703', 'there is no column `note` here'],
    ['select t.note from tickets t', '42703', '`tickets` has no column `note` that can be used here'],
    ['select pg_sleep(1)', '42501', "the function `pg_sleep` can't be called here"],
    ['copy tickets to stdout', '42501', "COPY can't be run here"],
    ['select * into x from tickets', '42501', "SELECT INTO can't be used here"],
    ["update tickets set body = ''", '42501', "`body` of `tickets` can't be changed"],
    ["select 'x'::regclass", '42501', "the type `regclass` can't be used here"],
  ])('%s', (statement, sqlstate, because) => {
    expect(check(statement)).toMatchObject({ kind: 'refused', sqlstate, because })
  })

  it('answers for a table that is not there as for one that nobody described', () => {
    const { position: _, ...rest } = noTable('salaries')
    expect(check('select * from salaries')).toMatchObject(rest)
    expect(check('select * from no_such_thing')).toMatchObject(noTable('no_such_thing', 15))
  })

  it('names the tables that its words give away, and only then', () => {
    const telling = Object.values(attacks)
      .flat()
      .map((statement) => check(statement))
      .filter((verdict) => verdict.kind === 'refused')
    for (const { because, hint = '', tables = [] } of telling)
      for (const name of helpdesk.tables.keys())
        if (`${because} ${hint}`.includes(`\`${name}\``)) expect(tables).toContain(name)
    expect(telling.some(({ tables }) => tables === undefined)).toBe(true)
  })

  it('never repeats more of a name than a line', () => {
    const verdict = check(`select "${'x'.repeat(5000)}"('a') from tickets`)
    expect(verdict.kind === 'refused' && verdict.because.length).toBeLessThan(200)
  })
})

describe('the description decides', () => {
  it('of catalogs', () => {
    const open: Database = { ...helpdesk, catalog: 'names' }
    expect(check('select current_user', open)).toMatchObject({ statements: [{ isCatalog: true }] })
    for (const statement of ['select * from pg_authid', 'select rolpassword from pg_shadow', "select 'a'::regclass"])
      expect(check(statement, open)).toMatchObject({ kind: 'refused' })
  })

  it('of a table that is called like a catalog: the catalog is found first', () => {
    const [, tickets] = [...helpdesk.tables][0] ?? []
    if (!tickets) throw new Error('there are tickets')
    const odd: Database = { ...helpdesk, tables: new Map([['pg_class', { ...tickets, name: 'pg_class' }]]) }
    for (const statement of ['select id from pg_class', 'update pg_class set status = $1', 'delete from pg_class'])
      expect(check(statement, odd)).toMatchObject({ kind: 'refused' })
  })

  it('of changes by a key that is masked: many could look like one', () => {
    const tickets = helpdesk.tables.get('tickets')
    if (!tickets) throw new Error('there are tickets')
    const masked: Database = {
      ...helpdesk,
      tables: new Map([['tickets', { ...tickets, select: new Map([...tickets.select, ['id', 'last4']]) }]]),
    }
    expect(check('delete from tickets where id = $1', masked)).toMatchObject({
      statements: [{ uses: [{ verb: 'delete', isBounded: false }, { verb: 'select' }] }],
    })
  })
})

describe('what holds a key', () => {
  const said = (text: string) => {
    const verdict = check(text)
    if (verdict.kind === 'refused') throw new Error(verdict.because)
    const [{ uses, keyParameters } = { uses: [], keyParameters: undefined }] = verdict.statements
    return [uses.some(({ isBounded }) => isBounded), keyParameters]
  }
  const update = "update tickets set status = 'x' where"

  // `$1` is of the type of `id`, for as long as the client declares no other.
  it.each([
    [`${update} id = $1`, [1]],
    [`${update} $2 = id and status = $1`, [2]],
    [`${update} id in ($1)`, [1]],
    ['delete from tickets t using customers c where t.id = $3 and t.customer_id = c.id', [3]],
    ['update settings set value = $1 where key = $3 and customer_id = $2', [2, 3]],
    [
      'with a as (delete from tickets where id = $2 returning id) update settings set value = $1 where customer_id = $4 and key = $3',
      [2, 3, 4],
    ],
    [`${update} id = $1 and status = $2 and $2 is not null`, [1]],
    [`prepare p as ${update} id = $1`, [1]],
  ])('%s: parameters %j', (text, numbers) => {
    expect(said(text)).toEqual([true, numbers])
  })

  // Of whatever type a parameter is, what stands beside the key is of this one.
  it.each([
    `${update} id = 7 and status = $1`,
    `${update} id = $1::bigint`,
    `${update} id = cast($1 as numeric)`,
    `with old as (select body from tickets where id = $1::int8) ${update} id = $1::int8`,
    `${update} id = $1::int8 and $1::float8 > 0`,
    `${update} id = $1 and id = 7`,
    `${update} id = '7'::int8`,
    `prepare p (bigint) as ${update} id = $1`,
    "update settings set value = 'x' where customer_id = 7 and key = $1::text",
  ])('%s: no parameters', (text) => {
    expect(said(text)).toEqual([true, undefined])
  })

  // A parameter takes its type from the first place that the server comes to. In some of these that is the key, and it is
  // not looked into in which.
  it.each([
    `with x as (select $1::float8) ${update} id = $1`,
    `${update} $1::float8 > 0 and id = $1`,
    `${update} id = $1 and $1::float8 > 0`,
    "update tickets set status = 'x' from (select $1::float8) x where tickets.id = $1",
    `${update} customer_id = $1 and id = $1`,
    `${update} id = $1 and id = $1`,
    `${update} id = $1 returning $1::real`,
    'update settings set value = $1 where customer_id = $2 and key = $1',
    `prepare p as with x as (select $1::float8) ${update} id = $1`,
  ])('%s: not, since the parameter stands elsewhere too', (text) => {
    expect(said(text)).toEqual([false, undefined])
  })

  it.each([
    `${update} id = '7'::float8`,
    `${update} id = $1::float8`,
    `${update} id = $1::real`,
    `${update} id = $1::float8::int8`,
    `${update} id = $1::char(3)`,
    `${update} id = $1::bpchar`,
    `${update} id = $1::name`,
    `${update} id = $1::timestamptz`,
    `${update} id = timestamp with time zone '2024-03-10 03:30-04'`,
    `${update} id = $1::int8[]`,
    `${update} id = any ($1)`,
    `${update} id = any (array[$1])`,
    `${update} id in ($1, $2)`,
    `${update} id in ($1::float8)`,
    `${update} id is not distinct from $1`,
    `${update} id + 0 = $1`,
    `${update} id = $1 + 0`,
    `${update} id = -$1`,
    `${update} (id, status) = ($1, $2)`,
    `${update} id = (select $1)`,
    `${update} id = coalesce($1, 7)`,
    `${update} id = $1 collate "C"`,
    `prepare p (float8) as ${update} id = $1`,
    `prepare p (unknown) as ${update} id = $1`,
    `prepare p (bpchar) as ${update} id = $1`,
  ])('%s: not', (text) => {
    expect(said(text)).toEqual([false, undefined])
  })
})

// The walk is closed: whatever is put anywhere in a tree that is let through is seen.
describe('every place of every ordinary statement is looked at', () => {
  type Place = readonly [fields: Readonly<Record<string, unknown>>, put: (changed: unknown) => unknown]

  /** Each object in a tree, with a way to have it replaced. */
  function* places(tree: unknown, put: Place[1] = (changed) => changed): Generator<Place> {
    if (Array.isArray(tree)) {
      for (const [at, item] of tree.entries()) yield* places(item, (changed) => put(tree.with(at, changed)))
    } else if (isFields(tree)) {
      yield [tree, put]
      for (const [name, value] of Object.entries(tree))
        yield* places(value, (changed) => put({ ...tree, [name]: changed }))
    }
  }

  const isNode = (fields: object): boolean => /^[A-Z]\w*$/.test(Object.keys(fields).join())

  /** What is let through though each place was changed, one at a time; and how many places there were. */
  function missed(change: (fields: Place[0]) => readonly unknown[]): { count: number; through: string[] } {
    let count = 0
    const through: string[] = []
    for (const [text] of ordinary)
      for (const [fields, put] of places(parseSync(text)))
        for (const changed of change(fields)) {
          count++
          const isRefused = attempt(() => checkStatements(put(changed), text, helpdesk).kind === 'refused')
          if (!isRefused) through.push(`${text}: ${JSON.stringify(fields)}`)
        }
    return { count, through }
  }

  const attempt = (run: () => boolean): boolean => {
    try {
      return run()
    } catch {
      return true
    }
  }

  it('a forbidden call in the place of any node is refused', () => {
    const call = { FuncCall: { funcname: [{ String: { sval: 'pg_sleep' } }], funcformat: 'COERCE_EXPLICIT_CALL' } }
    const { count, through } = missed((fields) => (isNode(fields) ? [call] : []))
    expect(count).toBeGreaterThan(1000)
    expect(through).toEqual([])
  })

  it('a forbidden table in the place of any node is refused', () => {
    const RangeVar = { relname: 'wages', inh: true, relpersistence: 'p' }
    const subselect = {
      SelectStmt: { fromClause: [{ RangeVar }], limitOption: 'LIMIT_OPTION_DEFAULT', op: 'SETOP_NONE' },
    }
    const all = [subselect, { SubLink: { subLinkType: 'EXPR_SUBLINK', subselect } }, { RangeVar }]
    const { count, through } = missed((fields) => (isNode(fields) ? all : []))
    expect(count).toBeGreaterThan(3000)
    expect(through).toEqual([])
  })

  it('a field that nobody knows is refused anywhere', () => {
    const { count, through } = missed((fields) =>
      isNode(fields) || 'stmts' in fields ? [] : [{ ...fields, surprise: true }],
    )
    expect(count).toBeGreaterThan(1000)
    expect(through).toEqual([])
  })
})

describe('properties', () => {
  const name = fc.stringMatching(/^[a-z_][a-z0-9_]{0,20}$/)
  const quoted = (text: string) => `"${text}"`

  it('no function can be called that is not listed, however it is written', () => {
    const shapes = [
      (f: string) => `select ${f}(1)`,
      (f: string) => `select * from ${f}(1) as x`,
      (f: string) => `select (1).${f}`,
      (f: string) => `select x.${f} from unnest(array[1]) as x`,
      (f: string) => `select x.${f} from unnest(array[1]) as x, (select 1 as ${f}) y`,
      (f: string) => `select tickets.${f} from tickets`,
      (f: string) => `select pg_catalog.${f}(1)`,
    ]
    fc.assert(
      fc.property(name, fc.constantFrom(...shapes), (f, shape) => {
        fc.pre(!functions.has(f) && !helpdesk.functions.includes(f) && f !== 'x')
        fc.pre(!/^(generate_series|repeat|lpad|rpad|format)$/.test(f) && !helpdesk.tables.get('tickets')?.select.has(f))
        expect(check(shape(quoted(f)))).toMatchObject({ kind: 'refused' })
      }),
      { numRuns: 300 },
    )
  })

  it('no table is read that is not described, under any names of WITH queries', () => {
    fc.assert(
      fc.property(name, name, (first, second) => {
        fc.pre(!helpdesk.tables.has(first) && first !== second)
        const text = `with ${quoted(second)} as (select 1) select (with ${quoted(first)} as (select 2) select 3) from ${quoted(first)}`
        expect(check(text)).toMatchObject({ kind: 'refused' })
      }),
      { numRuns: 200 },
    )
  })

  it('only a condition on the whole key bounds a change', () => {
    const part = fc.constantFrom(
      'customer_id = 1',
      "key = 'a'",
      'value is null',
      "key <> 'b'",
      'customer_id > 3',
      'true',
    )
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
        const verdict = check(`update settings set value = 'x' where ${parts.join(' and ')}`)
        const isWhole = parts.includes('customer_id = 1') && parts.includes("key = 'a'")
        const [update] = verdict.kind === 'understood' ? (verdict.statements[0]?.uses.slice(-1) ?? []) : []
        expect(update).toMatchObject({ verb: 'update', isBounded: isWhole })
        expect(check(`update settings set value = 'x' where not (${parts.join(' and ')})`)).toMatchObject({
          statements: [
            {
              uses: expect.arrayContaining([expect.objectContaining({ verb: 'update', isBounded: false })]) as unknown,
            },
          ],
        })
      }),
      { numRuns: 100 },
    )
  })
})
