import { once } from 'node:events'
import net from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import fc from 'fast-check'
import { noPostgres, startPostgres } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import {
  bind,
  closeOf,
  describeOf,
  execute,
  flush,
  frame,
  int16,
  int32,
  parse,
  query,
  startup,
  startWire,
  sync,
} from '../../../../test/support/postgres-wire.ts'
import type { Wire } from '../../../../test/support/postgres-wire.ts'

describe.skipIf(await noPostgres(18))('the protocol, byte by byte', () => {
  let server: PostgresServer
  let wire: Wire
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    wire = await startWire(server, {
      listener: { connections: { all: 300, session: 4, unknown: 20 }, limits: { patience: 1_500 } },
      change: (database) => ({ ...database, most: { ...database.most, time: 2_000 } }),
    })
  }, 120_000)
  afterEach(async () => {
    await wire.letGo()
    noneReported()
  })
  afterAll(async () => {
    await wire?.close()
    await server?.close()
  })
  const noneReported = (): void => {
    if (wire.reported.length > 0) throw new Error('something went wrong inside', { cause: wire.reported.splice(0) })
  }
  const tickets = async (): Promise<number> =>
    (await wire.desk.admin.query('select count(*)::int as n from tickets')).rows[0].n
  const insert = (subject: string): string =>
    `insert into tickets (customer_id, subject, body) values (7, '${subject}', 'b')`
  const there = async (subject: string): Promise<boolean> =>
    (await wire.desk.admin.query('select 1 from tickets where subject = $1', [subject])).rowCount === 1

  describe('at the beginning', () => {
    const encrypt = Buffer.concat([int32(8), int32(80_877_103)])
    const gss = Buffer.concat([int32(8), int32(80_877_104)])

    test('encryption that is not there is answered with N, and then it goes on in clear', async () => {
      const { token } = await wire.session()
      const client = await wire.raw()
      const answers: Buffer[] = []
      client.socket.on('data', (chunk: Buffer) => answers.push(chunk))
      client.socket.write(gss)
      await expect.poll(() => Buffer.concat(answers).toString()).toBe('N')
      client.socket.write(encrypt)
      await expect.poll(() => Buffer.concat(answers).toString()).toBe('NN')
      client.bytes = Buffer.alloc(0)
      client.send(startup({ user: 'desk-worker', database: wire.alias }))
      await client.until('R')
      client.send(frame('p', `${token}\0`))
      await client.until('Z')
    })

    test.each([
      ['bytes behind SSLRequest', [encrypt, startup({ user: 'desk-worker' })]],
      ['bytes behind GSSENCRequest', [gss, startup({ user: 'desk-worker' })]],
      ['a TLS handshake where there is none', [Buffer.from([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0])]],
      ['a packet of 4 bytes', [int32(4)]],
      ['a packet without an end', [int32(2 ** 31 - 1)]],
      ['a packet of more than 10,000 bytes', [int32(10_001), Buffer.alloc(20)]],
      ['a packet that is not sent to its end', [int32(100), int32(196_608), Buffer.from('user')]],
      ['a query before anything else', [query('select 1')]],
      ['a cancel request that is too long', [int32(20), int32(80_877_102), Buffer.alloc(12)]],
    ])('%s ends it without a word', async (_, bytes) => {
      const client = await wire.raw()
      client.send(bytes)
      await client.closed()
      expect(client.types).toBe('')
    })

    test.each([
      ['another protocol', startup({ user: 'x' }, 131_072), '0A000'],
      ['no user', startup({ database: 'x' }), '28000'],
      ['a parameter twice', Buffer.concat([int32(23), int32(196_608), Buffer.from('user\0a\0user\0b\0\0')]), '08P01'],
      ['no last NUL', Buffer.concat([int32(14), int32(196_608), Buffer.from('user\0a')]), '08P01'],
      [
        'what is no UTF-8',
        Buffer.concat([int32(16), int32(196_608), Buffer.from('user\0\xff\0\0', 'latin1')]),
        '08P01',
      ],
    ])('%s is refused in words', async (_, bytes, code) => {
      const client = await wire.raw()
      client.send(bytes)
      await client.closed()
      expect(client.errors()).toMatchObject([{ code }])
    })

    test.each([
      ['client_encoding', 'LATIN1', '22023'],
      ['client_encoding', 'SQL_ASCII', '22023'],
      ['standard_conforming_strings', 'off', '22023'],
      ['statement_timeout', '0', '22023'],
      ['search_path', 'public', '42501'],
      ['role', 'postgres', '42501'],
      ['session_authorization', 'postgres', '42501'],
      ['options', '-c log_statement=none', '42501'],
      ['replication', 'database', '0A000'],
      ['DateStyle', "iso'; drop table x; --", '22023'],
    ])('%s=%s is not taken', async (name, value, code) => {
      const { token } = await wire.session()
      const client = await wire.raw()
      client.send(startup({ user: 'desk-worker', database: wire.alias, [name]: value }))
      await client.until('R')
      client.send(frame('p', `${token}\0`))
      await client.closed()
      expect(client.errors()).toMatchObject([{ code }])
    })

    test('a newer protocol and its options are negotiated down', async () => {
      const { token } = await wire.session()
      const client = await wire.raw()
      client.send(startup({ user: 'desk-worker', database: wire.alias, '_pq_.compression': 'zstd' }, 196_610))
      await client.until('R')
      expect(client.frames[0]).toMatchObject({ type: 'v' })
      expect(client.frames[0]?.body.readInt32BE(0)).toBe(196_608)
      expect(client.frames[0]?.body.toString('latin1', 8)).toBe('_pq_.compression\0')
      client.send(frame('p', `${token}\0`))
      await client.until('Z')
    })

    test.each([
      ['no password', frame('Q', 'select 1\0')],
      ['a huge password', Buffer.concat([Buffer.from('p'), int32(1_000_000)])],
    ])('%s ends it', async (_, bytes) => {
      const client = await wire.raw()
      client.send(startup({ user: 'desk-worker', database: wire.alias }))
      await client.until('R')
      client.send(bytes)
      await client.closed()
      expect(client.types).toBe('R')
    })

    test('who says nothing is let go, and keeps nobody out meanwhile', async () => {
      const silent = await Promise.all(Array.from({ length: 40 }, () => wire.raw()))
      const client = await wire.rawLoggedIn()
      client.send(query('select 1'))
      await client.until('Z')
      expect(client.rows()).toEqual([['1']])
      await Promise.all(silent.map((each) => each.closed()))
    })

    test('a session has so many connections', async () => {
      const { token } = await wire.session()
      const clients = await Promise.all([1, 2, 3, 4].map(() => wire.connectAs('desk-worker', token)))
      await expect(wire.connectAs('desk-worker', token)).rejects.toMatchObject({ code: '53300' })
      await clients[0]?.end()
      await expect
        .poll(() =>
          wire.connectAs('desk-worker', token).then(
            () => 'in',
            (error: unknown) => (error as { code: string }).code,
          ),
        )
        .toBe('in')
    })
  })

  describe('once it is open', () => {
    test('pipelined statements are answered in order, and those behind an error are skipped', async () => {
      const client = await wire.rawLoggedIn()
      client.send(
        [parse('', 'select subject from tickets where id = $1'), bind('', '', '1'), execute(), sync],
        [bind('', '', '2'), execute(), sync],
        [parse('', 'select * from salaries'), bind('', ''), execute()],
        [parse('', insert('skipped')), bind('', ''), execute(), sync],
        [parse('', 'select 3'), bind('', ''), execute(), sync],
      )
      await client.until('Z', 4)
      expect(client.types).toBe('12DCZ2DCZEZ12DCZ')
      expect(client.rows()).toEqual([['ada one'], ['ada two'], ['3']])
      expect(client.errors()).toMatchObject([{ code: '42P01' }])
      expect(await there('skipped')).toBe(false)
    })

    test('an error of the server within a pipeline leaves what is behind undone, and undecided where it was not sent', async () => {
      const client = await wire.rawLoggedIn()
      client.send(
        [parse('', 'select 1 / (id - id) from tickets'), bind('', ''), execute()],
        [parse('', insert('behind')), bind('', ''), execute(), sync],
        query('select 1'),
      )
      await client.until('Z', 2)
      expect(client.types).toMatch(/^12EZTDCZ$/)
      expect(await there('behind')).toBe(false)
    })

    test('fastpath calls are refused, and the connection goes on', async () => {
      const client = await wire.rawLoggedIn()
      client.send(frame('F', int32(2_932), int16(0), int16(0), int16(0)), query('select 1'))
      await client.until('Z', 2)
      expect(client.errors()).toMatchObject([{ code: '0A000' }])
      expect(client.types).toBe('EZTDCZ')
    })

    test.each([
      ['NUL in a query', frame('Q', 'select 1\0; drop table tickets\0'), '22021'],
      ['no NUL behind it', frame('Q', 'select 1'), '08P01'],
      ['what is no UTF-8', frame('Q', Buffer.from("select '\xff'\0", 'latin1')), '22021'],
      ['an overlong NUL', frame('Q', Buffer.from("select '\xc0\x80'\0", 'latin1')), '22021'],
    ])('%s is an error', async (_, bytes, code) => {
      const client = await wire.rawLoggedIn()
      client.send(bytes, query('select 1'))
      await client.until('Z', 2)
      expect(client.errors()).toMatchObject([{ code }])
      expect(client.types).toBe('EZTDCZ')
    })

    test.each([
      [
        'a Bind of a wrong count',
        frame('B', '\0\0', int16(2), int16(0), int16(0), int16(1), int32(1), 'x', int16(0)),
        '08P01',
      ],
      ['a Bind that ends early', frame('B', '\0\0', int16(0), int16(1), int32(100), 'x'), '08P01'],
      ['a Bind with more behind it', frame('B', '\0\0', int16(0), int16(0), int16(0), 'x'), '08P01'],
      ['a Bind of a statement that is not there', bind('', 'none'), '26000'],
      ['an Execute of a portal that is not there', execute('none'), '34000'],
      ['a Describe of neither', frame('D', 'X\0'), '08P01'],
      ['a Bind with too few parameters', Buffer.concat([parse('', 'select $1::int'), bind('', '')]), '08P01'],
    ])('%s is an error until Sync', async (_, bytes, code) => {
      const client = await wire.rawLoggedIn()
      client.send(bytes, execute(), sync, query('select 1'))
      await client.until('Z', 2)
      expect(client.errors()).toMatchObject([{ code }])
      expect(client.types.replace(/^1/, '')).toBe('EZTDCZ')
    })

    test.each([
      ['a type that is none', frame('!', 'x')],
      ['a second password', frame('p', 'x\0')],
      ['a length below 4', Buffer.concat([Buffer.from('Q'), int32(3), Buffer.alloc(8)])],
      ['a message without an end', Buffer.concat([Buffer.from('Q'), int32(2 ** 31 - 1)])],
      ['a statement beyond all bounds', Buffer.concat([Buffer.from('Q'), int32(1_000_000)])],
      ['a negative length', Buffer.concat([Buffer.from('B'), int32(-1)])],
    ])('%s ends the connection', async (_, bytes) => {
      const client = await wire.rawLoggedIn()
      client.send(bytes)
      await client.closed()
      expect(client.errors()).toHaveLength(1)
      expect(client.errors()[0]?.code).toMatch(/08P01|54000/)
    })

    test('whoever still sends is told why it is over', async () => {
      for (let round = 0; round < 20; round++) {
        const client = await wire.rawLoggedIn()
        client.send(frame('!'))
        for (let sent = 0; sent < 100; sent++) {
          client.send(Buffer.alloc(4_000))
          await new Promise(setImmediate)
        }
        await client.closed()
        expect(client.errors()).toMatchObject([{ code: '08P01' }])
      }
    })

    test('messages of COPY out of place are passed over', async () => {
      const client = await wire.rawLoggedIn()
      client.send(frame('d', 'x'), frame('c'), frame('f', 'x\0'), query('select 1'))
      await client.until('Z')
      expect(client.types).toBe('TDCZ')
    })

    test('a statement that may not run can be described', async () => {
      const client = await wire.rawLoggedIn('reader')
      client.send(parse('s', 'select id from tickets'), describeOf('S', 's'), flush)
      await client.until('T')
      expect(client.types).toBe('1tT')
    })

    test('ten thousand statements are not kept', async () => {
      const client = await wire.rawLoggedIn()
      for (let i = 0; i < 10_000; i += 500)
        client.send(...Array.from({ length: 500 }, (_, at) => Buffer.concat([parse(`s${i + at}`, 'select 1'), sync])))
      await client.until('Z', 10_000)
      const made = client.frames.filter(({ type }) => type === '1').length
      expect(made).toBe(2_000)
      expect(new Set(client.errors().map(({ code }) => code))).toEqual(new Set(['53400']))
      client.clear()
      client.send(closeOf('S', 's1'), sync)
      await client.until('Z')
      client.send(parse('again', 'select 1'), sync)
      await client.until('Z', 2)
      expect(client.types).toBe('3Z1Z')
    })

    test('a storm of Flush and Sync is answered once for each Sync', async () => {
      const client = await wire.rawLoggedIn()
      client.send(
        Buffer.concat(Array.from({ length: 50_000 }, () => flush)),
        Buffer.concat(Array.from({ length: 5_000 }, () => sync)),
      )
      await client.until('Z', 5_000)
      client.clear()
      client.send(query('select 1'))
      await client.until('Z')
      expect(client.types).toBe('TDCZ')
    })

    test('a client that reads nothing holds no more than its share', async () => {
      const { token } = await wire.session()
      const client = await wire.raw()
      client.send(startup({ user: 'desk-worker', database: wire.alias }))
      await client.until('R')
      client.send(frame('p', `${token}\0`))
      await client.until('Z')
      client.socket.pause()
      const before = process.memoryUsage().rss
      const one = query(`select repeat('x', 9999), generate_series(1, 90)`)
      for (let i = 0; i < 200 && client.socket.write(one); i++);
      await pause(500)
      expect(process.memoryUsage().rss - before).toBeLessThan(100_000_000)
      const other = await wire.rawLoggedIn()
      other.send(query('select 1'))
      await other.until('Z')
      client.socket.destroy()
    })

    test('statements that come in pieces of one byte', async () => {
      const client = await wire.rawLoggedIn()
      client.socket.setNoDelay(true)
      for (const byte of query('select subject from tickets where id = 1')) {
        client.socket.write(Buffer.from([byte]))
        await new Promise(setImmediate)
      }
      await client.until('Z')
      expect(client.rows()).toEqual([['ada one']])
    })

    test('what is sent before Terminate still happens', async () => {
      const client = await wire.rawLoggedIn()
      client.send(query(insert('last words')), frame('X'))
      await client.closed()
      expect(await there('last words')).toBe(true)
    })
  })

  describe('what a name stands for', () => {
    const bad = 'delete from tickets where id = 999 returning id'

    test('a name that is taken is refused, and means what it meant', async () => {
      const client = await wire.rawLoggedIn()
      client.send(parse('s', 'select 1'), sync, parse('s', 'select id from tickets where id = 1'), sync)
      client.send(bind('', 's'), execute(), sync)
      await client.until('Z', 3)
      expect(client.types).toBe('1ZEZ2DCZ')
      expect(client.rows()).toEqual([['1']])
      expect(client.errors()).toMatchObject([{ code: '42P05' }])
    })

    test('an unnamed statement whose replacement was skipped is never run under the other’s decision', async () => {
      const client = await wire.rawLoggedIn()
      const before = wire.world.audit.events.length
      client.send(parse('', bad), sync)
      await client.until('Z')
      client.send(
        [bind('none', 'none'), parse('', 'select id from tickets where id = 1'), sync],
        [bind('', ''), execute(), sync],
      )
      await client.until('Z', 3)
      expect(client.types).toBe('1ZEZEZ')
      expect(wire.world.audit.events.slice(before).filter(({ type }) => type === 'action.done')).toEqual([])
    })

    test('a portal that was bound before is not run under a later decision', async () => {
      const client = await wire.rawLoggedIn()
      client.send(query('begin'), parse('bad', bad), parse('good', 'select 1'), bind('p', 'bad'), sync)
      client.send(query('savepoint a'), bind('p', 'good'), sync, query('rollback to a'), execute('p'), sync)
      await client.until('Z', 6)
      expect(client.errors().map(({ code }) => code)).toEqual(['42P03', '42501'])
      expect(client.types.endsWith('CZEZ')).toBe(true)
    })

    test('FETCH does not run what was bound and never decided', async () => {
      const client = await wire.rawLoggedIn()
      client.send(query('begin'), parse('bad', bad), bind('p', 'bad'), sync, query('fetch all from p'))
      await client.until('Z', 3)
      expect(client.errors()).toMatchObject([{ code: '34000' }])
    })

    test('a cursor that is gone does not lend its decision to a portal of its name', async () => {
      const client = await wire.rawLoggedIn()
      client.send(
        query('begin'),
        query('declare c cursor for select id from tickets'),
        query('rollback'),
        query('begin'),
      )
      client.send(parse('bad', bad), bind('c', 'bad'), sync, query('fetch all from c'))
      await client.until('Z', 6)
      expect(client.errors()).toMatchObject([{ code: '34000' }])
    })

    test('EXECUTE and DEALLOCATE in the same text mean what is there by then', async () => {
      const client = await wire.rawLoggedIn()
      client.send(query('prepare p as select id from tickets where id = 1; execute p; deallocate p'))
      await client.until('Z')
      expect(client.types).toBe('CTDCCZ')
      client.send(query('prepare p as select 1; deallocate p; execute p'))
      await client.until('Z', 2)
      expect(client.errors()).toMatchObject([{ code: '26000' }])
      client.clear()
      client.send(query(`prepare p as ${bad}; execute p`))
      await client.until('Z')
      expect(client.errors()).toMatchObject([{ code: '42501' }])
    })

    test('statements of SQL and of the protocol share their names', async () => {
      const client = await wire.rawLoggedIn()
      client.send(
        parse('s', 'select subject from tickets where id = 1'),
        sync,
        query('execute s'),
        query('deallocate s'),
      )
      client.send(bind('', 's'), sync)
      await client.until('Z', 4)
      expect(client.types).toBe('1ZTDCZCZEZ')
      client.clear()
      client.send(query('prepare s as select subject from tickets where id = 2'), bind('', 's'), execute(), sync)
      await client.until('Z', 2)
      expect(client.types).toBe('CZ2DCZ')
      expect(client.rows()).toEqual([['ada two']])
    })

    test('a portal is read in parts under one decision', async () => {
      const client = await wire.rawLoggedIn()
      const decisions = () => wire.world.audit.of('decision').length
      const before = decisions()
      client.send(
        query('begin'),
        parse('', 'select id from tickets where id < 3 order by id'),
        bind('p', ''),
        execute('p', 1),
        flush,
      )
      await client.until('s')
      client.send(execute('p', 1), execute('p', 1), sync)
      await client.until('Z', 2)
      expect(client.rows()).toEqual([['1'], ['2']])
      expect(decisions()).toBe(before + 1)
      client.send(query('rollback'))
      await client.until('Z', 3)
      await expect.poll(() => wire.world.audit.of('action.done').at(-1)?.['result']).toMatchObject({ rows: 2 })
    })
  })

  describe('limits', () => {
    test('more rows than a statement may return end in an error, in every state', async () => {
      const client = await wire.rawLoggedIn()
      const many =
        'select a.id from tickets a, tickets b, tickets c, tickets d, tickets e, tickets f, tickets g, tickets h'
      client.send(query(many), query('select 1'))
      await client.until('Z', 2)
      expect(client.types.replace(/D+/g, 'D')).toBe('TDEZTDCZ')
      expect(client.rows()).toHaveLength(101)
      expect(client.errors()).toMatchObject([{ code: '54000' }])
      client.clear()
      client.send(query('begin'), parse('', many), bind('', ''), execute(), sync)
      await client.until('Z', 2)
      expect(client.errors()).toMatchObject([{ code: '54000' }])
      client.send(query('select 1'))
      await client.until('Z', 3)
      expect(client.status()).toBe('E')
      client.clear()
      client.send(query('rollback'), query('begin'), query(many))
      await client.until('Z', 3)
      expect(client.status()).toBe('E')
    })

    test.each([
      ['that the server was stopped at', 'select a + b from generate_series(1, 10000) a, generate_series(1, 1000) b'],
      ['that the server was through with', 'select n from generate_series(1, 150) n'],
    ])('behind a result that was cut nothing comes: one %s', async (_which, many) => {
      const client = await wire.rawLoggedIn()
      const one = (text: string) => [parse('', text), bind('', ''), describeOf('P'), execute()]
      const some = 'select n from generate_series(1, 3) n'
      // None of these needs a permission: the server has all of them before the first row comes.
      client.send(one(many), one(some), one('select 7'), closeOf('P'), sync, query('select 8'))
      await client.until('Z', 2)
      expect(client.types).toBe(`12T${'D'.repeat(100)}EZTDCZ`)
      expect(client.rows().at(-1)).toEqual(['8'])
      // Nor what stands behind it in the same text.
      client.clear()
      client.send(query(`${many}; ${some}`), query('select 8'))
      await client.until('Z', 2)
      expect(client.types).toBe(`T${'D'.repeat(100)}EZTDCZ`)
    })

    test('what was done before a result that was cut is undone with it, where no Sync had come', async () => {
      const client = await wire.rawLoggedIn()
      client.send(parse('', insert('before a cut')), bind('', ''), execute())
      client.send(parse('', 'select n from generate_series(1, 150) n'), bind('', ''), execute(), flush)
      await client.until('E')
      client.send(parse('', insert('behind a cut')), bind('', ''), execute(), sync)
      await client.until('Z')
      expect(client.types).toBe(`12C12${'D'.repeat(100)}EZ`)
      expect(client.status()).toBe('I')
      expect([await there('before a cut'), await there('behind a cut')]).toEqual([false, false])
    })

    test('more bytes than a statement may return, and rows that are larger', async () => {
      const client = await wire.rawLoggedIn()
      client.send(query("select repeat('x', 10000) from generate_series(1, 101)"))
      await client.until('Z')
      expect(client.errors()).toMatchObject([{ code: '54000' }])
      client.clear()
      client.send(query(`select ${Array.from({ length: 101 }, () => "repeat('x', 10000)").join(', ')}`))
      await client.closed()
      expect(client.errors()).toMatchObject([{ code: '54000' }])
    })

    test('a statement that takes too long is stopped', async () => {
      const client = await wire.rawLoggedIn()
      const slow = `select count(*) from ${Array.from({ length: 5 }, (_, i) => `generate_series(1, 10000) a${i}`).join(', ')}`
      client.send(query(slow), query('select 1'))
      await client.until('Z', 2)
      expect(client.errors()).toMatchObject([{ code: '57014' }])
      expect(client.types.endsWith('EZTDCZ')).toBe(true)
    })
  })

  describe('cancelling', () => {
    const slow = `select count(*) from ${Array.from({ length: 5 }, (_, i) => `generate_series(1, 10000) a${i}`).join(', ')}`
    const request = (pid: number, key: number) => Buffer.concat([int32(16), int32(80_877_102), int32(pid), int32(key)])

    async function open() {
      const { token } = await wire.session()
      const client = await wire.raw()
      client.send(startup({ user: 'desk-worker', database: wire.alias }))
      await client.until('R')
      client.send(frame('p', `${token}\0`))
      await client.until('Z')
      const body = client.frames.find(({ type }) => type === 'K')?.body ?? Buffer.alloc(8)
      client.clear()
      return { client, pid: body.readInt32BE(0), key: body.readInt32BE(4) }
    }
    async function cancel(pid: number, key: number) {
      const socket = net.connect(wire.listener.port, '127.0.0.1')
      socket.on('error', () => {})
      socket.write(request(pid, key))
      socket.resume()
      await once(socket, 'close')
    }

    test('with the keys that were given, and for that connection alone', async () => {
      const { client, pid, key } = await open()
      const other = await open()
      client.send(query(slow))
      other.client.send(query(slow))
      await pause(100)
      await cancel(pid, key + 1)
      await cancel(pid + 1, key)
      await Promise.all(Array.from({ length: 100 }, (_, i) => cancel(pid, key ^ (i + 1))))
      expect(client.types).toBe('')
      const at = performance.now()
      await cancel(pid, key)
      await client.until('Z')
      expect(performance.now() - at).toBeLessThan(1_500)
      expect(client.errors()).toMatchObject([{ code: '57014' }])
      expect(other.client.types).toBe('')
      await other.client.until('Z')
    })

    test('many of them leave the next statement alone', async () => {
      const { client, pid, key } = await open()
      for (let i = 0; i < 10; i++) await cancel(pid, key)
      client.send(query('select subject from tickets where id = 1'))
      await client.until('Z')
      expect(client.rows()).toEqual([['ada one']])
    })
  })

  test('the end of a session ends its connections at once, and what they do', async () => {
    const client = await wire.rawLoggedIn()
    client.send(query(`begin; ${insert('cut off')}`))
    await client.until('Z')
    client.clear()
    client.send(
      query(
        `select count(*) from ${Array.from({ length: 5 }, (_, i) => `generate_series(1, 10000) a${i}`).join(', ')}`,
      ),
    )
    await pause(50)
    await wire.world.sessions.end([client.session], 'enough', 'person:ada')
    await client.closed()
    expect(client.errors()).toMatchObject([{ code: '57P01' }])
    await expect.poll(() => there('cut off')).toBe(false)
    await expect
      .poll(
        async () =>
          (
            await wire.desk.admin.query(
              `select count(*)::int as n from pg_stat_activity where query like '%generate_series%' and state = 'active' and pid <> pg_backend_pid()`,
            )
          ).rows[0].n,
      )
      .toBe(0)
  })

  test('whatever is sent, the gateway goes on, and others are served', async () => {
    const bystander = await wire.rawLoggedIn()
    const before = await tickets()
    const text = fc.constantFrom(
      'select 1',
      'select id from tickets',
      'begin',
      'rollback',
      'select * from salaries',
      'prepare a as select 1',
      'execute a',
      'declare c cursor for select id from tickets',
      'fetch 1 from c',
      'savepoint s',
      'rollback to s',
      'select 1/0',
      '',
      'deallocate all',
      'close all',
    )
    const name = fc.constantFrom('', 'a', 'c')
    const message = fc.oneof(
      { weight: 4, arbitrary: text.map(query) },
      { weight: 4, arbitrary: fc.tuple(name, text).map(([each, sql]) => parse(each, sql)) },
      { weight: 4, arbitrary: fc.tuple(name, name).map(([portal, statement]) => bind(portal, statement)) },
      { weight: 4, arbitrary: fc.tuple(name, fc.nat(2)).map(([portal, most]) => execute(portal, most)) },
      {
        weight: 2,
        arbitrary: fc.tuple(fc.constantFrom('S', 'P'), name).map(([kind, each]) => describeOf(kind as 'S', each)),
      },
      {
        weight: 2,
        arbitrary: fc.tuple(fc.constantFrom('S', 'P'), name).map(([kind, each]) => closeOf(kind as 'S', each)),
      },
      { weight: 5, arbitrary: fc.constant(sync) },
      { weight: 2, arbitrary: fc.constant(flush) },
      {
        weight: 1,
        arbitrary: fc
          .tuple(
            fc.constantFrom('B', 'C', 'D', 'E', 'F', 'P', 'Q', 'd', 'c', 'f', 'H', 'S'),
            fc.uint8Array({ maxLength: 12 }),
          )
          .map(([type, body]) => frame(type, Buffer.from(body))),
      },
    )
    await fc.assert(
      fc.asyncProperty(fc.array(message, { maxLength: 40 }), async (messages) => {
        const client = await wire.rawLoggedIn()
        client.send(...messages, sync, query('rollback'), query('select 42'))
        // Either it is thrown out for what broke the protocol, or it is answered to the end.
        for (
          const end = performance.now() + 8_000;
          !client.isClosed && !client.rows().some(([value]) => value === '42');
        ) {
          if (performance.now() > end) throw new Error(`stuck after ${client.types}`)
          await pause(2)
        }
        client.socket.destroy()
        expect(wire.reported).toEqual([])
      }),
      { numRuns: 60, interruptAfterTimeLimit: 30_000 },
    )
    bystander.send(query('select 1'))
    await bystander.until('Z')
    expect(await tickets()).toBe(before)
  }, 60_000)
})
