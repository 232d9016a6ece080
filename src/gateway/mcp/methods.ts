import type { IncomingHttpHeaders } from 'node:http'
import type { Action } from '../../core/action.ts'
import type { AuditLog } from '../../core/audit.ts'
import type { EventType } from '../../core/event.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Approvals } from '../../guard/approvals.ts'
import type { Clock } from '../../guard/clock.ts'
import type { CountPassed, Guard, Hold, Perform, Performed, Permit } from '../../guard/guard.ts'
import type { Sessions } from '../../guard/sessions.ts'
import type { Told, ToolCall } from '../../guard/tool.ts'
import {
  completeAction,
  failedTool,
  ownMeta,
  promptAction,
  readAction,
  refusedRequest,
  refusedTool,
  toolAction,
  unknownPrompt,
  unknownResource,
  unknownTool,
  watchAction,
} from './action.ts'
import type { Answer } from './action.ts'
import { awaitApproval, awaited, awaitTool } from './await.ts'
import { listed } from './catalog.ts'
import type { Catalog, Catalogs, Route } from './catalog.ts'
import { levelOf, logFor } from './clients.ts'
import type { LegacyClient } from './clients.ts'
import { UpstreamError } from './connection.ts'
import type { Progress, UpstreamAnswer } from './connection.ts'
import type { Exchange, Questions, Responses } from './exchange.ts'
import { holdFor } from './hold.ts'
import type { HoldTimes } from './hold.ts'
import { localResult } from './local.ts'
import type { LocalOffer } from './local.ts'
import { federatedResult } from './names.ts'
import { promptPermission, resourcePermission } from './offer.ts'
import type { ToolOffer } from './offer.ts'
import { createTelling } from './reply.ts'
import type { Telling } from './reply.ts'
import type { McpResource } from './resource.ts'
import type { Upstream } from './upstream.ts'
import type { Watching } from './watching.ts'
import { isObject, isQuestion, metaOf, missingFor, paramHeaders, paramMismatch, rpc, RpcError } from './wire.ts'
import type { Capabilities, Era, Question } from './wire.ts'

/** Who asks, as far as the protocol is concerned. */
export interface Client {
  /** The session of Sallyport: who it is that asks. */
  readonly session: string
  readonly era: Era
  /** Tells this client from all others. */
  readonly key: string
  readonly capabilities: Capabilities
  readonly logLevel: string | undefined
  readonly legacy: LegacyClient | undefined
}

/** One request to be answered. */
export interface Asked {
  readonly client: Client
  readonly params: JsonObject
  readonly headers: IncomingHttpHeaders
  readonly exchange: Exchange
  /** Aborts when nobody waits for the answer any more. */
  readonly signal: AbortSignal
  /** What a client sent along without being asked, or whose question is not remembered. */
  readonly responses: Responses | undefined
}

export type Method = (asked: Asked) => Promise<Answer>

export interface MethodPorts {
  readonly guard: Pick<Guard, 'run' | 'visible'>
  readonly sessions: Pick<Sessions, 'get'>
  readonly approvals: Pick<Approvals, 'get' | 'settled'>
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly catalogs: Catalogs
  readonly watching: Watching
  readonly hold: HoldTimes
  /** Whether secrets were replaced in what upstreams said. */
  readonly isMasked: boolean
  /** Told of failures that are nobody's but ours. */
  readonly report: (thrown: unknown) => void
}

const mostRounds = 8
const mostQuestionsAtOnce = 16

/** The methods that there are, by era and name. What is not here does not exist. */
export interface Methods extends Readonly<Record<Era, ReadonlyMap<string, Method>>> {
  /** Lets a stream be told of a resource's changes, if the session may be. */
  watch(asked: Asked, uri: string, watcher: string): Promise<boolean>
}

