import { decodeJwt, jwtVerify } from 'jose'
import type { JWTPayload, JWTVerifyGetKey } from 'jose'
import type { AuditLog } from '../core/audit.ts'
import { Failure } from '../core/failure.ts'
import type { SessionId } from '../core/session.ts'
import type { Clock } from './clock.ts'
import { sha256 } from './digest.ts'
import type { Keys } from './keys.ts'
import type { Sessions } from './sessions.ts'
import { isOpaqueToken } from './tokens.ts'
import type { Tokens } from './tokens.ts'

/** Somebody else who vouches for agents: an OIDC issuer, Kubernetes, a CI, SPIFFE. */
export interface TrustedIssuer {
  readonly name: string
  readonly issuer: string
  readonly audience: string
  readonly algorithms: readonly string[]
  readonly keys: JWTVerifyGetKey
  /** The one whose claims are all as written is the agent; a token that fits several fits none. */
  readonly agents: readonly {
    readonly agent: string
    readonly claims: Readonly<Record<string, string | number | boolean>>
  }[]
}

export interface Authenticate {
  /**
   * The session that a bearer credential is for: a session's own token, or a key or trusted JWT of an agent, for which
   * one is started if it has none. Fails with `unauthenticated`, and says no more to whoever is outside.
   */
  (credential: string): Promise<SessionId>
}

export interface AuthenticatePorts {
  readonly sessions: Sessions
  readonly tokens: Tokens
  readonly keys: Keys
  readonly issuers: () => readonly TrustedIssuer[]
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
}

/** Verified JWTs are remembered by digest, so that each is verified once. */
const remembered = 10_000
const longest = 16_384
/** A trusted JWT without an end, or with a distant one, starts sessions for no longer than this. */
const furthest = 24 * 3_600_000

interface Holder {
  readonly agent: string
  readonly behalf: string
  readonly startedBy: string
  readonly endsAt?: number
}

export function createAuthenticate(ports: AuthenticatePorts): Authenticate {
  const { sessions, tokens, keys, issuers, audit, clock } = ports
  const verified = new Map<string, { readonly holder?: Holder; readonly session?: SessionId }>()
  const implicit = new Map<string, Promise<SessionId>>()

  return async (credential) => {
    if (credential.length === 0 || credential.length > longest) throw refused
    if (isOpaqueToken(credential)) return liveOrRefused(sessions.byToken(sha256(credential))?.id)
    if (credential.startsWith('sp_agent_')) {
      const key = await keys.verify(credential)
      if (key === undefined || !key.holder.startsWith('agent:')) throw refused
      return sessionFor({
        agent: key.holder.slice('agent:'.length),
        behalf: key.holder,
        startedBy: `key:${key.id}`,
        ...(key.endsAt === undefined ? {} : { endsAt: key.endsAt }),
      })
    }
    if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(credential)) throw refused
    const { holder, session } = await verify(credential)
    if (session !== undefined) return liveOrRefused(session)
    if (holder !== undefined && clock() < (holder.endsAt ?? 0)) return sessionFor(holder)
    throw refused
  }

  function liveOrRefused(id: SessionId | undefined): SessionId {
    const chain = id === undefined ? [] : sessions.chain(id)
    const now = clock()
    if (id === undefined || chain.length === 0 || chain.some(({ session }) => now >= session.deadline)) throw refused
    return id
  }

  /** The session of a key or trusted JWT: one at a time, started anew when the last reached its deadline. */
  async function sessionFor(holder: Holder): Promise<SessionId> {
    if (sessions.stops().includes(holder.startedBy)) throw refused
    const known = implicit.get(holder.startedBy)
    if (known !== undefined) {
      const id = await known.catch(() => undefined)
      const session = id === undefined ? undefined : sessions.get(id)
      if (session !== undefined && session.endedAt === undefined && clock() < session.deadline) return session.id
    }
    if (implicit.get(holder.startedBy) !== known) return sessionFor(holder)
    if (implicit.size >= remembered) implicit.clear()
    const starting = startFor(holder)
    implicit.set(holder.startedBy, starting)
    starting.catch(() => implicit.delete(holder.startedBy))
    return starting
  }

  async function startFor(holder: Holder): Promise<SessionId> {
    const before = sessions
      .live()
      .find((session) => session.startedBy === holder.startedBy && session.endedAt === undefined)
    if (before !== undefined && clock() < before.deadline) return before.id
    const lasts = holder.endsAt === undefined ? undefined : holder.endsAt - clock()
    const { agent, behalf, startedBy } = holder
    try {
      return (await sessions.start({ agent, behalf, startedBy, ...(lasts === undefined ? {} : { lasts }) })).id
    } catch (thrown) {
      const failure = Failure.from(thrown)
      if (failure.code === 'not_found' || failure.code === 'forbidden') throw refused
      throw failure
    }
  }

  async function verify(token: string): Promise<{ readonly holder?: Holder; readonly session?: SessionId }> {
    const digest = sha256(token)
    const known = verified.get(digest)
    if (known !== undefined) return known
    const session = await tokens.session(token)
    const found = session === undefined ? await fromIssuer(token, digest) : { session }
    if (found === undefined) return {}
    if (verified.size >= remembered) verified.clear()
    verified.set(digest, found)
    return found
  }

  async function fromIssuer(token: string, digest: string): Promise<{ readonly holder: Holder } | undefined> {
    let claimed: JWTPayload
    try {
      claimed = decodeJwt(token)
    } catch {
      return undefined
    }
    const issuer = issuers().find((each) => each.issuer === claimed.iss)
    if (issuer === undefined) return undefined
    try {
      const { payload } = await jwtVerify(token, issuer.keys, {
        issuer: issuer.issuer,
        audience: issuer.audience,
        algorithms: [...issuer.algorithms],
        currentDate: new Date(clock()),
        requiredClaims: ['exp', 'sub'],
      })
      const matches = issuer.agents.filter(({ claims }) =>
        Object.entries(claims).every(([name, value]) => Object.hasOwn(payload, name) && payload[name] === value),
      )
      const [match] = matches
      if (match === undefined || matches.length > 1) return undefined
      return {
        holder: {
          agent: match.agent,
          behalf: `${issuer.name}:${payload.sub}`.slice(0, 200),
          startedBy: `jwt:${digest.slice(0, 32)}`,
          endsAt: Math.min((payload.exp ?? 0) * 1000, clock() + furthest),
        },
      }
    } catch (thrown) {
      const because = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unreadable'
      audit.append({ type: 'token.refused', at: clock(), issuer: issuer.name, because }).done.catch(() => {})
      return undefined
    }
  }
}

const refused = new Failure(
  'unauthenticated',
  'this credential is unknown, or its session is over: ask whoever started you for a new one',
)
