import { parse } from 'yaml'
import { Failure } from '../core/failure.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { Effect } from '../core/permission.ts'
import { describeOperation, isObject, isPlainObject, OperationProblem } from './http.ts'
import type { Content, DocumentedOperation, OperationSettings } from './http.ts'
import { problemsInWords } from './load.ts'
import type { LoadedSettings, SettingsProblem } from './load.ts'
import { didYouMean } from './nearest.ts'

// Operations that an OpenAPI document (3.0 or 3.1) describes: those that the configuration names, and no others.

/** What a document says of one operation. */
export interface Documented {
  readonly settings: OperationSettings
  /** All of it that counts: what is held to what was seen first. */
  readonly definition: JsonObject
}

/** By resource and id. */
export type Documents = ReadonlyMap<string, ReadonlyMap<string, Documented>>

const largestDocument = 16_000_000
const deepest = 100

/**
 * Reads the documents of all resources of kind `http`. Fails with `invalid`, listing what is wrong: a document that
 * can't be read, an id that is not in it, an operation that can't be offered, each with its place in the configuration.
 */
export async function readDocuments(
  loaded: LoadedSettings,
  readFile: (path: string) => Promise<string>,
): Promise<Documents> {
  const found = new Map<string, ReadonlyMap<string, Documented>>()
  const problems: SettingsProblem[] = []
  for (const [name, resource] of Object.entries(loaded.settings.resources)) {
    if (!('http' in resource) || resource.openapi === undefined) continue
    const path = ['resources', name]
    const wrong = (key: readonly (string | number)[], message: string): void =>
      void problems.push({ ...loaded.at([...path, ...key]), message })
    let document: JsonObject
    try {
      document = documentIn(
        await readFile(resource.openapi).catch((cause: unknown) => {
          throw new Failure('invalid', 'the document can’t be read', { cause })
        }),
      )
    } catch (thrown) {
      wrong(['openapi'], Failure.from(thrown).message)
      continue
    }
    const known = operationsIn(document)
    const wanted: readonly (readonly [string, string | number, DocumentedOperation])[] = Array.isArray(
      resource.operations,
    )
      ? resource.operations.map((id, position) => [id, position, plain] as const)
      : Object.entries(resource.operations).flatMap(([id, operation]) =>
          operation.kind === 'documented' ? [[id, id, operation] as const] : [],
        )
    const made = new Map<string, Documented>()
    for (const [id, key, given] of wanted) {
      const one = known.get(id)
      if (one === undefined) {
        wrong(['operations', key], `the document has no operation \`${id}\`${didYouMean(id, [...known.keys()])}`)
        continue
      }
      try {
        made.set(id, documented(document, one, id, given))
      } catch (thrown) {
        const message = thrown instanceof OperationProblem ? thrown.message : Failure.from(thrown).message
        wrong(['operations', key], `\`${id}\` can’t be offered: ${message}`)
      }
    }
    found.set(name, made)
  }
  if (problems.length > 0) throw new Failure('invalid', problemsInWords(loaded.file, problems))
  return found
}

const plain: DocumentedOperation = {
  kind: 'documented',
  headers: [],
  response: { types: ['application/json', 'application/*+json', 'text/*'], size: 10_000_000, time: 30_000 },
  label: {},
}

