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
import { memoryStores } from './stores.ts'

approvalStoreContract('memory', async () => memoryStores().approvals)
sessionStoreContract('memory', async () => memoryStores().sessions)
keyStoreContract('memory', async () => memoryStores().keys)
stopStoreContract('memory', async () => memoryStores().stops)
pinStoreContract('memory', async () => memoryStores().pins)
versionStoreContract('memory', async () => memoryStores().versions)
counterStoreContract('memory', async () => memoryStores().counters)
secretStoreContract('memory', async () => memoryStores().secrets)
