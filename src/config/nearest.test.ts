import { expect, test } from 'vitest'
import { didYouMean, nearest } from './nearest.ts'

test.each([
  ['resorces', 'resources'],
  ['agnets', 'agents'],
  ['Rules', 'rules'],
  ['rule', 'rules'],
])('%s was meant to be %s', (word, meant) => {
  expect(nearest(word, ['resources', 'agents', 'rules'])).toBe(meant)
})

test('a word that is near to nothing is near to nothing', () => {
  expect(nearest('postgres', ['mcp', 'tools', 'trust'])).toBeUndefined()
  expect(didYouMean('', ['mcp'])).toBe('')
})

test('a word of any length is compared in a bounded time', () => {
  expect(nearest('x'.repeat(1_000_000), ['resources', 'y'.repeat(1_000_000)])).toBeUndefined()
})
