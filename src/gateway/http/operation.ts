import type { Problem } from '../../core/action.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Permission } from '../../core/permission.ts'
import type { ArgumentSchema } from '../../guard/schema.ts'
import { isObject } from './resource.ts'
import type { HttpResource, OperationDescription } from './resource.ts'
import { segmentProblem } from './target.ts'

/** An operation, ready to be matched and checked. */
export interface Operation extends OperationDescription {
  readonly name: string
  readonly permission: Permission
  /** What is wrong with arguments. */
  check(args: JsonObject): readonly Problem[]
}

/** A request of the operation, without its body, as its arguments say it. */
export interface Composed {
  /** Begins with `/`. */
  readonly path: string
  /** Without `?`; may be empty. */
  readonly query: string
  readonly headers: Readonly<Record<string, string>>
  /** The value of a JSON body or the fields of a form; undefined where nothing is sent. */
  readonly body: Json | undefined
}

/** Compiles an operation. Fails with `invalid` where its schemas do not compile. */
export function compileOperation(
  alias: string,
  name: string,
  given: OperationDescription,
  credential: HttpResource['credential'],
  compile: (schema: unknown) => ArgumentSchema,
): Operation {
  const parameters = compile(given.parameters)
  const content = 'schema' in given.content ? compile(given.content.schema) : undefined
  const ownQuery = credential.kind === 'query' ? credential.name : undefined
  if (ownQuery !== undefined && Object.hasOwn(propertiesOf(given.parameters), ownQuery))
    throw new Failure(
      'invalid',
      `\`${alias}:${name}\`: \`${ownQuery}\` in the query is the credential's, and no argument`,
    )

  function check(args: JsonObject): readonly Problem[] {
    const { inParameters, inBody, headers } = split(given, args)
    const found: Problem[] = [...parameters.check(inParameters)]
    if (ownQuery !== undefined && Object.hasOwn(inParameters, ownQuery))
      found.push({ path: `/${ownQuery}`, message: `\`/${ownQuery}\` is no argument` })
    for (const each of given.pathNames) {
      const wrong = pathProblem(given, each, args[each])
      if (wrong !== undefined) found.push({ path: `/${each}`, message: `\`/${each}\` ${wrong}` })
    }
    for (const each of Object.keys(inParameters))
      if (!isSendable(inParameters[each]))
        found.push({ path: `/${each}`, message: `\`/${each}\` must be a text, a number, a boolean, or a list of them` })
    const isWhole = given.content.kind === 'json' && !given.content.isFlat
    const prefix = isWhole ? '/body' : ''
    if (isWhole && inBody === undefined) found.push({ path: '/body', message: '`/body` is required, but missing' })
    else if (content !== undefined)
      for (const { path, message } of content.check(inBody ?? {}))
        found.push({ path: `${prefix}${path}`, message: isWhole ? `in \`body\`: ${message}` : message })
    if (given.content.kind === 'multipart' || given.content.kind === 'upload') found.push(...fileProblems(given, args))
    for (const [each, value] of Object.entries(headers))
      if (!given.headers.includes(each))
        found.push({ path: `/headers/${each}`, message: `\`/headers/${each}\` is not passed on` })
      else if (typeof value !== 'string' || !/^[\x20-\x7e]{0,2000}$/.test(value))
        found.push({
          path: `/headers/${each}`,
          message: `\`/headers/${each}\` must be a text of at most 2,000 visible characters`,
        })
    return found.slice(0, 8)
  }

  return { ...given, name, permission: `${alias}:${name}`, check }
}

