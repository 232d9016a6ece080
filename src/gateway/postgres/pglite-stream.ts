import { Duplex } from 'node:stream'
import { Failure } from '../../core/failure.ts'
import { Crashed } from './pglite-engine.ts'
import {
  back,
  errorMessage,
  Frames,
  from,
  int32,
  message,
  parameterMessage,
  queryMessage,
  readyMessage,
  syncMessage,
} from './wire/frames.ts'

// One connection to an embedded database, as its client sees it: a stream of PostgreSQL's protocol.

/** Milliseconds. */
export interface Patience {
  /** That a transaction may lie idle while it keeps others waiting. */
  readonly idle: number
  /** That a connection waits for its turn. */
  readonly turn: number
  /** That a statement has to end by itself after it was cancelled, or its connection closed. */
  readonly grace: number
}

/** What a stream needs of the database that it leads to. */
export interface Served {
  readonly pid: number
  readonly patience: Patience
  /** Waits until the backend is this connection's own. Fails with `Crashed`, or a Failure where there is none. */
  turn(signal: AbortSignal): Promise<void>
  release(): void
  /** Settings may not be any more what they were. */
  reset(): void
  run(messages: Buffer, hear: (bytes: Buffer) => void): Promise<void>
  query(text: string): Promise<readonly (readonly (string | null)[])[]>
  crash(because: Crashed): void
  onCrash(end: (because: Crashed) => void): void
  /** The connection is over, and holds nothing any more. */
  left(): void
}

/** Bytes that one message may have. */
const mostMessage = 64_000_000
/** Bytes that may wait to be run. */
const mostWaiting = 128_000_000
const longestStartup = 10_000
/** Milliseconds for what is said last. */
const farewell = 2_000

interface Message {
  readonly type: number
  readonly bytes: Buffer
}

export class EmbeddedStream extends Duplex {
  private readonly served: Served
  private readonly frames = new Frames(() => mostMessage)
  private readonly answers = new Frames(() => Infinity)
  private readonly over = new AbortController()
  private inbox: Message[] = []
  private size = 0
  private greeting: Buffer | undefined = Buffer.alloc(0)
  /** As the server last said. */
  private status = 0x49
  /** Whether messages were run that no Sync has followed yet, and how often the server still has to say that it is ready. */
  private isOpen = false
  private owed = 0
  private hasLeft = false
  private isGreeted = false
  /** Whether everything up to the next Sync is left out. */
  private isSkipping = false
  private isPumping = false
  private isRunning = false
  /** The last statement without a name: it lives on until the next one, whoever has the backend meanwhile. */
  private unnamed: Buffer | undefined
  private holds = false
  private stopping: NodeJS.Timeout | undefined
  private resting: NodeJS.Timeout | undefined
  private waiting = new AbortController()

  constructor(served: Served) {
    super()
    this.served = served
    // Who was not let in yet has nothing that could be lost.
    served.onCrash((because) => {
      if (this.isGreeted || this.holds) this.fatal(because.sqlstate, because.message)
    })
  }

  // As a socket ------------------------------------------------------------------------------------------------------

