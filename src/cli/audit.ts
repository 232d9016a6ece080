import fs from 'node:fs'
import path from 'node:path'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import type { AuditEvent, EventFilter } from '../core/audit.ts'
import { decode, openCheckpoint, type NoteKey } from '../core/checkpoint.ts'
import { Failure } from '../core/failure.ts'
import { verifyInclusion } from '../core/merkle.ts'
import { printable, printableJson } from '../core/printable.ts'
import {
  checkpointFile,
  listSegments,
  parseEventId,
  parseLine,
  readLines,
  readText,
  type Line,
} from '../stores/audit/folder.ts'
import { publicKeyFile, readPublicKey, sha256, verifySignature } from '../stores/audit/key.ts'
import { toOcsf } from '../stores/audit/ocsf.ts'
import {
  findLine,
  folderHashes,
  follow,
  matches,
  parseCursor,
  proveInclusion,
  requireLimit,
  scan,
} from '../stores/audit/reader.ts'
import { verifyLog, type Report } from '../stores/audit/verify.ts'
import { UsageError } from './command.ts'
import { placeOf } from './place.ts'

export interface AuditIo {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  readonly isTty: boolean
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** Ends `tail -f`. */
  readonly signal?: AbortSignal
}

const help = `Reads, searches and verifies the audit log. Works on the log's files: no gateway needs to run.

  sallyport audit tail [-f] [-n <count>]      the newest events; with -f those to come, too
  sallyport audit search [filters]            events that match, newest first
  sallyport audit show <event id>             one event, with the proof that it is in the signed log
  sallyport audit verify [--since <file>]     whether anything was changed, removed or cut off
  sallyport audit export [--format <format>]  all events, oldest first, as jsonl or ocsf

Everywhere:
  --dir <folder>         the log's folder, or a copy of it. Default: audit in the state folder
  --json                 prints JSON
Filters (search, tail, export):
  --type <type>          exact, or all below it: action.*
  --session, --agent, --permission, --decision, --approval, --of <value>
  --text <text>          found anywhere in the event
  --from, --to <time>    2026-11-21, 2026-11-21T08:00Z, or ago: 30m, 2h, 7d
search:
  --limit <count>        1 to 500. Default 50
  --cursor <cursor>      goes on where a page ended
verify, show:
  --key <key>            the public key, or its file. Default: audit.key.pub beside the log's folder
  --since <file>         a checkpoint that was kept elsewhere: the log must go on from it. May be repeated
  --complete             also fails for events that no checkpoint covers yet

Exit code: 0 done, 1 something is wrong, 2 not understood.

Whoever can write to the log's folder could have put the key beside it there, too: for a proof, keep the public key
and now and then a copy of the file \`checkpoint\` somewhere else.
`

const filterOptions = {
  type: { type: 'string' },
  session: { type: 'string' },
  agent: { type: 'string' },
  permission: { type: 'string' },
  decision: { type: 'string' },
  approval: { type: 'string' },
  of: { type: 'string' },
  text: { type: 'string' },
  from: { type: 'string' },
  to: { type: 'string' },
} as const
const everywhere = {
  dir: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>
interface Given {
  readonly values: Values
  readonly words: readonly string[]
  readonly dir: string
  readonly io: AuditIo
}

const verbs: Readonly<
  Record<
    string,
    { options: NonNullable<ParseArgsConfig['options']>; words: number; run: (given: Given) => Promise<number> }
  >
> = {
  tail: {
    options: { ...filterOptions, follow: { type: 'boolean', short: 'f' }, lines: { type: 'string', short: 'n' } },
    words: 0,
    run: tail,
  },
  search: {
    options: { ...filterOptions, limit: { type: 'string' }, cursor: { type: 'string' } },
    words: 0,
    run: search,
  },
  show: { options: { key: { type: 'string' } }, words: 1, run: show },
  verify: {
    options: { key: { type: 'string' }, since: { type: 'string', multiple: true }, complete: { type: 'boolean' } },
    words: 0,
    run: verify,
  },
  export: { options: { ...filterOptions, format: { type: 'string' } }, words: 0, run: exportAll },
}

/** `sallyport audit …`. Writes to `io` alone; returns the exit code. */
export async function auditCommand(args: readonly string[], io: AuditIo): Promise<number> {
  const [verb = 'help', ...rest] = args
  if (['help', '--help', '-h'].includes(verb)) {
    io.out(help)
    return args.length === 0 ? 2 : 0
  }
  try {
    const command = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined
    if (command === undefined)
      throw new UsageError(`\`sallyport audit\` has no \`${verb}\`: expected ${Object.keys(verbs).join(', ')}`)
    const { values, positionals } = parse(rest, { ...everywhere, ...command.options })
    if (values.help === true) {
      io.out(help)
      return 0
    }
    if (positionals.length !== command.words)
      throw new UsageError(
        command.words === 0 ? `\`audit ${verb}\` takes only options` : `\`audit ${verb}\` takes one event id`,
      )
    return await command.run({ values, words: positionals, dir: folderOf(values, io), io })
  } catch (thrown) {
    const isUsage = thrown instanceof UsageError || (thrown instanceof Failure && thrown.code === 'invalid')
    const message =
      thrown instanceof Failure || isUsage
        ? thrown.message
        : `the log can't be read (${String((thrown as { code?: unknown }).code ?? thrown)})`
    io.err(`sallyport audit: ${printable(message, { maxLength: 1000 })}\n`)
    if (isUsage) io.err('`sallyport audit help` says what it takes.\n')
    return isUsage ? 2 : 1
  }
}

function parse(
  args: readonly string[],
  options: NonNullable<ParseArgsConfig['options']>,
): { values: Values; positionals: string[] } {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true })
  } catch (thrown) {
    throw new UsageError(thrown instanceof Error ? thrown.message.replace(/\. .*/s, '') : 'the arguments can’t be read')
  }
}

