import { declaredType, declaring } from '../../../postgres/parameter-types.ts'
import type { Statement, Verdict } from '../../../postgres/verdict.ts'
import type { Acts } from './acts.ts'
import type { Arrivals } from './arrivals.ts'
import {
  from,
  int16,
  int32,
  message,
  ProtocolViolation,
  queryMessage,
  readBind,
  readExecute,
  readNamed,
  readParse,
  readQuery,
  syncMessage,
} from './frames.ts'
import type { Complaint } from './frames.ts'
import { mostKept, naming } from './names.ts'
import type { Names, Portal, Prepared } from './names.ts'
import type { Permits } from './permits.ts'
import type { Pipeline } from './pipeline.ts'
import type { Life, RelayPorts } from './ports.ts'
import { missing, stepOf } from './step.ts'
import type { Stops } from './stops.ts'
import { isFree } from './texts.ts'
import type { Texts } from './texts.ts'
import { parametersOf } from './values.ts'

/** Messages on their way whose answer has not come. */
const mostExpected = 4_000

interface AgentSideParts {
  readonly ports: Pick<RelayPorts, 'session' | 'live'>
  readonly life: Life
  readonly names: Names
  readonly pipeline: Pipeline
  readonly arrivals: Arrivals
  readonly stops: Stops
  readonly texts: Texts
  readonly permits: Permits
  readonly acts: Acts
}

/** Messages of the client, one after the other: none is sent on before it is decided. */
export class AgentSide {
  /** Whether a message is dealt with that others wait for. */
  isBusy = false
  lastActive = performance.now()
  private readonly ports: Pick<RelayPorts, 'session' | 'live'>
  private readonly life: Life
  private readonly names: Names
  private readonly pipeline: Pipeline
  private readonly arrivals: Arrivals
  private readonly stops: Stops
  private readonly texts: Texts
  private readonly permits: Permits
  private readonly acts: Acts

  constructor({ ports, life, names, pipeline, arrivals, stops, texts, permits, acts }: AgentSideParts) {
    this.ports = ports
    this.life = life
    this.names = names
    this.pipeline = pipeline
    this.arrivals = arrivals
    this.stops = stops
    this.texts = texts
    this.permits = permits
    this.acts = acts
  }

  /** Deals with what was sent, as far as that can be done without waiting. */
  pump(): void {
    while (!this.isBusy && !this.life.isEnded) {
      const { cancelling } = this.stops
      if (cancelling !== undefined) return this.later(cancelling)
      if (this.pipeline.expected() >= mostExpected) return this.later(this.pipeline.drain())
      if (!this.arrivals.next()) break
      this.lastActive = performance.now()
      const work = this.take()
      if (work !== undefined) return this.later(work)
    }
    this.pipeline.send()
    this.arrivals.readOn()
  }

  private later(work: Promise<void>): void {
    this.isBusy = true
    work.then(
      () => {
        this.isBusy = false
        this.life.guarded(() => this.pump())
      },
      (thrown: unknown) => {
        if (!this.life.isEnded) this.life.failed(thrown)
      },
    )
  }

  /** Deals with one message. What it returns is waited for before the next. */
  private take(): Promise<void> | undefined {
    const { buffer, type, start, end } = this.arrivals.frames
    switch (type) {
      case from.sync:
        if (end - start !== 5) throw new ProtocolViolation('invalid message format')
        this.pipeline.sync(syncMessage)
        return undefined
      case from.terminate:
        return this.terminate()
      case from.copyData:
      case from.copyDone:
      case from.copyFail:
        // What comes outside of a COPY is passed over, and there is none here (54.2.6).
        return undefined
      case from.flush:
        if (this.pipeline.isUnflushed && !this.pipeline.isIgnoring) this.pipeline.flush()
        return undefined
    }
    if (!isKnownType(type)) throw new ProtocolViolation(`invalid frontend message type ${type}`)
    if (this.pipeline.isIgnoring) return undefined
    try {
      return this.ask(buffer, type, start, end)
    } catch (thrown) {
      if (!(thrown instanceof ProtocolViolation)) throw thrown
      this.pipeline.poison(type === from.query, { sqlstate: thrown.sqlstate, message: thrown.message })
      return undefined
    }
  }

