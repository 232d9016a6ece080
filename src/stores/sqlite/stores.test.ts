import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach } from 'vitest'
import {
  approvalStoreContract,
  counterStoreContract,
  keyStoreContract,
  pinStoreContract,
  secretStoreContract,
  sessionStoreContract,
  stopStoreContract,
  versionStoreContract,
} from '../contract.ts'
import type { Stores } from '../stores.ts'
import { openStores } from './stores.ts'

const opened: { stores: Stores; folder: string }[] = []

afterEach(async () => {
  for (const { stores, folder } of opened.splice(0)) {
    await stores.close()
    rmSync(folder, { recursive: true })
  }
})

function empty(): Stores {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-stores-'))
  const stores = openStores(join(folder, 'sallyport.db'))
  opened.push({ stores, folder })
  return stores
}

approvalStoreContract('sqlite', async () => empty().approvals)
sessionStoreContract('sqlite', async () => empty().sessions)
keyStoreContract('sqlite', async () => empty().keys)
stopStoreContract('sqlite', async () => empty().stops)
pinStoreContract('sqlite', async () => empty().pins)
versionStoreContract('sqlite', async () => empty().versions)
counterStoreContract('sqlite', async () => empty().counters)
secretStoreContract('sqlite', async () => empty().secrets)
