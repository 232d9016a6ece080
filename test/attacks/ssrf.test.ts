// Addresses that would lead a request into the house, or to where machines keep their credentials. Each is tried as
// an address that a listed API redirects to, with its very host listed: whatever a list says, it is not reached.
import { describe, expect, test } from 'vitest'
import { refusedAddress } from '../../src/guard/addresses.ts'
import { createEgress } from '../../src/gateway/http/egress.ts'
import { placeOf } from '../../src/gateway/http/host.ts'
import type { Place } from '../../src/gateway/http/host.ts'
import { parseNetwork } from '../../src/guard/addresses.ts'

const home = placeOf('https://api.example.com/')

/** What a name leads to, for as long as a test lasts. */
const names: Readonly<Record<string, readonly string[]>> = {
  'api.example.com': ['93.184.215.14'],
  'public.example.com': ['93.184.215.14', '2606:2800:21f:cb07:6820:80da:af6b:8b2c'],
  'xn--bcher-kva.example.com': ['93.184.215.14'],
  'rebind.example.com': ['127.0.0.1'],
  'both.example.com': ['93.184.215.14', '10.0.0.1'],
  'last.example.com': ['93.184.215.14', '93.184.215.15', '::1'],
  'meta.example.com': ['169.254.169.254'],
  'meta6.example.com': ['fd00:ec2::254'],
  'azure.example.com': ['168.63.129.16'],
  'mapped.example.com': ['::ffff:127.0.0.1'],
  'nat64.example.com': ['64:ff9b::a9fe:a9fe'],
  'sixtofour.example.com': ['2002:7f00:1::'],
  'teredo.example.com': ['2001:0:4136:e378:8000:63bf:f5ff:fffe'],
  'link.example.com': ['fe80::1'],
  'ula.example.com': ['fd12:3456:789a::1'],
  'cgnat.example.com': ['100.64.0.1'],
  'zero.example.com': ['0.0.0.0'],
  'wide.example.com': ['255.255.255.255'],
  'empty.example.com': [],
  'garbage.example.com': ['not an address'],
  'localtest.me': ['127.0.0.1'],
  '127.0.0.1.nip.io': ['127.0.0.1'],
  '169-254-169-254.sslip.io': ['169.254.169.254'],
  'spoofed.burpcollaborator.net': ['127.0.0.1'],
}

interface Tried {
  readonly because: string | undefined
  readonly resolved: readonly string[]
  readonly dialled: readonly string[]
}

/** Tries an address, with its host and port listed, and says what was done before it was refused. */
async function attempt(text: string, base?: Place): Promise<Tried> {
  const resolved: string[] = []
  const dialled: string[] = []
  let place: Place
  try {
    place = placeOf(text, base)
  } catch (thrown) {
    return { because: (thrown as Error).message, resolved, dialled }
  }
  const ports = /:(?:81|22|6379|8080|9200|2375|11211)$/.test(place.origin) ? [] : [place.port]
  const egress = createEgress(
    { addresses: [], hosts: [place.host], ports, home },
    {
      resolve: async (name) => {
        resolved.push(name)
        return names[name] ?? ['93.184.215.14']
      },
      dial: (options, callback) => {
        dialled.push(options.hostname)
        callback(new Error('nothing is dialled in this test'), null)
      },
    },
  )
  let because: string | undefined
  try {
    egress.check(place)
    await egress.dispatcherOf('ses_1').request({ origin: place.origin, path: '/', method: 'GET' })
  } catch (thrown) {
    because = (thrown as Error).message
  } finally {
    await egress.destroy()
  }
  return { because, resolved, dialled }
}

