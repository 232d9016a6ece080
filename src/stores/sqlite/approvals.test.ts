import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Answer, Approval, ApprovalStore, VoidFilter } from '../../core/approval.ts'
import { Failure } from '../../core/failure.ts'
import { answer, approval } from '../contract.ts'
import { memoryStores } from '../memory/stores.ts'
import { openStores } from './stores.ts'

let folder: string
let file: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-approvals-'))
  file = join(folder, 'sallyport.db')
})
afterEach(() => rmSync(folder, { recursive: true }))

const now = approval().openedAt

/**
 * Runs the same program in several processes at once, on the same file, and gives what each returned. All wait until
 * the last is ready.
 */
async function race(processes: number, body: string): Promise<unknown[]> {
  const source = `
    import { once } from 'node:events'
    import { openStores } from ${JSON.stringify(new URL('stores.ts', import.meta.url).href)}
    const [file, index] = process.argv.slice(1)
    const template = JSON.parse(${JSON.stringify(JSON.stringify(approval()))})
    const now = ${now}
    process.stderr.write('ready')
    await once(process.stdin, 'data')
    const { approvals, close } = openStores(file)
    const result = await (async () => { ${body} })()
    await close()
    process.stdout.write(JSON.stringify(result))
    process.stdin.destroy()`
  const children = Array.from({ length: processes }, (_, index) =>
    spawn(process.execPath, ['--input-type=module', '--eval', source, file, String(index)]),
  )
  const errors: string[] = []
  await Promise.all(
    children.map(async (child) => {
      await once(child.stderr, 'data')
      child.stderr.on('data', (chunk: Buffer) => errors.push(chunk.toString()))
    }),
  )
  const outputs = children.map((child) => text(child.stdout))
  for (const child of children) child.stdin.write('go\n')
  const results = await Promise.all(outputs)
  expect(errors.join('')).toBe('')
  return results.map((output) => JSON.parse(output) as unknown)
}

describe('processes that race on one file', () => {
  const count = 40
  const each = `Array.from({ length: ${count} }, (_, index) => index)`

  test('promise 5: each approval is used once', async () => {
    const stores = openStores(file)
    for (let index = 0; index < count; index++) {
      await stores.approvals.open(approval({ id: `apr_${index}`, binding: `b${index}` }), now)
      await stores.approvals.answer(`apr_${index}`, answer({ at: now }))
    }
    const uses = await race(
      4,
      `const used = []
       for (const index of ${each}) await approvals.use('apr_' + index, now).then(() => used.push(index), (thrown) => {
         if (thrown.code !== 'conflict') throw thrown
       })
       return used`,
    )
    expect((uses.flat() as number[]).toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i))
    expect(await stores.approvals.list({ states: ['used'] })).toHaveLength(count)
    await stores.close()
  })

  test('no answer is lost', async () => {
    const stores = openStores(file)
    const ask = { needs: [{ count: 4 }], within: 60_000, self: false }
    for (let index = 0; index < count; index++)
      await stores.approvals.open(approval({ id: `apr_${index}`, binding: `b${index}`, ask }), now)
    await race(
      4,
      `for (const each of ${each})
         await approvals.answer('apr_' + each, { by: 'person:' + index, verdict: 'approve', at: now, teams: [] })
       return true`,
    )
    const approved = await stores.approvals.list({ states: ['approved'] })
    expect(approved).toHaveLength(count)
    for (const { answers } of approved) expect(new Set(answers.map(({ by }) => by)).size).toBe(4)
    await stores.close()
  })

  test('a file that does not exist yet is made once, and one binding has one open question', async () => {
    const opened = (await race(
      4,
      `const ids = []
       for (const each of ${each})
         ids.push((await approvals.open({ ...template, id: 'apr_' + each + '_' + index, binding: 'b' + each }, now)).id)
       return ids`,
    )) as string[][]
    for (const ids of opened) expect(ids).toEqual(opened[0])
    const stores = openStores(file)
    expect(await stores.approvals.list({})).toHaveLength(count)
    await stores.close()
  })
})

type Step = (store: ApprovalStore) => Promise<unknown>

const ids = fc.constantFrom('apr_1', 'apr_2', 'apr_3')
const bindings = fc.constantFrom('b1', 'b2')
const moments = fc.integer({ min: 0, max: 8 }).map((minutes) => now + minutes * 60_000)
const session = fc.constantFrom('ses_1', 'ses_2', 'ses_3')

const filters: fc.Arbitrary<VoidFilter> = fc.oneof(
  fc.record({ id: ids }),
  fc.record({ sessions: fc.uniqueArray(session).map((some) => new Set(some)) }),
  fc.record({ policyOtherThan: fc.constantFrom('p1', 'p2') }),
  fc.constant({ all: true } as const),
)

