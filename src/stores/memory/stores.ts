import type { Stores } from '../stores.ts'
import { memoryApprovals } from './approvals.ts'
import { memoryCounters } from './counters.ts'
import { memoryKeys } from './keys.ts'
import { memoryPins } from './pins.ts'
import { memorySecrets } from './secrets.ts'
import { memorySessions } from './sessions.ts'
import { memoryStops } from './stops.ts'
import { memoryVersions } from './versions.ts'

/** Everything in this process, gone when it ends: for tests and a first look. Closing does nothing. */
export const memoryStores = (): Stores => ({
  approvals: memoryApprovals(),
  sessions: memorySessions(),
  keys: memoryKeys(),
  stops: memoryStops(),
  pins: memoryPins(),
  versions: memoryVersions(),
  counters: memoryCounters(),
  secrets: memorySecrets(),
  close: async () => {},
})
