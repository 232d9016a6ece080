import type { ApprovalStore } from '../core/approval.ts'
import type { KeyStore } from '../core/key.ts'
import type { CounterStore } from '../core/limit.ts'
import type { PinStore } from '../core/pin.ts'
import type { SecretStore } from '../core/secret.ts'
import type { SessionStore } from '../core/session.ts'
import type { StopStore } from '../core/stop.ts'
import type { PolicyVersionStore } from '../core/version.ts'

/**
 * Everything that Sallyport keeps beside the audit log. Methods reject with a Failure: `not_found` and `conflict` as
 * the ports say; `unavailable` when what keeps them is full, damaged, busy or closed, and then nothing of the call
 * was done; `invalid` or `too_large` for a value that cannot be kept exactly as it is.
 */
export interface Stores {
  readonly approvals: ApprovalStore
  readonly sessions: SessionStore
  readonly keys: KeyStore
  readonly stops: StopStore
  readonly pins: PinStore
  readonly versions: PolicyVersionStore
  readonly counters: CounterStore
  readonly secrets: SecretStore
  /** Lets go of files and connections. Afterwards every method fails with `unavailable`. Closing twice is harmless. */
  close(): Promise<void>
}
