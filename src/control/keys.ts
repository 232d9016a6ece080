import { z } from 'zod'
import { Failure } from '../core/failure.ts'
import { callerName } from '../core/identity.ts'
import type { Key } from '../core/key.ts'
import { name, readBody, seconds } from './body.ts'
import type { ControlPorts } from './ports.ts'
import { route } from './router.ts'
import type { Route } from './router.ts'
import type { IssuedKey, IssueKey, KeyView } from './wire.ts'

const issueBody: z.ZodType<IssueKey> = z.strictObject({
  holder: name,
  lasts: seconds.optional(),
  rotate: z
    .number()
    .min(0)
    .max(30 * 86_400)
    .optional(),
})

export function keyRoutes({ keys, sessions, policies, callers }: ControlPorts): readonly Route[] {
  return [
    route('GET', '/v1/keys', ['admin'], async () => ({ keys: (await keys.list()).map(view) })),
    route('POST', '/v1/keys', ['admin'], async ({ caller, body }): Promise<IssuedKey> => {
      const { holder, lasts, rotate } = readBody(issueBody, body)
      const known = holder.startsWith('agent:')
        ? policies.current().policy.agents.has(holder.slice('agent:'.length))
        : callers(holder) !== undefined
      if (!known)
        throw new Failure(
          'not_found',
          `configuration knows no \`${holder}\`: expected \`agent:\`, \`person:\` or \`service:\` and a name from it`,
        )
      const options = lasts === undefined ? {} : { lasts: lasts * 1000 }
      const { key, text } =
        rotate === undefined
          ? await keys.issue(holder, callerName(caller), options)
          : await keys.rotate(holder, callerName(caller), rotate * 1000, options)
      return { key: view(key), text }
    }),
    route('DELETE', '/v1/keys/:id', ['admin'], async ({ caller, param }) => {
      // Whoever puts the text of a key here by mistake does not get it back in a complaint.
      if (!/^key_[A-Za-z0-9_-]{1,64}$/.test(param('id')))
        throw new Failure('invalid', 'expected the id of a key: `key_` and what follows it in the list')
      const [id, by] = [param('id'), callerName(caller)]
      await keys.revoke(id, by, `revoked by ${by}`)
      // What it started goes with it: the tokens that an agent lent on are not this key, and would live on.
      const started = sessions.live().filter(({ startedBy }) => startedBy === `key:${id}`)
      await sessions.end(
        started.map((session) => session.id),
        `its key was revoked by ${by}`,
        by,
      )
      return { revoked: id }
    }),
  ]
}

function view(key: Key): KeyView {
  const { digest: _, ...seen } = key
  return seen
}
