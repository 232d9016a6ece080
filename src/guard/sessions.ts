import type { AuditLog, NewEvent } from '../core/audit.ts'
import type { FactType, FactValue } from '../core/condition.ts'
import type { Link } from '../core/decide.ts'
import { Failure } from '../core/failure.ts'
import { clean, join, sameLabel } from '../core/label.ts'
import type { Label } from '../core/label.ts'
import { parseLimit } from '../core/limit.ts'
import type { Limit, Measure } from '../core/limit.ts'
import { indexByPermission, parsePattern, within } from '../core/permission.ts'
import type { AgentPolicy, Entry, EntryIndex } from '../core/policy.ts'
import { defaultDeadline } from '../core/session.ts'
import type { PermissionText, Session, SessionId, SessionStore } from '../core/session.ts'
import type { StopStore } from '../core/stop.ts'
import type { Clock } from './clock.ts'
import { randomId } from './digest.ts'
import type { LoadedPolicy, Policies } from './policies.ts'
import { createTally } from './traffic.ts'
import type { Amounts, Tally, Traffic } from './traffic.ts'

export interface StartRequest {
  readonly agent: string
  readonly behalf: string
  readonly startedBy: string
  readonly facts?: Readonly<Record<string, FactValue>>
  /** Narrower permissions than the agent's own. */
  readonly only?: readonly PermissionText[]
  readonly limits?: Readonly<Record<string, string>>
  /** From now, in milliseconds. */
  readonly lasts?: number
  readonly tokenDigest?: string
}

/** What one agent asks to lend to another. Everything left out is what policy lends, for as long as the lender has it. */
export type LendRequest = Omit<StartRequest, 'behalf' | 'startedBy'>

export type AsStarted = Pick<Session, 'agent' | 'behalf' | 'facts' | 'only'>

/** One action on its way: cut when its session ends. */
export interface Flight {
  readonly signal: AbortSignal
  cut(because: Failure): void
  land(): void
}

/** Starts, narrows and ends sessions, and knows what each holds. The only writer of sessions. */
export interface Sessions {
  start(request: StartRequest): Promise<Session>
  /** Makes a session for another agent out of a session. Fails with `forbidden`, naming what cannot be lent. */
  lend(lender: SessionId, request: LendRequest): Promise<Session>
  /** Ends these and all that were made from them: at once here, durable when it resolves. Returns how many were ended. */
  end(ids: readonly SessionId[], because: string, by: string): Promise<number>
  /** Ends all sessions of a target (`all`, `agent:reader`) and lets none start until it is lifted, also after a restart. */
  stop(target: string, because: string, by: string): Promise<number>
  lift(target: string, by: string): Promise<boolean>
  stops(): readonly string[]
  get(id: SessionId): Session | undefined
  byToken(tokenDigest: string): Session | undefined
  live(): readonly Session[]
  /** From the first session to this one. Empty where there is none such. */
  chain(id: SessionId): readonly Link[]
  /** The chain that would be, had these been started, each from the one before: for explaining. */
  chainAs(started: readonly AsStarted[]): readonly Link[]
  label(id: SessionId): Label
  /** Joins a label to every session of the tree that this one belongs to. */
  mark(id: SessionId, label: Label): Promise<void>
  /** Counts what went to a host and came back, for a session and for all that it was made from. */
  count(id: SessionId, host: string, more: Partial<Amounts>): void
  /** What was counted since it began, or since the start of this process; with all that were made from it. */
  traffic(id: SessionId): Traffic | undefined
  /** Cut also when the caller leaves. */
  flight(id: SessionId, caller: AbortSignal): Flight
  /** Ends what reached its deadline. Called on a timer. */
  sweep(): Promise<void>
  /** Told the ids of sessions that ended. */
  onEnd(listener: (ids: readonly SessionId[], because: string) => void): void
}

export interface SessionPorts {
  readonly store: SessionStore
  readonly stopStore: StopStore
  readonly policies: Policies
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
}

