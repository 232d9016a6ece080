import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Failure } from '../../core/failure.ts'
import { approval, hostileText, session } from '../contract.ts'
import { openStores } from './stores.ts'

let folder: string
let file: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-connect-'))
  file = join(folder, 'state', 'sallyport.db')
})
afterEach(() => rmSync(folder, { recursive: true }))

const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8)

/** The Failure with which a file does not open. */
function refusal(path = file): Failure {
  try {
    void openStores(path).close()
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(Failure)
    return thrown as Failure
  }
  throw new Error(`${path} was opened`)
}

const raw = (work: (database: DatabaseSync) => void): void => {
  const database = new DatabaseSync(file)
  work(database)
  database.close()
}

const unavailable = { code: 'unavailable' }

describe('opening', () => {
  test('makes the folder and its files for the owner alone', async () => {
    const stores = openStores(file)
    await stores.sessions.add(session())
    expect([join(folder, 'state'), file, `${file}-wal`, `${file}-shm`].map(mode)).toEqual(['700', '600', '600', '600'])
    await stores.close()
    chmodSync(file, 0o644)
    await openStores(file).close()
    expect(mode(file)).toBe('600')
  })

  test('keeps a write-ahead log', async () => {
    const stores = openStores(file)
    raw((database) => expect(database.prepare('pragma journal_mode').get()).toEqual({ journal_mode: 'wal' }))
    await stores.close()
  })

  test('again finds everything there', async () => {
    const first = openStores(file)
    await first.approvals.open(approval({ because: hostileText }), 0)
    await first.sessions.add(session({ tokenDigest: 't1' }))
    await first.keys.add({ id: 'key_1', holder: 'agent:reader', digest: 'd1', createdAt: 1 })
    await first.stops.add({ target: 'all', by: 'person:anna', because: 'drill', at: 1 })
    await first.counters.save(new Map([['a', { value: 0.1 }]]))
    await first.close()
    const second = openStores(file)
    expect(await second.approvals.get('apr_1')).toEqual(approval({ because: hostileText }))
    expect(await second.sessions.byToken('t1')).toEqual(session({ tokenDigest: 't1' }))
    expect(await second.keys.byDigest('d1')).toMatchObject({ id: 'key_1' })
    expect(await second.stops.list()).toHaveLength(1)
    expect((await second.counters.load()).get('a')).toEqual({ value: 0.1 })
    await second.close()
  })

  test('refuses a file of a newer version, and leaves it as it is', async () => {
    await openStores(file).close()
    raw((database) => database.exec('insert into migrations (number, applied_at) values (99, 0)'))
    const before = readFileSync(file)
    expect(refusal()).toMatchObject(unavailable)
    expect(refusal().message).toContain(file)
    expect(refusal().message).toMatch(/newer Sallyport: its schema is 99/)
    expect(readFileSync(file).equals(before)).toBe(true)
  })

  test('refuses a database of another program, and leaves it as it is', () => {
    mkdirSync(join(folder, 'state'))
    raw((database) => database.exec('create table users (name text)'))
    expect(refusal()).toMatchObject(unavailable)
    expect(refusal().message).toMatch(/another program/)
    raw((database) => expect(database.prepare('select name from sqlite_schema').all()).toEqual([{ name: 'users' }]))
  })

  test.each([
    ['no database at all', () => writeFileSync(file, hostileText.repeat(100))],
    ['cut short', () => truncateSync(file, 3 * 4096)],
    ['overwritten in the middle', () => writeFileSync(file, 'x'.repeat(4096), { flag: 'r+' })],
    ['overwritten behind the first page', () => raw((database) => overwrite(database))],
  ])('refuses a damaged file by its name: %s', async (_, damage) => {
    const stores = openStores(file)
    for (let index = 0; index < 50; index++)
      await stores.approvals.open(approval({ id: `apr_${index}`, binding: `b${index}` }), 0)
    await stores.close()
    damage()
    const failure = refusal()
    expect(failure).toMatchObject(unavailable)
    expect(failure.message).toContain(`${file} is damaged`)
    expect(failure.message).not.toContain('refunds ask')
  })

  const overwrite = (database: DatabaseSync): void => {
    const { rootpage } = database.prepare("select rootpage from sqlite_schema where name = 'approvals'").get()!
    const bytes = readFileSync(file)
    bytes.fill(0xff, (Number(rootpage) - 1) * 4096, Number(rootpage) * 4096)
    writeFileSync(file, bytes)
  }

  test('refuses a folder, and a place where nothing can be made', () => {
    expect(refusal(folder)).toMatchObject(unavailable)
    writeFileSync(join(folder, 'plain'), '')
    expect(refusal(join(folder, 'plain', 'sallyport.db'))).toMatchObject(unavailable)
  })

  test('takes `:memory:` and `file:` for names of files like any other', async () => {
    const odd = join(folder, 'file:odd?mode=memory')
    await openStores(odd).close()
    expect(mode(odd)).toBe('600')
  })
})

