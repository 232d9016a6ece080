import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AuditLog } from '../../core/audit.ts'
import type { FactValue } from '../../core/condition.ts'
import { Failure } from '../../core/failure.ts'
import type { Json } from '../../core/json.ts'
import type { SessionId } from '../../core/session.ts'
import type { Clock } from '../../guard/clock.ts'
import { sha256 } from '../../guard/digest.ts'
import { parseJson } from '../../guard/json.ts'
import type { LendRequest, Sessions } from '../../guard/sessions.ts'
import type { Tokens } from '../../guard/tokens.ts'

// Where agents lend to each other, and give up what they hold: an OAuth 2.0 token endpoint that knows token exchange
// alone (RFC 8693), revocation (RFC 7009), the public keys of signed tokens (RFC 7517), and the metadata by which
// clients find all of it (RFC 8414, RFC 9728).

export interface OAuthPorts {
  readonly authenticate: (credential: string) => Promise<SessionId>
  readonly sessions: Pick<Sessions, 'lend' | 'end' | 'get' | 'chain'>
  readonly tokens: Pick<Tokens, 'opaque' | 'signed' | 'keys'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  /** The address by which agents reach the listener. */
  readonly url: () => string
}

export interface OAuth {
  /** What answers, by path. */
  readonly routes: Readonly<Record<string, (req: IncomingMessage, res: ServerResponse) => Promise<void>>>
}

const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'
const accessToken = 'urn:ietf:params:oauth:token-type:access_token'
const jwt = 'urn:ietf:params:oauth:token-type:jwt'
const mostBody = 64 * 1024
/** The type of our entries in `authorization_details` (RFC 9396). */
const detailsType = 'sallyport'

/** The request can't be granted: answered as RFC 6749 §5.2 says. */
class OAuthError extends Error {
  readonly error: string
  readonly status: number

  constructor(error: string, message: string, status = 400) {
    super(message)
    this.error = error
    this.status = status
  }
}

