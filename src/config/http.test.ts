import { expect, test } from 'vitest'
import { loadSettings, problemInWords, readSettings } from './load.ts'
import type { HttpResourceSettings, WrittenOperation } from './http.ts'

const file = 'sallyport.yaml'
const resource = (more: string): string => `resources: { api: { http: "https://api.example", ${more} } }`
const operation = (inner: string): string => resource(`operations: { op: { ${inner} } }`)
const problems = (text: string): readonly string[] =>
  readSettings(text, { file }).problems.map((problem) => problemInWords(problem).replace(`${file}:`, ''))
const warnings = (text: string): readonly string[] =>
  loadSettings(text, { file }).warnings.map((warning) => problemInWords(warning).replace(`${file}:`, ''))

function read(text: string): WrittenOperation {
  const api = loadSettings(text, { file }).settings.resources['api'] as HttpResourceSettings
  return (api.operations as Record<string, WrittenOperation>)['op']!
}

test('arguments of path, query and body stand side by side', () => {
  const { schema, parameters, content, path } = read(
    operation(
      'request: "POST /v1/refunds/{id}", effect: destroy, query: { dry: { type: boolean } }, required: [dry], body: { type: object, properties: { amount: { type: integer } }, required: [amount] }',
    ),
  )
  expect(schema).toEqual({
    type: 'object',
    properties: { id: { type: 'string' }, dry: { type: 'boolean' }, amount: { type: 'integer' } },
    required: ['id', 'dry', 'amount'],
    additionalProperties: false,
  })
  expect(parameters).toMatchObject({ required: ['id', 'dry'], additionalProperties: false })
  expect(content).toMatchObject({ kind: 'json', isFlat: true, schema: { additionalProperties: false } })
  expect(path).toEqual(['v1', 'refunds', { name: 'id', isRest: false }])
})

test('a body that says something of the whole is one argument', () => {
  expect(
    read(operation('request: POST /x, effect: write, body: { oneOf: [{ type: string }, { type: array }] }')).schema,
  ).toMatchObject({ properties: { body: { oneOf: [{}, {}] } }, required: ['body'] })
  expect(
    read(operation('request: POST /x, effect: write, body: { type: object, properties: { a: {} }, minProperties: 1 }'))
      .content,
  ).toMatchObject({ isFlat: false })
})

