import type { Action } from '../../core/action.ts'
import { notThere } from '../../core/decide.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Permission } from '../../core/permission.ts'
import type { Clock } from '../../guard/clock.ts'
import { randomToken } from '../../guard/digest.ts'
import type { Guard, Perform, Performed, Refusal } from '../../guard/guard.ts'
import type { FunctionOffer } from './functions.ts'

// For frameworks whose tools run in their own process: asked before, told after. The whole path is the one of every
// gateway, and performing is what happens between the two calls.

export type Mask = <T extends Json>(value: T) => T

export interface CheckRequest {
  readonly operation: Permission
  readonly args: JsonObject
  /** Milliseconds to wait for people. */
  readonly wait: number
  /** Milliseconds until the result has to be there. Absent: what the resource says. */
  readonly within?: number
}

/** What the program does with its function: call it, leave it, or ask again later. Times are ISO 8601. */
export type CheckAnswer =
  | {
      readonly decision: 'allow'
      /** To be given back with the result, once. */
      readonly token: string
      readonly expiresAt: string
      readonly because: string
      readonly event: string
    }
  | {
      readonly decision: 'pending'
      readonly approval: PendingApproval
      readonly because: string
      readonly event: string
    }
  | {
      readonly decision: 'deny'
      readonly code: Refusal['code']
      readonly because: string
      readonly event: string
      readonly retryAt?: string
      /** Where people would have it with other arguments: what is to be asked for instead. */
      readonly edited?: JsonObject
    }

interface PendingApproval {
  readonly id: string
  readonly expiresAt: string
}

/** What became of the function, as its program says. */
export type Report = { readonly result: Json } | { readonly error: string }

/** What the agent may know of it. */
export type ReportAnswer =
  | { readonly outcome: 'done'; readonly result: Json; readonly event: string }
  | { readonly outcome: 'failed'; readonly error: string; readonly event: string }
  /** It happened, and its result must not be handed on. */
  | { readonly outcome: 'refused'; readonly because: string; readonly event: string }

export interface Checks {
  /**
   * Whether a function may be called now. Fails with `limited` where too many are open, `unavailable` where it can't be
   * recorded, `cancelled` when `caller` left before it had an answer.
   */
  check(session: string, request: CheckRequest, caller: AbortSignal): Promise<CheckAnswer>
  /** Closes an open check of this session. Fails with `conflict` where there is none, or none any more. */
  report(session: string, token: string, report: Report): Promise<ReportAnswer>
  /** Cuts all that is open. Resolves when that is recorded. */
  close(): Promise<void>
}

export interface CheckPorts {
  readonly guard: Pick<Guard, 'run' | 'visible'>
  readonly clock: Clock
  readonly mask: Mask
  readonly find: (permission: Permission) => FunctionOffer | undefined
}

/** How many checks of one session may be open at once, those that wait for people included. */
const mostOpen = 64

type Settle = (report: Report) => Promise<ReportAnswer>

