import { join, sep } from 'node:path'
import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { Failure } from '../core/failure.ts'
import type { Towards } from '../core/secret.ts'
import { loadSettings } from './load.ts'
import type { LateReference } from './reference.ts'
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
  secrets: {
    prepare: async (reference: LateReference, { resource, host }: Towards) => {
      if (reference.from === 'vault') return { when: 'now' as const, because: 'the server is sealed' }
      if (reference.name === 'OTHERS')
        return { when: 'never' as const, because: `it is not for ${resource} at ${host}` }
      return undefined
    },
    read: (reference: LateReference, { host = '-' }: Towards) => {
      if (reference.from === 'vault') throw new Failure('unavailable', 'the server is sealed')
      return reference.name === 'LINES' ? 'one\r\ntwo' : `${stored.value}@${host}`
    },
    mark: (reference: LateReference) => (reference.from === 'vault' ? undefined : `mark of ${stored.value}`),
    used: (name: string, { resource, host = '-' }: Towards) => void used.push(`${name} ${resource} ${host}`),
  },
}
const stored = { value: 'first' }
const used: string[] = []

type Secrets = Readonly<Record<string, Secret>>
const envOf = (resource: ResolvedResource | undefined): Secrets =>
  resource !== undefined && 'mcp' in resource && resource.mcp.kind === 'stdio' ? resource.mcp.env : {}
const headersOf = (resource: ResolvedResource | undefined): Secrets =>
  resource !== undefined && 'mcp' in resource && resource.mcp.kind === 'http' ? resource.mcp.headers : {}

const program = (env: string) => `resources:\n  crm:\n    mcp:\n      command: [crm-mcp]\n      env:\n        ${env}\n`
const server = (headers: string) =>
  `resources: { crm: { mcp: { url: "https://crm.example", headers: { ${headers} } } } }`

test('references are replaced, and everything is kept as a secret', async () => {
  const {
    resources: { crm },
  } = await resolveReferences(
    load(program('A: "x-${env:CRM_KEY}-${file:key.txt}-$${env:B}"\n        LEVEL: debug')),
    sources,
  )
  const env = envOf(crm)
  expect(used).toEqual([])
  expect(env['A']?.reveal()).toBe('x-hunter2-from-file-${env:B}')
  expect(used.splice(0)).toEqual(['env:CRM_KEY crm -', 'file:key.txt crm -'])
  expect(env['LEVEL']?.reveal()).toBe('debug')
})

test('promise 4: a resolved value shows in no print, no JSON, no text', async () => {
  const { resources } = await resolveReferences(load(server('authorization: "Bearer ${env:CRM_KEY}"')), sources)
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
  const {
    resources: { crm },
  } = await resolveReferences(load(program('A: "${env:EMPTY}"')), sources)
  expect(envOf(crm)['A']?.reveal()).toBe('')
  await expect(resolveReferences(load(program('A: "${env:constructor}"')), sources)).rejects.toThrow(/no `constructor`/)
})

test('a value with a line end begins no second header', async () => {
  await expect(resolveReferences(load(server('x-a: "${file:two.txt}"')), sources)).rejects.toThrow(/may not stand here/)
})

test('a stored secret is read each time that it is used, for the place that it goes to', async () => {
  const given = load(server('authorization: "Bearer ${secret:CRM_KEY}"'))
  const { resources, late, known } = await resolveReferences(given, sources)
  const secret = headersOf(resources['crm'])['authorization']
  expect(secret?.isFixed).toBe(false)
  expect(secret?.uses).toEqual(['CRM_KEY'])
  expect(secret?.reveal()).toBe('Bearer first@crm.example')
  const before = secret?.mark()
  stored.value = 'second'
  expect(secret?.mark()).not.toBe(before)
  expect(secret?.reveal()).toBe('Bearer second@crm.example')
  expect(late).toEqual([{ from: 'secret', name: 'CRM_KEY' }])
  expect(known).toEqual([])
  expect(inspect(secret, { depth: 10, showHidden: true })).toBe('[secret CRM_KEY]')
})

test('promise 4: a secret that is bound elsewhere stops the start, with its place', async () => {
  const given = load(server('x-a: "${secret:OTHERS}"'))
  await expect(resolveReferences(given, sources)).rejects.toThrow(
    /sallyport\.yaml:1:\d+: resources\.crm\.mcp\.headers\.x-a: it is not for crm at crm\.example/,
  )
})

test('the credential of an OAuth client goes to where tokens are given out', async () => {
  const oauth = 'oauth: { token_url: "https://login.example/token", client_id: me, client_secret: "${secret:OTHERS}" }'
  const given = load(`resources: { api: { http: "https://api.example", credential: { ${oauth} }, operations: {} } }`)
  await expect(resolveReferences(given, sources)).rejects.toThrow(/it is not for api at login\.example/)
})

test('one that can not be had at present is a warning; who needs it fails', async () => {
  const vault = 'secrets: { sources: { vault: { url: "https://vault.example", auth: { token: "${env:T}" } } } }\n'
  const { resources, warnings } = await resolveReferences(load(vault + server('x-a: "${vault:apps/crm#key}"')), sources)
  expect(warnings).toMatchObject([{ path: 'resources.crm.mcp.headers.x-a', message: 'the server is sealed' }])
  expect(() => headersOf(resources['crm'])['x-a']?.reveal()).toThrow('the server is sealed')
  expect(headersOf(resources['crm'])['x-a']?.mark()).toBeUndefined()
  expect(() => load(server('x-a: "${vault:apps/crm#key}"'))).toThrow(/there is no `secrets.sources.vault`/)
})

test('a stored value with a line end begins no second header either', async () => {
  const { resources } = await resolveReferences(load(server('x-a: "${secret:LINES}"')), sources)
  expect(() => headersOf(resources['crm'])['x-a']?.reveal()).toThrow(/may not stand here/)
})

test('what was read for good is known by its name, without what stands round it', async () => {
  const given = load(program('A: "x-${env:CRM_KEY}"\n        API_KEY: in-the-file'))
  const { known } = await resolveReferences(given, sources)
  expect(known).toEqual([
    { name: 'env:CRM_KEY', value: 'hunter2' },
    { name: 'API_KEY', value: 'in-the-file' },
  ])
})
