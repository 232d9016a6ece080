import { hash } from 'node:crypto'
import path from 'node:path'
import { addressProblem, embeddedFolder, heldOf, toolArguments } from '../config/postgres.ts'
import { apiOf } from '../config/api.ts'
import type { DocumentedApi } from '../config/api.ts'
import { isLoopback } from '../config/schema.ts'
import type { Secret } from '../config/secret.ts'
import { Failure } from '../core/failure.ts'
import type { Label } from '../core/label.ts'
import type { FunctionResource } from '../gateway/api/functions.ts'
import type { HttpResource } from '../gateway/http/resource.ts'
import type { ProxyResources } from '../gateway/http/proxy.ts'
import type { McpResource } from '../gateway/mcp/resource.ts'
import type { Address, PostgresResource, SqlTool } from '../gateway/postgres/resource.ts'
import type { Pinned } from '../guard/pins.ts'
import { namesOf } from '../postgres/names.ts'
import type { Configured } from './configured.ts'

/** The MCP servers of the configuration, as the gateway takes them. What their credentials are is asked when they are used. */
export function toResources({ resources }: Configured): readonly McpResource[] {
  return Object.entries(resources).flatMap(([alias, resource]): McpResource[] => {
    if (!('mcp' in resource)) return []
    const { mcp, tools, trust: byDefault, readers } = resource
    const label = ({ trust = byDefault, readers: who = readers }: Partial<Label>): Label => ({ trust, readers: who })
    const reveal = (secrets: Readonly<Record<string, Secret>>) => (): Record<string, string> =>
      Object.fromEntries(Object.entries(secrets).map(([name, secret]) => [name, secret.reveal()]))
    return [
      {
        alias,
        target:
          mcp.kind === 'stdio'
            ? { kind: 'stdio', command: mcp.command, cwd: mcp.cwd, env: reveal(mcp.env), mark: markOf(mcp.env) }
            : { kind: 'http', url: mcp.url, headers: reveal(mcp.headers), mark: markOf(mcp.headers, 'each time') },
        ...(mcp.kind === 'http'
          ? { secrets: [...new Set(Object.values(mcp.headers).flatMap(({ uses }) => uses))] }
          : {}),
        era: mcp.era,
        tools: new Map(
          Object.entries(tools).map(([name, tool]) => [name, { effect: tool.effect, label: label(tool) }]),
        ),
        label: label({}),
        resources: { label: label(resource.resources) },
        prompts: { label: label(resource.prompts) },
        ...(resource.pins === 'first-sight' ? {} : { pins: new Map(Object.entries(resource.pins)) }),
        asks: { elicitation: resource.elicitation, sampling: resource.sampling, roots: resource.roots },
        prefix: resource.prefix,
        timeout: resource.timeout,
        result: resource.result,
      },
    ]
  })
}

/** The APIs of the configuration, as the gateway takes them, with what documents say held to what was seen first. */
export async function toApis(
  { resources, documents, certificates }: Pick<Configured, 'resources' | 'documents' | 'certificates'>,
  pinned: Pinned,
): Promise<readonly HttpResource[]> {
  const apis: HttpResource[] = []
  for (const [alias, resource] of Object.entries(resources)) {
    if (!('http' in resource)) continue
    const documented = new Map<string, DocumentedApi>()
    for (const [id, { settings, definition }] of documents.get(alias) ?? []) {
      const standing = await pinned.hold(alias, 'tool', id, definition)
      documented.set(
        id,
        standing.kind === 'accepted'
          ? { settings }
          : { settings, barred: { code: 'quarantined', because: standing.because } },
      )
    }
    const ca = certificates.get(alias)
    apis.push({ ...apiOf(alias, resource, documented), ...(ca === undefined ? {} : { ca }) })
  }
  return apis
}

