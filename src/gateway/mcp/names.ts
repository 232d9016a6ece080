import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import { sha256 } from '../../guard/digest.ts'

/**
 * How many servers look like one: names of tools and prompts become `<alias>__<name>`, addresses of resources
 * `<alias>+<uri>`. The alias comes from configuration, never from what a server calls itself.
 */

/** So that `mcp__gw__` and a name fit the 64 characters that the narrowest model API allows for a function. */
export const longestName = 54

/** A hash stands at the end of names that had to be changed. No other name ends so, hence no name can pose as one. */
const hashed = /--[0-9a-f]{10}$/

/** An alias starts a URI scheme and ends at the first `_` or `+`, so it begins with a letter and has neither. */
export const isAlias = (text: string): boolean => /^[a-z][a-z0-9-]{0,15}$/.test(text)

/** Fails with `invalid` for what `isAlias` doesn't take. */
export function checkAlias(text: string): string {
  if (isAlias(text)) return text
  const expected = '1 to 16 of a-z, 0-9 and `-`, beginning with a letter'
  throw new Failure(
    'invalid',
    `${JSON.stringify(text.slice(0, 40))} can not be the alias of an MCP server: expected ${expected}`,
  )
}

/**
 * The name under which agents see a server's tool or prompt: at most 54 of `A-Z a-z 0-9 _ -`. It depends on nothing but
 * its arguments, so it stays the same whatever else is there. A name that is too long or has other characters is
 * shortened, and told apart by a hash of the whole.
 */
export function federatedName(alias: string, name: string): string {
  const plain = `${alias}__${name}`
  if (/^[A-Za-z0-9_-]+$/.test(name) && plain.length <= longestName && !hashed.test(name)) return plain
  const suffix = `--${sha256(name).slice(0, 10)}`
  const room = longestName - alias.length - 2 - suffix.length
  return `${alias}__${name.slice(0, room).replace(/[^A-Za-z0-9_-]/g, '_')}${suffix}`
}

/** What one server calls something. */
export interface Origin {
  readonly alias: string
  readonly name: string
}

export interface Names {
  /** Where a name leads; undefined for one that was never given out. */
  originOf(federated: string): Origin | undefined
  /** In the order of their characters. */
  all(): readonly string[]
  /**
   * Names that would lead to two things: a server lists one twice, or made a hash collide. They lead nowhere, and
   * harm no other server.
   */
  readonly collisions: readonly string[]
}

/** The names of all servers' tools (or prompts). Fails with `conflict` if two servers have one alias. */
export function federate(servers: Iterable<{ readonly alias: string; readonly names: readonly string[] }>): Names {
  const origins = new Map<string, Origin>()
  const collisions = new Set<string>()
  const aliases = new Set<string>()
  for (const { alias, names } of servers) {
    checkAlias(alias)
    if (aliases.has(alias)) throw new Failure('conflict', `two MCP servers have the alias \`${alias}\``)
    aliases.add(alias)
    for (const name of names) {
      const federated = federatedName(alias, name)
      if (origins.has(federated)) collisions.add(federated)
      origins.set(federated, { alias, name })
    }
  }
  for (const name of collisions) origins.delete(name)
  return {
    originOf: (federated) => origins.get(federated),
    all: () => [...origins.keys()].sort(),
    collisions: [...collisions].sort(),
  }
}

/** Clients know these by their scheme (MCP Apps), so it has to stay in front. */
const appScheme = 'ui://'

/** The address under which agents see a server's resource. Works for URI templates (RFC 6570) too. */
export const federatedUri = (alias: string, uri: string): string =>
  uri.startsWith(appScheme) ? `${appScheme}${alias}+${uri.slice(appScheme.length)}` : `${alias}+${uri}`

/** What `federatedUri` was made from; undefined if it is no such address. Whether the alias exists isn't looked at. */
export function originOfUri(federated: string): { readonly alias: string; readonly uri: string } | undefined {
  const scheme = federated.startsWith(appScheme) ? appScheme : ''
  const end = federated.indexOf('+', scheme.length)
  if (end < 0) return undefined
  const alias = federated.slice(scheme.length, end)
  return isAlias(alias) ? { alias, uri: scheme + federated.slice(end + 1) } : undefined
}

/**
 * A server's result with every address of a resource in it as agents see it: in lists, templates, what was read,
 * links and embedded resources in the results of tools and in prompts. What is malformed stays as it is; structured
 * content is the tool's own and isn't touched.
 */
export function federatedResult(alias: string, method: string, result: JsonObject): JsonObject {
  switch (method) {
    case 'tools/list':
      return each(result, 'tools', (tool) =>
        at(tool, '_meta', (meta) => at(meta, 'ui', (ui) => uriAt(ui, 'resourceUri', alias))),
      )
    case 'tools/call':
      return each(result, 'content', (block) => federatedContent(alias, block))
    case 'prompts/get':
      return each(result, 'messages', (message) =>
        Array.isArray(message['content'])
          ? each(message, 'content', (block) => federatedContent(alias, block))
          : at(message, 'content', (block) => federatedContent(alias, block)),
      )
    case 'resources/list':
      return each(result, 'resources', (resource) => uriAt(resource, 'uri', alias))
    case 'resources/templates/list':
      return each(result, 'resourceTemplates', (template) => uriAt(template, 'uriTemplate', alias))
    case 'resources/read':
      return each(result, 'contents', (content) => uriAt(content, 'uri', alias))
    default:
      return result
  }
}

function federatedContent(alias: string, block: JsonObject): JsonObject {
  if (block['type'] === 'resource_link') return uriAt(block, 'uri', alias)
  if (block['type'] === 'resource') return at(block, 'resource', (resource) => uriAt(resource, 'uri', alias))
  return block
}

/** What `completion/complete` asks about, in the server's own words; undefined if it leads nowhere. */
export function originOfReference(
  prompts: Names,
  reference: JsonObject,
): { alias: string; reference: JsonObject } | undefined {
  const { type, name, uri } = reference
  if (type === 'ref/prompt' && typeof name === 'string') {
    const origin = prompts.originOf(name)
    return origin && { alias: origin.alias, reference: { ...reference, name: origin.name } }
  }
  if (type === 'ref/resource' && typeof uri === 'string') {
    const origin = originOfUri(uri)
    return origin && { alias: origin.alias, reference: { ...reference, uri: origin.uri } }
  }
  return undefined
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const uriAt = (object: JsonObject, key: string, alias: string): JsonObject => {
  const uri = object[key]
  return typeof uri === 'string' ? { ...object, [key]: federatedUri(alias, uri) } : object
}

const at = (object: JsonObject, key: string, change: (value: JsonObject) => JsonObject): JsonObject => {
  const value = object[key]
  return isObject(value) ? { ...object, [key]: change(value) } : object
}

const each = (object: JsonObject, key: string, change: (item: JsonObject) => JsonObject): JsonObject => {
  const list = object[key]
  return Array.isArray(list)
    ? { ...object, [key]: (list as readonly Json[]).map((item) => (isObject(item) ? change(item) : item)) }
    : object
}
