import type { ReadStream } from 'node:tty'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { AnswerApproval, ApprovalView, EditApproval } from '../control/wire.ts'
import { actorOf, needInWords } from '../core/approval.ts'
import type { Approval } from '../core/approval.ts'
import { Failure } from '../core/failure.ts'
import { card, stateInWords } from './card.ts'
import { openClient } from './client.ts'
import type { Client } from './client.ts'
import { command, jsonOption, UsageError } from './command.ts'
import type { ExitCode } from './command.ts'
import { editArgs } from './editor.ts'
import { parseArgsObject } from './explain.ts'
import { createInbox } from './inbox.ts'
import { paint } from './io.ts'
import type { Io } from './io.ts'
import { drawn } from './line.ts'
import { clientOptions, errorCode } from './place.ts'
import { openScreen } from './screen.ts'
import { columnsOf, jsonText, moment, safe, span } from './text.ts'

interface Listed {
  readonly approvals: readonly Approval[]
  readonly now: number
}

const reasonOption = { type: 'string', value: '<text>', says: 'Why; kept with the answer.' } as const
const pathOf = (id: string, rest = ''): string => `/v1/approvals/${encodeURIComponent(id)}${rest}`

export const approvalsInbox = command({
  name: 'approvals',
  summary: 'Opens the inbox of questions that wait for people',
  options: { ...jsonOption, ...clientOptions },
  notes: [
    'At a terminal: a live inbox (? shows its keys). Elsewhere, or with --json: the list of what is pending.',
    'Whatever stands right of a bar (┃) was written by an agent, a server or a person; what can’t be seen in it is written',
    'out, such as \\u202e.',
  ],
  examples: ['sallyport approvals'],
  async run({ values }, io): Promise<ExitCode> {
    const client = openClient(values, io)
    if (!io.isTty || values.json === true) return list(client, 'pending', values.json === true, io)
    // Before the screen is taken over, so that what is wrong can be read.
    await client.get<Listed>('/v1/approvals')
    return inbox(client, io)
  },
})

export const approvalsList = command({
  name: 'approvals list',
  summary: 'Lists questions, newest first',
  options: {
    state: {
      type: 'string',
      value: '<states>',
      says: 'pending, approved, denied, expired, used, void; several with commas; or all. Default: pending.',
    },
    ...jsonOption,
    ...clientOptions,
  },
  examples: ['sallyport approvals list', 'sallyport approvals list --state denied,expired --json'],
  run: ({ values }, io) => list(openClient(values, io), values.state ?? 'pending', values.json === true, io),
})

async function list(client: Client, states: string, asJson: boolean, io: Io): Promise<ExitCode> {
  const listed = await client.get<Listed>(`/v1/approvals?state=${encodeURIComponent(states)}`)
  const { approvals, now } = listed
  if (asJson) io.out(jsonText(listed))
  else if (approvals.length === 0) io.out(states === 'pending' ? 'no question waits for people' : 'there are none')
  else {
    const rows = approvals.map(({ id, chain, permission, effect, openedAt, state, expiresAt }) => [
      safe(id),
      safe(chain.map(({ agent }) => agent).join('→'), { maxLength: 60 }),
      safe(permission, { maxLength: 80 }),
      effect,
      span(now - openedAt),
      state === 'pending' ? `ends in ${span(expiresAt - now)}` : state,
    ])
    const [head = '', ...lines] = columnsOf([['ID', 'AGENT', 'PERMISSION', 'EFFECT', 'AGE', 'STATE'], ...rows])
    io.out([paint(io, 'dim', head), ...lines].join('\n'))
  }
  return 0
}

