import { canonicalize } from '../core/canonical.ts'
import type { Json, JsonObject } from '../core/json.ts'
import type { Pin, PinKind } from '../core/pin.ts'
import { printable } from '../core/printable.ts'
import { digestOf } from './digest.ts'

/**
 * What counts of what a server says of an operation. A model reads nearly all of it, so nearly all of it is pinned.
 * Left out is what changes by itself (a resource's size and date) and what has no defined meaning.
 */
const fields: Readonly<Record<PinKind, readonly string[]>> = {
  tool: ['name', 'title', 'description', 'inputSchema', 'outputSchema', 'annotations', 'icons', 'execution'],
  prompt: ['name', 'title', 'description', 'arguments', 'icons'],
  resource: ['uri', 'name', 'title', 'description', 'mimeType', 'icons'],
  template: ['uriTemplate', 'name', 'title', 'description', 'mimeType', 'icons'],
  instructions: ['instructions'],
}

/** Of a tool's `_meta`: the page that MCP Apps shows with it. */
const appFields = ['ui', 'ui/resourceUri']

/**
 * The part of a definition that is pinned. Agents should be shown this and nothing else, so that what a person accepted
 * is what agents see. A server's instructions are taken as `{ instructions }`.
 */
export function definitionOf(kind: PinKind, said: JsonObject): JsonObject {
  const definition = pick(said, fields[kind])
  const meta = said['_meta']
  if (kind !== 'tool' || !isObject(meta)) return definition
  const app = pick(meta, appFields)
  return Object.keys(app).length === 0 ? definition : { ...definition, _meta: app }
}

const pick = (from: JsonObject, names: readonly string[]): JsonObject =>
  Object.fromEntries(names.flatMap((name) => (Object.hasOwn(from, name) ? [[name, from[name] as Json]] : [])))

/** SHA-256 (hex) of a definition in canonical form (RFC 8785): the order of keys doesn't matter, all else does. */
export const digestOfDefinition = (definition: JsonObject): string => digestOf(definition)

/** How a definition stands to its pin. `awaiting`: it is the changed one that a person was asked about already. */
export type PinState = 'new' | 'same' | 'changed' | 'awaiting'

export function compareWithPin(pin: Pick<Pin, 'digest' | 'proposed'> | undefined, digest: string): PinState {
  if (pin === undefined) return 'new'
  if (pin.digest === digest) return 'same'
  return pin.proposed?.digest === digest ? 'awaiting' : 'changed'
}

const mostLines = 200
const longestLine = 2_000

/**
 * What changed between two definitions, for a person to read: a line for each place, then what was taken away (`- `)
 * and what was added (`+ `); texts line by line. Empty only if they are the same. Everything by the server is escaped.
 * At most 200 lines; the last one says if there is more.
 */
export function difference(before: JsonObject, after: JsonObject): string[] {
  const lines: string[] = []
  compare('', before, after, lines)
  if (lines.length <= mostLines) return lines
  return [...lines.slice(0, mostLines - 1), `… and ${lines.length - mostLines + 1} more lines: this is not all`]
}

function compare(path: string, before: Json | undefined, after: Json | undefined, lines: string[]): void {
  if (isSame(before, after)) return
  if (isObject(before) && isObject(after)) {
    const names = new Set([...Object.keys(before), ...Object.keys(after)])
    for (const name of [...names].sort())
      compare(`${path}/${pointerPart(name)}`, own(before, name), own(after, name), lines)
  } else if (isList(before) && isList(after) && [...before, ...after].some(isObject)) {
    const count = Math.max(before.length, after.length)
    for (let index = 0; index < count; index++) compare(`${path}/${index}`, before[index], after[index], lines)
  } else {
    const verb = before === undefined ? 'was added' : after === undefined ? 'was removed' : 'changed'
    lines.push(`${printable(path, { maxLength: 200 })} ${verb}:`)
    compareLines(linesOf(before), linesOf(after), lines)
  }
}

const own = (object: JsonObject, name: string): Json | undefined =>
  Object.hasOwn(object, name) ? object[name] : undefined

const isSame = (one: Json | undefined, other: Json | undefined): boolean =>
  one === other || (one !== undefined && other !== undefined && canonicalize(one) === canonicalize(other))

function linesOf(value: Json | undefined): string[] {
  if (value === undefined) return []
  return typeof value === 'string' ? value.split('\n') : [canonicalize(value)]
}

/** Lines that both begin or end with are left out. */
function compareLines(before: readonly string[], after: readonly string[], lines: string[]): void {
  let start = 0
  while (start < before.length && start < after.length && before[start] === after[start]) start++
  let end = 0
  while (end < before.length - start && end < after.length - start && before.at(-1 - end) === after.at(-1 - end)) end++
  const removed = before.slice(start, before.length - end)
  const added = after.slice(start, after.length - end)
  for (const [index, line] of removed.entries()) lines.push(`- ${excerpt(line, added[index])}`)
  for (const [index, line] of added.entries()) lines.push(`+ ${excerpt(line, removed[index])}`)
}

/** A long line from shortly before where it differs: what was appended out of sight must be seen. */
function excerpt(line: string, other: string | undefined): string {
  let same = 0
  if (line.length > longestLine && other !== undefined) while (same < line.length && line[same] === other[same]) same++
  const start = Math.max(0, same - 40)
  return `${start > 0 ? '…' : ''}${printable(line.slice(start).toWellFormed(), { maxLength: longestLine })}`
}

const pointerPart = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')

const isList = (value: Json | undefined): value is readonly Json[] => Array.isArray(value)

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
