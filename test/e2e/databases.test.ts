import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { connectTo, databaseOfUrl } from '../support/postgres-desk.ts'
import { noPostgres, startPostgres } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { removeFolders, startSallyport } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'

// The example of docs/sql.md, as it stands there, over a real database: set up by the command line, used by an agent.

const page = fs.readFileSync(new URL('../../docs/sql.md', import.meta.url), 'utf8')
const [, example = ''] = /```yaml\n([^]*?)```/.exec(page) ?? []
const program = fileURLToPath(new URL('../../src/cli/sallyport.ts', import.meta.url))

const tables = `
  create table customers (id int primary key, name text, email text, phone text);
  create table tickets (id int generated always as identity primary key, customer_id int references customers,
    subject text, body text, status text not null default 'open', created timestamptz not null default now());
  create table responses (id serial primary key, ticket_id int references tickets, body text);
  create table salaries (name text, amount int);
  -- As hardened servers have it.
  revoke usage on schema public from public;
  insert into customers values (7, 'Ada', 'ada@example.com', '+44 20 7946 0007'), (8, 'Bob', 'bob@rival.example', '1');
  insert into tickets (customer_id, subject, body) values (7, 'mine', 'x'), (8, 'not mine', 'x');
`

describe.skipIf(await noPostgres(15))('a database, from an empty one to an agent and back', () => {
  let server: PostgresServer
  let admin: string
  let sallyport: Sallyport
  const own = 'the password of the gateway 0123456789'
  const rotated = 'another password of the gateway 9876'
  const printed: string[] = []
  beforeAll(async () => {
    server = await startPostgres({ version: 15 })
    admin = await server.createDatabase(tables)
    const role = server.newName()
    sallyport = await startSallyport({
      settings: `${example.replace('postgres://sallyport@db.example.com/desk', `postgres://${role}@127.0.0.1:${server.port}/${databaseOfUrl(admin)}`)}
listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0' }
state: $STATE
`,
    })
  })
  afterAll(async () => {
    await sallyport.stop()
    await server.close()
    removeFolders()
  })

  /** As a person would, in a process of its own. Fails where it says anything else than was expected of it. */
  async function run(line: string, typed = '', expected = 0) {
    const child = spawn(process.execPath, [program, ...line.split(' ')], {
      env: { PATH: process.env['PATH'] ?? '', SALLYPORT_URL: sallyport.peopleUrl, SALLYPORT_KEY: sallyport.adminKey },
      cwd: sallyport.folder,
    })
    let [out, err] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
    child.stdin.end(typed)
    const [code] = (await once(child, 'close')) as [number | null]
    printed.push(out, err)
    expect({ line, code, ...(code === expected ? {} : { out, err }) }).toEqual({ line, code: expected })
    return out
  }

  const sql = async (text: string) => {
    const client = await connectTo(admin)
    try {
      return (await client.query<Record<string, unknown>>(text)).rows
    } finally {
      await client.end()
    }
  }

  const rowsOf = async (statement: string): Promise<unknown> => {
    const { token } = await sallyport.session('reader', { facts: { customer_id: 7 } })
    const { answer } = await sallyport.call(token, 'helpdesk__query', { sql: statement })
    return (answer.result?.['structuredContent'] as { readonly rows?: unknown } | undefined)?.rows
  }

  test('its whole life', { timeout: 60_000 }, async () => {
    await run('db plan helpdesk', '', 1)
    await run('secrets set DESK_DB --resource helpdesk', own)
    await run('db plan helpdesk')
    await run('db verify helpdesk', '', 1)
    await run('db apply helpdesk --yes', admin)
    await run('db verify helpdesk')
    expect(await rowsOf('select t.id, c.email from tickets t join customers c on c.id = t.customer_id')).toEqual([
      [1, 'a***@example.com'],
    ])
    expect(await rowsOf('select * from salaries')).toBeUndefined()

    await sql('grant usage on schema public to public; grant select on salaries to public')
    expect(await run('db verify helpdesk', '', 1)).toContain('every role may SELECT on it')
    await sql('revoke usage on schema public from public; drop view sallyport_helpdesk.customers')
    expect(await run('db verify helpdesk', '', 1)).toContain('view sallyport_helpdesk.customers: is not there')
    await run('db apply helpdesk --yes', admin)

    // A new password counts once it is applied.
    await run('secrets rotate DESK_DB', rotated)
    await run('db verify helpdesk', '', 1)
    await run('db apply helpdesk --yes', admin)
    await run('db verify helpdesk')
    expect(await rowsOf('select id from tickets')).toEqual([[1]])

    await run('db remove helpdesk --yes', admin)
    expect(
      await sql(`select rolname as name from pg_roles where rolname like 'sallyport%' or rolname like 't%'
        union all select nspname from pg_namespace where nspname like 'sallyport%'`),
    ).toEqual([])
    expect(await rowsOf('select id from tickets')).toBeUndefined()
    expect(await sql('select count(*)::int as rows from tickets')).toEqual([{ rows: 2 }])
  })

  test('promise 4: neither password is in what was printed, logged, recorded or kept', async () => {
    expect((await sallyport.verify()).ok).toBe(true)
    const kept = fs
      .readdirSync(sallyport.state, { recursive: true, encoding: 'utf8' })
      .map((name) => path.join(sallyport.state, name))
      .filter((name) => fs.statSync(name).isFile())
      .map((name) => fs.readFileSync(name, 'latin1'))
    expect(kept.length).toBeGreaterThan(3)
    const everything = [...printed, ...sallyport.lines, ...kept, server.log()].join('\n')
    for (const secret of [own, rotated, decodeURIComponent(new URL(admin).password)])
      expect(everything.includes(secret)).toBe(false)
    const types = (await sallyport.events()).map(({ type }) => type).filter((type) => type.startsWith('database.'))
    expect(types.filter((type) => type === 'database.applied')).toHaveLength(3)
    expect(types.at(-1)).toBe('database.removed')
  })
})
