// Sequences of protocol messages that nobody wrote: what a client of PostgreSQL's protocol may send, and what none would.
import {
  bind,
  closeOf,
  describeOf,
  execute,
  flush,
  frame,
  int16,
  int32,
  parse,
  query,
  startup,
  sync,
} from '../support/postgres-wire.ts'
import type { Chances } from './sql-mutations.ts'

/** One thing that a client does. */
export type Step =
  | { readonly kind: 'send'; readonly bytes: Buffer }
  /** Waits for an answer, or for a moment. */
  | { readonly kind: 'wait' }
  /** A cancel request: with the keys of its own connection, with a key that is wrong, or for somebody else's connection. */
  | { readonly kind: 'cancel'; readonly whose: 'own' | 'wrong' | 'other' }
  | { readonly kind: 'end of session' }
  /** It is gone, without a word. */
  | { readonly kind: 'leave' }

export interface Sequence {
  readonly steps: readonly Step[]
  readonly messages: number
  /** Whether bytes were changed, and so messages may be none. */
  readonly isBroken: boolean
}

// Types of parameters by their number, among them those that read catalogs (regclass, oid), arrays, and none.
const types = [
  0,
  0,
  16,
  17,
  20,
  21,
  23,
  23,
  25,
  25,
  26,
  705,
  1007,
  1009,
  1043,
  1114,
  1700,
  2205,
  2249,
  16_400,
  2 ** 32 - 1,
]
const names = ['', '', '', 'a', 'b', 'c', 'ä', 'x'.repeat(70)]

/** Statements about what has a name, and about transactions. */
const around = [
  'begin',
  'begin read only',
  'commit',
  'rollback',
  'savepoint a',
  'rollback to a',
  'release a',
  'prepare a as select * from tickets where id = $1',
  'prepare b (int) as update tickets set status = $$x$$ where id = $1 returning *',
  'prepare a as select * from public.tickets',
  'execute a(1)',
  'execute a(3)',
  'execute b(1)',
  'deallocate a',
  'deallocate all',
  'discard all',
  'declare c cursor for select * from tickets order by id',
  'declare a scroll cursor with hold for select body from responses',
  'fetch 1 from c',
  'fetch all from a',
  'fetch backward 2 from a',
  'move 1 in c',
  'close c',
  'close all',
  "set application_name = 'x'",
  'set datestyle = iso',
  'show transaction_isolation',
  'select 1/0',
  'select 42',
  '',
  ';',
  '-- nothing',
  'begin; select * from tickets; commit',
  "insert into responses (ticket_id, body) values (1, 'x'); select 1/0",
  'select id from tickets; select body from responses; select 3',
]

/** With parameters that they take. */
const bound: readonly (readonly [string, readonly string[]])[] = [
  ['select * from tickets where id = $1', ['1']],
  ['select $1::text, body from tickets where customer_id = $2', ['x', '7']],
  ['select body from tickets where customer_id = any($1::int[])', ['{7,8}']],
  ['select $1 from tickets', ['x']],
  ['update tickets set body = $1 where id = $2 returning id, body', ['x', '2']],
  ['update tickets set status = $1', ['held']],
  ['insert into responses (ticket_id, body) values ($1, $2) returning *', ['1', 'x']],
  ['insert into preferences (customer_id, key, value) values ($1, $2, $3) returning *', ['7', 'key', 'x']],
  ['delete from responses where ticket_id = $1 returning body', ['1']],
  ['select * from preferences where customer_id = $1 or key = $2', ['8', 'theme']],
  ['select * from tickets order by id limit $1 offset $2', ['5', '0']],
]

/** Statements in the ways of the protocol. `text` makes one. */
export function sequence(chance: Chances, text: () => string): Sequence {
  const any = (): string => (chance.often(30) ? chance.one(around) : text())
  const name = (): string => chance.one(names)
  const made: Buffer[] = []
  for (let left = 1 + chance.below(10); left > 0; left--)
    made.push(...message(chance, any, name), ...(chance.often(30) ? [sync] : []))
  const isBroken = chance.often(40)
  const pieces = isBroken ? broken(made, chance) : made
  return { steps: cut(pieces, chance), messages: made.length, isBroken }
}

