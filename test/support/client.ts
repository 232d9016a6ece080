// Programs of agents, and all that they can see: what they were told, their environment, their files, their memory.
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'

/** What a program is told to ask. */
export interface Ask {
  readonly method: string
  /** Below its base address. */
  readonly at: string
  readonly json?: string
  /** Text of a file, sent as a form of several parts. */
  readonly file?: string
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  /** As text; of what is more than 1 MB its SHA-256. */
  readonly body: string
}

export interface Program {
  readonly pid: number
  /** What it said, on both outputs, once it has ended. */
  readonly ended: Promise<{ readonly code: number | null; readonly out: string; readonly err: string }>
}

/** Starts a program with this environment and nothing else of ours. Ended after `most` milliseconds at the latest. */
export function startProgram(
  command: string,
  args: readonly string[],
  { env, cwd, most = 50_000 }: { readonly env: NodeJS.ProcessEnv; readonly cwd: string; readonly most?: number },
): Program {
  const child = spawn(command, args, {
    env,
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: most,
    killSignal: 'SIGKILL',
  })
  let [out, err] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  const ended = new Promise<Awaited<Program['ended']>>((resolve, reject) => {
    child.once('error', reject).once('close', (code) => resolve({ code, out, err }))
  })
  return { pid: child.pid ?? 0, ended }
}

/** Whether the memory of other processes can be read here. */
export const memoryIsReadable = fs.existsSync('/proc/self/mem')

/** Which of these texts a process, or one that it started, has in its memory, its arguments or its environment. */
export function foundIn(pid: number, texts: readonly string[]): ReadonlySet<string> {
  const forms = texts.flatMap((text) => [
    { text, bytes: Buffer.from(text) },
    { text, bytes: Buffer.from(text, 'utf16le') },
  ])
  const longest = Math.max(...forms.map(({ bytes }) => bytes.length))
  const found = new Set<string>()
  const look = (bytes: Buffer): void => {
    for (const form of forms) if (!found.has(form.text) && bytes.includes(form.bytes)) found.add(form.text)
  }
  for (const each of withChildren(pid)) {
    for (const file of ['environ', 'cmdline']) for (const bytes of readAll(`/proc/${each}/${file}`)) look(bytes)
    for (const bytes of memoryOf(each, longest)) look(bytes)
  }
  return found
}

/** A process and those that it started, and those that they did. */
function withChildren(pid: number): readonly number[] {
  const parents = fs.readdirSync('/proc').flatMap((name): [number, number][] => {
    if (!/^\d+$/.test(name)) return []
    // The name of a program stands in brackets, and may have any character.
    const [stat] = readAll(`/proc/${name}/stat`)
    const parent = /^.*\) \S (\d+)/s.exec(stat?.toString('latin1') ?? '')?.[1]
    return parent === undefined ? [] : [[Number(name), Number(parent)]]
  })
  const all = [pid]
  for (const each of all) all.push(...parents.filter(([, parent]) => parent === each).map(([child]) => child))
  return all
}

/** What a process may write of its memory, in pieces that lap over: each is there until the next one. What is gone meanwhile is passed over. */
function* memoryOf(pid: number, overlap: number): Generator<Buffer> {
  const [maps] = readAll(`/proc/${pid}/maps`)
  const file = openOr(`/proc/${pid}/mem`)
  if (maps === undefined || file === undefined) return
  try {
    const piece = Buffer.alloc(8 * 1024 * 1024)
    for (const [, from = '', to = ''] of maps.toString('latin1').matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm)) {
      const end = BigInt(`0x${to}`)
      for (let at = BigInt(`0x${from}`); at < end; at += BigInt(piece.length - overlap)) {
        const most = Number(end - at < BigInt(piece.length) ? end - at : BigInt(piece.length))
        const read = readAt(file, piece, most, at)
        if (read > 0) yield piece.subarray(0, read)
      }
    }
  } finally {
    fs.closeSync(file)
  }
}

function openOr(file: string): number | undefined {
  try {
    return fs.openSync(file, 'r')
  } catch {
    return undefined
  }
}

function readAt(file: number, piece: Buffer, most: number, at: bigint): number {
  try {
    return fs.readSync(file, piece, 0, most, at)
  } catch {
    return 0
  }
}

function readAll(file: string): readonly Buffer[] {
  try {
    return [fs.readFileSync(file)]
  } catch {
    return []
  }
}

/** Every file in a folder, with its name. */
export const filesIn = (folder: string): readonly { readonly name: string; readonly bytes: Buffer }[] =>
  fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => path.join(parentPath, name))
    .map((name) => ({ name, bytes: fs.readFileSync(name) }))

/** How a text may stand in another: as it is, in base64 at any place of a longer one, in hexadecimal, in an address. */
export function formsOf(text: string): readonly string[] {
  const based = [0, 1, 2].map((skipped) => {
    const bytes = Buffer.from(text).subarray(skipped)
    return bytes.subarray(0, bytes.length - (bytes.length % 3)).toString('base64')
  })
  const hex = Buffer.from(text).toString('hex')
  return [...new Set([text, ...based, hex, hex.toUpperCase(), encodeURIComponent(text)])]
}
