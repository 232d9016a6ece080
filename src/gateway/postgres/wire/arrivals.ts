import type { Duplex } from 'node:stream'
import { Frames, from } from './frames.ts'
import type { Life } from './ports.ts'

/** Bytes that a client may send ahead. */
const mostAhead = 1_000_000
/** Bytes that one message of parameters may have. */
const mostBound = 4_000_000

/** What a client has sent and nobody has read: how far it may be ahead, and when it has to wait. */
export class Arrivals {
  /** The message that is dealt with. */
  readonly frames: Frames
  /** Whether people are waited for. */
  isHolding = false
  private readonly client: Duplex
  private readonly life: Pick<Life, 'isEnded' | 'end'>
  private readonly incoming: Buffer[] = []
  private ahead = 0
  /** Whether the server does not take more. */
  private isPaused = false

  /** `longest` is the most bytes that one statement may have. */
  constructor(client: Duplex, life: Pick<Life, 'isEnded' | 'end'>, longest: number) {
    this.client = client
    this.life = life
    this.frames = new Frames((type) => (type === from.bind ? mostBound : type === from.copyData ? mostAhead : longest))
  }

  push(chunk: Buffer): void {
    this.incoming.push(chunk)
    this.ahead += chunk.length
  }

  /** Goes to the next message. Returns whether there is one. */
  next(): boolean {
    while (!this.frames.next()) {
      const chunk = this.incoming.shift()
      if (chunk === undefined) return false
      this.ahead -= chunk.length
      this.frames.push(chunk)
    }
    return true
  }

  /**
   * Who sends too much ahead is not read on. While people are waited for, that would hide that the client has left, so
   * there it is the end.
   */
  bound(): void {
    if (this.ahead <= mostAhead || this.life.isEnded) return
    if (!this.isHolding) return void this.client.pause()
    const text = 'too much was sent behind a statement that waits for approval'
    this.life.end({ sqlstate: '54000', message: text }, text)
  }

  /** Reads on, where enough of what was sent ahead is dealt with. */
  readOn(): void {
    if (this.ahead <= mostAhead / 2 && !this.isPaused && !this.life.isEnded) this.client.resume()
  }

  /** The server does not take more for now. */
  pause(): void {
    if (this.isPaused) return
    this.isPaused = true
    this.client.pause()
  }

  /** The server takes more. */
  resume(): void {
    this.isPaused = false
    if (this.ahead <= mostAhead && !this.life.isEnded) this.client.resume()
  }
}
