// A database as tools, through the whole gateway: a real server, set up by the product, and an agent that may send any SQL.
import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Approval } from '../../src/core/approval.ts'
import type { JsonObject } from '../../src/core/json.ts'
import { agentPassword } from '../../src/postgres/password.ts'
import { noPostgres, startPostgres, versions } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { deskTables } from '../support/postgres-desk.ts'
import { removeFolders, startSallyport, until } from '../support/sallyport.ts'
import type { Holder, Sallyport } from '../support/sallyport.ts'

afterAll(removeFolders)

const application = `
  ${deskTables}
  create table notes (id int primary key, customer_id int not null, body text not null);
  insert into notes select n, 7, 'note ' || n from generate_series(1, 30) n;
  create table log (entry text);
  create function log_it() returns trigger language plpgsql as
    'begin insert into public.log values (old.body); return old; end';
  alter function log_it() security definer;
  create trigger log_it after delete on notes for each row execute function log_it();
`

const password = 'PASSWORD-OF-THE-GATEWAY'

const policy = (port: number, database: string, user: string, more: Record<string, unknown> = {}) => ({
  facts: { customer_id: 'int' },
  approvals: { hold: '1 ms' },
  resources: {
    desk: {
      postgres: `postgres://${user}@127.0.0.1:${port}/${database}`,
      password: '${secret:DESK_PASSWORD}',
      trust: 'trusted',
      tables: {
        tickets: {
          select: ['id', 'customer_id', 'subject', 'body', 'status', 'amount'],
          insert: ['customer_id', 'subject', 'body'],
          update: ['status', 'body'],
          delete: true,
          key: ['id'],
          where: 'customer_id = session.customer_id',
        },
        responses: {
          select: ['id', 'ticket_id', 'body'],
          insert: ['ticket_id', 'body'],
          key: ['id'],
          where: 'ticket_id in (select id from public.tickets where customer_id = session.customer_id)',
          ask: { insert: true },
        },
        customers: {
          select: ['id', 'name', 'email', 'phone', 'ssn'],
          masks: { email: 'email', phone: 'last4', ssn: 'hash' },
          where: 'id = session.customer_id',
          trust: 'untrusted',
        },
        notes: {
          select: ['id', 'customer_id', 'body'],
          update: ['body'],
          delete: true,
          key: ['id'],
          where: 'customer_id = session.customer_id',
          ask: { update: 3 },
          rows: 5,
        },
        salaries: { select: ['name', 'amount'] },
      },
      tools: {
        find_tickets: {
          sql: "select id, subject from tickets where ($1::text is null or status = $1) and subject like coalesce($2, '%') order by id",
          arguments: { status: { type: 'string' }, like: { type: 'string' } },
          optional: ['status', 'like'],
          description: 'Finds tickets of the customer.',
        },
        set_status: {
          sql: 'update tickets set status = $2 where id = $1',
          arguments: { id: { type: 'integer' }, status: { type: 'string' } },
        },
        close_all: { sql: "update tickets set status = 'closed'" },
      },
    },
  },
  agents: {
    reader: { may: ['desk.tickets:select', 'desk.customers:select'] },
    caller: { may: ['desk:find_tickets', 'desk:set_status', 'desk:close_all'] },
    worker: {
      may: [
        'desk.tickets:*',
        'desk.responses:*',
        'desk.customers:select',
        { do: 'desk.notes:update' },
        { do: 'desk.notes:delete', ask: 'never' },
        'desk.notes:select',
      ],
      lends: { reader: ['desk.tickets:select'] },
    },
    careful: {
      may: [
        { do: 'desk.tickets:select', when: '!("body" in args.columns) && args.parameters.size() == 1' },
        { do: 'desk.tickets:update', when: 'args.bounded' },
        { do: 'desk.customers:select', when: 'args.statement.startsWith("select")' },
      ],
    },
    locked: { mode: 'lockdown', may: ['desk.tickets:*', 'desk.customers:select'] },
    few: { may: ['desk.tickets:select'], limits: { calls: '3/min' } },
    small: { may: ['desk.tickets:select'], limits: { bytes: '100 B/min' } },
    nobody: { may: [] },
    watched: { mode: 'observe', may: [] },
  },
  ...more,
})

