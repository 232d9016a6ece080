import { afterAll, describe, expect, test } from 'vitest'
import { describeTable } from '../../../test/support/postgres-desk.ts'
import type { JsonObject } from '../../core/json.ts'
import { schemaCompiler } from '../../guard/schema.ts'
import type { Database, Mask } from '../../postgres/description.ts'
import { namesOf } from '../../postgres/names.ts'
import { openChecker } from '../../postgres/parse.ts'
import type { PostgresResource } from './resource.ts'
import type { May } from './seen.ts'
import { toolsFor } from './tools.ts'
import { stepOf } from './wire/step.ts'

// What a session does not hold is refused by both ways in, also where the check of the statement knew more than it.

const columns = new Map<string, Mask>([
  ['id', 'none'],
  ['name', 'none'],
])
const database: Database = {
  alias: 'desk',
  tables: new Map(
    ['tickets', 'secrets'].map((name) =>
      describeTable(name, { select: columns, insert: ['name'], update: ['name'], delete: true, key: ['id'] }),
    ),
  ),
  facts: {},
  functions: [],
  catalog: 'names',
  most: { rows: 10, bytes: 1_000, time: 1_000, statement: 1_000 },
}
const resource: PostgresResource = {
  alias: 'desk',
  database,
  names: namesOf('desk'),
  address: () => {
    throw new Error('nobody connects')
  },
  secrets: [],
  connections: 1,
  tools: new Map(),
  held: new Map(),
}
const unused = (): never => {
  throw new Error('nothing is done')
}
const compile = schemaCompiler()

describe('what a session does not hold', () => {
  const checker = openChecker({ deadline: 20_000 })
  afterAll(() => checker.close())

  async function byTool(text: string, may: May) {
    const [query] = toolsFor({
      resource,
      pool: { use: unused, ended: unused, close: unused },
      impact: unused,
      check: (sql) => checker.check(sql, database, { one: true }),
      // As a moment before something was taken away.
      seen: () => database,
      may: (_session, permission, effect) => may(permission, effect),
      mask: (value) => value,
      compile: (schema: JsonObject) => compile(schema),
    })
    const call = await query!.prepare({ sql: text }, 'one')
    if ('answer' in call) throw new TypeError('it is a call')
    return call.action?.refused
  }

  async function byWire(text: string, may: May) {
    const verdict = await checker.check(text, database)
    if (verdict.kind === 'refused') throw new TypeError(verdict.because)
    const step = stepOf('one', resource, may, verdict.statements[0]!, text, [])
    return step.kind === 'free' ? undefined : step.action.refused
  }

  const ways = [
    ['the tool', byTool],
    ['the wire', byWire],
  ] as const
  const all: May = () => true

  test.each(ways)('by %s: what it holds goes on', async (_way, refusedBy) => {
    expect(await refusedBy('select name from tickets', all)).toBeUndefined()
  })

  test.each(ways)('by %s: a table of which it holds nothing is one that is not there', async (_way, refusedBy) => {
    const tickets: May = (permission) => permission.startsWith('desk.tickets:')
    const absent = await checker.check('select name from nowhere', database)
    for (const text of [
      'select name from secrets',
      'select t.name from tickets t join secrets s on s.id = t.id',
      "insert into secrets (name) values ('x')",
      "with gone as (delete from secrets where id = 1 returning id) update tickets set name = 'x' where id = 1",
    ]) {
      const refused = await refusedBy(text, tickets)
      expect([text, refused?.rule]).toEqual([text, 'sql:42P01'])
      expect(refused?.because.replaceAll('secrets', 'nowhere')).toBe((absent as { because: string }).because)
    }
  })

  test.each(ways)('by %s: something of a table is not everything of it', async (_way, refusedBy) => {
    const some: May = (permission, effect) => permission === 'desk.tickets:select' || effect === 'write'
    for (const [text, what] of [
      ["update tickets set name = 'x'", 'update without the whole key in its condition'],
      ['delete from tickets where id = 1', 'delete'],
    ])
      expect(await refusedBy(text!, some)).toMatchObject({
        rule: 'sql:42501',
        because: `permission denied for table tickets: ${what} is not among what this session may do to it`,
      })
    expect(await refusedBy("update tickets set name = 'x' where id = 1", some)).toBeUndefined()
  })
})
