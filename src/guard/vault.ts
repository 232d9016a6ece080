import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { AuditLog } from '../core/audit.ts'
import { canonicalize } from '../core/canonical.ts'
import { Failure } from '../core/failure.ts'
import { isSecretName, refusedBy, secretNameForm } from '../core/secret.ts'
import type {
  KeptSecret,
  MasterKey,
  MasterKeys,
  SealedVersion,
  SecretBinding,
  SecretStore,
  Towards,
} from '../core/secret.ts'
import type { Clock } from './clock.ts'
import type { Uses } from './uses.ts'

/** What may be known of a secret: everything but its value. */
export interface SecretState {
  readonly name: string
  readonly binding: SecretBinding
  readonly createdAt: number
  readonly versions: readonly Pick<SealedVersion, 'number' | 'setAt' | 'setBy' | 'endsAt'>[]
  readonly lastUsedAt?: number
  /** Why it can't be opened, and what to do. */
  readonly locked?: string
}

export interface NewSecret {
  readonly name: string
  readonly value: string
  readonly binding: SecretBinding
  /** Allows a value of 4 to 7 characters, which may stand in a text by chance. */
  readonly short?: boolean
}

/** A value that must not leave, by the name that may be shown in its place. */
export interface KnownValue {
  readonly name: string
  readonly value: string
}

/** What stands against using a secret towards a place. */
export interface Obstacle {
  /** `never`: it is bound elsewhere. `now`: it is not there, or can't be opened. */
  readonly when: 'never' | 'now'
  readonly because: string
}

/** Secrets that people gave Sallyport to use on behalf of agents. Nothing but `use` and `values` gives a value out. */
export interface Vault {
  list(): Promise<readonly SecretState[]>
  /** Fails with `invalid`, or `conflict` where the name is taken. */
  set(secret: NewSecret, by: string): Promise<SecretState>
  /** Puts a new value in use; those before are still known, so as to be masked, for so many milliseconds. */
  rotate(name: string, value: string, by: string, options?: { overlap?: number; short?: boolean }): Promise<SecretState>
  /** Fails with `not_found`. */
  remove(name: string, by: string): Promise<void>
  /**
   * Wraps every data key with a new master key while everything goes on. The old key is kept until that is done; what
   * is interrupted goes on at the next start. Returns how many were wrapped anew, and the names that could not be opened.
   */
  rekey(by: string): Promise<{ readonly done: number; readonly locked: readonly string[] }>
  /** Undefined where nothing stands against it. */
  obstacle(name: string, towards: Towards): Obstacle | undefined
  /** The value in use, for one use at one place. Fails with `forbidden` for another place, else with `unavailable`. */
  use(name: string, towards: Towards): string
  /** Differs when the value in use does, and tells nothing of it; undefined where there is none. */
  mark(name: string): string | undefined
  /** Every value that is known: one array, as long as nothing changes. */
  values(): readonly KnownValue[]
  /** Takes over what another process changed, and forgets what is over. */
  refresh(): Promise<void>
  onChange(listener: () => void): void
}

export interface VaultPorts {
  readonly store: SecretStore
  readonly keys: MasterKeys
  readonly audit: Pick<AuditLog, 'append'>
  readonly uses: Uses
  readonly clock: Clock
  readonly report: (failure: Failure) => void
}

/** Most bytes of a value. */
export const longestSecret = 65_536
/** A shorter value stands in other texts by chance too often, and is soon guessed. In UTF-16 units. */
export const shortestSecret = 8
const shortestOfAll = 4
/** Most values of one secret that are kept for their overlap. */
const mostVersions = 16
/** The last use is written down no more often than this, in milliseconds. */
const lastUseEvery = 60_000

interface Opened {
  readonly kept: KeptSecret
  /** The values that could be opened, in the order of `kept.versions`. */
  readonly values: readonly { readonly number: number; readonly value: string; readonly endsAt?: number }[]
  readonly locked?: string
}

