import { randomBytes, randomInt, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { createSecureContext } from 'node:tls'
import type { AuditLog } from '../../../core/audit.ts'
import { Failure } from '../../../core/failure.ts'
import type { SessionId } from '../../../core/session.ts'
import type { Clock } from '../../../guard/clock.ts'
import type { Guard } from '../../../guard/guard.ts'
import type { Masker } from '../../../guard/mask.ts'
import type { Sessions } from '../../../guard/sessions.ts'
import { settings } from '../../../postgres/lists.ts'
import type { Backend } from '../connect.ts'
import type { Live, PostgresGateway } from '../server.ts'
import { int32, message, parameterMessage, readyMessage } from './frames.ts'
import type { Complaint } from './frames.ts'
import type { RelayLimits } from './ports.ts'
import { startRelay } from './relay.ts'
import type { Relay } from './relay.ts'
import { receive, TurnedAway, turnAway } from './startup.ts'
import type { Arrival, CancelRequest } from './startup.ts'

export interface SqlListenerOptions {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** PEM. Without them nothing is encrypted, and clients of other machines are turned away. */
  readonly tls?: { readonly certificate: string; readonly key: string }
  /** The session of a credential. Fails with `unauthenticated`. */
  readonly authenticate: (credential: string) => Promise<SessionId>
  readonly gateway: Pick<PostgresGateway, 'live'>
  readonly guard: Pick<Guard, 'run' | 'visible' | 'explain'>
  readonly sessions: Pick<Sessions, 'get' | 'flight'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly mask: Pick<Masker, 'text' | 'bytes'>
  /** How long a statement waits for people, in milliseconds. */
  readonly hold: number
  readonly report?: (thrown: unknown) => void
  /** Connections at one moment: of all, of one session, and of those that are not known yet. */
  readonly connections?: Partial<Most>
  /** Milliseconds. */
  readonly limits?: Partial<RelayLimits & { readonly patience: number }>
}

interface Most {
  readonly all: number
  readonly session: number
  readonly unknown: number
}

export interface SqlListener {
  readonly url: string
  readonly port: number
  /** Ends idle connections at once, and the others when they are done, 5 seconds later at most. */
  close(): Promise<void>
}

const usualMost: Most = { all: 1_000, session: 20, unknown: 200 }
const usualLimits = { idle: 1_800_000, idleInTransaction: 60_000, stalled: 60_000, patience: 10_000 }
/** How often limits of time are looked after, in milliseconds. */
const beat = 100
/** Milliseconds for what is under way when the listener is closed. */
const farewell = 5_000

/** A connection that has been let in. */
interface Inside {
  readonly key: Buffer
  readonly relay: Relay
}

/**
 * Listens for programs that speak the protocol of PostgreSQL: the user is an agent, the database a resource, the password
 * a token of one of the agent's sessions. Every statement goes the way of every other action.
 *
 * Fails with `unavailable` when the address can't be used, `invalid` when the certificate can't.
 */
export async function startSqlListener(options: SqlListenerOptions): Promise<SqlListener> {
  const { host, port, authenticate, gateway, guard, sessions, audit, clock, mask, hold, report = () => {} } = options
  const most = { ...usualMost, ...options.connections }
  const limits = { ...usualLimits, ...options.limits }
  const secure = options.tls === undefined ? undefined : contextOf(options.tls)

  const sockets = new Set<Socket>()
  const strangers = new Set<Socket>()
  const inside = new Map<number, Inside>()
  const perSession = new Map<SessionId, number>()
  let isClosing = false

  const server = createServer({ noDelay: true, keepAlive: true }, (socket) => {
    socket.on('error', () => {})
    if (isClosing || sockets.size - strangers.size >= most.all) return void socket.destroy()
    // Whoever is not known yet makes room for who comes next: nobody keeps others out by saying nothing.
    const [oldest] = strangers
    if (strangers.size >= most.unknown) oldest?.destroy()
    sockets.add(socket)
    strangers.add(socket)
    const known = (): void => void strangers.delete(socket)
    socket.once('close', () => {
      sockets.delete(socket)
      known()
    })
    const patience = setTimeout(() => socket.destroy(), limits.patience)
    receive(socket, secure)
      .then(async (come) => {
        if (come.kind === 'cancel') {
          cancel(come)
          socket.destroy()
          return
        }
        come.stream.on('error', () => socket.destroy())
        await enter(socket, come, () => {
          clearTimeout(patience)
          known()
        })
      })
      .catch((thrown: unknown) => {
        if (thrown instanceof TurnedAway) return turnAway(thrown.stream, thrown.complaint)
        report(thrown)
        socket.destroy()
      })
      .finally(() => clearTimeout(patience))
  })

  /** Whoever has both numbers of a connection may stop what it does, and nothing else. */
  function cancel({ pid, key }: CancelRequest): void {
    const found = inside.get(pid)
    const expected = found?.key ?? Buffer.alloc(key.length)
    if (timingSafeEqual(expected, key)) found?.relay.cancel()
  }

  async function enter(socket: Socket, arrival: Arrival, known: () => void): Promise<void> {
    const { stream } = arrival
    const { session, live } = await whoCame(arrival)
    const own = perSession.get(session) ?? 0
    if (own >= most.session)
      throw new TurnedAway(stream, {
        sqlstate: '53300',
        message: `this session has ${own} connections already: close one first`,
      })
    perSession.set(session, own + 1)
    try {
      known()
      await serve(socket, arrival, session, live)
    } finally {
      const left = (perSession.get(session) ?? 1) - 1
      if (left === 0) perSession.delete(session)
      else perSession.set(session, left)
    }
  }

  /** Whose connection it is. Whatever is wrong, the answer is the same. */
  async function whoCame({ stream, user, database, password }: Arrival): Promise<{ session: SessionId; live: Live }> {
    const refused = new TurnedAway(stream, {
      sqlstate: '28P01',
      message: `password authentication failed for user "${mask.text(user).slice(0, 100)}"`,
      hint: 'The user is the name of your agent, the password its token, the database the name of a resource.',
    })
    let session: SessionId
    try {
      session = await authenticate(password)
    } catch (thrown) {
      const { code, message: because } = Failure.from(thrown)
      if (code === 'unauthenticated') throw refused
      if (code === 'internal') report(thrown)
      throw new TurnedAway(stream, { sqlstate: '57P03', message: because })
    }
    const live = gateway.live().get(database)
    const seen = live?.seen((permission, effect) => guard.visible(session, permission, effect))
    if (sessions.get(session)?.agent !== user || live === undefined || seen?.tables.size === 0) throw refused
    return { session, live }
  }

  async function serve(socket: Socket, arrival: Arrival, session: SessionId, live: Live): Promise<void> {
    const { stream } = arrival
    const wanted = settingsIn(arrival, live)
    const left = new AbortController()
    const flight = sessions.flight(session, left.signal)
    const gone = (): void => left.abort(new Failure('cancelled', 'the client left'))
    socket.once('close', gone)
    let backend: Backend | undefined
    try {
      const { agent = '', facts = {} } = sessions.get(session) ?? {}
      backend = await live.connections.open({ session, agent, facts }).catch((thrown: unknown) => {
        const { code, message: because } = Failure.from(thrown)
        if (code === 'internal') report(thrown)
        throw new TurnedAway(stream, { sqlstate: code === 'limited' ? '53300' : '57P03', message: because })
      })
      for (const [name, value] of wanted)
        await backend.ask('select pg_catalog.set_config($1, $2, false)', [name, value]).catch((thrown: unknown) => {
          throw new TurnedAway(
            stream,
            thrown instanceof Failure
              ? { sqlstate: '57P03', message: thrown.message }
              : { sqlstate: '22023', message: `the server does not take this value for ${name}` },
          )
        })
      if (flight.signal.aborted) throw new TurnedAway(stream, over)
      const startedAt = clock()
      const about = { session, agent, resource: live.resource.alias, secure: arrival.isSecure }
      const program = arrival.parameters.get('application_name')
      const opened = audit.append({
        type: 'sql.open',
        at: startedAt,
        ...about,
        ...(program === undefined ? {} : { program: mask.text(program) }),
      })
      await opened.done.catch((thrown: unknown) => {
        throw new TurnedAway(stream, { sqlstate: '57P03', message: Failure.from(thrown).message })
      })
      if (flight.signal.aborted) throw new TurnedAway(stream, over)
      await relayed(backend)
      backend = undefined

      async function relayed(own: Backend): Promise<void> {
        const pid = freePid()
        const key = randomBytes(4)
        const greeting = greetingOf(own.parameters, arrival.user, pid, key)
        const relay = startRelay({ client: stream, backend: own, session, live, guard, mask, hold, limits, report })
        inside.set(pid, { key, relay })
        const end = (): void => relay.end(over, 'the session is over')
        flight.signal.addEventListener('abort', end, { once: true })
        stream.write(greeting)
        const because = await relay.over
        flight.signal.removeEventListener('abort', end)
        inside.delete(pid)
        audit
          .append(
            {
              type: 'sql.close',
              at: clock(),
              of: opened.id,
              ...about,
              because: because.slice(0, 200),
              took: clock() - startedAt,
              ...relay.totals(),
            },
            'written',
          )
          .done.catch(report)
      }
    } finally {
      socket.off('close', gone)
      flight.land()
      await backend?.close()
    }
  }

  function freePid(): number {
    for (;;) {
      const pid = randomInt(1, 2 ** 31 - 1)
      if (!inside.has(pid)) return pid
    }
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new Failure('unavailable', `can’t listen on ${host}:${port} (${cause.code ?? 'unknown error'})`, { cause }),
      ),
    )
    server.listen(port, host, () => resolve())
  })
  const ticking = setInterval(() => {
    for (const { relay } of inside.values()) relay.tick()
  }, beat)

  async function close(): Promise<void> {
    isClosing = true
    const closed = new Promise<void>((resolve) => server.close(() => resolve()))
    const until = performance.now() + farewell
    const letGo = (isLate: boolean): void => {
      for (const { relay } of inside.values())
        if (isLate || relay.isIdle()) relay.end(stopping, 'the gateway was stopped')
    }
    letGo(false)
    const leaving = setInterval(() => letGo(performance.now() > until), 20)
    const early = setTimeout(() => {
      for (const socket of sockets) if (inside.size === 0) socket.destroy()
    }, 1_000)
    const late = setTimeout(() => {
      for (const socket of sockets) socket.destroy()
    }, farewell + 2_500)
    await closed
    for (const each of [leaving, ticking]) clearInterval(each)
    for (const each of [early, late]) clearTimeout(each)
  }

  let closing: Promise<void> | undefined
  const { port: bound } = server.address() as AddressInfo
  return {
    url: `postgres://${host.includes(':') ? `[${host}]` : host}:${bound}`,
    port: bound,
    close: () => (closing ??= close()),
  }
}

