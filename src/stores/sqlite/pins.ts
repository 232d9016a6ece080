import type { Pin, PinStore } from '../../core/pin.ts'
import { encode } from '../record.ts'
import type { Database } from './connect.ts'

export function sqlitePins(database: Database): PinStore {
  const upsert = database.prepare(
    'insert into pins (resource, kind, name, body) values (?, ?, ?, ?) ' +
      'on conflict (resource, kind, name) do update set body = excluded.body',
  )
  const remove = database.prepare('delete from pins where resource = ? and kind = ? and name = ?')
  const all = database.select<Pin>('select body from pins order by resource, kind, name')
  const ofResource = database.select<Pin>('select body from pins where resource = ? order by kind, name')

  return {
    async list(resource) {
      return database.read(() => (resource === undefined ? all.all() : ofResource.all(resource)))
    },
    async put(pin) {
      database.write(`pin of ${pin.resource}`, () => upsert.run(pin.resource, pin.kind, encode(pin.name), encode(pin)))
    },
    async remove(resource, kind, name) {
      database.write(`pin of ${resource}`, () => remove.run(resource, kind, encode(name)))
    },
  }
}
