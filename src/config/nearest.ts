/** The known word that a wrong one was probably meant to be; none where nothing is near. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  const given = word.slice(0, longest).toLowerCase()
  let best: string | undefined
  let least = Math.max(1, Math.floor(given.length / 3)) + 1
  for (const candidate of known) {
    const steps = distance(given, candidate.slice(0, longest).toLowerCase())
    if (steps < least) [best, least] = [candidate, steps]
  }
  return best
}

/** `; did you mean …?`, or nothing. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const near = nearest(word, known)
  return near === undefined ? '' : `; did you mean \`${near}\`?`
}

/** Words are compared up to here: names are shorter, and the work grows with the square. */
const longest = 64

/** Steps from one word to the other: insert, remove, replace, swap neighbours (optimal string alignment). */
function distance(a: string, b: string): number {
  let before: readonly number[] = []
  let last: readonly number[] = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const line = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      line.push(
        Math.min(
          step(last, column) + 1,
          step(line, column - 1) + 1,
          step(last, column - 1) + (same ? 0 : 1),
          swapped ? step(before, column - 2) + 1 : Infinity,
        ),
      )
    }
    ;[before, last] = [last, line]
  }
  return step(last, b.length)
}

const step = (line: readonly number[], column: number): number => line[column] ?? Infinity
