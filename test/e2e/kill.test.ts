import { afterAll, afterEach, expect, test } from 'vitest'
import { hostileCommand } from '../mcp/hostile-server.ts'
import type { Killed, StopsView } from '../../src/control/wire.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'
import { scriptedUpstream, text } from '../support/upstream.ts'

const closing: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
})
afterAll(removeFolders)

const hanging = hostileCommand('hangs-on-call')

async function open() {
  const upstream = await scriptedUpstream()
  closing.push(upstream.close)
  const settings = {
    resources: {
      slow: { mcp: { url: upstream.url }, tools: { echo: 'read', act: 'destroy' } },
      deaf: { mcp: { command: [hanging.command, ...hanging.args] }, tools: { act: 'read' } },
    },
    agents: {
      worker: { may: ['slow:echo', 'slow:act', 'deaf:act'], limits: { repeats: 'unlimited' } },
      other: { may: ['slow:echo'] },
    },
  }
  const folder = newFolder()
  const start = async () => {
    const gateway = await startSallyport({ settings, folder })
    closing.push(gateway.stop)
    return gateway
  }
  return { upstream, start }
}

test.each([
  ['all', (_session: string) => 'all', false],
  ['the agent', (_session: string) => 'worker', true],
  ['the session', (session: string) => session, true],
])(
  'kill of %s: 64 calls in flight are cut within a second, nothing further starts, questions are void',
  async (_what, target, othersGoOn) => {
    const { upstream, start } = await open()
    const gateway = await start()
    const worker = await gateway.session('worker')
    const other = await gateway.session('other')
    upstream.onCall = ({ params }) =>
      (params['arguments'] as { text: string }).text === 'quick' ? text('quick') : undefined // Never answered.

    const calls = Array.from({ length: 64 }, (_, each) =>
      each % 2 === 0
        ? gateway.call(worker.token, 'slow__echo', { text: `${each}` })
        : gateway.call(worker.token, 'deaf__act', { n: each }),
    )
    const held = [1, 2, 3].map((each) => gateway.call(worker.token, 'slow__act', { text: `${each}` }))
    await until('all are on their way', () => upstream.calls().length === 32)
    const pending = await until('people are asked', async () => {
      const open = await gateway.approvals()
      return open.length === 3 ? open : undefined
    })
    expect((await gateway.call(other.token, 'slow__echo', { text: 'quick' })).text).toContain('quick')

    const started = performance.now()
    const killed = await gateway.admin<Killed>('POST', '/v1/kill', {
      target: target(worker.id),
      because: 'it went astray',
    })
    const answers = await Promise.all([...calls, ...held])
    await until('the upstream is told', () => upstream.calls().filter(({ left }) => left.aborted).length === 32)
    expect(performance.now() - started).toBeLessThan(1_000)
    expect(killed.took).toBeLessThan(1_000)
    for (const { answer } of answers) expect(answer.result?.['isError'] ?? answer.error !== undefined).toBe(true)

    // Nothing of it goes on, in whatever way it is tried.
    const before = upstream.calls().length
    expect((await gateway.call(worker.token, 'slow__echo', { text: 'quick' })).status).toBe(401)
    expect(await gateway.approvals()).toEqual([])
    for (const { id } of pending) {
      await expect(gateway.approve(id)).rejects.toThrow(/409.*void/)
    }
    expect(upstream.calls()).toHaveLength(before)
    const goesOn = await gateway.call(other.token, 'slow__echo', { text: 'quick' })
    expect(goesOn.status).toBe(othersGoOn ? 200 : 401)

    // The record says what was cut, and that it may have had its effect.
    const events = await gateway.events()
    const cut = events.filter(({ type }) => type === 'action.failed')
    expect(cut).toHaveLength(64)
    for (const event of cut) expect(event).toMatchObject({ code: 'cancelled', mayHaveHappened: true })
    expect(events.filter(({ type }) => type === 'approval.void')).toHaveLength(3)
  },
)

test('a kill is there after a restart, until it is lifted; what was killed stays dead', async () => {
  const { upstream, start } = await open()
  let gateway = await start()
  const worker = await gateway.session('worker')
  const { text: key } = await gateway.admin<{ text: string }>('POST', '/v1/keys', { holder: 'agent:worker' })
  expect((await gateway.call(key, 'slow__echo', { text: 'by key' })).text).toContain('echo: by key')
  await gateway.admin('POST', '/v1/kill', { target: 'worker' })
  await gateway.stop()

  gateway = await start()
  const { stops } = await gateway.admin<StopsView>('GET', '/v1/stops')
  expect(stops).toMatchObject([{ target: 'agent:worker', by: 'person:admin' }])
  expect((await gateway.people('POST', '/v1/sessions', { agent: 'worker' })).status).toBe(403)
  const dead = upstream.calls().length
  for (const credential of [worker.token, key])
    expect((await gateway.call(credential, 'slow__echo', { text: 'again' })).status).toBe(401)
  expect(upstream.calls()).toHaveLength(dead)

  await gateway.admin('POST', '/v1/revive', { target: 'worker' })
  expect((await gateway.call(worker.token, 'slow__echo', { text: 'again' })).status).toBe(401)
  const fresh = await gateway.session('worker')
  expect((await gateway.call(fresh.token, 'slow__echo', { text: 'anew' })).text).toContain('echo: anew')
  expect((await gateway.call(key, 'slow__echo', { text: 'by key' })).text).toContain('echo: by key')
})

test('a kill through the command line, while the gateway is busy', async () => {
  const { upstream, start } = await open()
  const gateway = await start()
  const worker = await gateway.session('worker')
  upstream.onCall = () => undefined
  const calls = Array.from({ length: 8 }, (_, each) => gateway.call(worker.token, 'slow__echo', { text: `${each}` }))
  await until('all are on their way', () => upstream.calls().length === 8)
  expect(await gateway.cli('kill', 'worker', '--yes')).toMatchObject({ code: 0 })
  for (const { answer } of await Promise.all(calls)) expect(answer.result?.['isError']).toBe(true)
})
