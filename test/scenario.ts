import { compileEntries, compilePolicy } from '../src/config/compile.ts'
import { loadSettings } from '../src/config/load.ts'
import type { Settings } from '../src/config/schema.ts'
import type { Action } from '../src/core/action.ts'
import type { Approval } from '../src/core/approval.ts'
import type { FactValue } from '../src/core/condition.ts'
import { decide } from '../src/core/decide.ts'
import type { Decision, Link } from '../src/core/decide.ts'
import type { JsonObject } from '../src/core/json.ts'
import { clean } from '../src/core/label.ts'
import type { Label } from '../src/core/label.ts'
import { parseLimit } from '../src/core/limit.ts'
import type { Limit, Measure } from '../src/core/limit.ts'
import type { Effect } from '../src/core/permission.ts'
import type { Policy } from '../src/core/policy.ts'
import type { PermissionText } from '../src/core/session.ts'
import { compileCondition } from '../src/guard/condition.ts'

/** A session as a case of a test writes it: the first starts with what its agent may, each other with what it was lent. */
export interface SessionText {
  readonly agent: string
  readonly behalf?: string
  readonly facts?: Readonly<Record<string, FactValue>>
  readonly only?: readonly PermissionText[]
  readonly limits?: Readonly<Partial<Record<Measure, string>>>
  /** In milliseconds from `now`. */
  readonly ended?: number
  readonly deadline?: number
}

export interface CaseText {
  readonly sessions: readonly SessionText[]
  readonly action: {
    readonly permission: string
    /** That of the resource's configuration, where it is not given. */
    readonly effect?: Effect
    readonly args?: JsonObject
    readonly problems?: Action['problems']
    readonly barred?: Action['barred']
  }
  readonly label?: Label
  readonly approval?: Pick<Approval, 'state' | 'ask'> & { readonly expiresIn: number }
  /** Counters by key; those of windows in milliseconds from `now`. */
  readonly counters?: Readonly<Record<string, number>>
}

const now = 1_700_000_000_000

export interface Scenario {
  decide(given: CaseText): Decision
}

/** The whole way from the text of `sallyport.yaml` to decisions. */
export function scenario(text: string): Scenario {
  const loaded = loadSettings(text, { file: 'sallyport.yaml' })
  const policy = compilePolicy(loaded, { compileCondition })
  return {
    decide(given) {
      const chain = chainOf(given.sessions, policy)
      const { approval, label = clean, counters = {} } = given
      return decide(
        toAction(given.action, loaded.settings),
        {
          policy,
          chain,
          label,
          argsDigest: 'a'.repeat(64),
          counter: (key) => counterOf(counters, key),
          ...(approval === undefined ? {} : { approval: toApproval(approval) }),
        },
        now,
      )
    },
  }
}

function chainOf(sessions: readonly SessionText[], policy: Policy): readonly Link[] {
  let facts: Readonly<Record<string, FactValue>> = {}
  return sessions.map((text, depth): Link => {
    const agent = policy.agents.get(text.agent)
    const lender = policy.agents.get(sessions[depth - 1]?.agent ?? '')
    const first = depth === 0 ? agent?.may : lender?.lends.get(text.agent)
    const only = text.only === undefined ? [] : [compileEntries(text.only, 'only', policy.facts, { compileCondition })]
    facts = { ...facts, ...text.facts }
    return {
      depth,
      agent,
      holds: first === undefined ? [] : [first, ...only],
      limits: Object.entries(text.limits ?? {}).map(([measure, limit]): Limit => parseLimit(measure as Measure, limit)),
      session: {
        id: `ses_${depth}`,
        agent: text.agent,
        behalf: text.behalf ?? 'person:anna',
        facts,
        limits: {},
        startedBy: 'service:desk',
        startedAt: now - 1000,
        deadline: now + (text.deadline ?? 60_000),
        label: clean,
        ...(text.ended === undefined ? {} : { endedAt: now + text.ended, endedBecause: 'killed' }),
      },
    }
  })
}

function toAction(given: CaseText['action'], settings: Settings): Action {
  return {
    session: 'ses',
    permission: given.permission,
    effect: given.effect ?? configuredEffect(given.permission, settings),
    args: given.args ?? {},
    problems: given.problems ?? [],
    label: { trust: 'untrusted', readers: 'internal' },
    via: 'mcp',
    ...(given.barred === undefined ? {} : { barred: given.barred }),
  }
}

/** What is not described destroys. */
function configuredEffect(permission: string, { resources }: Settings): Effect {
  const [resource = '', operation = ''] = permission.split(':')
  const known = resources[resource]
  return (known !== undefined && 'mcp' in known ? known.tools[operation]?.effect : undefined) ?? 'destroy'
}

function counterOf(counters: Readonly<Record<string, number>>, key: string): { readonly value: number } | undefined {
  const value = counters[key]
  return value === undefined ? undefined : { value: /\/\d+\/\d+/.test(key) ? now + value : value }
}

const toApproval = ({ state, ask, expiresIn }: NonNullable<CaseText['approval']>): Approval => ({
  id: 'appr_1',
  binding: 'b',
  state,
  chain: [],
  permission: 'p',
  effect: 'read',
  args: {},
  argsDigest: 'a'.repeat(64),
  policy: 'd',
  rules: [],
  because: '',
  ask,
  openedAt: now - 1000,
  expiresAt: now + expiresIn,
  answers: [],
})

/** `allow`, `ask`, or the code of the refusal. */
export const outcome = (decision: Decision): string => (decision.kind === 'deny' ? decision.code : decision.kind)
