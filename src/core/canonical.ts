import { Failure } from './failure.ts'

/** Bounds on what is written. `maxLength` counts UTF-16 units of the text. */
export interface CanonicalBounds {
  readonly maxDepth?: number
  readonly maxLength?: number
}

const loneSurrogate = /\p{Surrogate}/u

/**
 * The one text that RFC 8785 (JSON Canonicalization Scheme) gives a JSON value: keys sorted by UTF-16 units, no white
 * space, numbers and strings as ECMAScript writes them. Equal values have equal texts, so digests of them agree.
 *
 * Fails with `invalid` for what JSON cannot carry exactly (undefined, functions, NaN, infinities, big integers, class
 * instances, lone surrogates) and with `too_large` past a bound (128 levels, 64 Mi units), which also ends cycles.
 */
export function canonicalize(
  value: unknown,
  { maxDepth = 128, maxLength = 64 * 2 ** 20 }: CanonicalBounds = {},
): string {
  let length = 0

  function spend(text: string): string {
    length += text.length
    if (length > maxLength) throw new Failure('too_large', `the JSON value is longer than ${maxLength} characters`)
    return text
  }

  function write(item: unknown, depth: number): string {
    switch (typeof item) {
      case 'string':
        return spend(quote(item))
      case 'number':
        if (!Number.isFinite(item)) throw new Failure('invalid', `${item} is not a JSON number`)
        return spend(JSON.stringify(item))
      case 'boolean':
        return spend(item ? 'true' : 'false')
      case 'object':
        if (item === null) return spend('null')
        if (depth >= maxDepth) throw new Failure('too_large', `the JSON value is nested deeper than ${maxDepth} levels`)
        return Array.isArray(item) ? writeArray(item, depth + 1) : writeObject(item, depth + 1)
      default:
        throw new Failure('invalid', `a value of type ${typeof item} is not JSON`)
    }
  }

  function writeArray(items: readonly unknown[], depth: number): string {
    let text = '['
    for (let position = 0; position < items.length; position += 1) {
      if (position > 0) text += ','
      text += write(items[position], depth)
    }
    length += items.length + 1
    return text + ']'
  }

  function writeObject(object: object, depth: number): string {
    const prototype: unknown = Object.getPrototypeOf(object)
    if (prototype !== Object.prototype && prototype !== null)
      throw new Failure('invalid', 'an instance of a class is not JSON: expected a plain object')
    let text = '{'
    for (const key of sorted(Object.keys(object))) {
      if (text.length > 1) text += ','
      text += spend(quote(key)) + ':' + write((object as Record<string, unknown>)[key], depth)
      length += 2
    }
    length += 2
    return text + '}'
  }

  // What is in order already is written by the engine itself, in a quarter of the time.
  return isInOrder(value, maxDepth, maxLength) ? spend(JSON.stringify(value)) : write(value, 0)
}

/** More than this is not looked through beforehand: it may be an object that holds itself, twice. */
const mostLooked = 10_000

/** Whether `JSON.stringify` writes the canonical form: all is JSON, and every object's names are in order. */
function isInOrder(value: unknown, maxDepth: number, maxLength: number): boolean {
  let left = mostLooked

  function look(item: unknown, depth: number): boolean {
    if (left-- === 0) return false
    switch (typeof item) {
      case 'string':
        return item.length <= maxLength && item.isWellFormed()
      case 'number':
        return Number.isFinite(item)
      case 'boolean':
        return true
      case 'object':
        if (item === null) return true
        if (depth >= maxDepth) return false
        return Array.isArray(item) ? lookThrough(item, depth + 1) : lookInto(item, depth + 1)
      default:
        return false
    }
  }

  function lookThrough(items: readonly unknown[], depth: number): boolean {
    // By position: a hole is no JSON.
    for (let at = 0; at < items.length; at += 1) if (!look(items[at], depth)) return false
    return true
  }

  function lookInto(object: object, depth: number): boolean {
    const prototype: unknown = Object.getPrototypeOf(object)
    if (prototype !== Object.prototype && prototype !== null) return false
    let before = ''
    for (const name of Object.keys(object)) {
      if (name < before || !name.isWellFormed()) return false
      before = name
      if (!look((object as Record<string, unknown>)[name], depth)) return false
    }
    return true
  }

  return look(value, 0)
}

/** Sorts by UTF-16 units, in place. The names of an object are few and nearly in order mostly, where this takes a fifth of the time. */
export function sorted(names: string[]): string[] {
  if (names.length > 64) return names.sort()
  for (let next = 1; next < names.length; next += 1) {
    const name = names[next] as string
    let at = next
    for (; at > 0 && (names[at - 1] as string) > name; at -= 1) names[at] = names[at - 1] as string
    names[at] = name
  }
  return names
}

/** Whether a text is printable ASCII without anything that JSON escapes: most are, and need no more work. */
export const isPlain = (text: string): boolean => /^[ !#-[\]-~]*$/.test(text)

function quote(text: string): string {
  if (isPlain(text)) return `"${text}"`
  if (loneSurrogate.test(text)) throw new Failure('invalid', 'a string with a lone surrogate is not Unicode text')
  return JSON.stringify(text)
}
