/**
 * The reference MCP servers, as commands to start over stdio, and what a client must be able to do with each of them,
 * directly or through a gateway. The exercises take a prefix, because a gateway puts one before the names of tools
 * and prompts; resources are found by what they are called, because a gateway may rewrite their URIs.
 */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Answers, CallResult, Command, ThinClient } from './clients.ts'

/**
 * How many tools each server offers. The everything server offers 4 fewer to a client that declares no capabilities:
 * those tools ask the client for its roots, its model, or its user (by form, by URL).
 */
export const toolCounts = { everything: 17, filesystem: 14, memory: 9 } as const

const resolve = createRequire(import.meta.url).resolve

function reference(name: keyof typeof toolCounts, args: string[], env?: Record<string, string>): Command {
  const manifest = resolve(`@modelcontextprotocol/server-${name}/package.json`)
  return { command: process.execPath, args: [join(dirname(manifest), 'dist', 'index.js'), ...args], env }
}

export function everythingServer(): Command {
  return reference('everything', ['stdio'])
}

/** Serves the folder `root`, which must exist. */
export function filesystemServer(root: string): Command {
  return reference('filesystem', [root])
}

/** Keeps its graph in `file`, which need not exist. */
export function memoryServer(file: string): Command {
  return reference('memory', [], { MEMORY_FILE_PATH: file })
}

/** A folder of its own for a test, by its real path. */
export async function temporaryFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await realpath(await mkdtemp(join(tmpdir(), 'sallyport-reference-')))
  return { path, remove: () => rm(path, { recursive: true, force: true }) }
}

/** Text, structure, images, progress, cancellation, resources, links and prompts. */
export async function exerciseEverything(client: ThinClient, prefix = ''): Promise<void> {
  await offers(client, prefix, ['echo', 'get-sum', 'get-structured-content', 'get-tiny-image', 'get-resource-links'])

  const message = 'a line\nand ünïcödé: 漢字 🚪 \u200d "quotes" \\ </script>'
  assert.equal(textOf(await client.callTool(`${prefix}echo`, { message })), `Echo: ${message}`)
  assert.equal(textOf(await client.callTool(`${prefix}get-sum`, { a: 2.5, b: -4 })), 'The sum of 2.5 and -4 is -1.5.')
  await refuses('a wrong type', () => client.callTool(`${prefix}get-sum`, { a: 'two', b: 4 }))
  await refuses('a missing argument', () => client.callTool(`${prefix}echo`, {}))
  await refuses('an unknown tool', () => client.callTool(`${prefix}no-such-tool`, {}))

  const weather = await client.callTool(`${prefix}get-structured-content`, { location: 'Chicago' })
  assert.deepEqual(weather.structuredContent, { temperature: 36, conditions: 'Light rain / drizzle', humidity: 82 })
  assert.deepEqual(JSON.parse(textOf(weather)), weather.structuredContent)

  const image = (await client.callTool(`${prefix}get-tiny-image`)).content.find(({ type }) => type === 'image')
  assert.equal(image?.mimeType, 'image/png')
  assert.equal(
    Buffer.from(image?.data ?? '', 'base64')
      .subarray(1, 4)
      .toString(),
    'PNG',
  )

  const steps: number[] = []
  const slow = await client.callTool(
    `${prefix}trigger-long-running-operation`,
    { duration: 0.2, steps: 4 },
    { onprogress: ({ progress }) => steps.push(progress) },
  )
  assert.match(textOf(slow), /^Long running operation completed/)
  assert.ok(steps.length > 0, 'no progress arrived')
  assert.deepEqual(
    steps,
    [...new Set(steps)].sort((a, b) => a - b),
    'progress must increase',
  )

  const signal = AbortSignal.timeout(100)
  const started = performance.now()
  await assert.rejects(
    client.callTool(`${prefix}trigger-long-running-operation`, { duration: 20, steps: 1 }, { signal, timeout: 15_000 }),
  )
  assert.ok(performance.now() - started < 10_000, 'a cancelled call must end before its work would')

  const links = (await client.callTool(`${prefix}get-resource-links`, { count: 2 })).content.filter(
    ({ type }) => type === 'resource_link',
  )
  assert.equal(links.length, 2)
  for (const { uri = '' } of links) {
    const [linked] = await client.readResource(uri)
    assert.equal(linked?.uri, uri, 'a link must be readable under the address it gives')
    const body = linked?.text ?? Buffer.from(linked?.blob ?? '', 'base64').toString()
    assert.match(body, /^Resource \d: This is a (plaintext resource|base64 blob)/)
  }

  const listed = await client.listResources()
  assert.ok(listed.length >= 7, `7 resources, not ${listed.length}`)
  const document = listed.find(({ uri }) => uri.endsWith('features.md'))
  assert.ok(document, 'features.md must be listed')
  assert.ok(((await client.readResource(document.uri))[0]?.text?.length ?? 0) > 100)
  await refuses('an unknown resource', () => client.readResource(`${document.uri}.not-there`))

  const prompts = (await client.listPrompts()).map(({ name }) => name)
  for (const name of ['simple-prompt', 'args-prompt', 'resource-prompt'])
    assert.ok(prompts.includes(prefix + name), `${name} must be listed`)
  const [simple] = await client.getPrompt(`${prefix}simple-prompt`)
  assert.equal(simple?.content.text, 'This is a simple prompt without arguments.')
  const [question] = await client.getPrompt(`${prefix}args-prompt`, { city: 'Oslo', state: 'Østlandet' })
  assert.equal(question?.content.text, "What's weather in Oslo, Østlandet?")
  await refuses('a prompt without its argument', () => client.getPrompt(`${prefix}args-prompt`, {}))
  const embedding = await client.getPrompt(`${prefix}resource-prompt`, { resourceType: 'Text', resourceId: '1' })
  assert.match(embedding.find(({ content }) => content.resource)?.content.resource?.text ?? '', /^Resource 1: /)
}

