export type FailureCode =
  | 'invalid'
  | 'unauthenticated'
  | 'forbidden'
  | 'not_found'
  | 'conflict'
  | 'too_large'
  | 'limited'
  | 'unavailable'
  | 'cancelled'
  | 'internal'

/**
 * Sallyport could not do what was asked. A refusal by policy is not one of these: `decide` returns it as a value.
 *
 * Agents and people may see `message`, so it holds no secret and no words of an upstream. Those go in `cause`,
 * which is only logged.
 */
export class Failure extends Error {
  readonly code: FailureCode

  constructor(code: FailureCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'Failure'
    this.code = code
  }

  /** Any thrown value as a Failure. One that we did not throw is `internal`, and says nothing of itself. */
  static from(thrown: unknown): Failure {
    return thrown instanceof Failure ? thrown : new Failure('internal', 'internal error', { cause: thrown })
  }
}
