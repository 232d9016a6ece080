import { Ajv, type ErrorObject, type KeywordCxt, Name, type Options, type ValidateFunction, _ } from 'ajv'
import { Ajv2019 } from 'ajv/dist/2019.js'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { canonicalize } from '../core/canonical.ts'
import { Failure } from '../core/failure.ts'
import { printable } from '../core/printable.ts'
import { sha256 } from './digest.ts'
import { formats } from './format.ts'
import { compilePattern, type Pattern } from './pattern.ts'

/** What is wrong with one value, in words that a model can act on. */
export interface Problem {
  /** JSON Pointer (RFC 6901) to the value; empty for the whole. */
  readonly path: string
  /** A sentence. Names members and what the schema says, never a value that was sent. */
  readonly message: string
  /** What would have been right: `number`, `one of "a", "b"`. */
  readonly expected: string
}

/** A JSON Schema that was accepted and compiled. */
export interface ArgumentSchema {
  /** SHA-256 of the schema in canonical form, in hexadecimal. */
  readonly digest: string
  /**
   * What is wrong with a JSON value: nothing, or at most eight problems. Never throws, never changes the value, and
   * takes a bounded amount of work: a value that can't be checked within it has that as its problem.
   */
  check(value: unknown): readonly Problem[]
}

export interface SchemaLimits {
  /** Bytes of the schema as JSON. */
  readonly bytes: number
  /** How deep the schema's JSON nests. */
  readonly depth: number
  /** Named subschemas (`properties`, `patternProperties`, `$defs`, …) in all. */
  readonly properties: number
  /** Instructions of all its patterns, compiled. */
  readonly patternInstructions: number
  /** How deep a value may nest. */
  readonly valueDepth: number
  /** Units of work for one check, about 10 ns each: visited values times the schemas that look at them. */
  readonly work: number
}

export const defaultSchemaLimits: SchemaLimits = {
  bytes: 64 * 1024,
  depth: 64,
  properties: 300,
  patternInstructions: 20_000,
  valueDepth: 100,
  work: 20_000_000,
}

/**
 * Compiles JSON Schema: 2020-12 (which is what a schema without `$schema` is, unless it uses what only draft-07 has),
 * 2019-09, draft-07 and draft-06.
 *
 * - `$ref` works inside the schema alone; nothing is ever loaded. A nested `$id` is refused, unknown keywords are
 *   ignored, defaults are not filled in, types are not coerced.
 * - Patterns run on RE2: one that it can't run is refused (see `compilePattern`). Formats: see `formats`.
 *
 * Fails with `invalid`, or `too_large` over a limit. The schema is an upstream's: messages quote it shortly, escaped.
 */
export function compileSchema(schema: unknown, limits: Partial<SchemaLimits> = {}): ArgumentSchema {
  const held = { ...defaultSchemaLimits, ...limits }
  return compileText(schema, serialise(schema, held), held)
}

/**
 * `compileSchema` that remembers what it compiled, and what it refused, by digest: the most recently used schemas, up
 * to `mostBytes` of them (8 MiB, where each counts at least 2 KiB). To be called when a definition is seen, not on the call.
 */
export function schemaCompiler(
  limits: Partial<SchemaLimits> = {},
  mostBytes: number = 8 * 1024 * 1024,
): (schema: unknown) => ArgumentSchema {
  const held = { ...defaultSchemaLimits, ...limits }
  const known = new Map<string, { size: number; result: ArgumentSchema | Failure }>()
  let total = 0

  return (schema) => {
    const text = serialise(schema, held)
    const key = sha256(text)
    let entry = known.get(key)
    known.delete(key) // Put back at the end: the first key is the one used longest ago.
    if (entry === undefined) {
      entry = { size: Math.max(2_048, text.length), result: attempt(() => compileText(schema, text, held)) }
      total += entry.size
    }
    known.set(key, entry)
    for (const [oldest, { size }] of known) {
      if (total <= mostBytes || oldest === key) break
      known.delete(oldest)
      total -= size
    }
    if (entry.result instanceof Failure) throw entry.result
    return entry.result
  }
}

function attempt<T>(make: () => T): T | Failure {
  try {
    return make()
  } catch (thrown) {
    return Failure.from(thrown)
  }
}

