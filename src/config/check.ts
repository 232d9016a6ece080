import { hasWildcard } from '../core/permission.ts'
import { compileCondition } from '../guard/condition.ts'
import { conditionProblems } from './compile.ts'
import { lookAtDatabases } from './databases.ts'
import { readSettings } from './load.ts'
import type { LoadedSettings, SettingsProblem } from './load.ts'

/** What a file says, and whether a start with it would go on. */
export interface Checked {
  readonly file: string
  readonly ok: boolean
  readonly problems: readonly SettingsProblem[]
  readonly warnings: readonly SettingsProblem[]
  readonly summary?: Summary
}

export interface Summary {
  /** SHA-256 (hex) of the text. */
  readonly digest: string
  readonly resources: readonly string[]
  readonly agents: readonly {
    readonly name: string
    readonly mode: string
    readonly may: number
    readonly lends: number
  }[]
  readonly rules: number
  /** Entries with a wildcard in them, as they are written. */
  readonly wildcards: readonly string[]
}

/** Checks the text of `sallyport.yaml` without starting anything. What tools an upstream has is not known here. */
export async function checkSettings(text: string, file: string): Promise<Checked> {
  const { problems, loaded } = readSettings(text, { file })
  const broken =
    loaded === undefined
      ? problems
      : [...conditionProblems(loaded, { compileCondition }), ...(await lookAtDatabases(loaded)).problems]
  return {
    file,
    ok: broken.length === 0,
    problems: broken,
    warnings: loaded?.warnings ?? [],
    ...(loaded === undefined ? {} : { summary: summaryOf(loaded) }),
  }
}

function summaryOf({ settings, digest }: LoadedSettings): Summary {
  const lists = Object.values(settings.agents).flatMap(({ may, lends }) => [may, ...Object.values(lends)])
  return {
    digest,
    resources: Object.keys(settings.resources),
    agents: Object.entries(settings.agents).map(([name, { mode, may, lends }]) => ({
      name,
      mode,
      may: may.length,
      lends: Object.values(lends).flat().length,
    })),
    rules: settings.rules.length,
    wildcards: [...new Set(lists.flat().flatMap(({ do: pattern }) => (hasWildcard(pattern) ? [pattern.source] : [])))],
  }
}
