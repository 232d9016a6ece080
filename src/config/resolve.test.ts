import { join, sep } from 'node:path'
import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { loadSettings } from './load.ts'
import { resolveReferences } from './resolve.ts'
import type { ResolvedResource } from './resolve.ts'
import type { Secret } from './secret.ts'

const folder = join(sep, 'etc', 'sallyport')
const load = (text: string) => loadSettings(text, { file: join(folder, 'sallyport.yaml') })
const files: Readonly<Record<string, string>> = {
  [join(folder, 'key.txt')]: 'from-file\n',
  [join(folder, 'two.txt')]: 'one\r\ntwo\r\n',
}
const sources = {
  env: { CRM_KEY: 'hunter2', EMPTY: '' },
  readFile: async (path: string) => {
    const found = files[path]
    if (found === undefined) throw Object.assign(new Error(`ENOENT: hunter2 at ${path}`), { code: 'ENOENT' })
    return found
  },
}

type Secrets = Readonly<Record<string, Secret>>
const envOf = (resource: ResolvedResource | undefined): Secrets =>
  resource !== undefined && 'mcp' in resource && resource.mcp.kind === 'stdio' ? resource.mcp.env : {}
const headersOf = (resource: ResolvedResource | undefined): Secrets =>
  resource !== undefined && 'mcp' in resource && resource.mcp.kind === 'http' ? resource.mcp.headers : {}

const program = (env: string) => `resources:\n  crm:\n    mcp:\n      command: [crm-mcp]\n      env:\n        ${env}\n`
const server = (headers: string) =>
  `resources: { crm: { mcp: { url: "https://crm.example", headers: { ${headers} } } } }`

test('references are replaced, and everything is kept as a secret', async () => {
  const { crm } = await resolveReferences(
    load(program('A: "x-${env:CRM_KEY}-${file:key.txt}-$${env:B}"\n        LEVEL: debug')),
    sources,
  )
  const env = envOf(crm)
  expect(env['A']?.reveal()).toBe('x-hunter2-from-file-${env:B}')
  expect(env['LEVEL']?.reveal()).toBe('debug')
})

test('promise 4: a resolved value shows in no print, no JSON, no text', async () => {
  const resources = await resolveReferences(load(server('authorization: "Bearer ${env:CRM_KEY}"')), sources)
  const { crm } = resources
  const secret = headersOf(crm)['authorization']
  expect(secret?.reveal()).toBe('Bearer hunter2')
  for (const shown of [
    inspect(resources, { depth: 10, showHidden: true }),
    JSON.stringify(resources),
    String(secret),
  ]) {
    expect(shown).not.toContain('hunter2')
    expect(shown).toContain('[secret env:CRM_KEY]')
  }
})

test('every reference that leads nowhere is listed with its place, and no value with it', async () => {
  const given = load(program('A: "${env:CRM_KEY}${env:NOPE}"\n        B: "${file:gone.txt}"'))
  const failure = await resolveReferences(given, sources).catch((thrown: unknown) => String(thrown))
  expect(failure).toMatch(/sallyport\.yaml:6:12: resources\.crm\.mcp\.env\.A: the environment has no `NOPE`\n/)
  expect(failure).toMatch(/sallyport\.yaml:7:12: resources\.crm\.mcp\.env\.B: `gone\.txt` cannot be read \(ENOENT\)$/)
  expect(failure).not.toContain('hunter2')
})

test('an empty value is a value; one that is not set is an error', async () => {
  const { crm } = await resolveReferences(load(program('A: "${env:EMPTY}"')), sources)
  expect(envOf(crm)['A']?.reveal()).toBe('')
  await expect(resolveReferences(load(program('A: "${env:constructor}"')), sources)).rejects.toThrow(/no `constructor`/)
})

test('a value with a line end begins no second header', async () => {
  await expect(resolveReferences(load(server('x-a: "${file:two.txt}"')), sources)).rejects.toThrow(/may not stand here/)
})
