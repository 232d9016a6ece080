// The real thing, whole: configuration on disk, both listeners, the store and the audit log, in a folder of its own.
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { IssuedKey, StartedSession, StartSession, Status } from '../../src/control/wire.ts'
import type { Approval } from '../../src/core/approval.ts'
import type { AuditEvent } from '../../src/core/audit.ts'
import { eventFields } from '../../src/core/event.ts'
import type { EventType } from '../../src/core/event.ts'
import { start } from '../../src/main.ts'
import type { StartOptions } from '../../src/main.ts'
import { listSegments, parseLine, readLines } from '../../src/stores/audit/folder.ts'
import { publicKeyFile, readPublicKey } from '../../src/stores/audit/key.ts'
import { verifyLog } from '../../src/stores/audit/verify.ts'
import type { Report } from '../../src/stores/audit/verify.ts'
import { ask } from './mcp.ts'
import type { Asking, Received } from './mcp.ts'

const cli = fileURLToPath(new URL('../../src/cli/sallyport.ts', import.meta.url))

export interface Options {
  /** An object, without `listen` and `state`, and with the approver `anna`; or the text of the file, in which `$STATE` is the state folder. */
  readonly settings: object | string
  readonly env?: Readonly<Record<string, string>>
  /** In this process (quick, and failures are seen), or in one of its own (can be killed, and is told by signals). */
  readonly as?: 'function' | 'process'
  /** One of before: a restart. */
  readonly folder?: string
  readonly state?: string
  readonly time?: StartOptions['time']
  /** Of the process: `--max-old-space-size=…`. */
  readonly nodeArgs?: readonly string[]
}

export interface Answered<T> {
  readonly status: number
  readonly body: T
  readonly text: string
}

export interface Holder {
  readonly id: string
  readonly token: string
}

export type Sallyport = Awaited<ReturnType<typeof startSallyport>>

const folders: string[] = []
/** Removes what the gateways of a test file left on the disk. */
export function removeFolders(): void {
  for (const folder of folders.splice(0)) fs.rmSync(folder, { recursive: true, force: true })
}

export function newFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-e2e-'))
  folders.push(folder)
  return folder
}

export async function startSallyport(options: Options) {
  const { settings, env = {}, as = 'function', folder = newFolder(), time, nodeArgs = [] } = options
  const file = path.join(folder, 'sallyport.yaml')
  const state = options.state ?? path.join(folder, 'state')
  const lines: string[] = []
  const listen = { agents: '127.0.0.1:0', people: '127.0.0.1:0' }
  const write = (given: object | string): void =>
    fs.writeFileSync(
      file,
      typeof given === 'string'
        ? given.replaceAll('$STATE', state)
        : JSON.stringify({ listen, state, people: { anna: { roles: ['approver'] } }, ...given }),
    )
  write(settings)

  const whole = { PATH: process.env['PATH'] ?? '', HOME: folder, ...env }
  let stop: () => Promise<void>
  let child: ChildProcess | undefined
  let urls: { readonly agents: string; readonly people: string }
  if (as === 'function') {
    const log = (line: string): void => void lines.push(line)
    const running = await start({ file, env: whole, log, ...(time === undefined ? {} : { time }) })
    const { agents, people } = running.status()
    urls = { agents: agents.url, people: people.url }
    stop = () => running.close()
  } else {
    const started = await startProcess(file, whole, lines, nodeArgs)
    child = started.child
    urls = started
    stop = () => end('SIGTERM')
  }
  async function end(signal: NodeJS.Signals): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const over = once(child, 'exit')
    child.kill(signal)
    await over
  }

  let annaKey: Promise<string> | undefined
  const adminKey = fs.readFileSync(path.join(state, 'admin.key'), 'utf8').trim()

  async function people<T = unknown>(method: string, at: string, body?: object, key = adminKey): Promise<Answered<T>> {
    const response = await fetch(urls.people + at, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, body: JSON.parse(text) as T, text }
  }

  async function admin<T = unknown>(method: string, at: string, body?: object): Promise<T> {
    const { status, body: answer, text } = await people<T>(method, at, body)
    if (status !== 200) throw new Error(`${method} ${at}: ${status} ${text}`)
    return answer
  }

  const url = `${urls.agents}/mcp`

  return {
    folder,
    file,
    state,
    url,
    agentsUrl: urls.agents,
    peopleUrl: urls.people,
    adminKey,
    /** What was told to the operator: the log, or both outputs of the process. */
    lines,
    child,
    write,
    people,
    admin,
    async session(agent: string, more: Partial<StartSession> = {}): Promise<Holder> {
      const { session, token } = await admin<StartedSession>('POST', '/v1/sessions', {
        agent,
        behalf: 'customer-7',
        ...more,
      })
      return { id: session.id, token }
    },
    /** A request of the modern protocol. */
    ask: (
      token: string,
      method: string,
      params: Record<string, unknown> = {},
      asking: Asking = {},
    ): Promise<Received> => ask({ url, token }, method, params, asking),
    call: (token: string, name: string, args: object = {}, asking: Asking = {}): Promise<Received> =>
      ask({ url, token }, 'tools/call', { name, arguments: args }, asking),
    status: () => admin<Status>('GET', '/v1/status'),
    approvals: async (query = ''): Promise<readonly Approval[]> =>
      (await admin<{ approvals: readonly Approval[] }>('GET', `/v1/approvals${query}`)).approvals,
    /** As `anna`: who started a session may not answer its questions. */
    async approve(id: string): Promise<void> {
      annaKey ??= admin<IssuedKey>('POST', '/v1/keys', { holder: 'person:anna' }).then(({ text }) => text)
      const { status, text } = await people('POST', `/v1/approvals/${id}/answer`, { verdict: 'approve' }, await annaKey)
      if (status !== 200) throw new Error(`approving ${id}: ${status} ${text}`)
    },
    events: () => eventsIn(state),
    verify: () => verifyIn(state),
    /** Runs a command of the command line on this gateway. */
    cli: (...args: string[]) => runCli(args, { folder, state, people: urls.people }),
    stop: () => stop(),
    kill: () => end('SIGKILL'),
  }
}

