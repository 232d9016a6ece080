import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import { callerName, hasRole } from '../core/identity.ts'
import type { Role } from '../core/identity.ts'
import type { Session } from '../core/session.ts'
import { sha256 } from '../guard/digest.ts'
import { none } from '../guard/traffic.ts'
import { facts, name, readBody, seconds } from './body.ts'
import type { ControlPorts } from './ports.ts'
import { route } from './router.ts'
import type { Route } from './router.ts'
import type { ListedSession, SessionView, ShownSession, StartedSession, StartSession } from './wire.ts'

const readers: readonly Role[] = ['admin', 'approver', 'auditor']

const startSession: z.ZodType<StartSession> = z.strictObject({
  agent: name,
  behalf: z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/, 'printable ASCII without spaces')
    .optional(),
  facts: facts.optional(),
  only: z
    .array(z.union([name, z.strictObject({ do: name, when: z.string().max(4_000).optional() })]))
    .max(200)
    .optional(),
  limits: z.record(z.string(), z.string().max(50)).optional(),
  lasts: seconds.optional(),
  token: z.enum(['opaque', 'jwt']).optional(),
})

export function sessionRoutes({ sessions, tokens, tokenForm, startedAt }: ControlPorts): readonly Route[] {
  return [
    route(
      'POST',
      '/v1/sessions',
      ['admin'],
      async ({ caller, body }): Promise<StartedSession> => {
        const {
          agent,
          behalf,
          facts: given,
          only,
          limits,
          lasts,
          token: form = tokenForm(),
        } = readBody(startSession, body)
        if (caller.kind === 'service' && !caller.starts.includes(agent))
          throw new Failure('forbidden', `${caller.name} may not start sessions of ${agent}`)
        const opaque = form === 'jwt' ? undefined : tokens.opaque()
        const session = await sessions.start({
          agent,
          behalf: behalf ?? callerName(caller),
          startedBy: callerName(caller),
          ...(given === undefined ? {} : { facts: given }),
          ...(only === undefined
            ? {}
            : { only: only.map((each) => (typeof each === 'string' ? { do: each } : withoutUndefined(each))) }),
          ...(limits === undefined ? {} : { limits }),
          ...(lasts === undefined ? {} : { lasts: lasts * 1000 }),
          ...(opaque === undefined ? {} : { tokenDigest: sha256(opaque) }),
        })
        const scope = (session.only ?? []).map(({ do: permission }) => permission)
        return { session: view(session), token: opaque ?? (await tokens.signed(sessions.chain(session.id), scope)) }
      },
      true,
    ),
    route('GET', '/v1/sessions', readers, async (): Promise<{ readonly sessions: readonly ListedSession[] }> => ({
      sessions: [...sessions.live()]
        .sort((a, b) => b.startedAt - a.startedAt)
        .slice(0, 500)
        .map((session) => ({ ...view(session), traffic: sessions.traffic(session.id)?.total ?? none })),
    })),
    route('GET', '/v1/sessions/:id', readers, async ({ param }): Promise<ShownSession> => {
      const session = sessions.get(param('id'))
      const traffic = sessions.traffic(param('id'))
      if (session === undefined || traffic === undefined)
        throw new Failure('not_found', `there is no live session ${param('id')}`)
      return { session: view(session), traffic: { ...traffic, since: Math.max(session.startedAt, startedAt) } }
    }),
    route(
      'DELETE',
      '/v1/sessions/:id',
      ['admin'],
      async ({ caller, param }) => {
        const session = sessions.get(param('id'))
        const theirs = caller.kind === 'person' ? hasRole(caller, 'admin') : session?.startedBy === callerName(caller)
        if (session === undefined || !theirs) throw new Failure('not_found', `there is no live session ${param('id')}`)
        return { sessions: await sessions.end([session.id], `ended by ${callerName(caller)}`, callerName(caller)) }
      },
      true,
    ),
  ]
}

const withoutUndefined = ({ do: permission, when }: { do: string; when?: string | undefined }) =>
  when === undefined ? { do: permission } : { do: permission, when }

export function view(session: Session): SessionView {
  const { tokenDigest: _, ...seen } = session
  return seen
}