  private ask(buffer: Buffer, type: number, start: number, end: number): Promise<void> | undefined {
    switch (type) {
      case from.query:
        return this.onQuery(buffer, start, end)
      case from.parse:
        return this.onParse(buffer, start, end)
      case from.bind:
        return this.onBind(buffer, start, end)
      case from.execute:
        return this.onExecute(buffer, start, end)
      case from.describe:
        return this.onDescribe(buffer, start, end)
      case from.close:
        return this.onClose(buffer, start, end)
      default:
        return this.onFunctionCall()
    }
  }

  /** What was sent before still happens. */
  private async terminate(): Promise<void> {
    this.pipeline.flush()
    const late = setTimeout(() => this.life.end(undefined, 'the client left'), 5_000)
    await this.pipeline.drain()
    clearTimeout(late)
    this.life.end(undefined, 'the client left')
  }

  // Simple queries

  private onQuery(buffer: Buffer, start: number, end: number): Promise<void> | undefined {
    const text = readQuery(buffer, start, end)
    const frame = buffer.subarray(start, end)
    const verdict = this.texts.known(text)
    if (verdict === undefined) return this.texts.checked(text).then((found) => this.query(text, frame, found))
    // What needs no decision needs no waiting either.
    if (verdict.kind === 'understood') {
      const [statement, ...more] = verdict.statements
      if (more.length === 0 && (statement === undefined || isFree(statement))) {
        const runs = statement === undefined ? [] : [this.permits.free(statement)]
        this.pipeline.pushQuery(
          verdict.text === undefined ? frame : queryMessage(verdict.text),
          runs,
          verdict.text !== undefined,
        )
        return undefined
      }
    }
    return this.query(text, frame, verdict)
  }

  private async query(text: string, frame: Buffer, verdict: Verdict): Promise<void> {
    if (verdict.kind === 'refused') return this.permits.refuse(true, this.texts.refusedOf(text, verdict))
    const { statements } = verdict
    if (statements.some(({ command }) => naming.has(command))) await this.pipeline.drain()
    const steps = this.texts.stepsOf(statements, text)
    const refused = steps.find((step) => step.kind === 'refused')
    if (refused !== undefined) return this.permits.refuse(true, refused)
    const turned = verdict.text === undefined ? frame : queryMessage(verdict.text)
    const isTurned = verdict.text !== undefined
    const [only] = steps
    if (steps.length === 1 && only?.kind === 'act') return this.acts.query(turned, isTurned, only)

    const acts = steps.filter((step) => step.kind === 'act')
    const denied = await this.acts.permitAll(acts)
    if (!(denied instanceof Map)) return this.pipeline.poison(true, denied)
    const runs = steps.map((step) =>
      step.kind === 'act'
        ? (denied.get(step) ?? this.permits.free())
        : step.kind === 'free'
          ? this.permits.freeOf(step)
          : this.permits.free(),
    )
    await this.pipeline.answered((over) => this.pipeline.pushQuery(turned, runs, isTurned, { over }))
  }

  private onFunctionCall(): Promise<void> {
    const complaint = { sqlstate: '0A000', message: 'functions are called in statements here, not on their own' }
    const { sqlstate, message: because } = complaint
    return this.permits.refuse(true, this.texts.refusedOf('', { kind: 'refused', sqlstate, because }))
  }

  // Prepared statements

  private onParse(buffer: Buffer, start: number, end: number): Promise<void> | undefined {
    const parsed = readParse(buffer, start, end)
    const frame = buffer.subarray(start, end)
    const verdict = this.texts.known(parsed.text)
    if (verdict !== undefined && !this.names.isTaken(parsed.name)) return this.parse(parsed, frame, verdict)
    return this.parseLater(parsed, frame, verdict)
  }

