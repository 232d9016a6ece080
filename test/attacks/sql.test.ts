// Attacks on a database, in three lanes: through the gateway, with the check of statements switched off, and with the
// views switched off. What a lane has to stop and doesn't fails by its statement; what is left is counted, and pinned.
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openChecker } from '../../src/postgres/parse.ts'
import type { Checker } from '../../src/postgres/parse.ts'
import { namesOf } from '../../src/postgres/names.ts'
import { verify } from '../../src/postgres/verify.ts'
import { noPostgres, startPostgres, versions } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { connectTo, databaseOfUrl, startDesk } from '../support/postgres-desk.ts'
import type { Desk } from '../support/postgres-desk.ts'
import { startWire } from '../support/postgres-wire.ts'
import type { Wire } from '../support/postgres-wire.ts'
import { removeFolders, startSallyport } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'
import {
  carelessDesk,
  casesOf,
  hidden,
  kinds,
  mendDesk,
  metadata,
  ofOthers,
  overhear,
  plainViews,
  sent,
  watchOver,
  withoutDetails,
} from './sql-lane.ts'
import type { Case, Watch } from './sql-lane.ts'

afterAll(removeFolders)

/** What became of attacks, by lane and class; the statements that did something, by what. */
type Outcome = 'check' | 'database' | 'nothing' | 'through' | 'metadata' | 'effect' | 'public' | 'upsert'
const counts = new Map<string, Partial<Record<Outcome, number>>>()
const told = new Map<string, string[]>()
function count(lane: string, kind: string, became: Outcome, what?: string): void {
  // What ends that which takes long, if it ends before it is done, depends on the machine.
  const outcome = kind === 'deep and huge' && became !== 'through' ? 'nothing' : became
  const key = `${lane} ${kind}`
  const row = counts.get(key) ?? {}
  counts.set(key, { ...row, [outcome]: (row[outcome] ?? 0) + 1 })
  if (what !== undefined) told.set(`${lane} ${outcome}`, [...(told.get(`${lane} ${outcome}`) ?? []), what])
}

/** Classes of which any answer tells what an agent is not told otherwise. */
const telling = new Set(['the catalogs', 'EXPLAIN', 'what others do at the same time', 'files and programs'])

