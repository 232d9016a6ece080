import type {
  AppliedDatabase,
  AsAdministrator,
  DatabaseChanges,
  DatabaseFinding,
  PlannedDatabase,
  RemovedDatabase,
  SuggestedTables,
  SuggestTables,
  UndoChange,
  UndoneChange,
  VerifiedDatabase,
} from '../control/wire.ts'
import { Failure } from '../core/failure.ts'
import { openClient } from './client.ts'
import type { Client } from './client.ts'
import { command, jsonOption, UsageError } from './command.ts'
import type { ExitCode } from './command.ts'
import { ask, paint } from './io.ts'
import type { Io } from './io.ts'
import { clientOptions } from './place.ts'
import { jsonText, moment, safe } from './text.ts'
import { readValue } from './value.ts'

const anywayOption = {
  anyway: {
    type: 'boolean',
    says: 'Takes an administrator’s address with another host or port: the same server under another name.',
  },
} as const
const adminOption = {
  admin: { type: 'boolean', says: 'Looks as an administrator, whose address is read from standard input.' },
  ...anywayOption,
} as const
const aboutAddress = [
  'The administrator’s address (`postgres://admin:password@host:5432/database`) is read from standard input, and never from an',
  'argument; at a terminal it is asked for, and not shown. It is used once, and kept nowhere.',
]

const address = {
  prompt: 'address of an administrator, postgres://admin:password@host:5432/database (not shown), then Enter:',
  missing: 'standard input holds no address: give `postgres://admin:password@host:5432/database` there',
  left: 'nothing was done',
  what: 'an address',
  mostBytes: 4_000,
}

const pathOf = (resource: string, what: string): string => `/v1/databases/${encodeURIComponent(resource)}/${what}`

export const dbPlan = command({
  name: 'db plan',
  summary: 'Shows what sets a database up for agents, without doing it',
  takes: ['<resource>'],
  options: {
    sql: { type: 'boolean', says: 'Prints a script for psql, for an administrator who has no Sallyport at hand.' },
    verifiers: {
      type: 'boolean',
      says: 'With --sql: with the passwords in it, as SCRAM verifiers; keep such a script to yourself.',
    },
    removal: { type: 'boolean', says: 'Shows what `db remove` does.' },
    ...jsonOption,
    ...clientOptions,
  },
  examples: ['sallyport db plan helpdesk', 'sallyport db plan helpdesk --sql --verifiers'],
  async run({ words: [resource = ''], values }, io) {
    const { sql, verifiers, removal, json } = values
    if (verifiers === true && (sql !== true || removal === true))
      throw new UsageError('`--verifiers` goes with `--sql`, and a removal needs none')
    const client = openClient(values, io)
    const plan = verifiers
      ? await client.post<PlannedDatabase>(pathOf(resource, 'verifiers'))
      : await planOf(client, resource, removal)
    if (json === true) io.out(jsonText(plan))
    else if (sql === true) io.out(`${introduction(plan, { verifiers, removal })}\n${plan.script}`)
    else {
      io.out(titlesOf(plan, io).join('\n'))
      io.out(`${plan.steps.length} steps, in one transaction. --sql shows their SQL; nothing was changed.`)
    }
    return 0
  },
})

export const dbApply = command({
  name: 'db apply',
  summary: 'Sets a database up for agents, or brings it back to what was planned',
  takes: ['<resource>'],
  options: { yes: { type: 'boolean', says: 'Asks nothing.' }, ...anywayOption, ...jsonOption, ...clientOptions },
  notes: [...aboutAddress, 'Done twice, the second time changes nothing but sets passwords again.'],
  examples: ['sallyport db apply helpdesk', 'sallyport db apply helpdesk --yes'],
  async run({ words: [resource = ''], values }, io) {
    const client = openClient(values, io)
    const say = values.json === true ? io.err : io.out
    if (values.yes !== true) {
      onlyWherePeopleAre(io)
      const plan = await planOf(client, resource)
      say(titlesOf(plan, io).join('\n'))
      if (!/^y(es)?$/i.test(await ask(io, `Do this in the database \`${safe(plan.database)}\`? [y/N]`)))
        return leave(io)
    }
    const wanted = await asAdministrator(io, values.anyway)
    const done = await client.post<AppliedDatabase>(pathOf(resource, 'apply'), wanted)
    if (values.json === true) io.out(jsonText(done))
    else {
      const { name, database, changed, steps, notices, findings } = done
      io.out(
        changed
          ? `${safe(name)} is set up in the database \`${safe(database)}\`: ${steps} steps`
          : `${safe(name)} was as planned in the database \`${safe(database)}\`; passwords were set again`,
      )
      tellAll(notices, findings, io)
    }
    return worst(done.findings)
  },
})