export function createMethods(ports: MethodPorts): Methods {
  const { guard, sessions, approvals, audit, clock, catalogs, watching, hold } = ports

  const catalogFor = ({ client }: Asked): Promise<Catalog> => catalogs.for(client.key, client.capabilities)
  const upstreamOf = ({ alias }: McpResource): Upstream => {
    const upstream = catalogs.upstream(alias)
    if (upstream === undefined) throw new Failure('unavailable', `${alias} was taken out of the configuration`)
    return upstream
  }

  // Lists: what a session may not use is not in them -----------------------------------------------------------------------

  async function listTools(asked: Asked): Promise<Answer> {
    const { tools: all } = await catalogFor(asked)
    const { session } = asked.client
    const seen = [...all.values()].filter((offer) => mayKnow(session, offer))
    const tools = [...listed(seen), awaitTool].sort(byShownName)
    return page(asked, 'tools', asked.client.era === 'legacy' ? tools.map(forLegacy) : tools)
  }

  async function listPrompts(asked: Asked): Promise<Answer> {
    const { prompts } = await catalogFor(asked)
    const seen = [...prompts.values()].filter(({ resource: { alias } }) =>
      guard.visible(asked.client.session, promptPermission(alias), 'read'),
    )
    return page(asked, 'prompts', listed(seen))
  }

  const listAddresses =
    (key: 'resources' | 'templates', as: string): Method =>
    async (asked) => {
      const offers = (await catalogFor(asked))[key]
      const seen = offers.filter(({ resource: { alias } }) =>
        guard.visible(asked.client.session, resourcePermission(alias), 'read'),
      )
      return page(asked, as, listed(seen))
    }

  function page({ params }: Asked, key: string, entries: readonly JsonObject[]): Answer {
    if (params['cursor'] !== undefined)
      throw new RpcError(rpc.params, 'this cursor was never given out: the list has one page')
    return { kind: 'result', result: { [key]: entries } }
  }

  // Tools ------------------------------------------------------------------------------------------------------------------

  async function callTool(asked: Asked): Promise<Answer> {
    const name = text(asked.params, 'name')
    const args = asked.params['arguments'] ?? {}
    if (!isObject(args)) throw new RpcError(rpc.params, '`arguments` has to be an object')
    if (name === awaitApproval) return callAwait(asked, args)
    const { session, era } = asked.client
    const offer = (await catalogFor(asked)).tools.get(name)
    if (offer === undefined) return neverWas(session, 'tools/call', name, unknownTool(name))

    const isVisible = mayKnow(session, offer)
    if (isVisible && era === 'modern' && offer.headers.length > 0) {
      const wrong = paramMismatch(offer.headers, args, asked.headers)
      if (wrong !== undefined) throw new RpcError(rpc.headerMismatch, wrong)
    }
    const action = toolAction(session, offer, args, isVisible)
    const outcomes: Outcomes = {
      unknown: () => unknownTool(name),
      refused: (refusal) => refusedTool(offer.shown, refusal),
      failed: ({ message }) => failedTool(`\`${offer.shown}\` failed: ${message}`),
    }
    if ('prepare' in offer) {
      const isReady = isVisible && action.problems.length === 0 && action.barred === undefined
      const call = isReady ? await prepared(offer, args, session) : { perform: neverReady }
      if ('answer' in call) return { kind: 'result', result: localResult(call.answer) }
      return callLocal(asked, action, call, outcomes)
    }
    const perform = async (signal: AbortSignal, telling: Telling): Promise<Performed<Answer>> => {
      const params = { name: offer.name, arguments: args }
      const headers = paramHeaders(offer.headers, args)
      return finishTool(
        offer,
        asked,
        await converse(offer.resource, asked, 'tools/call', params, signal, telling, headers),
      )
    }
    return guarded(asked, action, perform, outcomes)
  }

  const mayKnow = (session: string, offer: ToolOffer | LocalOffer): boolean =>
    'prepare' in offer && offer.visible !== undefined
      ? offer.visible((permission, effect) => guard.visible(session, permission, effect))
      : guard.visible(session, offer.permission, offer.effect)

  /** Making ready does nothing: where it fails, so would the call. */
  async function prepared(offer: LocalOffer, args: JsonObject, session: string): Promise<ToolCall | Told> {
    try {
      return await offer.prepare(args, session)
    } catch (thrown) {
      return {
        perform: async () => {
          throw thrown
        },
      }
    }
  }

  /** A call of a tool of this process; once more where what came of it means that it has to be decided anew. */
  async function callLocal(asked: Asked, action: Action, call: ToolCall, outcomes: Outcomes): Promise<Answer> {
    let again: ToolCall | undefined
    const perform = async (
      signal: AbortSignal,
      _telling: Telling,
      passed: CountPassed,
      permit: Permit,
    ): Promise<Performed<Answer>> => {
      try {
        const performed = await call.perform(signal, passed, permit)
        return { ...performed, value: { kind: 'result', result: localResult(performed.value) } }
      } catch (thrown) {
        again = call.again?.(thrown)
        throw thrown
      }
    }
    const answer = await guarded(asked, { ...action, ...call.action }, perform, outcomes, call.evidence)
    return again === undefined ? answer : callLocal(asked, action, again, outcomes)
  }

  /** A tool's result as agents may have it. One that is not what its server promised is refused. */
  function finishTool(offer: ToolOffer, { client }: Asked, { result, bytes }: UpstreamAnswer): Performed<Answer> {
    const { content = [], structuredContent, isError, _meta } = result
    const isList = Array.isArray(content) && content.every(isObject)
    const ran = ['size', ...(offer.output === undefined ? [] : ['output schema'])]
    const wrong = !isList
      ? 'its content is not a list of blocks'
      : offer.output === undefined || isError === true
        ? undefined
        : structuredContent === undefined
          ? 'it has no structured content, which the tool promises'
          : offer.output.check(structuredContent).map(({ path, message }) => `${path || '/'}: ${message}`)[0]
    if (wrong !== undefined) {
      tell('upstream.result_refused', {
        resource: offer.resource.alias,
        permission: offer.permission,
        session: client.session,
        because: wrong.slice(0, 500),
      })
      const answer = failedTool(
        `The result of \`${offer.shown}\` was refused: ${isList ? 'it does not fit the output schema of the tool' : wrong}. The call itself may have had its effect.`,
      )
      return { value: answer, record: { refused: wrong.slice(0, 500), result }, bytes, failed: true, checks: { ran } }
    }
    const meta = ownMeta(_meta)
    const fits = structuredContent !== undefined && (client.era === 'modern' || isObject(structuredContent))
    const own: JsonObject = {
      content,
      ...(fits ? { structuredContent } : {}),
      ...(isError === true ? { isError } : {}),
      ...(meta === undefined ? {} : { _meta: meta }),
    }
    const seen = shown(offer.resource, 'tools/call', own)
    return { value: { kind: 'result', result: seen }, record: own, bytes, failed: isError === true, checks: { ran } }
  }

  async function callAwait({ client, exchange, signal }: Asked, args: JsonObject): Promise<Answer> {
    const { id } = args
    if (typeof id !== 'string' || id.length > 100)
      return failedTool(
        `The arguments of \`${awaitApproval}\` are wrong: it takes the id of an approval, as {"id":"appr_…"}`,
      )
    const telling = createTelling(exchange.reply)
    const found = await awaited(approvals, id, client.session, holdFor(exchange.reply, telling, hold, clock), signal)
    if (found === undefined) return failedTool('This session has no approval with that id.')
    return {
      kind: 'result',
      result: { content: [{ type: 'text', text: found.text }], ...(found.isError ? { isError: true } : {}) },
    }
  }

  // Resources ----------------------------------------------------------------------------------------------------------------

  async function readResource(asked: Asked): Promise<Answer> {
    const uri = text(asked.params, 'uri')
    const { session, era } = asked.client
    const unknown = (): Answer => unknownResource(uri, era === 'modern' ? rpc.params : rpc.legacyNotFound)
    const route = (await catalogFor(asked)).route(uri)
    if (route === undefined) return neverWas(session, 'resources/read', uri, unknown())
    const { resource } = route.upstream
    const perform = async (signal: AbortSignal, telling: Telling): Promise<Performed<Answer>> => {
      const answer = await converse(resource, asked, 'resources/read', { uri: route.uri }, signal, telling)
      const { contents } = answer.result
      if (!Array.isArray(contents) || !contents.every(isObject))
        throw new Failure('unavailable', 'the answer has no contents')
      return finish(resource, 'resources/read', { contents }, answer.bytes)
    }
    return guarded(asked, readAction(session, resource, route.uri), perform, {
      unknown,
      refused: (refusal) => refusedRequest(uri, refusal),
      notFound: unknown,
    })
  }

  async function subscribe(asked: Asked): Promise<Answer> {
    const uri = text(asked.params, 'uri')
    const client = legacyOf(asked.client)
    const unknown = (): Answer => unknownResource(uri, rpc.legacyNotFound)
    const route = (await catalogFor(asked)).route(uri)
    if (route === undefined) return neverWas(client.owner, 'resources/subscribe', uri, unknown())
    if (watching.watches(client.id, uri)) return { kind: 'result', result: {} }
    return watch(asked, route, uri, client.id, unknown)
  }

  /** Lets a client be told of changes: an action of its own. Its fate is an answer, which says no more than yes or no. */
  function watch(
    asked: Asked,
    { upstream, uri: own }: Route,
    uri: string,
    watcher: string,
    unknown: () => Answer,
  ): Promise<Answer> {
    const perform = async (): Promise<Performed<Answer>> => {
      await watching.add(watcher, asked.client.session, upstream, own, uri)
      return { value: { kind: 'result', result: {} }, record: {}, bytes: 0, checks: { ran: [] } }
    }
    return guarded(asked, watchAction(asked.client.session, upstream.resource, own), perform, {
      unknown,
      refused: (refusal) => refusedRequest(uri, refusal),
      notFound: unknown,
    })
  }

  async function watchFor(asked: Asked, uri: string, watcher: string): Promise<boolean> {
    const route = (await catalogFor(asked)).route(uri)
    const no: Answer = unknownResource(uri, rpc.params)
    if (route === undefined) return (await neverWas(asked.client.session, 'subscriptions/listen', uri, no)) !== no
    const answer = await watch(asked, route, uri, watcher, () => no).catch(() => no)
    return answer.kind === 'result'
  }

  async function unsubscribe({ params, client }: Asked): Promise<Answer> {
    watching.remove(legacyOf(client).id, text(params, 'uri'))
    return { kind: 'result', result: {} }
  }

  // Prompts and completion -----------------------------------------------------------------------------------------------------

  async function getPrompt(asked: Asked): Promise<Answer> {
    const name = text(asked.params, 'name')
    const args = asked.params['arguments'] ?? {}
    if (!isObject(args) || !Object.values(args).every((value) => typeof value === 'string'))
      throw new RpcError(rpc.params, '`arguments` has to be an object of texts')
    const { session } = asked.client
    const offer = (await catalogFor(asked)).prompts.get(name)
    if (offer === undefined) return neverWas(session, 'prompts/get', name, unknownPrompt(name))
    const { resource } = offer
    const perform = async (signal: AbortSignal, telling: Telling): Promise<Performed<Answer>> => {
      const answer = await converse(
        resource,
        asked,
        'prompts/get',
        { name: offer.name, arguments: args },
        signal,
        telling,
      )
      const { messages, description } = answer.result
      if (!Array.isArray(messages) || !messages.every(isObject))
        throw new Failure('unavailable', 'the answer has no messages')
      return finish(
        resource,
        'prompts/get',
        { messages, ...(typeof description === 'string' ? { description } : {}) },
        answer.bytes,
      )
    }
    return guarded(asked, promptAction(session, offer, args), perform, {
      unknown: () => unknownPrompt(name),
      refused: (refusal) => refusedRequest(name, refusal),
    })
  }

  async function complete(asked: Asked): Promise<Answer> {
    const { ref, argument, context } = asked.params
    if (!isObject(ref) || !isObject(argument)) throw new RpcError(rpc.params, '`ref` and `argument` have to be objects')
    const [name, value] = [text(argument, 'name'), text(argument, 'value', true)]
    const { session } = asked.client
    const catalog = await catalogFor(asked)
    const isPrompt = ref['type'] === 'ref/prompt'
    if (!isPrompt && ref['type'] !== 'ref/resource')
      throw new RpcError(rpc.params, '`ref.type` has to be `ref/prompt` or `ref/resource`')
    const of = text(ref, isPrompt ? 'name' : 'uri')
    const unknown = (): Answer => (isPrompt ? unknownPrompt(of) : unknownResource(of, rpc.params))

    const prompt = isPrompt ? catalog.prompts.get(of) : undefined
    const template = isPrompt
      ? undefined
      : (catalog.templates.find(({ shown: each }) => each === of) ??
        catalog.resources.find(({ shown: each }) => each === of))
    const resource = prompt?.resource ?? template?.resource
    if (resource === undefined) return neverWas(session, 'completion/complete', of, unknown())
    // Whoever may not see the thing learns nothing of its arguments, whatever else was granted.
    const permission = isPrompt ? promptPermission(resource.alias) : resourcePermission(resource.alias)
    if (!guard.visible(session, permission, 'read')) return neverWas(session, 'completion/complete', of, unknown())

    const own: JsonObject =
      prompt === undefined
        ? { type: 'ref/resource', uri: template?.uri ?? of }
        : { type: 'ref/prompt', name: prompt.name }
    const known: JsonObject =
      isObject(context) && isObject(context['arguments']) ? { context: { arguments: context['arguments'] } } : {}
    const params: JsonObject = { ref: own, argument: { name, value }, ...known }
    const perform = async (signal: AbortSignal, telling: Telling): Promise<Performed<Answer>> => {
      const answer = await converse(resource, asked, 'completion/complete', params, signal, telling)
      const completion = isObject(answer.result['completion']) ? answer.result['completion'] : {}
      const { values, total, hasMore } = completion
      const result = {
        completion: {
          values: Array.isArray(values) ? values.filter((each) => typeof each === 'string').slice(0, 100) : [],
          ...(Number.isSafeInteger(total) ? { total: total as number } : {}),
          ...(typeof hasMore === 'boolean' ? { hasMore } : {}),
        },
      }
      return finish(resource, 'completion/complete', result, answer.bytes)
    }
    return guarded(asked, completeAction(session, resource, isPrompt ? 'prompts' : 'resources', params), perform, {
      unknown,
      refused: (refusal) => refusedRequest(of, refusal),
    })
  }

  // What all of them share -------------------------------------------------------------------------------------------------------

  interface Outcomes {
    readonly unknown: () => Answer
    readonly refused: (refusal: Parameters<typeof refusedTool>[1]) => Answer
    readonly failed?: (failure: Failure) => Answer
    readonly notFound?: () => Answer
  }

  /** The one way to an upstream: through the guard, and back as an answer. */
  async function guarded(
    asked: Asked,
    action: Action,
    perform: (signal: AbortSignal, telling: Telling, passed: CountPassed, permit: Permit) => Promise<Performed<Answer>>,
    { unknown, refused, failed, notFound }: Outcomes,
    evidence?: Hold['evidence'],
  ): Promise<Answer> {
    const { exchange } = asked
    const telling = createTelling(exchange.reply)
    const attempt = async (signal: AbortSignal, passed: CountPassed, permit: Permit): Promise<Performed<Answer>> => {
      try {
        return await perform(signal, telling, passed, permit)
      } catch (thrown) {
        if (thrown instanceof RpcError) return failedAs({ kind: 'error', error: thrown }, thrown)
        if (!(thrown instanceof UpstreamError)) throw thrown
        const answer =
          notFound !== undefined && (thrown.code === rpc.params || thrown.code === rpc.legacyNotFound)
            ? notFound()
            : answerTo(thrown, asked, failed)
        return failedAs(answer, thrown)
      }
    }
    try {
      const tried: Perform<Answer> = async (signal, passed, permit) =>
        recorded(action, await attempt(signal, passed, permit))
      const held = { ...holdFor(exchange.reply, telling, hold, clock), ...(evidence === undefined ? {} : { evidence }) }
      const outcome = await guard.run(action, tried, held, asked.signal)
      if (outcome.kind === 'done') return outcome.value
      return outcome.refusal.code === 'unknown' ? unknown() : refused(outcome.refusal)
    } catch (thrown) {
      if (thrown instanceof RpcError) throw thrown
      const failure = Failure.from(thrown)
      if (failure.code === 'internal') ports.report(thrown)
      if (failed !== undefined) return failed(failure)
      throw new RpcError(failure.code === 'limited' ? rpc.refused : rpc.internal, failure.message)
    }
  }

  /** What the record says beside: which secrets went along, and that none came back. */
  function recorded({ permission }: Action, performed: Performed<Answer>): Performed<Answer> {
    const [alias = ''] = permission.split(/[.:]/, 1)
    const { secrets } = catalogs.upstream(alias)?.resource ?? {}
    const { ran } = performed.checks
    return {
      ...performed,
      ...(secrets === undefined ? {} : { secrets }),
      ...(ports.isMasked ? { checks: { ...performed.checks, ran: [...ran, 'secrets'] } } : {}),
    }
  }

  /** An upstream's error, without its words: they may tell of its insides, and nobody looked at them. */
  function answerTo({ code, data }: UpstreamError, { client }: Asked, failed: Outcomes['failed']): Answer {
    if (code === rpc.missingCapability && isObject(data) && isObject(data['requiredCapabilities'])) {
      const asks = Object.keys(data['requiredCapabilities']).filter(
        (name) => name === 'elicitation' || name === 'sampling' || name === 'roots',
      )
      const missing = asks.filter((name) => client.capabilities[name as keyof Capabilities] === undefined)
      if (missing.length > 0)
        return { kind: 'error', error: missingCapability(Object.fromEntries(missing.map((name) => [name, {}]))) }
      return failedTool(`This needs ${asks.join(' and ')}, which is switched off here for this server.`)
    }
    if (failed !== undefined)
      return failed(new Failure('unavailable', `the upstream server answered with error ${Math.trunc(code) || 0}`))
    if (code === rpc.params)
      return { kind: 'error', error: new RpcError(rpc.params, 'the upstream server refused the parameters') }
    if (code === rpc.method)
      return { kind: 'error', error: new RpcError(rpc.method, 'the upstream server does not support this') }
    return {
      kind: 'error',
      error: new RpcError(rpc.internal, 'the upstream server answered with an error', {
        upstreamCode: Math.trunc(code) || 0,
      }),
    }
  }

  /** Asks an upstream, and passes its questions on to the client, until there is an answer. */
  async function converse(
    resource: McpResource,
    asked: Asked,
    method: string,
    params: JsonObject,
    signal: AbortSignal,
    telling: Telling,
    headers?: Readonly<Record<string, string>>,
  ): Promise<UpstreamAnswer> {
    const { client, exchange } = asked
    const upstream = upstreamOf(resource)
    const capabilities = upstream.allowed(client.capabilities)
    const connection = await upstream.connection({ key: client.key, capabilities })
    const { traceparent, tracestate } = metaOf(asked.params)
    const trace = traceOf(traceparent, tracestate)
    const wantsProgress = exchange.reply().progressToken !== undefined
    const common = {
      method,
      signal,
      timeout: resource.timeout,
      most: resource.result,
      capabilities,
      ...(headers === undefined ? {} : { headers }),
      ...(wantsProgress ? { onProgress: (progress: Progress) => telling.tell(progress) } : {}),
      ...(client.logLevel === undefined ? {} : { logLevel: client.logLevel, onLog: log }),
      ...(Object.keys(capabilities).length === 0 ? {} : { ask: askOne }),
    }

    function log(message: JsonObject): void {
      const params = logFor(client.logLevel, message)
      if (params !== undefined) exchange.reply().say({ method: 'notifications/message', params })
    }

    async function askOne(question: Question): Promise<JsonObject> {
      const responses = await askAll({ question })
      return responses['question'] ?? (question.method === 'elicitation/create' ? { action: 'cancel' } : noAnswer())
    }

    async function askAll(questions: Questions): Promise<Responses> {
      for (const question of Object.values(questions)) {
        if (!isQuestion(question.method))
          throw new Failure('unavailable', 'the server asked for something that the protocol does not have')
        const kind = question.method.split('/')[0] as 'elicitation' | 'sampling' | 'roots'
        if (!resource.asks[kind])
          throw new Failure('forbidden', `the server asked for ${kind}, which is switched off for it`)
        const missing = missingFor(question, capabilities)
        if (missing !== undefined) throw missingCapability(missing)
      }
      if (client.legacy === undefined) return exchange.ask(questions)
      const responses: Record<string, JsonObject> = {}
      for (const [name, question] of Object.entries(questions))
        responses[name] = await client.legacy.ask(exchange.reply(), question, signal)
      return responses
    }

    const own = trace === undefined ? params : { ...params, _meta: trace }
    let more: JsonObject =
      asked.responses === undefined || connection.era === 'legacy' ? {} : { inputResponses: asked.responses }
    for (let round = 0; round < mostRounds; round++) {
      const answer = await connection.call({ ...common, params: { ...own, ...more } })
      if (answer.result['resultType'] !== 'input_required') return answer
      const { inputRequests, requestState } = answer.result
      if (requestState !== undefined && typeof requestState !== 'string')
        throw new Failure('unavailable', 'the server sent a state that is no text')
      const questions = questionsOf(inputRequests)
      const responses = Object.keys(questions).length === 0 ? {} : await askAll(questions)
      if (Object.keys(questions).length === 0) await pause(500 * (round + 1), signal)
      more = {
        inputResponses: responses,
        ...(requestState === undefined ? {} : { requestState }),
      }
    }
    throw new Failure('unavailable', `the server asked more than ${mostRounds} times`)
  }

  /** Written down like a refusal, so that neither the answer nor the time that it takes tells the two apart. */
  async function neverWas(session: string, method: string, name: string, answer: Answer): Promise<Answer> {
    const agent = sessions.get(session)?.agent
    await audit.append({ type: 'name.unknown', at: clock(), session, agent, method, name: name.slice(0, 200) }).done
    return answer
  }

  function tell(type: EventType, more: JsonObject): void {
    audit.append({ type, at: clock(), ...more }, 'written').done.catch(() => {})
  }

  async function setLevel({ params, client }: Asked): Promise<Answer> {
    legacyOf(client).logLevel = levelOf(params['level'])
    return { kind: 'result', result: {} }
  }

  const shared: [string, Method][] = [
    ['tools/list', listTools],
    ['tools/call', callTool],
    ['resources/list', listAddresses('resources', 'resources')],
    ['resources/templates/list', listAddresses('templates', 'resourceTemplates')],
    ['resources/read', readResource],
    ['prompts/list', listPrompts],
    ['prompts/get', getPrompt],
    ['completion/complete', complete],
  ]
  return {
    watch: watchFor,
    modern: new Map(shared),
    legacy: new Map<string, Method>([
      ...shared,
      ['ping', async () => ({ kind: 'result', result: {} })],
      ['logging/setLevel', setLevel],
      ['resources/subscribe', subscribe],
      ['resources/unsubscribe', unsubscribe],
    ]),
  }
}

