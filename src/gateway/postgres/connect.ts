import net from 'node:net'
import type { Duplex } from 'node:stream'
import tls from 'node:tls'
import pg from 'pg'
import { Failure } from '../../core/failure.ts'
import { forgottenAtOnce } from '../../postgres/changes.ts'
import { agentPassword } from '../../postgres/password.ts'
import type { Embedded } from './pglite.ts'
import type { Address, PostgresResource } from './resource.ts'

// Connections to a database. Each logs in as the role of its agent, serves one session, and ends with it.

/** A connection that is logged in, and of which the database knows whose it is. */
export interface Backend {
  readonly client: pg.Client
  /** Of the process that serves it. */
  readonly pid: number
  /** Aborted when the connection is over, for whatever reason. */
  readonly ended: AbortSignal
  /** What the server says of itself and of how it reads text: `server_version`, `TimeZone`. */
  readonly parameters: ReadonlyMap<string, string>
  /**
   * Runs a statement of Sallyport's own. Fails with `unavailable` where it isn't answered in time; the connection is over
   * then.
   */
  ask<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<readonly Row[]>
  /**
   * Hands over the connection itself, with nothing under way on it: from then on `client` is not to be used, and
   * whoever has it watches `requiredSettings`.
   */
  take(): Duplex
  /** Stops what it is doing, and nothing else of it. */
  cancel(): Promise<void>
  /** Ends it. Never fails. */
  close(): Promise<void>
}

/** Whose a connection is to be. */
export interface Owner {
  readonly session: string
  readonly agent: string
  /** Facts of the session: what row filters read. */
  readonly facts: Readonly<Record<string, unknown>>
}

export interface Connections {
  /**
   * Fails with `limited` where the agent has as many as it may, `not_found` where the database has no role for it,
   * `unavailable` where the database can't be reached or is not as it has to be.
   */
  open(owner: Owner): Promise<Backend>
  /** Ends those of sessions that are over. */
  ended(sessions: readonly string[]): void
  close(): Promise<void>
}

/** Milliseconds for a connection to be made, and for an answer to each statement of Sallyport's own. */
const answerWithin = 10_000
/** Milliseconds between two looks for changes that are kept no longer. */
const sweptEach = 3_600_000

/**
 * @param embedded - Where the database is one: nothing is connected to then.
 * @param within - Milliseconds for a connection to be made, and for each statement of Sallyport's own.
 */
