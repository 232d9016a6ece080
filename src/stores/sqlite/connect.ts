import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { SQLInputValue, StatementSync } from 'node:sqlite'
import { Failure } from '../../core/failure.ts'
import { decode } from '../record.ts'
import { migrations } from './migrations/migrations.ts'

/** A connection to one SQLite file. Everything that is particular to SQLite is in this file. */
export interface Database {
  /** A statement, prepared once. Run it inside `read` or `write`. */
  prepare(sql: string): StatementSync
  /** A query for records, prepared once. Run it inside `read` or `write`. */
  select<T>(sql: string): Select<T>
  /** Runs `work`; what SQLite throws becomes a Failure. */
  read<T>(work: () => T): T
  /**
   * Runs `work` as one transaction that no other connection runs into, durable on return; undone when it throws.
   * A row that is there already becomes `conflict`, with `what` naming it.
   */
  write<T>(what: string, work: () => T): T
  close(): void
}

/** A query for records: the JSON in the column `body` of what it finds. */
export interface Select<T> {
  one(...values: readonly SQLInputValue[]): T | undefined
  all(...values: readonly SQLInputValue[]): readonly T[]
}

/** How long a call waits for another process that is writing, in milliseconds. */
const patience = 5_000

/**
 * Opens a file, makes it if there is none (readable for its owner alone), and brings its schema up to date.
 *
 * Fails with `unavailable` when it cannot be opened, is damaged, was written by a newer Sallyport or by another program.
 */
export function connect(file: string): Database {
  const path = resolve(file)
  const database = translate(path, path, () => {
    keepPrivate(path)
    return new DatabaseSync(path, { timeout: patience })
  })
  const read = <T>(work: () => T): T => translate(path, path, work)
  try {
    read(() => {
      keepWriteAheadLog(database)
      // A commit is on the disk when it returns.
      database.exec('pragma synchronous = full')
      // Functions and virtual tables that an altered schema names are not run.
      database.exec('pragma trusted_schema = off')
      if (database.prepare('pragma quick_check(1)').get()?.['quick_check'] !== 'ok') throw damaged(path)
    })
    const begin = database.prepare('begin immediate')
    const commit = database.prepare('commit')
    const rollback = database.prepare('rollback')
    const write = <T>(what: string, work: () => T): T =>
      translate(path, what, () => {
        begin.run()
        try {
          const result = work()
          commit.run()
          return result
        } catch (thrown) {
          // SQLite has rolled back by itself after some errors, such as a full disk.
          if (database.isTransaction) rollback.run()
          throw thrown
        }
      })
    write(path, () => migrate(database, path))
    return {
      prepare: (sql) => database.prepare(sql),
      select: <T>(sql: string): Select<T> => {
        const statement = database.prepare(sql)
        const record = (row: Record<string, unknown>): T => decode(row['body'] as string) as T
        return {
          one: (...values) => {
            const row = statement.get(...values)
            return row && record(row)
          },
          all: (...values) => statement.all(...values).map(record),
        }
      },
      read,
      write,
      close: () => {
        if (database.isOpen) database.close()
      },
    }
  } catch (thrown) {
    database.close()
    throw thrown
  }
}

/** The file and its folder, made for the owner alone. A folder that was there already is the owner's own business. */
function keepPrivate(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  closeSync(openSync(path, 'a', 0o600))
  // SQLite gives the files that it puts beside this one the same mode.
  chmodSync(path, 0o600)
}

/** Several processes that make one file at once: SQLite refuses to wait for this one lock, so we do. */
function keepWriteAheadLog(database: DatabaseSync): void {
  const pause = new Int32Array(new SharedArrayBuffer(4))
  for (const start = performance.now(); ; Atomics.wait(pause, 0, 0, 5))
    try {
      database.exec('pragma journal_mode = wal')
      return
    } catch (thrown) {
      const busy = ((thrown as { readonly errcode?: number }).errcode ?? 0) & 0xff
      if (busy !== 5 || performance.now() - start > patience) throw thrown
    }
}

function migrate(database: DatabaseSync, path: string): void {
  const tables = database.prepare("select name from sqlite_schema where type = 'table'").all()
  if (tables.length > 0 && !tables.some(({ name }) => name === 'migrations'))
    throw new Failure('unavailable', `${path} is a database of another program: name another file`)

  database.exec(
    'create table if not exists migrations (number bigint primary key not null, applied_at bigint not null)',
  )
  const version = Number(database.prepare('select max(number) as number from migrations').get()?.['number'] ?? 0)
  if (version > migrations.length)
    throw new Failure(
      'unavailable',
      `${path} was written by a newer Sallyport: its schema is ${version}, this one knows ${migrations.length}. ` +
        'Start the newer one, or restore a copy from before it',
    )
  const note = database.prepare('insert into migrations (number, applied_at) values (?, ?)')
  for (const [index, sql] of migrations.entries())
    if (index >= version) {
      database.exec(sql)
      note.run(index + 1, Date.now())
    }
}

const damaged = (path: string): Failure =>
  new Failure('unavailable', `${path} is damaged: restore it from a copy, or move it away to start with nothing`)

/** Runs `work`; what it throws becomes a Failure that tells no value. `what` is what a row stands for. */
function translate<T>(path: string, what: string, work: () => T): T {
  try {
    return work()
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown
    // Without its cause: the message of a SyntaxError quotes the text.
    if (thrown instanceof SyntaxError) throw damaged(path)
    throw failure(path, what, thrown as { readonly code?: unknown; readonly errcode?: unknown })
  }
}

/** Result codes of SQLite: the lowest eight bits of the extended code. https://www.sqlite.org/rescode.html */
function failure(path: string, what: string, cause: { readonly code?: unknown; readonly errcode?: unknown }): Failure {
  const unavailable = (because: string): Failure => new Failure('unavailable', `${path} ${because}`, { cause })
  if (cause.code === 'ERR_INVALID_STATE') return unavailable('is closed')
  if (typeof cause.errcode !== 'number')
    return typeof cause.code === 'string' && /^E[A-Z]+$/.test(cause.code)
      ? unavailable(`cannot be opened (${cause.code})`)
      : Failure.from(cause)
  switch (cause.errcode & 0xff) {
    case 5: // SQLITE_BUSY
    case 6: // SQLITE_LOCKED
      return unavailable(`is in use: another process kept it locked for over ${patience / 1_000} s`)
    case 11: // SQLITE_CORRUPT
    case 26: // SQLITE_NOTADB
      return damaged(path)
    case 13: // SQLITE_FULL
      return unavailable('cannot grow: the disk is full')
    case 8: // SQLITE_READONLY
    case 10: // SQLITE_IOERR
    case 14: // SQLITE_CANTOPEN
      return unavailable('cannot be read or written: check the disk, and who owns the file and its folder')
    case 18: // SQLITE_TOOBIG
      return new Failure('too_large', `${what} is too large to be kept`, { cause })
    case 19: // SQLITE_CONSTRAINT
      // Only of a primary key (1555) and of another unique column (2067) can a caller know what to make.
      return cause.errcode === 1555 || cause.errcode === 2067
        ? new Failure('conflict', `${what} is taken`, { cause })
        : Failure.from(cause)
    default:
      return Failure.from(cause)
  }
}
