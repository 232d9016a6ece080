import type pg from 'pg'
import type { AuditLog } from '../../core/audit.ts'
import type { EventType } from '../../core/event.ts'
import { Failure } from '../../core/failure.ts'
import type { Json } from '../../core/json.ts'
import type { Clock } from '../../guard/clock.ts'
import { applySetup, planText } from '../../postgres/apply.ts'
import { suggest } from '../../postgres/introspect.ts'
import { agentPassword } from '../../postgres/password.ts'
import { planRemove, planSetup } from '../../postgres/setup.ts'
import type { Plan } from '../../postgres/setup.ts'
import { listTables } from '../../postgres/tables.ts'
import { undoChange } from '../../postgres/undo.ts'
import type { Undone } from '../../postgres/undo.ts'
import { verify } from '../../postgres/verify.ts'
import type { Finding } from '../../postgres/verify.ts'
import { clientFor, destroy } from './connect.ts'
import type { Address, PostgresResource } from './resource.ts'
import { settingsOf } from './settings.ts'

// Setting databases up, looking whether they are as planned, and taking everything away again. An administrator's address
// is used for one call: it is kept nowhere, and no message, event or error holds a part of it that is a secret.

/** Where an administrator's connection leads, for one call. */
export interface Administrator {
  /** `postgres://admin:password@host:port/database` */
  readonly url: string
  /** Takes another host or port than that of the resource: the same server may be seen under two names. */
  readonly anyway?: boolean
}

export interface Step {
  readonly title: string
  readonly sql: string
}

export interface Planned {
  readonly name: string
  readonly database: string
  /** What stands in place of a password is a variable of `psql`. */
  readonly steps: readonly Step[]
  /** The same for `psql`, in one transaction; with verifiers in place of passwords where these were asked for. */
  readonly script: string
}

export interface Applied {
  readonly name: string
  readonly database: string
  /** Whether anything was not as planned before. Passwords are set each time. */
  readonly changed: boolean
  /** How many steps were carried out. */
  readonly steps: number
  readonly notices: readonly string[]
  readonly findings: readonly Finding[]
}

export interface Verified {
  readonly name: string
  readonly database: string
  readonly findings: readonly Finding[]
  /** What could not be looked at, in words. */
  readonly unseen: readonly string[]
}

export interface Removed {
  readonly name: string
  readonly database: string
  readonly notices: readonly string[]
}

export interface Suggested {
  readonly name: string
  /** A piece of `sallyport.yaml`, for `resources.<name>`. */
  readonly yaml: string
  readonly tables: readonly string[]
}

/** A transaction of an agent that changed tables with `undo`. */
export interface Change {
  readonly change: string
  /** Epoch milliseconds. */
  readonly at: number
  readonly session: string | null
  readonly undone: boolean
  readonly tables: readonly {
    readonly table: string
    readonly operation: 'insert' | 'update' | 'delete'
    readonly rows: number
  }[]
}

export interface ListedDatabase {
  readonly name: string
  readonly tables: readonly string[]
  readonly agents: readonly string[]
  /** Where it is. Absent where that is not known now. */
  readonly at?: { readonly host: string; readonly port: number; readonly database: string; readonly role: string }
  readonly problem?: string
}

/** Everything fails with `not_found` for a name of no database, and `unavailable` where it can't be reached. */
export interface Administration {
  list(): readonly ListedDatabase[]
  /** Of setting up, or of removing. With verifiers of passwords for somebody, or else the script asks for passwords. */
  plan(name: string, options?: { readonly remove?: boolean; readonly verifiersFor?: string }): Promise<Planned>
  /** Fails with `conflict` where a step is refused, or the database is another one: nothing is changed then. */
  apply(name: string, administrator: Administrator, by: string): Promise<Applied>
  /** Without an administrator: by the gateway's own login, as far as that can see. */
  verify(name: string, administrator: Administrator | undefined, by: string): Promise<Verified>
  remove(name: string, administrator: Administrator, by: string): Promise<Removed>
  /** What agents changed in tables with `undo`, the newest first: by the gateway's own login, which sees no values. */
  changes(
    name: string,
    of: { readonly session?: string; readonly most: number },
  ): Promise<{ readonly name: string; readonly changes: readonly Change[] }>
  /** Fails with `not_found`, or `conflict` where something has changed since: nothing is changed then. */
  undo(
    name: string,
    change: { readonly change: string; readonly isTrial: boolean },
    administrator: Administrator,
    by: string,
  ): Promise<Undone & { readonly name: string; readonly database: string; readonly trial: boolean }>
  /** Of these tables, or of all. Without an administrator: by the gateway's own login. */
  suggest(name: string, tables: readonly string[], administrator?: Administrator): Promise<Suggested>
}

