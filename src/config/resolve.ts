import { dirname, resolve } from 'node:path'
import { Failure } from '../core/failure.ts'
import { problemsInWords } from './load.ts'
import type { LoadedSettings, SettingsProblem } from './load.ts'
import { referenceName } from './reference.ts'
import type { Reference, Template } from './reference.ts'
import { templatesOf } from './http.ts'
import type { FunctionsResourceSettings, HttpResourceSettings, McpResourceSettings, Upstream } from './schema.ts'
import { Secret } from './secret.ts'
import type { Path } from './source.ts'

/** How an MCP server is reached, with every value that may be secret kept as one. */
export type ResolvedUpstream =
  | (Omit<Extract<Upstream, { kind: 'stdio' }>, 'env'> & { readonly env: Readonly<Record<string, Secret>> })
  | (Omit<Extract<Upstream, { kind: 'http' }>, 'headers'> & { readonly headers: Readonly<Record<string, Secret>> })

export type ResolvedMcp = Omit<McpResourceSettings, 'mcp'> & { readonly mcp: ResolvedUpstream }
/** The texts of its credential by their keys (`bearer`, `basic.user`). */
export type ResolvedHttp = HttpResourceSettings & { readonly secrets: Readonly<Record<string, Secret>> }
export type ResolvedResource = ResolvedMcp | ResolvedHttp | FunctionsResourceSettings

export interface ReferenceSources {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Reads a small text file by its absolute path. */
  readonly readFile: (path: string) => Promise<string>
}

/** What a file of one value may hold. More is no credential. In UTF-16 code units. */
const longestValue = 65_536

/**
 * The resources with `${env:NAME}` and `${file:path}` replaced. One line end at the end of a file is left out.
 *
 * Fails with `invalid`, listing every reference that leads nowhere with its place. No message has a value in it.
 */
export async function resolveReferences(
  loaded: LoadedSettings,
  sources: ReferenceSources,
): Promise<Readonly<Record<string, ResolvedResource>>> {
  const problems: SettingsProblem[] = []
  const folder = dirname(resolve(loaded.file))

  async function valueOf(reference: Reference): Promise<string> {
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

  async function fill(template: Template, path: Path): Promise<Secret> {
    const names = template.flatMap((part) => (typeof part === 'string' ? [] : [referenceName(part)]))
    let value = ''
    for (const part of template)
      try {
        value += typeof part === 'string' ? part : await valueOf(part)
      } catch (thrown) {
        problems.push({ ...loaded.at(path), message: Failure.from(thrown).message })
      }
    // A NUL cuts an environment variable short, and a line end would begin another header.
    if (path.at(-2) === 'headers' || path[2] === 'credential' ? /[\0\r\n]/.test(value) : value.includes('\0'))
      problems.push({
        ...loaded.at(path),
        message: 'the value has characters that may not stand here (line end or NUL)',
      })
    return new Secret(names.length === 0 ? String(path.at(-1)) : names.join(' '), value)
  }

  async function fillAll(templates: Readonly<Record<string, Template>>, path: Path): Promise<Record<string, Secret>> {
    const filled: Record<string, Secret> = {}
    for (const [name, template] of Object.entries(templates)) filled[name] = await fill(template, [...path, name])
    return filled
  }

  const resources: Record<string, ResolvedResource> = {}
  for (const [name, resource] of Object.entries(loaded.settings.resources)) {
    if ('functions' in resource) {
      resources[name] = resource
      continue
    }
    if ('http' in resource) {
      const secrets: Record<string, Secret> = {}
      for (const [key, template] of Object.entries(templatesOf(resource.credential)))
        secrets[key] = await fill(template, ['resources', name, 'credential', ...key.split('.')])
      resources[name] = { ...resource, secrets }
      continue
    }
    const { mcp } = resource
    const path = ['resources', name, 'mcp']
    resources[name] =
      mcp.kind === 'stdio'
        ? { ...resource, mcp: { ...mcp, env: await fillAll(mcp.env, [...path, 'env']) } }
        : { ...resource, mcp: { ...mcp, headers: await fillAll(mcp.headers, [...path, 'headers']) } }
  }
  if (problems.length > 0) throw new Failure('invalid', problemsInWords(loaded.file, problems))
  return resources
}

/** ` (ENOENT)`: the code of a system error, and nothing of its text. */
const reasonOf = (cause: unknown): string =>
  cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? ` (${cause.code})` : ''
