import type { Socket } from 'node:net'
import type pg from 'pg'
import { Failure } from '../../core/failure.ts'
import type { Json } from '../../core/json.ts'
import { Undone } from '../../guard/guard.ts'
import { parseJson } from '../../guard/json.ts'
import type { Backend } from './connect.ts'

// One statement on a connection of its session's own: bounded in rows, bytes and time, and undone where it touches more
// rows than it may.

export interface Wanted {
  readonly text: string
  readonly parameters: readonly Json[]
  /** Numbers of the types that a client declared for them; 0, and none: the server finds it out. Tools declare none. */
  readonly types?: readonly number[]
  /** Whether it changes anything. What does not runs where nothing can be changed. */
  readonly isWrite: boolean
  /** Whether the number of its transaction is wanted: tables whose changes are kept may be among what it changes. */
  readonly isKept?: boolean
  readonly most: {
    /** Rows and bytes of the result, and milliseconds. */
    readonly rows: number
    readonly bytes: number
    readonly time: number
    /** Rows that it may touch; with more of them, nothing happens. */
    readonly touched?: number
  }
}

export interface Result {
  readonly columns: readonly { readonly name: string; readonly type: string }[]
  readonly rows: readonly (readonly Json[])[]
  /** Rows that it returned or touched, as the server counts them. */
  readonly count: number
  readonly bytes: number
  /** What of it is left out. */
  readonly cut?: 'rows' | 'bytes'
  /** The number of the transaction, where it is wanted and anything was changed. */
  readonly change?: string
}

/** What the server says against a statement. Its words are for the one who wrote the statement, and for nobody else. */
export class StatementError extends Error {
  /** SQLSTATE. */
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.name = 'StatementError'
    this.code = code
  }
}

/** It would have touched more rows than it may. It was undone. */
export class TouchedTooMany extends Undone {
  readonly touched: number
  readonly most: number
  constructor(touched: number, most: number) {
    super('conflict', `it would touch ${touched} rows, and ${most} were expected at most: nothing was changed`)
    this.touched = touched
    this.most = most
  }
}

/** Rows that are asked for at once. */
const batch = 200
/** Bytes beyond those of a result that may be on their way, before the connection is cut. */
const slack = 16_000_000
/** Milliseconds that a statement has to end after it was told to. */
const grace = 2_000

/**
 * Runs it. Fails with a StatementError as the server says, TouchedTooMany, `limited` where it takes too long,
 * `too_large`, `cancelled`, or `unavailable` when the connection is lost. Whatever it fails with, nothing was changed;
 * save where the message says that it may have been.
 */
export async function execute(backend: Backend, wanted: Wanted, signal: AbortSignal): Promise<Result> {
  if (signal.aborted) throw reasonOf(signal)
  const watch = watchOver(backend, wanted.most, signal)
  const running = { isCommitting: false }
  const submitted = submission(wanted)
  try {
    if (!wanted.isWrite) return await submitted.by(backend.client)
    return await change(backend, submitted, wanted, watch, running)
  } catch (thrown) {
    const sofar = submitted.sofar()
    if (watch.reason()?.code === 'too_large' && !wanted.isWrite && sofar.rows.length > 0)
      return { cut: 'bytes', ...sofar }
    const failure = watch.reason() ?? inWords(thrown, backend)
    if (failure instanceof StatementError || failure instanceof Undone || !wanted.isWrite) throw failure
    throw running.isCommitting
      ? new Failure(failure.code, `${failure.message}: the change may have happened, or not`, { cause: failure })
      : new Undone(failure.code, `${failure.message}: nothing was changed`, { cause: failure })
  } finally {
    watch.stop()
    // What was told to stop may hear it late. It must not be the next statement that is stopped.
    if (watch.reason() !== undefined || isGone(backend)) await backend.close()
  }
}

/** In a transaction of its own, which ends before anything of the result is handed on. */
async function change(
  backend: Backend,
  submitted: Submission,
  { most: { touched }, isKept = false }: Pick<Wanted, 'most' | 'isKept'>,
  watch: Watch,
  running: { isCommitting: boolean },
): Promise<Result> {
  const { client } = backend
  await client.query('begin read write')
  let result: Result
  try {
    result = await submitted.by(client)
    if (touched !== undefined && result.count > touched) throw new TouchedTooMany(result.count, touched)
    // INVARIANT: what was cut is not committed, also where the server was done before it heard of it.
    const reason = watch.reason()
    if (reason !== undefined) throw reason
  } catch (thrown) {
    if (!isGone(backend)) await client.query('rollback').catch(() => backend.close())
    throw thrown
  }
  running.isCommitting = true
  const number = isKept ? await numberAndCommit(client) : void (await client.query('commit'))
  running.isCommitting = false
  return number === undefined ? result : { ...result, change: number }
}

