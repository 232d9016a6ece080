import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startFixture } from './fixture-server.ts'
import type { RunningFixture } from './fixture-server.ts'
import { requiredScenarios, runSuite } from './suite.ts'
import type { Revision } from './suite.ts'

const revisions: [revision: Revision, required: number][] = [
  ['2025-11-25', 30],
  ['2026-07-28', 37],
]

describe('the fixture, without a gateway in front', () => {
  let fixture: RunningFixture
  beforeAll(async () => void (fixture = await startFixture()))
  afterAll(() => fixture.close())

  for (const [revision, required] of revisions) {
    test(`passes the ${required} scenarios that ${revision} requires`, { timeout: 150_000 }, async () => {
      expect(requiredScenarios(revision)).toHaveLength(required)
      const report = await runSuite({ url: fixture.url, revision })
      expect(report.failures).toEqual([])
      expect(report.warnings).toEqual([])
      expect(report.scenarios.filter((scenario) => scenario.required)).toHaveLength(required)
    })
  }
})

test('a server that does not conform is reported by scenario and check', { timeout: 150_000 }, async () => {
  const fixture = await startFixture()
  try {
    const nothing = fixture.url.replace('/mcp', '/nothing-here')
    const { failures } = await runSuite({ url: nothing, revision: '2025-11-25' })
    expect(failures.length).toBeGreaterThanOrEqual(30)
    expect(failures.find((line) => line.startsWith('tools-list / tools-list: '))).toContain('Failed')
  } finally {
    await fixture.close()
  }
})

test('a suite that does not end in time is stopped', { timeout: 30_000 }, async () => {
  const fixture = await startFixture()
  try {
    await expect(runSuite({ url: fixture.url, revision: '2026-07-28', timeoutMs: 300 })).rejects.toThrow(
      'within 300 ms',
    )
  } finally {
    await fixture.close()
  }
})
