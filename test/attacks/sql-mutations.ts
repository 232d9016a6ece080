// Statements that nobody wrote, made of those that somebody did.
import { createHash } from 'node:crypto'

/** Numbers that look like chance, and are the same for the same seed. */
export function chances(seed: string) {
  let block = Buffer.alloc(0)
  let count = 0
  const next = (): number => {
    if (block.length < 4) block = createHash('sha256').update(`${seed} ${count++}`).digest()
    const value = block.readUInt32LE(0)
    block = block.subarray(4)
    return value
  }
  const below = (bound: number): number => next() % bound
  return {
    below,
    often: (percent: number): boolean => below(100) < percent,
    one: <T>(items: readonly T[]): T => items[below(items.length)] as T,
  }
}

export type Chances = ReturnType<typeof chances>

/** Pieces that have a meaning of their own to the lexer or the parser. */
const fragments = `
  pg_sleep(1)|.pg_sleep|(x).pg_sleep|::regclass|; drop table tickets|; commit;|/*|*/|--|'|"|$$|$a$|U&"|E'|\\'|uescape '!'|
  with salaries as (select 1)|select * from salaries|from salaries|, salaries|union select amount from salaries|
  for update|into x|lateral|as pg_sleep|tickets.pg_sleep|operator(public.=)|using >|only|pg_catalog.|public.|
  sallyport_helpdesk.|returning *|on conflict do nothing|where current of c|() over ()|variadic|row(|array[|[1]|.*|
  \u00a0|\u200b|\u2028|\ufeff|\u0000|é|😀|\ud800|;|,|(|)|::|=>|:=|$1|0x1f|1_000|N'x'|set role postgres|copy tickets to stdout|
  explain |prepare q as |declare c cursor for |create temp table x as |do $$begin end$$|in (select 1)|null|default
`
  .split('|')
  .map((each) => each.replaceAll(/^\n\s*|\n\s*$/g, ''))

const tokens = (text: string): string[] => text.match(/\s+|\w+|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$\d+|[^\s\w]/gu) ?? []

/** Changed in a few places, with parts of other statements. */
export function mutated(
  text: string,
  chance: Chances,
  { hostile, harmless }: { readonly hostile: readonly string[]; readonly harmless: readonly string[] },
): string {
  let parts = tokens(text)
  for (let round = 1 + chance.below(4); round > 0; round--) {
    const at = chance.below(parts.length + 1)
    const other = tokens(chance.one(chance.often(50) ? hostile : harmless))
    const from = chance.below(other.length)
    const change = chance.one<() => string[]>([
      () => parts.toSpliced(at, 1),
      () => parts.toSpliced(at, 0, ' ', chance.one(fragments), ' '),
      () => parts.toSpliced(at, 0, chance.one(fragments)),
      () => parts.toSpliced(at, 1, ...other.slice(from, from + 1)),
      () => parts.toSpliced(at, 1 + chance.below(4), ...other.slice(from, from + 1 + chance.below(12))),
      () => parts.toSpliced(at, 0, '/* ', ...other, ' */'),
      () =>
        parts.map((part) =>
          /^\s+$/.test(part) && chance.often(30) ? chance.one(['\n', '\t', '/**/', ' --\n', '\f']) : part,
        ),
      () => parts.map((part) => (/^[a-z]+$/i.test(part) && chance.often(20) ? part.toUpperCase() : part)),
      () => parts.map((part) => (/^[a-z_]+$/.test(part) && chance.often(10) ? `"${part}"` : part)),
      () => [...parts, ' ', chance.one(['union all', 'where', ',', ';', 'returning', 'order by']), ' ', ...other],
      () => ['with w as (', ...parts, ') ', ...other],
      () => parts.map((part) => (/^[a-z_]+$/.test(part) && chance.often(10) ? `U&"${escaped(part)}"` : part)),
    ])
    parts = change()
  }
  return parts.join('')
}

const escaped = (word: string): string =>
  Array.from(word, (letter) => `\\${letter.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')
