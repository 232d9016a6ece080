import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { Action } from '../../../core/action.ts'
import { Failure } from '../../../core/failure.ts'
import type { Json, JsonObject } from '../../../core/json.ts'
import type { Guard, Hold } from '../../../guard/guard.ts'
import type { Masker } from '../../../guard/mask.ts'
import type { Database } from '../../../postgres/description.ts'
import { declaredType } from '../../../postgres/parameter-types.ts'
import type { Refused, Statement, Verdict } from '../../../postgres/verdict.ts'
import { asksOf } from '../action.ts'
import { requiredSettings } from '../connect.ts'
import type { Backend } from '../connect.ts'
import type { Live } from '../server.ts'
import {
  complaintOfFailure,
  complaintOfRefusal,
  inParts,
  notRun,
  skippedOver,
  tooLarge,
  tooMany,
} from './complaints.ts'
import {
  back,
  errorMessage,
  flushMessage,
  Frames,
  from,
  int16,
  int32,
  message,
  noticeMessage,
  parseMessage,
  ProtocolViolation,
  queryMessage,
  readBind,
  readExecute,
  readFields,
  readNamed,
  readParameterDescription,
  readParameterStatus,
  readParse,
  readQuery,
  readyMessage,
  said,
  syncMessage,
} from './frames.ts'
import type { Complaint } from './frames.ts'
import { begin, Running } from './running.ts'
import type { End } from './running.ts'
import type { May } from '../seen.ts'
import { missing, mostOf, refusedStep, stepOf } from './step.ts'
import type { Act, Step } from './step.ts'
import { parametersOf } from './values.ts'

// One connection, once its client is known: messages go through in order, and none of them before it is decided.
//
// A statement that may not run is replaced by text that is none. The server then refuses it itself, and keeps the state
// of the transaction, the order of answers and what is skipped after an error; only its words are changed.
//
// INVARIANT: what a name stands for is known for certain where something is decided by it. Names of prepared statements,
// portals and cursors are kept until the server has said that they are gone, and are waited for where it has not yet said
// that they are there.

export interface RelayPorts {
  readonly client: Duplex
  readonly backend: Backend
  readonly session: string
  readonly live: Pick<Live, 'resource' | 'impact' | 'checker' | 'seen'>
  readonly guard: Pick<Guard, 'run' | 'visible' | 'explain'>
  readonly mask: Pick<Masker, 'text' | 'bytes'>
  /** How long a statement waits for people, in milliseconds. */
  readonly hold: number
  readonly limits: RelayLimits
  readonly report: (thrown: unknown) => void
}

export interface RelayLimits {
  /** Milliseconds that a connection may do nothing, outside of a transaction and within one. */
  readonly idle: number
  readonly idleInTransaction: number
  /** Milliseconds that a client may leave what it is sent unread. */
  readonly stalled: number
}

/** What a connection did, for the record of its end. */
export interface Totals extends JsonObject {
  readonly statements: number
  /** Of these, those that needed no permission. */
  readonly free: number
  readonly refused: number
  readonly rows: number
  readonly bytes: number
}

export interface Relay {
  /** Resolves when the connection is over, with why. */
  readonly over: Promise<string>
  /** Whether nothing is under way. */
  isIdle(): boolean
  /** Looks after limits of time. Called on a timer. */
  tick(): void
  /** Stops what is under way, as the client asked. */
  cancel(): void
  /** Ends it, with these words for the client. */
  end(complaint: Complaint | undefined, because: string): void
  totals(): Totals
}

/** Names that one connection may keep, and bytes of all that is kept with them. */
const mostKept = { statements: 2_000, portals: 500, bytes: 8_000_000 }
/** Messages on their way whose answer has not come. */
const mostExpected = 4_000
/** Bytes that a client may send ahead. */
const mostAhead = 1_000_000
/** Bytes that one message of parameters may have. */
const mostBound = 4_000_000
/** Bytes of a message of the server beside rows. */
const mostSaidByServer = 1_000_000
/** Milliseconds that a statement has to end after it was told to. */
const grace = 2_000
/** How often people are asked anew about one statement that touches more rows each time. */
const mostAsked = 3

/** Milliseconds for which what a session may know is not looked up again. */
const seenFor = 1_000

const status = { idle: 0x49, inTransaction: 0x54, failed: 0x45 } as const

/** A prepared statement, of the protocol or of SQL. */
interface Prepared {
  readonly name: string
  readonly text: string
  /** Absent for a text with nothing in it. */
  readonly statement: Statement | undefined
  /** Whether the text that the server has is not the one that the client sent. */
  readonly isTurned: boolean
  types: readonly number[]
  readonly segment: number
  readonly size: number
  isConfirmed: boolean
  isClosing: boolean
}

/** A prepared statement with its parameters, or a cursor of SQL. */
interface Portal {
  readonly name: string
  /** Absent for a cursor. */
  readonly prepared: Prepared | undefined
  readonly parameters: readonly Json[]
  /** The message that made it, where it may have to be made again. */
  readonly bind: Buffer | undefined
  readonly segment: number
  readonly number: number
  readonly size: number
  isConfirmed: boolean
  isClosing: boolean
  /** How often it was run without the answer being there. */
  inFlight: number
  running: Running | undefined
}

type Kind = 'query' | 'parse' | 'bind' | 'describe' | 'execute' | 'close' | 'sync'

/** Something that the server was sent, and that it will answer. */
interface Entry {
  readonly kind: Kind
  readonly number: number
  /** Its answers are for the gateway alone. */
  readonly isOwn: boolean
  /** What is said in place of the server's error. */
  readonly complaint: Complaint | undefined
  readonly prepared: Prepared | undefined
  readonly portal: Portal | undefined
  /** One for each statement. */
  readonly runs: readonly Running[]
  readonly isTurned: boolean
  at: number
  /** What comes back is kept here until it is known whether it may go out. */
  held: Buffer[] | undefined
  readonly over: ((answer: Answer) => void) | undefined
  error: Complaint | undefined
  count: number
  isSuspended: boolean
  /** The client was told of an error that the server does not know of. */
  isFaked: boolean
}

interface Answer {
  readonly error?: Complaint
  /** It was never run, because of an error before it. */
  readonly isSkipped: boolean
  readonly count: number
  readonly isSuspended: boolean
  readonly held: readonly Buffer[]
}

type NewEntry = Partial<
  Pick<Entry, 'isOwn' | 'complaint' | 'prepared' | 'portal' | 'runs' | 'isTurned' | 'held' | 'over'>
>

/** Statements that make or end what has a name: what comes behind waits until they are done. */
const naming: ReadonlySet<string> = new Set([
  'prepare',
  'execute',
  'deallocate',
  'declare',
  'fetch',
  'close',
  'discard',
])

export function startRelay(ports: RelayPorts): Relay {
  return new Connection(ports)
}

class Connection implements Relay {
  readonly over: Promise<string>
  private readonly ports: RelayPorts
  private readonly server: Duplex
  private readonly may: May

  private readonly incoming: Buffer[] = []
  private ahead = 0
  private readonly fromClient: Frames
  private readonly fromServer: Frames
  private out: Buffer[] = []
  private isBusy = false
  private isPaused = false

  private queue: Entry[] = []
  private first = 0
  private current: Running | undefined
  private numbered = 0
  private readonly waiting: (() => void)[] = []
  /** Whether something was sent that the server answers only when it is told to. */
  private isUnflushed = false

  private status: number = status.idle
  /** Where the client is between two Syncs. */
  private segment = 0
  /** Statements that were run since the last Sync: a transaction that is not called one. */
  private executed = 0
  /** After an error, the server passes over everything until a Sync. */
  private isIgnoring = false

  private readonly statements = new Map<string, Prepared>()
  private readonly portals = new Map<string, Portal>()
  private kept = 0

