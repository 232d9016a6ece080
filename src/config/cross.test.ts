import { expect, test } from 'vitest'
import { loadSettings } from './load.ts'

test.each(['person', 'service', 'agent', 'session', 'key', 'jwt'])(
  'promise 5: an issuer can’t have the name `%s`, and so speak for whom it likes',
  (name) => {
    const issuer = `{ issuer: i, audience: a, keys: jwks.json, agents: [{ agent: a, claims: { sub: x } }] }`
    const text = `issuers: { ${name}: ${issuer} }\nagents: { a: {} }\n`
    expect(() => loadSettings(text, { file: '/etc/sallyport.yaml' })).toThrow(/expected another name/)
  },
)
