import { given } from './person.ts'
import { connectAgent, exchange } from './agent.ts'
import type { Status } from '../../src/control/wire.ts'
import { request } from './http.ts'
import { claim, ids, statement, ticketOf } from './story.ts'
import type { Case, Story } from './story.ts'

/** Starts a case of a customer with both agents in it, as the helpdesk would. */
export async function takeCase(story: Story, customer: number): Promise<Case> {
  const { stage, heard } = story
  const { session, token } = await stage.startCase(customer)
  const responder = await connectAgent('responder', stage.agents, token)
  const lent = await exchange(stage.agents, token, 'reader')
  if (!lent.ok) throw new Error(`the responder could not lend reading: ${lent.text}`)
  stage.secrets.add(lent.token)
  const reader = await connectAgent('reader', stage.agents, lent.token)
  heard.push(...responder.tools, ...reader.tools)
  return { session: session.id, responder, reader }
}

/** The first act: agents that do their work, and notice nothing of what stands round them. */
export async function honestWork(story: Story): Promise<Case> {
  const { stage, narrator, ledger } = story
  ledger.begin('honest work')
  await narrator.act(1, 'Honest work')
  await narrator.say(
    'Anna of the support desk takes a case of customer 42. The helpdesk starts a session for the agent `responder`. ' +
      'The responder lends reading, and nothing else, to `reader`: strangers write tickets, and whoever reads them may fall for them.',
  )
  const taken = await takeCase(story, 42)
  const { responder, reader } = taken
  const { resources } = given(await stage.admin.get<Status>('/v1/status'))
  const tools = resources.map((each) => each.tools ?? 0).reduce((sum, each) => sum + each, 0)
  await narrator.does(
    'reader',
    `sees ${reader.tools.length} of ${tools} tools. With one of them it sends SQL of its own to the helpdesk’s database:`,
  )
  const own = await statement(
    story,
    reader,
    'select t.id, t.subject, c.name, c.email from tickets t join customers c on c.id = t.customer_id order by t.id',
  )
  const open = await statement(story, reader, 'select status, count(*) as tickets from tickets group by status')
  await claim(
    story,
    'It asked for all tickets, and got the 2 of customer 42',
    ids(own).join() === '101,102' && JSON.stringify(open.rows) === '[["open",2]]',
  )

  const ticket = await ticketOf(story, reader, 101)
  await narrator.does('reader', 'reads ticket 101. Its model finds that an answer is due, and hands it on:')
  await narrator.quote(ticket)

  const order = await request(stage.agents, responder.token, '/api/shipping/v1/orders/9001?customer_id=42')
  story.heard.push(order.all)
  ledger.tried(order.status === 200 ? 'allowed' : 'refused')
  await narrator.does(
    'responder',
    'asks the helpdesk’s HTTP API for the order, with its own token: the key of the API it never has',
  )
  await narrator.does('', `GET /api/shipping/v1/orders/9001 → ${order.status} ${order.body}`)

  const rules = await responder.read('helpdesk://rules/refunds')
  story.heard.push(rules.text)
  ledger.tried(rules.kind === 'done' ? 'allowed' : 'refused')
  await narrator.does('responder', 'looks up the refund rules, and answers:')
  const response = await statement(story, responder, 'insert into responses (ticket_id, body) values ($1, $2)', [
    101,
    'We are sorry about the lamp. You get your money back.',
  ])
  await claim(
    story,
    'Nobody was asked, nothing was in the way',
    rules.kind === 'done' &&
      ticket.includes('broken shade') &&
      order.status === 200 &&
      order.body.includes('desk lamp') &&
      response.changed === 1,
  )
  await stage.endCase(taken.session)
  await narrator.does('desk', 'closes the case: the session ends, and the one lent to the reader with it')
  return taken
}
