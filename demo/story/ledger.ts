/** What became of something that was tried. */
export type Result = 'allowed' | 'refused'

export interface Tally {
  readonly act: string
  readonly tried: number
  readonly allowed: number
  /** How many of them a person was asked about first. */
  readonly asked: number
  readonly refused: number
}

/** What was tried and what was claimed, so that the end can be counted rather than told. */
export interface Ledger {
  begin(act: string): void
  tried(result: Result, asked?: boolean): void
  /** Notes a claim, and gives back whether it holds. */
  claim(text: string, holds: boolean): boolean
  tallies(): readonly Tally[]
  broken(): readonly string[]
  claims(): number
}

export function createLedger(): Ledger {
  const acts: { act: string; results: { result: Result; asked: boolean }[] }[] = []
  const claims: { text: string; holds: boolean }[] = []
  return {
    begin: (act) => void acts.push({ act, results: [] }),
    tried(result, asked = false) {
      const current = acts.at(-1)
      if (current === undefined) throw new TypeError('nothing is tried before the first act')
      current.results.push({ result, asked })
    },
    claim(text, holds) {
      claims.push({ text, holds })
      return holds
    },
    tallies: () =>
      acts.map(({ act, results }) => ({
        act,
        tried: results.length,
        allowed: results.filter(({ result }) => result === 'allowed').length,
        refused: results.filter(({ result }) => result === 'refused').length,
        asked: results.filter(({ asked }) => asked).length,
      })),
    broken: () => claims.filter(({ holds }) => !holds).map(({ text }) => text),
    claims: () => claims.length,
  }
}
