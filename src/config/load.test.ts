import { join, sep } from 'node:path'
import { expect, test } from 'vitest'
import { loadSettings, problemInWords, readSettings } from './load.ts'

const file = 'sallyport.yaml'
const problems = (text: string): readonly string[] =>
  readSettings(text, { file }).problems.map((problem) => problemInWords(problem).replace(`${file}:`, ''))
const warnings = (text: string): readonly string[] =>
  loadSettings(text, { file }).warnings.map((warning) => problemInWords(warning).replace(`${file}:`, ''))

const crm = 'resources: { crm: { mcp: { command: [crm-mcp] }, tools: { lookup: read, remove: destroy } } }\n'
const people = 'people: { anna: { roles: [approver], teams: [support] }, bert: { roles: [auditor], teams: [audit] } }\n'

test('an empty file is a start with nothing in it', () => {
  const { settings, digest } = loadSettings('', { file })
  expect(settings.agents).toEqual({})
  expect(settings.listen.agents).toEqual({ host: '127.0.0.1', port: 7400 })
  expect(settings.sessions.deadline).toBe(30 * 60_000)
  expect(digest).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
})

test('folders and files are relative to the file', () => {
  const text = `${crm}issuers: { ci: { issuer: i, audience: a, keys: jwks.json, agents: [{ agent: a, claims: { sub: x } }] } }\nagents: { a: {} }\n`
  const { settings } = loadSettings(text, { file: join(sep, 'etc', 'sallyport', file) })
  expect(settings.state).toBe(join(sep, 'etc', 'sallyport', '.sallyport'))
  expect(settings.issuers['ci']?.keys).toEqual({ file: join(sep, 'etc', 'sallyport', 'jwks.json') })
  expect(settings.resources['crm']).toMatchObject({ mcp: { cwd: join(sep, 'etc', 'sallyport') } })
})

test('an agent that says nothing of repeats is held to 20 a minute', () => {
  const { settings } = loadSettings('agents: { a: {}, b: { limits: { repeats: unlimited } } }', { file })
  expect(settings.agents['a']?.limits.repeats).toMatchObject([{ amount: 20, per: 60_000 }])
  expect(settings.agents['b']?.limits.repeats).toEqual([])
})

