import type { Action } from '../../src/core/action.ts'
import type { AuditEvent, AuditLog, NewEvent, Wait } from '../../src/core/audit.ts'
import { Failure } from '../../src/core/failure.ts'
import type { JsonObject } from '../../src/core/json.ts'
import { compileEntries, compilePolicy } from '../../src/config/compile.ts'
import { loadSettings } from '../../src/config/load.ts'
import { createApprovals } from '../../src/guard/approvals.ts'
import { compileCondition } from '../../src/guard/condition.ts'
import { createCounters } from '../../src/guard/counters.ts'
import { createGuard } from '../../src/guard/guard.ts'
import type { Performed } from '../../src/guard/guard.ts'
import { createKeys } from '../../src/guard/keys.ts'
import { createPolicies } from '../../src/guard/policies.ts'
import type { LoadedPolicy } from '../../src/guard/policies.ts'
import { createSessions } from '../../src/guard/sessions.ts'
import { memoryStores } from '../../src/stores/memory/stores.ts'
import type { Stores } from '../../src/stores/stores.ts'

/** Keeps events in a list, in order, and can be told to fail: for tests of who writes what, and when. */
export interface RecordingAudit extends Pick<AuditLog, 'append'> {
  readonly events: AuditEvent[]
  full: boolean
  of(type: string): readonly AuditEvent[]
}

export function recordingAudit(): RecordingAudit {
  const events: AuditEvent[] = []
  return {
    events,
    full: false,
    append(event: NewEvent, _wait?: Wait) {
      const id = `evt_test_${events.length}`
      if (this.full) return { id, done: Promise.reject(new Failure('unavailable', 'the audit log can’t be written')) }
      const kept: AuditEvent = structuredClone({ ...event, id })
      events.push(kept)
      return { id, done: Promise.resolve() }
    },
    of: (type) => events.filter((event) => event.type === type),
  }
}

export function readPolicy(yaml: string): LoadedPolicy {
  const loaded = loadSettings(yaml, { file: '/nowhere/sallyport.yaml' })
  return {
    policy: compilePolicy(loaded, { compileCondition }),
    entries: (texts, id) => compileEntries(texts, id, loaded.settings.facts, { compileCondition }),
  }
}

/** The guard and everything round it, over a policy, with a clock that is set by hand. */
export async function createWorld(yaml: string, stores: Stores = memoryStores()) {
  const time = { now: 1_800_000_000_000 }
  const clock = (): number => time.now
  const audit = recordingAudit()
  const policies = createPolicies(readPolicy(yaml))
  const sessions = await createSessions({ store: stores.sessions, stopStore: stores.stops, policies, audit, clock })
  const keys = createKeys(stores.keys, audit, clock)
  const approvals = createApprovals(stores.approvals, audit, clock)
  const counters = await createCounters(stores.counters, clock)
  sessions.onEnd((ids, because) => {
    approvals.void({ sessions: new Set(ids) }, because).catch(() => {})
  })
  const guard = createGuard({
    sessions,
    policies,
    approvals,
    counters,
    audit,
    clock,
    keep: 16_384,
    hideSecrets: (text) => text,
  })
  return { time, clock, audit, policies, sessions, keys, approvals, counters, guard, stores }
}

export type World = Awaited<ReturnType<typeof createWorld>>

export const action = (
  session: string,
  permission: string,
  args: JsonObject = {},
  more: Partial<Action> = {},
): Action => ({
  session,
  permission,
  effect: 'read',
  args,
  problems: [],
  label: { trust: 'untrusted', readers: 'internal' },
  via: 'mcp',
  ...more,
})

/** A `perform` that counts how often it ran. */
export function counted(value = 'done') {
  const counter = { runs: 0 }
  const perform = async (): Promise<Performed<string>> => {
    counter.runs += 1
    return { value, record: { value }, bytes: value.length, checks: { ran: [] } }
  }
  return { counter, perform }
}

export const nobodyLeaves = new AbortController().signal
export const atOnce = { most: 0 }
