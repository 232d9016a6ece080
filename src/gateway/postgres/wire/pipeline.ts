import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { Arrivals } from './arrivals.ts'
import { skippedOver } from './complaints.ts'
import { flushMessage, parseMessage, queryMessage } from './frames.ts'
import type { Complaint } from './frames.ts'
import type { Names, Portal, Prepared } from './names.ts'
import { Running } from './running.ts'

/** Where the server is in a transaction, as it says when it is ready (54.7). */
export const status = { idle: 0x49, inTransaction: 0x54, failed: 0x45 } as const

type Kind = 'query' | 'parse' | 'bind' | 'describe' | 'execute' | 'close' | 'sync'

/** Something that the server was sent, and that it will answer. */
export interface Entry {
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

export interface Answer {
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

/** What the server was sent and has not answered yet, in order, and where it stands by its answers. */
export class Pipeline {
  /** The statement that rows are of. */
  current: Running | undefined
  /** What the server said last of its transaction. */
  status: number = status.idle
  /** Statements that were run since the last Sync: a transaction that is not called one. */
  executed = 0
  /** After an error, the server passes over everything until a Sync. */
  isIgnoring = false
  /** Whether something was sent that the server answers only when it is told to. */
  isUnflushed = false
  private readonly server: Duplex
  private readonly names: Names
  private readonly arrivals: Pick<Arrivals, 'pause'>
  private queue: Entry[] = []
  private first = 0
  private out: Buffer[] = []
  private readonly waiting: (() => void)[] = []

  constructor(server: Duplex, names: Names, arrivals: Pick<Arrivals, 'pause'>) {
    this.server = server
    this.names = names
    this.arrivals = arrivals
  }

  /** What the server answers now. */
  get head(): Entry | undefined {
    return this.queue[this.first]
  }

  /** What was sent behind that. */
  behind(): readonly Entry[] {
    return this.queue.slice(this.first + 1)
  }

  /** Whether the answer that comes now, or the one behind it, is kept back. */
  isHeld(): boolean {
    return this.head?.held !== undefined || this.queue[this.first + 1]?.held !== undefined
  }

  unanswered(): readonly Entry[] {
    return this.queue.slice(this.first)
  }

  isSettled(): boolean {
    return this.queue.length === this.first
  }

  /** Whether an answer is to come that may tell of a transaction. */
  isOpen(): boolean {
    for (let at = this.first; at < this.queue.length; at++) {
      const kind = this.queue[at]?.kind
      if (kind === 'query' || kind === 'execute' || kind === 'sync') return true
    }
    return false
  }

  expected(): number {
    return this.queue.length - this.first
  }

  /** Makes the server refuse what stands here, in the words of policy. */
  poison(isQuery: boolean, complaint: Complaint): void {
    const text = noText()
    if (isQuery) this.pushQuery(queryMessage(text), [], false, { complaint })
    // A name, so that the client's unnamed statement stays what it is.
    else this.push('parse', parseMessage(text, text), { complaint })
  }

  pushQuery(frame: Buffer, runs: readonly Running[], isTurned: boolean, more: NewEntry = {}): void {
    this.names.forgetStatement(this.names.statements.get(''))
    this.push('query', frame, { runs, isTurned, ...more })
    this.executed = 0
  }

  pushExecute(frame: Buffer, portal: Portal, running: Running, isTurned: boolean, more: NewEntry = {}): void {
    this.executed += 1
    portal.inFlight += 1
    this.push('execute', frame, { runs: [running], portal, isTurned, ...more })
  }

  sync(frame: Buffer, more: NewEntry = {}): void {
    this.isIgnoring = false
    this.push('sync', frame, more)
    this.names.segment += 1
    this.executed = 0
  }

  push(kind: Kind, frame: Buffer, more: NewEntry): void {
    this.names.numbered += 1
    const entry: Entry = {
      kind,
      number: this.names.numbered,
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
  own(text: string): Promise<Answer> {
    return this.answered((over) =>
      this.push('query', queryMessage(text), { isOwn: true, over, runs: [new Running(unbounded, false)] }),
    )
  }

  /** Sends something and waits until the server has answered all of it. */
  answered(push: (over: (answer: Answer) => void) => void, needsFlush = false): Promise<Answer> {
    return new Promise((resolve) => {
      push(resolve)
      if (needsFlush) this.flush()
      else this.send()
    })
  }

  /** Sends what is still here, and has all of it answered. */
  flush(): void {
    if (this.isUnflushed && !this.isIgnoring) this.flushAnyway()
    else this.send()
  }

  /** Also where all of it is passed over: the error has to come. */
  flushAnyway(): void {
    this.out.push(flushMessage)
    this.isUnflushed = false
    this.send()
  }

  send(): void {
    if (this.out.length === 0) return
    const [only] = this.out
    const bytes = this.out.length === 1 && only !== undefined ? only : Buffer.concat(this.out)
    this.out = []
    if (!this.server.writable) return
    if (!this.server.write(bytes)) this.arrivals.pause()
  }

  /** Until the server has answered everything. */
  drain(): Promise<void> {
    this.flush()
    if (this.isSettled()) return Promise.resolve()
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  /** Tells those who wait for that. */
  wake(): void {
    for (const wake of this.waiting.splice(0)) wake()
  }

  /** Rows that come from now on are of this statement. */
  turn(): void {
    const entry = this.head
    this.current?.report()
    this.current = entry?.runs[entry.at]
  }

  /** What the server answered now is over. */
  shift(isAnswered = true): void {
    const entry = this.head
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

  /** What the server answers now has failed, and so it passes over the rest, as far as to a Sync. */
  passOver(entry: Entry): void {
    const skipped: Entry[] = []
    this.shift(false)
    for (let next = this.head; next !== undefined && next.kind !== 'sync'; next = this.head) {
      skipped.push(next)
      this.first += 1
    }
    if (this.head === undefined) this.isIgnoring = true
    this.turn()
    entry.over?.(answerOf(entry, false))
    for (const each of skipped) this.skip(each)
  }

  /** It never ran. */
  private skip(entry: Entry): void {
    if (entry.kind === 'parse') this.names.forgetStatement(entry.prepared)
    if (entry.kind === 'close') reopened(entry)
    if (entry.kind === 'execute' && entry.portal !== undefined) {
      entry.portal.inFlight -= 1
      entry.portal.running = undefined
    }
    for (const running of entry.runs) running.end({ error: skippedOver })
    if (entry.kind === 'bind') this.names.forgetPortal(entry.portal, { error: skippedOver })
    entry.over?.(answerOf(entry, true))
  }
}

/** Text that is no statement: nobody can make a server understand it. */
export const noText = (): string => `refused_${randomBytes(12).toString('hex')}`

const none: readonly Running[] = []
const unbounded = { rows: Infinity, bytes: Infinity }

const answerOf = ({ error, count, isSuspended, held = [] }: Entry, isSkipped: boolean): Answer => ({
  ...(error === undefined ? {} : { error }),
  isSkipped,
  count,
  isSuspended,
  held,
})

/** What was to be closed was not. */
export function reopened({ prepared, portal }: Entry): void {
  if (prepared !== undefined) prepared.isClosing = false
  if (portal !== undefined) portal.isClosing = false
}