  private caller = new AbortController()
  private isHolding = false
  private cancelling: Promise<void> | undefined
  private isEnded = false
  private readonly resolveOver: (because: string) => void
  private readonly sums = { statements: 0, free: 0, refused: 0, rows: 0, bytes: 0 }

  private described: Database | undefined
  private describedAt = 0
  private lastActive = performance.now()
  private watched: Running | undefined
  private watchedSince = 0
  private stalledSince: number | undefined

  constructor(ports: RelayPorts) {
    this.ports = ports
    const { session, guard, live, backend, client } = ports
    this.may = (permission, effect) => guard.visible(session, permission, effect)
    const { most } = live.resource.database
    const longest = most.statement + 10_000
    this.fromClient = new Frames((type) =>
      type === from.bind ? mostBound : type === from.copyData ? mostAhead : longest,
    )
    this.fromServer = new Frames((type) => (type === back.dataRow ? most.bytes + 10_000 : mostSaidByServer))
    let resolveOver: (because: string) => void = () => {}
    this.over = new Promise((resolve) => (resolveOver = resolve))
    this.resolveOver = resolveOver

    this.server = backend.take()
    this.server.on('data', (chunk: Buffer) => this.guarded(() => this.onServer(chunk)))
    this.server.on('drain', () => this.resumeClient())
    this.server.resume()
    const lost = (): void =>
      this.end({ sqlstate: '57P01', message: 'the connection to the database was lost' }, 'the database ended it')
    if (backend.ended.aborted) queueMicrotask(lost)
    else backend.ended.addEventListener('abort', lost, { once: true })
    client.on('data', (chunk: Buffer) => {
      this.incoming.push(chunk)
      this.ahead += chunk.length
      this.guarded(() => this.pump())
      this.boundAhead()
    })
    const left = (): void => this.end(undefined, 'the client left')
    client.on('end', left)
    client.on('close', left)
    client.on('error', left)
    client.on('drain', () => {
      this.stalledSince = undefined
      this.server.resume()
    })
    client.resume()
  }

  isIdle(): boolean {
    return !this.isBusy && this.isSettled()
  }

  totals(): Totals {
    return { ...this.sums }
  }

  // Life ---------------------------------------------------------------------------------------------------------------

  tick(): void {
    if (this.isEnded) return
    const now = performance.now()
    const { limits, live } = this.ports
    const running = this.current
    if (running !== this.watched) {
      this.watched = running
      this.watchedSince = now
    } else if (running !== undefined && !running.isOver && running.cut === undefined) {
      const { time } = live.resource.database.most
      if (now - this.watchedSince > time)
        this.cutOff(running, {
          sqlstate: '57014',
          message: `the statement was stopped: it took longer than ${time} ms, the most that one may take here`,
        })
    }
    if (this.stalledSince !== undefined && now - this.stalledSince > limits.stalled)
      return this.end(undefined, 'the client does not read what it asked for')
    if (!this.isIdle()) {
      this.lastActive = now
      return
    }
    const isWithin = this.status !== status.idle || this.executed > 0
    if (now - this.lastActive <= (isWithin ? limits.idleInTransaction : limits.idle)) return
    this.end(
      isWithin
        ? { sqlstate: '25P03', message: 'the transaction was left open for too long' }
        : { sqlstate: '57P05', message: 'nothing was asked for too long' },
      isWithin ? 'idle in a transaction' : 'idle',
    )
  }

  cancel(): void {
    if (this.isHolding) {
      const before = this.caller
      this.caller = new AbortController()
      before.abort(canceled)
    } else if (!this.isSettled()) this.stopServer()
  }

  end(complaint: Complaint | undefined, because: string): void {
    if (this.isEnded) return
    this.isEnded = true
    const { client, backend } = this.ports
    client.removeAllListeners('data')
    client.on('error', () => {})
    if (complaint === undefined || !client.writable) client.destroy()
    else {
      client.resume()
      client.end(errorMessage(complaint, 'FATAL'), () => client.destroy())
      setTimeout(() => client.destroy(), grace).unref()
    }
    this.caller.abort(new Failure('cancelled', 'the connection is over'))
    const isIdle = this.isSettled() && this.status === status.idle
    const gone = { error: { sqlstate: '57P01', message: because } }
    for (const { runs } of this.queue.slice(this.first)) for (const running of runs) running.end(gone)
    for (const { running } of this.portals.values()) running?.end(gone)
    const stopped = isIdle || backend.ended.aborted ? Promise.resolve() : backend.cancel().catch(() => {})
    const closed = stopped.then(() => backend.close())
    closed.then(
      () => this.resolveOver(because),
      () => this.resolveOver(because),
    )
  }

  /** Whatever goes wrong here ends this connection, and no other. */
  private guarded(work: () => void): void {
    if (this.isEnded) return
    try {
      work()
    } catch (thrown) {
      this.failed(thrown)
    }
  }

  private failed(thrown: unknown): void {
    if (thrown instanceof ProtocolViolation)
      return this.end(
        { sqlstate: thrown.sqlstate, message: thrown.message },
        `it broke the protocol: ${thrown.message}`,
      )
    const failure = Failure.from(thrown)
    if (failure.code === 'internal') this.ports.report(thrown)
    this.end(
      { sqlstate: failure.code === 'unavailable' ? '57P03' : 'XX000', message: failure.message },
      failure.message,
    )
  }

  // From the client ------------------------------------------------------------------------------------------------------

  private pump(): void {
    while (!this.isBusy && !this.isEnded) {
      const { cancelling } = this
      if (cancelling !== undefined) return this.later(cancelling)
      if (this.expected() >= mostExpected) return this.later(this.drain())
      if (!this.fromClient.next()) {
        const chunk = this.incoming.shift()
        if (chunk === undefined) break
        this.ahead -= chunk.length
        this.fromClient.push(chunk)
        continue
      }
      this.lastActive = performance.now()
      const work = this.take()
      if (work !== undefined) return this.later(work)
    }
    this.send()
    if (this.ahead <= mostAhead / 2 && !this.isPaused && !this.isEnded) this.ports.client.resume()
  }

  /**
   * Who sends too much ahead is not read on. While people are waited for, that would hide that the client has left, so
   * there it is the end.
   */
  private boundAhead(): void {
    if (this.ahead <= mostAhead || this.isEnded) return
    if (!this.isHolding) return void this.ports.client.pause()
    const text = 'too much was sent behind a statement that waits for approval'
    this.end({ sqlstate: '54000', message: text }, text)
  }

  private later(work: Promise<void>): void {
    this.isBusy = true
    work.then(
      () => {
        this.isBusy = false
        this.guarded(() => this.pump())
      },
      (thrown: unknown) => {
        if (!this.isEnded) this.failed(thrown)
      },
    )
  }

  /** Deals with one message. What it returns is waited for before the next. */
  private take(): Promise<void> | undefined {
    const { buffer, type, start, end } = this.fromClient
    switch (type) {
      case from.sync:
        if (end - start !== 5) throw new ProtocolViolation('invalid message format')
        this.sync(syncMessage)
        return undefined
      case from.terminate:
        return this.terminate()
      case from.copyData:
      case from.copyDone:
      case from.copyFail:
        // What comes outside of a COPY is passed over, and there is none here (54.2.6).
        return undefined
      case from.flush:
        if (this.isUnflushed && !this.isIgnoring) this.flush()
        return undefined
    }
    if (!isKnownType(type)) throw new ProtocolViolation(`invalid frontend message type ${type}`)
    if (this.isIgnoring) return undefined
    try {
      return this.ask(buffer, type, start, end)
    } catch (thrown) {
      if (!(thrown instanceof ProtocolViolation)) throw thrown
      this.poison(type === from.query, { sqlstate: thrown.sqlstate, message: thrown.message })
      return undefined
    }
  }

