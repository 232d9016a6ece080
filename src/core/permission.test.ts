import fc from 'fast-check'
import { expect, test } from 'vitest'
import { covers, effects, hasWildcard, indexByPermission, parsePattern, rulesOver, within } from './permission.ts'
import type { Effect } from './permission.ts'

test.each([
  ['crm:lookup_customer', 'crm:lookup_customer'],
  ['crm:*', 'crm:lookup_customer'],
  ['helpdesk.tickets:select', 'helpdesk.tickets:select'],
  ['helpdesk.*:select', 'helpdesk.tickets:select'],
  ['helpdesk.*:select', 'helpdesk.tickets.archive:select'],
  ['*:select', 'helpdesk.tickets:select'],
  ['*:*', 'crm:lookup_customer'],
])('%s covers %s', (pattern, permission) => {
  expect(covers(parsePattern(pattern), permission)).toBe(true)
})

test.each([
  ['crm:lookup_customer', 'crm:lookup_customer2'],
  ['crm:lookup_customer', 'CRM:lookup_customer'],
  ['crm:*', 'crm.secrets:read'],
  ['crm:*', 'crm2:read'],
  ['helpdesk.*:select', 'helpdesk:select'],
  ['helpdesk.tickets:select', 'helpdesk.tickets.archive:select'],
  ['helpdesk.tickets:select', 'helpdesk:select'],
  ['*:select', 'helpdesk.tickets:insert'],
  // An allow-list names operations: an effect is no operation.
  ['crm:read', 'crm:lookup_customer'],
])('%s does not cover %s', (pattern, permission) => {
  expect(covers(parsePattern(pattern), permission)).toBe(false)
})

test.each([
  ['*:send', 'mail:post', 'send', true],
  ['mail:send', 'mail:post', 'send', true],
  ['mail:send', 'mail:send', 'write', true],
  ['mail.out:send', 'mail:post', 'send', false],
  ['*:send', 'mail:post', 'write', false],
  ['mail:post', 'mail:post', 'send', true],
] as const)('a rule over %s is over %s with effect %s: %s', (pattern, permission, effect, is) => {
  expect(rulesOver(parsePattern(pattern), permission, effect)).toBe(is)
})

test.each([
  '',
  'crm',
  ':x',
  'crm:',
  'crm::x',
  'c*m:x',
  '*.tickets:x',
  'crm..x:y',
  'crm:x y',
  'crm:x\n',
  'crm:lookup*',
  'ünï:x',
])('`%s` is no permission', (text) => {
  expect(() => parsePattern(text)).toThrow(/is not a permission/)
})

const part = fc.constantFrom('a', 'b', 'c')
const operation = fc.constantFrom('x', 'y', 'read', 'send')
const permission = fc
  .tuple(fc.array(part, { minLength: 1, maxLength: 3 }), operation)
  .map(([parts, op]) => `${parts.join('.')}:${op}`)
const pattern = fc
  .tuple(fc.array(part, { maxLength: 3 }), fc.boolean(), fc.oneof(operation, fc.constant('*')))
  .filter(([parts, star]) => parts.length > 0 || star)
  .map(([parts, star, op]) => parsePattern(`${[...parts, ...(star ? ['*'] : [])].join('.')}:${op}`))
const effect = fc.constantFrom<Effect>(...effects)

test('an index finds exactly what a walk over all would find, first and later', () => {
  fc.assert(
    fc.property(
      fc.array(pattern, { maxLength: 12 }),
      fc.array(fc.tuple(permission, effect), { maxLength: 6 }),
      (patterns, asked) => {
        const all = patterns.map((each) => ({ pattern: each }))
        for (const matches of [covers, rulesOver]) {
          const index = indexByPermission(all, matches)
          for (const [name, of] of [...asked, ...asked]) {
            const walked = all.filter((each) => matches(each.pattern, name, of))
            expect(new Set(index.find(name, of))).toEqual(new Set(walked))
            expect(index.find(name, of)).toHaveLength(walked.length)
          }
        }
      },
    ),
  )
})

test('a permission too long to be one finds nothing, however often it is asked for', () => {
  const index = indexByPermission([{ pattern: parsePattern('crm:*') }], covers)
  for (let asked = 0; asked < 3; asked++) expect(index.find(`other:${'x'.repeat(100_000)}`, 'read')).toEqual([])
})

test('what is within a pattern covers nothing that the pattern does not cover', () => {
  fc.assert(
    fc.property(pattern, pattern, permission, (inner, outer, name) => {
      if (!within(inner, outer) || !covers(inner, name)) return
      expect(covers(outer, name)).toBe(true)
    }),
    { numRuns: 2000 },
  )
})

test('a pattern without a wildcard covers itself alone', () => {
  fc.assert(
    fc.property(pattern, permission, (each, name) => {
      if (hasWildcard(each)) return
      expect(covers(each, name)).toBe(each.source === name)
    }),
  )
})
