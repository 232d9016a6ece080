// Finds the Node that Sallyport runs on, and installs what is missing. Plain JavaScript without dependencies, because
// it runs on the machine's own Node, before anything is installed.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { basename, delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** The oldest major version of Node that Sallyport runs on. */
export const oldestNode = 24

/** @typedef {{ version?: string, integrity?: string, optional?: boolean, devOptional?: boolean }} LockedPackage */

/**
 * The npm package that holds Node for a platform, whether it exists or not.
 *
 * @param {string} platform as in `process.platform`
 * @param {string} arch as in `process.arch`
 */
export function nodePackage(platform, arch) {
  return `node-${platform === 'win32' ? 'win' : platform}-${arch}`
}

/**
 * Why a checkout can't be used with this Node, in words that say what to do; or undefined if it can.
 *
 * @param {{ version: string, platform: string, arch: string, pinned: boolean }} machine `version` is that of the Node
 *   on the PATH; `pinned` says whether a Node for this platform is, or can be, installed with the dependencies
 */
export function whyNot({ version, platform, arch, pinned }) {
  if (pinned || Number.parseInt(version.replace(/^v/, ''), 10) >= oldestNode) return undefined
  return (
    `Sallyport needs Node ${oldestNode} or newer and found ${version}. For ${platform} ${arch} no Node comes with its ` +
    `dependencies: install one (https://nodejs.org, or \`nvm install ${oldestNode}\`) and run the same command again.`
  )
}

/**
 * Whether what is installed is what the lock file says. Optional packages may be absent: most are for other platforms.
 *
 * @param {Record<string, LockedPackage>} locked `packages` of package-lock.json
 * @param {Record<string, LockedPackage>} installed `packages` of node_modules/.package-lock.json
 */
export function matchesLock(locked, installed) {
  for (const [path, found] of Object.entries(installed)) {
    const wanted = locked[path]
    if (!wanted || wanted.version !== found.version || wanted.integrity !== found.integrity) return false
  }
  return Object.entries(locked).every(
    ([path, wanted]) => path === '' || path in installed || wanted.optional === true || wanted.devOptional === true,
  )
}

/**
 * Makes the checkout at `root` ready: installs its dependencies if they are missing or older than its lock file.
 * Returns undefined, or why it can't be done. Two processes may do this at once.
 *
 * @param {string} root
 * @returns {Promise<string | undefined>}
 */
export async function prepare(root) {
  const { platform, arch, version } = process
  const { optionalDependencies = {} } = readJson(join(root, 'package.json'))
  const problem = whyNot({ version, platform, arch, pinned: nodePackage(platform, arch) in optionalDependencies })
  if (problem) return problem
  if (!isInstalled(root)) {
    const release = await acquire(join(root, '.install.lock'))
    try {
      const failure = isInstalled(root) ? undefined : install(root)
      if (failure) return failure
    } finally {
      release()
    }
  }
  return whyNot({ version, platform, arch, pinned: pinnedNode(root) !== undefined })
}

/**
 * The Node that was installed with the dependencies of `root`, or undefined.
 *
 * @param {string} root
 */
export function pinnedNode(root) {
  const windows = process.platform === 'win32'
  const linked = existsSync(join(root, 'node_modules', '.bin', windows ? 'node.cmd' : 'node'))
  const folder = join(root, 'node_modules', nodePackage(process.platform, process.arch), 'bin')
  const path = join(folder, windows ? 'node.exe' : 'node')
  return linked && existsSync(path) ? path : undefined
}

/**
 * Runs a command in this process's place: same terminal, same signals, same end.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {string} [root] a checkout whose installed commands come first on the PATH
 */
export function become(command, args, root) {
  const env = { ...process.env }
  if (root) {
    const path = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') ?? 'PATH'
    env[path] = join(root, 'node_modules', '.bin') + delimiter + (env[path] ?? '')
  }
  // On Windows the installed commands are .cmd files, which only a shell can start.
  const shell = process.platform === 'win32' && root !== undefined
  const child = spawn(command, shell ? args.map(quoteForCmd) : args, { stdio: 'inherit', env, shell })

  // Ctrl-C reaches every process of the terminal by itself; sent on, it would arrive twice.
  const inTerminal = [process.stdin, process.stdout, process.stderr].some((stream) => stream.isTTY)
  /** @type {NodeJS.Signals[]} */
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  for (const signal of signals) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !inTerminal) child.kill(signal)
    })
  }

  child.on('error', (error) => {
    console.error(`could not start \`${command}\`: ${error.message}`)
    process.exit(127)
  })
  child.on('exit', (code, signal) => {
    if (!signal) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
    // For a signal that does not end this process, such as one that an ancestor ignores.
    setTimeout(() => process.exit(128 + constants.signals[signal]), 100)
  })
}

