import type pg from 'pg'
import { Failure } from '../core/failure.ts'
import { exactSettings } from './changes.ts'
import type { Names } from './description.ts'
import type { Queries } from './introspect.ts'
import { literal, quoted } from './names.ts'
import { become, unbecome } from './setup.ts'

// Undoing what one transaction of an agent changed, in one transaction of an administrator. What counts for each row is
// how it was before and how it was left: what happened to it between makes no difference.

/** What comes, or would come, of undoing a change. */
export interface Undone {
  readonly change: string
  /** Epoch milliseconds at which the agent's transaction began. */
  readonly at: number
  readonly session?: string
  readonly tables: readonly {
    readonly table: string
    /** Rows that were deleted and are there again, that have their values of before again, and that were new and are gone. */
    readonly restored: number
    readonly reverted: number
    readonly removed: number
  }[]
  readonly rows: number
}

/**
 * Undoes a change over an administrator's connection: all of it, or nothing. With `isTrial`, nothing in any case, and
 * the same answer. Fails with `not_found` where nothing is kept of such a change, and `conflict` where it was undone
 * already, or a row has changed since: the message names table and key, and no other value.
 */
export async function undoChange(
  client: pg.ClientBase,
  names: Names,
  change: string,
  { isTrial = false } = {},
): Promise<Undone> {
  if (!/^[0-9]{1,18}$/.test(change))
    throw new Failure('invalid', `expected the number of a change, such as \`7741\`, not \`${change.slice(0, 40)}\``)
  await client.query('begin isolation level read committed read write')
  try {
    await client.query(opening)
    await client.query(become(names.owner))
    const kept = await readChange(client, names, change)
    const relations = await relationsOf(client, kept)
    const pieces = piecesOf(kept)
    const left = await carriedOut(client, relations, pieces, kept)
    await client.query('set constraints all immediate')
    await asLeft(client, relations, left)
    await client.query(
      `set local role ${quoted(names.owner)}; update ${quoted(names.internal)}.change set undone = now() where xid = ${change}; reset role`,
    )
    await client.query(unbecome(names.owner))
    await client.query(isTrial ? 'rollback' : 'commit')
    return answerOf(change, kept, pieces)
  } catch (thrown) {
    await client.query('rollback').catch(() => {})
    throw thrown
  }
}

// Values are read and written here as they were when they were kept.
const opening = [
  ['search_path', 'pg_catalog, pg_temp'],
  ['xmloption', 'content'],
  ['lock_timeout', '5s'],
  ...exactSettings,
]
  .map(([name = '', value = '']) => `set local ${name} = ${value.split(', ').map(literal).join(', ')}`)
  .join('; ')

interface KeptRow {
  readonly at: Date
  readonly session: string | null
  readonly relation: string
  readonly columns: readonly string[]
  readonly was: string | null
  readonly became: string | null
}

async function readChange(client: Queries, { internal, owner }: Names, change: string): Promise<readonly KeptRow[]> {
  interface Row extends KeptRow {
    readonly place: number
    readonly began: string
    readonly undone: Date | null
  }
  await client.query(`set local role ${quoted(owner)}`)
  const { rows } = await client.query<Row>(
    `select place, at, at::text as began, session, relation, columns, was, became, undone from ${quoted(internal)}.change
     where xid = $1 order by at, place for update`,
    [change],
  )
  await client.query('reset role')
  const [first] = rows
  if (first === undefined)
    throw new Failure(
      'not_found',
      `nothing is kept of a change ${change}: it changed no table with \`undo\`, or was longer ago than changes are kept`,
    )
  if (rows.some(({ began }) => began !== first.began))
    throw new Failure('conflict', `${change} is the number of several changes: the database was restored from a dump`)
  if (first.undone !== null)
    throw new Failure('conflict', `change ${change} was undone already, at ${first.undone.toISOString()}`)
  if (rows.some(({ place }, position) => place !== position + 1))
    throw new Failure('conflict', `not all of change ${change} is kept any more`)
  return rows
}

interface Relation {
  /** Quoted, with its schema. */
  readonly name: string
  readonly oid: string
  readonly owner: string
  /** Columns that are compared, can be inserted, can be set; those of the key. Quoted. */
  readonly compared: readonly string[]
  readonly inserted: readonly string[]
  readonly updated: readonly string[]
  readonly key: readonly string[]
  /** Foreign keys of others by which rows there would go or change along. */
  readonly followers: readonly Follower[]
}

