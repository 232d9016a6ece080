import type { Approval } from '../../core/approval.ts'
import { needInWords } from '../../core/approval.ts'
import type { Clock } from '../../guard/clock.ts'
import type { Hold } from '../../guard/guard.ts'
import type { Reply, Telling } from './reply.ts'

export interface HoldTimes {
  /** Milliseconds that a call waits for people where the client asked to be told of progress. */
  readonly withProgress: number
  /** Where it did not: shorter than the 60 s after which such clients give up. */
  readonly without: number
}

export const defaultHoldTimes: HoldTimes = { withProgress: 240_000, without: 45_000 }

const betweenSteps = 10_000

/** How this client waits for people: it is told at once and then at least every 10 s, where it asked to be. */
export function holdFor(reply: () => Reply, telling: Telling, times: HoldTimes, clock: Clock): Hold {
  const { progressToken, canStream } = reply()
  const isTold = progressToken !== undefined && canStream
  return {
    most: isTold ? times.withProgress : times.without,
    waiting(approval) {
      if (!isTold) return () => {}
      const step = (): void => telling.step(waitingFor(approval, clock()))
      step()
      const timer = setInterval(step, betweenSteps)
      return () => clearInterval(timer)
    },
  }
}

export const waitingFor = ({ ask, expiresAt, id }: Approval, now: number): string =>
  `waiting for approval by ${ask.needs.map(needInWords).join(' and ')} (${id}, ${minutes(expiresAt - now)} left)`

const minutes = (milliseconds: number): string =>
  milliseconds < 90_000
    ? `${Math.max(0, Math.round(milliseconds / 1000))} s`
    : `${Math.round(milliseconds / 60_000)} min`
