import type { Action, Problem } from '../../core/action.ts'
import { notThere } from '../../core/decide.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Label } from '../../core/label.ts'
import type { Effect, Permission } from '../../core/permission.ts'
import type { Session } from '../../core/session.ts'
import { digestOf } from '../../guard/digest.ts'
import type { Evaluation, Guard } from '../../guard/guard.ts'
import { nothingThere } from './check.ts'
import { isObject } from './wire.ts'

// The OpenID AuthZEN Authorization API 1.0: Access Evaluation (§6) and Access Evaluations (§7). A decision, and nothing
// performed. Fields that are not known are left alone, as the specification wants it.

/** What the gateways know of an operation. */
export interface Operation {
  readonly effect: Effect
  readonly label: Label
  readonly check: (args: JsonObject) => readonly Problem[]
  /** It exists, and may not be performed now, whatever policy says. */
  readonly barred?: Action['barred']
}

export interface EvaluationPorts {
  readonly guard: Pick<Guard, 'evaluate' | 'visible'>
  readonly find: (permission: Permission) => Operation | undefined
}

export interface Asker {
  readonly session: Session
  /** The request's `X-Request-ID`. */
  readonly request?: string
}

/** A request that is not what the specification says. A single one is answered with 400, one of several in its place. */
export class Malformed extends Error {}

export interface Evaluations {
  one(asker: Asker, body: JsonObject): Promise<JsonObject>
  /** As `one` where there is no list of them. */
  several(asker: Asker, body: JsonObject): Promise<JsonObject>
}

const mostAtOnce = 100
const longestName = 200
const semantics = ['execute_all', 'deny_on_first_deny', 'permit_on_first_permit'] as const

export function createEvaluations({ guard, find }: EvaluationPorts): Evaluations {
  async function one(asker: Asker, body: JsonObject): Promise<JsonObject> {
    const { subject, permission, args } = readTuple(body)
    const isOwn = names(subject, asker.session)
    const operation = isOwn ? find(permission) : undefined
    const evaluation = await guard.evaluate(actionOf(asker.session.id, permission, args, operation), {
      subject: `${subject.type}:${subject.id}`.slice(0, longestName),
      ...(asker.request === undefined ? {} : { request: asker.request.slice(0, longestName) }),
    })
    if (isOwn) return answerOf(evaluation, operation === undefined)
    return refused(evaluation.event, 'denied', 'a session may ask about itself, its agent, and whom it runs for')
  }

  async function several(asker: Asker, body: JsonObject): Promise<JsonObject> {
    const { evaluations = [] } = body
    if (!Array.isArray(evaluations)) throw new Malformed('`evaluations` has to be a list')
    const list = evaluations as readonly Json[]
    if (list.length === 0) return one(asker, body)
    if (list.length > mostAtOnce) throw new Malformed(`\`evaluations\` may be ${mostAtOnce} at once`)
    const semantic = semanticOf(body)
    const each = (item: Json): Promise<JsonObject> => oneOfSeveral(asker, body, item)
    if (semantic === 'execute_all') return { evaluations: await Promise.all(list.map(each)) }

    const answers: JsonObject[] = []
    for (const item of list) {
      const answer = await each(item)
      answers.push(answer)
      if (answer['decision'] === (semantic === 'permit_on_first_permit')) break
    }
    return { evaluations: answers }
  }

  async function oneOfSeveral(asker: Asker, body: JsonObject, item: Json): Promise<JsonObject> {
    try {
      if (!isObject(item)) throw new Malformed('each of `evaluations` has to be an object')
      return await one(asker, withDefaults(item, body))
    } catch (thrown) {
      if (!(thrown instanceof Malformed)) throw thrown
      return { decision: false, context: { error: { status: 400, message: thrown.message } } }
    }
  }

  function actionOf(
    session: string,
    permission: Permission,
    args: JsonObject,
    operation: Operation | undefined,
  ): Action {
    const common = { session, permission, args, via: 'api', name: 'evaluation' } as const
    if (operation === undefined) return { ...common, ...nothingThere }
    const { effect, label, barred } = operation
    const problems = guard.visible(session, permission, effect) ? operation.check(args) : []
    return { ...common, effect, label, problems, ...(barred === undefined ? {} : { barred }) }
  }

  return { one, several }
}

