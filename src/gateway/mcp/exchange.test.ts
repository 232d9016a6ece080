import { afterEach, describe, expect, test } from 'vitest'
import { mcpResource, startGateway } from '../../../test/support/gateway.ts'
import { ask, initialize } from '../../../test/support/mcp.ts'
import type { Message } from '../../../test/support/mcp.ts'
import { scriptedUpstream, text } from '../../../test/support/upstream.ts'
import type { Seen } from '../../../test/support/upstream.ts'
import { connect } from '../../../test/mcp/clients.ts'
import { everythingServer } from '../../../test/mcp/reference-servers.ts'
import type { McpResource } from './resource.ts'

const policy = `
resources: { desk: { mcp: { command: [desk] } } }
people: { anna: { roles: [approver] } }
agents:
  clerk: { may: [{ do: "*:*", ask: never }] }
  other: { may: [{ do: "*:*", ask: never }] }
  asker: { may: [{ do: "desk:echo", ask: true }] }
`
const echo = { name: 'desk__echo', arguments: { text: 'hello' } }
const elicitation = { capabilities: { elicitation: {} } }
const question = {
  name: {
    method: 'elicitation/create',
    params: { message: 'Who?', requestedSchema: { type: 'object', properties: {} } },
  },
}
const answered = { name: { action: 'accept', content: { name: 'Ada' } } }

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function open(more: Partial<McpResource> = {}) {
  const upstream = await scriptedUpstream()
  closing.push(upstream.close)
  const gateway = await startGateway(policy, [mcpResource('desk', upstream.url, more)], {
    gateway: { settings: { hold: { withProgress: 3_000, without: 3_000 } } },
  })
  closing.push(gateway.close)
  const as = async (agent: string) => ({ ...(await gateway.session(agent)), url: gateway.url })
  upstream.onCall = ({ params }: Seen) => {
    const { inputResponses, requestState } = params as { inputResponses?: typeof answered; requestState?: string }
    if (inputResponses?.name === undefined)
      return { resultType: 'input_required', inputRequests: question, requestState: 'upstream’s own' }
    return text(`${requestState}: ${inputResponses.name.content.name}`)
  }
  return { upstream, gateway, as, at: await as('clerk') }
}

describe('a question of a modern server', () => {
  test('reaches a modern client, and its answer the server, as one action', async () => {
    const { upstream, gateway, at } = await open()
    const first = await ask(at, 'tools/call', echo, elicitation)
    expect(first.answer.result).toMatchObject({ resultType: 'input_required', inputRequests: question })
    const { requestState } = first.answer.result as { requestState: string }
    expect(requestState).not.toContain('upstream')
    const second = await ask(at, 'tools/call', { ...echo, inputResponses: answered, requestState }, elicitation)
    expect(second.answer.result).toMatchObject({ content: [{ text: 'upstream’s own: Ada' }] })
    expect(upstream.calls()).toHaveLength(2)
    expect(gateway.audit.of('decision')).toHaveLength(1)
    expect(gateway.audit.of('action.done')).toHaveLength(1)
  })

  test('reaches a legacy client as a request on the stream of its call', async () => {
    const { at } = await open()
    const client = await initialize(at, { elicitation: {} })
    const asked: Message[] = []
    const calling = client.request('tools/call', echo, {
      onMessage: (message) => {
        if (message.method !== 'elicitation/create') return
        asked.push(message)
        void client.tell({ id: message.id, result: answered.name })
      },
    })
    expect((await calling).answer.result).toMatchObject({ content: [{ text: 'upstream’s own: Ada' }] })
    expect(asked).toHaveLength(1)
  })

  test('promise 5: an approved call that asks back is carried out once, whatever the rounds', async () => {
    const { upstream, gateway, as } = await open()
    const asker = await as('asker')
    const calling = ask(asker, 'tools/call', echo, elicitation)
    await expect.poll(() => gateway.approvals.list({ states: ['pending'] }).then(({ length }) => length)).toBe(1)
    const [approval] = await gateway.approvals.list({ states: ['pending'] })
    await gateway.approvals.answer(
      approval!.id,
      { kind: 'person', name: 'anna', roles: ['approver'], teams: [] },
      'approve',
    )
    const { requestState } = (await calling).answer.result as { requestState: string }
    const second = await ask(asker, 'tools/call', { ...echo, inputResponses: answered, requestState }, elicitation)
    expect(second.answer.result).toMatchObject({ content: [{ text: 'upstream’s own: Ada' }] })
    expect(upstream.calls()).toHaveLength(2)
    expect((await gateway.approvals.get(approval!.id))?.state).toBe('used')
  })

  test('that its operator forbids, or that the client can’t answer, is not passed on', async () => {
    const { upstream, at } = await open()
    upstream.onCall = () => ({
      resultType: 'input_required',
      inputRequests: { a: { method: 'sampling/createMessage', params: {} } },
    })
    const forbidden = await ask(at, 'tools/call', echo, { capabilities: { sampling: {}, elicitation: {} } })
    expect(forbidden.answer.result).toMatchObject({ isError: true })
    expect(JSON.stringify(upstream.calls()[0]!.params['_meta'])).not.toContain('sampling')

    upstream.onCall = () => ({ resultType: 'input_required', inputRequests: question })
    const unable = await ask(at, 'tools/call', echo)
    expect([unable.status, unable.answer.error]).toMatchObject([
      400,
      { code: -32021, data: { requiredCapabilities: { elicitation: {} } } },
    ])
  })

  test('asked without end is cut off', async () => {
    const { upstream, at } = await open()
    upstream.onCall = () => ({ resultType: 'input_required', inputRequests: question })
    let params: Record<string, unknown> = echo
    for (let round = 0; round < 20; round++) {
      const { answer } = await ask(at, 'tools/call', params, elicitation)
      if (answer.result!['resultType'] === 'complete') break
      params = { ...echo, inputResponses: answered, requestState: answer.result!['requestState'] }
    }
    expect(upstream.calls()).toHaveLength(8)
  })
})

