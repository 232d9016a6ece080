/** Where a statement names a catalog, or a function that reads one. */
export interface CatalogReference {
  /** `pg_class`, `information_schema.tables`. */
  readonly name: string
  readonly kind: 'relation' | 'function'
  /** Whether a schema is written before it. */
  readonly isQualified: boolean
  /** Where the whole name begins in the text, in bytes of UTF-8. */
  readonly at: number
}

/**
 * Catalogs that a session may read where the description says `catalog: names`, by name; those of the information
 * schema with their schema. Each has a view that shows only what the session may see.
 */
export const catalogRelations: ReadonlySet<string> = new Set()

/** Functions of catalogs that can be called where the description says `catalog: names`. */
export const catalogFunctions: ReadonlySet<string> = new Set()

/**
 * The text with each reference turned to the schema that shows catalogs as a session may see them. Undefined where
 * nothing has to be turned, or a reference is written in a way that isn't understood: its `pg_catalog` is quoted, or
 * there is a comment inside.
 */
export function catalogText(text: string, references: readonly CatalogReference[], schema: string): string | undefined {
  const bytes = Buffer.from(text)
  const parts: string[] = []
  let end = bytes.length
  for (const { isQualified, at } of references.toSorted((a, b) => b.at - a.at)) {
    const rest = bytes.subarray(at, end).toString()
    const written = /^(?:pg_catalog|information_schema)(?=\.)/i.exec(rest)?.[0]
    if (isQualified && written === undefined) return undefined
    parts.unshift(isQualified ? schema : `${schema}.`, rest.slice(written?.length ?? 0))
    end = at
  }
  return references.length === 0 ? undefined : bytes.subarray(0, end).toString() + parts.join('')
}