/** Tells apart which argument belongs where. Every argument has one place. */
function split(operation: OperationDescription, args: JsonObject) {
  const { content, parameters } = operation
  const known = propertiesOf(parameters)
  const files = content.kind === 'multipart' ? Object.keys(content.files) : []
  const isFields =
    content.kind === 'form' || content.kind === 'multipart' || (content.kind === 'json' && content.isFlat)
  const bodyNames = isFields ? propertiesOf(content.schema) : {}
  const isOpenQuery = parameters['additionalProperties'] !== false
  const inParameters: Record<string, Json> = {}
  const fields: Record<string, Json> = {}
  let headers: JsonObject = {}
  for (const [name, value] of Object.entries(args)) {
    if (name === 'headers' && operation.headers.length > 0) {
      headers = isObject(value) ? value : { headers: value }
    } else if (
      files.includes(name) ||
      (name === 'body' && (content.kind === 'upload' || (content.kind === 'json' && !content.isFlat)))
    )
      continue
    else if (Object.hasOwn(known, name)) inParameters[name] = value
    else if (isFields && (Object.hasOwn(bodyNames, name) || !isOpenQuery)) fields[name] = value
    else inParameters[name] = value
  }
  const inBody: Json | undefined = isFields ? fields : content.kind === 'json' ? args['body'] : undefined
  return { inParameters, inBody, headers }
}

const propertiesOf = (schema: JsonObject): JsonObject => (isObject(schema['properties']) ? schema['properties'] : {})

const isScalar = (value: Json | undefined): value is string | number | boolean =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
const isSendable = (value: Json | undefined): boolean =>
  isScalar(value) || (Array.isArray(value) && value.every((each: Json) => isScalar(each)))

/** A value as it is written into an address. Fails for what is none: it was checked before. */
function textOf(value: Json | undefined): string {
  if (!isScalar(value)) throw new Failure('internal', 'a value that can’t be written into a request was not refused')
  return String(value)
}

function pathProblem({ path }: OperationDescription, name: string, value: Json | undefined): string | undefined {
  if (value === undefined) return undefined // The schema says so.
  if (!isScalar(value)) return 'must be a text, a number or a boolean'
  const isRest = path.some((segment) => typeof segment !== 'string' && segment.name === name && segment.isRest)
  if (!isRest) return segmentProblem(textOf(value))
  return textOf(value)
    .split('/')
    .map(segmentProblem)
    .find((wrong) => wrong !== undefined)
}

function fileProblems({ content }: OperationDescription, args: JsonObject): Problem[] {
  const files = content.kind === 'upload' ? ['body'] : content.kind === 'multipart' ? Object.keys(content.files) : []
  return files.flatMap((name): Problem[] => {
    const value = args[name]
    if (value === undefined)
      return content.kind === 'upload' ? [{ path: '/body', message: '`/body` is required, but missing' }] : []
    return isObject(value) && typeof value['type'] === 'string'
      ? []
      : [{ path: `/${name}`, message: `\`/${name}\` must be a file` }]
  })
}

/** The request that arguments stand for. What is sent is made from them alone, so that what was decided on is what is sent. */
export function compose(operation: Operation, args: JsonObject): Composed {
  const { inParameters, inBody, headers } = split(operation, args)
  const path = operation.path.map((segment) => {
    if (typeof segment === 'string') return encodeSegment(segment)
    const value = textOf(args[segment.name])
    return segment.isRest ? value.split('/').map(encodeSegment).join('/') : encodeSegment(value)
  })
  const query = Object.entries(inParameters)
    .filter(([name]) => !operation.pathNames.includes(name))
    .flatMap(([name, value]) =>
      (Array.isArray(value) ? value : [value]).map((each: Json) => `${encodeValue(name)}=${encodeValue(textOf(each))}`),
    )
  const isEmpty = isObject(inBody) && Object.keys(inBody).length === 0
  const isLeftOut = isEmpty && operation.method === 'DELETE'
  return {
    path: `/${path.join('/')}`,
    query: query.join('&'),
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, textOf(value)])),
    body: isLeftOut ? undefined : inBody,
  }
}

