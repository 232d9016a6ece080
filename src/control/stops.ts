import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import { callerName } from '../core/identity.ts'
import { name, readBody } from './body.ts'
import type { ControlPorts } from './ports.ts'
import { route } from './router.ts'
import type { Route } from './router.ts'
import type { Kill, Killed, StopsView } from './wire.ts'

const killBody: z.ZodType<Kill> = z.strictObject({ target: name, because: z.string().max(500).optional() })
const reviveBody: z.ZodType<{ target: string }> = z.strictObject({ target: name })

export function stopRoutes({ sessions, stopStore, policies }: ControlPorts): readonly Route[] {
  const agentOrAll = (target: string): string =>
    target === 'all' || /^(agent|key|jwt):/.test(target) ? target : `agent:${target}`

  return [
    route('POST', '/v1/kill', ['admin', 'approver'], async ({ caller, body }): Promise<Killed> => {
      const { target, because } = readBody(killBody, body)
      const by = callerName(caller)
      const why = because ?? `killed by ${by}`
      const before = performance.now()
      const ended = target.startsWith('ses_') ? await killSession(target, why, by) : await killTarget(target, why, by)
      return { sessions: ended, took: Math.ceil(performance.now() - before) }
    }),
    route('POST', '/v1/revive', ['admin'], async ({ caller, body }) => {
      const target = agentOrAll(readBody(reviveBody, body).target)
      if (!(await sessions.lift(target, callerName(caller)))) throw new Failure('not_found', `${target} is not stopped`)
      return { revived: target }
    }),
    route('GET', '/v1/stops', ['admin', 'approver', 'auditor'], async (): Promise<StopsView> => ({
      stops: await stopStore.list(),
    })),
  ]

  /** A session that a key started would only be started again: its key is stopped with it. */
  async function killSession(id: string, because: string, by: string): Promise<number> {
    const session = sessions.get(id)
    if (session === undefined) throw new Failure('not_found', `there is no live session ${id}`)
    if (/^(key|jwt):/.test(session.startedBy)) return sessions.stop(session.startedBy, because, by)
    return sessions.end([id], because, by)
  }

  async function killTarget(target: string, because: string, by: string): Promise<number> {
    const meant = agentOrAll(target)
    if (meant.startsWith('agent:') && !policies.current().policy.agents.has(meant.slice('agent:'.length)))
      throw new Failure('not_found', `there is no session and no agent \`${target}\`: expected one, or \`all\``)
    if (/^(key|jwt):/.test(meant) && !sessions.live().some(({ startedBy }) => startedBy === meant))
      throw new Failure('not_found', `no live session was started by \`${target}\``)
    return sessions.stop(meant, because, by)
  }
}
