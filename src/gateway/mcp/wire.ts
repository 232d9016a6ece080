import type { IncomingHttpHeaders } from 'node:http'
import type { Json, JsonObject } from '../../core/json.ts'

// JSON-RPC 2.0 and the two generations of the Model Context Protocol, as far as both sides of the gateway share them.

export const modernVersion = '2026-07-28'
/** Revisions with `initialize` and sessions, newest first. */
export const legacyVersions: readonly [newest: string, ...older: string[]] = [
  '2025-11-25',
  '2025-06-18',
  '2025-03-26',
  '2024-11-05',
]

/** `legacy`: up to 2025-11-25, with sessions. `modern`: from 2026-07-28, each request on its own. */
export type Era = 'legacy' | 'modern'

/** Names in `_meta` that the modern protocol reserves. */
export const meta = {
  version: 'io.modelcontextprotocol/protocolVersion',
  capabilities: 'io.modelcontextprotocol/clientCapabilities',
  client: 'io.modelcontextprotocol/clientInfo',
  server: 'io.modelcontextprotocol/serverInfo',
  logLevel: 'io.modelcontextprotocol/logLevel',
  subscription: 'io.modelcontextprotocol/subscriptionId',
} as const

export const rpc = {
  parse: -32700,
  request: -32600,
  method: -32601,
  params: -32602,
  internal: -32603,
  legacyNotFound: -32002,
  headerMismatch: -32020,
  missingCapability: -32021,
  unsupportedVersion: -32022,
  /** Ours, outside of all that JSON-RPC and MCP reserve: refused by policy or by a person. */
  refused: -31403,
} as const

export type RequestId = string | number

/** An answer to a request that is an error. What it says may be seen by the other side. */
export class RpcError extends Error {
  readonly code: number
  readonly data: JsonObject | undefined

  constructor(code: number, message: string, data?: JsonObject) {
    super(message)
    this.name = 'RpcError'
    this.code = code
    this.data = data
  }
}

export interface RpcRequest {
  readonly kind: 'request'
  readonly id: RequestId
  readonly method: string
  readonly params: JsonObject
}
export interface RpcNotification {
  readonly kind: 'notification'
  readonly method: string
  readonly params: JsonObject
}
export type RpcResponse = { readonly kind: 'response'; readonly id: RequestId | null } & (
  | { readonly result: JsonObject; readonly error?: undefined }
  | {
      readonly error: { readonly code: number; readonly message: string; readonly data?: Json }
      readonly result?: undefined
    }
)
export type Message = RpcRequest | RpcNotification | RpcResponse

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isId = (value: unknown): value is RequestId =>
  (typeof value === 'string' && value.length <= 256) || (typeof value === 'number' && Number.isSafeInteger(value))

/** A JSON value as a message; undefined where it is none. Batches are none: the protocol dropped them. */
export function messageOf(value: Json): Message | undefined {
  if (!isObject(value) || value['jsonrpc'] !== '2.0') return undefined
  const { id, method, params } = value
  if (typeof method === 'string') {
    if (method.length > 256 || (params !== undefined && !isObject(params))) return undefined
    const held = params ?? {}
    if (!Object.hasOwn(value, 'id')) return { kind: 'notification', method, params: held }
    return isId(id) ? { kind: 'request', id, method, params: held } : undefined
  }
  const { result, error } = value
  if (isObject(result) && error === undefined && isId(id)) return { kind: 'response', id, result }
  if (isObject(error) && result === undefined && (id === null || isId(id)) && typeof error['message'] === 'string') {
    const { code, message, data } = error
    if (typeof code !== 'number') return undefined
    return { kind: 'response', id, error: { code, message, ...(data === undefined ? {} : { data }) } }
  }
  return undefined
}

/** The id that an error about an unreadable message can carry. */
export const idOf = (value: Json): RequestId | null => (isObject(value) && isId(value['id']) ? value['id'] : null)

export const resultText = (id: RequestId, result: JsonObject): string => JSON.stringify({ jsonrpc: '2.0', id, result })

export const errorText = (id: RequestId | null, { code, message, data }: RpcError): string =>
  JSON.stringify({ jsonrpc: '2.0', id, error: { code, message, ...(data === undefined ? {} : { data }) } })

export const metaOf = (params: JsonObject): JsonObject => (isObject(params['_meta']) ? params['_meta'] : {})

/** What a client said it can be asked for. */
export interface Capabilities {
  readonly elicitation?: JsonObject
  readonly sampling?: JsonObject
  readonly roots?: JsonObject
}

/** Only what servers can ask for; everything else that a client declares stays here. */
export function capabilitiesOf(declared: unknown): Capabilities {
  if (!isObject(declared)) return {}
  const kept: Record<string, JsonObject> = {}
  for (const name of ['elicitation', 'sampling', 'roots']) {
    const value = declared[name]
    if (isObject(value)) kept[name] = known(value)
  }
  return kept
}

const known = (value: JsonObject): JsonObject =>
  Object.fromEntries(
    ['form', 'url', 'tools', 'context'].filter((name) => isObject(value[name])).map((name) => [name, {}]),
  )

/** One question of a server to the client's person, model or files. */
export interface Question {
  readonly method: string
  readonly params: JsonObject
}

