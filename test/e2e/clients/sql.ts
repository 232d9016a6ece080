// A program of an agent: goes through the story of sql-clients.test.ts with one of the PostgreSQL clients of Node, and says
// what it was told.
import fs from 'node:fs'
import { checkServerIdentity } from 'node:tls'
import type { PeerCertificate } from 'node:tls'
import { eq, sql as sqlOf } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { boolean, integer, jsonb, pgTable, text, timestamp, uuid } from 'drizzle-orm/pg-core'
import pg from 'pg'
import postgres from 'postgres'

const env = (name: string): string => process.env[name] ?? ''
const id = env('THING')
const who = env('WHO')
const ca = env('CA')
const values = [id, 7, 42, "naïve 'text'", true, null, new Date('2026-02-03T04:05:06.789Z'), { a: [1, 2] }, [1, 2, 3]]
const long = 'select count(*) from generate_series(1, 9999) a cross join generate_series(1, 9999) b'

const say = (step: string, value: unknown): void => console.log(JSON.stringify({ step, value }))
const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** What went wrong, as the client tells its program. */
async function error(work: () => Promise<unknown>): Promise<{ state: string; message: string }> {
  try {
    await work()
    return { state: '', message: 'it was not refused' }
  } catch (thrown) {
    const cause = (thrown as Error).cause ?? thrown
    const { code = '', message } = cause as { code?: string; message: string }
    return { state: code, message }
  }
}

/** Asks until it is told that the session is over. */
async function untilOver(ask: () => Promise<unknown>): Promise<void> {
  say('waiting', true)
  for (let tries = 0; tries < 200; tries++) {
    const { state, message } = await error(ask)
    if (message !== 'it was not refused')
      return say('ended', state === '57P01' || /terminat|closed|ended|not queryable/i.test(message))
    await pause(50)
  }
  say('ended', false)
}

const config: pg.ClientConfig = {
  host: '127.0.0.1',
  port: Number(env('PORT')),
  database: 'desk',
  user: 'worker',
  password: env('TOKEN'),
  ...(ca === '' ? {} : { ssl: { ca: fs.readFileSync(ca, 'utf8') } }),
}

async function nodePostgres(): Promise<void> {
  const client = new pg.Client(config)
  const notices: string[] = []
  client.on('notice', ({ message }) => notices.push(message ?? ''))
  client.on('error', () => {})
  await client.connect()
  const rows = async (query: string, given: unknown[] = []): Promise<unknown[][]> =>
    (await client.query({ text: query, values: given, rowMode: 'array' })).rows

  say('own', await rows('select id, subject from tickets order by id'))
  await rows(
    'insert into things (id, customer_id, n, name, ok, nothing, at, data, list) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)',
    values,
  )
  say('types', (await rows('select n, name, ok, nothing, at, data, list from things where id = $1', [id]))[0])
  const prepared: unknown[] = []
  for (let i = 0; i < 8; i++) {
    const one = { name: 'one', text: 'select subject from tickets where id = $1', values: [1 + (i % 2)] }
    prepared.push((await client.query(one)).rows[0]?.subject)
  }
  say('prepared', prepared)
  for (const [body, end] of [
    ['kept', 'commit'],
    ['gone', 'rollback'],
  ] as const) {
    await rows('begin')
    await rows('insert into entries (customer_id, who, body) values (7, $1, $2)', [who, body])
    await rows(end)
  }
  say('transactions', await rows('select body from entries where who = $1', [who]))
  say('refused', await error(() => rows('select pg_sleep(1)')))
  say('refused prepared', await error(() => rows('select pg_sleep($1)', [1])))
  say('hidden', await error(() => rows('select * from salaries where amount > $1', [1])))
  say('after', await rows('select 1'))
  await rows('begin')
  say('failed', [
    (await error(() => rows('select pg_sleep(1)'))).state,
    (await error(() => rows('select 1'))).state,
    (await rows('rollback')).length,
    (await rows('select 1'))[0],
  ])
  await rows('begin')
  await rows('declare c cursor for select id from notes where id > 1000 order by id')
  const read: unknown[] = []
  for (;;) {
    const some = await rows('fetch 10 from c')
    if (some.length === 0) break
    read.push(...some.flat())
  }
  await rows('commit')
  say('cursor', read)
  const running = error(() => rows(long))
  await pause(200)
  const other = new pg.Client({ ...config, ssl: false }) as pg.Client & {
    cancel(client: pg.Client, query: unknown): void
  }
  const { _activeQuery: active } = client as unknown as { _activeQuery: unknown }
  other.cancel(client, active)
  say('cancel', await running)
  say('copy', await error(() => rows('copy tickets to stdout')))
  say('listen', await error(() => rows('listen news')))
  const { rowCount } = await client.query('delete from notes where id = $1', [Number(env('NOTE'))])
  say('held', rowCount)
  say(
    'notice',
    notices.some((each) => each.startsWith('waiting for approval')),
  )
  await untilOver(() => rows('select 1'))
}