  private ask(buffer: Buffer, type: number, start: number, end: number): Promise<void> | undefined {
    switch (type) {
      case from.query:
        return this.onQuery(buffer, start, end)
      case from.parse:
        return this.onParse(buffer, start, end)
      case from.bind:
        return this.onBind(buffer, start, end)
      case from.execute:
        return this.onExecute(buffer, start, end)
      case from.describe:
        return this.onDescribe(buffer, start, end)
      case from.close:
        return this.onClose(buffer, start, end)
      default:
        return this.onFunctionCall()
    }
  }

  /** What was sent before still happens. */
  private async terminate(): Promise<void> {
    this.flush()
    const late = setTimeout(() => this.end(undefined, 'the client left'), 5_000)
    await this.drain()
    clearTimeout(late)
    this.end(undefined, 'the client left')
  }

  private known(text: string): Verdict | undefined {
    return this.ports.live.checker.known(text, this.seen())
  }

  private checked(text: string): Promise<Verdict> {
    const { session, live } = this.ports
    return live.checker.check(text, this.seen(), { caller: session })
  }

  /** What this session may know of the database. Whatever is run is decided afresh; names may be a moment old. */
  private seen(): Database {
    const now = performance.now()
    if (this.described === undefined || now - this.describedAt > seenFor) {
      this.described = this.ports.live.seen(this.may)
      this.describedAt = now
    }
    return this.described
  }

  // Simple queries

  private onQuery(buffer: Buffer, start: number, end: number): Promise<void> | undefined {
    const text = readQuery(buffer, start, end)
    const frame = buffer.subarray(start, end)
    const verdict = this.known(text)
    if (verdict === undefined) return this.checked(text).then((found) => this.query(text, frame, found))
    // What needs no decision needs no waiting either.
    if (verdict.kind === 'understood') {
      const [statement, ...more] = verdict.statements
      if (more.length === 0 && (statement === undefined || this.isFree(statement))) {
        const runs = statement === undefined ? [] : [this.free(statement)]
        this.pushQuery(
          verdict.text === undefined ? frame : queryMessage(verdict.text),
          runs,
          verdict.text !== undefined,
        )
        return undefined
      }
    }
    return this.query(text, frame, verdict)
  }

  private async query(text: string, frame: Buffer, verdict: Verdict): Promise<void> {
    if (verdict.kind === 'refused') return this.refuse(true, this.refusedOf(text, verdict))
    const { statements } = verdict
    if (statements.some(({ command }) => naming.has(command))) await this.drain()
    const steps = this.stepsOf(statements, text)
    const refused = steps.find((step) => step.kind === 'refused')
    if (refused !== undefined) return this.refuse(true, refused)
    const turned = verdict.text === undefined ? frame : queryMessage(verdict.text)
    const isTurned = verdict.text !== undefined
    const [only] = steps
    if (steps.length === 1 && only?.kind === 'act') return this.queryOne(turned, isTurned, only)

    const acts = steps.filter((step) => step.kind === 'act')
    const denied = await this.permitAll(acts)
    if (!(denied instanceof Map)) return this.poison(true, denied)
    const runs = steps.map((step) =>
      step.kind === 'act' ? (denied.get(step) ?? this.free()) : step.kind === 'free' ? this.freeOf(step) : this.free(),
    )
    await this.answered((over) => this.pushQuery(turned, runs, isTurned, { over }))
  }

  private async queryOne(frame: Buffer, isTurned: boolean, step: Act): Promise<void> {
    let act = step
    for (let asked = 0; ; asked++) {
      const running = await this.permit(act, true)
      if (!(running instanceof Running)) return this.poison(true, running)
      this.named(step.statement, step.text, running)
      const touched = this.mostTouchedBy(act, running)
      if (touched === undefined) {
        if (naming.has(step.statement.command))
          await this.answered((over) => this.pushQuery(frame, [running], isTurned, { over }))
        else this.pushQuery(frame, [running], isTurned)
        return
      }
      await this.drain()
      if (this.isIgnoring) return running.end({ error: skippedOver })
      const count = await this.boundedQuery(frame, isTurned, act, running, touched)
      if (count === undefined) return
      const again = this.askedAnew(step, count)
      if (again === undefined || asked >= mostAsked || this.status !== status.idle)
        return this.poison(true, tooMany(count, touched))
      act = again
    }
  }

  /** Runs a statement so that it can be undone. Returns how many rows it touched, where it was. */
  private async boundedQuery(
    frame: Buffer,
    isTurned: boolean,
    act: Act,
    running: Running,
    most: number,
  ): Promise<number | undefined> {
    const isWrapped = this.status === status.idle
    if (isWrapped) {
      const { error } = await this.own('begin')
      if (error !== undefined) {
        running.end({ error })
        this.poison(true, error)
        return undefined
      }
    }
    running.isKept = true
    const { count, error, held } = await this.answered((over) =>
      this.pushQuery(frame, [running], isTurned, { held: [], over }),
    )
    let failure = error
    if (error === undefined && count > most) {
      failure = tooMany(count, most)
      running.end({ error: failure })
      if (isWrapped) {
        await this.own('rollback')
        return count
      }
      // In a transaction of the client's own, all of it has failed: what was done can't be told apart any more.
      await this.own(this.noText())
      this.tell([errorMessage(failure)])
    } else if (isWrapped) {
      const ended = await this.own(error === undefined ? 'commit' : 'rollback')
      if (error === undefined && ended.error !== undefined) failure = ended.error
      if (error === undefined && ended.error !== undefined) this.tell([errorMessage(ended.error)])
      else this.tell(held)
    } else this.tell(held)
    running.end(failure === undefined ? { tag: `${act.statement.command} ${count}` } : { error: failure })
    this.tell([readyMessage(this.status)])
    return undefined
  }

  /** All of a text, or nothing. */
  private async permitAll(acts: readonly Act[]): Promise<Map<Act, Running> | Complaint> {
    const { guard } = this.ports
    for (const act of acts) {
      const { kind } = guard.explain(act.action)
      if (act.bound !== undefined || kind === 'ask')
        return this.refused(act.action, 'sql:0A000', {
          sqlstate: '42501',
          message: 'this text holds a statement that people may have to be asked about',
          hint: 'Send that statement alone.',
        })
      if (kind === 'deny') {
        const running = await this.permit(act, false)
        if (!(running instanceof Running)) return running
        running.end({ error: notRun })
      }
    }
    const permitted = new Map<Act, Running>()
    for (const act of acts) {
      const running = await this.permit(act, false)
      if (!(running instanceof Running)) {
        for (const each of permitted.values()) each.end({ error: notRun })
        return running
      }
      this.named(act.statement, act.text, running)
      permitted.set(act, running)
    }
    return permitted
  }

  private onFunctionCall(): Promise<void> {
    const complaint = { sqlstate: '0A000', message: 'functions are called in statements here, not on their own' }
    const { sqlstate, message: because } = complaint
    return this.refuse(true, this.refusedOf('', { kind: 'refused', sqlstate, because }))
  }

  private refusedOf(
    text: string,
    refused: Refused,
    parameters: readonly Json[] = [],
  ): Extract<Step, { kind: 'refused' }> {
    const { session, live } = this.ports
    const more = { seen: this.seen(), ...(parameters.length === 0 ? {} : { parameters }) }
    return refusedStep(session, live.resource, text, refused, more)
  }

  // Prepared statements

  private onParse(buffer: Buffer, start: number, end: number): Promise<void> | undefined {
    const parsed = readParse(buffer, start, end)
    const frame = buffer.subarray(start, end)
    const verdict = this.known(parsed.text)
    if (verdict !== undefined && !this.isTaken(parsed.name)) return this.parse(parsed, frame, verdict)
    return this.parseLater(parsed, frame, verdict)
  }

