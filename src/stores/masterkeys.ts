import { createHmac, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { Failure } from '../core/failure.ts'
import type { MasterKey, MasterKeys } from '../core/secret.ts'

/** The variables that master keys may be given in. The second is the one before, while `rekey` has not been run. */
export const masterKeyVariables = ['SALLYPORT_MASTER_KEY', 'SALLYPORT_MASTER_KEY_OLD'] as const

export interface MasterKeyPlaces {
  /** The file that holds the key where the environment gives none. `<file>.next` stands beside it during a change. */
  readonly file: string
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Master keys of 256 random bits, in base64: from the environment, else in a file (mode 0600) that is made when needed. */
export function masterKeys({ file, env }: MasterKeyPlaces): MasterKeys {
  const next = `${file}.next`
  const given = masterKeyVariables.flatMap((name) => {
    const text = env[name]
    return text === undefined || text === '' ? [] : [keyOf(text, `the variable ${name}`)]
  })
  const isGiven = env[masterKeyVariables[0]] !== undefined && env[masterKeyVariables[0]] !== ''
  if (!isGiven && given.length > 0)
    throw new Failure('invalid', `${masterKeyVariables[1]} is set without ${masterKeyVariables[0]}: expected both`)

  function stored(at: string): readonly MasterKey[] {
    let text: string
    try {
      if (process.platform !== 'win32' && (fs.statSync(at).mode & 0o077) !== 0)
        throw new Failure(
          'invalid',
          `the master key ${at} can be read by others: expected mode 0600. Run: chmod 600 ${at}`,
        )
      text = fs.readFileSync(at, 'utf8')
    } catch (thrown) {
      if (thrown instanceof Failure) throw thrown
      const { code = '' } = thrown as { readonly code?: string }
      if (code === 'ENOENT') return []
      throw new Failure('unavailable', `the master key ${at} can't be read (${code})`, { cause: thrown })
    }
    return [keyOf(text, at)]
  }

  return {
    place: isGiven ? `the variable ${masterKeyVariables[0]}` : file,
    read() {
      const kept = [...stored(next), ...stored(file)]
      return [...given, ...kept].filter(({ id }, at, all) => all.findIndex((each) => each.id === id) === at)
    },
    create() {
      if (!isGiven && !fs.existsSync(next)) make(file)
    },
    next() {
      if (!isGiven) make(next)
    },
    isChanging: () => !isGiven && fs.existsSync(next),
    finish() {
      if (isGiven || !fs.existsSync(next)) return
      fs.renameSync(next, file)
      flush(path.dirname(file))
    },
  }
}

function keyOf(text: string, from: string): MasterKey {
  const trimmed = text.trim()
  const bytes = Buffer.from(trimmed, 'base64')
  // Without the text itself: nearly a key is as good as a key.
  if (bytes.length !== 32 || !/^[A-Za-z0-9+/]{43}=$/.test(trimmed))
    throw new Failure(
      'invalid',
      `${from} holds no master key: expected 32 bytes in base64, as \`openssl rand -base64 32\` makes them`,
    )
  return { id: createHmac('sha256', bytes).update('sallyport master key').digest('hex').slice(0, 16), bytes, from }
}

/** A file that is whole or not there, made by one process alone: those that come later leave it as it is. */
function make(file: string): void {
  const temporary = `${file}.${process.pid}.new`
  fs.rmSync(temporary, { force: true })
  fs.writeFileSync(temporary, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600, flag: 'wx', flush: true })
  try {
    fs.linkSync(temporary, file)
  } catch (thrown) {
    if ((thrown as { readonly code?: string }).code !== 'EEXIST') throw thrown
  } finally {
    fs.rmSync(temporary, { force: true })
  }
  flush(path.dirname(file))
}

/** A name in a folder is on the disk when the folder is. */
function flush(folder: string): void {
  if (process.platform === 'win32') return
  const handle = fs.openSync(folder, 'r')
  try {
    fs.fsyncSync(handle)
  } finally {
    fs.closeSync(handle)
  }
}