export function createConnections(
  resource: PostgresResource,
  report: (failure: Failure) => void,
  embedded?: Embedded,
  within = answerWithin,
): Connections {
  const { names, alias } = resource
  const open = new Map<Backend, Owner>()
  /** By agent, those that are being made among them. */
  const counted = new Map<string, number>()
  const register = registry(resource, within)
  const keeps = embedded === undefined && [...resource.database.tables.values()].some(({ undo }) => undo === true)
  const sweep = keeps
    ? setInterval(
        () => void register.forget().catch((thrown: unknown) => report(Failure.from(thrown))),
        sweptEach,
      ).unref()
    : undefined
  let isClosed = false

  function count(agent: string, by: number): void {
    const left = (counted.get(agent) ?? 0) + by
    if (left === 0) counted.delete(agent)
    else counted.set(agent, left)
  }

  /** A connection that is not made yet, and how its database learns whose it is. */
  async function linked(role: string, { session, facts }: Owner) {
    if (embedded === undefined) {
      const address = resource.address()
      const client = clientFor(address, role, agentPassword(address.password, role), within)
      return {
        client,
        register: (pid: number) => register.set(pid, role, facts, session),
        cancel: () => cancel(address, client, within),
        within,
      }
    }
    await embedded.ready
    const made = embedded.connect({ role, facts, session, names })
    return {
      client: made.client,
      register: async () => async () => {},
      cancel: async () => made.cancel(),
      // It has turns, and bounds of its own.
      within: undefined,
    }
  }

  async function make(owner: Owner): Promise<Backend> {
    const role = names.agent(owner.agent)
    const { client, ...link } = await linked(role, owner)
    const over = new AbortController()
    const end = (): void => over.abort(new Failure('unavailable', `the connection to \`${alias}\` is over`))
    client.on('error', end)
    client.on('end', end)
    const settings = watchSettings(client, (because) => {
      report(new Failure('unavailable', `a connection to \`${alias}\` was closed: ${because}`))
      destroy(client)
    })
    try {
      await client.connect()
    } catch (cause) {
      destroy(client)
      throw unreachable(alias, cause)
    }
    const pid = pidOf(client)
    let forget = async (): Promise<void> => {}
    const close = async (): Promise<void> => {
      destroy(client)
      end()
      await forget().catch((thrown: unknown) => report(Failure.from(thrown)))
    }
    try {
      if (settings.wrong() !== undefined) throw new Failure('unavailable', `\`${alias}\`: ${settings.wrong()}`)
      forget = await link.register(pid)
    } catch (thrown) {
      await close()
      throw thrown
    }
    return {
      client,
      pid,
      ended: over.signal,
      parameters: settings.seen,
      async ask<Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []) {
        const asked = client.query<Row>(text, [...values])
        const { rows } = await (link.within === undefined ? asked : inTime(alias, asked, link.within, close))
        return rows
      },
      take: () => inside(client).connection.stream.removeAllListeners('data'),
      cancel: link.cancel,
      close,
    }
  }

  return {
    async open(owner) {
      if (isClosed) throw new Failure('unavailable', `\`${alias}\` is being closed`)
      if ((counted.get(owner.agent) ?? 0) >= resource.connections)
        throw new Failure(
          'limited',
          `agent ${owner.agent} has ${resource.connections} connections to \`${alias}\` already`,
        )
      count(owner.agent, 1)
      try {
        const backend = await make(owner)
        open.set(backend, owner)
        const over = (): void => {
          open.delete(backend)
          count(owner.agent, -1)
        }
        if (backend.ended.aborted) over()
        else backend.ended.addEventListener('abort', over, { once: true })
        // What it was to be closed with was closed while it was being made.
        if (isClosed) await backend.close()
        return backend
      } catch (thrown) {
        count(owner.agent, -1)
        throw thrown
      }
    },
    ended(sessions) {
      const gone = new Set(sessions)
      for (const [backend, { session }] of open)
        if (gone.has(session))
          void backend
            .cancel()
            .catch(() => {})
            .then(() => backend.close())
    },
    async close() {
      isClosed = true
      clearInterval(sweep)
      await Promise.all([...open.keys()].map((backend) => backend.close()))
      await register.close()
      await embedded?.close()
    },
  }
}

/** A client that is not connected yet. Where the address says so, it talks TLS alone, with a certificate that is checked. */
export const clientFor = (
  { host, port, database, tls: wanted }: Address,
  user: string,
  password: string,
  within = answerWithin,
): pg.Client =>
  new pg.Client({
    host,
    port,
    database,
    user,
    password,
    application_name: 'sallyport',
    client_encoding: 'UTF8',
    connectionTimeoutMillis: within,
    keepAlive: true,
    ssl: wanted === 'off' ? false : { rejectUnauthorized: true, ...(wanted.ca === undefined ? {} : { ca: wanted.ca }) },
  })

/** What the library keeps to itself. */
interface Inside {
  readonly connection: {
    readonly stream: net.Socket
    on(event: 'parameterStatus', listener: (message: { parameterName: string; parameterValue: string }) => void): void
  }
  readonly processID: number
  readonly secretKey: number
}

const inside = (client: pg.Client): Inside => client as unknown as Inside
const pidOf = (client: pg.Client): number => inside(client).processID

/** Ends a connection at once, whatever it is doing. */
export function destroy(client: pg.Client): void {
  inside(client).connection.stream.destroy()
}

