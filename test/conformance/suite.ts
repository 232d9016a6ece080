/** Runs the official MCP conformance suite against a server, and says in words what failed. */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parse } from 'yaml'

export type Revision = '2025-11-25' | '2026-07-28'

export interface Check {
  id: string
  description: string
  status: 'SUCCESS' | 'FAILURE' | 'WARNING' | 'SKIPPED' | 'INFO'
  errorMessage?: string
}

export interface ScenarioReport {
  scenario: string
  /** Whether the revision requires it. The others are run for information. */
  required: boolean
  checks: Check[]
}

export interface SuiteReport {
  revision: Revision
  scenarios: ScenarioReport[]
  /** Every required scenario that did not pass, a line per failed check. Empty when the server conforms. */
  failures: string[]
  /** Checks of required scenarios that the suite only warns about. */
  warnings: string[]
}

const suiteDirectory = dirname(createRequire(import.meta.url).resolve('@modelcontextprotocol/conformance/package.json'))
const outputLimit = 20_000

/** The scenarios that a revision requires of a server, from the frozen list that ships with the suite. */
export function requiredScenarios(revision: Revision): string[] {
  const file = join(suiteDirectory, 'requirements', `${revision}.yaml`)
  return (parse(readFileSync(file, 'utf8')) as { server: string[] }).server
}

/**
 * Runs what `revision` requires against `url`, which must name a loopback host.
 *
 * Rejects when the suite does not end within `timeoutMs` or its verdict contradicts its own results.
 */
export async function runSuite(options: { url: string; revision: Revision; timeoutMs?: number }): Promise<SuiteReport> {
  const { url, revision, timeoutMs = 120_000 } = options
  const results = await mkdtemp(join(tmpdir(), 'sallyport-conformance-'))
  try {
    const { code, output } = await runCli(
      ['server', '--url', url, '--requirements', revision, '-o', results, '--timeout', '20000'],
      timeoutMs,
    )
    const report = readReport(results, revision)
    const failedBySuite = report.scenarios.some(({ required, checks }) => required && checks.some(isFailure))
    if ((code !== 0) !== failedBySuite)
      throw new Error(`The suite ended with code ${code}, which does not fit the results it wrote:\n${output}`)
    return report
  } finally {
    await rm(results, { recursive: true, force: true })
  }
}

function runCli(args: string[], timeoutMs: number): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(suiteDirectory, 'dist', 'index.js'), ...args], {
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    })
    let output = ''
    const keepEnd = (chunk: Buffer) => (output = (output + chunk).slice(-outputLimit))
    child.stdout.on('data', keepEnd)
    child.stderr.on('data', keepEnd)
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (signal) reject(new Error(`The suite did not end within ${timeoutMs} ms:\n${output}`))
      else resolve({ code, output })
    })
  })
}

function readReport(results: string, revision: Revision): SuiteReport {
  const required = requiredScenarios(revision)
  const scenarios = readdirSync(results).flatMap((folder): ScenarioReport[] => {
    const scenario = /^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(folder)?.[1]
    if (scenario === undefined) throw new Error(`Cannot tell the scenario from the results folder ${folder}`)
    const checks = readChecks(join(results, folder, 'checks.json'))
    return checks ? [{ scenario, required: required.includes(scenario), checks }] : []
  })
  const byName = new Map(scenarios.map((report) => [report.scenario, report]))
  return {
    revision,
    scenarios,
    failures: required.flatMap((scenario) => failuresOf(scenario, byName.get(scenario))),
    warnings: scenarios
      .filter((report) => report.required)
      .flatMap((report) =>
        report.checks.filter(({ status }) => status === 'WARNING').map((c) => line(report.scenario, c)),
      ),
  }
}

function readChecks(file: string): Check[] | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Check[]
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined // The scenario began and never ended.
    throw error
  }
}

/** Stricter than the suite: a scenario of which nothing was seen to succeed has not passed. */
function failuresOf(scenario: string, report: ScenarioReport | undefined): string[] {
  if (!report) return [`${scenario}: did not run to its end`]
  const failed = report.checks.filter(isFailure)
  if (failed.length > 0) return failed.map((check) => line(scenario, check))
  const own = report.checks.filter(({ id }) => !id.startsWith('wire-schema-'))
  return own.some(({ status }) => status === 'SUCCESS') ? [] : [`${scenario}: no check of it succeeded`]
}

function isFailure({ status }: Check): boolean {
  return status === 'FAILURE'
}

function line(scenario: string, { id, description, errorMessage }: Check): string {
  return `${scenario} / ${id}: ${description}${errorMessage ? ` — ${errorMessage}` : ''}`
}