const everywhere = ['id', 'type', 'at', 'capped']

/** Every event on the disk, read without the product running. Fails for a field that `docs/events.md` does not tell of. */
export async function eventsIn(state: string): Promise<readonly AuditEvent[]> {
  const events: AuditEvent[] = []
  for (const segment of await listSegments(path.join(state, 'audit')))
    for await (const lines of readLines(segment))
      for (const { bytes } of lines) {
        const event = parseLine(bytes)
        if (event === undefined) continue
        const listed: readonly string[] = eventFields[event.type as EventType]
        const odd = Object.keys(event).find((field) => !everywhere.includes(field) && !listed.includes(field))
        if (odd !== undefined)
          throw new Error(`${event.type} has a field \`${odd}\` that src/core/event.ts does not list`)
        events.push(event)
      }
  return events
}

export const verifyIn = (state: string): Promise<Report> =>
  verifyLog({ dir: path.join(state, 'audit'), key: readPublicKey(publicKeyFile(path.join(state, 'audit.key'))) })

async function startProcess(file: string, env: NodeJS.ProcessEnv, lines: string[], nodeArgs: readonly string[]) {
  const child = spawn(process.execPath, [...nodeArgs, cli, 'start', file], {
    env,
    cwd: path.dirname(file),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let out = ''
  const heard = new Promise<void>((resolve, reject) => {
    const hear = (data: string): void => {
      out += data
      for (let end = out.indexOf('\n'); end >= 0; end = out.indexOf('\n')) {
        lines.push(out.slice(0, end))
        out = out.slice(end + 1)
      }
      if (lines.some((line) => line.startsWith('Next, '))) resolve()
    }
    child.stdout.setEncoding('utf8').on('data', hear)
    child.stderr.setEncoding('utf8').on('data', (data: string) => lines.push(...data.split('\n').filter(Boolean)))
    child.once('exit', (code) => reject(new Error(`it ended with ${code}:\n${lines.join('\n')}`)))
  })
  await heard
  const at = (what: RegExp): string =>
    lines.map((line) => what.exec(line)?.[1]).find((found) => found !== undefined) ?? ''
  return { child, agents: at(/^ {2}agents +(\S+)\/mcp/), people: at(/^ {2}people +(\S+)/) }
}

/** The address and the key come as a person would set them once. */
async function runCli(
  args: readonly string[],
  { folder, state, people }: { folder: string; state: string; people: string },
) {
  const child = spawn(process.execPath, [cli, ...args], {
    env: { PATH: process.env['PATH'] ?? '', HOME: folder, SALLYPORT_URL: people, SALLYPORT_HOME: state },
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 20_000,
  })
  let [out, err] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

/** Resolves when it holds; fails, saying what was waited for, when it takes longer than `within` milliseconds. */
export async function until<T>(what: string, look: () => T | Promise<T>, within = 10_000): Promise<NonNullable<T>> {
  for (const end = performance.now() + within; ; await new Promise((resolve) => setTimeout(resolve, 10))) {
    const seen = await look()
    if (seen !== undefined && seen !== null && seen !== false) return seen
    if (performance.now() > end) throw new Error(`it did not come about within ${within} ms: ${what}`)
  }
}
