// What a statement costs through the wire of Sallyport, with every check, and every decision durable before the statement
// goes on: pgbench's select-only script directly, through PgBouncer where there is one (sessions, one server connection for
// each client: it reads no SQL), and through the gateway, taking turns. `node bench/sql.ts [--seconds 2] [--rounds 3] [--scale 10]
// [--warm 5] [--only prepared] [--profile <folder>]`. PgBouncer is looked for on the path, or as what PGBOUNCER names.
import { execFile, execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import type { StartedSession, Status } from '../src/control/wire.ts'
import { startPostgres } from '../test/support/postgres.ts'
import type { Usage } from './gateway.ts'
import { flag, inFolder, machine, median, startPart, syncsPerSecond } from './parts.ts'

const run = promisify(execFile)

/** Where pgbench is to connect to, and what it is told. */
interface Way {
  readonly env: Readonly<Record<string, string>>
  /** Processor time so far of what stands between, in seconds. */
  readonly cpu?: () => Promise<number> | number
}

interface Measured {
  readonly tps: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  /** Of what stands between, in millionths of a second a transaction. */
  readonly cpu: number
}

const installed = (program: string): boolean => {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

if (installed('pgbench')) await inFolder(measureAll)
else console.log('pgbench is not installed (it comes with PostgreSQL): nothing was measured')

async function measureAll(folder: string): Promise<void> {
  const [rounds, seconds, scale] = [flag('rounds', 3), flag('seconds', 2), flag('scale', 10)]
  const server = await startPostgres({ version: 18 })
  const url = await server.createDatabase()
  await run('pgbench', ['-i', '-q', '-s', String(scale), url])
  const direct = new URL(url)
  const memory = fs.mkdtempSync(path.join(fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir(), 'sallyport-bench-'))
  const durable = await startGateway(folder, direct, 'durable', scale)
  const quick = await startGateway(memory, direct, 'quick', scale)
  // Last: what was started before ends with this process, whatever happens.
  const bouncer = await startBouncer(direct)
  const ways: Readonly<Record<string, Way>> = {
    direct: { env: envOf(direct) },
    ...(bouncer === undefined ? {} : { PgBouncer: bouncer.way }),
    Sallyport: durable.way('durable'),
    'with a row filter': durable.way('durable-filtered'),
    'record in memory': quick.way('quick'),
  }
  try {
    const at = process.argv.indexOf('--only')
    const protocols = ['simple', 'prepared'].filter((each) => at < 0 || process.argv[at + 1] === each)
    const rows: object[] = []
    const syncs: number[] = []
    // What has run often enough is compiled by then.
    for (const protocol of protocols)
      for (const way of Object.values(ways))
        await measure(folder, way, { protocol, clients: 8, seconds: flag('warm', 5) })
    for (const protocol of protocols)
      for (const clients of [1, 8]) {
        const all = new Map(Object.keys(ways).map((name) => [name, [] as Measured[]]))
        for (let round = 0; round < rounds; round++) {
          syncs.push(syncsPerSecond(folder, 100))
          for (const [name, way] of Object.entries(ways))
            all.get(name)?.push(await measure(folder, way, { protocol, clients, seconds }))
        }
        for (const [name, measured] of all) {
          const of = (pick: (each: Measured) => number): number => median(measured.map(pick))
          const beside = (other: string, take: (own: Measured, its: Measured) => number): number =>
            median(measured.map((each, round) => take(each, all.get(other)?.[round] ?? each)))
          const peer = bouncer === undefined ? 'direct' : 'PgBouncer'
          rows.push({
            protocol,
            clients,
            way: name,
            'tx/s': Math.round(of(({ tps }) => tps)),
            'p50 ms': of(({ p50 }) => p50).toFixed(3),
            'p99 ms': of(({ p99 }) => p99).toFixed(3),
            'added p50': beside('direct', (own, its) => own.p50 - its.p50).toFixed(3),
            'of direct': `${beside('direct', (own, its) => own.tps / its.tps).toFixed(2)} ×`,
            [`of ${peer}`]: `${beside(peer, (own, its) => own.tps / its.tps).toFixed(2)} ×`,
            'CPU µs': Math.round(of(({ cpu }) => cpu)),
          })
        }
      }
    console.log(machine())
    console.log(`${bouncer?.version ?? 'PgBouncer is not installed'}; pgbench -S, scale ${scale}, ${seconds} s each`)
    console.log(
      `medians of ${rounds} rounds that took turns; the disk made 600 bytes durable ${Math.round(median(syncs))} times a second in the same minutes`,
    )
    console.table(rows)
  } finally {
    for (const each of [durable, quick]) await each.end()
    bouncer?.end()
    await server.close()
    fs.rmSync(memory, { recursive: true, force: true })
  }
}

async function measure(
  folder: string,
  { env, cpu = () => 0 }: Way,
  { protocol, clients, seconds }: { readonly protocol: string; readonly clients: number; readonly seconds: number },
): Promise<Measured> {
  const logs = fs.mkdtempSync(path.join(folder, 'log-'))
  const args = ['-S', '-n', '-M', protocol, '-c', String(clients), '-j', '1', '-T', String(seconds), '-l']
  const before = await cpu()
  const { stdout } = await run('pgbench', args, { cwd: logs, env: { PATH: process.env['PATH'], ...env } })
  const used = (await cpu()) - before
  const times = fs
    .readdirSync(logs)
    .flatMap((name) => fs.readFileSync(path.join(logs, name), 'latin1').trim().split('\n'))
    .map((line) => Number(line.split(' ')[2]) / 1_000)
    .sort((a, b) => a - b)
  fs.rmSync(logs, { recursive: true })
  const tps = Number(/tps = ([\d.]+)/.exec(stdout)?.[1])
  if (!(tps > 0) || !stdout.includes('number of failed transactions: 0')) throw new Error(stdout)
  const part = (share: number): number => times[Math.floor((times.length - 1) * share)] ?? Number.NaN
  return { tps, p50: part(0.5), p99: part(0.99), cpu: (used / times.length) * 1e6 }
}

function envOf({ hostname, port, pathname, username, password }: URL): Way['env'] {
  return {
    PGHOST: hostname,
    PGPORT: port,
    PGDATABASE: pathname.slice(1),
    PGUSER: username,
    PGPASSWORD: password,
    PGSSLMODE: 'disable',
  }
}

/** The whole gateway, with the tables of pgbench as two resources: as they are, and with a row filter. */
async function startGateway(folder: string, direct: URL, name: string, scale: number) {
  const file = path.join(folder, `${name}.yaml`)
  const state = path.join(folder, name)
  const aliases = [name, `${name}-filtered`]
  const resource = (alias: string): object => ({
    postgres: `postgres://gateway_${alias.replace('-', '_')}:password-${alias}@${direct.host}${direct.pathname}`,
    trust: 'trusted',
    tables: {
      pgbench_accounts: {
        select: ['aid', 'bid', 'abalance'],
        key: ['aid'],
        ...(alias === name ? {} : { where: 'bid <= session.branches' }),
      },
      pgbench_branches: { select: ['bid'] },
    },
  })
  const settings = {
    listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0', sql: '127.0.0.1:0' },
    state,
    facts: { branches: 'int' },
    resources: Object.fromEntries(aliases.map((alias) => [alias, resource(alias)])),
    agents: {
      agent: {
        may: aliases.flatMap((alias) => [
          { do: `${alias}.pgbench_accounts:select`, when: 'session.branches > 0 && args.columns.size() < 10' },
          `${alias}.pgbench_branches:select`,
        ]),
        // Limits are held, but so that they are never reached: the loop guard is off, because nothing but loops is measured.
        limits: { calls: ['100000000/min', '100000000/session'], repeats: 'unlimited' },
      },
    },
  }
  fs.writeFileSync(file, JSON.stringify(settings))
  const at = process.argv.indexOf('--profile')
  const profile = at < 0 ? [] : ['--cpu-prof', `--cpu-prof-dir=${path.join(process.argv[at + 1] ?? '.', name)}`]
  const part = startPart('gateway.ts', [file], profile)
  const { people, sql } = await part.ask<Status>({ what: 'status' })
  const key = fs.readFileSync(path.join(state, 'admin.key'), 'utf8').trim()
  async function ask<T>(at: string, body: object): Promise<T> {
    const response = await fetch(people.url + at, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`${at}: ${response.status} ${await response.text()}`)
    return (await response.json()) as T
  }
  for (const alias of aliases) await ask(`/v1/databases/${alias}/apply`, { admin: direct.href })
  const { token } = await ask<StartedSession>('/v1/sessions', {
    agent: 'agent',
    facts: { branches: scale },
    lasts: 7_200,
  })
  const address = new URL(sql?.url ?? '')
  return {
    way: (alias: string): Way => ({
      env: {
        PGHOST: address.hostname,
        PGPORT: address.port,
        PGDATABASE: alias,
        PGUSER: 'agent',
        PGPASSWORD: token,
        PGSSLMODE: 'disable',
      },
      cpu: async () => (await part.ask<Usage>({ what: 'usage' })).cpu,
    }),
    end: () => part.end(),
  }
}

/** PgBouncer as it comes, pooling sessions; nothing, where there is none. */
async function startBouncer(direct: URL) {
  const program = [process.env['PGBOUNCER'] ?? 'pgbouncer', '/usr/sbin/pgbouncer'].find(installed)
  if (program === undefined) return undefined
  const [version = ''] = execFileSync(program, ['--version'], { encoding: 'utf8' }).split('\n')
  const reserved = net.createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => reserved.once('listening', resolve))
  const { port } = reserved.address() as AddressInfo
  await new Promise((resolve) => reserved.close(resolve))
  // It does not run as root.
  const own = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined
  const place = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-bouncer-'))
  fs.writeFileSync(path.join(place, 'users'), `"${direct.username}" "${direct.password}"\n`)
  fs.writeFileSync(
    path.join(place, 'ini'),
    `[databases]\n* = host=${direct.hostname} port=${direct.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n` +
      `listen_port = ${port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = ${place}/users\npool_mode = session\n` +
      `max_client_conn = 100\ndefault_pool_size = 20\nlog_connections = 0\nlog_disconnections = 0\n`,
  )
  if (own !== undefined) for (const each of ['', 'users', 'ini']) fs.chownSync(path.join(place, each), own.uid, own.gid)
  const child = spawn(program, ['-q', path.join(place, 'ini')], { stdio: 'ignore', cwd: place, ...own })
  for (let tries = 0; ; tries++) {
    const isThere = await new Promise<boolean>((resolve) => {
      const socket = net.connect(port, '127.0.0.1')
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
    if (isThere) break
    if (tries > 100 || child.exitCode !== null) throw new Error(`${program} does not start (${child.exitCode})`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  const ticks = (): number => {
    const stat = fs.readFileSync(`/proc/${child.pid}/stat`, 'latin1')
    const [utime = 0, stime = 0] = stat.slice(stat.lastIndexOf(')')).split(' ').slice(12, 14).map(Number)
    return (utime + stime) / 100
  }
  return {
    version,
    way: { env: { ...envOf(direct), PGPORT: String(port) }, cpu: fs.existsSync('/proc/self/stat') ? ticks : () => 0 },
    end: (): void => {
      child.kill('SIGKILL')
      fs.rmSync(place, { recursive: true, force: true })
    },
  }
}
