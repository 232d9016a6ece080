/** A long-lived credential of an agent, a person or a service. Its text is shown once; only a digest is kept. */
export interface Key {
  readonly id: string
  /** `agent:reader`, `person:anna`, `service:desk`. */
  readonly holder: string
  /** SHA-256 (hex) of the key. A key has 256 random bits, so nothing slower is needed. */
  readonly digest: string
  readonly createdAt: number
  /** From this moment on it is refused: its expiry, the end of the overlap after a rotation, or when it was revoked. */
  readonly endsAt?: number
  readonly endedBecause?: string
}

/** Keeps keys. Each method is durable when it resolves. */
export interface KeyStore {
  /** Fails with `conflict` if the id or digest is taken. */
  add(key: Key): Promise<void>
  byDigest(digest: string): Promise<Key | undefined>
  /** All of a holder, or all; newest first. */
  list(holder?: string): Promise<readonly Key[]>
  /** Brings the end of a key forward; an earlier end stays. Fails with `not_found`. */
  end(id: string, at: number, because: string): Promise<void>
}
