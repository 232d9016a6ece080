import fs from 'node:fs'
import { afterAll, afterEach, expect, test } from 'vitest'
import type { Reloaded } from '../../src/control/wire.ts'
import { removeFolders, startSallyport, until } from '../support/sallyport.ts'
import { scriptedUpstream, text } from '../support/upstream.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})
afterAll(removeFolders)

const policy = (url: string, { may = '[desk:echo, desk:act]', more = '', before = '' } = {}): string => `${before}
listen: { agents: "127.0.0.1:0", people: "127.0.0.1:0" }
state: $STATE
people: { anna: { roles: [approver] } }
approvals: { hold: 1 ms }
resources:
  desk:
    mcp: { url: "${url}" }
    tools: { echo: read, act: destroy }
agents:
  worker:
    may: ${may}
  other: { may: [desk:echo] }
${more}`

async function open(as: 'function' | 'process' = 'function') {
  const upstream = await scriptedUpstream()
  closing.push(upstream.close)
  const gateway = await startSallyport({ settings: policy(upstream.url), as })
  closing.push(gateway.stop)
  return { upstream, gateway }
}

test.each([
  ['an unknown key', { more: 'rulez: []' }, /sallyport\.yaml:14:1.*`?rulez`?.*rules/s],
  [
    'a condition with a mistake',
    { may: '[{ do: "desk:echo", when: "args.text ==" }]' },
    /sallyport\.yaml:12:\d+: agents\.worker\.may/,
  ],
  ['no YAML at all', { before: 'a: [' }, /sallyport\.yaml:\d+:\d+/],
  ['a permission that is none', { may: '[desk:echo, "desk:"]' }, /sallyport\.yaml:12:\d+: agents\.worker\.may/],
  [
    'keys that are not there',
    {
      more: 'issuers: { x: { issuer: x, audience: y, keys: /nowhere/keys.json, agents: [{ agent: worker, claims: { a: b } }] } }',
    },
    /keys\.json/,
  ],
])('promise 3: a broken policy at reload (%s) changes nothing, and says where', async (_what, change, expected) => {
  const { upstream, gateway } = await open()
  const { token } = await gateway.session('worker')
  const before = (await gateway.status()).policy.digest
  gateway.write(policy(upstream.url, change))

  const { status, text: said } = await gateway.people('POST', '/v1/reload', {})
  expect(status).toBe(400)
  expect(JSON.parse(said)).toMatchObject({ error: { code: 'invalid', message: expect.stringMatching(expected) } })
  expect((await gateway.status()).policy.digest).toBe(before)
  expect((await gateway.call(token, 'desk__echo', { text: 'on it goes' })).text).toContain('echo: on it goes')
  const refused = (await gateway.events()).filter(({ type }) => type === 'policy.refused')
  expect(refused).toMatchObject([{ by: 'person:admin', policy: before, because: expect.stringMatching(expected) }])
})

test('a file that is gone, or half written, changes nothing either', async () => {
  const { upstream, gateway } = await open()
  const { token } = await gateway.session('worker')
  const whole = policy(upstream.url, { may: '[]' })
  for (const cut of [20, whole.indexOf('anna') + 2, whole.indexOf('agents:\n') + 3]) {
    gateway.write(whole.slice(0, cut))
    const { status } = await gateway.people('POST', '/v1/reload', {})
    expect([cut, status]).toEqual([cut, 400])
  }
  fs.rmSync(gateway.file)
  expect((await gateway.people('POST', '/v1/reload', {})).status).toBe(400)
  expect((await gateway.call(token, 'desk__echo', { text: 'on' })).text).toContain('echo: on')
})

test('SIGHUP reads the file again: a broken one is told with its place and changes nothing, a good one takes effect', async () => {
  const { upstream, gateway } = await open('process')
  const { token } = await gateway.session('worker')
  gateway.write(policy(upstream.url, { more: 'rulez: []' }))
  gateway.child?.kill('SIGHUP')
  const line = await until('it says what is wrong', () => gateway.lines.find((each) => each.includes('rulez')))
  expect(line).toMatch(/sallyport\.yaml:14:1/)
  expect(gateway.lines.some((each) => each.includes('the policy of before stays'))).toBe(true)
  expect((await gateway.call(token, 'desk__echo', { text: 'on' })).text).toContain('echo: on')

  gateway.write(policy(upstream.url, { may: '[desk:act]' }))
  gateway.child?.kill('SIGHUP')
  await until('it says that it was read', () => gateway.lines.some((each) => each.startsWith('reloaded: policy')))
  expect((await gateway.call(token, 'desk__echo', { text: 'on' })).text).toContain('Unknown tool: desk__echo')
  expect(await gateway.cli('reload')).toMatchObject({ code: 0 })
})