export function createChecks({ guard, clock, mask, find }: CheckPorts): Checks {
  /** How many checks of a session there are. */
  const counts = new Map<string, number>()
  /** By session, then by token: a token of another session is no token. */
  const open = new Map<string, Map<string, Settle>>()
  const runs = new Map<Promise<unknown>, AbortController>()
  let isClosed = false

  async function check(session: string, request: CheckRequest, caller: AbortSignal): Promise<CheckAnswer> {
    if (isClosed) throw new Failure('unavailable', 'the gateway is stopping')
    const count = counts.get(session) ?? 0
    if (count >= mostOpen) throw new Failure('limited', `${mostOpen} checks are open: report their results first`)
    counts.set(session, count + 1)

    const offer = find(request.operation)
    const cut = new AbortController()
    const leave = (): void => cut.abort(new Failure('cancelled', 'the caller left before it had an answer'))
    if (caller.aborted) leave()
    caller.addEventListener('abort', leave, { once: true })

    const opened = Promise.withResolvers<CheckAnswer>()
    const perform: Perform<ReportAnswer> = (signal, _passed, { event, because }) => {
      // Barred before it comes to this; if it ever did, nothing would happen.
      if (offer === undefined) throw new Failure('unavailable', notThere)
      const time = request.within ?? offer.timeout
      const { token, reported } = entrust(session, offer, event, time, signal, () => run)
      opened.resolve({ decision: 'allow', token, expiresAt: new Date(clock() + time).toISOString(), because, event })
      return reported
    }
    const run = guard
      .run(actionOf(session, request, offer), perform, { most: request.wait }, cut.signal)
      .finally(() => {
        caller.removeEventListener('abort', leave)
        runs.delete(run)
        const left = (counts.get(session) ?? 1) - 1
        if (left === 0) counts.delete(session)
        else counts.set(session, left)
      })
    runs.set(run, cut)
    run.catch(() => {}) // Whoever reports a result is told; nobody else waits for it.
    return Promise.race([
      opened.promise,
      run.then((outcome) => {
        if (outcome.kind === 'refused') return refusedAs(outcome.refusal, offer === undefined)
        throw new Failure('internal', 'it was performed before it was told of')
      }),
    ])
  }

  /** Gives a token out, and takes it back: with its report, at the end of its time, or when the call is cut. */
  function entrust(
    session: string,
    offer: FunctionOffer,
    event: string,
    time: number,
    signal: AbortSignal,
    run: () => ReturnType<typeof guard.run<ReportAnswer>>,
  ): { readonly token: string; readonly reported: Promise<Performed<ReportAnswer>> } {
    const token = randomToken('chk_')
    const { promise: reported, resolve, reject } = Promise.withResolvers<Performed<ReportAnswer>>()
    const mine = open.get(session) ?? new Map<string, Settle>()
    open.set(session, mine)
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', cancelled)
      mine.delete(token)
      if (mine.size === 0 && open.get(session) === mine) open.delete(session)
    }
    const cancelled = (): void => {
      end()
      reject(Failure.from(signal.reason))
    }
    const timer = setTimeout(() => {
      end()
      reject(new Failure('unavailable', 'no result was reported'))
    }, time)
    signal.addEventListener('abort', cancelled, { once: true })
    mine.set(token, async (report) => {
      end()
      resolve(performedAs(offer, event, report))
      const outcome = await run()
      if (outcome.kind === 'done') return outcome.value
      throw new Failure('internal', 'it was refused after it was performed')
    })
    return { token, reported }
  }

  function performedAs(offer: FunctionOffer, event: string, report: Report): Performed<ReportAnswer> {
    if ('error' in report)
      return {
        value: { outcome: 'failed', error: mask(report.error), event },
        record: { error: report.error },
        bytes: Buffer.byteLength(report.error),
        failed: true,
        checks: { ran: ['size'] },
      }
    const { result } = report
    const bytes = Buffer.byteLength(JSON.stringify(result))
    const checks = { ran: ['size', ...(offer.output === undefined ? [] : ['output schema'])] }
    const wrong =
      bytes > offer.result
        ? `it has ${bytes} bytes, and may have ${offer.result}`
        : offer.output?.check(result).map(({ path, message }) => `${path || '/'}: ${message}`)[0]
    if (wrong === undefined)
      return { value: { outcome: 'done', result: mask(result), event }, record: result, bytes, checks }
    return {
      value: {
        outcome: 'refused',
        because: `the result was refused: ${wrong}. The call itself may have had its effect`,
        event,
      },
      record: { refused: wrong, result },
      bytes,
      failed: true,
      checks: bytes > offer.result ? { ran: ['size'] } : checks,
    }
  }

  function actionOf(session: string, { operation, args }: CheckRequest, offer: FunctionOffer | undefined): Action {
    const common = { session, permission: operation, args, via: 'api' } as const
    if (offer === undefined) return { ...common, ...nothingThere }
    const { effect, label } = offer
    // Arguments of what the session may not know of are not looked at.
    return { ...common, effect, label, problems: guard.visible(session, operation, effect) ? offer.check(args) : [] }
  }

  return {
    check,
    async report(session, token, report) {
      const settle = open.get(session)?.get(token)
      if (settle === undefined)
        throw new Failure(
          'conflict',
          'this check is not open: its result was reported, its time is over, it was cut, or it never was',
        )
      return settle(report)
    },
    async close() {
      isClosed = true
      const all = [...runs]
      for (const [, cut] of all) cut.abort(new Failure('cancelled', 'the gateway stopped'))
      await Promise.allSettled(all.map(([run]) => run))
    },
  }
}

/** An operation that does not exist goes the way of all others, so that its refusal is recorded and looks the same. */
export const nothingThere = {
  effect: 'destroy',
  problems: [],
  label: { trust: 'trusted', readers: 'public' },
  barred: { code: 'unavailable', because: notThere },
} as const satisfies Partial<Action>

/** @param isNothing - Whoever holds a wildcard is told the same as everybody else. */
function refusedAs({ code, because, event, approval, retryAt }: Refusal, isNothing: boolean): CheckAnswer {
  if (code === 'approval_pending' && approval !== undefined)
    return {
      decision: 'pending',
      approval: { id: approval.id, expiresAt: new Date(approval.expiresAt).toISOString() },
      because,
      event,
    }
  return {
    decision: 'deny',
    code: isNothing && code === 'unavailable' ? 'unknown' : code,
    because,
    event,
    ...(retryAt === undefined ? {} : { retryAt: new Date(retryAt).toISOString() }),
    ...(approval?.edited === undefined ? {} : { edited: approval.edited }),
  }
}
