import type { Action, Problem } from '../../core/action.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import { printable } from '../../core/printable.ts'
import { cleanText } from '../../guard/hidden-text.ts'
import type { ArgumentSchema } from '../../guard/schema.ts'
import { definitionOf } from '../../guard/definition.ts'
import { federatedName, federatedUri } from './names.ts'
import type { Pinned, Standing } from '../../guard/pins.ts'
import type { McpResource } from './resource.ts'
import { headerParamsOf, isObject } from './wire.ts'
import type { HeaderParam } from './wire.ts'

/** A tool as it is offered to agents. */
export interface ToolOffer {
  readonly resource: McpResource
  /** As its server calls it. */
  readonly name: string
  /** As agents call it. */
  readonly shown: string
  readonly permission: Permission
  readonly effect: Effect
  readonly label: Label
  /** What agents are told of it; absent where nothing of it was ever accepted. */
  readonly listed: JsonObject | undefined
  readonly schema: JsonObject | undefined
  readonly input: { check(value: unknown): readonly Problem[] } | undefined
  readonly output: ArgumentSchema | undefined
  readonly headers: readonly HeaderParam[]
  readonly barred: Action['barred'] | undefined
}

export interface PromptOffer {
  readonly resource: McpResource
  readonly name: string
  readonly shown: string
  readonly listed: JsonObject | undefined
  readonly barred: Action['barred'] | undefined
}

/** A resource or a template of resources: `shown` and `uri` are addresses or patterns of addresses. */
export interface AddressOffer {
  readonly resource: McpResource
  readonly uri: string
  readonly shown: string
  readonly listed: JsonObject
}

/** What one server offers to clients of one kind. */
export interface Offered {
  readonly tools: readonly ToolOffer[]
  readonly prompts: readonly PromptOffer[]
  readonly resources: readonly AddressOffer[]
  readonly templates: readonly AddressOffer[]
  /** What was left out, and why. */
  readonly problems: readonly string[]
}

export const nothingOffered: Offered = { tools: [], prompts: [], resources: [], templates: [], problems: [] }

export interface OfferPorts {
  readonly pinned: Pinned
  readonly compile: (schema: unknown) => ArgumentSchema
}

export const promptPermission = (alias: string): Permission => `${alias}.prompts:get`
export const resourcePermission = (alias: string): Permission => `${alias}.resources:read`

/**
 * What agents are told: what has the type that it must have, since official clients drop a whole list for one member
 * that has not. The rest is dropped: pictures and pages from elsewhere would be loaded by the client, past the gateway,
 * and tasks are not supported.
 */
function pick(
  definition: JsonObject,
  types: Readonly<Record<string, 'string' | 'boolean' | 'number' | 'object'>>,
): Record<string, Json> {
  const isFine = (value: Json, type: string): boolean => (type === 'object' ? isObject(value) : typeof value === type)
  return Object.fromEntries(
    Object.entries(types).flatMap(([name, type]) => {
      const value = definition[name]
      return value !== undefined && isFine(value, type) ? [[name, value]] : []
    }),
  )
}

function listedTool(definition: JsonObject, shown: string): JsonObject {
  const { annotations } = definition
  const hints = {
    title: 'string',
    readOnlyHint: 'boolean',
    destructiveHint: 'boolean',
    idempotentHint: 'boolean',
    openWorldHint: 'boolean',
  } as const
  const told = pick(definition, {
    title: 'string',
    description: 'string',
    inputSchema: 'object',
    outputSchema: 'object',
  })
  return {
    ...cleaned(told),
    name: shown,
    ...(isObject(annotations) ? { annotations: cleaned(pick(annotations, hints)) } : {}),
  }
}

function listedPrompt(definition: JsonObject, shown: string): JsonObject {
  const taken = definition['arguments']
  const known = Array.isArray(taken)
    ? (taken as readonly Json[]).filter(isObject).filter(({ name }) => typeof name === 'string')
    : []
  const told = known.map((each) =>
    cleaned(pick(each, { name: 'string', title: 'string', description: 'string', required: 'boolean' })),
  )
  return {
    ...cleaned(pick(definition, { title: 'string', description: 'string' })),
    name: shown,
    ...(told.length === 0 ? {} : { arguments: told }),
  }
}