test('a permission, or an agent, that is taken away is gone at once, for sessions that run; calls in flight end', async () => {
  const { upstream, gateway } = await open()
  const worker = await gateway.session('worker')
  const other = await gateway.session('other')
  const held: (() => void)[] = []
  upstream.onCall = () => new Promise((resolve) => held.push(() => resolve(text('late'))))
  const inFlight = gateway.call(worker.token, 'desk__echo', { text: 'slow' })
  await until('it is on its way', () => held.length === 1)

  gateway.write(policy(upstream.url, { may: '[desk:act]' }))
  const reloaded = await gateway.admin<Reloaded>('POST', '/v1/reload', {})
  expect(reloaded.changed).toBe(true)
  expect((await gateway.call(worker.token, 'desk__echo', { text: 'x' })).text).toContain('Unknown tool: desk__echo')
  const { answer } = await gateway.ask(worker.token, 'tools/list')
  expect(JSON.stringify(answer.result)).not.toContain('desk__echo')
  held[0]!()
  expect((await inFlight).text).toContain('late')

  gateway.write(policy(upstream.url).replace(/ {2}other: .*\n/, ''))
  await gateway.admin('POST', '/v1/reload', {})
  const gone = await gateway.call(other.token, 'desk__echo', { text: 'x' })
  expect(gone.text).not.toContain('late')
  expect(gone.status === 401 || gone.text.includes('Unknown tool')).toBe(true)
  expect(upstream.calls()).toHaveLength(1)
})

test('promise 5: a question, and an approval, of the policy before is void after a reload', async () => {
  const { upstream, gateway } = await open()
  const { token } = await gateway.session('worker')
  const ask = async (what: string): Promise<string> => (await gateway.call(token, 'desk__act', { text: what })).text
  await ask('one')
  await ask('two')
  const [two, one] = (await gateway.approvals()).toSorted((a, b) =>
    a.args['text'] === 'two' ? -1 : b.args['text'] === 'two' ? 1 : 0,
  )
  await gateway.approve(one!.id)
  gateway.write(policy(upstream.url, { more: 'rules: [{ deny: "desk:nothing" }]' }))
  await gateway.admin('POST', '/v1/reload', {})
  await expect(gateway.approve(two!.id)).rejects.toThrow('409')
  expect(await ask('one')).toContain('approval_pending')
  expect(upstream.calls()).toHaveLength(0)
})

test('reloads while calls run lose no call, and each is decided by one policy or the other', async () => {
  const { upstream, gateway } = await open()
  const { token } = await gateway.session('worker')
  const over = new AbortController()
  const fates = { done: 0, refused: 0 }
  const callers = Array.from({ length: 4 }, async (_, caller) => {
    for (let serial = 0; !over.signal.aborted; serial++) {
      const { answer } = await gateway.call(token, 'desk__echo', { text: `${caller}.${serial}` })
      if (answer.result?.['content']?.[0]?.text === `echo: ${caller}.${serial}`) fates.done++
      else if (answer.error?.message === 'Unknown tool: desk__echo') fates.refused++
      else throw new Error(JSON.stringify(answer))
    }
  })
  for (let count = 0; count < 20; count++) {
    gateway.write(policy(upstream.url, { may: count % 2 === 0 ? '[desk:act]' : '[desk:echo]' }))
    await gateway.admin('POST', '/v1/reload', {})
    const before = fates.done + fates.refused
    await until('calls go on', () => fates.done + fates.refused > before + 4)
  }
  over.abort()
  await Promise.all(callers)
  expect(fates.done).toBeGreaterThan(0)
  expect(fates.refused).toBeGreaterThan(0)
  const events = await gateway.events()
  const loads = events.filter(({ type }) => type === 'policy.load').map((event) => event['policy'])
  expect(loads).toHaveLength(20)
  const known = new Set(loads).add(events.find(({ type }) => type === 'gateway.start')?.['policy'])
  for (const event of events.filter(({ type }) => type === 'decision')) expect(known).toContain(event['policy'])
})
