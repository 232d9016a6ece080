import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseDocument } from 'yaml'
import type { IssuedKey, StartedSession, Status } from '../../src/control/wire.ts'
import { start } from '../../src/main.ts'
import type { Running } from '../../src/main.ts'
import { createDesk, openDesk } from '../helpdesk/desk.ts'
import type { Desk } from '../helpdesk/desk.ts'
import { given, peoplesSide } from './person.ts'
import type { PeoplesSide } from './person.ts'

/** Everything that the story happens on: a running gateway with a helpdesk behind it, in a folder of its own. */
export interface Stage {
  readonly folder: string
  readonly file: string
  readonly state: string
  /** Where agents connect, without `/mcp`. */
  readonly agents: string
  readonly people: string
  /** The helpdesk's own file, looked at from the side: what really happened. */
  readonly desk: Desk
  readonly admin: PeoplesSide
  readonly anna: PeoplesSide
  readonly ben: PeoplesSide
  /** Every credential and secret of this run: none may turn up where it does not belong. */
  readonly secrets: Set<string>
  /** Starts a session of the responder for a customer, as the helpdesk does when Anna takes a case. */
  startCase(customer: number): Promise<StartedSession>
  endCase(session: string): Promise<void>
  /** Stops the gateway. */
  stop(): Promise<void>
  /** Starts it again, from its files. */
  resume(): Promise<void>
  /** What the gateway said to its operator. */
  readonly log: readonly string[]
  close(): Promise<void>
}

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

/** @param policy - The file to run with; its addresses and the helpdesk's program are replaced. */
export async function setStage(policy: string): Promise<Stage> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-demo-'))
  const undo: (() => unknown)[] = []
  const close = async (): Promise<void> => {
    for (const each of undo.splice(0).reverse()) await each()
  }
  try {
    const key = `hd_${randomBytes(32).toString('base64url')}`
    const secrets = new Set([key])
    const database = path.join(folder, 'helpdesk.db')
    createDesk(database, key)
    const desk = openDesk(database, key)
    undo.push(() => desk.close())
    fs.writeFileSync(path.join(folder, 'helpdesk.key'), `${key}\n`, { mode: 0o600 })
    const file = path.join(folder, 'sallyport.yaml')
    fs.writeFileSync(file, await settingsFrom(policy))

    const log: string[] = []
    const raise = async (): Promise<Running> => {
      const raised = await start({ file, env: process.env, log: (line) => void log.push(line) })
      undo.push(() => raised.close())
      await ready(() => raised.status())
      return raised
    }
    let running = await raise()

    const { agents, people } = running.status()
    const state = path.join(folder, '.sallyport')
    const adminKey = fs.readFileSync(path.join(state, 'admin.key'), 'utf8').trim()
    secrets.add(adminKey)
    const admin = peoplesSide(people.url, adminKey)
    const sideOf = async (holder: string): Promise<PeoplesSide> => {
      const { text } = given(await admin.post<IssuedKey>('/v1/keys', { holder }))
      secrets.add(text)
      fs.writeFileSync(path.join(folder, `${holder.replace(/^.*:/, '')}.key`), `${text}\n`, { mode: 0o600 })
      return peoplesSide(people.url, text)
    }
    const service = await sideOf('service:desk')

    return {
      folder,
      file,
      state,
      agents: agents.url.replace(/\/$/, ''),
      people: people.url,
      desk,
      admin,
      anna: await sideOf('person:anna'),
      ben: await sideOf('person:ben'),
      secrets,
      log,
      stop: () => running.close(),
      resume: async () => void (running = await raise()),
      async startCase(customer) {
        const started = given(
          await service.post<StartedSession>('/v1/sessions', {
            agent: 'responder',
            behalf: 'person:anna',
            facts: { customer_id: customer },
          }),
        )
        secrets.add(started.token)
        return started
      },
      endCase: async (session) => void given(await service.delete(`/v1/sessions/${session}`)),
      close,
    }
  } catch (thrown) {
    await close()
    fs.rmSync(folder, { recursive: true, force: true })
    throw thrown
  }
}

/** A file of settings with free ports and the place of the helpdesk's program. */
async function settingsFrom(file: string): Promise<string> {
  const document = parseDocument(fs.readFileSync(file, 'utf8'))
  const [agents, people] = await freePorts()
  document.setIn(['listen', 'agents'], `127.0.0.1:${agents}`)
  document.setIn(['listen', 'people'], `127.0.0.1:${people}`)
  document.setIn(['resources', 'helpdesk', 'mcp', 'command'], [process.execPath, here('../helpdesk/server.ts')])
  return document.toString({ lineWidth: 0 })
}

/** Written into the file, so that commands in another terminal find the gateway by it. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()]
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.once('error', reject)
          server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
        }),
    ),
  )
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports as [number, number]
}

async function ready(status: () => Status): Promise<void> {
  const until = performance.now() + 20_000
  while (status().resources.some(({ state }) => state !== 'ready')) {
    const failed = status().resources.find(({ state }) => state === 'failed')
    if (failed !== undefined)
      throw new Error(`the helpdesk could not be started: ${failed.reason ?? 'no reason given'}`)
    if (performance.now() > until) throw new Error('the helpdesk did not start within 20 s')
    await pause(50)
  }
}