const missingCapability = (requiredCapabilities: JsonObject): RpcError =>
  new RpcError(rpc.missingCapability, 'this needs a capability that the client did not declare', {
    requiredCapabilities,
  })

function noAnswer(): never {
  throw new Failure('cancelled', 'the client did not answer')
}

/** For methods that only legacy clients have. */
function legacyOf({ legacy }: Client): LegacyClient {
  if (legacy === undefined) throw new TypeError('a method of the legacy protocol was called in the modern one')
  return legacy
}

/** Legacy clients know no results but objects, and drop the whole list for one tool that has others. */
function forLegacy(tool: JsonObject): JsonObject {
  const { outputSchema, ...rest } = tool
  return isObject(outputSchema) && outputSchema['type'] !== 'object' ? rest : tool
}

/** A member of `params` that has to be a text. Fails with an `RpcError`. */
export function text(params: JsonObject, key: string, mayBeEmpty = false): string {
  const value = params[key]
  if (typeof value !== 'string' || (value === '' && !mayBeEmpty) || value.length > 8_000)
    throw new RpcError(rpc.params, `\`${key}\` has to be a text of 1 to 8,000 characters`)
  return value
}

function questionsOf(given: Json | undefined): Questions {
  if (given === undefined) return {}
  const entries = isObject(given) ? Object.entries(given) : []
  if (!isObject(given) || entries.length > mostQuestionsAtOnce)
    throw new Failure('unavailable', 'the server asked in a way that can’t be understood')
  return Object.fromEntries(
    entries.map(([name, question]): [string, Question] => {
      if (!isObject(question) || typeof question['method'] !== 'string')
        throw new Failure('unavailable', 'the server asked in a way that can’t be understood')
      return [name, { method: question['method'], params: isObject(question['params']) ? question['params'] : {} }]
    }),
  )
}

