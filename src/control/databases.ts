import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import { callerName } from '../core/identity.ts'
import { name, readBody } from './body.ts'
import type { Administrator, ControlPorts } from './ports.ts'
import { route } from './router.ts'
import type { Route } from './router.ts'
import type { AsAdministrator, DatabaseView, SuggestTables, UndoChange } from './wire.ts'

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

const undoBody: z.ZodType<UndoChange> = z.strictObject({
  change: z.string().regex(/^[0-9]{1,18}$/, 'expected the number of a change, such as `7741`'),
  trial: z.boolean().optional(),
  admin,
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
    route('GET', '/v1/databases/:name/changes', ['admin', 'auditor'], async ({ param, query }) => {
      const session = query.get('session')
      const most = query.get('limit') ?? '20'
      if (!/^[1-9][0-9]{0,2}$/.test(most)) throw new Failure('invalid', '`limit`: expected a number from 1 to 999')
      return databases.changes(param('name'), { ...(session === null ? {} : { session }), most: Number(most) })
    }),
    route('POST', '/v1/databases/:name/undo', ['admin'], async ({ param, caller, body }) => {
      const { change, trial: isTrial = false, ...rest } = readBody(undoBody, body)
      return databases.undo(param('name'), { change, isTrial }, administrator(rest), callerName(caller))
    }),
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
