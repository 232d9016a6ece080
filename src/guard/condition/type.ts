import type { FactType, ScopeTypes } from '../../core/condition.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'

/** A type of the condition language. `dyn` is any JSON value, known only when the condition is evaluated. */
export type Type =
  | { readonly kind: 'string' | 'int' | 'double' | 'bool' | 'null' | 'timestamp' | 'duration' | 'dyn' }
  | { readonly kind: 'list'; readonly element: Type }
  | { readonly kind: 'map'; readonly value: Type }
  | ObjectType

/** An object whose fields are declared. */
export interface ObjectType {
  readonly kind: 'object'
  /** Declared names, for messages. */
  readonly names: readonly string[]
  /** The type of a field; undefined when there can be none of that name. */
  field(name: string): Type | undefined
}

export const string: Type = { kind: 'string' }
export const int: Type = { kind: 'int' }
export const double: Type = { kind: 'double' }
export const bool: Type = { kind: 'bool' }
export const nothing: Type = { kind: 'null' }
export const timestamp: Type = { kind: 'timestamp' }
export const duration: Type = { kind: 'duration' }
export const dyn: Type = { kind: 'dyn' }
export const listOf = (element: Type): Type => ({ kind: 'list', element })
export const mapOf = (value: Type): Type => ({ kind: 'map', value })

export const isNumeric = (type: Type): boolean => type.kind === 'int' || type.kind === 'double'

/** A type as people write it. */
export function show(type: Type): string {
  if (type.kind === 'list') return `list<${show(type.element)}>`
  if (type.kind === 'map') return `map<${show(type.value)}>`
  return type.kind
}

/** The one type that values of both have; undefined when there is none. */
export function join(left: Type, right: Type): Type | undefined {
  if (left === right) return left
  if (isNumeric(left) && isNumeric(right)) return left.kind === right.kind ? left : double
  if (isTime(left) || isTime(right)) return left.kind === right.kind ? left : undefined
  if (left.kind === 'dyn' || right.kind === 'dyn' || left.kind === 'null' || right.kind === 'null')
    return left.kind === right.kind ? left : dyn
  if (left.kind === 'list' && right.kind === 'list') {
    const element = join(left.element, right.element)
    return element && listOf(element)
  }
  if (isKeyed(left) && isKeyed(right)) return mapOf(dyn)
  return left.kind === right.kind ? left : undefined
}

/** Whether `==` between the two can ever hold. A point in time is not a JSON value, so it is never compared with `dyn`. */
export function comparable(left: Type, right: Type): boolean {
  if (isTime(left) || isTime(right)) return left.kind === right.kind
  if (left.kind === 'dyn' || right.kind === 'dyn') return true
  if (left.kind === 'list' && right.kind === 'list') return comparable(left.element, right.element)
  return left.kind === right.kind || (isNumeric(left) && isNumeric(right)) || (isKeyed(left) && isKeyed(right))
}

const isTime = (type: Type): boolean => type.kind === 'timestamp' || type.kind === 'duration'
export const isKeyed = (type: Type): boolean => type.kind === 'map' || type.kind === 'object'

/** The names that a condition may start with, and their types. */
export function variables(types: ScopeTypes): ReadonlyMap<string, Type> {
  const args = types.args === undefined ? dyn : typeOfSchema(types.args, types.args)
  return new Map<string, Type>([
    ['args', isKeyed(args) ? args : mapOf(dyn)],
    ['session', sessionType(types.facts)],
    [
      'flow',
      object(
        new Map([
          ['untrusted', bool],
          ['private', bool],
        ]),
      ),
    ],
    ['now', timestamp],
  ])
}

const factTypes: Readonly<Record<FactType, Type>> = {
  string,
  int,
  double,
  bool,
  timestamp,
  'list<string>': listOf(string),
  'list<int>': listOf(int),
}

function sessionType(facts: Readonly<Record<string, FactType>>): Type {
  const fields = new Map<string, Type>([
    ['id', string],
    ['agent', string],
    ['behalf', string],
    ['depth', int],
  ])
  for (const [name, kind] of Object.entries(facts)) {
    if (fields.has(name)) throw new Failure('invalid', `fact \`${name}\` has the name of a built-in: rename it`)
    if (!Object.hasOwn(factTypes, kind))
      throw new Failure(
        'invalid',
        `fact \`${name}\` has type \`${kind}\`: expected ${Object.keys(factTypes).join(', ')}`,
      )
    fields.set(name, factTypes[kind])
  }
  return object(fields)
}

const object = (fields: ReadonlyMap<string, Type>): Type => ({
  kind: 'object',
  names: [...fields.keys()],
  field: (name) => fields.get(name),
})

/** How many lists and maps may stand in one another before what is inside is `dyn`; a schema may nest without end. */
const maxNesting = 8

/** How many subschemas may describe one value before we stop looking and call it `dyn`. */
const maxParts = 64