interface Follower {
  /** Quoted, with its schema. */
  readonly table: string
  readonly isItself: boolean
  /** Quoted. */
  readonly columns: readonly string[]
  readonly refers: readonly string[]
  readonly onDelete: boolean
  readonly onUpdate: boolean
}

async function relationsOf(client: Queries, kept: readonly KeptRow[]): Promise<ReadonlyMap<string, Relation>> {
  const found = new Map<string, Relation>()
  for (const { relation: name, columns } of kept) {
    const relation = found.get(name) ?? (await relationOf(client, name, columns))
    found.set(name, relation)
    const same = kept.find((other) => other.relation === name)?.columns ?? []
    if (same.join('\0') !== columns.join('\0')) throw otherColumns(name)
  }
  return found
}

const otherColumns = (name: string): Failure =>
  new Failure('conflict', `the columns of ${name} are others than they were: what is kept does not fit it any more`)

async function relationOf(client: Queries, name: string, columns: readonly string[]): Promise<Relation> {
  interface Row extends Omit<Relation, 'name'> {
    readonly columns: readonly string[]
  }
  const { rows } = await client.query<Row>(describing, [name])
  const [there] = rows
  if (there === undefined) throw new Failure('conflict', `there is no table ${name} any more`)
  if (there.columns.join('\0') !== columns.join('\0')) throw otherColumns(name)
  if (there.key.length === 0) throw new Failure('conflict', `${name} has no primary key any more`)
  return { ...there, name }
}

const attributes = (which: string): string =>
  `array(select quote_ident(a.attname) from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped ${which} order by a.attnum)`

const columnsIn = (numbers: string, relation: string): string =>
  `(select json_agg(quote_ident(a.attname) order by u.place) from unnest(${numbers}) with ordinality u (number, place)
    join pg_attribute a on a.attrelid = ${relation} and a.attnum = u.number)`

// What a server generates when it is asked is not there when a trigger runs, and an identity can't be set.
const describing = `
  select c.oid::text as oid, quote_ident(pg_get_userbyid(c.relowner)) as owner,
    array(select a.attname::text from pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns,
    ${attributes("and a.attgenerated <> 'v'")} as compared,
    ${attributes("and a.attgenerated = ''")} as inserted,
    ${attributes("and a.attgenerated = '' and a.attidentity <> 'a'")} as updated,
    coalesce((select ${columnsIn('k.conkey', 'c.oid')} from pg_constraint k where k.conrelid = c.oid and k.contype = 'p'),
      '[]') as key,
    coalesce((select json_agg(json_build_object('table', k.conrelid::regclass::text, 'isItself', k.conrelid = c.oid,
        'columns', ${columnsIn('k.conkey', 'k.conrelid')}, 'refers', ${columnsIn('k.confkey', 'c.oid')},
        'onDelete', k.confdeltype in ('c', 'n', 'd'), 'onUpdate', k.confupdtype in ('n', 'd')))
      from pg_constraint k join pg_class r on r.oid = k.conrelid
      where k.confrelid = c.oid and k.contype = 'f' and not r.relispartition
        and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('n', 'd'))), '[]') as followers
  from pg_class c where c.oid = to_regclass($1) and c.relkind in ('r', 'p')`

/** What became of one row: `was` is null where it is new, `became` where it is gone. */
interface Piece {
  readonly relation: string
  readonly was: string | null
  became: string | null
}

interface KeyedPiece extends Piece {
  /** Of the row as it was, and as it was left: the text of its key. */
  readonly wasKey: string | undefined
  readonly becameKey: string | undefined
}

/** By relation and key, rows that are there again: as they were, and what the server made of it. */
type Left = Map<
  string,
  { readonly relation: Relation; readonly key: string; readonly was: string; readonly now: string }
>

/** The last one first. Triggers may have kept the steps of a row in another order: each begins with what the other left. */
function piecesOf(kept: readonly KeptRow[]): readonly Piece[] {
  const pieces = new Set<Piece>()
  const nameOf = (relation: string, image: string): string => `${relation}\0${image}`
  const ending = new Map<string, Piece>()
  const beginning = new Map<string, Piece>()
  for (const { relation, was, became } of kept) {
    const before = was === null ? undefined : ending.get(nameOf(relation, was))
    if (before !== undefined && was !== null) ending.delete(nameOf(relation, was))
    const behind = became === null ? undefined : beginning.get(nameOf(relation, became))
    const isBehind = behind !== undefined && behind !== before
    if (isBehind && became !== null) beginning.delete(nameOf(relation, became))
    if (isBehind) pieces.delete(behind)
    if (before !== undefined) pieces.delete(before)
    const piece: Piece = {
      relation,
      was: before === undefined ? was : before.was,
      became: isBehind ? behind.became : became,
    }
    pieces.add(piece)
    if (piece.became !== null) ending.set(nameOf(relation, piece.became), piece)
    if (piece.was !== null) beginning.set(nameOf(relation, piece.was), piece)
  }
  return [...pieces].filter(({ was, became }) => was !== became).toReversed()
}

