import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { type JSONRPCMessage, parseJSONRPCMessage, type Transport } from '@modelcontextprotocol/client'
import { Failure } from '../../core/failure.ts'
import type { Json } from '../../core/json.ts'
import { printable } from '../../core/printable.ts'
import { randomToken } from '../../guard/digest.ts'
import { parseJson } from '../../guard/json.ts'
import { descendantsOf, killAll, markerName, markerValue } from './processes.ts'

export interface ProcessOptions {
  /** Program and arguments. No shell is involved. Arguments may hold secrets, so only the program is ever shown. */
  readonly command: readonly [program: string, ...args: string[]]
  /** The gateway's own variables, of which few are passed on; see `environmentFor`. */
  readonly ours: Readonly<Record<string, string | undefined>>
  /** Variables beyond those. */
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Longest line on stdout, in bytes. A longer one is thrown away and its call fails. 16 MiB unless said. */
  readonly maxLine?: number
  /** Bytes that may wait for a process that doesn't read; then sending fails. 16 MiB unless said. */
  readonly maxUnsent?: number
  /** What a process may write to stdout and stderr per second, beyond a burst of as much. Then it has to wait. */
  readonly bytesPerSecond?: number
  readonly messagesPerSecond?: number
  /** How long a process has to end after its stdin closed, and again after SIGTERM. 2 seconds each unless said. */
  readonly grace?: number
  /** Replaces secrets in what is shown of stderr. */
  readonly redact?: (text: string) => string
}

/** How a process ended, in words that may be shown. */
export interface Ending {
  /** Whether `close` was what ended it. */
  readonly wasAsked: boolean
  readonly reason: string
}

/**
 * An MCP server as a process of ours, over stdio, for the SDK's client: one life of one process. After it ended, make
 * another one; the connection that it belongs to says when.
 *
 * - It gets a minimal environment and no handle of ours besides its three pipes.
 * - It leads a session of its own. When it ends, or is closed, everything that it started is killed: its group; on
 *   Linux also those that left it, found by parentage, session and a variable in their environment. A descendant that
 *   wiped that variable, left the session and lost its parent is not found: that takes a sandbox.
 * - Should the gateway be killed, its stdin closes, at which MCP servers exit. Those that don't are ended by
 *   `killOrphans` when a gateway starts again. On Windows only the process itself is killed.
 * - Nothing that it writes is kept unbounded, or read faster than the limits: the pipe fills, and it waits.
 */
export class ProcessTransport implements Transport {
  onclose?: (() => void) | undefined
  onerror?: ((error: Error) => void) | undefined
  onmessage?: Transport['onmessage']

  /** Resolves when the process and all that it started are gone; at once if it could not be started. */
  readonly ended: Promise<Ending>

  readonly #options: ProcessOptions
  readonly #marker = markerValue(randomToken(''))
  readonly #stderr = new Tail(64 * 1024)
  #settle: (ending: Ending) => void = () => {}
  #child: ChildProcessByStdio<Writable, Readable, Readable> | undefined
  #state: 'new' | 'open' | 'closing' | 'closed' = 'new'