/** How the server reads text, and who it thinks we are: all that a decision is made from rests on these. */
export const requiredSettings: Readonly<Record<string, string>> = {
  standard_conforming_strings: 'on',
  client_encoding: 'UTF8',
  is_superuser: 'off',
}

function watchSettings(
  client: pg.Client,
  onWrong: (because: string) => void,
): { readonly wrong: () => string | undefined; readonly seen: ReadonlyMap<string, string> } {
  const seen = new Map<string, string>()
  let isReady = false
  const wrong = (): string | undefined => {
    isReady = true
    for (const [name, value] of Object.entries(requiredSettings))
      if (seen.get(name) !== value) return `its setting \`${name}\` is not \`${value}\``
    return undefined
  }
  inside(client).connection.on('parameterStatus', ({ parameterName: name, parameterValue: value }) => {
    seen.set(name, value)
    const expected = Object.hasOwn(requiredSettings, name) ? requiredSettings[name] : undefined
    if (isReady && expected !== undefined && value !== expected) onWrong(`its setting \`${name}\` was changed`)
  })
  return { wrong, seen }
}

/** Tells the database whose a connection is, over a connection that no agent has. */
function registry(resource: PostgresResource, within: number) {
  const { alias, names } = resource
  const table = `"${names.internal}".session`
  let control: Promise<pg.Client> | undefined
  /** The connection itself, also while it is being made. */
  let line: pg.Client | undefined

  /** The one connection of the gateway's own role; made anew when it is gone. */
  function client(): Promise<pg.Client> {
    if (control !== undefined) return control
    const made = connected(() => {
      if (control === made) control = undefined
    })
    control = made
    return made
  }

  async function connected(onGone: () => void): Promise<pg.Client> {
    const address = resource.address()
    const fresh = clientFor(address, address.user, address.password, within)
    line = fresh
    fresh.on('error', onGone)
    fresh.on('end', onGone)
    try {
      await fresh.connect().catch((cause: unknown) => {
        throw unreachable(alias, cause)
      })
      // What a gateway that was killed left behind.
      const left = `delete from ${table} where pid not in (select pid from pg_catalog.pg_stat_activity)`
      await fresh.query(left).catch((cause: unknown) => {
        throw notSetUp(alias, cause)
      })
      // Where it fails, the next time does it.
      forget().catch(() => {})
      return fresh
    } catch (thrown) {
      destroy(fresh)
      onGone()
      throw thrown
    }
  }

  /**
   * Statements go one after the other: the client takes no other while one is on its way. Each has its time from when it
   * begins to wait. The connection that doesn't answer is given up then, and the next statement makes another.
   */
  let last: Promise<unknown> = Promise.resolve()
  function run(statement: string, values: readonly unknown[]): Promise<readonly pg.QueryResultRow[]> {
    let isLate = false
    const done = last.then(async () => {
      if (isLate) return []
      const connection = await client()
      const { rows } = await connection.query<pg.QueryResultRow>(statement, [...values]).catch((cause: unknown) => {
        throw notSetUp(alias, cause)
      })
      return rows
    })
    last = done.catch(() => {})
    return inTime(alias, done, within, () => {
      isLate = true
      giveUp()
    })
  }

  /** Deletes changes that were kept for as long as they are to be. */
  async function forget(): Promise<void> {
    for (let gone = forgottenAtOnce; gone >= forgottenAtOnce;) {
      const [row] = await run(`select "${names.internal}".forget_changes() as gone`, [])
      gone = Number(row?.['gone'] ?? 0)
    }
  }

  function giveUp(): void {
    control = undefined
    if (line !== undefined) destroy(line)
  }

  return {
    forget,
    /** Returns what takes it back. The process may be gone by then, and its number another's: that one stays. */
    async set(
      pid: number,
      role: string,
      facts: Readonly<Record<string, unknown>>,
      session: string,
    ): Promise<() => Promise<void>> {
      const statement = `insert into ${table} (pid, role, scope, session) values ($1, $2, $3, $4) on conflict (pid) do update set role = excluded.role, scope = excluded.scope, session = excluded.session, opened = now() returning extract(epoch from opened)::text as opened`
      const [row] = await run(statement, [pid, role, JSON.stringify(facts), session])
      const mine = `delete from ${table} where pid = $1 and extract(epoch from opened) = $2::numeric`
      return async () => void (await run(mine, [pid, row?.['opened']]))
    },
    async close(): Promise<void> {
      const ended = control?.then((each) => each.end())
      if (ended !== undefined) await inTime(alias, ended, within, giveUp).catch(() => {})
    },
  }
}

