import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { AuditEvent } from '../../src/core/audit.ts'
import { newFolder, removeFolders, startSallyport, until } from '../support/sallyport.ts'
import { scriptedUpstream } from '../support/upstream.ts'

const disk = newFolder()
const isMounted =
  process.platform === 'linux' && spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk]).status === 0
afterAll(() => {
  if (isMounted) spawnSync('umount', [disk])
  removeFolders()
})

/** Takes what room there is, to the last byte. */
function fill(): void {
  const file = fs.openSync(path.join(disk, 'ballast'), 'a')
  try {
    for (const size of [65_536, 4_096, 512, 1]) {
      try {
        for (;;) fs.writeSync(file, Buffer.alloc(size))
      } catch (thrown) {
        expect((thrown as NodeJS.ErrnoException).code).toBe('ENOSPC')
      }
    }
  } finally {
    fs.closeSync(file)
  }
}

// Mounting needs a right that few have; the log itself is tested with a file layer that fails.
test.skipIf(!isMounted)(
  'promise 1: on a full disk nothing is performed, refusals say why, the log can be read, and it goes on when there is room (needs the right to mount)',
  async () => {
    const upstream = await scriptedUpstream()
    const settings = {
      approvals: { hold: '1 ms' },
      resources: { desk: { mcp: { url: upstream.url }, tools: { echo: 'read', act: 'destroy' } } },
      agents: { worker: { may: ['desk:echo', 'desk:act'], limits: { repeats: 'unlimited' } } },
    }
    const gateway = await startSallyport({ settings, state: path.join(disk, 'state') })
    try {
      const { token } = await gateway.session('worker')
      const call = async (said: string) => (await gateway.call(token, 'desk__echo', { text: said })).answer
      expect(JSON.stringify(await call('before'))).toContain('echo: before')
      const doomed = await gateway.session('worker')
      await gateway.call(token, 'desk__act', { text: 'asked before' })
      const [question] = await gateway.approvals()

      for (let round = 0; round < 2; round++) {
        fill()
        // What is in the page of the file still goes in; soon nothing does.
        await until(
          'the log can’t be written',
          async () => (await call('filling')).result?.['isError'] === true,
          20_000,
        )
        const performed = upstream.calls().length
        const refused = await Promise.all(Array.from({ length: 16 }, (_, each) => call(`refused ${each}`)))
        for (const { result } of refused) {
          expect(result?.['isError']).toBe(true)
          expect(result?.['content'][0].text).toMatch(/`desk__echo` failed: .*audit log.*(full|written)/)
        }
        expect(upstream.calls()).toHaveLength(performed)

        // People still see what happened, and how things are.
        const status = await gateway.status()
        expect(status.audit).toMatchObject({ state: 'failing', reason: expect.stringContaining('the disk is full') })
        const found = await gateway.admin<{ events: AuditEvent[] }>('GET', '/v1/audit?type=action.done&limit=5')
        expect(found.events.length).toBeGreaterThan(0)
        expect(await gateway.cli('audit', 'search', '--type', 'decision')).toMatchObject({ code: 0 })
        expect((await fetch(`${gateway.agentsUrl}/healthz`)).status).toBe(503)
        // What can't be recorded does not happen on the people's side either; a kill does, at once.
        expect((await gateway.people('POST', '/v1/sessions', { agent: 'worker' })).status).toBe(503)
        await expect(gateway.approve(question!.id)).rejects.toThrow('503')
        if (round === 0) {
          await gateway.people('POST', '/v1/kill', { target: doomed.id })
          expect((await gateway.call(doomed.token, 'desk__echo', { text: 'x' })).status).toBe(401)
        }

        fs.rmSync(path.join(disk, 'ballast'))
        await until(
          'the log is written again',
          async () => (await call(`after ${round}`)).result?.['isError'] !== true,
          20_000,
        )
        expect((await fetch(`${gateway.agentsUrl}/healthz`)).status).toBe(200)
      }
      expect((await gateway.call(doomed.token, 'desk__echo', { text: 'x' })).status).toBe(401)
      await gateway.session('worker')
    } finally {
      await gateway.stop()
      await upstream.close()
    }
    expect(await gateway.verify()).toMatchObject({ ok: true, problems: [] })
    const events = await gateway.events()
    const allowed = events.filter((event) => event.type === 'decision' && event['decision'] === 'allow')
    const recorded = new Set(allowed.map(({ args }) => (args as { text: string }).text))
    for (const { params } of upstream.calls())
      expect(recorded).toContain((params['arguments'] as { text: string }).text)
  },
)
