import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { hasPseudoTerminal, openTerminal } from '../cli/terminal.ts'
import { noPostgres, startPostgres } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { removeFolders, startSallyport, until } from '../support/sallyport.ts'
import type { Holder, Sallyport } from '../support/sallyport.ts'

// What agents change, by tools and by the wire, with people asked and without, is undone by a person from the record.

const program = fileURLToPath(new URL('../../src/cli/sallyport.ts', import.meta.url))
const password = 'the password of the gateway 0123456789'

const application = `
  create table tickets (id int primary key, customer_id int not null, status text not null default 'open', note jsonb);
  create table responses (id int primary key, ticket_id int not null references tickets on delete cascade, body text);
  insert into tickets select n, 7, 'open', '{"secret": "CANARY", "none": null}' from generate_series(1, 6) n;
  insert into responses select n, n, 'CANARY' from generate_series(1, 6) n;
`

const settings = (port: number, database: string, user: string) => ({
  listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0', sql: '127.0.0.1:0' },
  people: { anna: { roles: ['approver'] } },
  approvals: { hold: '30 s' },
  facts: { customer_id: 'int' },
  resources: {
    desk: {
      postgres: `postgres://${user}@127.0.0.1:${port}/${database}`,
      password: '${secret:DESK_PASSWORD}',
      undo: { rows: 5 },
      tables: {
        tickets: {
          select: ['id', 'status'],
          insert: ['id', 'customer_id', 'status'],
          update: ['status'],
          delete: true,
          key: ['id'],
          undo: true,
          where: 'customer_id = session.customer_id',
          ask: { delete: true },
        },
        responses: { select: ['id'], undo: true },
      },
    },
  },
  agents: { worker: { may: ['desk.tickets:*', { do: 'desk.tickets:update', ask: 'never' }] } },
})

