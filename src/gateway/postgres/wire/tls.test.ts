import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import tls from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres } from '../../../../test/support/postgres.ts'
import type { PostgresServer } from '../../../../test/support/postgres.ts'
import { frame, int32, query, RawClient, startup, startWire } from '../../../../test/support/postgres-wire.ts'
import type { Wire } from '../../../../test/support/postgres-wire.ts'
import { openAuthority } from '../../http/certificates.ts'
import { startSqlListener } from './server.ts'

describe.skipIf(await noPostgres(18))('encrypted', () => {
  let server: PostgresServer
  let wire: Wire
  let ca: string
  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-tls-'))
    const authority = openAuthority({
      keyFile: path.join(folder, 'ca.key'),
      certificateFile: path.join(folder, 'ca.pem'),
      clock: () => Date.now(),
    })
    fs.rmSync(folder, { recursive: true })
    ca = authority.pem
    const { key, cert } = authority.credentialFor('localhost')
    wire = await startWire(server, { listener: { tls: { certificate: cert, key } } })
  }, 120_000)
  afterAll(async () => {
    expect(wire?.reported).toEqual([])
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
      ...{ host: '127.0.0.1', port: 0, gateway, hold: 0, clock: world.clock },
      ...{ guard: world.guard, sessions: world.sessions, audit: world.audit },
      tls: { certificate: 'x', key: 'y' },
      authenticate: async () => '',
      mask: { text: (text) => text, bytes: (bytes) => bytes },
    })
    await expect(starting).rejects.toMatchObject({ code: 'invalid' })
  })
})