test.each<[string, string, RegExp]>([
  ['an unknown key', 'resorces: {}', /^1:1: resorces: unknown key; did you mean `resources`\?$/],
  [
    'an unknown key deep inside',
    'agents:\n  a:\n    my: []',
    /^3:5: agents\.a\.my: unknown key; did you mean `may`\?$/,
  ],
  ['an unknown key near to nothing', 'sessions: { colour: red }', /known here: deadline, max, depth, tokens$/],
  [
    'a wrong word',
    'agents: { a: { mode: obsrve } }',
    /^1:22: agents\.a\.mode: expected one of `observe`.*did you mean `observe`\?$/,
  ],
  ['a wrong type', 'agents: []', /^1:9: agents: expected keys and values, found a list$/],
  ['a key without a value', 'agents:\n  a:\n    may:\n', /agents\.a\.may: expected a list, found nothing$/],
  ['a missing key', 'people: { anna: { teams: [x] } }', /^1:17: people\.anna: `roles` is missing$/],
  ['a name in capitals', 'agents: { Reader: {} }', /^1:11: agents\.Reader: expected a name of/],
  ['a fact that is always there', 'facts: { agent: string }', /`id`, `agent`, `behalf` and `depth` are always there/],
  [
    'a bad duration',
    'sessions: { deadline: 30 minutes }',
    /^1:23: sessions\.deadline: expected a duration such as `30 min`/,
  ],
  [
    'a deadline beyond the longest',
    'sessions: { deadline: 9 h }',
    /sessions\.deadline: expected at most `sessions\.max`$/,
  ],
  ['a bad limit', 'agents: { a: { limits: { calls: 5/fortnight } } }', /is no limit of calls: expected `100\/min`/],
  ['a limit of everything for one session', 'limits: { calls: 5/session }', /expected a window/],
  ['repeats of everything', 'limits: { repeats: 5/min }', /limits\.repeats: unknown key/],
  [
    'a bad permission',
    `${crm}agents: { a: { may: [crm] } }`,
    /`crm` is not a permission: expected `resource\.part:operation`/,
  ],
  ['an entry that is neither', 'agents: { a: { may: [7] } }', /agents\.a\.may\[0\]: expected a permission, such as/],
  ['a bad ask', `${crm}agents: { a: { may: [{ do: crm:lookup, ask: false }] } }`, /expected `never`, `true`, or/],
  ['a rule that does nothing', 'rules: [{ when: "true" }]', /rules\[0\]: expected either `deny` or `ask`$/],
  [
    'a rule that does both',
    `${crm}rules: [{ deny: "crm:*", ask: "crm:*" }]`,
    /rules\[0\]: expected either `deny` or `ask`$/,
  ],
  ['a denial with people', `${crm}${people}rules: [{ deny: "crm:*", of: support }]`, /`of` is for rules that ask/],
  [
    'a resource of another kind',
    'resources: { db: { files: x } }',
    /kind `files` are not supported yet; kinds that are: mcp, http, functions, tunnel, postgres$/,
  ],
  ['a resource of no kind', 'resources: { db: {} }', /^1:18: resources\.db: `mcp` is missing$/],
  [
    'a server by both',
    'resources: { x: { mcp: { command: [a], url: "http://localhost" } } }',
    /either `command` or `url`/,
  ],
  ['headers of a program', 'resources: { x: { mcp: { command: [a], headers: {} } } }', /`headers` goes with `url`/],
  [
    'a credential in an address',
    'resources: { x: { mcp: { url: "https://me:hunter2@a.example" } } }',
    /^(?!.*hunter2).*without a user name/,
  ],
  [
    'a reference to a stored secret by no name',
    'resources: { x: { mcp: { command: [a], env: { K: "${secret:}" } } } }',
    /expected a name in `\$\{secret:NAME\}`/,
  ],
  [
    'two ways to sign in',
    'secrets: { sources: { vault: { url: "https://a", auth: { token: "${env:T}", kubernetes: { role: r } } } } }',
    /expected one of `token`/,
  ],
  [
    'a sign-in that stands in the file',
    'secrets: { sources: { vault: { url: "https://a", auth: { token: s.12345678 } } } }',
    /expected `\$\{env:NAME\}` or `\$\{file:path\}`/,
  ],
  [
    'a server of secrets without TLS',
    'secrets: { sources: { vault: { url: "http://a.example", auth: { kubernetes: { role: r } } } } }',
    /https:/,
  ],
  [
    'a reference where nothing is replaced',
    'resources: { x: { mcp: { command: [a, "${env:K}"] } } }',
    /mcp\.command\[1\]: nothing is replaced here/,
  ],
  [
    'an effect with a typo',
    'resources: { x: { mcp: { command: [a] }, tools: { t: raed } } }',
    /did you mean `read`\?$/,
  ],
  [
    'an effect with a typo in its long form',
    'resources: { x: { mcp: { command: [a] }, tools: { t: { effect: sned } } } }',
    /did you mean `send`\?$/,
  ],
  [
    'a digest that is none',
    'resources: { x: { mcp: { command: [a] }, pins: { t: abc } } }',
    /expected a SHA-256 digest/,
  ],
  [
    'keys over plain HTTP',
    'issuers: { x: { issuer: i, audience: a, keys: "http://a.example/jwks", agents: [{ agent: a, claims: { s: x } }] } }\nagents: { a: {} }',
    /issuers\.x\.keys: expected `https:\/\/`/,
  ],
  [
    'an issuer that any token of passes',
    'issuers: { x: { issuer: i, audience: a, keys: k, agents: [{ agent: a, claims: {} }] } }\nagents: { a: {} }',
    /at least one claim/,
  ],
  [
    'an unsigned token',
    'issuers: { x: { issuer: i, audience: a, keys: k, algorithms: [none], agents: [{ agent: a, claims: { s: x } }] } }',
    /algorithms\[0\]: expected one of/,
  ],
  [
    'one port for agents and people',
    'listen: { agents: "127.0.0.1:7400", people: "127.0.0.1:7400" }',
    /never share one/,
  ],
  [
    'two servers without a prefix',
    'resources: { a: { mcp: { command: [a] }, prefix: false }, b: { mcp: { command: [b] }, prefix: false } }',
    /^1:95: resources\.b\.prefix: only one server/,
  ],
  ['an origin with a path', 'listen: { origins: ["https://a.example/x"] }', /expected an origin/],
])('%s is refused, with its place', (_title, text, expected) => {
  expect(problems(text)).toEqual([expect.stringMatching(expected)])
})

