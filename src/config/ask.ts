import type { Ask, Need } from '../core/approval.ts'
import type { Settings } from './schema.ts'

export interface AskSettings {
  readonly people?: string | undefined
  readonly count?: number | undefined
  readonly within?: number | undefined
  readonly self?: boolean | undefined
}

/** The question that stands where no rule says another. */
export const defaultAsk = (approvals: Settings['approvals']): Ask => askOf({}, approvals)

/** A question as it was written, with what it leaves out taken from the default; other people come with a count of their own. */
export const askOf = (given: AskSettings, approvals: Settings['approvals']): Ask => ({
  needs: [needOf(given, approvals)],
  within: given.within ?? approvals.within,
  self: given.self ?? approvals.self,
})

export function needOf(given: AskSettings, approvals: Settings['approvals']): Need {
  const people = given.people ?? approvals.people
  const count = given.count ?? (given.people === undefined ? approvals.count : 1)
  return people === undefined ? { count } : { people, count }
}
