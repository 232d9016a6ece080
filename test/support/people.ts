import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { generateKeyPairSync } from 'node:crypto'
import type { AuditEvent, AuditHealth, AuditLog } from '../../src/core/audit.ts'
import type { Caller, Role } from '../../src/core/identity.ts'
import type { ControlPorts, Databases, Operation } from '../../src/control/ports.ts'
import { createControl } from '../../src/control/server.ts'
import type { Reloaded } from '../../src/control/wire.ts'
import { Failure } from '../../src/core/failure.ts'
import type { Pin } from '../../src/core/pin.ts'
import { createTokens } from '../../src/guard/tokens.ts'
import { testVault } from './vault.ts'
import type { Vault } from '../../src/guard/vault.ts'
import { action, counted, createWorld, nobodyLeaves } from './world.ts'
import type { World } from './world.ts'
import type { JsonObject } from '../../src/core/json.ts'
import type { Effect } from '../../src/core/permission.ts'

/** The people's side over a policy, listening on loopback, with everything behind it that no upstream is needed for. */
export interface PeopleSide {
  readonly url: string
  readonly world: World
  readonly vault: Vault
  /** Texts of keys, by name of the holder: a person per role, a service, and an agent. */
  readonly keys: Readonly<Record<'admin' | 'approver' | 'auditor' | 'desk' | 'agent', string>>
  /** Definitions of operations, as a gateway would know them. */
  readonly operations: Map<string, Operation>
  readonly reloads: string[]
  audit: AuditHealth
  reloadWith: (by: string) => Promise<Reloaded>
  /** A session of the agent, started by the person `admin`. */
  startSession(agent: string): Promise<string>
  /** Lets an agent try something that people are asked about; resolves with the id of the question. */
  question(session: string, permission: string, args?: JsonObject, effect?: Effect): Promise<string>
  /** Cuts whoever is connected; new connections are taken. */
  dropConnections(): void
  close(): Promise<void>
}

const people: Readonly<Record<string, { readonly roles: readonly Role[]; readonly teams: readonly string[] }>> = {
  admin: { roles: ['admin'], teams: [] },
  approver: { roles: ['approver'], teams: ['billing'] },
  auditor: { roles: ['auditor'], teams: [] },
}

export const peoplePolicy = `
facts: { customer_id: int, region: string }
people:
  admin: { roles: [admin] }
  approver: { roles: [approver], teams: [billing] }
  auditor: { roles: [auditor] }
services: { desk: { starts: [reader] } }
resources:
  helpdesk: { mcp: { command: ['true'] }, tools: { search: read } }
  billing: { mcp: { command: ['true'] }, tools: { refund: destroy } }
  crm: { mcp: { command: ['true'] } }
agents:
  reader:
    may: ['helpdesk:search']
    limits: { calls: 100/min }
  responder:
    may:
      - helpdesk:search
      - { do: 'billing:refund', when: 'args.amount <= 5000', ask: { people: billing, within: 15 min } }
      - { do: 'crm:*' }
rules:
  - { deny: 'crm:export', because: customer lists stay here }
`

const noDatabases: Databases = {
  list: () => [],
  plan: async (name) => noDatabase(name),
  apply: async (name) => noDatabase(name),
  verify: async (name) => noDatabase(name),
  remove: async (name) => noDatabase(name),
  changes: async (name) => noDatabase(name),
  undo: async (name) => noDatabase(name),
  suggest: async (name) => noDatabase(name),
}
const noDatabase = (name: string): never => {
  throw new Failure('not_found', `there is no database \`${name}\``)
}

