import type { Dispatcher } from 'undici'
import { Failure } from '../../core/failure.ts'
import { parseJson } from '../../guard/json.ts'
import { placeOf } from './host.ts'
import { isObject } from './resource.ts'
import type { Credential } from './resource.ts'

/** What a request carries to say who the gateway is. */
export interface Proof {
  readonly headers: Readonly<Record<string, string>>
  readonly query?: readonly [name: string, value: string]
}

/** Adds the credential to requests: here, and nowhere else. */
export interface Credentials {
  /** Read anew for each request. Fails with `unavailable` where it can't be had. */
  proof(signal: AbortSignal): Promise<Proof>
  /** The upstream did not take it: a token that was kept is not used again. */
  refused(): void
}

export interface CredentialPorts {
  /** The way out to where tokens are given out. */
  readonly dispatcher: Dispatcher
  readonly clock: () => number
  /** Told of tokens that were given out, so that they are hidden wherever they turn up. */
  readonly onSecret?: (value: string) => void
}

/** A token is asked for anew so long before it ends, in milliseconds. */
const early = 30_000
const tokenWithin = 10_000
const longestToken = 16_384

export function createCredentials(credential: Credential, ports: CredentialPorts): Credentials {
  if (credential.kind === 'oauth') return clientCredentials(credential, ports)
  return { proof: () => proofOf(credential), refused: () => {} }
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

/** OAuth 2.0 client credentials (RFC 6749 §4.4). One request for a token at a time; it is kept in memory alone. */
function clientCredentials(
  credential: Extract<Credential, { kind: 'oauth' }>,
  { dispatcher, clock, onSecret }: CredentialPorts,
): Credentials {
  const place = placeOf(credential.tokenUrl)
  let kept: { readonly token: string; readonly until: number } | undefined
  let asking: Promise<string> | undefined

  async function ask(): Promise<string> {
    const { origin, path, query } = place
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      ...(credential.scope === undefined ? {} : { scope: credential.scope }),
    })
    // RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
    const encoded = (text: string): string => new URLSearchParams({ '': text }).toString().slice(1)
    const answer = await dispatcher.request({
      origin,
      path: path + query,
      method: 'POST',
      headers: {
        accept: 'application/json',
        'accept-encoding': 'identity',
        'content-type': 'application/x-www-form-urlencoded',
        authorization: basic(encoded(await credential.clientId()), encoded(await credential.clientSecret())),
      },
      body: form.toString(),
      signal: AbortSignal.timeout(tokenWithin),
    })
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
    if (typeof type !== 'string' || type.toLowerCase() !== 'bearer')
      throw unavailable('gave a token that is no bearer token')
    const lasts =
      isObject(body) && typeof body['expires_in'] === 'number' && body['expires_in'] > 0
        ? body['expires_in'] * 1_000
        : 60_000
    onSecret?.(token)
    kept = { token, until: clock() + Math.max(0, lasts - early) }
    return token
  }

  async function token(signal: AbortSignal): Promise<string> {
    if (kept !== undefined && clock() < kept.until) return kept.token
    asking ??= ask()
      .catch((thrown: unknown) => {
        throw thrown instanceof Failure ? thrown : unavailable('can’t be reached', thrown)
      })
      .finally(() => (asking = undefined))
    return Promise.race([asking, whenAborted(signal)])
  }

  return {
    proof: async (signal) => ({ headers: { authorization: `Bearer ${await token(signal)}` } }),
    refused: () => (kept = undefined),
  }
}

const whenAborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    const cut = (): void => reject(new Failure('cancelled', 'the call was cancelled'))
    if (signal.aborted) cut()
    else signal.addEventListener('abort', cut, { once: true })
  })

const unavailable = (because: string, cause?: unknown): Failure =>
  new Failure('unavailable', `the token endpoint ${because}`, { cause })
