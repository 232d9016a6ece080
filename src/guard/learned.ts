import type { KnownValue } from './vault.ts'

/**
 * Values that upstreams give out while the gateway runs, such as access tokens: as many as there are, coming and going
 * one by one. They stand in groups, so that a new one costs the preparing of few others, whatever their number.
 */
export interface Learned {
  /** The same array for as long as nothing changed. */
  groups(): readonly (readonly KnownValue[])[]
  /**
   * From now on the value is known, until what is returned was called, and 1,000 others were over after it. Of a long
   * one the end is known: without it the rest is worth nothing, and many of them would fill the memory.
   */
  add(name: string, value: string): () => void
}

/** Characters at the end of a value that it is known by. */
const longest = 128
/** Values in a group: how many are prepared anew at a time, at most. */
const mostInGroup = 128
/** Values that are over and still known: who gave them out may not agree that they are. */
const mostOver = 1_000

interface Group {
  readonly values: readonly KnownValue[]
  /** How many of them are not to be known any more. */
  forgotten: number
}

interface Entry {
  readonly known: KnownValue
  /** The same one may be given out several times. */
  holders: number
  group: Group | undefined
}

export function createLearned(): Learned {
  const entries = new Map<string, Entry>()
  const over = new Set<string>()
  let groups: Group[] = []
  let shown: readonly (readonly KnownValue[])[] = []

  const stillKnown = ({ values }: Group): readonly KnownValue[] =>
    values.filter((each) => entries.get(each.value)?.known === each)

  /** Joins groups of about one size, the newest first: each value is moved as often as the number of all has digits. */
  function place(added: readonly KnownValue[]): void {
    let values = added
    for (let last = groups.at(-1); last !== undefined; last = groups.at(-1)) {
      const others = stillKnown(last)
      if (others.length > 2 * values.length || others.length + values.length > mostInGroup) break
      values = [...others, ...values]
      groups.pop()
    }
    const group: Group = { values, forgotten: 0 }
    if (values.length > 0) groups.push(group)
    for (const { value } of values) {
      const entry = entries.get(value)
      if (entry !== undefined) entry.group = group
    }
  }

  function forget(value: string): void {
    const group = entries.get(value)?.group
    entries.delete(value)
    if (group === undefined) return
    group.forgotten += 1
    if (group.forgotten * 2 <= group.values.length) return
    groups = groups.filter((each) => each !== group)
    place(stillKnown(group))
  }

  function show(): void {
    shown = groups.map(({ values }) => values)
  }

  return {
    groups: () => shown,
    add(name, whole) {
      const value = whole.slice(-longest)
      let entry = entries.get(value)
      if (entry === undefined) {
        entry = { known: { name, value }, holders: 0, group: undefined }
        entries.set(value, entry)
        place([entry.known])
        show()
      }
      const { known } = entry
      const own = entry
      own.holders += 1
      over.delete(value)
      let isHeld = true
      return () => {
        if (!isHeld) return
        isHeld = false
        own.holders -= 1
        if (own.holders > 0) return
        over.add(known.value)
        const [oldest] = over
        if (over.size <= mostOver || oldest === undefined) return
        over.delete(oldest)
        forget(oldest)
        show()
      }
    },
  }
}
