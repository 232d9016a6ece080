// A careless customer's database, attacked: what may not change, how that is seen, and how it is put right again.
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Socket } from 'node:net'
import pg from 'pg'
import { applySetup } from '../../src/postgres/apply.ts'
import type { Database, Verb } from '../../src/postgres/description.ts'
import { verbs } from '../../src/postgres/description.ts'
import type { Names } from '../../src/postgres/description.ts'
import { deskAgents, deskDatabase, deskTables, describeTable } from '../support/postgres-desk.ts'
import type { Desk } from '../support/postgres-desk.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { careless, moreTables, sqlAttacks } from './sql-attacks.ts'
import type { Attack, Entry } from './sql-attacks.ts'

/** Values of rows of another customer, and those behind masks. */
export const ofOthers = /BOBS-|bob (?:one|two)|rival|\bBob\b|7946 0008|SSN-/
/** Values that are not described at all, of tables, columns, objects and files. */
export const hidden = /HIDDEN-|98765\d|root:x?:0:0|SCRAM-SHA-256\$/
/** Names that an agent is not told of. */
export const metadata = /salaries|secret_note|internal_comment|NEIGHBOUR/

/** Milliseconds that a statement may take. */
const most = 700

const withPreferences = (database: Database): Database => ({
  ...database,
  most: { ...database.most, time: most },
  tables: new Map([
    ...database.tables,
    describeTable('preferences', {
      select: new Map(['customer_id', 'key', 'value'].map((column) => [column, 'none'])),
      insert: ['customer_id', 'key', 'value'],
      update: ['value'],
      key: ['customer_id', 'key'],
      where: { source: 'customer_id = session.customer_id' },
    }),
  ]),
})

const kept = ['customers', 'tickets', 'responses', 'preferences', 'salaries', 'audit'] as const

/** All rows as they were, where no agent comes. */
const vault = `
  create schema vault;
  ${kept.map((table) => `create table vault.${table} as table public.${table};`).join('\n')}
  revoke all on all tables in schema vault from public;
`

/** Of `startDesk`: the careless database, with everything that its description gives in the hands of `desk-worker`. */
export const carelessDesk = ({ port, adminUrl }: PostgresServer) => ({
  ...soberDesk,
  tables: `${deskTables}\n${moreTables}\n${vault}\n${careless(port, new URL(adminUrl).password)}`,
})

/** The same without what is careless of it. */
export const soberDesk = {
  tables: `${deskTables}\n${moreTables}\n${vault}`,
  change: withPreferences,
  agents: new Map([
    ...deskAgents,
    [
      'desk-worker',
      new Map([...withPreferences(deskDatabase('x')).tables.keys()].map((name) => [name, new Set<Verb>(verbs)])),
    ],
  ]),
}

/** What was changed that no session of customer 7 may change, in words. */
const brokenRows = (isScoped: boolean): string => {
  const differs = (what: string, table: string, where = 'true'): string =>
    `select '${what}' as what where exists ((select * from public.${table} where ${where} except select * from vault.${table})
      union all (select * from vault.${table} where ${where} except select * from public.${table}))`
  return [
    differs('salaries', 'salaries'),
    differs('customers', 'customers'),
    `select 'hidden columns' where exists (select from public.tickets t left join vault.tickets v using (id)
      where t.secret_note is distinct from v.secret_note)
      or exists (select from public.responses t left join vault.responses v using (id)
      where t.internal_comment is distinct from v.internal_comment)
      or exists (select from public.preferences where secret_note is distinct from 'HIDDEN-P')`,
    ...(isScoped
      ? [
          differs('tickets of others', 'tickets', 'customer_id <> 7'),
          differs('responses to others', 'responses', 'ticket_id in (3, 4)'),
          differs('preferences of others', 'preferences', 'customer_id <> 7'),
        ]
      : []),
  ].join('\nunion all\n')
}

const restore = `
  set session_replication_role = replica;
  ${kept.map((table) => `delete from public.${table};`).join('\n')}
  ${kept.map((table) => `insert into public.${table} overriding system value select * from vault.${table};`).join('\n')}
  select setval('public.invoice', 1, false), setval('public.tickets_id_seq', 100, false), setval('public.responses_id_seq', 100, false);
  reset session_replication_role;
`

