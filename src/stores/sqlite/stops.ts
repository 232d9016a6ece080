import type { Stop, StopStore } from '../../core/stop.ts'
import { encode } from '../record.ts'
import type { Database } from './connect.ts'

export function sqliteStops(database: Database): StopStore {
  const upsert = database.prepare(
    'insert into stops (target, stopped_at, body) values (?, ?, ?) ' +
      'on conflict (target) do update set stopped_at = excluded.stopped_at, body = excluded.body',
  )
  const remove = database.prepare('delete from stops where target = ?')
  const all = database.select<Stop>('select body from stops order by stopped_at desc, target desc')

  return {
    async add(stop) {
      database.write(`stop of ${stop.target}`, () => upsert.run(stop.target, stop.at, encode(stop)))
    },
    async lift(target) {
      return database.write(`stop of ${target}`, () => Number(remove.run(target).changes) > 0)
    },
    async list() {
      return database.read(() => all.all())
    },
  }
}
