import { z } from 'zod'
import { callerName } from '../core/identity.ts'
import type { Pin } from '../core/pin.ts'
import { name, readBody } from './body.ts'
import type { ControlPorts } from './ports.ts'
import { route } from './router.ts'
import type { Route } from './router.ts'
import type { AcceptPin, PinView } from './wire.ts'

const acceptBody: z.ZodType<AcceptPin> = z.strictObject({
  resource: name,
  kind: z.enum(['tool', 'prompt', 'resource', 'template', 'instructions']),
  name: z.string().max(2_000),
  digest: name,
})

export function pinRoutes({ pins, operations }: ControlPorts): readonly Route[] {
  const view = (pin: Pin): PinView => {
    const { definition: _, proposed, ...seen } = pin
    if (proposed === undefined) return seen
    const { digest, seenAt } = proposed
    return { ...seen, proposed: { digest, seenAt, difference: operations.difference(pin) } }
  }
  return [
    route('GET', '/v1/pins', ['admin', 'auditor'], async ({ query }) => ({
      pins: (await pins.list(query.get('resource') ?? undefined)).map(view),
    })),
    route('POST', '/v1/pins/accept', ['admin'], async ({ caller, body }) => {
      const { resource, kind, name: named, digest } = readBody(acceptBody, body)
      await operations.accept(resource, kind, named, digest, callerName(caller))
      return { accepted: `${resource} ${kind} ${named}` }
    }),
  ]
}
