import { readFile } from 'node:fs/promises'
import { Agent, request } from 'undici'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Clock } from '../clock.ts'
import { sha256 } from '../digest.ts'
import { parseJson } from '../json.ts'
import { shortestSecret } from '../vault.ts'
import type { KnownValue } from '../vault.ts'

/** How Sallyport proves who it is to the server. Each is read when it is needed: it may change on the disk. */
export type Kv2Auth =
  | { readonly kind: 'token'; readonly token: () => Promise<string> }
  | {
      readonly kind: 'approle'
      readonly mount: string
      readonly roleId: string
      readonly secretId: () => Promise<string>
    }
  | { readonly kind: 'kubernetes'; readonly mount: string; readonly role: string; readonly tokenFile: string }

export interface Kv2Options {
  /** The server's own address, without `/v1`. */
  readonly url: string
  readonly mount: string
  readonly namespace?: string
  readonly auth: Kv2Auth
  /** PEM of the authorities that may have signed its certificate; absent: those that Node knows. */
  readonly ca?: string
  /** A value is used for at most so many milliseconds after it was read. */
  readonly cache: number
  /** Milliseconds that an answer may take. */
  readonly timeout: number
}

/** Where a value stands: the secret's path below the mount, and the field of it. */
export interface Kv2Place {
  readonly path: string
  readonly field: string
}

/**
 * Values that are read from HashiCorp Vault or OpenBao (KV version 2) and kept for a stated time only.
 *
 * TLS is verified and no redirect is followed: the token goes to the configured server and nowhere else. Answers are
 * bounded in size and time. Messages say what is wrong and never hold a value, a token or the server's own words.
 * https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
 */
export interface Kv2 {
  /** Reads the value, and keeps it fresh from then on. Undefined, or why it can't be had at present. */
  prepare(place: Kv2Place): Promise<string | undefined>
  /** The value as it was read last. Fails with `unavailable` when that is longer ago than it may be. */
  use(place: Kv2Place): string
  /** Changes when the value does; tells nothing of it. */
  mark(place: Kv2Place): string
  values(): readonly KnownValue[]
  /** Forgets the values that are not among these. */
  keepOnly(places: readonly Kv2Place[]): void
  onChange(listener: () => void): void
  close(): Promise<void>
}

const mostBytes = 1_000_000
/** A fresh value is asked for when this part of its time is over, so that a slow server makes nobody wait. */
const refreshAt = 0.6
const retryAfter = 5_000
/** A token is renewed when this part of its time is over. */
const renewAt = 0.6

interface Entry {
  readonly place: Kv2Place
  value?: string
  readAt: number
  problem?: string
  reading?: Promise<void> | undefined
  timer?: NodeJS.Timeout | undefined
}

interface Token {
  readonly text: string
  /** Epoch milliseconds; absent for one that never ends. */
  readonly renewBy?: number
  readonly endsAt?: number
  readonly renewable: boolean
  /** It may not look at itself, or is none: only its use will tell. */
  readonly isDoubted?: boolean
}

export const placeName = ({ path, field }: Kv2Place): string => `vault:${path}#${field}`

