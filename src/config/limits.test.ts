import { expect, test } from 'vitest'
import { readPolicy } from '../../test/support/world.ts'
import { parseLimit } from '../core/limit.ts'
import { loadSettings } from './load.ts'

const load = (yaml: string) => loadSettings(yaml, { file: '/nowhere/sallyport.yaml' })

const api = 'http: "https://crm.example", operations: { list: { request: GET /list, effect: read } }'

test.each([
  ['http', api],
  ['tunnel', 'tunnel: [files.example]'],
])('a resource of kind %s has limits, of bytes that go out too', (_kind, resource) => {
  const { policy } = readPolicy(`
listen: { proxy: "127.0.0.1:7402" }
resources: { crm: { ${resource}, limits: { sent: [10 MB/session, 1 GB/day], bytes: 1 MB/session, calls: 100/min, concurrent: 4 } } }`)
  expect(policy.resourceLimits.get('crm')).toEqual(
    expect.arrayContaining([
      parseLimit('sent', '10 MB/session'),
      parseLimit('sent', '1 GB/day'),
      parseLimit('bytes', '1 MB/session'),
      parseLimit('calls', '100/min'),
      parseLimit('concurrent', '4'),
    ]),
  )
})

test.each([
  ['mcp', 'mcp: { command: [crm] }'],
  ['functions', 'functions: { list: read }'],
  ['postgres', 'postgres: "postgres://sallyport@db.example.com/crm", tables: { tickets: { select: [id] } }'],
])('a resource of kind %s has limits of calls and results', (_kind, resource) => {
  const { policy } = readPolicy(`resources: { crm: { ${resource}, limits: { calls: 100/min, bytes: 1 MB/session } } }`)
  expect(policy.resourceLimits.get('crm')).toHaveLength(2)
})

test.each([
  [
    'what is not counted',
    `${api}, limits: { tokens: 5/session }`,
    /resources\.crm\.limits\.tokens: unknown key; known here: calls, bytes, concurrent/,
  ],
  ['another spelling', `${api}, limits: { snet: 5 MB/session }`, /limits\.snet: unknown key; did you mean `sent`\?/],
  ['no unit', `${api}, limits: { sent: 10/session }`, /`10\/session` is no limit of sent: expected `1 MB\/session`/],
  ['no window', `${api}, limits: { sent: 10 MB }`, /`10 MB` is no limit of sent: expected `1 MB\/session`/],
  [
    'bytes of programs',
    'mcp: { command: [crm] }, limits: { sent: 1 MB/session }',
    /limits\.sent: unknown key; known here: calls, bytes, concurrent$/,
  ],
])('promise 3: limits of a resource with %s stop the start', (_title, resource, message) => {
  expect(() => load(`resources: { crm: { ${resource} } }`)).toThrow(message)
})
