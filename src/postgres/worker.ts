// The thread in which statements are parsed and checked. Whatever goes wrong here that is not an error of the SQL ends
// the thread: the parser may have broken its own memory, and nothing that it says afterwards can be believed.
import { parentPort } from 'node:worker_threads'
import { hasSqlDetails, loadModule, parseSync } from 'libpg-query'
import { printable } from '../core/printable.ts'
import { checkStatements } from './check.ts'
import type { Database } from './description.ts'
import type { Refused, Verdict } from './verdict.ts'

/** What the thread is told. A description comes once, before the first text that is checked against it. */
export type Order =
  | { readonly kind: 'learn'; readonly key: number; readonly database: Database }
  | { readonly kind: 'forget'; readonly key: number }
  | { readonly kind: 'check'; readonly key: number; readonly text: string; readonly one: boolean }

/** What it says: that it is ready, once, and then the verdict of each text in turn. */
export type Answer = { readonly kind: 'ready' } | { readonly kind: 'verdict'; readonly verdict: Verdict }

const port = parentPort
if (!port) throw new Error('this is to be run as a worker thread')
const databases = new Map<number, Database>()

await loadModule()
port.on('message', (order: Order) => {
  if (order.kind === 'learn') databases.set(order.key, order.database)
  else if (order.kind === 'forget') databases.delete(order.key)
  else port.postMessage({ kind: 'verdict', verdict: check(order) } satisfies Answer)
})
port.postMessage({ kind: 'ready' } satisfies Answer)

function check({ key, text, one }: Extract<Order, { kind: 'check' }>): Verdict {
  const database = databases.get(key)
  if (database === undefined) throw new Error('this database was never described')
  const { tree, refused } = parsed(text)
  return refused ?? checkStatements(tree, text, database, { one, parse: (turned) => parsed(turned).tree })
}

function parsed(text: string): { readonly tree?: unknown; readonly refused?: Refused } {
  // The parser takes nothing at all for a mistake of the program.
  if (text === '') return { tree: { stmts: [] } }
  try {
    return { tree: parseSync(text) }
  } catch (thrown) {
    if (!hasSqlDetails(thrown) || /out of memory|stack depth/i.test(thrown.message)) throw thrown
    const position = thrown.sqlDetails?.cursorPosition ?? 0
    const because = printable(thrown.message, { maxLength: 200 })
    const where = position > 0 ? { position: position + 1 } : {}
    return { refused: { kind: 'refused', sqlstate: '42601', because, ...where } }
  }
}
