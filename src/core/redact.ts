import { isPlain } from './canonical.ts'
import { setField } from './json.ts'
import type { Json } from './json.ts'

export interface RedactBounds {
  /** Bound on the UTF-8 bytes of the result as JSON. */
  readonly maxBytes: number
  /** Bound on one string, in UTF-16 units. */
  readonly maxString: number
  /** Bound on the items of one array and the keys of one object. Default 200. */
  readonly maxItems?: number
  /** Default 32. */
  readonly maxDepth?: number
  /** Replaces the secrets that it knows in a text. It sees every string and key that is kept. */
  readonly secrets?: (text: string) => string
}

/** Why something is not as it was. `not_json`: no JSON value, or text that was not Unicode. */
export type Reason = 'sensitive' | 'string' | 'items' | 'depth' | 'size' | 'not_json'

/** One place that was changed. `path` is a JSON Pointer, cut at 200 characters; `was` the length or count before. */
export interface Change {
  readonly path: string
  readonly why: Reason
  readonly was?: number
}

/** What was kept. Nothing was changed when `changed` is 0. */
export interface Redacted {
  readonly value: Json
  /** How many places were changed. */
  readonly changed: number
  /** How many of them held something sensitive. */
  readonly hidden: number
  /** The first 20 of them. */
  readonly changes: readonly Change[]
}

/** Stands for a value that is not shown. */
export const redactedText = '[redacted]'

/** Longest secret that is found where a string is cut. */
const margin = 4096
const maxKey = 256
const maxChanges = 20
const maxPath = 200

/**
 * A copy of a value that is fit to be kept: values under names like `password`, `token` or `cookie` are replaced, known
 * secrets too, JSON inside strings is treated likewise, and strings, arrays, depth and total size are capped.
 *
 * Never throws, whatever the value is; the result is always JSON that `canonicalize` takes.
 */