/** Reads a tool's definition. Fails with `invalid` where it is none that could be offered. */
export async function offerTool(resource: McpResource, definition: JsonObject, ports: OfferPorts): Promise<ToolOffer> {
  const { name } = definition
  if (typeof name !== 'string' || name.length === 0 || name.length > 128)
    throw new Failure('invalid', 'a tool has no name, or one of more than 128 characters')
  const held = definitionOf('tool', definition)
  const schema = held['inputSchema']
  if (!isObject(schema) || schema['type'] !== 'object')
    throw new Failure(
      'invalid',
      `\`${printable(name, { maxLength: 60 })}\` has no \`inputSchema\` of the type \`object\``,
    )
  const standing = await ports.pinned.hold(resource.alias, 'tool', name, held, resource.pins)
  const told = standing.kind === 'accepted' ? held : standing.shown
  const { alias } = resource
  const { effect, label } = resource.tools.get(name) ?? { effect: 'destroy' as const, label: resource.label }
  // An operation's name in policy has a plain form; a tool with another name is known by the name that agents see.
  const operation = /^[A-Za-z0-9_.\-/]+$/.test(name) ? name : federatedName(alias, name).slice(alias.length + 2)
  const shown = resource.prefix ? federatedName(alias, name) : plainName(alias, name)

  let barred: Action['barred'] = barredBy(standing)
  let input: ArgumentSchema | undefined
  let output: ArgumentSchema | undefined
  let headers: readonly HeaderParam[] = []
  try {
    const declared = headerParamsOf(schema)
    if (typeof declared === 'string') throw new Failure('invalid', declared)
    headers = declared
    input = ports.compile(schema)
    if (held['outputSchema'] !== undefined) output = ports.compile(held['outputSchema'])
  } catch (thrown) {
    barred ??= { code: 'unavailable', because: `\`${shown}\` can’t be used: ${Failure.from(thrown).message}` }
  }
  return {
    resource,
    name,
    shown,
    permission: `${alias}:${operation}`,
    effect: stricterEffect(effect, held['annotations']),
    label,
    listed: told === undefined || barred?.code === 'unavailable' ? undefined : listedTool(told, shown),
    schema,
    input,
    output,
    headers,
    barred,
  }
}

export async function offerPrompt(
  resource: McpResource,
  definition: JsonObject,
  ports: OfferPorts,
): Promise<PromptOffer> {
  const { name } = definition
  if (typeof name !== 'string' || name.length === 0 || name.length > 128)
    throw new Failure('invalid', 'a prompt has no name, or one of more than 128 characters')
  const held = definitionOf('prompt', definition)
  const standing = await ports.pinned.hold(resource.alias, 'prompt', name, held)
  const told = standing.kind === 'accepted' ? held : standing.shown
  const shown = resource.prefix ? federatedName(resource.alias, name) : plainName(resource.alias, name)
  return {
    resource,
    name,
    shown,
    listed: told === undefined ? undefined : listedPrompt(told, shown),
    barred: barredBy(standing),
  }
}

/** What a server calls its resources is data, and changes like data: it is not held to anything. */
export const offerResource = (resource: McpResource, definition: JsonObject): AddressOffer =>
  offerAddress(resource, definition, 'uri')

export async function offerTemplate(
  resource: McpResource,
  definition: JsonObject,
  ports: OfferPorts,
): Promise<AddressOffer | undefined> {
  const offer = offerAddress(resource, definition, 'uriTemplate')
  const standing = await ports.pinned.hold(resource.alias, 'template', offer.uri, definitionOf('template', definition))
  if (standing.kind === 'accepted') return offer
  return standing.shown === undefined ? undefined : offerAddress(resource, standing.shown, 'uriTemplate')
}

function offerAddress(resource: McpResource, definition: JsonObject, key: 'uri' | 'uriTemplate'): AddressOffer {
  const uri = definition[key]
  if (typeof uri !== 'string' || uri.length === 0 || uri.length > 2_000)
    throw new Failure('invalid', `a resource has no \`${key}\`, or one of more than 2,000 characters`)
  const shown = shownUri(resource, uri)
  const listed = cleaned(
    pick(definition, { name: 'string', title: 'string', description: 'string', mimeType: 'string', size: 'number' }),
  )
  return { resource, uri, shown, listed: { ...listed, name: listed['name'] ?? uri, [key]: shown } }
}

export const shownUri = ({ alias, prefix }: McpResource, uri: string): string =>
  prefix ? federatedUri(alias, uri) : uri

const plainName = (alias: string, name: string): string =>
  /^[A-Za-z0-9_.-]{1,64}$/.test(name) && !name.startsWith(ownPrefix) ? name : federatedName(alias, name)

/** Names of our own tools begin so; no server's do. */
export const ownPrefix = 'sallyport__'

const barredBy = (standing: Standing): Action['barred'] =>
  standing.kind === 'changed' ? { code: 'quarantined', because: standing.because } : undefined

/** What a server says of its tool can only make it stricter: `destructiveHint` is believed, `readOnlyHint` is not. */
export function stricterEffect(given: Effect, annotations: Json | undefined): Effect {
  if (!isObject(annotations)) return given
  if (annotations['destructiveHint'] === true && annotations['readOnlyHint'] !== true) return 'destroy'
  return given === 'read' && annotations['readOnlyHint'] === false ? 'write' : given
}

/** The definition without what a person can't see in its words, at every depth: schemas have descriptions too. */
function cleaned(definition: JsonObject): JsonObject {
  const walk = (value: Json, key: string, depth: number): Json => {
    if (typeof value === 'string') return key === 'description' || key === 'title' ? cleanText(value) : value
    if (depth > 100 || typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) return value.map((each: Json) => walk(each, key, depth + 1))
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, walk(each, name, depth + 1)]))
  }
  return walk(definition, '', 0) as JsonObject
}

/** What is wrong with the arguments of a call. */
export const problemsOf = ({ input }: Pick<ToolOffer, 'input'>, args: JsonObject): readonly Problem[] =>
  input?.check(args) ?? []
