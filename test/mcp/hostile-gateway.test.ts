/** Every way in which a server can misbehave, behind the gateway, beside a server that doesn't. */
import { describe, test } from 'vitest'
import { mcpResource, startGateway } from '../support/gateway.ts'
import { ask } from '../support/mcp.ts'
import { hostileCommand, modes, startHostile, startWitness } from './hostile-server.ts'
import type { HostileMode } from './hostile-server.ts'

const policy = `
resources: { bad: { mcp: { command: [bad] } }, good: { mcp: { command: [good] } } }
agents: { worker: { may: [{ do: "*:*", ask: never }], limits: { repeats: unlimited } } }
`

/** What patterns without a bound on their work never come to an end with. */
const slow = `${'a'.repeat(50_000)}!`

/** `done`: the call has a result. `refused`: a result that says that it failed. `unknown`: the tool is not offered. */
type Fate = 'done' | 'refused' | 'unknown'

/** What becomes of a call of `act`, where it is not `refused`. */
const fates: Partial<Record<HostileMode, Fate>> = {
  honest: 'done',
  'ignores-sigterm': 'done',
  'leaves-grandchildren': 'done',
  'floods-stderr': 'done',
  'prints-noise': 'done',
  'answers-twice': 'done',
  'asks-unasked': 'done',
  'injects-instructions': 'done',
  'changes-tools': 'done',
  'changes-tools-silently': 'done',
  'drops-annotations': 'done',
  'tells-environment': 'done',
  'dies-at-start': 'unknown',
  'hangs-on-initialize': 'unknown',
  'hangs-on-list': 'unknown',
  'speaks-no-known-version': 'unknown',
  'loops-cursor': 'unknown',
  'never-ends-list': 'unknown',
  'offers-10000-tools': 'unknown',
  'offers-giant-tool': 'unknown',
  'offers-no-list': 'unknown',
  'hides-text': 'unknown',
  'names-badly': 'unknown',
  'names-collide': 'unknown',
  'schema-deep': 'unknown',
  'schema-not-a-schema': 'unknown',
  'schema-huge': 'unknown',
  'schema-bad-header': 'unknown',
}
/** Where it depends on how the server is reached. */
const overStdio: Partial<Record<HostileMode, Fate>> = { 'dies-after-initialize': 'unknown', 'floods-line': 'unknown' }
const overHttp: Partial<Record<HostileMode, Fate>> = { 'dies-after-initialize': 'done' }

async function open(mode: HostileMode, over: 'stdio' | 'http', onEnd: (close: () => Promise<unknown>) => void) {
  const server = over === 'http' ? await startHostile(mode) : undefined
  if (server !== undefined) onEnd(server.close)
  const witness = server?.witness ?? (await startWitness())
  if (server === undefined) onEnd(witness.close)
  const bounds = { timeout: 1_000, result: 1_000_000 }
  const bad = mcpResource('bad', server?.url ?? hostileCommand(mode, { witness: witness.url }), {
    ...bounds,
    ...(server === undefined
      ? {}
      : { target: { kind: 'http', url: server.url, headers: () => ({ authorization: 'Bearer upstream-key' }) } }),
  })
  const gateway = await startGateway(policy, [bad, mcpResource('good', hostileCommand('honest'))], {
    gateway: { settings: { connectWithin: 2_000 } },
  })
  onEnd(gateway.close)
  const { token } = await gateway.session('worker')
  return { gateway, witness, at: { url: gateway.url, token } }
}

for (const over of ['stdio', 'http'] as const)
  describe(`promise 9: a server over ${over} that`, () => {
    const all = (Object.keys(modes) as HostileMode[]).filter((mode) => (modes[mode].only ?? over) === over)
    test.concurrent.for(all)('%s', { timeout: 60_000 }, async (mode, { expect, onTestFinished }) => {
      const { gateway, witness, at } = await open(mode, over, (close) =>
        onTestFinished(async () => void (await close())),
      )

      const started = performance.now()
      const list = await ask(at, 'tools/list')
      const called = await ask(at, 'tools/call', { name: 'bad__act', arguments: { a: slow, count: 1 } })
      expect(
        performance.now() - started,
        'a misbehaving server holds up its own callers no longer than configured',
      ).toBeLessThan(15_000)
      const fate: Fate = called.answer.error?.message.startsWith('Unknown tool')
        ? 'unknown'
        : called.answer.result?.['isError'] === true
          ? 'refused'
          : called.answer.error === undefined
            ? 'done'
            : 'refused'
      expect(fate).toBe((over === 'stdio' ? overStdio : overHttp)[mode] ?? fates[mode] ?? 'refused')

      const before = performance.now()
      const good = await ask(at, 'tools/call', { name: 'good__ok', arguments: { text: 'still here' } })
      expect(JSON.stringify(good.answer.result)).toContain('still here')
      expect(performance.now() - before, 'and nobody else').toBeLessThan(5_000)

      const names = (list.answer.result!['tools'] as { name: string }[]).map(({ name }) => name)
      expect(names).toEqual(expect.arrayContaining(['good__act', 'good__ok', 'sallyport__await_approval']))
      for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_-]{1,54}$/)
      expect(new Set(names).size).toBe(names.length)
      expect(list.text.length).toBeLessThan(2_000_000)

      const told = list.text + called.text + good.text
      expect(told).not.toMatch(/hunter2|\/srv\/|\p{Cf}/u)
      expect(told).not.toContain('\u001B')
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
      expect(JSON.stringify(witness.requests)).not.toMatch(new RegExp(`upstream-key|${at.token}`))
      expect(witness.requests).toEqual([])
      expect(gateway.reported).toEqual([])
    })
  })
