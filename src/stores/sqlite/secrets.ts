import { Failure } from '../../core/failure.ts'
import type { KeptSecret, SecretStore } from '../../core/secret.ts'
import { encode } from '../record.ts'
import type { Database } from './connect.ts'

export function sqliteSecrets(database: Database): SecretStore {
  const insert = database.prepare('insert into secrets (name, revision, body) values (?, ?, ?)')
  const update = database.prepare('update secrets set revision = ?, body = ? where name = ? and revision = ?')
  const remove = database.prepare('delete from secrets where name = ?')
  const use = database.prepare(
    'update secrets set last_used_at = ? where name = ? and (last_used_at is null or last_used_at < ?)',
  )
  const times = database.prepare('select name, last_used_at as at from secrets where last_used_at is not null')
  const one = database.select<KeptSecret>('select body from secrets where name = ?')
  const all = database.select<KeptSecret>('select body from secrets order by name')

  return {
    async list() {
      return database.read(() => all.all())
    },
    async get(name) {
      return database.read(() => one.one(name))
    },
    async add(secret) {
      database.write(`secret ${secret.name}`, () => insert.run(secret.name, secret.revision, encode(secret)))
    },
    async replace(secret) {
      database.write(`secret ${secret.name}`, () => {
        const { changes } = update.run(secret.revision, encode(secret), secret.name, secret.revision - 1)
        if (Number(changes) !== 1)
          throw new Failure('conflict', `secret ${secret.name} was changed or removed meanwhile: look, and try again`)
      })
    },
    async remove(name) {
      return database.write(`secret ${name}`, () => Number(remove.run(name).changes) === 1)
    },
    async used(name, at) {
      database.write(`secret ${name}`, () => use.run(at, name, at))
    },
    async lastUsed() {
      return database.read(() => new Map(times.all().map(({ name, at }) => [String(name), Number(at)])))
    },
  }
}