export const dbVerify = command({
  name: 'db verify',
  summary: 'Looks whether a database is as planned, and what around it is open',
  takes: ['<resource>'],
  options: { ...adminOption, ...jsonOption, ...clientOptions },
  notes: [
    'Nothing is changed. Without --admin the gateway looks with its own login.',
    'Exit code 1 where something is wrong.',
  ],
  examples: ['sallyport db verify helpdesk', 'sallyport db verify helpdesk --json'],
  async run({ words: [resource = ''], values }, io) {
    const client = openClient(values, io)
    const wanted = await perhapsAdministrator(io, values)
    const done = await client.post<VerifiedDatabase>(pathOf(resource, 'verify'), wanted)
    if (values.json === true) io.out(jsonText(done))
    else {
      const errors = done.findings.filter(({ severity }) => severity === 'error').length
      const where = `the database \`${safe(done.database)}\``
      io.out(
        errors === 0
          ? `${safe(done.name)} is as planned in ${where}`
          : `${safe(done.name)} is not as planned in ${where}: ${errors === 1 ? '1 error' : `${errors} errors`}`,
      )
      tellAll([], done.findings, io)
      for (const each of done.unseen) io.out(`not looked at: ${safe(each)}`)
    }
    return worst(done.findings)
  },
})

export const dbRemove = command({
  name: 'db remove',
  summary: 'Takes everything away again that `db apply` made in a database',
  takes: ['<resource>'],
  options: { yes: { type: 'boolean', says: 'Asks nothing.' }, ...anywayOption, ...jsonOption, ...clientOptions },
  notes: [...aboutAddress, 'Tables and their rows stay as they are. Agents have no database from then on.'],
  examples: ['sallyport db remove helpdesk'],
  async run({ words: [resource = ''], values }, io) {
    const client = openClient(values, io)
    if (values.yes !== true) {
      onlyWherePeopleAre(io)
      const plan = await planOf(client, resource, true)
      ;(values.json === true ? io.err : io.out)(titlesOf(plan, io).join('\n'))
      const typed = await ask(io, `Agents lose the database at once. Type the name of the resource to go on:`)
      if (typed !== resource) return leave(io)
    }
    const wanted = await asAdministrator(io, values.anyway)
    const done = await client.post<RemovedDatabase>(pathOf(resource, 'remove'), wanted)
    if (values.json === true) io.out(jsonText(done))
    else {
      io.out(`what was made for ${safe(done.name)} in the database \`${safe(done.database)}\` is removed`)
      tellAll(done.notices, [], io)
    }
    return 0
  },
})

export const dbSuggest = command({
  name: 'db suggest',
  summary: 'Suggests a description of tables to begin with',
  takes: ['<resource>', '[table…]'],
  options: { ...adminOption, ...jsonOption, ...clientOptions },
  notes: [
    'Tables are named as `tickets` or `sales.orders`; without a name, all are taken. Only the catalogs are read, no row.',
    'What is suggested can be read and not written: look at each line before you use it.',
  ],
  examples: ['sallyport db suggest helpdesk tickets responses', 'sallyport db suggest helpdesk --admin'],
  async run({ words: [resource = '', ...tables], values }, io) {
    const client = openClient(values, io)
    const wanted: SuggestTables = { tables, ...(await perhapsAdministrator(io, values)) }
    const done = await client.post<SuggestedTables>(pathOf(resource, 'suggest'), wanted)
    // Names of tables are somebody else's words.
    io.out(
      values.json === true
        ? jsonText(done)
        : done.yaml
            .trimEnd()
            .split('\n')
            .map((line) => safe(line))
            .join('\n'),
    )
    return 0
  },
})

