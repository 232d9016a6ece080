import { isIP } from 'node:net'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../../core/failure.ts'
import { isOwnName } from '../../guard/addresses.ts'
import { placeOf, refusedPlace } from './host.ts'
import type { Place } from './host.ts'

function tried(text: string, base?: Place): Place | undefined {
  try {
    return placeOf(text, base)
  } catch (thrown) {
    if (thrown instanceof Failure && thrown.code === 'invalid') return undefined
    throw thrown
  }
}

const hosts = fc.oneof(
  fc.domain(),
  fc.ipV4(),
  fc.ipV4Extended(),
  fc.ipV6().map((address) => `[${address}]`),
  fc
    .array(
      fc.constantFrom(
        'a',
        'example',
        'COM',
        '.',
        '..',
        '127',
        '0x7f',
        '0177',
        '1',
        '-',
        '_',
        '。',
        '．',
        '%2e',
        '@',
        ':80',
        ':0',
        ':99999',
        'ｅ',
        'ß',
        'xn--',
        'xn--zca',
        '[::1]',
        '[::ffff:7f00:1]',
        '[',
        ']',
        '\u200b',
        '\u00ad',
        ' ',
        '\\',
        '/',
        '#',
        '?',
        '①',
        'é',
        '👍',
      ),
      { minLength: 1, maxLength: 6 },
    )
    .map((list) => list.join('')),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 12 }),
)
const addresses = fc
  .tuple(
    fc.constantFrom('http://', 'https://', 'HTTPS://', 'http:', '//', 'ftp://', ''),
    hosts,
    fc.constantFrom('', '/', '/a/../b', '?a=b', '/a#b', ':8443/x'),
  )
  .map((parts) => parts.join(''))

describe('a place that is accepted', () => {
  test('stays the same when its origin is read again, here and by a browser', () => {
    fc.assert(
      fc.property(addresses, (text) => {
        const place = tried(text)
        if (place === undefined) return
        expect(placeOf(place.origin + place.path + place.query)).toEqual(place)
        const url = new URL(place.origin)
        expect([url.origin, url.hostname.replaceAll(/^\[|\]$/g, ''), url.protocol]).toEqual([
          place.origin,
          place.host,
          place.protocol,
        ])
        expect(url.port === '' ? (place.protocol === 'https:' ? 443 : 80) : Number(url.port)).toBe(place.port)
      }),
      { numRuns: 5_000 },
    )
  })

  test('has a host in one spelling: small A-labels, or an address, without credentials or a final dot', () => {
    fc.assert(
      fc.property(addresses, (text) => {
        const place = tried(text)
        if (place === undefined) return
        if (isIP(place.host) === 0) expect(place.host).toMatch(/^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/)
        expect(place.origin).not.toMatch(/[@%\\\s]|\.(?::\d+)?$/)
        expect(place.port).toBeGreaterThan(0)
        expect(place.path).toMatch(/^\//)
        expect(place.query).toMatch(/^(?:$|\?)/)
      }),
      { numRuns: 5_000 },
    )
  })

  test('is the same in capital letters, with a final dot, with its own port', () => {
    fc.assert(
      fc.property(fc.domain(), (name) => {
        const place = tried(`https://${name}/`)
        if (place === undefined) return
        for (const other of [
          `https://${name.toUpperCase()}/`,
          `https://${name}./`,
          `HTTPS://${name}:443/`,
          `https://${name}`,
        ])
          expect(placeOf(other)).toEqual(place)
      }),
    )
  })

  test('that only spells an IPv4 address otherwise is that address', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
        const whole = ((a * 256 + b) * 256 + c) * 256 + d
        const spelled = [
          address,
          String(whole),
          `0x${whole.toString(16)}`,
          `0${whole.toString(8)}`,
          `${a}.${(b * 256 + c) * 256 + d}`,
          `0x${a.toString(16)}.${b}.0${c.toString(8)}.${d}`,
        ]
        for (const each of spelled) expect(tried(`http://${each}/`)?.host).toBe(address)
      }),
    )
  })
})

test('a redirect that is relative stays with its origin, however it is written', () => {
  const home = placeOf('https://api.example.com/v1/items?a=b')
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 30 }), (text) => {
      const to = tried(text, home)
      if (to === undefined) return
      const names = /^(?:[a-z][a-z0-9+.-]*:|\/\/)/i.test(text)
      expect(names || to.origin === home.origin).toBe(true)
    }),
    { numRuns: 3_000 },
  )
})

test('what is not listed is refused, whatever it is', () => {
  const home = { host: 'api.example.com', port: 443 }
  fc.assert(
    fc.property(addresses, (text) => {
      const place = tried(text)
      if (place === undefined) return
      const because = refusedPlace(place, { addresses: [], hosts: [], ports: [], home })
      expect(because).toBe(place.host === home.host ? because : 'the host is not listed')
      if (isOwnName(place.host))
        expect(refusedPlace(place, { addresses: [], hosts: [place.host], ports: [], home })).toBeDefined()
    }),
  )
})