test.each<[string, string, RegExp]>([
  [
    'an agent that is started',
    `services: { desk: { starts: [raeder] } }\nagents: { reader: {} }`,
    /no agent `raeder`; did you mean `reader`/,
  ],
  [
    'an agent of an issuer',
    'issuers: { x: { issuer: i, audience: a, keys: k, agents: [{ agent: b, claims: { s: x } }] } }',
    /no agent `b`$/,
  ],
  ['an agent of a rule', `${crm}rules: [{ deny: "crm:*", for: [b] }]`, /rules\[0\]\.for\[0\]: there is no agent `b`/],
  [
    'an agent that is lent to',
    `${crm}agents: { a: { may: [crm:lookup], lends: { b: [crm:lookup] } } }`,
    /agents\.a\.lends\.b: there is no agent/,
  ],
  ['a resource of an entry', `${crm}agents: { a: { may: ["crn:lookup"] } }`, /no resource `crn`; did you mean `crm`/],
  ['a resource of a rule', `${crm}rules: [{ deny: "crn:*" }]`, /no resource `crn`; did you mean `crm`/],
  [
    'a part of a server',
    `${crm}rules: [{ deny: "crm.resource:*" }]`,
    /no part `resource`; its parts are .*did you mean `resources`/,
  ],
  [
    'a team',
    `${crm}${people}rules: [{ ask: "crm:*", of: suport }]`,
    /rules\[0\]\.of: nobody could answer: .*did you mean `support`/,
  ],
  [
    'a team of which nobody may approve',
    `${crm}${people}rules: [{ ask: "crm:*", of: audit }]`,
    /of `audit`, nobody has the role/,
  ],
  [
    'more people than a team has',
    `${crm}${people}rules: [{ ask: "crm:*", of: support, count: 2 }]`,
    /2 people are asked for, and only 1/,
  ],
  [
    'more people than there are',
    `${crm}${people}agents: { a: { may: [{ do: crm:lookup, ask: { count: 3 } }] } }`,
    /3 people are asked for, and only 1 of all/,
  ],
  [
    'people of the default question',
    `${people}approvals: { people: nobody }`,
    /approvals\.people: nobody could answer/,
  ],
  [
    'a team named as a person',
    'people: { anna: { roles: [admin], teams: [bert] }, bert: { roles: [admin] } }',
    /people\.bert: a team has this name/,
  ],
  [
    'something lent that is not held',
    `${crm}agents: { a: { may: [crm:lookup], lends: { b: [crm:remove] } }, b: {} }`,
    /`a` cannot lend `crm:remove`/,
  ],
])('%s that is not there is refused', (_title, text, expected) => {
  expect(problems(text)).toEqual([expect.stringMatching(expected)])
})

test('what an agent was lent it may lend on', () => {
  const text = `${crm}agents: { a: { may: [crm:lookup], lends: { b: [crm:lookup] } }, b: { lends: { c: [crm:lookup] } }, c: {} }`
  expect(problems(text)).toEqual([])
})

