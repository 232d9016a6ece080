// The thread that waits for the disk and signs. It sleeps between two orders, and reads no messages.
import fs from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { signText } from './key.ts'
import { layout, orders, type SealerAnswer, type SealerData } from './sealer.ts'

const port = parentPort
if (!port) throw new Error('this is to be run as a worker thread')
const { shared, key } = workerData as SealerData
const head = new Int32Array(shared, 0, 3)
const bytes = new Uint8Array(shared, layout.text)

for (;;) {
  Atomics.wait(head, layout.order, orders.none)
  const order = Atomics.exchange(head, layout.order, orders.none)
  if (order === orders.leave) break
  if (order === orders.seal) port.postMessage(seal(head[layout.file] ?? -1, head[layout.length] ?? 0))
}

function seal(fd: number, length: number): SealerAnswer {
  try {
    fs.fdatasyncSync(fd)
    return { signature: signText(bytes.slice(0, length), key) }
  } catch (thrown) {
    const { code = 'unknown error', message } = thrown as NodeJS.ErrnoException
    return { code, message }
  }
}
