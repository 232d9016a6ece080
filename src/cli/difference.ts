import type { Json, JsonObject } from '../core/json.ts'
import { jsonLines, jsonScalar } from './text.ts'

/** One value that is another than before, is new, or is gone. */
export interface Difference {
  /** A JSON Pointer (RFC 6901). */
  readonly path: string
  readonly before?: Json
  readonly after?: Json
}

/** What is different between two sets of arguments, value by value, in the order of paths. */
export function differences(before: JsonObject, after: JsonObject): readonly Difference[] {
  const found: Difference[] = []

  function compare(a: Json | undefined, b: Json | undefined, path: string): void {
    if (isContainer(a) && isContainer(b) && Array.isArray(a) === Array.isArray(b)) {
      const keys = Array.isArray(a)
        ? Array.from({ length: Math.max(Object.keys(a).length, Object.keys(b).length) }, (_, index) => String(index))
        : [...new Set([...Object.keys(a), ...Object.keys(b)])].sort()
      for (const key of keys)
        compare(own(a, key), own(b, key), `${path}/${key.replace(/~/g, '~0').replace(/\//g, '~1')}`)
      return
    }
    if (textOf(a) === textOf(b)) return
    found.push({ path, ...(a === undefined ? {} : { before: a }), ...(b === undefined ? {} : { after: b }) })
  }

  compare(before, after, '')
  return found
}

const isContainer = (value: Json | undefined): value is JsonObject => typeof value === 'object' && value !== null

const own = (value: JsonObject, key: string): Json | undefined => (Object.hasOwn(value, key) ? value[key] : undefined)

const textOf = (value: Json | undefined): string | undefined =>
  value === undefined
    ? undefined
    : jsonLines(value)
        .map((line) => line.trimStart())
        .join(' ')

/** A line for each: `~ /amount: 10 → 500`, `+ /note: "x"`, `- /urgent: true`. */
export const differencesInLines = (found: readonly Difference[]): readonly string[] =>
  found.map(({ path, before, after }) => {
    // As a JSON string: a name may hold anything.
    const name = jsonScalar(path).slice(1, -1)
    if (before === undefined) return `+ ${name}: ${textOf(after)}`
    if (after === undefined) return `- ${name}: ${textOf(before)}`
    return `~ ${name}: ${textOf(before)} → ${textOf(after)}`
  })
