import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AuditEvent, NewEvent } from '../core/audit.ts'
import { canonicalize } from '../core/canonical.ts'
import { openAuditLog } from '../stores/audit/log.ts'
import { auditCommand } from './audit.ts'

const at = Date.UTC(2026, 10, 21, 12)
const evil = '\x1b[2J\x9b31m\u202eevil\u200b\r\n'
let root = ''
let ids: string[] = []
let name = ''

beforeAll(async () => {
  root = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-cli-'))
  const log = await openAuditLog({
    dir: path.join(root, '.sallyport/audit'),
    keyFile: path.join(root, '.sallyport/audit.key'),
    clock: () => at,
  })
  name = log.name
  const events: NewEvent[] = [
    {
      type: 'decision',
      at,
      session: 'ses_1',
      agent: 'reader',
      permission: 'helpdesk.tickets:select',
      effect: 'read',
      decision: 'allow',
      because: 'allowed',
    },
    {
      type: 'action.done',
      at: at + 1,
      session: 'ses_1',
      agent: 'reader',
      permission: 'helpdesk.tickets:select',
      of: `evt_${log.name}_1`,
      result: { note: evil },
    },
    {
      type: 'decision',
      at: at + 2,
      session: 'ses_2',
      agent: evil,
      permission: 'crm:delete',
      effect: 'destroy',
      decision: 'deny',
      because: evil,
    },
    { type: 'policy.load', at: at + 3, policy: 'abc' },
  ]
  for (const event of events) {
    const { id, done } = log.append(event)
    await done
    ids.push(id)
  }
  await log.close()
  ids = ids.map(String)
})
afterAll(() => fs.rmSync(root, { recursive: true, force: true }))

async function run(
  args: string[],
  more: { isTty?: boolean; cwd?: string; signal?: AbortSignal; onOut?: (text: string) => void } = {},
): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ['', '']
  const code = await auditCommand(args, {
    out: (text) => ((out += text), more.onOut?.(text)),
    err: (text) => (err += text),
    isTty: more.isTty ?? false,
    env: {},
    cwd: more.cwd ?? root,
    ...(more.signal === undefined ? {} : { signal: more.signal }),
  })
  return { code, out, err }
}
const copy = (change: (dir: string) => void): string => {
  const dir = fs.mkdtempSync(path.join(root, 'copy-'))
  fs.cpSync(path.join(root, '.sallyport/audit'), dir, { recursive: true })
  change(dir)
  return dir
}
const key = (): string => path.join(root, '.sallyport/audit.key.pub')
const segment = (dir: string): string => path.join(dir, 'segments', '0000000000000000.jsonl')

describe('search and tail', () => {
  test('lines for people, newest first', async () => {
    const { code, out } = await run(['search', '--agent', 'reader'])
    expect(code).toBe(0)
    expect(out.split('\n')).toEqual([
      `2026-11-21T12:00:00.001Z ${ids[1]} action.done agent=reader session=ses_1 permission=helpdesk.tickets:select of=${ids[0]}`,
      `2026-11-21T12:00:00.000Z ${ids[0]} decision allow agent=reader session=ses_1 permission=helpdesk.tickets:select (allowed)`,
      '',
    ])
  })

  const filters: [args: string[], found: number[]][] = [
    [
      ['--type', 'decision'],
      [2, 0],
    ],
    [['--type', 'action.*'], [1]],
    [['--decision', 'deny'], [2]],
    [['--text', 'HELPDESK', '--type', 'decision'], [0]],
    [['--from', '2026-11-21T12:00:00.002Z', '--type', 'decision'], [2]],
    [['--to', String(at + 1), '--session', 'ses_1'], [0]],
    [['--of', 'nothing'], []],
  ]
  test.each(filters)('%j', async (args, found) => {
    const { out } = await run(['search', '--json', ...args])
    expect(out.split('\n').slice(0, -1).map((line) => (JSON.parse(line) as AuditEvent).id)).toEqual(found.map((number) => ids[number])) // prettier-ignore
  })

  test('pages', async () => {
    const first = await run(['search', '--limit', '1', '--type', 'decision'])
    expect(first.out).toContain(ids[2])
    const cursor = /--cursor (\S+)/.exec(first.err)?.[1] as string
    expect((await run(['search', '--limit', '1', '--type', 'decision', '--cursor', cursor])).out).toContain(ids[0])
  })

  test('tail shows the newest, oldest of them first', async () => {
    expect((await run(['tail', '-n', '2'])).out.split('\n').map((line) => line.split(' ')[1])).toEqual([
      ids[3],
      `evt_${name}_5`,
      undefined,
    ])
  })

  test('tail -f shows what comes, until it is ended', async () => {
    const dir = copy(() => undefined)
    const stop = new AbortController()
    const { out, code } = await run(['tail', '-f', '-n', '1', '--dir', dir], {
      signal: stop.signal,
      onOut: (text) => {
        if (text.includes(`${name}_5`)) fs.appendFileSync(segment(dir), `{"at":1,"id":"evt_${name}_6","type":"new"}\n`)
        else stop.abort()
      },
    })
    expect(code).toBe(0)
    expect(out.split('\n').map((line) => line.split(' ')[1])).toEqual([`evt_${name}_5`, `evt_${name}_6`, undefined])
  })
})

