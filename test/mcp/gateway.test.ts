/** The reference servers through the gateway, by the official clients of both generations. */
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { mcpResource, startGateway } from '../support/gateway.ts'
import type { McpResource } from '../../src/gateway/mcp/resource.ts'
import { clientKinds, connect } from './clients.ts'
import type { Answers, ClientKind } from './clients.ts'
import {
  answers,
  environmentOfEverything,
  everythingServer,
  exerciseEverything,
  exerciseFilesystem,
  exerciseMemory,
  exerciseQuestions,
  filesystemServer,
  memoryServer,
  temporaryFolder,
} from './reference-servers.ts'

const policy = `
resources:
  everything: { mcp: { command: [everything] } }
  files: { mcp: { command: [files] } }
  memory: { mcp: { command: [memory] } }
agents:
  worker:
    may: [{ do: "*:*", ask: never }]
    limits: { repeats: unlimited }
`

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function open(kind: ClientKind, resource: McpResource, answering?: Answers) {
  const gateway = await startGateway(policy, [resource])
  closing.push(gateway.close)
  const { token } = await gateway.session('worker')
  const client = await connect(kind, { url: gateway.url, token }, answering)
  closing.push(client.close)
  return { gateway, client, token }
}

describe.each(clientKinds)('with the client %s', (kind) => {
  test('the everything server', async () => {
    const { client } = await open(kind, mcpResource('everything', everythingServer()))
    await expect(exerciseEverything(client, 'everything__')).resolves.toBeUndefined()
  })

  test('the everything server asks the person and the model behind the client', async () => {
    const asks = { elicitation: true, sampling: true, roots: true }
    const { client } = await open(kind, mcpResource('everything', everythingServer(), { asks }), answers)
    await expect(exerciseQuestions(client, 'everything__')).resolves.toBeUndefined()
  })

  test('the filesystem server', async () => {
    const folder = await temporaryFolder()
    closing.push(folder.remove)
    const { client } = await open(kind, mcpResource('files', filesystemServer(folder.path)))
    await expect(exerciseFilesystem(client, folder.path, 'files__')).resolves.toBeUndefined()
  })

  test('the memory server', async () => {
    const folder = await temporaryFolder()
    closing.push(folder.remove)
    const { client } = await open(kind, mcpResource('memory', memoryServer(join(folder.path, 'graph.json'))))
    await expect(exerciseMemory(client, 'memory__')).resolves.toBeUndefined()
  })
})

test('a program gets a minimal environment, without the token of the agent', async () => {
  const { client, token } = await open('v2-modern', mcpResource('everything', everythingServer()))
  const environment = await environmentOfEverything(client, 'everything__')
  expect(JSON.stringify(environment)).not.toContain(token)
  expect(
    Object.keys(environment).every((name) =>
      /^(PATH|HOME|LANG|LC_\w+|LOGNAME|SHELL|TMPDIR|TZ|USER|SALLYPORT_UPSTREAM)$/.test(name),
    ),
  ).toBe(true)
})
