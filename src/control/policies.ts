import { z } from 'zod'
import type { Action } from '../core/action.ts'
import type { AuditEvent } from '../core/audit.ts'
import type { TraceStep } from '../core/decide.ts'
import { Failure } from '../core/failure.ts'
import { callerName } from '../core/identity.ts'
import type { Json, JsonObject } from '../core/json.ts'
import { clean } from '../core/label.ts'
import type { Effect } from '../core/permission.ts'
import type { AsStarted } from '../guard/sessions.ts'
import { count, facts, jsonObject, name, readBody } from './body.ts'
import type { ControlPorts } from './ports.ts'
import { route } from './router.ts'
import type { Route } from './router.ts'
import type { Explain, Explained } from './wire.ts'

const explainBody: z.ZodType<Explain> = z.strictObject({
  event: name.optional(),
  session: name.optional(),
  agent: name.optional(),
  facts: facts.optional(),
  permission: name.optional(),
  args: jsonObject.optional(),
})

interface Wanted {
  readonly session: string
  readonly permission: string
  readonly effect?: Effect
  readonly args: JsonObject
}

export function policyRoutes(ports: ControlPorts): readonly Route[] {
  const { policies, versions, guard, sessions, audit, operations, reload, hideSecrets } = ports

  /** Explains under the policy of now. An event's session may be over: its facts are in the event that began it. */
  async function explain(request: Explain): Promise<Explained> {
    const event = request.event === undefined ? undefined : await decisionEvent(request.event)
    const { session, permission, effect, args } = event === undefined ? wantedBy(request) : wantedOf(event)
    const operation = operations.find(permission)
    const action: Action = {
      permission,
      effect: operation?.effect ?? effect ?? 'destroy',
      args,
      problems: operation?.check(args) ?? [],
      label: operation?.label ?? clean,
      via: 'api',
      ...(await operation?.complete?.(args)),
      session,
    }
    const steps: TraceStep[] = []
    const live = sessions.get(session) !== undefined
    const trace = (step: TraceStep): void => void steps.push(step)
    const decision = live
      ? guard.explain(action, trace)
      : guard.explainFor(await startedAs(request, event), action, trace)
    return {
      decision,
      steps,
      policy: policies.current().policy.digest,
      ...(event === undefined
        ? {}
        : {
            decided: {
              policy: text(event['policy']),
              decision: text(event['decision']),
              because: text(event['because']),
            },
          }),
    }
  }

  async function decisionEvent(id: string): Promise<AuditEvent> {
    const event = await audit.get(id)
    if (event === undefined) throw new Failure('not_found', `the log has no event ${id}`)
    if (event.type !== 'decision') {
      const of = event['of']
      if (typeof of === 'string' && of !== id) return decisionEvent(of)
      throw new Failure('invalid', `${id} is ${event.type}: expected a decision`)
    }
    if (event['cut'] !== undefined)
      throw new Failure('invalid', `the arguments of ${id} are not kept as they were: give them with --args instead`)
    return event
  }

  function wantedBy({ session, permission, args }: Explain): Wanted {
    if (permission === undefined) throw new Failure('invalid', 'expected `permission`, or the id of an event')
    return { session: session ?? '', permission, args: args ?? {} }
  }

  /** Who the action is explained for, where no live session is: each agent of the chain as its session was started. */
  async function startedAs(request: Explain, event: AuditEvent | undefined): Promise<readonly AsStarted[]> {
    if (event === undefined) {
      if (request.session !== undefined) throw new Failure('not_found', `there is no live session ${request.session}`)
      if (request.agent === undefined) throw new Failure('invalid', 'expected `session`, or `agent`')
      return [{ agent: request.agent, behalf: `agent:${request.agent}`, facts: request.facts ?? {} }]
    }
    const chain = (event['chain'] ?? []) as readonly JsonObject[]
    return Promise.all(
      chain.map(async ({ session, agent, behalf }) => {
        const { events } = await audit.search({ type: 'session.start', session: text(session) }, { limit: 1 })
        const only = events[0]?.['only']
        return {
          agent: text(agent),
          behalf: text(behalf),
          facts: (events[0]?.['facts'] ?? {}) as AsStarted['facts'],
          ...(Array.isArray(only) ? { only: only as unknown as NonNullable<AsStarted['only']> } : {}),
        }
      }),
    )
  }

  return [
    route('POST', '/v1/explain', ['admin', 'auditor', 'approver'], ({ body }) => explain(readBody(explainBody, body))),
    route('POST', '/v1/reload', ['admin'], ({ caller }) => reload(callerName(caller))),
    route('GET', '/v1/policies', ['admin', 'auditor'], async ({ query }) => ({
      policies: (await versions.list(count(query, 'limit', 50, 500))).map(({ digest, loadedAt, loadedBy }) => ({
        digest,
        loadedAt,
        loadedBy,
      })),
    })),
    route('GET', '/v1/policies/:digest', ['admin', 'auditor'], async ({ param }) => {
      const version = await versions.get(param('digest'))
      if (version === undefined) throw new Failure('not_found', `there is no policy version ${param('digest')}`)
      // What was written in plain text where a reference belongs is not shown for that.
      return { ...version, text: hideSecrets(version.text) }
    }),
  ]
}

const wantedOf = (event: AuditEvent): Wanted => ({
  session: text(event['session']),
  permission: text(event['permission']),
  effect: text(event['effect']) as Effect,
  args: (event['args'] ?? {}) as JsonObject,
})

const text = (value: Json | undefined): string => (typeof value === 'string' ? value : '')