/** Everything around rows: each part as a digest, so that what differs has a name. `$1` are roles of agents. */
const around = `
  select jsonb_build_object(
    'roles', (select md5(string_agg(a::text, ',' order by oid)) from pg_authid a),
    'settings of roles', (select string_agg(s::text, ',' order by s::text) from pg_db_role_setting s),
    'members of roles', (select string_agg(m::text, ',' order by m::text) from pg_auth_members m),
    'relations', (select md5(string_agg(concat_ws(' ', c.oid, relname, relnamespace, relowner, relkind, relacl::text,
        reloptions::text, relrowsecurity, relhasrules, relhastriggers, relnatts), ',' order by c.oid)) from pg_class c
      where c.oid >= 16384 and relkind not in ('i', 't') and relnamespace <> 'pg_toast'::regnamespace),
    'temporary relations', (select count(*) from pg_class where relpersistence = 't'),
    'functions', (select md5(string_agg(concat_ws(' ', oid, proname, proowner, proacl::text, proconfig::text, md5(prosrc)), ',' order by oid))
      from pg_proc where oid >= 16384),
    'types', (select md5(string_agg(oid::text, ',' order by oid)) from pg_type where oid >= 16384),
    'operators', (select count(*) from pg_operator),
    'schemas', (select string_agg(n::text, ',' order by oid) from pg_namespace n where nspname !~ '^pg_(toast_)?temp'),
    'indexes', (select count(*) from pg_index where indrelid >= 16384 and indrelid::regclass::text !~ 'pg_toast'),
    'extensions', (select string_agg(extname, ',' order by 1) from pg_extension),
    'triggers', (select md5(string_agg(concat_ws(' ', oid, tgrelid, tgname, tgenabled), ',' order by oid)) from pg_trigger),
    'rules', (select string_agg(oid::text, ',' order by oid) from pg_rewrite where oid >= 16384),
    'comments', (select md5(string_agg(d::text, ',' order by d::text)) from pg_description d where objoid >= 16384),
    'rest', (select concat_ws(' ', (select count(*) from pg_policy), (select count(*) from pg_event_trigger),
      (select count(*) from pg_publication), (select count(*) from pg_subscription), (select count(*) from pg_cast),
      (select count(*) from pg_language), (select count(*) from pg_collation where oid >= 16384), (select count(*) from pg_tablespace),
      (select count(*) from pg_statistic_ext), (select count(*) from pg_prepared_xacts), (select count(*) from pg_replication_slots),
      (select count(*) from pg_replication_origin), (select count(*) from pg_default_acl), (select count(*) from pg_am))),
    'servers', (select md5(string_agg(concat_ws(' ', s::text, (select string_agg(u::text, ',') from pg_user_mapping u
      where umserver = s.oid)), ',' order by oid)) from pg_foreign_server s),
    'databases', (select string_agg(concat_ws(' ', datname, datacl::text, datconnlimit), ',' order by oid) from pg_database),
    'large objects', (select string_agg(concat_ws(' ', oid, lomowner, lomacl::text, md5(lo_get(oid))), ',' order by oid)
      from pg_largeobject_metadata),
    'settings of the server', pg_read_file('postgresql.auto.conf'),
    'sequences', (select last_value::text || is_called from public.invoice),
    'locks', (select string_agg(distinct locktype || ' ' || mode, ',') from pg_locks l join pg_stat_activity a using (pid)
      where a.usename = any ($1) and a.pid <> pg_backend_pid())
  ) as world`

export type Changes = readonly string[]

/** Watches a database while it is attacked. */
export interface Watch {
  /** The statements of an attack, in full. */
  filled(attack: Attack): readonly string[]
  /** What differs from before, in words; and all rows as they were again. */
  changes(isScoped?: boolean): Promise<{ readonly rows: Changes; readonly world: Changes }>
  /** Once the server has seen the end of connections of agents, what did not go with them is mended. */
  settled(): Promise<void>
  close(): Promise<void>
}

