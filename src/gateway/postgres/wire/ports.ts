import type { Duplex } from 'node:stream'
import type { JsonObject } from '../../../core/json.ts'
import type { Guard } from '../../../guard/guard.ts'
import type { Masker } from '../../../guard/mask.ts'
import type { Backend } from '../connect.ts'
import type { Live } from '../server.ts'
import type { Complaint } from './frames.ts'

// What one connection is given, and what all of its parts may do to it.

export interface RelayPorts {
  readonly client: Duplex
  readonly backend: Backend
  readonly session: string
  readonly live: Pick<Live, 'resource' | 'impact' | 'checker' | 'seen'>
  readonly guard: Pick<Guard, 'run' | 'visible' | 'explain'>
  readonly mask: Pick<Masker, 'text' | 'bytes'>
  /** How long a statement waits for people, in milliseconds. */
  readonly hold: number
  readonly limits: RelayLimits
  readonly report: (thrown: unknown) => void
}

export interface RelayLimits {
  /** Milliseconds that a connection may do nothing, outside of a transaction and within one. */
  readonly idle: number
  readonly idleInTransaction: number
  /** Milliseconds that a client may leave what it is sent unread. */
  readonly stalled: number
}

/** What a connection did, for the record of its end. */
export interface Totals extends JsonObject {
  readonly statements: number
  /** Of these, those that needed no permission. */
  readonly free: number
  readonly refused: number
  readonly rows: number
  readonly bytes: number
}

/** What a connection did so far. */
export type Sums = { -readonly [Sum in keyof Totals]: Totals[Sum] }

/** The connection itself, for its parts. */
export interface Life {
  readonly isEnded: boolean
  /** Ends it, with these words for the client. */
  end(complaint: Complaint | undefined, because: string): void
  /** Ends it because of what was thrown. */
  failed(thrown: unknown): void
  /** Whatever goes wrong here ends this connection, and no other. */
  guarded(work: () => void): void
}
