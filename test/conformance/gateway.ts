import { mcpResource, startGateway } from '../support/gateway.ts'

const policy = `
resources:
  fixture: { mcp: { url: "http://127.0.0.1:1/mcp" } }
agents:
  suite:
    may: [{ do: "*:*", ask: never }]
    limits: { repeats: unlimited }
`

/**
 * A gateway whose only upstream is at `upstreamUrl`, whose policy allows all of it, and which gives out names and
 * addresses as the upstream does, because the suite calls `test_simple_text` and reads `test://static-text`.
 */
export async function startGatewayFor(
  upstreamUrl: string,
): Promise<{ url: string; headers: Record<string, string>; close: () => Promise<void> }> {
  const asks = { elicitation: true, sampling: true, roots: true }
  const { url, session, close } = await startGateway(policy, [
    mcpResource('fixture', upstreamUrl, { prefix: false, asks }),
  ])
  const { token } = await session('suite')
  return { url, headers: { authorization: `Bearer ${token}` }, close }
}
