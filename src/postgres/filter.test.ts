import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compileFilter } from './filter.ts'

const facts = {
  customer_id: 'int',
  region: 'string',
  since: 'timestamp',
  ids: 'list<int>',
  tags: 'list<string>',
  vip: 'bool',
  score: 'double',
} as const
const names = { internal: 'i' }
const compile = (source: string) => compileFilter(source, facts, names)

describe('facts take the place of their names', () => {
  test.each([
    ['customer_id = session.customer_id', `customer_id = ((select "i".scope('customer_id'))::bigint)`],
    ['a = session.region', `a = ((select "i".scope('region'))::text)`],
    ['a > session.since', `a > (pg_catalog.to_timestamp((select "i".scope('since'))::float8 / 1000))`],
    ['a = any(session.ids)', `a = any(((select "i".scope('ids'))::bigint[]))`],
    ['a = any(session.tags)', `a = any(((select "i".scope('tags'))::text[]))`],
    [
      'session.vip or a < session.score',
      `((select "i".scope('vip'))::boolean) or a < ((select "i".scope('score'))::float8)`,
    ],
    ['a = "session" . "region" -- as text', `a = ((select "i".scope('region'))::text) -- as text`],
    ['SESSION.Region = a', `((select "i".scope('region'))::text) = a`],
  ])('%s', async (source, sql) => {
    expect((await compile(source)).sql).toBe(sql)
  })

  test('and nothing else does: not in strings, not in comments, not in names', async () => {
    const source = `a = 'session.region' /* session.region */ and "session.region" = b and x.session = session`
    expect(await compile(source)).toEqual({ sql: source, facts: [], relations: [], schemas: [] })
  })

  test('wherever in the text they stand, whatever is around them', async () => {
    const name = fc.constantFrom('session.region', 'session.customer_id')
    const around = fc.constantFrom("'ä€😀'", '"ünï"', 'a', '1.5', "E'\\''", '$$session.x$$')
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(around, name), { minLength: 1, maxLength: 8 }), async (parts) => {
        const source = parts.map(([left, right]) => `${left} = ${right}`).join(' and ')
        const { sql } = await compile(source)
        const call = { 'session.region': ['region', 'text'], 'session.customer_id': ['customer_id', 'bigint'] }
        const wanted = parts.map(([left, right]) => {
          const [fact, type] = call[right]
          return `${left} = ((select "i".scope('${fact}'))::${type})`
        })
        expect(sql).toBe(wanted.join(' and '))
      }),
    )
  })
})

test('tables that it reads are told', async () => {
  const source = `id in (with x as (select id from app.a) select id from x join public."B c" using (id) where c = session.customer_id)`
  expect(await compile(source)).toMatchObject({
    facts: ['customer_id'],
    relations: expect.arrayContaining([
      { schema: 'app', table: 'a' },
      { schema: 'public', table: 'B c' },
    ]),
  })
})

describe('what is not one expression is refused', () => {
  test.each([
    '',
    'true; drop table t',
    'true) union select (1',
    '1) from x where (true',
    'a, b',
    'true) order by (1',
    'true) limit (1',
    '1) as x, (2',
    'a) into t from (select 1',
    'true) /*',
    'a = 1 --\n) or (b = 2; --',
    'select 1; select 2',
    "a = '\0'",
  ])('%s', async (source) => {
    await expect(compile(source)).rejects.toMatchObject({ name: 'Failure', code: 'invalid' })
  })

  test.each([
    ['ä = session.regoin', /no fact `regoin` is declared; declared are `customer_id`, .* \(at character 5 of /],
    ['a = session.region.x', /expected `session\.<name>`, the name of one fact \(at character 5/],
    ['a in (select session.*)', /expected `session\.<name>`/],
    ['a = session /* . */ . region', /expected `session\.region` in one piece \(at character 5/],
    ['a = $1', /a parameter stands for nothing here.* \(at character 5/],
    ['id in (select id from tickets)', /`tickets` needs its schema: `public\.tickets` \(at character 23/],
    ['ä = = 1', /expected an expression of SQL: syntax error at or near "=" \(at character 5/],
  ])('%s: told where, and what was expected', async (source, message) => {
    await expect(compile(source)).rejects.toThrow(message)
  })

  test('where no fact is declared', async () => {
    await expect(compileFilter('a = session.b', {}, names)).rejects.toThrow('none is: `facts` declares them')
  })
})
