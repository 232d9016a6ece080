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
  readonly enum?: readonly unknown[]
  readonly const?: unknown
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
      const named = properties !== undefined && Object.hasOwn(properties, segment) ? [properties[segment]!] : []
      const open = typeof additionalProperties === 'object' ? [additionalProperties] : []
      return typeof segment === 'number' ? (items === undefined ? [] : [items]) : [...named, ...open]
    })
  return [...new Set(forms.flatMap(allForms).flatMap(({ properties }) => Object.keys(properties ?? {})))]
}

const allForms = (schema: JsonSchema): readonly JsonSchema[] => [schema, ...(schema.anyOf ?? []).flatMap(allForms)]
