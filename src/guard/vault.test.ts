import fs from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { recordingAudit } from '../../test/support/world.ts'
import { Failure } from '../core/failure.ts'
import type { KeptSecret, MasterKeys, SecretStore } from '../core/secret.ts'
import { memorySecrets } from '../stores/memory/secrets.ts'
import { masterKeys } from '../stores/masterkeys.ts'
import { openStores } from '../stores/sqlite/stores.ts'
import { createUses } from './uses.ts'
import { createVault } from './vault.ts'

const value = 'sk-live-9f8e7d6c5b4a'
const other = 'sk-live-1a2b3c4d5e6f'
const crm = { resource: 'crm', hosts: ['api.example.com'] }
const there = { resource: 'crm', host: 'api.example.com' }
const anna = 'person:anna'
const minute = 60_000

let folder: string
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(tmpdir(), 'sallyport-vault-'))
})
afterEach(() => fs.rmSync(folder, { recursive: true }))

const keyFile = (): string => path.join(folder, 'master.key')
const fileKeys = (): MasterKeys => masterKeys({ file: keyFile(), env: {} })

async function world(store: SecretStore = memorySecrets(), keys: MasterKeys = fileKeys()) {
  const time = { now: 1_800_000_000_000 }
  const clock = (): number => time.now
  const audit = recordingAudit()
  const reported: Failure[] = []
  const uses = createUses(audit, clock)
  const vault = await createVault({ store, keys, audit, uses, clock, report: (failure) => reported.push(failure) })
  return { vault, store, keys, audit, time, reported, uses }
}

const set = (
  vault: Awaited<ReturnType<typeof world>>['vault'],
  name = 'CRM_KEY',
  binding: KeptSecret['binding'] = crm,
) => vault.set({ name, value, binding }, anna)

test('a secret is used where it is bound to, and told of without its value', async () => {
  const { vault, audit } = await world()
  const state = await vault.set(
    { name: 'CRM_KEY', value, binding: { resource: 'crm', hosts: ['API.Example.com'] } },
    anna,
  )
  expect(state).toMatchObject({ name: 'CRM_KEY', binding: crm, versions: [{ number: 1, setBy: anna }] })
  expect(vault.use('CRM_KEY', there)).toBe(value)
  expect(vault.use('CRM_KEY', { ...there, host: 'API.EXAMPLE.COM' })).toBe(value)
  expect(vault.mark('CRM_KEY')).toBe('1800000000000.1')
  expect(audit.of('secret.set')).toMatchObject([
    { secret: 'CRM_KEY', version: 1, resource: 'crm', hosts: ['api.example.com'], by: anna },
  ])
  expect(audit.of('secret.use')[0]).toMatchObject({ secret: 'CRM_KEY', version: 1, ...there, uses: 1 })
  for (const shown of [
    JSON.stringify([await vault.list(), audit.events]),
    inspect(vault, { depth: 10, showHidden: true }),
  ])
    expect(shown).not.toContain(value)
})

test('every use is counted: the first at once, the others by the minute', async () => {
  const { vault, audit, uses, time } = await world()
  await set(vault)
  for (let each = 0; each < 5; each++) vault.use('CRM_KEY', there)
  await uses.sweep()
  expect(audit.of('secret.use')).toHaveLength(1)
  time.now += minute
  await uses.sweep()
  expect(audit.of('secret.use').map((event) => event['uses'])).toEqual([1, 4])
  vault.use('CRM_KEY', there)
  vault.use('CRM_KEY', there)
  await uses.sweep(true)
  expect(audit.of('secret.use').map((event) => event['uses'])).toEqual([1, 4, 1, 1])
  expect((await vault.list())[0]?.lastUsedAt).toBe(time.now)
})

