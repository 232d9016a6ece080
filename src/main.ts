import fs from 'node:fs'
import { once } from 'node:events'
import http from 'node:http'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { compileEntries, compilePolicy } from './config/compile.ts'
import type { CompileOptions } from './config/compile.ts'
import { problemInWords } from './config/load.ts'
import { createControl } from './control/server.ts'
import type { Reloaded, ResourceStatus, Status } from './control/wire.ts'
import { actorOf } from './core/approval.ts'
import { Failure } from './core/failure.ts'
import { callerName } from './core/identity.ts'
import type { Caller } from './core/identity.ts'
import type { SessionId } from './core/session.ts'
import { printable } from './core/printable.ts'
import { createDecisionApi } from './gateway/api/server.ts'
import { listenForAgents } from './gateway/listener.ts'
import { killOrphans } from './gateway/mcp/processes.ts'
import { openAuthority } from './gateway/http/certificates.ts'
import { startProxy } from './gateway/http/proxy.ts'
import { createHttpGateway } from './gateway/http/server.ts'
import { createMcpGateway } from './gateway/mcp/server.ts'
import { createAdministration } from './gateway/postgres/administration.ts'
import { createPostgresGateway } from './gateway/postgres/server.ts'
import { startSqlListener } from './gateway/postgres/wire/server.ts'
import { createOAuth } from './gateway/oauth/server.ts'
import { createApprovals } from './guard/approvals.ts'
import { createAuthenticate } from './guard/authenticate.ts'
import { createClock } from './guard/clock.ts'
import type { TimeSource } from './guard/clock.ts'
import { compileCondition } from './guard/condition.ts'
import { createCounters } from './guard/counters.ts'
import { createDoors } from './guard/doors.ts'
import { createGuard } from './guard/guard.ts'
import { createKeys } from './guard/keys.ts'
import { createPinned } from './guard/pins.ts'
import { createPolicies } from './guard/policies.ts'
import { createSecrets } from './guard/secrets.ts'
import type { Reader } from './guard/secrets.ts'
import type { LoadedPolicy } from './guard/policies.ts'
import { createSessions } from './guard/sessions.ts'
import { createTokens } from './guard/tokens.ts'
import { toolsOf } from './guard/tool.ts'
import { createUses } from './guard/uses.ts'
import { createVault } from './guard/vault.ts'
import { openAuditLog } from './stores/audit/log.ts'
import { masterKeys } from './stores/masterkeys.ts'
import { openStores } from './stores/sqlite/stores.ts'
import { callerOf, readConfigured, readText, warningsOf, weakened } from './start/configured.ts'
import type { Configured } from './start/configured.ts'
import { hostsOf, listen, listenerSettings, privateFolder, tokenKeys } from './start/machine.ts'
import { toApis, toDatabases, toFunctions, toProxied, toResources } from './start/resources.ts'

export interface StartOptions {
  /** Path of `sallyport.yaml`. */
  readonly file: string
  readonly env: NodeJS.ProcessEnv
  /** Told what an operator should know, a line each. No line holds a secret or a control character. */
  readonly log: (line: string) => void
  /** What the time is made from: the clocks of the machine, unless said. */
  readonly time?: TimeSource
}

export interface Running {
  status(): Status
  /** Reads the configuration again. A broken one changes nothing, and fails with `invalid`, saying what is wrong. */
  reload(by: string): Promise<Reloaded>
  /** Lets calls in flight end (5 seconds at most), writes what waits, and lets everything go. */
  close(): Promise<void>
}

const version = '0.1.0'
/** How often deadlines, unanswered questions and counters are looked after, in milliseconds. */
const beat = 200
/** How often secrets that another process changed are looked for, and old values forgotten, in milliseconds. */
const vaultBeat = 5_000
/** How long the start waits for MCP servers, in milliseconds: those that are slower come later. */
const readyWithin = 3_000

