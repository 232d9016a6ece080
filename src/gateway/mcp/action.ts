import type { Action } from '../../core/action.ts'
import { wordsOf } from '../../core/decide.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Refusal } from '../../guard/guard.ts'
import { awaitApproval } from './await.ts'
import type { LocalOffer } from './local.ts'
import { problemsOf, promptPermission, resourcePermission } from './offer.ts'
import type { PromptOffer, ToolOffer } from './offer.ts'
import type { McpResource } from './resource.ts'
import { rpc, RpcError } from './wire.ts'

// From the protocol to actions, and from what came of them back to the protocol. Nothing here decides.

/** Names in `_meta` of our results, by which a program can tell what a model reads in the text. */
const approvalKey = 'dev.sallyport/approval'
const refusalKey = 'dev.sallyport/refusal'

/** @param isVisible - Arguments of a tool that the session may not know of are not looked at: that takes time. */
export function toolAction(
  session: string,
  offer: Omit<ToolOffer, 'resource'> & Pick<LocalOffer, 'host' | 'visible'>,
  args: JsonObject,
  isVisible: boolean,
): Action {
  const problems = isVisible ? problemsOf(offer, args) : []
  // Nobody holds the permission of such a tool itself: that alone would make it unknown, and say nothing of what is wrong.
  const isWrong = offer.visible !== undefined && problems.length > 0
  return {
    session,
    permission: offer.permission,
    effect: offer.effect,
    args,
    problems,
    ...(isWrong ? { refused: { rule: 'schema', because: wordsOf(problems), code: 'invalid_arguments' } } : {}),
    label: offer.label,
    via: 'mcp',
    name: offer.shown,
    ...(offer.host === undefined ? {} : { host: offer.host }),
    ...(offer.barred === undefined ? {} : { barred: offer.barred }),
  }
}

export const readAction = (session: string, { alias, resources }: McpResource, uri: string): Action => ({
  ...plainAction(session, { uri }, resources.label, uri),
  permission: resourcePermission(alias),
})

export const watchAction = (session: string, { alias, resources }: McpResource, uri: string): Action => ({
  ...plainAction(session, { uri }, resources.label, uri),
  permission: `${alias}.resources:subscribe`,
})

export const promptAction = (session: string, offer: PromptOffer, args: JsonObject): Action => ({
  ...plainAction(session, promptArguments(offer.name, args), offer.resource.prompts.label, offer.shown),
  permission: promptPermission(offer.resource.alias),
  ...(offer.barred === undefined ? {} : { barred: offer.barred }),
})

/** The prompt's arguments beside its name; apart from it where one of them is called `name` itself. */
const promptArguments = (name: string, args: JsonObject): JsonObject =>
  Object.hasOwn(args, 'name') ? { name, arguments: args } : { ...args, name }

/** Completion tells what a server knows of a prompt's or a template's arguments: a permission of its own. */
export const completeAction = (
  session: string,
  { alias, prompts, resources }: McpResource,
  kind: 'prompts' | 'resources',
  args: JsonObject,
): Action => ({
  ...plainAction(session, args, (kind === 'prompts' ? prompts : resources).label, 'completion/complete'),
  permission: `${alias}.${kind}:complete`,
})

const plainAction = (session: string, args: JsonObject, label: Label, name: string): Omit<Action, 'permission'> => ({
  session,
  effect: 'read',
  args,
  problems: [],
  label,
  via: 'mcp',
  name,
})

/** What came of something, as the protocol can carry it. */
export type Answer =
  | { readonly kind: 'result'; readonly result: JsonObject }
  | { readonly kind: 'error'; readonly error: RpcError }

export const failedTool = (text: string, meta?: JsonObject): Answer => ({
  kind: 'result',
  result: { content: [{ type: 'text', text }], isError: true, ...(meta === undefined ? {} : { _meta: meta }) },
})

/** Exactly what a name that never existed is answered. */
export const unknownTool = (name: string): Answer => error(rpc.params, `Unknown tool: ${short(name)}`)
export const unknownPrompt = (name: string): Answer => error(rpc.params, `Unknown prompt: ${short(name)}`)
export const unknownResource = (uri: string, code: number): Answer =>
  error(code, 'Resource not found', { uri: short(uri) })

const short = (text: string): string => (text.length <= 2_000 ? text : `${text.slice(0, 2_000)}…`)

const error = (code: number, message: string, data?: JsonObject): Answer => ({
  kind: 'error',
  error: new RpcError(code, message, data),
})

/** A refused call of a tool: a result, because models read results and seldom see errors. */
export const refusedTool = (shown: string, refusal: Refusal): Answer =>
  failedTool(wordsFor(shown, refusal), metaFor(refusal))

export const refusedRequest = (what: string, refusal: Refusal): Answer =>
  error(rpc.refused, wordsFor(what, refusal), metaFor(refusal))

function wordsFor(what: string, { code, because, approval, retryAt }: Refusal): string {
  const again = retryAt === undefined ? '' : ` It can be tried again at ${new Date(retryAt).toISOString()}.`
  switch (code) {
    case 'approval_pending':
      return (
        `\`${what}\` needs approval: ${because}. A person was asked; approval ${approval?.id} is pending until ` +
        `${new Date(approval?.expiresAt ?? 0).toISOString()}. Nothing has happened yet. Do not retry with different arguments: ` +
        `call ${awaitApproval} with {"id":"${approval?.id}"}, or repeat this exact call.`
      )
    case 'approval_denied':
      return approval?.edited === undefined
        ? `\`${what}\` was not approved: ${because}. Nothing has happened. Do not try it in another way.`
        : `\`${what}\` was approved with other arguments: ${because}. Nothing has happened yet. ` +
            `Repeat the call with exactly these arguments: ${JSON.stringify(approval.edited)}`
    case 'invalid_arguments':
      return `The arguments of \`${what}\` are wrong: ${because}`
    case 'limited':
      return `\`${what}\` was refused: ${because}.${again}`
    default:
      return `\`${what}\` was refused: ${because}.${again} Nothing has happened.`
  }
}

function metaFor({ code, event, approval, retryAt }: Refusal): JsonObject {
  const at: JsonObject = retryAt === undefined ? {} : { retryAt: new Date(retryAt).toISOString() }
  return {
    [refusalKey]: { code, event, ...at },
    ...(approval === undefined
      ? {}
      : { [approvalKey]: { id: approval.id, expiresAt: new Date(approval.expiresAt).toISOString() } }),
  }
}

/** Keys of `_meta` that mean something between a client and a server of the protocol: never an upstream's to set. */
export function ownMeta(meta: Json | undefined): JsonObject | undefined {
  if (typeof meta !== 'object' || meta === null || Array.isArray(meta)) return undefined
  const kept = Object.entries(meta as JsonObject).filter(([key]) => !isReserved(key))
  return kept.length === 0 ? undefined : Object.fromEntries(kept)
}

/** A prefix whose second label is `modelcontextprotocol` or `mcp` is the protocol's; `dev.sallyport/` is ours. */
const isReserved = (key: string): boolean =>
  key.startsWith('dev.sallyport/') ||
  /^(?:[^/]*\.)?(?:modelcontextprotocol|mcp)(?:\.[^/]*)?\//.test(key) ||
  key === 'progressToken'
