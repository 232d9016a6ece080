import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { Label } from '../core/label.ts'
import type { Effect } from '../core/permission.ts'
import { compileSchema } from '../guard/schema.ts'
import { duration, effect, headerName, readers, size, textRead, toolName, trust } from './forms.ts'
import { limitsOfHosts } from './limits.ts'
import { parseTemplate } from './reference.ts'
import type { Template } from './reference.ts'

// Resources of kind `http`: an API, and the few operations of it that agents may know.

/** A segment of a path: as it is written, or a place for one value (`{id}`), or for several segments (`{+path}`). */
export type PathSegment = string | { readonly name: string; readonly isRest: boolean }

/** What the body of a request is. */
export type Content =
  | { readonly kind: 'none' }
  /** `isFlat`: the members are arguments themselves; else the whole is the argument `body`. */
  | { readonly kind: 'json'; readonly schema: JsonObject; readonly isFlat: boolean }
  | { readonly kind: 'form'; readonly schema: JsonObject }
  | { readonly kind: 'multipart'; readonly schema: JsonObject; readonly files: Readonly<Record<string, FileSetting>> }
  | { readonly kind: 'upload'; readonly types: readonly string[]; readonly size: number }

export interface FileSetting {
  readonly types: readonly string[]
  readonly size: number
}

export interface OperationSettings {
  readonly method: string
  /** As it was written, without the query. */
  readonly template: string
  readonly path: readonly PathSegment[]
  readonly pathNames: readonly string[]
  /** The schema of the values in path and query together. */
  readonly parameters: JsonObject
  readonly content: Content
  /** Headers of a request that are passed on, in lower case. */
  readonly headers: readonly string[]
  readonly effect: Effect
  readonly label: Partial<Label>
  readonly description?: string
  readonly response: { readonly types: readonly string[]; readonly size: number; readonly time: number }
  /** Its request may open a WebSocket. `message` in bytes, `time` in milliseconds. */
  readonly websocket?: {
    readonly message: number
    readonly time: number
    readonly protocols?: readonly string[] | undefined
  }
  /** The schema of all arguments together: what conditions and lists of tools know. */
  readonly schema: JsonObject
}

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'] as const

