/** What a person may do at the people's side. Nobody has a role that configuration does not give. */
export type Role = 'admin' | 'approver' | 'auditor'

/** A human who signs in. `teams` are what a question may be put to. */
export interface Person {
  readonly kind: 'person'
  readonly name: string
  readonly roles: readonly Role[]
  readonly teams: readonly string[]
}

/** A trusted program that starts sessions for agents, such as a job runner or a ticket system. Nothing else is open to it. */
export interface Service {
  readonly kind: 'service'
  readonly name: string
  /** The agents for which it may start sessions. */
  readonly starts: readonly string[]
}

/** Who is at the people's side of Sallyport. */
export type Caller = Person | Service

export const hasRole = (caller: Caller, ...roles: readonly Role[]): boolean =>
  caller.kind === 'person' && roles.some((role) => caller.roles.includes(role))

/** How a caller is written in events and approvals: `person:anna`, `service:desk`. */
export const callerName = (caller: Caller): string => `${caller.kind}:${caller.name}`
