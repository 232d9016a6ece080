/** Somebody pulled the brake: no session of the target starts or goes on until it is lifted. */
export interface Stop {
  /** `all`, or `agent:reader`. */
  readonly target: string
  readonly by: string
  readonly because: string
  readonly at: number
}

/** Keeps stops. Each method is durable when it resolves. */
export interface StopStore {
  /** Replaces an earlier one of the same target. */
  add(stop: Stop): Promise<void>
  /** Whether there was one. */
  lift(target: string): Promise<boolean>
  list(): Promise<readonly Stop[]>
}
