import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { connect } from './clients.ts'
import type { Answers, ClientKind, Command, ConnectedClient } from './clients.ts'
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
  toolCounts,
} from './reference-servers.ts'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function open(kind: ClientKind, command: Command, given?: Answers): Promise<ConnectedClient> {
  const client = await connect(kind, command, given)
  closing.push(client.close)
  return client
}

async function folder(): Promise<string> {
  const { path, remove } = await temporaryFolder()
  closing.push(remove)
  return path
}

// The reference servers speak 2025-11-25 only; `v2-modern` reaches them through a gateway or not at all.
describe.each(['v1', 'v2-legacy'] as const)('%s, without a gateway between', (kind) => {
  test('uses the everything server', async () => {
    const client = await open(kind, everythingServer())
    expect(await client.listTools()).toHaveLength(toolCounts.everything - 4)
    await exerciseEverything(client)
  })

  test('answers what the everything server asks', async () => {
    const client = await open(kind, everythingServer(), answers)
    expect(await client.listTools()).toHaveLength(toolCounts.everything)
    await exerciseQuestions(client)
  })

  test('uses the filesystem server', async () => {
    const root = await folder()
    const client = await open(kind, filesystemServer(root))
    expect(await client.listTools()).toHaveLength(toolCounts.filesystem)
    await exerciseFilesystem(client, root)
  })

  test('uses the memory server', async () => {
    const client = await open(kind, memoryServer(join(await folder(), 'graph.jsonl')))
    expect(await client.listTools()).toHaveLength(toolCounts.memory)
    await exerciseMemory(client)
  })
})

test('the environment of a server can be seen', async () => {
  const client = await open('v1', { ...everythingServer(), env: { CANARY: 'seen' } })
  expect(await environmentOfEverything(client)).toMatchObject({ CANARY: 'seen' })
})
