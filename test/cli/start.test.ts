import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

const program = path.join(import.meta.dirname, '../../src/cli/sallyport.ts')
const settings = `listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0' }\nstate: state\nagents: { reader: { may: [] } }\n`

let folder: string
const running: { child: ChildProcess; exit: Promise<number | null> }[] = []
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'sallyport-test-'))
  writeFileSync(path.join(folder, 'sallyport.yaml'), settings)
})
afterEach(async () => {
  for (const each of running.splice(0)) {
    each.child.kill('SIGKILL')
    await each.exit
  }
  rmSync(folder, { recursive: true })
})

function run(args: readonly string[], cwd = folder) {
  const child = spawn(process.execPath, [program, ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '' },
  })
  const said = { out: '', err: '' }
  const waiting = new Set<() => void>()
  for (const [name, stream] of [
    ['out', child.stdout],
    ['err', child.stderr],
  ] as const)
    stream.on('data', (chunk: Buffer) => {
      said[name] += chunk.toString()
      for (const look of waiting) look()
    })
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve))
  const started = {
    child,
    said,
    exit,
    until: (name: 'out' | 'err', form: RegExp): Promise<RegExpExecArray> =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = form.exec(said[name])
          if (found === null) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
        void exit.then(() => reject(new Error(`it ended without ${String(form)}: ${said.out}${said.err}`)))
      }),
  }
  running.push(started)
  return started
}

test('the gateway starts, says where everything is, reads its file again, and stops', async () => {
  const gateway = run(['start'])
  const [, url = ''] = await gateway.until('out', /people +(http:\/\/127\.0\.0\.1:\d+)/)
  await gateway.until('out', /sallyport status/)
  const keyFile = path.join(folder, 'state', 'admin.key')
  expect(gateway.said.out).toContain(keyFile)
  expect(gateway.said.out).toMatch(/agents +http:\/\/127\.0\.0\.1:\d+\/mcp/)
  const key = readFileSync(keyFile, 'utf8').trim()
  if (process.platform !== 'win32') expect(statSync(keyFile).mode & 0o777).toBe(0o600)

  const status = run(['status', '--url', url, '--home', 'state'])
  expect([await status.exit, status.said.err]).toEqual([0, ''])
  expect(status.said.out).toContain('you are person:admin')

  writeFileSync(path.join(folder, 'sallyport.yaml'), 'agnts: {}\n')
  gateway.child.kill('SIGHUP')
  await gateway.until('err', /not reloaded, the policy of before stays:[\s\S]*did you mean `agents`/)
  const reload = run(['reload', '--url', url, '--home', 'state'])
  expect(await reload.exit).toBe(1)
  expect(reload.said.err).toMatch(/^sallyport: .*has a problem:\n {2}.*sallyport\.yaml:1:1: .*did you mean `agents`/)

  writeFileSync(path.join(folder, 'sallyport.yaml'), `${settings}# again\n`)
  gateway.child.kill('SIGHUP')
  await gateway.until('out', /reloaded: policy [0-9a-f]{12} from now on/)

  gateway.child.kill('SIGTERM')
  expect(await gateway.exit).toBe(0)
  expect(gateway.said.out + gateway.said.err + status.said.out).not.toContain(key)
})

test('what keeps it from starting is said in a line, with what to do', async () => {
  const empty = mkdtempSync(path.join(os.tmpdir(), 'sallyport-test-'))
  try {
    const lost = run(['start'], empty)
    expect(await lost.exit).toBe(1)
    expect(lost.said.err).toMatch(/^sallyport: no sallyport\.yaml in .*: `sallyport init` writes one/)
  } finally {
    rmSync(empty, { recursive: true })
  }
  const named = run(['start', '--config', 'other.yaml'])
  expect(await named.exit).toBe(1)
  expect(named.said.err).toMatch(/^sallyport: .*other\.yaml can’t be read \(ENOENT\)\n$/)
  writeFileSync(path.join(folder, 'sallyport.yaml'), 'agents: { reader: { may: [nowhere:x] } }\n')
  const broken = run(['start'])
  expect(await broken.exit).toBe(1)
  expect(broken.said.err).toContain('there is no resource `nowhere`')
  expect(broken.said.out).toBe('')
})
