import type { Stop, StopStore } from '../../core/stop.ts'
import { copy, newestFirst } from '../record.ts'

const byAge = newestFirst<Stop>(
  ({ at }) => at,
  ({ target }) => target,
)

export function memoryStops(): StopStore {
  const stops = new Map<string, Stop>()
  return {
    async add(stop) {
      stops.set(stop.target, copy(stop))
    },
    async lift(target) {
      return stops.delete(target)
    },
    async list() {
      return [...stops.values()].sort(byAge).map(copy)
    },
  }
}
