/**
 * `npm run demo`: a support desk whose agents fall for what a stranger wrote, with Sallyport in between. Everything is
 * real: the gateway, the helpdesk, the MCP client. Only what a model would choose is scripted.
 */
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { processIo } from '../src/cli/io.ts'
import { Failure } from '../src/core/failure.ts'
import { attack } from './story/attack.ts'
import { audit } from './story/audit.ts'
import { handOver, sumUp } from './story/ending.ts'
import { erase } from './story/erase.ts'
import { honestWork, takeCase } from './story/honest.ts'
import { kill } from './story/kill.ts'
import { createLedger } from './story/ledger.ts'
import { createNarrator } from './story/narrator.ts'
import { refund } from './story/refund.ts'
import { setStage } from './story/stage.ts'
import type { Story } from './story/story.ts'

const help = `npm run demo -- [options]

  --yes    answers the question about the refund by itself
  --fast   no pauses, and --yes
  --once   ends when the story is over, instead of leaving the gateway running
  --policy <file>
           tells it with another policy than demo/sallyport.yaml: weaken a copy, and see what happens
  --help   shows this

Exit codes: 0 everything that should be refused was; 1 something was not; 2 not understood.
`

interface Options {
  readonly yes: boolean
  readonly fast: boolean
  readonly once: boolean
  readonly policy?: string
}

/** Tells the story. Gives back the exit code. */
async function tell({ yes, fast, once, policy }: Options, signal: AbortSignal): Promise<number> {
  const terminal = processIo()
  const io = { ...terminal, color: terminal.color || isForced(process.env['FORCE_COLOR']) }
  const narrator = createNarrator(io, { speed: fast ? 0 : 0.85, signal })
  narrator.title('Sallyport: a support desk, two agents, and a ticket that gives orders')
  narrator.line()
  await narrator.say(
    'The gateway, the helpdesk, its PostgreSQL and the MCP client are real; only what a model would choose is ' +
      'scripted. Each ✓ is checked as it is printed. Nothing leaves this machine.',
  )

  const stage = await setStage(policy ?? fileURLToPath(new URL('sallyport.yaml', import.meta.url)), () =>
    narrator.line('  The first time, an empty database is made, which takes some seconds …'),
  )
  let isOver = false
  try {
    const asksPerson = !yes && !fast && io.isTty
    const story: Story = { stage, narrator, io, ledger: createLedger(), asksPerson, signal, heard: [] }
    const closed = await honestWork(story)
    const taken = await takeCase(story, 42)
    await attack(story, taken, closed)
    await erase(story, taken)
    await refund(story, taken)
    await kill(story, taken)
    await audit(story, taken)
    const holds = sumUp(story)
    isOver = true
    if (holds && !once) {
      await handOver(story)
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
    }
    return holds ? 0 : 1
  } catch (thrown) {
    if (signal.aborted) return isOver ? 0 : 130
    for (const line of new Set(stage.log.slice(-20))) io.err(`gateway: ${line}`)
    throw thrown
  } finally {
    await stage.close()
    if (once) fs.rmSync(stage.folder, { recursive: true, force: true })
    else io.out(`\n  Ended. The files of this run are in ${stage.folder}\n`)
  }
}

const isForced = (value: string | undefined): boolean => value !== undefined && value !== '0' && value !== ''

function readOptions(): Options | 'help' | undefined {
  try {
    const { values } = parseArgs({
      options: {
        yes: { type: 'boolean', default: false },
        fast: { type: 'boolean', default: false },
        once: { type: 'boolean', default: false },
        policy: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    return values.help ? 'help' : values
  } catch {
    return undefined
  }
}

async function main(): Promise<number> {
  const options = readOptions()
  if (options === 'help') {
    process.stdout.write(help)
    return 0
  }
  if (options === undefined) {
    process.stderr.write(help)
    return 2
  }
  const stop = new AbortController()
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130)
    stop.abort()
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal)
  try {
    return await tell(options, stop.signal)
  } catch (thrown) {
    process.stderr.write(`\nThe demo could not go on: ${Failure.from(thrown).message}\n`)
    if (thrown instanceof Error && !(thrown instanceof Failure)) process.stderr.write(`${thrown.stack ?? ''}\n`)
    return 1
  }
}

process.exitCode = await main()
