import type { AuditLog } from '../core/audit.ts'
import type { Clock } from './clock.ts'

/** One use of a secret. Never its value. */
export interface SecretUse {
  /** As configuration refers to it: the name of a stored secret, else `env:NAME`, `file:path`, `vault:path#field`. */
  readonly secret: string
  readonly version?: number
  readonly resource: string
  readonly host?: string
}

/** Writes down where secrets go: the first use at once, then how often in each minute, so that no use is in no event. */
export interface Uses {
  note(use: SecretUse): void
  /** Writes what was counted and is a minute old, or all. */
  sweep(all?: boolean): Promise<void>
}

const every = 60_000
/** Pairs of secret and place are few; a place that could be made up without end would still not fill the memory. */
const mostPlaces = 10_000

export function createUses(audit: Pick<AuditLog, 'append'>, clock: Clock): Uses {
  const counted = new Map<string, { readonly use: SecretUse; since: number; count: number }>()

  const write = ({ secret, version, resource, host }: SecretUse, uses: number): Promise<void> =>
    audit.append({ type: 'secret.use', at: clock(), secret, version, resource, host, uses }, 'written').done

  return {
    note(use) {
      const key = JSON.stringify([use.secret, use.version, use.resource, use.host])
      const known = counted.get(key)
      if (known !== undefined) {
        known.count += 1
        return
      }
      if (counted.size < mostPlaces) counted.set(key, { use, since: clock(), count: 0 })
      write(use, 1).catch(() => {}) // The log says of itself that it can't be written, and stops what acts.
    },
    async sweep(all = false) {
      const now = clock()
      const due = [...counted].filter(([, { since }]) => all || now - since >= every)
      for (const [key] of due) counted.delete(key)
      await Promise.all(due.flatMap(([, { use, count }]) => (count === 0 ? [] : [write(use, count)])))
    },
  }
}
