import { afterAll, describe, expect, it } from 'vitest'
import { helpdesk } from '../../test/attacks/sql-statements.ts'
import type { Database } from './description.ts'
import { openChecker, parseExpression } from './parse.ts'

// On a busy machine an ordinary statement can take longer than it is given; what is meant to take long takes forever.
const checker = openChecker({ deadline: 5000 })
const after = [checker]
afterAll(() => Promise.all(after.map((each) => each.close())))

let callers = 0
/** Someone who never sent anything before. */
const someone = (): string => `caller ${++callers}`

const check = (text: string | Uint8Array, database: Database = helpdesk) =>
  checker.check(text, database, { caller: someone() })

describe('the checker', () => {
  it('understands and refuses', async () => {
    expect(await check('select id from tickets')).toMatchObject({
      kind: 'understood',
      statements: [{ command: 'select' }],
    })
    expect(await check('select id from salaries')).toMatchObject({ kind: 'refused', sqlstate: '42P01' })
    expect(await checker.check('select 1; select 2', helpdesk, { one: true })).toMatchObject({ kind: 'refused' })
    expect(await checker.check('select 1; select 2', helpdesk)).toMatchObject({ kind: 'understood' })
  })

  it('says where the syntax is wrong, in characters', async () => {
    expect(await check("select 'é', x y z")).toEqual({
      kind: 'refused',
      sqlstate: '42601',
      because: 'syntax error at or near "z"',
      position: 17,
    })
  })

  it('never repeats a long text, or one that moves the cursor', async () => {
    const verdict = await check(`select \u{1b}[2J ${'x'.repeat(5000)} /*`)
    expect(verdict.kind === 'refused' && verdict.because.length).toBeLessThan(300)
    expect(JSON.stringify(verdict)).not.toContain('[2J\u{1b}')
  })

  it.each(['', ' ', ';', '-- nothing', '/* nothing */'])('takes nothing for nothing: %j', async (text) => {
    expect(await check(text)).toEqual({ kind: 'understood', statements: [] })
  })

  it('keeps what it understood, for each database and each way of asking', async () => {
    const other: Database = { ...helpdesk, tables: new Map() }
    const text = 'select subject from tickets where id = 99'
    expect(checker.known(text, helpdesk)).toBeUndefined()
    const verdict = await check(text)
    expect(checker.known(text, helpdesk)).toEqual(verdict)
    expect(checker.known(text, helpdesk, { one: true })).toBeUndefined()
    expect(checker.known(text, other)).toBeUndefined()
    expect(await check(text, other)).toMatchObject({ kind: 'refused' })
    expect(checker.known(text, helpdesk)).toEqual(verdict)
    await check('select 1 from salaries')
    expect(checker.known('select 1 from salaries', helpdesk)).toBeUndefined()
  })

  it('forgets what was used longest ago', async () => {
    const own: Database = { ...helpdesk }
    const text = (at: number) => `select ${at}`
    await check(text(-1), own)
    await check(text(0), own)
    for (let at = 1; at < 2000; at++) {
      await check(text(at), own)
      checker.known(text(-1), own)
    }
    expect(checker.known(text(-1), own)).toBeDefined()
    expect(checker.known(text(1999), own)).toBeDefined()
    expect(checker.known(text(0), own)).toBeUndefined()
  })

  it('keeps only so many bytes', async () => {
    const own: Database = { ...helpdesk }
    const text = (at: number) => `select '${'x'.repeat(60_000)}', ${at}`
    for (let at = 0; at < 80; at++) await check(text(at), own)
    expect(checker.known(text(79), own)).toBeDefined()
    expect(checker.known(text(0), own)).toBeUndefined()
  })

  it('knows many databases', async () => {
    for (let at = 0; at < 150; at++)
      expect(await check('select 1', { ...helpdesk })).toMatchObject({ kind: 'understood' })
    expect(await check('select 4711', helpdesk)).toMatchObject({ kind: 'understood' })
  })
})