/** How many live sessions one session may have made, and how many one tree may have. Bounds what an agent can make us keep. */
const mostChildren = 100
const mostInTree = 1_000

/** A session that began later than now is of a clock that was ahead. So much is let pass, in milliseconds. */
const mostSkew = 5_000

/** A first session and all that were made from it, also indirectly. They are marked together. */
interface Tree {
  /** With those that are being made. */
  size: number
  /** What the store knows all of them to have read. */
  saved: Label
}

/** An end that the store has to know of. */
interface WrittenEnd {
  readonly ids: readonly SessionId[]
  readonly because: string
  readonly at: number
}

interface Live {
  session: Session
  readonly tree: Tree
  readonly children: Set<SessionId>
  /** How many children are being made. */
  making: number
  readonly flights: Set<AbortController>
  readonly tally: Tally
  links?: { readonly of: LoadedPolicy; readonly chain: readonly Link[] }
}

export async function createSessions({ store, stopStore, policies, audit, clock }: SessionPorts): Promise<Sessions> {
  const live = new Map<SessionId, Live>()
  const tokens = new Map<string, SessionId>()
  const stopped = new Set((await stopStore.list()).map(({ target }) => target))
  const listeners: ((ids: readonly SessionId[], because: string) => void)[] = []
  const unwritten = new Set<WrittenEnd>()

  function enter(session: Session, tree: Tree): void {
    const tally = createTally()
    live.set(session.id, { session, tree, children: new Set(), making: 0, flights: new Set(), tally })
    if (session.tokenDigest !== undefined) tokens.set(session.tokenDigest, session.id)
    if (session.parent !== undefined) live.get(session.parent)?.children.add(session.id)
  }

  /** What was there before a restart, in any order; and ends what should have been ended by then. */
  async function restore(kept: readonly Session[]): Promise<void> {
    const byId = new Map(kept.map((session) => [session.id, session]))
    const rootOf = (session: Session): Session => {
      const parent = byId.get(session.parent ?? '')
      return parent === undefined ? session : rootOf(parent)
    }
    const trees = new Map<SessionId, Tree>()
    for (const session of kept) {
      const root = rootOf(session)
      const tree = trees.get(root.id) ?? { size: 0, saved: clean }
      trees.set(root.id, tree)
      tree.size += 1
      enter(session, tree)
    }
    for (const { id, parent } of kept) if (parent !== undefined) live.get(parent)?.children.add(id)
    for (const { id, label: read } of kept) spread(id, read)

    const now = clock()
    for (const session of kept) {
      const over =
        stopOver(session) ??
        (session.parent !== undefined && !byId.has(session.parent)
          ? 'the session that it was made from ended'
          : session.startedAt > now + mostSkew
            ? 'it began later than now: the clock was set back'
            : undefined)
      if (over !== undefined) await end([session.id], over, 'restart')
    }
  }

  async function begin(given: Session, tree: Tree): Promise<Session> {
    await store.add(given)
    try {
      await audit.append(startOf(given)).done
      const session = await marked(given)
      // The end of the parent, or a stop, may have come while this was written.
      const barred = stopOver(session)
      const orphan = session.parent !== undefined && !isLive(session.parent)
      if (barred !== undefined || orphan)
        throw new Failure('forbidden', barred ?? 'the session that this was to be made from has ended')
      enter(session, tree)
      return session
    } catch (thrown) {
      // It never lived: it must not after a restart, either.
      const failure = Failure.from(thrown)
      const because = failure.code === 'forbidden' ? failure.message : 'it could not begin'
      await writeEnd({ ids: [given.id], because, at: clock() })
      throw thrown
    }
  }

  /** A session with what its parent has read by now, durably: it may have read more while this one was being made. */
  async function marked(given: Session): Promise<Session> {
    let session = given
    for (;;) {
      const read = join(session.label, label(session.parent ?? ''))
      if (sameLabel(read, session.label)) return session
      session = { ...session, label: read }
      await store.setLabel([session.id], read)
    }
  }

  function startOf(session: Session): NewEvent {
    return {
      type: 'session.start',
      at: session.startedAt,
      session: session.id,
      agent: session.agent,
      behalf: session.behalf,
      by: session.startedBy,
      deadline: session.deadline,
      facts: session.facts,
      policy: policies.current().policy.digest,
      ...(session.parent === undefined ? {} : { parent: session.parent }),
      ...(session.only === undefined ? {} : { only: session.only.map((entry) => ({ ...entry })) }),
      ...(Object.keys(session.limits).length === 0 ? {} : { limits: session.limits }),
    }
  }

  async function start(request: StartRequest): Promise<Session> {
    const { policy } = policies.current()
    const agent = agentNamed(request.agent)
    const barred = stopOver(request)
    if (barred !== undefined) throw new Failure('forbidden', barred)
    const now = clock()
    checkRequest(request, policy.facts, policies.current())
    for (const { do: text } of request.only ?? []) checkHeld(text, agent.may, agent.name)
    const lasts = Math.min(request.lasts ?? policy.sessions.deadline, policy.sessions.maxDeadline)
    const session: Session = {
      id: randomId('ses'),
      agent: request.agent,
      behalf: request.behalf,
      facts: request.facts ?? {},
      ...(request.only === undefined ? {} : { only: request.only }),
      limits: request.limits ?? {},
      startedBy: request.startedBy,
      startedAt: now,
      deadline: now + lasts,
      ...(request.tokenDigest === undefined ? {} : { tokenDigest: request.tokenDigest }),
      label: clean,
    }
    return begin(session, { size: 1, saved: clean })
  }

  async function lend(lender: SessionId, request: LendRequest): Promise<Session> {
    const { policy } = policies.current()
    const parent = live.get(lender)
    const now = clock()
    if (parent === undefined || !isLive(lender)) throw new Failure('unauthenticated', 'the session that lends is over')
    const barred = stopOver({ agent: request.agent, startedBy: `session:${lender}` })
    if (barred !== undefined) throw new Failure('forbidden', barred)
    const links = chain(lender)
    if (links.length >= policy.delegation.depth)
      throw new Failure(
        'forbidden',
        `a chain of sessions has at most ${policy.delegation.depth} of them; this one is that long`,
      )
    if (parent.children.size + parent.making >= mostChildren)
      throw new Failure('limited', `a session may have ${mostChildren} live sessions made from it; end some first`)
    if (parent.tree.size >= mostInTree)
      throw new Failure('limited', `a session and all made from it may be ${mostInTree}; end some first`)
    if (!policy.agents.has(request.agent))
      throw new Failure('forbidden', `${parent.session.agent} lends nothing to ${request.agent}`)
    const lent = policy.agents.get(parent.session.agent)?.lends.get(request.agent)
    if (lent === undefined) throw new Failure('forbidden', `${parent.session.agent} lends nothing to ${request.agent}`)
    checkRequest(request, policy.facts, policies.current())
    for (const { do: text } of request.only ?? []) {
      checkHeld(text, lent, `what ${parent.session.agent} lends to ${request.agent}`)
      for (const { holds, session } of links) for (const held of holds) checkHeld(text, held, session.agent)
    }
    for (const [name, value] of Object.entries(request.facts ?? {})) {
      const own = parent.session.facts[name]
      if (own !== undefined && JSON.stringify(own) !== JSON.stringify(value))
        throw new Failure('forbidden', `the fact \`${name}\` is set by the session that lends and can't be changed`)
    }
    const deadline = Math.min(parent.session.deadline, now + (request.lasts ?? Infinity))
    const session: Session = {
      id: randomId('ses'),
      agent: request.agent,
      behalf: parent.session.behalf,
      parent: lender,
      facts: { ...request.facts, ...parent.session.facts },
      ...(request.only === undefined ? {} : { only: request.only }),
      limits: request.limits ?? {},
      startedBy: `session:${lender}`,
      startedAt: now,
      deadline,
      ...(request.tokenDigest === undefined ? {} : { tokenDigest: request.tokenDigest }),
      label: label(lender),
    }
    // Its place is taken before anything is awaited: as many at once are no more than one by one.
    parent.making += 1
    parent.tree.size += 1
    try {
      return await begin(session, parent.tree)
    } catch (thrown) {
      parent.tree.size -= 1
      throw thrown
    } finally {
      parent.making -= 1
    }
  }

  async function end(ids: readonly SessionId[], because: string, by: string): Promise<number> {
    const ending = withDescendants(ids)
    if (ending.length === 0) return 0
    const at = clock()
    // Here first, all in one turn: from now on nothing of them is decided `allow`, and what runs is cut.
    const ended = entries(ending).map((known) => {
      known.session = { ...known.session, endedAt: at, endedBecause: because }
      delete known.links
      return known
    })
    for (const { flights } of ended) for (const running of flights) running.abort(new Failure('cancelled', because))
    // Whatever of the following fails, the rest is done all the same.
    const done = await Promise.allSettled([
      writeEnd({ ids: ending, because, at }),
      ...listeners.map(async (listener) => listener(ending, because)),
      ...ended.map(
        ({ session }) =>
          audit.append({ type: 'session.end', at, session: session.id, agent: session.agent, because, by }).done,
      ),
    ])
    for (const { session } of ended) forget(session)
    throwFirst(done)
    return ending.length
  }

  /** What can't be written is tried again by `sweep`, so that it does not come back with a restart. */
  async function writeEnd(written: WrittenEnd): Promise<void> {
    unwritten.add(written)
    await store.end(written.ids, written.because, written.at)
    unwritten.delete(written)
  }

  /** An ended session is dropped from memory; its children were ended with it, so nothing asks for its chain again. */
  function forget(session: Session): void {
    const known = live.get(session.id)
    if (known === undefined) return
    known.tree.size -= 1
    live.delete(session.id)
    if (session.tokenDigest !== undefined) tokens.delete(session.tokenDigest)
    if (session.parent !== undefined) live.get(session.parent)?.children.delete(session.id)
  }

  async function stop(target: string, because: string, by: string): Promise<number> {
    if (target !== 'all' && !/^(agent|key|jwt):/.test(target))
      throw new Failure(
        'invalid',
        `\`${target}\` can't be stopped: expected \`all\`, \`agent:<name>\` or a session's id`,
      )
    stopped.add(target)
    const at = clock()
    const matching = [...live.values()]
      .filter(({ session }) => targets(target, session))
      .map(({ session }) => session.id)
    const [ended, ...written] = await Promise.allSettled([end(matching, because, by), writeStop()])
    throwFirst([ended, ...written])
    return ended.status === 'fulfilled' ? ended.value : 0

    async function writeStop(): Promise<void> {
      await stopStore.add({ target, by, because, at })
      await audit.append({ type: 'stop', at, target, by, because }).done
    }
  }

  async function lift(target: string, by: string): Promise<boolean> {
    const was = await stopStore.lift(target)
    stopped.delete(target)
    if (was) await audit.append({ type: 'stop.lifted', at: clock(), target, by }).done
    return was
  }

  function chain(id: SessionId): readonly Link[] {
    const known = live.get(id)
    if (known === undefined) return []
    const loaded = policies.current()
    if (known.links?.of === loaded) return known.links.chain
    const { session } = known
    const above = session.parent === undefined ? [] : chain(session.parent)
    // A session whose parent is gone is over, whatever its own record says.
    if (session.parent !== undefined && above.length === 0) return []
    const links = [...above, linkOf(session, above.at(-1), loaded)]
    known.links = { of: loaded, chain: links }
    return links
  }

  function chainAs(started: readonly AsStarted[]): readonly Link[] {
    const now = clock()
    return started.reduce<readonly Link[]>((above, { agent, behalf, facts, only }) => {
      const session: Session = {
        id: 'ses_none',
        agent,
        behalf,
        facts,
        ...(only === undefined ? {} : { only }),
        limits: {},
        startedBy: 'nobody',
        startedAt: now,
        deadline: now + defaultDeadline,
        label: clean,
      }
      return [...above, linkOf(session, above.at(-1), policies.current())]
    }, [])
  }

  function label(id: SessionId): Label {
    return live.get(id)?.session.label ?? clean
  }

  async function mark(id: SessionId, read: Label): Promise<void> {
    const known = live.get(id)
    if (known === undefined || sameLabel(join(known.tree.saved, read), known.tree.saved)) return
    const members = spread(id, read)
    const all = label(id)
    await store.setLabel(
      members.map(({ session }) => session.id),
      all,
    )
    known.tree.saved = join(known.tree.saved, all)
  }

  /** Joins a label to all of a tree, here alone. */
  function spread(id: SessionId, read: Label): readonly Live[] {
    let root = live.get(id)
    while (root?.session.parent !== undefined && live.has(root.session.parent)) root = live.get(root.session.parent)
    const members = root === undefined ? [] : entries(withDescendants([root.session.id]))
    for (const known of members)
      if (!sameLabel(join(known.session.label, read), known.session.label))
        known.session = { ...known.session, label: join(known.session.label, read) }
    return members
  }

  const entries = (ids: readonly SessionId[]): Live[] => ids.flatMap((id) => live.get(id) ?? [])

  function withDescendants(ids: readonly SessionId[]): SessionId[] {
    const found = new Set<SessionId>()
    const open = [...ids]
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      const known = live.get(id)
      if (known === undefined || found.has(id) || known.session.endedAt !== undefined) continue
      found.add(id)
      open.push(...known.children)
    }
    return [...found]
  }

  function count(id: SessionId, host: string, more: Partial<Amounts>): void {
    for (let known = live.get(id); known !== undefined; known = live.get(known.session.parent ?? ''))
      known.tally.add(host, more)
  }

  // One controller for both: `AbortSignal.any` costs more than all else here.
  function flight(id: SessionId, caller: AbortSignal): Flight {
    const controller = new AbortController()
    const known = live.get(id)
    if (known === undefined || !isLive(id)) controller.abort(new Failure('cancelled', 'the session is over'))
    known?.flights.add(controller)
    const leave = (): void => controller.abort(caller.reason)
    if (caller.aborted) leave()
    else caller.addEventListener('abort', leave, { once: true })
    return {
      signal: controller.signal,
      cut: (because) => controller.abort(because),
      land() {
        known?.flights.delete(controller)
        caller.removeEventListener('abort', leave)
      },
    }
  }

  async function sweep(): Promise<void> {
    const now = clock()
    const over = [...live.values()].filter(({ session }) => session.endedAt === undefined && now >= session.deadline)
    if (over.length > 0)
      await end(
        over.map(({ session }) => session.id),
        'its deadline was reached',
        'clock',
      )
    for (const each of unwritten) await writeEnd(each)
  }

  function isLive(id: SessionId): boolean {
    const links = chain(id)
    const now = clock()
    return links.length > 0 && links.every(({ session }) => session.endedAt === undefined && now < session.deadline)
  }

  const targets = (target: string, session: Session): boolean =>
    target === 'all' || target === `agent:${session.agent}` || target === session.startedBy

  function stopOver({ agent, startedBy }: Pick<Session, 'agent' | 'startedBy'>): string | undefined {
    if (stopped.has('all')) return 'all agents are stopped: `sallyport revive all` lets them go on'
    if (stopped.has(`agent:${agent}`)) return `agent ${agent} is stopped: \`sallyport revive ${agent}\` lets it go on`
    return stopped.has(startedBy)
      ? `${startedBy} is stopped: \`sallyport revive ${startedBy}\` lets it go on`
      : undefined
  }

  function agentNamed(name: string): AgentPolicy {
    const agent = policies.current().policy.agents.get(name)
    if (agent === undefined) throw new Failure('not_found', `policy knows no agent \`${name}\``)
    return agent
  }

  await restore(await store.live(clock()))
  return {
    start,
    lend,
    end,
    stop,
    lift,
    stops: () => [...stopped],
    get: (id) => live.get(id)?.session,
    byToken: (digest) => live.get(tokens.get(digest) ?? '')?.session,
    live: () => [...live.values()].map(({ session }) => session),
    chain,
    chainAs,
    label,
    mark,
    count,
    traffic: (id) => live.get(id)?.tally.read(),
    flight,
    sweep,
    onEnd: (listener) => void listeners.push(listener),
  }
}

