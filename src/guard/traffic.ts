/** How often something was reached, and bytes of what went out and came back. */
export interface Amounts {
  readonly requests: number
  readonly sent: number
  readonly received: number
}

/** What went to which hosts and came back. */
export interface Traffic {
  readonly total: Amounts
  /** The one that was sent most first. */
  readonly hosts: readonly (Amounts & { readonly host: string })[]
  /** Hosts beyond those that are told apart, together. */
  readonly others?: Amounts
}

export interface Tally {
  add(host: string, more: Partial<Amounts>): void
  read(): Traffic
}

/** Hosts of one tally that are told apart. */
const mostHosts = 100

/** Counts by host. What it keeps is bounded, whatever is reached. */
export function createTally(): Tally {
  const hosts = new Map<string, Amounts>()
  let total = none
  let others: Amounts | undefined
  return {
    add(host, more) {
      total = plus(total, more)
      if (hosts.has(host) || hosts.size < mostHosts) hosts.set(host, plus(hosts.get(host) ?? none, more))
      else others = plus(others ?? none, more)
    },
    read: () => ({
      total,
      hosts: [...hosts]
        .map(([host, amounts]) => ({ host, ...amounts }))
        .sort((a, b) => b.sent - a.sent || b.received - a.received || (a.host < b.host ? -1 : 1)),
      ...(others === undefined ? {} : { others }),
    }),
  }
}

export const none: Amounts = { requests: 0, sent: 0, received: 0 }

const plus = (a: Amounts, b: Partial<Amounts>): Amounts => ({
  requests: a.requests + (b.requests ?? 0),
  sent: a.sent + (b.sent ?? 0),
  received: a.received + (b.received ?? 0),
})
