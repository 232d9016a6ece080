// The HTTP gateway over a policy, with a real way in and a real API behind it: everything but the program that joins it.
import { createServer } from 'node:http'
import type { IncomingHttpHeaders, IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { generateKeyPairSync } from 'node:crypto'
import { apiOf } from '../../src/config/api.ts'
import { loadSettings } from '../../src/config/load.ts'
import { templatesOf } from '../../src/config/http.ts'
import { listenForAgents } from '../../src/gateway/listener.ts'
import { createHttpGateway } from '../../src/gateway/http/server.ts'
import type { HttpGatewayPorts } from '../../src/gateway/http/server.ts'
import type { HttpResource } from '../../src/gateway/http/resource.ts'
import { createAuthenticate } from '../../src/guard/authenticate.ts'
import { sha256 } from '../../src/guard/digest.ts'
import { createMasker } from '../../src/guard/mask.ts'
import { createTokens } from '../../src/guard/tokens.ts'
import { createWorld } from './world.ts'

/** A request as an API saw it. */
export interface ApiSeen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
}

export interface TestApi {
  readonly url: string
  readonly seen: ApiSeen[]
  /** Answers; by default with what it saw, as JSON. */
  on: (seen: ApiSeen, res: ServerResponse, req: IncomingMessage) => void | Promise<void>
  readonly server: Server
  close(): Promise<void>
}

export const json = (res: ServerResponse, value: unknown, status = 200): void =>
  void res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value))

export async function startApi(): Promise<TestApi> {
  const seen: ApiSeen[] = []
  const answer: RequestListener = (req, res) => {
    void (async () => {
      const chunks: Buffer[] = []
      for await (const chunk of req) chunks.push(chunk as Buffer)
      const one: ApiSeen = {
        method: req.method ?? '',
        url: req.url ?? '',
        headers: req.headers,
        rawHeaders: req.rawHeaders,
        body: Buffer.concat(chunks),
      }
      seen.push(one)
      await api.on(one, res, req)
    })().catch(() => res.destroy())
  }
  const server = createServer(answer)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const api: TestApi = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    on: ({ method, url, body }, res) => json(res, { method, url, body: body.toString() }),
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return api
}

/** The resources of a configuration, each credential text as it is written. */
export function resourcesIn(yaml: string): readonly HttpResource[] {
  const { settings } = loadSettings(yaml, { file: '/nowhere/sallyport.yaml' })
  return Object.entries(settings.resources).flatMap(([alias, resource]) => {
    if (!('http' in resource)) return []
    const secrets = Object.fromEntries(
      Object.entries(templatesOf(resource.credential)).map(([key, template]) => [
        key,
        {
          reveal: () => template.map((part) => (typeof part === 'string' ? part : '')).join(''),
          uses: [`test:${key}`],
        },
      ]),
    )
    return [apiOf(alias, { ...resource, secrets: secrets as never }, new Map())]
  })
}

export async function startHttpGateway(
  yaml: string,
  options: { readonly gateway?: Partial<HttpGatewayPorts>; readonly secrets?: Readonly<Record<string, string>> } = {},
) {
  const world = await createWorld(yaml)
  const { sessions, keys, audit, clock, guard } = world
  const { privateKey } = generateKeyPairSync('ed25519')
  const tokens = await createTokens('http://127.0.0.1', [privateKey], clock)
  const authenticate = createAuthenticate({ sessions, tokens, keys, issuers: () => [], audit, clock })
  const values = Object.entries(options.secrets ?? {}).map(([name, value]) => ({ name, value }))
  const reported: unknown[] = []
  const gateway = createHttpGateway({
    guard,
    sessions,
    audit,
    clock,
    resources: resourcesIn(yaml),
    mask: createMasker(() => values),
    hold: 0,
    report: (thrown) => reported.push(thrown),
    ...options.gateway,
  })
  const listener = await listenForAgents({
    host: '127.0.0.1',
    port: 0,
    hosts: [],
    origins: [],
    authenticate,
    guarded: {},
    below: { '/api/': gateway.handle },
    open: {},
    report: (thrown) => reported.push(thrown),
  })

  async function session(agent: string): Promise<{ id: string; token: string }> {
    const token = tokens.opaque()
    const { id } = await sessions.start({
      agent,
      behalf: 'person:dora',
      startedBy: 'service:test',
      tokenDigest: sha256(token),
    })
    return { id, token }
  }

  return {
    ...world,
    gateway,
    listener,
    reported,
    session,
    url: listener.url,
    async close() {
      await listener.close()
      await gateway.close()
    },
  }
}
