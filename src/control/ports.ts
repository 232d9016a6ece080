import type { Action, Problem } from '../core/action.ts'
import type { AuditLog } from '../core/audit.ts'
import type { Caller, Person } from '../core/identity.ts'
import type { JsonObject } from '../core/json.ts'
import type { Label } from '../core/label.ts'
import type { Effect, Permission } from '../core/permission.ts'
import type { Pin, PinKind, PinStore } from '../core/pin.ts'
import type { StopStore } from '../core/stop.ts'
import type { PolicyVersionStore } from '../core/version.ts'
import type { Approvals } from '../guard/approvals.ts'
import type { Clock } from '../guard/clock.ts'
import type { Guard } from '../guard/guard.ts'
import type { Keys } from '../guard/keys.ts'
import type { Policies } from '../guard/policies.ts'
import type { Sessions } from '../guard/sessions.ts'
import type { Vault } from '../guard/vault.ts'
import type { Tokens } from '../guard/tokens.ts'
import type {
  AppliedDatabase,
  DatabaseChanges,
  DatabaseView,
  PlannedDatabase,
  Reloaded,
  RemovedDatabase,
  ResourceStatus,
  Status,
  SuggestedTables,
  UndoneChange,
  VerifiedDatabase,
} from './wire.ts'

/** What the gateways know of an operation, for those who look at it from the people's side. */
export interface Operation {
  readonly effect: Effect
  readonly label: Label
  readonly description?: string
  readonly check: (args: JsonObject) => readonly Problem[]
  /** What an action is with these arguments, where more follows from them: of a statement, what it does to each table. */
  readonly complete?: (args: JsonObject) => Promise<Partial<Action>>
}

/** What the people's side asks of the gateways. */
export interface Operations {
  find(permission: Permission): Operation | undefined
  status(): readonly ResourceStatus[]
  /** In words, what a proposed definition changes. */
  difference(pin: Pin): string
  /** Fails with `not_found`, or `conflict` when what is proposed is no longer what was looked at. */
  accept(resource: string, kind: PinKind, name: string, digest: string, by: string): Promise<void>
}

/** An administrator's address of a database: for one call, and kept nowhere. */
export interface Administrator {
  readonly url: string
  /** Takes another host or port than that of the resource. */
  readonly anyway?: boolean
}

/** What the people's side asks of databases. Each call is bounded in time, and each that looks or changes is an event. */
export interface Databases {
  list(): readonly DatabaseView[]
  /** Of setting up, or of removing. With verifiers of passwords for somebody, or else the script asks for passwords. */
  plan(name: string, options?: { readonly remove?: boolean; readonly verifiersFor?: string }): Promise<PlannedDatabase>
  /** Fails with `conflict` where a step is refused, or the database is another one: nothing is changed then. */
  apply(name: string, administrator: Administrator, by: string): Promise<AppliedDatabase>
  /** Without an administrator: by the gateway's own login, as far as that can see. */
  verify(name: string, administrator: Administrator | undefined, by: string): Promise<VerifiedDatabase>
  remove(name: string, administrator: Administrator, by: string): Promise<RemovedDatabase>
  /** What agents changed in tables with `undo`, the newest first: by the gateway's own login, which sees no values. */
  changes(name: string, of: { readonly session?: string; readonly most: number }): Promise<DatabaseChanges>
  /** Fails with `not_found`, or `conflict` where something has changed since: nothing is changed then. */
  undo(
    name: string,
    change: { readonly change: string; readonly isTrial: boolean },
    administrator: Administrator,
    by: string,
  ): Promise<UndoneChange>
  /** Without an administrator: by the gateway's own login. */
  suggest(name: string, tables: readonly string[], administrator?: Administrator): Promise<SuggestedTables>
}

/** Everything that the people's side works on. */
export interface ControlPorts {
  readonly sessions: Sessions
  readonly tokens: Tokens
  readonly keys: Keys
  readonly vault: Vault
  readonly approvals: Approvals
  readonly guard: Guard
  readonly policies: Policies
  readonly versions: PolicyVersionStore
  readonly stopStore: StopStore
  readonly pins: PinStore
  readonly audit: AuditLog
  readonly operations: Operations
  readonly databases: Databases
  readonly clock: Clock
  /** When this process began: what it keeps in memory was counted since. */
  readonly startedAt: number
  /** The form of a session's token where none is asked for. */
  readonly tokenForm: () => 'opaque' | 'jwt'
  /** Replaces the secret values that Sallyport holds, wherever they turn up in a text. */
  readonly hideSecrets: (text: string) => string
  /** The person or service of a name, as configured now. */
  readonly callers: (holder: string) => Caller | undefined
  readonly reload: (by: string) => Promise<Reloaded>
  readonly status: (caller: Caller, pending: number) => Status
}

export const asPerson = (caller: Caller): Person | undefined => (caller.kind === 'person' ? caller : undefined)
