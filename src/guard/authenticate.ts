import { decodeJwt, jwtVerify } from 'jose'
import type { JWTPayload, JWTVerifyGetKey } from 'jose'
import type { AuditLog } from '../core/audit.ts'
import { Failure } from '../core/failure.ts'
import type { Session, SessionId } from '../core/session.ts'
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

/** Verified JWTs are remembered by digest, so that each is verified once in a while, under one configuration. */
const remembered = 10_000
/** For so long: what an issuer takes back (a key of its own) counts no more after it. Milliseconds. */
const rememberedFor = 5 * 60_000
/** Refused tokens of an issuer are told to the log once in so many milliseconds, with how many there were. */
const toldEvery = 1_000
/** What `behalf` says of others than issuers. */
const notIssuers = ['person', 'service', 'agent', 'session', 'key', 'jwt']
const longest = 16_384
/** A trusted JWT without an end, or with a distant one, starts sessions for no longer than this. */
const furthest = 24 * 3_600_000

interface Verified {
  readonly holder?: Holder
  readonly session?: SessionId
}

interface Holder {
  readonly agent: string
  readonly behalf: string
  readonly startedBy: string
  readonly endsAt?: number
}

export function createAuthenticate(ports: AuthenticatePorts): Authenticate {
  const { sessions, tokens, keys, issuers, audit, clock } = ports
  let trusted = issuers()
  const verified = new Map<string, Verified & { readonly until: number }>()
  const refusals = new Map<string, { at: number; more: number }>()
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
    const isOver = chain.some(({ session }) => session.endedAt !== undefined || now >= session.deadline)
    if (id === undefined || chain.length === 0 || isOver) throw refused
    return id
  }

  /** The session of a key or trusted JWT: one at a time, started anew when the last reached its deadline. */
  async function sessionFor(holder: Holder): Promise<SessionId> {
    if (sessions.stops().includes(holder.startedBy)) throw refused
    const known = implicit.get(holder.startedBy)
    if (known !== undefined) {
      const id = await known.catch(() => undefined)
      const session = id === undefined ? undefined : sessions.get(id)
      if (session !== undefined && isFor(session, holder)) return session.id
    }
    if (implicit.get(holder.startedBy) !== known) return sessionFor(holder)
    if (implicit.size >= remembered) implicit.clear()
    const starting = startFor(holder)
    implicit.set(holder.startedBy, starting)
    starting.catch(() => implicit.delete(holder.startedBy))
    return starting
  }

  /** Configuration may say by now that a token stands for another agent. */
  function isFor(session: Session, { agent, behalf, startedBy }: Holder): boolean {
    if (session.startedBy !== startedBy || session.agent !== agent || session.behalf !== behalf) return false
    return session.endedAt === undefined && clock() < session.deadline
  }

  async function startFor(holder: Holder): Promise<SessionId> {
    const before = sessions.live().find((session) => isFor(session, holder))
    if (before !== undefined) return before.id
    const lasts = holder.endsAt === undefined ? undefined : holder.endsAt - clock()
    if (lasts !== undefined && lasts <= 0) throw refused
    const { agent, behalf, startedBy } = holder
    try {
      return (await sessions.start({ agent, behalf, startedBy, ...(lasts === undefined ? {} : { lasts }) })).id
    } catch (thrown) {
      const failure = Failure.from(thrown)
      if (failure.code === 'not_found' || failure.code === 'forbidden') throw refused
      throw failure
    }
  }

  async function verify(token: string): Promise<Verified> {
    const now = issuers()
    if (now !== trusted) {
      trusted = now
      verified.clear()
    }
    const digest = sha256(token)
    const known = verified.get(digest)
    if (known !== undefined && clock() < known.until) return known
    const session = await tokens.session(token)
    const found = session === undefined ? await fromIssuer(token, now) : { session }
    verified.delete(digest)
    if (found === undefined) return {}
    if (verified.size >= remembered) verified.clear()
    // Not what was verified under a configuration that is gone by now.
    if (issuers() === now) verified.set(digest, { ...found, until: clock() + rememberedFor })
    return found
  }

  async function fromIssuer(token: string, from: readonly TrustedIssuer[]): Promise<Verified | undefined> {
    let claimed: JWTPayload
    try {
      claimed = decodeJwt(token)
    } catch {
      return undefined
    }
    const issuer = from.find((each) => each.issuer === claimed.iss)
    if (issuer === undefined || notIssuers.includes(issuer.name)) return undefined
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
          // Of what is signed: a signature can be written in several ways, and is still one token.
          startedBy: `jwt:${sha256(token.slice(0, token.lastIndexOf('.'))).slice(0, 32)}`,
          endsAt: Math.min((payload.exp ?? 0) * 1000, clock() + furthest),
        },
      }
    } catch (thrown) {
      tellRefused(issuer.name, thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'unreadable')
      return undefined
    }
  }

  /** Anybody can send bad tokens, as many as they like: the log is not theirs to fill. */
  function tellRefused(issuer: string, because: string): void {
    const at = clock()
    const last = refusals.get(issuer)
    if (last !== undefined && at - last.at < toldEvery) {
      last.more += 1
      return
    }
    refusals.set(issuer, { at, more: 0 })
    const more = last === undefined || last.more === 0 ? {} : { more: last.more }
    audit.append({ type: 'token.refused', at, issuer, because, ...more }).done.catch(() => {})
  }
}

const refused = new Failure(
  'unauthenticated',
  'this credential is unknown, or its session is over: ask whoever started you for a new one',
)
