import { loadSettings } from '../../src/config/load.ts'
import type { Json } from '../../src/core/json.ts'
import type { Operation } from '../../src/gateway/api/evaluation.ts'
import type { FunctionResource } from '../../src/gateway/api/functions.ts'
import { createDecisionApi } from '../../src/gateway/api/server.ts'
import { listenForAgents } from '../../src/gateway/listener.ts'
import { createWorld } from './world.ts'

export interface Answered {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any
}

/** The decision API over a policy, listening on loopback. The credential of a session is its id. */
export async function startDecisionApi(yaml: string, others: Readonly<Record<string, Operation>> = {}) {
  const world = await createWorld(yaml)
  const secret = 's3cret-value-of-the-house'
  const mask = <T extends Json>(value: T): T => JSON.parse(JSON.stringify(value).replaceAll(secret, '[secret]')) as T
  const reported: unknown[] = []
  const api = createDecisionApi({
    guard: world.guard,
    sessions: world.sessions,
    clock: world.clock,
    resources: functionsIn(yaml),
    find: (permission) => others[permission],
    mask,
    hold: { usual: 0, most: 2_000 },
    url: () => listener.url,
    report: (thrown) => reported.push(thrown),
  })
  const listener = await listenForAgents({
    host: '127.0.0.1',
    port: 0,
    hosts: [],
    origins: [],
    authenticate: async (credential) => credential,
    guarded: api.guarded,
    open: api.open,
    report: (thrown) => reported.push(thrown),
  })

  async function send(path: string, init: RequestInit): Promise<Answered> {
    const response = await fetch(listener.url + path, init)
    const text = await response.text()
    const isJson = response.headers.get('content-type') === 'application/json'
    return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : undefined }
  }

  return {
    world,
    api,
    secret,
    reported,
    url: listener.url,
    send,
    post: (path: string, session: string, body: unknown, headers: Record<string, string> = {}, signal?: AbortSignal) =>
      send(path, {
        method: 'POST',
        headers: { authorization: `Bearer ${session}`, 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
        ...(signal === undefined ? {} : { signal }),
      }),
    session: async (agent: string, behalf = 'desk', facts = {}) =>
      (await world.sessions.start({ agent, behalf, startedBy: 'person:admin', facts })).id,
    async close() {
      await api.close()
      await listener.close()
    },
  }
}

export type DecisionApiSide = Awaited<ReturnType<typeof startDecisionApi>>

function functionsIn(yaml: string): readonly FunctionResource[] {
  const { resources } = loadSettings(yaml, { file: '/nowhere/sallyport.yaml' }).settings
  return Object.entries(resources).flatMap(([alias, resource]) => {
    if (!('functions' in resource)) return []
    const { functions, timeout, result, trust, readers } = resource
    const labelled = Object.entries(functions).map(
      ([name, { label, ...each }]) => [name, { ...each, label: { trust, readers, ...label } }] as const,
    )
    return [{ alias, functions: new Map(labelled), timeout, result }]
  })
}
