import { Failure } from './failure.ts'

/** What an operation does to the world. Given by the operator; what nobody described is `destroy`. */
export type Effect = 'read' | 'write' | 'destroy' | 'send' | 'execute'

export const effects: readonly Effect[] = ['read', 'write', 'destroy', 'send', 'execute']

/** `resource.part:operation`, for example `helpdesk.tickets:select`. No wildcards: this is one thing that can be done. */
export type Permission = string

/** A permission as policy writes it. `*` stands for one whole segment, and only where it is written. */
export interface Pattern {
  readonly source: string
  /** `resource` and its parts. A last `*` stands for one or more parts; a sole `*` for any resource with or without parts. */
  readonly target: readonly string[]
  readonly operation: string
}

const segment = /^[A-Za-z0-9_-]{1,64}$/
const operationName = /^[A-Za-z0-9_.\-/]{1,128}$/

export const hasWildcard = (pattern: Pattern): boolean => pattern.operation === '*' || pattern.target.includes('*')

/** Reads a pattern. Fails with `invalid`, naming what is wrong. */
export function parsePattern(source: string): Pattern {
  const colon = source.indexOf(':')
  if (colon < 1) throw new Failure('invalid', `\`${source}\` is not a permission: expected \`resource.part:operation\``)
  const target = source.slice(0, colon).split('.')
  const operation = source.slice(colon + 1)
  for (const [position, part] of target.entries()) {
    if (part === '*' && position === target.length - 1) continue
    if (!segment.test(part))
      throw new Failure(
        'invalid',
        `\`${source}\` is not a permission: \`${part}\` is no name (letters, digits, \`_\`, \`-\`; \`*\` only as the last part)`,
      )
  }
  if (operation !== '*' && !operationName.test(operation))
    throw new Failure('invalid', `\`${source}\` is not a permission: \`${operation}\` is no operation's name`)
  return { source, target, operation }
}

/** Whether a pattern covers a permission. Names alone count: an effect is never an operation's name here. */
export function covers(pattern: Pattern, permission: Permission): boolean {
  const colon = permission.indexOf(':')
  return (
    (pattern.operation === '*' || pattern.operation === permission.slice(colon + 1)) &&
    coversTarget(pattern.target, permission.slice(0, colon))
  )
}

/**
 * Whether a rule's pattern covers an action: as `covers`, and an effect stands for all operations that have it
 * (`*:send`). Only rules read effects, since rules only take away; an allow-list names what it allows.
 */
export const rulesOver = (pattern: Pattern, permission: Permission, effect: Effect): boolean =>
  covers(pattern, permission) ||
  (pattern.operation === effect && coversTarget(pattern.target, permission.slice(0, permission.indexOf(':'))))

function coversTarget(pattern: readonly string[], target: string): boolean {
  if (pattern.length === 1 && pattern[0] === '*') return true
  const parts = target.split('.')
  for (const [position, part] of pattern.entries()) {
    if (part === '*') return parts.length > position
    if (parts[position] !== part) return false
  }
  return parts.length === pattern.length
}

/** Whether everything that `inner` covers is covered by `outer` too. */
export function within(inner: Pattern, outer: Pattern): boolean {
  if (outer.operation !== '*' && outer.operation !== inner.operation) return false
  if (outer.target.length === 1 && outer.target[0] === '*') return true
  for (const [position, part] of outer.target.entries()) {
    if (part === '*') return inner.target.length > position && !(position === 0 && inner.target[0] === '*')
    if (inner.target[position] !== part) return false
  }
  return inner.target.length === outer.target.length
}

/** Things with a pattern, found by permission without walking them all. */
export interface PatternIndex<T extends { readonly pattern: Pattern }> {
  readonly all: readonly T[]
  find(permission: Permission, effect: Effect): readonly T[]
}

/** How many different look-ups an index remembers. Names come from agents, so the memory is bounded, in number and length. */
const remembered = 4096
const longestRemembered = 512

/** Indexes entries by exact permission; only those with a wildcard or an effect in them are tried one by one. */
export function indexByPermission<T extends { readonly pattern: Pattern }>(
  all: readonly T[],
  matches: (pattern: Pattern, permission: Permission, effect: Effect) => boolean,
): PatternIndex<T> {
  const exact = new Map<string, T[]>()
  const open: T[] = []
  for (const entry of all) {
    const isOpen = hasWildcard(entry.pattern) || (effects as readonly string[]).includes(entry.pattern.operation)
    if (isOpen) open.push(entry)
    else {
      const same = exact.get(entry.pattern.source)
      if (same === undefined) exact.set(entry.pattern.source, [entry])
      else same.push(entry)
    }
  }
  const none: readonly T[] = []
  const cache = new Map<string, readonly T[]>()

  function find(permission: Permission, effect: Effect): readonly T[] {
    const named = exact.get(permission) ?? none
    if (open.length === 0) return named
    const key = `${effect} ${permission}`
    const known = cache.get(key)
    if (known !== undefined) return known
    const found = [...named, ...open.filter((entry) => matches(entry.pattern, permission, effect))]
    if (key.length > longestRemembered) return found
    if (cache.size >= remembered) cache.clear()
    cache.set(key, found)
    return found
  }

  return { all, find }
}