function message(chance: Chances, any: () => string, name: () => string): readonly Buffer[] {
  const kind = chance.below(100)
  if (kind < 24) return [query(any())]
  if (kind < 54) {
    // As drivers do it, so that it gets far.
    const [said, given] = chance.often(50) ? chance.one(bound) : [any(), []]
    const [statement, portal] = chance.often(60) ? ['', ''] : [name(), name()]
    const values = chance.often(80) ? given : given.map(() => chance.one(['1', '3', '7', '8', 'open', '{7,8}']))
    return [
      ...(chance.often(92) ? [parse(statement, said)] : []),
      ...(chance.often(30) ? [describeOf('S', statement)] : []),
      bind(portal, statement, ...values),
      ...(chance.often(50) ? [describeOf('P', portal)] : []),
      ...Array.from({ length: 1 + chance.below(3) }, () => execute(portal, chance.below(3))),
      ...(chance.often(70) ? [sync] : [flush]),
    ]
  }
  if (kind < 62) {
    const said = chance.often(40) ? chance.one(bound)[0] : any()
    const declared = Array.from({ length: chance.below(4) }, () => int32(chance.one(types) | 0))
    return [frame('P', `${name()}\0${said}\0`, int16(declared.length), ...declared)]
  }
  if (kind < 68) return [anyBind(chance, name)]
  if (kind < 73) return [execute(name(), chance.one([0, 0, 1, 2, 1_000, -1, 2 ** 31 - 1]))]
  if (kind < 76) return [describeOf(chance.one(['S', 'P']), name())]
  if (kind < 79) return [closeOf(chance.one(['S', 'P']), name())]
  if (kind < 91) return [sync]
  if (kind < 94) return [flush]
  if (kind < 95) return [functionCall(chance)]
  if (kind < 98)
    return [chance.one([frame('d', '3\tx\n'), frame('c'), frame('f', 'no\0'), frame('d', bytesOf(chance, 40))])]
  if (chance.often(30)) return [frame('X')]
  return [frame(chance.one(['!', 'p', 'W', 'R', 'Z', '\0', 'Q', 'B', 'P', 'D']), bytesOf(chance, 40))]
}

function anyBind(chance: Chances, name: () => string): Buffer {
  const values = Array.from({ length: chance.below(4) }, () => value(chance))
  const formats = (): Buffer[] => {
    const count = chance.one([0, 1, 1, values.length, chance.below(4)])
    return [int16(count), ...Array.from({ length: count }, () => int16(chance.one([0, 1, 1, 1, 2])))]
  }
  return frame(
    'B',
    `${name()}\0${name()}\0`,
    ...formats(),
    int16(values.length),
    ...values.flatMap((each) => (each === null ? [int32(-1)] : [int32(each.length), each])),
    ...formats(),
  )
}

function value(chance: Chances): Buffer | null {
  const long = Buffer.alloc(8)
  long.writeBigInt64BE(BigInt(chance.below(10)))
  return chance.one<() => Buffer | null>([
    () => null,
    () => Buffer.from(chance.one(['1', '3', '7', '8', 'open', "' or true --", '{7,8}', 'salaries', ''])),
    () => int32(chance.one([1, 3, 7, 8, -1])),
    () => long,
    () => bytesOf(chance, 20),
    () =>
      Buffer.concat([
        int32(1),
        int32(0),
        int32(23),
        int32(2),
        int32(1),
        ...[7, 8].flatMap((id) => [int32(4), int32(id)]),
      ]),
  ])()
}

