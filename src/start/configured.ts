import { X509Certificate } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { createLocalJWKSet, createRemoteJWKSet } from 'jose'
import type { JSONWebKeySet, JWTVerifyGetKey } from 'jose'
import { loadSettings, problemInWords, problemsInWords } from '../config/load.ts'
import type { LoadedSettings } from '../config/load.ts'
import { readDatabases } from '../config/databases.ts'
import type { Databases } from '../config/databases.ts'
import { readDocuments } from '../config/openapi.ts'
import type { Documents } from '../config/openapi.ts'
import { postgresSchemas } from '../config/postgres.ts'
import { readEarly, resolveReferences } from '../config/resolve.ts'
import type { EarlyReference } from '../config/reference.ts'
import type { Resolved } from '../config/resolve.ts'
import type { Settings } from '../config/schema.ts'
import { connectArguments } from '../config/tunnel.ts'
import type { VaultSettings } from '../config/vault.ts'
import { Failure } from '../core/failure.ts'
import type { Caller } from '../core/identity.ts'
import type { JsonObject } from '../core/json.ts'
import type { Permission } from '../core/permission.ts'
import type { Mode } from '../core/policy.ts'
import type { TrustedIssuer } from '../guard/authenticate.ts'
import type { Kv2Options } from '../guard/secret-sources/kv2.ts'
import type { Reader, Secrets } from '../guard/secrets.ts'
import { codeOf } from './machine.ts'

interface ReadText {
  readonly text: string
  readonly loaded: LoadedSettings
}

export interface Configured extends ReadText, Resolved {
  readonly issuers: readonly TrustedIssuer[]
  readonly reader: Reader
  /** What documents of APIs describe, by resource. */
  readonly documents: Documents
  /** What the SQL of databases does, by resource. */
  readonly databases: Databases
  /** Certificates (PEM) that sign those of databases and APIs, by resource. */
  readonly certificates: ReadonlyMap<string, string>
  /** Certificate and key (PEM) of the listener for SQL, where it has them. */
  readonly sqlIdentity: { readonly certificate: string; readonly key: string } | undefined
  /** JSON Schema of arguments that are known without asking anybody, by permission. */
  readonly schemas: ReadonlyMap<Permission, JsonObject>
}

/** Reads the configuration itself. Fails with `invalid`, listing what is wrong. */
export async function readText(file: string): Promise<ReadText> {
  const text = await fs.promises.readFile(file, 'utf8').catch((cause: unknown) => {
    throw new Failure('invalid', `${file} can't be read${codeOf(cause)}: \`sallyport init\` writes one to begin with`, {
      cause,
    })
  })
  return { text, loaded: loadSettings(text, { file }) }
}

/** Reads the configuration with all that it refers to. Fails with `invalid`, listing what is wrong; then nothing changed. */
export async function readConfigured(file: string, env: NodeJS.ProcessEnv, secrets: Secrets): Promise<Configured> {
  const given = await readText(file)
  const { vault: server } = given.loaded.settings.secrets.sources
  const options = server && (await vaultOptions(server, path.dirname(path.resolve(file)), env))
  const reader = secrets.readerFor(options, JSON.stringify(server) ?? '')
  try {
    const resolved = await resolveReferences(given.loaded, { env, readFile, secrets: reader })
    const issuers = await Promise.all(
      Object.entries(given.loaded.settings.issuers).map(([name, issuer]) => trust(name, issuer)),
    )
    const documents = await readDocuments(given.loaded, readFile)
    const databases = await readDatabases(given.loaded)
    const certificates = await certificatesOf(given.loaded)
    const sqlIdentity = await identityOfSql(given.loaded)
    return {
      ...given,
      ...resolved,
      issuers,
      reader,
      documents,
      databases,
      certificates,
      sqlIdentity,
      schemas: schemasIn(resolved, documents),
    }
  } catch (thrown) {
    await secrets.drop(reader)
    throw thrown
  }
}

/** Fails with `invalid`, with the place of the first that can't be read or signs nothing. */
async function certificatesOf(loaded: LoadedSettings): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>()
  const folder = path.dirname(path.resolve(loaded.file))
  for (const [alias, resource] of Object.entries(loaded.settings.resources)) {
    if (!('postgres' in resource || 'http' in resource) || resource.ca === undefined) continue
    try {
      const pem = await readEarly({ from: 'file', path: resource.ca }, folder, { env: {}, readFile })
      checkAuthorities(pem, resource.ca)
      found.set(alias, pem)
    } catch (thrown) {
      const problem = { ...loaded.at(['resources', alias, 'ca']), message: Failure.from(thrown).message }
      throw new Failure('invalid', problemsInWords(loaded.file, [problem]))
    }
  }
  return found
}

/** Fails with `invalid`, with the place of the file that can't be read. */
async function identityOfSql(loaded: LoadedSettings): Promise<Configured['sqlIdentity']> {
  const { tls } = loaded.settings.listen.sql ?? {}
  if (tls === undefined) return undefined
  const folder = path.dirname(path.resolve(loaded.file))
  const read = (key: 'certificate' | 'key'): Promise<string> =>
    readEarly({ from: 'file', path: tls[key] }, folder, { env: {}, readFile }).catch((thrown: unknown) => {
      const problem = { ...loaded.at(['listen', 'sql', key]), message: Failure.from(thrown).message }
      throw new Failure('invalid', problemsInWords(loaded.file, [problem]))
    })
  return { certificate: await read('certificate'), key: await read('key') }
}

