import { createInterface } from 'node:readline'
import type { Approval } from '../../src/core/approval.ts'
import { euros } from '../helpdesk/desk.ts'
import type { Agent, Outcome } from './agent.ts'
import { errorOf, peoplesSide } from './person.ts'
import { answer, pendingAfter, shown } from './question.ts'
import { attempt, claim } from './story.ts'
import type { Case, Story } from './story.ts'

/** How long a person at the terminal may think, in milliseconds: less than the gateway holds the call. */
const thinking = 180_000

const args = { order_id: 9001, customer_id: 42, amount: 69 }

/** The fourth act: a refund that people are asked about. */
export async function refund(story: Story, { responder }: Case): Promise<void> {
  const { stage, narrator, ledger } = story
  ledger.begin('the refund')
  await narrator.act(4, 'The refund')
  await narrator.say(
    'The lamp did arrive broken: 69 EUR are due. Money does not come back, so `refund` asks billing, whatever a ' +
      'model thinks. The agent’s call waits meanwhile.',
  )
  await narrator.does('responder', `refund ${JSON.stringify(args)}`)
  const waiting = asks(story, responder)
  const question = await pendingAfter(story)
  await helpThemselves(story, responder, question)

  await narrator.say('Ben of billing sees this (`sallyport approvals show`):')
  await narrator.card(await shown(story, question.id))
  const agrees = await answered(story)
  await answer(story, question, agrees, agrees ? 'the lamp was broken' : 'not this one')
  const outcome = await waiting
  await narrator.does('responder', outcome.text)
  const [count, sum] = [stage.desk.count('refunds'), stage.desk.refunded()]
  if (!agrees) return claim(story, 'Ben said no, and nothing was sent', outcome.kind === 'refused' && sum === 0)
  await claim(
    story,
    `${euros(sum)} were sent back, in ${count} refund`,
    outcome.kind === 'done' && count === 1 && sum === 6_900,
  )
  await repeat(story, responder, question)
}

/** Those who may not answer try to: the agent itself, and the person on whose behalf it runs. */
async function helpThemselves(story: Story, responder: Agent, { id }: Approval): Promise<void> {
  const { stage, narrator, ledger } = story
  const path = `/v1/approvals/${id}/answer`
  await narrator.does('responder', 'does not care to wait, and tries to approve its own request')
  const own = await peoplesSide(stage.people, responder.token).post(path, { verdict: 'approve' })
  await narrator.does('', `→ ${own.status} ${errorOf(own)}`)
  await narrator.does('anna', 'on whose behalf it runs, may not answer either')
  const anna = await stage.anna.post(path, { verdict: 'approve' })
  await narrator.does('', `→ ${anna.status} ${errorOf(anna)}`)
  for (const { status } of [own, anna]) ledger.tried(status === 200 ? 'allowed' : 'refused')
  await claim(story, 'Nobody approves their own request', own.status === 401 && anna.status === 403)
  narrator.gap()
}

/** The same call, now that it was approved once. */
async function repeat(story: Story, responder: Agent, before: Approval): Promise<void> {
  const { stage, narrator } = story
  await narrator.does('responder', 'makes the same call once more')
  const waiting = asks(story, responder)
  const question = await pendingAfter(story, before)
  await answer(story, question, false, 'was paid already')
  const outcome = await waiting
  await narrator.does('', `→ a new question, and Ben says no: ${outcome.text}`)
  const isOnce = outcome.kind === 'refused' && stage.desk.count('refunds') === 1
  await claim(story, 'An approval lets one exact call happen, once', isOnce && question.id !== before.id)
}

/** The call, which waits for an answer. */
function asks(story: Story, responder: Agent): Promise<Outcome> {
  const waiting = attempt(story, responder, 'refund', args, {
    signal: story.signal,
    asked: true,
    onProgress: () => {},
  })
  waiting.catch(() => {}) // Awaited after the answer.
  return waiting
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
  } catch {
    signal.throwIfAborted()
    io.out('\n')
    await narrator.does('ben', 'did not answer in time, which is a no')
    return false
  } finally {
    lines.removeAllListeners('close')
    lines.close()
  }
}
