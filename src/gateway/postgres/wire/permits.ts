import type { Action } from '../../../core/action.ts'
import { Failure } from '../../../core/failure.ts'
import type { Hold } from '../../../guard/guard.ts'
import type { Statement } from '../../../postgres/verdict.ts'
import type { Answers } from './answers.ts'
import type { Arrivals } from './arrivals.ts'
import { complaintOfFailure, complaintOfRefusal } from './complaints.ts'
import { noticeMessage } from './frames.ts'
import type { Complaint } from './frames.ts'
import type { Names } from './names.ts'
import { status } from './pipeline.ts'
import type { Pipeline } from './pipeline.ts'
import type { RelayPorts, Sums } from './ports.ts'
import { begin, Running } from './running.ts'
import { mostOf } from './step.ts'
import type { Act, Step } from './step.ts'
import type { Stops } from './stops.ts'

interface PermitsParts {
  readonly ports: RelayPorts
  readonly sums: Sums
  readonly names: Names
  readonly pipeline: Pipeline
  readonly arrivals: Arrivals
  readonly answers: Answers
  readonly stops: Stops
}

/** Takes statements through the guard, and writes down those that are refused. */
export class Permits {
  private readonly ports: RelayPorts
  private readonly sums: Sums
  private readonly names: Names
  private readonly pipeline: Pipeline
  private readonly arrivals: Arrivals
  private readonly answers: Answers
  private readonly stops: Stops
  private caller = new AbortController()

  constructor({ ports, sums, names, pipeline, arrivals, answers, stops }: PermitsParts) {
    this.ports = ports
    this.sums = sums
    this.names = names
    this.pipeline = pipeline
    this.arrivals = arrivals
    this.answers = answers
    this.stops = stops
  }

  /** Gives up what waits for people. What comes next may wait again. */
  cancel(): void {
    const before = this.caller
    this.caller = new AbortController()
    before.abort(canceled)
  }

  /** Nobody waits for anything any more. */
  end(): void {
    this.caller.abort(new Failure('cancelled', 'the connection is over'))
  }

  /** A statement that needs no permission, and does nothing to names. */
  free(statement?: Statement): Running {
    this.sums.statements += 1
    this.sums.free += 1
    return new Running(mostOf(this.ports.live.resource, statement ?? { uses: [] }), false)
  }

  /** A statement that needs no permission. A cursor was allowed when it was declared. */
  freeOf({ statement, text, most }: Extract<Step, { kind: 'free' }>): Running {
    this.sums.statements += 1
    this.sums.free += 1
    if (statement.command === 'fetch') {
      const cursor = this.names.portals.get(statement.name ?? '')?.running
      if (cursor !== undefined && !cursor.isOver) return cursor
    }
    const running = new Running(most, false)
    this.names.named(statement, text, running)
    return running
  }

  /**
   * Takes one statement through the guard. Where people would have to be asked while a transaction is open, it is refused:
   * its locks would be held for as long as they think.
   */
  async permit(step: Act, isAlone: boolean): Promise<Running | Complaint> {
    const { guard, hold, session, live } = this.ports
    let most = isAlone ? hold : 0
    if (!isAlone || this.pipeline.isOpen() || this.pipeline.status !== status.idle || this.pipeline.executed > 0) {
      most = 0
      if (guard.explain(step.action).kind === 'ask') {
        await this.pipeline.drain()
        if (!isAlone || this.pipeline.status !== status.idle || this.pipeline.executed > 0)
          return this.refused(step.action, 'sql:25001', {
            sqlstate: '42501',
            message: 'people have to be asked about this, which is not done while a transaction is open',
            hint: 'End the transaction, and run this statement alone in autocommit.',
          })
        most = hold
      }
    }
    const { caller } = this
    const wait: Hold = {
      most,
      waiting: (approval) => {
        this.arrivals.isHolding = true
        this.pipeline.send()
        this.arrivals.bound()
        this.answers.tell([
          noticeMessage(
            `waiting for approval ${approval.id}: ${this.ports.mask.text(approval.because)}`,
            'The statement goes on, or is refused, once people have answered.',
          ),
        ])
        return () => (this.arrivals.isHolding = false)
      },
      ...(step.isWrite
        ? {
            evidence: (cut) =>
              live.impact(
                session,
                {
                  statement: step.statement,
                  text: step.text,
                  parameters: step.parameters,
                  ...(step.touched === undefined ? {} : { touched: step.touched }),
                },
                cut,
              ),
          }
        : {}),
    }
    const { secrets } = live.resource
    const given = { most: step.most, isWrite: step.isWrite, secrets }
    const begun = await begin(guard, step.action, given, wait, caller.signal, (running, because) =>
      this.stops.mustStop(running, because),
    )
    this.sums.statements += 1
    if (begun instanceof Running) return begun
    this.sums.refused += 1
    return 'refusal' in begun ? complaintOfRefusal(begun.refusal) : complaintOfFailure(begun.failure)
  }

  /** Writes down a refusal. */
  async refused(action: Action, rule: string, complaint: Complaint): Promise<Complaint> {
    const step = { ...action, refused: { rule, because: complaint.message } }
    await this.record(step)
    return complaint
  }

  async refuse(isQuery: boolean, { action, complaint }: Extract<Step, { kind: 'refused' }>): Promise<void> {
    await this.record(action)
    this.pipeline.poison(isQuery, complaint)
  }

  private async record(action: Action): Promise<void> {
    this.sums.statements += 1
    this.sums.refused += 1
    const perform = (): Promise<never> => Promise.reject(new Failure('forbidden', 'it was refused'))
    await this.ports.guard.run(action, perform, { most: 0 }, this.caller.signal)
  }
}

const canceled = new Failure('cancelled', 'canceling statement due to user request')
