import { isIP } from 'node:net'
import { Failure } from '../core/failure.ts'
import { effects, hasWildcard } from '../core/permission.ts'
import { isOwnName, parseNetwork, refusedAddress } from '../guard/addresses.ts'
import { verbs } from '../postgres/description.ts'
import type { Pattern } from '../core/permission.ts'
import { needOf } from './ask.ts'
import type { AskSettings } from './ask.ts'
import { didYouMean } from './nearest.ts'
import { hasReference } from './reference.ts'
import type { Template } from './reference.ts'
import { routeOf, templatesOf } from './http.ts'
import type { HttpResourceSettings } from './http.ts'
import { addressProblem, embeddedFolder, verbsOf } from './postgres.ts'
import type { PostgresResourceSettings } from './postgres.ts'
import type { TunnelResourceSettings } from './tunnel.ts'
import { isLoopback } from './schema.ts'
import type { Address, EntrySettings, ResourceSettings, Settings } from './schema.ts'
import type { Found, Path } from './source.ts'

interface Findings {
  readonly problems: Found[]
  readonly warnings: Found[]
}

/** What no key can know of itself: names that lead nowhere, questions nobody could answer, doors left open. */
export function crossCheck(settings: Settings, data: unknown): Findings {
  const findings: Findings = { problems: [], warnings: [] }
  checkReferences(data, [], 0, findings)
  checkListeners(settings, findings)
  checkPeople(settings, findings)
  checkResources(settings, findings)
  checkVaultReferences(settings, findings)
  checkAgents(settings, findings)
  checkRules(settings, findings)
  if (settings.sessions.deadline > settings.sessions.max)
    findings.problems.push({ path: ['sessions', 'deadline'], message: 'expected at most `sessions.max`' })
  return findings
}

/** Values are replaced in a few places only; elsewhere a reference would be taken as it is written, and fail much later. */
function checkReferences(value: unknown, path: Path, depth: number, findings: Findings): void {
  if (depth > 20) return
  if (typeof value === 'string') {
    const isReplaced =
      (path.length === 5 && path[2] === 'mcp' && (path[3] === 'env' || path[3] === 'headers')) ||
      path[2] === 'credential' ||
      (path.length === 3 && path[0] === 'resources' && (path[2] === 'postgres' || path[2] === 'password')) ||
      (path[0] === 'secrets' && path[3] === 'auth')
    if (hasReference(value) && !isReplaced)
      findings.problems.push({
        path,
        message:
          'nothing is replaced here: `${…}` may stand in `mcp.env`, `mcp.headers`, `credential`, `postgres` and `password`',
      })
  } else if (Array.isArray(value))
    for (const [position, item] of value.entries()) checkReferences(item, [...path, position], depth + 1, findings)
  else if (typeof value === 'object' && value !== null)
    for (const [key, inner] of Object.entries(value)) checkReferences(inner, [...path, key], depth + 1, findings)
}

function checkListeners({ listen }: Settings, { problems, warnings }: Findings): void {
  const { agents, people, proxy, sql } = listen
  const clash = (one: Address, other: Address): boolean =>
    one.port !== 0 && one.port === other.port && (one.host === other.host || isAny(one) || isAny(other))
  if (clash(agents, people))
    problems.push({ path: ['listen', 'people'], message: 'expected another port: agents and people never share one' })
  if (proxy !== undefined && (clash(proxy, people) || clash(proxy, agents)))
    problems.push({ path: ['listen', 'proxy'], message: 'expected another port: this one is taken in `listen`' })
  if (sql !== undefined) {
    if ([agents, people, proxy].some((other) => other !== undefined && clash(sql.at, other)))
      problems.push({ path: ['listen', 'sql'], message: 'expected another port: this one is taken in `listen`' })
    if (sql.tls === undefined && !isLoopback(sql.at.host))
      problems.push({
        path: ['listen', 'sql'],
        message:
          'other machines could reach this, and tokens would go unencrypted: expected `{ at, certificate, key }`',
      })
  }
  for (const [side, address] of [
    ['agents', agents],
    ['people', people],
    ['proxy', proxy],
  ] as const)
    if (address !== undefined && !isLoopback(address.host))
      warnings.push({
        path: ['listen', side],
        message: `other machines can reach this, and nothing here is encrypted: put a proxy that speaks TLS before it`,
      })
}