/** The schema as JSON, within its limits. Everything after this may recurse over it. */
function serialise(schema: unknown, limits: SchemaLimits): string {
  const survey = surveyOf(schema, limits.depth, limits.bytes)
  if (survey === 'too deep') throw new Failure('too_large', `the schema nests deeper than ${limits.depth}`)
  if (survey === 'too large') throw new Failure('too_large', `the schema is larger than ${limits.bytes} bytes`)
  if (survey !== 'fine') throw new Failure('invalid', `the schema is not plain JSON: ${survey}`)
  const text = canonicalize(schema)
  if (Buffer.byteLength(text) > limits.bytes)
    throw new Failure('too_large', `the schema is larger than ${limits.bytes} bytes`)
  return text
}

function compileText(schema: unknown, text: string, limits: SchemaLimits): ArgumentSchema {
  const dialect = dialectOf(schema)
  const meter = meterOf(limits)
  try {
    const patternOf = patternsOnce()
    const rebuilt = rebuild(schema, limits, patternOf)
    checkAgainstMetaSchema(rebuilt, dialect)
    const first = createAjv(dialect, meter, patternOf, false).compile(rebuilt as object)
    const every = createAjv(dialect, meter, patternOf, true).compile(rebuilt as object)
    const compiled = { digest: sha256(text), check: (value: unknown) => check(value, first, every, meter, limits) }
    // A schema that refers to itself without going down in the value never ends: found here rather than on a call.
    for (const value of [null, 0, '', [], {}]) {
      if (compiled.check(value).some(({ path, expected }) => path === '' && expected === unchecked))
        throw new Failure('invalid', 'the schema refers to itself without end')
    }
    return compiled
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown
    // Among them: a stack overflow in the compiler.
    throw new Failure('invalid', 'the schema can not be compiled', { cause: thrown })
  }
}

/** Each pattern of a schema is compiled once, however often it is asked for. */
function patternsOnce(): (source: string) => Pattern {
  const compiled = new Map<string, Pattern>()
  return (source) => {
    const pattern = compiled.get(source) ?? compilePattern(source)
    compiled.set(source, pattern)
    return pattern
  }
}

// --- Checking a value ---

const mostProblems = 8
const unchecked = 'a value that can be checked'

function check(
  value: unknown,
  first: ValidateFunction,
  every: ValidateFunction,
  meter: Meter,
  limits: SchemaLimits,
): readonly Problem[] {
  try {
    const survey = surveyOf(value, limits.valueDepth, Number.POSITIVE_INFINITY)
    if (survey !== 'fine')
      return [
        problem('', `is ${survey === 'too deep' ? `nested deeper than ${limits.valueDepth}` : survey}`, 'plain JSON'),
      ]
    meter.left = limits.work
    if (first(value)) return []
    const errors = first.errors ?? []
    return problemsOf(allErrors(value, every, meter, limits) ?? errors)
  } catch {
    // The work ran out, or the stack did.
    return [problem('', 'is too large or too deep to be checked against its schema', unchecked)]
  } finally {
    first.errors = null // They hold on to the value.
    every.errors = null
  }
}

/** All errors, where finding them is cheap: a value may be wrong in a million places. */
function allErrors(
  value: unknown,
  every: ValidateFunction,
  meter: Meter,
  limits: SchemaLimits,
): ErrorObject[] | undefined {
  meter.left = Math.min(limits.work, 20_000)
  try {
    every(value)
    return every.errors ?? undefined
  } catch {
    return undefined
  }
}

function problemsOf(errors: readonly ErrorObject[]): Problem[] {
  const problems = new Map<string, Problem>()
  for (const error of errors) {
    const found = describe(error)
    problems.set(found.message, found)
    if (problems.size === mostProblems) break
  }
  if (problems.size === 0) return [problem('', 'does not match its schema', 'a value that does')]
  return [...problems.values()]
}

