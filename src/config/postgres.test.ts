import { describe, expect, test } from 'vitest'
import { loadSettings } from './load.ts'
import { databaseOf, heldOf, postgresSchemas } from './postgres.ts'

const load = (yaml: string) => loadSettings(yaml, { file: '/nowhere/sallyport.yaml' })

const desk = `
facts: { customer_id: int }
resources:
  desk:
    postgres: postgres://sallyport@db.example.com/desk
    password: \${secret:DESK}
    tables:
      tickets:
        select: [id, subject, email, customer_id]
        masks: { email: email }
        update: [subject]
        key: [id]
        where: customer_id = session.customer_id
        trust: trusted
      replies: { table: crm.ticket_replies, insert: [ticket_id, body], ask: { insert: 10 } }
    tools:
      find: { sql: "select id from tickets where subject = $1", arguments: { subject: { type: string } } }
agents:
  reader: { may: ["desk.tickets:select"], lends: { writer: ["desk.tickets:select"] } }
  writer: { may: ["desk.replies:*", "desk:find"] }
  nobody: { may: [] }
  watched: { mode: observe, may: [] }
`

const settingsOf = (yaml: string) => {
  const { settings } = load(yaml)
  const resource = settings.resources['desk']!
  if (!('postgres' in resource)) throw new TypeError('it is a database')
  return { settings, resource }
}

describe('resources of kind postgres', () => {
  test('a database as its gateway takes it', () => {
    const { settings, resource } = settingsOf(desk)
    const { tables, most, catalog } = databaseOf('desk', resource, settings.facts)
    expect(tables.get('tickets')).toMatchObject({
      base: { schema: 'public', table: 'tickets' },
      update: ['subject'],
      delete: false,
      key: ['id'],
      where: { source: 'customer_id = session.customer_id' },
      label: { trust: 'trusted', readers: 'internal' },
    })
    expect([...tables.get('tickets')!.select]).toEqual([
      ['id', 'none'],
      ['subject', 'none'],
      ['email', 'email'],
      ['customer_id', 'none'],
    ])
    expect(tables.get('replies')).toMatchObject({
      base: { schema: 'crm', table: 'ticket_replies' },
      ask: { insert: 10 },
      label: { trust: 'untrusted' },
    })
    expect(most).toEqual({ rows: 1000, bytes: 1_000_000, time: 10_000, statement: 64_000 })
    expect(catalog).toBe('names')
  })

  test('what each agent may be let near: by its own list, by what is lent to it; what is only observed, all', () => {
    const { settings, resource } = settingsOf(desk)
    const held = [...heldOf('desk', resource, settings.agents)].map(([agent, { tables, tools }]) => [
      agent,
      Object.fromEntries([...tables].map(([table, some]) => [table, [...some]])),
      [...tools],
    ])
    expect(held).toEqual([
      ['reader', { tickets: ['select'] }, []],
      ['writer', { tickets: ['select'], replies: ['insert'] }, ['find']],
      ['watched', { tickets: ['select', 'update'], replies: ['insert'] }, ['find']],
    ])
  })

  test('conditions know what a statement and a tool bring', () => {
    const { resource } = settingsOf(desk)
    expect(postgresSchemas('desk', resource).map(([permission]) => permission)).toEqual([
      'desk.tickets:select',
      'desk.tickets:update',
      'desk.replies:insert',
      'desk:find',
    ])
    const conditioned = desk.replace(
      '["desk.replies:*", "desk:find"]',
      '[{ do: "desk:find", when: "args.subject == session.customer_id" }]',
    )
    expect(() => settingsOf(conditioned)).not.toThrow()
  })

  test.each([
    [
      'a table that is not there',
      desk.replace('["desk.tickets:select"], lends', '["desk.tikets:select"], lends'),
      /has no table `tikets`.*`tickets`/,
    ],
    [
      'an operation that the table has not',
      desk.replace('["desk.tickets:select"], lends', '["desk.tickets:delete"], lends'),
      /has no `delete`; it has `select`, `update`/,
    ],
    ['a tool that is not there', desk.replace('"desk:find"]', '"desk:search"]'), /has no tool `search`/],
    [
      'a part of a part',
      desk.replace('["desk.tickets:select"], lends', '["desk.tickets.id:select"], lends'),
      /expected `resource.table:operation`/,
    ],
    [
      'a mask over what is not read',
      desk.replace('masks: { email: email }', 'masks: { phone: last4 }'),
      /`phone` is not in `select`/,
    ],
    [
      'a mask over what is written',
      desk.replace('update: [subject]', 'update: [email]'),
      /masked, so it can't be written/,
    ],
    [
      'a table of which nothing can be done',
      desk.replace('insert: [ticket_id, body], ', ''),
      /nothing can be done to it/,
    ],
    ['a key that can not be read', desk.replace('key: [id]', 'key: [number]'), /expected columns of `select`/],
    ['a column twice', desk.replace('[id, subject, email, customer_id]', '[id, id, email, customer_id]'), /twice/],
    ['a column with a quote', desk.replace('update: [subject]', 'update: ["a\\"b"]'), /expected the name of a column/],
    [
      'an address of another kind',
      desk.replace('postgres://sallyport@', 'mysql://sallyport@'),
      /expected an address such as/,
    ],
    [
      'an address without a role',
      desk.replace('postgres://sallyport@', 'postgres://'),
      /expected the role of the gateway/,
    ],
    ['an address with settings', desk.replace('com/desk', 'com/desk?options=-c'), /`tls` and `ca` are keys/],
    [
      'an optional argument that is none',
      desk.replace('find: {', 'find: { optional: [other],'),
      /`other` is not in `arguments`/,
    ],
    ['an open listener without TLS', `listen: { sql: "0.0.0.0:7432" }\n${desk}`, /tokens would go unencrypted/],
    ['a listener whose port is taken', `listen: { sql: "127.0.0.1:7400" }\n${desk}`, /this one is taken/],
  ])('promise 3: %s stops the start', (_, yaml, message) => {
    expect(() => load(yaml)).toThrow(message)
  })

  test('a password in the file is warned of, and never shown', () => {
    const { warnings } = load(desk.replace('sallyport@', 'sallyport:hunter2@'))
    expect(warnings.map(({ message }) => message).join()).toMatch(/credential stands in this file/)
    expect(JSON.stringify(warnings)).not.toContain('hunter2')
  })
})
