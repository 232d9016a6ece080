import { Failure } from '../../../core/failure.ts'
import { requiredSettings } from '../connect.ts'
import type { Answers } from './answers.ts'
import { skippedOver, tooLarge } from './complaints.ts'
import {
  back,
  errorMessage,
  Frames,
  parseMessage,
  ProtocolViolation,
  queryMessage,
  readFields,
  readParameterDescription,
  readParameterStatus,
  readyMessage,
} from './frames.ts'
import type { Complaint } from './frames.ts'
import type { Names } from './names.ts'
import { noText, reopened, status } from './pipeline.ts'
import type { Entry, Pipeline } from './pipeline.ts'
import type { Life, RelayPorts, Sums } from './ports.ts'
import type { Stops } from './stops.ts'

/** Bytes of a message of the server beside rows. */
const mostSaidByServer = 1_000_000

interface ServerSideParts {
  readonly ports: Pick<RelayPorts, 'client' | 'live'>
  readonly life: Life
  readonly sums: Sums
  readonly names: Names
  readonly pipeline: Pipeline
  readonly answers: Answers
  readonly stops: Stops
}

/** Messages of the server: what each of them answers, and whether it goes on to the client. */
export class ServerSide {
  private readonly ports: Pick<RelayPorts, 'client' | 'live'>
  private readonly life: Life
  private readonly sums: Sums
  private readonly names: Names
  private readonly pipeline: Pipeline
  private readonly answers: Answers
  private readonly stops: Stops
  private readonly frames: Frames
  /** Whether the message that was just read is the last of an answer. */
  private next = false

  constructor({ ports, life, sums, names, pipeline, answers, stops }: ServerSideParts) {
    this.ports = ports
    this.life = life
    this.sums = sums
    this.names = names
    this.pipeline = pipeline
    this.answers = answers
    this.stops = stops
    const { most } = ports.live.resource.database
    this.frames = new Frames((type) => (type === back.dataRow ? most.bytes + 10_000 : mostSaidByServer))
  }

  /** Reads what came, and passes on what may go on. */
  read(chunk: Buffer): void {
    const { frames } = this
    frames.push(chunk)
    const whole = frames.buffer
    let from = -1
    let to = -1
    let hasRows = false
    const pass = (): void => {
      if (from >= 0) this.answers.pass(whole.subarray(from, to), hasRows)
      from = -1
      hasRows = false
    }
    const { client } = this.ports
    client.cork()
    while (!this.life.isEnded && frames.next()) {
      const { buffer, type, start, end } = frames
      if (type === back.dataRow) {
        const running = this.pipeline.current
        if (running === undefined) throw unexpected()
        if (running.cut === undefined) {
          running.rows += 1
          running.bytes += end - start - 5
          this.sums.rows += 1
          this.sums.bytes += end - start - 5
          const { most } = running
          if (running.rows > most.rows || running.bytes > most.bytes) {
            pass()
            this.stops.cutOff(running, tooLarge(most, running))
          } else {
            if (from < 0) from = start
            to = end
            hasRows = true
          }
        }
        continue
      }
      const mayPass = this.hears(type, buffer, start, end, pass)
      if (mayPass) {
        if (from < 0) from = start
        to = end
      }
      if (this.next) {
        this.next = false
        // What is held of one statement is not mixed with what goes out of another.
        if (this.pipeline.isHeld()) pass()
        this.pipeline.shift()
      }
    }
    pass()
    client.uncork()
    this.pipeline.current?.report()
    if (this.pipeline.isSettled()) this.pipeline.wake()
  }

  /** Takes note of a message of the server. Returns whether it goes on to the client as it is. */
  private hears(type: number, buffer: Buffer, start: number, end: number, pass: () => void): boolean {
    const entry = this.pipeline.head
    const isOut = entry !== undefined && !entry.isOwn && !entry.isFaked
    switch (type) {
      case back.parseComplete:
        if (entry?.kind !== 'parse') break
        if (entry.prepared !== undefined) entry.prepared.isConfirmed = true
        this.next = true
        return isOut
      case back.bindComplete:
        if (entry?.kind !== 'bind') break
        if (entry.portal !== undefined) entry.portal.isConfirmed = true
        this.next = true
        return isOut
      case back.closeComplete:
        if (entry?.kind !== 'close') break
        this.names.forgetStatement(entry.prepared)
        this.names.forgetPortal(entry.portal, { tag: 'closed' })
        this.next = true
        return isOut
      case back.parameterDescription:
        if (entry?.kind !== 'describe') break
        if (entry.prepared !== undefined) entry.prepared.types = readParameterDescription(buffer, start, end)
        return isOut
      case back.rowDescription:
      case back.noData:
        if (entry?.kind === 'describe') this.next = true
        else if (entry?.kind !== 'query') break
        return isOut && this.pipeline.current?.cut === undefined
      case back.commandComplete:
      case back.emptyQuery:
      case back.portalSuspended:
        return this.completes(type, buffer, start, end, pass)
      case back.error:
        pass()
        this.fails(readFields(buffer, start, end))
        return false
      case back.readyForQuery:
        if (entry?.kind !== 'query' && entry?.kind !== 'sync') break
        return this.isReady(entry, buffer[start + 5] as number)
      case back.notice: {
        const fields = readFields(buffer, start, end)
        pass()
        if (entry?.isOwn !== true)
          this.answers.tell([this.answers.ownWords(back.notice, fields, entry?.isTurned ?? false)])
        return false
      }
      case back.notification:
        return false
      case back.parameterStatus: {
        const [name, value] = readParameterStatus(buffer, start, end)
        const expected = Object.hasOwn(requiredSettings, name) ? requiredSettings[name] : undefined
        if (expected !== undefined && value !== expected)
          throw new ProtocolViolation(`the setting ${name} must not be changed`, '22023')
        return name !== 'session_authorization'
      }
    }
    throw unexpected()
  }

