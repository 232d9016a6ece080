import { Failure } from '../core/failure.ts'
import type { Io } from './io.ts'

/** A secret that a command takes, and the words around it. */
export interface Wanted {
  /** At a terminal. */
  readonly prompt: string
  readonly missing: string
  /** What is said where the person leaves instead. */
  readonly left: string
  /** What it is called. */
  readonly what: string
  readonly mostBytes: number
}

type Reading = Pick<Io, 'stdin' | 'err'>

/** A secret from standard input, without one line end; at a terminal it is asked for, and not shown. */
export async function readValue(io: Reading, wanted: Wanted): Promise<string> {
  if (io.stdin.isTTY === true && io.stdin.setRawMode !== undefined) return readHidden(io, wanted)
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of io.stdin as AsyncIterable<Buffer | string>) {
    const part = Buffer.from(chunk)
    bytes += part.length
    // A line end may follow.
    if (bytes > wanted.mostBytes + 2) throw tooLarge(wanted)
    chunks.push(part)
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks))
  } catch {
    throw new Failure('invalid', `${wanted.what} is text in UTF-8: encode other bytes first, in base64 for example`)
  }
  return filled(text.replace(/\r?\n$/, ''), wanted)
}

/** A line that is typed at a terminal and shown nowhere. */
function readHidden({ stdin, err }: Reading, wanted: Wanted): Promise<string> {
  // Before anybody is asked: what is pasted quickly would be shown.
  stdin.setRawMode?.(true)
  err(wanted.prompt)
  let text = ''
  return new Promise((resolve, reject) => {
    // Not as an iterator: that does not go on where a question before has paused the input.
    const done = (finish: () => void): void => {
      stdin.off('data', take).off('end', end)
      stdin.pause()
      stdin.setRawMode?.(false)
      finish()
    }
    const end = (): void => done(() => (text === '' ? reject(new Failure('invalid', wanted.missing)) : resolve(text)))
    const take = (chunk: Buffer | string): void => {
      for (const character of Buffer.from(chunk).toString('utf8')) {
        if (character === '\r' || character === '\n' || character === '\x04') return end()
        if (character === '\x03') return done(() => reject(new Failure('cancelled', wanted.left)))
        if (character === '\x7f' || character === '\b') text = text.replace(/[^]$/u, '')
        else text += character
        if (text.length > wanted.mostBytes) return done(() => reject(tooLarge(wanted)))
      }
    }
    stdin.on('data', take).once('end', end)
    stdin.resume()
  })
}

function filled(text: string, { missing }: Wanted): string {
  if (text === '') throw new Failure('invalid', missing)
  return text
}

const tooLarge = ({ what, mostBytes }: Wanted): Failure =>
  new Failure('too_large', `${what} has at most ${mostBytes} bytes`)
