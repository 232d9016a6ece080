import type { Dispatcher } from 'undici'
import { Failure } from '../../core/failure.ts'
import { parseJson } from '../../guard/json.ts'
import { placeOf } from './host.ts'
import type { Place } from './host.ts'
import { isObject } from './resource.ts'
import type { Credential } from './resource.ts'

/** What a request carries to say who the gateway is. */
export interface Proof {
  readonly headers: Readonly<Record<string, string>>
  readonly query?: readonly [name: string, value: string]
}

/** Adds the credential to requests: here, and nowhere else. */
export interface Credentials {
  /** Read anew for each request. Fails with `unavailable` where it can't be had, `cancelled` when the request was cut. */
  proof(session: string, signal: AbortSignal): Promise<Proof>
  /** The upstream did not take it: a token that was kept is not used again. */
  refused(session: string): void
  /** Takes back what was lent to these sessions, without waiting for it. Their requests have to be cut before. */
  ended(sessions: readonly string[]): void
  /** Takes back all that is left, and gives out nothing from now on. Ends in bounded time, whatever the other side does. */
  close(): Promise<void>
}

/** What became of a token that was lent. */
export interface LeaseEnd {
  /** Absent for what all sessions shared. */
  readonly session?: string
  readonly revoked: boolean
  /** Why it was not. */
  readonly because?: string
}

export interface CredentialPorts {
  /** The way out to where tokens are given out. */
  readonly dispatcher: Dispatcher
  readonly clock: () => number
  /** Told of tokens that were given out, so that they are hidden wherever they turn up. Returns what to call at their end. */
  readonly onSecret?: (value: string) => () => void
  /** Told of the end of tokens that were lent for a session, or can be revoked. It must not fail. */
  readonly onLeaseEnd?: (end: LeaseEnd) => void | Promise<void>
}

/** A token is asked for anew so long before it ends, in milliseconds. */
const early = 30_000
const tokenWithin = 10_000
/** For taking back one token, with all tries, in milliseconds. */
const revokedWithin = 10_000
/** The second is for a connection that the other side had closed meanwhile, or a moment of trouble there. */
const mostTries = 2
/** Tokens of one lease that may still be good: where more are given out, the oldest is taken back at once. */
const mostIssued = 4
const longestToken = 16_384

export function createCredentials(credential: Credential, ports: CredentialPorts): Credentials {
  if (credential.kind === 'oauth') return clientCredentials(credential, ports)
  return { proof: () => proofOf(credential), refused: () => {}, ended: () => {}, close: async () => {} }
}