function documentIn(text: string): JsonObject {
  if (text.length > largestDocument)
    throw new Failure('invalid', `the document is larger than ${largestDocument / 1_000_000} MB`)
  let value: unknown
  try {
    value = /^\s*\{/.test(text) ? JSON.parse(text) : parse(text, { maxAliasCount: 100, schema: 'core' })
  } catch (cause) {
    throw new Failure('invalid', 'the document is neither YAML nor JSON', { cause })
  }
  if (!isObject(value) || typeof value['openapi'] !== 'string' || !/^3\.[01]\./.test(value['openapi']))
    throw new Failure('invalid', 'expected an OpenAPI document of version 3.0 or 3.1')
  return value
}

interface Found {
  readonly method: string
  readonly path: string
  readonly item: JsonObject
  readonly operation: JsonObject
}

const methods = ['get', 'head', 'post', 'put', 'patch', 'delete'] as const

function operationsIn({ paths }: JsonObject): ReadonlyMap<string, Found> {
  const found = new Map<string, Found>()
  for (const [path, item] of Object.entries(isObject(paths) ? paths : {}))
    for (const method of methods) {
      const operation = isObject(item) ? item[method] : undefined
      if (!isObject(item) || !isObject(operation)) continue
      const id = operation['operationId']
      if (typeof id === 'string') found.set(id, { method: method.toUpperCase(), path, item, operation })
    }
  return found
}

function documented(
  document: JsonObject,
  { method, path, item, operation }: Found,
  id: string,
  given: DocumentedOperation,
): Documented {
  const version = document['openapi']
  const is30 = typeof version === 'string' && version.startsWith('3.0')
  const read = (value: Json): JsonObject => {
    const made = inlined(document, value, is30, [], 0)
    if (!isObject(made)) throw new Failure('invalid', 'a schema is no object')
    return made
  }
  const parameters = parametersOf(document, item, operation)
  const inPath: Record<string, JsonObject> = {}
  const query: Record<string, JsonObject> = {}
  const required: string[] = []
  for (const { name, place, isRequired, schema, isJoined } of parameters) {
    if (place === 'path') inPath[name] = read(schema)
    if (place === 'query') {
      query[name] = isJoined ? { type: 'string' } : read(schema)
      if (isRequired) required.push(name)
    }
    if (place === 'cookie' && isRequired) throw new Failure('invalid', `it needs the cookie \`${name}\``)
  }
  const { content, fields } = contentIn(document, operation, read)
  const made = describeOperation({
    request: `${method} ${path}`,
    path: inPath,
    query,
    required: [...required, ...fields],
    content,
    headers: given.headers,
  })
  const effect: Effect = given.effect ?? (method === 'GET' || method === 'HEAD' ? 'read' : 'destroy')
  const description = [operation['summary'], operation['description']]
    .filter((text) => typeof text === 'string')
    .join('\n')
    .slice(0, 4_000)
  const settings: OperationSettings = {
    ...made,
    headers: given.headers,
    effect,
    label: given.label,
    response: given.response,
    ...(description === '' ? {} : { description }),
  }
  return {
    settings,
    definition: {
      name: id,
      request: `${method} ${path}`,
      ...(description === '' ? {} : { description }),
      inputSchema: made.schema,
      content: JSON.parse(JSON.stringify(made.content)) as Json,
    },
  }
}

interface Parameter {
  readonly name: string
  readonly place: Json | undefined
  readonly isRequired: boolean
  readonly schema: Json
  /** A list that is written as one text. */
  readonly isJoined: boolean
}

function parametersOf(document: JsonObject, item: JsonObject, operation: JsonObject): readonly Parameter[] {
  const all = new Map<string, Parameter>()
  for (const list of [item['parameters'], operation['parameters']])
    for (const entry of Array.isArray(list) ? (list as readonly Json[]) : []) {
      const parameter = resolved(document, entry)
      const { name, in: place, schema = {}, style, explode } = parameter
      if (typeof name !== 'string') throw new Failure('invalid', 'a parameter has no name')
      if (style === 'deepObject' || parameter['content'] !== undefined)
        throw new Failure('invalid', `the parameter \`${name}\` is written in a way that is not supported`)
      const isJoined = explode === false || (style !== undefined && style !== 'form' && style !== 'simple')
      all.set(`${JSON.stringify(place)} ${name}`, {
        name,
        place,
        isRequired: parameter['required'] === true,
        schema,
        isJoined,
      })
    }
  return [...all.values()]
}

function contentIn(
  document: JsonObject,
  operation: JsonObject,
  read: (value: Json) => JsonObject,
): { readonly content: Content; readonly fields: readonly string[] } {
  const body = operation['requestBody']
  if (body === undefined) return { content: { kind: 'none' }, fields: [] }
  const { content } = resolved(document, body)
  if (!isObject(content)) return { content: { kind: 'none' }, fields: [] }
  const types = Object.keys(content)
  const schemaOf = (type: string): JsonObject => {
    const entry = content[type]
    return isObject(entry) && entry['schema'] !== undefined ? read(entry['schema']) : {}
  }
  const json = types.find((type) => /^application\/(?:[a-z0-9.-]+\+)?json\b/i.test(type))
  if (json !== undefined) {
    const schema = schemaOf(json)
    return { content: { kind: 'json', schema, isFlat: isPlainObject(schema) }, fields: [] }
  }
  const form = types.find((type) => type === 'application/x-www-form-urlencoded')
  const multipart = types.find((type) => type === 'multipart/form-data')
  const type = form ?? multipart
  if (type === undefined)
    return {
      content: {
        kind: 'upload',
        types: types.map((each) => each.replace(/;.*$/s, '').toLowerCase()),
        size: 10_000_000,
      },
      fields: [],
    }
  const schema = schemaOf(type)
  const properties = isObject(schema['properties']) ? schema['properties'] : {}
  const isFile = (one: Json | undefined): boolean =>
    isObject(one) && (one['format'] === 'binary' || one['contentMediaType'] !== undefined)
  const files = Object.keys(properties).filter((name) => isFile(properties[name]))
  const texts = Object.fromEntries(Object.entries(properties).filter(([name]) => !files.includes(name)))
  const plainSchema: JsonObject = { type: 'object', properties: texts, additionalProperties: false }
  const needed = Array.isArray(schema['required']) ? schema['required'].filter((name) => typeof name === 'string') : []
  const fields = needed.filter((name) => Object.hasOwn(texts, name))
  if (form !== undefined && files.length > 0) throw new Failure('invalid', 'a form has files')
  if (form !== undefined) return { content: { kind: 'form', schema: plainSchema }, fields }
  return {
    content: {
      kind: 'multipart',
      schema: plainSchema,
      files: Object.fromEntries(files.map((name) => [name, { types: ['*/*'], size: 10_000_000 }])),
    },
    fields,
  }
}

/** What a reference leads to, inside the document alone. */
function resolved(document: JsonObject, value: Json): JsonObject {
  let at: Json | undefined = value
  for (let hop = 0; hop < 10; hop++) {
    if (!isObject(at)) break
    const { $ref } = at
    if (typeof $ref !== 'string') return at
    at = follow(document, $ref)
  }
  throw new Failure('invalid', 'a reference leads nowhere')
}

function follow(document: JsonObject, ref: string): Json | undefined {
  if (!ref.startsWith('#/')) throw new Failure('invalid', 'a reference leads out of the document')
  let at: Json | undefined = document
  for (const part of ref.slice(2).split('/')) {
    const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
    at = isObject(at) && Object.hasOwn(at, key) ? at[key] : undefined
  }
  return at
}

/** A schema with its references replaced by what they lead to. One that contains itself can't be. */
function inlined(document: JsonObject, value: Json, is30: boolean, open: readonly string[], depth: number): Json {
  if (depth > deepest) throw new Failure('invalid', `a schema nests deeper than ${deepest}`)
  if (Array.isArray(value)) return value.map((each: Json) => inlined(document, each, is30, open, depth + 1))
  if (!isObject(value)) return value
  const { $ref } = value
  if (typeof $ref === 'string') {
    if (open.includes($ref))
      throw new Failure('invalid', 'a schema contains itself: describe the operation in the configuration instead')
    const target = follow(document, $ref)
    if (target === undefined) throw new Failure('invalid', 'a reference leads nowhere')
    return inlined(document, target, is30, [...open, $ref], depth + 1)
  }
  const made: Record<string, Json> = {}
  for (const [key, inner] of Object.entries(value)) {
    if (isNote(key)) continue
    const go = (each: Json): Json => inlined(document, each, is30, open, depth + 1)
    if (isValue(key)) made[key] = inner
    else if (isByName(key) && isObject(inner))
      made[key] = Object.fromEntries(Object.entries(inner).map(([name, each]) => [name, go(each)]))
    else made[key] = go(inner)
  }
  return is30 ? modern(made) : made
}

/** What says nothing of values. */
const isNote = (key: string): boolean =>
  key.startsWith('x-') ||
  key === 'xml' ||
  key === 'externalDocs' ||
  key === 'discriminator' ||
  key === 'example' ||
  key === 'examples'

/** Keywords with values in them, which are no schemas whatever they look like. */
const isValue = (key: string): boolean =>
  key === 'enum' || key === 'const' || key === 'default' || key === 'required' || key === 'dependentRequired'

/** Keywords whose members are schemas by names of the author's. */
const isByName = (key: string): boolean =>
  key === 'properties' ||
  key === 'patternProperties' ||
  key === '$defs' ||
  key === 'definitions' ||
  key === 'dependentSchemas'

/** What OpenAPI 3.0 writes in another way than JSON Schema. */
function modern({ nullable, ...schema }: Record<string, Json>): JsonObject {
  const bounds = [
    ['minimum', 'exclusiveMinimum'],
    ['maximum', 'exclusiveMaximum'],
  ] as const
  // `exclusiveMinimum: true` says of `minimum` that it is not reached.
  const moved = bounds.flatMap(([bound, exclusive]): [string, Json][] =>
    schema[exclusive] === true && schema[bound] !== undefined ? [[exclusive, schema[bound]]] : [],
  )
  const dropped = bounds.flatMap(([bound, exclusive]) =>
    typeof schema[exclusive] !== 'boolean' ? [] : schema[exclusive] ? [bound, exclusive] : [exclusive],
  )
  const made: Record<string, Json> = Object.fromEntries([
    ...Object.entries(schema).filter(([key]) => !(dropped as string[]).includes(key)),
    ...moved,
  ])
  if (nullable !== true) return nullable === undefined || typeof nullable === 'boolean' ? made : { ...made, nullable }
  if (Array.isArray(made['enum']) && !made['enum'].includes(null)) made['enum'] = [...(made['enum'] as Json[]), null]
  return typeof made['type'] === 'string' ? { ...made, type: [made['type'], 'null'] } : made
}
