import type { PolicyVersion, PolicyVersionStore } from '../../core/version.ts'
import { encode, rows } from '../record.ts'
import type { Database } from './connect.ts'

export function sqliteVersions(database: Database): PolicyVersionStore {
  const insert = database.prepare(
    'insert into versions (digest, loaded_at, body) values (?, ?, ?) on conflict (digest) do nothing',
  )
  const byDigest = database.select<PolicyVersion>('select body from versions where digest = ?')
  const newest = database.select<PolicyVersion>(
    'select body from versions order by loaded_at desc, digest desc limit ?',
  )

  return {
    async add(version) {
      database.write(`policy ${version.digest}`, () => insert.run(version.digest, version.loadedAt, encode(version)))
    },
    async get(digest) {
      return database.read(() => byDigest.one(digest))
    },
    async list(limit) {
      return database.read(() => newest.all(rows(limit, 10_000)))
    },
  }
}