test('promise 9: what an agent wrote can not draw on the terminal', async () => {
  const unsafe = /[\p{Cc}\p{Cf}]/u
  for (const args of [
    ['search'],
    ['search', '--json'],
    ['tail'],
    ['export'],
    ['export', '--format', 'ocsf'],
    ['show', ids[1] as string],
    ['show', ids[2] as string, '--json'],
  ]) {
    const { code, out } = await run(args, { isTty: true })
    expect(code).toBe(0)
    // Only the colours that this command sets itself.
    for (const line of out.split('\n'))
      expect(['0', '31', '32', '33'].reduce((rest, color) => rest.replaceAll(`\x1b[${color}m`, ''), line)).not.toMatch(
        unsafe,
      )
  }
  expect((await run(['show', ids[1] as string, '--json'])).out).toContain('\\u202e')
})

describe('show', () => {
  test('an event and its proof', async () => {
    const { code, out } = await run(['show', ids[0] as string])
    expect(code).toBe(0)
    expect(out).toContain('"because": "allowed"')
    expect(out).toMatch(new RegExp(`PROVEN: event 1 of the 6 that sallyport.audit/${name} signed`))
  })

  test('an altered one is not proven', async () => {
    const dir = copy((folder) =>
      fs.writeFileSync(segment(folder), fs.readFileSync(segment(folder), 'utf8').replace('"allow"', '"alloy"')),
    )
    const { code, out } = await run(['show', ids[0] as string, '--dir', dir, '--key', key()])
    expect(code).toBe(1)
    expect(out).toContain('NOT PROVEN: it is not what was signed')
  })

  test.each([
    ['evt_other_1', 1],
    ['evt_', 2],
    ['x', 2],
  ])('no such event: %s', async (id, expected) => {
    // prettier-ignore
    expect((await run(['show', id])).code).toBe(expected)
  })
})

describe('verify', () => {
  test('an untouched log, by the key beside it and by one given', async () => {
    const { code, out } = await run(['verify'])
    expect(code).toBe(0)
    expect(out).toMatch(
      /^OK: sallyport\.audit\/\w+, key id \w{8}\n  6 events read, 6 signed, 0 removed by retention, 0 not signed yet\n/,
    )
    expect(out).toContain('The key was found beside the log')
    for (const given of [key(), fs.readFileSync(key(), 'utf8').trim()]) {
      const other = await run(['verify', '--dir', copy(() => undefined), '--key', given])
      expect(other.code).toBe(0)
      expect(other.out).not.toContain('beside the log')
    }
  })

  test('promise 8: one changed byte: exit code 1, what and where', async () => {
    const dir = copy((folder) =>
      fs.writeFileSync(segment(folder), fs.readFileSync(segment(folder), 'utf8').replace('"allow"', '"alloy"')),
    )
    const { code, out } = await run(['verify', '--dir', dir, '--key', key()])
    expect(code).toBe(1)
    expect(out).toMatch(/^WRONG/)
    expect(out).toMatch(/✗ segments\/0000000000000000\.jsonl, line 2, event 1, byte \d+: the event /)
    const json = await run(['verify', '--json', '--dir', dir, '--key', key()])
    expect(JSON.parse(json.out)).toMatchObject({ ok: false, problems: [{ line: 2, index: 1 }] })
  })

  test('promise 8: an older copy, when a newer checkpoint was kept', async () => {
    const kept = path.join(root, 'kept')
    fs.copyFileSync(path.join(root, '.sallyport/audit/checkpoint'), kept)
    const log = await openAuditLog({ dir: path.join(root, 'old'), keyFile: path.join(root, '.sallyport/audit.key') })
    await log.close()
    const { code, out } = await run(['verify', '--dir', 'old', '--key', key(), '--since', 'kept'])
    expect(code).toBe(1)
    expect(out).toContain('the checkpoint in kept is signed for 6')
  })

  test('events that are not signed fail only when all must be', async () => {
    const dir = copy((folder) => fs.appendFileSync(segment(folder), `{"at":1,"id":"evt_${name}_6","type":"new"}\n`))
    expect((await run(['verify', '--dir', dir, '--key', key()])).code).toBe(0)
    expect((await run(['verify', '--dir', dir, '--key', key(), '--complete'])).code).toBe(1)
  })
})

