import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import type pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { putEmptyDatabase, usualCache } from '../../../demo/helpdesk/empty.ts'
import { deskAgents, deskDatabase, deskTables } from '../../../test/support/postgres-desk.ts'
import { openChecker } from '../../postgres/parse.ts'
import { namesOf } from '../../postgres/names.ts'
import { undoChange } from '../../postgres/undo.ts'
import { createConnections } from './connect.ts'
import type { Backend, Connections } from './connect.ts'
import { execute, StatementError } from './execute.ts'
import { createEmbeddedDatabases } from './pglite.ts'
import type { Embedded, EmbeddedDatabases } from './pglite.ts'
import type { PostgresResource } from './resource.ts'

const never = new AbortController().signal
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'pglite-test-'))
const folder = path.join(scratch, 'desk')
const names = namesOf('desk')
const patience = { idle: 700, turn: 5_000, grace: 100 }

const desk = deskDatabase('desk')

const resource: PostgresResource = {
  alias: 'desk',
  database: {
    ...desk,
    tables: new Map([...desk.tables].map(([name, table]) => [name, { ...table, undo: true as const }])),
    most: { rows: 100, bytes: 1_000_000, time: 1_500, statement: 64_000 },
  },
  names,
  address: () => {
    throw new Error('it has no address')
  },
  embedded: { folder, init: path.join(scratch, 'desk.sql') },
  secrets: [],
  connections: 20,
  tools: new Map(),
  held: new Map([...deskAgents].map(([agent, tables]) => [agent, { tables, tools: new Set<string>() }])),
}

let databases: EmbeddedDatabases
let embedded: Embedded
let connections: Connections
const reported: unknown[] = []
const opened: Backend[] = []

beforeAll(async () => {
  fs.writeFileSync(resource.embedded?.init ?? '', deskTables)
  await putEmptyDatabase(folder, usualCache)
  start()
  await embedded.ready
}, 120_000)
afterEach(async () => {
  await Promise.all(opened.splice(0).map((backend) => backend.close()))
})
afterAll(async () => {
  await connections?.close()
  fs.rmSync(scratch, { recursive: true, force: true })
  if (reported.length > 0) throw new AggregateError(reported, 'something was reported')
}, 30_000)

function start(): void {
  databases = createEmbeddedDatabases((failure) => reported.push(failure), patience)
  embedded = databases.open(resource)
  connections = createConnections(resource, (failure) => reported.push(failure), embedded)
}

async function as(customer: number, agent = 'desk-worker'): Promise<Backend> {
  const backend = await connections.open({ session: `s${customer}`, agent, facts: { customer_id: customer } })
  opened.push(backend)
  return backend
}
const rows = async ({ client }: Backend, text: string, values?: unknown[]): Promise<unknown[][]> =>
  (await client.query<unknown[]>({ text, ...(values === undefined ? {} : { values }), rowMode: 'array' })).rows
const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'it succeeded',
    (thrown: unknown) => (thrown as { readonly code?: string }).code,
  )
async function superuser<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const { client } = embedded.connect(undefined as never)
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