function folderOf(values: Values, io: AuditIo): string {
  const given = text(values, 'dir')
  const dir =
    given === undefined
      ? path.join(placeOf({}, io)?.state ?? path.join(io.cwd, '.sallyport'), 'audit')
      : path.resolve(io.cwd, given)
  if (!fs.existsSync(dir))
    throw new UsageError(`there is no audit log at ${dir}: change to the folder of sallyport.yaml, or give --dir`)
  return dir
}

async function tail({ values, dir, io }: Given): Promise<number> {
  const filter = filterOf(values)
  const count = wholeNumber(values, 'lines', 10, 0, 500)
  const newest = count === 0 ? [] : (await scan(dir, filter, count, Infinity)).events
  for (const event of newest.toReversed()) print(event, values, io)
  if (values.follow !== true) return 0
  const last = newest[0] === undefined ? (await size(dir)) - 1 : parseEventId(newest[0].id).index
  const growth = {
    end: () => Infinity,
    isOver: () => false,
    changed: (_seen: number, signal: unknown) => pause(250, signal as AbortSignal | undefined),
  }
  for await (const line of follow(dir, last + 1, growth, io.signal)) {
    const event = parseLine(line.bytes)
    if (event !== undefined && matches(filter, event, () => line.bytes.toString('utf8'))) print(event, values, io)
  }
  return 0
}

const pause = (time: number, signal: AbortSignal | undefined): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, time)
    const stop = (): void => {
      clearTimeout(timer)
      resolve()
    }
    signal?.addEventListener('abort', stop, { once: true })
  })

/** How many events there are. */
async function size(dir: string): Promise<number> {
  const segment = (await listSegments(dir)).at(-1)
  let next = segment?.first ?? 0
  if (segment !== undefined)
    for await (const lines of readLines(segment)) next = (lines.findLast((line) => line.isWhole)?.index ?? next - 1) + 1
  return next
}

async function search({ values, dir, io }: Given): Promise<number> {
  const cursor = text(values, 'cursor')
  const limit = requireLimit(wholeNumber(values, 'limit', 50, 1, 500))
  const page = await scan(dir, filterOf(values), limit, cursor === undefined ? Infinity : parseCursor(cursor))
  for (const event of page.events) print(event, values, io)
  if (page.next !== undefined && values.json !== true) io.err(`There may be more: --cursor ${page.next}\n`)
  return 0
}

async function show({ values, words: [id = ''], dir, io }: Given): Promise<number> {
  const { name, index } = parseEventId(id)
  const key = keyOf(values, dir, io)
  const line = await findLine(dir, index)
  const event = line === undefined ? undefined : parseLine(line.bytes)
  if (key.name.slice(key.name.lastIndexOf('/') + 1) !== name)
    throw new Failure('not_found', `this is the log of ${key.name}: it has no event ${id}`)
  if (line === undefined || event?.id !== id)
    throw new Failure(
      'not_found',
      `the log has no event ${id}, or retention removed it: \`sallyport audit verify\` tells`,
    )
  const { proof, problem } = await prove(dir, key, line)
  if (values.json === true) {
    io.out(
      `${printableJson(JSON.stringify({ event, proof, proven: problem === undefined, ...(problem === undefined ? {} : { problem }) }))}\n`,
    )
    return problem === undefined ? 0 : 1
  }
  for (const row of JSON.stringify(event, undefined, 2).split('\n')) io.out(`${printable(row)}\n`)
  if (problem !== undefined) {
    io.out(`\n${paint(io, 31, 'NOT PROVEN')}: ${printable(problem)}\n`)
    return 1
  }
  io.out(
    `\n${paint(io, 32, 'PROVEN')}: event ${index} of the ${proof?.size} that ${printable(key.name)} signed (key id ${key.keyId})\n`,
  )
  io.out(`  leaf ${proof?.leaf}\n`)
  for (const hash of proof?.path ?? []) io.out(`  path ${hash}\n`)
  io.out(`  root ${proof?.root}\n`)
  return 0
}

