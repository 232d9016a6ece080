import type { FactValue } from './condition.ts'
import type { Label } from './label.ts'

export type SessionId = string

/** One entry of an allow-list as it was written, kept with the session and compiled against each policy anew. */
export interface PermissionText {
  readonly do: string
  readonly when?: string
}

/** One run of one agent under one grant. */
export interface Session {
  readonly id: SessionId
  readonly agent: string
  /** On whose behalf: `person:anna`, `service:desk`, or the agent itself (`agent:reader`). */
  readonly behalf: string
  /** The session that lent this one what it holds. */
  readonly parent?: SessionId
  /** Set by who started it, never by the agent. A child has all of its parent's, unchanged. */
  readonly facts: Readonly<Record<string, FactValue>>
  /** Narrower permissions than the agent's own; absent: all of them. */
  readonly only?: readonly PermissionText[]
  /** Limits of this session, by measure, as `parseLimit` reads them. */
  readonly limits: Readonly<Record<string, string>>
  readonly startedBy: string
  readonly startedAt: number
  /** Nothing of it starts at or after this moment. Epoch milliseconds. */
  readonly deadline: number
  readonly endedAt?: number
  readonly endedBecause?: string
  /** SHA-256 (hex) of the token; absent where the token is a signed JWT. */
  readonly tokenDigest?: string
  readonly label: Label
}

/** Keeps sessions. Each method is durable when it resolves. */
export interface SessionStore {
  /** Fails with `conflict` if the id is taken. */
  add(session: Session): Promise<void>
  get(id: SessionId): Promise<Session | undefined>
  byToken(tokenDigest: string): Promise<Session | undefined>
  /** Ends those that are not ended yet. A first end stays. */
  end(ids: readonly SessionId[], because: string, at: number): Promise<void>
  children(id: SessionId): Promise<readonly Session[]>
  /** Joins a label to those of these sessions, all or none. Fails with `not_found`. */
  setLabel(ids: readonly SessionId[], label: Label): Promise<void>
  /** Sessions that are not ended and not over at `now`, newest first. */
  live(now: number): Promise<readonly Session[]>
  list(limit: number): Promise<readonly Session[]>
  /** Forgets sessions that were over before a moment. */
  prune(before: number): Promise<number>
}

/** How many sessions may stand in one chain unless configuration says otherwise. */
export const defaultDepth = 4
export const defaultDeadline = 30 * 60_000
