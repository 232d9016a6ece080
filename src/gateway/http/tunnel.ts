import type { Socket } from 'node:net'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Failure } from '../../core/failure.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import { parseNetwork } from '../../guard/addresses.ts'
import type { CountPassed } from '../../guard/guard.ts'
import { createEgress } from './egress.ts'
import type { Egress, EgressPorts } from './egress.ts'
import { longestHello, readClientHello } from './hello.ts'

/** Hosts that are reached without being opened: by name alone. */
export interface TunnelResource {
  readonly alias: string
  /** Names in A-labels, or addresses, with their ports. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[]
  readonly effect: Effect
  readonly label: Label
  /** Addresses and networks that its hosts may be in although they are private. */
  readonly addresses: readonly string[]
  /** Bytes that may pass in each direction of one connection. */
  readonly size: number
  /** Milliseconds that one connection may last. */
  readonly time: number
}

export interface Tunnel extends TunnelResource {
  readonly permission: Permission
  readonly egress: Egress
}

export function createTunnel(resource: TunnelResource, ports: EgressPorts | undefined): Tunnel {
  const [home] = resource.hosts
  if (home === undefined) throw new Failure('invalid', `\`${resource.alias}\` lists no host`)
  const bounds = {
    addresses: resource.addresses.map(parseNetwork),
    hosts: resource.hosts.map(({ host }) => host),
    ports: resource.hosts.map(({ port }) => port),
    home,
  }
  return { ...resource, permission: `${resource.alias}:connect`, egress: createEgress(bounds, ports) }
}

/** Opens a plain connection. Fails with `forbidden` where it may not lead, `unavailable` where nobody answers. */
export function connectTo({ egress }: Tunnel, host: string, port: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const left = (): void => reject(cutBy(signal))
    if (signal.aborted) return left()
    signal.addEventListener('abort', left, { once: true })
    egress.connect({ hostname: host, host, protocol: 'http:', port: String(port) }, (error, socket) => {
      signal.removeEventListener('abort', left)
      if (error !== null) return reject(error instanceof Failure ? error : unreachable(error))
      // It was opened for somebody who is gone.
      if (signal.aborted) socket.destroy()
      else resolve(socket)
    })
  })
}

const unreachable = (cause: Error): Failure => new Failure('unavailable', 'the upstream can’t be reached', { cause })
const cutBy = ({ reason }: AbortSignal): Failure =>
  reason instanceof Failure ? reason : new Failure('cancelled', 'the client left')

/**
 * Looks at what a client says first, and leaves it where it was: undefined where that is no TLS. Fails with `invalid`
 * for a message that can't be read in one way, `cancelled` when it does not come within so many milliseconds.
 */
export function firstWords(socket: Socket, within: number): Promise<ReturnType<typeof readClientHello>> {
  return new Promise((resolve, reject) => {
    let bytes: Buffer = Buffer.alloc(0)
    const over = (): void => end(() => reject(new Failure('cancelled', 'the client said nothing, or left')))
    const timer = setTimeout(over, within)
    const end = (then: () => void): void => {
      clearTimeout(timer)
      socket.off('readable', look).off('close', over).off('end', over)
      then()
    }
    function look(): void {
      for (let chunk: Buffer | null; (chunk = socket.read() as Buffer | null) !== null;)
        bytes = Buffer.concat([bytes, chunk])
      if (bytes.length === 0) return
      try {
        const hello = bytes[0] === 22 ? readClientHello(bytes.subarray(0, longestHello)) : undefined
        if (hello === undefined && bytes[0] === 22 && bytes.length < longestHello) return
        if (hello === undefined && bytes[0] === 22) throw new Failure('invalid', 'the TLS client hello is too long')
        end(() => {
          socket.unshift(bytes)
          resolve(hello)
        })
      } catch (thrown) {
        end(() => reject(Failure.from(thrown)))
      }
    }
    socket.on('readable', look).once('close', over).once('end', over)
    look()
  })
}

/** What passed through a tunnel. */
export interface Passed extends JsonObject {
  readonly sent: number
  readonly received: number
}

/** A tunnel where nothing passes for so long has been forgotten, in milliseconds. */
const idle = 300_000

/**
 * Passes bytes on in both directions, as fast as each side takes them, until both have ended. Fails with `too_large`
 * or `unavailable` when more passes, or for longer, than the resource allows; `limited` where `passed` says
 * that no more may go; as it was cut; and both ends are closed.
 */
export async function passBetween(
  client: Socket,
  upstream: Socket,
  { size, time }: Pick<Tunnel, 'size' | 'time'>,
  signal: AbortSignal,
  passed: CountPassed,
): Promise<Passed> {
  const within = new AbortController()
  const cut = (): void => within.abort(cutBy(signal))
  const tooLong = setTimeout(
    () => within.abort(new Failure('unavailable', `the tunnel was open for ${time / 1_000} s`)),
    time,
  )
  const forgotten = (): void => within.abort(new Failure('unavailable', `nothing passed for ${idle / 1_000} s`))
  if (signal.aborted) cut()
  signal.addEventListener('abort', cut, { once: true })
  client.setTimeout(idle, forgotten)
  const [out, back] = [counter(size, (bytes) => passed(0, bytes)), counter(size, passed)]
  try {
    const options = { signal: within.signal }
    await Promise.all([
      pipeline(client, out.stream, upstream, options),
      pipeline(upstream, back.stream, client, options),
    ])
    return { sent: out.bytes(), received: back.bytes() }
  } catch (thrown) {
    if (within.signal.aborted) throw within.signal.reason as Failure
    if (thrown instanceof Failure) throw thrown
    // One side went without a farewell, as many programs do: what passed, passed.
    return { sent: out.bytes(), received: back.bytes(), broken: true }
  } finally {
    clearTimeout(tooLong)
    signal.removeEventListener('abort', cut)
    client.destroy()
    upstream.destroy()
  }
}

function counter(most: number, count: CountPassed): { readonly stream: Transform; readonly bytes: () => number } {
  let bytes = 0
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      if (bytes > most) return done(new Failure('too_large', `more than ${most} bytes would pass through the tunnel`))
      if (count(chunk.length)) done(null, chunk)
      else done(new Failure('limited', 'no more may be sent'))
    },
  })
  return { stream, bytes: () => bytes }
}
