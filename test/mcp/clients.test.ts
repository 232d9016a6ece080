import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import { startFixture } from '../conformance/fixture-server.ts'
import { clientKinds, connect } from './clients.ts'
import type { Answers, Command } from './clients.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})

const answers: Answers = {
  elicit: (message) => ({ action: 'accept', content: { username: 'ada', email: message } }),
  sample: (prompt) => `answer to ${prompt}`,
}
const overStdio: Command = {
  command: process.execPath,
  args: [fileURLToPath(import.meta.resolve('../conformance/fixture-server.ts')), '--stdio'],
}

describe.each(clientKinds)('%s', (kind) => {
  const revision = kind === 'v2-modern' ? '2026-07-28' : '2025-11-25'

  test('reaches a server that asks for a token', async () => {
    const fixture = await startFixture({ token: 'right' })
    closing.push(fixture.close)
    await expect(connect(kind, { url: fixture.url, token: 'wrong' })).rejects.toThrow()
    const client = await connect(kind, { url: fixture.url, token: 'right' })
    closing.push(client.close)
    expect(client.protocolVersion).toBe(revision)
    expect([...fixture.authorizations]).toEqual(['Bearer wrong', 'Bearer right'])
  })

  for (const transport of ['HTTP', 'stdio'])
    test(`uses tools, resources and prompts, and answers questions, over ${transport}`, async () => {
      const fixture = await startFixture()
      closing.push(fixture.close)
      const client = await connect(kind, transport === 'HTTP' ? { url: fixture.url } : overStdio, answers)
      closing.push(client.close)

      const names = (await client.listTools()).map(({ name }) => name)
      expect(names).toContain('test_simple_text')
      expect((await client.callTool('test_simple_text')).content[0]?.text).toContain('simple text')
      await expect(client.callTool('no_such_tool')).rejects.toThrow('Unknown tool')

      const progress: number[] = []
      await client.callTool('test_tool_with_progress', {}, { onprogress: (step) => progress.push(step.progress) })
      // These clients lose progress that arrives in one piece with the result, as the last step does over stdio.
      expect(progress.slice(0, 2)).toEqual([0, 50])

      const asked = await client.callTool('test_elicitation', { message: 'who?' })
      expect(asked.content[0]?.text).toContain('"email":"who?"')
      const sampled = await client.callTool('test_sampling', { prompt: 'a question' })
      expect(sampled.content[0]?.text).toBe('LLM response: answer to a question')

      const [resource] = await client.readResource((await client.listResources())[0]?.uri ?? '')
      expect(resource?.text).toContain('static text resource')
      await expect(client.readResource('test://nothing')).rejects.toThrow()
      expect(await client.listPrompts()).toContainEqual(expect.objectContaining({ name: 'test_simple_prompt' }))
      const [said] = await client.getPrompt('test_prompt_with_arguments', { arg1: 'x', arg2: 'y' })
      expect(said?.content.text).toBe("Prompt with arguments: arg1='x', arg2='y'")
    })

  test('declares only what it can answer', async () => {
    const fixture = await startFixture()
    closing.push(fixture.close)
    const client = await connect(kind, { url: fixture.url })
    closing.push(client.close)
    const answer = await client
      .callTool('test_missing_capability')
      .catch((error: unknown) => ({ isError: true, error }))
    expect(answer.isError).toBe(true)
  })
})
