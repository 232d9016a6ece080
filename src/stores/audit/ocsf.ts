import type { AuditEvent } from '../../core/audit.ts'
import type { Effect } from '../../core/permission.ts'

/** The version of the Open Cybersecurity Schema Framework that is followed. */
export const ocsfVersion = '1.3.0'

const activities: Readonly<Record<Effect, readonly [id: number, name: string]>> = {
  read: [2, 'Read'],
  write: [3, 'Update'],
  destroy: [4, 'Delete'],
  send: [99, 'Send'],
  execute: [99, 'Execute'],
}

const decisions: Readonly<
  Record<string, { readonly action: readonly [number, string]; readonly disposition: readonly [number, string] }>
> = {
  allow: { action: [1, 'Allowed'], disposition: [1, 'Allowed'] },
  deny: { action: [2, 'Denied'], disposition: [2, 'Blocked'] },
  ask: { action: [0, 'Unknown'], disposition: [99, 'Pending approval'] },
}

/**
 * An event as OCSF has it: one about a permission as API Activity (6003) with the Security Control profile, any other as
 * a Base Event (0). The whole event stays in `unmapped`, so that nothing is lost. docs/audit-format.md has the table.
 */
export function toOcsf(event: AuditEvent, log: string): Record<string, unknown> {
  const permission = textOf(event.permission)
  const isActivity = permission !== undefined
  const [activity, activityName] = isActivity
    ? (activities[event.effect as Effect] ?? [0, 'Unknown'])
    : [99, event.type]
  const classUid = isActivity ? 6003 : 0
  const decision = decisions[textOf(event.decision) ?? '']
  const [status, statusName] = statusOf(event)
  const agent = textOf(event.agent)
  const session = textOf(event.session)
  const colon = permission?.indexOf(':') ?? 0
  return {
    class_uid: classUid,
    class_name: isActivity ? 'API Activity' : 'Base Event',
    category_uid: isActivity ? 6 : 0,
    category_name: isActivity ? 'Application Activity' : 'Uncategorized',
    activity_id: activity,
    activity_name: activityName,
    type_uid: classUid * 100 + activity,
    time: event.at,
    severity_id: severityOf(event),
    status_id: status,
    status: statusName,
    ...(textOf(event.because) === undefined ? {} : { status_detail: textOf(event.because) }),
    message: `${event.type}${permission === undefined ? '' : ` ${permission}`}`,
    metadata: {
      version: ocsfVersion,
      uid: event.id,
      event_code: event.type,
      log_name: log,
      product: { name: 'Sallyport', vendor_name: 'Sallyport' },
      ...(decision === undefined ? {} : { profiles: ['security_control'] }),
      ...(textOf(event.of) === undefined ? {} : { correlation_uid: textOf(event.of) }),
    },
    ...(isActivity
      ? {
          actor: {
            app_name: agent ?? 'unknown',
            ...(session === undefined ? {} : { session: { uid: session } }),
          },
          api: {
            operation: permission.slice(colon + 1),
            service: { name: permission.slice(0, colon) },
            request: { uid: textOf(event.of) ?? event.id },
          },
          resources: [{ name: permission.slice(0, colon) }],
          // The agent's own address is not part of an event: this says which agent it was.
          src_endpoint: { name: agent ?? 'unknown', svc_name: 'sallyport' },
        }
      : {}),
    ...(decision === undefined
      ? {}
      : {
          action_id: decision.action[0],
          action: decision.action[1],
          disposition_id: decision.disposition[0],
          disposition: decision.disposition[1],
        }),
    unmapped: { sallyport: event },
  }
}

function statusOf({ type, decision }: AuditEvent): readonly [number, string] {
  if (decision === 'deny' || /\.(?:failed|error|refused|broken)$/.test(type)) return [2, 'Failure']
  if (decision === 'allow' || type.endsWith('.done')) return [1, 'Success']
  return [0, 'Unknown']
}

/** 1 informational, 2 low (refused), 3 medium (failed or weakened), 4 high (what touches the record itself). */
function severityOf({ type, decision }: AuditEvent): number {
  if (type === 'audit.resumed' || type === 'tool.changed' || type === 'stop') return 4
  if (/\.(?:failed|error|refused|broken)$/.test(type)) return 3
  return decision === 'deny' ? 2 : 1
}

const textOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