/** Both at once: asking for the number costs no time of its own. */
async function numberAndCommit(client: pg.Client): Promise<string | undefined> {
  const [first] = (await client.query(
    'select pg_catalog.pg_current_xact_id_if_assigned()::text as number; commit',
  )) as unknown as readonly pg.QueryResult<{ number: string | null }>[]
  return first?.rows[0]?.number ?? undefined
}

/** Whether a connection is over, or about to be. */
export const isGone = ({ ended, client }: Backend): boolean => ended.aborted || streamOf(client).destroyed

const streamOf = (client: pg.Client): Socket =>
  (client as unknown as { connection: { stream: Socket } }).connection.stream

type Watch = ReturnType<typeof watchOver>

const reasonOf = ({ reason }: AbortSignal): Failure =>
  reason instanceof Failure ? reason : new Failure('cancelled', 'the caller left')

/** Ends what takes too long, sends too much, or is not wanted any more. */
function watchOver(backend: Backend, { bytes, time }: Wanted['most'], signal: AbortSignal) {
  let reason: Failure | undefined
  let hard: NodeJS.Timeout | undefined
  let received = 0
  const stop = (failure: Failure): void => {
    if (reason !== undefined) return
    reason = failure
    backend.cancel().catch(() => {})
    hard = setTimeout(() => void backend.close(), grace)
  }
  const leave = (): void => stop(reasonOf(signal))
  const timer = setTimeout(() => stop(new Failure('limited', `it took longer than ${time} ms`)), time)
  const stream = streamOf(backend.client)
  const weigh = (chunk: Buffer): void => {
    received += chunk.length
    if (received <= bytes + slack || reason !== undefined) return
    reason = new Failure('too_large', `its result is much larger than it may be (${bytes} bytes)`)
    void backend.close()
  }
  stream.on('data', weigh)
  signal.addEventListener('abort', leave, { once: true })
  return {
    reason: (): Failure | undefined => reason,
    stop() {
      clearTimeout(timer)
      clearTimeout(hard)
      stream.off('data', weigh)
      signal.removeEventListener('abort', leave)
    },
  }
}

/** What went wrong, without what the server adds to it: details show values of columns that nobody asked for. */
function inWords(thrown: unknown, backend: Backend): Failure | StatementError {
  if (thrown instanceof Failure) return thrown
  const { code, message, severity } = thrown as Partial<Record<'code' | 'message' | 'severity', unknown>>
  const isSaid = typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && severity === 'ERROR'
  if (isSaid && !backend.ended.aborted) return new StatementError(code, String(message).slice(0, 2_000))
  return new Failure('unavailable', 'the connection to the database was lost', { cause: thrown })
}

// The extended protocol, as the library lets it be spoken: rows come in batches, and no more than are wanted.

interface Connection {
  parse(message: { readonly text: string; readonly name: string; readonly types: readonly number[] }): void
  bind(message: { readonly values: readonly (string | null)[] }): void
  describe(message: { readonly type: 'P' | 'S'; readonly name: string }): void
  execute(message: { readonly portal: string; readonly rows: number }): void
  flush(): void
  sync(): void
  once(event: 'parameterDescription', listener: (message: { dataTypeIDs: readonly number[] }) => void): void
  off(event: 'parameterDescription', listener: (message: { dataTypeIDs: readonly number[] }) => void): void
  readonly stream: { cork(): void; uncork(): void }
}

interface Field {
  readonly name: string
  readonly dataTypeID: number
}

interface Submission {
  /** Sends it. Done when the server is. */
  by(client: pg.Client): Promise<Result>
  /** What there is of the result. */
  sofar(): Result
}