describe('the setup, which is that of every database', () => {
  test('a session sees the rows of its customer, with columns masked and left out', async () => {
    const ada = await as(7)
    expect(await rows(ada, 'select subject from tickets order by id')).toEqual([['ada one'], ['ada two']])
    expect(await rows(ada, 'select name, email, phone from customers')).toEqual([
      ['ADA', 'a***@example.com', expect.stringMatching(/^\*+0007$/)],
    ])
    expect(await codeOf(rows(ada, 'select secret_note from tickets'))).toBe('42703')
    expect(await rows(await as(8), 'select count(*)::int from tickets')).toEqual([[2]])
  })

  test('a connection tells its client that it is no superuser, and who it is', async () => {
    const ada = await as(7)
    expect(Object.fromEntries(ada.parameters)).toMatchObject({ is_superuser: 'off', client_encoding: 'UTF8' })
    expect(await rows(ada, "select session_user::text, current_user::text, current_setting('search_path')")).toEqual([
      [names.agent('desk-worker'), names.agent('desk-worker'), 'sallyport_desk, pg_temp'],
    ])
  })

  test.each([
    ['select * from public.tickets', '42501'],
    ['select * from public.salaries', '42501'],
    ['drop table public.tickets', '42501'],
    ['drop view tickets', '42501'],
    ['alter table public.tickets disable trigger all', '42501'],
    ['truncate public.tickets', '42501'],
    [`insert into ${names.internal}.session values (1, 'x', '{}')`, '42501'],
    [`update ${names.internal}.session set scope = '{"customer_id": 8}'`, '42501'],
    ['create table public.mine (id int)', '42501'],
    ["insert into tickets (customer_id, subject) values (8, 'for bob')", '44000'],
    ['update tickets set subject = 1', '42501'],
    ['set role postgres', '42501'],
    ["copy (select 1) to '/tmp/sallyport-was-here'", '42501'],
    ["select pg_read_file('/etc/passwd')", '42501'],
    ['alter role current_user superuser', '42501'],
  ])('without any check of statements the role may not: %s', async (statement, code) => {
    const ada = await as(7)
    expect(await codeOf(rows(ada, statement))).toBe(code)
    expect(await rows(ada, 'select count(*)::int from tickets')).toEqual([[2]])
  })

  test('changes are kept as rows were, with their session, and can be undone', async () => {
    const ada = await as(7)
    const before = await superuser(
      async (client) => (await client.query('select * from public.tickets order by id')).rows,
    )
    const done = await execute(
      ada,
      {
        text: 'delete from tickets where id = 2',
        parameters: [],
        isWrite: true,
        isKept: true,
        most: { rows: 10, bytes: 1_000, time: 5_000 },
      },
      never,
    )
    expect(done).toMatchObject({ count: 1, change: expect.stringMatching(/^\d+$/) as unknown })
    await superuser(async (client) => {
      const { rows: listed } = await client.query(`select ${names.internal}.changes('s7', 5) as found`)
      expect(listed[0].found).toMatchObject([{ change: done.change, session: 's7', undone: false }])
      expect(await undoChange(client, names, done.change ?? '')).toMatchObject({ rows: 1, session: 's7' })
      expect((await client.query('select * from public.tickets order by id')).rows).toEqual(before)
    })
  })

  test('one that only reads can write nothing', async () => {
    const reader = await as(7, 'reader')
    expect(await rows(reader, 'select count(*)::int from tickets')).toEqual([[2]])
    expect(await codeOf(rows(reader, "update tickets set status = 'x'"))).toBe('42501')
  })

  test('an agent that holds nothing has no role, and gets no connection', async () => {
    await expect(as(7, 'nobody')).rejects.toThrow('`desk`')
  })

  test('done again, it changes nothing, and keeps what is there', async () => {
    const again = databases.open(resource)
    await again.ready
    expect(await rows(await as(7), 'select count(*)::int from tickets')).toEqual([[2]])
    await again.close()
  })

  test('a script that fails leaves nothing behind, and says so', async () => {
    const other = path.join(scratch, 'broken')
    await putEmptyDatabase(other, usualCache)
    const script = path.join(scratch, 'broken.sql')
    fs.writeFileSync(script, 'create table one (id int); create table two (id nonsense);')
    const failures: string[] = []
    const own = createEmbeddedDatabases((failure) => failures.push(failure.message))
    const broken = own.open({ ...resource, embedded: { folder: other, init: script } })
    await expect(broken.ready).rejects.toThrow(/`desk`: `init` \(.*broken\.sql\): type "nonsense" does not exist/)
    expect(failures).toHaveLength(1)
    await broken.close()
    fs.writeFileSync(script, deskTables)
    const mended = own.open({ ...resource, embedded: { folder: other, init: script } })
    await mended.ready
    await mended.close()
  }, 60_000)

  test('a folder that somebody has open is left alone', async () => {
    const own = createEmbeddedDatabases(() => {})
    const second = own.open(resource)
    await expect(second.ready).rejects.toMatchObject({ code: 'conflict' })
    await second.close()
  })
})

