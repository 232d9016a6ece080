import { hash } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { Failure } from '../core/failure.ts'
import type { Towards } from '../core/secret.ts'
import { namesCredential } from './cross.ts'
import { problemsInWords } from './load.ts'
import type { LoadedSettings, SettingsProblem } from './load.ts'
import { isLate, referenceName } from './reference.ts'
import type { EarlyReference, LateReference, Template } from './reference.ts'
import { templatesOf } from './http.ts'
import type {
  FunctionsResourceSettings,
  HttpResourceSettings,
  McpResourceSettings,
  PostgresResourceSettings,
  TunnelResourceSettings,
  Upstream,
} from './schema.ts'
import { Secret } from './secret.ts'
import type { Path } from './source.ts'

/** How an MCP server is reached, with every value that may be secret kept as one. */
export type ResolvedUpstream =
  | (Omit<Extract<Upstream, { kind: 'stdio' }>, 'env'> & { readonly env: Readonly<Record<string, Secret>> })
  | (Omit<Extract<Upstream, { kind: 'http' }>, 'headers'> & { readonly headers: Readonly<Record<string, Secret>> })

export type ResolvedMcp = Omit<McpResourceSettings, 'mcp'> & { readonly mcp: ResolvedUpstream }
/** The texts of its credential by their keys (`bearer`, `basic.user`). */
export type ResolvedHttp = HttpResourceSettings & { readonly secrets: Readonly<Record<string, Secret>> }
/** Address and password of its role. */
export type ResolvedPostgres = PostgresResourceSettings & {
  readonly secrets: { readonly address: Secret; readonly password?: Secret }
}
export type ResolvedResource =
  | ResolvedMcp
  | ResolvedHttp
  | ResolvedPostgres
  | FunctionsResourceSettings
  | TunnelResourceSettings

export interface ReferenceSources {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Reads a small text file by its absolute path. */
  readonly readFile: (path: string) => Promise<string>
  readonly secrets: SecretReader
}

/** Reads secrets when they are used. */
export interface SecretReader {
  /**
   * What stands against using one towards a place. `never`: it may not go there, so the configuration is wrong. `now`:
   * it is not there yet, or can't be had at present: whoever needs it fails until it can.
   */
  prepare(
    reference: LateReference,
    towards: Towards,
  ): Promise<{ readonly when: 'never' | 'now'; readonly because: string } | undefined>
  /** The value, for one use. Fails with words for people. */
  read(reference: LateReference, towards: Towards): string
  /** Differs when the value does, and tells nothing of it; undefined where it can't be had at present. */
  mark(reference: LateReference, towards: Towards): string | undefined
  /** Told of each use of a value that was read for good. */
  used(name: string, towards: Towards): void
}

/** What a configuration refers to. */
export interface Resolved {
  readonly resources: Readonly<Record<string, ResolvedResource>>
  /** Values that were read for good, by their names: they are never to be shown. */
  readonly known: readonly { readonly name: string; readonly value: string }[]
  readonly late: readonly LateReference[]
  /** Secrets that can't be had at present: what needs them fails, and nothing else. */
  readonly warnings: readonly SettingsProblem[]
}

/** What a file of one value may hold. More is no credential. In UTF-16 code units. */
const longestValue = 65_536

/**
 * The resources with every reference replaced: `${env:NAME}` and `${file:path}` now, `${secret:NAME}` and
 * `${vault:path#field}` each time that they are used. One line end at the end of a file is left out.
 *
 * Fails with `invalid`, listing every reference that leads nowhere, or that may not stand where it does, with its place.
 * No message has a value in it.
 */
