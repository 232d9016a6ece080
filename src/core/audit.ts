import type { EventType } from './event.ts'
import type { Json, JsonObject } from './json.ts'

/**
 * Something that happened, as its teller gives it. Fields without a value are left out.
 *
 * The named fields are those that the log can be searched by; any others may stand beside them. `id` is the log's.
 */
export interface NewEvent {
  readonly type: EventType
  /** When it happened, epoch milliseconds. */
  readonly at: number
  readonly session?: string | undefined
  readonly agent?: string | undefined
  readonly permission?: string | undefined
  readonly decision?: string | undefined
  readonly approval?: string | undefined
  /** Id of the event that this one belongs to, such as the decision of an outcome. */
  readonly of?: string | undefined
  readonly [field: string]: Json | undefined
}

/** An event as the log holds it. `id` is `evt_<name of the log>_<index>`; the index counts from 0 without a gap. */
export interface AuditEvent extends JsonObject {
  readonly id: string
  readonly type: string
  readonly at: number
}

/**
 * When an append counts. `durable`: on the disk and under a signed checkpoint, so that it survives a power cut and can
 * be proven. `written`: handed to the operating system, so that it survives the end of the process but not a power cut.
 */
export type Wait = 'durable' | 'written'

export interface Appended {
  /** The event's id, if `done` resolves. An append that fails was not recorded under it. */
  readonly id: string
  /** Fails with `unavailable` when the event could not be written: what it was to record must not happen then. */
  readonly done: Promise<void>
}

/** What to find. All given fields must match. */
export interface EventFilter {
  /** Exact, or all below with a last `.*`: `action.*`. */
  readonly type?: string
  readonly session?: string
  readonly agent?: string
  readonly permission?: string
  readonly decision?: string
  readonly approval?: string
  readonly of?: string
  /** Epoch milliseconds, inclusive. */
  readonly from?: number
  /** Epoch milliseconds, exclusive. */
  readonly to?: number
  /** Found anywhere in the event's JSON text, whatever the case. */
  readonly text?: string
}

export interface EventPage {
  /** Newest first. */
  readonly events: readonly AuditEvent[]
  /** Give it back to read on; absent at the end. A page may be short, even empty, and still have one: work is bounded. */
  readonly next?: string
}

/** That the event of an index is in the tree that a checkpoint signs (RFC 9162 §2.1.3). Hashes are base64. */
export interface InclusionProof {
  readonly index: number
  readonly leaf: string
  readonly path: readonly string[]
  /** A C2SP checkpoint: a signed note with the tree's size and root. */
  readonly checkpoint: string
}

/** That a tree of one size is the beginning of a later one (RFC 9162 §2.1.4). Hashes are base64. */
export interface ConsistencyProof {
  readonly from: number
  readonly to: number
  readonly path: readonly string[]
}

/**
 * `failing`: nothing can be written at present; it is tried again without being asked.
 * `damaged`: what is on the disk is not what was signed; appends are refused until a person has looked.
 */
export type AuditState = 'ok' | 'failing' | 'damaged' | 'closed'

export interface AuditHealth {
  readonly state: AuditState
  /** What is wrong and what to do, unless `ok`. */
  readonly reason?: string
  /** Events that were acknowledged or may have been written. */
  readonly size: number
  /** Events under the newest signed checkpoint. */
  readonly signed: number
  /** Events that wait to be written. */
  readonly waiting: number
  /** Appends refused since the log was opened. */
  readonly refused: number
}

/** As much of an `AbortSignal` as is needed here. */
export interface Signal {
  readonly aborted: boolean
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** An append-only log of what was decided and done. Implementations keep promises 1, 7 and 8. */
export interface AuditLog {
  /** The name in every id of its events. */
  readonly name: string

  /**
   * Records an event; `durable` unless said. Returns at once: the order of appends is the order in the log, and it
   * takes its copy before returning. An event too large or with what JSON can't carry is capped, and says so in its
   * field `capped`. Fails with `invalid` at once for a `type` or `at` that is none: that is a mistake in the program.
   */
  append(event: NewEvent, wait?: Wait): Appended

  /** The event of an id. Undefined if this log has none, or has removed it by retention. */
  get(id: string): Promise<AuditEvent | undefined>

  /** A page of at most 500 events (50 unless said), newest first. Fails with `invalid` for a cursor that is not its own. */
  search(filter: EventFilter, page?: { readonly limit?: number; readonly cursor?: string }): Promise<EventPage>

  /** Acknowledged events in order from an index (default: from now on), then new ones as they come, until the signal. */
  tail(options?: { readonly from?: number; readonly signal?: Signal }): AsyncIterable<AuditEvent>

  /** Fails with `not_found` if no checkpoint covers the event. */
  inclusion(id: string): Promise<InclusionProof>

  /** Fails with `invalid` unless 0 <= from <= to <= the signed size. */
  consistency(from: number, to: number): Promise<ConsistencyProof>

  /** The newest checkpoint, a C2SP signed note. Keep a copy elsewhere: it shows later that nothing was cut off. */
  checkpoint(): Promise<string>

  health(): AuditHealth

  /** Writes what waits, signs it, and lets the log go. Appends are refused from then on. */
  close(): Promise<void>
}