const isAny = ({ host }: Address): boolean => host === '0.0.0.0' || host === '::'

function checkPeople(settings: Settings, { problems }: Findings): void {
  const teams = new Set(Object.values(settings.people).flatMap((person) => person.teams))
  for (const name of Object.keys(settings.people))
    if (teams.has(name))
      problems.push({
        path: ['people', name],
        of: 'key',
        message: 'a team has this name: a question to it would be to both',
      })
  for (const [name, { starts }] of Object.entries(settings.services))
    for (const [position, agent] of starts.entries())
      checkAgent(agent, ['services', name, 'starts', position], settings, problems)
  for (const name of Object.keys(settings.issuers))
    if (notIssuers.includes(name))
      problems.push({
        path: ['issuers', name],
        of: 'key',
        message: `expected another name: sessions would seem to run on behalf of a ${name}`,
      })
  for (const [name, issuer] of Object.entries(settings.issuers))
    for (const [position, { agent }] of issuer.agents.entries())
      checkAgent(agent, ['issuers', name, 'agents', position, 'agent'], settings, problems)
  const { people, count } = settings.approvals
  if (people !== undefined || count > 1) checkAsk({ people, count }, ['approvals'], 'people', settings, problems)
}

/** `person:anna` is a person: an issuer of that name could speak for anybody. */
const notIssuers = ['person', 'service', 'agent', 'session', 'key', 'jwt']

function checkAgent(agent: string, path: Path, settings: Settings, problems: Found[], of?: 'key'): void {
  if (Object.hasOwn(settings.agents, agent)) return
  const message = `there is no agent \`${agent}\`${didYouMean(agent, Object.keys(settings.agents))}`
  problems.push({ path, message, ...(of === undefined ? {} : { of }) })
}

/** Whether enough people could ever answer. */
function checkAsk(given: AskSettings, path: Path, peopleKey: string, settings: Settings, problems: Found[]): void {
  const { people, count } = needOf(given, settings.approvals)
  const everybody = Object.entries(settings.people)
  const named =
    people === undefined
      ? everybody
      : everybody.filter(([name, { teams }]) => name === people || teams.includes(people))
  const may = named.filter(([, { roles }]) => roles.includes('approver') || roles.includes('admin'))
  if (people !== undefined && named.length === 0) {
    const known = everybody.flatMap(([name, { teams }]) => [name, ...teams])
    const message = `nobody could answer: no person is in a team \`${people}\` or has that name${didYouMean(people, known)}`
    problems.push({ path: given.people === undefined ? path : [...path, peopleKey], message })
  } else if (people !== undefined && may.length === 0)
    problems.push({
      path: given.people === undefined ? path : [...path, peopleKey],
      message: `nobody could answer: of \`${people}\`, nobody has the role \`approver\` or \`admin\``,
    })
  // Where nobody is named, the administrator who is there from the first start may answer too.
  else if (count > may.length + (people === undefined ? 1 : 0))
    problems.push({
      path: given.count === undefined ? path : [...path, 'count'],
      message: `${count} people are asked for, and only ${may.length} of ${people === undefined ? 'all' : `\`${people}\``} may approve`,
    })
}

function checkResources({ resources, listen }: Settings, { problems, warnings }: Findings): void {
  const servers = Object.entries(resources).flatMap(([name, resource]) =>
    'mcp' in resource ? [[name, resource] as const] : [],
  )
  const [, ...more] = servers.filter(([, { prefix }]) => !prefix)
  for (const [name] of more)
    problems.push({
      path: ['resources', name, 'prefix'],
      message: 'only one server can be without a prefix: two could give one name to different tools',
    })
  for (const [name, { mcp }] of servers) {
    const path = ['resources', name, 'mcp']
    if (mcp.kind === 'http' && mcp.url.startsWith('http:') && !isLoopback(new URL(mcp.url).hostname))
      warnings.push({ path: [...path, 'url'], message: 'nothing is encrypted on the way: use `https://`' })
    const [key, templates] = mcp.kind === 'http' ? ['headers', mcp.headers] : ['env', mcp.env]
    for (const [each, template] of Object.entries(templates))
      if (namesCredential(each) && template.every((part) => typeof part === 'string'))
        warnings.push({
          path: [...path, key, each],
          message:
            'a credential stands in this file, and every version of the file is kept: use `${secret:NAME}`, `${env:NAME}` or `${file:path}`',
        })
  }
  for (const [name, resource] of Object.entries(resources))
    if ('http' in resource) checkHttp(name, resource, { problems, warnings })
    else if ('postgres' in resource) checkPostgres(name, resource, { problems, warnings })
    else if ('tunnel' in resource) {
      checkTunnel(name, resource, resources, problems)
      if (listen.proxy === undefined)
        warnings.push({
          path: ['resources', name, 'tunnel'],
          message: 'nothing passes through it without `listen.proxy`',
        })
    }
}

