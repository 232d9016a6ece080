import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { X509Certificate } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { openAuthority } from '../../src/gateway/http/certificates.ts'
import { caCommand } from '../../src/cli/ca.ts'
import type { Io } from '../../src/cli/io.ts'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) fs.rmSync(folder, { recursive: true, force: true })
})

function place() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-cli-ca-'))
  folders.push(folder)
  const out: string[] = []
  const io = { cwd: folder, env: {}, out: (text: string) => out.push(text), err: () => {} } as unknown as Io
  const files = { keyFile: path.join(folder, 'ca.key'), certificateFile: path.join(folder, 'ca.pem') }
  return { files, io, out, said: () => out.join('\n') }
}

test('it says where the certificate is and what identifies it, and prints it, and never the key', async () => {
  const { files, io, said, out } = place()
  const { pem } = openAuthority({ ...files, clock: Date.now })
  const { fingerprint256 } = new X509Certificate(pem)
  expect(await caCommand.run(['--home', '.'], io)).toBe(0)
  expect(said()).toContain(fingerprint256)
  expect(said()).toContain(files.certificateFile)
  out.length = 0
  await caCommand.run(['--home', '.', '--pem'], io)
  expect(`${said()}\n`).toBe(pem)
  out.length = 0
  await caCommand.run(['--home', '.', '--json'], io)
  expect(JSON.parse(said())).toMatchObject({ fingerprint: fingerprint256, pem })
  expect(said()).not.toContain('PRIVATE')
})

test('without one, it says when it is made', async () => {
  const { io } = place()
  await expect(caCommand.run(['--home', '.'], io)).rejects.toThrow(/first starts with `listen\.proxy`/)
})
