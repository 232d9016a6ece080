import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { checkCommand } from './check.ts'
import { initCommand } from './init.ts'

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sallyport-check-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

type Command = typeof checkCommand

async function run(command: Command, ...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ['', '']
  const code = await command(args, {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    cwd: folder,
  })
  return { code, out, err }
}

const write = (text: string, name = 'sallyport.yaml') => writeFile(join(folder, name), text)

test('init writes a file that check finds nothing wrong with', async () => {
  expect(await run(initCommand)).toMatchObject({
    code: 0,
    out: expect.stringContaining('sallyport check sallyport.yaml'),
  })
  const { code, out } = await run(checkCommand)
  expect(code).toBe(0)
  expect(out).toMatch(/^sallyport\.yaml is ok\n/)
  expect(out).not.toMatch(/warning/)
})

test('init never writes over a file', async () => {
  await write('mine')
  expect(await run(initCommand)).toMatchObject({
    code: 1,
    err: 'sallyport.yaml is there already; nothing was changed\n',
  })
  expect(await readFile(join(folder, 'sallyport.yaml'), 'utf8')).toBe('mine')
})

test('init makes the folder that it is given', async () => {
  expect((await run(initCommand, 'new/folder')).code).toBe(0)
  expect((await run(checkCommand, 'new/folder/sallyport.yaml')).code).toBe(0)
})

test('check says what is wrong and where', async () => {
  await write('agnets: {}\n', 'other.yaml')
  expect(await run(checkCommand, 'other.yaml')).toEqual({
    code: 1,
    out: '',
    err: 'other.yaml has a problem:\n  other.yaml:1:1: agnets: unknown key; did you mean `agents`?\n',
  })
})

test('check finds conditions that do not compile', async () => {
  await write('resources: { a: { mcp: { command: [a] } } }\nrules: [{ deny: "a:*", when: session.nobody == 1 }]\n')
  expect(await run(checkCommand)).toMatchObject({
    code: 1,
    err: expect.stringMatching(/sallyport\.yaml:2:30: rules\[0\]\.when: .*nobody/),
  })
})

test('check names the wildcards', async () => {
  await write('resources: { a: { mcp: { command: [a] } } }\nagents: { r: { may: ["a:*"] } }\n')
  const { code, out } = await run(checkCommand)
  expect(code).toBe(0)
  expect(out).toMatch(/ {2}wildcards {2}a:\*\n/)
  expect(out).toMatch(/a warning:\n {2}sallyport\.yaml:2:22: agents\.r\.may\[0\]: `a:\*` opens/)
})

test('check tells programs the same', async () => {
  await write('rules: [{}]\n')
  const { code, out } = await run(checkCommand, '--json')
  expect(code).toBe(1)
  expect(JSON.parse(out)).toMatchObject({ ok: false, problems: [{ line: 1, column: 9, path: 'rules[0]' }] })
})

test.each([
  [['nothing.yaml'], /nothing\.yaml cannot be read \(ENOENT\); `sallyport init`/],
  [['a', 'b'], /^usage/],
  [['--jsno'], /^usage/],
])('check %j has nothing to check', async (args, message) => {
  expect(await run(checkCommand, ...args)).toMatchObject({ code: 2, err: expect.stringMatching(message) })
})

test('what a file says cannot draw on the terminal', async () => {
  await write('"\\e[2Jx": 1\n')
  const { err } = await run(checkCommand)
  expect(err).toContain('\\x1b[2Jx')
  expect(err).not.toContain('\u001b')
})
