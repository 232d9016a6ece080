import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { checkSettings } from '../config/check.ts'
import type { Checked } from '../config/check.ts'
import { problemInWords } from '../config/load.ts'
import { printable } from '../core/printable.ts'
import type { CommandIo } from './io.ts'

const usage = 'usage: sallyport check [file] [--json]\n'

/** `sallyport check`: 0 when a start with the file would go on, 1 when it would not, 2 when there is nothing to check. */
export async function checkCommand(args: readonly string[], io: CommandIo): Promise<number> {
  const [file = 'sallyport.yaml', ...more] = args.filter((arg) => !arg.startsWith('-'))
  const flags = args.filter((arg) => arg.startsWith('-'))
  if (more.length > 0 || flags.some((flag) => flag !== '--json')) {
    io.err(usage)
    return 2
  }
  let text: string
  try {
    text = await readFile(resolve(io.cwd, file), 'utf8')
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? ` (${String(thrown.code)})` : ''
    io.err(`${printable(file)} cannot be read${code}; \`sallyport init\` writes a file to begin with\n`)
    return 2
  }
  const checked = await checkSettings(text, file)
  if (flags.includes('--json')) io.out(`${JSON.stringify(checked, null, 2)}\n`)
  else (checked.ok ? io.out : io.err)(inWords(checked))
  return checked.ok ? 0 : 1
}

function inWords({ file, ok, problems, warnings, summary }: Checked): string {
  const lines = [
    `${file} ${ok ? 'is ok' : problems.length === 1 ? 'has a problem:' : `has ${problems.length} problems:`}`,
  ]
  for (const problem of problems) lines.push(`  ${problemInWords(problem)}`)
  if (ok && summary !== undefined) {
    const { agents, resources, rules, wildcards, digest } = summary
    const counted = agents.map(
      ({ name, mode, may, lends }) =>
        `${name}${mode === 'standard' ? '' : ` (${mode})`} may ${may}${lends > 0 ? `, lends ${lends}` : ''}`,
    )
    lines.push(
      `  agents     ${counted.join('; ') || 'none'}`,
      `  resources  ${resources.join(', ') || 'none'}`,
      `  rules      ${rules}`,
      `  wildcards  ${wildcards.join(', ') || 'none'}`,
      `  digest     ${digest}`,
    )
  }
  if (warnings.length > 0) lines.push(`${warnings.length === 1 ? 'a warning' : `${warnings.length} warnings`}:`)
  for (const warning of warnings) lines.push(`  ${problemInWords(warning)}`)
  return `${lines.map((line) => printable(line)).join('\n')}\n`
}
