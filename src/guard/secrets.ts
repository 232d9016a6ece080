import { Failure } from '../core/failure.ts'
import type { Towards } from '../core/secret.ts'
import { joinMaskers } from './join-maskers.ts'
import { createLearned } from './learned.ts'
import type { Masker } from './mask.ts'
import { createKv2, placeName } from './secret-sources/kv2.ts'
import type { Kv2, Kv2Options, Kv2Place } from './secret-sources/kv2.ts'
import type { Clock } from './clock.ts'
import type { Uses } from './uses.ts'
import type { KnownValue, Obstacle, Vault } from './vault.ts'

/** A secret that is read each time that it is used. */
export type LateSecret = { readonly from: 'secret'; readonly name: string } | ({ readonly from: 'vault' } & Kv2Place)

/** Reads secrets as one configuration refers to them. */
export interface Reader {
  prepare(secret: LateSecret, towards: Towards): Promise<Obstacle | undefined>
  /** Fails with `forbidden` for a place that it is not bound to, else with `unavailable`. */
  read(secret: LateSecret, towards: Towards): string
  /** Differs when the value does; undefined where it can't be had at present. */
  mark(secret: LateSecret, towards: Towards): string | undefined
  /** A value that the configuration brought along was used. */
  used(name: string, towards: Towards): void
}

/** All secrets of a running gateway, whatever they are read from. */
export interface Secrets {
  readonly masker: Masker
  /** A reader for a configuration that may come into force. `server` is how the server of `${vault:…}` is reached. */
  readerFor(server: Kv2Options | undefined, mark: string): Reader
  /** The configuration of this reader is in force: values of others are forgotten. */
  adopt(reader: Reader, known: readonly KnownValue[], late: readonly LateSecret[]): Promise<void>
  /** The configuration of this reader came to nothing. */
  drop(reader: Reader): Promise<void>
  /**
   * An upstream gave this out for a secret, such as an access token: it is never shown. To be told when it is over: what
   * is over is forgotten in time, what is not never is.
   */
  learn(name: string, value: string): () => void
  /** Told when values came, changed or went. */
  onChange(listener: () => void): void
  close(): Promise<void>
}

/** A shorter value of the environment or a file is no secret: it would be found everywhere. In UTF-16 units. */
const shortestKnown = 6

export function createSecrets({
  vault,
  uses,
  clock,
}: {
  readonly vault: Vault
  readonly uses: Uses
  readonly clock: Clock
}): Secrets {
  interface Own {
    readonly server: Kv2 | undefined
    readonly mark: string
  }
  const readers = new WeakMap<Reader, Own>()
  const listeners: (() => void)[] = []
  let inForce: Own = { server: undefined, mark: '' }
  let fixed: readonly KnownValue[] = []
  const learned = createLearned()
  let values: readonly KnownValue[] = []

  function changed(): void {
    values = [
      ...vault.values(),
      ...(inForce.server?.values() ?? []),
      ...fixed.filter(({ value }) => value.length >= shortestKnown),
    ]
  }
  function tell(): void {
    changed()
    for (const listener of listeners) listener()
  }
  vault.onChange(tell)
  changed()

  function ownOf(reader: Reader): Own {
    const own = readers.get(reader)
    if (own === undefined) throw new TypeError('this reader was made elsewhere')
    return own
  }

  function readerFor(options: Kv2Options | undefined, mark: string): Reader {
    const isSame = inForce.server !== undefined && inForce.mark === mark
    const server = options === undefined ? undefined : isSame ? inForce.server : createKv2(options, clock)
    const reader: Reader = {
      async prepare(secret, towards) {
        if (secret.from === 'secret') return vault.obstacle(secret.name, towards)
        const because = server === undefined ? 'no server is configured' : await server.prepare(secret)
        return because === undefined
          ? undefined
          : { when: 'now', because: `${placeName(secret)} can't be had at present: ${because}` }
      },
      read(secret, towards) {
        if (secret.from === 'secret') return vault.use(secret.name, towards)
        if (server === undefined) throw new Failure('unavailable', 'no server of secrets is configured')
        const value = server.use(secret)
        uses.note({ secret: placeName(secret), ...towards })
        return value
      },
      mark(secret, towards) {
        if (secret.from === 'vault') return server?.mark(secret) || undefined
        return vault.obstacle(secret.name, towards) === undefined ? vault.mark(secret.name) : undefined
      },
      used: (name, towards) => uses.note({ secret: name, ...towards }),
    }
    readers.set(reader, { server, mark })
    return reader
  }

  return {
    masker: joinMaskers(() => [...learned.groups(), values]),
    readerFor,
    async adopt(reader, known, late) {
      const before = inForce.server
      inForce = ownOf(reader)
      fixed = known
      inForce.server?.keepOnly(late.filter((secret) => secret.from === 'vault'))
      if (inForce.server !== before) {
        const { server } = inForce
        server?.onChange(() => inForce.server === server && tell())
        await before?.close()
      }
      changed()
    },
    async drop(reader) {
      const { server } = ownOf(reader)
      if (server !== inForce.server) await server?.close()
    },
    learn: (name, value) => learned.add(name, value),
    onChange: (listener) => void listeners.push(listener),
    close: async () => inForce.server?.close(),
  }
}