const jsonSchema = z.record(z.string(), z.unknown()) as unknown as z.ZodType<JsonObject, JsonObject>
const valueName = z.string().regex(/^[\x21-\x7e]{1,100}$/, 'expected a name of at most 100 visible characters')
const mediaType = z
  .string()
  .regex(
    /^(?:\*|[a-z0-9!#$&^_.+-]{1,100})\/(?:\*(?:\+[a-z0-9.-]{1,60})?|[a-z0-9!#$&^_.+-]{1,100})$/,
    'expected a media type in small letters, such as `application/json` or `text/*`',
  )
const mediaTypes = z.array(mediaType).min(1).max(50)

const file = z.strictObject({
  types: mediaTypes.prefault(['*/*']).describe('Media types that it may have.'),
  size: size.prefault('10 MB').describe('How large it may be.'),
})

const response = z
  .strictObject({
    types: mediaTypes
      .prefault(['application/json', 'application/*+json', 'text/*'])
      .describe('Media types that an answer may have. Another one is refused.'),
    size: size.prefault('10 MB').describe('How large an answer may be, decoded. It is cut off there.'),
    time: duration.prefault('30 s').describe('How long a request may take, to the end of its answer.'),
  })
  .describe('What an answer may be.')
  .prefault({})

const mostMessage = 16_000_000
const mostOpen = 24 * 3_600_000

const boundsOfWebSocket = z.strictObject({
  message: size.prefault('1 MB').describe('How large a message may be, in each direction: at most 16 MB.'),
  time: duration.prefault('1 h').describe('How long it may be open: at most 24 h.'),
  protocols: z
    .array(z.string().regex(/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,200}$/, 'expected the name of a subprotocol'))
    .min(1)
    .max(20)
    .describe('Subprotocols that an agent may ask for. Any, unless said.')
    .optional(),
})
const websocket = z
  .union([z.literal(true).transform(() => boundsOfWebSocket.parse({})), boundsOfWebSocket], {
    error: 'expected `true`, or `{ message, time, protocols }`',
  })
  .describe('Its request may open a WebSocket. Without this every upgrade is refused.')

const operationKeys = {
  request: z
    .string()
    .min(1)
    .max(2000)
    .describe(
      'Method and path below the address: `POST /v1/refunds/{id}`. `{name}` is one segment, a last `{+name}` any number of them.',
    ),
  effect: effect.describe('What it does to the world.'),
  description: z.string().max(4000).describe('What agents are told of it, where it is a tool.'),
  path: z.record(valueName, jsonSchema).describe('JSON Schema of values in the path. Text, unless said.'),
  query: z
    .record(valueName, jsonSchema)
    .describe('JSON Schema of values in the query, by name; `"*"` opens it for others. What is not here is refused.'),
  required: z.array(valueName).max(100).describe('Values of the query, or of a form, that have to be there.'),
  body: jsonSchema.describe(
    'JSON Schema of a JSON body. Its members are arguments, and members that it does not name are refused unless `additionalProperties` opens it.',
  ),
  form: z
    .record(valueName, jsonSchema)
    .describe('JSON Schema of the values of a form (`application/x-www-form-urlencoded`), by name.'),
  multipart: z
    .strictObject({
      fields: z.record(valueName, jsonSchema).describe('JSON Schema of its texts, by name.').prefault({}),
      files: z.record(valueName, file).describe('Its files, by name.').prefault({}),
    })
    .describe('A body of several parts (`multipart/form-data`).'),
  upload: file.describe('A body that is passed on as it is.'),
  headers: z
    .array(headerName)
    .max(50)
    .describe('Headers of the request that are passed on, as `args.headers`. Never a credential.'),
  response,
  websocket,
  trust,
  readers,
}

const operationForm = z.strictObject({
  request: operationKeys.request.optional(),
  effect: operationKeys.effect.optional(),
  description: operationKeys.description.optional(),
  path: operationKeys.path.optional(),
  query: operationKeys.query.optional(),
  required: operationKeys.required.optional(),
  body: operationKeys.body.optional(),
  form: operationKeys.form.optional(),
  multipart: operationKeys.multipart.optional(),
  upload: operationKeys.upload.optional(),
  headers: operationKeys.headers.prefault([]),
  response: operationKeys.response,
  websocket: operationKeys.websocket.optional(),
  trust: operationKeys.trust.optional(),
  readers: operationKeys.readers.optional(),
})

/** An operation of a document: all that it says is in the document, save what only the operator knows. */
export interface DocumentedOperation {
  readonly kind: 'documented'
  readonly effect?: Effect | undefined
  readonly headers: readonly string[]
  readonly response: OperationSettings['response']
  readonly label: Partial<Label>
}

export type WrittenOperation = { readonly kind: 'written' } & OperationSettings

const operation = operationForm.transform((given, context): WrittenOperation | DocumentedOperation => {
  const refuse = (path: readonly (string | number)[], message: string): never => {
    context.issues.push({ code: 'custom', message, path: [...path], input: undefined })
    return z.NEVER
  }
  const headers = given.headers.map((name) => name.toLowerCase())
  for (const [position, name] of headers.entries()) {
    if (isCredentialHeader(name))
      refuse(['headers', position], 'a header that carries a credential or guides the connection is never passed on')
    if (headers.indexOf(name) !== position) refuse(['headers', position], 'this header stands twice')
  }
  const label = labelOf(given)
  if (given.request === undefined) {
    for (const key of [
      'path',
      'query',
      'required',
      'body',
      'form',
      'multipart',
      'upload',
      'description',
      'websocket',
    ] as const)
      if (given[key] !== undefined) refuse([key], `\`${key}\` goes with \`request\`; without it the document says it`)
    return { kind: 'documented', effect: given.effect, headers, response: given.response, label }
  }
  if (given.effect === undefined) return refuse([], '`effect` is missing')
  const contents = (['body', 'form', 'multipart', 'upload'] as const).filter((key) => given[key] !== undefined)
  if (contents.length > 1)
    return refuse(
      [contents[1] ?? ''],
      `expected either \`${contents[0]}\` or \`${contents[1]}\`: a request has one body`,
    )
  try {
    const made = describeOperation({
      request: given.request,
      path: given.path ?? {},
      query: given.query ?? {},
      required: given.required ?? [],
      content: contentOf(given),
      headers,
    })
    if (given.websocket !== undefined && made.method !== 'GET')
      refuse(['websocket'], `a WebSocket is opened by a \`GET\`, and this is a ${made.method}`)
    if ((given.websocket?.message ?? 1) > mostMessage || given.websocket?.message === 0)
      refuse(['websocket', 'message'], 'expected a size of at most 16 MB')
    if ((given.websocket?.time ?? 1) > mostOpen || given.websocket?.time === 0)
      refuse(['websocket', 'time'], 'expected a time of at most 24 h')
    return {
      kind: 'written',
      ...made,
      headers,
      effect: given.effect,
      label,
      response: given.response,
      ...(given.websocket === undefined ? {} : { websocket: given.websocket }),
      ...(given.description === undefined ? {} : { description: given.description }),
    }
  } catch (thrown) {
    if (thrown instanceof OperationProblem) return refuse(thrown.path, thrown.message)
    throw thrown
  }
})

const labelOf = (given: {
  readonly trust?: Label['trust'] | undefined
  readonly readers?: Label['readers'] | undefined
}): Partial<Label> => ({
  ...(given.trust === undefined ? {} : { trust: given.trust }),
  ...(given.readers === undefined ? {} : { readers: given.readers }),
})

type GivenContent = Pick<z.output<typeof operationForm>, 'body' | 'form' | 'multipart' | 'upload'>

function contentOf({ body, form, multipart, upload }: GivenContent): Content {
  if (body !== undefined) return { kind: 'json', schema: body, isFlat: isPlainObject(body) }
  if (form !== undefined) return { kind: 'form', schema: fieldsOf(form) }
  if (multipart !== undefined) return { kind: 'multipart', schema: fieldsOf(multipart.fields), files: multipart.files }
  return upload === undefined ? { kind: 'none' } : { kind: 'upload', ...upload }
}

/** Headers that carry credentials, guide the connection, or say who is on the way: never an agent's to set. */
const credentialHeaders: ReadonlySet<string> = new Set([
  'authorization',
  'cookie',
  'cookie2',
  'set-cookie',
  'x-api-key',
  'api-key',
  'x-auth-token',
  'x-access-token',
  'x-csrf-token',
  'host',
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'content-length',
  'content-encoding',
  'content-type',
  'expect',
  'forwarded',
  'via',
  'x-real-ip',
  'x-client-ip',
  'true-client-ip',
  'x-original-url',
  'x-rewrite-url',
  'x-http-method',
  'x-http-method-override',
  'x-method-override',
  'accept-encoding',
  'origin',
  'referer',
  'http2-settings',
])
export const isCredentialHeader = (name: string): boolean =>
  credentialHeaders.has(name) ||
  /^(?:proxy-|sec-|x-forwarded|x-amz-security|x-goog-iam|x-aws-ec2-metadata|metadata)/.test(name)

/** Something wrong with an operation, and where in it. */
export class OperationProblem extends Error {
  readonly path: readonly (string | number)[]

  constructor(path: readonly (string | number)[], message: string) {
    super(message)
    this.path = path
  }
}

export interface DescribedOperation {
  readonly request: string
  readonly path: Readonly<Record<string, JsonObject>>
  readonly query: Readonly<Record<string, JsonObject>>
  readonly required: readonly string[]
  readonly content: Content
  readonly headers: readonly string[]
}

type Described = Pick<
  OperationSettings,
  'method' | 'template' | 'path' | 'pathNames' | 'parameters' | 'content' | 'schema'
>

/** Puts the parts of an operation together. Fails with an `OperationProblem`. */
export function describeOperation({
  request,
  path,
  query,
  required,
  content: given,
  headers,
}: DescribedOperation): Described {
  const { method, template, segments } = readRequest(request)
  if (given.kind !== 'none' && (method === 'GET' || method === 'HEAD'))
    throw new OperationProblem(['request'], `a ${method} has no body`)
  const pathNames = segments.flatMap((segment) => (typeof segment === 'string' ? [] : [segment.name]))
  for (const name of Object.keys(path))
    if (!pathNames.includes(name)) throw new OperationProblem(['path', name], `\`${template}\` has no \`{${name}}\``)
  const { '*': others, ...named } = query
  for (const name of pathNames)
    if (Object.hasOwn(named, name))
      throw new OperationProblem(['query', name], `\`${name}\` is in the path too: an argument has one place`)
  const fields = given.kind === 'form' || given.kind === 'multipart' ? propertiesOf(given.schema) : {}
  for (const [position, name] of required.entries())
    if (!Object.hasOwn(named, name) && !Object.hasOwn(fields, name))
      throw new OperationProblem(['required', position], `there is no value \`${name}\` in the query or in a form`)

  const parameters: JsonObject = {
    type: 'object',
    properties: { ...Object.fromEntries(pathNames.map((name) => [name, path[name] ?? { type: 'string' }])), ...named },
    required: [...new Set([...pathNames, ...required.filter((name) => Object.hasOwn(named, name))])],
    additionalProperties: others ?? false,
  }
  compiles(parameters, ['query'])
  const content: Content =
    given.kind === 'json' && given.isFlat
      ? { ...given, schema: closed(given.schema) }
      : given.kind === 'form' || given.kind === 'multipart'
        ? { ...given, schema: { ...given.schema, required: required.filter((name) => Object.hasOwn(fields, name)) } }
        : given
  const key = content.kind === 'json' ? 'body' : content.kind
  if ('schema' in content) compiles(content.schema, [key])

  const own = membersOf(content)
  const isOpenBody =
    'schema' in content &&
    (content.kind !== 'json' || content.isFlat) &&
    content.schema['additionalProperties'] !== false
  if (isOpenBody && others !== undefined)
    throw new OperationProblem(
      ['query', '*'],
      'query and body can’t both be open: nobody could tell where an argument belongs',
    )
  const taken = new Set(Object.keys(parameters['properties'] as JsonObject))
  const more: Record<string, Json> = headers.length === 0 ? {} : { headers: headersSchema(headers) }
  for (const name of Object.keys(own))
    if (taken.has(name) || Object.hasOwn(more, name))
      throw new OperationProblem([key], `\`${name}\` is an argument already, by the path, the query or the headers`)
  if (taken.has('headers') && headers.length > 0)
    throw new OperationProblem(['headers'], '`headers` is an argument already, by the path or the query')

  const bodySchema: JsonObject =
    'schema' in content && (content.kind !== 'json' || content.isFlat) ? content.schema : {}
  const schema: JsonObject = {
    type: 'object',
    properties: { ...(parameters['properties'] as JsonObject), ...own, ...more },
    required: [...(parameters['required'] as readonly string[]), ...requiredOf(content)],
    additionalProperties: others ?? (isOpenBody ? (bodySchema['additionalProperties'] ?? true) : false),
    ...(bodySchema['$defs'] === undefined ? {} : { $defs: bodySchema['$defs'] }),
    ...(bodySchema['definitions'] === undefined ? {} : { definitions: bodySchema['definitions'] }),
  }
  return { method, template, path: segments, pathNames, parameters, content, schema }
}

function compiles(schema: JsonObject, path: readonly string[]): void {
  try {
    compileSchema(schema)
  } catch (thrown) {
    throw new OperationProblem(path, Failure.from(thrown).message)
  }
}

const headersSchema = (headers: readonly string[]): JsonObject => ({
  type: 'object',
  properties: Object.fromEntries(headers.map((name) => [name, { type: 'string' }])),
  additionalProperties: false,
})

/** A file as an argument: what it is, and not what is in it. */
const fileSchema: JsonObject = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    type: { type: 'string' },
    bytes: { type: 'integer' },
    sha256: { type: 'string' },
  },
}

