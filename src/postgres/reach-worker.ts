// A thread for one text, with the stack that the check has: what could be parsed there can be parsed here.
import { parentPort, workerData } from 'node:worker_threads'
import { loadModule, parseSync, scanSync } from 'libpg-query'
import { reachOf } from './reach.ts'

await loadModule()
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is a window's
parentPort?.postMessage(reachOf(String(workerData), { parseSync, scanSync }))
