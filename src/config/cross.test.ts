import { expect, test } from 'vitest'
import { loadSettings, problemInWords, readSettings } from './load.ts'

test.each(['person', 'service', 'agent', 'session', 'key', 'jwt'])(
  'promise 5: an issuer can’t have the name `%s`, and so speak for whom it likes',
  (name) => {
    const issuer = `{ issuer: i, audience: a, keys: jwks.json, agents: [{ agent: a, claims: { sub: x } }] }`
    const text = `issuers: { ${name}: ${issuer} }\nagents: { a: {} }\n`
    expect(() => loadSettings(text, { file: '/etc/sallyport.yaml' })).toThrow(/expected another name/)
  },
)

const about = (inner: string): readonly string[] =>
  readSettings(
    `resources:\n  api:\n    operations: { op: { request: GET /, effect: read } }\n    ${inner}\nagents: { a: {} }\n`,
    { file: 'sallyport.yaml' },
  ).problems.map(problemInWords)

test.each([
  ['http: http://localhost:8080', /^sallyport.yaml:4:11: resources.api.http: .*`addresses: \[127.0.0.1, "::1"\]`$/],
  ['http: https://billing.internal', /resources.api.http: .*own network.*`addresses: \[10.20.0.0\/16\]`$/],
  ['http: https://billing/v1', /own network/],
  ['http: https://LOCALHOST.', /own network/],
  ['http: http://169.254.169.254', /resources.api.http: nothing is ever sent there: .*keep their credentials$/],
  ['http: http://2852039166', /keep their credentials$/],
  ['http: "http://[::ffff:169.254.169.254]"', /keep their credentials$/],
  [
    'http: http://169.254.169.254\n    addresses: [169.254.0.0/16]',
    /^sallyport.yaml:4:11: resources.api.http: .*keep their credentials$/,
  ],
  [
    'http: https://a.example\n    credential: { oauth: { token_url: "https://sso.corp/t", client_id: a, client_secret: b } }',
    /resources.api.credential.oauth.token_url: .*own network/,
  ],
  [
    'http: https://a.internal\n    addresses: [10.1.0.0/8]',
    /^sallyport.yaml:5:17: resources.api.addresses\[0\]: .*no network/,
  ],
])('an API that could never be reached is said where it stands: %s', (inner, expected) => {
  expect(about(inner)).toEqual([expect.stringMatching(expected)])
})

test.each([
  'http: https://10.0.0.5', // The address names itself.
  'http: http://127.0.0.1:9',
  'http: "http://[fd00::1]"',
  'http: http://localhost:8080\n    addresses: [127.0.0.1, "::1"]',
  'http: https://billing.internal\n    addresses: [10.20.0.0/16]',
  'http: https://billing.example.com',
])('one that can be is not: %s', (inner) => {
  expect(about(inner)).toEqual([])
})