/** What of a question's demands was not declared; undefined where all was. */
export function missingFor({ method, params }: Question, declared: Capabilities): JsonObject | undefined {
  if (method === 'roots/list') return declared.roots === undefined ? { roots: {} } : undefined
  if (method === 'sampling/createMessage') {
    if (declared.sampling === undefined) return { sampling: {} }
    const withTools = params['tools'] !== undefined || params['toolChoice'] !== undefined
    return withTools && declared.sampling['tools'] === undefined ? { sampling: { tools: {} } } : undefined
  }
  const mode = params['mode'] === 'url' ? 'url' : 'form'
  const { elicitation } = declared
  if (elicitation === undefined) return { elicitation: { [mode]: {} } }
  // A bare `elicitation: {}` means forms, as it did before there were modes.
  const isBare = elicitation['form'] === undefined && elicitation['url'] === undefined
  return elicitation[mode] !== undefined || (mode === 'form' && isBare) ? undefined : { elicitation: { [mode]: {} } }
}

export const isQuestion = (method: string): boolean =>
  method === 'elicitation/create' || method === 'sampling/createMessage' || method === 'roots/list'

/** Which member of `params` the header `Mcp-Name` repeats (Streamable HTTP, Standard Request Headers). */
export const nameSource: ReadonlyMap<string, 'name' | 'uri'> = new Map([
  ['tools/call', 'name'],
  ['prompts/get', 'name'],
  ['resources/read', 'uri'],
])

/** An argument that an `Mcp-Param-*` header repeats. */
export interface HeaderParam {
  readonly header: string
  readonly path: readonly string[]
  readonly isNumber: boolean
}

/**
 * What `x-mcp-header` in an input schema declares. Fails with a text where a declaration breaks the rules: such a
 * tool must not be offered (Streamable HTTP, Schema Extension).
 */
export function headerParamsOf(schema: Json): readonly HeaderParam[] | string {
  const found: HeaderParam[] = []
  const seen = new Set<string>()
  let wrong: string | undefined

  function visit(node: Json, path: readonly string[], reachable: boolean, depth: number): void {
    if (wrong !== undefined || depth > 64) return
    if (Array.isArray(node)) {
      for (const each of node as readonly Json[]) visit(each, path, false, depth + 1)
      return
    }
    if (!isObject(node)) return
    const name = node['x-mcp-header']
    if (name !== undefined) {
      const { type } = node
      if (!reachable || path.length === 0) wrong = '`x-mcp-header` stands where it can’t be reached by names alone'
      else if (typeof name !== 'string' || !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/.test(name))
        wrong = '`x-mcp-header` is no header name'
      else if (type !== 'string' && type !== 'integer' && type !== 'boolean')
        wrong = '`x-mcp-header` is for texts, integers and booleans'
      else if (seen.has(name.toLowerCase())) wrong = `\`x-mcp-header\` names ${name} twice`
      else {
        seen.add(name.toLowerCase())
        found.push({ header: `mcp-param-${name.toLowerCase()}`, path, isNumber: type === 'integer' })
      }
    }
    for (const [key, child] of Object.entries(node)) {
      if (key === 'properties' && isObject(child))
        for (const [property, of] of Object.entries(child)) visit(of, [...path, property], reachable, depth + 1)
      else if (key !== 'default' && key !== 'const' && key !== 'enum' && key !== 'examples')
        visit(child, path, false, depth + 1)
    }
  }

  visit(schema, [], true, 0)
  return wrong ?? found
}

const sentinel = /^=\?base64\?((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)\?=$/

/** A mirrored header's value as text; undefined where it claims to be Base64 and is not. */
export function decodeHeader(value: string): string | undefined {
  if (!value.startsWith('=?base64?') || !value.endsWith('?=')) return value
  const encoded = sentinel.exec(value)?.[1]
  if (encoded === undefined) return undefined
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(encoded, 'base64'))
  } catch {
    return undefined
  }
}

/** A text as the value of a mirrored header: as it is where HTTP can carry it, else in Base64. */
export function encodeHeader(text: string): string {
  const isPlain = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(text) && !text.startsWith('=?base64?')
  return isPlain ? text : `=?base64?${Buffer.from(text).toString('base64')}?=`
}

const valueAt = (root: Json, path: readonly string[]): Json | undefined =>
  path.reduce<Json | undefined>(
    (node, key) => (isObject(node) && Object.hasOwn(node, key) ? node[key] : undefined),
    root,
  )

/** An argument as headers can repeat it; undefined for what they don't. */
function mirrored(args: JsonObject, path: readonly string[]): string | boolean | number | undefined {
  const value = valueAt(args, path)
  if (typeof value === 'string' || typeof value === 'boolean') return value
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined
}

/** The `Mcp-Param-*` headers that repeat these arguments. */
export function paramHeaders(params: readonly HeaderParam[], args: JsonObject): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const { header, path } of params) {
    const value = mirrored(args, path)
    if (value !== undefined) headers[header] = encodeHeader(`${value}`)
  }
  return headers
}

/** In what the headers of a call disagree with its arguments; undefined where they agree. */
export function paramMismatch(
  params: readonly HeaderParam[],
  args: JsonObject,
  headers: IncomingHttpHeaders,
): string | undefined {
  for (const { header, path, isNumber } of params) {
    const value = mirrored(args, path)
    if (value === undefined) continue
    const given = headers[header]
    if (typeof given !== 'string') return `the header ${header} is missing`
    const decoded = decodeHeader(given)
    const agrees =
      isNumber && decoded !== undefined && /^-?\d+(\.\d+)?$/.test(decoded)
        ? Number(decoded) === value
        : decoded === `${value}`
    if (!agrees) return `the header ${header} says something else than the body`
  }
  return undefined
}
