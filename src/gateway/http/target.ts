import { Failure } from '../../core/failure.ts'

/** What a request asks for, decoded once. */
export interface Target {
  /** A final `/` leaves an empty last segment. */
  readonly segments: readonly string[]
  readonly query: readonly (readonly [name: string, value: string])[]
}

const longestTarget = 8_000
const mostValues = 200

/**
 * Reads path and query of a request in the one way in which every server reads them, and refuses what some would read
 * in another: encoded separators, segments of dots in any spelling, what is encoded twice, parameters of segments,
 * empty segments, overlong UTF-8. Fails with `invalid`; messages do not repeat the text.
 */
export function readTarget(text: string): Target {
  if (text.length > longestTarget) throw invalid(`the address is longer than ${longestTarget} characters`)
  // Unreserved and reserved characters and `%` (RFC 3986), of which `#` is the only one that can't be here.
  if (!/^\/[A-Za-z0-9\-._~:/?@!$&'()*+,;=%[\]]*$/.test(text))
    throw invalid('the address has characters that have to be encoded')
  const end = text.indexOf('?')
  const path = end < 0 ? text : text.slice(0, end)
  const parts = path.slice(1).split('/')
  const segments = parts.map((part, position) => {
    if (part === '' && position === parts.length - 1) return ''
    const segment = decode(part)
    const wrong = segmentProblem(segment)
    if (wrong !== undefined) throw invalid(`a segment of the path ${wrong}`)
    return segment
  })
  return { segments, query: end < 0 ? [] : readValues(text.slice(end + 1)) }
}

/** What is wrong with the value of one segment, in words. */
export function segmentProblem(segment: string): string | undefined {
  if (segment === '') return 'is empty'
  // What is compatible may be folded by a server: a full-width dot is a dot to some.
  const folded = segment.normalize('NFKC')
  if (/^\.{1,2}$/.test(folded.trim())) return 'is made of dots'
  if (/[/\\]/.test(folded) || /[\u2044\u2215\u29f5\u29f8\ufe68]/.test(segment)) return 'has a slash or backslash'
  // oxlint-disable-next-line no-control-regex
  if (/[\0-\x1f\x7f-\x9f]/.test(segment)) return 'has control characters'
  if (segment.includes(';')) return 'has parameters (`;`)'
  if (/%[0-9a-f]{2}/i.test(segment)) return 'is encoded twice'
  return segment.isWellFormed() ? undefined : 'has a lone surrogate'
}

/** Reads `a=1&b=2`, as forms and queries are written (WHATWG URL, `application/x-www-form-urlencoded`). */
export function readValues(text: string): readonly (readonly [string, string])[] {
  if (text === '') return []
  const pairs = text.split('&')
  if (pairs.length > mostValues) throw invalid(`there are more than ${mostValues} values`)
  return pairs.flatMap((pair): (readonly [string, string])[] => {
    if (pair === '') return []
    const at = pair.indexOf('=')
    const [name, value] = at < 0 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)]
    const read = [decode(name.replaceAll('+', ' ')), decode(value.replaceAll('+', ' '))] as const
    if (read[0] === '__proto__') throw invalid('a value has the name `__proto__`')
    if (read.some((each) => each.includes('\0'))) throw invalid('a value has a NUL')
    return [read]
  })
}

/** Percent-encoding taken off once. Fails for what is no UTF-8 or badly encoded. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    throw invalid('the address is badly encoded')
  }
}

const invalid = (message: string): Failure => new Failure('invalid', message)
