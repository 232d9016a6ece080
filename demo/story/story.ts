import { setTimeout as pause } from 'node:timers/promises'
import type { Io } from '../../src/cli/io.ts'
import type { AuditEvent } from '../../src/core/audit.ts'
import { connectAgent } from './agent.ts'
import type { Agent, CallOptions, Outcome } from './agent.ts'
import type { Ledger } from './ledger.ts'
import type { Narrator } from './narrator.ts'
import { given } from './person.ts'
import type { Stage } from './stage.ts'

/** What every act works with. */
export interface Story {
  readonly stage: Stage
  readonly narrator: Narrator
  readonly ledger: Ledger
  readonly io: Io
  /** Whether a person at this terminal answers the question about the refund. */
  readonly asksPerson: boolean
  readonly signal: AbortSignal
  /** Every word that an agent was given. */
  readonly heard: string[]
}

/** A case that Anna took: the session that acts, and the one that it lent reading to. */
export interface Case {
  readonly session: string
  readonly responder: Agent
  readonly reader: Agent
}

/** Notes a claim and shows whether it holds. */
export async function claim({ ledger, narrator }: Story, text: string, holds: boolean): Promise<void> {
  ledger.claim(text, holds)
  await narrator.claim(text, holds)
}

/** Calls a tool, and notes what became of it. */
export async function attempt(
  { ledger, heard }: Story,
  agent: Agent,
  tool: string,
  args: object,
  { asked = false, ...options }: CallOptions & { readonly asked?: boolean } = {},
): Promise<Outcome> {
  const outcome = await agent.call(tool, args, options)
  heard.push(outcome.text)
  ledger.tried(outcome.kind === 'refused' || outcome.kind === 'pending' ? 'refused' : 'allowed', asked)
  return outcome
}

/** What a statement gave. */
export interface Answer {
  readonly rows?: readonly (readonly unknown[])[]
  readonly changed?: number
}

/** Sends a statement, shows it with what came back, and notes what became of it. */
export async function statement(
  story: Story,
  agent: Agent,
  text: string,
  parameters: readonly unknown[] = [],
): Promise<Answer> {
  const outcome = await attempt(story, agent, 'desk__query', { sql: text, parameters })
  const answer = outcome.kind === 'done' ? (JSON.parse(outcome.text) as Answer) : {}
  const came =
    outcome.kind !== 'done'
      ? outcome.text
      : (answer.rows?.map((row) => row.join(' | ')).join('\n') ?? `${answer.changed} row is added`)
  await story.narrator.does('', `${text}\n${came.replaceAll(/^/gm, '→ ')}`)
  return answer
}

/** The first column. */
export const ids = ({ rows = [] }: Answer): readonly unknown[] => rows.map(([id]) => id)

/** A ticket as a reader sees it; nothing where it sees none. */
export async function ticketOf(story: Story, agent: Agent, id: number): Promise<string> {
  const { kind, text } = await attempt(story, agent, 'desk__query', {
    sql: 'select subject, written_by, body from tickets where id = $1',
    parameters: [id],
  })
  const [[subject, from, body] = []] = kind === 'done' ? ((JSON.parse(text) as Answer).rows ?? []) : []
  return typeof body === 'string' ? `Subject: ${subject as string}\nFrom: ${from as string}\n\n${body}` : ''
}

/** Whether a token still opens anything. */
export async function isLetIn({ stage }: Story, { name, token }: Pick<Agent, 'name' | 'token'>): Promise<boolean> {
  try {
    await (await connectAgent(name, stage.agents, token)).close()
    return true
  } catch {
    return false
  }
}

/** The newest events of the log that fit, newest first. */
export async function events(
  { stage }: Pick<Story, 'stage'>,
  filter: Record<string, string>,
): Promise<readonly AuditEvent[]> {
  const query = new URLSearchParams({ limit: '500', ...filter }).toString()
  return given(await stage.admin.get<{ events: readonly AuditEvent[] }>(`/v1/audit?${query}`)).events
}

/** Waits until something is so, and gives it back. */
export async function eventually<T>(
  signal: AbortSignal,
  look: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const until = performance.now() + 15_000
  for (;;) {
    signal.throwIfAborted()
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > until) throw new Error('waited 15 s for something that never came')
    await pause(25)
  }
}
