import type { AuditLog } from '../../core/audit.ts'
import type { EventType } from '../../core/event.ts'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Clock } from '../../guard/clock.ts'
import { UpstreamError } from './connection.ts'
import type { Changed, Connection, ConnectionEvents } from './connection.ts'
import { connectHttp } from './http.ts'
import { nothingOffered, offerPrompt, offerResource, offerTemplate, offerTool } from './offer.ts'
import type { Offered, OfferPorts } from './offer.ts'
import { maskedConnection } from './masked.ts'
import type { Mask } from './masked.ts'
import { connectProgram } from './program.ts'
import type { McpResource } from './resource.ts'
import { isObject } from './wire.ts'
import type { Capabilities, Era } from './wire.ts'

/**
 * For whom an upstream is used. `key` tells one client of the gateway from all others; `capabilities` are what it can
 * be asked for, less what the operator forbids.
 */
export interface Scope {
  readonly key: string
  readonly capabilities: Capabilities
}

export type UpstreamState = 'connecting' | 'ready' | 'failed' | 'stopped'

/** One server behind the gateway: its connections, and what it offers. */
export interface Upstream {
  readonly resource: McpResource
  readonly state: { readonly state: UpstreamState; readonly reason?: string; readonly offered: Offered }
  /** Counts up when what is offered may have changed. */
  readonly revision: number
  /** Settles when what is offered is known, or can't be, or is not known after three seconds. */
  readonly tried: Promise<void>
  /** What of the client's capabilities the server may use. */
  allowed(capabilities: Capabilities): Capabilities
  /** What it offers to clients that can be asked this; what was known last where it can't be reached. */
  offered(scope: Scope): Promise<Offered>
  /** A connection for a client. Those that can be asked nothing share one. Fails with `unavailable`. */
  connection(scope: Scope): Promise<Connection>
  watch(uri: string): Promise<void>
  unwatch(uri: string): void
  /** Ends the connections that only this client used. */
  forget(key: string): void
  /** Reads what is offered anew: after a person accepted a change. */
  refresh(): Promise<void>
  close(): Promise<void>
}

export interface UpstreamPorts {
  readonly offers: OfferPorts
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly connectWithin: number
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly mask: Mask | undefined
  readonly changed: (what: Changed) => void
  readonly updated: (uri: string) => void
}

const mostPages = 64
const mostOfList = 8_000_000
const mostEntries = { tools: 2_000, prompts: 2_000, resources: 10_000, resourceTemplates: 2_000 } as const
const listWithin = 30_000
const firstWait = 3_000
/** Connections of clients that can be asked something, for one server. */
const mostLines = 64
const idleLine = 10 * 60_000
const between = { refreshes: 500, first: 500, last: 60_000 } as const

interface Line {
  readonly key: string
  readonly connection: Promise<Connection>
  usedAt: number
  isClosed: boolean
}

