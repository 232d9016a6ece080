import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { connect, createServer } from 'node:tls'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { openAuthority } from './certificates.ts'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) fs.rmSync(folder, { recursive: true, force: true })
})

function files() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-ca-'))
  folders.push(folder)
  return { keyFile: path.join(folder, 'ca.key'), certificateFile: path.join(folder, 'ca.pem') }
}

/** What a client sees of it in a real handshake. */
async function shown(authority: ReturnType<typeof openAuthority>, host: string): Promise<X509Certificate> {
  const terminator = createServer(authority.credentialFor(host))
  await new Promise<void>((resolve) => terminator.listen(0, '127.0.0.1', resolve))
  try {
    return await new Promise((resolve, reject) => {
      const socket = connect(
        {
          port: (terminator.address() as AddressInfo).port,
          host: '127.0.0.1',
          servername: 'any.example',
          rejectUnauthorized: false,
        },
        () => {
          resolve(socket.getPeerX509Certificate()!)
          socket.destroy()
        },
      )
      socket.once('error', reject)
    })
  } finally {
    terminator.close()
  }
}

const clockAt = (now: number) => {
  const time = { now }
  return Object.assign(() => time.now, { time })
}

test('the authority is made once, its key for its user alone, and found again', () => {
  const where = files()
  const first = openAuthority({ ...where, clock: Date.now })
  expect(fs.statSync(where.keyFile).mode & 0o777).toBe(0o600)
  expect(openAuthority({ ...where, clock: Date.now }).pem).toBe(first.pem)
  const certificate = new X509Certificate(first.pem)
  expect(certificate.ca).toBe(true)
  expect(certificate.verify(certificate.publicKey)).toBe(true)
  expect(Date.parse(certificate.validTo) - Date.now()).toBeGreaterThan(3_640 * 86_400_000)
  expect(first.pem).not.toContain('PRIVATE')
})

test('an authority signs servers alone, and no further authority: as OpenSSL reads it', () => {
  const where = files()
  openAuthority({ ...where, clock: Date.now })
  const text = execFileSync('openssl', ['x509', '-in', where.certificateFile, '-noout', '-text'], { encoding: 'utf8' })
  expect(text).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/)
  expect(text).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/)
  expect(text).toMatch(/Extended Key Usage: *\s+TLS Web Server Authentication\n/)
  expect(text).toMatch(/Subject Key Identifier/)
})

test.each([
  ['api.example.com', 'DNS:api.example.com'],
  ['xn--bcher-kva.example', 'DNS:xn--bcher-kva.example'],
  ['127.0.0.1', 'IP Address:127.0.0.1'],
  ['2001:db8::1', 'IP Address:2001:DB8:0:0:0:0:0:1'],
  [`${'long-label.'.repeat(20)}example.com`, `DNS:${'long-label.'.repeat(20)}example.com`],
])('a certificate is for exactly %s, and verifies strictly with OpenSSL', async (host, name) => {
  const where = files()
  const leaf = await shown(openAuthority({ ...where, clock: Date.now }), host)
  expect(leaf.subjectAltName).toBe(name)
  expect(leaf.ca).toBe(false)
  const file = `${where.keyFile}.leaf`
  fs.writeFileSync(file, leaf.toString())
  const kind = name.startsWith('IP') ? '-verify_ip' : '-verify_hostname'
  const out = execFileSync('openssl', [
    'verify',
    '-x509_strict',
    '-purpose',
    'sslserver',
    '-CAfile',
    where.certificateFile,
    kind,
    host,
    file,
  ])
  expect(out.toString()).toContain('OK')
})

test('a certificate lasts for seven days, is kept, and is renewed before it ends', async () => {
  const clock = clockAt(Date.now())
  const authority = openAuthority({ ...files(), clock })
  const first = await shown(authority, 'api.example.com')
  expect(Date.parse(first.validTo) - clock.time.now).toBeLessThanOrEqual(7 * 86_400_000)
  expect((await shown(authority, 'api.example.com')).serialNumber).toBe(first.serialNumber)
  clock.time.now += 6 * 86_400_000 + 1
  const second = await shown(authority, 'api.example.com')
  expect(second.serialNumber).not.toBe(first.serialNumber)
  expect(Date.parse(second.validTo)).toBeGreaterThan(clock.time.now + 6 * 86_400_000)
  // Nor does it matter how long nobody asked.
  clock.time.now += 400 * 86_400_000
  expect(Date.parse((await shown(authority, 'api.example.com')).validTo)).toBeGreaterThan(clock.time.now)
})

test('promise 9: certificates that are kept are bounded; those used last stay', async () => {
  const authority = openAuthority({ ...files(), clock: Date.now, kept: 3 })
  const kept = authority.credentialFor('a.example')
  for (const name of ['b', 'c', 'a', 'd']) authority.credentialFor(`${name}.example`)
  expect(authority.credentialFor('a.example')).toBe(kept)
  const dropped = authority.credentialFor('e.example')
  expect(authority.credentialFor('e.example')).toBe(dropped)
})

test.each([
  '*.example.com',
  '',
  'a..b',
  '.',
  'example.com.',
  'EXAMPLE.com',
  'bücher.example',
  'a b',
  '-a.example',
  'a\0b',
  'x'.repeat(64),
  '127.0.0.1.',
])('promise 3: there is no certificate for %j', (host) => {
  const authority = openAuthority({ ...files(), clock: Date.now })
  expect(() => authority.credentialFor(host)).toThrow(/one host/)
})

test('promise 3: files that do not belong together, are broken, half there, or over stop the start', () => {
  const [one, other] = [files(), files()]
  openAuthority({ ...one, clock: Date.now })
  openAuthority({ ...other, clock: Date.now })
  expect(() =>
    openAuthority({ keyFile: one.keyFile, certificateFile: other.certificateFile, clock: Date.now }),
  ).toThrow(/no authority of the key/)
  expect(() => openAuthority({ ...one, clock: () => Date.now() + 3_650 * 86_400_000 })).toThrow(/ends at .*: remove/)
  fs.rmSync(one.certificateFile)
  expect(() => openAuthority({ ...one, clock: Date.now })).toThrow(/can't be read.*remove/)
  fs.writeFileSync(other.keyFile, 'nonsense')
  expect(() => openAuthority({ ...other, clock: Date.now })).toThrow(/can't be read.*remove/)
})