/** W3C Trace Context. `baggage` is left out: it may hold anything. */
function traceOf(traceparent: Json | undefined, tracestate: Json | undefined): JsonObject | undefined {
  if (typeof traceparent !== 'string' || !/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent))
    return undefined
  const hasState = typeof tracestate === 'string' && /^[\x20-\x7e]{1,512}$/.test(tracestate)
  return { traceparent, ...(hasState ? { tracestate } : {}) }
}

const failedAs = (value: Answer, { code, message }: UpstreamError | RpcError): Performed<Answer> => ({
  value,
  record: { error: { code, message: message.slice(0, 1_000) } },
  bytes: 0,
  failed: true,
  checks: { ran: [] },
})

function finish(resource: McpResource, method: string, result: JsonObject, bytes: number): Performed<Answer> {
  return {
    value: { kind: 'result', result: shown(resource, method, result) },
    record: result,
    bytes,
    checks: { ran: ['size'] },
  }
}

const shown = ({ alias, prefix }: McpResource, method: string, result: JsonObject): JsonObject =>
  prefix ? federatedResult(alias, method, result) : result

const byShownName = (a: JsonObject, b: JsonObject): number => ((a['name'] as string) < (b['name'] as string) ? -1 : 1)

const pause = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const cut = (): void => {
      clearTimeout(timer)
      reject(new Failure('cancelled', 'the call was cancelled'))
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', cut)
      resolve()
    }, milliseconds)
    signal.addEventListener('abort', cut, { once: true })
  })

/** Stands where nothing may be performed: the guard refuses such a call before. */
const neverReady: ToolCall['perform'] = () =>
  Promise.reject(new Failure('conflict', 'what this session may do changed: repeat the call'))