/** §5.5: a decision, and why it is not `true`. */
function answerOf(evaluation: Evaluation, isNothing: boolean): JsonObject {
  switch (evaluation.kind) {
    case 'allow':
      return { decision: true }
    case 'ask': {
      const { ask, because, event } = evaluation
      const needs = ask.needs.map(({ people, count }) => ({ ...(people === undefined ? {} : { people }), count }))
      return refused(event, 'approval_needed', because, { approval: { needs, within: ask.within / 1000 } })
    }
    case 'deny': {
      const { code, because, event, retryAt } = evaluation
      if (isNothing && code !== 'session_over') return refused(event, 'unknown', notThere)
      return refused(event, code, because, retryAt === undefined ? {} : { retry_at: new Date(retryAt).toISOString() })
    }
  }
}

const refused = (event: string, code: string, reason: string, more: JsonObject = {}): JsonObject => ({
  decision: false,
  context: { reason, code, event, ...more },
})

interface Named {
  readonly type: string
  readonly id: string
}

/** Whether a session is the one that is asked about: by its agent, its id, or on whose behalf its starter said it runs. */
const names = ({ type, id }: Named, session: Session): boolean =>
  (type === 'agent' && id === session.agent) ||
  (type === 'session' && id === session.id) ||
  `${type}:${id}` === session.behalf

/** §6.1. The arguments are what resource, action and context say of the call. */
function readTuple(body: JsonObject): {
  readonly subject: Named
  readonly permission: Permission
  readonly args: JsonObject
} {
  const subject = entity(body, 'subject')
  const action = entity(body, 'action')
  const resource = entity(body, 'resource')
  const { context = {} } = body
  if (!isObject(context)) throw new Malformed('`context` has to be an object')
  const id = text(resource, 'resource', 'id')
  return {
    subject: { type: text(subject, 'subject', 'type'), id: text(subject, 'subject', 'id') },
    permission: `${text(resource, 'resource', 'type')}:${text(action, 'action', 'name')}`,
    args: together([
      id === '*' ? {} : { id },
      object(resource, 'resource', 'properties'),
      object(action, 'action', 'properties'),
      object(context, 'context', 'arguments'),
    ]),
  }
}

function entity(body: JsonObject, name: string): JsonObject {
  const value = body[name]
  if (value === undefined) throw new Malformed(`\`${name}\` is missing`)
  if (!isObject(value)) throw new Malformed(`\`${name}\` has to be an object`)
  object(value, name, 'properties')
  return value
}

function text(entity: JsonObject, name: string, key: string): string {
  const value = entity[key]
  if (value === undefined) throw new Malformed(`\`${name}.${key}\` is missing`)
  if (typeof value !== 'string') throw new Malformed(`\`${name}.${key}\` has to be a text`)
  if (value.length > (key === 'id' ? 2_000 : longestName)) throw new Malformed(`\`${name}.${key}\` is too long`)
  return value
}

function object(entity: JsonObject, name: string, key: string): JsonObject {
  const value = entity[key] ?? {}
  if (!isObject(value)) throw new Malformed(`\`${name}.${key}\` has to be an object`)
  return value
}

/** A name with two values has none: what was decided about would not be what is done. */
function together(parts: readonly JsonObject[]): JsonObject {
  const all = new Map<string, Json>()
  for (const part of parts)
    for (const [name, value] of Object.entries(part)) {
      const other = all.get(name)
      if (other !== undefined && digestOf({ value: other }) !== digestOf({ value }))
        throw new Malformed(`the argument \`${name.slice(0, longestName)}\` has two values`)
      all.set(name, value)
    }
  return Object.fromEntries(all)
}

/** §7.1.1: an entity replaces the default as a whole, save for what it has to have and leaves out. */
function withDefaults(item: JsonObject, body: JsonObject): JsonObject {
  const merged: Record<string, Json> = {}
  for (const key of ['subject', 'action', 'resource', 'context']) {
    const [own, usual] = [item[key], body[key]]
    const value =
      isObject(own) && isObject(usual) && key !== 'context' ? { ...required(usual), ...own } : (own ?? usual)
    if (value !== undefined) merged[key] = value
  }
  return merged
}

const required = (entity: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(entity).filter(([key]) => key === 'type' || key === 'id' || key === 'name'))

function semanticOf({ options = {} }: JsonObject): (typeof semantics)[number] {
  if (!isObject(options)) throw new Malformed('`options` has to be an object')
  const { evaluations_semantic: given = 'execute_all' } = options
  const semantic = semantics.find((known) => known === given)
  if (semantic === undefined)
    throw new Malformed(`\`options.evaluations_semantic\` has to be one of ${semantics.join(', ')}`)
  return semantic
}
