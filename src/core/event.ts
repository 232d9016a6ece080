const tried = ['session', 'agent', 'chain', 'permission', 'effect', 'parts', 'via', 'name'] as const
const decided = ['decision', 'rules', 'because', 'code', 'detail', 'would', 'approval', 'policy'] as const
const given = ['args', 'argsDigest', 'flow', 'checks', 'cut', 'cuts'] as const
const outcome = ['of', 'session', 'agent', 'permission', 'host', 'took'] as const
const performed = ['result', 'resultDigest', 'bytes', 'sent', 'label', 'checks', 'cut', 'cuts'] as const
const spent = ['tokens', 'spend', 'secrets'] as const
const asked = ['approval', 'session', 'agent', 'permission', 'state'] as const
const defined = ['resource', 'kind', 'name', 'digest', 'hidden'] as const

/**
 * Every type of event that the audit log may hold, and the fields that it may have beside `id`, `type`, `at` and
 * `capped`. What has no line here can't be appended; `docs/events.md` says what each means.
 */
export const eventFields = {
  'gateway.start': ['version', 'policy'],
  'gateway.stop': [],
  'policy.load': ['policy', 'before', 'by', 'weakened'],
  'policy.refused': ['policy', 'because', 'by'],
  'policy.broken': ['policy', 'rule', 'because'],

  'session.start': ['session', 'agent', 'behalf', 'by', 'deadline', 'facts', 'policy', 'parent', 'only', 'limits'],
  'session.end': ['session', 'agent', 'because', 'by'],
  stop: ['target', 'because', 'by'],
  'stop.lifted': ['target', 'by'],
  'key.issue': ['key', 'holder', 'endsAt', 'by'],
  'key.end': ['key', 'endsAt', 'because', 'by'],
  'credential.refused': ['door', 'count'],
  'token.refused': ['issuer', 'error', 'because', 'more', 'session', 'agent'],

  decision: [...tried, ...decided, ...given],
  evaluation: ['subject', 'request', ...tried, ...decided, ...given],
  'action.done': [...outcome, ...performed, ...spent, 'change'],
  'action.error': [...outcome, ...performed, ...spent],
  'action.failed': [...outcome, 'code', 'because', 'mayHaveHappened', 'bytes', 'sent'],
  'name.unknown': ['session', 'agent', 'method', 'name'],
  'sql.open': ['session', 'agent', 'resource', 'secure', 'program'],
  'sql.close': [
    'of',
    'session',
    'agent',
    'resource',
    'secure',
    'because',
    'took',
    'statements',
    'free',
    'refused',
    'rows',
    'bytes',
  ],
  'connection.refused': ['session', 'agent', 'name', 'because'],

  'approval.open': [...asked, 'because', 'rules', 'args', 'policy', 'expiresAt', 'for', 'chain'],
  'approval.answer': [...asked, 'verdict', 'reason', 'by'],
  'approval.use': asked,
  'approval.expire': asked,
  'approval.void': [...asked, 'because'],

  'tool.pinned': [...defined, 'by'],
  'tool.changed': [...defined, 'was', 'because'],
  'tool.accepted': ['resource', 'kind', 'name', 'digest', 'was', 'by'],
  'upstream.ready': ['resource', 'era', 'version', 'tools'],
  'upstream.lost': ['resource', 'because'],
  'upstream.problems': ['resource', 'problems'],
  'upstream.result_refused': ['resource', 'permission', 'session', 'because'],

  'secret.set': ['secret', 'version', 'resource', 'hosts', 'by'],
  'secret.rotate': ['secret', 'version', 'before', 'until', 'by'],
  'secret.remove': ['secret', 'by'],
  'secret.rekey': ['state', 'master', 'secrets', 'locked', 'by'],
  'secret.use': ['secret', 'version', 'resource', 'host', 'uses'],
  'secret.refused': ['secret', 'resource', 'host', 'because'],
  'lease.end': ['resource', 'session', 'revoked', 'because'],

  'database.apply': ['resource', 'by'],
  'database.applied': ['of', 'resource', 'changed', 'steps', 'errors', 'warnings', 'notes', 'by'],
  'database.verify': ['resource', 'by'],
  'database.verified': ['of', 'resource', 'errors', 'warnings', 'notes', 'by'],
  'database.remove': ['resource', 'by'],
  'database.removed': ['of', 'resource', 'by'],
  'database.undo': ['resource', 'change', 'trial', 'by'],
  'database.undone': ['of', 'resource', 'change', 'trial', 'session', 'rows', 'by'],
  'database.failed': ['of', 'resource', 'code', 'because', 'by'],
  'database.verifiers': ['resource', 'by'],

  'audit.started': ['format', 'log', 'key', 'adopted', 'dropped_bytes'],
  'audit.stopped': [],
  'audit.resumed': ['because', 'since', 'refused', 'unacknowledged'],
  'audit.retention': ['days', 'first', 'last', 'removed_before'],
} as const satisfies Readonly<Record<string, readonly string[]>>

/** Dotted lower-case words, from the general to the special. */
export type EventType = keyof typeof eventFields
