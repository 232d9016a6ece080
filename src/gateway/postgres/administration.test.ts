import { once } from 'node:events'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { deskDatabase } from '../../../test/support/postgres-desk.ts'
import { Failure } from '../../core/failure.ts'
import type { NewEvent } from '../../core/audit.ts'
import { namesOf } from '../../postgres/names.ts'
import { createAdministration } from './administration.ts'
import type { Address, PostgresResource } from './resource.ts'

let connections = 0
let port = 0
const server = net.createServer((socket) => {
  connections += 1
  socket.destroy()
})
beforeAll(async () => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  port = (server.address() as AddressInfo).port
})
afterAll(() => void server.close())

const resourceAt = (change: Partial<Address> = {}, fails?: Failure): PostgresResource => ({
  alias: 'desk',
  database: deskDatabase('desk'),
  names: namesOf('desk'),
  address: () => {
    if (fails !== undefined) throw fails
    return {
      host: '127.0.0.1',
      port,
      database: 'desk',
      user: 'gateway',
      password: 'own-password',
      tls: 'off',
      ...change,
    }
  },
  secrets: [],
  connections: 5,
  tools: new Map(),
  held: new Map(),
})

function administer(resource: PostgresResource, isWritable = true) {
  const events: NewEvent[] = []
  const administration = createAdministration({
    resources: () => [resource],
    clock: () => 0,
    audit: {
      append(event) {
        events.push(event)
        const refused = new Failure('unavailable', 'the audit log can’t be written')
        return { id: `evt_${events.length}`, done: isWritable ? Promise.resolve() : Promise.reject(refused) }
      },
    },
  })
  return { administration, events }
}

const admin = (): { readonly url: string } => ({ url: `postgres://root:root-password@127.0.0.1:${port}/desk` })

test('what can’t be written down is not tried', async () => {
  const { administration } = administer(resourceAt(), false)
  const before = connections
  for (const attempt of [
    () => administration.apply('desk', admin(), 'person:anna'),
    () => administration.remove('desk', admin(), 'person:anna'),
    () => administration.verify('desk', admin(), 'person:anna'),
    () => administration.plan('desk', { verifiersFor: 'person:anna' }),
  ])
    await expect(attempt()).rejects.toThrow('the audit log can’t be written')
  expect(connections).toBe(before)
})

test('a server that hangs up is a failure in our words, and an event', async () => {
  const { administration, events } = administer(resourceAt())
  await expect(administration.apply('desk', admin(), 'person:anna')).rejects.toThrow(
    `the server at 127.0.0.1:${port} can't be reached`,
  )
  expect(events.map(({ type }) => type)).toEqual(['database.apply', 'database.failed'])
  expect(JSON.stringify(events)).not.toContain('password')
})

test('where the way is to be encrypted, nothing else is sent, whatever an address says', async () => {
  const heard: Buffer[] = []
  const plain = net.createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      heard.push(data)
      socket.write('N')
    })
  })
  plain.listen(0, '127.0.0.1')
  await once(plain, 'listening')
  const at = (plain.address() as AddressInfo).port
  const { administration } = administer(resourceAt({ port: at, tls: {} }))
  const url = `postgres://root:root-password@127.0.0.1:${at}/desk?sslmode=disable`
  await expect(administration.apply('desk', { url }, 'person:anna')).rejects.toThrow('talks no TLS')
  // SSLRequest, and no word after it.
  expect(Buffer.concat(heard).toString('hex')).toBe('0000000804d2162f')
  plain.close()
})

test('a database whose address is not known now is listed with the reason', () => {
  const { administration } = administer(resourceAt({}, new Failure('unavailable', 'there is no secret `DESK`')))
  expect(administration.list()).toMatchObject([{ name: 'desk', problem: 'there is no secret `DESK`' }])
  expect(administer(resourceAt()).administration.list()).toMatchObject([
    { name: 'desk', at: { host: '127.0.0.1', database: 'desk', role: 'gateway' } },
  ])
})

test.each([
  ['postgres://root:p%40ss@127.0.0.1:1/desk', undefined],
  ['postgres://root:p@ss@127.0.0.1:1/desk', undefined],
  ['postgresql://root@127.0.0.1:1/desk?sslmode=require', undefined],
  ['http://root:secret-word@127.0.0.1:1/desk', /expected `postgres:/],
  ['postgres:///desk', /expected a host|expected `postgres:/],
  ['postgres://127.0.0.1:1/desk', /the role of an administrator/],
  ['postgres://root:secret-word@127.0.0.1:1/desk?host=evil.example', /no options/],
  ['postgres://root:secret-word@127.0.0.1:1/', /names no database/],
  ['postgres://root:secret-word@127.0.0.1:1/other', /leads to the database `other`/],
  ['postgres://root:secret-word@127.0.0.1:2/desk', /say --anyway/],
  ['postgres://root:secret-word@evil.example:1/desk', /say --anyway/],
  ['postgres://root:secret-word%zz@127.0.0.1:1/desk', /written as `%25`/],
])('%s', async (url, words) => {
  const { administration } = administer(resourceAt({ port: 1 }))
  const thrown: unknown = await administration
    .apply('desk', { url }, 'person:anna')
    .catch((failure: unknown) => failure)
  // Nobody listens at port 1: what is taken gets that far.
  expect(thrown).toMatchObject({
    message: expect.stringMatching(words ?? /can't be reached \(ECONNREFUSED\)/) as unknown,
  })
  expect(String(thrown)).not.toContain('secret-word')
  expect((thrown as Failure).cause).toBeUndefined()
})