export async function resolveReferences(loaded: LoadedSettings, sources: ReferenceSources): Promise<Resolved> {
  const problems: SettingsProblem[] = []
  const warnings: SettingsProblem[] = []
  const known = new Map<string, { readonly name: string; readonly value: string }>()
  const late = new Map<string, LateReference>()
  const folder = dirname(resolve(loaded.file))

  async function fill(template: Template, path: Path, towards: Towards): Promise<Secret> {
    const names = template.flatMap((part) => (typeof part === 'string' ? [] : [referenceName(part)]))
    const parts: (string | LateReference)[] = []
    for (const part of template)
      try {
        if (typeof part === 'string') parts.push(part)
        else if (isLate(part)) {
          parts.push(part)
          await prepare(part, path, towards)
        } else {
          const value = await readEarly(part, folder, sources)
          known.set(referenceName(part), { name: referenceName(part), value })
          parts.push(value)
        }
      } catch (thrown) {
        problems.push({ ...loaded.at(path), message: Failure.from(thrown).message })
      }
    // A NUL cuts an environment variable short, and a line end would begin another header.
    const forbidden = path.at(-2) === 'headers' || path[2] === 'credential' || path.length === 3 ? /[\0\r\n]/ : /\0/
    const name = names.length === 0 ? String(path.at(-1)) : names.join(' ')
    if (parts.some((part) => typeof part === 'string' && forbidden.test(part)))
      problems.push({ ...loaded.at(path), message: `the value ${unfit}` })
    const isFixed = parts.every((part) => typeof part === 'string')
    // A credential that stands in the file itself.
    if (names.length === 0 && (path[2] === 'credential' || path[2] === 'password' || namesCredential(name)))
      known.set(path.join('.'), { name, value: template.filter((part) => typeof part === 'string').join('') })
    const early = template.flatMap((part) => (typeof part === 'string' || isLate(part) ? [] : [referenceName(part)]))

    function read(): string {
      const value = parts
        .map((part) => (typeof part === 'string' ? part : sources.secrets.read(part, towards)))
        .join('')
      if (forbidden.test(value)) throw new Failure('unavailable', `the value of ${name} ${unfit}`)
      for (const each of early) sources.secrets.used(each, towards)
      return value
    }
    function mark(): string | undefined {
      const marks = parts.map((part) =>
        typeof part === 'string' ? hash('sha256', part) : sources.secrets.mark(part, towards),
      )
      return marks.includes(undefined) ? undefined : marks.join(' ')
    }
    return new Secret(name, { read, uses: names, isFixed, mark })
  }

  async function prepare(reference: LateReference, path: Path, towards: Towards): Promise<void> {
    late.set(referenceName(reference), reference)
    const against = await sources.secrets.prepare(reference, towards)
    if (against === undefined) return
    const found = { ...loaded.at(path), message: against.because }
    ;(against.when === 'never' ? problems : warnings).push(found)
  }

  async function fillAll(
    templates: Readonly<Record<string, Template>>,
    path: Path,
    towards: Towards,
  ): Promise<Record<string, Secret>> {
    const filled: Record<string, Secret> = {}
    for (const [name, template] of Object.entries(templates))
      filled[name] = await fill(template, [...path, name], towards)
    return filled
  }

  const resources: Record<string, ResolvedResource> = {}
  for (const [name, resource] of Object.entries(loaded.settings.resources)) {
    if ('functions' in resource || 'tunnel' in resource) {
      resources[name] = resource
      continue
    }
    if ('http' in resource) {
      const secrets: Record<string, Secret> = {}
      const { http, credential } = resource
      // The client's own credential goes to where tokens are given out, and not to the API.
      const towards = towardsUrl(name, credential?.kind === 'oauth' ? credential.tokenUrl : http, http)
      for (const [key, template] of Object.entries(templatesOf(credential)))
        secrets[key] = await fill(template, ['resources', name, 'credential', ...key.split('.')], towards)
      resources[name] = { ...resource, secrets }
      continue
    }
    if ('postgres' in resource) {
      // An address that is kept as a whole says itself where it leads.
      const plain = resource.postgres.flatMap((part) => (typeof part === 'string' ? part : []))
      const isPlain = plain.length === resource.postgres.length
      const towards = isPlain ? towardsUrl(name, plain.join('')) : { resource: name }
      const at = ['resources', name]
      const address = await fill(resource.postgres, [...at, 'postgres'], towards)
      const password = resource.password && (await fill(resource.password, [...at, 'password'], towards))
      resources[name] = { ...resource, secrets: { address, ...(password === undefined ? {} : { password }) } }
      continue
    }
    const { mcp } = resource
    const path = ['resources', name, 'mcp']
    resources[name] =
      mcp.kind === 'stdio'
        ? { ...resource, mcp: { ...mcp, env: await fillAll(mcp.env, [...path, 'env'], { resource: name }) } }
        : {
            ...resource,
            mcp: { ...mcp, headers: await fillAll(mcp.headers, [...path, 'headers'], towardsUrl(name, mcp.url)) },
          }
  }
  if (problems.length > 0) throw new Failure('invalid', problemsInWords(loaded.file, problems))
  return { resources, known: [...known.values()], late: [...late.values()], warnings }
}

/** What is in the environment or in a file. Fails with `invalid`, without the value. */
export async function readEarly(
  reference: EarlyReference,
  folder: string,
  sources: Pick<ReferenceSources, 'env' | 'readFile'>,
): Promise<string> {
  if (reference.from === 'env') {
    const value = Object.hasOwn(sources.env, reference.name) ? sources.env[reference.name] : undefined
    if (value === undefined) throw new Failure('invalid', `the environment has no \`${reference.name}\``)
    return value
  }
  const text = await sources.readFile(resolve(folder, reference.path)).catch((cause: unknown) => {
    throw new Failure('invalid', `\`${reference.path}\` cannot be read${reasonOf(cause)}`, { cause })
  })
  if (text.length > longestValue) throw new Failure('invalid', `\`${reference.path}\` is larger than a value may be`)
  return text.replace(/\r?\n$/, '')
}

/** Where a secret goes that is sent to an address. One without a host can be sent nowhere. */
function towardsUrl(resource: string, url: string, base?: string): Towards {
  return { resource, host: URL.parse(url, base)?.hostname ?? '' }
}

const unfit = 'has characters that may not stand here (line end or NUL)'

/** ` (ENOENT)`: the code of a system error, and nothing of its text. */
const reasonOf = (cause: unknown): string =>
  cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? ` (${cause.code})` : ''
