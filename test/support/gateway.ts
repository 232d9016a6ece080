import { generateKeyPairSync } from 'node:crypto'
import type { Label } from '../../src/core/label.ts'
import { createAuthenticate } from '../../src/guard/authenticate.ts'
import { sha256 } from '../../src/guard/digest.ts'
import { createPinned } from '../../src/guard/pins.ts'
import type { StartRequest } from '../../src/guard/sessions.ts'
import { createTokens } from '../../src/guard/tokens.ts'
import { listenForAgents } from '../../src/gateway/listener.ts'
import type { ListenerOptions } from '../../src/gateway/listener.ts'
import type { McpResource, McpTarget, ToolSetting } from '../../src/gateway/mcp/resource.ts'
import { createMcpGateway } from '../../src/gateway/mcp/server.ts'
import type { McpGatewayPorts } from '../../src/gateway/mcp/server.ts'
import { createOAuth } from '../../src/gateway/oauth/server.ts'
import type { Command } from '../mcp/clients.ts'
import { createWorld } from './world.ts'
import type { World } from './world.ts'

export const label: Label = { trust: 'untrusted', readers: 'internal' }

/** A server behind the gateway, as configuration would describe it. */
export function mcpResource(
  alias: string,
  target: McpTarget | Command | string,
  more: Partial<McpResource> = {},
): McpResource {
  const reached: McpTarget =
    typeof target === 'string'
      ? { kind: 'http', url: target, headers: () => ({}) }
      : 'kind' in target
        ? target
        : { kind: 'stdio', command: [target.command, ...target.args], cwd: process.cwd(), env: () => target.env ?? {} }
  return {
    alias,
    target: reached,
    era: 'auto',
    tools: new Map(),
    label,
    resources: { label },
    prompts: { label },
    asks: { elicitation: true, sampling: false, roots: false },
    prefix: true,
    timeout: 20_000,
    result: 1_000_000,
    ...more,
  }
}

export const toolSettings = (
  effects: Readonly<Record<string, ToolSetting['effect']>>,
): ReadonlyMap<string, ToolSetting> =>
  new Map(Object.entries(effects).map(([name, effect]) => [name, { effect, label }]))

/** The gateway over a policy, with real clients' way in: everything but the program that joins it. */
export async function startGateway(
  yaml: string,
  resources: readonly McpResource[],
  options: {
    readonly world?: World
    readonly gateway?: Partial<McpGatewayPorts>
    readonly listener?: Partial<ListenerOptions>
  } = {},
) {
  const world = options.world ?? (await createWorld(yaml))
  const { sessions, keys, audit, clock, guard, approvals, stores } = world
  const { privateKey } = generateKeyPairSync('ed25519')
  const tokens = await createTokens('http://127.0.0.1', [privateKey], clock)
  const authenticate = createAuthenticate({ sessions, tokens, keys, issuers: () => [], audit, clock })
  const reported: unknown[] = []
  const gateway = await createMcpGateway({
    guard,
    sessions,
    approvals,
    pinned: await createPinned(stores.pins, audit, clock),
    audit,
    clock,
    resources,
    environment: process.env,
    report: (thrown) => reported.push(thrown),
    ...options.gateway,
  })
  const oauth = createOAuth({ authenticate, sessions, tokens, audit, clock, url: () => listener.url })
  const listener = await listenForAgents({
    host: '127.0.0.1',
    port: 0,
    hosts: [],
    origins: [],
    authenticate,
    guarded: { '/mcp': gateway.handle },
    open: oauth.routes,
    report: (thrown) => reported.push(thrown),
    ...options.listener,
  })
  await gateway.ready(15_000)

  /** Starts a session, and returns its id and token. */
  async function session(agent: string, more: Partial<StartRequest> = {}): Promise<{ id: string; token: string }> {
    const token = tokens.opaque()
    const { id } = await sessions.start({
      agent,
      behalf: 'person:dora',
      startedBy: 'service:test',
      ...more,
      tokenDigest: sha256(token),
    })
    return { id, token }
  }

  return {
    ...world,
    tokens,
    gateway,
    listener,
    reported,
    session,
    url: `${listener.url}/mcp`,
    async close() {
      await Promise.all([listener.close(), gateway.close()])
    },
  }
}
