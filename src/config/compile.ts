import type { Ask } from '../core/approval.ts'
import type { CompileCondition, Condition, FactType } from '../core/condition.ts'
import { Failure } from '../core/failure.ts'
import type { JsonObject } from '../core/json.ts'
import type { Limit } from '../core/limit.ts'
import { covers, effects, hasWildcard, indexByPermission, parsePattern, rulesOver } from '../core/permission.ts'
import type { Pattern, Permission } from '../core/permission.ts'
import type { AgentPolicy, Entry, EntryIndex, Policy, Rule } from '../core/policy.ts'
import type { PermissionText } from '../core/session.ts'
import { askOf, defaultAsk } from './ask.ts'
import { functionArguments } from './functions.ts'
import { problemsInWords } from './load.ts'
import type { LoadedSettings, SettingsProblem } from './load.ts'
import type { EntrySettings, HttpResourceSettings, LimitSettings, RuleSettings, Settings } from './schema.ts'
import { pathText } from './source.ts'
import type { Path } from './source.ts'

export interface CompileOptions {
  readonly compileCondition: CompileCondition
  /** JSON Schema of an operation's arguments, where it is known. Where it is not, conditions may name any argument. */
  readonly argumentsOf?: (permission: Permission) => JsonObject | undefined
  /**
   * Told of each condition that does not fit, by the id of its entry or rule. Given: such a condition throws whenever
   * it is evaluated, so that what it guards is denied, and all else goes on. Left out: nothing is compiled at all.
   */
  readonly onBroken?: (id: string, message: string) => void
}

/**
 * The policy that settings describe.
 *
 * Fails with `invalid`, listing every condition that does not compile with its place, unless `onBroken` is there.
 */
export function compilePolicy(loaded: LoadedSettings, options: CompileOptions): Policy {
  const { policy, problems } = compiled(loaded, options)
  if (problems.length > 0) throw new Failure('invalid', problemsInWords(loaded.file, problems))
  return policy
}

/** The conditions that do not compile, with their places. */
export const conditionProblems = (loaded: LoadedSettings, options: CompileOptions): readonly SettingsProblem[] =>
  compiled(loaded, options).problems

function compiled(
  loaded: LoadedSettings,
  options: CompileOptions,
): { readonly policy: Policy; readonly problems: readonly SettingsProblem[] } {
  const { settings, digest } = loaded
  const problems: SettingsProblem[] = []
  const known: CompileOptions = {
    ...options,
    argumentsOf: (permission) => functionArguments(settings.resources, permission) ?? options.argumentsOf?.(permission),
  }
  const compile = conditionCompiler(settings.facts, known, (path, message) => {
    const problem = { ...loaded.at(path), message }
    // A rule over several permissions has its condition compiled for each.
    if (!problems.some((other) => other.path === problem.path && other.message === message)) problems.push(problem)
  })
  const agents = new Map<string, AgentPolicy>()
  for (const [name, { mode, may, lends, limits }] of Object.entries(settings.agents)) {
    const path = ['agents', name]
    const index = (entries: readonly EntrySettings[], list: Path): EntryIndex =>
      indexByPermission(
        entries.map((entry, position) => toEntry(entry, [...list, position], settings, compile)),
        covers,
      )
    agents.set(name, {
      name,
      mode,
      may: index(may, [...path, 'may']),
      lends: new Map(Object.entries(lends).map(([to, entries]) => [to, index(entries, [...path, 'lends', to])])),
      limits: flat(limits),
    })
  }
  const rules = settings.rules.flatMap((rule, position) => toRules(rule, ['rules', position], settings, compile))
  const policy: Policy = {
    digest,
    agents,
    rules: indexByPermission(rules, rulesOver),
    facts: settings.facts,
    limits: flat(settings.limits),
    resourceLimits: new Map(
      Object.entries(settings.resources).map(([name, each]) => [name, 'limits' in each ? flat(each.limits) : []]),
    ),
    defaultAsk: defaultAsk(settings.approvals),
    delegation: { depth: settings.sessions.depth },
    sessions: { deadline: settings.sessions.deadline, maxDeadline: settings.sessions.max },
  }
  return { policy, problems }
}