/** @param {string} root */
function isInstalled(root) {
  const record = join(root, 'node_modules', '.package-lock.json') // npm writes it last, so it is missing if npm was cut off
  if (!existsSync(record)) return false
  return matchesLock(readJson(join(root, 'package-lock.json')).packages, readJson(record).packages)
}

/**
 * @param {string} root
 * @returns {string | undefined}
 */
function install(root) {
  const fresh = !existsSync(join(root, 'node_modules', '.package-lock.json'))
  console.error(fresh ? 'Installing dependencies; the first time takes about a minute.' : 'Updating dependencies.')
  // `npm ci` empties node_modules first, under the feet of whatever runs there; an update changes only what differs.
  const command = fresh ? ['ci'] : ['install', '--no-save']
  const quiet = ['--no-audit', '--no-fund', '--no-progress', '--loglevel=error']
  const all = ['--include=dev', '--include=optional'] // Whatever NODE_ENV and npm's own settings say.
  const done = npm(root, [...command, ...quiet, ...all])
  if (done.status !== 0) {
    const said = `${done.stdout ?? ''}${done.stderr ?? ''}`.trim() || done.error?.message || 'no output'
    return `\`npm ${command.join(' ')}\` failed in ${root}:\n${said}`
  }
  dropUnusableNode(root)
  return isInstalled(root)
    ? undefined
    : `package-lock.json in ${root} does not fit package.json: run \`npm install\` and look at what it changes`
}

/**
 * The Node package is built for glibc. Where it does not start (Alpine), its link is removed, so that the PATH's own
 * Node is found.
 *
 * @param {string} root
 */
function dropUnusableNode(root) {
  const node = pinnedNode(root)
  if (!node || spawnSync(node, ['--version']).status === 0) return
  for (const name of ['node', 'node.cmd', 'node.ps1']) rmSync(join(root, 'node_modules', '.bin', name), { force: true })
}

/**
 * @param {string} root
 * @param {string[]} args
 */
function npm(root, args) {
  const options = { cwd: root, encoding: /** @type {const} */ ('utf8'), maxBuffer: 64 * 1024 * 1024 }
  const { npm_execpath: script, npm_node_execpath: node } = process.env
  if (script && node && /^npm-cli\.c?js$/.test(basename(script))) return spawnSync(node, [script, ...args], options)
  return spawnSync('npm', args, { ...options, shell: process.platform === 'win32' })
}

/**
 * Waits until this process alone holds the lock file, and returns what gives it back. A lock whose process is gone is
 * taken over.
 *
 * @param {string} path
 */
export async function acquire(path) {
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' })
      return () => rmSync(path, { force: true })
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error
    }
    const holder = readIfThere(path)
    if (holder !== undefined && !isAlive(holder)) takeAway(path, holder)
    else await sleep(100)
  }
}

/**
 * Removes a lock that `holder` left behind. Another process may do the same and lock again meanwhile: its lock is put
 * back.
 *
 * @param {string} path
 * @param {string} holder
 */
function takeAway(path, holder) {
  const aside = `${path}.${process.pid}`
  try {
    renameSync(path, aside)
    if (readFileSync(aside, 'utf8') !== holder) linkSync(aside, path)
  } catch {
    // Someone else was faster.
  } finally {
    rmSync(aside, { force: true })
  }
}

/** @param {string} pid */
function isAlive(pid) {
  if (pid === '') return true // Created, not written yet.
  try {
    process.kill(Number(pid), 0)
    return true
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}

/** @param {string} path */
function readIfThere(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** @param {string} path */
function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'))
}

/** @param {string} arg */
function quoteForCmd(arg) {
  return /^[\w./:=@+-]+$/.test(arg) ? arg : `"${arg.replaceAll('"', '""')}"`
}
