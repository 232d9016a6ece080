import { createHash, timingSafeEqual } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'

// What the helpdesk does beside keeping tickets: accounts, orders, money, its old archive. One SQLite file and what can be
// done to it. It knows nothing of agents or of Sallyport, and does
// whatever it is told: that is the point.

/** Whatever the helpdesk was asked to do, it writes down: what reached it can be counted. */
export interface Call {
  readonly id: number
  readonly tool: string
  readonly args: string
  /** `running`, then `done`, `failed` or `cancelled`. */
  readonly state: string
}

export type Desk = ReturnType<typeof openDesk>

/** What the helpdesk refuses: its message may be shown to whoever asked. */
export class DeskError extends Error {}

const schema = `
  CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, plan TEXT NOT NULL) STRICT;
  CREATE TABLE users     (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL) STRICT;
  CREATE TABLE orders    (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id),
                          item TEXT NOT NULL, paid_cents INTEGER NOT NULL) STRICT;
  CREATE TABLE refunds   (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES orders (id), cents INTEGER NOT NULL) STRICT;
  CREATE TABLE archive   (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
  CREATE TABLE calls     (id INTEGER PRIMARY KEY, tool TEXT NOT NULL, args TEXT NOT NULL, state TEXT NOT NULL) STRICT;
  CREATE TABLE access    (key_digest TEXT NOT NULL) STRICT;
`

/** Makes the file with its tables and some people in it. From then on it opens only with the key. */
export function createDesk(file: string, key: string): void {
  const db = new DatabaseSync(file)
  try {
    db.exec('PRAGMA journal_mode = WAL')
    db.exec(schema)
    const into = (table: string, rows: readonly (readonly (string | number)[])[]): void => {
      const insert = db.prepare(`INSERT INTO ${table} VALUES (${rows[0]!.map(() => '?').join(', ')})`)
      for (const row of rows) insert.run(...row)
    }
    db.exec('BEGIN')
    into('access', [[digest(key)]])
    into('customers', [
      [42, 'Mara Lindqvist', 'mara@lindqvist.example', 'standard'],
      [43, 'Otto Brandt', 'otto@brandt.example', 'business'],
      [44, 'Yuki Tanaka', 'yuki@tanaka.example', 'standard'],
    ])
    into(
      'users',
      Array.from({ length: 128 }, (_, at) => [at + 1, `User ${at + 1}`, `user${at + 1}@shop.example`]),
    )
    into('orders', [
      [9001, 42, 'desk lamp', 6_900],
      [9002, 43, 'standing desk', 64_900],
      [9003, 42, 'light bulb', 1_200],
    ])
    into(
      'archive',
      Array.from({ length: 3_000 }, (_, at) => [
        at + 1,
        42 + (at % 3),
        `Old ticket ${at + 1}: a question about an order`,
      ]),
    )
    db.exec('COMMIT')
  } finally {
    db.close()
  }
}

/** Opens a helpdesk. Fails with `DeskError` if the key is not the one that it was made with. */
export function openDesk(file: string, key: string) {
  const db = new DatabaseSync(file)
  db.exec('PRAGMA busy_timeout = 2000; PRAGMA foreign_keys = ON')
  const access = db.prepare('SELECT key_digest FROM access').get() as { key_digest: string } | undefined
  if (access === undefined || !timingSafeEqual(Buffer.from(access.key_digest), Buffer.from(digest(key)))) {
    db.close()
    throw new DeskError('the helpdesk does not open with this key')
  }

  const rows = <T>(sql: string, ...values: (string | number)[]): T[] => db.prepare(sql).all(...values) as T[]
  const change = (sql: string, ...values: (string | number)[]): number => Number(db.prepare(sql).run(...values).changes)

  return {
    order(customer: number, id: number) {
      const [found] = rows<{ id: number; item: string; paid_cents: number }>(
        'SELECT id, item, paid_cents FROM orders WHERE id = ? AND customer_id = ?',
        id,
        customer,
      )
      if (found === undefined) throw new DeskError(`customer ${customer} has no order ${id}`)
      return found
    },
    /** Sends money back: so much of what was paid as is not sent back yet. */
    refund(customer: number, order: number, cents: number): number {
      const [found] = rows<{ open: number }>(
        `SELECT paid_cents - coalesce((SELECT sum(cents) FROM refunds WHERE order_id = orders.id), 0) AS open
         FROM orders WHERE id = ? AND customer_id = ?`,
        order,
        customer,
      )
      if (found === undefined) throw new DeskError(`customer ${customer} has no order ${order}`)
      if (cents > found.open) throw new DeskError(`order ${order} has ${euros(found.open)} left to send back`)
      return Number(db.prepare('INSERT INTO refunds (order_id, cents) VALUES (?, ?)').run(order, cents).lastInsertRowid)
    },
    deleteUser: (id: number) => change('DELETE FROM users WHERE id = ?', id),
    deleteAllUsers: () => change('DELETE FROM users'),
    exportCustomers: () => rows<{ name: string; email: string }>('SELECT name, email FROM customers ORDER BY id'),
    archivePage: (customer: number, text: string, from: number, count: number) =>
      rows<{ id: number; body: string }>(
        'SELECT id, body FROM archive WHERE id > ? AND id <= ? AND customer_id = ? AND instr(lower(body), lower(?)) > 0',
        from,
        from + count,
        customer,
        text,
      ),
    archiveSize: () => rows<{ size: number }>('SELECT max(id) AS size FROM archive')[0]?.size ?? 0,
    /** Writes down that a call began. The argument says how it ended. */
    began(tool: string, args: unknown): (state: 'done' | 'failed' | 'cancelled') => void {
      const { lastInsertRowid } = db
        .prepare(`INSERT INTO calls (tool, args, state) VALUES (?, ?, 'running')`)
        .run(tool, JSON.stringify(args ?? {}))
      return (state) => void db.prepare('UPDATE calls SET state = ? WHERE id = ?').run(state, lastInsertRowid)
    },
    calls: () => rows<Call>('SELECT id, tool, args, state FROM calls ORDER BY id'),
    count: (table: 'users' | 'refunds') =>
      rows<{ count: number }>(`SELECT count(*) AS count FROM ${table}`)[0]?.count ?? 0,
    refunded: () => rows<{ cents: number }>('SELECT coalesce(sum(cents), 0) AS cents FROM refunds')[0]?.cents ?? 0,
    close: () => db.close(),
  }
}

export const euros = (cents: number): string => `${(cents / 100).toFixed(2)} EUR`

const digest = (key: string): string => createHash('sha256').update(key).digest('hex')