/**
 * Permissions that a session was narrowed to, compiled against the facts of a policy. Fails with `invalid` where one
 * is no permission; and where a condition does not compile, unless `onBroken` is there.
 */
export function compileEntries(
  texts: readonly PermissionText[],
  id: string,
  facts: Readonly<Record<string, FactType>>,
  options: CompileOptions,
): EntryIndex {
  const compile = conditionCompiler(facts, options, (path, message) => {
    throw new Failure('invalid', `${pathText(path)}: ${message}`)
  })
  return indexByPermission(
    texts.map((text, position): Entry => {
      const pattern = parsePattern(text.do)
      const path = [id, position]
      const when = text.when === undefined ? undefined : compile(text.when, pattern, path)
      return { id: pathText(path), pattern, limits: [], ...(when === undefined ? {} : { when }) }
    }),
    covers,
  )
}

/** Compiles the condition of the entry or rule at a path. */
type Compile = (source: string, over: Pattern, path: Path) => Condition

function conditionCompiler(
  facts: Readonly<Record<string, FactType>>,
  { compileCondition, argumentsOf, onBroken }: CompileOptions,
  refuse: (path: Path, message: string) => void,
): Compile {
  return (source, over, path) => {
    const args = isOneOperation(over) ? argumentsOf?.(over.source) : undefined
    try {
      return compileCondition(source, args === undefined ? { facts } : { args, facts })
    } catch (thrown) {
      const { message } = Failure.from(thrown)
      if (onBroken === undefined) refuse([...path, 'when'], message)
      else onBroken(pathText(path), message)
      return broken(source, message)
    }
  }
}

/** An effect in a rule stands for many operations, even where one has the same name. */
const isOneOperation = (pattern: Pattern): boolean =>
  !hasWildcard(pattern) && !(effects as readonly string[]).includes(pattern.operation)

/** A condition that cannot be evaluated: whatever it guards is denied. */
const broken = (source: string, message: string): Condition => ({
  source,
  reads: [],
  evaluate() {
    throw new Failure('invalid', message)
  },
})

function toEntry(entry: EntrySettings, path: Path, settings: Settings, compile: Compile): Entry {
  const { do: pattern, when, ask, because, limits } = entry
  return {
    id: pathText(path),
    pattern,
    limits: flat(limits),
    ...(when === undefined ? {} : { when: compile(when, pattern, path) }),
    ...(ask === undefined ? {} : { ask: toAsk(ask, settings) }),
    ...(because === undefined ? {} : { because }),
  }
}

const toAsk = (ask: NonNullable<EntrySettings['ask']>, { approvals }: Settings): Ask | 'never' =>
  ask === 'never' ? 'never' : ask === true ? defaultAsk(approvals) : askOf(ask, approvals)

/** A rule over several permissions becomes one for each, all with the id of the one that was written. */
function toRules(rule: RuleSettings, path: Path, settings: Settings, compile: Compile): readonly Rule[] {
  const { deny, ask, when, because, of: people, count, within, self } = rule
  return (deny ?? ask ?? []).map((pattern) => ({
    id: pathText(path),
    kind: deny === undefined ? 'ask' : 'deny',
    pattern,
    ...(when === undefined ? {} : { when: compile(when, pattern, path) }),
    ...(deny === undefined ? { ask: askOf({ people, count, within, self }, settings.approvals) } : {}),
    ...(because === undefined ? {} : { because }),
    ...(rule.for === undefined ? {} : { agents: new Set(rule.for) }),
  }))
}

const flat = (limits: LimitSettings | Settings['limits'] | HttpResourceSettings['limits']): readonly Limit[] =>
  Object.values(limits).flatMap((each) => each ?? [])
