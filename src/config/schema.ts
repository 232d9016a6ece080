import { z } from 'zod'
import type { FactType } from '../core/condition.ts'
import { Failure } from '../core/failure.ts'
import { effects, parsePattern } from '../core/permission.ts'
import { defaultDepth } from '../core/session.ts'
import { functionsResource } from './functions.ts'
import { duration, effect, headerName, named, readers, size, textRead, toolName, trust } from './forms.ts'
import { httpResource } from './http.ts'
import { agentLimits, entryLimits, limitsOfCalls, limitsOfEverything } from './limits.ts'
import { postgresResource } from './postgres.ts'
import { parseTemplate } from './reference.ts'
import { tunnelResource } from './tunnel.ts'
import { secretSettings } from './vault.ts'

// The one description of `sallyport.yaml`. Types, defaults, the JSON Schema for editors and the reference page all
// come from here, so every key says in a sentence what it is for.

const pattern = textRead(parsePattern).describe(
  'A permission: `resource.part:operation`; `*` stands for one whole segment.',
)

const agentName = named(
  /^[a-z][a-z0-9-]{0,31}$/,
  'at most 32 lower-case letters, digits and `-`, beginning with a letter',
)
const personName = named(
  /^[a-z][a-z0-9._-]{0,63}$/,
  'at most 64 lower-case letters, digits, `.`, `_` and `-`, beginning with a letter',
)
const alias = named(/^[a-z][a-z0-9-]{0,15}$/, 'at most 16 lower-case letters, digits and `-`, beginning with a letter')
const environmentName = named(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'letters, digits and `_`')
const factName = named(
  /^[a-z][a-z0-9_]{0,63}$/,
  'at most 64 lower-case letters, digits and `_`, beginning with a letter',
).refine(
  (name) => !reservedFacts.includes(name),
  'expected another name: `id`, `agent`, `behalf` and `depth` are always there',
)
const reservedFacts = ['id', 'agent', 'behalf', 'depth']

const because = z.string().min(1).max(500).describe('The reason in words. Agents and approvers see it.').optional()
const when = z
  .string()
  .min(1)
  .max(4000)
  .describe('A condition in CEL over `args`, `session`, `flow` and `now`. One that cannot be evaluated denies.')
  .optional()

// Addresses -----------------------------------------------------------------------------------------------------------

export interface Address {
  readonly host: string
  readonly port: number
}

function parseAddress(text: string): Address {
  const parts = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):(\d{1,5})$/.exec(text)
  const port = Number(parts?.[3])
  if (parts === null || port > 65_535)
    throw new Failure('invalid', 'expected an address and a port, such as `127.0.0.1:7400` or `[::1]:7400`')
  return { host: parts[1] ?? parts[2] ?? '', port }
}

/** Whether a host is this machine alone. A name other than `localhost` is not trusted to be. */
export const isLoopback = (host: string): boolean =>
  /^127(?:\.\d{1,3}){3}$/.test(host) || host === 'localhost' || host === '::1' || host === '[::1]'

function parseWebUrl(text: string): string {
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:'))
    throw new Failure('invalid', 'expected an address that begins with `https://` or `http://`')
  if (url.username !== '' || url.password !== '')
    throw new Failure('invalid', 'expected an address without a user name or password; credentials go in `headers`')
  if (url.hash !== '') throw new Failure('invalid', 'expected an address without `#`')
  return url.href
}

function parseOrigin(text: string): string {
  const url = URL.parse(text)
  if (url === null || url.origin === 'null' || url.origin !== text.toLowerCase())
    throw new Failure('invalid', 'expected an origin, such as `https://desk.example.com`, without a path')
  return url.origin
}

export type KeySource = { readonly url: string } | { readonly file: string }

