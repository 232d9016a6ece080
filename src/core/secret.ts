/**
 * Where a secret may go. Every part that is there has to fit: towards another resource or another host it is not used,
 * whatever policy says. At least one part is there.
 */
export interface SecretBinding {
  /** The name of the one resource that it is for. */
  readonly resource?: string
  /** The hosts that it may be sent to, as in an address: lower case, A-labels, no port. Empty: not bound to hosts. */
  readonly hosts: readonly string[]
}

/** Where somebody wants to use a secret. */
export interface Towards {
  readonly resource: string
  /** Absent for a program that is started here, which may send it anywhere. */
  readonly host?: string
}

/** One value of a secret, sealed. Nothing can be learned from it without the master key, save its length. */
export interface SealedVersion {
  /** Counts from 1. */
  readonly number: number
  readonly setAt: number
  readonly setBy: string
  /** From this moment on it is of no use and is removed: the end of the overlap after a rotation. */
  readonly endsAt?: number
  /** Id of the master key that its data key is wrapped with. */
  readonly master: string
  /** The data key, wrapped with the master key: nonce, ciphertext and tag in base64. */
  readonly wrapped: string
  /** The value, sealed with the data key: the same form. */
  readonly sealed: string
}

/** A secret as it is kept. */
export interface KeptSecret {
  readonly name: string
  readonly binding: SecretBinding
  /** The newest first; at least one. */
  readonly versions: readonly SealedVersion[]
  /** Counts up with every change: who changes it says which one was seen. */
  readonly revision: number
  readonly createdAt: number
}

/** Keeps secrets, sealed. Each method is durable when it resolves. */
export interface SecretStore {
  /** By name. */
  list(): Promise<readonly KeptSecret[]>
  get(name: string): Promise<KeptSecret | undefined>
  /** Fails with `conflict` if the name is taken. */
  add(secret: KeptSecret): Promise<void>
  /** Takes the place of the one with the revision before. Fails with `conflict` if that is not there any more. */
  replace(secret: KeptSecret): Promise<void>
  /** Whether there was one. */
  remove(name: string): Promise<boolean>
  /** Notes when a secret was last used; an earlier moment changes nothing, nor does the name of one that is gone. */
  used(name: string, at: number): Promise<void>
  /** When secrets were last used, by name; those that were not are not in it. */
  lastUsed(): Promise<ReadonlyMap<string, number>>
}

/** A key that data keys are wrapped with. */
export interface MasterKey {
  /** Tells it from others, and nothing more. */
  readonly id: string
  /** 32 bytes. */
  readonly bytes: Uint8Array
  /** Where it came from, in words for people: a file, or the name of a variable. */
  readonly from: string
}

/** Keeps master keys, apart from what they open. */
export interface MasterKeys {
  /** Where the key is, or would be, in words for people. */
  readonly place: string
  /**
   * Those that there are now; the first is the one to wrap with. None where none was made yet. Read anew each time:
   * another process may have changed them. Fails with `invalid` for one that is damaged or that others could read.
   */
  read(): readonly MasterKey[]
  /** Makes the first one, unless there is one. */
  create(): void
  /**
   * Makes the key that takes the place of the one in use, unless one waits already; from now on it is the first of
   * `read`, and the one before is there until `finish`. Does nothing where the key is given from outside.
   */
  next(): void
  /** Whether a key waits to take the place of the one before: a change that was begun is not finished. */
  isChanging(): boolean
  /** Leaves the key before: nothing is wrapped with it any more. */
  finish(): void
}

const nameForm = /^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/

/** Whether a text can be the name of a secret. */
export const isSecretName = (name: string): boolean => nameForm.test(name)

/** What a name of a secret looks like, for messages. */
export const secretNameForm = 'at most 64 letters, digits, `_`, `.` and `-`, beginning with a letter or `_`'

/** Why a secret can't be used towards a place, in words; undefined where it can. */
export function refusedBy({ resource, hosts }: SecretBinding, towards: Towards): string | undefined {
  if (resource !== undefined && resource !== towards.resource)
    return `it is bound to the resource \`${resource}\`, not to \`${towards.resource}\``
  if (hosts.length === 0) return undefined
  const only = `it is bound to ${hosts.map((host) => `\`${host}\``).join(', ')}`
  if (towards.host === undefined) return `${only}, and a program that is started here could send it anywhere`
  return hosts.includes(towards.host.toLowerCase()) ? undefined : `${only}, not to \`${towards.host}\``
}
