import { createEngine } from '../../src/gateway/postgres/pglite-engine.ts'
import { claim } from './story.ts'
import type { Story } from './story.ts'

const role = 'sallyport_desk_responder'

/**
 * What the database says where nothing has looked at a statement before: sent straight to it, as the role that Sallyport
 * made for the agent. The gateway has to be stopped.
 */
export async function below(story: Story): Promise<void> {
  const { stage, narrator, ledger } = story
  await narrator.say(
    'And if the check of statements had a hole? While the gateway is stopped, the same statements go straight to the ' +
      'database, as the role that Sallyport made there for the responder.',
  )
  const database = createEngine(stage.tables, () => {})
  const said = async (statement: string): Promise<string | undefined> =>
    database.query(statement).then(
      () => undefined,
      (thrown: unknown) => (thrown as Error).message,
    )
  try {
    await database.query(`set session authorization "${role}"`)
    let isRefused = true
    for (const statement of [
      'drop table public.tickets',
      'select * from public.users',
      'delete from public.tickets',
      "insert into sallyport_desk_internal.session values (42, 'me', '{}')",
    ]) {
      const refusal = await said(statement)
      isRefused &&= refusal !== undefined
      ledger.tried(refusal === undefined ? 'allowed' : 'refused')
      await narrator.does('', `${statement}\n→ ${refusal === undefined ? 'done' : `ERROR: ${refusal}`}`)
    }
    await database.query('set session authorization postgres')
    const [[tickets] = [], [users] = []] = await database.query(
      'select count(*) from public.tickets union all select count(*) from public.users',
    )
    await claim(
      story,
      `The database refuses them as well: ${tickets} tickets and ${users} users are still there`,
      isRefused && tickets === '5' && users === '128',
    )
  } finally {
    await database.close()
  }
}