const loopback = [
  'http://127.0.0.1/',
  'http://127.0.0.1:80/',
  'http://127.1/',
  'http://127.0.1/',
  'http://127.127.127.127/',
  'http://2130706433/',
  'http://0x7f000001/',
  'http://0x7f.0.0.1/',
  'http://0x7f.1/',
  'http://0x7F.0x0.0x0.0x1/',
  'http://0177.0.0.1/',
  'http://0177.0.01/',
  'http://017700000001/',
  'http://00000177.0.0.1/',
  'http://0x7f.0.0.01/',
  'http://127.0.0.1./',
  'http://①②⑦.⓪.⓪.①/',
  'http://１２７.０.０.１/',
  'http://127。0。0。1/',
  'http://127．0．0．1/',
  'http://127｡0｡0｡1/',
  'http://⑴②⑦.0.0.1/',
  'http://0/',
  'http://0.0.0.0/',
  'http://0x0/',
  'http://00/',
  'http://[::1]/',
  'http://[::]/',
  'http://[0:0:0:0:0:0:0:1]/',
  'http://[0000::1]/',
  'http://[::ffff:127.0.0.1]/',
  'http://[::ffff:7f00:1]/',
  'http://[0:0:0:0:0:ffff:7f00:0001]/',
  'http://[::127.0.0.1]/',
  'http://[::7f00:1]/',
  'http://[::ffff:0:127.0.0.1]/',
  'http://localhost/',
  'http://LOCALHOST/',
  'http://localhost./',
  'http://localhost:80/',
  'http://foo.localhost/',
  'http://ⓛocalhost/',
  'http://ｌｏｃａｌｈｏｓｔ/',
  'http://localhost.localdomain/',
  'http://loc\u00adalhost/',
  'http://local\u200bhost/',
  'http://%6c%6f%63%61%6c%68%6f%73%74/',
  'http://127.0.0.1%2f@example.com/',
]
const privateOnes = [
  'http://10.0.0.1/',
  'http://10.255.255.255/',
  'http://10.1/',
  'http://0xa.0.0.1/',
  'http://012.0.0.1/',
  'http://167772161/',
  'http://172.16.0.1/',
  'http://172.31.255.255/',
  'http://192.168.0.1/',
  'http://192.168.1/',
  'http://3232235521/',
  'http://0xc0a80001/',
  'http://100.64.0.1/',
  'http://100.127.255.254/',
  'http://169.254.1.1/',
  'http://198.18.0.1/',
  'http://192.0.2.1/',
  'http://198.51.100.7/',
  'http://203.0.113.9/',
  'http://192.0.0.1/',
  'http://192.88.99.1/',
  'http://224.0.0.1/',
  'http://239.255.255.250/',
  'http://240.0.0.1/',
  'http://255.255.255.255/',
  'http://[fc00::1]/',
  'http://[fd00::1]/',
  'http://[fdff:ffff::1]/',
  'http://[fe80::1]/',
  'http://[febf::1]/',
  'http://[fec0::1]/',
  'http://[ff02::1]/',
  'http://[2001:db8::1]/',
  'http://[100::1]/',
  'http://[3fff::1]/',
  'http://[5f00::1]/',
  'http://[2001:10::1]/',
  'http://[2001:20::1]/',
  'http://[::ffff:10.0.0.1]/',
  'http://[::ffff:c0a8:1]/',
  'http://[::10.0.0.1]/',
  'http://[64:ff9b::10.0.0.1]/',
  'http://[64:ff9b::a00:1]/',
  'http://[64:ff9b:1::10.0.0.1]/',
  'http://[2002:a00:1::]/',
  'http://[2002:c0a8:101::1]/',
  'http://[2001:0:a00:1::]/',
  'http://[2001:0:4136:e378:8000:63bf:f5ff:fffe]/',
  'http://[fe80::5efe:10.0.0.1]/',
  'http://[2600::5efe:a00:1]/',
  'http://[4000::1]/',
  'http://[e000::1]/',
]
const metadata = [
  'http://169.254.169.254/latest/meta-data/',
  'http://169.254.169.254:80/',
  'http://2852039166/',
  'http://0xa9fea9fe/',
  'http://0xa9.0xfe.0xa9.0xfe/',
  'http://0251.0376.0251.0376/',
  'http://025177524776/',
  'http://169.254.43518/',
  'http://169.16689662/',
  'http://①⑥⑨.②⑤④.①⑥⑨.②⑤④/',
  'http://169。254。169。254/',
  'http://[::ffff:169.254.169.254]/',
  'http://[::ffff:a9fe:a9fe]/',
  'http://[::169.254.169.254]/',
  'http://[64:ff9b::169.254.169.254]/',
  'http://[2002:a9fe:a9fe::]/',
  'http://[fd00:ec2::254]/',
  'http://[fd00:ec2::23]/',
  'http://[fd00:0ec2:0:0:0:0:0:254]/',
  'http://168.63.129.16/',
  'http://0xa83f8110/',
  'http://[::ffff:168.63.129.16]/',
  'http://100.100.100.200/',
  'http://169.254.170.2/v2/credentials',
  'http://169.254.170.23/',
  'http://192.0.0.192/',
  'http://169.254.169.123/',
  'http://169.254.169.253/',
  'http://[fd20:ce::254]/',
  'http://metadata.google.internal/',
  'http://metadata/',
  'http://instance-data/',
  'http://metadata.azure.internal/',
]
const own = [
  'http://intranet/',
  'http://router/',
  'http://db.internal/',
  'http://printer.local/',
  'http://nas.lan/',
  'http://git.corp/',
  'http://a.intranet/',
  'http://kubernetes.default.svc/',
  'http://x.default.svc.cluster.local/',
  'http://hidden.onion/',
  'http://a.home.arpa/',
  'http://DB.INTERNAL./',
  'http://ｄｂ.internal/',
  'http://x.test/',
  'http://x.home/',
  'http://host.docker.internal/',
]
const odd = [
  'https://user@public.example.com/',
  'https://user:pass@public.example.com/',
  'https://@public.example.com/',
  'https://public.example.com@127.0.0.1/',
  'https://public.example.com:443@127.0.0.1/',
  'http://127.0.0.1#@public.example.com/',
  'http://public.example.com\\@127.0.0.1/',
  'http:\\\\127.0.0.1\\',
  'http://public.example.com\t.evil.com/',
  'http://public.example.com\n/',
  'http:// public.example.com/',
  ' http://public.example.com/',
  'http://public.example.com\0/',
  'http:/127.0.0.1/',
  'http:127.0.0.1',
  '//127.0.0.1/x',
  'ftp://public.example.com/',
  'file:///etc/passwd',
  'gopher://127.0.0.1:6379/_INFO',
  'dict://127.0.0.1:11211/',
  'ws://127.0.0.1/',
  'javascript:alert(1)',
  'data:text/plain,x',
  'ldap://127.0.0.1/',
  'jar:http://127.0.0.1!/',
  'https://public.example.com:22/',
  'https://public.example.com:6379/',
  'https://public.example.com:0/',
  'https://public.example.com:99999/',
  'https://public.example.com:81/',
  'http://1.2.3.4.5/',
  'http://256.256.256.256/',
  'http://0x100000000/',
  'http://public..example.com/',
  'http://.public.example.com/',
  'http://public.example.com../',
  'http://-a.example.com/',
  'http://[::1/',
  'http://[::1%25eth0]/',
  'http://[fe80::1%eth0]/',
  'http://[v1.127.0.0.1]/',
  'http:///127.0.0.1/',
  'http://',
  'https:///',
  '',
  'http://a.0x7f/',
  'http://%00/',
  'http://exa%6dple.com/',
  `http://${'a.'.repeat(130)}com/`,
  `http://a.com/${'x'.repeat(9_000)}`,
]
const byName = Object.keys(names)
  .filter((name) => !['api.example.com', 'public.example.com', 'xn--bcher-kva.example.com'].includes(name))
  .map((name) => `https://${name}/`)