export interface AdministrationPorts {
  readonly resources: () => readonly PostgresResource[]
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** Milliseconds for everything that one call does in a database; 25 s unless said. */
  readonly within?: number
}

/** Milliseconds for everything that one call does in a database. */
const longest = 25_000
/** Milliseconds for one statement of it: less, so that the server ends it and tells which it was. */
const longestStatement = 20_000
/** Logins of agents that are tried, and how many of them at once. */
const mostLogins = 100
const loginsAtOnce = 4

export function createAdministration({
  resources,
  audit,
  clock,
  within = longest,
}: AdministrationPorts): Administration {
  const limit = (): Limit => ({ within, ends: performance.now() + within })

  function find(name: string): PostgresResource {
    const all = resources()
    const found = all.find(({ alias }) => alias === name)
    if (found !== undefined) return found
    const known = all.map(({ alias }) => `\`${alias}\``).join(', ')
    throw new Failure(
      'not_found',
      `there is no database \`${name}\`${known === '' ? ': no resource is of kind `postgres`' : `: there is ${known}`}`,
    )
  }

  const record = async (
    type: EventType,
    resource: string,
    by: string,
    more: Record<string, Json> = {},
  ): Promise<string> => {
    const { id, done } = audit.append({ type, at: clock(), resource, by, ...more })
    await done
    return id
  }

  /** An attempt and its outcome: what can't be written down is not tried. */
  async function recorded<T>(
    what: { readonly begins: EventType; readonly ends: EventType },
    { alias }: PostgresResource,
    by: string,
    work: () => Promise<T>,
    outcome: (done: T) => Record<string, Json>,
    more: Record<string, Json> = {},
  ): Promise<T> {
    const of = await record(what.begins, alias, by, more)
    let done: T
    try {
      done = await work()
    } catch (thrown) {
      const { code, message } = Failure.from(thrown)
      await record('database.failed', alias, by, { of, code, because: message.slice(0, 500) })
      throw thrown
    }
    await record(what.ends, alias, by, { of, ...more, ...outcome(done) })
    return done
  }

  return {
    list: () => resources().map(listed),

    async plan(name, { remove = false, verifiersFor } = {}) {
      const resource = find(name)
      const address = resource.address()
      const withSecrets = verifiersFor !== undefined
      if (withSecrets && address.password === '') throw noPassword(name)
      const settings = settingsOf(resource, address)
      const plan = remove ? planRemove(name, settings) : await planSetup(resource.database, settings)
      if (withSecrets) await record('database.verifiers', name, verifiersFor)
      return {
        name,
        database: plan.databaseName,
        steps: plan.steps.map(({ title, sql, script, secret }) => ({ title, sql: secret ? (script ?? '') : sql })),
        script: planText(plan, { withSecrets }),
      }
    },

    async apply(name, administrator, by) {
      const resource = find(name)
      const address = resource.address()
      if (address.password === '') throw noPassword(name)
      const plan = await planSetup(resource.database, settingsOf(resource, address))
      const admin = administratorOf(resource, address, administrator)
      const limits = limit()
      return recorded(
        { begins: 'database.apply', ends: 'database.applied' },
        resource,
        by,
        async (): Promise<Applied> => {
          const [done, server] = await connected(name, admin, limits, async (client) => {
            const before = await serverOf(client)
            return [await applySetup(client, plan), before] as const
          })
          const findings = [...named(done.findings, name), ...(await logins(plan, address, server, limits))]
          const { isChanged: changed, notices } = done
          const steps = changed ? plan.steps.length : plan.steps.filter(({ secret }) => secret).length
          return { name, database: plan.databaseName, changed, steps, notices, findings }
        },
        ({ changed, steps, findings }) => ({ changed, steps, ...counted(findings) }),
      )
    },

    async verify(name, administrator, by) {
      const resource = find(name)
      const address = resource.address()
      const plan = await planSetup(resource.database, settingsOf(resource, address))
      const verified = { name, database: plan.databaseName }
      const look = async (): Promise<Verified> => {
        const own = { ...address, isOwn: true }
        const used = administrator === undefined ? own : administratorOf(resource, address, administrator)
        const limits = limit()
        try {
          const [found, server] = await connected(name, used, limits, async (client) => {
            const at = await serverOf(client)
            return [await verify(client, plan), at] as const
          })
          const unseen = administrator === undefined ? ownBlindness : [whoElse]
          const tried = await logins(plan, address, server, limits)
          return { ...verified, findings: [...named(found, name), ...tried], unseen }
        } catch (thrown) {
          if (!(thrown instanceof NotLetIn) || administrator !== undefined) throw thrown
          return { ...verified, findings: [notLetIn(plan.expected.gateway, name)], unseen: [everything] }
        }
      }
      return recorded({ begins: 'database.verify', ends: 'database.verified' }, resource, by, look, ({ findings }) =>
        counted(findings),
      )
    },

    async remove(name, administrator, by) {
      const resource = find(name)
      const address = resource.address()
      const admin = administratorOf(resource, address, administrator)
      const plan = planRemove(name, settingsOf(resource, address))
      return recorded(
        { begins: 'database.remove', ends: 'database.removed' },
        resource,
        by,
        async (): Promise<Removed> => {
          const { notices } = await connected(name, admin, limit(), async (client) => {
            const done = await applySetup(client, plan)
            await nothingLeft(client, plan)
            return done
          })
          return { name, database: plan.databaseName, notices }
        },
        () => ({}),
      )
    },

    async changes(name, { session, most }) {
      const resource = find(name)
      const own = { ...resource.address(), isOwn: true }
      const found = await connected(name, own, limit(), async (client) => {
        const { rows } = await client
          .query<{ found: readonly Change[] }>(`select "${resource.names.internal}".changes($1, $2) as found`, [
            session ?? null,
            most,
          ])
          .catch((cause: unknown) => {
            if (!['42883', '3F000', '42501'].includes((cause as { readonly code?: string }).code ?? '')) throw cause
            throw new Failure('unavailable', `\`${name}\` is not set up: \`sallyport db apply ${name}\` does it`)
          })
        return rows[0]?.found ?? []
      })
      return { name, changes: found }
    },

    async undo(name, { change, isTrial }, administrator, by) {
      const resource = find(name)
      const address = resource.address()
      const admin = administratorOf(resource, address, administrator)
      return recorded(
        { begins: 'database.undo', ends: 'database.undone' },
        resource,
        by,
        async () => {
          const done = await connected(name, admin, limit(), (client) =>
            undoChange(client, resource.names, change, { isTrial }),
          )
          return { name, database: address.database, trial: isTrial, ...done }
        },
        ({ rows, session }) => ({ rows, ...(session === undefined ? {} : { session }) }),
        { change, trial: isTrial },
      )
    },

    async suggest(name, tables, administrator) {
      const resource = find(name)
      const address = resource.address()
      const used =
        administrator === undefined ? { ...address, isOwn: true } : administratorOf(resource, address, administrator)
      return connected(name, used, limit(), async (client) => {
        const wanted = tables.length === 0 ? await listTables(client) : tables
        return { name, yaml: await suggest(client, wanted, resource.database.facts), tables: wanted }
      })
    },
  }
}