  private completes(type: number, buffer: Buffer, start: number, end: number, pass: () => void): boolean {
    const entry = this.pipeline.head
    if (entry === undefined || (entry.kind !== 'query' && entry.kind !== 'execute')) throw unexpected()
    const running = entry.runs[entry.at]
    const tag = type === back.commandComplete ? buffer.toString('latin1', start + 5, Math.min(end - 1, start + 69)) : ''
    if (type === back.commandComplete) entry.count = countIn(tag)
    entry.isSuspended = type === back.portalSuspended
    if (entry.isOwn && running !== undefined) {
      // Not of what the client got.
      this.sums.rows -= running.rows
      this.sums.bytes -= running.bytes
    }
    const cut = running?.cut
    if (running !== undefined && type !== back.portalSuspended) {
      const { effect } = running
      running.effect = undefined
      // Also where its result did not go out: it happened.
      effect?.(running)
      if (cut !== undefined) running.end({ error: cut })
      else if (!running.isKept) running.end({ tag })
    }
    // It can't be read on.
    if (entry.isSuspended && entry.portal !== undefined && this.names.portals.get(entry.portal.name) !== entry.portal)
      running?.end({ tag: 'replaced' })
    if (entry.kind === 'execute') this.next = true
    else {
      entry.at += 1
      this.pipeline.turn()
    }
    if (cut === undefined) return !entry.isOwn && !entry.isFaked
    pass()
    this.fake(entry, cut)
    return false
  }

  /** The client is told of an error where the server saw none. */
  private fake(entry: Entry, complaint: Complaint): void {
    entry.error ??= complaint
    if (!entry.isFaked) this.answers.tell([errorMessage(complaint)])
    hush(entry, complaint)
    if (entry.kind !== 'execute') return
    // What was sent behind it is not heard of any more. What comes is not sent.
    for (const behind of this.pipeline.behind()) {
      hush(behind, complaint)
      if (behind.kind === 'sync') return
    }
    if (this.pipeline.isIgnoring) return
    const word = noText()
    this.pipeline.push('parse', parseMessage(word, word), { isOwn: true })
    this.pipeline.isIgnoring = true
    this.pipeline.flushAnyway()
  }

  private fails(fields: ReadonlyMap<string, string>): void {
    const entry = this.pipeline.head
    const severity = fields.get('V') ?? fields.get('S') ?? 'ERROR'
    const given = this.answers.complaintOf(fields, entry?.isTurned ?? false)
    if (entry === undefined || severity === 'FATAL' || severity === 'PANIC')
      return this.life.end(given, `the database ended it: ${given.sqlstate}`)
    const running = entry.runs[entry.at]
    const complaint = entry.complaint ?? running?.cut ?? given
    if (running !== undefined) {
      if (entry.portal !== undefined && entry.portal.running === running) entry.portal.running = undefined
      running.end({ error: complaint })
    }
    entry.error ??= complaint
    if (!entry.isOwn && !entry.isFaked) this.answers.tell([errorMessage(complaint)])
    if (entry.kind === 'query') {
      for (const each of entry.runs.slice(entry.at + 1)) each.end({ error: skippedOver })
      entry.at = entry.runs.length
      this.pipeline.turn()
      return
    }
    if (entry.kind === 'sync') return
    this.names.forgetStatement(entry.kind === 'parse' ? entry.prepared : undefined)
    if (entry.kind === 'bind') this.names.forgetPortal(entry.portal, { error: complaint })
    if (entry.kind === 'close') reopened(entry)
    this.pipeline.passOver(entry)
  }

  private isReady(entry: Entry, now: number): boolean {
    this.pipeline.status = now
    // Statements of a text that was not run to its end.
    for (const running of entry.runs.slice(entry.at)) running.end({ error: skippedOver })
    if (now === status.idle) this.names.forgetPortalsBefore(entry.number)
    this.next = true
    if (entry.isFaked && now === status.inTransaction && this.pipeline.expected() === 1 && !entry.isOwn) {
      // The client was told of an error: its transaction has failed.
      const text = noText()
      const over = (): void => this.answers.tell([readyMessage(this.pipeline.status)])
      this.pipeline.push('query', queryMessage(text), { isOwn: true, over })
      this.pipeline.send()
      return false
    }
    return !entry.isOwn && entry.held === undefined
  }
}

/** The server is not where it has to be: nothing that it says can be told apart any more. */
const unexpected = (): Failure =>
  new Failure('internal', 'the server of the database sent what was not expected', { cause: new Error('out of step') })

/** Nothing more of its answers goes out. */
function hush(entry: Entry, complaint: Complaint): void {
  entry.isFaked = true
  for (const running of entry.runs) running.cut ??= complaint
}

/** How many rows a tag counts: `INSERT 0 5`, `UPDATE 5`. */
const countIn = (tag: string): number => Number(/(\d+)$/.exec(tag)?.[1] ?? 0)
