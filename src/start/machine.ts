import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import fs from 'node:fs'
import { once } from 'node:events'
import type http from 'node:http'
import path from 'node:path'
import { isLoopback } from '../config/schema.ts'
import type { Address } from '../config/schema.ts'
import { Failure } from '../core/failure.ts'

/** A folder that only this user can enter. Fails with `unavailable` where there can be none. */
export function privateFolder(folder: string): string {
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
    fs.chmodSync(folder, 0o700)
    return folder
  } catch (cause) {
    throw new Failure(
      'unavailable',
      `the state folder ${folder} can't be used${codeOf(cause)}: \`state\` in the configuration names it`,
      { cause },
    )
  }
}

/** The Ed25519 keys that session tokens are signed with: the newest first, older ones as long as their files are there. */
export function tokenKeys(state: string): [KeyObject, ...KeyObject[]] {
  const folder = privateFolder(path.join(state, 'token-keys'))
  const names = fs.readdirSync(folder).filter((name) => name.endsWith('.pem'))
  if (names.length === 0) {
    const { privateKey } = generateKeyPairSync('ed25519')
    const name = `${Date.now()}.pem`
    fs.writeFileSync(path.join(folder, name), privateKey.export({ type: 'pkcs8', format: 'pem' }), {
      mode: 0o600,
      flag: 'wx',
    })
    names.push(name)
  }
  const keys = names
    .sort()
    .reverse()
    .map((name) => createPrivateKey(fs.readFileSync(path.join(folder, name))))
  return keys as [KeyObject, ...KeyObject[]]
}

export const listenerSettings: http.ServerOptions = {
  // A request has to be there whole within this time, its head within the other: slow senders hold nothing up.
  requestTimeout: 60_000,
  headersTimeout: 20_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 5_000,
  maxHeaderSize: 32 * 1024,
}

export async function listen(server: http.Server, { host, port }: Address): Promise<{ readonly url: string }> {
  try {
    server.listen(port, host)
    await once(server, 'listening')
  } catch (cause) {
    throw new Failure(
      'unavailable',
      `${host}:${port} can't be listened on${codeOf(cause)}: \`listen\` in the configuration names it`,
      { cause },
    )
  }
  const address = server.address()
  const bound = typeof address === 'object' && address !== null ? address.port : port
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}` }
}

/** Names under which a listener may be reached. */
export const hostsOf = (host: string, more: readonly string[]): ReadonlySet<string> =>
  new Set([
    ...more.map((name) => name.toLowerCase()),
    ...(isLoopback(host) ? ['localhost', '127.0.0.1', '[::1]'] : [host]),
  ])

export const codeOf = (thrown: unknown): string =>
  thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? ` (${thrown.code})` : ''
