import type { ServerResponse } from 'node:http'
import { Failure } from '../../core/failure.ts'
import { randomId } from '../../guard/digest.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Changed } from './connection.ts'
import { identity } from './connection.ts'
import { eventText, streamHeaders } from './reply.ts'
import { meta } from './wire.ts'
import type { RequestId } from './wire.ts'

/** Streams of modern clients that want to be told of changes (`subscriptions/listen`). */
export interface Listeners {
  /** Returns the name of the stream. Nothing is sent before `acknowledge`. Fails with `limited`. */
  open(session: string, id: RequestId, wanted: JsonObject, res: ServerResponse, onClose: () => void): string
  /** Begins the stream by saying what will be told on it. */
  acknowledge(listener: string, uris: readonly string[]): void
  announce(what: Changed, method: string): void
  update(listener: string, uri: string): void
  /** Ends the streams of a session. Returns their names. */
  forget(session: string): readonly string[]
  close(): void
}

const most = { session: 32, all: 5_000 } as const
const mostUnread = 1_000_000
const betweenComments = 15_000

interface Listener {
  readonly session: string
  readonly id: RequestId
  readonly wants: ReadonlySet<Changed>
  readonly res: ServerResponse
  isOpen: boolean
}

export function createListeners(): Listeners {
  const listeners = new Map<string, Listener>()
  const beat = setInterval(() => {
    for (const listener of listeners.values()) if (listener.isOpen) write(listener, ': here\n\n')
  }, betweenComments)
  beat.unref()

  function write({ res }: Listener, text: string): void {
    if (res.writableLength > mostUnread) return void res.destroy()
    res.write(text)
  }

  function say(listener: Listener, method: string, params: JsonObject = {}): void {
    if (!listener.isOpen) return
    const stamped = { ...params, _meta: { [meta.subscription]: listener.id } }
    write(listener, eventText(JSON.stringify({ jsonrpc: '2.0', method, params: stamped })))
  }

  function end(name: string): void {
    const listener = listeners.get(name)
    if (listener === undefined) return
    listeners.delete(name)
    const result = { resultType: 'complete', _meta: { [meta.subscription]: listener.id, [meta.server]: identity } }
    if (listener.isOpen) write(listener, eventText(JSON.stringify({ jsonrpc: '2.0', id: listener.id, result })))
    listener.res.end()
  }

  return {
    open(session, id, wanted, res, onClose) {
      const own = [...listeners.values()].filter((each) => each.session === session)
      if (own.length >= most.session || listeners.size >= most.all)
        throw new Failure('limited', 'too many streams are open')
      const name = randomId('lsn')
      const wants = (['tools', 'prompts', 'resources'] as const).filter((what) => wanted[`${what}ListChanged`] === true)
      listeners.set(name, { session, id, wants: new Set(wants), res, isOpen: false })
      res.once('close', () => {
        listeners.delete(name)
        onClose()
      })
      return name
    },
    acknowledge(name, uris) {
      const listener = listeners.get(name)
      if (listener === undefined) return
      listener.isOpen = true
      listener.res.writeHead(200, streamHeaders)
      const notifications = {
        ...Object.fromEntries([...listener.wants].map((what) => [`${what}ListChanged`, true])),
        ...(uris.length === 0 ? {} : { resourceSubscriptions: uris }),
      }
      say(listener, 'notifications/subscriptions/acknowledged', { notifications })
      if (Object.keys(notifications).length === 0) end(name)
    },
    announce(what, method) {
      for (const listener of listeners.values()) if (listener.wants.has(what)) say(listener, method)
    },
    update(name, uri) {
      const listener = listeners.get(name)
      if (listener !== undefined) say(listener, 'notifications/resources/updated', { uri })
    },
    forget(session) {
      const own = [...listeners].filter(([, listener]) => listener.session === session).map(([name]) => name)
      for (const name of own) end(name)
      return own
    },
    close() {
      clearInterval(beat)
      for (const name of listeners.keys()) end(name)
    },
  }
}
