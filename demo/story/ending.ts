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
  const { line, paint } = narrator
  const command = (text: string): void => line(`    ${paint('cyan', text)}`)
  line()
  line(`  ${paint('bold', 'The gateway is still running.')} A session of the responder, for 30 minutes:`)
  line()
  line(`    address  ${stage.agents}/mcp`)
  line(`    token    ${token}`)
  line()
  line('  Try, in another terminal, from this folder:')
  line()
  command(`npx sallyport approvals --config ${stage.file}`)
  command(`npx sallyport audit tail --config ${stage.file}`)
  command(`npx @modelcontextprotocol/inspector --cli ${stage.agents}/mcp --transport http \\`)
  command(`  --header "Authorization: Bearer $TOKEN" --method tools/list`)
  line()
  line(`  ${paint('dim', `Its files are in ${stage.folder}. Ctrl-C ends it.`)}`)
}