/** What is odd in a database. */
function checkPostgres(name: string, resource: PostgresResourceSettings, { problems, warnings }: Findings): void {
  const path = ['resources', name]
  if (embeddedFolder(resource) !== undefined) {
    for (const key of ['password', 'tls', 'ca'] as const)
      if (resource[key] !== undefined)
        problems.push({ path: [...path, key], message: 'an embedded database has no connection that it could be for' })
    warnings.push({
      path: [...path, 'postgres'],
      message:
        'an embedded database is for a first look: an agent that finds a hole in the check of statements has all of it. Use a PostgreSQL server for real data',
    })
    return
  }
  if (resource.init !== undefined)
    problems.push({ path: [...path, 'init'], message: 'only an embedded database is begun with a script' })
  const text = resource.postgres.every((part) => typeof part === 'string') ? resource.postgres.join('') : undefined
  const credentials = 'a credential stands in this file, and every version of the file is kept: use `${secret:NAME}`'
  if (resource.password?.every((part) => typeof part === 'string') === true)
    warnings.push({ path: [...path, 'password'], message: credentials })
  if (text === undefined) return
  const wrong = addressProblem(text)
  if (wrong !== undefined) return void problems.push({ path: [...path, 'postgres'], message: wrong })
  const { password, hostname } = new URL(text)
  if (password !== '') warnings.push({ path: [...path, 'postgres'], message: credentials })
  if (resource.tls === 'off' && !isLoopback(hostname))
    warnings.push({ path: [...path, 'tls'], message: 'nothing is encrypted on the way to it' })
}

/** A connection to a host is either opened or passed on: which of them holds may not depend on who asks. */
function checkTunnel(
  name: string,
  { tunnel }: TunnelResourceSettings,
  resources: Settings['resources'],
  problems: Found[],
): void {
  const at = ({ host, port }: { readonly host: string; readonly port: string | number }): string => `${host}:${port}`
  const opened = new Map(
    Object.entries(resources).flatMap(([other, resource]) => {
      if (!('http' in resource)) return []
      const { hostname, port, protocol } = new URL(resource.http)
      const host = hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
      return [[at({ host, port: port === '' ? (protocol === 'https:' ? 443 : 80) : port }), other] as const]
    }),
  )
  for (const [position, host] of tunnel.entries()) {
    const other = opened.get(at(host))
    if (other !== undefined)
      problems.push({
        path: ['resources', name, 'tunnel', position],
        message: `\`${at(host)}\` is opened for the operations of \`${other}\`: it can’t pass unopened as well`,
      })
  }
}

