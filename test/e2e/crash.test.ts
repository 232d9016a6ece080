import { DatabaseSync } from 'node:sqlite'
import path from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { AuditEvent } from '../../src/core/audit.ts'
import { eventsIn, newFolder, removeFolders, startSallyport, until, verifyIn } from '../support/sallyport.ts'
import type { Sallyport } from '../support/sallyport.ts'
import { scriptedUpstream, text } from '../support/upstream.ts'

afterAll(removeFolders)

const rounds = 20
const readsPerRound = 40
const questionsPerRound = 12 // Each asked for twice at once: two calls race for one approval.

/** Counts of the store, as they are on the disk. */
function countersIn(state: string): Record<string, number> {
  const db = new DatabaseSync(path.join(state, 'sallyport.db'), { readOnly: true })
  try {
    return Object.fromEntries(
      db
        .prepare('select name, value from counters')
        .all()
        .map(({ name, value }) => [String(name), Number(value)]),
    )
  } finally {
    db.close()
  }
}

const argsOf = ({ args }: AuditEvent): string => String((args as { text?: unknown } | undefined)?.text)

test('promise 1, 5, 8: killed in the middle of 64 calls, 20 times: nothing acknowledged is lost, nothing was done without its record, or twice', async () => {
  const upstream = await scriptedUpstream()
  const performed: string[] = []
  upstream.onCall = async ({ params }) => {
    const said = (params['arguments'] as { text: string }).text
    performed.push(said)
    await new Promise((resolve) => setTimeout(resolve, performed.length % 20))
    return text(`done: ${said}`)
  }
  const folder = newFolder()
  const settings = {
    approvals: { hold: '1 ms', hold_with_progress: '1 ms' },
    resources: { desk: { mcp: { url: upstream.url }, tools: { echo: 'read', act: 'destroy' } } },
    agents: {
      worker: { may: ['desk:echo', 'desk:act'], limits: { calls: '100000/session' } },
      counted: { may: ['desk:echo'], limits: { calls: '3/day' } },
      stopped: { may: ['desk:echo'] },
    },
  }
  const open = (): Promise<Sallyport> => startSallyport({ settings, folder, as: 'process' })

  let gateway = await open()
  const { state } = gateway
  try {
    // What has to be there after every one of the deaths.
    const long = await gateway.session('worker', { lasts: 3_600 })
    const counted = await gateway.session('counted', { lasts: 3_600 })
    const stopped = await gateway.session('stopped', { lasts: 3_600 })
    await gateway.admin('POST', '/v1/kill', { target: 'stopped' })
    for (let spent = 0; spent < 3; spent++)
      expect((await gateway.call(counted.token, 'desk__echo', { text: `counted ${spent}` })).text).toContain('done:')
    await until('the limit is on the disk', () => Object.keys(countersIn(state)).some((key) => key.includes('counted')))

    const answered: string[] = []
    const approved: { readonly id: string; readonly text: string }[] = []
    for (let round = 0; round < rounds; round++) {
      const session = await gateway.session('worker', { lasts: 3_600 })
      const asked = Array.from({ length: questionsPerRound }, (_, each) => `act ${round}.${each}`)
      await Promise.all(asked.map((said) => gateway.call(session.token, 'desk__act', { text: said })))
      const questions = (await gateway.approvals()).filter(({ args }) => asked.includes(args['text'] as string))
      expect(questions).toHaveLength(questionsPerRound)
      await Promise.all(questions.map(({ id }) => gateway.approve(id)))
      approved.push(...questions.map(({ id, args }) => ({ id, text: args['text'] as string })))

      // 64 calls at once; the process dies when some of them were answered, never the same number.
      const dieAfter = (round * 7) % 60
      let died: Promise<void> | undefined
      let answers = 0
      const dieAt = (count: number): void => {
        if (count >= dieAfter) died ??= gateway.kill()
      }
      const call = async (tool: string, said: string): Promise<void> => {
        const { answer } = await gateway.call(session.token, tool, { text: said })
        if (answer.result?.['content'][0].text === `done: ${said}`) answered.push(said)
        dieAt(++answers)
      }
      const calls = [
        ...Array.from({ length: readsPerRound }, (_, each) => call('desk__echo', `read ${round}.${each}`)),
        ...asked.flatMap((said) => [call('desk__act', said), call('desk__act', said)]),
      ]
      expect(calls).toHaveLength(64)
      if (dieAfter === 0)
        await until('one of them is on its way', () => performed.some((said) => said.includes(` ${round}.`))).then(() =>
          dieAt(0),
        )
      await Promise.allSettled(calls)
      await died
      expect(gateway.child?.signalCode).toBe('SIGKILL')

      // As it was left, before anything has put it in order.
      expect((await verifyIn(state)).problems).toEqual([])

      gateway = await open()
      expect((await gateway.call(long.token, 'desk__echo', { text: `alive ${round}` })).text).toContain(
        `done: alive ${round}`,
      )
      expect((await gateway.call(counted.token, 'desk__echo', { text: 'too many' })).text).toContain('"code":"limited"')
      expect((await gateway.call(stopped.token, 'desk__echo', { text: 'stopped' })).status).toBe(401)
      expect((await gateway.people('POST', '/v1/sessions', { agent: 'stopped' })).status).toBe(403)
      // Every approved call again, by the same session: what was used asks anew, what was not happens now, once.
      const again = await Promise.all(asked.map((said) => gateway.call(session.token, 'desk__act', { text: said })))
      for (const { text: said } of again) expect(said).toMatch(/done: act|approval_pending/)
    }
    await gateway.stop()

    const report = await verifyIn(state)
    expect(report).toMatchObject({ ok: true, unsigned: 0, problems: [] })
    const events = await eventsIn(state)
    const decisions = events.filter(({ type }) => type === 'decision')
    const allowed = new Map<string, AuditEvent[]>()
    for (const event of decisions)
      if (event['decision'] === 'allow') allowed.set(argsOf(event), [...(allowed.get(argsOf(event)) ?? []), event])

    const outcomes = new Set(events.filter(({ type }) => type === 'action.done').map((event) => event['of']))
    const unrecorded = answered.filter((said) => !(allowed.get(said) ?? []).some(({ id }) => outcomes.has(id)))
    expect(unrecorded, 'answered calls whose decision or outcome is not in the log').toEqual([])
    expect(
      performed.filter((said) => !allowed.has(said)),
      'performed without a decision',
    ).toEqual([])

    const acts = performed.filter((said) => said.startsWith('act'))
    expect(
      acts.filter((said, index) => acts.indexOf(said) !== index),
      'performed twice under one approval',
    ).toEqual([])
    const uses = events.filter(({ type }) => type === 'approval.use').map((event) => event['approval'])
    expect(new Set(uses).size).toBe(uses.length)
    for (const said of acts) expect(uses).toContain(approved.find((each) => each.text === said)?.id)
    // The test would show nothing if the deaths had come too early or too late.
    expect(answered.length).toBeGreaterThan(rounds * 10)
    expect(answered.length).toBeLessThan(rounds * 52)
  } finally {
    await gateway.kill()
    await upstream.close()
  }
}, 120_000)