  private async parseLater(
    parsed: ReturnType<typeof readParse>,
    frame: Buffer,
    known: Verdict | undefined,
  ): Promise<void> {
    const verdict = known ?? (await this.texts.checked(parsed.text))
    const before = this.names.statements.get(parsed.name)
    if (parsed.name !== '' && before !== undefined && (!before.isConfirmed || before.isClosing))
      await this.pipeline.drain()
    if (this.names.isTaken(parsed.name))
      return this.pipeline.poison(false, {
        sqlstate: '42P05',
        message: 'a prepared statement of this name is there already',
      })
    await this.parse(parsed, frame, verdict)
  }

  private parse(
    { name, text, types }: ReturnType<typeof readParse>,
    frame: Buffer,
    verdict: Verdict,
  ): Promise<void> | undefined {
    const { session, live } = this.ports
    const { resource } = live
    if (verdict.kind === 'refused') return this.permits.refuse(false, this.texts.refusedOf(text, verdict))
    const [only, ...more] = verdict.statements
    if (more.length > 0)
      return this.refuseHere(false, {
        sqlstate: '42601',
        message: 'cannot insert multiple commands into a prepared statement',
      })
    // All of them are written down with each run. A parameter is two characters at least.
    if (types.length > text.length / 2)
      return this.refuseHere(false, {
        sqlstate: '54000',
        message: 'more types are declared than there can be parameters',
      })
    const declared = types.map(declaredType)
    const statement = only && declaring(only, declared)
    // Describing would tell what the columns of a table are that is not there for this session.
    if (statement !== undefined && missing(resource, this.texts.may, statement.uses)?.sqlstate === '42P01') {
      const step = stepOf(session, resource, this.texts.may, statement, text, [])
      if (step.kind === 'refused') return this.permits.refuse(false, step)
    }
    const size = text.length + types.length * 16 + 200
    if (name !== '' && !this.names.hasRoomForStatement(size))
      return this.refuseHere(false, {
        sqlstate: '53400',
        message: `a connection keeps ${mostKept.statements} prepared statements at most: close some first`,
      })
    const isTurned = verdict.text !== undefined
    const prepared: Prepared = {
      name,
      text,
      statement,
      isTurned,
      types,
      segment: this.names.segment,
      size,
      isConfirmed: false,
      isClosing: false,
    }
    this.names.forgetStatement(this.names.statements.get(name))
    const isSame = verdict.text === undefined && declared.every((type, at) => type === types[at])
    const sent = isSame
      ? frame
      : message(from.parse, name, verdict.text ?? text, int16(types.length), ...declared.map(int32))
    this.names.keepStatement(prepared)
    this.pipeline.push('parse', sent, { prepared, isTurned })
    return undefined
  }

  private onBind(buffer: Buffer, start: number, end: number): Promise<void> | undefined {
    const bound = readBind(buffer, start, end)
    const prepared = this.names.statements.get(bound.statement)
    const frame = buffer.subarray(start, end)
    const isSure =
      (prepared === undefined || this.names.isSure(prepared)) &&
      (bound.portal === '' || !this.names.portals.has(bound.portal))
    if (!isSure) return this.pipeline.drain().then(() => this.bind(bound, frame))
    this.bind(bound, frame)
    return undefined
  }

  private bind(bound: ReturnType<typeof readBind>, frame: Buffer): void {
    const prepared = this.names.statements.get(bound.statement)
    if (prepared === undefined)
      return this.pipeline.poison(false, {
        sqlstate: '26000',
        message:
          bound.statement === ''
            ? 'unnamed prepared statement does not exist'
            : 'a prepared statement of this name does not exist',
      })
    if (bound.portal !== '' && this.names.portals.has(bound.portal))
      return this.pipeline.poison(false, { sqlstate: '42P03', message: 'a cursor of this name is there already' })
    const isWrite = prepared.statement?.uses.some(({ verb }) => verb !== 'select') === true
    const size = frame.length + 200
    if (bound.portal !== '' && !this.names.hasRoomForPortal(size))
      return this.pipeline.poison(false, {
        sqlstate: '53400',
        message: `a connection keeps ${mostKept.portals} portals at most: close some first`,
      })
    const portal: Portal = {
      name: bound.portal,
      prepared,
      parameters: parametersOf(bound, prepared.types),
      bind: isWrite ? Buffer.from(frame) : undefined,
      segment: this.names.segment,
      number: this.names.numbered,
      size,
      isConfirmed: false,
      isClosing: false,
      inFlight: 0,
      running: undefined,
    }
    this.names.forgetPortal(this.names.portals.get(bound.portal), { tag: 'replaced' })
    this.names.keepPortal(portal)
    this.pipeline.push('bind', frame, { portal })
  }