function describe(error: ErrorObject): Problem {
  const at = error.instancePath
  const params = error.params as Record<string, unknown>
  const needs = (expected: string, but = ''): Problem => problem(at, `must be ${expected}${but}`, expected)
  switch (error.keyword) {
    case 'type':
      return needs([params['type']].flat().join(' or '), `, but is ${kindOf(error.data)}`)
    case 'required':
      return problem(`${at}/${pointerPart(params['missingProperty'])}`, 'is required, but missing', 'to be there')
    case 'dependencies':
    case 'dependentRequired':
      return problem(
        `${at}/${pointerPart(params['missingProperty'])}`,
        `is required together with ${quoted(params['property'])}, but missing`,
        'to be there',
      )
    case 'additionalProperties':
    case 'unevaluatedProperties': {
      const extra = params['additionalProperty'] ?? params['unevaluatedProperty']
      const known = Object.keys((error.parentSchema?.['properties'] as object | undefined) ?? {})
      const expected = known.length === 0 ? 'not to be there' : `one of ${listed(known)}`
      return problem(
        `${at}/${pointerPart(extra)}`,
        `is not known; ${known.length === 0 ? 'leave it out' : `known are ${listed(known)}`}`,
        expected,
      )
    }
    case 'enum':
      return needs(`one of ${listed(params['allowedValues'] as unknown[])}`)
    case 'const':
      return needs(quoted(params['allowedValue']))
    case 'pattern':
      return needs(`text that matches ${printable(String(params['pattern']), { maxLength: 120 })}`)
    case 'format':
      return needs(`a valid ${printable(String(params['format']), { maxLength: 40 })}`)
    case 'propertyNames':
      return problem(
        at,
        `has a member with a name that is not allowed: ${quoted(params['propertyName'])}`,
        'other member names',
      )
    case 'uniqueItems':
      return needs('a list without repeated items')
    case 'minLength':
    case 'maxLength':
      return needs(
        `text of at ${error.keyword === 'minLength' ? 'least' : 'most'} ${String(params['limit'])} characters`,
      )
    case 'minItems':
    case 'maxItems':
      return needs(`a list of at ${error.keyword === 'minItems' ? 'least' : 'most'} ${String(params['limit'])} items`)
    case 'minProperties':
    case 'maxProperties':
      return needs(
        `an object of at ${error.keyword === 'minProperties' ? 'least' : 'most'} ${String(params['limit'])} members`,
      )
    case 'minimum':
    case 'maximum':
    case 'exclusiveMinimum':
    case 'exclusiveMaximum':
      return needs(`${String(params['comparison'])} ${String(params['limit'])}`)
    case 'multipleOf':
      return needs(`a multiple of ${String(params['multipleOf'])}`)
    case 'anyOf':
      return needs('one of the alternatives of its schema')
    case 'oneOf':
      return needs('exactly one of the alternatives of its schema')
    case 'not':
      return needs('none of what its schema rules out')
    case 'contains':
      return needs(
        `a list with at least ${Number(params['minContains'] ?? 1)} items of the kind that its schema asks for`,
      )
    case 'false schema':
      return problem(at, 'must not be there', 'not to be there')
    default:
      return needs(`as its schema says under \`${printable(error.keyword, { maxLength: 40 })}\``)
  }
}

function problem(path: string, what: string, expected: string): Problem {
  const shown = printable(path, { maxLength: 200 })
  return { path: shown, message: `${shown === '' ? 'the value' : `\`${shown}\``} ${what}`, expected }
}

const kindOf = (value: unknown): string => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value)
const pointerPart = (name: unknown): string => String(name).slice(0, 200).replaceAll('~', '~0').replaceAll('/', '~1')
const quoted = (value: unknown): string => printable(JSON.stringify(value) ?? '', { maxLength: 60 })

function listed(values: readonly unknown[]): string {
  const shown = values.slice(0, 12).map(quoted).join(', ')
  return values.length > 12 ? `${shown} and ${values.length - 12} more` : shown
}

/** Whether a value is plain JSON within limits, without recursing over it. A value that isn't is named. */
function surveyOf(value: unknown, maxDepth: number, maxSize: number): string {
  let level: unknown[] = [value]
  let size = 0
  for (let depth = 0; level.length > 0; depth++) {
    const below: unknown[] = []
    for (const item of level) {
      if (typeof item === 'string') size += item.length
      else if (typeof item === 'number' && !Number.isFinite(item)) return 'a number that JSON can not hold'
      else if (typeof item === 'object' && item !== null) {
        if (depth === maxDepth) return 'too deep'
        if (Array.isArray(item)) for (const element of item) below.push(element)
        else
          for (const name of Object.keys(item)) {
            if (name === '__proto__') return 'an object with a member named `__proto__`'
            size += name.length
            below.push((item as Record<string, unknown>)[name])
          }
      } else if (
        item === undefined ||
        typeof item === 'function' ||
        typeof item === 'symbol' ||
        typeof item === 'bigint'
      )
        return item === undefined ? 'an undefined value' : `a ${typeof item}`
      if (++size > maxSize) return 'too large'
    }
    if (size + below.length > maxSize) return 'too large'
    level = below
  }
  return 'fine'
}

// --- Rebuilding a schema out of what we know ---

type Dialect = '2020-12' | '2019-09' | 'draft-07'

function dialectOf(schema: unknown): Dialect {
  const uri = isObject(schema) ? schema['$schema'] : undefined
  if (uri === undefined) return usesDraft07(schema) ? 'draft-07' : '2020-12'
  const name =
    typeof uri === 'string' ? /^https?:\/\/json-schema\.org\/([a-z0-9/-]+)\/schema#?$/.exec(uri)?.[1] : undefined
  if (name === 'draft/2020-12') return '2020-12'
  if (name === 'draft/2019-09') return '2019-09'
  if (name === 'draft-07' || name === 'draft-06') return 'draft-07'
  throw new Failure(
    'invalid',
    `the schema's \`$schema\` is ${quoted(uri)}; known are JSON Schema 2020-12, 2019-09, draft-07 and draft-06`,
  )
}

