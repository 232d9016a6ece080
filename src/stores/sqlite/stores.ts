import type { Stores } from '../stores.ts'
import { sqliteApprovals } from './approvals.ts'
import { connect } from './connect.ts'
import { sqliteCounters } from './counters.ts'
import { sqliteKeys } from './keys.ts'
import { sqlitePins } from './pins.ts'
import { sqliteSecrets } from './secrets.ts'
import { sqliteSessions } from './sessions.ts'
import { sqliteStops } from './stops.ts'
import { sqliteVersions } from './versions.ts'

/**
 * Everything in one SQLite file, which several processes may share. Calls run on the caller's thread: a write takes as
 * long as the disk needs to make it durable.
 *
 * Fails with `unavailable`, naming the file, when it cannot be opened, is damaged, or was written by a newer version.
 */
export function openStores(file: string): Stores {
  const database = connect(file)
  return {
    approvals: sqliteApprovals(database),
    sessions: sqliteSessions(database),
    keys: sqliteKeys(database),
    stops: sqliteStops(database),
    pins: sqlitePins(database),
    versions: sqliteVersions(database),
    counters: sqliteCounters(database),
    secrets: sqliteSecrets(database),
    close: async () => database.close(),
  }
}