/** What a client must answer for `exerciseQuestions`. */
export const answers: Answers = {
  elicit: () => ({ action: 'accept', content: { name: 'Ada Lovelace', check: true } }),
  sample: (prompt) => `You said: ${prompt}`,
  roots: ['file:///a/root'],
}

/** Lets the everything server ask the client's user and model. The client must have been connected with `answers`. */
export async function exerciseQuestions(client: ThinClient, prefix = ''): Promise<void> {
  await offers(client, prefix, ['trigger-elicitation-request', 'trigger-sampling-request'])
  const told = textOf(await client.callTool(`${prefix}trigger-elicitation-request`))
  assert.match(told, /Ada Lovelace/)
  const modelled = textOf(await client.callTool(`${prefix}trigger-sampling-request`, { prompt: 'hello', maxTokens: 5 }))
  assert.match(modelled, /You said: .*hello/)
}

/** The environment that the process of the everything server sees. */
export async function environmentOfEverything(client: ThinClient, prefix = ''): Promise<Record<string, string>> {
  return JSON.parse(textOf(await client.callTool(`${prefix}get-env`))) as Record<string, string>
}

/** Reads, writes and moves files under `root`, and tries to leave it. */
export async function exerciseFilesystem(client: ThinClient, root: string, prefix = ''): Promise<void> {
  await offers(client, prefix, ['read_text_file', 'write_file', 'edit_file', 'move_file', 'search_files'])
  const call = (tool: string, args: Record<string, unknown>) => client.callTool(prefix + tool, args)
  const done = async (tool: string, args: Record<string, unknown>) => {
    const result = await call(tool, args)
    assert.ok(!result.isError, `${tool}: ${textOf(result)}`)
    return result
  }
  assert.ok(textOf(await done('list_allowed_directories', {})).includes(root))

  const file = join(root, 'a note.txt')
  const content = 'first\nsecond ünïcödé\nthird\n'
  await done('write_file', { path: file, content })
  assert.equal(await readFile(file, 'utf8'), content)
  const readBack = await done('read_text_file', { path: file })
  assert.equal(textOf(readBack), content)
  assert.deepEqual(readBack.structuredContent, { content })
  assert.equal(textOf(await done('read_text_file', { path: file, head: 1 })).trim(), 'first')

  await done('edit_file', { path: file, edits: [{ oldText: 'first', newText: 'FIRST' }], dryRun: true })
  assert.equal(await readFile(file, 'utf8'), content, 'a dry run must change nothing')
  await done('edit_file', { path: file, edits: [{ oldText: 'first', newText: 'FIRST' }] })
  assert.equal(await readFile(file, 'utf8'), content.replace('first', 'FIRST'))

  const folder = join(root, 'deep', 'er')
  await done('create_directory', { path: folder })
  assert.ok((await stat(folder)).isDirectory())
  const moved = join(folder, 'moved.txt')
  await done('move_file', { source: file, destination: moved })
  await assert.rejects(stat(file))
  assert.match(textOf(await done('list_directory', { path: folder })), /\[FILE\] moved\.txt/)
  assert.ok(textOf(await done('search_files', { path: root, pattern: '**/*.txt' })).includes(moved))
  assert.match(textOf(await done('get_file_info', { path: moved })), /isFile: true/)
  assert.match(textOf(await done('directory_tree', { path: root })), /moved\.txt/)

  const bytes = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 255, 1])
  await writeFile(join(root, 'bytes.png'), bytes)
  const media = (await done('read_media_file', { path: join(root, 'bytes.png') })).content[0]
  assert.equal(media?.mimeType, 'image/png')
  assert.ok(Buffer.from(media?.data ?? '', 'base64').equals(bytes))

  const outside = await temporaryFolder()
  try {
    const secret = join(outside.path, 'secret.txt')
    await writeFile(secret, 'not for you')
    await mkdir(join(root, 'ways-out'))
    await symlink(outside.path, join(root, 'ways-out', 'link'))
    const waysOut = [secret, join(root, '..', outside.path.split('/').at(-1)!, 'secret.txt')]
    for (const path of [...waysOut, join(root, 'ways-out', 'link', 'secret.txt')]) {
      await refuses(`reading ${path}`, () => call('read_text_file', { path }), 'not for you')
      await refuses(`writing ${path}`, () => call('write_file', { path, content: 'changed' }))
    }
    assert.equal(await readFile(secret, 'utf8'), 'not for you')
  } finally {
    await outside.remove()
  }
}