function listed({ alias, database, held, address }: PostgresResource): ListedDatabase {
  const common = { name: alias, tables: [...database.tables.keys()], agents: [...held.keys()] }
  try {
    const { host, port, database: at, user: role } = address()
    return { ...common, at: { host, port, database: at, role } }
  } catch (thrown) {
    return { ...common, problem: Failure.from(thrown).message }
  }
}

/** With the name of the resource in what is to be done. */
const named = (findings: readonly Finding[], name: string): readonly Finding[] =>
  findings.map((each) => ({
    ...each,
    advice: each.advice.replaceAll('`sallyport db apply`', `\`sallyport db apply ${name}\``),
  }))

const counted = (findings: readonly Finding[]): Record<string, Json> =>
  Object.fromEntries(
    (['error', 'warning', 'note'] as const).map((severity) => [
      `${severity}s`,
      findings.filter((each) => each.severity === severity).length,
    ]),
  )

const noPassword = (name: string): Failure =>
  new Failure(
    'invalid',
    `the role of the gateway has no password: give \`resources.${name}\` one, such as \`password: \${secret:NAME}\``,
  )

// Where an administrator is let in ------------------------------------------------------------------------------------

interface Login extends Address {
  /** Whether it is the gateway's own. */
  readonly isOwn: boolean
}

