/** How many bytes of requests may be on their way at once. Those of a request count until it was answered. */
export interface Room {
  /** Takes some for one of those who share; false where there is no more. */
  take(sharer: string, bytes: number): boolean
  give(sharer: string, bytes: number): void
}

export interface RoomSettings {
  readonly each: number
  readonly all: number
}

/** A body is held, read and looked at: without a bound, a few that come at once would take all memory, and the time of others. */
const defaultRoom: RoomSettings = { each: 16 * 1024 * 1024, all: 256 * 1024 * 1024 }

export function createRoom({ each, all }: RoomSettings = defaultRoom): Room {
  const taken = new Map<string, number>()
  let whole = 0

  return {
    take(sharer, bytes) {
      const own = (taken.get(sharer) ?? 0) + bytes
      if (own > each || whole + bytes > all) return false
      taken.set(sharer, own)
      whole += bytes
      return true
    },
    give(sharer, bytes) {
      const left = (taken.get(sharer) ?? 0) - bytes
      if (left <= 0) taken.delete(sharer)
      else taken.set(sharer, left)
      whole -= bytes
    },
  }
}
