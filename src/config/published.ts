import { z } from 'zod'
import { settingsSchema } from './schema.ts'

/** The part of JSON Schema that our own schema becomes. */
export interface JsonSchema {
  readonly type?: string | readonly string[]
  readonly description?: string
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | JsonSchema
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
  readonly enum?: readonly (string | number | boolean)[]
  readonly const?: string | number | boolean
}

/** The JSON Schema of `sallyport.yaml`, for editors. */
export function jsonSchema(): JsonSchema {
  const { $schema, ...schema } = z.toJSONSchema(settingsSchema, { io: 'input', target: 'draft-2020-12' })
  return { $schema, title: 'sallyport.yaml', ...schema } as JsonSchema
}

/** The keys that may stand at a path. */
export function knownKeys(path: readonly (string | number)[]): readonly string[] {
  let forms: readonly JsonSchema[] = [jsonSchema()]
  for (const segment of path)
    forms = forms.flatMap(allForms).flatMap(({ properties, additionalProperties, items }) => {
      const named = properties !== undefined && Object.hasOwn(properties, segment) ? [properties[segment] ?? {}] : []
      const open = typeof additionalProperties === 'object' ? [additionalProperties] : []
      return typeof segment === 'number' ? (items === undefined ? [] : [items]) : [...named, ...open]
    })
  return [...new Set(forms.flatMap(allForms).flatMap(({ properties }) => Object.keys(properties ?? {})))]
}

const allForms = (schema: JsonSchema): readonly JsonSchema[] => [schema, ...(schema.anyOf ?? []).flatMap(allForms)]

/** The reference page: every key with its type, its default and its sentence. */
export function referencePage(): string {
  const rows = rowsOf('', jsonSchema(), false).filter(({ path }) => !path.includes('.lends.<name>[]'))
  const sections = new Map<string, Row[]>()
  for (const row of rows) {
    const [top = ''] = row.path.split(/[.[]/, 1)
    sections.set(top, [...(sections.get(top) ?? []), row])
  }
  const parts = [
    '# Configuration',
    'Every key of `sallyport.yaml`. This page is generated from the schema that the file is checked against; the same ' +
      'schema, for editors, is [sallyport.schema.json](sallyport.schema.json). `sallyport check` checks a file without ' +
      'starting. The language of `may`, `lends` and `rules` has a page of its own: [policy.md](policy.md).',
    '- Unknown keys, keys that stand twice, tags and merge keys (`<<`) are errors. Anchors may stand for whole values.',
    '- Durations are text such as `30 min` (`ms`, `s`, `min`, `h`, `days`), sizes such as `100 kB` (`B`, `kB`, `MB`, `GB`; ' +
      'a kB has 1,000 bytes). Folders and files are relative to the file.',
    '- `${secret:NAME}`, `${vault:path#field}`, `${env:NAME}` and `${file:path}` are replaced in `mcp.env`, `mcp.headers` ' +
      'and `credential`, and nowhere else: see [secrets.md](secrets.md). `$${` stands for `${` itself. One line end at ' +
      'the end of a file is left out.',
    '- `<name>` stands for a name of yours, `[]` for each of a list. An entry of `lends` has the keys of one of `may`.',
  ]
  for (const [top, [head, ...inner]] of sections) {
    parts.push(`## ${top}`, sentence(head))
    if (inner.length > 0)
      parts.push(['| key | type | default | |', '|---|---|---|---|', ...inner.map(tableRow)].join('\n'))
  }
  return `${parts.join('\n\n').replaceAll('\n\n- ', '\n- ').replace('\n- ', '\n\n- ')}\n`
}

interface Row {
  readonly path: string
  readonly schema: JsonSchema
  readonly required: boolean
}

function rowsOf(path: string, schema: JsonSchema, required: boolean): readonly Row[] {
  const rows: Row[] = path === '' ? [] : [{ path, schema, required }]
  for (const form of allForms(schema)) {
    for (const [key, inner] of Object.entries(form.properties ?? {}))
      rows.push(...rowsOf(path === '' ? key : `${path}.${key}`, inner, form.required?.includes(key) === true))
    if (typeof form.additionalProperties === 'object' && hasKeys(form.additionalProperties))
      rows.push(
        ...rowsOf(`${path}.<name>`, form.additionalProperties, false).filter(
          ({ path: each }) => each !== `${path}.<name>`,
        ),
      )
    if (form.items !== undefined && hasKeys(form.items))
      rows.push(...rowsOf(`${path}[]`, form.items, false).filter(({ path: each }) => each !== `${path}[]`))
  }
  return rows
}

const hasKeys = (schema: JsonSchema): boolean =>
  allForms(schema).some(
    ({ properties, additionalProperties, items }) =>
      properties !== undefined || typeof additionalProperties === 'object' || items !== undefined,
  )

const sentence = (row: Row | undefined): string => {
  const given = row?.schema.default
  const shown = given === undefined || isEmpty(given) ? '' : ` Default: \`${JSON.stringify(given)}\`.`
  const type = row === undefined || isOnlyKeys(row.schema) ? '' : ` (${typeWords(row.schema)})`
  return `${row?.schema.description ?? ''}${type}${shown}`
}

/** Whether the table below says all that there is to say of the type. */
const isOnlyKeys = ({ properties, additionalProperties, items }: JsonSchema): boolean =>
  properties !== undefined ||
  items !== undefined ||
  (typeof additionalProperties === 'object' && additionalProperties.properties !== undefined)

function tableRow({ path, schema, required }: Row): string {
  const standard = schema.default
  const shown = required
    ? 'required'
    : standard === undefined || isEmpty(standard)
      ? ''
      : `\`${typeof standard === 'string' ? standard : JSON.stringify(standard)}\``
  return `| \`${path}\` | ${typeWords(schema)} | ${shown} | ${cell(schema.description ?? '')} |`
}

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0

const cell = (text: string): string => text.replaceAll('|', '\\|')

function typeWords(schema: JsonSchema): string {
  if (schema.anyOf !== undefined) {
    const words = [...new Set(schema.anyOf.map(typeWords))]
    return words.length === 2 && words[1] === `list of ${words[0]}` ? `${words[0]}, or a list` : words.join(' or ')
  }
  if (schema.const !== undefined) return `\`${String(schema.const)}\``
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${String(value)}\``).join(', ')
  if (schema.items !== undefined) return `list of ${typeWords(schema.items)}`
  if (typeof schema.additionalProperties === 'object') return `${typeWords(schema.additionalProperties)} by name`
  if (schema.properties !== undefined) return 'keys'
  const types = [schema.type ?? []].flat()
  return types.length === 0 ? 'any value' : types.map((type) => plainTypes[type] ?? type).join(' or ')
}

const plainTypes: Readonly<Record<string, string>> = {
  string: 'text',
  integer: 'whole number',
  boolean: '`true`, `false`',
  object: 'keys',
}