describe('while it is open', () => {
  test('a record that was tampered with is damage, and is not quoted', async () => {
    const stores = openStores(file)
    await stores.sessions.add(session({ facts: { note: 'private words' } }))
    raw((database) => database.exec("update sessions set body = substr(body, 1, length(body) - 1) || 'private words'"))
    const failure: Failure = await stores.sessions.get('ses_1').then(
      () => new Failure('internal', 'read'),
      (thrown: unknown) => thrown as Failure,
    )
    expect(failure).toMatchObject(unavailable)
    expect(`${failure.message} ${failure.stack} ${String(failure.cause)}`).not.toContain('private words')
    await stores.close()
  })

  test('a closed store fails with `unavailable`, and closing twice is harmless', async () => {
    const stores = openStores(file)
    await stores.close()
    await stores.close()
    await expect(stores.sessions.get('ses_1')).rejects.toMatchObject(unavailable)
    await expect(stores.sessions.add(session())).rejects.toMatchObject(unavailable)
    await expect(stores.counters.load()).rejects.toMatchObject(unavailable)
  })

  test('a file that another process keeps locked fails with `unavailable`, and works when it is free again', async () => {
    const stores = openStores(file)
    const other = new DatabaseSync(file)
    other.exec('begin immediate')
    await expect(stores.sessions.add(session())).rejects.toMatchObject({ ...unavailable, message: /in use/ })
    expect(await stores.sessions.list(1)).toEqual([])
    other.exec('rollback')
    other.close()
    await stores.sessions.add(session())
    await stores.close()
  })
})

/** A program of its own, with `stores` open on the file and `print`, which writes at once. */
const program = (source: string): string[] => [
  '--input-type=module',
  '--eval',
  `import { writeSync, readFileSync, writeFileSync, rmSync } from 'node:fs'
   import { openStores } from ${JSON.stringify(new URL('stores.ts', import.meta.url).href)}
   const print = (value) => writeSync(1, JSON.stringify(value) + '\\n')
   const [file] = process.argv.slice(1)
   ${source}`,
]

describe('promise 8: what was acknowledged is there after kill -9', () => {
  test.each([1, 2, 3, 4, 5])('round %i', async (round) => {
    const child = spawn(
      process.execPath,
      [
        ...program(`
          const stores = openStores(file)
          const template = JSON.parse(${JSON.stringify(JSON.stringify(approval()))})
          for (let index = 0; ; index++) {
            await stores.approvals.open({ ...template, id: 'apr_' + index, binding: 'b' + index }, 0)
            await stores.approvals.void({ id: 'apr_' + index }, 'over', 0)
            print('apr_' + index)
          }`),
        file,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const exit = once(child, 'exit')
    const acknowledged: string[] = []
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged.push(JSON.parse(line) as string)
      if (acknowledged.length === 40 * round) child.kill('SIGKILL')
    }
    expect(await exit).toEqual([null, 'SIGKILL'])
    expect(acknowledged.length).toBeGreaterThanOrEqual(40 * round)

    const stores = openStores(file)
    for (const id of acknowledged) expect((await stores.approvals.get(id))?.state).toBe('void')
    await stores.close()
  })
})

const unshare = '/usr/bin/unshare'
const tiny = ['-rm', 'sh', '-c', 'mount -t tmpfs -o size=640k none "$0" && shift 0 && exec "$@"']
const mounts = spawnSync(unshare, ['-rm', 'sh', '-c', 'mount -t tmpfs none /tmp']).status === 0

// Needs a file system of its own, which Linux gives to a process in its own namespaces; elsewhere this is skipped.
describe.skipIf(!mounts)('on a full disk', () => {
  test('a write fails with `unavailable`, nothing is half done, and it goes on when there is room again', () => {
    const source = `
      const stores = openStores(file)
      const template = JSON.parse(${JSON.stringify(JSON.stringify(approval()))})
      const failed = (thrown) => ({ code: thrown.code, message: thrown.message })
      writeFileSync(file + '.ballast', 'x'.repeat(100_000))
      let acknowledged = 0
      let full
      for (; full === undefined && acknowledged < 10_000; )
        await stores.approvals
          .open({ ...template, id: 'apr_' + acknowledged, binding: 'b' + acknowledged, because: 'z'.repeat(3_000) }, 0)
          .then(() => acknowledged++, (thrown) => (full = failed(thrown)))
      const kept = await stores.approvals.list({})
      const voided = await stores.approvals.void({ all: true }, 'n'.repeat(2_000), 0).then(() => 'done', failed)
      const states = new Set((await stores.approvals.list({})).map(({ state }) => state))
      const counted = await stores.counters
        .save(new Map(Array.from({ length: 5_000 }, (_, index) => ['counter ' + index, { value: index }])))
        .then(() => 'done', failed)
      const counters = (await stores.counters.load()).size
      rmSync(file + '.ballast')
      const again = await stores.approvals.void({ id: 'apr_0' }, 'room again', 0)
      await stores.close()
      const reopened = openStores(file)
      print({
        full, acknowledged, kept: kept.length, voided, states: [...states], counted, counters,
        again: again.map(({ id, state }) => [id, state]),
        reopened: (await reopened.approvals.list({})).length,
      })`
    const place = join(folder, 'tiny')
    mkdirSync(place)
    const child = spawnSync(unshare, [...tiny, place, process.execPath, ...program(source), join(place, 'state.db')], {
      encoding: 'utf8',
    })
    expect(child.stderr).toBe('')
    const seen = JSON.parse(child.stdout) as Record<string, unknown>
    const full = { code: 'unavailable', message: `${join(place, 'state.db')} cannot grow: the disk is full` }
    expect(seen).toMatchObject({ full, voided: full, states: ['pending'], counted: full, counters: 0 })
    expect(seen['acknowledged']).toBeGreaterThan(10)
    expect(seen['kept']).toBe(seen['acknowledged'])
    expect(seen['reopened']).toBe(seen['acknowledged'])
    expect(seen['again']).toEqual([['apr_0', 'void']])
  })
})
