// `npm run build`: dist/, as it is published.
import { spawnSync } from 'node:child_process'
import { cpSync, globSync, readFileSync, rmSync, statSync } from 'node:fs'

rmSync('dist', { recursive: true, force: true })
const { status } = spawnSync('tsc -p tsconfig.build.json', { stdio: 'inherit', shell: true })
if (status !== 0) process.exit(status ?? 1)

// What is neither code nor a tool's setting is read at run time from beside the code.
const isAsset = (path: string) => statSync(path).isDirectory() || !/\.ts$|(^|[\\/])tsconfig\.json$/.test(path)
cpSync('src', 'dist', { recursive: true, filter: isAsset })

// The compiler rewrites the names in imports, but not those of worker threads.
const workers = globSync('dist/**/*.js').filter((path) =>
  /new URL\(\s*['"`][^'"`]*\.ts['"`]/.test(readFileSync(path, 'utf8')),
)
for (const path of workers) {
  console.error(`${path}: names a .ts file, which is not there: take the ending from import.meta.url`)
  process.exitCode = 1
}