/** What is odd in a resource of kind `http`. */
function checkHttp(name: string, resource: HttpResourceSettings, { problems, warnings }: Findings): void {
  const path = ['resources', name]
  const { http, credential, operations, openapi, addresses } = resource
  if (http.startsWith('http:') && !isLoopback(new URL(http).hostname))
    warnings.push({ path: [...path, 'http'], message: 'nothing is encrypted on the way: use `https://`' })
  const bad = addresses.map(networkProblem)
  for (const [position, message] of bad.entries())
    if (message !== undefined) problems.push({ path: [...path, 'addresses', position], message })
  const reached = [[http, ['http']] as const]
  const places =
    credential?.kind === 'oauth'
      ? [...reached, [credential.tokenUrl, ['credential', 'oauth', 'token_url']] as const]
      : reached
  for (const [url, at] of places) {
    const message = placeProblem(new URL(url), addresses)
    if (message !== undefined) problems.push({ path: [...path, ...at], message })
  }
  if (openapi === undefined && Array.isArray(operations))
    problems.push({
      path: [...path, 'operations'],
      message: 'a list names operations of a document: expected `openapi`, or operations by name',
    })
  if (!Array.isArray(operations)) {
    const routes = new Map<string, string>()
    for (const [each, operation] of Object.entries(operations)) {
      if (operation.kind === 'documented') {
        if (openapi === undefined)
          problems.push({ path: [...path, 'operations', each], message: '`request` is missing' })
        continue
      }
      const route = routeOf(operation)
      const other = routes.get(route)
      if (other !== undefined)
        problems.push({
          path: [...path, 'operations', each, 'request'],
          message: `\`${other}\` takes the same requests`,
        })
      else routes.set(route, each)
    }
  }
  for (const [key, template] of Object.entries(templatesOf(credential)))
    if (template.every((part) => typeof part === 'string'))
      warnings.push({
        path: [...path, 'credential', ...key.split('.')],
        message:
          'a credential stands in this file, and every version of the file is kept: use `${secret:NAME}`, `${env:NAME}` or `${file:path}`',
      })
}

function networkProblem(source: string): string | undefined {
  try {
    parseNetwork(source)
    return undefined
  } catch (thrown) {
    return Failure.from(thrown).message
  }
}

/** Why nothing could ever be sent there, as far as the text tells: no name is looked up. */
function placeProblem({ hostname }: URL, addresses: readonly string[]): string | undefined {
  const host = hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
  if (isIP(host) !== 0) {
    // It names itself: what is still refused is refused whoever names it.
    const because = refusedAddress(host, [parseNetwork(host)])
    return because === undefined ? undefined : `nothing is ever sent there: this address ${because}`
  }
  if (!isOwnName(host) || addresses.length > 0) return undefined
  const example = isLoopback(host) || host.endsWith('.localhost') ? '[127.0.0.1, "::1"]' : '[10.20.0.0/16]'
  return `nothing is sent to a name of an own network unless its addresses are listed: expected \`addresses\` beside it, such as \`addresses: ${example}\``
}

/** Whether a variable or header of this name holds a credential, by its name. */
export const namesCredential = (name: string): boolean =>
  /(?:^|[_-])(?:authorization|cookie|key|secret|password|passwd|token)$/i.test(name)

/** A reference to a server that the file does not name leads nowhere. */
function checkVaultReferences({ resources, secrets }: Settings, { problems }: Findings): void {
  if (secrets.sources.vault !== undefined) return
  for (const [name, resource] of Object.entries(resources)) {
    if ('functions' in resource || 'tunnel' in resource) continue
    const [path, templates]: readonly [Path, Readonly<Record<string, Template>>] =
      'postgres' in resource
        ? [
            [],
            {
              postgres: resource.postgres,
              ...(resource.password === undefined ? {} : { password: resource.password }),
            },
          ]
        : 'http' in resource
          ? [['credential'], templatesOf(resource.credential)]
          : resource.mcp.kind === 'http'
            ? [['mcp', 'headers'], resource.mcp.headers]
            : [['mcp', 'env'], resource.mcp.env]
    for (const [key, template] of Object.entries(templates))
      if (template.some((part) => typeof part !== 'string' && part.from === 'vault'))
        problems.push({
          path: ['resources', name, ...path, ...('http' in resource ? key.split('.') : [key])],
          message: 'there is no `secrets.sources.vault` that says where `${vault:…}` is read from',
        })
  }
}

