// An API whose certificate is of a private authority, behind the real gateway.
import fs from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { afterAll, afterEach, expect, test } from 'vitest'
import { openAuthority } from '../../src/gateway/http/certificates.ts'
import { newFolder, removeFolders, startSallyport } from '../support/sallyport.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})
afterAll(removeFolders)

const yaml = (port: number, ca: string): string => `
listen: { agents: 127.0.0.1:0, people: 127.0.0.1:0 }
state: $STATE
resources:
  billing:
    http: https://127.0.0.1:${port}
    ${ca}
    operations: { ping: { request: GET /ping, effect: read } }
agents: { reader: { may: ["billing:ping"] } }
`

async function serve(folder: string) {
  const file = (name: string): string => path.join(folder, name)
  const authority = openAuthority({
    keyFile: file('internal-ca.key'),
    certificateFile: file('internal-ca.pem'),
    clock: Date.now,
  })
  const credential = authority.credentialFor('127.0.0.1')
  fs.writeFileSync(file('server.pem'), credential.cert)
  fs.writeFileSync(file('text.pem'), 'no certificate')
  const broken = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'
  fs.writeFileSync(file('broken.pem'), authority.pem + broken)
  openAuthority({
    keyFile: file('old.key'),
    certificateFile: file('old.pem'),
    clock: () => Date.now() - 3_660 * 86_400_000,
  })
  const server = createServer(credential, (_req, res) =>
    res.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}'),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

test('it is reached with `ca`, and without it refused', async () => {
  const folder = newFolder()
  const port = await serve(folder)
  const ask = async (ca: string): Promise<readonly [number, string]> => {
    const gateway = await startSallyport({ settings: yaml(port, ca), folder, state: newFolder() })
    closing.push(() => gateway.stop())
    const { token } = await gateway.session('reader')
    const answer = await fetch(`${gateway.agentsUrl}/api/billing/ping`, {
      headers: { authorization: `Bearer ${token}` },
    })
    return [answer.status, await answer.text()]
  }
  expect(await ask('ca: ./internal-ca.pem')).toEqual([200, '{"ok":true}'])
  expect(await ask('')).toEqual([502, expect.stringContaining('UNABLE_TO_VERIFY_LEAF_SIGNATURE')])
})

test.each([
  ['absent.pem', /can ?not be read \(ENOENT\)/],
  ['text.pem', /holds no certificate: expected PEM/],
  ['broken.pem', /certificate 2 of `broken.pem` can't be read/],
  ['server.pem', /certificate 1 of `server.pem` is no authority/],
  ['old.pem', /certificate 1 of `old.pem` ended at/],
])('a start says what is wrong with `ca: %s`, and where it stands', async (ca, expected) => {
  const folder = newFolder()
  const settings = yaml(await serve(folder), `ca: ${ca}`)
  const started = startSallyport({ settings, folder })
  started.then((gateway) => closing.push(() => gateway.stop())).catch(() => {})
  await expect(started).rejects.toThrow(/sallyport.yaml:7:\d+: resources.billing.ca: /)
  await expect(started).rejects.toThrow(expected)
})
