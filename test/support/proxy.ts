// The proxy over a policy, with an API behind it that speaks TLS under names of its own, all on this machine.
import fs from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { connect } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { createSecureContext, connect as connectTls } from 'node:tls'
import type { ConnectionOptions, TLSSocket } from 'node:tls'
import { buildConnector } from 'undici'
import { loadSettings } from '../../src/config/load.ts'
import { Failure } from '../../src/core/failure.ts'
import { openAuthority } from '../../src/gateway/http/certificates.ts'
import type { EgressPorts } from '../../src/gateway/http/egress.ts'
import { startProxy } from '../../src/gateway/http/proxy.ts'
import type { ProxyOptions } from '../../src/gateway/http/proxy.ts'
import type { TunnelResource } from '../../src/gateway/http/tunnel.ts'
import { sha256 } from '../../src/guard/digest.ts'
import { resourcesIn, startHttpGateway } from './http.ts'

export const proxyFolders: string[] = []
export function proxyFolder(): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-proxy-'))
  proxyFolders.push(folder)
  return folder
}

/** A server under any name that is asked for, with a certificate of an authority of its own. */
export async function startNamedServer(answer: RequestListener) {
  const folder = proxyFolder()
  const authority = openAuthority({
    keyFile: path.join(folder, 'ca.key'),
    certificateFile: path.join(folder, 'ca.pem'),
    clock: Date.now,
  })
  const asked: { method: string; url: string; headers: IncomingMessage['headers'] }[] = []
  const listener = (req: IncomingMessage, res: ServerResponse): void => {
    asked.push({ method: req.method ?? '', url: req.url ?? '', headers: req.headers })
    answer(req, res)
  }
  const names: string[] = []
  const tls = createHttpsServer(
    {
      ...authority.credentialFor('unnamed.example'),
      SNICallback: (name, done) => {
        names.push(name)
        done(null, createSecureContext(authority.credentialFor(name)))
      },
    },
    listener,
  )
  const plain = createHttpServer(listener)
  let connections = 0
  for (const server of [tls, plain]) server.on('connection', () => (connections += 1))
  const ports = await Promise.all([tls, plain].map(listening))
  return {
    asked,
    names,
    connections: () => connections,
    /** Every name leads here; nothing else is ever dialled. */
    egress(looked: string[] = [], dialled: string[] = []): EgressPorts {
      const dial = buildConnector({ allowH2: false, ca: authority.pem })
      return {
        resolve: async (name) => {
          looked.push(name)
          return ['127.0.0.1']
        },
        dial: (options, callback) => {
          dialled.push(`${options.hostname}:${options.port}`)
          const port = String(options.port === '80' ? ports[1] : ports[0])
          dial({ ...options, hostname: '127.0.0.1', port }, callback)
        },
      }
    },
    async close() {
      tls.closeAllConnections()
      plain.closeAllConnections()
      await Promise.all([tls, plain].map((server) => new Promise((resolve) => server.close(resolve))))
    },
  }
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

export function tunnelsIn(yaml: string): readonly TunnelResource[] {
  const { settings } = loadSettings(yaml, { file: '/nowhere/sallyport.yaml' })
  return Object.entries(settings.resources).flatMap(([alias, resource]) => {
    if (!('tunnel' in resource)) return []
    const { tunnel: hosts, trust, readers, ...rest } = resource
    return [{ ...rest, alias, hosts, label: { trust, readers } }]
  })
}

export async function startTestProxy(
  yaml: string,
  egress: EgressPorts,
  options: Partial<ProxyOptions> = {},
  secrets: Readonly<Record<string, string>> = {},
) {
  const http = await startHttpGateway(yaml, { gateway: { egress }, secrets })
  const folder = proxyFolder()
  const certificateFile = path.join(folder, 'ca.pem')
  const authority = openAuthority({ keyFile: path.join(folder, 'ca.key'), certificateFile, clock: Date.now })
  const { sessions, audit, clock, guard, gateway } = http
  const proxy = await startProxy({
    host: '127.0.0.1',
    port: 0,
    authenticate: async (credential) => {
      const session = sessions.byToken(sha256(credential))
      if (session === undefined || session.endedAt !== undefined) throw new Failure('unauthenticated', 'unknown')
      return session.id
    },
    gateway,
    guard,
    sessions,
    audit,
    clock,
    authority,
    resources: { http: resourcesIn(yaml), tunnels: tunnelsIn(yaml) },
    hold: 0,
    egress,
    report: (thrown) => http.reported.push(thrown),
    ...options,
  })
  return {
    ...http,
    proxy,
    authority,
    ca: authority.pem,
    caFile: certificateFile,
    /** As programs are told of it. */
    urlFor: (token: string) => proxy.url.replace('//', `//agent:${token}@`),
    async close() {
      await proxy.close()
      await http.close()
    },
  }
}

/** A connection on which bytes are written as they are. */
export class Wire {
  readonly socket: Socket
  #heard = ''
  #over = false
  #wake = (): void => {}

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#heard += chunk.toString('latin1')
      this.#wake()
    })
    for (const event of ['end', 'close', 'error'])
      socket.on(event, () => {
        this.#over = true
        this.#wake()
      })
  }

  static async to(port: number): Promise<Wire> {
    const socket = connect(port, '127.0.0.1')
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    return new Wire(socket)
  }

  send(text: string): this {
    this.socket.write(text, 'latin1')
    return this
  }

  get heard(): string {
    return this.#heard
  }

  /** What was heard once it holds; or all there was, at the end of the connection. */
  async until(what: RegExp): Promise<string> {
    while (!what.test(this.#heard) && !this.#over) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.#heard
  }

  async end(): Promise<string> {
    while (!this.#over) await new Promise<void>((resolve) => (this.#wake = resolve))
    return this.#heard
  }
}

export const basic = (token: string): string => `Basic ${Buffer.from(`agent:${token}`).toString('base64')}`

/** Asks the proxy for a connection. Whoever gets `200` has its bytes from there on. */
export async function connectVia(
  port: number,
  target: string,
  headers: Readonly<Record<string, string>>,
): Promise<{ head: string; wire: Wire }> {
  const wire = await Wire.to(port)
  const lines = Object.entries({ Host: target, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  wire.send(`CONNECT ${target} HTTP/1.1\r\n${lines.join('')}\r\n`)
  const head = await wire.until(/^HTTP\/1\.1 200[^]*\r\n\r\n/)
  return { head: head.startsWith('HTTP/1.1 200') ? head : await wire.end(), wire }
}

/** TLS on such a connection. */
export async function secure({ wire }: { wire: Wire }, options: ConnectionOptions): Promise<TLSSocket> {
  wire.socket.removeAllListeners('data')
  const stream = connectTls({ socket: wire.socket, ...options })
  await new Promise<void>((resolve, reject) => {
    stream.once('secureConnect', () => resolve())
    stream.once('error', reject)
    stream.once('close', () => reject(new Error('closed')))
  })
  stream.on('error', () => {})
  return stream
}
