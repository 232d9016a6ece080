import type { z } from 'zod'
import { didYouMean } from './nearest.ts'
import { knownKeys } from './published.ts'
import { resourceKinds } from './schema.ts'
import type { Found } from './source.ts'

type Issue = z.core.$ZodIssue

/** What the schema says against some data, in words: what was expected, and the nearest known name. */
export function problemsOf(error: z.ZodError, data: unknown): readonly Found[] {
  return error.issues.flatMap((issue) => wordsOf(issue, data))
}

function wordsOf(issue: Issue, data: unknown, base: readonly PropertyKey[] = []): readonly Found[] {
  const path = [...base, ...issue.path].map((segment) => (typeof segment === 'number' ? segment : String(segment)))
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => ({ path: [...path, key], of: 'key', message: unknownKey(key, path) }))
    case 'invalid_key':
      return [{ path, of: 'key', message: issue.issues[0]?.message ?? 'this is no name' }]
    case 'invalid_union': {
      const given = valueAt(data, path)
      const isResource = path.length === 2 && path[0] === 'resources' && typeof given === 'object' && given !== null
      const branch = isResource ? issue.errors[kindOf(given)] : onlyFitting(issue.errors, given)
      return branch === undefined
        ? [{ path, message: issue.message }]
        : branch.flatMap((inner) => wordsOf(inner, data, [...base, ...issue.path]))
    }
    case 'invalid_value': {
      const given = valueAt(data, path)
      const near = typeof given === 'string' ? didYouMean(given, issue.values.map(String)) : ''
      return [{ path, message: `expected ${choice(issue.values.map((value) => `\`${String(value)}\``))}${near}` }]
    }
    case 'invalid_type': {
      const given = valueAt(data, path)
      if (given === undefined && path.length > 0)
        return isOfUnknownKind(path, data)
          ? []
          : [{ path: path.slice(0, -1), message: `\`${String(path.at(-1))}\` is missing` }]
      return [{ path, message: `expected ${typeNames[issue.expected] ?? issue.expected}, found ${typeOf(given)}` }]
    }
    case 'too_small':
    case 'too_big': {
      const bound = issue.code === 'too_small' ? `at least ${issue.minimum}` : `at most ${issue.maximum}`
      const what = { string: ' characters', array: ' of them' }[issue.origin as string] ?? ''
      return [{ path, message: `expected ${bound}${what}` }]
    }
    default:
      return [{ path, message: issue.message }]
  }
}

function unknownKey(key: string, path: readonly (string | number)[]): string {
  // Of several kinds of resource that have the same key, another one may know it.
  const known = knownKeys(path).filter((each) => each !== key)
  if (path.length === 2 && path[0] === 'resources' && plannedKinds.includes(key))
    return `resources of kind \`${key}\` are not supported yet; kinds that are: ${resourceKinds.join(', ')}`
  if (key === '<<') return 'merge keys are not supported; an anchor can stand for a whole value'
  return `unknown key${didYouMean(key, known) || `; known here: ${known.join(', ')}`}`
}

/** Kinds of resource that people may have read of, and that this version does not have. */
const plannedKinds = ['files', 'code']

/** Whether `mcp` is missing because the resource is of another kind, which is said already. */
const isOfUnknownKind = (path: readonly (string | number)[], data: unknown): boolean =>
  path.length === 3 &&
  path[0] === 'resources' &&
  path[2] === 'mcp' &&
  plannedKinds.some((kind) => valueAt(data, [...path.slice(0, 2), kind]) !== undefined)

/** Which of the kinds a resource is meant to be. */
const kindOf = (resource: object): number =>
  Math.max(
    0,
    resourceKinds.findIndex((kind) => Object.hasOwn(resource, kind)),
  )

/** Of the forms that a value may have, the one that it was meant to have: the only one of the same type. */
function onlyFitting(branches: readonly (readonly Issue[])[], given: unknown): readonly Issue[] | undefined {
  const fitting = branches.filter((issues) => !issues.some((issue) => isOtherForm(issue, given)))
  return fitting.length === 1 ? fitting[0] : undefined
}

const isOtherForm = (issue: Issue, given: unknown): boolean =>
  issue.path.length === 0 &&
  (issue.code === 'invalid_type' ||
    (issue.code === 'invalid_value' && (issue.values.length === 1 || typeof given !== 'string')))

function valueAt(data: unknown, path: readonly (string | number)[]): unknown {
  let value = data
  for (const segment of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, segment)) return undefined
    value = (value as Record<string | number, unknown>)[segment]
  }
  return value
}

const typeNames: Readonly<Record<string, string>> = {
  object: 'keys and values',
  record: 'keys and values',
  array: 'a list',
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: '`true` or `false`',
}

const typeOf = (value: unknown): string =>
  value === null
    ? 'nothing'
    : Array.isArray(value)
      ? 'a list'
      : typeof value === 'object'
        ? 'keys and values'
        : typeof value === 'string'
          ? 'text'
          : typeof value === 'boolean'
            ? '`true` or `false`'
            : 'a number'

const choice = (options: readonly string[]): string =>
  options.length === 1 ? options.join('') : `one of ${options.join(', ')}`
