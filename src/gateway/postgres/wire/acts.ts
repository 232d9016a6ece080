import type { Statement } from '../../../postgres/verdict.ts'
import { asksOf, keepsChanges } from '../action.ts'
import type { PostgresResource } from '../resource.ts'
import type { Answers } from './answers.ts'
import { inParts, notRun, skippedOver, tooMany } from './complaints.ts'
import { errorMessage, parseMessage, readyMessage, syncMessage } from './frames.ts'
import type { Complaint } from './frames.ts'
import { naming } from './names.ts'
import type { Names, Portal, Prepared } from './names.ts'
import { numberOfTransaction } from './number.ts'
import type { Permits } from './permits.ts'
import { noText, status } from './pipeline.ts'
import type { Answer, Pipeline } from './pipeline.ts'
import type { RelayPorts } from './ports.ts'
import { Running } from './running.ts'
import type { End } from './running.ts'
import type { Act } from './step.ts'

/** How often people are asked anew about one statement that touches more rows each time. */
const mostAsked = 3

interface ActsParts {
  readonly ports: Pick<RelayPorts, 'guard' | 'live'>
  readonly names: Names
  readonly pipeline: Pipeline
  readonly answers: Answers
  readonly permits: Permits
}

/**
 * Statements that need a permission. Where it is bounded how many rows one may touch, it is run so that it can be undone,
 * and what it touched is counted before anybody learns of its result.
 */
export class Acts {
  private readonly ports: Pick<RelayPorts, 'guard' | 'live'>
  private readonly names: Names
  private readonly pipeline: Pipeline
  private readonly answers: Answers
  private readonly permits: Permits

  constructor({ ports, names, pipeline, answers, permits }: ActsParts) {
    this.ports = ports
    this.names = names
    this.pipeline = pipeline
    this.answers = answers
    this.permits = permits
  }

  /** All of a text, or nothing. */
  async permitAll(acts: readonly Act[]): Promise<Map<Act, Running> | Complaint> {
    const { guard } = this.ports
    for (const act of acts) {
      const { kind } = guard.explain(act.action)
      if (act.bound !== undefined || kind === 'ask')
        return this.permits.refused(act.action, 'sql:0A000', {
          sqlstate: '42501',
          message: 'this text holds a statement that people may have to be asked about',
          hint: 'Send that statement alone.',
        })
      if (kind === 'deny') {
        const running = await this.permits.permit(act, false)
        if (!(running instanceof Running)) return running
        running.end({ error: notRun })
      }
    }
    const permitted = new Map<Act, Running>()
    for (const act of acts) {
      const running = await this.permits.permit(act, false)
      if (!(running instanceof Running)) {
        for (const each of permitted.values()) each.end({ error: notRun })
        return running
      }
      this.names.named(act.statement, act.text, running)
      permitted.set(act, running)
    }
    return permitted
  }

  /** Runs a text that is this statement alone. */
  async query(frame: Buffer, isTurned: boolean, step: Act): Promise<void> {
    let act = step
    for (let asked = 0; ; asked++) {
      const running = await this.permits.permit(act, true)
      if (!(running instanceof Running)) return this.pipeline.poison(true, running)
      this.names.named(step.statement, step.text, running)
      const touched = mostTouchedBy(act, running)
      if (touched === undefined) {
        if (naming.has(step.statement.command))
          await this.pipeline.answered((over) => this.pipeline.pushQuery(frame, [running], isTurned, { over }))
        else this.pipeline.pushQuery(frame, [running], isTurned)
        return
      }
      await this.pipeline.drain()
      if (this.pipeline.isIgnoring) return running.end({ error: skippedOver })
      const count = await this.boundedQuery(frame, isTurned, act, running, touched)
      if (count === undefined) return
      const again = askedAnew(this.ports.live.resource, step, count)
      if (again === undefined || asked >= mostAsked || this.pipeline.status !== status.idle)
        return this.pipeline.poison(true, tooMany(count, touched))
      act = again
    }
  }

  /** Runs a statement so that it can be undone. Returns how many rows it touched, where it was. */
  private async boundedQuery(
    frame: Buffer,
    isTurned: boolean,
    act: Act,
    running: Running,
    most: number,
  ): Promise<number | undefined> {
    const isWrapped = this.pipeline.status === status.idle
    if (isWrapped) {
      const { error } = await this.pipeline.own('begin')
      if (error !== undefined) {
        running.end({ error })
        this.pipeline.poison(true, error)
        return undefined
      }
    }
    running.isKept = true
    const { count, error, held } = await this.pipeline.answered((over) =>
      this.pipeline.pushQuery(frame, [running], isTurned, { held: [], over }),
    )
    let failure = error
    let change: string | undefined
    if (error === undefined && count > most) {
      failure = tooMany(count, most)
      running.end({ error: failure })
      if (isWrapped) {
        await this.pipeline.own('rollback')
        return count
      }
      // In a transaction of the client's own, all of it has failed: what was done can't be told apart any more.
      await this.pipeline.own(noText())
      this.answers.tell([errorMessage(failure)])
    } else if (isWrapped) {
      change = error === undefined ? await this.numberFor(act) : undefined
      const ended = await this.pipeline.own(error === undefined ? 'commit' : 'rollback')
      if (error === undefined && ended.error !== undefined) failure = ended.error
      if (error === undefined && ended.error !== undefined) this.answers.tell([errorMessage(ended.error)])
      else this.answers.tell(held)
    } else this.answers.tell(held)
    running.end(failure === undefined ? endOf(act, count, change) : { error: failure })
    this.answers.tell([readyMessage(this.pipeline.status)])
    return undefined
  }

