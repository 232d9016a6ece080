import type { Verb } from '../../postgres/description.ts'
import type { Settings } from '../../postgres/setup.ts'
import type { Address, PostgresResource } from './resource.ts'

/** What each agent's role may do: what its own lists and those of others name, and what its tools need. */
export function settingsOf(
  { held, tools, connections }: PostgresResource,
  address: Pick<Address, 'user' | 'password' | 'database'>,
): Settings {
  const agents = [...held].map(([agent, of]) => {
    const tables = new Map([...of.tables].map(([table, verbs]) => [table, new Set(verbs)]))
    const uses = [...of.tools].flatMap((tool) => tools.get(tool)?.statement.uses ?? [])
    for (const { table, verb } of uses) tables.set(table, (tables.get(table) ?? new Set<Verb>()).add(verb))
    return [agent, tables] as const
  })
  const { user, password, database: databaseName } = address
  const gateway = { user, ...(password === '' ? {} : { password }) }
  return { databaseName, gateway, agents: new Map(agents), connections }
}
