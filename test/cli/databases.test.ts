import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runLine } from '../../src/cli/run.ts'
import type { Io } from '../../src/cli/io.ts'
import { createAdministration } from '../../src/gateway/postgres/administration.ts'
import type { Held, PostgresResource } from '../../src/gateway/postgres/resource.ts'
import { verbs } from '../../src/postgres/description.ts'
import type { Verb } from '../../src/postgres/description.ts'
import { namesOf } from '../../src/postgres/names.ts'
import { hasPseudoTerminal, openTerminal } from './terminal.ts'
import { startPeopleSide } from '../support/people.ts'
import type { PeopleSide } from '../support/people.ts'
import { connectTo, databaseOfUrl, deskDatabase, deskTables } from '../support/postgres-desk.ts'
import { noPostgres, startPostgres } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'

const program = fileURLToPath(new URL('../../src/cli/sallyport.ts', import.meta.url))
const ownPassword = 'gateway-Pa55word-of-the-desk'

interface Desk {
  readonly alias: string
  /** Of an administrator, who is the superuser. */
  readonly admin: string
  readonly side: PeopleSide
  readonly resource: PostgresResource
  /** What was printed and answered so far: no secret may be in it. */
  readonly seen: string[]
  readonly run: (line: string, typed?: string, more?: Partial<Io>) => Promise<Ran>
  readonly sql: (text: string) => Promise<readonly Record<string, unknown>[]>
}

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

const held = (tables: Record<string, readonly Verb[]>, tools: readonly string[] = []): Held => ({
  tables: new Map(Object.entries(tables).map(([table, some]) => [table, new Set(some)])),
  tools: new Set(tools),
})

function resourceOf(alias: string, url: string, password = ownPassword): PostgresResource {
  const { hostname, port } = new URL(url)
  return {
    alias,
    database: deskDatabase(alias),
    names: namesOf(alias),
    address: () => ({
      host: hostname,
      port: Number(port),
      database: databaseOfUrl(url),
      user: `gateway_${alias}`,
      password,
      tls: 'off',
    }),
    secrets: [],
    connections: 5,
    tools: new Map([
      [
        'add_response',
        {
          sql: 'insert into responses (ticket_id, body) values ($1, $2)',
          statement: {
            command: 'insert',
            uses: [{ table: 'responses', verb: 'insert', columns: ['body', 'ticket_id'], isBounded: true }],
            functions: [],
            isCatalog: false,
            from: 0,
            to: 0,
          },
          schema: { type: 'object' },
          parameters: ['ticket_id', 'body'],
          label: { trust: 'untrusted', readers: 'internal' },
        },
      ],
    ]),
    held: new Map([
      ['reader', held({ tickets: ['select'], customers: ['select'] })],
      ['worker', held({ tickets: verbs, responses: verbs, customers: verbs })],
      ['teller', held({}, ['add_response'])],
    ]),
  }
}

