import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { encode, formatCheckpoint, formatNote } from '../../core/checkpoint.ts'
import { hashLength, rootHash, type Tree } from '../../core/merkle.ts'
import { writeAll, type Files } from './files.ts'
import { sha256, signText, type SigningKey } from './key.ts'

/** What is to be made durable, and then signed. */
export interface Sealing {
  /** The open file of the segment that was written to. */
  readonly segment: number
  /** The open file of the checkpoint. */
  readonly checkpoint: number
  /** All that was written. */
  readonly tree: Tree
}

export interface Sealer {
  /**
   * Makes a segment durable, signs a checkpoint of the tree and hands it to the operating system. Resolves to the
   * signed note. Fails with the error of the operating system, or `REMOVED` where the segment has no name any more; then
   * nothing is signed. One at a time.
   */
  seal(sealing: Sealing): Promise<string>
  close(): Promise<void>
}

/** The same in this thread, over files that are not the system's own. */
export const sealerOf = (files: Files, key: SigningKey): Sealer => ({
  async seal({ segment, checkpoint, tree }) {
    await files.datasync(segment)
    return signed(files, key, segment, checkpoint, tree)
  },
  close: () => Promise.resolve(),
})

/** Signs what is durable. */
export function signed(files: Files, key: SigningKey, segment: number, checkpoint: number, tree: Tree): string {
  if (!files.isLinked(segment)) throw Object.assign(new Error('the segment was removed'), { code: 'REMOVED' })
  const note = checkpointOf(key, tree)
  writeAll(files, checkpoint, Buffer.from(note), 0)
  return note
}

export function checkpointOf(key: SigningKey, tree: Tree): string {
  const root = encode(rootHash(sha256, tree))
  const text = formatCheckpoint({ origin: key.public.name, size: tree.size, root })
  return formatNote({ text, signatures: [{ ...key.public, signature: signText(text, key.private) }] })
}

/**
 * What both threads see: what to do, the two files and the number of peaks in 32 bits each, the size of the tree, its
 * peaks. A thread that waits on such a number wakes in a tenth of the time that a message or the pool of threads
 * takes, and this is on the way of every action.
 */
export const layout = { order: 0, segment: 1, checkpoint: 2, peaks: 3, numbers: 4, size: 16, hashes: 24 } as const
export const orders = { none: 0, seal: 1, leave: 2 } as const

export interface SealerData {
  readonly shared: SharedArrayBuffer
  readonly key: SigningKey
}

export type SealerAnswer = string | { readonly code: string; readonly message: string }

/** A thread that does nothing else. One that broke down is started again for the next checkpoint. */
export function openSealer(key: SigningKey): Sealer {
  const shared = new SharedArrayBuffer(layout.hashes + 64 * hashLength)
  const numbers = new Int32Array(shared, 0, layout.numbers)
  const size = new Float64Array(shared, layout.size, 1)
  const hashes = new Uint8Array(shared, layout.hashes)
  let asked: PromiseWithResolvers<string> | undefined
  let worker: Worker | undefined = start()

  function start(): Worker {
    numbers[layout.order] = orders.none
    const data: SealerData = { shared, key }
    const started = new Worker(new URL(`sealer-worker${extname(import.meta.url)}`, import.meta.url), {
      name: 'sallyport-audit',
      workerData: data,
      env: {},
      execArgv: ['--report-exclude-env'],
      resourceLimits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 4 },
    })
    started.unref()
    started.on('message', (answer: SealerAnswer) => {
      started.unref()
      const { resolve, reject } = asked ?? {}
      asked = undefined
      if (typeof answer === 'string') resolve?.(answer)
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
    Atomics.store(numbers, layout.order, order)
    Atomics.notify(numbers, layout.order)
  }

  return {
    seal({ segment, checkpoint, tree }) {
      if (asked !== undefined) return Promise.reject(new Error('one at a time is sealed'))
      worker ??= start()
      worker.ref() // Whoever waits for this is not to find the process at its end.
      numbers[layout.segment] = segment
      numbers[layout.checkpoint] = checkpoint
      numbers[layout.peaks] = tree.peaks.length
      size[0] = tree.size
      for (const [at, peak] of tree.peaks.entries()) hashes.set(peak, at * hashLength)
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
