import { Failure } from '../../core/failure.ts'
import type { KeptSecret, SecretStore } from '../../core/secret.ts'
import { copy } from '../record.ts'

export function memorySecrets(): SecretStore {
  const secrets = new Map<string, KeptSecret>()
  const times = new Map<string, number>()

  return {
    async list() {
      return [...secrets.values()].sort((a, b) => (a.name < b.name ? -1 : 1)).map(copy)
    },
    async get(name) {
      const secret = secrets.get(name)
      return secret && copy(secret)
    },
    async add(secret) {
      if (secrets.has(secret.name)) throw new Failure('conflict', `secret ${secret.name} is taken`)
      secrets.set(secret.name, copy(secret))
    },
    async replace(secret) {
      if (secrets.get(secret.name)?.revision !== secret.revision - 1)
        throw new Failure('conflict', `secret ${secret.name} was changed or removed meanwhile: look, and try again`)
      secrets.set(secret.name, copy(secret))
    },
    async remove(name) {
      times.delete(name)
      return secrets.delete(name)
    },
    async used(name, at) {
      if (secrets.has(name) && at > (times.get(name) ?? -Infinity)) times.set(name, at)
    },
    async lastUsed() {
      return new Map(times)
    },
  }
}
