import { expect, test } from 'vitest'
import { toolAction } from './action.ts'
import { offerLocal } from './local.ts'

test('a call of a tool of this process says which host it is for', () => {
  const offer = offerLocal({
    alias: 'desk',
    host: 'desk.example',
    name: 'read',
    permission: 'desk:read',
    effect: 'read',
    label: { trust: 'untrusted', readers: 'internal' },
    description: 'Reads.',
    schema: { type: 'object' },
    check: () => [],
    prepare: async () => {
      throw new TypeError('nothing is performed here')
    },
  })
  expect(toolAction('ses_1', offer, {}, true)).toMatchObject({ permission: 'desk:read', host: 'desk.example' })
})