const over: Complaint = { sqlstate: '57P01', message: 'the session of this token is over' }
const stopping: Complaint = { sqlstate: '57P01', message: 'the gateway is being stopped' }

function contextOf({ certificate, key }: NonNullable<SqlListenerOptions['tls']>) {
  try {
    return createSecureContext({ cert: certificate, key, minVersion: 'TLSv1.2' })
  } catch (cause) {
    throw new Failure('invalid', 'the certificate or key of `listen.sql` can’t be used: expected PEM', { cause })
  }
}

/** Settings that a client begins with, where they are of the list. */
function settingsIn({ stream, parameters }: Arrival, { resource }: Live): readonly (readonly [string, string])[] {
  const { most } = resource.database
  return [...parameters].flatMap(([given, value]): (readonly [string, string])[] => {
    const name = given.toLowerCase()
    if (name === 'replication' && /^(?:|false|off|no|0)$/i.test(value)) return []
    if (name === 'options' && value.trim() === '') return []
    const isRight = Object.hasOwn(settings, name) ? settings[name] : undefined
    if (isRight === undefined)
      throw new TurnedAway(stream, {
        sqlstate: name === 'replication' ? '0A000' : '42501',
        message: `the parameter "${given.slice(0, 63)}" can’t be given here when connecting`,
        hint: `These can: ${Object.keys(settings).join(', ')}.`,
      })
    if (!isRight(value.replaceAll(/^'|'$/g, ''), most))
      throw new TurnedAway(stream, {
        sqlstate: '22023',
        message: `"${given.slice(0, 63)}" can’t have this value here`,
        ...(name === 'client_encoding' ? { hint: 'Text is UTF8 here: set PGCLIENTENCODING=UTF8, or the like.' } : {}),
      })
    return name === 'client_encoding' || name === 'standard_conforming_strings' ? [] : [[name, value]]
  })
}

/** What a client is told once it is let in. */
function greetingOf(parameters: ReadonlyMap<string, string>, user: string, pid: number, key: Buffer): Buffer {
  const shown = [...parameters].map(([name, value]) =>
    parameterMessage(name, name === 'session_authorization' ? user : value),
  )
  return Buffer.concat([message(0x52, int32(0)), ...shown, message(0x4b, int32(pid), key), readyMessage(0x49)])
}