/** What the proxy leads to: the same APIs, and the hosts that pass unopened. */
export function toProxied({ resources }: Pick<Configured, 'resources'>, apis: readonly HttpResource[]): ProxyResources {
  const tunnels = Object.entries(resources).flatMap(([alias, resource]) => {
    if (!('tunnel' in resource)) return []
    const { tunnel: hosts, trust, readers, limits: _, ...rest } = resource
    return [{ ...rest, alias, hosts, label: { trust, readers } }]
  })
  return { http: apis, tunnels }
}

/** The functions of agents' own programs, as the decision API takes them. */
export function toFunctions({ resources }: Configured): readonly FunctionResource[] {
  return Object.entries(resources).flatMap(([alias, resource]): FunctionResource[] => {
    if (!('functions' in resource)) return []
    const { functions, timeout, result, trust, readers } = resource
    const labelled = Object.entries(functions).map(
      ([name, { label, ...each }]) => [name, { ...each, label: { trust, readers, ...label } }] as const,
    )
    return [{ alias, functions: new Map(labelled), timeout, result }]
  })
}

/** The databases of the configuration, as the gateway takes them. */
export function toDatabases({ resources, databases, loaded, certificates }: Configured): readonly PostgresResource[] {
  return Object.entries(resources).flatMap(([alias, resource]): PostgresResource[] => {
    const read = databases.get(alias)
    if (!('postgres' in resource) || read === undefined) return []
    const { secrets, connections, trust, readers } = resource
    const ca = certificates.get(alias)
    const folder = embeddedFolder(resource)
    const beside = (file: string): string => path.resolve(path.dirname(loaded.file), file)
    const tools = [...read.tools].flatMap(([name, statement]): [string, SqlTool][] => {
      const given = resource.tools[name]
      if (given === undefined) return []
      const { sql, description, arguments: args, rows, trust: by = trust, readers: to = readers } = given
      return [
        [
          name,
          {
            sql,
            statement,
            ...(description === undefined ? {} : { description }),
            schema: toolArguments(given),
            parameters: Object.keys(args),
            ...(rows === undefined ? {} : { rows }),
            label: { trust: by, readers: to },
          },
        ],
      ]
    })
    return [
      {
        alias,
        database: read.database,
        names: namesOf(alias),
        address: () => addressIn(alias, secrets.address.reveal(), secrets.password?.reveal(), resource.tls, ca),
        ...(folder === undefined
          ? {}
          : {
              embedded: {
                folder: beside(folder),
                ...(resource.init === undefined ? {} : { init: beside(resource.init) }),
              },
            }),
        secrets: [...new Set([...secrets.address.uses, ...(secrets.password?.uses ?? [])])],
        connections,
        tools: new Map(tools),
        held: heldOf(alias, resource, loaded.settings.agents),
      },
    ]
  })
}

/** Fails with `unavailable` where a stored address is none. */
function addressIn(
  alias: string,
  text: string,
  password: string | undefined,
  tls: 'verify' | 'off' | undefined,
  ca: string | undefined,
): Address {
  if (text.startsWith('pglite:'))
    throw new Failure(
      'invalid',
      `\`${alias}\` is an embedded database: it sets itself up when it is opened, and has no address`,
    )
  const wrong = addressProblem(text)
  if (wrong !== undefined) throw new Failure('unavailable', `the address of \`${alias}\` is wrong: ${wrong}`)
  const url = new URL(text)
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  return {
    host,
    port: url.port === '' ? 5432 : Number(url.port),
    database: decodeURIComponent(url.pathname.slice(1)),
    user: decodeURIComponent(url.username),
    password: password ?? decodeURIComponent(url.password),
    tls: (tls ?? (isLoopback(host) ? 'off' : 'verify')) === 'off' ? 'off' : ca === undefined ? {} : { ca },
  }
}

/** What tells whether readers of secrets give what they gave. A value that is read each time need only be there. */
function markOf(secrets: Readonly<Record<string, Secret>>, read: 'once' | 'each time' = 'once'): string {
  const marks = Object.entries(secrets).map(([name, secret]) => {
    const mark = secret.mark()
    return [name, read === 'once' || secret.isFixed ? mark : mark !== undefined]
  })
  return hash('sha256', JSON.stringify(marks))
}
