import fs from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { canonicalize } from '../src/core/canonical.ts'
import { eventFields } from '../src/core/event.ts'
import type { JsonObject } from '../src/core/json.ts'

const page = fs.readFileSync(path.join(import.meta.dirname, '../docs/events.md'), 'utf8')

interface Told {
  readonly fields: readonly string[]
  readonly example: string
}

/** What the page says of each type. */
const told = new Map<string, Told>(
  page
    .split(/^### /m)
    .slice(1)
    .map((section) => [
      /^`([^`]+)`\n/.exec(section)?.[1] ?? section,
      {
        fields: [...(/^Fields: (.*)\.$/m.exec(section)?.[1] ?? '').matchAll(/`([^`]+)`/g)].map(
          ([, field = '']) => field,
        ),
        example: /^```json\n(.*)\n```$/m.exec(section)?.[1] ?? '',
      },
    ]),
)

test('the page tells of every type of event, and of no other', () => {
  expect([...told.keys()].toSorted()).toEqual(Object.keys(eventFields).toSorted())
})

test.each(Object.entries(eventFields))('%s: its fields, and a line as it stands in the log', (type, fields) => {
  const { fields: listed, example } = told.get(type) ?? { fields: [], example: '{}' }
  expect([...listed].toSorted()).toEqual([...new Set<string>(fields)].toSorted())
  const event = JSON.parse(example) as JsonObject
  expect(canonicalize(event), 'as the log writes it').toBe(example)
  expect(event).toMatchObject({ type, id: expect.stringMatching(/^evt_[0-9a-f]{8}_\d+$/) as unknown })
  const known = ['id', 'type', 'at', ...listed]
  expect(Object.keys(event).filter((field) => !known.includes(field))).toEqual([])
})
