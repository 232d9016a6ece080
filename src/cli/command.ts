import { parseArgs } from 'node:util'
import { didYouMean } from '../config/nearest.ts'
import { Failure } from '../core/failure.ts'
import type { Io } from './io.ts'

/** 0: done. 1: failed, or refused. 2: not understood. */
export type ExitCode = 0 | 1 | 2

/** Something that `sallyport` does: `start`, `sessions list`. */
export interface Command {
  readonly name: string
  /** One line, without a full stop. */
  readonly summary: string
  /** Empty where the command shows its own, for `--help`. */
  readonly help: string
  readonly options: Options
  readonly examples: readonly string[]
  /** Throws a UsageError where the arguments are not understood. Absent where the command reads its own. */
  readonly check?: (args: readonly string[]) => void
  run(args: readonly string[], io: Io): Promise<ExitCode>
}

export interface Option {
  readonly type: 'string' | 'boolean'
  readonly multiple?: true
  /** What stands for the value in help, such as `<file>`. */
  readonly value?: string
  readonly says: string
}

export type Options = Readonly<Record<string, Option>>

export type Values<O extends Options> = {
  readonly [K in keyof O]?: O[K]['type'] extends 'boolean'
    ? boolean
    : O[K] extends { readonly multiple: true }
      ? readonly string[]
      : string
}

export interface CommandSpec<O extends Options> {
  readonly name: string
  readonly summary: string
  /** Names of what stands without `--`: `<agent>`, `[resource]`; last, any number of them: `[table…]`. */
  readonly takes?: readonly string[]
  readonly options: O
  /** What else is to be known, in lines. */
  readonly notes?: readonly string[]
  readonly examples?: readonly string[]
  run(given: { readonly words: readonly string[]; readonly values: Values<O> }, io: Io): Promise<ExitCode>
}

/** Arguments that the command does not know, or that are missing: exit code 2. */
export class UsageError extends Error {}

export const jsonOption = { json: { type: 'boolean', says: 'Prints JSON.' } } as const satisfies Options

/** A command from what it takes: checks its arguments, and writes its help. */
export function command<const O extends Options>(spec: CommandSpec<O>): Command {
  const { name, summary, takes = [], options, examples = [] } = spec
  return {
    name,
    summary,
    options,
    examples,
    check: (args) => void parse(name, args, takes, options),
    help: helpOf(spec),
    async run(args, io) {
      const { words, values } = parse(name, args, takes, options)
      return spec.run({ words, values }, io)
    },
  }
}

function parse<O extends Options>(
  name: string,
  args: readonly string[],
  takes: readonly string[],
  options: O,
): { readonly words: readonly string[]; readonly values: Values<O> } {
  const known = Object.fromEntries(
    Object.entries(options).map(([key, { type, multiple }]) => [key, { type, ...(multiple ? { multiple } : {}) }]),
  )
  // First without being strict, so that what is unknown can be named together with what was probably meant.
  const { tokens } = parseArgs({ args: [...args], options: known, strict: false, tokens: true })
  for (const token of tokens)
    if (token.kind === 'option' && !Object.hasOwn(options, token.name)) {
      // An unknown option may be followed by a secret: only its own name is repeated.
      const near = didYouMean(token.name, Object.keys(options)).replace('`', '`--')
      throw new UsageError(`\`sallyport ${name}\` has no option \`${token.rawName.slice(0, 60)}\`${near}`)
    }
  let parsed
  try {
    parsed = parseArgs({ args: [...args], options: known, strict: true, allowPositionals: true })
  } catch (thrown) {
    throw new UsageError(thrown instanceof Error ? thrown.message.replace(/\. .*/s, '') : 'the arguments can’t be read')
  }
  const words = parsed.positionals
  const least = takes.filter((each) => each.startsWith('<')).length
  if (words.length < least) throw new UsageError(`expected ${takes.slice(words.length, least).join(' ')}`)
  if (words.length > takes.length && takes.at(-1)?.endsWith('…]') !== true)
    throw new UsageError(
      takes.length === 0
        ? `\`sallyport ${name}\` takes no words after it, only options`
        : `\`sallyport ${name}\` takes ${takes.join(' ')} and no more`,
    )
  return { words, values: parsed.values as Values<O> }
}

function helpOf({ name, summary, takes = [], options, notes = [], examples = [] }: CommandSpec<Options>): string {
  const rows = Object.entries(options).map(([key, { value, says, type }]): readonly [string, string] => [
    `--${key}${type === 'boolean' ? '' : ` ${value ?? '<value>'}`}`,
    says,
  ])
  rows.push(['--help', 'Shows this.'])
  const widest = Math.max(...rows.map(([option]) => option.length))
  const usage = ['sallyport', name, ...takes, ...(Object.keys(options).length === 0 ? [] : ['[options]'])].join(' ')
  return [
    `${summary}.`,
    '',
    `  ${usage}`,
    '',
    ...notes.flatMap((note) => [note]),
    ...(notes.length === 0 ? [] : ['']),
    'Options:',
    ...rows.map(([option, says]) => `  ${option.padEnd(widest)}  ${says}`),
    ...(examples.length === 0 ? [] : ['', 'Examples:', ...examples.map((example) => `  ${example}`)]),
  ].join('\n')
}

/** `name=value` pairs, by name. */
export function pairs(option: string, texts: readonly string[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  for (const text of texts) {
    const split = text.indexOf('=')
    if (split < 1) throw new UsageError(`\`--${option}\` takes \`name=value\``)
    const name = text.slice(0, split)
    if (found.has(name)) throw new UsageError(`\`--${option} ${name}=…\` is given twice`)
    found.set(name, text.slice(split + 1))
  }
  return found
}

/** A value of an option by a function that fails with words, as an error in how it was called. */
export function optionValue<T>(option: string, read: () => T): T {
  try {
    return read()
  } catch (thrown) {
    throw new UsageError(`\`--${option}\`: ${Failure.from(thrown).message}`)
  }
}
