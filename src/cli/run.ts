import { didYouMean } from '../config/nearest.ts'
import { Failure } from '../core/failure.ts'
import { UsageError } from './command.ts'
import type { Command, ExitCode } from './command.ts'
import { commands, groups } from './commands.ts'
import { paint } from './io.ts'
import type { Io } from './io.ts'
import { safe } from './text.ts'

const version = '0.1.0'

/** Runs one command line: everything after `sallyport`. Never rejects. */
export async function runLine(args: readonly string[], given: Io): Promise<ExitCode> {
  const [line, plain] = withoutColorOption(args)
  const io = plain ? { ...given, color: false } : given
  const [first = 'help', second] = line
  if (first === '--version' || first === 'version') {
    io.out(version)
    return 0
  }
  if (first === 'help' || first === '--help' || first === '-h') return help(line.slice(1), io)
  const found =
    commands.find(({ name }) => name === `${first} ${second ?? ''}`) ?? commands.find(({ name }) => name === first)
  if (found === undefined) return unknown(first, second, io)
  const rest = line.slice(found.name.split(' ').length)
  const options = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest
  if (options.includes('--help') || options.includes('-h')) return help(line.slice(0, line.length - rest.length), io)
  return run(found, rest, io)
}

async function run(command: Command, args: readonly string[], io: Io): Promise<ExitCode> {
  try {
    return await command.run(args, io)
  } catch (thrown) {
    if (thrown instanceof UsageError) {
      io.err(complaint(io, thrown.message))
      io.err(`\`sallyport ${command.name} --help\` shows how it is used`)
      return 2
    }
    const failure = Failure.from(thrown)
    io.err(complaint(io, failure.message))
    if (failure.code === 'internal')
      io.err(
        `  ${safe(failure.cause instanceof Error ? (failure.cause.stack ?? '') : String(failure.cause), { maxLength: 4_000 })}`,
      )
    return 1
  }
}

/** An error: its first line after our name, the others further in, so that none can pass for a line of ours. */
const complaint = (io: Io, message: string): string =>
  message
    .split('\n')
    .map((line, position) => (position === 0 ? `${paint(io, 'red', 'sallyport:')} ${safe(line)}` : `  ${safe(line)}`))
    .join('\n')

function unknown(first: string, second: string | undefined, io: Io): 2 {
  if (groups.has(first)) {
    const known = commands
      .filter(({ name }) => name.startsWith(`${first} `))
      .map(({ name }) => name.slice(first.length + 1))
    io.err(
      complaint(
        io,
        second === undefined || second.startsWith('-')
          ? `\`${first}\` needs one of ${known.join(', ')}`
          : `\`${first}\` has no \`${second.slice(0, 60)}\`${didYouMean(second, known)}`,
      ),
    )
    io.err(`\`sallyport help ${first}\` shows them`)
    return 2
  }
  io.err(
    complaint(
      io,
      `there is no command \`${first.slice(0, 60)}\`${didYouMean(
        first,
        commands.map(({ name }) => firstWord(name)),
      )}`,
    ),
  )
  io.err('`sallyport help` shows all')
  return 2
}

async function help(words: readonly string[], io: Io): Promise<ExitCode> {
  const wanted = words.join(' ')
  if (wanted === '') {
    io.out(overview(io))
    return 0
  }
  const exact = commands.find(({ name }) => name === wanted)
  const below = commands.filter(({ name }) => name.startsWith(`${wanted} `))
  if (exact === undefined && below.length === 0) return unknown(words[0] ?? '', words[1], io)
  if (exact?.help === '') return run(exact, ['--help'], io)
  const parts = [
    ...(exact === undefined ? [] : [exact.help]),
    ...(below.length === 0 ? [] : [[...(exact === undefined ? [] : ['Also:']), ...listed(below)].join('\n')]),
  ]
  io.out(parts.join('\n\n'))
  return 0
}

function overview(io: Io): string {
  return [
    'Sallyport stands between AI agents and everything they can touch.',
    '',
    '  sallyport <command> [options]',
    '',
    ...[...groups].flatMap(([, title], at, all) =>
      at > 0 && all[at - 1]?.[1] === title
        ? []
        : [
            paint(io, 'bold', title),
            ...listed(commands.filter(({ name }) => groups.get(firstWord(name)) === title)),
            '',
          ],
    ),
    '`sallyport help <command>` shows its options. --no-color switches colours off. Exit codes: 0 done, 1 failed or',
    'refused, 2 not understood.',
  ].join('\n')
}

const firstWord = (name: string): string => name.replace(/ .*/, '')

const listed = (some: readonly Command[]): readonly string[] =>
  some.map(({ name, summary }) => `  ${name.padEnd(18)}  ${summary}`)

/** `--no-color` may stand anywhere before `--`. */
function withoutColorOption(args: readonly string[]): readonly [args: readonly string[], plain: boolean] {
  const end = args.includes('--') ? args.indexOf('--') : args.length
  const kept = args.filter((arg, position) => arg !== '--no-color' || position > end)
  return [kept, kept.length < args.length]
}
