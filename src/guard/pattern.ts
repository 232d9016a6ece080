import { RE2JS } from 're2js'
import { Failure } from '../core/failure.ts'

/** A regular expression that takes time linear in the text, whatever the text. */
export interface Pattern {
  readonly source: string
  /** Instructions of the compiled program: a text of n characters costs at most in the order of n × size. */
  readonly size: number
  /** Whether it matches anywhere in the text. */
  test(text: string): boolean
}

const mostCharacters = 4_096
const mostInstructions = 5_000

/**
 * Compiles an ECMAScript pattern as JSON Schema has it (ECMA-262 with the `u` flag; without it where it is legal only
 * so) for RE2, which has no backtracking. Fails with `invalid` for what RE2 can't do in linear time (lookaround,
 * backreferences), for inline flags, and for programs that would be large.
 */
export function compilePattern(source: string): Pattern {
  if (source.length > mostCharacters) throw refused(source, `is longer than ${mostCharacters} characters`)
  if (!isEcmaScript(source)) throw refused(source, 'is not a regular expression')
  let compiled: RE2JS
  try {
    compiled = RE2JS.compile(translate(source))
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown
    throw refused(source, 'can not be matched in linear time', thrown)
  }
  const size = compiled.programSize()
  if (size > mostInstructions)
    throw refused(source, `is too large: ${size} instructions of at most ${mostInstructions}`)
  return { source, size, test: (text) => compiled.test(text) }
}

function isEcmaScript(source: string): boolean {
  for (const flags of ['u', '']) {
    try {
      return new RegExp(source, flags).source !== '' // Only parsed, never run.
    } catch {
      continue
    }
  }
  return false
}

// What ECMAScript means by these; RE2's own are ASCII.
const space =
  '\\t\\n\\x0b\\f\\r \\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}\\x{feff}'
const notSpace =
  '\\x00-\\x08\\x0e-\\x1f\\x21-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}' +
  '\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{fefe}\\x{ff00}-\\x{10ffff}'
const anything = '[\\x00-\\x{10ffff}]'
const nothing = '[^\\x00-\\x{10ffff}]'
const anyInLine = '[^\\n\\r\\x{2028}\\x{2029}]'

/** The same pattern in RE2's words. Only what the two read alike is copied; what isn't known to be alike is refused. */
function translate(source: string): string {
  let out = ''
  let inClass = false
  for (let at = 0; at < source.length;) {
    const char = source.charAt(at)
    if (char === '\\') {
      const [text, length] = translateEscape(source, at, inClass)
      out += text
      at += length
    } else if (inClass) {
      out += char === '[' || char === '&' ? `\\${char}` : char
      if (char === ']') inClass = false
      at += 1
    } else if (source.startsWith('[]', at)) {
      out += nothing
      at += 2
    } else if (source.startsWith('[^]', at)) {
      out += anything
      at += 3
    } else if (char === '[') {
      inClass = true
      const isNegated = source.charAt(at + 1) === '^'
      out += isNegated ? '[^' : '['
      at += isNegated ? 2 : 1
    } else if (source.startsWith('(?', at)) {
      const name = /^\(\?<([A-Za-z_]\w*)>/.exec(source.slice(at, at + 64))
      if (name === null && !source.startsWith('(?:', at)) throw refused(source, 'uses lookaround or inline flags')
      out += '(?:'
      at += name === null ? 3 : name[0].length
    } else {
      out += char === '.' ? anyInLine : char
      at += 1
    }
  }
  return out
}

function translateEscape(source: string, at: number, inClass: boolean): [text: string, length: number] {
  const next = source.charAt(at + 1)
  if ('dDwWtnrf'.includes(next)) return [`\\${next}`, 2]
  if (next === 'v') return ['\\x0b', 2]
  if (next === 's') return [inClass ? space : `[${space}]`, 2]
  if (next === 'S') return [inClass ? notSpace : `[${notSpace}]`, 2]
  if (next === 'b') return [inClass ? '\\x08' : '\\b', 2]
  if (next === 'B' && !inClass) return ['\\B', 2]
  const rest = source.slice(at, at + 64)
  const property = /^\\[pP]\{[\w=]+\}/.exec(rest)
  if (property) return [property[0], property[0].length]
  const code =
    /^\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})/.exec(rest) ??
    /^\\u([0-9a-fA-F]{4})/.exec(rest) ??
    /^\\u\{([0-9a-fA-F]+)\}/.exec(rest) ??
    /^\\x([0-9a-fA-F]{2})/.exec(rest)
  if (code) return [`\\x{${codePoint(code).toString(16)}}`, code[0].length]
  if (/^\\c[A-Za-z]/.test(rest)) return [`\\x{${(rest.charCodeAt(2) % 32).toString(16)}}`, 3]
  if (/^\\0(?!\d)/.test(rest)) return ['\\x00', 2]
  if (/^\\[!-/:-@[-`{-~]/.test(rest)) return [`\\${next}`, 2]
  throw refused(source, 'uses a backreference or an unknown escape')
}

function codePoint([, first = '', second]: RegExpExecArray): number {
  const high = Number.parseInt(first, 16)
  return second === undefined ? high : (high - 0xd800) * 0x400 + (Number.parseInt(second, 16) - 0xdc00) + 0x10000
}

const refused = (source: string, why: string, cause?: unknown): Failure =>
  new Failure('invalid', `the pattern ${JSON.stringify(source.slice(0, 60))} ${why}`, { cause })