export function createOAuth({ authenticate, sessions, tokens, audit, clock, url }: OAuthPorts): OAuth {
  async function exchangeToken(
    req: IncomingMessage,
    res: ServerResponse,
    known: (session: SessionId) => void,
  ): Promise<void> {
    const form = await formOf(req)
    if (form.get('grant_type') !== exchange) throw new OAuthError('unsupported_grant_type', `expected \`${exchange}\``)
    // A JWT unless asked for otherwise: it has the chain of who acts for whom in it.
    const wanted = form.get('requested_token_type') ?? jwt
    if (wanted !== accessToken && wanted !== jwt)
      throw new OAuthError('invalid_request', '`requested_token_type` has to be that of an access token or a JWT')
    const lender = await sessionOf(form, 'subject')
    known(lender)
    const request: LendRequest = { ...narrowing(form), agent: await agentOf(form) }

    const opaque = wanted === accessToken ? tokens.opaque() : undefined
    const session = await sessions.lend(lender, {
      ...request,
      ...(opaque === undefined ? {} : { tokenDigest: sha256(opaque) }),
    })
    const scope = (session.only ?? []).map(({ do: text }) => text)
    const token = opaque ?? (await tokens.signed(sessions.chain(session.id), scope))
    answer(res, 200, {
      access_token: token,
      issued_token_type: wanted,
      token_type: 'Bearer',
      expires_in: Math.max(0, Math.floor((session.deadline - clock()) / 1000)),
      ...(scope.length === 0 ? {} : { scope: scope.join(' ') }),
    })
  }

  /** The agent that is lent to: whose token is the `actor_token`, or the one that is named. */
  async function agentOf(form: URLSearchParams): Promise<string> {
    const named = form.get('agent')
    if (form.get('actor_token') === null) {
      if (named === null)
        throw new OAuthError(
          'invalid_request',
          'say whom to lend to: `agent` with its name, or its token as `actor_token`',
        )
      return named
    }
    const agent = sessions.get(await sessionOf(form, 'actor'))?.agent
    if (agent === undefined || (named !== null && named !== agent))
      throw new OAuthError('invalid_request', '`actor_token` is not of the agent that `agent` names')
    return agent
  }

  async function sessionOf(form: URLSearchParams, whose: 'subject' | 'actor'): Promise<SessionId> {
    const [token, type] = [form.get(`${whose}_token`), form.get(`${whose}_token_type`)]
    if (token === null) throw new OAuthError('invalid_request', `\`${whose}_token\` is missing`)
    if (type !== accessToken && type !== jwt)
      throw new OAuthError('invalid_request', `\`${whose}_token_type\` has to be \`${accessToken}\``)
    try {
      return await authenticate(token)
    } catch (thrown) {
      if (Failure.from(thrown).code !== 'unauthenticated') throw thrown
      throw new OAuthError('invalid_grant', `\`${whose}_token\` is unknown, or its session is over`)
    }
  }

  async function revoke(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const token = (await formOf(req)).get('token')
    if (token === null) throw new OAuthError('invalid_request', '`token` is missing')
    // Whoever has the token may end its session. One that is unknown is as good as revoked (RFC 7009 §2.2).
    const session = await authenticate(token).catch((thrown: unknown) => {
      if (Failure.from(thrown).code === 'unauthenticated') return undefined
      throw thrown
    })
    if (session !== undefined) await sessions.end([session], 'its token was given back', `session:${session}`)
    answer(res, 200, {})
  }

  const get =
    (make: () => Json) =>
    async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
      if (req.method !== 'GET' && req.method !== 'HEAD') return void res.writeHead(405, { allow: 'GET' }).end()
      answer(res, 200, make())
    }

  const post =
    (run: (req: IncomingMessage, res: ServerResponse, known: (session: SessionId) => void) => Promise<void>) =>
    async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
      if (req.method !== 'POST') return void res.writeHead(405, { allow: 'POST' }).end()
      let session: SessionId | undefined
      try {
        await run(req, res, (id) => (session = id))
      } catch (thrown) {
        const refused = thrown instanceof OAuthError ? thrown : fromFailure(Failure.from(thrown))
        audit
          .append({
            type: 'token.refused',
            at: clock(),
            error: refused.error,
            because: refused.message.slice(0, 300),
            ...(session === undefined ? {} : { session, agent: sessions.get(session)?.agent }),
          })
          .done.catch(() => {})
        if (!req.complete) res.setHeader('connection', 'close')
        answer(res, refused.status, { error: refused.error, error_description: refused.message })
      }
    }

  const resource = get(() => ({
    resource: `${url()}/mcp`,
    authorization_servers: [url()],
    bearer_methods_supported: ['header'],
    resource_name: 'Sallyport',
  }))

  return {
    routes: {
      '/oauth/token': post(exchangeToken),
      '/oauth/revoke': post(revoke),
      '/oauth/jwks': get(() => tokens.keys() as unknown as Json),
      '/.well-known/oauth-protected-resource': resource,
      '/.well-known/oauth-protected-resource/mcp': resource,
      '/.well-known/oauth-authorization-server': get(() => ({
        issuer: url(),
        token_endpoint: `${url()}/oauth/token`,
        token_endpoint_auth_methods_supported: ['none'],
        revocation_endpoint: `${url()}/oauth/revoke`,
        revocation_endpoint_auth_methods_supported: ['none'],
        jwks_uri: `${url()}/oauth/jwks`,
        grant_types_supported: [exchange],
        response_types_supported: [],
        authorization_details_types_supported: [detailsType],
      })),
    },
  }
}

function answer(res: ServerResponse, status: number, body: Json): void {
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' }).end(JSON.stringify(body))
}

function fromFailure({ code, message }: Failure): OAuthError {
  switch (code) {
    case 'unauthenticated':
      return new OAuthError('invalid_grant', message)
    case 'forbidden':
      return new OAuthError('invalid_scope', message)
    case 'invalid':
    case 'not_found':
    case 'too_large':
      return new OAuthError('invalid_request', message)
    case 'limited':
      return new OAuthError('temporarily_unavailable', message, 429)
    default:
      return new OAuthError('server_error', message, code === 'unavailable' ? 503 : 500)
  }
}

