import type { Killed } from '../../src/control/wire.ts'
import { given } from './person.ts'
import { attempt, claim, eventually, isLetIn } from './story.ts'
import type { Case, Story } from './story.ts'

/** Within this, nothing of a killed session may go on, in milliseconds. */
const bound = 1_000

/** The fifth act: somebody has seen enough. */
export async function kill(story: Story, { session, reader, responder }: Case): Promise<void> {
  const { stage, narrator, ledger, signal } = story
  ledger.begin('the kill')
  await narrator.act(5, 'The kill')
  await narrator.say(
    'The reader goes through the old archive, which takes a quarter of a minute. Anna has seen enough of this case.',
  )
  const running = attempt(story, reader, 'search_archive', { customer_id: 42, text: 'order' }, { signal })
  const search = await eventually(signal, () =>
    stage.desk.calls().findLast(({ tool, state }) => tool === 'search_archive' && state === 'running'),
  )
  await narrator.does('reader', 'search_archive {"customer_id":42,"text":"order"} … runs')
  await narrator.does('anna', `sallyport kill ${session}`)

  const before = performance.now()
  const killed = stage.anna.post<Killed>('/v1/kill', { target: session, because: 'it obeys a ticket instead of us' })
  const cut = await running
  const took = Math.round(performance.now() - before)
  const { sessions } = given(await killed)
  await narrator.does('reader', `after ${took} ms: ${cut.text}`)
  await claim(
    story,
    `${sessions} sessions ended, the running call cut within a second`,
    cut.kind !== 'done' && took < bound && sessions === 2,
  )
  const state = await eventually(signal, () => {
    const found = stage.desk.calls().find(({ id }) => id === search.id)
    return found?.state === 'running' ? undefined : found?.state
  })
  await claim(story, `The helpdesk was told to stop, too: its search is ${state}`, state === 'cancelled')
  const doors = await Promise.all([isLetIn(story, responder), isLetIn(story, reader)])
  for (const open of doors) ledger.tried(open ? 'allowed' : 'refused')
  await claim(story, 'Both tokens are dead', !doors.includes(true))
}