const fields = (columns: readonly string[], of: string): string => columns.map((each) => `${of}.${each}`).join(', ')
const sameKey = ({ key }: Pick<Relation, 'key'>, one: string, other: string): string =>
  key.map((each) => `${one}.${each} = ${other}.${each}`).join(' and ')
const asText = (columns: readonly string[], of: string): string => `row(${fields(columns, of)})::text`

async function withKeys(
  client: Queries,
  relations: ReadonlyMap<string, Relation>,
  pieces: readonly Pick<Piece, 'relation' | 'was' | 'became'>[],
): Promise<readonly KeyedPiece[]> {
  const keys = new Map<string, string>()
  for (const relation of relations.values()) {
    const images = pieces
      .filter((piece) => piece.relation === relation.name)
      .flatMap(({ was, became }) => [was, became])
      .filter((image) => image !== null)
    const { rows } = await client
      .query<{ key: string }>(
        `select ${asText(relation.key, '(w.r)')} as key from unnest($1::text[]) with ordinality as i (image, place),
          lateral (select i.image::${relation.name} as r offset 0) w order by i.place`,
        [images],
      )
      .catch((thrown: unknown) => {
        if ((thrown as { readonly code?: string }).code?.startsWith('22') === true) throw otherColumns(relation.name)
        throw thrown
      })
    for (const [position, { key }] of rows.entries()) keys.set(`${relation.name}\0${images[position]}`, key)
  }
  const keyOf = (relation: string, image: string | null): string | undefined =>
    image === null ? undefined : keys.get(`${relation}\0${image}`)
  return pieces.map(({ relation, was, became }) => ({
    relation,
    was,
    became,
    wasKey: keyOf(relation, was),
    becameKey: keyOf(relation, became),
  }))
}

type Kind = 'restore' | 'revert' | 'remove'
const kindOf = ({ was, became }: Piece): Kind => (became === null ? 'restore' : was === null ? 'remove' : 'revert')

interface Batch {
  readonly relation: Relation
  readonly kind: Kind
  readonly pieces: KeyedPiece[]
  because?: string
}

/**
 * At first, each row at once. Where that can't be, because values of a unique column have gone round, or foreign keys have
 * followed a row that had been changed before, step by step as it happened.
 */
async function carriedOut(
  client: Queries,
  relations: ReadonlyMap<string, Relation>,
  pieces: readonly Piece[],
  kept: readonly KeptRow[],
): Promise<Left> {
  await client.query('savepoint all_of_it')
  try {
    return await inOrder(client, relations, await withKeys(client, relations, pieces))
  } catch (thrown) {
    if (!(thrown instanceof Failure) || thrown.code !== 'conflict') throw thrown
    await client.query('rollback to savepoint all_of_it')
    const steps = await withKeys(client, relations, kept.toReversed())
    return inOrder(client, relations, steps, { isStepwise: true }).catch(() => Promise.reject(thrown))
  }
}

/**
 * The last first; what the rest is in the way of waits for it, such as a row that refers to one that is put back behind
 * it. It is over when all is done, or nothing can be. Stepwise, what waits comes next as soon as anything else is done,
 * and no step of a row overtakes another one of it.
 */
async function inOrder(
  client: Queries,
  relations: ReadonlyMap<string, Relation>,
  pieces: readonly KeyedPiece[],
  { isStepwise = false } = {},
): Promise<Left> {
  const left: Left = new Map()
  let batches = batchesOf(relations, pieces)
  while (batches.length > 0) {
    const waiting: Batch[] = []
    const held = new Set<string>()
    let isAnyDone = false
    for (const [position, batch] of batches.entries()) {
      const rows = batch.pieces.flatMap(rowsOf)
      if (!rows.some((row) => held.has(row)) && (await tried(client, batch, left))) {
        isAnyDone = true
        if (!isStepwise || waiting.length === 0) continue
        waiting.push(...batches.slice(position + 1))
        break
      }
      waiting.push(batch)
      if (isStepwise) for (const row of rows) held.add(row)
    }
    const [first] = waiting
    if (first !== undefined && !isAnyDone) throw await conflictOf(client, first, left)
    batches = waiting
  }
  return left
}