/** `neighbour` opens a connection of another customer's session. `mend` puts right what is not in rows. */
export async function watchOver(
  admin: pg.Client,
  names: Names,
  {
    roles,
    databaseName,
    agent,
    neighbour,
    mend,
  }: {
    readonly roles: readonly string[]
    readonly databaseName: string
    readonly agent: string
    readonly neighbour: (() => Promise<pg.Client>) | undefined
    readonly mend: () => Promise<void>
  },
): Promise<Watch> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-attacks-'))
  // The server runs as another user where tests run as root.
  fs.chmodSync(folder, 0o777)
  let heard = 0
  const sockets = new Set<Socket>()
  const ear = net.createServer((socket) => {
    heard += 1
    sockets.add(socket)
    socket.on('error', () => {}).destroy()
  })
  await new Promise<void>((resolve) => ear.listen(0, '127.0.0.1', resolve))
  const { port } = ear.address() as net.AddressInfo
  let notified = 0
  admin.on('notification', () => (notified += 1))
  await admin.query('listen attack')

  // What another session of the same role says: the server tells that to every connection of the role.
  const said = "select 'NEIGHBOUR' where false"
  let beside: pg.Client | undefined
  let isGone = true
  async function stand(): Promise<void> {
    if (!isGone || neighbour === undefined) return
    beside = await neighbour()
    isGone = false
    beside.on('end', () => (isGone = true))
    await beside.query(said)
  }
  await stand()
  const look = async (): Promise<Record<string, unknown>> => {
    const { rows } = await admin.query<{ world: Record<string, unknown> }>(around, [roles])
    return rows[0]!.world
  }
  let before = await look()

  return {
    filled: (attack) =>
      attack.map((statement) =>
        statement
          .replaceAll('$PORT', String(port))
          .replaceAll('$DIR', folder)
          .replaceAll(/\$([picoan])\b(?!\$)/g, (_, letter: string) => {
            const { policy, internal, catalog, owner } = names
            return { p: policy, i: internal, c: catalog, o: owner, a: agent, n: databaseName }[letter] as string
          }),
      ),
    async changes(isScoped = true) {
      const { rows } = await admin.query<{ what: string }>(brokenRows(isScoped))
      if (beside !== undefined && !isGone) await beside.query(said).catch(() => (isGone = true))
      const after = await look()
      const world = Object.keys(after).filter((name) => JSON.stringify(after[name]) !== JSON.stringify(before[name]))
      if (heard > 0) world.push('a connection to somewhere else')
      if (notified > 0) world.push('a notification')
      if (isGone && neighbour !== undefined) world.push('the end of another connection')
      for (const file of fs.readdirSync(folder)) {
        world.push(`a file: ${file}`)
        fs.rmSync(path.join(folder, file), { recursive: true })
      }
      heard = 0
      notified = 0
      await stand()
      await admin.query(restore)
      return { rows: rows.map(({ what }) => what), world }
    },
    async settled() {
      for (const end = performance.now() + 10_000; performance.now() < end; await pause(5)) {
        const { rows } = await admin.query<{ n: number }>(
          'select count(*)::int as n from pg_stat_activity where usename = any ($1) and pid <> pg_backend_pid()',
          [roles],
        )
        if ((rows[0]?.n ?? 0) > (neighbour === undefined ? 0 : 1)) continue
        if (isDeepStrictEqual(await look(), before)) return
        await mend()
        before = await look()
        return
      }
      throw new Error('connections of agents stay open')
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      ear.close()
      await beside?.end().catch(() => {})
      fs.rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** The same names over all rows: views that keep nothing away. */
export async function plainViews({ admin, plan, settings }: Pick<Desk, 'admin' | 'plan' | 'settings'>): Promise<void> {
  const { policy } = plan.names
  for (const { table, columns } of plan.expected.views) {
    const all = columns.map((column) => pg.escapeIdentifier(column)).join(', ')
    await admin.query(
      `drop view ${policy}.${table.name}; create view ${policy}.${table.name} as select ${all} from public.${table.name}`,
    )
  }
  // So that `RESET ALL` and the like go back to these.
  await admin.query(
    `alter database ${settings.databaseName} set search_path = ${policy}, pg_temp;
     alter database ${settings.databaseName} set statement_timeout = 5000`,
  )
}

/** Takes away what a role has made or was given, and sets the database up afresh. */
export async function mendDesk({ admin, plan, settings }: Pick<Desk, 'admin' | 'plan' | 'settings'>): Promise<void> {
  const roles = [...settings.agents.keys()].map((agent) => plan.names.agent(agent))
  await admin.query(`
    do $do$ declare gone record; begin
      for gone in select oid from pg_largeobject_metadata where oid <> 4711 loop perform lo_unlink(gone.oid); end loop;
      for gone in select rolname from pg_roles where rolname = 'mine' loop drop role mine; end loop;
    end $do$`)
  for (const role of roles) await admin.query(`drop owned by ${pg.escapeIdentifier(role)} cascade`)
  await applySetup(admin, plan)
}

/** Everything that a server sends over a connection, as it sends it. */
export function overhear(client: pg.Client): { take(): string } {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
  let chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  return {
    take() {
      const all = Buffer.concat(chunks).toString('utf8')
      chunks = []
      return all
    },
  }
}

/**
 * Without what a superuser is told of the row that failed, whole: an agent's role is told of its own columns, and the
 * gateway passes no detail on.
 */
export const withoutDetails = (heard: string): string => heard.replaceAll(/\0DFailing row contains [^\0]*\0/g, '\0')

/** How it ended: `ok`, the SQLSTATE of an error, or `lost` for a connection that is no more. */
export async function sent(client: pg.Client, statement: string, isExtended = false): Promise<string> {
  try {
    await client.query(isExtended ? ({ text: statement, queryMode: 'extended' } as pg.QueryConfig) : statement)
    return 'ok'
  } catch (thrown) {
    return (thrown as { code?: string; severity?: string }).severity === undefined
      ? 'lost'
      : (thrown as { code: string }).code
  }
}

/** Name, statements, and why the database alone may let it through. */
export interface Case {
  readonly name: string
  readonly attack: Attack
  readonly conceded: 'public' | 'upsert' | undefined
}

export const casesOf = (kind: string): readonly Case[] =>
  (sqlAttacks[kind] ?? []).map((entry: Entry) => {
    const [attack, conceded] = read(entry)
    const text = attack.join('; ')
    return { name: text.length > 160 ? `${text.slice(0, 150)}… (${text.length})` : text, attack, conceded }
  })

function read(entry: Entry): readonly [Attack, Case['conceded']] {
  if (typeof entry === 'string') return [[entry], undefined]
  if ('gift' in entry) return [entry.gift, 'public']
  return 'upsert' in entry ? [[entry.upsert], 'upsert'] : [entry, undefined]
}

export const kinds = Object.keys(sqlAttacks)

/** Attacks that wait or make much: they cost more than they show. */
const costly =
  /repeat\(|pad\(|generate_series\(1, 1|sleep|'x' ~|8_000|vacuum|reindex|checkpoint|100000000|create database|do update/i

/** Attacks of single statements that cost little, and hold nothing that is looked for in answers. */
export const briefAttacks: readonly string[] = Object.values(sqlAttacks)
  .flat()
  .flatMap((entry) =>
    typeof entry === 'string' ? [entry] : 'gift' in entry ? entry.gift : 'upsert' in entry ? [] : entry,
  )
  .filter((text) => text.length < 600 && !costly.test(text) && !ofOthers.test(text) && !hidden.test(text))

/** Statements over the same tables, and nothing wrong with them. */
export const deskWork: readonly string[] = [
  'select id, subject, body, status from tickets where id = 1',
  'select t.id, r.body from tickets t join responses r on r.ticket_id = t.id order by r.id',
  "select count(*), max(amount), string_agg(body, ',') from tickets group by status having count(*) > 0",
  'select * from tickets t, lateral (select r.* from responses r where r.ticket_id = t.id limit 2) x',
  'with open as (select * from tickets where status = $$open$$) select o.*, c.name from open o join customers c on c.id = o.customer_id',
  "update tickets set status = 'closed', body = subject || body where id = 1 returning *",
  'delete from responses r where r.ticket_id in (select id from tickets) returning *',
  "insert into tickets (customer_id, subject, body) values (7, 'new', 'x'), (7, 'other', 'y') returning id, body",
  'insert into responses (ticket_id, body) select id, body from tickets where amount > 5 returning *',
  "insert into preferences (customer_id, key, value) values (7, 'theme', 'x') on conflict do nothing returning *",
  'select name, email, phone, ssn from customers union all select subject, body, status, null from tickets',
  'select id, rank() over (partition by status order by amount desc), lag(body) over (order by id) from tickets',
  'select row_to_json(t), to_jsonb(c) from tickets t left join customers c on true',
  "select case when amount > 15 then body::text else subject end, coalesce(body, 'x') from tickets order by 1 desc nulls last",
  'select * from tickets where (customer_id, id) in (select customer_id, id from tickets) or exists (select from responses)',
]
