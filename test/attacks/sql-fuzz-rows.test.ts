// Mutated statements as the agent's role itself, with no check before them: rows of another customer never leave, and are
// never changed. And what the check lets through of them, over all rows and as a superuser: what is not described never
// leaves, and nothing but described rows changes.
import type pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openChecker } from '../../src/postgres/parse.ts'
import { noPostgres, startPostgres } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { connectTo, startDesk } from '../support/postgres-desk.ts'
import type { Desk } from '../support/postgres-desk.ts'
import {
  briefAttacks,
  deskWork,
  hidden,
  mendDesk,
  ofOthers,
  overhear,
  plainViews,
  sent,
  soberDesk,
  watchOver,
  withoutDetails,
} from './sql-lane.ts'
import type { Watch } from './sql-lane.ts'
import { chances, mutated } from './sql-mutations.ts'

// How long to fuzz, for each of both ways, is said where tests are run; what was found can be run again.
const { SQL_FUZZ_SECONDS, SQL_FUZZ_SEED } = process.env
const time = Number(SQL_FUZZ_SECONDS ?? 10) * 1000
const seed = SQL_FUZZ_SEED ?? String(Date.now())

describe.skipIf(await noPostgres(18))(`rows of others, from SQL_FUZZ_SEED=${seed}`, () => {
  let server: PostgresServer
  let desk: Desk
  let watch: Watch
  const start = async (hasViews = true) => {
    desk = await startDesk(server, soberDesk)
    if (!hasViews) await plainViews(desk)
    watch = await watchOver(desk.admin, desk.plan.names, {
      roles: [desk.plan.names.agent('desk-worker'), desk.plan.names.agent('reader')],
      databaseName: desk.settings.databaseName,
      agent: desk.plan.names.agent('desk-worker'),
      neighbour: undefined,
      mend: async () => (hasViews ? mendDesk(desk) : undefined),
    })
  }
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
  })
  afterAll(() => server?.close())

  async function fuzz(
    name: string,
    connect: () => Promise<pg.Client>,
    step: (client: pg.Client, text: string) => Promise<string | undefined>,
    isTold: (heard: string) => boolean,
  ) {
    const chance = chances(`${name} ${seed}`)
    const until = performance.now() + time
    const seen = { all: 0, run: 0, ok: 0, lost: 0, looks: 0 }
    let client: pg.Client | undefined
    let ear = { take: () => '' }
    let recent: string[] = []
    for (; performance.now() < until; seen.all++) {
      if (client === undefined) {
        client = await connect()
        ear = overhear(client)
      }
      const text = watch.filled([
        mutated(chance.one(chance.often(60) ? deskWork : briefAttacks), chance, {
          hostile: briefAttacks,
          harmless: deskWork,
        }),
      ])[0]!
      const code = await step(client, text)
      if (code === undefined) continue
      recent.push(text)
      seen.run++
      if (code === 'ok') seen.ok++
      const heard = ear.take()
      expect(isTold(heard), text).toBe(false)
      if (recent.length < 40 && code !== 'lost') continue
      // What a transaction that is open would hide is not forgotten.
      await sent(client, 'rollback')
      await client.end().catch(() => {})
      client = undefined
      if (code === 'lost') seen.lost++
      const { rows, world } = await watch.changes(name === 'views')
      if (world.length > 0) await watch.settled()
      seen.looks++
      // Whoever logs in as the role can make things of its own.
      expect({ rows, world: name === 'views' ? [] : world }, recent.join('\n')).toEqual({ rows: [], world: [] })
      recent = []
    }
    await client?.end().catch(() => {})
    console.info(`${name}: ${JSON.stringify(seen)}`)
    return seen
  }

  test('the views alone', { timeout: time + 60_000 }, async () => {
    await start()
    const seen = await fuzz(
      'views',
      () => desk.as('desk-worker', { customer_id: 7 }),
      (client, text) => sent(client, text),
      (heard) => ofOthers.test(heard) || hidden.test(heard),
    )
    await watch.close()
    await desk.close()
    expect(seen.ok).toBeGreaterThan(seen.run / 100)
  })

  test('the check alone', { timeout: time + 60_000 }, async () => {
    await start(false)
    const checker = openChecker({ deadline: 5_000 })
    const url = server.adminUrl.replace(/\/postgres$/, `/${desk.settings.databaseName}`)
    const seen = await fuzz(
      'check',
      () => connectTo(url),
      async (client, text) => {
        const verdict = await checker.check(text, desk.database, { caller: 'fuzz' })
        return verdict.kind === 'refused' ? undefined : sent(client, verdict.text ?? text)
      },
      (heard) => hidden.test(withoutDetails(heard)),
    )
    await checker.close()
    await watch.close()
    await desk.close()
    expect(seen.ok).toBeGreaterThan(seen.run / 100)
  })
})
