import { Failure } from '../../../core/failure.ts'
import { Acts } from './acts.ts'
import { AgentSide } from './agent-side.ts'
import { Answers } from './answers.ts'
import { Arrivals } from './arrivals.ts'
import { errorMessage, ProtocolViolation } from './frames.ts'
import type { Complaint } from './frames.ts'
import { Names } from './names.ts'
import { Permits } from './permits.ts'
import { Pipeline, status } from './pipeline.ts'
import type { Life, RelayPorts, Sums, Totals } from './ports.ts'
import type { Running } from './running.ts'
import { ServerSide } from './server-side.ts'
import { grace, Stops } from './stops.ts'
import { Texts } from './texts.ts'

// One connection, once its client is known: messages go through in order, and none of them before it is decided.
//
// A statement that may not run is replaced by text that is none. The server then refuses it itself, and keeps the state
// of the transaction, the order of answers and what is skipped after an error; only its words are changed.
//
// `agent-side.ts` reads what the client sends, `texts.ts` says what is to be done about it, `permits.ts` and `acts.ts` do
// it. What is sent on waits in `pipeline.ts` for the answer that `server-side.ts` reads and `answers.ts` passes on. `names.ts` knows what the
// server has by a name.

/** Milliseconds for which what a client still sends is read, once it was told why it is over. */
const lastWords = 500

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

export function startRelay(ports: RelayPorts): Relay {
  return new Connection(ports)
}

class Connection implements Relay, Life {
  readonly over: Promise<string>
  isEnded = false
  private readonly ports: RelayPorts
  private readonly names: Names
  private readonly pipeline: Pipeline
  private readonly arrivals: Arrivals
  private readonly answers: Answers
  private readonly stops: Stops
  private readonly permits: Permits
  private readonly agent: AgentSide
  private readonly resolveOver: (because: string) => void
  private readonly sums: Sums = { statements: 0, free: 0, refused: 0, rows: 0, bytes: 0 }
  private watched: Running | undefined
  private watchedSince = 0

  constructor(ports: RelayPorts) {
    this.ports = ports
    const { live, backend, client } = ports
    let resolveOver: (because: string) => void = () => {}
    this.over = new Promise((resolve) => (resolveOver = resolve))
    this.resolveOver = resolveOver

    const server = backend.take()
    const { sums } = this
    const names = new Names()
    const arrivals = new Arrivals(client, this, live.resource.database.most.statement + 10_000)
    const pipeline = new Pipeline(server, names, arrivals)
    const answers = new Answers(ports, server, pipeline)
    const stops = new Stops(backend, pipeline, this)
    const texts = new Texts(ports, names)
    const permits = new Permits({ ports, sums, names, pipeline, arrivals, answers, stops })
    const acts = new Acts({ ports, names, pipeline, answers, permits })
    const agent = new AgentSide({ ports, life: this, names, pipeline, arrivals, stops, texts, permits, acts })
    const serverSide = new ServerSide({ ports, life: this, sums, names, pipeline, answers, stops })
    this.names = names
    this.pipeline = pipeline
    this.arrivals = arrivals
    this.answers = answers
    this.stops = stops
    this.permits = permits
    this.agent = agent

    server.on('data', (chunk: Buffer) => this.guarded(() => serverSide.read(chunk)))
    server.on('drain', () => arrivals.resume())
    server.resume()
    const lost = (): void =>
      this.end({ sqlstate: '57P01', message: 'the connection to the database was lost' }, 'the database ended it')
    if (backend.ended.aborted) queueMicrotask(lost)
    else backend.ended.addEventListener('abort', lost, { once: true })
    client.on('data', (chunk: Buffer) => {
      arrivals.push(chunk)
      this.guarded(() => agent.pump())
      arrivals.bound()
    })
    const left = (): void => this.end(undefined, 'the client left')
    client.on('end', left)
    client.on('close', left)
    client.on('error', left)
    client.on('drain', () => answers.resume())
    client.resume()
  }

  isIdle(): boolean {
    return !this.agent.isBusy && this.pipeline.isSettled()
  }

  totals(): Totals {
    return { ...this.sums }
  }

  tick(): void {
    if (this.isEnded) return
    const now = performance.now()
    const { limits, live } = this.ports
    const running = this.pipeline.current
    if (running !== this.watched) {
      this.watched = running
      this.watchedSince = now
    } else if (running !== undefined && !running.isOver && running.cut === undefined) {
      const { time } = live.resource.database.most
      if (now - this.watchedSince > time)
        this.stops.cutOff(running, {
          sqlstate: '57014',
          message: `the statement was stopped: it took longer than ${time} ms, the most that one may take here`,
        })
    }
    if (this.answers.stalledSince !== undefined && now - this.answers.stalledSince > limits.stalled)
      return this.end(undefined, 'the client does not read what it asked for')
    if (!this.isIdle()) {
      this.agent.lastActive = now
      return
    }
    const isWithin = this.pipeline.status !== status.idle || this.pipeline.executed > 0
    if (now - this.agent.lastActive <= (isWithin ? limits.idleInTransaction : limits.idle)) return
    this.end(
      isWithin
        ? { sqlstate: '25P03', message: 'the transaction was left open for too long' }
        : { sqlstate: '57P05', message: 'nothing was asked for too long' },
      isWithin ? 'idle in a transaction' : 'idle',
    )
  }

  cancel(): void {
    if (this.arrivals.isHolding) this.permits.cancel()
    else if (!this.pipeline.isSettled()) this.stops.stopServer()
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
      // What is unread when a socket is closed resets it, and the client would not learn why (RFC 1122, 4.2.2.13).
      client.end(errorMessage(complaint, 'FATAL'), () => setTimeout(() => client.destroy(), lastWords).unref())
      setTimeout(() => client.destroy(), grace).unref()
    }
    this.permits.end()
    const isIdle = this.pipeline.isSettled() && this.pipeline.status === status.idle
    const gone = { error: { sqlstate: '57P01', message: because } }
    for (const { runs } of this.pipeline.unanswered()) for (const running of runs) running.end(gone)
    for (const { running } of this.names.portals.values()) running?.end(gone)
    const stopped = isIdle || backend.ended.aborted ? Promise.resolve() : backend.cancel().catch(() => {})
    const closed = stopped.then(() => backend.close())
    closed.then(
      () => this.resolveOver(because),
      () => this.resolveOver(because),
    )
  }

  guarded(work: () => void): void {
    if (this.isEnded) return
    try {
      work()
    } catch (thrown) {
      this.failed(thrown)
    }
  }

  failed(thrown: unknown): void {
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
}
