import fs from 'node:fs'
import path from 'node:path'
import { auditCommand } from '../../src/cli/audit.ts'
import { below } from './below.ts'
import { claim, events, isLetIn } from './story.ts'
import type { Case, Story } from './story.ts'

/** The sixth act: what is left when everybody has gone home. */
export async function audit(story: Story, { reader, responder }: Case): Promise<void> {
  const { stage, narrator, ledger } = story
  ledger.begin('the audit')
  await narrator.act(6, 'The audit')
  await narrator.say(
    'All of it is in the audit log: decisions before what they allowed was done, and what became of it.',
  )

  const decided = await events(story, { type: 'decision', decision: 'allow' })
  const calls = stage.desk.calls()
  // What the database and the gateway itself answered never reaches the helpdesk's own programs.
  const allowed = decided.filter(
    ({ permission }) => typeof permission === 'string' && /^(?:helpdesk|shipping):/.test(permission),
  )
  await claim(
    story,
    `${calls.length} calls reached the helpdesk; the log allowed exactly these ${allowed.length}`,
    calls.length === allowed.length,
  )

  const log = path.join(stage.state, 'audit')
  const leaks = [...stage.secrets].filter(
    (secret) => story.heard.some((text) => text.includes(secret)) || holds(log, secret),
  )
  await claim(
    story,
    `None of the ${stage.secrets.size} keys and tokens of this run was told to an agent or is in the log`,
    leaks.length === 0,
  )

  await stage.stop()
  narrator.gap()
  await below(story)
  narrator.gap()
  await narrator.say('The gateway is still stopped. To verify the log, its files and a public key are enough:')
  const whole = await verify(story, log)
  await narrator.does('auditor', `sallyport audit verify\n${whole.text}`)
  await claim(story, 'The log verifies', whole.exit === 0)

  const copy = path.join(stage.folder, 'tampered-audit')
  fs.cpSync(log, copy, { recursive: true })
  const at = alter(copy)
  await narrator.does('somebody', `changes one byte in a copy: "${at.before}" becomes "${at.after}"`)
  const tampered = await verify(story, copy)
  await narrator.does('auditor', `sallyport audit verify --dir tampered-audit\n${tampered.text}`)
  await claim(
    story,
    `Verification fails, and says where: line ${at.line}`,
    tampered.exit === 1 && tampered.text.includes(`${path.basename(at.file)}, line ${at.line},`),
  )

  await stage.resume()
  const doors = await Promise.all([isLetIn(story, responder), isLetIn(story, reader)])
  for (const open of doors) ledger.tried(open ? 'allowed' : 'refused')
  await claim(story, 'Started again, the gateway still knows whom it killed', !doors.includes(true))
}

/** What `sallyport audit verify` says of a folder. */
async function verify({ io, stage }: Story, folder: string): Promise<{ readonly exit: number; readonly text: string }> {
  let text = ''
  const add = (more: string): void => void (text += more.endsWith('\n') ? more : `${more}\n`)
  const key = path.join(stage.state, 'audit.key.pub')
  const exit = await auditCommand(['verify', '--dir', folder, '--key', key], {
    ...io,
    isTty: false,
    env: {},
    out: add,
    err: add,
  })
  return { exit, text: text.trim().replaceAll(stage.folder, '…') }
}

/** Changes one byte of the refusal of the first attack. */
function alter(log: string): { file: string; line: number; before: string; after: string } {
  const segments = path.join(log, 'segments')
  const [name = ''] = fs.readdirSync(segments).sort()
  const file = path.join(segments, name)
  const bytes = fs.readFileSync(file)
  const before = '"decision":"deny"'
  const at = bytes.indexOf(before)
  if (at < 0) throw new Error('the log has no refusal to change')
  bytes[at + before.indexOf('deny')] = 'D'.charCodeAt(0)
  fs.writeFileSync(file, bytes)
  const line = bytes.subarray(0, at).reduce((count, byte) => count + (byte === 10 ? 1 : 0), 1)
  return { file, line, before: 'deny', after: 'Deny' }
}

/** Whether any file of a folder holds a text. */
const holds = (folder: string, text: string): boolean =>
  fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .some((entry) => entry.isFile() && fs.readFileSync(path.join(entry.parentPath, entry.name)).includes(text))
