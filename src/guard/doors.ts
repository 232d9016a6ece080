import type { AuditLog } from '../core/audit.ts'
import type { Clock } from './clock.ts'

/** Which listener somebody was turned away at. */
export type Door = 'agents' | 'people'

/** Credentials that were refused, counted: each is worth knowing of, and nobody can fill the log with them. */
export interface Doors {
  /** Somebody came with a credential that is none. */
  turnedAway(door: Door): void
  /** Records what was counted, at most once in a while. Called on a timer. */
  sweep(): Promise<void>
}

/** One event for each door in this time, in milliseconds; the first at once. */
const pause = 10_000

export function createDoors(audit: Pick<AuditLog, 'append'>, clock: Clock): Doors {
  const counts = new Map<Door, number>()
  const told = new Map<Door, number>()
  return {
    turnedAway: (door) => void counts.set(door, (counts.get(door) ?? 0) + 1),
    async sweep() {
      const at = clock()
      for (const [door, count] of counts) {
        if (at - (told.get(door) ?? -Infinity) < pause) continue
        counts.delete(door)
        told.set(door, at)
        await audit.append({ type: 'credential.refused', at, door, count }).done
      }
    },
  }
}
