import type { Command, ExitCode } from './command.ts'
import {
  approvalsApprove,
  approvalsDeny,
  approvalsEdit,
  approvalsInbox,
  approvalsList,
  approvalsShow,
  approvalsWatch,
} from './approvals.ts'
import { caCommand } from './ca.ts'
import { completion } from './completion.ts'
import { dbApply, dbChanges, dbPlan, dbRemove, dbSuggest, dbUndo, dbVerify } from './db.ts'
import { explainCommand } from './explain.ts'
import type { Io } from './io.ts'
import { keysIssue, keysList, keysRevoke, keysRotate } from './keys.ts'
import { killCommand, reviveCommand } from './kill.ts'
import { mcpCommand } from './mcp.ts'
import { reloadCommand } from './reload.ts'
import { secretsList, secretsRekey, secretsRemove, secretsRotate, secretsSet } from './secrets.ts'
import { sessionsEnd, sessionsList, sessionsShow, sessionsStart } from './sessions.ts'
import { startCommand } from './start.ts'
import { statusCommand } from './status.ts'
import { toolsAccept, toolsList, toolsShow } from './tools.ts'

/** A command that reads its own arguments. It is loaded when it runs: the others start faster without it. */
const own = (
  name: string,
  summary: string,
  help: readonly string[],
  options: Command['options'],
  load: () => Promise<(args: readonly string[], io: Io) => Promise<number>>,
): Command => ({
  name,
  summary,
  options,
  examples: [],
  help: help.length === 0 ? '' : [`${summary}.`, '', ...help.map((line) => `  ${line}`)].join('\n'),
  run: async (args, io) => (await (await load())(args, io)) as ExitCode,
})

const check = own(
  'check',
  'Validates sallyport.yaml without starting anything',
  ['sallyport check [file] [--json]'],
  { json: { type: 'boolean', says: 'Prints JSON.' } },
  async () => (await import('./check.ts')).checkCommand,
)
const audit = own(
  'audit',
  'Reads, searches, verifies and exports the audit log',
  [],
  { dir: { type: 'string', value: '<folder>', says: 'The log’s folder, or a copy of it.' } },
  async () => (await import('./audit.ts')).auditCommand,
)
const init = own(
  'init',
  'Writes a sallyport.yaml to begin with',
  ['sallyport init [folder]'],
  {},
  async () => (await import('./init.ts')).initCommand,
)

/** Everything that `sallyport` does, in the order of help. */
export const commands: readonly Command[] = [
  init,
  check,
  startCommand,
  statusCommand,
  reloadCommand,
  sessionsStart,
  sessionsList,
  sessionsShow,
  sessionsEnd,
  keysIssue,
  keysRotate,
  keysList,
  keysRevoke,
  secretsSet,
  secretsList,
  secretsRotate,
  secretsRemove,
  secretsRekey,
  killCommand,
  reviveCommand,
  approvalsInbox,
  approvalsList,
  approvalsWatch,
  approvalsShow,
  approvalsApprove,
  approvalsDeny,
  approvalsEdit,
  explainCommand,
  toolsList,
  toolsShow,
  toolsAccept,
  dbPlan,
  dbApply,
  dbVerify,
  dbRemove,
  dbSuggest,
  dbChanges,
  dbUndo,
  audit,
  mcpCommand,
  caCommand,
  completion(() => commands),
]

/** Under which title of the overview a command stands, by its first word. */
export const groups: ReadonlyMap<string, string> = new Map([
  ['init', 'Setting up'],
  ['check', 'Setting up'],
  ['completion', 'Setting up'],
  ['start', 'Running'],
  ['status', 'Running'],
  ['reload', 'Running'],
  ['sessions', 'Agents'],
  ['keys', 'Agents'],
  ['kill', 'Agents'],
  ['revive', 'Agents'],
  ['secrets', 'Secrets'],
  ['approvals', 'Questions to people'],
  ['explain', 'Policy'],
  ['tools', 'Policy'],
  ['db', 'Databases'],
  ['audit', 'Audit log'],
  ['mcp', 'For agents'],
  ['ca', 'For agents'],
])
