import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'

/**
 * The password of an agent's role. Nobody has to keep it: it follows from that of the gateway's own role, so that who has
 * the one has the other, and a change of the one changes all.
 */
export const agentPassword = (own: string, role: string): string =>
  createHmac('sha256', own).update(`sallyport role ${role}`).digest('base64url')

const iterations = 4096

/**
 * What PostgreSQL keeps of a password (`SCRAM-SHA-256$…`, RFC 5802 and 7677), made here so that the password itself never
 * reaches a server, whose log might hold it. The salt follows from password and role: the same twice, and no two roles
 * share one.
 */
export function scramVerifier(password: string, role: string): string {
  const prepared = prepare(password)
  const salt = createHmac('sha256', prepared).update(`sallyport salt ${role}`).digest().subarray(0, 16)
  const salted = pbkdf2Sync(prepared, salt, iterations, 32, 'sha256')
  const keyed = (text: string): Buffer => createHmac('sha256', salted).update(text).digest()
  const stored = createHash('sha256').update(keyed('Client Key')).digest('base64')
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${stored}:${keyed('Server Key').toString('base64')}`
}

/** SASLprep (RFC 4013), as far as it changes what can be a password: clients do the same before they log in. */
const prepare = (password: string): string =>
  password
    .replaceAll(/[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu, ' ')
    .replaceAll(/\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff/gu, '')
    .normalize('NFKC')
