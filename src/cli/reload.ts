import type { Reloaded } from '../control/wire.ts'
import { openClient } from './client.ts'
import { command, jsonOption } from './command.ts'
import { clientOptions } from './place.ts'
import { jsonText, safe } from './text.ts'

export const reloadCommand = command({
  name: 'reload',
  summary: 'Makes the gateway read its file again',
  options: { ...jsonOption, ...clientOptions },
  notes: ['The policy is swapped as a whole. A broken file changes nothing, and what is wrong with it is printed.'],
  examples: ['sallyport reload'],
  async run({ values }, io) {
    const reloaded = await openClient(values, io).post<Reloaded>('/v1/reload')
    const { changed, digest, warnings } = reloaded
    if (values.json === true) io.out(jsonText(reloaded))
    else {
      io.out(
        changed
          ? `policy ${safe(digest.slice(0, 12))} from now on`
          : `nothing changed: policy ${safe(digest.slice(0, 12))}`,
      )
      for (const warning of warnings) io.err(`warning: ${safe(warning)}`)
    }
    return 0
  },
})