interface Shown {
  readonly size: number
  readonly root: string
  readonly leaf: string
  readonly path: readonly string[]
}

/** The proof of a line, checked: what the folder says is not believed. */
async function prove(dir: string, key: NoteKey, line: Line): Promise<{ proof?: Shown; problem?: string }> {
  try {
    const note = (await readText(checkpointFile(dir))) ?? ''
    const head = openCheckpoint(note, key, verifySignature)
    if (line.index >= head.size)
      return { problem: 'no checkpoint covers it yet: try again, or the gateway was stopped in the middle of writing' }
    const { leaf, path: hashes } = await proveInclusion(await folderHashes(dir, head.size), line.index, head, note)
    const own = Buffer.from(sha256(Buffer.concat([Buffer.of(0), line.bytes])))
    const claim = { index: line.index, size: head.size, leaf: own, root: decode(head.root) }
    const proof = { size: head.size, root: head.root, leaf, path: hashes }
    return verifyInclusion(sha256, claim, hashes.map(decode))
      ? { proof }
      : {
          proof,
          problem: 'it is not what was signed, or the log’s hashes are damaged: `sallyport audit verify` says where',
        }
  } catch (thrown) {
    return { problem: Failure.from(thrown).message }
  }
}

async function verify({ values, dir, io }: Given): Promise<number> {
  const key = keyOf(values, dir, io)
  const files = (values.since ?? []) as string[]
  const since = files.map((file) => {
    const found = path.resolve(io.cwd, file)
    if (!fs.existsSync(found)) throw new UsageError(`there is no checkpoint at ${file}`)
    return { name: `the checkpoint in ${file}`, note: fs.readFileSync(found, 'utf8').slice(0, 70_000) }
  })
  let told = Date.now()
  const report = await verifyLog({
    dir,
    key,
    since,
    onProgress: (done, all) => {
      if (!io.isTty || Date.now() - told < 1000) return
      told = Date.now()
      io.err(`${Math.floor((done / Math.max(1, all)) * 100)}% of ${Math.ceil(all / 1e6)} MB\n`)
    },
  })
  const ok = report.ok && !(values.complete === true && report.unsigned > 0)
  if (values.json === true) io.out(`${printableJson(JSON.stringify({ ...report, ok }))}\n`)
  else printReport(report, ok, values.key === undefined, io)
  return ok ? 0 : 1
}

function printReport(report: Report, ok: boolean, isKeyBeside: boolean, io: AuditIo): void {
  io.out(`${ok ? paint(io, 32, 'OK') : paint(io, 31, 'WRONG')}: ${printable(report.log)}, key id ${report.keyId}\n`)
  io.out(
    `  ${report.events} events read, ${report.signed} signed, ${report.removed} removed by retention, ${report.unsigned} not signed yet\n`,
  )
  if (report.root !== undefined) io.out(`  root ${report.root}\n`)
  for (const { what, file, line, index, byte } of report.problems) {
    const place = [
      file,
      line === undefined ? undefined : `line ${line}`,
      index === undefined ? undefined : `event ${index}`,
      byte === undefined ? undefined : `byte ${byte}`,
    ].filter((part) => part !== undefined)
    io.out(
      `  ${paint(io, 31, '✗')} ${place.length === 0 ? '' : `${printable(place.join(', '))}: `}${printable(what, { maxLength: 500 })}\n`,
    )
  }
  if (report.problemCount > report.problems.length)
    io.out(`  … and ${report.problemCount - report.problems.length} more\n`)
  for (const note of report.notes) io.out(`  ${paint(io, 33, '!')} ${printable(note)}\n`)
  if (ok && isKeyBeside)
    io.out('  The key was found beside the log. Against somebody who can write there, give --key from elsewhere.\n')
}

