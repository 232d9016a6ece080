import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Person } from '../../../core/identity.ts'
import { noPostgres, startPostgres } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import { bind, execute, frame, parse, query, startWire, sync } from '../../../../test/support/postgres-wire.ts'
import type { Wire } from '../../../../test/support/postgres-wire.ts'

const anna: Person = { kind: 'person', name: 'anna', roles: ['approver'], teams: [] }

describe.skipIf(await noPostgres(18))('people are asked', () => {
  let server: PostgresServer
  let wire: Wire
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    wire = await startWire(server, {
      change: (database) => {
        const tickets = database.tables.get('tickets')
        if (tickets === undefined) throw new Error('the desk has tickets')
        const tables = new Map(database.tables)
        tables.set('tickets', { ...tickets, ask: { insert: 1 } })
        return { ...database, tables }
      },
    })
  }, 120_000)
  afterEach(async () => {
    await wire.letGo()
    if (wire.reported.length > 0) throw new Error('something went wrong inside', { cause: wire.reported.splice(0) })
    await wire.desk.admin.query("delete from tickets where id > 4; update tickets set status = 'open'")
  })
  afterAll(async () => {
    await wire?.close()
    await server?.close()
  })

  const pending = async (count = 1) => {
    let found: readonly { readonly id: string; readonly evidence?: unknown; readonly because: string }[] = []
    await expect.poll(async () => (found = await wire.world.approvals.list({ states: ['pending'] })).length).toBe(count)
    return found.at(-1) as (typeof found)[number]
  }
  const statuses = async () =>
    (await wire.desk.admin.query('select id, status from tickets order by id')).rows.map(
      ({ id, status }) => `${id} ${status}`,
    )
  const count = async (): Promise<number> =>
    (await wire.desk.admin.query('select count(*)::int as n from tickets')).rows[0].n
  const update = "update tickets set status = 'closed' where customer_id = 7"

  test('a statement waits, and is run once it is approved; what is sent meanwhile stays in order', async () => {
    const client = await wire.rawLoggedIn()
    client.send(query(update), query('select status from tickets where id = 1'))
    await client.until('N')
    const { id, evidence } = await pending()
    expect(evidence).toMatchObject({ rows: 2 })
    expect(client.types).toBe('N')
    expect(client.frames[0]?.body.toString()).toContain(`waiting for approval ${id}`)
    await wire.world.approvals.answer(id, anna, 'approve')
    await client.until('Z', 2)
    expect(client.types).toBe('NCZTDCZ')
    expect(client.rows()).toEqual([['closed']])
    expect(await statuses()).toEqual(['1 closed', '2 closed', '3 open', '4 open'])
  })

  test('a statement of the extended protocol, with what it was bound to', async () => {
    const client = await wire.rawLoggedIn()
    client.send(
      parse('', 'update tickets set status = $1 where customer_id = 7 returning id'),
      bind('', '', 'held'),
      execute(),
      sync,
    )
    await client.until('N')
    const { id } = await pending()
    await wire.world.approvals.answer(id, anna, 'approve')
    await client.until('Z')
    expect(client.types).toBe('N12DDCZ')
    expect(await statuses()).toEqual(['1 held', '2 held', '3 open', '4 open'])
  })

  test('a denied one is an error, and nothing happens', async () => {
    const client = await wire.rawLoggedIn()
    client.send(query(update))
    const { id } = await pending()
    await wire.world.approvals.answer(id, anna, 'deny', 'not now')
    await client.until('Z')
    expect(client.errors()).toMatchObject([{ code: '42501', message: expect.stringContaining('not now') }])
    expect(client.status()).toBe('I')
    expect(await statuses()).toEqual(['1 open', '2 open', '3 open', '4 open'])
  })

  test('within a transaction nobody is asked', async () => {
    const client = await wire.rawLoggedIn()
    client.send(query('begin'), query(update))
    await client.until('Z', 2)
    expect(client.errors()).toMatchObject([{ code: '42501', hint: expect.stringContaining('autocommit') }])
    expect(client.status()).toBe('E')
    client.clear()
    client.send(query('rollback'), query(`select 1; ${update}`))
    await client.until('Z', 2)
    expect(client.errors()).toMatchObject([{ code: '42501', hint: expect.stringContaining('alone') }])
    client.clear()
    client.send(parse('', "insert into responses (ticket_id, body) values (1, 'undone')"), bind('', ''), execute())
    client.send(parse('', update), bind('', ''), execute(), sync)
    await client.until('Z')
    expect(client.errors()).toMatchObject([{ code: '42501' }])
    expect(await wire.world.approvals.list({ states: ['pending'] })).toEqual([])
    expect((await wire.desk.admin.query("select 1 from responses where body = 'undone'")).rowCount).toBe(0)
  })

  test('more rows than were approved: nothing is changed, and people are asked anew', async () => {
    for (const ask of [[query(update)], [parse('', update), bind('', ''), execute(), sync]]) {
      const client = await wire.rawLoggedIn()
      client.send(...ask)
      await client.until('N')
      const first = await pending()
      await wire.desk.admin.query("insert into tickets (customer_id, subject) values (7, 'one more')")
      await wire.world.approvals.answer(first.id, anna, 'approve')
      await client.until('N', 2)
      const second = await pending()
      expect(second.id).not.toBe(first.id)
      expect(second.because).toContain('it touches 3 rows')
      expect((await statuses()).filter((each) => each.endsWith('closed'))).toEqual([])
      await wire.world.approvals.answer(second.id, anna, 'approve')
      await client.until('Z')
      expect(client.errors()).toEqual([])
      expect((await statuses()).filter((each) => each.endsWith('closed'))).toHaveLength(3)
      await wire.desk.admin.query("delete from tickets where id > 4; update tickets set status = 'open'")
    }
  })

  test('a bound in rows: within it nobody is asked, beyond it nothing happened yet', async () => {
    const insert = (rows: number) =>
      `insert into tickets (customer_id, subject, body) values ${Array.from({ length: rows }, (_, i) => `(7, 'n${i}', 'b')`).join()}`
    const client = await wire.rawLoggedIn()
    client.send(query(insert(1)), parse('', insert(1)), bind('', ''), execute(), sync)
    await client.until('Z', 2)
    expect(client.types).toBe('CZ12CZ')
    expect(await count()).toBe(6)
    client.clear()
    client.send(query('begin'), query(insert(2)))
    await client.until('Z', 2)
    expect(client.errors()).toMatchObject([{ code: '42501' }])
    expect(client.status()).toBe('E')
    client.clear()
    client.send(query('rollback'), query(insert(2)))
    await client.until('N')
    const { id } = await pending()
    expect(await count()).toBe(6)
    await wire.world.approvals.answer(id, anna, 'approve')
    await client.until('Z', 2)
    expect(client.types).toBe('CZNCZ')
    expect(await count()).toBe(8)
  })

  test.each([
    ['a transaction', query('begin'), query('commit'), 'EZCZ'],
    ['a pipeline', parse('', 'select 1'), sync, 'EZZ'],
  ])('a bound in rows within %s: beyond it all of that has failed', async (_what, first, last, types) => {
    const insert = (rows: string) => `insert into tickets (customer_id, subject, body) values ${rows}`
    const one = (text: string) => [parse('', text), bind('', ''), execute()]
    const before = await count()
    const client = await wire.rawLoggedIn()
    client.send(first, one(insert("(7, 'a', 'b')")), one(insert("(7, 'c', 'd'), (7, 'e', 'f')")), sync, last)
    await client.until('E')
    await client.until('Z', first.equals(query('begin')) ? 3 : 2)
    expect(client.types.slice(client.types.indexOf('E'))).toBe(types)
    expect(client.errors()).toMatchObject([
      { code: '42501', message: expect.stringMatching(/touch 2 rows, and 1 are/) },
    ])
    expect(client.status()).toBe('I')
    expect(await count()).toBe(before)
  })

  test('a change may be run in parts where it returns nothing; where its result would be read in parts, it is undone', async () => {
    const insert = "insert into tickets (customer_id, subject, body) values (7, 'n', 'b')"
    const client = await wire.rawLoggedIn()
    client.send(parse('', insert), bind('', ''), execute('', 1), sync)
    await client.until('Z')
    expect(client.types).toBe('12CZ')
    expect(await count()).toBe(5)
    client.clear()
    client.send(parse('', `${insert} returning id`), bind('', ''), execute('', 1), sync)
    await client.until('Z')
    expect(client.errors()).toMatchObject([{ code: '0A000', hint: expect.stringContaining('fetch size') }])
    expect(client.types).toBe('12EZ')
    expect(client.status()).toBe('I')
    expect(await count()).toBe(5)
  })

  test('a client that cancels or leaves is not waited for', async () => {
    const client = await wire.rawLoggedIn()
    client.send(query(update))
    await client.until('N')
    client.socket.end()
    await client.closed()
    await expect.poll(() => wire.world.audit.of('sql.close').at(-1)?.['because']).toBe('the client left')
    expect(await statuses()).toEqual(['1 open', '2 open', '3 open', '4 open'])
  })

  test('what is sent meanwhile is bounded', async () => {
    const client = await wire.rawLoggedIn()
    client.send(query(update))
    await client.until('N')
    client.send(Buffer.concat(Array.from({ length: 2_000 }, () => frame('d', Buffer.alloc(1_000)))))
    await client.closed()
    await expect.poll(() => wire.world.audit.of('sql.close').at(-1)?.['because']).toContain('waits for approval')
    expect(await statuses()).toEqual(['1 open', '2 open', '3 open', '4 open'])
  })
})
