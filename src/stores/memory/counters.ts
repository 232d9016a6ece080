import type { Counter, CounterStore } from '../../core/limit.ts'
import { finite } from '../record.ts'

export function memoryCounters(): CounterStore {
  let counters: ReadonlyMap<string, Counter> = new Map()
  return {
    async load() {
      return new Map(counters)
    },
    async save(changed) {
      const next = new Map(counters)
      for (const [key, counter] of changed) {
        if (counter === undefined) next.delete(key)
        else next.set(key, { value: finite(counter.value) })
      }
      counters = next
    },
  }
}