describe.each(versions)('attacks on PostgreSQL %i', async (version) => {
  const missing = await noPostgres(version)
  let server: PostgresServer
  let checker: Checker
  beforeAll(async () => {
    if (missing) return
    server = await startPostgres({ version })
    // What is too slow on a busy machine is refused as well, but for another reason.
    checker = openChecker({ deadline: 2_000 })
  })
  afterAll(async () => {
    await checker?.close()
    await server?.close()
  })

  const watchDesk = (desk: Desk, beside = true): Promise<Watch> =>
    watchOver(desk.admin, desk.plan.names, {
      roles: [...desk.settings.agents.keys()].map((agent) => desk.plan.names.agent(agent)),
      databaseName: desk.settings.databaseName,
      agent: desk.plan.names.agent('desk-worker'),
      neighbour: beside ? () => desk.as('desk-worker', { customer_id: 8 }) : undefined,
      mend: () => mendDesk(desk),
    })

  describe.skipIf(missing)('through the gateway, as a tool', () => {
    let gateway: Sallyport
    let admin: pg.Client
    let watch: Watch
    beforeAll(async () => {
      const { tables } = carelessDesk(server)
      const adminUrl = await server.createDatabase(tables)
      const role = server.newName()
      const alias = `desk${server.newName()}`
      const plain = (...columns: string[]) => ({ select: columns })
      gateway = await startSallyport({
        settings: {
          facts: { customer_id: 'int' },
          approvals: { hold: '1 ms' },
          resources: {
            [alias]: {
              postgres: `postgres://${role}@127.0.0.1:${server.port}/${databaseOfUrl(adminUrl)}`,
              password: '${secret:DESK_PASSWORD}',
              tables: {
                tickets: {
                  ...plain('id', 'customer_id', 'subject', 'body', 'status', 'amount', 'created'),
                  insert: ['customer_id', 'subject', 'body'],
                  update: ['status', 'body'],
                  delete: true,
                  key: ['id'],
                  where: 'customer_id = session.customer_id',
                },
                responses: {
                  ...plain('id', 'ticket_id', 'body'),
                  insert: ['ticket_id', 'body'],
                  key: ['id'],
                  where: 'ticket_id in (select id from public.tickets where customer_id = session.customer_id)',
                },
                customers: {
                  ...plain('id', 'name', 'email', 'phone', 'ssn'),
                  masks: { name: { sql: 'upper(name)' }, email: 'email', phone: 'last4', ssn: 'hash' },
                  where: 'id = session.customer_id',
                },
                preferences: {
                  ...plain('customer_id', 'key', 'value'),
                  insert: ['customer_id', 'key', 'value'],
                  update: ['value'],
                  key: ['customer_id', 'key'],
                  where: 'customer_id = session.customer_id',
                },
              },
            },
          },
          // Nobody is asked: whatever the description gives goes on to the database.
          agents: {
            worker: {
              may: ['tickets', 'responses', 'customers', 'preferences'].map((table) => ({
                do: `${alias}.${table}:*`,
                ask: 'never',
              })),
            },
          },
        },
      })
      await gateway.admin('POST', '/v1/secrets', {
        name: 'DESK_PASSWORD',
        value: 'PASSWORD-OF-THE-GATEWAY',
        resource: alias,
      })
      await gateway.admin('POST', `/v1/databases/${alias}/apply`, { admin: adminUrl })
      admin = await connectTo(adminUrl)
      const names = namesOf(alias)
      watch = await watchOver(admin, names, {
        roles: [names.agent('worker')],
        databaseName: databaseOfUrl(adminUrl),
        agent: names.agent('worker'),
        neighbour: undefined,
        mend: async () => {},
      })
      tool = `${alias}__query`
    }, 120_000)
    afterAll(async () => {
      await watch?.close()
      await gateway?.stop()
      await admin?.end()
    })
    let tool: string

    test.each(kinds)('%s', { timeout: 120_000 }, async (kind) => {
      const { token } = await gateway.session('worker', { facts: { customer_id: 7 } })
      const wrong: unknown[] = []
      for (const { name, attack } of casesOf(kind)) {
        let outcome: Outcome = 'check'
        let heard = ''
        for (const sql of watch.filled(attack)) {
          const { answer, text } = await gateway.call(token, tool, { sql })
          heard += text
          const first = (answer.result?.['content'] as { text: string }[] | undefined)?.[0]?.text ?? ''
          if (answer.result !== undefined && answer.result['isError'] !== true) outcome = 'nothing'
          else if (/^ERROR [0-9A-Z]{5}: /.test(first) && outcome === 'check') outcome = 'database'
        }
        const changed = outcome === 'check' ? [] : Object.values(await watch.changes()).flat()
        const isTold = ofOthers.test(heard) || hidden.test(heard)
        if (isTold || changed.length > 0) {
          outcome = 'through'
          wrong.push({ name, changed, heard: isTold ? heard.slice(0, 2_000) : '' })
        }
        count(`${version} tool`, kind, outcome)
      }
      expect(wrong).toEqual([])
      expect(await watch.changes()).toEqual({ rows: [], world: [] })
    })

    test('and ordinary work goes on', async () => {
      const { token } = await gateway.session('worker', { facts: { customer_id: 7 } })
      const { answer } = await gateway.call(token, tool, { sql: 'select subject from tickets order by id' })
      expect(answer.result?.['structuredContent']).toMatchObject({ rows: [['ada one'], ['ada two']] })
    })
  })

  describe.skipIf(missing)('through the gateway, over the wire', () => {
    let wire: Wire
    let watch: Watch
    beforeAll(async () => {
      const { change, ...desk } = carelessDesk(server)
      const tables = ['tickets', 'responses', 'customers', 'preferences']
      wire = await startWire(server, {
        change,
        desk,
        worker: tables.map((table) => `{ do: "%.${table}:*", ask: never }`),
      })
      watch = await watchDesk(wire.desk)
    }, 120_000)
    afterAll(async () => {
      await watch?.close()
      await wire?.close()
    })

    test.each(kinds)('%s', { timeout: 120_000 }, async (kind) => {
      const wrong: unknown[] = []
      let client: pg.Client | undefined
      let ear = { take: () => '' }
      let isOver = true
      let isListening = false
      for (const { name, attack } of casesOf(kind))
        for (const isExtended of attack.length === 1 ? [false, true] : [false]) {
          if (client === undefined || isOver) {
            const fresh = await wire.connect()
            client = fresh
            isOver = false
            fresh.on('end', () => (isOver = true))
            fresh.on('notification', () => (isListening = true))
            ear = overhear(fresh)
          }
          let outcome: Outcome = 'check'
          let isUnlawful = false
          for (const statement of watch.filled(attack)) {
            const { kind: verdict } = await checker.check(statement, wire.desk.database, { caller: name })
            const code = await sent(client, statement, isExtended)
            if (verdict === 'refused' && code === 'ok') isUnlawful = true
            if (code === 'ok') outcome = 'nothing'
            else if (verdict !== 'refused' && outcome === 'check') outcome = 'database'
          }
          await sent(client, 'rollback')
          const changed = outcome === 'check' ? [] : Object.values(await watch.changes()).flat()
          const heard = ear.take()
          const isTold = ofOthers.test(heard) || hidden.test(heard)
          if (isUnlawful || isTold || changed.length > 0) {
            outcome = 'through'
            wrong.push({ name, isExtended, isUnlawful, changed, heard: isTold ? heard.slice(0, 2_000) : '' })
          }
          if (!isExtended) count(`${version} wire`, kind, outcome)
        }
      if (client !== undefined && !isOver) {
        await wire.desk.admin.query('notify attack')
        await sent(client, 'select 1')
        expect(await settingsOf(client)).toEqual(['700ms', `${wire.desk.plan.names.policy}, pg_temp`, 'on', 'UTF8'])
      }
      await client?.end().catch(() => {})
      expect(wrong).toEqual([])
      expect(isListening).toBe(false)
      const { rows, world } = await watch.changes()
      expect({ rows, world: world.filter((what) => what !== 'a notification') }).toEqual({ rows: [], world: [] })
    })

    test('and ordinary work goes on', async () => {
      const client = await wire.connect()
      const { rows } = await client.query('select subject from tickets order by id')
      expect(rows).toEqual([{ subject: 'ada one' }, { subject: 'ada two' }])
      expect(wire.reported).toEqual([])
    })
  })

  describe.skipIf(missing)('the views alone', () => {
    let desk: Desk
    let watch: Watch
    beforeAll(async () => {
      desk = await startDesk(server, carelessDesk(server))
      watch = await watchDesk(desk)
    }, 120_000)
    afterAll(async () => {
      await watch?.close()
      await desk?.close()
    })

    test.each(kinds)('%s', { timeout: 180_000 }, async (kind) => {
      const wrong: unknown[] = []
      for (const each of casesOf(kind)) {
        const { last, heard, rows, world } = await tried(desk, watch, each)
        const isTold = ofOthers.test(heard) || hidden.test(heard)
        const isData = isTold || rows.length > 0
        let outcome: Outcome = last === 'ok' ? 'nothing' : 'database'
        if (world.length > 0) outcome = 'effect'
        else if (last === 'ok' && (telling.has(kind) || metadata.test(heard))) outcome = 'metadata'
        if (each.conceded !== undefined && (isData || world.length > 0)) outcome = each.conceded
        else if (isData) {
          outcome = 'through'
          wrong.push({ name: each.name, rows, heard: isTold ? heard.slice(0, 2_000) : '' })
        }
        const what = outcome === 'effect' || outcome === 'metadata' ? `${each.name} [${world.join(', ')}]` : undefined
        count(`${version} views`, kind, outcome, what)
      }
      expect(wrong).toEqual([])
    })

    test(
      'what PUBLIC was given is told by `verify`, and with its advice followed gives nothing away',
      { timeout: 120_000 },
      async () => {
        const found = await verify(desk.admin, desk.plan)
        const told = found.filter(({ about, severity }) => about === 'around' && severity !== 'note')
        const where = told.map((each) => each.where)
        const database = desk.settings.databaseName
        expect(where).toEqual(
          expect.arrayContaining([
            `database ${database}`,
            'schema public',
            'table public.pay',
            'function public.boss()',
            'function public.boss(text)',
            'function public.run_sql(text)',
            'procedure public.fire()',
            'function public.spy(text)',
            'function public.to_secret(text)',
            'extension dblink',
            'extension postgres_fdw',
            'server loopback',
            'large object 4711',
            'table public.preferences',
          ]),
        )
        const isFollowed = (at: string, advice: string): boolean =>
          at.startsWith('extension ') || /: revoke .* from public,/.test(advice)
        for (const { advice, where: at } of told) {
          if (at.startsWith('extension ')) await moved(desk.admin, at.slice('extension '.length))
          const [, revoke] = /: (revoke .* from public),/.exec(advice) ?? []
          if (revoke !== undefined) await desk.admin.query(revoke)
        }
        const left = (await verify(desk.admin, desk.plan)).filter(
          (each) => each.severity !== 'note' && isFollowed(each.where, each.advice),
        )
        expect(left).toEqual([])
        const again = await watchDesk(desk)
        const wrong: unknown[] = []
        for (const kind of kinds)
          for (const each of casesOf(kind).filter(({ conceded }) => conceded === 'public')) {
            const { heard, rows, world } = await tried(desk, again, each)
            if (ofOthers.test(heard) || hidden.test(heard) || rows.length > 0 || world.length > 0)
              wrong.push({ name: each.name, heard: heard.slice(0, 500), rows, world })
          }
        await again.close()
        expect(wrong).toEqual([])
      },
    )
  })

  describe.skipIf(missing)('the check alone', () => {
    let desk: Desk
    let watch: Watch
    let client: pg.Client
    let ear: { take(): string }
    beforeAll(async () => {
      desk = await startDesk(server, carelessDesk(server))
      // A superuser runs what the check lets through: nothing else stands in its way.
      await plainViews(desk)
      watch = await watchOver(desk.admin, desk.plan.names, {
        roles: ['postgres'],
        databaseName: desk.settings.databaseName,
        agent: desk.plan.names.agent('desk-worker'),
        neighbour: () => desk.as('desk-worker', { customer_id: 8 }),
        mend: async () => {},
      })
      client = await connectTo(server.adminUrl.replace(/\/postgres$/, `/${desk.settings.databaseName}`))
      ear = overhear(client)
    }, 120_000)
    afterAll(async () => {
      await client?.end()
      await watch?.close()
      await desk?.close()
    })

    test.each(kinds)('%s', { timeout: 120_000 }, async (kind) => {
      const wrong: unknown[] = []
      const allowed: string[] = []
      for (const { name, attack } of casesOf(kind)) {
        let outcome: Outcome = 'check'
        ear.take()
        for (const statement of watch.filled(attack)) {
          const verdict = await checker.check(statement, desk.database, { caller: name })
          if (verdict.kind === 'refused') continue
          allowed.push(statement)
          const code = await sent(client, verdict.text ?? statement)
          outcome = code === 'ok' ? 'nothing' : outcome === 'check' ? 'database' : outcome
        }
        if (outcome !== 'check') {
          await sent(client, 'rollback')
          const changed = Object.values(await watch.changes(false)).flat()
          const heard = withoutDetails(ear.take())
          const isTold = hidden.test(heard)
          if (isTold || changed.length > 0) {
            outcome = 'through'
            wrong.push({ name, changed, heard: isTold ? heard.slice(0, 2_000) : '' })
          }
        }
        count(`${version} check`, kind, outcome)
      }
      expect(wrong).toEqual([])
    })
  })
})