function throwFirst(results: readonly PromiseSettledResult<unknown>[]): void {
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** A session together with what it holds: its agent's own permissions, or what the one above lends it, then its narrowing. */
function linkOf(session: Session, lender: Link | undefined, loaded: LoadedPolicy): Link {
  const agent = loaded.policy.agents.get(session.agent)
  const base = lender === undefined ? agent?.may : lender.agent?.lends.get(session.agent)
  return {
    session,
    depth: lender === undefined ? 0 : lender.depth + 1,
    agent,
    holds: [base ?? nothing, ...(session.only === undefined ? [] : [readOnly(loaded, session)])],
    limits: Object.entries(session.limits).map(([measure, text]) => parseLimit(measure as Measure, text)),
  }
}

const nothing: EntryIndex = indexByPermission<Entry>([], () => false)

/** A narrowing that a later policy can't read any more allows nothing. */
function readOnly(loaded: LoadedPolicy, session: Session): EntryIndex {
  try {
    return loaded.entries(session.only ?? [], session.id)
  } catch {
    return nothing
  }
}

/** Fails with `forbidden` where a permission reaches beyond what is held. */
function checkHeld(text: string, held: EntryIndex, whose: string): void {
  const pattern = parsePattern(text)
  if (!held.all.some((entry) => within(pattern, entry.pattern)))
    throw new Failure('forbidden', `\`${text}\` is more than ${whose} holds`)
}

const measures: readonly string[] = [
  'calls',
  'repeats',
  'concurrent',
  'tokens',
  'spend',
  'bytes',
  'sent',
] satisfies Measure[]

/** Fails with `invalid` where facts, limits or permissions can't be read. */
function checkRequest(request: LendRequest, types: Readonly<Record<string, FactType>>, loaded: LoadedPolicy): void {
  for (const [name, value] of Object.entries(request.facts ?? {})) {
    const type = Object.hasOwn(types, name) ? types[name] : undefined
    if (type === undefined)
      throw new Failure(
        'invalid',
        `\`${name}\` is no declared fact: expected one of ${Object.keys(types).join(', ') || 'none (declare it under `facts`)'}`,
      )
    if (!isOfType(value, type)) throw new Failure('invalid', `the fact \`${name}\` has to be a ${type}`)
  }
  for (const [measure, text] of Object.entries(request.limits ?? {})) {
    if (!measures.includes(measure))
      throw new Failure('invalid', `\`${measure}\` is no limit: expected ${measures.join(', ')}`)
    parseLimit(measure as Measure, text) satisfies Limit
  }
  if (request.lasts !== undefined && !(request.lasts > 0))
    throw new Failure('invalid', 'a session has to last longer than nothing')
  if (request.only !== undefined) loaded.entries(request.only, 'only')
}

function isOfType(value: FactValue, type: FactType): boolean {
  const isInt = (each: unknown): boolean => Number.isSafeInteger(each)
  switch (type) {
    case 'string':
      return typeof value === 'string'
    case 'int':
    case 'timestamp':
      return isInt(value)
    case 'double':
      return typeof value === 'number' && Number.isFinite(value)
    case 'bool':
      return typeof value === 'boolean'
    case 'list<string>':
      return Array.isArray(value) && value.every((each) => typeof each === 'string')
    case 'list<int>':
      return Array.isArray(value) && value.every(isInt)
  }
}
