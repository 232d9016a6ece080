import { afterEach, expect, test } from 'vitest'
import { mcpResource, startGateway, toolSettings } from '../../../test/support/gateway.ts'
import { ask } from '../../../test/support/mcp.ts'
import type { Message } from '../../../test/support/mcp.ts'
import { scriptedUpstream } from '../../../test/support/upstream.ts'
import type { Person } from '../../core/identity.ts'

const policy = `
resources: { desk: { mcp: { command: [desk] }, tools: { echo: read, act: write } } }
people: { anna: { roles: [approver] } }
agents:
  clerk: { may: [{ do: "desk:act", ask: true }, "desk:echo"] }
  other: { may: [{ do: "desk:act", ask: true }] }
`
const anna: Person = { kind: 'person', name: 'anna', roles: ['approver'], teams: [] }
const act = { name: 'desk__act', arguments: { text: 'pay' } }

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function open(hold = { withProgress: 5_000, without: 50 }) {
  const upstream = await scriptedUpstream()
  closing.push(upstream.close)
  const tools = toolSettings({ echo: 'read', act: 'write' })
  const gateway = await startGateway(policy, [mcpResource('desk', upstream.url, { tools })], {
    gateway: { settings: { hold } },
  })
  closing.push(gateway.close)
  const { id, token } = await gateway.session('clerk')
  return { upstream, gateway, session: id, at: { url: gateway.url, token } }
}

const pending = (gateway: Awaited<ReturnType<typeof open>>['gateway']) =>
  gateway.approvals.list({ states: ['pending'] })

