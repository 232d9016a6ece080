// The thread that waits for the disk and signs. It sleeps between two orders, and reads no messages.
import fs from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { hashLength, type Tree } from '../../core/merkle.ts'
import { systemFiles } from './files.ts'
import { layout, orders, signed, type SealerAnswer, type SealerData } from './sealer.ts'

const port = parentPort
if (!port) throw new Error('this is to be run as a worker thread')
const { shared, key } = workerData as SealerData
const numbers = new Int32Array(shared, 0, layout.numbers)
const size = new Float64Array(shared, layout.size, 1)
const hashes = new Uint8Array(shared, layout.hashes)

function seal(): SealerAnswer {
  const [, segment = -1, checkpoint = -1, count = 0] = numbers
  try {
    fs.fdatasyncSync(segment)
    return signed(systemFiles, key, segment, checkpoint, tree(count))
  } catch (thrown) {
    const { code = 'unknown error', message } = thrown as NodeJS.ErrnoException
    return { code, message }
  }
}

const tree = (count: number): Tree => ({
  size: size[0] ?? 0,
  peaks: Array.from({ length: count }, (_, at) => hashes.slice(at * hashLength, (at + 1) * hashLength)),
})

for (;;) {
  Atomics.wait(numbers, layout.order, orders.none)
  const order = Atomics.exchange(numbers, layout.order, orders.none)
  if (order === orders.leave) break
  if (order === orders.seal) port.postMessage(seal())
}
