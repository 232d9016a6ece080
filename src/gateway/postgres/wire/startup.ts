import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { SecureContext } from 'node:tls'
import type { Duplex } from 'node:stream'
import { errorMessage, from, int32, message, ProtocolViolation, requestCodes, textOf } from './frames.ts'
import type { Complaint } from './frames.ts'

// How a connection begins (PostgreSQL documentation, 54.2): encryption, who comes, and a password.

/** Somebody who wants to be let in. Nothing of it has been checked. */
export interface Arrival {
  readonly kind: 'arrival'
  /** What to speak over: encrypted where that was agreed on. */
  readonly stream: Duplex
  readonly isSecure: boolean
  readonly user: string
  readonly database: string
  readonly parameters: ReadonlyMap<string, string>
  readonly password: string
}

/** A request to stop what another connection does. */
export interface CancelRequest {
  readonly kind: 'cancel'
  readonly pid: number
  readonly key: Buffer
}

/** Ends before it began: what is to be said about it, if anything. */
export class TurnedAway extends Error {
  readonly complaint: Complaint | undefined
  readonly stream: Duplex
  constructor(stream: Duplex, complaint?: Complaint) {
    super(complaint?.message ?? 'the connection was given up')
    this.name = 'TurnedAway'
    this.complaint = complaint
    this.stream = stream
  }
}

const longestStartup = 10_000
/** Tokens have a few thousand bytes at most. */
const longestPassword = 20_000
const tlsHandshake = 0x16
const yes = Buffer.from('S')
const no = Buffer.from('N')

/** Version 3.0 of the protocol: the one that is spoken here. */
const version = 196_608

/**
 * Reads what a client begins with, up to its password. Fails with TurnedAway, and as the socket does; whoever calls puts
 * a limit on its time by destroying the socket.
 */
export async function receive(socket: Socket, secure: SecureContext | undefined): Promise<Arrival | CancelRequest> {
  let incoming = new Incoming(socket)
  const first = await incoming.take(1)
  incoming.putBack(first)
  if (first[0] === tlsHandshake) {
    if (secure === undefined) throw new TurnedAway(socket)
    const secured = await encrypted(socket, secure)
    // Without the name, it could be another protocol that was led here (RFC 7301; PostgreSQL documentation, 54.2.10).
    if (secured.alpnProtocol !== 'postgresql') throw new TurnedAway(secured)
    incoming = new Incoming(secured)
  }

  let asked = 0
  for (;;) {
    const { stream } = incoming
    const length = (await incoming.take(4)).readUInt32BE()
    if (length < 8 || length > longestStartup) throw new TurnedAway(stream)
    const body = await incoming.take(length - 4)
    const code = body.readUInt32BE()

    if (code === requestCodes.tls || code === requestCodes.gss) {
      // INVARIANT: whatever was sent in clear before the answer is never taken for what comes encrypted (CVE-2021-23214).
      if (length !== 8 || stream !== socket || incoming.hasMore) throw new TurnedAway(stream)
      if (code === requestCodes.gss || secure === undefined) {
        asked += 1
        if (asked > 2) throw new TurnedAway(stream)
        stream.write(no)
        continue
      }
      stream.write(yes)
      incoming = new Incoming(await encrypted(socket, secure))
      continue
    }

    if (code === requestCodes.cancel) {
      if (length !== 16) throw new TurnedAway(stream)
      return { kind: 'cancel', pid: body.readInt32BE(4), key: body.subarray(8) }
    }
    return await arrivalOn(incoming, stream !== socket, socket, code, body)
  }
}

async function arrivalOn(
  incoming: Incoming,
  isSecure: boolean,
  socket: Socket,
  code: number,
  body: Buffer,
): Promise<Arrival> {
  const { stream } = incoming
  const [major, minor] = [code >>> 16, code & 0xffff]
  if (major !== 3)
    throw new TurnedAway(stream, {
      sqlstate: '0A000',
      message: `protocol ${major}.${minor} is not spoken here: only 3.0 is`,
    })
  const parameters = parametersIn(stream, body)
  const options = [...parameters.keys()].filter((name) => name.startsWith('_pq_.'))
  if (minor > 0 || options.length > 0) {
    for (const name of options) parameters.delete(name)
    stream.write(message(0x76, int32(version), int32(options.length), ...options))
  }
  const user = parameters.get('user') ?? ''
  const database = parameters.get('database') ?? user
  parameters.delete('user')
  parameters.delete('database')
  if (user === '')
    throw new TurnedAway(stream, { sqlstate: '28000', message: 'no user was given: it is the name of your agent' })
  if (!isSecure && !isLoopback(socket.remoteAddress))
    throw new TurnedAway(stream, {
      sqlstate: '28000',
      message: 'a token is not taken over an unencrypted connection from another machine',
      hint: 'Connect with sslmode=require or stricter.',
    })
  stream.write(message(0x52, int32(3)))
  return { kind: 'arrival', stream, isSecure, user, database, parameters, password: await passwordOn(incoming) }
}

