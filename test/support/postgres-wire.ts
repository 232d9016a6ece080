// The wire protocol over the help desk of postgres-desk.ts, with the real guard: what tests of clients and of attacks share.
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { Failure } from '../../src/core/failure.ts'
import { openAuthority } from '../../src/gateway/http/certificates.ts'
import { createPostgresGateway } from '../../src/gateway/postgres/server.ts'
import { startSqlListener } from '../../src/gateway/postgres/wire/server.ts'
import type { SqlListenerOptions } from '../../src/gateway/postgres/wire/server.ts'
import { createMasker } from '../../src/guard/mask.ts'
import type { Masked } from '../../src/guard/mask.ts'
import type { Database } from '../../src/postgres/description.ts'
import { startDesk } from './postgres-desk.ts'
import type { PostgresServer } from './postgres.ts'
import { createWorld } from './world.ts'

export interface WireOptions {
  /** What agents may do; `%` is the alias of the database. */
  readonly worker?: readonly string[]
  readonly reader?: readonly string[]
  readonly rules?: readonly string[]
  /** How often an agent may repeat one statement in a minute. */
  readonly repeats?: number
  readonly change?: (database: Database) => Database
  /** Statements that make the tables, and what agents' roles hold of them. */
  readonly desk?: Omit<NonNullable<Parameters<typeof startDesk>[1]>, 'change'>
  readonly secrets?: readonly Masked[]
  /** Another way to the server, and how long its answers may take. */
  readonly way?: { readonly port: number; readonly patience: number }
  readonly listener?: Partial<SqlListenerOptions>
}

const everything = ['%.tickets', '%.responses', '%.customers'].map((table) => `"${table}:*"`)

export async function startWire(server: PostgresServer, options: WireOptions = {}) {
  const desk = await startDesk(server, {
    ...options.desk,
    ...(options.change === undefined ? {} : { change: options.change }),
  })
  const { alias } = desk.database
  const { gateway: role, databaseName } = desk.settings
  const entries = (given: readonly string[]): string => given.join(', ').replaceAll('%', alias)
  const tables = [...desk.database.tables.keys()].map(
    (name) => `${name}: { select: [id], insert: [id], update: [id], delete: true, key: [id] }`,
  )
  const world = await createWorld(`
facts: { customer_id: int }
resources:
  ${alias}: { postgres: "postgres://sallyport@127.0.0.1/desk", tables: { ${tables.join(', ')} } }
agents:
  desk-worker: { limits: { repeats: ${options.repeats ?? 1_000}/min }, may: [${entries(options.worker ?? everything)}] }
  reader: { may: [${entries(options.reader ?? ['"%.tickets:select"'])}] }
  stranger: { may: [] }
rules: [${entries(options.rules ?? [])}]
`)
  const reported: unknown[] = []
  const secrets = [...(options.secrets ?? [])]
  const masker = createMasker(() => secrets)
  const gateway = createPostgresGateway({
    guard: world.guard,
    sessions: world.sessions,
    resources: [
      {
        alias,
        database: desk.database,
        names: desk.plan.names,
        address: () => ({
          host: '127.0.0.1',
          port: options.way?.port ?? server.port,
          database: databaseName,
          user: role.user,
          password: role.password ?? '',
          tls: 'off',
        }),
        secrets: [],
        connections: 40,
        tools: new Map(),
        held: new Map(),
      },
    ],
    mask: masker,
    report: (thrown) => reported.push(thrown),
    ...(options.way === undefined ? {} : { patience: options.way.patience }),
  })
  const tokens = new Map<string, string>()
  const listener = await startSqlListener({
    host: '127.0.0.1',
    port: 0,
    authenticate: async (credential) => {
      const session = tokens.get(credential)
      if (session === undefined) throw new Failure('unauthenticated', 'unknown')
      return session
    },
    gateway,
    guard: world.guard,
    sessions: world.sessions,
    audit: world.audit,
    clock: world.clock,
    mask: masker,
    hold: 10_000,
    report: (thrown) => reported.push(thrown),
    ...options.listener,
  })
  const clients: { end(): Promise<void> }[] = []
  const sockets: net.Socket[] = []

  const wire = {
    alias,
    desk,
    world,
    gateway,
    listener,
    reported,
    /** A new session of an agent, and its token. */
    async session(agent = 'desk-worker', facts = { customer_id: 7 }) {
      const { id } = await world.sessions.start({ agent, behalf: 'person:ada', startedBy: 'person:ada', facts })
      const token = `token-${id}`
      tokens.set(token, id)
      return { id, token, agent }
    },
    async connect(agent = 'desk-worker', more: pg.ClientConfig = {}, facts = { customer_id: 7 }) {
      const { token } = await wire.session(agent, facts)
      return wire.connectAs(agent, token, more)
    },
    async connectAs(user: string, password: string, more: pg.ClientConfig = {}) {
      const client = new pg.Client({
        host: '127.0.0.1',
        port: listener.port,
        database: alias,
        user,
        password,
        ...more,
      })
      client.on('error', () => {})
      await client.connect()
      clients.push(client)
      return client
    },
    /** Bytes, and what comes back. */
    async raw() {
      const socket = net.connect(listener.port, '127.0.0.1')
      socket.on('error', () => {})
      sockets.push(socket)
      await once(socket, 'connect')
      return new RawClient(socket)
    },
    async rawLoggedIn(agent = 'desk-worker', parameters: Record<string, string> = {}) {
      const { token, id } = await wire.session(agent)
      const client = await wire.raw()
      client.send(startup({ user: agent, database: alias, ...parameters }))
      await client.until('R')
      client.send(frame('p', `${token}\0`))
      await client.until('Z')
      client.clear()
      return Object.assign(client, { session: id })
    },
    /** Lets all clients go, and waits until their connections are over. */
    async letGo() {
      for (const socket of sockets.splice(0)) socket.destroy()
      await Promise.all(clients.splice(0).map((client) => client.end().catch(() => {})))
      const { audit } = world
      for (const end = performance.now() + 10_000; performance.now() < end; await pause(10))
        if (audit.of('sql.open').length === audit.of('sql.close').length) return
      throw new Error('connections of agents stay open')
    },
    async close() {
      await wire.letGo()
      await listener.close()
      await gateway.close()
      await desk.close()
    },
  }
  return wire
}