function parseKeySource(text: string): KeySource {
  if (!/^https?:\/\//i.test(text)) return { file: text }
  const url = parseWebUrl(text)
  const { protocol, hostname } = new URL(url)
  if (protocol === 'http:' && !isLoopback(hostname))
    throw new Failure('invalid', 'expected `https://`: whoever can change the keys on their way can be any agent')
  return { url }
}

const webUrl = textRead(parseWebUrl)

// Questions to people -------------------------------------------------------------------------------------------------

const people = personName.describe('A team, or one person. Left out: anyone who may approve.')
const count = z.int().min(1).max(20).describe('How many different people have to agree.')
const withinTime = duration.describe('How long the question stands.')
const self = z
  .boolean()
  .describe('Whether who started the session, or on whose behalf it runs, may answer. For one person alone: `true`.')

const askOfEntry = z.union(
  [
    z.literal('never'),
    z.literal(true),
    z.strictObject({
      people: people.optional(),
      count: count.optional(),
      within: withinTime.optional(),
      self: self.optional(),
    }),
  ],
  { error: 'expected `never`, `true`, or `{ people, count, within, self }`' },
)

const entryObject = z.strictObject({
  do: pattern,
  when,
  ask: askOfEntry
    .describe('People who have to agree: `true` for the default question. `never`: nobody, not even for `destroy`.')
    .optional(),
  because,
  limits: entryLimits.describe('Limits of this entry alone, for its agent.').prefault({}),
})

const entry = z.union([pattern.transform((read) => entryObject.parse({ do: read.source })), entryObject], {
  error: 'expected a permission, such as `crm:lookup_customer`, or `{ do, when, ask, because, limits }`',
})

const patterns = z
  .union([pattern.transform((one) => [one]), z.array(pattern).min(1).max(100)], {
    error: 'expected a permission, such as `*:send`, or a list of them',
  })
  .describe('What the rule is over. An effect in place of an operation stands for all that have it: `*:send`.')

const rule = z
  .strictObject({
    deny: patterns.optional(),
    ask: patterns.optional(),
    when,
    of: people.optional(),
    count: count.optional(),
    within: withinTime.optional(),
    self: self.optional(),
    because,
    for: z.array(agentName).min(1).describe('The agents that it is over. Left out: all.').optional(),
  })
  .superRefine((given, context) => {
    if ((given.deny === undefined) === (given.ask === undefined))
      context.addIssue({ code: 'custom', message: 'expected either `deny` or `ask`' })
    if (given.deny === undefined) return
    for (const key of ['of', 'count', 'within', 'self'] as const)
      if (given[key] !== undefined)
        context.addIssue({ code: 'custom', path: [key], message: `\`${key}\` is for rules that ask; this one denies` })
  })

// Resources -----------------------------------------------------------------------------------------------------------

const tool = z
  .union(
    [
      effect.transform((only) => ({ effect: only, trust: undefined, readers: undefined })),
      z.strictObject({
        effect: effect.describe('What the tool does to the world.'),
        trust: trust.optional(),
        readers: readers.optional(),
      }),
    ],
    { error: `expected an effect (${effects.join(', ')}) or \`{ effect, trust, readers }\`` },
  )
  .describe('The effect, or more. A tool that is not described counts as `destroy`.')

const upstream = z
  .strictObject({
    command: z.array(z.string().min(1)).min(1).describe('The program to start and its arguments.').optional(),
    env: z
      .record(environmentName, textRead(parseTemplate))
      .describe(
        'Environment of the program, beside a minimal one. May hold `${secret:NAME}`, `${vault:path#field}`, `${env:NAME}` and `${file:path}`.',
      )
      .optional(),
    cwd: z
      .string()
      .min(1)
      .describe('Folder to start it in, relative to this file. Default: the folder of this file.')
      .optional(),
    url: webUrl.describe('Address of a server that runs elsewhere (Streamable HTTP).').optional(),
    headers: z
      .record(headerName, textRead(parseTemplate))
      .describe('Headers of each request to it. May hold the same.')
      .optional(),
    era: z
      .enum(['auto', 'legacy', 'modern'])
      .describe(
        'Which generation of the protocol the server speaks: `legacy` up to 2025-11-25, `modern` from 2026-07-28. Default: `auto`.',
      )
      .optional(),
  })
  .transform((given, context): Upstream => {
    const wrong = (message: string, path: string[] = []): never => {
      context.issues.push({ code: 'custom', message, path, input: undefined })
      return z.NEVER
    }
    const { command, env, cwd, url, headers, era = 'auto' } = given
    if (command !== undefined && url !== undefined) return wrong('expected either `command` or `url`, not both')
    if (command !== undefined) {
      if (headers !== undefined) return wrong('`headers` goes with `url`; a program has `env`', ['headers'])
      return { kind: 'stdio', command, env: env ?? {}, cwd: cwd ?? '.', era }
    }
    if (url === undefined) return wrong('expected `command` or `url`')
    if (env !== undefined) return wrong('`env` goes with `command`; a server at an address has `headers`', ['env'])
    if (cwd !== undefined) return wrong('`cwd` goes with `command`', ['cwd'])
    return { kind: 'http', url, headers: headers ?? {}, era }
  })

export type Era = 'auto' | 'legacy' | 'modern'
export type Upstream =
  | {
      readonly kind: 'stdio'
      readonly command: readonly string[]
      readonly env: Readonly<Record<string, ReturnType<typeof parseTemplate>>>
      readonly cwd: string
      readonly era: Era
    }
  | {
      readonly kind: 'http'
      readonly url: string
      readonly headers: Readonly<Record<string, ReturnType<typeof parseTemplate>>>
      readonly era: Era
    }

const labels = z.strictObject({ trust: trust.optional(), readers: readers.optional() })

const mcpResource = z.strictObject({
  mcp: upstream.describe('An MCP server: `command` starts one here, `url` reaches one elsewhere.'),
  tools: z.record(toolName, tool).describe('What its tools do, by the name that the server gives them.').prefault({}),
  resources: labels.describe('Labels of its resources, where they differ from those of the whole.').prefault({}),
  prompts: labels.describe('Labels of its prompts, where they differ from those of the whole.').prefault({}),
  trust: trust.default('untrusted'),
  readers: readers.default('internal'),
  pins: z
    .union(
      [
        z.literal('first-sight'),
        z.record(toolName, z.string().regex(/^[0-9a-f]{64}$/, 'expected a SHA-256 digest: 64 hexadecimal digits')),
      ],
      { error: 'expected `first-sight`, or digests by tool' },
    )
    .default('first-sight')
    .describe('How definitions of tools are held: to what was seen first, or to these digests (SHA-256, hexadecimal).'),
  sampling: z.boolean().default(false).describe('Whether the server may ask the agent to run its model.'),
  elicitation: z.boolean().default(true).describe('Whether the server may ask the user of the agent something.'),
  roots: z.boolean().default(false).describe('Whether the server may ask which folders the agent works in.'),
  prefix: z
    .boolean()
    .default(true)
    .describe(
      'Whether agents see its tools as `<name>__<tool>`. Without, names are as the server gives them; one server at most.',
    ),
  timeout: duration.prefault('60 s').describe('How long a call may take.'),
  result: size.prefault('1 MB').describe('How large a result may be. A larger one is refused.'),
  limits: limitsOfCalls,
})

/** In the order of `resourceKinds`. */
const resource = z.union([mcpResource, httpResource, functionsResource, tunnelResource, postgresResource])

// Listeners -----------------------------------------------------------------------------------------------------------

const sqlListener = z.union(
  [
    textRead(parseAddress).transform((at): SqlListener => ({ at })),
    z
      .strictObject({
        at: textRead(parseAddress).describe('Address and port.'),
        certificate: z.string().min(1).describe('A file with the certificate of this server and its chain (PEM).'),
        key: z.string().min(1).describe('A file with its private key (PEM).'),
      })
      .transform(({ at, certificate, key }): SqlListener => ({ at, tls: { certificate, key } })),
  ],
  { error: 'expected an address and a port, or `{ at, certificate, key }`' },
)

export interface SqlListener {
  readonly at: Address
  /** Files, relative to the configuration. */
  readonly tls?: { readonly certificate: string; readonly key: string }
}

// The whole -----------------------------------------------------------------------------------------------------------

const factTypes = [
  'string',
  'int',
  'double',
  'bool',
  'timestamp',
  'list<string>',
  'list<int>',
] as const satisfies FactType[]

const agent = z.strictObject({
  mode: z
    .enum(['observe', 'standard', 'lockdown'])
    .default('standard')
    .describe(
      '`observe` records what would have been refused and refuses nothing by policy; `lockdown` asks for every change after an untrusted read.',
    ),
  may: z
    .array(entry)
    .max(10_000)
    .describe('The allow-list. What is not in it does not exist for the agent.')
    .prefault([]),
  lends: z
    .record(agentName, z.array(entry).max(10_000))
    .describe('What it may hand on, by the agent that it may hand it to.')
    .prefault({}),
  limits: agentLimits
    .describe('Limits of all its sessions together; those per `session` and `repeats`, of each.')
    .prefault({}),
})

const claim = z.union([z.string(), z.number(), z.boolean()])

const issuer = z.strictObject({
  issuer: z.string().min(1).describe('The `iss` that its tokens have, exactly.'),
  audience: z.string().min(1).describe('The `aud` that a token for Sallyport has, exactly.'),
  keys: textRead(parseKeySource).describe(
    'Its public keys (JWKS): an `https://` address, or a file, relative to this one.',
  ),
  algorithms: z
    .array(
      z.enum(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']),
    )
    .min(1)
    .default(['RS256', 'ES256', 'EdDSA'])
    .describe('Signatures that are accepted.'),
  agents: z
    .array(
      z.strictObject({
        agent: agentName.describe('The agent that a token stands for.'),
        claims: z
          .record(z.string().min(1), claim)
          .refine(
            (claims) => Object.keys(claims).length > 0,
            'expected at least one claim: else every token of the issuer would do',
          )
          .describe('Claims that the token must have, with exactly these values.'),
      }),
    )
    .min(1)
    .describe('Which tokens stand for which agent. A token has to fit exactly one.'),
})

export const settingsSchema = z
  .strictObject({
    listen: z
      .strictObject({
        agents: textRead(parseAddress).prefault('127.0.0.1:7400').describe('Where agents connect.'),
        people: textRead(parseAddress)
          .prefault('127.0.0.1:7401')
          .describe('Where people and the command line connect. Never the same as that of agents.'),
        proxy: textRead(parseAddress)
          .describe(
            'Where agents connect that use Sallyport as their HTTP proxy (`HTTPS_PROXY`), such as `127.0.0.1:7402`. Left out: nowhere.',
          )
          .optional(),
        sql: sqlListener
          .describe(
            'Where agents connect that speak the protocol of PostgreSQL, such as `127.0.0.1:7432`. Left out: nowhere.',
          )
          .optional(),
        hosts: z
          .array(z.string().regex(/^[A-Za-z0-9.[\]:-]{1,253}$/, 'expected a host name'))
          .default([])
          .describe(
            'Host names that requests may carry, beside those of the addresses. Others are refused (DNS rebinding).',
          ),
        origins: z
          .array(textRead(parseOrigin))
          .prefault([])
          .describe('Origins of web pages that may send requests. None unless listed.'),
        url: webUrl
          .describe('The address by which agents reach Sallyport, where it stands behind another name.')
          .optional(),
      })
      .describe('Addresses. All are on this machine alone unless said otherwise.')
      .prefault({}),
    state: z
      .string()
      .min(1)
      .default('.sallyport')
      .describe('The folder of the database, the audit log and keys, relative to this file.'),
    facts: z
      .record(factName, z.enum(factTypes))
      .describe(
        'What a session may know from whoever starts it, with its type; conditions read it as `session.<name>`.',
      )
      .prefault({}),
    people: z
      .record(
        personName,
        z.strictObject({
          roles: z
            .array(z.enum(['admin', 'approver', 'auditor']))
            .min(1)
            .describe('`admin` may do everything, `approver` may answer questions, `auditor` may read the audit log.'),
          teams: z.array(personName).default([]).describe('What a question may be put to.'),
        }),
      )
      .describe('People who may sign in.')
      .prefault({}),
    services: z
      .record(
        agentName,
        z.strictObject({ starts: z.array(agentName).min(1).describe('The agents for which it may start sessions.') }),
      )
      .describe('Programs that may start sessions for agents, such as a ticket system.')
      .prefault({}),
    issuers: z
      .record(agentName, issuer)
      .describe('Issuers of signed tokens (OIDC) by which agents may prove who they are.')
      .prefault({}),
    sessions: z
      .strictObject({
        deadline: duration
          .prefault('30 min')
          .describe('How long a session lasts unless said otherwise when it starts.'),
        max: duration.prefault('8 h').describe('How long a session may last at most.'),
        depth: z
          .int()
          .min(1)
          .max(16)
          .default(defaultDepth)
          .describe('How many sessions may stand in one chain of delegation.'),
        tokens: z
          .enum(['opaque', 'jwt'])
          .default('opaque')
          .describe('`opaque`: random, known to this server alone. `jwt`: signed, so that others can verify it.'),
      })
      .describe('Runs of agents.')
      .prefault({}),
    approvals: z
      .strictObject({
        people: people.optional(),
        count: count.default(1),
        within: withinTime.prefault('15 min'),
        self: self.default(false),
        hold: duration
          .prefault('45 s')
          .describe('How long a call waits for an answer before the agent is told that it is pending.'),
        hold_with_progress: duration
          .prefault('4 min')
          .describe('The same, for an agent that asked to be told of progress.'),
      })
      .describe('The question to people where no rule says another: of whom, of how many, for how long.')
      .prefault({}),
    audit: z
      .strictObject({
        retention: duration.prefault('180 days').describe('How long events are kept.'),
        segment: size.prefault('64 MB').describe('How large one file of the log grows.'),
        keep: size
          .prefault('16 kB')
          .describe('How much of the arguments and of the result an event keeps, each. Digests are over the whole.'),
      })
      .describe('The audit log.')
      .prefault({}),
    limits: limitsOfEverything.describe('Limits for everything together.').prefault({}),
    secrets: secretSettings
      .describe('Secrets that are kept elsewhere. Those in the store are set with `sallyport secrets`.')
      .prefault({}),
    resources: z
      .record(alias, resource)
      .describe('What agents may be let near, by the name that permissions use.')
      .prefault({}),
    agents: z.record(agentName, agent).describe('The agents, and what each may do.').prefault({}),
    rules: z
      .array(rule)
      .max(100_000)
      .describe(
        'What is forbidden, or asked about, whatever allow-lists say. `deny` beats `ask` beats `allow`; the order never matters.',
      )
      .prefault([]),
  })
  .describe('Configuration and policy of Sallyport.')

/** `sallyport.yaml` as it was read: defaults filled in, durations in milliseconds, sizes in bytes, permissions parsed. */
export type Settings = z.output<typeof settingsSchema>
export type AgentSettings = Settings['agents'][string]
export type EntrySettings = AgentSettings['may'][number]
export type RuleSettings = Settings['rules'][number]
export type ResourceSettings = Settings['resources'][string]
export type McpResourceSettings = z.output<typeof mcpResource>
export type { FunctionsResourceSettings } from './functions.ts'
export type { HttpResourceSettings } from './http.ts'
export type { PostgresResourceSettings } from './postgres.ts'
export type { TunnelResourceSettings } from './tunnel.ts'
export type LimitSettings = EntrySettings['limits']

/** The kinds of resource that there are. */
export const resourceKinds = ['mcp', 'http', 'functions', 'tunnel', 'postgres'] as const