/** By which keys a row is known, before and after. */
const rowsOf = ({ relation, wasKey, becameKey }: KeyedPiece): readonly string[] =>
  [wasKey, becameKey].flatMap((key) => (key === undefined ? [] : [`${relation}\0${key}`]))

/** Rows of one table that are treated alike, and none twice. */
function batchesOf(relations: ReadonlyMap<string, Relation>, pieces: readonly KeyedPiece[]): readonly Batch[] {
  const batches: Batch[] = []
  let keys = new Set<string>()
  for (const piece of pieces) {
    const relation = relations.get(piece.relation)
    if (relation === undefined) throw new TypeError('a piece is of a relation that was looked up')
    const last = batches.at(-1)
    const own = rowsOf(piece)
    const isLike = last?.relation === relation && last.kind === kindOf(piece) && !own.some((key) => keys.has(key))
    if (isLike) last.pieces.push(piece)
    else {
      batches.push({ relation, kind: kindOf(piece), pieces: [piece] })
      keys = new Set()
    }
    for (const key of own) keys.add(key)
  }
  return batches
}

async function tried(client: Queries, batch: Batch, left: Left): Promise<boolean> {
  await client.query('savepoint one')
  const because = await attempt(client, batch, left).catch((thrown: unknown) => {
    const { code = '' } = (thrown ?? {}) as { readonly code?: string }
    if (code === '55P03')
      throw new Failure('conflict', `somebody else is changing ${batch.relation.name} now: try again`)
    if (!/^(?:22|23|42|P0)/.test(code)) throw thrown
    return refusals[code] ?? `the database refused it (SQLSTATE ${code})`
  })
  if (because === undefined) {
    await client.query('release savepoint one')
    return true
  }
  batch.because = because
  await client.query('rollback to savepoint one')
  return false
}

const refusals: Readonly<Record<string, string>> = {
  '23503': 'a foreign key would not hold',
  '23505': 'there is another row with the same key, or another unique value',
  '23514': 'a check of the table refuses it',
}

/** Returns what is in the way, or nothing. As the owner of the table, so that its triggers get no more rights than that. */
async function attempt(client: Queries, { relation, kind, pieces }: Batch, left: Left): Promise<string | undefined> {
  const { name, compared, inserted, updated, key } = relation
  const was = pieces.map((piece) => piece.was)
  const became = pieces.map((piece) => piece.became)
  const gone = `(select i.image::${name} as r from unnest($1::text[]) as i (image) offset 0)`
  const followers = relation.followers.filter(({ onDelete, onUpdate }) => (kind === 'remove' ? onDelete : onUpdate))
  // Nobody refers to a row from then on who was not seen.
  if (kind !== 'restore' && followers.length > 0)
    await client.query(`select from ${name} t, ${gone} w where ${sameKey(relation, 't', '(w.r)')} for update of t`, [
      became,
    ])
  for (const each of kind === 'restore' ? [] : followers)
    if (await isFollowed(client, relation, each, kind, was, became)) return `rows of ${each.table} refer to it`
  await client.query(`set local role ${relation.owner}`)
  const returning = `returning ${asText(key, 't')} as key, ${asText(compared, 't')} as after`
  const done = await (kind === 'restore'
    ? client.query<{ key: string; after: string }>(
        `insert into ${name} as t (${inserted.join(', ')}) overriding system value
         select ${fields(inserted, '(w.r)')} from ${gone} w ${returning}`,
        [was],
      )
    : kind === 'remove'
      ? client.query<{ key: string; after: string }>(
          `delete from ${name} t using ${gone} w
           where ${sameKey(relation, 't', '(w.r)')} and ${asText(compared, 't')} = ${asText(compared, '(w.r)')} ${returning}`,
          [became],
        )
      : client.query<{ key: string; after: string }>(
          `update ${name} t set ${updated.map((each) => `${each} = (w.was).${each}`).join(', ')}
           from (select i.was::${name} as was, i.became::${name} as became
             from unnest($1::text[], $2::text[]) as i (was, became) offset 0) w
           where ${sameKey(relation, 't', '(w.became)')}
             and ${asText(compared, 't')} in (${asText(compared, '(w.became)')}, ${asText(compared, '(w.was)')}) ${returning}`,
          [was, became],
        ))
  await client.query('reset role')
  if (done.rows.length !== pieces.length) return 'it has changed since'
  const now = new Map(done.rows.map((row) => [row.key, row.after]))
  if (kind !== 'remove' && pieces.some(({ wasKey = '' }) => !now.has(wasKey))) return 'a trigger gives it another key'
  for (const { becameKey } of pieces) left.delete(`${name}\0${becameKey}`)
  for (const { was: image, wasKey = '' } of pieces)
    if (image !== null)
      left.set(`${name}\0${wasKey}`, { relation, key: wasKey, was: image, now: now.get(wasKey) ?? '' })
  return undefined
}