export type Wire = Awaited<ReturnType<typeof startWire>>

/** One message of a client. */
export function frame(type: string, ...parts: readonly (string | Buffer)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)))
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeUInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

export const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

export const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

export function startup(parameters: Record<string, string>, version = 196_608): Buffer {
  const body = Buffer.concat([int32(version), Buffer.from(`${Object.entries(parameters).flat().join('\0')}\0\0`)])
  return Buffer.concat([int32(body.length + 4), body])
}

export const query = (text: string): Buffer => frame('Q', `${text}\0`)
export const parse = (name: string, text: string): Buffer => frame('P', `${name}\0${text}\0`, int16(0))
export const bind = (portal: string, statement: string, ...values: readonly string[]): Buffer =>
  frame(
    'B',
    `${portal}\0${statement}\0`,
    int16(0),
    int16(values.length),
    ...values.flatMap((value) => [int32(Buffer.byteLength(value)), value]),
    int16(0),
  )
export const execute = (portal = '', most = 0): Buffer => frame('E', `${portal}\0`, int32(most))
export const describeOf = (kind: 'S' | 'P', name = ''): Buffer => frame('D', `${kind}${name}\0`)
export const closeOf = (kind: 'S' | 'P', name = ''): Buffer => frame('C', `${kind}${name}\0`)
export const flush = frame('H')
export const sync = frame('S')

/** A certificate for `localhost`, and the one that signs it (PEM). */
export function testCertificate() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-tls-'))
  const files = { keyFile: path.join(folder, 'ca.key'), certificateFile: path.join(folder, 'ca.pem') }
  const authority = openAuthority({ ...files, clock: () => Date.now() })
  fs.rmSync(folder, { recursive: true })
  const { key, cert } = authority.credentialFor('localhost')
  return { ca: authority.pem, key, certificate: cert }
}

export interface Received {
  readonly type: string
  readonly body: Buffer
}

/** A client that sends what it is told to, and keeps what comes. */
export class RawClient {
  readonly socket: net.Socket
  frames: Received[] = []
  bytes = Buffer.alloc(0)
  isClosed = false
  private wakers: (() => void)[] = []

  constructor(socket: net.Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.bytes = Buffer.concat([this.bytes, chunk])
      for (;;) {
        if (this.bytes.length < 5) break
        const length = this.bytes.readUInt32BE(1)
        if (this.bytes.length < length + 1) break
        this.frames.push({
          type: String.fromCharCode(this.bytes[0] as number),
          body: this.bytes.subarray(5, length + 1),
        })
        this.bytes = this.bytes.subarray(length + 1)
      }
      this.wake()
    })
    socket.on('close', () => {
      this.isClosed = true
      this.wake()
    })
  }

  send(...bytes: readonly (Buffer | readonly Buffer[])[]): void {
    this.socket.write(Buffer.concat(bytes.flat()))
  }

  clear(): void {
    this.frames = []
  }

  /** Types of what came, in order. */
  get types(): string {
    return this.frames.map(({ type }) => type).join('')
  }

  rows(): (string | null)[][] {
    return this.frames
      .filter(({ type }) => type === 'D')
      .map(({ body }) => {
        const values: (string | null)[] = []
        let at = 2
        for (let count = body.readUInt16BE(0); count > 0; count--) {
          const length = body.readInt32BE(at)
          at += 4
          values.push(length < 0 ? null : body.toString('utf8', at, at + length))
          at += Math.max(0, length)
        }
        return values
      })
  }

  errors(): { code: string; message: string; hint?: string }[] {
    return this.frames
      .filter(({ type }) => type === 'E')
      .map(({ body }) => {
        const fields = Object.fromEntries(
          body
            .toString()
            .split('\0')
            .filter((each) => each !== '')
            .map((each) => [each[0], each.slice(1)]),
        )
        return { code: fields['C'] ?? '', message: fields['M'] ?? '', ...(fields['H'] ? { hint: fields['H'] } : {}) }
      })
  }

  /** Status of the last ReadyForQuery. */
  status(): string {
    return this.frames.findLast(({ type }) => type === 'Z')?.body.toString() ?? ''
  }

  /** Until so many messages of a type have come. */
  async until(type: string, count = 1): Promise<this> {
    return this.when(
      () => this.frames.filter((each) => each.type === type).length >= count,
      `${count} of ${type}, and there is ${this.types}`,
    )
  }

  async closed(): Promise<this> {
    for (const end = performance.now() + 10_000; !this.isClosed;) {
      if (performance.now() > end) throw new Error(`it stays open: ${this.types}`)
      await this.woken(end)
    }
    return this
  }

  async when(holds: () => boolean, what: string): Promise<this> {
    for (const end = performance.now() + 10_000; !holds();) {
      if (this.isClosed) throw new Error(`closed while waiting for ${what}: ${JSON.stringify(this.errors())}`)
      if (performance.now() > end) throw new Error(`it did not come: ${what}: ${JSON.stringify(this.errors())}`)
      await this.woken(end)
    }
    return this
  }

  private async woken(end: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, end - performance.now()))
      this.wakers.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  private wake(): void {
    for (const wake of this.wakers.splice(0)) wake()
  }
}
