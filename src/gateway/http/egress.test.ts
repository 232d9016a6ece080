import fs from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { parseNetwork } from '../../guard/addresses.ts'
import { openAuthority } from './certificates.ts'
import type { Authority } from './certificates.ts'
import { createEgress } from './egress.ts'
import { placeOf } from './host.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

function authorityAt(clock: () => number = Date.now): Authority {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-egress-'))
  closing.push(() => fs.rmSync(folder, { recursive: true }))
  return openAuthority({ keyFile: path.join(folder, 'ca.key'), certificateFile: path.join(folder, 'ca.pem'), clock })
}

/** A server with a certificate for a host; every name leads to it. */
async function serve(authority: Authority, host: string): Promise<number> {
  const server = createServer(authority.credentialFor(host), (_req, res) => res.end('here'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

async function reach(origin: string, ca: string | undefined, home = origin): Promise<string> {
  const place = placeOf(origin)
  const egress = createEgress(
    { addresses: [parseNetwork('127.0.0.1')], hosts: [place.host], ports: [place.port], home: placeOf(home) },
    { resolve: async () => ['127.0.0.1'], ca },
  )
  closing.push(() => egress.destroy())
  const { body } = await egress.dispatcherOf('ses_1').request({ origin, path: '/', method: 'GET' })
  return body.text()
}

test('an API whose certificate is of a private authority is reached where that is named, by name and by address', async () => {
  const authority = authorityAt()
  for (const host of ['billing.example', '127.0.0.1']) {
    const origin = `https://${host}:${await serve(authority, host)}`
    expect(await reach(origin, authority.pem)).toBe('here')
    await expect(reach(origin, undefined)).rejects.toMatchObject({ code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' })
  }
})

test('a certificate for another host is refused, whoever signed it', async () => {
  const authority = authorityAt()
  const port = await serve(authority, 'other.example')
  for (const host of ['billing.example', '127.0.0.1'])
    await expect(reach(`https://${host}:${port}`, authority.pem)).rejects.toMatchObject({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    })
})

test('one that is over is refused', async () => {
  const month = 30 * 86_400_000
  const authority = authorityAt(() => Date.now() - month)
  const port = await serve(authority, 'billing.example')
  await expect(reach(`https://billing.example:${port}`, authority.pem)).rejects.toMatchObject({
    code: 'CERT_HAS_EXPIRED',
  })
})

test('the authority that is named is the only one: another is refused', async () => {
  const port = await serve(authorityAt(), 'billing.example')
  await expect(reach(`https://billing.example:${port}`, authorityAt().pem)).rejects.toThrow(/certificate/)
})

test('it speaks for the host of the resource alone, not for one that a redirect leads to', async () => {
  const authority = authorityAt()
  const port = await serve(authority, 'elsewhere.example')
  await expect(
    reach(`https://elsewhere.example:${port}`, authority.pem, 'https://billing.example'),
  ).rejects.toMatchObject({ code: 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' })
})
