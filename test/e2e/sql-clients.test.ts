// Real clients of PostgreSQL through the real gateway: each goes through the same story, is told the same, and none sees a
// row of anybody else's, or a password of the database.
import { execFile, execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openAuthority } from '../../src/gateway/http/certificates.ts'
import { startProgram } from '../support/client.ts'
import { noPostgres, startPostgres, versions } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { cache } from '../support/postgres-binaries.ts'
import { mostToMake, pythonWith } from '../support/python.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'

afterAll(removeFolders)

const password = 'CANARY-password-of-the-gateway'
/** What no client may be told: rows of others, tables that are not theirs, passwords, and names of what is behind. */
const canaries = /CANARY|gateway_t|987654/

const application = `
  create table tickets (id int primary key, customer_id int not null, subject text not null, body text);
  insert into tickets values (1, 7, 'ada one', 'a'), (2, 7, 'ada two', 'b'), (3, 8, 'CANARY of bob', 'CANARY'), (4, 8, 'CANARY', 'c');
  create table things (id uuid primary key, customer_id int not null, n int, name text, ok bool, nothing text,
    at timestamptz, data jsonb, list int[]);
  insert into things values (gen_random_uuid(), 8, 1, 'CANARY', true, 'CANARY', now(), '{"CANARY": 1}', '{1}');
  create table entries (id int generated always as identity, customer_id int not null, who text, body text);
  insert into entries (customer_id, who, body) values (8, 'CANARY', 'CANARY');
  create table notes (id int primary key, customer_id int not null, body text not null);
  insert into notes select n, 7, 'note ' || n from generate_series(1, 30) n;
  insert into notes select n, 7, 'note ' || n from generate_series(1001, 1025) n;
  insert into notes select n, 8, 'CANARY' from generate_series(2001, 2025) n;
  create table salaries (name text primary key, amount int not null);
  insert into salaries values ('CANARY', 987654);
`

const own = 'customer_id = session.customer_id'
const settings = (port: number, database: string, user: string, listen: object) => ({
  listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0', sql: listen },
  facts: { customer_id: 'int' },
  approvals: { hold: '30 s' },
  resources: {
    desk: {
      postgres: `postgres://${user}@127.0.0.1:${port}/${database}`,
      password: '${secret:DESK_PASSWORD}',
      trust: 'trusted',
      time: '30 s',
      tables: {
        tickets: { select: ['id', 'subject', 'body'], key: ['id'], where: own },
        things: {
          select: ['id', 'customer_id', 'n', 'name', 'ok', 'nothing', 'at', 'data', 'list'],
          insert: ['id', 'customer_id', 'n', 'name', 'ok', 'nothing', 'at', 'data', 'list'],
          key: ['id'],
          where: own,
        },
        entries: { select: ['id', 'customer_id', 'who', 'body'], insert: ['customer_id', 'who', 'body'], where: own },
        notes: { select: ['id', 'body'], delete: true, key: ['id'], where: own, ask: { delete: true } },
        salaries: { select: ['name', 'amount'] },
      },
    },
  },
  agents: {
    worker: {
      may: ['tickets', 'things', 'entries', 'notes'].map((name) => `desk.${name}:*`),
      limits: { calls: '1000000/min', repeats: 'unlimited' },
    },
  },
})

// The story ---------------------------------------------------------------------------------------------------------------

const refused = { state: '42501', message: expect.stringContaining('pg_sleep') }
const gone = { state: '42P01', message: expect.stringMatching(/no table|does not exist/) }
const typed = [42, "naïve 'text'", true, null, '2026-02-03T04:05:06.789Z', { a: [1, 2] }, [1, 2, 3]]
const tables = ['entries', 'notes', 'things', 'tickets']

/** What each step says, whoever takes it. */
const story: Readonly<Record<string, unknown>> = {
  own: [
    [1, 'ada one'],
    [2, 'ada two'],
  ],
  types: typed,
  prepared: [1, 2, 3, 4].flatMap(() => ['ada one', 'ada two']),
  transactions: [['kept']],
  refused,
  'refused prepared': refused,
  hidden: gone,
  after: [[1]],
  failed: ['42501', '25P02', 0, [1]],
  cursor: Array.from({ length: 25 }, (_, at) => 1001 + at),
  cancel: { state: '57014', message: expect.anything() },
  copy: { state: '42501', message: expect.stringContaining('COPY') },
  listen: { state: '42501', message: expect.stringContaining('LISTEN') },
  held: 1,
  notice: true,
  waiting: true,
  ended: true,
}

