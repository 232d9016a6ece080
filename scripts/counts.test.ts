import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const runs: [name: string, files: Record<string, string>, line: string, status: number][] = [
  ['all pass', { a: "test('x', () => {}); test('y', () => {})" }, '2 passed, 0 failed', 0],
  [
    'one fails, one is skipped, one is to do',
    { a: "test('x', () => {}); test('y', () => expect(1).toBe(2)); test.skip('z', () => {}); test.todo('w')" },
    '1 passed, 1 failed, 2 skipped',
    1,
  ],
  ['a file does not load', { a: "test('x', () => {})", b: "throw new Error('no')" }, '1 passed, 1 failed', 1],
  [
    'an error outside any test',
    { a: "test('x', () => { setImmediate(() => { throw new Error('late') }) })" },
    '1 passed, 1 failed',
    1,
  ],
]
for (const [name, files, line, status] of runs) {
  test(`the last line of a run in which ${name}: ${line}`, () => {
    const root = mkdtempSync(join(tmpdir(), 'sallyport-counts-'))
    try {
      for (const [file, text] of Object.entries(files)) writeFileSync(join(root, `${file}.test.js`), text)
      const vitest = join(import.meta.dirname, '../node_modules/vitest/vitest.mjs')
      const reporter = `--reporter=${join(import.meta.dirname, 'counts.ts')}`
      const run = spawnSync(
        process.execPath,
        [vitest, 'run', '--globals', '--root', root, '--reporter=default', reporter],
        {
          encoding: 'utf8',
          cwd: root,
        },
      )
      expect(run.stdout.trimEnd().split('\n').at(-1)).toBe(line)
      expect(run.status).toBe(status)
    } finally {
      rmSync(root, { recursive: true, force: true })
    }
  })
}
