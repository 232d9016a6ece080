/** Epoch milliseconds that never go back. */
export type Clock = () => number

/** What the time is made from: the wall clock, and one that only runs forward. Both in milliseconds. */
export interface TimeSource {
  readonly wall: () => number
  readonly steady: () => number
}

const system: TimeSource = { wall: Date.now, steady: () => performance.now() }

/**
 * The time of day, but never slower than a steady clock: a wall clock that is set back (by hand, by NTP, by an
 * attacker) lengthens no session and no approval. Set forward, it is believed: things end early rather than late.
 */
export function createClock(source: TimeSource = system): Clock {
  let last = source.wall()
  let lastSteady = source.steady()
  return () => {
    const steady = source.steady()
    last = Math.max(source.wall(), last + Math.max(0, steady - lastSteady))
    lastSteady = steady
    return Math.floor(last)
  }
}