function checkAgents(settings: Settings, findings: Findings): void {
  for (const [name, agent] of Object.entries(settings.agents)) {
    const path = ['agents', name]
    if (agent.mode === 'observe')
      findings.warnings.push({
        path: [...path, 'mode'],
        message: 'policy refuses nothing to an observed agent; it only records',
      })
    checkEntries(agent.may, [...path, 'may'], settings, findings)
    for (const [to, entries] of Object.entries(agent.lends)) {
      checkAgent(to, [...path, 'lends', to], settings, findings.problems, 'key')
      checkEntries(entries, [...path, 'lends', to], settings, findings)
      const held = [...agent.may, ...lentTo(name, settings)]
      for (const [position, { do: pattern }] of entries.entries())
        if (!held.some((entry) => meet(entry.do, pattern)))
          findings.problems.push({
            path: [...path, 'lends', to, position],
            message: `\`${name}\` cannot lend \`${pattern.source}\`: it holds nothing of it`,
          })
    }
  }
}

const lentTo = (name: string, { agents }: Settings): readonly EntrySettings[] =>
  Object.values(agents).flatMap(({ lends }) => (Object.hasOwn(lends, name) ? (lends[name] ?? []) : []))

function checkEntries(entries: readonly EntrySettings[], path: Path, settings: Settings, findings: Findings): void {
  const seen = new Map<string, number>()
  for (const [position, entry] of entries.entries()) {
    const place = [...path, position]
    checkPattern(entry.do, place, 'list', settings, findings)
    if (hasWildcard(entry.do)) findings.warnings.push({ path: place, message: opens(entry.do, settings) })
    if (typeof entry.ask === 'object' && (entry.ask.people !== undefined || entry.ask.count !== undefined))
      checkAsk(entry.ask, [...place, 'ask'], 'people', settings, findings.problems)
    const same = JSON.stringify([entry.do.source, entry.when, entry.ask])
    const first = seen.get(same)
    if (first === undefined) seen.set(same, position)
    else findings.warnings.push({ path: place, message: `this says the same as the entry at [${first}]` })
  }
}

function checkRules(settings: Settings, findings: Findings): void {
  for (const [position, rule] of settings.rules.entries()) {
    const path = ['rules', position]
    const kind = rule.deny === undefined ? 'ask' : 'deny'
    for (const pattern of rule[kind] ?? []) checkPattern(pattern, [...path, kind], 'rule', settings, findings)
    for (const [each, agent] of (rule.for ?? []).entries())
      checkAgent(agent, [...path, 'for', each], settings, findings.problems)
    if (rule.of !== undefined || rule.count !== undefined)
      checkAsk({ people: rule.of, count: rule.count }, path, 'of', settings, findings.problems)
  }
}

/** The parts of an MCP server that are not tools. */
const mcpParts = ['resources', 'prompts']

function checkPattern(
  pattern: Pattern,
  path: Path,
  where: 'list' | 'rule',
  settings: Settings,
  findings: Findings,
): void {
  const [name, part] = pattern.target
  if (name === undefined || name === '*') return
  const resource = Object.hasOwn(settings.resources, name) ? settings.resources[name] : undefined
  if (resource === undefined) {
    const near = didYouMean(name, Object.keys(settings.resources))
    findings.problems.push({ path, message: `\`${pattern.source}\`: there is no resource \`${name}\`${near}` })
    return
  }
  if ('postgres' in resource) return checkTable(pattern, path, where, name, resource, findings)
  const tools = toolsOf(resource)
  const { operation } = pattern
  const isEffect = (effects as readonly string[]).includes(operation)
  if (part !== undefined && !('mcp' in resource)) {
    findings.problems.push({
      path,
      message: `\`${pattern.source}\`: \`${name}\` has no parts: expected \`${name}:operation\``,
    })
  } else if (part !== undefined) {
    if (part !== '*' && !mcpParts.includes(part))
      findings.problems.push({
        path,
        message: `\`${pattern.source}\`: \`${name}\` has no part \`${part}\`; its parts are ${mcpParts.join(', ')}${didYouMean(part, mcpParts)}`,
      })
  } else if (operation !== '*' && !Object.hasOwn(tools, operation) && !(isEffect && where === 'rule'))
    findings[isEffect || 'mcp' in resource ? 'warnings' : 'problems'].push({
      path,
      message:
        !isEffect && !('mcp' in resource)
          ? `there is no \`${name}:${operation}\`${didYouMean(operation, Object.keys(tools))}`
          : isEffect
            ? `\`${operation}\` is taken as the name of a tool: an allow-list names operations, not effects`
            : `\`${name}.tools\` does not describe \`${operation}\`, so it counts as \`destroy\`${didYouMean(operation, Object.keys(tools))}`,
    })
}

