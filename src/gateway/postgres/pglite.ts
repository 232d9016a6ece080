import fs from 'node:fs'
import { randomInt } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { Failure } from '../../core/failure.ts'
import { applySetup } from '../../postgres/apply.ts'
import type { Names } from '../../postgres/description.ts'
import { literal, quoted } from '../../postgres/names.ts'
import { planSetup } from '../../postgres/setup.ts'
import { Crashed, createEngine } from './pglite-engine.ts'
import type { Bounds, Engine } from './pglite-engine.ts'
import { EmbeddedStream } from './pglite-stream.ts'
import type { Patience, Served } from './pglite-stream.ts'
import type { PostgresResource } from './resource.ts'
import { settingsOf } from './settings.ts'
import { from, int16, int32, message, parseMessage, syncMessage } from './wire/frames.ts'

// Databases for a first look: PostgreSQL as WebAssembly, in a thread, in a folder. There is one backend, which all
// connections share by turns: before each turn it is made what a backend of that connection would be, and what was there
// is taken back afterwards.
//
// INVARIANT: this is no boundary. The backend belongs to a superuser, and what its turn made of it can be undone by
// `SET SESSION AUTHORIZATION`: nothing but the check of statements keeps an agent from saying that.

/** A role, the facts of whoever uses it, and where views look for these. */
export interface Actor {
  readonly role: string
  readonly facts: Readonly<Record<string, unknown>>
  readonly session?: string
  readonly names: Pick<Names, 'internal'>
}

export interface EmbeddedConnection {
  /** Not connected yet. */
  readonly client: pg.Client
  /** Stops what it is doing. What runs already can't be stopped alone: all connections end then. */
  cancel(): void
}

export interface Embedded {
  /** Set up for a resource. Fails with what kept it from being so. */
  readonly ready: Promise<void>
  connect(actor: Actor): EmbeddedConnection
  close(): Promise<void>
}

export interface EmbeddedDatabases {
  /** Opens a resource's database and sets it up. The folder is made where it is not there. */
  open(resource: PostgresResource): Embedded
}

const usual: Patience = { idle: 60_000, turn: 30_000, grace: 250 }
/** Milliseconds and bytes beyond what a statement may take and return: the gateway itself says first that it is enough. */
const slack = { time: 1_000, bytes: 32_000_000 }
/** Milliseconds for a connection, which may have to wait until an empty folder is a database. */
const connectWithin = 150_000
const administrator: Bounds = { time: 60_000, bytes: 64_000_000 }

export function createEmbeddedDatabases(
  report: (failure: Failure) => void,
  patience: Partial<Patience> = {},
): EmbeddedDatabases {
  const open = new Map<string, { readonly shared: Shared; users: number }>()
  const closing = new Map<string, Promise<void>>()
  return {
    open(resource) {
      const { embedded, alias } = resource
      if (embedded === undefined) throw new TypeError(`\`${alias}\` is not embedded`)
      const { folder, init } = embedded
      const found = open.get(folder)
      const entry = found ?? { shared: createShared(folder, { ...usual, ...patience }), users: 0 }
      open.set(folder, entry)
      entry.users += 1
      const { shared } = entry
      const { most } = resource.database
      const bounds = { time: most.time + slack.time, bytes: most.bytes + slack.bytes }
      const ready = (closing.get(folder) ?? Promise.resolve()).then(() => setUp(shared, resource, init))
      ready.catch((thrown: unknown) => report(Failure.from(thrown)))
      let isClosed = false
      return {
        ready,
        connect: (actor) => shared.connect(actor, bounds),
        async close() {
          if (isClosed) return
          isClosed = true
          entry.users -= 1
          if (entry.users > 0) return
          open.delete(folder)
          const over = shared.close()
          closing.set(folder, over)
          await over
          if (closing.get(folder) === over) closing.delete(folder)
        },
      }
    },
  }
}

/** Fails with `unavailable` or `conflict`, in words that say what to do. */
async function setUp(shared: Shared, resource: PostgresResource, init: string | undefined): Promise<void> {
  const { alias, database } = resource
  const within = (what: string, thrown: unknown): Failure => {
    const { code, message: text } =
      thrown instanceof Failure ? thrown : new Failure('conflict', (thrown as Error).message)
    return new Failure(code, `\`${alias}\`: ${what}: ${text}`, { cause: thrown })
  }
  const { client } = shared.connect(undefined, administrator)
  client.on('error', () => {})
  try {
    await client.connect()
  } catch (thrown) {
    throw within('its database could not be started', shared.broken() ?? thrown)
  }
  try {
    if (init !== undefined)
      await initialise(client, init).catch((thrown: unknown) => Promise.reject(within(`\`init\` (${init})`, thrown)))
    const plan = await planSetup(
      database,
      settingsOf(resource, { database: embeddedName, user: 'sallyport', password: '' }),
    )
    await client.query('set search_path = pg_catalog, pg_temp')
    await applySetup(client, plan).catch((thrown: unknown) => Promise.reject(within('it could not be set up', thrown)))
    await client.query(`select ${quoted(resource.names.internal)}.forget_changes()`)
  } finally {
    await client.end().catch(() => {})
  }
}

