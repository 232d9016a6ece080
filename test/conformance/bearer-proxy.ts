/**
 * A loopback proxy that adds headers to every request and changes nothing else. The conformance suite cannot send
 * an `Authorization` header; with this in between it can be run against a server that asks for one.
 *
 * `Host` and `Origin` are passed on as they are, except where they name the proxy itself: those then name the target,
 * as if the client had dialled it.
 */
import { createServer, request as dial } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface BearerProxy {
  /** The target's address with the proxy's host and port. */
  url: string
  close: () => Promise<void>
}

const perConnection = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te', 'trailer'])

/** Listens on 127.0.0.1 and passes every request on to the host of `target`, with `headers` set. */
export async function startBearerProxy(target: string, headers: Record<string, string>): Promise<BearerProxy> {
  const { hostname, port, host, href, origin } = new URL(target)
  const added = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))

  const server = createServer((req, res) => {
    const passed = pairs(req.rawHeaders).filter(([name]) => forwarded(name) && !added.has(name.toLowerCase()))
    const upstream = dial({
      hostname: hostname.replace(/^\[(.*)\]$/, '$1'),
      port,
      method: req.method,
      path: req.url,
      setHost: false,
      agent: false,
      headers: [...passed.map(([name, value]) => [name, asDialled(name, value)]), ...added].flat(),
    })
    upstream.once('response', (answer) => {
      const answered = pairs(answer.rawHeaders).filter(([name]) => forwarded(name))
      res.writeHead(answer.statusCode ?? 502, answer.statusMessage, answered.flat())
      res.flushHeaders()
      answer.pipe(res)
      answer.once('error', () => res.destroy())
      answer.once('aborted', () => res.destroy())
    })
    // A target that cannot be reached, or hangs up, looks the same from here: the connection is lost.
    upstream.once('error', () => res.destroy())
    res.once('close', () => upstream.destroy())
    req.pipe(upstream)
  })

  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  const own = `127.0.0.1:${(server.address() as AddressInfo).port}`

  function asDialled(name: string, value: string): string {
    if (name.toLowerCase() === 'host' && value === own) return host
    if (name.toLowerCase() === 'origin' && value === `http://${own}`) return origin
    return value
  }

  return {
    url: href.replace(origin, `http://${own}`),
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

function forwarded(name: string): boolean {
  return !perConnection.has(name.toLowerCase())
}

function pairs(raw: string[]): [name: string, value: string][] {
  return Array.from({ length: raw.length / 2 }, (_, index) => [raw[2 * index] ?? '', raw[2 * index + 1] ?? ''])
}