/** Opens what is kept. Secrets that can't be opened harm nothing but what needs them. */
export async function createVault(ports: VaultPorts): Promise<Vault> {
  const { store, keys, audit, uses, clock, report } = ports
  let opened: ReadonlyMap<string, Opened> = new Map()
  let known: readonly KnownValue[] = []
  const listeners: (() => void)[] = []
  const lastUsed = new Map(await store.lastUsed())
  const lastWritten = new Map<string, number>()

  // One change at a time in this process; between processes the revision decides.
  let last: Promise<unknown> = Promise.resolve()
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = last.then(work)
    last = turn.catch(() => {})
    return turn
  }

  function ring(): { readonly keys: readonly MasterKey[]; readonly problem?: string } {
    try {
      return { keys: keys.read() }
    } catch (thrown) {
      return { keys: [], problem: Failure.from(thrown).message }
    }
  }

  /** Reads everything, and opens what was not open. Returns whether anything is other than before. */
  async function look(): Promise<boolean> {
    const now = clock()
    const all = await store.list()
    const master = ring()
    const before = opened
    const next = new Map<string, Opened>()
    let isOther = all.length !== before.size
    for (const kept of all) {
      const old = before.get(kept.name)
      const isSame =
        old !== undefined &&
        old.locked === undefined &&
        old.kept.revision === kept.revision &&
        old.kept.createdAt === kept.createdAt
      const one = isSame ? old : open(kept, master)
      const values = one.values.filter(({ endsAt }) => endsAt === undefined || now < endsAt)
      isOther ||=
        !isSame &&
        (one.locked !== old?.locked ||
          one.kept.revision !== old?.kept.revision ||
          one.kept.createdAt !== old?.kept.createdAt)
      isOther ||= values.length !== one.values.length
      next.set(kept.name, values.length === one.values.length ? one : { ...one, values })
    }
    if (!isOther) return false
    opened = next
    known = [...next.values()].flatMap(({ kept, values }) => values.map(({ value }) => ({ name: kept.name, value })))
    return true
  }

  function open(kept: KeptSecret, master: ReturnType<typeof ring>): Opened {
    const values: Opened['values'][number][] = []
    let locked: string | undefined
    for (const version of kept.versions)
      try {
        const { number, endsAt } = version
        values.push({ number, value: unseal(kept, version, master), ...(endsAt === undefined ? {} : { endsAt }) })
      } catch (thrown) {
        if (version === kept.versions[0]) locked = Failure.from(thrown).message
      }
    return { kept, values, ...(locked === undefined ? {} : { locked }) }
  }

  function unwrap(kept: KeptSecret, version: SealedVersion, master: ReturnType<typeof ring>): Buffer {
    const key = master.keys.find(({ id }) => id === version.master)
    if (key === undefined)
      throw new Failure(
        'unavailable',
        master.problem ??
          `the secret \`${kept.name}\` can't be opened: ${master.keys.length === 0 ? 'the master key is gone' : 'it was sealed with another master key'} ` +
            `(expected the one with id ${version.master} in ${keys.place}). Bring that key back from a backup; without it the value is lost: ` +
            `remove the secret and set it anew`,
      )
    return unlock(key.bytes, version.wrapped, contextOf('data key', kept, version.number), kept.name)
  }

  function unseal(kept: KeptSecret, version: SealedVersion, master: ReturnType<typeof ring>): string {
    const dataKey = unwrap(kept, version, master)
    try {
      return unlock(dataKey, version.sealed, contextOf('value', kept, version.number), kept.name).toString('utf8')
    } finally {
      dataKey.fill(0)
    }
  }

  /** The key to seal with. Makes the first one; never a second beside secrets that wait for theirs. */
  function sealingKey(): MasterKey {
    if (keys.read().length === 0 && opened.size === 0) keys.create()
    const [key] = keys.read()
    const locked = [...opened.values()].find((each) => each.locked !== undefined)
    if (locked !== undefined)
      throw new Failure('conflict', `nothing is sealed while secrets can't be opened. ${locked.locked}`)
    if (key === undefined)
      throw new Failure(
        'unavailable',
        `there is no master key in ${keys.place}: bring back the one that secrets are sealed with, from a backup`,
      )
    return key
  }

  function sealed(
    kept: Pick<KeptSecret, 'name' | 'binding'>,
    number: number,
    value: string,
    by: string,
    key: MasterKey,
  ): SealedVersion {
    const dataKey = randomBytes(32)
    const version: SealedVersion = {
      number,
      setAt: clock(),
      setBy: by,
      master: key.id,
      wrapped: lock(key.bytes, dataKey, contextOf('data key', kept, number)),
      sealed: lock(dataKey, Buffer.from(value, 'utf8'), contextOf('value', kept, number)),
    }
    dataKey.fill(0)
    return version
  }

  async function changed(): Promise<void> {
    if (await look()) for (const listener of listeners) listener()
  }

  async function set({ name, value, binding, short = false }: NewSecret, by: string): Promise<SecretState> {
    if (!isSecretName(name))
      throw new Failure('invalid', `this can't be the name of a secret: expected ${secretNameForm}`)
    checkValue(value, short)
    const bound = checkedBinding(binding)
    await changed()
    if (opened.has(name))
      throw new Failure(
        'conflict',
        `there is a secret \`${name}\` already: \`sallyport secrets rotate ${name}\` gives it a new value; to bind it elsewhere, remove it first`,
      )
    const key = sealingKey()
    const at = clock()
    const own = { name, binding: bound }
    await audit.append({
      type: 'secret.set',
      at,
      secret: name,
      version: 1,
      resource: bound.resource,
      hosts: bound.hosts,
      by,
    }).done
    await store.add({ ...own, versions: [sealed(own, 1, value, by, key)], revision: 1, createdAt: at })
    await followKey(name, key)
    await changed()
    return stateOf(opened.get(name), name)
  }

  async function rotate(
    name: string,
    value: string,
    by: string,
    { overlap = 0, short = false } = {},
  ): Promise<SecretState> {
    checkValue(value, short)
    await changed()
    const kept = opened.get(name)?.kept
    if (kept === undefined) throw notFound(name)
    const key = sealingKey()
    const at = clock()
    const [newest] = kept.versions
    const number = (newest?.number ?? 0) + 1
    const until = at + overlap
    await audit.append({ type: 'secret.rotate', at, secret: name, version: number, before: newest?.number, until, by })
      .done
    const before = kept.versions
      .map((version) => ({ ...version, endsAt: Math.min(version.endsAt ?? until, until) }))
      .filter(({ endsAt }) => at < endsAt)
      .slice(0, mostVersions - 1)
    await store.replace({
      ...kept,
      versions: [sealed(kept, number, value, by, key), ...before],
      revision: kept.revision + 1,
    })
    await followKey(name, key)
    await changed()
    return stateOf(opened.get(name), name)
  }

  async function remove(name: string, by: string): Promise<void> {
    if ((await store.get(name)) === undefined) throw notFound(name)
    await audit.append({ type: 'secret.remove', at: clock(), secret: name, by }).done
    await store.remove(name)
    lastUsed.delete(name)
    lastWritten.delete(name)
    await changed()
  }

  /** A change of the master key may have ended between reading the key and writing with it: then it is wrapped once more. */
  async function followKey(name: string, with_: MasterKey): Promise<void> {
    const now = keys.read()
    if (now[0] === undefined || now[0].id === with_.id) return
    const kept = await store.get(name)
    if (kept !== undefined) await rewrap(kept, [...now, with_])
  }

  /** Wraps the data keys of one secret with the first of the keys. Returns what was done, or why not. */
  async function rewrap(
    kept: KeptSecret,
    all: readonly MasterKey[],
  ): Promise<'done' | 'nothing' | 'locked' | 'changed'> {
    const [target] = all
    if (target === undefined || kept.versions.every(({ master }) => master === target.id)) return 'nothing'
    let isLocked = false
    const versions = kept.versions.map((version) => {
      if (version.master === target.id) return version
      try {
        const dataKey = unwrap(kept, version, { keys: all })
        const wrapped = lock(target.bytes, dataKey, contextOf('data key', kept, version.number))
        dataKey.fill(0)
        return { ...version, wrapped, master: target.id }
      } catch {
        isLocked = true
        return version
      }
    })
    if (isLocked && versions.every((version, at) => version === kept.versions[at])) return 'locked'
    try {
      await store.replace({ ...kept, versions, revision: kept.revision + 1 })
    } catch (thrown) {
      if (Failure.from(thrown).code === 'conflict') return 'changed'
      throw thrown
    }
    return isLocked ? 'locked' : 'done'
  }

  async function rewrapAll(all: readonly MasterKey[]): Promise<{ done: number; locked: readonly string[] }> {
    let done = 0
    for (let round = 0; round < 100; round++) {
      const locked: string[] = []
      let isQuiet = true
      for (const kept of await store.list()) {
        const result = await rewrap(kept, all)
        if (result === 'done') done += 1
        if (result === 'locked') locked.push(kept.name)
        if (result === 'done' || result === 'changed') isQuiet = false
      }
      if (isQuiet) return { done, locked }
    }
    throw new Failure(
      'unavailable',
      'secrets change faster than they can be wrapped anew: run `sallyport secrets rekey` again',
    )
  }

  async function rekey(by: string): Promise<{ done: number; locked: readonly string[] }> {
    const before = keys.read()
    if (before.length === 0 && opened.size === 0) keys.create()
    else if (before.length === 0)
      throw new Failure(
        'conflict',
        `${keys.place} holds no master key: bring back the one that secrets are sealed with first`,
      )
    keys.next()
    const all = [...keys.read(), ...before]
    await audit.append({ type: 'secret.rekey', at: clock(), state: 'begun', master: all[0]?.id, by }).done
    const first = await rewrapAll(all)
    keys.finish()
    // Another process may have sealed something with the key before, just before it went.
    const second = await rewrapAll(all)
    await audit.append({
      type: 'secret.rekey',
      at: clock(),
      state: 'done',
      master: all[0]?.id,
      secrets: first.done + second.done,
      locked: second.locked,
      by,
    }).done
    await changed()
    return { done: first.done + second.done, locked: second.locked }
  }

  /** Removes versions whose time is over. Who else does so at the same moment does the same. */
  async function forget(): Promise<void> {
    const now = clock()
    const isOver = ({ endsAt }: SealedVersion): boolean => endsAt !== undefined && now >= endsAt
    for (const { kept } of opened.values())
      if (kept.versions.some(isOver))
        await store
          .replace({
            ...kept,
            versions: kept.versions.filter((version) => !isOver(version)),
            revision: kept.revision + 1,
          })
          .catch((thrown: unknown) => {
            if (Failure.from(thrown).code !== 'conflict') throw thrown
          })
  }

  function obstacle(name: string, towards: Towards): Obstacle | undefined {
    const secret = opened.get(name)
    if (secret === undefined)
      return { when: 'now', because: `there is no secret \`${name}\`: set it with \`sallyport secrets set ${name}\`` }
    const refused = refusedBy(secret.kept.binding, towards)
    if (refused !== undefined) return { when: 'never', because: `the secret \`${name}\` is not used here: ${refused}` }
    return secret.locked === undefined ? undefined : { when: 'now', because: secret.locked }
  }

  function use(name: string, towards: Towards): string {
    const against = obstacle(name, towards)
    const newest = opened.get(name)?.values[0]
    if (against?.when === 'never') {
      audit
        .append({
          type: 'secret.refused',
          at: clock(),
          secret: name,
          resource: towards.resource,
          host: towards.host,
          because: against.because,
        })
        .done.catch(() => {})
      throw new Failure('forbidden', against.because)
    }
    if (against !== undefined || newest === undefined)
      throw new Failure('unavailable', against?.because ?? `the secret \`${name}\` has no value`)
    uses.note({ secret: name, version: newest.number, ...towards })
    noteLastUse(name)
    return newest.value
  }

  function noteLastUse(name: string): void {
    const now = clock()
    lastUsed.set(name, now)
    if (now - (lastWritten.get(name) ?? -Infinity) < lastUseEvery) return
    lastWritten.set(name, now)
    store.used(name, now).catch((thrown: unknown) => report(Failure.from(thrown)))
  }

  function stateOf(secret: Opened | undefined, name: string): SecretState {
    if (secret === undefined) throw notFound(name)
    const { kept, locked } = secret
    const lastUsedAt = lastUsed.get(name)
    return {
      name,
      binding: kept.binding,
      createdAt: kept.createdAt,
      versions: kept.versions.map(({ number, setAt, setBy, endsAt }) => ({
        number,
        setAt,
        setBy,
        ...(endsAt === undefined ? {} : { endsAt }),
      })),
      ...(lastUsedAt === undefined ? {} : { lastUsedAt }),
      ...(locked === undefined ? {} : { locked }),
    }
  }

  await look()
  if (keys.isChanging()) await rekey('start').catch((thrown: unknown) => report(Failure.from(thrown)))
  // Made at the first start, so that it is in the first backup.
  if (opened.size === 0) {
    try {
      if (keys.read().length === 0) keys.create()
    } catch (thrown) {
      report(Failure.from(thrown))
    }
  }
  for (const { locked } of opened.values()) if (locked !== undefined) report(new Failure('unavailable', locked))

  return {
    list: () =>
      inTurn(async () => {
        await changed()
        for (const [name, at] of await store.lastUsed()) lastUsed.set(name, Math.max(at, lastUsed.get(name) ?? 0))
        return [...opened].map(([name, secret]) => stateOf(secret, name))
      }),
    set: (secret, by) => inTurn(() => set(secret, by)),
    rotate: (name, value, by, options) => inTurn(() => rotate(name, value, by, options)),
    remove: (name, by) => inTurn(() => remove(name, by)),
    rekey: (by) => inTurn(() => rekey(by)),
    obstacle,
    use,
    mark: (name) => {
      const secret = opened.get(name)
      return secret === undefined ? undefined : `${secret.kept.createdAt}.${secret.values[0]?.number}`
    },
    values: () => known,
    refresh: () =>
      inTurn(async () => {
        await forget()
        await changed()
      }),
    onChange: (listener) => void listeners.push(listener),
  }
}