/** One statement in the extended protocol, which itself refuses two of them. */
function submission({ text, parameters, types: declared = [], isWrite, most }: Wanted): Submission {
  let fields: readonly Field[] = []
  const rows: Json[][] = []
  let bytes = 0
  let count = 0
  let sent = 0
  let cut: Result['cut']

  const sofar = (): Result => ({
    columns: fields.map(({ name, dataTypeID }) => ({ name, type: typeNames.get(dataTypeID) ?? 'text' })),
    rows,
    // The server counts what it sent last, where something is sent.
    count: !isWrite ? rows.length : fields.length > 0 ? sent : count,
    bytes,
    ...(cut === undefined ? {} : { cut }),
  })

  const by = (client: pg.Client): Promise<Result> =>
    new Promise((resolve, reject) => {
      let onTypes: ((message: { dataTypeIDs: readonly number[] }) => void) | undefined
      let isDone = false

      const query = {
        submit(connection: Connection): null {
          const run = (types: readonly number[]): void => {
            connection.stream.cork()
            connection.bind({ values: parameters.map((value, position) => parameterText(value, types[position] ?? 0)) })
            connection.describe({ type: 'P', name: '' })
            connection.execute({ portal: '', rows: Math.min(batch, most.rows + 1) })
            connection.flush()
            connection.stream.uncork()
          }
          connection.parse({ text, name: '', types: declared })
          if (!parameters.some((value) => typeof value === 'object' && value !== null)) {
            run([])
            return null
          }
          // How a list or an object is written depends on the type that the server found for it.
          onTypes = ({ dataTypeIDs }) => run(dataTypeIDs)
          connection.once('parameterDescription', onTypes)
          connection.describe({ type: 'S', name: '' })
          connection.flush()
          return null
        },
        handleRowDescription(message: { readonly fields: readonly Field[] }): void {
          fields = message.fields
        },
        handleDataRow(message: { readonly fields: readonly (string | null)[] }): void {
          sent += 1
          if (cut !== undefined) return
          const size = message.fields.reduce((sum, field) => sum + (field === null ? 0 : Buffer.byteLength(field)), 0)
          if (rows.length >= most.rows) cut = 'rows'
          else if (bytes + size > most.bytes) cut = 'bytes'
          else {
            bytes += size
            rows.push(message.fields.map((value, position) => jsonOf(value, fields[position]?.dataTypeID ?? 0)))
          }
        },
        handlePortalSuspended(connection: Connection): void {
          // A change is seen to its end: only then does the server say how many rows it touched.
          if (cut !== undefined && !isWrite) return connection.sync()
          connection.execute({ portal: '', rows: isWrite ? batch : Math.min(batch, most.rows + 1 - rows.length) })
          connection.flush()
        },
        handleCommandComplete(message: { readonly text: string }, connection: Connection): void {
          count = Number(/(\d+)$/.exec(message.text)?.[1] ?? 0)
          connection.sync()
        },
        handleEmptyQuery(connection: Connection): void {
          connection.sync()
        },
        handleCopyInResponse(connection: Connection & { sendCopyFail(reason: string): void }): void {
          connection.sendCopyFail('not here')
        },
        handleCopyData(): void {},
        handleError(error: Error, connection?: Connection): void {
          if (onTypes !== undefined) connection?.off('parameterDescription', onTypes)
          // The server skips everything up to this; the next statement waits until it did. Where the connection is gone,
          // nothing more comes.
          const isSaid = 'severity' in error
          if (isSaid && !isDone) connection?.sync()
          isDone = true
          reject(error)
        },
        handleReadyForQuery(): void {
          isDone = true
          resolve(sofar())
        },
      }
      client.query(query as unknown as pg.Submittable)
    })

  return { by, sofar }
}

const jsonTypes = new Set([114, 3802])

/** A value as the server reads it. A text is passed as it is, whatever its type. */
function parameterText(value: Json, type: number): string | null {
  if (value === null || typeof value === 'string') return value
  if (Array.isArray(value) && !jsonTypes.has(type)) return arrayText(value)
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

/** A list as the text of an array (PostgreSQL documentation, 8.15.2). */
const arrayText = (values: readonly Json[]): string =>
  `{${values
    .map((value) =>
      value === null
        ? 'NULL'
        : Array.isArray(value)
          ? arrayText(value)
          : `"${(typeof value === 'object' ? JSON.stringify(value) : String(value)).replaceAll(/["\\]/g, '\\$&')}"`,
    )
    .join(',')}}`

/** Built-in types by their number (pg_type.dat); any other is told as text, which is how its values come. */
const typeNames: ReadonlyMap<number, string> = new Map([
  [16, 'boolean'],
  [17, 'bytea'],
  [20, 'bigint'],
  [21, 'smallint'],
  [23, 'integer'],
  [25, 'text'],
  [114, 'json'],
  [700, 'real'],
  [701, 'double precision'],
  [1000, 'boolean[]'],
  [1005, 'smallint[]'],
  [1007, 'integer[]'],
  [1009, 'text[]'],
  [1015, 'character varying[]'],
  [1016, 'bigint[]'],
  [1042, 'character'],
  [1043, 'character varying'],
  [1082, 'date'],
  [1083, 'time'],
  [1114, 'timestamp'],
  [1184, 'timestamptz'],
  [1186, 'interval'],
  [1231, 'numeric[]'],
  [1700, 'numeric'],
  [2950, 'uuid'],
  [2951, 'uuid[]'],
  [3802, 'jsonb'],
])

const numberTypes = new Set([20, 21, 23, 700, 701])
/** How deep JSON in a column may be nested, to be JSON in the result. */
const mostDeep = 32

/** A value as JSON has it, where nothing of it is lost; else its text. */
function jsonOf(text: string | null, type: number): Json {
  if (text === null) return null
  if (type === 16) return text === 't'
  if (numberTypes.has(type)) {
    const value = Number(text)
    return Number.isFinite(value) && (type !== 20 || Number.isSafeInteger(value)) ? value : text
  }
  if (!jsonTypes.has(type)) return text
  try {
    return parseJson(text, { maxBytes: Infinity, maxDepth: mostDeep })
  } catch {
    return text
  }
}
