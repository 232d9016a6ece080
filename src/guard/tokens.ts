import { calculateJwkThumbprint, exportJWK, jwtVerify, SignJWT } from 'jose'
import type { JSONWebKeySet } from 'jose'
import type { KeyObject } from 'node:crypto'
import { createPublicKey } from 'node:crypto'
import type { Link } from '../core/decide.ts'
import { Failure } from '../core/failure.ts'
import type { Clock } from './clock.ts'
import { randomId, randomToken } from './digest.ts'

/** Tokens of sessions: random text that only its digest is kept of, or a JWT (RFC 9068) that any replica can verify. */
export interface Tokens {
  opaque(): string
  /** An EdDSA `at+jwt` of a session, with the chain of who acts for whom as `act` (RFC 8693 §4.1). */
  signed(chain: readonly Link[], scope: readonly string[]): Promise<string>
  /** The session that a signed token is of; undefined where it is not one of ours, or is over. */
  session(token: string): Promise<string | undefined>
  /** The public keys (RFC 7517). */
  keys(): JSONWebKeySet
}

const prefix = 'sp_session_'

export const isOpaqueToken = (token: string): boolean => /^sp_session_[A-Za-z0-9_-]{43}$/.test(token)

/** @param signing - Ed25519 private keys: the first signs, all verify, so that keys can be changed with an overlap. */
export async function createTokens(
  issuer: string,
  signing: readonly [KeyObject, ...KeyObject[]],
  clock: Clock,
): Promise<Tokens> {
  const verifying = new Map<string, KeyObject>()
  const published: JSONWebKeySet = { keys: [] }
  for (const key of signing) {
    const jwk = await exportJWK(createPublicKey(key))
    const kid = await calculateJwkThumbprint(jwk)
    verifying.set(kid, createPublicKey(key))
    published.keys.push({ ...jwk, kid, alg: 'EdDSA', use: 'sig' })
  }
  const [kid = ''] = verifying.keys()

  async function signed(chain: readonly Link[], scope: readonly string[]): Promise<string> {
    const last = chain.at(-1)
    if (last === undefined) throw new Failure('not_found', 'there is no such session')
    const { id: sid, agent: client, behalf, deadline } = last.session
    // The one who acts is outermost; each that lent is inside (RFC 8693 §4.1). The subject is on whose behalf it is.
    const act = chain.reduce<object | undefined>(
      (inner, { session: { agent, id } }) => ({
        sub: `agent:${agent}`,
        sid: id,
        ...(inner === undefined ? {} : { act: inner }),
      }),
      undefined,
    )
    return new SignJWT({
      sid,
      client_id: client,
      act,
      ...(scope.length === 0 ? {} : { scope: scope.join(' ') }),
    })
      .setProtectedHeader({ alg: 'EdDSA', typ: 'at+jwt', kid })
      .setIssuer(issuer)
      .setAudience(issuer)
      .setSubject(behalf)
      .setJti(randomId('jti'))
      .setIssuedAt(Math.floor(clock() / 1000))
      .setExpirationTime(Math.floor(deadline / 1000))
      .sign(signing[0])
  }

  async function session(token: string): Promise<string | undefined> {
    try {
      const { payload } = await jwtVerify(
        token,
        ({ kid: named }) => {
          const key = verifying.get(named ?? '')
          if (key === undefined) throw new TypeError('unknown key')
          return key
        },
        { issuer, audience: issuer, typ: 'at+jwt', algorithms: ['EdDSA'], currentDate: new Date(clock()) },
      )
      return typeof payload['sid'] === 'string' ? payload['sid'] : undefined
    } catch {
      return undefined
    }
  }

  return { opaque: () => randomToken(prefix), signed, session, keys: () => published }
}