export const approvalsWatch = command({
  name: 'approvals watch',
  summary: 'Prints a line for each question and each change, until it is stopped',
  options: {
    json: { type: 'boolean', says: 'Prints the whole question as JSON, one to a line.' },
    ...clientOptions,
  },
  notes: ['Ends with exit code 1 when the connection breaks off.'],
  examples: ['sallyport approvals watch', 'sallyport approvals watch --json | my-pager'],
  async run({ values }, io) {
    const client = openClient(values, io)
    const leave = new AbortController()
    const onSignal = (): void => leave.abort()
    process.once('SIGINT', onSignal)
    process.once('SIGTERM', onSignal)
    try {
      for await (const { event, data } of client.events('/v1/approvals/watch', leave.signal))
        if (event === 'approval') {
          const approval = data as Approval
          io.out(values.json === true ? jsonText(approval).replace(/\n */g, '') : changeInWords(approval))
        }
    } finally {
      process.off('SIGINT', onSignal)
      process.off('SIGTERM', onSignal)
    }
    if (leave.signal.aborted) return 0
    throw new Failure('unavailable', `the gateway at ${client.url} ended the connection`)
  },
})

const changeInWords = (approval: Approval): string => {
  const { id, chain, permission, effect, state, note } = approval
  const { agent, behalf } = actorOf(chain)
  return [
    moment(Date.now()),
    safe(id),
    state.padEnd(8),
    safe(permission),
    `(${effect})`,
    `${safe(agent)} for ${safe(behalf)}`,
  ]
    .concat(note === undefined ? [] : [`┃ ${safe(note, { maxLength: 300 })}`])
    .join('  ')
}

export const approvalsShow = command({
  name: 'approvals show',
  summary: 'Shows one question, whole',
  takes: ['<id>'],
  options: { ...jsonOption, ...clientOptions },
  examples: ['sallyport approvals show appr_8f2c'],
  async run({ words: [id = ''], values }, io) {
    const view = await openClient(values, io).get<ApprovalView>(pathOf(id))
    if (values.json === true) io.out(jsonText(view))
    else
      io.out(
        card(view, view.now, io.columns)
          .map((line) => drawn(line, io.columns, io))
          .join('\n'),
      )
    return 0
  },
})

export const approvalsApprove = command({
  name: 'approvals approve',
  summary: 'Approves one exact call, once',
  takes: ['<id>'],
  options: { reason: reasonOption, ...jsonOption, ...clientOptions },
  examples: ['sallyport approvals approve appr_8f2c --reason "spoke to the customer"'],
  run: ({ words: [id = ''], values }, io) => answer(id, 'approve', values, io),
})

export const approvalsDeny = command({
  name: 'approvals deny',
  summary: 'Denies a call; the agent is told why',
  takes: ['<id>'],
  options: { reason: reasonOption, ...jsonOption, ...clientOptions },
  examples: ['sallyport approvals deny appr_8f2c --reason "wrong customer"'],
  run: ({ words: [id = ''], values }, io) => answer(id, 'deny', values, io),
})

type AnswerValues = Parameters<typeof openClient>[0] & { readonly reason?: string; readonly json?: boolean }

async function answer(id: string, verdict: AnswerApproval['verdict'], values: AnswerValues, io: Io): Promise<ExitCode> {
  return answered(await sendAnswer(openClient(values, io), id, verdict, values.reason), values.json === true, io)
}

const sendAnswer = (client: Client, id: string, verdict: AnswerApproval['verdict'], reason?: string) => {
  const body: AnswerApproval = { verdict, ...(reason === undefined ? {} : { reason }) }
  return client.post<Approval>(pathOf(id, '/answer'), body)
}

const sendEdit = (client: Client, id: string, args: EditApproval['args'], reason?: string) => {
  const body: EditApproval = { args, ...(reason === undefined ? {} : { reason }) }
  return client.post<Approval>(pathOf(id, '/edit'), body)
}

function answered(approval: Approval, asJson: boolean, io: Io): ExitCode {
  if (asJson) io.out(jsonText(approval))
  else {
    io.out(`${safe(approval.id)} ${safe(approval.permission)}: ${safe(stateInWords(approval, Date.now()))}`)
    if (approval.state === 'pending')
      io.out(`your answer counts; it needs ${safe(approval.ask.needs.map(needInWords).join(' and '))}`)
  }
  return 0
}