  private onDescribe(buffer: Buffer, start: number, end: number): undefined {
    const { isStatement, name } = readNamed(buffer, start, end)
    const prepared = isStatement ? this.names.statements.get(name) : undefined
    this.pipeline.push('describe', buffer.subarray(start, end), prepared === undefined ? {} : { prepared })
    return undefined
  }

  private onClose(buffer: Buffer, start: number, end: number): undefined {
    const { isStatement, name } = readNamed(buffer, start, end)
    const prepared = isStatement ? this.names.statements.get(name) : undefined
    const portal = isStatement ? undefined : this.names.portals.get(name)
    if (prepared !== undefined) prepared.isClosing = true
    if (portal !== undefined) portal.isClosing = true
    this.pipeline.push('close', buffer.subarray(start, end), {
      ...(prepared === undefined ? {} : { prepared }),
      ...(portal === undefined ? {} : { portal }),
    })
    return undefined
  }

  private onExecute(buffer: Buffer, start: number, end: number): Promise<void> | undefined {
    const { portal: name } = readExecute(buffer, start, end)
    const frame = buffer.subarray(start, end)
    const portal = this.names.portals.get(name)
    if (portal !== undefined && (!this.names.isSure(portal) || portal.inFlight > 0))
      return this.pipeline.drain().then(() => this.execute(this.names.portals.get(name), frame))
    return this.execute(portal, frame)
  }

  private execute(portal: Portal | undefined, frame: Buffer): Promise<void> | undefined {
    const prepared = portal?.prepared
    if (portal === undefined || prepared === undefined)
      return this.refuseHere(false, { sqlstate: '34000', message: 'a portal of this name does not exist' })
    const { statement } = prepared
    const isTurned = prepared.isTurned
    // It is read on, or there is nothing more to be read: what was allowed once is not run a second time.
    if (portal.running !== undefined || statement === undefined) {
      const running = portal.running?.isOver === false ? portal.running : this.permits.free()
      this.pipeline.pushExecute(frame, portal, running, isTurned)
      return undefined
    }
    if (isFree(statement)) {
      const running = this.permits.free(statement)
      portal.running = running
      this.pipeline.pushExecute(frame, portal, running, isTurned)
      return undefined
    }
    return this.executeOne(portal, prepared, statement, frame)
  }

  private async executeOne(portal: Portal, prepared: Prepared, statement: Statement, frame: Buffer): Promise<void> {
    if (naming.has(statement.command)) await this.pipeline.drain()
    if (this.pipeline.isIgnoring) return
    const [step] = this.texts.stepsOf([statement], prepared.text, portal.parameters)
    if (step === undefined) return
    if (step.kind === 'refused') return this.permits.refuse(false, step)
    const { isTurned } = prepared
    if (step.kind === 'free') {
      const running = this.permits.freeOf(step)
      portal.running = running
      await this.pipeline.answered(
        (over) => this.pipeline.pushExecute(frame, portal, running, isTurned, { over }),
        true,
      )
      return
    }
    return this.acts.execute(frame, portal, prepared, statement, step)
  }

  private refuseHere(isQuery: boolean, complaint: Complaint): undefined {
    this.pipeline.poison(isQuery, complaint)
    return undefined
  }
}

const known: ReadonlySet<number> = new Set([
  from.query,
  from.parse,
  from.bind,
  from.describe,
  from.execute,
  from.close,
  from.functionCall,
])
const isKnownType = (type: number): boolean => known.has(type)
