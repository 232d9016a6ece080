import type { Effect, Permission } from '../../core/permission.ts'
import { verbs } from '../../postgres/description.ts'
import type { Database, Table, Verb } from '../../postgres/description.ts'
import { effectOf, tablePermission } from './action.ts'
import type { PostgresResource } from './resource.ts'

export type May = (permission: Permission, effect: Effect) => boolean

/** How many descriptions are kept for one database. Agents are few, and what they hold seldom changes. */
const mostKept = 32

/** What a session may do to a table, whatever the conditions. */
export const verbsFor = ({ alias }: PostgresResource, table: Table, may: May): readonly Verb[] =>
  verbs.filter((verb) => {
    const effects: readonly Effect[] =
      verb === 'update' ? ['write', 'destroy'] : [effectOf({ table: table.name, verb, columns: [], isBounded: true })]
    return effects.some((effect) => may(tablePermission(alias, { table: table.name, verb }), effect))
  })

/**
 * The description as a session may know it: what it does not hold is not in it. Statements are checked against this, so
 * that a table that isn't held and one that isn't there take the same way to the same answer.
 */
export function createSeen(resource: PostgresResource): (may: May) => Database {
  const kept = new Map<string, Database>()

  return (may) => {
    const held = new Map([...resource.database.tables].map(([name, table]) => [name, verbsFor(resource, table, may)]))
    const key = [...held].map(([name, some]) => `${name}:${some.join()}`).join(' ')
    const found = kept.get(key) ?? narrowed(resource.database, held)
    kept.delete(key)
    kept.set(key, found)
    const [oldest] = kept.keys()
    if (kept.size > mostKept && oldest !== undefined) kept.delete(oldest)
    return found
  }
}

function narrowed(database: Database, held: ReadonlyMap<string, readonly Verb[]>): Database {
  const tables = [...database.tables].flatMap(([name, table]): [string, Table][] => {
    const some = held.get(name) ?? []
    if (some.length === 0) return []
    return [
      [
        name,
        {
          ...table,
          select: some.includes('select') ? table.select : new Map(),
          insert: some.includes('insert') ? table.insert : [],
          update: some.includes('update') ? table.update : [],
          delete: table.delete && some.includes('delete'),
        },
      ],
    ]
  })
  return { ...database, tables: new Map(tables) }
}