async function postgresJs(): Promise<void> {
  const notices: string[] = []
  // It forgets the name of a server that is an address.
  const ssl = {
    ...(ca === '' ? {} : { ca: fs.readFileSync(ca, 'utf8') }),
    checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity('127.0.0.1', certificate),
  }
  const sql = postgres({
    host: '127.0.0.1',
    port: Number(env('PORT')),
    database: 'desk',
    user: 'worker',
    password: env('TOKEN'),
    max: 1,
    ...(ca === '' ? {} : { ssl }),
    onnotice: ({ message }) => void notices.push(message ?? ''),
  })
  say('own', await sql`select id, subject from tickets order by id`.values())
  const [thing, customer, n, name, ok, nothing, at, data, list] = values
  await sql`insert into things (id, customer_id, n, name, ok, nothing, at, data, list) values (${thing as string}, ${customer as number}, ${n as number}, ${name as string},
    ${ok as boolean}, ${nothing as null}, ${at as Date}, ${sql.json(data as never)}, ${list as number[]})`
  say('types', (await sql`select n, name, ok, nothing, at, data, list from things where id = ${id}`.values())[0])
  const prepared: unknown[] = []
  for (let i = 0; i < 8; i++)
    prepared.push((await sql`select subject from tickets where id = ${1 + (i % 2)}`)[0]?.['subject'])
  say('prepared', prepared)
  const insert = (each: postgres.Sql, body: string) =>
    each`insert into entries (customer_id, who, body) values (7, ${who}, ${body})`
  await sql.begin((tx) => insert(tx as unknown as postgres.Sql, 'kept'))
  await sql
    .begin(async (tx) => {
      await insert(tx as unknown as postgres.Sql, 'gone')
      throw new Error('back')
    })
    .catch(() => {})
  say('transactions', await sql`select body from entries where who = ${who}`.values())
  say('refused', await error(() => sql`select pg_sleep(1)`.simple()))
  say('refused prepared', await error(() => sql`select pg_sleep(${1})`))
  say('hidden', await error(() => sql`select * from salaries where amount > ${1}`))
  say('after', await sql`select 1`.values())
  const states: unknown[] = []
  await sql
    .begin(async (tx) => {
      states.push((await error(() => tx`select pg_sleep(1)`)).state)
      states.push((await error(() => tx`select 1`)).state)
      throw new Error('back')
    })
    .catch(() => states.push(0))
  say('failed', [...states, (await sql`select 1`.values())[0]])
  const read: unknown[] = []
  await sql`select id from notes where id > 1000 order by id`.cursor(10, (some) => {
    read.push(...some.map((row) => row['id']))
  })
  say('cursor', read)
  const sent = await Promise.all(
    [1, 2, 1, 2].map((each) => sql`select subject from tickets where id = ${each}`.values()),
  )
  say('pipeline', sent.flat(2))
  const query = sql.unsafe(long)
  const running = error(() => query)
  await pause(200)
  query.cancel()
  say('cancel', await running)
  say('copy', await error(() => sql`copy tickets to stdout`.readable()))
  say('listen', await error(() => sql`listen news`.simple()))
  say('held', (await sql`delete from notes where id = ${Number(env('NOTE'))}`).count)
  say(
    'notice',
    notices.some((each) => each.startsWith('waiting for approval')),
  )
  // It connects anew: then a token of a session that is over is no password any more.
  say('waiting', true)
  for (let tries = 0; tries < 200; tries++) {
    const { state } = await error(() => sql`select 1`)
    if (state !== '') return say('ended', ['57P01', '28P01', 'CONNECTION_CLOSED'].includes(state))
    await pause(50)
  }
}