function parametersIn(stream: Duplex, body: Buffer): Map<string, string> {
  const wrong = new TurnedAway(stream, { sqlstate: '08P01', message: 'invalid startup packet' })
  if (body.length < 5 || body.at(-1) !== 0 || (body.length > 5 && body.at(-2) !== 0)) throw wrong
  const parameters = new Map<string, string>()
  let text: string[]
  try {
    const inner = body.subarray(4, body.length - 2)
    text =
      inner.length === 0
        ? []
        : inner
            .toString('latin1')
            .split('\0')
            .map((each) => textOf(Buffer.from(each, 'latin1')))
  } catch (thrown) {
    if (thrown instanceof ProtocolViolation) throw wrong
    throw thrown
  }
  if (text.length % 2 !== 0) throw wrong
  for (let at = 0; at < text.length; at += 2) {
    const name = text[at] ?? ''
    if (name === '' || parameters.has(name)) throw wrong
    parameters.set(name, text[at + 1] ?? '')
  }
  return parameters
}

async function passwordOn(incoming: Incoming): Promise<string> {
  const head = await incoming.take(5)
  const length = head.readUInt32BE(1)
  if (head[0] !== from.password || length < 5 || length > longestPassword) throw new TurnedAway(incoming.stream)
  const body = await incoming.take(length - 4)
  // Programs may send ahead what they will ask.
  incoming.putBack()
  try {
    return textOf(body.subarray(0, body.length - 1))
  } catch {
    return ''
  }
}

async function encrypted(socket: Socket, secureContext: SecureContext): Promise<TLSSocket> {
  const secured = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['postgresql'] })
  await new Promise<void>((resolve, reject) => {
    const fail = (): void => reject(new TurnedAway(socket))
    secured.once('error', fail)
    secured.once('close', fail)
    secured.once('secure', () => {
      secured.off('error', fail)
      secured.off('close', fail)
      resolve()
    })
  })
  return secured
}

/** What comes on a stream, taken byte by byte. What was not taken can be put back. */
class Incoming {
  readonly stream: Duplex
  private bytes: Buffer = Buffer.alloc(0)

  constructor(stream: Duplex) {
    this.stream = stream
  }

  /** Whether more came than was taken. */
  get hasMore(): boolean {
    return this.bytes.length > 0 || this.stream.readableLength > 0
  }

  async take(count: number): Promise<Buffer> {
    while (this.bytes.length < count) {
      const chunk = this.stream.read() as Buffer | null
      if (chunk !== null) this.bytes = this.bytes.length === 0 ? chunk : Buffer.concat([this.bytes, chunk])
      else if (this.stream.readableEnded || this.stream.destroyed) throw new TurnedAway(this.stream)
      else await somethingOn(this.stream)
    }
    const taken = this.bytes.subarray(0, count)
    this.bytes = this.bytes.subarray(count)
    return taken
  }

  putBack(first: Buffer = Buffer.alloc(0)): void {
    const bytes = Buffer.concat([first, this.bytes])
    this.bytes = Buffer.alloc(0)
    if (bytes.length > 0) this.stream.unshift(bytes)
  }
}

const somethingOn = (stream: Duplex): Promise<void> =>
  new Promise((resolve) => {
    const wake = (): void => {
      for (const event of ['readable', 'end', 'close']) stream.off(event, wake)
      resolve()
    }
    for (const event of ['readable', 'end', 'close']) stream.on(event, wake)
  })

/** Says why, and ends. */
export function turnAway(stream: Duplex, complaint: Complaint | undefined): void {
  stream.on('error', () => {})
  if (complaint === undefined || !stream.writable) return void stream.destroy()
  stream.end(errorMessage(complaint, 'FATAL'), () => stream.destroy())
}

const isLoopback = (address = ''): boolean => /^(?:::ffff:)?127(?:\.\d{1,3}){3}$/i.test(address) || address === '::1'
