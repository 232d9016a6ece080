// Real PostgreSQL servers: one for a test file that asks, in a folder of its own, gone with the process that started it.
import { execFile, spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { allVersions, cache, findBinaries, moveUnlessThere } from './postgres-binaries.ts'
import type { Version } from './postgres-binaries.ts'

export type { Version } from './postgres-binaries.ts'

const execute = promisify(execFile)
const keeper = fileURLToPath(new URL('postgres-keeper.ts', import.meta.url))

/** The versions that tests run against: others with `SALLYPORT_TEST_POSTGRES=14,16,17`. */
export const versions: readonly Version[] = wanted(process.env['SALLYPORT_TEST_POSTGRES'] ?? '18,15')

function wanted(text: string): readonly Version[] {
  return text.split(',').map((word) => {
    const version = allVersions.find((each) => String(each) === word.trim())
    if (version === undefined)
      throw new Error(`SALLYPORT_TEST_POSTGRES: expected some of ${allVersions.join()}, not "${text}"`)
    return version
  })
}

export interface PostgresServer {
  readonly version: Version
  readonly port: number
  /** Of the superuser, database `postgres`. */
  readonly adminUrl: string
  /** Makes a database of a random name, runs statements in it, and gives its URL for the superuser. */
  createDatabase(sql?: string): Promise<string>
  /** A name that no other test uses, for roles and aliases, which a whole server shares: `t3f09ab12`. */
  newName(): string
  /** What the server has logged so far. */
  log(): string
  close(): Promise<void>
}

/**
 * Why a server of this version can't be had here, said on the console too; or false. For `describe.skipIf(await
 * noPostgres(18))`: at the top of a test file, where fetching it the first time may take a minute.
 */
export async function noPostgres(version: Version): Promise<string | false> {
  try {
    await findTemplate(version)
    return false
  } catch (thrown) {
    const why = thrown instanceof Error ? thrown.message : String(thrown)
    console.warn(`SKIPPED: ${why}`)
    return why
  }
}

/** A running server on the loopback address; passwords are SCRAM-SHA-256; nothing is ever synced to the disk. */
export async function startPostgres({ version }: { version: Version }): Promise<PostgresServer> {
  const template = await findTemplate(version)
  const user = unprivileged()
  for (let attempt = 1; ; attempt++) {
    const port = await freePort()
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-postgres-'))
    const bin = reachable(await findBinaries(version), folder)
    const data = path.join(folder, 'data')
    await copy(path.join(template, 'data'), data)
    if (user) await execute('chown', ['-R', `${user.uid}:${user.gid}`, folder])
    const process = spawnKeeper(bin, ['-D', data, ...settings(port)], folder)
    try {
      await process.ready()
    } catch (thrown) {
      await process.stop()
      if (attempt < 5 && /could not bind|Address already in use/.test(process.log())) continue
      throw thrown
    }
    const password = fs.readFileSync(path.join(template, 'password'), 'utf8')
    return serverAt(version, port, password, process)
  }
}

function settings(port: number): string[] {
  const pairs = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    fsync: 'off',
    synchronous_commit: 'off',
    full_page_writes: 'off',
    shared_buffers: '16MB',
    max_connections: 60,
    max_wal_size: '64MB',
    min_wal_size: '8MB',
    jit: 'off',
    timezone: 'UTC',
    log_statement: 'ddl',
  }
  return Object.entries(pairs).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

function serverAt(version: Version, port: number, password: string, process: Keeper): PostgresServer {
  const urlOf = (database: string) => `postgres://postgres:${password}@127.0.0.1:${port}/${database}`
  const newName = () => `t${randomBytes(4).toString('hex')}`
  return {
    version,
    port,
    adminUrl: urlOf('postgres'),
    newName,
    log: process.log,
    close: process.stop,
    createDatabase: async (sql = '') => {
      const name = newName()
      await run(urlOf('postgres'), `create database ${name}`)
      await run(urlOf(name), sql)
      return urlOf(name)
    },
  }
}

async function run(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

type Keeper = ReturnType<typeof spawnKeeper>

function spawnKeeper(bin: string, args: readonly string[], folder: string) {
  const order = { command: path.join(bin, 'postgres'), args, folder, ...unprivileged() }
  const child: ChildProcess = spawn(process.execPath, [keeper, JSON.stringify(order)], {
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  const ended = once(child, 'close')
  let log = ''
  const listeners = new Set<() => void>()
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    // The end says why, when something goes wrong.
    log = (log + text).slice(-200_000)
    for (const tell of listeners) tell()
  })
  return {
    log: () => log,
    ready: () =>
      new Promise<void>((resolve, reject) => {
        const fail = (why: string) => reject(new Error(`PostgreSQL did not start: ${why}\n${log}`))
        const look = () => log.includes('database system is ready to accept connections') && resolve()
        listeners.add(look)
        const limit = setTimeout(() => fail('it was given a minute'), 60_000)
        void ended.then(() => {
          clearTimeout(limit)
          fail('its process ended')
        })
        limit.unref()
        look()
      }),
    stop: async () => {
      child.stdin?.destroy()
      await ended
    },
  }
}

/** A data folder as initdb leaves it, and the superuser's password, made once and then copied: initdb takes seconds. */
async function findTemplate(version: Version): Promise<string> {
  const bin = await findBinaries(version)
  const target = path.join(cache, `postgres-template-${version}`)
  if (fs.existsSync(target)) return target
  fs.mkdirSync(cache, { recursive: true })
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-initdb-'))
  const made = fs.mkdtempSync(`${target}.`)
  try {
    const user = unprivileged()
    const password = randomBytes(18).toString('hex')
    const passwordFile = path.join(folder, 'password')
    fs.writeFileSync(passwordFile, password, { mode: 0o600 })
    if (user) for (const place of [folder, passwordFile]) fs.chownSync(place, user.uid, user.gid)
    const data = path.join(folder, 'data')
    await execute(
      path.join(reachable(bin, folder), 'initdb'),
      ['-D', data, '-U', 'postgres', `--pwfile=${passwordFile}`, '--auth=scram-sha-256', '-E', 'UTF8', '--locale=C']
        // Small, because it is copied for every server.
        .concat('--no-sync', '--wal-segsize=4'),
      { ...user, cwd: folder, env: { LC_ALL: 'C', TZ: 'UTC', PATH: process.env['PATH'] }, timeout: 120_000 },
    )
    await copy(data, path.join(made, 'data'))
    fs.writeFileSync(path.join(made, 'password'), password, { mode: 0o600 })
    moveUnlessThere(made, target)
    return target
  } finally {
    for (const place of [folder, made]) fs.rmSync(place, { recursive: true, force: true })
  }
}

const copy = (from: string, to: string) =>
  fs.promises.cp(from, to, { recursive: true, mode: fs.constants.COPYFILE_FICLONE })

/** The programs in a place from which an unprivileged user can run them: a checkout may lie in a private folder. */
function reachable(bin: string, folder: string): string {
  const user = unprivileged()
  if (!user || spawnSync(path.join(bin, 'postgres'), ['--version'], { ...user, cwd: folder }).status === 0) return bin
  const copied = path.join(folder, 'native')
  fs.chmodSync(folder, 0o755)
  fs.cpSync(path.dirname(bin), copied, { recursive: true, verbatimSymlinks: true })
  return path.join(copied, path.basename(bin))
}

/** PostgreSQL refuses to run as root: who it is run as where the tests are. */
function unprivileged(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  const id = (flag: string) => Number(spawnSync('id', [flag, 'nobody'], { encoding: 'utf8' }).stdout || 65534)
  return { uid: id('-u'), gid: id('-g') }
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