export function createKv2(options: Kv2Options, clock: Clock): Kv2 {
  const { auth, namespace, cache, timeout } = options
  const base = options.url.replace(/\/+$/, '')
  const agent = new Agent({
    connect: { timeout, ...(options.ca === undefined ? {} : { ca: options.ca }) },
    connections: 4,
  })
  const entries = new Map<string, Entry>()
  const listeners: (() => void)[] = []
  let token: Token | undefined
  let signingIn: Promise<Token> | undefined
  let known: readonly KnownValue[] = []
  /** What Sallyport signs in with: nobody else's business either. */
  const credentials = new Map<string, string>()
  let isClosed = false

  // The server ------------------------------------------------------------------------------------------------------

  async function ask(
    method: 'GET' | 'POST',
    path: string,
    as?: string,
    body?: JsonObject,
  ): Promise<{ status: number; body: JsonObject }> {
    let response
    try {
      response = await request(`${base}/v1/${path}`, {
        method,
        dispatcher: agent,
        headersTimeout: timeout,
        bodyTimeout: timeout,
        signal: AbortSignal.timeout(timeout),
        headers: {
          accept: 'application/json',
          'x-vault-request': 'true',
          ...(as === undefined ? {} : { 'x-vault-token': as }),
          ...(namespace === undefined ? {} : { 'x-vault-namespace': namespace }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
    } catch (thrown) {
      throw new Failure('unavailable', `${base} can't be reached${codeOf(thrown)}`, { cause: thrown })
    }
    const { statusCode } = response
    if (statusCode >= 300 && statusCode < 400) {
      await response.body.dump().catch(() => {})
      throw new Failure(
        'unavailable',
        `${base} answers with a redirect (${statusCode}), which is not followed: give the address of the server itself`,
      )
    }
    try {
      const chunks: Buffer[] = []
      let bytes = 0
      for await (const chunk of response.body as AsyncIterable<Buffer>) {
        bytes += chunk.length
        if (bytes > mostBytes) throw new Failure('too_large', `an answer of ${base} is larger than ${mostBytes} bytes`)
        chunks.push(chunk)
      }
      const answer =
        bytes === 0 ? {} : parseJson(Buffer.concat(chunks), { maxBytes: mostBytes, maxDepth: 32, bigIntegers: 'round' })
      return { status: statusCode, body: objectOf(answer) ?? {} }
    } catch (thrown) {
      if (thrown instanceof Failure && thrown.code === 'too_large') throw thrown
      throw new Failure(
        'unavailable',
        `${base} answers with status ${statusCode} and no JSON: is it a Vault or OpenBao server?`,
        { cause: thrown },
      )
    }
  }

  // Who we are ------------------------------------------------------------------------------------------------------

  async function signIn(): Promise<Token> {
    if (auth.kind === 'token') {
      const text = signsInWith('vault token', (await auth.token()).trim())
      const { status, body } = await ask('GET', 'auth/token/lookup-self', text)
      // A token may be forbidden to look at itself: a policy other than `default` is enough for that.
      if (status === 403) return { text, renewable: false, isDoubted: true }
      const data = status === 200 ? objectOf(body['data']) : undefined
      return tokenOf(text, data?.['ttl'], data?.['renewable'])
    }
    const { mount } = auth
    const login: JsonObject =
      auth.kind === 'approle'
        ? { role_id: auth.roleId, secret_id: signsInWith('vault secret id', (await auth.secretId()).trim()) }
        : { role: auth.role, jwt: signsInWith('service account', await readToken(auth.tokenFile)) }
    const { status, body } = await ask('POST', `auth/${encodePath(mount)}/login`, undefined, login)
    const given = objectOf(body['auth'])
    const text = given?.['client_token']
    if (status !== 200 || typeof text !== 'string')
      throw new Failure(
        'unavailable',
        `${base} refuses the sign-in by ${auth.kind} at \`auth/${mount}\` (status ${status}): check the role and its credential`,
      )
    return tokenOf(signsInWith('vault token', text), given?.['lease_duration'], given?.['renewable'])
  }

  /** No time means that it never ends, as that of a root token. */
  function tokenOf(text: string, seconds: Json | undefined, renewable: Json | undefined): Token {
    if (typeof seconds !== 'number' || seconds <= 0) return { text, renewable: false }
    const now = clock()
    return {
      text,
      renewable: renewable === true,
      renewBy: now + seconds * 1_000 * renewAt,
      endsAt: now + seconds * 1_000,
    }
  }

  async function renewed(before: Token): Promise<Token> {
    if (before.renewable && before.endsAt !== undefined && clock() < before.endsAt) {
      const { status, body } = await ask('POST', 'auth/token/renew-self', before.text, {})
      const given = objectOf(body['auth'])
      const seconds = given?.['lease_duration']
      // At the end of its longest life a token is renewed for no time at all.
      if (status === 200 && given !== undefined && typeof seconds === 'number' && seconds > 0)
        return tokenOf(before.text, given['lease_duration'], given['renewable'])
    }
    return signIn()
  }

  /** So that what policy forbids does not make one new token after another, which the server would have to keep. */
  const isAccepted = async ({ text }: Token): Promise<boolean> =>
    (await ask('GET', 'auth/token/lookup-self', text)).status === 200

  /** A token that holds: the one that there is, renewed in time, or a new one. Many who ask at once sign in once. */
  async function currentToken(): Promise<Token> {
    if (token !== undefined && (token.renewBy === undefined || clock() < token.renewBy)) return token
    signingIn ??= (token === undefined ? signIn() : renewed(token)).finally(() => (signingIn = undefined))
    token = await signingIn
    return token
  }

  // Values ----------------------------------------------------------------------------------------------------------

  async function read({ path, field }: Kv2Place): Promise<string> {
    const at = `${encodePath(options.mount)}/data/${encodePath(path)}`
    let used = await currentToken()
    let answer = await ask('GET', at, used.text)
    if (answer.status === 403 && !(await isAccepted(used))) {
      // The token was revoked, or changed where it is read from: once more with a new one.
      if (token === used) token = undefined
      used = await currentToken()
      answer = await ask('GET', at, used.text)
    }
    const where = `\`${path}\` in \`${options.mount}\` of ${base}`
    switch (answer.status) {
      case 200:
        break
      case 403:
        if (used.isDoubted === true)
          throw new Failure(
            'unavailable',
            `${base} does not accept the token for ${where}: it is wrong, has expired or was revoked, or its policy does not allow it`,
          )
        throw new Failure('unavailable', `${where} may not be read: the policy of the token does not allow it`)
      case 404:
        throw new Failure(
          'unavailable',
          `there is no ${where}: it was never set, its newest version was deleted, or \`mount\` is no KV version 2 engine`,
        )
      case 503:
        throw new Failure('unavailable', `${base} is sealed or in maintenance (status 503)`)
      default:
        throw new Failure('unavailable', `${where} can't be read (status ${answer.status})`)
    }
    const fields = objectOf(objectOf(answer.body['data'])?.['data'])
    if (fields === undefined)
      throw new Failure('unavailable', `${where} is no secret of a KV version 2 engine: check \`mount\``)
    const value = Object.hasOwn(fields, field) ? fields[field] : undefined
    if (value === undefined) throw new Failure('unavailable', `${where} has no field \`${field}\``)
    if (typeof value !== 'string' || value === '' || value.includes('\0') || Buffer.byteLength(value) > 65_536)
      throw new Failure('unavailable', `the field \`${field}\` of ${where} is no text of 1 to 65536 bytes`)
    return value
  }

  function refresh(entry: Entry): Promise<void> {
    entry.reading ??= (async () => {
      clearTimeout(entry.timer)
      const before = entry.value
      try {
        const askedAt = clock()
        entry.value = await read(entry.place)
        entry.readAt = askedAt
        delete entry.problem
      } catch (thrown) {
        entry.problem = Failure.from(thrown).message
      }
      // What can't be used any more is not kept.
      if (entry.value !== undefined && isOver(entry)) delete entry.value
      entry.reading = undefined
      if (isClosed || entries.get(placeName(entry.place)) !== entry) return
      entry.timer = setTimeout(
        () => void refresh(entry),
        entry.problem === undefined ? cache * refreshAt : Math.min(retryAfter, cache * refreshAt),
      )
      entry.timer.unref()
      if (entry.value !== before) changed()
    })()
    return entry.reading
  }

  const isOver = ({ readAt }: Entry): boolean => clock() - readAt >= cache

  function changed(): void {
    publish()
    for (const listener of listeners) listener()
  }

  function publish(): void {
    known = [
      ...[...entries.values()].flatMap(({ place, value }) =>
        value === undefined ? [] : [{ name: placeName(place), value }],
      ),
      ...[...credentials].map(([name, value]) => ({ name, value })),
    ]
  }

  /** What Sallyport signs in with is a secret like any other. */
  function signsInWith(name: string, value: string): string {
    if (value.length >= shortestSecret) credentials.set(name, value)
    publish()
    return value
  }

  return {
    async prepare(place) {
      const name = placeName(place)
      const entry = entries.get(name) ?? { place, readAt: -Infinity }
      entries.set(name, entry)
      if (entry.value === undefined || isOver(entry)) await refresh(entry)
      return entry.value === undefined ? (entry.problem ?? 'it was not read yet') : undefined
    },
    use(place) {
      const entry = entries.get(placeName(place))
      if (entry?.value !== undefined && !isOver(entry)) return entry.value
      throw new Failure(
        'unavailable',
        `${placeName(place)} can't be used: ${entry?.problem ?? 'it was read too long ago'}`,
      )
    },
    mark: (place) => {
      const value = entries.get(placeName(place))?.value
      return value === undefined ? '' : sha256(value)
    },
    values: () => known,
    keepOnly(places) {
      const wanted = new Set(places.map(placeName))
      const unwanted = [...entries].filter(([name]) => !wanted.has(name))
      for (const [name, { timer }] of unwanted) {
        clearTimeout(timer)
        entries.delete(name)
      }
      if (unwanted.length > 0) changed()
    },
    onChange: (listener) => void listeners.push(listener),
    async close() {
      isClosed = true
      for (const { timer } of entries.values()) clearTimeout(timer)
      // What was given out for this run alone is given back.
      if (auth.kind !== 'token' && token !== undefined)
        await ask('POST', 'auth/token/revoke-self', token.text, {}).catch(() => {})
      await agent.destroy().catch(() => {})
    },
  }
}

const objectOf = (value: Json | undefined): JsonObject | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined

const encodePath = (path: string): string => path.split('/').map(encodeURIComponent).join('/')

async function readToken(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (cause) {
    throw new Failure('unavailable', `the token of the service account ${file} can't be read${codeOf(cause)}`, {
      cause,
    })
  }
}

function codeOf(thrown: unknown): string {
  const { code, name } = (thrown ?? {}) as { readonly code?: unknown; readonly name?: unknown }
  if (name === 'TimeoutError') return ' in time'
  return typeof code === 'string' ? ` (${code})` : ''
}
