import type { Action } from '../../../core/action.ts'
import { Failure } from '../../../core/failure.ts'
import type { JsonObject } from '../../../core/json.ts'
import type { CountPassed, Guard, Hold, Performed, Permit, Refusal } from '../../../guard/guard.ts'
import type { Complaint } from './frames.ts'

/** How a statement ended. */
export interface End {
  /** The first word or two of what the server said: `SELECT 5`. */
  readonly tag?: string
  readonly error?: Complaint
  /** The number of its transaction, where it is known. */
  readonly change?: string
}

/** What one statement may return. */
export interface Most {
  readonly rows: number
  readonly bytes: number
}

/** A statement that is under way: what came of it so far, and whom to tell of its end. */
export class Running {
  readonly most: Most
  readonly isWrite: boolean
  /** Absent where it needs no permission. */
  readonly permit: Permit | undefined
  rows = 0
  bytes = 0
  isOver = false
  /** Why nothing more of its result goes out. */
  cut: Complaint | undefined
  /** What follows from it where it succeeds. */
  effect: ((running: Running) => void) | undefined
  /** It goes on after its first answer: a cursor, or a portal that is read in parts. */
  isKept = false

  private readonly passed: CountPassed
  private readonly tell: (end: End, running: Running) => void
  private told = 0

  constructor(
    most: Most,
    isWrite: boolean,
    run?: {
      readonly permit: Permit
      readonly passed: CountPassed
      readonly tell: (end: End, running: Running) => void
    },
  ) {
    this.most = most
    this.isWrite = isWrite
    this.permit = run?.permit
    this.passed = run?.passed ?? (() => true)
    this.tell = run?.tell ?? (() => {})
  }

  /** Tells how much came since the last time. */
  report(): void {
    if (this.bytes === this.told) return
    this.passed(this.bytes - this.told)
    this.told = this.bytes
  }

  end(end: End): void {
    if (this.isOver) return
    this.isOver = true
    this.report()
    this.tell(end, this)
  }
}

/** What guard said, where it is no. */
export type Denied = { readonly refusal: Refusal } | { readonly failure: Failure }

/**
 * Takes an action through the guard, as far as to where it may happen: from then on it is whoever called that makes it
 * happen, and tells its end. `onCut` is told when it must not go on.
 */
export function begin(
  guard: Pick<Guard, 'run'>,
  action: Action,
  { most, isWrite, secrets }: { readonly most: Most; readonly isWrite: boolean; readonly secrets: readonly string[] },
  hold: Hold,
  caller: AbortSignal,
  onCut: (running: Running, because: unknown) => void,
): Promise<Running | Denied> {
  return new Promise((resolve) => {
    const perform = (signal: AbortSignal, passed: CountPassed, permit: Permit): Promise<Performed<void>> =>
      new Promise((done) => {
        const leave = (): void => onCut(running, signal.reason)
        const running = new Running(most, isWrite, {
          permit,
          passed,
          tell(end, { rows, bytes }) {
            signal.removeEventListener('abort', leave)
            done(performedOf(end, rows, bytes, secrets))
          },
        })
        signal.addEventListener('abort', leave, { once: true })
        resolve(running)
      })
    guard.run(action, perform, hold, caller).then(
      (outcome) => {
        if (outcome.kind === 'refused') resolve({ refusal: outcome.refusal })
      },
      // Where it had begun, whoever made it happen was told by the signal.
      (thrown: unknown) => resolve({ failure: Failure.from(thrown) }),
    )
  })
}

function performedOf(
  { tag, error, change }: End,
  rows: number,
  bytes: number,
  secrets: readonly string[],
): Performed<void> {
  const record: JsonObject = {
    ...(error === undefined ? {} : { error: { message: error.message, sqlstate: error.sqlstate } }),
    rows,
    ...(tag === undefined ? {} : { tag }),
  }
  return {
    value: undefined,
    record,
    bytes,
    ...(error === undefined ? {} : { failed: true }),
    ...(secrets.length === 0 ? {} : { secrets }),
    ...(change === undefined ? {} : { change }),
    checks: { ran: ['rows', 'size', 'secrets'] },
  }
}