  /** By which its transaction can be undone, where changes are kept. */
  private async numberFor({ isWrite }: Act): Promise<string | undefined> {
    return isWrite && keepsChanges(this.ports.live.resource) ? numberOfTransaction(this.pipeline) : undefined
  }

  /** Runs a portal. `statement` is what it was prepared with: of an EXECUTE, `step` is about what that runs. */
  async execute(frame: Buffer, portal: Portal, prepared: Prepared, statement: Statement, step: Act): Promise<void> {
    const { isTurned } = prepared
    const isNaming = naming.has(statement.command)
    let act: Act = step
    for (let asked = 0; ; asked++) {
      const running = await this.permits.permit(act, true)
      if (!(running instanceof Running)) return this.pipeline.poison(false, running)
      // What the server had of it went with the transaction that was undone.
      if (asked > 0) this.pipeline.push('bind', portal.bind ?? frame, { isOwn: true })
      this.names.named(statement, prepared.text, running)
      portal.running = running
      const touched = mostTouchedBy(act, running)
      if (touched === undefined) {
        const send = (over?: (answer: Answer) => void): void =>
          this.pipeline.pushExecute(frame, portal, running, isTurned, over === undefined ? {} : { over })
        // What comes behind a change waits for it: where it has to be undone, nothing else has happened since.
        if (act.isWrite || isNaming) await this.pipeline.answered(send, true)
        else send()
        return
      }
      const isFirst = this.pipeline.executed === 0
      await this.pipeline.drain()
      const isAlone = this.pipeline.status === status.idle && isFirst
      const count = await this.boundedExecute(frame, portal, isTurned, act, running, { touched, isAlone })
      if (count === undefined) return
      const again = askedAnew(this.ports.live.resource, step, count)
      if (again === undefined || asked >= mostAsked) return this.pipeline.poison(false, tooMany(count, touched))
      act = again
      portal.running = undefined
    }
  }

  /** Runs a statement, and makes its transaction fail where it touches too much. Returns how much, where it can be run anew. */
  private async boundedExecute(
    frame: Buffer,
    portal: Portal,
    isTurned: boolean,
    act: Act,
    running: Running,
    { touched: most, isAlone }: { readonly touched: number; readonly isAlone: boolean },
  ): Promise<number | undefined> {
    running.isKept = true
    const { count, error, isSkipped, isSuspended, held } = await this.pipeline.answered(
      (over) => this.pipeline.pushExecute(frame, portal, running, isTurned, { held: [], over }),
      true,
    )
    if (isSkipped) return undefined
    if (error !== undefined) {
      running.end({ error })
      this.answers.tell(held)
      return undefined
    }
    // How much it touched is told at the end of its result alone.
    if (isSuspended) {
      running.end({ error: inParts })
      this.pipeline.poison(false, inParts)
      return undefined
    }
    if (count <= most) {
      running.end(endOf(act, count, await this.numberFor(act)))
      this.answers.tell(held)
      return undefined
    }
    const complaint = tooMany(count, most)
    running.end({ error: complaint })
    if (!isAlone) {
      this.pipeline.poison(false, complaint)
      return undefined
    }
    const word = noText()
    await this.pipeline.answered(
      (over) => this.pipeline.push('parse', parseMessage(word, word), { isOwn: true, over }),
      true,
    )
    await this.pipeline.answered((over) => this.pipeline.sync(syncMessage, { isOwn: true, over }))
    return count
  }
}

const endOf = ({ statement }: Act, count: number, change: string | undefined): End => ({
  tag: `${statement.command} ${count}`,
  ...(change === undefined ? {} : { change }),
})

/** How many rows a statement may touch, where that is bounded. */
function mostTouchedBy({ bound, action, isWrite, statement }: Act, { permit }: Running): number | undefined {
  if (!isWrite || statement.changesWithin) return undefined
  const evidence = permit?.evidence
  if (evidence === undefined) return action.asks === undefined ? bound?.rows : undefined
  return typeof evidence['rows'] === 'number' ? evidence['rows'] : undefined
}

/** The same statement, about which people are asked because of how much it touches. */
function askedAnew(resource: PostgresResource, step: Act, touched: number): Act | undefined {
  const use = step.bound?.use ?? step.statement.uses.find(({ verb }) => verb !== 'select')
  if (use === undefined) return undefined
  const asks = asksOf(resource, use, `it touches ${touched} rows`)
  return { ...step, touched, action: { ...step.action, asks } }
}