const embeddedName = 'postgres'
/** Whose the backend is. */
const owner = 'postgres'
const mark = 'sallyport: init was run'

/** Runs a script once in the life of a database: all of it, or nothing. */
async function initialise(client: pg.Client, file: string): Promise<void> {
  const { rows } = await client.query<{ mark: string | null }>(
    "select pg_catalog.shobj_description(oid, 'pg_database') as mark from pg_catalog.pg_database where datname = pg_catalog.current_database()",
  )
  if (rows[0]?.mark === mark) return
  const script = await fs.promises.readFile(file, 'utf8').catch((cause: unknown) => {
    const { code = 'unknown error' } = cause as NodeJS.ErrnoException
    throw new Failure('invalid', `it can't be read (${code})`, { cause })
  })
  await client.query('begin')
  await client.query(script)
  await client.query(`comment on database ${quoted(embeddedName)} is ${literal(mark)}`)
  await client.query('commit')
}

/** What a connection leaves behind when it is another one's turn. */
interface State {
  /** Settings by name, as `set_config` takes them. */
  readonly settings: readonly (readonly [string, string])[]
  readonly prepared: readonly Prepared[]
}

interface Prepared {
  readonly name: string
  readonly text: string
  readonly types: readonly number[]
  /** Whether it was made by `PREPARE`: then `text` is that. */
  readonly isSql: boolean
}

/** One connection, as its turns know it. */
interface Member {
  readonly actor: Actor | undefined
  state: State | undefined
  /** What a login as its role sets. */
  defaults: State['settings']
  /** Whether settings may have been reset: a server would go back to those of the login, and this backend had none. */
  isReset: boolean
  isGone: boolean
}

type Shared = ReturnType<typeof createShared>

function createShared(folder: string, patience: Patience) {
  const members = new Map<Member, (because: Crashed) => void>()
  const waiting: { readonly member: Member; readonly go: () => void; readonly stop: (because: Crashed) => void }[] = []
  let holder: Member | undefined
  /** Whose the state of the backend is. */
  let loaded: Member | undefined
  /** Whether nothing was made of the backend yet. */
  let isClean = true
  /** What the session table says of the backend. */
  let written: string | undefined
  let broken: Failure | undefined
  let isClosed = false

  const engine: Engine = createEngine(folder, (because) => {
    loaded = undefined
    isClean = true
    written = undefined
    for (const end of members.values()) end(because)
  })

  /** In the order in which they came. */
  async function turn(member: Member, signal: AbortSignal): Promise<void> {
    if (holder === member) return
    if (holder !== undefined)
      await new Promise<void>((resolve, reject) => {
        const leave = (because: Crashed): void => {
          const at = waiting.indexOf(entry)
          if (at >= 0) waiting.splice(at, 1)
          finish()
          reject(because)
        }
        const late = setTimeout(
          () =>
            leave(
              new Crashed(
                '55P03',
                'the embedded database serves one connection at a time, and another one keeps it busy',
              ),
            ),
          patience.turn,
        )
        const aborted = (): void => leave(cancelled)
        const finish = (): void => {
          clearTimeout(late)
          signal.removeEventListener('abort', aborted)
        }
        const entry = {
          member,
          go(): void {
            finish()
            resolve()
          },
          stop: leave,
        }
        waiting.push(entry)
        if (signal.aborted) aborted()
        else signal.addEventListener('abort', aborted, { once: true })
      })
    holder = member
    try {
      if (loaded !== member || member.isReset) await swap(member)
    } catch (thrown) {
      release(member)
      throw thrown
    }
  }

  function release(member: Member): void {
    if (holder !== member) return
    holder = undefined
    const next = waiting.shift()
    if (next === undefined) return
    holder = next.member
    next.go()
  }

  async function swap(member: Member): Promise<void> {
    const before = loaded
    loaded = undefined
    if (!isClean) {
      const rows = await engine.query(leaving)
      if (before?.isGone === false) {
        before.state = stateIn(rows, before.isReset ? before.defaults : [])
        before.isReset = false
      }
      await engine.query('discard all')
    }
    isClean = false
    const { actor } = member
    if (actor === undefined) {
      // What an administrator does may change the table as well.
      written = undefined
      await engine.query('select 1')
    } else await become(member, actor)
    loaded = member
  }

  async function become(member: Member, { role, facts, session, names }: Actor): Promise<void> {
    const whose = session === undefined ? 'null' : literal(session)
    const scope = `insert into ${quoted(names.internal)}.session (pid, role, scope, session)
      values (pg_catalog.pg_backend_pid(), ${literal(role)}, ${literal(JSON.stringify(facts))}, ${whose})
      on conflict (pid) do update set role = excluded.role, scope = excluded.scope, session = excluded.session, opened = now();`
    if (member.state === undefined) {
      const settings = await engine.query(settingsOfRole(role))
      member.defaults = settings.map(([each]) => split(each ?? ''))
      member.state = { settings: member.defaults, prepared: [] }
    }
    const { settings, prepared } = member.state
    const set = settings.map(([name, value]) => `pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`)
    await engine.query(
      `${written === scope ? '' : scope} ${set.length === 0 ? '' : `select ${set.join(', ')};`} set session authorization ${quoted(role)}`,
    )
    written = scope
    for (const each of prepared) await engine.run(preparing(each), administrator, () => {})
  }

  return {
    /** Why nothing can be run. */
    broken: () => broken,
    connect(actor: Actor | undefined, bounds: Bounds): EmbeddedConnection {
      const member: Member = { actor, state: undefined, defaults: [], isReset: false, isGone: false }
      const served: Served = {
        pid: randomInt(1, 2 ** 31 - 1),
        patience,
        turn: async (signal) => {
          if (isClosed) throw new Crashed('57P01', 'the embedded database is closed')
          try {
            await turn(member, signal)
          } catch (thrown) {
            if (thrown instanceof Failure) broken = thrown
            throw thrown
          }
        },
        release: () => release(member),
        reset: () => void (member.isReset = true),
        run: (messages, hear) => engine.run(messages, bounds, hear),
        query: (text) => engine.query(text),
        crash: (because) => engine.crash(because),
        onCrash: (end) => void members.set(member, end),
        left: () => {
          member.isGone = true
          members.delete(member)
          release(member)
        },
      }
      const stream = new EmbeddedStream(served)
      const client = new pg.Client({
        stream: () => stream,
        user: actor?.role ?? owner,
        database: embeddedName,
        password: '',
        ssl: false,
        connectionTimeoutMillis: connectWithin,
      })
      return { client, cancel: () => stream.cancel() }
    },
    async close(): Promise<void> {
      isClosed = true
      const until = performance.now() + patience.grace + 1_000
      for (const end of members.values()) end(new Crashed('57P01', 'the embedded database is closed'))
      for (const { stop } of waiting.splice(0)) stop(new Crashed('57P01', 'the embedded database is closed'))
      const isHeld = (): boolean => holder !== undefined
      while (isHeld() && performance.now() < until) await pause(10)
      await engine.close()
    },
  }
}