const strictly = (text: string): string =>
  encodeURIComponent(text).replaceAll(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`)
/** RFC 3986 `pchar`, with the marks that mean something to some servers encoded. */
const encodeSegment = (text: string): string =>
  strictly(text).replaceAll(/%(?:40|3A|24|26|2B|2C|3D|21|28|29|2A|27)/g, (code) => decodeURIComponent(code))
const encodeValue = strictly

/** Values of a query or a form, as the schema takes them: a number where it takes numbers, a list where it takes lists. */
export function valuesAs(
  schema: JsonObject,
  pairs: readonly (readonly [string, string])[],
): { readonly values: JsonObject; readonly problems: readonly Problem[] } {
  const known = propertiesOf(schema)
  const values: Record<string, Json> = {}
  const problems: Problem[] = []
  for (const [name, text] of pairs) {
    const others = schema['additionalProperties']
    const own = Object.hasOwn(known, name) ? known[name] : isObject(others) ? others : undefined
    const of = isObject(own) ? own : {}
    if (typesOf(of).includes('array')) {
      const items = isObject(of['items']) ? of['items'] : {}
      const before = Object.hasOwn(values, name) ? values[name] : []
      values[name] = [...(Array.isArray(before) ? (before as readonly Json[]) : []), valueAs(items, text)]
    } else if (Object.hasOwn(values, name))
      problems.push({ path: `/${name.slice(0, 100)}`, message: `\`/${name.slice(0, 100)}\` stands twice` })
    else values[name] = valueAs(of, text)
  }
  return { values, problems }
}

const typesOf = ({ type }: JsonObject): readonly Json[] =>
  (Array.isArray(type) ? type : [type ?? 'string']) as readonly Json[]

/** A text as the value that a schema takes. One that is none stays a text, and the schema says what is wrong. */
export function valueAs(schema: JsonObject, text: string): Json {
  const types = typesOf(schema)
  if (types.includes('string')) return text
  if (types.includes('boolean') && (text === 'true' || text === 'false')) return text === 'true'
  const isInteger = /^-?(?:0|[1-9]\d{0,15})$/.test(text)
  const isNumber =
    isInteger || (types.includes('number') && /^-?(?:0|[1-9]\d{0,15})(?:\.\d{1,17})?(?:[eE][+-]?\d{1,3})?$/.test(text))
  if (!(types.includes('integer') || types.includes('number')) || !isNumber) return text
  const value = Number(text)
  return Number.isFinite(value) && (!isInteger || Number.isSafeInteger(value)) ? value : text
}

/** Finds the operation of a request, and the values in its path. */
export interface Routes {
  find(
    method: string,
    segments: readonly string[],
  ): { readonly operation: Operation; readonly values: JsonObject } | undefined
}

/** What is written in a path goes before places for values; the earlier segment counts. */
export function createRoutes(operations: Iterable<Operation>): Routes {
  const byMethod = new Map<string, Operation[]>()
  for (const operation of operations)
    byMethod.set(operation.method, [...(byMethod.get(operation.method) ?? []), operation])
  for (const list of byMethod.values()) list.sort(bySpecificity)

  return {
    find(method, segments) {
      for (const operation of byMethod.get(method) ?? []) {
        const values = matched(operation, segments)
        if (values !== undefined) return { operation, values }
      }
      return undefined
    },
  }
}

const rank = (segment: Segment | undefined): number =>
  segment === undefined ? 3 : typeof segment === 'string' ? 0 : segment.isRest ? 2 : 1
type Segment = OperationDescription['path'][number]

function bySpecificity(a: Operation, b: Operation): number {
  for (let position = 0; position < Math.max(a.path.length, b.path.length); position++) {
    const difference = rank(a.path[position]) - rank(b.path[position])
    if (difference !== 0) return difference
  }
  return 0
}

function matched({ path, parameters }: Operation, segments: readonly string[]): JsonObject | undefined {
  const values: Record<string, Json> = {}
  const known = propertiesOf(parameters)
  const take = (name: string, text: string): void => {
    const schema = known[name]
    values[name] = valueAs(isObject(schema) ? schema : {}, text)
  }
  for (const [position, wanted] of path.entries()) {
    const segment = segments[position]
    if (segment === undefined) return undefined
    if (typeof wanted === 'string') {
      if (wanted !== segment) return undefined
    } else if (wanted.isRest) {
      const rest = segments.slice(position)
      if (rest.includes('')) return undefined
      take(wanted.name, rest.join('/'))
      return values
    } else if (segment === '') return undefined
    else take(wanted.name, segment)
  }
  return segments.length === path.length ? values : undefined
}