describe.skipIf(await noPostgres(18))('databases, from the command line', { timeout: 60_000 }, () => {
  let server: PostgresServer
  const sides: PeopleSide[] = []
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
  })
  afterAll(async () => {
    await Promise.all(sides.map((side) => side.close()))
    await server.close()
  })

  async function startDesk({ change = (resource: PostgresResource) => resource } = {}): Promise<Desk> {
    const admin = await server.createDatabase(deskTables)
    const alias = server.newName()
    const resource = change(resourceOf(alias, admin))
    const side = await startPeopleSide(undefined, ({ audit, clock }) =>
      createAdministration({ resources: () => [resource], audit, clock }),
    )
    sides.push(side)
    const seen: string[] = []
    return {
      alias,
      admin,
      side,
      resource,
      seen,
      async run(line, typed = '', more = {}) {
        let [out, err] = ['', '']
        const stdin = new PassThrough()
        stdin.end(typed)
        const io: Io = {
          out: (text) => void (out += `${text}\n`),
          err: (text) => void (err += `${text}\n`),
          isTty: false,
          color: false,
          columns: 100,
          env: { SALLYPORT_URL: side.url, SALLYPORT_KEY: side.keys.admin },
          cwd: '/',
          stdin,
          ...more,
        }
        const code = await runLine(line.replaceAll('DESK', alias).split(' '), io)
        seen.push(out, err)
        return { code, out, err }
      },
      async sql(text) {
        const client = await connectTo(admin)
        try {
          return (await client.query<Record<string, unknown>>(text)).rows
        } finally {
          await client.end()
        }
      },
    }
  }

  const leftOf = ({ sql, alias }: Desk) =>
    sql(`select rolname as name from pg_roles where rolname like '%${alias}%'
      union all select nspname from pg_namespace where nspname like '%${alias}%'`)

  test('plan, apply, verify, drift, apply, remove: and no secret anywhere', async () => {
    const desk = await startDesk()
    const { run, sql, alias, admin, side, resource } = desk
    // A right of the owner's own says nothing: the server writes it down once any right was given.
    const rights = () =>
      sql(`select relname as name, a.* from pg_class c, aclexplode(c.relacl) a where a.grantee <> c.relowner
        union all select nspname, a.* from pg_namespace n, aclexplode(n.nspacl) a
        union all select datname, a.* from pg_database d, aclexplode(d.datacl) a
          where datname = current_database() and a.grantee not in (0, d.datdba)
        order by 1, 2, 3, 4`)
    const before = await rights()

    const planned = await run('db plan DESK')
    expect(planned).toMatchObject({ code: 0, err: '' })
    expect(planned.out).toContain(`Role of agent teller: sallyport_${alias}_teller`)
    expect(planned.out).toMatch(/\d+ steps, in one transaction/)
    expect(await leftOf(desk)).toEqual([])

    // Before anything is there, that is said, and nothing else.
    const early = await run('db verify DESK')
    expect(early.code).toBe(1)
    expect(early.out).toContain(`is not as planned in the database`)
    expect(early.out).toContain('the gateway is not let in with it')
    expect(early.out).toContain('not looked at: everything else')
    const earlier = await run('db verify DESK --admin', admin)
    expect(earlier.code).toBe(1)
    expect(earlier.out).toContain(`role sallyport_${alias}_owner: is not there`)

    const applied = await run('db apply DESK --yes', `${admin}\n`)
    expect(applied).toMatchObject({ code: 0, err: '' })
    expect(applied.out).toMatch(/is set up in the database `t\w+`: \d+ steps/)
    const verified = await run('db verify DESK')
    expect(verified).toMatchObject({ code: 0, err: '' })
    expect(verified.out).toContain('is as planned in the database')
    expect(verified.out).not.toMatch(/^error/m)
    expect(verified.out).toContain('not looked at: ')
    expect((await run('db verify DESK --admin', admin)).code).toBe(0)
    // A tool's statement is a right of its role, and no other.
    expect(
      await sql(`select distinct privilege_type as may, table_name as name from information_schema.column_privileges
        where grantee = 'sallyport_${alias}_teller' and table_schema <> 'sallyport_${alias}_catalog'`),
    ).toEqual([{ may: 'INSERT', name: 'responses' }])

    const again = await run('db apply DESK --yes', admin)
    expect(again).toMatchObject({ code: 0, err: '' })
    expect(again.out).toContain('was as planned')

    await sql(`alter role sallyport_${alias}_reader superuser;
      alter role sallyport_${alias}_worker password 'another';
      grant select on salaries to sallyport_${alias}_teller`)
    const drifted = await run('db verify DESK')
    expect(drifted.code).toBe(1)
    expect(drifted.out).toContain(`role sallyport_${alias}_reader: has SUPERUSER`)
    expect(drifted.out).toContain(`role sallyport_${alias}_teller: holds rights on table public.salaries`)
    expect(drifted.out).toContain(`role sallyport_${alias}_worker: is not let in with the password`)
    const asJson = JSON.parse((await run('db verify DESK --json')).out) as { findings: { severity: string }[] }
    expect(asJson.findings.filter(({ severity }) => severity === 'error').length).toBeGreaterThanOrEqual(3)

    // A right that somebody gave by hand is for them to take away: nothing is done halfway.
    const halfway = await run('db apply DESK --yes', admin)
    expect(halfway.code).toBe(1)
    expect(halfway.err).toContain(`not as planned afterwards: role sallyport_${alias}_teller: holds rights on`)
    expect((await run('db verify DESK')).out).toContain(`role sallyport_${alias}_reader: has SUPERUSER`)
    await sql(`revoke select on salaries from sallyport_${alias}_teller`)
    expect(await run('db apply DESK --yes', admin)).toMatchObject({ code: 0, err: '' })
    expect(await run('db verify DESK')).toMatchObject({ code: 0, err: '' })

    const removed = await run('db remove DESK --yes', admin)
    expect(removed).toMatchObject({ code: 0, err: '' })
    expect(removed.out).toContain('is removed')
    expect(await leftOf(desk)).toEqual([])
    expect(await rights()).toEqual(before)

    const types = side.world.audit.events.map(({ type }) => type).filter((type) => type.startsWith('database.'))
    const change = ['database.apply', 'database.applied']
    const look = ['database.verify', 'database.verified']
    expect(types).toEqual([
      ...look,
      ...look,
      ...change,
      ...look,
      ...look,
      ...change,
      ...look,
      ...look,
      'database.apply',
      'database.failed',
      ...look,
      ...change,
      ...look,
      'database.remove',
      'database.removed',
    ])
    expect(side.world.audit.of('database.applied')[0]).toMatchObject({
      resource: alias,
      changed: true,
      errors: 0,
      by: 'person:admin',
      of: side.world.audit.of('database.apply')[0]?.id,
    })
    const everything = [...desk.seen, JSON.stringify(side.world.audit.events)].join('\n')
    for (const secret of [new URL(admin).password, ownPassword, 'SCRAM-SHA-256$'])
      expect(everything).not.toContain(secret)
    expect(server.log()).not.toContain(ownPassword)
    expect(resource.address().password).toBe(ownPassword)
  })

  test('a script sets up the same, without the gateway', async () => {
    const desk = await startDesk()
    const { run, sql, side } = desk
    const bare = await run('db plan DESK --sql')
    expect(bare.out).toContain("password :'password_of_")
    expect(bare.out).not.toContain('SCRAM-SHA-256')
    expect(side.world.audit.of('database.verifiers')).toEqual([])
    const { code, out } = await run('db plan DESK --sql --verifiers')
    expect(code).toBe(0)
    expect(out).toMatch(/^-- Makes roles, schemas and views/)
    expect(out).not.toContain(ownPassword)
    expect(side.world.audit.of('database.verifiers')).toMatchObject([{ resource: desk.alias, by: 'person:admin' }])
    await sql(out)
    expect(await run('db verify DESK')).toMatchObject({ code: 0, err: '' })
    await sql((await run('db plan DESK --sql --removal')).out)
    expect(await leftOf(desk)).toEqual([])
  })

  test('what a person is asked at a terminal, and what is typed unseen', async () => {
    const desk = await startDesk()
    const raw: boolean[] = []
    const typing = (answer: string, address: string): Partial<Io> => {
      const stdin = Object.assign(new PassThrough(), {
        isTTY: true,
        setRawMode: (on: boolean) => {
          raw.push(on)
          if (on) stdin.write(address)
        },
      })
      stdin.write(answer)
      return { isTty: true, stdin: stdin as unknown as Io['stdin'] }
    }
    const no = await desk.run('db apply DESK', '', typing('n\n', ''))
    expect(no).toMatchObject({ code: 1 })
    expect(no.err).toContain('nothing was done')
    expect(await leftOf(desk)).toEqual([])
    const left = await desk.run('db apply DESK', '', typing('y\n', '\x03'))
    expect(left).toMatchObject({ code: 1 })
    expect(left.err).toContain('nothing was done')
    const yes = await desk.run('db apply DESK', '', typing('y\n', `${desk.admin}\r`))
    expect(yes).toMatchObject({ code: 0 })
    expect(yes.out).toContain(`Role of agent reader`)
    const mistyped = await desk.run('db remove DESK', '', typing('desk\n', `${desk.admin}\r`))
    expect(mistyped).toMatchObject({ code: 1 })
    expect(await leftOf(desk)).not.toEqual([])
    const gone = await desk.run('db remove DESK', '', typing(`${desk.alias}\n`, `${desk.admin}\r`))
    expect(gone).toMatchObject({ code: 0 })
    expect(await leftOf(desk)).toEqual([])
    expect(raw).toEqual([true, false, true, false, true, false])
    expect(desk.seen.join('')).not.toContain(new URL(desk.admin).password)
  })

  test.skipIf(!hasPseudoTerminal)('at a real terminal the address is seen nowhere', async () => {
    const { alias, admin, side } = await startDesk()
    const terminal = openTerminal([process.execPath, program, 'db', 'apply', alias, '--no-color'], {
      rows: 60,
      columns: 120,
      env: { SALLYPORT_URL: side.url, SALLYPORT_KEY: side.keys.admin },
    })
    try {
      await terminal.until((screen) => screen.includes('[y/N]'))
      terminal.keys('y\n')
      await terminal.until((screen) => screen.includes('not shown'))
      terminal.keys(`${admin}\r`)
      expect(await terminal.exit).toBe(0)
      expect(terminal.raw()).toContain('is set up in the database')
      expect(terminal.raw()).not.toContain(new URL(admin).password)
    } finally {
      terminal.kill()
    }
  })

  test('a description to begin with, by an administrator or by the gateway itself', async () => {
    const { run, admin } = await startDesk()
    const early = await run('db suggest DESK tickets')
    expect(early).toMatchObject({ code: 1, out: '' })
    expect(early.err).toContain("does not let the gateway's own role")
    const { code, out } = await run('db suggest DESK tickets customers --admin', admin)
    expect(code).toBe(0)
    expect(out).toContain('tables:\n  tickets:\n')
    expect(out).toContain('where: "customer_id = session.customer_id"')
    expect(out).toContain('masks: { email: email, phone: last4 }')
    await run('db apply DESK --yes', admin)
    expect((await run('db suggest DESK tickets customers')).out).toBe(out)
    const all = JSON.parse((await run('db suggest DESK --json')).out) as { tables: readonly string[] }
    expect(all.tables).toEqual(['public.customers', 'public.responses', 'public.salaries', 'public.tickets'])
    const none = await run('db suggest DESK nothing')
    expect(none).toMatchObject({ code: 1 })
    expect(none.err).toContain('there is no table `nothing`')
  })

  test('a server that never answers is not waited for', async () => {
    const silent = net.createServer(() => {}).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    const { admin, resource } = await startDesk()
    const side = await startPeopleSide(undefined, ({ audit, clock }) =>
      createAdministration({ resources: () => [resource], audit, clock, within: 300 }),
    )
    sides.push(side)
    const url = new URL(admin)
    url.port = String(port)
    const io = { SALLYPORT_URL: side.url, SALLYPORT_KEY: side.keys.admin }
    const desk = await startDesk()
    const { code, err } = await desk.run(`db apply ${resource.alias} --yes --anyway`, url.href, { env: io })
    expect(code).toBe(1)
    expect(err).toContain('took longer than 0.3 s and was cut')
    expect(side.world.audit.of('database.failed')).toMatchObject([{ code: 'unavailable' }])
    silent.close()
  })

  describe('what can go wrong says what to do, and never shows the address', () => {
    let desk: Desk
    beforeAll(async () => {
      desk = await startDesk()
      await desk.sql(`create role limited_${desk.alias} login password 'limited-secret-word'`)
    })
    const changed = (url: string, change: (url: URL) => void): string => {
      const copy = new URL(url)
      change(copy)
      return copy.href
    }
    const secret = 'limited-secret-word'
    const cases: readonly (readonly [string, string, (admin: string, alias: string) => string, RegExp])[] = [
      ['no address', 'db apply DESK --yes', () => '', /standard input holds no address/],
      ['something else', 'db apply DESK --yes', () => secret, /begins with `postgres:\/\/`/],
      ['a broken one', 'db apply DESK --yes', () => `postgres://a:${secret}%zz@127.0.0.1:1:2/x`, /can't be used/],
      ['options', 'db apply DESK --yes', (admin) => `${admin}?options=-crole%3D${secret}`, /no options behind/],
      ['a fragment', 'db apply DESK --yes', (admin) => `${admin}#${secret}`, /written as `%23`/],
      [
        'another database',
        'db apply DESK --yes',
        (admin) => changed(admin, (url) => (url.pathname = '/postgres')),
        /leads to the database `postgres`, and `t\w+` is in `t\w+`/,
      ],
      [
        'another host',
        'db apply DESK --yes',
        (admin) => changed(admin, (url) => (url.hostname = 'db.example.com')),
        /leads to db\.example\.com:\d+, and .* say --anyway/,
      ],
      [
        'a port where nobody is',
        'db apply DESK --yes --anyway',
        (admin) => changed(admin, (url) => (url.port = '1')),
        /can't be reached \(ECONNREFUSED\)/,
      ],
      [
        'a wrong password',
        'db apply DESK --yes',
        (admin) => changed(admin, (url) => (url.password = secret)),
        /does not let the administrator in/,
      ],
      [
        'too few rights',
        'db apply DESK --yes',
        (admin, alias) =>
          changed(admin, (url) => {
            url.username = `limited_${alias}`
            url.password = secret
          }),
        /the administrator "limited_\w+" may not make roles\. Use a superuser/,
      ],
      [
        'too few rights',
        'db remove DESK --yes',
        (admin, alias) =>
          changed(admin, (url) => {
            url.username = `limited_${alias}`
            url.password = secret
          }),
        /may not make roles/,
      ],
      [
        'a database that is none of ours',
        'db verify elsewhere',
        () => '',
        /there is no database `elsewhere`: there is `t/,
      ],
    ]
    test.each(cases)('%s: %s', async (_what, line, address, words) => {
      const { code, out, err } = await desk.run(line, address(desk.admin, desk.alias))
      expect(code).toBe(1)
      expect(err).toMatch(words)
      for (const hidden of [secret, new URL(desk.admin).password]) expect(out + err).not.toContain(hidden)
      const failed = JSON.stringify(desk.side.world.audit.events)
      for (const hidden of [secret, new URL(desk.admin).password]) expect(failed).not.toContain(hidden)
      expect(await leftOf(desk)).toEqual([{ name: `limited_${desk.alias}` }])
    })

    test('a role of that name that is somebody else’s', async () => {
      const { run, sql, alias, admin, side } = await startDesk()
      await sql(`create role sallyport_${alias}_reader`)
      const { code, err } = await run('db apply DESK --yes', admin)
      expect(code).toBe(1)
      expect(err).toContain(`the role "sallyport_${alias}_reader" is there already, and was not made for this database`)
      expect(err).toContain('Rename or drop it')
      expect(side.world.audit.of('database.failed')).toMatchObject([{ code: 'conflict', by: 'person:admin' }])
    })

    test('a role of the gateway that was there before, with a password of its own', async () => {
      const { run, sql, alias, admin } = await startDesk()
      await sql(`create role gateway_${alias} login password 'its own'`)
      const { code, out } = await run('db apply DESK --yes', admin)
      expect(code).toBe(1)
      expect(out).toContain('the server says: the role')
      expect(out).toContain('the gateway is not let in with it')
    })

    test('a gateway without a password', async () => {
      const { run, admin } = await startDesk({
        change: (resource) => ({ ...resource, address: () => ({ ...resource.address(), password: '' }) }),
      })
      const { code, err } = await run('db apply DESK --yes', admin)
      expect(code).toBe(1)
      expect(err).toContain('the role of the gateway has no password')
      expect((await run('db plan DESK')).code).toBe(0)
    })

    test.each([
      ['db apply DESK', /give --yes/],
      ['db remove DESK', /give --yes/],
      ['db plan DESK --verifiers', /goes with `--sql`/],
      ['db verify DESK --anyway', /goes with `--admin`/],
      ['db apply DESK postgres://a:b@c/d --yes', /takes <resource> and no more/],
    ])('%s is not understood', async (line, words) => {
      const { code, err } = await desk.run(line)
      expect(code).toBe(2)
      expect(err).toMatch(words)
    })
  })
})