/** TLS takes a file without authorities without a word, and then trusts nobody. */
function checkAuthorities(pem: string, file: string): void {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  if (blocks.length === 0)
    throw new Failure('invalid', `\`${file}\` holds no certificate: expected PEM, \`-----BEGIN CERTIFICATE-----\` …`)
  for (const [index, block] of blocks.entries()) {
    const which = `certificate ${index + 1} of \`${file}\``
    let certificate: X509Certificate
    try {
      certificate = new X509Certificate(block)
    } catch (cause) {
      throw new Failure('invalid', `${which} can't be read`, { cause })
    }
    if (!certificate.ca)
      throw new Failure('invalid', `${which} is no authority: expected the one that signs, not the server's own`)
    if (Date.parse(certificate.validTo) <= Date.now())
      throw new Failure('invalid', `${which} ended at ${certificate.validTo}: expected one that is valid`)
  }
}

const readFile = (file: string): Promise<string> => fs.promises.readFile(file, 'utf8')

/** How the server of `${vault:…}` is reached. Its credentials are read each time that they are needed. */
async function vaultOptions(settings: VaultSettings, folder: string, env: NodeJS.ProcessEnv): Promise<Kv2Options> {
  const { auth, ca, url, mount, namespace, cache, timeout } = settings
  return {
    url,
    mount,
    cache,
    timeout,
    ...(namespace === undefined ? {} : { namespace }),
    ...(ca === undefined ? {} : { ca: await readEarly({ from: 'file', path: ca }, folder, { env, readFile }) }),
    auth: authOf(auth, (reference) => () => readEarly(reference, folder, { env, readFile })),
  }
}

function authOf(
  { token, approle, kubernetes }: VaultSettings['auth'],
  read: (reference: EarlyReference) => () => Promise<string>,
): Kv2Options['auth'] {
  if (token !== undefined) return { kind: 'token', token: read(token) }
  if (approle !== undefined)
    return { kind: 'approle', mount: approle.mount, roleId: approle.role_id, secretId: read(approle.secret_id) }
  if (kubernetes === undefined) throw new TypeError('the schema lets through exactly one way to sign in')
  return { kind: 'kubernetes', mount: kubernetes.mount, role: kubernetes.role, tokenFile: kubernetes.token }
}

type IssuerSettings = LoadedSettings['settings']['issuers'][string]

async function trust(name: string, { keys, ...issuer }: IssuerSettings): Promise<TrustedIssuer> {
  return { name, ...issuer, keys: 'url' in keys ? createRemoteJWKSet(new URL(keys.url)) : await keysIn(keys.file) }
}

async function keysIn(file: string): Promise<JWTVerifyGetKey> {
  try {
    return createLocalJWKSet(JSON.parse(await fs.promises.readFile(file, 'utf8')) as JSONWebKeySet)
  } catch (cause) {
    throw new Failure('invalid', `${file} holds no JSON Web Key Set${codeOf(cause)}`, { cause })
  }
}

function schemasIn({ resources }: Resolved, documents: Documents): ReadonlyMap<Permission, JsonObject> {
  const written = Object.entries(resources).flatMap(([alias, resource]): [Permission, JsonObject][] =>
    !('http' in resource) || Array.isArray(resource.operations)
      ? []
      : Object.entries(resource.operations).flatMap(([name, operation]) =>
          operation.kind === 'written' ? [[`${alias}:${name}`, operation.schema]] : [],
        ),
  )
  const documented = [...documents].flatMap(([alias, operations]) =>
    [...operations].map(([id, { settings }]): [Permission, JsonObject] => [`${alias}:${id}`, settings.schema]),
  )
  const tunnels = Object.entries(resources).flatMap(([alias, resource]): [Permission, JsonObject][] =>
    'tunnel' in resource ? [[`${alias}:connect`, connectArguments]] : [],
  )
  const databases = Object.entries(resources).flatMap(([alias, resource]) =>
    'postgres' in resource ? postgresSchemas(alias, resource) : [],
  )
  return new Map([...written, ...documented, ...tunnels, ...databases])
}

export const warningsOf = ({ loaded, warnings }: Configured): readonly string[] =>
  [...loaded.warnings, ...warnings].map(problemInWords)

const strictness: Readonly<Record<Mode, number>> = { observe: 0, standard: 1, lockdown: 2 }

/** Agents whose mode became weaker: said loudly, and recorded. */
export function weakened(before: Configured, after: Configured): readonly string[] {
  return Object.entries(after.loaded.settings.agents).flatMap(([name, { mode }]) => {
    const was = before.loaded.settings.agents[name]?.mode ?? 'standard'
    return strictness[mode] < strictness[was] ? [`agent ${name} went from ${was} to ${mode}`] : []
  })
}

/** The person or service that a key is of, as configured now. `admin` is always there: it is the key of the first start. */
export function callerOf({ people, services }: Settings, holder: string): Caller | undefined {
  const [kind, name = ''] = holder.split(':', 2)
  if (kind === 'person') {
    const person = Object.hasOwn(people, name) ? people[name] : undefined
    if (person !== undefined) return { kind, name, roles: person.roles, teams: person.teams }
    return name === 'admin' ? { kind, name, roles: ['admin'], teams: [] } : undefined
  }
  const service = kind === 'service' && Object.hasOwn(services, name) ? services[name] : undefined
  return service === undefined ? undefined : { kind: 'service', name, starts: service.starts }
}
