/** One version of the policy's text, kept so that every event can be read under the policy that it was decided by. */
export interface PolicyVersion {
  /** SHA-256 (hex) of the text. */
  readonly digest: string
  readonly text: string
  readonly loadedAt: number
  /** `start`, `signal`, or the person who asked for it. */
  readonly loadedBy: string
}

export interface PolicyVersionStore {
  /** Keeps a version. One that is kept already stays as it is. */
  add(version: PolicyVersion): Promise<void>
  get(digest: string): Promise<PolicyVersion | undefined>
  /** Newest first. */
  list(limit: number): Promise<readonly PolicyVersion[]>
}