const questions: fc.Arbitrary<Approval> = fc
  .record({
    id: ids,
    binding: bindings,
    openedAt: moments,
    within: fc.integer({ min: 0, max: 15 }),
    sessions: fc.array(session, { minLength: 1, maxLength: 3 }),
    policy: fc.constantFrom('p1', 'p2'),
    count: fc.constantFrom(1, 1, 1, 2),
    args: fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()),
  })
  .map(({ within, sessions, count, args, ...rest }) =>
    approval({
      ...rest,
      args: JSON.parse(JSON.stringify(args)) as Approval['args'],
      expiresAt: rest.openedAt + within * 60_000,
      ask: { needs: [{ count }], within: within * 60_000, self: false },
      chain: sessions.map((each) => ({ session: each, agent: 'reader', behalf: 'person:anna' })),
    }),
  )

const steps: fc.Arbitrary<{ name: string; run: Step; uses?: string }> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(questions, moments).map(([question, at]) => ({
      name: `open ${question.id} for ${question.binding} at ${at}`,
      run: (store: ApprovalStore) => store.open(question, at),
    })),
  },
  {
    weight: 5,
    arbitrary: fc
      .tuple(
        ids,
        fc.constantFrom('anna', 'ben', 'ben', 'cem', 'cem'),
        fc.constantFrom<Answer['verdict'][]>('approve', 'approve', 'approve', 'approve', 'deny'),
        moments,
      )
      .map(([id, who, verdict, at]) => ({
        name: `${who}: ${verdict} ${id} at ${at}`,
        run: (store: ApprovalStore) => store.answer(id, answer({ by: `person:${who}`, verdict, at })),
      })),
  },
  {
    weight: 5,
    arbitrary: fc.tuple(ids, moments).map(([id, at]) => ({
      name: `use ${id} at ${at}`,
      run: (store: ApprovalStore) => store.use(id, at),
      uses: id,
    })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(filters, moments, fc.option(ids, { nil: undefined })).map(([which, at, replacedBy]) => ({
      name: `void ${JSON.stringify(which)} at ${at}`,
      run: (store: ApprovalStore) => store.void(which, 'ended', at, replacedBy),
    })),
  },
  {
    weight: 1,
    arbitrary: moments.map((at) => ({ name: `expire at ${at}`, run: (store: ApprovalStore) => store.expire(at) })),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(bindings, moments).map(([binding, at]) => ({
      name: `find ${binding} at ${at}`,
      run: async (store: ApprovalStore) => (await store.find(binding, at)) ?? 'nothing',
    })),
  },
)

/** What a step came to: its value, or the code and message of its failure. */
const outcome = (step: Step, store: ApprovalStore): Promise<unknown> =>
  step(store).catch((thrown: unknown) => {
    if (thrown instanceof Failure) return { code: thrown.code, message: thrown.message }
    throw thrown
  })

test('promise 5: whatever happens in whatever order, memory and two connections to SQLite agree, and no approval is used twice', async () => {
  let run = 0
  const tally = { used: 0, attached: 0 }
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(steps, fc.boolean()), { minLength: 10, maxLength: 40, size: 'max' }),
      async (sequence) => {
        const path = join(folder, `${run++}.db`)
        const memory = memoryStores()
        const [first, second] = [openStores(path), openStores(path)]
        try {
          const uses = new Map<string, number>()
          for (const [{ name, run: step, uses: id }, onSecond] of sequence) {
            const expected = await outcome(step, memory.approvals)
            const actual = await outcome(step, onSecond ? second.approvals : first.approvals)
            expect([name, actual]).toEqual([name, expected])
            const state = (expected as Partial<Approval>).state
            if (id !== undefined && state === 'used') {
              uses.set(id, (uses.get(id) ?? 0) + 1)
              tally.used++
            }
            if (name.startsWith('open') && state !== undefined && !name.includes((expected as Approval).id))
              tally.attached++
          }
          expect([...uses.values()].filter((times) => times > 1)).toEqual([])
          expect(await first.approvals.list({})).toEqual(await memory.approvals.list({}))
          const open = await first.approvals.list({ states: ['pending', 'approved'] })
          expect(new Set(open.map(({ binding }) => binding)).size).toBe(open.length)
        } finally {
          await first.close()
          await second.close()
        }
      },
    ),
    { numRuns: 150 },
  )
  // The sequences reach what they are about.
  expect(tally.used).toBeGreaterThan(5)
  expect(tally.attached).toBeGreaterThan(5)
})
