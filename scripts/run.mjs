// Runs a command of this checkout: `node scripts/run.mjs vitest run`. Installs the dependencies first if that is needed,
// and uses the Node that comes with them, so that every npm script works on a fresh clone.
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { become, prepare } from './toolchain.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const [command, ...args] = process.argv.slice(2)
if (!command) throw new TypeError('a command is expected: node scripts/run.mjs <command> [arguments]')

const problem = await prepare(root)
if (problem) {
  console.error(problem)
  process.exit(1)
}
become(command, args, root)
