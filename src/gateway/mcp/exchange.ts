import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { Failure } from '../../core/failure.ts'
import type { JsonObject } from '../../core/json.ts'
import type { Reply } from './reply.ts'
import { isObject, rpc, RpcError } from './wire.ts'
import type { Question } from './wire.ts'

export type Questions = Readonly<Record<string, Question>>
export type Responses = Readonly<Record<string, JsonObject>>

/**
 * One request of a client from its beginning to its answer, which may take several rounds: a modern client is asked in
 * an answer, and sends the request again with what it was asked for.
 */
export interface Exchange {
  /** Where to speak now. */
  readonly reply: () => Reply
  /** Aborts when the client left, or did not come back in time. */
  readonly signal: AbortSignal
  /** Asks the client, and waits for its answers. Fails with `cancelled`. */
  ask(questions: Questions): Promise<Responses>
}

/** The exchanges with modern clients that wait for an answer. In memory: after a restart a client begins anew. */
export interface Exchanges {
  begin(of: () => Belonging, reply: Reply): Exchange
  /** Goes on with an exchange. Fails with an `RpcError` for a state that is not its own, was used, or is too old. */
  resume(of: Belonging, state: string, responses: Responses, reply: Reply): void
  /** Ends all of a session. */
  forget(session: string): void
}

/** What a state is bound to. */
export interface Belonging {
  readonly session: string
  readonly method: string
  /** SHA-256 over what the request asks for. */
  readonly digest: string
}

/** How long a question stands. A person may have to answer it. */
const answerWithin = 10 * 60_000
const mostWaiting = { session: 16, all: 2_000 } as const
const mostResponses = 32

interface Waiting {
  readonly of: Belonging
  readonly goOn: (responses: Responses, reply: Reply) => void
  readonly giveUp: (because: string) => void
  readonly timer: NodeJS.Timeout
}

export function createExchanges(): Exchanges {
  // Known to this process alone. A state that another wrote is refused.
  const key = randomBytes(32)
  const waiting = new Map<string, Waiting>()

  const seal = (id: string, { session, method, digest }: Belonging): string =>
    createHmac('sha256', key)
      .update(JSON.stringify([id, session, method, digest]))
      .digest('base64url')

  function begin(belonging: () => Belonging, first: Reply): Exchange {
    const over = new AbortController()
    let reply = first
    const leave = (): void => over.abort(new Failure('cancelled', 'the client left'))
    first.left.addEventListener('abort', leave, { once: true })

    function ask(questions: Questions): Promise<Responses> {
      const of = belonging()
      const ofSession = [...waiting.values()].filter((each) => each.of.session === of.session)
      if (ofSession.length >= mostWaiting.session || waiting.size >= mostWaiting.all)
        return Promise.reject(new Failure('limited', 'too many questions wait for an answer'))
      const id = randomBytes(18).toString('base64url')
      return new Promise((resolve, reject) => {
        const stop = (): void => {
          clearTimeout(each.timer)
          waiting.delete(id)
        }
        const each: Waiting = {
          of,
          goOn(responses, next) {
            stop()
            reply = next
            next.left.addEventListener('abort', leave, { once: true })
            resolve(responses)
          },
          giveUp(because) {
            stop()
            const failure = new Failure('cancelled', because)
            over.abort(failure)
            reject(failure)
          },
          timer: setTimeout(() => each.giveUp('the client did not answer in time'), answerWithin),
        }
        each.timer.unref()
        waiting.set(id, each)
        // It is the end of this round alone: the client is not gone when this answer closes.
        reply.left.removeEventListener('abort', leave)
        if (!reply.isOpen) return each.giveUp('the client left')
        reply.answer({
          resultType: 'input_required',
          inputRequests: questions as unknown as JsonObject,
          requestState: `${id}.${seal(id, of)}`,
        })
      })
    }

    return { reply: () => reply, signal: over.signal, ask }
  }

  function resume(of: Belonging, state: string, responses: Responses, reply: Reply): void {
    const [id = '', given = '', ...more] = state.split('.')
    const [sealed, wanted] = [Buffer.from(given), Buffer.from(seal(id, of))]
    const isOurs = more.length === 0 && sealed.length === wanted.length && timingSafeEqual(sealed, wanted)
    const known = isOurs ? waiting.get(id) : undefined
    if (known === undefined)
      throw new RpcError(
        rpc.params,
        'this requestState is not valid here, was used, or is too old: send the request anew, without it',
      )
    known.goOn(responses, reply)
  }

  return {
    begin,
    resume,
    forget(session) {
      for (const each of waiting.values()) if (each.of.session === session) each.giveUp('the session is over')
    },
  }
}

/** Reads `inputResponses`. Fails with an `RpcError` for what are none. */
export function responsesOf(given: unknown): Responses | undefined {
  if (given === undefined) return undefined
  if (!isObject(given) || Object.keys(given).length > mostResponses || !Object.values(given).every(isObject))
    throw new RpcError(
      rpc.params,
      `\`inputResponses\` has to be an object of at most ${mostResponses} answers, each an object`,
    )
  return given as Responses
}
