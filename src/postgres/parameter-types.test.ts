import { describe, expect, it, test } from 'vitest'
import { exactTypes } from './lists.ts'
import { declaring, numberOfType, plainTypes } from './parameter-types.ts'
import type { Statement } from './verdict.ts'

const use = { table: 'tickets', verb: 'update', columns: ['status'], isBounded: true } as const
const statement: Statement = {
  command: 'update',
  uses: [{ ...use, verb: 'select', isBounded: false }, use],
  functions: [],
  isCatalog: false,
  from: 0,
  to: 10,
  keyParameters: [2],
}
const bounded = (numbers: readonly number[]): boolean | undefined => declaring(statement, numbers).uses[1]?.isBounded

describe('a statement whose parameters are declared', () => {
  it.each([[[]], [[0]], [[0, 0]], [[705]], [[0, 705, 0]]])('as nothing (%j) is the same', (numbers) => {
    expect(declaring(statement, numbers)).toBe(statement)
  })

  it('says what they are declared as', () => {
    expect(declaring(statement, [25, 0, 1016, 705]).types).toEqual(['text', 'unknown', 'int8[]', 'unknown'])
    expect(declaring(statement, [99_999]).types).toEqual(['99999'])
  })

  it('is held to the key by types in which no two keys are the same, and by no others', () => {
    const held = [...plainTypes].filter(([number]) => bounded([0, number]))
    expect(held.map(([, name]) => name).sort()).toEqual([...exactTypes, 'unknown'].sort())
    expect(bounded([0, 99_999])).toBe(false)
  })

  it('is held to it whatever its other parameters are', () => {
    expect(bounded([701, 20, 1042])).toBe(true)
    expect(bounded([701])).toBe(true)
  })

  it('loses nothing else', () => {
    const { uses, types, ...rest } = declaring(statement, [0, 701])
    expect({ ...rest, uses: uses.map((each) => ({ ...each, isBounded: each.verb === 'update' })) }).toEqual(statement)
    expect(types).toEqual(['unknown', 'float8'])
    expect(statement.uses[1]?.isBounded).toBe(true)
  })

  it('is not the one within PREPARE: that has types of its own', () => {
    const prepare: Statement = { ...statement, command: 'prepare' }
    expect(declaring(prepare, [0, 701])).toBe(prepare)
  })
})

test('types are known by number and by name', () => {
  for (const [number, name] of plainTypes) expect(numberOfType(name)).toBe(number)
  expect([numberOfType('regclass'), numberOfType('99999')]).toEqual([0, 0])
  for (const name of exactTypes) expect([...plainTypes.values()]).toContain(name)
})