/** Of `query_to_xml`, which runs a text of its own; of others that read what they like, or of any. */
function functionCall(chance: Chances): Buffer {
  if (chance.often(50)) {
    const told = ['select * from public.salaries', 't', 'f', ''].flatMap((each) => [int32(each.length), each])
    return frame('F', int32(2924), int16(0), int16(4), ...told, int16(0))
  }
  const args = Array.from({ length: chance.below(4) }, () => value(chance) ?? Buffer.alloc(0))
  const called = chance.one([2923, 2924, 3826, 2078, 3458, 3460, chance.below(7_000)])
  const values = args.flatMap((each) => [int32(each.length), each])
  return frame(
    'F',
    int32(called),
    int16(1),
    int16(chance.below(2)),
    int16(args.length),
    ...values,
    int16(chance.below(2)),
  )
}

const bytesOf = (chance: Chances, most: number): Buffer =>
  Buffer.from(Array.from({ length: chance.below(most + 1) }, () => chance.below(256)))

const lengths = (right: number): readonly number[] => [
  0,
  3,
  4,
  5,
  right - 1,
  right + 1,
  right + 5,
  right * 2,
  9_999,
  80_000,
  900_000,
  0x7fff_ffff,
  -1,
  -2_147_483_648,
]

/** Changed in a few places, as bytes and as messages. */
function broken(messages: readonly Buffer[], chance: Chances): Buffer[] {
  let made = [...messages]
  for (let round = 1 + chance.below(4); round > 0 && made.length > 0; round--) {
    const at = chance.below(made.length)
    const one = made[at] as Buffer
    const spot = chance.below(one.length + 1)
    const instead = (...parts: readonly Buffer[]): Buffer[] => made.toSpliced(at, 1, Buffer.concat(parts))
    const flipped = (): Buffer[] => {
      const changed = Buffer.from(one)
      if (spot < changed.length) changed[spot] = (changed[spot] as number) ^ (1 << chance.below(8))
      return made.toSpliced(at, 1, changed)
    }
    made = chance.one<() => Buffer[]>([
      flipped,
      flipped,
      flipped,
      () => instead(one.subarray(0, spot), bytesOf(chance, 8), one.subarray(spot)),
      () => instead(one.subarray(0, spot), one.subarray(spot + 1 + chance.below(8))),
      () => instead(one.subarray(0, spot)),
      () => made.toSpliced(at, 0, one),
      () => made.toSpliced(chance.below(made.length), 1, one),
      () => {
        const other = chance.below(made.length)
        return made.with(at, made[other] as Buffer).with(other, one)
      },
      () => {
        // The length of the message, or any other number in it.
        const changed = Buffer.from(one)
        const place = chance.often(60) ? 1 : chance.below(Math.max(1, one.length - 3))
        if (place + 4 <= changed.length) changed.writeInt32BE(chance.one(lengths(one.length - 1)) | 0, place)
        return made.toSpliced(at, 1, changed)
      },
    ])()
  }
  return made
}

/** In pieces that have nothing to do with messages, and with things that happen between. */
function cut(messages: readonly Buffer[], chance: Chances): readonly Step[] {
  const all = Buffer.concat(messages)
  const way = chance.below(4)
  const borders =
    way === 0
      ? []
      : way === 1
        ? messages.map((_, at) => Buffer.concat(messages.slice(0, at)).length)
        : way === 2 && all.length < 200
          ? Array.from({ length: all.length }, (_, at) => at)
          : Array.from({ length: 1 + chance.below(8) }, () => chance.below(all.length + 1))
  const steps: Step[] = []
  let from = 0
  for (const to of [...new Set(borders), all.length].toSorted((a, b) => a - b)) {
    if (to > from) steps.push({ kind: 'send', bytes: all.subarray(from, to) })
    from = to
    if (way !== 2 && chance.often(15)) steps.push({ kind: 'wait' })
    if (chance.often(2)) steps.push({ kind: 'cancel', whose: chance.one(['own', 'own', 'wrong', 'other']) })
  }
  if (chance.often(3)) steps.splice(chance.below(steps.length + 1), 0, { kind: 'end of session' })
  else if (chance.often(5)) steps.splice(chance.below(steps.length + 1), 0, { kind: 'leave' })
  return steps
}

