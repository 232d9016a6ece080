import fc from 'fast-check'
import { expect, test } from 'vitest'
import { hasReference, parseTemplate } from './reference.ts'

test.each([
  ['plain', ['plain']],
  ['', ['']],
  ['${env:KEY}', [{ from: 'env', name: 'KEY' }]],
  ['Bearer ${env:KEY}', ['Bearer ', { from: 'env', name: 'KEY' }]],
  ['${file:./key.txt}${env:B}!', [{ from: 'file', path: './key.txt' }, { from: 'env', name: 'B' }, '!']],
  ['${secret:CRM_KEY}', [{ from: 'secret', name: 'CRM_KEY' }]],
  ['${vault:apps/crm#api-key}', [{ from: 'vault', path: 'apps/crm', field: 'api-key' }]],
  ['$${env:KEY}', ['${env:KEY}']],
  ['a $${ b', ['a ${ b']],
  ['costs $5 {x}', ['costs $5 {x}']],
])('%s is read', (text, parts) => {
  expect(parseTemplate(text)).toEqual(parts)
})

test.each([
  ['${secret:a b}', /expected a name in `\$\{secret:NAME\}`/],
  ['${vault:a}', /`\$\{vault:path#field\}`/],
  ['${vault:a/../b#c}', /`\$\{vault:path#field\}`/],
  ['${vault:/a#c}', /`\$\{vault:path#field\}`/],
  ['${KEY}', /expected `\$\{secret:NAME\}`, `\$\{env:NAME\}`/],
  ['${env:}', /name of an environment variable/],
  ['${env:A B}', /name of an environment variable/],
  ['${file:}', /expected a path/],
  ['${env:KEY', /not closed/],
])('%s is refused', (text, message) => {
  expect(() => parseTemplate(text)).toThrow(message)
})

test('promise 4: a refusal never repeats the text', () => {
  expect(() => parseTemplate('hunter2-${oops:hunter2}')).toThrow(/^(?!.*hunter2)/)
})

test('text with every `${` escaped means itself', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom('$', '{', '}', 'env:', 'A', ' '), { maxLength: 12 }), (pieces) => {
      const text = pieces.join('')
      fc.pre(!text.includes('$${'))
      expect(parseTemplate(text.replaceAll('${', () => '$${'))).toEqual([text])
    }),
  )
})

test('an escaped reference is none', () => {
  expect([hasReference('${env:A}'), hasReference('$${env:A}'), hasReference('${x}')]).toEqual([true, false, false])
})
