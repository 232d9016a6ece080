import type { PolicyVersion, PolicyVersionStore } from '../../core/version.ts'
import { copy, newestFirst, rows } from '../record.ts'

const byAge = newestFirst<PolicyVersion>(
  ({ loadedAt }) => loadedAt,
  ({ digest }) => digest,
)

export function memoryVersions(): PolicyVersionStore {
  const versions = new Map<string, PolicyVersion>()
  return {
    async add(version) {
      if (!versions.has(version.digest)) versions.set(version.digest, copy(version))
    },
    async get(digest) {
      const version = versions.get(digest)
      return version && copy(version)
    },
    async list(limit) {
      return [...versions.values()].sort(byAge).slice(0, rows(limit, 10_000)).map(copy)
    },
  }
}
