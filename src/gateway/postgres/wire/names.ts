import type { Json } from '../../../core/json.ts'
import type { Statement } from '../../../postgres/verdict.ts'
import type { End, Running } from './running.ts'

// INVARIANT: what a name stands for is known for certain where something is decided by it. Names of prepared statements,
// portals and cursors are kept until the server has said that they are gone, and are waited for where it has not yet said
// that they are there.

/** Names that one connection may keep, and bytes of all that is kept with them. */
export const mostKept = { statements: 2_000, portals: 500, bytes: 8_000_000 }

/** A prepared statement, of the protocol or of SQL. */
export interface Prepared {
  readonly name: string
  readonly text: string
  /** Absent for a text with nothing in it. */
  readonly statement: Statement | undefined
  /** Whether the text that the server has is not the one that the client sent. */
  readonly isTurned: boolean
  types: readonly number[]
  readonly segment: number
  readonly size: number
  isConfirmed: boolean
  isClosing: boolean
}

/** A prepared statement with its parameters, or a cursor of SQL. */
export interface Portal {
  readonly name: string
  /** Absent for a cursor. */
  readonly prepared: Prepared | undefined
  readonly parameters: readonly Json[]
  /** The message that made it, where it may have to be made again. */
  readonly bind: Buffer | undefined
  readonly segment: number
  readonly number: number
  readonly size: number
  isConfirmed: boolean
  isClosing: boolean
  /** How often it was run without the answer being there. */
  inFlight: number
  running: Running | undefined
}

/** Statements that make or end what has a name: what comes behind waits until they are done. */
export const naming: ReadonlySet<string> = new Set([
  'prepare',
  'execute',
  'deallocate',
  'declare',
  'fetch',
  'close',
  'discard',
])

/** Prepared statements, portals and cursors that the server has, or will have once it has read what it was sent. */
export class Names {
  readonly statements = new Map<string, Prepared>()
  readonly portals = new Map<string, Portal>()
  /** Where the client is between two Syncs. */
  segment = 0
  /** Messages that the server was sent. */
  numbered = 0
  private kept = 0

  isTaken(name: string): boolean {
    return name !== '' && this.statements.has(name)
  }

  /** Whether what is known of something is what the server has, or nothing of it would be run. */
  isSure({ isConfirmed, isClosing, segment }: Prepared | Portal): boolean {
    return (isConfirmed || segment === this.segment) && !isClosing
  }

  hasRoomForStatement(size: number): boolean {
    return this.statements.size < mostKept.statements && this.kept + size <= mostKept.bytes
  }

  hasRoomForPortal(size: number): boolean {
    return this.portals.size < mostKept.portals && this.kept + size <= mostKept.bytes
  }

  keepStatement(prepared: Prepared): void {
    this.statements.set(prepared.name, prepared)
    this.kept += prepared.size
  }

  keepPortal(portal: Portal): void {
    this.portals.set(portal.name, portal)
    this.kept += portal.size
  }

  /** What a statement does to names, once it has been done. */
  named(statement: Statement, text: string, running: Running): void {
    const { command, name } = statement
    if (command === 'prepare' && name !== undefined) running.effect = () => this.prepared(name, text, statement)
    else if (command === 'deallocate')
      running.effect = () =>
        name === undefined ? this.forgetStatements() : this.forgetStatement(this.statements.get(name))
    else if (command === 'declare' && name !== undefined) {
      running.isKept = true
      running.effect = (cursor) => this.declared(name, cursor)
    } else if (command === 'close')
      running.effect = () => {
        if (name !== undefined) return this.forgetPortal(this.portals.get(name), { tag: 'closed' })
        for (const portal of this.portals.values())
          if (portal.prepared === undefined) this.forgetPortal(portal, { tag: 'closed' })
      }
  }

  private prepared(name: string, text: string, statement: Statement): void {
    const size = text.length + 200
    this.keepStatement({
      name,
      text,
      statement: { ...statement, command: innerCommand(text) },
      isTurned: false,
      types: [],
      segment: this.segment,
      size,
      isConfirmed: true,
      isClosing: false,
    })
  }

  private declared(name: string, running: Running): void {
    this.keepPortal({
      name,
      prepared: undefined,
      parameters: [],
      bind: undefined,
      segment: this.segment,
      number: this.numbered,
      size: 200,
      isConfirmed: true,
      isClosing: false,
      inFlight: 0,
      running,
    })
  }

  forgetStatement(prepared: Prepared | undefined): void {
    if (prepared === undefined || this.statements.get(prepared.name) !== prepared) return
    this.statements.delete(prepared.name)
    this.kept -= prepared.size
  }

  private forgetStatements(): void {
    for (const prepared of this.statements.values()) if (prepared.name !== '') this.forgetStatement(prepared)
  }

  forgetPortal(portal: Portal | undefined, end: End): void {
    if (portal === undefined || this.portals.get(portal.name) !== portal) return
    this.portals.delete(portal.name)
    this.kept -= portal.size
    if (portal.inFlight === 0) portal.running?.end(end)
  }

  /** No transaction is open after the message of this number: portals made before it are gone. */
  forgetPortalsBefore(number: number): void {
    for (const portal of this.portals.values())
      if (portal.number < number) this.forgetPortal(portal, { tag: 'ended with its transaction' })
  }
}

/** What a PREPARE prepares, as far as its answer will tell how many rows it touched. */
export function innerCommand(text: string): Statement['command'] {
  const [, verb = 'select'] = /\bas\s+(insert|update|delete)\b/i.exec(text) ?? []
  return verb.toLowerCase() as Statement['command']
}
