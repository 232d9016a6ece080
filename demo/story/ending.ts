import fs from 'node:fs'
import path from 'node:path'
import type { Story } from './story.ts'

/** What was tried and what became of it, counted. Gives back whether everything was as it should be. */
export function sumUp({ narrator, ledger }: Story): boolean {
  const tallies = ledger.tallies().filter(({ tried }) => tried > 0)
  narrator.line()
  narrator.table([
    ['', 'tried', 'allowed', 'refused', 'a person was asked'],
    ...tallies.map(({ act, tried, allowed, refused, asked }) => [act, ...[tried, allowed, refused, asked].map(String)]),
  ])
  narrator.line()
  const broken = ledger.broken()
  narrator.line(
    broken.length === 0
      ? `  ${narrator.paint(['bold', 'green'], `All ${ledger.claims()} claims were checked, and hold.`)}`
      : `  ${narrator.paint(['bold', 'red'], `${broken.length} of ${ledger.claims()} claims do not hold:`)}`,
  )
  for (const text of broken) narrator.line(`    ${text}`)
  return broken.length === 0
}

/** Leaves the gateway to whoever watched: an address, a token, and what to try. */
export async function handOver({ stage, narrator }: Story): Promise<void> {
  const { token } = await stage.startCase(42)
  const script = path.join(stage.folder, 'refund.sh')
  fs.writeFileSync(script, callByHand(`${stage.agents}/mcp`))
  const { line, paint } = narrator
  const shown = (text: string): void => line(`    ${paint('cyan', text)}`)
  line()
  line(`  ${paint('bold', 'The gateway is still running.')} Agents reach it at ${stage.agents}/mcp`)
  line('  Three things to try, each in a terminal in this folder:')
  line()
  line('  Be the agent, with the token of a new session, and ask for a refund:')
  shown(`export TOKEN=${token}`)
  shown(`sh ${script}`)
  line('  Be Ben of billing, and answer:')
  shown(`npx sallyport approvals --config ${stage.file} \\`)
  shown(`    --key-file ${stage.folder}/ben.key`)
  line('  Watch what is written down:')
  shown(`npx sallyport audit tail -f --dir ${stage.state}/audit`)
  line()
  line(`  ${paint('dim', `Everything is in ${stage.folder}. Ctrl-C ends it.`)}`)
}

/** A call of a tool as it looks on the wire: an agent is anything that can send this. */
function callByHand(url: string): string {
  const [version, tool] = ['2026-07-28', 'helpdesk__refund']
  const body = {
    jsonrpc: '2.0',
    id: 1,
    method: 'tools/call',
    params: {
      name: tool,
      arguments: { order_id: 9003, customer_id: 42, amount: 12 },
      _meta: {
        'io.modelcontextprotocol/protocolVersion': version,
        'io.modelcontextprotocol/clientCapabilities': {},
      },
    },
  }
  const headers = [
    'Content-Type: application/json',
    'Accept: application/json, text/event-stream',
    `MCP-Protocol-Version: ${version}`,
    `Mcp-Method: ${body.method}`,
    `Mcp-Name: ${tool}`,
  ]
  return [
    '#!/bin/sh',
    '# Asks for a refund as an agent would. The token stands in $TOKEN. It waits for an answer as long as it may.',
    `curl -sS ${url} \\`,
    '  -H "Authorization: Bearer $TOKEN" \\',
    ...headers.map((header) => `  -H '${header}' \\`),
    `  -d '${JSON.stringify(body, null, 2)}'`,
    'echo',
    '',
  ].join('\n')
}