/** Options of an address that ask for less than what is done here anyway. */
const harmless: readonly string[] = ['sslmode', 'channel_binding', 'sslnegotiation', 'application_name']
const loopback = /^(?:127(?:\.\d{1,3}){3}|localhost|::1)$/

/** Fails with `invalid` or `conflict`, in words that hold nothing of the address but host and database. */
function administratorOf({ alias }: PostgresResource, own: Address, { url: text, anyway }: Administrator): Login {
  const wrong = (expected: string): Failure =>
    new Failure('invalid', `the administrator's address can't be used: expected ${expected}`)
  const url = URL.parse(text.trim())
  if (url === null || !['postgres:', 'postgresql:'].includes(url.protocol))
    throw wrong(
      '`postgres://admin:password@host:5432/database`; what is `@`, `/`, `?`, `#` or `%` in the password is written as `%40`, `%2F`, `%3F`, `%23`, `%25`',
    )
  if (url.hostname === '') throw wrong('a host in it')
  if (url.username === '') throw wrong('the role of an administrator in it: `postgres://admin@…`')
  if (url.hash !== '') throw wrong('no `#` in it: in a password it is written as `%23`')
  const unknown = [...url.searchParams.keys()].some((key) => !harmless.includes(key))
  if (unknown) throw wrong('no options behind `?` but `sslmode`: `tls` and `ca` of the resource hold here too')
  let [user, password, database] = ['', '', '']
  try {
    ;[user, password, database] = [url.username, url.password, url.pathname.slice(1)].map(decodeURIComponent) as [
      string,
      string,
      string,
    ]
  } catch {
    throw wrong('`%` in it to be written as `%25`')
  }
  if (database !== own.database)
    throw new Failure(
      'conflict',
      database === ''
        ? `the administrator's address names no database: \`${alias}\` is in \`${own.database}\``
        : `the administrator's address leads to the database \`${database}\`, and \`${alias}\` is in \`${own.database}\``,
    )
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase()
  const port = url.port === '' ? 5432 : Number(url.port)
  const isSame =
    port === own.port && (host === own.host.toLowerCase() || (loopback.test(host) && loopback.test(own.host)))
  if (!isSame && anyway !== true)
    throw new Failure(
      'conflict',
      `the administrator's address leads to ${host}:${port}, and \`${alias}\` is at ${own.host}:${own.port}: if that is the same server, say --anyway`,
    )
  // As it is towards the resource's own host; any other is verified.
  const ca = own.tls === 'off' ? {} : own.tls
  const tls = isSame ? own.tls : loopback.test(host) ? 'off' : ca
  return { host, port, database, user, password, tls, isOwn: false }
}

/** Milliseconds, and the end of them by the clock of `performance`. */
interface Limit {
  readonly within: number
  readonly ends: number
}