/** A permission over a database: of a table and what is done to it, or a tool. */
function checkTable(
  { source, target, operation }: Pattern,
  path: Path,
  where: 'list' | 'rule',
  name: string,
  { tables, tools }: PostgresResourceSettings,
  { problems }: Findings,
): void {
  const [, part, more] = target
  const complain = (what: string, given: string, known: readonly string[]): void =>
    void problems.push({ path, message: `\`${source}\`: ${what}${didYouMean(given, known)}` })
  if (more !== undefined) return complain('expected `resource.table:operation`', more, [])
  const isEffect = where === 'rule' && (effects as readonly string[]).includes(operation)
  if (part === undefined) {
    if (operation !== '*' && !isEffect && !Object.hasOwn(tools, operation))
      complain(
        `\`${name}\` has no tool \`${operation}\`; a table’s operations are \`${name}.<table>:select\` and the like`,
        operation,
        Object.keys(tools),
      )
    return
  }
  const table = Object.hasOwn(tables, part) ? tables[part] : undefined
  if (part !== '*' && table === undefined)
    return complain(`\`${name}\` has no table \`${part}\``, part, Object.keys(tables))
  const known = table === undefined ? verbs : verbsOf(table)
  if (operation !== '*' && !isEffect && !(known as readonly string[]).includes(operation))
    complain(
      `\`${name}.${part}\` has no \`${operation}\`; it has ${known.map((verb) => `\`${verb}\``).join(', ')}`,
      operation,
      known,
    )
}

/** Says what a wildcard lets through, today and later. */
function opens(pattern: Pattern, { resources }: Settings): string {
  const over = Object.entries(resources).filter(([name]) => pattern.target[0] === '*' || pattern.target[0] === name)
  const known = over.flatMap(([name, resource]) => operationsOf(name, resource, pattern))
  const list = known.length === 0 ? '' : ` (today ${known.slice(0, 10).join(', ')}${known.length > 10 ? ', …' : ''})`
  return `\`${pattern.source}\` opens everything that it fits, now and in future${list}: name the operations instead`
}

/** What a resource is known to have, by name. */
const toolsOf = (resource: ResourceSettings): Readonly<Record<string, unknown>> =>
  'mcp' in resource
    ? resource.tools
    : 'functions' in resource
      ? resource.functions
      : 'tunnel' in resource
        ? { connect: resource.effect }
        : 'postgres' in resource
          ? resource.tools
          : Array.isArray(resource.operations)
            ? Object.fromEntries(resource.operations.map((id) => [id, id]))
            : resource.operations

const operationsOf = (name: string, resource: ResourceSettings, { target, operation }: Pattern): readonly string[] =>
  target.length > 1
    ? 'postgres' in resource
      ? Object.entries(resource.tables)
          .filter(([table]) => target[1] === '*' || target[1] === table)
          .flatMap(([table, given]) => verbsOf(given).map((verb) => `${name}.${table}:${verb}`))
          .filter((permission) => operation === '*' || permission.endsWith(`:${operation}`))
      : []
    : Object.keys(toolsOf(resource))
        .filter((tool) => operation === '*' || operation === tool)
        .map((tool) => `${name}:${tool}`)

/** Whether some permission could be covered by both. */
function meet(a: Pattern, b: Pattern): boolean {
  if (a.operation !== '*' && b.operation !== '*' && a.operation !== b.operation) return false
  if (a.target[0] === '*' || b.target[0] === '*') return true
  for (let position = 0; position < Math.max(a.target.length, b.target.length); position++) {
    const [ours, theirs] = [a.target[position], b.target[position]]
    if (ours === undefined || theirs === undefined) return false
    if (ours === '*' || theirs === '*') return true
    if (ours !== theirs) return false
  }
  return true
}
