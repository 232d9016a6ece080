import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'
import { differences } from './difference.ts'
import { parseArgsObject } from './explain.ts'
import type { Io } from './io.ts'
import { errorCode } from './place.ts'
import { jsonLines, safe } from './text.ts'

/** Whoever has more to say than this has it in a file. */
const longest = 4_000_000

/**
 * Arguments as a person leaves them in their editor ($VISUAL, $EDITOR, else vi). Undefined where they are the same.
 * Fails with `invalid` where they are no JSON object, `unavailable` where the editor does not end well.
 */
export async function editArgs(args: JsonObject, { env }: Pick<Io, 'env'>): Promise<JsonObject | undefined> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'sallyport-'))
  const file = path.join(folder, 'arguments.json')
  try {
    await writeFile(file, `${jsonLines(args).join('\n')}\n`, { mode: 0o600 })
    await runEditor(env['VISUAL'] || env['EDITOR'] || (process.platform === 'win32' ? 'notepad' : 'vi'), file)
    const text = await readFile(file, 'utf8')
    if (text.length > longest) throw new Failure('too_large', 'the arguments are too long')
    const edited = read(text)
    return differences(args, edited).length === 0 ? undefined : edited
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function read(text: string): JsonObject {
  try {
    return parseArgsObject(text)
  } catch (thrown) {
    throw new Failure('invalid', `nothing was sent: ${thrown instanceof Error ? thrown.message : 'unreadable'}`)
  }
}

function runEditor(command: string, file: string): Promise<void> {
  const [program = 'vi', ...args] = command.trim().split(/\s+/)
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args, file], { stdio: 'inherit' })
    child.once('error', (error) =>
      reject(
        new Failure(
          'unavailable',
          `the editor \`${safe(program)}\` can’t be started (${errorCode(error)}): set EDITOR`,
          { cause: error },
        ),
      ),
    )
    child.once('exit', (code) =>
      code === 0
        ? resolve()
        : reject(new Failure('unavailable', `nothing was sent: \`${safe(program)}\` did not end well`)),
    )
  })
}