/** Bytes that a connection begins with. */
export interface Beginning {
  /** Encryption that is asked for first, and whether its answer is waited for. */
  readonly asks: 'TLS' | 'GSS' | undefined
  readonly isPatient: boolean
  readonly packet: Buffer
  readonly password: Buffer
  /** Whether it is let in: `maybe` where bytes were changed. */
  readonly isLetIn: boolean | 'maybe'
}

const others: readonly (readonly [Record<string, string>, boolean])[] = [
  [{}, true],
  [{}, true],
  [{ application_name: 'a' }, true],
  [{ DateStyle: 'ISO' }, true],
  [{ client_encoding: 'UTF8', '_pq_.more': 'x' }, true],
  [{ options: '' }, true],
  [{ options: '-c search_path=public' }, false],
  [{ options: '-c role=postgres -c row_security=off' }, false],
  [{ role: 'postgres' }, false],
  [{ search_path: 'public' }, false],
  [{ session_authorization: 'postgres' }, false],
  [{ client_encoding: 'LATIN1' }, false],
  [{ standard_conforming_strings: 'off' }, false],
  [{ replication: 'database' }, false],
  [{ statement_timeout: '0' }, false],
  [{ TimeZone: "UTC'; select pg_sleep(1); --" }, false],
  [{ database: 'postgres' }, false],
  [{ database: 'x'.repeat(9_000) }, false],
  [{ user: 'reader' }, false],
  [{ user: 'postgres' }, false],
  [{ user: '' }, false],
]

/** Startup packets with a password, some as they should be. */
export function beginning(
  chance: Chances,
  { user, database, token }: { readonly user: string; readonly database: string; readonly token: string },
): Beginning {
  const asks = chance.one([undefined, undefined, 'TLS', 'TLS', 'GSS'] as const)
  const isPatient = chance.often(70)
  const [more, isRight] = chance.often(40) ? [{}, true] : chance.one(others)
  const version = chance.often(70) ? 196_608 : chance.one([196_610, 196_609, 131_072, 262_144, 80_877_102])
  const isKnown = chance.often(85)
  const packet = startup({ user, database, ...more }, version)
  const password = frame('p', `${isKnown ? token : chance.one(['', 'x', `${token}x`, `\0${token}`])}\0`)
  const right = {
    asks,
    isPatient,
    packet,
    password,
    isLetIn: isRight && isKnown && version >>> 16 === 3 && (asks === undefined || isPatient),
  }
  if (chance.often(40)) return right
  const [changed = Buffer.alloc(0), ...rest] = chance.often(15)
    ? [bytesOf(chance, 200)]
    : chance.often(20)
      ? [Buffer.concat([int32(chance.one([...lengths(packet.length), 16, 8]) | 0), packet.subarray(4)]), password]
      : broken([packet, password], chance)
  return { ...right, packet: changed, password: Buffer.concat(rest), isLetIn: 'maybe' }
}

export const askFor = {
  TLS: Buffer.concat([int32(8), int32(80_877_103)]),
  GSS: Buffer.concat([int32(8), int32(80_877_104)]),
} as const

/** What `mostOf` lets a message of this type have, beyond which a connection ends. */
export interface Whole {
  /** Bytes without which the last message is not over; `undefined` where a message can't be. */
  readonly missing: number | undefined
  /** Whether the client said that it leaves. */
  readonly isLeft: boolean
}

/** How a stream of messages ends. */
export function wholeOf(bytes: Buffer): Whole {
  let isLeft = false
  for (let at = 0; at < bytes.length;) {
    if (bytes.length - at < 5) return { missing: 5 - (bytes.length - at), isLeft }
    const length = bytes.readUInt32BE(at + 1)
    if (length < 4 || length > 4_000_004) return { missing: undefined, isLeft }
    isLeft ||= bytes[at] === 0x58
    at += length + 1
    if (at > bytes.length) return { missing: at - bytes.length, isLeft }
  }
  return { missing: 0, isLeft }
}