  constructor(options: ProcessOptions) {
    this.#options = options
    this.ended = new Promise((resolve) => (this.#settle = resolve))
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** The last 64 KiB that it wrote to stderr, redacted, safe to show. */
  get log(): string {
    const { redact = (text) => text } = this.#options
    return redact(this.#stderr.text())
      .split('\n')
      .map((line) => printable(line, { maxLength: 2_000 }))
      .join('\n')
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') throw new Failure('conflict', 'this process was started already')
    this.#state = 'open'
    const [program, ...args] = this.#options.command
    const env = { ...environmentFor(this.#options.ours), ...this.#options.env, [markerName]: this.#marker }
    const child = spawn(program, args, {
      env,
      ...(this.#options.cwd === undefined ? {} : { cwd: this.#options.cwd }),
      stdio: ['pipe', 'pipe', 'pipe'],
      shell: false,
      detached: process.platform !== 'win32', // Its own session and group, so that all of it can be killed.
      windowsHide: true,
    })
    this.#child = child
    const failed = await new Promise<Error | undefined>((resolve) => {
      child.once('spawn', () => resolve(undefined))
      child.once('error', resolve)
    })
    if (failed !== undefined) {
      const reason = `\`${printable(program, { maxLength: 80 })}\` could not be started: ${whyNot(failed)}`
      this.#finish({ wasAsked: false, reason })
      throw new Failure('unavailable', reason, { cause: failed })
    }
    this.#listen(child)
  }

  /** Resolves when the message is on its way, and there is room for the next. */
  async send(message: JSONRPCMessage): Promise<void> {
    const child = this.#child
    if (this.#state !== 'open' || child === undefined || !child.stdin.writable)
      throw new Failure('unavailable', 'the MCP server is not running')
    const { maxUnsent = 16 * 1024 * 1024 } = this.#options
    const line = `${JSON.stringify(message)}\n`
    if (child.stdin.writableLength > 0 && child.stdin.writableLength + line.length > maxUnsent)
      throw new Failure('unavailable', 'the MCP server does not read what is sent to it')
    if (child.stdin.write(line)) return
    await new Promise<void>((resolve) => {
      const done = (): void => {
        child.stdin.off('drain', done)
        child.stdin.off('close', done)
        resolve()
      }
      child.stdin.on('drain', done)
      child.stdin.on('close', done)
    })
  }

  /** Ends the process and all that it started: first politely, then not. Resolves when they are gone. Never throws. */
  async close(): Promise<void> {
    if (this.#state === 'new') this.#finish({ wasAsked: true, reason: 'it was never started' })
    if (this.#state === 'open') {
      this.#state = 'closing'
      await this.#end()
    }
    await this.ended
  }

  async #end(): Promise<void> {
    const child = this.#child
    if (child?.pid === undefined) return
    const { grace = 2_000 } = this.#options
    child.stdin.end()
    child.stdout.resume() // It may have to write before it can read that there is no more.
    if (await exitWithin(child, grace)) return
    signalGroup(child, 'SIGTERM')
    if (await exitWithin(child, grace)) return
    signalGroup(child, 'SIGKILL')
  }

  #listen(child: ChildProcessByStdio<Writable, Readable, Readable>): void {
    const { bytesPerSecond = 64 * 1024 * 1024, messagesPerSecond = 20_000, maxLine = 16 * 1024 * 1024 } = this.#options
    const lines = new Lines(maxLine)
    const bytes = new Allowance(bytesPerSecond)
    const messages = new Allowance(messagesPerSecond)

    child.stdin.on('error', () => {}) // It stopped reading. What follows from it is seen in its exit.
    child.stdout.on('error', () => {})
    child.stderr.on('error', () => {})
    child.stdout.on('data', (chunk: Buffer) => {
      const found = lines.add(chunk)
      for (const line of found) this.#receive(line)
      holdBack(child.stdout, Math.max(bytes.spend(chunk.length), messages.spend(found.length)))
    })
    child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr.add(chunk)
      holdBack(child.stderr, bytes.spend(chunk.length))
    })
    child.once('exit', (code, signal) => void this.#buried(child, code, signal))
  }

  #receive(line: Line): void {
    if (this.#state !== 'open') return
    if (line.kind === 'long') {
      this.#fail(idIn(line.head, line.tail), `it answered with more than ${line.limit} bytes`)
      return
    }
    if (line.bytes.length === 0) return
    let message: JSONRPCMessage
    try {
      message = parseJSONRPCMessage(
        parseJson(line.bytes, { maxBytes: line.bytes.length, maxDepth: 100, bigIntegers: 'round' }),
      )
    } catch (thrown) {
      // Programs print to stdout what belongs to stderr; it is no reason to end them.
      const why = thrown instanceof Failure ? thrown.message : 'the message is not JSON-RPC 2.0'
      const [head, tail] = endsOf(line.bytes)
      this.#fail(idIn(head, tail), `it wrote a line that can not be used: ${why}`)
      return
    }
    try {
      this.onmessage?.(message)
    } catch (thrown) {
      this.onerror?.(thrown instanceof Error ? thrown : new Error('a message could not be handled'))
    }
  }

  /** What can't be read answers the call that it was for, where that can be told: else the call would hang. */
  #fail(id: Json | undefined, why: string): void {
    this.onerror?.(new Failure('invalid', `the MCP server misbehaved: ${why}`))
    if (typeof id !== 'string' && typeof id !== 'number') return
    this.onmessage?.({
      jsonrpc: '2.0',
      id,
      error: { code: -32603, message: `the upstream's answer was refused: ${why}` },
    })
  }

  async #buried(child: ChildProcess, code: number | null, signal: NodeJS.Signals | null): Promise<void> {
    const wasAsked = this.#state !== 'open'
    await drained(child, 200) // Its last words may still be in the pipe.
    this.#state = 'closing'
    await killAll(() => descendantsOf(child.pid ?? 0, this.#marker))
    if (process.platform !== 'linux') signalGroup(child, 'SIGKILL')
    for (const pipe of child.stdio) pipe?.destroy()
    const how = signal === null ? `with exit code ${code}` : `by signal ${signal}`
    this.#finish({ wasAsked, reason: wasAsked ? 'it was stopped' : `it ended ${how}` })
  }

  #finish(ending: Ending): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#settle(ending)
    this.onclose?.()
  }
}

const passedOn = 'PATH HOME LANG LC_ALL LC_CTYPE LOGNAME SHELL TMPDIR TZ USER'.split(' ')
const passedOnByWindows =
  'APPDATA LOCALAPPDATA PATHEXT PROGRAMDATA PROGRAMFILES SYSTEMDRIVE SYSTEMROOT TEMP TMP USERNAME USERPROFILE WINDIR'.split(
    ' ',
  )

/** The few variables of ours that a program needs to run at all. None of them holds a secret. */
export function environmentFor(
  ours: Readonly<Record<string, string | undefined>>,
  platform: NodeJS.Platform = process.platform,
): Record<string, string> {
  const names = platform === 'win32' ? [...passedOn, ...passedOnByWindows] : passedOn
  const known = names.map((name): [string, string | undefined] => [name, ours[name]])
  // Bash ran what stands in a variable that looks like a function.
  return Object.fromEntries(known.filter((entry): entry is [string, string] => entry[1]?.startsWith('()') === false))
}

function whyNot(error: Error): string {
  const { code, syscall } = error as NodeJS.ErrnoException
  if (code === 'ENOENT')
    return 'there is no such program (or its working directory is missing); check `command`, `cwd` and PATH'
  if (code === 'EACCES') return 'it may not be executed'
  return `${code ?? 'unknown error'}${syscall === undefined ? '' : ` in ${syscall.split(' ')[0]}`}`
}

function exitWithin(child: ChildProcess, ms: number): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(true)
  return new Promise((resolve) => {
    const timer = setTimeout(() => done(false), ms)
    const done = (isOut: boolean): void => {
      clearTimeout(timer)
      child.off('exit', onExit)
      resolve(isOut)
    }
    const onExit = (): void => done(true)
    child.on('exit', onExit)
  })
}

/** Until the pipes are read to the end; a descendant that holds them open does not make us wait. */
function drained(child: ChildProcess, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    child.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (child.pid !== undefined && process.platform !== 'win32') process.kill(-child.pid, signal)
    else child.kill(signal)
  } catch {
    // Nobody is left.
  }
}

type Line =
  | { readonly kind: 'line'; readonly bytes: Buffer }
  | { readonly kind: 'long'; readonly limit: number; readonly head: string; readonly tail: string }

const endLength = 256
const newline = 0x0a

/** Cuts a stream into lines, keeping at most one line, and of one that is too long only its ends. */
class Lines {
  readonly #limit: number
  #parts: Buffer[] = []
  #length = 0
  #head = ''

  constructor(limit: number) {
    this.#limit = limit
  }

  add(chunk: Buffer): Line[] {
    const lines: Line[] = []
    let start = 0
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      this.#keep(chunk.subarray(start, end))
      lines.push(this.#take())
      start = end + 1
    }
    this.#keep(chunk.subarray(start))
    return lines
  }

  #keep(part: Buffer): void {
    if (part.length === 0) return
    this.#length += part.length
    this.#parts.push(part)
    if (this.#length <= this.#limit) return
    const kept = Buffer.concat(this.#parts)
    this.#head ||= kept.toString('latin1', 0, endLength)
    this.#parts = [Buffer.from(kept.subarray(-endLength))]
  }

  #take(): Line {
    const bytes = Buffer.concat(this.#parts)
    const isLong = this.#length > this.#limit
    const line: Line = isLong
      ? { kind: 'long', limit: this.#limit, head: this.#head, tail: endsOf(bytes)[1] }
      : { kind: 'line', bytes: bytes.at(-1) === 0x0d ? bytes.subarray(0, -1) : bytes }
    this.#parts = []
    this.#length = 0
    this.#head = ''
    return line
  }
}

const endsOf = (bytes: Buffer): [head: string, tail: string] => [
  bytes.toString('latin1', 0, endLength),
  bytes.subarray(-endLength).toString('latin1'),
]

/** The id of a response of which only the ends can be read. Servers write it first, or last. */
function idIn(head: string, tail: string): Json | undefined {
  const id =
    /^\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,15}|"[\w-]{1,64}")\s*,\s*"(?:result|error|jsonrpc)"/.exec(
      head,
    )?.[1] ?? /,\s*"id"\s*:\s*(\d{1,15}|"[\w-]{1,64}")\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$/.exec(tail)?.[1]
  return id === undefined ? undefined : (JSON.parse(id) as Json)
}

/** The end of a stream. */
class Tail {
  readonly #limit: number
  #parts: Buffer[] = []
  #length = 0
  #isCut = false

  constructor(limit: number) {
    this.#limit = limit
  }

  add(part: Buffer): void {
    this.#parts.push(part)
    this.#length += part.length
    if (this.#length <= 2 * this.#limit && this.#parts.length < 1_000) return
    const all = Buffer.concat(this.#parts)
    this.#isCut ||= all.length > this.#limit
    this.#parts = [Buffer.from(all.subarray(-this.#limit))]
    this.#length = this.#parts[0]?.length ?? 0
  }

  text(): string {
    const all = Buffer.concat(this.#parts)
    const kept = all.subarray(-this.#limit)
    const text = kept.toString('utf8')
    if (!this.#isCut && kept.length === all.length) return text
    // Half a secret is one that redaction doesn't know: so the cut line goes.
    const end = text.indexOf('\n')
    return `… (cut)\n${text.slice(end >= 0 ? end + 1 : 4_096)}`
  }
}

/** So many units a second, and a burst of as many. What is spent beyond it is paid with waiting. */
class Allowance {
  readonly #perSecond: number
  #left: number
  #at = performance.now()

  constructor(perSecond: number) {
    this.#perSecond = perSecond
    this.#left = perSecond
  }

  /** How many milliseconds to wait before spending more. */
  spend(units: number): number {
    const now = performance.now()
    this.#left = Math.min(this.#perSecond, this.#left + ((now - this.#at) / 1_000) * this.#perSecond) - units
    this.#at = now
    return this.#left >= 0 ? 0 : (-this.#left / this.#perSecond) * 1_000
  }
}

function holdBack(stream: Readable, ms: number): void {
  if (ms <= 0) return
  stream.pause()
  setTimeout(() => stream.resume(), Math.ceil(ms)).unref()
}
