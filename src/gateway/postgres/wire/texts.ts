import type { Json } from '../../../core/json.ts'
import type { Database } from '../../../postgres/description.ts'
import type { Refused, Statement, Verdict } from '../../../postgres/verdict.ts'
import type { May } from '../seen.ts'
import { innerCommand, mostKept, naming } from './names.ts'
import type { Names } from './names.ts'
import type { RelayPorts } from './ports.ts'
import { missing, mostOf, refusedStep, stepOf } from './step.ts'
import type { Step } from './step.ts'

/** Milliseconds for which what a session may know is not looked up again. */
const seenFor = 1_000

/** What the texts of a session say, and what is to be done about it. */
export class Texts {
  readonly may: May
  private readonly ports: Pick<RelayPorts, 'session' | 'live'>
  private readonly names: Names
  private described: Database | undefined
  private describedAt = 0

  constructor(ports: Pick<RelayPorts, 'session' | 'live' | 'guard'>, names: Names) {
    this.ports = ports
    this.names = names
    const { session, guard } = ports
    this.may = (permission, effect) => guard.visible(session, permission, effect)
  }

  /** What a text says, where that is known without a wait. */
  known(text: string): Verdict | undefined {
    return this.ports.live.checker.known(text, this.seen())
  }

  checked(text: string): Promise<Verdict> {
    const { session, live } = this.ports
    return live.checker.check(text, this.seen(), { caller: session })
  }

  /** What this session may know of the database. Whatever is run is decided afresh; names may be a moment old. */
  private seen(): Database {
    const now = performance.now()
    if (this.described === undefined || now - this.describedAt > seenFor) {
      this.described = this.ports.live.seen(this.may)
      this.describedAt = now
    }
    return this.described
  }

  /** What is to be done about each, in the order in which they run: the first that may not is the last. */
  stepsOf(statements: readonly Statement[], text: string, parameters: readonly Json[] = []): readonly Step[] {
    const made = new Map<string, { readonly statement: Statement; readonly text: string } | undefined>()
    const steps: Step[] = []
    for (const statement of statements) {
      const own = statements.length === 1 ? text : partOf(text, statement)
      const step = this.stepFor(statement, own, parameters, made)
      steps.push(step)
      if (step.kind === 'refused') break
      if (statement.name !== undefined && statement.command === 'prepare')
        made.set(statement.name, { statement: { ...statement, command: innerCommand(own) }, text: own })
      if (statement.command === 'deallocate' && statement.name !== undefined) made.set(statement.name, undefined)
    }
    return steps
  }

  private stepFor(
    statement: Statement,
    text: string,
    parameters: readonly Json[],
    made: ReadonlyMap<string, { readonly statement: Statement; readonly text: string } | undefined>,
  ): Step {
    const { session, live } = this.ports
    const { resource } = live
    const { command, name = '' } = statement
    const refuse = (sqlstate: string, because: string): Step =>
      this.refusedOf(text, { kind: 'refused', sqlstate, because }, parameters)
    if (command === 'prepare') {
      // What it does is decided when it is run. Until then it must not tell of tables that are not there.
      const complaint = missing(resource, this.may, statement.uses)
      if (complaint?.sqlstate === '42P01') return stepOf(session, resource, this.may, statement, text, parameters)
      if (made.get(name) !== undefined || (this.names.statements.has(name) && !made.has(name)))
        return refuse('42P05', 'a prepared statement of this name is there already')
      if (!this.names.hasRoomForStatement(text.length))
        return refuse('53400', `a connection keeps ${mostKept.statements} prepared statements at most`)
      return { kind: 'free', statement, text, most: mostOf(resource, { uses: [] }) }
    }
    if (command === 'execute') {
      const found = made.has(name) ? made.get(name) : this.names.statements.get(name)
      const inner = found?.statement
      if (found === undefined || inner === undefined)
        return refuse('26000', 'a prepared statement of this name does not exist')
      const run = { ...inner, uses: [...inner.uses, ...statement.uses] }
      if (!['select', 'insert', 'update', 'delete'].includes(inner.command))
        return refuse('0A000', 'EXECUTE runs SELECT, INSERT, UPDATE and DELETE here')
      return stepOf(session, resource, this.may, run, `${found.text}; ${text}`, parameters)
    }
    if (command === 'fetch' && this.names.portals.get(name)?.prepared !== undefined)
      return refuse('34000', 'a cursor of this name does not exist')
    if (command === 'declare' && this.names.portals.has(name))
      return refuse('42P03', 'a cursor of this name is there already')
    return stepOf(session, resource, this.may, statement, text, parameters)
  }

  refusedOf(text: string, refused: Refused, parameters: readonly Json[] = []): Extract<Step, { kind: 'refused' }> {
    const { session, live } = this.ports
    const more = { seen: this.seen(), ...(parameters.length === 0 ? {} : { parameters }) }
    return refusedStep(session, live.resource, text, refused, more)
  }
}

/** Whether a statement needs no decision. */
export const isFree = ({ uses, command }: Statement): boolean => uses.length === 0 && !naming.has(command)

/** One statement of a text: what stands beside it is not what it does. */
const partOf = (text: string, { from: start, to }: Statement): string =>
  Buffer.from(text).subarray(start, to).toString().trim()