async function exportAll({ values, dir, io }: Given): Promise<number> {
  const format = text(values, 'format') ?? 'jsonl'
  if (format !== 'jsonl' && format !== 'ocsf') throw new UsageError('`--format` is jsonl or ocsf')
  const filter = filterOf(values)
  for (const segment of await listSegments(dir))
    for await (const lines of readLines(segment)) {
      for (const line of lines) {
        const event = line.isWhole ? parseLine(line.bytes) : undefined
        if (event === undefined || !matches(filter, event, () => line.bytes.toString('utf8'))) continue
        // To a file the lines go as they are, so that they can be hashed; to a terminal only what is safe to show.
        const json =
          format === 'jsonl' ? line.bytes.toString('utf8') : JSON.stringify(toOcsf(event, event.id.split('_')[1] ?? ''))
        io.out(`${io.isTty ? printableJson(json) : json}\n`)
      }
      await new Promise((resolve) => setImmediate(resolve)) // What was printed goes out before more is read.
    }
  return 0
}

function print(event: AuditEvent, values: Values, io: AuditIo): void {
  if (values.json === true) return io.out(`${printableJson(JSON.stringify(event))}\n`)
  const { id, type, at, decision, because, ...rest } = event
  const colors: Readonly<Record<string, number>> = { allow: 32, deny: 31, ask: 33 }
  const fields = (['agent', 'session', 'permission', 'approval', 'of', 'code', 'state', 'by'] as const)
    .filter((field) => typeof rest[field] === 'string')
    .map((field) => `${field}=${printable(rest[field] as string, { maxLength: 80 })}`)
  const parts = [
    timeText(at),
    printable(id, { maxLength: 100 }),
    printable(type, { maxLength: 100 }),
    ...(typeof decision === 'string' ? [paint(io, colors[decision] ?? 0, printable(decision, { maxLength: 20 }))] : []),
    ...fields,
    ...(typeof because === 'string' ? [`(${printable(because, { maxLength: 200 })})`] : []),
  ]
  io.out(`${parts.join(' ')}\n`)
}

const timeText = (at: number): string => (Math.abs(at) <= 8.64e15 ? new Date(at).toISOString() : String(at))

/** Text that is safe already, in a colour where a person looks at it. */
const paint = (io: AuditIo, color: number, safe: string): string =>
  io.isTty && !io.env['NO_COLOR'] && color !== 0 ? `\x1b[${color}m${safe}\x1b[0m` : safe

function keyOf(values: Values, dir: string, io: AuditIo): NoteKey {
  const given = text(values, 'key')
  if (given !== undefined)
    return readPublicKey(
      given.includes('+') && !fs.existsSync(path.resolve(io.cwd, given)) ? given : path.resolve(io.cwd, given),
    )
  const beside = publicKeyFile(path.join(path.dirname(dir), 'audit.key'))
  if (!fs.existsSync(beside))
    throw new UsageError(`there is no public key at ${beside}: give --key, the key or its file`)
  return readPublicKey(beside)
}

function filterOf(values: Values): EventFilter {
  const names = ['type', 'session', 'agent', 'permission', 'decision', 'approval', 'of', 'text'] as const
  const [from, to] = [time(values, 'from'), time(values, 'to')]
  return {
    ...Object.fromEntries(
      names.flatMap((name) => (text(values, name) === undefined ? [] : [[name, text(values, name)]])),
    ),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  }
}

const units: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

function time(values: Values, name: string): number | undefined {
  const given = text(values, name)
  if (given === undefined) return undefined
  const [, count, unit = ''] = /^(\d{1,6})([smhd])$/.exec(given) ?? []
  if (count !== undefined) return Date.now() - Number(count) * (units[unit] as number)
  const at = /^\d{12,15}$/.test(given) ? Number(given) : /^\d{4}-\d\d-\d\d/.test(given) ? Date.parse(given) : NaN
  if (Number.isNaN(at))
    throw new UsageError(
      `\`--${name} ${given}\` is no time: expected 2026-11-21, 2026-11-21T08:00Z, or 30m, 2h, 7d ago`,
    )
  return at
}

function wholeNumber(values: Values, name: string, otherwise: number, least: number, most: number): number {
  const given = text(values, name)
  if (given === undefined) return otherwise
  const number = Number(given)
  if (!/^\d{1,6}$/.test(given) || number < least || number > most)
    throw new UsageError(`\`--${name}\` is a number from ${least} to ${most}`)
  return number
}

const text = (values: Values, name: string): string | undefined => {
  const value = values[name]
  return typeof value === 'string' ? value : undefined
}
