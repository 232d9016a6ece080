import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

const checkout = join(import.meta.dirname, '..')
const value = (to: string) => `import { x } from '${to}'\nexport const y = x`
const types = (to: string) => `import type { X } from '${to}'\nexport type Y = X`

/** A source tree: each file, and the rules that its imports break. */
const files: Record<string, [text: string, ...rules: string[]]> = {
  // Allowed.
  'src/main.ts': [value('./gateway/mcp/server.ts')],
  'src/core/noun.ts': [value('./verb.ts')],
  'src/core/verb.ts': ['export const x = 1\nexport type X = 1'],
  'src/core/noun.test.ts': [`${value('node:fs')}\nimport 'vitest'\nimport '../../test/help.ts'`],
  'src/guard/guard.ts': [`${value('../core/noun.ts')}\nimport 'node:fs'\nimport 'zod'`],
  'src/stores/memory/noun.ts': [value('../../core/noun.ts')],
  'src/stores/audit/log.ts': [value('../../core/noun.ts')],
  'src/stores/contract.ts': [`${value('../core/noun.ts')}\nimport 'vitest'`],
  'src/config/config.ts': [value('../guard/guard.ts')],
  'src/gateway/mcp/server.ts': [`${value('./action.ts')}\nimport '../../guard/guard.ts'`],
  'src/gateway/mcp/action.ts': [value('../../core/noun.ts')],
  'src/gateway/sql/server.ts': [value('../../guard/guard.ts')],
  'src/control/wire.ts': ['export type X = 1'],
  'src/control/server.ts': [`${types('./wire.ts')}\nimport '../guard/guard.ts'`],
  'src/cli/sallyport.ts': ["export const run = () => import('./start.ts')"],
  'src/cli/start.ts': [value('../main.ts')],
  'src/cli/audit.ts': [
    `${value('../stores/audit/log.ts')}\n${types('../control/wire.ts').replaceAll('Y', 'Z')}\nimport '../config/config.ts'`,
  ],
  'test/help.ts': [value('../src/gateway/sql/server.ts')],
  'demo/demo.ts': [value('../src/main.ts')],

  // Broken.
  'src/core/outward.ts': [value('../guard/guard.ts'), 'core-is-pure'],
  'src/core/outwardTypes.ts': [types('../stores/memory/noun.ts'), 'core-is-pure'],
  'src/core/outwardExport.ts': ["export * from '../config/config.ts'", 'core-is-pure'],
  'src/core/outwardLater.ts': ["export const x = () => import('../guard/guard.ts')", 'core-is-pure'],
  'src/core/disk.ts': [value('node:fs'), 'core-is-pure'],
  'src/core/package.ts': [value('zod'), 'core-is-pure'],
  'src/core/packageTypes.ts': [types('zod'), 'core-is-pure'],
  'src/core/lost.ts': [value('./nowhere.ts'), 'core-is-pure', 'resolvable'],
  'src/core/circleA.ts': [types('./circleB.ts'), 'no-cycles'],
  'src/core/circleB.ts': [types('./circleA.ts')], // A circle is reported once.
  'src/guard/outward.ts': [value('../stores/memory/noun.ts'), 'guard-imports'],
  'src/stores/outward.ts': [value('../guard/guard.ts'), 'stores-imports'],
  'src/stores/tool.ts': [value('vitest'), 'no-development-packages'],
  'src/stores/tested.ts': [value('./contract.ts'), 'no-tests-in-src'],
  'src/config/outward.ts': [value('../stores/memory/noun.ts'), 'config-imports'],
  'src/gateway/mcp/sibling.ts': [value('../sql/server.ts'), 'gateway-imports'],
  'src/gateway/mcp/siblingTypes.ts': [types('../sql/server.ts'), 'gateway-imports'],
  'src/gateway/mcp/store.ts': [value('../../stores/memory/noun.ts'), 'gateway-imports'],
  'src/gateway/mcp/main.ts': [value('../../main.ts'), 'gateway-imports', 'only-start-imports-main'],
  'src/gateway/sqlite/prefix.ts': [value('../sql/server.ts'), 'gateway-imports'],
  'src/tools/sibling.ts': [value('../gateway/mcp/action.ts'), 'tools-imports'],
  'src/control/outward.ts': [value('../gateway/mcp/action.ts'), 'control-imports'],
  'src/cli/server.ts': [value('../control/server.ts'), 'cli-imports'],
  'src/cli/store.ts': [value('../stores/memory/noun.ts'), 'cli-imports'],
  'src/cli/main.ts': [value('../main.ts'), 'cli-imports', 'only-start-imports-main'],
  'src/guard/test.ts': [value('../../test/help.ts'), 'no-tests-in-src'],
  'src/guard/demo.ts': [value('../../demo/demo.ts'), 'no-tests-in-src'],
  'src/misc/anything.ts': [value('../core/noun.ts'), 'unknown-part'],
}

test('every import that breaks a rule is reported, by file and rule, and no other', () => {
  const root = mkdtempSync(join(tmpdir(), 'sallyport-imports-'))
  try {
    for (const [path, [text]] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
    symlinkSync(join(checkout, 'package.json'), join(root, 'package.json'))
    symlinkSync(join(checkout, 'node_modules'), join(root, 'node_modules'))

    const cruiser = join(checkout, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs')
    const args = [
      cruiser,
      '--config',
      join(checkout, '.dependency-cruiser.mjs'),
      '--output-type',
      'json',
      'src',
      'test',
      'demo',
    ]
    const { stdout } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
    const { summary } = JSON.parse(stdout) as { summary: { violations: { from: string; rule: { name: string } }[] } }

    const found = new Set(summary.violations.map(({ from, rule }) => `${from}: ${rule.name}`))
    const expected = Object.entries(files).flatMap(([path, [, ...rules]]) => rules.map((rule) => `${path}: ${rule}`))
    expect([...found].sort()).toEqual(expected.sort())
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
})
