/** Who wrote what a session has read. */
export type Trust = 'trusted' | 'untrusted'

/** Who may see what a session has read, from widest to narrowest. */
export type Readers = 'public' | 'internal' | 'private'

/** Where data came from and who may see it. Labels only ever join: what has been read stays read. */
export interface Label {
  readonly trust: Trust
  readonly readers: Readers
}

/** A session that has read nothing yet. */
export const clean: Label = { trust: 'trusted', readers: 'public' }

const order: readonly Readers[] = ['public', 'internal', 'private']

/** The label of data made from both. Commutative, associative, idempotent. */
export function join(a: Label, b: Label): Label {
  return {
    trust: a.trust === 'untrusted' || b.trust === 'untrusted' ? 'untrusted' : 'trusted',
    readers: order.indexOf(a.readers) >= order.indexOf(b.readers) ? a.readers : b.readers,
  }
}

export const sameLabel = (a: Label, b: Label): boolean => a.trust === b.trust && a.readers === b.readers
