import fs from 'node:fs'
import path from 'node:path'
import { createEngine } from '../../src/gateway/postgres/pglite-engine.ts'

/** As of which an empty database is kept: another version of the package makes another one. */
const version = '0.5.16'

/**
 * Puts an empty database into a folder. Making one takes seconds of work, so that it is made once, and copied from then on.
 * @param cache - The folder where it is kept.
 * @param onMaking - Told before one is made.
 */
export async function putEmptyDatabase(folder: string, cache: string, onMaking: () => void = () => {}): Promise<void> {
  const kept = path.join(cache, `pglite-${version}`)
  if (!fs.existsSync(kept)) {
    onMaking()
    fs.mkdirSync(cache, { recursive: true })
    const made = fs.mkdtempSync(path.join(cache, 'making-'))
    const engine = createEngine(path.join(made, 'data'), () => {})
    try {
      await engine.query('checkpoint')
      await engine.close()
      // Somebody else may have been faster.
      if (!fs.existsSync(kept)) fs.renameSync(path.join(made, 'data'), kept)
    } finally {
      await engine.close()
      fs.rmSync(made, { recursive: true, force: true })
    }
  }
  fs.cpSync(kept, folder, { recursive: true, mode: fs.constants.COPYFILE_FICLONE })
}

/** Beside what the package manager keeps: it belongs to this checkout alone. */
export const usualCache = path.join(import.meta.dirname, '../../node_modules/.cache/sallyport')
