import { loadModule, parseSync, scanSync } from 'libpg-query'
import { beforeAll, describe, expect, test } from 'vitest'
import { countText, createReachFinder, estimateText, sampleText } from './impact.ts'
import { reachOf } from './reach.ts'

beforeAll(() => loadModule())
const reach = (text: string) => reachOf(text, { parseSync, scanSync })
const flat = (text: string): string => text.replaceAll(/\s+/g, ' ').trim()

describe('what a change reaches', () => {
  test.each<[string, string, string, readonly number[]]>([
    ['all rows', 'delete from tickets', 'select count(*) from tickets', []],
    ['a condition', 'delete from tickets where id = $1;', 'select count(*) from tickets where id = $1', [1]],
    ['an alias', 'delete from tickets as t where t.id = 1', 'select count(*) from tickets as t where t.id = 1', []],
    ['a bare alias', 'update tickets t set body = $1', 'select count(*) from tickets t', []],
    [
      'parameters that stand in SET alone',
      'update tickets set body = $1, amount = $2 where id = $3 and subject = $1',
      'select count(*) from tickets where id = $1 and subject = $2',
      [3, 1],
    ],
    [
      'a join, by the key',
      'update tickets t set body = c.name from customers c where c.id = t.customer_id',
      'select count(distinct ("t"."id")) from tickets t , customers c where c.id = t.customer_id',
      [],
    ],
    [
      'USING, with a join in it',
      'delete from tickets using a join b on a.x = b.x where tickets.id = a.id returning tickets.id',
      'select count(distinct ("tickets"."id")) from tickets , a join b on a.x = b.x where tickets.id = a.id',
      [],
    ],
    [
      'FROM in SET',
      'update tickets set a = b is distinct from c from d where d.id = tickets.id',
      'select count(distinct ("tickets"."id")) from tickets , d where d.id = tickets.id',
      [],
    ],
    [
      'words in brackets, strings and comments',
      `update tickets /* set */ set body = (select 'where' from x where y = 1) -- where
       where id in (select id from z returning_ where q = 'returning') returning id`,
      `select count(*) from tickets where id in (select id from z returning_ where q = 'returning')`,
      [],
    ],
    [
      'WITH',
      'with a as (select id from x where y = $2) delete from tickets where id in (select id from a) and body = $1',
      'with a as (select id from x where y = $1) select count(*) from tickets where id in (select id from a) and body = $2',
      [2, 1],
    ],
    [
      'INSERT of a SELECT',
      'insert into r (a, b) select x, $2 from t where y = $1 on conflict (a) do nothing returning a',
      'select count(*) from ( select x, $1 from t where y = $2 ) as counted',
      [2, 1],
    ],
    [
      'INSERT of a SELECT in brackets',
      'insert into r (a) (select x from t order by x limit 3)',
      'select count(*) from ( (select x from t order by x limit 3) ) as counted',
      [],
    ],
    [
      'letters of several bytes',
      `delete from tickets where body = 'größer 😀' and id = $1`,
      `select count(*) from tickets where body = 'größer 😀' and id = $1`,
      [1],
    ],
  ])('%s', (_, text, expected, parameters) => {
    const found = reach(text)
    if (found.kind !== 'query') throw new Error(JSON.stringify(found))
    expect(flat(countText(found, ['id']))).toBe(expected)
    expect(found.parameters).toEqual(parameters)
    for (const made of [countText(found, ['id']), sampleText(found, ['id'], 20), estimateText(found)])
      expect(() => parseSync(made)).not.toThrow()
  })

  test.each([
    ['insert into r (a) values (1), (2), (3)', { kind: 'rows', rows: 3, atMost: false }],
    ['insert into r default values', { kind: 'rows', rows: 1, atMost: false }],
    ['insert into r (a) values (1) on conflict do nothing', { kind: 'rows', rows: 1, atMost: true }],
  ])('%s', (text, expected) => expect(reach(text)).toEqual(expected))

  test.each([
    'with d as (delete from tickets returning id) select count(*) from d',
    'with d as (delete from tickets returning id) update r set a = 1 where id in (select id from d)',
    'with d as (update tickets set a = 1 returning id) insert into r select id from d',
    'delete from tickets where current of c',
    'update set set set = 1',
  ])('promise 3: no count is made up: %s', (text) => {
    const found = reach(text)
    // The last is none that the check lets through, and whatever comes out has to be true.
    if (text.startsWith('update set') && found.kind === 'query')
      expect(flat(countText(found, []))).toBe('select count(*) from set')
    else expect(found.kind).toBe('unknown')
  })

  test.each([
    ["delete from tickets where id = 1 and body = 'x'", 4],
    ["delete from tickets where id = 1 and body = 'x'", 8],
    ['update tickets set body = 1 from a where a.x = 2 and a.y = 3', 6],
    ['update tickets set body = 1 from a, b', 2],
    ['insert into r (a) select x from t limit 3', 2],
  ])('promise 3: a SELECT that means other rows is not used, whatever the tokens say: %s', (text, lost) => {
    const blind = {
      parseSync,
      scanSync: (given: string) => {
        const { tokens } = scanSync(given)
        return { tokens: given === text ? tokens.slice(0, -lost) : tokens }
      },
    }
    expect(reach(text).kind).toBe('query')
    expect(reachOf(text, blind)).toEqual({ kind: 'unknown', because: expect.stringMatching(/no SELECT/) })
  })

  test('in a thread, of several texts at once, and of what breaks the parser', async () => {
    const finder = createReachFinder()
    const found = await Promise.all(
      ['delete from t', 'no sql', 'insert into t (a) values (1)'].map((text) => finder.find(text, 'one')),
    )
    expect(found.map(({ kind }) => kind)).toEqual(['query', 'unknown', 'rows'])
  })

  test('promise 9: a flood of one caller delays nobody for long', { timeout: 30_000 }, async () => {
    const finder = createReachFinder()
    const flood = Array.from({ length: 100 }, () => finder.find('delete from t', 'many'))
    expect((await finder.find('delete from t', 'other')).kind).toBe('query')
    const kinds = (await Promise.all(flood)).map(({ kind }) => kind)
    expect(kinds.filter((kind) => kind === 'query')).toHaveLength(4)
  })
})
