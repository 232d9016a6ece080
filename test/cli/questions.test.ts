import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { startPeopleSide } from '../support/people.ts'
import type { PeopleSide } from '../support/people.ts'
import { hasPseudoTerminal, openTerminal } from './terminal.ts'
import type { Terminal } from './terminal.ts'

const program = path.join(import.meta.dirname, '../../src/cli/sallyport.ts')

describe.skipIf(!hasPseudoTerminal)('commands that ask first', () => {
  let side: PeopleSide
  let terminal: Terminal | undefined
  beforeEach(async () => {
    side = await startPeopleSide()
  })
  afterEach(async () => {
    terminal?.kill()
    await terminal?.exit
    terminal = undefined
    await side.close()
  })

  function open(...args: readonly string[]): Terminal {
    terminal = openTerminal([process.execPath, program, ...args, '--url', side.url], {
      env: { SALLYPORT_KEY: side.keys.admin },
    })
    return terminal
  }

  test.each([
    ['n\r', 1, []],
    ['\r', 1, []],
    ['\x04', 1, []],
    ['yes\r', 0, ['all']],
  ])('kill all, answered %j', async (answer, code, stops) => {
    const asked = open('kill', 'all')
    await asked.until((screen) => screen.includes('Stop all agents'))
    expect(side.world.sessions.stops()).toEqual([])
    asked.keys(answer)
    expect(await asked.exit).toBe(code)
    expect(side.world.sessions.stops()).toEqual(stops)
  })

  test('kill --yes and the kill of one session ask nothing', async () => {
    const session = await side.startSession('reader')
    expect(await open('kill', session).exit).toBe(0)
    expect(side.world.sessions.get(session)).toBeUndefined()
    expect(await open('kill', 'reader', '--yes').exit).toBe(0)
    expect(side.world.sessions.stops()).toEqual(['agent:reader'])
  })

  test('what an upstream says is shown before it is accepted, and draws nothing', async () => {
    const at = side.world.time.now
    await side.world.stores.pins.put({
      resource: 'crm',
      kind: 'tool',
      name: 'lookup',
      digest: 'a'.repeat(64),
      definition: { description: 'Looks a customer up' },
      acceptedAt: at,
      acceptedBy: 'first sight',
      proposed: { digest: 'b'.repeat(64), definition: { description: 'x\u009b2J\u202ey' }, seenAt: at },
    })
    const asked = open('tools', 'accept', 'crm', 'tool', 'lookup')
    const screen = await asked.until((text) => text.includes('Accept it?'))
    expect(screen).toContain('x\\x9b2J\\u{202e}y')
    asked.keys('y\r')
    expect(await asked.exit).toBe(0)
    expect((await side.world.stores.pins.list('crm'))[0]).toMatchObject({
      digest: 'b'.repeat(64),
      acceptedBy: 'person:admin',
    })
  })
})
