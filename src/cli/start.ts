import path from 'node:path'
import { loadSettings } from '../config/load.ts'
import { readFileSync } from 'node:fs'
import type { Reloaded, Status } from '../control/wire.ts'
import { Failure } from '../core/failure.ts'
import { command } from './command.ts'
import type { ExitCode } from './command.ts'
import { paint } from './io.ts'
import type { Io } from './io.ts'
import { errorCode, fileName, findFile } from './place.ts'
import { safe } from './text.ts'

interface Running {
  status(): Status
  reload(by: string): Promise<Reloaded>
  close(): Promise<void>
}

export const startCommand = command({
  name: 'start',
  summary: 'Starts the gateway, and stays until it is stopped',
  takes: ['[file]'],
  options: {
    config: { type: 'string', value: '<file>', says: `${fileName}; default: beside the current folder or above it.` },
  },
  notes: [
    'SIGHUP reads the file again (so does `sallyport reload`). SIGINT and SIGTERM let calls in flight end and stop;',
    'a second one stops at once.',
  ],
  examples: ['sallyport start', 'sallyport start --config /etc/sallyport/sallyport.yaml'],
  async run({ words, values }, io): Promise<ExitCode> {
    // A report of a crash is sent to others; the environment may hold secrets.
    process.report.excludeEnv = true
    const file = findFile(words[0] ?? values.config, io.cwd)
    if (file === undefined)
      throw new Failure(
        'not_found',
        `no ${fileName} in ${safe(io.cwd)} or above: \`sallyport init\` writes one to begin with`,
      )
    const state = stateOf(file)
    // Loaded here: every other command starts without the parts of the gateway.
    const { start } = await import('../main.ts')
    const running: Running = await start({ file, env: process.env, log: (line) => io.err(line) })
    announce(running.status(), state, io)
    return untilStopped(running, io)
  },
})

function stateOf(file: string): string {
  try {
    return loadSettings(readFileSync(file, 'utf8'), { file }).settings.state
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown
    throw new Failure('not_found', `${safe(file)} can’t be read (${errorCode(thrown)})`, { cause: thrown })
  }
}

function announce({ agents, people, proxy, sql, policy, audit }: Status, state: string, io: Io): void {
  const dim = (text: string): string => paint(io, 'dim', text)
  io.out(
    [
      paint(io, 'bold', 'Sallyport is up.'),
      `  agents    ${paint(io, 'cyan', `${agents.url.replace(/\/$/, '')}/mcp`)}  ${dim('MCP; each with a token or key of its own')}`,
      ...(proxy === undefined
        ? []
        : [
            `  proxy     ${paint(io, 'cyan', proxy.url)}  ${dim('HTTPS_PROXY of agents; they trust what `sallyport ca` shows')}`,
          ]),
      ...(sql === undefined
        ? []
        : [
            `  sql       ${paint(io, 'cyan', sql.url)}  ${dim('user: the agent, database: the resource, password: a token')}`,
          ]),
      `  people    ${paint(io, 'cyan', people.url)}`,
      `  policy    ${safe(policy.file)}  ${dim(policy.digest.slice(0, 12))}`,
      `  audit     ${audit.state === 'ok' ? 'ok' : paint(io, 'red', `${audit.state}: ${safe(audit.reason ?? '')}`)}, ${audit.size} events`,
      `  admin key ${safe(path.join(state, 'admin.key'))}`,
      ...policy.warnings.map((warning) => `  ${paint(io, 'yellow', 'warning')}   ${safe(warning)}`),
      '',
      'Next, in another terminal:',
      `  sallyport sessions start <agent>  ${dim('a token for one run of an agent')}`,
      `  sallyport approvals               ${dim('questions that wait for people')}`,
      `  sallyport status                  ${dim('what is connected, pending, stopped')}`,
    ].join('\n'),
  )
}

/** Resolves when a signal has stopped the gateway. */
function untilStopped(running: Running, io: Io): Promise<ExitCode> {
  return new Promise((resolve) => {
    let stopping = false
    const onReload = (): void => {
      running.reload('signal').then(
        ({ changed, digest }) =>
          io.out(changed ? `reloaded: policy ${digest.slice(0, 12)} from now on` : 'reloaded: nothing changed'),
        (thrown: unknown) => {
          const lines = Failure.from(thrown)
            .message.split('\n')
            .map((line) => safe(line))
          io.err(['not reloaded, the policy of before stays:', ...lines].join('\n  '))
        },
      )
    }
    const onStop = (): void => {
      if (stopping) {
        io.err('stopped at once; calls in flight were cut')
        process.exit(1)
      }
      stopping = true
      io.err('stopping: calls in flight may end; once more stops at once')
      running
        .close()
        .then(
          () => 0 as const,
          (thrown: unknown) => {
            io.err(`sallyport: ${safe(Failure.from(thrown).message)}`)
            return 1 as const
          },
        )
        .then((code) => {
          for (const [signal, listener] of listeners) process.off(signal, listener)
          resolve(code)
        })
        .catch(() => process.exit(1))
    }
    const listeners: readonly (readonly [NodeJS.Signals, () => void])[] = [
      ['SIGHUP', onReload],
      ['SIGINT', onStop],
      ['SIGTERM', onStop],
    ]
    for (const [signal, listener] of listeners) process.on(signal, listener)
  })
}