export const approvalsEdit = command({
  name: 'approvals edit',
  summary: 'Approves a call with other arguments',
  takes: ['<id>'],
  options: {
    'args-file': {
      type: 'string',
      value: '<file>',
      says: 'The arguments, a JSON object. Default: $EDITOR opens those of the agent.',
    },
    reason: reasonOption,
    ...jsonOption,
    ...clientOptions,
  },
  notes: [
    'The question ends and a new one takes its place: checked against the schema, decided again by policy, and approved',
    'by you. The agent is told the arguments and has to make that call itself.',
  ],
  examples: ['sallyport approvals edit appr_8f2c --args-file smaller.json'],
  async run({ words: [id = ''], values }, io) {
    const client = openClient(values, io)
    const file = values['args-file']
    if (file === undefined && !io.isTty) throw new UsageError('nobody can edit here: give --args-file')
    const { approval } = await client.get<ApprovalView>(pathOf(id))
    const args = file === undefined ? await editArgs(approval.args, io) : await readArgsFile(path.resolve(io.cwd, file))
    if (args === undefined) {
      io.err('nothing was changed, and nothing sent')
      return 1
    }
    return answered(await sendEdit(client, id, args, values.reason), values.json === true, io)
  },
})

async function readArgsFile(file: string): Promise<EditApproval['args']> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (thrown) {
    throw new UsageError(`${safe(file)} can’t be read (${errorCode(thrown)})`)
  }
  return parseArgsObject(text)
}

/** The live inbox, until the person leaves it or a signal ends it. */
async function inbox(client: Client, io: Io): Promise<ExitCode> {
  const leave = new AbortController()
  let connection = new AbortController()
  let code: ExitCode = 0
  let isDue = false

  const page = createInbox(
    {
      view: (id) => client.get<ApprovalView>(pathOf(id)),
      answer: (id, verdict, reason) => sendAnswer(client, id, verdict, reason),
      edit: (id, args, reason) => sendEdit(client, id, args, reason),
      change: (args) => screen.lend(() => editArgs(args, io)),
      reconnect: () => connection.abort(),
      bell: () => screen.bell(),
      repaint,
      quit: () => leave.abort(),
      suspend: () => screen.suspend(),
    },
    io,
    Date.now,
  )
  const screen = openScreen(io.stdin as ReadStream, {
    onKey: (key) => page.key(key),
    onResize: repaint,
    onEnd: () => {
      code = 1
      leave.abort()
    },
  })

  /** Many changes at once are one frame. */
  function repaint(): void {
    if (isDue) return
    isDue = true
    setImmediate(() => {
      isDue = false
      if (leave.signal.aborted) return
      const { lines, cursor } = page.frame(screen.size())
      screen.draw(lines, cursor)
    })
  }

  // Ages and the time that is left.
  const clock = setInterval(repaint, 1000)
  try {
    repaint()
    for (let failures = 0; !leave.signal.aborted;) {
      connection = new AbortController()
      page.link('connecting')
      try {
        const signal = AbortSignal.any([leave.signal, connection.signal])
        for await (const { event, data } of client.events('/v1/approvals/watch', signal)) {
          if (event === 'approval') page.changed(data as Approval)
          if (event === 'ready') {
            failures = 0
            page.ready((data as { readonly now: number }).now)
            page.link('live')
          }
        }
        if (!connection.signal.aborted) page.link('lost', 'connection lost: trying again')
      } catch (thrown) {
        const failure = Failure.from(thrown)
        if (failure.code === 'unauthenticated' || failure.code === 'forbidden') throw failure
        page.link('lost', failure.code === 'unavailable' ? 'no gateway: trying again' : failure.message)
      }
      failures += 1
      if (!connection.signal.aborted)
        await pause(Math.min(5_000, 250 * 2 ** failures), undefined, {
          signal: AbortSignal.any([leave.signal, connection.signal]),
        }).catch(() => {})
    }
  } finally {
    leave.abort()
    clearInterval(clock)
    screen.close()
  }
  return code
}
