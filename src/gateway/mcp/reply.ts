import type { ServerResponse } from 'node:http'
import type { JsonObject } from '../../core/json.ts'
import type { Progress } from './connection.ts'
import { errorText, resultText } from './wire.ts'
import type { RequestId, RpcError } from './wire.ts'

/**
 * The answer to one request, on its way to a client: one JSON body; or, as soon as something has to be said before the
 * answer, or the answer takes long, a stream of events that ends with it.
 */
export interface Reply {
  readonly id: RequestId
  /** Aborts when the client leaves before it was answered. */
  readonly left: AbortSignal
  readonly isOpen: boolean
  /** Whether something can be said before the answer. */
  readonly canStream: boolean
  readonly progressToken: RequestId | undefined
  /** Opens the stream now, so that a client sees that its request is being worked on. */
  stream(): void
  /** Sends a message that is no answer. Dropped where the client takes no stream, or reads too slowly. */
  say(message: JsonObject): void
  answer(result: JsonObject): void
  fail(error: RpcError, status?: number): void
}

/** A client that waits this long in silence is shown a stream with a comment now and then: many give up after 60 s. */
const silence = 10_000
const betweenComments = 15_000
/** Bytes that a client may leave unread before it is taken for gone. */
const mostUnread = 1_000_000

export const streamHeaders = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-cache, no-transform',
  'x-accel-buffering': 'no',
} as const

export const eventText = (message: string): string => `event: message\ndata: ${message}\n\n`

export interface ReplyOptions {
  readonly id: RequestId
  readonly canStream: boolean
  readonly canBeJson: boolean
  readonly progressToken: RequestId | undefined
}

export function createReply(res: ServerResponse, { id, canStream, canBeJson, progressToken }: ReplyOptions): Reply {
  const gone = new AbortController()
  let isStream = false
  let isOpen = true
  let unread = 0
  let timer = setTimeout(canStream ? beat : () => {}, silence)

  res.once('close', () => {
    clearTimeout(timer)
    if (!isOpen) return
    isOpen = false
    gone.abort()
  })

  function beat(): void {
    if (!isOpen) return
    stream()
    // Nothing was read since the last comment, and much waits: nobody is there.
    if (res.writableLength > mostUnread && res.writableLength >= unread) return void res.destroy()
    unread = res.writableLength
    res.write(': waiting\n\n')
    timer = setTimeout(beat, betweenComments)
  }

  function stream(): void {
    if (!isOpen || isStream || !canStream) return
    isStream = true
    res.writeHead(200, streamHeaders)
    res.flushHeaders()
  }

  function end(text: string, status: number): void {
    if (!isOpen) return
    isOpen = false
    clearTimeout(timer)
    if (!isStream && !canBeJson && status === 200) {
      isStream = true
      res.writeHead(200, streamHeaders)
    }
    if (isStream) return void res.end(eventText(text))
    res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
    res.end(text)
  }

  return {
    id,
    left: gone.signal,
    get isOpen() {
      return isOpen
    },
    canStream,
    progressToken,
    stream,
    say(message) {
      if (!isOpen || !canStream || res.writableLength > mostUnread) return
      stream()
      res.write(eventText(JSON.stringify({ jsonrpc: '2.0', ...message })))
    },
    answer: (result) => end(resultText(id, result), 200),
    fail: (error, status = 200) => end(errorText(id, error), status),
  }
}

/** Progress of one request as its client sees it: strictly rising, whoever tells of it, and not too often. */
export interface Telling {
  /** From an upstream. */
  tell(progress: Progress): void
  /** From us: a step that has no measure. */
  step(message: string): void
}

/** Per second, after a burst of as many. What is too much is left out: the next says how far it got. */
const mostPerSecond = 20

export function createTelling(reply: () => Reply): Telling {
  let last = -Infinity
  let offset = 0
  let left = mostPerSecond
  let countedAt = performance.now()

  function send(progress: number, total: number | undefined, message: string | undefined): void {
    const { progressToken } = reply()
    if (progressToken === undefined || !(progress > last) || !Number.isFinite(progress)) return
    last = progress
    reply().say({
      method: 'notifications/progress',
      params: {
        progressToken,
        progress,
        ...(total === undefined ? {} : { total }),
        ...(message === undefined ? {} : { message }),
      },
    })
  }

  return {
    tell({ progress, total, message }) {
      const now = performance.now()
      left = Math.min(mostPerSecond, left + ((now - countedAt) / 1000) * mostPerSecond)
      countedAt = now
      if (left < 1) return
      left -= 1
      send(offset + progress, total === undefined ? undefined : offset + total, message)
    },
    step(message) {
      offset = Math.max(last, 0) + 1
      send(offset, undefined, message)
    },
  }
}