/** Whether rows that are no part of this would go or change along. */
async function isFollowed(
  client: Queries,
  relation: Relation,
  { table, columns, refers, isItself }: Follower,
  kind: Kind,
  was: readonly (string | null)[],
  became: readonly (string | null)[],
): Promise<boolean> {
  const { name } = relation
  const conditions = [
    ...columns.map((column, place) => `f.${column} = (w.became).${refers[place]}`),
    ...(kind === 'remove' ? [] : [`${asText(refers, '(w.was)')} <> ${asText(refers, '(w.became)')}`]),
    ...(isItself && kind === 'remove'
      ? [
          `not exists (select from unnest($2::text[]) as o (image), lateral (select o.image::${name} as r offset 0) x
            where ${sameKey(relation, 'f', '(x.r)')})`,
        ]
      : []),
  ]
  const { rows } = await client.query<{ there: boolean }>(
    `select exists (select from ${table} f, (select i.was::${name} as was, i.became::${name} as became
       from unnest($1::text[], $2::text[]) as i (was, became) offset 0) w where ${conditions.join(' and ')}) as there`,
    [was, became],
  )
  return rows[0]?.there === true
}

/** The first row of a batch that is in the way, by table and key. */
async function conflictOf(
  client: Queries,
  { relation, kind, pieces, because = '' }: Batch,
  left: Left,
): Promise<Failure> {
  const alone = async (piece: KeyedPiece): Promise<string | undefined> => {
    const batch: Batch = { relation, kind, pieces: [piece] }
    const isDone = await tried(client, batch, left)
    return isDone ? undefined : batch.because
  }
  for (const piece of pieces) {
    const why = await alone(piece)
    if (why !== undefined) return inTheWay(relation, piece.becameKey ?? piece.wasKey, why)
  }
  return new Failure('conflict', `nothing was undone: ${relation.name}: ${because}`)
}

const inTheWay = ({ name, key }: Relation, row: string | undefined, because: string): Failure =>
  new Failure('conflict', `nothing was undone: ${name}, ${key.join(', ')} = ${(row ?? '').slice(0, 200)}: ${because}`)

/** What undoing one row did to another, by triggers of the tables, is not what was meant. */
async function asLeft(client: Queries, relations: ReadonlyMap<string, Relation>, left: Left): Promise<void> {
  for (const relation of relations.values()) {
    const own = [...left.values()].filter((each) => each.relation === relation)
    const { rows } = await client.query<{ key: string; now: string }>(
      `select ${asText(relation.key, 't')} as key, ${asText(relation.compared, 't')} as now from ${relation.name} t,
        unnest($1::text[]) as i (image), lateral (select i.image::${relation.name} as r offset 0) w
       where ${sameKey(relation, 't', '(w.r)')}`,
      [own.map(({ was }) => was)],
    )
    const there = new Map(rows.map((row) => [row.key, row.now]))
    for (const { key, now } of own)
      if (there.get(key) !== now)
        throw inTheWay(relation, key, 'a trigger, or a foreign key, changes it when another row is undone')
  }
}

function answerOf(change: string, kept: readonly KeptRow[], pieces: readonly Piece[]): Undone {
  const [first] = kept
  const names = [...new Set(kept.map(({ relation }) => relation))]
  const tables = names.map((table) => {
    const count = (kind: Kind): number =>
      pieces.filter((piece) => piece.relation === table && kindOf(piece) === kind).length
    return { table, restored: count('restore'), reverted: count('revert'), removed: count('remove') }
  })
  return {
    change,
    at: first?.at.getTime() ?? 0,
    ...(first === undefined || first.session === null ? {} : { session: first.session }),
    tables,
    rows: pieces.length,
  }
}