/** What 2020-12 dropped: these would be an error or mean nothing there, and nothing is the unsafe reading. */
function usesDraft07(schema: unknown): boolean {
  let found = false
  const look = (value: unknown): void => {
    if (!isObject(value)) return
    if (Array.isArray(value['items']) || 'additionalItems' in value || 'dependencies' in value) found = true
    for (const [keyword, held] of Object.entries(value)) for (const sub of subschemas(keyword, held)) look(sub)
  }
  look(schema)
  return found
}

/** What a keyword's value is. Whatever isn't here says nothing about what is valid (or is unknown), and is left out. */
const keywords: ReadonlyMap<string, 'schema' | 'list' | 'map' | 'data'> = new Map([
  ...all('schema', 'additionalItems additionalProperties contains else if items not propertyNames then'),
  ...all('schema', 'unevaluatedItems unevaluatedProperties'),
  ...all('list', 'allOf anyOf oneOf prefixItems'),
  ...all('map', '$defs definitions dependencies dependentSchemas patternProperties properties'),
  ...all('data', '$anchor $dynamicAnchor $dynamicRef $recursiveAnchor $recursiveRef $ref'),
  ...all('data', 'const dependentRequired enum format nullable pattern required type uniqueItems multipleOf'),
  ...all('data', 'exclusiveMaximum exclusiveMinimum maximum minimum maxLength minLength'),
  ...all('data', 'maxContains maxItems maxProperties minContains minItems minProperties'),
])

function all<Kind extends string>(kind: Kind, names: string): [name: string, kind: Kind][] {
  return names.split(' ').map((name) => [name, kind])
}

/** The values under a keyword that should be schemas. */
function subschemas(keyword: string, value: unknown): unknown[] {
  const kind = keywords.get(keyword)
  if (kind === 'map')
    return isObject(value)
      ? Object.values(value).filter((held) => keyword !== 'dependencies' || !Array.isArray(held))
      : []
  if (kind === 'list' || (kind === 'schema' && Array.isArray(value))) return Array.isArray(value) ? value : []
  return kind === 'schema' ? [value] : []
}

/** Keywords that go over every member or item of a value. */
const loops = new Set([
  'additionalItems',
  'additionalProperties',
  'contains',
  'items',
  'maxProperties',
  'minProperties',
  'propertyNames',
  'unevaluatedItems',
  'unevaluatedProperties',
  'uniqueItems',
])

type Rebuilt = boolean | { [keyword: string]: unknown }

/**
 * The same schema from known keywords alone, each subschema with what it costs under `workKeyword`. So nothing of the
 * compiler's that a schema could switch on (`$async`, `$data`, …) is reached, and no reference leaves what was rebuilt.
 */