export function redact(value: unknown, bounds: RedactBounds): Redacted {
  const { maxBytes, maxString, maxItems = 200, maxDepth = 32, secrets = (text) => text } = bounds
  const changes: Change[] = []
  let changed = 0
  let hiddenCount = 0
  let left = maxBytes
  /** Names and positions on the way to what is looked at. */
  const way: (string | number)[] = []

  function note(why: Reason, was?: number): void {
    changed += 1
    if (why === 'sensitive') hiddenCount += 1
    if (changes.length >= maxChanges) return
    const path = way.map((step) => `/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('')
    changes.push({ path: shorten(path, maxPath), why, ...(was === undefined ? {} : { was }) })
  }

  /** Takes from the budget. What does not fit is not kept. */
  function fits(bytes: number): boolean {
    if (bytes > left) return false
    left -= bytes
    return true
  }

  function hidden(): Json | undefined {
    note('sensitive')
    return kept(redactedText)
  }

  function kept(value: Json): Json | undefined {
    if (fits(jsonBytes(value))) return value
    note('size')
    return undefined
  }

  function copyAt(step: string | number, item: unknown, depth: number): Json | undefined {
    way.push(step)
    const copied = copy(item, depth)
    way.pop()
    return copied
  }

  function copy(item: unknown, depth: number): Json | undefined {
    switch (typeof item) {
      case 'string':
        return kept(copyText(item, depth))
      case 'boolean':
        return kept(item)
      case 'number':
        if (Number.isFinite(item)) return kept(item)
        break
      case 'object':
        if (item === null) return kept(null)
        if (depth >= maxDepth) {
          note('depth')
          return kept('[cut: nested too deep]')
        }
        if (!fits(2)) {
          note('size')
          return undefined
        }
        return Array.isArray(item) ? copyArray(item, depth) : copyObject(item, depth)
      default:
    }
    note('not_json')
    return kept(`[not JSON: ${typeof item}]`)
  }

  function copyText(text: string, depth: number): string {
    const inner = copyEmbedded(text, depth)
    if (inner !== undefined) return inner
    const whole = text.length <= maxString + margin
    let clean = safely(secrets, whole ? text : text.slice(0, maxString + margin))
    if (clean === undefined || (whole ? clean !== text : !text.startsWith(clean))) note('sensitive')
    clean ??= redactedText
    const isWhole = isUnicode(text)
    if (!isWhole) note('not_json')
    // A secret that the window cut in two stands in its margin at most, and the margin is never kept.
    const end = whole ? clean.length : Math.max(0, clean.length - margin)
    if (whole && end <= maxString) return isWhole && clean === text ? text : toUnicode(clean)
    note('string', text.length)
    return `${shorten(clean, Math.min(end, maxString))}…[cut: ${text.length} characters in all]`
  }

  /** Programs put JSON in strings (a model's tool arguments, a body): names are as sensitive there. */
  function copyEmbedded(text: string, depth: number): string | undefined {
    if (!/^\s*[{[]/.test(text) || text.length > maxString || depth >= maxDepth) return undefined
    let parsed: unknown
    try {
      parsed = JSON.parse(text)
    } catch {
      return undefined
    }
    const inside = redact(parsed, { ...bounds, maxBytes: Math.max(0, left), maxDepth: maxDepth - depth - 1 })
    if (inside.hidden === 0) return undefined
    note('sensitive')
    return JSON.stringify(inside.value)
  }

  function copyArray(items: readonly unknown[], depth: number): Json {
    const copies: Json[] = []
    for (const item of items.length > maxItems ? items.slice(0, maxItems) : items) {
      const pair = isSensitivePair(item)
      if (pair) {
        way.push(copies.length, 1)
        note('sensitive')
        way.length -= 2
      }
      const copied = fits(1) ? copyAt(copies.length, pair ? [item[0], redactedText] : item, depth + 1) : undefined
      if (copied === undefined) break
      copies.push(copied)
    }
    if (copies.length < items.length) note(copies.length < maxItems ? 'size' : 'items', items.length)
    return copies
  }

  function copyObject(object: object, depth: number): Json {
    const copies: Record<string, Json> = {}
    const named = namesSecret(object)
    let [count, all, isFull] = [0, 0, false]
    for (const key of Object.keys(object)) {
      const item = read(object, key)
      if (item === undefined) continue
      all += 1
      if (isFull || all > maxItems) continue
      const name = copyKey(key)
      const isSecret = isSensitive(key, item) || (named && valueNames.has(key))
      way.push(name)
      const copied = !fits(jsonBytes(name) + 2) ? undefined : isSecret ? hidden() : copy(item, depth + 1)
      way.pop()
      if (copied === undefined) {
        isFull = true
        continue
      }
      if (!Object.hasOwn(copies, name)) count += 1
      setField(copies, name, copied)
    }
    if (count < all) note(count < maxItems ? 'size' : 'items', all)
    return copies
  }

  function copyKey(key: string): string {
    const clean = safely(secrets, key.length > maxKey + margin ? key.slice(0, maxKey + margin) : key)
    if (clean !== undefined && clean.length <= maxKey && clean === key && isUnicode(key)) return key
    note(clean === key || (clean !== undefined && key.startsWith(clean)) ? 'string' : 'sensitive', key.length)
    return shorten(clean ?? redactedText, maxKey)
  }

  const copied = copy(value, 0)
  return { value: copied ?? null, changed, hidden: hiddenCount, changes }
}

const sensitiveParts =
  /passw|passphrase|secret|apikey|authoriz|privatekey|accesskey|signingkey|encryptionkey|credential|cookie|bearer|connectionstring/
const sensitiveWords = /(?:^|[^a-z])(?:auth|pwd|pass|pin|otp|cvv|cvc|jwt|csrf|xsrf)(?:[^a-z]|$)/
const tokenName = /tokens?$/

/** Whether a name says that its value is a secret. Counts of tokens are not: `max_tokens: 100`. */
export function isSensitive(name: string, value?: unknown): boolean {
  const kind = kinds.get(name) ?? learn(name)
  if (kind === 'plain') return false
  return value !== null && typeof value !== 'boolean' && (kind === 'secret' || typeof value !== 'number')
}

type NameKind = 'plain' | 'secret' | 'token'

/** What is known of names: they come again and again. */
const kinds = new Map<string, NameKind>()
const mostKinds = 2_000

function learn(name: string): NameKind {
  const kind = kindOf(name)
  if (kinds.size >= mostKinds) kinds.clear()
  if (name.length <= maxKey) kinds.set(name, kind)
  return kind
}

function kindOf(name: string): NameKind {
  const isSimple = /^[a-z]{1,64}$/.test(name) // As most are.
  const words = isSimple
    ? name
    : name
        .slice(0, maxKey)
        .normalize('NFKC')
        .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
        .toLowerCase()
  const squeezed = isSimple ? name : words.replace(/[^\p{L}\p{N}]/gu, '')
  if (sensitiveParts.test(squeezed) || sensitiveWords.test(words)) return 'secret'
  return tokenName.test(squeezed) ? 'token' : 'plain'
}

const nameNames = ['name', 'key', 'header', 'field']
const valueNames = new Set(['value', 'values', 'content', 'data'])

/** Whether an object is a name and its value in two fields, with a sensitive name. */
function namesSecret(object: object): boolean {
  return nameNames.some((field) => {
    const name = read(object, field)
    return typeof name === 'string' && isSensitive(name)
  })
}

/** A list of pairs is how raw headers are written. */
function isSensitivePair(item: unknown): item is [string, unknown] {
  return Array.isArray(item) && item.length === 2 && typeof item[0] === 'string' && isSensitive(item[0])
}

function read(object: object, key: string): unknown {
  try {
    return (object as Record<string, unknown>)[key]
  } catch {
    return Symbol('unreadable')
  }
}

/** A replacer that fails hides the whole text. */
function safely(replace: (text: string) => string, text: string): string | undefined {
  try {
    return replace(text)
  } catch {
    return undefined
  }
}

const isUnicode = (text: string): boolean => isPlain(text) || !/\p{Surrogate}/u.test(text)
const toUnicode = (text: string): string => (isUnicode(text) ? text : text.replace(/\p{Surrogate}/gu, '\ufffd'))
const shorten = (text: string, length: number): string =>
  toUnicode(text.length <= length ? text : text.slice(0, length).replace(/[\ud800-\udbff]$/, ''))

/** UTF-8 bytes of a value without items, as JSON. */
function jsonBytes(value: Json): number {
  if (typeof value === 'string' && isPlain(value)) return value.length + 2
  const text = JSON.stringify(value)
  let bytes = text.length
  for (let position = 0; position < text.length; position += 1) {
    const unit = text.charCodeAt(position)
    if (unit >= 0x800 && (unit < 0xd800 || unit > 0xdfff)) bytes += 2
    else if (unit >= 0x80) bytes += 1
  }
  return bytes
}
