// Runs a server as long as its standard input is open: however the process of the tests ends, the server ends too, and
// its folder goes. The only argument is a JSON object: `command`, `args`, `folder`, and `uid`, `gid` where there are any.
import { spawn } from 'node:child_process'
import fs from 'node:fs'

const { command, args, folder, uid, gid } = JSON.parse(process.argv[2] ?? '') as {
  command: string
  args: string[]
  folder: string
  uid?: number
  gid?: number
}

const server = spawn(command, args, {
  stdio: ['ignore', 'ignore', 'inherit'],
  cwd: folder,
  env: { LC_ALL: 'C', TZ: 'UTC', PATH: process.env['PATH'] },
  ...(uid !== undefined && { uid, gid }),
})
// At once, without a last checkpoint: nothing of it is kept.
const stop = () => server.kill('SIGQUIT')
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
process.stdin.on('end', stop).on('error', stop).resume()
server.on('error', (error) => console.error(error.message))
server.on('close', () => {
  fs.rmSync(folder, { recursive: true, force: true })
  process.exit()
})