describe('promise 4: a secret goes nowhere but where it is bound to', () => {
  test.each([
    [
      'another resource',
      crm,
      { resource: 'notes', host: 'api.example.com' },
      /bound to the resource `crm`, not to `notes`/,
    ],
    [
      'another host',
      crm,
      { resource: 'crm', host: 'evil.example' },
      /bound to `api.example.com`, not to `evil.example`/,
    ],
    ['a host below it', crm, { resource: 'crm', host: 'x.api.example.com' }, /not to `x.api/],
    ['a host that ends likewise', crm, { resource: 'crm', host: 'evilapi.example.com' }, /not to/],
    ['a program, when bound to a host', crm, { resource: 'crm' }, /could send it anywhere/],
    [
      'another host, when bound to hosts alone',
      { hosts: ['a.example', 'b.example'] },
      { resource: 'x', host: 'c.example' },
      /`a.example`, `b.example`/,
    ],
    [
      'another resource, when bound to that alone',
      { resource: 'crm', hosts: [] },
      { resource: 'x', host: 'c.example' },
      /resource `crm`/,
    ],
  ])('%s', async (_, binding, towards, words) => {
    const { vault, audit } = await world()
    await set(vault, 'CRM_KEY', binding)
    expect(vault.obstacle('CRM_KEY', towards)).toMatchObject({
      when: 'never',
      because: expect.stringMatching(words) as string,
    })
    expect(() => vault.use('CRM_KEY', towards)).toThrow(expect.objectContaining({ code: 'forbidden' }))
    expect(audit.of('secret.refused')).toMatchObject([{ secret: 'CRM_KEY', resource: towards.resource }])
    expect(audit.of('secret.use')).toEqual([])
  })

  const moves: [string, (kept: KeptSecret) => KeptSecret][] = [
    ['another name', (kept) => ({ ...kept, name: 'OTHER' })],
    ['another resource', (kept) => ({ ...kept, binding: { ...kept.binding, resource: 'evil' } })],
    ['other hosts', (kept) => ({ ...kept, binding: { ...kept.binding, hosts: ['evil.example'] } })],
    ['no binding to hosts', (kept) => ({ ...kept, binding: { resource: 'crm', hosts: [] } })],
    ['another version', (kept) => ({ ...kept, versions: kept.versions.map((each) => ({ ...each, number: 2 })) })],
    [
      'a changed value',
      (kept) => ({ ...kept, versions: kept.versions.map((each) => ({ ...each, sealed: flip(each.sealed) })) }),
    ],
    [
      'a changed key',
      (kept) => ({ ...kept, versions: kept.versions.map((each) => ({ ...each, wrapped: flip(each.wrapped) })) }),
    ],
    [
      'nothing at all',
      (kept) => ({ ...kept, versions: kept.versions.map((each) => ({ ...each, wrapped: '', sealed: '!' })) }),
    ],
    [
      'key and value in each other’s place',
      (kept) => ({
        ...kept,
        versions: kept.versions.map((each) => ({ ...each, wrapped: each.sealed, sealed: each.wrapped })),
      }),
    ],
  ]
  test.each(moves)('a row moved to %s does not open, and the others do', async (_, move) => {
    const { vault, store } = await world()
    await set(vault)
    await set(vault, 'GOOD')
    const moved = move((await store.get('CRM_KEY'))!)
    await store.remove('CRM_KEY')
    await store.add(moved)
    const after = await world(store)
    expect(
      after.vault.obstacle(moved.name, { resource: moved.binding.resource ?? '', host: moved.binding.hosts[0] ?? '' }),
    ).toMatchObject({
      when: 'now',
      because: expect.stringMatching(/was damaged, or was moved here.*Restore the database/) as string,
    })
    expect(() =>
      after.vault.use(moved.name, { resource: moved.binding.resource ?? '', host: moved.binding.hosts[0] ?? '' }),
    ).toThrow(/can't be opened/)
    expect(after.vault.use('GOOD', there)).toBe(value)
    expect(after.reported).toHaveLength(1)
    expect(after.vault.values()).toEqual([{ name: 'GOOD', value }])
  })
})

const flip = (text: string): string => {
  const bytes = Buffer.from(text, 'base64')
  bytes[20]! ^= 1
  return bytes.toString('base64')
}

test.each([
  ['empty', '', {}, 'invalid', /at least 4/],
  ['of 7 characters', '1234567', {}, 'invalid', /--short/],
  ['of 3 characters', '123', { short: true }, 'invalid', /at least 4/],
  ['with NUL', 'abcdefgh\0', {}, 'invalid', /NUL/],
  ['too large', 'é'.repeat(32_769), {}, 'too_large', /65536/],
])('a value %s is refused, and never repeated', async (_, bad, more, code, words) => {
  const { vault, store } = await world()
  const failure = await vault.set({ name: 'X', value: bad, binding: crm, ...more }, anna).catch(Failure.from)
  expect(failure).toMatchObject({ code, message: expect.stringMatching(words) as string })
  if (bad.length > 3) expect((failure as Failure).message).not.toContain(bad)
  expect(await store.list()).toEqual([])
})

test.each([
  [{ hosts: [] }, /bound to a resource/],
  [{ hosts: ['*.example.com'] }, /wildcards/],
  [{ hosts: ['https://api.example.com'] }, /without scheme/],
  [{ hosts: ['api.example.com:8443'] }, /port/],
  [{ hosts: ['api.example.com/x'] }, /path/],
  [{ hosts: ['user@api.example.com'] }, /host/],
  [{ resource: 'Not A Name', hosts: [] }, /name of a resource/],
])('the binding %j is refused', async (binding, words) => {
  const { vault } = await world()
  await expect(vault.set({ name: 'X', value, binding }, anna)).rejects.toThrow(words)
})

test('a name is set once; values of 4 to 7 characters when that is said', async () => {
  const { vault } = await world()
  await set(vault)
  await expect(set(vault)).rejects.toMatchObject({ code: 'conflict' })
  await expect(vault.set({ name: 'a b', value, binding: crm }, anna)).rejects.toMatchObject({ code: 'invalid' })
  await vault.set({ name: 'PIN', value: '4711', binding: crm, short: true }, anna)
  expect(vault.use('PIN', there)).toBe('4711')
  await expect(vault.rotate('GONE', value, anna)).rejects.toMatchObject({ code: 'not_found' })
  await expect(vault.remove('GONE', anna)).rejects.toMatchObject({ code: 'not_found' })
})

test('after a rotation the new value is used; the old one is known until its time is over, and then nowhere', async () => {
  const { vault, time, store, audit } = await world()
  await set(vault)
  const seen: (string | undefined)[] = []
  vault.onChange(() => seen.push(vault.mark('CRM_KEY')))
  await vault.rotate('CRM_KEY', other, anna, { overlap: 10 * minute })
  expect(seen).toEqual(['1800000000000.2'])
  expect(vault.use('CRM_KEY', there)).toBe(other)
  expect(vault.values().map((each) => each.value)).toEqual([other, value])
  expect(audit.of('secret.rotate')).toMatchObject([{ secret: 'CRM_KEY', version: 2, before: 1, by: anna }])
  time.now += 10 * minute
  await vault.refresh()
  expect(vault.values().map((each) => each.value)).toEqual([other])
  expect((await store.get('CRM_KEY'))?.versions.map(({ number }) => number)).toEqual([2])
  await vault.rotate('CRM_KEY', value, anna)
  expect(vault.values().map((each) => each.value)).toEqual([value])
  await vault.remove('CRM_KEY', anna)
  expect(vault.values()).toEqual([])
  expect(() => vault.use('CRM_KEY', there)).toThrow(/there is no secret `CRM_KEY`/)
})

test('values are one array as long as nothing changes', async () => {
  const { vault } = await world()
  await set(vault)
  const before = vault.values()
  await vault.refresh()
  await vault.list()
  expect(vault.values()).toBe(before)
})

test('what can not be recorded is not done', async () => {
  const { vault, audit, store } = await world()
  audit.full = true
  await expect(set(vault)).rejects.toMatchObject({ code: 'unavailable' })
  expect(await store.list()).toEqual([])
})

describe('the master key', () => {
  test('is made at the first start, for its owner alone', async () => {
    await world()
    expect(fs.statSync(keyFile()).mode & 0o777).toBe(0o600)
    expect(Buffer.from(fs.readFileSync(keyFile(), 'utf8'), 'base64')).toHaveLength(32)
  })

  const losses: [string, () => void, RegExp][] = [
    [
      'gone',
      () => fs.rmSync(keyFile()),
      /the master key is gone.*master\.key\)\. Bring that key back from a backup; without it the value is lost/,
    ],
    [
      'another',
      () => fs.writeFileSync(keyFile(), Buffer.alloc(32, 7).toString('base64')),
      /sealed with another master key/,
    ],
    ['no key', () => fs.writeFileSync(keyFile(), 'hunter2hunter2'), /holds no master key: expected 32 bytes in base64/],
    ['one that others can read', () => fs.chmodSync(keyFile(), 0o644), /can be read by others: expected mode 0600/],
  ]
  test.each(losses)(
    'that is %s: said clearly; nothing else breaks; nothing is sealed beside it',
    async (_, lose, words) => {
      const before = await world()
      await set(before.vault)
      const kept = fs.readFileSync(keyFile())
      lose()
      const { vault, reported, store } = await world(before.store)
      expect(reported.map(({ message }) => message).join()).toMatch(words)
      expect(() => vault.use('CRM_KEY', there)).toThrow(words)
      expect((await vault.list())[0]?.locked).toMatch(words)
      expect(reported.map(({ message }) => message).join()).not.toContain('hunter2')
      await expect(vault.set({ name: 'NEW', value, binding: crm }, anna)).rejects.toThrow()
      // Brought back, it opens without a new start.
      fs.rmSync(keyFile(), { force: true })
      fs.writeFileSync(keyFile(), kept, { mode: 0o600 })
      await vault.refresh()
      expect(vault.use('CRM_KEY', there)).toBe(value)
      // Or given up: then a new key is made when it is needed.
      fs.rmSync(keyFile())
      const lost = await world(store)
      await lost.vault.remove('CRM_KEY', anna)
      await set(lost.vault, 'AGAIN')
      expect(lost.vault.use('AGAIN', there)).toBe(value)
    },
  )

  test('from the environment is used, and no file is made; a wrong one stops the start without repeating it', async () => {
    const env = { SALLYPORT_MASTER_KEY: Buffer.alloc(32, 1).toString('base64') }
    const { vault } = await world(memorySecrets(), masterKeys({ file: keyFile(), env }))
    await set(vault)
    expect(vault.use('CRM_KEY', there)).toBe(value)
    expect(fs.existsSync(keyFile())).toBe(false)
    for (const wrong of ['c2hvcnQ=', `${env.SALLYPORT_MASTER_KEY}${env.SALLYPORT_MASTER_KEY}`, 'x'.repeat(44)]) {
      const failure = (() => {
        try {
          masterKeys({ file: keyFile(), env: { SALLYPORT_MASTER_KEY: wrong } })
        } catch (thrown) {
          return thrown as Failure
        }
        return undefined
      })()
      expect(failure).toMatchObject({
        code: 'invalid',
        message: expect.stringMatching(/SALLYPORT_MASTER_KEY holds no master key/) as string,
      })
      expect(failure?.message).not.toContain(wrong)
    }
    expect(() => masterKeys({ file: keyFile(), env: { SALLYPORT_MASTER_KEY_OLD: env.SALLYPORT_MASTER_KEY } })).toThrow(
      /expected both/,
    )
  })
})

describe('a change of the master key', () => {
  const three = async (store?: SecretStore) => {
    const before = await world(store)
    for (const name of ['A', 'B', 'C']) await set(before.vault, name)
    await before.vault.rotate('B', other, anna, { overlap: 10 * minute })
    return before
  }
  const expectAll = async (vault: Awaited<ReturnType<typeof world>>['vault']) => {
    expect(['A', 'B', 'C'].map((name) => vault.use(name, there))).toEqual([value, other, value])
    expect(vault.values()).toHaveLength(4)
  }

  test('wraps everything anew, changes no value, and leaves nothing under the old key', async () => {
    const { vault, store, audit } = await three()
    const [old] = fileKeys().read()
    const sealed = (await store.list()).flatMap(({ versions }) => versions.map((each) => each.sealed))
    expect(await vault.rekey(anna)).toEqual({ done: 3, locked: [] })
    const [now, ...rest] = fileKeys().read()
    expect(rest).toEqual([])
    expect(now?.id).not.toBe(old?.id)
    const after = (await store.list()).flatMap(({ versions }) => versions)
    expect(after.every(({ master }) => master === now?.id)).toBe(true)
    expect(after.map((each) => each.sealed)).toEqual(sealed)
    await expectAll(vault)
    await expectAll((await world(store)).vault)
    expect(audit.of('secret.rekey').map((event) => event['state'])).toEqual(['begun', 'done'])
  })

  test('that is interrupted at any step goes on at the next start; nothing is lost, everything goes on meanwhile', async () => {
    for (let step = 0; ; step++) {
      fs.rmSync(folder, { recursive: true })
      fs.mkdirSync(folder)
      const store = memorySecrets()
      await three(store)
      // A process that dies before its step number `step`: reading, writing, or putting the new key in place.
      let left = step
      const dies =
        <A extends unknown[], R>(work: (...args: A) => R) =>
        (...args: A): R => {
          if (left-- <= 0) throw new Failure('unavailable', 'the process died')
          return work(...args)
        }
      const dying = {
        ...store,
        list: dies(async () => store.list()),
        replace: dies(async (secret: KeptSecret) => store.replace(secret)),
      }
      const keys = fileKeys()
      left = Infinity
      const cut = await world(dying, { ...keys, next: dies(() => keys.next()), finish: dies(() => keys.finish()) })
      left = step
      const done = await cut.vault.rekey(anna).then(
        () => true,
        () => false,
      )
      left = Infinity
      await expectAll(cut.vault)
      const next = await world(store)
      expect(next.reported).toEqual([])
      await expectAll(next.vault)
      const [now, ...rest] = fileKeys().read()
      expect(rest).toEqual([])
      expect((await store.list()).flatMap(({ versions }) => versions).every(({ master }) => master === now?.id)).toBe(
        true,
      )
      if (done) {
        expect(step).toBeGreaterThan(6)
        return
      }
    }
  })

  test('a gateway beside it goes on using, setting and rotating', async () => {
    const file = path.join(folder, 'sallyport.db')
    const [ours, theirs] = [openStores(file), openStores(file)]
    const here = await three(ours.secrets)
    const beside = await world(theirs.secrets)
    const [rekeyed] = await Promise.all([
      here.vault.rekey(anna),
      ...Array.from({ length: 20 }, async (_, at) => {
        await set(beside.vault, `N${at}`)
        expect(beside.vault.use('A', there)).toBe(value)
      }),
    ])
    expect(rekeyed.locked).toEqual([])
    await beside.vault.refresh()
    const again = await world(ours.secrets)
    expect(again.reported).toEqual([])
    for (const { vault } of [beside, again]) {
      for (let at = 0; at < 20; at++) expect(vault.use(`N${at}`, there)).toBe(value)
      expect(vault.use('B', there)).toBe(other)
    }
    await Promise.all([ours.close(), theirs.close()])
  })

  test('from a file to the environment, and from one variable to another', async () => {
    const { store } = await three()
    const [a, b] = [Buffer.alloc(32, 1).toString('base64'), Buffer.alloc(32, 2).toString('base64')]
    const first = await world(store, masterKeys({ file: keyFile(), env: { SALLYPORT_MASTER_KEY: a } }))
    await expectAll(first.vault)
    expect((await first.vault.rekey(anna)).done).toBe(3)
    fs.rmSync(keyFile())
    const second = await world(
      store,
      masterKeys({ file: keyFile(), env: { SALLYPORT_MASTER_KEY: b, SALLYPORT_MASTER_KEY_OLD: a } }),
    )
    await expectAll(second.vault)
    expect((await second.vault.rekey(anna)).done).toBe(3)
    const third = await world(store, masterKeys({ file: keyFile(), env: { SALLYPORT_MASTER_KEY: b } }))
    await expectAll(third.vault)
    expect((await third.vault.rekey(anna)).done).toBe(0)
  })

  test('leaves what can not be opened as it is, and says so', async () => {
    const { vault, store } = await three()
    const kept = (await store.get('A'))!
    await store.replace({
      ...kept,
      versions: kept.versions.map((each) => ({ ...each, wrapped: flip(each.wrapped) })),
      revision: kept.revision + 1,
    })
    expect(await vault.rekey(anna)).toEqual({ done: 2, locked: ['A'] })
    expect(vault.use('B', there)).toBe(other)
    expect(() => vault.use('A', there)).toThrow(/can't be opened/)
  })
})

describe('two processes with one database', () => {
  test('of two rotations at once one wins; each sees what the other did', async () => {
    const file = path.join(folder, 'sallyport.db')
    const [ours, theirs] = [openStores(file), openStores(file)]
    const [a, b] = [await world(ours.secrets), await world(theirs.secrets)]
    await set(a.vault)
    await b.vault.refresh()
    expect(b.vault.use('CRM_KEY', there)).toBe(value)
    await a.vault.rotate('CRM_KEY', other, anna)
    await b.vault.refresh()
    expect(b.vault.use('CRM_KEY', there)).toBe(other)
    await b.vault.remove('CRM_KEY', anna)
    await set(b.vault)
    await a.vault.refresh()
    expect(a.vault.use('CRM_KEY', there)).toBe(value)
    await Promise.all([ours.close(), theirs.close()])
  })

  test('promise 4: neither file of the database holds a value, in any form', async () => {
    const file = path.join(folder, 'sallyport.db')
    const stores = openStores(file)
    const { vault } = await world(stores.secrets)
    await set(vault)
    await vault.rotate('CRM_KEY', other, anna, { overlap: minute })
    vault.use('CRM_KEY', there)
    const { formsOf } = await import('./mask.ts')
    const names = fs.readdirSync(folder).filter((name) => name.startsWith('sallyport.db'))
    expect(names).toContain('sallyport.db-wal')
    for (const name of names) {
      const bytes = fs.readFileSync(path.join(folder, name)).toString('latin1')
      for (const form of [value, other].flatMap(formsOf)) expect(bytes.includes(form)).toBe(false)
    }
    await stores.close()
  })
})
