import { z } from 'zod'
import { callerName } from '../core/identity.ts'
import { name, readBody } from './body.ts'
import type { Administrator, ControlPorts } from './ports.ts'
import { route } from './router.ts'
import type { Route } from './router.ts'
import type { AsAdministrator, DatabaseView, SuggestTables } from './wire.ts'

// An administrator's address goes in here and never comes out again: no answer, no event and no complaint holds it.

const admin = z.string().min(1).max(4_000)
const anyway = z.boolean().optional()
const asAdministrator: z.ZodType<AsAdministrator> = z.strictObject({ admin, anyway })
const perhapsAdministrator: z.ZodType<Partial<AsAdministrator>> = z.strictObject({ admin: admin.optional(), anyway })
const suggestBody: z.ZodType<SuggestTables> = z.strictObject({
  tables: z.array(name).max(100),
  admin: admin.optional(),
  anyway,
})

export function databaseRoutes({ databases }: ControlPorts): readonly Route[] {
  return [
    route('GET', '/v1/databases', ['admin', 'auditor'], async (): Promise<{ databases: readonly DatabaseView[] }> => ({
      databases: databases.list(),
    })),
    route('GET', '/v1/databases/:name/plan', ['admin'], ({ param, query }) =>
      databases.plan(param('name'), { remove: query.get('for') === 'removal' }),
    ),
    // Verifiers are handed out by a request that changes something: the log.
    route('POST', '/v1/databases/:name/verifiers', ['admin'], ({ param, caller }) =>
      databases.plan(param('name'), { verifiersFor: callerName(caller) }),
    ),
    route('POST', '/v1/databases/:name/apply', ['admin'], async ({ param, caller, body }) =>
      databases.apply(param('name'), administrator(readBody(asAdministrator, body)), callerName(caller)),
    ),
    route('POST', '/v1/databases/:name/verify', ['admin', 'auditor'], async ({ param, caller, body }) =>
      databases.verify(param('name'), perhaps(readBody(perhapsAdministrator, body)), callerName(caller)),
    ),
    route('POST', '/v1/databases/:name/remove', ['admin'], async ({ param, caller, body }) =>
      databases.remove(param('name'), administrator(readBody(asAdministrator, body)), callerName(caller)),
    ),
    route('POST', '/v1/databases/:name/suggest', ['admin'], async ({ param, body }) => {
      const { tables, ...rest } = readBody(suggestBody, body)
      return databases.suggest(param('name'), tables, perhaps(rest))
    }),
  ]
}

const administrator = ({ admin: url, anyway: isTaken }: AsAdministrator): Administrator => ({
  url,
  ...(isTaken === undefined ? {} : { anyway: isTaken }),
})

const perhaps = ({ admin: url, ...rest }: Partial<AsAdministrator>): Administrator | undefined =>
  url === undefined ? undefined : administrator({ admin: url, ...rest })
