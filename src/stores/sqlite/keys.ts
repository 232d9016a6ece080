import { Failure } from '../../core/failure.ts'
import type { Key, KeyStore } from '../../core/key.ts'
import { encode } from '../record.ts'
import type { Database } from './connect.ts'

export function sqliteKeys(database: Database): KeyStore {
  const insert = database.prepare('insert into keys (id, digest, holder, created_at, body) values (?, ?, ?, ?, ?)')
  const update = database.prepare('update keys set body = ? where id = ?')
  const byId = database.select<Key>('select body from keys where id = ?')
  const byDigest = database.select<Key>('select body from keys where digest = ?')
  const all = database.select<Key>('select body from keys order by created_at desc, id desc')
  const ofHolder = database.select<Key>('select body from keys where holder = ? order by created_at desc, id desc')

  return {
    async add(key) {
      database.write(`key ${key.id} or its digest`, () =>
        insert.run(key.id, key.digest, key.holder, key.createdAt, encode(key)),
      )
    },
    async byDigest(digest) {
      return database.read(() => byDigest.one(digest))
    },
    async list(holder) {
      return database.read(() => (holder === undefined ? all.all() : ofHolder.all(holder)))
    },
    async end(id, at, because) {
      database.write(`key ${id}`, () => {
        const key = byId.one(id)
        if (key === undefined) throw new Failure('not_found', `there is no key ${id}`)
        if (key.endsAt === undefined || at < key.endsAt)
          update.run(encode({ ...key, endsAt: at, endedBecause: because }), id)
      })
    },
  }
}
