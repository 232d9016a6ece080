import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { firstSettings } from '../config/first.ts'
import { printable } from '../core/printable.ts'
import type { CommandIo } from './io.ts'

/** `sallyport init`: writes a file to begin with. 0 when it did, 1 when there is one already, 2 when it could not. */
export async function initCommand(args: readonly string[], io: CommandIo): Promise<number> {
  const [folder = '.', ...more] = args
  if (more.length > 0 || folder.startsWith('-')) {
    io.err('usage: sallyport init [folder]\n')
    return 2
  }
  const shown = printable(join(folder, 'sallyport.yaml'))
  try {
    await mkdir(resolve(io.cwd, folder), { recursive: true })
    // `wx` creates or fails: a file that is there is never touched, however it came there.
    await writeFile(resolve(io.cwd, folder, 'sallyport.yaml'), firstSettings, { flag: 'wx' })
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : ''
    const exists = code === 'EEXIST'
    io.err(exists ? `${shown} is there already; nothing was changed\n` : `${shown} cannot be written (${code})\n`)
    return exists ? 1 : 2
  }
  io.out(`${shown} is written. Next:
  1. put your MCP server and its tools in it
  2. sallyport check ${shown}
  3. sallyport start ${shown}
`)
  return 0
}
