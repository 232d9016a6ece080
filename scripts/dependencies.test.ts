import { expect, test } from 'vitest'
import { faultsOfPackages, inexactVersions, permits, undocumented } from './dependencies.ts'

const expressions: [expression: string, permitted: boolean][] = [
  ['MIT', true],
  ['GPL-3.0-only', false],
  ['MIT OR GPL-3.0-only', true],
  ['GPL-3.0-only OR MIT', true],
  ['MIT AND GPL-3.0-only', false],
  ['GPL-3.0-only AND MIT', false],
  ['(MIT OR GPL-3.0-only) AND ISC', true],
  ['MIT OR GPL-3.0-only AND GPL-2.0-only', true],
  ['(MIT OR ISC) AND GPL-2.0-only', false],
  ['MIT ISC', false],
  ['(MIT', false],
  ['', false],
  ['SEE LICENSE IN LICENSE.txt', false],
]
for (const [expression, permitted] of expressions) {
  test(`licence \`${expression}\`: ${permitted ? 'permitted' : 'refused'}`, () =>
    expect(permits(expression)).toBe(permitted))
}

test('a package of the product needs a permitted licence and no install script; one for development does not', () => {
  expect(
    faultsOfPackages({
      '': { version: '1.0.0' },
      'node_modules/fine': { version: '1.0.0', license: 'MIT' },
      'node_modules/tool': { version: '1.0.0', license: 'GPL-3.0-only', dev: true, hasInstallScript: true },
      'node_modules/fine/node_modules/viral': { version: '2.0.0', license: 'AGPL-3.0' },
      'node_modules/nameless': { version: '3.0.0' },
      'node_modules/eager': { version: '4.0.0', license: 'ISC', hasInstallScript: true },
      'node_modules/addressed': { version: '5.0.0', dev: true, resolved: 'https://example.com/a.tgz' },
    }),
  ).toEqual([
    expect.stringMatching(/^viral 2\.0\.0: licence AGPL-3\.0/),
    expect.stringMatching(/^nameless 3\.0\.0: no licence/),
    expect.stringMatching(/^eager 4\.0\.0: runs a script/),
    expect.stringMatching(/^addressed 5\.0\.0: .*download address/),
  ])
})

test('ranges and tags are not exact versions', () => {
  const dependencies = { a: '1.2.3', b: '1.2.3-alpha.1', c: '^1.2.3', d: 'latest', e: '1.x' }
  expect(inexactVersions({ dependencies }).map((fault) => fault[0])).toEqual(['c', 'd', 'e'])
})

test('the page names exactly the dependencies, each once, with a reason', () => {
  const manifest = { dependencies: { a: '1.0.0', '@b/c': '1.0.0' } }
  expect(undocumented(manifest, '- `a`: reason\n- `@b/c`: reason\n')).toEqual([])
  expect(undocumented(manifest, '- `a`: reason\n')).toEqual([expect.stringMatching(/^@b\/c: give its reason/)])
  expect(undocumented(manifest, '- `a`: \n- `@b/c`: reason\n')).toEqual([expect.stringMatching(/^a: give its reason/)])
  expect(undocumented(manifest, '- `a`: x\n- `@b/c`: y\n- `d`: z\n- `a`: x\n')).toEqual([
    expect.stringMatching(/^d: .*does not depend/),
    expect.stringMatching(/^a: .*twice/),
  ])
})