const notFound = (name: string): Failure =>
  new Failure(
    'not_found',
    isSecretName(name) ? `there is no secret \`${name}\`` : `there is no such secret: names have ${secretNameForm}`,
  )

function checkValue(value: string, short: boolean): void {
  if (Buffer.byteLength(value) > longestSecret)
    throw new Failure('too_large', `a secret has at most ${longestSecret} bytes`)
  if (value.includes('\0') || !value.isWellFormed())
    throw new Failure('invalid', 'a secret is text without NUL characters')
  if (value.length < shortestOfAll) throw new Failure('invalid', `a secret has at least ${shortestOfAll} characters`)
  if (value.length < shortestSecret && !short)
    throw new Failure(
      'invalid',
      `a secret has at least ${shortestSecret} characters: a shorter one can be guessed, and stands in other texts by chance. \`--short\` takes it all the same`,
    )
}

function checkedBinding({ resource, hosts }: SecretBinding): SecretBinding {
  const canonical = [...new Set(hosts.map(canonicalHost))].sort()
  if (resource === undefined && canonical.length === 0)
    throw new Failure('invalid', 'a secret is bound to a resource, to hosts, or to both: give `--resource`, `--host`')
  if (resource !== undefined && !/^[a-z][a-z0-9-]{0,15}$/.test(resource))
    throw new Failure('invalid', 'expected the name of a resource of the configuration')
  if (canonical.length > 32) throw new Failure('invalid', 'a secret is bound to at most 32 hosts')
  return { ...(resource === undefined ? {} : { resource }), hosts: canonical }
}

