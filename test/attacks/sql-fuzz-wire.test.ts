// Messages of the wire protocol that nobody wrote, through the whole gateway to a real database: rows of another customer
// never leave and are never changed, nothing fails inside, others are served all the while, and nothing piles up.
import { once } from 'node:events'
import net from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import tls from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Person } from '../../src/core/identity.ts'
import { noPostgres, startPostgres } from '../support/postgres.ts'
import type { PostgresServer } from '../support/postgres.ts'
import { frame, int32, query, RawClient, startup, startWire, sync, testCertificate } from '../support/postgres-wire.ts'
import type { Wire } from '../support/postgres-wire.ts'
import { briefAttacks, deskWork, hidden, mendDesk, ofOthers, soberDesk, watchOver } from './sql-lane.ts'
import type { Watch } from './sql-lane.ts'
import { chances, mutated } from './sql-mutations.ts'
import type { Chances } from './sql-mutations.ts'
import { askFor, beginning, sequence, wholeOf } from './wire-mutations.ts'
import type { Step } from './wire-mutations.ts'

// How long to fuzz is said where tests are run; what was found can be run again.
const { SQL_FUZZ_SECONDS, SQL_FUZZ_SEED } = process.env
const time = Number(SQL_FUZZ_SECONDS ?? 10) * 1000
const seed = SQL_FUZZ_SEED ?? String(Date.now())

/** Sequences between two looks at the database, and how many of them are sent at a time. */
const batch = 40
const lanes = 3
/** Milliseconds in which whoever does nothing wrong is served, and in which a sequence is answered. */
const served = 5_000
const answered = 15_000

/** What another customer's numbers are, so that they are found as text and as four bytes. */
const amount = 0x42_4f_42_2d
const bytesOfOthers = [int32(amount), int32(987_654), Buffer.from('BOBS-'), Buffer.from('HIDDEN-')].flatMap((bytes) => [
  bytes.toString('latin1'),
  bytes.toString('hex'),
])

/** Whether something of other rows, or of what is not described, is among these bytes, in whatever form it was asked for. */
const tells = (bytes: Buffer): boolean => {
  // A length that the client gave itself may look like a number that is hidden.
  const text = bytes.toString('latin1').replaceAll(/a message of \d+ bytes is too large/g, '')
  return (
    ofOthers.test(text) ||
    hidden.test(text) ||
    text.includes(String(amount)) ||
    bytesOfOthers.some((each) => text.includes(each))
  )
}

const anna: Person = { kind: 'person', name: 'anna', roles: ['approver'], teams: [] }
const certificate = testCertificate()
/** What a server may say (54.7). */
const sayings = /^[RSKZTDCEN123tnsIAv]*$/

/** A client, everything that it got, and what its connection is known by. */
class Attacker extends RawClient {
  readonly heard: Buffer[] = []
  keys: Buffer = Buffer.alloc(8)
  sent: Buffer = Buffer.alloc(0)

  constructor(socket: net.Socket) {
    super(socket)
    socket.on('data', (chunk: Buffer) => this.heard.push(chunk))
    socket.on('error', () => {})
  }

  put(bytes: Buffer): void {
    this.sent = Buffer.concat([this.sent, bytes])
    this.socket.write(bytes)
  }

  async within(holds: () => boolean, most: number): Promise<boolean> {
    for (const end = performance.now() + most; !holds() && !this.isClosed && performance.now() < end;) await pause(1)
    return holds() || this.isClosed
  }
}

