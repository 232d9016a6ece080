import { describe, expect, test } from 'vitest'
import { loadSettings } from './load.ts'

const load = (yaml: string) => loadSettings(yaml, { file: '/nowhere/sallyport.yaml' })

const withHost = (host: string) => `listen: { proxy: "127.0.0.1:7402" }\nresources: { out: { tunnel: ["${host}"] } }`

describe('resources of kind tunnel', () => {
  test.each([
    ['pypi.org', { host: 'pypi.org', port: 443 }],
    ['db.example.com:5433', { host: 'db.example.com', port: 5433 }],
    ['xn--bcher-kva.example', { host: 'xn--bcher-kva.example', port: 443 }],
    ['192.0.2.7:8443', { host: '192.0.2.7', port: 8443 }],
    ['[2001:db8::1]', { host: '2001:db8::1', port: 443 }],
  ])('%s is one host', (text, host) => {
    const { settings } = load(withHost(text))
    expect(settings.resources['out']).toMatchObject({ tunnel: [host], effect: 'send' })
  })

  test.each([
    '*.example.com',
    '*',
    'Example.com',
    'bücher.example',
    'https://a.example',
    'a.example/x',
    'a@b.example',
    'a.example:0',
    'a.example:99999',
    '0x7f.1',
    '127.1',
    'a..b',
    'a.example.',
    '[::ffff:1.2.3.4]',
    '-a.example',
  ])('promise 3: %s is refused at the start', (text) => {
    expect(() => load(withHost(text))).toThrow(/expected one host/)
  })

  test('promise 3: a host is opened or passed unopened, never both', () => {
    const yaml = `
listen: { proxy: "127.0.0.1:7402" }
resources:
  api: { http: "https://api.example.com/v1", operations: { list: { request: GET /list, effect: read } } }
  out: { tunnel: ["files.example.com", "api.example.com"] }`
    expect(() => load(yaml)).toThrow(
      /resources\.out\.tunnel\[1\]: `api\.example\.com:443` is opened for the operations of `api`/,
    )
  })

  test('without a proxy, it says that nothing passes', () => {
    const { warnings } = load('resources: { out: { tunnel: [pypi.org] } }')
    expect(warnings.map(({ message }) => message)).toContainEqual(expect.stringContaining('listen.proxy'))
  })

  test('permissions know its one operation', () => {
    const yaml = (may: string) => `
listen: { proxy: "127.0.0.1:7402" }
resources: { out: { tunnel: [pypi.org] } }
agents: { a: { may: ["${may}"] } }`
    expect(load(yaml('out:connect')).settings.agents['a']).toBeDefined()
    expect(() => load(yaml('out:conect'))).toThrow(/out:conect.*connect/s)
  })

  test.each(['127.0.0.1:7400', '127.0.0.1:7401', '0.0.0.0:7401'])(
    'promise 6: the proxy has no address with others: %s',
    (address) => {
      expect(() => load(`listen: { proxy: "${address}" }`)).toThrow(/listen\.proxy: expected another port/)
    },
  )
})
