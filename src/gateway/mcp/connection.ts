import type { JsonObject } from '../../core/json.ts'
import type { Capabilities, Era, Question } from './wire.ts'

/** How far something got, as an upstream tells it. */
export interface Progress {
  readonly progress: number
  readonly total?: number
  readonly message?: string
}

/** One request to an upstream. */
export interface UpstreamCall {
  readonly method: string
  readonly params: JsonObject
  readonly signal: AbortSignal
  /** Milliseconds that the upstream may take. The time in which it waits for an answer to a question doesn't count. */
  readonly timeout: number
  /** Bytes of the answer. */
  readonly most: number
  /** `Mcp-Param-*` headers. */
  readonly headers?: Readonly<Record<string, string>>
  /** What the one who calls can be asked for: told to the upstream with each request, where the protocol has that. */
  readonly capabilities: Capabilities
  /** From this level on the upstream's log is wanted. */
  readonly logLevel?: string
  readonly onProgress?: (progress: Progress) => void
  readonly onLog?: (params: JsonObject) => void
  /** Asked by a legacy upstream while it works on this request. */
  readonly ask?: (question: Question) => Promise<JsonObject>
}

export interface UpstreamAnswer {
  readonly result: JsonObject
  /** Its size as it came. */
  readonly bytes: number
}

/** The upstream answered with an error. Its words stay inside: they are for the log alone. */
export class UpstreamError extends Error {
  readonly code: number
  readonly data: unknown

  constructor(code: number, message: string, data: unknown) {
    super(message)
    this.name = 'UpstreamError'
    this.code = code
    this.data = data
  }
}

export type Changed = 'tools' | 'prompts' | 'resources'

/** What an upstream says unasked. */
export interface ConnectionEvents {
  readonly changed: (what: Changed) => void
  readonly updated: (uri: string) => void
  /** Told once. Nothing can be called afterwards. */
  readonly closed: (because: string) => void
}

/** A way to one upstream server that is ready for requests. */
export interface Connection {
  readonly era: Era
  readonly version: string
  /** What the server says that it can do. */
  readonly offers: JsonObject
  readonly instructions: string | undefined
  /** Fails with an `UpstreamError`; with a Failure `unavailable`, `too_large`, `cancelled`, or `invalid` for nonsense. */
  call(call: UpstreamCall): Promise<UpstreamAnswer>
  /** The resources to be told about from now on, replacing those before. */
  watch(uris: readonly string[]): Promise<void>
  close(): Promise<void>
}

/** What we tell upstreams of ourselves. */
export const identity = { name: 'sallyport', version: '0.1.0' }