describe('promise 9: the state of an exchange', () => {
  async function suspended() {
    const world = await open()
    const first = await ask(world.at, 'tools/call', echo, elicitation)
    const { requestState } = first.answer.result as { requestState: string }
    const resume = (params: object = {}, who = world.at) =>
      ask(who, 'tools/call', { ...echo, inputResponses: answered, requestState, ...params }, elicitation)
    return { ...world, requestState, resume }
  }

  test('is of no use to another session', async () => {
    const { as, resume, upstream } = await suspended()
    expect((await resume({}, await as('other'))).answer.error).toMatchObject({ code: -32602 })
    expect((await resume({}, await as('clerk'))).answer.error).toMatchObject({ code: -32602 })
    expect(upstream.calls()).toHaveLength(1)
    expect((await resume()).answer.result).toMatchObject({ content: [{}] })
  })

  test('is of no use with other arguments, another tool, or another method', async () => {
    const { at, requestState, resume, upstream } = await suspended()
    expect((await resume({ arguments: { text: 'other' } })).answer.error).toMatchObject({ code: -32602 })
    expect((await resume({ name: 'desk__act' })).answer.error).toMatchObject({ code: -32602 })
    expect(
      (await ask(at, 'prompts/get', { name: 'desk__greet', requestState, inputResponses: {} }, elicitation)).answer
        .error,
    ).toMatchObject({ code: -32602 })
    expect(upstream.calls()).toHaveLength(1)
  })

  test('is used once, and can’t be made up', async () => {
    const { requestState, resume, upstream } = await suspended()
    const [id, seal] = requestState.split('.')
    for (const made of [
      '',
      'x',
      '.',
      `${requestState}-TAMPERED`,
      `${id}.${'A'.repeat(seal!.length)}`,
      `${id}.é${seal!.slice(1)}`,
      'a'.repeat(2_000),
    ])
      expect((await resume({ requestState: made })).answer.error, made).toMatchObject({ code: -32602 })
    expect((await resume()).answer.result).toBeDefined()
    expect((await resume()).answer.error).toMatchObject({ code: -32602 })
    expect(upstream.calls()).toHaveLength(2)
  })

  test('ends with the session of Sallyport', async () => {
    const { gateway, at } = await suspended()
    await gateway.sessions.end([at.id], 'enough', 'test')
    await expect.poll(() => gateway.audit.of('action.failed').length).toBe(1)
  })

  test('can’t be held by the thousand: a session has at most 16', async () => {
    const { at } = await open()
    const results = await Promise.all(Array.from({ length: 18 }, () => ask(at, 'tools/call', echo, elicitation)))
    const suspended = results.filter(({ answer }) => answer.result?.['resultType'] === 'input_required')
    expect(suspended).toHaveLength(16)
  })
})

test('malformed answers to questions are refused', async () => {
  const { at } = await open()
  for (const inputResponses of [null, [], 'x', { name: 12_345 }, { name: null }])
    expect((await ask(at, 'tools/call', { ...echo, inputResponses }, elicitation)).answer.error).toMatchObject({
      code: -32602,
    })
})

test('promise 9: questions of a program reach the client of the call, never another', { timeout: 30_000 }, async () => {
  const gateway = await startGateway(policy, [mcpResource('desk', everythingServer())])
  closing.push(gateway.close)
  const people = await Promise.all(
    ['Ada', 'Bob'].map(async (name, position) => {
      const { token } = await gateway.session(position === 0 ? 'clerk' : 'other')
      const asked: string[] = []
      const client = await connect(
        position === 0 ? 'v2-modern' : 'v1',
        { url: gateway.url, token },
        {
          elicit: (message) => {
            asked.push(message)
            return { action: 'accept', content: { name } }
          },
        },
      )
      closing.push(client.close)
      await client.listTools()
      return { name, asked, client }
    }),
  )
  const { token } = await gateway.session('clerk')
  const silent = await connect('v1', { url: gateway.url, token })
  closing.push(silent.close)

  await Promise.all(
    people.map(async ({ name, client, asked }) => {
      for (let round = 1; round <= 3; round++) {
        const result = await client.callTool('desk__trigger-elicitation-request')
        expect(JSON.stringify(result)).toContain(name)
        expect(JSON.stringify(result)).not.toContain(name === 'Ada' ? 'Bob' : 'Ada')
        expect(asked).toHaveLength(round)
      }
    }),
  )
  expect((await silent.listTools()).map(({ name }) => name)).not.toContain('desk__trigger-elicitation-request')
})