  private async parseLater(
    parsed: ReturnType<typeof readParse>,
    frame: Buffer,
    known: Verdict | undefined,
  ): Promise<void> {
    const verdict = known ?? (await this.checked(parsed.text))
    const before = this.statements.get(parsed.name)
    if (parsed.name !== '' && before !== undefined && (!before.isConfirmed || before.isClosing)) await this.drain()
    if (this.isTaken(parsed.name))
      return this.poison(false, { sqlstate: '42P05', message: 'a prepared statement of this name is there already' })
    await this.parse(parsed, frame, verdict)
  }

  private isTaken(name: string): boolean {
    return name !== '' && this.statements.has(name)
  }

  private parse(
    { name, text, types }: ReturnType<typeof readParse>,
    frame: Buffer,
    verdict: Verdict,
  ): Promise<void> | undefined {
    const { session, live } = this.ports
    const { resource } = live
    if (verdict.kind === 'refused') return this.refuse(false, this.refusedOf(text, verdict))
    const [statement, ...more] = verdict.statements
    if (more.length > 0)
      return this.refuseHere(false, {
        sqlstate: '42601',
        message: 'cannot insert multiple commands into a prepared statement',
      })
    // Describing would tell what the columns of a table are that is not there for this session.
    if (statement !== undefined && missing(resource, this.may, statement.uses)?.sqlstate === '42P01') {
      const step = stepOf(session, resource, this.may, statement, text, [])
      if (step.kind === 'refused') return this.refuse(false, step)
    }
    const size = text.length + 200
    if (name !== '' && (this.statements.size >= mostKept.statements || this.kept + size > mostKept.bytes))
      return this.refuseHere(false, {
        sqlstate: '53400',
        message: `a connection keeps ${mostKept.statements} prepared statements at most: close some first`,
      })
    const isTurned = verdict.text !== undefined
    const prepared: Prepared = {
      name,
      text,
      statement,
      isTurned,
      types,
      segment: this.segment,
      size,
      isConfirmed: false,
      isClosing: false,
    }
    this.forgetStatement(this.statements.get(name))
    const declared = types.map(declaredType)
    const isSame = verdict.text === undefined && declared.every((type, at) => type === types[at])
    const sent = isSame
      ? frame
      : message(from.parse, name, verdict.text ?? text, int16(types.length), ...declared.map(int32))
    this.statements.set(name, prepared)
    this.kept += size
    this.push('parse', sent, { prepared, isTurned })
    return undefined
  }

  private onBind(buffer: Buffer, start: number, end: number): Promise<void> | undefined {
    const bound = readBind(buffer, start, end)
    const prepared = this.statements.get(bound.statement)
    const frame = buffer.subarray(start, end)
    const isSure =
      (prepared === undefined || this.isSure(prepared)) && (bound.portal === '' || !this.portals.has(bound.portal))
    if (!isSure) return this.drain().then(() => this.bind(bound, frame))
    this.bind(bound, frame)
    return undefined
  }

  private bind(bound: ReturnType<typeof readBind>, frame: Buffer): void {
    const prepared = this.statements.get(bound.statement)
    if (prepared === undefined)
      return this.poison(false, {
        sqlstate: '26000',
        message:
          bound.statement === ''
            ? 'unnamed prepared statement does not exist'
            : 'a prepared statement of this name does not exist',
      })
    if (bound.portal !== '' && this.portals.has(bound.portal))
      return this.poison(false, { sqlstate: '42P03', message: 'a cursor of this name is there already' })
    const isWrite = prepared.statement?.uses.some(({ verb }) => verb !== 'select') === true
    const size = frame.length + 200
    if (bound.portal !== '' && (this.portals.size >= mostKept.portals || this.kept + size > mostKept.bytes))
      return this.poison(false, {
        sqlstate: '53400',
        message: `a connection keeps ${mostKept.portals} portals at most: close some first`,
      })
    const portal: Portal = {
      name: bound.portal,
      prepared,
      parameters: parametersOf(bound, prepared.types),
      bind: isWrite ? Buffer.from(frame) : undefined,
      segment: this.segment,
      number: this.numbered,
      size,
      isConfirmed: false,
      isClosing: false,
      inFlight: 0,
      running: undefined,
    }
    this.forgetPortal(this.portals.get(bound.portal), { tag: 'replaced' })
    this.portals.set(bound.portal, portal)
    this.kept += size
    this.push('bind', frame, { portal })
  }

  /** Whether what is known of something is what the server has, or nothing of it would be run. */
  private isSure({ isConfirmed, isClosing, segment }: Prepared | Portal): boolean {
    return (isConfirmed || segment === this.segment) && !isClosing
  }

  private onDescribe(buffer: Buffer, start: number, end: number): undefined {
    const { isStatement, name } = readNamed(buffer, start, end)
    const prepared = isStatement ? this.statements.get(name) : undefined
    this.push('describe', buffer.subarray(start, end), prepared === undefined ? {} : { prepared })
    return undefined
  }

  private onClose(buffer: Buffer, start: number, end: number): undefined {
    const { isStatement, name } = readNamed(buffer, start, end)
    const prepared = isStatement ? this.statements.get(name) : undefined
    const portal = isStatement ? undefined : this.portals.get(name)
    if (prepared !== undefined) prepared.isClosing = true
    if (portal !== undefined) portal.isClosing = true
    this.push('close', buffer.subarray(start, end), {
      ...(prepared === undefined ? {} : { prepared }),
      ...(portal === undefined ? {} : { portal }),
    })
    return undefined
  }

  private onExecute(buffer: Buffer, start: number, end: number): Promise<void> | undefined {
    const { portal: name } = readExecute(buffer, start, end)
    const frame = buffer.subarray(start, end)
    const portal = this.portals.get(name)
    if (portal !== undefined && (!this.isSure(portal) || portal.inFlight > 0))
      return this.drain().then(() => this.execute(this.portals.get(name), frame))
    return this.execute(portal, frame)
  }

  private execute(portal: Portal | undefined, frame: Buffer): Promise<void> | undefined {
    const prepared = portal?.prepared
    if (portal === undefined || prepared === undefined)
      return this.refuseHere(false, { sqlstate: '34000', message: 'a portal of this name does not exist' })
    const { statement } = prepared
    const isTurned = prepared.isTurned
    // It is read on, or there is nothing more to be read: what was allowed once is not run a second time.
    if (portal.running !== undefined || statement === undefined) {
      const running = portal.running?.isOver === false ? portal.running : this.free()
      this.pushExecute(frame, portal, running, isTurned)
      return undefined
    }
    if (this.isFree(statement)) {
      const running = this.free(statement)
      portal.running = running
      this.pushExecute(frame, portal, running, isTurned)
      return undefined
    }
    return this.executeOne(portal, prepared, statement, frame)
  }

  private async executeOne(portal: Portal, prepared: Prepared, statement: Statement, frame: Buffer): Promise<void> {
    const isNaming = naming.has(statement.command)
    if (isNaming) await this.drain()
    if (this.isIgnoring) return
    const [step] = this.stepsOf([statement], prepared.text, portal.parameters)
    if (step === undefined) return
    if (step.kind === 'refused') return this.refuse(false, step)
    const { isTurned } = prepared
    if (step.kind === 'free') {
      const running = this.freeOf(step)
      portal.running = running
      await this.answered((over) => this.pushExecute(frame, portal, running, isTurned, { over }), true)
      return
    }
    let act: Act = step
    for (let asked = 0; ; asked++) {
      const running = await this.permit(act, true)
      if (!(running instanceof Running)) return this.poison(false, running)
      // What the server had of it went with the transaction that was undone.
      if (asked > 0) this.push('bind', portal.bind ?? frame, { isOwn: true })
      this.named(statement, prepared.text, running)
      portal.running = running
      const touched = this.mostTouchedBy(act, running)
      if (touched === undefined) {
        const send = (over?: (answer: Answer) => void): void =>
          this.pushExecute(frame, portal, running, isTurned, over === undefined ? {} : { over })
        // What comes behind a change waits for it: where it has to be undone, nothing else has happened since.
        if (act.isWrite || isNaming) await this.answered(send, true)
        else send()
        return
      }
      const isFirst = this.executed === 0
      await this.drain()
      const isAlone = this.status === status.idle && isFirst
      const count = await this.boundedExecute(frame, portal, isTurned, act, running, { touched, isAlone })
      if (count === undefined) return
      const again = this.askedAnew(step, count)
      if (again === undefined || asked >= mostAsked) return this.poison(false, tooMany(count, touched))
      act = again
      portal.running = undefined
    }
  }

