// Every benchmark, one after the other, so that none disturbs another. About fifteen minutes. `node bench/all.ts`
import { spawnSync } from 'node:child_process'
import path from 'node:path'

for (const name of ['condition', 'decide', 'sql-check', 'audit', 'tool-call', 'memory', 'sql']) {
  console.log(`\n## ${name}`)
  const { status } = spawnSync(process.execPath, [path.join(import.meta.dirname, `${name}.ts`)], { stdio: 'inherit' })
  if (status !== 0) process.exitCode = 1
}
