import dns from 'node:dns'
import { isIP } from 'node:net'
import type { Socket } from 'node:net'
import { Agent, buildConnector } from 'undici'
import type { Dispatcher } from 'undici'
import { Failure } from '../../core/failure.ts'
import { refusedAddress } from '../../guard/addresses.ts'
import { addressesFor, refusedPlace } from './host.ts'
import type { Bounds, Place } from './host.ts'

/** All addresses of a name. */
export type Resolve = (name: string) => Promise<readonly string[]>
/** Opens a connection to an address that was checked. `servername` is what the certificate has to be for. */
export type Dial = buildConnector.connector

export interface EgressPorts {
  readonly resolve?: Resolve
  readonly dial?: Dial
  /** Certificates (PEM) that alone may sign that of the resource's own host. Others need one that Node knows. */
  readonly ca?: string | undefined
}

/** The way out of one resource. Whatever goes out goes through here, and only to where its bounds allow. */
export interface Egress {
  /** Fails with `forbidden` before anything is looked up or sent where the text of the address is enough to know. */
  check(place: Place): void
  /** Opens a connection, for what speaks its own protocol over it. */
  readonly connect: Dial
  /**
   * Sends requests of one session, over connections of its own: an answer that comes when nobody asked, or after the
   * next request has gone out, can only be taken for one to the same session.
   */
  dispatcherOf(session: string): Dispatcher
  /** Lets connections of sessions go that are over, with what is on its way. */
  ended(sessions: readonly string[]): void
  /** Closes once nothing is on its way. */
  close(): Promise<void>
  destroy(): Promise<void>
}

const connectWithin = 10_000
/** Addresses of a name that are tried, one after the other. */
const mostTried = 3
const mostAnswers = 64
/** Sessions whose connections are kept. Of others, those that were used longest ago are closed. */
const mostSessions = 1_000

export const systemResolve: Resolve = async (name) =>
  (await dns.promises.lookup(name, { all: true, order: 'verbatim' })).map(({ address }) => address)

/**
 * A name is looked up once for a connection, all of its addresses have to be allowed, and the one that is dialled is
 * one that was checked. Host and SNI stay those of the name. The socket is asked again whom it is connected to.
 */
export function createEgress(bounds: Bounds, ports: EgressPorts = {}): Egress {
  const { resolve = systemResolve } = ports
  const dialWith = (ca: { readonly ca?: string }): Dial =>
    ports.dial ?? buildConnector({ timeout: connectWithin, allowH2: false, maxCachedSessions: 100, ...ca })
  const dial = dialWith({})
  const dialHome = ports.ca === undefined ? dial : dialWith({ ca: ports.ca })

  async function addressesOf(host: string): Promise<readonly string[]> {
    if (isIP(host) !== 0) return [host]
    const found = await inTime(resolve(host)).catch((thrown: unknown) => {
      if (thrown instanceof Failure) throw thrown
      throw new Failure('unavailable', 'the upstream’s name can’t be looked up', { cause: thrown })
    })
    if (found.length === 0) throw new Failure('unavailable', 'the upstream’s name leads nowhere')
    return found.slice(0, mostAnswers)
  }

  /** INVARIANT: no packet is sent to an address that this has not seen. */
  async function checked(host: string, port: number): Promise<readonly string[]> {
    const wrong = refusedPlace({ host, port }, bounds)
    if (wrong !== undefined) throw refused(wrong)
    const addresses = await addressesOf(host)
    for (const address of addresses) {
      const because = refusedAddress(address, addressesFor(host, bounds))
      if (because !== undefined) throw refused(`one of its addresses ${because}`)
    }
    return addresses
  }

  const connect: buildConnector.connector = (options, callback) => {
    const { hostname, protocol } = options
    const host = hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase()
    const port = Number(options.port) || (protocol === 'https:' ? 443 : 80)
    // Without a name there is no SNI: the certificate has to be for the address.
    const servername = isIP(host) === 0 ? host : ''
    const towards = { ...options, host: options.host ?? host, servername, port: String(port) }
    // oxlint-disable promise/no-callback-in-promise -- a connector is told so
    reached(host, port, towards).then(
      (socket) => callback(null, socket),
      (thrown: unknown) => callback(thrown instanceof Error ? thrown : new Error('not connected'), null),
    )
    // oxlint-enable promise/no-callback-in-promise
  }

  async function reached(host: string, port: number, towards: buildConnector.Options): Promise<Socket> {
    let failed: unknown
    for (const address of (await checked(host, port)).slice(0, mostTried)) {
      let socket: Socket
      try {
        socket = await dialled({ ...towards, hostname: address }, host === bounds.home.host ? dialHome : dial)
      } catch (thrown) {
        failed = thrown
        continue
      }
      const because = refusedAddress(socket.remoteAddress ?? '', addressesFor(host, bounds))
      if (because === undefined) return socket
      socket.destroy()
      throw refused(`the address that answered ${because}`)
    }
    throw failed
  }

  const dialled = (options: buildConnector.Options, by: Dial): Promise<Socket> =>
    new Promise((resolve, reject) => {
      by(options, (error, socket) => (error === null ? resolve(socket) : reject(error)))
    })

  /** In the order of their last use. */
  const agents = new Map<string, Agent>()

  function dispatcherOf(session: string): Dispatcher {
    const known = agents.get(session)
    const agent =
      known ??
      new Agent({
        connect,
        allowH2: false,
        connections: 64,
        pipelining: 1,
        maxHeaderSize: 32_768,
        keepAliveTimeout: 10_000,
        headersTimeout: 0, // The time of an operation bounds the whole of it.
        bodyTimeout: 0,
      })
    agents.delete(session)
    agents.set(session, agent)
    const [oldest] = agents.keys()
    if (agents.size > mostSessions && oldest !== undefined)
      take(oldest)
        ?.close()
        .catch(() => {})
    return agent
  }

  function take(session: string): Agent | undefined {
    const agent = agents.get(session)
    agents.delete(session)
    return agent
  }

  const takeAll = (): readonly Agent[] => [...agents.keys()].flatMap((session) => take(session) ?? [])

  return {
    check(place) {
      const wrong = refusedPlace(place, bounds)
      if (wrong !== undefined) throw refused(wrong)
    },
    connect,
    dispatcherOf,
    ended(sessions) {
      for (const session of sessions)
        take(session)
          ?.destroy()
          .catch(() => {})
    },
    async close() {
      await Promise.all(takeAll().map((agent) => agent.close()))
    },
    async destroy() {
      await Promise.all(takeAll().map((agent) => agent.destroy()))
    },
  }
}

const refused = (because: string): Failure => new Failure('forbidden', `nothing may be sent there: ${because}`)

async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Failure('unavailable', 'the upstream’s name can’t be looked up in time')),
      connectWithin,
    )
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
