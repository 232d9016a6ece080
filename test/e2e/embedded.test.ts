// An embedded database through the whole gateway: set up by itself, asked by tools and through the wire, and started again.
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { putEmptyDatabase, usualCache } from '../../demo/helpdesk/empty.ts'
import type { JsonObject } from '../../src/core/json.ts'
import { deskTables } from '../support/postgres-desk.ts'
import { newFolder, removeFolders, startSallyport } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'

afterAll(removeFolders)

const settings = {
  listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0', sql: '127.0.0.1:0' },
  facts: { customer_id: 'int' },
  resources: {
    desk: {
      postgres: 'pglite:data/desk',
      init: 'desk.sql',
      trust: 'trusted',
      time: '2 s',
      tables: {
        tickets: {
          select: ['id', 'customer_id', 'subject', 'status'],
          update: ['status'],
          key: ['id'],
          where: 'customer_id = session.customer_id',
        },
      },
      tools: { open: { sql: "select subject from tickets where status = 'open' order by id" } },
    },
  },
  agents: { worker: { may: ['desk.tickets:*', 'desk:open'] } },
}

describe('an embedded database', () => {
  const folder = newFolder()
  let gateway: Sallyport

  const raise = async (): Promise<void> => {
    gateway = await startSallyport({ settings, folder })
  }
  const port = async (): Promise<number> => Number(new URL((await gateway.status()).sql?.url ?? '').port)
  const session = (customer: number) => gateway.session('worker', { facts: { customer_id: customer } })
  const query = async (token: string, sql: string, parameters: readonly unknown[] = []): Promise<JsonObject> => {
    const { answer } = await gateway.ask(token, 'tools/call', { name: 'desk__query', arguments: { sql, parameters } })
    return answer.result?.structuredContent as JsonObject
  }
  const connect = async (token: string): Promise<pg.Client> => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: await port(),
      database: 'desk',
      user: 'worker',
      password: token,
    })
    client.on('error', () => {})
    await client.connect()
    return client
  }

  beforeAll(async () => {
    fs.writeFileSync(path.join(folder, 'desk.sql'), deskTables)
    await putEmptyDatabase(path.join(folder, 'data', 'desk'), usualCache)
    await raise()
  }, 120_000)
  afterAll(() => gateway?.stop(), 30_000)

  test('is there at once, without a step of anybody, and says what it is not', async () => {
    const { token } = await session(7)
    expect(await query(token, 'select subject from tickets order by id')).toMatchObject({
      rows: [['ada one'], ['ada two']],
    })
    const { policy } = await gateway.status()
    expect(policy.warnings.join('\n')).toContain('an embedded database is for a first look')
  }, 60_000)

  test('serves tools of two sessions, each its own rows', async () => {
    const [ada, bob] = [await session(7), await session(8)]
    const asked = await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        query((at % 2 ? bob : ada).token, 'select distinct customer_id from tickets'),
      ),
    )
    expect(asked.map(({ rows }) => rows)).toEqual(Array.from({ length: 20 }, (_, at) => [[at % 2 ? 8 : 7]]))
  })

  test('serves programs that speak the protocol of PostgreSQL', async () => {
    const [ada, bob] = [await connect((await session(7)).token), await connect((await session(8)).token)]
    const subjects = async (client: pg.Client): Promise<unknown> =>
      (
        await client.query({
          name: 'mine',
          text: 'select subject from tickets where id > $1 order by id',
          values: [0],
          rowMode: 'array',
        })
      ).rows
    expect(await subjects(ada)).toEqual([['ada one'], ['ada two']])
    expect(await subjects(bob)).toEqual([['bob one'], ['bob two']])
    await ada.query('begin')
    await ada.query("update tickets set status = 'seen' where id = 1")
    await ada.query('rollback')
    expect((await ada.query('select status from tickets where id = 1')).rows).toEqual([{ status: 'open' }])
    await expect(ada.query('drop table tickets')).rejects.toMatchObject({ code: '42501' })
    await expect(ada.query('select * from salaries')).rejects.toMatchObject({ code: '42P01' })
    await expect(ada.query('set session authorization postgres')).rejects.toMatchObject({ code: '42501' })
    expect(await subjects(ada)).toEqual([['ada one'], ['ada two']])
    await Promise.all([ada.end(), bob.end()])
  })

  test.skipIf(spawnSync('psql', ['--version']).status !== 0)('serves psql', async () => {
    const { token } = await session(7)
    const child = spawn('psql', ['-X', '-A', '-t', '-q'], {
      env: {
        PATH: process.env['PATH'] ?? '',
        PGHOST: '127.0.0.1',
        PGPORT: String(await port()),
        PGDATABASE: 'desk',
        PGUSER: 'worker',
        PGPASSWORD: token,
        PGSSLMODE: 'disable',
      },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    let [out, err] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
    child.stdin.end(
      "select subject from tickets order by id;\nbegin;\nupdate tickets set status = 'x' where id = 1;\nrollback;\ndrop table tickets;\nselect count(*) from tickets;\n",
    )
    await new Promise((resolve) => child.once('close', resolve))
    expect(out).toBe('ada one\nada two\n2\n')
    expect(err).toContain('ERROR:  DROP can’t be run here'.replace('’', "'"))
  })

  test('a statement without an end is stopped, and those of others go on', async () => {
    const { token } = await session(7)
    const endless = `select count(*) from ${Array.from({ length: 34 }, (_, at) => `tickets t${at}`).join(', ')}`
    const { answer } = await gateway.ask(token, 'tools/call', { name: 'desk__query', arguments: { sql: endless } })
    expect(JSON.stringify(answer)).toContain('it took longer than 2000 ms')
    expect(await query((await session(8)).token, 'select count(*) from tickets')).toMatchObject({ rows: [[2]] })
  }, 60_000)

  test('keeps what was done over a restart', async () => {
    const { token } = await session(7)
    expect(await query(token, 'update tickets set status = $1 where id = $2', ['done', 1])).toMatchObject({
      changed: 1,
    })
    await gateway.stop()
    await raise()
    const again = await session(7)
    expect(await query(again.token, 'select id, status from tickets order by id')).toMatchObject({
      rows: [
        [1, 'done'],
        [2, 'open'],
      ],
    })
  }, 60_000)

  test('carries out a changed configuration at a reload', async () => {
    const { token } = await session(7)
    expect(await query(token, 'select body from tickets')).toBeUndefined()
    const { tickets } = settings.resources.desk.tables
    const wider = {
      ...settings.resources.desk,
      tables: { tickets: { ...tickets, select: [...tickets.select, 'body'] } },
    }
    gateway.write({ ...settings, resources: { desk: wider } })
    await gateway.admin('POST', '/v1/reload', {})
    const again = await session(8)
    expect(await query(again.token, 'select distinct body from tickets')).toMatchObject({ rows: [['BOBS-BODY']] })
    expect(await query(token, 'select body from tickets where id = 1')).toMatchObject({ rows: [['body of ada one']] })
  }, 60_000)

  test('says so where it is to be set up by hand', async () => {
    const { status, text } = await gateway.people('POST', '/v1/databases/desk/apply', { admin: 'postgres://a@b/c' })
    expect([status, text]).toEqual([400, expect.stringContaining('`desk` is an embedded database: it sets itself up')])
  })
})