const suites: Readonly<Record<string, readonly string[]>> = {
  'this machine': loopback,
  'private and reserved addresses': privateOnes,
  'where machines keep their credentials': metadata,
  'names of an own network': own,
  'addresses that can be read in two ways, and other protocols': odd,
  'names that lead into the house (rebinding)': byName,
}

test('there are more than 150 of them', () => {
  const all = Object.values(suites).flat()
  expect(new Set(all).size).toBe(all.length)
  expect(all.length).toBeGreaterThan(200)
})

describe.each(Object.entries(suites))('%s', (_title, urls) => {
  test.each(urls)('%j is refused before any packet', async (url) => {
    const { because, dialled } = await attempt(url)
    expect(because).toBeDefined()
    expect(because).not.toBe('nothing is dialled in this test')
    expect(dialled).toEqual([])
  })
})

test.each(['this machine', 'where machines keep their credentials'])(
  '%s is refused by its text, before a name is looked up',
  async (title) => {
    for (const url of suites[title]!) expect([url, (await attempt(url)).resolved]).toEqual([url, []])
  },
)

test.each([
  ['https://public.example.com/', '93.184.215.14'],
  ['https://PUBLIC.example.com./a?b=c', '93.184.215.14'],
  ['https://bücher.example.com/', '93.184.215.14'],
  ['http://1.1.1.1/', '1.1.1.1'],
  ['http://0x01010101/', '1.1.1.1'],
  ['https://[2606:4700:4700::1111]/', '2606:4700:4700::1111'],
  ['https://public.example.com:443/', '93.184.215.14'],
  ['http://[::ffff:1.1.1.1]/', '::ffff:101:101'],
])('%s is public, and the address that was checked is dialled', async (url, address) => {
  const { because, dialled } = await attempt(url)
  expect(because).toBe('nothing is dialled in this test')
  expect(dialled[0]).toBe(address)
})

