import { randomBytes } from 'node:crypto'
import type { AuditLog } from '../../src/core/audit.ts'
import type { MasterKeys, SecretStore } from '../../src/core/secret.ts'
import { createUses } from '../../src/guard/uses.ts'
import { createVault } from '../../src/guard/vault.ts'
import type { Vault } from '../../src/guard/vault.ts'

/** A master key that is nowhere but here. */
export function memoryMasterKeys(): MasterKeys {
  const key = (serial: number) => ({ id: `key ${serial}`, bytes: randomBytes(32), from: 'memory' })
  let keys = [key(0)]
  let serial = 0
  return {
    place: 'memory',
    read: () => keys,
    create: () => {},
    next: () => void (keys.length === 1 && (keys = [key(++serial), ...keys])),
    isChanging: () => keys.length > 1,
    finish: () => void (keys = keys.slice(0, 1)),
  }
}

export async function testVault(
  store: SecretStore,
  audit: Pick<AuditLog, 'append'>,
  clock: () => number = Date.now,
): Promise<Vault> {
  return createVault({
    store,
    keys: memoryMasterKeys(),
    audit,
    uses: createUses(audit, clock),
    clock,
    report: () => {},
  })
}