function rebuild(schema: unknown, limits: SchemaLimits, patternOf: (source: string) => Pattern): Rebuilt {
  const made = new Set<unknown>()
  const anchors = new Set<string>()
  const references: string[] = []
  let named = 0
  let instructions = 0

  const sub = (value: unknown): Rebuilt => {
    if (typeof value === 'boolean') return value
    if (!isObject(value))
      throw new Failure('invalid', 'the schema has something else where a schema (an object, true or false) belongs')
    const built: { [keyword: string]: unknown } = {}
    for (const [keyword, held] of Object.entries(value)) {
      const kind = keywords.get(keyword)
      if (kind === 'data') built[keyword] = held
      else if (kind === 'map') built[keyword] = map(keyword, held)
      else if (kind === 'list' || (kind === 'schema' && keyword === 'items' && Array.isArray(held)))
        built[keyword] = list(held)
      else if (kind === 'schema') built[keyword] = sub(held)
    }
    if (value !== schema && value['$id'] !== undefined)
      throw new Failure('invalid', 'the schema has an `$id` below its top')
    for (const keyword of ['$anchor', '$dynamicAnchor'])
      if (typeof built[keyword] === 'string') anchors.add(`#${built[keyword]}`)
    for (const keyword of ['$ref', '$dynamicRef', '$recursiveRef'])
      if (keyword in built) references.push(localReference(built[keyword]))
    if (typeof built['pattern'] === 'string') countPattern(built['pattern'])
    if (Object.keys(built).length > 0) built[workKeyword] = costOf(built)
    made.add(built)
    return built
  }

  const list = (held: unknown): Rebuilt[] => {
    if (!Array.isArray(held))
      throw new Failure('invalid', 'the schema has something else where a list of schemas belongs')
    return held.map(sub)
  }

  const map = (keyword: string, held: unknown): Record<string, unknown> => {
    if (!isObject(held))
      throw new Failure('invalid', `the schema has something else where \`${keyword}\` needs an object`)
    const entries = Object.entries(held)
    named += entries.length
    if (named > limits.properties)
      throw new Failure('too_large', `the schema names more than ${limits.properties} properties and definitions`)
    if (keyword === 'patternProperties') for (const [pattern] of entries) countPattern(pattern)
    return Object.fromEntries(
      entries.map(([name, value]) => [name, keyword === 'dependencies' && Array.isArray(value) ? value : sub(value)]),
    )
  }

  const countPattern = (source: string): void => {
    instructions += patternOf(source).size
    if (instructions > limits.patternInstructions)
      throw new Failure('too_large', 'the patterns of the schema are too large together')
  }

  const root = sub(schema)
  if (isObject(root)) root['$id'] = ownId
  for (const reference of references) {
    const isKnown = reference === '#' || anchors.has(reference) || made.has(lookUp(root, reference))
    if (!isKnown) throw new Failure('invalid', `the schema refers to ${quoted(reference)}, which is no part of it`)
  }
  return root
}

function localReference(value: unknown): string {
  if (typeof value === 'string' && value.startsWith('#')) return value
  throw new Failure(
    'invalid',
    `the schema refers to ${quoted(value)}: only references within the schema (\`#/…\`) are followed, nothing is loaded`,
  )
}

/** What a JSON Pointer in a URI fragment leads to. */
function lookUp(root: Rebuilt, reference: string): unknown {
  if (!reference.startsWith('#/')) return undefined
  let at: unknown = root
  for (const part of reference.slice(2).split('/')) {
    let name: string
    try {
      name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
    } catch {
      return undefined
    }
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, name)) return undefined
    at = (at as Record<string, unknown>)[name]
  }
  return at
}

/** The compiler resolves references against the schema's own address; this one is no real one. */
const ownId = 'schema://local/'

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

// --- The bound on work ---

const mostErrors = 10_000
const workKeyword = 'sallyport:work'

/** What one look at a value by one schema costs, at least and for each member or item of it. */
interface Cost {
  readonly once: number
  readonly each: number
}

interface Meter {
  left: number
  spend(once: number, each: number, value: unknown, errors: readonly unknown[] | null): void
  take(units: number): void
}

function meterOf(limits: SchemaLimits): Meter {
  return {
    left: limits.work,
    take(units) {
      this.left -= units
      if (this.left < 0) throw new Failure('too_large', 'the work for one check is used up')
    },
    spend(once, each, value, errors) {
      // Errors are kept, and copied, until an alternative succeeds.
      let units = once + (errors?.length ?? 0)
      if (typeof value === 'string') units += value.length >> 3
      else if (each > 0 && typeof value === 'object' && value !== null)
        units += each * (Array.isArray(value) ? value.length : 4 * Object.keys(value).length)
      this.take(units)
      if (errors !== null && errors.length > mostErrors) throw new Failure('too_large', 'too many alternatives failed')
    },
  }
}

