// A help desk with two customers in a real database, set up for agents: what tests of the database's own protection share.
import pg from 'pg'
import { applySetup } from '../../src/postgres/apply.ts'
import type { Database, Mask, Table, Verb } from '../../src/postgres/description.ts'
import { verbs } from '../../src/postgres/description.ts'
import { agentPassword } from '../../src/postgres/password.ts'
import { planSetup } from '../../src/postgres/setup.ts'
import type { Plan, Settings } from '../../src/postgres/setup.ts'
import type { PostgresServer } from './postgres.ts'

export const deskTables = `
  create table customers (id int primary key, name text not null, email text, phone text, ssn text);
  create table tickets (
    id serial primary key, customer_id int not null references customers, subject text not null, body text,
    status text not null default 'open', amount int, secret_note text, created timestamptz not null default now()
  );
  create table responses (
    id int generated always as identity primary key, ticket_id int not null references tickets on delete cascade,
    body text not null, author text not null default 'agent', internal_comment text
  );
  create table salaries (name text primary key, amount int not null);
  insert into customers values (7, 'Ada', 'ada@example.com', '+44 20 7946 0007', 'SSN-ADA'),
    (8, 'Bob', 'bob@rival.example', '+44 20 7946 0008', 'SSN-BOB');
  insert into tickets (customer_id, subject, body, amount, secret_note) values
    (7, 'ada one', 'body of ada one', 10, 'HIDDEN-ADA'), (7, 'ada two', 'body of ada two', 20, 'HIDDEN-ADA'),
    (8, 'bob one', 'BOBS-BODY', 28, 'HIDDEN-BOB'), (8, 'bob two', 'BOBS-BODY', 30, 'HIDDEN-BOB');
  insert into responses (ticket_id, body, internal_comment) values (1, 'hello ada', 'HIDDEN-R'), (3, 'BOBS-RESPONSE', 'HIDDEN-R');
  insert into salaries values ('ceo', 987654);
`

const plainTable: Omit<Table, 'name' | 'base'> = {
  select: new Map(),
  insert: [],
  update: [],
  delete: false,
  key: [],
  ask: {},
  label: { trust: 'untrusted', readers: 'internal' },
}

/** A table of the description: whatever is not said is not there. */
export const describeTable = (name: string, given: Partial<Table>): [string, Table] => [
  name,
  { ...plainTable, name, base: { schema: 'public', table: name }, ...given },
]

export function deskDatabase(alias: string): Database {
  const plain = (...columns: string[]): Table['select'] => new Map(columns.map((column) => [column, 'none'] as const))
  return {
    alias,
    tables: new Map([
      describeTable('tickets', {
        select: plain('id', 'customer_id', 'subject', 'body', 'status', 'amount', 'created'),
        insert: ['customer_id', 'subject', 'body'],
        update: ['status', 'body'],
        delete: true,
        key: ['id'],
        where: { source: 'customer_id = session.customer_id' },
      }),
      describeTable('responses', {
        select: plain('id', 'ticket_id', 'body'),
        insert: ['ticket_id', 'body'],
        key: ['id'],
        where: { source: 'ticket_id in (select id from public.tickets where customer_id = session.customer_id)' },
      }),
      describeTable('customers', {
        select: new Map<string, Mask>([
          ['id', 'none'],
          ['name', { sql: 'upper(name)' }],
          ['email', 'email'],
          ['phone', 'last4'],
          ['ssn', 'hash'],
        ]),
        where: { source: 'id = session.customer_id' },
      }),
    ]),
    facts: {
      customer_id: 'int',
      region: 'string',
      since: 'timestamp',
      ids: 'list<int>',
      tags: 'list<string>',
      vip: 'bool',
    },
    functions: [],
    catalog: 'names',
    most: { rows: 100, bytes: 1_000_000, time: 5_000, statement: 64_000 },
  }
}

/** Agents of the desk: one that reads, one that does everything. */
export const deskAgents: Settings['agents'] = new Map([
  [
    'reader',
    new Map([
      ['tickets', new Set<Verb>(['select'])],
      ['customers', new Set<Verb>(['select'])],
    ]),
  ],
  ['desk-worker', new Map(['tickets', 'responses', 'customers'].map((table) => [table, new Set(verbs)]))],
])

export interface Desk {
  readonly database: Database
  readonly settings: Settings
  readonly plan: Plan
  readonly admin: pg.Client
  /** A connection as an agent's role, of a session with these facts; without facts, of no session. */
  as(agent: string, facts?: object): Promise<pg.Client>
  asGateway(): Promise<pg.Client>
  close(): Promise<void>
}

export const databaseOfUrl = (url: string): string => new URL(url).pathname.slice(1)

/** Statements that belong to no session are ended by the server at the end of a test file, without a fuss. */
export async function connectTo(url: string, user?: string, password?: string): Promise<pg.Client> {
  const { hostname, port, pathname, username, password: own } = new URL(url)
  const client = new pg.Client({
    host: hostname,
    port: Number(port),
    database: pathname.slice(1),
    user: user ?? username,
    password: password ?? own,
  })
  client.on('error', () => {})
  await client.connect()
  return client
}

/** A database with these tables, set up for these agents by its superuser. */
export async function startDesk(
  server: PostgresServer,
  { tables = deskTables, change = (database: Database): Database => database, agents = deskAgents } = {},
): Promise<Desk> {
  const url = await server.createDatabase(tables)
  const database = change(deskDatabase(server.newName()))
  const gateway = { user: `gateway_${database.alias}`, password: `${database.alias} password` }
  const settings = { databaseName: databaseOfUrl(url), gateway, agents, connections: 10 }
  const plan = await planSetup(database, settings)
  const admin = await connectTo(url)
  const clients = [admin]
  const open = async (user: string, password: string): Promise<pg.Client> => {
    const client = await connectTo(url, user, password)
    clients.push(client)
    return client
  }
  await applySetup(admin, plan)
  const control = await open(gateway.user, gateway.password)
  return {
    database,
    settings,
    plan,
    admin,
    as: async (agent, facts) => {
      const role = plan.names.agent(agent)
      const client = await open(role, agentPassword(gateway.password, role))
      if (facts) {
        const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
        await control.query(
          `insert into ${plan.names.internal}.session (pid, role, scope) values ($1, $2, $3)
           on conflict (pid) do update set role = excluded.role, scope = excluded.scope`,
          [rows[0]?.pid, role, JSON.stringify(facts)],
        )
      }
      return client
    },
    asGateway: () => open(gateway.user, gateway.password),
    close: async () => {
      await Promise.all(clients.map((client) => client.end().catch(() => {})))
    },
  }
}
