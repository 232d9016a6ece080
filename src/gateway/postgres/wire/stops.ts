import { Failure } from '../../../core/failure.ts'
import type { Backend } from '../connect.ts'
import type { Complaint } from './frames.ts'
import type { Pipeline } from './pipeline.ts'
import type { Life } from './ports.ts'
import type { Running } from './running.ts'

/** Milliseconds that a statement, or a client, has to end after it was told to. */
export const grace = 2_000

/** Stops statements that are under way. */
export class Stops {
  /** Until the server is known to have been told. */
  cancelling: Promise<void> | undefined
  private readonly backend: Backend
  private readonly pipeline: Pick<Pipeline, 'current'>
  private readonly life: Pick<Life, 'isEnded' | 'end'>

  constructor(backend: Backend, pipeline: Pick<Pipeline, 'current'>, life: Pick<Life, 'isEnded' | 'end'>) {
    this.backend = backend
    this.pipeline = pipeline
    this.life = life
  }

  /** Stops what the server does now. Nothing new is sent before it is known to have been told: it could be hit instead. */
  stopServer(): void {
    if (this.cancelling !== undefined) return
    const cancelling = this.backend
      .cancel()
      .catch(() => {})
      .then(() => {
        this.cancelling = undefined
      })
    this.cancelling = cancelling
  }

  /** Lets nothing more of a result out. */
  cutOff(running: Running, complaint: Complaint): void {
    if (running.cut !== undefined) return
    running.cut = complaint
    this.stopServer()
    setTimeout(() => {
      if (this.pipeline.current === running && !running.isOver)
        this.life.end(
          { sqlstate: '57P01', message: 'a statement did not stop when it was told to' },
          'a statement did not stop',
        )
    }, grace).unref()
  }

  /** What the guard allowed must not go on. */
  mustStop(running: Running, because: unknown): void {
    if (running.isOver || this.life.isEnded) return
    const { message: text } = Failure.from(because)
    this.cutOff(running, { sqlstate: '57014', message: text })
  }
}