const cancelled = new Crashed('57014', 'canceling statement due to user request')

// What a backend is made of ------------------------------------------------------------------------------------------

/** Ends being somebody else, and says what is left to be remembered. */
// The superuser is named, because a backend without a login has nobody to be reset to.
const leaving = `set session authorization ${owner};
select 'setting', name, setting, null, null from pg_catalog.pg_settings
  where source = 'session' and context in ('user', 'superuser') and name not in ('session_authorization', 'role')
union all
select 'prepared', name, statement, parameter_types::pg_catalog.oid[]::text, from_sql::text
  from pg_catalog.pg_prepared_statements where name <> ''`

/** @param defaults - Settings that are there where nothing else was set. */
function stateIn(rows: readonly (readonly (string | null)[])[], defaults: State['settings']): State {
  const of = (kind: string) => rows.filter(([each]) => each === kind)
  const set = of('setting').map(([, name, value]) => [name ?? '', value ?? ''] as const)
  return {
    settings: [...defaults.filter(([name]) => !set.some(([other]) => other === name)), ...set],
    prepared: of('prepared').map(([, name, text, types, isSql]) => ({
      name: name ?? '',
      text: text ?? '',
      types: (types ?? '').match(/\d+/g)?.map(Number) ?? [],
      isSql: isSql === 'true',
    })),
  }
}

/** What a login as the role would set. */
const settingsOfRole = (role: string): string =>
  `select unnest(setconfig) from pg_catalog.pg_db_role_setting where setrole = ${literal(quoted(role))}::regrole
    and setdatabase in (0, (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
    order by setdatabase`

function split(text: string): readonly [string, string] {
  const at = text.indexOf('=')
  return [text.slice(0, at), text.slice(at + 1)]
}

/** Makes a prepared statement once more. Of a text of several statements nothing is run: the server takes one only here. */
function preparing({ name, text, types, isSql }: Prepared): Buffer {
  if (!isSql)
    return Buffer.concat([
      message(from.parse, name, text, int16(types.length), ...types.map((type) => int32(type))),
      syncMessage,
    ])
  const nothing = Buffer.concat([int16(0), int16(0), int16(0)])
  return Buffer.concat([
    parseMessage('', text),
    message(from.bind, '', '', nothing),
    message(from.execute, '', int32(0)),
    syncMessage,
  ])
}
