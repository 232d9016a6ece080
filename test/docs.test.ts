import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { compilePolicy } from '../src/config/compile.ts'
import { loadSettings } from '../src/config/load.ts'
import { compileCondition } from '../src/guard/condition.ts'

const root = path.join(import.meta.dirname, '..')

/** What a page leaves out because it is not what the page is about. */
const context: Readonly<Record<string, string>> = {
  'docs/agents.md': '\nagents: { deployer: { may: [] } }\n',
}

/** A piece of a file stands where its indentation says. */
function whole(piece: string): string {
  const within = /^ */.exec(piece)?.[0].length ?? 0
  const api =
    '  crm:\n    http: https://login.example.com\n    operations: { whoami: { request: GET /me, effect: read } }\n'
  return `${within >= 2 ? 'resources:\n' : ''}${within >= 4 ? api : ''}${piece}`
}

const blocks = ['README.md', 'docs/agents.md', 'docs/mcp.md', 'docs/http.md', 'docs/secrets.md', 'docs/sql.md'].flatMap(
  (page) =>
    [...fs.readFileSync(path.join(root, page), 'utf8').matchAll(/^```yaml\n([\s\S]*?)^```/gm)].map(
      ([, text = ''], position) => [page, position + 1, text] as const,
    ),
)

test.each(blocks)('%s: configuration %i can be loaded as it stands', (page, _, text) => {
  const loaded = loadSettings(whole(text) + (context[page] ?? ''), { file: path.join(root, page) })
  expect(compilePolicy(loaded, { compileCondition }).digest).toHaveLength(64)
})

test('every page, picture and folder that a page links to is there', () => {
  const pages = ['README.md', 'ARCHITECTURE.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md']
  const all = [
    ...pages,
    ...fs
      .readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' })
      .flatMap((name) => (name.endsWith('.md') ? path.join('docs', name) : [])),
  ]
  const dead = all.flatMap((page) =>
    [...fs.readFileSync(path.join(root, page), 'utf8').matchAll(/\]\((?!https?:|#)([^)#\s]+)[^)]*\)/g)]
      .map(([, target = '']) => path.join(root, path.dirname(page), target))
      .filter((target) => !fs.existsSync(target))
      .map((target) => `${page} → ${path.relative(root, target)}`),
  )
  expect(dead).toEqual([])
})
