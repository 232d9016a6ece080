import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createReply, createTelling } from './reply.ts'
import { RpcError } from './wire.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** As much of a response as a reply uses. */
function response() {
  const written: string[] = []
  const head: { status?: number; headers?: Record<string, unknown> } = {}
  const events = new EventEmitter()
  const res = Object.assign(events, {
    writableLength: 0,
    destroyed: false,
    writeHead: (status: number, headers: Record<string, unknown>) => void Object.assign(head, { status, headers }),
    flushHeaders: () => {},
    write: (text: string) => written.push(text) > 0,
    end: (text: string) => void written.push(text),
    destroy() {
      res.destroyed = true
      events.emit('close')
    },
  })
  return { res, written, head, asResponse: res as unknown as ServerResponse }
}

const options = { id: 1, canStream: true, canBeJson: true, progressToken: 'p' } as const

test('an answer that comes soon is one JSON body; a late one ends a stream that was kept alive', () => {
  const soon = response()
  createReply(soon.asResponse, options).answer({ a: 1 })
  expect(soon.head).toMatchObject({ status: 200, headers: { 'content-type': 'application/json' } })
  expect(soon.written).toEqual(['{"jsonrpc":"2.0","id":1,"result":{"a":1}}'])

  const late = response()
  const reply = createReply(late.asResponse, options)
  vi.advanceTimersByTime(26_000)
  expect(late.head).toMatchObject({ status: 200, headers: { 'content-type': 'text/event-stream' } })
  reply.fail(new RpcError(-32603, 'no'), 400)
  expect(late.written).toEqual([
    ': waiting\n\n',
    ': waiting\n\n',
    'event: message\ndata: {"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}\n\n',
  ])
  vi.advanceTimersByTime(60_000)
  expect(late.written).toHaveLength(3)
})

test('a client that takes no stream gets the answer alone, however long it takes', () => {
  const { asResponse, written, head } = response()
  const reply = createReply(asResponse, { ...options, canStream: false })
  vi.advanceTimersByTime(60_000)
  reply.say({ method: 'notifications/progress' })
  reply.answer({})
  expect(head).toMatchObject({ headers: { 'content-type': 'application/json' } })
  expect(written).toHaveLength(1)
})

test('promise 9: a client that reads nothing is left, and nothing piles up for it', () => {
  const { res, asResponse, written } = response()
  const reply = createReply(asResponse, options)
  reply.stream()
  res.writableLength = 2_000_000
  for (let count = 0; count < 100; count++) reply.say({ method: 'notifications/progress' })
  expect(written).toEqual([])
  vi.advanceTimersByTime(10_000)
  expect(res.destroyed).toBe(true)
  expect(reply.left.aborted).toBe(true)
  expect(reply.isOpen).toBe(false)
})

test('leaving after the answer is no leaving', () => {
  const { res, asResponse } = response()
  const reply = createReply(asResponse, options)
  reply.answer({})
  res.emit('close')
  expect(reply.left.aborted).toBe(false)
})

test('progress only rises, whoever tells of it, and a flood is thinned out', () => {
  const { asResponse, written } = response()
  const reply = createReply(asResponse, options)
  const telling = createTelling(() => reply)
  const told = (): number[] => written.map((text) => (/"progress":([\d.]+)/.exec(text) ?? [])[1]).map(Number)
  telling.step('waiting')
  telling.step('waiting still')
  for (const progress of [0, 1, 1, 0.5, NaN, 2]) telling.tell({ progress, total: 2 })
  expect(told()).toEqual([1, 2, 3, 4])
  for (let progress = 3; progress < 1_000; progress++) telling.tell({ progress })
  expect(told().length).toBeLessThan(30)
  vi.advanceTimersByTime(1_000)
  telling.tell({ progress: 1_000 })
  expect(told().at(-1)).toBe(1_002)
})

test('a client that asked for no progress is told none', () => {
  const { asResponse, written } = response()
  const reply = createReply(asResponse, { ...options, progressToken: undefined })
  createTelling(() => reply).tell({ progress: 1 })
  expect(written).toEqual([])
})
