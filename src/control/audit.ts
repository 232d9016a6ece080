import type { EventFilter } from '../core/audit.ts'
import { Failure } from '../core/failure.ts'
import { count } from './body.ts'
import type { ControlPorts } from './ports.ts'
import { route, sendEvents } from './router.ts'
import type { Route } from './router.ts'

const texts = ['type', 'session', 'agent', 'permission', 'decision', 'approval', 'of', 'text'] as const
const times = ['from', 'to'] as const

export function auditRoutes({ audit }: ControlPorts): readonly Route[] {
  const who: Route['roles'] = ['auditor', 'admin']
  return [
    route('GET', '/v1/audit', who, async ({ query }) => {
      const cursor = query.get('cursor')
      return audit.search(filterOf(query), {
        limit: count(query, 'limit', 50, 500),
        ...(cursor === null ? {} : { cursor }),
      })
    }),
    route('GET', '/v1/audit/checkpoint', who, async () => ({ checkpoint: await audit.checkpoint() })),
    route('GET', '/v1/audit/tail', who, async ({ response, signal }) => {
      const push = sendEvents(response)
      for await (const event of audit.tail({ signal })) push('event', event)
    }),
    route('GET', '/v1/audit/events/:id', who, async ({ param }) => {
      const event = await audit.get(param('id'))
      if (event === undefined) throw new Failure('not_found', `the log has no event ${param('id')}`)
      return { event, proof: await audit.inclusion(event.id) }
    }),
  ]
}

function filterOf(query: URLSearchParams): EventFilter {
  const filter: Record<string, string | number> = {}
  for (const key of texts) {
    const value = query.get(key)
    if (value !== null) filter[key] = value
  }
  for (const key of times) {
    const value = query.get(key)
    if (value === null) continue
    if (!/^\d{1,16}$/.test(value)) throw new Failure('invalid', `\`${key}\` is a time in epoch milliseconds`)
    filter[key] = Number(value)
  }
  return filter
}
