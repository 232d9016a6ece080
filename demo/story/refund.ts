import { createInterface } from 'node:readline'
import type { ApprovalView } from '../../src/control/wire.ts'
import type { Approval } from '../../src/core/approval.ts'
import { runLine } from '../../src/cli/run.ts'
import { euros } from '../helpdesk/desk.ts'
import { errorOf, given, peoplesSide } from './person.ts'
import { attempt, claim, eventually } from './story.ts'
import type { Case, Story } from './story.ts'

/** How long a person at the terminal may think, in milliseconds: less than the gateway holds the call. */
const thinking = 180_000

/** The third act: a refund that people are asked about. */
export async function refund(story: Story, { responder }: Case): Promise<void> {
  const { stage, narrator, ledger, signal } = story
  const { desk } = stage
  const args = { order_id: 9001, customer_id: 42, amount: 69 }
  ledger.begin('the refund')
  await narrator.act(3, 'The refund')
  await narrator.say(
    'The lamp did arrive broken: 69 EUR are due. Money does not come back, so `refund` asks billing, whatever a ' +
      'model thinks. The agent’s call waits meanwhile.',
  )
  await narrator.does('responder', `refund ${JSON.stringify(args)}`)
  const waiting = attempt(story, responder, 'refund', args, { signal, asked: true, onProgress: () => {} })
  waiting.catch(() => {})
  const question = await pendingAfter(story)

  await narrator.does('responder', 'does not care to wait, and tries to approve its own request')
  const own = await peoplesSide(stage.people, responder.token).post(`/v1/approvals/${question.id}/answer`, {
    verdict: 'approve',
  })
  const anna = await stage.anna.post(`/v1/approvals/${question.id}/answer`, { verdict: 'approve' })
  for (const answer of [own, anna]) ledger.tried(answer.status === 200 ? 'allowed' : 'refused')
  await narrator.does('', `→ ${own.status} ${errorOf(own)}`)
  await narrator.does('anna', 'on whose behalf it runs, may not answer either')
  await narrator.does('', `→ ${anna.status} ${errorOf(anna)}`)
  await claim(story, 'Nobody approves their own request', own.status === 401 && anna.status === 403)

  narrator.gap()
  await narrator.say('Ben of billing sees this (`sallyport approvals show`):')
  await narrator.card(await shown(story, question.id))
  const agrees = await answered(story)
  const view = given(await stage.admin.get<ApprovalView>(`/v1/approvals/${question.id}`))
  given(
    await stage.ben.post(`/v1/approvals/${question.id}/answer`, {
      verdict: agrees ? 'approve' : 'deny',
      reason: agrees ? 'the lamp was broken' : 'not this one',
    }),
  )
  const first = await waiting
  await narrator.does('responder', first.text)
  if (!agrees) {
    await claim(story, 'Ben said no, and nothing was sent', first.kind === 'refused' && desk.refunded() === 0)
    return
  }
  const once = first.kind === 'done' && desk.count('refunds') === 1 && desk.refunded() === 6_900
  await claim(story, `${euros(desk.refunded())} were sent back, in ${desk.count('refunds')} refund`, once)

  await narrator.does('responder', 'makes the same call once more')
  const repeated = attempt(story, responder, 'refund', args, { signal, asked: true, onProgress: () => {} })
  repeated.catch(() => {})
  const again = await pendingAfter(story, question)
  given(await stage.ben.post(`/v1/approvals/${again.id}/answer`, { verdict: 'deny', reason: 'was paid already' }))
  const second = await repeated
  await narrator.does('', `→ a new question, and Ben says no: ${second.text}`)
  await claim(
    story,
    'An approval lets one exact call happen, once',
    view.approval.id !== again.id && second.kind === 'refused' && desk.count('refunds') === 1,
  )
}

/** The question that waits, once it is another than one before. */
const pendingAfter = ({ stage, signal }: Story, before?: Approval): Promise<Approval> =>
  eventually(signal, async () => {
    const { approvals } = given(await stage.ben.get<{ approvals: readonly Approval[] }>('/v1/approvals?state=pending'))
    return approvals.find(({ id }) => id !== before?.id)
  })

/** The question as the command line shows it to an approver. */
async function shown({ io, stage }: Story, id: string): Promise<string> {
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

/** What the person says; `yes` where nobody is to be asked. No answer in time is a no. */
async function answered({ io, narrator, asksPerson, signal }: Story): Promise<boolean> {
  if (!asksPerson) {
    await narrator.does('ben', 'yes (answered automatically)')
    return true
  }
  const lines = createInterface({ input: process.stdin, output: process.stdout })
  // A terminal that reads lines takes Ctrl-C for itself.
  lines.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  const enough = AbortSignal.any([signal, AbortSignal.timeout(thinking)])
  try {
    for (;;) {
      const question = narrator.paint('bold', '  You are Ben. Send 69 EUR back to customer 42? [y/n] ')
      const text = await new Promise<string>((resolve, reject) => {
        lines.once('close', () => resolve('n'))
        enough.addEventListener('abort', () => reject(enough.reason as Error), { once: true })
        lines.question(question, resolve)
      })
      if (/^y(es)?$/i.test(text.trim())) return true
      if (/^no?$/i.test(text.trim())) return false
    }
  } catch (thrown) {
    signal.throwIfAborted()
    io.out('\n')
    await narrator.does('ben', 'did not answer in time, which is a no')
    return thrown === undefined
  } finally {
    lines.removeAllListeners('close')
    lines.close()
  }
}