describe.skipIf(await noPostgres(18))('undoing what agents did', () => {
  let server: PostgresServer
  let gateway: Sallyport
  let admin: pg.Client
  let adminUrl: string
  let before: unknown
  const clients: pg.Client[] = []
  const printed: string[] = []

  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    adminUrl = await server.createDatabase(application)
    const database = new URL(adminUrl).pathname.slice(1)
    gateway = await startSallyport({ settings: settings(server.port, database, `gateway_${server.newName()}`) })
    await gateway.admin('POST', '/v1/secrets', { name: 'DESK_PASSWORD', value: password, resource: 'desk' })
    await gateway.admin('POST', '/v1/databases/desk/apply', { admin: adminUrl })
    admin = new pg.Client({ connectionString: adminUrl })
    await admin.connect()
    before = await rows()
  }, 120_000)
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.end()))
  })
  afterAll(async () => {
    await gateway?.stop()
    await admin?.end()
    await server?.close()
    removeFolders()
  })

  const rows = async (): Promise<unknown> =>
    (await admin.query('select t::text from tickets t union all select r::text from responses r order by 1')).rows
  const session = () => gateway.session('worker', { facts: { customer_id: 7 } })
  async function connect({ token }: Holder): Promise<pg.Client> {
    const port = Number(new URL((await gateway.status()).sql?.url ?? '').port)
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'worker', database: 'desk', password: token })
    await client.connect()
    clients.push(client)
    return client
  }
  /** While this goes on, a person agrees to what is asked. */
  async function approving<T>(work: Promise<T>): Promise<T> {
    const { id, evidence } = await until('a question', async () => (await gateway.approvals('?state=pending'))[0])
    expect(evidence).toMatchObject({ rows: 2, reversible: true, triggers: [] })
    await gateway.approve(id)
    return work
  }
  /** As a person would, in a process of its own. */
  async function run(line: string, typed = '', expected = 0) {
    const child = spawn(process.execPath, [program, ...line.split(' ')], {
      env: { PATH: process.env['PATH'] ?? '', SALLYPORT_URL: gateway.peopleUrl, SALLYPORT_KEY: gateway.adminKey },
      cwd: gateway.folder,
    })
    let [out, err] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
    child.stdin.end(typed)
    const [code] = (await once(child, 'close')) as [number | null]
    printed.push(out, err)
    expect({ line, code, ...(code === expected ? {} : { out, err }) }).toEqual({ line, code: expected })
    return `${out}${err}`
  }
  const recorded = async ({ id }: Holder): Promise<readonly unknown[]> =>
    (await gateway.events())
      .filter(({ type, session: of }) => type === 'action.done' && of === id)
      .map(({ change }) => change)
  async function undone(change: unknown, said: string | RegExp) {
    expect(change).toMatch(/^\d+$/)
    expect(await run(`db undo desk ${String(change)} --dry-run`, adminUrl)).toMatch(said)
    expect(await rows()).not.toEqual(before)
    expect(await run(`db undo desk ${String(change)} --yes`, adminUrl)).toMatch(said)
    expect(await rows()).toEqual(before)
  }

  test('a tool, with people asked: the outcome has the number', { timeout: 60_000 }, async () => {
    const holder = await session()
    const { answer } = await approving(
      gateway.call(holder.token, 'desk__query', { sql: 'delete from tickets where id <= 2' }),
    )
    expect(answer.result?.['structuredContent']).toEqual({ changed: 2 })
    const [change] = await recorded(holder)
    const listed = await run(`db changes desk --session ${holder.id}`)
    expect(listed).toContain(`${String(change)}  `)
    expect(listed).toContain('delete 2 in public.responses, delete 2 in public.tickets')
    await undone(change, /4 rows .*undone\n {2}public.tickets: 2 put back\n {2}public.responses: 2 put back/)
    expect(await run(`db undo desk ${String(change)} --yes`, adminUrl, 1)).toContain('was undone already')
    expect(await run(`db changes desk --session ${holder.id}`)).toContain('(undone)')
    // Without a change, there is no number.
    await gateway.call(holder.token, 'desk__query', { sql: `update tickets set status = 'x' where id = 99` })
    await gateway.call(holder.token, 'desk__query', { sql: 'select id from tickets' })
    expect((await recorded(holder)).slice(1)).toEqual([undefined, undefined])
  })

  test.each(['simple', 'extended'])(
    'the wire, with people asked, %s protocol',
    { timeout: 60_000 },
    async (protocol) => {
      const holder = await session()
      const client = await connect(holder)
      const values = protocol === 'simple' ? [] : [2]
      const text = `delete from tickets where id <= ${protocol === 'simple' ? '2' : '$1'}`
      const done = await approving(client.query({ text, ...(values.length === 0 ? {} : { values }) }))
      expect(done).toMatchObject({ command: 'DELETE', rowCount: 2, rows: [] })
      // What comes behind it is as ever.
      expect((await client.query('select count(*)::int as n from tickets where id > $1', [0])).rows).toEqual([{ n: 4 }])
      await client.end()
      const change = (await recorded(holder)).find((each) => each !== undefined)
      await undone(change, /4 rows/)
      const closed = (await gateway.events()).findLast(({ type }) => type === 'sql.close')
      expect(closed).toMatchObject({ session: holder.id, rows: 1 })
    },
  )

  test('the wire, with nobody asked: found by the session', { timeout: 60_000 }, async () => {
    const holder = await session()
    const client = await connect(holder)
    await client.query('begin')
    await client.query(`insert into tickets (id, customer_id) values (50, 7)`)
    await client.query(`update tickets set status = 'closed' where id = 3`)
    await client.query(`update tickets set status = 'gone' where id = 3`)
    await client.query('commit')
    await expect(
      client.query('insert into tickets (id, customer_id) select 60 + n, 7 from generate_series(1, 6) n'),
    ).rejects.toMatchObject({ code: '54000' })
    const { changes } = JSON.parse(await run(`db changes desk --session ${holder.id} --json`))
    expect(changes).toMatchObject([{ session: holder.id, undone: false }])
    await undone(changes[0].change, /2 rows .*undone\n {2}public.tickets: 1 as before, 1 taken out/)
  })

  test.skipIf(!hasPseudoTerminal)('at a terminal it is shown before it is done', { timeout: 60_000 }, async () => {
    const holder = await session()
    const client = await connect(holder)
    await client.query(`update tickets set status = 'closed' where id = 5`)
    const { changes } = JSON.parse(await run(`db changes desk --session ${holder.id} --json`))
    const after = await rows()
    for (const [answer, code] of [
      ['n', 1],
      ['y', 0],
    ] as const) {
      expect(await rows()).toEqual(after)
      const terminal = openTerminal(
        [process.execPath, program, 'db', 'undo', 'desk', changes[0].change, '--no-color'],
        {
          rows: 40,
          columns: 120,
          env: { SALLYPORT_URL: gateway.peopleUrl, SALLYPORT_KEY: gateway.adminKey },
        },
      )
      try {
        await terminal.until((screen) => screen.includes('not shown'))
        terminal.keys(`${adminUrl}\r`)
        await terminal.until((screen) => screen.includes('1 row would be undone') && screen.includes('[y/N]'))
        terminal.keys(`${answer}\n`)
        expect(await terminal.exit).toBe(code)
        expect(terminal.raw()).not.toContain(new URL(adminUrl).password)
      } finally {
        terminal.kill()
      }
    }
    expect(await rows()).toEqual(before)
  })

  test(
    'what has changed since is named, and is an event; no value of a row is anywhere',
    { timeout: 60_000 },
    async () => {
      const holder = await session()
      const client = await connect(holder)
      await client.query(`update tickets set status = 'closed' where id = 4`)
      const { changes } = JSON.parse(await run(`db changes desk --session ${holder.id} --json`))
      const { change } = changes[0] as { change: string }
      await admin.query(`update tickets set status = 'reopened' where id = 4`)
      expect(await run(`db undo desk ${change} --yes`, adminUrl, 1)).toContain(
        'nothing was undone: public.tickets, id = (4): it has changed since',
      )
      await admin.query(`update tickets set status = 'closed' where id = 4`)
      await run(`db undo desk ${change} --yes`, adminUrl)
      await run('db undo desk 1 --yes', adminUrl, 1)
      await run('db undo desk x --yes', adminUrl, 1)
      await run(`db undo desk ${change}`, adminUrl, 2)
      const events = (await gateway.events()).filter((each) => each['change'] === change)
      expect(events.map(({ type, trial, rows: of }) => [type, trial, of])).toEqual([
        ['database.undo', false, undefined],
        ['database.undo', false, undefined],
        ['database.undone', false, 1],
      ])
      expect(events.at(-1)).toMatchObject({ by: 'person:admin', session: holder.id, resource: 'desk' })
      const everything = [...printed, ...gateway.lines, JSON.stringify(await gateway.events())].join('\n')
      expect(everything).not.toContain('CANARY')
      expect(everything).not.toContain(new URL(adminUrl).password)
    },
  )
})
