import { z } from 'zod'
import { actorOf } from '../core/approval.ts'
import type { Approval, ApprovalState } from '../core/approval.ts'
import { Failure } from '../core/failure.ts'
import type { Person } from '../core/identity.ts'
import { jsonObject, readBody, reason } from './body.ts'
import { asPerson } from './ports.ts'
import type { ControlPorts } from './ports.ts'
import { route, sendEvents } from './router.ts'
import type { Request, Route } from './router.ts'
import type { AnswerApproval, ApprovalView, EditApproval } from './wire.ts'

const states: readonly ApprovalState[] = ['pending', 'approved', 'denied', 'expired', 'used', 'void']
const answerBody: z.ZodType<AnswerApproval> = z.strictObject({ verdict: z.enum(['approve', 'deny']), reason })
const editBody: z.ZodType<EditApproval> = z.strictObject({ args: jsonObject, reason })

export function approvalRoutes({ approvals, guard, operations, clock }: ControlPorts): readonly Route[] {
  async function found(id: string): Promise<Approval> {
    const approval = await approvals.get(id)
    if (approval === undefined) throw new Failure('not_found', `there is no approval ${id}`)
    return approval
  }

  async function view(approval: Approval): Promise<ApprovalView> {
    const used = await approvals.list({ states: ['used'], limit: 200 })
    const agent = actorOf(approval.chain).agent
    const last = used.find((each) => each.permission === approval.permission && actorOf(each.chain).agent === agent)
    const description = operations.find(approval.permission)?.description
    return {
      approval,
      now: clock(),
      impact: impactOf(approval),
      ...(description === undefined ? {} : { description }),
      ...(last === undefined ? {} : { previous: { args: last.args, at: last.openedAt, approval: last.id } }),
    }
  }

  const who: Route['roles'] = ['approver', 'admin', 'auditor']
  return [
    route('GET', '/v1/approvals', who, async ({ query }) => {
      const given = query.get('state') ?? 'pending'
      const wanted = given === 'all' ? states : states.filter((state) => given.split(',').includes(state))
      if (given !== 'all' && wanted.length < given.split(',').length)
        throw new Failure('invalid', `\`state\` is one of ${states.join(', ')}, or all`)
      return { approvals: await approvals.list({ states: wanted, limit: 200 }), now: clock() }
    }),
    route('GET', '/v1/approvals/watch', who, async ({ response, signal }) => {
      const push = sendEvents(response)
      const stop = approvals.watch((approval) => push('approval', approval))
      signal.addEventListener('abort', stop, { once: true })
      for (const approval of await approvals.list({ states: ['pending'], limit: 200 })) push('approval', approval)
      push('ready', { now: clock() })
    }),
    route('GET', '/v1/approvals/:id', who, async ({ param }) => view(await found(param('id')))),
    route('POST', '/v1/approvals/:id/answer', ['approver', 'admin'], async (request) => {
      const { verdict, reason: why } = readBody(answerBody, request.body)
      return approvals.answer(request.param('id'), personOf(request), verdict, why)
    }),
    route('POST', '/v1/approvals/:id/edit', ['approver', 'admin'], async (request) => {
      const { args, reason: why } = readBody(editBody, request.body)
      const { permission } = await found(request.param('id'))
      const problems = operations.find(permission)?.check(args) ?? []
      if (problems.length > 0)
        throw new Failure('invalid', problems.map(({ path, message }) => `args${path}: ${message}`).join('; '))
      return guard.edit(request.param('id'), args, personOf(request), why)
    }),
  ]
}

function personOf({ caller }: Request): Person {
  const person = asPerson(caller)
  if (person === undefined) throw new Failure('forbidden', 'only people answer')
  return person
}

function impactOf({ effect }: Approval): readonly string[] {
  const words: Readonly<Record<Approval['effect'], string>> = {
    read: 'reads; changes nothing',
    write: 'changes data',
    destroy: 'can’t be taken back',
    send: 'sends data out of the house',
    execute: 'runs code',
  }
  return [words[effect]]
}
