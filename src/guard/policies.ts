import type { Policy, EntryIndex } from '../core/policy.ts'
import type { PermissionText } from '../core/session.ts'

/** A policy together with the way to read permissions that were written for a session under it. */
export interface LoadedPolicy {
  readonly policy: Policy
  readonly entries: (texts: readonly PermissionText[], id: string) => EntryIndex
}

/** The policy of the moment. Swapped whole: whoever holds one goes on with that one. */
export interface Policies {
  current(): LoadedPolicy
  swap(next: LoadedPolicy): void
  /** Called after each swap. */
  onSwap(listener: (next: LoadedPolicy) => void): void
}

export function createPolicies(first: LoadedPolicy): Policies {
  let loaded = first
  const listeners: ((next: LoadedPolicy) => void)[] = []
  return {
    current: () => loaded,
    swap(next) {
      loaded = next
      for (const listener of listeners) listener(next)
    },
    onSwap: (listener) => void listeners.push(listener),
  }
}