interface Told {
  readonly text: string
  readonly isError: boolean
  readonly structured: JsonObject & { readonly rows: readonly (readonly unknown[])[] }
  /** The whole answer, without the id of its event. */
  readonly whole: string
}

describe.each(versions)('a database as tools, PostgreSQL %i', async (version) => {
  const missing = await noPostgres(version)
  let server: PostgresServer
  let gateway: Sallyport
  let admin: pg.Client
  let adminUrl: string
  let user: string

  beforeAll(async () => {
    if (missing !== false) return
    server = await startPostgres({ version })
    adminUrl = await server.createDatabase(application)
    user = `gateway_${server.newName()}`
    const database = new URL(adminUrl).pathname.slice(1)
    gateway = await startSallyport({ settings: policy(server.port, database, user) })
    await gateway.admin('POST', '/v1/secrets', { name: 'DESK_PASSWORD', value: password, resource: 'desk' })
    admin = new pg.Client({ connectionString: adminUrl })
    admin.on('error', () => {})
    await admin.connect()
    await apply()
  }, 120_000)
  afterAll(async () => {
    await gateway?.stop()
    await admin?.end()
    await server?.close()
  })

  const apply = () => gateway.admin('POST', '/v1/databases/desk/apply', { admin: adminUrl })
  const session = (agent: string, facts: JsonObject = { customer_id: 7 }) => gateway.session(agent, { facts } as never)
  async function call({ token }: Holder, tool: string, args: object = {}): Promise<Told> {
    const { answer, text } = await gateway.call(token, tool, args)
    const result = answer.result ?? { content: [{ text: answer.error?.message ?? text }], isError: true }
    return {
      text: (result['content'] as { text: string }[])[0]!.text,
      isError: result['isError'] === true,
      structured: result['structuredContent'],
      whole: text.replaceAll(/evt_[\w-]+/g, 'evt'),
    }
  }
  const query = (holder: Holder, sql: string, parameters?: readonly unknown[]) =>
    call(holder, 'desk__query', { sql, ...(parameters === undefined ? {} : { parameters }) })
  const pending = async (): Promise<Approval> => (await gateway.approvals('?state=pending'))[0]!
  const tools = async ({ token }: Holder): Promise<readonly string[]> => {
    const { answer } = await gateway.ask(token, 'tools/list')
    return (answer.result!['tools'] as { name: string }[])
      .map(({ name }) => name)
      .filter((name) => name.startsWith('desk'))
  }
  const fresh = async (sql: string): Promise<void> => void (await admin.query(sql))
  const eventsOf = async ({ id }: Holder) => (await gateway.events()).filter((event) => event['session'] === id)

  describe.skipIf(missing)('what a session sees', () => {
    test('tools are listed as the session may use them', async () => {
      expect(await tools(await session('reader'))).toEqual(['desk__describe', 'desk__query'])
      expect(await tools(await session('caller'))).toEqual([
        'desk__close_all',
        'desk__find_tickets',
        'desk__set_status',
      ])
      expect(await tools(await session('nobody'))).toEqual([])
      const refused = await query(await session('nobody'), 'select 1')
      expect(refused.text).toBe('Unknown tool: desk__query')
      expect((await query(await session('caller'), 'select id from tickets')).text).toBe('Unknown tool: desk__query')
    })

    test('wrong arguments are told to whoever may know of the tool, and to nobody else', async () => {
      const reader = await session('reader')
      const wrong: readonly [string, object, RegExp][] = [
        ['desk__query', {}, /^The arguments of `desk__query` are wrong: .*sql/],
        ['desk__query', { sql: 7 }, /^The arguments of `desk__query` are wrong: \/sql: /],
        [
          'desk__query',
          { sql: 'select id from tickets', more: 1 },
          /^The arguments of `desk__query` are wrong: .*more/,
        ],
        ['desk__describe', { table: 'tickets' }, /^The arguments of `desk__describe` are wrong: .*table/],
      ]
      const stranger = await session('nobody')
      for (const [tool, args, words] of wrong) {
        const told = await call(reader, tool, args)
        expect(told).toMatchObject({ isError: true, text: expect.stringMatching(words) })
        expect(told.whole).toContain('"dev.sallyport/refusal":{"code":"invalid_arguments"')
        const unknown = await call(stranger, tool, args)
        const never = await call(stranger, tool.replace('desk__', 'kseD__'), args)
        expect(unknown.text).toBe(`Unknown tool: ${tool}`)
        expect(unknown.whole.replaceAll('desk__', 'kseD__')).toBe(never.whole)
      }
      const decisions = (await eventsOf(reader)).filter(({ type }) => type === 'decision')
      expect(decisions.map(({ code }) => code)).toEqual(wrong.map(() => 'invalid_arguments'))
    })

    test('`describe` tells what the session may see, and no more', async () => {
      const { structured, text } = await call(await session('reader'), 'desk__describe')
      expect(structured).toEqual({
        dialect: 'PostgreSQL',
        tables: [
          {
            table: 'tickets',
            select: ['id', 'customer_id', 'subject', 'body', 'status', 'amount'],
            types: {
              id: 'integer',
              customer_id: 'integer',
              subject: 'text',
              body: 'text',
              status: 'text',
              amount: 'integer',
            },
            key: ['id'],
            rows: 'only those of this session',
          },
          {
            table: 'customers',
            select: [
              'id',
              'name',
              { column: 'email', masked: true },
              { column: 'phone', masked: true },
              { column: 'ssn', masked: true },
            ],
            types: { id: 'integer', name: 'text', email: 'text', phone: 'text', ssn: 'text' },
            rows: 'only those of this session',
          },
        ],
      })
      expect(text).not.toMatch(/salaries|notes|customer_id = /)
    })

    test('columns, rows, how many, and that there are more', async () => {
      const reader = await session('reader')
      expect((await query(reader, 'select id, subject from tickets order by id')).structured).toEqual({
        columns: [
          { name: 'id', type: 'integer' },
          { name: 'subject', type: 'text' },
        ],
        rows: [
          [1, 'ada one'],
          [2, 'ada two'],
        ],
        count: 2,
      })
      const more = await query(await session('worker'), 'select id from notes order by id')
      expect(more.structured).toMatchObject({
        rows: [[1], [2], [3], [4], [5]],
        count: 5,
        truncated: 'there are more rows',
      })
      expect((await query(reader, 'select subject from tickets where id = $1', [2])).structured.rows).toEqual([
        ['ada two'],
      ])
      const wrong = await query(reader, 'select 1 / (amount - 10) from tickets')
      expect(wrong).toMatchObject({ isError: true, text: 'ERROR 22012: division by zero' })
    })

    test('its own customer only, by any SQL', async () => {
      const ada = await session('reader')
      const bob = await session('reader', { customer_id: 8 })
      for (const sql of [
        'select * from tickets',
        'select * from tickets where customer_id = 8 or true',
        'select t.*, c.* from tickets t, customers c',
        'with all_of_it as (select * from tickets) select * from all_of_it union all select * from tickets',
        'select string_agg(body, $1) from tickets',
        'select (select max(body) from tickets), count(*) from customers',
      ]) {
        const parameters = sql.includes('$1') ? [','] : []
        const answer = await query(ada, sql, parameters)
        expect([sql, answer.isError, /bob|BOB|rival/i.test(answer.whole)]).toEqual([sql, false, false])
        expect((await query(bob, sql, parameters)).whole).not.toMatch(/ada/i)
      }
    })

    test('masks', async () => {
      const { structured } = await query(await session('reader'), 'select email, phone, ssn from customers')
      expect(structured.rows).toEqual([
        ['a***@example.com', expect.stringMatching(/^\*+0007$/), expect.stringMatching(/^[0-9a-f]{32}$/)],
      ])
    })

    test('promise 3: a table that is not held is answered exactly like one that is not there', async () => {
      const reader = await session('reader')
      // Of the same length each: `salaries` and `notes` are described, and not for this session.
      for (const [held, none] of [
        ['salaries', 'vacation'],
        ['notes', 'notez'],
        ['public.salaries', 'public.vacation'],
      ] as const) {
        for (const sql of [
          'select * from TABLE',
          'select nothing from TABLE',
          'select pg_sleep(1) from TABLE',
          'select t.id from tickets t join TABLE s on s.amount = t.id',
          'select * from TABLE, TABLEs',
          'insert into TABLE (name, amount) values (1, 2)',
          'update TABLE set amount = 1',
          'delete from TABLE where name = $1',
          'with x as (delete from TABLE returning *) select * from x',
          'select TABLE.name from tickets',
          'table TABLE',
        ]) {
          const [one, other] = [
            await query(reader, sql.replaceAll('TABLE', held)),
            await query(reader, sql.replaceAll('TABLE', none)),
          ]
          expect(one.whole.replaceAll(held, 'TABLE')).toBe(other.whole.replaceAll(none, 'TABLE'))
          expect(one.isError).toBe(true)
        }
      }
      const told = (await eventsOf(reader)).find(({ detail }) => detail === 'there, and not held: salaries')
      expect(told).toMatchObject({ decision: 'deny', rules: ['sql:42P01'], because: expect.stringMatching(/salaries/) })
    })

    test('nothing of a table that is held for one thing can be learned beyond that', async () => {
      const lent = await session('locked')
      const { text } = await query(lent, 'select ssn from customers; drop table tickets')
      expect(text).toMatch(/exactly one statement/)
      const { text: no } = await query(await session('reader'), "update tickets set status = 'x' where id = 1")
      expect(no).toMatch(/can't be changed|is not among/)
      expect(no).toMatch(/Nothing has happened/)
    })
  })

  describe.skipIf(missing)('changes', () => {
    test('a row for another customer is refused by the database', async () => {
      const worker = await session('worker')
      const insert = 'insert into tickets (customer_id, subject, body) values ($1, $2, $3) returning id'
      const own = await query(worker, insert, [7, 'mine', 'x'])
      expect(own.structured).toMatchObject({ changed: 1, rows: [[expect.any(Number)]] })
      const other = await query(worker, insert, [8, 'theirs', 'x'])
      expect(other).toMatchObject({ isError: true, text: expect.stringMatching(/^ERROR 44000: /) })
      expect((await admin.query("select 1 from tickets where subject = 'theirs'")).rowCount).toBe(0)
      await fresh("delete from tickets where subject = 'mine'")
    })

    test('typed tools, with arguments that may be left out', async () => {
      const caller = await session('caller')
      const find = async (args: object) => (await call(caller, 'desk__find_tickets', args)).structured.rows
      expect(await find({})).toEqual([
        [1, 'ada one'],
        [2, 'ada two'],
      ])
      expect(await find({ like: '%two' })).toEqual([[2, 'ada two']])
      expect(await find({ status: 'nothing' })).toEqual([])
      const wrong = await call(caller, 'desk__find_tickets', { status: 1, other: 2 })
      expect(wrong.text).toMatch(/arguments of `desk__find_tickets` are wrong/)
      expect((await call(caller, 'desk__set_status', { id: 1, status: 'seen' })).structured).toEqual({ changed: 1 })
      expect((await call(caller, 'desk__set_status', { id: 3, status: 'seen' })).structured).toEqual({ changed: 0 })
      const { rows } = await admin.query('select id, status from tickets where id in (1, 3) order by id')
      expect(rows).toEqual([
        { id: 1, status: 'seen' },
        { id: 3, status: 'open' },
      ])
      // No key: it can't be taken back, so people are asked, and see the statement.
      expect((await call(caller, 'desk__close_all')).text).toMatch(/needs approval/)
      expect((await pending()).evidence).toMatchObject({
        rows: 2,
        statement: "update tickets set status = 'closed'",
        parameters: [],
        reversible: false,
      })
      await gateway.approve((await pending()).id)
      expect((await call(caller, 'desk__close_all')).structured).toEqual({ changed: 2 })
      await fresh("update tickets set status = 'open'")
    })

    test('conditions over columns, bounds, parameters and text', async () => {
      const careful = await session('careful')
      const ok = async (sql: string, parameters: readonly unknown[] = []) =>
        !(await query(careful, sql, parameters)).isError
      expect(await ok('select id from tickets where id = $1', [1])).toBe(true)
      expect(await ok('select id from tickets where id = 1')).toBe(false)
      expect(await ok('select id, body from tickets where id = $1', [1])).toBe(false)
      expect(await ok('select id from tickets where body like $1', ['%'])).toBe(false)
      expect(await ok("update tickets set status = 'b' where id = $1", [1])).toBe(true)
      expect(await ok("update tickets set status = 'b' where id >= $1", [1])).toBe(false)
      expect(await ok('select id from customers')).toBe(true)
      expect(await ok('SELECT id from customers')).toBe(false)
      await fresh("update tickets set status = 'open'")
    })

    test('promise 5: deleting asks, with the rows, the cascades and the triggers; it happens once', async () => {
      const worker = await session('worker')
      await fresh(
        "insert into tickets (id, customer_id, subject, body) values (70, 7, 'gone', 'GONE-BODY'), (71, 7, 'gone', 'x'), (80, 8, 'gone', 'BOBS')",
      )
      const statement = 'delete from tickets where subject = $1'
      const asked = await query(worker, statement, ['gone'])
      expect(asked.text).toMatch(/needs approval: desk\.tickets:delete cannot be taken back/)
      const approval = await pending()
      expect(approval).toMatchObject({
        permission: 'desk.tickets:delete',
        effect: 'destroy',
        args: { statement, parameters: ['gone'] },
        parts: expect.arrayContaining([{ permission: 'desk.tickets:delete', effect: 'destroy' }]),
        evidence: {
          rows: 2,
          sample: {
            columns: ['id', 'customer_id', 'subject', 'body', 'status', 'amount'],
            rows: expect.arrayContaining([[70, 7, 'gone', 'GONE-BODY', 'open', null]]),
          },
          cascades: [{ table: 'public.responses', column: 'ticket_id', on: 'delete', does: 'cascade' }],
          triggers: [],
          reversible: false,
          because: 'rows that are deleted are gone',
        },
      })
      expect(JSON.stringify(approval)).not.toContain('BOBS')
      const card = await gateway.cli('approvals', 'show', approval.id)
      expect(card.out).toContain('┃ delete from tickets where subject = $1')
      expect(card.out).toContain('$1 = "gone"')
      expect(card.out).toMatch(/rows +2\n/)
      expect(card.out).toContain('public.responses (ticket_id): on delete cascade')

      expect((await query(worker, statement, ['gone'])).text).toMatch(/needs approval/)
      expect((await admin.query("select 1 from tickets where subject = 'gone'")).rowCount).toBe(3)
      await gateway.approve(approval.id)
      expect((await query(worker, statement, ['gone'])).structured).toEqual({ changed: 2 })
      expect((await query(worker, statement, ['gone'])).text).toMatch(/needs approval/)
      expect((await admin.query("select id from tickets where subject = 'gone'")).rows).toEqual([{ id: 80 }])
      await fresh("delete from tickets where subject = 'gone'")
    })

    test('promise 5: rows that came since it was approved are not part of it: undone, and asked anew', async () => {
      const worker = await session('worker')
      await fresh("insert into tickets (customer_id, subject, body) values (7, 'race', 'a'), (7, 'race', 'b')")
      const statement = "delete from tickets where subject = 'race'"
      await query(worker, statement)
      const first = await pending()
      expect(first.evidence).toMatchObject({ rows: 2 })
      await gateway.approve(first.id)
      await fresh("insert into tickets (customer_id, subject, body) values (7, 'race', 'c')")

      expect((await query(worker, statement)).text).toMatch(/needs approval/)
      expect((await admin.query("select 1 from tickets where subject = 'race'")).rowCount).toBe(3)
      const second = await pending()
      expect(second.id).not.toBe(first.id)
      expect(second.evidence).toMatchObject({ rows: 3 })
      expect((await eventsOf(worker)).find(({ type }) => type === 'action.failed')).toMatchObject({
        because: 'it would touch 3 rows, and 2 were expected at most: nothing was changed',
        mayHaveHappened: false,
      })
      await gateway.approve(second.id)
      // Fewer than were agreed to are no more than that.
      await fresh("delete from tickets where subject = 'race' and body = 'c'")
      expect((await query(worker, statement)).structured).toEqual({ changed: 2 })
    })

    test('promise 5: rows that come while it runs are not part of it either', async () => {
      const worker = await session('worker')
      await fresh(
        "insert into tickets (id, customer_id, subject, body) values (90, 7, 'while', 'a'), (91, 7, 'other', 'b')",
      )
      const statement = "delete from tickets where subject = 'while'"
      await query(worker, statement)
      await gateway.approve((await pending()).id)
      // It waits for this lock; what it finds then is more than what it was approved for.
      const other = new pg.Client({ connectionString: adminUrl })
      await other.connect()
      try {
        await other.query("begin; update tickets set body = 'locked' where id = 90")
        const running = query(worker, statement)
        await until('it waits', async () => {
          const { rows } = await admin.query("select 1 from pg_stat_activity where wait_event_type = 'Lock'")
          return rows.length > 0
        })
        await other.query("insert into tickets (customer_id, subject, body) values (7, 'while', 'new'); commit")
        const { text, structured } = await running
        const { rowCount } = await admin.query("select 1 from tickets where subject = 'while'")
        // The server decides whether the new row is seen by it: if so it is undone, if not it stays.
        expect(/needs approval/.test(text) ? rowCount : (structured['changed'] as number) + (rowCount ?? 0)).toBe(2)
      } finally {
        await other.end()
        await fresh("delete from tickets where subject in ('while', 'other')")
      }
    })

    test('`ask: true` asks each time, `ask: n` where more rows are touched', async () => {
      const worker = await session('worker')
      const insert = "insert into responses (ticket_id, body) values (1, 'a'), (2, 'b')"
      expect((await query(worker, insert)).text).toMatch(/the operator wants people asked about it/)
      expect(await pending()).toMatchObject({
        rules: ['resources.desk.tables.responses.ask.insert'],
        evidence: { rows: 2, reversible: true, cascades: [], triggers: [] },
      })
      await gateway.approve((await pending()).id)
      expect((await query(worker, insert)).structured).toEqual({ changed: 2 })

      // By the key: `write`, so nobody is asked for its effect.
      const some = 'update notes set body = body || $1 where id = $2'
      expect((await query(worker, some, ['!', 1])).structured).toEqual({ changed: 1 })
      const events = await eventsOf(worker)
      expect(events.at(-1)).toMatchObject({ type: 'action.done' })
    })

    test('promise 5: a bound in rows holds where the condition does not tell: undone, and people see what it touched', async () => {
      const settings = policy(server.port, new URL(adminUrl).pathname.slice(1), user)
      const { worker: own } = settings.agents
      const may = own.may.map((entry) =>
        typeof entry === 'object' && entry.do === 'desk.notes:update' ? { ...entry, ask: 'never' } : entry,
      )
      gateway.write({ ...settings, agents: { ...settings.agents, worker: { ...own, may } } })
      await gateway.admin('POST', '/v1/reload', {})
      const worker = await session('worker')
      const update = (most: number) => query(worker, "update notes set body = 'new' where id <= $1", [most])
      expect((await update(3)).structured).toEqual({ changed: 3 })
      expect((await update(10)).text).toMatch(/needs approval: it touches 10 rows/)
      expect((await admin.query("select 1 from notes where body = 'new'")).rowCount).toBe(3)
      expect(await pending()).toMatchObject({
        rules: ['resources.desk.tables.notes.ask.update'],
        evidence: { rows: 10, sample: { rows: expect.objectContaining({ length: 10 }) } },
      })
      await gateway.approve((await pending()).id)
      expect((await update(10)).structured).toEqual({ changed: 10 })
      // Changed below the top, nobody could tell how many: people are asked at once.
      const hidden = "with u as (update notes set body = 'hidden' returning id) select count(*) from u"
      expect((await query(worker, hidden)).text).toMatch(/needs approval: it changes rows in WITH/)
      expect(await pending()).toMatchObject({ evidence: { uncounted: 'rows are changed in WITH' } })
      expect((await admin.query("select 1 from notes where body = 'hidden'")).rowCount).toBe(0)
    })

    test('where policy only observes, nobody is asked, and the record says what would have been', async () => {
      const watched = await session('watched')
      const told = await query(watched, "update notes set body = 'watched' where id between 11 and 20")
      expect(told.structured).toEqual({ changed: 10 })
      const decision = (await eventsOf(watched)).findLast(({ type }) => type === 'decision')
      expect(decision).toMatchObject({ decision: 'allow', would: { decision: expect.stringMatching(/ask|deny/) } })
    })

    test('a session that lacks a fact gets an error, and no rows', async () => {
      const told = await query(await session('reader', {}), 'select id from tickets')
      expect(told).toMatchObject({ isError: true, text: 'ERROR 42501: the session has no fact "customer_id"' })
    })

    test('triggers are told; where a rule says never, nobody is asked', async () => {
      const worker = await session('worker')
      expect((await query(worker, 'delete from notes where id = 30')).structured).toEqual({ changed: 1 })
      expect((await admin.query('select entry from log')).rows).toEqual([{ entry: 'note 30' }])
    })

    test('promise 3: drop table is refused twice: by the check, and by the database', async () => {
      const worker = await session('worker')
      for (const sql of ['drop table tickets', 'drop table public.tickets', 'drop view tickets', 'truncate tickets']) {
        const { text, isError } = await query(worker, sql)
        expect([sql, isError]).toEqual([sql, true])
        expect(text).toMatch(/was refused/)
      }
      const { rows } = await admin.query<{ rolname: string }>(
        "select rolname from pg_roles where rolname = 'sallyport_desk_worker'",
      )
      expect(rows).toHaveLength(1)
      for (const sql of ['drop table public.tickets', 'drop view sallyport_desk.tickets', 'truncate public.tickets']) {
        const as = new pg.Client({ connectionString: adminUrl })
        await as.connect()
        await as.query('set session authorization sallyport_desk_worker')
        await expect(as.query(sql)).rejects.toMatchObject({ code: '42501' })
        await as.end()
      }
      expect((await admin.query('select from tickets')).rowCount).toBeGreaterThan(0)
    })
  })

  describe.skipIf(missing)('sessions, limits and the record', () => {
    test('calls and bytes are limited', async () => {
      const few = await session('few')
      for (const _ of [1, 2, 3]) expect((await query(few, 'select id from tickets')).isError).toBe(false)
      expect((await query(few, 'select id from tickets')).text).toMatch(/limit of 3\/min calls/)
      const small = await session('small')
      expect(
        (await query(small, "select string_agg(body || body || body || body || body, '') from tickets")).isError,
      ).toBe(false)
      expect((await query(small, 'select id from tickets')).text).toMatch(/limit of 100 B\/min bytes/)
    })

    test('what an untrusted table says marks the session: in lockdown, people are asked from then on', async () => {
      const locked = await session('locked')
      const update = "update tickets set status = 'l' where id = 1"
      expect((await query(locked, 'select subject from tickets')).isError).toBe(false)
      expect((await query(locked, update)).structured).toEqual({ changed: 1 })
      expect((await query(locked, 'select name from customers')).isError).toBe(false)
      expect((await query(locked, update)).text).toMatch(/needs approval: this session has read untrusted text/)
    })

    test('promise 2: a session by delegation gets what was lent, and no more', async () => {
      const worker = await session('worker')
      const lent = await fetch(`${gateway.agentsUrl}/oauth/token`, {
        method: 'POST',
        body: new URLSearchParams({
          grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
          subject_token: worker.token,
          subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
          agent: 'reader',
        }),
      })
      expect(lent.status).toBe(200)
      const holder = { id: '', token: ((await lent.json()) as { access_token: string }).access_token }
      expect((await query(holder, 'select id from tickets order by id limit 1')).structured.rows).toEqual([[1]])
      expect((await query(holder, 'select id from customers')).text).toMatch(/there is no table `customers`/)
      expect((await call(holder, 'desk__describe')).text).not.toContain('customers')
    })

    test('promise 2: what runs ends with its session', async () => {
      await fresh(
        'create function slow(int) returns int language plpgsql as $$ begin perform pg_sleep(60); return $1; end $$',
      )
      const worker = await session('worker')
      const lock = new pg.Client({ connectionString: adminUrl })
      await lock.connect()
      await lock.query("begin; update tickets set status = 'held' where id = 1")
      try {
        const running = query(worker, "update tickets set status = 'mine' where id = 1").catch(() => undefined)
        const mine = () =>
          admin.query(
            "select pid from pg_stat_activity where query like '%''mine'' where%' and usename like 'sallyport%'",
          )
        await until('it waits', async () => (await mine()).rowCount === 1)
        await gateway.admin('POST', '/v1/kill', { target: worker.id })
        await until('nothing of it is left', async () => (await mine()).rowCount === 0)
        await running
      } finally {
        await lock.query('rollback')
        await lock.end()
      }
      expect((await admin.query('select status from tickets where id = 1')).rows[0].status).not.toBe('mine')
      await until('no connection of it is left', async () => {
        const { rows } = await admin.query(
          "select 1 from sallyport_desk_internal.session where scope ->> 'customer_id' = '7' and pid not in (select pid from pg_stat_activity)",
        )
        return rows.length === 0
      })
    })

    test('after the server has started anew, it goes on', async () => {
      const reader = await session('reader')
      expect((await query(reader, 'select id from tickets')).isError).toBe(false)
      await admin.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename like 'sallyport%' or usename like 'gateway%'",
      )
      const again = await until('it answers', async () => {
        const told = await query(reader, 'select id from tickets order by id')
        return told.isError ? undefined : told
      })
      expect(again.structured.rows.slice(0, 2)).toEqual([[1], [2]])
    })

    test('the record holds statement, parameters, tables, rows and names of secrets', async () => {
      const reader = await session('reader')
      await query(reader, 'select t.id from tickets t, customers c where c.id = $1 and t.id = 1', [7])
      const [decision, outcome] = (await eventsOf(reader)).slice(-2)
      expect(decision).toMatchObject({
        type: 'decision',
        decision: 'allow',
        via: 'mcp',
        permission: 'desk.customers:select',
        parts: ['desk.customers:select', 'desk.tickets:select'],
        args: { statement: 'select t.id from tickets t, customers c where c.id = $1 and t.id = 1', parameters: [7] },
      })
      expect(outcome).toMatchObject({
        type: 'action.done',
        result: { count: 1, rows: [[1]] },
        label: { trust: 'untrusted' },
      })
    })

    test('promise 4: the password is nowhere', async () => {
      const role = 'sallyport_desk_worker'
      const files = fs
        .readdirSync(gateway.state, { recursive: true, withFileTypes: true })
        .filter((each) => each.isFile())
      const kept = files.map(({ parentPath, name }) => fs.readFileSync(path.join(parentPath, name), 'latin1'))
      const approvals = JSON.stringify(await gateway.approvals())
      for (const secret of [password, agentPassword(password, role)])
        for (const text of [...kept, gateway.lines.join('\n'), server.log(), approvals])
          expect(text.includes(secret)).toBe(false)
      expect(kept.length).toBeGreaterThan(3)
    })

    test('a policy that allows more is told what the database lacks, until it is applied', async () => {
      const settings = policy(server.port, new URL(adminUrl).pathname.slice(1), user)
      const agents = { ...settings.agents, reader: { may: [...settings.agents.reader.may, 'desk.notes:select'] } }
      const reader = await session('reader')
      expect((await query(reader, 'select id from notes limit 1')).text).toMatch(/there is no table `notes`/)
      gateway.write({ ...settings, agents })
      await gateway.admin('POST', '/v1/reload', {})
      expect((await query(reader, 'select id from notes limit 1')).text).toMatch(
        /ERROR 42501: permission denied for view notes .*`sallyport db apply desk`/,
      )
      await apply()
      expect((await query(reader, 'select id from notes where id = 1')).structured.rows).toEqual([[1]])
      // And one that allows less is felt at once.
      gateway.write(settings)
      await gateway.admin('POST', '/v1/reload', {})
      expect((await query(reader, 'select id from notes where id = 1')).text).toMatch(/there is no table `notes`/)
    })

    test('`explain` decides about tables, with what conditions read', async () => {
      const explain = (permission: string, args: object = {}) =>
        gateway.cli('explain', '--agent', 'careful', '--permission', permission, '--args', JSON.stringify(args))
      const statement = {
        statement: 'select id from tickets where id = $1',
        parameters: [1],
        columns: ['id'],
        bounded: true,
      }
      expect((await explain('desk.tickets:select', statement)).out).toMatch(/^allow/)
      expect((await explain('desk.tickets:select', { ...statement, columns: ['body'] })).out).toMatch(/^deny/)
      expect((await explain('desk.tickets:select')).out).toMatch(/args\.columns/)
      // Or the statement alone: what it does follows from it.
      const whole = { statement: 'select id from tickets where id = $1', parameters: [1] }
      expect((await explain('desk.tickets:select', whole)).out).toMatch(/^allow/)
      const wide = { statement: 'select body from tickets where id = $1', parameters: [1] }
      expect((await explain('desk.tickets:select', wide)).out).toMatch(/^deny[^]*"body" in args\.columns/)
      const careful = await session('careful')
      for (const [sql, verdict] of [
        ['select id, body from tickets where id = $1', /^deny/],
        ['select id from tickets where id = $1', /^allow/],
      ] as const) {
        await query(careful, sql, [1])
        const event = (await eventsOf(careful)).findLast(({ type }) => type === 'decision')!
        expect((await gateway.cli('explain', '--event', event.id)).out).toMatch(verdict)
      }
    })
  })
})