  /** Runs a statement, and makes its transaction fail where it touches too much. Returns how much, where it can be run anew. */
  private async boundedExecute(
    frame: Buffer,
    portal: Portal,
    isTurned: boolean,
    act: Act,
    running: Running,
    { touched: most, isAlone }: { readonly touched: number; readonly isAlone: boolean },
  ): Promise<number | undefined> {
    running.isKept = true
    const { count, error, isSkipped, isSuspended, held } = await this.answered(
      (over) => this.pushExecute(frame, portal, running, isTurned, { held: [], over }),
      true,
    )
    if (isSkipped) return undefined
    if (error !== undefined) {
      running.end({ error })
      this.tell(held)
      return undefined
    }
    // How much it touched is told at the end of its result alone.
    if (isSuspended) {
      running.end({ error: inParts })
      this.poison(false, inParts)
      return undefined
    }
    if (count <= most) {
      running.end({ tag: `${act.statement.command} ${count}` })
      this.tell(held)
      return undefined
    }
    const complaint = tooMany(count, most)
    running.end({ error: complaint })
    if (!isAlone) {
      this.poison(false, complaint)
      return undefined
    }
    const word = this.noText()
    await this.answered((over) => this.push('parse', parseMessage(word, word), { isOwn: true, over }), true)
    await this.answered((over) => this.sync(syncMessage, { isOwn: true, over }))
    return count
  }

  // Deciding -------------------------------------------------------------------------------------------------------------

  /** What is to be done about each, in the order in which they run: the first that may not is the last. */
  private stepsOf(statements: readonly Statement[], text: string, parameters: readonly Json[] = []): readonly Step[] {
    const made = new Map<string, { readonly statement: Statement; readonly text: string } | undefined>()
    const steps: Step[] = []
    for (const statement of statements) {
      const own = statements.length === 1 ? text : partOf(text, statement)
      const step = this.stepFor(statement, own, parameters, made)
      steps.push(step)
      if (step.kind === 'refused') break
      if (statement.name !== undefined && statement.command === 'prepare')
        made.set(statement.name, { statement: { ...statement, command: innerCommand(own) }, text: own })
      if (statement.command === 'deallocate' && statement.name !== undefined) made.set(statement.name, undefined)
    }
    return steps
  }

  private stepFor(
    statement: Statement,
    text: string,
    parameters: readonly Json[],
    made: ReadonlyMap<string, { readonly statement: Statement; readonly text: string } | undefined>,
  ): Step {
    const { session, live } = this.ports
    const { resource } = live
    const { command, name = '' } = statement
    const refuse = (sqlstate: string, because: string): Step =>
      this.refusedOf(text, { kind: 'refused', sqlstate, because }, parameters)
    if (command === 'prepare') {
      // What it does is decided when it is run. Until then it must not tell of tables that are not there.
      const complaint = missing(resource, this.may, statement.uses)
      if (complaint?.sqlstate === '42P01') return stepOf(session, resource, this.may, statement, text, parameters)
      if (made.get(name) !== undefined || (this.statements.has(name) && !made.has(name)))
        return refuse('42P05', 'a prepared statement of this name is there already')
      if (this.statements.size >= mostKept.statements || this.kept + text.length > mostKept.bytes)
        return refuse('53400', `a connection keeps ${mostKept.statements} prepared statements at most`)
      return { kind: 'free', statement, text, most: mostOf(resource, { uses: [] }) }
    }
    if (command === 'execute') {
      const found = made.has(name) ? made.get(name) : this.statements.get(name)
      const inner = found?.statement
      if (found === undefined || inner === undefined)
        return refuse('26000', 'a prepared statement of this name does not exist')
      const run = { ...inner, uses: [...inner.uses, ...statement.uses] }
      if (!['select', 'insert', 'update', 'delete'].includes(inner.command))
        return refuse('0A000', 'EXECUTE runs SELECT, INSERT, UPDATE and DELETE here')
      return stepOf(session, resource, this.may, run, `${found.text}; ${text}`, parameters)
    }
    if (command === 'fetch' && this.portals.get(name)?.prepared !== undefined)
      return refuse('34000', 'a cursor of this name does not exist')
    if (command === 'declare' && this.portals.has(name))
      return refuse('42P03', 'a cursor of this name is there already')
    return stepOf(session, resource, this.may, statement, text, parameters)
  }

  private isFree({ uses, command }: Statement): boolean {
    return uses.length === 0 && !naming.has(command)
  }

  private free(statement?: Statement): Running {
    this.sums.statements += 1
    this.sums.free += 1
    return new Running(mostOf(this.ports.live.resource, statement ?? { uses: [] }), false)
  }

  /** A statement that needs no permission. A cursor was allowed when it was declared. */
  private freeOf({ statement, text, most }: Extract<Step, { kind: 'free' }>): Running {
    this.sums.statements += 1
    this.sums.free += 1
    if (statement.command === 'fetch') {
      const cursor = this.portals.get(statement.name ?? '')?.running
      if (cursor !== undefined && !cursor.isOver) return cursor
    }
    const running = new Running(most, false)
    this.named(statement, text, running)
    return running
  }

  /** What a statement does to names, once it has been done. */
  private named(statement: Statement, text: string, running: Running): void {
    const { command, name } = statement
    if (command === 'prepare' && name !== undefined) running.effect = () => this.prepared(name, text, statement)
    else if (command === 'deallocate')
      running.effect = () =>
        name === undefined ? this.forgetStatements() : this.forgetStatement(this.statements.get(name))
    else if (command === 'declare' && name !== undefined) {
      running.isKept = true
      running.effect = (cursor) => this.declared(name, cursor)
    } else if (command === 'close')
      running.effect = () => {
        if (name !== undefined) return this.forgetPortal(this.portals.get(name), { tag: 'closed' })
        for (const portal of this.portals.values())
          if (portal.prepared === undefined) this.forgetPortal(portal, { tag: 'closed' })
      }
  }

  private prepared(name: string, text: string, statement: Statement): void {
    const size = text.length + 200
    this.statements.set(name, {
      name,
      text,
      statement: { ...statement, command: innerCommand(text) },
      isTurned: false,
      types: [],
      segment: this.segment,
      size,
      isConfirmed: true,
      isClosing: false,
    })
    this.kept += size
  }

  private declared(name: string, running: Running): void {
    this.portals.set(name, {
      name,
      prepared: undefined,
      parameters: [],
      bind: undefined,
      segment: this.segment,
      number: this.numbered,
      size: 200,
      isConfirmed: true,
      isClosing: false,
      inFlight: 0,
      running,
    })
    this.kept += 200
  }

  private forgetStatement(prepared: Prepared | undefined): void {
    if (prepared === undefined || this.statements.get(prepared.name) !== prepared) return
    this.statements.delete(prepared.name)
    this.kept -= prepared.size
  }

  private forgetStatements(): void {
    for (const prepared of this.statements.values()) if (prepared.name !== '') this.forgetStatement(prepared)
  }

