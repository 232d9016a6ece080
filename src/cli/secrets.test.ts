import { PassThrough } from 'node:stream'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPeopleSide } from '../../test/support/people.ts'
import type { PeopleSide } from '../../test/support/people.ts'
import type { Io } from './io.ts'
import { runLine } from './run.ts'

const value = 'sk-live-9f8e7d6c5b4a'
let side: PeopleSide
beforeAll(async () => {
  side = await startPeopleSide()
})
afterAll(async () => {
  await side.close()
})

interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
  readonly raw: boolean[]
}

async function run(line: string, typed: string | Buffer = '', isTTY = false): Promise<Ran> {
  let [out, err] = ['', '']
  const raw: boolean[] = []
  const stdin = Object.assign(new PassThrough(), isTTY ? { isTTY, setRawMode: (on: boolean) => raw.push(on) } : {})
  stdin.end(typed)
  const io: Io = {
    out: (text) => void (out += `${text}\n`),
    err: (text) => void (err += `${text}\n`),
    isTty: isTTY,
    color: false,
    columns: 100,
    env: { SALLYPORT_URL: side.url, SALLYPORT_KEY: side.keys.admin },
    cwd: '/',
    stdin: stdin as unknown as Io['stdin'],
  }
  const code = await runLine(line.split(' '), io)
  return { code, out, err, raw }
}

const current = (name: string, resource = 'crm', host = 'api.example.com'): string =>
  side.vault.use(name, { resource, host })

test('the value comes from standard input, without one line end, and is shown nowhere', async () => {
  const done = await run('secrets set CRM_KEY --resource crm --host API.example.com', `${value}\n`)
  expect(done).toEqual({ code: 0, out: 'CRM_KEY is set, for crm, api.example.com\n', err: '', raw: [] })
  expect(current('CRM_KEY')).toBe(value)
  const rotated = await run('secrets rotate CRM_KEY --overlap 10m', 'another-value\r\n')
  expect(rotated.out).toMatch(/^CRM_KEY has a new value: version 2 \(1 until .*Z\)\n$/)
  expect(current('CRM_KEY')).toBe('another-value')
  const listed = await run('secrets list')
  expect(listed.out).toMatch(
    /SECRET +BOUND TO +VERSION +LAST USED\nCRM_KEY +crm, api\.example\.com +2 \(1 until .*\) +20/,
  )
  expect((await run('secrets list --json')).out).not.toMatch(/another-value|sk-live/)
  expect((await run('secrets rekey')).out).toBe('1 secret is under the new master key\n')
  expect(current('CRM_KEY')).toBe('another-value')
  expect((await run('secrets remove CRM_KEY')).out).toBe('CRM_KEY is removed\n')
  expect((await run('secrets list')).out).toBe('there are no secrets\n')
})

test('at a terminal it is typed unseen, and can be corrected', async () => {
  const done = await run('secrets set TYPED --resource crm', `${value}xé\x7f\x7f\r`, true)
  expect(done).toMatchObject({ code: 0, err: 'value (not shown), then Enter:\n', raw: [true, false] })
  expect(current('TYPED')).toBe(value)
  const left = await run('secrets set LEFT --resource crm', `${value}\x03`, true)
  expect(left).toMatchObject({ code: 1, raw: [true, false] })
  expect(left.err).toContain('nothing was stored')
})

test.each([
  [`secrets set X ${value} --resource crm`, '', 2, /takes <name> and no more/],
  ['secrets set X', value, 2, /expected `--resource`, `--host` or both/],
  ['secrets set X --resource crm', '', 1, /standard input holds no value/],
  ['secrets set X --resource crm', 'short', 1, /at least 8 characters.*--short/],
  ['secrets set X --resource crm', Buffer.from([0xff, 0xfe, 0x41]), 1, /text in UTF-8/],
  ['secrets set X --resource crm', 'x'.repeat(70_000), 1, /at most 65536 bytes/],
  ['secrets set X --host *.example.com', value, 1, /wildcards/],
  ['secrets rotate NONE', value, 1, /there is no secret `NONE`/],
  ['secrets remove NONE', '', 1, /there is no secret `NONE`/],
])('%s fails clearly, without the value', async (line, typed, code, words) => {
  const failed = await run(line, typed)
  expect(failed.code).toBe(code)
  expect(failed.err).toMatch(words)
  expect(failed.err + failed.out).not.toContain(value)
})
