import { expect, test } from 'vitest'
import { recordingAudit } from '../../test/support/world.ts'
import { createDoors } from './doors.ts'

test('refused credentials are recorded, the first at once and many as one', async () => {
  const time = { now: 1_000_000 }
  const audit = recordingAudit()
  const doors = createDoors(audit, () => time.now)
  doors.turnedAway('people')
  await doors.sweep()
  for (let knock = 0; knock < 500; knock++) doors.turnedAway('people')
  doors.turnedAway('agents')
  await doors.sweep()
  time.now += 10_000
  await doors.sweep()
  await doors.sweep()
  expect(audit.of('credential.refused')).toMatchObject([
    { door: 'people', count: 1 },
    { door: 'agents', count: 1 },
    { door: 'people', count: 500 },
  ])
})
