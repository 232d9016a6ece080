/** What draws nothing, moves the cursor, turns the text round or is not a character at all; and mark upon mark upon mark. */
const unprintable = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?<=\p{M}{4})\p{M}/gu

const named: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/**
 * Text by strangers made safe to show on a terminal, on one line: control characters (C0, C1, escape sequences),
 * bidirectional overrides, zero-width and tag characters, line separators, private and unassigned code points become
 * visible escapes such as `\x1b` and `\u{202e}`. Never throws.
 *
 * `maxLength` bounds the result in UTF-16 units; what was left off is said at the end, beyond the bound.
 */
export function printable(text: string, { maxLength = Infinity }: { readonly maxLength?: number } = {}): string {
  // No escape is shorter than what it stands for, so the rest would be cut anyway.
  const start = text.length > maxLength ? text.slice(0, maxLength) : text
  const escaped = start.replace(unprintable, escape)
  if (text.length <= maxLength && escaped.length <= maxLength) return escaped
  const shown = escaped.slice(0, maxLength).replace(/\p{Surrogate}$/u, '')
  return `${shown}… (cut, ${text.length} characters in all)`
}

function escape(character: string): string {
  const code = character.codePointAt(0) ?? 0
  return named[character] ?? (code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`)
}

/** JSON text whose unprintable characters are JSON escapes: safe to show, and still the same value. */
export const printableJson = (json: string): string =>
  json.replace(unprintable, (characters) =>
    /[\n\r\t ]/.test(characters)
      ? characters
      : Array.from({ length: characters.length }, (_, at) => unitEscape(characters.charCodeAt(at))).join(''),
  )

const unitEscape = (unit: number): string => `\\u${unit.toString(16).padStart(4, '0')}`
