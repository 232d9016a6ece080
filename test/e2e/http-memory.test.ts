// What the gateway holds of bodies that have no end: nothing but what is on its way. The process is a real one, and its
// memory is what the system says of it.
import fs from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newFolder, removeFolders, startSallyport } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'

const megabyte = 1_000_000
/** What is sent in all, if it is taken: 210 MB. */
const much = 3_200 * 0x10000
/** What the process may have more than before, at any moment: buffers of sockets, and what is not collected yet. */
const most = 120 * megabyte

let upstream: Server
let onRequest: (socket: Socket, first: Buffer) => void
let sallyport: Sallyport
let token: string
const sockets = new Set<Socket>()

const keep = (socket: Socket): Socket => {
  sockets.add(socket)
  return socket.on('error', () => {})
}

beforeEach(async () => {
  upstream = createServer((socket) => {
    keep(socket).once('data', (first) => onRequest(socket, first))
  })
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`
  const operation = { effect: 'write', response: { types: ['*/*'], size: '1 GB', time: '4 s' } }
  sallyport = await startSallyport({
    as: 'process',
    folder: newFolder(),
    settings: {
      resources: {
        desk: {
          http: url,
          operations: {
            small: { ...operation, request: 'PUT /small', upload: { size: '5 MB' } },
            wanted: {
              ...operation,
              request: 'PUT /wanted',
              upload: { size: '1 GB' },
              response: { time: '50 s' },
            },
            large: { ...operation, request: 'PUT /large', upload: { size: '1 GB' } },
            endless: { ...operation, request: 'GET /endless', effect: 'read' },
          },
        },
      },
      agents: {
        agent: {
          may: ['desk:small', 'desk:wanted', 'desk:large', 'desk:endless'],
          limits: { repeats: 'unlimited', bytes: '100 GB/session', sent: '100 GB/session' },
        },
      },
    },
  })
  ;({ token } = await sallyport.session('agent'))
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  sockets.clear()
  await sallyport.stop()
  await new Promise((resolve) => upstream.close(resolve))
})
afterAll(removeFolders)

/** Resident memory of the gateway now, and at most since it was asked last, in bytes (proc(5)). */
function memory(): { readonly now: number; readonly peak: number } {
  const folder = `/proc/${sallyport.child?.pid}`
  const status = fs.readFileSync(`${folder}/status`, 'utf8')
  const of = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1_024
  const read = { now: of('VmRSS'), peak: of('VmHWM') }
  fs.writeFileSync(`${folder}/clear_refs`, '5')
  return read
}

function request(line: string, headers: readonly string[] = []): Socket {
  const { hostname, port, host } = new URL(sallyport.agentsUrl)
  const socket = keep(connect(Number(port), hostname))
  socket.write([line, `host: ${host}`, `authorization: Bearer ${token}`, ...headers, '', ''].join('\r\n'))
  return socket
}

/** Sends a body as fast as it is taken, until it is over or the connection is; resolves with what was handed on. */
async function pour(socket: Socket, isChunked: boolean): Promise<number> {
  const bytes = Buffer.alloc(0x10000, 'x')
  const piece = isChunked ? Buffer.concat([Buffer.from('10000\r\n'), bytes, Buffer.from('\r\n')]) : bytes
  let sent = 0
  while (sent < much && !socket.destroyed) {
    sent += piece.length
    if (socket.write(piece)) await new Promise(setImmediate)
    else
      await new Promise<void>((resolve) => {
        const go = (): void => {
          socket.off('drain', go).off('close', go)
          resolve()
        }
        socket.on('drain', go).on('close', go)
      })
  }
  return sent
}

const closed = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    let text = ''
    socket.on('data', (chunk) => (text += text.length < 10_000 ? String(chunk) : ''))
    if (socket.destroyed) resolve(text)
    else socket.once('close', () => resolve(text))
  })

describe.skipIf(process.platform !== 'linux')('promise 9: of a body without end, nothing is held', () => {
  test.each([
    ['says how large it is', false, `content-length: ${much}`],
    ['does not', true, 'transfer-encoding: chunked'],
  ])('an upload that is too large and goes on after it was refused: one that %s', async (_, isChunked, how) => {
    onRequest = (socket) => socket.resume()
    const before = memory().now
    const socket = request('PUT /api/desk/small HTTP/1.1', ['content-type: application/octet-stream', how])
    const over = closed(socket)
    const sent = await pour(socket, isChunked)
    const answer = await over
    expect(memory().peak - before).toBeLessThan(most)
    expect(sent).toBeLessThan(much / 2)
    // A client that is still sending when the connection ends may not see the answer.
    expect(answer).toMatch(/^$|^HTTP\/1\.1 (?:413|502) /)
  })

  test('an upload that the API stops reading is not read either, and ends in time', async () => {
    onRequest = (socket) => socket.pause()
    const before = memory().now
    const socket = request('PUT /api/desk/large HTTP/1.1', [
      'content-type: application/octet-stream',
      `content-length: ${much}`,
    ])
    const over = closed(socket)
    const sent = await pour(socket, false)
    expect(await over).toMatch(/^$|^HTTP\/1\.1 504 /)
    expect(memory().peak - before).toBeLessThan(most)
    expect(sent).toBeLessThan(much / 2)
  })

  test('an answer that its client stops reading is not read either, and ends in time', async () => {
    let sent: Promise<number> | undefined
    onRequest = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n')
      sent = pour(socket, false)
    }
    const before = memory().now
    const socket = request('GET /api/desk/endless HTTP/1.1')
    await new Promise((resolve) => socket.once('readable', resolve))
    // Nothing is read from here on, so that not even the end of the connection is seen: the API sees it.
    expect(await sent).toBeLessThan(much / 2)
    expect(memory().peak - before).toBeLessThan(most)
  })

  test('an upload of that size that is wanted passes, and nothing of it is held', async () => {
    onRequest = (socket, first) => {
      let left = much - (first.length - first.indexOf('\r\n\r\n') - 4)
      socket.on('data', (chunk) => {
        left -= chunk.length
        if (left <= 0) socket.end('HTTP/1.1 204 No Content\r\n\r\n')
      })
    }
    const before = memory().now
    const socket = request('PUT /api/desk/wanted HTTP/1.1', [
      'content-type: application/octet-stream',
      `content-length: ${much}`,
      'connection: close',
    ])
    const over = closed(socket)
    await pour(socket, false)
    expect(await over).toMatch(/^HTTP\/1\.1 204 /)
    expect(memory().peak - before).toBeLessThan(most)
  })
})