/** By class: statements; then by lane, `check/database/nothing/through`, and for the views `database/nothing/metadata/effect/given away`. */
function tableOf(version: number): readonly string[] {
  const of = (lane: string, kind: string, ...outcomes: Outcome[]): string => {
    const row = counts.get(`${version} ${lane} ${kind}`) ?? {}
    return outcomes.map((outcome) => row[outcome] ?? 0).join('/')
  }
  const whole = (kind: string): string => {
    const all: readonly Outcome[] = ['check', 'database', 'nothing', 'through']
    const views = counts.get(`${version} views ${kind}`) ?? {}
    const given = (views.public ?? 0) + (views.upsert ?? 0)
    return [
      kind.padEnd(58),
      String(casesOf(kind).length).padStart(3),
      of('tool', kind, ...all),
      of('wire', kind, ...all),
      `${of('views', kind, 'database', 'nothing', 'metadata', 'effect')}/${given}/${views.through ?? 0}`,
      of('check', kind, ...all),
    ].join(' | ')
  }
  return kinds.map(whole)
}

function totals(version: number): Record<string, Partial<Record<Outcome, number>>> {
  const sums: Record<string, Partial<Record<Outcome, number>>> = {}
  for (const [key, row] of counts)
    for (const lane of ['tool', 'wire', 'views', 'check'])
      if (key.startsWith(`${version} ${lane} `))
        for (const [outcome, n] of Object.entries(row) as [Outcome, number][])
          sums[lane] = { ...sums[lane], [outcome]: (sums[lane]?.[outcome] ?? 0) + n }
  return sums
}