describe('export', () => {
  test('JSON lines as they are in the log, byte for byte', async () => {
    expect((await run(['export'])).out).toBe(fs.readFileSync(segment(path.join(root, '.sallyport/audit')), 'utf8'))
    expect((await run(['export', '--from', String(at + 3)])).out.split('\n')[0]).toContain('policy.load')
  })

  test('OCSF', async () => {
    const { out } = await run(['export', '--format', 'ocsf'])
    const events = out
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(events).toHaveLength(6)
    expect(events[1]).toMatchObject({
      class_uid: 6003,
      category_uid: 6,
      activity_id: 2,
      type_uid: 600302,
      time: at,
      status_id: 1,
      action_id: 1,
      disposition_id: 1,
      actor: { app_name: 'reader', session: { uid: 'ses_1' } },
      api: { operation: 'select', service: { name: 'helpdesk.tickets' } },
      metadata: { version: '1.3.0', uid: ids[0], profiles: ['security_control'] },
    })
    expect(events[3]).toMatchObject({
      activity_id: 4,
      type_uid: 600304,
      status_id: 2,
      action_id: 2,
      disposition_id: 2,
      severity_id: 2,
    })
    expect(events[4]).toMatchObject({ class_uid: 0, activity_id: 99, type_uid: 99 })
    for (const event of events) {
      expect(event.type_uid).toBe(Number(event.class_uid) * 100 + Number(event.activity_id))
      for (const field of ['class_uid', 'category_uid', 'activity_id', 'type_uid', 'time', 'severity_id', 'metadata'])
        expect(event).toHaveProperty(field)
      if (event.class_uid === 6003)
        for (const field of ['actor', 'api', 'src_endpoint']) expect(event).toHaveProperty(field)
      expect((event.unmapped as { sallyport: AuditEvent }).sallyport).toHaveProperty('id')
    }
    expect(canonicalize(events[2]?.unmapped)).toContain('evil')
  })
})

describe('what is not understood: exit code 2, and what was expected', () => {
  const wrong: [args: string[], words: string][] = [
    [['frobnicate'], 'expected tail, search, show, verify, export'],
    [['__proto__'], 'has no'],
    [['search', '--frob'], '--frob'],
    [['search', 'word'], 'takes only options'],
    [['show'], 'takes one event id'],
    [['search', '--limit', '0'], 'a number from 1 to 500'],
    [['search', '--from', 'yesterday'], 'is no time'],
    [['search', '--cursor', '\x1b[2J'], 'no cursor'],
    [['export', '--format', 'xml'], 'jsonl or ocsf'],
    [['verify', '--dir', 'nowhere'], 'there is no audit log at'],
    [['verify', '--key', 'nowhere'], 'there is no public key at'],
    [['verify', '--key', 'a+00000000+AAAA'], 'not a valid checkpoint or key'],
    [['verify', '--since', 'nowhere'], 'there is no checkpoint at nowhere'],
  ]
  test.each(wrong)('%j', async (args, words) => {
    const { code, err, out } = await run(args)
    expect([code, out]).toEqual([2, ''])
    expect(err).toContain(words)
    expect(err).not.toContain('\x1b')
  })

  test('help', async () => {
    expect(await run(['help'])).toMatchObject({ code: 0, out: expect.stringContaining('sallyport audit verify') })
    expect((await run(['verify', '--help'])).code).toBe(0)
    expect((await run([])).code).toBe(2)
  })
})
