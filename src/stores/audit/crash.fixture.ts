/**
 * Run as a process of its own by the crash test: 64 loops append to a log without end, and each acknowledged id is
 * told on standard output as `durable <id>` or `written <id>`, in a system call of its own.
 */
import fs from 'node:fs'
import { openAuditLog } from './log.ts'

/** The other side may read slower than this writes. */
function tell(line: string): void {
  for (;;)
    try {
      fs.writeSync(1, line)
      return
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EAGAIN') throw thrown
    }
}

const [dir = '', keyFile = ''] = process.argv.slice(2)
const log = await openAuditLog({ dir, keyFile, segmentBytes: 100_000 })
await Promise.all(
  Array.from({ length: 64 }, async (_, loop) => {
    for (let number = 0; ; number += 1) {
      const wait = loop % 4 === 0 ? 'written' : 'durable'
      const { id, done } = log.append({ type: 'action.failed', at: Date.now(), loop, number }, wait)
      await done
      tell(`${wait} ${id}\n`)
    }
  }),
)