async function firstPending(gateway: Awaited<ReturnType<typeof open>>['gateway']) {
  for (;;) {
    const [first] = await pending(gateway)
    if (first !== undefined) return first
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

test('a call that needs approval answers with a result that says it is pending, and nothing happens', async () => {
  const { upstream, gateway, at } = await open()
  const { answer, status } = await ask(at, 'tools/call', act)
  const [approval] = await pending(gateway)
  expect(status).toBe(200)
  expect(answer.result).toMatchObject({
    isError: true,
    resultType: 'complete',
    _meta: { 'dev.sallyport/approval': { id: approval!.id }, 'dev.sallyport/refusal': { code: 'approval_pending' } },
  })
  expect(answer.result!['content'][0].text).toContain(`call sallyport__await_approval with {"id":"${approval!.id}"}`)
  expect(answer.result!['content'][0].text).toContain('Do not retry with different arguments')
  expect(upstream.calls()).toHaveLength(0)
})

test('promise 5: the identical call is carried out once after approval; other arguments ask anew', async () => {
  const { upstream, gateway, at } = await open()
  await ask(at, 'tools/call', act)
  const approval = (await pending(gateway))[0]!
  await gateway.approvals.answer(approval.id, anna, 'approve')
  expect(upstream.calls()).toHaveLength(0)

  const other = await ask(at, 'tools/call', { ...act, arguments: { text: 'pay more' } })
  expect(other.answer.result).toMatchObject({ isError: true })
  const done = await ask(at, 'tools/call', act)
  expect(done.answer.result).toMatchObject({ content: [{ text: 'echo: pay' }] })
  const again = await ask(at, 'tools/call', act)
  expect(again.answer.result).toMatchObject({
    isError: true,
    _meta: { 'dev.sallyport/refusal': { code: 'approval_pending' } },
  })
  expect(upstream.calls()).toHaveLength(1)
})

test('a client that asks to be told is shown progress at once, strictly rising, and gets the result when people agree', async () => {
  const { upstream, gateway, at } = await open()
  upstream.onCall = ({ params, res, id }) => {
    const { progressToken } = params['_meta'] as { progressToken: string }
    res.writeHead(200, { 'content-type': 'text/event-stream' })
    for (const progress of [0, 1, 1, 2])
      res.write(
        `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken, progress, total: 2 } })}\n\n`,
      )
    res.end(`data: ${JSON.stringify({ jsonrpc: '2.0', id, result: { resultType: 'complete', content: [] } })}\n\n`)
    return undefined
  }
  const seen: Message[] = []
  const calling = ask(at, 'tools/call', act, {
    meta: { progressToken: 'mine' },
    onMessage: (message) => seen.push(message),
  })
  const approval = await firstPending(gateway)
  await expect.poll(() => seen.length).toBeGreaterThan(0)
  expect(seen[0]!.params).toMatchObject({ progressToken: 'mine', message: expect.stringContaining(approval.id) })
  await gateway.approvals.answer(approval.id, anna, 'approve')
  const { messages, answer } = await calling
  expect(answer.result).toMatchObject({ content: [] })
  const steps = messages.slice(0, -1).map(({ params }) => params!['progress'] as number)
  expect(steps.length).toBeGreaterThan(1)
  expect(steps).toEqual([...new Set(steps)].sort((a, b) => a - b))
  expect((upstream.calls()[0]!.params['_meta'] as { progressToken: string }).progressToken).not.toBe('mine')
})

test('a denial is a result with the reason', async () => {
  const { upstream, gateway, at } = await open({ withProgress: 5_000, without: 5_000 })
  const calling = ask(at, 'tools/call', act)
  await gateway.approvals.answer((await firstPending(gateway)).id, anna, 'deny', 'not today')
  const { answer } = await calling
  expect(answer.result).toMatchObject({
    isError: true,
    _meta: { 'dev.sallyport/refusal': { code: 'approval_denied' } },
  })
  expect(answer.result!['content'][0].text).toContain('not today')
  expect(upstream.calls()).toHaveLength(0)
})

test('arguments that a person changed are told to the agent, and only these are carried out', async () => {
  const { upstream, gateway, at } = await open({ withProgress: 5_000, without: 5_000 })
  const calling = ask(at, 'tools/call', act)
  await gateway.guard.edit((await firstPending(gateway)).id, { text: 'pay less' }, anna)
  const { answer } = await calling
  expect(answer.result!['content'][0].text).toContain('{"text":"pay less"}')
  const done = await ask(at, 'tools/call', { ...act, arguments: { text: 'pay less' } })
  expect(done.answer.result).toMatchObject({ content: [{ text: 'echo: pay less' }] })
  expect(upstream.calls()).toHaveLength(1)
})

test('a client that leaves while people think leaves the question, and nothing happens without anybody waiting', async () => {
  const { upstream, gateway, at } = await open({ withProgress: 5_000, without: 5_000 })
  const leaving = new AbortController()
  const calling = ask(at, 'tools/call', act, { signal: leaving.signal }).catch(() => 'left')
  const approval = await firstPending(gateway)
  leaving.abort()
  expect(await calling).toBe('left')
  await expect.poll(() => gateway.audit.of('decision').length).toBe(1) // The attempt ended undecided.
  await gateway.approvals.answer(approval.id, anna, 'approve')
  expect(upstream.calls()).toHaveLength(0)
  expect((await ask(at, 'tools/call', act)).answer.result).toMatchObject({ content: [{ text: 'echo: pay' }] })
})

test('waiting for an approval: pending, then approved; of another session, or made up, it does not exist', async () => {
  const { gateway, at } = await open()
  await ask(at, 'tools/call', act)
  const { id } = (await pending(gateway))[0]!
  const wait = (given: string, from = at) =>
    ask(from, 'tools/call', { name: 'sallyport__await_approval', arguments: { id: given } })
  expect((await wait(id)).answer.result!['content'][0].text).toContain('still pending')

  const other = { url: at.url, token: (await gateway.session('other')).token }
  const foreign = (await wait(id, other)).answer.result
  expect(foreign).toMatchObject({ isError: true })
  expect((await wait('appr_00000000000000000000', other)).answer.result!['content']).toEqual(foreign!['content'])

  await gateway.approvals.answer(id, anna, 'approve')
  expect((await wait(id)).answer.result!['content'][0].text).toContain('Repeat the exact call now')
  await ask(at, 'tools/call', act)
  expect((await wait(id)).answer.result!['content'][0].text).toContain('carried out already')
})
