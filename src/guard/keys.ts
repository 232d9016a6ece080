import type { AuditLog } from '../core/audit.ts'
import { Failure } from '../core/failure.ts'
import type { Key, KeyStore } from '../core/key.ts'
import type { Clock } from './clock.ts'
import { randomId, randomToken, sha256 } from './digest.ts'

/** A key that was just made. The text is nowhere else: it is shown once. */
export interface NewKey {
  readonly key: Key
  readonly text: string
}

/** Long-lived credentials of agents, people and services. */
export interface Keys {
  issue(holder: string, by: string, options?: { readonly lasts?: number }): Promise<NewKey>
  /** Makes a new key; those that the holder has end after the overlap (milliseconds). */
  rotate(holder: string, by: string, overlap: number, options?: { readonly lasts?: number }): Promise<NewKey>
  revoke(id: string, by: string, because: string): Promise<void>
  /** The key with this text, if it holds now. */
  verify(text: string): Promise<Key | undefined>
  list(holder?: string): Promise<readonly Key[]>
}

/** What every key's text begins with, by kind of holder: easy to find where it does not belong. */
export const keyPrefix = { agent: 'sp_agent_', person: 'sp_person_', service: 'sp_service_' } as const

const holderForm = /^(agent|person|service):[A-Za-z0-9_.-]{1,64}$/

export function createKeys(store: KeyStore, audit: Pick<AuditLog, 'append'>, clock: Clock): Keys {
  async function issue(holder: string, by: string, options: { readonly lasts?: number } = {}): Promise<NewKey> {
    const kind = holderForm.exec(holder)?.[1] as keyof typeof keyPrefix | undefined
    if (kind === undefined)
      throw new Failure(
        'invalid',
        `\`${holder}\` can't hold a key: expected \`agent:\`, \`person:\` or \`service:\` and a name`,
      )
    const text = randomToken(keyPrefix[kind])
    const at = clock()
    const key: Key = {
      id: randomId('key'),
      holder,
      digest: sha256(text),
      createdAt: at,
      ...(options.lasts === undefined ? {} : { endsAt: at + options.lasts, endedBecause: 'expired' }),
    }
    await audit.append({
      type: 'key.issue',
      at,
      key: key.id,
      holder,
      by,
      ...(key.endsAt ? { endsAt: key.endsAt } : {}),
    }).done
    await store.add(key)
    return { key, text }
  }

  async function rotate(
    holder: string,
    by: string,
    overlap: number,
    options: { readonly lasts?: number } = {},
  ): Promise<NewKey> {
    const old = (await store.list(holder)).filter((key) => holds(key))
    const fresh = await issue(holder, by, options)
    for (const key of old) await endKey(key.id, clock() + overlap, by, `rotated to ${fresh.key.id}`)
    return fresh
  }

  async function endKey(id: string, at: number, by: string, because: string): Promise<void> {
    await store.end(id, at, because)
    await audit.append({ type: 'key.end', at: clock(), key: id, endsAt: at, by, because }).done
  }

  const holds = ({ endsAt }: Key): boolean => endsAt === undefined || clock() < endsAt

  return {
    issue,
    rotate,
    revoke: (id, by, because) => endKey(id, clock(), by, because),
    async verify(text) {
      if (!/^sp_(agent|person|service)_[A-Za-z0-9_-]{43}$/.test(text)) return undefined
      const key = await store.byDigest(sha256(text))
      return key !== undefined && holds(key) ? key : undefined
    },
    list: (holder) => store.list(holder),
  }
}