/** Waits no longer than that. `giveUp` ends what would go on. */
async function inTime<T>(alias: string, work: Promise<T>, within: number, giveUp: () => unknown): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Failure('unavailable', `\`${alias}\` can't be reached: it did not answer within ${within} ms`))
      giveUp()
    }, within)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Asks the server to stop what a connection is doing (protocol 3.0, CancelRequest). */
async function cancel({ host, port, tls: wanted }: Address, client: pg.Client, within: number): Promise<void> {
  const { processID, secretKey } = inside(client)
  const request = Buffer.alloc(16)
  request.writeInt32BE(16, 0)
  request.writeInt32BE(80_877_102, 4)
  request.writeInt32BE(processID, 8)
  request.writeInt32BE(secretKey, 12)
  await new Promise<void>((resolve) => {
    const socket = net.connect({ host, port })
    socket.setTimeout(within, () => socket.destroy())
    socket.once('error', () => resolve())
    socket.once('close', () => resolve())
    socket.once('connect', () => {
      if (wanted === 'off') return void socket.end(request)
      const ask = Buffer.alloc(8)
      ask.writeInt32BE(8, 0)
      ask.writeInt32BE(80_877_103, 4)
      socket.write(ask)
      socket.once('data', (answer) => {
        if (answer.length !== 1 || answer[0] !== 0x53) return void socket.destroy()
        const secured = tls.connect({
          socket,
          ...(wanted.ca === undefined ? {} : { ca: wanted.ca }),
          ...(net.isIP(host) === 0 ? { servername: host } : {}),
        })
        secured.once('error', () => socket.destroy())
        secured.once('secureConnect', () => void secured.end(request))
      })
    })
  })
}

/** Why no connection could be made, in words that hold no secret. */
function unreachable(alias: string, cause: unknown): Failure {
  const { code = '' } = (cause ?? {}) as { readonly code?: string }
  // 28P01 wrong password, 28000 no such role or not let in, 53300 too many, 57P03 it is starting or stopping.
  if (code === '28P01' || code === '28000')
    return new Failure(
      'unavailable',
      `\`${alias}\` does not let Sallyport in: it is not set up (\`sallyport db apply ${alias}\`), or \`sallyport db verify ${alias}\` says why`,
      { cause },
    )
  if (code === '53300') return new Failure('limited', `\`${alias}\` has no room for another connection`, { cause })
  return new Failure('unavailable', `\`${alias}\` can't be reached${code === '' ? '' : ` (${code})`}`, { cause })
}

function notSetUp(alias: string, cause: unknown): Failure {
  const { code = '' } = (cause ?? {}) as { readonly code?: string }
  // 42P01 no such table, 42703 column, 42883 function, 3F000 schema, 42501 no right to it.
  return ['42P01', '42703', '42883', '3F000', '42501'].includes(code)
    ? new Failure('unavailable', `\`${alias}\` is not set up: \`sallyport db apply ${alias}\` does it`, { cause })
    : new Failure('unavailable', `\`${alias}\` can't be reached${code === '' ? '' : ` (${code})`}`, { cause })
}