export function createUpstream(resource: McpResource, ports: UpstreamPorts): Upstream {
  const { offers, audit, clock } = ports
  const lines = new Map<string, Line>()
  const watched = new Map<string, number>()
  const variants = new Map<string, { offered: Offered; revision: number }>()
  let shared: Line | undefined
  let state: UpstreamState = 'connecting'
  let reason: string | undefined
  let offered = nothingOffered
  let revision = 0
  let failures = 0
  let retry: NodeJS.Timeout | undefined
  let isClosed = false
  let knownEra: Era | undefined
  let firstTry = (): void => {}
  const tried = new Promise<void>((resolve) => {
    firstTry = resolve
    // A server that takes its time makes nobody wait for the others: clients are told when it comes.
    setTimeout(resolve, firstWait).unref()
  })

  const tell = (type: EventType, more: JsonObject = {}): void => {
    audit.append({ type, at: clock(), resource: resource.alias, ...more }, 'written').done.catch(() => {})
  }

  // Connections --------------------------------------------------------------------------------------------------------

  function open(key: string, capabilities: Capabilities): Line {
    const events: ConnectionEvents = {
      changed: (what) => void changed(what),
      updated: (uri) => ports.updated(uri),
      closed: (because) => lost(line, because),
    }
    const { target, era } = resource
    const options = {
      era: era === 'auto' ? (knownEra ?? 'auto') : era,
      capabilities,
      events,
      connectWithin: ports.connectWithin,
    } as const
    const connection = (
      target.kind === 'http'
        ? connectHttp({ target, ...options })
        : connectProgram({ target, environment: ports.environment, ...options })
    ).then(
      (made) => {
        knownEra = made.era
        if (isClosed || line.isClosed) void made.close()
        return ports.mask === undefined ? made : maskedConnection(made, ports.mask)
      },
      (thrown: unknown) => {
        knownEra = undefined // It may have been replaced by another generation.
        lost(line, Failure.from(thrown).message)
        throw thrown
      },
    )
    connection.catch(() => {})
    const line: Line = { key, connection, usedAt: clock(), isClosed: false }
    return line
  }

  function lost(line: Line, because: string): void {
    if (line.isClosed) return
    line.isClosed = true
    if (lines.get(line.key) === line) lines.delete(line.key)
    if (line !== shared || isClosed) return
    shared = undefined
    if (state !== 'failed') tell('upstream.lost', { because })
    state = 'failed'
    reason = because
    firstTry()
    const pause = Math.min(between.last, between.first * 2 ** Math.min(failures++, 20))
    retry = setTimeout(() => void start(), pause)
    retry.unref()
  }

  /** Connects the shared line, and reads what is offered. */
  async function start(): Promise<void> {
    if (isClosed || shared !== undefined) return
    const line = (shared = open('', {}))
    try {
      const connection = await line.connection
      await refresh()
      if (line.isClosed) return
      state = 'ready'
      reason = undefined
      tell('upstream.ready', { era: connection.era, version: connection.version, tools: offered.tools.length })
      if (watched.size > 0) await connection.watch([...watched.keys()]).catch(() => {})
      setTimeout(() => line.isClosed || (failures = 0), 10_000).unref()
    } catch (thrown) {
      lost(line, Failure.from(thrown).message) // Unless it was told before.
      line.connection.then((made) => made.close()).catch(() => {})
    } finally {
      firstTry()
    }
  }

  async function sharedConnection(): Promise<Connection> {
    if (isClosed) throw new Failure('unavailable', `${resource.alias} is stopped`)
    if (shared === undefined)
      throw new Failure('unavailable', `${resource.alias} can’t be reached at present: try again later`)
    return shared.connection.catch(() => {
      throw new Failure('unavailable', `${resource.alias} can’t be reached at present: try again later`)
    })
  }

  async function connection(scope: Scope): Promise<Connection> {
    const common = await sharedConnection()
    // A modern server is told with each request what can be asked, and asks in its answer: nothing can be mixed up.
    if (common.era === 'modern' || Object.keys(scope.capabilities).length === 0) return common
    const key = `${scope.key} ${JSON.stringify(scope.capabilities)}`
    let line = lines.get(key)
    if (line === undefined) {
      makeRoom()
      line = open(key, scope.capabilities)
      lines.set(key, line)
    }
    line.usedAt = clock()
    try {
      return await line.connection
    } catch {
      throw new Failure('unavailable', `${resource.alias} can’t be reached at present: try again later`)
    }
  }

  function makeRoom(): void {
    for (const line of [...lines.values()].sort((a, b) => a.usedAt - b.usedAt)) {
      if (lines.size < mostLines && clock() - line.usedAt < idleLine) continue
      end(line)
    }
  }

  function end(line: Line): void {
    line.isClosed = true
    lines.delete(line.key)
    line.connection.then((made) => made.close()).catch(() => {})
  }

  // What is offered ----------------------------------------------------------------------------------------------------

  let refreshing: Promise<void> | undefined
  let isStale = false

  /** Told that something changed: read anew at once, and then no more often than twice a second. */
  async function changed(what: Changed): Promise<void> {
    changes.add(what)
    isStale = true
    if (refreshing !== undefined) return
    refreshing = (async () => {
      while (isStale) {
        if (isClosed) return
        isStale = false
        await refresh().catch((thrown: unknown) => (reason = Failure.from(thrown).message))
        const told = [...changes]
        changes.clear()
        for (const each of told) ports.changed(each)
        await new Promise<void>((resolve) => setTimeout(resolve, between.refreshes).unref())
      }
    })().finally(() => (refreshing = undefined))
    await refreshing
  }
  const changes = new Set<Changed>()

  async function refresh(): Promise<void> {
    offered = await load(await sharedConnection(), {})
    revision++
  }

  async function offeredTo(scope: Scope): Promise<Offered> {
    const key = JSON.stringify(scope.capabilities)
    if (key === '{}' || state !== 'ready') return offered
    const known = variants.get(key)
    if (known !== undefined && known.revision === revision) return known.offered
    try {
      const at = revision
      const own = await load(await connection(scope), scope.capabilities)
      variants.set(key, { offered: own, revision: at })
      return own
    } catch {
      return known?.offered ?? offered
    }
  }

  async function load(from: Connection, capabilities: Capabilities): Promise<Offered> {
    const problems: string[] = []
    /** A server that can't list one kind of thing may still offer the others. */
    const read = async <T>(
      offersIt: boolean,
      method: string,
      key: keyof typeof mostEntries,
      make: (definition: JsonObject) => T | Promise<T>,
      before: readonly NonNullable<Awaited<T>>[],
    ): Promise<readonly NonNullable<Awaited<T>>[]> => {
      if (!offersIt) return []
      let definitions: readonly JsonObject[]
      try {
        definitions = await list(from, capabilities, method, key)
      } catch (thrown) {
        if (thrown instanceof UpstreamError && thrown.code === -32601) return []
        problems.push(
          `${method}: ${thrown instanceof UpstreamError ? `error ${thrown.code}` : Failure.from(thrown).message}`,
        )
        return before
      }
      const made: NonNullable<Awaited<T>>[] = []
      for (const definition of definitions) {
        try {
          const one = await make(definition)
          if (one !== undefined && one !== null) made.push(one)
        } catch (thrown) {
          const failure = Failure.from(thrown)
          if (failure.code === 'unavailable') throw failure // What can't be recorded can't be offered.
          problems.push(failure.message)
        }
      }
      return made
    }
    const has = (name: string): boolean => isObject(from.offers[name])
    const tools = await read(
      has('tools'),
      'tools/list',
      'tools',
      (one) => offerTool(resource, one, offers),
      offered.tools,
    )
    const prompts = await read(
      has('prompts'),
      'prompts/list',
      'prompts',
      (one) => offerPrompt(resource, one, offers),
      offered.prompts,
    )
    const resources = await read(
      has('resources'),
      'resources/list',
      'resources',
      (one) => offerResource(resource, one),
      offered.resources,
    )
    const templates = await read(
      has('resources'),
      'resources/templates/list',
      'resourceTemplates',
      (one) => offerTemplate(resource, one, offers),
      offered.templates,
    )
    if (problems.length > 0)
      tell('upstream.problems', { problems: problems.slice(0, 20).map((text) => text.slice(0, 300)) })
    return { tools, prompts, resources, templates, problems }
  }

  /** All pages of a list. Fails with `invalid` for a cursor that comes again, `too_large` for lists without end. */
  async function list(
    from: Connection,
    capabilities: Capabilities,
    method: string,
    key: keyof typeof mostEntries,
  ): Promise<readonly JsonObject[]> {
    const found: JsonObject[] = []
    const cursors = new Set<string>()
    const signal = AbortSignal.timeout(listWithin)
    let bytes = 0
    let cursor: string | undefined
    for (let page = 0; page < mostPages; page++) {
      const answer = await from.call({
        method,
        params: cursor === undefined ? {} : { cursor },
        signal,
        timeout: listWithin,
        most: mostOfList,
        capabilities,
      })
      const entries: Json = answer.result[key] ?? []
      if (!Array.isArray(entries)) throw new Failure('invalid', `the answer to ${method} has no list`)
      for (const entry of entries as readonly Json[]) if (isObject(entry)) found.push(entry)
      bytes += answer.bytes
      if (bytes > mostOfList || found.length > mostEntries[key])
        throw new Failure('too_large', `the answer to ${method} is too long`)
      const next = answer.result['nextCursor']
      if (next === undefined || next === null || next === '') return found
      if (typeof next !== 'string' || next.length > 4_096)
        throw new Failure('invalid', `the answer to ${method} has no cursor that could be used`)
      if (cursors.has(next)) throw new Failure('invalid', `the pages of ${method} go round in circles`)
      cursors.add(next)
      cursor = next
    }
    throw new Failure('too_large', `${method} has more than ${mostPages} pages`)
  }

  // Resources that somebody wants to be told about -----------------------------------------------------------------------

  async function watch(uri: string): Promise<void> {
    const count = watched.get(uri) ?? 0
    watched.set(uri, count + 1)
    if (count > 0) return
    try {
      await (await sharedConnection()).watch([...watched.keys()])
    } catch (thrown) {
      unwatch(uri)
      throw thrown
    }
  }

  function unwatch(uri: string): void {
    const count = watched.get(uri) ?? 0
    if (count > 1) return void watched.set(uri, count - 1)
    if (!watched.delete(uri)) return
    sharedConnection()
      .then((made) => made.watch([...watched.keys()]))
      .catch(() => {})
  }

  async function close(): Promise<void> {
    isClosed = true
    state = 'stopped'
    clearTimeout(retry)
    const open = [...lines.values(), ...(shared === undefined ? [] : [shared])]
    await Promise.all(open.map(({ connection: made }) => made.then((one) => one.close()).catch(() => {})))
    firstTry()
  }

  void start()

  return {
    resource,
    get state() {
      return { state, offered, ...(reason === undefined ? {} : { reason }) }
    },
    get revision() {
      return revision
    },
    tried,
    allowed(capabilities) {
      const { elicitation, sampling, roots } = resource.asks
      return {
        ...(elicitation && capabilities.elicitation !== undefined ? { elicitation: capabilities.elicitation } : {}),
        ...(sampling && capabilities.sampling !== undefined ? { sampling: capabilities.sampling } : {}),
        ...(roots && capabilities.roots !== undefined ? { roots: capabilities.roots } : {}),
      }
    },
    offered: offeredTo,
    connection,
    watch,
    unwatch,
    forget(key) {
      for (const line of lines.values()) if (line.key.startsWith(`${key} `)) end(line)
    },
    refresh,
    close,
  }
}
