import { z } from 'zod'
import { callerName } from '../core/identity.ts'
import type { SecretState } from '../guard/vault.ts'
import { name, readBody } from './body.ts'
import type { ControlPorts } from './ports.ts'
import { route } from './router.ts'
import type { Route } from './router.ts'
import type { Rekeyed, RotateSecret, SecretView, SetSecret } from './wire.ts'

// Values go in here and never come out again: no answer, no event and no complaint holds one.

const value = z.string()
const setBody: z.ZodType<SetSecret> = z.strictObject({
  name,
  value,
  resource: name.optional(),
  hosts: z.array(z.string().max(300)).max(32).optional(),
  short: z.boolean().optional(),
})
const rotateBody: z.ZodType<RotateSecret> = z.strictObject({
  value,
  overlap: z
    .number()
    .min(0)
    .max(30 * 86_400)
    .optional(),
  short: z.boolean().optional(),
})

export function secretRoutes({ vault }: ControlPorts): readonly Route[] {
  return [
    route('GET', '/v1/secrets', ['admin'], async () => ({ secrets: (await vault.list()).map(view) })),
    route('POST', '/v1/secrets', ['admin'], async ({ caller, body }): Promise<SecretView> => {
      const { resource, hosts = [], short = false, ...rest } = readBody(setBody, body)
      const binding = { ...(resource === undefined ? {} : { resource }), hosts }
      return view(await vault.set({ ...rest, binding, short }, callerName(caller)))
    }),
    route('POST', '/v1/secrets/rekey', ['admin'], ({ caller }): Promise<Rekeyed> => vault.rekey(callerName(caller))),
    route('POST', '/v1/secrets/:name/rotate', ['admin'], async ({ caller, body, param }): Promise<SecretView> => {
      const { value: fresh, overlap = 0, short = false } = readBody(rotateBody, body)
      return view(await vault.rotate(param('name'), fresh, callerName(caller), { overlap: overlap * 1000, short }))
    }),
    route('DELETE', '/v1/secrets/:name', ['admin'], async ({ caller, param }) => {
      await vault.remove(param('name'), callerName(caller))
      return { removed: param('name') }
    }),
  ]
}

const view = ({ binding, ...state }: SecretState): SecretView => ({ ...state, ...binding })
