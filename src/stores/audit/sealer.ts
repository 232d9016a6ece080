import type { KeyObject } from 'node:crypto'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'

/** Makes durable what was written to a file, and then signs a text. */
export interface Sealer {
  /**
   * Resolves to the Ed25519 signature (base64) once the data of the open file is on the disk; fails with the error of
   * the operating system, and then signs nothing. One at a time.
   */
  seal(fd: number, text: string): Promise<string>
  close(): Promise<void>
}

/**
 * What both threads see: three numbers of 32 bits (what to do, the file, the length of the text), and then the text.
 * A thread that waits on such a number wakes in a tenth of the time that a message or the pool of threads takes, and
 * this is on the way of every action.
 */
export const layout = { order: 0, file: 1, length: 2, text: 12, size: 4096 } as const
export const orders = { none: 0, seal: 1, leave: 2 } as const

export interface SealerData {
  readonly shared: SharedArrayBuffer
  readonly key: KeyObject
}

export type SealerAnswer = { readonly signature: string } | { readonly code: string; readonly message: string }

/** A thread that does nothing else. One that broke down is started again for the next text. */
export function openSealer(key: KeyObject): Sealer {
  const shared = new SharedArrayBuffer(layout.size)
  const head = new Int32Array(shared, 0, 3)
  const bytes = new Uint8Array(shared, layout.text)
  let worker: Worker | undefined
  let asked: PromiseWithResolvers<string> | undefined

  function start(): Worker {
    const data: SealerData = { shared, key }
    const started = new Worker(new URL(`sealer-worker${extname(import.meta.url)}`, import.meta.url), {
      name: 'sallyport-audit',
      workerData: data,
      env: {},
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
    })
    started.unref()
    started.on('message', (answer: SealerAnswer) => {
      started.unref()
      const { resolve, reject } = asked ?? {}
      asked = undefined
      if ('signature' in answer) resolve?.(answer.signature)
      else reject?.(Object.assign(new Error(answer.message), { code: answer.code }))
    })
    const lost = (): void => {
      if (worker !== started) return
      worker = undefined
      asked?.reject(Object.assign(new Error('the thread that signs ended'), { code: 'THREAD' }))
      asked = undefined
    }
    started.on('error', lost)
    started.on('exit', lost)
    return started
  }

  function tell(order: number): void {
    Atomics.store(head, layout.order, order)
    Atomics.notify(head, layout.order)
  }

  worker = start()
  return {
    seal(fd, text) {
      if (asked !== undefined) throw new Error('one at a time is sealed')
      worker ??= start()
      worker.ref() // Whoever waits for this is not to find the process at its end.
      const { read, written } = new TextEncoder().encodeInto(text, bytes)
      if (read < text.length) throw new Error('a text that is to be signed has at most 4 kB')
      head[layout.file] = fd
      head[layout.length] = written
      asked = Promise.withResolvers()
      tell(orders.seal)
      return asked.promise
    },
    async close() {
      const leaving = worker
      if (leaving === undefined) return
      worker = undefined
      const gone = new Promise((resolve) => leaving.once('exit', resolve))
      leaving.ref()
      tell(orders.leave)
      await gone
    },
  }
}