test.each<[string, string, RegExp]>([
  [
    'an address with a password',
    'resources: { api: { http: "https://u:p@x.example", operations: { op: { request: GET /, effect: read } } } }',
    /resources\.api\.http: .*credentials go in `credential`$/,
  ],
  [
    'a token that is revoked elsewhere than it was given out',
    'resources: { api: { http: "https://x.example", credential: { oauth: { token_url: "https://a.example/t", revoke_url: "https://b.example/r", client_id: a, client_secret: b, per: session } }, operations: { op: { request: GET /, effect: read } } } }',
    /resources\.api\.credential\.oauth\.revoke_url: expected an address with the scheme, host and port of `token_url`/,
  ],
  [
    'an address of another protocol',
    'resources: { api: { http: "ftp://x", operations: { op: { request: GET /, effect: read } } } }',
    /begins with `https:\/\/`/,
  ],
  [
    'an address with dots',
    'resources: { api: { http: "https://x.example/a/../b", operations: { op: { request: GET /, effect: read } } } }',
    /segments of dots/,
  ],
  ['no operations', resource('trust: trusted'), /resources\.api\.operations: expected operations by name/],
  [
    'an unknown key',
    operation('request: GET /, effect: read, boddy: {}'),
    /op\.boddy: unknown key; did you mean `body`\?$/,
  ],
  ['no effect', operation('request: GET /'), /resources\.api\.operations\.op: `effect` is missing$/],
  ['no request', operation('effect: read'), /resources\.api\.operations\.op: `request` is missing$/],
  ['a method that is none', operation('request: FETCH /x, effect: read'), /op\.request: expected a method/],
  ['a path without a slash', operation('request: GET x, effect: read'), /op\.request: expected a method/],
  ['an empty segment', operation('request: GET /a//b, effect: read'), /empty segment/],
  ['segments of dots', operation('request: GET /a/../b, effect: read'), /segment of dots/],
  ['an encoded segment', operation('request: GET /a%2fb, effect: read'), /nothing is encoded/],
  ['half a segment', operation('request: "GET /a/{b}.json", effect: read'), /is a whole segment/],
  ['a rest that is not at the end', operation('request: "GET /{+a}/b", effect: read'), /last segment/],
  ['a place that stands twice', operation('request: "GET /{a}/{a}", effect: read'), /stands twice/],
  ['a body of a GET', operation('request: GET /, effect: read, body: { type: object }'), /a GET has no body/],
  ['two bodies', operation('request: POST /, effect: write, body: {}, form: {}'), /either `body` or `form`/],
  [
    'an argument in two places',
    operation('request: "POST /{id}", effect: write, body: { properties: { id: {} } }'),
    /op\.body: `id` is an argument already/,
  ],
  [
    'a value of path and query',
    operation('request: "GET /{id}", effect: read, query: { id: {} }'),
    /op\.query\.id: .*one place/,
  ],
  [
    'a schema of a value that is not in the path',
    operation('request: "GET /{id}", effect: read, path: { it: {} }'),
    /op\.path\.it: .*has no `\{it\}`/,
  ],
  [
    'a required value that is not there',
    operation('request: GET /, effect: read, required: [a]'),
    /there is no value `a`/,
  ],
  [
    'query and body both open',
    operation(
      'request: POST /, effect: write, query: { "*": {} }, body: { properties: {}, additionalProperties: true }',
    ),
    /both be open/,
  ],
  ['a schema that is none', operation('request: POST /, effect: write, body: { type: objekt }'), /op\.body: /],
  [
    'a credential among the headers',
    operation('request: GET /, effect: read, headers: [Authorization]'),
    /op\.headers\[0\]: .*never passed on/,
  ],
  [
    'a header of the connection',
    operation('request: GET /, effect: read, headers: [X-Forwarded-For]'),
    /never passed on/,
  ],
  [
    'two operations for one request',
    resource(
      'operations: { a: { request: "GET /x/{id}", effect: read }, b: { request: "GET /x/{no}", effect: read } }',
    ),
    /operations\.b\.request: `a` takes the same requests$/,
  ],
  ['a list without a document', resource('operations: [a]'), /operations: a list names operations of a document/],
  [
    'a credential of two kinds',
    resource(
      'credential: { bearer: a, query: { name: b, value: c } }, operations: { op: { request: GET /, effect: read } }',
    ),
    /credential: expected one of/,
  ],
  [
    'a reference where nothing is replaced',
    'resources: { api: { http: "https://${env:HOST}", operations: { op: { request: GET /, effect: read } } } }',
    /http: /,
  ],
  [
    'a network that is none',
    resource('addresses: [10.0.0.0/8x], operations: { op: { request: GET /, effect: read } }'),
    /addresses\[0\]: expected an address or a network/,
  ],
  [
    'a permission that leads nowhere',
    `${operation('request: GET /, effect: read')}\nagents: { a: { may: ["api:opp"] } }`,
    /there is no `api:opp`; did you mean `op`\?$/,
  ],
  [
    'a part of an API',
    `${operation('request: GET /, effect: read')}\nagents: { a: { may: ["api.tools:op"] } }`,
    /has no parts/,
  ],
])('%s is refused, with its place', (_title, text, expected) => {
  expect(problems(text).join('\n')).toMatch(expected)
})

test('what is unwise is said', () => {
  const text =
    'resources: { api: { http: "http://api.example", credential: { bearer: abc }, operations: { op: { request: GET /, effect: read } } } }'
  expect(warnings(text)).toEqual([
    expect.stringMatching(/http: nothing is encrypted/),
    expect.stringMatching(/credential\.bearer: a credential stands in this file/),
  ])
})
