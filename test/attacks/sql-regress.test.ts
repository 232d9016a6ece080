// The statements of PostgreSQL's own regression suite, about which nobody thought of this check. They come with the source of
// PostgreSQL, not with this repository: POSTGRES_REGRESS=<postgresql-18>/src/test/regress/sql npx vitest run <this file>
import fs from 'node:fs'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openChecker } from '../../src/postgres/parse.ts'
import type { Verdict } from '../../src/postgres/verdict.ts'
import { noPostgres, startPostgres, versions } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { helpdesk } from './sql-statements.ts'

const folder = process.env['POSTGRES_REGRESS']
const readable = 'the server reads it'
const parsers = /yyerror|scanner|base_yy/

/** The statements of a script as psql would send them, as far as they need none of its variables. */
function statementsOf(script: string): readonly string[] {
  const found: string[] = []
  let [text, depth, bodies] = ['', 0, 0]
  const take = (): void => {
    if (/[^\s;]/.test(text)) found.push(text.trim())
    text = ''
  }
  for (let at = 0; at < script.length;) {
    const rest = script.slice(at, at + 200)
    const isWord = /\w$/.test(text)
    const upTo = (end: number, length: number): void => {
      const to = end < 0 ? script.length : end + length
      text += script.slice(at, to)
      at = to
    }
    const tag = isWord ? undefined : /^\$(?:[A-Za-z_]\w*)?\$/.exec(rest)?.[0]
    if (rest.startsWith('\\;')) {
      text += ';'
      at += 2
    } else if (rest.startsWith('\\')) {
      // A command of psql ends a statement that is under way, and takes its line.
      take()
      const end = script.indexOf('\n', at)
      at = end < 0 ? script.length : end + 1
    } else if (rest.startsWith('--')) upTo(script.indexOf('\n', at), 0)
    else if (rest.startsWith('/*')) {
      let [end, level] = [at + 2, 1]
      for (; end < script.length && level > 0; end += 1)
        if (script.startsWith('/*', end)) [end, level] = [end + 1, level + 1]
        else if (script.startsWith('*/', end)) [end, level] = [end + 1, level - 1]
      upTo(end, 0)
    } else if (rest.startsWith("'")) {
      const escapes = /(?:^|\W)[eE]$/.test(text)
      let end = at + 1
      while (end < script.length && (script[end] !== "'" || script[end + 1] === "'"))
        end += script[end] === "'" || (escapes && script[end] === '\\') ? 2 : 1
      upTo(end, 1)
    } else if (rest.startsWith('"')) upTo(script.indexOf('"', at + 1), 1)
    else if (tag !== undefined) upTo(script.indexOf(tag, at + tag.length), tag.length)
    else {
      if (rest.startsWith('(')) depth += 1
      if (rest.startsWith(')')) depth = Math.max(0, depth - 1)
      if (!isWord && /^begin\s+atomic/i.test(rest)) bodies += 1
      if (!isWord && bodies > 0 && /^end\b/i.test(rest)) bodies -= 1
      if (!rest.startsWith(';') || depth > 0 || bodies > 0) text += rest[0]
      else {
        const reads = /^\s*copy\b[^;]*\bfrom\s+stdin/i.test(text)
        take()
        const data = reads ? script.indexOf('\n\\.', at) : -1
        if (data >= 0) at = script.indexOf('\n', data + 1)
      }
      at += 1
    }
  }
  take()
  return found
}

/** psql's variables stand where no statement has a colon. */
const hasVariable = (statement: string): boolean => /(?:^|[\s(=,]):['"]?[a-zA-Z_]/.test(statement.replaceAll('::', ''))

describe.skipIf(folder === undefined)('the regression suite of PostgreSQL (POSTGRES_REGRESS)', () => {
  const verdicts = new Map<string, Verdict>()

  beforeAll(async () => {
    const statements = new Set(
      fs
        .readdirSync(folder ?? '')
        .filter((name) => name.endsWith('.sql'))
        .flatMap((name) => statementsOf(fs.readFileSync(path.join(folder ?? '', name), 'latin1')))
        .filter((statement) => !hasVariable(statement)),
    )
    if (statements.size < 20_000) throw new Error(`these are not the scripts of the suite: ${folder}`)
    const checker = openChecker()
    const times: number[] = []
    for (const statement of statements) {
      const begun = performance.now()
      verdicts.set(statement, await checker.check(statement, helpdesk))
      times.push(performance.now() - begun)
    }
    await checker.close()
    times.sort((a, b) => a - b)
    const at = (part: number): string => (times[Math.floor((times.length - 1) * part)] ?? 0).toFixed(2)
    console.info(`${verdicts.size} statements: p50 ${at(0.5)}, p99 ${at(0.99)}, longest ${at(1)} ms`)
  }, 600_000)

  test('promise 9: none breaks the parser down, and none takes too long', () => {
    const broken = [...verdicts].filter(
      ([, verdict]) => verdict.kind === 'refused' && /could not be parsed|too long$/.test(verdict.because),
    )
    expect(broken.map(([statement]) => statement.slice(0, 200))).toEqual([])
  })

  describe.each(versions)('beside PostgreSQL %i', async (version) => {
    const missing = await noPostgres(version)
    let server: PostgresServer
    beforeAll(async () => {
      if (missing === false) server = await startPostgres({ version })
    })
    afterAll(() => server?.close())

    test.skipIf(missing)(
      'promise 3: what is let through is what the server reads',
      async () => {
        const client = new pg.Client({ connectionString: server.adminUrl })
        client.on('error', () => {})
        await client.connect()
        // In a transaction that has failed nothing is run, and everything is parsed.
        const fail = async (): Promise<void> => {
          await client.query('rollback').catch(() => {})
          await client.query('begin; select 1/0').catch(() => {})
        }
        await fail()
        const differ: { readonly statement: string; readonly said: string; readonly isLetThrough: boolean }[] = []
        for (const [statement, verdict] of verdicts) {
          const error = await client.query(statement).then(
            () => undefined,
            (thrown: unknown) =>
              thrown as { readonly code?: string; readonly message: string; readonly routine?: string },
          )
          const isUnread =
            error !== undefined &&
            error.code !== '25P02' &&
            (parsers.test(`${error.message} ${error.routine}`) ||
              /^(?:42601|42622|22025|42P17)$/.test(error.code ?? ''))
          const isUnreadHere = verdict.kind === 'refused' && verdict.sqlstate === '42601'
          if (isUnread !== isUnreadHere)
            differ.push({
              statement: statement.slice(0, 120).replaceAll(/\s+/g, ' '),
              said: isUnread ? (error?.message ?? '') : readable,
              isLetThrough: isUnread && verdict.kind === 'understood',
            })
          if (error?.code !== '25P02') await fail()
        }
        await client.end().catch(() => {})
        console.info(
          [
            `PostgreSQL ${version} and the library differ on ${differ.length}, of which the check lets ${differ.filter(({ isLetThrough }) => isLetThrough).length} through, and the server reads ${differ.filter(({ said }) => said === readable).length}:`,
            ...differ.slice(0, 40).map(({ statement, said }) => `  ${statement}  (${said})`),
          ].join('\n'),
        )
        // Whatever a server can't read, it does not run. Of its own version, these alone are known.
        expect(differ.filter(({ isLetThrough }) => isLetThrough).map(({ statement }) => statement)).toEqual(
          version === 18 ? ['PREPARE p1 AS SELECT $1a', 'PREPARE p1 AS SELECT $0_1'] : expect.any(Array),
        )
      },
      1_200_000,
    )
  })
})