  private forgetPortal(portal: Portal | undefined, end: End): void {
    if (portal === undefined || this.portals.get(portal.name) !== portal) return
    this.portals.delete(portal.name)
    this.kept -= portal.size
    if (portal.inFlight === 0) portal.running?.end(end)
  }

  /**
   * Takes one statement through the guard. Where people would have to be asked while a transaction is open, it is refused:
   * its locks would be held for as long as they think.
   */
  private async permit(step: Act, isAlone: boolean): Promise<Running | Complaint> {
    const { guard, hold, session, live } = this.ports
    let most = isAlone ? hold : 0
    if (!isAlone || this.isOpen() || this.status !== status.idle || this.executed > 0) {
      most = 0
      if (guard.explain(step.action).kind === 'ask') {
        await this.drain()
        if (!isAlone || this.status !== status.idle || this.executed > 0)
          return this.refused(step.action, 'sql:25001', {
            sqlstate: '42501',
            message: 'people have to be asked about this, which is not done while a transaction is open',
            hint: 'End the transaction, and run this statement alone in autocommit.',
          })
        most = hold
      }
    }
    const { caller } = this
    const wait: Hold = {
      most,
      waiting: (approval) => {
        this.isHolding = true
        this.send()
        this.boundAhead()
        this.tell([
          noticeMessage(
            `waiting for approval ${approval.id}: ${this.ports.mask.text(approval.because)}`,
            'The statement goes on, or is refused, once people have answered.',
          ),
        ])
        return () => (this.isHolding = false)
      },
      ...(step.isWrite
        ? {
            evidence: (cut) =>
              live.impact(
                session,
                {
                  statement: step.statement,
                  text: step.text,
                  parameters: step.parameters,
                  ...(step.touched === undefined ? {} : { touched: step.touched }),
                },
                cut,
              ),
          }
        : {}),
    }
    const { secrets } = live.resource
    const given = { most: step.most, isWrite: step.isWrite, secrets }
    const begun = await begin(guard, step.action, given, wait, caller.signal, (running, because) =>
      this.mustStop(running, because),
    )
    this.sums.statements += 1
    if (begun instanceof Running) return begun
    this.sums.refused += 1
    return 'refusal' in begun ? complaintOfRefusal(begun.refusal) : complaintOfFailure(begun.failure)
  }

  /** How many rows a statement may touch, where that is bounded. */
  private mostTouchedBy({ bound, action, isWrite, statement }: Act, { permit }: Running): number | undefined {
    if (!isWrite || statement.changesWithin) return undefined
    const evidence = permit?.evidence
    if (evidence === undefined) return action.asks === undefined ? bound?.rows : undefined
    return typeof evidence['rows'] === 'number' ? evidence['rows'] : undefined
  }

  /** The same statement, about which people are asked because of how much it touches. */
  private askedAnew(step: Act, touched: number): Act | undefined {
    const use = step.bound?.use ?? step.statement.uses.find(({ verb }) => verb !== 'select')
    if (use === undefined) return undefined
    const asks = asksOf(this.ports.live.resource, use, `it touches ${touched} rows`)
    return { ...step, touched, action: { ...step.action, asks } }
  }

  /** Writes down a refusal. */
  private async refused(action: Action, rule: string, complaint: Complaint): Promise<Complaint> {
    const step = { ...action, refused: { rule, because: complaint.message } }
    await this.record(step)
    return complaint
  }

  private async refuse(isQuery: boolean, { action, complaint }: Extract<Step, { kind: 'refused' }>): Promise<void> {
    await this.record(action)
    this.poison(isQuery, complaint)
  }

  private async record(action: Action): Promise<void> {
    this.sums.statements += 1
    this.sums.refused += 1
    const perform = (): Promise<never> => Promise.reject(new Failure('forbidden', 'it was refused'))
    await this.ports.guard.run(action, perform, { most: 0 }, this.caller.signal)
  }

  /** What the guard allowed must not go on. */
  private mustStop(running: Running, because: unknown): void {
    if (running.isOver || this.isEnded) return
    const { message: text } = Failure.from(because)
    this.cutOff(running, { sqlstate: '57014', message: text })
  }

  // To the server ----------------------------------------------------------------------------------------------------------

  /** Text that is no statement: nobody can make a server understand it. */
  private noText(): string {
    return `refused_${randomBytes(12).toString('hex')}`
  }

  /** Makes the server refuse what stands here, in the words of policy. */
  private poison(isQuery: boolean, complaint: Complaint): void {
    const text = this.noText()
    if (isQuery) this.pushQuery(queryMessage(text), [], false, { complaint })
    // A name, so that the client's unnamed statement stays what it is.
    else this.push('parse', parseMessage(text, text), { complaint })
  }

  private refuseHere(isQuery: boolean, complaint: Complaint): undefined {
    this.poison(isQuery, complaint)
    return undefined
  }

  private pushQuery(frame: Buffer, runs: readonly Running[], isTurned: boolean, more: NewEntry = {}): void {
    this.forgetStatement(this.statements.get(''))
    this.push('query', frame, { runs, isTurned, ...more })
    this.executed = 0
  }

  private pushExecute(frame: Buffer, portal: Portal, running: Running, isTurned: boolean, more: NewEntry = {}): void {
    this.executed += 1
    portal.inFlight += 1
    this.push('execute', frame, { runs: [running], portal, isTurned, ...more })
  }

  private sync(frame: Buffer, more: NewEntry = {}): void {
    this.isIgnoring = false
    this.push('sync', frame, more)
    this.segment += 1
    this.executed = 0
  }

  private push(kind: Kind, frame: Buffer, more: NewEntry): void {
    this.numbered += 1
    const entry: Entry = {
      kind,
      number: this.numbered,
      isOwn: more.isOwn ?? false,
      complaint: more.complaint,
      prepared: more.prepared,
      portal: more.portal,
      runs: more.runs ?? none,
      isTurned: more.isTurned ?? false,
      at: 0,
      held: more.held,
      over: more.over,
      error: undefined,
      count: 0,
      isSuspended: false,
      isFaked: false,
    }
    // An error came while this was being decided.
    if (this.isIgnoring) return this.skip(entry)
    this.out.push(frame)
    this.queue.push(entry)
    this.isUnflushed = kind !== 'query' && kind !== 'sync'
    if (this.queue.length - this.first === 1) this.turn()
  }

  /** Runs a statement of the gateway's own, of which the client learns nothing. */
  private own(text: string): Promise<Answer> {
    return this.answered((over) =>
      this.push('query', queryMessage(text), { isOwn: true, over, runs: [new Running(unbounded, false)] }),
    )
  }

  /** Sends something and waits until the server has answered all of it. */
  private answered(push: (over: (answer: Answer) => void) => void, needsFlush = false): Promise<Answer> {
    return new Promise((resolve) => {
      push(resolve)
      if (needsFlush) this.flush()
      else this.send()
    })
  }

  private flush(): void {
    if (this.isUnflushed && !this.isIgnoring) {
      this.out.push(flushMessage)
      this.isUnflushed = false
    }
    this.send()
  }

  private send(): void {
    if (this.out.length === 0) return
    const [only] = this.out
    const bytes = this.out.length === 1 && only !== undefined ? only : Buffer.concat(this.out)
    this.out = []
    if (!this.server.writable) return
    if (!this.server.write(bytes) && !this.isPaused) {
      this.isPaused = true
      this.ports.client.pause()
    }
  }

  private resumeClient(): void {
    this.isPaused = false
    if (this.ahead <= mostAhead && !this.isEnded) this.ports.client.resume()
  }