/** Whether every lane has run: a table of some is none. */
const isWhole = (version: number): boolean =>
  ['tool', 'wire', 'views', 'check'].every((lane) => kinds.every((kind) => counts.has(`${version} ${lane} ${kind}`)))

test('what became of all of them', (context) => {
  if (!versions.every(isWhole)) return context.skip()
  for (const version of versions) {
    console.info([`PostgreSQL ${version}`, ...tableOf(version), JSON.stringify(totals(version))].join('\n'))
    console.info(
      [...told]
        .filter(([lane]) => lane.startsWith(String(version)))
        .map(([lane, what]) => `${lane}:\n  ${what.join('\n  ')}`)
        .join('\n'),
    )
  }
  expect(versions.map(totals)).toMatchInlineSnapshot(`
    [
      {
        "check": {
          "check": 478,
          "database": 34,
          "nothing": 113,
        },
        "tool": {
          "check": 529,
          "database": 17,
          "nothing": 79,
        },
        "views": {
          "database": 327,
          "effect": 48,
          "metadata": 53,
          "nothing": 138,
          "public": 56,
          "upsert": 3,
        },
        "wire": {
          "check": 478,
          "database": 29,
          "nothing": 118,
        },
      },
      {
        "check": {
          "check": 478,
          "database": 34,
          "nothing": 113,
        },
        "tool": {
          "check": 529,
          "database": 17,
          "nothing": 79,
        },
        "views": {
          "database": 330,
          "effect": 48,
          "metadata": 52,
          "nothing": 136,
          "public": 56,
          "upsert": 3,
        },
        "wire": {
          "check": 478,
          "database": 29,
          "nothing": 118,
        },
      },
    ]
  `)
  expect(tableOf(18)).toMatchInlineSnapshot(`
    [
      "another table, spelt many ways                             |  32 | 32/0/0/0 | 32/0/0/0 | 30/0/0/0/2/0 | 32/0/0/0",
      "rows of another customer                                   |  29 | 3/5/21/0 | 3/5/21/0 | 7/22/0/0/0/0 | 3/0/26/0",
      "hidden columns and masks                                   |  25 | 13/4/8/0 | 13/4/8/0 | 17/8/0/0/0/0 | 13/4/8/0",
      "roles and identities                                       |  35 | 35/0/0/0 | 30/3/2/0 | 29/3/0/3/0/0 | 30/3/2/0",
      "settings                                                   |  31 | 29/0/2/0 | 25/2/4/0 | 14/17/0/0/0/0 | 25/2/4/0",
      "whose session it is                                        |  17 | 9/0/8/0 | 9/0/8/0 | 9/5/0/3/0/0 | 9/0/8/0",
      "functions wherever they can stand                          |  34 | 34/0/0/0 | 34/0/0/0 | 11/8/0/0/15/0 | 34/0/0/0",
      "functions behind a dot                                     |  20 | 20/0/0/0 | 19/0/1/0 | 7/3/0/6/4/0 | 19/0/1/0",
      "operators, casts, domains, aggregates, arguments by name   |  24 | 24/0/0/0 | 24/0/0/0 | 7/1/1/0/15/0 | 24/0/0/0",
      "functions that run text                                    |  15 | 15/0/0/0 | 14/0/1/0 | 9/1/2/0/3/0 | 14/0/1/0",
      "SECURITY DEFINER, for everybody                            |  12 | 10/0/2/0 | 8/1/3/0 | 1/1/0/0/10/0 | 8/1/3/0",
      "the catalogs                                               |  41 | 41/0/0/0 | 25/1/15/0 | 10/0/31/0/0/0 | 25/1/15/0",
      "DO, CALL, COPY                                             |  16 | 16/0/0/0 | 16/0/0/0 | 11/2/0/3/0/0 | 16/0/0/0",
      "MERGE and ON CONFLICT                                      |  17 | 16/0/1/0 | 16/0/1/0 | 10/4/0/0/3/0 | 16/0/1/0",
      "changes below a SELECT                                     |  10 | 8/1/1/0 | 8/1/1/0 | 8/1/0/1/0/0 | 8/0/2/0",
      "EXPLAIN                                                    |  10 | 10/0/0/0 | 10/0/0/0 | 4/0/5/1/0/0 | 10/0/0/0",
      "cursors and prepared statements                            |  18 | 16/0/2/0 | 4/4/10/0 | 6/9/3/0/0/0 | 4/4/10/0",
      "things that are made                                       |  56 | 55/0/1/0 | 55/0/1/0 | 38/0/2/16/0/0 | 55/0/1/0",
      "the table is gone                                          |  37 | 37/0/0/0 | 35/1/1/0 | 35/1/0/1/0/0 | 35/1/1/0",
      "locks                                                      |  15 | 15/0/0/0 | 14/0/1/0 | 3/8/0/4/0/0 | 14/0/1/0",
      "LISTEN and NOTIFY                                          |   7 | 7/0/0/0 | 7/0/0/0 | 1/3/0/3/0/0 | 7/0/0/0",
      "large objects                                              |  14 | 14/0/0/0 | 13/0/1/0 | 5/5/0/3/1/0 | 13/0/1/0",
      "files and programs                                         |  16 | 16/0/0/0 | 16/0/0/0 | 15/0/1/0/0/0 | 16/0/0/0",
      "other machines                                             |  14 | 14/0/0/0 | 14/0/0/0 | 4/1/0/3/6/0 | 14/0/0/0",
      "what others do at the same time                            |   8 | 8/0/0/0 | 7/0/1/0 | 2/0/5/1/0/0 | 7/0/1/0",
      "leaks by errors                                            |  20 | 1/7/12/0 | 1/7/12/0 | 8/12/0/0/0/0 | 1/18/1/0",
      "comments and encodings                                     |  24 | 23/0/1/0 | 19/0/5/0 | 19/2/3/0/0/0 | 19/0/5/0",
      "more than one statement                                    |   8 | 8/0/0/0 | 7/0/1/0 | 7/1/0/0/0/0 | 7/0/1/0",
      "deep and huge                                              |  20 | 0/0/20/0 | 0/0/20/0 | 0/20/0/0/0/0 | 0/0/20/0",
    ]
  `)
})

/** An attack as the agent's role itself, on a connection of a session of customer 7. */
async function tried(desk: Desk, watch: Watch, { attack }: Case) {
  const client = await desk.as('desk-worker', { customer_id: 7 })
  const ear = overhear(client)
  let last = 'ok'
  for (const statement of watch.filled(attack)) last = await sent(client, statement)
  await sent(client, 'rollback')
  const changed = await watch.changes()
  await client.end().catch(() => {})
  if (changed.world.length > 0) await watch.settled()
  return { last, heard: ear.take(), ...changed }
}

/** As `verify` advises, where PUBLIC can't be denied a function without its extension: to a schema of its own. */
async function moved(admin: pg.Client, extension: string): Promise<void> {
  await admin.query(`create schema if not exists extensions; alter extension ${extension} set schema extensions`)
}

async function settingsOf(client: pg.Client): Promise<readonly unknown[]> {
  const values: unknown[] = []
  for (const name of ['statement_timeout', 'search_path', 'standard_conforming_strings', 'client_encoding'])
    values.push(Object.values((await client.query<Record<string, unknown>>(`show ${name}`)).rows[0] ?? {})[0])
  return values
}
