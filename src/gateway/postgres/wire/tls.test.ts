import net from 'node:net'
import tls from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import {
  frame,
  int32,
  query,
  RawClient,
  startup,
  startWire,
  testCertificate,
} from '../../../../test/support/postgres-wire.ts'
import type { Wire } from '../../../../test/support/postgres-wire.ts'
import { startSqlListener } from './server.ts'

describe.skipIf(await noPostgres(18))('encrypted', () => {
  let server: PostgresServer
  let wire: Wire
  let ca: string
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    const made = testCertificate()
    ca = made.ca
    wire = await startWire(server, { listener: { tls: made } })
  }, 120_000)
  afterAll(async () => {
    if (wire?.reported.length > 0) throw new Error('something went wrong inside', { cause: wire.reported })
    await wire?.close()
    await server?.close()
  })

  const asked = Buffer.concat([int32(8), int32(80_877_103)])
  const secured = (options: tls.ConnectionOptions) =>
    new Promise<tls.TLSSocket>((resolve, reject) => {
      const socket = tls.connect({ ca, servername: 'localhost', ...options }, () => resolve(socket))
      socket.on('error', reject)
      socket.on('close', () => reject(new Error('closed')))
    })

  test('with a certificate that is checked', async () => {
    const { token } = await wire.session()
    const client = await wire.connectAs('desk-worker', token, { host: 'localhost', ssl: { ca } })
    expect((await client.query('select subject from tickets where id = 1')).rows).toEqual([{ subject: 'ada one' }])
    expect(wire.world.audit.of('sql.open').at(-1)).toMatchObject({ secure: true })
    const large = await client.query("select repeat('x', 9000) as x from generate_series(1, 50)")
    expect(large.rows).toHaveLength(50)
  })

  test('directly, without asking first', async () => {
    const { token } = await wire.session()
    const socket = await secured({ port: wire.listener.port, host: '127.0.0.1', ALPNProtocols: ['postgresql'] })
    const client = new RawClient(socket)
    client.send(startup({ user: 'desk-worker', database: wire.alias }))
    await client.until('R')
    client.send(frame('p', `${token}\0`), query('select 1'))
    await client.until('Z', 2)
    expect(client.rows()).toEqual([['1']])
    socket.destroy()
  })

  test('directly, only where the protocol is named', async () => {
    const socket = await secured({ port: wire.listener.port, host: '127.0.0.1' })
    const client = new RawClient(socket)
    client.send(startup({ user: 'desk-worker', database: wire.alias }))
    await client.closed()
    expect(client.types).toBe('')
  })

  test('what was sent in clear before is never taken for what came encrypted', async () => {
    const client = await wire.raw()
    client.send(asked, startup({ user: 'desk-worker', database: wire.alias }))
    await client.closed()
    expect(client.bytes.toString()).toBe('')
  })

  test('it is asked for once', async () => {
    const plain = net.connect(wire.listener.port, '127.0.0.1')
    plain.write(asked)
    await new Promise((resolve) => plain.once('data', resolve))
    const socket = await secured({ socket: plain })
    const client = new RawClient(socket)
    client.send(asked)
    await client.closed()
    expect(client.types).toBe('')
  })

  test('a certificate that is none is said to be', async () => {
    const { gateway, world } = wire
    const starting = startSqlListener({
      ...world,
      host: '127.0.0.1',
      port: 0,
      gateway,
      hold: 0,
      tls: { certificate: 'x', key: 'y' },
      authenticate: async () => '',
      mask: { text: (text) => text, bytes: (bytes) => bytes },
    })
    await expect(starting).rejects.toMatchObject({ code: 'invalid' })
  })
})
