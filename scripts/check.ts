// `npm run check`: everything that is true of this code besides its tests. Says a line per check, and more only for those
// that fail.
import { spawn } from 'node:child_process'
import { cpus } from 'node:os'

const checks: readonly [name: string, command: string][] = [
  ['types', 'tsc -p .'],
  ['types of core', 'tsc -p src/core'],
  ['lint', 'oxlint --format unix'],
  ['format', 'oxfmt --check'],
  ['imports', 'depcruise "{src,test,demo,bench,scripts}/**/*.{ts,mjs}" --output-type err-long'],
  ['unused code', 'knip'],
  ['dependencies', 'node scripts/dependencies.ts'],
]

const waiting = [...checks]
const failed: string[] = []

async function work(): Promise<void> {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const [name, command] = next
    const start = performance.now()
    const { ok, output } = await run(command)
    if (!ok) failed.push(name)
    const seconds = ((performance.now() - start) / 1000).toFixed(1)
    console.log(
      ok ? `ok      ${name} (${seconds} s)` : `FAILED  ${name}: ${command}\n${output.replace(/^/gm, '        ')}`,
    )
  }
}

async function run(command: string): Promise<{ ok: boolean; output: string }> {
  const { promise, resolve } = Promise.withResolvers<{ ok: boolean; output: string }>()
  // A shell, because on Windows the tools are .cmd files.
  const child = spawn(command, { shell: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.on('error', (error) => resolve({ ok: false, output: error.message }))
  child.on('close', (code) => resolve({ ok: code === 0, output: output.trim() }))
  return promise
}

await Promise.all(Array.from({ length: Math.min(2, cpus().length) }, work))
if (failed.length > 0) {
  console.error(`\n${failed.length} of ${checks.length} checks failed: ${failed.join(', ')}`)
  process.exitCode = 1
}
