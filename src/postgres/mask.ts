import type { FactType } from '../core/condition.ts'
import type { Mask, Names } from './description.ts'
import { compileFilter } from './filter.ts'
import { quoted } from './names.ts'

/**
 * How a column stands in the list of its view. A column of any type can be masked; all masks but an expression give text.
 * A column without a value stays without one, whatever the mask. `schemas` are those that an expression names anything of.
 */
export async function maskedColumn(
  column: string,
  mask: Mask,
  facts: Readonly<Record<string, FactType>>,
  names: Pick<Names, 'internal'>,
): Promise<{ readonly sql: string; readonly schemas: readonly string[] }> {
  const name = quoted(column)
  if (mask === 'none') return { sql: name, schemas: [] }
  if (typeof mask === 'string')
    return { sql: `${builtIn[mask](`${name}::text`, names.internal)} as ${name}`, schemas: [] }
  const { sql, schemas } = await compileFilter(mask.sql, facts, names)
  // On lines of its own: it may end in a comment.
  return { sql: `(\n${sql}\n) as ${name}`, schemas }
}

type BuiltIn = Extract<Mask, string>

const builtIn: Readonly<Record<Exclude<BuiltIn, 'none'>, (text: string, internal: string) => string>> = {
  hash: (text, internal) => `${quoted(internal)}.hash(${text})`,
  // What is no longer than its last four characters is not shown at all.
  last4: (text) =>
    `(case when length(${text}) > 4 then repeat('*', length(${text}) - 4) || right(${text}, 4) ` +
    `else regexp_replace(${text}, '.', '*', 'gs') end)`,
  // The domain is what follows the last `@`: a quoted local part may hold one too.
  email: (text) =>
    `(case when ${text} ~ '^.+@' then left(${text}, 1) || '***' || substring(${text} from '@[^@]*$') ` +
    `when ${text} is not null then '***' end)`,
  null: () => 'null::text',
}
