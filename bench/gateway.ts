// The gateway of the benchmarks: the whole program, as `sallyport start` runs it, in a process of its own.
// `node --expose-gc bench/gateway.ts <sallyport.yaml>`
import { start } from '../src/main.ts'
import { answerQuestions } from './parts.ts'

export interface Usage {
  /** Processor time, in seconds. */
  readonly cpu: number
  /** The part of it that the event loop's own thread used. */
  readonly main: number
  /** After a collection, in MB. */
  readonly heap: number
  readonly rss: number
  readonly external: number
}

const [file = ''] = process.argv.slice(2)
const running = await start({ file, env: process.env, log: (line) => process.stderr.write(`${line}\n`) })

answerQuestions(
  ({ what }: { readonly what: 'status' | 'usage' | 'collected' }) => {
    if (what === 'status') return running.status()
    if (what === 'collected') for (let round = 0; round < 3; round++) globalThis.gc?.()
    const { user, system } = process.cpuUsage()
    const { heapUsed, rss, external } = process.memoryUsage()
    const own = process.threadCpuUsage()
    const usage: Usage = {
      cpu: (user + system) / 1e6,
      main: (own.user + own.system) / 1e6,
      heap: heapUsed / 1e6,
      rss: rss / 1e6,
      external: external / 1e6,
    }
    return usage
  },
  () => running.close(),
)
