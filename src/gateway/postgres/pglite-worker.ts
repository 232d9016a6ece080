// The thread in which an embedded database runs. A statement that runs here can't be stopped but by ending the thread:
// what it had not committed is gone then, as with any server that is killed.
import fs from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'

/** What the thread is told: messages of PostgreSQL's protocol that are to be carried out, or that it is to end. */
export type Order = { readonly kind: 'run'; readonly messages: Uint8Array } | { readonly kind: 'end' }

/** What it says: that it is ready, or why it never will be; then answers in pieces, and that there are no more. */
export type Answer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly isMissing: boolean; readonly message: string }
  | { readonly kind: 'data'; readonly bytes: Uint8Array }
  | { readonly kind: 'done' }

const port = parentPort
if (!port) throw new Error('this is to be run as a worker thread')
const say = (answer: Answer): void => port.postMessage(answer)

try {
  const { PGlite } = await import('@electric-sql/pglite')
  const { folder: dataDir } = workerData as { readonly folder: string }
  const isThere = fs.existsSync(dataDir) && fs.readdirSync(dataDir).length > 0
  // A new one is made in memory and written then: that takes half the time, and what is cut short leaves nothing behind.
  const made = isThere ? undefined : await PGlite.create('memory://')
  const loadDataDir = await made?.dumpDataDir('none')
  await made?.close()
  const database = await PGlite.create({ dataDir, ...(loadDataDir === undefined ? {} : { loadDataDir }) })
  port.on('message', (order: Order) => {
    if (order.kind === 'end') return void database.close().finally(() => port.close())
    // What fails here is not a statement, whose errors are answers: the database itself is broken, and the thread ends.
    void database
      .execProtocolRawStream(order.messages, { onRawData: (bytes) => say({ kind: 'data', bytes: bytes.slice() }) })
      .then(() => say({ kind: 'done' }))
  })
  say({ kind: 'ready' })
} catch (thrown) {
  const { code, message } = thrown as { readonly code?: string; readonly message?: string }
  say({ kind: 'failed', isMissing: code === 'ERR_MODULE_NOT_FOUND', message: String(message ?? thrown) })
}
