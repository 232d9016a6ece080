import type { Approval } from '../core/approval.ts'
import type { AuditHealth } from '../core/audit.ts'
import type { FactValue } from '../core/condition.ts'
import type { Decision, TraceStep } from '../core/decide.ts'
import type { JsonObject } from '../core/json.ts'
import type { PinKind } from '../core/pin.ts'
import type { Session } from '../core/session.ts'
import type { Stop } from '../core/stop.ts'

// The shapes on the wire of the people's side. Types only: the CLI is a client of exactly this.

/** Every error, with a status of 4xx or 5xx. */
export interface WireError {
  readonly error: { readonly code: string; readonly message: string }
}

export interface Status {
  readonly version: string
  readonly startedAt: number
  readonly agents: { readonly url: string }
  readonly people: { readonly url: string }
  /** Where there is one. */
  readonly proxy?: { readonly url: string }
  /** Where agents connect that speak the protocol of PostgreSQL. */
  readonly sql?: { readonly url: string }
  readonly policy: {
    readonly digest: string
    readonly file: string
    readonly loadedAt: number
    readonly warnings: readonly string[]
  }
  readonly audit: AuditHealth & { readonly name: string }
  readonly sessions: number
  readonly pending: number
  readonly stops: readonly string[]
  readonly resources: readonly ResourceStatus[]
  readonly caller: string
}

export interface ResourceStatus {
  readonly name: string
  readonly kind: 'mcp' | 'http' | 'postgres' | 'functions' | 'tunnel'
  readonly state: 'connecting' | 'ready' | 'failed' | 'stopped'
  readonly reason?: string
  /** Tools, or functions. */
  readonly tools: number
  /** Of a tunnel: hosts that it may lead to. */
  readonly hosts?: number
  readonly quarantined: number
}

/** A session without what only its holder needs. */
export type SessionView = Omit<Session, 'tokenDigest'>

/** Requests, and bytes that went out and came back. */
export interface AmountsView {
  readonly requests: number
  readonly sent: number
  readonly received: number
}

/** With what passed for it, and for all that were made from it. */
export type ListedSession = SessionView & { readonly traffic: AmountsView }

export interface ShownSession {
  readonly session: SessionView
  readonly traffic: {
    /** Counting begins with the session, and anew when the gateway starts. The audit log has it all. */
    readonly since: number
    readonly total: AmountsView
    /** The one that was sent most first. */
    readonly hosts: readonly (AmountsView & { readonly host: string })[]
    /** Hosts beyond the first hundred, together. */
    readonly others?: AmountsView
  }
}

export interface StartSession {
  readonly agent: string
  /** On whose behalf: a person of the configuration, or free text such as a user's id. Default: the caller. */
  readonly behalf?: string
  readonly facts?: Readonly<Record<string, FactValue>>
  readonly only?: readonly (string | { readonly do: string; readonly when?: string })[]
  readonly limits?: Readonly<Record<string, string>>
  /** Seconds from now. */
  readonly lasts?: number
  readonly token?: 'opaque' | 'jwt'
}

export interface StartedSession {
  readonly session: SessionView
  /** Shown once. */
  readonly token: string
}

/** A question as an approver sees it: the exact arguments, and what the last approved call of the kind was. */
export interface ApprovalView {
  readonly approval: Approval
  readonly now: number
  /** What the upstream says that the operation does: somebody else's words. */
  readonly description?: string
  readonly impact: readonly string[]
  readonly previous?: { readonly args: JsonObject; readonly at: number; readonly approval: string }
}

export interface AnswerApproval {
  readonly verdict: 'approve' | 'deny'
  readonly reason?: string
}

export interface EditApproval {
  readonly args: JsonObject
  readonly reason?: string
}

export interface Kill {
  /** `all`, `agent:<name>`, or a session's id. */
  readonly target: string
  readonly because?: string
}

export interface Killed {
  readonly sessions: number
  /** How long it took until none of their actions ran or could start, in milliseconds. */
  readonly took: number
}

export interface Explain {
  /** An event of a decision: explained under the policy of now. Or: */
  readonly event?: string
  readonly session?: string
  /** Without a session: as the agent's own key would start one. */
  readonly agent?: string
  readonly facts?: Readonly<Record<string, FactValue>>
  readonly permission?: string
  readonly args?: JsonObject
}

export interface Explained {
  readonly decision: Decision
  readonly steps: readonly TraceStep[]
  readonly policy: string
  /** The policy that the event was decided under, where it is another. */
  readonly decided?: { readonly policy: string; readonly decision: string; readonly because: string }
}

export interface IssueKey {
  /** `agent:reader`, `person:anna`, `service:desk`. */
  readonly holder: string
  /** Seconds until it expires; absent: never. */
  readonly lasts?: number
  /** Seconds for which the holder's other keys go on; absent: they stay. */
  readonly rotate?: number
}

export interface KeyView {
  readonly id: string
  readonly holder: string
  readonly createdAt: number
  readonly endsAt?: number
  readonly endedBecause?: string
}

