/** The conformance suite through the gateway, in front of the fixture. */
import { afterEach, describe, expect, test } from 'vitest'
import { startBearerProxy } from './bearer-proxy.ts'
import { startFixture } from './fixture-server.ts'
import { requiredScenarios, runSuite } from './suite.ts'
import type { Revision } from './suite.ts'
import { startGatewayFor } from './gateway.ts'

const revisions: [revision: Revision, required: number][] = [
  ['2025-11-25', 30],
  ['2026-07-28', 37],
]

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

describe('the conformance suite through the gateway', () => {
  for (const [revision, required] of revisions) {
    test(`passes the ${required} scenarios that ${revision} requires`, { timeout: 240_000 }, async () => {
      const fixture = await startFixture()
      closing.push(fixture.close)
      const gateway = await startGatewayFor(fixture.url)
      closing.push(gateway.close)
      const proxy = await startBearerProxy(gateway.url, gateway.headers)
      closing.push(proxy.close)

      expect((await fetch(gateway.url, { method: 'POST' })).status, 'a request without a token').toBe(401)
      expect(requiredScenarios(revision)).toHaveLength(required)
      const report = await runSuite({ url: proxy.url, revision, timeoutMs: 200_000 })
      expect(report.failures).toEqual([])
      expect(report.warnings).toEqual([])
      expect(report.scenarios.filter((scenario) => scenario.required)).toHaveLength(required)
      for (const value of Object.values(gateway.headers))
        expect([...fixture.authorizations], "the agent's token reached the upstream").not.toContain(value)
    })
  }
})