/** The server does not let a role in. */
class NotLetIn extends Failure {}

/** Logs in, works, and ends the connection, within the time that there is. Every failure is in words of ours, or of the server to its administrator. */
async function connected<T>(
  name: string,
  login: Login,
  { within, ends }: Limit,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = clientFor(login, login.user, login.password)
  let isLate = false
  let isIn = false
  const timer = setTimeout(
    () => {
      isLate = true
      destroy(client)
    },
    Math.max(0, ends - performance.now()),
  )
  // What goes wrong between two statements is found by the next.
  client.on('error', () => {})
  try {
    await client.connect()
    isIn = true
    // What somebody has put into another schema is never run with an administrator's rights.
    await client.query(`set search_path = pg_catalog, pg_temp; set statement_timeout = ${longestStatement}`)
    const done = await work(client)
    client.end().catch(() => {})
    return done
  } catch (thrown) {
    if (isLate)
      throw new Failure(
        'unavailable',
        `\`${name}\`: it took longer than ${within / 1000} s and was cut: \`sallyport db verify ${name}\` says what is there`,
      )
    if (!isIn) throw refusedLogin(name, login, thrown)
    // Without its cause, which may hold the statement.
    if (thrown instanceof Failure && thrown.code !== 'internal') throw new Failure(thrown.code, thrown.message)
    throw new Failure(
      'unavailable',
      `\`${name}\`: ${inWords(thrown)}: \`sallyport db verify ${name}\` says what is there`,
    )
  } finally {
    clearTimeout(timer)
    if (isIn) setTimeout(() => destroy(client), 1_000).unref()
    else destroy(client)
  }
}

function inWords(thrown: unknown): string {
  const { code } = (thrown instanceof Failure ? (thrown.cause ?? {}) : (thrown ?? {})) as { readonly code?: unknown }
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code)
    ? `the database refused a statement (SQLSTATE ${code})`
    : 'the connection to the database was lost'
}

/** Why nobody was let in, without anything that a driver says. */
function refusedLogin(name: string, { host, port, isOwn, user, database }: Login, thrown: unknown): Failure {
  const { code: given, message } = (thrown ?? {}) as { readonly code?: unknown; readonly message?: unknown }
  const code = typeof given === 'string' && /^[A-Z0-9_]{1,60}$/.test(given) ? given : ''
  const where = `${host}:${port}`
  const who = isOwn ? `the gateway's own role, \`${user}\`,` : 'the administrator'
  if (code === '28P01' || code === '28000')
    return new NotLetIn(
      'unavailable',
      isOwn
        ? `the database does not let ${who} in: it may not be there yet, or have another password. Give an administrator's address (--admin), or run \`sallyport db apply ${name}\``
        : `the database does not let ${who} in: its name or password is wrong, or the server does not take it from this machine`,
    )
  if (code === '3D000') return new NotLetIn('unavailable', `there is no database \`${database}\` at ${where}`)
  if (code === '42501') return new NotLetIn('unavailable', `${who} may not connect to the database \`${database}\``)
  if (code === '53300') return new Failure('unavailable', `the server at ${where} has no room for another connection`)
  if (code === '57P03') return new Failure('unavailable', `the server at ${where} is starting or stopping: try again`)
  if (/CERT|ALTNAME|SELF_SIGNED|UNABLE_TO|ISSUER/.test(code))
    return new Failure(
      'unavailable',
      `the certificate of the server at ${where} can't be trusted (${code}): name who signs it in \`resources.${name}.ca\``,
    )
  if (typeof message === 'string' && /does not support SSL/i.test(message))
    return new Failure(
      'unavailable',
      `the server at ${where} talks no TLS, and nothing else is used beyond this machine`,
    )
  return new Failure(
    'unavailable',
    `the server at ${where} can't be reached${code === '' ? '' : ` (${code})`}: it may be switched off, or not let this machine in`,
  )
}

// What the catalogs don't say -----------------------------------------------------------------------------------------

interface Server {
  readonly started: string
  readonly version: number
}

