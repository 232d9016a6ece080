import type { JsonObject } from '../../core/json.ts'
import { cleanText } from '../../guard/hidden-text.ts'
import type { Tool, ToolAnswer } from '../../guard/tool.ts'
import { federatedName } from './names.ts'
import type { ToolOffer } from './offer.ts'

/** A tool of this process as it is offered. */
export interface LocalOffer extends Omit<ToolOffer, 'resource'>, Pick<Tool, 'host' | 'visible' | 'prepare'> {}

export function offerLocal({ alias, name, check, description, schema, barred, ...tool }: Tool): LocalOffer {
  const shown = federatedName(alias, name)
  return {
    ...tool,
    name,
    shown,
    // What was changed is not shown before a person has accepted it.
    listed:
      barred === undefined ? { name: shown, description: cleanText(description), inputSchema: schema } : undefined,
    schema,
    input: { check: (value) => check(value as JsonObject) },
    output: undefined,
    headers: [],
    barred,
  }
}

/** The answer of such a tool in the words of the protocol. */
export const localResult = ({ text, structured, isError }: ToolAnswer): JsonObject => ({
  content: [{ type: 'text', text }],
  ...(structured === undefined ? {} : { structuredContent: structured }),
  ...(isError ? { isError } : {}),
})
