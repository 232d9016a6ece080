import { createHash } from 'node:crypto'
import type pg from 'pg'
import { Failure } from '../core/failure.ts'
import type { Plan, Step } from './setup.ts'
import { findings } from './verify.ts'
import type { Finding } from './verify.ts'

/** What came of a plan. */
export interface Applied {
  /** Whether anything had to be done, besides setting passwords. */
  readonly isChanged: boolean
  /** What the server said meanwhile. */
  readonly notices: readonly string[]
  /** What is there now, and worth knowing. */
  readonly findings: readonly Finding[]
}

/**
 * Carries out a plan over an administrator's connection, in one transaction: all of it, or nothing. Two at once wait for
 * each other. Done twice, the second changes nothing. Whatever a plan of `planSetup` leaves different from what was
 * planned undoes it, and fails with `conflict`, as does a step that the server refuses.
 */
export async function applySetup(client: pg.ClientBase, plan: Plan): Promise<Applied> {
  const notices: string[] = []
  const hear = ({
    message,
    code,
  }: {
    readonly message?: string | undefined
    readonly code?: string | undefined
  }): void => {
    if (message === undefined || notices.length >= 100) return
    // What is there already, or not there to be removed, is what a second run finds. Only what was made here is dropped
    // with what depends on it.
    const isExpected =
      ['42P06', '42P07'].includes(code ?? '') || (code === '00000' && /, skipping$|^drop cascades to /.test(message))
    if (!isExpected) notices.push(message)
  }
  client.on('notice', hear)
  const isRemoval = plan.expected.views.length === 0 && plan.expected.roles.length === 0
  await client.query('begin')
  try {
    await client.query('select pg_catalog.pg_advisory_xact_lock($1::bigint)', [lockOf(plan)])
    const isAsPlanned = !isRemoval && !(await drift(client, plan))
    for (const step of plan.steps) if (!isAsPlanned || step.secret) await run(client, step)
    const found = isRemoval ? [] : await findings(client, plan)
    const wrong = found.find(({ severity, about }) => severity === 'error' && about === 'setup')
    if (wrong !== undefined)
      throw new Failure('conflict', `the database is not as planned afterwards: ${wrong.where}: ${wrong.what}`)
    await client.query('commit')
    return { isChanged: !isAsPlanned, notices, findings: found }
  } catch (thrown) {
    await client.query('rollback').catch(() => {})
    throw Failure.from(thrown)
  } finally {
    client.off('notice', hear)
  }
}

const drift = async (client: pg.ClientBase, plan: Plan): Promise<boolean> =>
  (await findings(client, plan)).some(({ about, severity }) => about === 'setup' && severity === 'error')

async function run(client: pg.ClientBase, { title, sql }: Step): Promise<void> {
  if (sql === '') return
  try {
    await client.query(sql)
  } catch (cause) {
    const { message = '', hint, code } = cause as { message?: string; hint?: string; code?: string }
    // The words of the server: whoever reads them is its administrator. A statement, which may hold a verifier, is not
    // among them.
    throw new Failure(
      'conflict',
      `nothing was changed, because a step failed: ${title}: ${message}${hint === undefined ? '' : `. ${hint}`}` +
        (Object.hasOwn(advice, code ?? '') ? `. ${advice[code ?? '']}` : ''),
      { cause },
    )
  }
}

const advice: Readonly<Record<string, string>> = {
  '42501': 'The administrator has to own the tables, or be a superuser',
  '55P03': 'Somebody is using what has to be replaced: run it again',
  '2BP01': 'Something that others have made depends on it: remove that first',
}

const lockOf = ({ databaseName, alias }: Plan): string =>
  createHash('sha256').update(`sallyport setup ${databaseName}/${alias}`).digest().readBigInt64BE().toString()

/**
 * A plan as a script for `psql`. Passwords are asked for as variables, or stand in it as verifiers (`withSecrets`): such
 * a text belongs in no log.
 */
export function planText({ alias, databaseName, steps, passwords }: Plan, { withSecrets = false } = {}): string {
  const asked = steps.some(({ secret, sql }) => secret && (!withSecrets || sql === ''))
  const variables = [...passwords].map(([role, name]) => `--   ${name}: of ${role}`)
  const head = [
    `-- Sallyport: database ${databaseName}, resource ${alias}.`,
    '-- Run it as an administrator: psql --set ON_ERROR_STOP=1 --file <this file> <address of the database>',
    ...(asked ? ['-- Passwords are variables: --set <name>=<password>', ...variables] : []),
    'begin;',
  ]
  const body = steps.map(({ title, sql, script, secret }) => {
    const shown = secret && (!withSecrets || sql === '') ? script : sql
    return `-- ${title.replaceAll(/[\r\n]+/g, ' ')}\n${shown ?? ''}`
  })
  return `${[head.join('\n'), ...body, 'commit;'].join('\n\n')}\n`
}
