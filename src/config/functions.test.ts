import { expect, test } from 'vitest'
import { compileCondition } from '../guard/condition.ts'
import { checkSettings } from './check.ts'
import { compilePolicy } from './compile.ts'
import { functionArguments } from './functions.ts'
import { loadSettings, problemInWords } from './load.ts'

const settings = (functions: string, more = '') => `
resources: { mail: { functions: ${functions} } }
agents: { helper: { may: ['mail:send_mail'${more}] } }
`
const problems = async (text: string): Promise<readonly string[]> =>
  (await checkSettings(text, 'sallyport.yaml')).problems.map(problemInWords)

const described =
  '{ send_mail: { effect: send, arguments: { type: object, properties: { to: { type: string } } } }, count: read }'

test('a function is an effect, or more', () => {
  const { settings: read } = loadSettings(settings(described), { file: 'sallyport.yaml' })
  expect(read.resources['mail']).toMatchObject({
    functions: { send_mail: { effect: 'send', label: {} }, count: { effect: 'read', label: {} } },
    trust: 'untrusted',
    readers: 'internal',
    timeout: 60_000,
    result: 1_000_000,
  })
})

test.each([
  ['no effect', '{ send_mail: { arguments: {} } }', /send_mail\.effect: expected one of/],
  ['a schema that is none', '{ send_mail: { effect: send, arguments: { type: text } } }', /send_mail\.arguments: /],
  [
    'a schema from elsewhere',
    '{ send_mail: { effect: send, returns: { $ref: "https://x.test/s" } } }',
    /send_mail\.returns: /,
  ],
  ['an unknown key', '{ send_mail: { effect: send, argument: {} } }', /argument: unknown key.*`arguments`/],
  ['a permission for what is not there', '{ sendmail: send }', /there is no `mail:send_mail`.*`sendmail`/],
])('%s is a problem', async (_what, functions, words) => {
  expect(await problems(settings(functions))).toEqual([expect.stringMatching(words)])
})

test('conditions are checked against the arguments when the file is', async () => {
  const when = (text: string): string => settings(described, `, { do: 'mail:send_mail', when: "${text}" }`)
  expect(await problems(when("args.to == 'a@acme.test'"))).toEqual([])
  expect(await problems(when("args.too == 'a@acme.test'"))).toEqual([expect.stringMatching(/may\[1\]\.when: .*too/)])
  expect(() => compilePolicy(loadSettings(when('args.to > 5'), { file: 'x' }), { compileCondition })).toThrow(/when/)
})

test('arguments are known of functions alone', () => {
  const { resources } = loadSettings(settings(described), { file: 'sallyport.yaml' }).settings
  expect(functionArguments(resources, 'mail:send_mail')).toMatchObject({ type: 'object' })
  for (const other of ['mail:count', 'mail:toString', 'mail.part:send_mail', 'toString:x', 'nothing', ''])
    expect(functionArguments(resources, other)).toBeUndefined()
})
