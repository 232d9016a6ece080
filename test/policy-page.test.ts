import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { checkSettings } from '../src/config/check.ts'
import { problemInWords } from '../src/config/load.ts'
import type { FactValue } from '../src/core/condition.ts'
import type { JsonObject } from '../src/core/json.ts'
import type { Label } from '../src/core/label.ts'
import { outcome, scenario } from './scenario.ts'
import type { CaseText, SessionText } from './scenario.ts'

// Runs the examples of docs/policy.md: each block of settings, and each line of decisions beneath it.

const page = readFileSync(new URL('../docs/policy.md', import.meta.url), 'utf8')
const blocks = [...page.matchAll(/```yaml\n([^]*?)```\n\n```decisions\n([^]*?)```/g)]

const form =
  /^(?<sessions>\S.*?) +(?<permission>[\w.-]+:[\w.-]+)(?: +(?<args>\{.*?\}))?(?: +\[(?<labels>[a-z ]+)\])? +(?<decision>[a-z_]+)(?: +# (?<because>.*))?$/

function readLine(line: string): { readonly given: CaseText; readonly decision: string } {
  const parts = form.exec(line)?.groups
  if (parts === undefined) throw new TypeError(`not a line of decisions: ${line}`)
  const { sessions = '', permission = '', args, labels = '', decision = '' } = parts
  const label: Label = {
    trust: labels.includes('untrusted') ? 'untrusted' : 'trusted',
    readers: labels.includes('private') ? 'private' : 'public',
  }
  return {
    decision,
    given: {
      sessions: sessions.split(' > ').map(readSession),
      action: { permission, ...(args === undefined ? {} : { args: JSON.parse(args) as JsonObject }) },
      label,
    },
  }
}

function readSession(text: string): SessionText {
  const [, agent = '', fact, value] = /^([\w-]+)(?:\((\w+)=(\w+)\))?$/.exec(text.trim()) ?? []
  return { agent, ...(fact === undefined ? {} : { facts: { [fact]: Number(value) as FactValue } }) }
}

test('every example of settings has decisions beneath it', () => {
  expect(blocks.length).toBeGreaterThan(4)
  expect(blocks).toHaveLength([...page.matchAll(/```yaml/g)].length)
})

for (const [number, [, settings = '', decisions = '']] of blocks.entries()) {
  test(`example ${number + 1} is ok`, async () => {
    expect((await checkSettings(settings, 'docs/policy.md')).problems.map(problemInWords)).toEqual([])
  })

  test.each(decisions.trim().split('\n'))(`example ${number + 1}: %s`, (line) => {
    const { given, decision } = readLine(line)
    expect(outcome(scenario(settings).decide(given))).toBe(decision)
  })
}
