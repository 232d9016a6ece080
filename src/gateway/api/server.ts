import type { IncomingMessage, ServerResponse } from 'node:http'
import { z } from 'zod'
import { Failure } from '../../core/failure.ts'
import type { Json, JsonObject } from '../../core/json.ts'
import type { Permission } from '../../core/permission.ts'
import type { Clock } from '../../guard/clock.ts'
import type { Guard } from '../../guard/guard.ts'
import type { Sessions } from '../../guard/sessions.ts'
import { createChecks } from './check.ts'
import type { Mask, Report } from './check.ts'
import { createEvaluations, Malformed } from './evaluation.ts'
import type { Asker, Operation } from './evaluation.ts'
import { offersOf } from './functions.ts'
import type { FunctionOffer, FunctionResource } from './functions.ts'
import { answer, HttpRefusal, jsonObject, readJson, refuse, shaped } from './wire.ts'

// The decision API: for programs that perform what they ask about themselves.

export interface DecisionApiPorts {
  readonly guard: Pick<Guard, 'run' | 'evaluate' | 'visible'>
  readonly sessions: Pick<Sessions, 'get'>
  readonly clock: Clock
  readonly resources: readonly FunctionResource[]
  /** Operations of other gateways: they can be asked about, and are called there. */
  readonly find: (permission: Permission) => Operation | undefined
  /** Replaces secrets in what goes back to the agent. */
  readonly mask: Mask
  /** Milliseconds that a check waits for people: where it doesn't say how long, and at most. */
  readonly hold: { readonly usual: number; readonly most: number }
  /** The address by which agents reach the listener. */
  readonly url: () => string
  /** Told of failures that are nobody's but ours. */
  readonly report?: (thrown: unknown) => void
}

type Handler = (req: IncomingMessage, res: ServerResponse, session: string) => Promise<void>

export interface DecisionApi {
  readonly guarded: Readonly<Record<string, Handler>>
  readonly open: Readonly<Record<string, (req: IncomingMessage, res: ServerResponse) => Promise<void>>>
  find(permission: Permission): FunctionOffer | undefined
  /** Takes over other functions. What is open goes on as it was allowed. Fails with `invalid`, and changes nothing. */
  reload(resources: readonly FunctionResource[]): void
  /** Cuts what is open, and records it. */
  close(): Promise<void>
}

/** The longest that a program may take between check and result. */
const longestTime = 600_000
const shape = { maxDepth: 64, maxKeys: 50_000 }
const askLimits = { ...shape, maxBytes: 1024 * 1024 }
/** What a function returned is read as its own language wrote it. */
const reportLimits = { ...shape, maxBytes: 16 * 1024 * 1024, bigIntegers: 'round' } as const

const checkBody = z.strictObject({
  operation: z.string().regex(/^[^:]{1,200}:[^:]{1,200}$/, 'expected a permission, such as `mail:send_mail`'),
  arguments: jsonObject.optional(),
  wait: z.number().min(0).optional(),
  within: z.number().positive().optional(),
})

const token = z.string().min(1).max(200)
const doneBody = z.strictObject({ token, result: z.custom<Json>((value) => value !== undefined) })
const failedBody = z.strictObject({ token, error: z.string().max(100_000) })

export function createDecisionApi(ports: DecisionApiPorts): DecisionApi {
  const { guard, sessions, hold, mask, clock, url, report = () => {} } = ports
  let offers = offersOf(ports.resources)
  const find = (permission: Permission): FunctionOffer | undefined => offers.get(permission)
  const checks = createChecks({ guard, clock, mask, find })
  const evaluations = createEvaluations({ guard, find: (permission) => find(permission) ?? ports.find(permission) })

  async function check(req: IncomingMessage, res: ServerResponse, session: string): Promise<void> {
    const body = shaped(checkBody, await readJson(req, askLimits))
    const left = new AbortController()
    // A caller that has no answer has no token: what was opened for it is closed.
    res.once('close', () => {
      if (!res.writableFinished) left.abort()
    })
    const said = await checks.check(
      session,
      {
        operation: body.operation,
        args: body.arguments ?? {},
        wait: body.wait === undefined ? hold.usual : Math.min(hold.most, body.wait * 1000),
        ...(body.within === undefined ? {} : { within: Math.min(longestTime, Math.ceil(body.within * 1000)) }),
      },
      left.signal,
    )
    answer(res, 200, said as unknown as Json)
  }

  async function result(req: IncomingMessage, res: ServerResponse, session: string): Promise<void> {
    const body = await readJson(req, reportLimits)
    const told: Report & { readonly token: string } =
      'error' in body ? shaped(failedBody, body) : shaped(doneBody, body)
    answer(res, 200, await checks.report(session, told.token, told))
  }

  /** Errors as AuthZEN has them (§10.1.2): a message, and nothing else. */
  const authzen =
    (evaluate: (asker: Asker, body: JsonObject) => Promise<JsonObject>): Handler =>
    async (req, res, id) => {
      try {
        const body = await readJson(req, askLimits, 400)
        const session = sessions.get(id)
        if (session === undefined) throw new Failure('unauthenticated', 'the session is over')
        const request = req.headers['x-request-id']
        answer(res, 200, await evaluate({ session, ...(typeof request === 'string' ? { request } : {}) }, body))
      } catch (thrown) {
        const refusal =
          thrown instanceof Malformed ? new HttpRefusal(400, 'invalid', thrown.message) : HttpRefusal.from(thrown)
        if (refusal.status >= 500) report(thrown)
        if (res.headersSent || res.destroyed) return
        if (!req.complete) res.setHeader('connection', 'close')
        res.writeHead(refusal.status, { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' })
        res.end(refusal.message)
      }
    }

  const plain =
    (handle: Handler): Handler =>
    async (req, res, session) => {
      try {
        await handle(req, res, session)
      } catch (thrown) {
        const refusal = HttpRefusal.from(thrown)
        if (refusal.status === 500) report(thrown)
        refuse(req, res, refusal)
      }
    }

  const post =
    (handle: Handler): Handler =>
    async (req, res, session) => {
      if (req.method === 'POST') return handle(req, res, session)
      if (!req.complete) res.setHeader('connection', 'close')
      res.writeHead(405, { allow: 'POST' }).end()
    }

  return {
    guarded: {
      '/v1/check': post(plain(check)),
      '/v1/result': post(plain(result)),
      '/access/v1/evaluation': post(authzen((asker, body) => evaluations.one(asker, body))),
      '/access/v1/evaluations': post(authzen((asker, body) => evaluations.several(asker, body))),
    },
    open: {
      // §9.1: an endpoint that is not offered is not named. Here these are those for searching.
      '/.well-known/authzen-configuration': async (req, res) => {
        if (req.method !== 'GET' && req.method !== 'HEAD') return void res.writeHead(405, { allow: 'GET' }).end()
        answer(res, 200, {
          policy_decision_point: url(),
          access_evaluation_endpoint: `${url()}/access/v1/evaluation`,
          access_evaluations_endpoint: `${url()}/access/v1/evaluations`,
        })
      },
    },
    find,
    reload: (resources) => void (offers = offersOf(resources)),
    close: () => checks.close(),
  }
}
