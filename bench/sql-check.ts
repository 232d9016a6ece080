/** What parsing and checking statements costs: `node bench/sql-check.ts`. */
import { loadModule, parseSync } from 'libpg-query'
import { checkStatements } from '../src/postgres/check.ts'
import { openChecker } from '../src/postgres/parse.ts'
import { helpdesk, ordinary } from '../test/attacks/sql-statements.ts'

const rounds = 100
const texts = ordinary.map(([text]) => text).filter((text) => text.length < 1000)

await loadModule()
const checker = openChecker()
const once = (text: string) => checker.check(text, helpdesk)
const trees = texts.map((text) => [text, parseSync(text)] as const)
for (const text of texts) await once(text)

console.log('   p50 us    p99 us  statements/s  what')
await measure('parsed, in this thread', texts, (text) => parseSync(text))
await measure('checked, in this thread', trees, ([text, tree]) => checkStatements(tree, text, helpdesk))
let fresh = 0
// A comment makes a text that nobody has seen, and little to lex.
await measure('new to the checker, one after another', texts, (text) => once(`${text} -- ${fresh++}`))
await measure('known to the checker', texts, (text) => checker.known(text, helpdesk))
const start = performance.now()
const together = texts.flatMap((text) => Array.from({ length: 10 }, () => `${text} -- ${fresh++}`))
await Promise.all(together.map((text, at) => checker.check(text, helpdesk, { caller: String(at) })))
console.log(
  `${''.padStart(20)}${((together.length / (performance.now() - start)) * 1000).toFixed(0).padStart(13)}  new to the checker, all at once`,
)
console.log(`${(process.memoryUsage().rss / 1e6).toFixed(0)} MB in all`)
await checker.close()

async function measure<T>(name: string, items: readonly T[], run: (item: T) => unknown): Promise<void> {
  const times: number[] = []
  for (let round = 0; round < rounds; round++)
    for (const item of items) {
      const start = performance.now()
      const result = run(item)
      if (result instanceof Promise) await result
      times.push((performance.now() - start) * 1000)
    }
  times.sort((a, b) => a - b)
  const at = (share: number) => (times[Math.floor(times.length * share)] ?? 0).toFixed(1).padStart(9)
  const sum = times.reduce((all, each) => all + each, 0)
  console.log(`${at(0.5)} ${at(0.99)} ${((times.length / sum) * 1e6).toFixed(0).padStart(13)}  ${name}`)
}