export const dbChanges = command({
  name: 'db changes',
  summary: 'Lists what agents changed in tables with `undo`',
  takes: ['<resource>'],
  options: {
    session: { type: 'string', value: '<session>', says: 'Only those of this session.' },
    limit: { type: 'string', value: '<n>', says: 'How many, the newest first: 20 unless said, 999 at most.' },
    ...jsonOption,
    ...clientOptions,
  },
  notes: [
    'One line for each transaction: its number, time, session, and how many rows of which tables. No value of a row is shown.',
  ],
  examples: ['sallyport db changes helpdesk', 'sallyport db changes helpdesk --session ses_74vz3a58kg05adh876nz'],
  async run({ words: [resource = ''], values }, io) {
    const { session, limit, json } = values
    const asked = new URLSearchParams({
      ...(session === undefined ? {} : { session }),
      ...(limit === undefined ? {} : { limit }),
    })
    const done = await openClient(values, io).get<DatabaseChanges>(`${pathOf(resource, 'changes')}?${asked.toString()}`)
    if (json === true) io.out(jsonText(done))
    else if (done.changes.length === 0) io.out('no changes are kept')
    else
      for (const { change, at, session: whose, undone, tables } of done.changes) {
        const what = tables.map(({ table, operation, rows }) => `${operation} ${rows} in ${safe(table)}`).join(', ')
        const is = undone ? paint(io, 'dim', ' (undone)') : ''
        io.out(`${safe(change)}  ${moment(at)}  ${safe(whose ?? '-')}  ${what}${is}`)
      }
    return 0
  },
})

export const dbUndo = command({
  name: 'db undo',
  summary: 'Undoes what one transaction of an agent changed',
  takes: ['<resource>', '<change>'],
  options: {
    'dry-run': { type: 'boolean', says: 'Says what would be done, and changes nothing.' },
    yes: { type: 'boolean', says: 'Asks nothing.' },
    ...anywayOption,
    ...jsonOption,
    ...clientOptions,
  },
  notes: [
    ...aboutAddress,
    'The number of a change is told by `sallyport db changes`, and by `change` of an outcome in the audit log. It is one',
    'transaction: where a row has changed since, nothing is undone, and that row is named.',
  ],
  examples: ['sallyport db undo helpdesk 7741 --dry-run', 'sallyport db undo helpdesk 7741'],
  async run({ words: [resource = '', change = ''], values }, io) {
    const { yes, anyway, json, 'dry-run': isTrial = false } = values
    if (!isTrial && yes !== true) onlyWherePeopleAre(io)
    const client = openClient(values, io)
    const wanted = await asAdministrator(io, anyway)
    const post = (trial: boolean): Promise<UndoneChange> => {
      const body: UndoChange = { change, trial, ...wanted }
      return client.post<UndoneChange>(pathOf(resource, 'undo'), body)
    }
    if (isTrial || yes !== true) {
      const tried = await post(true)
      if (isTrial && json === true) io.out(jsonText(tried))
      else for (const line of undoneLines(tried)) (json === true ? io.err : io.out)(line)
      if (isTrial) return 0
      if (!/^y(es)?$/i.test(await ask(io, `Undo this in the database \`${safe(tried.database)}\`? [y/N]`)))
        return leave(io)
    }
    const done = await post(false)
    if (json === true) io.out(jsonText(done))
    else for (const line of undoneLines(done)) io.out(line)
    return 0
  },
})

function undoneLines({ trial, change, at, session, tables, rows }: UndoneChange): readonly string[] {
  const counts = (each: UndoneChange['tables'][number]): string =>
    [
      ...(each.restored > 0 ? [`${each.restored} put back`] : []),
      ...(each.reverted > 0 ? [`${each.reverted} as before`] : []),
      ...(each.removed > 0 ? [`${each.removed} taken out`] : []),
    ].join(', ') || 'nothing'
  const whose = session === undefined ? '' : `, session ${safe(session)}`
  return [
    `change ${safe(change)} of ${moment(at)}${whose}: ${rows} ${rows === 1 ? 'row' : 'rows'} ${trial ? 'would be undone' : 'undone'}`,
    ...tables.map((each) => `  ${safe(each.table)}: ${counts(each)}`),
  ]
}