  /** Until the server has answered everything. */
  private drain(): Promise<void> {
    this.flush()
    if (this.isSettled()) return Promise.resolve()
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  private isSettled(): boolean {
    return this.queue.length === this.first
  }

  /** Whether an answer is to come that may tell of a transaction. */
  private isOpen(): boolean {
    for (let at = this.first; at < this.queue.length; at++) {
      const kind = this.queue[at]?.kind
      if (kind === 'query' || kind === 'execute' || kind === 'sync') return true
    }
    return false
  }

  private expected(): number {
    return this.queue.length - this.first
  }

  /** Stops what the server does now. Nothing new is sent before it is known to have been told: it could be hit instead. */
  private stopServer(): void {
    if (this.cancelling !== undefined) return
    const cancelling = this.ports.backend
      .cancel()
      .catch(() => {})
      .then(() => {
        this.cancelling = undefined
      })
    this.cancelling = cancelling
  }

  /** Lets nothing more of a result out. */
  private cutOff(running: Running, complaint: Complaint): void {
    if (running.cut !== undefined) return
    running.cut = complaint
    this.stopServer()
    setTimeout(() => {
      if (this.current === running && !running.isOver)
        this.end(
          { sqlstate: '57P01', message: 'a statement did not stop when it was told to' },
          'a statement did not stop',
        )
    }, grace).unref()
  }

  // From the server --------------------------------------------------------------------------------------------------------

  private onServer(chunk: Buffer): void {
    const { fromServer: frames } = this
    frames.push(chunk)
    const whole = frames.buffer
    let from = -1
    let to = -1
    let hasRows = false
    const pass = (): void => {
      if (from >= 0) this.pass(whole.subarray(from, to), hasRows)
      from = -1
      hasRows = false
    }
    const { client } = this.ports
    client.cork()
    while (!this.isEnded && frames.next()) {
      const { buffer, type, start, end } = frames
      if (type === back.dataRow) {
        const running = this.current
        if (running === undefined) throw unexpected()
        if (running.cut === undefined) {
          running.rows += 1
          running.bytes += end - start - 5
          this.sums.rows += 1
          this.sums.bytes += end - start - 5
          const { most } = running
          if (running.rows > most.rows || running.bytes > most.bytes) {
            pass()
            this.cutOff(running, tooLarge(most, running))
          } else {
            if (from < 0) from = start
            to = end
            hasRows = true
          }
        }
        continue
      }
      const mayPass = this.hears(type, buffer, start, end, pass)
      if (mayPass) {
        if (from < 0) from = start
        to = end
      }
      if (this.next) {
        this.next = false
        // What is held of one statement is not mixed with what goes out of another.
        if (this.queue[this.first]?.held !== undefined || this.queue[this.first + 1]?.held !== undefined) pass()
        this.shift()
      }
    }
    pass()
    client.uncork()
    this.current?.report()
    if (this.isSettled()) this.wake()
  }
  private next = false

  private wake(): void {
    for (const wake of this.waiting.splice(0)) wake()
  }

  /** Takes note of a message of the server. Returns whether it goes on to the client as it is. */
  private hears(type: number, buffer: Buffer, start: number, end: number, pass: () => void): boolean {
    const entry = this.queue[this.first]
    const isOut = entry !== undefined && !entry.isOwn && !entry.isFaked
    switch (type) {
      case back.parseComplete:
        if (entry?.kind !== 'parse') break
        if (entry.prepared !== undefined) entry.prepared.isConfirmed = true
        this.next = true
        return isOut
      case back.bindComplete:
        if (entry?.kind !== 'bind') break
        if (entry.portal !== undefined) entry.portal.isConfirmed = true
        this.next = true
        return isOut
      case back.closeComplete:
        if (entry?.kind !== 'close') break
        this.forgetStatement(entry.prepared)
        this.forgetPortal(entry.portal, { tag: 'closed' })
        this.next = true
        return isOut
      case back.parameterDescription:
        if (entry?.kind !== 'describe') break
        if (entry.prepared !== undefined) entry.prepared.types = readParameterDescription(buffer, start, end)
        return isOut
      case back.rowDescription:
      case back.noData:
        if (entry?.kind === 'describe') this.next = true
        else if (entry?.kind !== 'query') break
        return isOut && this.current?.cut === undefined
      case back.commandComplete:
      case back.emptyQuery:
      case back.portalSuspended:
        return this.completes(type, buffer, start, end, pass)
      case back.error:
        pass()
        this.fails(readFields(buffer, start, end))
        return false
      case back.readyForQuery:
        if (entry?.kind !== 'query' && entry?.kind !== 'sync') break
        return this.isReady(entry, buffer[start + 5] as number)
      case back.notice: {
        const fields = readFields(buffer, start, end)
        pass()
        if (entry?.isOwn !== true) this.tell([this.ownWords(back.notice, fields, entry?.isTurned ?? false)])
        return false
      }
      case back.notification:
        return false
      case back.parameterStatus: {
        const [name, value] = readParameterStatus(buffer, start, end)
        const expected = Object.hasOwn(requiredSettings, name) ? requiredSettings[name] : undefined
        if (expected !== undefined && value !== expected)
          throw new ProtocolViolation(`the setting ${name} must not be changed`, '22023')
        return name !== 'session_authorization'
      }
    }
    throw unexpected()
  }

  private completes(type: number, buffer: Buffer, start: number, end: number, pass: () => void): boolean {
    const entry = this.queue[this.first]
    if (entry === undefined || (entry.kind !== 'query' && entry.kind !== 'execute')) throw unexpected()
    const running = entry.runs[entry.at]
    const tag = type === back.commandComplete ? buffer.toString('latin1', start + 5, Math.min(end - 1, start + 69)) : ''
    if (type === back.commandComplete) entry.count = countIn(tag)
    entry.isSuspended = type === back.portalSuspended
    const cut = running?.cut
    if (running !== undefined && type !== back.portalSuspended) {
      const { effect } = running
      running.effect = undefined
      // Also where its result did not go out: it happened.
      effect?.(running)
      if (cut !== undefined) running.end({ error: cut })
      else if (!running.isKept) running.end({ tag })
    }
    // It can't be read on.
    if (entry.isSuspended && entry.portal !== undefined && this.portals.get(entry.portal.name) !== entry.portal)
      running?.end({ tag: 'replaced' })
    if (entry.kind === 'execute') this.next = true
    else {
      entry.at += 1
      this.turn()
    }
    if (cut === undefined) return !entry.isOwn && !entry.isFaked
    pass()
    this.fake(entry, cut)
    return false
  }

  /** The client is told of an error where the server saw none. */
  private fake(entry: Entry, complaint: Complaint): void {
    entry.error ??= complaint
    if (!entry.isFaked) this.tell([errorMessage(complaint)])
    hush(entry, complaint)
    if (entry.kind !== 'execute') return
    // What was sent behind it is not heard of any more. What comes is not sent.
    for (const behind of this.queue.slice(this.first + 1)) {
      hush(behind, complaint)
      if (behind.kind === 'sync') return
    }
    if (this.isIgnoring) return
    const word = this.noText()
    this.push('parse', parseMessage(word, word), { isOwn: true })
    this.isIgnoring = true
    this.flushAnyway()
  }

  private flushAnyway(): void {
    this.out.push(flushMessage)
    this.isUnflushed = false
    this.send()
  }

  private fails(fields: ReadonlyMap<string, string>): void {
    const entry = this.queue[this.first]
    const severity = fields.get('V') ?? fields.get('S') ?? 'ERROR'
    const given = this.complaintOf(fields, entry?.isTurned ?? false)
    if (entry === undefined || severity === 'FATAL' || severity === 'PANIC')
      return this.end(given, `the database ended it: ${given.sqlstate}`)
    const running = entry.runs[entry.at]
    const complaint = entry.complaint ?? running?.cut ?? given
    if (running !== undefined) {
      if (entry.portal !== undefined && entry.portal.running === running) entry.portal.running = undefined
      running.end({ error: complaint })
    }
    entry.error ??= complaint
    if (!entry.isOwn && !entry.isFaked) this.tell([errorMessage(complaint)])
    if (entry.kind === 'query') {
      for (const each of entry.runs.slice(entry.at + 1)) each.end({ error: skippedOver })
      entry.at = entry.runs.length
      this.turn()
      return
    }
    if (entry.kind === 'sync') return
    this.forgetStatement(entry.kind === 'parse' ? entry.prepared : undefined)
    if (entry.kind === 'bind') this.forgetPortal(entry.portal, { error: complaint })
    if (entry.kind === 'close') this.reopened(entry)
    // The server passes over the rest.
    const skipped: Entry[] = []
    this.shift(false)
    for (let next = this.queue[this.first]; next !== undefined && next.kind !== 'sync'; next = this.queue[this.first]) {
      skipped.push(next)
      this.first += 1
    }
    if (this.queue[this.first] === undefined) this.isIgnoring = true
    this.turn()
    entry.over?.(answerOf(entry, false))
    for (const each of skipped) this.skip(each)
  }

  /** What was to be closed was not. */
  private reopened({ prepared, portal }: Entry): void {
    if (prepared !== undefined) prepared.isClosing = false
    if (portal !== undefined) portal.isClosing = false
  }

  /** It never ran. */
  private skip(entry: Entry): void {
    if (entry.kind === 'parse') this.forgetStatement(entry.prepared)
    if (entry.kind === 'close') this.reopened(entry)
    if (entry.kind === 'execute' && entry.portal !== undefined) {
      entry.portal.inFlight -= 1
      entry.portal.running = undefined
    }
    for (const running of entry.runs) running.end({ error: skippedOver })
    if (entry.kind === 'bind') this.forgetPortal(entry.portal, { error: skippedOver })
    entry.over?.(answerOf(entry, true))
  }

  private isReady(entry: Entry, now: number): boolean {
    this.status = now
    // Statements of a text that was not run to its end.
    for (const running of entry.runs.slice(entry.at)) running.end({ error: skippedOver })
    if (now === status.idle)
      for (const portal of this.portals.values())
        if (portal.number < entry.number) this.forgetPortal(portal, { tag: 'ended with its transaction' })
    this.next = true
    if (entry.isFaked && now === status.inTransaction && this.expected() === 1 && !entry.isOwn) {
      // The client was told of an error: its transaction has failed.
      const text = this.noText()
      const over = (): void => this.tell([readyMessage(this.status)])
      this.push('query', queryMessage(text), { isOwn: true, over })
      this.send()
      return false
    }
    return !entry.isOwn && entry.held === undefined
  }

  private shift(isAnswered = true): void {
    const entry = this.queue[this.first]
    if (entry === undefined) return
    this.first += 1
    if (this.first > 1_000) {
      this.queue = this.queue.slice(this.first)
      this.first = 0
    }
    if (entry.kind === 'execute' && entry.portal !== undefined) entry.portal.inFlight -= 1
    this.turn()
    if (isAnswered) entry.over?.(answerOf(entry, false))
  }

  /** Rows that come from now on are of this statement. */
  private turn(): void {
    const entry = this.queue[this.first]
    this.current?.report()
    this.current = entry?.runs[entry.at]
  }

  // To the client ----------------------------------------------------------------------------------------------------------

  /** Whole messages that may go on. */
  private pass(bytes: Buffer, hasRows: boolean): void {
    const entry = this.queue[this.first]
    const checked = hasRows ? this.masked(bytes) : bytes
    if (entry?.held !== undefined) entry.held.push(Buffer.from(checked))
    else this.tell([checked])
  }

  private tell(messages: readonly Buffer[]): void {
    const entry = this.queue[this.first]
    if (entry?.held !== undefined) return void entry.held.push(...messages)
    const { client } = this.ports
    if (!client.writable) return
    for (const each of messages)
      if (!client.write(each)) {
        this.stalledSince ??= performance.now()
        this.server.pause()
      }
  }

  private complaintOf(fields: ReadonlyMap<string, string>, isTurned: boolean): Complaint {
    const { mask } = this.ports
    const [hint, position] = [fields.get('H'), Number(fields.get('P'))]
    return {
      sqlstate: /^[0-9A-Z]{5}$/.test(fields.get('C') ?? '') ? (fields.get('C') as string) : 'XX000',
      message: mask.text(fields.get('M') ?? ''),
      ...(hint === undefined ? {} : { hint: mask.text(hint) }),
      // What stands elsewhere in the text that the server has is of no use.
      ...(Number.isInteger(position) && position > 0 && !isTurned ? { position } : {}),
    }
  }

  /** What the server says, without what it adds: details show values that nobody asked for. */
  private ownWords(type: number, fields: ReadonlyMap<string, string>, isTurned: boolean): Buffer {
    return said(type, fields.get('V') ?? 'NOTICE', this.complaintOf(fields, isTurned))
  }

  /** Rows without the secrets that Sallyport holds. */
  private masked(bytes: Buffer): Buffer {
    const { mask } = this.ports
    const masked = mask.bytes(bytes)
    if (masked === bytes || bytes.equals(masked)) return bytes
    // Lengths have changed: row by row.
    const parts: Buffer[] = []
    for (let at = 0; at < bytes.length;) {
      const end = at + 1 + bytes.readUInt32BE(at + 1)
      parts.push(bytes[at] === back.dataRow ? maskedRow(bytes.subarray(at, end), mask) : bytes.subarray(at, end))
      at = end
    }
    return Buffer.concat(parts)
  }
}

/** The server is not where it has to be: nothing that it says can be told apart any more. */
const unexpected = (): Failure =>
  new Failure('internal', 'the server of the database sent what was not expected', { cause: new Error('out of step') })

const none: readonly Running[] = []
const unbounded = { rows: Infinity, bytes: Infinity }
const canceled = new Failure('cancelled', 'canceling statement due to user request')

const known: ReadonlySet<number> = new Set([
  from.query,
  from.parse,
  from.bind,
  from.describe,
  from.execute,
  from.close,
  from.functionCall,
])
const isKnownType = (type: number): boolean => known.has(type)

/** Nothing more of its answers goes out. */
function hush(entry: Entry, complaint: Complaint): void {
  entry.isFaked = true
  for (const running of entry.runs) running.cut ??= complaint
}

const answerOf = ({ error, count, isSuspended, held = [] }: Entry, isSkipped: boolean): Answer => ({
  ...(error === undefined ? {} : { error }),
  isSkipped,
  count,
  isSuspended,
  held,
})

/** How many rows a tag counts: `INSERT 0 5`, `UPDATE 5`. */
const countIn = (tag: string): number => Number(/(\d+)$/.exec(tag)?.[1] ?? 0)

/** One statement of a text: what stands beside it is not what it does. */
const partOf = (text: string, { from: start, to }: Statement): string =>
  Buffer.from(text).subarray(start, to).toString().trim()

/** What a PREPARE prepares, as far as its answer will tell how many rows it touched. */
function innerCommand(text: string): Statement['command'] {
  const [, verb = 'select'] = /\bas\s+(insert|update|delete)\b/i.exec(text) ?? []
  return verb.toLowerCase() as Statement['command']
}

function maskedRow(row: Buffer, mask: Pick<Masker, 'bytes'>): Buffer {
  const count = row.readUInt16BE(5)
  const parts: Buffer[] = [row.subarray(5, 7)]
  let at = 7
  for (let field = 0; field < count; field++) {
    const length = row.readInt32BE(at)
    at += 4
    if (length < 0) {
      parts.push(int32(-1))
      continue
    }
    const value = mask.bytes(row.subarray(at, at + length))
    parts.push(int32(value.length), Buffer.from(value))
    at += length
  }
  return message(back.dataRow, ...parts)
}
