import fc from 'fast-check'
import { expect, test } from 'vitest'
import { literal, namesOf, quoted } from './names.ts'

test('names follow from the alias', () => {
  const names = namesOf('help-desk')
  expect({ ...names, agent: names.agent('ticket-reader') }).toEqual({
    policy: 'sallyport_help_desk',
    internal: 'sallyport_help_desk_internal',
    catalog: 'sallyport_help_desk_catalog',
    owner: 'sallyport_help_desk_owner',
    agent: 'sallyport_help_desk_ticket_reader',
  })
})

test('an agent called `owner` does not become the owner of the views', () => {
  const names = namesOf('desk')
  expect(names.agent('owner')).toMatch(/^sallyport_desk_owner_[0-9a-f]{12}$/)
})

test('every name fits, needs no quotes, and tells agents apart', () => {
  const name = fc.stringMatching(/^[a-z][a-z0-9_-]{0,70}$/)
  fc.assert(
    fc.property(name, name, name, (alias, one, other) => {
      const { policy, internal, catalog, owner, agent } = namesOf(alias)
      const all = [policy, internal, catalog, owner, agent(one), agent(other)]
      for (const each of all) expect(each).toMatch(/^[a-z][a-z0-9_]{0,62}$/)
      expect(new Set(all).size).toBe(one === other ? 5 : 6)
    }),
  )
})

test('what is quoted stays one name, and one string', () => {
  expect(quoted('a"; drop table t; --')).toBe('"a""; drop table t; --"')
  expect(literal("it's")).toBe("'it''s'")
  expect(literal("a\\' or 1=1 --")).toBe("E'a\\\\'' or 1=1 --'")
})
