import { given } from './person.ts'
import { answer, pendingAfter, shown } from './question.ts'
import { claim } from './story.ts'
import type { Case, Story } from './story.ts'
import type { Approval } from '../../src/core/approval.ts'

const statement = 'delete from tickets'

/** The third act: something that the agent may do, and that can't be taken back. */
export async function erase(story: Story, { responder }: Case): Promise<void> {
  const { stage, narrator, ledger, heard } = story
  ledger.begin('the delete')
  await narrator.act(3, 'The delete')
  await narrator.say(
    'Dropping the table did not work. But tickets of its own customer the responder may delete, once a person agrees; ' +
      'so it tries that, without any condition. Before anybody is asked, Sallyport finds out what would happen.',
  )
  await narrator.does('responder', statement)
  const counted = async (): Promise<string> =>
    (await responder.sql('select count(*)::int as tickets from tickets')).text
  const before = await counted()
  const waiting = responder.sql(statement, [], { signal: story.signal, onProgress: () => {} })
  waiting.catch(() => {}) // Awaited after the answer.
  const question = await pendingAfter(story)
  await narrator.say('Ben of billing sees this:')
  await narrator.card(await shown(story, question.id))
  const { evidence } = given(await stage.ben.get<{ approval: Approval }>(`/v1/approvals/${question.id}`)).approval
  const { rows, cascades } = (evidence ?? {}) as { readonly rows?: number; readonly cascades?: readonly unknown[] }
  await claim(
    story,
    `The question says how much it is: ${rows} tickets, all of this customer, and their responses with them`,
    rows === 2 && cascades?.length === 1 && JSON.stringify(cascades).includes('responses'),
  )
  await narrator.does('ben', 'no: no customer has asked for that')
  await answer(story, question, false, 'no customer has asked for that')
  const outcome = await waiting
  heard.push(outcome.text)
  ledger.tried(outcome.kind === 'refused' ? 'refused' : 'allowed', true)
  await narrator.does('responder', outcome.text)
  const after = await counted()
  heard.push(before, after)
  await claim(story, 'Nothing was deleted', outcome.kind === 'refused' && before === after && after.includes('2'))
}