describe('connections that share one backend', () => {
  test('keep their settings, prepared statements and sessions to themselves', async () => {
    const [ada, bob] = [await as(7), await as(8)]
    await rows(ada, "set timezone = 'Europe/Berlin'")
    await rows(ada, 'prepare mine (int) as select subject from tickets where id > $1 order by id')
    await bob.client.query({ name: 'same', text: "select 'of bob', $1::int", values: [1] })
    await ada.client.query({ name: 'same', text: "select 'of ada', $1::text", values: ['x'] })
    expect(await rows(bob, "select current_setting('timezone')")).toEqual([['UTC']])
    expect(await codeOf(rows(bob, 'execute mine (0)'))).toBe('26000')
    expect(await rows(ada, 'execute mine (0)')).toEqual([['ada one'], ['ada two']])
    const again = async (backend: Backend, values: unknown[]): Promise<unknown[][]> =>
      (
        await backend.client.query<unknown[]>({
          name: 'same',
          text: backend === ada ? "select 'of ada', $1::text" : "select 'of bob', $1::int",
          values,
          rowMode: 'array',
        })
      ).rows
    expect(await again(bob, [5])).toEqual([['of bob', 5]])
    expect(await again(ada, ['y'])).toEqual([['of ada', 'y']])
    expect(await rows(ada, "select current_setting('timezone')")).toEqual([['Europe/Berlin']])
    expect(await rows(ada, 'select name from pg_prepared_statements order by name')).toEqual([['mine'], ['same']])
  })

  test.each(['reset all', 'discard all', 'set search_path to default', 'reset search_path'])(
    'go back to the settings of their role with: %s',
    async (statement) => {
      const [ada, reader] = [await as(7), await as(7, 'reader')]
      for (const each of [ada, reader]) await rows(each, statement)
      for (const each of [ada, reader])
        expect(await rows(each, 'select subject from tickets order by id')).toEqual([['ada one'], ['ada two']])
      expect(
        await rows(
          reader,
          "select current_setting('default_transaction_read_only'), current_setting('temp_file_limit')",
        ),
      ).toEqual([['on', '256MB']])
    },
  )

  test('a transaction keeps others waiting until it ends, and none sees what it has not committed', async () => {
    const [ada, bob] = [await as(7), await as(8)]
    await rows(ada, 'begin')
    await rows(ada, "update tickets set status = 'half done'")
    let isServed = false
    const waiting = rows(bob, 'select distinct status from tickets').finally(() => (isServed = true))
    expect(await rows(ada, 'select distinct status from tickets')).toEqual([['half done']])
    expect(isServed).toBe(false)
    await rows(ada, 'rollback')
    expect(await waiting).toEqual([['open']])
    expect(await rows(ada, 'select distinct status from tickets')).toEqual([['open']])
  })

  test('one that lies idle in a transaction is ended, and undone', async () => {
    const [ada, bob] = [await as(7), await as(8)]
    await rows(ada, 'begin')
    await rows(ada, "update tickets set status = 'left lying'")
    expect(await rows(bob, 'select count(*)::int from tickets')).toEqual([[2]])
    expect(ada.ended.aborted).toBe(true)
    expect(await rows(await as(7), 'select distinct status from tickets')).toEqual([['open']])
  })

  test('one that is closed in a transaction is undone, and the next is served', async () => {
    const [ada, bob] = [await as(7), await as(8)]
    await rows(ada, 'begin')
    await rows(ada, 'delete from tickets')
    await ada.close()
    expect(await rows(bob, 'select count(*)::int from tickets')).toEqual([[2]])
    expect(await rows(await as(7), 'select count(*)::int from tickets')).toEqual([[2]])
  })

  test('one that waits can be cancelled, and goes on afterwards', async () => {
    const [ada, bob] = [await as(7), await as(8)]
    await rows(ada, 'begin')
    const waiting = codeOf(rows(bob, 'select $1::int', [1]))
    await new Promise((resolve) => setTimeout(resolve, 20))
    await bob.cancel()
    expect(await waiting).toBe('57014')
    await rows(ada, 'rollback')
    expect(await rows(bob, 'select $1::int', [2])).toEqual([[2]])
  })

  test('1,000 statements of four connections, mixed: nobody gets what is another’s', async () => {
    const all = [await as(7), await as(8), await as(7, 'reader'), await as(8, 'reader')]
    const customers = [7, 8, 7, 8]
    const writes = [true, true, false, false]
    const kinds = ['rows', 'named', 'setting', 'scope', 'transaction', 'error', 'unnamed', 'who'] as const
    type Kind = (typeof kinds)[number]
    await rows(all[0] as Backend, 'select 1')
    const plans = fc.sample(fc.array(fc.constantFrom<Kind>(...kinds), { minLength: 250, maxLength: 250 }), {
      numRuns: 4,
      seed: 20_261_121,
    })
    const settings = ['UTC', 'Europe/Berlin', 'Asia/Tokyo', 'America/Lima']
    let asked = 0

    await Promise.all(
      plans.map(async (plan, at) => {
        const backend = all[at] as Backend
        const customer = customers[at] as number
        const own = customer === 7 ? ['ada one', 'ada two'] : ['bob one', 'bob two']
        const agent = at < 2 ? 'desk-worker' : 'reader'
        for (const kind of plan) {
          asked += 1
          if (kind === 'rows') {
            const seen = await rows(backend, 'select subject from tickets order by id')
            expect(seen.flat()).toEqual(own)
          } else if (kind === 'named') {
            const { rows: seen } = await backend.client.query<{ who: string; n: number }>({
              name: 'same name',
              text: `select 'statement of ${at}' as who, count(*)::int as n from tickets where id > $1`,
              values: [0],
            })
            expect(seen).toEqual([{ who: `statement of ${at}`, n: 2 }])
          } else if (kind === 'setting') {
            await rows(backend, `set timezone = '${settings[at]}'`)
            expect(await rows(backend, "select current_setting('timezone')")).toEqual([[settings[at]]])
          } else if (kind === 'scope') {
            expect(await rows(backend, 'select distinct customer_id from tickets')).toEqual([[customer]])
          } else if (kind === 'transaction') {
            await rows(backend, 'begin')
            if (writes[at] === true) await rows(backend, `update tickets set status = 'by ${at}'`)
            const seen = await rows(backend, 'select distinct status from tickets')
            expect(seen).toEqual([[writes[at] === true ? `by ${at}` : 'open']])
            await rows(backend, 'rollback')
          } else if (kind === 'error') {
            expect(await codeOf(rows(backend, 'select 1 / $1::int', [0]))).toBe('22012')
          } else if (kind === 'unnamed') {
            expect(await rows(backend, 'select $1::int + 1', [at])).toEqual([[at + 1]])
          } else expect(await rows(backend, 'select session_user::text')).toEqual([[names.agent(agent)]])
        }
      }),
    )
    expect(asked).toBe(1_000)
  }, 120_000)
})

