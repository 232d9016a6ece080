/** What became of something that an agent tried. */
export type Result = 'allowed' | 'asked' | 'refused'

export interface Tally {
  readonly act: string
  readonly tried: number
  readonly allowed: number
  readonly asked: number
  readonly refused: number
}

/** What was tried and what was claimed, so that the end can be counted rather than told. */
export interface Ledger {
  begin(act: string): void
  tried(result: Result): void
  /** Notes a claim, and gives back whether it holds. */
  claim(text: string, holds: boolean): boolean
  tallies(): readonly Tally[]
  broken(): readonly string[]
  claims(): number
}

export function createLedger(): Ledger {
  const acts: { act: string; results: Result[] }[] = []
  const claims: { text: string; holds: boolean }[] = []
  return {
    begin: (act) => void acts.push({ act, results: [] }),
    tried(result) {
      const current = acts.at(-1)
      if (current === undefined) throw new TypeError('nothing is tried before the first act')
      current.results.push(result)
    },
    claim(text, holds) {
      claims.push({ text, holds })
      return holds
    },
    tallies: () =>
      acts.map(({ act, results }) => {
        const count = (wanted: Result): number => results.filter((result) => result === wanted).length
        return {
          act,
          tried: results.length,
          allowed: count('allowed'),
          asked: count('asked'),
          refused: count('refused'),
        }
      }),
    broken: () => claims.filter(({ holds }) => !holds).map(({ text }) => text),
    claims: () => claims.length,
  }
}
