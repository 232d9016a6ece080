import type { IncomingMessage, ServerResponse } from 'node:http'
import { Failure } from '../core/failure.ts'
import type { Caller } from '../core/identity.ts'
import { approvalRoutes } from './approvals.ts'
import { auditRoutes } from './audit.ts'
import { databaseRoutes } from './databases.ts'
import { keyRoutes } from './keys.ts'
import { pinRoutes } from './pins.ts'
import { policyRoutes } from './policies.ts'
import type { ControlPorts } from './ports.ts'
import { dispatch, route, send, statusOf } from './router.ts'
import type { Route } from './router.ts'
import { secretRoutes } from './secrets.ts'
import { sessionRoutes } from './sessions.ts'
import { stopRoutes } from './stops.ts'
import type { WireError } from './wire.ts'

/** Answers one request at the people's side. Never rejects. */
export type ControlHandler = (request: IncomingMessage, response: ServerResponse) => Promise<void>

export interface ControlSettings {
  /** Host names under which it may be reached: a page of another site that resolves here gets nothing (DNS rebinding). */
  readonly hosts: ReadonlySet<string>
  /** Told what went wrong inside, for the log of the operator. */
  readonly report: (failure: Failure) => void
  /** Told of each request without a credential that opens this. */
  readonly turnedAway: () => void
}

/** The people's side: everything here needs a person's or service's key, and no agent's credential opens any of it. */
export function createControl(ports: ControlPorts, { hosts, report, turnedAway }: ControlSettings): ControlHandler {
  const routes: readonly Route[] = [
    ...sessionRoutes(ports),
    ...approvalRoutes(ports),
    ...keyRoutes(ports),
    ...secretRoutes(ports),
    ...databaseRoutes(ports),
    ...policyRoutes(ports),
    ...stopRoutes(ports),
    ...pinRoutes(ports),
    ...auditRoutes(ports),
    route(
      'GET',
      '/v1/status',
      ['admin', 'approver', 'auditor'],
      async ({ caller }) =>
        ports.status(caller, (await ports.approvals.list({ states: ['pending'], limit: 500 })).length),
      true,
    ),
  ]

  async function authenticate(request: IncomingMessage): Promise<Caller> {
    const host = URL.parse(`http://${request.headers.host ?? ''}`)?.hostname.toLowerCase()
    if (host === undefined || !hosts.has(host)) throw new Failure('forbidden', 'this host name is not served here')
    if (request.headers.origin !== undefined) throw new Failure('forbidden', 'no web page may use this')
    const text = /^Bearer ([A-Za-z0-9_-]{1,200})$/i.exec(request.headers.authorization ?? '')?.[1]
    const key = text === undefined ? undefined : await ports.keys.verify(text)
    const caller = key === undefined ? undefined : ports.callers(key.holder)
    if (caller === undefined)
      throw new Failure(
        'unauthenticated',
        'expected `Authorization: Bearer` with the key of a person or service of the configuration',
      )
    return caller
  }

  return async (request, response) => {
    try {
      await dispatch(routes, authenticate, request, response)
    } catch (thrown) {
      const failure = Failure.from(thrown)
      if (failure.code === 'internal') report(failure)
      const error: WireError = { error: { code: failure.code, message: failure.message } }
      if (failure.code === 'unauthenticated') {
        turnedAway()
        response.setHeader('www-authenticate', 'Bearer')
      }
      send(response, statusOf[failure.code], error)
    }
  }
}