describe.skipIf(await noPostgres(18))(`messages that nobody wrote, from SQL_FUZZ_SEED=${seed}`, () => {
  let server: PostgresServer
  let wire: Wire
  let watch: Watch
  /** One of the same customer, and one of the other. */
  let bystander: RawClient
  let neighbour: Attacker
  const standing = new Set<string>()
  const agentRoles: string[] = []

  beforeAll(async () => {
    server = await startPostgres({ version: 18 })
    const { change, ...desk } = soberDesk
    const tables = ['tickets', 'responses', 'customers']
    wire = await startWire(server, {
      desk,
      // More than one ticket at a time, and whatever destroys preferences, is asked about.
      change: (database) => {
        const changed = change(database)
        const tickets = changed.tables.get('tickets')
        if (tickets === undefined) throw new Error('the desk has tickets')
        return { ...changed, tables: new Map(changed.tables).set('tickets', { ...tickets, ask: { update: 1 } }) }
      },
      worker: [...tables.map((table) => `{ do: "%.${table}:*", ask: never }`), '"%.preferences:*"'],
      repeats: 1_000_000,
      listener: {
        hold: 60,
        tls: { certificate: certificate.certificate, key: certificate.key },
        connections: { all: 100, session: 20, unknown: 50 },
        limits: { patience: 1_000 },
      },
    })
    const { admin, plan, settings } = wire.desk
    for (const schema of ['public', 'vault'])
      await admin.query(`update ${schema}.tickets set amount = ${amount} where customer_id = 8`)
    agentRoles.push(...[...settings.agents.keys()].map((agent) => plan.names.agent(agent)))
    // Of somebody careless: past the views, only the gateway stands before the tables.
    await admin.query(`grant select, insert, update, delete on all tables in schema public to ${agentRoles.join()}`)
    watch = await watchOver(admin, plan.names, {
      roles: agentRoles,
      databaseName: settings.databaseName,
      agent: plan.names.agent('desk-worker'),
      neighbour: undefined,
      mend: () => mendDesk(wire.desk),
    })
    const [own, others] = [await wire.session('reader'), await wire.session('desk-worker', { customer_id: 8 })]
    for (const { id } of [own, others]) standing.add(id)
    bystander = await loggedIn('reader', own.token)
    neighbour = await loggedIn('desk-worker', others.token)
    for (const look of watched()) await look()
  }, 120_000)
  afterAll(async () => {
    for (const client of [bystander, neighbour]) client?.socket.destroy()
    await watch?.close()
    await wire?.close()
    await server?.close()
  })

  const connected = async (): Promise<Attacker> => {
    const socket = net.connect(wire.listener.port, '127.0.0.1')
    const client = new Attacker(socket)
    await once(socket, 'connect')
    return client
  }

  /** Lets a client in. There may be no room for a moment, while the server still ends what was let go. */
  async function loggedIn(agent: string, token: string): Promise<Attacker> {
    for (const end = performance.now() + served; ;) {
      const client = await connected()
      client.send(startup({ user: agent, database: wire.alias }), frame('p', `${token}\0`))
      await client.within(() => client.types.includes('Z'), served)
      if (client.types.includes('Z')) {
        client.keys = client.frames.find(({ type }) => type === 'K')?.body ?? client.keys
        client.frames = []
        return client
      }
      if (performance.now() > end || client.errors()[0]?.code !== '53300')
        throw new Error(`not let in: ${JSON.stringify(client.errors())}`)
      await pause(10)
    }
  }

  /** Both are served what they were served before, in time. */
  function watched() {
    const ask = async (client: RawClient, text: string, rows: readonly (readonly string[])[]): Promise<void> => {
      client.clear()
      client.send(query(text))
      const end = performance.now() + served
      while (!client.types.includes('Z') && !client.isClosed && performance.now() < end) await pause(1)
      if (!client.types.includes('Z')) throw new Error(`somebody else is not served: ${client.types}`)
      expect(client.rows()).toEqual(rows)
    }
    return [
      () =>
        ask(bystander, "select 'served', count(*) from tickets where id > 2 and customer_id <> 7", [['served', '0']]),
      () =>
        ask(neighbour, 'select id, body, amount from tickets order by id', [
          ['3', 'BOBS-BODY', String(amount)],
          ['4', 'BOBS-BODY', String(amount)],
        ]),
    ]
  }

  /** Every question that is open is answered, one way or the other. */
  async function answerPeople(): Promise<number> {
    const open = await wire.world.approvals.list({ states: ['pending'] })
    let given = 0
    for (const { id } of open)
      await wire.world.approvals.answer(id, anna, given++ % 3 === 0 ? 'deny' : 'approve').catch(() => {})
    return given
  }

  async function cancel(client: Attacker, whose: 'own' | 'wrong' | 'other'): Promise<void> {
    const keys = Buffer.from(whose === 'other' ? neighbour.keys : client.keys)
    if (whose !== 'own') keys[7] = (keys[7] as number) ^ 1
    const other = await connected()
    other.send(Buffer.concat([int32(16), int32(80_877_102), keys]))
    await other.within(() => false, served)
    if (!other.isClosed) throw new Error('a cancel request is not done with')
  }

  const seen = {
    sequences: 0,
    messages: 0,
    broken: 0,
    beginnings: 0,
    letIn: 0,
    reached: 0,
    refused: 0,
    rows: 0,
    closed: 0,
    left: 0,
    cancels: 0,
    approvals: 0,
    looks: 0,
    slowest: 0,
  }

  /** Events of the log that are counted in these. */
  let counted = 0

  /** Sends one sequence, and sees to it that it is answered to its end. Returns whether the connection goes on. */
  async function attack(
    client: Attacker,
    steps: readonly Step[],
    number: number,
    endSession: () => Promise<void>,
  ): Promise<boolean> {
    const start = performance.now()
    client.sent = Buffer.alloc(0)
    client.clear()
    for (const step of steps) {
      if (client.isClosed) break
      if (step.kind === 'send') {
        client.put(step.bytes)
        await new Promise(setImmediate)
      } else if (step.kind === 'wait') {
        const before = client.frames.length
        await client.within(() => client.frames.length > before, 5)
      } else if (step.kind === 'cancel') {
        seen.cancels += 1
        await cancel(client, step.whose)
      } else if (step.kind === 'end of session') await endSession()
      else {
        seen.left += 1
        client.socket.destroy()
        return false
      }
    }
    // What a length was too long for is filled up, so that what comes then is messages again.
    for (let left = wholeOf(client.sent).missing; left !== undefined && left > 0;) {
      client.put(Buffer.alloc(left))
      left = wholeOf(client.sent).missing
    }
    const word = `answered ${number}`
    for (let tries = 0; ; tries++) {
      const stopped = (): number => client.errors().filter(({ code }) => code === '57014').length
      const before = stopped()
      client.put(Buffer.concat([sync, query('rollback'), query(`select '${word}'`)]))
      const isDone = (): boolean => client.types.endsWith('Z') && client.rows().some(([value]) => value === word)
      // A request to cancel may come late.
      const isLate = (): boolean => client.types.endsWith('Z') && stopped() > before
      if (!(await client.within(() => isDone() || (tries < 3 && isLate()), answered)))
        throw new Error(`no answer after ${client.types}, ${JSON.stringify(client.errors())}`)
      if (client.isClosed || isDone()) break
    }
    seen.slowest = Math.max(seen.slowest, Math.round(performance.now() - start))
    if (!client.isClosed) {
      if (client.status() !== 'I') throw new Error(`its transaction is open: ${client.status()}`)
      return true
    }
    seen.closed += 1
    const last = client.frames.at(-1)
    if (last?.type === 'E' && last.body.includes('\0VFATAL\0')) return false
    if (!wholeOf(client.sent).isLeft) throw new Error(`closed without a word, after ${client.types}`)
    return false
  }

  /** Begins a connection in one way or another. */
  async function begin(chance: Chances, token: string, history: string[]): Promise<void> {
    const given = { user: 'desk-worker', database: wire.alias, token }
    const { asks, isPatient, packet, password, isLetIn } = beginning(chance, given)
    history.push(`${asks} ${isPatient} ${written(packet)} ${written(password)}`)
    seen.beginnings += 1
    const first = await connected()
    let client = first
    const at = chance.often(50) ? chance.below(packet.length + 1) : packet.length
    const parts = [packet.subarray(0, at), packet.subarray(at), password]
    if (asks !== undefined && isPatient) {
      first.send(askFor[asks])
      await first.within(() => first.bytes.length > 0, served)
      const said = first.bytes.toString()
      if (said !== (asks === 'TLS' ? 'S' : 'N')) throw new Error(`${asks} is answered with ${said}`)
      first.bytes = Buffer.alloc(0)
      if (asks === 'TLS' && (isLetIn !== 'maybe' || chance.often(50))) {
        first.socket.removeAllListeners('data')
        const secured = tls.connect({ socket: first.socket, ca: certificate.ca, servername: 'localhost' })
        client = new Attacker(secured)
        await once(secured, 'secureConnect')
      }
    }
    // Whoever does not wait sends everything in one.
    const isAhead = asks !== undefined && !isPatient
    for (const part of isAhead ? [Buffer.concat([askFor[asks], ...parts])] : parts) {
      client.send(part)
      await new Promise(setImmediate)
    }

    try {
      if (isLetIn === 'maybe') {
        client.socket.end()
        if (!(await client.within(() => false, served))) throw new Error('it stays open')
      } else {
        await client.within(() => client.types.includes('Z') || client.errors()[0]?.code === '53300', served)
        const isIn = client.types.includes('Z')
        // No room is a reason, and the only one.
        if (isIn !== isLetIn && !(isLetIn && client.errors()[0]?.code === '53300'))
          throw new Error(`${isIn ? 'let in' : 'not let in'}: ${client.types} ${JSON.stringify(client.errors())}`)
        if (isIn) {
          seen.letIn += 1
          client.clear()
          client.send(query('select 42'))
          await client.until('Z')
          expect(client.rows()).toEqual([['42']])
        } else if (!(await client.within(() => false, served))) throw new Error('it stays open')
      }
      if (tells(Buffer.concat([...first.heard, ...client.heard]))) throw new Error('it tells of others')
    } finally {
      client.socket.destroy()
      first.socket.destroy()
    }
  }

  const written = (bytes: Buffer): string => JSON.stringify(bytes.toString('latin1'))
  const wordsOf = (step: Step): string =>
    step.kind === 'send' ? written(step.bytes) : step.kind === 'cancel' ? `cancel ${step.whose}` : step.kind

  /** One client after the other, until this part of the batch is done. */
  async function lane(next: () => number | undefined, history: string[]): Promise<void> {
    const { token } = await wire.session()
    let client: Attacker | undefined
    try {
      for (let number = next(); number !== undefined; number = next()) {
        // Each has chances of its own: what others do meanwhile does not change it.
        const chance = chances(`wire ${seed} ${number}`)
        seen.sequences += 1
        const text = (): string => {
          const chosen = chance.one(chance.often(65) ? deskWork : briefAttacks)
          const hostile = { hostile: briefAttacks, harmless: deskWork }
          return watch.filled([chance.often(45) ? mutated(chosen, chance, hostile) : chosen])[0] as string
        }
        if (chance.often(15)) {
          history.push(`${number}:`)
          await begin(chance, token, history)
          continue
        }
        const agent = chance.often(10) ? 'reader' : 'desk-worker'
        const { steps, messages, isBroken } = sequence(chance, text)
        // What the client says itself would be no news to it.
        const own = Buffer.concat(steps.flatMap((step) => (step.kind === 'send' ? [step.bytes] : [])))
        if (tells(own)) continue
        seen.messages += messages
        if (isBroken) seen.broken += 1
        const isDoomed = steps.some(({ kind }) => kind === 'end of session')
        if (client !== undefined && (agent === 'reader' || isDoomed || chance.often(30))) {
          client.socket.destroy()
          client = undefined
        }
        const session = isDoomed || agent === 'reader' ? await wire.session(agent) : undefined
        client ??= await loggedIn(agent, session?.token ?? token)
        history.push(`${number}, client ${client.socket.localPort} of ${agent}: ${steps.map(wordsOf).join('\n  ')}`)
        const goesOn = await attack(client, steps, number, async () => {
          await wire.world.sessions.end([session?.id ?? ''], 'it was told to', 'person:ada')
        })
        const heard = Buffer.concat(client.heard.splice(0))
        if (tells(heard)) throw new Error(`it tells of others: ${written(heard)}`)
        if (!sayings.test(client.types) || (goesOn && client.bytes.length > 0))
          throw new Error(`it says what is no message: ${client.types}`)
        if (goesOn && isDoomed) throw new Error('it outlives its session')
        if (!goesOn || agent === 'reader') {
          client.socket.destroy()
          client = undefined
        }
      }
    } finally {
      client?.socket.destroy()
    }
  }

  /** What is to go when its client goes has gone, and nothing is as it should not be. */
  async function look(): Promise<void> {
    seen.looks += 1
    const { admin, plan } = wire.desk
    const { sessions, audit } = wire.world
    await sessions.end(
      sessions.live().flatMap(({ id }) => (standing.has(id) ? [] : [id])),
      'the batch is over',
      'person:ada',
    )
    const left = async () =>
      (
        await admin.query<{ backends: number; sessions: number }>(
          `select (select count(*)::int from pg_stat_activity where usename = any ($1)) as backends,
            (select count(*)::int from ${plan.names.internal}.session) as sessions`,
          [agentRoles],
        )
      ).rows[0]
    await expect.poll(left, { timeout: 10_000, interval: 10 }).toEqual({ backends: 2, sessions: 2 })
    expect(await watch.changes()).toEqual({ rows: [], world: [] })
    for (; counted < audit.events.length; counted++) {
      const event = audit.events[counted] as { type: string } & Partial<Record<string, number>>
      if (event.type === 'sql.close') {
        seen.reached += (event['statements'] ?? 0) - (event['refused'] ?? 0)
        seen.refused += event['refused'] ?? 0
        seen.rows += event['rows'] ?? 0
      }
      // What was counted is not kept, save what tells that connections have ended.
      if (event.type !== 'sql.open' && event.type !== 'sql.close')
        audit.events[counted] = { type: 'counted' } as unknown as (typeof audit.events)[number]
    }
  }

  test(
    'tell and change nothing of others, break nothing, and leave nothing behind',
    { timeout: time + 120_000 },
    async () => {
      const until = performance.now() + time
      let given = 0
      while (performance.now() < until) {
        const first = given
        const next = (): number | undefined =>
          given - first < batch && performance.now() < until ? given++ : undefined
        const histories = Array.from({ length: lanes }, (): string[] => [])
        const over = new AbortController()
        const people = (async () => {
          for (; !over.signal.aborted; await pause(15)) seen.approvals += await answerPeople()
        })()
        const others = (async () => {
          for (; !over.signal.aborted; await pause(20)) await Promise.all(watched().map((each) => each()))
        })()
        for (const each of [people, others]) each.catch(() => {})
        try {
          try {
            const each = histories.map((history) => lane(next, history))
            await Promise.allSettled(each)
            await Promise.all(each)
          } finally {
            over.abort()
            await Promise.all([people, others])
          }
          await look()
          if (wire.reported.length > 0) throw new Error('something went wrong inside', { cause: wire.reported[0] })
        } catch (cause) {
          console.error(
            `SQL_FUZZ_SEED=${seed}, reported: ${wire.reported.map((each) => (each as Error).stack ?? each).join('\n')}\n${histories.map((history) => history.join('\n')).join('\n\n')}`,
          )
          throw cause
        }
      }
      console.info(`wire: ${JSON.stringify(seen)}`)
      expect(seen.reached).toBeGreaterThan(seen.sequences / 4)
      expect(seen.letIn).toBeGreaterThan(0)
    },
  )
})