/** Builds a small graph, finds it again, and takes it away. Leaves the graph as empty as it must be at the start. */
export async function exerciseMemory(client: ThinClient, prefix = ''): Promise<void> {
  await offers(client, prefix, ['create_entities', 'create_relations', 'search_nodes', 'delete_entities', 'read_graph'])
  const call = (tool: string, args: Record<string, unknown> = {}) => client.callTool(prefix + tool, args)
  const structured = async (tool: string, args: Record<string, unknown> = {}) => {
    const result = await call(tool, args)
    assert.ok(!result.isError, `${tool}: ${textOf(result)}`)
    return result.structuredContent
  }
  const empty = { entities: [], relations: [] }
  assert.deepEqual(await structured('read_graph'), empty)

  const ada = { name: 'Ada', entityType: 'person', observations: ['wrote the first program'] }
  const engine = { name: 'Engine', entityType: 'machine', observations: ['was never built', 'Maße: groß'] }
  assert.deepEqual(await structured('create_entities', { entities: [ada, engine] }), { entities: [ada, engine] })
  const relation = { from: 'Ada', to: 'Engine', relationType: 'programmed' }
  assert.deepEqual(await structured('create_relations', { relations: [relation] }), { relations: [relation] })
  const observations = [{ entityName: 'Ada', contents: ['born 1815'] }]
  assert.deepEqual(await structured('add_observations', { observations }), {
    results: [{ entityName: 'Ada', addedObservations: ['born 1815'] }],
  })

  const found = { entities: [{ ...ada, observations: [...ada.observations, 'born 1815'] }], relations: [relation] }
  assert.deepEqual(await structured('search_nodes', { query: '1815' }), found)
  assert.deepEqual(await structured('open_nodes', { names: ['Ada'] }), found)
  await refuses('an observation of nobody', () =>
    call('add_observations', { observations: [{ entityName: 'Nobody', contents: ['x'] }] }),
  )
  await refuses('entities that are not a list', () => call('create_entities', { entities: 'Ada' }))

  const resource = (await client.listResources()).find(({ uri }) => uri.endsWith('knowledge-graph'))
  assert.ok(resource, 'the graph must be listed as a resource')
  const [graph] = await client.readResource(resource.uri)
  assert.deepEqual(JSON.parse(graph?.text ?? ''), await structured('read_graph'))

  await structured('delete_relations', { relations: [relation] })
  await structured('delete_observations', { deletions: [{ entityName: 'Ada', observations: ['born 1815'] }] })
  assert.deepEqual(await structured('read_graph'), { entities: [ada, engine], relations: [] })
  await structured('delete_entities', { entityNames: ['Ada', 'Engine'] })
  assert.deepEqual(await structured('read_graph'), empty)
}

async function offers(client: ThinClient, prefix: string, names: string[]): Promise<void> {
  const listed = await client.listTools()
  for (const name of names) {
    const tool = listed.find((candidate) => candidate.name === prefix + name)
    assert.ok(tool, `${prefix + name} must be listed`)
    assert.equal(tool.inputSchema['type'], 'object')
    assert.ok(tool.description, `${prefix + name} must keep its description`)
  }
}

/** A refusal is a protocol error or a result marked as an error; neither may hold `hidden`. */
async function refuses(what: string, attempt: () => Promise<unknown>, hidden?: string): Promise<void> {
  const answer = await attempt().catch((error: unknown) => ({ isError: true, error: String(error) }))
  assert.ok((answer as CallResult).isError, `${what} must be refused`)
  if (hidden !== undefined) assert.ok(!JSON.stringify(answer).includes(hidden), `${what} must not show the content`)
}

function textOf(result: CallResult): string {
  return result.content.map(({ text }) => text ?? '').join('')
}
