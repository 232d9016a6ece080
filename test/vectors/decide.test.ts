import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { outcome, scenario } from '../scenario.ts'
import type { CaseText } from '../scenario.ts'

// Decisions as data: settings, sessions and an action on one side, the decision on the other. A case needs no code.

interface VectorFile {
  readonly title: string
  /** `sallyport.yaml`, as JSON, which YAML has in it. */
  readonly settings: object
  readonly cases: readonly (CaseText & {
    readonly title: string
    readonly expect: { readonly decision: string; readonly rules?: readonly string[]; readonly because?: string; readonly would?: string }
  })[]
}

const folder = new URL('./decide/', import.meta.url)
const files = readdirSync(folder).filter((name) => name.endsWith('.json'))

test.each(files)('%s holds cases that tell decisions apart', (name) => {
  const { cases } = JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as VectorFile
  expect(new Set(cases.map((each) => each.expect.decision)).size).toBeGreaterThan(1)
})

for (const name of files) {
  const { title, settings, cases } = JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as VectorFile
  test.each(cases.map((each) => [each.title, each] as const))(`${title}: %s`, (_title, given) => {
    const decision = scenario(JSON.stringify(settings)).decide(given)
    const { decision: expected, rules, because, would } = given.expect
    expect([outcome(decision), decision.because]).toEqual([expected, because ?? decision.because])
    if (rules !== undefined) expect(decision.rules).toEqual(rules)
    if (would !== undefined) expect(decision.kind === 'allow' && decision.would && outcome(decision.would)).toBe(would)
  })
}