/** Makes every part and joins them. The only place that knows them all. Fails with a Failure that says what to do. */
export async function start({ file, env, log, time }: StartOptions): Promise<Running> {
  const clock = createClock(time)
  const startedAt = clock()
  // Until secrets are open, nothing that is said could hold one.
  let mask = (text: string): string => text
  const say = (line: string): void => log(printable(mask(line)))
  const report = (failure: Failure): void => say(`error: ${failure.message}${causeOf(failure)}`)

  const { settings } = (await readText(file)).loaded
  const state = privateFolder(settings.state)
  const master = masterKeys({ file: path.join(state, 'master.key'), env })
  const stores = openStores(path.join(state, 'sallyport.db'))
  const audit = await openAuditLog({
    dir: path.join(state, 'audit'),
    keyFile: path.join(state, 'audit.key'),
    clock,
    segmentBytes: settings.audit.segment,
    retentionDays: Math.ceil(settings.audit.retention / 86_400_000),
  })

  // Secrets -----------------------------------------------------------------------------------------------------------
  const uses = createUses(audit, clock)
  const vault = await createVault({ store: stores.secrets, keys: master, audit, uses, clock, report })
  const secrets = createSecrets({ vault, uses, clock })
  mask = (text) => secrets.masker.text(text)
  let configured = await readConfigured(file, env, secrets).catch(async (thrown: unknown) => {
    await Promise.all([secrets.close(), audit.close(), stores.close()])
    throw thrown
  })
  await secrets.adopt(configured.reader, configured.known, configured.late)
  for (const warning of configured.warnings) say(`warning: ${problemInWords(warning)}`)

  // The guard ---------------------------------------------------------------------------------------------------------
  let argumentsOf: NonNullable<CompileOptions['argumentsOf']> = () => undefined
  const compile = (given: Configured, onBroken?: (id: string, message: string) => void): LoadedPolicy => {
    const { loaded } = given
    const options: CompileOptions = {
      compileCondition,
      argumentsOf: (permission) => given.schemas.get(permission) ?? argumentsOf(permission),
      ...(onBroken === undefined ? {} : { onBroken }),
    }
    return {
      policy: compilePolicy(loaded, options),
      entries: (texts, id) => compileEntries(texts, id, loaded.settings.facts, options),
    }
  }
  const policies = createPolicies(compile(configured))
  const keys = createKeys(stores.keys, audit, clock)
  const sessions = await createSessions({ store: stores.sessions, stopStore: stores.stops, policies, audit, clock })
  const approvals = createApprovals(stores.approvals, audit, clock)
  const counters = await createCounters(stores.counters, clock)
  sessions.onEnd((ids, because) => {
    approvals.void({ sessions: new Set(ids) }, because).catch((thrown: unknown) => report(Failure.from(thrown)))
  })
  const guard = createGuard({
    sessions,
    policies,
    approvals,
    counters,
    audit,
    clock,
    keep: settings.audit.keep,
    hideSecrets: mask,
  })

  // What agents speak -------------------------------------------------------------------------------------------------
  // What a gateway that was killed left running would go on with old credentials.
  await killOrphans()
  const pinned = await createPinned(stores.pins, audit, clock)
  const apis = await toApis(configured, pinned)
  const web = createHttpGateway({
    guard,
    sessions,
    audit,
    clock,
    resources: apis,
    mask: secrets.masker,
    hold: settings.approvals.hold,
    onSecret: (resource, value) => secrets.learn(`token of ${resource}`, value),
    report: (thrown) => report(Failure.from(thrown)),
  })
  const sql = createPostgresGateway({
    guard,
    sessions,
    resources: toDatabases(configured),
    mask: secrets.masker,
    report: (thrown) => report(Failure.from(thrown)),
  })
  const mcp = await createMcpGateway({
    guard,
    sessions,
    approvals,
    pinned,
    local: toolsOf(web, sql),
    audit,
    clock,
    resources: toResources(configured),
    environment: env,
    settings: { hold: { without: settings.approvals.hold, withProgress: settings.approvals.hold_with_progress } },
    mask: (value) => secrets.masker.json(value),
    report: (thrown) => report(Failure.from(thrown)),
    // Conditions were read without knowing the arguments. Now that servers say what they take, they are checked.
    onOperations: () => policies.swap(compile(configured, broken)),
  })
  const api = createDecisionApi({
    guard,
    sessions,
    clock,
    resources: toFunctions(configured),
    find: (permission) => web.find(permission) ?? sql.find(permission) ?? mcp.find(permission),
    mask: (value) => secrets.masker.json(value),
    hold: { usual: settings.approvals.hold, most: settings.approvals.hold_with_progress },
    url: () => agents.url,
    report: (thrown) => report(Failure.from(thrown)),
  })
  argumentsOf = (permission) => api.find(permission)?.schema ?? mcp.argumentsOf(permission)
  // Programs get new values by starting anew; what failed for want of a secret is tried again.
  secrets.onChange(() => {
    mcp.reload(toResources(configured)).catch((thrown: unknown) => report(Failure.from(thrown)))
  })
  await mcp.ready(readyWithin)
  const { listen: addresses } = settings
  const issuer = addresses.url ?? `http://${addresses.agents.host}:${addresses.agents.port}`
  const tokens = await createTokens(issuer.replace(/\/$/, ''), tokenKeys(state), clock)
  const doors = createDoors(audit, clock)
  const authenticate = createAuthenticate({ sessions, tokens, keys, audit, clock, issuers: () => configured.issuers })

  // What people speak -------------------------------------------------------------------------------------------------
  const peopleServer = http.createServer(listenerSettings)
  const people = await listen(peopleServer, settings.listen.people)
  const control = createControl(
    {
      sessions,
      tokens,
      keys,
      vault,
      approvals,
      guard,
      policies,
      versions: stores.versions,
      stopStore: stores.stops,
      pins: stores.pins,
      audit,
      databases: createAdministration({
        resources: () => [...sql.live().values()].map(({ resource }) => resource),
        audit,
        clock,
      }),
      operations: {
        find: (permission) =>
          api.find(permission) ??
          web.find(permission) ??
          sql.find(permission) ??
          proxy?.find(permission) ??
          mcp.find(permission),
        status: resourceStatus,
        difference: (pin) => mcp.difference(pin),
        async accept(resource, kind, name, digest, by) {
          if (!configured.documents.has(resource)) return mcp.accept(resource, kind, name, digest, by)
          await pinned.accept(resource, kind, name, digest, by)
          web.prepare(await toApis(configured, pinned))()
          mcp.localChanged()
        },
      },
      clock,
      startedAt,
      tokenForm: () => configured.loaded.settings.sessions.tokens,
      hideSecrets: mask,
      callers: (holder) => callerOf(configured.loaded.settings, holder),
      reload,
      status,
    },
    {
      hosts: hostsOf(settings.listen.people.host, settings.listen.hosts),
      report,
      turnedAway: () => doors.turnedAway('people'),
    },
  )

  // Life --------------------------------------------------------------------------------------------------------------
  let loadedAt = startedAt
  await keepVersion(configured, 'start')
  await approvals.void({ policyOtherThan: configured.loaded.digest }, 'the policy changed')
  await voidOrphans()
  await firstKey()
  await audit.append({ type: 'gateway.start', at: startedAt, version, policy: configured.loaded.digest }).done

  const looking = setInterval(() => {
    const all = [
      sessions.sweep(),
      approvals.sweep(),
      doors.sweep(),
      counters.flush((id) => sessions.get(id) === undefined),
      uses.sweep(),
    ]
    for (const each of all) each.catch((thrown: unknown) => report(Failure.from(thrown)))
  }, beat)
  const refreshing = setInterval(() => {
    vault.refresh().catch((thrown: unknown) => report(Failure.from(thrown)))
  }, vaultBeat)

  const pruning = setInterval(() => {
    prune().catch((thrown: unknown) => report(Failure.from(thrown)))
  }, 3_600_000)

  const atTheDoor = (credential: string): Promise<SessionId> =>
    authenticate(credential).catch((thrown: unknown) => {
      if (Failure.from(thrown).code === 'unauthenticated') doors.turnedAway('agents')
      throw thrown
    })
  const proxy =
    addresses.proxy === undefined
      ? undefined
      : await startProxy({
          ...addresses.proxy,
          authenticate: atTheDoor,
          gateway: web,
          guard,
          sessions,
          audit,
          clock,
          authority: openAuthority({
            keyFile: path.join(state, 'ca.key'),
            certificateFile: path.join(state, 'ca.pem'),
            clock,
          }),
          resources: toProxied(configured, apis),
          hold: settings.approvals.hold,
          report: (thrown) => report(Failure.from(thrown)),
        })
  const wire =
    addresses.sql === undefined
      ? undefined
      : await startSqlListener({
          ...addresses.sql.at,
          ...(configured.sqlIdentity === undefined ? {} : { tls: configured.sqlIdentity }),
          authenticate: atTheDoor,
          gateway: sql,
          guard,
          sessions,
          audit,
          clock,
          mask: secrets.masker,
          hold: settings.approvals.hold,
          report: (thrown) => report(Failure.from(thrown)),
        })
  const oauth = createOAuth({ authenticate, sessions, tokens, audit, clock, url: () => agents.url })
  const agents = await listenForAgents({
    ...addresses.agents,
    hosts: addresses.hosts,
    origins: addresses.origins,
    ...(addresses.url === undefined ? {} : { url: addresses.url }),
    authenticate: atTheDoor,
    guarded: { '/mcp': (request, response, session) => mcp.handle(request, response, session), ...api.guarded },
    below: { '/api/': (request, response, session) => web.handle(request, response, session) },
    open: {
      ...oauth.routes,
      ...api.open,
      '/healthz': async (_request, response) => {
        const isWell = audit.health().state === 'ok'
        response
          .writeHead(isWell ? 200 : 503, { 'content-type': 'text/plain' })
          .end(isWell ? 'ok\n' : 'the audit log can’t be written\n')
      },
    },
    report: (thrown) => report(Failure.from(thrown)),
  })
  peopleServer.on('request', (request, response) => void control(request, response))

  /** Reads the file anew. All or nothing: what is wrong with it is said, and what was goes on. */
  async function reload(by: string): Promise<Reloaded> {
    const at = clock()
    let unused: Reader | undefined
    try {
      const next = await readConfigured(file, env, secrets)
      unused = next.reader
      const loaded = compile(next)
      const nextApis = await toApis(next, pinned)
      const takeOver = [
        web.prepare(nextApis),
        sql.prepare(toDatabases(next)),
        proxy?.prepare(toProxied(next, nextApis)),
      ]
      const { digest } = next.loaded
      const changed = digest !== configured.loaded.digest
      const weaker = weakened(configured, next)
      for (const line of weaker) say(`alert: ${line}`)
      await keepVersion(next, by)
      await audit.append({
        type: 'policy.load',
        at,
        policy: digest,
        before: configured.loaded.digest,
        by,
        weakened: weaker,
      }).done
      const fixed = fixedKeys.filter((key) => !isDeepStrictEqual(next.loaded.settings[key], settings[key]))
      configured = next
      unused = undefined
      const adopted = secrets.adopt(next.reader, next.known, next.late)
      loadedAt = at
      policies.swap(loaded)
      api.reload(toFunctions(next))
      for (const take of takeOver) take?.()
      if (changed) await approvals.void({ policyOtherThan: digest }, 'the policy changed')
      await Promise.all([adopted, mcp.reload(toResources(next))])
      policies.swap(compile(next, broken))
      const warnings = [...warningsOf(next), ...fixed.map((key) => `\`${key}\` takes effect at the next start`)]
      for (const warning of warnings) say(`warning: ${warning}`)
      return { digest, changed, warnings }
    } catch (thrown) {
      if (unused !== undefined) await secrets.drop(unused)
      const failure = Failure.from(thrown)
      await audit.append({
        type: 'policy.refused',
        at,
        by,
        because: failure.message.slice(0, 2_000),
        policy: configured.loaded.digest,
      }).done
      throw failure
    }
  }

  function broken(id: string, message: string): void {
    say(`warning: ${id} denies from now on: ${message}`)
    audit
      .append({ type: 'policy.broken', at: clock(), rule: id, because: message, policy: configured.loaded.digest })
      .done.catch(() => {})
  }

  async function keepVersion({ loaded, text }: Configured, by: string): Promise<void> {
    await stores.versions.add({ digest: loaded.digest, text, loadedAt: clock(), loadedBy: by })
  }

  /** Questions of sessions that ended with nobody here to see it: their answers could not be used any more. */
  async function voidOrphans(): Promise<void> {
    const open = await approvals.list({ states: ['pending', 'approved'], limit: 500 })
    const gone = open.map(({ chain }) => actorOf(chain).session).filter((id) => sessions.get(id) === undefined)
    if (gone.length > 0) await approvals.void({ sessions: new Set(gone) }, 'the session is over')
  }

  /** The first start makes the key that the command line uses here. */
  async function firstKey(): Promise<void> {
    const adminFile = path.join(state, 'admin.key')
    if ((await keys.list('person:admin')).length > 0 || fs.existsSync(adminFile)) return
    const { text } = await keys.issue('person:admin', 'first start')
    fs.writeFileSync(adminFile, `${text}\n`, { mode: 0o600, flag: 'wx' })
    say(`the key of \`admin\` is in ${adminFile}: the command line reads it there`)
  }

  function status(caller?: Caller, pending = 0): Status {
    return {
      version,
      startedAt,
      agents: { url: agents.url },
      people: { url: people.url },
      ...(proxy === undefined ? {} : { proxy: { url: proxy.url } }),
      ...(wire === undefined ? {} : { sql: { url: wire.url } }),
      policy: { digest: configured.loaded.digest, file, loadedAt, warnings: warningsOf(configured) },
      audit: { ...audit.health(), name: audit.name },
      sessions: sessions.live().length,
      pending,
      stops: sessions.stops(),
      resources: resourceStatus(),
      caller: caller === undefined ? '' : callerName(caller),
    }
  }

  function resourceStatus(): readonly ResourceStatus[] {
    const others = Object.entries(configured.resources).flatMap(([name, resource]): ResourceStatus[] => {
      const common = { name, state: 'ready', tools: 0, quarantined: 0 } as const
      if ('functions' in resource)
        return [{ ...common, kind: 'functions', tools: Object.keys(resource.functions).length }]
      if (!('tunnel' in resource)) return []
      const off = proxy === undefined ? { state: 'stopped' as const, reason: '`listen.proxy` is not set' } : {}
      return [{ ...common, kind: 'tunnel', hosts: resource.tunnel.length, ...off }]
    })
    return [...mcp.status(), ...web.status(), ...sql.status(), ...others]
  }

  /** What nobody asks for any more, once the log's own retention is over. */
  async function prune(): Promise<void> {
    const before = clock() - configured.loaded.settings.audit.retention
    await stores.approvals.prune(before)
    await stores.sessions.prune(before)
  }

  let closing: Promise<void> | undefined
  async function close(): Promise<void> {
    clearInterval(looking)
    clearInterval(pruning)
    clearInterval(refreshing)
    const closed = once(peopleServer, 'close')
    peopleServer.close()
    peopleServer.closeAllConnections()
    await Promise.all([agents.close(), proxy?.close(), wire?.close(), closed])
    await api.close()
    await Promise.all([mcp.close(), web.close(), sql.close()])
    await secrets.close()
    await counters.flush(() => false).catch((thrown: unknown) => report(Failure.from(thrown)))
    await uses.sweep(true).catch((thrown: unknown) => report(Failure.from(thrown)))
    await audit
      .append({ type: 'gateway.stop', at: clock() })
      .done.catch((thrown: unknown) => report(Failure.from(thrown)))
    await audit.close()
    await stores.close()
  }

  return { status: () => status(), reload, close: () => (closing ??= close()) }
}

/** What a running process can't take over. */
const fixedKeys = ['listen', 'state', 'audit', 'approvals'] as const

const causeOf = ({ cause }: Failure): string => (cause instanceof Error ? `: ${cause.message}` : '')
