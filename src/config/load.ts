import { createHash } from 'node:crypto'
import { dirname, resolve } from 'node:path'
import { Failure } from '../core/failure.ts'
import { crossCheck } from './cross.ts'
import { problemsOf } from './problems.ts'
import { settingsSchema } from './schema.ts'
import type { Settings } from './schema.ts'
import { pathText, readSource } from './source.ts'
import type { Found, Path, Position, Source } from './source.ts'

/** Something that is wrong, or unwise, at one place of the file. */
export interface SettingsProblem extends Position {
  readonly file: string
  /** `agents.reader.may[0].do`; empty for the whole. */
  readonly path: string
  readonly message: string
}

export interface LoadedSettings {
  readonly settings: Settings
  /** What is allowed, but should be known: wildcards, an observed agent, an address that others reach. */
  readonly warnings: readonly SettingsProblem[]
  /** SHA-256 (hex) of the text. */
  readonly digest: string
  readonly file: string
  /** Where a key stands. */
  at(path: Path): SettingsPlace
}

export type SettingsPlace = Omit<SettingsProblem, 'message'>

export type ReadSettings = { readonly problems: readonly SettingsProblem[]; readonly loaded?: LoadedSettings }

/**
 * Reads `sallyport.yaml`. Relative folders become absolute, from the folder of `file`.
 *
 * Fails with `invalid` and a message that lists everything that is wrong: where, what was expected, the nearest name.
 */
export function loadSettings(text: string, { file }: { readonly file: string }): LoadedSettings {
  const { problems, loaded } = readSettings(text, { file })
  if (loaded === undefined) throw new Failure('invalid', problemsInWords(file, problems))
  return loaded
}

/** As `loadSettings`, with the problems as values: `loaded` is there only where there are none. */
export function readSettings(text: string, { file }: { readonly file: string }): ReadSettings {
  const source = readSource(text)
  const at = (path: Path, of: 'value' | 'key' = 'value'): SettingsPlace => ({
    file,
    ...source.position(path, of),
    path: pathText(path),
  })
  if (source.data === undefined)
    return { problems: source.problems.map(({ position, message }) => ({ file, ...position, path: '', message })) }

  const { problems, warnings, settings } = checked(source)
  const placed = (found: readonly Found[]): SettingsProblem[] =>
    found
      .map(({ path, of, message }) => ({ ...at(path, of), message }))
      .sort((a, b) => a.line - b.line || a.column - b.column)
  if (settings === undefined || problems.length > 0) return { problems: placed(problems) }
  const digest = createHash('sha256').update(text).digest('hex')
  return {
    problems: [],
    loaded: { settings: withFolders(settings, dirname(resolve(file))), warnings: placed(warnings), digest, file, at },
  }
}

function checked({ data }: Source): { problems: readonly Found[]; warnings: readonly Found[]; settings?: Settings } {
  const parsed = settingsSchema.safeParse(data)
  if (!parsed.success) return { problems: problemsOf(parsed.error, data), warnings: [] }
  return { ...crossCheck(parsed.data, data), settings: parsed.data }
}

/** All problems as one text, a line each. */
export function problemsInWords(file: string, problems: readonly SettingsProblem[]): string {
  const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
  return [`${file} has ${count}:`, ...problems.map((problem) => `  ${problemInWords(problem)}`)].join('\n')
}

/** `sallyport.yaml:12:7: agents.reader.may[0].do: …`. */
export const problemInWords = ({ file, line, column, path, message }: SettingsProblem): string =>
  `${file}:${line}:${column}: ${path === '' ? '' : `${path}: `}${message}`

function withFolders(settings: Settings, folder: string): Settings {
  return {
    ...settings,
    state: resolve(folder, settings.state),
    secrets: withVaultFiles(settings.secrets, folder),
    issuers: mapValues(settings.issuers, (issuer) =>
      'file' in issuer.keys ? { ...issuer, keys: { file: resolve(folder, issuer.keys.file) } } : issuer,
    ),
    resources: mapValues(settings.resources, (resource) =>
      'http' in resource
        ? { ...resource, ...(resource.openapi === undefined ? {} : { openapi: resolve(folder, resource.openapi) }) }
        : 'mcp' in resource && resource.mcp.kind === 'stdio'
          ? { ...resource, mcp: { ...resource.mcp, cwd: resolve(folder, resource.mcp.cwd) } }
          : resource,
    ),
  }
}

function withVaultFiles(secrets: Settings['secrets'], folder: string): Settings['secrets'] {
  const { vault } = secrets.sources
  if (vault === undefined) return secrets
  const { kubernetes } = vault.auth
  const token =
    kubernetes === undefined ? {} : { kubernetes: { ...kubernetes, token: resolve(folder, kubernetes.token) } }
  const ca = vault.ca === undefined ? {} : { ca: resolve(folder, vault.ca) }
  return { sources: { vault: { ...vault, ...ca, auth: { ...vault.auth, ...token } } } }
}

const mapValues = <T, R>(record: Readonly<Record<string, T>>, change: (value: T) => R): Record<string, R> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]))
