import { describe, expect, test } from 'vitest'
import { describeTable } from '../../../test/support/postgres-desk.ts'
import type { Database, Mask } from '../../postgres/description.ts'
import { namesOf } from '../../postgres/names.ts'
import type { PostgresResource } from './resource.ts'
import { createSeen } from './seen.ts'
import type { May } from './seen.ts'

const select = new Map<string, Mask>([['id', 'none']])
const database: Database = {
  alias: 'desk',
  tables: new Map(
    Array.from({ length: 80 }, (_, n) =>
      describeTable(`t${n}`, { select, insert: ['id'], update: ['id'], delete: true, key: ['id'] }),
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
const holding =
  (...held: readonly string[]): May =>
  (permission) =>
    held.includes(permission)

describe('what of a database a session may know', () => {
  test('what is not held is not in it: tables, and what can be done to one', () => {
    const { tables } = createSeen(resource)(
      holding('desk.t1:select', 'desk.t2:insert', 'desk.t3:update', 'desk.t4:delete'),
    )
    const said = [...tables].map(([name, table]) => [name, table.select.size, table.insert, table.update, table.delete])
    expect(said).toEqual([
      ['t1', 1, [], [], false],
      ['t2', 0, ['id'], [], false],
      ['t3', 0, [], ['id'], false],
      ['t4', 0, [], [], true],
    ])
    expect(createSeen(resource)(() => false).tables.size).toBe(0)
  })

  test('an update that is held for one of its effects is held', () => {
    const may: May = (permission, effect) => permission === 'desk.t1:update' && effect === 'destroy'
    expect([...createSeen(resource)(may).tables.keys()]).toEqual(['t1'])
  })

  test('the same holdings have the same description, so that verdicts are kept; only the latest stay', () => {
    const seen = createSeen(resource)
    const first = seen(holding('desk.t1:select'))
    expect(seen(holding('desk.t1:select'))).toBe(first)
    for (let n = 2; n < 60; n++) {
      seen(holding(`desk.t${n}:select`))
      if (n < 20) expect(seen(holding('desk.t1:select'))).toBe(first)
    }
    expect(seen(holding('desk.t1:select'))).not.toBe(first)
  })
})