/** @param databases - What is behind, over the audit log and the clock of its world. */
export async function startPeopleSide(
  yaml = peoplePolicy,
  databases: (world: World) => Databases = () => noDatabases,
): Promise<PeopleSide> {
  const world = await createWorld(yaml)
  const { policies, sessions, approvals, guard, keys, audit, clock, stores } = world
  const tokens = await createTokens('http://agents.test', [generateKeyPairSync('ed25519').privateKey], clock)
  const operations = new Map<string, Operation>()
  const reloads: string[] = []

  const callers = (holder: string): Caller | undefined => {
    const name = holder.slice(holder.indexOf(':') + 1)
    if (holder === 'service:desk') return { kind: 'service', name, starts: ['reader'] }
    const known = holder.startsWith('person:') && Object.hasOwn(people, name) ? people[name] : undefined
    return known === undefined ? undefined : { kind: 'person', name, ...known }
  }

  const log: AuditLog = {
    name: 'test',
    append: (event, wait) => audit.append(event, wait),
    get: async (id) => audit.events.find((event) => event.id === id),
    search: async ({ type, session }, { limit = 50 } = {}) => ({
      events: audit.events
        .filter(
          (event) =>
            (type === undefined || event.type === type) && (session === undefined || event['session'] === session),
        )
        .reverse()
        .slice(0, limit),
    }),
    async *tail({ signal } = {}) {
      let sent = audit.events.length
      for (;;) {
        if (signal?.aborted === true) return
        while (sent < audit.events.length) yield audit.events[sent++] as AuditEvent
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    },
    inclusion: async () => {
      throw new Failure('not_found', 'no checkpoint covers the event')
    },
    consistency: async () => {
      throw new Failure('invalid', 'there are no checkpoints')
    },
    checkpoint: async () => 'test\n0\n',
    health: () => side.audit,
    close: async () => {},
  }

  const server = http.createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  const vault = await testVault(stores.secrets, audit, clock)
  const ports: ControlPorts = {
    sessions,
    tokens,
    keys,
    vault,
    approvals,
    guard,
    policies,
    versions: stores.versions,
    stopStore: stores.stops,
    pins: stores.pins,
    audit: log,
    databases: databases(world),
    clock,
    startedAt: 0,
    callers,
    tokenForm: () => 'opaque',
    hideSecrets: (text) => text,
    operations: {
      find: (permission) => operations.get(permission),
      status: () => [{ name: 'crm', kind: 'mcp', state: 'ready', tools: 3, quarantined: 1 }],
      difference: ({ definition, proposed }: Pin) =>
        `- ${JSON.stringify(definition)}\n+ ${JSON.stringify(proposed?.definition)}`,
      async accept(resource, kind, name, digest, by) {
        const pin = (await stores.pins.list(resource)).find((each) => each.kind === kind && each.name === name)
        if (pin?.proposed === undefined) throw new Failure('not_found', 'nothing is proposed')
        if (pin.proposed.digest !== digest) throw new Failure('conflict', 'it has changed again')
        const { proposed, ...kept } = pin
        await stores.pins.put({ ...kept, ...proposed, acceptedAt: clock(), acceptedBy: by })
      },
    },
    reload: (by) => side.reloadWith(by),
    status: (caller, pending) => ({
      version: '0.1.0',
      startedAt: clock(),
      agents: { url: 'http://agents.test' },
      people: { url },
      policy: {
        digest: policies.current().policy.digest,
        file: '/etc/sallyport/sallyport.yaml',
        loadedAt: clock(),
        warnings: [],
      },
      audit: { ...side.audit, name: 'test' },
      sessions: sessions.live().length,
      pending,
      stops: sessions.stops(),
      resources: ports.operations.status(),
      caller: `${caller.kind}:${caller.name}`,
    }),
  }

  // Each a moment after the one before: what is listed by time has an order.
  const key = async (holder: string): Promise<string> => {
    world.time.now += 1
    return (await keys.issue(holder, 'test')).text
  }
  const side: PeopleSide = {
    url,
    world,
    vault,
    operations,
    reloads,
    audit: { state: 'ok', size: 0, signed: 0, waiting: 0, refused: 0 },
    reloadWith: async (by) => {
      reloads.push(by)
      return { digest: policies.current().policy.digest, changed: false, warnings: [] }
    },
    keys: {
      admin: await key('person:admin'),
      approver: await key('person:approver'),
      auditor: await key('person:auditor'),
      desk: await key('service:desk'),
      agent: await key('agent:reader'),
    },
    async startSession(agent) {
      world.time.now += 1
      const session = await sessions.start({ agent, behalf: 'person:admin', startedBy: 'person:admin' })
      return session.id
    },
    async question(session, permission, args = {}, effect = 'destroy') {
      world.time.now += 1
      const { perform } = counted()
      const outcome = await guard.run(action(session, permission, args, { effect }), perform, { most: 0 }, nobodyLeaves)
      const id = outcome.kind === 'refused' ? outcome.refusal.approval?.id : undefined
      if (id === undefined) throw new Error(`expected a question, got ${JSON.stringify(outcome)}`)
      return id
    },
    dropConnections: () => server.closeAllConnections(),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  const control = createControl(ports, {
    hosts: new Set(['127.0.0.1', 'localhost']),
    report: (failure) => console.error(failure.cause ?? failure),
    turnedAway: () => {},
  })
  server.on('request', (request, response) => void control(request, response))
  return side
}
