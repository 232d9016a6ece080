// A gateway for a benchmark: its configuration, its process, and sessions with it.
import fs from 'node:fs'
import path from 'node:path'
import type { StartedSession, Status } from '../src/control/wire.ts'
import type { Usage } from './gateway.ts'
import { startPart } from './parts.ts'

export interface GatewayOptions {
  /** Where its state is: on the disk that is measured. */
  readonly folder: string
  readonly execArgv?: readonly string[]
  readonly resources: Readonly<Record<string, { readonly url: string } | { readonly command: readonly string[] }>>
  /** What the agent `reader` may do, each as long as a condition holds. */
  readonly reader: readonly string[]
  /** What a person is asked about. */
  readonly asked?: readonly string[]
}

export async function startGateway({ folder, execArgv = [], resources, reader, asked = [] }: GatewayOptions) {
  const file = path.join(folder, 'sallyport.yaml')
  const state = path.join(folder, 'state')
  const settings = {
    listen: { agents: '127.0.0.1:0', people: '127.0.0.1:0' },
    state,
    facts: { desk: 'string' },
    approvals: { hold: '1 ms', hold_with_progress: '1 ms' },
    resources: Object.fromEntries(
      Object.entries(resources).map(([name, mcp]) => [
        name,
        { mcp, tools: { read_ticket: 'read', delete_ticket: 'destroy' } },
      ]),
    ),
    agents: {
      reader: {
        may: [
          ...reader.map((permission) => ({ do: permission, when: "session.desk == 'north' && args.ticket >= 0" })),
          ...asked,
        ],
        // Limits are held, but so that they are never reached: the loop guard is off, because nothing but loops is measured.
        limits: { calls: ['100000000/min', '100000000/session'], repeats: 'unlimited' },
      },
    },
    rules: [{ deny: '*:send', when: 'flow.untrusted && flow.private', because: 'nothing private leaves the house' }],
  }
  fs.writeFileSync(file, JSON.stringify(settings)) // JSON is YAML.
  const part = startPart('gateway.ts', [file], execArgv)
  const { agents, people } = await part.ask<Status>({ what: 'status' })
  const key = fs.readFileSync(path.join(state, 'admin.key'), 'utf8').trim()

  async function askPeople<T>(method: string, at: string, body?: object): Promise<T> {
    const response = await fetch(people.url + at, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    if (!response.ok) throw new Error(`${method} ${at}: ${response.status} ${await response.text()}`)
    return (await response.json()) as T
  }

  return {
    url: `${agents.url}/mcp`,
    usage: (isCollected = false) => part.ask<Usage>({ what: isCollected ? 'collected' : 'usage' }),
    async session(agent: string): Promise<{ readonly id: string; readonly token: string }> {
      const asked = { agent, facts: { desk: 'north' }, lasts: 7_200 }
      const { session, token } = await askPeople<StartedSession>('POST', '/v1/sessions', asked)
      return { id: session.id, token }
    },
    endSession: (id: string) => askPeople<unknown>('DELETE', `/v1/sessions/${id}`),
    end: () => part.end(),
  }
}
