import type { Approval } from '../../core/approval.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Approvals } from '../../guard/approvals.ts'
import type { Hold } from '../../guard/guard.ts'

export const awaitApproval = 'sallyport__await_approval'

/** The definition of the one tool that is ours. */
export const awaitTool: JsonObject = {
  name: awaitApproval,
  title: 'Wait for an approval',
  description:
    'Waits for people to answer a pending approval, and tells what they answered. When it is approved, repeat the exact ' +
    'call that asked for it: it will then be carried out.',
  inputSchema: {
    type: 'object',
    properties: { id: { type: 'string', description: 'The id of the approval, as the refused call told it.' } },
    required: ['id'],
    additionalProperties: false,
  },
  annotations: { readOnlyHint: true, openWorldHint: false },
}

/** What became of an approval of this session, in words; undefined where the session has none with this id. */
export async function awaited(
  approvals: Pick<Approvals, 'get' | 'settled'>,
  id: string,
  session: string,
  hold: Hold,
  signal: AbortSignal,
): Promise<{ readonly text: string; readonly isError: boolean } | undefined> {
  const known = await approvals.get(id)
  if (known?.chain.at(-1)?.session !== session) return undefined
  if (known.state !== 'pending')
    return { text: await outcome(approvals, known), isError: known.state !== 'approved' && known.state !== 'used' }
  const stop = hold.waiting?.(known)
  const enough = new AbortController()
  const timer = setTimeout(() => enough.abort(), hold.most)
  try {
    const answered = await approvals.settled(id, AbortSignal.any([signal, enough.signal]))
    return {
      text: await outcome(approvals, answered),
      isError: answered.state === 'denied' || answered.state === 'expired' || answered.state === 'void',
    }
  } finally {
    clearTimeout(timer)
    stop?.()
  }
}

async function outcome(
  approvals: Pick<Approvals, 'get'>,
  { id, state, note, expiresAt, replacedBy }: Approval,
): Promise<string> {
  const why = note === undefined ? '' : ` (${note})`
  switch (state) {
    case 'pending':
      return `${id} is still pending, until ${new Date(expiresAt).toISOString()}. Call ${awaitApproval} again, or do something else meanwhile.`
    case 'approved':
      return `${id} is approved. Repeat the exact call now, before ${new Date(expiresAt).toISOString()}: it will be carried out once.`
    case 'used':
      return `${id} was approved, and the call was carried out already.`
    case 'denied':
      return `${id} was denied${why}. Do not try it in another way.`
    case 'expired':
      return `${id} expired: nobody answered or used it in time.`
    case 'void': {
      const edited = replacedBy === undefined ? undefined : (await approvals.get(replacedBy))?.args
      return edited === undefined
        ? `${id} stands no more${why}.`
        : `A person changed the arguments. Make the call with exactly these: ${JSON.stringify(edited)}`
    }
  }
}