function costOf(schema: Record<string, unknown>): Cost {
  let once = 1
  let each = 0
  for (const [keyword, held] of Object.entries(schema)) {
    once += 1 + (typeof held === 'object' && held !== null ? Object.keys(held).length : 0)
    if (loops.has(keyword)) each += 1
    if (keyword === 'patternProperties' && isObject(held)) each += Object.keys(held).length
  }
  return { once, each }
}

// --- The compiler ---

const classes = { '2020-12': Ajv2020, '2019-09': Ajv2019, 'draft-07': Ajv }

function createAjv(dialect: Dialect, meter: Meter, patternOf: (source: string) => Pattern, isThorough: boolean): Ajv {
  const regExp = Object.assign(
    (source: string) => {
      const pattern = patternOf(source)
      return {
        test(text: string): boolean {
          meter.take(text.length * (3 + pattern.size))
          return pattern.test(text)
        },
        toString: () => source, // The compiler keeps one for each distinct text.
      }
    },
    { code: 'sallyport:pattern' },
  )
  const options: Options = {
    allErrors: isThorough,
    verbose: true, // For the schema and the kind of the value in messages; see `describe`.
    strict: false,
    strictNumbers: true,
    ownProperties: true, // Else every object "has" a `constructor`.
    validateSchema: false,
    meta: false,
    addUsedSchema: false,
    inlineRefs: false, // Else code grows by references times definitions.
    loopEnum: 20,
    loopRequired: 20,
    logger: false,
    formats: Object.fromEntries(
      Object.entries(formats).map(([name, validate]) => [name, { type: 'string' as const, validate }]),
    ),
    code: { regExp, optimize: false },
  }
  const ajv: Ajv = new classes[dialect](options)
  const ref = meter.spend.bind(meter)
  ajv.addKeyword({
    keyword: workKeyword,
    schemaType: 'object',
    code({ gen, data, schema }: KeywordCxt) {
      const { once, each } = schema as Cost
      gen.code(_`${gen.scopeValue('func', { ref })}(${once}, ${each}, ${data}, ${new Name('vErrors')})`)
    },
  })
  // First of all: the work has to be counted before a keyword goes on with it.
  const rules = ajv.RULES.rules.find((group) => group.rules.some(({ keyword }) => keyword === workKeyword))?.rules ?? []
  rules.unshift(...rules.splice(-1))
  return withLinearUniqueItems(ajv, (units) => meter.take(units))
}

/** The compiler's own `uniqueItems` compares every pair of items. */
function withLinearUniqueItems(ajv: Ajv, take: (units: number) => void): Ajv {
  ajv.removeKeyword('uniqueItems')
  ajv.addKeyword({
    keyword: 'uniqueItems',
    type: 'array',
    schemaType: 'boolean',
    validate: (isAsked: boolean, items: unknown[]) =>
      !isAsked || new Set(items.map((item) => identity(item, take))).size === items.length,
  })
  return ajv
}

/** A text that two JSON values share exactly if they are equal. */
function identity(value: unknown, take: (units: number) => void): string {
  take(10)
  if (typeof value === 'string') take(value.length >> 2)
  if (Array.isArray(value)) return `[${value.map((item) => identity(item, take)).join(',')}]`
  if (!isObject(value)) return JSON.stringify(value)
  const members = Object.keys(value)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${identity(value[name], take)}`)
  return `{${members.join(',')}}`
}

/** One per dialect for the life of the process: it compiles nothing that comes from outside. */
const metaSchemas = new Map<Dialect, Ajv>()

function checkAgainstMetaSchema(schema: Rebuilt, dialect: Dialect): void {
  let ajv = metaSchemas.get(dialect)
  if (ajv === undefined) {
    ajv = withLinearUniqueItems(
      new classes[dialect]({ strict: false, validateFormats: false, logger: false }),
      () => {},
    )
    metaSchemas.set(dialect, ajv)
  }
  if (ajv.validateSchema(schema) === true) return
  const [error] = ajv.errors ?? []
  const where =
    error === undefined
      ? ''
      : `: ${printable(error.instancePath || 'it', { maxLength: 200 })} ${printable(error.message ?? '', { maxLength: 100 })}`
  throw new Failure('invalid', `the schema is not a JSON Schema (${dialect})${where}`)
}
