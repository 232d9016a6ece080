import { readFileSync } from 'node:fs'
import { readdir, readFile, readlink } from 'node:fs/promises'

/**
 * The processes of this machine, as far as it takes to find what an upstream left behind. By Linux's /proc; elsewhere
 * nothing is found. Only processes of our own user and PID namespace that carry our mark, or stem from one of ours,
 * are ever killed.
 */

/** The environment variable by which a process that an upstream started is known, even if it left its parents. */
export const markerName = 'SALLYPORT_UPSTREAM'

/** Names the gateway (by its id and when it started, since ids are used again) and this one upstream. */
export const markerValue = (unique: string): string => `${process.pid}.${startOf(statOfOurs())}.${unique}`

function statOfOurs(): string {
  try {
    return readFileSync('/proc/self/stat', 'latin1')
  } catch {
    return '' // Not Linux: nothing is found by its marker anyway.
  }
}

/** In clock ticks since the machine started: nothing moves that clock. */
const startOf = (stat: string): number => Number(fieldsOf(stat)[19] ?? 0)

interface Running {
  readonly pid: number
  readonly parent: number
  readonly session: number
}

/** All that stem from a process: its session, its children and theirs, and whoever has the marker. */
export async function descendantsOf(leader: number, marker: string): Promise<number[]> {
  const running = await list()
  const found = new Set<number>()
  for (const { pid, session } of running) {
    if (pid === leader || session === leader || (await markerOf(pid)) === marker) found.add(pid)
  }
  for (let before = -1; before !== found.size;) {
    before = found.size
    for (const { pid, parent } of running) if (found.has(parent)) found.add(pid)
  }
  found.delete(process.pid)
  return [...found]
}

/** Kills until nobody is found any more: one that is being killed may start another. Gives up after a second. */
export async function killAll(find: () => Promise<readonly number[]>): Promise<void> {
  for (let round = 0; round < 50; round++) {
    const pids = await find()
    if (pids.length === 0) return
    for (const pid of pids) kill(pid)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/**
 * Kills what gateways that are gone left behind: those with a marker whose gateway is no more. Returns their ids.
 * To be called when a gateway starts.
 */
export async function killOrphans(): Promise<number[]> {
  const killed: number[] = []
  const ours = await namespaceOf(process.pid)
  for (const { pid } of await list()) {
    const [gateway, started] = ((await markerOf(pid)) ?? '').split('.').map(Number)
    if (gateway === undefined || started === undefined || !Number.isSafeInteger(gateway) || gateway <= 0) continue
    if ((await namespaceOf(pid)) !== ours || (await isGateway(gateway, started))) continue
    kill(pid)
    killed.push(pid)
  }
  return killed
}

async function isGateway(pid: number, started: number): Promise<boolean> {
  const stat = await read(`/proc/${pid}/stat`)
  return stat !== undefined && startOf(stat) === started
}

async function list(): Promise<Running[]> {
  const names = await readdir('/proc').catch((): string[] => [])
  const all = await Promise.all(
    names
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .map(runningOf),
  )
  return all.filter((running) => running !== undefined)
}

async function runningOf(pid: number): Promise<Running | undefined> {
  const stat = await read(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  const [state, parent, , session] = fieldsOf(stat)
  return state === 'Z' || state === 'X' ? undefined : { pid, parent: Number(parent), session: Number(session) }
}

/** The fields after the program's name, which is in brackets and may have anything in it: state, ppid, pgrp, session, … */
const fieldsOf = (stat: string): string[] => stat.slice(stat.lastIndexOf(')') + 2).split(' ')

async function markerOf(pid: number): Promise<string | undefined> {
  const environment = await read(`/proc/${pid}/environ`) // Readable for our own user's processes alone.
  const entry = environment?.split('\0').find((variable) => variable.startsWith(`${markerName}=`))
  return entry?.slice(markerName.length + 1)
}

const namespaceOf = (pid: number): Promise<string | undefined> => readlink(`/proc/${pid}/ns/pid`).catch(() => undefined)
const read = (path: string): Promise<string | undefined> => readFile(path, 'latin1').catch(() => undefined)

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It is gone already, or not ours.
  }
}
