import fs from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Failure } from '../../core/failure.ts'

/**
 * Keeps every other process, and any other log of this one, from appending to a folder's log.
 *
 * The lock is the operating system's, on an empty file (SQLite takes it, since Node.js can't): it ends with the process,
 * however that ends, so there is never a stale one, and process ids that come again (as in containers) do not matter.
 * Fails with `conflict`, naming the process that holds it.
 */
export function lockFolder(dir: string): () => void {
  const owner = path.join(dir, 'owner')
  const db = new DatabaseSync(path.join(dir, 'lock'), { timeout: 0 })
  try {
    db.exec('begin exclusive')
  } catch (thrown) {
    db.close()
    if ((thrown as { errcode?: number }).errcode !== 5)
      throw new Failure('unavailable', `the audit log in ${dir} can't be locked: is its disk full or read-only?`, {
        cause: thrown,
      })
    const holder = fs.existsSync(owner) ? fs.readFileSync(owner, 'utf8').slice(0, 100).trim() : 'unknown'
    throw new Failure('conflict', `another process appends to the audit log in ${dir} (${holder}): only one may`)
  }
  try {
    fs.writeFileSync(owner, `process ${process.pid}\n`, { mode: 0o600 })
  } catch {
    // Only for the message above.
  }
  return () => {
    fs.rmSync(owner, { force: true })
    db.close()
  }
}