function membersOf(content: Content): JsonObject {
  switch (content.kind) {
    case 'none':
      return {}
    case 'upload':
      return { body: fileSchema }
    case 'json':
      return content.isFlat ? propertiesOf(content.schema) : { body: content.schema }
    case 'form':
      return propertiesOf(content.schema)
    case 'multipart': {
      const fields = propertiesOf(content.schema)
      for (const name of Object.keys(content.files))
        if (Object.hasOwn(fields, name))
          throw new OperationProblem(['multipart', 'files', name], 'a text has this name already')
      return { ...fields, ...Object.fromEntries(Object.keys(content.files).map((name) => [name, fileSchema])) }
    }
  }
}

function requiredOf(content: Content): readonly string[] {
  if (content.kind === 'upload' || (content.kind === 'json' && !content.isFlat)) return ['body']
  const names = 'schema' in content ? content.schema['required'] : undefined
  return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : []
}

const propertiesOf = ({ properties }: JsonObject): JsonObject => (isObject(properties) ? properties : {})

const fieldsOf = (properties: Readonly<Record<string, JsonObject>>): JsonObject => {
  const { '*': others, ...named } = properties
  return { type: 'object', properties: named, additionalProperties: others ?? false }
}

/** Keywords that a schema may have whose members can stand beside those of the path and the query. */
const plainKeywords: ReadonlySet<string> = new Set([
  'type',
  'properties',
  'required',
  'additionalProperties',
  '$defs',
  'definitions',
  'title',
  'description',
  '$schema',
  'example',
  'examples',
  'default',
])

