import type pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Person } from '../../../core/identity.ts'
import { verbs } from '../../../postgres/description.ts'
import type { Verb } from '../../../postgres/description.ts'
import { exactTypes } from '../../../postgres/lists.ts'
import { numberOfType, plainTypes } from '../../../postgres/parameter-types.ts'
import { deskAgents, deskTables, describeTable } from '../../../../test/support/postgres-desk.ts'
import { noPostgres, startPostgres } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import {
  bind,
  execute,
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

const anna: Person = { kind: 'person', name: 'anna', roles: ['approver'], teams: [] }

/** 2^53, and one more: no `double precision` tells them apart. */
const large = ['9007199254740992', '9007199254740993'] as const

/** Keys of every type, of which some can be taken for one another, and values that could be taken for several. */
const keys: Readonly<Record<string, readonly string[]>> = {
  bigint: large,
  'numeric(40, 20)': [...large, '0.1', '0.10000000000000000001'],
  real: ['16777216', '16777218', '0.1'],
  text: ['a', 'a ', 'A', '1', '2024-03-10'],
  'varchar(20)': ['a', 'a ', 'A', '1', '2024-03-10'],
  'char(20)': ['a', 'A', '1'],
  name: ['a', 'a ', 'A', '1'],
  bytea: ['\\x61', '\\x6100', '\\x'],
  boolean: ['true', 'false'],
  uuid: ['00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002'],
  date: ['2011-12-29', '2011-12-30', '2011-12-31', '2024-03-10'],
  timestamp: ['2011-12-29 00:00', '2011-12-30 00:00', '2011-12-31 00:00', '2024-03-10 02:30', '2024-03-10 03:30'],
  timestamptz: ['2011-12-30 10:00+00', '2011-12-29 10:00+00', '2024-03-10 07:30+00', '2024-03-10 06:30+00'],
  time: ['02:30', '03:30', '00:00'],
  timetz: ['02:30+00', '02:30+01', '00:00+00'],
  interval: ['1 day', '1 month', '00:00:01'],
}
const values = [
  ...new Set([...Object.values(keys).flat(), ' a', '9007199254740993.0', '1e0', '0', '2011-12-30 10:00:00+00']),
]

/** Runs a statement as a client of the server itself would, with these types. How many rows, or what the server says. */
const counted = (client: pg.Client, text: string, value: string, type: number): Promise<number | string> =>
  new Promise((resolve) => {
    let found: number | string = 'nothing'
    const statement = {
      submit(connection: {
        parse(message: object): void
        bind(message: object): void
        execute(message: object): void
        sync(): void
      }): null {
        connection.parse({ text, name: '', types: [type] })
        connection.bind({ values: [value] })
        connection.execute({ portal: '', rows: 0 })
        connection.sync()
        return null
      },
      handleDataRow(): void {},
      handleCommandComplete(message: { readonly text: string }): void {
        found = Number(/\d+$/.exec(message.text)?.[0])
      },
      handleError(error: Error): void {
        resolve(error.message)
      },
      handleReadyForQuery(): void {
        resolve(found)
      },
    }
    client.query(statement as unknown as pg.Submittable)
  })

describe.skipIf(await noPostgres(18))('types that a client declares for parameters', () => {
  let server: PostgresServer
  let wire: Wire
  let token: string
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    const agents = new Map(deskAgents)
    agents.set('desk-worker', new Map(['tickets', 'accounts'].map((table) => [table, new Set<Verb>(verbs)])))
    wire = await startWire(server, {
      worker: ['"%.tickets:*"', '"%.accounts:*"'],
      desk: {
        agents,
        tables: `${deskTables}
          create table accounts (id bigint primary key, note text);
          insert into accounts values (${large[0]}, ''), (${large[1]}, ''), (1, '')`,
      },
      change: (database) => ({
        ...database,
        tables: new Map([
          ...database.tables,
          describeTable('accounts', {
            select: new Map([
              ['id', 'none'],
              ['note', 'none'],
            ]),
            update: ['note'],
            key: ['id'],
          }),
        ]),
      }),
    })
    token = (await wire.session()).token
  }, 120_000)
  afterEach(async () => {
    await wire.letGo()
    for (const { id } of await wire.world.approvals.list({ states: ['pending'] }))
      await wire.world.approvals.answer(id, anna, 'deny')
    if (wire.reported.length > 0) throw new Error('something went wrong inside', { cause: wire.reported.splice(0) })
    await wire.desk.admin.query("update accounts set note = ''")
  })
  afterAll(async () => {
    await wire?.close()
    await server?.close()
  })

  /** Always as the same session. */
  const login = async () => {
    const client = await wire.raw()
    client.send(startup({ user: 'desk-worker', database: wire.alias }))
    await client.until('R')
    client.send(frame('p', `${token}\0`))
    await client.until('Z')
    client.clear()
    return client
  }
  const declaring = (name: string, text: string, ...types: readonly number[]): Buffer =>
    frame('P', `${name}\0${text}\0`, int16(types.length), ...types.map(int32))
  const pending = async () => {
    await expect.poll(async () => (await wire.world.approvals.list({ states: ['pending'] })).length).toBe(1)
    const [approval] = await wire.world.approvals.list({ states: ['pending'] })
    if (approval === undefined) throw new Error('nobody is asked')
    return approval
  }
  const none = async () => expect(await wire.world.approvals.list({ states: ['pending'] })).toEqual([])
  const notes = async (): Promise<string[]> =>
    (await wire.desk.admin.query('select note from accounts order by id')).rows.map(({ note }) => note)
  const update = "update accounts set note = note || 'x' where id = $1"
  const [float8, float4, int8, unknown] = ['float8', 'float4', 'int8', 'unknown'].map(numberOfType) as [
    number,
    number,
    number,
    number,
  ]

  test('the premise: the server changes two rows by one key', async () => {
    const { admin } = wire.desk
    expect(await counted(admin, update, large[1], 0)).toBe(1)
    expect(await counted(admin, update, large[1], int8)).toBe(1)
    expect(await counted(admin, update, large[1], unknown)).toBe(1)
    expect(await counted(admin, update, large[1], float8)).toBe(2)
    expect(await counted(admin, update, large[1], float4)).toBe(2)
    const cast = "with x as (select $1::float8) update accounts set note = 'x' where id = $1"
    expect(await counted(admin, cast, large[1], 0)).toBe(2)
  })

  test.each(['float8', 'float4', 'bpchar', 'name', 'timestamptz', 'float8[]'])(
    'a key that is declared as %s is not held to: people are asked about it',
    async (type) => {
      const client = await login()
      client.send(declaring('', update, numberOfType(type)), bind('', '', large[1]), execute(), sync)
      await client.until('N')
      const { id, effect, args } = await pending()
      expect({ effect, args }).toEqual({
        effect: 'destroy',
        args: { statement: update, parameters: [large[1]], types: [type] },
      })
      await wire.world.approvals.answer(id, anna, 'deny')
      await client.until('Z')
      expect(client.errors()).toHaveLength(1)
      expect(await notes()).toEqual(['', '', ''])
    },
  )

  test('they see how many rows it is with that type, and it changes these once they approve', async () => {
    const client = await login()
    client.send(declaring('', update, float8), bind('', '', large[1]), execute(), sync)
    await client.until('N')
    const { id, evidence } = await pending()
    expect(evidence).toMatchObject({ rows: 2, sample: { rows: large.map((id) => [id, '']) } })
    await wire.world.approvals.answer(id, anna, 'approve')
    await client.until('Z')
    expect(client.types).toBe('N12CZ')
    expect(await notes()).toEqual(['', 'x', 'x'])
  })

  test('also where it is run by its name, in any way', async () => {
    const client = await login()
    client.send(declaring('floating', update, float8), sync)
    await client.until('Z')
    for (const run of [[bind('', 'floating', large[1]), execute(), sync], [query(`execute floating(${large[1]})`)]]) {
      client.clear()
      client.send(...run)
      await client.until('N')
      const { id, effect, args } = await pending()
      expect({ effect, types: args['types'] }).toEqual({ effect: 'destroy', types: ['float8'] })
      await wire.world.approvals.answer(id, anna, 'deny')
      await client.until('Z')
    }
    expect(await notes()).toEqual(['', '', ''])
  })

  test.each([0, unknown, int8, numberOfType('int4'), numberOfType('numeric')])(
    'a key of a type in which no two are the same (%i) is held to, and nobody is asked',
    async (type) => {
      const client = await login()
      client.send(declaring('', update, type), bind('', '', '1'), execute(), sync)
      await client.until('Z')
      expect(client.types).toBe('12CZ')
      expect(await notes()).toEqual(['x', '', ''])
    },
  )

  test('other parameters may be declared as anything', async () => {
    const client = await login()
    client.send(
      declaring('', 'update accounts set note = $1 where id = $2 and $3 > 0.5', numberOfType('text'), 0, float8),
      bind('', '', 'y', '1', '1.5'),
      execute(),
      sync,
    )
    await client.until('Z')
    expect(client.types).toBe('12CZ')
    expect(await notes()).toEqual(['y', '', ''])
    await none()
  })

  test('a parameter that takes another type somewhere else holds nothing, whoever declares nothing', async () => {
    const cast = "with x as (select $1::float8) update accounts set note = 'x' where id = $1"
    for (const run of [
      [parse('', cast), bind('', '', large[1]), execute(), sync],
      [query(`prepare p as ${cast}`), query(`execute p(${large[1]})`)],
    ]) {
      const client = await login()
      client.send(...run)
      await client.until('N')
      const { id, effect } = await pending()
      expect(effect).toBe('destroy')
      await wire.world.approvals.answer(id, anna, 'deny')
      await client.until('E')
    }
    expect(await notes()).toEqual(['', '', ''])
  })

  test('what was approved with one type is not approved with another, nor with none', async () => {
    const remove = "update accounts set note = 'x' where note = $1"
    const asked: string[] = []
    for (const types of [[], [unknown], [numberOfType('text')], [numberOfType('bpchar')], [numberOfType('text')]]) {
      const client = await login()
      client.send(declaring('', remove, ...types), bind('', '', 'a'), execute(), sync)
      await client.until('N')
      asked.push(/waiting for approval (\S+):/.exec(client.frames[0]?.body.toString() ?? '')?.[1] ?? '')
      client.socket.end()
    }
    const [bare, same, text, blank, again] = asked
    expect(new Set(asked).size).toBe(3)
    expect(same).toBe(bare)
    expect(again).toBe(text)
    const actions = await Promise.all([bare, text, blank].map((id) => wire.world.approvals.get(id ?? '')))
    expect(actions.map((each) => each?.args['types'])).toEqual([undefined, ['text'], ['bpchar']])
    expect(actions[0]?.args).toEqual({ statement: remove, parameters: ['a'] })
    for (const id of new Set(asked)) await wire.world.approvals.answer(id, anna, 'deny')
  })

  test('no more types are taken than there can be parameters', async () => {
    const client = await login()
    client.send(declaring('', update, ...Array.from({ length: 60 }, () => int8)), sync)
    await client.until('Z')
    expect(client.errors()).toMatchObject([{ code: '54000' }])
  })

  test('a type that does not go on to the server is none', async () => {
    const client = await login()
    client.send(declaring('', update, 2205), bind('', '', '1'), execute(), sync)
    await client.until('Z')
    expect(client.types).toBe('12CZ')
    expect(await notes()).toEqual(['x', '', ''])
  })

  // Every type of the list against keys of every type, as the server compares them.
  test('with a type that is called exact, no value is equal to two keys, wherever the client is', async () => {
    const { admin } = wire.desk
    for (const [at, [type, all]] of Object.entries(keys).entries())
      await admin.query(
        `create temp table keyed${at} (id ${type} primary key); insert into keyed${at} values ${all.map((key) => `('${key}')`).join()}`,
      )
    const several = new Set<string>()
    for (const zone of ['UTC', 'America/New_York', 'Pacific/Apia']) {
      await admin.query(`set timezone = '${zone}'`)
      for (const [number, name] of plainTypes) {
        if (zone !== 'UTC' && !/^(date|time)/.test(name)) continue
        for (const at of Object.keys(keys).keys())
          for (const value of values) {
            const count = await counted(admin, `select from keyed${at} where id = $1`, value, number)
            if (typeof count === 'number' && count > 1) several.add(name)
            // Types that can't be compared can't be with any value.
            if (typeof count === 'string' && count.includes('operator does not exist')) break
          }
      }
    }
    await admin.query('reset timezone')
    expect([...several].sort()).toEqual(['bpchar', 'float4', 'float8', 'timestamptz'])
    for (const name of several) expect(exactTypes).not.toContain(name)
  }, 60_000)
})
