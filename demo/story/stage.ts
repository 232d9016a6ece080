import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import http from 'node:http'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseDocument } from 'yaml'
import type { IssuedKey, SecretView, SetSecret, StartedSession, Status } from '../../src/control/wire.ts'
import { start } from '../../src/main.ts'
import type { Running } from '../../src/main.ts'
import { createDesk, openDesk } from '../helpdesk/desk.ts'
import type { Desk } from '../helpdesk/desk.ts'
import { putEmptyDatabase, usualCache } from '../helpdesk/empty.ts'
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
  /** The folder of its database of tickets. Only one program at a time can have it open. */
  readonly tables: string
  /** Address of the helpdesk's HTTP API, and its key, which is in Sallyport's store. */
  readonly api: { readonly url: string; readonly key: string }
  /** Where data would be sent by whoever steals it, and what came there. */
  readonly collector: Collector
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

/** A server that writes down whatever comes. */
export interface Collector {
  readonly url: string
  readonly seen: readonly string[]
}

const newKey = (): string => `hd_${randomBytes(32).toString('base64url')}`
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

/**
 * @param policy - The file to run with; its addresses and the helpdesk's program are replaced.
 * @param onMaking - Told when the first run ever takes longer, because an empty database has to be made.
 */
export async function setStage(policy: string, onMaking: () => void): Promise<Stage> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sallyport-demo-'))
  const undo: (() => unknown)[] = []
  const close = async (): Promise<void> => {
    for (const each of undo.splice(0).reverse()) await each()
  }
  try {
    const [key, apiKey] = [newKey(), newKey()]
    const secrets = new Set([key, apiKey])
    const database = path.join(folder, 'helpdesk.db')
    createDesk(database, key)
    const desk = openDesk(database, key)
    undo.push(() => desk.close())
    const tables = path.join(folder, 'desk')
    await putEmptyDatabase(tables, usualCache, onMaking)
    fs.writeFileSync(path.join(folder, 'helpdesk.key'), `${key}\n`, { mode: 0o600 })
    const file = path.join(folder, 'sallyport.yaml')
    const api = await startApi({ HELPDESK_DB: database, HELPDESK_KEY: key, HELPDESK_API_KEY: apiKey })
    undo.push(() => api.stop())
    const collector = await startCollector()
    undo.push(() => collector.stop())
    fs.writeFileSync(file, await settingsFrom(policy, api.url))

    const log: string[] = []
    const raise = async (): Promise<Running> => {
      const raised = await start({ file, env: process.env, log: (line) => void log.push(line) })
      undo.push(() => raised.close())
      return raised
    }
    let running = await raise()

    const { agents, people } = running.status()
    const state = path.join(folder, '.sallyport')
    const adminKey = fs.readFileSync(path.join(state, 'admin.key'), 'utf8').trim()
    secrets.add(adminKey)
    const admin = peoplesSide(people.url, adminKey)
    // As `sallyport secrets set SHIPPING_KEY --resource shipping --host 127.0.0.1` does.
    const secret: SetSecret = { name: 'SHIPPING_KEY', value: apiKey, resource: 'shipping', hosts: ['127.0.0.1'] }
    given(await admin.post<SecretView>('/v1/secrets', secret))
    await ready(() => running.status())
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
      tables,
      api: { url: api.url, key: apiKey },
      collector,
      admin,
      anna: await sideOf('person:anna'),
      ben: await sideOf('person:ben'),
      secrets,
      log,
      stop: () => running.close(),
      async resume() {
        running = await raise()
        await ready(() => running.status())
      },
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

/** Starts the helpdesk's HTTP API as a program of its own. */
async function startApi(env: Record<string, string>): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const child = spawn(process.execPath, [here('../helpdesk/api.ts')], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  child.stdin.on('error', () => {}) // Ctrl-C ends it before it is told to end.
  const said = await Promise.race([once(child.stdout, 'data'), exited.then(() => [])])
  const url = String(said[0] ?? '').trim()
  if (!url.startsWith('http://')) throw new Error('the API of the helpdesk could not be started')
  return {
    url,
    async stop() {
      child.stdin.end()
      await exited
    },
  }
}

async function startCollector(): Promise<Collector & { stop(): Promise<void> }> {
  const seen: string[] = []
  const server = http.createServer((req, res) => {
    seen.push(`${req.method} ${req.url} ${req.rawHeaders.join(' ')}`)
    res.end('thank you')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** A file of settings with free ports and the places of the helpdesk's programs. */
async function settingsFrom(file: string, api: string): Promise<string> {
  const document = parseDocument(fs.readFileSync(file, 'utf8'))
  const [agents, people] = await freePorts()
  document.setIn(['listen', 'agents'], `127.0.0.1:${agents}`)
  document.setIn(['listen', 'people'], `127.0.0.1:${people}`)
  document.setIn(['resources', 'helpdesk', 'mcp', 'command'], [process.execPath, here('../helpdesk/server.ts')])
  document.setIn(['resources', 'desk', 'init'], here('../helpdesk/schema.sql'))
  document.setIn(['resources', 'shipping', 'http'], api)
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
      throw new Error(`${failed.name} could not be started: ${failed.reason ?? 'no reason given'}`)
    if (performance.now() > until) throw new Error('the helpdesk did not start within 20 s')
    await pause(50)
  }
}