async function proofOf(credential: Exclude<Credential, { kind: 'oauth' }>): Promise<Proof> {
  switch (credential.kind) {
    case 'none':
      return { headers: {} }
    case 'bearer':
      return { headers: { authorization: `Bearer ${await credential.token()}` } }
    case 'header':
      return { headers: { [credential.name.toLowerCase()]: await credential.value() } }
    case 'basic':
      return { headers: { authorization: basic(await credential.user(), await credential.password()) } }
    case 'query':
      return { headers: {}, query: [credential.name, await credential.value()] }
  }
}

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`

interface Token {
  readonly text: string
  /** When it ends, as it was said with it; in epoch milliseconds. */
  readonly until: number
  /** To be called when it is no good any more, as far as can be known. */
  readonly over: () => void
}

/** What one session was lent, or all together. */
interface Lease {
  kept?: { readonly text: string; readonly until: number }
  asking?: Promise<string>
  /** All that may still be good, the oldest first. */
  issued: readonly Token[]
  hadAny: boolean
}

/**
 * OAuth 2.0 client credentials (RFC 6749 §4.4), kept in memory alone: one token for all, or one for each session. One
 * request for a token at a time. Where tokens can be revoked (RFC 7009), each is when its lease ends.
 */
function clientCredentials(
  credential: Extract<Credential, { kind: 'oauth' }>,
  { dispatcher, clock, onSecret, onLeaseEnd }: CredentialPorts,
): Credentials {
  const tokenPlace = placeOf(credential.tokenUrl)
  const revokePlace = credential.revokeUrl === undefined ? undefined : placeOf(credential.revokeUrl)
  /** By session; '' where all share one. */
  const leases = new Map<string, Lease>()
  const keyOf = (session: string): string => (credential.isPerSession ? session : '')
  const background = new Set<Promise<void>>()
  let isClosed = false

  /** Sends a form as the client (RFC 6749 §2.3.1): both parts are form-encoded before they are joined. */
  async function post(
    { origin, path, query }: Place,
    form: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const encoded = (text: string): string => new URLSearchParams({ '': text }).toString().slice(1)
    return dispatcher.request({
      origin,
      path: path + query,
      method: 'POST',
      headers: {
        accept: 'application/json',
        'accept-encoding': 'identity',
        'content-type': 'application/x-www-form-urlencoded',
        authorization: basic(encoded(await credential.clientId()), encoded(await credential.clientSecret())),
      },
      body: new URLSearchParams(form).toString(),
      signal,
    })
  }

  async function ask(lease: Lease): Promise<string> {
    const form = {
      grant_type: 'client_credentials',
      ...(credential.scope === undefined ? {} : { scope: credential.scope }),
    }
    const answer = await post(tokenPlace, form, AbortSignal.timeout(tokenWithin))
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > longestToken * 2) throw unavailable('answered with more than a token')
      chunks.push(chunk)
    }
    if (answer.statusCode !== 200) throw unavailable(`answered with ${answer.statusCode}`)
    const body = parseJson(Buffer.concat(chunks), { maxBytes: longestToken * 2, maxDepth: 8, bigIntegers: 'round' })
    const token = isObject(body) ? body['access_token'] : undefined
    const type = isObject(body) ? body['token_type'] : undefined
    if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token) || token.length > longestToken)
      throw unavailable('gave no token')
    // It is known before anything else can go wrong: what was given out has to be taken back.
    const said = isObject(body) && typeof body['expires_in'] === 'number' && body['expires_in'] > 0
    const lasts = said ? Number(body['expires_in']) * 1_000 : undefined
    const over = onSecret?.(token) ?? (() => {})
    issue(lease, { text: token, until: lasts === undefined ? Number.POSITIVE_INFINITY : clock() + lasts, over })
    if (typeof type !== 'string' || type.toLowerCase() !== 'bearer')
      throw unavailable('gave a token that is no bearer token')
    lease.kept = { text: token, until: clock() + Math.max(0, (lasts ?? 60_000) - early) }
    return token
  }

  function issue(lease: Lease, token: Token): void {
    lease.hadAny = true
    const [oldest, ...others] = stillGood(lease)
    const isFull = others.length + 1 >= mostIssued
    // Requests that are on their way may still go with the one before; with that many later ones there are none.
    if (isFull && oldest !== undefined) inBackground(takeBack(oldest).then(() => {}))
    lease.issued = [...(isFull || oldest === undefined ? [] : [oldest]), ...others, token]
  }

  function stillGood({ issued }: Lease): readonly Token[] {
    const isOver = ({ until }: Token): boolean => clock() >= until
    for (const token of issued.filter(isOver)) token.over()
    return issued.filter((token) => !isOver(token))
  }

  async function token(session: string, signal: AbortSignal): Promise<string> {
    // INVARIANT: a session that ended gets no lease, for nothing would end it; what ends a session cuts its requests first.
    if (signal.aborted) throw cut()
    if (isClosed) throw new Failure('unavailable', 'the configuration of this resource changed: repeat the request')
    const key = keyOf(session)
    const lease = leases.get(key) ?? { issued: [], hadAny: false }
    leases.set(key, lease)
    if (lease.kept !== undefined && clock() < lease.kept.until) return lease.kept.text
    lease.asking ??= ask(lease)
      .catch((thrown: unknown) => {
        throw thrown instanceof Failure ? thrown : unavailable('can’t be reached', thrown)
      })
      .finally(() => delete lease.asking)
    return Promise.race([lease.asking, whenAborted(signal)])
  }

  async function takeBack(token: Token): Promise<string | undefined> {
    const because = await revoke(token)
    token.over()
    return because
  }

  /** Why it could not be revoked; undefined where it was, or where the other side knows nothing of it (RFC 7009 §2.2). */
  async function revoke({ text }: Token): Promise<string | undefined> {
    if (revokePlace === undefined) return 'there is no `revoke_url`'
    const signal = AbortSignal.timeout(revokedWithin)
    let because = ''
    for (let tries = 0; tries < mostTries && !signal.aborted; tries++) {
      try {
        const answer = await post(revokePlace, { token: text, token_type_hint: 'access_token' }, signal)
        answer.body.on('error', () => {}).destroy()
        if (answer.statusCode === 200) return undefined
        because = `the revocation endpoint answered with ${answer.statusCode}`
        if (answer.statusCode < 500) break
      } catch (thrown) {
        because = thrown instanceof Failure ? thrown.message : 'the revocation endpoint can’t be reached'
      }
    }
    return because
  }

  async function end(key: string, lease: Lease): Promise<void> {
    // What is on its way comes, and is taken back then.
    await lease.asking?.catch(() => {})
    const good = stillGood(lease)
    const problems = (await Promise.all(good.map(takeBack))).filter((because) => because !== undefined)
    if (!lease.hadAny || (revokePlace === undefined && !credential.isPerSession)) return
    const because = good.length === 0 ? 'its time was over' : problems[0]
    await onLeaseEnd?.({
      ...(key === '' ? {} : { session: key }),
      revoked: because === undefined,
      ...(because === undefined ? {} : { because }),
    })
  }

  function inBackground(work: Promise<void>): void {
    const done = work.catch(() => {}).finally(() => background.delete(done))
    background.add(done)
  }

  function endAll(keys: Iterable<string>): void {
    for (const key of keys) {
      const lease = leases.get(key)
      leases.delete(key)
      if (lease !== undefined) inBackground(end(key, lease))
    }
  }

  return {
    proof: async (session, signal) => ({ headers: { authorization: `Bearer ${await token(session, signal)}` } }),
    refused: (session) => void delete leases.get(keyOf(session))?.kept,
    ended: endAll,
    async close() {
      isClosed = true
      endAll([...leases.keys()])
      await Promise.all(background)
    },
  }
}

const cut = (): Failure => new Failure('cancelled', 'the call was cancelled')

const whenAborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    if (signal.aborted) reject(cut())
    else signal.addEventListener('abort', () => reject(cut()), { once: true })
  })

const unavailable = (because: string, cause?: unknown): Failure =>
  new Failure('unavailable', `the token endpoint ${because}`, { cause })