describe('hostile input', () => {
  it.each([
    ['a NUL', 'select 1\0; drop table x', '22021'],
    ['half a character', 'select \u{d83d}', '22021'],
    ['not UTF-8', Uint8Array.of(0x73, 0xe9, 0x65), '22021'],
    ['an overlong form', Uint8Array.of(0x27, 0xc0, 0xa7, 0x27), '22021'],
    ['too long', `select '${'x'.repeat(65_536)}'`, '54000'],
    ['too long in bytes', `select '${'é'.repeat(40_000)}'`, '54000'],
    ['comments in comments', `${'/*'.repeat(10_000)}select 1`, '54001'],
    ['comments in comments, closed', `${'/*'.repeat(60)}${'*/'.repeat(60)} select 1`, '54001'],
    ['a run of operators', `select ${'+-'.repeat(8000)}1`, '54001'],
    ['a deep tree', `select ${'1+'.repeat(1000)}1`, '54001'],
  ])('%s', async (_, text, sqlstate) => {
    expect(await check(text)).toMatchObject({ kind: 'refused', sqlstate })
  })

  it('refuses what breaks the parser, and works again', { timeout: 60_000 }, async () => {
    const bombs = [
      `select ${'a+'.repeat(20_000)}1`,
      `select ${'('.repeat(30_000)}1`,
      `select * from ${'(select * from '.repeat(4000)}t${')'.repeat(4000)}`,
      // Each column holds a copy of what all are set to.
      `update tickets set (${Array(4000).fill('status').join()}) = (select ${Array(4000).fill('1').join()})`,
    ]
    for (const bomb of bombs) {
      expect(await check(bomb)).toMatchObject({
        kind: 'refused',
        sqlstate: expect.stringMatching(/^(54001|42601)$/) as unknown,
      })
      expect(await check(`select ${bomb.length}`)).toMatchObject({ kind: 'understood' })
    }
  })

  it('ends what takes too long', { timeout: 60_000 }, async () => {
    const short = openChecker({ deadline: 1 })
    after.push(short)
    const slow = `update tickets set (${Array(300).fill('status').join()}) = (select ${Array(900).fill('1').join()})`
    expect(await short.check(slow, helpdesk)).toMatchObject({
      sqlstate: '54001',
      because: expect.stringContaining('too long') as unknown,
    })
  })

  it('lets who breaks the parser wait, and nobody else', { timeout: 60_000 }, async () => {
    const bomb = () => `select ${'a+'.repeat(20_000)}${++callers}`
    await checker.check(bomb(), helpdesk, { caller: 'hostile' })
    await checker.check(bomb(), helpdesk, { caller: 'hostile' })
    expect(await checker.check('select 31', helpdesk, { caller: 'hostile' })).toMatchObject({ sqlstate: '53400' })
    expect(await checker.check('select 32', helpdesk, { caller: 'harmless' })).toMatchObject({ kind: 'understood' })
  })

  it('lets callers take turns, and one wait only so often', async () => {
    const order: string[] = []
    const ask = async (caller: string, text: string) => {
      const verdict = await checker.check(text, helpdesk, { caller })
      order.push(verdict.kind === 'understood' ? caller : `${caller} refused`)
    }
    const flood = Array.from({ length: 1000 }, (_, at) => ask('flood', `select ${at}, 'flood'`))
    await Promise.all([...flood, ask('quiet', "select 'quiet'"), ask('quiet', "select 'quiet' || 2")])
    const served = order.filter((each) => !each.endsWith('refused'))
    expect(order.filter((each) => each === 'flood refused').length).toBeGreaterThan(900)
    expect(served.slice(0, 5).filter((each) => each === 'quiet')).toHaveLength(2)
  })

  it('leaves nobody waiting when it is closed', async () => {
    const closing = openChecker()
    const waiting = Array.from({ length: 5 }, (_, at) => closing.check(`select ${at}`, helpdesk))
    const results = Promise.allSettled(waiting)
    await closing.close()
    for (const result of await results) expect(result).toMatchObject({ reason: { code: 'unavailable' } })
    await expect(closing.check('select 1', helpdesk)).rejects.toMatchObject({ code: 'unavailable' })
  })
})

describe('an expression by itself', () => {
  it('has its tree, and where it begins', async () => {
    const { tree, text, offset } = await parseExpression('customer_id = session.customer_id -- own')
    expect(tree).toMatchObject({ A_Expr: { lexpr: { ColumnRef: { location: offset } } } })
    expect(text.slice(offset)).toBe('customer_id = session.customer_id -- own')
  })

  it.each(['id in (select id from tickets)', 'a and b', "lower(name) = 'x'", '(a, b) = (1, 2)'])('%s', async (sql) => {
    await expect(parseExpression(sql)).resolves.toHaveProperty('tree')
  })

  it.each([
    '',
    '1 from x',
    '1 as y',
    '1 y',
    '1, 2',
    '1;',
    '1; drop table x',
    '1) or (true',
    '1 union select 2',
    '1 where true',
    '1 limit 1',
    'distinct 1',
    'all 1',
    '1 into x',
    '*',
    't.*',
    '1 /*',
    "'x",
    '$$x',
    'a\0',
    `${'not '.repeat(30_000)} true`,
  ])('not %j', async (sql) => {
    await expect(parseExpression(sql)).rejects.toMatchObject({ code: 'invalid' })
  })
})
