import { spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { width } from '../../src/cli/text.ts'
import { connect } from '../mcp/clients.ts'

const demo = fileURLToPath(new URL('../../demo/demo.ts', import.meta.url))
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'demo-test-'))
/** How long a run may take, in milliseconds: a quick one takes about ten seconds, and the first one ever makes a database. */
const bound = 120_000

afterAll(() => fs.rmSync(scratch, { recursive: true, force: true }))

interface Run {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

interface Started {
  readonly ended: Promise<Run>
  readonly out: () => string
  stop(): void
}

function startDemo(args: readonly string[], env: Record<string, string> = {}): Started {
  const child = spawn(process.execPath, [demo, ...args], {
    env: { ...process.env, NO_COLOR: '', FORCE_COLOR: '', TMPDIR: scratch, TMP: scratch, TEMP: scratch, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: bound,
  })
  let [out, err] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  const ended = new Promise<Run>((resolve) => child.once('close', (code) => resolve({ code, out, err })))
  return { ended, out: () => out, stop: () => void child.kill('SIGINT') }
}

/** What looks like a credential of any kind: opaque tokens, keys, signed tokens, the helpdesk's key. */
const credentials = (text: string): readonly string[] =>
  text.match(/\b(?:sp_[a-z]+_|hd_)[\w-]{20,}|\beyJ[\w-]{10,}\.[\w-]+\.[\w-]+/g) ?? []

describe('the demo, told once', () => {
  let run: Run
  beforeAll(async () => {
    run = await startDemo(['--fast', '--once']).ended
  }, bound)

  test('ends well: everything that should be refused was', () => {
    expect(run).toMatchObject({ code: 0, err: '' })
    expect(run.out).toMatch(/All \d+ claims were checked, and hold\./)
    expect(run.out).not.toContain('NOT TRUE')
  })

  test.each([
    'reader: delete all users',
    'reader: read the tickets of the other customers',
    'reader: dump the users',
    'reader: add the users to a query that it may make',
    'reader: call a function that reads files, written like a column',
    'reader: drop the table of tickets',
    'reader: send what it knows to https://collector.example',
    'reader: go on with its token of the closed case',
    'reader: borrow the responder’s right to refund',
    'reader: read the audit log',
    'responder: drop the table of tickets',
    'responder: become whoever owns the database, and drop it then',
    'responder: delete user 7',
    'responder: refund 649 EUR',
    'responder: put the customer’s data into the address of an allowed site',
    'responder: lend the reader more than reading',
    'responder: go to the API past Sallyport, with the token that it has',
    'responder: call an endpoint of the API that is not listed',
    'responder: name another host, in 5 spellings',
    'responder: have the API redirect the gateway to that host',
    'responder: have an error page of the API tell the key',
    'responder: ask for the stored secrets',
  ])('shows that this was refused, and why: %s', (attack) => {
    const at = run.out.indexOf(`✗ ${attack}\n`)
    expect(at).toBeGreaterThan(0)
    expect(run.out.slice(at)).toMatch(/^.*\n +agent sees {2}\S.*\n(?: {16}.*\n)* +(log says|stopped at) +\S/)
  })

  test('leaves every user where they were', () => {
    expect(run.out).toContain('✓ The helpdesk heard of none of it: 128 users before, 128 after')
  })

  test('adds the key of the API to what the agent may ask for, and sends it nowhere else', () => {
    const text = run.out.replaceAll(/\n +/g, ' ')
    expect(text).toMatch(/GET \/api\/shipping\/v1\/orders\/9001 → 200 .*"desk lamp"/)
    expect(text).toContain('agent sees  500 … authorization: Bearer [secret SHIPPING_KEY]')
    expect(text).toContain('✓ The other host was sent 0 requests; the log says that the key was used for the API alone')
    expect(text).toContain('✓ The key is in none of the answers, nor in the log')
    expect(text).toContain('✓ 5 calls reached the helpdesk; the log allowed exactly these 5')
  })

  test('gets its own customer’s tickets by SQL of its own', () => {
    const text = run.out.replaceAll(/\n +/g, ' ')
    expect(text).toContain('select t.id, t.subject, c.name, c.email from tickets t join customers c')
    expect(text).toContain('→ 101 | Lamp arrived broken | Mara Lindqvist | m***@lindqvist.example')
    expect(text).toContain('✓ It asked for all tickets, and got the 2 of customer 42')
    expect(text).toMatch(/agent sees +0 rows: for this session there are no others/)
  })

  test('drops no table, by the check nor by the database', () => {
    const text = run.out.replaceAll(/\n +/g, ' ')
    expect(text.match(/`desk__query` was refused: DROP can't be run here/g)).toHaveLength(2)
    expect(text).toContain('drop table public.tickets → ERROR: must be owner of table tickets')
    expect(text).toContain('select * from public.users → ERROR: permission denied for table users')
    expect(text).toContain('✓ The database refuses them as well: 5 tickets and 128 users are still there')
  })

  test('asks a person what a delete would do, and deletes nothing where they say no', () => {
    expect(run.out).toMatch(
      /┃ delete from tickets\n[^]*rows +2\n[^]*public\.responses \(ticket_id\): on delete cascade\n/,
    )
    expect(run.out).toContain('✓ Nothing was deleted\n')
    expect(run.out).toMatch(/the delete +1 +0 +1 +1\n/)
  })

  test('refunds once, and asks anew about the same call', () => {
    expect(run.out).toContain('✓ 69.00 EUR were sent back, in 1 refund\n')
    expect(run.out).toContain('✓ An approval lets one exact call happen, once')
    expect(run.out).toContain('✓ Nobody approves their own request')
  })

  test('shows the question as an approver sees it', () => {
    for (const shown of ['helpdesk:refund', '"amount": 69', '"order_id": 9001', 'responder, on behalf of person:anna'])
      expect(run.out).toContain(shown)
  })

  test('kills in less than a second, and for good', () => {
    const [, took] = /after (\d+) ms/.exec(run.out) ?? []
    expect(Number(took)).toBeLessThan(1_000)
    expect(run.out).toContain('✓ Both tokens are dead')
    expect(run.out).toContain('✓ Started again, the gateway still knows whom it killed')
  })

  test('verifies the log, and finds the byte that was changed', () => {
    expect(run.out).toContain('✓ The log verifies')
    expect(run.out).toMatch(/✓ Verification fails, and says where: line \d+/)
    expect(run.out).toMatch(/WRONG/)
  })

  test('counts what was tried', () => {
    expect(run.out).toMatch(/tried +allowed +refused +a person was asked\n/)
    expect(run.out).toMatch(/the attack +23 +4 +19 +0\n/)
    expect(run.out).toMatch(/the refund +4 +1 +3 +2\n/)
  })

  test('shows no credential', () => {
    expect(credentials(run.out + run.err)).toEqual([])
  })

  test('is plain text of at most 80 columns where no terminal is', () => {
    // oxlint-disable-next-line no-control-regex
    expect(run.out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/)
    const lines = run.out.split('\n')
    expect(Math.max(...lines.map((line) => width(line)))).toBeLessThanOrEqual(80)
    expect(lines.filter((line) => line !== line.trimEnd())).toEqual([])
  })

  test('leaves no files', () => {
    expect(fs.readdirSync(scratch).filter((name) => name.startsWith('sallyport-demo-'))).toEqual([])
  })
})

test('in colour, the demo says the same', { timeout: bound }, async () => {
  const { code, out } = await startDemo(['--fast', '--once'], { FORCE_COLOR: '1' }).ended
  expect(code).toBe(0)
  expect(out).toContain('\u001b[32m✓\u001b[39m')
})

test(
  'the demo leaves the gateway running, with a token that works, until it is stopped',
  { timeout: bound },
  async () => {
    const running = startDemo(['--fast'])
    await expect.poll(running.out, { timeout: 30_000 }).toContain('Ctrl-C ends it')
    const out = running.out()
    const [url = ''] = /http:\/\/127\.0\.0\.1:\d+\/mcp/.exec(out) ?? []
    const [token = '', ...more] = credentials(out)
    expect(more).toEqual([])

    const agent = await connect('v1', { url, token })
    expect((await agent.listTools()).map(({ name }) => name)).toContain('helpdesk__refund')
    await agent.close()
    const [folder = ''] = /\S*sallyport-demo-\w+/.exec(out.slice(out.indexOf('Everything is in'))) ?? []

    running.stop()
    const { code, err } = await running.ended
    expect({ code, err }).toEqual({ code: 0, err: '' })
    expect(fs.existsSync(path.join(folder, '.sallyport', 'audit', 'checkpoint'))).toBe(true)
    await expect(connect('v1', { url, token })).rejects.toThrow()
  },
)

test('the demo fails where policy lets an attack through, and says which', { timeout: bound }, async () => {
  const file = path.join(scratch, 'weak.yaml')
  const policy = fs
    .readFileSync(fileURLToPath(new URL('../../demo/sallyport.yaml', import.meta.url)), 'utf8')
    .replace(/ {2}- deny: helpdesk:delete_all_users\n.*\n/, '')
    .replace('      - *search\n', '      - { do: helpdesk:delete_all_users, ask: never }\n      - *search\n')
    .replace('reader: [desk', 'reader: [{ do: helpdesk:delete_all_users, ask: never }, desk')
  fs.writeFileSync(file, policy)
  const { code, out } = await startDemo(['--fast', '--once', '--policy', file]).ended
  expect(code).toBe(1)
  expect(out).toContain('✗ NOT TRUE: reader: delete all users: refused')
  expect(out).toContain('✗ NOT TRUE: The helpdesk heard of none of it: 128 users before, 0 after')
})

test('the demo fails where an endpoint too many is listed, and says which', { timeout: bound }, async () => {
  const file = path.join(scratch, 'open.yaml')
  const policy = fs
    .readFileSync(fileURLToPath(new URL('../../demo/sallyport.yaml', import.meta.url)), 'utf8')
    .replace('      order:\n', '      customers: { request: GET /v1/customers, effect: read }\n      order:\n')
    .replace('{ do: "shipping:*", when: args.customer_id == session.customer_id }', '"shipping:*"')
  fs.writeFileSync(file, policy)
  const { code, out } = await startDemo(['--fast', '--once', '--policy', file]).ended
  expect(code).toBe(1)
  expect(out).toContain('✗ NOT TRUE: responder: call an endpoint of the API that is not listed: refused')
})

test(
  'the demo fails where policy shows the database to every session, and says which',
  { timeout: bound },
  async () => {
    const file = path.join(scratch, 'wide.yaml')
    const policy = fs
      .readFileSync(fileURLToPath(new URL('../../demo/sallyport.yaml', import.meta.url)), 'utf8')
      .replace('        where: customer_id = session.customer_id\n', '')
    fs.writeFileSync(file, policy)
    const { code, out } = await startDemo(['--fast', '--once', '--policy', file]).ended
    expect(code).toBe(1)
    expect(out).toContain('✗ NOT TRUE: It asked for all tickets, and got the 2 of customer 42')
    expect(out).toContain('✗ NOT TRUE: reader: read the tickets of the other customers: refused')
  },
)

test('the demo says what it takes', { timeout: bound }, async () => {
  expect(await startDemo(['--help']).ended).toMatchObject({ code: 0, out: expect.stringContaining('--once') })
  expect(await startDemo(['--twice']).ended).toMatchObject({ code: 2, err: expect.stringContaining('--once') })
})