/** What single clients say beside it, or in place of it; what is `undefined` they have no way to do. */
const particulars: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'node-postgres': {},
  'postgres.js': { pipeline: ['ada one', 'ada two', 'ada one', 'ada two'] },
  Drizzle: { cursor: undefined, cancel: undefined, copy: undefined, listen: undefined },
  // Its parameters are put into the text by itself.
  psycopg2: { 'refused prepared': undefined },
  'psycopg 3': {
    binary: typed,
    pipeline: ['ada one', 'ada two', 'ada one', 'ada two'],
    'pipeline refused': ['42501', 1],
  },
  asyncpg: {},
  SQLAlchemy: {
    'refused prepared': undefined,
    cancel: undefined,
    copy: undefined,
    listen: undefined,
    notice: undefined,
    tables,
    columns: [
      ['id', 'INTEGER'],
      ['subject', 'TEXT'],
      ['body', 'TEXT'],
    ],
    'no columns': { state: '', message: 'salaries' },
    keys: [[], []],
    reflected: [['ada one'], ['ada two']],
  },
  JDBC: {
    batch: [1, 1, 1],
    tables,
    columns: [
      ['id', 'int4'],
      ['subject', 'text'],
      ['body', 'text'],
    ],
    'no columns': false,
  },
}

// Programs ----------------------------------------------------------------------------------------------------------------

const python = await pythonWith([
  'asyncpg==0.32.0',
  'psycopg[binary]==3.3.9',
  'psycopg2-binary==2.9.13',
  'sqlalchemy==2.1.9',
])
const sources = {
  java: fileURLToPath(new URL('clients/Sql.java', import.meta.url)),
  node: fileURLToPath(new URL('clients/sql.ts', import.meta.url)),
  python: fileURLToPath(new URL('clients/sql.py', import.meta.url)),
}
const run = promisify(execFile)

type Command = readonly [string, ...string[]]
type Had = { readonly command: Command } | { readonly missing: string }