export interface IssuedKey {
  readonly key: KeyView
  /** Shown once. */
  readonly text: string
}

export interface SetSecret {
  readonly name: string
  readonly value: string
  /** The name of the one resource that it is for. */
  readonly resource?: string
  readonly hosts?: readonly string[]
  /** Takes a value of 4 to 7 characters. */
  readonly short?: boolean
}

export interface RotateSecret {
  readonly value: string
  /** Seconds for which the value before is still known; absent: none. */
  readonly overlap?: number
  readonly short?: boolean
}

/** What may be known of a secret: everything but its value. */
export interface SecretView {
  readonly name: string
  readonly resource?: string
  readonly hosts: readonly string[]
  readonly createdAt: number
  /** The newest is in use; the others are known until they end. */
  readonly versions: readonly {
    readonly number: number
    readonly setAt: number
    readonly setBy: string
    readonly endsAt?: number
  }[]
  readonly lastUsedAt?: number
  /** Why it can't be opened, and what to do. */
  readonly locked?: string
}

export interface Rekeyed {
  /** How many secrets were wrapped anew. */
  readonly done: number
  /** Names of those that could not be opened. */
  readonly locked: readonly string[]
}

/** A database behind the gateway. */
export interface DatabaseView {
  readonly name: string
  readonly tables: readonly string[]
  readonly agents: readonly string[]
  /** Absent where that is not known now: `problem` says why. */
  readonly at?: { readonly host: string; readonly port: number; readonly database: string; readonly role: string }
  readonly problem?: string
}

export interface PlannedDatabase {
  readonly name: string
  readonly database: string
  readonly steps: readonly { readonly title: string; readonly sql: string }[]
  /** All of it for `psql`. */
  readonly script: string
}

/** With an administrator's address, which is used for this one call and kept nowhere. */
export interface AsAdministrator {
  readonly admin: string
  /** Takes another host or port than that of the resource. */
  readonly anyway?: boolean
}

/** Something about a database that a person should know. An `error`: what was promised does not hold. */
export interface DatabaseFinding {
  readonly severity: 'error' | 'warning' | 'note'
  readonly about: 'setup' | 'around'
  readonly where: string
  readonly what: string
  readonly advice: string
}

export interface AppliedDatabase {
  readonly name: string
  readonly database: string
  /** Whether anything was not as planned before. Passwords are set each time. */
  readonly changed: boolean
  readonly steps: number
  /** What the server said meanwhile. */
  readonly notices: readonly string[]
  readonly findings: readonly DatabaseFinding[]
}

export interface VerifiedDatabase {
  readonly name: string
  readonly database: string
  readonly findings: readonly DatabaseFinding[]
  readonly unseen: readonly string[]
}

export interface RemovedDatabase {
  readonly name: string
  readonly database: string
  readonly notices: readonly string[]
}

/** A transaction of an agent that changed tables with `undo`. */
export interface DatabaseChange {
  readonly change: string
  /** Epoch milliseconds. */
  readonly at: number
  readonly session: string | null
  readonly undone: boolean
  readonly tables: readonly {
    readonly table: string
    readonly operation: 'insert' | 'update' | 'delete'
    readonly rows: number
  }[]
}

export interface DatabaseChanges {
  readonly name: string
  /** The newest first. */
  readonly changes: readonly DatabaseChange[]
}

export interface UndoChange extends AsAdministrator {
  readonly change: string
  /** Changes nothing: the answer says what would be done. */
  readonly trial?: boolean
}

export interface UndoneChange {
  readonly name: string
  readonly database: string
  readonly trial: boolean
  readonly change: string
  /** Epoch milliseconds at which the agent changed it. */
  readonly at: number
  readonly session?: string
  readonly tables: readonly {
    readonly table: string
    /** Rows that were deleted and are there again, that have their values of before again, that were new and are gone. */
    readonly restored: number
    readonly reverted: number
    readonly removed: number
  }[]
  readonly rows: number
}

export interface SuggestTables extends Partial<AsAdministrator> {
  readonly tables: readonly string[]
}

export interface SuggestedTables {
  readonly name: string
  /** A piece of `sallyport.yaml`. */
  readonly yaml: string
  readonly tables: readonly string[]
}

export interface PinView {
  readonly resource: string
  readonly kind: PinKind
  readonly name: string
  readonly digest: string
  readonly acceptedAt: number
  readonly acceptedBy: string
  readonly proposed?: { readonly digest: string; readonly seenAt: number; readonly difference: string }
}

export interface AcceptPin {
  readonly resource: string
  readonly kind: PinKind
  readonly name: string
  /** The digest of the definition that was looked at: another one that came meanwhile is not accepted. */
  readonly digest: string
}

export interface Reloaded {
  readonly digest: string
  readonly changed: boolean
  readonly warnings: readonly string[]
}

export interface StopsView {
  readonly stops: readonly Stop[]
}