async function drizzleOrm(): Promise<void> {
  const tickets = pgTable('tickets', { id: integer('id'), subject: text('subject') })
  const salaries = pgTable('salaries', { name: text('name'), amount: integer('amount') })
  const notes = pgTable('notes', { id: integer('id') })
  const entries = pgTable('entries', { customer: integer('customer_id'), who: text('who'), body: text('body') })
  const things = pgTable('things', {
    id: uuid('id'),
    customer: integer('customer_id'),
    n: integer('n'),
    name: text('name'),
    ok: boolean('ok'),
    nothing: text('nothing'),
    at: timestamp('at', { withTimezone: true }),
    data: jsonb('data'),
    list: integer('list').array(),
  })
  const client = new pg.Client(config)
  const notices: string[] = []
  client.on('notice', ({ message }) => notices.push(message ?? ''))
  client.on('error', () => {})
  await client.connect()
  const db = drizzle(client)

  say(
    'own',
    (await db.select().from(tickets).orderBy(tickets.id)).map((row) => [row.id, row.subject]),
  )
  const [, customer, n, name, ok, nothing, at, data, list] = values as never[]
  await db.insert(things).values({ id, customer, n, name, ok, nothing, at, data, list } as never)
  const { id: _, customer: __, ...thing } = (await db.select().from(things).where(eq(things.id, id)))[0]!
  say('types', Object.values(thing))
  const statement = db
    .select({ subject: tickets.subject })
    .from(tickets)
    .where(eq(tickets.id, sqlOf.placeholder('id')))
    .prepare('one')
  const prepared: unknown[] = []
  for (let i = 0; i < 8; i++) prepared.push((await statement.execute({ id: 1 + (i % 2) }))[0]?.subject)
  say('prepared', prepared)
  await db.transaction((tx) => tx.insert(entries).values({ customer: 7, who, body: 'kept' }))
  await db
    .transaction(async (tx) => {
      await tx.insert(entries).values({ customer: 7, who, body: 'gone' })
      tx.rollback()
    })
    .catch(() => {})
  say(
    'transactions',
    (await db.select().from(entries).where(eq(entries.who, who))).map((row) => [row.body]),
  )
  say('refused', await error(async () => await db.execute(sqlOf`select pg_sleep(1)`)))
  say('refused prepared', await error(async () => await db.execute(sqlOf`select pg_sleep(${1})`)))
  say('hidden', await error(async () => await db.select().from(salaries)))
  const one = async (): Promise<unknown[]> => (await db.execute(sqlOf`select 1 as one`)).rows.map((row) => row['one'])
  say('after', [await one()])
  const states: unknown[] = []
  await db
    .transaction(async (tx) => {
      states.push((await error(async () => await tx.execute(sqlOf`select pg_sleep(1)`))).state)
      states.push((await error(async () => await tx.execute(sqlOf`select 1`))).state)
      tx.rollback()
    })
    .catch(() => states.push(0))
  say('failed', [...states, await one()])
  say('held', (await db.delete(notes).where(eq(notes.id, Number(env('NOTE'))))).rowCount)
  say(
    'notice',
    notices.some((each) => each.startsWith('waiting for approval')),
  )
  await untilOver(one)
}

const clients: Readonly<Record<string, () => Promise<void>>> = {
  'node-postgres': nodePostgres,
  'postgres.js': postgresJs,
  Drizzle: drizzleOrm,
}
await clients[env('CLIENT')]?.()
process.exit(0)