const has = (program: string): boolean => {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** The driver of Java, from Maven, kept for all runs; and the program, compiled. */
async function java(): Promise<Had> {
  for (const program of ['java', 'javac', 'mvn'])
    if (!has(program)) return { missing: `\`${program}\` is not installed` }
  const version = '42.7.8'
  const folder = path.join(cache, 'jdbc')
  const jar = path.join(folder, `postgresql-${version}.jar`)
  try {
    if (!fs.existsSync(jar)) {
      fs.mkdirSync(cache, { recursive: true })
      const made = fs.mkdtempSync(path.join(cache, 'building-jdbc-'))
      const copy = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy'
      const asked = [`-Dartifact=org.postgresql:postgresql:${version}`, `-DoutputDirectory=${made}`]
      await run('mvn', ['-q', '-B', copy, ...asked], { timeout: mostToMake, cwd: made })
      fs.mkdirSync(folder, { recursive: true })
      fs.renameSync(path.join(made, path.basename(jar)), jar)
      fs.rmSync(made, { recursive: true, force: true })
    }
    const classes = newFolder()
    await run('javac', ['-encoding', 'UTF-8', '-cp', jar, '-d', classes, sources.java], { timeout: 60_000 })
    const flags = ['-Xmx128m', '-Dfile.encoding=UTF-8', '-Dstdout.encoding=UTF-8', '-Duser.timezone=UTC']
    return { command: ['java', ...flags, '-cp', `${classes}${path.delimiter}${jar}`, 'Sql'] }
  } catch (thrown) {
    const { stderr = '', message } = thrown as Error & { stderr?: string }
    return { missing: `the JDBC driver can’t be had: ${(stderr.trim() || message).split('\n').at(-1)}` }
  }
}

const jdbc = await java()
const node: Had = { command: [process.execPath, sources.node] }
const snake: Had = 'python' in python ? { command: [python.python, sources.python] } : python
const programs: Readonly<Record<string, Had>> = {
  'node-postgres': node,
  'postgres.js': node,
  Drizzle: node,
  psycopg2: snake,
  'psycopg 3': snake,
  asyncpg: snake,
  SQLAlchemy: snake,
  JDBC: jdbc,
}
for (const [name, had] of Object.entries(programs))
  if ('missing' in had) console.warn(`SKIPPED: ${name} through the wire: ${had.missing}`)
if (!has('psql')) console.warn('SKIPPED: psql through the wire: it is not installed')

// -------------------------------------------------------------------------------------------------------------------------

interface Told {
  readonly step: string
  readonly value: unknown
}

describe.each(versions)('clients of PostgreSQL %i', async (version) => {
  const missing = await noPostgres(version)
  // One version with TLS, the other without: both know nothing of each other.
  const isSecure = version === 18
  let server: PostgresServer
  let gateway: Sallyport
  let admin: pg.Pool
  let port: number
  let ca = ''
  let notes = 0
  const finished = new AbortController()
  let answering: Promise<void>

  beforeAll(async () => {
    if (missing !== false) return
    server = await startPostgres({ version })
    const adminUrl = await server.createDatabase(application)
    let listen: object | string = '127.0.0.1:0'
    if (isSecure) {
      const folder = newFolder()
      ca = path.join(folder, 'ca.pem')
      const own = openAuthority({ keyFile: path.join(folder, 'ca.key'), certificateFile: ca, clock: Date.now })
      const { key, cert } = own.credentialFor('127.0.0.1')
      fs.writeFileSync(path.join(folder, 'sql.key'), key, { mode: 0o600 })
      fs.writeFileSync(path.join(folder, 'sql.pem'), cert)
      listen = { at: '127.0.0.1:0', certificate: path.join(folder, 'sql.pem'), key: path.join(folder, 'sql.key') }
    }
    const database = new URL(adminUrl).pathname.slice(1)
    gateway = await startSallyport({
      settings: {
        people: { anna: { roles: ['approver'] } },
        ...settings(server.port, database, `gateway_${server.newName()}`, listen as object),
      },
    })
    await gateway.admin('POST', '/v1/secrets', { name: 'DESK_PASSWORD', value: password, resource: 'desk' })
    admin = new pg.Pool({ connectionString: adminUrl, max: 4 })
    admin.on('error', () => {})
    await gateway.admin('POST', '/v1/databases/desk/apply', { admin: adminUrl })
    port = Number(new URL((await gateway.status()).sql?.url ?? '').port)
    answering = answerAll()
  }, 120_000)
  afterAll(async () => {
    finished.abort()
    await answering
    await gateway?.stop()
    await admin?.end()
    await server?.close()
  })

  /** Somebody who agrees to everything, a moment after being asked. */
  async function answerAll(): Promise<void> {
    while (!finished.signal.aborted) {
      for (const { id } of await gateway.approvals('?state=pending')) await gateway.approve(id)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  const session = () => gateway.session('worker', { facts: { customer_id: 7 } })

  describe.skipIf(missing)('the same story', () => {
    for (const [name, had] of Object.entries(programs))
      test.skipIf('missing' in had)(
        `told by ${name}`,
        async () => {
          if ('missing' in had) return
          const { id, token } = await session()
          const [command, ...args] = had.command
          const note = ++notes
          const who = `of ${name}`
          const env = {
            PATH: process.env['PATH'] ?? '',
            CLIENT: name,
            PORT: String(port),
            TOKEN: token,
            THING: randomUUID(),
            WHO: who,
            NOTE: String(note),
            CA: ca,
            HOME: gateway.folder,
          }
          const program = startProgram(command, args, { env, cwd: gateway.folder })
          // Its session is ended once there is nothing more to be done.
          const over = until('it waits', async () => (await deleted(note)) && (await opened(id)), 60_000).then(() =>
            gateway.admin('DELETE', `/v1/sessions/${id}`),
          )
          const ended = await Promise.race([program.ended, over.then(() => program.ended)])
          const told = ended.out
            .split('\n')
            .filter((line) => line.startsWith('{'))
            .map((line) => JSON.parse(line) as Told)
          const expected = { ...story, ...particulars[name] }
          const wanted = Object.fromEntries(Object.entries(expected).filter(([, value]) => value !== undefined))
          expect(Object.fromEntries(told.map(({ step, value }) => [step, value])), ended.err).toEqual(wanted)
          await over
          expect(ended.code).toBe(0)
          expect(ended.out + ended.err).not.toMatch(canaries)
          const { rows } = await admin.query('select body from entries where who = $1 order by id', [who])
          expect(rows).toEqual([{ body: 'kept' }])
        },
        60_000,
      )

    const deleted = async (note: number): Promise<boolean> =>
      (await admin.query('select 1 from notes where id = $1', [note])).rowCount === 0
    /** Whether it has had time to say so: the statement that was held is written down as done. */
    const opened = async (id: string): Promise<boolean> =>
      (await gateway.events()).some(
        (event) =>
          event.type === 'action.done' && event['session'] === id && event['permission'] === 'desk.notes:delete',
      )
  })

  describe.skipIf(missing || !has('psql'))('psql', () => {
    const envOf = (token: string) => ({
      PATH: process.env['PATH'] ?? '',
      HOME: gateway.folder,
      PGHOST: '127.0.0.1',
      PGPORT: String(port),
      PGDATABASE: 'desk',
      PGUSER: 'worker',
      PGPASSWORD: token,
      PGCLIENTENCODING: 'UTF8',
      ...(ca === '' ? { PGSSLMODE: 'disable' } : { PGSSLMODE: 'verify-full', PGSSLROOTCERT: ca }),
    })

    /** What psql says of a script, both outputs in their order. */
    async function script(text: string): Promise<readonly string[]> {
      const { token } = await session()
      const child = spawn('sh', ['-c', 'exec psql -X -A -t -q 2>&1'], {
        env: envOf(token),
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      child.stdin.end(text)
      let out = ''
      for await (const chunk of child.stdout.setEncoding('utf8')) out += chunk as string
      expect(out).not.toMatch(canaries)
      return out.split('\n').filter((line) => line !== '' && !line.startsWith('LINE ') && !/^ *\^$/.test(line))
    }
    const state = '\n\\echo :LAST_ERROR_SQLSTATE :ROW_COUNT\n'

    test('rows, transactions, prepared statements, and what is refused', async () => {
      const lines = await script(`
        select id, subject from tickets order by id;
        select pg_sleep(1);${state}
        select * from salaries;${state}
        copy tickets to stdout;${state}
        listen news;${state}
        \\copy tickets to stdout
        begin;
        insert into entries (customer_id, who, body) values (7, 'psql', 'kept');
        commit;
        begin;
        insert into entries (customer_id, who, body) values (7, 'psql', 'gone');
        rollback;
        select body from entries where who = 'psql';
        begin;
        select pg_sleep(1);${state}
        select 1;${state}
        rollback;
        prepare one (int) as select subject from tickets where id = $1;
        execute one (1);
        execute one (2);
        begin;
        declare c cursor for select id from notes where id > 1000 order by id;
        fetch 2 from c;
        commit;
        \\set FETCH_COUNT 10
        select id from notes where id > 1020 order by id;
      `)
      expect(lines).toEqual([
        '1|ada one',
        '2|ada two',
        expect.stringMatching(/^ERROR: .*pg_sleep/),
        expect.stringMatching(/^HINT/),
        '42501 0',
        expect.stringMatching(/^ERROR: .*salaries/),
        '42P01 0',
        expect.stringMatching(/^ERROR: .*COPY/),
        expect.stringMatching(/^HINT/),
        '42501 0',
        expect.stringMatching(/^ERROR: .*LISTEN/),
        expect.stringMatching(/^HINT/),
        '42501 0',
        expect.stringMatching(/^ERROR: .*COPY/),
        expect.stringMatching(/^HINT/),
        'kept',
        expect.stringMatching(/^ERROR: .*pg_sleep/),
        expect.stringMatching(/^HINT/),
        '42501 0',
        expect.stringMatching(/^ERROR: .*current transaction is aborted/),
        '25P02 0',
        'ada one',
        'ada two',
        '1001',
        '1002',
        '1021',
        '1022',
        '1023',
        '1024',
        '1025',
      ])
    })

    test('`\\d` tells of what the session may see', async () => {
      const lines = await script('\\d\n\\d tickets\n\\d salaries\n\\d+ notes\n\\dn\n\\df\n\\du\n')
      expect(lines).toEqual([
        ...tables.map((name) => `sallyport_desk|${name}|view|sallyport_desk_owner`),
        'id|integer|||',
        'subject|text|||',
        'body|text|||',
        'id|integer||||plain|',
        'body|text||||extended|',
        'sallyport_desk|sallyport_desk_owner',
        'sallyport_desk_owner|No inheritance, Cannot login|{}',
        'sallyport_desk_worker|No inheritance|{}',
      ])
    })

    test('a statement that is held, and one that is cancelled', async () => {
      const note = ++notes
      const lines = await script(`delete from notes where id = ${note} returning id;\n`)
      expect(lines).toEqual([
        expect.stringMatching(/^NOTICE: +waiting for approval/),
        expect.stringMatching(/^DETAIL|^HINT/),
        String(note),
      ])
      const { token } = await session()
      const child = spawn(
        'psql',
        ['-X', '-c', 'select count(*) from generate_series(1, 9999) a cross join generate_series(1, 9999) b'],
        {
          env: envOf(token),
          stdio: ['ignore', 'ignore', 'pipe'],
        },
      )
      let said = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
      const ended = new Promise((resolve) => child.once('close', resolve))
      const runs = "query like 'select count(*) from gen%' and state = 'active' and usename like '%worker'"
      await until('it runs', async () => {
        const { rowCount } = await admin.query(`select 1 from pg_stat_activity where ${runs}`)
        return rowCount === 1
      })
      child.kill('SIGINT')
      await ended
      expect(said).toMatch(/canceling statement due to user request/)
    })
  })
})
