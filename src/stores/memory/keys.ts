import { Failure } from '../../core/failure.ts'
import type { Key, KeyStore } from '../../core/key.ts'
import { copy, newestFirst } from '../record.ts'

const byAge = newestFirst<Key>(
  ({ createdAt }) => createdAt,
  ({ id }) => id,
)

export function memoryKeys(): KeyStore {
  const keys = new Map<string, Key>()
  const withDigest = (digest: string): Key | undefined => [...keys.values()].find((key) => key.digest === digest)

  return {
    async add(key) {
      if (keys.has(key.id) || withDigest(key.digest) !== undefined)
        throw new Failure('conflict', `key ${key.id} or its digest is taken`)
      keys.set(key.id, copy(key))
    },
    async byDigest(digest) {
      const key = withDigest(digest)
      return key && copy(key)
    },
    async list(holder) {
      return [...keys.values()]
        .filter((key) => holder === undefined || key.holder === holder)
        .sort(byAge)
        .map(copy)
    },
    async end(id, at, because) {
      const key = keys.get(id)
      if (key === undefined) throw new Failure('not_found', `there is no key ${id}`)
      if (key.endsAt === undefined || at < key.endsAt) keys.set(id, copy({ ...key, endsAt: at, endedBecause: because }))
    },
  }
}