/** What tells one server from another, as far as every role may see. */
async function serverOf(client: pg.Client): Promise<Server> {
  const { rows } = await client.query<Server>(
    `select pg_catalog.pg_postmaster_start_time()::text as started,
      pg_catalog.current_setting('server_version_num')::int as version`,
  )
  const [server] = rows
  if (server === undefined) throw new Failure('unavailable', 'the server does not say what it is')
  if (server.version < 140_000)
    throw new Failure(
      'conflict',
      `PostgreSQL 14 or newer is needed, and this is ${Math.floor(server.version / 10_000)}: nothing was changed`,
    )
  return server
}

/** Whether the gateway, and it for each agent, is let in with its passwords, and by the server that was looked at. */
async function logins(plan: Plan, address: Address, server: Server, limits: Limit): Promise<readonly Finding[]> {
  const { expected, alias } = plan
  const agents = expected.roles.filter(({ agent }) => agent !== undefined).map(({ name }) => name)
  const found: Finding[] = []
  const say = (severity: Finding['severity'], where: string, what: string, advice: string): void =>
    void found.push({ severity, about: 'setup', where, what, advice })

  const lookFrom = async (role: string, password: string): Promise<Server | NotLetIn> =>
    connected(alias, { ...address, user: role, password, isOwn: true }, limits, serverOf).catch((thrown: unknown) => {
      if (thrown instanceof NotLetIn) return thrown
      throw thrown
    })

  async function tryAgents(left: string[]): Promise<void> {
    for (let role = left.shift(); role !== undefined; role = left.shift())
      if ((await lookFrom(role, agentPassword(address.password, role))) instanceof NotLetIn)
        say(
          'error',
          `role ${role}`,
          'is not let in with the password that follows from that of the gateway',
          `run \`sallyport db apply ${alias}\``,
        )
  }

  try {
    const there = await lookFrom(expected.gateway, address.password)
    if (there instanceof NotLetIn) return [notLetIn(expected.gateway, alias)]
    if (there.started !== server.started)
      say(
        'error',
        `address of ${alias}`,
        'leads to another server than the one that was looked at',
        'correct `postgres:`, or the administrator’s address',
      )
    else {
      const left = agents.slice(0, mostLogins)
      await Promise.all(Array.from({ length: loginsAtOnce }, () => tryAgents(left)))
    }
  } catch (thrown) {
    say('error', `address of ${alias}`, Failure.from(thrown).message, 'correct `postgres:` of the resource')
  }
  if (agents.length > mostLogins)
    say('note', `agents of ${alias}`, `only the first ${mostLogins} logins were tried`, 'nothing is known to be wrong')
  return found.sort((one, other) => (one.where < other.where ? -1 : 1))
}

const notLetIn = (role: string, name: string): Finding => ({
  severity: 'error',
  about: 'setup',
  where: `role ${role}`,
  what: 'the gateway is not let in with it: it is not there, has another password, or the server does not take it from this machine',
  advice: `run \`sallyport db apply ${name}\`; a role that was there before keeps its own password: give \`password:\` that one, or change it in the database`,
})

const whoElse = 'who else knows a password of these roles, and from where the server lets them in (pg_hba.conf)'
const ownBlindness: readonly string[] = [
  whoElse,
  'whatever the server hides from the role of the gateway; with --admin an administrator looks',
]
const everything =
  'everything else: nothing can be looked at before somebody is let in; with --admin an administrator looks'

async function nothingLeft(client: pg.Client, { expected: { mark }, names }: Plan): Promise<void> {
  const { rows } = await client.query<{ what: string }>(
    `select 'role ' || rolname as what from pg_catalog.pg_roles
      where pg_catalog.shobj_description(oid, 'pg_authid') = $1
    union all select 'schema ' || nspname from pg_catalog.pg_namespace where nspname = any ($2::text[])`,
    [mark, [names.policy, names.internal, names.catalog]],
  )
  if (rows.length > 0)
    throw new Failure('conflict', `not everything could be removed: ${rows.map(({ what }) => what).join(', ')}`)
}
