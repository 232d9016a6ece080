import type { Action, Problem } from '../../core/action.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import type { Guard } from '../../guard/guard.ts'
import type { Masker } from '../../guard/mask.ts'
import { schemaCompiler } from '../../guard/schema.ts'
import type { Sessions } from '../../guard/sessions.ts'
import type { Tool, Tools } from '../../guard/tool.ts'
import type { Database } from '../../postgres/description.ts'
import { createReachFinder } from '../../postgres/impact.ts'
import { openChecker } from '../../postgres/parse.ts'
import type { Checker } from '../../postgres/parse.ts'
import { refusedAction, statementAction } from './action.ts'
import { createConnections } from './connect.ts'
import type { Connections } from './connect.ts'
import { createImpact } from './impact.ts'
import type { Impact } from './impact.ts'
import { createEmbeddedDatabases } from './pglite.ts'
import { createPool } from './pool.ts'
import type { Pool } from './pool.ts'
import type { PostgresResource } from './resource.ts'
import { createSeen } from './seen.ts'
import type { May } from './seen.ts'
import { toolsFor } from './tools.ts'

export interface PostgresGatewayPorts {
  readonly guard: Pick<Guard, 'run' | 'visible'>
  readonly sessions: Pick<Sessions, 'get' | 'onEnd'>
  readonly resources: readonly PostgresResource[]
  readonly mask: Pick<Masker, 'json'>
  readonly report: (thrown: unknown) => void
  /** Milliseconds that a database has for a connection, and for each statement of Sallyport's own, where it is not 10,000. */
  readonly patience?: number
}

/** One database in use. */
export interface Live {
  readonly resource: PostgresResource
  readonly checker: Checker
  readonly connections: Connections
  readonly pool: Pool
  readonly impact: Impact
  /** The description as a session may know it: what statements are to be checked against. */
  readonly seen: (may: May) => Database
  readonly tools: readonly Tool[]
}

export interface PostgresOperation {
  readonly effect: Effect
  readonly label: Label
  readonly description?: string
  readonly schema: JsonObject | undefined
  readonly check: (args: JsonObject) => readonly Problem[]
  /** What an action is with these arguments, where that follows from a statement in them. */
  readonly complete?: (args: JsonObject) => Promise<Partial<Action>>
}

export interface PostgresStatus {
  readonly name: string
  readonly kind: 'postgres'
  readonly state: 'ready'
  readonly tools: number
  readonly quarantined: number
}

export interface PostgresGateway extends Tools {
  /** The databases that are in use now, by name. */
  live(): ReadonlyMap<string, Live>
  find(permission: Permission): PostgresOperation | undefined
  status(): readonly PostgresStatus[]
  /** Makes ready for other resources; what it returns takes them over. */
  prepare(resources: readonly PostgresResource[]): () => void
  close(): Promise<void>
}

/** How long what was there before stays open, for statements that wait for people, in milliseconds. */
const retireAfter = 60_000

/** Serves databases: single statements as tools, and whatever else goes through `live`. */
export function createPostgresGateway(ports: PostgresGatewayPorts): PostgresGateway {
  const { guard, sessions, mask, report } = ports
  const compile = schemaCompiler()
  const finder = createReachFinder()
  const embedded = createEmbeddedDatabases(report)
  const open = new Set<Live>()
  let live = new Map<string, Live>()
  /** Of all databases together, once there is one. */
  let checker: Checker | undefined
  let revision = 0

  function make(resource: PostgresResource): Live {
    checker ??= openChecker()
    const reads = checker
    const connections = createConnections(
      resource,
      report,
      resource.embedded === undefined ? undefined : embedded.open(resource),
      ports.patience,
    )
    const pool = createPool(connections, sessions)
    const impact = createImpact(resource, pool, finder)
    const seen = createSeen(resource)
    const tools = toolsFor({
      resource,
      pool,
      impact,
      seen,
      compile: (schema) => compile(schema),
      check: (text, description, session) => reads.check(text, description, { one: true, caller: session }),
      may: (session, permission, effect) => guard.visible(session, permission, effect),
      mask: (value: Json) => mask.json(value),
    })
    const made = { resource, checker: reads, connections, pool, impact, seen, tools }
    open.add(made)
    return made
  }

  async function end(gone: Live): Promise<void> {
    open.delete(gone)
    gone.pool.close()
    await gone.connections.close()
  }

  function prepare(resources: readonly PostgresResource[]): () => void {
    const next = new Map(resources.map((resource) => [resource.alias, make(resource)]))
    return () => {
      const before = live
      live = next
      revision += 1
      // Statements that are under way, or wait for people, go on for a while; nothing else holds connections.
      for (const { pool } of before.values()) pool.close()
      for (const gone of before.values()) setTimeout(() => void end(gone).catch(report), retireAfter).unref()
    }
  }

  prepare(ports.resources)()
  sessions.onEnd((ids) => {
    for (const { pool, connections } of open) {
      pool.ended(ids)
      connections.ended(ids)
    }
  })

  const tools = (): readonly Tool[] => [...live.values()].flatMap((each) => each.tools)

  return {
    live: () => live,
    tools,
    revision: () => revision,
    prepare,
    find(permission) {
      const tool = tools().find((each) => each.permission === permission)
      if (tool !== undefined) return tool
      const [, alias = '', name = '', verb = ''] = /^([^.:]+)\.([^.:]+):(.+)$/.exec(permission) ?? []
      const found = live.get(alias)
      const table = found?.resource.database.tables.get(name)
      if (found === undefined || table === undefined || !['select', 'insert', 'update', 'delete'].includes(verb))
        return undefined
      return {
        effect: verb === 'select' ? 'read' : verb === 'delete' ? 'destroy' : 'write',
        label: table.label,
        schema: undefined,
        check: () => [],
        complete: (args) => completed(found, args),
      }
    },
    status: () =>
      [...live.values()].map((each) => ({
        name: each.resource.alias,
        kind: 'postgres',
        state: 'ready',
        tools: each.tools.length,
        quarantined: 0,
      })),
    async close() {
      const all = await Promise.allSettled([...open].map(end))
      for (const each of all) if (each.status === 'rejected') report(Failure.from(each.reason))
      await checker?.close()
    },
  }
}

/** The action that a statement is: what it does to each table, as conditions see it. Nothing, where no statement is given. */
async function completed(
  { resource, checker }: Live,
  { statement: text, parameters, columns }: JsonObject,
): Promise<Partial<Action>> {
  if (typeof text !== 'string' || columns !== undefined) return {}
  const given = Array.isArray(parameters) ? (parameters as readonly Json[]) : []
  const verdict = await checker.check(text, resource.database, { one: true })
  if (verdict.kind === 'refused') return refusedAction('', resource, text, verdict, { parameters: given })
  const [statement] = verdict.statements
  return statement === undefined || statement.uses.length === 0
    ? {}
    : statementAction('', resource, statement, text, given)
}