/** Whether a schema is of an object with named members, and says nothing of the object as a whole. */
export const isPlainObject = (schema: JsonObject): boolean =>
  isObject(schema['properties']) &&
  (schema['type'] ?? 'object') === 'object' &&
  Object.keys(schema).every((key) => plainKeywords.has(key) || key.startsWith('x-'))

const closed = (schema: JsonObject): JsonObject => ({
  ...schema,
  type: 'object',
  additionalProperties: schema['additionalProperties'] ?? false,
})

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function readRequest(request: string): {
  readonly method: string
  readonly template: string
  readonly segments: readonly PathSegment[]
} {
  const [, method = '', template = ''] = /^([A-Z]+) +(\/[^\s?#]*)$/.exec(request.trim()) ?? []
  const refuse = (message: string): never => {
    throw new OperationProblem(['request'], message)
  }
  if (!(methods as readonly string[]).includes(method))
    refuse(`expected a method (${methods.join(', ')}) and a path, such as \`GET /v1/tickets/{id}\``)
  const parts = template.slice(1).split('/')
  const seen = new Set<string>()
  const segments = parts.map((part, position): PathSegment => {
    const [, plus, name] = /^\{(\+?)([A-Za-z_][A-Za-z0-9_-]{0,63})\}$/.exec(part) ?? []
    if (name !== undefined) {
      if (seen.has(name)) refuse(`\`{${name}}\` stands twice`)
      seen.add(name)
      if (plus === '+' && position !== parts.length - 1) refuse(`\`{+${name}}\` can only be the last segment`)
      return { name, isRest: plus === '+' }
    }
    if (part === '' && position !== parts.length - 1) refuse('the path has an empty segment')
    if (part === '.' || part === '..') refuse('the path has a segment of dots')
    // What is matched is compared decoded, so it is written decoded.
    if (!/^[A-Za-z0-9\-._~!$&'()*+,=:@]*$/.test(part))
      refuse(
        `\`${part}\` is no segment: a place for a value, such as \`{id}\`, is a whole segment, and nothing is encoded`,
      )
    return part
  })
  return { method, template, segments }
}

// The resource --------------------------------------------------------------------------------------------------------

const filled = textRead(parseTemplate)
const secretText = filled.describe('May hold `${secret:NAME}`, `${env:NAME}` and `${file:path}`.')

/** How the gateway proves to the API who it is. */
export type CredentialSettings =
  | { readonly kind: 'bearer'; readonly token: Template }
  | { readonly kind: 'header'; readonly name: string; readonly value: Template }
  | { readonly kind: 'basic'; readonly user: Template; readonly password: Template }
  | { readonly kind: 'query'; readonly name: string; readonly value: Template }
  | {
      readonly kind: 'oauth'
      readonly tokenUrl: string
      readonly clientId: Template
      readonly clientSecret: Template
      readonly scope?: string
      readonly revokeUrl?: string
      readonly isPerSession: boolean
    }

const credential = z
  .strictObject({
    bearer: secretText.describe('Sent as `Authorization: Bearer …`.').optional(),
    header: z
      .strictObject({ name: headerName.describe('Name of the header.'), value: secretText.describe('Its value.') })
      .describe('Sent as a header.')
      .optional(),
    basic: z
      .strictObject({ user: secretText.describe('The user.'), password: secretText.describe('The password.') })
      .describe('Sent as `Authorization: Basic …` (RFC 7617).')
      .optional(),
    query: z
      .strictObject({ name: valueName.describe('Name in the query.'), value: secretText.describe('Its value.') })
      .describe('Sent in the query. It ends up in logs of the API: only where there is no other way.')
      .optional(),
    oauth: z
      .strictObject({
        token_url: z.string().min(1).max(2000).describe('Where tokens are given out.'),
        client_id: secretText.describe('Who the gateway is there.'),
        client_secret: secretText.describe('What it proves that with.'),
        scope: z.string().min(1).max(1000).describe('What is asked for.').optional(),
        revoke_url: z
          .string()
          .min(1)
          .max(2000)
          .describe(
            'Where tokens are revoked (RFC 7009), at the host of `token_url`: those of a session when it ends, all others when Sallyport stops.',
          )
          .optional(),
        per: z
          .literal('session')
          .describe('Each session gets a token of its own, which ends with it. Without this, all share one.')
          .optional(),
      })
      .describe('A token by client credentials (RFC 6749 §4.4), kept until it ends.')
      .optional(),
  })
  .transform((given, context): CredentialSettings => {
    const kinds = Object.entries(given).filter(([, value]) => value !== undefined)
    if (kinds.length !== 1) {
      context.issues.push({
        code: 'custom',
        message: 'expected one of `bearer`, `header`, `basic`, `query`, `oauth`',
        input: undefined,
      })
      return z.NEVER
    }
    const { bearer, header, basic, query, oauth } = given
    if (bearer !== undefined) return { kind: 'bearer', token: bearer }
    if (header !== undefined) return { kind: 'header', ...header }
    if (basic !== undefined) return { kind: 'basic', ...basic }
    if (query !== undefined) return { kind: 'query', ...query }
    if (oauth === undefined) return z.NEVER // One of them is there.
    const {
      token_url: tokenUrl,
      client_id: clientId,
      client_secret: clientSecret,
      scope,
      revoke_url: revokeUrl,
    } = oauth
    // The client's secret goes there too: it is bound to one host.
    if (revokeUrl !== undefined && URL.parse(revokeUrl)?.origin !== URL.parse(tokenUrl)?.origin)
      context.issues.push({
        code: 'custom',
        message:
          'expected an address with the scheme, host and port of `token_url`, for the client’s secret goes to both',
        path: ['oauth', 'revoke_url'],
        input: undefined,
      })
    return {
      kind: 'oauth',
      tokenUrl,
      clientId,
      clientSecret,
      ...(scope === undefined ? {} : { scope }),
      ...(revokeUrl === undefined ? {} : { revokeUrl }),
      isPerSession: oauth.per === 'session',
    }
  })

export const httpResource = z.strictObject({
  http: textRead(parseBase).describe('Address of the API. Paths of operations are below it.'),
  credential: credential.describe('How the gateway proves who it is. Agents never see it.').optional(),
  operations: z
    .union([z.array(toolName).min(1).max(1000), z.record(toolName, operation)], {
      error: 'expected operations by name, or a list of ids of the document',
    })
    .describe(
      'What there is of the API, by the name that permissions use; with `openapi`, ids of the document. All else does not exist.',
    ),
  openapi: z
    .string()
    .min(1)
    .max(1000)
    .describe(
      'An OpenAPI 3 document (YAML or JSON), relative to this file, that describes operations without `request`.',
    )
    .optional(),
  addresses: z
    .array(
      z.string().regex(/^[0-9A-Fa-f.:]{2,45}(?:\/\d{1,3})?$/, 'expected an address or a network, such as `10.0.0.0/8`'),
    )
    .max(100)
    .describe(
      'Addresses that its host may have although they are private. None, unless the host is written as an address.',
    )
    .prefault([]),
  ca: z
    .string()
    .min(1)
    .max(1000)
    .describe(
      'A file of certificates (PEM), relative to this file, that alone may sign that of its host. Default: those that Node knows.',
    )
    .optional(),
  ports: z
    .array(z.int().min(1).max(65_535))
    .max(100)
    .describe('Ports that redirects may lead to beside 80, 443 and its own.')
    .prefault([]),
  redirects: z
    .union(
      [
        z.enum(['none', 'same-origin']),
        z
          .array(z.string().regex(/^[a-z0-9.-]{1,253}$/, 'expected a host name in small letters'))
          .min(1)
          .max(100),
      ],
      {
        error: 'expected `none`, `same-origin`, or a list of hosts',
      },
    )
    .default('none')
    .describe(
      'Which redirects of a GET are followed: none, those to itself, or also to these hosts, without the credential.',
    ),
  trust: trust.default('untrusted'),
  readers: readers.default('internal'),
  limits: limitsOfHosts,
})

export type HttpResourceSettings = z.output<typeof httpResource>

function parseBase(text: string): string {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:') || !/^https?:\/\/[^/]/i.test(text))
    throw new Failure('invalid', 'expected an address that begins with `https://` or `http://`')
  if (url.username !== '' || url.password !== '')
    throw new Failure('invalid', 'expected an address without a user name or password; credentials go in `credential`')
  if (url.hash !== '' || url.search !== '') throw new Failure('invalid', 'expected an address without `?` and `#`')
  if (/%|\/\/|\/\.{1,2}(?:\/|$)/.test(text.replace(/^https?:\/\//i, '')))
    throw new Failure('invalid', 'expected an address without encoded characters, empty segments or segments of dots')
  return `${url.origin}${url.pathname.replace(/\/$/, '')}`
}

/** Method and path with the names of its places left out: what tells requests of two operations apart. */
export const routeOf = ({ method, path }: Pick<OperationSettings, 'method' | 'path'>): string =>
  `${method} /${path.map((segment) => (typeof segment === 'string' ? segment : segment.isRest ? '{+}' : '{}')).join('/')}`

/** The texts of a credential that may hold references, by their keys in the file. */
export function templatesOf(credential: CredentialSettings | undefined): Readonly<Record<string, Template>> {
  switch (credential?.kind) {
    case 'bearer':
      return { bearer: credential.token }
    case 'header':
      return { 'header.value': credential.value }
    case 'basic':
      return { 'basic.user': credential.user, 'basic.password': credential.password }
    case 'query':
      return { 'query.value': credential.value }
    case 'oauth':
      return { 'oauth.client_id': credential.clientId, 'oauth.client_secret': credential.clientSecret }
    default:
      return {}
  }
}
