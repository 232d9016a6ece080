import { processIo } from './io.ts'
import { runLine } from './run.ts'

// The program: `bin/sallyport.js` loads this.

// Whoever reads our output may stop reading: that is no error of ours.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))

process.exitCode = await runLine(process.argv.slice(2), processIo())