/** A host as an address has it. Fails with `invalid` for anything else, wildcards too. */
function canonicalHost(text: string): string {
  const url = /^[^\s/@?#\\*%]{1,253}$/.test(text) ? URL.parse(`https://${text}/`) : null
  if (url === null || url.port !== '' || url.hostname === '' || /:\d*$/.test(text.replace(/^\[.*\]/, '')))
    throw new Failure('invalid', 'expected a host without scheme, port, path and wildcards, such as `api.example.com`')
  return url.hostname
}

/** What a ciphertext stands for. It opens for nothing else: another name, version or binding. */
const contextOf = (
  what: 'data key' | 'value',
  { name, binding }: Pick<KeptSecret, 'name' | 'binding'>,
  number: number,
): Buffer =>
  Buffer.from(
    canonicalize({
      what: `sallyport ${what}`,
      form: 1,
      name,
      number,
      resource: binding.resource ?? null,
      hosts: binding.hosts,
    }),
  )

const nonceBytes = 12
const tagBytes = 16

/** AES-256-GCM: nonce, ciphertext, tag, in base64. */
function lock(key: Uint8Array, plain: Uint8Array, context: Buffer): string {
  const nonce = randomBytes(nonceBytes)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes }).setAAD(context)
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]).toString('base64')
}

function unlock(key: Uint8Array, locked: string, context: Buffer, name: string): Buffer {
  const bytes = Buffer.from(locked, 'base64')
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, nonceBytes), { authTagLength: tagBytes })
    decipher.setAAD(context).setAuthTag(bytes.subarray(-tagBytes))
    return Buffer.concat([decipher.update(bytes.subarray(nonceBytes, -tagBytes)), decipher.final()])
  } catch {
    throw new Failure(
      'unavailable',
      `the secret \`${name}\` can't be opened: what is stored was damaged, or was moved here from another secret or binding. ` +
        'Restore the database from a backup, or remove the secret and set it anew',
    )
  }
}
