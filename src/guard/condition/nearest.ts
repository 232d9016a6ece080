/** The end of a message about a name that does not exist: the nearest known one, or the known ones when none is near. */
export function didYouMean(name: string, known: readonly string[]): string {
  const near = nearest(name, known)
  if (near !== undefined) return `: did you mean \`${near}\`?`
  if (known.length === 0) return ''
  const shown = known.slice(0, 12).map((each) => `\`${each}\``)
  return `: expected ${shown.join(', ')}${known.length > shown.length ? ', ...' : ''}`
}

/** The known name that takes the fewest edits, when that is few enough to be a slip of the hand. */
function nearest(name: string, known: readonly string[]): string | undefined {
  if (name.length > 64) return undefined
  let best: string | undefined
  let least = Math.max(1, Math.ceil(name.length / 3)) + 1
  for (const each of known) {
    if (each.length > 64) continue
    const edits = distance(name.toLowerCase(), each.toLowerCase())
    if (edits < least) [best, least] = [each, edits]
  }
  return best
}

/** Levenshtein distance. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let line = 1; line <= from.length; line++) {
    const next = [line]
    for (let column = 1; column <= to.length; column++) {
      const replace = (row[column - 1] as number) + (from[line - 1] === to[column - 1] ? 0 : 1)
      next.push(Math.min(replace, (row[column] as number) + 1, (next[column - 1] as number) + 1))
    }
    row = next
  }
  return row[to.length] as number
}
