import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { commands, groups } from '../../src/cli/commands.ts'
import { runLine } from '../../src/cli/run.ts'
import type { Io } from '../../src/cli/io.ts'
import { Readable } from 'node:stream'

const document = readFileSync(path.join(import.meta.dirname, '../../docs/commands.md'), 'utf8')
const sections = new Map(
  document
    .split(/^### sallyport /m)
    .slice(1)
    .map((section) => [section.slice(0, section.indexOf('\n')), section.replace(/^## [\s\S]*/m, '')]),
)

/** The words of a line as a shell reads them; comments, assignments before it and what surrounds `$(…)` are left out. */
function wordsOf(line: string): string[] {
  const inner = /\$?<?\((sallyport [^)]*)\)/.exec(line)?.[1] ?? line
  const words = [...inner.replace(/ \| .*/, '').matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(
    ([, single, double, plain]) => single ?? double ?? plain ?? '',
  )
  return words.slice(words.indexOf('sallyport') + 1)
}

const find = (words: readonly string[]) =>
  commands.find(({ name }) => name === words.slice(0, 2).join(' ')) ?? commands.find(({ name }) => name === words[0])

describe('docs/commands.md', () => {
  test('has a section for every command, and for no other', () => {
    expect([...sections.keys()].sort()).toEqual(commands.map(({ name }) => name).sort())
  })

  test.each(commands.map((each) => [each.name, each] as const))('names every option of `%s`', (name, { options }) => {
    const isClient = 'key-file' in options
    for (const option of Object.keys(options)) expect(sections.get(name)).toContain(`--${option}`)
    if (isClient) expect(sections.get(name)).toContain('Also `--config`, `--home`, `--key-file` and `--url`')
    const named = [...(sections.get(name) ?? '').matchAll(/^\| `--([a-z-]+)/gm)].map(([, option]) => option)
    for (const option of named) expect(Object.keys(options)).toContain(option)
  })

  const examples = [...document.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap(([, block = '']) =>
    block.trim().split('\n'),
  )
  test.each(examples)('example: %s', (line) => {
    const words = wordsOf(line)
    const command = find(words)
    expect(command).toBeDefined()
    expect(() => command?.check?.(words.slice(command.name.split(' ').length))).not.toThrow()
  })
})

const quiet = (printed: string[]): Io => ({
  out: (text) => printed.push(text),
  err: (text) => printed.push(text),
  isTty: false,
  color: false,
  columns: 80,
  env: {},
  cwd: '/',
  stdin: Readable.from([]),
})

describe('help', () => {
  test.each(commands.map(({ name }) => name))(
    '`%s --help` says what it does and takes, whatever else is given',
    async (name) => {
      const printed: string[] = []
      const command = commands.find((each) => each.name === name)
      expect(await runLine([...name.split(' '), '--help'], quiet(printed))).toBe(0)
      if (command?.help === '') expect(printed.join('\n')).toContain(`sallyport ${name}`)
      else for (const option of Object.keys(command?.options ?? {})) expect(printed.join('\n')).toContain(`--${option}`)
    },
  )

  test('lists every command, in lines that fit', async () => {
    const printed: string[] = []
    expect(await runLine([], quiet(printed))).toBe(0)
    for (const { name } of commands) expect(printed.join('\n')).toMatch(new RegExp(`^  ${name}  `, 'm'))
    for (const line of printed.join('\n').split('\n')) expect(line.length).toBeLessThanOrEqual(120)
    for (const { name } of commands) expect(groups.has(name.replace(/ .*/, ''))).toBe(true)
  })

  test('the examples of help are understood', () => {
    for (const { name, examples, check } of commands)
      for (const example of examples) {
        const words = wordsOf(example)
        expect(find(words)?.name).toBe(name)
        check?.(words.slice(name.split(' ').length))
      }
  })
})
