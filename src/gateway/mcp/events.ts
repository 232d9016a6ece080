import { StringDecoder } from 'node:string_decoder'
import { Failure } from '../../core/failure.ts'

/**
 * Reads `text/event-stream` (WHATWG HTML, Server-sent events) as far as MCP uses it: the data of each event.
 *
 * Give it the bytes as they come. Fails with `too_large` when one event or one line is longer than `most` bytes.
 */
export function createEventReader(
  most: number,
  onData: (data: string, bytes: number) => void,
): (chunk: Uint8Array) => void {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  let data: string[] = []
  let bytes = 0
  let skipLineFeed = false

  function line(text: string): void {
    if (text === '') {
      if (data.length > 0) onData(data.join('\n'), bytes)
      data = []
      bytes = 0
      return
    }
    if (!text.startsWith('data')) return // Comments, ids, names and retry times mean nothing here.
    if (text.length > 4 && text[4] !== ':') return
    const value = text.slice(text[5] === ' ' ? 6 : 5)
    bytes += Buffer.byteLength(value)
    if (bytes > most) throw new Failure('too_large', `an event is larger than ${most} bytes`)
    data.push(value)
  }

  return (chunk) => {
    let text = rest + decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    if (skipLineFeed && text.startsWith('\n')) text = text.slice(1)
    skipLineFeed = false
    let start = 0
    for (let at = rest.length === 0 ? 0 : Math.max(0, rest.length - 1); at < text.length; at++) {
      const code = text.charCodeAt(at)
      if (code !== 10 && code !== 13) continue
      line(text.slice(start, at))
      if (code === 13) {
        if (at + 1 === text.length) skipLineFeed = true
        else if (text.charCodeAt(at + 1) === 10) at++
      }
      start = at + 1
    }
    rest = text.slice(start)
    if (rest.length > most + 8) throw new Failure('too_large', `an event is larger than ${most} bytes`)
  }
}