/** A form, each parameter at most once (RFC 6749 §3.2). */
async function formOf(req: IncomingMessage): Promise<URLSearchParams> {
  const type = (req.headers['content-type'] ?? '').replace(/;.*$/s, '').trim().toLowerCase()
  if (type !== 'application/x-www-form-urlencoded')
    throw new OAuthError('invalid_request', '`Content-Type` has to be application/x-www-form-urlencoded')
  const form = new URLSearchParams((await readBody(req, mostBody)).toString('utf8'))
  const names = [...form.keys()]
  if (new Set(names).size !== names.length) throw new OAuthError('invalid_request', 'a parameter stands there twice')
  return form
}

/** What of the lender's permissions is lent, and for how long: `scope`, `expires_in`, or `authorization_details`. */
function narrowing(form: URLSearchParams): Omit<LendRequest, 'agent'> {
  const scope = form.get('scope')
  const details = form.get('authorization_details')
  const lasts = form.get('expires_in')
  if (scope !== null && details !== null)
    throw new OAuthError('invalid_request', 'either `scope` or `authorization_details`')
  if (lasts !== null && !/^\d{1,9}$/.test(lasts))
    throw new OAuthError('invalid_request', '`expires_in` has to be a number of seconds')
  return {
    ...(scope === null
      ? {}
      : {
          only: scope
            .split(' ')
            .filter(Boolean)
            .map((text) => ({ do: text })),
        }),
    ...(details === null ? {} : detailsOf(details)),
    ...(lasts === null ? {} : { lasts: Number(lasts) * 1000 }),
  }
}

/** `[{ "type": "sallyport", "only": [{ "do", "when" }], "facts": { }, "limits": { } }]` */
function detailsOf(text: string): Pick<LendRequest, 'only' | 'facts' | 'limits'> {
  const wrong = (what: string): never => {
    throw new OAuthError('invalid_request', `\`authorization_details\` ${what}`)
  }
  const list = parseJson(text, { maxBytes: mostBody, maxDepth: 8, maxKeys: 1_000 })
  const [entry, ...more] = Array.isArray(list) ? (list as readonly Json[]) : wrong('has to be a list')
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry) || more.length > 0)
    return wrong('has to have one entry')
  const { type, only, facts, limits, ...unknown } = entry as Readonly<Record<string, Json>>
  if (type !== detailsType) return wrong(`has to be of the type \`${detailsType}\``)
  if (Object.keys(unknown).length > 0) return wrong(`can’t have \`${Object.keys(unknown)[0]}\``)
  const isRecord = (value: Json | undefined): value is Readonly<Record<string, Json>> =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
  const isPermission = (value: Json): boolean =>
    isRecord(value) &&
    typeof value['do'] === 'string' &&
    (value['when'] === undefined || typeof value['when'] === 'string') &&
    Object.keys(value).every((key) => key === 'do' || key === 'when')
  if (
    only !== undefined &&
    !(Array.isArray(only) && only.length <= 1_000 && (only as readonly Json[]).every(isPermission))
  )
    return wrong('`only` has to be a list of `{ do, when }`')
  if (facts !== undefined && !isRecord(facts)) return wrong('`facts` has to be an object')
  if (limits !== undefined && !(isRecord(limits) && Object.values(limits).every((value) => typeof value === 'string')))
    return wrong('`limits` has to be an object of texts')
  return {
    ...(only === undefined ? {} : { only }),
    ...(facts === undefined ? {} : { facts: facts as Readonly<Record<string, FactValue>> }),
    ...(limits === undefined ? {} : { limits: limits as Readonly<Record<string, string>> }),
  }
}

async function readBody(req: IncomingMessage, most: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of req) {
    bytes += (chunk as Buffer).length
    if (bytes > most) throw new OAuthError('invalid_request', `the body is larger than ${most} bytes`, 413)
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks)
}