describe('what takes too long', () => {
  const most = { rows: 10, bytes: 10_000, time: 400 }
  // Without end for the processor, and next to nothing for memory and temporary files.
  const endless =
    'select count(*) from generate_series(1, 9999) a, generate_series(1, 9999) b, generate_series(1, 9999) c'

  test('is stopped as the gateway says, and the database comes back with all that was committed', async () => {
    const [ada, bob] = [await as(7), await as(8)]
    const { client } = await as(7)
    await client.query("update tickets set status = 'kept' where id = 1")
    const started = performance.now()
    await expect(execute(ada, { text: endless, parameters: [], isWrite: false, most }, never)).rejects.toMatchObject({
      code: 'limited',
      message: 'it took longer than 400 ms',
    })
    expect(performance.now() - started).toBeLessThan(5_000)
    expect([ada.ended.aborted, bob.ended.aborted]).toEqual([true, true])
    expect(await rows(await as(7), 'select status from tickets where id = 1')).toEqual([['kept']])
    await rows(await as(7), "update tickets set status = 'open'")
  }, 60_000)

  test('is stopped in any case, with an error that says why', async () => {
    const ada = await as(7)
    const failed = await rows(ada, endless).catch((thrown: unknown) => thrown)
    expect(failed).toMatchObject({ code: '57014', message: 'canceling statement due to statement timeout' })
    expect(await rows(await as(8), 'select count(*)::int from tickets')).toEqual([[2]])
  }, 60_000)

  test('is stopped when its connection is closed', async () => {
    const ada = await as(7)
    const failed = codeOf(rows(ada, endless))
    await new Promise((resolve) => setTimeout(resolve, 50))
    await ada.close()
    await failed
    expect(await rows(await as(8), 'select count(*)::int from tickets')).toEqual([[2]])
  }, 60_000)

  test('an answer that is far too large ends it as well', async () => {
    const ada = await as(7)
    expect(await codeOf(rows(ada, "select repeat('x', 1000000) from generate_series(1, 500)"))).toBe('54000')
    expect(await rows(await as(8), 'select count(*)::int from tickets')).toEqual([[2]])
  }, 60_000)

  test('a statement error is one of the server, and nothing ends', async () => {
    const ada = await as(7)
    const failed = execute(ada, { text: 'select 1 / 0', parameters: [], isWrite: false, most }, never)
    await expect(failed).rejects.toBeInstanceOf(StatementError)
    expect(await rows(ada, 'select 1')).toEqual([[1]])
  })
})