const planOf = (client: Client, resource: string, removal?: boolean): Promise<PlannedDatabase> =>
  client.get<PlannedDatabase>(pathOf(resource, removal === true ? 'plan?for=removal' : 'plan'))

function onlyWherePeopleAre(io: Pick<Io, 'isTty'>): void {
  if (!io.isTty) throw new UsageError('nobody can be asked here: look at `sallyport db plan`, and give --yes')
}

function leave(io: Pick<Io, 'err'>): ExitCode {
  io.err('nothing was done')
  return 1
}

async function asAdministrator(io: Io, anyway: boolean | undefined): Promise<AsAdministrator> {
  const admin = await readValue(io, address)
  // Said before it goes anywhere, and without it.
  if (!/^\s*postgres(?:ql)?:\/\//i.test(admin))
    throw new Failure('invalid', 'expected an address that begins with `postgres://` on standard input')
  return { admin, ...(anyway === undefined ? {} : { anyway }) }
}

async function perhapsAdministrator(
  io: Io,
  { admin, anyway }: { readonly admin?: boolean; readonly anyway?: boolean },
): Promise<Partial<AsAdministrator>> {
  if (anyway === true && admin !== true) throw new UsageError('`--anyway` goes with `--admin`')
  return admin === true ? asAdministrator(io, anyway) : {}
}

function titlesOf({ name, database, steps }: PlannedDatabase, io: Io): readonly string[] {
  const wide = String(steps.length).length
  return [
    `${safe(name)}, in the database \`${safe(database)}\`:`,
    ...steps.map(({ title }, position) => `  ${paint(io, 'dim', String(position + 1).padStart(wide))}  ${safe(title)}`),
  ]
}

/** What an administrator has to know who has nothing but the script. */
function introduction(
  { name, database }: PlannedDatabase,
  { verifiers, removal }: { readonly verifiers?: boolean | undefined; readonly removal?: boolean | undefined },
): string {
  const made = removal === true ? 'Takes away what was made' : 'Makes roles, schemas and views'
  const lines = [
    `${made} in the database ${safe(database)}, through which programs called agents get at what they may,`,
    `and at nothing else (resource ${safe(name)} of Sallyport). Tables and rows that are there are not changed.`,
    '',
    'Who runs it: a superuser, or a role with CREATEROLE that owns the database and the tables. It is one transaction: where a',
    'line fails, nothing was done. It can be run again at any time.',
    ...(removal === true
      ? []
      : verifiers === true
        ? [
            '',
            'It holds verifiers of passwords (SCRAM-SHA-256). Nobody can log in with one, but weak passwords can be guessed from',
            'it: keep it where passwords are kept, and delete it afterwards.',
          ]
        : ['', 'It asks for passwords, which only Sallyport knows: `db plan --sql --verifiers` prints it with them.']),
    '',
    `Afterwards: \`sallyport db verify ${safe(name)}\` says whether everything is as it has to be.`,
  ]
  return `${lines.map((line) => `-- ${line}`.trimEnd()).join('\n')}\n--`
}

const styles = { error: 'red', warning: 'yellow', note: 'dim' } as const
const order = ['error', 'warning', 'note'] as const

function tellAll(notices: readonly string[], findings: readonly DatabaseFinding[], io: Io): void {
  for (const each of notices) io.out(`the server says: ${safe(each)}`)
  for (const severity of order)
    for (const { where, what, advice } of findings.filter((each) => each.severity === severity)) {
      io.out(`${paint(io, styles[severity], severity.padEnd(7))}  ${safe(where)}: ${safe(what)}`)
      io.out(`         ${safe(advice)}`)
    }
}

const worst = (findings: readonly DatabaseFinding[]): ExitCode =>
  findings.some(({ severity }) => severity === 'error') ? 1 : 0
