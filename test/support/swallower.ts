// A way to a server on this machine that can be told to go silent, as a network that has stalled: nothing ends, nothing comes.
import net from 'node:net'
import type { AddressInfo } from 'node:net'

export interface Swallower {
  readonly port: number
  /** Connections so far. */
  readonly made: number
  /** Of these, how many went silent. */
  readonly silent: number
  /** What a client has to say for its connection to go silent from then on. Nothing: none does any more. */
  swallow(what?: RegExp): void
  close(): Promise<void>
}

export async function startSwallower(port: number): Promise<Swallower> {
  const sockets = new Set<net.Socket>()
  let what: RegExp | undefined
  let made = 0
  let silent = 0
  const server = net.createServer({ allowHalfOpen: true }, (client) => {
    made += 1
    const behind = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    let isSilent = false
    for (const [from, to] of [
      [client, behind],
      [behind, client],
    ] as const) {
      sockets.add(from)
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
      from.on('end', () => {
        if (!isSilent) to.end()
      })
      from.on('data', (chunk: Buffer) => {
        if (from === client && !isSilent && what?.test(chunk.toString('latin1')) === true) {
          isSilent = true
          silent += 1
        }
        if (!isSilent) to.write(chunk)
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    get made() {
      return made
    },
    get silent() {
      return silent
    },
    swallow: (next) => (what = next),
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}