test.each<[string, string, RegExp]>([
  [
    'a wildcard',
    `${crm}agents: { a: { may: ["crm:*"] } }`,
    /`crm:\*` opens everything .*\(today crm:lookup, crm:remove\)/,
  ],
  [
    'a wildcard that is lent',
    `${crm}agents: { a: { may: [crm:lookup], lends: { a: ["*:lookup"] } } }`,
    /agents\.a\.lends\.a\[0\]: `\*:lookup` opens/,
  ],
  ['an observed agent', 'agents: { a: { mode: observe } }', /agents\.a\.mode: policy refuses nothing/],
  [
    'a tool that is not described',
    `${crm}agents: { a: { may: [crm:lookpu] } }`,
    /counts as `destroy`; did you mean `lookup`/,
  ],
  [
    'an effect in an allow-list',
    `${crm}agents: { a: { may: ["crm:read"] } }`,
    /an allow-list names operations, not effects/,
  ],
  [
    'an entry that stands twice',
    `${crm}agents: { a: { may: [crm:lookup, crm:lookup] } }`,
    /the same as the entry at \[0\]/,
  ],
  ['an address that others reach', 'listen: { agents: "0.0.0.0:7400" }', /other machines can reach this/],
  ['a server without encryption', 'resources: { x: { mcp: { url: "http://crm.internal/mcp" } } }', /use `https:\/\/`/],
  [
    'a credential in the file',
    'resources: { x: { mcp: { command: [a], env: { API_KEY: hunter2 } } } }',
    /^(?!.*hunter2).*a credential stands in this file/,
  ],
])('%s is a warning', (_title, text, expected) => {
  expect(warnings(text)).toEqual([expect.stringMatching(expected)])
})

test('all problems are listed, in the order of the file', () => {
  const text = 'agents: { a: { mode: x } }\nrules: [{}]\nlisten: { agents: y }\n'
  expect(() => loadSettings(text, { file })).toThrow(
    /^sallyport\.yaml has 3 problems:\n {2}sallyport\.yaml:1:.*\n.*:2:.*\n.*:3:/,
  )
})

test.each<[string, string, RegExp]>([
  ['a key that stands twice', 'agents: {}\nagents: {}\n', /^2:1: .*unique/i],
  ['broken YAML', 'agents: {', /^1:10: /],
  ['two documents', 'agents: {}\n---\nagents: {}\n', /multiple documents/i],
  ['a tag of another schema', 'agents: !!binary aGk=\n', /tag/i],
  ['a tag that makes code', 'agents: !!js/function "x"\n', /tag/i],
  ['YAML 1.1', '%YAML 1.1\n---\nagents: {}\n', /no `%YAML` directive/],
  ['a merge key', 'agents:\n  a: &a { mode: observe }\n  b:\n    <<: *a\n', /merge keys are not supported/],
  ['a key that is no text', 'agents: { [a]: {} }\n', /keys? .*string/i],
  ['an anchor that is not there', 'agents: *nobody\n', /alias|anchor/i],
])('%s is refused', (_title, text, expected) => {
  expect(problems(text)[0]).toMatch(expected)
})

test('`yes` and `no` are words, not truths', () => {
  expect(problems('resources: { x: { mcp: { command: [a] }, sampling: yes } }')[0]).toMatch(
    /expected `true` or `false`, found text/,
  )
})

test('an anchor stands for a value where it is used', () => {
  const text = `${crm}agents: { a: { may: &list [crm:lookup] }, b: { may: *list } }`
  expect(loadSettings(text, { file }).settings.agents['b']?.may).toHaveLength(1)
})

test.each<[string, string]>([
  [
    'a file that unfolds a millionfold',
    [
      'a: &a [x,x,x,x,x,x,x,x,x,x]',
      ...'bcdefgh'.split('').map((name, at) => `${name}: &${name} [${Array(10).fill(`*${'abcdefg'[at]}`).join()}]`),
    ].join('\n'),
  ],
  ['an anchor within itself', 'agents: &a { a: *a }'],
  ['100,000 levels', '['.repeat(100_000)],
  ['a huge file', `# ${'x'.repeat(3_000_000)}`],
  ['control characters', 'agents: "\u0000\u0001"'],
])('%s is refused, and ends soon', (_title, text) => {
  expect(problems(text).length).toBeGreaterThan(0)
})

test('names that objects have anyway are names like any other', () => {
  expect(problems('agents: { constructor: { lends: { constructor: [] } } }')).toEqual([])
  expect(problems('services: { x: { starts: [constructor] } }')[0]).toMatch(/no agent `constructor`/)
  expect(problems('agents: { __proto__: {} }')[0]).toMatch(/^1:11: expected a name other than/)
})
