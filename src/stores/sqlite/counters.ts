import type { Counter, CounterStore } from '../../core/limit.ts'
import { decode, encode, finite } from '../record.ts'
import type { Database } from './connect.ts'

export function sqliteCounters(database: Database): CounterStore {
  const all = database.prepare('select name, value from counters')
  const upsert = database.prepare(
    'insert into counters (name, value) values (?, ?) on conflict (name) do update set value = excluded.value',
  )
  const remove = database.prepare('delete from counters where name = ?')

  return {
    async load() {
      return database.read(
        () =>
          new Map(
            all
              .all()
              .map(({ name, value }): [string, Counter] => [
                decode(name as string) as string,
                { value: value as number },
              ]),
          ),
      )
    },
    async save(changed) {
      database.write('counters', () => {
        for (const [key, counter] of changed) {
          if (counter === undefined) remove.run(encode(key))
          else upsert.run(encode(key), finite(counter.value))
        }
      })
    },
  }
}
