import { expect, test } from 'vitest'
import { formats } from './format.ts'

const cases: Record<string, { yes: string[]; no: string[] }> = {
  date: {
    yes: ['2026-11-21', '2024-02-29', '0001-01-01'],
    no: ['2026-02-29', '2026-13-01', '2026-1-1', '2026-11-21T', ''],
  },
  time: {
    yes: ['10:00:00Z', '23:59:60z', '10:00:00.123456789+05:30'],
    no: ['10:00:00', '24:00:00Z', '10:60:00Z', '10:00Z'],
  },
  'date-time': {
    yes: ['2026-11-21T10:00:00Z', '2026-11-21 10:00:00.1-08:00'],
    no: ['2026-11-21', '2026-11-31T10:00:00Z', '2026-11-21x10:00:00Z'],
  },
  email: {
    yes: ['a@b', 'first.last+tag@example.com', 'ü@exämple.de'],
    no: ['a', 'a@', '@b', 'a b@c', 'a@b@c', 'a@b\n'],
  },
  hostname: { yes: ['localhost', 'a-b.example.com'], no: ['', '-a', 'a..b', 'a_b', 'a'.repeat(64)] },
  ipv4: { yes: ['127.0.0.1'], no: ['256.0.0.1', '1.2.3', '01.2.3.4', '1.2.3.4 '] },
  ipv6: { yes: ['::1', 'fe80::1', '::ffff:1.2.3.4'], no: ['fe80::1%eth0', ':::', '1.2.3.4'] },
  uri: {
    yes: ['https://example.com/a?b=c#d', 'mailto:a@b', 'urn:x:y'],
    no: ['/a', 'example.com', 'http://a b', 'http://a\n', ''],
  },
  'uri-reference': { yes: ['/a', '', '?x', 'https://a'], no: ['a b', '<a>'] },
  uuid: {
    yes: ['123e4567-e89b-12d3-a456-426614174000'],
    no: ['123e4567e89b12d3a456426614174000', '{123e4567-e89b-12d3-a456-426614174000}'],
  },
}
for (const [name, { yes, no }] of Object.entries(cases)) {
  test(`format: ${name}`, () => {
    expect(yes.filter((text) => !formats[name]?.(text))).toEqual([])
    expect(no.filter((text) => formats[name]?.(text))).toEqual([])
  })
}

test('every format has cases, and answers for long hostile texts', () => {
  expect(Object.keys(cases).sort()).toEqual(Object.keys(formats).sort())
  for (const long of ['a', 'a@', '.', '-', ':', '0', 'a.', ' ', 'a-'].map((part) => part.repeat(300_000)))
    for (const check of Object.values(formats)) expect(typeof check(long)).toBe('boolean')
})