  connect(): this {
    queueMicrotask(() => this.emit('connect'))
    return this
  }
  setNoDelay(): this {
    return this
  }
  setKeepAlive(): this {
    return this
  }
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }

  /** Stops what runs or waits. */
  cancel(): void {
    if (this.isRunning) this.stopSoon(new Crashed('57014', 'canceling statement due to user request'))
    else if (this.isPumping) this.waiting.abort()
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    try {
      this.receive(chunk)
      done()
    } catch (thrown) {
      done(thrown as Error)
    }
  }

  override _final(done: () => void): void {
    done()
    this.destroy()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.over.abort()
    this.waiting.abort()
    clearTimeout(this.resting)
    if (this.isRunning)
      this.stopSoon(new Crashed('57P02', 'a statement of a connection that was closed had to be stopped'))
    if (!this.isPumping) void this.leave()
    done(error)
  }

  // What comes in ----------------------------------------------------------------------------------------------------

  private receive(chunk: Buffer): void {
    const rest = this.greeting === undefined ? chunk : this.startup(chunk)
    if (rest === undefined) return
    this.frames.push(rest)
    while (this.frames.next()) {
      const { type, buffer, start, end } = this.frames
      if (type === from.terminate) return void this.destroy()
      const bytes = buffer.subarray(start, end)
      this.size += bytes.length
      this.inbox.push({ type, bytes })
    }
    if (this.size > mostWaiting) return this.fatal('54000', 'too much waits to be run')
    void this.pump()
  }

  /** The first message has no type. What it says does not count: whose connection this is was decided before. */
  private startup(chunk: Buffer): Buffer | undefined {
    const all = Buffer.concat([this.greeting ?? nothing, chunk])
    this.greeting = all
    if (all.length < 4) return undefined
    const length = all.readUInt32BE(0)
    if (length < 8 || length > longestStartup) throw new Failure('invalid', 'expected a startup message')
    if (all.length < length) return undefined
    this.greeting = undefined
    this.inbox.push({ type: 0, bytes: nothing })
    return all.subarray(length)
  }

  // What is run ------------------------------------------------------------------------------------------------------

  private async pump(): Promise<void> {
    if (this.isPumping) return
    this.isPumping = true
    clearTimeout(this.resting)
    try {
      while (this.inbox.length > 0 && !this.over.signal.aborted) {
        if (this.isSkipping) this.skip()
        else await this.step()
      }
    } catch (thrown) {
      const { sqlstate = 'XX000', message: text } = thrown as Partial<Crashed> & Error
      this.fatal(thrown instanceof Failure ? '57P03' : sqlstate, text)
    } finally {
      this.isPumping = false
      if (this.over.signal.aborted) await this.leave()
      else if (this.holds) this.rest()
    }
  }

  private async step(): Promise<void> {
    this.waiting = new AbortController()
    if (!this.holds) {
      try {
        await this.served.turn(this.waiting.signal)
      } catch (thrown) {
        if (!(thrown instanceof Crashed) || this.over.signal.aborted || this.inbox[0]?.type === 0) throw thrown
        this.refuse(thrown)
        return
      }
      this.holds = true
      if (this.over.signal.aborted) return
      if (this.unnamed !== undefined) await this.again(this.unnamed)
    }
    if (this.inbox[0]?.type === 0) {
      this.shift()
      await this.greet()
    } else await this.runNext()
    if (this.isAtRest()) {
      this.holds = false
      this.served.release()
    }
  }

  /** Runs all that has come, up to where the server says that it is ready: there it is another one's turn. */
  private async runNext(): Promise<void> {
    const batch: Buffer[] = []
    while (this.inbox.length > 0) {
      const { type, bytes } = this.shift()
      batch.push(bytes)
      this.isOpen = type !== from.query && type !== from.sync
      if (type === from.query) this.unnamed = undefined
      else if (type === from.parse && bytes[5] === 0) this.unnamed = bytes
      if (this.isOpen) continue
      this.owed += 1
      break
    }
    this.isRunning = true
    try {
      await this.served.run(Buffer.concat(batch), (bytes) => this.hear(bytes))
    } finally {
      this.isRunning = false
      clearTimeout(this.stopping)
      this.stopping = undefined
    }
  }

  /** Only whole messages are handed on: whatever happens next, something can be said behind them. */
  private hear(bytes: Buffer): void {
    this.answers.push(bytes)
    let [first, last] = [-1, 0]
    let whole: Buffer = nothing
    while (this.answers.next()) {
      const { type, buffer, start, end } = this.answers
      if (type === back.readyForQuery) {
        this.status = buffer[end - 1] as number
        this.owed = Math.max(0, this.owed - 1)
      } else if (
        type === back.commandComplete &&
        /^(?:RESET|SET|DISCARD)\b/.test(buffer.toString('latin1', start + 5, start + 13))
      )
        this.served.reset()
      whole = buffer
      first = first < 0 ? start : first
      last = end
    }
    if (first >= 0 && !this.over.signal.aborted) this.push(whole.subarray(first, last))
  }

  private shift(): Message {
    const first = this.inbox.shift() as Message
    this.size -= first.bytes.length
    return first
  }

  /** What nobody waits for any more: the statement without a name, made anew. Where that fails, whoever uses it is told. */
  private async again(parse: Buffer): Promise<void> {
    await this.served.run(Buffer.concat([parse, syncMessage]), () => {})
  }

  /** As a server that lets somebody in. */
  private async greet(): Promise<void> {
    const names = reported.map((each) => `('${each}')`).join(', ')
    const settings = await this.served.query(
      `select name, current_setting(name) from (values ${names}) as reported (name)
       union all select 'session_authorization', session_user::text`,
    )
    this.push(
      Buffer.concat([
        message(0x52, int32(0)),
        ...settings.map(([name, value]) => parameterMessage(name ?? '', value ?? '')),
        message(0x4b, int32(this.served.pid), int32(0)),
        readyMessage(0x49),
      ]),
    )
    this.isGreeted = true
  }

  /** Answers what could not get its turn, as if it had failed. */
  private refuse(because: Crashed): void {
    this.push(errorMessage({ sqlstate: because.sqlstate, message: because.message }))
    const { type } = this.shift()
    if (type === from.query || type === from.sync) this.push(readyMessage(0x49))
    else this.isSkipping = true
  }

  /** Leaves out one message. */
  private skip(): void {
    if (this.shift().type !== from.sync) return
    this.isSkipping = false
    this.push(readyMessage(0x49))
  }

  /** Whether nothing of this connection is under way in the backend. */
  private isAtRest(): boolean {
    return this.status === 0x49 && !this.isOpen && this.owed === 0
  }

  /** Nothing runs, and others wait. */
  private rest(): void {
    clearTimeout(this.resting)
    this.resting = setTimeout(
      () => this.fatal('25P03', 'terminating connection due to idle-in-transaction timeout'),
      this.served.patience.idle,
    )
    this.resting.unref()
  }

  private stopSoon(because: Crashed): void {
    this.stopping ??= setTimeout(() => {
      if (this.isRunning) this.served.crash(because)
    }, this.served.patience.grace)
  }

  // The end ----------------------------------------------------------------------------------------------------------

  private fatal(sqlstate: string, text: string): void {
    if (this.over.signal.aborted || this.destroyed) return
    this.push(errorMessage({ sqlstate, message: text }, 'FATAL'))
    this.push(null)
    this.over.abort()
    if (!this.isPumping) void this.leave()
    // What is said last goes out before.
    const late = setTimeout(() => this.destroy(), farewell)
    late.unref()
    this.once('end', () => this.destroy())
  }

  /** Leaves the backend as it has to be for whoever comes next. */
  private async leave(): Promise<void> {
    if (this.hasLeft) return
    this.hasLeft = true
    const { holds } = this
    this.holds = false
    try {
      if (holds && !this.isAtRest())
        await this.served.run(Buffer.concat([syncMessage, queryMessage('rollback')]), () => {})
    } catch {
      // It ended, and everything with it.
    } finally {
      this.served.left()
    }
  }
}

const nothing = Buffer.alloc(0)

/** What a server tells of itself when it lets somebody in. */
const reported = [
  'server_version',
  'server_encoding',
  'client_encoding',
  'is_superuser',
  'application_name',
  'DateStyle',
  'IntervalStyle',
  'TimeZone',
  'integer_datetimes',
  'standard_conforming_strings',
  'default_transaction_read_only',
  'search_path',
]
