// A Python with exactly the packages that a test names, made once and kept.
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { sha256 } from '../../src/guard/digest.ts'

const run = promisify(execFile)
const cache = fileURLToPath(new URL('../../node_modules/.cache/sallyport/', import.meta.url))
/** Longest that making one may take, in milliseconds. Tests that ask for one need as much time. */
export const mostToMake = 240_000

export type Python = { readonly python: string } | { readonly missing: string }

const asked = new Map<string, Promise<Python>>()

/**
 * The program of a Python that has these packages (`name==version`, those among them that others need), as a virtual
 * environment in a folder that all runs share. Any number may ask at once: it is there whole, or not at all. Where it
 * can't be had (no Python, no `venv`, no index), says what is missing, and why.
 */
export function pythonWith(requirements: readonly string[]): Promise<Python> {
  for (const each of requirements)
    if (!/^[\w.-]+(?:\[[\w,-]+\])?==[\w.]+$/.test(each)) throw new TypeError(`\`${each}\`: expected name==version`)
  const list = requirements.toSorted().join(' ')
  const found = asked.get(list) ?? made(list)
  asked.set(list, found)
  return found
}

async function made(list: string): Promise<Python> {
  const end = Date.now() + mostToMake
  const go = (program: string, ...args: string[]) =>
    run(program, args, { timeout: Math.max(1, end - Date.now()), killSignal: 'SIGKILL' })
  let step = '`python3` can’t be run'
  let building: string | undefined
  try {
    // An environment is of one interpreter: another one makes another.
    const { stdout: interpreter } = await go('python3', '-c', 'import sys; print(sys.executable, sys.version)')
    const folder = path.join(cache, `python-${sha256(`${list}\n${interpreter}`).slice(0, 16)}`)
    const python = path.join(folder, 'bin', 'python')
    if (fs.existsSync(python)) return { python }

    step = 'a virtual environment can’t be made'
    fs.mkdirSync(cache, { recursive: true })
    building = fs.mkdtempSync(path.join(cache, 'building-python-'))
    await go('python3', '-m', 'venv', building)
    step = 'its packages can’t be installed'
    const pip = ['-m', 'pip', 'install', '--quiet', '--no-input', '--retries', '1', '--only-binary', ':all:']
    if (list !== '') await go(path.join(building, 'bin', 'python'), ...pip, ...list.split(' '))
    try {
      fs.renameSync(building, folder)
    } catch (thrown) {
      // Another one was quicker.
      if (!fs.existsSync(python)) throw thrown
    }
    return { python }
  } catch (thrown) {
    return { missing: `Python with ${list === '' ? 'nothing added' : list}: ${step}: ${reason(thrown)}` }
  } finally {
    if (building !== undefined) fs.rmSync(building, { recursive: true, force: true })
  }
}

/** The last line of what a program said, or that it took too long. */
function reason(thrown: unknown): string {
  const { killed, stderr = '', message } = thrown as Error & { killed?: boolean; stderr?: string }
  if (killed === true) return `it took more than ${mostToMake / 1_000} s`
  return (stderr.trim() || message).split('\n').at(-1) ?? ''
}
