import { command, UsageError } from './command.ts'
import type { Command } from './command.ts'

/** A command that prints what makes a shell complete all the others. */
export const completion = (all: () => readonly Command[]): Command =>
  command({
    name: 'completion',
    summary: 'Prints a script that makes a shell complete commands and options',
    takes: ['<shell>'],
    options: {},
    notes: ['The shell is `bash` or `zsh`.'],
    examples: ['source <(sallyport completion bash)'],
    async run({ words: [shell = ''] }, io) {
      if (shell !== 'bash' && shell !== 'zsh') throw new UsageError('the shell is `bash` or `zsh`')
      io.out(script(all(), shell === 'zsh'))
      return 0
    },
  })

function script(all: readonly Command[], isZsh: boolean): string {
  const first = [...new Set(all.map(({ name }) => name.replace(/ .*/, '')))]
  const next = first.map((word) => {
    const below = all.filter(({ name }) => name.startsWith(`${word} `)).map(({ name }) => name.slice(word.length + 1))
    const options = optionsOf(all.find(({ name }) => name === word))
    return [word, [...below, ...options].join(' ')] as const
  })
  const deep = all
    .filter(({ name }) => name.includes(' '))
    .map((each) => [each.name, optionsOf(each).join(' ')] as const)
  return [
    ...(isZsh ? ['autoload -U +X bashcompinit && bashcompinit'] : []),
    '_sallyport() {',
    '  local word="${COMP_WORDS[COMP_CWORD]}" known',
    '  case "${COMP_WORDS[1]} ${COMP_WORDS[2]}" in',
    ...deep.map(([name, words]) => `    '${name}') known='${words}' ;;`),
    '    *) case "${COMP_WORDS[1]}" in',
    ...next.map(([name, words]) => `      '${name}') known='${words}' ;;`),
    '    esac ;;',
    '  esac',
    `  [ "$COMP_CWORD" -eq 1 ] && known='${[...first, 'help'].join(' ')}'`,
    '  [ "$COMP_CWORD" -eq 2 ] && case "${COMP_WORDS[1]}" in',
    ...next.map(([name, words]) => `    '${name}') known='${words}' ;;`),
    '  esac',
    '  COMPREPLY=($(compgen -W "$known" -- "$word"))',
    '}',
    'complete -o default -F _sallyport sallyport',
  ].join('\n')
}

const optionsOf = (one: Command | undefined): readonly string[] =>
  one === undefined ? [] : [...Object.keys(one.options), 'help'].map((name) => `--${name}`)
