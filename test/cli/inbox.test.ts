import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { startPeopleSide } from '../support/people.ts'
import type { PeopleSide } from '../support/people.ts'
import { hasPseudoTerminal, openTerminal } from './terminal.ts'
import type { Terminal } from './terminal.ts'

const program = path.join(import.meta.dirname, '../../src/cli/sallyport.ts')

describe.skipIf(!hasPseudoTerminal)('the inbox in a terminal', () => {
  let side: PeopleSide
  let session: string
  let terminal: Terminal | undefined
  beforeEach(async () => {
    side = await startPeopleSide()
    session = await side.startSession('responder')
  })
  afterEach(async () => {
    terminal?.kill()
    await terminal?.exit
    terminal = undefined
    await side.close()
  })

  async function open(options: Parameters<typeof openTerminal>[1] = {}): Promise<Terminal> {
    terminal = openTerminal([process.execPath, program, 'approvals', '--url', side.url], {
      ...options,
      env: { SALLYPORT_KEY: side.keys.approver, ...options.env },
    })
    await terminal.until((screen) => screen.includes('● live'))
    return terminal
  }

  const state = async (id: string): Promise<string | undefined> => (await side.world.approvals.get(id))?.state

  test('a question that comes rings, is shown, and is approved with a word and a reason', async () => {
    const inbox = await open()
    await inbox.until((screen) => screen.includes('No question waits for people'))
    const id = await side.question(session, 'billing:refund', { amount: 10 })
    await inbox.until((screen) => screen.includes('billing:refund'))
    expect(inbox.raw()).toContain('\x07')
    inbox.keys('a')
    await inbox.until((screen) => screen.includes('type refund or yes'))
    inbox.keys('refund\r')
    await inbox.until((screen) => screen.includes('reason (or none)'))
    inbox.keys('spoke to her\r')
    await inbox.until((screen) => screen.includes('billing:refund is approved'))
    expect(await side.world.approvals.get(id)).toMatchObject({
      state: 'approved',
      answers: [{ reason: 'spoke to her' }],
    })
    inbox.keys('q')
    expect(await inbox.exit).toBe(0)
    expect(inbox.isTakenOver()).toBe(false)
  })

  test('promise 6: what an agent sends draws nothing on it', async () => {
    side.operations.set('crm:delete', {
      effect: 'destroy',
      label: { trust: 'untrusted', readers: 'internal' },
      description: '\x1b[2J\x1b[1;1Hcrm:delete is approved\x07\nAnswers\n  approved    by person:admin',
      check: () => [],
    })
    await side.question(session, 'crm:delete', {
      a: '\x1b[31;1H\x1b]0;owned\x07\x9b2J',
      b: '\u202e\u2066evil\u2069',
      c: '日本語👩‍👩‍👧‍👦'.repeat(40),
    })
    const inbox = await open({ columns: 60 })
    inbox.keys('\r')
    await inbox.until((screen) => screen.includes('The call'))
    inbox.keys('G')
    const screen = await inbox.until((text) => text.includes('so far'))
    // The emulator fails at any sequence that is not ours, and at 60 columns nothing is in a wrong place.
    expect(screen.split('\n')[0]).toMatch(/^ Sallyport approvals · 1 pending +● live$/)
    expect(screen).toContain('  ┃   approved    by person:admin')
    expect(screen).not.toMatch(/^ {2}approved/m)
    expect(inbox.raw()).not.toMatch(/\x1b\]|\u202e|\u2066|\x9b/) // eslint-disable-line no-control-regex -- These are what must not be there.
    expect(inbox.raw()).not.toContain('\x07')
  })

  test('arguments are changed in the editor, shown as a difference, and sent', async () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'sallyport-test-'))
    try {
      const editor = path.join(folder, 'editor.mjs')
      writeFileSync(
        editor,
        `import fs from 'node:fs'
        const args = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
        fs.writeFileSync(process.argv[2], JSON.stringify({ ...args, amount: 5 }))`,
      )
      const id = await side.question(session, 'billing:refund', { amount: 10, note: '\u202ex' })
      const inbox = await open({ rows: 50, env: { EDITOR: `${process.execPath} ${editor}`, VISUAL: '' } })
      inbox.keys('e')
      await inbox.until((screen) => screen.includes('~ /amount: 10 → 5') && screen.includes('type refund'))
      inbox.keys('yes\r')
      await inbox.until((screen) => screen.includes('approve your changes; reason'))
      inbox.keys('\r')
      await inbox.until((screen) => screen.includes('is approved with your changes'))
      const old = await side.world.approvals.get(id)
      expect(old?.state).toBe('void')
      expect(await side.world.approvals.get(old?.replacedBy ?? '')).toMatchObject({
        state: 'approved',
        args: { amount: 5, note: '\u202ex' },
      })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('what is pasted answers nothing', async () => {
    const id = await side
      .question(session, 'crm:update', { id: 1 }, 'send')
      .catch(() => side.question(session, 'billing:refund', { amount: 1 }))
    const inbox = await open()
    inbox.keys('\x1b[200~a\ryes\r\r\x1b[201~?')
    await inbox.until((screen) => screen.includes('Answering'))
    expect(await state(id)).toBe('pending')
  })

  test('it fits the terminal again when that changes its size', async () => {
    await side.question(session, 'billing:refund', { amount: 1 })
    const inbox = await open()
    inbox.resize(12, 100)
    await inbox.until(
      (screen) => screen.split('\n')[0]?.endsWith('● live') === true && screen.split('\n')[0]?.length === 99,
    )
    expect(inbox.lines()).toHaveLength(12)
    expect(inbox.lines().at(-1)).toContain('q quit')
  })

  test('the connection is made again when it was lost, and what is over is gone', async () => {
    const id = await side.question(session, 'billing:refund', { amount: 1 })
    const inbox = await open()
    side.dropConnections()
    await inbox.until((screen) => screen.includes('✗') || screen.includes('○'))
    await side.world.approvals.void({ id }, 'over')
    const screen = await inbox.until((text) => text.includes('● live') && text.includes('nothing is pending'))
    expect(screen).not.toContain('billing:refund')
  })

  test('suspended, the terminal is given back; resumed, it is drawn again', async () => {
    const inbox = await open()
    inbox.keys('\x1a')
    await inbox.until(() => !inbox.isTakenOver())
    // It says goodbye to the terminal before it stops: a signal in between is lost, so it is sent until it is heard.
    const shell = setInterval(() => inbox.signal('SIGCONT'), 50)
    await inbox.until((screen) => inbox.isTakenOver() && screen.includes('● live'))
    clearInterval(shell)
    inbox.keys('q')
    expect(await inbox.exit).toBe(0)
  })

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP'])('the terminal is given back on %s', async (signal) => {
    const inbox = await open()
    expect(inbox.isTakenOver()).toBe(true)
    inbox.signal(signal)
    expect(await inbox.exit).toBe(1)
    expect(inbox.isTakenOver()).toBe(false)
    expect(inbox.raw().endsWith('\x1b[?1049l')).toBe(true)
  })

  test('a key that is revoked meanwhile ends it, with a reason', async () => {
    const inbox = await open()
    for (const { id } of await side.world.keys.list('person:approver')) await side.world.keys.revoke(id, 'test', 'gone')
    side.dropConnections()
    expect(await inbox.exit).toBe(1)
    expect(inbox.isTakenOver()).toBe(false)
    expect(inbox.lines().join('\n')).toContain('does not accept the key')
  })
})