test('what is no boundary is known: one text, which the check refuses, is run as the superuser; the next one is not', async () => {
  const ada = await as(7)
  const text = 'set session authorization postgres; select count(*)::int as n from public.tickets'
  const [, found] = (await ada.client.query(text)) as unknown as { rows: unknown[] }[]
  expect(found?.rows).toEqual([{ n: 4 }])
  expect(await codeOf(rows(ada, 'select count(*) from public.tickets'))).toBe('42501')
  const bob = await as(8)
  expect(await rows(bob, 'select session_user::text')).toEqual([[names.agent('desk-worker')]])
  expect(await codeOf(rows(bob, 'select * from public.tickets'))).toBe('42501')
  const checker = openChecker({ deadline: 5_000 })
  const verdict = await checker.check('set session authorization postgres', resource.database, { one: true })
  await checker.close()
  expect(verdict.kind).toBe('refused')
})

test('the superuser is not among the roles that agents get', async () => {
  const roles = await superuser(
    async (client) => (await client.query<{ rolname: string }>('select rolname from pg_roles where rolsuper')).rows,
  )
  expect(roles.map(({ rolname }) => rolname)).toEqual(['postgres'])
})

test('without the package, it says what to install', () => {
  const gone = path.join(scratch, 'without')
  fs.mkdirSync(gone)
  const source = new URL('../..', import.meta.url).pathname
  fs.cpSync(source, path.join(gone, 'src'), { recursive: true, filter: (file) => !file.endsWith('.test.ts') })
  fs.mkdirSync(path.join(gone, 'node_modules'))
  fs.writeFileSync(
    path.join(gone, 'try.ts'),
    `import { createEngine } from './src/gateway/postgres/pglite-engine.ts'
await createEngine(${JSON.stringify(path.join(gone, 'data'))}, () => {}).query('select 1').catch(({ message }) => console.log(message))`,
  )
  const { stdout, stderr } = spawnSync(process.execPath, [path.join(gone, 'try.ts')], { encoding: 'utf8' })
  expect(stderr).toBe('')
  expect(stdout).toMatch(/a package that is not installed: `npm install @electric-sql\/pglite@/)
})
