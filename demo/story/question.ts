import type { Approval } from '../../src/core/approval.ts'
import { runLine } from '../../src/cli/run.ts'
import { given } from './person.ts'
import { eventually } from './story.ts'
import type { Story } from './story.ts'

// Questions to people, and their answers.

/** Ben's answer. */
export async function answer({ stage }: Story, { id }: Approval, agrees: boolean, reason: string): Promise<void> {
  given(await stage.ben.post(`/v1/approvals/${id}/answer`, { verdict: agrees ? 'approve' : 'deny', reason }))
}

/** The question that waits, once it is another than one before. */
export const pendingAfter = ({ stage, signal }: Story, before?: Approval): Promise<Approval> =>
  eventually(signal, async () => {
    const { approvals } = given(await stage.ben.get<{ approvals: readonly Approval[] }>('/v1/approvals?state=pending'))
    return approvals.find(({ id }) => id !== before?.id)
  })

/** The question as the command line shows it to an approver. */
export async function shown({ io, stage }: Story, id: string): Promise<string> {
  let text = ''
  const exit = await runLine(['approvals', 'show', id, '--config', stage.file], {
    ...io,
    env: {},
    columns: 76,
    out: (more) => void (text += more.endsWith('\n') ? more : `${more}\n`),
    err: (more) => void (text += more.endsWith('\n') ? more : `${more}\n`),
  })
  if (exit !== 0) throw new Error(`the question could not be shown: ${text}`)
  return text
}