test('a redirect may be relative, and is read against the address that it came from', async () => {
  expect(placeOf('/b?c', placeOf('https://public.example.com/a')).origin).toBe('https://public.example.com')
  for (const to of ['//127.0.0.1/', '/\\127.0.0.1/', '\\\\127.0.0.1', 'http:127.0.0.1', '///127.0.0.1/']) {
    const { because, dialled } = await attempt(to, placeOf('https://public.example.com/a'))
    expect([to, because === undefined || because === 'nothing is dialled in this test', dialled]).toEqual([
      to,
      false,
      [],
    ])
  }
})

test('a name is looked up once for a connection: what is dialled is what was checked', async () => {
  const answers = [['93.184.215.14'], ['127.0.0.1']]
  let asked = 0
  const dialled: string[] = []
  const egress = createEgress(
    { addresses: [], hosts: [], ports: [], home },
    {
      resolve: async () => answers[asked++]!,
      dial: (options, callback) => {
        dialled.push(`${options.hostname} for ${options.servername}`)
        callback(new Error('nothing is dialled in this test'), null)
      },
    },
  )
  await expect(egress.dispatcherOf('ses_1').request({ origin: home.origin, path: '/', method: 'GET' })).rejects.toThrow(
    'nothing is dialled',
  )
  expect(dialled).toEqual(['93.184.215.14 for api.example.com'])
  // A new connection is looked up anew, and checked anew.
  await expect(egress.dispatcherOf('ses_1').request({ origin: home.origin, path: '/', method: 'GET' })).rejects.toThrow(
    /of this machine/,
  )
  expect(dialled.length).toBe(1)
  await egress.destroy()
})

test('a socket that reached another address than it was told to is closed', async () => {
  let isClosed = false
  const egress = createEgress(
    { addresses: [], hosts: [], ports: [], home },
    {
      resolve: async () => ['93.184.215.14'],
      dial: (_options, callback) =>
        callback(null, { remoteAddress: '127.0.0.1', destroy: () => (isClosed = true) } as never),
    },
  )
  await expect(egress.dispatcherOf('ses_1').request({ origin: home.origin, path: '/', method: 'GET' })).rejects.toThrow(
    /address that answered is of this machine/,
  )
  expect(isClosed).toBe(true)
  await egress.destroy()
})

test('an own network is reached only where the resource names it, and credentials of machines never', () => {
  const named = [
    parseNetwork('10.0.0.0/8'),
    parseNetwork('169.254.0.0/16'),
    parseNetwork('0.0.0.0/0'),
    parseNetwork('::/0'),
  ]
  expect(refusedAddress('10.1.2.3', named)).toBeUndefined()
  expect(refusedAddress('::ffff:10.1.2.3', named)).toBeUndefined()
  for (const address of [
    '169.254.169.254',
    '168.63.129.16',
    '100.100.100.200',
    '169.254.170.2',
    '169.254.170.23',
    '192.0.0.192',
    'fd00:ec2::254',
    '::ffff:169.254.169.254',
    '64:ff9b::a9fe:a9fe',
    '2002:a9fe:a9fe::1',
  ])
    expect([address, refusedAddress(address, named)]).toEqual([
      address,
      'is where cloud machines keep their credentials',
    ])
})
