import { expect, test } from 'vitest'
import { jsonSchema, knownKeys, referencePage } from './published.ts'

const docs = new URL('../../docs/', import.meta.url)
const file = (name: string): string => new URL(name, docs).pathname

// `npx vitest run src/config -u` writes both anew.
test('docs/sallyport.schema.json is what the schema says', async () => {
  await expect(`${JSON.stringify(jsonSchema(), null, 2)}\n`).toMatchFileSnapshot(file('sallyport.schema.json'))
})

test('docs/configuration.md is what the schema says', async () => {
  await expect(referencePage()).toMatchFileSnapshot(file('configuration.md'))
})

test('every key has a sentence', () => {
  const bare = referencePage()
    .split('\n')
    .filter((line) => line.startsWith('| `') && line.endsWith('|  |'))
  expect(bare).toEqual([])
})

test('known keys are found through names, lists and alternatives', () => {
  expect(knownKeys(['agents', 'reader', 'may', 3])).toContain('when')
  expect(knownKeys(['agents', 'reader', 'may', 3, 'ask'])).toContain('within')
  expect(knownKeys(['listen', 'agents'])).toEqual([])
})
