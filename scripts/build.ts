// `npm run build`: dist/, as it is published.
import { spawnSync } from 'node:child_process'
import { cpSync, rmSync, statSync } from 'node:fs'

rmSync('dist', { recursive: true, force: true })
const { status } = spawnSync('tsc -p tsconfig.build.json', { stdio: 'inherit', shell: true })
if (status !== 0) process.exit(status ?? 1)

// What is neither code nor a tool's setting is read at run time from beside the code.
const isAsset = (path: string) => statSync(path).isDirectory() || !/\.ts$|(^|[\\/])tsconfig\.json$/.test(path)
cpSync('src', 'dist', { recursive: true, filter: isAsset })