/** Keywords under which fields may be declared that `properties` does not show, so that no name can be called wrong. */
const elsewhere = [
  'anyOf',
  'oneOf',
  'if',
  'then',
  'else',
  'dependentSchemas',
  'patternProperties',
  '$dynamicRef',
] as const

/**
 * The type of the values that a JSON Schema (2020-12) describes; `dyn` for what a type cannot say.
 *
 * A claim made here is checked again on each value when the condition is evaluated, so a wrong schema makes a
 * condition fail, never lie. `$ref` is followed inside the document only. Fields are read when a condition names them,
 * so a schema that refers to itself ends.
 */
function typeOfSchema(schema: Json, root: JsonObject, nesting = 0): Type {
  const parts = nesting < maxNesting ? gather(schema, root) : undefined
  if (parts === undefined) return dyn
  const has = (key: string): boolean => parts.some((part) => Object.hasOwn(part, key))
  switch (kindOf(parts)) {
    case 'string':
      return string
    case 'integer':
      return int
    case 'number':
      return double
    case 'boolean':
      return bool
    case 'null':
      return nothing
    case 'array': {
      const items = parts.filter((part) => Object.hasOwn(part, 'items')).map((part) => part.items as Json)
      return listOf(items.length === 1 && !has('prefixItems') ? typeOfSchema(items[0] as Json, root, nesting + 1) : dyn)
    }
    case 'object':
      return typeOfObject(parts, root, elsewhere.some(has), nesting)
    default:
      return dyn
  }
}

function typeOfObject(parts: readonly JsonObject[], root: JsonObject, open: boolean, nesting: number): Type {
  const declared = new Map<string, Json[]>()
  for (const { properties } of parts)
    if (isObject(properties))
      for (const [name, schema] of Object.entries(properties))
        declared.set(name, [...(declared.get(name) ?? []), schema])
  const rests = parts
    .flatMap(({ additionalProperties, unevaluatedProperties }) => [additionalProperties, unevaluatedProperties])
    .filter((rest) => rest !== undefined)
  const closed = rests.includes(false)
  const only = rests[0]
  const rest = !open && rests.length === 1 && isObject(only) ? typeOfSchema(only, root, nesting + 1) : dyn
  if (declared.size === 0 && !closed) return mapOf(rest)
  return {
    kind: 'object',
    names: [...declared.keys()],
    field(name) {
      const schemas = declared.get(name)
      if (schemas !== undefined)
        return typeOfSchema(schemas.length === 1 ? (schemas[0] as Json) : { allOf: schemas }, root)
      // JSON Schema lets undeclared names pass unless told otherwise, but a rule that reads one is a slip of the pen:
      // only a schema that speaks of further names makes them readable.
      return open || (rests.length > 0 && !closed) ? rest : undefined
    },
  }
}

/** All subschemas that hold at once: the schema, what it refers to, and its `allOf`. Undefined: cannot be known. */
function gather(schema: Json, root: JsonObject): JsonObject[] | undefined {
  const parts: JsonObject[] = []
  const waiting: Json[] = [schema]
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (!isObject(next) || parts.length === maxParts) return undefined
    if (parts.includes(next)) continue
    parts.push(next)
    if (next.$ref !== undefined) {
      const target = typeof next.$ref === 'string' ? resolve(next.$ref, root) : undefined
      if (target === undefined) return undefined
      waiting.push(target)
    }
    if (Array.isArray(next.allOf)) {
      if (next.allOf.length > maxParts) return undefined
      waiting.push(...(next.allOf as readonly Json[]))
    }
  }
  return parts
}

/** Follows a JSON Pointer fragment (RFC 6901) inside the document. */
function resolve(reference: string, root: JsonObject): Json | undefined {
  if (reference === '#') return root
  if (!reference.startsWith('#/')) return undefined
  let at: Json = root
  for (const step of reference.slice(2).split('/')) {
    let name: string
    try {
      name = decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~')
    } catch {
      return undefined
    }
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, name)) return undefined
    at = (at as JsonObject)[name] as Json
  }
  return at
}

/** The one JSON Schema type of the parts; undefined when there are several or none. */
function kindOf(parts: readonly JsonObject[]): string | undefined {
  const kinds = new Set<string>()
  for (const part of parts) {
    const kind = Array.isArray(part.type) && part.type.length === 1 ? (part.type[0] as Json) : part.type
    if (typeof kind === 'string') kinds.add(kind)
    else if (kind === undefined && (Object.hasOwn(part, 'const') || Array.isArray(part.enum))) {
      const values = Array.isArray(part.enum) ? (part.enum as readonly Json[]) : [part.const as Json]
      const found = new Set(values.map(kindOfValue))
      if (found.size === 1) kinds.add([...found][0] as string)
    }
  }
  if (kinds.has('integer')) kinds.delete('number')
  if (kinds.size === 1) return [...kinds][0]
  return kinds.size === 0 && parts.some((part) => isObject(part.properties)) ? 'object' : undefined
}

function kindOfValue(value: Json): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  return typeof value
}

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
